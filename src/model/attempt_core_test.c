/* The policy of a request as a table: a row is a story of events, one line what must come of it. */
#include "model/attempt_core_priv.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MS(n) ((int64_t)(n)*1000000)

static const struct attempt_limits remote = {.first_token_ms = 30000, .idle_ms = 20000};
static const struct attempt_limits local = {
    .first_token_ms = 30000, .idle_ms = 20000, .requeue = true};

struct step {
    int64_t at_ms;
    struct attempt_event ev;
};

#define EV(name, ...)                          \
    {                                          \
        .kind = ATTEMPT_ON_##name, __VA_ARGS__ \
    }
#define GO                          \
    {                               \
        0, EV(GRANTED, .random = 0) \
    }
#define STEPS_MAX 12

struct story {
    const char *name;
    struct step steps[STEPS_MAX]; /* ends with the first that has kind EVENTS_COUNT */
    enum attempt_state state;
    enum model_end_kind end; /* told; checked when `ended` */
    bool ended;
    uint32_t attempts;
    uint32_t sends;
};

#define STOP                             \
    {                                    \
        0,                               \
        {                                \
            .kind = ATTEMPT_EVENTS_COUNT \
        }                                \
    }

static const struct story stories[] = {
    {"an answer",
     {GO,
      {10, EV(HEAD, .status = 200)},
      {20, EV(TOKEN, .end = 0)},
      {30, EV(FINISH, .end = MODEL_END_OK)},
      {31, EV(DONE, .end = MODEL_END_OK)},
      STOP},
     ATTEMPT_DRAINING,
     MODEL_END_OK,
     true,
     1,
     1},
    {"the length of finish_reason survives [DONE]",
     {GO,
      {10, EV(HEAD, .status = 200)},
      {20, EV(TOKEN, .end = 0)},
      {30, EV(FINISH, .end = MODEL_END_LENGTH)},
      {31, EV(DONE, .end = MODEL_END_OK)},
      STOP},
     ATTEMPT_DRAINING,
     MODEL_END_LENGTH,
     true,
     1,
     1},
    {"[DONE] without finish_reason is an end",
     {GO,
      {10, EV(HEAD, .status = 200)},
      {20, EV(TOKEN, .end = 0)},
      {31, EV(DONE, .end = MODEL_END_OK)},
      STOP},
     ATTEMPT_DRAINING,
     MODEL_END_OK,
     true,
     1,
     1},
    {"finish_reason without [DONE] is an end",
     {GO,
      {10, EV(HEAD, .status = 200)},
      {20, EV(TOKEN, .end = 0)},
      {30, EV(FINISH, .end = MODEL_END_FILTERED)},
      {40, EV(BODY_END, .error = HTTP_OUT_OK)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_FILTERED,
     true,
     1,
     1},
    {"finish_reason and then a reset is an end",
     {GO,
      {10, EV(HEAD, .status = 200)},
      {20, EV(TOKEN, .end = 0)},
      {30, EV(FINISH, .end = MODEL_END_OK)},
      {40, EV(BODY_END, .error = HTTP_OUT_RESET)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_OK,
     true,
     1,
     1},
    {"neither of them is a cut",
     {GO,
      {10, EV(HEAD, .status = 200)},
      {20, EV(TOKEN, .end = 0)},
      {40, EV(BODY_END, .error = HTTP_OUT_OK)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_CUT,
     true,
     1,
     1},
    {"nothing is tried again after the first token",
     {GO,
      {10, EV(HEAD, .status = 200)},
      {20, EV(TOKEN, .end = 0)},
      {40, EV(BODY_END, .error = HTTP_OUT_RESET)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_CUT,
     true,
     1,
     1},
    {"refused twice is unavailable",
     {GO,
      {10, EV(BODY_END, .error = HTTP_OUT_REFUSED)},
      {60, EV(TIMER, .end = 0)},
      {70, EV(BODY_END, .error = HTTP_OUT_REFUSED)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_UNAVAILABLE,
     true,
     2,
     2},
    {"refused once is tried again",
     {GO,
      {10, EV(BODY_END, .error = HTTP_OUT_REFUSED)},
      {60, EV(TIMER, .end = 0)},
      {70, EV(HEAD, .status = 200)},
      {80, EV(TOKEN, .end = 0)},
      STOP},
     ATTEMPT_WRITING,
     MODEL_END_OK,
     false,
     2,
     2},
    {"reset before the first token is tried again, once",
     {GO,
      {5, EV(HEAD, .status = 200)},
      {10, EV(BODY_END, .error = HTTP_OUT_RESET)},
      {60, EV(TIMER, .end = 0)},
      {70, EV(BODY_END, .error = HTTP_OUT_RESET)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_CUT,
     true,
     2,
     2},
    {"500 is tried again, once",
     {GO,
      {5, EV(HEAD, .status = 500)},
      {10, EV(BODY_END, .error = HTTP_OUT_OK)},
      {60, EV(TIMER, .end = 0)},
      {70, EV(HEAD, .status = 503)},
      {80, EV(BODY_END, .error = HTTP_OUT_OK)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_STATUS,
     true,
     2,
     2},
    {"429 is not tried again",
     {GO, {5, EV(HEAD, .status = 429)}, {10, EV(BODY_END, .error = HTTP_OUT_OK)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_STATUS,
     true,
     1,
     1},
    {"400 is not tried again, its body is not waited for long",
     {GO, {5, EV(HEAD, .status = 400)}, {1005, EV(TIMER, .end = 0)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_STATUS,
     true,
     1,
     1},
    {"a redirect is an error",
     {GO, {5, EV(HEAD, .status = 302)}, {10, EV(BODY_END, .error = HTTP_OUT_OK)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_STATUS,
     true,
     1,
     1},
    {"no first token",
     {GO, {5, EV(HEAD, .status = 200)}, {30000, EV(TIMER, .end = 0)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_FIRST_TOKEN,
     true,
     1,
     1},
    {"what timed out is not tried again",
     {GO, {5000, EV(BODY_END, .error = HTTP_OUT_TIMEOUT)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_UNAVAILABLE,
     true,
     1,
     1},
    {"silence in the middle",
     {GO,
      {5, EV(HEAD, .status = 200)},
      {100, EV(TOKEN, .end = 0)},
      {20100, EV(TIMER, .end = 0)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_IDLE,
     true,
     1,
     1},
    {"an error event before the first token",
     {GO, {5, EV(HEAD, .status = 200)}, {10, EV(ERROR, .end = 0)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_STATUS,
     true,
     1,
     1},
    {"an error event in the middle",
     {GO, {5, EV(HEAD, .status = 200)}, {10, EV(TOKEN, .end = 0)}, {20, EV(ERROR, .end = 0)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_STATUS,
     true,
     1,
     1},
    {"garbage in the middle",
     {GO,
      {5, EV(HEAD, .status = 200)},
      {10, EV(TOKEN, .end = 0)},
      {20, EV(GARBAGE, .end = 0)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_GARBAGE,
     true,
     1,
     1},
    {"bytes, but no chunk among them",
     {GO,
      {5, EV(HEAD, .status = 200)},
      {9, EV(BODY_END, .error = HTTP_OUT_OK, .heard = true)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_GARBAGE,
     true,
     1,
     1},
    {"an empty body",
     {GO, {5, EV(HEAD, .status = 200)}, {9, EV(BODY_END, .error = HTTP_OUT_OK)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_CUT,
     true,
     1,
     1},
    {"not even HTTP",
     {GO, {5, EV(BODY_END, .error = HTTP_OUT_OTHER)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_UPSTREAM_GARBAGE,
     true,
     1,
     1},
    {"no finger for TLS",
     {GO, {5, EV(BODY_END, .error = HTTP_OUT_TLS)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_UNAVAILABLE,
     true,
     1,
     1},
    {"the queue is full",
     {{0, EV(POOL_REFUSED, .end = MODEL_END_OVERLOADED)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_OVERLOADED,
     true,
     0,
     0},
    {"this process is full",
     {GO, {0, EV(NO_ROOM, .end = 0)}, STOP},
     ATTEMPT_GONE,
     MODEL_END_OVERLOADED,
     true,
     1,
     1},
    {"[DONE] and no end of the body",
     {GO,
      {5, EV(HEAD, .status = 200)},
      {9, EV(DONE, .end = MODEL_END_OK)},
      {1009, EV(TIMER, .end = 0)},
      STOP},
     ATTEMPT_GONE,
     MODEL_END_OK,
     true,
     1,
     1},
};

static void add(struct attempt_effects *sum, uint32_t *ends, uint32_t *sends,
                struct attempt_effects e)
{
    *ends += e.end;
    *sends += e.send;
    sum->free |= e.free;
}

static void run_story(const struct story *s, struct attempt_core *c)
{
    struct attempt_effects sum = {0};
    uint32_t ends = 0;
    uint32_t sends = 0;
    attempt_core_init(c, &remote);
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        const struct step *step = &s->steps[i];
        if (step->ev.kind == ATTEMPT_EVENTS_COUNT)
            break;
        struct mono now = {MS(1000 + step->at_ms)};
        if (step->ev.kind == ATTEMPT_ON_TIMER)
            assert_int_equal(c->deadline.ns, now.ns);
        add(&sum, &ends, &sends, attempt_decide(c, &remote, &step->ev, now));
        attempt_check(c);
    }
    assert_int_equal(ends, s->ended ? 1 : 0);
    assert_int_equal(sends, s->sends);
    assert_int_equal(sum.free, c->state == ATTEMPT_GONE);
}

static void every_story_ends_as_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(stories); i++) {
        const struct story *s = &stories[i];
        struct attempt_core c;
        print_message("         %s\n", s->name);
        run_story(s, &c);
        assert_string_equal(attempt_state_name(c.state), attempt_state_name(s->state));
        assert_int_equal(c.attempts, s->attempts);
        if (s->ended)
            assert_int_equal(c.end, s->end);
    }
}

static struct attempt_effects feed(struct attempt_core *c, const struct attempt_limits *l,
                                   int64_t at_ms, struct attempt_event ev)
{
    struct attempt_effects e = attempt_decide(c, l, &ev, (struct mono){MS(at_ms)});
    attempt_check(c);
    return e;
}

static void waiting_for_a_permit_costs_no_first_token_time(void **state)
{
    (void)state;
    struct attempt_core c;
    attempt_core_init(&c, &remote);
    assert_int_equal(c.deadline.ns, 0);
    struct attempt_effects e =
        feed(&c, &remote, 500000, (struct attempt_event){.kind = ATTEMPT_ON_GRANTED});
    assert_true(e.send);
    assert_int_equal(c.deadline.ns, MS(530000));
}

static void the_first_token_time_is_one_for_both_attempts(void **state)
{
    (void)state;
    struct attempt_core c;
    attempt_core_init(&c, &remote);
    (void)feed(&c, &remote, 1000, (struct attempt_event){.kind = ATTEMPT_ON_GRANTED});
    (void)feed(&c, &remote, 21000,
               (struct attempt_event){.kind = ATTEMPT_ON_BODY_END, .error = HTTP_OUT_RESET});
    assert_int_equal(c.state, ATTEMPT_PAUSED);
    (void)feed(&c, &remote, 21150, (struct attempt_event){.kind = ATTEMPT_ON_TIMER});
    assert_int_equal(c.state, ATTEMPT_ASKED);
    assert_int_equal(c.deadline.ns, MS(31000));
}

static void no_second_try_when_its_pause_would_outlast_the_deadline(void **state)
{
    (void)state;
    struct attempt_core c;
    attempt_core_init(&c, &remote);
    (void)feed(&c, &remote, 1000, (struct attempt_event){.kind = ATTEMPT_ON_GRANTED});
    struct attempt_effects e =
        feed(&c, &remote, 30970,
             (struct attempt_event){.kind = ATTEMPT_ON_BODY_END, .error = HTTP_OUT_REFUSED});
    assert_true(e.end);
    assert_int_equal(c.end, MODEL_END_UNAVAILABLE);
}

static void the_pause_is_between_50_and_150_ms(void **state)
{
    (void)state;
    for (uint32_t random = 0; random < 1000; random++) {
        struct attempt_core c;
        attempt_core_init(&c, &remote);
        (void)feed(&c, &remote, 1000, (struct attempt_event){.kind = ATTEMPT_ON_GRANTED});
        (void)feed(&c, &remote, 1001,
                   (struct attempt_event){
                       .kind = ATTEMPT_ON_BODY_END, .error = HTTP_OUT_REFUSED, .random = random});
        assert_true(c.deadline.ns >= MS(1051) && c.deadline.ns <= MS(1151));
    }
}

static void a_local_second_try_waits_for_a_permit_again(void **state)
{
    (void)state;
    struct attempt_core c;
    attempt_core_init(&c, &local);
    (void)feed(&c, &local, 1000, (struct attempt_event){.kind = ATTEMPT_ON_GRANTED});
    struct attempt_effects e =
        feed(&c, &local, 11000,
             (struct attempt_event){.kind = ATTEMPT_ON_BODY_END, .error = HTTP_OUT_RESET});
    assert_true(e.back);
    e = feed(&c, &local, 11050, (struct attempt_event){.kind = ATTEMPT_ON_TIMER});
    assert_true(e.want && !e.send);
    assert_int_equal(c.state, ATTEMPT_QUEUED);
    assert_int_equal(c.deadline.ns, 0);
    /* Half an hour later the model is back: what was left of the first-token time is left still. */
    e = feed(&c, &local, 1811050, (struct attempt_event){.kind = ATTEMPT_ON_GRANTED});
    assert_true(e.send);
    assert_int_equal(c.deadline.ns, MS(1811050 + 30000 - 10050));
}

static void after_done_the_permit_stays_out_until_the_connection_is_over(void **state)
{
    (void)state;
    struct attempt_core c;
    attempt_core_init(&c, &remote);
    (void)feed(&c, &remote, 1000, (struct attempt_event){.kind = ATTEMPT_ON_GRANTED});
    struct attempt_effects e =
        feed(&c, &remote, 1010, (struct attempt_event){.kind = ATTEMPT_ON_DONE});
    assert_true(e.end && !e.back && !e.free && !e.close);
    e = feed(&c, &remote, 1011, (struct attempt_event){.kind = ATTEMPT_ON_BODY_END});
    assert_true(e.back && e.free && !e.end && !e.close);
}

static void cancel_gives_everything_back(void **state)
{
    (void)state;
    struct attempt_core c;
    attempt_core_init(&c, &remote);
    struct attempt_effects e = attempt_cancel(&c);
    assert_true(e.back && e.free && !e.close && !e.end);
    attempt_core_init(&c, &remote);
    (void)feed(&c, &remote, 1000, (struct attempt_event){.kind = ATTEMPT_ON_GRANTED});
    e = attempt_cancel(&c);
    assert_true(e.back && e.free && e.close && !e.end);
}

/* Whatever comes in whatever order: one end at most, nothing after the slot is free, no send beyond
 * the second, and every send is closed or over before the next. */
static void any_order_of_events_keeps_the_rules(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    for (uint32_t round = 0; round < 20000; round++) {
        struct attempt_core c;
        const struct attempt_limits *l = round % 2 == 0 ? &remote : &local;
        uint32_t ends = 0;
        uint32_t sends = 0;
        int64_t now_ms = 1;
        attempt_core_init(&c, l);
        for (uint32_t i = 0; i < 20 && c.state != ATTEMPT_GONE; i++) {
            struct attempt_event ev = {0};
            ev.kind = (enum attempt_event_kind)rng_below(&rng, ATTEMPT_EVENTS_COUNT);
            ev.error = (enum http_out_error)rng_below(&rng, HTTP_OUT_OTHER + 1);
            ev.status = (uint16_t)(100 + rng_below(&rng, 500));
            ev.heard = rng_below(&rng, 2) == 0;
            ev.random = (uint32_t)rng_next(&rng);
            if (ev.kind == ATTEMPT_ON_TIMER && c.deadline.ns == 0)
                continue;
            now_ms += (int64_t)rng_below(&rng, 3000);
            struct attempt_effects e = feed(&c, l, now_ms, ev);
            ends += e.end;
            sends += e.send;
            assert_true(!e.send || (!e.end && !e.free && !e.close));
            assert_true(!e.free || c.state == ATTEMPT_GONE);
        }
        assert_true(ends <= 1 && sends <= ATTEMPTS_MAX);
        assert_true(c.state != ATTEMPT_GONE || ends == 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_story_ends_as_told),
        cmocka_unit_test(waiting_for_a_permit_costs_no_first_token_time),
        cmocka_unit_test(the_first_token_time_is_one_for_both_attempts),
        cmocka_unit_test(no_second_try_when_its_pause_would_outlast_the_deadline),
        cmocka_unit_test(the_pause_is_between_50_and_150_ms),
        cmocka_unit_test(a_local_second_try_waits_for_a_permit_again),
        cmocka_unit_test(after_done_the_permit_stays_out_until_the_connection_is_over),
        cmocka_unit_test(cancel_gives_everything_back),
        cmocka_unit_test(any_order_of_events_keeps_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
