/* The mailbox of talk: what comes in, and which part of talk takes it. */
#include "talk/talk_priv.h"

#include "base/mem.h"

struct work *work_new(struct talk *t, struct conv *c, enum work_kind kind, struct msg *m)
{
    struct handle self;
    struct work *w = pool_new(&t->works, &self);
    if (w == NULL)
        return NULL;
    w->talk = t;
    w->self = self;
    w->kind = kind;
    w->m = m;
    w->why = "";
    if (c != NULL) {
        w->conv = c->self;
        c->works_count++;
    }
    return w;
}

void work_free(struct work *w)
{
    struct conv *c = conv_of(w->talk, w->conv);
    if (c != NULL)
        c->works_count--;
    if (w->m != NULL)
        msg_free(w->m);
    blob_unref(&w->kept);
    buf_fini(&w->publications);
    timer_clear(w->talk->engine, &w->retry);
    pool_free(&w->talk->works, w->self);
}

struct bus_command *work_command(struct work *w)
{
    CHECK(w->m != NULL && w->m->kind == BUS_COMMAND);
    return (struct bus_command *)(void *)w->m;
}

static const struct address *work_address(const struct work *w)
{
    if (w->m == NULL || w->m->kind != BUS_COMMAND)
        return NULL;
    return &((const struct bus_command *)(const void *)w->m)->from;
}

void answer_error(const struct work *w, uint32_t code, bool temporary, const char *field,
                  const char *message)
{
    if (w->m != NULL && w->m->kind == BUS_SUBSCRIBE)
        watch_refuse((const struct bus_subscribe *)(const void *)w->m, code, temporary, message);
    else if (work_address(w) != NULL)
        bus_answer_error(work_address(w), code, temporary, field, message);
}

void answer_json(const struct work *w, struct blob *body)
{
    if (work_address(w) != NULL)
        bus_answer_result(work_address(w), body);
    else
        blob_unref(&body);
}

void answer_err(const struct work *w, enum err err)
{
    switch (err) {
    case ERR_FULL:
        answer_error(w, 111, true, NULL, "the store is busy; ask again in a moment");
        return;
    case ERR_NOT_FOUND: /* the live carrier's own word for it is 103 */
        answer_error(w, w->m != NULL && w->m->kind == BUS_SUBSCRIBE ? 103 : 404, false, "conv",
                     "no such conversation, or you may not see it");
        return;
    case ERR_OK:
    case ERR_AGAIN:
    case ERR_PROTO:
    case ERR_CONFLICT:
    case ERR_DENIED:
    case ERR_IO:
    case ERR_UNCERTAIN:
    case ERR_CLOSED: break;
    }
    answer_error(w, 503, true, NULL,
                 "the store cannot be reached; the same command with the same cid will tell");
}

void publish(struct talk *t, const struct channel_key *key, const uint32_t *watchers,
             struct blob *data, uint64_t offset, struct bytes epoch, bool droppable)
{
    (void)t;
    for (uint32_t i = 0; i < engines_count() && data != NULL; i++) {
        if (watchers[i] == 0)
            continue;
        struct bus_publish *m = BUS_NEW(PUBLISH, bus_publish, PORT_SESSION);
        m->key = *key;
        m->data = blob_ref(data);
        m->offset = offset;
        m->droppable = droppable;
        if (offset == 1) {
            m->epoch_count = (uint8_t)epoch.count;
            memcpy(m->epoch, epoch.at, epoch.count);
        }
        DIAG_COUNT(fanouts);
        engine_post(engine_at(i), &m->msg);
    }
}

static void take_subscribe(struct talk *t, struct bus_subscribe *m)
{
    if (m->key.kind == CHANNEL_INBOX) {
        userbox_subscribe(t, m);
        msg_free(&m->msg);
        return;
    }
    struct conv *c = conv_get_or_load(t, &m->key.conv);
    struct work *w = c == NULL ? NULL : work_new(t, c, WORK_SUBSCRIBE, &m->msg);
    if (w == NULL) {
        watch_refuse(m, 111, true, "too much to do; subscribe again in a moment");
        msg_free(&m->msg);
        return;
    }
    if (c->state == CONV_LOADING)
        list_push_back(&c->waiting, &w->link);
    else
        watch_subscribe(c, w);
}

/* A work is gone when its conversation was reset meanwhile; such an answer is nobody's. */
static void take_journal(struct talk *t, struct journal_op *op)
{
    struct work *w = pool_get(&t->works, op->handle);
    if (w == NULL)
        return;
    switch (op->op) {
    case JOURNAL_CONV_CREATE: ask_on_create(w, (struct journal_conv_create *)(void *)op); break;
    case JOURNAL_APPEND: send_on_append(w, (struct journal_append *)(void *)op); break;
    case JOURNAL_REFUSE: send_on_refuse(w, (struct journal_refuse *)(void *)op); break;
    case JOURNAL_FINISH: run_on_finish(w, (struct journal_finish *)(void *)op); break;
    case JOURNAL_TAKE: run_on_take(w, (struct journal_take *)(void *)op); break;
    case JOURNAL_CHECKPOINT: run_on_checkpoint(w, (struct journal_checkpoint *)(void *)op); break;
    case JOURNAL_CONV_UPDATE: conv_on_update(w, (struct journal_conv_update *)(void *)op); break;
    case JOURNAL_CONV_DELETE: conv_on_delete(w, (struct journal_conv_delete *)(void *)op); break;
    case JOURNAL_CONV_LOAD: conv_on_load(w, (struct journal_conv_load *)(void *)op); break;
    case JOURNAL_EVENTS:
        if (w->kind == WORK_SUBSCRIBE)
            watch_on_events(w, (struct journal_events *)(void *)op);
        else
            ask_on_history(w, (struct journal_events *)(void *)op);
        break;
    case JOURNAL_PATH:
        if (w->kind == WORK_KEPT)
            run_on_kept(w, (struct journal_path *)(void *)op);
        else if (work_command(w)->command == CMD_CONV_OPEN)
            ask_on_path(w, (struct journal_path *)(void *)op);
        else
            send_on_path(w, (struct journal_path *)(void *)op);
        break;
    case JOURNAL_CONV_LIST:
        if (w->kind == WORK_INBOX)
            userbox_on_line(w, (struct journal_conv_list *)(void *)op);
        else
            userbox_on_list(w, (struct journal_conv_list *)(void *)op);
        break;
    case JOURNAL_RUN_GET:
        if (w->kind == WORK_FINISH)
            run_on_final(w, (struct journal_run_get *)(void *)op);
        else
            ask_on_run_get(w, (struct journal_run_get *)(void *)op);
        break;
    case JOURNAL_READ_SET: ask_on_read_set(w, (struct journal_read_set *)(void *)op); break;
    case JOURNAL_USER_SEEN:
    case JOURNAL_UNFINISHED:
    case JOURNAL_OPS_COUNT: break;
    }
}

/* The list of conversations with unfinished runs: each is woken at its home. */
static void take_unfinished(struct talk *t, const struct journal_unfinished *op)
{
    if (op->head.err != ERR_OK) {
        diag_log(DIAG_ERROR, "recovery_failed", "err=%s", err_name(op->head.err));
        talk_recover(t);
        return;
    }
    if (op->convs_count > 0)
        diag_log(DIAG_INFO, "recovery", "conversations=%u", op->convs_count);
    for (uint32_t i = 0; i < op->convs_count; i++) {
        struct bus_wake *m = BUS_NEW(WAKE, bus_wake, PORT_TALK);
        m->conv = op->convs[i];
        engine_post(bus_home_conv(id_bytes(&m->conv)), &m->msg);
    }
}

static void take_bus(struct talk *t, struct msg *m)
{
    switch (m->kind) {
    case BUS_UNSUBSCRIBE: watch_unsubscribe(t, (struct bus_unsubscribe *)(void *)m); break;
    case BUS_INBOX: userbox_change(t, (struct bus_inbox *)(void *)m); break;
    case BUS_RUN_STATE: run_on_state(t, (struct bus_run_state *)(void *)m); break;
    case BUS_RUN_TEXT: run_on_text(t, (struct bus_run_text *)(void *)m); break;
    case BUS_RUN_END: run_on_end(t, (struct bus_run_end *)(void *)m); break;
    case BUS_WAKE: (void)conv_get_or_load(t, &((struct bus_wake *)(void *)m)->conv); break;
    case BUS_DRAIN:
        t->draining = true;
        if (((struct bus_drain *)(void *)m)->deadline.ns == 0)
            run_drain(t);
        break;
    default: break;
    }
    msg_free(m);
}

static void take(void *ctx, struct msg *m)
{
    struct talk *t = ctx;
    if (m->kind == BUS_COMMAND) {
        command_take(t, (struct bus_command *)(void *)m);
    } else if (m->kind == BUS_SUBSCRIBE) {
        take_subscribe(t, (struct bus_subscribe *)(void *)m);
    } else if (m->kind == JOURNAL_MSG_KIND) {
        struct journal_op *op = (struct journal_op *)(void *)m;
        if (op->op == JOURNAL_UNFINISHED)
            take_unfinished(t, (struct journal_unfinished *)(void *)op);
        else
            take_journal(t, op);
        msg_free(m);
    } else {
        take_bus(t, m);
    }
}

void talk_recover(struct talk *t)
{
    journal_ask(t->journal, t->engine, JOURNAL_NEW(UNFINISHED, journal_unfinished, PORT_TALK));
}

struct talk *talk_make(struct engine *e, struct journal *j, const struct text_terms *terms,
                       const struct config *c)
{
    struct talk *t = mem_new_zero(sizeof(*t));
    uint64_t seed[2];
    size_t watchers = engines_count() * sizeof(uint32_t);
    if (t == NULL)
        return NULL;
    engine_random(seed, sizeof(seed));
    t->engine = e;
    t->journal = j;
    t->terms = terms;
    t->config = c;
    if (name_parse(bytes_of(c->node), &t->node) != ERR_OK)
        t->node.count = 0;
    map_init(&t->conv_map, (uint32_t)c->conversations_max, seed);
    map_init(&t->inbox_map, TALK_INBOXES_MAX, seed);
    map_init(&t->user_runs, TALK_RUNS_MAX, seed);
    if (pool_init(&t->convs, sizeof(struct conv) + watchers, (uint32_t)c->conversations_max) !=
            ERR_OK ||
        pool_init(&t->runs, sizeof(struct run), TALK_RUNS_MAX) != ERR_OK ||
        pool_init(&t->works, sizeof(struct work), TALK_WORKS_MAX) != ERR_OK ||
        pool_init(&t->inboxes, sizeof(struct userbox) + watchers, TALK_INBOXES_MAX) != ERR_OK) {
        talk_free(&t);
        return NULL;
    }
    engine_listen(e, PORT_TALK, take, t);
    return t;
}

void talk_free(struct talk **tp)
{
    struct talk *t = *tp;
    uint32_t index = 0;
    struct handle h;
    if (t == NULL)
        return;
    for (struct work *w = pool_next(&t->works, &index, &h); w != NULL;
         w = pool_next(&t->works, &index, &h)) {
        timer_clear(t->engine, &w->retry);
        if (w->m != NULL)
            msg_free(w->m);
        blob_unref(&w->kept);
        buf_fini(&w->publications);
    }
    conv_free_all(t);
    userbox_free_all(t);
    pool_fini(&t->convs);
    pool_fini(&t->runs);
    pool_fini(&t->works);
    pool_fini(&t->inboxes);
    map_fini(&t->conv_map);
    map_fini(&t->inbox_map);
    map_fini(&t->user_runs);
    mem_free(t);
    *tp = NULL;
}
