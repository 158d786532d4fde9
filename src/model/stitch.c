/* Joining characters over chunks, on the raw JSON text of an event: the decoder behind has only
 * whole strings and would have to replace what it cannot read. */
#include "model/stitch_priv.h"

static bool stitch_hex4(const uint8_t *at, uint32_t *out)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t c = at[i];
        uint32_t digit = 0;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (uint32_t)(c | 0x20) - 'a' + 10;
        else
            return false;
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

/* Whether `inside` ends with a high surrogate's escape whose backslash is not escaped itself. */
static bool stitch_ends_high(struct bytes inside)
{
    uint32_t unit = 0;
    if (inside.count < 6)
        return false;
    const uint8_t *at = inside.at + inside.count - 6;
    if (at[0] != '\\' || at[1] != 'u' || !stitch_hex4(at + 2, &unit))
        return false;
    if (unit < 0xd800 || unit > 0xdbff)
        return false;
    size_t slashes = 0;
    for (size_t i = inside.count - 6; i > 0 && inside.at[i - 1] == '\\'; i--)
        slashes++;
    return slashes % 2 == 0;
}

/* How many bytes the UTF-8 sequence that `lead` begins has; 0 = it begins none. */
static size_t stitch_sequence_bytes(uint8_t lead)
{
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    if (lead >= 0xf0 && lead <= 0xf4)
        return 4;
    return 0;
}

size_t stitch_half_bytes(struct bytes inside)
{
    if (stitch_ends_high(inside))
        return 6;
    size_t back_max = size_min(inside.count, 3);
    for (size_t back = 1; back <= back_max; back++) {
        uint8_t c = inside.at[inside.count - back];
        if (c >= 0x80 && c <= 0xbf)
            continue;
        return back < stitch_sequence_bytes(c) ? back : 0;
    }
    return 0;
}

/* True when no string of `data` can end in half a character. */
static bool stitch_is_plain(struct bytes data)
{
    for (size_t i = 0; i < data.count; i++) {
        if (data.at[i] >= 0x80)
            return false;
        if (data.at[i] == '\\' && i + 2 < data.count && data.at[i + 1] == 'u' &&
            (data.at[i + 2] | 0x20) == 'd')
            return false;
    }
    return true;
}

static struct stitch_half *stitch_kind(struct stitch *s, struct bytes key)
{
    if (bytes_is(key, "content"))
        return &s->text;
    if (bytes_is(key, "reasoning_content") || bytes_is(key, "reasoning"))
        return &s->reasoning;
    return NULL;
}

struct stitch_out {
    uint8_t *at; /* as long as the input and two halves */
    size_t count;
};

static void stitch_put(struct stitch_out *o, struct bytes b)
{
    if (b.count != 0)
        memcpy(o->at + o->count, b.at, b.count);
    o->count += b.count;
}

/* Writes one string's inside with the half that was held in front and without the half at its
 * end. An empty piece (the role's chunk) takes nothing. */
static void stitch_string(struct stitch_half *half, struct bytes inside, struct stitch_out *o)
{
    if (inside.count == 0)
        return;
    uint8_t joined_at[2 * STITCH_HALF_BYTES_MAX];
    size_t held = half->count;
    memcpy(joined_at, half->at, held);
    half->count = 0;
    size_t cut = stitch_half_bytes(inside);
    if (cut == 0 && held + inside.count < sizeof(joined_at)) {
        /* A piece of continuation bytes only: the whole is judged together with what was held. */
        memcpy(joined_at + held, inside.at, inside.count);
        struct bytes joined = bytes_make(joined_at, held + inside.count);
        cut = stitch_half_bytes(joined);
        stitch_put(o, bytes_make(joined_at, joined.count - cut));
        memcpy(half->at, joined_at + joined.count - cut, cut);
    } else {
        stitch_put(o, bytes_make(joined_at, held));
        stitch_put(o, bytes_make(inside.at, inside.count - cut));
        memcpy(half->at, inside.at + inside.count - cut, cut);
    }
    half->count = (uint8_t)cut;
}

/* The index of the quote that ends the string begun before `i`; data.count when there is none. */
static size_t stitch_string_end(struct bytes data, size_t i)
{
    while (i < data.count && data.at[i] != '"')
        i += data.at[i] == '\\' ? 2 : 1;
    return size_min(i, data.count);
}

static bool stitch_is_key(struct bytes data, size_t after)
{
    while (after < data.count && (data.at[after] == ' ' || data.at[after] == '\t'))
        after++;
    return after < data.count && data.at[after] == ':';
}

static void stitch_scan(struct stitch *s, struct bytes data, struct stitch_out *o)
{
    struct bytes key = {NULL, 0};
    size_t copied = 0;
    for (size_t i = 0; i < data.count; i++) {
        if (data.at[i] == '[' || data.at[i] == '{' || data.at[i] == ',')
            key.count = 0;
        if (data.at[i] != '"')
            continue;
        size_t begin = i + 1;
        i = stitch_string_end(data, begin);
        struct bytes inside = bytes_make(data.at + begin, i - begin);
        if (i < data.count && stitch_is_key(data, i + 1)) {
            key = inside;
            continue;
        }
        struct stitch_half *half = stitch_kind(s, key);
        if (half == NULL || i == data.count)
            continue;
        stitch_put(o, bytes_make(data.at + copied, begin - copied));
        stitch_string(half, inside, o);
        copied = i;
    }
    stitch_put(o, bytes_make(data.at + copied, data.count - copied));
}

enum err stitch_join(struct stitch *s, struct arena *a, struct bytes data, struct bytes *out)
{
    bool holds = s->text.count != 0 || s->reasoning.count != 0;
    if (!holds && stitch_is_plain(data)) {
        *out = data;
        return ERR_OK;
    }
    struct stitch_out o = {.at = arena_take(a, data.count + sizeof(struct stitch))};
    if (o.at == NULL)
        return ERR_FULL;
    stitch_scan(s, data, &o);
    *out = bytes_make(o.at, o.count);
    return ERR_OK;
}
