/* The life of a session: bytes in, frames out, timers, the end. */
#include "session/session_priv.h"

#include "base/mem.h"

#define SESSION_DRAIN_STEP_MS 20
#define SESSION_DRAIN_STEPS   50
#define SESSION_REFUSED_MS    5000 /* a refused client closes by itself; if not, we do */

_Static_assert(sizeof(struct session) <= SESSION_BYTES_MAX, "a million sessions");

static void session_enter(struct session *s, enum session_state to)
{
    static const uint32_t moves[] = {
#define SESSION_NEXT(name, help, next) (next),
        SESSION_STATES(SESSION_NEXT)
#undef SESSION_NEXT
    };
    CHECK((moves[s->state] & (1u << to)) != 0);
    diag_note(engine_now(s->all->engine), "session_state", s->self.slot, (uint64_t)to);
    if (to == SESSION_OPEN)
        DIAG_GAUGE_BY(sessions, 1);
    if (s->state == SESSION_OPEN)
        DIAG_GAUGE_BY(sessions, -1);
    s->state = to;
}

struct session *session_get(struct sessions *all, struct handle h)
{
    return pool_get(&all->slots, h);
}

/* --- the caller, packed ----------------------------------------------------------------------- */

bool session_set_person(struct session *s, const struct who *who)
{
    size_t bytes = (size_t)who->app.count + who->user.count + who->display.count;
    struct person *p = mem_new(sizeof(*p) + bytes);
    if (p == NULL)
        return false;
    p->app_count = who->app.count;
    p->user_count = who->user.count;
    p->display_count = who->display.count;
    p->guest = who->guest;
    p->insecure = who->insecure;
    memcpy(p->at, who->app.at, p->app_count);
    memcpy(p->at + p->app_count, who->user.at, p->user_count);
    memcpy(p->at + p->app_count + p->user_count, who->display.at, p->display_count);
    mem_free(s->person);
    s->person = p;
    return true;
}

void session_who(const struct session *s, struct who *out)
{
    const struct person *p = s->person;
    memset(out, 0, sizeof(*out));
    if (p == NULL)
        return;
    out->app.count = p->app_count;
    out->user.count = p->user_count;
    out->display.count = p->display_count;
    out->guest = p->guest;
    out->insecure = p->insecure;
    memcpy(out->app.at, p->at, p->app_count);
    memcpy(out->user.at, p->at + p->app_count, p->user_count);
    memcpy(out->display.at, p->at + p->app_count + p->user_count, p->display_count);
}

/* --- frames out ------------------------------------------------------------------------------- */

struct blob *frame_blob(struct bytes text)
{
    uint8_t head[WS_SERVER_HEAD_BYTES_MAX];
    size_t head_bytes = ws_head_encode(head, WS_TEXT, text.count);
    struct blob *b = blob_new(head_bytes + text.count);
    if (b == NULL)
        return NULL;
    memcpy(b->at, head, head_bytes);
    if (text.count > 0)
        memcpy(b->at + head_bytes, text.at, text.count);
    b->count = (uint32_t)(head_bytes + text.count);
    return b;
}

void session_send_frame(struct session *s, struct bytes text)
{
    struct blob *b = frame_blob(text);
    if (b == NULL) {
        session_close(s, SESSION_END_OVERLOADED);
        return;
    }
    (void)net_send(s->all->net, s->conn, b);
    blob_unref(&b);
}

struct buf *session_scratch(struct sessions *all)
{
    if (all->scratch.capacity > SESSION_SCRATCH_KEPT_BYTES) {
        buf_fini(&all->scratch);
        buf_init(&all->scratch, SESSION_SCRATCH_BYTES_MAX);
    }
    all->scratch.count = 0;
    all->scratch.failed = false;
    return &all->scratch;
}

void session_reply(struct session *s, uint32_t id, const char *name, struct bytes result)
{
    struct buf *b = session_scratch(s->all);
    cf_reply_result(b, id, name, result);
    if (b->failed)
        session_close(s, SESSION_END_OVERLOADED);
    else
        session_send_frame(s, buf_view(b));
}

void session_reply_error(struct session *s, uint32_t id, uint32_t code, const char *message,
                         bool temporary)
{
    struct buf *b = session_scratch(s->all);
    cf_reply_error(b, id, code, bytes_of(message), temporary);
    session_send_frame(s, buf_view(b));
}

/* --- the end ---------------------------------------------------------------------------------- */

#define COUNT_NONE DIAG_COUNTERS_COUNT

static const struct {
    uint16_t code;
    const char *reason;
    enum diag_counter counter;
} session_ends[] = {
#define SESSION_ROW(name, code, reason, counter) {code, reason, counter},
    SESSION_ENDS(SESSION_ROW)
#undef SESSION_ROW
};

static void drop_subs(struct session *s)
{
    LIST_FOR(link, &s->subs)
    {
        hub_sub_drop(s->all, CONTAINER_OF(link, struct sub, in_session), true);
    }
}

void session_close(struct session *s, enum session_end end)
{
    struct buf b;
    uint8_t room[160];
    if (s->state == SESSION_DRAINING || s->state == SESSION_GONE)
        return;
    if (session_ends[end].counter != COUNT_NONE)
        diag_add(session_ends[end].counter, 1);
    diag_log(DIAG_DEBUG, "session_close", "session=%u code=%u", s->self.slot,
             session_ends[end].code);
    session_enter(s, SESSION_DRAINING);
    drop_subs(s);
    timer_clear(s->all->engine, &s->timer);
    buf_init_fixed(&b, room, sizeof(room));
    ws_close_encode(&b, session_ends[end].code, bytes_of(session_ends[end].reason));
    (void)net_send_copy(s->all->net, s->conn, buf_view(&b));
    net_close(s->all->net, s->conn, false);
}

static void session_free(struct session *s)
{
    struct sessions *all = s->all;
    if (s->state != SESSION_DRAINING)
        drop_subs(s);
    session_enter(s, SESSION_GONE);
    timer_clear(all->engine, &s->timer);
    mem_free(s->person);
    blob_unref(&s->token);
    blob_unref(&s->backlog);
    buf_fini(&s->partial);
    pool_free(&all->slots, s->self);
}

void session_open_enter(struct session *s)
{
    session_enter(s, SESSION_OPEN);
}

void session_refuse_connect(struct session *s, uint32_t code, const char *message, bool temporary)
{
    session_reply_error(s, s->connect_id, code, message, temporary);
    if (s->state == SESSION_DRAINING)
        return;
    s->connecting = false;
    session_enter(s, SESSION_DRAINING);
    drop_subs(s);
    timer_clear(s->all->engine, &s->timer);
    net_read_pause(s->all->net, s->conn, false);
    net_deadline(s->all->net, s->conn,
                 mono_after_ms(engine_now(s->all->engine), SESSION_REFUSED_MS));
}

/* --- timers ----------------------------------------------------------------------------------- */

static void ping(struct session *s)
{
    struct sessions *all = s->all;
    (void)net_send(all->net, s->conn, all->ping_frame);
    s->pong_due = true;
    s->heard = false;
    timer_set(all->engine, &s->timer, mono_after_ms(engine_now(all->engine), all->config->pong_ms));
}

/* In GREETING: connect did not come. In OPEN: a ping is due, or its pong is. */
static void on_timer(void *ctx)
{
    struct session *s = ctx;
    struct sessions *all = s->all;
    if (s->state == SESSION_GREETING) {
        session_close(s, SESSION_END_STALE);
        return;
    }
    if (s->expires_ms > 0 && engine_wall_ms(all->engine) > s->expires_ms + 25000) {
        session_close(s, SESSION_END_EXPIRED);
        return;
    }
    if (!s->pong_due) {
        ping(s);
        return;
    }
    if (!s->heard && !s->paused) { /* paused: its pong may lie unread in the socket */
        session_close(s, SESSION_END_NO_PONG);
        return;
    }
    s->pong_due = false;
    timer_set(all->engine, &s->timer,
              mono_after_ms(engine_now(all->engine),
                            i64_max(all->config->ping_ms - all->config->pong_ms, 1)));
}

/* --- bytes in --------------------------------------------------------------------------------- */

static void take_message(struct session *s, struct bytes last)
{
    if (s->partial.count == 0 && !s->partial.failed) {
        session_frame(s, last);
        return;
    }
    buf_bytes(&s->partial, last);
    struct buf whole = s->partial;
    buf_init(&s->partial, (size_t)s->all->config->frame_bytes_max + 1);
    if (whole.failed)
        session_close(s, SESSION_END_OVERLOADED);
    else
        session_frame(s, buf_view(&whole));
    buf_fini(&whole);
}

static void end_bad(struct session *s, uint16_t code)
{
    struct buf b;
    uint8_t room[160];
    DIAG_COUNT(ws_bad);
    if (s->state == SESSION_DRAINING)
        return;
    session_enter(s, SESSION_DRAINING);
    drop_subs(s);
    timer_clear(s->all->engine, &s->timer);
    buf_init_fixed(&b, room, sizeof(room));
    ws_close_encode(&b, code, bytes_of(code == 1009 ? "message too big" : "protocol error"));
    (void)net_send_copy(s->all->net, s->conn, buf_view(&b));
    net_close(s->all->net, s->conn, false);
}

static void answer_close(struct session *s, uint16_t code)
{
    struct buf b;
    uint8_t room[160];
    if (s->state != SESSION_DRAINING) {
        session_enter(s, SESSION_DRAINING);
        drop_subs(s);
        timer_clear(s->all->engine, &s->timer);
        buf_init_fixed(&b, room, sizeof(room));
        ws_close_encode(&b, code == 1005 ? 1000 : code, (struct bytes){NULL, 0});
        (void)net_send_copy(s->all->net, s->conn, buf_view(&b));
    }
    net_close(s->all->net, s->conn, false);
}

static void send_pong(struct session *s, struct bytes payload)
{
    uint8_t frame[WS_SERVER_HEAD_BYTES_MAX + 125];
    size_t head = ws_head_encode(frame, WS_PONG, payload.count);
    if (payload.count > 0)
        memcpy(frame + head, payload.at, payload.count);
    (void)net_send_copy(s->all->net, s->conn, bytes_make(frame, head + payload.count));
}

/* False: nothing more is to be read of what is there. */
static bool take_event(struct session *s, const struct ws_step *step)
{
    switch (step->event) {
    case WS_EVENT_NONE: return false;
    case WS_EVENT_DATA: buf_bytes(&s->partial, step->data); return true;
    case WS_EVENT_MESSAGE_END:
        take_message(s, step->data);
        return s->state != SESSION_DRAINING && !s->paused;
    case WS_EVENT_PING: send_pong(s, step->data); return true;
    case WS_EVENT_PONG: return true;
    case WS_EVENT_CLOSE: answer_close(s, step->close_code); return false;
    }
    return false;
}

static size_t on_data(void *ctx, struct handle conn, uint8_t *at, size_t count)
{
    struct session *s = ctx;
    size_t used = 0;
    (void)conn;
    s->heard = true;
    if (s->state == SESSION_DRAINING)
        return count;
    while (used < count) {
        struct ws_step step;
        enum err err = ws_reader_step(&s->reader, at + used, count - used,
                                      (uint64_t)s->all->config->frame_bytes_max, &step);
        if (err == ERR_PROTO) {
            end_bad(s, step.close_code);
            return count;
        }
        if (err == ERR_AGAIN && step.used == 0)
            return used;
        used += step.used;
        if (!take_event(s, &step) && step.event != WS_EVENT_NONE)
            break;
    }
    return s->state == SESSION_DRAINING ? count : used;
}

static void on_close(void *ctx, struct handle conn, enum net_close why)
{
    struct session *s = ctx;
    (void)conn;
    if (why == NET_SLOW)
        DIAG_COUNT(session_slow);
    session_free(s);
}

static const struct net_owner session_owner = {on_data, NULL, on_close};

/* Goes on with what waited for answers. */
void session_resume(struct session *s)
{
    struct sessions *all = s->all;
    if (!s->paused || s->connecting || s->state == SESSION_DRAINING ||
        s->unanswered >= (uint32_t)all->config->session_unanswered_max)
        return;
    struct blob *rest = s->backlog;
    s->backlog = NULL;
    s->paused = false;
    if (rest != NULL) {
        session_frame(s, blob_bytes(rest));
        blob_unref(&rest);
    }
    if (!s->paused && s->state != SESSION_DRAINING)
        net_read_pause(all->net, s->conn, false);
}

/* --- the mailbox ------------------------------------------------------------------------------ */

static void take_answer(struct sessions *all, const struct bus_answer *m)
{
    struct session *s = session_get(all, m->to.handle);
    if (s == NULL || s->state == SESSION_DRAINING)
        return;
    uint32_t id = (uint32_t)m->to.call;
    enum call_kind kind = (enum call_kind)(m->to.call >> 32);
    struct buf *b = session_scratch(all);
    s->unanswered--;
    if (m->code != 0) {
        cf_reply_error(b, id, m->code, blob_bytes(m->body), m->temporary);
    } else if (kind == CALL_HISTORY) {
        cf_reply_result(b, id, "history", blob_bytes(m->body));
    } else {
        buf_text(b, "{\"id\":");
        buf_u64(b, id);
        buf_text(b, ",\"rpc\":{\"data\":");
        buf_bytes(b, blob_bytes(m->body));
        buf_text(b, "}}");
    }
    if (b->failed)
        session_close(s, SESSION_END_OVERLOADED);
    else
        session_send_frame(s, buf_view(b));
    session_resume(s);
}

static void on_drain(void *ctx)
{
    struct sessions *all = ctx;
    uint32_t left = all->slots.used_count / SESSION_DRAIN_STEPS + 1;
    struct handle h;
    struct session *s = NULL;
    while (left > 0 && (s = pool_next(&all->slots, &all->drain_index, &h)) != NULL) {
        session_close(s, SESSION_END_SHUTDOWN);
        left--;
    }
    if (left == 0)
        timer_set(all->engine, &all->drain_timer,
                  mono_after_ms(engine_now(all->engine), SESSION_DRAIN_STEP_MS));
}

static void take(void *ctx, struct msg *m)
{
    struct sessions *all = ctx;
    switch (m->kind) {
    case BUS_ANSWER: take_answer(all, (struct bus_answer *)(void *)m); break;
    case BUS_SUBSCRIBED: hub_subscribed(all, (struct bus_subscribed *)(void *)m); break;
    case BUS_PUBLISH: hub_publish(all, (struct bus_publish *)(void *)m); break;
    case BUS_KICK: hub_kick(all, (struct bus_kick *)(void *)m); break;
    case BUS_DRAIN:
        all->draining = true;
        on_drain(all);
        break;
    default: break;
    }
    msg_free(m);
}

/* --- making ----------------------------------------------------------------------------------- */

bool session_open(struct sessions *all, struct handle conn)
{
    struct handle self;
    bool room = !all->draining && !command_memory_is_short(all->config);
    struct session *s = room ? pool_new(&all->slots, &self) : NULL;
    if (s == NULL)
        return false;
    s->all = all;
    s->self = self;
    s->conn = conn;
    s->state = SESSION_GREETING;
    list_init(&s->subs);
    buf_init(&s->partial, (size_t)all->config->frame_bytes_max + 1);
    rng_fill(engine_rng(all->engine), s->client, sizeof(s->client));
    timer_init(&s->timer, on_timer, s);
    timer_set(all->engine, &s->timer,
              mono_after_ms(engine_now(all->engine), all->config->connect_timeout_ms));
    net_own(all->net, conn, &session_owner, s);
    DIAG_COUNT(ws_opened);
    return true;
}

struct sessions *sessions_make(struct engine *e, struct net *n, const struct auth *a,
                               struct command_desk *d, const struct config *c)
{
    struct sessions *s = mem_new_zero(sizeof(*s));
    uint64_t seed[2];
    if (s == NULL)
        return NULL;
    engine_random(seed, sizeof(seed));
    s->engine = e;
    s->net = n;
    s->auth = a;
    s->desk = d;
    s->config = c;
    s->ping_frame = frame_blob(bytes_of("{}"));
    buf_init(&s->scratch, SESSION_SCRATCH_BYTES_MAX);
    map_init(&s->channel_map, SESSION_SUBS_MAX, seed);
    timer_init(&s->drain_timer, on_drain, s);
    if (s->ping_frame == NULL ||
        pool_init(&s->slots, sizeof(struct session), (uint32_t)c->connections_max) != ERR_OK ||
        pool_init(&s->subs, sizeof(struct sub), SESSION_SUBS_MAX) != ERR_OK ||
        pool_init(&s->channels, sizeof(struct channel), SESSION_SUBS_MAX) != ERR_OK) {
        sessions_free(&s);
        return NULL;
    }
    engine_listen(e, PORT_SESSION, take, s);
    return s;
}

void sessions_free(struct sessions **sp)
{
    struct sessions *all = *sp;
    uint32_t index = 0;
    struct handle h;
    if (all == NULL)
        return;
    for (struct session *s = pool_next(&all->slots, &index, &h); s != NULL;
         s = pool_next(&all->slots, &index, &h)) {
        timer_clear(all->engine, &s->timer);
        mem_free(s->person);
        blob_unref(&s->token);
        blob_unref(&s->backlog);
        buf_fini(&s->partial);
    }
    timer_clear(all->engine, &all->drain_timer);
    pool_fini(&all->slots);
    pool_fini(&all->subs);
    pool_fini(&all->channels);
    map_fini(&all->channel_map);
    blob_unref(&all->ping_frame);
    buf_fini(&all->scratch);
    mem_free(all);
    *sp = NULL;
}
