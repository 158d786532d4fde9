/* utf8: validity as the bytes arrive, and lengths in UTF-16 units (the unit of text positions).
 *
 * Thread  : any; pure values.
 * Errors  : the verdict never depends on how the bytes were cut.
 * Source  : RFC 3629 (shortest form, no surrogates, at most U+10FFFF). */
#ifndef CODEC_UTF8_H
#define CODEC_UTF8_H

#include "base/base.h"

struct utf8 {
    uint8_t need; /* continuation bytes still to come */
    uint8_t low;  /* allowed range of the next one */
    uint8_t high;
};

/* Zeroed = start. ERR_PROTO at the first bad byte (stays bad); ERR_OK otherwise. */
enum err utf8_feed(struct utf8 *u, struct bytes b) MUST_USE;
/* True when no character is left open. */
bool utf8_is_whole(const struct utf8 *u);

bool utf8_is_valid(struct bytes b);

/* How many bytes the first character of `b` (not empty) has. When what stands there is no character
 * or the start of one, *valid_out is false and the answer is its maximal subpart: the bytes that
 * one U+FFFD replaces. */
size_t utf8_char(struct bytes b, bool *valid_out);

/* UTF-16 units of valid UTF-8. */
size_t utf8_units(struct bytes b);

/* The longest prefix of `b`, at most `bytes_max` long, that cuts no character. */
size_t utf8_prefix(struct bytes b, size_t bytes_max);

/* Byte position of UTF-16 unit `units` in valid UTF-8 (inside a pair: the pair's start);
 * b.count when past the end. */
size_t utf8_offset(struct bytes b, size_t units);

/* Copies `b` with every invalid sequence replaced by U+FFFD (maximal subparts). `to` has room for
 * 3 * b.count bytes. Returns bytes written. */
size_t utf8_repair(struct bytes b, uint8_t *to);

#endif
