/* chat.send and msg.regenerate: from the lane to the commit, and what the commit sets going. */
#include "talk/talk_priv.h"

#include "base/hash.h"
#include "codec/json.h"

/* The steps of a send that takes more than one transaction. */
enum { SEND_FIRST, SEND_PROBED, SEND_PARENT_KNOWN };

static const uint64_t content_key[2] = {0x6b697468636f6e74ULL, 0x656e742d68617368ULL};

/* What a cid stands for: everything the caller said, so that another text under it is noticed. */
static uint64_t content_hash(const struct command_args *a)
{
    uint64_t parts[4] = {
        hash_sip(content_key, blob_bytes(a->text)),
        hash_sip(content_key, id_bytes(&a->parent)),
        hash_sip(content_key, id_bytes(&a->msg)),
        (uint64_t)(a->no_answer ? 1 : 0) + (uint64_t)(a->go_on ? 2 : 0),
    };
    return hash_sip(content_key, bytes_make(parts, sizeof(parts)));
}

static void refuse(struct conv *c, struct work *w, const char *code, const char *message,
                   int64_t retry_ms)
{
    struct blob *reason = event_reason(code, message, retry_ms, NULL);
    struct outcome o = {.status = "refused", .reason = blob_bytes(reason)};
    DIAG_COUNT(messages_refused);
    answer_json(w, event_outcome(&o));
    blob_unref(&reason);
    lane_done(c, w);
}

/* A refusal that holds for this cid: kept for a day, then told. */
static void refuse_for_good(struct conv *c, struct work *w, const char *code, const char *message,
                            const char *category)
{
    const struct bus_command *m = work_command(w);
    struct journal_refuse *op = JOURNAL_NEW(REFUSE, journal_refuse, PORT_TALK);
    op->head.handle = w->self;
    op->app = c->row.app;
    op->conv = c->row.conv;
    op->sender = m->who.user;
    op->cid = m->args.cid;
    op->content_hash = content_hash(&m->args);
    op->refusal = event_reason(code, message, -1, category);
    op->now_ms = engine_wall_ms(c->talk->engine);
    if (op->refusal == NULL) {
        msg_free(&op->head.msg);
        answer_err(w, ERR_FULL);
        lane_done(c, w);
        return;
    }
    journal_ask(c->talk->journal, c->talk->engine, op);
}

static void answer_duplicate(struct conv *c, struct work *w, const struct id *msg,
                             const struct id *run, uint64_t offset)
{
    struct outcome o = {
        .status = "duplicate", .msg = *msg, .run = *run, .offset = offset, .epoch = &c->row.epoch};
    DIAG_COUNT(messages_duplicate);
    answer_json(w, event_outcome(&o));
}

void send_on_refuse(struct work *w, struct journal_refuse *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (c == NULL)
        return;
    if (op->head.err != ERR_OK) {
        answer_err(w, op->head.err);
    } else if (op->head.outcome == JOURNAL_DUPLICATE) {
        answer_duplicate(c, w, &op->first_msg, &op->first_run, op->offset);
    } else if (op->head.outcome == JOURNAL_CID_OTHER) {
        answer_error(w, 409, false, "cid", "this cid stands for another message; choose a new one");
    } else if (op->head.outcome == JOURNAL_NOT_MEMBER || op->head.outcome == JOURNAL_GONE) {
        answer_err(w, ERR_NOT_FOUND);
    } else {
        struct outcome o = {.status = "refused", .reason = blob_bytes(op->refusal)};
        DIAG_COUNT(messages_refused);
        answer_json(w, event_outcome(&o));
    }
    lane_done(c, w);
}

/* --- the verdict before anything is stored ---------------------------------------------------- */

/* True when the message may go on. */
static bool admit(struct conv *c, struct work *w)
{
    struct talk *t = c->talk;
    const struct bus_command *m = work_command(w);
    switch (text_check(blob_bytes(m->args.text), (size_t)t->config->text_bytes_max)) {
    case TEXT_TOO_LONG:
        refuse_for_good(c, w, "too_long", "the message is longer than this server takes", NULL);
        return false;
    case TEXT_EMPTY:
        answer_error(w, 107, false, "text", "text: must hold more than white space");
        lane_done(c, w);
        return false;
    case TEXT_INVALID:
        answer_error(w, 107, false, "text", "text: must be valid UTF-8 without U+0000");
        lane_done(c, w);
        return false;
    case TEXT_OK: break;
    }
    struct text_match hit = text_terms_find(t->terms, TEXT_USER, blob_bytes(m->args.text));
    if (hit.found) {
        DIAG_COUNT(messages_blocked);
        refuse_for_good(c, w, "blocked", "this message cannot be sent here", hit.category);
        return false;
    }
    return true;
}

/* Limits that pass by themselves. */
static bool has_room(struct conv *c, struct work *w)
{
    struct talk *t = c->talk;
    const struct bus_command *m = work_command(w);
    if (t->draining) {
        refuse(c, w, "overloaded", "the server is restarting; send again in a moment",
               TALK_RETRY_MS);
        return false;
    }
    if (m->args.no_answer)
        return true;
    if (!m->who.insecure &&
        user_runs(t, &c->row.app, &m->who.user, 0) >= (uint32_t)t->config->user_runs_max) {
        refuse(c, w, "rate_limited", "too many answers are being made for you; wait for one to end",
               2 * TALK_RETRY_MS);
        return false;
    }
    return true;
}

/* --- building the append ---------------------------------------------------------------------- */

static struct name model_name_of(struct talk *t, const struct command_args *a,
                                 const struct id *persona)
{
    struct name name = a->model;
    const struct config_persona *p = config_persona_get(t->config, id_bytes(persona));
    if (name.count == 0 && p != NULL && p->model[0] != '\0')
        CHECK(name_parse(bytes_of(p->model), &name) == ERR_OK);
    if (name.count == 0 && t->config->models_count > 0) {
        const struct config_model *m = config_model_get(t->config, (struct bytes){NULL, 0});
        CHECK(name_parse(bytes_of(m->name), &name) == ERR_OK);
    }
    return name;
}

/* The row of a new run. An answer's id is its run's ULID with another letter. */
static void new_run_row(struct conv *c, const struct bus_command *m, enum run_cause cause,
                        const struct id *parent, struct run_row *out)
{
    struct talk *t = c->talk;
    out->conv = c->row.conv;
    out->run = id_make('r', engine_wall_ms(t->engine), engine_rng(t->engine));
    out->msg = out->run;
    out->msg.at[0] = 'm';
    out->parent = *parent;
    out->persona = id_is_none(&m->args.persona) ? c->row.persona : m->args.persona;
    out->model_name = model_name_of(t, &m->args, &out->persona);
    out->asked_by = m->who.user;
    out->cause = cause;
    out->created_ms = engine_wall_ms(t->engine);
}

static struct journal_append *append_new(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    struct journal_append *op = JOURNAL_NEW(APPEND, journal_append, PORT_TALK);
    op->head.handle = w->self;
    op->app = c->row.app;
    op->conv = c->row.conv;
    op->sender = m->who.user;
    op->cid = m->args.cid;
    op->content_hash = content_hash(&m->args);
    op->queued_max = (uint32_t)c->talk->config->runs_queued_max;
    op->node = c->talk->node;
    op->now_ms = conv_next_ts(c);
    return op;
}

static struct event_by by_user(const struct bus_command *m)
{
    return (struct event_by){"user", name_bytes(&m->who.user), name_bytes(&m->who.display)};
}

static void build_send(struct conv *c, struct work *w, struct journal_append *op)
{
    const struct bus_command *m = work_command(w);
    struct event_by by = by_user(m);
    struct event_msg e = {.id = id_make('m', op->now_ms, engine_rng(c->talk->engine)),
                          .parent = w->parent,
                          .by = by,
                          .text = blob_bytes(m->args.text),
                          .status = "complete",
                          .why = "",
                          .ts_ms = op->now_ms,
                          .cid = m->args.cid};
    if (!m->args.no_answer) {
        op->has_run = true;
        op->refuse_when_busy = m->args.during == DURING_REJECT ||
                               (m->args.during == DURING_CANCEL && w->step == SEND_FIRST);
        new_run_row(c, m, RUN_CAUSE_SEND, &e.id, &op->run);
        e.has_answer = true;
        e.answer_run = op->run.run;
        e.answer_msg = op->run.msg;
        e.answer_persona = id_bytes(&op->run.persona);
        e.answer_model = name_bytes(&op->run.model_name);
    }
    op->events_count = 1;
    op->events[0].kind = EVENT_MSG;
    op->events[0].msg = e.id;
    op->events[0].parent = w->parent;
    op->events[0].payload = event_msg(&e);
    op->set_head = true;
    op->head_msg = e.id;
    event_excerpt(e.text, &op->last);
    if (!id_equal(&w->parent, &c->tail)) { /* a branch: the shown path turns to it */
        op->events_count = 2;
        op->events[1].kind = EVENT_STATE;
        op->events[1].payload = event_state("head", id_bytes(&e.id), &by, op->now_ms);
    }
}

static bool append_is_built(const struct journal_append *op)
{
    for (uint32_t i = 0; i < op->events_count; i++) {
        if (op->events[i].payload == NULL)
            return false;
    }
    return true;
}

static bool cid_is_recent(const struct conv *c, const struct id *cid)
{
    uint64_t h = hash_sip(content_key, id_bytes(cid));
    for (uint32_t i = 0; i < TALK_CIDS_RECENT; i++) {
        if (c->cids_recent[i] == h)
            return true;
    }
    return false;
}

static void cid_remember(struct conv *c, const struct id *cid)
{
    c->cids_recent[c->cids_count++ % TALK_CIDS_RECENT] = hash_sip(content_key, id_bytes(cid));
}

/* The model may be asked while the message is being committed; what it says is held until the
 * commit is known. Not for what may be a repetition, and not when somebody else is being
 * answered. */
static void begin_early(struct conv *c, struct work *w, const struct journal_append *op)
{
    const struct bus_command *m = work_command(w);
    bool sure = c->cids_whole || c->cids_count > 0;
    if (!op->has_run || !list_is_empty(&c->runs) || !sure || cid_is_recent(c, &m->args.cid))
        return;
    struct run *r = run_new(c, &op->run);
    if (r == NULL)
        return;
    r->context = blob_ref(m->args.context);
    w->run = r->self;
    run_start(c, r, m->args.text, &w->parent);
}

static void append(struct conv *c, struct work *w)
{
    struct journal_append *op = append_new(c, w);
    build_send(c, w, op);
    if (!append_is_built(op)) {
        msg_free(&op->head.msg);
        answer_err(w, ERR_FULL);
        lane_done(c, w);
        return;
    }
    begin_early(c, w, op);
    journal_ask(c->talk->journal, c->talk->engine, op);
}

/* Looks at one message of the conversation: a given parent, or what is to be answered anew. */
static void look_at(struct conv *c, struct work *w, const struct id *msg)
{
    struct journal_path *op = JOURNAL_NEW(PATH, journal_path, PORT_TALK);
    op->head.handle = w->self;
    op->conv = c->row.conv;
    op->from = *msg;
    op->limit = 1;
    journal_ask(c->talk->journal, c->talk->engine, op);
}

void send_start(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    if (!admit(c, w) || !has_room(c, w))
        return;
    if (!m->args.has_parent)
        w->parent = c->tail;
    else if (id_is_none(&m->args.parent) || id_equal(&m->args.parent, &c->tail))
        w->parent = m->args.parent;
    else {
        look_at(c, w, &m->args.parent);
        return;
    }
    append(c, w);
}

/* --- regenerate ------------------------------------------------------------------------------- */

void regenerate_start(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    if (!has_room(c, w))
        return;
    if (run_find(c, &m->args.msg) != NULL) {
        answer_error(w, 409, false, "msg", "this answer is still being made; stop it first");
        lane_done(c, w);
        return;
    }
    look_at(c, w, &m->args.msg);
}

/* What the message says about itself; views into the turn arena and the payload. */
struct looked {
    struct bytes kind;
    struct bytes text;
    struct bytes status;
};

static bool look(struct talk *t, const struct path_message *p, struct looked *out)
{
    struct json *root = NULL;
    return p->payload != NULL &&
           json_parse(engine_turn(t->engine), blob_bytes(p->payload), (struct json_limits){0, 0},
                      &root, NULL) == ERR_OK &&
           json_get_text(json_get(root, "by"), "kind", &out->kind) &&
           json_get_text(root, "text", &out->text) && json_get_text(root, "status", &out->status);
}

static void regenerate_append(struct conv *c, struct work *w, enum run_cause cause)
{
    const struct bus_command *m = work_command(w);
    struct journal_append *op = append_new(c, w);
    struct event_by by = by_user(m);
    op->has_run = true;
    new_run_row(c, m, cause, &w->parent, &op->run);
    if (cause == RUN_CAUSE_CONTINUE)
        op->run.continues = m->args.msg;
    op->events_count = 2;
    op->events[0].kind = EVENT_RUN;
    op->events[0].payload = event_run(&op->run, &by, op->now_ms);
    op->events[1].kind = EVENT_STATE;
    op->events[1].payload = event_state("head", id_bytes(&op->run.msg), &by, op->now_ms);
    op->set_head = true;
    op->head_msg = op->run.msg;
    if (!append_is_built(op)) {
        msg_free(&op->head.msg);
        answer_err(w, ERR_FULL);
        lane_done(c, w);
        return;
    }
    journal_ask(c->talk->journal, c->talk->engine, op);
}

static void regenerate_on_path(struct conv *c, struct work *w, const struct path_message *p)
{
    const struct bus_command *m = work_command(w);
    struct looked l;
    if (!look(c->talk, p, &l)) {
        answer_error(w, 409, false, "msg", "this answer has not ended yet; ask again when it has");
        lane_done(c, w);
        return;
    }
    bool by_ai = bytes_is(l.kind, "ai");
    bool cut = bytes_is(l.status, "stopped") || bytes_is(l.status, "failed");
    w->parent = by_ai ? p->parent : p->msg;
    if (m->args.go_on && (!by_ai || !cut || l.text.count == 0)) {
        answer_error(w, 107, false, "continue",
                     "continue: only a stopped or failed answer with text can be gone on from");
        lane_done(c, w);
        return;
    }
    if (m->args.go_on)
        w->kept = blob_copy(l.text);
    regenerate_append(c, w, m->args.go_on ? RUN_CAUSE_CONTINUE : RUN_CAUSE_REGENERATE);
}

void send_on_path(struct work *w, struct journal_path *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (c == NULL)
        return;
    bool regenerate = work_command(w)->command == CMD_MSG_REGENERATE;
    if (op->head.err != ERR_OK) {
        answer_err(w, op->head.err);
        lane_done(c, w);
        return;
    }
    if (op->head.outcome != JOURNAL_DONE || op->messages_count == 0) {
        answer_error(w, regenerate ? 404 : 107, false, regenerate ? "msg" : "parent",
                     regenerate ? "msg: no such message in this conversation"
                                : "parent: no such message in this conversation");
        lane_done(c, w);
        return;
    }
    const struct path_message *p = &op->messages[op->messages_count - 1];
    if (regenerate) {
        regenerate_on_path(c, w, p);
        return;
    }
    w->parent = p->msg;
    append(c, w);
}

/* --- the commit's answer ---------------------------------------------------------------------- */

static void forget_early(struct conv *c, struct work *w)
{
    struct run *r = pool_get(&c->talk->runs, w->run);
    w->run = (struct handle){0, 0};
    if (r == NULL)
        return;
    run_cancel_reply(r);
    run_free(r);
}

static void adopt_run(struct conv *c, struct work *w, struct journal_append *op)
{
    struct run *r = pool_get(&c->talk->runs, w->run);
    if (r != NULL && op->run.state != RUN_ACTIVE) {
        forget_early(c, w);
        r = NULL;
    }
    bool early = r != NULL;
    if (r == NULL)
        r = run_new(c, &op->run);
    if (r == NULL) { /* it is in the store; when the conversation is loaded anew it is found */
        diag_log(DIAG_ERROR, "run_slot_full", "conv=%.*s", (int)c->row.conv.count, c->row.conv.at);
        return;
    }
    r->row.attempt = op->run.attempt;
    r->row.seq = op->run.seq;
    r->row.state = op->run.state;
    if (!early) {
        r->kept = blob_ref(w->kept);
        r->context = blob_ref(work_command(w)->args.context);
    }
    run_committed(c, r);
}

static void on_committed(struct conv *c, struct work *w, struct journal_append *op)
{
    const struct bus_command *m = work_command(w);
    bool send = m->command == CMD_CHAT_SEND;
    DIAG_COUNT(messages_accepted);
    c->row.last_ts_ms = op->now_ms;
    c->row.updated_ms = op->now_ms;
    c->row.head_msg = op->head_msg;
    c->tail = op->has_run ? op->run.msg : op->head_msg;
    if (!id_is_none(&op->cid))
        cid_remember(c, &op->cid);
    struct outcome o = {.status = "accepted",
                        .msg = send ? op->head_msg : op->run.msg,
                        .offset = op->offset,
                        .epoch = &c->row.epoch};
    if (op->has_run)
        o.run = op->run.run;
    answer_json(w, event_outcome(&o));
    DIAG_OBSERVE(send_to_commit, engine_now(c->talk->engine).ns - m->asked_ns);
    for (uint32_t i = 0; i < op->events_count; i++) {
        c->row.offset = op->events[i].offset;
        conv_publish(c, op->events[i].payload, op->events[i].offset, false);
    }
    conv_tell_inboxes(c);
    if (op->has_run)
        adopt_run(c, w, op);
}

/* during_run: cancel. Nothing was stored yet and the cid is new: what runs is ended in order, those
 * that wait first, and this send comes right behind. */
static void cancel_then_send(struct conv *c, struct work *w)
{
    w->step = SEND_PROBED;
    c->writing = w; /* nothing moves while the lane is rebuilt */
    list_push_front(&c->lane, &w->link);
    c->lane_count++;
    struct run *active = run_active(c);
    if (active != NULL)
        run_finish_later(c, active, RUN_END_STOPPED, "cancelled", NULL, true);
    for (struct list *link = c->runs.prev, *prev; link != &c->runs; link = prev) {
        struct run *r = CONTAINER_OF(link, struct run, link);
        prev = link->prev;
        if (r != active)
            run_finish_later(c, r, RUN_END_STOPPED, "cancelled", NULL, true);
    }
    c->writing = NULL;
    lane_next(c);
}

static void on_busy(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    if (m->command == CMD_CHAT_SEND && m->args.during == DURING_CANCEL && w->step == SEND_FIRST) {
        cancel_then_send(c, w);
        return;
    }
    refuse(c, w, "busy",
           m->args.during == DURING_REJECT ? "an answer is being made; send again when it has ended"
                                           : "too many messages wait for an answer here",
           TALK_RETRY_MS);
}

static void on_failed(struct conv *c, struct work *w, enum err err)
{
    if (err == ERR_UNCERTAIN) {
        answer_err(w, err);
        work_free(w);
        c->writing = NULL;
        conv_reset(c);
        return;
    }
    if (err == ERR_FULL)
        refuse(c, w, "overloaded", "the store is full or too slow; nothing was stored",
               TALK_RETRY_MS);
    else {
        answer_err(w, err);
        lane_done(c, w);
    }
}

void send_on_append(struct work *w, struct journal_append *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (c == NULL)
        return;
    if (op->head.err != ERR_OK || op->head.outcome != JOURNAL_DONE)
        forget_early(c, w);
    if (op->head.err != ERR_OK) {
        on_failed(c, w, op->head.err);
        return;
    }
    switch (op->head.outcome) {
    case JOURNAL_DONE: on_committed(c, w, op); break;
    case JOURNAL_DUPLICATE:
        answer_duplicate(c, w, &op->first_msg, &op->first_run, op->offset);
        break;
    case JOURNAL_CID_OTHER:
        answer_error(w, 409, false, "cid", "this cid stands for another message; choose a new one");
        break;
    case JOURNAL_REFUSED: {
        struct outcome o = {.status = "refused", .reason = blob_bytes(op->refusal)};
        answer_json(w, event_outcome(&o));
        break;
    }
    case JOURNAL_BUSY: on_busy(c, w); return;
    case JOURNAL_NOT_MEMBER:
    case JOURNAL_GONE:
    case JOURNAL_LOST: answer_err(w, ERR_NOT_FOUND); break;
    }
    lane_done(c, w);
}
