/* Messages between engines (mailbox.c): order, budget, sleep and wake, what nobody takes. */
#include "base/mem.h"
#include "engine/engine_priv.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { PRODUCERS = 2, EACH = 20000 };

struct numbered {
    struct msg msg;
    uint32_t producer;
    uint32_t number;
};

static uint32_t expected[ENGINES_MAX + 1];
static uint32_t taken;
static uint32_t taken_stop;
static bool in_order;
static uint32_t dropped;

static struct numbered *numbered_new(uint32_t producer, uint32_t number)
{
    struct numbered *m = msg_new(PORT_MAIN, 1, sizeof(*m));
    m->producer = producer;
    m->number = number;
    return m;
}

static void take_in_order(void *ctx, struct msg *m)
{
    (void)ctx;
    const struct numbered *n = CONTAINER_OF(m, struct numbered, msg);
    in_order = in_order && n->number == expected[n->producer];
    expected[n->producer]++;
    taken++;
    msg_free(m);
    if (taken == taken_stop)
        engines_stop();
}

static int make(void **state)
{
    (void)state;
    memset(expected, 0, sizeof(expected));
    taken = 0;
    taken_stop = 0;
    in_order = true;
    dropped = 0;
    if (engines_make(1, 7) != ERR_OK)
        return -1;
    engine_listen(engine_at(0), PORT_MAIN, take_in_order, NULL);
    return 0;
}

static int unmake(void **state)
{
    (void)state;
    engines_free();
    return 0;
}

static void *produce(void *ctx)
{
    uint32_t producer = (uint32_t)(uintptr_t)ctx;
    for (uint32_t i = 0; i < EACH; i++)
        engine_post(engine_at(0), &numbered_new(producer, i)->msg);
    return NULL;
}

static void two_threads_post_and_each_ones_order_is_kept(void **state)
{
    (void)state;
    pthread_t threads[PRODUCERS];
    taken_stop = PRODUCERS * EACH;
    for (uintptr_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, produce, (void *)i), 0);
    engines_run();
    for (size_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(in_order);
    assert_int_equal(taken, PRODUCERS * EACH);
}

/* Two engines throw one ball: each sleeps until it comes, so one lost wake-up ends the game. */
static uint32_t throws_left;

static void throw_back(void *ctx, struct msg *m)
{
    const struct engine *me = ctx;
    if (m->from_engine != ENGINES_MAX && m->from_engine != 1 - me->index)
        in_order = false;
    if (throws_left == 0) {
        msg_free(m);
        engines_stop();
        return;
    }
    throws_left--;
    engine_post(engine_at(1 - me->index), m);
}

static void a_sleeping_engine_is_woken_every_time(void **state)
{
    (void)state;
    in_order = true;
    assert_int_equal(engines_make(2, 7), ERR_OK);
    for (uint32_t i = 0; i < 2; i++)
        engine_listen(engine_at(i), PORT_MAIN, throw_back, engine_at(i));
    assert_ptr_equal(engine_room(engine_at(1), PORT_MAIN), engine_at(1));
    throws_left = 3000;
    engine_post(engine_at(1), &numbered_new(0, 0)->msg);
    engines_run();
    assert_int_equal(throws_left, 0);
    assert_true(in_order);
    engines_free();
}

static void an_awake_engine_costs_no_system_call(void **state)
{
    (void)state;
    struct engine *e = engine_at(0);
    engine_step(e, 0);
    engine_post(e, &numbered_new(0, 0)->msg);
    struct epoll_event event;
    assert_int_equal(epoll_wait(e->epoll_fd, &event, 1, 0), 0);
    engine_step(e, 0);
    assert_int_equal(taken, 1);
    assert_false(mailbox_before_sleep(e));
    engine_post(e, &numbered_new(0, 1)->msg);
    engine_post(e, &numbered_new(0, 2)->msg);
    assert_int_equal(epoll_wait(e->epoll_fd, &event, 1, 0), 1);
    assert_int_equal(epoll_wait(e->epoll_fd, &event, 1, 0), 0); /* woken once, not twice */
    engine_step(e, 0);
    assert_int_equal(taken, 3);
    assert_true(in_order);
}

static void post_itself_again(void *ctx, struct msg *m)
{
    (void)ctx;
    taken++;
    engine_post(engine_at(0), m);
}

static void a_message_posted_while_messages_run_comes_in_the_next_turn(void **state)
{
    (void)state;
    engine_listen(engine_at(0), PORT_MAIN, post_itself_again, NULL);
    engine_post(engine_at(0), &numbered_new(0, 0)->msg);
    for (uint32_t turn = 1; turn < 5; turn++) {
        engine_step(engine_at(0), -1);
        assert_int_equal(taken, turn);
    }
}

static void a_flood_is_taken_in_pieces_and_in_order(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ENGINE_MESSAGES_PER_TURN + 5; i++)
        engine_post(engine_at(0), &numbered_new(0, i)->msg);
    engine_step(engine_at(0), -1);
    assert_int_equal(taken, ENGINE_MESSAGES_PER_TURN);
    engine_post(engine_at(0), &numbered_new(0, ENGINE_MESSAGES_PER_TURN + 5)->msg);
    engine_step(engine_at(0), 0);
    assert_int_equal(taken, ENGINE_MESSAGES_PER_TURN + 6);
    assert_true(in_order);
}

static void count_drop(struct msg *m)
{
    dropped++;
    mem_free(m);
}

static void post_counted(enum port port)
{
    struct msg *m = msg_new(port, 1, sizeof(*m));
    m->drop = count_drop;
    engine_post(engine_at(0), m);
}

static void stop_at_first(void *ctx, struct msg *m)
{
    (void)ctx;
    taken++;
    msg_free(m);
    for (int i = 0; i < 3; i++)
        post_counted(PORT_MAIN);
    engines_stop();
}

static void messages_left_at_the_stop_are_dropped(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    engine_listen(engine_at(0), PORT_MAIN, stop_at_first, NULL);
    engine_post(engine_at(0), &numbered_new(0, 0)->msg);
    engines_run();
    assert_int_equal(taken, 1);
    assert_int_equal(dropped, 3);
    post_counted(PORT_MAIN); /* a thread that ends later than the engines */
    engines_free();
    assert_int_equal(dropped, 4);
    assert_true(mem_used_bytes() < used);
}

static void a_message_to_nobody_is_dropped(void **state)
{
    (void)state;
    post_counted(PORT_TALK);
    engine_step(engine_at(0), 0);
    assert_int_equal(dropped, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_threads_post_and_each_ones_order_is_kept, make, unmake),
        cmocka_unit_test(a_sleeping_engine_is_woken_every_time),
        cmocka_unit_test_setup_teardown(an_awake_engine_costs_no_system_call, make, unmake),
        cmocka_unit_test_setup_teardown(a_message_posted_while_messages_run_comes_in_the_next_turn,
                                        make, unmake),
        cmocka_unit_test_setup_teardown(a_flood_is_taken_in_pieces_and_in_order, make, unmake),
        cmocka_unit_test_setup_teardown(messages_left_at_the_stop_are_dropped, make, unmake),
        cmocka_unit_test_setup_teardown(a_message_to_nobody_is_dropped, make, unmake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
