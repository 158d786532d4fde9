/* mem: the only door to malloc. Counted, capped, and able to fail on demand.
 *
 * Owner   : the caller of mem_new frees with mem_free, from any thread.
 * Thread  : any; the counters are relaxed atomics.
 * Errors  : NULL when the cap is reached, the system is out of memory, or a test asked for it.
 * Limits  : mem_cap_set (bytes in use at once; 0 = none). */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/base.h"

void *mem_new(size_t bytes) MUST_USE;      /* uninitialised, aligned to 16 */
void *mem_new_zero(size_t bytes) MUST_USE; /* all bytes zero */

/* Grows or shrinks; keeps the content; on NULL the old block is untouched. `at` may be NULL. */
void *mem_resize(void *at, size_t bytes) MUST_USE;
void mem_free(void *at); /* accepts NULL */

uint64_t mem_used_bytes(void);     /* in use now, what callers asked for */
uint64_t mem_used_bytes_max(void); /* high-water mark */
uint64_t mem_failures(void);       /* how often NULL was answered */
void mem_cap_set(uint64_t bytes);

/* Tests only: the n-th allocation from now (1 = the next) and no other fails; 0 = none. */
void mem_fail_at(uint64_t n);

#endif
