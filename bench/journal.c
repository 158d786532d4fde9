/* Durable operations a second and CPU an operation: the journal through its public door, beside a
 * bare SQLite loop that writes the same rows with the same commits in the same run, and beside what
 * the disk takes for one fdatasync.
 *
 *     bench/journal [FOLDER [SECONDS]]
 *
 * An operation is half a turn: a user's message (event, cid, run, the conversation's head) or the
 * end of its run (event, run, head). The bare loop checks nothing, answers nobody, and knows its
 * row numbers; everything the journal promises is in the difference. */
#include "base/mem.h"
#include "diag/diag.h"
#include "journal/journal.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONVS = 2000, FLYING = 256, TEXT_BYTES = 200, SAMPLES_MAX = 1 << 20, FSYNCS = 500 };

struct figures {
    uint64_t ops;
    uint64_t commits;
    double seconds;
    double cpu_seconds;
    int64_t p50_ns;
    int64_t p99_ns;
};

static double cpu_now(void)
{
    struct rusage u;
    CHECK(getrusage(RUSAGE_SELF, &u) == 0);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int by_size(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

static void percentiles(int64_t *samples, size_t count, struct figures *f)
{
    if (count == 0)
        return;
    qsort(samples, count, sizeof(*samples), by_size);
    f->p50_ns = samples[count / 2];
    f->p99_ns = samples[count * 99 / 100];
}

static struct id id_of(const char *prefix, uint64_t number)
{
    char text[ID_BYTES_MAX];
    struct id out;
    int count = snprintf(text, sizeof(text), "%s%026llu", prefix, (unsigned long long)number);
    CHECK(id_parse(bytes_make(text, (size_t)count), &out) == ERR_OK);
    return out;
}

/* --- the disk --------------------------------------------------------------------------------- */

static void disk_run(const char *folder, struct figures *f)
{
    static int64_t samples[FSYNCS];
    char path[8192];
    char block[4096];
    memset(block, 'x', sizeof(block));
    (void)snprintf(path, sizeof(path), "%s/fsync", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    struct mono began = mono_now();
    for (int i = 0; i < FSYNCS; i++) {
        struct mono before = mono_now();
        CHECK(write(fd, block, sizeof(block)) == (ssize_t)sizeof(block));
        CHECK(fdatasync(fd) == 0);
        samples[i] = mono_now().ns - before.ns;
    }
    f->ops = FSYNCS;
    f->commits = FSYNCS;
    f->seconds = (double)(mono_now().ns - began.ns) / 1e9;
    percentiles(samples, FSYNCS, f);
    (void)close(fd);
    (void)unlink(path);
}

/* --- the journal ------------------------------------------------------------------------------ */

struct bench {
    struct journal *journal;
    struct engine *engine;
    struct id app;
    struct name user;
    struct name node;
    struct blob *text;
    uint64_t number;
    uint64_t answered;
    uint32_t flying;
    bool ends;
    int64_t *samples;
    size_t samples_count;
};

static void conv_ask(struct bench *b, uint32_t conv)
{
    struct journal_conv_create *o = JOURNAL_NEW(CONV_CREATE, journal_conv_create, PORT_TALK);
    o->app = b->app;
    o->user = b->user;
    o->conv = id_of("c_", conv);
    o->persona = id_of("p_", 1);
    o->now_ms = 1;
    memcpy(o->epoch_random, "abcdefghijk", sizeof(o->epoch_random));
    b->flying++;
    journal_ask(b->journal, b->engine, o);
}

static void say_ask(struct bench *b)
{
    uint64_t number = b->number++;
    struct journal_append *o = JOURNAL_NEW(APPEND, journal_append, PORT_TALK);
    o->app = b->app;
    o->conv = id_of("c_", number * 7 % CONVS);
    o->sender = b->user;
    o->cid = id_of("x_", number);
    o->content_hash = number;
    o->events_count = 1;
    o->events[0].kind = EVENT_MSG;
    o->events[0].msg = id_of("m_", 2 * number);
    o->events[0].parent = id_of("m_", number);
    o->events[0].payload = blob_ref(b->text);
    o->set_head = true;
    o->head_msg = o->events[0].msg;
    o->has_run = true;
    o->queued_max = 8;
    o->run.run = id_of("r_", number);
    o->run.msg = id_of("m_", 2 * number + 1);
    o->run.parent = o->head_msg;
    o->run.persona = id_of("p_", 1);
    o->run.asked_by = b->user;
    o->node = b->node;
    o->last.count = 40;
    memset(o->last.at, 'x', 40);
    o->now_ms = 1000;
    o->head.tag = number;
    b->flying++;
    journal_ask(b->journal, b->engine, o);
}

static void end_ask(struct bench *b, const struct journal_append *said)
{
    struct journal_finish *o = JOURNAL_NEW(FINISH, journal_finish, PORT_TALK);
    o->conv = said->conv;
    o->run = said->run.run;
    o->attempt = said->run.attempt;
    o->event.payload = blob_ref(b->text);
    o->set_head = true;
    o->now_ms = 1000;
    o->node = b->node;
    o->last = said->last;
    b->flying++;
    journal_ask(b->journal, b->engine, o);
}

static void answer_take(void *ctx, struct msg *m)
{
    struct bench *b = ctx;
    struct journal_op *op = CONTAINER_OF(m, struct journal_op, msg);
    CHECK(op->err == ERR_OK);
    CHECK(op->outcome == JOURNAL_DONE);
    b->flying--;
    b->answered++;
    if (b->samples_count < SAMPLES_MAX)
        b->samples[b->samples_count++] = mono_now().ns - op->asked_ns;
    if (op->op == JOURNAL_APPEND)
        end_ask(b, (const void *)op);
    else if (op->op == JOURNAL_FINISH && !b->ends)
        say_ask(b);
    msg_free(m);
}

static void flown(struct bench *b)
{
    while (b->flying > 0)
        engine_step(b->engine, -1);
}

static void journal_start(struct bench *b, const char *folder)
{
    char text[512] = "";
    struct buf message;
    struct config c = {.journal_batch_max = 256,
                       .journal_pending_max = 20000,
                       .store = "sqlite",
                       .data_dir = folder};
    buf_init_fixed(&message, text, sizeof(text) - 1);
    engine_listen(b->engine, PORT_TALK, answer_take, b);
    if (journal_open(&c, &b->journal, &message) != ERR_OK) {
        (void)fprintf(stderr, "%s\n", text);
        exit(1);
    }
    for (uint32_t i = 0; i < CONVS; i++)
        conv_ask(b, i);
    flown(b);
}

static void bench_init(struct bench *b)
{
    *b =
        (struct bench){.engine = engine_at(0), .app = id_of("a_", 1), .text = blob_new(TEXT_BYTES)};
    b->samples = mem_new(sizeof(*b->samples) * SAMPLES_MAX);
    CHECK(b->text != NULL);
    CHECK(b->samples != NULL);
    CHECK(name_parse(bytes_of("u_01HZX7Q2M8S5V9K3T6W4YB1CDE"), &b->user) == ERR_OK);
    CHECK(name_parse(bytes_of("node-1"), &b->node) == ERR_OK);
    memset(b->text->at, 'x', TEXT_BYTES);
    b->text->count = TEXT_BYTES;
    b->samples_count = SAMPLES_MAX; /* nothing is sampled yet */
}

static void bench_fini(struct bench *b)
{
    blob_unref(&b->text);
    mem_free(b->samples);
}

/* One slice; answers the operations of a commit in it. */
static uint64_t journal_slice(struct bench *b, int64_t slice_ms, struct figures *f)
{
    uint64_t ops = b->answered;
    uint64_t commits = diag_counter_sum(DIAG_C_journal_commits);
    struct mono began = mono_now();
    double cpu = cpu_now();
    b->ends = false;
    for (int i = 0; i < FLYING; i++)
        say_ask(b);
    while (mono_since_ms(began, mono_now()) < slice_ms)
        engine_step(b->engine, -1);
    f->seconds += (double)(mono_now().ns - began.ns) / 1e9;
    f->cpu_seconds += cpu_now() - cpu;
    ops = b->answered - ops;
    commits = diag_counter_sum(DIAG_C_journal_commits) - commits;
    f->ops += ops;
    f->commits += commits;
    b->ends = true;
    flown(b);
    return (ops + commits / 2) / commits;
}

/* --- a bare loop over the same tables --------------------------------------------------------- */

enum bare { BARE_EVENT, BARE_CID, BARE_RUN, BARE_SAID, BARE_END, BARE_ENDED, BARES };
static const char *const bare_texts[BARES] = {
    "insert into events (conv, n, kind, msg, parent, promised, by_usr, run, payload)"
    " values (?, ?, 1, ?, ?, ?, ?, ?, ?)",
    "insert into cids (conv, key, content, n, msg, run) values (?, ?, ?, ?, ?, ?)",
    "insert into runs (run, conv, msg, parent, persona, model, asked_by, cause, continues, state,"
    " attempt, seq, created_ms, node, final_n)"
    " values (?, ?, ?, ?, ?, '', ?, 0, '', 1, 1, ?, 1000, 'node-1', 0)",
    "update conversations set top = ?, head = ?, last = ?, last_ts = 1000, updated_ms = 1000"
    " where id = ?",
    "update runs set state = 2, final_n = ? where run = ?",
    "update conversations set top = ?, head = ?, last = ?, last_ts = 1000, updated_ms = 1000"
    " where id = ?",
};

struct bare_loop {
    sqlite3 *db;
    sqlite3_stmt *statements[BARES];
    uint64_t tops[CONVS + 1];
    uint64_t said;
    uint64_t ended;
    char text[TEXT_BYTES];
};

static void bind_id(sqlite3_stmt *s, int place, const struct id *i)
{
    CHECK(sqlite3_bind_text(s, place, i->at, i->count, SQLITE_STATIC) == SQLITE_OK);
}

static void bare_step(sqlite3_stmt *s)
{
    CHECK(sqlite3_step(s) == SQLITE_DONE);
    CHECK(sqlite3_reset(s) == SQLITE_OK);
}

static void bare_event(struct bare_loop *l, int conv, const struct id *msg, const struct id *parent,
                       const struct id *promised, const struct id *run)
{
    sqlite3_stmt *s = l->statements[BARE_EVENT];
    (void)sqlite3_clear_bindings(s);
    (void)sqlite3_bind_int64(s, 1, conv);
    (void)sqlite3_bind_int64(s, 2, (int64_t)++l->tops[conv]);
    bind_id(s, 3, msg);
    bind_id(s, 4, parent);
    if (promised != NULL)
        bind_id(s, 5, promised);
    if (promised != NULL)
        (void)sqlite3_bind_text(s, 6, "u_01HZX7Q2M8S5V9K3T6W4YB1CDE", -1, SQLITE_STATIC);
    if (run != NULL)
        bind_id(s, 7, run);
    (void)sqlite3_bind_blob(s, 8, l->text, TEXT_BYTES, SQLITE_STATIC);
    bare_step(s);
}

static void bare_head(struct bare_loop *l, enum bare which, int conv, const struct id *head)
{
    sqlite3_stmt *s = l->statements[which];
    (void)sqlite3_bind_int64(s, 1, (int64_t)l->tops[conv]);
    bind_id(s, 2, head);
    (void)sqlite3_bind_blob(s, 3, l->text, 40, SQLITE_STATIC);
    (void)sqlite3_bind_int64(s, 4, conv);
    bare_step(s);
}

static void bare_say(struct bare_loop *l, uint64_t number)
{
    int conv = (int)(number * 7 % CONVS) + 1;
    struct id msg = id_of("m_", 2 * number);
    struct id answer = id_of("m_", 2 * number + 1);
    struct id parent = id_of("m_", number);
    struct id run = id_of("r_", number);
    struct id persona = id_of("p_", 1);
    uint64_t key[2] = {number * 0x9e3779b97f4a7c15, number};
    bare_event(l, conv, &msg, &parent, &answer, NULL);
    sqlite3_stmt *s = l->statements[BARE_CID];
    (void)sqlite3_bind_int64(s, 1, conv);
    (void)sqlite3_bind_blob(s, 2, key, sizeof(key), SQLITE_STATIC);
    (void)sqlite3_bind_int64(s, 3, (int64_t)number);
    (void)sqlite3_bind_int64(s, 4, (int64_t)l->tops[conv]);
    bind_id(s, 5, &msg);
    bind_id(s, 6, &run);
    bare_step(s);
    s = l->statements[BARE_RUN];
    bind_id(s, 1, &run);
    (void)sqlite3_bind_int64(s, 2, conv);
    bind_id(s, 3, &answer);
    bind_id(s, 4, &msg);
    bind_id(s, 5, &persona);
    (void)sqlite3_bind_text(s, 6, "u_01HZX7Q2M8S5V9K3T6W4YB1CDE", -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(s, 7, (int64_t)l->tops[conv]);
    bare_step(s);
    bare_head(l, BARE_SAID, conv, &msg);
}

static void bare_end(struct bare_loop *l, uint64_t number)
{
    int conv = (int)(number * 7 % CONVS) + 1;
    struct id msg = id_of("m_", 2 * number);
    struct id answer = id_of("m_", 2 * number + 1);
    struct id run = id_of("r_", number);
    bare_event(l, conv, &answer, &msg, NULL, &run);
    sqlite3_stmt *s = l->statements[BARE_END];
    (void)sqlite3_bind_int64(s, 1, (int64_t)l->tops[conv]);
    bind_id(s, 2, &run);
    bare_step(s);
    bare_head(l, BARE_ENDED, conv, &answer);
}

static void plain(sqlite3 *db, const char *text)
{
    CHECK(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK);
}

static void bare_open(struct bare_loop *l, const char *folder)
{
    char path[8192];
    (void)snprintf(path, sizeof(path), "%s/kith.db", folder);
    CHECK(sqlite3_open_v2(path, &l->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) ==
          SQLITE_OK);
    plain(l->db, "pragma synchronous=full; pragma temp_store=memory; pragma cache_size=-32768;"
                 "pragma wal_autocheckpoint=4000;");
    for (int i = 0; i < BARES; i++)
        CHECK(sqlite3_prepare_v3(l->db, bare_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                 &l->statements[i], NULL) == SQLITE_OK);
    memset(l->text, 'x', sizeof(l->text));
}

static void bare_close(struct bare_loop *l)
{
    for (int i = 0; i < BARES; i++)
        (void)sqlite3_finalize(l->statements[i]);
    CHECK(sqlite3_close(l->db) == SQLITE_OK);
}

/* `commit_ops` half turns a commit: messages, and the ends of those that are old enough. */
static void bare_slice(struct bare_loop *l, int64_t slice_ms, uint64_t commit_ops,
                       struct figures *f)
{
    struct mono began = mono_now();
    double cpu = cpu_now();
    while (mono_since_ms(began, mono_now()) < slice_ms) {
        plain(l->db, "begin immediate");
        for (uint64_t i = 0; i < commit_ops; i++) {
            if (l->said - l->ended >= FLYING || (i % 2 == 1 && l->said > l->ended))
                bare_end(l, l->ended++);
            else
                bare_say(l, l->said++);
        }
        plain(l->db, "commit");
        f->commits++;
        f->ops += commit_ops;
    }
    f->seconds += (double)(mono_now().ns - began.ns) / 1e9;
    f->cpu_seconds += cpu_now() - cpu;
}

/* --- the table -------------------------------------------------------------------------------- */

static void line(const char *name, const struct figures *f)
{
    (void)printf("%-22s %10.0f %10.0f %8.1f %10.1f %9.2f %9.2f\n", name,
                 (double)f->ops / f->seconds, (double)f->commits / f->seconds,
                 (double)f->ops / (double)f->commits, f->cpu_seconds * 1e6 / (double)f->ops,
                 (double)f->p50_ns / 1e6, (double)f->p99_ns / 1e6);
}

static void folder_empty(const char *folder)
{
    static const char *const names[] = {"kith.db", "kith.db-wal", "kith.db-shm", "reserve", "lock"};
    char path[8192];
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
}

/* Slices of both in turn, so that a neighbour's load falls on both. */
static void compare(const char *ours_folder, const char *bare_folder, int seconds,
                    struct figures *ours, struct figures *bare)
{
    struct bench b;
    struct bare_loop *l = mem_new_zero(sizeof(*l));
    CHECK(l != NULL);
    bench_init(&b);
    journal_start(&b, bare_folder); /* the tables and conversations for the bare loop */
    journal_close(&b.journal);
    bare_open(l, bare_folder);
    journal_start(&b, ours_folder);
    b.samples_count = 0;
    for (int i = 0; i < seconds; i++) {
        uint64_t commit_ops = journal_slice(&b, 1000, ours);
        bare_slice(l, 1000, commit_ops, bare);
    }
    percentiles(b.samples, b.samples_count, ours);
    journal_close(&b.journal);
    bare_close(l);
    bench_fini(&b);
    mem_free(l);
}

static void folder_make(char out[4096], const char *folder, const char *name)
{
    (void)snprintf(out, 4096, "%s/%s", folder, name);
    (void)mkdir(out, 0700); /* it may be there */
    folder_empty(out);
}

int main(int count, char **words)
{
    const char *folder = count > 1 ? words[1] : "build/bench-journal";
    int seconds = count > 2 ? atoi(words[2]) : 10;
    char ours_folder[4096];
    char bare_folder[4096];
    struct figures disk = {0};
    struct figures ours = {0};
    struct figures bare = {0};
    diag_init("error");
    CHECK(engines_make(1, 7) == ERR_OK);
    (void)mkdir(folder, 0700); /* it may be there */
    folder_make(ours_folder, folder, "journal");
    folder_make(bare_folder, folder, "bare");
    disk_run(folder, &disk);
    compare(ours_folder, bare_folder, seconds, &ours, &bare);
    (void)printf("%-22s %10s %10s %8s %10s %9s %9s\n", "", "ops/s", "commits/s", "ops/c",
                 "cpu us/op", "p50 ms", "p99 ms");
    line("fdatasync of 4 KiB", &disk);
    line("bare SQLite loop", &bare);
    line("journal", &ours);
    (void)printf("%-22s %10.2f %10s %8s %10.2f %9s %9.2f\n", "journal / floor",
                 (double)ours.ops / ours.seconds / ((double)bare.ops / bare.seconds), "", "",
                 ours.cpu_seconds / (double)ours.ops / (bare.cpu_seconds / (double)bare.ops), "",
                 (double)ours.p99_ns / (double)disk.p99_ns);
    engines_free();
    folder_empty(ours_folder);
    folder_empty(bare_folder);
    (void)rmdir(ours_folder);
    (void)rmdir(bare_folder);
    (void)rmdir(folder);
    return 0;
}
