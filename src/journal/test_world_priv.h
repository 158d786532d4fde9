/* test_world: a store of either driver without threads, and short words for operations: what the
 * tests of this room share.
 *
 * Owner   : one test. Memory: operations made here are freed with msg_free or by the helper.
 * Errors  : cmocka assertions. */
#ifndef JOURNAL_TEST_WORLD_PRIV_H
#define JOURNAL_TEST_WORLD_PRIV_H

#include "base/hash.h"
#include "base/mem.h"
#include "diag/diag.h"
#include "journal/sql_priv.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define WORLD_OPS_MAX 512
#define WORLD_UNUSED  __attribute__((unused))

struct world {
    const char *driver;
    char dir[64];
    struct memstore *mem;
    struct store *store;
    struct reader *reader;
    struct batch *batch;
};

WORLD_UNUSED static void world_dir_make(char dir[64])
{
    /* A folder in memory where there is one: these tests are about rows, not about the disk. */
    (void)snprintf(dir, 64, "/dev/shm/kith-journal-XXXXXX");
    if (mkdtemp(dir) != NULL)
        return;
    (void)snprintf(dir, 64, "/tmp/kith-journal-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

WORLD_UNUSED static void world_dir_remove(const char *dir)
{
    static const char *const names[] = {"/kith.db", "/kith.db-wal", "/kith.db-shm", "/reserve",
                                        "/lock"};
    char path[128];
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", dir, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

WORLD_UNUSED static void world_attach(struct world *w)
{
    if (w->mem != NULL) {
        w->store = memstore_store(w->mem);
    } else {
        char text[512];
        struct buf message;
        buf_init_fixed(&message, text, sizeof(text));
        assert_int_equal(sqlite_open(w->dir, &w->store, &message), ERR_OK);
    }
    assert_int_equal(w->store->driver->reader_open(w->store, &w->reader), ERR_OK);
}

WORLD_UNUSED static void world_detach(struct world *w)
{
    w->store->driver->reader_close(&w->reader);
    if (w->mem == NULL)
        w->store->driver->close(&w->store);
    w->store = NULL;
}

WORLD_UNUSED static void world_reopen(struct world *w)
{
    world_detach(w);
    world_attach(w);
}

WORLD_UNUSED static struct world *world_new(const char *driver)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->driver = driver;
    if (strcmp(driver, "mem") == 0)
        w->mem = memstore_new();
    else
        world_dir_make(w->dir);
    world_attach(w);
    w->batch = batch_new(WORLD_OPS_MAX);
    assert_non_null(w->batch);
    return w;
}

WORLD_UNUSED static void world_free(struct world *w)
{
    batch_free(&w->batch);
    world_detach(w);
    memstore_free(&w->mem);
    if (w->dir[0] != '\0')
        world_dir_remove(w->dir);
    free(w);
}

/* --- words ------------------------------------------------------------------------------------ */

WORLD_UNUSED static struct id an_id(const char *text)
{
    struct id out = {0};
    if (text != NULL && text[0] != '\0')
        assert_int_equal(id_parse(bytes_of(text), &out), ERR_OK);
    return out;
}

WORLD_UNUSED static struct name a_name(const char *text)
{
    struct name out = {0};
    assert_int_equal(name_parse(bytes_of(text), &out), ERR_OK);
    return out;
}

WORLD_UNUSED static struct blob *a_blob(const char *text)
{
    struct blob *b = blob_copy(bytes_of(text));
    assert_non_null(b);
    return b;
}

WORLD_UNUSED static bool id_is(const struct id *id, const char *text)
{
    return bytes_is(id_bytes(id), text);
}

WORLD_UNUSED static void assert_id_at(struct id is, const char *text, const char *file, int line)
{
    struct id wanted = an_id(text);
    if (!id_equal(&is, &wanted)) {
        print_error("the id is \"%.*s\", not \"%s\"\n", (int)is.count, is.at, text);
        _fail(file, line);
    }
}
#define assert_id(is, text) assert_id_at((is), (text), __FILE__, __LINE__)

#define OP(NAME, type) \
    ((struct type *)journal_op_new(JOURNAL_##NAME, sizeof(struct type), PORT_TALK))

/* Writes go through a batch of their own, reads through the reader. */
WORLD_UNUSED static void run(struct world *w, void *op)
{
    struct journal_op *o = op;
    if (journal_op_is_write(o->op))
        (void)batch_run(w->batch, w->store, &o, 1);
    else
        read_run(w->reader, o);
}

/* Runs, expects that it worked, gives the outcome. */
WORLD_UNUSED static enum journal_outcome outcome(struct world *w, void *op)
{
    struct journal_op *o = op;
    run(w, op);
    assert_int_equal(o->err, ERR_OK);
    return o->outcome;
}

WORLD_UNUSED static void drop(void *op)
{
    msg_free(&((struct journal_op *)op)->msg);
}

/* outcome() of an operation that nobody looks at any more. */
WORLD_UNUSED static enum journal_outcome finally(struct world *w, void *op)
{
    enum journal_outcome out = outcome(w, op);
    drop(op);
    return out;
}

WORLD_UNUSED static struct journal_conv_create *create_op(const char *conv, const char *user)
{
    struct journal_conv_create *o = OP(CONV_CREATE, journal_conv_create);
    o->app = an_id("default");
    o->user = a_name(user);
    o->conv = an_id(conv);
    o->persona = an_id("p_default");
    o->now_ms = 1000;
    memcpy(o->epoch_random, "abcdefghijk", 12);
    return o;
}

WORLD_UNUSED static void create(struct world *w, const char *conv, const char *user)
{
    assert_int_equal(finally(w, create_op(conv, user)), JOURNAL_DONE);
}

/* A message of `user`; `run_id` (or NULL) promises the answer that is named like it, with an m in
 * front. */
WORLD_UNUSED static struct journal_append *say_op(const char *conv, const char *user,
                                                  const char *msg, const char *parent,
                                                  const char *run_id)
{
    struct journal_append *o = OP(APPEND, journal_append);
    o->app = an_id("default");
    o->conv = an_id(conv);
    o->sender = a_name(user);
    o->now_ms = 2000;
    o->events_count = 1;
    o->events[0].kind = EVENT_MSG;
    o->events[0].msg = an_id(msg);
    o->events[0].parent = an_id(parent);
    o->events[0].payload = a_blob(msg);
    o->set_head = true;
    o->head_msg = an_id(msg);
    o->queued_max = 8;
    o->node = a_name("node-1");
    if (run_id != NULL) {
        char answer[64];
        (void)snprintf(answer, sizeof(answer), "m%s", run_id);
        o->has_run = true;
        o->run.run = an_id(run_id);
        o->run.msg = an_id(answer);
        o->run.parent = an_id(msg);
        o->run.persona = an_id("p_default");
        o->run.model_name = a_name("default");
        o->run.asked_by = a_name(user);
    }
    return o;
}

WORLD_UNUSED static uint64_t say(struct world *w, const char *conv, const char *user,
                                 const char *msg, const char *parent, const char *run_id)
{
    struct journal_append *o = say_op(conv, user, msg, parent, run_id);
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    uint64_t offset = o->offset;
    drop(o);
    return offset;
}

WORLD_UNUSED static struct journal_finish *finish_op(const char *conv, const char *run_id,
                                                     uint32_t attempt)
{
    struct journal_finish *o = OP(FINISH, journal_finish);
    o->conv = an_id(conv);
    o->run = an_id(run_id);
    o->attempt = attempt;
    o->event.payload = a_blob(run_id);
    o->set_head = true;
    o->now_ms = 3000;
    o->node = a_name("node-2");
    return o;
}

WORLD_UNUSED static struct journal_conv_load *load(struct world *w, const char *conv)
{
    struct journal_conv_load *o = OP(CONV_LOAD, journal_conv_load);
    o->conv = an_id(conv);
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    return o;
}

WORLD_UNUSED static uint64_t top_of(struct world *w, const char *conv)
{
    struct journal_conv_load *o = load(w, conv);
    uint64_t top = o->row.offset;
    drop(o);
    return top;
}

/* --- one suite for both drivers --------------------------------------------------------------- */

struct world_case {
    const char *name;
    CMUnitTestFunction test;
};

static const char *const world_drivers[] = {"sqlite", "mem"};

WORLD_UNUSED static int world_setup(void **state)
{
    *state = world_new(*state);
    return 0;
}

WORLD_UNUSED static int world_teardown(void **state)
{
    world_free(*state);
    return 0;
}

/* Every case on every driver, named "driver: case". */
WORLD_UNUSED static int world_run(const struct world_case *cases, size_t count)
{
    static struct CMUnitTest tests[256];
    static char names[256][128];
    size_t at = 0;
    diag_output_set(open("/dev/null", O_WRONLY | O_CLOEXEC));
    for (size_t d = 0; d < ARRAY_COUNT(world_drivers); d++) {
        for (size_t i = 0; i < count; i++, at++) {
            assert_true(at < ARRAY_COUNT(tests));
            (void)snprintf(names[at], sizeof(names[at]), "%s: %s", world_drivers[d], cases[i].name);
            tests[at] = (struct CMUnitTest){names[at], cases[i].test, world_setup, world_teardown,
                                            (void *)(uintptr_t)world_drivers[d]};
        }
    }
    return _cmocka_run_group_tests("journal", tests, at, NULL, NULL);
}

#endif
