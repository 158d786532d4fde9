/* Events and answers as JSON. */
#include "talk/event_priv.h"

#include "codec/json.h"
#include "codec/utf8.h"

static void begin(struct buf *b, const char *type)
{
    buf_init(b, EVENT_BYTES_MAX);
    json_object_open(b);
    json_put_text(b, "t", bytes_of(type));
}

static struct blob *finish(struct buf *b)
{
    json_object_close(b);
    struct blob *blob = buf_take(b);
    if (blob == NULL)
        buf_fini(b);
    return blob;
}

static void put_id(struct buf *b, const char *key, const struct id *id)
{
    if (!id_is_none(id))
        json_put_text(b, key, id_bytes(id));
}

static void put_parent(struct buf *b, const struct id *parent)
{
    json_key(b, "parent");
    if (id_is_none(parent))
        json_null(b);
    else
        json_text(b, id_bytes(parent));
}

static void put_by(struct buf *b, const struct event_by *by)
{
    json_key(b, "by");
    json_object_open(b);
    json_put_text(b, "kind", bytes_of(by->kind));
    json_put_text(b, "id", by->id);
    if (by->name.count > 0)
        json_put_text(b, "name", by->name);
    json_object_close(b);
}

struct blob *event_msg(const struct event_msg *m)
{
    struct buf b;
    begin(&b, "msg");
    json_put_text(&b, "id", id_bytes(&m->id));
    put_parent(&b, &m->parent);
    put_id(&b, "run", &m->run);
    put_by(&b, &m->by);
    put_id(&b, "cid", &m->cid);
    json_put_text(&b, "text", m->text);
    json_put_text(&b, "status", bytes_of(m->status));
    if (m->why[0] != '\0')
        json_put_text(&b, "why", bytes_of(m->why));
    if (m->has_answer) {
        json_key(&b, "answer");
        json_object_open(&b);
        json_put_text(&b, "run", id_bytes(&m->answer_run));
        json_put_text(&b, "msg", id_bytes(&m->answer_msg));
        json_put_text(&b, "persona", m->answer_persona);
        json_put_text(&b, "model", m->answer_model);
        json_object_close(&b);
    }
    if (m->model.count > 0)
        json_put_text(&b, "model", m->model);
    if (m->has_usage) {
        json_key(&b, "usage");
        json_object_open(&b);
        json_put_i64(&b, "in", (int64_t)m->tokens_in);
        json_put_i64(&b, "out", (int64_t)m->tokens_out);
        json_object_close(&b);
    }
    json_put_i64(&b, "ts", m->ts_ms);
    return finish(&b);
}

struct blob *event_run(const struct run_row *r, const struct event_by *by, int64_t ts_ms)
{
    struct buf b;
    begin(&b, "run");
    json_put_text(&b, "run", id_bytes(&r->run));
    json_put_text(&b, "msg", id_bytes(&r->msg));
    put_parent(&b, &r->parent);
    json_put_text(&b, "persona", id_bytes(&r->persona));
    json_put_text(&b, "model", name_bytes(&r->model_name));
    json_put_text(&b, "cause", bytes_of(run_cause_name(r->cause)));
    put_by(&b, by);
    json_put_i64(&b, "ts", ts_ms);
    return finish(&b);
}

struct blob *event_state(const char *k, struct bytes v, const struct event_by *by, int64_t ts_ms)
{
    struct buf b;
    begin(&b, "state");
    json_put_text(&b, "k", bytes_of(k));
    json_put_text(&b, "v", v);
    put_by(&b, by);
    json_put_i64(&b, "ts", ts_ms);
    return finish(&b);
}

struct blob *event_delta(const struct id *run, const struct id *msg, uint64_t at_units,
                         struct bytes text, bool reasoning)
{
    struct buf b;
    begin(&b, "d");
    json_put_text(&b, "r", id_bytes(run));
    json_put_text(&b, "m", id_bytes(msg));
    json_put_i64(&b, "p", (int64_t)at_units);
    json_put_text(&b, "s", text);
    if (reasoning)
        json_put_text(&b, "k", bytes_of("r"));
    return finish(&b);
}

struct blob *event_status(const struct id *run, const char *st, uint32_t position, int64_t eta_ms)
{
    struct buf b;
    begin(&b, "st");
    json_put_text(&b, "r", id_bytes(run));
    json_put_text(&b, "st", bytes_of(st));
    if (position > 0)
        json_put_i64(&b, "pos", (int64_t)position);
    if (eta_ms >= 0)
        json_put_i64(&b, "eta_ms", eta_ms);
    return finish(&b);
}

struct blob *event_typing(struct bytes user, bool on)
{
    struct buf b;
    begin(&b, "typing");
    json_put_text(&b, "u", user);
    json_put_bool(&b, "on", on);
    return finish(&b);
}

struct blob *event_read(struct bytes user, uint64_t offset)
{
    struct buf b;
    begin(&b, "read");
    json_put_text(&b, "u", user);
    json_put_i64(&b, "o", (int64_t)offset);
    return finish(&b);
}

void event_stored(struct buf *b, struct bytes payload, uint64_t offset, const struct id *siblings,
                  uint32_t siblings_count)
{
    if (payload.count < 2 || payload.at[payload.count - 1] != '}') {
        b->failed = true; /* no row of ours; the caller answers with an error */
        return;
    }
    json_raw(b, bytes_make(payload.at, payload.count - 1));
    json_put_i64(b, "offset", (int64_t)offset);
    if (siblings_count > 0) {
        json_key(b, "siblings");
        json_array_open(b);
        for (uint32_t i = 0; i < siblings_count; i++)
            json_text(b, id_bytes(&siblings[i]));
        json_array_close(b);
    }
    json_object_close(b);
}

void event_excerpt(struct bytes text, struct bytes_excerpt *out)
{
    size_t start = 0;
    while (start < text.count && (text.at[start] == '\n' || text.at[start] == ' '))
        start++;
    struct bytes line = bytes_make(text.at + start, text.count - start);
    const uint8_t *end = line.count > 0 ? memchr(line.at, '\n', line.count) : NULL;
    if (end != NULL)
        line.count = (size_t)(end - line.at);
    line.count = utf8_prefix(line, JOURNAL_EXCERPT_BYTES_MAX);
    out->count = (uint8_t)line.count;
    if (line.count > 0)
        memcpy(out->at, line.at, line.count);
}

struct blob *event_outcome(const struct outcome *o)
{
    struct buf b;
    buf_init(&b, EVENT_BYTES_MAX);
    json_object_open(&b);
    json_put_text(&b, "status", bytes_of(o->status));
    put_id(&b, "msg", &o->msg);
    put_id(&b, "run", &o->run);
    if (o->offset > 0)
        json_put_i64(&b, "offset", (int64_t)o->offset);
    if (o->epoch != NULL)
        json_put_text(&b, "epoch", bytes_make(o->epoch->at, o->epoch->count));
    if (o->reason.count > 0)
        json_put_raw(&b, "reason", o->reason);
    return finish(&b);
}

struct blob *event_reason(const char *code, const char *message, int64_t retry_ms,
                          const char *category)
{
    struct buf b;
    buf_init(&b, EVENT_BYTES_MAX);
    json_object_open(&b);
    json_put_text(&b, "code", bytes_of(code));
    json_put_text(&b, "message", bytes_of(message));
    if (retry_ms >= 0)
        json_put_i64(&b, "retry_ms", retry_ms);
    if (category != NULL)
        json_put_text(&b, "category", bytes_of(category));
    return finish(&b);
}
