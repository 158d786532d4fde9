/* Reading a text through the automaton, with the way back to where each byte came from.
 *
 *     original    ... t h e   P i p e - b o m b ,  ...
 *     folded       ' t h e ' p i p e ' b o m b '
 *                          ^ start of the longest suffix that may become a term: all before it
 *                            is safe; the gap behind the word decides
 */
#include "text/text_priv.h"

/* Each byte of matching form remembers its origin in a ring that is longer than any term. */
static uint32_t origin_of(const struct text_scan *s, uint32_t folded_index)
{
    return s->origins[folded_index % TEXT_ORIGINS];
}

/* The first letter of what `folded_bytes` back begins with its space. */
static uint32_t start_of(const struct text_scan *s, uint32_t folded_bytes)
{
    return origin_of(s, s->folded - folded_bytes + 1);
}

void scan_begin(struct text_scan *s)
{
    s->state = AUTOMATON_START; /* the text begins with a gap */
    s->folded = 1;
    s->at = 0;
    s->token_end = 0;
    s->in_word = false;
    s->origins[0] = 0;
}

static void scan_byte(const struct automaton *a, struct text_scan *s, uint8_t byte, uint32_t origin,
                      struct text_match *match)
{
    s->origins[s->folded % TEXT_ORIGINS] = origin;
    s->folded++;
    s->state = automaton_step(a, s->state, byte);
    uint32_t term = a->nodes[s->state].term;
    if (term == 0 || match->found)
        return;
    uint32_t start = start_of(s, a->terms[term - 1].folded_bytes);
    match->found = true;
    match->category = a->terms[term - 1].category;
    match->at = start;
    match->count = s->token_end - start;
}

static void scan_gap(const struct automaton *a, struct text_scan *s, uint32_t origin,
                     struct text_match *match)
{
    if (s->in_word)
        scan_byte(a, s, ' ', origin, match);
    s->in_word = false;
}

/* A match spans at most TEXT_HOLD_BYTES_MAX: what began too long ago is given up, but not what
 * began inside it. */
static void scan_limit(const struct automaton *a, struct text_scan *s)
{
    while (s->at - scan_safe(a, s) > TEXT_HOLD_BYTES_MAX) /* one link shorter each time */
        s->state = a->nodes[s->state].fail;
}

void scan_character(const struct automaton *a, struct text_scan *s, uint32_t c, size_t bytes,
                    struct text_match *match)
{
    struct fold_part parts[FOLD_PARTS_MAX];
    uint8_t utf8[4];
    uint32_t origin = s->at;
    /* Most characters are the rest of a word that left the tree before: only a gap leads back. */
    if (s->state == 0 && s->in_word && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) {
        s->at++;
        s->token_end = s->at;
        return;
    }
    size_t count = fold_character(c, parts);
    s->at += (uint32_t)bytes;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].kind != FOLD_LETTER)
            scan_gap(a, s, origin, match);
        if (parts[i].kind == FOLD_GAP)
            continue;
        s->token_end = s->at;
        s->in_word = true;
        size_t folded = fold_encode(parts[i].c, utf8);
        for (size_t j = 0; j < folded; j++)
            scan_byte(a, s, utf8[j], origin, match);
        if (parts[i].kind == FOLD_ALONE)
            scan_gap(a, s, s->at, match);
    }
    scan_limit(a, s);
}

void scan_end(const struct automaton *a, struct text_scan *s, struct text_match *match)
{
    scan_gap(a, s, s->at, match);
}

size_t scan_safe(const struct automaton *a, const struct text_scan *s)
{
    /* A gap alone (depth 1) holds nothing: the next word has not begun. */
    uint32_t depth = a->nodes[s->state].depth;
    return depth <= 1 ? s->at : start_of(s, depth);
}
