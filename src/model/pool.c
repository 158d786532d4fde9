/* The home side of a pool. One engine per pool gives out permits, so that `concurrency` holds for
 * the whole process; everybody else asks by message and hears by message.
 *
 *     asker: WANT ------> home: room? GRANT : queue, PLACE (again whenever the place changes)
 *     asker: BACK ------> home: permit free -> next waiter: GRANT
 *
 * Every WANT that was not refused is followed by exactly one BACK, whether the permit was used,
 * or the asker cancelled while it waited. A BACK for somebody unknown has crossed a REFUSE. */
#include "base/hash.h"
#include "diag/diag.h"
#include "model/model_priv.h"

#include <stdio.h>

struct waiter {
    struct list link; /* in pool_home.waiting; unlinked once granted */
    struct handle self;
    struct handle request;
    uint32_t engine;
    struct pool_note *note; /* the WANT, until it goes back as an answer */
    bool granted;
    struct mono granted_at;
    uint32_t told_position;
};

struct waiter_key {
    uint32_t engine;
    uint32_t slot;
    uint32_t generation;
};

static struct waiter_key waiter_key(uint32_t engine, struct handle request)
{
    return (struct waiter_key){engine, request.slot, request.generation};
}

/* --- the asker's side ------------------------------------------------------------------------ */

struct pool_note *pool_note_new(void)
{
    return msg_try_new(PORT_MODEL, MODEL_WANT, sizeof(struct pool_note));
}

void pool_post(const struct request *r, struct pool_note *note, enum model_internal kind)
{
    note->msg.kind = (uint16_t)kind;
    note->request = r->self;
    note->engine = engine_index(r->model->engine);
    note->backend = r->backend->index;
    engine_post(engine_at(r->backend->home), &note->msg);
}

/* Only what readiness is made of: one that is lost for want of memory is followed by others. */
void pool_see(const struct request *r, bool refused)
{
    struct pool_note *note = pool_note_new();
    if (note == NULL)
        return;
    r->backend->told_refused = refused;
    note->refused = refused;
    pool_post(r, note, MODEL_SEEN);
}

/* --- the home's side ------------------------------------------------------------------------- */

static void pool_answer(struct pool_note *note, enum model_internal kind)
{
    note->msg.kind = (uint16_t)kind;
    engine_post(engine_at(note->engine), &note->msg);
}

static void pool_tell_refused(struct pool_note *note, enum model_end_kind end)
{
    note->end = end;
    pool_answer(note, MODEL_REFUSE);
}

/* A place that cannot be told for want of memory is told in the next round. */
static void pool_tell_place(struct backend *b, struct waiter *w, uint32_t position)
{
    struct pool_place *p = msg_try_new(PORT_MODEL, MODEL_PLACE, sizeof(*p));
    if (p == NULL)
        return;
    p->request = w->request;
    p->position = position;
    p->eta_ms = -1;
    if (b->pool.held_ms > 0 && !b->pool.withdrawn)
        p->eta_ms = (int64_t)(b->pool.held_ms * position / b->concurrency) + 1;
    w->told_position = position;
    engine_post(engine_at(w->engine), &p->msg);
}

/* Far back in the queue a step of one is no news; without this, each answer of a long queue would
 * cost a message for everybody in it. */
static bool pool_place_is_news(uint32_t told, uint32_t position)
{
    uint32_t step = told > position ? told - position : position - told;
    return step != 0 && (position <= 32 || step >= position / 8);
}

static void pool_announce(void *ctx)
{
    struct backend *b = ctx;
    uint32_t position = 0;
    LIST_FOR(at, &b->pool.waiting)
    {
        struct waiter *w = CONTAINER_OF(at, struct waiter, link);
        position++;
        if (pool_place_is_news(w->told_position, position))
            pool_tell_place(b, w, position);
    }
}

static void pool_announce_soon(struct backend *b)
{
    struct engine *e = b->model->engine;
    if (b->pool.waiting_count != 0 && !timer_is_set(&b->pool.announce))
        timer_set(e, &b->pool.announce, mono_after_ms(engine_now(e), MODEL_ANNOUNCE_MS));
}

static void pool_unqueue(struct backend *b, struct waiter *w)
{
    list_remove(&w->link);
    b->pool.waiting_count--;
    DIAG_GAUGE_BY(model_queued, -1);
}

static void pool_grant(struct backend *b, struct waiter *w)
{
    pool_unqueue(b, w);
    w->granted = true;
    w->granted_at = engine_now(b->model->engine);
    b->pool.busy++;
    manager_yield(b->model);
    w->note->local_port = b->pool.local_port;
    pool_answer(w->note, MODEL_GRANT);
    w->note = NULL;
}

static void pool_grant_all(struct backend *b)
{
    while (!b->pool.withdrawn && b->pool.busy < b->concurrency && b->pool.waiting_count != 0)
        pool_grant(b, CONTAINER_OF(b->pool.waiting.next, struct waiter, link));
    pool_announce_soon(b);
}

static void waiter_free(struct model *m, struct waiter *w)
{
    struct waiter_key key = waiter_key(w->engine, w->request);
    (void)map_remove(&m->waiters_by_request, bytes_make(&key, sizeof(key)));
    if (w->note != NULL)
        msg_free(&w->note->msg);
    pool_free(&m->waiters, w->self);
}

static struct waiter *waiter_new(struct model *m, struct pool_note *note)
{
    struct handle self = {0, 0};
    struct waiter *w = pool_new(&m->waiters, &self);
    if (w == NULL)
        return NULL;
    struct waiter_key key = waiter_key(note->engine, note->request);
    if (map_put(&m->waiters_by_request, bytes_make(&key, sizeof(key)), w) != ERR_OK) {
        pool_free(&m->waiters, self);
        return NULL;
    }
    w->self = self;
    w->engine = note->engine;
    w->request = note->request;
    w->note = note;
    return w;
}

static void pool_want(struct backend *b, struct pool_note *note)
{
    struct model *m = b->model;
    if (b->pool.refusing) {
        pool_tell_refused(note, MODEL_END_UNAVAILABLE);
        return;
    }
    bool full = (int64_t)b->pool.waiting_count >= m->config->model_queue_max;
    struct waiter *w = full ? NULL : waiter_new(m, note);
    if (w == NULL) {
        DIAG_COUNT(model_refused);
        pool_tell_refused(note, MODEL_END_OVERLOADED);
        return;
    }
    if (note->front)
        list_push_front(&b->pool.waiting, &w->link);
    else
        list_push_back(&b->pool.waiting, &w->link);
    uint32_t position = note->front ? 1 : b->pool.waiting_count + 1;
    b->pool.waiting_count++;
    DIAG_GAUGE_BY(model_queued, 1);
    pool_grant_all(b);
    if (!w->granted)
        pool_tell_place(b, w, position);
}

static void pool_back(struct backend *b, const struct pool_note *note)
{
    struct model *m = b->model;
    struct waiter_key key = waiter_key(note->engine, note->request);
    struct waiter *w = map_get(&m->waiters_by_request, bytes_make(&key, sizeof(key)));
    if (w == NULL)
        return;
    if (w->granted) {
        CHECK(b->pool.busy > 0);
        b->pool.busy--;
        double held = (double)mono_since_ms(w->granted_at, engine_now(m->engine)) + 1;
        b->pool.held_ms = b->pool.held_ms > 0 ? 0.8 * b->pool.held_ms + 0.2 * held : held;
    } else {
        pool_unqueue(b, w);
    }
    waiter_free(m, w);
    pool_grant_all(b);
}

/* --- whether the backend can be reached ------------------------------------------------------ */

static void pool_available(struct backend *b, bool available)
{
    if (b->pool.unavailable == !available)
        return;
    b->pool.unavailable = !available;
    diag_log(available ? DIAG_INFO : DIAG_WARN, available ? "model_reached" : "model_unavailable",
             "model=%s", diag_quote(bytes_of(b->config->name)));
    if (b->is_default)
        ready_set(available ? READY_YES : READY_UNREACHABLE);
    struct engine *e = b->model->engine;
    if (available)
        timer_clear(e, &b->pool.probe);
    else
        timer_set(e, &b->pool.probe, mono_after_ms(engine_now(e), MODEL_PROBE_MS));
}

static void pool_seen(struct backend *b, bool refused)
{
    if (!refused) {
        b->pool.refused_count = 0;
        pool_available(b, true);
        return;
    }
    b->pool.refused_count++;
    if (b->pool.refused_count >= MODEL_REFUSED_MAX)
        pool_available(b, false);
}

/* Any answer shows that somebody listens; whether the key is right is for requests to say. */
static void pool_probe_head(void *ctx, uint16_t status, struct bytes content_type,
                            int64_t retry_after_ms)
{
    (void)status;
    (void)content_type;
    (void)retry_after_ms;
    struct backend *b = ctx;
    pool_seen(b, false);
}

static void pool_probe_body(void *ctx, struct bytes piece)
{
    (void)piece;
    struct backend *b = ctx;
    http_out_cancel(b->model->net, b->pool.probe_http);
    b->pool.probing = false;
}

static void pool_probe_done(void *ctx, enum http_out_error error, const char *detail)
{
    (void)error;
    (void)detail;
    struct backend *b = ctx;
    b->pool.probing = false;
}

static void pool_probe(void *ctx)
{
    static const struct http_out_owner owner = {pool_probe_head, pool_probe_body, pool_probe_done};
    struct backend *b = ctx;
    struct engine *e = b->model->engine;
    timer_set(e, &b->pool.probe, mono_after_ms(engine_now(e), MODEL_PROBE_MS));
    if (b->pool.probing)
        return;
    char url[MODEL_URL_BYTES_MAX];
    char auth[MODEL_AUTH_BYTES_MAX];
    struct buf line;
    buf_init_fixed(&line, auth, sizeof(auth));
    const char *headers[] = {attempt_auth(b, &line) ? auth : NULL, NULL};
    int length = snprintf(url, sizeof(url), "%s/models", b->config->url);
    if (length < 0 || (size_t)length >= sizeof(url))
        return;
    struct http_out_request ask = {.url = url,
                                   .headers = headers,
                                   .connect_ms = b->model->config->model_connect_ms,
                                   .total_ms = MODEL_PROBE_MS - 1000};
    /* No room now is as good as no answer: the timer asks again. */
    b->pool.probing = http_out_start(b->model->net, &ask, &owner, b, &b->pool.probe_http) == ERR_OK;
}

/* --- the manager's word ---------------------------------------------------------------------- */

void pool_offer(struct backend *b, uint16_t local_port)
{
    b->pool.local_port = local_port;
    b->pool.withdrawn = false;
    b->pool.refusing = false;
    pool_grant_all(b);
}

void pool_withdraw(struct backend *b)
{
    b->pool.withdrawn = true;
    b->pool.held_ms = 0; /* nobody knows how long it takes now */
}

void pool_refuse_all(struct backend *b)
{
    b->pool.refusing = true;
    LIST_FOR(at, &b->pool.waiting)
    {
        struct waiter *w = CONTAINER_OF(at, struct waiter, link);
        pool_unqueue(b, w);
        pool_tell_refused(w->note, MODEL_END_UNAVAILABLE);
        w->note = NULL;
        waiter_free(b->model, w);
    }
}

/* --- making ---------------------------------------------------------------------------------- */

void pool_note_take(struct model *m, struct pool_note *note)
{
    CHECK(note->backend < m->backends_count);
    struct backend *b = &m->backends[note->backend];
    CHECK(b->home == engine_index(m->engine));
    if (note->msg.kind == MODEL_WANT) {
        pool_want(b, note);
        return;
    }
    if (note->msg.kind == MODEL_BACK)
        pool_back(b, note);
    else
        pool_seen(b, note->refused);
    msg_free(&note->msg);
}

enum err pool_home_make(struct model *m)
{
    uint64_t waiters = 0;
    for (uint32_t i = 0; i < m->backends_count; i++) {
        struct backend *b = &m->backends[i];
        list_init(&b->pool.waiting);
        timer_init(&b->pool.announce, pool_announce, b);
        timer_init(&b->pool.probe, pool_probe, b);
        b->pool.withdrawn = b->config->local;
        if (b->home == engine_index(m->engine))
            waiters += b->concurrency + (uint64_t)m->config->model_queue_max;
    }
    uint32_t waiters_max = waiters > MODEL_WAITERS_MAX ? MODEL_WAITERS_MAX : (uint32_t)waiters;
    uint64_t seed[2];
    engine_random(seed, sizeof(seed));
    map_init(&m->waiters_by_request, waiters_max + 1, seed);
    return pool_init(&m->waiters, sizeof(struct waiter), waiters_max);
}

void pool_home_free(struct model *m)
{
    for (uint32_t i = 0; i < m->backends_count; i++) {
        struct backend *b = &m->backends[i];
        timer_clear(m->engine, &b->pool.announce);
        timer_clear(m->engine, &b->pool.probe);
        if (b->pool.probing)
            http_out_cancel(m->net, b->pool.probe_http);
        b->pool.probing = false;
    }
    uint32_t index = 0;
    for (struct waiter *w; (w = pool_next(&m->waiters, &index, NULL)) != NULL;)
        waiter_free(m, w);
    map_fini(&m->waiters_by_request);
    pool_fini(&m->waiters);
}
