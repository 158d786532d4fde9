/* The mailbox of a thread without a loop (inbox.c). */
#include "base/mem.h"
#include "engine/engine.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <cmocka.h>

enum { PRODUCERS = 3, EACH = 2000 };

struct numbered {
    struct msg msg;
    uint32_t producer;
    uint32_t number;
};

struct producer {
    struct inbox *inbox;
    uint32_t producer;
};

static struct numbered *numbered_new(uint32_t producer, uint32_t number)
{
    struct numbered *m = msg_new(PORT_MAIN, 1, sizeof(*m));
    m->producer = producer;
    m->number = number;
    return m;
}

static void everything_comes_at_once_and_in_order(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new(10);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(inbox_post(inbox, &numbered_new(0, i)->msg, false), ERR_OK);
    assert_int_equal(inbox_count(inbox), 5);
    struct msg *m = inbox_take_all(inbox);
    assert_int_equal(inbox_count(inbox), 0);
    for (uint32_t i = 0; i < 5; i++) {
        assert_non_null(m);
        assert_int_equal(CONTAINER_OF(m, struct numbered, msg)->number, i);
        assert_int_equal(m->from_engine, ENGINES_MAX);
        struct msg *next = m->next;
        msg_free(m);
        m = next;
    }
    assert_null(m);
    inbox_free(&inbox);
    assert_null(inbox);
}

static void a_full_inbox_refuses_but_for_control(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new(2);
    assert_int_equal(inbox_post(inbox, &numbered_new(0, 0)->msg, false), ERR_OK);
    assert_int_equal(inbox_post(inbox, &numbered_new(0, 1)->msg, false), ERR_OK);
    struct numbered *refused = numbered_new(0, 2);
    assert_int_equal(inbox_post(inbox, &refused->msg, false), ERR_FULL);
    assert_int_equal(inbox_post(inbox, &refused->msg, true), ERR_OK);
    assert_int_equal(inbox_count(inbox), 3);
    inbox_free(&inbox);
}

static void a_closed_inbox_gives_what_it_has_then_null(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new(2);
    assert_int_equal(inbox_post(inbox, &numbered_new(0, 0)->msg, false), ERR_OK);
    inbox_close(inbox);
    struct numbered *late = numbered_new(0, 1);
    assert_int_equal(inbox_post(inbox, &late->msg, true), ERR_CLOSED);
    msg_free(&late->msg);
    struct msg *m = inbox_take_all(inbox);
    assert_non_null(m);
    assert_null(m->next);
    msg_free(m);
    assert_null(inbox_take_all(inbox));
    assert_null(inbox_take_all(inbox));
    inbox_free(&inbox);
}

static uint32_t dropped;

static void count_drop(struct msg *m)
{
    dropped++;
    mem_free(m);
}

static void what_is_left_is_dropped(void **state)
{
    (void)state;
    dropped = 0;
    struct inbox *inbox = inbox_new(8);
    for (uint32_t i = 0; i < 3; i++) {
        struct numbered *m = numbered_new(0, i);
        m->msg.drop = count_drop;
        assert_int_equal(inbox_post(inbox, &m->msg, false), ERR_OK);
    }
    inbox_free(&inbox);
    assert_int_equal(dropped, 3);
}

static void no_memory_is_an_answer(void **state)
{
    (void)state;
    mem_fail_at(1);
    assert_null(inbox_new(8));
    mem_fail_at(1);
    assert_null(msg_try_new(PORT_MAIN, 1, sizeof(struct msg)));
    mem_fail_at(0);
}

static void *produce(void *ctx)
{
    struct producer *p = ctx;
    for (uint32_t i = 0; i < EACH; i++) {
        struct numbered *m = numbered_new(p->producer, i);
        while (inbox_post(p->inbox, &m->msg, i % 7 == 0) == ERR_FULL) {
        }
    }
    return NULL;
}

static void messages_of_a_thread_keep_their_order(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new(50);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    uint32_t expected[PRODUCERS] = {0};
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){inbox, i};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    for (uint32_t taken = 0; taken < PRODUCERS * EACH;) {
        for (struct msg *m = inbox_take_all(inbox), *next; m != NULL; m = next) {
            next = m->next;
            const struct numbered *n = CONTAINER_OF(m, struct numbered, msg);
            assert_int_equal(n->number, expected[n->producer]);
            expected[n->producer]++;
            msg_free(m);
            taken++;
        }
    }
    for (uint32_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    inbox_free(&inbox);
}

static void *take_until_closed(void *ctx)
{
    struct inbox *inbox = ctx;
    struct msg *m = inbox_take_all(inbox);
    msg_free(m);
    return m == NULL ? inbox : NULL;
}

static void closing_wakes_who_waits(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new(1);
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_until_closed, inbox), 0);
    inbox_close(inbox);
    for (size_t i = 0; i < 2; i++) {
        void *answer = NULL;
        assert_int_equal(pthread_join(threads[i], &answer), 0);
        assert_ptr_equal(answer, inbox);
    }
    inbox_free(&inbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_comes_at_once_and_in_order),
        cmocka_unit_test(a_full_inbox_refuses_but_for_control),
        cmocka_unit_test(a_closed_inbox_gives_what_it_has_then_null),
        cmocka_unit_test(what_is_left_is_dropped),
        cmocka_unit_test(no_memory_is_an_answer),
        cmocka_unit_test(messages_of_a_thread_keep_their_order),
        cmocka_unit_test(closing_wakes_who_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
