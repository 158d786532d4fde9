/* Connections: who owns them, when they end. What is decided during a turn is carried out at its
 * end (net_turn_end): writes, goodbyes, the owner's on_close. */
#include "net/net_priv.h"
#include "base/mem.h"
#include "diag/diag.h"

#include <unistd.h>

const char *net_close_name(enum net_close why)
{
    switch (why) {
    case NET_PEER: return "peer";
    case NET_LOCAL: return "local";
    case NET_SLOW: return "slow";
    case NET_TIMEOUT: return "timeout";
    case NET_ERROR: return "error";
    }
    return "unknown";
}

uint32_t net_ms(const struct net *n)
{
    return (uint32_t)(engine_now(n->engine).ns / 1000000 - n->made_ms);
}

/* ---- states */

#define CONN_BIT(name) (1u << CONN_##name)
static const unsigned conn_moves[] = {
#define CONN_MOVES(name, help, to) [CONN_##name] = (to),
    CONN_STATES(CONN_MOVES)
#undef CONN_MOVES
};

void conn_enter(struct conn *c, enum conn_state to)
{
    CHECK((conn_moves[c->state] & (1u << to)) != 0);
    c->state = (unsigned)to & 7u;
}

void conn_dirty(struct conn *c)
{
    struct net *n = c->net;
    if (c->dirty)
        return;
    c->dirty = true;
    c->dirty_next = NULL;
    if (n->dirty_first == NULL)
        n->dirty_first = c;
    else
        n->dirty_last->dirty_next = c;
    n->dirty_last = c;
    engine_at_turn_end(n->engine, &n->hook);
}

void conn_doom(struct conn *c, enum net_close why, bool reset)
{
    conn_enter(c, CONN_DOOMED);
    c->why = (unsigned)why & 7u;
    c->reset = reset;
    conn_out_drop(c);
    blob_unref(&c->unread);
    watch_clear(c->net->engine, &c->watch);
    timer_clear(c->net->engine, &c->timer);
    conn_dirty(c);
}

void conn_free(struct conn *c)
{
    struct net *n = c->net;
    CHECK(!c->dirty);
    conn_out_drop(c);
    blob_unref(&c->unread);
    watch_clear(n->engine, &c->watch);
    timer_clear(n->engine, &c->timer);
    if (c->reset) {
        /* Linger 0 makes close() send RST. If it fails, the close is merely a polite one. */
        struct linger off = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(c->watch.fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
    }
    (void)close(c->watch.fd); /* a socket: what it could report was reported by writing */
    c->watch.fd = -1;
    DIAG_GAUGE_BY(connections, -1);
    conns_count_give();
    pool_free(&n->conns, c->self);
}

void conn_flush_begin(struct conn *c, enum net_close why)
{
    conn_enter(c, CONN_FLUSHING);
    c->why = (unsigned)why & 7u;
    blob_unref(&c->unread);
    c->deadline_ns = mono_after_ms(engine_now(c->net->engine), NET_CLOSE_MS).ns;
    conn_watch(c);
    conn_timer_arm(c);
    conn_dirty(c);
}

void conn_watch(struct conn *c)
{
    uint32_t wants = 0;
    if (c->state != CONN_OPEN)
        c->deaf = false; /* input is read to its end, and thrown away */
    if (!c->deaf && !c->ended)
        wants |= ENGINE_READ;
    if (c->blocked)
        wants |= ENGINE_WRITE;
    watch_change(c->net->engine, &c->watch, wants);
}

/* ---- time: one timer for the owner's deadline, the stall of the output and the goodbye. It is
 * moved forward only; when it fires too early it is armed again. */

static int64_t conn_stall_ns(const struct conn *c)
{
    const struct net *n = c->net;
    int64_t waited_ms = (int64_t)(uint32_t)(net_ms(n) - c->stalled_ms);
    return mono_after_ms(engine_now(n->engine), n->stall_ms_max - waited_ms).ns;
}

void conn_timer_arm(struct conn *c)
{
    struct engine *e = c->net->engine;
    int64_t at_ns = INT64_MAX;
    if (c->deadline_ns != 0)
        at_ns = c->deadline_ns;
    if (c->state == CONN_OPEN && c->blocked)
        at_ns = i64_min(at_ns, conn_stall_ns(c));
    if (c->replay)
        at_ns = 0;
    if (at_ns != INT64_MAX && (!timer_is_set(&c->timer) || c->timer.at.ns > at_ns))
        timer_set(e, &c->timer, (struct mono){at_ns});
}

void conn_timer_fire(void *ctx)
{
    struct conn *c = ctx;
    int64_t now_ns = engine_now(c->net->engine).ns;
    bool late = c->deadline_ns != 0 && now_ns >= c->deadline_ns;
    switch ((enum conn_state)c->state) {
    case CONN_OPEN:
        if (late) {
            conn_doom(c, NET_TIMEOUT, false);
            return;
        }
        if (c->blocked && now_ns >= conn_stall_ns(c)) {
            conn_doom(c, NET_SLOW, true);
            return;
        }
        if (c->replay)
            conn_replay(c);
        break;
    case CONN_FLUSHING:
        if (late) {
            conn_doom(c, c->why == NET_PEER ? NET_PEER : NET_SLOW, true);
            return;
        }
        break;
    case CONN_LINGERING:
        if (late) {
            conn_free(c);
            return;
        }
        break;
    case CONN_DOOMED: return;
    }
    if (c->state != CONN_DOOMED)
        conn_timer_arm(c);
}

/* ---- the end of the turn */

static void conn_goodbye(struct conn *c)
{
    if (c->owner != NULL)
        c->owner->on_close(c->ctx, c->self, (enum net_close)c->why);
    c->owner = NULL;
    arena_reset(engine_turn(c->net->engine)); /* the next connection's owner starts afresh */
}

/* Everything is sent: our end is said, the owner is told. */
static void conn_flushed(struct conn *c)
{
    if (c->ended || shutdown(c->watch.fd, SHUT_WR) != 0) {
        conn_goodbye(c);
        conn_free(c);
        return;
    }
    conn_enter(c, CONN_LINGERING);
    conn_watch(c);
    conn_timer_arm(c);
    conn_goodbye(c);
}

static void conn_turn_end(struct conn *c)
{
    struct net *n = c->net;
    if (c->queued_bytes > 0 && !c->blocked)
        conn_flush(c);
    c->dirty = false; /* not before: the flush must not put it on the list again */
    if (c->state == CONN_DOOMED) {
        conn_goodbye(c);
        conn_free(c);
    } else if (c->state == CONN_FLUSHING && c->queued_bytes == 0) {
        conn_flushed(c);
    } else if (c->state == CONN_OPEN && c->was_high && c->queued_bytes < n->low_water_bytes) {
        c->was_high = false;
        if (c->owner->on_drained != NULL)
            c->owner->on_drained(c->ctx, c->self);
        arena_reset(engine_turn(n->engine));
    }
}

static struct conn *net_dirty_pop(struct net *n)
{
    struct conn *c = n->dirty_first;
    n->dirty_first = c->dirty_next;
    if (n->dirty_first == NULL)
        n->dirty_last = NULL;
    c->dirty_next = NULL;
    return c;
}

/* Those that become dirty meanwhile come in the next round of hooks: the mark of the last one of
 * this round keeps an owner that sends in on_drained from holding it up. */
static void net_turn_end(void *ctx)
{
    struct net *n = ctx;
    const struct conn *last = n->dirty_last;
    bool more = last != NULL;
    while (more) {
        struct conn *c = net_dirty_pop(n);
        more = c != last && n->dirty_first != NULL;
        conn_turn_end(c);
    }
    if (n->listen_stopping)
        net_listen_end(n);
    if (n->dirty_first != NULL)
        engine_at_turn_end(n->engine, &n->hook);
}

/* ---- the room */

struct net *net_make(struct engine *e, const struct config *c)
{
    struct net *n = mem_new_zero(sizeof(*n));
    if (n == NULL)
        return NULL;
    n->engine = e;
    n->made_ms = engine_now(e).ns / 1000000;
    n->unread_bytes_max = (size_t)c->frame_bytes_max + NET_UNREAD_SLACK_BYTES;
    n->send_bytes_max = (size_t)c->send_bytes_max;
    n->low_water_bytes = (size_t)c->send_ephemeral_bytes_max / 2;
    n->stall_ms_max = c->send_stall_ms;
    n->address_rate = (uint32_t)c->connections_address_rate;
    n->conns_max = (uint32_t)c->connections_max;
    n->hook = (struct turn_hook){.run = net_turn_end, .ctx = n};
    if (pool_init(&n->conns, sizeof(struct conn), n->conns_max) != ERR_OK) {
        mem_free(n);
        return NULL;
    }
    n->out = http_out_new(n);
    if (n->out == NULL)
        net_free(&n);
    return n;
}

void net_free(struct net **n)
{
    struct net *mine = *n;
    *n = NULL;
    if (mine == NULL)
        return;
    http_out_free(&mine->out);
    net_listen_close(mine);
    list_remove(&mine->hook.link);
    uint32_t index = 0;
    struct handle h;
    for (struct conn *c = pool_next(&mine->conns, &index, &h); c != NULL;
         c = pool_next(&mine->conns, &index, &h)) {
        c->dirty = false;
        conn_free(c);
    }
    pool_fini(&mine->conns);
    mem_free(mine);
}

/* ---- what owners call */

static struct conn *conn_open(struct net *n, struct handle h)
{
    struct conn *c = pool_get(&n->conns, h);
    return c != NULL && c->state == CONN_OPEN ? c : NULL;
}

void net_own(struct net *n, struct handle conn, const struct net_owner *owner, void *ctx)
{
    struct conn *c = conn_open(n, conn);
    if (c == NULL)
        return;
    CHECK(owner->on_data != NULL);
    CHECK(owner->on_close != NULL);
    c->owner = owner;
    c->ctx = ctx;
    if (c->unread != NULL || c->showing) {
        c->replay = true;
        conn_timer_arm(c);
    }
}

void net_read_pause(struct net *n, struct handle conn, bool paused)
{
    struct conn *c = conn_open(n, conn);
    if (c == NULL)
        return;
    c->paused = paused;
    /* The watch is told only when bytes come although nobody wants them (conn_ready): most
     * pauses are over before. */
    if (paused)
        return;
    if (c->deaf) {
        c->deaf = false;
        conn_watch(c);
    }
    if (c->unread != NULL || c->ended || c->showing) {
        c->replay = true;
        conn_timer_arm(c);
    }
}

void net_deadline(struct net *n, struct handle conn, struct mono at)
{
    struct conn *c = conn_open(n, conn);
    if (c == NULL)
        return;
    c->deadline_ns = at.ns;
    conn_timer_arm(c);
}

void net_close(struct net *n, struct handle conn, bool now)
{
    struct conn *c = pool_get(&n->conns, conn);
    if (c == NULL || (c->state != CONN_OPEN && c->state != CONN_FLUSHING))
        return;
    if (now)
        conn_doom(c, NET_LOCAL, true);
    else if (c->state == CONN_OPEN)
        conn_flush_begin(c, NET_LOCAL);
}

const struct net_address *net_peer(struct net *n, struct handle conn)
{
    const struct conn *c = pool_get(&n->conns, conn);
    return c != NULL && (c->owner != NULL || c->state == CONN_OPEN) ? &c->from : NULL;
}

size_t net_queued_bytes(struct net *n, struct handle conn)
{
    const struct conn *c = conn_open(n, conn);
    return c == NULL ? 0 : c->queued_bytes;
}

uint32_t net_connections(const struct net *n)
{
    return n->conns.used_count;
}
