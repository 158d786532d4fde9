/* Reading in SQL, and the small things a store keeps about itself. */
#include "base/mem.h"
#include "engine/engine.h"
#include "journal/sql_priv.h"

/* Every reader of rows has one of these: what to do with a row, and what became of it. */
struct reading {
    enum err err;
    uint32_t seen;
    void *out;
    /* growing arrays of the room */
    uint32_t count;
    uint32_t capacity;
    /* where rows are handed on */
    const void *ask;
    event_take_fn *take_event;
    list_take_fn *take_list;
    id_take_fn *take_id;
    void *ctx;
};

static bool reading_fails(struct reading *g, enum err err)
{
    g->err = err;
    return false;
}

static enum err reading_run(struct sql_db *db, enum sql_id id, const struct value *params,
                            sql_row_fn *take, struct reading *g)
{
    enum err err = db->run(db, id, params, 1, take, g, NULL);
    return err != ERR_OK ? err : g->err;
}

/* Room for one more item of `bytes` in the array at *array. */
static bool reading_grow(struct reading *g, void **array, size_t bytes)
{
    if (g->count < g->capacity)
        return true;
    uint32_t capacity = g->capacity == 0 ? 4 : g->capacity * 2;
    void *grown = mem_resize(*array, bytes * capacity);
    if (grown == NULL)
        return false;
    *array = grown;
    g->capacity = capacity;
    return true;
}

/* --- a conversation --------------------------------------------------------------------------- */

struct conv_found {
    int64_t key;
    struct conv_row row;
};

static bool take_conv(void *ctx, const struct value *columns, uint32_t count)
{
    struct reading *g = ctx;
    struct row r = {.at = columns, .count = count};
    struct conv_found *found = g->out;
    bool full = false;
    if (g->seen > 0 || !row_conv(&r, &found->key, &found->row, &full))
        return reading_fails(g, full ? ERR_FULL : ERR_IO);
    g->seen++;
    return true;
}

enum err sql_get_conv(struct sql_db *db, const struct id *conv, int64_t *key, struct conv_row *out)
{
    struct conv_found found = {0};
    struct reading g = {.out = &found};
    struct value param = value_id(conv);
    enum err err = reading_run(db, SQL_GET_CONV, &param, take_conv, &g);
    if (err == ERR_OK && g.seen == 0)
        return ERR_NOT_FOUND;
    if (err != ERR_OK) {
        blob_unref(&found.row.title);
        blob_unref(&found.row.meta);
        return err;
    }
    *key = found.key;
    *out = found.row;
    return ERR_OK;
}

static bool take_member(void *ctx, const struct value *columns, uint32_t count)
{
    struct reading *g = ctx;
    struct row r = {.at = columns, .count = count};
    void *array = g->out;
    bool grown = reading_grow(g, &array, sizeof(struct conv_member));
    g->out = array;
    if (!grown)
        return reading_fails(g, ERR_FULL);
    struct conv_member *members = array;
    if (!row_member(&r, &members[g->count]))
        return reading_fails(g, ERR_IO);
    g->count++;
    return true;
}

enum err sql_get_members(struct sql_db *db, int64_t key, struct conv_member **out, uint32_t *count)
{
    struct reading g = {0};
    struct value param = value_i64(key);
    enum err err = reading_run(db, SQL_GET_MEMBERS, &param, take_member, &g);
    if (err != ERR_OK) {
        mem_free(g.out);
        return err;
    }
    *out = g.out;
    *count = g.count;
    return ERR_OK;
}

/* --- runs ------------------------------------------------------------------------------------- */

/* A run's columns and its checkpoint behind them. */
static enum err run_with_part(struct row *r, struct run_row *out)
{
    struct run_row run = {0};
    if (!row_run(r, &run))
        return ERR_IO;
    bool has_part = !row_is_null(r);
    struct bytes part = row_bytes(r);
    if (r->bad || part.count > BLOB_BYTES_MAX)
        return ERR_IO;
    if (has_part) {
        run.partial = blob_copy(part);
        if (run.partial == NULL)
            return ERR_FULL;
    }
    *out = run;
    return ERR_OK;
}

static bool take_run(void *ctx, const struct value *columns, uint32_t count)
{
    struct reading *g = ctx;
    struct row r = {.at = columns, .count = count};
    void *array = g->out;
    bool grown = reading_grow(g, &array, sizeof(struct run_row));
    g->out = array;
    if (!grown)
        return reading_fails(g, ERR_FULL);
    struct run_row *runs = array;
    enum err err = run_with_part(&r, &runs[g->count]);
    if (err != ERR_OK)
        return reading_fails(g, err);
    runs[g->count].conv = *(const struct id *)g->ask;
    g->count++;
    return true;
}

enum err sql_get_runs(struct sql_db *db, int64_t key, const struct id *conv, struct run_row **out,
                      uint32_t *count)
{
    struct reading g = {.ask = conv};
    struct value param = value_i64(key);
    enum err err = reading_run(db, SQL_GET_ACTIVE, &param, take_run, &g);
    if (err == ERR_OK)
        err = reading_run(db, SQL_GET_WAITING, &param, take_run, &g);
    struct run_row *runs = g.out;
    if (err != ERR_OK) {
        for (uint32_t i = 0; i < g.count; i++)
            blob_unref(&runs[i].partial);
        mem_free(runs);
        return err;
    }
    *out = runs;
    *count = g.count;
    return ERR_OK;
}

struct run_found {
    struct run_row row;
    int64_t key;
    uint64_t final_offset;
};

static bool take_one_run(void *ctx, const struct value *columns, uint32_t count)
{
    struct reading *g = ctx;
    struct row r = {.at = columns, .count = count};
    struct run_found *found = g->out;
    enum err err = g->seen > 0 ? ERR_IO : run_with_part(&r, &found->row);
    if (err != ERR_OK)
        return reading_fails(g, err);
    g->seen++;
    found->final_offset = row_u64(&r);
    found->key = row_i64(&r);
    found->row.conv = row_id(&r);
    return r.bad ? reading_fails(g, ERR_IO) : true;
}

enum err sql_get_run(struct sql_db *db, const struct id *run, struct run_row *out, int64_t *key,
                     uint64_t *final_offset)
{
    struct run_found found = {0};
    struct reading g = {.out = &found};
    struct value param = value_id(run);
    enum err err = reading_run(db, SQL_GET_RUN, &param, take_one_run, &g);
    if (err == ERR_OK && g.seen == 0)
        return ERR_NOT_FOUND;
    if (err != ERR_OK) {
        blob_unref(&found.row.partial);
        return err;
    }
    *out = found.row;
    *key = found.key;
    *final_offset = found.final_offset;
    return ERR_OK;
}

/* --- scans ------------------------------------------------------------------------------------ */

static bool take_event(void *ctx, const struct value *columns, uint32_t count)
{
    struct reading *g = ctx;
    struct row r = {.at = columns, .count = count};
    const struct scan *scan = g->ask;
    struct event_view view;
    if (!row_event(&r, scan->narrow, &view))
        return reading_fails(g, ERR_IO);
    return g->take_event(g->ctx, &view);
}

enum err sql_get_events(struct sql_db *db, int64_t key, const struct scan *scan,
                        event_take_fn *take, void *ctx)
{
    CHECK(!scan->narrow || scan->reverse);
    struct reading g = {.ask = scan, .take_event = take, .ctx = ctx};
    struct value params[4];
    params[0] = value_i64(key);
    params[1] = value_i64(scan->after > INT64_MAX ? INT64_MAX : (int64_t)scan->after);
    params[2] = value_i64(scan->before == 0 || scan->before > INT64_MAX ? INT64_MAX
                                                                        : (int64_t)scan->before);
    params[3] = value_u64(scan->rows_max);
    enum sql_id id = scan->narrow    ? SQL_GET_NARROW_DOWN
                     : scan->reverse ? SQL_GET_EVENTS_DOWN
                                     : SQL_GET_EVENTS;
    return reading_run(db, id, params, take_event, &g);
}

static bool take_item(void *ctx, const struct value *columns, uint32_t count)
{
    struct reading *g = ctx;
    struct row r = {.at = columns, .count = count};
    struct list_view view;
    if (!row_list(&r, &view))
        return reading_fails(g, ERR_IO);
    return g->take_list(g->ctx, &view);
}

enum err sql_get_list(struct sql_db *db, const struct journal_conv_list *ask, list_take_fn *take,
                      void *ctx)
{
    struct reading g = {.take_list = take, .ctx = ctx};
    bool one = !id_is_none(&ask->only);
    bool from_top = id_is_none(&ask->before_conv);
    struct value params[4];
    params[0] = value_name(&ask->user);
    params[1] = value_id(&ask->app);
    params[2] = one ? value_id(&ask->only) : value_i64(from_top ? INT64_MAX : ask->before_ms);
    params[3] = value_id(&ask->before_conv);
    return reading_run(db, one ? SQL_GET_LIST_ONE : SQL_GET_LIST, params, take_item, &g);
}

static bool take_id(void *ctx, const struct value *columns, uint32_t count)
{
    struct reading *g = ctx;
    struct row r = {.at = columns, .count = count};
    struct id id = row_id(&r);
    if (r.bad || id_is_none(&id))
        return reading_fails(g, ERR_IO);
    return g->take_id(g->ctx, &id);
}

enum err sql_get_unfinished(struct sql_db *db, id_take_fn *take, void *ctx)
{
    struct reading g = {.take_id = take, .ctx = ctx};
    return reading_run(db, SQL_GET_UNFINISHED, NULL, take_id, &g);
}

/* --- cleaning up ------------------------------------------------------------------------------ */

static bool take_key(void *ctx, const struct value *columns, uint32_t count)
{
    struct reading *g = ctx;
    struct row r = {.at = columns, .count = count};
    *(int64_t *)g->out = row_i64(&r);
    g->seen++;
    return r.bad ? reading_fails(g, ERR_IO) : true;
}

/* One piece of a deleted conversation: its events and the runs they ended, then its cids, at last
 * its own row. */
static enum err tidy_conv(struct sql_db *db, int64_t key)
{
    struct value params[2];
    uint64_t changed = 0;
    params[0] = value_i64(key);
    params[1] = value_i64(key);
    enum err err = db->run(db, SQL_DUE_RUNS, params, 1, NULL, NULL, NULL);
    if (err == ERR_OK)
        err = db->run(db, SQL_DUE_EVENTS, params, 1, NULL, NULL, &changed);
    if (err == ERR_OK && changed == 0)
        err = db->run(db, SQL_DUE_CIDS, params, 1, NULL, NULL, &changed);
    if (err != ERR_OK || changed != 0)
        return err;
    static const enum sql_id rest[] = {SQL_DUE_KEPT, SQL_DUE_META, SQL_DUE_END};
    for (size_t i = 0; i < ARRAY_COUNT(rest) && err == ERR_OK; i++)
        err = db->run(db, rest[i], params, 1, NULL, NULL, NULL);
    return err;
}

enum err sql_tidy(struct sql_db *db, int64_t now_ms, bool *more)
{
    int64_t key = 0;
    uint64_t changed = 0;
    struct reading g = {.out = &key};
    struct value due = value_i64(now_ms - JOURNAL_REFUSAL_KEPT_MS);
    enum err err = db->run(db, SQL_DUE_REFUSALS, &due, 1, NULL, NULL, &changed);
    if (err == ERR_OK)
        err = reading_run(db, SQL_DUE_CONV, NULL, take_key, &g);
    if (err == ERR_OK && g.seen > 0)
        err = tidy_conv(db, key);
    *more = g.seen > 0 || changed > 0;
    return err;
}

/* --- the store about itself ------------------------------------------------------------------- */

struct meta_found {
    bool found;
    char at[80];
};

static bool take_meta(void *ctx, const struct value *columns, uint32_t count)
{
    struct reading *g = ctx;
    struct meta_found *m = g->out;
    struct row r = {.at = columns, .count = count};
    struct bytes b = row_bytes(&r);
    if (r.bad || b.count == 0 || b.count >= sizeof(m->at))
        return reading_fails(g, ERR_IO);
    memcpy(m->at, b.at, b.count);
    m->at[b.count] = '\0';
    m->found = true;
    return true;
}

/* The value of `name`; the first caller's `otherwise` is it for ever. */
static enum err meta_value(struct sql_db *db, const char *name, const char *otherwise,
                           struct meta_found *out)
{
    struct value params[2];
    params[0] = value_text(bytes_of(name));
    params[1] = value_text(bytes_of(otherwise));
    struct reading g = {.out = out};
    out->found = false;
    enum err err = reading_run(db, SQL_GET_META, params, take_meta, &g);
    if (err != ERR_OK || out->found)
        return err;
    err = db->run(db, SQL_PUT_META, params, 1, NULL, NULL, NULL);
    if (err == ERR_OK)
        err = reading_run(db, SQL_GET_META, params, take_meta, &g);
    return err == ERR_OK && !out->found ? ERR_IO : err;
}

static bool hex_u64(const char *text, uint64_t *out)
{
    uint64_t v = 0;
    for (int i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef";
        const char *at = text[i] == '\0' ? NULL : strchr(digits, text[i]);
        if (at == NULL)
            return false;
        v = v << 4 | (uint64_t)(at - digits);
    }
    *out = v;
    return true;
}

/* Words of 16 digits each. */
static bool secret_parse(const char *text, uint64_t out[4])
{
    if (strlen(text) != 64)
        return false;
    for (int i = 0; i < 4; i++) {
        if (!hex_u64(text + 16 * i, &out[i]))
            return false;
    }
    return true;
}

enum err sql_meta(struct sql_db *db, struct store *s)
{
    struct meta_found m;
    struct buf b;
    char made[65];
    uint64_t random[4];
    engine_random(random, sizeof(random));
    buf_init_fixed(&b, made, sizeof(made));
    for (int i = 0; i < 4; i++)
        buf_printf(&b, "%016llx", (unsigned long long)random[i]);
    CHECK(!b.failed);
    made[64] = '\0';
    enum err err = meta_value(db, "cid_secret", made, &m);
    if (err != ERR_OK)
        return err;
    if (!secret_parse(m.at, s->cid_secret))
        return ERR_IO;
    err = meta_value(db, "generation", "1", &m);
    if (err != ERR_OK)
        return err;
    uint64_t generation = 0;
    for (const char *c = m.at; *c != '\0'; c++) {
        if (*c < '0' || *c > '9' || generation > GENERATION_MAX / 10)
            return ERR_IO;
        generation = generation * 10 + (uint64_t)(*c - '0');
    }
    s->generation = generation;
    return generation == 0 || generation > GENERATION_MAX ? ERR_IO : ERR_OK;
}
