#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* The expected numbers are what CPython 3.11, whose hash of bytes is SipHash-1-3 too, answers for
 * the same keys. */
static void the_hash_is_siphash_1_3(void **state)
{
    static const struct {
        size_t count;
        uint64_t hash;
    } zero_key[] = {
        {1, 0x68a914128e01e473u},  {7, 0x2f098ab0c751325au},  {8, 0xead411e67ebe2eeau},
        {9, 0x75927f9d95124362u},  {15, 0xf30eb725bb91c9eau}, {16, 0x8972188433a5c5b7u},
        {17, 0x4883c49a2c009c1du}, {31, 0x169739443111d49bu}, {63, 0x385d3e39e5f37359u},
    };
    static const uint64_t zero[2] = {0, 0};
    static const uint64_t key[2] = {0xdc504fd368cd90afu, 0xb920bb9ffe99e9c1u};
    uint8_t text[64];
    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)i;
    for (size_t i = 0; i < ARRAY_COUNT(zero_key); i++)
        assert_true(hash_sip(zero, bytes_make(text, zero_key[i].count)) == zero_key[i].hash);
    assert_true(hash_sip(key, bytes_make(text, 3)) == 0xef4b9dcae9b04417u);
    assert_true(hash_sip(key, bytes_make(text, 8)) == 0x60866c3c108c6afbu);
    assert_true(hash_sip(key, bytes_make(text, 20)) == 0xa7dbb0b1fa0842a3u);
}

static void an_empty_range_has_a_hash(void **state)
{
    static const uint64_t key[2] = {1, 2};
    (void)state;
    assert_true(hash_sip(key, bytes_make(NULL, 0)) == hash_sip(key, bytes_of("")));
}

static void slots_never_move(void **state)
{
    (void)state;
    assert_int_equal(hash_slot(bytes_of("conv:c_01")), 1212);
    assert_int_equal(hash_slot(bytes_of("alice")), 1601);
    assert_int_equal(hash_slot(bytes_of("\xc3\xa9")), 1216);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hash_is_siphash_1_3),
        cmocka_unit_test(an_empty_range_has_a_hash),
        cmocka_unit_test(slots_never_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
