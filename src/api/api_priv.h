/* The inside of api: a connection that speaks HTTP, and the routes. */
#ifndef API_API_PRIV_H
#define API_API_PRIV_H

#include "api/api.h"
#include "base/buf.h"
#include "base/pool.h"
#include "bus/messages.h"
#include "codec/http1.h"
#include "diag/diag.h"

struct api {
    struct engine *engine;
    struct net *net;
    struct sessions *sessions;
    const struct auth *auth;
    struct command_desk *desk;
    const struct config *config;
    struct pool conns;
};

/* X(NAME, path, prefix?, methods) */
enum { METHOD_GET = 1, METHOD_POST = 2 };
#define API_ROUTES(X)                                        \
    X(HEALTHZ, "/healthz", false, METHOD_GET)                \
    X(READYZ, "/readyz", false, METHOD_GET)                  \
    X(METRICS, "/metrics", false, METHOD_GET)                \
    X(WEBSOCKET, "/connection/websocket", false, METHOD_GET) \
    X(COMMAND, "/kith/v1/", true, METHOD_POST)               \
    X(ASSET, "/", true, METHOD_GET)

enum route {
#define API_ENUM(name, path, prefix, methods) ROUTE_##name,
    API_ROUTES(API_ENUM)
#undef API_ENUM
        ROUTES_COUNT
};

/*   HEAD --> BODY --> ANSWER --> HEAD ...      the socket is read in HEAD and BODY only   */
enum conn_state { CONN_HEAD, CONN_BODY, CONN_ANSWER };

struct api_conn {
    struct api *api;
    struct handle self;
    struct handle conn;
    enum conn_state state;
    bool keep_alive;
    bool head_begun;
    bool is_head; /* HEAD: the answer's body is left out */
    bool chunked;
    bool is_key; /* an API key: `as` in the body names the user */
    bool identified;
    bool may; /* the key's scopes hold this command */
    enum command command;
    uint64_t body_left;
    struct http1_chunked chunks;
    struct buf body;
    struct who who;
};

/* conn.c */
void conn_respond(struct api_conn *c, uint16_t status, const char *type, struct bytes body,
                  const char *headers);
void conn_error(struct api_conn *c, uint16_t status, uint32_t code, const char *field,
                struct bytes message, int64_t retry_ms);

/* routes.c */
/* Answers the request or prepares c for its body. False: the connection went to a session. */
bool route_request(struct api_conn *c, const struct http1_request *r);
void route_body(struct api_conn *c);
void route_answer(struct api_conn *c, const struct bus_answer *m);
uint16_t route_status_of(uint32_t code);

/* pages.c */
void page_respond(struct api_conn *c, const struct http1_request *r);

#endif
