/* text: what a text is: limits, a form to match in, forbidden terms on whole and streaming text.
 *
 * Owner   : struct text_terms is made once from the config and frozen; a struct text_hold belongs
 *           to one run.
 * Thread  : text_terms may be shared; a hold has one thread.
 * Memory  : the matcher lives in mem, made at start; a hold keeps at most TEXT_HOLD_BYTES_MAX of
 *           text inside itself and allocates nothing.
 * Errors  : text_terms_make answers NULL when memory is out; nothing else can fail.
 * Limits  : terms of at most TEXT_TERM_BYTES_MAX in matching form (longer ones are left out and
 *           logged); a match spans at most TEXT_HOLD_BYTES_MAX of the original text.
 * Source  : Aho, Corasick 1975; Unicode NFKC_Casefold (UAX 31) through ICU.
 *
 * The matching form: each character on its own through NFKC_Casefold (case, width, ligatures,
 * invisible characters) and NFD without the marks of Latin letters; look-alike letters of Cyrillic
 * and Greek become Latin; apostrophes vanish; everything else that is no letter, mark or digit is
 * the gap between two words, however long. Ideographs, kana, Hangul and the scripts without spaces
 * count as one word a character, emoji as well. Terms match whole words only:
 *
 *     "How  to\nmake—a B\u200bÖMB!"   ->   " how to make a bomb "
 *
 * Texts are stored as they were sent; this form is never shown. */
#ifndef TEXT_TEXT_H
#define TEXT_TEXT_H

#include "base/base.h"
#include "base/buf.h"
#include "config/config.h"

#define TEXT_HOLD_BYTES_MAX 1024
#define TEXT_TERM_BYTES_MAX 128

enum text_check { TEXT_OK, TEXT_EMPTY, TEXT_TOO_LONG, TEXT_INVALID };

/* Valid UTF-8, no U+0000, not only white space and invisible characters, at most bytes_max. */
enum text_check text_check(struct bytes text, size_t bytes_max);

enum text_side { TEXT_USER, TEXT_AI };

struct text_terms;

struct text_match {
    bool found;
    const char *category; /* a literal or the config's; lives as long as the terms */
    size_t at;            /* bytes from the start of the original text */
    size_t count;
};

/* The terms of the config and, unless it says no, the built-in ones. It borrows the config. */
struct text_terms *text_terms_make(const struct config *c) MUST_USE; /* NULL: out of memory */
void text_terms_free(struct text_terms **t);

/* The first match in a whole text of valid UTF-8. */
struct text_match text_terms_find(const struct text_terms *t, enum text_side side,
                                  struct bytes text);

/* How far a text has been read; a value. The last bytes of the matching form remember where in the
 * original they came from. */
#define TEXT_ORIGINS (TEXT_TERM_BYTES_MAX + 8)
struct text_scan {
    uint32_t state;     /* of the automaton */
    uint32_t folded;    /* bytes of matching form so far */
    uint32_t at;        /* bytes of original so far */
    uint32_t token_end; /* where the last word ended in the original */
    bool in_word;
    uint32_t origins[TEXT_ORIGINS];
};

/* Streaming: what may be shown so far. */
struct text_hold {
    const struct text_terms *terms;
    enum text_side side;
    struct text_match match;
    struct text_scan scan;
    size_t released_bytes;
    uint32_t kept_bytes; /* received, not released */
    uint8_t kept[TEXT_HOLD_BYTES_MAX];
};

void text_hold_init(struct text_hold *h, const struct text_terms *t, enum text_side side);
void text_hold_fini(struct text_hold *h);

/* Adds a piece (whole characters of valid UTF-8). What may be shown now is appended to `out`: never
 * a beginning of what may still become a match. After a match nothing is released any more and
 * h->match.found is true. However the text is cut, the verdict is that of text_terms_find. */
void text_hold_feed(struct text_hold *h, struct bytes piece, struct buf *out);
/* The end of the text: releases the rest unless there is a match. */
void text_hold_end(struct text_hold *h, struct buf *out);

/* Questions that are answered by rule and not by a model. Crisis: the writer speaks of ending their
 * life or of having harmed themselves, anywhere in the text. Are you human: a short text that asks
 * just that. English phrases in matching form. */
enum text_question { TEXT_QUESTION_NONE, TEXT_QUESTION_ARE_YOU_HUMAN, TEXT_QUESTION_CRISIS };
enum text_question text_question(const struct text_terms *t, struct bytes text);

#endif
