/* net_stage_priv: what the tests of this room play on: one engine, one net, real sockets on
 * loopback, all in one thread, turn by turn. */
#ifndef NET_NET_STAGE_PRIV_H
#define NET_NET_STAGE_PRIV_H

#include "base/mem.h"
#include "diag/diag.h"
#include "net/net_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#define STAGE_STEPS_MAX  5000
#define STAGE_HOSTS_MAX  64
#define STAGE_TEXT_BYTES (4u << 20)

/* The server's side of one connection. */
struct host {
    struct handle conn;
    struct net_address from;
    uint8_t *text; /* everything on_data used */
    size_t text_count;
    size_t calls;
    size_t shown_max; /* most bytes in one call */
    size_t use_max;   /* uses at most so many of each call; SIZE_MAX = all */
    size_t drained;
    size_t closes;
    enum net_close why;
    bool echo;
    /* Runs inside on_data before anything else. */
    void (*inside)(struct host *h, uint8_t *at, size_t count);
};

static struct stage {
    struct engine *engine;
    struct net *net;
    struct config config;
    uint16_t port;
    int listen_fd;
    struct host hosts[STAGE_HOSTS_MAX];
    size_t hosts_count;
    void (*accepted)(struct host *h); /* may be NULL */
} stage;

#define UNTIL(condition)                                                      \
    do {                                                                      \
        for (int step_ = 0; step_ < STAGE_STEPS_MAX && !(condition); step_++) \
            engine_step(stage.engine, 2);                                     \
        assert_true(condition);                                               \
    } while (0)

static inline size_t host_on_data(void *ctx, struct handle conn, uint8_t *at, size_t count)
{
    struct host *h = ctx;
    assert_true(handle_equal(conn, h->conn));
    assert_int_equal(h->closes, 0);
    h->calls++;
    h->shown_max = size_max(h->shown_max, count);
    if (h->inside != NULL)
        h->inside(h, at, count);
    size_t used = size_min(count, h->use_max);
    assert_true(h->text_count + used <= STAGE_TEXT_BYTES);
    memcpy(h->text + h->text_count, at, used);
    h->text_count += used;
    if (h->echo)
        (void)net_send_copy(stage.net, conn, bytes_make(at, used));
    memset(at, 0xee, used); /* the bytes are the owner's to change */
    return used;
}

static inline void host_on_drained(void *ctx, struct handle conn)
{
    struct host *h = ctx;
    assert_true(handle_equal(conn, h->conn));
    h->drained++;
}

static inline void host_on_close(void *ctx, struct handle conn, enum net_close why)
{
    struct host *h = ctx;
    assert_true(handle_equal(conn, h->conn));
    assert_non_null(net_peer(stage.net, conn));
    assert_false(net_send_copy(stage.net, conn, bytes_of("too late")));
    h->closes++;
    h->why = why;
}

static const struct net_owner host_owner = {host_on_data, host_on_drained, host_on_close};

static inline void stage_on_accept(void *ctx, struct handle conn, const struct net_address *from)
{
    struct stage *s = ctx;
    assert_true(s->hosts_count < STAGE_HOSTS_MAX);
    struct host *h = &s->hosts[s->hosts_count];
    s->hosts_count++;
    h->conn = conn;
    h->from = *from;
    h->use_max = SIZE_MAX;
    h->text = mem_new(STAGE_TEXT_BYTES);
    assert_non_null(h->text);
    net_own(s->net, conn, &host_owner, h);
    if (s->accepted != NULL)
        s->accepted(h);
}

static inline void stage_open(void)
{
    char text[256];
    struct buf message;
    buf_init_fixed(&message, text, sizeof(text));
    assert_int_equal(engines_make(1, 7), ERR_OK);
    stage.engine = engine_at(0);
    assert_int_equal(net_listen_open("127.0.0.1:0", &stage.listen_fd, 1, &stage.port, &message),
                     ERR_OK);
    stage.net = net_make(stage.engine, &stage.config);
    assert_non_null(stage.net);
    net_listen(stage.net, stage.listen_fd, (struct net_listener){stage_on_accept, &stage});
}

static inline int stage_make(void **state)
{
    (void)state;
    memset(&stage, 0, sizeof(stage));
    stage.config.connections_max = 100;
    stage.config.connections_address_rate = 1000000;
    stage.config.frame_bytes_max = 65536;
    stage.config.send_ephemeral_bytes_max = 16384;
    stage.config.send_bytes_max = 262144;
    stage.config.send_stall_ms = 30000;
    accept_rate_reset();
    stage_open();
    return 0;
}

static inline int stage_unmake(void **state)
{
    (void)state;
    net_free(&stage.net);
    assert_null(stage.net);
    for (size_t i = 0; i < stage.hosts_count; i++)
        mem_free(stage.hosts[i].text);
    engines_free();
    return mem_used_bytes() == 0 && diag_gauge_sum(DIAG_G_connections) == 0 ? 0 : -1;
}

/* A connected client socket that does not block. `receive_bytes` 0 = the system's buffer. */
static inline int client_connect(int receive_bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (receive_bytes > 0)
        assert_int_equal(
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes)), 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(stage.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* A client and the host it got. */
static inline struct host *client_open(int *fd_out)
{
    size_t before = stage.hosts_count;
    *fd_out = client_connect(0);
    UNTIL(stage.hosts_count > before);
    return &stage.hosts[before];
}

static inline void client_send(int fd, const void *at, size_t count)
{
    assert_int_equal(send(fd, at, count, MSG_NOSIGNAL), (ssize_t)count);
}

static inline void client_reset(int fd)
{
    struct linger off = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)), 0);
    close(fd);
}

/* Steps until `count` bytes are read. */
static inline void client_receive(int fd, void *at, size_t count)
{
    size_t have = 0;
    for (int step = 0; step < STAGE_STEPS_MAX && have < count; step++) {
        ssize_t got = recv(fd, (uint8_t *)at + have, count - have, 0);
        if (got > 0) {
            have += (size_t)got;
            continue;
        }
        assert_true(got < 0 && errno == EAGAIN);
        engine_step(stage.engine, 2);
    }
    assert_int_equal(have, count);
}

/* Steps until the end is seen, throwing bytes away: 0, or the errno of a reset. */
static inline int client_end(int fd)
{
    uint8_t block[4096];
    for (int step = 0; step < STAGE_STEPS_MAX; step++) {
        ssize_t got = recv(fd, block, sizeof(block), 0);
        if (got == 0)
            return 0;
        if (got < 0 && errno != EAGAIN)
            return errno;
        if (got < 0)
            engine_step(stage.engine, 2);
    }
    fail();
    return -1;
}

/* A small send buffer, so that output blocks early. */
static inline void host_narrow(const struct host *h)
{
    int bytes = 4096;
    const struct conn *c = pool_get(&stage.net->conns, h->conn);
    assert_non_null(c);
    assert_int_equal(setsockopt(c->watch.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
}

static inline struct host *client_open_narrow(int *fd_out)
{
    size_t before = stage.hosts_count;
    *fd_out = client_connect(4096);
    UNTIL(stage.hosts_count > before);
    host_narrow(&stage.hosts[before]);
    return &stage.hosts[before];
}

/* Sends copies of 4 KiB, a turn each, until `bytes` wait in the queue. */
static inline void host_fill(const struct host *h, size_t bytes)
{
    static const uint8_t piece[4096];
    for (int i = 0; i < STAGE_STEPS_MAX && net_queued_bytes(stage.net, h->conn) < bytes; i++) {
        assert_true(net_send_copy(stage.net, h->conn, bytes_make(piece, sizeof(piece))));
        engine_step(stage.engine, 0);
    }
    assert_true(net_queued_bytes(stage.net, h->conn) >= bytes);
}

#endif
