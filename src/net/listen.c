/* Who knocks. Every engine has a listening socket of its own on the same port (SO_REUSEPORT):
 * the kernel chooses one by the connection's hash, and no lock is shared. The trap: whoever may
 * bind with SO_REUSEPORT shares silently, so a second server would take half of the first one's
 * connections. Hence one probe without it before. */
#include "net/net_priv.h"
#include "diag/diag.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <unistd.h>

#define LISTEN_BACKLOG          4096
#define LISTEN_HOST_BYTES_MAX   256
#define LISTEN_LAST_ACCEPTS_MAX 4096

/* Connections of the whole process. */
static _Atomic uint32_t conns_count;

bool conns_count_take(uint32_t conns_max)
{
    if (atomic_fetch_add_explicit(&conns_count, 1, memory_order_relaxed) < conns_max)
        return true;
    conns_count_give();
    return false;
}

void conns_count_give(void)
{
    atomic_fetch_sub_explicit(&conns_count, 1, memory_order_relaxed);
}

/* ---- opening */

struct listen_at {
    struct sockaddr_storage address;
    socklen_t address_bytes;
};

/* Splits ADDRESS:PORT; the brackets of an IPv6 address go. */
static enum err listen_split(const char *listen, char host[LISTEN_HOST_BYTES_MAX], char port[8])
{
    const char *colon = strrchr(listen, ':');
    if (colon == NULL)
        return ERR_PROTO;
    size_t port_bytes = strlen(colon + 1);
    if (port_bytes == 0 || port_bytes > 5 || strspn(colon + 1, "0123456789") != port_bytes)
        return ERR_PROTO;
    memcpy(port, colon + 1, port_bytes + 1);
    const char *first = listen;
    size_t count = (size_t)(colon - listen);
    if (count >= 2 && first[0] == '[' && first[count - 1] == ']') {
        first++;
        count -= 2;
    } else if (memchr(first, ':', count) != NULL) {
        return ERR_PROTO; /* an IPv6 address needs brackets, or its end could be a port */
    }
    if (count >= LISTEN_HOST_BYTES_MAX)
        return ERR_PROTO;
    memcpy(host, first, count);
    host[count] = '\0';
    return ERR_OK;
}

static enum err listen_resolve(const char *listen, struct listen_at *out, const char **why_out)
{
    char host[LISTEN_HOST_BYTES_MAX];
    char port[8];
    *why_out = "not ADDRESS:PORT";
    if (listen_split(listen, host, port) != ERR_OK)
        return ERR_PROTO;
    unsigned long number = 0;
    for (const char *digit = port; *digit != '\0'; digit++)
        number = number * 10 + (unsigned long)(*digit - '0');
    *why_out = "ports go from 0 to 65535";
    if (number > 65535)
        return ERR_PROTO;
    struct addrinfo hints = {.ai_family = host[0] == '\0' ? AF_INET : AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(host[0] == '\0' ? NULL : host, port, &hints, &found);
    if (failed != 0) {
        *why_out = gai_strerror(failed);
        return ERR_PROTO;
    }
    memcpy(&out->address, found->ai_addr, found->ai_addrlen);
    out->address_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return ERR_OK;
}

static bool listen_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

/* A bound socket, or -1 with errno. What accepted sockets inherit (TCP_NODELAY) is set here,
 * once. */
static int listen_bind(const struct listen_at *at, bool shared)
{
    int fd = socket(at->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    bool good =
        listen_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
        (!shared || listen_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) &&
        listen_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
        (at->address.ss_family != AF_INET6 || listen_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0));
    if (good && bind(fd, (const struct sockaddr *)&at->address, at->address_bytes) == 0)
        return fd;
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}

static uint16_t listen_port(const struct listen_at *at)
{
    struct net_address address;
    address_from((const struct sockaddr *)&at->address, &address);
    return address.port;
}

/* True when nobody is there. With SO_REUSEADDR alone, binding fails beside any listening socket,
 * and only beside a listening one. */
static bool listen_probe(const struct listen_at *at)
{
    int fd = listen_bind(at, false);
    if (fd < 0)
        return false;
    bool is_free = listen(fd, 1) == 0;
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return is_free;
}

static enum err listen_open_all(struct listen_at *at, int *fds, uint32_t fds_count)
{
    if (listen_port(at) != 0 && !listen_probe(at))
        return ERR_IO;
    for (uint32_t i = 0; i < fds_count; i++) {
        int fd = listen_bind(at, true);
        if (fd >= 0 && listen(fd, LISTEN_BACKLOG) == 0 &&
            getsockname(fd, (struct sockaddr *)&at->address, &at->address_bytes) == 0) {
            fds[i] = fd;
            continue;
        }
        int saved = errno;
        if (fd >= 0)
            (void)close(fd);
        while (i > 0)
            (void)close(fds[--i]);
        errno = saved;
        return ERR_IO;
    }
    return ERR_OK;
}

enum err net_listen_open(const char *listen, int *fds, uint32_t fds_count, uint16_t *port_out,
                         struct buf *message)
{
    CHECK(fds_count > 0);
    CHECK(fds_count <= ENGINES_MAX);
    struct listen_at at = {.address_bytes = sizeof(at.address)};
    const char *why = NULL;
    int opened[ENGINES_MAX];
    enum err err = listen_resolve(listen, &at, &why);
    if (err == ERR_OK) {
        err = listen_open_all(&at, opened, fds_count);
        if (err != ERR_OK)
            why = strerror(errno);
    }
    if (err != ERR_OK) {
        buf_printf(message, "listen: %s: %s", listen, why);
        return err;
    }
    memcpy(fds, opened, sizeof(opened[0]) * fds_count);
    *port_out = listen_port(&at);
    return ERR_OK;
}

/* ---- accepting */

/* No TIME_WAIT for those who are not let in: there may be very many. */
static void accept_refuse(int fd)
{
    struct linger off = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)); /* else a polite close */
    (void)close(fd);
}

static void accept_take(struct net *n, int fd, const struct net_address *from)
{
    struct handle self;
    struct conn *c = pool_new(&n->conns, &self);
    if (c != NULL && watch_set(n->engine, &c->watch, fd, ENGINE_READ, conn_ready, c) != ERR_OK) {
        pool_free(&n->conns, self);
        c = NULL;
    }
    if (c == NULL) {
        DIAG_COUNT(connections_refused);
        conns_count_give();
        accept_refuse(fd);
        return;
    }
    c->net = n;
    c->self = self;
    c->from = *from;
    timer_init(&c->timer, conn_timer_fire, c);
    DIAG_COUNT(connections_accepted);
    DIAG_GAUGE_BY(connections, 1);
    n->listener.on_accept(n->listener.ctx, self, &c->from);
    arena_reset(engine_turn(n->engine));
    if (c->owner == NULL && c->state == CONN_OPEN)
        conn_doom(c, NET_LOCAL, true);
}

static void accept_one(struct net *n, int fd, const struct sockaddr *address)
{
    struct net_address from;
    address_from(address, &from);
    if (!accept_rate_take(from.bytes, engine_now(n->engine).ns, n->address_rate)) {
        DIAG_COUNT(connections_rate_refused);
        accept_refuse(fd);
    } else if (!conns_count_take(n->conns_max)) {
        DIAG_COUNT(connections_refused);
        accept_refuse(fd);
    } else {
        accept_take(n, fd, &from);
    }
}

/* Answers how the last accept went: 0, or its errno. */
static int accept_some(struct net *n, uint32_t accepts_max)
{
    for (uint32_t i = 0; i < accepts_max; i++) {
        struct sockaddr_storage address;
        socklen_t bytes = sizeof(address);
        int fd = accept4(n->listen_watch.fd, (struct sockaddr *)&address, &bytes,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            accept_one(n, fd, (const struct sockaddr *)&address);
        else if (errno == EAGAIN || errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                 errno == ENOMEM)
            return errno;
        /* Else this one connection died before it was accepted: the next. */
    }
    return 0;
}

static void listen_ready(void *ctx, uint32_t events)
{
    struct net *n = ctx;
    (void)events;
    int error = accept_some(n, NET_ACCEPTS_PER_TURN);
    if (error == 0 || error == EAGAIN)
        return;
    DIAG_COUNT(accept_paused);
    diag_log(DIAG_WARN, "accept_paused", "errno=%d ms=%d connections=%u", error,
             NET_ACCEPT_PAUSE_MS, net_connections(n));
    watch_change(n->engine, &n->listen_watch, 0);
    timer_set(n->engine, &n->listen_pause,
              mono_after_ms(engine_now(n->engine), NET_ACCEPT_PAUSE_MS));
}

static void listen_resume(void *ctx)
{
    struct net *n = ctx;
    watch_change(n->engine, &n->listen_watch, ENGINE_READ);
}

void net_listen(struct net *n, int fd, struct net_listener l)
{
    CHECK(!n->listening);
    CHECK(l.on_accept != NULL);
    n->listener = l;
    timer_init(&n->listen_pause, listen_resume, n);
    enum err err = watch_set(n->engine, &n->listen_watch, fd, ENGINE_READ, listen_ready, n);
    CHECK(err == ERR_OK); /* at the start: a server that cannot watch its door must not run */
    n->listening = true;
}

void net_listen_stop(struct net *n)
{
    if (!n->listening || n->listen_stopping)
        return;
    n->listen_stopping = true;
    timer_clear(n->engine, &n->listen_pause);
    watch_change(n->engine, &n->listen_watch, 0); /* the end of the turn takes the last ones */
    engine_at_turn_end(n->engine, &n->hook);
}

void net_listen_end(struct net *n)
{
    /* Those who have connected would be reset by the close. */
    (void)accept_some(n, LISTEN_LAST_ACCEPTS_MAX);
    net_listen_close(n);
}

void net_listen_close(struct net *n)
{
    if (!n->listening)
        return;
    n->listening = false;
    n->listen_stopping = false;
    timer_clear(n->engine, &n->listen_pause);
    watch_clear(n->engine, &n->listen_watch);
    (void)close(n->listen_watch.fd); /* a listening socket has nothing to lose */
}
