/* Keys, names and drop functions of the messages between rooms. */
#include "bus/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static struct channel_key inbox_of(const char *app, const char *user)
{
    struct channel_key k = {.kind = CHANNEL_INBOX};
    assert_int_equal(id_parse(bytes_of(app), &k.app), ERR_OK);
    assert_int_equal(name_parse(bytes_of(user), &k.user), ERR_OK);
    return k;
}

static void two_apps_never_share_an_inbox(void **state)
{
    uint8_t a[CHANNEL_KEY_BYTES_MAX];
    uint8_t b[CHANNEL_KEY_BYTES_MAX];
    struct channel_key one = inbox_of("shop", "ada");
    struct channel_key two = inbox_of("shopa", "da");
    (void)state;
    assert_false(bytes_equal(channel_key_bytes(&one, a), channel_key_bytes(&two, b)));
    assert_true(bytes_is(channel_name(&one, a), "#ada"));
}

static void the_longest_key_fits(void **state)
{
    char app[ID_BYTES_MAX + 1];
    char user[NAME_BYTES_MAX + 1];
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    (void)state;
    memset(app, 'a', sizeof(app) - 1);
    memset(user, 'u', sizeof(user) - 1);
    app[sizeof(app) - 1] = '\0';
    user[sizeof(user) - 1] = '\0';
    struct channel_key k = inbox_of(app, user);
    assert_int_equal(channel_key_bytes(&k, room).count, 2 + ID_BYTES_MAX + NAME_BYTES_MAX);
}

static void a_conversation_is_named_by_its_id(void **state)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct channel_key k = {.kind = CHANNEL_CONV};
    (void)state;
    assert_int_equal(id_parse(bytes_of("c_1"), &k.conv), ERR_OK);
    assert_true(bytes_is(channel_name(&k, room), "conv:c_1"));
    assert_true(bytes_is(channel_key_bytes(&k, room), "cc_1"));
}

static void dropping_a_message_gives_back_its_blobs(void **state)
{
    struct blob *text = blob_copy(bytes_of("hello"));
    struct bus_command *m = BUS_NEW(COMMAND, bus_command, PORT_TALK);
    (void)state;
    m->args.text = blob_ref(text);
    m->args.title = blob_ref(text);
    assert_int_equal(text->refs, 3);
    msg_free(&m->msg);
    assert_int_equal(text->refs, 1);
    struct bus_run_start *s = BUS_NEW(RUN_START, bus_run_start, PORT_REPLY);
    s->question = blob_ref(text);
    s->kept = blob_ref(text);
    s->context = blob_ref(text);
    msg_free(&s->msg);
    assert_int_equal(text->refs, 1);
    blob_unref(&text);
}

static void every_command_has_its_word(void **state)
{
    (void)state;
    assert_string_equal(command_name(CMD_CHAT_SEND), "chat.send");
    assert_string_equal(command_name(CMD_HISTORY), "");
    assert_string_equal(command_name(COMMANDS_COUNT), "");
    assert_string_equal(run_end_name(RUN_END_BLOCKED), "blocked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_apps_never_share_an_inbox),
        cmocka_unit_test(the_longest_key_fits),
        cmocka_unit_test(a_conversation_is_named_by_its_id),
        cmocka_unit_test(dropping_a_message_gives_back_its_blobs),
        cmocka_unit_test(every_command_has_its_word),
    };
    return cmocka_run_group_tests_name("messages", tests, NULL, NULL);
}
