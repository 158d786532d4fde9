/* Commands that need no place in the lane: create, open, run.get, run.stop, typing, read,
 * history. */
#include "talk/talk_priv.h"

#include "base/mem.h"
#include "codec/centrifuge.h"
#include "codec/json.h"

/* --- from the mailbox to the conversation ----------------------------------------------------- */

static void work_refuse(struct work *w, enum err err)
{
    answer_err(w, err);
    work_free(w);
}

static void create_start(struct talk *t, struct work *w)
{
    struct bus_command *m = work_command(w);
    static const char digits[] = "0123456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ";
    struct journal_conv_create *op = JOURNAL_NEW(CONV_CREATE, journal_conv_create, PORT_TALK);
    op->head.handle = w->self;
    op->app = m->who.app;
    op->user = m->who.user;
    op->cid = m->args.cid;
    op->conv = m->args.conv;
    op->persona = m->args.persona;
    if (id_is_none(&op->persona))
        CHECK(id_parse(bytes_of(t->config->personas[0].id), &op->persona) == ERR_OK);
    op->title = blob_ref(m->args.title);
    op->meta = blob_ref(m->args.meta);
    op->members = m->args.members;
    op->members_count = m->args.members_count;
    m->args.members = NULL;
    m->args.members_count = 0;
    op->now_ms = engine_wall_ms(t->engine);
    for (size_t i = 0; i + 1 < sizeof(op->epoch_random); i++)
        op->epoch_random[i] = digits[rng_below(engine_rng(t->engine), sizeof(digits) - 1)];
    journal_ask(t->journal, t->engine, op);
}

/* The same cid came before: the first conversation is the answer, from wherever it lives. */
static void create_again(struct work *w, const struct journal_conv_create *op)
{
    struct msg *m = w->m;
    struct bus_command *command = work_command(w);
    w->m = NULL;
    command->args.conv = op->conv;
    command->args.on = true;
    engine_post(bus_home_conv(id_bytes(&op->conv)), m);
    work_free(w);
}

static void create_answer(struct work *w, const struct journal_conv_create *op)
{
    struct buf b;
    struct conv_row row = {.app = op->app,
                           .conv = op->conv,
                           .persona = op->persona,
                           .epoch = op->epoch,
                           .created_ms = op->created_ms,
                           .updated_ms = op->created_ms,
                           .title = op->title,
                           .meta = op->meta};
    struct conv_member owner = {.user = op->user, .owner = true};
    buf_init(&b, EVENT_BYTES_MAX);
    json_object_open(&b);
    json_key(&b, "conv");
    conv_object_json(&b, &row, &owner);
    json_object_close(&b);
    answer_json(w, buf_take(&b));
}

static void tell_member(const struct journal_conv_create *op, const struct name *user)
{
    struct bus_inbox *i = BUS_NEW(INBOX, bus_inbox, PORT_TALK);
    i->app = op->app;
    i->user = *user;
    i->conv = op->conv;
    i->what = INBOX_CONV;
    engine_post(bus_home_user(id_bytes(&i->app), name_bytes(&i->user)), &i->msg);
}

void ask_on_create(struct work *w, struct journal_conv_create *op)
{
    if (op->head.err != ERR_OK) {
        work_refuse(w, op->head.err);
        return;
    }
    if (op->head.outcome == JOURNAL_DUPLICATE) {
        create_again(w, op);
        return;
    }
    create_answer(w, op);
    tell_member(op, &op->user);
    for (uint32_t i = 0; i < op->members_count; i++)
        tell_member(op, &op->members[i]);
    work_free(w);
}

/* A command that names a run or an answer only: an answer's id is its run's with another letter. */
static void resolve_start(struct talk *t, struct work *w)
{
    const struct command_args *a = &work_command(w)->args;
    struct journal_run_get *op = JOURNAL_NEW(RUN_GET, journal_run_get, PORT_TALK);
    op->head.handle = w->self;
    op->run = a->run;
    if (id_is_none(&op->run)) {
        op->run = a->msg;
        op->run.at[0] = 'r';
    }
    journal_ask(t->journal, t->engine, op);
}

void command_take(struct talk *t, struct bus_command *m)
{
    struct conv *c = NULL;
    bool create = m->command == CMD_CONV_CREATE && !m->args.on;
    bool whole = create || m->command == CMD_CONV_LIST || id_is_none(&m->args.conv);
    if (!whole)
        c = conv_get_or_load(t, &m->args.conv);
    struct work *w = !whole && c == NULL ? NULL : work_new(t, c, WORK_COMMAND, &m->msg);
    if (w == NULL) {
        bus_answer_error(&m->from, 111, true, NULL, "too much to do; ask again in a moment");
        msg_free(&m->msg);
        return;
    }
    if (create)
        create_start(t, w);
    else if (m->command == CMD_CONV_LIST)
        userbox_list(t, w);
    else if (whole)
        resolve_start(t, w);
    else if (c->state == CONV_LOADING)
        list_push_back(&c->waiting, &w->link);
    else
        command_run(c, w);
}

/* --- conv.open -------------------------------------------------------------------------------- */

static void open_start(struct conv *c, struct work *w)
{
    const struct command_args *a = &work_command(w)->args;
    struct journal_path *op = JOURNAL_NEW(PATH, journal_path, PORT_TALK);
    op->head.handle = w->self;
    op->conv = c->row.conv;
    op->limit = TALK_OPEN_DEFAULT;
    if (a->limit > 0)
        op->limit = (uint32_t)i64_min(a->limit, TALK_OPEN_MAX);
    op->before = a->before;
    op->bytes_max = TALK_OPEN_BYTES_MAX;
    op->with_siblings = true;
    journal_ask(c->talk->journal, c->talk->engine, op);
}

static struct blob *open_json(const struct journal_path *op, const struct conv_member *m)
{
    struct buf b;
    buf_init(&b, 2 * EVENT_BYTES_MAX);
    json_object_open(&b);
    json_key(&b, "conv");
    conv_object_json(&b, &op->row, m);
    json_key(&b, "messages");
    json_array_open(&b);
    for (uint32_t i = 0; i < op->messages_count; i++) {
        const struct path_message *p = &op->messages[i];
        if (p->payload == NULL)
            continue;
        uint32_t siblings = p->siblings_count > 1 ? p->siblings_count : 0;
        event_stored(&b, blob_bytes(p->payload), p->offset, p->siblings, siblings);
    }
    json_array_close(&b);
    json_put_i64(&b, "offset", (int64_t)op->row.offset);
    json_put_text(&b, "epoch", bytes_make(op->row.epoch.at, op->row.epoch.count));
    if (op->next > 0)
        json_put_i64(&b, "next", (int64_t)op->next);
    json_object_close(&b);
    return buf_take(&b);
}

void ask_on_path(struct work *w, struct journal_path *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (op->head.err != ERR_OK) {
        work_refuse(w, op->head.err);
        return;
    }
    if (op->head.outcome != JOURNAL_DONE || c == NULL) {
        work_refuse(w, ERR_NOT_FOUND);
        return;
    }
    struct member *m = conv_member(c, &work_command(w)->who.user);
    answer_json(w, open_json(op, m == NULL ? NULL : &m->row));
    work_free(w);
}

/* --- run.get ---------------------------------------------------------------------------------- */

static void run_get_start(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    const struct run *r = run_find(c, &m->args.run);
    if (r != NULL && r->committed) {
        struct buf b;
        buf_init(&b, EVENT_BYTES_MAX);
        run_snapshot(&b, r, true);
        answer_json(w, buf_take(&b));
        work_free(w);
        return;
    }
    struct journal_run_get *op = JOURNAL_NEW(RUN_GET, journal_run_get, PORT_TALK);
    op->head.handle = w->self;
    op->run = m->args.run;
    journal_ask(c->talk->journal, c->talk->engine, op);
}

static void answer_ended(struct work *w, const struct journal_run_get *op)
{
    struct buf b;
    if (work_command(w)->command == CMD_RUN_STOP) {
        struct outcome o = {.status = "accepted",
                            .msg = op->row.msg,
                            .run = op->row.run,
                            .offset = op->final.offset};
        answer_json(w, event_outcome(&o));
    } else if (op->final.payload == NULL) {
        answer_error(w, 503, true, "run", "the run is being set up; ask again in a moment");
    } else {
        buf_init(&b, EVENT_BYTES_MAX);
        event_stored(&b, blob_bytes(op->final.payload), op->final.offset, NULL, 0);
        answer_json(w, buf_take(&b));
    }
    work_free(w);
}

void ask_on_run_get(struct work *w, struct journal_run_get *op)
{
    struct bus_command *m = work_command(w);
    struct conv *c = conv_of(w->talk, w->conv);
    if (op->head.err != ERR_OK) {
        work_refuse(w, op->head.err);
        return;
    }
    if (op->head.outcome != JOURNAL_DONE) {
        const char *field = m->command == CMD_MSG_REGENERATE ? "msg" : "run";
        answer_error(w, 404, false, field,
                     m->command == CMD_MSG_REGENERATE ? "no such answer, or you may not see it"
                                                      : "no such run, or you may not see it");
        work_free(w);
        return;
    }
    if (c == NULL) { /* now its conversation is known: once more, at its home */
        struct msg *again = w->m;
        w->m = NULL;
        m->args.conv = op->row.conv;
        work_free(w);
        engine_post(bus_home_conv(id_bytes(&m->args.conv)), again);
        return;
    }
    if (!id_equal(&op->row.conv, &c->row.conv)) {
        answer_error(w, 404, false, "run", "no such run in this conversation");
        work_free(w);
        return;
    }
    answer_ended(w, op);
}

/* --- typing and reading ----------------------------------------------------------------------- */

static void answer_empty(struct work *w)
{
    answer_json(w, blob_copy(bytes_of("{}")));
    work_free(w);
}

static struct typist *typist_find(struct conv *c, const struct name *user)
{
    for (uint32_t i = 0; i < c->typists_count; i++) {
        if (name_equal(&c->typists[i].user, user))
            return &c->typists[i];
    }
    return NULL;
}

static void typing_set(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    struct mono now = engine_now(c->talk->engine);
    struct typist *p = typist_find(c, &m->who.user);
    if (c->typists == NULL && m->args.on)
        c->typists = mem_new_zero(sizeof(struct typist) * TALK_TYPISTS_MAX);
    if (m->args.on && p == NULL && c->typists != NULL && c->typists_count < TALK_TYPISTS_MAX)
        p = &c->typists[c->typists_count++];
    if (p != NULL) {
        p->user = m->who.user;
        p->until = m->args.on ? mono_after_ms(now, TALK_TYPING_MS) : now;
        struct blob *e = event_typing(name_bytes(&m->who.user), m->args.on);
        conv_publish(c, e, 0, false);
        blob_unref(&e);
        if (!m->args.on)
            *p = c->typists[--c->typists_count];
        else
            timer_set(c->talk->engine, &c->tick, p->until);
    }
    answer_empty(w);
}

static void read_store(struct conv *c, struct member *m)
{
    struct work *w = work_new(c->talk, c, WORK_READ_SET, NULL);
    if (w == NULL)
        return; /* it stays changed, and is tried again with the next tick */
    struct journal_read_set *op = JOURNAL_NEW(READ_SET, journal_read_set, PORT_TALK);
    op->head.handle = w->self;
    op->conv = c->row.conv;
    op->user = m->row.user;
    op->offset = m->row.read_offset;
    m->changed_at.ns = 0;
    journal_ask(c->talk->journal, c->talk->engine, op);
}

/* The list of the reader's other devices is read from the store, so it is told after the commit. */
void ask_on_read_set(struct work *w, const struct journal_read_set *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    struct member *m = c == NULL ? NULL : conv_member(c, &op->user);
    if (m != NULL && op->head.err != ERR_OK && m->changed_at.ns == 0)
        m->changed_at = engine_now(w->talk->engine);
    else if (m != NULL)
        conv_tell_inbox(c, &op->user);
    work_free(w);
}

static void read_publish(struct conv *c, struct member *m, struct mono now)
{
    struct blob *e = event_read(name_bytes(&m->row.user), m->row.read_offset);
    conv_publish(c, e, 0, false);
    blob_unref(&e);
    m->published_offset = m->row.read_offset;
    m->published_at = now;
}

void conv_reads_flush(struct conv *c, struct mono now, bool all)
{
    for (uint32_t i = 0; i < c->members_count; i++) {
        struct member *m = &c->members[i];
        if (m->published_offset < m->row.read_offset &&
            mono_since_ms(m->published_at, now) >= TALK_READ_PUBLISH_MS)
            read_publish(c, m, now);
        if (m->changed_at.ns != 0 &&
            (all || mono_since_ms(m->changed_at, now) >= TALK_READ_STORE_MS))
            read_store(c, m);
    }
}

/* The first move after a pause goes out and is stored at once, so that the lists of other devices
 * follow; what comes quickly after it is gathered. */
static void read_set(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    struct member *who = conv_member(c, &m->who.user);
    struct mono now = engine_now(c->talk->engine);
    uint64_t offset = m->args.offset < c->row.offset ? m->args.offset : c->row.offset;
    if (who != NULL && offset > who->row.read_offset) {
        bool quick = who->published_at.ns != 0 &&
                     mono_since_ms(who->published_at, now) < TALK_READ_PUBLISH_MS;
        who->row.read_offset = offset;
        if (who->changed_at.ns == 0)
            who->changed_at = now;
        if (quick) {
            timer_set(c->talk->engine, &c->tick, mono_after_ms(now, TALK_READ_PUBLISH_MS));
        } else {
            read_publish(c, who, now);
            read_store(c, who);
        }
    }
    answer_empty(w);
}

/* --- history of the live carrier -------------------------------------------------------------- */

static void history_answer(struct work *w, const struct conv *c, const struct journal_events *op)
{
    struct buf b;
    struct bytes epoch = bytes_make(c->row.epoch.at, c->row.epoch.count);
    uint64_t top = op == NULL ? c->row.offset : op->top;
    buf_init(&b, 2 * EVENT_BYTES_MAX);
    json_object_open(&b);
    json_key(&b, "publications");
    json_array_open(&b);
    for (uint32_t i = 0; op != NULL && i < op->events_count; i++) {
        if (i > 0)
            buf_byte(&b, ',');
        cf_publication(&b, blob_bytes(op->events[i].payload), op->events[i].offset, epoch);
    }
    json_array_close(&b);
    json_put_text(&b, "epoch", epoch);
    json_put_i64(&b, "offset", (int64_t)top);
    json_object_close(&b);
    answer_json(w, buf_take(&b));
    work_free(w);
}

static void history_start(struct conv *c, struct work *w)
{
    const struct command_args *a = &work_command(w)->args;
    struct bytes epoch = blob_bytes(a->epoch);
    if (epoch.count > 0 && !bytes_equal(epoch, bytes_make(c->row.epoch.at, c->row.epoch.count))) {
        answer_error(w, 112, false, NULL, "unrecoverable position");
        work_free(w);
        return;
    }
    if (a->limit == 0) {
        history_answer(w, c, NULL);
        return;
    }
    struct journal_events *op = JOURNAL_NEW(EVENTS, journal_events, PORT_TALK);
    op->head.handle = w->self;
    op->conv = c->row.conv;
    op->reverse = a->reverse;
    if (a->reverse)
        op->before = a->has_since ? a->offset : 0;
    else
        op->after = a->has_since ? a->offset : 0;
    op->events_max = (uint32_t)c->talk->config->recover_events_max;
    if (a->limit > 0)
        op->events_max = (uint32_t)i64_min(a->limit, c->talk->config->recover_events_max);
    op->bytes_max = (uint32_t)c->talk->config->recover_bytes_max;
    journal_ask(c->talk->journal, c->talk->engine, op);
}

void ask_on_history(struct work *w, struct journal_events *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (op->head.err != ERR_OK)
        work_refuse(w, op->head.err);
    else if (c == NULL || op->head.outcome != JOURNAL_DONE)
        work_refuse(w, ERR_NOT_FOUND);
    else
        history_answer(w, c, op);
}

/* --- dispatch --------------------------------------------------------------------------------- */

static void lane_enter(struct conv *c, struct work *w)
{
    if (c->lane_count >= TALK_LANE_MAX) {
        answer_error(w, 111, true, NULL, "this conversation is busy; ask again in a moment");
        work_free(w);
        return;
    }
    lane_push(c, w);
}

void command_run(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    conv_touch(c);
    if (!conv_may(c, &m->who)) {
        work_refuse(w, ERR_NOT_FOUND);
        return;
    }
    switch (m->command) {
    case CMD_CHAT_SEND:
    case CMD_MSG_REGENERATE:
    case CMD_CONV_UPDATE:
    case CMD_CONV_DELETE: lane_enter(c, w); return;
    case CMD_CONV_OPEN: open_start(c, w); return;
    case CMD_CONV_CREATE:
        answer_json(w, conv_object_answer(c, &m->who));
        work_free(w);
        return;
    case CMD_RUN_STOP: run_stop(c, w); return;
    case CMD_RUN_GET: run_get_start(c, w); return;
    case CMD_TYPING_SET: typing_set(c, w); return;
    case CMD_READ_SET: read_set(c, w); return;
    case CMD_HISTORY: history_start(c, w); return;
    case CMD_GUEST_CREATE:
    case CMD_CONV_LIST:
    case COMMANDS_COUNT: break;
    }
    answer_error(w, 108, false, NULL, "this command is not available here");
    work_free(w);
}
