/* One array of entries; an entry stands at its home (hash mod capacity) or in the unbroken run of
 * entries behind it:
 *
 *     | value | hash | key count | key, or where it is |      value NULL = free
 *
 * Removal moves the later entries of the run back, so there are no tombstones and a lookup may
 * stop at the first free entry. */
#include "base/map.h"
#include "base/hash.h"
#include "base/mem.h"

#define MAP_KEY_INLINE   32u
#define MAP_CAPACITY_MIN 8u
#define MAP_ENTRIES_MAX  (1u << 30)

struct map_entry {
    void *value;
    uint32_t hash;
    uint16_t key_count;
    union {
        uint8_t in[MAP_KEY_INLINE];
        uint8_t *out;
    } key;
};

void map_init(struct map *m, uint32_t entries_max, const uint64_t seed[2])
{
    CHECK(entries_max <= MAP_ENTRIES_MAX);
    memset(m, 0, sizeof(*m));
    m->entries_max = entries_max;
    m->seed[0] = seed[0];
    m->seed[1] = seed[1];
}

static struct bytes map_entry_key(const struct map_entry *e)
{
    return bytes_make(e->key_count > MAP_KEY_INLINE ? e->key.out : e->key.in, e->key_count);
}

void map_fini(struct map *m)
{
    for (uint32_t i = 0; i < m->capacity; i++) {
        struct map_entry *e = &m->entries[i];
        if (e->value != NULL && e->key_count > MAP_KEY_INLINE)
            mem_free(e->key.out);
    }
    mem_free(m->entries);
    m->entries = NULL;
    m->capacity = 0;
    m->count = 0;
}

static uint32_t map_hash(const struct map *m, struct bytes key)
{
    return (uint32_t)hash_sip(m->seed, key);
}

/* The key's entry, or the free one where it would go. The array is never full. */
static struct map_entry *map_find(const struct map *m, uint32_t hash, struct bytes key)
{
    uint32_t mask = m->capacity - 1;
    uint32_t i = hash & mask;
    for (;;) {
        struct map_entry *e = &m->entries[i];
        if (e->value == NULL || (e->hash == hash && bytes_equal(map_entry_key(e), key)))
            return e;
        i = (i + 1) & mask;
    }
}

static enum err map_grow(struct map *m)
{
    uint32_t capacity = m->capacity == 0 ? MAP_CAPACITY_MIN : m->capacity * 2;
    struct map_entry *entries = mem_new_zero(sizeof(*entries) * capacity);
    if (entries == NULL)
        return ERR_FULL;
    uint32_t mask = capacity - 1;
    for (uint32_t i = 0; i < m->capacity; i++) {
        const struct map_entry *e = &m->entries[i];
        if (e->value == NULL)
            continue;
        uint32_t to = e->hash & mask;
        while (entries[to].value != NULL)
            to = (to + 1) & mask;
        entries[to] = *e;
    }
    mem_free(m->entries);
    m->entries = entries;
    m->capacity = capacity;
    return ERR_OK;
}

enum err map_put(struct map *m, struct bytes key, void *value)
{
    CHECK(value != NULL);
    if (key.count > MAP_KEY_BYTES_MAX)
        return ERR_FULL;
    uint32_t hash = map_hash(m, key);
    if (m->capacity > 0) {
        struct map_entry *e = map_find(m, hash, key);
        if (e->value != NULL) {
            e->value = value;
            return ERR_OK;
        }
    }
    if (m->count >= m->entries_max)
        return ERR_FULL;
    uint8_t *out = NULL;
    if (key.count > MAP_KEY_INLINE) {
        out = mem_new(key.count);
        if (out == NULL)
            return ERR_FULL;
        memcpy(out, key.at, key.count);
    }
    /* At most three quarters are in use: runs stay short. */
    if (m->count + 1 > m->capacity - m->capacity / 4 && map_grow(m) != ERR_OK) {
        mem_free(out);
        return ERR_FULL;
    }
    struct map_entry *e = map_find(m, hash, key);
    e->value = value;
    e->hash = hash;
    e->key_count = (uint16_t)key.count;
    if (out != NULL)
        e->key.out = out;
    else if (key.count > 0)
        memcpy(e->key.in, key.at, key.count);
    m->count++;
    return ERR_OK;
}

void *map_get(const struct map *m, struct bytes key)
{
    if (m->count == 0)
        return NULL;
    return map_find(m, map_hash(m, key), key)->value;
}

void *map_remove(struct map *m, struct bytes key)
{
    if (m->count == 0)
        return NULL;
    struct map_entry *hole = map_find(m, map_hash(m, key), key);
    void *value = hole->value;
    if (value == NULL)
        return NULL;
    if (hole->key_count > MAP_KEY_INLINE)
        mem_free(hole->key.out);
    uint32_t mask = m->capacity - 1;
    uint32_t at = (uint32_t)(hole - m->entries);
    for (uint32_t i = (at + 1) & mask; m->entries[i].value != NULL; i = (i + 1) & mask) {
        /* An entry may move back to the hole when its home is not behind the hole. */
        uint32_t from_home = (i - m->entries[i].hash) & mask;
        uint32_t from_hole = (i - at) & mask;
        if (from_home >= from_hole) {
            m->entries[at] = m->entries[i];
            at = i;
        }
    }
    m->entries[at].value = NULL;
    m->count--;
    return value;
}

void *map_next(const struct map *m, uint32_t *index, struct bytes *key_out)
{
    while (*index < m->capacity) {
        const struct map_entry *e = &m->entries[*index];
        (*index)++;
        if (e->value != NULL) {
            if (key_out != NULL)
                *key_out = map_entry_key(e);
            return e->value;
        }
    }
    return NULL;
}
