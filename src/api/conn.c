/* One HTTP connection: heads and bodies in, answers out. */
#include "api/api_priv.h"

#include "base/mem.h"
#include "codec/json.h"

#include <stdio.h>

#define API_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

static void deadline(struct api_conn *c, int64_t ms)
{
    net_deadline(c->api->net, c->conn, mono_after_ms(engine_now(c->api->engine), ms));
}

void conn_respond(struct api_conn *c, uint16_t status, const char *type, struct bytes body,
                  const char *headers)
{
    struct buf b;
    buf_init(&b, 65536);
    http1_response_head(&b, status, type, (int64_t)body.count, !c->keep_alive, headers);
    if (b.failed || !net_send_copy(c->api->net, c->conn, buf_view(&b)) ||
        (!c->is_head && body.count > 0 && !net_send_copy(c->api->net, c->conn, body)))
        c->keep_alive = false;
    buf_fini(&b);
    buf_fini(&c->body);
    c->state = CONN_HEAD;
    c->head_begun = false;
    if (c->keep_alive) {
        deadline(c, c->api->config->keep_alive_ms);
        net_read_pause(c->api->net, c->conn, false);
    } else {
        net_close(c->api->net, c->conn, false);
    }
}

void conn_error(struct api_conn *c, uint16_t status, uint32_t code, const char *field,
                struct bytes message, int64_t retry_ms)
{
    struct buf b;
    char headers[96] = "";
    buf_init(&b, 65536);
    json_object_open(&b);
    json_key(&b, "error");
    json_object_open(&b);
    json_put_i64(&b, "code", (int64_t)code);
    json_put_text(&b, "message", message);
    if (field != NULL)
        json_put_text(&b, "field", bytes_of(field));
    if (status == 503 || status == 429)
        json_put_bool(&b, "temporary", true);
    json_object_close(&b);
    json_object_close(&b);
    if (status == 429 || status == 503)
        (void)snprintf(headers, sizeof(headers), "Retry-After: %lld\r\n",
                       (long long)i64_max((retry_ms + 999) / 1000, 1));
    if (status == 401)
        (void)snprintf(headers, sizeof(headers), "WWW-Authenticate: Bearer\r\n");
    conn_respond(c, status, "application/json", buf_view(&b), headers);
    buf_fini(&b);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void bad_request(struct api_conn *c, uint16_t status)
{
    DIAG_COUNT(http_bad);
    c->keep_alive = false;
    conn_error(c, status, 107, NULL, bytes_of(http1_status_text(status)), 0);
}

/* A request head was understood. False: the connection is a session's now, and c is gone. */
static bool take_head(struct api_conn *c, const struct http1_request *r)
{
    DIAG_COUNT(http_requests);
    c->keep_alive = r->keep_alive;
    c->is_head = bytes_is(r->method, "HEAD");
    c->chunked = r->chunked;
    c->body_left = r->has_length ? r->length : 0;
    memset(&c->chunks, 0, sizeof(c->chunks));
    if (c->body_left > (uint64_t)c->api->config->frame_bytes_max) {
        c->keep_alive = false;
        conn_error(c, 413, 413, NULL, bytes_of("the body is larger than limits.frame"), 0);
        return true;
    }
    c->state = CONN_BODY;
    buf_init(&c->body, (size_t)c->api->config->frame_bytes_max);
    if (!route_request(c, r))
        return false;
    if (c->state != CONN_BODY)
        return true;
    if (r->expect_continue)
        (void)net_send_copy(c->api->net, c->conn, bytes_of(API_CONTINUE));
    deadline(c, c->api->config->body_timeout_ms);
    return true;
}

static void whole_body(struct api_conn *c)
{
    c->state = CONN_ANSWER;
    net_deadline(c->api->net, c->conn, (struct mono){0});
    net_read_pause(c->api->net, c->conn, true);
    route_body(c);
}

static size_t take_chunked(struct api_conn *c, struct bytes input)
{
    size_t at = 0;
    for (;;) {
        size_t used = 0;
        struct bytes data = {NULL, 0};
        enum err err = http1_chunked_feed(&c->chunks, bytes_make(input.at + at, input.count - at),
                                          &used, &data);
        buf_bytes(&c->body, data);
        at += used;
        if (err == ERR_PROTO) {
            bad_request(c, 400);
            return input.count;
        }
        if (c->body.failed) {
            c->keep_alive = false;
            conn_error(c, 413, 413, NULL, bytes_of("the body is larger than limits.frame"), 0);
            return input.count;
        }
        if (err == ERR_OK) {
            whole_body(c);
            return at;
        }
        if (used == 0)
            return at;
    }
}

static size_t take_body(struct api_conn *c, struct bytes input)
{
    if (c->chunked)
        return take_chunked(c, input);
    size_t count = input.count < c->body_left ? input.count : (size_t)c->body_left;
    buf_put(&c->body, input.at, count);
    c->body_left -= count;
    if (c->body_left == 0)
        whole_body(c);
    return count;
}

static size_t on_data(void *ctx, struct handle conn, uint8_t *at, size_t count)
{
    struct api_conn *c = ctx;
    struct http1_request r;
    uint16_t status = 400;
    (void)conn;
    if (c->state == CONN_ANSWER)
        return 0;
    if (c->state == CONN_BODY)
        return take_body(c, bytes_make(at, count));
    switch (http1_request_decode(bytes_make(at, count), &r, &status)) {
    case ERR_OK: break;
    case ERR_AGAIN:
        if (!c->head_begun) {
            c->head_begun = true;
            deadline(c, c->api->config->head_timeout_ms);
        }
        return 0;
    default: bad_request(c, status); return count;
    }
    size_t used = r.head_bytes;
    if (!take_head(c, &r))
        return used;
    if (c->state == CONN_BODY && (c->chunked || c->body_left > 0 || used < count))
        return used + take_body(c, bytes_make(at + used, count - used));
    if (c->state == CONN_BODY)
        whole_body(c);
    return used;
}

static void conn_free(struct api_conn *c)
{
    buf_fini(&c->body);
    pool_free(&c->api->conns, c->self);
}

static void on_close(void *ctx, struct handle conn, enum net_close why)
{
    (void)conn;
    if (why == NET_TIMEOUT)
        DIAG_COUNT(http_timeouts);
    conn_free(ctx);
}

static const struct net_owner api_owner = {on_data, NULL, on_close};

static void on_accept(void *ctx, struct handle conn, const struct net_address *from)
{
    struct api *a = ctx;
    struct handle self;
    struct api_conn *c = pool_new(&a->conns, &self);
    (void)from;
    if (c == NULL) {
        net_close(a->net, conn, true);
        return;
    }
    c->api = a;
    c->self = self;
    c->conn = conn;
    c->state = CONN_HEAD;
    net_own(a->net, conn, &api_owner, c);
    deadline(c, a->config->head_timeout_ms);
}

struct net_listener api_listener(struct api *a)
{
    return (struct net_listener){on_accept, a};
}

/* --- the mailbox ------------------------------------------------------------------------------ */

static void take(void *ctx, struct msg *m)
{
    struct api *a = ctx;
    if (m->kind == BUS_ANSWER) {
        struct bus_answer *answer = (struct bus_answer *)(void *)m;
        struct api_conn *c = pool_get(&a->conns, answer->to.handle);
        if (c != NULL && c->state == CONN_ANSWER)
            route_answer(c, answer);
    }
    msg_free(m);
}

struct api *api_make(struct engine *e, struct net *n, struct sessions *s, const struct auth *auth,
                     struct command_desk *d, const struct config *c)
{
    struct api *a = mem_new_zero(sizeof(*a));
    if (a == NULL)
        return NULL;
    a->engine = e;
    a->net = n;
    a->sessions = s;
    a->auth = auth;
    a->desk = d;
    a->config = c;
    if (pool_init(&a->conns, sizeof(struct api_conn), (uint32_t)c->connections_max) != ERR_OK) {
        mem_free(a);
        return NULL;
    }
    engine_listen(e, PORT_API, take, a);
    return a;
}

void api_free(struct api **ap)
{
    uint32_t index = 0;
    struct handle h;
    struct api *a = *ap;
    if (a == NULL)
        return;
    for (struct api_conn *c = pool_next(&a->conns, &index, &h); c != NULL;
         c = pool_next(&a->conns, &index, &h))
        buf_fini(&c->body);
    pool_fini(&a->conns);
    mem_free(a);
    *ap = NULL;
}
