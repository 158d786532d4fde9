/* The embedded store: SQLite in WAL mode, every commit on the disk before it counts.
 *
 *     writer       one connection: batches, cleaning up
 *     checkpointer one connection in its own thread: moves the WAL into the file while the writer
 *                  goes on (PASSIVE); only a WAL that never got empty is restarted by the writer
 *     readers      one connection each
 *
 * After a failed fsync the kernel may have dropped the pages and call the next fsync fine ("fsync
 * errors", Rebello et al. 2020). So after any failure the writer's connection is closed, opened
 * again, and everything that is visible is written once more into the main file and synced before
 * anybody is answered.
 *
 * SQLite before 3.51.3 can lose commits when a checkpoint begins on a WAL that holds nothing new
 * while another connection starts that WAL afresh ("the WAL-reset bug", sqlite.org/wal.html). Here
 * no checkpoint begins so: one is asked for only by a commit that began after the last checkpoint
 * had ended, whose frames therefore are new, and as long as there are new frames nobody starts the
 * WAL afresh. The writer restarts or truncates it only while no checkpoint is on its way. */
#include "base/mem.h"
#include "diag/diag.h"
#include "journal/sql_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <unistd.h>

#define PATH_BYTES_MAX    4096
#define BUSY_TIMEOUT_MS   5000
#define CHECKPOINT_PAGES  4000
#define RESTART_PAGES     16384
#define RESERVE_BYTES     (4 << 20)
#define SCRATCH_BYTES_MAX (512u << 20)

enum control {
    CONTROL_BEGIN_WRITE,
    CONTROL_BEGIN_READ,
    CONTROL_COMMIT,
    CONTROL_ROLLBACK,
    CONTROLS
};
static const char *const control_texts[CONTROLS] = {"begin immediate", "begin", "commit",
                                                    "rollback"};
enum { LOT_ONE, LOT_SOME, LOT_MANY, LOTS };
static const uint32_t lot_rows[LOTS] = {1, SQL_SOME, SQL_MANY};

struct sqlite_db {
    struct sql_db db;
    sqlite3 *handle;
    sqlite3_stmt *statements[SQL_COUNT][LOTS];
    sqlite3_stmt *controls[CONTROLS];
};

struct sqlite_store {
    struct store store;
    char path[PATH_BYTES_MAX];
    char reserve_path[PATH_BYTES_MAX];
    struct sqlite_db writer;
    struct arena scratch;
    int64_t changes_before; /* of the connection, when the batch began */
    int wal_pages;
    struct sqlite_db checkpointer;
    struct inbox *checkpoint_inbox;
    pthread_t checkpoint_thread;
    bool checkpoint_runs;
    _Atomic bool checkpoint_asked; /* from the asking until it has ended */
    _Atomic uint64_t commits_begun;
    _Atomic uint64_t checkpoint_end; /* commits_begun when the last one had ended */
};

struct sqlite_reader {
    struct reader reader;
    struct sqlite_db conn;
    bool broken; /* to be opened again before the next read */
};

static enum err failed(struct sqlite_db *c, const char *what)
{
    int code = sqlite3_extended_errcode(c->handle);
    enum err err = ERR_IO;
    if ((code & 0xff) == SQLITE_FULL || (code & 0xff) == SQLITE_NOMEM)
        err = ERR_FULL;
    diag_log(DIAG_ERROR, "journal_sqlite_error", "what=%s code=%d errno=%d", what, code,
             sqlite3_system_errno(c->handle));
    return err;
}

/* --- statements ------------------------------------------------------------------------------- */

/* The text with `rows` rows of places where $ROWS stands. */
static struct blob *statement_text(enum sql_id id, uint32_t rows)
{
    const struct sql_text *t = sql_text(id);
    const char *at = strstr(t->text, "$ROWS");
    struct buf b;
    buf_init(&b, 1 << 20);
    if (at == NULL) {
        buf_text(&b, t->text);
    } else {
        buf_put(&b, t->text, (size_t)(at - t->text));
        for (uint32_t i = 0; i < rows; i++) {
            buf_text(&b, i == 0 ? "(" : ",(");
            for (const char *c = t->types; *c != '\0'; c++)
                buf_text(&b, c == t->types ? "?" : ",?");
            buf_text(&b, ")");
        }
        buf_text(&b, at + strlen("$ROWS"));
    }
    struct blob *text = buf_take(&b);
    buf_fini(&b);
    return text;
}

static enum err statement_get(struct sqlite_db *c, enum sql_id id, int lot, sqlite3_stmt **out)
{
    sqlite3_stmt **place = &c->statements[id][lot];
    if (*place == NULL) {
        struct blob *text = statement_text(id, lot_rows[lot]);
        if (text == NULL)
            return ERR_FULL;
        int rc = sqlite3_prepare_v3(c->handle, (const char *)text->at, (int)text->count,
                                    SQLITE_PREPARE_PERSISTENT, place, NULL);
        blob_unref(&text);
        if (rc != SQLITE_OK)
            return failed(c, sql_text(id)->name);
    }
    *out = *place;
    return ERR_OK;
}

/* Borrowed until the statement is reset: `values` outlive the call that binds them. */
static int bind_value(sqlite3_stmt *s, int place, const struct value *v)
{
    const void *at = v->bytes.count == 0 ? "" : (const void *)v->bytes.at;
    switch (v->kind) {
    case VALUE_NULL: return sqlite3_bind_null(s, place);
    case VALUE_INT: return sqlite3_bind_int64(s, place, v->number);
    case VALUE_TEXT:
        return sqlite3_bind_text64(s, place, at, v->bytes.count, SQLITE_STATIC, SQLITE_UTF8);
    case VALUE_BLOB: return sqlite3_bind_blob64(s, place, at, v->bytes.count, SQLITE_STATIC);
    }
    return SQLITE_MISUSE;
}

static bool column_get(sqlite3_stmt *s, int i, struct value *out)
{
    int type = sqlite3_column_type(s, i);
    if (type == SQLITE_NULL) {
        *out = value_null();
    } else if (type == SQLITE_INTEGER) {
        *out = value_i64(sqlite3_column_int64(s, i));
    } else if (type == SQLITE_TEXT || type == SQLITE_BLOB) {
        const void *at = sqlite3_column_blob(s, i);
        int count = sqlite3_column_bytes(s, i);
        if (count < 0 || (count > 0 && at == NULL))
            return false;
        *out = value_blob(bytes_make(at, (size_t)count));
        out->kind = type == SQLITE_TEXT ? VALUE_TEXT : VALUE_BLOB;
    } else {
        return false; /* no table of ours has such numbers */
    }
    return true;
}

/* Steps to the end, or until `take` has enough. */
static enum err statement_step(struct sqlite_db *c, sqlite3_stmt *s, sql_row_fn *take, void *ctx,
                               bool *enough)
{
    struct value columns[SQL_COLUMNS_MAX];
    int count = sqlite3_column_count(s);
    CHECK(count <= SQL_COLUMNS_MAX);
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        for (int i = 0; i < count; i++) {
            if (!column_get(s, i, &columns[i]))
                return ERR_IO;
        }
        if (take != NULL && !take(ctx, columns, (uint32_t)count)) {
            *enough = true;
            return ERR_OK;
        }
    }
    return rc == SQLITE_DONE ? ERR_OK : failed(c, "step");
}

static enum err sqlite_lot(struct sqlite_db *c, enum sql_id id, int lot, const struct value *params,
                           sql_row_fn *take, void *ctx, bool *enough)
{
    sqlite3_stmt *s = NULL;
    enum err err = statement_get(c, id, lot, &s);
    if (err != ERR_OK)
        return err;
    int places = sqlite3_bind_parameter_count(s);
    for (int i = 0; i < places && err == ERR_OK; i++) {
        if (bind_value(s, i + 1, &params[i]) != SQLITE_OK)
            err = failed(c, "bind");
    }
    if (err == ERR_OK)
        err = statement_step(c, s, take, ctx, enough);
    (void)sqlite3_reset(s); /* says again what step said */
    return err;
}

static enum err sqlite_run(struct sql_db *db, enum sql_id id, const struct value *params,
                           uint32_t rows, sql_row_fn *take, void *ctx, uint64_t *changed)
{
    struct sqlite_db *c = CONTAINER_OF(db, struct sqlite_db, db);
    size_t columns = strlen(sql_text(id)->types);
    uint64_t written = 0;
    bool enough = false;
    enum err err = ERR_OK;
    while (rows > 0 && err == ERR_OK && !enough) {
        int lot = rows >= SQL_MANY ? LOT_MANY : rows >= SQL_SOME ? LOT_SOME : LOT_ONE;
        err = sqlite_lot(c, id, lot, params, take, ctx, &enough);
        written += (uint64_t)sqlite3_changes64(c->handle);
        rows -= lot_rows[lot];
        params += columns * lot_rows[lot];
    }
    if (err == ERR_OK && changed != NULL)
        *changed = written;
    return err;
}

static enum err control_run(struct sqlite_db *c, enum control which)
{
    sqlite3_stmt **s = &c->controls[which];
    if (*s == NULL && sqlite3_prepare_v3(c->handle, control_texts[which], -1,
                                         SQLITE_PREPARE_PERSISTENT, s, NULL) != SQLITE_OK)
        return failed(c, control_texts[which]);
    int rc = sqlite3_step(*s);
    enum err err = rc == SQLITE_DONE ? ERR_OK : failed(c, control_texts[which]);
    (void)sqlite3_reset(*s); /* says again what step said */
    return err;
}

static void rollback_if_open(struct sqlite_db *c)
{
    /* A failed rollback leaves the transaction open; the next begin fails, and recovery closes. */
    if (c->handle != NULL && sqlite3_get_autocommit(c->handle) == 0)
        (void)control_run(c, CONTROL_ROLLBACK);
}

/* --- connections ------------------------------------------------------------------------------ */

static void conn_close(struct sqlite_db *c)
{
    for (size_t i = 0; i < SQL_COUNT; i++) {
        for (size_t k = 0; k < LOTS; k++) {
            (void)sqlite3_finalize(c->statements[i][k]); /* NULL is fine; errors were told */
            c->statements[i][k] = NULL;
        }
    }
    for (size_t i = 0; i < CONTROLS; i++) {
        (void)sqlite3_finalize(c->controls[i]);
        c->controls[i] = NULL;
    }
    if (c->handle != NULL && sqlite3_close(c->handle) != SQLITE_OK)
        diag_log(DIAG_ERROR, "journal_sqlite_close", "code=%d", sqlite3_errcode(c->handle));
    c->handle = NULL;
}

static enum err plain(void *ctx, const char *text)
{
    struct sqlite_db *c = ctx;
    return sqlite3_exec(c->handle, text, NULL, NULL, NULL) == SQLITE_OK ? ERR_OK
                                                                        : failed(c, "plain");
}

static enum err number(void *ctx, const char *text, int64_t *out)
{
    struct sqlite_db *c = ctx;
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(c->handle, text, -1, &s, NULL) != SQLITE_OK)
        return failed(c, "number");
    enum err err = sqlite3_step(s) == SQLITE_ROW ? ERR_OK : failed(c, "number");
    if (err == ERR_OK)
        *out = sqlite3_column_int64(s, 0);
    (void)sqlite3_finalize(s); /* says again what step said */
    return err;
}

/* The file must be in WAL mode: in another one readers and the writer would stop each other. */
static enum err wal_check(struct sqlite_db *c)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(c->handle, "pragma journal_mode=wal", -1, &s, NULL) != SQLITE_OK)
        return failed(c, "journal_mode");
    enum err err = sqlite3_step(s) == SQLITE_ROW ? ERR_OK : failed(c, "journal_mode");
    if (err == ERR_OK) {
        const char *mode = (const char *)sqlite3_column_text(s, 0);
        if (mode == NULL || strcmp(mode, "wal") != 0)
            err = ERR_IO;
    }
    (void)sqlite3_finalize(s); /* says again what step said */
    return err;
}

static enum err conn_open(struct sqlite_db *c, const char *path, bool reads)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    c->db.run = sqlite_run;
    int rc = sqlite3_open_v2(path, &c->handle, flags, NULL);
    if (rc != SQLITE_OK) {
        enum err err = c->handle == NULL ? ERR_FULL : failed(c, "open");
        conn_close(c);
        return err;
    }
    (void)sqlite3_extended_result_codes(c->handle, 1); /* cannot fail on an open handle */
    (void)sqlite3_busy_timeout(c->handle, BUSY_TIMEOUT_MS);
    enum err err = wal_check(c);
    if (err == ERR_OK)
        err = plain(c, "pragma synchronous=full; pragma wal_autocheckpoint=0;"
                       " pragma temp_store=memory; pragma trusted_schema=off;"
                       " pragma cell_size_check=on; pragma cache_size=-32768;");
    if (err == ERR_OK && reads)
        err = plain(c, "pragma query_only=on");
    if (err != ERR_OK)
        conn_close(c);
    return err;
}

/* --- checkpoints ------------------------------------------------------------------------------ */

static void checkpoint_ask(struct sqlite_store *s)
{
    if (atomic_exchange(&s->checkpoint_asked, true))
        return;
    struct msg *m = msg_try_new(PORT_NONE, 0, sizeof(*m));
    if (m != NULL && inbox_post(s->checkpoint_inbox, m, true) == ERR_OK)
        return;
    msg_free(m);
    atomic_store(&s->checkpoint_asked, false); /* the next commit asks again */
}

static int wal_grew(void *ctx, sqlite3 *handle, const char *name, int pages)
{
    (void)handle;
    (void)name;
    struct sqlite_store *s = ctx;
    s->wal_pages = pages;
    bool is_new = atomic_load(&s->commits_begun) > atomic_load(&s->checkpoint_end);
    if (pages >= CHECKPOINT_PAGES && pages < RESTART_PAGES && is_new)
        checkpoint_ask(s);
    return SQLITE_OK;
}

static void *checkpoint_main(void *ctx)
{
    struct sqlite_store *s = ctx;
    diag_thread_init("checkpoint");
    struct msg *list;
    while ((list = inbox_take_all(s->checkpoint_inbox)) != NULL) {
        while (list != NULL) {
            struct msg *m = list;
            list = m->next;
            msg_free(m);
        }
        int rc = sqlite3_wal_checkpoint_v2(s->checkpointer.handle, NULL, SQLITE_CHECKPOINT_PASSIVE,
                                           NULL, NULL);
        if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
            (void)failed(&s->checkpointer, "checkpoint"); /* the WAL keeps it; the next one tries */
        atomic_store(&s->checkpoint_end, atomic_load(&s->commits_begun));
        atomic_store(&s->checkpoint_asked, false);
    }
    return NULL;
}

/* Under a load that never pauses the WAL is never empty when a checkpoint ends, and would grow. */
static void wal_restart(struct sqlite_store *s)
{
    if (s->wal_pages < RESTART_PAGES || atomic_load(&s->checkpoint_asked))
        return;
    s->wal_pages = 0; /* so that a reader in the way is not waited for at every commit */
    (void)sqlite3_busy_timeout(s->writer.handle, 100);
    int rc =
        sqlite3_wal_checkpoint_v2(s->writer.handle, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    (void)sqlite3_busy_timeout(s->writer.handle, BUSY_TIMEOUT_MS);
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
        (void)failed(&s->writer, "checkpoint");
}

static enum err checkpoint_start(struct sqlite_store *s)
{
    sigset_t all;
    sigset_t before;
    enum err err = conn_open(&s->checkpointer, s->path, false);
    if (err != ERR_OK)
        return err;
    s->checkpoint_inbox = inbox_new(2);
    if (s->checkpoint_inbox == NULL)
        return ERR_FULL;
    (void)sigfillset(&all); /* signals are for the engines' threads */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&s->checkpoint_thread, NULL, checkpoint_main, s);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    s->checkpoint_runs = rc == 0;
    return rc == 0 ? ERR_OK : ERR_FULL;
}

static void checkpoint_stop(struct sqlite_store *s)
{
    if (s->checkpoint_runs) {
        inbox_close(s->checkpoint_inbox);
        (void)pthread_join(s->checkpoint_thread, NULL); /* made by us, joined once */
    }
    s->checkpoint_runs = false;
    inbox_free(&s->checkpoint_inbox);
    conn_close(&s->checkpointer);
}

/* --- the writer's side ------------------------------------------------------------------------ */

static struct sqlite_store *mine(struct store *s)
{
    return CONTAINER_OF(s, struct sqlite_store, store);
}

static enum err driver_begin(struct store *base)
{
    struct sqlite_store *s = mine(base);
    if (s->writer.handle == NULL)
        return ERR_IO;
    arena_reset(&s->scratch);
    s->changes_before = sqlite3_total_changes64(s->writer.handle);
    return control_run(&s->writer, CONTROL_BEGIN_WRITE);
}

static enum err driver_look(struct store *base, struct work **wave, uint32_t count)
{
    struct sqlite_store *s = mine(base);
    return sql_look(&s->writer.db, &s->scratch, wave, count);
}

static enum err driver_write(struct store *base, struct work **wave, uint32_t count)
{
    struct sqlite_store *s = mine(base);
    enum err err = sql_write(&s->writer.db, &s->scratch, wave, count);
    arena_reset(&s->scratch);
    return err;
}

static void driver_rollback(struct store *base)
{
    rollback_if_open(&mine(base)->writer);
}

/* No room: the frame that makes a commit was not written whole, so it did not happen. Any other
 * failure may have come after that frame: in doubt. */
static enum err driver_commit(struct store *base)
{
    struct sqlite_store *s = mine(base);
    if (sqlite3_total_changes64(s->writer.handle) == s->changes_before) {
        driver_rollback(base); /* nothing changed: nothing to wait for the disk for */
        return ERR_OK;
    }
    struct mono began = mono_now();
    atomic_fetch_add(&s->commits_begun, 1);
    enum err err = control_run(&s->writer, CONTROL_COMMIT);
    if (err == ERR_OK) {
        DIAG_OBSERVE(commit, mono_now().ns - began.ns);
        DIAG_COUNT(journal_commits);
        wal_restart(s);
        return ERR_OK;
    }
    rollback_if_open(&s->writer);
    return err == ERR_FULL ? ERR_FULL : ERR_UNCERTAIN;
}

static enum err writer_open(struct sqlite_store *s)
{
    enum err err = conn_open(&s->writer, s->path, false);
    if (err == ERR_OK)
        (void)sqlite3_wal_hook(s->writer.handle, wal_grew, s); /* answers the hook before: none */
    return err;
}

static enum err driver_recover(struct store *base)
{
    struct sqlite_store *s = mine(base);
    while (atomic_load(&s->checkpoint_asked))
        (void)poll(NULL, 0, 1); /* it ends: it waits for nobody but the disk */
    conn_close(&s->writer);
    s->wal_pages = 0;
    enum err err = writer_open(s);
    if (err != ERR_OK)
        return err;
    int rc =
        sqlite3_wal_checkpoint_v2(s->writer.handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    if (rc != SQLITE_OK)
        err = failed(&s->writer, "recover");
    struct store again = s->store;
    if (err == ERR_OK)
        err = sql_meta(&s->writer.db, &again);
    if (err == ERR_OK &&
        (again.generation != s->store.generation ||
         memcmp(again.cid_secret, s->store.cid_secret, sizeof(again.cid_secret)) != 0))
        err = ERR_IO; /* somebody put another store in this place */
    if (err == ERR_OK) {
        DIAG_COUNT(journal_reopened);
        return ERR_OK;
    }
    conn_close(&s->writer);
    return err == ERR_FULL ? ERR_FULL : ERR_IO;
}

/* Held back on the disk as a file of zeros that are really there. */
static void driver_reserve_release(struct store *base)
{
    (void)unlink(mine(base)->reserve_path); /* not there: then it is free already */
}

static enum err driver_reserve_take(struct store *base)
{
    struct sqlite_store *s = mine(base);
    int fd = open(s->reserve_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return ERR_FULL;
    bool taken = posix_fallocate(fd, 0, RESERVE_BYTES) == 0;
    (void)close(fd); /* nothing was written through it */
    if (!taken)
        driver_reserve_release(base);
    return taken ? ERR_OK : ERR_FULL;
}

static enum err driver_tidy(struct store *base, int64_t now_ms, bool *more)
{
    struct sqlite_store *s = mine(base);
    enum err err = driver_begin(base);
    if (err != ERR_OK)
        return err;
    err = sql_tidy(&s->writer.db, now_ms, more);
    if (err == ERR_OK)
        return driver_commit(base);
    driver_rollback(base);
    return err;
}

/* --- the readers' side ------------------------------------------------------------------------ */

static struct sqlite_reader *reads(struct reader *r)
{
    return CONTAINER_OF(r, struct sqlite_reader, reader);
}

static enum err driver_reader_open(struct store *base, struct reader **out)
{
    struct sqlite_reader *r = mem_new_zero(sizeof(*r));
    if (r == NULL)
        return ERR_FULL;
    r->reader.store = base;
    enum err err = conn_open(&r->conn, mine(base)->path, true);
    if (err != ERR_OK) {
        mem_free(r);
        return err;
    }
    *out = &r->reader;
    return ERR_OK;
}

static void driver_reader_close(struct reader **out)
{
    if (*out == NULL)
        return;
    struct sqlite_reader *r = reads(*out);
    conn_close(&r->conn);
    mem_free(r);
    *out = NULL;
}

static enum err driver_read_begin(struct reader *base)
{
    struct sqlite_reader *r = reads(base);
    if (r->broken) {
        conn_close(&r->conn);
        enum err err = conn_open(&r->conn, mine(base->store)->path, true);
        if (err != ERR_OK)
            return err;
        r->broken = false;
    }
    return control_run(&r->conn, CONTROL_BEGIN_READ);
}

static void driver_read_end(struct reader *base)
{
    struct sqlite_reader *r = reads(base);
    if (r->conn.handle == NULL)
        return;
    if (control_run(&r->conn, CONTROL_COMMIT) == ERR_OK)
        return;
    rollback_if_open(&r->conn);
    r->broken = true;
}

/* What went wrong in this connection may be in it: the next read gets a new one. */
static enum err seen(struct reader *base, enum err err)
{
    if (err == ERR_IO)
        reads(base)->broken = true;
    return err;
}

static enum err driver_conv(struct reader *r, const struct id *conv, int64_t *key,
                            struct conv_row *out)
{
    return seen(r, sql_get_conv(&reads(r)->conn.db, conv, key, out));
}

static enum err driver_members(struct reader *r, int64_t key, struct conv_member **out,
                               uint32_t *count)
{
    return seen(r, sql_get_members(&reads(r)->conn.db, key, out, count));
}

static enum err driver_runs(struct reader *r, int64_t key, const struct id *conv,
                            struct run_row **out, uint32_t *count)
{
    return seen(r, sql_get_runs(&reads(r)->conn.db, key, conv, out, count));
}

static enum err driver_run(struct reader *r, const struct id *run, struct run_row *out,
                           int64_t *key, uint64_t *final_offset)
{
    return seen(r, sql_get_run(&reads(r)->conn.db, run, out, key, final_offset));
}

static enum err driver_events(struct reader *r, int64_t key, const struct scan *scan,
                              event_take_fn *take, void *ctx)
{
    return seen(r, sql_get_events(&reads(r)->conn.db, key, scan, take, ctx));
}

static enum err driver_list(struct reader *r, const struct journal_conv_list *ask,
                            list_take_fn *take, void *ctx)
{
    return seen(r, sql_get_list(&reads(r)->conn.db, ask, take, ctx));
}

static enum err driver_unfinished(struct reader *r, id_take_fn *take, void *ctx)
{
    return seen(r, sql_get_unfinished(&reads(r)->conn.db, take, ctx));
}

/* --- open and close --------------------------------------------------------------------------- */

static void driver_close(struct store **base)
{
    if (*base == NULL)
        return;
    struct sqlite_store *s = mine(*base);
    checkpoint_stop(s);
    conn_close(&s->writer); /* the last one moves the WAL into the file */
    arena_fini(&s->scratch);
    mem_free(s);
    *base = NULL;
}

static const struct driver driver = {
    .name = "sqlite",
    .readers_count = 2,
    .close = driver_close,
    .begin = driver_begin,
    .look = driver_look,
    .write = driver_write,
    .commit = driver_commit,
    .rollback = driver_rollback,
    .recover = driver_recover,
    .reserve_release = driver_reserve_release,
    .reserve_take = driver_reserve_take,
    .tidy = driver_tidy,
    .reader_open = driver_reader_open,
    .reader_close = driver_reader_close,
    .read_begin = driver_read_begin,
    .read_end = driver_read_end,
    .conv = driver_conv,
    .members = driver_members,
    .runs = driver_runs,
    .run = driver_run,
    .events = driver_events,
    .list = driver_list,
    .unfinished = driver_unfinished,
};

static bool path_make(char out[PATH_BYTES_MAX], const char *data_dir, const char *name)
{
    struct buf b;
    buf_init_fixed(&b, out, PATH_BYTES_MAX);
    buf_text(&b, data_dir);
    buf_text(&b, name);
    buf_byte(&b, 0);
    return !b.failed;
}

static enum err store_open(struct sqlite_store *s, struct buf *message)
{
    enum err err = writer_open(s);
    if (err != ERR_OK)
        return err;
    struct migrate_port port = {.ctx = &s->writer,
                                .plain = plain,
                                .number = number,
                                .key_type = "integer primary key",
                                .narrow_type = "without rowid"};
    err = migrate(&port, wall_now_ms(), message);
    if (err == ERR_OK)
        err = sql_meta(&s->writer.db, &s->store);
    if (err == ERR_OK)
        err = checkpoint_start(s);
    return err;
}

enum err sqlite_open(const char *data_dir, struct store **out, struct buf *message)
{
    struct sqlite_store *s = mem_new_zero(sizeof(*s));
    if (s == NULL)
        return ERR_FULL;
    s->store.driver = &driver;
    enum err err = arena_grow_init(&s->scratch, 1 << 16, SCRATCH_BYTES_MAX);
    if (err == ERR_OK && (!path_make(s->path, data_dir, "/kith.db") ||
                          !path_make(s->reserve_path, data_dir, "/reserve")))
        err = ERR_IO;
    if (err == ERR_OK)
        err = store_open(s, message);
    if (err == ERR_OK) {
        *out = &s->store;
        return ERR_OK;
    }
    if (message->count == 0)
        buf_printf(message, "%s cannot be opened or is damaged: %s", s->path, err_name(err));
    struct store *opened = &s->store;
    driver_close(&opened);
    return err;
}
