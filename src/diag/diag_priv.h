/* diag_priv: one thread's copy of everything that is counted or remembered.
 *
 * Owner   : its thread; never freed.
 * Thread  : written by the owner with relaxed stores (the shared copy with relaxed additions), read
 *           by anybody. Sums may be some counts old; they are never torn. */
#ifndef DIAG_DIAG_PRIV_H
#define DIAG_DIAG_PRIV_H

#include "diag/diag.h"

#include <stdatomic.h>

/* 1-2-5 from 10 us; the last one is a minute, beyond which every wait of kith's is over. */
/* clang-format off */
#define DIAG_BUCKETS(X)                                                                  \
    X(10000, "0.00001")      X(20000, "0.00002")      X(50000, "0.00005")                \
    X(100000, "0.0001")      X(200000, "0.0002")      X(500000, "0.0005")                \
    X(1000000, "0.001")      X(2000000, "0.002")      X(5000000, "0.005")                \
    X(10000000, "0.01")      X(20000000, "0.02")      X(50000000, "0.05")                \
    X(100000000, "0.1")      X(200000000, "0.2")      X(500000000, "0.5")                \
    X(1000000000, "1.0")     X(2000000000, "2.0")     X(5000000000, "5.0")               \
    X(10000000000, "10.0")   X(20000000000, "20.0")   X(60000000000, "60.0")
/* clang-format on */

enum {
#define DIAG_BUCKET_ONE(ns, le) +1
    DIAG_BUCKETS_COUNT = DIAG_BUCKETS(DIAG_BUCKET_ONE) + 1 /* and one for what is longer */
#undef DIAG_BUCKET_ONE
};

struct diag_span {
    _Atomic uint64_t buckets[DIAG_BUCKETS_COUNT]; /* not cumulative */
    _Atomic uint64_t sum_ns;
};

struct diag_entry {
    _Atomic int64_t ns;
    _Atomic(const char *) what;
    _Atomic uint64_t a;
    _Atomic uint64_t b;
};

struct diag_thread {
    char name[32];
    _Atomic uint64_t counters[DIAG_COUNTERS_COUNT];
    _Atomic int64_t gauges[DIAG_GAUGES_COUNT];
    struct diag_span spans[DIAG_HISTOGRAMS_COUNT];
    _Atomic uint64_t notes_count; /* ever; the newest is at (count - 1) % DIAG_NOTES_MAX */
    struct diag_entry notes[DIAG_NOTES_MAX];
};

/* The calling thread's copy, or NULL when it did not register. */
struct diag_thread *diag_thread_mine(void);
/* Copy `index`: 0 is the shared one; NULL at the end. */
struct diag_thread *diag_thread_at(uint32_t index);

#endif
