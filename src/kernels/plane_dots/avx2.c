#include "kernels/kernels_priv.h"

#include <immintrin.h>
#include <string.h>

/* Byte i of 32 bytes is all ones where bit i is set. */
static inline __m256i spread(const uint8_t *plane)
{
    const __m256i which =
        _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
    uint32_t bits;
    memcpy(&bits, plane, sizeof bits);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), which);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
}

static inline int32_t sum_8(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* Pairs of what a plane leaves of q, times its weight: at most 2 * 128 * 128, one too many for 16 bits, so the weight comes
 * after. int32 sums as in the definition. */
void rv_plane_dots_avx2(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows, size_t bits,
                        const int8_t *q, size_t n, int32_t *out)
{
    const __m256i ones = _mm256_set1_epi8(1);
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = codes + rows[r] * stride;
        __m256i sum = _mm256_setzero_si256();
        for (size_t i = 0; i < n; i += 32) {
            __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(q + i));
            for (size_t plane = 0; plane < bits; plane++) {
                __m256i left = _mm256_and_si256(x, spread(row + plane * n / 8 + i / 8));
                __m256i pairs = _mm256_maddubs_epi16(ones, left);
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16((short)(1 << plane))));
            }
        }
        out[r] = sum_8(sum);
    }
}
