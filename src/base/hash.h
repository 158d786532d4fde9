/* hash: keyed 64-bit hashes for tables and for choosing a home. Not for secrets.
 *
 * Thread  : any; pure.
 * Source  : SipHash-1-3 (Aumasson, Bernstein 2012). */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/base.h"

uint64_t hash_sip(const uint64_t key[2], struct bytes b);

/* Unkeyed and the same in every process and release: which slot (0..4095) a name belongs to:
 * the SipHash-1-3 under a zero key, mod 4096. */
uint32_t hash_slot(struct bytes name);

#endif
