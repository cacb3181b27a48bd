/* The quantised types, each as 32 small integers with one scale per 16 of them and one minimum:
 *     weight[i] = scale[i / 16] * q[i] + min
 * This is the definition of the formats; everything else is checked against it. Products are rounded in the order of
 * the format (d * scale first, then * q), so expanded rows are exact to the last bit. */
#ifndef RV_KERNELS_UNPACK_PRIV_H
#define RV_KERNELS_UNPACK_PRIV_H
#include "kernels/blocks.h"

typedef struct rv_unpacked {
    int8_t q[32];
    float scale[2]; /* of the first and the last 16; equal except in Q6_K */
    float min;      /* 0 in types without one */
} rv_unpacked;

/* block b (32 weights) of a row */
typedef void rv_unpack_fn(const void *row, size_t b, rv_unpacked *out);

static inline void unpack_nibbles(const uint8_t qs[16], const uint8_t *high, int offset, int8_t q[32])
{
    for (int i = 0; i < 16; i++) {
        int low_bit = high ? high[i / 8] >> (i % 8) & 1 : 0;
        int high_bit = high ? high[2 + i / 8] >> (i % 8) & 1 : 0;
        q[i] = (int8_t)((qs[i] & 15) + 16 * low_bit - offset);
        q[i + 16] = (int8_t)((qs[i] >> 4) + 16 * high_bit - offset);
    }
}

static inline void unpack_scale(rv_unpacked *out, float scale, float min)
{
    out->scale[0] = out->scale[1] = scale;
    out->min = min;
}

static inline void rv_unpack_q4_0(const void *row, size_t b, rv_unpacked *out)
{
    const rv_block_q4_0 *block = (const rv_block_q4_0 *)row + b;
    unpack_nibbles(block->qs, NULL, 8, out->q);
    unpack_scale(out, rv_f16_to_f32(block->d), 0);
}

static inline void rv_unpack_q4_1(const void *row, size_t b, rv_unpacked *out)
{
    const rv_block_q4_1 *block = (const rv_block_q4_1 *)row + b;
    unpack_nibbles(block->qs, NULL, 0, out->q);
    unpack_scale(out, rv_f16_to_f32(block->d), rv_f16_to_f32(block->m));
}

static inline void rv_unpack_q5_0(const void *row, size_t b, rv_unpacked *out)
{
    const rv_block_q5_0 *block = (const rv_block_q5_0 *)row + b;
    unpack_nibbles(block->qs, block->qh, 16, out->q);
    unpack_scale(out, rv_f16_to_f32(block->d), 0);
}

static inline void rv_unpack_q5_1(const void *row, size_t b, rv_unpacked *out)
{
    const rv_block_q5_1 *block = (const rv_block_q5_1 *)row + b;
    unpack_nibbles(block->qs, block->qh, 0, out->q);
    unpack_scale(out, rv_f16_to_f32(block->d), rv_f16_to_f32(block->m));
}

static inline void rv_unpack_q8_0(const void *row, size_t b, rv_unpacked *out)
{
    const rv_block_q8_0 *block = (const rv_block_q8_0 *)row + b;
    for (int i = 0; i < 32; i++) {
        out->q[i] = block->qs[i];
    }
    unpack_scale(out, rv_f16_to_f32(block->d), 0);
}

/* The 6-bit scale and minimum of sub-block s in the 12 bytes of Q4_K and Q5_K. */
static inline void rv_scale_min_k(const uint8_t bytes[12], size_t s, uint8_t *scale, uint8_t *min)
{
    if (s < 4) {
        *scale = bytes[s] & 63;
        *min = bytes[s + 4] & 63;
    } else {
        *scale = (uint8_t)((bytes[s + 4] & 15) | bytes[s - 4] >> 6 << 4);
        *min = (uint8_t)(bytes[s + 4] >> 4 | bytes[s] >> 6 << 4);
    }
}

static inline void rv_unpack_q4_k(const void *row, size_t b, rv_unpacked *out)
{
    const rv_block_q4_k *block = (const rv_block_q4_k *)row + b / 8;
    size_t s = b % 8;
    const uint8_t *qs = block->qs + s / 2 * 32;
    int shift = s % 2 ? 4 : 0;
    for (int i = 0; i < 32; i++) {
        out->q[i] = (int8_t)(qs[i] >> shift & 15);
    }
    uint8_t scale, min;
    rv_scale_min_k(block->scales, s, &scale, &min);
    unpack_scale(out, rv_f16_to_f32(block->d) * scale, -(rv_f16_to_f32(block->dmin) * min));
}

static inline void rv_unpack_q5_k(const void *row, size_t b, rv_unpacked *out)
{
    const rv_block_q5_k *block = (const rv_block_q5_k *)row + b / 8;
    size_t s = b % 8;
    const uint8_t *qs = block->qs + s / 2 * 32;
    int shift = s % 2 ? 4 : 0;
    for (int i = 0; i < 32; i++) {
        out->q[i] = (int8_t)((qs[i] >> shift & 15) + 16 * (block->qh[i] >> s & 1));
    }
    uint8_t scale, min;
    rv_scale_min_k(block->scales, s, &scale, &min);
    unpack_scale(out, rv_f16_to_f32(block->d) * scale, -(rv_f16_to_f32(block->dmin) * min));
}

static inline void rv_unpack_q6_k(const void *row, size_t b, rv_unpacked *out)
{
    const rv_block_q6_k *block = (const rv_block_q6_k *)row + b / 8;
    size_t half = b % 8 / 4, part = b % 4;
    const uint8_t *ql = block->ql + 64 * half + 32 * (part % 2), *qh = block->qh + 32 * half;
    int low_shift = part < 2 ? 0 : 4, high_shift = (int)(2 * part);
    for (int i = 0; i < 32; i++) {
        out->q[i] = (int8_t)(((ql[i] >> low_shift & 15) | (qh[i] >> high_shift & 3) << 4) - 32);
    }
    const int8_t *scales = block->scales + 8 * half + 2 * part;
    float d = rv_f16_to_f32(block->d);
    out->scale[0] = d * scales[0];
    out->scale[1] = d * scales[1];
    out->min = 0;
}
#endif
