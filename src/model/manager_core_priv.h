/* manager_core: when the local model's process is started, asked for its health, killed and started
 * again. Pure: no I/O, no clock.
 *
 *     OFF --> STARTING --> LOADING --> READY        BACKOFF --> STARTING
 *                 |            |         |              ^
 *                 +------------+---------+--------------+        FAILED: for good
 *
 * Owner   : manager.c, on engine 0.
 * Thread  : the engine's.
 * Memory  : a value.
 * Errors  : events that make no sense in a state have no effect.
 * Policy  : a process that ends because this machine or this file cannot do it is not started
 *           again. Any other end is answered by a restart after 0.5 s, 1 s, 2 s ... 30 s; a minute
 *           of health resets that. After MANAGER_PATIENCE starts in a row that came to nothing,
 *           those who wait are sent away, but the attempts go on. */
#ifndef MODEL_MANAGER_CORE_PRIV_H
#define MODEL_MANAGER_CORE_PRIV_H

#include "base/base.h"
#include "base/time.h"

#define MANAGER_BACKOFF_MIN_MS    500
#define MANAGER_BACKOFF_MAX_MS    30000
#define MANAGER_HEALTHY_MS        60000 /* of health, and the next back-off is the shortest again */
#define MANAGER_START_MS          300000 /* from the start to the listening line: a slow disk */
#define MANAGER_LOAD_MS           120000 /* from there to the first good answer */
#define MANAGER_LOAD_TICK_MS      100
#define MANAGER_HEALTH_TICK_MS    2000
#define MANAGER_HEALTH_TIMEOUT_MS 2000
#define MANAGER_MISSES_MAX        3 /* in a row while nobody waits for tokens */
#define MANAGER_MISSES_BUSY_MAX   10
#define MANAGER_PATIENCE          5

#define MANAGER_ST(name) (1u << MANAGER_##name)

/* X(NAME, meaning, states that may follow) */
#define MANAGER_STATES(X)                                                                    \
    X(OFF, "not wanted, or stopped", MANAGER_ST(STARTING) | MANAGER_ST(FAILED))              \
    X(STARTING, "the process runs and reads the model",                                      \
      MANAGER_ST(LOADING) | MANAGER_ST(BACKOFF) | MANAGER_ST(FAILED) | MANAGER_ST(OFF))      \
    X(LOADING, "it listens; its first good answer to /health is awaited",                    \
      MANAGER_ST(READY) | MANAGER_ST(BACKOFF) | MANAGER_ST(FAILED) | MANAGER_ST(OFF))        \
    X(READY, "takes requests", MANAGER_ST(BACKOFF) | MANAGER_ST(OFF))                        \
    X(BACKOFF, "ended; is started again in a while", MANAGER_ST(STARTING) | MANAGER_ST(OFF)) \
    X(FAILED, "cannot run here", MANAGER_ST(OFF))

enum manager_state {
#define MANAGER_ENUM(name, help, next) MANAGER_##name,
    MANAGER_STATES(MANAGER_ENUM)
#undef MANAGER_ENUM
        MANAGER_STATES_COUNT
};
const char *manager_state_name(enum manager_state s);

/* X(NAME, when) */
#define MANAGER_EVENTS(X)                                              \
    X(START, "the manager begins; everything it needs was found")      \
    X(MISSING, "something it needs is not there: `cause`")             \
    X(SPAWN_FAILED, "the process could not be made")                   \
    X(LINE, "the process says that it listens")                        \
    X(HEALTH_OK, "/health answered 200")                               \
    X(HEALTH_BAD, "/health answered otherwise or not in time: `busy`") \
    X(EXIT, "the process ended: `code`, or -1 after a signal")         \
    X(TIMER, "the deadline passed")                                    \
    X(STOP, "kith ends")

enum manager_event_kind {
#define MANAGER_ENUM(name, help) MANAGER_ON_##name,
    MANAGER_EVENTS(MANAGER_ENUM)
#undef MANAGER_ENUM
        MANAGER_EVENTS_COUNT
};

/* X(NAME, word, sentence): why the local model cannot run. %s is the model file or the script. */
#define MANAGER_CAUSES(X)                                                                        \
    X(NONE, "", "")                                                                              \
    X(NO_MODEL, "no_model",                                                                      \
      "the local model's file is not installed (`make run` fetches it); or set models[].url to " \
      "any OpenAI-compatible server, or local.model to a GGUF file")                             \
    X(NO_SCRIPT, "failed",                                                                       \
      "llama_child.py was not found beside the binary (KITH_SHARE says where it is); or set "    \
      "models[].url to any OpenAI-compatible server")                                            \
    X(NO_CPU, "failed",                                                                          \
      "the local model cannot run here: the processor lacks AVX2, FMA, F16C or BMI2, or the "    \
      "Python module xllamacpp is missing (`make deps`); or set models[].url to any "            \
      "OpenAI-compatible server")                                                                \
    X(BAD_MODEL, "failed",                                                                       \
      "the local model's file is missing or damaged (`make run` fetches it again); or set "      \
      "models[].url to any OpenAI-compatible server")                                            \
    X(NO_PYTHON, "failed",                                                                       \
      "no Python was found to run the local model (local.python); or set models[].url to any "   \
      "OpenAI-compatible server")

enum manager_cause {
#define MANAGER_ENUM(name, word, sentence) MANAGER_CAUSE_##name,
    MANAGER_CAUSES(MANAGER_ENUM)
#undef MANAGER_ENUM
};
const char *manager_cause_word(enum manager_cause c);
const char *manager_cause_sentence(enum manager_cause c);

struct manager_event {
    enum manager_event_kind kind;
    enum manager_cause cause;
    int code;
    bool busy;
};

/* What the shell must do, in this order. */
struct manager_effects {
    bool withdraw; /* the pool gives out no more permits */
    bool refuse;   /* the pool sends away those who wait, and whoever comes */
    bool terminate;
    bool kill;
    bool spawn;
    bool probe; /* ask for /health */
    bool offer; /* the pool gives out permits */
};

struct manager_core {
    enum manager_state state;
    enum manager_cause cause; /* of FAILED */
    struct mono deadline;     /* ns 0 = none */
    struct mono entered;      /* when the state was */
    int64_t backoff_ms;       /* of the next back-off */
    uint32_t failures;        /* starts in a row that never became READY */
    uint32_t misses;
    bool dying;     /* killed; its exit is awaited */
    bool impatient; /* those who wait were sent away */
};

void manager_core_init(struct manager_core *c);
struct manager_effects manager_decide(struct manager_core *c, const struct manager_event *ev,
                                      struct mono now) MUST_USE;

#endif
