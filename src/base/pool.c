/* Slots stand in slabs of equal, power-of-two size, so that an index is a shift and a mask away
 * from its place:
 *
 *     slabs[index >> shift] -> | pool_slab | state of each slot | slot 0 | slot 1 | ...
 *
 * The states stand apart from the slots, because freed slots are poisoned as a whole. */
#include "base/pool.h"
#include "base/mem.h"
#include "base/poison.h"

#define POOL_ALIGN      16u
#define POOL_SLAB_BYTES 65536u
#define POOL_SHIFT_MAX  6u
#define POOL_LIVE       UINT32_MAX
#define POOL_SLOTS_MAX  (1u << 30)

struct pool_state {
    uint32_t generation; /* of the live slot, or the one it will have next */
    uint32_t next;       /* POOL_LIVE, or the next free one's index + 1 */
};

struct pool_slab {
    uint8_t *slots;
    struct pool_state states[];
};

static size_t pool_round(size_t bytes)
{
    return (bytes + POOL_ALIGN - 1) & ~(size_t)(POOL_ALIGN - 1);
}

static uint32_t pool_slab_slots(const struct pool *p)
{
    return 1u << p->slab_shift;
}

enum err pool_init(struct pool *p, size_t slot_bytes, uint32_t slots_max)
{
    CHECK(slot_bytes > 0);
    CHECK(slot_bytes <= UINT32_MAX / 2);
    CHECK(slots_max <= POOL_SLOTS_MAX);
    struct pool made = {.slot_bytes = (uint32_t)pool_round(slot_bytes), .slots_max = slots_max};
    while (made.slab_shift < POOL_SHIFT_MAX &&
           ((size_t)made.slot_bytes << (made.slab_shift + 1)) <= POOL_SLAB_BYTES)
        made.slab_shift++;
    uint32_t per_slab = 1u << made.slab_shift;
    size_t slabs_max = ((size_t)slots_max + per_slab - 1) / per_slab;
    made.slabs = mem_new_zero(sizeof(made.slabs[0]) * slabs_max);
    if (made.slabs == NULL)
        return ERR_FULL;
    *p = made;
    return ERR_OK;
}

void pool_fini(struct pool *p)
{
    for (uint32_t i = 0; i < p->slabs_count; i++) {
        struct pool_slab *slab = p->slabs[i];
        unpoison(slab->slots, (size_t)p->slot_bytes << p->slab_shift);
        mem_free(slab);
    }
    mem_free(p->slabs);
    memset(p, 0, sizeof(*p));
}

static struct pool_state *pool_state(const struct pool *p, uint32_t index)
{
    return &p->slabs[index >> p->slab_shift]->states[index & (pool_slab_slots(p) - 1)];
}

static void *pool_slot(const struct pool *p, uint32_t index)
{
    size_t in_slab = index & (pool_slab_slots(p) - 1);
    return p->slabs[index >> p->slab_shift]->slots + in_slab * p->slot_bytes;
}

static bool pool_slab_make(struct pool *p)
{
    uint32_t per_slab = pool_slab_slots(p);
    size_t head = pool_round(sizeof(struct pool_slab) + sizeof(struct pool_state) * per_slab);
    size_t slots_bytes = (size_t)p->slot_bytes * per_slab;
    struct pool_slab *slab = mem_new(head + slots_bytes);
    if (slab == NULL)
        return false;
    slab->slots = (uint8_t *)slab + head;
    memset(slab->states, 0, sizeof(slab->states[0]) * per_slab);
    poison(slab->slots, slots_bytes);
    p->slabs[p->slabs_count] = slab;
    p->slabs_count++;
    return true;
}

void *pool_new(struct pool *p, struct handle *handle_out)
{
    uint32_t index = 0;
    if (p->free_first != 0) {
        index = p->free_first - 1;
        p->free_first = pool_state(p, index)->next;
    } else {
        if (p->made_count >= p->slots_max)
            return NULL;
        if (p->made_count == p->slabs_count << p->slab_shift && !pool_slab_make(p))
            return NULL;
        index = p->made_count;
        p->made_count++;
        pool_state(p, index)->generation = 1;
    }
    struct pool_state *state = pool_state(p, index);
    state->next = POOL_LIVE;
    p->used_count++;
    if (p->used_count > p->used_count_max)
        p->used_count_max = p->used_count;
    void *slot = pool_slot(p, index);
    unpoison(slot, p->slot_bytes);
    memset(slot, 0, p->slot_bytes);
    *handle_out = (struct handle){index, state->generation};
    return slot;
}

void *pool_get(struct pool *p, struct handle h)
{
    if (h.slot >= p->made_count)
        return NULL;
    const struct pool_state *state = pool_state(p, h.slot);
    if (state->next != POOL_LIVE || state->generation != h.generation)
        return NULL;
    return pool_slot(p, h.slot);
}

void pool_free(struct pool *p, struct handle h)
{
    void *slot = pool_get(p, h);
    CHECK(slot != NULL);
    struct pool_state *state = pool_state(p, h.slot);
    state->generation++;
    if (state->generation == 0)
        state->generation = 1;
    state->next = p->free_first;
    p->free_first = h.slot + 1;
    p->used_count--;
    poison(slot, p->slot_bytes);
}

void *pool_next(struct pool *p, uint32_t *index, struct handle *handle_out)
{
    while (*index < p->made_count) {
        uint32_t i = *index;
        (*index)++;
        const struct pool_state *state = pool_state(p, i);
        if (state->next == POOL_LIVE) {
            if (handle_out != NULL)
                *handle_out = (struct handle){i, state->generation};
            return pool_slot(p, i);
        }
    }
    return NULL;
}
