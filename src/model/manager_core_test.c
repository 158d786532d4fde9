/* The life of the local model's process as stories. */
#include "model/manager_core_priv.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MS(n) ((int64_t)(n)*1000000)

static struct manager_effects feed(struct manager_core *c, int64_t at_ms,
                                   enum manager_event_kind kind)
{
    struct manager_event ev = {.kind = kind};
    return manager_decide(c, &ev, (struct mono){MS(at_ms)});
}

static struct manager_effects ends(struct manager_core *c, int64_t at_ms, int code)
{
    struct manager_event ev = {.kind = MANAGER_ON_EXIT, .code = code};
    return manager_decide(c, &ev, (struct mono){MS(at_ms)});
}

static struct manager_effects misses(struct manager_core *c, int64_t at_ms, bool busy)
{
    struct manager_event ev = {.kind = MANAGER_ON_HEALTH_BAD, .busy = busy};
    return manager_decide(c, &ev, (struct mono){MS(at_ms)});
}

static void make_ready(struct manager_core *c, int64_t at_ms)
{
    manager_core_init(c);
    assert_true(feed(c, at_ms, MANAGER_ON_START).spawn);
    assert_true(feed(c, at_ms, MANAGER_ON_LINE).probe);
    assert_true(feed(c, at_ms, MANAGER_ON_HEALTH_OK).offer);
    assert_int_equal(c->state, MANAGER_READY);
}

static void ready_needs_the_line_and_health(void **state)
{
    (void)state;
    struct manager_core c;
    manager_core_init(&c);
    (void)feed(&c, 1, MANAGER_ON_START);
    struct manager_effects e = feed(&c, 2, MANAGER_ON_HEALTH_OK);
    assert_false(e.offer);
    assert_int_equal(c.state, MANAGER_STARTING);
    (void)feed(&c, 3, MANAGER_ON_LINE);
    assert_int_equal(c.state, MANAGER_LOADING);
    (void)misses(&c, 4, false);
    assert_int_equal(c.state, MANAGER_LOADING);
    assert_true(feed(&c, 103, MANAGER_ON_TIMER).probe);
    assert_true(feed(&c, 104, MANAGER_ON_HEALTH_OK).offer);
}

static void exits_that_cannot_be_cured_fail_for_good(void **state)
{
    (void)state;
    static const struct {
        int code;
        enum manager_cause cause;
    } rows[] = {{3, MANAGER_CAUSE_NO_CPU},
                {4, MANAGER_CAUSE_BAD_MODEL},
                {126, MANAGER_CAUSE_NO_PYTHON},
                {127, MANAGER_CAUSE_NO_PYTHON}};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct manager_core c;
        manager_core_init(&c);
        (void)feed(&c, 1, MANAGER_ON_START);
        struct manager_effects e = ends(&c, 2, rows[i].code);
        assert_true(e.withdraw && e.refuse && !e.spawn);
        assert_int_equal(c.state, MANAGER_FAILED);
        assert_int_equal(c.cause, rows[i].cause);
        assert_int_equal(c.deadline.ns, 0);
    }
}

static void other_exits_are_answered_by_a_restart_that_comes_later_each_time(void **state)
{
    (void)state;
    static const int64_t waits[] = {500, 1000, 2000, 4000, 8000, 16000, 30000, 30000};
    struct manager_core c;
    int64_t now = 1;
    manager_core_init(&c);
    (void)feed(&c, now, MANAGER_ON_START);
    for (size_t i = 0; i < ARRAY_COUNT(waits); i++) {
        struct manager_effects e = ends(&c, now, i % 2 == 0 ? 5 : -1);
        assert_true(e.withdraw);
        assert_int_equal(e.refuse, i + 1 >= MANAGER_PATIENCE);
        assert_int_equal(c.deadline.ns, MS(now + waits[i]));
        now += waits[i];
        assert_true(feed(&c, now, MANAGER_ON_TIMER).spawn);
    }
}

static void a_minute_of_health_resets_the_back_off(void **state)
{
    (void)state;
    struct manager_core c;
    make_ready(&c, 1000);
    (void)ends(&c, 2000, -1);
    assert_int_equal(c.deadline.ns, MS(2500));
    (void)feed(&c, 2500, MANAGER_ON_TIMER);
    (void)feed(&c, 2600, MANAGER_ON_LINE);
    (void)feed(&c, 3000, MANAGER_ON_HEALTH_OK);
    (void)ends(&c, 62999, -1);
    assert_int_equal(c.deadline.ns, MS(62999 + 1000));
    make_ready(&c, 1000);
    c.backoff_ms = 8000;
    (void)ends(&c, 61000, -1);
    assert_int_equal(c.deadline.ns, MS(61500));
}

static void three_misses_in_a_row_kill_an_idle_process(void **state)
{
    (void)state;
    struct manager_core c;
    make_ready(&c, 1000);
    assert_false(misses(&c, 2000, false).kill);
    assert_false(misses(&c, 4000, false).kill);
    (void)feed(&c, 6000, MANAGER_ON_HEALTH_OK);
    assert_false(misses(&c, 8000, false).kill);
    assert_false(misses(&c, 10000, false).kill);
    struct manager_effects e = misses(&c, 12000, false);
    assert_true(e.kill && e.withdraw);
    assert_false(misses(&c, 14000, false).kill);
    assert_false(feed(&c, 14000, MANAGER_ON_HEALTH_OK).offer);
    (void)ends(&c, 14001, -1);
    assert_int_equal(c.state, MANAGER_BACKOFF);
}

static void a_busy_process_gets_more_time_but_not_forever(void **state)
{
    (void)state;
    struct manager_core c;
    make_ready(&c, 1000);
    for (uint32_t i = 1; i < MANAGER_MISSES_BUSY_MAX; i++)
        assert_false(misses(&c, 1000 + 2000 * i, true).kill);
    assert_true(misses(&c, 90000, true).kill);
}

static void a_start_without_end_is_killed(void **state)
{
    (void)state;
    struct manager_core c;
    manager_core_init(&c);
    (void)feed(&c, 1000, MANAGER_ON_START);
    assert_int_equal(c.deadline.ns, MS(1000 + MANAGER_START_MS));
    assert_true(feed(&c, 1000 + MANAGER_START_MS, MANAGER_ON_TIMER).kill);
    manager_core_init(&c);
    (void)feed(&c, 1000, MANAGER_ON_START);
    (void)feed(&c, 2000, MANAGER_ON_LINE);
    assert_false(misses(&c, 3000, false).kill);
    assert_true(misses(&c, 2000 + MANAGER_LOAD_MS, false).kill);
}

static void a_missing_file_is_no_error_of_the_start(void **state)
{
    (void)state;
    struct manager_core c;
    manager_core_init(&c);
    struct manager_event ev = {.kind = MANAGER_ON_MISSING, .cause = MANAGER_CAUSE_NO_MODEL};
    struct manager_effects e = manager_decide(&c, &ev, (struct mono){1});
    assert_true(e.refuse && !e.spawn);
    assert_string_equal(manager_cause_word(c.cause), "no_model");
    assert_non_null(strstr(manager_cause_sentence(c.cause), "models[].url"));
}

static void stop_ends_the_process_and_starts_none(void **state)
{
    (void)state;
    struct manager_core c;
    make_ready(&c, 1000);
    struct manager_effects e = feed(&c, 2000, MANAGER_ON_STOP);
    assert_true(e.terminate && e.withdraw && !e.spawn);
    e = ends(&c, 2001, -1);
    assert_false(e.spawn);
    assert_int_equal(c.state, MANAGER_OFF);
    assert_int_equal(c.deadline.ns, 0);
    make_ready(&c, 1000);
    (void)ends(&c, 2000, -1);
    e = feed(&c, 2100, MANAGER_ON_STOP);
    assert_false(e.terminate);
}

/* Whatever comes: a second process is never started beside the first, and only READY offers. */
static void any_order_of_events_keeps_the_rules(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 11);
    for (uint32_t round = 0; round < 5000; round++) {
        struct manager_core c;
        bool runs = true;
        int64_t now = 1;
        manager_core_init(&c);
        (void)feed(&c, now, MANAGER_ON_START);
        for (uint32_t i = 0; i < 60; i++) {
            struct manager_event ev = {0};
            ev.kind = (enum manager_event_kind)rng_below(&rng, MANAGER_EVENTS_COUNT);
            ev.code = rng_below(&rng, 2) == 0 ? -1 : (int)rng_below(&rng, 8);
            ev.busy = rng_below(&rng, 2) == 0;
            bool impossible = ev.kind == MANAGER_ON_MISSING || ev.kind == MANAGER_ON_START ||
                              ev.kind == MANAGER_ON_SPAWN_FAILED ||
                              (ev.kind == MANAGER_ON_EXIT && !runs) ||
                              (ev.kind == MANAGER_ON_TIMER && c.deadline.ns == 0);
            if (impossible)
                continue;
            now += (int64_t)rng_below(&rng, 5000);
            struct manager_effects e = manager_decide(&c, &ev, (struct mono){MS(now)});
            if (ev.kind == MANAGER_ON_EXIT)
                runs = false;
            assert_true(!e.spawn || !runs);
            assert_true(!e.offer || (c.state == MANAGER_READY && runs));
            runs = runs || e.spawn;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_needs_the_line_and_health),
        cmocka_unit_test(exits_that_cannot_be_cured_fail_for_good),
        cmocka_unit_test(other_exits_are_answered_by_a_restart_that_comes_later_each_time),
        cmocka_unit_test(a_minute_of_health_resets_the_back_off),
        cmocka_unit_test(three_misses_in_a_row_kill_an_idle_process),
        cmocka_unit_test(a_busy_process_gets_more_time_but_not_forever),
        cmocka_unit_test(a_start_without_end_is_killed),
        cmocka_unit_test(a_missing_file_is_no_error_of_the_start),
        cmocka_unit_test(stop_ends_the_process_and_starts_none),
        cmocka_unit_test(any_order_of_events_keeps_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
