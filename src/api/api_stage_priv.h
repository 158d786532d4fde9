/* api_stage: what the tests of this room play on: one engine that is stepped by hand, real sockets
 * on loopback, a client that speaks bytes, and this program in the place of talk: commands are
 * written down, and the test answers by message. For tests only; include it in one file of a
 * program.
 *
 * Owner   : the test program. Thread: one. Memory: what is left over after a test fails it. */
#ifndef API_API_STAGE_PRIV_H
#define API_API_STAGE_PRIV_H

#include "api/api_priv.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
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
#define STAGE_HOST         "Host: kith.test\r\n"

struct client {
    int fd; /* 0 = none */
    bool ended;
    int status; /* of the last answer */
    size_t body_count;
    size_t count;
    char in[STAGE_IN_BYTES_MAX];
    char head[16384];
    char body[STAGE_IN_BYTES_MAX];
};

static struct {
    uint64_t mem_before;
    struct config *config;
    struct auth *auth;
    struct engine *engine;
    struct net *net;
    struct command_desk *desk;
    struct sessions *sessions;
    struct api *api;
    uint16_t port;
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

/* The next message to talk, which must be this command. The caller frees it. */
STAGE_FN struct bus_command *take_command(enum command c)
{
    UNTIL(stage.first != NULL);
    struct bus_command *m = (struct bus_command *)(void *)stage.first;
    stage.first = m->msg.next;
    if (stage.first == NULL)
        stage.last = NULL;
    assert_int_equal(m->msg.kind, BUS_COMMAND);
    assert_int_equal(m->command, c);
    assert_int_equal(m->from.port, PORT_API);
    return m;
}

STAGE_FN void say_answer(struct bus_command *to, const char *json)
{
    bus_answer_result(&to->from, blob_copy(bytes_of(json)));
    msg_free(&to->msg);
}

STAGE_FN void expect_quiet(void)
{
    stage_idle();
    if (stage.first != NULL)
        fail_msg("talk was told something of kind %u", stage.first->kind);
}

/* --- clients ---------------------------------------------------------------------------------- */

STAGE_FN struct client *client_open(void)
{
    assert_true(stage.clients_count < STAGE_CLIENTS_MAX);
    struct client *c = &stage_clients[stage.clients_count];
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(stage.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    stage.clients_count++;
    c->ended = false;
    c->status = 0;
    c->count = 0;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd > 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), 0);
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
    return c;
}

STAGE_FN void client_bytes(struct client *c, const void *at, size_t count)
{
    assert_int_equal(send(c->fd, at, count, MSG_NOSIGNAL), (ssize_t)count);
}

STAGE_FN void client_say(struct client *c, const char *text)
{
    client_bytes(c, text, strlen(text));
}

/* Takes back the place, so that a test may open many, one after the other. */
STAGE_FN void client_close(struct client *c)
{
    if (c->fd > 0)
        close(c->fd);
    c->fd = 0;
    if (c == &stage_clients[stage.clients_count - 1])
        stage.clients_count--;
}

STAGE_FN void client_reset(struct client *c)
{
    struct linger off = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)), 0);
    client_close(c);
}

STAGE_FN void client_read(struct client *c)
{
    while (!c->ended && c->count < sizeof(c->in) - 1) {
        ssize_t got = recv(c->fd, c->in + c->count, sizeof(c->in) - 1 - c->count, 0);
        if (got < 0 && errno == EAGAIN)
            break;
        c->ended = got <= 0;
        if (got > 0)
            c->count += (size_t)got;
    }
    c->in[c->count] = '\0';
}

STAGE_FN void client_skip(struct client *c, size_t count)
{
    memmove(c->in, c->in + count, c->count - count + 1);
    c->count -= count;
}

/* The value of a header of the last answer, in one of two turns' buffers; NULL when it has none. */
STAGE_FN const char *header(const struct client *c, const char *name)
{
    static char value[2048];
    size_t length = strlen(name);
    for (const char *at = strstr(c->head, "\r\n"); at != NULL; at = strstr(at + 2, "\r\n")) {
        if (strncasecmp(at + 2, name, length) != 0 || at[2 + length] != ':')
            continue;
        const char *from = at + 2 + length + 2;
        (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(from, "\r"), from);
        return value;
    }
    return NULL;
}

STAGE_FN void expect_header(const struct client *c, const char *name, const char *value)
{
    const char *is = header(c, name);
    if (is == NULL)
        fail_msg("%s is missing in: %s", name, c->head);
    assert_string_equal(is, value);
}

/* Takes a head and, unless told not to, the body behind it. */
STAGE_FN int hear(struct client *c, bool has_body)
{
    const char *end = NULL;
    UNTIL((client_read(c), end = strstr(c->in, "\r\n\r\n"), end != NULL || c->ended));
    if (end == NULL)
        fail_msg("no answer, but the end, after: %s", c->in);
    size_t head = (size_t)(end - c->in) + 4;
    assert_true(head < sizeof(c->head));
    memcpy(c->head, c->in, head);
    c->head[head] = '\0';
    assert_memory_equal(c->head, "HTTP/1.1 ", 9);
    c->status = atoi(c->head + 9);
    const char *length = header(c, "Content-Length");
    c->body_count = !has_body || length == NULL ? 0 : (size_t)atol(length);
    assert_true(c->body_count < sizeof(c->body));
    UNTIL((client_read(c), c->count >= head + c->body_count || c->ended));
    assert_true(c->count >= head + c->body_count);
    memcpy(c->body, c->in + head, c->body_count);
    c->body[c->body_count] = '\0';
    client_skip(c, head + c->body_count);
    return c->status;
}

STAGE_FN void expect_status(struct client *c, int status)
{
    if (hear(c, true) != status)
        fail_msg("%d and not %d: %s%s", c->status, status, c->head, c->body);
}

STAGE_FN void expect_body(const struct client *c, const char *part)
{
    if (strstr(c->body, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, c->body);
}

STAGE_FN void expect_end(struct client *c)
{
    UNTIL((client_read(c), c->ended || c->count > 0));
    if (c->count > 0)
        fail_msg("more came: %s", c->in);
}

/* It ended by now, and not some seconds later. */
STAGE_FN void expect_ended(struct client *c)
{
    stage_idle();
    client_read(c);
    if (!c->ended || c->count > 0)
        fail_msg("%zu bytes came, ended %d: %s", c->count, c->ended, c->in);
}

STAGE_FN void expect_silence(struct client *c)
{
    stage_idle();
    client_read(c);
    if (c->count > 0 || c->ended)
        fail_msg("%zu bytes came, ended %d: %s", c->count, c->ended, c->in);
}

STAGE_FN int get(struct client *c, const char *path, const char *headers)
{
    char text[2048];
    (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" STAGE_HOST "%s\r\n", path, headers);
    client_say(c, text);
    return hear(c, true);
}

/* A command with its body; the answer is not taken. */
STAGE_FN void post(struct client *c, const char *command, const char *headers, const char *body)
{
    char text[4096];
    int count =
        snprintf(text, sizeof(text),
                 "POST /kith/v1/%s HTTP/1.1\r\n" STAGE_HOST "%sContent-Length: %zu\r\n\r\n%s",
                 command, headers, strlen(body), body);
    assert_true(count > 0 && (size_t)count < sizeof(text));
    client_say(c, text);
}

/* "Authorization: Bearer <token of user>\r\n", made `ago_ms` ago; valid until the next call. */
STAGE_FN const char *bearer_of(const char *user, int64_t ago_ms)
{
    static char text[AUTH_TOKEN_BYTES_MAX];
    struct caller caller = {.guest = false};
    struct buf b;
    assert_int_equal(id_parse(bytes_of("default"), &caller.app), ERR_OK);
    assert_int_equal(name_parse(bytes_of(user), &caller.user), ERR_OK);
    buf_init_fixed(&b, text, sizeof(text) - 1);
    buf_text(&b, "Authorization: Bearer ");
    auth_token_make(stage.auth, &caller, wall_now_ms() - ago_ms, &b);
    buf_text(&b, "\r\n");
    assert_false(b.failed);
    text[b.count] = '\0';
    return text;
}

/* --- making ----------------------------------------------------------------------------------- */

STAGE_FN void stage_make(const char *more)
{
    struct buf message;
    char text[512];
    int fd = -1;
    char *environment[] = {NULL};
    struct config_set sets[] = {{"store=mem"},
                                {"auth.hs256_secret=" STAGE_SECRET},
                                {"models.0.name=m"},
                                {"models.0.url=http://127.0.0.1:1/v1"},
                                {"limits.connections_per_address=1000000"},
                                {"limits.frame=4096"},
                                {"limits.text=4096"},
                                {"auth.api_keys.0=key-of-everything"},
                                {"auth.api_keys.1.key=key-of-lists"},
                                {"auth.api_keys.1.app=shop"},
                                {"auth.api_keys.1.scopes.0=conv.list"},
                                {"auth.api_keys.1.scopes.1=conv.open"},
                                {"auth.api_keys.2.key=key-of-commands"},
                                {"auth.api_keys.2.scopes.0=commands"},
                                {more}};
    memset(&stage, 0, sizeof(stage));
    stage.mem_before = mem_used_bytes();
    buf_init_fixed(&message, text, sizeof(text) - 1);
    enum err err = config_load(NULL, environment, sets, ARRAY_COUNT(sets), &stage.config, &message);
    text[message.count] = '\0';
    if (err != ERR_OK)
        fail_msg("%s", text);
    assert_int_equal(auth_make(stage.config, &stage.auth, &message), ERR_OK);
    assert_int_equal(engines_make(1, 7), ERR_OK);
    stage.engine = engine_at(0);
    stage.net = net_make(stage.engine, stage.config);
    stage.desk = command_desk_make(stage.engine, stage.config);
    stage.sessions = sessions_make(stage.engine, stage.net, stage.auth, stage.desk, stage.config);
    stage.api =
        api_make(stage.engine, stage.net, stage.sessions, stage.auth, stage.desk, stage.config);
    assert_non_null(stage.api);
    engine_listen(stage.engine, PORT_TALK, stage_record, NULL);
    assert_int_equal(net_listen_open("127.0.0.1:0", &fd, 1, &stage.port, &message), ERR_OK);
    net_listen(stage.net, fd, api_listener(stage.api));
}

STAGE_FN int set_up(void **state)
{
    (void)state;
    stage_make("auth.guests=true");
    return 0;
}

/* All clients leave, then everything is given back: nothing may be left. */
STAGE_FN int tear_down(void **state)
{
    (void)state;
    while (stage.clients_count > 0)
        client_close(&stage_clients[stage.clients_count - 1]);
    for (int i = 0; i < STAGE_STEPS_MAX && stage.api->conns.used_count > 0; i++)
        engine_step(stage.engine, 2);
    bool clean = stage.api->conns.used_count == 0;
    stage_idle();
    while (stage.first != NULL) {
        struct msg *m = stage.first;
        stage.first = m->next;
        msg_free(m);
    }
    api_free(&stage.api);
    sessions_free(&stage.sessions);
    command_desk_free(&stage.desk);
    net_free(&stage.net);
    engines_free();
    auth_free(&stage.auth);
    config_free(&stage.config);
    return clean && mem_used_bytes() == stage.mem_before ? 0 : -1;
}

#endif
