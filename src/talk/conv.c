/* A conversation in memory: loading, the lane of its writes, its members and watchers, its end. */
#include "talk/talk_priv.h"

#include "base/mem.h"
#include "codec/json.h"

static void on_tick(void *ctx);

/* --- finding and loading ---------------------------------------------------------------------- */

struct conv *conv_find(struct talk *t, const struct id *id)
{
    return map_get(&t->conv_map, id_bytes(id));
}

struct conv *conv_of(struct talk *t, struct handle h)
{
    return pool_get(&t->convs, h);
}

void conv_touch(struct conv *c)
{
    c->used_at = engine_now(c->talk->engine);
    if (!timer_is_set(&c->tick))
        timer_set(c->talk->engine, &c->tick,
                  mono_after_ms(c->used_at, c->talk->config->conversation_idle_ms));
}

static struct conv *conv_new(struct talk *t, const struct id *id)
{
    struct handle self;
    struct conv *c = pool_new(&t->convs, &self);
    if (c == NULL)
        return NULL;
    if (map_put(&t->conv_map, id_bytes(id), c) != ERR_OK) {
        pool_free(&t->convs, self);
        return NULL;
    }
    c->talk = t;
    c->self = self;
    c->state = CONV_LOADING;
    c->row.conv = *id;
    list_init(&c->lane);
    list_init(&c->waiting);
    list_init(&c->runs);
    timer_init(&c->tick, on_tick, c);
    DIAG_GAUGE_BY(conversations_loaded, 1);
    return c;
}

struct conv *conv_get_or_load(struct talk *t, const struct id *id)
{
    struct conv *c = conv_find(t, id);
    if (c != NULL) {
        conv_touch(c);
        return c;
    }
    c = conv_new(t, id);
    struct work *w = c == NULL ? NULL : work_new(t, c, WORK_LOAD, NULL);
    if (w == NULL) {
        if (c != NULL)
            conv_drop(c);
        return NULL;
    }
    struct journal_conv_load *op = JOURNAL_NEW(CONV_LOAD, journal_conv_load, PORT_TALK);
    op->head.handle = w->self;
    op->conv = *id;
    journal_ask(t->journal, t->engine, op);
    return c;
}

static void refuse_waiting(struct conv *c, enum err err)
{
    LIST_FOR(link, &c->waiting)
    {
        struct work *w = CONTAINER_OF(link, struct work, link);
        list_remove(link);
        answer_err(w, err);
        work_free(w);
    }
}

/* The tail: from the head along the answers that are promised. */
static void find_tail(struct conv *c)
{
    c->tail = c->row.head_msg;
    LIST_FOR(link, &c->runs)
    {
        const struct run *r = CONTAINER_OF(link, struct run, link);
        if (id_equal(&r->row.parent, &c->tail))
            c->tail = r->row.msg;
    }
}

static bool adopt(struct conv *c, struct journal_conv_load *op)
{
    c->members = mem_new_zero(sizeof(struct member) * (op->members_count + 1));
    if (c->members == NULL)
        return false;
    for (uint32_t i = 0; i < op->members_count; i++) {
        c->members[i].row = op->members[i];
        c->members[i].published_offset = op->members[i].read_offset;
    }
    c->members_count = op->members_count;
    c->row = op->row;
    (void)blob_ref(c->row.title);
    (void)blob_ref(c->row.meta);
    c->cids_whole = c->row.offset == 0;
    c->state = CONV_LIVE;
    for (uint32_t i = 0; i < op->runs_count; i++)
        run_orphan(c, &op->runs[i]);
    find_tail(c);
    return true;
}

void conv_on_load(struct work *w, struct journal_conv_load *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    work_free(w);
    if (c == NULL)
        return;
    enum err err = op->head.err;
    if (err == ERR_OK && op->head.outcome != JOURNAL_DONE)
        err = ERR_NOT_FOUND;
    if (err == ERR_OK && !adopt(c, op))
        err = ERR_FULL;
    if (err != ERR_OK) {
        refuse_waiting(c, err);
        conv_drop(c);
        return;
    }
    conv_touch(c);
    lane_next(c); /* what its orphans need comes before anything new */
    LIST_FOR(link, &c->waiting)
    {
        struct work *next = CONTAINER_OF(link, struct work, link);
        list_remove(link);
        if (next->kind == WORK_SUBSCRIBE)
            watch_subscribe(c, next);
        else
            command_run(c, next);
    }
}

/* --- the lane --------------------------------------------------------------------------------- */

static void lane_run(struct conv *c, struct work *w)
{
    switch (w->kind) {
    case WORK_FINISH: run_finish_start(c, w); return;
    case WORK_TAKE: run_take_start(c, w); return;
    case WORK_COMMAND: break;
    case WORK_SUBSCRIBE:
    case WORK_LOAD:
    case WORK_CHECKPOINT:
    case WORK_KEPT:
    case WORK_INBOX:
    case WORK_READ_SET: CHECK(w->kind == WORK_COMMAND);
    }
    switch (work_command(w)->command) {
    case CMD_CHAT_SEND: send_start(c, w); return;
    case CMD_MSG_REGENERATE: regenerate_start(c, w); return;
    case CMD_CONV_UPDATE: conv_start_update(c, w); return;
    case CMD_CONV_DELETE: conv_start_delete(c, w); return;
    default: CHECK(w == NULL);
    }
}

void lane_next(struct conv *c)
{
    if (c->writing != NULL || list_is_empty(&c->lane))
        return;
    struct work *w = CONTAINER_OF(c->lane.next, struct work, link);
    list_remove(&w->link);
    c->lane_count--;
    c->writing = w;
    lane_run(c, w);
}

void lane_push(struct conv *c, struct work *w)
{
    list_push_back(&c->lane, &w->link);
    c->lane_count++;
    lane_next(c);
}

void lane_push_front(struct conv *c, struct work *w)
{
    list_push_front(&c->lane, &w->link);
    c->lane_count++;
    lane_next(c);
}

void lane_done(struct conv *c, struct work *w)
{
    CHECK(c->writing == w);
    c->writing = NULL;
    work_free(w);
    conv_touch(c);
    lane_next(c);
}

/* Later than everything that was said before. */
int64_t conv_next_ts(struct conv *c)
{
    return i64_max(c->row.last_ts_ms, engine_wall_ms(c->talk->engine));
}

/* --- members and watchers --------------------------------------------------------------------- */

struct member *conv_member(struct conv *c, const struct name *user)
{
    for (uint32_t i = 0; i < c->members_count; i++) {
        if (name_equal(&c->members[i].row.user, user))
            return &c->members[i];
    }
    return NULL;
}

bool conv_may(struct conv *c, const struct who *who)
{
    if (c->state != CONV_LIVE || !id_equal(&c->row.app, &who->app))
        return false;
    return who->insecure || conv_member(c, &who->user) != NULL;
}

struct channel_key conv_key(const struct conv *c)
{
    struct channel_key k = {.kind = CHANNEL_CONV, .conv = c->row.conv};
    return k;
}

void conv_publish(struct conv *c, struct blob *data, uint64_t offset, bool droppable)
{
    if (c->watchers_total == 0)
        return;
    struct channel_key k = conv_key(c);
    publish(c->talk, &k, c->watchers, data, offset, bytes_make(c->row.epoch.at, c->row.epoch.count),
            droppable);
}

static struct bus_inbox *inbox_message(const struct conv *c, const struct name *user)
{
    struct bus_inbox *b = BUS_NEW(INBOX, bus_inbox, PORT_TALK);
    b->app = c->row.app;
    b->user = *user;
    b->conv = c->row.conv;
    return b;
}

static void userbox_post(struct bus_inbox *b)
{
    engine_post(bus_home_user(id_bytes(&b->app), name_bytes(&b->user)), &b->msg);
}

void conv_tell_inbox(struct conv *c, const struct name *user)
{
    struct bus_inbox *b = inbox_message(c, user);
    b->what = INBOX_CONV;
    userbox_post(b);
}

void conv_tell_inboxes(struct conv *c)
{
    for (uint32_t i = 0; i < c->members_count; i++)
        conv_tell_inbox(c, &c->members[i].row.user);
}

void conv_tell_run(struct conv *c, struct run *r, bool on)
{
    if (r->announced == on)
        return;
    r->announced = on;
    for (uint32_t i = 0; i < c->members_count; i++) {
        struct bus_inbox *b = inbox_message(c, &c->members[i].row.user);
        b->what = INBOX_RUN;
        b->run = r->row.run;
        b->on = on;
        userbox_post(b);
    }
}

void conv_object_json(struct buf *b, const struct conv_row *row, const struct conv_member *m)
{
    json_object_open(b);
    json_put_text(b, "id", id_bytes(&row->conv));
    json_put_text(b, "title", blob_bytes(row->title));
    json_put_text(b, "persona", id_bytes(&row->persona));
    json_put_text(b, "mode", bytes_of("ai"));
    if (m != NULL)
        json_put_text(b, "role", bytes_of(m->owner ? "owner" : "member"));
    json_put_i64(b, "offset", (int64_t)row->offset);
    json_put_text(b, "epoch", bytes_make(row->epoch.at, row->epoch.count));
    json_put_i64(b, "created", row->created_ms);
    json_put_i64(b, "updated", row->updated_ms);
    if (m != NULL && m->archived)
        json_put_bool(b, "archived", true);
    if (row->meta != NULL)
        json_put_raw(b, "meta", blob_bytes(row->meta));
    json_object_close(b);
}

struct blob *conv_object_answer(const struct conv *c, const struct who *who)
{
    struct buf b;
    const struct conv_member *m = NULL;
    for (uint32_t i = 0; i < c->members_count; i++) {
        if (name_equal(&c->members[i].row.user, &who->user))
            m = &c->members[i].row;
    }
    buf_init(&b, EVENT_BYTES_MAX);
    json_object_open(&b);
    json_key(&b, "conv");
    conv_object_json(&b, &c->row, m);
    json_object_close(&b);
    return buf_take(&b);
}

/* --- title, archive, persona; deletion -------------------------------------------------------- */

void conv_start_update(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    struct journal_conv_update *op = JOURNAL_NEW(CONV_UPDATE, journal_conv_update, PORT_TALK);
    op->head.handle = w->self;
    op->app = m->who.app;
    op->conv = c->row.conv;
    op->user = m->who.user;
    op->now_ms = conv_next_ts(c);
    op->set_archived = m->args.has_archived;
    op->archived = m->args.archived;
    op->set_persona = !id_is_none(&m->args.persona);
    op->persona = m->args.persona;
    if (m->args.title != NULL &&
        !bytes_equal(blob_bytes(m->args.title), blob_bytes(c->row.title))) {
        struct event_by by = {"user", name_bytes(&m->who.user), name_bytes(&m->who.display)};
        op->set_title = true;
        op->title = blob_ref(m->args.title);
        op->event = event_state("title", blob_bytes(m->args.title), &by, op->now_ms);
        if (op->event == NULL) {
            answer_err(w, ERR_FULL);
            msg_free(&op->head.msg);
            lane_done(c, w);
            return;
        }
    }
    journal_ask(c->talk->journal, c->talk->engine, op);
}

void conv_on_update(struct work *w, struct journal_conv_update *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (c == NULL)
        return;
    if (op->head.err == ERR_UNCERTAIN) {
        conv_reset(c);
        return;
    }
    if (op->head.err != ERR_OK || op->head.outcome != JOURNAL_DONE) {
        answer_err(w, op->head.err != ERR_OK ? op->head.err : ERR_NOT_FOUND);
        lane_done(c, w);
        return;
    }
    const struct who *who = &work_command(w)->who;
    struct member *m = conv_member(c, &who->user);
    if (op->set_archived && m != NULL)
        m->row.archived = op->archived;
    if (op->set_persona)
        c->row.persona = op->persona;
    if (op->set_title) {
        blob_unref(&c->row.title);
        c->row.title = blob_ref(op->title);
        c->row.offset = op->offset;
        c->row.last_ts_ms = op->now_ms;
        conv_publish(c, op->event, op->offset, false);
    }
    c->row.updated_ms = op->now_ms;
    answer_json(w, conv_object_answer(c, who));
    conv_tell_inboxes(c);
    lane_done(c, w);
}

void conv_start_delete(struct conv *c, struct work *w)
{
    const struct bus_command *m = work_command(w);
    struct journal_conv_delete *op = JOURNAL_NEW(CONV_DELETE, journal_conv_delete, PORT_TALK);
    op->head.handle = w->self;
    op->app = m->who.app;
    op->conv = c->row.conv;
    op->user = m->who.user;
    op->now_ms = engine_wall_ms(c->talk->engine);
    journal_ask(c->talk->journal, c->talk->engine, op);
}

static void kick_watchers(struct conv *c, uint32_t code, const char *reason)
{
    for (uint32_t i = 0; i < engines_count(); i++) {
        if (c->watchers[i] == 0)
            continue;
        struct bus_kick *k = BUS_NEW(KICK, bus_kick, PORT_SESSION);
        k->key = conv_key(c);
        k->code = code;
        k->reason = reason;
        engine_post(engine_at(i), &k->msg);
    }
}

void conv_on_delete(struct work *w, struct journal_conv_delete *op)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (c == NULL)
        return;
    if (op->head.err == ERR_UNCERTAIN) {
        conv_reset(c);
        return;
    }
    if (op->head.err != ERR_OK) {
        answer_err(w, op->head.err);
        lane_done(c, w);
        return;
    }
    if (op->head.outcome == JOURNAL_NOT_MEMBER) {
        answer_error(w, 103, false, "conv", "only the owner may delete a conversation");
        lane_done(c, w);
        return;
    }
    struct buf b;
    buf_init(&b, 1024);
    json_object_open(&b);
    json_put_text(&b, "conv", id_bytes(&c->row.conv));
    json_object_close(&b);
    answer_json(w, buf_take(&b));
    kick_watchers(c, 2000, "conversation deleted");
    for (uint32_t i = 0; i < c->members_count; i++) {
        struct bus_inbox *m = inbox_message(c, &c->members[i].row.user);
        m->what = INBOX_GONE;
        userbox_post(m);
    }
    c->state = CONV_GONE;
    conv_drop(c);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Everything that waits is told that the conversation is gone or out of reach. */
static void refuse_all(struct conv *c)
{
    enum err err = c->state == CONV_GONE ? ERR_NOT_FOUND : ERR_IO;
    struct talk *t = c->talk;
    uint32_t index = 0;
    struct handle h;
    for (struct work *w = pool_next(&t->works, &index, &h); w != NULL && c->works_count > 0;
         w = pool_next(&t->works, &index, &h)) {
        if (!handle_equal(w->conv, c->self))
            continue;
        if (w != c->writing || c->state != CONV_GONE)
            answer_err(w, err);
        list_remove(&w->link);
        work_free(w);
    }
}

void conv_drop(struct conv *c)
{
    struct talk *t = c->talk;
    LIST_FOR(link, &c->runs)
    {
        struct run *r = CONTAINER_OF(link, struct run, link);
        run_cancel_reply(r);
        conv_tell_run(c, r, false);
        run_free(r);
    }
    refuse_all(c);
    timer_clear(t->engine, &c->tick);
    (void)map_remove(&t->conv_map, id_bytes(&c->row.conv));
    blob_unref(&c->row.title);
    blob_unref(&c->row.meta);
    mem_free(c->members);
    mem_free(c->typists);
    pool_free(&t->convs, c->self);
    DIAG_GAUGE_BY(conversations_loaded, -1);
}

void conv_reset(struct conv *c)
{
    struct talk *t = c->talk;
    struct id id = c->row.conv;
    bool had_runs = !list_is_empty(&c->runs);
    diag_log(DIAG_WARN, "conversation_reset", "conv=%.*s", (int)id.count, id.at);
    kick_watchers(c, 2500, "insufficient state");
    conv_drop(c);
    if (had_runs)
        (void)conv_get_or_load(t, &id); /* its runs are orphans now: ended or continued */
}

void conv_free_all(struct talk *t)
{
    uint32_t index = 0;
    struct handle h;
    for (struct run *r = pool_next(&t->runs, &index, &h); r != NULL;
         r = pool_next(&t->runs, &index, &h)) {
        timer_clear(t->engine, &r->delta);
        timer_clear(t->engine, &r->checkpoint);
        buf_fini(&r->text);
        blob_unref(&r->kept);
        blob_unref(&r->context);
        blob_unref(&r->row.partial);
    }
    index = 0;
    for (struct conv *c = pool_next(&t->convs, &index, &h); c != NULL;
         c = pool_next(&t->convs, &index, &h)) {
        timer_clear(t->engine, &c->tick);
        blob_unref(&c->row.title);
        blob_unref(&c->row.meta);
        mem_free(c->members);
        mem_free(c->typists);
    }
}

/* --- what happens by itself ------------------------------------------------------------------- */

static struct mono earlier(struct mono a, struct mono b)
{
    return a.ns < b.ns ? a : b;
}

static struct mono expire_typists(struct conv *c, struct mono now, struct mono next)
{
    for (uint32_t i = 0; i < c->typists_count;) {
        struct typist *p = &c->typists[i];
        if (mono_reached(p->until, now)) {
            struct blob *e = event_typing(name_bytes(&p->user), false);
            conv_publish(c, e, 0, false);
            blob_unref(&e);
            *p = c->typists[--c->typists_count];
            continue;
        }
        next = earlier(next, p->until);
        i++;
    }
    return next;
}

static bool is_idle(const struct conv *c)
{
    return c->state == CONV_LIVE && c->watchers_total == 0 && list_is_empty(&c->runs) &&
           c->works_count == 0 && c->typists_count == 0;
}

static void on_tick(void *ctx)
{
    struct conv *c = ctx;
    struct talk *t = c->talk;
    struct mono now = engine_now(t->engine);
    struct mono idle_at = mono_after_ms(c->used_at, t->config->conversation_idle_ms);
    conv_reads_flush(c, now, false);
    if (is_idle(c) && mono_reached(idle_at, now)) {
        conv_reads_flush(c, now, true);
        if (c->works_count == 0) {
            conv_drop(c);
            return;
        }
    }
    struct mono next = mono_after_ms(now, t->config->conversation_idle_ms);
    if (is_idle(c))
        next = earlier(next, idle_at);
    for (uint32_t i = 0; i < c->members_count; i++) {
        if (c->members[i].changed_at.ns != 0)
            next = earlier(next, mono_after_ms(now, TALK_READ_PUBLISH_MS));
    }
    timer_set(t->engine, &c->tick, expire_typists(c, now, next));
}
