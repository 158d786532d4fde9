/* Characters that were cut in two come out whole, wherever the cut is. */
#include "model/stitch_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static uint8_t block[65536];

static struct bytes join(struct stitch *s, struct arena *a, const char *data)
{
    struct bytes out = {NULL, 0};
    assert_int_equal(stitch_join(s, a, bytes_of(data), &out), ERR_OK);
    return out;
}

static void assert_bytes(struct bytes got, const char *want)
{
    assert_int_equal(got.count, strlen(want));
    assert_memory_equal(got.at, want, got.count);
}

static void ascii_is_handed_through_uncopied(void **state)
{
    (void)state;
    struct stitch s = {0};
    struct arena a;
    arena_init(&a, block, sizeof(block));
    const char *data = "{\"choices\":[{\"delta\":{\"content\":\"a\\n\\u0041\"}}]}";
    assert_ptr_equal(join(&s, &a, data).at, data);
    assert_int_equal(a.used, 0);
    arena_fini(&a);
}

static void a_surrogate_pair_over_two_chunks_is_joined(void **state)
{
    (void)state;
    struct stitch s = {0};
    struct arena a;
    arena_init(&a, block, sizeof(block));
    assert_bytes(join(&s, &a, "{\"content\":\"hi \\uD83D\"}"), "{\"content\":\"hi \"}");
    /* The role's chunk or a usage chunk may come between. */
    assert_bytes(join(&s, &a, "{\"content\":\"\"}"), "{\"content\":\"\"}");
    assert_bytes(join(&s, &a, "{\"usage\":null}"), "{\"usage\":null}");
    assert_bytes(join(&s, &a, "{\"content\":\"\\ude00!\"}"), "{\"content\":\"\\uD83D\\ude00!\"}");
    assert_int_equal(s.text.count, 0);
    arena_fini(&a);
}

static void an_escaped_backslash_makes_no_escape(void **state)
{
    (void)state;
    assert_int_equal(stitch_half_bytes(bytes_of("\\\\ud83d")), 0);
    assert_int_equal(stitch_half_bytes(bytes_of("\\\\\\ud83d")), 6);
    assert_int_equal(stitch_half_bytes(bytes_of("\\ud83d\\ude00")), 0);
    assert_int_equal(stitch_half_bytes(bytes_of("\\ud7ff")), 0);
    assert_int_equal(stitch_half_bytes(bytes_of("ud83d")), 0);
}

static void bytes_of_a_character_are_joined_at_every_cut(void **state)
{
    (void)state;
    static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < ARRAY_COUNT(characters); i++) {
        size_t count = strlen(characters[i]);
        for (size_t cut = 1; cut < count; cut++) {
            struct stitch s = {0};
            struct arena a;
            char data[64];
            char want[64];
            arena_init(&a, block, sizeof(block));
            (void)snprintf(data, sizeof(data), "{\"content\":\"x%.*s\"}", (int)cut, characters[i]);
            assert_bytes(join(&s, &a, data), "{\"content\":\"x\"}");
            (void)snprintf(data, sizeof(data), "{\"content\":\"%s\"}", characters[i] + cut);
            (void)snprintf(want, sizeof(want), "{\"content\":\"%s\"}", characters[i]);
            assert_bytes(join(&s, &a, data), want);
            arena_fini(&a);
        }
    }
}

static void a_character_in_single_bytes_is_joined(void **state)
{
    (void)state;
    struct stitch s = {0};
    struct arena a;
    arena_init(&a, block, sizeof(block));
    assert_bytes(join(&s, &a, "{\"content\":\"\xf0\"}"), "{\"content\":\"\"}");
    assert_bytes(join(&s, &a, "{\"content\":\"\x9f\"}"), "{\"content\":\"\"}");
    assert_bytes(join(&s, &a, "{\"content\":\"\x98\"}"), "{\"content\":\"\"}");
    assert_bytes(join(&s, &a, "{\"content\":\"\x80\"}"), "{\"content\":\"\xf0\x9f\x98\x80\"}");
    assert_int_equal(s.text.count, 0);
    arena_fini(&a);
}

static void reasoning_and_text_hold_their_own_half(void **state)
{
    (void)state;
    struct stitch s = {0};
    struct arena a;
    arena_init(&a, block, sizeof(block));
    assert_bytes(join(&s, &a, "{\"reasoning_content\":\"\\ud83d\",\"content\":\"\xc3\"}"),
                 "{\"reasoning_content\":\"\",\"content\":\"\"}");
    assert_bytes(join(&s, &a, "{\"content\":\"\xa9\"}"), "{\"content\":\"\xc3\xa9\"}");
    assert_bytes(join(&s, &a, "{\"reasoning\":\"\\ude00\"}"), "{\"reasoning\":\"\\ud83d\\ude00\"}");
    arena_fini(&a);
}

static void other_keys_and_values_are_left_alone(void **state)
{
    (void)state;
    struct stitch s = {0};
    struct arena a;
    arena_init(&a, block, sizeof(block));
    const char *data = "{\"token\":\"\xe2\x82\",\"content\":[\"\xe2\"],"
                       "\"x\":\"content\",\"y\":\"\xe2\"}";
    assert_bytes(join(&s, &a, data), data);
    assert_int_equal(s.text.count, 0);
    const char *cut = "{\"content\":\"\xe2";
    assert_bytes(join(&s, &a, cut), cut);
    arena_fini(&a);
}

static void memory_may_end_anywhere(void **state)
{
    (void)state;
    static const char data[] = "{\"content\":\"\xe2\x82\xac\xe2\"}";
    enum err err = ERR_FULL;
    size_t room = 0;
    for (; err == ERR_FULL; room++) {
        struct stitch s = {0};
        struct arena a;
        struct bytes out = {NULL, 0};
        arena_init(&a, block, room);
        err = stitch_join(&s, &a, bytes_of(data), &out);
        assert_true(err == ERR_OK || (err == ERR_FULL && out.at == NULL && s.text.count == 0));
        arena_fini(&a);
    }
    assert_true(room > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ascii_is_handed_through_uncopied),
        cmocka_unit_test(a_surrogate_pair_over_two_chunks_is_joined),
        cmocka_unit_test(an_escaped_backslash_makes_no_escape),
        cmocka_unit_test(bytes_of_a_character_are_joined_at_every_cut),
        cmocka_unit_test(a_character_in_single_bytes_is_joined),
        cmocka_unit_test(reasoning_and_text_hold_their_own_half),
        cmocka_unit_test(other_keys_and_values_are_left_alone),
        cmocka_unit_test(memory_may_end_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
