/* blob: a ref-counted run of bytes that travels between threads: payloads, frames, run buffers,
 * prompts, bodies.
 *
 * Owner   : whoever holds a reference; the last blob_unref frees.
 * Thread  : the count is atomic; the content must not change while more than one holds it.
 * Memory  : one mem_new block, header in front of the bytes.
 * Errors  : NULL when mem says so. */
#ifndef BASE_BLOB_H
#define BASE_BLOB_H

#include "base/base.h"
#include <stdatomic.h>

struct blob {
    _Atomic uint32_t refs;
    uint32_t count;    /* bytes in use */
    uint32_t capacity; /* bytes there is room for */
    uint32_t tag;      /* free for the owner */
    uint8_t at[];
};

#define BLOB_BYTES_MAX (64u << 20)

struct blob *blob_new(size_t capacity) MUST_USE;       /* count 0, one reference */
struct blob *blob_copy(struct bytes content) MUST_USE; /* one reference */
struct blob *blob_ref(struct blob *b);                 /* answers b; NULL stays NULL */
void blob_unref(struct blob **b);                      /* accepts a NULL inside, sets NULL */

/* Changes the room of a blob that only the caller holds; its bytes move along. ERR_FULL: *b and
 * its content are as before. The capacity may not go below the count. */
enum err blob_resize(struct blob **b, size_t capacity) MUST_USE;

static inline struct bytes blob_bytes(const struct blob *b)
{
    return b == NULL ? (struct bytes){NULL, 0} : (struct bytes){b->at, b->count};
}

#endif
