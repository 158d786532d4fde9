/* SipHash-1-3: one round per 8 bytes, three to finish. */
#include "base/hash.h"

#define HASH_SLOTS 4096u

struct sip {
    uint64_t v0;
    uint64_t v1;
    uint64_t v2;
    uint64_t v3;
};

static inline uint64_t rotate(uint64_t x, unsigned by)
{
    return (x << by) | (x >> (64 - by));
}

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v2 = rotate(s->v2, 32);
}

static inline uint64_t load_le(const uint8_t *at)
{
    uint64_t x;
    memcpy(&x, at, sizeof(x));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap64(x);
#endif
    return x;
}

uint64_t hash_sip(const uint64_t key[2], struct bytes b)
{
    struct sip s = {
        .v0 = key[0] ^ 0x736f6d6570736575u,
        .v1 = key[1] ^ 0x646f72616e646f6du,
        .v2 = key[0] ^ 0x6c7967656e657261u,
        .v3 = key[1] ^ 0x7465646279746573u,
    };
    size_t whole = b.count - b.count % 8;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word = load_le(b.at + i);
        s.v3 ^= word;
        sip_round(&s);
        s.v0 ^= word;
    }
    /* The last word: what is left, and the count's low byte on top. */
    uint64_t last = (uint64_t)b.count << 56;
    for (size_t i = whole; i < b.count; i++)
        last |= (uint64_t)b.at[i] << (8 * (i - whole));
    s.v3 ^= last;
    sip_round(&s);
    s.v0 ^= last;
    s.v2 ^= 0xff;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint32_t hash_slot(struct bytes name)
{
    /* Rows on disks are placed by this number: the zero key and the count of slots never change. */
    static const uint64_t zero[2] = {0, 0};
    return (uint32_t)(hash_sip(zero, name) % HASH_SLOTS);
}
