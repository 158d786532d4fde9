/* Numbers are written two digits at a time from a table of pairs: no printf on a hot path. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#define BUF_BYTES_MIN       128u
#define BUF_SLACK_BYTES_MAX 256u
#define U64_DIGITS_MAX      20

void buf_init(struct buf *b, size_t cap_bytes)
{
    memset(b, 0, sizeof(*b));
    b->cap = size_min(cap_bytes, BLOB_BYTES_MAX);
}

void buf_init_fixed(struct buf *b, void *block, size_t bytes)
{
    memset(b, 0, sizeof(*b));
    b->at = block;
    b->capacity = bytes;
    b->cap = bytes;
    b->fixed = true;
}

void buf_fini(struct buf *b)
{
    blob_unref(&b->blob);
    memset(b, 0, sizeof(*b));
}

static void buf_blob_set(struct buf *b, struct blob *blob)
{
    b->blob = blob;
    b->at = blob->at;
    b->capacity = blob->capacity;
}

/* The slow half of buf_reserve: the room is not there yet. */
static bool buf_grow(struct buf *b, size_t count)
{
    if (b->failed || b->fixed || count > b->cap - b->count) {
        b->failed = true;
        return false;
    }
    size_t wish = size_max(size_max(b->count + count, b->capacity * 2), BUF_BYTES_MIN);
    size_t capacity = size_min(wish, b->cap);
    struct blob *blob = b->blob;
    if (blob == NULL) {
        blob = blob_new(capacity);
    } else {
        blob->count = (uint32_t)b->count;
        if (blob_resize(&blob, capacity) != ERR_OK)
            blob = NULL;
    }
    if (blob == NULL) {
        b->failed = true;
        return false;
    }
    buf_blob_set(b, blob);
    return true;
}

bool buf_reserve(struct buf *b, size_t count)
{
    if (!b->failed && count <= b->capacity - b->count)
        return true;
    return buf_grow(b, count);
}

struct blob *buf_take(struct buf *b)
{
    if (b->fixed)
        return NULL;
    struct blob *blob = b->blob;
    size_t count = b->count;
    size_t cap = b->cap;
    bool failed = b->failed;
    buf_init(b, cap);
    if (failed) {
        blob_unref(&blob);
        return NULL;
    }
    if (blob == NULL)
        return blob_new(0);
    blob->count = (uint32_t)count;
    /* What leaves may wait in queues for long, so much slack is given back. When that fails the
     * blob is only larger than it could be. */
    size_t slack = blob->capacity - count;
    if (slack > BUF_SLACK_BYTES_MAX && slack > count / 4) {
        enum err shrunk = blob_resize(&blob, count);
        (void)shrunk;
    }
    return blob;
}

void buf_put(struct buf *b, const void *at, size_t count)
{
    if (count == 0 || !buf_reserve(b, count))
        return;
    memcpy(b->at + b->count, at, count);
    b->count += count;
}

void buf_byte(struct buf *b, uint8_t byte)
{
    if (!buf_reserve(b, 1))
        return;
    b->at[b->count] = byte;
    b->count++;
}

void buf_text(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

static const char buf_pairs[200] = "00010203040506070809101112131415161718192021222324"
                                   "25262728293031323334353637383940414243444546474849"
                                   "50515253545556575859606162636465666768697071727374"
                                   "75767778798081828384858687888990919293949596979899";

/* Digits are made from the last to the first, so they are built in a corner whose end is `end`.
 * Answers where they begin. */
static char *buf_digits(char *end, uint64_t number)
{
    char *at = end;
    while (number >= 100) {
        uint64_t pair = number % 100;
        number /= 100;
        at -= 2;
        memcpy(at, buf_pairs + pair * 2, 2);
    }
    if (number >= 10) {
        at -= 2;
        memcpy(at, buf_pairs + number * 2, 2);
    } else {
        at--;
        *at = (char)('0' + number);
    }
    return at;
}

void buf_u64(struct buf *b, uint64_t number)
{
    char digits[U64_DIGITS_MAX];
    char *end = digits + sizeof(digits);
    char *at = buf_digits(end, number);
    buf_put(b, at, (size_t)(end - at));
}

void buf_i64(struct buf *b, int64_t number)
{
    char digits[1 + U64_DIGITS_MAX];
    char *end = digits + sizeof(digits);
    uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    char *at = buf_digits(end, size);
    if (number < 0) {
        at--;
        *at = '-';
    }
    buf_put(b, at, (size_t)(end - at));
}

void buf_printf(struct buf *b, const char *format, ...)
{
    if (b->failed)
        return;
    va_list args;
    va_list again;
    va_start(args, format);
    va_copy(again, args);
    size_t room = b->capacity - b->count;
    int wanted = vsnprintf(room == 0 ? NULL : (char *)b->at + b->count, room, format, args);
    va_end(args);
    if (wanted < 0) {
        b->failed = true;
    } else if ((size_t)wanted < room) {
        b->count += (size_t)wanted;
    } else if (buf_reserve(b, (size_t)wanted + 1)) {
        /* One byte more than the text, for the NUL that vsnprintf insists on. */
        (void)vsnprintf((char *)b->at + b->count, (size_t)wanted + 1, format, again);
        b->count += (size_t)wanted;
    }
    va_end(again);
}
