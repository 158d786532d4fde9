/* A grown chunk is one mem block:
 *
 *     | next chunk, its size | bytes given out from the front ...
 *
 * Reset drops all grown chunks and goes back to the first block, so a turn that once needed much
 * does not keep it. */
#include "base/arena.h"
#include "base/mem.h"
#include "base/poison.h"

#define ARENA_ALIGN           16u
#define ARENA_CHUNK_BYTES_MIN 1024u

struct arena_chunk {
    struct arena_chunk *next;
    size_t size;
    _Alignas(ARENA_ALIGN) uint8_t at[];
};

void arena_init(struct arena *a, void *block, size_t bytes)
{
    memset(a, 0, sizeof(*a));
    size_t skip = (size_t)(-(uintptr_t)block & (ARENA_ALIGN - 1));
    if (block == NULL || bytes < skip) {
        bytes = 0;
        skip = 0;
    }
    unpoison(block, bytes);
    a->first = block == NULL ? NULL : (uint8_t *)block + skip;
    a->first_size = bytes - skip;
    a->at = a->first;
    a->size = a->first_size;
    a->cap = a->first_size;
    a->made_bytes = a->first_size;
}

enum err arena_grow_init(struct arena *a, size_t first_bytes, size_t cap_bytes)
{
    size_t bytes = size_min(first_bytes, cap_bytes);
    uint8_t *block = NULL;
    if (bytes > 0) {
        block = mem_new(bytes);
        if (block == NULL)
            return ERR_FULL;
    }
    arena_init(a, block, bytes);
    a->cap = cap_bytes;
    a->owns_first = block != NULL;
    poison(a->first, a->first_size);
    return ERR_OK;
}

static void arena_chunks_drop(struct arena *a)
{
    while (a->more != NULL) {
        struct arena_chunk *chunk = a->more;
        a->more = chunk->next;
        mem_free(chunk);
    }
}

void arena_fini(struct arena *a)
{
    arena_chunks_drop(a);
    unpoison(a->first, a->first_size);
    if (a->owns_first)
        mem_free(a->first);
    memset(a, 0, sizeof(*a));
}

void arena_reset(struct arena *a)
{
    arena_chunks_drop(a);
    a->at = a->first;
    a->size = a->first_size;
    a->used = 0;
    a->total_used = 0;
    a->made_bytes = a->first_size;
    poison(a->first, a->first_size);
}

/* Makes a chunk current that holds at least `bytes`; what was left of the old one is lost. */
static bool arena_grow(struct arena *a, size_t bytes)
{
    size_t room = a->cap - a->made_bytes;
    if (bytes > room)
        return false;
    size_t wish = size_max(size_max(bytes, ARENA_CHUNK_BYTES_MIN), a->size * 2);
    size_t size = size_min(wish, room);
    struct arena_chunk *chunk = mem_new(sizeof(*chunk) + size);
    if (chunk == NULL)
        return false;
    chunk->next = a->more;
    chunk->size = size;
    a->more = chunk;
    a->made_bytes += size;
    a->at = chunk->at;
    a->size = size;
    a->used = 0;
    poison(chunk->at, size);
    return true;
}

void *arena_take(struct arena *a, size_t bytes)
{
    /* `used` stays a multiple of 16 unless the block's end was reached, and every block begins
     * aligned, so the front is always aligned. A zero-byte request takes one unit: its pointer
     * must be valid and its own. */
    size_t wanted = bytes == 0 ? 1 : bytes;
    if (wanted > SIZE_MAX - ARENA_ALIGN)
        return NULL;
    if (wanted > a->size - a->used && !arena_grow(a, wanted))
        return NULL;
    size_t rounded = (wanted + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    size_t taken = size_min(rounded, a->size - a->used);
    uint8_t *at = a->at + a->used;
    a->used += taken;
    a->total_used += taken;
    a->used_bytes_max = size_max(a->used_bytes_max, a->total_used);
    unpoison(at, bytes);
    return at;
}

void *arena_take_zero(struct arena *a, size_t bytes)
{
    void *at = arena_take(a, bytes);
    if (at != NULL)
        memset(at, 0, bytes);
    return at;
}

char *arena_string(struct arena *a, struct bytes b)
{
    if (b.count == SIZE_MAX)
        return NULL;
    char *text = arena_take(a, b.count + 1);
    if (text == NULL)
        return NULL;
    if (b.count > 0)
        memcpy(text, b.at, b.count);
    text[b.count] = '\0';
    return text;
}
