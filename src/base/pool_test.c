#include "base/mem.h"
#include "base/poison.h"
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void handles_go_stale(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    struct pool p;
    struct handle first;
    struct handle second;
    assert_int_equal(pool_init(&p, 24, 10), ERR_OK);
    uint64_t *slot = pool_new(&p, &first);
    assert_non_null(slot);
    assert_false(handle_is_none(first));
    assert_ptr_equal(pool_get(&p, first), slot);
    slot[0] = 7;
    pool_free(&p, first);
    assert_null(pool_get(&p, first));
    uint64_t *again = pool_new(&p, &second);
    assert_ptr_equal(again, slot);
    assert_int_equal(again[0], 0);
    assert_int_equal(second.slot, first.slot);
    assert_false(handle_equal(first, second));
    assert_null(pool_get(&p, first));
    assert_ptr_equal(pool_get(&p, second), again);
    pool_fini(&p);
    assert_int_equal(mem_used_bytes(), used);
}

static void none_and_foreign_handles_are_nothing(void **state)
{
    (void)state;
    struct pool p;
    struct handle h;
    assert_int_equal(pool_init(&p, 8, 4), ERR_OK);
    assert_null(pool_get(&p, (struct handle){0, 0}));
    assert_null(pool_get(&p, (struct handle){0, 1}));
    assert_non_null(pool_new(&p, &h));
    assert_null(pool_get(&p, (struct handle){0, 0}));
    assert_null(pool_get(&p, (struct handle){1, 1}));
    assert_null(pool_get(&p, (struct handle){UINT32_MAX, UINT32_MAX}));
    assert_null(pool_get(&p, (struct handle){h.slot, h.generation + 1}));
    pool_fini(&p);
}

static void each_use_has_its_own_generation(void **state)
{
    (void)state;
    struct pool p;
    struct handle h;
    assert_int_equal(pool_init(&p, 8, 1), ERR_OK);
    assert_non_null(pool_new(&p, &h));
    pool_free(&p, h);
    for (int i = 0; i < 1000; i++) {
        assert_non_null(pool_new(&p, &h));
        assert_false(handle_is_none(h));
        pool_free(&p, h);
    }
    assert_int_equal(h.generation, 1001);
    pool_fini(&p);
}

static void the_limit_holds_and_counts_are_kept(void **state)
{
    (void)state;
    struct handle handles[200];
    struct pool p;
    assert_int_equal(pool_init(&p, 1000, ARRAY_COUNT(handles)), ERR_OK);
    for (size_t i = 0; i < ARRAY_COUNT(handles); i++) {
        uint32_t *slot = pool_new(&p, &handles[i]);
        assert_non_null(slot);
        assert_int_equal((uintptr_t)slot % 16, 0);
        memset(slot, 0x5a, 1000);
        *slot = (uint32_t)i;
    }
    struct handle none = {5, 5};
    assert_null(pool_new(&p, &none));
    assert_int_equal(none.slot, 5);
    assert_int_equal(p.used_count, ARRAY_COUNT(handles));
    for (size_t i = 0; i < ARRAY_COUNT(handles); i += 2)
        pool_free(&p, handles[i]);
    assert_int_equal(p.used_count, ARRAY_COUNT(handles) / 2);
    assert_int_equal(p.used_count_max, ARRAY_COUNT(handles));
    for (size_t i = 0; i < ARRAY_COUNT(handles); i++) {
        uint32_t *slot = pool_get(&p, handles[i]);
        assert_true((slot == NULL) == (i % 2 == 0));
        assert_true(slot == NULL || *slot == i);
    }
    for (size_t i = 0; i < ARRAY_COUNT(handles); i += 2)
        assert_non_null(pool_new(&p, &handles[i]));
    assert_null(pool_new(&p, &none));
    pool_fini(&p);
}

static void a_walk_meets_the_living_and_may_free_them(void **state)
{
    (void)state;
    struct handle handles[100];
    struct pool p;
    assert_int_equal(pool_init(&p, 16, 100), ERR_OK);
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t *slot = pool_new(&p, &handles[i]);
        assert_non_null(slot);
        *slot = i;
    }
    for (uint32_t i = 0; i < 100; i += 3)
        pool_free(&p, handles[i]);
    uint32_t index = 0;
    uint32_t seen = 0;
    struct handle h;
    uint32_t *slot = pool_next(&p, &index, &h);
    while (slot != NULL) {
        assert_true(*slot % 3 != 0);
        assert_true(handle_equal(h, handles[*slot]));
        pool_free(&p, h);
        seen++;
        slot = pool_next(&p, &index, &h);
    }
    assert_int_equal(seen, 66);
    assert_int_equal(p.used_count, 0);
    index = 0;
    assert_null(pool_next(&p, &index, NULL));
    pool_fini(&p);
}

static void huge_and_tiny_slots(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 15, 16, 17, 65536, 300000};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct pool p;
        struct handle h;
        assert_int_equal(pool_init(&p, sizes[i], 3), ERR_OK);
        for (int k = 0; k < 3; k++) {
            uint8_t *slot = pool_new(&p, &h);
            assert_non_null(slot);
            memset(slot, 0xff, sizes[i]);
        }
        assert_null(pool_new(&p, &h));
        pool_fini(&p);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct pool p;
        struct handle h;
        mem_fail_at(n);
        if (pool_init(&p, 40000, 5) == ERR_OK) {
            uint32_t made = 0;
            done = true;
            for (int i = 0; i < 5; i++) {
                bool is_made = pool_new(&p, &h) != NULL;
                made += is_made;
                done = done && is_made;
            }
            assert_int_equal(p.used_count, made);
            assert_true(made >= 4);
            pool_fini(&p);
        }
        assert_int_equal(mem_used_bytes(), used);
        assert_true(n < 10);
    }
    mem_fail_at(0);
}

static void freed_slots_are_poisoned(void **state)
{
    (void)state;
#ifdef BASE_HAS_ASAN
    struct pool p;
    struct handle h;
    assert_int_equal(pool_init(&p, 32, 4), ERR_OK);
    uint8_t *slot = pool_new(&p, &h);
    assert_non_null(slot);
    assert_null(__asan_region_is_poisoned(slot, 32));
    assert_non_null(__asan_region_is_poisoned(slot + 32, 1));
    pool_free(&p, h);
    assert_non_null(__asan_region_is_poisoned(slot, 1));
    pool_fini(&p);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handles_go_stale),
        cmocka_unit_test(none_and_foreign_handles_are_nothing),
        cmocka_unit_test(each_use_has_its_own_generation),
        cmocka_unit_test(the_limit_holds_and_counts_are_kept),
        cmocka_unit_test(a_walk_meets_the_living_and_may_free_them),
        cmocka_unit_test(huge_and_tiny_slots),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(freed_slots_are_poisoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
