/* rule: pure decisions from counters and the clock: here, how fast somebody may go.
 *
 * Owner   : the struct's owner; one engine.
 * Thread  : one.
 * Memory  : struct rate is a value; a table holds at most entries_max of them and forgets the one
 *           that was left alone for longest, which is the likeliest to be full again.
 * Errors  : NULL when memory is out.
 * Limits  : RATE_PER_S_MAX tokens a second; entries_max of rate_table_init; keys of any length.
 * Units   : tokens in thousandths; retry in ms.
 * Source  : token bucket (Turner 1986). */
#ifndef RULE_RULE_H
#define RULE_RULE_H

#include "base/base.h"
#include "base/list.h"
#include "base/map.h"
#include "base/pool.h"
#include "base/time.h"

#define RATE_PER_S_MAX 1000000u

struct rate {
    int64_t tokens_milli; /* never negative */
    struct mono at;       /* zero = never used: full */
};

/* True: `n` tokens were taken (more than `burst` cost the whole bucket). False: none was, and
 * *retry_ms_out says after which time they will be there. A clock that steps back adds nothing. */
bool rate_take(struct rate *r, uint32_t per_s, uint32_t burst, uint32_t n, struct mono now,
               int64_t *retry_ms_out) MUST_USE;

struct rate_table {
    struct map map;
    struct pool pool;
    struct list order; /* least recently used first */
    uint64_t seed[2];
};

/* `seed` is random: it keeps strangers from choosing names that share a bucket. */
enum err rate_table_init(struct rate_table *t, uint32_t entries_max, const uint64_t seed[2])
    MUST_USE;
void rate_table_fini(struct rate_table *t);
/* The bucket of `key`, made when new. The least recently used one is forgotten when the table is
 * full. NULL only when memory is out. Lent until the next call. */
struct rate *rate_table_get(struct rate_table *t, struct bytes key);

#endif
