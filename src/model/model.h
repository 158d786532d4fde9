/* model: pools of backends that make text: queue, permits, deadlines, retry before the first token,
 * the stream itself; the managed local backend.
 *
 * Owner   : one `struct model` per engine. A pool's permits are given out by one engine (the hash
 *           of its name; engine 0 for the local backend), so that `concurrency` holds for the whole
 *           process; the stream runs on the asking engine.
 * Thread  : the engine's. Answers are messages to the asker's port, in order, in later turns.
 * Memory  : a request owns its prompt blob; an idle pool owns nothing. What must be told to end a
 *           request is taken in hand when it starts, so that it can always be told.
 * Errors  : MODEL_END names what happened; exactly one MODEL_END per request that was not
 *           cancelled. All text of one turn comes in one MODEL_TEXT, in front of the MODEL_END.
 * Limits  : model.queue waiting per pool, model.idle between tokens, model.first_token over all
 *           attempts: it runs from the moment the request goes out; waiting for a permit or for the
 *           local model to load is shown as MODEL_STATE queued and has no limit here.
 * Policy  : a refused connection, a reset or a 5xx before the first token is tried once more after
 *           50-150 ms; what timed out, 4xx and error events are not. `finish_reason` or [DONE],
 *           either of them, makes an answer complete; neither is UPSTREAM_CUT. Comments and empty
 *           chunks are no tokens. A whole JSON completion is taken for a stream, too. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "base/base.h"
#include "base/blob.h"
#include "base/id.h"
#include "base/pool.h"
#include "codec/openai.h"
#include "config/config.h"
#include "engine/engine.h"
#include "net/net.h"

struct model;

/* Answers, kinds in msg.kind. All start with struct model_msg. */
enum model_kind {
    MODEL_STATE = 100, /* struct model_state */
    MODEL_TEXT,        /* struct model_text */
    MODEL_END,         /* struct model_end */
    MODEL_INTERNAL     /* from here on: between model rooms */
};

struct model_msg {
    struct msg msg;
    struct handle asker; /* as given */
    struct handle request;
};

/* Place in the queue changed, or the backend is not ready yet, or the request went out. */
struct model_state {
    struct model_msg head;
    bool queued;       /* false: a backend is working on it */
    uint32_t position; /* 1 = next */
    int64_t eta_ms;    /* -1 = unknown */
};

struct model_text {
    struct model_msg head;
    struct blob *text;      /* valid UTF-8, whole characters; may be NULL */
    struct blob *reasoning; /* may be NULL */
};

/* X(NAME, word for `why` and logs, help for people) */
#define MODEL_ENDS(X)                                                                              \
    X(OK, "", "finished")                                                                          \
    X(LENGTH, "length", "the answer reached its length limit")                                     \
    X(FILTERED, "content_filter", "the model's own filter ended the answer")                       \
    X(UNKNOWN_MODEL, "unknown_model", "no such model is configured")                               \
    X(OVERLOADED, "overloaded", "too many requests wait for this model")                           \
    X(UNAVAILABLE, "model_unavailable", "no backend of this model can be reached")                 \
    X(UPSTREAM_STATUS, "upstream_error", "the model's server answered with an error")              \
    X(UPSTREAM_GARBAGE, "upstream_garbage", "the model's server sent something that is no answer") \
    X(UPSTREAM_CUT, "upstream_closed", "the model's server ended the answer in the middle")        \
    X(FIRST_TOKEN, "first_token_timeout", "the model did not begin to answer in time")             \
    X(IDLE, "idle_timeout", "the model stopped in the middle of the answer")

enum model_end_kind {
#define MODEL_ENUM(name, word, help) MODEL_END_##name,
    MODEL_ENDS(MODEL_ENUM)
#undef MODEL_ENUM
};
const char *model_end_word(enum model_end_kind k);

struct model_end {
    struct model_msg head;
    enum model_end_kind end;
    uint16_t status; /* the upstream's HTTP status; 0 = none */
    bool has_usage;
    uint64_t tokens_in;
    uint64_t tokens_out;
    uint32_t attempts;
    int64_t first_token_ms; /* since the request; -1 = none */
};

struct model_ask {
    struct bytes model;                    /* name; empty = the default */
    const struct openai_message *messages; /* copied into the request's body */
    size_t messages_count;
    int32_t max_tokens;
    enum port port; /* where the answers go */
    struct handle asker;
};

/* Makes the room on every engine, before threads exist (it writes the environment); engine 0 first.
 * NULL: out of memory. model_free comes before net_free. */
struct model *model_make(struct engine *e, struct net *n, const struct config *c);
void model_free(struct model **m);
/* Engine 0 only, once, after all rooms are made: starts and watches the local backend when the
 * configuration has one. */
void model_manager_start(struct model *m);
/* For the drain, in engine 0's thread: the backend is told to end, whoever waits for it is sent
 * away as UNAVAILABLE. Answers it is writing are cut. */
void model_manager_stop(struct model *m);

/* ERR_OK: answers follow. ERR_FULL: too much; nothing follows. */
enum err model_start(struct model *m, const struct model_ask *ask, struct handle *out) MUST_USE;
/* No further answers; the upstream connection is closed at once. Stale handles are ignored. */
void model_cancel(struct model *m, struct handle request);

/* Why no request can be answered now, as one word (starting, loading, restarting, no_model, failed,
 * unavailable) and a sentence, or NULL when the default model can be asked. A remote model is taken
 * to be reachable until three connections in a row were refused, and again from the first one that
 * is not; meanwhile `url`/models is asked every 5 s. Any thread: reads an atomic snapshot. */
const char *model_not_ready(char *sentence, size_t sentence_bytes);

/* How many tokens a message with `text` is, roughly and rather too many: a ratio that is learned
 * from the usage backends return, the message's frame included. */
uint32_t model_tokens_estimate(struct model *m, struct bytes model, struct bytes text);
/* Whether a last message of role assistant is gone on from (llama.cpp) or must be asked for. */
bool model_can_prefill(const struct model *m, struct bytes model);

#endif
