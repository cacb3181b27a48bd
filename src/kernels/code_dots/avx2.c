#include "kernels/kernels_priv.h"

#include <immintrin.h>

/* 16-bit products of widened bytes: _mm256_maddubs_epi16 would saturate. int32 sums of at most 128 * 128 each: safe to
 * n = 131,071. */
static inline __m256i step(__m256i sum, const uint8_t *row, __m256i low, __m256i high)
{
    __m256i code = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)row), _mm256_set1_epi8((char)0x80));
    __m256i a = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(code));
    __m256i b = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(code, 1));
    return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(a, low), _mm256_madd_epi16(b, high)));
}

static inline int32_t sum_8(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

void rv_code_dots_avx2(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows,
                       const int8_t *q, size_t n, int32_t *out)
{
    for (size_t r = 0; r < n_rows; r += 2) {
        size_t second = r + 1 < n_rows ? r + 1 : r;
        const uint8_t *one = codes + (rows ? rows[r] : r) * stride;
        const uint8_t *two = codes + (rows ? rows[second] : second) * stride;
        __m256i a = _mm256_setzero_si256(), b = a;
        size_t i = 0;
        for (; i + 32 <= n; i += 32) {
            __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(q + i)));
            __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(q + i + 16)));
            a = step(a, one + i, low, high);
            b = step(b, two + i, low, high);
        }
        int32_t sum_one = sum_8(a), sum_two = sum_8(b);
        for (; i < n; i++) {
            sum_one += (one[i] - 128) * q[i];
            sum_two += (two[i] - 128) * q[i];
        }
        out[r] = sum_one;
        out[second] = r == second ? sum_one : sum_two;
    }
}
