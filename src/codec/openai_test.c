#include "codec/openai.h"

#include "codec/json.h"
#include "codec/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static uint8_t block[1 << 16];

static enum err decode(struct bytes data, struct openai_chunk *out)
{
    struct arena a;
    arena_init(&a, block, sizeof(block));
    return openai_chunk_decode(&a, data, out);
}

static struct openai_chunk decoded(const char *data)
{
    struct openai_chunk c = {0};
    if (decode(bytes_of(data), &c) != ERR_OK)
        fail_msg("refused: %s", data);
    return c;
}

static void requests_are_written(void **state)
{
    (void)state;
    char room[1000];
    struct buf b;
    struct arena a;
    struct json *root = NULL;
    const struct openai_message messages[] = {
        {OPENAI_SYSTEM, bytes_of("Be \"kind\".")},
        {OPENAI_USER, bytes_of("h\xc3\xa9\n")},
        {OPENAI_ASSISTANT, bytes_of("")},
    };
    const struct openai_params full = {
        .model = bytes_of("m/1"), .max_tokens = 50, .temperature = 0.7, .top_p = 1, .stream = true};
    buf_init_fixed(&b, room, sizeof(room));
    openai_request(&b, &full, messages, ARRAY_COUNT(messages));
    assert_true(bytes_is(
        buf_view(&b),
        "{\"model\":\"m/1\",\"messages\":[{\"role\":\"system\",\"content\":\"Be \\\"kind\\\".\"},"
        "{\"role\":\"user\",\"content\":\"h\xc3\xa9\\n\"},{\"role\":\"assistant\","
        "\"content\":\"\"}],\"max_tokens\":50,\"temperature\":0.7,\"top_p\":1,\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true}}"));
    arena_init(&a, block, sizeof(block));
    assert_int_equal(json_parse(&a, buf_view(&b), (struct json_limits){0}, &root, NULL), ERR_OK);
    const struct openai_params bare = {.model = bytes_of("m"), .temperature = -1, .top_p = -1};
    buf_init_fixed(&b, room, sizeof(room));
    openai_request(&b, &bare, NULL, 0);
    assert_true(bytes_is(buf_view(&b), "{\"model\":\"m\",\"messages\":[],\"stream\":false}"));
}

static void deltas_are_read(void **state)
{
    (void)state;
    struct openai_chunk c =
        decoded("{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":"
                "[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":"
                "\"Hi\\n\"},\"finish_reason\":null}],\"usage\":null}");
    assert_true(bytes_is(c.text, "Hi\n"));
    assert_int_equal(c.finish.count, 0);
    assert_false(c.is_done);
    assert_false(c.is_error);
    assert_false(c.has_usage);
    c = decoded("{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}");
    assert_int_equal(c.text.count, 0);
    assert_true(bytes_is(c.finish, "stop"));
    c = decoded("{\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"hm\"}}]}");
    assert_true(bytes_is(c.reasoning, "hm"));
    c = decoded("{\"choices\":[{\"delta\":{\"content\":\"a\",\"reasoning\":\"so\"}}]}");
    assert_true(bytes_is(c.reasoning, "so"));
    assert_true(bytes_is(c.text, "a"));
    c = decoded("{\"choices\":[{\"finish_reason\":\"length\",\"delta\":null}]}");
    assert_true(bytes_is(c.finish, "length"));
}

static void usage_comes_without_choices(void **state)
{
    (void)state;
    struct openai_chunk c = decoded("{\"choices\":[],\"usage\":{\"prompt_tokens\":12,"
                                    "\"completion_tokens\":34,\"total_tokens\":46}}");
    assert_true(c.has_usage);
    assert_int_equal(c.tokens_in, 12);
    assert_int_equal(c.tokens_out, 34);
    c = decoded("{\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":\"x\"}}");
    assert_true(c.has_usage);
    assert_int_equal(c.tokens_in, 0);
    assert_int_equal(c.tokens_out, 0);
    c = decoded("{\"object\":\"chat.completion.chunk\"}");
    assert_false(c.has_usage);
}

static void done_is_done(void **state)
{
    (void)state;
    assert_true(decoded("[DONE]").is_done);
    assert_true(decoded(" [DONE] \r").is_done);
    struct openai_chunk c;
    assert_int_equal(decode(bytes_of("[done]"), &c), ERR_PROTO);
}

static void errors_are_read_in_every_shape(void **state)
{
    static const struct {
        const char *data;
        const char *message;
        const char *code;
    } cases[] = {
        {"{\"error\":{\"message\":\"no\",\"type\":\"t\",\"code\":\"c\"}}", "no", "c"},
        {"{\"error\":{\"message\":\"no\",\"type\":\"t\",\"code\":null}}", "no", "t"},
        {"{\"error\":{\"code\":503,\"message\":\"Loading model\",\"type\":\"u\"}}", "Loading model",
         "503"},
        {"{\"error\":\"plain\"}", "plain", ""},
        {"{\"error\":[1]}", "[1]", ""},
        {"{\"error\":{}}", "", ""},
        {"{\"object\":\"error\",\"message\":\"too long\",\"code\":400}", "too long", "400"},
        {"{\"detail\":\"Not Found\"}", "Not Found", ""},
        {"{\"detail\":[{\"loc\":[]}]}", "[{\"loc\":[]}]", ""},
        {"{\"choices\":[],\"error\":{\"message\":\"mid\"}}", "mid", ""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct arena a;
        struct bytes message = {NULL, 0};
        struct bytes code = {NULL, 0};
        struct openai_chunk c = decoded(cases[i].data);
        assert_true(c.is_error);
        assert_true(bytes_is(c.error_message, cases[i].message));
        assert_true(bytes_is(c.error_code, cases[i].code));
        arena_init(&a, block, sizeof(block));
        assert_true(openai_error_decode(&a, bytes_of(cases[i].data), &message, &code));
        assert_true(bytes_is(message, cases[i].message));
        assert_true(bytes_is(code, cases[i].code));
    }
    assert_false(decoded("{\"choices\":[],\"error\":null}").is_error);
    assert_false(decoded("{\"choices\":[],\"detail\":\"x\"}").is_error);
}

static void what_is_no_error_body_has_no_error(void **state)
{
    static const char *const bodies[] = {
        "", "<html>502</html>", "{}", "[]", "{\"error\":null}", "{\"choices\":[]}", "null"};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        struct arena a;
        struct bytes message = bytes_of("m");
        struct bytes code = bytes_of("c");
        arena_init(&a, block, sizeof(block));
        assert_false(openai_error_decode(&a, bytes_of(bodies[i]), &message, &code));
        assert_true(bytes_is(message, "m"));
        assert_true(bytes_is(code, "c"));
    }
}

static void garbage_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "x",
        "{",
        "{}",
        "[]",
        "\"a\"",
        "null",
        "{\"foo\":1}",
        "{\"object\":\"list\"}",
        "{\"choices\":{}}",
        "{\"choices\":[1]}",
        "{\"choices\":[{\"delta\":[]}]}",
        "{\"choices\":[{\"delta\":{\"content\":5}}]}",
        "{\"choices\":[{\"finish_reason\":1}]}",
        "{\"choices\":[{\"delta\":{\"reasoning\":{}}}]}",
        "{\"choices\":[]} trailing",
        "{\"choices\":[{\"delta\":{\"content\":\"\\q\"}}]}",
        "{\"choices\":[{\"delta\":{\"content\":\"\n\"}}]}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct openai_chunk c = {.tokens_in = 99};
        if (decode(bytes_of(bad[i]), &c) != ERR_PROTO)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(c.tokens_in, 99);
    }
}

#define FFFD "\xef\xbf\xbd"

static void broken_text_is_repaired(void **state)
{
    static const struct {
        const char *content;
        const char *text;
    } cases[] = {
        {"a\xf0\x9f\x98", "a" FFFD},
        {"\xff"
         "b\xc3\xa9",
         FFFD "b\xc3\xa9"},
        {"\\ud83d\\ude00", "\xf0\x9f\x98\x80"},
        {"x\\ud83d", "x" FFFD},
        {"\\ude00x", FFFD "x"},
        {"\\ud83d\\ud83d\\ude00", FFFD "\xf0\x9f\x98\x80"},
        {"\\ud83d\\u0041", FFFD "A"},
        {"\\ud83dx\\ude00", FFFD "x" FFFD},
        {"\\\\ud83d", "\\ud83d"},
        {"\\\\\\ud83d", "\\" FFFD},
        {"a\\u0000b", "a" FFFD "b"},
        {"\\uD83D\xff", FFFD FFFD},
        {"\\u00e9\\n\\/", "\xc3\xa9\n/"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char room[200];
        struct buf b;
        struct openai_chunk c = {0};
        buf_init_fixed(&b, room, sizeof(room));
        buf_printf(&b, "{\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}", cases[i].content);
        assert_int_equal(decode(buf_view(&b), &c), ERR_OK);
        if (!bytes_is(c.text, cases[i].text))
            fail_msg("%s gave %.*s", cases[i].content, (int)c.text.count, (const char *)c.text.at);
        assert_true(utf8_is_valid(c.text));
    }
}

static void escapes_that_are_cut_are_no_reason_to_read_on(void **state)
{
    static const char *const cut[] = {"{\"a\":\"\\",        "{\"a\":\"\\u",
                                      "{\"a\":\"\\ud83",    "{\"a\":\"\\ud83d",
                                      "{\"a\":\"\\ud83d\\", "{\"a\":\"\\ud83d\\ude0"};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cut); i++) {
        struct openai_chunk c;
        assert_int_equal(decode(bytes_of(cut[i]), &c), ERR_PROTO);
    }
}

static void every_size_of_arena_may_be_too_small(void **state)
{
    (void)state;
    enum err e = ERR_FULL;
    for (size_t bytes = 0; e == ERR_FULL; bytes++) {
        struct arena a;
        struct openai_chunk c = {0};
        arena_init(&a, block, bytes);
        e = openai_chunk_decode(
            &a, bytes_of("{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\xff\"}}]}"), &c);
        assert_true(e == ERR_OK || c.text.at == NULL);
        assert_true(bytes < 4000);
    }
    assert_int_equal(e, ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_written),
        cmocka_unit_test(deltas_are_read),
        cmocka_unit_test(usage_comes_without_choices),
        cmocka_unit_test(done_is_done),
        cmocka_unit_test(errors_are_read_in_every_shape),
        cmocka_unit_test(what_is_no_error_body_has_no_error),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(broken_text_is_repaired),
        cmocka_unit_test(escapes_that_are_cut_are_no_reason_to_read_on),
        cmocka_unit_test(every_size_of_arena_may_be_too_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
