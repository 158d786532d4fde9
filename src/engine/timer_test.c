/* Timers (timer.c). */
#include "engine/engine_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { TIMERS = 200 };

struct model {
    struct timer timer;
    int64_t at_ns; /* 0 = not armed */
    bool fired;
};

static struct engine *engine;
static struct model models[TIMERS];
static int64_t fired_last_ns;
static uint32_t fired_count;

static int make(void **state)
{
    (void)state;
    enum err err = engines_make(1, 7);
    engine = err == ERR_OK ? engine_at(0) : NULL;
    fired_count = 0;
    fired_last_ns = 0;
    memset(models, 0, sizeof(models));
    return err == ERR_OK ? 0 : -1;
}

static int unmake(void **state)
{
    (void)state;
    engines_free();
    return 0;
}

static void fire(void *ctx)
{
    struct model *m = ctx;
    assert_false(timer_is_set(&m->timer));
    assert_true(m->at_ns != 0);
    assert_true(m->timer.at.ns >= fired_last_ns);
    fired_last_ns = m->timer.at.ns;
    m->at_ns = 0;
    m->fired = true;
    fired_count++;
}

/* The heap's rule: nobody is due before its parent; links agree; as many as are armed. */
static uint32_t heap_check(const struct timer *t, uint32_t depth)
{
    uint32_t count = 1;
    assert_true(depth < TIMERS);
    const struct timer *left = t;
    for (const struct timer *c = t->child; c != NULL; left = c, c = c->next) {
        assert_ptr_equal(c->prev, left);
        assert_true(c->at.ns >= t->at.ns);
        count += heap_check(c, depth + 1);
    }
    return count;
}

static void heap_agrees_with_models(void)
{
    uint32_t armed = 0;
    for (size_t i = 0; i < TIMERS; i++) {
        assert_int_equal(timer_is_set(&models[i].timer), models[i].at_ns != 0);
        armed += models[i].at_ns != 0 ? 1 : 0;
    }
    if (engine->timers != NULL) {
        assert_ptr_equal(engine->timers->prev, engine->timers);
        assert_null(engine->timers->next);
    }
    assert_int_equal(engine->timers == NULL ? 0 : heap_check(engine->timers, 0), armed);
}

static void any_order_of_set_move_clear_and_fire_agrees_with_a_model(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 42);
    engine->now = (struct mono){1000000};
    for (size_t i = 0; i < TIMERS; i++)
        timer_init(&models[i].timer, fire, &models[i]);
    for (int step = 0; step < 20000; step++) {
        struct model *m = &models[rng_below(&r, TIMERS)];
        uint64_t what = rng_below(&r, 10);
        if (what < 6) {
            m->at_ns = engine->now.ns + 1 + (int64_t)rng_below(&r, 500);
            timer_set(engine, &m->timer, (struct mono){m->at_ns});
        } else if (what < 8) {
            m->at_ns = 0;
            timer_clear(engine, &m->timer);
        } else {
            engine->now.ns += (int64_t)rng_below(&r, 40);
            fired_last_ns = 0;
            timers_run(engine);
            for (size_t i = 0; i < TIMERS; i++)
                assert_true(models[i].at_ns == 0 || models[i].at_ns > engine->now.ns);
        }
        heap_agrees_with_models();
    }
    assert_true(fired_count > 1000);
}

static void fire_again_at_once(void *ctx)
{
    struct model *m = ctx;
    fired_count++;
    timer_set(engine, &m->timer, engine_now(engine));
}

static void a_timer_armed_for_now_fires_in_the_next_turn(void **state)
{
    (void)state;
    timer_init(&models[0].timer, fire_again_at_once, &models[0]);
    timer_set(engine, &models[0].timer, (struct mono){0});
    for (uint32_t turn = 1; turn <= 5; turn++) {
        engine_step(engine, 0);
        assert_int_equal(fired_count, turn);
    }
    timer_clear(engine, &models[0].timer);
    engine_step(engine, 0);
    assert_int_equal(fired_count, 5);
}

static struct timer *neighbour;

static void fire_and_clear_the_neighbour(void *ctx)
{
    (void)ctx;
    fired_count++;
    timer_clear(engine, neighbour);
}

static void a_timer_cleared_by_another_of_the_same_instant_does_not_fire(void **state)
{
    (void)state;
    struct timer a;
    struct timer b;
    timer_init(&a, fire_and_clear_the_neighbour, NULL);
    timer_init(&b, fire_and_clear_the_neighbour, NULL);
    timer_set(engine, &a, mono_after_ms(engine_now(engine), 10));
    timer_set(engine, &b, mono_after_ms(engine_now(engine), 10));
    neighbour = engine->timers == &a ? &b : &a;
    engine_clock_skip(20);
    engine_step(engine, 0);
    assert_int_equal(fired_count, 1);
    assert_null(engine->timers);
}

static void a_sleep_ends_when_a_timer_is_due(void **state)
{
    (void)state;
    timer_init(&models[0].timer, fire, &models[0]);
    models[0].at_ns = 1;
    struct mono at = mono_after_ms(mono_now(), 3);
    timer_set(engine, &models[0].timer, at);
    engine_step(engine, -1);
    assert_int_equal(fired_count, 1);
    assert_true(mono_reached(at, mono_now()));
}

static void many_due_timers_take_several_turns(void **state)
{
    (void)state;
    enum { MANY = ENGINE_TIMERS_PER_TURN + 10 };
    static struct model many[MANY];
    for (size_t i = 0; i < MANY; i++) {
        timer_init(&many[i].timer, fire, &many[i]);
        many[i].at_ns = 1;
        timer_set(engine, &many[i].timer, (struct mono){0});
    }
    engine_step(engine, 0);
    assert_int_equal(fired_count, ENGINE_TIMERS_PER_TURN);
    engine_step(engine, 0);
    assert_int_equal(fired_count, MANY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_order_of_set_move_clear_and_fire_agrees_with_a_model,
                                        make, unmake),
        cmocka_unit_test_setup_teardown(a_timer_armed_for_now_fires_in_the_next_turn, make, unmake),
        cmocka_unit_test_setup_teardown(
            a_timer_cleared_by_another_of_the_same_instant_does_not_fire, make, unmake),
        cmocka_unit_test_setup_teardown(a_sleep_ends_when_a_timer_is_due, make, unmake),
        cmocka_unit_test_setup_teardown(many_due_timers_take_several_turns, make, unmake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
