/* The engines of the process and the turn of a loop:
 *
 *     sleep -> now -> timers -> mailbox -> descriptors -> hooks -> sleep ...
 *
 * The sleep gathers the descriptors of the turn; timers and messages still come before them. */
#include "base/mem.h"
#include "diag/diag.h"
#include "engine/engine_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct engine *engines[ENGINES_MAX];
static uint32_t engines_made;
static _Atomic bool engines_stopping;
static _Thread_local struct engine *engine_of_thread;

/* Where the program was loaded (the linker knows): function addresses in the log are given from
 * there, as addr2line wants them. */
extern const char __executable_start[];

static const char *const port_names[PORTS_COUNT] = {
    [PORT_NONE] = "none",   [PORT_NET] = "net",         [PORT_AUTH] = "auth",
    [PORT_MODEL] = "model", [PORT_RECALL] = "recall",   [PORT_REPLY] = "reply",
    [PORT_TALK] = "talk",   [PORT_SESSION] = "session", [PORT_API] = "api",
    [PORT_MAIN] = "main",
};

static const char *engine_step_name(enum engine_step_kind step)
{
    switch (step) {
    case STEP_TIMER: return "timer";
    case STEP_MESSAGE: return "message";
    case STEP_DESCRIPTOR: return "descriptor";
    case STEP_HOOK: return "hook";
    }
    return "unknown";
}

/* ---- making and freeing */

static void engine_free(struct engine *e)
{
    if (e == NULL)
        return;
    mailbox_drop(e);
    if (e->epoll_fd >= 0)
        (void)close(e->epoll_fd); /* nothing was written to it */
    if (e->wake_fd >= 0)
        (void)close(e->wake_fd);
    arena_fini(&e->turn);
    mem_free(e);
}

static enum err engine_open(struct engine *e)
{
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->epoll_fd < 0 || e->wake_fd < 0)
        return ERR_IO;
    /* Edge-triggered: each write wakes once and nobody has to read the counter. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.ptr = NULL}};
    if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->wake_fd, &event) != 0)
        return ERR_IO;
    return arena_grow_init(&e->turn, ENGINE_TURN_BYTES_FIRST, ENGINE_TURN_BYTES_MAX);
}

static enum err engine_new(uint32_t index, uint64_t seed, struct engine **out)
{
    struct engine *e = mem_new_zero(sizeof(*e));
    if (e == NULL)
        return ERR_FULL;
    e->index = index;
    e->epoll_fd = -1;
    e->wake_fd = -1;
    e->slow_ns = ENGINE_SLOW_TURN_NS;
    e->now = mono_now();
    list_init(&e->hooks);
    rng_init(&e->rng, seed + index);
    enum err err = engine_open(e);
    if (err != ERR_OK) {
        engine_free(e);
        return err;
    }
    *out = e;
    return ERR_OK;
}

static uint32_t engines_processors(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : (uint32_t)count;
}

enum err engines_make(uint32_t count, uint64_t seed)
{
    CHECK(engines_made == 0);
    if (count == 0)
        count = (uint32_t)size_min(engines_processors(), ENGINES_MAX);
    CHECK(count <= ENGINES_MAX);
    if (seed == 0)
        engine_random(&seed, sizeof(seed));
    (void)signal(SIGPIPE, SIG_IGN); /* a valid signal and handler: cannot fail */
    /* What a busy turn frees, the next one needs again: giving it back to the kernel each time
     * costs a page fault for every page (measured: a tenth of a pipelined echo). */
    (void)mallopt(M_TRIM_THRESHOLD, ENGINE_TRIM_BYTES);
    atomic_store(&engines_stopping, false);
    for (uint32_t i = 0; i < count; i++) {
        enum err err = engine_new(i, seed, &engines[i]);
        if (err != ERR_OK) {
            engines_free();
            return err;
        }
        engines_made++;
    }
    return ERR_OK;
}

void engines_free(void)
{
    engine_of_thread = NULL;
    for (uint32_t i = 0; i < engines_made; i++) {
        engine_free(engines[i]);
        engines[i] = NULL;
    }
    engines_made = 0;
}

/* ---- who and where */

uint32_t engines_count(void)
{
    return engines_made;
}

struct engine *engine_at(uint32_t index)
{
    CHECK(index < engines_made);
    return engines[index];
}

uint32_t engine_index(const struct engine *e)
{
    return e->index;
}

struct engine *engine_mine(void)
{
    return engine_of_thread;
}

bool engine_is_mine(const struct engine *e)
{
    return engine_of_thread == e || !e->running;
}

void engine_listen(struct engine *e, enum port port, void (*take)(void *ctx, struct msg *m),
                   void *ctx)
{
    CHECK((unsigned)port < PORTS_COUNT);
    CHECK(!e->running);
    e->ports[port] = (struct engine_port){.take = take, .ctx = ctx};
}

void *engine_room(const struct engine *e, enum port port)
{
    return e->ports[port].ctx;
}

struct mono engine_now(const struct engine *e)
{
    return e->now;
}

int64_t engine_wall_ms(const struct engine *e)
{
    /* Read when first asked for: most turns need no date. */
    struct engine *mine = (struct engine *)(uintptr_t)e;
    if (mine->wall_ms == 0)
        mine->wall_ms = wall_now_ms();
    return mine->wall_ms;
}

struct rng *engine_rng(struct engine *e)
{
    return &e->rng;
}

struct arena *engine_turn(struct engine *e)
{
    return &e->turn;
}

void engine_at_turn_end(struct engine *e, struct turn_hook *h)
{
    CHECK(engine_is_mine(e));
    if (!list_is_linked(&h->link))
        list_push_back(&e->hooks, &h->link);
}

/* ---- the turn */

void engine_called(struct engine *e, struct engine_culprit what)
{
    arena_reset(&e->turn);
    int64_t now_ns = clock_coarse_ns();
    what.spent_ns = now_ns - e->coarse_ns;
    e->coarse_ns = now_ns;
    if (what.spent_ns >= e->culprit.spent_ns)
        e->culprit = what;
}

static void engine_hooks_run(struct engine *e)
{
    for (uint32_t round = 0; round < ENGINE_HOOK_ROUNDS_MAX && !list_is_empty(&e->hooks); round++) {
        struct list last = {NULL, NULL}; /* what is armed from here on belongs to the next round */
        list_push_back(&e->hooks, &last);
        while (e->hooks.next != &last) {
            struct turn_hook *h = CONTAINER_OF(e->hooks.next, struct turn_hook, link);
            list_remove(&h->link);
            uintptr_t function = (uintptr_t)h->run;
            h->run(h->ctx); /* h may be gone after it */
            engine_called(e, (struct engine_culprit){.step = STEP_HOOK, .function = function});
        }
        list_remove(&last);
    }
}

static void engine_turn_slow(struct engine *e, int64_t spent_ns)
{
    const struct engine_culprit *c = &e->culprit;
    DIAG_COUNT(slow_turns);
    diag_note(e->now, "slow turn: ms, function", (uint64_t)spent_ns / 1000000, c->function);
    diag_log(DIAG_WARN, "slow_turn",
             "ms=%" PRId64 " engine=%" PRIu32 " step=%s step_ms=%" PRId64
             " port=%s kind=%u at=0x%" PRIxPTR,
             spent_ns / 1000000, e->index, engine_step_name(c->step), c->spent_ns / 1000000,
             port_names[c->port], c->kind, c->function - (uintptr_t)__executable_start);
}

static int engine_sleep_ms(struct engine *e, int64_t wait_ms_max)
{
    if (e->waiting_first != NULL || !list_is_empty(&e->hooks))
        return 0;
    int64_t wait_ms = wait_ms_max < 0 ? INT32_MAX : i64_min(wait_ms_max, INT32_MAX);
    if (e->timers != NULL) {
        /* Rounded up: a turn that comes too early would find nothing due. */
        int64_t left_ns = i64_max(e->timers->at.ns - mono_now().ns, 0);
        wait_ms = i64_min(wait_ms, (left_ns + 999999) / 1000000);
    }
    return (int)wait_ms;
}

static void engine_sleep(struct engine *e, int64_t wait_ms_max)
{
    int wait_ms = engine_sleep_ms(e, wait_ms_max);
    if (wait_ms > 0 && mailbox_before_sleep(e))
        wait_ms = 0;
    if (atomic_load(&engines_stopping))
        wait_ms = 0;
    int count = epoll_wait(e->epoll_fd, e->events, ENGINE_EVENTS_PER_TURN, wait_ms);
    mailbox_after_sleep(e);
    CHECK(count >= 0 || errno == EINTR);
    e->events_count = count < 0 ? 0 : (uint32_t)count;
    e->events_at = 0;
}

void engine_step(struct engine *e, int64_t wait_ms_max)
{
    engine_sleep(e, wait_ms_max);
    e->now = mono_now();
    e->wall_ms = 0;
    e->began_ns = clock_real_ns();
    e->coarse_ns = clock_coarse_ns();
    e->culprit = (struct engine_culprit){.step = STEP_TIMER};
    timers_run(e);
    mailbox_run(e);
    watches_run(e);
    engine_hooks_run(e);
    int64_t spent_ns = clock_real_ns() - e->began_ns;
    DIAG_OBSERVE(turn, spent_ns);
    if (spent_ns > e->slow_ns)
        engine_turn_slow(e, spent_ns);
}

/* ---- the threads */

static void *engine_thread(void *ctx)
{
    struct engine *e = ctx;
    char name[16];
    (void)snprintf(name, sizeof(name), "engine%" PRIu32, e->index); /* fits: ENGINES_MAX is 64 */
    if (e->index > 0) /* main's thread bears the name of the process; a name is a courtesy */
        (void)pthread_setname_np(pthread_self(), name);
    diag_thread_init(name);
    engine_of_thread = e;
    while (!atomic_load(&engines_stopping))
        engine_step(e, -1);
    return NULL;
}

void engines_run(void)
{
    CHECK(engines_made > 0);
    pthread_t threads[ENGINES_MAX];
    sigset_t all;
    sigset_t before;
    for (uint32_t i = 0; i < engines_made; i++)
        engines[i]->running = true;
    /* Signals are for main's thread: there they interrupt a sleep and nothing else. */
    CHECK(sigfillset(&all) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    for (uint32_t i = 1; i < engines_made; i++) {
        int failed = pthread_create(&threads[i], NULL, engine_thread, engines[i]);
        CHECK(failed == 0);
    }
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    (void)engine_thread(engines[0]);
    for (uint32_t i = 1; i < engines_made; i++) {
        int failed = pthread_join(threads[i], NULL);
        CHECK(failed == 0);
    }
    for (uint32_t i = 0; i < engines_made; i++) {
        engines[i]->running = false;
        mailbox_drop(engines[i]);
    }
}

void engines_stop(void)
{
    int saved = errno; /* this may be a signal handler */
    atomic_store(&engines_stopping, true);
    for (uint32_t i = 0; i < engines_made; i++)
        engine_wake(engines[i]);
    errno = saved;
}
