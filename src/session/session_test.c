/* One connected client (session.c, dispatch.c, handshake.c, hub.c): real sockets and a real engine
 * on one side of the room, and this test in the place of talk on the other. */
#include "session/session_stage_priv.h"

#define CONV "c_1"
/* What a subscribe command 2 hears that was taken back before its answer came. */
#define DROPPED                                                                              \
    "{\"id\":2,\"error\":{\"code\":100,\"message\":\"unsubscribed before the answer came\"," \
    "\"temporary\":true}}"

/* --- connect ---------------------------------------------------------------------------------- */

static void a_guest_gets_a_name_a_token_and_its_inbox(void **state)
{
    (void)state;
    struct client *c = client_open();
    char want[128];
    char token[1024];
    client_say(c, STAGE_CONNECT);
    struct bus_subscribe *s = take_subscribe(NULL);
    assert_int_equal(s->key.kind, CHANNEL_INBOX);
    assert_true(s->who.guest);
    assert_true(name_equal(&s->who.user, &s->key.user));
    assert_int_equal(s->key.user.at[0], 'u');
    assert_true(bytes_is(id_bytes(&s->key.app), "default"));
    struct name user = s->key.user;
    expect_silence(c);
    say_subscribed(s, 3);
    client_hear(c);
    assert_non_null(strstr(c->text, "{\"id\":1,\"connect\":{\"client\":\""));
    assert_non_null(strstr(c->text, ",\"ping\":25,\"pong\":true,"));
    assert_non_null(strstr(c->text, "\"protocol\":1,"));
    assert_non_null(strstr(c->text, "\"guest\":true,\"token\":\""));
    assert_non_null(strstr(c->text, "\"limits\":{\"text_bytes\":32768,"));
    assert_non_null(strstr(c->text, "{\"id\":\"p_kit\",\"name\":\"Kit\",\"greeting\":\"Hi!\","
                                    "\"suggestions\":[\"Tell me\"]}"));
    (void)snprintf(want, sizeof(want),
                   "\"subs\":{\"#%.*s\":{\"recoverable\":true,\"positioned\":true,"
                   "\"epoch\":\"" STAGE_EPOCH "\",\"offset\":3}}}}",
                   user.count, user.at);
    assert_non_null(strstr(c->text, want));
    const char *at = strstr(c->text, "\"token\":\"") + strlen("\"token\":\"");
    (void)snprintf(token, sizeof(token), "%.*s", (int)(strchr(at, '"') - at), at);
    /* With it the same guest comes again, and needs no new one. */
    struct client *again = client_open();
    say_connect(again, token);
    s = take_subscribe(NULL);
    assert_true(name_equal(&s->key.user, &user));
    assert_true(s->who.guest);
    say_subscribed(s, 3);
    client_hear(again);
    assert_null(strstr(again->text, "\"token\""));
    assert_non_null(strstr(again->text, "\"expires\":true,\"ttl\":"));
}

static void a_token_names_user_and_display_name(void **state)
{
    (void)state;
    struct client *c = client_open();
    say_connect(c, token_of("ada", 0));
    struct bus_subscribe *s = take_subscribe("#ada");
    assert_true(bytes_is(name_bytes(&s->who.display), "Ada \"L\""));
    assert_false(s->recover);
    say_subscribed(s, 0);
    expect_part(c, "\"user\":\"ada\",\"name\":\"Ada \\\"L\\\"\",\"guest\":false,\"limits\"");
}

static void connect_recovers_the_inbox_from_the_place_it_names(void **state)
{
    (void)state;
    struct client *c = client_open();
    char text[2048];
    (void)snprintf(text, sizeof(text),
                   "{\"id\":1,\"connect\":{\"token\":\"%s\",\"subs\":{\"#eve\":{\"recover\":true,"
                   "\"epoch\":\"x\",\"offset\":1},\"#ada\":{\"recover\":true,\"epoch\":\"e.g1\","
                   "\"offset\":7},\"#adam\":{\"recover\":true,\"offset\":2}}}}",
                   token_of("ada", 0));
    client_say(c, text);
    struct bus_subscribe *s = take_subscribe("#ada");
    assert_true(s->recover);
    assert_int_equal(s->offset, 7);
    assert_true(bytes_is(bytes_make(s->epoch, s->epoch_count), "e.g1"));
    struct bus_subscribed *a = subscribed_new(s, 7);
    a->recovered = true;
    a->was_recovering = true;
    a->publications = blob_copy(bytes_of("{\"data\":1,\"offset\":8},{\"data\":2,\"offset\":9}"));
    a->publications_count = 2;
    engine_post(stage.engine, &a->msg);
    msg_free(&s->msg);
    expect_part(c, "\"offset\":7,\"was_recovering\":true,\"recovered\":true,\"publications\":["
                   "{\"data\":1,\"offset\":8},{\"data\":2,\"offset\":9}]");
    publish(key_of_inbox("ada"), 9, "2", false); /* known already */
    publish(key_of_inbox("ada"), 10, "3", false);
    expect_text(c, "{\"push\":{\"channel\":\"#ada\",\"pub\":{\"data\":3,\"offset\":10}}}");
}

static void what_is_sent_behind_connect_waits_for_the_inbox_and_runs_in_order(void **state)
{
    (void)state;
    struct client *c = client_open();
    char text[2048];
    (void)snprintf(text, sizeof(text),
                   "{\"id\":1,\"connect\":{\"token\":\"%s\"}}\n"
                   "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}\n"
                   "{\"id\":3,\"rpc\":{\"method\":\"conv.list\"}}\n",
                   token_of("ada", 0));
    client_say(c, text);
    client_say(c, "{\"id\":4,\"ping\":{}}");
    struct bus_subscribe *inbox = take_subscribe("#ada");
    expect_quiet();
    expect_silence(c);
    say_subscribed(inbox, 0);
    say_subscribed(take_subscribe("conv:" CONV), 0);
    say_answer(take_command(CMD_CONV_LIST), "{\"items\":[]}");
    expect_part(c, "{\"id\":1,\"connect\":");
    /* A ping needs no answer of anybody, so it may come before those that do. */
    expect_text(c, "{\"id\":4,\"ping\":{}}");
    expect_part(c, "{\"id\":2,\"subscribe\":");
    expect_text(c, "{\"id\":3,\"rpc\":{\"data\":{\"items\":[]}}}");
}

static void a_command_before_connect_closes_3501(void **state)
{
    (void)state;
    struct client *c = client_open();
    client_say(c, "{\"id\":1,\"rpc\":{\"method\":\"conv.list\"}}\n" STAGE_CONNECT);
    expect_close(c, 3501, "bad request");
    expect_quiet();
}

static void a_second_connect_closes_3501(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, STAGE_CONNECT);
    expect_close(c, 3501, "bad request");
    expect_unsubscribe("#ada");
    /* The same while the first is under way: it waits, and is one too many then. */
    struct client *d = client_open();
    client_say(d, STAGE_CONNECT "\n" STAGE_CONNECT);
    say_subscribed(take_subscribe(NULL), 0);
    expect_part(d, "\"connect\"");
    expect_close(d, 3501, "bad request");
}

static void an_invalid_token_closes_3500(void **state)
{
    (void)state;
    struct client *c = client_open();
    say_connect(c, "a.b.c");
    expect_close(c, 3500, "invalid token");
    expect_quiet();
}

static void a_refused_connect_throws_away_what_follows_and_is_closed_after_a_while(void **state)
{
    (void)state;
    struct client *c = client_open();
    char text[2048];
    (void)snprintf(text, sizeof(text),
                   "{\"id\":1,\"connect\":{\"token\":\"%s\"}}\n"
                   "{\"id\":2,\"rpc\":{\"method\":\"conv.list\"}}",
                   token_of("ada", AUTH_GUEST_MS + 60000));
    client_say(c, text);
    client_say(c, "{\"id\":3,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}");
    expect_text(c, "{\"id\":1,\"error\":{\"code\":109,\"message\":\"token expired\"}}");
    client_say(c, STAGE_CONNECT);
    expect_quiet();
    expect_silence(c);
    engine_clock_skip(4000);
    expect_silence(c);
    engine_clock_skip(2000);
    assert_int_equal(client_take(c), -1);
}

static void an_inbox_that_cannot_be_had_refuses_connect(void **state)
{
    (void)state;
    struct client *c = client_open();
    client_say(c, STAGE_CONNECT "\n{\"id\":2,\"rpc\":{\"method\":\"conv.list\"}}");
    struct bus_subscribe *s = take_subscribe(NULL);
    struct bus_subscribed *a = subscribed_new(s, 0);
    a->code = 100;
    a->temporary = true;
    a->message = "the store cannot be reached";
    engine_post(stage.engine, &a->msg);
    msg_free(&s->msg);
    expect_text(c, "{\"id\":1,\"error\":{\"code\":100,\"message\":\"the store cannot be reached\","
                   "\"temporary\":true}}");
    expect_quiet();
    expect_silence(c);
    assert_int_equal(stage.sessions->subs.used_count, 0);
}

static int set_up_no_guests(void **state)
{
    (void)state;
    stage_make("auth.guests=false", NULL);
    return 0;
}

static void without_guests_a_missing_token_closes_3501(void **state)
{
    (void)state;
    struct client *c = client_open();
    client_say(c, STAGE_CONNECT);
    expect_close(c, 3501, "bad request");
}

static int set_up_insecure(void **state)
{
    (void)state;
    stage_make("auth.guests=false", "auth.insecure=true");
    return 0;
}

static void insecure_is_everybody_and_has_no_inbox(void **state)
{
    (void)state;
    struct client *c = client_open();
    client_say(c, STAGE_CONNECT "\n{\"id\":2,\"rpc\":{\"method\":\"conv.list\"}}");
    expect_part(c, "\"user\":\"\"");
    assert_null(strstr(c->text, "\"subs\""));
    struct bus_command *m = take_command(CMD_CONV_LIST);
    assert_true(m->who.insecure);
    say_answer(m, "{}");
    expect_text(c, "{\"id\":2,\"rpc\":{\"data\":{}}}");
}

static void no_connect_in_time_closes_3502(void **state)
{
    (void)state;
    struct client *c = client_open();
    struct client *d = client_open();
    client_say(d, STAGE_CONNECT); /* begun, but the inbox's answer does not come */
    struct bus_subscribe *s = take_subscribe(NULL);
    uint8_t room[CHANNEL_KEY_BYTES_MAX + 1] = {0};
    (void)channel_name(&s->key, room);
    engine_clock_skip(14000);
    expect_silence(c);
    engine_clock_skip(1500);
    expect_close(c, 3502, "stale");
    expect_close(d, 3502, "stale");
    expect_quiet();
    say_subscribed(s, 0); /* too late: it is counted there, and nobody watches */
    expect_unsubscribe((const char *)room);
}

static void refresh_takes_a_new_token_of_the_same_user(void **state)
{
    (void)state;
    struct client *c = client_connected();
    char text[2048];
    session_only()->expires_ms = 1; /* long ago: over at the next look */
    (void)snprintf(text, sizeof(text), "{\"id\":5,\"refresh\":{\"token\":\"%s\"}}",
                   token_of("ada", 0));
    client_say(c, text);
    expect_part(c, "{\"id\":5,\"refresh\":{\"client\":\"");
    assert_non_null(strstr(c->text, "\"expires\":true,\"ttl\":3153"));
    engine_clock_skip(25000);
    expect_text(c, "{}"); /* a ping: it goes on */
    (void)snprintf(text, sizeof(text), "{\"id\":6,\"refresh\":{\"token\":\"%s\"}}",
                   token_of("eve", 0));
    client_say(c, text);
    expect_close(c, 3500, "invalid token");
}

static void refresh_with_nothing_or_an_old_token_closes(void **state)
{
    (void)state;
    struct client *c = client_connected();
    char text[2048];
    client_say(c, "{\"id\":5,\"refresh\":{\"token\":\"\"}}");
    expect_close(c, 3501, "bad request");
    expect_unsubscribe("#ada");
    struct client *d = client_connected();
    (void)snprintf(text, sizeof(text), "{\"id\":6,\"refresh\":{\"token\":\"%s\"}}",
                   token_of("ada", AUTH_GUEST_MS + 60000));
    client_say(d, text);
    expect_close(d, 3005, "connection expired");
}

static void a_token_that_ran_out_closes_3005_after_a_grace(void **state)
{
    (void)state;
    struct client *c = client_connected();
    session_only()->expires_ms = wall_now_ms() - 20000;
    engine_clock_skip(25000);
    expect_text(c, "{}");
    client_say(c, "{}");
    session_only()->expires_ms = wall_now_ms() - 26000;
    stage_idle();
    engine_clock_skip(10000);
    stage_idle();
    engine_clock_skip(15000);
    expect_close(c, 3005, "connection expired");
}

/* --- commands --------------------------------------------------------------------------------- */

static void an_rpc_is_a_command_of_this_user(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":7,\"rpc\":{\"method\":\"chat.send\",\"data\":{\"conv\":\"" CONV
                  "\",\"cid\":\"k1\",\"text\":\"Hi\"}}}");
    struct bus_command *m = take_command(CMD_CHAT_SEND);
    assert_true(bytes_is(name_bytes(&m->who.user), "ada"));
    assert_true(bytes_is(id_bytes(&m->who.app), "default"));
    assert_true(bytes_is(id_bytes(&m->args.conv), CONV));
    assert_true(bytes_is(blob_bytes(m->args.text), "Hi"));
    assert_int_equal(m->from.port, PORT_SESSION);
    expect_silence(c);
    say_answer(m, "{\"status\":\"accepted\"}");
    expect_text(c, "{\"id\":7,\"rpc\":{\"data\":{\"status\":\"accepted\"}}}");
    client_say(c, "{\"id\":8,\"rpc\":{\"method\":\"run.get\",\"data\":{\"run\":\"r_1\"}}}");
    m = take_command(CMD_RUN_GET);
    bus_answer_error(&m->from, 404, false, NULL, "no such run: \"r_1\"");
    msg_free(&m->msg);
    expect_text(c, "{\"id\":8,\"error\":{\"code\":404,\"message\":\"no such run: \\\"r_1\\\"\"}}");
    client_say(c, "{\"id\":9,\"rpc\":{\"method\":\"conv.list\"}}");
    m = take_command(CMD_CONV_LIST);
    bus_answer_error(&m->from, 503, true, NULL, "later");
    msg_free(&m->msg);
    expect_text(c, "{\"id\":9,\"error\":{\"code\":503,\"message\":\"later\",\"temporary\":true}}");
}

struct exchange {
    const char *said;
    const char *heard; /* NULL = closed with 3501 */
};

static void what_is_refused_at_the_door_is_answered_at_once(void **state)
{
    (void)state;
    static const struct exchange rows[] = {
        {"{\"id\":2,\"rpc\":{\"method\":\"nope\"}}",
         "{\"id\":2,\"error\":{\"code\":108,\"message\":\"no such command\"}}"},
        {"{\"id\":2,\"rpc\":{\"method\":\"guest.create\"}}", "{\"id\":2,\"error\":{\"code\":108,"},
        {"{\"id\":2,\"rpc\":{\"method\":\"conv.open\",\"data\":{}}}",
         "{\"id\":2,\"error\":{\"code\":107,\"message\":\"conv: is missing\"}}"},
        {"{\"id\":2,\"publish\":{\"channel\":\"conv:c\",\"data\":1}}",
         "{\"id\":2,\"error\":{\"code\":103,"},
        {"{\"id\":2,\"publish\":{\"channel\":\"news\",\"data\":1}}",
         "{\"id\":2,\"error\":{\"code\":102,\"message\":\"unknown channel\"}}"},
        {"{\"id\":2,\"presence\":{\"channel\":\"conv:c\"}}",
         "{\"id\":2,\"error\":{\"code\":108,\"message\":\"not available\"}}"},
        {"{\"id\":2,\"presence_stats\":{\"channel\":\"conv:c\"}}",
         "{\"id\":2,\"error\":{\"code\":108,"},
        {"{\"id\":2,\"sub_refresh\":{\"channel\":\"conv:c\",\"token\":\"t\"}}",
         "{\"id\":2,\"error\":{\"code\":103,"},
        {"{\"id\":2,\"history\":{\"channel\":\"news\"}}", "{\"id\":2,\"error\":{\"code\":102,"},
        {"{\"id\":2,\"history\":{\"channel\":\"#eve\"}}", "{\"id\":2,\"error\":{\"code\":103,"},
        {"{\"id\":2,\"history\":{\"channel\":\"#ada\"}}", "{\"id\":2,\"error\":{\"code\":108,"},
        {"{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}",
         "{\"id\":2,\"error\":{\"code\":102,\"message\":\"unknown channel\"}}"},
        {"{\"id\":2,\"subscribe\":{\"channel\":\"conv:\"}}", "{\"id\":2,\"error\":{\"code\":102,"},
        {"{\"id\":2,\"subscribe\":{\"channel\":\"conv:a b\"}}",
         "{\"id\":2,\"error\":{\"code\":102,"},
        {"{\"id\":2,\"subscribe\":{\"channel\":\"#eve\"}}",
         "{\"id\":2,\"error\":{\"code\":103,\"message\":\"permission denied\"}}"},
        {"{\"id\":2,\"subscribe\":{\"channel\":\"#ada\"}}",
         "{\"id\":2,\"error\":{\"code\":105,\"message\":\"already subscribed\"}}"},
        {"{\"id\":2,\"subscribe\":{\"channel\":\"conv:c\",\"type\":1}}",
         "{\"id\":2,\"error\":{\"code\":108,"},
        {"{\"id\":2,\"unsubscribe\":{\"channel\":\"conv:c\"}}", "{\"id\":2,\"unsubscribe\":{}}"},
        {"{\"id\":2,\"ping\":{}}", "{\"id\":2,\"ping\":{}}"},
    };
    struct client *c = client_connected();
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        client_say(c, rows[i].said);
        expect_part(c, rows[i].heard);
    }
    char text[400];
    (void)snprintf(text, sizeof(text), "{\"id\":2,\"subscribe\":{\"channel\":\"conv:%0256d\"}}", 0);
    client_say(c, text);
    expect_part(c, "{\"id\":2,\"error\":{\"code\":107,");
    expect_quiet();
    assert_int_equal(stage.sessions->subs.used_count, 1);
}

static void a_send_and_a_pong_have_no_answer(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"send\":{\"data\":1}}\n{}\n{\"id\":3,\"ping\":{}}");
    expect_text(c, "{\"id\":3,\"ping\":{}}");
    expect_quiet();
}

static void what_is_no_command_closes_3501(void **state)
{
    (void)state;
    static const char *const rows[] = {"{\"id\":2,\"dance\":{}}",
                                       "{\"id\":2}",
                                       "{\"id\":2",
                                       "[]",
                                       "",
                                       "\n",
                                       "{\"id\":2,\"subscribe\":{}}",
                                       "{\"id\":2,\"unsubscribe\":{}}"};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct client *c = client_connected();
        client_say(c, rows[i]);
        expect_close(c, 3501, "bad request");
        expect_unsubscribe("#ada");
        client_close(c);
        stage.clients_count--;
    }
}

static void history_is_asked_of_the_conversation(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":4,\"history\":{\"channel\":\"conv:" CONV "\",\"limit\":10,"
                  "\"reverse\":true,\"since\":{\"offset\":6,\"epoch\":\"e.g1\"}}}");
    struct bus_command *m = take_command(CMD_HISTORY);
    assert_true(bytes_is(id_bytes(&m->args.conv), CONV));
    assert_int_equal(m->args.limit, 10);
    assert_true(m->args.reverse && m->args.has_since);
    assert_int_equal(m->args.offset, 6);
    assert_true(bytes_is(blob_bytes(m->args.epoch), "e.g1"));
    say_answer(m, "{\"publications\":[],\"epoch\":\"e.g1\",\"offset\":6}");
    expect_text(c, "{\"id\":4,\"history\":{\"publications\":[],\"epoch\":\"e.g1\",\"offset\":6}}");
}

static int set_up_narrow(void **state)
{
    (void)state;
    stage_make("auth.guests=true", "limits.unanswered=3");
    return 0;
}

/* With three places: the first three commands go, the others wait, in this frame and the next. */
static void more_than_limits_unanswered_wait_and_go_on_in_order(void **state)
{
    (void)state;
    struct client *c = client_connected();
    struct bus_command *asked[6];
    char text[800];
    size_t at = 0;
    for (unsigned i = 0; i < 5; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at,
                               "{\"id\":%u,\"rpc\":{\"method\":\"run.get\",\"data\":{\"run\":"
                               "\"r_%u\"}}}\n\n",
                               10 + i, i);
    client_say(c, text);
    client_say(c, "{\"id\":15,\"rpc\":{\"method\":\"run.get\",\"data\":{\"run\":\"r_5\"}}}");
    for (unsigned i = 0; i < 3; i++)
        asked[i] = take_command(CMD_RUN_GET);
    expect_quiet();
    say_answer(asked[1], "{}");
    expect_text(c, "{\"id\":11,\"rpc\":{\"data\":{}}}");
    asked[3] = take_command(CMD_RUN_GET);
    assert_true(bytes_is(id_bytes(&asked[3]->args.run), "r_3"));
    expect_quiet();
    bus_answer_error(&asked[0]->from, 404, false, NULL, "no"); /* an error makes room, too */
    msg_free(&asked[0]->msg);
    expect_part(c, "{\"id\":10,\"error\"");
    asked[4] = take_command(CMD_RUN_GET);
    assert_true(bytes_is(id_bytes(&asked[4]->args.run), "r_4"));
    expect_quiet();
    say_answer(asked[2], "{}");
    expect_part(c, "{\"id\":12,");
    asked[5] = take_command(CMD_RUN_GET);
    assert_true(bytes_is(id_bytes(&asked[5]->args.run), "r_5"));
    for (unsigned i = 3; i < 6; i++) {
        say_answer(asked[i], "{}");
        (void)snprintf(text, sizeof(text), "{\"id\":%u,\"rpc\":{\"data\":{}}}", 10 + i);
        expect_text(c, text);
    }
    assert_int_equal(session_only()->unanswered, 0);
    assert_false(session_only()->paused);
}

/* A subscription takes a place, too, and gives it back whichever way it ends. */
static void every_end_of_a_subscription_makes_room(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:a\"}}\n"
                  "{\"id\":3,\"subscribe\":{\"channel\":\"conv:b\"}}\n"
                  "{\"id\":4,\"unsubscribe\":{\"channel\":\"conv:a\"}}\n"
                  "{\"id\":5,\"subscribe\":{\"channel\":\"conv:c\"}}\n"
                  "{\"id\":6,\"subscribe\":{\"channel\":\"conv:d\"}}\n"
                  "{\"id\":7,\"ping\":{}}");
    struct bus_subscribe *a = take_subscribe("conv:a");
    struct bus_subscribe *b = take_subscribe("conv:b");
    struct bus_subscribe *in_third_place = take_subscribe("conv:c");
    expect_text(c, DROPPED);
    expect_text(c, "{\"id\":4,\"unsubscribe\":{}}");
    struct bus_subscribe *d = take_subscribe("conv:d");
    expect_silence(c); /* three wait: the ping has to */
    say_unsubscribable(b, 103, false);
    expect_text(c, "{\"id\":3,\"error\":{\"code\":103,\"message\":\"permission denied\"}}");
    expect_text(c, "{\"id\":7,\"ping\":{}}");
    say_subscribed(in_third_place, 0);
    say_subscribed(d, 0);
    expect_part(c, "{\"id\":5,\"subscribe\"");
    expect_part(c, "{\"id\":6,\"subscribe\"");
    say_subscribed(a, 0);
    expect_unsubscribe("conv:a");
    assert_int_equal(session_only()->unanswered, 0);
}

static int set_up_hurried(void **state)
{
    (void)state;
    stage_make("limits.user_commands_burst=2", "limits.user_commands=1");
    return 0;
}

static void who_asks_too_fast_is_told_so(void **state)
{
    (void)state;
    struct client *c = client_open();
    say_connect(c, token_of("ada", 0));
    say_subscribed(take_subscribe("#ada"), 0);
    expect_part(c, "\"connect\"");
    client_say(c, "{\"id\":2,\"rpc\":{\"method\":\"conv.list\"}}\n"
                  "{\"id\":3,\"subscribe\":{\"channel\":\"conv:a\"}}\n"
                  "{\"id\":4,\"rpc\":{\"method\":\"conv.list\"}}\n"
                  "{\"id\":5,\"subscribe\":{\"channel\":\"conv:b\"}}\n"
                  "{\"id\":6,\"history\":{\"channel\":\"conv:b\"}}");
    for (unsigned id = 4; id < 7; id++) {
        char text[128];
        (void)snprintf(text, sizeof(text),
                       "{\"id\":%u,\"error\":{\"code\":111,\"message\":\"too many commands; ask "
                       "again in a moment\",\"temporary\":true}}",
                       id);
        expect_text(c, text);
    }
    say_answer(take_command(CMD_CONV_LIST), "{}");
    say_subscribed(take_subscribe("conv:a"), 0);
    expect_part(c, "{\"id\":2,");
    expect_part(c, "{\"id\":3,");
    engine_clock_skip(1100);
    client_say(c, "{\"id\":7,\"rpc\":{\"method\":\"conv.list\"}}");
    say_answer(take_command(CMD_CONV_LIST), "{}");
    expect_part(c, "{\"id\":7,\"rpc\"");
}

/* --- subscriptions ---------------------------------------------------------------------------- */

static void a_subscription_is_asked_for_and_answered(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\",\"recover\":true,"
                  "\"offset\":5,\"epoch\":\"old\",\"flag\":2}}");
    struct bus_subscribe *s = take_subscribe("conv:" CONV);
    assert_true(s->recover && s->reject_unrecoverable);
    assert_int_equal(s->offset, 5);
    assert_true(bytes_is(bytes_make(s->epoch, s->epoch_count), "old"));
    assert_true(bytes_is(name_bytes(&s->who.user), "ada"));
    struct bus_subscribed *a = subscribed_new(s, 9);
    a->was_recovering = true;
    a->data = blob_copy(bytes_of("{\"as_of\":9}"));
    engine_post(stage.engine, &a->msg);
    msg_free(&s->msg);
    expect_text(c, "{\"id\":2,\"subscribe\":{\"recoverable\":true,\"positioned\":true,\"epoch\":"
                   "\"e.g1\",\"offset\":9,\"was_recovering\":true,\"data\":{\"as_of\":9}}}");
    client_say(c, "{\"id\":3,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}");
    expect_part(c, "{\"id\":3,\"error\":{\"code\":105,");
}

static void an_epoch_that_is_too_long_matches_nothing(void **state)
{
    (void)state;
    struct client *c = client_connected();
    char text[400];
    (void)snprintf(text, sizeof(text),
                   "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\",\"recover\":true,"
                   "\"epoch\":\"%0100d\"}}",
                   7);
    client_say(c, text);
    struct bus_subscribe *s = take_subscribe("conv:" CONV);
    assert_true(bytes_is(bytes_make(s->epoch, s->epoch_count), "_"));
    say_subscribed(s, 0);
    expect_part(c, "{\"id\":2,\"subscribe\"");
}

static void a_refused_subscription_is_gone_and_may_be_asked_for_again(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}");
    say_unsubscribable(take_subscribe("conv:" CONV), 112, true);
    expect_text(c, "{\"id\":2,\"error\":{\"code\":112,\"message\":\"permission denied\","
                   "\"temporary\":true}}");
    publish(key_of_conv(CONV), 1, "1", false);
    expect_silence(c);
    client_subscribe(c, 3, CONV, 0);
    expect_quiet(); /* what was never counted is not taken back */
}

/* The answer's memory is out in the very turn that also ends the session. */
static void a_refusal_that_cannot_be_said_ends_the_session_once(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}");
    struct bus_subscribe *s = take_subscribe("conv:" CONV);
    struct bus_subscribed *a = subscribed_new(s, 0);
    a->code = 103;
    a->message = "permission denied";
    mem_fail_at(1);
    hub_subscribed(stage.sessions, a);
    mem_fail_at(0);
    msg_free(&a->msg);
    msg_free(&s->msg);
    expect_close(c, 3004, "internal server error");
    assert_int_equal(stage.sessions->subs.used_count, 0);
    expect_unsubscribe("#ada");
    expect_quiet();
}

static int set_up_two_channels(void **state)
{
    (void)state;
    stage_make("auth.guests=true", "limits.channels=2");
    return 0;
}

static void limits_channels_counts_the_inbox_and_forgets_what_was_dropped(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_subscribe(c, 2, "a", 0);
    client_say(c, "{\"id\":3,\"subscribe\":{\"channel\":\"conv:b\"}}");
    expect_part(c, "{\"id\":3,\"error\":{\"code\":106,");
    client_say(c, "{\"id\":4,\"unsubscribe\":{\"channel\":\"conv:a\"}}");
    expect_text(c, "{\"id\":4,\"unsubscribe\":{}}");
    expect_unsubscribe("conv:a");
    client_subscribe(c, 5, "b", 0);
}

static void one_dropped_before_its_answer_is_taken_back_when_it_comes(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}\n"
                  "{\"id\":3,\"unsubscribe\":{\"channel\":\"conv:" CONV "\"}}");
    struct bus_subscribe *s = take_subscribe("conv:" CONV);
    expect_text(c, DROPPED);
    expect_text(c, "{\"id\":3,\"unsubscribe\":{}}");
    expect_quiet();
    say_subscribed(s, 0);
    expect_unsubscribe("conv:" CONV);
    expect_silence(c);
    /* Refused, there is nothing to take back. */
    client_say(c, "{\"id\":4,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}\n"
                  "{\"id\":5,\"unsubscribe\":{\"channel\":\"conv:" CONV "\"}}");
    s = take_subscribe("conv:" CONV);
    expect_part(c, "{\"id\":4,\"error\":{\"code\":100,");
    expect_text(c, "{\"id\":5,\"unsubscribe\":{}}");
    say_unsubscribable(s, 103, false);
    expect_quiet();
    expect_silence(c);
}

/* Its answer must not become that of the second one, whose slot may be the same. */
static void an_answer_finds_the_subscription_it_was_asked_for(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}\n"
                  "{\"id\":3,\"unsubscribe\":{\"channel\":\"conv:" CONV "\"}}\n"
                  "{\"id\":4,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}");
    struct bus_subscribe *first = take_subscribe("conv:" CONV);
    struct bus_subscribe *second = take_subscribe("conv:" CONV);
    expect_text(c, DROPPED);
    expect_text(c, "{\"id\":3,\"unsubscribe\":{}}");
    say_subscribed(first, 1);
    expect_unsubscribe("conv:" CONV);
    expect_silence(c);
    say_subscribed(second, 2);
    expect_part(c, "{\"id\":4,\"subscribe\":{\"recoverable\":true,\"positioned\":true,\"epoch\":"
                   "\"e.g1\",\"offset\":2}}");
}

static void a_session_that_goes_before_the_answers_leaves_nothing(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}\n"
                  "{\"id\":3,\"rpc\":{\"method\":\"conv.list\"}}\n"
                  "{\"id\":4,\"history\":{\"channel\":\"conv:" CONV "\"}}");
    struct bus_subscribe *s = take_subscribe("conv:" CONV);
    struct bus_command *list = take_command(CMD_CONV_LIST);
    struct bus_command *history = take_command(CMD_HISTORY);
    client_close(c);
    UNTIL(stage.sessions->slots.used_count == 0);
    expect_unsubscribe("#ada");
    /* The next one has the same slot: it must not hear any of it. */
    struct client *d = client_connected();
    struct bus_subscribed *a = subscribed_new(s, 0);
    a->data = blob_copy(bytes_of("{}"));
    a->publications = blob_copy(bytes_of("{}"));
    engine_post(stage.engine, &a->msg);
    msg_free(&s->msg);
    say_answer(list, "{}");
    say_answer(history, "{}");
    expect_unsubscribe("conv:" CONV);
    expect_silence(d);
    assert_int_equal(session_only()->unanswered, 0);
}

static void the_last_one_to_go_takes_the_channel_along(void **state)
{
    (void)state;
    struct client *c = client_connected();
    struct client *d = client_connected();
    client_subscribe(c, 2, CONV, 0);
    client_subscribe(d, 2, CONV, 0);
    assert_int_equal(stage.sessions->channels.used_count, 2);
    client_close(c);
    expect_unsubscribe("#ada");
    expect_unsubscribe("conv:" CONV);
    publish(key_of_conv(CONV), 1, "1", false);
    expect_part(d, "\"offset\":1");
    client_close(d);
    expect_unsubscribe("#ada");
    expect_unsubscribe("conv:" CONV);
    assert_int_equal(stage.sessions->channels.used_count, 0);
}

/* --- publications ----------------------------------------------------------------------------- */

static void publications_come_once_to_each_subscriber_and_in_order(void **state)
{
    (void)state;
    struct client *c = client_connected();
    struct client *d = client_connected();
    struct client *other = client_connected();
    client_subscribe(c, 2, CONV, 0);
    client_subscribe(d, 2, CONV, 2);
    client_subscribe(other, 2, "c_2", 0);
    publish(key_of_conv(CONV), 1, "{\"n\":1}", false);
    publish(key_of_conv(CONV), 2, "{\"n\":2}", false);
    publish(key_of_conv(CONV), 0, "{\"e\":1}", true);
    publish(key_of_conv(CONV), 2, "{\"n\":2}", false);
    publish(key_of_conv(CONV), 1, "{\"n\":1}", false);
    publish(key_of_conv(CONV), 3, "{\"n\":3}", false);
    /* The first of all carries the epoch: who subscribed to an empty log learns it so. */
    expect_text(c, "{\"push\":{\"channel\":\"conv:" CONV "\",\"pub\":{\"data\":{\"n\":1},"
                   "\"offset\":1,\"epoch\":\"e.g1\"}}}");
    expect_text(c, "{\"push\":{\"channel\":\"conv:" CONV "\",\"pub\":{\"data\":{\"n\":2},"
                   "\"offset\":2}}}");
    for (int i = 0; i < 2; i++) {
        struct client *one = i == 0 ? c : d;
        expect_text(one, "{\"push\":{\"channel\":\"conv:" CONV "\",\"pub\":{\"data\":{\"e\":1}}}}");
        expect_text(one, "{\"push\":{\"channel\":\"conv:" CONV "\",\"pub\":{\"data\":{\"n\":3},"
                         "\"offset\":3}}}");
        expect_silence(one);
    }
    expect_silence(other);
}

static void nothing_is_published_before_the_answer(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}");
    struct bus_subscribe *s = take_subscribe("conv:" CONV);
    publish(key_of_conv(CONV), 1, "1", false);
    publish(key_of_conv(CONV), 0, "2", false);
    expect_silence(c);
    say_subscribed(s, 1);
    publish(key_of_conv(CONV), 2, "3", false);
    expect_part(c, "{\"id\":2,\"subscribe\"");
    expect_part(c, "{\"data\":3,\"offset\":2}");
}

static void recovered_publications_move_the_position(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\",\"recover\":true,"
                  "\"offset\":5}}");
    struct bus_subscribe *s = take_subscribe("conv:" CONV);
    struct bus_subscribed *a = subscribed_new(s, 5);
    a->recovered = true;
    a->publications = blob_copy(bytes_of("{\"data\":6,\"offset\":6},{\"data\":7,\"offset\":7}"));
    a->publications_count = 2;
    engine_post(stage.engine, &a->msg);
    msg_free(&s->msg);
    expect_part(c, "\"publications\":[{\"data\":6,\"offset\":6},{\"data\":7,\"offset\":7}]");
    publish(key_of_conv(CONV), 7, "7", false);
    publish(key_of_conv(CONV), 8, "8", false);
    expect_part(c, "{\"data\":8,\"offset\":8}");
}

static void a_gap_ends_the_subscription_with_2500(void **state)
{
    (void)state;
    struct client *c = client_connected();
    struct client *d = client_connected();
    client_subscribe(c, 2, CONV, 3);
    client_subscribe(d, 2, CONV, 4);
    publish(key_of_conv(CONV), 5, "5", false);
    expect_text(c, "{\"push\":{\"channel\":\"conv:" CONV "\",\"unsubscribe\":{\"code\":2500,"
                   "\"reason\":\"insufficient state\"}}}");
    expect_unsubscribe("conv:" CONV);
    expect_part(d, "{\"data\":5,\"offset\":5}"); /* who missed nothing goes on */
    publish(key_of_conv(CONV), 6, "6", false);
    expect_part(d, "{\"data\":6,\"offset\":6}");
    expect_silence(c);
    client_subscribe(c, 3, CONV, 6);
    publish(key_of_conv(CONV), 8, "8", false); /* both, and the channel goes with the last */
    expect_part(c, "\"code\":2500");
    expect_part(d, "\"code\":2500");
    expect_unsubscribe("conv:" CONV);
    expect_unsubscribe("conv:" CONV);
    assert_int_equal(stage.sessions->channels.used_count, 1);
}

static void a_gap_in_the_inbox_closes_3010(void **state)
{
    (void)state;
    struct client *c = client_connected();
    struct client *d = client_connected();
    publish(key_of_inbox("ada"), 5, "5", false);
    expect_part(c, "{\"push\":{\"channel\":\"#ada\",\"pub\":{\"data\":5,\"offset\":5}}}");
    expect_part(d, "\"offset\":5");
    publish(key_of_inbox("ada"), 7, "7", false);
    expect_close(c, 3010, "insufficient state");
    expect_close(d, 3010, "insufficient state");
    expect_unsubscribe("#ada");
    expect_unsubscribe("#ada");
}

static void a_kick_ends_what_is_live_and_is_not_told_back(void **state)
{
    (void)state;
    struct client *c = client_connected();
    struct client *d = client_connected();
    client_subscribe(c, 2, CONV, 0);
    client_say(d, "{\"id\":2,\"subscribe\":{\"channel\":\"conv:" CONV "\"}}");
    struct bus_subscribe *asked = take_subscribe("conv:" CONV);
    struct bus_kick *k = BUS_NEW(KICK, bus_kick, PORT_SESSION);
    k->key = key_of_conv(CONV);
    k->code = 2000;
    k->reason = "conversation deleted";
    engine_post(stage.engine, &k->msg);
    expect_text(c, "{\"push\":{\"channel\":\"conv:" CONV "\",\"unsubscribe\":{\"code\":2000,"
                   "\"reason\":\"conversation deleted\"}}}");
    expect_quiet();
    expect_silence(d); /* its question is on the way and is answered for itself */
    say_unsubscribable(asked, 102, false);
    expect_part(d, "{\"id\":2,\"error\":{\"code\":102,");
    publish(key_of_conv(CONV), 1, "1", false);
    expect_silence(c);
}

static void a_kick_of_one_user_leaves_the_others(void **state)
{
    (void)state;
    struct client *c = client_connected();
    struct client *d = client_open();
    say_connect(d, token_of("eve", 0));
    say_subscribed(take_subscribe("#eve"), 0);
    expect_part(d, "\"connect\"");
    client_subscribe(c, 2, CONV, 0);
    client_subscribe(d, 2, CONV, 0);
    struct bus_kick *k = BUS_NEW(KICK, bus_kick, PORT_SESSION);
    k->key = key_of_conv(CONV);
    k->user = key_of_inbox("eve").user;
    k->code = 2000;
    k->reason = "removed";
    engine_post(stage.engine, &k->msg);
    publish(key_of_conv(CONV), 1, "1", false);
    expect_part(d, "\"unsubscribe\":{\"code\":2000,\"reason\":\"removed\"}");
    expect_part(c, "{\"data\":1,\"offset\":1,");
    expect_silence(d);
}

static int set_up_shallow(void **state)
{
    (void)state;
    int bytes = 4096;
    stage_make("limits.send_ephemeral=8192", "limits.send=65536");
    /* Accepted sockets have it, too: output blocks early. */
    return setsockopt(stage.listen_fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

/* Fills the queue of a client that does not read with things that may not be left out. */
static uint64_t fill(size_t bytes)
{
    char data[4000];
    memset(data, '7', sizeof(data) - 1);
    data[sizeof(data) - 1] = '\0';
    uint64_t offset = 0;
    while (net_queued_bytes(stage.net, session_only()->conn) <= bytes) {
        assert_true(offset < 1000);
        offset++;
        publish(key_of_conv(CONV), offset, data, false);
        engine_step(stage.engine, 0);
    }
    return offset;
}

static void deltas_are_left_out_for_who_does_not_read_and_nothing_else_is(void **state)
{
    (void)state;
    struct client *c = client_open_narrow(4096);
    say_connect(c, token_of("ada", 0));
    say_subscribed(take_subscribe("#ada"), 0);
    expect_part(c, "\"connect\"");
    client_subscribe(c, 2, CONV, 0);
    publish(key_of_conv(CONV), 0, "\"first\"", true);
    expect_part(c, "first");
    uint64_t last = fill(8192);
    uint64_t dropped = diag_counter_sum(DIAG_C_deltas_dropped);
    publish(key_of_conv(CONV), 0, "\"delta\"", true);
    publish(key_of_conv(CONV), 0, "\"state\"", false);
    publish(key_of_conv(CONV), last + 1, "\"durable\"", false);
    stage_idle();
    assert_int_equal(diag_counter_sum(DIAG_C_deltas_dropped), dropped + 1);
    for (uint64_t i = 1; i <= last; i++)
        expect_part(c, "{\"data\":777");
    expect_part(c, "{\"data\":\"state\"}");
    expect_part(c, "{\"data\":\"durable\"");
    publish(key_of_conv(CONV), 0, "\"again\"", true); /* it reads again: deltas come again */
    expect_part(c, "{\"data\":\"again\"}");
}

static void who_does_not_read_at_all_is_cut_off_and_counted(void **state)
{
    (void)state;
    struct client *c = client_open_narrow(4096);
    say_connect(c, token_of("ada", 0));
    say_subscribed(take_subscribe("#ada"), 0);
    expect_part(c, "\"connect\"");
    client_subscribe(c, 2, CONV, 0);
    uint64_t slow = diag_counter_sum(DIAG_C_session_slow);
    uint64_t last = fill(50000);
    for (uint64_t i = 1; i < 10 && stage.sessions->slots.used_count > 0; i++) {
        char data[4000] = {0};
        memset(data, '7', sizeof(data) - 1);
        publish(key_of_conv(CONV), last + i, data, false);
        engine_step(stage.engine, 0);
    }
    UNTIL(stage.sessions->slots.used_count == 0);
    assert_int_equal(diag_counter_sum(DIAG_C_session_slow), slow + 1);
    expect_unsubscribe("#ada");
    expect_unsubscribe("conv:" CONV);
}

/* --- frames ----------------------------------------------------------------------------------- */

static void a_message_in_any_pieces_is_the_same_message(void **state)
{
    (void)state;
    static const char text[] =
        "{\"id\":2,\"rpc\":{\"method\":\"run.get\",\"data\":{\"run\":\"r_\"}}}"
        "\n{\"id\":3,\"ping\":{}}";
    struct client *c = client_connected();
    uint8_t frame[256];
    size_t count = frame_make(frame, 0x80 | WS_TEXT, bytes_of(text));
    for (size_t cut = 1; cut < count; cut++) { /* one frame in two reads */
        client_bytes(c, frame, cut);
        stage_idle();
        client_bytes(c, frame + cut, count - cut);
        say_answer(take_command(CMD_RUN_GET), "{}");
        expect_text(c, "{\"id\":3,\"ping\":{}}");
        expect_text(c, "{\"id\":2,\"rpc\":{\"data\":{}}}");
    }
    for (size_t cut = 0; cut <= sizeof(text) - 1; cut++) { /* one message in two frames */
        client_frame(c, WS_TEXT, bytes_make(text, cut));
        client_frame(c, 0x80 | WS_CONTINUATION, bytes_make(text + cut, sizeof(text) - 1 - cut));
        say_answer(take_command(CMD_RUN_GET), "{}");
        expect_text(c, "{\"id\":3,\"ping\":{}}");
        expect_text(c, "{\"id\":2,\"rpc\":{\"data\":{}}}");
    }
    assert_null(session_only()->partial.at); /* between messages it owns no buffer */
}

static void a_ping_between_the_pieces_is_answered_at_once(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_frame(c, WS_TEXT, bytes_of("{\"id\":2,"));
    client_frame(c, 0x80 | WS_PING, bytes_of("mark"));
    assert_int_equal(client_take(c), WS_PONG);
    assert_string_equal(c->text, "mark");
    client_frame(c, 0x80 | WS_PONG, bytes_of("what nobody asked for"));
    client_frame(c, WS_CONTINUATION, bytes_of("\"pi"));
    client_frame(c, 0x80 | WS_PING, bytes_of(""));
    assert_int_equal(client_take(c), WS_PONG);
    client_frame(c, 0x80 | WS_CONTINUATION, bytes_of("ng\":{}}"));
    expect_text(c, "{\"id\":2,\"ping\":{}}");
}

static void a_broken_frame_ends_the_session_with_its_code(void **state)
{
    (void)state;
    static const uint8_t unmasked[] = {0x81, 0x02, '{', '}'};
    static const uint8_t too_long[] = {0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 1, 2, 3, 4};
    struct client *c = client_connected();
    client_bytes(c, unmasked, sizeof(unmasked));
    expect_close(c, 1002, "protocol error");
    expect_unsubscribe("#ada");
    c = client_connected();
    client_bytes(c, too_long, sizeof(too_long));
    expect_close(c, 1009, "message too big");
    expect_unsubscribe("#ada");
    c = client_connected();
    client_frame(c, 0x80 | WS_TEXT, bytes_of("{\"id\":\xff}"));
    expect_close(c, 1007, "protocol error");
    expect_unsubscribe("#ada");
}

static void a_goodbye_is_answered_with_its_own_code(void **state)
{
    (void)state;
    struct client *c = client_connected();
    client_say(c, "{\"id\":2,\"ping\":{}}");
    client_frame(c, 0x80 | WS_CLOSE, bytes_make("\x0f\xa1 bye", 6)); /* 4001 */
    expect_text(c, "{\"id\":2,\"ping\":{}}");
    expect_close(c, 4001, "");
    expect_unsubscribe("#ada");
    struct client *d = client_connected();
    client_frame(d, 0x80 | WS_CLOSE, bytes_of(""));
    expect_close(d, 1000, "");
}

/* The beginning of a message for which there was no memory: its end must not be taken for a whole
 * one. */
static void a_piece_that_was_lost_ends_the_session(void **state)
{
    (void)state;
    struct client *c = client_connected();
    struct session *s = session_only();
    buf_fini(&s->partial);
    buf_init(&s->partial, 1024);
    client_frame(c, WS_TEXT, bytes_of("{\"id\":2,\"rpc\":{\"method\":\"conv.list\"}}\n"));
    mem_fail_at(1);
    UNTIL(s->partial.failed || s->partial.count > 0);
    mem_fail_at(0);
    if (!s->partial.failed)
        fail_msg("another allocation failed");
    client_frame(c, 0x80 | WS_CONTINUATION, bytes_of("{\"id\":3,\"ping\":{}}"));
    expect_close(c, 3004, "internal server error");
}

/* --- time ------------------------------------------------------------------------------------- */

static void pings_go_out_and_any_sign_of_life_is_a_pong(void **state)
{
    (void)state;
    struct client *c = client_connected();
    engine_clock_skip(12000); /* the first one comes between half the time and the whole */
    expect_silence(c);
    engine_clock_skip(13500);
    expect_text(c, "{}");
    client_say(c, "{\"id\":2,\"ping\":{}}");
    expect_text(c, "{\"id\":2,\"ping\":{}}");
    for (int i = 0; i < 3; i++) {
        engine_clock_skip(10001);
        expect_silence(c);
        engine_clock_skip(15001);
        expect_text(c, "{}");
        client_say(c, "{}");
        stage_idle();
    }
}

static void no_pong_in_time_closes_3012(void **state)
{
    (void)state;
    struct client *c = client_connected();
    engine_clock_skip(25001);
    expect_text(c, "{}");
    engine_clock_skip(9000);
    expect_silence(c);
    uint64_t before = diag_counter_sum(DIAG_C_session_no_pong);
    engine_clock_skip(1500);
    expect_close(c, 3012, "no pong");
    assert_int_equal(diag_counter_sum(DIAG_C_session_no_pong), before + 1);
    expect_unsubscribe("#ada");
}

/* We do not read while its commands wait for answers: a pong that lies unread is not late. */
static void who_is_not_read_is_not_blamed_for_silence(void **state)
{
    (void)state;
    struct client *c = client_connected();
    struct bus_command *asked[3];
    for (unsigned i = 0; i < 3; i++) {
        client_say(c, "{\"id\":2,\"rpc\":{\"method\":\"conv.list\"}}");
        asked[i] = take_command(CMD_CONV_LIST);
    }
    assert_true(session_only()->paused);
    engine_clock_skip(25001);
    expect_text(c, "{}");
    client_say(c, "{}");
    stage_idle();
    engine_clock_skip(10500);
    expect_silence(c);
    for (unsigned i = 0; i < 3; i++) {
        say_answer(asked[i], "{}");
        expect_text(c, "{\"id\":2,\"rpc\":{\"data\":{}}}");
    }
    engine_clock_skip(15001);
    expect_text(c, "{}"); /* and it is asked again in its time */
    engine_clock_skip(10500);
    expect_close(c, 3012, "no pong");
}

static void a_drain_closes_everybody_with_3001_and_lets_nobody_in(void **state)
{
    (void)state;
    enum { COUNT = 4 };
    struct client *all[COUNT];
    for (int i = 0; i < COUNT; i++)
        all[i] = client_connected();
    client_say(all[1], "{\"id\":2,\"rpc\":{\"method\":\"conv.list\"}}");
    struct bus_command *m = take_command(CMD_CONV_LIST);
    struct bus_drain *d = BUS_NEW(DRAIN, bus_drain, PORT_SESSION);
    engine_post(stage.engine, &d->msg);
    stage_idle();
    assert_true(diag_gauge_sum(DIAG_G_sessions) > 0); /* spread over a second */
    for (int i = 0; i < COUNT; i++) {
        engine_clock_skip(20);
        stage_idle();
    }
    for (int i = 0; i < COUNT; i++) {
        expect_close(all[i], 3001, "shutdown");
        expect_unsubscribe("#ada");
    }
    assert_int_equal(diag_gauge_sum(DIAG_G_sessions), 0);
    say_answer(m, "{}"); /* nobody is there any more */
    struct client *late = client_open();
    client_read(late);
    UNTIL((client_read(late), late->ended));
    assert_int_equal(stage.opened, COUNT + 1);
}

/* In the middle of a drain. Whoever is freed after it clears timers of its own. */
static void freeing_the_room_with_people_in_it_leaves_nothing_behind(void **state)
{
    (void)state;
    (void)client_open();
    struct client *c = client_connected();
    client_subscribe(c, 2, CONV, 0);
    client_say(c, "{\"id\":3,\"subscribe\":{\"channel\":\"conv:c_2\"}}");
    msg_free(&take_subscribe("conv:c_2")->msg);
    client_frame(c, WS_TEXT, bytes_of("{\"id\":4,"));
    struct bus_drain *d = BUS_NEW(DRAIN, bus_drain, PORT_SESSION);
    engine_post(stage.engine, &d->msg);
    stage_idle();
    assert_true(timer_is_set(&stage.sessions->drain_timer));
    assert_int_equal(stage.sessions->slots.used_count, 1); /* the first has left */
    sessions_free(&stage.sessions);
    assert_null(stage.sessions);
    sessions_free(&stage.sessions);
    net_free(&stage.net);
    DIAG_GAUGE_BY(sessions, -1); /* they count what lives, and nobody was told to end */
    DIAG_GAUGE_BY(subscriptions, -3);
    stage.net = net_make(stage.engine, stage.config);
    stage.sessions = sessions_make(stage.engine, stage.net, stage.auth, stage.desk, stage.config);
}

/* --- states ----------------------------------------------------------------------------------- */

static void every_state_may_go_to_gone_and_none_comes_back(void **state)
{
    (void)state;
    static const uint32_t moves[] = {
#define NEXT(name, help, next) (next),
        SESSION_STATES(NEXT)
#undef NEXT
    };
    assert_int_equal(ARRAY_COUNT(moves), SESSION_GONE + 1);
    assert_int_equal(moves[SESSION_GONE], 0);
    for (unsigned from = 0; from < SESSION_GONE; from++) {
        assert_true((moves[from] & SS(GONE)) != 0);
        assert_int_equal(moves[from] & ((1u << from) | ((1u << from) - 1)), 0); /* only forward */
        assert_int_equal(moves[from] >> ARRAY_COUNT(moves), 0);
    }
}

/* A terminal code without a reason would bring the client back at once. */
static void every_end_has_a_reason_that_is_no_json(void **state)
{
    (void)state;
    static const char *const reasons[] = {
#define REASON(name, code, reason, counter) reason,
        SESSION_ENDS(REASON)
#undef REASON
    };
    for (size_t i = 0; i < ARRAY_COUNT(reasons); i++) {
        assert_in_range(strlen(reasons[i]), 1, 123);
        assert_true(reasons[i][0] >= 'a' && reasons[i][0] <= 'z');
    }
}

#define PLAY(test)            cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define PLAY_ON(set_up, test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAY(a_guest_gets_a_name_a_token_and_its_inbox),
        PLAY(a_token_names_user_and_display_name),
        PLAY(connect_recovers_the_inbox_from_the_place_it_names),
        PLAY(what_is_sent_behind_connect_waits_for_the_inbox_and_runs_in_order),
        PLAY(a_command_before_connect_closes_3501),
        PLAY(a_second_connect_closes_3501),
        PLAY(an_invalid_token_closes_3500),
        PLAY(a_refused_connect_throws_away_what_follows_and_is_closed_after_a_while),
        PLAY(an_inbox_that_cannot_be_had_refuses_connect),
        PLAY_ON(set_up_no_guests, without_guests_a_missing_token_closes_3501),
        PLAY_ON(set_up_insecure, insecure_is_everybody_and_has_no_inbox),
        PLAY(no_connect_in_time_closes_3502),
        PLAY(refresh_takes_a_new_token_of_the_same_user),
        PLAY(refresh_with_nothing_or_an_old_token_closes),
        PLAY(a_token_that_ran_out_closes_3005_after_a_grace),
        PLAY(an_rpc_is_a_command_of_this_user),
        PLAY(what_is_refused_at_the_door_is_answered_at_once),
        PLAY(a_send_and_a_pong_have_no_answer),
        PLAY(what_is_no_command_closes_3501),
        PLAY(history_is_asked_of_the_conversation),
        PLAY_ON(set_up_narrow, more_than_limits_unanswered_wait_and_go_on_in_order),
        PLAY_ON(set_up_narrow, every_end_of_a_subscription_makes_room),
        PLAY_ON(set_up_hurried, who_asks_too_fast_is_told_so),
        PLAY(a_subscription_is_asked_for_and_answered),
        PLAY(an_epoch_that_is_too_long_matches_nothing),
        PLAY(a_refused_subscription_is_gone_and_may_be_asked_for_again),
        PLAY(a_refusal_that_cannot_be_said_ends_the_session_once),
        PLAY_ON(set_up_two_channels, limits_channels_counts_the_inbox_and_forgets_what_was_dropped),
        PLAY(one_dropped_before_its_answer_is_taken_back_when_it_comes),
        PLAY(an_answer_finds_the_subscription_it_was_asked_for),
        PLAY(a_session_that_goes_before_the_answers_leaves_nothing),
        PLAY(the_last_one_to_go_takes_the_channel_along),
        PLAY(publications_come_once_to_each_subscriber_and_in_order),
        PLAY(nothing_is_published_before_the_answer),
        PLAY(recovered_publications_move_the_position),
        PLAY(a_gap_ends_the_subscription_with_2500),
        PLAY(a_gap_in_the_inbox_closes_3010),
        PLAY(a_kick_ends_what_is_live_and_is_not_told_back),
        PLAY(a_kick_of_one_user_leaves_the_others),
        PLAY_ON(set_up_shallow, deltas_are_left_out_for_who_does_not_read_and_nothing_else_is),
        PLAY_ON(set_up_shallow, who_does_not_read_at_all_is_cut_off_and_counted),
        PLAY(a_message_in_any_pieces_is_the_same_message),
        PLAY(a_ping_between_the_pieces_is_answered_at_once),
        PLAY(a_broken_frame_ends_the_session_with_its_code),
        PLAY(a_goodbye_is_answered_with_its_own_code),
        PLAY(a_piece_that_was_lost_ends_the_session),
        PLAY(pings_go_out_and_any_sign_of_life_is_a_pong),
        PLAY(no_pong_in_time_closes_3012),
        PLAY_ON(set_up_narrow, who_is_not_read_is_not_blamed_for_silence),
        PLAY(a_drain_closes_everybody_with_3001_and_lets_nobody_in),
        PLAY(freeing_the_room_with_people_in_it_leaves_nothing_behind),
        cmocka_unit_test(every_state_may_go_to_gone_and_none_comes_back),
        cmocka_unit_test(every_end_has_a_reason_that_is_no_json),
    };
    diag_clock_set(wall_now_ms);
    diag_init("error");
    diag_thread_init("test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
