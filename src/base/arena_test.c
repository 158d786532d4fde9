#include "base/arena.h"
#include "base/mem.h"
#include "base/poison.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void every_answer_is_aligned_and_its_own(void **state)
{
    (void)state;
    uint8_t block[4096 + 5];
    struct arena a;
    arena_init(&a, block + 5, sizeof(block) - 5);
    uint8_t *last_end = NULL;
    for (size_t bytes = 0; bytes < 40; bytes++) {
        uint8_t *at = arena_take(&a, bytes);
        assert_non_null(at);
        assert_int_equal((uintptr_t)at % 16, 0);
        assert_true(last_end == NULL || at >= last_end);
        memset(at, 0x55, bytes);
        last_end = at + (bytes == 0 ? 1 : bytes);
    }
    arena_fini(&a);
}

static void a_fixed_block_never_grows(void **state)
{
    (void)state;
    _Alignas(16) uint8_t block[64];
    struct arena a;
    arena_init(&a, block, sizeof(block));
    assert_non_null(arena_take(&a, 48));
    assert_null(arena_take(&a, 17));
    assert_non_null(arena_take(&a, 16));
    assert_null(arena_take(&a, 1));
    assert_null(arena_take(&a, 0));
    assert_null(arena_take(&a, SIZE_MAX));
    assert_null(arena_take(&a, SIZE_MAX - 7));
    arena_fini(&a);
}

static void every_size_of_block_holds_what_it_can(void **state)
{
    (void)state;
    _Alignas(16) uint8_t block[80];
    for (size_t bytes = 0; bytes <= sizeof(block); bytes++) {
        struct arena a;
        arena_init(&a, block, bytes);
        uint8_t *first = arena_take(&a, 20);
        uint8_t *second = arena_take(&a, 20);
        assert_true((first != NULL) == (bytes >= 20));
        assert_true((second != NULL) == (bytes >= 52));
        if (second != NULL)
            memset(second, 1, 20);
        arena_fini(&a);
    }
}

static void no_block_at_all_is_a_full_arena(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, NULL, 0);
    assert_null(arena_take(&a, 1));
    arena_reset(&a);
    arena_fini(&a);
}

static void it_grows_to_its_cap_and_shrinks_on_reset(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    struct arena a;
    assert_int_equal(arena_grow_init(&a, 256, 10000), ERR_OK);
    size_t total = 0;
    while (arena_take(&a, 100) != NULL)
        total += 100;
    assert_true(total >= 7000);
    assert_true(a.total_used <= 10000);
    assert_int_equal(a.used_bytes_max, a.total_used);
    arena_reset(&a);
    assert_int_equal(a.total_used, 0);
    assert_int_equal(mem_used_bytes(), used + 256);
    assert_non_null(arena_take(&a, 5000));
    assert_true(a.used_bytes_max >= total);
    arena_fini(&a);
    assert_int_equal(mem_used_bytes(), used);
}

static void an_arena_that_is_not_used_owns_nothing(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    struct arena a;
    assert_int_equal(arena_grow_init(&a, 0, 4096), ERR_OK);
    assert_int_equal(mem_used_bytes(), used);
    assert_non_null(arena_take(&a, 4096));
    assert_null(arena_take(&a, 1));
    arena_reset(&a);
    assert_int_equal(mem_used_bytes(), used);
    arena_fini(&a);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct arena a;
        mem_fail_at(n);
        if (arena_grow_init(&a, 64, 1 << 20) == ERR_OK) {
            done = true;
            for (size_t i = 0; i < 3; i++) {
                size_t before = a.total_used;
                if (arena_take(&a, 3000) == NULL) {
                    assert_int_equal(a.total_used, before);
                    assert_non_null(arena_take(&a, 3000));
                    done = false;
                }
                assert_true(a.total_used >= before + 3000);
            }
            arena_fini(&a);
        }
        assert_int_equal(mem_used_bytes(), used);
        assert_true(n < 10);
    }
    mem_fail_at(0);
}

static void zeroed_and_counted_arrays(void **state)
{
    (void)state;
    uint8_t block[1024];
    struct arena a;
    memset(block, 0xff, sizeof(block));
    arena_init(&a, block, sizeof(block));
    uint64_t *numbers = arena_new(&a, uint64_t, 10);
    assert_non_null(numbers);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(numbers[i], 0);
    volatile size_t many = SIZE_MAX / 4;
    assert_null(arena_new(&a, uint64_t, many));
    char *text = arena_string(&a, bytes_of("hello"));
    assert_string_equal(text, "hello");
    assert_string_equal(arena_string(&a, bytes_make(NULL, 0)), "");
    arena_fini(&a);
}

static void freed_ranges_are_poisoned(void **state)
{
    (void)state;
#ifdef BASE_HAS_ASAN
    struct arena a;
    assert_int_equal(arena_grow_init(&a, 256, 256), ERR_OK);
    uint8_t *at = arena_take(&a, 20);
    assert_non_null(at);
    assert_null(__asan_region_is_poisoned(at, 20));
    assert_non_null(__asan_region_is_poisoned(at + 20, 1));
    arena_reset(&a);
    assert_non_null(__asan_region_is_poisoned(at, 1));
    arena_fini(&a);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_is_aligned_and_its_own),
        cmocka_unit_test(a_fixed_block_never_grows),
        cmocka_unit_test(every_size_of_block_holds_what_it_can),
        cmocka_unit_test(no_block_at_all_is_a_full_arena),
        cmocka_unit_test(it_grows_to_its_cap_and_shrinks_on_reset),
        cmocka_unit_test(an_arena_that_is_not_used_owns_nothing),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(zeroed_and_counted_arrays),
        cmocka_unit_test(freed_ranges_are_poisoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
