/* Child processes. The exit is watched through a pidfd, so no signal handler is needed and a pid
 * that was given to somebody else is never signalled.
 *
 *     fork -> (child) die with the parent; was it alive? -> own group -> 0, 1, 2 -> exec
 *          -> (we)    read end of its output and pidfd in the loop */
#include "diag/diag.h"
#include "engine/engine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_READ_BYTES     4096
#define CHILD_LAST_READS_MAX 64 /* a grandchild may hold the pipe open and go on writing */

/* In the forked process: only calls that are safe after a fork of many threads. */
__attribute__((noreturn)) static void child_become(char *const argv[], int out_fd, pid_t parent)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL); /* KILL and STOP say no, and are right already */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        _exit(127);
    /* If the parent died before the line above, the signal will never come. */
    if (getppid() != parent)
        _exit(127);
    (void)setpgid(0, 0);                 /* a new child is no leader: cannot fail */
    int out = fcntl(out_fd, F_DUPFD, 3); /* out of the way of 0 to 2 */
    int in = open("/dev/null", O_RDONLY);
    if (out < 0 || in < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
        _exit(127);
    if (close_range(3, ~0u, 0) != 0)
        _exit(127);
    (void)execvp(argv[0], argv); /* comes back only when it failed */
    _exit(127);
}

static void child_line(struct child *c)
{
    struct bytes line = bytes_make(c->line, c->line_bytes);
    c->line_bytes = 0;
    if (c->on_line != NULL)
        c->on_line(c->ctx, line);
}

static void child_take(struct child *c, const uint8_t *at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (at[i] == '\n') {
            child_line(c);
            continue;
        }
        if (c->line_bytes == sizeof(c->line))
            child_line(c);
        c->line[c->line_bytes] = (char)at[i];
        c->line_bytes++;
    }
}

static void child_out_close(struct child *c)
{
    if (c->out.fd < 0)
        return;
    watch_clear(c->engine, &c->out);
    (void)close(c->out.fd); /* the reading end of a pipe */
    c->out.fd = -1;
    if (c->line_bytes > 0)
        child_line(c);
}

/* One piece of output. False: nothing more now, or never. */
static bool child_read(struct child *c)
{
    uint8_t at[CHILD_READ_BYTES];
    ssize_t got = read(c->out.fd, at, sizeof(at));
    if (got > 0) {
        child_take(c, at, (size_t)got);
        return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        child_out_close(c);
    return false;
}

static void child_out_ready(void *ctx, uint32_t events)
{
    struct child *c = ctx;
    (void)events; /* whatever it was, reading tells */
    (void)child_read(c);
}

static void child_exit_ready(void *ctx, uint32_t events)
{
    struct child *c = ctx;
    (void)events;
    int status = 0;
    pid_t ended = waitpid(c->pid, &status, WNOHANG);
    if (ended == 0 || (ended < 0 && errno == EINTR))
        return; /* asked again: the descriptor stays readable */
    CHECK(ended == c->pid);
    for (uint32_t i = 0; i < CHILD_LAST_READS_MAX && c->out.fd >= 0; i++) {
        if (!child_read(c))
            break;
    }
    child_out_close(c);
    watch_clear(c->engine, &c->exit);
    (void)close(c->pid_fd);
    c->pid_fd = -1;
    c->pid = 0;
    c->on_exit(c->ctx, status);
}

static enum err child_watch(struct child *c, int out_fd)
{
    c->pid_fd = pidfd_open(c->pid, 0);
    if (c->pid_fd < 0)
        return ERR_IO;
    enum err err = watch_set(c->engine, &c->exit, c->pid_fd, ENGINE_READ, child_exit_ready, c);
    if (err != ERR_OK)
        return err;
    return watch_set(c->engine, &c->out, out_fd, ENGINE_READ, child_out_ready, c);
}

/* Somebody runs, but cannot be watched: it must not stay. */
static void child_undo(struct child *c, int out_fd)
{
    (void)kill(c->pid, SIGKILL); /* ours and not yet waited for: the pid is still its */
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    watch_clear(c->engine, &c->exit);
    watch_clear(c->engine, &c->out);
    if (c->pid_fd >= 0)
        (void)close(c->pid_fd);
    (void)close(out_fd);
    c->out.fd = -1;
    c->pid_fd = -1;
    c->pid = 0;
}

enum err child_start(struct engine *e, struct child *c, char *const argv[],
                     void (*on_line)(void *ctx, struct bytes line),
                     void (*on_exit)(void *ctx, int status), void *ctx)
{
    CHECK(engine_is_mine(e));
    CHECK(c->pid == 0);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return ERR_IO;
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
        (void)close(ends[0]);
        (void)close(ends[1]);
        return ERR_IO;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        child_become(argv, ends[1], parent);
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return ERR_IO;
    }
    *c = (struct child){.engine = e, .pid = pid, .pid_fd = -1, .out = {.fd = -1}};
    c->on_line = on_line;
    c->on_exit = on_exit;
    c->ctx = ctx;
    enum err err = child_watch(c, ends[0]);
    if (err != ERR_OK) {
        child_undo(c, ends[0]);
        return err;
    }
    diag_note(engine_now(e), "child started: pid, engine", (uint64_t)pid, engine_index(e));
    return ERR_OK;
}

void child_signal(struct child *c, int number)
{
    if (c->pid == 0)
        return;
    CHECK(engine_is_mine(c->engine));
    /* It may have ended in this moment; then the exit is on its way. */
    (void)pidfd_send_signal(c->pid_fd, number, NULL, 0);
}
