/* Descriptors (watch.c): level-triggered events, and none of a watch that was cleared. */
#include "engine/engine_priv.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

struct seen {
    struct watch watch;
    struct seen *other;
    int fds[2];
    uint32_t calls;
    uint32_t events;
};

static struct engine *engine;

static int make(void **state)
{
    (void)state;
    if (engines_make(1, 7) != ERR_OK)
        return -1;
    engine = engine_at(0);
    engine_step(engine, 0);
    return 0;
}

static int unmake(void **state)
{
    (void)state;
    engines_free();
    return 0;
}

static void note(void *ctx, uint32_t events)
{
    struct seen *s = ctx;
    s->calls++;
    s->events = events;
}

static void pair_open(struct seen *s)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s->fds), 0);
}

static void pair_close(struct seen *s)
{
    watch_clear(engine, &s->watch);
    close(s->fds[0]);
    close(s->fds[1]);
}

static void an_event_comes_again_until_it_is_dealt_with(void **state)
{
    (void)state;
    struct seen s = {0};
    pair_open(&s);
    assert_int_equal(watch_set(engine, &s.watch, s.fds[0], ENGINE_READ, note, &s), ERR_OK);
    engine_step(engine, 0);
    assert_int_equal(s.calls, 0);
    assert_int_equal(write(s.fds[1], "x", 1), 1);
    engine_step(engine, 0);
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.events, ENGINE_READ);
    engine_step(engine, 0);
    assert_int_equal(s.calls, 2);
    char byte;
    assert_int_equal(read(s.fds[0], &byte, 1), 1);
    engine_step(engine, 0);
    assert_int_equal(s.calls, 2);
    watch_change(engine, &s.watch, ENGINE_READ | ENGINE_WRITE);
    engine_step(engine, 0);
    assert_int_equal(s.calls, 3);
    assert_int_equal(s.events, ENGINE_WRITE);
    pair_close(&s);
}

static void want_reading_only(void *ctx)
{
    struct seen *s = ctx;
    watch_change(engine, &s->watch, ENGINE_READ);
}

static void what_is_no_longer_wanted_is_not_told(void **state)
{
    struct timer timer;
    (void)state;
    struct seen s = {0};
    pair_open(&s);
    assert_int_equal(watch_set(engine, &s.watch, s.fds[0], ENGINE_WRITE, note, &s), ERR_OK);
    timer_init(&timer, want_reading_only, &s);
    timer_set(engine, &timer, (struct mono){0});
    engine_step(engine, -1); /* gathered as writable, then the timer */
    assert_false(timer_is_set(&timer));
    assert_int_equal(s.calls, 0);
    pair_close(&s);
}

static void a_hangup_is_told_although_nothing_is_wanted(void **state)
{
    (void)state;
    struct seen s = {0};
    pair_open(&s);
    assert_int_equal(watch_set(engine, &s.watch, s.fds[0], 0, note, &s), ERR_OK);
    close(s.fds[1]);
    engine_step(engine, 0);
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.events, ENGINE_HANGUP);
    watch_clear(engine, &s.watch);
    close(s.fds[0]);
}

/* Closes the other one, whose event is in the same batch, and opens a socket that gets its
 * number. */
static void kill_the_other(void *ctx, uint32_t events)
{
    struct seen *s = ctx;
    note(ctx, events);
    if (s->calls > 1)
        return;
    struct seen *o = s->other;
    int number = o->fds[0];
    pair_close(o);
    memset(o, 0x5a, sizeof(*o)); /* as memory that belongs to somebody else now */
    memset(o, 0, sizeof(*o));
    pair_open(o);
    assert_true(o->fds[0] == number || o->fds[1] == number);
    assert_int_equal(watch_set(engine, &o->watch, number, ENGINE_READ, note, o), ERR_OK);
}

static void a_reused_descriptor_gets_no_event_of_its_predecessor(void **state)
{
    (void)state;
    struct seen s[2] = {{.other = &s[1]}, {.other = &s[0]}};
    for (size_t i = 0; i < 2; i++) {
        pair_open(&s[i]);
        assert_int_equal(
            watch_set(engine, &s[i].watch, s[i].fds[0], ENGINE_READ, kill_the_other, &s[i]),
            ERR_OK);
        assert_int_equal(write(s[i].fds[1], "x", 1), 1);
    }
    engine_step(engine, 0); /* gathers both; whoever comes first kills the other */
    assert_int_equal(s[0].calls + s[1].calls, 1);
    uint32_t fresh = s[0].calls == 0 ? 0 : 1;
    engine_step(engine, 0);
    assert_int_equal(s[fresh].calls, 0);
    pair_close(&s[0]);
    pair_close(&s[1]);
}

static void a_descriptor_replaced_behind_our_back_is_watched_again(void **state)
{
    (void)state;
    struct seen s = {0};
    pair_open(&s);
    assert_int_equal(watch_set(engine, &s.watch, s.fds[0], ENGINE_READ, note, &s), ERR_OK);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(dup2(fds[0], s.fds[0]), s.fds[0]); /* closes the watched one */
    watch_change(engine, &s.watch, ENGINE_WRITE);
    engine_step(engine, 0);
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.events, ENGINE_WRITE);
    pair_close(&s);
    close(fds[0]);
    close(fds[1]);
}

static void watching_a_file_fails_and_says_so(void **state)
{
    (void)state;
    struct watch w = {0};
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(watch_set(engine, &w, fd, ENGINE_READ, note, NULL), ERR_IO);
    assert_false(w.added);
    watch_clear(engine, &w);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_event_comes_again_until_it_is_dealt_with, make, unmake),
        cmocka_unit_test_setup_teardown(what_is_no_longer_wanted_is_not_told, make, unmake),
        cmocka_unit_test_setup_teardown(a_hangup_is_told_although_nothing_is_wanted, make, unmake),
        cmocka_unit_test_setup_teardown(a_reused_descriptor_gets_no_event_of_its_predecessor, make,
                                        unmake),
        cmocka_unit_test_setup_teardown(a_descriptor_replaced_behind_our_back_is_watched_again,
                                        make, unmake),
        cmocka_unit_test_setup_teardown(watching_a_file_fails_and_says_so, make, unmake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
