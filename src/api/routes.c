/* Which path goes where, who may, and what the answers look like. */
#include "api/api_priv.h"

#include "base/mem.h"
#include "codec/json.h"
#include "codec/websocket.h"

#include <stdio.h>
#include <strings.h>

static const struct {
    const char *path;
    bool prefix;
    unsigned methods;
} routes[ROUTES_COUNT] = {
#define API_ROW(name, path, prefix, methods) {path, prefix, methods},
    API_ROUTES(API_ROW)
#undef API_ROW
};

static enum route route_find(struct bytes path)
{
    for (uint32_t i = 0; i < ROUTES_COUNT; i++) {
        struct bytes p = bytes_of(routes[i].path);
        if (routes[i].prefix ? path.count >= p.count && memcmp(path.at, p.at, p.count) == 0
                             : bytes_equal(path, p))
            return (enum route)i;
    }
    return ROUTE_ASSET;
}

uint16_t route_status_of(uint32_t code)
{
    switch (code) {
    case 101: return 401;
    case 103: return 403;
    case 107: return 400;
    case 108:
    case 404: return 404;
    case 409: return 409;
    case 111: return 429;
    case 112: return 409;
    case 413: return 413;
    default: return 503;
    }
}

/* --- small answers ---------------------------------------------------------------------------- */

static void respond_ready(struct api_conn *c)
{
    char word[DIAG_WORD_BYTES_MAX];
    char sentence[DIAG_SENTENCE_BYTES_MAX];
    struct buf b;
    bool ready = diag_is_ready(word, sentence);
    buf_init(&b, 4096);
    json_object_open(&b);
    json_put_bool(&b, "ready", ready);
    if (!ready) {
        json_put_text(&b, "reason", bytes_of(word));
        json_put_text(&b, "message", bytes_of(sentence));
    }
    json_object_close(&b);
    conn_respond(c, ready ? 200 : 503, "application/json", buf_view(&b),
                 "Cache-Control: no-store\r\n");
    buf_fini(&b);
}

static void respond_metrics(struct api_conn *c)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    diag_render(&b);
    conn_respond(c, 200, "text/plain; version=0.0.4; charset=utf-8", buf_view(&b),
                 "Cache-Control: no-store\r\n");
    buf_fini(&b);
}

/* --- the upgrade ------------------------------------------------------------------------------ */

/* A browser tells where its page came from; only pages of this host may open a session. */
static bool origin_is_ours(const struct http1_request *r)
{
    struct bytes origin = http1_header_get(r, "Origin");
    if (origin.at == NULL)
        return true;
    const uint8_t *slashes = memmem(origin.at, origin.count, "://", 3);
    if (slashes == NULL)
        return false;
    size_t skip = (size_t)(slashes - origin.at) + 3;
    return origin.count - skip == r->host.count &&
           strncasecmp((const char *)origin.at + skip, (const char *)r->host.at, r->host.count) ==
               0;
}

static const char *subprotocol_header(const struct http1_request *r)
{
    if (http1_header_has(r, "Sec-WebSocket-Protocol", "centrifuge-json"))
        return "Sec-WebSocket-Protocol: centrifuge-json\r\n";
    return "";
}

static bool upgrade(struct api_conn *c, const struct http1_request *r)
{
    char accept[29];
    char head[256];
    struct api *a = c->api;
    if (!r->upgrade_websocket || !bytes_is(r->method, "GET") ||
        ws_accept_make(http1_header_get(r, "Sec-WebSocket-Key"), accept) != ERR_OK) {
        c->keep_alive = false;
        conn_error(c, 400, 107, NULL, bytes_of("this path takes a WebSocket upgrade"), 0);
        return true;
    }
    if (!bytes_is(http1_header_get(r, "Sec-WebSocket-Version"), "13")) {
        c->keep_alive = false;
        conn_respond(c, 426, "text/plain", bytes_of("WebSocket version 13 is spoken here\n"),
                     "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n");
        return true;
    }
    if (!origin_is_ours(r)) {
        c->keep_alive = false;
        conn_error(c, 403, 103, NULL, bytes_of("the Origin of this page may not connect here"), 0);
        return true;
    }
    struct handle conn = c->conn;
    int count = snprintf(head, sizeof(head),
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                         "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
                         accept, subprotocol_header(r));
    if (!session_open(a->sessions, conn)) {
        c->keep_alive = false;
        conn_error(c, 503, 503, NULL, bytes_of("no room for another session"), 1000);
        return true;
    }
    net_deadline(a->net, conn, (struct mono){0});
    (void)net_send_copy(a->net, conn, bytes_make(head, (size_t)count));
    buf_fini(&c->body);
    pool_free(&a->conns, c->self);
    return false;
}

/* --- who asks --------------------------------------------------------------------------------- */

static bool identify(struct api_conn *c, const struct http1_request *r, enum command command)
{
    struct api *a = c->api;
    struct caller caller;
    enum auth_why why;
    struct bytes token = auth_bearer(http1_header_get(r, "Authorization"));
    struct bytes key = http1_header_get(r, "X-API-Key");
    memset(&c->who, 0, sizeof(c->who));
    c->is_key = false;
    c->may = true;
    c->who.insecure = auth_insecure(a->auth);
    if (key.at == NULL)
        key = token;
    if (key.at != NULL && auth_key_find(a->auth, key, &caller) == ERR_OK) {
        c->who.app = caller.app;
        c->is_key = true;
        c->may = auth_may(&caller, "commands") || auth_may(&caller, command_name(command));
        return true;
    }
    if (token.at != NULL &&
        auth_token_verify(a->auth, token, engine_wall_ms(a->engine), &caller, &why) == ERR_OK) {
        c->who.app = caller.app;
        c->who.user = caller.user;
        c->who.display = caller.display;
        c->who.guest = caller.guest;
        return true;
    }
    CHECK(id_parse(bytes_of("default"), &c->who.app) == ERR_OK);
    return c->who.insecure && token.at == NULL;
}

/* --- commands --------------------------------------------------------------------------------- */

static void respond_guest(struct api_conn *c)
{
    struct api *a = c->api;
    struct command_args args;
    struct command_refusal no;
    struct buf token;
    struct buf b;
    if (!auth_guests(a->auth)) {
        conn_error(c, 403, 103, NULL, bytes_of("guests are off: auth.guests"), 0);
        return;
    }
    if (command_parse(engine_turn(a->engine), a->config, CMD_GUEST_CREATE, buf_view(&c->body),
                      &args, &no) != ERR_OK) {
        conn_error(c, 400, no.code, no.field, bytes_of(no.message), 0);
        return;
    }
    buf_init(&token, AUTH_TOKEN_BYTES_MAX);
    buf_init(&b, 65536);
    session_guest_make(a->engine, a->auth, blob_bytes(args.name), &c->who, &token);
    json_object_open(&b);
    json_put_text(&b, "user", name_bytes(&c->who.user));
    json_put_text(&b, "token", buf_view(&token));
    json_put_i64(&b, "expires", engine_wall_ms(a->engine) + AUTH_GUEST_MS);
    json_object_close(&b);
    conn_respond(c, 200, "application/json", buf_view(&b), "Cache-Control: no-store\r\n");
    command_args_free(&args);
    buf_fini(&token);
    buf_fini(&b);
}

static void command_head(struct api_conn *c, const struct http1_request *r)
{
    struct bytes name = bytes_make(r->path.at + strlen(routes[ROUTE_COMMAND].path),
                                   r->path.count - strlen(routes[ROUTE_COMMAND].path));
    if (!command_find(name, &c->command)) {
        c->keep_alive = false;
        conn_error(c, 404, 404, NULL, bytes_of("no such command; see docs/protocol.md"), 0);
        return;
    }
    c->identified = identify(c, r, c->command);
    if (!c->identified && c->command != CMD_GUEST_CREATE) {
        c->keep_alive = false;
        conn_error(c, 401, 101, NULL,
                   bytes_of("send Authorization: Bearer <connection token>, or an API key"), 0);
    } else if (!c->may) {
        c->keep_alive = false;
        conn_error(c, 403, 103, NULL,
                   bytes_of("the scopes of this key do not hold the command; see auth.api_keys[]"),
                   0);
    }
}

/* An API key acts for the user that `as` names. False: the answer was sent. */
static bool act_as(struct api_conn *c)
{
    struct json *root = NULL;
    struct bytes as;
    if (!c->is_key)
        return true;
    if (json_parse(engine_turn(c->api->engine), buf_view(&c->body), (struct json_limits){16, 4096},
                   &root, NULL) != ERR_OK ||
        !json_get_text(root, "as", &as))
        return true; /* without a user: the command table says which commands need one */
    if (name_parse(as, &c->who.user) != ERR_OK) {
        conn_error(c, 400, 107, "as", bytes_of("as: must be a user name of at most 128 bytes"), 0);
        return false;
    }
    return true;
}

void route_body(struct api_conn *c)
{
    struct command_refusal no;
    if (c->command == CMD_GUEST_CREATE) {
        respond_guest(c);
        return;
    }
    if (!act_as(c))
        return;
    struct address from = {
        .engine = (uint8_t)engine_index(c->api->engine), .port = PORT_API, .handle = c->self};
    if (command_submit(c->api->desk, &c->who, &from, c->command, buf_view(&c->body), &no) != ERR_OK)
        conn_error(c, route_status_of(no.code), no.code, no.field, bytes_of(no.message),
                   no.retry_ms);
}

void route_answer(struct api_conn *c, const struct bus_answer *m)
{
    if (m->code != 0)
        conn_error(c, route_status_of(m->code), m->code, m->field, blob_bytes(m->body), 1000);
    else
        conn_respond(c, 200, "application/json", blob_bytes(m->body),
                     "Cache-Control: no-store\r\n");
}

/* --- dispatch --------------------------------------------------------------------------------- */

static bool method_fits(const struct http1_request *r, enum route route)
{
    if (bytes_is(r->method, "GET") || bytes_is(r->method, "HEAD"))
        return (routes[route].methods & METHOD_GET) != 0;
    return bytes_is(r->method, "POST") && (routes[route].methods & METHOD_POST) != 0;
}

bool route_request(struct api_conn *c, const struct http1_request *r)
{
    enum route route = route_find(r->path);
    bool has_body = r->chunked || (r->has_length && r->length > 0);
    if (!method_fits(r, route)) {
        bool post = (routes[route].methods & METHOD_POST) != 0;
        c->keep_alive = c->keep_alive && !has_body;
        conn_respond(c, 405, "text/plain", bytes_of("this path does not take that method\n"),
                     post ? "Allow: POST\r\n" : "Allow: GET, HEAD\r\n");
        return true;
    }
    if (route == ROUTE_COMMAND) {
        command_head(c, r);
        return true;
    }
    c->keep_alive = c->keep_alive && !has_body; /* a GET's body is nobody's: the line ends here */
    switch (route) {
    case ROUTE_HEALTHZ:
        conn_respond(c, 200, "text/plain", bytes_of("ok\n"), "Cache-Control: no-store\r\n");
        return true;
    case ROUTE_READYZ: respond_ready(c); return true;
    case ROUTE_METRICS: respond_metrics(c); return true;
    case ROUTE_WEBSOCKET: return upgrade(c, r);
    case ROUTE_ASSET:
    case ROUTE_COMMAND:
    case ROUTES_COUNT: break;
    }
    page_respond(c, r);
    return true;
}
