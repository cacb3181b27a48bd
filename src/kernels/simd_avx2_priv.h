/* The words the vector code is written in, for AVX2 with FMA and F16C; see simd_avx512_priv.h. */
#ifndef RV_KERNELS_SIMD_AVX2_PRIV_H
#define RV_KERNELS_SIMD_AVX2_PRIV_H
#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LEVEL(name) rv_##name##_avx2
#define INLINE      static inline __attribute__((always_inline, unused))

typedef __m256 vf;
typedef __m256i vi;
enum { LANES = 8 };

/* ---- floats ---- */

INLINE __m256i first_lanes(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE vf vf_set(float x)
{
    return _mm256_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
INLINE vf vf_load_n(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, first_lanes(n));
} /* rest 0 */
INLINE void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}
INLINE void vf_store_n(float *p, vf x, size_t n)
{
    _mm256_maskstore_ps(p, first_lanes(n), x);
}

INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
} /* a * b + c */
INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
} /* c - a * b */
INLINE vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
} /* b when either is NaN */
INLINE vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
INLINE vf vf_zero_below(vf x, vf floor, vf y) /* y where x >= floor or x is NaN, else 0 */
{
    return _mm256_and_ps(_mm256_cmp_ps(x, floor, _CMP_NLT_UQ), y);
}
INLINE uint32_t vf_below(vf x, vf limit) /* bit i: lane i is below */
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ));
}
INLINE vf vf_round(vf x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE vf vf_times_2_to(vf x, vf n) /* n whole, -126 .. 127 */
{
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
INLINE float vf_sum(vf x)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
INLINE float vf_largest(vf x)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

INLINE vf sum_4_of_each_half(vf a, vf b, vf c, vf d) /* per 128 bits: sums of a, b, c, d */
{
    vf ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    vf cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    __m256d ab_pd = _mm256_castps_pd(ab), cd_pd = _mm256_castps_pd(cd);
    return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(ab_pd, cd_pd)),
                         _mm256_castpd_ps(_mm256_unpackhi_pd(ab_pd, cd_pd)));
}
INLINE vf vf_sum_each(const vf x[LANES]) /* lane i: the sum of x[i] */
{
    vf a = sum_4_of_each_half(x[0], x[1], x[2], x[3]), b = sum_4_of_each_half(x[4], x[5], x[6], x[7]);
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* ---- halves ---- */

INLINE vf vf_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE void vf_store_f16(uint16_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE vf vf_load_f16_n(const uint16_t *p, size_t n)
{
    uint16_t full[8] = { 0 };
    memcpy(full, p, n * sizeof *p);
    return vf_load_f16(full);
}

/* ---- bytes ---- */

INLINE vf vf_load_u8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
INLINE vf vf_load_i8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

INLINE void vf_store_i8(int8_t *p, vf x) /* rounded to nearest even, saturated */
{
    __m256i wide = _mm256_cvtps_epi32(x);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
}

INLINE int32_t sum_16_bytes(const int8_t *p)
{
    /* sad adds unsigned bytes, so they go in as x + 128 */
    __m128i biased = _mm_xor_si128(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8((char)0x80));
    __m128i halves = _mm_sad_epu8(biased, _mm_setzero_si128());
    return _mm_cvtsi128_si32(halves) + _mm_extract_epi16(halves, 4) - 16 * 128;
}

INLINE vi vi_zero(void)
{
    return _mm256_setzero_si256();
}
INLINE vi vi_set(int32_t x)
{
    return _mm256_set1_epi32(x);
}
INLINE vi vi_set_bytes(uint8_t x)
{
    return _mm256_set1_epi8((char)x);
}
INLINE vi vi_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
INLINE void vi_store(void *p, vi x)
{
    _mm256_storeu_si256((__m256i *)p, x);
}
INLINE vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}
INLINE vi vi_and_or(vi a, vi mask, vi b)
{
    return _mm256_or_si256(_mm256_and_si256(a, mask), b);
}
INLINE vi vi_left(vi a, unsigned n)
{
    return _mm256_slli_epi16(a, (int)n);
} /* mask afterwards: bits cross bytes */
INLINE vi vi_right(vi a, unsigned n)
{
    return _mm256_srli_epi16(a, (int)n);
}
INLINE vf vf_from_i(vi a)
{
    return _mm256_cvtepi32_ps(a);
}
INLINE vi vi_max(vi a, vi b)
{
    return _mm256_max_epi32(a, b);
}
INLINE int32_t vi_largest(vi a)
{
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
}
INLINE int32_t vi_sum(vi a)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

INLINE vi vi_set_4(const int8_t *p) /* the same 4 bytes in every lane */
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}
/* Sums of whole numbers are made where they are written: gcc, which may move them, would first make all products of a block, keep
 * them in memory, and add them up in the end. */
INLINE vi made_here(vi sum)
{
    __asm__("" : "+x"(sum));
    return sum;
}

/* Sums of four products per lane, of unsigned weights and signed bytes: begin at sum, add some, end. A part is sums of two
 * products in 16 bits, exact as long as none can pass PART_LIMIT. */
enum { PART_LIMIT = INT16_MAX };
INLINE vi vi_part_begin(vi sum)
{
    (void)sum;
    return _mm256_setzero_si256();
}
INLINE vi vi_part_add(vi part, vi weights, vi bytes)
{
    return made_here(_mm256_add_epi16(part, _mm256_maddubs_epi16(weights, bytes)));
}
INLINE vi vi_part_end(vi sum, vi part)
{
    return made_here(_mm256_add_epi32(sum, _mm256_madd_epi16(part, _mm256_set1_epi16(1))));
}

/* One such step for weights of whole bytes, kept as w + 128: pairs would saturate, so the bias is taken off first and the sign of the
 * weight moves to the byte. 2 * 128 * 127 is below 32767, so this is exact too. */
INLINE vi vi_start_biased(const int32_t *minus_128_sum)
{
    (void)minus_128_sum;
    return _mm256_setzero_si256();
}
INLINE vi vi_byte_weights(vi biased)
{
    return _mm256_xor_si256(biased, _mm256_set1_epi8((char)0x80));
}
INLINE vi vi_dot_bytes(vi sum, vi weights, vi bytes)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(bytes, weights));
    __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
    return sum;
}

/* sum += products of 4 * LANES signed bytes, exact for all values */
INLINE vi vi_dot_i8(vi sum, const int8_t *a, const int8_t *b)
{
    for (size_t i = 0; i < 32; i += 16) {
        __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(a + i)));
        __m256i y = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + i)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
    }
    return sum;
}

#endif
