/* What comes in. Bytes are read behind what the owner left unread: with nothing left, straight
 * into the one block of the room, so that most connections never own a buffer:
 *
 *     readv ->  | unread blob: used, left, room | -> | the room's block |
 *
 * The blob grows by what really came, never ahead of it. */
#include "net/net_priv.h"
#include "diag/diag.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#define UNREAD_BYTES_MIN 256u

/* What the owner did not use of bytes that lie in the block. */
static void conn_keep(struct conn *c, const uint8_t *at, size_t count)
{
    c->unread = blob_new(size_max(count, UNREAD_BYTES_MIN));
    if (c->unread == NULL) {
        conn_doom(c, NET_ERROR, false);
        return;
    }
    memcpy(c->unread->at, at, count);
    c->unread->count = (uint32_t)count;
    c->unread_at = 0;
}

static void conn_show(struct conn *c, uint8_t *at, size_t count)
{
    bool from_blob = c->unread != NULL;
    const struct net_owner *owner = c->owner;
    c->replay = false;
    c->showing = true;
    size_t used = owner->on_data(c->ctx, c->self, at, count);
    c->showing = false;
    CHECK(used <= count);
    if (c->state != CONN_OPEN)
        return; /* and what was unread is gone */
    size_t left = count - used;
    /* Asking for the same bytes again without using any would go on for ever. */
    if (left == 0 || (used == 0 && c->owner == owner))
        c->replay = false;
    if (left == 0) {
        blob_unref(&c->unread);
    } else if (left > c->net->unread_bytes_max) {
        conn_doom(c, NET_ERROR, false);
    } else if (from_blob) {
        c->unread_at += (uint32_t)used;
    } else {
        conn_keep(c, at + used, left);
    }
}

/* The bytes in front are used up: the rest moves there when that is cheaper than growing. */
static void conn_unread_compact(struct conn *c)
{
    struct blob *b = c->unread;
    size_t left = b->count - c->unread_at;
    if (c->unread_at < left)
        return;
    memmove(b->at, b->at + c->unread_at, left);
    b->count = (uint32_t)left;
    c->unread_at = 0;
}

/* Behind the blob's own bytes, those that landed in the block. */
static bool conn_unread_append(struct conn *c, const uint8_t *at, size_t count)
{
    if (count == 0)
        return true;
    size_t whole = c->unread->count + count;
    size_t wish =
        size_max(whole, size_min((size_t)c->unread->capacity * 2, whole + NET_READ_BYTES));
    if (blob_resize(&c->unread, wish) != ERR_OK)
        return false;
    memcpy(c->unread->at + c->unread->count, at, count);
    c->unread->count = (uint32_t)whole;
    return true;
}

/* As read(): the bytes that came, 0 at the end, -1. */
static ssize_t conn_receive(struct conn *c)
{
    struct net *n = c->net;
    if (c->unread == NULL)
        return read(c->watch.fd, n->block, sizeof(n->block));
    conn_unread_compact(c);
    struct blob *b = c->unread;
    size_t room = b->capacity - b->count;
    struct iovec parts[2] = {{b->at + b->count, room}, {n->block, sizeof(n->block)}};
    ssize_t got = readv(c->watch.fd, parts, 2);
    if (got <= 0)
        return got;
    size_t in_blob = size_min((size_t)got, room);
    b->count += (uint32_t)in_blob;
    if (!conn_unread_append(c, n->block, (size_t)got - in_blob)) {
        conn_doom(c, NET_ERROR, false);
        return got;
    }
    return got;
}

/* The other side's end counts when its bytes were shown and nobody asked for more time. */
static void conn_end(struct conn *c)
{
    if (c->ended && c->state == CONN_OPEN && !c->replay && !c->paused)
        conn_flush_begin(c, NET_PEER);
}

void conn_replay(struct conn *c)
{
    c->replay = false;
    if (c->paused)
        return;
    if (c->unread != NULL) {
        conn_show(c, c->unread->at + c->unread_at, c->unread->count - c->unread_at);
    }
    conn_end(c);
}

static void conn_read(struct conn *c)
{
    struct net *n = c->net;
    ssize_t got = conn_receive(c);
    if (c->state == CONN_DOOMED)
        return;
    if (got > 0) {
        DIAG_COUNT_BY(bytes_read, (uint64_t)got);
        if (c->unread == NULL)
            conn_show(c, n->block, (size_t)got);
        else
            conn_show(c, c->unread->at + c->unread_at, c->unread->count - c->unread_at);
    } else if (got == 0) {
        c->ended = true;
        conn_watch(c);
        conn_end(c);
    } else if (errno != EAGAIN && errno != EINTR) {
        conn_doom(c, NET_PEER, false);
    }
}

/* Nobody wants these bytes: they are read so that closing sends no reset, and to see the end. */
static void conn_discard(struct conn *c)
{
    struct net *n = c->net;
    ssize_t got = read(c->watch.fd, n->block, sizeof(n->block));
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    if (c->state == CONN_LINGERING) {
        conn_free(c);
        return;
    }
    if (got < 0) {
        conn_doom(c, NET_PEER, false);
        return;
    }
    c->ended = true;
    conn_watch(c);
}

void conn_ready(void *ctx, uint32_t events)
{
    struct conn *c = ctx;
    bool broken = (events & ENGINE_HANGUP) != 0;
    CHECK(c->state != CONN_DOOMED); /* its watch is cleared */
    if ((events & ENGINE_WRITE) != 0) {
        c->blocked = false;
        conn_dirty(c); /* written, and the watch changed, at the end of the turn */
    }
    if (c->state != CONN_OPEN) {
        if ((events & ENGINE_READ) != 0)
            conn_discard(c);
        else if (broken && c->state == CONN_LINGERING)
            conn_free(c);
        else if (broken)
            conn_doom(c, NET_PEER, false);
        return;
    }
    if ((events & ENGINE_READ) != 0 && !c->paused) {
        conn_read(c); /* a broken connection may still hold bytes, and says so after them */
        return;
    }
    if (broken) {
        conn_doom(c, NET_PEER, false);
        return;
    }
    if ((events & ENGINE_READ) != 0) {
        c->deaf = true;
        conn_watch(c);
    }
}
