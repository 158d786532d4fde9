/* net: byte streams. Listen, accept, limits; HTTP requests out (libcurl multi on the engine).
 *
 * Owner   : one `struct net` per engine. Connections and requests are its slots, named by handle.
 * Thread  : the engine's. net_listen_open: main, before the start.
 * Memory  : an idle connection owns no buffer: bytes are read into the engine's one read block and
 *           what a callback leaves unread is kept in a borrowed blob until it is used up. Output is
 *           a queue of blob references, joined into one writev at the end of the turn.
 * Errors  : on_close names the reason. Nothing is reported inside the call that caused it: what a
 *           call sets off is told at the end of the turn or later.
 * Limits  : limits.connections and limits.connections_per_address hold for the whole process;
 *           limits.send, limits.send_stall. Unread bytes: limits.frame + NET_UNREAD_SLACK_BYTES;
 *           per turn NET_READ_BYTES of a connection and NET_ACCEPTS_PER_TURN new ones. Out of
 *           descriptors: accepting pauses 100 ms, it does not spin.
 * Source  : SO_REUSEPORT, one listener per engine; TCP_NODELAY; closing waits for the other side's
 *           end (RFC 9112 9.6), so that the last bytes are not lost to a reset. */
#ifndef NET_NET_H
#define NET_NET_H

#include "base/base.h"
#include "base/blob.h"
#include "base/pool.h"
#include "config/config.h"
#include "engine/engine.h"

#define NET_READ_BYTES         65536
#define NET_UNREAD_SLACK_BYTES 65536
#define NET_ACCEPTS_PER_TURN   64
#define NET_ACCEPT_PAUSE_MS    100
#define NET_CLOSE_MS           5000

struct net;

enum net_close {
    NET_PEER,    /* the other side reset, or said its end and was sent what was queued */
    NET_LOCAL,   /* net_close was called and everything was sent, or it said `now` */
    NET_SLOW,    /* output over limits.send, stalled for limits.send_stall, or not sent in 5 s */
    NET_TIMEOUT, /* the owner's timeout (net_deadline) passed */
    NET_ERROR    /* out of memory, or more was left unread than is allowed */
};
const char *net_close_name(enum net_close why);

struct net_address {
    uint8_t bytes[16]; /* IPv4 mapped */
    uint16_t port;
    bool is_loopback;
};

/* What a connection's owner gives. All run in the engine's thread, in a turn of their own or of the
 * descriptor. */
struct net_owner {
    /* `at[0..count)` is everything unread, writable in place. Returns how many bytes were used;
     * the rest is kept and shown again: in front of what comes next; in the next turn when another
     * owner took over meanwhile; after net_read_pause(false). May call any net_ function. */
    size_t (*on_data)(void *ctx, struct handle conn, uint8_t *at, size_t count);
    /* The output queue fell under the low-water mark (half of limits.send_ephemeral) after it had
     * been above it. May be NULL. */
    void (*on_drained)(void *ctx, struct handle conn);
    /* Last call for this connection; its handle is stale afterwards. */
    void (*on_close)(void *ctx, struct handle conn, enum net_close why);
};

/* Called for each new connection; answers its owner and ctx by net_own (else it is closed). */
struct net_listener {
    void (*on_accept)(void *ctx, struct handle conn, const struct net_address *from);
    void *ctx;
};

/* Opens one SO_REUSEPORT socket for every engine (so that none swallows connections). Port 0:
 * the first picks, the rest share; *port_out is what it is. `fds` gets one per engine. `listen`
 * is ADDRESS:PORT, NAME:PORT, [IPV6]:PORT or :PORT (all addresses). ERR_PROTO: not such a text;
 * ERR_IO: the system says no, also when anybody else listens there. `message` gets one line. */
enum err net_listen_open(const char *listen, int *fds, uint32_t fds_count, uint16_t *port_out,
                         struct buf *message) MUST_USE;

struct net *net_make(struct engine *e, const struct config *c); /* NULL: out of memory */
void net_free(struct net **n); /* closes everything; nobody is called */
/* Takes the descriptor. One listener per net. */
void net_listen(struct net *n, int fd, struct net_listener l);
/* Takes what has connected already, then closes the listening socket of this engine: at the end of
 * this turn. */
void net_listen_stop(struct net *n);

void net_own(struct net *n, struct handle conn, const struct net_owner *owner, void *ctx);

/* Adds to the output queue; sent at the end of the turn. Takes a reference of its own: the
 * caller keeps his. False: the connection is gone, is being closed, or was closed as slow
 * (on_close follows). One blob may be larger than limits.send when nothing else waits. */
bool net_send(struct net *n, struct handle conn, struct blob *b);
/* The same for bytes that are copied (small things). */
bool net_send_copy(struct net *n, struct handle conn, struct bytes b);
size_t net_queued_bytes(struct net *n, struct handle conn);

/* Stop and restart reading (back-pressure on the client). A restart shows what is unread in the
 * next turn, even when it was not stopped. The other side's end is not seen while stopped: it
 * gets its answers first. A reset is. */
void net_read_pause(struct net *n, struct handle conn, bool paused);
/* on_close(NET_TIMEOUT) unless set again or cleared (at.ns = 0) before. */
void net_deadline(struct net *n, struct handle conn, struct mono at);
/* Sends what is queued, then closes; at most 5 s. Nothing is read for the owner any more. `now`
 * = drop the queue and reset. */
void net_close(struct net *n, struct handle conn, bool now);
/* NULL when the connection is gone. Also inside on_close. */
const struct net_address *net_peer(struct net *n, struct handle conn);
uint32_t net_connections(const struct net *n);

/* --- HTTP out ------------------------------------------------------------------------------- */

struct http_out_request {
    const char *url;            /* copied */
    const char *const *headers; /* "Name: value", NULL-terminated, copied; may be NULL */
    struct blob *body;          /* POST when not NULL (takes a reference of its own); else GET */
    int64_t connect_ms;
    int64_t total_ms; /* 0 = none: the caller minds its own deadlines */
    bool guarded;     /* refuse private addresses (webhooks); backends are not */
};

enum http_out_error {
    HTTP_OUT_OK,
    HTTP_OUT_REFUSED, /* nobody listens, no route, DNS says no */
    HTTP_OUT_RESET,   /* the connection ended before the answer did */
    HTTP_OUT_TIMEOUT,
    HTTP_OUT_TLS,
    HTTP_OUT_GUARD, /* the address is not allowed */
    HTTP_OUT_OTHER
};
const char *http_out_error_name(enum http_out_error e);

struct http_out_owner {
    /* The final status line and headers are in. `retry_after_ms` is -1 when not given. */
    void (*on_head)(void *ctx, uint16_t status, struct bytes content_type, int64_t retry_after_ms);
    /* A piece of the body, decoded from chunks. */
    void (*on_body)(void *ctx, struct bytes piece);
    /* Last call. `error` OK means that the body ended as announced. */
    void (*on_done)(void *ctx, enum http_out_error error, const char *detail);
};

/* Redirects are never followed; HTTP/1.1; http and https only; no Expect, no proxy, no signals;
 * bodies come as they were sent (no decompression). A kept connection that turns out to be
 * closed is replaced silently as long as nothing was answered. ERR_FULL: more than HTTP_OUT_MAX
 * at once, or out of memory. A URL that is none ends in on_done. */
#define HTTP_OUT_MAX 16384
enum err http_out_start(struct net *n, const struct http_out_request *r,
                        const struct http_out_owner *owner, void *ctx, struct handle *out) MUST_USE;
/* Ends it without further calls; the connection to the upstream is closed in this turn. Safe inside
 * the owner's callbacks; nothing when it has ended. */
void http_out_cancel(struct net *n, struct handle request);
uint32_t http_out_count(const struct net *n);

#endif
