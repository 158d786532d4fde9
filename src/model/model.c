/* Requests of one engine: made by model_start, moved on by attempt_core, told to the asker. */
#include "base/hash.h"
#include "base/mem.h"
#include "diag/diag.h"
#include "model/model_priv.h"

#include <stdio.h>

/* Before any usage was returned; English prose has about four bytes a token in every vocabulary. */
#define MODEL_BYTES_PER_TOKEN    4.0
#define MODEL_TOKENS_PER_MESSAGE 5 /* role and separators, seen in ChatML and Llama templates */

static const char *const model_end_words[] = {
#define MODEL_WORD(name, word, help) [MODEL_END_##name] = word,
    MODEL_ENDS(MODEL_WORD)
#undef MODEL_WORD
};

const char *model_end_word(enum model_end_kind k)
{
    return model_end_words[k];
}

/* --- what the asker hears -------------------------------------------------------------------- */

static void request_post(struct request *r, struct model_msg *head)
{
    head->asker = r->asker;
    head->request = r->self;
    engine_post(r->model->engine, &head->msg);
}

static void model_text_drop(struct msg *m)
{
    struct model_text *t = CONTAINER_OF(m, struct model_text, head.msg);
    blob_unref(&t->text);
    blob_unref(&t->reasoning);
    mem_free(t);
}

static struct blob *request_take(struct buf *b)
{
    return b->count == 0 ? NULL : buf_take(b);
}

/* All text of this turn is one message. */
static void request_flush(struct request *r)
{
    list_remove(&r->dirty);
    struct model_text *t = r->said;
    if (t == NULL)
        return;
    r->said = NULL;
    t->text = request_take(&r->text);
    t->reasoning = request_take(&r->reasoning);
    request_post(r, &t->head);
}

static void model_flush(void *ctx)
{
    struct model *m = ctx;
    LIST_FOR(at, &m->dirty)
    request_flush(CONTAINER_OF(at, struct request, dirty));
}

enum err request_dirty(struct request *r)
{
    struct model *m = r->model;
    if (r->said != NULL)
        return ERR_OK;
    r->said = msg_try_new(r->port, MODEL_TEXT, sizeof(*r->said));
    if (r->said == NULL)
        return ERR_FULL;
    r->said->head.msg.drop = model_text_drop;
    list_push_back(&m->dirty, &r->dirty);
    engine_at_turn_end(m->engine, &m->flush);
    return ERR_OK;
}

/* A place that is not told for want of memory is no loss: the next one is. */
static void request_tell_state(struct request *r, uint32_t position, int64_t eta_ms)
{
    struct model_state *s = msg_try_new(r->port, MODEL_STATE, sizeof(*s));
    if (s == NULL)
        return;
    s->queued = position != 0;
    s->position = position;
    s->eta_ms = eta_ms;
    request_post(r, &s->head);
}

static bool model_end_is_fine(enum model_end_kind end)
{
    return end == MODEL_END_OK || end == MODEL_END_LENGTH || end == MODEL_END_FILTERED;
}

/* Whatever an attempt died of shows here, by the end of the request. What it died of before the
 * second try is counted by request_event. */
static void request_count(const struct request *r, struct attempt_effects effects)
{
    bool failed = effects.end && !model_end_is_fine(r->core.end) && r->core.attempts > 0;
    if (effects.end && (r->core.end == MODEL_END_FIRST_TOKEN || r->core.end == MODEL_END_IDLE))
        DIAG_COUNT(model_timeouts);
    else if (failed)
        DIAG_COUNT(model_errors);
}

static void request_log_end(const struct request *r, int64_t span_ms)
{
    enum model_end_kind end = r->core.end;
    enum diag_level level = model_end_is_fine(end) ? DIAG_DEBUG : DIAG_WARN;
    if (!diag_enabled(level))
        return;
    diag_log(level, "model_end", "model=%s end=%s status=%u attempts=%u ms=%lld",
             diag_quote(bytes_of(r->backend->config->name)),
             end == MODEL_END_OK ? "ok" : model_end_word(end), r->core.status, r->core.attempts,
             (long long)span_ms);
}

static void request_tell_end(struct request *r)
{
    request_flush(r);
    struct mono now = engine_now(r->model->engine);
    struct model_end *e = r->ending;
    r->ending = NULL;
    e->end = r->core.end;
    e->status = r->core.status;
    e->has_usage = r->has_usage;
    e->tokens_in = r->tokens_in;
    e->tokens_out = r->tokens_out;
    e->attempts = r->core.attempts;
    e->first_token_ms = r->first_token_ms;
    request_post(r, &e->head);
    request_log_end(r, mono_since_ms(r->begun, now));
}

/* --- moving a request on --------------------------------------------------------------------- */

static void request_free(struct request *r)
{
    struct model *m = r->model;
    attempt_close(r);
    list_remove(&r->dirty);
    timer_clear(m->engine, &r->timer);
    buf_fini(&r->text);
    buf_fini(&r->reasoning);
    blob_unref(&r->body);
    if (r->said != NULL)
        msg_free(&r->said->head.msg);
    if (r->want != NULL)
        msg_free(&r->want->msg);
    if (r->back != NULL)
        msg_free(&r->back->msg);
    if (r->ending != NULL)
        msg_free(&r->ending->head.msg);
    pool_free(&m->requests, r->self);
}

/* The deadline moves with every token; the timer does not. It fires early at most once and is then
 * set to where the deadline is. */
static void request_arm(struct request *r)
{
    struct engine *e = r->model->engine;
    if (r->core.deadline.ns == 0)
        timer_clear(e, &r->timer);
    else if (!timer_is_set(&r->timer) || r->timer.at.ns > r->core.deadline.ns)
        timer_set(e, &r->timer, r->core.deadline);
}

static void request_timer(void *ctx)
{
    struct request *r = ctx;
    if (!mono_reached(r->core.deadline, engine_now(r->model->engine))) {
        timer_set(r->model->engine, &r->timer, r->core.deadline);
        return;
    }
    struct attempt_event late = {.kind = ATTEMPT_ON_TIMER};
    late.random = (uint32_t)rng_next(engine_rng(r->model->engine));
    (void)request_event(r, &late);
}

/* Asks for a permit. ERR_FULL: no memory to give it back later. */
static enum err request_want(struct request *r, bool front)
{
    if (r->back == NULL)
        r->back = pool_note_new();
    if (r->want == NULL)
        r->want = pool_note_new();
    if (r->back == NULL || r->want == NULL)
        return ERR_FULL;
    struct pool_note *want = r->want;
    r->want = NULL;
    want->front = front;
    pool_post(r, want, MODEL_WANT);
    return ERR_OK;
}

static void request_give_back(struct request *r)
{
    struct pool_note *back = r->back;
    if (back == NULL || r->backend->concurrency == 0)
        return;
    r->back = NULL;
    pool_post(r, back, MODEL_BACK);
}

/* Does the effects. *failed_out: one of them needs room that is not there. False: the request is
 * gone. */
static bool request_apply(struct request *r, struct attempt_effects effects, bool *failed_out)
{
    if (effects.close)
        attempt_close(r);
    if (effects.back)
        request_give_back(r);
    if (effects.want) {
        request_tell_state(r, 1, -1);
        *failed_out = request_want(r, true) != ERR_OK;
    }
    if (effects.send)
        *failed_out = attempt_start(r) != ERR_OK;
    if (effects.end)
        request_tell_end(r);
    if (effects.free)
        request_free(r);
    return !effects.free;
}

bool request_event(struct request *r, const struct attempt_event *ev)
{
    struct mono now = engine_now(r->model->engine);
    struct attempt_event full = {.kind = ATTEMPT_ON_NO_ROOM};
    enum attempt_state before = r->core.state;
    bool failed = true;
    /* At most twice: what comes of `full` needs no room. */
    while (failed) {
        failed = false;
        struct attempt_effects effects = attempt_decide(&r->core, &r->limits, ev, now);
        attempt_check(&r->core);
        request_count(r, effects);
        if (!request_apply(r, effects, &failed))
            return false;
        ev = &full;
    }
    if (r->core.state == ATTEMPT_PAUSED && before != ATTEMPT_PAUSED) {
        DIAG_COUNT(model_errors);
        DIAG_COUNT(model_retries);
    }
    request_arm(r);
    return true;
}

/* --- asking ---------------------------------------------------------------------------------- */

static struct backend *model_backend(struct model *m, struct bytes name)
{
    const struct config_model *c = config_model_get(m->config, name);
    for (uint32_t i = 0; c != NULL && i < m->backends_count; i++) {
        if (m->backends[i].config == c)
            return &m->backends[i];
    }
    return NULL;
}

static enum err request_body(struct request *r, const struct model_ask *ask)
{
    const struct config_model *c = r->backend->config;
    struct openai_params params = {.model = bytes_of(c->model[0] != 0 ? c->model : c->name),
                                   .max_tokens = ask->max_tokens,
                                   .temperature = c->temperature,
                                   .top_p = -1,
                                   .stream = true};
    struct buf b;
    buf_init(&b, MODEL_BODY_BYTES_MAX);
    openai_request(&b, &params, ask->messages, ask->messages_count);
    if (c->local && b.count > 0) {
        /* llama.cpp keeps the prompt's state of the slot that saw its beginning before. */
        b.count--;
        buf_text(&b, ",\"cache_prompt\":true}");
    }
    r->body = buf_take(&b);
    buf_fini(&b);
    for (size_t i = 0; i < ask->messages_count; i++)
        r->prompt_bytes += ask->messages[i].text.count;
    r->messages_count = ask->messages_count;
    return r->body == NULL ? ERR_FULL : ERR_OK;
}

/* A request for a model that does not exist lives just long enough to have a name in its end. */
static enum err model_refuse(struct model *m, const struct model_ask *ask, struct handle *out)
{
    struct handle self = {0, 0};
    if (pool_new(&m->requests, &self) == NULL)
        return ERR_FULL;
    pool_free(&m->requests, self);
    struct model_end *e = msg_try_new(ask->port, MODEL_END, sizeof(*e));
    if (e == NULL)
        return ERR_FULL;
    e->head.asker = ask->asker;
    e->head.request = self;
    e->end = ask->model.count == 0 ? MODEL_END_UNAVAILABLE : MODEL_END_UNKNOWN_MODEL;
    e->first_token_ms = -1;
    engine_post(m->engine, &e->head.msg);
    *out = self;
    return ERR_OK;
}

static void request_make(struct request *r, struct model *m, struct backend *b,
                         const struct model_ask *ask)
{
    r->model = m;
    r->backend = b;
    r->port = ask->port;
    r->asker = ask->asker;
    r->begun = engine_now(m->engine);
    r->first_token_ms = -1;
    r->limits = (struct attempt_limits){.first_token_ms = m->config->first_token_ms,
                                        .idle_ms = m->config->model_idle_ms,
                                        .requeue = b->config->local};
    attempt_core_init(&r->core, &r->limits);
    timer_init(&r->timer, request_timer, r);
    buf_init(&r->text, MODEL_EVENT_BYTES_MAX * 2);
    buf_init(&r->reasoning, MODEL_EVENT_BYTES_MAX * 2);
}

static enum err request_begin(struct request *r)
{
    if (r->backend->concurrency != 0)
        return request_want(r, false);
    request_tell_state(r, 0, 0);
    struct attempt_event go = {.kind = ATTEMPT_ON_GRANTED};
    (void)request_event(r, &go); /* what goes wrong is told by message, too */
    return ERR_OK;
}

enum err model_start(struct model *m, const struct model_ask *ask, struct handle *out)
{
    struct backend *b = model_backend(m, ask->model);
    if (b == NULL)
        return model_refuse(m, ask, out);
    struct handle self = {0, 0};
    struct request *r = pool_new(&m->requests, &self);
    if (r == NULL)
        return ERR_FULL;
    r->self = self;
    request_make(r, m, b, ask);
    r->ending = msg_try_new(ask->port, MODEL_END, sizeof(*r->ending));
    if (r->ending == NULL || request_body(r, ask) != ERR_OK || request_begin(r) != ERR_OK) {
        request_free(r);
        return ERR_FULL;
    }
    DIAG_COUNT(model_requests);
    *out = self;
    return ERR_OK;
}

void model_cancel(struct model *m, struct handle request)
{
    struct request *r = pool_get(&m->requests, request);
    if (r == NULL || r->core.state == ATTEMPT_DRAINING)
        return;
    bool failed = false;
    (void)request_apply(r, attempt_cancel(&r->core), &failed); /* gives back, needs no room */
}

/* --- messages -------------------------------------------------------------------------------- */

/* The note is kept for a second try. */
static void model_granted(struct model *m, struct pool_note *note)
{
    struct request *r = pool_get(&m->requests, note->request);
    if (r == NULL || r->core.state != ATTEMPT_QUEUED) {
        msg_free(&note->msg); /* cancelled meanwhile: its BACK is on the way */
        return;
    }
    r->local_port = note->local_port;
    r->want = note;
    request_tell_state(r, 0, 0);
    struct attempt_event ev = {.kind = ATTEMPT_ON_GRANTED};
    (void)request_event(r, &ev);
}

static void model_refused(struct model *m, struct pool_note *note)
{
    struct request *r = pool_get(&m->requests, note->request);
    if (r != NULL && r->core.state == ATTEMPT_QUEUED) {
        struct attempt_event ev = {.kind = ATTEMPT_ON_POOL_REFUSED, .end = note->end};
        msg_free(&r->back->msg); /* the pool knows nothing of it any more */
        r->back = NULL;
        (void)request_event(r, &ev);
    }
    msg_free(&note->msg);
}

static void model_placed(struct model *m, const struct pool_place *p)
{
    struct request *r = pool_get(&m->requests, p->request);
    if (r != NULL && r->core.state == ATTEMPT_QUEUED)
        request_tell_state(r, p->position, p->eta_ms);
}

static void model_take(void *ctx, struct msg *msg)
{
    struct model *m = ctx;
    switch ((enum model_internal)msg->kind) {
    case MODEL_WANT:
    case MODEL_BACK:
    case MODEL_SEEN: pool_note_take(m, CONTAINER_OF(msg, struct pool_note, msg)); return;
    case MODEL_GRANT: model_granted(m, CONTAINER_OF(msg, struct pool_note, msg)); return;
    case MODEL_REFUSE: model_refused(m, CONTAINER_OF(msg, struct pool_note, msg)); return;
    case MODEL_PLACE: model_placed(m, CONTAINER_OF(msg, struct pool_place, msg)); break;
    case MODEL_MANAGE: manager_begin(m); break;
    }
    msg_free(msg);
}

/* --- estimates ------------------------------------------------------------------------------- */

/* One backend's usage teaches how many bytes its tokens have; the frame of a message is taken off
 * first, or short prompts would teach nonsense. */
void request_learn(struct request *r)
{
    uint64_t frame = MODEL_TOKENS_PER_MESSAGE * (uint64_t)r->messages_count;
    if (!r->has_usage || r->prompt_bytes < 256 || r->tokens_in <= frame)
        return;
    struct backend *b = r->backend;
    double seen = (double)r->prompt_bytes / (double)(r->tokens_in - frame);
    seen = seen < 1 ? 1 : seen;
    seen = seen > 8 ? 8 : seen;
    b->bytes_per_token = b->learned ? 0.8 * b->bytes_per_token + 0.2 * seen : seen;
    b->learned = true;
}

uint32_t model_tokens_estimate(struct model *m, struct bytes model, struct bytes text)
{
    const struct backend *b = model_backend(m, model);
    double ratio = b == NULL ? MODEL_BYTES_PER_TOKEN : b->bytes_per_token;
    double safety = b != NULL && b->learned ? 1.1 : 1.25;
    double tokens = (double)text.count / ratio * safety + MODEL_TOKENS_PER_MESSAGE;
    return tokens >= (double)UINT32_MAX ? UINT32_MAX : (uint32_t)tokens + 1;
}

bool model_can_prefill(const struct model *m, struct bytes model)
{
    const struct config_model *c = config_model_get(m->config, model);
    return c != NULL && c->local;
}

/* --- making ---------------------------------------------------------------------------------- */

static void backend_make(struct model *m, uint32_t index)
{
    struct backend *b = &m->backends[index];
    const struct config_model *c = &m->config->models[index];
    b->model = m;
    b->config = c;
    b->index = index;
    b->bytes_per_token = MODEL_BYTES_PER_TOKEN;
    /* The manager hands its word to the local pool by a call: they share engine 0. */
    b->home = c->local ? 0 : hash_slot(bytes_of(c->name)) % engines_count();
    int64_t concurrency = c->concurrency;
    if (c->local && concurrency == 0)
        concurrency = m->config->local_slots;
    b->concurrency = (uint32_t)i64_min(concurrency, MODEL_WAITERS_MAX);
    b->is_default = config_model_get(m->config, (struct bytes){NULL, 0}) == c;
    if (b->is_default)
        m->backend_default = b;
}

static enum err model_make_parts(struct model *m)
{
    m->backends_count = (uint32_t)m->config->models_count;
    m->backends = mem_new_zero(sizeof(struct backend) * (m->backends_count + 1));
    if (m->backends == NULL)
        return ERR_FULL;
    for (uint32_t i = 0; i < m->backends_count; i++)
        backend_make(m, i);
    enum err err = arena_grow_init(&m->scratch, MODEL_SCRATCH_BYTES, MODEL_SCRATCH_BYTES_MAX);
    if (err == ERR_OK)
        err = pool_init(&m->requests, sizeof(struct request),
                        MODEL_REQUESTS_MAX + (uint32_t)m->config->model_queue_max);
    if (err == ERR_OK)
        err = pool_home_make(m);
    return err;
}

struct model *model_make(struct engine *e, struct net *n, const struct config *c)
{
    struct model *m = mem_new_zero(sizeof(*m));
    if (m == NULL)
        return NULL;
    m->engine = e;
    m->net = n;
    m->config = c;
    list_init(&m->dirty);
    m->flush = (struct turn_hook){.run = model_flush, .ctx = m};
    if (model_make_parts(m) != ERR_OK) {
        model_free(&m);
        return NULL;
    }
    engine_listen(e, PORT_MODEL, model_take, m);
    if (engine_index(e) != 0)
        return m;
    (void)manager_key();
    if (m->backend_default == NULL)
        ready_set(READY_NO_MODELS);
    else
        ready_set(m->backend_default->config->local ? READY_STARTING : READY_YES);
    return m;
}

/* The engine has stopped: nobody is told anything, what was borrowed goes back. */
void model_free(struct model **m_in)
{
    struct model *m = *m_in;
    if (m == NULL)
        return;
    uint32_t index = 0;
    for (struct request *r; (r = pool_next(&m->requests, &index, NULL)) != NULL;)
        request_free(r);
    manager_free(m);
    if (m->backends != NULL)
        pool_home_free(m);
    pool_fini(&m->requests);
    arena_fini(&m->scratch);
    mem_free(m->backends);
    mem_free(m);
    *m_in = NULL;
}
