/* poison: tells AddressSanitizer which bytes of our own allocators nobody may touch. Without the
 * sanitizer both are nothing.
 *
 * Owner   : the allocator that calls; it must unpoison before the block goes back to its giver.
 * Thread  : the block's. Memory: marks only. Errors: none. */
#ifndef BASE_POISON_H
#define BASE_POISON_H

#if defined(__SANITIZE_ADDRESS__)
#define BASE_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BASE_HAS_ASAN 1
#endif
#endif

#ifdef BASE_HAS_ASAN
#include <sanitizer/asan_interface.h>
#define poison(at, bytes)   __asan_poison_memory_region((at), (bytes))
#define unpoison(at, bytes) __asan_unpoison_memory_region((at), (bytes))
#else
#define poison(at, bytes)   ((void)(at), (void)(bytes))
#define unpoison(at, bytes) ((void)(at), (void)(bytes))
#endif

#endif
