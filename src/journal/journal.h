/* journal: the durable, ordered log of every conversation and the tables around it. Truth lives
 * here; what engines keep in memory is a cache.
 *
 * Owner   : the process. journal_open before the engines start, journal_close after they stopped.
 * Thread  : journal_ask from any engine. Answers come back to the asking engine's port as the very
 *           same message, filled in, in a later turn. Writes go through one writer thread that
 *           commits in groups; reads through reader threads on their own snapshot.
 * Memory  : an operation owns its blobs; journal_op_free (= msg_free) gives everything back.
 * Errors  : in op->err. ERR_OK: look at the outcome. ERR_FULL: nothing was stored, ask later (too
 *           many waiting, disk full). ERR_IO: nothing was stored. ERR_UNCERTAIN: it may have been
 *           stored; ask again with the same cid (or attempt) and it will tell.
 * Order   : writes of one conversation are carried out in the order they were asked. A read sees
 *           every write that was answered before the read was asked.
 * Limits  : store.pending waiting operations, store.batch in one commit.
 * Source  : group commit (DeWitt et al. 1984); docs/ARCHITECTURE.md, "The log".
 *
 * No statement of a batch may raise: uniqueness and conditions go by ON CONFLICT DO NOTHING, WHERE
 * and RETURNING, so that strangers in a batch never hurt each other. The SQL is the kind that
 * SQLite (>= 3.40) and PostgreSQL (>= 15) share. */
#ifndef JOURNAL_JOURNAL_H
#define JOURNAL_JOURNAL_H

#include "base/base.h"
#include "base/blob.h"
#include "base/id.h"
#include "base/pool.h"
#include "config/config.h"
#include "engine/engine.h"

struct journal;

/* "random.gN": the conversation's random part, a dot, the store's generation. */
#define EPOCH_BYTES_MAX 24
struct epoch {
    uint8_t count;
    char at[EPOCH_BYTES_MAX];
};

#define JOURNAL_EXCERPT_BYTES_MAX 160
#define JOURNAL_TITLE_BYTES_MAX   4096
#define JOURNAL_APPEND_EVENTS_MAX 2
#define JOURNAL_PAGE_MAX          1000

/* X(NAME, kind of thread): every operation. W = writer, R = reader. */
#define JOURNAL_OPS(X) \
    X(CONV_CREATE, W)  \
    X(APPEND, W)       \
    X(REFUSE, W)       \
    X(FINISH, W)       \
    X(TAKE, W)         \
    X(CHECKPOINT, W)   \
    X(CONV_UPDATE, W)  \
    X(CONV_DELETE, W)  \
    X(READ_SET, W)     \
    X(USER_SEEN, W)    \
    X(CONV_LOAD, R)    \
    X(EVENTS, R)       \
    X(PATH, R)         \
    X(CONV_LIST, R)    \
    X(RUN_GET, R)      \
    X(UNFINISHED, R)

enum journal_op_kind {
#define JOURNAL_ENUM(name, thread) JOURNAL_##name,
    JOURNAL_OPS(JOURNAL_ENUM)
#undef JOURNAL_ENUM
        JOURNAL_OPS_COUNT
};

/* What business rules decided, when err is ERR_OK. */
enum journal_outcome {
    JOURNAL_DONE,      /* it happened now */
    JOURNAL_DUPLICATE, /* this cid was seen: the first result is filled in */
    JOURNAL_CID_OTHER, /* this cid was seen with another content */
    JOURNAL_REFUSED,   /* this cid was refused for good: `refusal` holds the reason JSON */
    JOURNAL_BUSY,      /* during_run forbids it, or runs_queued_max wait already */
    JOURNAL_NOT_MEMBER,
    JOURNAL_GONE, /* no such conversation, or it is deleted or of another app */
    JOURNAL_LOST  /* another attempt is in charge, or it ended already */
};

/* Every operation starts with this. `port` of the msg = where the answer goes; `tag` is the
 * asker's own. */
struct journal_op {
    struct msg msg;
    enum journal_op_kind op;
    enum err err;
    enum journal_outcome outcome;
    uint64_t tag;
    struct handle handle; /* the asker's, given back as it was */
    int64_t asked_ns;     /* set by journal_ask, for the histograms */
    struct engine *asker; /* set by journal_ask: who gets the answer */
};

/* --- shared pieces ---------------------------------------------------------------------------- */

enum run_state { RUN_QUEUED, RUN_ACTIVE, RUN_ENDED };
enum run_cause { RUN_CAUSE_SEND, RUN_CAUSE_REGENERATE, RUN_CAUSE_CONTINUE };
const char *run_cause_name(enum run_cause c);

/* A run's row. The finer states (thinking, writing) live in talk and travel as ephemeral events. */
struct run_row {
    struct id conv;
    struct id run;
    struct id msg;    /* the id its answer will have */
    struct id parent; /* the message it answers */
    struct id persona;
    struct name model_name;
    struct name asked_by;
    enum run_cause cause;
    struct id continues; /* RUN_CAUSE_CONTINUE: the message whose text is gone on from */
    enum run_state state;
    uint32_t attempt;
    uint64_t seq; /* order of waiting in the conversation */
    int64_t created_ms;
    struct blob *partial; /* the last checkpoint's text; NULL = none */
};

/* The five kinds of durable events; the numbers are stored. */
enum event_kind {
    EVENT_NONE = 0,
    EVENT_MSG = 1,
    EVENT_RUN = 2,
    EVENT_TOOL = 3,
    EVENT_REDACT = 4,
    EVENT_STATE = 5
};

/* One event of a log. To append a message: `kind`, `msg`, `parent` and `payload`; to append
 * anything else: `kind` and `payload`. What an operation's run promises is filled in by the journal
 * (an EVENT_MSG gets `promised` = run.msg; an EVENT_RUN gets `msg` = run.msg and `parent` =
 * run.parent), and so is all but `payload` of the final message of FINISH, out of the run's row. */
struct journal_event {
    uint64_t offset;
    enum event_kind kind;
    struct id msg;        /* EVENT_MSG: its id; EVENT_RUN: the id of the answer that began */
    struct id parent;     /* of `msg`; empty = it is a root */
    struct id promised;   /* EVENT_MSG that starts an answer: the id the answer will have */
    struct blob *payload; /* the event's JSON object without an offset */
};

/* --- writes ----------------------------------------------------------------------------------- */

struct journal_conv_create {
    struct journal_op head;
    struct id app;
    struct name user; /* becomes owner */
    struct id cid;    /* empty = none; unique per (app, user) for ever */
    struct id conv;   /* in: the new id; out: the first one's id on DUPLICATE */
    struct id persona;
    struct blob *title;   /* may be NULL = "" */
    struct blob *meta;    /* JSON, may be NULL */
    struct name *members; /* further members (mem), may be NULL */
    uint32_t members_count;
    int64_t now_ms;
    char epoch_random[12]; /* in: 11 characters and NUL for the conversation's part of the epoch */
    struct epoch epoch;    /* out */
    int64_t created_ms;    /* out */
};

/* One or two events in one transaction, with everything they depend on. Asked in this order, and
 * the first that says no decides: conversation and app (GONE), member (NOT_MEMBER), cid (DUPLICATE,
 * CID_OTHER, REFUSED), run (LOST: its id was used; BUSY). Then nothing is stored, and the cid is
 * not taken. */
struct journal_append {
    struct journal_op head;
    struct id app;
    struct id conv;
    struct name sender;
    struct id cid;         /* empty = none */
    uint64_t content_hash; /* of what the cid stands for */
    uint32_t events_count;
    struct journal_event events[JOURNAL_APPEND_EVENTS_MAX]; /* payload in; offset out */
    bool set_head;                                          /* the shown head becomes head_msg */
    struct id head_msg;
    bool has_run;
    bool refuse_when_busy; /* during_run: reject */
    uint32_t queued_max;
    struct run_row run; /* in; state, attempt and seq out */
    struct name node;
    struct bytes_excerpt {
        uint8_t count;
        char at[JOURNAL_EXCERPT_BYTES_MAX];
    } last; /* last line for lists; count 0 = unchanged */
    int64_t now_ms;
    /* out */
    uint64_t offset;     /* of the first event; on DUPLICATE the first time's */
    struct id first_msg; /* DUPLICATE: ids of the first time */
    struct id first_run;
    struct blob *refusal;  /* REFUSED */
    uint32_t queued_ahead; /* runs that go before this one (active one included) */
};

/* Keeps a final refusal for its cid for 24 h. DONE: kept. REFUSED: one was kept earlier and stands
 * in `refusal` now. DUPLICATE: the cid was accepted once, the first result is filled in. CID_OTHER,
 * NOT_MEMBER and GONE as in APPEND. */
struct journal_refuse {
    struct journal_op head;
    struct id app;
    struct id conv;
    struct name sender;
    struct id cid;
    uint64_t content_hash;
    struct blob *refusal; /* the reason's JSON; on REFUSED the first one */
    int64_t now_ms;
    /* out, DUPLICATE */
    uint64_t offset;
    struct id first_msg;
    struct id first_run;
};

/* Ends a run (queued or active) with its one final msg. LOST: it ended already, or another attempt
 * is in charge; a queued run that became active meanwhile has attempt 1, not 0. */
struct journal_finish {
    struct journal_op head;
    struct id conv;
    struct id run;
    uint32_t attempt; /* must be the row's: 0 for a queued run, which ends without a next */
    struct journal_event event; /* payload in, offset out */
    bool set_head;              /* head becomes the answer */
    struct bytes_excerpt last;
    int64_t now_ms;
    struct name node;
    /* out */
    bool has_next; /* the next waiting run became active in the same transaction */
    struct run_row next;
};

/* Takes an orphan: attempt + 1 when the row is active and still has `attempt`, else LOST. */
struct journal_take {
    struct journal_op head;
    struct id conv;
    struct id run;
    uint32_t attempt; /* in: the row's; out: the new one */
    struct name node;
};

/* Keeps the text of an active run, never a shorter one than it has. LOST as in FINISH. */
struct journal_checkpoint {
    struct journal_op head;
    struct id conv;
    struct id run;
    uint32_t attempt;
    struct blob *text; /* all of the answer so far */
    int64_t now_ms;
};

/* A member changes what the flags name. `updated` stays: it says when something was said. */
struct journal_conv_update {
    struct journal_op head;
    struct id app;
    struct id conv;
    struct name user;
    bool set_title;
    struct blob *title;
    struct blob *event; /* `state` event to append, or NULL (archived, persona: no event) */
    bool set_archived;  /* of this member */
    bool archived;
    bool set_persona;
    struct id persona;
    int64_t now_ms;
    uint64_t offset; /* out, when there was an event */
};

/* Gone at once for everybody, with its runs; the rows are removed in the background. NOT_MEMBER
 * also for members who are not the owner. */
struct journal_conv_delete {
    struct journal_op head;
    struct id app;
    struct id conv;
    struct name user; /* must be owner */
    int64_t now_ms;
};

struct journal_read_set {
    struct journal_op head;
    struct id conv;
    struct name user;
    uint64_t offset; /* monotone: a smaller one changes nothing; over the top counts as the top */
};

/* Makes or refreshes the user's row; nothing is written when nothing changed within the hour. An
 * empty `display` leaves the name as it was. */
struct journal_user_seen {
    struct journal_op head;
    struct id app;
    struct name user;
    struct name display;
    bool guest;
    int64_t now_ms;
};

/* --- reads ------------------------------------------------------------------------------------ */

struct conv_member {
    struct name user;
    bool owner;
    bool archived;
    uint64_t read_offset;
};

struct conv_row {
    struct id app;
    struct id conv;
    struct id persona;
    struct id head_msg; /* the shown head; empty = nothing said yet */
    struct epoch epoch;
    uint64_t offset; /* top of the log */
    int64_t last_ts_ms;
    int64_t created_ms;
    int64_t updated_ms;
    uint8_t mode;       /* 0 = ai */
    struct blob *title; /* never NULL */
    struct blob *meta;  /* or NULL */
};

struct journal_conv_load {
    struct journal_op head;
    struct id conv;
    /* out: NOT loaded with outcome GONE */
    struct conv_row row;
    struct conv_member *members; /* mem */
    uint32_t members_count;
    struct run_row *runs; /* unfinished ones, active first, then by seq (mem) */
    uint32_t runs_count;
};

/* Durable events after `after`, ascending, at most events_max and bytes_max (at least one). */
struct journal_events {
    struct journal_op head;
    struct id conv;
    uint64_t after;
    uint64_t before; /* 0 = none; with reverse: offsets < before, descending */
    bool reverse;
    uint32_t events_max;
    uint32_t bytes_max;
    struct journal_event *events; /* out (mem) */
    uint32_t events_count;
    uint64_t top; /* out: the log's top in the same snapshot */
    bool more;    /* out: a limit cut it */
};

/* A message on a path. `payload` is the stored msg event. For a message that is promised but not
 * yet said it is NULL and `offset` is 0: only `msg` and `parent` are known. */
struct path_message {
    uint64_t offset;
    struct id msg;
    struct id parent;
    struct blob *payload;
    struct id *siblings; /* all children of `parent` as they were first mentioned, promised ones and
                            itself included (mem) */
    uint32_t siblings_count;
};

/* The shown path: from `from` (empty = the conversation's head) towards the root, oldest first, the
 * last `limit` of it that stand before the message with offset `before` (0 = from the end). GONE:
 * no such conversation, or, when row.conv is set, nobody ever mentioned `from`. Promised messages
 * are on it like others; since one has no offset to go on from, a page does not begin with one,
 * even if it is shorter (or, holding nothing else, longer) for that. A parent may have a greater
 * offset than its child: an answer that was promised before, and said after, it. */
struct journal_path {
    struct journal_op head;
    struct id conv;
    struct id from;
    uint64_t before;
    uint32_t limit;     /* 0 = JOURNAL_PAGE_MAX, here and in all that follow */
    uint32_t bytes_max; /* of payloads; 0 = none; at least one message is given */
    bool with_siblings;
    /* out */
    struct conv_row row;
    struct path_message *messages; /* (mem) */
    uint32_t messages_count;
    uint64_t next; /* `before` for older ones; 0 = this is the start */
};

struct conv_item {
    struct id conv;
    struct id persona;
    struct id head_msg;
    struct blob *title;
    struct bytes_excerpt last;
    uint64_t offset;
    uint64_t unread; /* messages of others on the shown path after the read position, up to 99 */
    int64_t updated_ms;
    uint8_t mode;
    bool archived;
};

struct journal_conv_list {
    struct journal_op head;
    struct id app;
    struct name user;
    uint32_t limit;
    int64_t before_ms; /* with before_conv: the cursor; 0 = newest */
    struct id before_conv;
    struct blob *query;      /* part of the title or last line, any case; NULL = all */
    struct id only;          /* one conversation only; empty = all */
    struct conv_item *items; /* out (mem), newest first */
    uint32_t items_count;
    bool more;
};

struct journal_run_get {
    struct journal_op head;
    struct id run;
    struct run_row row;         /* out; outcome GONE when unknown */
    struct journal_event final; /* out: the final msg of an ended run */
};

/* Conversations that hold unfinished runs, at start. */
struct journal_unfinished {
    struct journal_op head;
    struct id *convs; /* out (mem) */
    uint32_t convs_count;
};

/* --- calls ------------------------------------------------------------------------------------ */

/* A zeroed operation with its drop function. */
#define JOURNAL_NEW(NAME, type, port) \
    ((struct type *)journal_op_new(JOURNAL_##NAME, sizeof(struct type), (port)))
void *journal_op_new(enum journal_op_kind op, size_t bytes, enum port port);

/* Every message kind of answers is this value in `msg.kind`. */
#define JOURNAL_MSG_KIND 1

/* Opens or makes the store, takes the lock on data_dir (waits 2 s, then ERR_CONFLICT and the
 * holder's pid in `message`), migrates; an older binary on a newer schema answers ERR_DENIED. */
enum err journal_open(const struct config *c, struct journal **out, struct buf *message) MUST_USE;
/* Carries out what is waiting, then closes. */
void journal_close(struct journal **j);

/* Takes the operation; `engine` gets the answer at op->msg.port. */
void journal_ask(struct journal *j, struct engine *engine, void *op);

uint32_t journal_pending(const struct journal *j);
bool journal_is_healthy(const struct journal *j); /* false while the store refuses writes */

/* Tests (test.hooks): the writer stops taking operations until told to go on. */
void journal_pause(struct journal *j, bool paused);

#endif
