/* Finding a piece of text in any case: the search of the list. Every driver's rows come through
 * here, so that all find the same; SQL's own lower() is about ASCII in one store and about the
 * database's locale in the other. */
#include "codec/utf8.h"
#include "journal/journal_priv.h"

#include <locale.h>
#include <wctype.h>

/* The C library's table of letters for all of Unicode: made once, kept for the process. */
static locale_t letters(void)
{
    static locale_t kept;
    locale_t have = __atomic_load_n(&kept, __ATOMIC_ACQUIRE);
    if (have != NULL)
        return have;
    locale_t made = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    if (made == NULL)
        return NULL;
    if (__atomic_compare_exchange_n(&kept, &have, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return made;
    freelocale(made); /* another reader was first */
    return have;
}

static uint32_t fold(uint32_t c)
{
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
    locale_t all = letters();
    return all == NULL ? c : (uint32_t)towlower_l((wint_t)c, all);
}

/* The folded character at the front of `b` (not empty); what is no character counts as itself. */
static uint32_t take_folded(struct bytes *b)
{
    static const uint8_t first_bits[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    bool valid = false;
    size_t count = utf8_char(*b, &valid);
    uint32_t c = b->at[0];
    if (!valid || count > 4)
        count = 1;
    else
        c = c & first_bits[count];
    for (size_t i = 1; i < count; i++)
        c = c << 6 | (b->at[i] & 0x3fu);
    b->at += count;
    b->count -= count;
    return fold(c);
}

static bool starts_with(struct bytes text, struct bytes needle)
{
    while (needle.count > 0) {
        if (text.count == 0 || take_folded(&text) != take_folded(&needle))
            return false;
    }
    return true;
}

bool search_contains(struct bytes text, struct bytes needle)
{
    while (!starts_with(text, needle)) {
        if (text.count == 0)
            return false;
        (void)take_folded(&text); /* only moves on */
    }
    return true;
}
