/* journal, inside: what the writer, the readers and the drivers say to each other.
 *
 *     journal_ask --> inbox --> writer.c --> batch.c: waves --> driver: look
 *                                                  decide.c (pure)
 *                                                               driver: write, commit
 *                 --> inbox --> read.c  --> driver: scans, path.c
 *
 * Owner   : the journal owns one store; a store belongs to the writer thread, each reader to the
 *           thread that opened it.
 * Thread  : as said per function; nothing here is shared but what says so.
 * Memory  : `struct work` borrows its operation; facts own the blobs in them.
 * Errors  : ERR_FULL nothing was stored and there is no room; ERR_IO nothing was stored;
 *           ERR_UNCERTAIN (commit only) it may have been; ERR_CONFLICT the batch must be done
 *           again from its start.
 * Limits  : JOURNAL_BATCH_BYTES_MAX of payload in one commit. */
#ifndef JOURNAL_JOURNAL_PRIV_H
#define JOURNAL_JOURNAL_PRIV_H

#include "base/arena.h"
#include "base/map.h"
#include "journal/journal.h"

#define JOURNAL_BATCH_BYTES_MAX (8u << 20)
#define JOURNAL_REFUSAL_KEPT_MS (24 * 3600 * INT64_C(1000))
#define JOURNAL_SEEN_EVERY_MS   (3600 * INT64_C(1000))
#define JOURNAL_DUE_MS          (10 * 60 * INT64_C(1000))
#define CID_KEY_BYTES           16
#define EPOCH_RANDOM_BYTES      11
#define GENERATION_MAX          999999999

/* --- one write on its way --------------------------------------------------------------------- */

/* A cid's name in the tables: 128 bits of keyed hash over whose it is and the cid itself. */
struct cid_key {
    uint8_t at[CID_KEY_BYTES];
};

/* What the store knew about an operation before it: the answer to `look`. */
struct facts {
    bool has_conv;
    int64_t conv_key;
    struct id app;
    uint64_t top;
    int64_t last_ts_ms;
    int64_t updated_ms;
    bool has_member;
    bool is_owner;
    uint64_t read_offset;
    bool has_cid;
    uint64_t cid_content;
    uint64_t cid_offset;
    struct id cid_msg;
    struct id cid_run;
    bool has_refusal;
    uint64_t refusal_content;
    int64_t refusal_ms;
    struct blob *refusal;
    bool has_run;
    int64_t run_conv_key;
    enum run_state run_state;
    uint32_t run_attempt;
    struct id run_msg;
    struct id run_parent;
    bool has_part;
    uint32_t active_count;
    uint32_t waiting_count;
    /* CONV_CREATE: what the cid, or the id, named already */
    bool has_first;
    struct id first_conv;
    struct epoch first_epoch; /* its random part */
    int64_t first_created_ms;
};

/* What is to be written: one bit per kind of row. The order is the order of writing: an ended run
 * makes room for the next before that one becomes active. */
#define JOURNAL_TODOS(X)                         \
    X(CONV, "a conversation")                    \
    X(CONV_CID, "what a conv.create's cid made") \
    X(META, "the application's JSON")            \
    X(MEMBERS, "the first members")              \
    X(HEAD, "the top and shown head of a log")   \
    X(EVENTS, "events")                          \
    X(CID, "what a cid made")                    \
    X(REFUSAL, "why a cid was refused")          \
    X(RUN_END, "a run's end")                    \
    X(RUN_NEXT, "the next waiting run starts")   \
    X(RUN, "a run")                              \
    X(RUN_TAKE, "a new attempt of a run")        \
    X(PART, "a checkpoint")                      \
    X(PART_GONE, "no checkpoint any more")       \
    X(ABOUT, "title and persona")                \
    X(MEMBER, "read position, archived")         \
    X(CONV_GONE, "a deleted conversation")       \
    X(RUNS_GONE, "its unfinished runs, deleted") \
    X(MEMBERS_GONE, "its members, deleted")      \
    X(USER, "a user")

enum todo_place {
#define JOURNAL_TODO_PLACE(name, help) TODO_PLACE_##name,
    JOURNAL_TODOS(JOURNAL_TODO_PLACE)
#undef JOURNAL_TODO_PLACE
        TODO_PLACES_COUNT
};
enum todo {
#define JOURNAL_TODO_BIT(name, help) TODO_##name = 1 << TODO_PLACE_##name,
    JOURNAL_TODOS(JOURNAL_TODO_BIT)
#undef JOURNAL_TODO_BIT
};

#define WORK_KEYS_MAX 3

struct work {
    struct journal_op *op;
    uint32_t wave;
    uint64_t keys[WORK_KEYS_MAX]; /* hashes of what it touches: conversation, user, run */
    uint32_t keys_count;
    /* what to look for; NULL or false = nothing */
    const struct id *app;
    const struct id *conv;
    const struct name *user;
    const struct id *run;
    bool has_cid_key;
    struct cid_key cid_key;
    uint64_t content;
    uint64_t generation; /* of the store */
    /* what was found, and what follows from it */
    struct facts facts;
    enum err err; /* ERR_FULL: no memory for this one operation */
    uint32_t todo;
    struct journal_event *events; /* TODO_EVENTS: in the operation, offsets set */
    uint32_t events_count;
    struct journal_event state;  /* CONV_UPDATE's event stands here; its payload is borrowed */
    const struct id *events_run; /* the run that such an event ends, or NULL */
    uint64_t top;                /* TODO_HEAD: the new one */
    const struct id *head_msg;   /* NULL = as it was */
    const struct bytes_excerpt *last;
    int64_t last_ts_ms;
    int64_t updated_ms;
    uint64_t read_offset; /* TODO_MEMBER, READ_SET */
};

/* Sets w->todo, the operation's outcome and its results from w->facts. Pure. It may be called again
 * with other facts: what an operation brought along stays as it was. */
void decide(struct work *w);
/* After the commit: the results that stand where the operation's questions stood. */
void decide_settle(struct work *w);
/* The message that a cid stands for: the first one among the events, or none. */
const struct id *append_first_msg(const struct journal_append *o);

/* Fills the look-for part and the keys of `w`, from w->op. */
struct store;
void work_init(struct work *w, struct journal_op *op, const struct store *s);
void facts_fini(struct facts *f);

/* --- drivers ---------------------------------------------------------------------------------- */

struct driver;
struct reader;

/* Every driver's store and reader start with these. */
struct store {
    const struct driver *driver;
    uint64_t generation;
    uint64_t cid_secret[4];
};
struct reader {
    struct store *store;
};

/* An event as a scan lends it: valid during the callback only. */
struct event_view {
    uint64_t offset;
    enum event_kind kind;
    struct id msg;
    struct id parent;
    struct id promised;
    struct name by; /* has_by: the user who said it */
    bool has_by;
    bool ends_run;        /* the msg was promised before it was said */
    struct bytes payload; /* empty when the scan is narrow */
    struct blob *shared;  /* the payload as a blob, when the driver has one; else NULL */
};

struct scan {
    uint64_t after;  /* offsets > after */
    uint64_t before; /* offsets < before; 0 = no bound */
    bool reverse;
    bool narrow;
    uint32_t rows_max;
};

/* False = enough, the scan ends with ERR_OK. */
typedef bool event_take_fn(void *ctx, const struct event_view *e);

struct list_view {
    int64_t conv_key;
    uint64_t read_offset;
    struct bytes title;
    struct conv_item item; /* without title and unread */
};
typedef bool list_take_fn(void *ctx, const struct list_view *v);
typedef bool id_take_fn(void *ctx, const struct id *i);

/* What `commit` and the rest answer: see the head of this file. */
struct driver {
    const char *name;
    uint32_t readers_count; /* 0 = the writer thread reads, too */

    void (*close)(struct store **s);

    /* The writer thread. A batch is begin, (look, write) per wave, then commit or rollback. */
    enum err (*begin)(struct store *s);
    enum err (*look)(struct store *s, struct work **wave, uint32_t count);
    enum err (*write)(struct store *s, struct work **wave, uint32_t count);
    enum err (*commit)(struct store *s);
    void (*rollback)(struct store *s);
    /* After ERR_IO or ERR_UNCERTAIN: makes sure what is stored before anything else is said. */
    enum err (*recover)(struct store *s);
    /* Room on the disk that is held back: given free for what must be stored, taken again later. */
    void (*reserve_release)(struct store *s);
    enum err (*reserve_take)(struct store *s);
    /* One bounded step of cleaning up; sets *more while there is something left to do. */
    enum err (*tidy)(struct store *s, int64_t now_ms, bool *more);

    /* Readers, each in one thread. Everything between read_begin and read_end is one snapshot. */
    enum err (*reader_open)(struct store *s, struct reader **out);
    void (*reader_close)(struct reader **r);
    enum err (*read_begin)(struct reader *r);
    void (*read_end)(struct reader *r);
    /* ERR_NOT_FOUND: none. Results are the caller's. `conv` gives the epoch's random part. */
    enum err (*conv)(struct reader *r, const struct id *conv, int64_t *key, struct conv_row *out);
    enum err (*members)(struct reader *r, int64_t key, struct conv_member **out, uint32_t *count);
    enum err (*runs)(struct reader *r, int64_t key, const struct id *conv, struct run_row **out,
                     uint32_t *count);
    enum err (*run)(struct reader *r, const struct id *run, struct run_row *out, int64_t *key,
                    uint64_t *final_offset);
    enum err (*events)(struct reader *r, int64_t key, const struct scan *scan, event_take_fn *take,
                       void *ctx);
    enum err (*list)(struct reader *r, const struct journal_conv_list *ask, list_take_fn *take,
                     void *ctx);
    enum err (*unfinished)(struct reader *r, id_take_fn *take, void *ctx);
};

/* --- the pieces ------------------------------------------------------------------------------- */

/* Carries out `count` write operations in one transaction (or none) and sets their err and
 * outcome. ERR_OK, ERR_FULL, ERR_IO, ERR_UNCERTAIN: what was put into those that it concerns. */
struct batch;
struct batch *batch_new(uint32_t ops_max);
void batch_free(struct batch **b);
enum err batch_run(struct batch *b, struct store *s, struct journal_op **ops, uint32_t count);

/* Carries out one read operation. */
void read_run(struct reader *r, struct journal_op *op);

/* Messages of others on the path from `head` that were said after `read_offset`, up to 99. */
enum err path_unread(struct reader *r, int64_t key, const struct id *head, const struct name *user,
                     uint64_t read_offset, uint64_t *unread_out);
/* Events that a walk reads first; each further piece is twice the last. Tests make it small, before
 * they read. */
extern uint32_t path_chunk_rows;
enum err path_read(struct reader *r, int64_t key, struct journal_path *p);

/* True when `needle` stands in `text`, in any case. */
bool search_contains(struct bytes text, struct bytes needle);

struct lock {
    int fd;
};
/* Makes data_dir when it is missing and takes its lock. */
enum err lock_take(const char *data_dir, struct lock *out, struct buf *message) MUST_USE;
void lock_drop(struct lock *l);

enum err sqlite_open(const char *data_dir, struct store **out, struct buf *message) MUST_USE;

const char *journal_op_name(enum journal_op_kind k);
bool journal_op_is_write(enum journal_op_kind k);
void epoch_make(struct epoch *out, struct bytes random_part, uint64_t generation);
void journal_answer(struct journal *j, struct journal_op *op);

/* --- the store in memory, and how tests hurt it ----------------------------------------------- */

/* Faults of the n-th batch from now (1 = the next) that has something to commit. */
enum memstore_fault {
    MEMSTORE_NONE,
    MEMSTORE_FULL,             /* the commit finds no room; nothing was stored */
    MEMSTORE_IO,               /* the commit fails; nothing was stored */
    MEMSTORE_UNCERTAIN_STORED, /* in doubt, and it was stored */
    MEMSTORE_UNCERTAIN_LOST,   /* in doubt, and it was not */
    MEMSTORE_CONFLICT,         /* somebody was first: the batch is done again */
    MEMSTORE_CRASH_STORED,     /* the process dies after the commit: no answer, ever */
    MEMSTORE_CRASH_LOST        /* the process dies before it */
};

/* A store in memory that may outlive the journals opened on it, as a disk outlives a process. */
struct memstore;
struct memstore *memstore_new(void) MUST_USE;
void memstore_free(struct memstore **m);
void memstore_inject(struct memstore *m, enum memstore_fault fault, uint32_t after_batches);
bool memstore_has_crashed(const struct memstore *m);
/* The process that crashed starts again. */
void memstore_restart(struct memstore *m);
struct store *memstore_store(struct memstore *m);

/* journal_open on a store that is open already; `own` = journal_close closes it. */
enum err journal_open_store(const struct config *c, struct store *s, bool own, struct journal **out)
    MUST_USE;

#endif
