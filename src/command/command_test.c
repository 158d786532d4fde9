/* The command table: what each command takes, and what is said when it does not fit. */
#include "command/command.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static struct config *config;
static uint8_t block[262144];
static struct arena arena;
static struct command_refusal no;

static int set_up(void **state)
{
    struct buf message;
    char *environment[] = {NULL};
    (void)state;
    buf_init(&message, 4096);
    assert_int_equal(config_load(NULL, environment, NULL, 0, &config, &message), ERR_OK);
    buf_fini(&message);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_free(&config);
    return 0;
}

static enum err parse(enum command c, const char *json, struct command_args *args)
{
    memset(&no, 0, sizeof(no));
    arena_init(&arena, block, sizeof(block));
    return command_parse(&arena, config, c, bytes_of(json), args, &no);
}

static void expect_refused(enum command c, const char *json, uint32_t code, const char *field)
{
    struct command_args args;
    assert_int_equal(parse(c, json, &args), ERR_PROTO);
    assert_int_equal(no.code, code);
    assert_true(no.message[0] != '\0');
    if (field == NULL)
        assert_null(no.field);
    else
        assert_string_equal(no.field, field);
}

static void a_send_is_read_whole(void **state)
{
    struct command_args a;
    (void)state;
    assert_int_equal(parse(CMD_CHAT_SEND,
                           "{\"conv\":\"c_1\",\"cid\":\"x\",\"text\":\"h\\u00e9\",\"during_run\":"
                           "\"cancel\",\"answer\":false,\"parent\":null,\"unknown\":[1],"
                           "\"context\":{\"a\":\n1}}",
                           &a),
                     ERR_OK);
    assert_true(bytes_is(id_bytes(&a.conv), "c_1"));
    assert_true(bytes_is(blob_bytes(a.text), "h\xc3\xa9"));
    assert_true(bytes_is(blob_bytes(a.context), "{\"a\":1}"));
    assert_int_equal(a.during, DURING_CANCEL);
    assert_true(a.no_answer);
    assert_true(a.has_parent);
    assert_true(id_is_none(&a.parent));
    command_args_free(&a);
}

static void what_is_missing_or_wrong_is_named(void **state)
{
    (void)state;
    expect_refused(CMD_CHAT_SEND, "{\"cid\":\"x\",\"text\":\"t\"}", 107, "conv");
    expect_refused(CMD_CHAT_SEND, "{\"conv\":\"c\",\"text\":\"t\"}", 107, "cid");
    expect_refused(CMD_CHAT_SEND, "{\"conv\":\"c\",\"cid\":\"x\"}", 107, "text");
    expect_refused(CMD_CHAT_SEND, "{\"conv\":\"c\",\"cid\":\"x\",\"text\":7}", 107, "text");
    expect_refused(CMD_CHAT_SEND, "{\"conv\":\"c d\",\"cid\":\"x\",\"text\":\"t\"}", 107, "conv");
    expect_refused(CMD_CHAT_SEND, "{\"conv\":\"c\",\"cid\":\"x\",\"text\":\"a\\u0000\"}", 107,
                   "text");
    expect_refused(CMD_CHAT_SEND,
                   "{\"conv\":\"c\",\"cid\":\"x\",\"text\":\"t\",\"during_run\":\"maybe\"}", 107,
                   "during_run");
    expect_refused(CMD_CHAT_SEND,
                   "{\"conv\":\"c\",\"cid\":\"x\",\"text\":\"t\",\"model\":\"none\"}", 107,
                   "model");
    expect_refused(CMD_CONV_CREATE, "{\"persona\":\"p_nobody\"}", 107, "persona");
    expect_refused(CMD_TYPING_SET, "{\"conv\":\"c\",\"on\":1}", 107, "on");
    expect_refused(CMD_READ_SET, "{\"conv\":\"c\",\"offset\":-1}", 107, "offset");
    expect_refused(CMD_READ_SET, "{\"conv\":\"c\",\"offset\":1.5}", 107, "offset");
    expect_refused(CMD_RUN_STOP, "{}", 107, "run");
    expect_refused(CMD_CONV_UPDATE, "{\"conv\":\"c\"}", 107, "title");
    expect_refused(CMD_CONV_LIST, "{\"before\":\"soon\"}", 107, "before");
    expect_refused(CMD_CONV_CREATE, "{\"members\":[\"\"]}", 107, "members");
    expect_refused(CMD_CONV_CREATE, "[1]", 107, NULL);
    expect_refused(CMD_CONV_CREATE, "{\"a\":", 107, NULL);
}

static void a_refused_command_keeps_nothing(void **state)
{
    uint64_t before = mem_used_bytes();
    (void)state;
    expect_refused(CMD_CONV_CREATE, "{\"title\":\"t\",\"meta\":{},\"members\":[\"a\",7]}", 107,
                   "members");
    assert_int_equal(mem_used_bytes(), before);
}

static void cursors_go_there_and_back(void **state)
{
    struct command_args a;
    (void)state;
    assert_int_equal(parse(CMD_CONV_LIST, "{\"before\":\"1700000000123.c_9\",\"limit\":5}", &a),
                     ERR_OK);
    assert_true(a.before_ms == 1700000000123);
    assert_true(bytes_is(id_bytes(&a.before_conv), "c_9"));
    assert_int_equal(a.limit, 5);
    command_args_free(&a);
}

static void null_is_not_given(void **state)
{
    struct command_args a;
    (void)state;
    assert_int_equal(parse(CMD_CONV_CREATE, "{\"title\":null,\"cid\":null}", &a), ERR_OK);
    assert_false(a.has_title);
    assert_true(id_is_none(&a.cid));
    command_args_free(&a);
    assert_int_equal(parse(CMD_CONV_CREATE, "", &a), ERR_OK);
    command_args_free(&a);
}

static void commands_are_found_by_their_word(void **state)
{
    enum command c;
    (void)state;
    assert_true(command_find(bytes_of("run.stop"), &c));
    assert_int_equal(c, CMD_RUN_STOP);
    assert_false(command_find(bytes_of(""), &c));
    assert_false(command_find(bytes_of("run.stopp"), &c));
}

static void every_failing_allocation_is_answered(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 50; n++) {
        struct command_args a;
        uint64_t before = mem_used_bytes();
        mem_fail_at(n);
        enum err err = parse(CMD_CHAT_SEND,
                             "{\"conv\":\"c\",\"cid\":\"x\",\"text\":\"t\",\"context\":{}}", &a);
        mem_fail_at(0);
        if (err == ERR_OK) {
            command_args_free(&a);
            assert_true(n > 1);
            break;
        }
        assert_int_equal(no.code, 100);
        assert_true(no.temporary);
        assert_int_equal(mem_used_bytes(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_send_is_read_whole),
        cmocka_unit_test(what_is_missing_or_wrong_is_named),
        cmocka_unit_test(a_refused_command_keeps_nothing),
        cmocka_unit_test(cursors_go_there_and_back),
        cmocka_unit_test(null_is_not_given),
        cmocka_unit_test(commands_are_found_by_their_word),
        cmocka_unit_test(every_failing_allocation_is_answered),
    };
    return cmocka_run_group_tests_name("command", tests, set_up, tear_down);
}
