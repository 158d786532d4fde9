#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void the_stream_is_xoshiro256_starstar(void **state)
{
    static const uint64_t wanted[] = {
        11520u,
        0u,
        1509978240u,
        1215971899390074240u,
        1216172134540287360u,
        607988272756665600u,
        16172922978634559625u,
        8476171486693032832u,
        10595114339597558777u,
        2904607092377533576u,
    };
    struct rng r = {{1, 2, 3, 4}};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(wanted); i++)
        assert_true(rng_next(&r) == wanted[i]);
}

static void the_seed_goes_through_splitmix64(void **state)
{
    struct rng r;
    (void)state;
    rng_init(&r, 1234567);
    assert_true(r.s[0] == 6457827717110365317u);
    assert_true(r.s[1] == 3203168211198807973u);
    assert_true(r.s[2] == 9817491932198370423u);
    assert_true(r.s[3] == 4593380528125082431u);
}

static void below_is_below_and_reaches_everything(void **state)
{
    struct rng r;
    unsigned seen[7] = {0};
    (void)state;
    rng_init(&r, 1);
    for (int i = 0; i < 7000; i++) {
        uint64_t x = rng_below(&r, 7);
        assert_true(x < 7);
        seen[x]++;
    }
    for (size_t i = 0; i < ARRAY_COUNT(seen); i++)
        assert_in_range(seen[i], 850, 1150);
    for (int i = 0; i < 100; i++)
        assert_true(rng_below(&r, 1) == 0);
    /* Two thirds of 2^64: a third of the draws must be drawn again, and half be below a third. */
    uint64_t bound = UINT64_MAX / 3 * 2;
    unsigned low = 0;
    for (int i = 0; i < 4000; i++) {
        uint64_t x = rng_below(&r, bound);
        assert_true(x < bound);
        low += x < bound / 2;
    }
    assert_in_range(low, 1850, 2150);
}

static void fill_repeats_with_the_seed_at_any_count(void **state)
{
    uint8_t whole[40];
    uint8_t part[40];
    struct rng r;
    (void)state;
    rng_init(&r, 9);
    rng_fill(&r, whole, sizeof(whole));
    for (size_t count = 0; count <= sizeof(part); count++) {
        memset(part, 0xee, sizeof(part));
        rng_init(&r, 9);
        rng_fill(&r, part, count);
        assert_memory_equal(part, whole, count);
        if (count < sizeof(part))
            assert_int_equal(part[count], 0xee);
    }
    rng_init(&r, 10);
    rng_fill(&r, part, sizeof(part));
    assert_memory_not_equal(part, whole, sizeof(part));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stream_is_xoshiro256_starstar),
        cmocka_unit_test(the_seed_goes_through_splitmix64),
        cmocka_unit_test(below_is_below_and_reaches_everything),
        cmocka_unit_test(fill_repeats_with_the_seed_at_any_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
