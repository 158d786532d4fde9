/* The threads: who is answered, when and in what order; the door when it is crowded; a store in
 * trouble and well again (journal.c, writer.c, memstore.c and its faults). The engine is stepped by
 * hand, its clock skipped: nothing here waits for time to pass. */
#include "engine/engine.h"
#include "journal/test_vfs_priv.h"
#include "journal/test_world_priv.h"
#include "journal/writer_priv.h"

#include <fcntl.h>
#include <sys/resource.h>

#define ANSWERS_MAX 4096

struct house {
    struct engine *engine;
    struct config config;
    struct memstore *mem;
    struct journal *journal;
    char dir[64];
    struct journal_op *answers[ANSWERS_MAX];
    uint32_t answers_count;
};

static void answer_take(void *ctx, struct msg *m)
{
    struct house *h = ctx;
    assert_int_equal(m->kind, JOURNAL_MSG_KIND);
    assert_true(h->answers_count < ANSWERS_MAX);
    h->answers[h->answers_count++] = CONTAINER_OF(m, struct journal_op, msg);
}

static struct house *house_new(void)
{
    struct house *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    assert_int_equal(engines_make(1, 7), ERR_OK);
    h->engine = engine_at(0);
    engine_listen(h->engine, PORT_TALK, answer_take, h);
    h->config.journal_batch_max = 64;
    h->config.journal_pending_max = 1000;
    h->config.store = "mem";
    vfs_heal();
    return h;
}

static int setup_mem(void **state)
{
    struct house *h = house_new();
    h->mem = memstore_new();
    assert_int_equal(journal_open_store(&h->config, memstore_store(h->mem), false, &h->journal),
                     ERR_OK);
    *state = h;
    return 0;
}

static void open_sqlite(struct house *h)
{
    char text[512];
    struct buf message;
    buf_init_fixed(&message, text, sizeof(text));
    assert_int_equal(journal_open(&h->config, &h->journal, &message), ERR_OK);
}

static int setup_sqlite(void **state)
{
    struct house *h = house_new();
    world_dir_make(h->dir);
    h->config.store = "sqlite";
    h->config.data_dir = h->dir;
    open_sqlite(h);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct house *h = *state;
    vfs_heal();
    journal_close(&h->journal);
    memstore_free(&h->mem);
    for (uint32_t i = 0; i < h->answers_count; i++)
        drop(h->answers[i]);
    engines_free();
    if (h->dir[0] != '\0')
        world_dir_remove(h->dir);
    free(h);
    return 0;
}

static void ask(struct house *h, void *op)
{
    journal_ask(h->journal, h->engine, op);
}

static void wait_for(struct house *h, uint32_t answers)
{
    while (h->answers_count < answers)
        engine_step(h->engine, -1);
    assert_int_equal(h->answers_count, answers);
}

/* The last answer, which the caller drops. */
static void *answer_of(struct house *h, void *op)
{
    uint32_t before = h->answers_count;
    ask(h, op);
    wait_for(h, before + 1);
    h->answers_count--;
    return h->answers[h->answers_count];
}

static enum err result(struct house *h, void *op)
{
    struct journal_op *o = answer_of(h, op);
    enum err err = o->err;
    drop(o);
    return err;
}

static enum journal_outcome done(struct house *h, void *op)
{
    struct journal_op *o = answer_of(h, op);
    assert_int_equal(o->err, ERR_OK);
    enum journal_outcome out = o->outcome;
    drop(o);
    return out;
}

static struct journal_append *say_with_cid(const char *cid)
{
    struct journal_append *o = say_op("c_1", "ada", cid, "", NULL);
    o->cid = an_id(cid);
    return o;
}

static uint64_t top(struct house *h)
{
    struct journal_conv_load *o = OP(CONV_LOAD, journal_conv_load);
    o->conv = an_id("c_1");
    o = answer_of(h, o);
    assert_int_equal(o->head.err, ERR_OK);
    uint64_t offset = o->row.offset;
    drop(o);
    return offset;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void an_answer_comes_in_a_later_turn(void **state)
{
    struct house *h = *state;
    struct journal_conv_create *o = create_op("c_1", "ada");
    o->head.tag = 77;
    o->head.handle = (struct handle){3, 4};
    ask(h, o);
    assert_int_equal(h->answers_count, 0);
    wait_for(h, 1);
    assert_ptr_equal(h->answers[0], o);
    assert_int_equal(o->head.tag, 77);
    assert_true(handle_equal(o->head.handle, (struct handle){3, 4}));
    assert_int_equal(o->head.err, ERR_OK);
    assert_int_equal(journal_pending(h->journal), 0);
}

static void writes_keep_their_order_and_a_read_sees_them(void **state)
{
    struct house *h = *state;
    ask(h, create_op("c_1", "ada"));
    for (int i = 0; i < 300; i++)
        ask(h, say_op("c_1", "ada", "m_1", "", NULL));
    wait_for(h, 301);
    for (uint32_t i = 1; i < 301; i++) {
        const struct journal_append *o = (const void *)h->answers[i];
        assert_int_equal(o->head.err, ERR_OK);
        assert_int_equal(o->offset, i);
    }
    assert_int_equal(top(h), 300);
}

static void closing_carries_out_what_waits(void **state)
{
    struct house *h = *state;
    ask(h, create_op("c_1", "ada"));
    for (int i = 0; i < 200; i++)
        ask(h, say_op("c_1", "ada", "m_1", "", NULL));
    journal_close(&h->journal);
    wait_for(h, 201);
    if (h->mem != NULL)
        assert_int_equal(journal_open_store(&h->config, memstore_store(h->mem), false, &h->journal),
                         ERR_OK);
    else
        open_sqlite(h);
    assert_int_equal(top(h), 200);
}

static void a_paused_writer_answers_nothing_and_goes_on_in_order(void **state)
{
    struct house *h = *state;
    assert_int_equal(done(h, create_op("c_1", "ada")), JOURNAL_DONE);
    journal_pause(h->journal, true);
    for (int i = 0; i < 10; i++)
        ask(h, say_op("c_1", "ada", "m_1", "", NULL));
    for (int i = 0; i < 20; i++)
        engine_step(h->engine, 0);
    assert_int_equal(h->answers_count, 0);
    assert_int_equal(journal_pending(h->journal), 10);
    journal_pause(h->journal, false);
    wait_for(h, 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(((const struct journal_append *)(const void *)h->answers[i])->offset,
                         i + 1);
    journal_pause(h->journal, true);
    ask(h, say_op("c_1", "ada", "m_1", "", NULL));
    journal_close(&h->journal); /* a pause does not outlive the journal */
    wait_for(h, 11);
}

/* --- the door --------------------------------------------------------------------------------- */

static struct journal_checkpoint *checkpoint_op(void)
{
    struct journal_checkpoint *o = OP(CHECKPOINT, journal_checkpoint);
    o->conv = an_id("c_1");
    o->run = an_id("r_1");
    o->attempt = 1;
    o->text = a_blob("text");
    return o;
}

/* How many of these come in until the first does not. */
static uint32_t come_in(struct house *h, void *(*make)(void))
{
    uint32_t refused = h->answers_count;
    for (uint32_t i = 0;; i++) {
        ask(h, make());
        engine_step(h->engine, 0);
        if (h->answers_count == refused)
            continue;
        assert_int_equal(h->answers_count, refused + 1);
        assert_int_equal(h->answers[refused]->err, ERR_FULL);
        return i;
    }
}

static void *make_checkpoint(void)
{
    return checkpoint_op();
}

static void *make_append(void)
{
    return say_op("c_1", "ada", "m_1", "", NULL);
}

static void *make_finish(void)
{
    return finish_op("c_1", "r_1", 1);
}

static void a_crowded_door_sheds_checkpoints_first_and_ends_last(void **state)
{
    struct house *h = *state;
    assert_int_equal(done(h, create_op("c_1", "ada")), JOURNAL_DONE);
    journal_pause(h->journal, true);
    assert_int_equal(come_in(h, make_checkpoint), 500);
    assert_int_equal(come_in(h, make_append), 400);
    assert_int_equal(come_in(h, make_finish), 100);
    assert_int_equal(journal_pending(h->journal), 1000);
    journal_pause(h->journal, false);
    wait_for(h, 1003);
    assert_int_equal(journal_pending(h->journal), 0);
    assert_int_equal(top(h), 400);
}

/* --- a store in trouble ----------------------------------------------------------------------- */

static void an_uncertain_commit_is_said_so_and_the_cid_tells(void **state)
{
    struct house *h = *state;
    const enum memstore_fault faults[] = {MEMSTORE_UNCERTAIN_STORED, MEMSTORE_UNCERTAIN_LOST};
    assert_int_equal(done(h, create_op("c_1", "ada")), JOURNAL_DONE);
    for (int i = 0; i < 2; i++) {
        const char *cid = i == 0 ? "cid-1" : "cid-2";
        memstore_inject(h->mem, faults[i], 1);
        assert_int_equal(result(h, say_with_cid(cid)), ERR_UNCERTAIN);
        assert_int_equal(done(h, say_with_cid(cid)), i == 0 ? JOURNAL_DUPLICATE : JOURNAL_DONE);
    }
    assert_int_equal(top(h), 2);
    assert_true(journal_is_healthy(h->journal));
}

static void a_failed_commit_stored_nothing(void **state)
{
    struct house *h = *state;
    assert_int_equal(done(h, create_op("c_1", "ada")), JOURNAL_DONE);
    memstore_inject(h->mem, MEMSTORE_IO, 2);
    assert_int_equal(done(h, say_with_cid("cid-1")), JOURNAL_DONE);
    assert_int_equal(result(h, say_with_cid("cid-2")), ERR_IO);
    assert_int_equal(top(h), 1);
    assert_int_equal(done(h, say_with_cid("cid-2")), JOURNAL_DONE);
}

static void somebody_was_first_is_done_again(void **state)
{
    struct house *h = *state;
    assert_int_equal(done(h, create_op("c_1", "ada")), JOURNAL_DONE);
    memstore_inject(h->mem, MEMSTORE_CONFLICT, 1);
    assert_int_equal(done(h, say_with_cid("cid-1")), JOURNAL_DONE);
    assert_int_equal(top(h), 1);
}

static void a_dead_process_answers_nobody(void **state)
{
    struct house *h = *state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(done(h, create_op(i == 0 ? "c_1" : "c_2", "ada")), JOURNAL_DONE);
        memstore_inject(h->mem, i == 0 ? MEMSTORE_CRASH_STORED : MEMSTORE_CRASH_LOST, 1);
        ask(h, say_with_cid(i == 0 ? "cid-1" : "cid-2"));
        ask(h, say_with_cid("cid-3"));
        journal_close(&h->journal);
        engine_step(h->engine, 0);
        assert_int_equal(h->answers_count, 0);
        assert_true(memstore_has_crashed(h->mem));
        memstore_restart(h->mem);
        assert_int_equal(journal_open_store(&h->config, memstore_store(h->mem), false, &h->journal),
                         ERR_OK);
    }
    assert_int_equal(done(h, say_with_cid("cid-2")), JOURNAL_DONE);
    struct journal_op *o = answer_of(h, say_with_cid("cid-1"));
    /* the two may have been one batch: then both are there, in their order */
    assert_int_equal(o->outcome, JOURNAL_DUPLICATE);
    assert_int_equal(((struct journal_append *)(void *)o)->offset, 1);
    drop(o);
}

static void without_room_ends_are_stored_and_messages_refused(void **state)
{
    struct house *h = *state;
    assert_int_equal(done(h, create_op("c_1", "ada")), JOURNAL_DONE);
    assert_int_equal(done(h, say_op("c_1", "ada", "m_1", "", "r1")), JOURNAL_DONE);
    journal_pause(h->journal, true);
    ask(h, say_with_cid("cid-1"));
    ask(h, finish_op("c_1", "r1", 1));
    memstore_inject(h->mem, MEMSTORE_FULL, 1);
    journal_pause(h->journal, false);
    wait_for(h, 2);
    for (uint32_t i = 0; i < 2; i++) {
        const struct journal_op *o = h->answers[i];
        assert_int_equal(o->err, o->op == JOURNAL_FINISH ? ERR_OK : ERR_FULL);
    }
    assert_false(journal_is_healthy(h->journal));
    assert_int_equal(result(h, say_with_cid("cid-1")), ERR_FULL);
    engine_clock_skip(2000); /* and the room is there again */
    assert_int_equal(done(h, say_with_cid("cid-1")), JOURNAL_DONE);
    assert_true(journal_is_healthy(h->journal));
}

/* --- the disk, through all threads ------------------------------------------------------------ */

static void a_failed_fsync_is_uncertain_and_the_store_reopens(void **state)
{
    struct house *h = *state;
    assert_int_equal(done(h, create_op("c_1", "ada")), JOURNAL_DONE);
    vfs_hurt(VFS_SYNC, 1, SQLITE_IOERR_FSYNC, false);
    assert_int_equal(result(h, say_with_cid("cid-1")), ERR_UNCERTAIN);
    assert_true(journal_is_healthy(h->journal));
    struct journal_op *o = answer_of(h, say_with_cid("cid-1"));
    assert_int_equal(o->err, ERR_OK);
    assert_true(o->outcome == JOURNAL_DONE || o->outcome == JOURNAL_DUPLICATE);
    drop(o);
    assert_int_equal(top(h), 1);
}

static void a_dead_disk_is_io_until_it_lives_again(void **state)
{
    struct house *h = *state;
    assert_int_equal(done(h, create_op("c_1", "ada")), JOURNAL_DONE);
    vfs_hurt(VFS_SYNC, 1, SQLITE_IOERR_FSYNC, true);
    assert_int_equal(result(h, say_with_cid("cid-1")), ERR_UNCERTAIN);
    assert_false(journal_is_healthy(h->journal));
    assert_int_equal(result(h, say_with_cid("cid-2")), ERR_IO);
    assert_int_equal(top(h), 0); /* reading goes on */
    vfs_heal();
    while (!journal_is_healthy(h->journal)) {
        engine_clock_skip(300); /* nobody asks: the writer looks by itself */
        engine_step(h->engine, 1);
    }
    assert_int_equal(done(h, say_with_cid("cid-2")), JOURNAL_DONE);
    assert_int_equal(top(h), 1);
}

static void a_full_disk_keeps_its_reserve_for_ends(void **state)
{
    struct house *h = *state;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/reserve", h->dir);
    assert_int_equal(done(h, create_op("c_1", "ada")), JOURNAL_DONE);
    assert_int_equal(access(path, F_OK), 0);
    vfs_hurt(VFS_WRITE, 1, SQLITE_FULL, true);
    assert_int_equal(result(h, say_with_cid("cid-1")), ERR_FULL);
    assert_int_not_equal(access(path, F_OK), 0); /* given free */
    assert_false(journal_is_healthy(h->journal));
    vfs_heal();
    while (!journal_is_healthy(h->journal)) {
        engine_clock_skip(1000);
        engine_step(h->engine, 1);
    }
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(done(h, say_with_cid("cid-1")), JOURNAL_DONE);
}

static void an_unknown_store_is_refused_with_what_is_allowed(void **state)
{
    struct house *h = *state;
    struct journal *j = NULL;
    char text[512] = "";
    struct buf message;
    buf_init_fixed(&message, text, sizeof(text) - 1);
    h->config.store = "papyrus";
    assert_int_equal(journal_open(&h->config, &j, &message), ERR_DENIED);
    assert_non_null(strstr(text, "sqlite"));
}

static void the_store_in_memory_opens_by_its_name(void **state)
{
    struct house *h = *state;
    struct journal *j = NULL;
    char text[512];
    struct buf message;
    buf_init_fixed(&message, text, sizeof(text));
    h->config.store = "mem";
    assert_int_equal(journal_open(&h->config, &j, &message), ERR_OK);
    journal_close(&j);
    assert_null(j);
    journal_close(&j);
}

#define MEM(name)    cmocka_unit_test_setup_teardown(name, setup_mem, teardown)
#define SQLITE(name) cmocka_unit_test_setup_teardown(name, setup_sqlite, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MEM(an_answer_comes_in_a_later_turn),
        SQLITE(an_answer_comes_in_a_later_turn),
        MEM(writes_keep_their_order_and_a_read_sees_them),
        SQLITE(writes_keep_their_order_and_a_read_sees_them),
        MEM(closing_carries_out_what_waits),
        SQLITE(closing_carries_out_what_waits),
        MEM(a_paused_writer_answers_nothing_and_goes_on_in_order),
        MEM(a_crowded_door_sheds_checkpoints_first_and_ends_last),
        MEM(an_uncertain_commit_is_said_so_and_the_cid_tells),
        MEM(a_failed_commit_stored_nothing),
        MEM(somebody_was_first_is_done_again),
        MEM(a_dead_process_answers_nobody),
        MEM(without_room_ends_are_stored_and_messages_refused),
        SQLITE(a_failed_fsync_is_uncertain_and_the_store_reopens),
        SQLITE(a_dead_disk_is_io_until_it_lives_again),
        SQLITE(a_full_disk_keeps_its_reserve_for_ends),
        MEM(an_unknown_store_is_refused_with_what_is_allowed),
        MEM(the_store_in_memory_opens_by_its_name),
    };
    test_vfs_install();
    diag_output_set(open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
