/* The writer thread: takes whatever waits, commits it in batches, answers; keeps order when the
 * store is in trouble.
 *
 *     GOOD  --a commit fails or is in doubt--> BROKEN: recover, then GOOD; until then all is ERR_IO
 *     GOOD  --no room--> LOW: the reserve is given free; ends and deletions go on, everything else
 *                        is ERR_FULL until the reserve could be taken again
 *
 * In BROKEN and LOW the writer tries again by itself: nobody may be asking, because nobody is told
 * to. */
#include "base/mem.h"
#include "diag/diag.h"
#include "journal/writer_priv.h"

#include <poll.h>

#define RETRY_MS           250
#define RESERVE_RETRY_MS   1000
#define LOOK_MS            20
#define TIDY_EVERY_BATCHES 64

struct writer {
    struct journal *journal;
    struct store *store;
    struct batch *batch;
    struct reader *reader;   /* for stores without reader threads */
    struct journal_op **ops; /* of the batch that is being filled */
    uint32_t ops_count;
    uint64_t ops_bytes;
    struct msg *first; /* taken, not looked at yet */
    struct msg *last;
    bool broken;
    bool low;
    bool tidy_more;
    uint32_t batches;
    struct mono tried; /* the last attempt to get out of BROKEN or LOW */
    struct mono tidied;
};

/* --- what waits ------------------------------------------------------------------------------- */

static void queue_append(struct writer *w, struct msg *list)
{
    if (w->first == NULL)
        w->first = list;
    else
        w->last->next = list;
    w->last = list;
    while (w->last->next != NULL)
        w->last = w->last->next;
}

static struct msg *queue_pop(struct writer *w)
{
    struct msg *m = w->first;
    w->first = m->next;
    m->next = NULL;
    return m;
}

/* False once the inbox is closed and empty. */
static bool queue_take(struct writer *w)
{
    struct msg *list = inbox_take_all(w->journal->inbox);
    if (list == NULL)
        return false;
    queue_append(w, list);
    return true;
}

static bool queue_has(const struct writer *w, uint16_t kind)
{
    for (const struct msg *m = w->first; m != NULL; m = m->next) {
        if (m->kind == kind)
            return true;
    }
    return false;
}

/* Until told to go on; what comes meanwhile waits in its order. */
static void pause_wait(struct writer *w)
{
    while (!queue_has(w, JOURNAL_MSG_GO_ON)) {
        if (!queue_take(w))
            return;
    }
}

/* --- getting well again ----------------------------------------------------------------------- */

static void health_set(struct writer *w)
{
    atomic_store(&w->journal->healthy, !w->broken && !w->low);
    if (w->broken)
        diag_condition_set(DIAG_COND_STORE, "store_broken",
                           "The store cannot be written (data_dir); see the log. Reading goes on.");
    else if (w->low)
        diag_condition_set(
            DIAG_COND_STORE, "store_full",
            "The disk of data_dir is full; messages are refused until there is room.");
    else
        diag_condition_set(DIAG_COND_STORE, NULL, NULL);
}

static void recover_try(struct writer *w)
{
    w->tried = mono_now();
    enum err err = w->store->driver->recover(w->store);
    bool was_broken = w->broken;
    w->broken = err != ERR_OK;
    if (!w->broken || !was_broken)
        diag_log(w->broken ? DIAG_ERROR : DIAG_WARN, "journal_reopened", "result=%s",
                 err_name(err));
    health_set(w);
}

static void reserve_try(struct writer *w)
{
    w->tried = mono_now();
    if (w->store->driver->reserve_take(w->store) != ERR_OK)
        return;
    w->low = false;
    diag_log(DIAG_WARN, "journal_has_room", "again=1");
    health_set(w);
}

static void get_well(struct writer *w)
{
    struct mono now = mono_now();
    if (w->broken && mono_since_ms(w->tried, now) >= RETRY_MS)
        recover_try(w);
    else if (!w->broken && w->low && mono_since_ms(w->tried, now) >= RESERVE_RETRY_MS)
        reserve_try(w);
}

/* Waits for messages without sleeping through its own recovery. */
static void get_well_idle(struct writer *w)
{
    while ((w->broken || w->low) && w->first == NULL && inbox_count(w->journal->inbox) == 0 &&
           !atomic_load(&w->journal->closing)) {
        (void)poll(NULL, 0, LOOK_MS); /* the disk does not say when it is well again */
        get_well(w);
    }
}

/* --- a batch ---------------------------------------------------------------------------------- */

/* What may use the last room on the disk: the ends of what has begun, and what makes room. */
static bool has_reserve(const struct journal_op *op)
{
    return op->op == JOURNAL_FINISH || op->op == JOURNAL_TAKE || op->op == JOURNAL_CONV_DELETE;
}

/* Moves those that `keep` to the front, the others get `err`; answers how many are kept. */
static uint32_t ops_keep(struct writer *w, enum err err)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->ops_count; i++) {
        struct journal_op *op = w->ops[i];
        if (!has_reserve(op)) {
            op->err = err;
            continue;
        }
        w->ops[i] = w->ops[kept];
        w->ops[kept++] = op;
    }
    return kept;
}

static void no_room(struct writer *w)
{
    if (!w->low)
        diag_log(DIAG_ERROR, "journal_no_room", "ops=%u", w->ops_count);
    w->low = true;
    w->tried = mono_now();
    w->store->driver->reserve_release(w->store);
    health_set(w);
}

static enum err batch_commit(struct writer *w, uint32_t count)
{
    if (count == 0)
        return ERR_OK;
    enum err err = batch_run(w->batch, w->store, w->ops, count);
    if (err == ERR_IO || err == ERR_UNCERTAIN) {
        w->broken = true;
        recover_try(w);
    }
    return err;
}

static void op_count(const struct journal_op *op)
{
    if (op->err == ERR_OK)
        DIAG_COUNT(journal_ops);
    else if (op->err == ERR_FULL)
        DIAG_COUNT(journal_full);
    else if (op->err == ERR_UNCERTAIN)
        DIAG_COUNT(journal_uncertain);
    else
        DIAG_COUNT(journal_io_errors);
}

/* ERR_CLOSED is a store whose process is dead, as a test wants it: nobody hears anything any more.
 */
static void batch_answer(struct writer *w)
{
    for (uint32_t i = 0; i < w->ops_count; i++) {
        struct journal_op *op = w->ops[i];
        w->tidy_more |= op->op == JOURNAL_CONV_DELETE && op->err == ERR_OK;
        op_count(op);
        journal_answer(w->journal, op);
    }
    w->ops_count = 0;
    w->ops_bytes = 0;
}

static void batch_end(struct writer *w)
{
    if (w->ops_count == 0)
        return;
    get_well(w);
    if (w->broken) {
        for (uint32_t i = 0; i < w->ops_count; i++)
            w->ops[i]->err = ERR_IO;
    } else if (w->low) {
        (void)batch_commit(w, ops_keep(w, ERR_FULL)); /* the answer is in the operations */
    } else if (batch_commit(w, w->ops_count) == ERR_FULL) {
        no_room(w);
        (void)batch_commit(w, ops_keep(w, ERR_FULL)); /* the answer is in the operations */
    }
    w->batches++;
    batch_answer(w);
}

static uint64_t op_bytes(const struct journal_op *op)
{
    const void *o = op;
    const struct journal_append *append = o;
    const struct journal_finish *finish = o;
    const struct journal_checkpoint *checkpoint = o;
    if (op->op == JOURNAL_FINISH)
        return blob_bytes(finish->event.payload).count;
    if (op->op == JOURNAL_CHECKPOINT)
        return blob_bytes(checkpoint->text).count;
    if (op->op != JOURNAL_APPEND)
        return 0;
    return blob_bytes(append->events[0].payload).count +
           blob_bytes(append->events[1].payload).count;
}

static void op_take(struct writer *w, struct msg *m)
{
    struct journal_op *op = CONTAINER_OF(m, struct journal_op, msg);
    if (!journal_op_is_write(op->op)) {
        batch_end(w); /* it sees what was asked before it */
        read_run(w->reader, op);
        DIAG_COUNT(journal_reads);
        journal_answer(w->journal, op);
        return;
    }
    w->ops[w->ops_count++] = op;
    w->ops_bytes += op_bytes(op);
    if (w->ops_count == w->journal->batch_max || w->ops_bytes >= JOURNAL_BATCH_BYTES_MAX)
        batch_end(w);
}

static void queue_run(struct writer *w)
{
    while (w->first != NULL) {
        struct msg *m = queue_pop(w);
        if (m->kind == JOURNAL_MSG_KIND) {
            op_take(w, m);
            continue;
        }
        batch_end(w);
        if (m->kind == JOURNAL_MSG_PAUSE)
            pause_wait(w);
        msg_free(m);
    }
    batch_end(w);
}

/* --- cleaning up ------------------------------------------------------------------------------ */

static bool tidy_step(struct writer *w)
{
    bool more = false;
    enum err err = w->store->driver->tidy(w->store, wall_now_ms(), &more);
    w->tidied = mono_now();
    w->tidy_more = more && err == ERR_OK;
    if (err == ERR_IO || err == ERR_UNCERTAIN) {
        w->broken = true;
        recover_try(w);
    }
    return w->tidy_more;
}

/* Between batches when nobody waits, and now and then when somebody always does. */
static void tidy(struct writer *w)
{
    if (w->broken || w->low)
        return;
    if (mono_since_ms(w->tidied, mono_now()) >= JOURNAL_DUE_MS)
        w->tidy_more = true;
    if (w->tidy_more && w->batches % TIDY_EVERY_BATCHES == 0)
        (void)tidy_step(w); /* whether there is more is kept */
    while (w->tidy_more && inbox_count(w->journal->inbox) == 0 && tidy_step(w)) {
    }
}

/* --- the threads ------------------------------------------------------------------------------ */

void *writer_main(void *ctx)
{
    struct journal *j = ctx;
    struct writer w = {.journal = j, .store = j->store, .tidy_more = true};
    diag_thread_init("journal");
    w.batch = batch_new(j->batch_max);
    w.ops = mem_new(sizeof(struct journal_op *) * j->batch_max);
    CHECK(w.batch != NULL); /* at start, before anybody was promised anything */
    CHECK(w.ops != NULL);
    if (j->store->driver->readers_count == 0)
        CHECK(j->store->driver->reader_open(j->store, &w.reader) == ERR_OK);
    if (j->store->driver->reserve_take(j->store) != ERR_OK)
        no_room(&w);
    do {
        tidy(&w);
        get_well_idle(&w);
        if (!queue_take(&w))
            break;
        queue_run(&w);
    } while (true);
    if (w.reader != NULL)
        j->store->driver->reader_close(&w.reader);
    mem_free(w.ops);
    batch_free(&w.batch);
    return NULL;
}

void *reader_main(void *ctx)
{
    struct journal_reader *r = ctx;
    struct msg *list;
    diag_thread_init("reader");
    while ((list = inbox_take_all(r->inbox)) != NULL) {
        while (list != NULL) {
            struct msg *m = list;
            list = m->next;
            m->next = NULL;
            struct journal_op *op = CONTAINER_OF(m, struct journal_op, msg);
            read_run(r->reader, op);
            DIAG_COUNT(journal_reads);
            if (op->err != ERR_OK)
                diag_log(DIAG_WARN, "journal_read_failed", "op=%s result=%s",
                         journal_op_name(op->op), err_name(op->err));
            journal_answer(r->journal, op);
        }
    }
    return NULL;
}
