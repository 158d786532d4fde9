/* stitch: characters that a backend cut in two. Some backends stream tokens, not characters, so
 * that a chunk's string may end with half a surrogate pair (`\ud83d`) or with the first bytes of a
 * UTF-8 sequence. The half is held back and put in front of the next piece of the same kind.
 *
 * Owner   : one per attempt; zeroed = empty.
 * Thread  : pure.
 * Memory  : a value; a rewritten event lives in the caller's arena.
 * Errors  : ERR_FULL when the arena is full. Data that is not JSON passes unchanged: the decoder
 *           behind says so.
 * Limits  : one character per kind of text.
 * Source  : RFC 8259, 7 (escapes); Unicode 15, table 3-7 (well-formed UTF-8). */
#ifndef MODEL_STITCH_PRIV_H
#define MODEL_STITCH_PRIV_H

#include "base/arena.h"
#include "base/base.h"

#define STITCH_HALF_BYTES_MAX 6 /* "\ud83d" */

struct stitch_half {
    uint8_t count;
    uint8_t at[STITCH_HALF_BYTES_MAX];
};

struct stitch {
    struct stitch_half text;      /* of "content" */
    struct stitch_half reasoning; /* of "reasoning_content" and "reasoning" */
};

/* *out is `data` itself when nothing had to be joined or held back (nearly always). */
enum err stitch_join(struct stitch *s, struct arena *a, struct bytes data, struct bytes *out)
    MUST_USE;

/* How many bytes at the end of `inside` (a JSON string without its quotes) are half a character. */
size_t stitch_half_bytes(struct bytes inside);

#endif
