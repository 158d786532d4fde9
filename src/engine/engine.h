/* engine: one thread's world: descriptors, timers, mailbox, child processes, clocks, randomness.
 *
 * Owner   : main makes all engines, then starts their threads. Everything a room keeps belongs to
 *           one engine; the frozen config is the only thing shared.
 * Thread  : every function is for the owning thread, except engine_post, engines_stop, the clocks
 *           and the inbox. While no engine runs, main's thread may set up and take down everything.
 * Memory  : messages are mem blocks; whoever takes one out of the mailbox frees it (the engine
 *           calls the port's `drop` for those nobody takes). The turn arena is reset after each
 *           callback.
 * Errors  : engine_post, timers and hooks never fail and never allocate; producers are bounded by
 *           their own limits.
 * Limits  : ENGINES_MAX. Per turn: ENGINE_TIMERS_PER_TURN, ENGINE_MESSAGES_PER_TURN,
 *           ENGINE_EVENTS_PER_TURN; what is left over waits for the next turn, so that no step
 *           starves another. A turn over 100 ms is logged with its slowest callback.
 * Order   : a turn is always: now, timers, mailbox, descriptors, end-of-turn hooks; then sleep.
 *           Messages from one thread to one engine arrive in the order they were posted.
 *           A callback never fires inside the call that started the work.
 * Source  : the mailbox is a stack of Treiber (1986) taken whole and turned round; timers are a
 *           pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986). */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/arena.h"
#include "base/base.h"
#include "base/list.h"
#include "base/rng.h"
#include "base/time.h"
#include <sys/types.h>

#define ENGINES_MAX              64
#define ENGINE_TIMERS_PER_TURN   1024
#define ENGINE_MESSAGES_PER_TURN 1024
#define ENGINE_EVENTS_PER_TURN   256
#define ENGINE_TURN_BYTES_MAX    (64u << 20)

struct engine;

/* The rooms that have a mailbox, one handler each per engine. */
enum port {
    PORT_NONE,
    PORT_NET,
    PORT_AUTH,
    PORT_MODEL,
    PORT_RECALL,
    PORT_REPLY,
    PORT_TALK,
    PORT_SESSION,
    PORT_API,
    PORT_MAIN,
    PORTS_COUNT
};

/* Every message starts with this. `kind` is the port's own enum (bus/messages.h). */
struct msg {
    struct msg *next;
    uint16_t kind;
    uint8_t port;
    uint8_t from_engine; /* who posted it; ENGINES_MAX = a thread without an engine */
    uint32_t bytes;
    void (*drop)(struct msg *m); /* frees what it holds and itself; NULL = mem_free(m) */
};

/* A zeroed message of `bytes` (>= sizeof(struct msg)). Memory exhausted after start is a CHECK only
 * for messages under 64 KiB made by control paths; use msg_try_new where a stranger decides. */
void *msg_new(enum port port, uint16_t kind, size_t bytes);
void *msg_try_new(enum port port, uint16_t kind, size_t bytes) MUST_USE;
void msg_free(struct msg *m); /* calls drop */

/* `count` 0 = one per processor this process may use; `seed` 0 = from the system. Ignores
 * SIGPIPE for the whole process (libraries write to sockets, too) and lets malloc keep 16 MiB.
 * ERR_FULL, ERR_IO: nothing was made. */
enum err engines_make(uint32_t count, uint64_t seed) MUST_USE;
/* After engines_run and after every room was freed: drops messages that came since. */
void engines_free(void);
uint32_t engines_count(void);
struct engine *engine_at(uint32_t index);
uint32_t engine_index(const struct engine *e);
/* The engine of the calling thread; NULL outside. */
struct engine *engine_mine(void);
/* True in the engine's own thread, and everywhere while it does not run. */
bool engine_is_mine(const struct engine *e);

/* Before the start of the threads: who takes messages of `port` here. `ctx` is the room's state.
 * A message to a port where nobody listens (a role that does not run here) is dropped. */
void engine_listen(struct engine *e, enum port port, void (*take)(void *ctx, struct msg *m),
                   void *ctx);
void *engine_room(const struct engine *e, enum port port); /* that ctx */

/* Any thread. Takes the message. Wakes the engine when it sleeps. */
void engine_post(struct engine *e, struct msg *m);

/* Runs the loops: engine 0 in the calling thread, the others in threads of their own (with all
 * signals blocked). Returns after engines_stop, when all loops ended after their current turn and
 * the messages left in the mailboxes were dropped. Once per engines_make. */
void engines_run(void);
void engines_stop(void); /* any thread or signal handler; idempotent */

/* One turn of one engine in the calling thread, after a sleep of at most `wait_ms_max` (-1 = until
 * there is something to do): for tests and the simulator, instead of engines_run. */
void engine_step(struct engine *e, int64_t wait_ms_max);
/* The same: moves the monotonic clock of the whole process ahead. */
void engine_clock_skip(int64_t ms);

struct mono engine_now(const struct engine *e); /* of this turn */
int64_t engine_wall_ms(const struct engine *e); /* of this turn */
struct mono mono_now(void);                     /* reads the clock: threads without an engine */
int64_t wall_now_ms(void);
struct rng *engine_rng(struct engine *e);
struct arena *engine_turn(struct engine *e);
/* Bytes nobody can guess. CHECKs that the system gives them. */
void engine_random(void *at, size_t count);

/* Timers: intrusive, zeroed = not armed. Arming an armed one moves it. One that is set to now or
 * earlier fires in the next turn. Those of the same instant fire in no promised order. */
struct timer {
    struct timer *child; /* private: the heap's links */
    struct timer *next;
    struct timer *prev; /* the left sibling or the parent; itself for the root; NULL = not armed */
    struct mono at;
    void (*fire)(void *ctx);
    void *ctx;
};
void timer_init(struct timer *t, void (*fire)(void *ctx), void *ctx);
void timer_set(struct engine *e, struct timer *t, struct mono at);
void timer_clear(struct engine *e, struct timer *t);
static inline bool timer_is_set(const struct timer *t)
{
    return t->prev != NULL;
}

/* Descriptors: level-triggered. Zeroed = not watched. ENGINE_HANGUP (error, or both directions
 * ended) is told wanted or not, and again until the watch is cleared. */
enum { ENGINE_READ = 1, ENGINE_WRITE = 2, ENGINE_HANGUP = 4 };
struct watch {
    int fd;
    uint16_t wants;
    bool added;
    void (*ready)(void *ctx, uint32_t events);
    void *ctx;
};
enum err watch_set(struct engine *e, struct watch *w, int fd, uint32_t wants,
                   void (*ready)(void *ctx, uint32_t events), void *ctx) MUST_USE;
void watch_change(struct engine *e, struct watch *w, uint32_t wants);
/* Before close(fd). No event of it comes any more, also none that this turn has already gathered;
 * the memory and the descriptor's number may be used anew at once. */
void watch_clear(struct engine *e, struct watch *w);

/* End-of-turn hooks: `run` is called once, after the mailbox and descriptors of this turn, in the
 * order of arming. One that is armed while hooks run still runs in this turn, after the others; one
 * that keeps arming itself goes on in the next turn. Arming an armed one does nothing. */
struct turn_hook {
    struct list link;
    void (*run)(void *ctx);
    void *ctx;
};
void engine_at_turn_end(struct engine *e, struct turn_hook *h);

/* A child process that dies with us (PR_SET_PDEATHSIG, checked after fork); its standard output
 * comes in lines. Callbacks run in the engine's thread. The kernel ties the child to the *thread*
 * that forks: children of engine 0 live until the process ends, those of another engine until its
 * loop ends. It has a process group of its own, so that Ctrl-C does not reach it before us. */
struct child {
    struct engine *engine;
    pid_t pid; /* 0 = none */
    struct watch out;
    int pid_fd;
    struct watch exit;
    char line[1024];
    size_t line_bytes;
    void (*on_line)(void *ctx, struct bytes line);
    void (*on_exit)(void *ctx, int status); /* as of waitpid */
    void *ctx;
};
/* `argv` ends with NULL; argv[0] is looked up in PATH. Standard input is /dev/null, standard
 * error is ours, nothing else is inherited. A program that cannot be executed exits with 127. A
 * line is given without its end and in pieces of at most 1024 bytes. on_line may be NULL.
 * on_exit is the last call, after the last line; the child may be started again inside it. */
enum err child_start(struct engine *e, struct child *c, char *const argv[],
                     void (*on_line)(void *ctx, struct bytes line),
                     void (*on_exit)(void *ctx, int status), void *ctx) MUST_USE;
void child_signal(struct child *c, int number); /* nothing when it does not run */

/* Threads without a loop (journal writer, readers): a bounded mailbox they block on. Messages of
 * one thread come in the order they were posted. NULL: out of memory. */
struct inbox;
struct inbox *inbox_new(uint32_t messages_max);
void inbox_free(struct inbox **i); /* drops what is left */
/* Any thread. ERR_FULL, ERR_CLOSED: not taken. With `force` the limit is passed (control
 * messages). */
enum err inbox_post(struct inbox *i, struct msg *m, bool force) MUST_USE;
/* Waits until there is something, then answers the whole list in order (linked by `next`); NULL
 * after inbox_close and when empty. */
struct msg *inbox_take_all(struct inbox *i);
void inbox_close(struct inbox *i);
uint32_t inbox_count(const struct inbox *i);

#endif
