/* buf: builds bytes front to back. The first failure sticks; ask once at the end.
 *
 * Owner   : caller's memory; buf_take hands the blob over, buf_fini drops it.
 * Thread  : one.
 * Memory  : a growing blob (buf_init) or a fixed block (buf_init_fixed) that never grows.
 * Errors  : `failed` stays true once something did not fit; later puts do nothing.
 * Limits  : cap bytes, at most BLOB_BYTES_MAX. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/base.h"
#include "base/blob.h"

struct buf {
    uint8_t *at;
    size_t count;
    size_t capacity;
    size_t cap;
    struct blob *blob; /* NULL when fixed or not begun */
    bool fixed;
    bool failed;
};

void buf_init(struct buf *b, size_t cap_bytes); /* allocates at the first put */
void buf_init_fixed(struct buf *b, void *block, size_t bytes);
void buf_fini(struct buf *b);

/* The bytes as a blob with one reference; b is empty afterwards and may be used again (`failed` is
 * cleared). NULL when it failed or is fixed. An empty buf gives an empty blob. */
struct blob *buf_take(struct buf *b) MUST_USE;

void buf_put(struct buf *b, const void *at, size_t count);
void buf_byte(struct buf *b, uint8_t byte);
void buf_text(struct buf *b, const char *text);
void buf_u64(struct buf *b, uint64_t number); /* decimal */
void buf_i64(struct buf *b, int64_t number);
/* Needs room for one byte more than the text: vsnprintf insists on a NUL. */
void buf_printf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);

/* Room for `count` more bytes at b->at + b->count; the caller writes and adds to b->count.
 * False = failed. */
bool buf_reserve(struct buf *b, size_t count);

static inline void buf_bytes(struct buf *b, struct bytes s)
{
    buf_put(b, s.at, s.count);
}

static inline struct bytes buf_view(const struct buf *b)
{
    return (struct bytes){b->at, b->count};
}

#endif
