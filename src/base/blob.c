/* The count's last decrement must see every write of the other holders before the block is freed:
 * hence release on each decrement and acquire on the last (Boost's shared_ptr does the same). */
#include "base/blob.h"
#include "base/mem.h"

_Static_assert(sizeof(struct blob) == 16, "the bytes begin aligned to 16");

struct blob *blob_new(size_t capacity)
{
    if (capacity > BLOB_BYTES_MAX)
        return NULL;
    struct blob *b = mem_new(sizeof(*b) + capacity);
    if (b == NULL)
        return NULL;
    atomic_init(&b->refs, 1);
    b->count = 0;
    b->capacity = (uint32_t)capacity;
    b->tag = 0;
    return b;
}

struct blob *blob_copy(struct bytes content)
{
    struct blob *b = blob_new(content.count);
    if (b == NULL)
        return NULL;
    if (content.count > 0)
        memcpy(b->at, content.at, content.count);
    b->count = (uint32_t)content.count;
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    if (b == NULL)
        return NULL;
    uint32_t before = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    CHECK(before > 0);
    CHECK(before < UINT32_MAX);
    return b;
}

void blob_unref(struct blob **b)
{
    struct blob *mine = *b;
    *b = NULL;
    if (mine == NULL)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&mine->refs, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before == 1)
        mem_free(mine);
}

enum err blob_resize(struct blob **b, size_t capacity)
{
    struct blob *mine = *b;
    CHECK(atomic_load_explicit(&mine->refs, memory_order_relaxed) == 1);
    CHECK(capacity >= mine->count);
    if (capacity > BLOB_BYTES_MAX)
        return ERR_FULL;
    struct blob *moved = mem_resize(mine, sizeof(*mine) + capacity);
    if (moved == NULL)
        return ERR_FULL;
    moved->capacity = (uint32_t)capacity;
    *b = moved;
    return ERR_OK;
}
