/* The matching form, one character at a time: what a character becomes does not depend on its
 * neighbours, so a text may be cut anywhere between characters. That is why marks are split off
 * (NFD) and not joined (NFC). */
#include "text/text_priv.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uscript.h>
#include <unicode/utf16.h>

#define UNITS_MAX 64

static const UNormalizer2 *casefold;
static const UNormalizer2 *decompose;

enum err fold_start(void)
{
    UErrorCode code = U_ZERO_ERROR;
    casefold = unorm2_getNFKCCasefoldInstance(&code);
    decompose = unorm2_getNFDInstance(&code);
    return U_SUCCESS(code) ? ERR_OK : ERR_IO;
}

uint32_t fold_decode(struct bytes b, size_t *bytes_out)
{
    uint8_t first = b.at[0];
    size_t more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    uint32_t c = more == 0 ? first : first & (0x3fu >> more);
    CHECK(more < b.count);
    for (size_t i = 1; i <= more; i++)
        c = c << 6 | (b.at[i] & 0x3fu);
    *bytes_out = more + 1;
    return c;
}

size_t fold_encode(uint32_t c, uint8_t to[4])
{
    if (c < 0x80) {
        to[0] = (uint8_t)c;
        return 1;
    }
    size_t more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t leads[] = {0, 0xc0, 0xe0, 0xf0};
    for (size_t i = more; i > 0; i--) {
        to[i] = (uint8_t)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    to[0] = (uint8_t)(leads[more] | c);
    return more + 1;
}

/* Small letters that look like a Latin one. Few on purpose: words of those alphabets stay apart,
 * because their other letters are left alone. */
static uint32_t look_alike(uint32_t c)
{
    static const struct {
        uint16_t from;
        char to;
    } pairs[] = {
        {0x0131, 'i'}, {0x0251, 'a'}, {0x0261, 'g'}, {0x03b1, 'a'}, {0x03b5, 'e'}, {0x03b9, 'i'},
        {0x03ba, 'k'}, {0x03bd, 'v'}, {0x03bf, 'o'}, {0x03c1, 'p'}, {0x03c4, 't'}, {0x03c5, 'u'},
        {0x03c7, 'x'}, {0x0430, 'a'}, {0x0435, 'e'}, {0x043a, 'k'}, {0x043c, 'm'}, {0x043e, 'o'},
        {0x0440, 'p'}, {0x0441, 'c'}, {0x0442, 't'}, {0x0443, 'y'}, {0x0445, 'x'}, {0x0455, 's'},
        {0x0456, 'i'}, {0x0458, 'j'}, {0x04bb, 'h'}, {0x0501, 'd'}, {0x051b, 'q'}, {0x051d, 'w'},
    };
    if (c < pairs[0].from || c > pairs[ARRAY_COUNT(pairs) - 1].from)
        return c;
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++)
        if (pairs[i].from == c)
            return (uint32_t)pairs[i].to;
    return c;
}

/* Scripts that put no spaces between words, and those that glue endings to them. */
static bool is_alone(uint32_t c)
{
    if (c < 0x0e00)
        return false;
    UErrorCode code = U_ZERO_ERROR;
    switch ((int)uscript_getScript((UChar32)c, &code)) {
    case USCRIPT_HAN:
    case USCRIPT_HIRAGANA:
    case USCRIPT_KATAKANA:
    case USCRIPT_HANGUL:
    case USCRIPT_BOPOMOFO:
    case USCRIPT_THAI:
    case USCRIPT_LAO:
    case USCRIPT_KHMER:
    case USCRIPT_MYANMAR: return u_charType((UChar32)c) != U_OTHER_PUNCTUATION;
    default: return u_charType((UChar32)c) == U_OTHER_SYMBOL;
    }
}

static enum fold_kind kind_of(uint32_t c)
{
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? FOLD_LETTER
               : c == '\''                                      ? FOLD_NOTHING
                                                                : FOLD_GAP;
    if ((c >= 0x0300 && c <= 0x036f) || c == 0x2019 || c == 0x02bc)
        return FOLD_NOTHING;
    if (is_alone(c))
        return FOLD_ALONE;
    int type = u_charType((UChar32)c);
    bool is_mark = type == U_NON_SPACING_MARK || type == U_COMBINING_SPACING_MARK;
    return is_mark || u_isalnum((UChar32)c) ? FOLD_LETTER : FOLD_GAP;
}

static size_t fold_ascii(uint32_t c, struct fold_part *part)
{
    uint32_t small = c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
    *part = (struct fold_part){kind_of(small), small};
    return part->kind == FOLD_NOTHING ? 0 : 1;
}

/* The next character of ICU's UTF-16, which is well formed. */
static uint32_t unit_next(const UChar *units, int32_t count, int32_t *at)
{
    uint32_t first = units[(*at)++];
    if ((first & 0xfc00) != 0xd800 || *at == count)
        return first;
    uint32_t second = units[(*at)++];
    return 0x10000 + ((first & 0x3ff) << 10 | (second & 0x3ff));
}

size_t fold_character(uint32_t c, struct fold_part parts[FOLD_PARTS_MAX])
{
    UChar one[2];
    UChar folded[UNITS_MAX];
    UChar split[UNITS_MAX];
    UErrorCode code = U_ZERO_ERROR;
    int32_t count = 0;
    if (c < 0x80)
        return fold_ascii(c, parts);
    if (c >= 0x4e00 && c <= 0x9fff) { /* nine of ten characters of a Chinese text: as they are */
        parts[0] = (struct fold_part){FOLD_ALONE, c};
        return 1;
    }
    U16_APPEND_UNSAFE(one, count, c);
    count = unorm2_normalize(casefold, one, count, folded, UNITS_MAX, &code);
    count = unorm2_normalize(decompose, folded, count, split, UNITS_MAX, &code);
    CHECK(U_SUCCESS(code)); /* the longest known form has 18 characters */
    size_t parts_count = 0;
    for (int32_t i = 0; i < count;) {
        uint32_t part = look_alike(unit_next(split, count, &i));
        enum fold_kind kind = kind_of(part);
        CHECK(parts_count < FOLD_PARTS_MAX);
        if (kind != FOLD_NOTHING)
            parts[parts_count++] = (struct fold_part){kind, part};
    }
    return parts_count;
}

void fold_text(struct bytes text, struct buf *out)
{
    bool in_word = false;
    size_t start = out->count;
    while (text.count > 0) {
        struct fold_part parts[FOLD_PARTS_MAX];
        size_t bytes;
        size_t count = fold_character(fold_decode(text, &bytes), parts);
        text.at += bytes;
        text.count -= bytes;
        for (size_t i = 0; i < count; i++) {
            uint8_t utf8[4];
            bool is_part = parts[i].kind == FOLD_LETTER || parts[i].kind == FOLD_ALONE;
            if ((parts[i].kind != FOLD_LETTER && in_word) || (is_part && out->count == start))
                buf_byte(out, ' ');
            if (is_part)
                buf_put(out, utf8, fold_encode(parts[i].c, utf8));
            if (parts[i].kind == FOLD_ALONE)
                buf_byte(out, ' ');
            in_word = parts[i].kind == FOLD_LETTER;
        }
    }
    if (in_word)
        buf_byte(out, ' ');
}
