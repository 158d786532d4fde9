/* Rows of the tables as values of the room. What is read back is not trusted: a damaged file is an
 * error to answer, not a reason to read past an array. */
#include "journal/sql_priv.h"

static const struct value *row_next(struct row *r)
{
    static const struct value none = {.kind = VALUE_NULL};
    if (r->next >= r->count) {
        r->bad = true;
        return &none;
    }
    return &r->at[r->next++];
}

bool row_is_null(const struct row *r)
{
    return r->next >= r->count || r->at[r->next].kind == VALUE_NULL;
}

void row_skip(struct row *r, uint32_t columns)
{
    for (uint32_t i = 0; i < columns; i++)
        (void)row_next(r); /* only moves on */
}

int64_t row_i64(struct row *r)
{
    const struct value *v = row_next(r);
    if (v->kind != VALUE_INT) {
        r->bad = true;
        return 0;
    }
    return v->number;
}

uint64_t row_bits(struct row *r)
{
    return (uint64_t)row_i64(r);
}

uint64_t row_u64(struct row *r)
{
    int64_t v = row_i64(r);
    if (v < 0) {
        r->bad = true;
        return 0;
    }
    return (uint64_t)v;
}

uint32_t row_u32(struct row *r, uint32_t max)
{
    uint64_t v = row_u64(r);
    if (v > max) {
        r->bad = true;
        return 0;
    }
    return (uint32_t)v;
}

bool row_flag(struct row *r)
{
    return row_u32(r, 1) == 1;
}

struct bytes row_bytes(struct row *r)
{
    const struct value *v = row_next(r);
    if (v->kind == VALUE_INT) {
        r->bad = true;
        return (struct bytes){NULL, 0};
    }
    return v->bytes;
}

struct id row_id(struct row *r)
{
    struct id out = {0};
    struct bytes b = row_bytes(r);
    if (b.count == 0)
        return out;
    if (id_parse(b, &out) != ERR_OK)
        r->bad = true;
    return out;
}

struct name row_name(struct row *r)
{
    struct name out = {0};
    if (name_parse(row_bytes(r), &out) != ERR_OK)
        r->bad = true;
    return out;
}

bool row_run(struct row *r, struct run_row *out)
{
    struct run_row v = {0};
    v.run = row_id(r);
    v.msg = row_id(r);
    v.parent = row_id(r);
    v.persona = row_id(r);
    v.model_name = row_name(r);
    v.asked_by = row_name(r);
    v.cause = (enum run_cause)row_u32(r, RUN_CAUSE_CONTINUE);
    v.continues = row_id(r);
    v.state = (enum run_state)row_u32(r, RUN_ENDED);
    v.attempt = row_u32(r, UINT32_MAX);
    v.seq = row_u64(r);
    v.created_ms = row_i64(r);
    if (r->bad || id_is_none(&v.run) || id_is_none(&v.msg))
        return false;
    *out = v;
    return true;
}

bool row_event(struct row *r, bool narrow, struct event_view *out)
{
    struct event_view v = {0};
    v.offset = row_u64(r);
    v.kind = (enum event_kind)row_u32(r, EVENT_STATE);
    v.msg = row_id(r);
    v.parent = row_id(r);
    v.promised = row_id(r);
    v.has_by = !row_is_null(r);
    v.by = row_name(r);
    v.ends_run = !row_is_null(r);
    (void)row_id(r); /* which run it was stands in the payload */
    if (!narrow)
        v.payload = row_bytes(r);
    if (r->bad || v.offset == 0 || v.kind == EVENT_NONE)
        return false;
    if ((v.kind == EVENT_MSG || v.kind == EVENT_RUN) && id_is_none(&v.msg))
        return false;
    *out = v;
    return true;
}

bool row_list(struct row *r, struct list_view *out)
{
    struct list_view v = {0};
    v.conv_key = row_i64(r);
    v.read_offset = row_u64(r);
    v.item.conv = row_id(r);
    v.item.persona = row_id(r);
    v.item.head_msg = row_id(r);
    v.item.offset = row_u64(r);
    v.item.updated_ms = row_i64(r);
    v.item.mode = (uint8_t)row_u32(r, UINT8_MAX);
    v.item.archived = row_flag(r);
    struct bytes last = row_bytes(r);
    v.title = row_bytes(r);
    if (r->bad || last.count > sizeof(v.item.last.at) || id_is_none(&v.item.conv) ||
        v.title.count > BLOB_BYTES_MAX)
        return false;
    v.item.last.count = (uint8_t)last.count;
    if (last.count > 0)
        memcpy(v.item.last.at, last.at, last.count);
    *out = v;
    return true;
}

/* The random part only. */
static struct epoch row_epoch(struct row *r)
{
    struct epoch e = {0};
    struct bytes b = row_bytes(r);
    if (b.count > EPOCH_RANDOM_BYTES) {
        r->bad = true;
        return e;
    }
    e.count = (uint8_t)b.count;
    if (b.count > 0)
        memcpy(e.at, b.at, b.count);
    return e;
}

bool row_conv(struct row *r, int64_t *key, struct conv_row *out, bool *full)
{
    struct conv_row v = {0};
    int64_t id = row_i64(r);
    v.app = row_id(r);
    v.conv = row_id(r);
    v.persona = row_id(r);
    v.head_msg = row_id(r);
    v.epoch = row_epoch(r);
    v.offset = row_u64(r);
    v.last_ts_ms = row_i64(r);
    v.created_ms = row_i64(r);
    v.updated_ms = row_i64(r);
    v.mode = (uint8_t)row_u32(r, UINT8_MAX);
    struct bytes title = row_bytes(r);
    bool has_meta = !row_is_null(r);
    struct bytes meta = row_bytes(r);
    if (r->bad || id_is_none(&v.conv) || title.count > BLOB_BYTES_MAX ||
        meta.count > BLOB_BYTES_MAX)
        return false;
    v.title = blob_copy(title);
    v.meta = has_meta ? blob_copy(meta) : NULL;
    if (v.title == NULL || (has_meta && v.meta == NULL)) {
        blob_unref(&v.title);
        blob_unref(&v.meta);
        *full = true;
        return false;
    }
    *key = id;
    *out = v;
    return true;
}

bool row_member(struct row *r, struct conv_member *out)
{
    struct conv_member v = {0};
    v.user = row_name(r);
    v.owner = row_flag(r);
    v.archived = row_flag(r);
    v.read_offset = row_u64(r);
    if (r->bad)
        return false;
    *out = v;
    return true;
}

/* A left-joined table whose first column is NULL is not there: `columns` of it are passed over. */
static bool row_joined(struct row *r, uint32_t columns)
{
    if (!row_is_null(r))
        return true;
    row_skip(r, columns);
    return false;
}

static void facts_conv(struct row *r, struct facts *f)
{
    f->has_conv = row_joined(r, 5);
    if (f->has_conv) {
        f->conv_key = row_i64(r);
        f->app = row_id(r);
        f->top = row_u64(r);
        f->last_ts_ms = row_i64(r);
        f->updated_ms = row_i64(r);
    }
    f->has_member = row_joined(r, 2);
    if (f->has_member) {
        f->is_owner = row_flag(r);
        f->read_offset = row_u64(r);
    }
}

static struct bytes facts_cid(struct row *r, struct facts *f)
{
    f->has_cid = row_joined(r, 4);
    if (f->has_cid) {
        f->cid_content = row_bits(r);
        f->cid_offset = row_u64(r);
        f->cid_msg = row_id(r);
        f->cid_run = row_id(r);
    }
    f->has_refusal = row_joined(r, 3);
    if (!f->has_refusal)
        return (struct bytes){NULL, 0};
    f->refusal_content = row_bits(r);
    f->refusal_ms = row_i64(r);
    return row_bytes(r);
}

static void facts_run(struct row *r, struct facts *f)
{
    f->has_run = row_joined(r, 5);
    if (f->has_run) {
        f->run_conv_key = row_i64(r);
        f->run_state = (enum run_state)row_u32(r, RUN_ENDED);
        f->run_attempt = row_u32(r, UINT32_MAX);
        f->run_msg = row_id(r);
        f->run_parent = row_id(r);
    }
    f->has_part = row_joined(r, 1);
    if (f->has_part)
        row_skip(r, 1);
    f->active_count = row_u32(r, UINT32_MAX);
    f->waiting_count = row_u32(r, UINT32_MAX);
}

bool row_facts(struct row *r, uint32_t works_count, uint32_t *index_out, struct facts *out,
               bool *full)
{
    struct facts v = {0};
    uint64_t index = row_u64(r);
    facts_conv(r, &v);
    struct bytes refusal = facts_cid(r, &v);
    facts_run(r, &v);
    if (r->bad || index >= works_count || refusal.count > BLOB_BYTES_MAX)
        return false;
    if (v.has_refusal) {
        v.refusal = blob_copy(refusal);
        if (v.refusal == NULL) {
            *full = true;
            *index_out = (uint32_t)index;
            return false;
        }
    }
    *index_out = (uint32_t)index;
    *out = v;
    return true;
}

bool row_facts_create(struct row *r, uint32_t works_count, uint32_t *index_out, struct facts *out)
{
    struct facts v = {0};
    uint64_t index = row_u64(r);
    bool has_cid = !row_is_null(r);
    struct id first = row_id(r);
    bool has_row = row_joined(r, 6);
    bool deleted = false;
    if (has_row) {
        first = row_id(r);
        v.conv_key = row_i64(r);
        v.app = row_id(r);
        v.first_epoch = row_epoch(r);
        v.first_created_ms = row_i64(r);
        deleted = row_flag(r);
    }
    v.is_owner = row_joined(r, 1) && row_flag(r);
    v.has_first = has_cid || has_row;
    v.has_conv = has_row && !deleted;
    v.first_conv = first;
    if (r->bad || index >= works_count)
        return false;
    *index_out = (uint32_t)index;
    *out = v;
    return true;
}
