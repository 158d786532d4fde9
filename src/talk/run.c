/* Runs: begun, written, stopped, ended, found again after a crash. */
#include "talk/talk_priv.h"

#include "base/mem.h"
#include "codec/json.h"
#include "codec/utf8.h"

static void on_delta(void *ctx);
static void on_checkpoint_due(void *ctx);
static void on_finish_retry(void *ctx);
static void on_take_retry(void *ctx);

/* --- counting --------------------------------------------------------------------------------- */

uint32_t user_runs(struct talk *t, const struct id *app, const struct name *user, int change)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct channel_key key = {.kind = CHANNEL_INBOX, .app = *app, .user = *user};
    struct bytes k = channel_key_bytes(&key, room);
    uintptr_t count = (uintptr_t)map_get(&t->user_runs, k);
    if (change > 0 && map_put(&t->user_runs, k, (void *)(count + 1)) == ERR_OK)
        count++;
    if (change < 0 && count > 0) {
        count--;
        if (count == 0)
            (void)map_remove(&t->user_runs, k);
        else
            CHECK(map_put(&t->user_runs, k, (void *)count) == ERR_OK);
    }
    return (uint32_t)count;
}

/* --- slots ------------------------------------------------------------------------------------ */

static struct conv *conv_of_run(const struct run *r)
{
    return conv_of(r->talk, r->conv);
}

struct run *run_new(struct conv *c, const struct run_row *row)
{
    struct talk *t = c->talk;
    struct handle self;
    struct run *r = pool_new(&t->runs, &self);
    if (r == NULL)
        return NULL;
    r->talk = t;
    r->self = self;
    r->conv = c->self;
    r->row = *row;
    r->row.partial = NULL;
    r->st = RUN_ST_QUEUED;
    r->eta_ms = -1;
    r->started_ns = engine_now(t->engine).ns;
    buf_init(&r->text, (size_t)t->config->run_text_bytes_max + 4096);
    timer_init(&r->delta, on_delta, r);
    timer_init(&r->checkpoint, on_checkpoint_due, r);
    list_push_back(&c->runs, &r->link);
    r->counted = user_runs(t, &c->row.app, &row->asked_by, 1) > 0;
    DIAG_GAUGE_BY(runs_queued, 1);
    return r;
}

void run_free(struct run *r)
{
    struct talk *t = r->talk;
    struct conv *c = conv_of_run(r);
    if (r->counted && c != NULL)
        (void)user_runs(t, &c->row.app, &r->row.asked_by, -1);
    if (r->st == RUN_ST_QUEUED)
        DIAG_GAUGE_BY(runs_queued, -1);
    else
        DIAG_GAUGE_BY(runs_active, -1);
    list_remove(&r->link);
    timer_clear(t->engine, &r->delta);
    timer_clear(t->engine, &r->checkpoint);
    buf_fini(&r->text);
    blob_unref(&r->kept);
    blob_unref(&r->context);
    pool_free(&t->runs, r->self);
}

struct run *run_find(struct conv *c, const struct id *id)
{
    LIST_FOR(link, &c->runs)
    {
        struct run *r = CONTAINER_OF(link, struct run, link);
        if (id_equal(&r->row.run, id) || id_equal(&r->row.msg, id))
            return r;
    }
    return NULL;
}

struct run *run_active(struct conv *c)
{
    LIST_FOR(link, &c->runs)
    {
        struct run *r = CONTAINER_OF(link, struct run, link);
        if (r->row.state == RUN_ACTIVE)
            return r;
    }
    return NULL;
}

static void publish_status(struct run *r, const char *st, uint32_t position, int64_t eta_ms)
{
    struct conv *c = conv_of_run(r);
    if (!r->committed || c == NULL)
        return;
    struct blob *e = event_status(&r->row.run, st, position, eta_ms);
    conv_publish(c, e, 0, false);
    blob_unref(&e);
}

/* The one place that changes the state. */
void run_enter(struct run *r, enum run_st to)
{
    if (r->st == to)
        return;
    CHECK(run_st_may(r->st, to));
    if (r->st == RUN_ST_QUEUED) {
        DIAG_GAUGE_BY(runs_queued, -1);
        DIAG_GAUGE_BY(runs_active, 1);
    } else if (to == RUN_ST_QUEUED) {
        DIAG_GAUGE_BY(runs_queued, 1);
        DIAG_GAUGE_BY(runs_active, -1);
    }
    if (to == RUN_ST_WRITING)
        DIAG_OBSERVE(first_token, engine_now(r->talk->engine).ns - r->started_ns);
    diag_note(engine_now(r->talk->engine), run_st_name(to), r->self.slot, r->self.generation);
    r->st = to;
    if (to == RUN_ST_THINKING)
        publish_status(r, run_st_name(to), 0, -1);
}

/* Places of those that wait for their turn in this conversation. */
void run_positions(struct conv *c)
{
    uint32_t position = 0;
    LIST_FOR(link, &c->runs)
    {
        struct run *r = CONTAINER_OF(link, struct run, link);
        if (r->row.state != RUN_QUEUED) {
            continue;
        }
        position++;
        if (r->position == position)
            continue;
        r->position = position;
        publish_status(r, "queued", position, -1);
    }
}

/* --- text ------------------------------------------------------------------------------------- */

static void add_text(struct run *r, struct bytes text)
{
    buf_bytes(&r->text, text);
    r->text_units += utf8_units(text);
}

static void publish_text(struct run *r)
{
    struct conv *c = conv_of_run(r);
    if (!r->committed || c == NULL || r->shown_bytes == r->text.count)
        return;
    struct bytes news = bytes_make(r->text.at + r->shown_bytes, r->text.count - r->shown_bytes);
    if (c->watchers_total > 0) {
        struct blob *e = event_delta(&r->row.run, &r->row.msg, r->shown_units, news, false);
        conv_publish(c, e, 0, true);
        blob_unref(&e);
        DIAG_COUNT(deltas);
    }
    r->shown_bytes = r->text.count;
    r->shown_units = r->text_units;
    r->delta_at = engine_now(r->talk->engine);
}

static void on_delta(void *ctx)
{
    publish_text(ctx);
}

static void schedule_text(struct run *r)
{
    struct mono now = engine_now(r->talk->engine);
    struct mono next = mono_after_ms(r->delta_at, r->talk->config->run_delta_ms);
    if (r->delta_at.ns == 0 || mono_reached(next, now))
        publish_text(r);
    else if (!timer_is_set(&r->delta))
        timer_set(r->talk->engine, &r->delta, next);
}

static void publish_reasoning(struct run *r, const struct blob *reasoning)
{
    struct conv *c = conv_of_run(r);
    if (c != NULL && r->committed && c->watchers_total > 0) {
        struct blob *e =
            event_delta(&r->row.run, &r->row.msg, r->reasoning_units, blob_bytes(reasoning), true);
        conv_publish(c, e, 0, true);
        blob_unref(&e);
    }
    r->reasoning_units += utf8_units(blob_bytes(reasoning));
}

void run_on_text(struct talk *t, const struct bus_run_text *m)
{
    struct run *r = pool_get(&t->runs, m->talk_run);
    if (r == NULL || !r->replying || r->st == RUN_ST_ENDING)
        return;
    if (m->reasoning != NULL)
        publish_reasoning(r, m->reasoning);
    if (m->text == NULL || m->text->count == 0)
        return;
    if (r->st == RUN_ST_QUEUED)
        run_enter(r, RUN_ST_THINKING);
    if (r->st == RUN_ST_THINKING) {
        run_enter(r, RUN_ST_WRITING);
        if (r->committed)
            timer_set(t->engine, &r->checkpoint,
                      mono_after_ms(engine_now(t->engine), t->config->run_checkpoint_ms));
    }
    add_text(r, blob_bytes(m->text));
    schedule_text(r);
    bool late = r->checkpoint_bytes > 0 && timer_is_set(&r->checkpoint);
    if (late && r->text.count >= r->checkpoint_bytes + (size_t)t->config->run_checkpoint_bytes)
        timer_set(t->engine, &r->checkpoint, engine_now(t->engine));
}

void run_on_state(struct talk *t, const struct bus_run_state *m)
{
    struct run *r = pool_get(&t->runs, m->talk_run);
    if (r == NULL || !r->replying || (r->st != RUN_ST_QUEUED && r->st != RUN_ST_THINKING))
        return;
    if (!m->queued) {
        r->position = 0;
        r->eta_ms = -1;
        run_enter(r, RUN_ST_THINKING);
        return;
    }
    if (r->st == RUN_ST_THINKING)
        run_enter(r, RUN_ST_QUEUED);
    r->position = m->position;
    r->eta_ms = m->eta_ms;
    publish_status(r, "queued", m->position, m->eta_ms);
}

/* --- checkpoints ------------------------------------------------------------------------------ */

static void on_checkpoint_due(void *ctx)
{
    struct run *r = ctx;
    struct talk *t = r->talk;
    struct conv *c = conv_of_run(r);
    timer_set(t->engine, &r->checkpoint,
              mono_after_ms(engine_now(t->engine), t->config->run_checkpoint_ms));
    if (c == NULL || r->st != RUN_ST_WRITING || r->checkpointing ||
        r->checkpoint_bytes == r->text.count)
        return;
    struct work *w = work_new(t, c, WORK_CHECKPOINT, NULL);
    struct blob *text = w == NULL ? NULL : blob_copy(buf_view(&r->text));
    if (text == NULL) {
        DIAG_COUNT(checkpoints_shed);
        if (w != NULL)
            work_free(w);
        return;
    }
    w->run = r->self;
    r->checkpointing = true;
    r->checkpoint_bytes = r->text.count;
    struct journal_checkpoint *op = JOURNAL_NEW(CHECKPOINT, journal_checkpoint, PORT_TALK);
    op->head.handle = w->self;
    op->conv = c->row.conv;
    op->run = r->row.run;
    op->attempt = r->row.attempt;
    op->text = text;
    op->now_ms = engine_wall_ms(t->engine);
    journal_ask(t->journal, t->engine, op);
}

void run_on_checkpoint(struct work *w, struct journal_checkpoint *op)
{
    struct run *r = pool_get(&w->talk->runs, w->run);
    if (op->head.err == ERR_OK)
        DIAG_COUNT(checkpoints);
    else
        DIAG_COUNT(checkpoints_shed);
    if (r != NULL)
        r->checkpointing = false;
    work_free(w);
}

/* --- beginning -------------------------------------------------------------------------------- */

static void post_start(struct conv *c, struct run *r, struct blob *question, const struct id *from)
{
    struct bus_run_start *m = BUS_NEW(RUN_START, bus_run_start, PORT_REPLY);
    m->talk_run = r->self;
    m->conv = c->row.conv;
    m->run = r->row.run;
    m->answer = r->row.msg;
    m->persona = r->row.persona;
    m->model = r->row.model_name;
    m->from = *from;
    m->question = blob_ref(question);
    m->kept = blob_ref(r->kept);
    m->context = blob_ref(r->context);
    r->replying = true;
    r->started_ns = engine_now(r->talk->engine).ns;
    engine_post(r->talk->engine, &m->msg);
    DIAG_COUNT(runs_started);
}

/* The text that a `continue` goes on from has to be read first when only the row is known. */
static bool kept_is_missing(struct conv *c, struct run *r)
{
    if (r->row.cause != RUN_CAUSE_CONTINUE || r->kept != NULL)
        return false;
    struct work *w = work_new(c->talk, c, WORK_KEPT, NULL);
    if (w == NULL)
        return false;
    struct journal_path *op = JOURNAL_NEW(PATH, journal_path, PORT_TALK);
    w->run = r->self;
    op->head.handle = w->self;
    op->conv = c->row.conv;
    op->from = r->row.continues;
    op->limit = 1;
    journal_ask(c->talk->journal, c->talk->engine, op);
    return true;
}

/* Asks reply for the answer. `question` follows `from` and is not stored yet; NULL: `from` is what
 * is answered. */
void run_start(struct conv *c, struct run *r, struct blob *question, const struct id *from)
{
    r->row.state = RUN_ACTIVE;
    r->position = 0;
    if (r->st == RUN_ST_ENDING)
        return; /* stopped while it waited: its end stands in the lane */
    if (c->talk->draining && r->committed)
        return; /* it stays in the store and begins after the restart */
    if (kept_is_missing(c, r))
        return;
    if (r->kept != NULL && r->text.count == 0)
        add_text(r, blob_bytes(r->kept));
    run_enter(r, RUN_ST_THINKING);
    publish_text(r);
    post_start(c, r, question, from);
}

void run_on_kept(struct work *w, struct journal_path *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    struct run *r = pool_get(&w->talk->runs, w->run);
    struct json *root = NULL;
    struct bytes text;
    if (c != NULL && r != NULL) {
        if (op->head.err == ERR_OK && op->messages_count > 0 && op->messages[0].payload != NULL &&
            json_parse(engine_turn(w->talk->engine), blob_bytes(op->messages[0].payload),
                       (struct json_limits){0, 0}, &root, NULL) == ERR_OK &&
            json_get_text(root, "text", &text))
            r->kept = blob_copy(text);
        if (r->kept == NULL) {
            run_finish_later(c, r, RUN_END_FAILED, "unavailable", NULL, false);
        } else {
            run_start(c, r, NULL, &r->row.parent);
        }
    }
    work_free(w);
}

/* The message that asked for this run is in the log: what was held may be shown, and a run that is
 * its turn and was not begun early begins. */
void run_committed(struct conv *c, struct run *r)
{
    struct talk *t = c->talk;
    r->committed = true;
    conv_tell_run(c, r, true);
    if (r->st == RUN_ST_ENDING) { /* ended before its commit: the end stands in the lane */
        publish_text(r);
        return;
    }
    if (r->row.state != RUN_ACTIVE) {
        run_positions(c);
        return;
    }
    if (!r->replying) {
        run_start(c, r, NULL, &r->row.parent);
        return;
    }
    publish_status(r, r->st == RUN_ST_QUEUED ? "queued" : "thinking", r->position, r->eta_ms);
    if (r->st == RUN_ST_WRITING)
        timer_set(t->engine, &r->checkpoint,
                  mono_after_ms(engine_now(t->engine), t->config->run_checkpoint_ms));
    publish_text(r);
}

void run_cancel_reply(struct run *r)
{
    if (!r->replying)
        return;
    r->replying = false;
    struct bus_run_cancel *m = BUS_NEW(RUN_CANCEL, bus_run_cancel, PORT_REPLY);
    m->talk_run = r->self;
    engine_post(r->talk->engine, &m->msg);
}

/* --- found without a process ------------------------------------------------------------------ */

/* A run of the store that nobody works on: what was shown of it ends it with that text; a run of
 * which nothing was stored begins again under the next attempt. */
void run_orphan(struct conv *c, const struct run_row *row)
{
    struct run *r = run_new(c, row);
    if (r == NULL)
        return;
    r->committed = true;
    if (row->state != RUN_ACTIVE)
        return;
    DIAG_COUNT(runs_recovered);
    if (row->partial != NULL && row->partial->count > 0) {
        run_enter(r, RUN_ST_THINKING);
        run_enter(r, RUN_ST_WRITING);
        add_text(r, blob_bytes(row->partial));
        r->shown_bytes = r->text.count;
        r->shown_units = r->text_units;
        run_finish_later(c, r, RUN_END_FAILED, "interrupted", NULL, false);
        return;
    }
    struct work *w = work_new(c->talk, c, WORK_TAKE, NULL);
    if (w == NULL)
        return;
    w->run = r->self;
    timer_init(&w->retry, on_take_retry, w);
    lane_push(c, w);
}

static void on_take_retry(void *ctx)
{
    struct work *w = ctx;
    struct conv *c = conv_of(w->talk, w->conv);
    if (c != NULL)
        run_take_start(c, w);
}

void run_take_start(struct conv *c, struct work *w)
{
    struct run *r = pool_get(&c->talk->runs, w->run);
    if (r == NULL) {
        lane_done(c, w);
        return;
    }
    struct journal_take *op = JOURNAL_NEW(TAKE, journal_take, PORT_TALK);
    op->head.handle = w->self;
    op->conv = c->row.conv;
    op->run = r->row.run;
    op->attempt = r->row.attempt;
    op->node = c->talk->node;
    journal_ask(c->talk->journal, c->talk->engine, op);
}

void run_on_take(struct work *w, struct journal_take *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    struct run *r = pool_get(&w->talk->runs, w->run);
    if (c == NULL)
        return;
    if (op->head.err != ERR_OK) {
        timer_set(c->talk->engine, &w->retry,
                  mono_after_ms(engine_now(c->talk->engine), TALK_FINISH_RETRY_MS));
        return;
    }
    if (r != NULL && op->head.outcome != JOURNAL_DONE) {
        DIAG_COUNT(run_lost);
        conv_reset(c); /* loaded anew, with another look at who is in charge */
        return;
    }
    if (r != NULL) {
        r->row.attempt = op->attempt;
        conv_tell_run(c, r, true);
        run_start(c, r, NULL, &r->row.parent);
    }
    lane_done(c, w);
}

/* --- ending ----------------------------------------------------------------------------------- */

/* Puts the end of a run into the lane. `asked` is the command to answer when it is committed. */
void run_finish_later(struct conv *c, struct run *r, enum run_end end, const char *why,
                      struct msg *asked, bool front)
{
    struct work *w = work_new(c->talk, c, WORK_FINISH, asked);
    CHECK(w != NULL); /* TALK_WORKS_MAX is far above what commands may hold */
    run_cancel_reply(r);
    w->run = r->self;
    w->end = end;
    w->why = why;
    timer_init(&w->retry, on_finish_retry, w);
    run_enter(r, RUN_ST_ENDING);
    timer_clear(c->talk->engine, &r->checkpoint);
    if (front)
        lane_push_front(c, w);
    else
        lane_push(c, w);
}

void run_on_end(struct talk *t, const struct bus_run_end *m)
{
    struct run *r = pool_get(&t->runs, m->talk_run);
    struct conv *c = r == NULL ? NULL : conv_of_run(r);
    if (c == NULL || !r->replying || r->st == RUN_ST_ENDING)
        return;
    r->replying = false;
    struct work *w = work_new(t, c, WORK_FINISH, NULL);
    CHECK(w != NULL);
    w->run = r->self;
    w->end = m->end;
    w->why = m->why;
    w->has_usage = m->has_usage;
    w->tokens_in = m->tokens_in;
    w->tokens_out = m->tokens_out;
    timer_init(&w->retry, on_finish_retry, w);
    if (r->st == RUN_ST_QUEUED)
        run_enter(r, RUN_ST_THINKING);
    run_enter(r, RUN_ST_ENDING);
    timer_clear(t->engine, &r->checkpoint);
    lane_push(c, w);
}

static void persona_by(const struct conv *c, const struct run *r, struct event_by *out)
{
    const struct config_persona *p = config_persona_get(c->talk->config, id_bytes(&r->row.persona));
    out->kind = "ai";
    out->id = id_bytes(&r->row.persona);
    out->name = p == NULL ? (struct bytes){NULL, 0} : bytes_of(p->name);
}

static struct blob *final_event(struct conv *c, const struct run *r, const struct work *w,
                                int64_t ts_ms)
{
    struct event_msg e = {.id = r->row.msg,
                          .parent = r->row.parent,
                          .text = buf_view(&r->text),
                          .status = run_end_name(w->end),
                          .why = w->why,
                          .ts_ms = ts_ms,
                          .run = r->row.run,
                          .model = name_bytes(&r->row.model_name),
                          .has_usage = w->has_usage,
                          .tokens_in = w->tokens_in,
                          .tokens_out = w->tokens_out};
    persona_by(c, r, &e.by);
    if (w->end == RUN_END_BLOCKED)
        e.text = bytes_of("This answer was withheld.");
    return event_msg(&e);
}

void run_finish_start(struct conv *c, struct work *w)
{
    struct talk *t = c->talk;
    struct run *r = pool_get(&t->runs, w->run);
    if (r == NULL) { /* what asked for it was refused, or an earlier item of the lane ended it */
        struct outcome o = {.status = "accepted", .epoch = &c->row.epoch};
        answer_json(w, event_outcome(&o));
        lane_done(c, w);
        return;
    }
    publish_text(r); /* who missed nothing holds exactly the final text */
    struct journal_finish *op = JOURNAL_NEW(FINISH, journal_finish, PORT_TALK);
    op->head.handle = w->self;
    op->conv = c->row.conv;
    op->run = r->row.run;
    op->attempt = r->row.state == RUN_ACTIVE ? r->row.attempt : 0;
    op->now_ms = conv_next_ts(c);
    op->node = t->node;
    op->event.kind = EVENT_MSG;
    op->event.msg = r->row.msg;
    op->event.parent = r->row.parent;
    op->event.payload = final_event(c, r, w, op->now_ms);
    op->set_head = id_equal(&c->row.head_msg, &r->row.parent);
    event_excerpt(buf_view(&r->text), &op->last);
    if (op->event.payload == NULL) {
        msg_free(&op->head.msg);
        timer_set(t->engine, &w->retry, mono_after_ms(engine_now(t->engine), TALK_FINISH_RETRY_MS));
        return;
    }
    journal_ask(t->journal, t->engine, op);
}

/* The store was away; the lane waits with this end in front. */
static void on_finish_retry(void *ctx)
{
    struct work *w = ctx;
    struct conv *c = conv_of(w->talk, w->conv);
    if (c != NULL)
        run_finish_start(c, w);
}

static void count_end(struct run *r, enum run_end end)
{
    switch (end) {
    case RUN_END_COMPLETE: DIAG_COUNT(runs_complete); break;
    case RUN_END_STOPPED: DIAG_COUNT(runs_stopped); break;
    case RUN_END_FAILED: DIAG_COUNT(runs_failed); break;
    case RUN_END_BLOCKED: DIAG_COUNT(runs_blocked); break;
    }
    DIAG_OBSERVE(run_time, engine_now(r->talk->engine).ns - r->started_ns);
    diag_log(DIAG_INFO, "run_end", "run=%.*s end=%s bytes=%zu", (int)r->row.run.count,
             r->row.run.at, run_end_name(end), r->text.count);
}

static void answer_stop(struct work *w, const struct run *r, uint64_t offset,
                        const struct epoch *epoch)
{
    struct outcome o = {.status = "accepted",
                        .msg = r->row.msg,
                        .run = r->row.run,
                        .offset = offset,
                        .epoch = epoch};
    answer_json(w, event_outcome(&o));
}

static void next_run(struct conv *c, const struct run_row *row)
{
    struct run *r = run_find(c, &row->run);
    if (r == NULL)
        r = run_new(c, row);
    if (r == NULL)
        return;
    r->committed = true;
    r->row.attempt = row->attempt;
    r->row.state = RUN_ACTIVE;
    run_start(c, r, NULL, &r->row.parent);
    run_positions(c);
}

static void finished(struct conv *c, struct work *w, struct blob *payload, uint64_t offset)
{
    struct run *r = pool_get(&c->talk->runs, w->run);
    c->row.offset = offset;
    conv_publish(c, payload, offset, false);
    if (r == NULL)
        return;
    if (id_equal(&c->row.head_msg, &r->row.parent))
        c->row.head_msg = r->row.msg;
    count_end(r, w->end);
    answer_stop(w, r, offset, &c->row.epoch);
    run_enter(r, RUN_ST_ENDED);
    conv_tell_run(c, r, false);
    run_free(r);
    conv_tell_inboxes(c);
}

static void ask_final(struct conv *c, struct work *w, const struct journal_finish *op)
{
    struct journal_run_get *get = JOURNAL_NEW(RUN_GET, journal_run_get, PORT_TALK);
    get->head.handle = w->self;
    get->run = op->run;
    journal_ask(c->talk->journal, c->talk->engine, get);
}

void run_on_finish(struct work *w, struct journal_finish *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (c == NULL)
        return;
    if (op->head.err != ERR_OK) {
        struct run *r = pool_get(&c->talk->runs, w->run);
        if (r != NULL)
            publish_status(r, "saving", 0, -1);
        timer_set(c->talk->engine, &w->retry,
                  mono_after_ms(engine_now(c->talk->engine), TALK_FINISH_RETRY_MS));
        return;
    }
    if (op->head.outcome != JOURNAL_DONE) {
        DIAG_COUNT(run_lost);
        ask_final(c, w, op);
        return;
    }
    c->row.last_ts_ms = op->now_ms;
    c->row.updated_ms = op->now_ms;
    finished(c, w, op->event.payload, op->event.offset);
    if (op->has_next)
        next_run(c, &op->next);
    else
        run_positions(c);
    lane_done(c, w);
}

/* The end was refused as not ours: either an earlier try of ours did commit, or somebody else ended
 * it. What the log says is what everybody gets. */
void run_on_final(struct work *w, struct journal_run_get *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (c == NULL)
        return;
    if (op->head.err != ERR_OK) {
        timer_set(c->talk->engine, &w->retry,
                  mono_after_ms(engine_now(c->talk->engine), TALK_FINISH_RETRY_MS));
        return;
    }
    /* Offsets and the next run are best learned from the store as a whole. */
    struct run *r = pool_get(&c->talk->runs, w->run);
    if (r != NULL)
        answer_stop(w, r, op->final.offset, &c->row.epoch);
    c->writing = NULL;
    work_free(w);
    conv_reset(c);
}

/* --- stop, snapshot, drain -------------------------------------------------------------------- */

static void stop_one(struct conv *c, struct run *r, struct work *asked)
{
    struct msg *m = NULL;
    if (r->st == RUN_ST_ENDING) {
        if (asked != NULL) {
            answer_stop(asked, r, 0, &c->row.epoch);
            work_free(asked);
        }
        return;
    }
    if (asked != NULL) {
        m = asked->m;
        asked->m = NULL;
        work_free(asked);
    }
    run_finish_later(c, r, RUN_END_STOPPED, "stopped", m, false);
}

static void stop_all(struct conv *c, struct work *w)
{
    struct run *active = run_active(c);
    if (list_is_empty(&c->runs)) {
        struct outcome o = {.status = "accepted", .epoch = &c->row.epoch};
        answer_json(w, event_outcome(&o));
        work_free(w);
        return;
    }
    /* Those that wait end first, so that none of them begins when the active one ends. */
    for (struct list *link = c->runs.prev, *prev; link != &c->runs; link = prev) {
        struct run *r = CONTAINER_OF(link, struct run, link);
        prev = link->prev;
        if (r != active && r->committed && (active != NULL || prev != &c->runs))
            stop_one(c, r, NULL);
    }
    struct run *last = active != NULL ? active : CONTAINER_OF(c->runs.next, struct run, link);
    stop_one(c, last, w);
}

void run_stop(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    if (id_is_none(&m->args.run)) {
        stop_all(c, w);
        return;
    }
    struct run *r = run_find(c, &m->args.run);
    if (r != NULL && r->committed) {
        stop_one(c, r, w);
        return;
    }
    struct journal_run_get *op = JOURNAL_NEW(RUN_GET, journal_run_get, PORT_TALK);
    op->head.handle = w->self;
    op->run = m->args.run;
    journal_ask(c->talk->journal, c->talk->engine, op);
}

/* One entry of a snapshot's runs[]. Only what was published counts: the rest comes as deltas. */
void run_snapshot(struct buf *b, const struct run *r, bool whole)
{
    struct conv *c = conv_of_run(r);
    struct event_by by = {"ai", {NULL, 0}, {NULL, 0}};
    size_t from = 0;
    if (c != NULL)
        persona_by(c, r, &by);
    if (!whole && r->shown_bytes > TALK_SNAPSHOT_TEXT_BYTES_MAX) {
        from = r->shown_bytes - TALK_SNAPSHOT_TEXT_BYTES_MAX;
        while (from < r->shown_bytes && (r->text.at[from] & 0xc0) == 0x80)
            from++;
    }
    json_object_open(b);
    json_put_text(b, "r", id_bytes(&r->row.run));
    json_put_text(b, "m", id_bytes(&r->row.msg));
    json_put_text(b, "parent", id_bytes(&r->row.parent));
    json_key(b, "by");
    json_object_open(b);
    json_put_text(b, "kind", bytes_of(by.kind));
    json_put_text(b, "id", by.id);
    if (by.name.count > 0)
        json_put_text(b, "name", by.name);
    json_object_close(b);
    json_put_text(b, "st", bytes_of(run_st_name(r->st)));
    json_put_text(b, "model", name_bytes(&r->row.model_name));
    json_put_text(b, "text", bytes_make(r->text.at + from, r->shown_bytes - from));
    json_put_i64(b, "p", (int64_t)r->shown_units);
    if (from > 0)
        json_put_i64(b, "p0", (int64_t)utf8_units(bytes_make(r->text.at, from)));
    if (r->st == RUN_ST_QUEUED && r->position > 0)
        json_put_i64(b, "pos", r->position);
    if (r->st == RUN_ST_QUEUED && r->eta_ms >= 0)
        json_put_i64(b, "eta_ms", r->eta_ms);
    json_object_close(b);
}

/* Out of time: what was written is kept and says why it stops; what was not begun begins after the
 * restart. */
void run_drain(struct talk *t)
{
    uint32_t index = 0;
    struct handle h;
    for (struct run *r = pool_next(&t->runs, &index, &h); r != NULL;
         r = pool_next(&t->runs, &index, &h)) {
        struct conv *c = conv_of_run(r);
        if (c == NULL || !r->committed || r->st == RUN_ST_ENDING)
            continue;
        if (r->text.count > 0)
            run_finish_later(c, r, RUN_END_FAILED, "interrupted", NULL, false);
        else
            run_cancel_reply(r);
        if (r->st == RUN_ST_THINKING)
            run_enter(r, RUN_ST_QUEUED); /* nobody waits for it any more */
    }
}
