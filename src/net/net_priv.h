/* net_priv: what the files of this room share: the connection and its states.
 *
 *     OPEN ---net_close, end---> FLUSHING ---all sent---> LINGERING ---their end, 5 s---> freed
 *       |                            |                        (the owner was told; nobody else
 *       +------error, slow, ...------+---> DOOMED             knows it any more)
 *                                            |
 *                                            +--end of the turn: on_close--> freed */
#ifndef NET_NET_PRIV_H
#define NET_NET_PRIV_H

#include "net/net.h"
#include <sys/socket.h>

#define CONN_BYTES_MAX       200
#define CONN_SMALL_BYTES     960
#define CONN_COPY_BYTES_MAX  16384
#define CONN_CHUNK_BLOBS     14
#define CONN_WRITE_BLOBS_MAX 64

#define CONN_STATES(X)                                                    \
    X(OPEN, "bytes flow", CONN_BIT(FLUSHING) | CONN_BIT(DOOMED))          \
    X(FLUSHING, "what is queued is sent; input is thrown away",           \
      CONN_BIT(DOOMED) | CONN_BIT(LINGERING))                             \
    X(DOOMED, "closed; its owner will be told at the end of the turn", 0) \
    X(LINGERING, "all is sent and told; waits for the other side's end", 0)

enum conn_state {
#define CONN_ENUM(name, help, to) CONN_##name,
    CONN_STATES(CONN_ENUM)
#undef CONN_ENUM
};

/* More of the output queue than its first blob. */
struct out_chunk {
    struct out_chunk *next;
    uint16_t first;
    uint16_t count;
    struct blob *blobs[CONN_CHUNK_BLOBS];
};

struct conn {
    struct watch watch;
    struct timer timer;
    struct net *net;
    const struct net_owner *owner;
    void *ctx;
    struct handle self;
    struct blob *unread; /* what the owner left; NULL = nothing */
    struct blob *out;    /* the first blob of the output queue, the rest is in chunks */
    struct out_chunk *out_first;
    struct out_chunk *out_last;
    struct conn *dirty_next;
    int64_t deadline_ns; /* OPEN: the owner's, 0 = none; else when the patience ends */
    uint32_t stalled_ms; /* OPEN and blocked: since when, counted from net->made_ms */
    uint32_t queued_bytes;
    uint32_t out_sent;  /* bytes of `out` that are sent */
    uint32_t unread_at; /* bytes of `unread` that are used */
    struct net_address from;
    unsigned state : 3;
    unsigned why : 3;
    bool paused : 1;       /* the owner wants no bytes */
    bool deaf : 1;         /* the watch does not ask for reading */
    bool blocked : 1;      /* the kernel took less than there is */
    bool ended : 1;        /* the other side sent its end */
    bool replay : 1;       /* show what is unread in the next turn */
    bool dirty : 1;        /* on the list for the end of the turn */
    bool was_high : 1;     /* the queue was over the low-water mark */
    bool tail_is_ours : 1; /* the last blob is a copy that may still grow */
    bool showing : 1;      /* inside on_data */
    bool reset : 1;        /* close with RST */
};
_Static_assert(sizeof(struct conn) <= CONN_BYTES_MAX, "an idle connection is small");

struct http_out;

struct net {
    struct engine *engine;
    struct pool conns;
    int64_t made_ms;
    size_t unread_bytes_max;
    size_t send_bytes_max;
    size_t low_water_bytes;
    int64_t stall_ms_max;
    uint32_t address_rate;
    uint32_t conns_max;

    struct turn_hook hook;
    struct conn *dirty_first;
    struct conn *dirty_last;

    struct watch listen_watch;
    struct timer listen_pause;
    struct net_listener listener;
    bool listening;
    bool listen_stopping;

    struct http_out *out;
    uint8_t block[NET_READ_BYTES]; /* every connection reads into it, one after the other */
};

/* net.c */
void conn_enter(struct conn *c, enum conn_state to);
void conn_dirty(struct conn *c); /* look at it at the end of the turn */
void conn_doom(struct conn *c, enum net_close why, bool reset);
void conn_free(struct conn *c);
void conn_flush_begin(struct conn *c, enum net_close why);
void conn_watch(struct conn *c); /* asks for what it needs now */
void conn_timer_arm(struct conn *c);
void conn_timer_fire(void *ctx);
uint32_t net_ms(const struct net *n);

/* input.c */
void conn_ready(void *ctx, uint32_t events);
void conn_replay(struct conn *c); /* shows what is unread, then the end if it has come */

/* output.c */
void conn_flush(struct conn *c); /* one write; may doom it */
void conn_out_drop(struct conn *c);

/* listen.c */
void net_listen_end(struct net *n); /* the second half of net_listen_stop */
void net_listen_close(struct net *n);
/* True, and counted, when the process may hold one more connection. */
bool conns_count_take(uint32_t conns_max);
void conns_count_give(void);

/* accept_rate.c: at most `rate` new connections a second from one address (of IPv6: from one /64),
 * `rate` of them at once. For the whole process. Pure but for its table. */
bool accept_rate_take(const uint8_t address[16], int64_t now_ns, uint32_t rate);
void accept_rate_reset(void); /* tests */

/* guard.c */
bool guard_allows(const struct sockaddr *address);
void address_from(const struct sockaddr *address, struct net_address *out);

/* http_out.c */
struct http_out *http_out_new(struct net *n);
void http_out_free(struct http_out **o);

#endif
