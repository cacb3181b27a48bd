/* Random matrices in every format, and their exact product. */
#ifndef TESTS_KERNELS_MATRIX_H
#define TESTS_KERNELS_MATRIX_H
#include "test.h"
#include "kernels/kernels.h"
#include "base/rng.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const rv_type all_types[] = { RV_F32,  RV_F16,  RV_BF16, RV_Q4_0, RV_Q4_1, RV_Q5_0,
                                     RV_Q5_1, RV_Q8_0, RV_Q4_K, RV_Q5_K, RV_Q6_K };

static inline bool is_quantised(rv_type type)
{
    return type != RV_F32 && type != RV_F16 && type != RV_BF16;
}

/* Any finite half: sub-normal, huge and negative ones included. */
static inline uint16_t any_f16(rv_rng *rng)
{
    uint16_t h = (uint16_t)rv_rng_next(rng);
    return (h & 0x7c00) == 0x7c00 ? (uint16_t)(h & 0x83ff) : h;
}

/* Random bytes, except that scales and plain numbers are finite. tame: scales are near 0.01 as in real models. */
static inline void fill_block(rv_rng *rng, rv_type type, bool tame, uint8_t *block)
{
    const rv_type_info *info = rv_type_get((uint32_t)type);
    for (size_t i = 0; i < info->block_bytes; i++) {
        block[i] = (uint8_t)rv_rng_next(rng);
    }
    uint16_t first = any_f16(rng), second = any_f16(rng);
    if (tame) {
        first = rv_f32_to_f16(0.01f * rv_rng_normal(rng));
        second = rv_f32_to_f16(0.01f * rv_rng_normal(rng));
    }
    float plain = rv_rng_normal(rng);
    uint32_t plain_bits;
    memcpy(&plain_bits, &plain, sizeof plain);
    uint16_t bf16 = (uint16_t)(plain_bits >> 16);
    switch (type) {
    case RV_F32: memcpy(block, &plain, sizeof plain); break;
    case RV_BF16: memcpy(block, &bf16, sizeof bf16); break;
    case RV_Q6_K: memcpy(block + 208, &first, sizeof first); break;
    case RV_Q4_1:
    case RV_Q5_1:
    case RV_Q4_K:
    case RV_Q5_K: memcpy(block + 2, &second, sizeof second); /* fall through */
    default: memcpy(block, &first, sizeof first);
    }
}

static inline rv_matrix random_matrix(rv_rng *rng, rv_type type, size_t rows, size_t cols, bool tame)
{
    const rv_type_info *info = rv_type_get((uint32_t)type);
    size_t row_bytes = 0;
    CHECK(rv_type_row_bytes(type, cols, &row_bytes), "%s has no rows of %zu", info->name, cols);
    uint8_t *raw = fenced_bytes(rows * row_bytes);
    for (size_t at = 0; at < rows * row_bytes; at += info->block_bytes) {
        fill_block(rng, type, tame, raw + at);
    }
    return (rv_matrix){ .type = type, .rows = rows, .cols = cols, .raw = raw };
}

static inline rv_matrix packed_matrix(const rv_kernels *k, rv_matrix w)
{
    size_t bytes = k->pack_bytes(w.type, w.rows, w.cols);
    if (bytes > 0) {
        uint8_t *packed = fenced_bytes(bytes);
        size_t middle = w.rows / 2 / RV_ROW_STEP * RV_ROW_STEP;
        k->pack(&w, middle, w.rows, packed); /* in two parts, as two threads would */
        k->pack(&w, 0, middle, packed);
        w.packed = packed;
    }
    return w;
}

static inline rv_act random_act(rv_rng *rng, const rv_kernels *k, size_t cols, size_t n_tokens, bool int8)
{
    size_t stride = cols + 3;
    float *x = fenced_floats(n_tokens * stride);
    for (size_t i = 0; i < n_tokens * stride; i++) {
        x[i] = rv_rng_normal(rng) *
               (rv_rng_below(rng, 50) == 0 ? 20.0f : 1.0f); /* with outliers, as real ones */
    }
    rv_act act;
    rv_act_fill(k, x, stride, cols, n_tokens, int8 ? fenced_bytes(rv_act_bytes(cols, n_tokens)) : NULL, &act);
    return act;
}

/* The same activations for another level. */
static inline rv_act act_for(const rv_kernels *k, const rv_act *a)
{
    rv_act act;
    rv_act_fill(k, a->f32, a->stride, a->cols, a->n_tokens,
                a->blocks ? fenced_bytes(rv_act_bytes(a->cols, a->n_tokens)) : NULL, &act);
    return act;
}
#endif
