/* model_priv: what the files of this room share.
 *
 *     model.c      requests of this engine: start, cancel, what the asker hears
 *     attempt.c    one exchange with a backend: net's callbacks -> attempt_core -> effects
 *     pool.c       the home side of a pool: permits, the queue, whether it can be reached
 *     manager.c    the local backend's process (engine 0)
 *     ready.c      the snapshot behind /readyz
 *
 * The way of a request: model_start -> WANT -> pool.c -> GRANT -> attempt.c -> MODEL_TEXT ... ->
 * MODEL_END -> BACK. A model without a limit on `concurrency` skips the pool. */
#ifndef MODEL_MODEL_PRIV_H
#define MODEL_MODEL_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "codec/sse.h"
#include "model/attempt_core_priv.h"
#include "model/manager_core_priv.h"
#include "model/model.h"
#include "model/stitch_priv.h"

#define MODEL_REQUESTS_MAX      65536u /* of one engine, beside those that wait */
#define MODEL_WAITERS_MAX       (1u << 20)
#define MODEL_BODY_BYTES_MAX    (32u << 20) /* of a request */
#define MODEL_EVENT_BYTES_MAX   (2u << 20)  /* one SSE event, or a whole completion */
#define MODEL_REFUSAL_BYTES_MAX 8192u       /* of an error's body; more is not looked at */
#define MODEL_SCRATCH_BYTES     16384u
#define MODEL_SCRATCH_BYTES_MAX (24u << 20)
#define MODEL_URL_BYTES_MAX     2048u
#define MODEL_AUTH_BYTES_MAX    4096u
#define MODEL_ANNOUNCE_MS       250  /* between two rounds of telling places */
#define MODEL_PROBE_MS          5000 /* between two looks at a backend that refuses connections */
#define MODEL_REFUSED_MAX       3    /* refused connections in a row: the backend is unavailable */
#define MODEL_LOCAL_KEY_ENV     "LLAMA_CHILD_KEY"

/* Between the engines, kinds in msg.kind. */
enum model_internal {
    MODEL_WANT = MODEL_INTERNAL, /* struct pool_note: a permit, please */
    MODEL_BACK,                  /* struct pool_note: the permit, or the wish for it, is over */
    MODEL_SEEN,                  /* struct pool_note: the backend took or refused a connection */
    MODEL_GRANT,                 /* struct pool_note: here it is */
    MODEL_REFUSE,                /* struct pool_note: no */
    MODEL_PLACE,                 /* struct pool_place */
    MODEL_MANAGE                 /* struct msg: the manager begins */
};

/* Goes to the home as WANT and comes back as GRANT or REFUSE: the same memory, so that an answer
 * never fails for want of it. */
struct pool_note {
    struct msg msg;
    struct handle request;
    uint32_t engine; /* the asker's */
    uint32_t backend;
    bool front;              /* WANT: waited before, goes in front of those who did not */
    bool refused;            /* SEEN */
    uint16_t local_port;     /* GRANT: of the local backend */
    enum model_end_kind end; /* REFUSE */
};

struct pool_place {
    struct msg msg;
    struct handle request;
    uint32_t position;
    int64_t eta_ms;
};

/* The home side of a pool; idle on the other engines. */
struct pool_home {
    struct list waiting; /* struct waiter, in order of arrival */
    uint32_t waiting_count;
    uint32_t busy;  /* permits out */
    bool withdrawn; /* the local backend is not ready: nobody is granted */
    bool refusing;  /* and will not be soon: nobody may wait */
    uint16_t local_port;
    double held_ms; /* moving average of how long a permit is out; 0 = not known */
    struct timer announce;
    uint32_t refused_count; /* connections in a row */
    bool unavailable;
    bool probing;
    struct timer probe;
    struct handle probe_http;
};

/* One configured model on one engine. */
struct backend {
    struct model *model;
    const struct config_model *config;
    uint32_t index;       /* in the configuration */
    uint32_t home;        /* the engine that gives out permits */
    uint32_t concurrency; /* 0 = no permits needed */
    bool is_default;
    double bytes_per_token;
    bool learned;
    bool told_refused; /* the home heard of a refused connection, but not of a good one since */
    struct pool_home pool;
};

struct request {
    struct handle self;
    struct model *model;
    struct backend *backend;
    struct attempt_core core;
    struct attempt_limits limits;
    struct timer timer;
    struct mono begun;
    int64_t first_token_ms;
    enum port port;
    struct handle asker;
    struct blob *body;
    size_t prompt_bytes; /* texts only */
    size_t messages_count;
    struct pool_note *want; /* in hand before it is sent and after it came back */
    struct pool_note *back; /* in hand while a permit is held or wished for; NULL = neither */
    struct model_end *ending;
    bool is_open; /* `http` is alive */
    uint16_t local_port;
    struct handle http;

    /* of the attempt */
    bool sniffed; /* the first byte told what the body is */
    bool whole;   /* one JSON value, not a stream */
    bool heard_chunk;
    bool heard_bytes;
    bool reading; /* the reader is in use */
    struct sse_reader reader;
    struct buf held; /* a whole completion, or an error's body */
    struct stitch stitch;

    /* for the asker, sent at the end of the turn */
    struct list dirty;
    struct model_text *said; /* in hand while there is something to say */
    struct buf text;
    struct buf reasoning;
    bool has_usage;
    uint64_t tokens_in;
    uint64_t tokens_out;
};

struct manager;

struct model {
    struct engine *engine;
    struct net *net;
    const struct config *config;
    struct backend *backends;
    uint32_t backends_count;
    struct backend *backend_default; /* NULL = no models */
    struct pool requests;
    struct arena scratch; /* reset for each event */
    struct list dirty;
    struct turn_hook flush;
    struct pool waiters;
    struct map waiters_by_request;
    struct manager *manager; /* engine 0, and only with a local backend */
};

/* --- model.c -------------------------------------------------------------------------------- */

/* Feeds one event to the request and does what comes of it. False: the request is gone. */
bool request_event(struct request *r, const struct attempt_event *ev);
/* The asker will hear of new text at the end of the turn. ERR_FULL: no memory to say it. */
enum err request_dirty(struct request *r) MUST_USE;
void request_learn(struct request *r);

/* --- attempt.c ------------------------------------------------------------------------------ */

/* ERR_FULL: this process has no room for one more exchange. */
enum err attempt_start(struct request *r) MUST_USE;
void attempt_close(struct request *r); /* the exchange, if there is one, and what it left behind */
/* Pure part of the reading, for tests: one SSE event's data. False: the request is gone. */
bool attempt_data(struct request *r, struct bytes data);
/* "Authorization: Bearer ..." into `out`; false when the backend needs none. */
bool attempt_auth(const struct backend *b, struct buf *out);

/* --- pool.c --------------------------------------------------------------------------------- */

enum err pool_home_make(struct model *m) MUST_USE;
void pool_home_free(struct model *m);
void pool_note_take(struct model *m, struct pool_note *note); /* keeps or frees it */
/* WANT and BACK: takes the note, which is r's. */
void pool_post(const struct request *r, struct pool_note *note, enum model_internal kind);
void pool_see(const struct request *r, bool refused);
/* NULL: out of memory. */
struct pool_note *pool_note_new(void) MUST_USE;
/* The manager's word on the local backend. */
void pool_offer(struct backend *b, uint16_t local_port);
void pool_withdraw(struct backend *b);
void pool_refuse_all(struct backend *b);

/* --- manager.c ------------------------------------------------------------------------------ */

/* The key that the local backend asks for, as hex; made once, before threads exist. */
const char *manager_key(void);
void manager_begin(struct model *m);
/* Somebody is served now: what only warms the model makes way. */
void manager_yield(struct model *m);
void manager_free(struct model *m);
struct backend *manager_backend(struct model *m); /* the local one, or NULL */

/* --- warm.c --------------------------------------------------------------------------------- */

struct warm {
    struct model *model;
    struct handle http;
    struct mono begun;
    bool on;
    bool good;
};

/* One request whose answer is thrown away; nothing when one is under way. */
void warm_start(struct warm *w, struct model *m, uint16_t port);
void warm_stop(struct warm *w);

/* --- ready.c -------------------------------------------------------------------------------- */

enum ready {
    READY_YES,
    READY_STARTING,
    READY_LOADING,
    READY_RESTARTING,
    READY_NO_MODELS,
    READY_UNREACHABLE,
    READY_CAUSE /* from here on: + enum manager_cause */
};
void ready_set(uint32_t what);

#endif
