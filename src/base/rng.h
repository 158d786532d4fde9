/* rng: a small random stream that is handed down as an argument, so that a seed repeats a run.
 * Not for secrets: those come from the system (engine_random).
 *
 * Thread  : one owner.
 * Source  : xoshiro256** (Blackman, Vigna 2018), seeded by splitmix64. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include "base/base.h"

struct rng {
    uint64_t s[4];
};

void rng_init(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t bound); /* 0 <= x < bound; bound > 0 */
void rng_fill(struct rng *r, void *at, size_t count);

#endif
