#include "codec/base64.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* RFC 4648, section 10, and one with both characters that the alphabets differ in. */
static const struct {
    const char *plain;
    const char *standard;
    const char *url;
} pairs[] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xff\xbe", "+/++", "-_--"},
};

static void known_pairs_go_both_ways(void **state)
{
    (void)state;
    uint8_t to[32];
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++) {
        struct bytes plain = bytes_of(pairs[i].plain);
        assert_true(bytes_is(bytes_make(to, base64_encode(plain, to)), pairs[i].standard));
        assert_true(bytes_is(bytes_make(to, base64url_encode(plain, to)), pairs[i].url));
        assert_int_equal(base64_decode(bytes_of(pairs[i].standard), to, &count), ERR_OK);
        assert_true(bytes_equal(bytes_make(to, count), plain));
        assert_int_equal(base64url_decode(bytes_of(pairs[i].url), to, &count), ERR_OK);
        assert_true(bytes_equal(bytes_make(to, count), plain));
    }
}

static void one_text_has_one_meaning(void **state)
{
    static const char *const bad_standard[] = {
        "Z",        "Zg",   "Zg=",    "Zg===", "Zh==", "Zm9=",  "Zm8",  "====", "=",
        "Zg==Zg==", "Z=g=", "Zm9v\n", "Zm 9",  "-_--", "Zm9v=", "Zg=a", "A===",
    };
    static const char *const bad_url[] = {
        "Z", "Zh", "Zm9", "Zg==", "+/++", "Zm9vZ", "Zm 9", "Zg\n"};
    (void)state;
    uint8_t to[32];
    size_t count = 77;
    for (size_t i = 0; i < ARRAY_COUNT(bad_standard); i++)
        assert_int_equal(base64_decode(bytes_of(bad_standard[i]), to, &count), ERR_PROTO);
    for (size_t i = 0; i < ARRAY_COUNT(bad_url); i++)
        assert_int_equal(base64url_decode(bytes_of(bad_url[i]), to, &count), ERR_PROTO);
    assert_int_equal(base64url_decode(bytes_make("Zg\0a", 4), to, &count), ERR_PROTO);
    assert_int_equal(count, 77);
}

static void each_byte_is_in_the_alphabet_or_refused(void **state)
{
    (void)state;
    uint8_t to[4];
    size_t count = 0;
    int in_standard = 0;
    int in_url = 0;
    for (int c = 0; c < 256; c++) {
        uint8_t text[4] = {'A', 'A', 'A', (uint8_t)c};
        in_standard += base64_decode(bytes_make(text, 4), to, &count) == ERR_OK;
        in_url += base64url_decode(bytes_make(text, 4), to, &count) == ERR_OK;
    }
    assert_int_equal(in_standard, 65); /* and "AAA=", which is padded rightly */
    assert_int_equal(in_url, 64);
}

static void random_bytes_come_back(void **state)
{
    (void)state;
    struct rng r;
    uint8_t plain[70];
    uint8_t text[100];
    uint8_t back[70];
    size_t count = 0;
    rng_init(&r, 3);
    for (size_t bytes = 0; bytes <= sizeof(plain); bytes++) {
        rng_fill(&r, plain, bytes);
        size_t text_bytes = base64url_encode(bytes_make(plain, bytes), text);
        assert_int_equal(text_bytes, (bytes * 4 + 2) / 3);
        assert_int_equal(base64url_decode(bytes_make(text, text_bytes), back, &count), ERR_OK);
        assert_true(bytes_equal(bytes_make(back, count), bytes_make(plain, bytes)));
        text_bytes = base64_encode(bytes_make(plain, bytes), text);
        assert_int_equal(text_bytes, 4 * ((bytes + 2) / 3));
        assert_int_equal(base64_decode(bytes_make(text, text_bytes), back, &count), ERR_OK);
        assert_true(bytes_equal(bytes_make(back, count), bytes_make(plain, bytes)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_pairs_go_both_ways),
        cmocka_unit_test(one_text_has_one_meaning),
        cmocka_unit_test(each_byte_is_in_the_alphabet_or_refused),
        cmocka_unit_test(random_bytes_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
