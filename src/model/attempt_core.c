/* The policy of one request: which failure is tried again, when time is up, what an ending is
 * called. The drawing is in the header. */
#include "model/attempt_core_priv.h"

static const struct {
    const char *name;
    uint32_t next;
} attempt_table[ATTEMPT_STATES_COUNT] = {
#define ATTEMPT_ROW(row_name, help, row_next) [ATTEMPT_##row_name] = {#row_name, row_next},
    ATTEMPT_STATES(ATTEMPT_ROW)
#undef ATTEMPT_ROW
};

const char *attempt_state_name(enum attempt_state s)
{
    return attempt_table[s].name;
}

static void attempt_enter(struct attempt_core *c, enum attempt_state s, struct mono deadline)
{
    CHECK((attempt_table[c->state].next & (1u << s)) != 0);
    c->state = s;
    c->deadline = deadline;
}

void attempt_core_init(struct attempt_core *c, const struct attempt_limits *l)
{
    *c = (struct attempt_core){.state = ATTEMPT_QUEUED,
                               .first_left_ns = l->first_token_ms * 1000000};
}

/* The end that comes with the upstream's exchange still open. */
static struct attempt_effects attempt_abort(struct attempt_core *c, enum model_end_kind end)
{
    attempt_enter(c, ATTEMPT_GONE, (struct mono){0});
    c->end = end;
    return (struct attempt_effects){.close = true, .back = true, .end = true, .free = true};
}

/* The end after the exchange is over, or before there was one. */
static struct attempt_effects attempt_over(struct attempt_core *c, enum model_end_kind end)
{
    attempt_enter(c, ATTEMPT_GONE, (struct mono){0});
    c->end = end;
    return (struct attempt_effects){.back = true, .end = true, .free = true};
}

/* The asker hears the end now; the permit goes back when the connection is really done, so that the
 * upstream never sees more requests than it may. */
static struct attempt_effects attempt_finished(struct attempt_core *c, enum model_end_kind end,
                                               struct mono now)
{
    attempt_enter(c, ATTEMPT_DRAINING, mono_after_ms(now, ATTEMPT_DRAIN_MS));
    c->end = end;
    return (struct attempt_effects){.end = true};
}

static struct attempt_effects attempt_send(struct attempt_core *c, struct mono now)
{
    if (c->first_deadline.ns == 0)
        c->first_deadline.ns = now.ns + c->first_left_ns;
    attempt_enter(c, ATTEMPT_ASKED, c->first_deadline);
    c->attempts++;
    c->status = 0;
    return (struct attempt_effects){.send = true};
}

/* A second try, when one is left and its pause ends before the first token is due. */
static struct attempt_effects attempt_again(struct attempt_core *c, const struct attempt_limits *l,
                                            const struct attempt_event *ev,
                                            enum model_end_kind otherwise, bool is_open,
                                            struct mono now)
{
    uint32_t span = ATTEMPT_PAUSE_MAX_MS - ATTEMPT_PAUSE_MIN_MS + 1;
    struct mono at = mono_after_ms(now, ATTEMPT_PAUSE_MIN_MS + ev->random % span);
    if (c->attempts >= ATTEMPTS_MAX || at.ns >= c->first_deadline.ns)
        return is_open ? attempt_abort(c, otherwise) : attempt_over(c, otherwise);
    attempt_enter(c, ATTEMPT_PAUSED, at);
    return (struct attempt_effects){.close = is_open, .back = l->requeue};
}

static struct attempt_effects attempt_queued(struct attempt_core *c, const struct attempt_event *ev,
                                             struct mono now)
{
    if (ev->kind == ATTEMPT_ON_GRANTED)
        return attempt_send(c, now);
    if (ev->kind == ATTEMPT_ON_POOL_REFUSED)
        return attempt_over(c, ev->end);
    if (ev->kind == ATTEMPT_ON_NO_ROOM)
        return attempt_over(c, MODEL_END_OVERLOADED);
    return (struct attempt_effects){0};
}

static struct attempt_effects attempt_asked_end(struct attempt_core *c,
                                                const struct attempt_limits *l,
                                                const struct attempt_event *ev, struct mono now)
{
    bool head = c->status != 0;
    switch (ev->error) {
    case HTTP_OUT_OK:
        return attempt_over(c, ev->heard ? MODEL_END_UPSTREAM_GARBAGE : MODEL_END_UPSTREAM_CUT);
    case HTTP_OUT_REFUSED: return attempt_again(c, l, ev, MODEL_END_UNAVAILABLE, false, now);
    case HTTP_OUT_RESET: return attempt_again(c, l, ev, MODEL_END_UPSTREAM_CUT, false, now);
    case HTTP_OUT_TIMEOUT:
    case HTTP_OUT_TLS:
    case HTTP_OUT_GUARD:
        return attempt_over(c, head ? MODEL_END_UPSTREAM_CUT : MODEL_END_UNAVAILABLE);
    case HTTP_OUT_OTHER:
        return attempt_over(c, head ? MODEL_END_UPSTREAM_CUT : MODEL_END_UPSTREAM_GARBAGE);
    }
    return attempt_over(c, MODEL_END_UPSTREAM_CUT);
}

static struct attempt_effects attempt_asked_head(struct attempt_core *c,
                                                 const struct attempt_event *ev, struct mono now)
{
    c->status = ev->status;
    if (ev->status >= 200 && ev->status < 300)
        return (struct attempt_effects){0};
    struct mono at = mono_after_ms(now, ATTEMPT_REFUSAL_MS);
    if (at.ns > c->first_deadline.ns)
        at = c->first_deadline;
    attempt_enter(c, ATTEMPT_REFUSED, at);
    return (struct attempt_effects){0};
}

static struct attempt_effects attempt_asked(struct attempt_core *c, const struct attempt_limits *l,
                                            const struct attempt_event *ev, struct mono now)
{
    switch (ev->kind) {
    case ATTEMPT_ON_HEAD: return attempt_asked_head(c, ev, now);
    case ATTEMPT_ON_TOKEN:
        attempt_enter(c, ATTEMPT_WRITING, mono_after_ms(now, l->idle_ms));
        return (struct attempt_effects){0};
    case ATTEMPT_ON_FINISH:
        c->end = ev->end;
        attempt_enter(c, ATTEMPT_FINISHING, mono_after_ms(now, ATTEMPT_FINISH_MS));
        return (struct attempt_effects){0};
    case ATTEMPT_ON_DONE: return attempt_finished(c, ev->end, now);
    case ATTEMPT_ON_NO_ROOM: return attempt_abort(c, MODEL_END_OVERLOADED);
    case ATTEMPT_ON_ERROR: return attempt_abort(c, MODEL_END_UPSTREAM_STATUS);
    case ATTEMPT_ON_GARBAGE: return attempt_abort(c, MODEL_END_UPSTREAM_GARBAGE);
    case ATTEMPT_ON_BODY_END: return attempt_asked_end(c, l, ev, now);
    case ATTEMPT_ON_TIMER: return attempt_abort(c, MODEL_END_FIRST_TOKEN);
    case ATTEMPT_ON_GRANTED:
    case ATTEMPT_ON_POOL_REFUSED:
    case ATTEMPT_EVENTS_COUNT: break;
    }
    return (struct attempt_effects){0};
}

static struct attempt_effects attempt_refused(struct attempt_core *c,
                                              const struct attempt_limits *l,
                                              const struct attempt_event *ev, struct mono now)
{
    /* ERROR: the error's body was read as far as anybody wants to know. */
    bool is_over = ev->kind == ATTEMPT_ON_BODY_END;
    if (!is_over && ev->kind != ATTEMPT_ON_TIMER && ev->kind != ATTEMPT_ON_ERROR)
        return (struct attempt_effects){0};
    if (c->status >= 500)
        return attempt_again(c, l, ev, MODEL_END_UPSTREAM_STATUS, !is_over, now);
    if (is_over)
        return attempt_over(c, MODEL_END_UPSTREAM_STATUS);
    return attempt_abort(c, MODEL_END_UPSTREAM_STATUS);
}

static struct attempt_effects attempt_paused(struct attempt_core *c, const struct attempt_limits *l,
                                             const struct attempt_event *ev, struct mono now)
{
    if (ev->kind != ATTEMPT_ON_TIMER)
        return (struct attempt_effects){0};
    if (!l->requeue)
        return attempt_send(c, now);
    c->first_left_ns = i64_max(c->first_deadline.ns - now.ns, 1);
    c->first_deadline = (struct mono){0};
    attempt_enter(c, ATTEMPT_QUEUED, (struct mono){0});
    return (struct attempt_effects){.want = true};
}

static struct attempt_effects attempt_writing(struct attempt_core *c,
                                              const struct attempt_limits *l,
                                              const struct attempt_event *ev, struct mono now)
{
    switch (ev->kind) {
    case ATTEMPT_ON_TOKEN:
        c->deadline = mono_after_ms(now, l->idle_ms);
        return (struct attempt_effects){0};
    case ATTEMPT_ON_FINISH:
        c->end = ev->end;
        attempt_enter(c, ATTEMPT_FINISHING, mono_after_ms(now, ATTEMPT_FINISH_MS));
        return (struct attempt_effects){0};
    case ATTEMPT_ON_DONE: return attempt_finished(c, ev->end, now);
    case ATTEMPT_ON_ERROR: return attempt_abort(c, MODEL_END_UPSTREAM_STATUS);
    case ATTEMPT_ON_GARBAGE: return attempt_abort(c, MODEL_END_UPSTREAM_GARBAGE);
    case ATTEMPT_ON_BODY_END: return attempt_over(c, MODEL_END_UPSTREAM_CUT);
    case ATTEMPT_ON_TIMER: return attempt_abort(c, MODEL_END_IDLE);
    case ATTEMPT_ON_NO_ROOM: return attempt_abort(c, MODEL_END_OVERLOADED);
    case ATTEMPT_ON_GRANTED:
    case ATTEMPT_ON_POOL_REFUSED:
    case ATTEMPT_ON_HEAD:
    case ATTEMPT_EVENTS_COUNT: break;
    }
    return (struct attempt_effects){0};
}

/* The answer is whole; whatever else happens can only take away the usage. */
static struct attempt_effects attempt_finishing(struct attempt_core *c,
                                                const struct attempt_event *ev, struct mono now)
{
    switch (ev->kind) {
    case ATTEMPT_ON_DONE: return attempt_finished(c, c->end, now);
    case ATTEMPT_ON_ERROR:
    case ATTEMPT_ON_GARBAGE:
    case ATTEMPT_ON_TIMER: return attempt_abort(c, c->end);
    case ATTEMPT_ON_BODY_END: return attempt_over(c, c->end);
    case ATTEMPT_ON_TOKEN:
    case ATTEMPT_ON_FINISH:
    case ATTEMPT_ON_GRANTED:
    case ATTEMPT_ON_POOL_REFUSED:
    case ATTEMPT_ON_NO_ROOM:
    case ATTEMPT_ON_HEAD:
    case ATTEMPT_EVENTS_COUNT: break;
    }
    return (struct attempt_effects){0};
}

static struct attempt_effects attempt_draining(struct attempt_core *c,
                                               const struct attempt_event *ev)
{
    bool late = ev->kind == ATTEMPT_ON_TIMER;
    if (!late && ev->kind != ATTEMPT_ON_BODY_END)
        return (struct attempt_effects){0};
    attempt_enter(c, ATTEMPT_GONE, (struct mono){0});
    return (struct attempt_effects){.close = late, .back = true, .free = true};
}

struct attempt_effects attempt_decide(struct attempt_core *c, const struct attempt_limits *l,
                                      const struct attempt_event *ev, struct mono now)
{
    switch (c->state) {
    case ATTEMPT_QUEUED: return attempt_queued(c, ev, now);
    case ATTEMPT_ASKED: return attempt_asked(c, l, ev, now);
    case ATTEMPT_REFUSED: return attempt_refused(c, l, ev, now);
    case ATTEMPT_PAUSED: return attempt_paused(c, l, ev, now);
    case ATTEMPT_WRITING: return attempt_writing(c, l, ev, now);
    case ATTEMPT_FINISHING: return attempt_finishing(c, ev, now);
    case ATTEMPT_DRAINING: return attempt_draining(c, ev);
    case ATTEMPT_GONE:
    case ATTEMPT_STATES_COUNT: break;
    }
    return (struct attempt_effects){0};
}

struct attempt_effects attempt_cancel(struct attempt_core *c)
{
    bool is_open = c->state != ATTEMPT_QUEUED && c->state != ATTEMPT_PAUSED;
    attempt_enter(c, ATTEMPT_GONE, (struct mono){0});
    return (struct attempt_effects){.close = is_open, .back = true, .free = true};
}

void attempt_check(const struct attempt_core *c)
{
    CHECK(c->attempts <= ATTEMPTS_MAX);
    bool waits = c->state == ATTEMPT_QUEUED || c->state == ATTEMPT_GONE;
    CHECK(waits == (c->deadline.ns == 0));
    if (c->state == ATTEMPT_ASKED || c->state == ATTEMPT_PAUSED || c->state == ATTEMPT_REFUSED)
        CHECK(c->first_deadline.ns != 0);
    if (c->state == ATTEMPT_PAUSED)
        CHECK(c->attempts < ATTEMPTS_MAX);
}
