/* The words the vector code is written in, for ARMv8.2 with dot product and half precision; see simd_avx512_priv.h. */
#ifndef RV_KERNELS_SIMD_NEON_PRIV_H
#define RV_KERNELS_SIMD_NEON_PRIV_H
#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LEVEL(name) rv_##name##_neon
#define INLINE      static inline __attribute__((always_inline, unused))

typedef float32x4_t vf;
typedef int32x4_t vi;
enum { LANES = 4 };

/* ---- floats ---- */

INLINE vf vf_set(float x)
{
    return vdupq_n_f32(x);
}
INLINE vf vf_load(const float *p)
{
    return vld1q_f32(p);
}
INLINE vf vf_load_n(const float *p, size_t n) /* rest 0 */
{
    float full[4] = { 0 };
    memcpy(full, p, n * sizeof *p);
    return vld1q_f32(full);
}
INLINE void vf_store(float *p, vf x)
{
    vst1q_f32(p, x);
}
INLINE void vf_store_n(float *p, vf x, size_t n)
{
    float full[4];
    vst1q_f32(full, x);
    memcpy(p, full, n * sizeof *p);
}

INLINE vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return vdivq_f32(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
} /* a * b + c */
INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return vfmsq_f32(c, a, b);
} /* c - a * b */
INLINE vf vf_max(vf a, vf b)
{
    return vmaxq_f32(a, b);
}
INLINE vf vf_min(vf a, vf b)
{
    return vminq_f32(a, b);
}
INLINE vf vf_zero_below(vf x, vf floor, vf y) /* y where x >= floor or x is NaN, else 0 */
{
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(x, floor)));
}
INLINE uint32_t vf_below(vf x, vf limit) /* bit i: lane i is below */
{
    const uint32x4_t places = { 1, 2, 4, 8 };
    return vaddvq_u32(vandq_u32(vcltq_f32(x, limit), places));
}
INLINE vf vf_round(vf x)
{
    return vrndnq_f32(x);
}
INLINE vf vf_times_2_to(vf x, vf n) /* n whole, -126 .. 127 */
{
    int32x4_t exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
    return vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
}
INLINE float vf_sum(vf x)
{
    return vaddvq_f32(x);
}
INLINE float vf_largest(vf x)
{
    return vmaxvq_f32(x);
}
INLINE vf vf_sum_each(const vf x[LANES]) /* lane i: the sum of x[i] */
{
    return vpaddq_f32(vpaddq_f32(x[0], x[1]), vpaddq_f32(x[2], x[3]));
}

/* ---- halves ---- */

INLINE vf vf_load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
INLINE void vf_store_f16(uint16_t *p, vf x)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}
INLINE vf vf_load_f16_n(const uint16_t *p, size_t n)
{
    uint16_t full[4] = { 0 };
    memcpy(full, p, n * sizeof *p);
    return vf_load_f16(full);
}

/* ---- bytes ---- */

INLINE vi vi_set_4(const int8_t *p) /* the same 4 bytes in every lane */
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vdupq_n_s32(four);
}

INLINE vf vf_load_u8(const uint8_t *p)
{
    uint8x8_t bytes = vreinterpret_u8_s32(vget_low_s32(vi_set_4((const int8_t *)p)));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}
INLINE vf vf_load_i8(const int8_t *p)
{
    int8x8_t bytes = vreinterpret_s8_s32(vget_low_s32(vi_set_4(p)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}
INLINE void vf_store_i8(int8_t *p, vf x) /* rounded to nearest even, saturated */
{
    int16x4_t words = vqmovn_s32(vcvtnq_s32_f32(x));
    int32_t four = vget_lane_s32(vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(words, words))), 0);
    memcpy(p, &four, sizeof four);
}
INLINE int32_t sum_16_bytes(const int8_t *p)
{
    return vaddlvq_s8(vld1q_s8(p));
}

INLINE vi vi_zero(void)
{
    return vdupq_n_s32(0);
}
INLINE vi vi_set(int32_t x)
{
    return vdupq_n_s32(x);
}
INLINE vi vi_set_bytes(uint8_t x)
{
    return vreinterpretq_s32_u8(vdupq_n_u8(x));
}
INLINE vi vi_load(const void *p)
{
    return vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)p));
}
INLINE void vi_store(void *p, vi x)
{
    vst1q_u8(p, vreinterpretq_u8_s32(x));
}
INLINE vi vi_add(vi a, vi b)
{
    return vaddq_s32(a, b);
}
INLINE vi vi_and(vi a, vi b)
{
    return vandq_s32(a, b);
}
INLINE vi vi_and_or(vi a, vi mask, vi b)
{
    return vorrq_s32(vandq_s32(a, mask), b);
}
INLINE vi vi_left(vi a, unsigned n) /* mask afterwards: bits cross bytes */
{
    return vreinterpretq_s32_u16(vshlq_u16(vreinterpretq_u16_s32(a), vdupq_n_s16((int16_t)n)));
}
INLINE vi vi_right(vi a, unsigned n)
{
    return vreinterpretq_s32_u16(vshlq_u16(vreinterpretq_u16_s32(a), vdupq_n_s16((int16_t) - (int)n)));
}
INLINE vf vf_from_i(vi a)
{
    return vcvtq_f32_s32(a);
}
INLINE vi vi_max(vi a, vi b)
{
    return vmaxq_s32(a, b);
}
INLINE int32_t vi_largest(vi a)
{
    return vmaxvq_s32(a);
}
INLINE int32_t vi_sum(vi a)
{
    return vaddvq_s32(a);
}

/* Sums of four products per lane, of weights below 128 and signed bytes: begin at sum, add some, end. Exact. */
enum { PART_LIMIT = INT32_MAX };
INLINE vi vi_part_begin(vi sum)
{
    return sum;
}
INLINE vi vi_part_add(vi part, vi weights, vi bytes)
{
    return vdotq_s32(part, vreinterpretq_s8_s32(weights), vreinterpretq_s8_s32(bytes));
}
INLINE vi vi_part_end(vi sum, vi part)
{
    (void)sum;
    return part;
}

/* One such step for weights of whole bytes, kept as w + 128; the bias is taken off first. */
INLINE vi vi_start_biased(const int32_t *minus_128_sum)
{
    (void)minus_128_sum;
    return vdupq_n_s32(0);
}
INLINE vi vi_byte_weights(vi biased)
{
    return veorq_s32(biased, vi_set_bytes(0x80));
}
INLINE vi vi_dot_bytes(vi sum, vi weights, vi bytes)
{
    return vi_part_add(sum, weights, bytes);
}

/* sum += products of 4 * LANES signed bytes, exact for all values */
INLINE vi vi_dot_i8(vi sum, const int8_t *a, const int8_t *b)
{
    return vdotq_s32(sum, vld1q_s8(a), vld1q_s8(b));
}

#endif
