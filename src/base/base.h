/* base: the words every other file uses: results, byte ranges, checks.
 *
 * Owner   : nobody; everything here is a value.
 * Thread  : any.
 * Memory  : borrows; `struct bytes` never owns what it points at.
 * Errors  : `enum err` is the one result type of the house; `CHECK` is for our own bugs only. */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_index) \
    __attribute__((format(printf, format_index, first_index)))
#define ARRAY_COUNT(a)                  (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Five kinds of trouble, five treatments (docs/ARCHITECTURE.md). ERR_OK is zero. */
#define BASE_ERRORS(X)                                                          \
    X(OK, "ok")                                                                 \
    X(AGAIN, "more bytes or more time are needed; nothing was consumed")        \
    X(PROTO, "the other side broke the protocol; end the connection or refuse") \
    X(FULL, "a limit was reached; shed the work and say so")                    \
    X(CONFLICT, "somebody was first; an answer, not a failure")                 \
    X(NOT_FOUND, "there is no such thing, or the caller may not see it")        \
    X(DENIED, "the caller may not do this")                                     \
    X(IO, "the world failed: disk, network, upstream")                          \
    X(UNCERTAIN, "it may or may not have happened; re-read, then decide")       \
    X(CLOSED, "the thing was closed or is being closed")

enum err {
#define BASE_ERR_ENUM(name, help) ERR_##name,
    BASE_ERRORS(BASE_ERR_ENUM)
#undef BASE_ERR_ENUM
};

/* The word for logs: "ok", "again", ... Never NULL. */
const char *err_name(enum err e);

/* A borrowed range of bytes. `at` may be NULL only when `count` is 0. */
struct bytes {
    const uint8_t *at;
    size_t count;
};

/* A range over a NUL-terminated string, without the NUL. */
static inline struct bytes bytes_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static inline struct bytes bytes_make(const void *at, size_t count)
{
    return (struct bytes){(const uint8_t *)at, count};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.count == b.count && (a.count == 0 || memcmp(a.at, b.at, a.count) == 0);
}

/* True when `a` has exactly the characters of the NUL-terminated `text`. */
static inline bool bytes_is(struct bytes a, const char *text)
{
    return bytes_equal(a, bytes_of(text));
}

/* Ends the process with a dump hook run first: for states that only a bug of ours can make.
 * Stays in release builds. */
#define CHECK(condition)                                  \
    do {                                                  \
        if (__builtin_expect(!(condition), 0))            \
            check_failed(#condition, __FILE__, __LINE__); \
    } while (0)

__attribute__((noreturn, cold)) void check_failed(const char *condition, const char *file,
                                                  int line);

/* `hook` runs once, before abort(), in the failing thread (the flight recorder dumps there).
 * Set at start, before threads exist. */
void check_hook_set(void (*hook)(const char *condition, const char *file, int line));

static inline size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t size_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline int64_t i64_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t i64_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

#endif
