#include "base/id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void a_made_id_is_letter_line_ulid(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 5);
    struct id i = id_make('c', 1469918176385, &r);
    assert_int_equal(i.count, ID_MADE_BYTES);
    /* The time of the example in the ULID specification. */
    assert_memory_equal(i.at, "c_01ARYZ6S41", 12);
    struct id parsed;
    assert_int_equal(id_parse(id_bytes(&i), &parsed), ERR_OK);
    assert_true(id_equal(&i, &parsed));
    for (size_t k = 2; k < i.count; k++)
        assert_non_null(strchr("0123456789ABCDEFGHJKMNPQRSTVWXYZ", i.at[k]));
    rng_init(&r, 5);
    struct id same = id_make('c', 1469918176385, &r);
    struct id other = id_make('c', 1469918176385, &r);
    assert_true(id_equal(&i, &same));
    assert_false(id_equal(&i, &other));
}

static void ids_sort_by_time(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 6);
    struct id before = id_make('m', 0, &r);
    for (int64_t ms = 1; ms < (INT64_C(1) << 47); ms = ms * 3 + 1) {
        struct id after = id_make('m', ms, &r);
        assert_true(memcmp(before.at, after.at, ID_MADE_BYTES) < 0);
        before = after;
    }
    struct id last = id_make('m', (INT64_C(1) << 48) - 1, &r);
    assert_memory_equal(last.at, "m_7ZZZZZZZZZ", 12);
}

static void the_random_part_fills_all_80_bits(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 7);
    uint32_t seen[26] = {0};
    for (int n = 0; n < 2000; n++) {
        struct id i = id_make('m', 1, &r);
        for (size_t k = 0; k < 16; k++)
            seen[10 + k] |= UINT32_C(1)
                            << (strchr("0123456789ABCDEFGHJKMNPQRSTVWXYZ", i.at[12 + k]) -
                                "0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    }
    for (size_t k = 10; k < 26; k++)
        assert_int_equal(seen[k], UINT32_MAX);
}

static void ids_have_their_characters_and_their_limit(void **state)
{
    (void)state;
    char longest[ID_BYTES_MAX + 1];
    struct id i = {.count = 3};
    memset(longest, 'a', sizeof(longest));
    assert_int_equal(id_parse(bytes_make(longest, ID_BYTES_MAX), &i), ERR_OK);
    assert_int_equal(i.count, ID_BYTES_MAX);
    assert_int_equal(id_parse(bytes_make(longest, ID_BYTES_MAX + 1), &i), ERR_PROTO);
    assert_int_equal(id_parse(bytes_make(NULL, 0), &i), ERR_PROTO);
    assert_int_equal(i.count, ID_BYTES_MAX);
    assert_int_equal(id_parse(bytes_of("p_default"), &i), ERR_OK);
    assert_int_equal(id_parse(bytes_of("aZ09_-"), &i), ERR_OK);
    for (int c = 0; c < 256; c++) {
        char text[2] = {'x', (char)c};
        bool is_ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '_' || c == '-';
        assert_int_equal(id_parse(bytes_make(text, 2), &i), is_ok ? ERR_OK : ERR_PROTO);
    }
}

static void names_are_utf8_without_controls(void **state)
{
    static const char *const good[] = {
        "",
        "alice",
        "a b",
        "\xc2\xa0",
        "\xc3\xa9",
        "\xe0\xa0\x80",
        "\xe2\x82\xac",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
    };
    static const char *const bad[] = {
        "a\n",
        "\x01",
        "\x7f",
        "\xc2\x80",
        "\xc2\x9f",
        "\x80",
        "\xc0\xaf",
        "\xc1\xbf",
        "\xc3",
        "\xe0\x9f\xbf",
        "\xe2\x82",
        "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf0\x90\x80",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xc3g",
        "\xe2g",
        "\xe2\x82g",
        "\xf0\x90\x80g",
    };
    (void)state;
    struct name n = {0};
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        assert_int_equal(name_parse(bytes_of(good[i]), &n), ERR_OK);
        assert_true(bytes_is(name_bytes(&n), good[i]));
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(name_parse(bytes_of(bad[i]), &n), ERR_PROTO);
    assert_int_equal(name_parse(bytes_make("a\0b", 3), &n), ERR_PROTO);
    char longest[NAME_BYTES_MAX + 1];
    memset(longest, 'a', sizeof(longest));
    assert_int_equal(name_parse(bytes_make(longest, NAME_BYTES_MAX), &n), ERR_OK);
    assert_int_equal(name_parse(bytes_make(longest, NAME_BYTES_MAX + 1), &n), ERR_PROTO);
    assert_int_equal(n.count, NAME_BYTES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_made_id_is_letter_line_ulid),
        cmocka_unit_test(ids_sort_by_time),
        cmocka_unit_test(the_random_part_fills_all_80_bits),
        cmocka_unit_test(ids_have_their_characters_and_their_limit),
        cmocka_unit_test(names_are_utf8_without_controls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
