/* run_state_priv: what a run may do next. One list makes the enum, the words and the legal moves.
 * Pure.
 *
 *   QUEUED --> THINKING --> WRITING --> ENDING --> ENDED
 *      |           |  ^        |  ^
 *      |           |  +--------|--+  (the model's own queue shows as QUEUED again before any text)
 *      +-----------+-----------+----> ENDING                                                     */
#ifndef TALK_RUN_STATE_PRIV_H
#define TALK_RUN_STATE_PRIV_H

#include "base/base.h"

#define RS(name) (1u << RUN_ST_##name)
#define RUN_STATES(X)                                                      \
    X(QUEUED, "queued", "waits for its turn", RS(THINKING) | RS(ENDING))   \
    X(THINKING, "thinking", "the model has not begun to write",            \
      RS(QUEUED) | RS(WRITING) | RS(ENDING))                               \
    X(WRITING, "writing", "text is coming", RS(ENDING))                    \
    X(ENDING, "saving", "its final message is being committed", RS(ENDED)) \
    X(ENDED, "ended", "its final message is in the log", 0)

enum run_st {
#define RUN_ST_ENUM(name, word, help, next) RUN_ST_##name,
    RUN_STATES(RUN_ST_ENUM)
#undef RUN_ST_ENUM
};

/* The word on the wire (`st`). */
const char *run_st_name(enum run_st s);
bool run_st_may(enum run_st from, enum run_st to);

#endif
