/* What an operation leads to, given what the store knew before it. Pure: the same for every driver,
 * and what the tests of the rules call.
 *
 *     facts (from look) --> decide --> outcome + results in the operation, todo bits for write
 *
 * The driver guarantees that nothing of what was looked at changes before the write: SQLite has one
 * writer and looks inside its transaction; others lock the conversations' rows first. */
#include "journal/journal_priv.h"

/* The conversation is there, of this app when one is named, and the user is in it. */
static bool may(struct work *w)
{
    const struct facts *f = &w->facts;
    if (!f->has_conv || (w->app != NULL && !id_equal(w->app, &f->app))) {
        w->op->outcome = JOURNAL_GONE;
        return false;
    }
    if (w->user != NULL && !f->has_member) {
        w->op->outcome = JOURNAL_NOT_MEMBER;
        return false;
    }
    return true;
}

/* The log's top moves by `count`; its time never goes back. */
static void head_moves(struct work *w, uint32_t count, int64_t now_ms)
{
    w->todo |= TODO_HEAD | TODO_EVENTS;
    w->top = w->facts.top + count;
    w->last_ts_ms = i64_max(w->facts.last_ts_ms, now_ms);
    w->updated_ms = w->facts.updated_ms;
    w->events_count = count;
}

static void create_decide(struct work *w, struct journal_conv_create *o)
{
    const struct facts *f = &w->facts;
    if (!f->has_first) {
        w->op->outcome = JOURNAL_DONE;
        w->todo = TODO_CONV | TODO_MEMBERS;
        w->todo |= w->has_cid_key ? TODO_CONV_CID : 0u;
        w->todo |= o->meta != NULL ? TODO_META : 0u;
        o->created_ms = o->now_ms;
        epoch_make(&o->epoch, bytes_of(o->epoch_random), w->generation);
        return;
    }
    if (!f->has_conv) {
        w->op->outcome = JOURNAL_GONE; /* what this cid made was deleted since */
        return;
    }
    if (!f->is_owner || !id_equal(w->app, &f->app)) {
        w->err = ERR_CONFLICT; /* the id was given away twice */
        return;
    }
    w->op->outcome = JOURNAL_DUPLICATE;
    epoch_make(&o->epoch, bytes_make(f->first_epoch.at, f->first_epoch.count), w->generation);
    o->created_ms = f->first_created_ms;
}

/* Has this cid been seen? Sets the outcome and answers true when it has. */
static bool cid_decides(struct work *w, int64_t now_ms, uint64_t *offset, struct id *msg,
                        struct id *run, struct blob **refusal)
{
    struct facts *f = &w->facts;
    if (f->has_cid) {
        w->op->outcome = f->cid_content == w->content ? JOURNAL_DUPLICATE : JOURNAL_CID_OTHER;
        if (w->op->outcome == JOURNAL_DUPLICATE) {
            *offset = f->cid_offset;
            *msg = f->cid_msg;
            *run = f->cid_run;
        }
        return true;
    }
    if (f->has_refusal && now_ms - f->refusal_ms < JOURNAL_REFUSAL_KEPT_MS) {
        w->op->outcome = f->refusal_content == w->content ? JOURNAL_REFUSED : JOURNAL_CID_OTHER;
        if (w->op->outcome == JOURNAL_REFUSED) {
            blob_unref(refusal);
            *refusal = f->refusal;
            f->refusal = NULL;
        }
        return true;
    }
    return false;
}

/* Is there room for a run? Fills its row. */
static bool run_decides(struct work *w, struct journal_append *o)
{
    const struct facts *f = &w->facts;
    if (f->has_run) {
        w->op->outcome = JOURNAL_LOST; /* this run was begun before, without a cid to tell */
        return false;
    }
    bool busy = f->active_count > 0;
    o->queued_ahead = f->active_count + f->waiting_count;
    if (busy && (o->refuse_when_busy || f->waiting_count >= o->queued_max)) {
        w->op->outcome = JOURNAL_BUSY;
        return false;
    }
    o->run.conv = o->conv;
    o->run.state = busy ? RUN_QUEUED : RUN_ACTIVE;
    o->run.attempt = busy ? 0 : 1;
    o->run.seq = f->top + 1;
    o->run.created_ms = o->now_ms;
    w->todo |= TODO_RUN;
    return true;
}

static void append_events(struct work *w, struct journal_append *o)
{
    bool promised = false;
    head_moves(w, o->events_count, o->now_ms);
    w->updated_ms = i64_max(w->facts.updated_ms, o->now_ms);
    w->events = o->events;
    for (uint32_t i = 0; i < o->events_count; i++) {
        struct journal_event *e = &o->events[i];
        CHECK(e->kind != EVENT_NONE);
        CHECK(e->payload != NULL);
        e->offset = w->facts.top + 1 + i;
        if (!o->has_run || promised)
            continue;
        if (e->kind == EVENT_MSG) {
            e->promised = o->run.msg;
            promised = true;
        } else if (e->kind == EVENT_RUN) {
            e->msg = o->run.msg;
            e->parent = o->run.parent;
            promised = true;
        }
    }
}

const struct id *append_first_msg(const struct journal_append *o)
{
    for (uint32_t i = 0; i < o->events_count; i++) {
        if (!id_is_none(&o->events[i].msg))
            return &o->events[i].msg;
    }
    return NULL;
}

static void append_decide(struct work *w, struct journal_append *o)
{
    CHECK(o->events_count >= 1);
    CHECK(o->events_count <= JOURNAL_APPEND_EVENTS_MAX);
    if (!may(w) ||
        cid_decides(w, o->now_ms, &o->offset, &o->first_msg, &o->first_run, &o->refusal) ||
        (o->has_run && !run_decides(w, o)))
        return;
    w->op->outcome = JOURNAL_DONE;
    append_events(w, o);
    w->head_msg = o->set_head ? &o->head_msg : NULL;
    w->last = o->last.count > 0 ? &o->last : NULL;
    w->todo |= w->has_cid_key ? TODO_CID : 0u;
    o->offset = o->events[0].offset;
}

static void refuse_decide(struct work *w, struct journal_refuse *o)
{
    if (!may(w) || cid_decides(w, o->now_ms, &o->offset, &o->first_msg, &o->first_run, &o->refusal))
        return;
    w->op->outcome = JOURNAL_DONE;
    w->todo = w->has_cid_key ? TODO_REFUSAL : 0u;
}

/* The run is in this conversation and unfinished, and `attempt` is in charge of it. */
static bool in_charge(struct work *w, uint32_t attempt)
{
    const struct facts *f = &w->facts;
    if (!f->has_conv) {
        w->op->outcome = JOURNAL_GONE;
        return false;
    }
    if (!f->has_run || f->run_conv_key != f->conv_key || f->run_state == RUN_ENDED ||
        f->run_attempt != attempt) {
        w->op->outcome = JOURNAL_LOST;
        return false;
    }
    w->op->outcome = JOURNAL_DONE;
    return true;
}

static void finish_decide(struct work *w, struct journal_finish *o)
{
    o->has_next = false;
    if (!in_charge(w, o->attempt))
        return;
    const struct facts *f = &w->facts;
    CHECK(o->event.payload != NULL);
    head_moves(w, 1, o->now_ms);
    w->updated_ms = i64_max(f->updated_ms, o->now_ms);
    w->events = &o->event;
    w->events_run = &o->run;
    o->event.offset = w->top;
    o->event.kind = EVENT_MSG;
    o->event.msg = f->run_msg;
    o->event.parent = f->run_parent;
    w->head_msg = o->set_head ? &o->event.msg : NULL;
    w->last = o->last.count > 0 ? &o->last : NULL;
    w->todo |= TODO_RUN_END;
    w->todo |= f->has_part ? TODO_PART_GONE : 0u;
    if (f->run_state == RUN_ACTIVE && f->waiting_count > 0)
        w->todo |= TODO_RUN_NEXT;
}

static void take_decide(struct work *w, struct journal_take *o)
{
    if (!in_charge(w, o->attempt))
        return;
    if (w->facts.run_state != RUN_ACTIVE) {
        w->op->outcome = JOURNAL_LOST;
        return;
    }
    w->todo = TODO_RUN_TAKE;
}

static void checkpoint_decide(struct work *w, struct journal_checkpoint *o)
{
    if (!in_charge(w, o->attempt))
        return;
    if (w->facts.run_state == RUN_ACTIVE)
        w->todo = TODO_PART;
    else
        w->op->outcome = JOURNAL_LOST;
}

static void update_decide(struct work *w, struct journal_conv_update *o)
{
    if (!may(w))
        return;
    w->op->outcome = JOURNAL_DONE;
    if (o->event != NULL) {
        head_moves(w, 1, o->now_ms);
        w->state =
            (struct journal_event){.offset = w->top, .kind = EVENT_STATE, .payload = o->event};
        w->events = &w->state;
        o->offset = w->top;
    }
    w->todo |= (o->set_title || o->set_persona) ? TODO_ABOUT : 0u;
    w->todo |= o->set_archived ? TODO_MEMBER : 0u;
}

static void delete_decide(struct work *w)
{
    if (!may(w))
        return;
    if (!w->facts.is_owner) {
        w->op->outcome = JOURNAL_NOT_MEMBER;
        return;
    }
    w->op->outcome = JOURNAL_DONE;
    w->todo = TODO_CONV_GONE | TODO_RUNS_GONE | TODO_MEMBERS_GONE;
}

static void read_decide(struct work *w, struct journal_read_set *o)
{
    if (!may(w))
        return;
    w->op->outcome = JOURNAL_DONE;
    w->read_offset = o->offset < w->facts.top ? o->offset : w->facts.top;
    if (w->read_offset > w->facts.read_offset)
        w->todo = TODO_MEMBER;
}

void decide(struct work *w)
{
    void *o = w->op;
    CHECK(journal_op_is_write(w->op->op));
    w->todo = 0;
    if (w->err != ERR_OK)
        return;
    switch (w->op->op) {
    case JOURNAL_CONV_CREATE: create_decide(w, o); break;
    case JOURNAL_APPEND: append_decide(w, o); break;
    case JOURNAL_REFUSE: refuse_decide(w, o); break;
    case JOURNAL_FINISH: finish_decide(w, o); break;
    case JOURNAL_TAKE: take_decide(w, o); break;
    case JOURNAL_CHECKPOINT: checkpoint_decide(w, o); break;
    case JOURNAL_CONV_UPDATE: update_decide(w, o); break;
    case JOURNAL_CONV_DELETE: delete_decide(w); break;
    case JOURNAL_READ_SET: read_decide(w, o); break;
    case JOURNAL_USER_SEEN:
        w->op->outcome = JOURNAL_DONE;
        w->todo = TODO_USER;
        break;
    case JOURNAL_CONV_LOAD:
    case JOURNAL_EVENTS:
    case JOURNAL_PATH:
    case JOURNAL_CONV_LIST:
    case JOURNAL_RUN_GET:
    case JOURNAL_UNFINISHED:
    case JOURNAL_OPS_COUNT: break;
    }
}

void decide_settle(struct work *w)
{
    void *op = w->op;
    struct journal_take *take = op;
    struct journal_conv_create *create = op;
    if (w->op->op == JOURNAL_TAKE && w->op->outcome == JOURNAL_DONE)
        take->attempt = w->facts.run_attempt + 1;
    if (w->op->op == JOURNAL_CONV_CREATE && w->op->outcome == JOURNAL_DUPLICATE)
        create->conv = w->facts.first_conv;
}
