/* arena: memory that is given back all at once. The turn arena of an engine, the scratch of a
 * parser.
 *
 * Owner   : whoever inited it; pointers die at arena_reset or when the block goes.
 * Thread  : one.
 * Memory  : one caller's block (arena_init) that never grows, or chunks from mem (arena_grow_init)
 *           up to a cap. Freed ranges are poisoned under ASan: arena_fini before a caller's block
 *           is used for anything else.
 * Errors  : NULL when it does not fit. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/base.h"

struct arena_chunk;

struct arena {
    uint8_t *at;              /* current block */
    size_t size;              /* its bytes */
    size_t used;              /* its bytes in use */
    size_t total_used;        /* over all chunks since the last reset */
    size_t used_bytes_max;    /* high-water mark over all turns, a metric */
    size_t cap;               /* most bytes over all chunks */
    size_t made_bytes;        /* bytes of all chunks that exist now */
    struct arena_chunk *more; /* grown chunks, newest first; the first block is kept over resets */
    uint8_t *first;
    size_t first_size;
    bool owns_first;
};

void arena_init(struct arena *a, void *block, size_t bytes);
enum err arena_grow_init(struct arena *a, size_t first_bytes, size_t cap_bytes) MUST_USE;
void arena_fini(struct arena *a);
void arena_reset(struct arena *a);

/* Aligned to 16. A zero-byte request answers a valid pointer. */
void *arena_take(struct arena *a, size_t bytes) MUST_USE;
void *arena_take_zero(struct arena *a, size_t bytes) MUST_USE;
#define arena_new(a, type, count)                       \
    ((type *)((size_t)(count) > SIZE_MAX / sizeof(type) \
                  ? NULL                                \
                  : arena_take_zero((a), sizeof(type) * (size_t)(count))))

/* A copy of `b` with a NUL behind it (for libc's edge). NULL when full. */
char *arena_string(struct arena *a, struct bytes b) MUST_USE;

#endif
