#include "base/buf.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

static void puts_add_up(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_null(b.blob);
    buf_text(&b, "ab");
    buf_byte(&b, 'c');
    buf_put(&b, NULL, 0);
    buf_bytes(&b, bytes_of("de"));
    buf_printf(&b, "%s-%d", "f", 7);
    buf_u64(&b, 18446744073709551615u);
    buf_i64(&b, INT64_MIN);
    assert_false(b.failed);
    assert_true(bytes_is(buf_view(&b), "abcdef-718446744073709551615-9223372036854775808"));
    buf_fini(&b);
}

static void numbers_are_written_as_printf_writes_them(void **state)
{
    (void)state;
    static const int64_t odd[] = {0,   1,   9,    10,    11,         99,         100,
                                  101, 999, 1000, 12345, 4294967295, 4294967296, INT64_MAX};
    char block[32];
    char wanted[32];
    struct buf b;
    for (size_t i = 0; i < ARRAY_COUNT(odd); i++) {
        for (int64_t sign = -1; sign <= 1; sign += 2) {
            buf_init_fixed(&b, block, sizeof(block));
            buf_i64(&b, odd[i] * sign);
            (void)snprintf(wanted, sizeof(wanted), "%lld", (long long)(odd[i] * sign));
            assert_true(bytes_is(buf_view(&b), wanted));
        }
    }
    for (uint64_t x = 1; x < UINT64_MAX / 3; x = x * 3 + x % 7) {
        buf_init_fixed(&b, block, sizeof(block));
        buf_u64(&b, x);
        (void)snprintf(wanted, sizeof(wanted), "%llu", (unsigned long long)x);
        assert_true(bytes_is(buf_view(&b), wanted));
    }
}

static void the_first_failure_sticks(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 4);
    buf_text(&b, "abc");
    buf_text(&b, "de");
    assert_true(b.failed);
    buf_byte(&b, 'd');
    buf_printf(&b, "%d", 1);
    assert_false(buf_reserve(&b, 0));
    assert_true(bytes_is(buf_view(&b), "abc"));
    assert_null(buf_take(&b));
    assert_false(b.failed);
    buf_text(&b, "abcd");
    struct blob *blob = buf_take(&b);
    assert_non_null(blob);
    assert_true(bytes_is(blob_bytes(blob), "abcd"));
    blob_unref(&blob);
    buf_fini(&b);
}

static void a_fixed_block_never_grows(void **state)
{
    (void)state;
    char block[8];
    for (size_t bytes = 0; bytes <= sizeof(block); bytes++) {
        struct buf b;
        buf_init_fixed(&b, block, bytes);
        buf_text(&b, "1234");
        buf_i64(&b, -5);
        assert_int_equal(b.failed, bytes < 6);
        assert_int_equal(b.count, bytes >= 6 ? 6 : bytes >= 4 ? 4 : 0);
        assert_null(buf_take(&b));
        buf_fini(&b);
    }
}

static void printf_grows_and_needs_room_for_its_nul(void **state)
{
    (void)state;
    char block[5];
    struct buf b;
    buf_init_fixed(&b, block, sizeof(block));
    buf_printf(&b, "%s", "1234");
    assert_false(b.failed);
    buf_printf(&b, "%s", "5");
    assert_true(b.failed);
    assert_true(bytes_is(buf_view(&b), "1234"));
    buf_init(&b, 100000);
    buf_printf(&b, "%5000d|", 7);
    buf_printf(&b, "%s", "end");
    assert_int_equal(b.count, 5004);
    assert_memory_equal(b.at + 4999, "7|end", 5);
    buf_fini(&b);
}

static void take_hands_over_and_begins_anew(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    struct buf b;
    buf_init(&b, 1 << 20);
    struct blob *empty = buf_take(&b);
    assert_non_null(empty);
    assert_int_equal(empty->count, 0);
    for (int i = 0; i < 3000; i++)
        buf_byte(&b, (uint8_t)i);
    struct blob *full = buf_take(&b);
    assert_non_null(full);
    assert_int_equal(full->count, 3000);
    assert_true(full->capacity < 3000 + 3000 / 4 + 257);
    for (int i = 0; i < 3000; i++)
        assert_int_equal(full->at[i], (uint8_t)i);
    assert_int_equal(b.count, 0);
    buf_text(&b, "again");
    assert_true(bytes_is(buf_view(&b), "again"));
    blob_unref(&empty);
    blob_unref(&full);
    buf_fini(&b);
    assert_int_equal(mem_used_bytes(), used);
}

static void reserve_lends_room(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_true(buf_reserve(&b, 600));
    memset(b.at + b.count, 'x', 600);
    b.count += 600;
    assert_true(buf_reserve(&b, 400));
    assert_false(buf_reserve(&b, 401));
    assert_true(b.failed);
    buf_fini(&b);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct buf b;
        buf_init(&b, 1 << 20);
        mem_fail_at(n);
        for (int i = 0; i < 3000; i++)
            buf_byte(&b, 'x');
        bool failed = b.failed;
        struct blob *blob = buf_take(&b);
        assert_true(!failed || blob == NULL);
        done = blob != NULL && mem_used_bytes() - used < 3300;
        if (blob != NULL)
            assert_int_equal(blob->count, 3000);
        blob_unref(&blob);
        buf_fini(&b);
        assert_int_equal(mem_used_bytes(), used);
        assert_true(n < 20);
    }
    mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_add_up),
        cmocka_unit_test(numbers_are_written_as_printf_writes_them),
        cmocka_unit_test(the_first_failure_sticks),
        cmocka_unit_test(a_fixed_block_never_grows),
        cmocka_unit_test(printf_grows_and_needs_room_for_its_nul),
        cmocka_unit_test(take_hands_over_and_begins_anew),
        cmocka_unit_test(reserve_lends_room),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
