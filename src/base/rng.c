#include "base/rng.h"

static uint64_t splitmix_next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t x = *state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void rng_init(struct rng *r, uint64_t seed)
{
    uint64_t state = seed;
    for (size_t i = 0; i < ARRAY_COUNT(r->s); i++)
        r->s[i] = splitmix_next(&state);
}

static inline uint64_t rotate(uint64_t x, unsigned by)
{
    return (x << by) | (x >> (64 - by));
}

uint64_t rng_next(struct rng *r)
{
    uint64_t answer = rotate(r->s[1] * 5, 7) * 9;
    uint64_t shifted = r->s[1] << 17;
    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= shifted;
    r->s[3] = rotate(r->s[3], 45);
    return answer;
}

/* Lemire 2019, "Fast random integer generation in an interval": the high half of a product is
 * uniform once the few low halves below 2^64 mod bound are drawn again. */
uint64_t rng_below(struct rng *r, uint64_t bound)
{
    CHECK(bound > 0);
    unsigned __int128 product = (unsigned __int128)rng_next(r) * bound;
    if ((uint64_t)product < bound) {
        uint64_t threshold = (0 - bound) % bound;
        while ((uint64_t)product < threshold)
            product = (unsigned __int128)rng_next(r) * bound;
    }
    return (uint64_t)(product >> 64);
}

void rng_fill(struct rng *r, void *at, size_t count)
{
    uint8_t *to = at;
    while (count > 0) {
        uint64_t word = rng_next(r);
        size_t part = size_min(count, sizeof(word));
        /* Byte by byte from the low end, so that the same seed fills the same on any machine. */
        for (size_t i = 0; i < part; i++)
            to[i] = (uint8_t)(word >> (8 * i));
        to += part;
        count -= part;
    }
}
