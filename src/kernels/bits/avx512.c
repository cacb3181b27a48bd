#include "kernels/bits/bits_priv.h"

#include <immintrin.h>

/* Bits of bytes from a table of half bytes, at most 8 each: so many vectors are added up as bytes before sums of 8 bytes become
 * 64-bit numbers. */
enum { AS_BYTES = 31 };

static inline __m512i bits_of_bytes(__m512i v)
{
    const __m512i table =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i low = _mm512_set1_epi8(15);
    return _mm512_add_epi8(_mm512_shuffle_epi8(table, _mm512_and_si512(v, low)),
                           _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), low)));
}

size_t rv_bits_count_avx512(const uint64_t *words, size_t n_words)
{
    const size_t whole = n_words / BITS_WORDS * BITS_WORDS;
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < whole;) {
        __m512i bytes = _mm512_setzero_si512();
        for (size_t end = whole - i < AS_BYTES * BITS_WORDS ? whole : i + AS_BYTES * BITS_WORDS; i < end;
             i += BITS_WORDS) {
            bytes = _mm512_add_epi8(bytes, bits_of_bytes(_mm512_loadu_si512(words + i)));
        }
        sum = _mm512_add_epi64(sum, _mm512_sad_epu8(bytes, _mm512_setzero_si512()));
    }
    return (size_t)_mm512_reduce_add_epi64(sum) + count_bits(words + whole, n_words - whole);
}

/* The lowest bit of every word at once: as a double its exponent is its place. Twice without asking whether there is one, because
 * in sparse words that is hard to guess. */
static inline size_t list_lowest(__m512i *left, __m512i first, uint32_t *out)
{
    const __m512i none = _mm512_setzero_si512();
    __mmask8 some = _mm512_test_epi64_mask(*left, *left);
    __m512i lowest = _mm512_and_si512(*left, _mm512_sub_epi64(none, *left));
    __m512i exponent = _mm512_srli_epi64(_mm512_castpd_si512(_mm512_cvtepu64_pd(lowest)), 52);
    __m256i places = _mm512_cvtepi64_epi32(_mm512_add_epi64(exponent, first));
    _mm256_storeu_si256((__m256i *)out, _mm256_maskz_compress_epi32(some, places));
    *left = _mm512_xor_si512(*left, lowest);
    return (size_t)__builtin_popcount(some);
}

size_t rv_bits_list_avx512(const uint64_t *words, size_t n_words, uint32_t *out, size_t *n_out)
{
    size_t at = 0, n = 0;
    __m512i first =
        _mm512_sub_epi64(_mm512_setr_epi64(0, 64, 128, 192, 256, 320, 384, 448), _mm512_set1_epi64(1023));
    for (; n_words - at >= BITS_WORDS && bits_fit(n); at += BITS_WORDS) {
        __m512i left = _mm512_loadu_si512(words + at);
        n += list_lowest(&left, first, out + n);
        n += list_lowest(&left, first, out + n);
        while (_mm512_test_epi64_mask(left, left)) {
            n += list_lowest(&left, first, out + n);
        }
        first = _mm512_add_epi64(first, _mm512_set1_epi64(64 * BITS_WORDS));
    }
    if (at < n_words && n_words - at < BITS_WORDS && bits_fit(n)) {
        n += list_group(words + at, n_words - at, 64 * at, out + n);
        at = n_words;
    }
    *n_out = n;
    return at;
}
