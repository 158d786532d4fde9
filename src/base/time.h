/* time: instants and spans as values. Nobody here reads a clock: `engine` does, and hands the
 * result down as an argument.
 *
 * Units   : `struct mono` counts nanoseconds of the monotonic clock; wall time is Unix
 *           milliseconds in int64_t and its names end in `_ms`. */
#ifndef BASE_TIME_H
#define BASE_TIME_H

#include <stdbool.h>
#include <stdint.h>

struct mono {
    int64_t ns;
};

static inline struct mono mono_after_ms(struct mono now, int64_t ms)
{
    return (struct mono){now.ns + ms * 1000000};
}

static inline int64_t mono_since_ms(struct mono then, struct mono now)
{
    return (now.ns - then.ns) / 1000000;
}

static inline bool mono_reached(struct mono deadline, struct mono now)
{
    return now.ns >= deadline.ns;
}

#endif
