/* The channels that somebody on this engine watches: from one event to many sockets. */
#include "session/session_priv.h"

enum hub_parse hub_parse(const struct session *s, struct bytes channel, struct channel_key *out)
{
    struct who who;
    memset(out, 0, sizeof(*out));
    session_who(s, &who);
    if (channel.count > 5 && memcmp(channel.at, "conv:", 5) == 0) {
        out->kind = CHANNEL_CONV;
        return id_parse(bytes_make(channel.at + 5, channel.count - 5), &out->conv) == ERR_OK
                   ? HUB_OK
                   : HUB_UNKNOWN;
    }
    if (channel.count > 1 && channel.at[0] == '#') {
        out->kind = CHANNEL_INBOX;
        out->app = who.app;
        out->user = who.user;
        return bytes_equal(bytes_make(channel.at + 1, channel.count - 1), name_bytes(&who.user))
                   ? HUB_OK
                   : HUB_DENIED;
    }
    return HUB_UNKNOWN;
}

static bool key_equal(const struct channel_key *a, const struct channel_key *b)
{
    return a->kind == b->kind && id_equal(&a->conv, &b->conv) && id_equal(&a->app, &b->app) &&
           name_equal(&a->user, &b->user);
}

static struct channel *channel_find(struct sessions *all, const struct channel_key *key)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    return map_get(&all->channel_map, channel_key_bytes(key, room));
}

static struct channel *channel_get(struct sessions *all, const struct channel_key *key)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct handle self;
    struct channel *c = channel_find(all, key);
    if (c != NULL)
        return c;
    c = pool_new(&all->channels, &self);
    if (c == NULL)
        return NULL;
    if (map_put(&all->channel_map, channel_key_bytes(key, room), c) != ERR_OK) {
        pool_free(&all->channels, self);
        return NULL;
    }
    c->self = self;
    c->key = *key;
    list_init(&c->subs);
    return c;
}

static void channel_drop_unused(struct sessions *all, struct channel *c)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    if (!list_is_empty(&c->subs))
        return;
    (void)map_remove(&all->channel_map, channel_key_bytes(&c->key, room));
    pool_free(&all->channels, c->self);
}

struct sub *hub_sub_find(struct session *s, const struct channel_key *key)
{
    LIST_FOR(link, &s->subs)
    {
        struct sub *sub = CONTAINER_OF(link, struct sub, in_session);
        if (key_equal(&sub->channel->key, key))
            return sub;
    }
    return NULL;
}

struct sub *hub_sub_new(struct session *s, const struct channel_key *key, uint32_t id)
{
    struct handle self;
    struct channel *c = channel_get(s->all, key);
    struct sub *sub = c == NULL ? NULL : pool_new(&s->all->subs, &self);
    if (sub == NULL) {
        if (c != NULL)
            channel_drop_unused(s->all, c);
        return NULL;
    }
    sub->self = self;
    sub->session = s->self;
    sub->channel = c;
    sub->id = id;
    list_push_back(&s->subs, &sub->in_session);
    list_push_back(&c->subs, &sub->in_channel);
    s->subs_count++;
    DIAG_GAUGE_BY(subscriptions, 1);
    return sub;
}

/* The subscriber's number travels as the call, so that its answer finds it or nobody. */
static uint64_t pack(struct handle h)
{
    return (uint64_t)h.generation << 32 | h.slot;
}

static struct handle unpack(uint64_t call)
{
    return (struct handle){(uint32_t)call, (uint32_t)(call >> 32)};
}

void hub_ask(struct session *s, struct sub *sub, bool recover, struct bytes epoch, uint64_t offset,
             bool reject)
{
    struct bus_subscribe *m = BUS_NEW(SUBSCRIBE, bus_subscribe, PORT_TALK);
    m->key = sub->channel->key;
    session_who(s, &m->who);
    m->from.engine = (uint8_t)engine_index(s->all->engine);
    m->from.port = PORT_SESSION;
    m->from.handle = s->self;
    m->from.call = pack(sub->self);
    m->recover = recover;
    m->reject_unrecoverable = reject;
    m->offset = offset;
    if (epoch.count > sizeof(m->epoch)) { /* no epoch of ours is so long: it matches nothing */
        m->epoch[0] = '_';
        m->epoch_count = 1;
    } else {
        m->epoch_count = (uint8_t)epoch.count;
        if (epoch.count > 0)
            memcpy(m->epoch, epoch.at, epoch.count);
    }
    struct engine *home = m->key.kind == CHANNEL_CONV
                              ? bus_home_conv(id_bytes(&m->key.conv))
                              : bus_home_user(id_bytes(&m->key.app), name_bytes(&m->key.user));
    engine_post(home, &m->msg);
}

static void tell_unsubscribed(struct sessions *all, const struct channel_key *key)
{
    struct bus_unsubscribe *m = BUS_NEW(UNSUBSCRIBE, bus_unsubscribe, PORT_TALK);
    m->key = *key;
    m->engine = (uint8_t)engine_index(all->engine);
    struct engine *home = key->kind == CHANNEL_CONV
                              ? bus_home_conv(id_bytes(&key->conv))
                              : bus_home_user(id_bytes(&key->app), name_bytes(&key->user));
    engine_post(home, &m->msg);
}

/* `tell`: its home counts it, and has to hear that it is gone. One that is not live yet is told
 * when its answer comes and finds nobody. */
void hub_sub_drop(struct sessions *all, struct sub *sub, bool tell)
{
    struct session *s = session_get(all, sub->session);
    struct channel *c = sub->channel;
    if (tell && sub->live)
        tell_unsubscribed(all, &c->key);
    list_remove(&sub->in_session);
    list_remove(&sub->in_channel);
    if (s != NULL)
        s->subs_count--;
    pool_free(&all->subs, sub->self);
    DIAG_GAUGE_BY(subscriptions, -1);
    channel_drop_unused(all, c);
}

/* The subscribe result; for the connect result's `subs`, too. */
void hub_result(struct buf *b, const struct bus_subscribed *m)
{
    json_object_open(b);
    json_put_bool(b, "recoverable", true);
    json_put_bool(b, "positioned", true);
    json_put_text(b, "epoch", bytes_make(m->epoch, m->epoch_count));
    if (m->offset > 0)
        json_put_i64(b, "offset", (int64_t)m->offset);
    if (m->was_recovering)
        json_put_bool(b, "was_recovering", true);
    if (m->recovered)
        json_put_bool(b, "recovered", true);
    if (m->publications != NULL) {
        json_key(b, "publications");
        buf_byte(b, '[');
        buf_bytes(b, blob_bytes(m->publications));
        buf_byte(b, ']');
    }
    if (m->data != NULL)
        json_put_raw(b, "data", blob_bytes(m->data));
    json_object_close(b);
}

/* Whatever is sent may end the session, and all its subscriptions with it: `sub` is looked at
 * before. */
static void answer_client(struct session *s, struct sub *sub, const struct bus_subscribed *m)
{
    struct buf b;
    uint32_t id = sub->id;
    s->unanswered--;
    if (m->code != 0) {
        hub_sub_drop(s->all, sub, false);
        session_reply_error(s, id, m->code, m->message, m->temporary);
        return;
    }
    buf_init(&b, SESSION_SCRATCH_BYTES_MAX);
    hub_result(&b, m);
    if (b.failed)
        session_close(s, SESSION_END_OVERLOADED);
    else
        session_reply(s, id, "subscribe", buf_view(&b));
    buf_fini(&b);
}

void hub_subscribed(struct sessions *all, struct bus_subscribed *m)
{
    struct sub *sub = pool_get(&all->subs, unpack(m->to.call));
    struct session *s = sub == NULL ? NULL : session_get(all, sub->session);
    if (s == NULL) {
        if (m->code == 0)
            tell_unsubscribed(all, &m->key);
        return;
    }
    if (m->code == 0) {
        sub->live = true;
        sub->offset = m->offset + m->publications_count;
    }
    if (sub->id == 0) {
        handshake_inbox(s, m);
    } else {
        answer_client(s, sub, m);
        session_resume(s);
    }
}

/* --- fan-out ---------------------------------------------------------------------------------- */

static void lagged(struct sessions *all, struct session *s, struct sub *sub)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct buf *b = session_scratch(all);
    if (sub->id == 0) { /* a server-side subscription recovers by connecting anew */
        session_close(s, SESSION_END_LAGGED);
        return;
    }
    cf_push_unsubscribe(b, channel_name(&sub->channel->key, room), 2500, "insufficient state");
    hub_sub_drop(all, sub, true);
    session_send_frame(s, buf_view(b));
}

static void deliver(struct sessions *all, struct sub *sub, const struct bus_publish *m,
                    struct blob *frame)
{
    struct session *s = session_get(all, sub->session);
    if (s == NULL || !sub->live || s->state == SESSION_DRAINING)
        return;
    if (m->offset > 0) {
        if (m->offset <= sub->offset)
            return;
        if (m->offset != sub->offset + 1) {
            lagged(all, s, sub);
            return;
        }
        sub->offset = m->offset;
    } else if (m->droppable && net_queued_bytes(all->net, s->conn) >
                                   (size_t)all->config->send_ephemeral_bytes_max) {
        DIAG_COUNT(deltas_dropped);
        return;
    }
    DIAG_COUNT(publications);
    (void)net_send(all->net, s->conn, frame);
}

void hub_publish(struct sessions *all, const struct bus_publish *m)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct channel *c = channel_find(all, &m->key);
    if (c == NULL)
        return;
    struct buf *b = session_scratch(all);
    cf_push_publication(b, channel_name(&m->key, room), blob_bytes(m->data), m->offset,
                        bytes_make(m->epoch, m->epoch_count));
    struct blob *frame = b->failed ? NULL : frame_blob(buf_view(b));
    if (frame == NULL) /* a durable one shows as a gap to everybody, and is asked for again */
        return;
    struct handle self = c->self;
    LIST_FOR(link, &c->subs)
    {
        deliver(all, CONTAINER_OF(link, struct sub, in_channel), m, frame);
        if (pool_get(&all->channels, self) == NULL)
            break; /* the last subscriber went in the middle */
    }
    blob_unref(&frame);
}

/* A kick without a user is for everybody. */
static bool is_meant(const struct session *s, const struct bus_kick *m)
{
    struct who who;
    if (m->user.count == 0)
        return true;
    if (s == NULL)
        return false;
    session_who(s, &who);
    return name_equal(&who.user, &m->user);
}

void hub_kick(struct sessions *all, const struct bus_kick *m)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct channel *c = channel_find(all, &m->key);
    if (c == NULL)
        return;
    struct buf *b = session_scratch(all);
    cf_push_unsubscribe(b, channel_name(&m->key, room), m->code, m->reason);
    struct blob *frame = b->failed ? NULL : frame_blob(buf_view(b));
    struct handle self = c->self;
    LIST_FOR(link, &c->subs)
    {
        struct sub *sub = CONTAINER_OF(link, struct sub, in_channel);
        struct session *s = session_get(all, sub->session);
        if (!sub->live || !is_meant(s, m))
            continue; /* not live: its question is on the way and will be answered for itself */
        hub_sub_drop(all, sub, false);
        if (s != NULL && frame != NULL)
            (void)net_send(all->net, s->conn, frame);
        if (pool_get(&all->channels, self) == NULL)
            break;
    }
    blob_unref(&frame);
}
