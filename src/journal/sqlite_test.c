/* What only the embedded store can get wrong: the plans of its statements, one fsync a batch, a
 * disk that fails at any call, a file that was damaged, a schema from the future (sqlite.c,
 * sql_text.c, sql_read.c, sql_write.c, sql_row.c, migrate.c). */
#include "base/rng.h"
#include "journal/test_vfs_priv.h"
#include "journal/test_world_priv.h"

#include <fcntl.h>
#include <sys/stat.h>

static int setup(void **state)
{
    vfs_heal();
    *state = world_new("sqlite");
    return 0;
}

static int teardown(void **state)
{
    vfs_heal();
    world_free(*state);
    return 0;
}

static sqlite3 *look_into(const struct world *w)
{
    char path[128];
    sqlite3 *db = NULL;
    (void)snprintf(path, sizeof(path), "%s/kith.db", w->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static int64_t count_of(const struct world *w, const char *sql)
{
    sqlite3 *db = look_into(w);
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t count = sqlite3_column_int64(s, 0);
    (void)sqlite3_finalize(s);
    (void)sqlite3_close(db);
    return count;
}

/* --- plans ------------------------------------------------------------------------------------ */

/* The one row of parameters in the place of $ROWS. */
static void plan_text(enum sql_id id, char *out, size_t room)
{
    const struct sql_text *t = sql_text(id);
    struct buf b;
    buf_init_fixed(&b, out, room);
    buf_text(&b, "explain query plan ");
    const char *at = strstr(t->text, "$ROWS");
    buf_put(&b, t->text, at == NULL ? strlen(t->text) : (size_t)(at - t->text));
    if (at != NULL) {
        for (int row = 0; row < 10; row++) {
            buf_text(&b, row == 0 ? "(" : ",(");
            for (size_t i = 0; i < strlen(t->types); i++)
                buf_text(&b, i == 0 ? "?" : ",?");
            buf_text(&b, ")");
        }
        buf_text(&b, at + 5);
    }
    buf_byte(&b, 0);
    assert_false(b.failed);
}

/* A scan is fine over the rows that were handed in, and where an index holds exactly what is asked
 * for. */
static bool plan_step_is_fine(enum sql_id id, const char *step)
{
    static const char *const small[] = {"SCAN q", "SCAN CONSTANT ROW", "SCAN e", "SCAN r",
                                        "SCAN 10 CONSTANT ROWS"};
    if (strstr(step, "AUTOMATIC") != NULL)
        return false;
    if (strncmp(step, "SCAN", 4) != 0)
        return true;
    for (size_t i = 0; i < ARRAY_COUNT(small); i++) {
        if (strcmp(step, small[i]) == 0)
            return true;
    }
    if (id == SQL_GET_UNFINISHED)
        return strstr(step, "runs_active") != NULL || strstr(step, "runs_waiting") != NULL;
    return id == SQL_DUE_CONV && strstr(step, "conversations_deleted") != NULL;
}

static void no_statement_scans_a_table(void **state)
{
    sqlite3 *db = look_into(*state);
    for (int id = 0; id < SQL_COUNT; id++) {
        char text[8192];
        sqlite3_stmt *s = NULL;
        plan_text((enum sql_id)id, text, sizeof(text));
        if (sqlite3_prepare_v2(db, text, -1, &s, NULL) != SQLITE_OK)
            fail_msg("%s: %s", sql_text((enum sql_id)id)->name, sqlite3_errmsg(db));
        while (sqlite3_step(s) == SQLITE_ROW) {
            const char *step = (const char *)sqlite3_column_text(s, 3);
            if (!plan_step_is_fine((enum sql_id)id, step))
                fail_msg("%s: %s", sql_text((enum sql_id)id)->name, step);
        }
        (void)sqlite3_finalize(s);
    }
    (void)sqlite3_close(db);
}

static void every_statement_takes_the_parameters_of_its_types(void **state)
{
    sqlite3 *db = look_into(*state);
    for (int id = 0; id < SQL_COUNT; id++) {
        const struct sql_text *t = sql_text((enum sql_id)id);
        char text[8192];
        sqlite3_stmt *s = NULL;
        plan_text((enum sql_id)id, text, sizeof(text));
        assert_int_equal(sqlite3_prepare_v2(db, text, -1, &s, NULL), SQLITE_OK);
        size_t rows = strstr(t->text, "$ROWS") != NULL ? 10 : 1;
        assert_int_equal(sqlite3_bind_parameter_count(s), strlen(t->types) * rows);
        assert_true(strlen(t->types) <= SQL_COLUMNS_MAX);
        assert_int_equal(strspn(t->types, "itb"), strlen(t->types));
        (void)sqlite3_finalize(s);
    }
    (void)sqlite3_close(db);
}

/* --- fsync ------------------------------------------------------------------------------------ */

static uint64_t wal_syncs(void)
{
    return atomic_load(&vfs_disk.wal_syncs);
}

static void a_batch_is_one_fsync_and_nothing_is_none(void **state)
{
    struct world *w = *state;
    struct journal_op *ops[200];
    create(w, "c_1", "ada");
    uint64_t before = wal_syncs();
    for (int i = 0; i < 200; i++)
        ops[i] = &say_op("c_1", "ada", "m_1", "", NULL)->head;
    assert_int_equal(batch_run(w->batch, w->store, ops, 200), ERR_OK);
    assert_int_equal(wal_syncs(), before + 1);
    for (int i = 0; i < 200; i++)
        drop(ops[i]);
    before = wal_syncs();
    assert_int_equal(finally(w, say_op("c_1", "bob", "m_1", "", NULL)), JOURNAL_NOT_MEMBER);
    bool more = false;
    assert_int_equal(w->store->driver->tidy(w->store, 0, &more), ERR_OK);
    assert_int_equal(wal_syncs(), before);
}

static void a_user_who_comes_again_costs_no_fsync(void **state)
{
    struct world *w = *state;
    const int64_t times[] = {1000, 2000, 2000, 2000 + JOURNAL_SEEN_EVERY_MS};
    const char *const names[] = {"", "", "Ada", "Ada"};
    const bool writes[] = {true, false, true, true};
    for (int i = 0; i < 4; i++) {
        uint64_t before = wal_syncs();
        struct journal_user_seen *o = OP(USER_SEEN, journal_user_seen);
        o->app = an_id("default");
        o->user = a_name("ada");
        o->display = a_name(names[i]);
        o->now_ms = times[i];
        assert_int_equal(finally(w, o), JOURNAL_DONE);
        assert_int_equal(wal_syncs() - before, writes[i]);
    }
    assert_int_equal(count_of(w, "select count(*) from users where display = 'Ada'"), 1);
}

static void a_turn_writes_seven_rows(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    sqlite3 *db = look_into(w);
    assert_int_equal(sqlite3_exec(db,
                                  "create table counted (what text);"
                                  "create trigger t1 after insert on events begin"
                                  " insert into counted values ('event'); end;"
                                  "create trigger t2 after insert on cids begin"
                                  " insert into counted values ('cid'); end;"
                                  "create trigger t3 after insert on runs begin"
                                  " insert into counted values ('run'); end;"
                                  "create trigger t4 after update on runs begin"
                                  " insert into counted values ('run'); end;"
                                  "create trigger t5 after update on conversations begin"
                                  " insert into counted values ('head'); end;",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    (void)sqlite3_close(db);
    struct journal_append *o = say_op("c_1", "ada", "m_1", "", "r1");
    o->cid = an_id("cid-1");
    assert_int_equal(finally(w, o), JOURNAL_DONE);
    assert_int_equal(finally(w, finish_op("c_1", "r1", 1)), JOURNAL_DONE);
    assert_int_equal(count_of(w, "select count(*) from counted"), 7);
}

/* --- a disk that fails ------------------------------------------------------------------------ */

/* A message and the end of its run, in one batch. */
static enum err turn(struct world *w, int round, enum journal_outcome outcomes[2], uint64_t *offset)
{
    char msg[16];
    char run_id[16];
    struct journal_op *ops[2];
    (void)snprintf(msg, sizeof(msg), "m%d", round);
    (void)snprintf(run_id, sizeof(run_id), "r%d", round);
    struct journal_append *o = say_op("c_1", "ada", msg, "", run_id);
    o->cid = an_id(msg);
    ops[0] = &o->head;
    ops[1] = &finish_op("c_1", run_id, 1)->head;
    enum err err = batch_run(w->batch, w->store, ops, 2);
    assert_int_equal(ops[0]->err, err);
    assert_int_equal(ops[1]->err, err);
    outcomes[0] = ops[0]->outcome;
    outcomes[1] = ops[1]->outcome;
    *offset = o->offset;
    drop(ops[0]);
    drop(ops[1]);
    return err;
}

/* After a failure the store is made sure of, and asking again tells. */
static void turn_tells(struct world *w, int round, enum err err)
{
    enum journal_outcome outcomes[2];
    uint64_t offset = 0;
    uint64_t top = top_of(w, "c_1");
    char wal[128];
    struct stat st;
    (void)snprintf(wal, sizeof(wal), "%s/kith.db-wal", w->dir);
    assert_int_equal(w->store->driver->recover(w->store), ERR_OK);
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(st.st_size, 0); /* all of it is in the main file, and synced */
    assert_int_equal(turn(w, round, outcomes, &offset), ERR_OK);
    bool stored = outcomes[0] == JOURNAL_DUPLICATE;
    assert_true(stored || outcomes[0] == JOURNAL_DONE);
    assert_true(!stored || err == ERR_UNCERTAIN);
    assert_int_equal(outcomes[1], stored ? JOURNAL_LOST : JOURNAL_DONE);
    assert_int_equal(offset, stored ? top - 1 : top + 1);
}

/* The n-th call of a kind fails, for every n that a turn reaches. */
static void fail_everywhere(struct world *w, enum vfs_call which, int code, bool for_good)
{
    int failures = 0;
    if (atomic_load(&vfs_disk.wal_syncs) == 0 || count_of(w, "select count(*) from members") == 0)
        create(w, "c_1", "ada");
    for (int n = 1; n < 200; n++) {
        enum journal_outcome outcomes[2];
        uint64_t offset = 0;
        vfs_hurt(which, n, code, for_good);
        enum err err = turn(w, 1000 + n, outcomes, &offset);
        bool reached = for_good || atomic_load(&vfs_disk.fail_at[which]) == 0;
        if (for_good && err == ERR_OK)
            reached = false;
        vfs_heal();
        if (err != ERR_OK) {
            failures++;
            assert_true(err == ERR_IO || err == ERR_FULL || err == ERR_UNCERTAIN);
            assert_true(code != SQLITE_FULL || err == ERR_FULL);
            turn_tells(w, 1000 + n, err);
        }
        if (!reached)
            break;
    }
    assert_true(failures >= 1);
    uint64_t top = top_of(w, "c_1");
    world_reopen(w);
    struct journal_events *e = OP(EVENTS, journal_events);
    e->conv = an_id("c_1");
    e->events_max = JOURNAL_PAGE_MAX;
    assert_int_equal(outcome(w, e), JOURNAL_DONE);
    assert_int_equal(e->events_count, top);
    for (uint32_t i = 0; i < e->events_count; i++)
        assert_int_equal(e->events[i].offset, i + 1);
    drop(e);
    assert_int_equal(count_of(w, "select count(*) from events"),
                     count_of(w, "select 2 * count(*) from runs where state = 2"));
}

static void a_write_that_fails_is_told(void **state)
{
    fail_everywhere(*state, VFS_WRITE, SQLITE_IOERR_WRITE, false);
}

static void a_full_disk_is_full_and_nothing_was_stored(void **state)
{
    fail_everywhere(*state, VFS_WRITE, SQLITE_FULL, false);
}

static void a_disk_that_stays_full_is_told_every_time(void **state)
{
    fail_everywhere(*state, VFS_WRITE, SQLITE_FULL, true);
}

static void a_failed_fsync_is_uncertain(void **state)
{
    struct world *w = *state;
    enum journal_outcome outcomes[2];
    uint64_t offset = 0;
    create(w, "c_1", "ada");
    vfs_hurt(VFS_SYNC, 1, SQLITE_IOERR_FSYNC, false);
    assert_int_equal(turn(w, 1, outcomes, &offset), ERR_UNCERTAIN);
    turn_tells(w, 1, ERR_UNCERTAIN);
    fail_everywhere(w, VFS_SYNC, SQLITE_IOERR_FSYNC, false);
}

static void recovery_that_fails_fails_until_it_does_not(void **state)
{
    struct world *w = *state;
    enum journal_outcome outcomes[2];
    uint64_t offset = 0;
    create(w, "c_1", "ada");
    vfs_hurt(VFS_SYNC, 1, SQLITE_IOERR_FSYNC, true);
    assert_int_equal(turn(w, 1, outcomes, &offset), ERR_UNCERTAIN);
    assert_int_equal(w->store->driver->recover(w->store), ERR_IO);
    assert_int_equal(turn(w, 2, outcomes, &offset), ERR_IO); /* no connection: nothing is stored */
    vfs_hurt(VFS_SYNC, 2, SQLITE_IOERR_FSYNC, true);
    assert_int_equal(w->store->driver->recover(w->store), ERR_IO);
    vfs_heal();
    turn_tells(w, 1, ERR_UNCERTAIN);
    turn_tells(w, 2, ERR_IO);
}

static void a_read_that_fails_is_told_and_the_next_works(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    for (int i = 1; i < 100; i++)
        (void)say(w, "c_1", "ada", "m1", "", NULL);
    int failures = 0;
    for (int n = 1; n < 100; n++) {
        world_reopen(w); /* an empty cache */
        struct journal_events *e = OP(EVENTS, journal_events);
        e->conv = an_id("c_1");
        e->events_max = JOURNAL_PAGE_MAX;
        vfs_hurt(VFS_READ, n, SQLITE_IOERR_READ, false);
        run(w, e);
        bool reached = atomic_load(&vfs_disk.fail_at[VFS_READ]) == 0;
        vfs_heal();
        assert_true(e->head.err == ERR_OK || e->head.err == ERR_IO);
        failures += e->head.err == ERR_IO;
        drop(e);
        assert_int_equal(top_of(w, "c_1"), 99);
        if (!reached)
            break;
    }
    assert_true(failures > 0);
}

/* --- a file that was damaged ------------------------------------------------------------------ */

static void read_everything(struct world *w)
{
    struct journal_conv_load *l = OP(CONV_LOAD, journal_conv_load);
    l->conv = an_id("c_1");
    struct journal_events *e = OP(EVENTS, journal_events);
    e->conv = an_id("c_1");
    e->events_max = JOURNAL_PAGE_MAX;
    struct journal_path *p = OP(PATH, journal_path);
    p->conv = an_id("c_1");
    p->limit = 20;
    p->with_siblings = true;
    struct journal_conv_list *c = OP(CONV_LIST, journal_conv_list);
    c->app = an_id("default");
    c->user = a_name("ada");
    c->limit = 20;
    struct journal_run_get *g = OP(RUN_GET, journal_run_get);
    g->run = an_id("r_2");
    struct journal_unfinished *u = OP(UNFINISHED, journal_unfinished);
    void *const ops[] = {l, e, p, c, g, u};
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        struct journal_op *op = ops[i];
        run(w, op);
        assert_true(op->err == ERR_OK || op->err == ERR_IO || op->err == ERR_FULL);
        drop(op);
    }
    struct journal_append *o = say_op("c_1", "ada", "m_1", "", "r99");
    o->cid = an_id("m_1");
    run(w, o);
    drop(o);
}

static void copy_file(const char *from, const char *to)
{
    char block[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(in >= 0 && out >= 0);
    ssize_t got;
    while ((got = read(in, block, sizeof(block))) > 0)
        assert_int_equal(write(out, block, (size_t)got), got);
    (void)close(in);
    (void)close(out);
}

static void a_damaged_file_is_an_error_not_a_crash(void **state)
{
    struct world *w = *state;
    struct rng rng;
    char path[128];
    char good[128];
    create(w, "c_1", "ada");
    for (int i = 0; i < 40; i++) {
        char msg[16];
        char run_id[16];
        (void)snprintf(msg, sizeof(msg), "m_%d", i);
        (void)snprintf(run_id, sizeof(run_id), "r_%d", i);
        struct journal_append *o = say_op("c_1", "ada", msg, "", i % 2 == 0 ? run_id : NULL);
        o->cid = an_id(msg);
        assert_int_equal(finally(w, o), JOURNAL_DONE);
        if (i % 2 == 0 && i < 30)
            assert_int_equal(finally(w, finish_op("c_1", run_id, 1)), JOURNAL_DONE);
    }
    world_detach(w);
    (void)snprintf(path, sizeof(path), "%s/kith.db", w->dir);
    (void)snprintf(good, sizeof(good), "%s/good", w->dir);
    copy_file(path, good);
    rng_init(&rng, 42);
    for (int round = 0; round < 150; round++) {
        copy_file(good, path);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        for (int i = 0; i < 20; i++) {
            uint8_t byte = (uint8_t)rng_next(&rng);
            off_t at = 100 + (off_t)rng_below(&rng, (uint64_t)st.st_size - 100);
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        (void)close(fd);
        char text[512];
        struct buf message;
        buf_init_fixed(&message, text, sizeof(text));
        if (sqlite_open(w->dir, &w->store, &message) != ERR_OK) {
            assert_true(message.count > 0);
            continue;
        }
        if (w->store->driver->reader_open(w->store, &w->reader) == ERR_OK)
            read_everything(w);
        world_detach(w);
    }
    copy_file(good, path);
    (void)unlink(good);
    world_attach(w);
    assert_int_equal(top_of(w, "c_1"), 55);
}

/* --- the schema ------------------------------------------------------------------------------- */

static void a_schema_from_the_future_is_refused(void **state)
{
    struct world *w = *state;
    char text[512] = "";
    struct buf message;
    world_detach(w);
    sqlite3 *db = look_into(w);
    assert_int_equal(
        sqlite3_exec(db, "insert into schema_version values (99, 0)", NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(db);
    buf_init_fixed(&message, text, sizeof(text) - 1);
    assert_int_equal(sqlite_open(w->dir, &w->store, &message), ERR_DENIED);
    assert_non_null(strstr(text, "schema version 99"));
    db = look_into(w);
    assert_int_equal(
        sqlite3_exec(db, "delete from schema_version where version = 99", NULL, NULL, NULL),
        SQLITE_OK);
    (void)sqlite3_close(db);
    world_attach(w);
}

struct plain_port {
    sqlite3 *db;
    int plain_calls;
    int fail_at;
};

static enum err port_plain(void *ctx, const char *text)
{
    struct plain_port *p = ctx;
    if (++p->plain_calls == p->fail_at)
        return ERR_IO;
    return sqlite3_exec(p->db, text, NULL, NULL, NULL) == SQLITE_OK ? ERR_OK : ERR_IO;
}

static enum err port_number(void *ctx, const char *text, int64_t *out)
{
    struct plain_port *p = ctx;
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(p->db, text, -1, &s, NULL) != SQLITE_OK)
        return ERR_IO;
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    *out = sqlite3_column_int64(s, 0);
    (void)sqlite3_finalize(s);
    return ERR_OK;
}

/* The n-th statement of the migration fails: the schema is the old one or the new one, and the next
 * start brings it to the new one. */
static void a_migration_is_whole_or_did_not_happen(void **state)
{
    (void)state;
    bool failed = true;
    for (int n = 1; failed; n++) {
        struct plain_port p = {.fail_at = n};
        char text[512];
        struct buf message;
        buf_init_fixed(&message, text, sizeof(text));
        assert_int_equal(sqlite3_open(":memory:", &p.db), SQLITE_OK);
        struct migrate_port port = {&p, port_plain, port_number, "integer primary key",
                                    "without rowid"};
        failed = migrate(&port, 1, &message) != ERR_OK;
        assert_true(failed == (n <= p.plain_calls));
        if (sqlite3_get_autocommit(p.db) == 0) /* the rollback itself failed: closing does it */
            assert_int_equal(sqlite3_exec(p.db, "rollback", NULL, NULL, NULL), SQLITE_OK);
        p.fail_at = 0;
        assert_int_equal(migrate(&port, 1, &message), ERR_OK);
        int64_t version = 0;
        assert_int_equal(port_number(&p, "select max(version) from schema_version", &version),
                         ERR_OK);
        assert_int_equal(version, sql_migrations_count);
        assert_int_equal(port_number(&p, "select count(*) from events", &version), ERR_OK);
        (void)sqlite3_close(p.db);
    }
}

static void the_store_keeps_its_secret_and_generation(void **state)
{
    struct world *w = *state;
    uint64_t secret[4];
    memcpy(secret, w->store->cid_secret, sizeof(secret));
    world_reopen(w);
    assert_memory_equal(secret, w->store->cid_secret, sizeof(secret));
    assert_int_equal(w->store->generation, 1);
    world_detach(w);
    sqlite3 *db = look_into(w);
    assert_int_equal(
        sqlite3_exec(db, "update meta set value = '7' where name = 'generation'", NULL, NULL, NULL),
        SQLITE_OK);
    (void)sqlite3_close(db);
    world_attach(w);
    struct journal_conv_create *c = create_op("c_1", "ada");
    assert_int_equal(outcome(w, c), JOURNAL_DONE);
    assert_true(bytes_is(bytes_make(c->epoch.at, c->epoch.count), "abcdefghijk.g7"));
    drop(c);
}

static void deleted_rows_are_really_gone(void **state)
{
    struct world *w = *state;
    static const char *const empty[] = {
        "select count(*) from events",        "select count(*) from runs",
        "select count(*) from run_parts",     "select count(*) from cids",
        "select count(*) from refusals",      "select count(*) from members",
        "select count(*) from conversations", "select count(*) from conv_meta"};
    struct journal_conv_create *c = create_op("c_1", "ada");
    c->meta = a_blob("{}");
    assert_int_equal(finally(w, c), JOURNAL_DONE);
    for (int i = 0; i < 5; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "r%d", i);
        struct journal_append *o = say_op("c_1", "ada", name, "", name);
        o->cid = an_id(name);
        assert_int_equal(finally(w, o), JOURNAL_DONE);
    }
    assert_int_equal(finally(w, finish_op("c_1", "r0", 1)), JOURNAL_DONE);
    struct journal_checkpoint *k = OP(CHECKPOINT, journal_checkpoint);
    k->conv = an_id("c_1");
    k->run = an_id("r1");
    k->attempt = 1;
    k->text = a_blob("text");
    assert_int_equal(finally(w, k), JOURNAL_DONE);
    struct journal_conv_delete *d = OP(CONV_DELETE, journal_conv_delete);
    d->app = an_id("default");
    d->conv = an_id("c_1");
    d->user = a_name("ada");
    assert_int_equal(finally(w, d), JOURNAL_DONE);
    bool more = true;
    for (int i = 0; more && i < 20; i++)
        assert_int_equal(w->store->driver->tidy(w->store, 1000, &more), ERR_OK);
    for (size_t i = 0; i < ARRAY_COUNT(empty); i++)
        assert_int_equal(count_of(w, empty[i]), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_statement_scans_a_table),
        TEST(every_statement_takes_the_parameters_of_its_types),
        TEST(a_batch_is_one_fsync_and_nothing_is_none),
        TEST(a_user_who_comes_again_costs_no_fsync),
        TEST(a_turn_writes_seven_rows),
        TEST(a_write_that_fails_is_told),
        TEST(a_full_disk_is_full_and_nothing_was_stored),
        TEST(a_disk_that_stays_full_is_told_every_time),
        TEST(a_failed_fsync_is_uncertain),
        TEST(recovery_that_fails_fails_until_it_does_not),
        TEST(a_read_that_fails_is_told_and_the_next_works),
        TEST(a_damaged_file_is_an_error_not_a_crash),
        TEST(a_schema_from_the_future_is_refused),
        TEST(a_migration_is_whole_or_did_not_happen),
        TEST(the_store_keeps_its_secret_and_generation),
        TEST(deleted_rows_are_really_gone),
    };
    test_vfs_install();
    diag_output_set(open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
