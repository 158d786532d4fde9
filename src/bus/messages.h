/* messages: what session, api, talk and reply say to one another. One table of structs, because
 * one day each of them crosses a thread or a node.
 *
 * Owner   : whoever takes a message out of its mailbox; bus_free (= msg_free) gives back what it
 *           holds. Handles name slots of the sender and are given back untouched.
 * Thread  : values; blobs move with their reference.
 * Order   : from one engine to another in the order they were posted. So a subscriber hears
 *           SESSION_SUBSCRIBED before the first SESSION_PUBLISH that follows it.
 * Source  : docs/ARCHITECTURE.md, "The way of a message". */
#ifndef BUS_MESSAGES_H
#define BUS_MESSAGES_H

#include "base/base.h"
#include "base/blob.h"
#include "base/id.h"
#include "base/pool.h"
#include "engine/engine.h"

/* Who asks. `insecure`: auth.insecure, everything is allowed to user "". */
struct who {
    struct id app;
    struct name user;
    struct name display;
    bool guest;
    bool insecure;
};

/* Where an answer goes: a slot of a room on an engine, and the asker's own number. */
struct address {
    uint8_t engine;
    uint8_t port;
    struct handle handle;
    uint64_t call;
};

/* X(NAME, word): every command. The word is the method of an rpc and the path of a POST. */
#define BUS_COMMANDS(X)                 \
    X(GUEST_CREATE, "guest.create")     \
    X(CONV_CREATE, "conv.create")       \
    X(CONV_LIST, "conv.list")           \
    X(CONV_OPEN, "conv.open")           \
    X(CONV_UPDATE, "conv.update")       \
    X(CONV_DELETE, "conv.delete")       \
    X(CHAT_SEND, "chat.send")           \
    X(MSG_REGENERATE, "msg.regenerate") \
    X(RUN_STOP, "run.stop")             \
    X(RUN_GET, "run.get")               \
    X(TYPING_SET, "typing.set")         \
    X(READ_SET, "read.set")             \
    X(HISTORY, "")

enum command {
#define BUS_ENUM(name, word) CMD_##name,
    BUS_COMMANDS(BUS_ENUM)
#undef BUS_ENUM
        COMMANDS_COUNT
};

/* during_run. */
enum during_run { DURING_QUEUE, DURING_CANCEL, DURING_REJECT };

/* All fields of all commands, checked: absent ids have count 0, absent texts are NULL. */
struct command_args {
    struct id conv;
    struct id msg;
    struct id run;
    struct id cid;
    struct id parent;
    struct id persona;
    struct name model;
    struct blob *text;
    struct blob *title;
    struct blob *query;
    struct blob *name;
    struct blob *meta;    /* JSON */
    struct blob *context; /* JSON */
    struct blob *epoch;   /* history: since.epoch */
    struct name *members; /* (mem) */
    uint32_t members_count;
    uint64_t offset;   /* read.set; history: since.offset */
    int64_t limit;     /* 0 = not given */
    uint64_t before;   /* conv.open */
    int64_t before_ms; /* conv.list's cursor */
    struct id before_conv;
    enum during_run during;
    bool has_parent;
    bool has_title;
    bool has_archived;
    bool archived;
    bool has_since;
    bool reverse;
    bool on;
    bool go_on;     /* continue */
    bool no_answer; /* answer: false */
};

enum bus_kind {
    BUS_COMMAND = 200, /* -> talk */
    BUS_ANSWER,        /* -> session, api */
    BUS_SUBSCRIBE,     /* -> talk */
    BUS_SUBSCRIBED,    /* -> session */
    BUS_UNSUBSCRIBE,   /* -> talk */
    BUS_PUBLISH,       /* -> session: to every subscriber of a channel on this engine */
    BUS_KICK,          /* -> session: end the subscriptions of a channel */
    BUS_INBOX,         /* talk -> talk of a user: something changed for this user */
    BUS_RUN_START,     /* talk -> reply */
    BUS_RUN_CANCEL,    /* talk -> reply */
    BUS_RUN_STATE,     /* reply -> talk */
    BUS_RUN_TEXT,      /* reply -> talk */
    BUS_RUN_END,       /* reply -> talk */
    BUS_WAKE,          /* -> talk: load this conversation, it holds unfinished runs */
    BUS_DRAIN          /* main -> every room: end in good order */
};

struct bus_command {
    struct msg msg;
    enum command command;
    struct who who;
    struct address from;
    struct command_args args;
    int64_t asked_ns;
};

/* `code` 0: `body` is the result, a JSON object. Else an error of the protocol. */
struct bus_answer {
    struct msg msg;
    struct address to;
    uint32_t code;
    bool temporary;
    struct blob *body; /* result, or the error's message as plain text */
    const char *field; /* literal: which field was wrong; or NULL */
};

/* Channels this release has. */
enum channel_kind { CHANNEL_CONV, CHANNEL_INBOX };

struct channel_key {
    enum channel_kind kind;
    struct id conv; /* CHANNEL_CONV */
    struct id app;  /* CHANNEL_INBOX */
    struct name user;
};

struct bus_subscribe {
    struct msg msg;
    struct channel_key key;
    struct who who;
    struct address from;
    bool recover;
    bool reject_unrecoverable; /* flag 2 */
    uint8_t epoch_count;
    char epoch[64];
    uint64_t offset;
};

struct bus_subscribed {
    struct msg msg;
    struct address to;
    struct channel_key key;
    uint32_t code; /* 0 = subscribed */
    bool temporary;
    const char *message; /* literal, when code != 0 */
    bool recovered;
    bool was_recovering;
    uint8_t epoch_count;
    char epoch[64];
    uint64_t offset;
    struct blob *publications; /* elements of publications[], joined by commas; or NULL */
    uint32_t publications_count;
    struct blob *data; /* the snapshot; or NULL */
};

struct bus_unsubscribe {
    struct msg msg;
    struct channel_key key;
    uint8_t engine;
};

struct bus_publish {
    struct msg msg;
    struct channel_key key;
    struct blob *data;   /* the event's JSON */
    uint64_t offset;     /* 0 = ephemeral */
    uint8_t epoch_count; /* with offset 1 */
    char epoch[64];
    bool droppable; /* a delta: may be left out for slow readers */
};

struct bus_kick {
    struct msg msg;
    struct channel_key key;
    struct name user; /* empty = everybody */
    uint32_t code;
    const char *reason; /* literal */
};

/* To the home engine of a user. */
struct bus_inbox {
    struct msg msg;
    struct id app;
    struct name user;
    struct id conv;
    enum { INBOX_CONV, INBOX_GONE, INBOX_RUN } what;
    struct id run;
    bool on;
};

struct bus_run_start {
    struct msg msg;
    struct handle talk_run;
    struct id conv;
    struct id run;
    struct id answer; /* the message it will become */
    struct id persona;
    struct name model;
    struct id from;        /* the path to read, its end; empty = nothing said before */
    struct blob *question; /* a message that follows `from` and is not stored yet; or NULL */
    struct blob *kept;     /* continue: the text to go on from; or NULL */
    struct blob *context;  /* JSON of the application for this turn; or NULL */
};

struct bus_run_cancel {
    struct msg msg;
    struct handle talk_run;
};

struct bus_run_state {
    struct msg msg;
    struct handle talk_run;
    bool queued; /* waits for the model; else thinking */
    uint32_t position;
    int64_t eta_ms;
};

struct bus_run_text {
    struct msg msg;
    struct handle talk_run;
    struct blob *text;
    struct blob *reasoning;
};

enum run_end { RUN_END_COMPLETE, RUN_END_STOPPED, RUN_END_FAILED, RUN_END_BLOCKED };
const char *run_end_name(enum run_end e);

struct bus_run_end {
    struct msg msg;
    struct handle talk_run;
    enum run_end end;
    const char *why; /* literal; "" = none */
    bool has_usage;
    uint64_t tokens_in;
    uint64_t tokens_out;
};

struct bus_wake {
    struct msg msg;
    struct id conv;
};

/* `deadline` zero: end now what still runs. */
struct bus_drain {
    struct msg msg;
    struct mono deadline;
};

/* A zeroed message with its drop function. */
#define BUS_NEW(KIND, type, port) ((struct type *)bus_new(BUS_##KIND, sizeof(struct type), (port)))
void *bus_new(enum bus_kind kind, size_t bytes, enum port port);

void command_args_free(struct command_args *a);
const char *command_name(enum command c);

/* The engine a conversation or a user lives on. */
struct engine *bus_home_conv(struct bytes conv);
struct engine *bus_home_user(struct bytes app, struct bytes user);

/* The bytes of a key in a map: kind, then (app, name) or the conversation. At most 200. */
#define CHANNEL_KEY_BYTES_MAX 200
struct bytes channel_key_bytes(const struct channel_key *k, uint8_t room[CHANNEL_KEY_BYTES_MAX]);
/* The name clients see: conv:<id> or #<user>. */
struct bytes channel_name(const struct channel_key *k, uint8_t room[CHANNEL_KEY_BYTES_MAX]);

/* Answers. */
void bus_answer_result(const struct address *to, struct blob *body);
void bus_answer_error(const struct address *to, uint32_t code, bool temporary, const char *field,
                      const char *message);

#endif
