/* The words the vector code is written in, for AVX-512: vf is LANES floats, vi is LANES 32-bit integers (or their bytes).
 * Bodies (<operation>/body_priv.h) are written once in these words and compiled once per level. */
#ifndef RV_KERNELS_SIMD_AVX512_PRIV_H
#define RV_KERNELS_SIMD_AVX512_PRIV_H
#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LEVEL(name) rv_##name##_avx512
#define INLINE      static inline __attribute__((always_inline, unused))

typedef __m512 vf;
typedef __m512i vi;
enum { LANES = 16 };

/* ---- floats ---- */

INLINE __mmask16 first_lanes(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

INLINE vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE vf vf_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
} /* rest 0 */
INLINE void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
INLINE void vf_store_n(float *p, vf x, size_t n)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), x);
}

INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
} /* a * b + c */
INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
} /* c - a * b */
INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
} /* b when either is NaN */
INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
INLINE vf vf_zero_below(vf x, vf floor, vf y) /* y where x >= floor or x is NaN, else 0 */
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, floor, _CMP_NLT_UQ), y);
}
INLINE uint32_t vf_below(vf x, vf limit) /* bit i: lane i is below */
{
    return _mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ);
}
INLINE vf vf_round(vf x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE vf vf_times_2_to(vf x, vf n)
{
    return _mm512_scalef_ps(x, n);
} /* n whole, -126 .. 127 */
INLINE float vf_sum(vf x)
{
    return _mm512_reduce_add_ps(x);
}
INLINE float vf_largest(vf x)
{
    return _mm512_reduce_max_ps(x);
}

INLINE vf sum_4_of_each_quarter(vf a, vf b, vf c, vf d) /* per 128 bits: sums of a, b, c, d */
{
    vf ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    vf cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512d ab_pd = _mm512_castps_pd(ab), cd_pd = _mm512_castps_pd(cd);
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab_pd, cd_pd)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(ab_pd, cd_pd)));
}
INLINE vf vf_sum_each(const vf x[LANES]) /* lane i: the sum of x[i] */
{
    vf a = sum_4_of_each_quarter(x[0], x[1], x[2], x[3]), b = sum_4_of_each_quarter(x[4], x[5], x[6], x[7]);
    vf c = sum_4_of_each_quarter(x[8], x[9], x[10], x[11]),
       d = sum_4_of_each_quarter(x[12], x[13], x[14], x[15]);
    vf ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    vf cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

/* ---- halves ---- */

INLINE vf vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE void vf_store_f16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE vf vf_load_f16_n(const uint16_t *p, size_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}

/* ---- bytes ---- */

INLINE vf vf_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE vf vf_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

INLINE void vf_store_i8(int8_t *p, vf x) /* rounded to nearest even, saturated */
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
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
    return _mm512_setzero_si512();
}
INLINE vi vi_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}
INLINE vi vi_set_bytes(uint8_t x)
{
    return _mm512_set1_epi8((char)x);
}
INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
INLINE void vi_store(void *p, vi x)
{
    _mm512_storeu_si512(p, x);
}
INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
INLINE vi vi_and_or(vi a, vi mask, vi b)
{
    return _mm512_ternarylogic_epi64(a, mask, b, 0xea);
} /* (a & mask) | b */
INLINE vi vi_left(vi a, unsigned n)
{
    return _mm512_slli_epi16(a, n);
} /* mask afterwards: bits cross bytes */
INLINE vi vi_right(vi a, unsigned n)
{
    return _mm512_srli_epi16(a, n);
}
INLINE vf vf_from_i(vi a)
{
    return _mm512_cvtepi32_ps(a);
}
INLINE vi vi_max(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}
INLINE int32_t vi_largest(vi a)
{
    return _mm512_reduce_max_epi32(a);
}
INLINE int32_t vi_sum(vi a)
{
    return _mm512_reduce_add_epi32(a);
}

INLINE vi vi_set_4(const int8_t *p) /* the same 4 bytes in every lane */
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}
/* Sums of four products per lane, of unsigned weights and signed bytes: begin at sum, add some, end. Exact as
 * long as no sum of two of the four can pass PART_LIMIT. */
enum { PART_LIMIT = INT32_MAX };
INLINE vi vi_part_begin(vi sum)
{
    return sum;
}
INLINE vi vi_part_add(vi part, vi weights, vi bytes)
{
    return _mm512_dpbusd_epi32(part, weights, bytes);
}
INLINE vi vi_part_end(vi sum, vi part)
{
    (void)sum;
    return part;
}

/* One such step for weights of whole bytes, kept as w + 128. Here the 128 stays in and the sum has to start at -128 * (sum of bytes). */
INLINE vi vi_start_biased(const int32_t *minus_128_sum)
{
    return _mm512_set1_epi32(*minus_128_sum);
}
INLINE vi vi_byte_weights(vi biased)
{
    return biased;
}
INLINE vi vi_dot_bytes(vi sum, vi weights, vi bytes)
{
    return _mm512_dpbusd_epi32(sum, weights, bytes);
}

/* sum += products of 4 * LANES signed bytes, exact for all values */
INLINE vi vi_dot_i8(vi sum, const int8_t *a, const int8_t *b)
{
    const __m512i bias = _mm512_set1_epi8((char)0x80), y = _mm512_loadu_si512(b);
    __m512i x = _mm512_xor_si512(_mm512_loadu_si512(a), bias);
    return _mm512_sub_epi32(_mm512_dpbusd_epi32(sum, x, y),
                            _mm512_dpbusd_epi32(_mm512_setzero_si512(), bias, y));
}

#endif
