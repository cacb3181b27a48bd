/* Rows of any type as float32. Plain loops, compiled once per level: the compiler vectorises them, and because nothing
 * is contracted or reordered the result is the same bits everywhere. Include after defining LEVEL(name). */
#include "kernels/kernels_priv.h"
#include "kernels/unpack_priv.h"

#include <string.h>

static void expand_f32(const void *row, float *out, size_t n)
{
    memcpy(out, row, n * sizeof *out);
}

static void expand_bf16(const void *row, float *out, size_t n)
{
    const uint16_t *x = row;
    for (size_t i = 0; i < n; i++) {
        out[i] = rv_bf16_to_f32(x[i]);
    }
}

static void expand_f16(const void *row, float *out, size_t n)
{
    LEVEL(f16_to_f32)(row, out, n);
}

static inline void expand_plain(rv_unpack_fn *unpack, const void *row, float *out, size_t n)
{
    for (size_t b = 0; b < n / 32; b++) {
        rv_unpacked block;
        unpack(row, b, &block);
        for (size_t i = 0; i < 32; i++) {
            out[32 * b + i] = block.scale[i / 16] * (float)block.q[i];
        }
    }
}

static inline void expand_min(rv_unpack_fn *unpack, const void *row, float *out, size_t n)
{
    for (size_t b = 0; b < n / 32; b++) {
        rv_unpacked block;
        unpack(row, b, &block);
        for (size_t i = 0; i < 32; i++) {
            out[32 * b + i] = block.scale[0] * (float)block.q[i] + block.min;
        }
    }
}

static void expand_q4_0(const void *row, float *out, size_t n)
{
    expand_plain(rv_unpack_q4_0, row, out, n);
}
static void expand_q4_1(const void *row, float *out, size_t n)
{
    expand_min(rv_unpack_q4_1, row, out, n);
}
static void expand_q5_0(const void *row, float *out, size_t n)
{
    expand_plain(rv_unpack_q5_0, row, out, n);
}
static void expand_q5_1(const void *row, float *out, size_t n)
{
    expand_min(rv_unpack_q5_1, row, out, n);
}
static void expand_q8_0(const void *row, float *out, size_t n)
{
    expand_plain(rv_unpack_q8_0, row, out, n);
}
static void expand_q4_k(const void *row, float *out, size_t n)
{
    expand_min(rv_unpack_q4_k, row, out, n);
}
static void expand_q5_k(const void *row, float *out, size_t n)
{
    expand_min(rv_unpack_q5_k, row, out, n);
}
static void expand_q6_k(const void *row, float *out, size_t n)
{
    expand_plain(rv_unpack_q6_k, row, out, n);
}

rv_expand_fn *const LEVEL(expand_table)[RV_TYPE_LIMIT] = {
    [RV_F32] = expand_f32,   [RV_F16] = expand_f16,   [RV_BF16] = expand_bf16, [RV_Q4_0] = expand_q4_0,
    [RV_Q4_1] = expand_q4_1, [RV_Q5_0] = expand_q5_0, [RV_Q5_1] = expand_q5_1, [RV_Q8_0] = expand_q8_0,
    [RV_Q4_K] = expand_q4_k, [RV_Q5_K] = expand_q5_k, [RV_Q6_K] = expand_q6_k,
};
