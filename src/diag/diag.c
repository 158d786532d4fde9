/* Copies per thread, and adding them up. */
#include "base/mem.h"
#include "diag/diag_priv.h"

#include <stdio.h>

static struct diag_thread shared_copy = {.name = "shared"};
static _Atomic(struct diag_thread *) copies[DIAG_THREADS_MAX] = {&shared_copy};
static _Atomic uint32_t copies_count = 1;
static _Thread_local struct diag_thread *mine;

static const int64_t bucket_limits[] = {
#define DIAG_BUCKET_LIMIT(ns, le) ns,
    DIAG_BUCKETS(DIAG_BUCKET_LIMIT)
#undef DIAG_BUCKET_LIMIT
};

void diag_thread_init(const char *name)
{
    if (mine != NULL)
        return;
    uint32_t index = atomic_fetch_add(&copies_count, 1);
    if (index >= DIAG_THREADS_MAX) {
        atomic_store(&copies_count, DIAG_THREADS_MAX);
        return;
    }
    struct diag_thread *t = mem_new_zero(sizeof(*t));
    if (t == NULL)
        return; /* its place stays empty and it counts in the shared copy */
    (void)snprintf(t->name, sizeof(t->name), "%s", name);
    atomic_store_explicit(&copies[index], t, memory_order_release);
    mine = t;
}

struct diag_thread *diag_thread_mine(void)
{
    return mine;
}

struct diag_thread *diag_thread_at(uint32_t index)
{
    /* The place of a thread that is just starting is still empty: it lends a copy without counts,
     * because NULL would end the walk. */
    static struct diag_thread nothing = {.name = "-"};
    if (index >= DIAG_THREADS_MAX || index >= atomic_load(&copies_count))
        return NULL;
    struct diag_thread *t = atomic_load_explicit(&copies[index], memory_order_acquire);
    return t == NULL ? &nothing : t;
}

/* An owner's store needs no locked instruction: nobody else writes there. */
static void add(_Atomic uint64_t *own, _Atomic uint64_t *shared, uint64_t n)
{
    if (own != NULL)
        atomic_store_explicit(own, atomic_load_explicit(own, memory_order_relaxed) + n,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(shared, n, memory_order_relaxed);
}

void diag_add(enum diag_counter c, uint64_t n)
{
    add(mine == NULL ? NULL : &mine->counters[c], &shared_copy.counters[c], n);
}

void diag_gauge_add(enum diag_gauge g, int64_t n)
{
    if (mine != NULL)
        atomic_store_explicit(&mine->gauges[g],
                              atomic_load_explicit(&mine->gauges[g], memory_order_relaxed) + n,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(&shared_copy.gauges[g], n, memory_order_relaxed);
}

void diag_observe(enum diag_histogram h, int64_t span_ns)
{
    uint64_t ns = span_ns < 0 ? 0 : (uint64_t)span_ns;
    size_t bucket = 0;
    while (bucket < ARRAY_COUNT(bucket_limits) && ns > (uint64_t)bucket_limits[bucket])
        bucket++;
    struct diag_span *own = mine == NULL ? NULL : &mine->spans[h];
    struct diag_span *shared = &shared_copy.spans[h];
    add(own == NULL ? NULL : &own->buckets[bucket], &shared->buckets[bucket], 1);
    add(own == NULL ? NULL : &own->sum_ns, &shared->sum_ns, ns);
}

uint64_t diag_counter_sum(enum diag_counter c)
{
    uint64_t sum = 0;
    struct diag_thread *t;
    for (uint32_t i = 0; (t = diag_thread_at(i)) != NULL; i++)
        sum += atomic_load_explicit(&t->counters[c], memory_order_relaxed);
    return sum;
}

int64_t diag_gauge_sum(enum diag_gauge g)
{
    int64_t sum = 0;
    struct diag_thread *t;
    for (uint32_t i = 0; (t = diag_thread_at(i)) != NULL; i++)
        sum += atomic_load_explicit(&t->gauges[g], memory_order_relaxed);
    return sum;
}
