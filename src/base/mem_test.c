#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

static void blocks_are_aligned_and_counted(void **state)
{
    (void)state;
    uint64_t before = mem_used_bytes();
    for (size_t bytes = 0; bytes < 70; bytes++) {
        uint8_t *at = mem_new(bytes);
        assert_non_null(at);
        assert_int_equal((uintptr_t)at % 16, 0);
        memset(at, 0xaa, bytes);
        assert_int_equal(mem_used_bytes(), before + bytes);
        mem_free(at);
        assert_int_equal(mem_used_bytes(), before);
    }
    mem_free(NULL);
}

static void zeroed_blocks_are_zero(void **state)
{
    (void)state;
    uint8_t *at = mem_new_zero(100);
    assert_non_null(at);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(at[i], 0);
    mem_free(at);
}

static void resize_keeps_the_content_and_the_count(void **state)
{
    (void)state;
    uint64_t before = mem_used_bytes();
    uint8_t *at = mem_resize(NULL, 10);
    assert_non_null(at);
    memcpy(at, "0123456789", 10);
    at = mem_resize(at, 100000);
    assert_non_null(at);
    assert_memory_equal(at, "0123456789", 10);
    assert_int_equal(mem_used_bytes(), before + 100000);
    assert_true(mem_used_bytes_max() >= before + 100000);
    at = mem_resize(at, 3);
    assert_non_null(at);
    assert_memory_equal(at, "012", 3);
    assert_int_equal(mem_used_bytes(), before + 3);
    at = mem_resize(at, 0);
    assert_non_null(at);
    mem_free(at);
    assert_int_equal(mem_used_bytes(), before);
}

static void the_nth_allocation_fails_and_no_other(void **state)
{
    (void)state;
    uint64_t failures = mem_failures();
    mem_fail_at(2);
    uint8_t *first = mem_new(1);
    uint8_t *second = mem_new_zero(1);
    uint8_t *third = mem_resize(first, 2);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_int_equal(mem_failures(), failures + 1);
    mem_fail_at(1);
    third[1] = 7;
    assert_null(mem_resize(third, 1000));
    assert_int_equal(third[1], 7);
    mem_free(third);
}

static void the_cap_is_never_passed(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    mem_cap_set(used + 100);
    uint8_t *at = mem_new(100);
    assert_non_null(at);
    assert_null(mem_new(1));
    at[99] = 5;
    assert_null(mem_resize(at, 101));
    assert_int_equal(at[99], 5);
    assert_int_equal(mem_used_bytes(), used + 100);
    mem_free(at);
    at = mem_new(1);
    assert_non_null(at);
    mem_free(at);
    mem_cap_set(0);
    assert_int_equal(mem_used_bytes(), used);
}

static void an_absurd_size_is_refused(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    volatile size_t most = SIZE_MAX;
    assert_null(mem_new(most));
    assert_null(mem_new(most - 15));
    uint8_t *at = mem_new(1);
    assert_non_null(at);
    assert_null(mem_resize(at, most - 8));
    mem_free(at);
    assert_int_equal(mem_used_bytes(), used);
}

static void *thread_of_many(void *ctx)
{
    (void)ctx;
    for (size_t i = 1; i < 2000; i++) {
        void *at = mem_new(i);
        mem_free(at);
    }
    return NULL;
}

static void threads_leave_the_count_as_it_was(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    pthread_t threads[3];
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_of_many, NULL), 0);
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(mem_used_bytes(), used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_counted),
        cmocka_unit_test(zeroed_blocks_are_zero),
        cmocka_unit_test(resize_keeps_the_content_and_the_count),
        cmocka_unit_test(the_nth_allocation_fails_and_no_other),
        cmocka_unit_test(the_cap_is_never_passed),
        cmocka_unit_test(an_absurd_size_is_refused),
        cmocka_unit_test(threads_leave_the_count_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
