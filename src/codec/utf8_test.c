#include "codec/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const char *const good[] = {
    "",
    "plain ascii that is longer than one word",
    "\xc2\x80",
    "\xdf\xbf",
    "\xe0\xa0\x80",
    "\xec\xbf\xbf",
    "\xed\x9f\xbf",
    "\xee\x80\x80",
    "\xef\xbf\xbf",
    "\xf0\x90\x80\x80",
    "\xf3\xbf\xbf\xbf",
    "\xf4\x8f\xbf\xbf",
    "12345678\xc3\xa9 2345678\xf0\x9f\x98\x80",
};

/* Each with the position of its first bad byte. */
static const struct {
    const char *text;
    size_t bad_at;
} bad[] = {
    {"\x80", 0},
    {"\xbf", 0},
    {"\xc0\x80", 0},
    {"\xc1\xbf", 0},
    {"\xc2 ", 1},
    {"\xc2\xc2", 1},
    {"\xe0\x9f\xbf", 1},
    {"\xe0\xa0\x7f", 2},
    {"\xed\xa0\x80", 1},
    {"\xed\xbf\xbf", 1},
    {"\xf0\x8f\xbf\xbf", 1},
    {"\xf0\x90\x80\xc0", 3},
    {"\xf4\x90\x80\x80", 1},
    {"\xf5\x80\x80\x80", 0},
    {"\xfe", 0},
    {"\xff", 0},
    {"ascii ascii ascii\x80", 17},
    {"\xc3\xa9\xa9", 2},
};

static void good_text_is_good_at_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        struct bytes b = bytes_of(good[i]);
        assert_true(utf8_is_valid(b));
        for (size_t cut = 0; cut <= b.count; cut++) {
            struct utf8 u = {0};
            assert_int_equal(utf8_feed(&u, bytes_make(b.at, cut)), ERR_OK);
            assert_int_equal(utf8_feed(&u, bytes_make(b.at + cut, b.count - cut)), ERR_OK);
            assert_true(utf8_is_whole(&u));
        }
    }
}

static void bad_text_is_bad_at_its_first_bad_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct bytes b = bytes_of(bad[i].text);
        assert_false(utf8_is_valid(b));
        struct utf8 u = {0};
        for (size_t k = 0; k < b.count; k++) {
            enum err wanted = k < bad[i].bad_at ? ERR_OK : ERR_PROTO;
            assert_int_equal(utf8_feed(&u, bytes_make(b.at + k, 1)), wanted);
        }
        assert_int_equal(utf8_feed(&u, bytes_of("a")), ERR_PROTO);
        assert_false(utf8_is_whole(&u));
    }
}

static void a_cut_character_is_not_whole(void **state)
{
    (void)state;
    struct bytes b = bytes_of("\xf0\x9f\x98\x80");
    for (size_t cut = 1; cut < b.count; cut++) {
        struct utf8 u = {0};
        assert_int_equal(utf8_feed(&u, bytes_make(b.at, cut)), ERR_OK);
        assert_false(utf8_is_whole(&u));
        assert_false(utf8_is_valid(bytes_make(b.at, cut)));
    }
}

/* What RFC 3629 says, written the other way round: decode, then look at the number. */
static bool is_character(const uint8_t *at, size_t count)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (count == 1)
        return at[0] < 0x80;
    if ((unsigned)at[0] >> (7 - count) != ((1u << count) - 1) << 1)
        return false;
    uint32_t code = at[0] & (0x7fu >> count);
    for (size_t i = 1; i < count; i++) {
        if (at[i] >> 6 != 2)
            return false;
        code = code << 6 | (at[i] & 0x3f);
    }
    return code >= least[count] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static void every_pair_and_triple_agrees_with_the_definition(void **state)
{
    (void)state;
    for (uint32_t x = 0; x < 1u << 16; x++) {
        uint8_t two[2] = {(uint8_t)(x >> 8), (uint8_t)x};
        bool wanted = is_character(two, 2) || (is_character(two, 1) && is_character(two + 1, 1));
        if (utf8_is_valid(bytes_make(two, 2)) != wanted)
            fail_msg("%02x %02x", two[0], two[1]);
    }
    for (uint32_t x = 0x80; x < 1u << 16; x++) {
        uint8_t three[3] = {(uint8_t)(0xe0 | x >> 12), (uint8_t)(x >> 4), (uint8_t)(x << 2 | 0x80)};
        if (utf8_is_valid(bytes_make(three, 3)) != is_character(three, 3))
            fail_msg("%02x %02x %02x", three[0], three[1], three[2]);
        uint8_t four[4] = {(uint8_t)(0xf0 | x >> 13), (uint8_t)(x >> 5), 0x80, (uint8_t)(x << 3)};
        if (four[1] >= 0x80 && utf8_is_valid(bytes_make(four, 4)) != is_character(four, 4))
            fail_msg("%02x %02x %02x %02x", four[0], four[1], four[2], four[3]);
    }
}

static void lengths_are_in_utf16_units(void **state)
{
    (void)state;
    struct bytes b = bytes_of("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z");
    static const size_t offsets[] = {0, 1, 3, 6, 6, 10, 11, 11};
    assert_int_equal(utf8_units(b), 6);
    for (size_t units = 0; units < ARRAY_COUNT(offsets); units++)
        assert_int_equal(utf8_offset(b, units), offsets[units]);
    assert_int_equal(utf8_offset(b, SIZE_MAX), 11);
    assert_int_equal(utf8_units(bytes_make(NULL, 0)), 0);
    assert_int_equal(utf8_offset(bytes_make(NULL, 0), 3), 0);
}

static void a_prefix_cuts_no_character(void **state)
{
    (void)state;
    struct bytes b = bytes_of("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z");
    static const size_t cuts[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (size_t most = 0; most < ARRAY_COUNT(cuts); most++)
        assert_int_equal(utf8_prefix(b, most), cuts[most]);
    assert_int_equal(utf8_prefix(bytes_make(NULL, 0), 5), 0);
}

#define FFFD "\xef\xbf\xbd"

static void repair_replaces_maximal_subparts(void **state)
{
    /* The third is the example of the Unicode standard, table 3-8 and its neighbours. */
    static const struct {
        const char *broken;
        const char *repaired;
    } cases[] = {
        {"whole \xc3\xa9", "whole \xc3\xa9"},
        {"\xff", FFFD},
        {"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64",
         "a" FFFD FFFD FFFD "b" FFFD "c" FFFD FFFD "d"},
        {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A"},
        {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A"},
        {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", FFFD FFFD FFFD FFFD FFFD "A" FFFD FFFD "B"},
        {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", FFFD FFFD FFFD FFFD "A"},
        {"end \xf0\x9f\x98", "end " FFFD},
        {"end \xc3", "end " FFFD},
    };
    (void)state;
    uint8_t to[100];
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        size_t count = utf8_repair(bytes_of(cases[i].broken), to);
        assert_true(bytes_is(bytes_make(to, count), cases[i].repaired));
    }
    assert_int_equal(utf8_repair(bytes_make(NULL, 0), to), 0);
}

static void a_character_knows_its_bytes(void **state)
{
    (void)state;
    bool valid = false;
    assert_int_equal(utf8_char(bytes_of("\xe2\x82\xac!"), &valid), 3);
    assert_true(valid);
    assert_int_equal(utf8_char(bytes_of("\xe2\x82!"), &valid), 2);
    assert_false(valid);
    assert_int_equal(utf8_char(bytes_of("a\xe2"), &valid), 1);
    assert_true(valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_text_is_good_at_every_cut),
        cmocka_unit_test(bad_text_is_bad_at_its_first_bad_byte),
        cmocka_unit_test(a_cut_character_is_not_whole),
        cmocka_unit_test(every_pair_and_triple_agrees_with_the_definition),
        cmocka_unit_test(lengths_are_in_utf16_units),
        cmocka_unit_test(a_prefix_cuts_no_character),
        cmocka_unit_test(repair_replaces_maximal_subparts),
        cmocka_unit_test(a_character_knows_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
