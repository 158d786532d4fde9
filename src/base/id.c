/*   01AN4Z07BY      79KA1307SR9X4MV3
 *   |--------|      |--------------|
 *    48 bits         80 bits
 *    Unix ms         random            the ULID's 26 characters, 5 bits each
 */
#include "base/id.h"

_Static_assert(ID_MADE_BYTES <= ID_BYTES_MAX, "an id that we make is an id that we read");

static const char id_base32[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* Writes `count` characters of 5 bits, the highest first. */
static void id_base32_put(char *to, uint64_t bits, unsigned count)
{
    for (unsigned i = count; i > 0; i--) {
        to[i - 1] = id_base32[bits & 31];
        bits >>= 5;
    }
}

struct id id_make(char letter, int64_t now_ms, struct rng *r)
{
    uint64_t high = rng_next(r);
    uint64_t low = rng_next(r);
    struct id made = {.count = ID_MADE_BYTES};
    made.at[0] = letter;
    made.at[1] = '_';
    id_base32_put(made.at + 2, (uint64_t)i64_max(now_ms, 0) & ((1ull << 48) - 1), 10);
    id_base32_put(made.at + 12, high >> 24, 8);
    id_base32_put(made.at + 20, low >> 24, 8);
    return made;
}

static bool id_char_is_ok(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

enum err id_parse(struct bytes text, struct id *out)
{
    if (text.count == 0 || text.count > ID_BYTES_MAX)
        return ERR_PROTO;
    for (size_t i = 0; i < text.count; i++) {
        if (!id_char_is_ok(text.at[i]))
            return ERR_PROTO;
    }
    memset(out, 0, sizeof(*out));
    out->count = (uint8_t)text.count;
    memcpy(out->at, text.at, text.count);
    return ERR_OK;
}

/* The bytes of the character at the front, or 0 when it is not UTF-8 or a control character. The
 * codec room has a full UTF-8 reader, but base stands below it. */
static size_t name_char_bytes(const uint8_t *at, size_t count)
{
    uint8_t c = at[0];
    if (c < 0x80)
        return c < 0x20 || c == 0x7f ? 0 : 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    size_t wanted = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (wanted > count)
        return 0;
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    if (c == 0xc2 || c == 0xe0)
        low = 0xa0; /* U+0080..U+009F are controls; E0 below A0 would not be the shortest form */
    else if (c == 0xed)
        high = 0x9f; /* surrogates */
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < wanted; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return wanted;
}

enum err name_parse(struct bytes text, struct name *out)
{
    if (text.count > NAME_BYTES_MAX)
        return ERR_PROTO;
    size_t i = 0;
    while (i < text.count) {
        size_t step = name_char_bytes(text.at + i, text.count - i);
        if (step == 0)
            return ERR_PROTO;
        i += step;
    }
    memset(out, 0, sizeof(*out));
    out->count = (uint8_t)text.count;
    if (text.count > 0)
        memcpy(out->at, text.at, text.count);
    return ERR_OK;
}
