/* Clocks and randomness of the engine room (clock.c). */
#include "engine/engine_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void the_monotonic_clock_does_not_go_back(void **state)
{
    (void)state;
    struct mono before = mono_now();
    for (int i = 0; i < 1000; i++) {
        struct mono now = mono_now();
        assert_true(now.ns >= before.ns);
        before = now;
    }
}

static void a_skip_moves_the_clock_ahead_and_leaves_the_real_one(void **state)
{
    (void)state;
    int64_t apart_before = mono_now().ns - clock_real_ns();
    engine_clock_skip(3600000);
    int64_t apart = mono_now().ns - clock_real_ns();
    int64_t moved = apart - apart_before;
    assert_true(moved > 3599000000000 && moved < 3601000000000);
}

static void wall_time_is_unix_milliseconds(void **state)
{
    (void)state;
    assert_true(wall_now_ms() > 1700000000000);
    assert_true(wall_now_ms() < 10000000000000);
}

static void random_bytes_reach_every_byte_and_no_further(void **state)
{
    (void)state;
    uint8_t at[66] = {0};
    uint8_t seen[64] = {0};
    for (int i = 0; i < 32; i++) {
        engine_random(at + 1, 64);
        for (size_t j = 0; j < 64; j++)
            seen[j] |= at[j + 1];
    }
    assert_int_equal(at[0], 0);
    assert_int_equal(at[65], 0);
    for (size_t j = 0; j < 64; j++)
        assert_int_not_equal(seen[j], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_monotonic_clock_does_not_go_back),
        cmocka_unit_test(a_skip_moves_the_clock_ahead_and_leaves_the_real_one),
        cmocka_unit_test(wall_time_is_unix_milliseconds),
        cmocka_unit_test(random_bytes_reach_every_byte_and_no_further),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
