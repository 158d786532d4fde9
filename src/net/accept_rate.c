/* How fast one address may connect. One word per address in a table of fixed size that all engines
 * share, because the kernel spreads one address over all of them:
 *
 *     | 24 bits: mark of the address | 40 bits: when it would be even again, in microseconds |
 *
 * Source: the generic cell rate algorithm (ITU-T I.371, virtual scheduling): a new connection moves
 * that time by 1/rate; it may lie at most one second ahead. One compare-and-swap, no lock. */
#include "net/net_priv.h"
#include "base/hash.h"

#include <stdatomic.h>

#define RATE_SLOTS     4096u
#define RATE_PROBES    8u
#define RATE_TIME_BITS 40
#define RATE_TIME_MASK ((UINT64_C(1) << RATE_TIME_BITS) - 1)
#define RATE_BURST_US  1000000u

static _Atomic uint64_t rate_table[RATE_SLOTS];
static uint64_t rate_seed[2];
static _Atomic uint32_t rate_seed_state; /* 0 none, 1 being made, 2 there */

void accept_rate_reset(void)
{
    for (size_t i = 0; i < RATE_SLOTS; i++)
        atomic_store_explicit(&rate_table[i], 0, memory_order_relaxed);
}

/* An unpredictable key, so that nobody can choose addresses that share a mark. Made by whoever
 * comes first; who comes meanwhile does without. */
static uint64_t rate_hash(struct bytes key)
{
    static const uint64_t none[2] = {0, 0};
    uint32_t state = 0;
    if (atomic_compare_exchange_strong(&rate_seed_state, &state, 1)) {
        engine_random(rate_seed, sizeof(rate_seed));
        atomic_store(&rate_seed_state, 2);
        state = 2;
    }
    return hash_sip(state == 2 ? rate_seed : none, key);
}

/* How far ahead of now the word's time lies, 0 when it has passed. The time wraps after twelve
 * days; no word ever lies more than the burst ahead, so whatever seems to is merely old. */
static uint64_t rate_ahead_us(uint64_t word, uint64_t now_us)
{
    uint64_t ahead = (word - now_us) & RATE_TIME_MASK;
    return ahead <= RATE_BURST_US ? ahead : 0;
}

/* The slot of this mark, else a free one, else the one that is even soonest: its address is
 * forgotten, which errs on the side of letting in. */
static _Atomic uint64_t *rate_slot(uint64_t hash, uint64_t mark, uint64_t now_us)
{
    _Atomic uint64_t *best = NULL;
    uint64_t best_ahead = UINT64_MAX;
    for (uint32_t i = 0; i < RATE_PROBES; i++) {
        _Atomic uint64_t *slot = &rate_table[(hash + i) & (RATE_SLOTS - 1)];
        uint64_t word = atomic_load_explicit(slot, memory_order_relaxed);
        if (word >> RATE_TIME_BITS == mark)
            return slot;
        uint64_t ahead = rate_ahead_us(word, now_us);
        if (ahead < best_ahead) {
            best_ahead = ahead;
            best = slot;
        }
    }
    return best;
}

bool accept_rate_take(const uint8_t address[16], int64_t now_ns, uint32_t rate)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    /* Who has one IPv6 address usually has a whole /64. */
    size_t key_bytes = memcmp(address, mapped, sizeof(mapped)) == 0 ? 16 : 8;
    uint64_t hash = rate_hash(bytes_make(address, key_bytes));
    uint64_t mark = hash >> RATE_TIME_BITS;
    uint64_t now_us = (uint64_t)now_ns / 1000 & RATE_TIME_MASK;
    uint64_t step_us = RATE_BURST_US / rate;
    _Atomic uint64_t *slot = rate_slot(hash, mark, now_us);
    uint64_t word = atomic_load_explicit(slot, memory_order_relaxed);
    for (;;) {
        uint64_t ahead = word >> RATE_TIME_BITS == mark ? rate_ahead_us(word, now_us) : 0;
        if (ahead + step_us > RATE_BURST_US)
            return false;
        uint64_t next = mark << RATE_TIME_BITS | ((now_us + ahead + step_us) & RATE_TIME_MASK);
        if (atomic_compare_exchange_weak_explicit(slot, &word, next, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    }
}
