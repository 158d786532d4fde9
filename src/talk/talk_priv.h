/* The inside of talk: a conversation, a run, a unit of work that waits for the journal, an inbox.
 *
 * Order: writes of one conversation go through its *lane*, one at a time. So the parent of a
 * message is decided when everything before it is committed or refused, and offsets are published
 * in order. Reads go past the lane. */
#ifndef TALK_TALK_PRIV_H
#define TALK_TALK_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "base/pool.h"
#include "bus/messages.h"
#include "diag/diag.h"
#include "talk/event_priv.h"
#include "talk/run_state_priv.h"
#include "talk/talk.h"

#define TALK_LANE_MAX                64      /* writes that wait in one conversation */
#define TALK_WORKS_MAX               1000000 /* units of work of one engine */
#define TALK_RUNS_MAX                200000
#define TALK_INBOXES_MAX             1000000
#define TALK_TYPISTS_MAX             16
#define TALK_CIDS_RECENT             16
#define TALK_TYPING_MS               6000
#define TALK_READ_PUBLISH_MS         2000
#define TALK_READ_STORE_MS           5000
#define TALK_SNAPSHOT_TEXT_BYTES_MAX 65536
#define TALK_RECOVER_ROUNDS_MAX      5
#define TALK_OPEN_DEFAULT            50
#define TALK_OPEN_MAX                200
#define TALK_OPEN_BYTES_MAX          (2u << 20)
#define TALK_RETRY_MS                1000 /* what a passing refusal tells the caller to wait */
#define TALK_FINISH_RETRY_MS         500
#define INBOX_RING                   100
#define INBOX_IDLE_MS                600000

struct talk {
    struct engine *engine;
    struct journal *journal;
    const struct text_terms *terms;
    const struct config *config;
    struct pool convs;
    struct pool runs;
    struct pool works;
    struct pool inboxes;
    struct map conv_map;  /* conversation id -> struct conv */
    struct map inbox_map; /* channel key -> struct userbox */
    struct map user_runs; /* channel key of a user -> count of unfinished runs */
    struct name node;
    bool draining;
};

/*   LOADING --> LIVE --> GONE      GONE: deleted; the slot goes when nobody waits any more   */
enum conv_state { CONV_LOADING, CONV_LIVE, CONV_GONE };

struct member {
    struct conv_member row;
    uint64_t published_offset; /* what the others were told */
    struct mono published_at;
    struct mono changed_at; /* not yet stored since; 0 = stored */
};

struct typist {
    struct name user;
    struct mono until;
};

struct conv {
    struct talk *talk;
    struct handle self;
    enum conv_state state;
    struct conv_row row;    /* offset, head, title, ... as committed */
    struct id tail;         /* what a new message follows: the head, or an answer promised */
    struct member *members; /* (mem) */
    uint32_t members_count;
    struct list lane; /* struct work: writes that wait, front = next */
    uint32_t lane_count;
    uint32_t works_count;   /* struct work of this conversation, wherever they wait */
    struct work *writing;   /* the one under way */
    struct list waiting;    /* struct work: everything, until the conversation is loaded */
    struct list runs;       /* struct run: the active one first, then in order of waiting */
    struct typist *typists; /* (mem) TALK_TYPISTS_MAX, or NULL */
    uint32_t typists_count;
    uint64_t cids_recent[TALK_CIDS_RECENT]; /* hashes of what was appended since the load */
    uint32_t cids_count;
    bool cids_whole; /* nothing was ever said before the load */
    struct timer tick;
    struct mono used_at;
    uint32_t watchers_total;
    uint32_t watchers[]; /* subscriptions per engine */
};

struct run {
    struct talk *talk;
    struct handle self;
    struct list link; /* in conv.runs */
    struct handle conv;
    struct run_row row;
    enum run_st st;
    bool committed;    /* the message that asked for it is in the log */
    bool replying;     /* reply works on it */
    bool announced;    /* the inboxes were told */
    bool counted;      /* in user_runs */
    uint32_t position; /* while QUEUED */
    int64_t eta_ms;
    struct blob *kept;    /* continue: the text to go on from */
    struct blob *context; /* of the application, for this turn */
    struct buf text;
    uint64_t text_units;
    size_t shown_bytes; /* published so far */
    uint64_t shown_units;
    uint64_t reasoning_units;
    struct timer delta;
    struct mono delta_at; /* when the last one went out */
    struct timer checkpoint;
    size_t checkpoint_bytes; /* stored so far */
    bool checkpointing;
    int64_t started_ns;
};

enum work_kind {
    WORK_COMMAND,   /* `m` is a bus_command */
    WORK_SUBSCRIBE, /* `m` is a bus_subscribe */
    WORK_FINISH,    /* ends a run */
    WORK_TAKE,      /* takes an orphan */
    WORK_LOAD,
    WORK_CHECKPOINT,
    WORK_KEPT,    /* reads the text that a run continues */
    WORK_INBOX,   /* reads one line of a user's list */
    WORK_READ_SET /* stores a read position */
};

struct work {
    struct list link;
    struct talk *talk;
    struct handle self;
    struct handle conv;
    enum work_kind kind;
    struct msg *m;     /* owned; the question that will be answered, or NULL */
    struct handle run; /* FINISH, TAKE, CHECKPOINT, KEPT; COMMAND: the run begun early */
    enum run_end end;
    const char *why;
    bool has_usage;
    uint64_t tokens_in;
    uint64_t tokens_out;
    uint32_t step;    /* of a command that takes several */
    struct id parent; /* send, regenerate: what was found out on the way */
    struct blob *kept;
    struct buf publications; /* SUBSCRIBE: recovered so far */
    uint64_t position;       /* SUBSCRIBE: offset up to which they reach */
    uint32_t events_count;
    struct handle inbox;
    struct id inbox_conv;
    struct timer retry;
};

struct userbox {
    struct talk *talk;
    struct handle self;
    struct channel_key key;
    char epoch[12];
    uint64_t offset;      /* of the newest event */
    struct blob **events; /* (mem) the last ones, oldest first; at most INBOX_RING */
    uint32_t events_count;
    uint32_t events_room;
    struct list asked; /* works that read a line of the list: at most one per conversation */
    struct timer idle;
    uint32_t watchers_total;
    uint32_t watchers[];
};

/* talk.c */
struct work *work_new(struct talk *t, struct conv *c, enum work_kind kind, struct msg *m);
void work_free(struct work *w);
struct bus_command *work_command(struct work *w);
void answer_error(const struct work *w, uint32_t code, bool temporary, const char *field,
                  const char *message);
void answer_json(const struct work *w, struct blob *body);
/* The answer for an operation that failed (err != ERR_OK). */
void answer_err(const struct work *w, enum err err);
void publish(struct talk *t, const struct channel_key *key, const uint32_t *watchers,
             struct blob *data, uint64_t offset, struct bytes epoch, bool droppable);

/* conv.c */
struct conv *conv_find(struct talk *t, const struct id *id);
struct conv *conv_get_or_load(struct talk *t, const struct id *id);
struct conv *conv_of(struct talk *t, struct handle h);
void conv_on_load(struct work *w, struct journal_conv_load *op);
void conv_on_update(struct work *w, struct journal_conv_update *op);
void conv_on_delete(struct work *w, struct journal_conv_delete *op);
void conv_start_update(struct conv *c, struct work *w);
void conv_start_delete(struct conv *c, struct work *w);
/* Forgets everything in memory and has all watchers come again: after an outcome nobody knows. */
void conv_reset(struct conv *c);
void conv_drop(struct conv *c);
void conv_free_all(struct talk *t);
void conv_touch(struct conv *c);
struct member *conv_member(struct conv *c, const struct name *user);
bool conv_may(struct conv *c, const struct who *who);
struct channel_key conv_key(const struct conv *c);
void conv_publish(struct conv *c, struct blob *data, uint64_t offset, bool droppable);
void conv_tell_inboxes(struct conv *c);
void conv_tell_inbox(struct conv *c, const struct name *user);
void conv_tell_run(struct conv *c, struct run *r, bool on);
struct blob *conv_object_answer(const struct conv *c, const struct who *who);
void conv_object_json(struct buf *b, const struct conv_row *row, const struct conv_member *m);
void lane_push(struct conv *c, struct work *w);
void lane_push_front(struct conv *c, struct work *w);
void lane_next(struct conv *c);
void lane_done(struct conv *c, struct work *w); /* frees w */
int64_t conv_next_ts(struct conv *c);

/* ask.c: commands that do not write through the lane */
void command_take(struct talk *t, struct bus_command *m);
void command_run(struct conv *c, struct work *w);
void ask_on_path(struct work *w, struct journal_path *op);
void ask_on_create(struct work *w, struct journal_conv_create *op);
void ask_on_run_get(struct work *w, struct journal_run_get *op);
void ask_on_history(struct work *w, struct journal_events *op);
void conv_reads_flush(struct conv *c, struct mono now, bool all);
void ask_on_read_set(struct work *w, const struct journal_read_set *op);

/* send.c: chat.send, msg.regenerate */
void send_start(struct conv *c, struct work *w);
void send_on_append(struct work *w, struct journal_append *op);
void send_on_refuse(struct work *w, struct journal_refuse *op);
void send_on_path(struct work *w, struct journal_path *op);
void regenerate_start(struct conv *c, struct work *w);

/* run.c */
struct run *run_new(struct conv *c, const struct run_row *row);
void run_free(struct run *r);
void run_enter(struct run *r, enum run_st to);
void run_committed(struct conv *c, struct run *r);
void run_start(struct conv *c, struct run *r, struct blob *question, const struct id *from);
void run_cancel_reply(struct run *r);
void run_positions(struct conv *c);
void run_orphan(struct conv *c, const struct run_row *row);
struct run *run_find(struct conv *c, const struct id *id);
struct run *run_active(struct conv *c);
void run_finish_later(struct conv *c, struct run *r, enum run_end end, const char *why,
                      struct msg *asked, bool front);
void run_finish_start(struct conv *c, struct work *w);
void run_on_finish(struct work *w, struct journal_finish *op);
void run_take_start(struct conv *c, struct work *w);
void run_on_take(struct work *w, struct journal_take *op);
void run_on_checkpoint(struct work *w, struct journal_checkpoint *op);
void run_on_kept(struct work *w, struct journal_path *op);
void run_on_final(struct work *w, struct journal_run_get *op);
void run_on_state(struct talk *t, const struct bus_run_state *m);
void run_on_text(struct talk *t, const struct bus_run_text *m);
void run_on_end(struct talk *t, const struct bus_run_end *m);
void run_snapshot(struct buf *b, const struct run *r, bool whole);
void run_stop(struct conv *c, struct work *w);
uint32_t user_runs(struct talk *t, const struct id *app, const struct name *user, int change);
void run_drain(struct talk *t);

/* watch.c: subscriptions of conversations */
void watch_subscribe(struct conv *c, struct work *w);
void watch_on_events(struct work *w, struct journal_events *op);
void watch_unsubscribe(struct talk *t, const struct bus_unsubscribe *m);
void watch_refuse(const struct bus_subscribe *s, uint32_t code, bool temporary,
                  const char *message);

/* userbox.c: the inboxes of users */
void userbox_subscribe(struct talk *t, struct bus_subscribe *m);
void userbox_unsubscribe(struct talk *t, const struct bus_unsubscribe *m);
void userbox_change(struct talk *t, const struct bus_inbox *m);
void userbox_on_line(struct work *w, struct journal_conv_list *op);
void userbox_list(struct talk *t, struct work *w);
void userbox_on_list(struct work *w, struct journal_conv_list *op);
void userbox_free_all(struct talk *t);

#endif
