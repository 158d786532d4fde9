/* Random operations in random batches against a model that is too simple to be wrong: the outcome
 * and the results of every write, and everything that can be read afterwards, must be the same, on
 * every driver. KITH_SEED repeats a run; the seed is printed when one fails. */
#include "base/rng.h"
#include "journal/test_world_priv.h"

enum { CONVS = 5, EVENTS = 600, RUNS = 900, CIDS = 24, CONTENTS = 2, STEPS = 120, BATCH = 24 };
static const char *const users[] = {"ada", "bob", "eve"}; /* owner, member, stranger */

struct model_event {
    enum event_kind kind;
    char msg[16], parent[16], promised[16], text[16];
    int by; /* user, or -1 */
    bool ends_run;
};

struct model_cid {
    bool used;
    uint64_t content, offset;
    char msg[16], run[16];
};

struct model_refusal {
    bool used;
    uint64_t content;
    int64_t at_ms;
    char text[16];
};

struct model_conv {
    char id[16];
    bool exists;
    uint64_t top;
    struct model_event events[EVENTS];
    char head[16], title[16], persona[16], last[16];
    int64_t last_ts_ms, updated_ms, created_ms;
    uint64_t read[2];
    bool archived[2];
    struct model_cid cids[2][CIDS];
    struct model_refusal refusals[2][CIDS];
};

struct model_run {
    char id[16], msg[16], parent[16];
    int conv;
    enum run_state state;
    uint32_t attempt;
    uint64_t seq, final_offset;
    char partial[32];
};

struct model {
    struct rng rng;
    struct model_conv convs[CONVS];
    struct model_run runs[RUNS];
    int runs_count;
    int names_count;
    int64_t now_ms;
};

/* What an operation must answer. */
struct expected {
    enum journal_outcome outcome;
    uint64_t offset;
    char msg[16], run[16], text[16], next[16];
    enum run_state state;
    uint32_t attempt, ahead;
};

static uint64_t below(struct model *m, uint64_t bound)
{
    return rng_below(&m->rng, bound);
}

static bool chance(struct model *m, uint64_t percent)
{
    return below(m, 100) < percent;
}

static void name_new(struct model *m, char letter, char out[16])
{
    (void)snprintf(out, 16, "%c%d", letter, ++m->names_count);
}

static void copy(char out[16], const char *text)
{
    (void)snprintf(out, 16, "%s", text);
}

/* --- the model -------------------------------------------------------------------------------- */

static struct model_run *model_run(struct model *m, const char *id)
{
    for (int i = 0; i < m->runs_count; i++) {
        if (strcmp(m->runs[i].id, id) == 0)
            return &m->runs[i];
    }
    return NULL;
}

static uint32_t model_unfinished(struct model *m, int conv, enum run_state state)
{
    uint32_t count = 0;
    for (int i = 0; i < m->runs_count; i++)
        count += m->runs[i].conv == conv && m->runs[i].state == state;
    return count;
}

static struct model_run *model_next(struct model *m, int conv)
{
    struct model_run *next = NULL;
    for (int i = 0; i < m->runs_count; i++) {
        struct model_run *r = &m->runs[i];
        if (r->conv == conv && r->state == RUN_QUEUED && (next == NULL || r->seq < next->seq))
            next = r;
    }
    return next;
}

static struct model_event *model_event(struct model_conv *c, enum event_kind kind, const char *text)
{
    assert_true(c->top < EVENTS);
    struct model_event *e = &c->events[c->top++];
    *e = (struct model_event){.kind = kind, .by = -1};
    copy(e->text, text);
    return e;
}

static void model_moved(struct model *m, struct model_conv *c, const char *head, bool said)
{
    if (head != NULL)
        copy(c->head, head);
    c->last_ts_ms = i64_max(c->last_ts_ms, m->now_ms);
    if (said)
        c->updated_ms = i64_max(c->updated_ms, m->now_ms);
}

static bool model_cid(struct model *m, struct model_conv *c, int user, int cid, uint64_t content,
                      struct expected *x)
{
    if (cid < 0)
        return false;
    const struct model_cid *seen = &c->cids[user][cid];
    const struct model_refusal *refused = &c->refusals[user][cid];
    if (seen->used) {
        x->outcome = seen->content == content ? JOURNAL_DUPLICATE : JOURNAL_CID_OTHER;
        x->offset = seen->offset;
        copy(x->msg, seen->msg);
        copy(x->run, seen->run);
        return true;
    }
    if (!refused->used || m->now_ms - refused->at_ms >= JOURNAL_REFUSAL_KEPT_MS)
        return false;
    x->outcome = refused->content == content ? JOURNAL_REFUSED : JOURNAL_CID_OTHER;
    copy(x->text, refused->text);
    return true;
}

/* --- one random operation: made for the journal, and carried out in the model ----------------- */

static int random_cid(struct model *m)
{
    return chance(m, 30) ? -1 : (int)below(m, CIDS);
}

static struct id cid_id(int cid)
{
    char text[16] = "";
    if (cid >= 0)
        (void)snprintf(text, sizeof(text), "cid-%d", cid);
    return an_id(text);
}

/* A message to be a child of: one of the log or one that is promised. */
static void random_parent(struct model *m, const struct model_conv *c, char out[16])
{
    out[0] = '\0';
    if (c->top == 0 || chance(m, 5))
        return;
    const struct model_event *e = &c->events[c->top - 1 - below(m, c->top < 6 ? c->top : 6)];
    bool promised = e->promised[0] != '\0' && chance(m, 60);
    copy(out, promised ? e->promised : e->msg);
}

struct append_plan {
    int conv, user, cid;
    uint64_t content;
    bool is_run, has_run, refuse_when_busy, with_state, set_head;
    char msg[16], parent[16], run[16], answer[16];
};

static void *append_make(struct model *m, const struct append_plan *p)
{
    struct journal_append *o =
        say_op(m->convs[p->conv].id, users[p->user], p->is_run ? "x" : p->msg, p->parent, NULL);
    o->cid = cid_id(p->cid);
    o->content_hash = p->content;
    o->now_ms = m->now_ms;
    o->refuse_when_busy = p->refuse_when_busy;
    o->queued_max = 3;
    o->set_head = p->set_head;
    o->head_msg = an_id(p->is_run ? p->answer : p->msg);
    o->events[0].kind = p->is_run ? EVENT_RUN : EVENT_MSG;
    o->events[0].msg = an_id(p->is_run ? "" : p->msg);
    o->events[0].parent = an_id(p->is_run ? "" : p->parent);
    if (p->with_state) {
        o->events_count = 2;
        o->events[1].kind = EVENT_STATE;
        o->events[1].payload = a_blob("state");
    }
    o->has_run = p->has_run;
    o->run.run = an_id(p->run);
    o->run.msg = an_id(p->answer);
    o->run.parent = an_id(p->is_run ? p->parent : p->msg);
    o->last.count = (uint8_t)strlen(p->msg);
    memcpy(o->last.at, p->msg, o->last.count);
    return o;
}

static void append_model_run(struct model *m, const struct append_plan *p, struct expected *x)
{
    struct model_run *r = &m->runs[m->runs_count++];
    assert_true(m->runs_count < RUNS);
    *r = (struct model_run){.conv = p->conv, .seq = m->convs[p->conv].top + 1};
    copy(r->id, p->run);
    copy(r->msg, p->answer);
    copy(r->parent, p->is_run ? p->parent : p->msg);
    r->state = x->ahead == 0 ? RUN_ACTIVE : RUN_QUEUED;
    r->attempt = x->ahead == 0 ? 1 : 0;
    x->state = r->state;
    x->attempt = r->attempt;
}

static void append_model(struct model *m, const struct append_plan *p, struct expected *x)
{
    struct model_conv *c = &m->convs[p->conv];
    x->outcome = !c->exists ? JOURNAL_GONE : p->user == 2 ? JOURNAL_NOT_MEMBER : JOURNAL_DONE;
    if (x->outcome != JOURNAL_DONE || model_cid(m, c, p->user, p->cid, p->content, x))
        return;
    if (p->has_run) {
        uint32_t active = model_unfinished(m, p->conv, RUN_ACTIVE);
        uint32_t waiting = model_unfinished(m, p->conv, RUN_QUEUED);
        if (model_run(m, p->run) != NULL) {
            x->outcome = JOURNAL_LOST;
            return;
        }
        x->ahead = active + waiting;
        if (active > 0 && (p->refuse_when_busy || waiting >= 3)) {
            x->outcome = JOURNAL_BUSY;
            return;
        }
        append_model_run(m, p, x);
    }
    struct model_event *e =
        model_event(c, p->is_run ? EVENT_RUN : EVENT_MSG, p->is_run ? "x" : p->msg);
    copy(e->msg, p->is_run ? p->answer : p->msg);
    copy(e->parent, p->parent);
    e->by = p->is_run ? -1 : p->user;
    if (p->has_run && !p->is_run)
        copy(e->promised, p->answer);
    uint64_t first = c->top;
    if (p->with_state)
        (void)model_event(c, EVENT_STATE, "state");
    model_moved(m, c, p->set_head ? e->msg : NULL, true);
    if (p->msg[0] != '\0')
        copy(c->last, p->msg);
    x->offset = first;
    if (p->cid >= 0) {
        struct model_cid *seen = &c->cids[p->user][p->cid];
        *seen = (struct model_cid){.used = true, .content = p->content, .offset = first};
        copy(seen->msg, e->msg);
        copy(seen->run, p->has_run ? p->run : "");
    }
}

static void *random_append(struct model *m, struct expected *x)
{
    struct append_plan p = {.conv = (int)below(m, CONVS)};
    p.user = chance(m, 5) ? 2 : (int)below(m, 2);
    p.cid = p.user == 2 ? -1 : random_cid(m);
    p.content = below(m, CONTENTS);
    p.has_run = chance(m, 60);
    p.is_run = p.has_run && chance(m, 25);
    p.refuse_when_busy = chance(m, 15);
    p.with_state = chance(m, 10);
    p.set_head = chance(m, 80);
    name_new(m, 'm', p.msg);
    name_new(m, 'a', p.answer);
    const struct model_run *used = m->runs_count == 0 ? NULL : &m->runs[m->runs_count - 1];
    if (chance(m, 3) && used != NULL && used->conv == p.conv)
        copy(p.run, used->id);
    else
        name_new(m, 'r', p.run);
    random_parent(m, &m->convs[p.conv], p.parent);
    if (p.is_run)
        p.msg[0] = '\0';
    void *o = append_make(m, &p);
    append_model(m, &p, x);
    return o;
}

/* A run, most likely a recent one of a conversation. */
static const struct model_run *random_run(struct model *m)
{
    if (m->runs_count == 0)
        return NULL;
    int recent = m->runs_count < 12 ? m->runs_count : 12;
    const struct model_run *r = &m->runs[m->runs_count - 1 - (int)below(m, (uint64_t)recent)];
    return r->conv < 0 ? NULL : r;
}

static enum journal_outcome model_charge(struct model *m, int conv, const char *run,
                                         uint32_t attempt)
{
    const struct model_run *r = model_run(m, run);
    if (!m->convs[conv].exists)
        return JOURNAL_GONE;
    if (r == NULL || r->conv != conv || r->state == RUN_ENDED || r->attempt != attempt)
        return JOURNAL_LOST;
    return JOURNAL_DONE;
}

static void finish_model(struct model *m, int conv, const char *run, bool set_head,
                         struct expected *x)
{
    struct model_conv *c = &m->convs[conv];
    struct model_run *r = model_run(m, run);
    struct model_event *e = model_event(c, EVENT_MSG, run);
    copy(e->msg, r->msg);
    copy(e->parent, r->parent);
    e->ends_run = true;
    model_moved(m, c, set_head ? r->msg : NULL, true);
    bool was_active = r->state == RUN_ACTIVE;
    r->state = RUN_ENDED;
    r->final_offset = c->top;
    r->partial[0] = '\0';
    x->offset = c->top;
    copy(x->msg, r->msg);
    struct model_run *next = was_active ? model_next(m, conv) : NULL;
    if (next == NULL)
        return;
    next->state = RUN_ACTIVE;
    next->attempt = 1;
    copy(x->next, next->id);
}

static void *random_finish(struct model *m, struct expected *x)
{
    const struct model_run *r = random_run(m);
    int conv = r == NULL || chance(m, 4) ? (int)below(m, CONVS) : r->conv;
    char run[16];
    copy(run, r == NULL ? "r9999" : r->id);
    uint32_t attempt = r == NULL ? 1 : chance(m, 85) ? r->attempt : (uint32_t)below(m, 3);
    bool set_head = chance(m, 80);
    struct journal_finish *o = finish_op(m->convs[conv].id, run, attempt);
    o->set_head = set_head;
    o->now_ms = m->now_ms;
    x->outcome = model_charge(m, conv, run, attempt);
    if (x->outcome == JOURNAL_DONE)
        finish_model(m, conv, run, set_head, x);
    return o;
}

static void *random_take(struct model *m, struct expected *x)
{
    const struct model_run *r = random_run(m);
    struct journal_take *o = OP(TAKE, journal_take);
    int conv = r == NULL ? 0 : r->conv;
    o->conv = an_id(m->convs[conv].id);
    o->run = an_id(r == NULL ? "r9999" : r->id);
    o->attempt = (uint32_t)below(m, 3);
    x->outcome = model_charge(m, conv, r == NULL ? "" : r->id, o->attempt);
    if (x->outcome == JOURNAL_DONE && r->state != RUN_ACTIVE)
        x->outcome = JOURNAL_LOST;
    x->attempt = o->attempt;
    if (x->outcome == JOURNAL_DONE)
        x->attempt = ++model_run(m, r->id)->attempt;
    return o;
}

static void *random_checkpoint(struct model *m, struct expected *x)
{
    static const char text[] = "abcdefghijklmnopqrstuvwxyz";
    const struct model_run *r = random_run(m);
    struct journal_checkpoint *o = OP(CHECKPOINT, journal_checkpoint);
    int conv = r == NULL ? 0 : r->conv;
    size_t count = 1 + below(m, 20);
    o->conv = an_id(m->convs[conv].id);
    o->run = an_id(r == NULL ? "r9999" : r->id);
    o->attempt = r == NULL || chance(m, 10) ? 7 : r->attempt;
    o->text = blob_copy(bytes_make(text, count));
    x->outcome = model_charge(m, conv, r == NULL ? "" : r->id, o->attempt);
    if (x->outcome == JOURNAL_DONE && r->state != RUN_ACTIVE)
        x->outcome = JOURNAL_LOST;
    if (x->outcome == JOURNAL_DONE && count >= strlen(r->partial)) {
        struct model_run *mine = model_run(m, r->id);
        memcpy(mine->partial, text, count);
        mine->partial[count] = '\0';
    }
    return o;
}

static void *random_refuse(struct model *m, struct expected *x)
{
    int conv = (int)below(m, CONVS);
    struct model_conv *c = &m->convs[conv];
    int user = (int)below(m, 2);
    int cid = (int)below(m, CIDS);
    struct journal_refuse *o = OP(REFUSE, journal_refuse);
    char why[16];
    name_new(m, 'w', why);
    o->app = an_id("default");
    o->conv = an_id(c->id);
    o->sender = a_name(users[user]);
    o->cid = cid_id(cid);
    o->content_hash = below(m, CONTENTS);
    o->refusal = a_blob(why);
    o->now_ms = m->now_ms;
    x->outcome = c->exists ? JOURNAL_DONE : JOURNAL_GONE;
    if (!c->exists || model_cid(m, c, user, cid, o->content_hash, x))
        return o;
    struct model_refusal *r = &c->refusals[user][cid];
    *r = (struct model_refusal){.used = true, .content = o->content_hash, .at_ms = m->now_ms};
    copy(r->text, why);
    return o;
}

static void *random_update(struct model *m, struct expected *x)
{
    struct model_conv *c = &m->convs[below(m, CONVS)];
    int user = chance(m, 10) ? 2 : (int)below(m, 2);
    struct journal_conv_update *o = OP(CONV_UPDATE, journal_conv_update);
    o->app = an_id("default");
    o->conv = an_id(c->id);
    o->user = a_name(users[user]);
    o->now_ms = m->now_ms;
    o->set_title = chance(m, 50);
    o->set_archived = chance(m, 30);
    o->archived = chance(m, 50);
    o->set_persona = chance(m, 30);
    char title[16];
    name_new(m, 't', title);
    o->title = o->set_title ? a_blob(title) : NULL;
    o->event = o->set_title ? a_blob("title") : NULL;
    o->persona = an_id(title);
    x->outcome = !c->exists ? JOURNAL_GONE : user == 2 ? JOURNAL_NOT_MEMBER : JOURNAL_DONE;
    if (x->outcome != JOURNAL_DONE)
        return o;
    if (o->set_title) {
        copy(c->title, title);
        (void)model_event(c, EVENT_STATE, "title");
        model_moved(m, c, NULL, false);
        x->offset = c->top;
    }
    if (o->set_persona)
        copy(c->persona, title);
    if (o->set_archived)
        c->archived[user] = o->archived;
    return o;
}

static void *random_read(struct model *m, struct expected *x)
{
    struct model_conv *c = &m->convs[below(m, CONVS)];
    int user = (int)below(m, 2);
    struct journal_read_set *o = OP(READ_SET, journal_read_set);
    o->conv = an_id(c->id);
    o->user = a_name(users[user]);
    o->offset = below(m, c->top + 3);
    x->outcome = c->exists ? JOURNAL_DONE : JOURNAL_GONE;
    uint64_t offset = o->offset < c->top ? o->offset : c->top;
    if (c->exists && offset > c->read[user])
        c->read[user] = offset;
    return o;
}

static void *random_delete(struct model *m, struct expected *x)
{
    int at = (int)below(m, CONVS);
    struct model_conv *c = &m->convs[at];
    int user = (int)below(m, 3);
    struct journal_conv_delete *o = OP(CONV_DELETE, journal_conv_delete);
    o->app = an_id("default");
    o->conv = an_id(c->id);
    o->user = a_name(users[user]);
    x->outcome = !c->exists ? JOURNAL_GONE : user > 0 ? JOURNAL_NOT_MEMBER : JOURNAL_DONE;
    if (x->outcome != JOURNAL_DONE)
        return o;
    c->exists = false;
    for (int i = 0; i < m->runs_count; i++) {
        if (m->runs[i].conv == at)
            m->runs[i] = (struct model_run){.conv = -1, .state = RUN_ENDED, .id = "-"};
    }
    return o;
}

/* A conversation that was deleted comes back as another one in its place. */
static void *random_create(struct model *m, struct expected *x)
{
    struct model_conv *c = &m->convs[below(m, CONVS)];
    if (c->exists)
        return NULL;
    *c = (struct model_conv){.exists = true};
    name_new(m, 'c', c->id);
    struct journal_conv_create *o = create_op(c->id, "ada");
    o->now_ms = m->now_ms;
    o->members_count = 1;
    o->members = mem_new_zero(sizeof(struct name));
    o->members[0] = a_name("bob");
    c->created_ms = m->now_ms;
    c->updated_ms = m->now_ms;
    copy(c->persona, "p_default");
    x->outcome = JOURNAL_DONE;
    return o;
}

static void *random_op(struct model *m, struct expected *x)
{
    *x = (struct expected){0};
    m->now_ms += (int64_t)below(m, 50);
    if (chance(m, 1))
        m->now_ms += JOURNAL_REFUSAL_KEPT_MS;
    uint64_t die = below(m, 100);
    if (die < 5) {
        void *o = random_create(m, x);
        if (o != NULL)
            return o;
    }
    if (die < 45)
        return random_append(m, x);
    if (die < 65)
        return random_finish(m, x);
    if (die < 70)
        return random_take(m, x);
    if (die < 78)
        return random_checkpoint(m, x);
    if (die < 86)
        return random_refuse(m, x);
    if (die < 92)
        return random_update(m, x);
    return die < 99 ? random_read(m, x) : random_delete(m, x);
}

/* --- comparing writes ------------------------------------------------------------------------- */

static void check_append(const struct journal_append *o, const struct expected *x)
{
    if (x->outcome == JOURNAL_DONE || x->outcome == JOURNAL_DUPLICATE)
        assert_int_equal(o->offset, x->offset);
    if (x->outcome == JOURNAL_DUPLICATE) {
        assert_id(o->first_msg, x->msg);
        assert_id(o->first_run, x->run);
    }
    if (x->outcome == JOURNAL_REFUSED)
        assert_true(bytes_is(blob_bytes(o->refusal), x->text));
    if (x->outcome == JOURNAL_DONE && o->has_run) {
        assert_int_equal(o->run.state, x->state);
        assert_int_equal(o->run.attempt, x->attempt);
        assert_int_equal(o->queued_ahead, x->ahead);
    }
}

static void check_finish(const struct journal_finish *o, const struct expected *x)
{
    if (x->outcome != JOURNAL_DONE)
        return;
    assert_int_equal(o->event.offset, x->offset);
    assert_id(o->event.msg, x->msg);
    assert_int_equal(o->has_next, x->next[0] != '\0');
    if (o->has_next)
        assert_id(o->next.run, x->next);
}

static void check_write(const struct journal_op *op, const struct expected *x)
{
    const void *o = op;
    assert_int_equal(op->err, ERR_OK);
    assert_int_equal(op->outcome, x->outcome);
    if (op->op == JOURNAL_APPEND)
        check_append(o, x);
    else if (op->op == JOURNAL_FINISH)
        check_finish(o, x);
    else if (op->op == JOURNAL_TAKE)
        assert_int_equal(((const struct journal_take *)o)->attempt, x->attempt);
    else if (op->op == JOURNAL_CONV_UPDATE)
        assert_int_equal(((const struct journal_conv_update *)o)->offset, x->offset);
}

/* --- comparing reads -------------------------------------------------------------------------- */

static const struct model_event *said(const struct model_conv *c, const char *msg, uint64_t *offset)
{
    for (uint64_t i = 0; i < c->top; i++) {
        if (c->events[i].kind == EVENT_MSG && strcmp(c->events[i].msg, msg) == 0) {
            *offset = i + 1;
            return &c->events[i];
        }
    }
    *offset = 0;
    return NULL;
}

/* The parent of `msg`, and where it was first mentioned, in halves. False: nobody did. */
static bool mentioned(const struct model_conv *c, const char *msg, char parent[16], uint64_t *place)
{
    for (uint64_t i = 0; i < c->top; i++) {
        const struct model_event *e = &c->events[i];
        bool itself = (e->kind == EVENT_MSG || e->kind == EVENT_RUN) && strcmp(e->msg, msg) == 0;
        bool promise = e->promised[0] != '\0' && strcmp(e->promised, msg) == 0;
        if (itself || promise) {
            copy(parent, itself ? e->parent : e->msg);
            *place = 2 * (i + 1) + (promise ? 1 : 0);
            return true;
        }
    }
    return false;
}

static void check_load(struct world *w, struct model *m, int at)
{
    const struct model_conv *c = &m->convs[at];
    struct journal_conv_load *o = load(w, c->id);
    assert_int_equal(o->row.offset, c->top);
    assert_id(o->row.head_msg, c->head);
    assert_id(o->row.persona, c->persona);
    assert_int_equal(o->row.last_ts_ms, c->last_ts_ms);
    assert_int_equal(o->row.updated_ms, c->updated_ms);
    assert_int_equal(o->row.created_ms, c->created_ms);
    assert_true(bytes_is(blob_bytes(o->row.title), c->title));
    assert_int_equal(o->members_count, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(o->members[i].read_offset, c->read[i]);
        assert_int_equal(o->members[i].archived, c->archived[i]);
    }
    uint32_t active = model_unfinished(m, at, RUN_ACTIVE);
    assert_true(active <= 1);
    assert_int_equal(o->runs_count, active + model_unfinished(m, at, RUN_QUEUED));
    for (uint32_t i = 0; i < o->runs_count; i++) {
        char id[ID_BYTES_MAX + 1] = "";
        memcpy(id, o->runs[i].run.at, o->runs[i].run.count);
        const struct model_run *r = model_run(m, id);
        assert_non_null(r);
        assert_int_equal(o->runs[i].state, r->state);
        assert_int_equal(o->runs[i].state, i == 0 && active == 1 ? RUN_ACTIVE : RUN_QUEUED);
        assert_int_equal(o->runs[i].attempt, r->attempt);
        assert_int_equal(o->runs[i].seq, r->seq);
        assert_true(bytes_is(blob_bytes(o->runs[i].partial), r->partial));
    }
    drop(o);
}

static void check_events(struct world *w, struct model *m, int at)
{
    const struct model_conv *c = &m->convs[at];
    struct journal_events *o = OP(EVENTS, journal_events);
    o->conv = an_id(c->id);
    o->events_max = JOURNAL_PAGE_MAX;
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    assert_int_equal(o->events_count, c->top);
    assert_int_equal(o->top, c->top);
    for (uint64_t i = 0; i < c->top; i++) {
        assert_int_equal(o->events[i].offset, i + 1);
        assert_int_equal(o->events[i].kind, c->events[i].kind);
        assert_id(o->events[i].msg, c->events[i].msg);
        assert_id(o->events[i].parent, c->events[i].parent);
        assert_id(o->events[i].promised, c->events[i].promised);
        assert_true(bytes_is(blob_bytes(o->events[i].payload), c->events[i].text));
    }
    drop(o);
}

static void check_siblings(const struct model_conv *c, const struct path_message *m,
                           const char *parent)
{
    uint32_t at = 0;
    for (uint64_t place = 2; place < 2 * c->top + 2; place++) {
        const struct model_event *e = &c->events[place / 2 - 1];
        bool promise = place % 2 == 1;
        const char *msg = promise ? e->promised : e->msg;
        char of[16];
        uint64_t first = 0;
        if (msg[0] == '\0' || !mentioned(c, msg, of, &first) || first != place ||
            strcmp(of, parent) != 0)
            continue;
        assert_true(at < m->siblings_count);
        assert_id(m->siblings[at++], msg);
    }
    assert_int_equal(at, m->siblings_count);
}

/* All pages of the path from `from`, joined, are the path; none is longer than asked unless all
 * but its oldest message are promises. */
static void check_path(struct world *w, struct model *m, int at, const char *from)
{
    const struct model_conv *c = &m->convs[at];
    uint32_t limit = 1 + (uint32_t)below(m, 7);
    char wanted[16];
    copy(wanted, from[0] != '\0' ? from : c->head);
    uint64_t before = 0;
    for (int pages = 0; pages < EVENTS; pages++) {
        struct journal_path *o = OP(PATH, journal_path);
        o->conv = an_id(c->id);
        o->from = an_id(from);
        o->limit = limit;
        o->before = before;
        o->with_siblings = true;
        assert_int_equal(outcome(w, o), JOURNAL_DONE);
        for (uint32_t i = 1; o->messages_count > limit && i < o->messages_count; i++)
            assert_null(o->messages[i].payload);
        for (uint32_t i = o->messages_count; i > 0; i--) {
            const struct path_message *p = &o->messages[i - 1];
            char parent[16];
            uint64_t offset = 0;
            uint64_t place = 0;
            assert_id(p->msg, wanted);
            assert_true(mentioned(c, wanted, parent, &place));
            const struct model_event *e = said(c, wanted, &offset);
            assert_int_equal(p->offset, offset);
            assert_true(bytes_is(blob_bytes(p->payload), e == NULL ? "" : e->text));
            assert_id(p->parent, parent);
            check_siblings(c, p, parent);
            copy(wanted, parent);
        }
        before = o->next;
        drop(o);
        if (before == 0)
            break;
    }
    assert_string_equal(wanted, "");
}

static uint64_t model_unread(const struct model_conv *c, int user)
{
    char at[16];
    uint64_t count = 0;
    copy(at, c->head);
    while (at[0] != '\0') {
        uint64_t offset = 0;
        uint64_t place = 0;
        const struct model_event *e = said(c, at, &offset);
        if (e != NULL && offset > c->read[user] && e->by != user)
            count++;
        assert_true(mentioned(c, at, at, &place));
    }
    return count < 99 ? count : 99;
}

static void check_list(struct world *w, struct model *m, int user)
{
    struct journal_conv_list *o = OP(CONV_LIST, journal_conv_list);
    o->app = an_id("default");
    o->user = a_name(users[user]);
    o->limit = 100;
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    uint32_t existing = 0;
    for (int i = 0; i < CONVS; i++)
        existing += m->convs[i].exists;
    assert_int_equal(o->items_count, user == 2 ? 0 : existing);
    for (uint32_t i = 0; i < o->items_count; i++) {
        const struct model_conv *c = NULL;
        for (int k = 0; k < CONVS; k++) {
            if (id_is(&o->items[i].conv, m->convs[k].id))
                c = &m->convs[k];
        }
        assert_non_null(c);
        assert_int_equal(o->items[i].offset, c->top);
        assert_id(o->items[i].head_msg, c->head);
        assert_int_equal(o->items[i].unread, model_unread(c, user));
        assert_int_equal(o->items[i].archived, c->archived[user]);
        assert_true(bytes_is(bytes_make(o->items[i].last.at, o->items[i].last.count), c->last));
        assert_true(i == 0 || o->items[i - 1].updated_ms >= o->items[i].updated_ms);
    }
    drop(o);
}

static void check_run(struct world *w, struct model *m)
{
    const struct model_run *r = random_run(m);
    if (r == NULL || r->conv < 0)
        return;
    struct journal_run_get *o = OP(RUN_GET, journal_run_get);
    o->run = an_id(r->id);
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    assert_int_equal(o->row.state, r->state);
    assert_int_equal(o->row.attempt, r->attempt);
    assert_id(o->row.conv, m->convs[r->conv].id);
    assert_int_equal(o->final.offset, r->final_offset);
    drop(o);
}

static void check_reads(struct world *w, struct model *m)
{
    int at = (int)below(m, CONVS);
    const struct model_conv *c = &m->convs[at];
    path_chunk_rows = 1 + (uint32_t)below(m, 6); /* every place of a walk's pieces */
    check_run(w, m);
    check_list(w, m, (int)below(m, 3));
    if (!c->exists)
        return;
    check_load(w, m, at);
    check_events(w, m, at);
    check_path(w, m, at, "");
    char from[16];
    random_parent(m, c, from);
    check_path(w, m, at, from);
}

/* --- the runs --------------------------------------------------------------------------------- */

static void step(struct world *w, struct model *m)
{
    struct journal_op *ops[BATCH];
    struct expected expected[BATCH];
    uint32_t count = 1 + (uint32_t)below(m, BATCH);
    for (uint32_t i = 0; i < count; i++)
        ops[i] = random_op(m, &expected[i]);
    if (w->mem != NULL && chance(m, 10))
        memstore_inject(w->mem, MEMSTORE_CONFLICT, 1);
    assert_int_equal(batch_run(w->batch, w->store, ops, count), ERR_OK);
    for (uint32_t i = 0; i < count; i++) {
        check_write(ops[i], &expected[i]);
        drop(ops[i]);
    }
    bool more = false;
    if (chance(m, 30))
        assert_int_equal(w->store->driver->tidy(w->store, m->now_ms, &more), ERR_OK);
    if (chance(m, 3))
        world_reopen(w);
    check_reads(w, m);
}

static void the_journal_is_its_model(void **state)
{
    static struct model model;
    const char *asked = getenv("KITH_SEED");
    uint64_t seed = 0;
    engine_random(&seed, sizeof(seed));
    if (asked != NULL)
        seed = strtoull(asked, NULL, 10);
    memset(&model, 0, sizeof(model));
    rng_init(&model.rng, seed);
    model.now_ms = 1000000;
    for (int i = 0; i < CONVS; i++)
        (void)snprintf(model.convs[i].id, 16, "none%d", i);
    print_message("KITH_SEED=%llu\n", (unsigned long long)seed);
    for (int i = 0; i < STEPS; i++)
        step(*state, &model);
}

static const struct world_case cases[] = {
    {"the_journal_is_its_model", the_journal_is_its_model},
};

int main(void)
{
    return world_run(cases, ARRAY_COUNT(cases));
}
