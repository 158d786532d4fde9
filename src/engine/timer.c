/* Timers in a pairing heap: no array that could fail to grow, so arming a timer never fails.
 *
 *     root -> child -> next -> next     each child may have children of its own
 *
 * `prev` of a first child is its parent, of the others their left sibling, of the root itself.
 * Arming is one comparison. Taking the first one merges its children two by two, from the left, and
 * the pairs from the right: amortised O(log n). Nothing here recurses. */
#include "engine/engine_priv.h"

static struct timer *timers_merge(struct timer *a, struct timer *b)
{
    if (a == NULL)
        return b;
    if (b == NULL)
        return a;
    struct timer *top = b->at.ns < a->at.ns ? b : a;
    struct timer *under = top == a ? b : a;
    under->prev = top;
    under->next = top->child;
    if (under->next != NULL)
        under->next->prev = under;
    top->child = under;
    return top;
}

/* One heap of a list of siblings. */
static struct timer *timers_join(struct timer *first)
{
    struct timer *pairs = NULL; /* linked by next, the last pair first */
    while (first != NULL) {
        struct timer *a = first;
        struct timer *b = a->next;
        first = b == NULL ? NULL : b->next;
        a->next = NULL;
        if (b != NULL)
            b->next = NULL;
        struct timer *pair = timers_merge(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    struct timer *whole = NULL;
    while (pairs != NULL) {
        struct timer *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        whole = timers_merge(pair, whole);
    }
    return whole;
}

static void timers_root_set(struct engine *e, struct timer *root)
{
    e->timers = root;
    if (root != NULL) {
        root->next = NULL;
        root->prev = root;
    }
}

static void timers_remove(struct engine *e, struct timer *t)
{
    struct timer *below = timers_join(t->child);
    if (t == e->timers) {
        timers_root_set(e, below);
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next != NULL)
            t->next->prev = t->prev;
        timers_root_set(e, timers_merge(e->timers, below));
    }
    t->child = NULL;
    t->next = NULL;
    t->prev = NULL;
}

void timer_init(struct timer *t, void (*fire)(void *ctx), void *ctx)
{
    *t = (struct timer){.fire = fire, .ctx = ctx};
}

void timer_set(struct engine *e, struct timer *t, struct mono at)
{
    CHECK(engine_is_mine(e));
    CHECK(t->fire != NULL);
    if (timer_is_set(t))
        timers_remove(e, t);
    /* Later than this turn: one that arms itself for this instant cannot hold the turn up. */
    t->at.ns = i64_max(at.ns, e->now.ns + 1);
    t->child = NULL;
    t->next = NULL;
    timers_root_set(e, timers_merge(e->timers, t));
}

void timer_clear(struct engine *e, struct timer *t)
{
    CHECK(engine_is_mine(e));
    if (timer_is_set(t))
        timers_remove(e, t);
}

void timers_run(struct engine *e)
{
    for (uint32_t i = 0; i < ENGINE_TIMERS_PER_TURN; i++) {
        struct timer *t = e->timers;
        if (t == NULL || !mono_reached(t->at, e->now))
            return;
        timers_remove(e, t);
        uintptr_t function = (uintptr_t)t->fire;
        t->fire(t->ctx); /* t may be gone after it */
        engine_called(e, (struct engine_culprit){.step = STEP_TIMER, .function = function});
    }
}
