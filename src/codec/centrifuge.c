/* Commands are read through json; what goes out often (publications, replies) is written straight
 * into the buf: a message has a handful of fixed pieces, and only text needs escaping. */
#include "codec/centrifuge.h"

#define CF_OVERHEAD_BYTES 96

struct bytes cf_frame_next(struct bytes *rest)
{
    while (rest->count > 0) {
        const uint8_t *end = memchr(rest->at, '\n', rest->count);
        struct bytes line = {rest->at, end == NULL ? rest->count : (size_t)(end - rest->at)};
        size_t step = end == NULL ? line.count : line.count + 1;
        *rest = (struct bytes){rest->at + step, rest->count - step};
        if (line.count > 0)
            return line;
    }
    return (struct bytes){NULL, 0};
}

/* A cursor over the fields of one object whose first failure sticks: ask `bad` once at the end. */
struct cf_fields {
    const struct json *object;
    bool bad;
};

static const struct json *cf_field(const struct cf_fields *f, const char *key)
{
    const struct json *v = json_get(f->object, key);
    return v == NULL || v->kind == JSON_NULL ? NULL : v;
}

static struct bytes cf_text(struct cf_fields *f, const char *key)
{
    const struct json *v = cf_field(f, key);
    if (v == NULL)
        return (struct bytes){NULL, 0};
    if (v->kind != JSON_STRING)
        f->bad = true;
    return v->text;
}

static bool cf_bool(struct cf_fields *f, const char *key)
{
    const struct json *v = cf_field(f, key);
    if (v == NULL)
        return false;
    if (v->kind != JSON_TRUE && v->kind != JSON_FALSE)
        f->bad = true;
    return v->kind == JSON_TRUE;
}

static int64_t cf_i64(struct cf_fields *f, const char *key, int64_t min, int64_t max)
{
    int64_t number = 0;
    const struct json *v = cf_field(f, key);
    if (v == NULL)
        return 0;
    if (!json_i64(v, &number) || number < min || number > max) {
        f->bad = true;
        return 0;
    }
    return number;
}

static const struct json *cf_object(struct cf_fields *f, const char *key)
{
    const struct json *v = cf_field(f, key);
    if (v != NULL && v->kind != JSON_OBJECT)
        f->bad = true;
    return v;
}

/* Any value, as it was written; null is one, too. */
static struct bytes cf_raw(const struct cf_fields *f, const char *key)
{
    const struct json *v = json_get(f->object, key);
    return v == NULL ? (struct bytes){NULL, 0} : v->raw;
}

static uint64_t cf_offset(struct cf_fields *f)
{
    return (uint64_t)cf_i64(f, "offset", 0, INT64_MAX);
}

static void cf_connect_read(struct cf_fields *f, struct cf_command *c)
{
    c->token = cf_text(f, "token");
    c->name = cf_text(f, "name");
    c->version = cf_text(f, "version");
    c->data = cf_raw(f, "data");
    c->subs = cf_object(f, "subs");
    c->flag = cf_i64(f, "flag", INT64_MIN, INT64_MAX);
}

static void cf_subscribe_read(struct cf_fields *f, struct cf_command *c)
{
    c->channel = cf_text(f, "channel");
    c->token = cf_text(f, "token");
    c->data = cf_raw(f, "data");
    c->recover = cf_bool(f, "recover");
    c->positioned = cf_bool(f, "positioned");
    c->recoverable = cf_bool(f, "recoverable");
    c->join_leave = cf_bool(f, "join_leave");
    c->epoch = cf_text(f, "epoch");
    c->offset = cf_offset(f);
    c->flag = cf_i64(f, "flag", INT64_MIN, INT64_MAX);
    c->type = cf_i64(f, "type", INT64_MIN, INT64_MAX);
    c->has_filter = cf_object(f, "tf") != NULL;
    c->delta = cf_text(f, "delta");
}

static void cf_history_read(struct cf_fields *f, struct cf_command *c)
{
    c->channel = cf_text(f, "channel");
    c->limit = cf_i64(f, "limit", INT32_MIN, INT32_MAX);
    c->reverse = cf_bool(f, "reverse");
    struct cf_fields since = {.object = cf_object(f, "since")};
    c->has_since = since.object != NULL;
    c->epoch = cf_text(&since, "epoch");
    c->offset = cf_offset(&since);
    f->bad = f->bad || since.bad;
}

static void cf_method_read(struct cf_fields *f, struct cf_command *c)
{
    switch (c->method) {
    case CF_CONNECT: cf_connect_read(f, c); break;
    case CF_SUBSCRIBE: cf_subscribe_read(f, c); break;
    case CF_HISTORY: cf_history_read(f, c); break;
    case CF_UNSUBSCRIBE:
    case CF_PRESENCE:
    case CF_PRESENCE_STATS: c->channel = cf_text(f, "channel"); break;
    case CF_PUBLISH:
        c->channel = cf_text(f, "channel");
        c->data = cf_raw(f, "data");
        c->type = cf_i64(f, "type", INT64_MIN, INT64_MAX);
        break;
    case CF_SEND: c->data = cf_raw(f, "data"); break;
    case CF_RPC:
        c->rpc_method = cf_text(f, "method");
        c->data = cf_raw(f, "data");
        break;
    case CF_REFRESH: c->token = cf_text(f, "token"); break;
    case CF_SUB_REFRESH:
        c->channel = cf_text(f, "channel");
        c->token = cf_text(f, "token");
        break;
    case CF_PONG:
    case CF_PING:
    case CF_UNKNOWN: break;
    }
}

static const char *const cf_method_names[] = {
    [CF_CONNECT] = "connect", [CF_SUBSCRIBE] = "subscribe", [CF_UNSUBSCRIBE] = "unsubscribe",
    [CF_PUBLISH] = "publish", [CF_PRESENCE] = "presence",   [CF_PRESENCE_STATS] = "presence_stats",
    [CF_HISTORY] = "history", [CF_PING] = "ping",           [CF_SEND] = "send",
    [CF_RPC] = "rpc",         [CF_REFRESH] = "refresh",     [CF_SUB_REFRESH] = "sub_refresh",
};

enum err cf_command_decode(struct arena *a, struct bytes text, struct cf_command *out)
{
    struct json *root = NULL;
    enum err e = json_parse(a, text, (struct json_limits){0}, &root, NULL);
    if (e != ERR_OK)
        return e;
    if (root->kind != JSON_OBJECT)
        return ERR_PROTO;
    struct cf_fields command = {.object = root};
    struct cf_command c = {.id = (uint32_t)cf_i64(&command, "id", 0, UINT32_MAX)};
    const struct json *body = NULL;
    c.method = CF_UNKNOWN;
    for (size_t m = CF_CONNECT; m < ARRAY_COUNT(cf_method_names); m++) {
        const struct json *v = cf_object(&command, cf_method_names[m]);
        bool counts = c.id != 0 || m == CF_SEND;
        if (v != NULL && body == NULL && counts) {
            body = v;
            c.method = (enum cf_method)m;
        }
    }
    if (c.id == 0 && c.method == CF_UNKNOWN)
        c.method = CF_PONG;
    struct cf_fields fields = {.object = body};
    cf_method_read(&fields, &c);
    if (command.bad || fields.bad)
        return ERR_PROTO;
    *out = c;
    return ERR_OK;
}

bool cf_sub_read(const struct json *sub, bool *recover_out, struct bytes *epoch_out,
                 uint64_t *offset_out)
{
    struct cf_fields f = {.object = sub};
    if (sub == NULL || sub->kind != JSON_OBJECT)
        return false;
    bool recover = cf_bool(&f, "recover");
    struct bytes epoch = cf_text(&f, "epoch");
    uint64_t offset = cf_offset(&f);
    if (f.bad)
        return false;
    *recover_out = recover;
    *epoch_out = epoch;
    *offset_out = offset;
    return true;
}

static void cf_quoted(struct buf *b, struct bytes text)
{
    buf_byte(b, '"');
    json_escape(b, text);
    buf_byte(b, '"');
}

/* One growth for the usual message instead of several. Where the guess does not fit, the pieces
 * themselves find out what does. */
static void cf_room_hint(struct buf *b, size_t content_bytes)
{
    size_t wish = CF_OVERHEAD_BYTES + content_bytes;
    if (!b->fixed && wish <= b->cap - b->count)
        (void)buf_reserve(b, wish); /* a failure sticks in b */
}

/* {"id":N, or { when there is no id: a comma is due only after the number. */
static void cf_reply_begin(struct buf *b, uint32_t id, const char *name)
{
    buf_byte(b, '{');
    if (id != 0) {
        buf_text(b, "\"id\":");
        buf_u64(b, id);
        buf_byte(b, ',');
    }
    buf_byte(b, '"');
    buf_text(b, name);
    buf_text(b, "\":");
}

void cf_reply_result(struct buf *b, uint32_t id, const char *name, struct bytes result_json)
{
    cf_room_hint(b, result_json.count);
    cf_reply_begin(b, id, name);
    if (result_json.count == 0)
        buf_text(b, "{}");
    else
        buf_bytes(b, result_json);
    buf_byte(b, '}');
}

void cf_reply_error(struct buf *b, uint32_t id, uint32_t code, struct bytes message, bool temporary)
{
    cf_reply_begin(b, id, "error");
    buf_text(b, "{\"code\":");
    buf_u64(b, code);
    buf_text(b, ",\"message\":");
    cf_quoted(b, message);
    if (temporary)
        buf_text(b, ",\"temporary\":true");
    buf_text(b, "}}");
}

/* The inside of a publication: {"data":D,"offset":N,"epoch":E} without what is empty or zero. */
static void cf_publication_body(struct buf *b, struct bytes data, uint64_t offset,
                                struct bytes epoch)
{
    buf_byte(b, '{');
    if (data.count > 0) {
        buf_text(b, "\"data\":");
        buf_bytes(b, data);
    }
    if (offset > 0) {
        buf_text(b, data.count > 0 ? ",\"offset\":" : "\"offset\":");
        buf_u64(b, offset);
    }
    if (offset == 1 && epoch.count > 0) {
        buf_text(b, ",\"epoch\":");
        cf_quoted(b, epoch);
    }
    buf_byte(b, '}');
}

static void cf_push_begin(struct buf *b, struct bytes channel)
{
    buf_text(b, "{\"push\":{");
    if (channel.count > 0) {
        buf_text(b, "\"channel\":");
        cf_quoted(b, channel);
        buf_byte(b, ',');
    }
}

void cf_push_publication(struct buf *b, struct bytes channel, struct bytes data, uint64_t offset,
                         struct bytes epoch)
{
    cf_room_hint(b, channel.count + data.count);
    cf_push_begin(b, channel);
    buf_text(b, "\"pub\":");
    cf_publication_body(b, data, offset, epoch);
    buf_text(b, "}}");
}

void cf_publication(struct buf *b, struct bytes data, uint64_t offset, struct bytes epoch)
{
    if (b->count > 0 && b->at[b->count - 1] == '}')
        buf_byte(b, ',');
    cf_publication_body(b, data, offset, epoch);
}

void cf_push_unsubscribe(struct buf *b, struct bytes channel, uint32_t code, const char *reason)
{
    cf_push_begin(b, channel);
    buf_text(b, "\"unsubscribe\":{\"code\":");
    buf_u64(b, code);
    buf_text(b, ",\"reason\":");
    cf_quoted(b, bytes_of(reason));
    buf_text(b, "}}}");
}
