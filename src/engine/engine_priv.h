/* engine_priv: what the files of this room share. */
#ifndef ENGINE_ENGINE_PRIV_H
#define ENGINE_ENGINE_PRIV_H

#include "engine/engine.h"
#include <stdatomic.h>
#include <sys/epoll.h>

#define ENGINE_HOOK_ROUNDS_MAX  8
#define ENGINE_SLOW_TURN_NS     100000000
#define ENGINE_TRIM_BYTES       (16 << 20)
#define ENGINE_TURN_BYTES_FIRST 65536u

enum engine_step_kind { STEP_TIMER, STEP_MESSAGE, STEP_DESCRIPTOR, STEP_HOOK };

/* The slowest callback of the turn so far: what a slow turn names. */
struct engine_culprit {
    enum engine_step_kind step;
    int64_t spent_ns;
    uintptr_t function;
    uint16_t kind;
    uint8_t port;
};

struct engine_port {
    void (*take)(void *ctx, struct msg *m);
    void *ctx;
};

struct engine {
    /* Others write these: no field of the loop shares their cache line. */
    _Atomic(struct msg *) mailbox; /* newest first */
    _Atomic bool asleep;
    uint8_t apart[64];

    uint32_t index;
    int epoll_fd;
    int wake_fd;
    bool running;
    struct mono now;
    int64_t wall_ms; /* 0 = not read in this turn */
    struct timer *timers;
    struct msg *waiting_first; /* taken from the mailbox, oldest first */
    struct msg *waiting_last;
    struct list hooks;
    struct rng rng;
    struct arena turn;
    struct engine_port ports[PORTS_COUNT];

    int64_t began_ns;  /* real clock: a skipped clock makes no slow turn */
    int64_t coarse_ns; /* end of the last callback, to a few milliseconds */
    int64_t slow_ns;   /* ENGINE_SLOW_TURN_NS; a test lowers it */
    struct engine_culprit culprit;

    uint32_t events_count;
    uint32_t events_at;
    struct epoll_event events[ENGINE_EVENTS_PER_TURN];
};

/* After every callback: gives the turn arena back and remembers who took long. */
void engine_called(struct engine *e, struct engine_culprit what);

/* timer.c: fires what is due at e->now. watch.c: hands out what the last sleep gathered. mailbox.c:
 * takes the messages that are there. */
void timers_run(struct engine *e);
void watches_run(struct engine *e);
void mailbox_run(struct engine *e);

/* Says true when the engine must not sleep after all. */
bool mailbox_before_sleep(struct engine *e);
void mailbox_after_sleep(struct engine *e);
void mailbox_drop(struct engine *e);
void engine_wake(struct engine *e);

/* The clock itself, without what engine_clock_skip added. The coarse one costs a quarter and
 * steps by the kernel's tick. */
int64_t clock_real_ns(void);
int64_t clock_coarse_ns(void);

#endif
