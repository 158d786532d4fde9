/* The only readers of clocks and of the system's randomness. */
#include "engine/engine_priv.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

static _Atomic int64_t clock_skipped_ns;

static int64_t clock_read_ns(clockid_t which)
{
    struct timespec at;
    int failed = clock_gettime(which, &at);
    CHECK(failed == 0);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

int64_t clock_real_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

int64_t clock_coarse_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC_COARSE);
}

struct mono mono_now(void)
{
    int64_t skipped = atomic_load_explicit(&clock_skipped_ns, memory_order_relaxed);
    return (struct mono){clock_real_ns() + skipped};
}

void engine_clock_skip(int64_t ms)
{
    CHECK(ms >= 0);
    atomic_fetch_add_explicit(&clock_skipped_ns, ms * 1000000, memory_order_relaxed);
}

int64_t wall_now_ms(void)
{
    return clock_read_ns(CLOCK_REALTIME) / 1000000;
}

void engine_random(void *at, size_t count)
{
    uint8_t *to = at;
    while (count > 0) {
        ssize_t got = getrandom(to, count, 0);
        if (got < 0 && errno == EINTR)
            continue;
        CHECK(got > 0);
        to += got;
        count -= (size_t)got;
    }
}
