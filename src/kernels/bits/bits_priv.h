/* The plain form, for every level that has nothing better. */
#ifndef RV_KERNELS_BITS_BITS_PRIV_H
#define RV_KERNELS_BITS_BITS_PRIV_H
#include "kernels/kernels_priv.h"

#include <stdbool.h>

enum { BITS_WORDS = 8 }; /* listed side by side */

static inline size_t count_bits(const uint64_t *words, size_t n_words)
{
    size_t n = 0;
    for (size_t i = 0; i < n_words; i++) {
        n += (size_t)__builtin_popcountll(words[i]);
    }
    return n;
}

static inline size_t list_group(const uint64_t *words, size_t n_words, size_t first, uint32_t *out)
{
    uint64_t left[BITS_WORDS], any = 0;
    size_t n = 0;
    for (size_t i = 0; i < n_words; i++) {
        left[i] = words[i];
        any |= left[i];
    }
    while (any) {
        any = 0;
        for (size_t i = 0; i < n_words; i++) {
            if (left[i]) {
                out[n++] = (uint32_t)(first + 64 * i + (size_t)__builtin_ctzll(left[i]));
                left[i] &= left[i] - 1;
                any |= left[i];
            }
        }
    }
    return n;
}

/* One group more; 8 of its bits may be written at once. */
static inline bool bits_fit(size_t n)
{
    return n + RV_BITS_GROUP + BITS_WORDS <= RV_BITS_ROOM;
}

static inline size_t list_bits(const uint64_t *words, size_t n_words, uint32_t *out, size_t *n_out)
{
    size_t at = 0, n = 0;
    while (at < n_words && bits_fit(n)) {
        size_t some = n_words - at < BITS_WORDS ? n_words - at : BITS_WORDS;
        n += list_group(words + at, some, 64 * at, out + n);
        at += some;
    }
    *n_out = n;
    return at;
}
#endif
