/* Subscriptions of conversations: the snapshot and the registration are one step, so that the next
 * delta goes on where the snapshot ends. */
#include "talk/talk_priv.h"

#include "codec/centrifuge.h"
#include "codec/json.h"

void watch_refuse(const struct bus_subscribe *s, uint32_t code, bool temporary, const char *message)
{
    struct bus_subscribed *a = BUS_NEW(SUBSCRIBED, bus_subscribed, (enum port)s->from.port);
    a->to = s->from;
    a->key = s->key;
    a->code = code;
    a->temporary = temporary;
    a->message = message;
    engine_post(engine_at(s->from.engine), &a->msg);
}

static struct bus_subscribe *question(struct work *w)
{
    return (struct bus_subscribe *)(void *)w->m;
}

static void put_typing(struct buf *b, const struct conv *c)
{
    json_key(b, "typing");
    json_array_open(b);
    for (uint32_t i = 0; i < c->typists_count; i++)
        json_text(b, name_bytes(&c->typists[i].user));
    json_array_close(b);
}

/* A user's name as a key of an object. */
static void put_read_entry(struct buf *b, const struct conv_member *m, bool first)
{
    if (!first)
        buf_byte(b, ',');
    buf_byte(b, '"');
    json_escape(b, name_bytes(&m->user));
    buf_text(b, "\":");
    buf_u64(b, m->read_offset);
}

static struct blob *snapshot(const struct conv *c)
{
    struct buf b;
    buf_init(&b, 4 * EVENT_BYTES_MAX);
    json_object_open(&b);
    json_put_i64(&b, "as_of", (int64_t)c->row.offset);
    json_put_text(&b, "mode", bytes_of("ai"));
    json_put_text(&b, "title", blob_bytes(c->row.title));
    put_typing(&b, c);
    json_key(&b, "read");
    json_object_open(&b);
    for (uint32_t i = 0; i < c->members_count; i++)
        put_read_entry(&b, &c->members[i].row, i == 0);
    json_object_close(&b);
    json_key(&b, "runs");
    json_array_open(&b);
    LIST_FOR(link, &c->runs)
    {
        const struct run *r = CONTAINER_OF(link, struct run, link);
        if (r->committed)
            run_snapshot(&b, r, false);
    }
    json_array_close(&b);
    json_object_close(&b);
    struct blob *blob = buf_take(&b);
    if (blob == NULL)
        buf_fini(&b);
    return blob;
}

static void subscribed(struct conv *c, struct work *w, bool recovered)
{
    struct bus_subscribe *s = question(w);
    struct blob *data = snapshot(c);
    if (data == NULL || w->publications.failed) {
        blob_unref(&data);
        watch_refuse(s, 100, true, "out of memory; subscribe again in a moment");
        work_free(w);
        return;
    }
    struct bus_subscribed *a = BUS_NEW(SUBSCRIBED, bus_subscribed, (enum port)s->from.port);
    a->to = s->from;
    a->key = s->key;
    a->was_recovering = s->recover;
    a->recovered = recovered;
    a->offset = recovered ? s->offset : c->row.offset;
    a->epoch_count = c->row.epoch.count;
    memcpy(a->epoch, c->row.epoch.at, c->row.epoch.count);
    a->data = data;
    if (recovered && w->publications.count > 0)
        a->publications = buf_take(&w->publications);
    if (a->publications != NULL)
        a->publications_count = w->events_count;
    if (s->recover && recovered)
        DIAG_COUNT(recoveries);
    else if (s->recover)
        DIAG_COUNT(recoveries_failed);
    c->watchers[s->from.engine]++;
    c->watchers_total++;
    conv_touch(c);
    engine_post(engine_at(s->from.engine), &a->msg);
    work_free(w);
}

static void unrecoverable(struct conv *c, struct work *w)
{
    struct bus_subscribe *s = question(w);
    if (s->reject_unrecoverable) {
        DIAG_COUNT(recoveries_failed);
        watch_refuse(s, 112, false, "unrecoverable position");
        work_free(w);
        return;
    }
    subscribed(c, w, false);
}

static void read_more(struct conv *c, struct work *w)
{
    const struct config *config = c->talk->config;
    struct journal_events *op = JOURNAL_NEW(EVENTS, journal_events, PORT_TALK);
    op->head.handle = w->self;
    op->conv = c->row.conv;
    op->after = w->position;
    op->events_max = (uint32_t)config->recover_events_max;
    op->bytes_max = (uint32_t)config->recover_bytes_max;
    journal_ask(c->talk->journal, c->talk->engine, op);
}

void watch_subscribe(struct conv *c, struct work *w)
{
    struct bus_subscribe *s = question(w);
    struct bytes epoch = bytes_make(s->epoch, s->epoch_count);
    if (!conv_may(c, &s->who)) {
        /* Not told apart: what is not there, and what this user may not see. */
        answer_err(w, ERR_NOT_FOUND);
        work_free(w);
        return;
    }
    buf_init(&w->publications, 4 * EVENT_BYTES_MAX);
    w->position = s->offset;
    if (!s->recover) {
        subscribed(c, w, false);
        return;
    }
    if (epoch.count > 0 && !bytes_equal(epoch, bytes_make(c->row.epoch.at, c->row.epoch.count))) {
        unrecoverable(c, w);
        return;
    }
    uint64_t missing = s->offset > c->row.offset ? UINT64_MAX : c->row.offset - s->offset;
    if (missing == 0)
        subscribed(c, w, true);
    else if (missing > (uint64_t)c->talk->config->recover_events_max)
        unrecoverable(c, w);
    else
        read_more(c, w);
}

/* Adds what the store gave, up to the offset that was published; what is newer comes as live. */
static void add_events(struct conv *c, struct work *w, const struct journal_events *op)
{
    struct bytes epoch = bytes_make(c->row.epoch.at, c->row.epoch.count);
    for (uint32_t i = 0; i < op->events_count; i++) {
        const struct journal_event *e = &op->events[i];
        if (e->offset != w->position + 1 || e->offset > c->row.offset)
            return;
        if (w->publications.count > 0)
            buf_byte(&w->publications, ',');
        cf_publication(&w->publications, blob_bytes(e->payload), e->offset, epoch);
        w->position = e->offset;
        w->events_count++;
    }
}

void watch_on_events(struct work *w, struct journal_events *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    const struct config *config = w->talk->config;
    if (c == NULL || op->head.err != ERR_OK || op->head.outcome != JOURNAL_DONE) {
        watch_refuse(question(w), 100, true, "the store cannot be reached; subscribe again");
        work_free(w);
        return;
    }
    add_events(c, w, op);
    if (w->position == c->row.offset) {
        subscribed(c, w, true);
        return;
    }
    bool too_much = w->events_count > (uint32_t)config->recover_events_max ||
                    w->publications.count > (size_t)config->recover_bytes_max || op->more;
    if (too_much || w->step++ >= TALK_RECOVER_ROUNDS_MAX)
        unrecoverable(c, w);
    else
        read_more(c, w); /* something was said meanwhile */
}

void watch_unsubscribe(struct talk *t, const struct bus_unsubscribe *m)
{
    if (m->key.kind == CHANNEL_INBOX) {
        userbox_unsubscribe(t, m);
        return;
    }
    struct conv *c = conv_find(t, &m->key.conv);
    if (c == NULL || c->watchers[m->engine] == 0)
        return;
    c->watchers[m->engine]--;
    c->watchers_total--;
    if (c->watchers_total == 0)
        conv_reads_flush(c, engine_now(t->engine), true);
    conv_touch(c);
}
