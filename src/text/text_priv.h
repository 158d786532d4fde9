/* text_priv: folding one character, and the automaton that reads what comes out.
 *
 * Owner   : struct text_terms owns its automata.
 * Thread  : frozen after text_terms_make; any thread reads.
 * Memory  : nodes in one growing block; children are lists, because a node has few.
 * Errors  : ERR_FULL from automaton_add and automaton_link. */
#ifndef TEXT_TEXT_PRIV_H
#define TEXT_TEXT_PRIV_H

#include "text/text.h"

/* --- fold.c -------------------------------------------------------------------------------- */

/* What a character is to the matcher. */
enum fold_kind {
    FOLD_NOTHING, /* invisible or an apostrophe: as if it were not there */
    FOLD_GAP,     /* ends a word */
    FOLD_LETTER,  /* goes on with a word */
    FOLD_ALONE    /* a word of its own: an ideograph, a syllable, an emoji */
};

#define FOLD_PARTS_MAX 24

struct fold_part {
    enum fold_kind kind;
    uint32_t c;
};

/* ICU loads its tables here, once, before threads. ERR_IO when they are not there. */
enum err fold_start(void) MUST_USE;
/* The matching form of one character; the number of parts (0 = it vanishes). */
size_t fold_character(uint32_t c, struct fold_part parts[FOLD_PARTS_MAX]);
/* The character at b.at[0..] of valid UTF-8, and its bytes. */
uint32_t fold_decode(struct bytes b, size_t *bytes_out);
/* A character as UTF-8; bytes written. */
size_t fold_encode(uint32_t c, uint8_t to[4]);
/* The matching form of a whole text with a space at both ends; nothing when it has no word. */
void fold_text(struct bytes text, struct buf *out);

/* --- automaton.c --------------------------------------------------------------------------- */

/* Node 0 is the root, node 1 the space that begins every term. */
#define AUTOMATON_START 1u

struct automaton_node {
    uint32_t child;
    uint32_t sibling;
    uint32_t fail;
    uint32_t term; /* index + 1 of the longest term that ends here; 0 = none */
    uint16_t depth;
    uint8_t byte;
};

struct automaton_term {
    const char *category;
    uint16_t folded_bytes;
};

struct automaton {
    struct automaton_node *nodes;
    uint32_t nodes_count;
    uint32_t nodes_capacity;
    struct automaton_term *terms;
    uint32_t terms_count;
    uint32_t terms_capacity;
    uint32_t first[256]; /* children of node 1: every word that begins looks here */
};

enum err automaton_init(struct automaton *a) MUST_USE;
void automaton_fini(struct automaton *a);
/* `folded` begins and ends with a space. The same one again is ERR_OK and changes nothing. */
enum err automaton_add(struct automaton *a, struct bytes folded, const char *category) MUST_USE;
/* After the last term, before the first step. */
enum err automaton_link(struct automaton *a) MUST_USE;
uint32_t automaton_step(const struct automaton *a, uint32_t state, uint8_t byte);

/* --- scan.c -------------------------------------------------------------------------------- */

void scan_begin(struct text_scan *s);
/* Reads one character of `bytes` bytes. The first term that it completes goes to *match. */
void scan_character(const struct automaton *a, struct text_scan *s, uint32_t c, size_t bytes,
                    struct text_match *match);
/* The end of the text ends a word, too. */
void scan_end(const struct automaton *a, struct text_scan *s, struct text_match *match);
/* Where in the original the oldest byte stands that may still belong to a match. */
size_t scan_safe(const struct automaton *a, const struct text_scan *s);

/* --- terms.c, builtin.c -------------------------------------------------------------------- */

struct text_terms {
    struct automaton sides[2]; /* by enum text_side */
    struct automaton questions;
};

struct builtin_term {
    const char *term;
    const char *category;
    bool user_side;
    bool ai_side;
};

extern const struct builtin_term builtin_terms[];
extern const size_t builtin_terms_count;

extern const char *const builtin_crisis[];
extern const size_t builtin_crisis_count;
extern const char *const builtin_human[];
extern const size_t builtin_human_count;

extern const char question_crisis[];
extern const char question_human[];

#endif
