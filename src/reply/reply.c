/* One AI turn, from BUS_RUN_START to BUS_RUN_END. */
#include "reply/reply.h"

#include "base/map.h"
#include "base/mem.h"
#include "bus/messages.h"
#include "codec/utf8.h"
#include "diag/diag.h"

#define REPLY_SLOTS_MAX 65536

struct reply {
    struct engine *engine;
    struct recall *recall;
    struct model *model;
    const struct text_terms *terms;
    const struct config *config;
    struct pool turns;
    struct map by_run; /* talk's handle, 8 bytes -> struct turn */
};

/*   CONTEXT --> MODEL --> (ended)      a rule's answer goes from CONTEXT straight to the end   */
enum turn_state { TURN_CONTEXT, TURN_MODEL };

struct turn {
    struct reply *reply;
    struct handle self;
    struct handle talk_run;
    struct handle request;
    enum turn_state state;
    struct name model;
    struct text_hold hold;
    struct text_hold thought; /* the model's reasoning is screened, too, by itself */
    bool thinks;              /* some of it may be held */
    size_t text_bytes;
    struct timer time_limit;
    bool time_started;
};

/* A crisis is answered by rule: these words were written for it and no model stands between. */
static const char crisis_text[] =
    "I'm really glad you told me. What you're feeling matters, and you don't have to carry it "
    "alone. I'm an AI, so I can't call anyone or keep you safe myself, and I want you to reach "
    "a person who can, right now.\n\n"
    "If you are in danger or have taken something, please call your local emergency number "
    "(112 in Europe, 911 in the US and Canada, 999 in the UK). To talk with someone at any "
    "hour: 988 in the US and Canada, 116 123 in the UK and Ireland and in much of Europe, or "
    "find a line for your country at findahelpline.com.\n\n"
    "Is there someone near you whom you could call or sit with until you have reached help?";

static const char human_text[] =
    "I'm an AI, not a person. I can't see, feel or remember like people do, but I'm glad to talk "
    "with you and to help where I can.";

static void key_of(struct handle h, uint8_t out[8])
{
    memcpy(out, &h.slot, 4);
    memcpy(out + 4, &h.generation, 4);
}

static struct turn *turn_of_run(struct reply *r, struct handle talk_run)
{
    uint8_t key[8];
    key_of(talk_run, key);
    return map_get(&r->by_run, bytes_make(key, sizeof(key)));
}

static void turn_free(struct turn *t)
{
    struct reply *r = t->reply;
    uint8_t key[8];
    key_of(t->talk_run, key);
    (void)map_remove(&r->by_run, bytes_make(key, sizeof(key)));
    timer_clear(r->engine, &t->time_limit);
    if (t->state == TURN_MODEL)
        model_cancel(r->model, t->request);
    text_hold_fini(&t->hold);
    text_hold_fini(&t->thought);
    pool_free(&r->turns, t->self);
}

static void post_end(struct reply *r, struct handle talk_run, enum run_end end, const char *why,
                     const struct model_end *usage)
{
    struct bus_run_end *m = BUS_NEW(RUN_END, bus_run_end, PORT_TALK);
    m->talk_run = talk_run;
    m->end = end;
    m->why = why;
    if (usage != NULL && usage->has_usage) {
        m->has_usage = true;
        m->tokens_in = usage->tokens_in;
        m->tokens_out = usage->tokens_out;
    }
    engine_post(r->engine, &m->msg);
}

/* Says how it ended and forgets the turn. */
static void turn_end(struct turn *t, enum run_end end, const char *why,
                     const struct model_end *usage)
{
    post_end(t->reply, t->talk_run, end, why, usage);
    turn_free(t);
}

/* Takes what is in both; either may be empty or failed, which is nothing to say. */
static void post_text(struct turn *t, struct buf *released, struct buf *thought)
{
    bool text = released != NULL && released->count > 0;
    bool reasoning = thought != NULL && !thought->failed && thought->count > 0;
    if (text || reasoning) {
        struct bus_run_text *m = BUS_NEW(RUN_TEXT, bus_run_text, PORT_TALK);
        m->talk_run = t->talk_run;
        if (reasoning)
            m->reasoning = buf_take(thought);
        if (text)
            m->text = buf_take(released);
        engine_post(t->reply->engine, &m->msg);
    }
    if (released != NULL)
        buf_fini(released);
    if (thought != NULL)
        buf_fini(thought);
}

/* Reasoning is a courtesy: what is forbidden in it ends it and leaves the answer alone. */
static void turn_think(struct turn *t, const struct blob *reasoning)
{
    struct buf released;
    if (reasoning == NULL || t->thought.match.found)
        return;
    t->thinks = true;
    buf_init(&released, reasoning->count + TEXT_HOLD_BYTES_MAX);
    text_hold_feed(&t->thought, blob_bytes(reasoning), &released);
    if (t->thought.match.found)
        diag_log(DIAG_WARN, "reasoning_blocked", "category=%s", t->thought.match.category);
    post_text(t, NULL, &released);
}

/* What was held of the reasoning goes out before the answer's first word, or never. */
static void turn_think_end(struct turn *t)
{
    struct buf released;
    if (!t->thinks || t->thought.match.found)
        return;
    t->thinks = false;
    buf_init(&released, 2 * TEXT_HOLD_BYTES_MAX);
    text_hold_end(&t->thought, &released);
    post_text(t, NULL, &released);
    text_hold_init(&t->thought, t->reply->terms, TEXT_AI);
}

/* Checks and releases a piece. False: the turn has ended. */
static bool turn_say(struct turn *t, struct bytes text, bool last)
{
    const struct config *c = t->reply->config;
    struct buf released;
    size_t most = (size_t)c->run_text_bytes_max;
    size_t room = most > t->text_bytes ? most - t->text_bytes : 0; /* kept text may be over it */
    bool over = text.count > room;
    if (over)
        text.count = utf8_prefix(text, room);
    t->text_bytes += text.count;
    buf_init(&released, (size_t)c->run_text_bytes_max + TEXT_HOLD_BYTES_MAX);
    text_hold_feed(&t->hold, text, &released);
    if (last || over)
        text_hold_end(&t->hold, &released);
    if (released.failed) {
        buf_fini(&released);
        turn_end(t, RUN_END_FAILED, "overloaded", NULL);
        return false;
    }
    if (t->hold.match.found) {
        buf_fini(&released);
        diag_log(DIAG_WARN, "answer_blocked", "category=%s", t->hold.match.category);
        turn_end(t, RUN_END_BLOCKED, t->hold.match.category, NULL);
        return false;
    }
    post_text(t, &released, NULL);
    if (over)
        turn_end(t, RUN_END_COMPLETE, "length", NULL);
    return !over;
}

static void on_time_limit(void *ctx)
{
    struct turn *t = ctx;
    if (turn_say(t, (struct bytes){NULL, 0}, true))
        turn_end(t, RUN_END_COMPLETE, "length", NULL);
}

static void answer_by_rule(struct turn *t, const char *text)
{
    struct buf words;
    buf_init(&words, (size_t)t->reply->config->run_text_bytes_max + TEXT_HOLD_BYTES_MAX);
    buf_text(&words, text); /* our own words are not held against the terms */
    post_text(t, &words, NULL);
    turn_end(t, RUN_END_COMPLETE, "", NULL);
}

static void on_ready(struct reply *r, struct recall_ready *ready)
{
    struct turn *t = pool_get(&r->turns, ready->asker);
    if (t == NULL)
        return;
    if (ready->err != ERR_OK) {
        turn_end(t, RUN_END_FAILED, ready->err == ERR_FULL ? "overloaded" : "unavailable", NULL);
        return;
    }
    enum text_question q = TEXT_QUESTION_NONE;
    if (ready->has_last_user)
        q = text_question(r->terms, ready->last_user);
    if (q == TEXT_QUESTION_CRISIS) {
        answer_by_rule(t, crisis_text);
        return;
    }
    if (q == TEXT_QUESTION_ARE_YOU_HUMAN) {
        answer_by_rule(t, human_text);
        return;
    }
    struct model_ask ask = {.model = name_bytes(&t->model),
                            .messages = ready->messages,
                            .messages_count = ready->messages_count,
                            .max_tokens = (int32_t)r->config->answer_tokens,
                            .port = PORT_REPLY,
                            .asker = t->self};
    if (model_start(r->model, &ask, &t->request) != ERR_OK)
        turn_end(t, RUN_END_FAILED, "overloaded", NULL);
    else
        t->state = TURN_MODEL;
}

static void on_start(struct reply *r, struct bus_run_start *m)
{
    struct handle self;
    uint8_t key[8];
    struct turn *t = pool_new(&r->turns, &self);
    key_of(m->talk_run, key);
    if (t == NULL || map_put(&r->by_run, bytes_make(key, sizeof(key)), t) != ERR_OK) {
        if (t != NULL)
            pool_free(&r->turns, self);
        post_end(r, m->talk_run, RUN_END_FAILED, "overloaded", NULL);
        return;
    }
    t->reply = r;
    t->self = self;
    t->talk_run = m->talk_run;
    t->state = TURN_CONTEXT;
    t->model = m->model;
    t->text_bytes = m->kept == NULL ? 0 : m->kept->count;
    text_hold_init(&t->hold, r->terms, TEXT_AI);
    text_hold_init(&t->thought, r->terms, TEXT_AI);
    timer_init(&t->time_limit, on_time_limit, t);
    struct recall_ask ask = {.conv = m->conv,
                             .from = m->from,
                             .question = m->question,
                             .kept = m->kept,
                             .context = m->context,
                             .persona = m->persona,
                             .model = m->model,
                             .port = PORT_REPLY,
                             .asker = self};
    recall_start(r->recall, &ask);
}

static void on_cancel(struct reply *r, const struct bus_run_cancel *m)
{
    struct turn *t = turn_of_run(r, m->talk_run);
    if (t != NULL)
        turn_free(t);
}

static void on_model_state(struct reply *r, const struct model_state *s)
{
    struct turn *t = pool_get(&r->turns, s->head.asker);
    if (t == NULL)
        return;
    struct bus_run_state *m = BUS_NEW(RUN_STATE, bus_run_state, PORT_TALK);
    m->talk_run = t->talk_run;
    m->queued = s->queued;
    m->position = s->position;
    m->eta_ms = s->eta_ms;
    engine_post(r->engine, &m->msg);
}

static void on_model_text(struct reply *r, const struct model_text *m)
{
    struct turn *t = pool_get(&r->turns, m->head.asker);
    if (t == NULL)
        return;
    if (!t->time_started) {
        t->time_started = true;
        timer_set(r->engine, &t->time_limit,
                  mono_after_ms(engine_now(r->engine), r->config->run_ms_max));
    }
    turn_think(t, m->reasoning);
    if (m->text != NULL && m->text->count > 0) {
        turn_think_end(t);
        (void)turn_say(t, blob_bytes(m->text), false);
    }
}

static void on_model_end(struct reply *r, const struct model_end *e)
{
    struct turn *t = pool_get(&r->turns, e->head.asker);
    if (t == NULL)
        return;
    t->state = TURN_CONTEXT; /* nothing is left to cancel */
    if (!turn_say(t, (struct bytes){NULL, 0}, true))
        return;
    switch (e->end) {
    case MODEL_END_OK:
    case MODEL_END_LENGTH: turn_end(t, RUN_END_COMPLETE, model_end_word(e->end), e); return;
    case MODEL_END_FILTERED: turn_end(t, RUN_END_BLOCKED, model_end_word(e->end), e); return;
    case MODEL_END_UNKNOWN_MODEL:
    case MODEL_END_OVERLOADED:
    case MODEL_END_UNAVAILABLE:
    case MODEL_END_UPSTREAM_STATUS:
    case MODEL_END_UPSTREAM_GARBAGE:
    case MODEL_END_UPSTREAM_CUT:
    case MODEL_END_FIRST_TOKEN:
    case MODEL_END_IDLE: break;
    }
    turn_end(t, RUN_END_FAILED, model_end_word(e->end), e);
}

static void take(void *ctx, struct msg *m)
{
    struct reply *r = ctx;
    switch (m->kind) {
    case BUS_RUN_START: on_start(r, (struct bus_run_start *)(void *)m); break;
    case BUS_RUN_CANCEL: on_cancel(r, (struct bus_run_cancel *)(void *)m); break;
    case RECALL_READY: on_ready(r, (struct recall_ready *)(void *)m); break;
    case MODEL_STATE: on_model_state(r, (struct model_state *)(void *)m); break;
    case MODEL_TEXT: on_model_text(r, (struct model_text *)(void *)m); break;
    case MODEL_END: on_model_end(r, (struct model_end *)(void *)m); break;
    default: break;
    }
    msg_free(m);
}

struct reply *reply_make(struct engine *e, struct recall *recall, struct model *m,
                         const struct text_terms *terms, const struct config *c)
{
    struct reply *r = mem_new_zero(sizeof(*r));
    uint64_t seed[2];
    if (r == NULL)
        return NULL;
    engine_random(seed, sizeof(seed));
    r->engine = e;
    r->recall = recall;
    r->model = m;
    r->terms = terms;
    r->config = c;
    map_init(&r->by_run, REPLY_SLOTS_MAX, seed);
    if (pool_init(&r->turns, sizeof(struct turn), REPLY_SLOTS_MAX) != ERR_OK) {
        map_fini(&r->by_run);
        mem_free(r);
        return NULL;
    }
    engine_listen(e, PORT_REPLY, take, r);
    return r;
}

void reply_free(struct reply **rp)
{
    struct reply *r = *rp;
    uint32_t index = 0;
    struct handle h;
    if (r == NULL)
        return;
    for (struct turn *t = pool_next(&r->turns, &index, &h); t != NULL;
         t = pool_next(&r->turns, &index, &h)) {
        timer_clear(r->engine, &t->time_limit);
        text_hold_fini(&t->hold);
        text_hold_fini(&t->thought);
    }
    pool_fini(&r->turns);
    map_fini(&r->by_run);
    mem_free(r);
    *rp = NULL;
}
