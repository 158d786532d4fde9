/* kill -9 in the middle of work, twenty times on one store: whatever was answered is there once, at
 * its offset, with its content, and the log has no hole. The child is a whole journal with its
 * threads and an engine; it tells what was answered over a pipe, after the answer. */
#include "base/rng.h"
#include "engine/engine.h"
#include "journal/test_world_priv.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>

enum { ROUNDS = 20, CONVS = 6, FLYING = 48, ACKS_MAX = 200000 };

/* What the child reports: one answered operation, written at once (less than PIPE_BUF). */
struct ack {
    uint32_t conv;
    uint32_t number; /* of the message */
    uint64_t offset;
    uint32_t ended; /* its run has ended, too */
};

struct victim {
    struct journal *journal;
    struct engine *engine;
    struct rng rng;
    uint32_t number;
    int pipe;
};

static void conv_name(char out[16], uint32_t conv)
{
    (void)snprintf(out, 16, "c_%u", conv);
}

static struct journal_append *numbered(uint32_t conv, uint32_t number)
{
    char name[16];
    char msg[16];
    char run_id[16];
    conv_name(name, conv);
    (void)snprintf(msg, sizeof(msg), "m%u", number);
    (void)snprintf(run_id, sizeof(run_id), "r%u", number);
    struct journal_append *o = say_op(name, "ada", msg, "", number % 4 == 0 ? run_id : NULL);
    blob_unref(&o->events[0].payload);
    size_t bytes = 20 + number * 7919u % 3000;
    o->events[0].payload = blob_new(bytes);
    memset(o->events[0].payload->at, 'a' + (int)(number % 26), bytes);
    o->events[0].payload->count = (uint32_t)bytes;
    o->cid = an_id(msg);
    o->queued_max = 1000;
    o->head.tag = (uint64_t)conv << 32 | number;
    return o;
}

static void child_say(struct victim *c)
{
    uint32_t conv = (uint32_t)rng_below(&c->rng, CONVS);
    journal_ask(c->journal, c->engine, numbered(conv, ++c->number));
}

static void child_tell(const struct victim *c, struct ack ack)
{
    if (write(c->pipe, &ack, sizeof(ack)) != sizeof(ack))
        _exit(0); /* the parent is gone */
}

static void child_said(struct victim *c, struct journal_append *o)
{
    uint32_t conv = (uint32_t)(o->head.tag >> 32);
    if (o->head.err != ERR_OK || o->head.outcome != JOURNAL_DONE)
        _exit(2);
    child_tell(c, (struct ack){conv, (uint32_t)o->head.tag, o->offset, 0});
    if (o->has_run && o->run.state == RUN_ACTIVE) {
        char name[16];
        char run_id[16];
        conv_name(name, conv);
        (void)snprintf(run_id, sizeof(run_id), "r%u", (uint32_t)o->head.tag);
        struct journal_finish *f = finish_op(name, run_id, 1);
        f->head.tag = o->head.tag;
        journal_ask(c->journal, c->engine, f);
    }
    child_say(c);
}

static void child_ended(struct victim *c, struct journal_finish *o)
{
    if (o->head.err != ERR_OK || o->head.outcome != JOURNAL_DONE)
        _exit(3);
    child_tell(
        c, (struct ack){(uint32_t)(o->head.tag >> 32), (uint32_t)o->head.tag, o->event.offset, 1});
    if (!o->has_next)
        return;
    char name[16];
    char run_id[ID_BYTES_MAX + 1] = "";
    conv_name(name, (uint32_t)(o->head.tag >> 32));
    memcpy(run_id, o->next.run.at, o->next.run.count);
    struct journal_finish *f = finish_op(name, run_id, 1);
    f->head.tag = (o->head.tag >> 32) << 32 | (uint32_t)atoi(run_id + 1);
    journal_ask(c->journal, c->engine, f);
}

static void child_take(void *ctx, struct msg *m)
{
    struct journal_op *op = CONTAINER_OF(m, struct journal_op, msg);
    if (op->op == JOURNAL_APPEND)
        child_said(ctx, (void *)op);
    else if (op->op == JOURNAL_FINISH)
        child_ended(ctx, (void *)op);
    drop(op);
}

static void child_main(const char *dir, int out, uint32_t round)
{
    char text[512] = "";
    struct buf message;
    struct victim c = {.pipe = out, .number = round * 1000000};
    struct config config = {.journal_batch_max = 64, .journal_pending_max = 1000};
    config.store = "sqlite";
    config.data_dir = dir;
    buf_init_fixed(&message, text, sizeof(text) - 1);
    rng_init(&c.rng, round);
    if (engines_make(1, 7) != ERR_OK)
        _exit(4);
    c.engine = engine_at(0);
    engine_listen(c.engine, PORT_TALK, child_take, &c);
    if (journal_open(&config, &c.journal, &message) != ERR_OK)
        _exit(5);
    for (int i = 0; i < FLYING; i++)
        child_say(&c);
    for (;;)
        engine_step(c.engine, -1);
}

/* Reads acks until enough have come, kills, reads the rest. */
static uint32_t round_run(const char *dir, uint32_t round, uint32_t enough, struct ack *acks)
{
    int ends[2];
    uint32_t count = 0;
    int status = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(ends[0]);
        child_main(dir, ends[1], round);
        _exit(0);
    }
    (void)close(ends[1]);
    while (read(ends[0], &acks[count], sizeof(*acks)) == sizeof(*acks)) {
        assert_true(++count < ACKS_MAX);
        if (count == enough)
            assert_int_equal(kill(child, SIGKILL), 0);
    }
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status))
        fail_msg("round %u: the child ended with %d", round, WEXITSTATUS(status));
    return count;
}

static struct journal_events *all_events(struct world *w, uint32_t conv, uint64_t after)
{
    char name[16];
    struct journal_events *e = OP(EVENTS, journal_events);
    conv_name(name, conv);
    e->conv = an_id(name);
    e->after = after;
    e->events_max = JOURNAL_PAGE_MAX;
    assert_int_equal(outcome(w, e), JOURNAL_DONE);
    return e;
}

/* Contiguous, and every message once: the answer's id for the ends, its own for the others. */
static void log_check(struct world *w, uint32_t conv, uint64_t *top_out)
{
    uint64_t seen = 0;
    bool more = true;
    while (more) {
        struct journal_events *e = all_events(w, conv, seen);
        for (uint32_t i = 0; i < e->events_count; i++)
            assert_int_equal(e->events[i].offset, ++seen);
        more = e->more;
        assert_true(more || e->top == seen);
        drop(e);
    }
    *top_out = seen;
}

static void ack_check(struct world *w, const struct ack *a, const uint64_t *tops)
{
    char wanted[20];
    struct journal_append *o = numbered(a->conv, a->number);
    (void)snprintf(wanted, sizeof(wanted), a->ended ? "mr%u" : "m%u", a->number);
    assert_true(a->offset >= 1 && a->offset <= tops[a->conv]);
    struct journal_events *e = OP(EVENTS, journal_events);
    e->conv = o->conv;
    e->after = a->offset - 1;
    e->events_max = 1;
    assert_int_equal(outcome(w, e), JOURNAL_DONE);
    assert_id(e->events[0].msg, wanted);
    if (!a->ended) {
        assert_true(
            bytes_equal(blob_bytes(e->events[0].payload), blob_bytes(o->events[0].payload)));
        assert_int_equal(outcome(w, o), JOURNAL_DUPLICATE);
        assert_int_equal(o->offset, a->offset);
        assert_id(o->first_msg, wanted);
    }
    drop(e);
    drop(o);
}

/* Every page and every index entry of the file is where it belongs. */
static void file_check(const struct world *w)
{
    char path[128];
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    (void)snprintf(path, sizeof(path), "%s/kith.db", w->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "pragma integrity_check", -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(s, 0), "ok");
    (void)sqlite3_finalize(s);
    (void)sqlite3_close(db);
}

/* What has no process any more is found and ended, as the server does when it starts. */
static void runs_end(struct world *w)
{
    struct journal_unfinished *u = OP(UNFINISHED, journal_unfinished);
    assert_int_equal(outcome(w, u), JOURNAL_DONE);
    for (uint32_t i = 0; i < u->convs_count; i++) {
        char conv[ID_BYTES_MAX + 1] = "";
        memcpy(conv, u->convs[i].at, u->convs[i].count);
        struct journal_conv_load *l = load(w, conv);
        assert_true(l->runs_count >= 1);
        assert_int_equal(l->runs[0].state, RUN_ACTIVE);
        for (uint32_t k = 0; k < l->runs_count; k++) {
            char run_id[ID_BYTES_MAX + 1] = "";
            memcpy(run_id, l->runs[k].run.at, l->runs[k].run.count);
            assert_int_equal(l->runs[k].state, k == 0 ? RUN_ACTIVE : RUN_QUEUED);
            assert_int_equal(finally(w, finish_op(conv, run_id, 1)), JOURNAL_DONE);
        }
        drop(l);
    }
    drop(u);
}

static void what_was_answered_survives_kill_9(void **state)
{
    static struct ack acks[ACKS_MAX];
    struct world *w = *state;
    struct rng rng;
    uint64_t all = 0;
    engine_random(&rng.s, sizeof(rng.s));
    for (uint32_t i = 0; i < CONVS; i++) {
        char name[16];
        conv_name(name, i);
        create(w, name, "ada");
    }
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        uint64_t tops[CONVS];
        world_detach(w); /* no thread and no open file crosses the fork */
        uint32_t enough = 1 + (uint32_t)rng_below(&rng, 600);
        uint32_t count = round_run(w->dir, round, enough, acks);
        world_attach(w);
        for (uint32_t i = 0; i < CONVS; i++)
            log_check(w, i, &tops[i]);
        for (uint32_t i = 0; i < count; i++)
            ack_check(w, &acks[i], tops);
        all += count;
        runs_end(w);
        file_check(w);
    }
    print_message("%llu acknowledged operations\n", (unsigned long long)all);
    assert_true(all >= ROUNDS);
}

static int setup(void **state)
{
    *state = world_new("sqlite");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_answered_survives_kill_9, setup, world_teardown),
    };
    diag_output_set(open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
