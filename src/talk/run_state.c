/* The table of run_state_priv.h as data. */
#include "talk/run_state_priv.h"

const char *run_st_name(enum run_st s)
{
    static const char *const names[] = {
#define RUN_ST_NAME(name, word, help, next) word,
        RUN_STATES(RUN_ST_NAME)
#undef RUN_ST_NAME
    };
    return names[s];
}

bool run_st_may(enum run_st from, enum run_st to)
{
    static const uint32_t moves[] = {
#define RUN_ST_NEXT(name, word, help, next) (next),
        RUN_STATES(RUN_ST_NEXT)
#undef RUN_ST_NEXT
    };
    return (moves[from] & (1u << to)) != 0;
}
