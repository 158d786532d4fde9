/* A wave in SQL: what was there before (look), and the rows of its operations (write), a statement
 * per kind of row. Every kind is one line of the table at the end. */
#include "diag/diag.h"
#include "journal/sql_priv.h"

/* --- looking ---------------------------------------------------------------------------------- */

struct look {
    struct work **wave;
    uint32_t count;
    bool create;
    bool bad;
    bool full;
};

static bool look_take(void *ctx, const struct value *columns, uint32_t count)
{
    struct look *l = ctx;
    struct row r = {.at = columns, .count = count};
    uint32_t index = 0;
    struct facts facts = {0};
    bool fine = l->create ? row_facts_create(&r, l->count, &index, &facts)
                          : row_facts(&r, l->count, &index, &facts, &l->full);
    if (!fine) {
        l->bad = true;
        return false;
    }
    facts_fini(&l->wave[index]->facts); /* a second row of one index would leak the first */
    l->wave[index]->facts = facts;
    return true;
}

static void look_fill(const struct work *w, uint32_t index, bool create, struct value *v)
{
    struct bytes key = bytes_make(w->cid_key.at, sizeof(w->cid_key.at));
    v[0] = value_u64(index);
    v[1] = value_id(w->conv);
    v[2] = w->user == NULL ? value_null() : value_name(w->user);
    v[3] = w->has_cid_key ? value_blob(key) : value_null();
    if (!create)
        v[4] = w->run == NULL ? value_null() : value_id(w->run);
}

static enum err look_kind(struct sql_db *db, struct arena *scratch, struct look *l)
{
    uint32_t columns = l->create ? 4 : 5;
    struct value *params = arena_new(scratch, struct value, (size_t)columns * l->count);
    if (params == NULL)
        return ERR_FULL;
    uint32_t rows = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        const struct work *w = l->wave[i];
        if (w->conv == NULL || (w->op->op == JOURNAL_CONV_CREATE) != l->create)
            continue;
        look_fill(w, i, l->create, &params[(size_t)rows * columns]);
        rows++;
    }
    if (rows == 0)
        return ERR_OK;
    enum err err =
        db->run(db, l->create ? SQL_LOOK_CREATE : SQL_LOOK, params, rows, look_take, l, NULL);
    if (err == ERR_OK && l->bad)
        err = l->full ? ERR_FULL : ERR_IO;
    return err;
}

enum err sql_look(struct sql_db *db, struct arena *scratch, struct work **wave, uint32_t count)
{
    struct look l = {.wave = wave, .count = count, .create = true};
    enum err err = look_kind(db, scratch, &l);
    l.create = false;
    return err == ERR_OK ? look_kind(db, scratch, &l) : err;
}

/* --- rows of each kind: `k` is which of an operation's rows ----------------------------------- */

static void fill_conv(const struct work *w, uint32_t k, struct value *v)
{
    (void)k; /* one row */
    const struct journal_conv_create *o = (const void *)w->op;
    struct bytes none = {NULL, 0};
    v[0] = value_id(&o->conv);
    v[1] = value_id(&o->app);
    v[2] = value_id(&o->persona);
    v[3] = value_text(bytes_of(o->epoch_random));
    v[4] = value_u64(0); /* mode: ai */
    v[5] = value_u64(0); /* deleted */
    v[6] = value_u64(0); /* top */
    v[7] = value_text(none);
    v[8] = value_u64(0); /* last_ts */
    v[9] = value_i64(o->now_ms);
    v[10] = value_i64(o->now_ms);
    v[11] = value_blob(blob_bytes(o->title));
    v[12] = value_blob(none);
}

static void fill_conv_cid(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    v[0] = value_blob(bytes_make(w->cid_key.at, sizeof(w->cid_key.at)));
    v[1] = value_id(w->conv);
}

static void fill_meta(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_conv_create *o = (const void *)w->op;
    v[0] = value_i64(w->facts.conv_key);
    v[1] = value_blob(blob_bytes(o->meta));
}

static uint32_t count_members(const struct work *w)
{
    return 1 + ((const struct journal_conv_create *)(const void *)w->op)->members_count;
}

static void fill_member_new(const struct work *w, uint32_t k, struct value *v)
{
    const struct journal_conv_create *o = (const void *)w->op;
    v[0] = value_i64(w->facts.conv_key);
    v[1] = value_name(k == 0 ? &o->user : &o->members[k - 1]);
    v[2] = value_u64(k == 0); /* owner */
    v[3] = value_u64(0);
    v[4] = value_u64(0);
}

static void fill_head(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    v[0] = value_i64(w->facts.conv_key);
    v[1] = value_u64(w->facts.top);
    v[2] = value_u64(w->top);
    v[3] = value_id_or_null(w->head_msg);
    v[4] = w->last == NULL ? value_null() : value_blob(bytes_make(w->last->at, w->last->count));
    v[5] = value_i64(w->last_ts_ms);
    v[6] = value_i64(w->updated_ms);
}

static uint32_t count_events(const struct work *w)
{
    return w->events_count;
}

static void fill_event(const struct work *w, uint32_t k, struct value *v)
{
    const struct journal_event *e = &w->events[k];
    bool said_by_user = e->kind == EVENT_MSG && w->op->op == JOURNAL_APPEND;
    v[0] = value_i64(w->facts.conv_key);
    v[1] = value_u64(e->offset);
    v[2] = value_u64((uint64_t)e->kind);
    v[3] = value_id_or_null(&e->msg);
    v[4] = value_id_or_null(&e->parent);
    v[5] = value_id_or_null(&e->promised);
    v[6] = said_by_user ? value_name(w->user) : value_null();
    v[7] = value_id_or_null(w->events_run);
    v[8] = value_blob(blob_bytes(e->payload));
}

static void fill_cid(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_append *o = (const void *)w->op;
    v[0] = value_i64(w->facts.conv_key);
    v[1] = value_blob(bytes_make(w->cid_key.at, sizeof(w->cid_key.at)));
    v[2] = value_u64(w->content);
    v[3] = value_u64(o->events[0].offset);
    v[4] = value_id_or_null(append_first_msg(o));
    v[5] = value_id_or_null(o->has_run ? &o->run.run : NULL);
}

static void fill_refusal(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_refuse *o = (const void *)w->op;
    v[0] = value_i64(w->facts.conv_key);
    v[1] = value_blob(bytes_make(w->cid_key.at, sizeof(w->cid_key.at)));
    v[2] = value_u64(w->content);
    v[3] = value_i64(o->now_ms);
    v[4] = value_blob(blob_bytes(o->refusal));
}

static void fill_run_end(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    v[0] = value_id(w->run);
    v[1] = value_u64(w->facts.run_attempt);
    v[2] = value_u64(w->top);
}

static void fill_run_next(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_finish *o = (const void *)w->op;
    v[0] = value_i64(w->facts.conv_key);
    v[1] = value_name(&o->node);
}

static void fill_run(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_append *o = (const void *)w->op;
    const struct run_row *run = &o->run;
    const struct name nobody = {0};
    v[0] = value_id(&run->run);
    v[1] = value_i64(w->facts.conv_key);
    v[2] = value_id(&run->msg);
    v[3] = value_id(&run->parent);
    v[4] = value_id(&run->persona);
    v[5] = value_name(&run->model_name);
    v[6] = value_name(&run->asked_by);
    v[7] = value_u64((uint64_t)run->cause);
    v[8] = value_id(&run->continues);
    v[9] = value_u64((uint64_t)run->state);
    v[10] = value_u64(run->attempt);
    v[11] = value_u64(run->seq);
    v[12] = value_i64(run->created_ms);
    v[13] = run->state == RUN_ACTIVE ? value_name(&o->node) : value_name(&nobody);
    v[14] = value_u64(0); /* final_n */
}

static void fill_take(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_take *o = (const void *)w->op;
    v[0] = value_id(&o->run);
    v[1] = value_u64(w->facts.run_attempt);
    v[2] = value_name(&o->node);
}

static void fill_part(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_checkpoint *o = (const void *)w->op;
    v[0] = value_id(&o->run);
    v[1] = value_blob(blob_bytes(o->text));
    v[2] = value_i64(o->now_ms);
}

static void fill_run_id(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    v[0] = value_id(w->run);
}

static void fill_about(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_conv_update *o = (const void *)w->op;
    v[0] = value_i64(w->facts.conv_key);
    v[1] = o->set_title ? value_blob(blob_bytes(o->title)) : value_null();
    v[2] = o->set_persona ? value_id(&o->persona) : value_null();
}

static void fill_member(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_conv_update *o = (const void *)w->op;
    bool reads = w->op->op == JOURNAL_READ_SET;
    v[0] = value_i64(w->facts.conv_key);
    v[1] = value_name(w->user);
    v[2] = reads ? value_null() : value_u64(o->archived);
    v[3] = reads ? value_u64(w->read_offset) : value_null();
}

static void fill_conv_key(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    v[0] = value_i64(w->facts.conv_key);
}

static void fill_user(const struct work *w, uint32_t k, struct value *v)
{
    (void)k;
    const struct journal_user_seen *o = (const void *)w->op;
    v[0] = value_id(&o->app);
    v[1] = value_name(&o->user);
    v[2] = value_name(&o->display);
    v[3] = value_u64(o->guest);
    v[4] = value_i64(o->now_ms);
    v[5] = value_i64(o->now_ms);
}

/* --- rows that come back ---------------------------------------------------------------------- */

struct came_back {
    struct work **wave;
    uint32_t count;
    uint32_t hint; /* rows come in the order they were asked in, mostly */
    uint32_t seen;
    uint32_t todo;
    bool bad;
};

/* The next work from the hint on, round, for which `is` holds. */
static struct work *came_from(struct came_back *c, int64_t key, const struct id *conv)
{
    for (uint32_t i = 0; i < c->count; i++) {
        struct work *w = c->wave[(c->hint + i) % c->count];
        if ((w->todo & c->todo) == 0)
            continue;
        if (conv != NULL ? id_equal(w->conv, conv) : w->facts.conv_key == key) {
            c->hint = (c->hint + i + 1) % c->count;
            c->seen++;
            return w;
        }
    }
    c->bad = true;
    return NULL;
}

static bool take_conv(void *ctx, const struct value *columns, uint32_t count)
{
    struct came_back *c = ctx;
    struct row r = {.at = columns, .count = count};
    int64_t key = row_i64(&r);
    struct id conv = row_id(&r);
    struct work *w = r.bad ? NULL : came_from(c, 0, &conv);
    if (w == NULL) {
        c->bad = true;
        return false;
    }
    w->facts.conv_key = key;
    return true;
}

static bool take_next(void *ctx, const struct value *columns, uint32_t count)
{
    struct came_back *c = ctx;
    struct row r = {.at = columns, .count = count};
    struct run_row next = {0};
    int64_t key = row_i64(&r);
    struct work *w = row_run(&r, &next) ? came_from(c, key, NULL) : NULL;
    if (w == NULL) {
        c->bad = true;
        return false;
    }
    struct journal_finish *o = (void *)w->op;
    next.conv = o->conv;
    o->next = next;
    o->has_next = true;
    return true;
}

/* --- the table -------------------------------------------------------------------------------- */

struct stage {
    uint32_t todo;
    enum sql_id sql;
    uint32_t (*rows)(const struct work *w); /* NULL = one */
    void (*fill)(const struct work *w, uint32_t k, struct value *v);
    sql_row_fn *take;
    bool exact; /* every row of it must have been written */
};

/* In the order of writing: a conversation before what names its row number; an ended run before
 * the next one. */
static const struct stage stages[] = {
    {TODO_CONV, SQL_CONV, NULL, fill_conv, take_conv, true},
    {TODO_CONV_CID, SQL_CONV_CID, NULL, fill_conv_cid, NULL, true},
    {TODO_META, SQL_META, NULL, fill_meta, NULL, true},
    {TODO_MEMBERS, SQL_MEMBERS, count_members, fill_member_new, NULL, false},
    {TODO_HEAD, SQL_HEAD, NULL, fill_head, NULL, true},
    {TODO_EVENTS, SQL_EVENTS, count_events, fill_event, NULL, true},
    {TODO_CID, SQL_CID, NULL, fill_cid, NULL, true},
    {TODO_REFUSAL, SQL_REFUSAL, NULL, fill_refusal, NULL, true},
    {TODO_RUN_END, SQL_RUN_END, NULL, fill_run_end, NULL, true},
    {TODO_RUN_NEXT, SQL_RUN_NEXT, NULL, fill_run_next, take_next, true},
    {TODO_RUN, SQL_RUN, NULL, fill_run, NULL, true},
    {TODO_RUN_TAKE, SQL_RUN_TAKE, NULL, fill_take, NULL, true},
    {TODO_PART, SQL_PART, NULL, fill_part, NULL, false},
    {TODO_PART_GONE, SQL_PART_GONE, NULL, fill_run_id, NULL, false},
    {TODO_ABOUT, SQL_ABOUT, NULL, fill_about, NULL, true},
    {TODO_MEMBER, SQL_MEMBER, NULL, fill_member, NULL, true},
    {TODO_CONV_GONE, SQL_CONV_GONE, NULL, fill_conv_key, NULL, true},
    {TODO_RUNS_GONE, SQL_PARTS_GONE, NULL, fill_conv_key, NULL, false},
    {TODO_RUNS_GONE, SQL_RUNS_GONE, NULL, fill_conv_key, NULL, false},
    {TODO_MEMBERS_GONE, SQL_MEMBERS_GONE, NULL, fill_conv_key, NULL, false},
    {TODO_USER, SQL_USER, NULL, fill_user, NULL, false},
};

static uint32_t stage_rows(const struct stage *s, const struct work *w)
{
    if ((w->todo & s->todo) == 0)
        return 0;
    return s->rows == NULL ? 1 : s->rows(w);
}

static enum err stage_run(const struct stage *s, struct sql_db *db, struct arena *scratch,
                          struct work **wave, uint32_t count)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < count; i++)
        rows += stage_rows(s, wave[i]);
    if (rows == 0)
        return ERR_OK;
    size_t columns = strlen(sql_text(s->sql)->types);
    struct value *params = arena_new(scratch, struct value, columns * rows);
    if (params == NULL)
        return ERR_FULL;
    struct value *at = params;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t mine = stage_rows(s, wave[i]);
        for (uint32_t k = 0; k < mine; k++, at += columns)
            s->fill(wave[i], k, at);
    }
    struct came_back back = {.wave = wave, .count = count, .todo = s->todo};
    uint64_t changed = 0;
    enum err err = db->run(db, s->sql, params, rows, s->take, &back, &changed);
    if (err != ERR_OK)
        return err;
    if (back.bad)
        return ERR_IO;
    if (s->exact && (changed != rows || (s->take != NULL && back.seen != rows))) {
        diag_log(DIAG_WARN, "journal_lost_race", "statement=%s rows=%u changed=%llu",
                 sql_text(s->sql)->name, rows, (unsigned long long)changed);
        return ERR_CONFLICT;
    }
    return ERR_OK;
}

enum err sql_write(struct sql_db *db, struct arena *scratch, struct work **wave, uint32_t count)
{
    for (size_t s = 0; s < ARRAY_COUNT(stages); s++) {
        enum err err = stage_run(&stages[s], db, scratch, wave, count);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}
