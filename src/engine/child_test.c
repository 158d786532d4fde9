/* Child processes (child.c), with real ones. */
#include "engine/engine_priv.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { STEPS_MAX = 10000, WAIT_MS = 10000 };

struct watcher {
    struct child child;
    char text[4096]; /* lines, each with '|' behind it */
    size_t text_count;
    uint32_t lines;
    bool exited;
    int status;
    char *const *again; /* started once more at the first exit */
};

static struct engine *engine;

static int make(void **state)
{
    (void)state;
    if (engines_make(1, 7) != ERR_OK)
        return -1;
    engine = engine_at(0);
    return 0;
}

static int unmake(void **state)
{
    (void)state;
    engines_free();
    return 0;
}

static void on_line(void *ctx, struct bytes line)
{
    struct watcher *w = ctx;
    assert_false(w->exited);
    w->lines++;
    assert_true(w->text_count + line.count + 2 < sizeof(w->text));
    memcpy(w->text + w->text_count, line.at, line.count);
    w->text_count += line.count;
    w->text[w->text_count] = '|';
    w->text_count++;
    w->text[w->text_count] = '\0';
}

static void start(struct watcher *w, char *const argv[]);

static void on_exit_(void *ctx, int status)
{
    struct watcher *w = ctx;
    assert_int_equal(w->child.pid, 0);
    assert_false(w->exited);
    if (w->again != NULL) {
        char *const *argv = w->again;
        w->again = NULL;
        start(w, argv);
        return;
    }
    w->exited = true;
    w->status = status;
}

static void start(struct watcher *w, char *const argv[])
{
    assert_int_equal(child_start(engine, &w->child, argv, on_line, on_exit_, w), ERR_OK);
    assert_true(w->child.pid > 0);
}

static void run_to_exit(struct watcher *w)
{
    for (int i = 0; i < STEPS_MAX && !w->exited; i++)
        engine_step(engine, WAIT_MS);
    assert_true(w->exited);
}

#define SHELL(script) ((char *const[]){"/bin/sh", "-c", script, NULL})

static void lines_then_the_exit_status(void **state)
{
    (void)state;
    struct watcher w = {0};
    start(&w, SHELL("echo one; echo; printf 'two\\nlast without end'; exit 3"));
    run_to_exit(&w);
    assert_string_equal(w.text, "one||two|last without end|");
    assert_true(WIFEXITED(w.status));
    assert_int_equal(WEXITSTATUS(w.status), 3);
}

static void a_long_line_comes_in_pieces(void **state)
{
    (void)state;
    struct watcher w = {0};
    start(&w, SHELL("printf '%1500s\\n' x"));
    run_to_exit(&w);
    assert_int_equal(w.lines, 2);
    assert_int_equal(w.text_count, 1502);
}

static void a_program_that_is_not_there_exits_127(void **state)
{
    (void)state;
    struct watcher w = {0};
    start(&w, (char *const[]){"/nonexistent/program", NULL});
    run_to_exit(&w);
    assert_true(WIFEXITED(w.status));
    assert_int_equal(WEXITSTATUS(w.status), 127);
}

static void a_signal_ends_it(void **state)
{
    (void)state;
    struct watcher w = {0};
    start(&w, SHELL("echo ready; exec tail -f /dev/null"));
    for (int i = 0; i < STEPS_MAX && w.lines == 0; i++)
        engine_step(engine, WAIT_MS);
    assert_string_equal(w.text, "ready|");
    child_signal(&w.child, SIGTERM);
    run_to_exit(&w);
    assert_true(WIFSIGNALED(w.status));
    assert_int_equal(WTERMSIG(w.status), SIGTERM);
    child_signal(&w.child, SIGTERM); /* nobody */
}

static void nothing_but_its_three_descriptors_is_inherited(void **state)
{
    (void)state;
    struct watcher w = {0};
    int fds[2];
    assert_int_equal(pipe(fds), 0); /* not close-on-exec, as a careless library would */
    start(&w, SHELL("readlink /proc/$$/fd/0; "
                    "for n in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && echo $n; done; "
                    "test $(ps -o pgid= -p $$) = $$ && echo leader"));
    run_to_exit(&w);
    close(fds[0]);
    close(fds[1]);
    assert_string_equal(w.text, "/dev/null|leader|");
}

static void it_may_be_started_again_inside_on_exit(void **state)
{
    (void)state;
    struct watcher w = {.again = SHELL("echo second")};
    start(&w, SHELL("echo first"));
    run_to_exit(&w);
    assert_string_equal(w.text, "first|second|");
}

static void a_grandchild_that_holds_the_pipe_does_not_hide_the_exit(void **state)
{
    (void)state;
    struct watcher w = {0};
    start(&w, SHELL("sleep 1000 & echo $!; exit 0"));
    run_to_exit(&w);
    pid_t grandchild = (pid_t)strtol(w.text, NULL, 10);
    assert_true(grandchild > 1);
    assert_int_equal(kill(grandchild, SIGKILL), 0);
}

/* In a process of its own: starts a child, tells its pid, and is killed. */
__attribute__((noreturn)) static void helper(int to)
{
    struct watcher w = {0};
    if (engines_make(1, 7) != ERR_OK)
        _exit(1);
    engine = engine_at(0);
    start(&w, SHELL("echo here; exec tail -f /dev/null"));
    while (w.lines == 0)
        engine_step(engine, WAIT_MS);
    if (write(to, &w.child.pid, sizeof(w.child.pid)) != sizeof(w.child.pid))
        _exit(1);
    for (;;)
        engine_step(engine, -1);
}

static void a_child_dies_with_its_parent(void **state)
{
    (void)state;
    int fds[2];
    pid_t child = 0;
    assert_int_equal(pipe(fds), 0);
    pid_t parent = fork();
    if (parent == 0)
        helper(fds[1]);
    assert_true(parent > 0);
    assert_int_equal(read(fds[0], &child, sizeof(child)), sizeof(child));
    int pid_fd = pidfd_open(child, 0);
    assert_true(pid_fd >= 0);
    struct pollfd poll_fd = {.fd = pid_fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, 0), 0); /* alive */
    assert_int_equal(kill(parent, SIGKILL), 0);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
    close(pid_fd);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_then_the_exit_status, make, unmake),
        cmocka_unit_test_setup_teardown(a_long_line_comes_in_pieces, make, unmake),
        cmocka_unit_test_setup_teardown(a_program_that_is_not_there_exits_127, make, unmake),
        cmocka_unit_test_setup_teardown(a_signal_ends_it, make, unmake),
        cmocka_unit_test_setup_teardown(nothing_but_its_three_descriptors_is_inherited, make,
                                        unmake),
        cmocka_unit_test_setup_teardown(it_may_be_started_again_inside_on_exit, make, unmake),
        cmocka_unit_test_setup_teardown(a_grandchild_that_holds_the_pipe_does_not_hide_the_exit,
                                        make, unmake),
        cmocka_unit_test(a_child_dies_with_its_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
