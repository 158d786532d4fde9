#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct item {
    int number;
    struct list link;
};

/* The numbers on the list, front to back, as digits of one number. */
static int digits(struct list *head)
{
    int all = 0;
    LIST_FOR(l, head)
    all = all * 10 + CONTAINER_OF(l, struct item, link)->number;
    return all;
}

static void members_keep_their_order(void **state)
{
    (void)state;
    struct list head;
    struct item items[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    list_init(&head);
    assert_true(list_is_empty(&head));
    assert_false(list_is_linked(&items[0].link));
    list_push_back(&head, &items[0].link);
    list_push_back(&head, &items[1].link);
    list_push_front(&head, &items[2].link);
    list_push_back(&head, &items[3].link);
    assert_int_equal(digits(&head), 3124);
    assert_true(list_is_linked(&items[0].link));
    list_remove(&items[0].link);
    assert_int_equal(digits(&head), 324);
    assert_false(list_is_linked(&items[0].link));
    list_remove(&items[0].link);
    assert_int_equal(digits(&head), 324);
    list_push_front(&head, &items[0].link);
    assert_int_equal(digits(&head), 1324);
}

static void a_walk_may_remove_what_it_stands_on(void **state)
{
    (void)state;
    struct list head;
    struct item items[5] = {
        {.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}, {.number = 5}};
    list_init(&head);
    for (size_t i = 0; i < ARRAY_COUNT(items); i++)
        list_push_back(&head, &items[i].link);
    LIST_FOR(l, &head)
    {
        if (CONTAINER_OF(l, struct item, link)->number % 2 == 1)
            list_remove(l);
    }
    assert_int_equal(digits(&head), 24);
    LIST_FOR(l, &head)
    list_remove(l);
    assert_true(list_is_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_keep_their_order),
        cmocka_unit_test(a_walk_may_remove_what_it_stands_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
