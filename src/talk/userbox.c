/* The inbox of a user: what changed in the list of conversations. A ring in memory with an epoch of
 * its own; what is lost answers recovered:false and the client lists anew. */
#include "talk/talk_priv.h"

#include "base/mem.h"
#include "codec/centrifuge.h"
#include "codec/json.h"

#define LIST_DEFAULT 50
#define LIST_MAX     200

static void on_idle(void *ctx);

static struct userbox *userbox_find(struct talk *t, const struct id *app, const struct name *user)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct channel_key key = {.kind = CHANNEL_INBOX, .app = *app, .user = *user};
    return map_get(&t->inbox_map, channel_key_bytes(&key, room));
}

static struct userbox *userbox_make(struct talk *t, const struct channel_key *key)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct handle self;
    static const char digits[] = "0123456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ";
    struct userbox *i = pool_new(&t->inboxes, &self);
    if (i == NULL)
        return NULL;
    if (map_put(&t->inbox_map, channel_key_bytes(key, room), i) != ERR_OK) {
        pool_free(&t->inboxes, self);
        return NULL;
    }
    i->talk = t;
    i->self = self;
    i->key = *key;
    for (size_t n = 0; n + 1 < sizeof(i->epoch); n++)
        i->epoch[n] = digits[rng_below(engine_rng(t->engine), sizeof(digits) - 1)];
    list_init(&i->asked);
    timer_init(&i->idle, on_idle, i);
    return i;
}

static void events_drop(struct userbox *i)
{
    for (uint32_t n = 0; n < i->events_count; n++)
        blob_unref(&i->events[n]);
    mem_free(i->events);
    i->events = NULL;
    i->events_count = 0;
    i->events_room = 0;
}

static void userbox_drop(struct userbox *i)
{
    struct talk *t = i->talk;
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    LIST_FOR(link, &i->asked)
    {
        list_remove(link);
    }
    events_drop(i);
    timer_clear(t->engine, &i->idle);
    (void)map_remove(&t->inbox_map, channel_key_bytes(&i->key, room));
    pool_free(&t->inboxes, i->self);
}

static void on_idle(void *ctx)
{
    struct userbox *i = ctx;
    if (i->watchers_total == 0)
        userbox_drop(i);
}

void userbox_free_all(struct talk *t)
{
    uint32_t index = 0;
    struct handle h;
    for (struct userbox *i = pool_next(&t->inboxes, &index, &h); i != NULL;
         i = pool_next(&t->inboxes, &index, &h)) {
        timer_clear(t->engine, &i->idle);
        events_drop(i);
    }
}

static void add_recovered(const struct userbox *i, uint64_t after, struct buf *out)
{
    for (uint64_t o = after + 1; o <= i->offset; o++) {
        if (out->count > 0)
            buf_byte(out, ',');
        cf_publication(out, blob_bytes(i->events[o + i->events_count - i->offset - 1]), o,
                       bytes_of(i->epoch));
    }
}

/* The user is made at the first connect. Nobody waits for it. */
static void user_seen(struct talk *t, const struct who *who)
{
    struct journal_user_seen *op = JOURNAL_NEW(USER_SEEN, journal_user_seen, PORT_TALK);
    op->app = who->app;
    op->user = who->user;
    op->display = who->display;
    op->guest = who->guest;
    op->now_ms = engine_wall_ms(t->engine);
    journal_ask(t->journal, t->engine, op);
}

void userbox_subscribe(struct talk *t, struct bus_subscribe *m)
{
    struct userbox *i = userbox_find(t, &m->key.app, &m->key.user);
    struct buf recovered;
    if (i == NULL)
        i = userbox_make(t, &m->key);
    if (i == NULL) {
        watch_refuse(m, 111, true, "too many inboxes; subscribe again in a moment");
        return;
    }
    if (i->offset == 0 && i->watchers_total == 0)
        user_seen(t, &m->who);
    struct bus_subscribed *a = BUS_NEW(SUBSCRIBED, bus_subscribed, (enum port)m->from.port);
    bool known = m->epoch_count == 0 ||
                 bytes_equal(bytes_make(m->epoch, m->epoch_count), bytes_of(i->epoch));
    buf_init(&recovered, EVENT_BYTES_MAX);
    a->to = m->from;
    a->key = m->key;
    a->was_recovering = m->recover;
    a->recovered =
        m->recover && known && m->offset <= i->offset && i->offset - m->offset <= i->events_count;
    a->offset = a->recovered ? m->offset : i->offset;
    a->epoch_count = (uint8_t)(sizeof(i->epoch) - 1);
    memcpy(a->epoch, i->epoch, a->epoch_count);
    if (a->recovered && i->offset > m->offset) {
        add_recovered(i, m->offset, &recovered);
        a->publications = buf_take(&recovered);
        a->publications_count = (uint32_t)(i->offset - m->offset);
    }
    timer_clear(t->engine, &i->idle);
    i->watchers[m->from.engine]++;
    i->watchers_total++;
    engine_post(engine_at(m->from.engine), &a->msg);
}

void userbox_unsubscribe(struct talk *t, const struct bus_unsubscribe *m)
{
    struct userbox *i = userbox_find(t, &m->key.app, &m->key.user);
    if (i == NULL || i->watchers[m->engine] == 0)
        return;
    i->watchers[m->engine]--;
    i->watchers_total--;
    if (i->watchers_total == 0)
        timer_set(t->engine, &i->idle, mono_after_ms(engine_now(t->engine), INBOX_IDLE_MS));
}

/* Room for one more event: grown by doubling, then the oldest one goes. */
static bool events_make_room(struct userbox *i)
{
    if (i->events_count == INBOX_RING) {
        blob_unref(&i->events[0]);
        i->events_count--;
        memmove(i->events, i->events + 1, i->events_count * sizeof(i->events[0]));
    }
    if (i->events_count < i->events_room)
        return true;
    uint32_t room = i->events_room == 0 ? 2 : 2 * i->events_room;
    struct blob **more = mem_resize(i->events, room * sizeof(i->events[0]));
    if (more == NULL)
        return false;
    i->events = more;
    i->events_room = room;
    return true;
}

/* Takes the reference. Without memory the event is lost, and its gap shows. */
static void userbox_push(struct userbox *i, struct blob *event)
{
    if (event == NULL)
        return;
    i->offset++;
    if (!events_make_room(i)) {
        events_drop(i);
        blob_unref(&event);
        return;
    }
    i->events[i->events_count++] = event;
    publish(i->talk, &i->key, i->watchers, event, i->offset, bytes_of(i->epoch), false);
}

static struct blob *event_gone(const struct id *conv)
{
    struct buf b;
    buf_init(&b, 1024);
    json_object_open(&b);
    json_put_text(&b, "t", bytes_of("conv.gone"));
    json_put_text(&b, "conv", id_bytes(conv));
    json_object_close(&b);
    return buf_take(&b);
}

static struct blob *event_run_inbox(const struct bus_inbox *m)
{
    struct buf b;
    buf_init(&b, 1024);
    json_object_open(&b);
    json_put_text(&b, "t", bytes_of("run"));
    json_put_text(&b, "conv", id_bytes(&m->conv));
    json_put_text(&b, "run", id_bytes(&m->run));
    json_put_bool(&b, "on", m->on);
    json_object_close(&b);
    return buf_take(&b);
}

/* What became of a conversation while its line is read. Two reads of one line could overtake each
 * other and tell an older state last, so there is one at a time, and one more when it is stale. */
enum { LINE_FRESH, LINE_STALE, LINE_GONE };

static struct work *line_asked(const struct userbox *i, const struct id *conv)
{
    LIST_FOR(link, &i->asked)
    {
        struct work *w = CONTAINER_OF(link, struct work, link);
        if (id_equal(&w->inbox_conv, conv))
            return w;
    }
    return NULL;
}

static void ask_line(struct userbox *i, const struct id *conv)
{
    struct talk *t = i->talk;
    struct work *w = line_asked(i, conv);
    if (w != NULL && w->step == LINE_FRESH)
        w->step = LINE_STALE;
    if (w != NULL)
        return;
    w = work_new(t, NULL, WORK_INBOX, NULL);
    if (w == NULL)
        return;
    struct journal_conv_list *op = JOURNAL_NEW(CONV_LIST, journal_conv_list, PORT_TALK);
    w->inbox = i->self;
    w->inbox_conv = *conv;
    list_push_back(&i->asked, &w->link);
    op->head.handle = w->self;
    op->app = i->key.app;
    op->user = i->key.user;
    op->limit = 1;
    op->only = *conv;
    journal_ask(t->journal, t->engine, op);
}

void userbox_change(struct talk *t, const struct bus_inbox *m)
{
    struct userbox *i = userbox_find(t, &m->app, &m->user);
    if (i == NULL)
        return;
    struct work *asked = line_asked(i, &m->conv);
    switch (m->what) {
    case INBOX_CONV: ask_line(i, &m->conv); break;
    case INBOX_GONE:
        if (asked != NULL)
            asked->step = LINE_GONE;
        userbox_push(i, event_gone(&m->conv));
        break;
    case INBOX_RUN: userbox_push(i, event_run_inbox(m)); break;
    }
}

static void put_item(struct buf *b, const struct conv_item *item)
{
    json_object_open(b);
    json_put_text(b, "id", id_bytes(&item->conv));
    json_put_text(b, "title", blob_bytes(item->title));
    json_put_i64(b, "head", (int64_t)item->offset);
    json_put_i64(b, "unread", (int64_t)item->unread);
    json_put_text(b, "last", bytes_make(item->last.at, item->last.count));
    json_put_text(b, "mode", bytes_of("ai"));
    json_put_text(b, "persona", id_bytes(&item->persona));
    json_put_i64(b, "updated", item->updated_ms);
    if (item->archived)
        json_put_bool(b, "archived", true);
    json_object_close(b);
}

void userbox_on_line(struct work *w, struct journal_conv_list *op)
{
    struct userbox *i = pool_get(&w->talk->inboxes, w->inbox);
    list_remove(&w->link);
    if (i != NULL && op->head.err == ERR_OK && op->items_count == 1 && w->step != LINE_GONE) {
        struct buf b;
        buf_init(&b, 65536);
        json_object_open(&b);
        json_put_text(&b, "t", bytes_of("conv"));
        json_key(&b, "conv");
        put_item(&b, &op->items[0]);
        json_object_close(&b);
        userbox_push(i, buf_take(&b));
    }
    if (i != NULL && w->step == LINE_STALE)
        ask_line(i, &w->inbox_conv);
    work_free(w);
}

/* --- conv.list -------------------------------------------------------------------------------- */

void userbox_list(struct talk *t, struct work *w)
{
    const struct bus_command *m = work_command(w);
    struct journal_conv_list *op = JOURNAL_NEW(CONV_LIST, journal_conv_list, PORT_TALK);
    op->head.handle = w->self;
    op->app = m->who.app;
    op->user = m->who.user;
    op->limit = LIST_DEFAULT;
    if (m->args.limit > 0)
        op->limit = (uint32_t)i64_min(m->args.limit, LIST_MAX);
    op->before_ms = m->args.before_ms;
    op->before_conv = m->args.before_conv;
    op->query = blob_ref(m->args.query);
    journal_ask(t->journal, t->engine, op);
}

void userbox_on_list(struct work *w, struct journal_conv_list *op)
{
    struct buf b;
    if (op->head.err != ERR_OK) {
        answer_err(w, op->head.err);
        work_free(w);
        return;
    }
    buf_init(&b, EVENT_BYTES_MAX);
    json_object_open(&b);
    json_key(&b, "items");
    json_array_open(&b);
    for (uint32_t i = 0; i < op->items_count; i++)
        put_item(&b, &op->items[i]);
    json_array_close(&b);
    if (op->more && op->items_count > 0) {
        const struct conv_item *last = &op->items[op->items_count - 1];
        char next[ID_BYTES_MAX + 32];
        struct buf n;
        buf_init_fixed(&n, next, sizeof(next));
        buf_i64(&n, last->updated_ms);
        buf_byte(&n, '.');
        buf_bytes(&n, id_bytes(&last->conv));
        json_put_text(&b, "next", buf_view(&n));
    }
    json_object_close(&b);
    answer_json(w, buf_take(&b));
    work_free(w);
}
