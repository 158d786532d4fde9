/* One commit for many strangers. The operations of a batch are split into waves: a wave holds at
 * most one operation of a conversation, of a user and of a run, so that the statements of a wave,
 * which are about sets of rows, never meet two operations that depend on each other, and the
 * operations of one conversation run in the order they were asked in.
 *
 *     asked   a1 b1 a2 c1 b2 a3            (a, b, c: conversations)
 *     wave 0  a1 b1    c1                  look, decide, write
 *     wave 1        a2    b2               look, decide, write
 *     wave 2                 a3            look, decide, write          commit, answer
 *
 * A condition that fails leaves no row behind, because all conditions of a wave are known before
 * its first write. */
#include "base/mem.h"
#include "diag/diag.h"
#include "journal/journal_priv.h"

#define BATCH_TRIES_MAX 3

/* The last wave that touched what hashes to `hash`. Two things with one hash are only kept apart
 * without need. */
struct batch_seen {
    uint64_t hash;
    uint32_t stamp; /* of the batch; other stamps are empty places */
    uint32_t wave;
};

struct batch {
    uint32_t ops_max;
    uint32_t seen_mask;
    uint32_t stamp;
    uint32_t waves_count;
    struct work *works;
    struct work **ordered; /* by wave, then as asked */
    uint32_t *wave_starts; /* ops_max + 1 */
    struct batch_seen *seen;
};

struct batch *batch_new(uint32_t ops_max)
{
    struct batch *b = mem_new_zero(sizeof(*b));
    if (b == NULL)
        return NULL;
    uint32_t places = 8;
    while (places < ops_max * WORK_KEYS_MAX * 2)
        places *= 2;
    b->ops_max = ops_max;
    b->seen_mask = places - 1;
    b->works = mem_new_zero(sizeof(*b->works) * ops_max);
    b->ordered = mem_new_zero(sizeof(struct work *) * ops_max);
    b->wave_starts = mem_new_zero(sizeof(*b->wave_starts) * (ops_max + 1));
    b->seen = mem_new_zero(sizeof(*b->seen) * places);
    if (b->works == NULL || b->ordered == NULL || b->wave_starts == NULL || b->seen == NULL)
        batch_free(&b);
    return b;
}

void batch_free(struct batch **b)
{
    struct batch *mine = *b;
    *b = NULL;
    if (mine == NULL)
        return;
    mem_free(mine->works);
    mem_free(mine->ordered);
    mem_free(mine->wave_starts);
    mem_free(mine->seen);
    mem_free(mine);
}

/* The place of `hash`, which may be an empty one. Half of the places stay empty: it ends. */
static struct batch_seen *seen_place(struct batch *b, uint64_t hash)
{
    uint32_t at = (uint32_t)hash & b->seen_mask;
    while (b->seen[at].stamp == b->stamp && b->seen[at].hash != hash)
        at = (at + 1) & b->seen_mask;
    return &b->seen[at];
}

/* The first wave after all earlier ones that touch the same things. */
static void wave_choose(struct batch *b, struct work *w)
{
    uint32_t wave = 0;
    for (uint32_t i = 0; i < w->keys_count; i++) {
        const struct batch_seen *seen = seen_place(b, w->keys[i]);
        if (seen->stamp == b->stamp && seen->wave + 1 > wave)
            wave = seen->wave + 1;
    }
    for (uint32_t i = 0; i < w->keys_count; i++)
        *seen_place(b, w->keys[i]) = (struct batch_seen){w->keys[i], b->stamp, wave};
    w->wave = wave;
    if (wave + 1 > b->waves_count)
        b->waves_count = wave + 1;
}

static void waves_make(struct batch *b, struct store *s, struct journal_op **ops, uint32_t count)
{
    b->stamp++;
    if (b->stamp == 0) { /* came round: old stamps would look new */
        memset(b->seen, 0, sizeof(*b->seen) * (b->seen_mask + 1));
        b->stamp = 1;
    }
    b->waves_count = 0;
    memset(b->wave_starts, 0, sizeof(*b->wave_starts) * (count + 1));
    for (uint32_t i = 0; i < count; i++) {
        work_init(&b->works[i], ops[i], s);
        wave_choose(b, &b->works[i]);
        b->wave_starts[b->works[i].wave + 1]++;
    }
    for (uint32_t v = 0; v < b->waves_count; v++)
        b->wave_starts[v + 1] += b->wave_starts[v];
    for (uint32_t i = 0; i < count; i++)
        b->ordered[b->wave_starts[b->works[i].wave]++] = &b->works[i];
    for (uint32_t v = b->waves_count; v > 0; v--) /* placing moved each start to its end */
        b->wave_starts[v] = b->wave_starts[v - 1];
    b->wave_starts[0] = 0;
}

static enum err wave_run(struct batch *b, struct store *s, uint32_t wave)
{
    struct work **works = &b->ordered[b->wave_starts[wave]];
    uint32_t count = b->wave_starts[wave + 1] - b->wave_starts[wave];
    uint32_t todo = 0;
    enum err err = s->driver->look(s, works, count);
    if (err != ERR_OK)
        return err;
    for (uint32_t i = 0; i < count; i++) {
        decide(works[i]);
        todo |= works[i]->todo;
    }
    return todo == 0 ? ERR_OK : s->driver->write(s, works, count);
}

/* One attempt: everything or nothing. */
static enum err batch_try(struct batch *b, struct store *s, struct journal_op **ops, uint32_t count)
{
    waves_make(b, s, ops, count);
    enum err err = s->driver->begin(s);
    if (err != ERR_OK)
        return err;
    for (uint32_t v = 0; v < b->waves_count && err == ERR_OK; v++)
        err = wave_run(b, s, v);
    if (err == ERR_OK)
        return s->driver->commit(s);
    s->driver->rollback(s);
    return err;
}

enum err batch_run(struct batch *b, struct store *s, struct journal_op **ops, uint32_t count)
{
    CHECK(count <= b->ops_max);
    enum err err = ERR_CONFLICT;
    for (int tries = 0; tries < BATCH_TRIES_MAX && err == ERR_CONFLICT; tries++) {
        err = batch_try(b, s, ops, count);
        for (uint32_t i = 0; i < count; i++) {
            ops[i]->err = err == ERR_OK ? b->works[i].err : err;
            if (ops[i]->err == ERR_OK)
                decide_settle(&b->works[i]);
            facts_fini(&b->works[i].facts);
        }
    }
    if (err != ERR_CONFLICT)
        return err;
    /* Nothing was stored, and it goes on like this: the store is not what we think it is. */
    diag_log(DIAG_ERROR, "journal_conflict", "ops=%u", count);
    for (uint32_t i = 0; i < count; i++)
        ops[i]->err = ERR_IO;
    return ERR_IO;
}
