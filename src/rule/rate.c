/* Token buckets, and many of them under keys that strangers choose. */
#include "base/hash.h"
#include "rule/rule.h"

#define MILLI    1000
#define NS_PER_S 1000000000LL

/* Thousandths that flow in during `ns`, and the time that `milli` take, rounded up. The divisions
 * come first where they can: within RATE_PER_S_MAX no product leaves 63 bits. */
static int64_t milli_of(int64_t ns, int64_t milli_per_s)
{
    return ns / NS_PER_S * milli_per_s + ns % NS_PER_S * milli_per_s / NS_PER_S;
}

static int64_t ns_of(int64_t milli, int64_t milli_per_s)
{
    return milli / milli_per_s * NS_PER_S +
           (milli % milli_per_s * NS_PER_S + milli_per_s - 1) / milli_per_s;
}

/* What flowed in since the last time. Only whole thousandths are added, and `at` moves by exactly
 * the time that they took, so that many short looks give as much as one long one. */
static void rate_fill(struct rate *r, uint32_t per_s, int64_t full_milli, struct mono now)
{
    if (r->at.ns == 0) {
        r->tokens_milli = full_milli;
        r->at = now;
    }
    r->tokens_milli = i64_min(r->tokens_milli, full_milli);
    if (now.ns <= r->at.ns || per_s == 0)
        return;
    int64_t milli_per_s = (int64_t)per_s * MILLI;
    int64_t passed_ns = now.ns - r->at.ns;
    if (passed_ns >= ns_of(full_milli - r->tokens_milli, milli_per_s)) {
        r->tokens_milli = full_milli;
        r->at = now;
        return;
    }
    int64_t came = milli_of(passed_ns, milli_per_s);
    r->tokens_milli += came;
    r->at.ns += ns_of(came, milli_per_s);
}

bool rate_take(struct rate *r, uint32_t per_s, uint32_t burst, uint32_t n, struct mono now,
               int64_t *retry_ms_out)
{
    per_s = per_s < RATE_PER_S_MAX ? per_s : RATE_PER_S_MAX;
    int64_t full_milli = (int64_t)burst * MILLI;
    /* What costs more than a full bucket costs the full bucket: else it would wait for ever. */
    int64_t price_milli = i64_min((int64_t)n * MILLI, full_milli);
    rate_fill(r, per_s, full_milli, now);
    if (r->tokens_milli >= price_milli) {
        r->tokens_milli -= price_milli;
        return true;
    }
    int64_t missing = price_milli - r->tokens_milli;
    *retry_ms_out = per_s == 0 ? INT64_MAX : (missing + per_s - 1) / per_s;
    return false;
}

/* A key is remembered as 128 bits of keyed hash: entries have one size whatever strangers are
 * called, and without the seed nobody finds two names that share a bucket. */
#define KEY_BYTES 16

struct rate_entry {
    struct rate rate;
    struct list link;
    struct handle handle;
    uint8_t key[KEY_BYTES];
};

enum err rate_table_init(struct rate_table *t, uint32_t entries_max, const uint64_t seed[2])
{
    uint64_t map_seed[2] = {seed[1], seed[0]};
    t->seed[0] = seed[0];
    t->seed[1] = seed[1];
    list_init(&t->order);
    map_init(&t->map, entries_max, map_seed);
    return pool_init(&t->pool, sizeof(struct rate_entry), entries_max);
}

void rate_table_fini(struct rate_table *t)
{
    map_fini(&t->map);
    pool_fini(&t->pool);
    list_init(&t->order);
}

static void key_make(const struct rate_table *t, struct bytes name, uint8_t key[KEY_BYTES])
{
    uint64_t other[2] = {~t->seed[0], t->seed[1]};
    uint64_t halves[2] = {hash_sip(t->seed, name), hash_sip(other, name)};
    memcpy(key, halves, KEY_BYTES);
}

static void entry_forget(struct rate_table *t, struct rate_entry *e)
{
    (void)map_remove(&t->map, bytes_make(e->key, KEY_BYTES)); /* it is e itself */
    list_remove(&e->link);
    pool_free(&t->pool, e->handle);
}

static struct rate_entry *entry_new(struct rate_table *t, const uint8_t key[KEY_BYTES])
{
    struct handle handle;
    if (t->pool.used_count == t->pool.slots_max && !list_is_empty(&t->order))
        entry_forget(t, CONTAINER_OF(t->order.next, struct rate_entry, link));
    struct rate_entry *e = pool_new(&t->pool, &handle);
    if (e == NULL)
        return NULL;
    e->handle = handle;
    memcpy(e->key, key, KEY_BYTES);
    if (map_put(&t->map, bytes_make(e->key, KEY_BYTES), e) != ERR_OK) {
        pool_free(&t->pool, handle);
        return NULL;
    }
    list_push_back(&t->order, &e->link);
    return e;
}

struct rate *rate_table_get(struct rate_table *t, struct bytes key)
{
    uint8_t hashed[KEY_BYTES];
    key_make(t, key, hashed);
    struct rate_entry *e = map_get(&t->map, bytes_make(hashed, KEY_BYTES));
    if (e == NULL)
        e = entry_new(t, hashed);
    if (e == NULL)
        return NULL;
    list_remove(&e->link);
    list_push_back(&t->order, &e->link);
    return &e->rate;
}
