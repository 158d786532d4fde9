/* The turn of the loop and its threads (engine.c). */
#include "base/mem.h"
#include "diag/diag.h"
#include "engine/engine_priv.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static struct engine *engine;
static char order[64];
static size_t order_count;

static int make(void **state)
{
    (void)state;
    order_count = 0;
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

static void mark(char letter)
{
    assert_true(order_count + 1 < sizeof(order));
    order[order_count] = letter;
    order_count++;
    order[order_count] = '\0';
}

static struct turn_hook hook;
static struct turn_hook hook_again;

static void hook_run(void *ctx)
{
    mark(*(const char *)ctx);
}

static void timer_fire(void *ctx)
{
    (void)ctx;
    engine_at_turn_end(engine, &hook);
    engine_at_turn_end(engine, &hook); /* once all the same */
    mark('T');
}

static void message_take(void *ctx, struct msg *m)
{
    (void)ctx;
    mark('M');
    msg_free(m);
}

static void descriptor_ready(void *ctx, uint32_t events)
{
    (void)ctx;
    (void)events;
    mark('D');
}

static void a_turn_has_its_order(void **state)
{
    (void)state;
    int fds[2];
    struct watch watch = {0};
    struct timer timer;
    hook = (struct turn_hook){.run = hook_run, .ctx = (void *)(uintptr_t) "H"};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(watch_set(engine, &watch, fds[0], ENGINE_READ, descriptor_ready, NULL),
                     ERR_OK);
    engine_listen(engine, PORT_MAIN, message_take, NULL);
    engine_post(engine, msg_new(PORT_MAIN, 1, sizeof(struct msg)));
    timer_init(&timer, timer_fire, NULL);
    timer_set(engine, &timer, (struct mono){0});
    engine_step(engine, 0);
    assert_string_equal(order, "TMDH");
    watch_clear(engine, &watch);
    close(fds[0]);
    close(fds[1]);
}

static uint32_t hook_runs;

static void hook_run_and_arm(void *ctx)
{
    hook_runs++;
    engine_at_turn_end(engine, ctx);
}

static void hook_arms_another(void *ctx)
{
    (void)ctx;
    mark('1');
    engine_at_turn_end(engine, &hook_again);
}

static void a_hook_armed_by_a_hook_runs_in_the_same_turn(void **state)
{
    (void)state;
    struct turn_hook last = {.run = hook_run, .ctx = (void *)(uintptr_t) "3"};
    hook = (struct turn_hook){.run = hook_arms_another};
    hook_again = (struct turn_hook){.run = hook_run, .ctx = (void *)(uintptr_t) "2"};
    engine_at_turn_end(engine, &hook);
    engine_at_turn_end(engine, &last);
    engine_step(engine, 0);
    assert_string_equal(order, "132");
    engine_step(engine, 0);
    assert_string_equal(order, "132");
}

static void a_hook_that_arms_itself_does_not_hold_the_turn_up(void **state)
{
    (void)state;
    hook_runs = 0;
    hook = (struct turn_hook){.run = hook_run_and_arm, .ctx = &hook};
    engine_at_turn_end(engine, &hook);
    engine_step(engine, -1); /* nor does the engine sleep while it is armed */
    assert_int_equal(hook_runs, ENGINE_HOOK_ROUNDS_MAX);
    engine_step(engine, -1);
    assert_int_equal(hook_runs, 2 * ENGINE_HOOK_ROUNDS_MAX);
}

static void arena_hook(void *ctx)
{
    (void)ctx;
    assert_int_equal(engine_turn(engine)->total_used, 0);
    assert_non_null(arena_take(engine_turn(engine), 100000));
}

static void the_turn_arena_is_empty_for_every_callback(void **state)
{
    (void)state;
    struct turn_hook first = {.run = arena_hook};
    struct turn_hook second = {.run = arena_hook};
    engine_at_turn_end(engine, &first);
    engine_at_turn_end(engine, &second);
    engine_step(engine, 0);
    assert_int_equal(engine_turn(engine)->total_used, 0);
    assert_true(engine_turn(engine)->used_bytes_max >= 100000);
}

static void now_and_wall_stand_still_within_a_turn(void **state)
{
    (void)state;
    engine_step(engine, 0);
    struct mono now = engine_now(engine);
    int64_t wall_ms = engine_wall_ms(engine);
    engine_clock_skip(1000);
    assert_int_equal(engine_now(engine).ns, now.ns);
    assert_int_equal(engine_wall_ms(engine), wall_ms);
    engine_step(engine, 0);
    assert_true(engine_now(engine).ns >= now.ns + 1000000000);
}

static void slow_take(void *ctx, struct msg *m)
{
    (void)ctx;
    int64_t began_ns = clock_coarse_ns();
    while (clock_coarse_ns() == began_ns) { /* one tick of the coarse clock */
    }
    msg_free(m);
}

static void a_slow_turn_is_counted_and_names_its_callback(void **state)
{
    (void)state;
    uint64_t before = diag_counter_sum(DIAG_C_slow_turns);
    engine_step(engine, 0);
    assert_int_equal(diag_counter_sum(DIAG_C_slow_turns), before);
    engine->slow_ns = 1;
    engine_listen(engine, PORT_TALK, slow_take, NULL);
    engine_post(engine, msg_new(PORT_TALK, 7, sizeof(struct msg)));
    hook = (struct turn_hook){.run = hook_run, .ctx = (void *)(uintptr_t) "H"};
    engine_at_turn_end(engine, &hook);
    engine_step(engine, 0);
    assert_int_equal(diag_counter_sum(DIAG_C_slow_turns), before + 1);
    assert_int_equal(engine->culprit.step, STEP_MESSAGE);
    assert_int_equal(engine->culprit.port, PORT_TALK);
    assert_int_equal(engine->culprit.kind, 7);
    assert_int_equal(engine->culprit.function, (uintptr_t)slow_take);
}

static void same_seed_same_randomness_but_not_on_every_engine(void **state)
{
    (void)state;
    uint64_t drawn[2][2];
    for (size_t run = 0; run < 2; run++) {
        assert_int_equal(engines_make(2, 99), ERR_OK);
        for (uint32_t i = 0; i < 2; i++)
            drawn[run][i] = rng_next(engine_rng(engine_at(i)));
        engines_free();
    }
    assert_true(drawn[0][0] == drawn[1][0]);
    assert_true(drawn[0][1] == drawn[1][1]);
    assert_true(drawn[0][0] != drawn[0][1]);
}

static void count_zero_means_one_per_processor(void **state)
{
    (void)state;
    assert_int_equal(engines_make(0, 1), ERR_OK);
    assert_true(engines_count() >= 1);
    assert_int_equal(engine_index(engine_at(engines_count() - 1)), engines_count() - 1);
    engines_free();
    assert_int_equal(engines_count(), 0);
}

static void on_signal(int number)
{
    (void)number;
    engines_stop();
}

static void raise_and_forget(void *ctx, struct msg *m)
{
    (void)ctx;
    msg_free(m);
    assert_ptr_equal(engine_mine(), engine);
    assert_int_equal(kill(getpid(), SIGUSR2), 0);
}

static void the_stop_may_come_from_a_signal_handler(void **state)
{
    (void)state;
    struct sigaction before;
    struct sigaction action = {.sa_handler = on_signal};
    assert_int_equal(sigaction(SIGUSR2, &action, &before), 0);
    engine_listen(engine, PORT_MAIN, raise_and_forget, NULL);
    engine_post(engine, msg_new(PORT_MAIN, 1, sizeof(struct msg)));
    assert_null(engine_mine());
    engines_run();
    assert_int_equal(sigaction(SIGUSR2, &before, NULL), 0);
}

static void *stop_from_outside(void *ctx)
{
    (void)ctx;
    engines_stop();
    engines_stop();
    return NULL;
}

static void stop_from_a_thread_wakes_all_engines(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(engines_make(3, 5), ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, stop_from_outside, NULL), 0);
    engines_run();
    assert_int_equal(pthread_join(thread, NULL), 0);
    engines_free();
}

static void making_fails_cleanly_at_every_allocation(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    enum err err = ERR_FULL;
    for (uint64_t n = 1; err != ERR_OK; n++) {
        assert_true(n < 100);
        mem_fail_at(n);
        err = engines_make(2, 3);
        mem_fail_at(0);
        if (err != ERR_OK) {
            assert_int_equal(err, ERR_FULL);
            assert_int_equal(mem_used_bytes(), used);
            assert_int_equal(engines_count(), 0);
        }
    }
    engines_free();
    assert_int_equal(mem_used_bytes(), used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_turn_has_its_order, make, unmake),
        cmocka_unit_test_setup_teardown(a_hook_armed_by_a_hook_runs_in_the_same_turn, make, unmake),
        cmocka_unit_test_setup_teardown(a_hook_that_arms_itself_does_not_hold_the_turn_up, make,
                                        unmake),
        cmocka_unit_test_setup_teardown(the_turn_arena_is_empty_for_every_callback, make, unmake),
        cmocka_unit_test_setup_teardown(now_and_wall_stand_still_within_a_turn, make, unmake),
        cmocka_unit_test_setup_teardown(a_slow_turn_is_counted_and_names_its_callback, make,
                                        unmake),
        cmocka_unit_test(same_seed_same_randomness_but_not_on_every_engine),
        cmocka_unit_test(count_zero_means_one_per_processor),
        cmocka_unit_test_setup_teardown(the_stop_may_come_from_a_signal_handler, make, unmake),
        cmocka_unit_test(stop_from_a_thread_wakes_all_engines),
        cmocka_unit_test(making_fails_cleanly_at_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
