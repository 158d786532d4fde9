#include "codec/centrifuge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static uint8_t block[1 << 16];

static enum err decode(const char *text, struct cf_command *out)
{
    struct arena a;
    arena_init(&a, block, sizeof(block));
    return cf_command_decode(&a, bytes_of(text), out);
}

static struct cf_command decoded(const char *text)
{
    struct cf_command c = {0};
    if (decode(text, &c) != ERR_OK)
        fail_msg("refused: %s", text);
    return c;
}

static void frames_are_split_at_newlines(void **state)
{
    (void)state;
    struct bytes rest = bytes_of("{\"id\":1}\n{}\n\n{\"id\":2}\n");
    assert_true(bytes_is(cf_frame_next(&rest), "{\"id\":1}"));
    assert_true(bytes_is(cf_frame_next(&rest), "{}"));
    assert_true(bytes_is(cf_frame_next(&rest), "{\"id\":2}"));
    assert_int_equal(cf_frame_next(&rest).count, 0);
    assert_int_equal(cf_frame_next(&rest).count, 0);
    rest = bytes_of("{}");
    assert_true(bytes_is(cf_frame_next(&rest), "{}"));
    assert_int_equal(rest.count, 0);
    rest = bytes_of("\n\n");
    assert_int_equal(cf_frame_next(&rest).count, 0);
    rest = bytes_make(NULL, 0);
    assert_int_equal(cf_frame_next(&rest).count, 0);
}

static void connect_is_read(void **state)
{
    (void)state;
    struct cf_command c =
        decoded("{\"id\":1,\"connect\":{\"token\":\"t.o.k\",\"data\":{\"a\": 1},"
                "\"name\":\"js\",\"version\":\"2\",\"flag\":3,\"new\":[],\"subs\":"
                "{\"#u\":{\"recover\":true,\"epoch\":\"e\",\"offset\":7},"
                "\"x\":{},\"bad\":{\"offset\":\"1\"},\"worse\":5}}}");
    assert_int_equal(c.id, 1);
    assert_int_equal(c.method, CF_CONNECT);
    assert_true(bytes_is(c.token, "t.o.k"));
    assert_true(bytes_is(c.data, "{\"a\": 1}"));
    assert_true(bytes_is(c.name, "js"));
    assert_true(bytes_is(c.version, "2"));
    assert_int_equal(c.flag, 3);
    bool recover = false;
    struct bytes epoch = {NULL, 0};
    uint64_t offset = 0;
    assert_true(cf_sub_read(json_get(c.subs, "#u"), &recover, &epoch, &offset));
    assert_true(recover);
    assert_true(bytes_is(epoch, "e"));
    assert_int_equal(offset, 7);
    assert_false(cf_sub_read(json_get(c.subs, "bad"), &recover, &epoch, &offset));
    assert_false(cf_sub_read(json_get(c.subs, "worse"), &recover, &epoch, &offset));
    assert_false(cf_sub_read(NULL, &recover, &epoch, &offset));
    assert_int_equal(offset, 7);
    assert_true(cf_sub_read(json_get(c.subs, "x"), &recover, &epoch, &offset));
    assert_false(recover);
    assert_int_equal(epoch.count, 0);
    assert_int_equal(offset, 0);
    c = decoded("{\"id\":1,\"connect\":{}}");
    assert_int_equal(c.method, CF_CONNECT);
    assert_null(c.subs);
    assert_int_equal(c.data.count, 0);
}

static void subscribe_is_read(void **state)
{
    (void)state;
    struct cf_command c = decoded(
        "{\"id\":2,\"subscribe\":{\"channel\":\"conv:c_1\",\"token\":\"t\",\"recover\":true,"
        "\"positioned\":true,\"recoverable\":true,\"join_leave\":true,\"epoch\":\"ep\","
        "\"offset\":9007199254740991,\"data\":null,\"flag\":1,\"delta\":\"fossil\",\"type\":4,"
        "\"tf\":{\"op\":\"eq\"}}}");
    assert_int_equal(c.method, CF_SUBSCRIBE);
    assert_true(bytes_is(c.channel, "conv:c_1"));
    assert_true(bytes_is(c.token, "t"));
    assert_true(c.recover);
    assert_true(c.positioned);
    assert_true(c.recoverable);
    assert_true(c.join_leave);
    assert_true(bytes_is(c.epoch, "ep"));
    assert_int_equal(c.offset, INT64_C(9007199254740991));
    assert_true(bytes_is(c.data, "null"));
    assert_int_equal(c.flag, 1);
    assert_int_equal(c.type, 4);
    assert_true(c.has_filter);
    assert_true(bytes_is(c.delta, "fossil"));
    c = decoded("{\"id\":2,\"subscribe\":{\"channel\":\"x\",\"tf\":null}}");
    assert_false(c.recover);
    assert_false(c.has_filter);
    assert_int_equal(c.offset, 0);
}

static void history_is_read(void **state)
{
    (void)state;
    struct cf_command c = decoded("{\"id\":3,\"history\":{\"channel\":\"c\",\"limit\":-1,"
                                  "\"since\":{\"offset\":5,\"epoch\":\"e\"},\"reverse\":true}}");
    assert_int_equal(c.method, CF_HISTORY);
    assert_int_equal(c.limit, -1);
    assert_true(c.has_since);
    assert_int_equal(c.offset, 5);
    assert_true(bytes_is(c.epoch, "e"));
    assert_true(c.reverse);
    c = decoded("{\"id\":3,\"history\":{\"channel\":\"c\",\"since\":null}}");
    assert_false(c.has_since);
    assert_int_equal(c.limit, 0);
    c = decoded("{\"id\":3,\"history\":{\"channel\":\"c\",\"since\":{}}}");
    assert_true(c.has_since);
}

static void the_small_ones_are_read(void **state)
{
    (void)state;
    struct cf_command c = decoded("{\"id\":4,\"rpc\":{\"method\":\"chat.send\",\"data\":[1, 2]}}");
    assert_int_equal(c.method, CF_RPC);
    assert_true(bytes_is(c.rpc_method, "chat.send"));
    assert_true(bytes_is(c.data, "[1, 2]"));
    c = decoded("{\"id\":4,\"publish\":{\"channel\":\"c\",\"data\":\"x\",\"type\":1}}");
    assert_int_equal(c.method, CF_PUBLISH);
    assert_true(bytes_is(c.data, "\"x\""));
    assert_int_equal(c.type, 1);
    c = decoded("{\"id\":4,\"unsubscribe\":{\"channel\":\"c\\u00e9\"}}");
    assert_int_equal(c.method, CF_UNSUBSCRIBE);
    assert_true(bytes_is(c.channel, "c\xc3\xa9"));
    assert_int_equal(decoded("{\"id\":4,\"presence\":{\"channel\":\"c\"}}").method, CF_PRESENCE);
    assert_int_equal(decoded("{\"id\":4,\"presence_stats\":{}}").method, CF_PRESENCE_STATS);
    assert_int_equal(decoded("{\"id\":4,\"ping\":{}}").method, CF_PING);
    c = decoded("{\"id\":4,\"refresh\":{\"token\":\"t\"}}");
    assert_int_equal(c.method, CF_REFRESH);
    assert_true(bytes_is(c.token, "t"));
    c = decoded("{\"id\":4,\"sub_refresh\":{\"channel\":\"c\",\"token\":\"t\"}}");
    assert_int_equal(c.method, CF_SUB_REFRESH);
    assert_true(bytes_is(c.channel, "c"));
    c = decoded("{\"send\":{\"data\":1}}");
    assert_int_equal(c.method, CF_SEND);
    assert_int_equal(c.id, 0);
    assert_true(bytes_is(c.data, "1"));
}

static void the_first_method_counts_and_no_id_is_a_pong(void **state)
{
    (void)state;
    assert_int_equal(decoded("{\"id\":5,\"rpc\":{},\"subscribe\":{\"channel\":\"a\"}}").method,
                     CF_SUBSCRIBE);
    assert_int_equal(decoded("{\"id\":5,\"connect\":null,\"ping\":{}}").method, CF_PING);
    assert_int_equal(decoded("{}").method, CF_PONG);
    assert_int_equal(decoded("{\"id\":0}").method, CF_PONG);
    assert_int_equal(decoded("{\"id\":null}").method, CF_PONG);
    assert_int_equal(decoded("{\"connect\":{}}").method, CF_PONG);
    assert_int_equal(decoded("{\"id\":0,\"connect\":{},\"send\":{}}").method, CF_SEND);
    assert_int_equal(decoded("{\"id\":6}").method, CF_UNKNOWN);
    assert_int_equal(decoded("{\"id\":6,\"teleport\":{}}").method, CF_UNKNOWN);
    assert_int_equal(decoded("{\"id\":4294967295}").id, UINT32_MAX);
}

static void malformed_commands_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "null",
        "\"{}\"",
        "{",
        "{\"id\":1}{}",
        "{\"id\":-1}",
        "{\"id\":4294967296}",
        "{\"id\":1.5}",
        "{\"id\":\"1\"}",
        "{\"id\":1,\"connect\":[]}",
        "{\"id\":1,\"connect\":\"x\"}",
        "{\"id\":1,\"ping\":{},\"rpc\":5}",
        "{\"connect\":1}",
        "{\"id\":1,\"connect\":{\"token\":1}}",
        "{\"id\":1,\"connect\":{\"subs\":[]}}",
        "{\"id\":1,\"subscribe\":{\"channel\":{}}}",
        "{\"id\":1,\"subscribe\":{\"recover\":1}}",
        "{\"id\":1,\"subscribe\":{\"offset\":-1}}",
        "{\"id\":1,\"subscribe\":{\"offset\":1e3}}",
        "{\"id\":1,\"subscribe\":{\"offset\":9223372036854775808}}",
        "{\"id\":1,\"subscribe\":{\"tf\":1}}",
        "{\"id\":1,\"history\":{\"since\":7}}",
        "{\"id\":1,\"history\":{\"since\":{\"offset\":\"7\"}}}",
        "{\"id\":1,\"history\":{\"limit\":2147483648}}",
        "{\"id\":1,\"rpc\":{\"method\":null,\"data\":}}",
        "{\"id\":1,\"rpc\":{\"method\":\"\xff\"}}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct cf_command c = {.id = 99};
        if (decode(bad[i], &c) != ERR_PROTO)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(c.id, 99);
    }
    struct arena none;
    struct cf_command c = {.id = 99};
    arena_init(&none, block, 100);
    assert_int_equal(cf_command_decode(&none, bytes_of("{\"id\":1,\"ping\":{}}"), &c), ERR_FULL);
    assert_int_equal(c.id, 99);
}

static void long_channels_are_the_callers_to_answer(void **state)
{
    (void)state;
    char text[400] = "{\"id\":1,\"unsubscribe\":{\"channel\":\"";
    size_t head = strlen(text);
    memset(text + head, 'c', CF_CHANNEL_BYTES_MAX + 1);
    memcpy(text + head + CF_CHANNEL_BYTES_MAX + 1, "\"}}", 4);
    assert_int_equal(decoded(text).channel.count, CF_CHANNEL_BYTES_MAX + 1);
}

static struct buf out;
static char room[1024];

static struct buf *begin(void)
{
    buf_init_fixed(&out, room, sizeof(room));
    return &out;
}

/* What was written is `wanted`, is one JSON value, and has no newline. */
static void is_written(const char *wanted)
{
    struct arena a;
    struct json *root = NULL;
    assert_false(out.failed);
    if (!bytes_is(buf_view(&out), wanted))
        fail_msg("%.*s, not %s", (int)out.count, room, wanted);
    arena_init(&a, block, sizeof(block));
    assert_int_equal(json_parse(&a, buf_view(&out), (struct json_limits){0}, &root, NULL), ERR_OK);
    assert_null(memchr(out.at, '\n', out.count));
}

static void replies_are_written(void **state)
{
    (void)state;
    cf_reply_result(begin(), 7, "rpc", bytes_of("{\"data\":1}"));
    is_written("{\"id\":7,\"rpc\":{\"data\":1}}");
    cf_reply_result(begin(), UINT32_MAX, "publish", bytes_make(NULL, 0));
    is_written("{\"id\":4294967295,\"publish\":{}}");
    cf_reply_result(begin(), 0, "ping", bytes_of("{}"));
    is_written("{\"ping\":{}}");
    cf_reply_error(begin(), 3, 103, bytes_of("permission denied"), false);
    is_written("{\"id\":3,\"error\":{\"code\":103,\"message\":\"permission denied\"}}");
    cf_reply_error(begin(), 3, 100, bytes_of("a \"b\"\n"), true);
    is_written("{\"id\":3,\"error\":{\"code\":100,\"message\":\"a \\\"b\\\"\\n\","
               "\"temporary\":true}}");
    cf_reply_error(begin(), 3, 0, bytes_of(""), false);
    is_written("{\"id\":3,\"error\":{\"code\":0,\"message\":\"\"}}");
}

static void publications_leave_out_what_is_empty(void **state)
{
    (void)state;
    struct bytes channel = bytes_of("conv:\"1\"");
    struct bytes data = bytes_of("{\"k\":\"d\"}");
    struct bytes epoch = bytes_of("ep");
    cf_push_publication(begin(), channel, data, 0, epoch);
    is_written("{\"push\":{\"channel\":\"conv:\\\"1\\\"\",\"pub\":{\"data\":{\"k\":\"d\"}}}}");
    cf_push_publication(begin(), bytes_of("c"), data, 1, epoch);
    is_written("{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":{\"k\":\"d\"},\"offset\":1,"
               "\"epoch\":\"ep\"}}}");
    cf_push_publication(begin(), bytes_of("c"), data, 2, epoch);
    is_written("{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":{\"k\":\"d\"},\"offset\":2}}}");
    cf_push_publication(begin(), bytes_of("c"), data, 1, bytes_make(NULL, 0));
    is_written("{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":{\"k\":\"d\"},\"offset\":1}}}");
    cf_push_publication(begin(), bytes_make(NULL, 0), bytes_make(NULL, 0), 3, epoch);
    is_written("{\"push\":{\"pub\":{\"offset\":3}}}");
}

static void publications_stand_in_arrays(void **state)
{
    (void)state;
    struct buf *b = begin();
    json_array_open(b);
    cf_publication(b, bytes_of("1"), 1, bytes_of("e"));
    cf_publication(b, bytes_of("\"}\""), 2, bytes_of("e"));
    cf_publication(b, bytes_make(NULL, 0), 0, bytes_of("e"));
    json_array_close(b);
    is_written("[{\"data\":1,\"offset\":1,\"epoch\":\"e\"},{\"data\":\"}\",\"offset\":2},{}]");
}

static void unsubscribe_has_code_and_reason(void **state)
{
    (void)state;
    cf_push_unsubscribe(begin(), bytes_of("c"), 2500, "insufficient state");
    is_written("{\"push\":{\"channel\":\"c\",\"unsubscribe\":{\"code\":2500,"
               "\"reason\":\"insufficient state\"}}}");
    cf_push_unsubscribe(begin(), bytes_of("c"), 0, "");
    is_written("{\"push\":{\"channel\":\"c\",\"unsubscribe\":{\"code\":0,\"reason\":\"\"}}}");
}

static void messages_begin_at_once_behind_a_newline(void **state)
{
    (void)state;
    struct buf *b = begin();
    cf_reply_result(b, 1, "ping", bytes_make(NULL, 0));
    buf_byte(b, '\n');
    cf_push_publication(b, bytes_of("c"), bytes_of("1"), 0, bytes_make(NULL, 0));
    struct bytes rest = buf_view(b);
    assert_true(bytes_is(cf_frame_next(&rest), "{\"id\":1,\"ping\":{}}"));
    assert_true(
        bytes_is(cf_frame_next(&rest), "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":1}}}"));
}

static void too_little_room_is_told_and_enough_is_enough(void **state)
{
    (void)state;
    static const char wanted[] = "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":1,\"offset\":2}}}";
    for (size_t bytes = 0; bytes <= sizeof(wanted) - 1; bytes++) {
        struct buf fixed;
        struct buf growing;
        buf_init_fixed(&fixed, room, bytes);
        buf_init(&growing, bytes);
        cf_push_publication(&fixed, bytes_of("c"), bytes_of("1"), 2, bytes_make(NULL, 0));
        cf_push_publication(&growing, bytes_of("c"), bytes_of("1"), 2, bytes_make(NULL, 0));
        assert_int_equal(fixed.failed, bytes < sizeof(wanted) - 1);
        assert_int_equal(growing.failed, bytes < sizeof(wanted) - 1);
        buf_fini(&growing);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_split_at_newlines),
        cmocka_unit_test(connect_is_read),
        cmocka_unit_test(subscribe_is_read),
        cmocka_unit_test(history_is_read),
        cmocka_unit_test(the_small_ones_are_read),
        cmocka_unit_test(the_first_method_counts_and_no_id_is_a_pong),
        cmocka_unit_test(malformed_commands_are_refused),
        cmocka_unit_test(long_channels_are_the_callers_to_answer),
        cmocka_unit_test(replies_are_written),
        cmocka_unit_test(publications_leave_out_what_is_empty),
        cmocka_unit_test(publications_stand_in_arrays),
        cmocka_unit_test(unsubscribe_has_code_and_reason),
        cmocka_unit_test(messages_begin_at_once_behind_a_newline),
        cmocka_unit_test(too_little_room_is_told_and_enough_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
