/* Random numbers that can be repeated, random bytes that cannot, and a hash that stays the same for ever.
 * Source: xoshiro256** and splitmix64, Blackman and Vigna 2018, prng.di.unimi.it; XXH64, xxhash.com. */
#ifndef RV_BASE_RNG_H
#define RV_BASE_RNG_H
#include "base/err.h"
#include <stdint.h>

/* Same seed, same sequence, on every machine. Not for secrets: rv_random_bytes is. Threads: one thread at a time. */
typedef struct rv_rng {
    uint64_t s[4];
} rv_rng;

void rv_rng_init(rv_rng *rng, uint64_t seed);
uint64_t rv_rng_next(rv_rng *rng);
double rv_rng_unit(rv_rng *rng);                /* [0, 1), 53 bits */
uint64_t rv_rng_below(rv_rng *rng, uint64_t n); /* 0 .. n-1 without bias; n > 0 */
float rv_rng_normal(rv_rng *rng); /* mean 0, variance 1; the last bit is up to the machine's log() */

/** rv_random_bytes - from the kernel. Errors: RV_E_IO it gives none.  Threads: any thread. */
rv_err rv_random_bytes(void *out, size_t n) RV_MUST_CHECK;

/** rv_uuid - random UUID (version 4) as 36 characters and a zero. Errors and threads as rv_random_bytes. */
rv_err rv_uuid(char out[37]) RV_MUST_CHECK;

/** rv_hash64 - XXH64 of the bytes: stable across machines and releases, so files may hold it. Not for secrets. */
uint64_t rv_hash64(const void *bytes, size_t n, uint64_t seed);
#endif
