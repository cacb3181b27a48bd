/* xoshiro256** seeded by splitmix64. Same seed, same sequence, on every machine.
 * Source: Blackman and Vigna 2018, prng.di.unimi.it. Not for secrets: rv_random_bytes is. */
#ifndef RV_BASE_RNG_H
#define RV_BASE_RNG_H
#include "base/err.h"
#include <stdint.h>

typedef struct rv_rng {
    uint64_t s[4];
} rv_rng;

void rv_rng_init(rv_rng *rng, uint64_t seed);
uint64_t rv_rng_next(rv_rng *rng);
double rv_rng_unit(rv_rng *rng);                       /* [0, 1), 53 bits */
uint64_t rv_rng_below(rv_rng *rng, uint64_t n);        /* 0 .. n-1 without bias; n > 0 */
float rv_rng_normal(rv_rng *rng);

rv_err rv_random_bytes(void *out, size_t n) RV_MUST_CHECK; /* from the kernel */
/** rv_uuid - random UUID (version 4) as 36 characters and a zero. */
rv_err rv_uuid(char out[37]) RV_MUST_CHECK;

uint64_t rv_hash64(const void *bytes, size_t n, uint64_t seed); /* stable across machines and releases; not for secrets */
#endif
