#include "kernels/kernels_priv.h"
#include "kernels/unpack_priv.h"

#include <assert.h>
#include <math.h>

enum { TOKENS = 8, CHUNK = 256 };

/* The int8 product. Per 32-block, in column order and rounded exactly as written, at every level:
 *     sum = fma(scale * dot, d, sum)                                   types with one scale per block
 *     sum = fma(fma(scale[1], dot[1], scale[0] * dot[0]), d, sum)      Q6_K, dot[0] and dot[1] of 16 columns each
 *     sum = fma(min, s, sum)                                           types with a minimum, after the above
 * The dots are exact (at most 32 * 128 * 127, below 2^24), so every level and every batch gives the same bits. */
typedef struct format {
    rv_unpack_fn *unpack;
    bool halves, minimum;
} format;

static const format formats[RV_TYPE_LIMIT] = {
    [RV_Q4_0] = { rv_unpack_q4_0, false, false }, [RV_Q4_1] = { rv_unpack_q4_1, false, true },
    [RV_Q5_0] = { rv_unpack_q5_0, false, false }, [RV_Q5_1] = { rv_unpack_q5_1, false, true },
    [RV_Q8_0] = { rv_unpack_q8_0, false, false }, [RV_Q4_K] = { rv_unpack_q4_k, false, true },
    [RV_Q5_K] = { rv_unpack_q5_k, false, true },  [RV_Q6_K] = { rv_unpack_q6_k, true, false },
};

static int32_t dot_16(const int8_t *a, const int8_t *b)
{
    int32_t sum = 0;
    for (int i = 0; i < 16; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static float add_block(const format *f, const rv_unpacked *w, const rv_act_block *a, float sum)
{
    int32_t first = dot_16(w->q, a->q), last = dot_16(w->q + 16, a->q + 16);
    float value = f->halves ? fmaf((float)last, w->scale[1], (float)first * w->scale[0])
                            : (float)(first + last) * w->scale[0];
    sum = fmaf(value, a->d, sum);
    return f->minimum ? fmaf(w->min, a->s, sum) : sum;
}

static void matmul_i8(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,
                      size_t out_stride)
{
    const format *f = &formats[w->type];
    size_t row_bytes = 0, blocks = x->cols / 32;
    bool whole = rv_type_row_bytes(w->type, w->cols, &row_bytes);
    assert(whole && f->unpack);
    (void)whole;
    for (size_t first = 0; first < x->n_tokens; first += TOKENS) {
        size_t n = x->n_tokens - first < TOKENS ? x->n_tokens - first : TOKENS;
        for (size_t r = row_from; r < row_to; r++) {
            const char *row = (const char *)w->raw + r * row_bytes;
            float sum[TOKENS] = { 0 };
            for (size_t b = 0; b < blocks; b++) {
                rv_unpacked block;
                f->unpack(row, b, &block);
                for (size_t t = 0; t < n; t++) {
                    sum[t] = add_block(f, &block, &x->blocks[(first + t) * blocks + b], sum[t]);
                }
            }
            for (size_t t = 0; t < n; t++) {
                out[(first + t) * out_stride + r] = sum[t];
            }
        }
    }
}

/* The float32 product: rows expanded CHUNK columns at a time, float64 sums. */
static void matmul_f32(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,
                       size_t out_stride)
{
    const rv_type_info *info = rv_type_get((uint32_t)w->type);
    size_t row_bytes = 0;
    bool whole = rv_type_row_bytes(w->type, w->cols, &row_bytes);
    assert(whole && info);
    (void)whole;
    for (size_t first = 0; first < x->n_tokens; first += TOKENS) {
        size_t n = x->n_tokens - first < TOKENS ? x->n_tokens - first : TOKENS;
        for (size_t r = row_from; r < row_to; r++) {
            const char *row = (const char *)w->raw + r * row_bytes;
            double sum[TOKENS] = { 0 };
            for (size_t c = 0; c < w->cols; c += CHUNK) {
                float weights[CHUNK];
                size_t len = w->cols - c < CHUNK ? w->cols - c : CHUNK;
                rv_expand_table_scalar[w->type](row + c / info->block_weights * info->block_bytes, weights,
                                                len);
                for (size_t t = 0; t < n; t++) {
                    const float *a = x->f32 + (first + t) * x->stride + c;
                    for (size_t i = 0; i < len; i++) {
                        sum[t] += (double)weights[i] * (double)a[i];
                    }
                }
            }
            for (size_t t = 0; t < n; t++) {
                out[(first + t) * out_stride + r] = (float)sum[t];
            }
        }
    }
}

void rv_matmul_scalar(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,
                      size_t out_stride)
{
    assert(w->cols == x->cols && w->raw && row_to <= w->rows);
    if (x->blocks && formats[w->type].unpack) {
        matmul_i8(w, x, row_from, row_to, out, out_stride);
    } else {
        matmul_f32(w, x, row_from, row_to, out, out_stride);
    }
}

size_t rv_pack_bytes_scalar(rv_type type, size_t rows, size_t cols)
{
    (void)type, (void)rows, (void)cols;
    return 0; /* reads raw rows */
}
