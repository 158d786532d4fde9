/* How fast one address may connect (accept_rate.c). */
#include "net/net_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SECOND_NS INT64_C(1000000000)

static int reset(void **state)
{
    (void)state;
    accept_rate_reset();
    return 0;
}

static void address_v4(uint8_t out[16], uint32_t number)
{
    memset(out, 0, 16);
    out[10] = 0xff;
    out[11] = 0xff;
    for (size_t i = 0; i < 4; i++)
        out[12 + i] = (uint8_t)(number >> (24 - 8 * i));
}

static uint32_t take_many(const uint8_t address[16], int64_t now_ns, uint32_t rate, uint32_t tries)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < tries; i++)
        taken += accept_rate_take(address, now_ns, rate) ? 1 : 0;
    return taken;
}

static void a_second_of_them_at_once_and_then_the_rate(void **state)
{
    uint8_t a[16];
    int64_t now_ns = 77 * SECOND_NS;
    (void)state;
    address_v4(a, 0x7f000001);
    assert_int_equal(take_many(a, now_ns, 200, 1000), 200);
    assert_int_equal(take_many(a, now_ns + SECOND_NS / 200 - 1000, 200, 10), 0);
    assert_int_equal(take_many(a, now_ns + SECOND_NS / 200, 200, 10), 1);
    assert_int_equal(take_many(a, now_ns + SECOND_NS / 2, 200, 1000), 99);
    assert_int_equal(take_many(a, now_ns + 10 * SECOND_NS, 200, 1000), 200);
}

static void refused_ones_cost_nothing(void **state)
{
    uint8_t a[16];
    (void)state;
    address_v4(a, 1);
    assert_int_equal(take_many(a, SECOND_NS, 10, 100000), 10);
    assert_int_equal(take_many(a, 2 * SECOND_NS, 10, 100), 10);
}

static void addresses_do_not_hurt_each_other(void **state)
{
    uint8_t a[16];
    uint8_t b[16];
    (void)state;
    address_v4(a, 1);
    address_v4(b, 2);
    assert_int_equal(take_many(a, SECOND_NS, 5, 100), 5);
    assert_int_equal(take_many(b, SECOND_NS, 5, 100), 5);
}

static void an_ipv6_network_counts_as_one(void **state)
{
    uint8_t a[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, [15] = 1};
    uint8_t b[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, [8] = 7, [15] = 2};
    uint8_t c[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 3, [15] = 1};
    (void)state;
    assert_int_equal(take_many(a, SECOND_NS, 5, 100), 5);
    assert_int_equal(take_many(b, SECOND_NS, 5, 100), 0);
    assert_int_equal(take_many(c, SECOND_NS, 5, 100), 5);
}

static void a_crowd_of_addresses_is_let_in_and_takes_no_room(void **state)
{
    uint8_t a[16];
    uint32_t refused = 0;
    (void)state;
    for (uint32_t i = 0; i < 100000; i++) {
        address_v4(a, i * 7919);
        refused += accept_rate_take(a, SECOND_NS + i, 3) ? 0 : 1;
    }
    /* Two marks may be equal in 24 bits; hardly ever within the same few slots. */
    assert_true(refused < 100);
}

static void time_that_wraps_does_not_lock_anybody_out(void **state)
{
    uint8_t a[16];
    int64_t wrap_ns = (INT64_C(1) << 40) * 1000;
    (void)state;
    address_v4(a, 3);
    assert_int_equal(take_many(a, wrap_ns - 1000, 7, 100), 7); /* its time lies past the wrap */
    assert_int_equal(take_many(a, wrap_ns - 1000, 7, 100), 0);
    assert_int_equal(take_many(a, wrap_ns + SECOND_NS, 7, 100), 7);
    assert_int_equal(take_many(a, wrap_ns + wrap_ns / 2, 7, 100), 7); /* an old word */
    assert_int_equal(take_many(a, wrap_ns + wrap_ns / 2 + wrap_ns - SECOND_NS * 2, 7, 100), 7);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_second_of_them_at_once_and_then_the_rate),
        TEST(refused_ones_cost_nothing),
        TEST(addresses_do_not_hurt_each_other),
        TEST(an_ipv6_network_counts_as_one),
        TEST(a_crowd_of_addresses_is_let_in_and_takes_no_room),
        TEST(time_that_wraps_does_not_lock_anybody_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
