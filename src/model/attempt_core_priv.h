/* attempt_core: what one request for an answer does next. Pure: no I/O, no clock, no randomness.
 *
 *   QUEUED --> ASKED --> WRITING --> FINISHING --> DRAINING --> GONE
 *      ^         |  \                    any state but QUEUED may go to GONE
 *      |         v   v
 *      +------ PAUSED <-- REFUSED
 *
 * Owner   : the request (model.c); the shell (attempt.c) does the effects.
 * Thread  : the engine's.
 * Memory  : a value.
 * Errors  : an event that makes no sense in a state has no effect: late callbacks are normal.
 * Policy  : the first-token time is one for all attempts; it runs from the moment the request first
 *           goes out and stands still while the request waits for a permit. What timed out is not
 *           tried again. A refused connection, a reset or a 5xx before the first token is tried
 *           once more. `finish_reason` or [DONE] make an answer complete; either is enough, because
 *           servers exist that leave out one of them. */
#ifndef MODEL_ATTEMPT_CORE_PRIV_H
#define MODEL_ATTEMPT_CORE_PRIV_H

#include "base/time.h"
#include "model/model.h"

#define ATTEMPTS_MAX         2
#define ATTEMPT_PAUSE_MIN_MS 50
#define ATTEMPT_PAUSE_MAX_MS 150
#define ATTEMPT_REFUSAL_MS   1000 /* for the body of an error */
#define ATTEMPT_FINISH_MS    2000 /* for usage and [DONE] after finish_reason */
#define ATTEMPT_DRAIN_MS     1000 /* for the end of the body after [DONE] */

#define ATTEMPT_ST(name) (1u << ATTEMPT_##name)

/* X(NAME, meaning, states that may follow) */
#define ATTEMPT_STATES(X)                                                                         \
    X(QUEUED, "waits for a permit", ATTEMPT_ST(ASKED) | ATTEMPT_ST(GONE))                         \
    X(ASKED, "went out, no token yet",                                                            \
      ATTEMPT_ST(PAUSED) | ATTEMPT_ST(REFUSED) | ATTEMPT_ST(WRITING) | ATTEMPT_ST(FINISHING) |    \
          ATTEMPT_ST(DRAINING) | ATTEMPT_ST(GONE))                                                \
    X(REFUSED, "an error status; its body is awaited", ATTEMPT_ST(PAUSED) | ATTEMPT_ST(GONE))     \
    X(PAUSED, "the second try goes out in a moment",                                              \
      ATTEMPT_ST(ASKED) | ATTEMPT_ST(QUEUED) | ATTEMPT_ST(GONE))                                  \
    X(WRITING, "tokens flow", ATTEMPT_ST(FINISHING) | ATTEMPT_ST(DRAINING) | ATTEMPT_ST(GONE))    \
    X(FINISHING, "finish_reason came; usage may follow", ATTEMPT_ST(DRAINING) | ATTEMPT_ST(GONE)) \
    X(DRAINING, "the end was told; the connection finishes", ATTEMPT_ST(GONE))                    \
    X(GONE, "the slot may be reused", 0)

enum attempt_state {
#define ATTEMPT_ENUM(name, help, next) ATTEMPT_##name,
    ATTEMPT_STATES(ATTEMPT_ENUM)
#undef ATTEMPT_ENUM
        ATTEMPT_STATES_COUNT
};
const char *attempt_state_name(enum attempt_state s);

/* X(NAME, when) */
#define ATTEMPT_EVENTS(X)                                                      \
    X(GRANTED, "the pool gave a permit, or needs none")                        \
    X(POOL_REFUSED, "the pool says no: `end`")                                 \
    X(NO_ROOM, "this process cannot go on: memory or connections are used up") \
    X(HEAD, "the answer's status line is in: `status`")                        \
    X(TOKEN, "text or reasoning")                                              \
    X(FINISH, "finish_reason: `end` is OK, LENGTH or FILTERED")                \
    X(DONE, "[DONE], or a whole completion was read: `end` as for FINISH")     \
    X(ERROR, "an error instead of a chunk")                                    \
    X(GARBAGE, "something that is no chunk of a completion")                   \
    X(BODY_END, "the exchange is over: `error`, `heard`")                      \
    X(TIMER, "the deadline passed")

enum attempt_event_kind {
#define ATTEMPT_ENUM(name, help) ATTEMPT_ON_##name,
    ATTEMPT_EVENTS(ATTEMPT_ENUM)
#undef ATTEMPT_ENUM
        ATTEMPT_EVENTS_COUNT
};

struct attempt_event {
    enum attempt_event_kind kind;
    enum model_end_kind end;
    enum http_out_error error;
    uint16_t status;
    bool heard;      /* BODY_END: bytes came, but no chunk among them */
    uint32_t random; /* any number: the pause is drawn from it */
};

/* What the shell must do, in this order. */
struct attempt_effects {
    bool close; /* end the exchange with the upstream now */
    bool back;  /* give the permit back */
    bool want;  /* ask the pool for a permit again */
    bool send;  /* send the request */
    bool end;   /* tell the asker: core->end */
    bool free;  /* the slot is over */
};

struct attempt_limits {
    int64_t first_token_ms;
    int64_t idle_ms;
    bool requeue; /* the second try asks for a new permit: the local backend may have moved */
};

struct attempt_core {
    enum attempt_state state;
    enum model_end_kind end;    /* valid once effects.end was set */
    struct mono deadline;       /* ns 0 = none */
    struct mono first_deadline; /* ns 0 = the first-token time stands still */
    int64_t first_left_ns;
    uint32_t attempts;
    uint16_t status; /* of the last answer; 0 = none */
};

void attempt_core_init(struct attempt_core *c, const struct attempt_limits *l);

/* Moves `c` on and answers what to do. The shell arms its timer to c->deadline after every call. */
struct attempt_effects attempt_decide(struct attempt_core *c, const struct attempt_limits *l,
                                      const struct attempt_event *ev, struct mono now) MUST_USE;

/* Takes `c` to GONE without telling anybody; the effects are what is left to give back. */
struct attempt_effects attempt_cancel(struct attempt_core *c) MUST_USE;

/* The core's own rules, for tests and fuzzers: CHECKs. */
void attempt_check(const struct attempt_core *c);

#endif
