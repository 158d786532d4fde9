/* Buckets never give more than burst + rate x time, and never less than they promise. */
#include "base/mem.h"
#include "base/rng.h"
#include "rule/rule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define START_NS 5000000000LL

static struct mono at_ms(int64_t ms)
{
    return (struct mono){START_NS + ms * 1000000};
}

static void a_new_bucket_is_full(void **state)
{
    (void)state;
    struct rate r = {0};
    int64_t retry = -1;
    for (int i = 0; i < 5; i++)
        assert_true(rate_take(&r, 10, 5, 1, at_ms(0), &retry));
    assert_int_equal(retry, -1);
    assert_false(rate_take(&r, 10, 5, 1, at_ms(0), &retry));
    assert_int_equal(retry, 100);
}

static void it_fills_at_its_rate_and_not_above(void **state)
{
    (void)state;
    struct rate r = {0};
    int64_t retry;
    assert_true(rate_take(&r, 10, 5, 5, at_ms(0), &retry));
    assert_false(rate_take(&r, 10, 5, 1, at_ms(99), &retry));
    assert_int_equal(retry, 1);
    assert_true(rate_take(&r, 10, 5, 1, at_ms(100), &retry));
    assert_true(rate_take(&r, 10, 5, 5, at_ms(100000), &retry));
    assert_false(rate_take(&r, 10, 5, 1, at_ms(100000), &retry));
}

static void more_than_a_bucket_costs_the_bucket(void **state)
{
    (void)state;
    struct rate r = {0};
    int64_t retry;
    assert_true(rate_take(&r, 1, 2, 50, at_ms(0), &retry));
    assert_false(rate_take(&r, 1, 2, 50, at_ms(0), &retry));
    assert_int_equal(retry, 2000);
    assert_true(rate_take(&r, 1, 2, 50, at_ms(2000), &retry));
}

static void a_refusal_takes_nothing(void **state)
{
    (void)state;
    struct rate r = {0};
    int64_t retry;
    assert_true(rate_take(&r, 1, 3, 1, at_ms(0), &retry));
    assert_false(rate_take(&r, 1, 3, 3, at_ms(0), &retry));
    assert_int_equal(retry, 1000);
    assert_true(rate_take(&r, 1, 3, 2, at_ms(0), &retry));
}

static void a_clock_that_steps_back_gives_nothing(void **state)
{
    (void)state;
    struct rate r = {0};
    int64_t retry;
    assert_true(rate_take(&r, 1000, 1, 1, at_ms(1000), &retry));
    assert_false(rate_take(&r, 1000, 1, 1, at_ms(0), &retry));
    assert_false(rate_take(&r, 1000, 1, 1, at_ms(1000), &retry));
    assert_true(rate_take(&r, 1000, 1, 1, at_ms(1001), &retry));
}

static void extremes_do_not_overflow(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 1000, RATE_PER_S_MAX, UINT32_MAX};
    int64_t retry;
    for (size_t i = 0; i < ARRAY_COUNT(sizes) * ARRAY_COUNT(sizes); i++) {
        struct rate r = {0};
        uint32_t per_s = sizes[i % ARRAY_COUNT(sizes)];
        uint32_t burst = sizes[i / ARRAY_COUNT(sizes)];
        assert_true(rate_take(&r, per_s, burst, UINT32_MAX, (struct mono){1}, &retry));
        assert_false(rate_take(&r, per_s, burst, 1, (struct mono){1}, &retry));
        assert_true(retry > 0);
        assert_true(rate_take(&r, per_s, burst, UINT32_MAX, (struct mono){INT64_MAX}, &retry));
    }
    struct rate r = {0};
    assert_true(rate_take(&r, 0, 1, 1, at_ms(0), &retry));
    assert_false(rate_take(&r, 0, 1, 1, at_ms(1000000), &retry));
    assert_true(retry == INT64_MAX);
}

/* Random looks at random times: what was given stays under the line burst + rate x time, and a
 * refused one that comes back when it was told succeeds. */
static void the_line_is_never_crossed(void **state)
{
    (void)state;
    struct rng rng;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        rng_init(&rng, seed);
        uint32_t per_s = (uint32_t)rng_below(&rng, 2000) + 1;
        uint32_t burst = (uint32_t)rng_below(&rng, 50) + 1;
        struct rate r = {0};
        struct mono now = at_ms(0);
        int64_t given = 0;
        int64_t retry = 0;
        for (int step = 0; step < 500; step++) {
            now.ns += (int64_t)rng_below(&rng, 3000000);
            uint32_t n = (uint32_t)rng_below(&rng, burst) + 1;
            if (!rate_take(&r, per_s, burst, n, now, &retry)) {
                struct rate later = r;
                int64_t again;
                assert_true(rate_take(&later, per_s, burst, n, mono_after_ms(now, retry), &again));
                continue;
            }
            given += n;
            int64_t line = (int64_t)burst * 1000 + (now.ns - START_NS) / 1000 * per_s / 1000 + 1;
            assert_true(given * 1000 <= line);
        }
        assert_true(r.tokens_milli >= 0 && r.tokens_milli <= (int64_t)burst * 1000);
    }
}

static void many_looks_lose_nothing(void **state)
{
    (void)state;
    struct rate r = {0};
    int64_t retry;
    assert_true(rate_take(&r, 3, 1, 1, at_ms(0), &retry));
    for (int64_t ms = 1; ms <= 333; ms++)
        assert_false(rate_take(&r, 3, 1, 1, at_ms(ms), &retry));
    assert_true(rate_take(&r, 3, 1, 1, at_ms(334), &retry));
}

static const uint64_t seed[2] = {11, 22};

static void a_table_keeps_one_bucket_a_key(void **state)
{
    (void)state;
    struct rate_table t;
    int64_t retry;
    assert_int_equal(rate_table_init(&t, 16, seed), ERR_OK);
    assert_true(rate_take(rate_table_get(&t, bytes_of("a")), 1, 1, 1, at_ms(0), &retry));
    assert_false(rate_take(rate_table_get(&t, bytes_of("a")), 1, 1, 1, at_ms(0), &retry));
    assert_true(rate_take(rate_table_get(&t, bytes_of("b")), 1, 1, 1, at_ms(0), &retry));
    assert_true(rate_take(rate_table_get(&t, bytes_of("")), 1, 1, 1, at_ms(0), &retry));
    assert_false(rate_take(rate_table_get(&t, bytes_of("")), 1, 1, 1, at_ms(0), &retry));
    rate_table_fini(&t);
}

static void a_full_table_forgets_the_one_left_alone_longest(void **state)
{
    (void)state;
    struct rate_table t;
    int64_t retry;
    char key[16];
    assert_int_equal(rate_table_init(&t, 8, seed), ERR_OK);
    for (int i = 0; i < 8; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        assert_true(rate_take(rate_table_get(&t, bytes_of(key)), 1, 1, 1, at_ms(0), &retry));
    }
    assert_false(rate_take(rate_table_get(&t, bytes_of("k0")), 1, 1, 1, at_ms(0), &retry));
    assert_true(rate_take(rate_table_get(&t, bytes_of("new")), 1, 1, 1, at_ms(0), &retry));
    /* k1 was the oldest: it is new again. k0 was looked at since and is remembered. */
    assert_false(rate_take(rate_table_get(&t, bytes_of("k0")), 1, 1, 1, at_ms(0), &retry));
    assert_true(rate_take(rate_table_get(&t, bytes_of("k1")), 1, 1, 1, at_ms(0), &retry));
    assert_int_equal(t.pool.used_count, 8);
    assert_int_equal(t.map.count, 8);
    rate_table_fini(&t);
}

static void a_table_survives_many_strangers(void **state)
{
    (void)state;
    struct rate_table t;
    char key[300];
    assert_int_equal(rate_table_init(&t, 64, seed), ERR_OK);
    memset(key, 'x', sizeof(key));
    for (int i = 0; i < 5000; i++) {
        memcpy(key, &i, sizeof(i));
        assert_non_null(rate_table_get(&t, bytes_make(key, sizeof(key))));
        assert_true(t.map.count <= 64 && t.map.count == t.pool.used_count);
    }
    rate_table_fini(&t);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    uint64_t before = mem_used_bytes();
    for (uint64_t n = 1; n < 6; n++) {
        struct rate_table t;
        mem_fail_at(n);
        if (rate_table_init(&t, 64, seed) == ERR_OK) {
            struct rate *r = rate_table_get(&t, bytes_of("a"));
            mem_fail_at(0);
            assert_true(r != NULL || (t.map.count == 0 && t.pool.used_count == 0));
            assert_non_null(rate_table_get(&t, bytes_of("a")));
            rate_table_fini(&t);
        }
        mem_fail_at(0);
        assert_true(mem_used_bytes() == before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_bucket_is_full),
        cmocka_unit_test(it_fills_at_its_rate_and_not_above),
        cmocka_unit_test(more_than_a_bucket_costs_the_bucket),
        cmocka_unit_test(a_refusal_takes_nothing),
        cmocka_unit_test(a_clock_that_steps_back_gives_nothing),
        cmocka_unit_test(extremes_do_not_overflow),
        cmocka_unit_test(the_line_is_never_crossed),
        cmocka_unit_test(many_looks_lose_nothing),
        cmocka_unit_test(a_table_keeps_one_bucket_a_key),
        cmocka_unit_test(a_full_table_forgets_the_one_left_alone_longest),
        cmocka_unit_test(a_table_survives_many_strangers),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
