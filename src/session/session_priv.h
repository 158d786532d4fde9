/* The inside of session: the table of states, the table of ends, slots. */
#ifndef SESSION_SESSION_PRIV_H
#define SESSION_SESSION_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "base/pool.h"
#include "bus/messages.h"
#include "codec/centrifuge.h"
#include "codec/json.h"
#include "codec/websocket.h"
#include "diag/diag.h"
#include "session/session.h"

#define SESSION_SUBS_MAX           4000000
#define SESSION_BYTES_MAX          560         /* of a slot: a million of them must fit */
#define SESSION_SCRATCH_BYTES_MAX  (32u << 20) /* the longest frame to a client */
#define SESSION_SCRATCH_KEPT_BYTES (256u << 10)

/*   GREETING --> OPEN --> DRAINING --> GONE        any state may go to GONE   */
#define SS(name) (1u << SESSION_##name)
#define SESSION_STATES(X)                                                                \
    X(GREETING, "connect is awaited or under way", SS(OPEN) | SS(DRAINING) | SS(GONE))   \
    X(OPEN, "messages flow", SS(DRAINING) | SS(GONE))                                    \
    X(DRAINING, "a refusal or close frame was sent; nothing is read any more", SS(GONE)) \
    X(GONE, "the slot may be used again", 0)

enum session_state {
#define SESSION_ENUM(name, help, next) SESSION_##name,
    SESSION_STATES(SESSION_ENUM)
#undef SESSION_ENUM
};

/* X(NAME, close code, reason, counter or COUNT_NONE) */
#define SESSION_ENDS(X)                                               \
    X(SHUTDOWN, 3001, "shutdown", COUNT_NONE)                         \
    X(EXPIRED, 3005, "connection expired", COUNT_NONE)                \
    X(LAGGED, 3010, "insufficient state", COUNT_NONE)                 \
    X(NO_PONG, 3012, "no pong", DIAG_C_session_no_pong)               \
    X(INVALID_TOKEN, 3500, "invalid token", DIAG_C_session_bad_token) \
    X(BAD_REQUEST, 3501, "bad request", DIAG_C_session_bad_request)   \
    X(STALE, 3502, "stale", DIAG_C_session_stale)                     \
    X(OVERLOADED, 3004, "internal server error", COUNT_NONE)          \
    X(REFUSED, 1000, "refused", COUNT_NONE)

enum session_end {
#define SESSION_ENUM(name, code, reason, counter) SESSION_END_##name,
    SESSION_ENDS(SESSION_ENUM)
#undef SESSION_ENUM
};

struct sessions {
    struct engine *engine;
    struct net *net;
    const struct auth *auth;
    struct command_desk *desk;
    const struct config *config;
    struct pool slots;
    struct pool subs;
    struct pool channels;
    struct map channel_map;  /* channel key -> struct channel */
    struct blob *ping_frame; /* "{}" */
    struct buf scratch;      /* frames are built here, then copied at their size */
    uint32_t drain_index;    /* walk of a drain */
    bool draining;
    struct timer drain_timer;
};

/* A caller in as many bytes as it needs. */
struct person {
    uint8_t app_count;
    uint8_t user_count;
    uint8_t display_count;
    bool guest;
    bool insecure;
    char at[];
};

struct session {
    struct sessions *all;
    struct handle self;
    struct handle conn;
    enum session_state state;
    bool connecting; /* the inbox's snapshot is awaited */
    bool paused;     /* reading is stopped until answers come */
    bool pong_due;
    bool heard; /* something came since the last ping */
    uint32_t connect_id;
    uint32_t unanswered;
    uint32_t subs_count;
    struct person *person;
    struct blob *token; /* of a new guest, until the connect result is sent */
    struct list subs;
    struct ws_reader reader;
    struct buf partial;   /* pieces of a message that is not whole yet */
    struct blob *backlog; /* commands of a frame that wait for answers */
    struct timer timer;   /* connect, ping, pong, in this order of life */
    int64_t expires_ms;   /* of the token; 0 = never */
    uint8_t client[16];   /* random; shown as a UUID */
};

/* A channel that somebody on this engine watches. */
struct channel {
    struct handle self;
    struct channel_key key;
    struct list subs;
};

struct sub {
    struct list in_session;
    struct list in_channel; /* linked once it is live */
    struct handle self;
    struct handle session;
    struct channel *channel;
    uint64_t offset; /* of the last durable publication sent */
    uint32_t id;     /* of the subscribe command; 0 = server-side */
    bool live;
};

/* What kind of reply an answer becomes: kept in the upper half of address.call. */
enum call_kind { CALL_RPC, CALL_HISTORY };

/* session.c */
void session_close(struct session *s, enum session_end end);
void session_send_frame(struct session *s, struct bytes text);
void session_reply(struct session *s, uint32_t id, const char *name, struct bytes result);
void session_reply_error(struct session *s, uint32_t id, uint32_t code, const char *message,
                         bool temporary);
struct session *session_get(struct sessions *all, struct handle h);
void session_who(const struct session *s, struct who *out);
bool session_set_person(struct session *s, const struct who *who);
struct blob *frame_blob(struct bytes text);
void session_resume(struct session *s);
void session_open_enter(struct session *s);
/* The connect command gets an error; what was sent behind it is thrown away, the client closes. */
void session_refuse_connect(struct session *s, uint32_t code, const char *message, bool temporary);

/* handshake.c */
void handshake_connect(struct session *s, const struct cf_command *c);
void handshake_refresh(struct session *s, const struct cf_command *c);
void handshake_inbox(struct session *s, const struct bus_subscribed *m);
void session_client_text(const struct session *s, char out[37]);

/* Where frames are built: empty, valid until the next call. */
struct buf *session_scratch(struct sessions *all);

/* dispatch.c */
void session_frame(struct session *s, struct bytes text);

/* hub.c */
enum hub_parse { HUB_OK, HUB_UNKNOWN, HUB_DENIED };
enum hub_parse hub_parse(const struct session *s, struct bytes channel, struct channel_key *out);
struct sub *hub_sub_find(struct session *s, const struct channel_key *key);
struct sub *hub_sub_new(struct session *s, const struct channel_key *key, uint32_t id);
/* Sends the question for a subscription. */
void hub_ask(struct session *s, struct sub *sub, bool recover, struct bytes epoch, uint64_t offset,
             bool reject);
void hub_sub_drop(struct sessions *all, struct sub *sub, bool tell);
void hub_subscribed(struct sessions *all, struct bus_subscribed *m);
void hub_publish(struct sessions *all, const struct bus_publish *m);
void hub_kick(struct sessions *all, const struct bus_kick *m);
void hub_result(struct buf *b, const struct bus_subscribed *m);

#endif
