/* map: byte-string keys to a pointer or number. Open addressing, keyed hash.
 *
 * Owner   : one thread's structure; keys are copied in.
 * Thread  : one.
 * Memory  : nothing until the first put; then grows by doubling from mem and never shrinks. Keys
 *           of up to 32 bytes stand in the entry itself.
 * Errors  : ERR_FULL when it may not grow; the map is then unchanged.
 * Limits  : entries_max of map_init (at most 2^30); keys of at most MAP_KEY_BYTES_MAX.
 * Source  : SipHash-1-3 (Aumasson, Bernstein 2012) against chosen keys; linear probing with
 *           backward-shift deletion (Knuth 6.4). */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/base.h"

#define MAP_KEY_BYTES_MAX 512

struct map_entry;

struct map {
    struct map_entry *entries;
    uint32_t capacity;
    uint32_t count;
    uint32_t entries_max;
    uint64_t seed[2];
};

void map_init(struct map *m, uint32_t entries_max, const uint64_t seed[2]);
void map_fini(struct map *m);

/* Sets or replaces. `value` must not be NULL. ERR_FULL also for a key over its limit. */
enum err map_put(struct map *m, struct bytes key, void *value) MUST_USE;
void *map_get(const struct map *m, struct bytes key); /* NULL = absent */
void *map_remove(struct map *m, struct bytes key);    /* what stood there, or NULL */

/* Walks: start at 0; NULL at the end. Removing the entry just answered is allowed only by starting
 * over. The key is lent until the next map_put or map_remove. */
/* `key_out` may be NULL. */
void *map_next(const struct map *m, uint32_t *index, struct bytes *key_out);

#endif
