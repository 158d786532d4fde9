/* id: names of things on the wire: a letter, '_' and a 26-character ULID that sorts by time.
 *
 * Memory  : values; fixed arrays with a count, so that messages carry them without pointers.
 * Limits  : ID_BYTES_MAX for ids (from A-Z a-z 0-9 _ -), NAME_BYTES_MAX for user names as the
 *           tokens give them (any UTF-8 without control characters).
 * Source  : the ULID specification (github.com/ulid/spec): 48 bits of Unix ms, 80 random bits,
 *           Crockford base 32. */
#ifndef BASE_ID_H
#define BASE_ID_H

#include "base/base.h"
#include "base/rng.h"

#define ID_BYTES_MAX   64
#define ID_MADE_BYTES  28
#define NAME_BYTES_MAX 128

struct id {
    uint8_t count; /* 0 = none */
    char at[ID_BYTES_MAX];
};

struct name {
    uint8_t count;
    char at[NAME_BYTES_MAX];
};

/* `letter` + '_' + ULID(now_ms, r). */
struct id id_make(char letter, int64_t now_ms, struct rng *r);

/* ERR_PROTO when empty, too long, or of other characters. */
enum err id_parse(struct bytes text, struct id *out) MUST_USE;
/* ERR_PROTO when over the limit, not UTF-8 or with a control character. Empty is allowed. */
enum err name_parse(struct bytes text, struct name *out) MUST_USE;

static inline struct bytes id_bytes(const struct id *i)
{
    return (struct bytes){(const uint8_t *)i->at, i->count};
}

static inline struct bytes name_bytes(const struct name *n)
{
    return (struct bytes){(const uint8_t *)n->at, n->count};
}

static inline bool id_is_none(const struct id *i)
{
    return i->count == 0;
}

static inline bool id_equal(const struct id *a, const struct id *b)
{
    return bytes_equal(id_bytes(a), id_bytes(b));
}

static inline bool name_equal(const struct name *a, const struct name *b)
{
    return bytes_equal(name_bytes(a), name_bytes(b));
}

#endif
