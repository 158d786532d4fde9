/* session_stage: what the tests of this room play on: one engine that is stepped by hand, real
 * sockets on loopback, small WebSocket clients, and this program in the place of talk: what the
 * sessions ask is written down, and the test answers by message. Connections begin where an upgrade
 * was answered. For tests only; include it in one file of a program.
 *
 * Owner   : the test program. Thread: one. Memory: what is left over after a test fails it. */
#ifndef SESSION_SESSION_STAGE_PRIV_H
#define SESSION_SESSION_STAGE_PRIV_H

#include "base/mem.h"
#include "session/session_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A test program need not use all of it. */
#define STAGE_FN           static __attribute__((unused))
#define STAGE_STEPS_MAX    5000
#define STAGE_IDLE_STEPS   12
#define STAGE_CLIENTS_MAX  8
#define STAGE_IN_BYTES_MAX (256u << 10)
#define STAGE_SECRET       "0123456789abcdef0123456789abcdef"
#define STAGE_EPOCH        "e.g1"
#define STAGE_CONNECT      "{\"id\":1,\"connect\":{}}"

struct client {
    int fd; /* 0 = none */
    bool ended;
    uint16_t close_code; /* 0 = no close frame came */
    char close_reason[128];
    size_t count;
    uint8_t in[STAGE_IN_BYTES_MAX];
    char text[STAGE_IN_BYTES_MAX]; /* the last frame heard */
};

static struct {
    uint64_t mem_before;
    struct config *config;
    struct auth *auth;
    struct engine *engine;
    struct net *net;
    struct command_desk *desk;
    struct sessions *sessions;
    int listen_fd;
    uint16_t port;
    uint32_t opened;
    struct msg *first; /* to talk, in order */
    struct msg *last;
    uint32_t clients_count;
} stage;

static struct client stage_clients[STAGE_CLIENTS_MAX];

/* Steps until `condition`, which may use anything in scope. */
#define UNTIL(condition)                                                      \
    do {                                                                      \
        for (int step_ = 0; step_ < STAGE_STEPS_MAX && !(condition); step_++) \
            engine_step(stage.engine, 2);                                     \
        if (!(condition))                                                     \
            fail_msg("in vain: %s", #condition);                              \
    } while (0)

/* Everything that is under way on loopback arrives meanwhile. */
STAGE_FN void stage_idle(void)
{
    for (int i = 0; i < STAGE_IDLE_STEPS; i++)
        engine_step(stage.engine, 0);
}

/* --- the place of talk ------------------------------------------------------------------------ */

STAGE_FN void stage_record(void *ctx, struct msg *m)
{
    (void)ctx;
    m->next = NULL;
    if (stage.last == NULL)
        stage.first = m;
    else
        stage.last->next = m;
    stage.last = m;
}

/* The next message to talk, which must be of this kind. The caller frees it. */
STAGE_FN struct msg *stage_take(enum bus_kind kind)
{
    UNTIL(stage.first != NULL);
    struct msg *m = stage.first;
    stage.first = m->next;
    if (stage.first == NULL)
        stage.last = NULL;
    assert_int_equal(m->kind, kind);
    return m;
}

STAGE_FN struct bus_subscribe *take_subscribe(const char *channel)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct bus_subscribe *s = (struct bus_subscribe *)(void *)stage_take(BUS_SUBSCRIBE);
    if (channel != NULL)
        assert_true(bytes_is(channel_name(&s->key, room), channel));
    return s;
}

STAGE_FN struct bus_command *take_command(enum command c)
{
    struct bus_command *m = (struct bus_command *)(void *)stage_take(BUS_COMMAND);
    assert_int_equal(m->command, c);
    return m;
}

STAGE_FN void expect_unsubscribe(const char *channel)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct bus_unsubscribe *u = (struct bus_unsubscribe *)(void *)stage_take(BUS_UNSUBSCRIBE);
    assert_true(bytes_is(channel_name(&u->key, room), channel));
    assert_int_equal(u->engine, 0);
    msg_free(&u->msg);
}

/* Nothing was said to talk, now and in the next turns. */
STAGE_FN void expect_quiet(void)
{
    stage_idle();
    if (stage.first != NULL)
        fail_msg("talk was told something of kind %u", stage.first->kind);
}

STAGE_FN struct bus_subscribed *subscribed_new(const struct bus_subscribe *to, uint64_t offset)
{
    struct bus_subscribed *a = BUS_NEW(SUBSCRIBED, bus_subscribed, PORT_SESSION);
    a->to = to->from;
    a->key = to->key;
    a->offset = offset;
    a->epoch_count = sizeof(STAGE_EPOCH) - 1;
    memcpy(a->epoch, STAGE_EPOCH, sizeof(STAGE_EPOCH) - 1);
    return a;
}

/* Answers and frees the question. */
STAGE_FN void say_subscribed(struct bus_subscribe *to, uint64_t offset)
{
    struct bus_subscribed *a = subscribed_new(to, offset);
    engine_post(stage.engine, &a->msg);
    msg_free(&to->msg);
}

STAGE_FN void say_unsubscribable(struct bus_subscribe *to, uint32_t code, bool temporary)
{
    struct bus_subscribed *a = subscribed_new(to, 0);
    a->code = code;
    a->temporary = temporary;
    a->message = "permission denied";
    engine_post(stage.engine, &a->msg);
    msg_free(&to->msg);
}

STAGE_FN void say_answer(struct bus_command *to, const char *json)
{
    bus_answer_result(&to->from, blob_copy(bytes_of(json)));
    msg_free(&to->msg);
}

STAGE_FN struct channel_key key_of_conv(const char *conv)
{
    struct channel_key k = {.kind = CHANNEL_CONV};
    assert_int_equal(id_parse(bytes_of(conv), &k.conv), ERR_OK);
    return k;
}

STAGE_FN struct channel_key key_of_inbox(const char *user)
{
    struct channel_key k = {.kind = CHANNEL_INBOX};
    assert_int_equal(id_parse(bytes_of("default"), &k.app), ERR_OK);
    assert_int_equal(name_parse(bytes_of(user), &k.user), ERR_OK);
    return k;
}

STAGE_FN void publish(struct channel_key key, uint64_t offset, const char *json, bool droppable)
{
    struct bus_publish *p = BUS_NEW(PUBLISH, bus_publish, PORT_SESSION);
    p->key = key;
    p->offset = offset;
    p->data = blob_copy(bytes_of(json));
    p->droppable = droppable;
    p->epoch_count = sizeof(STAGE_EPOCH) - 1;
    memcpy(p->epoch, STAGE_EPOCH, sizeof(STAGE_EPOCH) - 1);
    engine_post(stage.engine, &p->msg);
}

/* --- clients ---------------------------------------------------------------------------------- */

/* A small receive buffer where asked, so that output blocks early. */
STAGE_FN struct client *client_open_narrow(int receive_bytes)
{
    assert_true(stage.clients_count < STAGE_CLIENTS_MAX);
    struct client *c = &stage_clients[stage.clients_count];
    uint32_t before = stage.opened;
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(stage.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    stage.clients_count++;
    c->ended = false;
    c->close_code = 0;
    c->count = 0;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd > 0);
    if (receive_bytes > 0)
        assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(int)), 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), 0);
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
    UNTIL(stage.opened > before);
    return c;
}

STAGE_FN struct client *client_open(void)
{
    return client_open_narrow(0);
}

STAGE_FN void client_bytes(struct client *c, const void *at, size_t count)
{
    assert_int_equal(send(c->fd, at, count, MSG_NOSIGNAL), (ssize_t)count);
}

/* One masked frame. */
STAGE_FN size_t frame_make(uint8_t *to, uint8_t first, struct bytes payload)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t at = 0;
    to[at++] = first;
    if (payload.count < 126) {
        to[at++] = (uint8_t)(0x80 | payload.count);
    } else {
        assert_true(payload.count < 65536);
        to[at++] = 0x80 | 126;
        to[at++] = (uint8_t)(payload.count >> 8);
        to[at++] = (uint8_t)payload.count;
    }
    memcpy(to + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < payload.count; i++)
        to[at++] = payload.at[i] ^ mask[i % 4];
    return at;
}

STAGE_FN void client_frame(struct client *c, uint8_t first, struct bytes payload)
{
    static uint8_t frame[65536 + 16];
    client_bytes(c, frame, frame_make(frame, first, payload));
}

STAGE_FN void client_say(struct client *c, const char *text)
{
    client_frame(c, 0x80 | WS_TEXT, bytes_of(text));
}

STAGE_FN void client_read(struct client *c)
{
    while (!c->ended && c->count < sizeof(c->in)) {
        ssize_t got = recv(c->fd, c->in + c->count, sizeof(c->in) - c->count, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        c->ended = got <= 0;
        if (got > 0)
            c->count += (size_t)got;
    }
}

/* The bytes of the frame in front and where its payload is; false while it is not whole. */
STAGE_FN bool frame_whole(const struct client *c, size_t *head, size_t *length)
{
    if (c->count < 2)
        return false;
    *head = 2;
    *length = c->in[1];
    if (c->in[1] == 126) {
        if (c->count < 4)
            return false;
        *head = 4;
        *length = (size_t)c->in[2] << 8 | c->in[3];
    }
    assert_true(c->in[1] < 127); /* unmasked, and no test has longer ones */
    return c->count >= *head + *length;
}

/* Takes the next frame: its payload in c->text, its opcode, or -1 when the connection ended. */
STAGE_FN int client_take(struct client *c)
{
    size_t head = 0;
    size_t length = 0;
    for (int step = 0; step < STAGE_STEPS_MAX; step++) {
        client_read(c);
        if (frame_whole(c, &head, &length)) {
            int opcode = c->in[0] & 15;
            assert_int_equal(c->in[0] & 0xf0, 0x80);
            memcpy(c->text, c->in + head, length);
            c->text[length] = '\0';
            memmove(c->in, c->in + head + length, c->count - head - length);
            c->count -= head + length;
            if (opcode == WS_CLOSE && length >= 2) {
                c->close_code = (uint16_t)((uint8_t)c->text[0] << 8 | (uint8_t)c->text[1]);
                (void)snprintf(c->close_reason, sizeof(c->close_reason), "%.125s", c->text + 2);
            }
            return opcode;
        }
        if (c->ended)
            return -1;
        engine_step(stage.engine, 2);
    }
    fail_msg("no frame came");
    return -1;
}

STAGE_FN const char *client_hear(struct client *c)
{
    int opcode = client_take(c);
    if (opcode != WS_TEXT)
        fail_msg("no text but opcode %d, code %u", opcode, c->close_code);
    return c->text;
}

STAGE_FN void expect_text(struct client *c, const char *text)
{
    assert_string_equal(client_hear(c), text);
}

STAGE_FN void expect_part(struct client *c, const char *part)
{
    if (strstr(client_hear(c), part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, c->text);
}

/* The next frame is a close frame of this code, and the connection ends behind it. */
STAGE_FN void expect_close(struct client *c, uint16_t code, const char *reason)
{
    int opcode = client_take(c);
    if (opcode != WS_CLOSE)
        fail_msg("no close but opcode %d: %s", opcode, c->text);
    assert_int_equal(c->close_code, code);
    assert_string_equal(c->close_reason, reason);
    assert_int_equal(client_take(c), -1);
}

/* Nothing came, and nothing comes in the next turns. */
STAGE_FN void expect_silence(struct client *c)
{
    stage_idle();
    client_read(c);
    if (c->count > 0 || c->ended)
        fail_msg("%zu bytes came, ended %d", c->count, c->ended);
}

STAGE_FN void client_close(struct client *c)
{
    if (c->fd > 0)
        close(c->fd);
    c->fd = 0;
}

/* --- people ----------------------------------------------------------------------------------- */

/* A token of `user`, made `ago_ms` ago; valid until the next call. */
STAGE_FN const char *token_of(const char *user, int64_t ago_ms)
{
    static char text[AUTH_TOKEN_BYTES_MAX];
    struct caller caller = {.guest = false};
    struct buf b;
    assert_int_equal(id_parse(bytes_of("default"), &caller.app), ERR_OK);
    assert_int_equal(name_parse(bytes_of(user), &caller.user), ERR_OK);
    assert_int_equal(name_parse(bytes_of("Ada \"L\""), &caller.display), ERR_OK);
    buf_init_fixed(&b, text, sizeof(text) - 1);
    auth_token_make(stage.auth, &caller, wall_now_ms() - ago_ms, &b);
    assert_false(b.failed);
    text[b.count] = '\0';
    return text;
}

STAGE_FN void say_connect(struct client *c, const char *token)
{
    char text[AUTH_TOKEN_BYTES_MAX + 64];
    (void)snprintf(text, sizeof(text), "{\"id\":1,\"connect\":{\"token\":\"%s\"}}", token);
    client_say(c, text);
}

/* A session of ada's that is open; her inbox is at offset 4. */
STAGE_FN struct client *client_connected(void)
{
    struct client *c = client_open();
    say_connect(c, token_of("ada", 0));
    say_subscribed(take_subscribe("#ada"), 4);
    expect_part(c, "{\"id\":1,\"connect\":{\"client\":\"");
    return c;
}

/* Subscribes by command `id`; `offset` is where the conversation stands. */
STAGE_FN void client_subscribe(struct client *c, uint32_t id, const char *conv, uint64_t offset)
{
    char text[256];
    char channel[80];
    (void)snprintf(channel, sizeof(channel), "conv:%s", conv);
    (void)snprintf(text, sizeof(text), "{\"id\":%u,\"subscribe\":{\"channel\":\"%s\"}}", id,
                   channel);
    client_say(c, text);
    say_subscribed(take_subscribe(channel), offset);
    (void)snprintf(text, sizeof(text), "{\"id\":%u,\"subscribe\":{", id);
    expect_part(c, text);
}

/* The only session there is. */
STAGE_FN struct session *session_only(void)
{
    uint32_t index = 0;
    struct session *s = pool_next(&stage.sessions->slots, &index, NULL);
    assert_non_null(s);
    assert_null(pool_next(&stage.sessions->slots, &index, NULL));
    return s;
}

/* --- making ----------------------------------------------------------------------------------- */

STAGE_FN void stage_on_accept(void *ctx, struct handle conn, const struct net_address *from)
{
    (void)ctx;
    (void)from;
    stage.opened++;
    if (!session_open(stage.sessions, conn))
        net_close(stage.net, conn, true);
}

STAGE_FN void stage_make(const char *more, const char *still_more)
{
    struct buf message;
    char text[512];
    char *environment[] = {NULL};
    struct config_set sets[] = {{"store=mem"},
                                {"auth.hs256_secret=" STAGE_SECRET},
                                {"models.0.name=m"},
                                {"models.0.url=http://127.0.0.1:1/v1"},
                                {"limits.connections_per_address=1000000"},
                                {"personas.0.id=p_kit"},
                                {"personas.0.name=Kit"},
                                {"personas.0.greeting=Hi!"},
                                {"personas.0.suggestions.0=Tell me"},
                                {more},
                                {still_more}};
    size_t count = ARRAY_COUNT(sets) - (more == NULL) - (still_more == NULL);
    memset(&stage, 0, sizeof(stage));
    stage.mem_before = mem_used_bytes();
    buf_init_fixed(&message, text, sizeof(text) - 1);
    enum err err = config_load(NULL, environment, sets, count, &stage.config, &message);
    text[message.count] = '\0';
    if (err != ERR_OK)
        fail_msg("%s", text);
    assert_int_equal(auth_make(stage.config, &stage.auth, &message), ERR_OK);
    assert_int_equal(engines_make(1, 7), ERR_OK);
    stage.engine = engine_at(0);
    stage.net = net_make(stage.engine, stage.config);
    stage.desk = command_desk_make(stage.engine, stage.config);
    stage.sessions = sessions_make(stage.engine, stage.net, stage.auth, stage.desk, stage.config);
    assert_non_null(stage.sessions);
    engine_listen(stage.engine, PORT_TALK, stage_record, NULL);
    assert_int_equal(net_listen_open("127.0.0.1:0", &stage.listen_fd, 1, &stage.port, &message),
                     ERR_OK);
    net_listen(stage.net, stage.listen_fd, (struct net_listener){stage_on_accept, NULL});
}

STAGE_FN int set_up(void **state)
{
    (void)state;
    stage_make("auth.guests=true", NULL);
    return 0;
}

/* All clients leave, then everything is given back: nothing may be left. */
STAGE_FN int tear_down(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < stage.clients_count; i++)
        client_close(&stage_clients[i]);
    for (int i = 0; i < STAGE_STEPS_MAX && stage.sessions->slots.used_count > 0; i++)
        engine_step(stage.engine, 2);
    bool clean = stage.sessions->subs.used_count == 0 && stage.sessions->channels.used_count == 0 &&
                 diag_gauge_sum(DIAG_G_sessions) == 0 && diag_gauge_sum(DIAG_G_subscriptions) == 0;
    while (stage.first != NULL) {
        struct msg *m = stage.first;
        stage.first = m->next;
        msg_free(m);
    }
    sessions_free(&stage.sessions);
    command_desk_free(&stage.desk);
    net_free(&stage.net);
    engines_free();
    auth_free(&stage.auth);
    config_free(&stage.config);
    return clean && mem_used_bytes() == stage.mem_before ? 0 : -1;
}

#endif
