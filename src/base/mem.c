/* Every block carries its size in 16 bytes in front of it:
 *
 *     | bytes asked (8) | unused (8) | what the caller sees ...
 *                                    ^ aligned to 16, as malloc's own result is
 *
 * so that mem_free can subtract what mem_new added without asking libc for its rounding. */
#include "base/mem.h"
#include "base/poison.h"

#include <stdatomic.h>
#include <stdlib.h>

struct mem_head {
    uint64_t bytes;
    uint64_t unused;
};

_Static_assert(sizeof(struct mem_head) == 16, "keeps the caller's block aligned to 16");

static _Atomic uint64_t mem_used;
static _Atomic uint64_t mem_used_max;
static _Atomic uint64_t mem_failed;
static _Atomic uint64_t mem_cap;
static _Atomic uint64_t mem_fail_countdown;

/* True when a test wants this allocation to fail. */
static bool mem_fails_now(void)
{
    uint64_t left = atomic_load_explicit(&mem_fail_countdown, memory_order_relaxed);
    while (left != 0) {
        if (atomic_compare_exchange_weak_explicit(&mem_fail_countdown, &left, left - 1,
                                                  memory_order_relaxed, memory_order_relaxed))
            return left == 1;
    }
    return false;
}

/* Books `bytes` or says no. Near the cap two threads may both be refused where one would have
 * fitted; the cap itself is never passed. */
static bool mem_book(uint64_t bytes)
{
    uint64_t cap = atomic_load_explicit(&mem_cap, memory_order_relaxed);
    uint64_t used = atomic_fetch_add_explicit(&mem_used, bytes, memory_order_relaxed) + bytes;
    if (cap != 0 && used > cap) {
        atomic_fetch_sub_explicit(&mem_used, bytes, memory_order_relaxed);
        return false;
    }
    uint64_t top = atomic_load_explicit(&mem_used_max, memory_order_relaxed);
    while (used > top &&
           !atomic_compare_exchange_weak_explicit(&mem_used_max, &top, used, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
    return true;
}

static void *mem_refused(void)
{
    atomic_fetch_add_explicit(&mem_failed, 1, memory_order_relaxed);
    return NULL;
}

static void *mem_begin(struct mem_head *head, size_t bytes)
{
    head->bytes = bytes;
    poison(head, sizeof(*head));
    return head + 1;
}

static void *mem_alloc(size_t bytes, bool zero)
{
    if (bytes > SIZE_MAX / 2 || mem_fails_now() || !mem_book(bytes))
        return mem_refused();
    size_t whole = bytes + sizeof(struct mem_head);
    struct mem_head *head = zero ? calloc(1, whole) : malloc(whole);
    if (head == NULL) {
        atomic_fetch_sub_explicit(&mem_used, bytes, memory_order_relaxed);
        return mem_refused();
    }
    return mem_begin(head, bytes);
}

void *mem_new(size_t bytes)
{
    return mem_alloc(bytes, false);
}

void *mem_new_zero(size_t bytes)
{
    return mem_alloc(bytes, true);
}

void *mem_resize(void *at, size_t bytes)
{
    if (at == NULL)
        return mem_new(bytes);
    if (bytes > SIZE_MAX / 2 || mem_fails_now())
        return mem_refused();
    struct mem_head *head = (struct mem_head *)at - 1;
    unpoison(head, sizeof(*head));
    size_t before = head->bytes;
    size_t more = bytes > before ? bytes - before : 0;
    struct mem_head *moved = NULL;
    if (mem_book(more)) {
        moved = realloc(head, bytes + sizeof(*head));
        if (moved == NULL)
            atomic_fetch_sub_explicit(&mem_used, more, memory_order_relaxed);
    }
    if (moved == NULL) {
        poison(head, sizeof(*head));
        return mem_refused();
    }
    if (bytes < before)
        atomic_fetch_sub_explicit(&mem_used, before - bytes, memory_order_relaxed);
    return mem_begin(moved, bytes);
}

void mem_free(void *at)
{
    if (at == NULL)
        return;
    struct mem_head *head = (struct mem_head *)at - 1;
    unpoison(head, sizeof(*head));
    atomic_fetch_sub_explicit(&mem_used, head->bytes, memory_order_relaxed);
    free(head);
}

uint64_t mem_used_bytes(void)
{
    return atomic_load_explicit(&mem_used, memory_order_relaxed);
}

uint64_t mem_used_bytes_max(void)
{
    return atomic_load_explicit(&mem_used_max, memory_order_relaxed);
}

uint64_t mem_failures(void)
{
    return atomic_load_explicit(&mem_failed, memory_order_relaxed);
}

void mem_cap_set(uint64_t bytes)
{
    atomic_store_explicit(&mem_cap, bytes, memory_order_relaxed);
}

void mem_fail_at(uint64_t n)
{
    atomic_store_explicit(&mem_fail_countdown, n, memory_order_relaxed);
}
