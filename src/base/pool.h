/* pool: slots of one size, named by handles that go stale. What waits across turns lives here.
 *
 * Owner   : one engine. A handle may travel anywhere; a pointer may not.
 * Thread  : one.
 * Memory  : slabs from mem, never given back before pool_fini; freed slots are poisoned under ASan.
 * Errors  : NULL when `slots_max` are in use or mem is out.
 * Limits  : slots_max of pool_init (at most 2^30). */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/base.h"

/* {0, 0} is never a live slot. */
struct handle {
    uint32_t slot;
    uint32_t generation;
};

static inline bool handle_is_none(struct handle h)
{
    return h.generation == 0;
}

static inline bool handle_equal(struct handle a, struct handle b)
{
    return a.slot == b.slot && a.generation == b.generation;
}

struct pool_slab;

struct pool {
    struct pool_slab **slabs;
    uint32_t slabs_count;
    uint32_t slots_max;
    uint32_t slot_bytes;
    uint32_t free_first; /* index + 1, 0 = none */
    uint32_t used_count;
    uint32_t used_count_max;
    uint32_t made_count;
    uint32_t slab_shift; /* log2 of the slots in a slab */
};

enum err pool_init(struct pool *p, size_t slot_bytes, uint32_t slots_max) MUST_USE;
void pool_fini(struct pool *p);

/* A zeroed slot and its handle. */
void *pool_new(struct pool *p, struct handle *handle_out) MUST_USE;

/* NULL when the handle is stale or none. */
void *pool_get(struct pool *p, struct handle h);
void pool_free(struct pool *p, struct handle h); /* CHECKs that it is live */

/* Walks the live slots: start with index 0; NULL at the end. *index is moved on; the slot just
 * answered may be freed. `handle_out` may be NULL. */
void *pool_next(struct pool *p, uint32_t *index, struct handle *handle_out);

#endif
