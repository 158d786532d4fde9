/* Whole completions. */
#include "model/completion_priv.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static uint8_t block[65536];

static enum err decode(const char *body, struct openai_chunk *out)
{
    struct arena a;
    arena_init(&a, block, sizeof(block));
    enum err err = completion_decode(&a, bytes_of(body), out);
    return err; /* the block outlives the arena: views stay readable */
}

static void text_finish_and_usage_are_read(void **state)
{
    (void)state;
    struct openai_chunk c;
    assert_int_equal(decode("{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                            "\"content\":\"a\\nb\",\"reasoning_content\":\"hm\"},"
                            "\"finish_reason\":\"length\"}],"
                            "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}",
                            &c),
                     ERR_OK);
    assert_true(bytes_is(c.text, "a\nb"));
    assert_true(bytes_is(c.reasoning, "hm"));
    assert_true(bytes_is(c.finish, "length"));
    assert_true(c.has_usage);
    assert_int_equal(c.tokens_in, 3);
    assert_int_equal(c.tokens_out, 4);
    assert_false(c.is_error);
}

static void no_content_is_an_empty_answer(void **state)
{
    (void)state;
    struct openai_chunk c;
    assert_int_equal(decode("{\"choices\":[{\"message\":{\"content\":null}}]}", &c), ERR_OK);
    assert_int_equal(c.text.count, 0);
    assert_false(c.has_usage);
}

static void an_error_in_its_place_is_an_error(void **state)
{
    (void)state;
    struct openai_chunk c;
    assert_int_equal(decode("{\"error\":{\"message\":\"no\",\"code\":\"boom\"}}", &c), ERR_OK);
    assert_true(c.is_error);
    assert_true(bytes_is(c.error_code, "boom"));
}

static void zeros_are_replaced(void **state)
{
    (void)state;
    struct openai_chunk c;
    assert_int_equal(decode("{\"choices\":[{\"message\":{\"content\":\"a\\u0000b\"}}]}", &c),
                     ERR_OK);
    assert_true(bytes_is(c.text, "a\xef\xbf\xbd"
                                 "b"));
}

static void anything_else_is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {"",
                                       "{",
                                       "[]",
                                       "{}",
                                       "{\"choices\":[]}",
                                       "{\"choices\":{}}",
                                       "{\"choices\":[{}]}",
                                       "{\"choices\":[{\"message\":{}}]}",
                                       "{\"choices\":[{\"message\":{\"content\":7}}]}",
                                       "{\"choices\":[{\"message\":{\"content\":\"x\"}}]} more"};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct openai_chunk c = {.tokens_in = 99};
        assert_int_equal(decode(rows[i], &c), ERR_PROTO);
        assert_int_equal(c.tokens_in, 99);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_finish_and_usage_are_read),
        cmocka_unit_test(no_content_is_an_empty_answer),
        cmocka_unit_test(an_error_in_its_place_is_an_error),
        cmocka_unit_test(zeros_are_replaced),
        cmocka_unit_test(anything_else_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
