/* json: RFC 8259 into a tree in an arena, and a writer over a buf.
 *
 * Thread  : any; pure.
 * Memory  : the tree lives in the caller's arena and borrows the input; strings without escapes
 *           point into it.
 * Errors  : ERR_PROTO with place and reason in struct json_error; ERR_FULL when the arena is full
 *           or a limit of `struct json_limits` is passed.
 * Limits  : depth and values; no recursion over input.
 * Policy  : input must be valid UTF-8; an escape of half a surrogate pair is U+FFFD; \u0000 is
 *           decoded (callers that take text refuse U+0000); of duplicate keys the last one counts;
 *           numbers keep their text, json_i64 converts exactly or says no; one value, only white
 *           space around it (so a byte order mark is refused). */
#ifndef CODEC_JSON_H
#define CODEC_JSON_H

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"

enum json_kind {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

struct json {
    enum json_kind kind;
    uint32_t count;     /* of an array or object */
    struct bytes raw;   /* the value's own text in the input */
    struct bytes text;  /* a string decoded; a number's text */
    struct bytes key;   /* decoded, when member of an object */
    struct json *first; /* child */
    struct json *next;  /* sibling */
};

struct json_limits {
    uint32_t depth_max;  /* 0 = 64 */
    uint32_t values_max; /* 0 = 100,000 */
};

struct json_error {
    size_t at; /* byte offset */
    const char *what;
};

/* *out is untouched unless ERR_OK. `error_out` may be NULL. */
enum err json_parse(struct arena *a, struct bytes input, struct json_limits limits,
                    struct json **out, struct json_error *error_out) MUST_USE;

/* NULL when `o` is NULL, no object, or has no such member. */
const struct json *json_get(const struct json *o, const char *key);

/* The string of member `key`; *out untouched and false when absent or no string. */
bool json_get_text(const struct json *o, const char *key, struct bytes *out);
bool json_get_i64(const struct json *o, const char *key, int64_t *out);
bool json_get_bool(const struct json *o, const char *key, bool *out);

/* Exact only: an integer in range without fraction or exponent. */
bool json_i64(const struct json *v, int64_t *out);
/* The nearest double; false when no number, not finite, or written in over 400 characters. */
bool json_double(const struct json *v, double *out);

/* The writer. A comma is placed when the byte before ends a value: one of '"' '}' ']', a letter or
 * a digit. So a second message in the same buf needs its separator (a newline, a blank) first, and
 * foreign bytes before the first value must not end in one of those. */
void json_object_open(struct buf *b);
void json_object_close(struct buf *b);
void json_array_open(struct buf *b);
void json_array_close(struct buf *b);
void json_key(struct buf *b, const char *key);
void json_text(struct buf *b, struct bytes text); /* valid UTF-8; escapes what must be */
void json_number_i64(struct buf *b, int64_t v);
void json_bool(struct buf *b, bool v);
void json_null(struct buf *b);
void json_number_double(struct buf *b, double v); /* 15 digits, or 17; null if not finite */
void json_raw(struct buf *b, struct bytes json);  /* a finished value; empty is written as null */

/* key + value in one. */
void json_put_text(struct buf *b, const char *key, struct bytes text);
void json_put_i64(struct buf *b, const char *key, int64_t v);
void json_put_bool(struct buf *b, const char *key, bool v);
void json_put_double(struct buf *b, const char *key, double v);
void json_put_raw(struct buf *b, const char *key, struct bytes json);

/* Only the escaped inside of a string, without the quotes. */
void json_escape(struct buf *b, struct bytes text);

/* Removes raw CR and LF (legal only between tokens) from valid JSON in place; the new count. */
size_t json_unbreak(uint8_t *at, size_t count);

#endif
