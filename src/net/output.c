/* What goes out: a queue of blob references, sent by one call at the end of the turn.
 *
 *     out -> | chunk: first .. first+count | -> | chunk | -> ...
 *
 * Most answers are one blob, and most connections have none waiting. Small copies of one turn grow
 * the last blob as long as it is ours alone. */
#include "net/net_priv.h"
#include "base/mem.h"
#include "diag/diag.h"

#include <errno.h>
#include <sys/uio.h>

static bool out_push(struct conn *c, struct blob *b)
{
    if (c->out == NULL) {
        c->out = b;
        c->out_sent = 0;
        return true;
    }
    struct out_chunk *chunk = c->out_last;
    if (chunk == NULL || chunk->first + chunk->count == CONN_CHUNK_BLOBS) {
        chunk = mem_new_zero(sizeof(*chunk));
        if (chunk == NULL)
            return false;
        if (c->out_last == NULL)
            c->out_first = chunk;
        else
            c->out_last->next = chunk;
        c->out_last = chunk;
    }
    chunk->blobs[chunk->first + chunk->count] = b;
    chunk->count++;
    return true;
}

/* The first blob is done with: the next takes its place. */
static void out_shift(struct conn *c)
{
    blob_unref(&c->out);
    c->out_sent = 0;
    struct out_chunk *chunk = c->out_first;
    if (chunk == NULL) {
        c->tail_is_ours = false;
        return;
    }
    c->out = chunk->blobs[chunk->first];
    chunk->first++;
    chunk->count--;
    if (chunk->count > 0)
        return;
    c->out_first = chunk->next;
    if (c->out_first == NULL)
        c->out_last = NULL;
    mem_free(chunk);
}

static struct blob **out_tail(struct conn *c)
{
    struct out_chunk *chunk = c->out_last;
    return chunk == NULL ? &c->out : &chunk->blobs[chunk->first + chunk->count - 1];
}

void conn_out_drop(struct conn *c)
{
    while (c->out != NULL)
        out_shift(c);
    c->queued_bytes = 0;
    c->blocked = false;
}

/* The next blobs as parts of one write; answers how many there are. */
static size_t out_parts(const struct conn *c, struct iovec parts[CONN_WRITE_BLOBS_MAX])
{
    size_t count = 1;
    parts[0].iov_base = c->out->at + c->out_sent;
    parts[0].iov_len = c->out->count - c->out_sent;
    for (const struct out_chunk *chunk = c->out_first; chunk != NULL; chunk = chunk->next) {
        for (uint16_t i = chunk->first; i < chunk->first + chunk->count; i++) {
            if (count == CONN_WRITE_BLOBS_MAX)
                return count;
            parts[count].iov_base = chunk->blobs[i]->at;
            parts[count].iov_len = chunk->blobs[i]->count;
            count++;
        }
    }
    return count;
}

static void out_advance(struct conn *c, size_t sent)
{
    c->queued_bytes -= (uint32_t)sent;
    while (sent > 0) {
        size_t left = c->out->count - c->out_sent;
        if (sent < left) {
            c->out_sent += (uint32_t)sent;
            return;
        }
        sent -= left;
        out_shift(c);
    }
}

/* One write. True: the kernel took all it was offered. */
static bool conn_write(struct conn *c)
{
    struct iovec parts[CONN_WRITE_BLOBS_MAX];
    size_t count = out_parts(c, parts);
    size_t offered = 0;
    for (size_t i = 0; i < count; i++)
        offered += parts[i].iov_len;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t sent = count == 1 ? send(c->watch.fd, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL)
                              : sendmsg(c->watch.fd, &message, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR)
            conn_doom(c, NET_PEER, false);
        return false;
    }
    DIAG_COUNT_BY(bytes_written, (uint64_t)sent);
    out_advance(c, (size_t)sent);
    c->stalled_ms = net_ms(c->net);
    return (size_t)sent == offered;
}

void conn_flush(struct conn *c)
{
    bool all = true;
    /* Bounded: the queue has at most limits.send bytes, and nobody adds to it in here. */
    while (all && c->queued_bytes > 0)
        all = conn_write(c);
    if (c->state == CONN_DOOMED)
        return;
    bool blocked = c->queued_bytes > 0;
    bool begins = blocked && !c->blocked;
    c->blocked = blocked;
    conn_watch(c);
    if (begins)
        conn_timer_arm(c);
}

/* Room for `count` more bytes, or the connection is closed as slow. */
static bool out_allows(struct conn *c, size_t count)
{
    if (c->queued_bytes == 0 || c->queued_bytes + count <= c->net->send_bytes_max)
        return true;
    /* A whole turn's answers may exceed the limit although the reader is fast: ask the kernel. */
    if (!c->blocked)
        conn_flush(c);
    if (c->state == CONN_DOOMED)
        return false;
    if (c->queued_bytes == 0 || c->queued_bytes + count <= c->net->send_bytes_max)
        return true;
    conn_doom(c, NET_SLOW, true);
    return false;
}

static void out_added(struct conn *c, size_t count)
{
    if (c->queued_bytes == 0)
        c->stalled_ms = net_ms(c->net); /* the patience with the reader begins here */
    c->queued_bytes += (uint32_t)count;
    if (c->queued_bytes > c->net->low_water_bytes)
        c->was_high = true;
    /* A blocked one waits for its descriptor; nothing is to be done at the end of this turn. */
    if (!c->blocked)
        conn_dirty(c);
}

static struct conn *conn_writable(struct net *n, struct handle conn)
{
    struct conn *c = pool_get(&n->conns, conn);
    return c != NULL && c->state == CONN_OPEN ? c : NULL;
}

bool net_send(struct net *n, struct handle conn, struct blob *b)
{
    struct conn *c = conn_writable(n, conn);
    if (c == NULL || (b->count > 0 && !out_allows(c, b->count)))
        return false;
    if (b->count == 0)
        return true;
    if (!out_push(c, b)) {
        conn_doom(c, NET_ERROR, false);
        return false;
    }
    (void)blob_ref(b); /* the queue's own */
    c->tail_is_ours = false;
    out_added(c, b->count);
    return true;
}

/* Room for `count` more bytes in the last blob, which is ours alone: it doubles, so that the
 * answers of one turn end up in one piece whatever their sizes. False: a new one is better. */
static bool out_tail_room(struct blob **tail, size_t count)
{
    struct blob *b = *tail;
    if (b->capacity - b->count >= count)
        return true;
    if (b->count + count > CONN_COPY_BYTES_MAX)
        return false;
    size_t wish = size_max(b->count + count, (size_t)b->capacity * 2);
    return blob_resize(tail, wish) == ERR_OK;
}

static bool out_copy(struct conn *c, struct bytes b)
{
    struct blob *copy = blob_new(size_max(b.count, CONN_SMALL_BYTES));
    if (copy == NULL)
        return false;
    memcpy(copy->at, b.at, b.count);
    copy->count = (uint32_t)b.count;
    if (!out_push(c, copy)) {
        blob_unref(&copy);
        return false;
    }
    c->tail_is_ours = true;
    return true;
}

bool net_send_copy(struct net *n, struct handle conn, struct bytes b)
{
    struct conn *c = conn_writable(n, conn);
    if (c == NULL || (b.count > 0 && !out_allows(c, b.count)))
        return false;
    if (b.count == 0)
        return true;
    struct blob **tail = out_tail(c);
    if (c->tail_is_ours && out_tail_room(tail, b.count)) {
        memcpy((*tail)->at + (*tail)->count, b.at, b.count);
        (*tail)->count += (uint32_t)b.count;
    } else if (!out_copy(c, b)) {
        conn_doom(c, NET_ERROR, false);
        return false;
    }
    out_added(c, b.count);
    return true;
}
