/* The first byte of a character says how many follow and what the second may be; the rest are any
 * continuation bytes (RFC 3629, section 4):
 *
 *     C2..DF  80..BF                     E0  A0..BF     ED  80..9F     E1..EC, EE..EF  80..BF
 *     F0      90..BF                     F4  80..8F     F1..F3  80..BF
 */
#include "codec/utf8.h"

#define UTF8_BAD       0xff
#define UTF8_HIGH_BITS 0x8080808080808080u

/* How many ASCII bytes stand at the front; looks at eight at a time. */
static size_t utf8_ascii(const uint8_t *at, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t word;
        memcpy(&word, at + i, sizeof(word));
        if ((word & UTF8_HIGH_BITS) != 0)
            break;
    }
    while (i < count && at[i] < 0x80)
        i++;
    return i;
}

/* Starts a character of two to four bytes; false when `c` starts none. */
static inline bool utf8_begin(struct utf8 *u, uint8_t c)
{
    if (c < 0xc2 || c > 0xf4)
        return false;
    u->need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    u->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    u->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return true;
}

/* Takes a continuation byte; false when it does not fit. */
static inline bool utf8_go_on(struct utf8 *u, uint8_t c)
{
    if (c < u->low || c > u->high)
        return false;
    u->need--;
    u->low = 0x80;
    u->high = 0xbf;
    return true;
}

static inline bool utf8_is_tail(uint8_t c)
{
    return (c & 0xc0) == 0x80;
}

/* The bytes of the whole and valid character of two or three bytes at the front, or 0 when there is
 * none, or it needs a closer look. These make up nearly all text that is not ASCII. */
static inline size_t utf8_common(const uint8_t *at, size_t count)
{
    if (count < 3 || !utf8_is_tail(at[1]))
        return 0;
    if (at[0] >= 0xc2 && at[0] <= 0xdf)
        return 2;
    if (at[0] > 0xe0 && at[0] <= 0xef && at[0] != 0xed && utf8_is_tail(at[2]))
        return 3;
    return 0;
}

/* How many bytes at the front are ASCII and common characters. */
static size_t utf8_run(const uint8_t *at, size_t count)
{
    size_t i = 0;
    while (i < count) {
        size_t step = at[i] < 0x80 ? utf8_ascii(at + i, count - i) : utf8_common(at + i, count - i);
        if (step == 0)
            break;
        i += step;
    }
    return i;
}

enum err utf8_feed(struct utf8 *u, struct bytes b)
{
    if (u->need == UTF8_BAD)
        return ERR_PROTO;
    size_t i = 0;
    while (i < b.count) {
        if (u->need == 0) {
            i += utf8_run(b.at + i, b.count - i);
            if (i == b.count)
                break;
        }
        uint8_t c = b.at[i];
        if (!(u->need == 0 ? utf8_begin(u, c) : utf8_go_on(u, c))) {
            u->need = UTF8_BAD;
            return ERR_PROTO;
        }
        i++;
    }
    return ERR_OK;
}

bool utf8_is_whole(const struct utf8 *u)
{
    return u->need == 0;
}

bool utf8_is_valid(struct bytes b)
{
    struct utf8 u = {0};
    return utf8_feed(&u, b) == ERR_OK && utf8_is_whole(&u);
}

size_t utf8_char(struct bytes b, bool *valid_out)
{
    struct utf8 u = {0};
    *valid_out = true;
    if (b.at[0] < 0x80)
        return 1;
    *valid_out = false;
    if (!utf8_begin(&u, b.at[0]))
        return 1;
    size_t i = 1;
    while (u.need > 0 && i < b.count && utf8_go_on(&u, b.at[i]))
        i++;
    *valid_out = u.need == 0;
    return i;
}

size_t utf8_units(struct bytes b)
{
    size_t units = 0;
    for (size_t i = 0; i < b.count; i++) {
        units += (b.at[i] & 0xc0) != 0x80;
        units += b.at[i] >= 0xf0; /* a pair of surrogates */
    }
    return units;
}

size_t utf8_prefix(struct bytes b, size_t bytes_max)
{
    if (bytes_max >= b.count)
        return b.count;
    size_t cut = bytes_max;
    for (int back = 0; back < 3 && cut > 0 && (b.at[cut] & 0xc0) == 0x80; back++)
        cut--;
    return cut;
}

size_t utf8_offset(struct bytes b, size_t units)
{
    size_t seen = 0;
    for (size_t i = 0; i < b.count; i++) {
        if ((b.at[i] & 0xc0) == 0x80)
            continue;
        size_t step = b.at[i] >= 0xf0 ? 2 : 1;
        if (seen + step > units)
            return i;
        seen += step;
    }
    return b.count;
}

size_t utf8_repair(struct bytes b, uint8_t *to)
{
    static const uint8_t replacement[3] = {0xef, 0xbf, 0xbd};
    size_t written = 0;
    size_t i = 0;
    while (i < b.count) {
        size_t plain = utf8_ascii(b.at + i, b.count - i);
        memcpy(to + written, b.at + i, plain);
        written += plain;
        i += plain;
        if (i == b.count)
            break;
        bool valid = false;
        size_t step = utf8_char((struct bytes){b.at + i, b.count - i}, &valid);
        const uint8_t *from = valid ? b.at + i : replacement;
        size_t count = valid ? step : sizeof(replacement);
        memcpy(to + written, from, count);
        written += count;
        i += step;
    }
    return written;
}
