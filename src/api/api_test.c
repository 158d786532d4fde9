/* The doors (conn.c, routes.c) through real sockets: a real engine on one side of the room, and
 * this test in the place of talk on the other. */
#include "api/api_stage_priv.h"

#define UPGRADE                                                                  \
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

/* --- health ----------------------------------------------------------------------------------- */

static void healthz_is_ok_as_long_as_it_answers(void **state)
{
    (void)state;
    struct client *c = client_open();
    diag_condition_set(DIAG_COND_STORE, "disk_full", "The disk is full.");
    assert_int_equal(get(c, "/healthz", ""), 200);
    assert_string_equal(c->body, "ok\n");
    expect_header(c, "Cache-Control", "no-store");
    diag_condition_set(DIAG_COND_STORE, NULL, NULL);
}

static void readyz_names_what_is_missing(void **state)
{
    (void)state;
    struct client *c = client_open();
    assert_int_equal(get(c, "/readyz", ""), 200);
    assert_string_equal(c->body, "{\"ready\":true}");
    diag_condition_set(DIAG_COND_MODEL, "loading", "The model \"m\" is loading.");
    assert_int_equal(get(c, "/readyz?verbose", ""), 503);
    assert_string_equal(c->body, "{\"ready\":false,\"reason\":\"loading\",\"message\":"
                                 "\"The model \\\"m\\\" is loading.\"}");
    expect_header(c, "Content-Type", "application/json");
    expect_header(c, "Cache-Control", "no-store");
    diag_condition_set(DIAG_COND_MODEL, NULL, NULL);
    assert_int_equal(get(c, "/readyz", ""), 200);
}

static void metrics_are_prometheus_text(void **state)
{
    (void)state;
    struct client *c = client_open();
    assert_int_equal(get(c, "/metrics", ""), 200);
    expect_header(c, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    expect_body(c, "# TYPE kith_http_requests_total counter\n");
    expect_body(c, "\nkith_connections 1\n");
}

static void a_build_without_a_page_says_so_at_the_root_only(void **state)
{
    (void)state;
    struct client *c = client_open();
    assert_int_equal(get(c, "/", ""), 200);
    expect_header(c, "Content-Type", "text/html; charset=utf-8");
    expect_header(c, "X-Content-Type-Options", "nosniff");
    expect_header(c, "Content-Security-Policy", "default-src 'none'");
    expect_body(c, "kith is running");
    assert_int_equal(get(c, "/index.html", ""), 404);
    assert_string_equal(c->body, "{\"error\":{\"code\":404,\"message\":\"nothing is here\"}}");
    assert_int_equal(get(c, "/healthz/", ""), 404);
    assert_int_equal(get(c, "/../etc/passwd", ""), 404);
}

/* --- methods ---------------------------------------------------------------------------------- */

struct method {
    const char *method;
    const char *path;
    const char *allow;
};

static void a_wrong_method_is_405_and_told_the_right_ones(void **state)
{
    (void)state;
    static const struct method rows[] = {
        {"POST", "/healthz", "GET, HEAD"},
        {"DELETE", "/readyz", "GET, HEAD"},
        {"PUT", "/metrics", "GET, HEAD"},
        {"POST", "/connection/websocket", "GET, HEAD"},
        {"POST", "/", "GET, HEAD"},
        {"OPTIONS", "*", "GET, HEAD"},
        {"get", "/healthz", "GET, HEAD"},
        {"GET", "/kith/v1/conv.list", "POST"},
        {"HEAD", "/kith/v1/conv.list", "POST"},
        {"DELETE", "/kith/v1/nope", "POST"},
    };
    struct client *c = client_open();
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char text[256];
        (void)snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\n" STAGE_HOST "\r\n", rows[i].method,
                       rows[i].path);
        client_say(c, text);
        assert_int_equal(hear(c, strcmp(rows[i].method, "HEAD") != 0), 405);
        expect_header(c, "Allow", rows[i].allow);
    }
    /* With a body behind it the line ends: the body is nobody's. */
    client_say(c, "POST /healthz HTTP/1.1\r\n" STAGE_HOST "Content-Length: 4\r\n\r\nGET ");
    expect_status(c, 405);
    expect_header(c, "Connection", "close");
    expect_end(c);
}

static void a_head_has_the_length_and_no_body(void **state)
{
    (void)state;
    struct client *c = client_open();
    client_say(c, "HEAD /healthz HTTP/1.1\r\n" STAGE_HOST "\r\n");
    assert_int_equal(hear(c, false), 200);
    expect_header(c, "Content-Length", "3");
    expect_silence(c);
    client_say(c, "HEAD /nothing HTTP/1.1\r\n" STAGE_HOST "\r\n");
    assert_int_equal(hear(c, false), 404);
    assert_int_equal(get(c, "/healthz", ""), 200); /* and the next answer begins where it should */
    assert_string_equal(c->body, "ok\n");
}

/* --- commands --------------------------------------------------------------------------------- */

static void a_command_is_asked_for_its_user_and_answered(void **state)
{
    (void)state;
    struct client *c = client_open();
    post(c, "chat.send", bearer_of("ada", 0),
         "{\"conv\":\"c_1\",\"cid\":\"k\",\"text\":\"Hi \xf0\x9f\x98\x80\"}");
    struct bus_command *m = take_command(CMD_CHAT_SEND);
    assert_true(bytes_is(name_bytes(&m->who.user), "ada"));
    assert_true(bytes_is(id_bytes(&m->who.app), "default"));
    assert_false(m->who.insecure);
    assert_true(bytes_is(id_bytes(&m->args.conv), "c_1"));
    assert_true(bytes_is(blob_bytes(m->args.text), "Hi \xf0\x9f\x98\x80"));
    expect_silence(c);
    say_answer(m, "{\"status\":\"accepted\"}");
    expect_status(c, 200);
    assert_string_equal(c->body, "{\"status\":\"accepted\"}");
    expect_header(c, "Content-Type", "application/json");
    expect_header(c, "Cache-Control", "no-store");
    assert_null(header(c, "Connection"));
    post(c, "conv.list", bearer_of("ada", 0), ""); /* no body is no arguments */
    say_answer(take_command(CMD_CONV_LIST), "{\"items\":[]}");
    expect_status(c, 200);
    assert_string_equal(c->body, "{\"items\":[]}");
}

struct mapping {
    uint32_t code;
    bool temporary;
    const char *field;
    int status;
    const char *body;
};

static void an_error_of_the_protocol_is_a_status_and_json(void **state)
{
    (void)state;
    static const struct mapping rows[] = {
        {103, false, NULL, 403, "{\"error\":{\"code\":103,\"message\":\"a \\\"word\\\"\"}}"},
        {107, false, "text", 400,
         "{\"error\":{\"code\":107,\"message\":\"a \\\"word\\\"\",\"field\":\"text\"}}"},
        {108, false, NULL, 404, "{\"error\":{\"code\":108,"},
        {404, false, NULL, 404, "{\"error\":{\"code\":404,"},
        {409, false, NULL, 409, "{\"error\":{\"code\":409,"},
        {112, false, NULL, 409, "{\"error\":{\"code\":112,"},
        {413, false, NULL, 413, "{\"error\":{\"code\":413,"},
        {111, true, NULL, 429,
         "{\"error\":{\"code\":111,\"message\":\"a \\\"word\\\"\",\"temporary\":true}}"},
        {503, true, NULL, 503,
         "{\"error\":{\"code\":503,\"message\":\"a \\\"word\\\"\",\"temporary\":true}}"},
        {100, true, NULL, 503, "{\"error\":{\"code\":100,"},
    };
    struct client *c = client_open();
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        post(c, "conv.list", bearer_of("ada", 0), "{}");
        struct bus_command *m = take_command(CMD_CONV_LIST);
        bus_answer_error(&m->from, rows[i].code, rows[i].temporary, rows[i].field, "a \"word\"");
        msg_free(&m->msg);
        expect_status(c, rows[i].status);
        expect_body(c, rows[i].body);
        if (rows[i].temporary)
            expect_header(c, "Retry-After", "1");
        else
            assert_null(header(c, "Retry-After"));
    }
}

static void what_the_table_refuses_is_answered_at_once(void **state)
{
    (void)state;
    struct client *c = client_open();
    post(c, "conv.open", bearer_of("ada", 0), "{}");
    expect_status(c, 400);
    assert_string_equal(c->body, "{\"error\":{\"code\":107,\"message\":\"conv: is missing\","
                                 "\"field\":\"conv\"}}");
    post(c, "conv.open", bearer_of("ada", 0), "{\"conv\":");
    expect_status(c, 400);
    post(c, "conv.open", bearer_of("ada", 0), "[]");
    expect_status(c, 400);
    post(c, "nope", bearer_of("ada", 0), "{}");
    expect_status(c, 404);
    expect_quiet();
}

static void without_a_good_token_it_is_401(void **state)
{
    (void)state;
    const char *headers[] = {"", "Authorization: Bearer a.b.c\r\n", "Authorization: Basic eDp5\r\n",
                             "X-API-Key: nobody\r\n", bearer_of("ada", AUTH_GUEST_MS + 60000)};
    for (size_t i = 0; i < ARRAY_COUNT(headers); i++) {
        struct client *c = client_open();
        post(c, "conv.list", headers[i], "{}");
        expect_status(c, 401);
        expect_header(c, "WWW-Authenticate", "Bearer");
        expect_body(c, "{\"error\":{\"code\":101,");
        expect_end(c);
        client_close(c);
    }
    expect_quiet();
}

static void an_api_key_acts_for_the_user_that_as_names(void **state)
{
    (void)state;
    struct client *c = client_open();
    const char *headers[] = {"X-API-Key: key-of-everything\r\n",
                             "Authorization: Bearer key-of-everything\r\n",
                             "X-API-Key: key-of-commands\r\n"};
    for (size_t i = 0; i < ARRAY_COUNT(headers); i++) {
        post(c, "conv.create", headers[i], "{\"as\":\"eve\",\"title\":\"x\"}");
        struct bus_command *m = take_command(CMD_CONV_CREATE);
        assert_true(bytes_is(name_bytes(&m->who.user), "eve"));
        assert_true(bytes_is(id_bytes(&m->who.app), "default"));
        say_answer(m, "{}");
        expect_status(c, 200);
    }
    /* The user of one request is not that of the next. */
    post(c, "conv.list", headers[0], "{}");
    expect_status(c, 403);
    expect_body(c, "an API key names one with `as`");
    char text[256];
    (void)snprintf(text, sizeof(text), "{\"as\":\"%0129d\"}", 0);
    post(c, "conv.list", headers[0], text);
    expect_status(c, 400);
    expect_body(c, "\"field\":\"as\"");
    /* For who comes with a token, `as` is a field that nobody knows. */
    post(c, "conv.list", bearer_of("ada", 0), "{\"as\":\"eve\"}");
    struct bus_command *m = take_command(CMD_CONV_LIST);
    assert_true(bytes_is(name_bytes(&m->who.user), "ada"));
    say_answer(m, "{}");
    expect_status(c, 200);
}

static void a_key_with_scopes_may_what_they_say(void **state)
{
    (void)state;
    struct client *c = client_open();
    post(c, "conv.list", "X-API-Key: key-of-lists\r\n", "{\"as\":\"eve\"}");
    struct bus_command *m = take_command(CMD_CONV_LIST);
    assert_true(bytes_is(id_bytes(&m->who.app), "shop"));
    say_answer(m, "{}");
    expect_status(c, 200);
    post(c, "chat.send", "X-API-Key: key-of-lists\r\n",
         "{\"as\":\"eve\",\"conv\":\"c\",\"cid\":\"k\",\"text\":\"t\"}");
    expect_status(c, 403);
    expect_body(c, "scopes");
    expect_end(c);
    expect_quiet();
}

static void a_guest_is_made_and_its_token_is_good(void **state)
{
    (void)state;
    struct client *c = client_open();
    char authorization[2048];
    post(c, "guest.create", "", "{\"name\":\"Ada\"}");
    expect_status(c, 200);
    expect_header(c, "Cache-Control", "no-store");
    assert_memory_equal(c->body, "{\"user\":\"u_", 11);
    char user[64];
    (void)snprintf(user, sizeof(user), "%.28s", c->body + 9);
    const char *token = strstr(c->body, "\"token\":\"") + 9;
    (void)snprintf(authorization, sizeof(authorization), "Authorization: Bearer %.*s\r\n",
                   (int)strcspn(token, "\""), token);
    int64_t expires = atoll(strstr(c->body, "\"expires\":") + 10);
    assert_in_range(expires - wall_now_ms(), AUTH_GUEST_MS - 60000, AUTH_GUEST_MS);
    post(c, "conv.list", authorization, "{}");
    struct bus_command *m = take_command(CMD_CONV_LIST);
    assert_true(bytes_is(name_bytes(&m->who.user), user));
    assert_true(bytes_is(name_bytes(&m->who.display), "Ada"));
    assert_true(m->who.guest);
    say_answer(m, "{}");
    expect_status(c, 200);
    post(c, "guest.create", "", "{\"name\":7}");
    expect_status(c, 400);
    expect_body(c, "\"field\":\"name\"");
    post(c, "guest.create", "", "");
    expect_status(c, 200);
}

static int set_up_no_guests(void **state)
{
    (void)state;
    stage_make("auth.guests=false");
    return 0;
}

static void where_guests_are_off_none_is_made(void **state)
{
    (void)state;
    struct client *c = client_open();
    post(c, "guest.create", "", "{}");
    expect_status(c, 403);
    expect_body(c, "auth.guests");
}

static int set_up_insecure(void **state)
{
    (void)state;
    stage_make("auth.insecure=true");
    return 0;
}

static void insecure_lets_everybody_in_but_not_with_a_bad_token(void **state)
{
    (void)state;
    struct client *c = client_open();
    post(c, "conv.list", "", "{}");
    struct bus_command *m = take_command(CMD_CONV_LIST);
    assert_true(m->who.insecure);
    assert_int_equal(m->who.user.count, 0);
    say_answer(m, "{}");
    expect_status(c, 200);
    post(c, "conv.list", "Authorization: Bearer a.b.c\r\n", "{}");
    expect_status(c, 401);
}

static int set_up_hurried(void **state)
{
    (void)state;
    stage_make("limits.user_commands_burst=1");
    return 0;
}

static void who_asks_too_fast_is_told_when_to_come_again(void **state)
{
    (void)state;
    struct client *c = client_open();
    post(c, "conv.list", bearer_of("ada", 0), "{}");
    say_answer(take_command(CMD_CONV_LIST), "{}");
    expect_status(c, 200);
    post(c, "conv.list", bearer_of("ada", 0), "{}");
    expect_status(c, 429);
    expect_header(c, "Retry-After", "1");
    expect_body(c, "\"temporary\":true");
    assert_null(header(c, "Connection"));
}

/* --- bodies ----------------------------------------------------------------------------------- */

static void a_body_over_the_limit_is_413(void **state)
{
    (void)state;
    struct client *c = client_open();
    char text[8192];
    (void)snprintf(text, sizeof(text),
                   "POST /kith/v1/conv.list HTTP/1.1\r\n" STAGE_HOST
                   "%sContent-Length: 4097\r\n\r\n",
                   bearer_of("ada", 0));
    client_say(c, text); /* said before any of it was sent */
    expect_status(c, 413);
    expect_header(c, "Connection", "close");
    expect_body(c, "limits.frame");
    expect_end(c);
    client_close(c);
    c = client_open();
    (void)snprintf(text, sizeof(text),
                   "POST /kith/v1/conv.list HTTP/1.1\r\n" STAGE_HOST
                   "%sTransfer-Encoding: chunked\r\n\r\n1000\r\n%04096d\r\n1\r\n",
                   bearer_of("ada", 0), 0);
    client_say(c, text);
    expect_silence(c); /* 4096 are allowed */
    client_say(c, "x");
    expect_status(c, 413);
    expect_header(c, "Connection", "close");
    expect_end(c);
    expect_quiet();
}

static void a_body_in_any_pieces_is_the_same_body(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "Content-Length: 29\r\n\r\n{\"conv\":\"c_1\",\"persona\":null}",
        "Transfer-Encoding: "
        "chunked\r\n\r\n9;ext=1\r\n{\"conv\":\"\r\n14\r\nc_1\",\"persona\":null}\r\n"
        "0\r\nTrailer: x\r\n\r\n",
    };
    struct client *c = client_open();
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        char text[2048];
        int count =
            snprintf(text, sizeof(text), "POST /kith/v1/conv.open HTTP/1.1\r\n" STAGE_HOST "%s%s",
                     bearer_of("ada", 0), bodies[i]);
        size_t from = (size_t)(strstr(bodies[i], "\r\n\r\n") - bodies[i]);
        size_t head = (size_t)count - strlen(bodies[i]) + from;
        for (size_t cut = head; cut < (size_t)count; cut++) {
            client_bytes(c, text, cut);
            stage_idle();
            if (stage.first != NULL)
                fail_msg("too early, after %zu bytes of %d", cut, count);
            client_bytes(c, text + cut, (size_t)count - cut);
            struct bus_command *m = take_command(CMD_CONV_OPEN);
            assert_true(bytes_is(id_bytes(&m->args.conv), "c_1"));
            say_answer(m, "{}");
            expect_status(c, 200);
        }
    }
}

static void a_bad_chunk_is_400_and_the_end(void **state)
{
    (void)state;
    struct client *c = client_open();
    char text[2048];
    (void)snprintf(text, sizeof(text),
                   "POST /kith/v1/conv.list HTTP/1.1\r\n" STAGE_HOST
                   "%sTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n",
                   bearer_of("ada", 0));
    client_say(c, text);
    expect_status(c, 400);
    expect_end(c);
    expect_quiet();
}

static void who_asks_to_continue_is_told_to(void **state)
{
    (void)state;
    struct client *c = client_open();
    char text[2048];
    (void)snprintf(text, sizeof(text),
                   "POST /kith/v1/conv.list HTTP/1.1\r\n" STAGE_HOST
                   "%sExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
                   bearer_of("ada", 0));
    client_say(c, text);
    expect_status(c, 100);
    client_say(c, "{}");
    say_answer(take_command(CMD_CONV_LIST), "{}");
    expect_status(c, 200);
    /* Who is refused needs not send it. */
    client_say(c, "POST /kith/v1/conv.list HTTP/1.1\r\n" STAGE_HOST
                  "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    expect_status(c, 401);
    expect_end(c);
}

/* --- the connection --------------------------------------------------------------------------- */

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    struct client *c = client_open();
    post(c, "conv.list", bearer_of("ada", 0), "{}");
    client_say(c, "GET /healthz HTTP/1.1\r\n" STAGE_HOST "\r\n");
    post(c, "conv.open", bearer_of("ada", 0), "{\"conv\":\"c_1\"}");
    client_say(c, "GET /nothing HTTP/1.1\r\n" STAGE_HOST "\r\n");
    struct bus_command *m = take_command(CMD_CONV_LIST);
    expect_quiet(); /* one at a time */
    expect_silence(c);
    say_answer(m, "{\"n\":1}");
    expect_status(c, 200);
    assert_string_equal(c->body, "{\"n\":1}");
    expect_status(c, 200);
    assert_string_equal(c->body, "ok\n");
    say_answer(take_command(CMD_CONV_OPEN), "{\"n\":2}");
    expect_status(c, 200);
    assert_string_equal(c->body, "{\"n\":2}");
    expect_status(c, 404);
}

static void a_connection_is_kept_unless_somebody_says_no(void **state)
{
    (void)state;
    struct client *c = client_open();
    assert_int_equal(get(c, "/healthz", ""), 200);
    assert_int_equal(get(c, "/healthz", "Connection: keep-alive\r\n"), 200);
    assert_int_equal(get(c, "/healthz", "Connection: close\r\n"), 200);
    expect_header(c, "Connection", "close");
    expect_end(c);
    client_close(c);
    c = client_open();
    client_say(c, "GET /healthz HTTP/1.0\r\n" STAGE_HOST "\r\n");
    expect_status(c, 200);
    expect_end(c);
    client_close(c);
    c = client_open(); /* a client's end while it waits: it hears its answer first */
    post(c, "conv.list", bearer_of("ada", 0), "{}");
    assert_int_equal(shutdown(c->fd, SHUT_WR), 0);
    struct bus_command *m = take_command(CMD_CONV_LIST);
    stage_idle();
    say_answer(m, "{}");
    expect_status(c, 200);
    expect_end(c);
}

static void what_is_no_http_is_400_and_the_end(void **state)
{
    (void)state;
    uint64_t before = diag_counter_sum(DIAG_C_http_bad);
    struct client *c = client_open();
    client_say(c, "hello\r\n\r\nGET /healthz HTTP/1.1\r\n" STAGE_HOST "\r\n");
    expect_status(c, 400);
    expect_body(c, "{\"error\":{\"code\":107,\"message\":\"Bad Request\"}}");
    expect_end(c);
    client_close(c);
    c = client_open();
    client_say(c, "GET / HTTP/2.0\r\n" STAGE_HOST "\r\n");
    expect_status(c, 505);
    expect_end(c);
    assert_int_equal(diag_counter_sum(DIAG_C_http_bad), before + 2);
}

static void a_slow_head_is_closed_whatever_trickles_in(void **state)
{
    (void)state;
    uint64_t before = diag_counter_sum(DIAG_C_http_timeouts);
    struct client *silent = client_open();
    struct client *slow = client_open();
    client_say(slow, "G");
    stage_idle();
    for (int i = 0; i < 9; i++) {
        engine_clock_skip(1000);
        client_say(slow, "E");
        expect_silence(slow);
    }
    expect_silence(silent);
    engine_clock_skip(1100);
    expect_ended(silent);
    expect_ended(slow);
    assert_int_equal(diag_counter_sum(DIAG_C_http_timeouts), before + 2);
}

static void a_second_head_has_its_own_time(void **state)
{
    (void)state;
    struct client *c = client_open();
    assert_int_equal(get(c, "/healthz", ""), 200);
    engine_clock_skip(70000); /* silence between requests may be long */
    expect_silence(c);
    client_say(c, "GET /healthz HT");
    stage_idle();
    engine_clock_skip(9000);
    expect_silence(c);
    client_say(c, "TP/1.1\r\n" STAGE_HOST "\r\n");
    expect_status(c, 200);
    client_say(c, "GET /healthz HT");
    stage_idle();
    engine_clock_skip(10100);
    expect_ended(c);
    client_close(c);
    c = client_open();
    assert_int_equal(get(c, "/healthz", ""), 200);
    engine_clock_skip(75100); /* but not for ever */
    expect_ended(c);
}

static void a_slow_body_is_closed_and_a_slow_answer_is_not(void **state)
{
    (void)state;
    struct client *c = client_open();
    struct client *d = client_open();
    char text[2048];
    (void)snprintf(text, sizeof(text),
                   "POST /kith/v1/conv.list HTTP/1.1\r\n" STAGE_HOST "%sContent-Length: 2\r\n\r\n{",
                   bearer_of("ada", 0));
    client_say(c, text);
    post(d, "conv.list", bearer_of("ada", 0), "{}");
    struct bus_command *m = take_command(CMD_CONV_LIST);
    stage_idle();
    engine_clock_skip(29000);
    expect_silence(c);
    engine_clock_skip(1100);
    expect_ended(c);
    engine_clock_skip(600000);
    expect_silence(d);
    say_answer(m, "{}");
    expect_status(d, 200);
}

static void a_connection_that_goes_before_the_answer_leaves_nothing(void **state)
{
    (void)state;
    struct client *c = client_open();
    post(c, "conv.list", bearer_of("ada", 0), "{}");
    struct bus_command *m = take_command(CMD_CONV_LIST);
    client_reset(c);
    UNTIL(stage.api->conns.used_count == 0);
    /* The next one has the same slot: the answer is not for it. */
    struct client *d = client_open();
    post(d, "conv.open", bearer_of("ada", 0), "{\"conv\":\"c\"}");
    struct bus_command *other = take_command(CMD_CONV_OPEN);
    assert_int_equal(other->from.handle.slot, m->from.handle.slot);
    bus_answer_result(&m->from, blob_copy(bytes_of("{\"secret\":1}")));
    expect_silence(d);
    /* An answer that comes twice is heard once. */
    bus_answer_result(&other->from, blob_copy(bytes_of("{\"n\":1}")));
    bus_answer_result(&other->from, blob_copy(bytes_of("{\"n\":2}")));
    msg_free(&m->msg);
    msg_free(&other->msg);
    expect_status(d, 200);
    assert_string_equal(d->body, "{\"n\":1}");
    expect_silence(d);
}

static void freeing_the_room_in_the_middle_of_everything_leaks_nothing(void **state)
{
    (void)state;
    struct client *c = client_open();
    struct client *d = client_open();
    post(c, "conv.list", bearer_of("ada", 0), "{\"limit\":5}");
    msg_free(&take_command(CMD_CONV_LIST)->msg);
    client_say(d, "POST /kith/v1/guest.create HTTP/1.1\r\n" STAGE_HOST
                  "Content-Length: 20\r\n\r\n{\"name\":");
    stage_idle();
    assert_int_equal(stage.api->conns.used_count, 2);
    net_free(&stage.net);
    api_free(&stage.api);
    stage.net = net_make(stage.engine, stage.config);
    stage.api =
        api_make(stage.engine, stage.net, stage.sessions, stage.auth, stage.desk, stage.config);
}

/* --- the upgrade ------------------------------------------------------------------------------ */

static int upgrade(struct client *c, const char *headers)
{
    char text[2048];
    (void)snprintf(text, sizeof(text), "GET /connection/websocket HTTP/1.1\r\n" STAGE_HOST "%s\r\n",
                   headers);
    client_say(c, text);
    return hear(c, true);
}

static void an_upgrade_becomes_a_session(void **state)
{
    (void)state;
    struct client *c = client_open();
    assert_int_equal(get(c, "/healthz", ""), 200); /* also on a line that was used before */
    uint64_t before = diag_counter_sum(DIAG_C_ws_opened);
    /* With its first frame behind it: {} masked with zeros. */
    char text[512];
    int count = snprintf(text, sizeof(text),
                         "GET /connection/websocket?x=1 HTTP/1.1\r\n" STAGE_HOST UPGRADE "\r\n");
    memcpy(text + count, "\x81\x82\0\0\0\0[]", 8);
    client_bytes(c, text, (size_t)count + 8);
    assert_int_equal(hear(c, true), 101);
    expect_header(c, "Upgrade", "websocket");
    expect_header(c, "Connection", "Upgrade");
    expect_header(c, "Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_null(header(c, "Sec-WebSocket-Protocol"));
    assert_int_equal(diag_counter_sum(DIAG_C_ws_opened), before + 1);
    assert_int_equal(stage.api->conns.used_count, 0);
    UNTIL((client_read(c), c->ended)); /* [] is no command: the session closes with 3501 */
    assert_memory_equal(c->in,
                        "\x88\x0d\x0d\xad"
                        "bad request",
                        15);
}

static void a_session_has_no_deadline_of_http(void **state)
{
    (void)state;
    struct client *c = client_open();
    assert_int_equal(upgrade(c, UPGRADE), 101);
    engine_clock_skip(14000); /* over timeouts.head, under timeouts.connect */
    expect_silence(c);
}

static void only_an_offered_subprotocol_is_answered(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"Sec-WebSocket-Protocol: centrifuge-json\r\n", "centrifuge-json"},
        {"Sec-WebSocket-Protocol: centrifuge-protobuf, centrifuge-json\r\n", "centrifuge-json"},
        {"Sec-WebSocket-Protocol: centrifuge-protobuf\r\n", NULL},
        {"Sec-WebSocket-Protocol:\r\n", NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct client *c = client_open();
        char text[512];
        (void)snprintf(text, sizeof(text), UPGRADE "%s", rows[i][0]);
        assert_int_equal(upgrade(c, text), 101);
        const char *answered = header(c, "Sec-WebSocket-Protocol");
        assert_int_equal(answered == NULL, rows[i][1] == NULL);
        if (answered != NULL)
            assert_string_equal(answered, rows[i][1]);
        client_close(c);
    }
}

static void a_foreign_origin_is_403(void **state)
{
    (void)state;
    static const struct {
        const char *origin;
        int status;
    } rows[] = {
        {"", 101},
        {"Origin: http://kith.test\r\n", 101},
        {"Origin: https://KITH.test\r\n", 101},
        {"Origin: http://kith.test:8080\r\n", 403},
        {"Origin: http://evil.test\r\n", 403},
        {"Origin: http://kith.test.evil.test\r\n", 403},
        {"Origin: http://xkith.test\r\n", 403},
        {"Origin: kith.test\r\n", 403},
        {"Origin: null\r\n", 403},
        {"Origin:\r\n", 403},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct client *c = client_open();
        char text[512];
        (void)snprintf(text, sizeof(text), UPGRADE "%s", rows[i].origin);
        if (upgrade(c, text) != rows[i].status)
            fail_msg("%d for %s", c->status, rows[i].origin);
        client_close(c);
    }
}

static void what_is_no_whole_upgrade_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *headers;
        int status;
    } rows[] = {
        {"", 400},
        {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n", 400},
        {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: c2hvcnQ=\r\n",
         400},
        {"Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         400},
        {"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         400},
        {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         426},
        {"Upgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         426},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct client *c = client_open();
        if (upgrade(c, rows[i].headers) != rows[i].status)
            fail_msg("%d for %s", c->status, rows[i].headers);
        if (rows[i].status == 426)
            expect_header(c, "Sec-WebSocket-Version", "13");
        expect_end(c);
        client_close(c);
    }
    struct client *c = client_open(); /* RFC 6455 4.1: the method must be GET */
    client_say(c, "HEAD /connection/websocket HTTP/1.1\r\n" STAGE_HOST UPGRADE "\r\n");
    assert_int_equal(hear(c, false), 400);
    expect_end(c);
}

static void a_server_that_drains_takes_no_sessions(void **state)
{
    (void)state;
    struct client *c = client_open();
    struct bus_drain *d = BUS_NEW(DRAIN, bus_drain, PORT_SESSION);
    engine_post(stage.engine, &d->msg);
    stage_idle();
    assert_int_equal(upgrade(c, UPGRADE), 503);
    expect_header(c, "Retry-After", "1");
    expect_end(c);
}

#define PLAY(test)            cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define PLAY_ON(set_up, test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAY(healthz_is_ok_as_long_as_it_answers),
        PLAY(readyz_names_what_is_missing),
        PLAY(metrics_are_prometheus_text),
        PLAY(a_build_without_a_page_says_so_at_the_root_only),
        PLAY(a_wrong_method_is_405_and_told_the_right_ones),
        PLAY(a_head_has_the_length_and_no_body),
        PLAY(a_command_is_asked_for_its_user_and_answered),
        PLAY(an_error_of_the_protocol_is_a_status_and_json),
        PLAY(what_the_table_refuses_is_answered_at_once),
        PLAY(without_a_good_token_it_is_401),
        PLAY(an_api_key_acts_for_the_user_that_as_names),
        PLAY(a_key_with_scopes_may_what_they_say),
        PLAY(a_guest_is_made_and_its_token_is_good),
        PLAY_ON(set_up_no_guests, where_guests_are_off_none_is_made),
        PLAY_ON(set_up_insecure, insecure_lets_everybody_in_but_not_with_a_bad_token),
        PLAY_ON(set_up_hurried, who_asks_too_fast_is_told_when_to_come_again),
        PLAY(a_body_over_the_limit_is_413),
        PLAY(a_body_in_any_pieces_is_the_same_body),
        PLAY(a_bad_chunk_is_400_and_the_end),
        PLAY(who_asks_to_continue_is_told_to),
        PLAY(pipelined_requests_are_answered_in_order),
        PLAY(a_connection_is_kept_unless_somebody_says_no),
        PLAY(what_is_no_http_is_400_and_the_end),
        PLAY(a_slow_head_is_closed_whatever_trickles_in),
        PLAY(a_second_head_has_its_own_time),
        PLAY(a_slow_body_is_closed_and_a_slow_answer_is_not),
        PLAY(a_connection_that_goes_before_the_answer_leaves_nothing),
        PLAY(freeing_the_room_in_the_middle_of_everything_leaks_nothing),
        PLAY(an_upgrade_becomes_a_session),
        PLAY(a_session_has_no_deadline_of_http),
        PLAY(only_an_offered_subprotocol_is_answered),
        PLAY(a_foreign_origin_is_403),
        PLAY(what_is_no_whole_upgrade_is_refused),
        PLAY(a_server_that_drains_takes_no_sessions),
    };
    diag_clock_set(wall_now_ms);
    diag_init("error");
    diag_thread_init("test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
