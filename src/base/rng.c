/* xoshiro256** for everything that has to be repeatable, the kernel for what has to be secret, XXH64 for hashes. */
#include "base/rng.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static uint64_t rotate(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

void rv_rng_init(rv_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) { /* splitmix64: never leaves all four at zero */
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        rng->s[i] = z ^ z >> 31;
    }
}

uint64_t rv_rng_next(rv_rng *rng)
{
    uint64_t *s = rng->s, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

double rv_rng_unit(rv_rng *rng)
{
    return (double)(rv_rng_next(rng) >> 11) * 0x1p-53;
}

uint64_t rv_rng_below(rv_rng *rng, uint64_t n)
{
    uint64_t short_by = (0 - n) % n; /* 2^64 mod n: that many values would favour the small results */
    uint64_t x;
    do {
        x = rv_rng_next(rng);
    } while (x < short_by);
    return x % n;
}

float rv_rng_normal(rv_rng *rng)
{
    /* Marsaglia's polar method; the second value is dropped so that the state stays four words. */
    double u, v, s;
    do {
        u = 2 * rv_rng_unit(rng) - 1;
        v = 2 * rv_rng_unit(rng) - 1;
        s = u * u + v * v;
    } while (s >= 1 || s == 0);
    return (float)(u * sqrt(-2 * log(s) / s));
}

rv_err rv_random_bytes(void *out, size_t n)
{
    unsigned char *at = out;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return rv_fail(RV_E_IO, "the kernel gives no random bytes: %s", strerror(errno));
        }
        at += got;
        n -= (size_t)got;
    }
    return RV_OK;
}

rv_err rv_uuid(char out[37])
{
    uint8_t b[16];
    RV_TRY(rv_random_bytes(b, sizeof b));
    b[6] = (uint8_t)(0x40 | (b[6] & 0x0f)); /* version 4 */
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f)); /* RFC 4122 */
    char *at = out;
    for (int i = 0; i < 16; i++) {
        at += snprintf(at, 4, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", b[i]);
    }
    return RV_OK;
}

/* ---- XXH64, from its specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md) ---- */

static const uint64_t p1 = 0x9e3779b185ebca87u, p2 = 0xc2b2ae3d27d4eb4fu, p3 = 0x165667b19e3779f9u,
                      p4 = 0x85ebca77c2b2ae63u, p5 = 0x27d4eb2f165667c5u;

/* Little-endian whatever the machine. */
static uint64_t load_8(const uint8_t *at)
{
    uint64_t x;
    memcpy(&x, at, sizeof x);
    return le64toh(x);
}

static uint32_t load_4(const uint8_t *at)
{
    uint32_t x;
    memcpy(&x, at, sizeof x);
    return le32toh(x);
}

static uint64_t hash_round(uint64_t lane, uint64_t input)
{
    return rotate(lane + input * p2, 31) * p1;
}

uint64_t rv_hash64(const void *bytes, size_t n, uint64_t seed)
{
    const uint8_t *at = bytes;
    size_t left = n;
    uint64_t h = seed + p5;
    if (n >= 32) {
        uint64_t lane[4] = { seed + p1 + p2, seed + p2, seed, seed - p1 };
        for (; left >= 32; at += 32, left -= 32) {
            lane[0] = hash_round(lane[0], load_8(at));
            lane[1] = hash_round(lane[1], load_8(at + 8));
            lane[2] = hash_round(lane[2], load_8(at + 16));
            lane[3] = hash_round(lane[3], load_8(at + 24));
        }
        h = rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18);
        for (int i = 0; i < 4; i++) {
            h = (h ^ hash_round(0, lane[i])) * p1 + p4;
        }
    }
    h += n;
    for (; left >= 8; at += 8, left -= 8) {
        h = rotate(h ^ hash_round(0, load_8(at)), 27) * p1 + p4;
    }
    if (left >= 4) {
        h = rotate(h ^ load_4(at) * p1, 23) * p2 + p3;
        at += 4;
        left -= 4;
    }
    for (; left > 0; at++, left--) {
        h = rotate(h ^ *at * p5, 11) * p1;
    }
    h = (h ^ h >> 33) * p2;
    h = (h ^ h >> 29) * p3;
    return h ^ h >> 32;
}
