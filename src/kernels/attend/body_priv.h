/* Attention over runs of RUN keys. A run's keys and values are turned to float32 once for all heads; scores are dot
 * products of float32 vectors summed across lanes in one fixed order; the running maximum moves once per run. A head's
 * arithmetic depends on its own keys only, not on n_q. Online softmax: see attend/scalar.c. HEADS heads go through each
 * stage together, because a single head would wait for its own dot products, maximum and exponentials in turn.
 * Error against exact softmax: scores to dim / LANES + 4 roundings of |q||k|, weights to 3 ulp, sums to one rounding
 * per key. Shapes it is for: dim 64, 16 keys (a page), 2 .. 64 heads. */
#include "kernels/kernels_priv.h"
#include "kernels/simd_exp_priv.h"

#include <assert.h>
#include <math.h>

enum { RUN = 16, HEADS = 8 };

/* Tried: reading halves straight into the products for up to 4 heads. 12 % slower for 2 heads, 30 % for 4, dim 64. */
/* n vectors as float32 rows, then the last one again up to RUN: extra keys are never a new maximum, and weigh nothing */
INLINE const float *as_floats(const rv_attend_step *step, const void *base, size_t from, size_t n,
                              float *buffer)
{
    const size_t dim = step->dim;
    if (step->type == RV_F32 && n == RUN) {
        return (const float *)base + from * dim;
    }
    if (step->type == RV_F32) {
        memcpy(buffer, (const float *)base + from * dim, n * dim * sizeof *buffer);
    } else {
        LEVEL(f16_to_f32)((const uint16_t *)base + from * dim, buffer, n * dim);
    }
    for (size_t k = n; k < RUN; k++) {
        memcpy(buffer + k * dim, buffer + (n - 1) * dim, dim * sizeof *buffer);
    }
    return buffer;
}

/* score[i] = q . key i */
INLINE void scores(const float *q, const float *keys, size_t dim, float score[RUN])
{
    for (size_t first = 0; first < RUN; first += LANES) {
        const float *key = keys + first * dim;
        vf sum[LANES];
        for (size_t k = 0; k < LANES; k++) {
            sum[k] = vf_set(0);
        }
        size_t i = 0;
        for (; i + LANES <= dim; i += LANES) {
            const vf part = vf_load(q + i);
            for (size_t k = 0; k < LANES; k++) {
                sum[k] = vf_fma(part, vf_load(key + k * dim + i), sum[k]);
            }
        }
        for (size_t k = 0; i < dim && k < LANES; k++) {
            sum[k] = vf_fma(vf_load_n(q + i, dim - i), vf_load_n(key + k * dim + i, dim - i), sum[k]);
        }
        vf_store(score + first, vf_sum_each(sum));
    }
}

/* p: scores in, weights out; returns what the sums so far have to be multiplied with */
INLINE float weigh(const rv_attend_step *step, size_t head, size_t n, float p[RUN])
{
    const vf scale = vf_set(step->scale);
    vf most = vf_set(step->max[head]), sum = vf_set(0);
    for (size_t i = 0; i < RUN; i += LANES) {
        most = vf_max(vf_mul(vf_load(p + i), scale), most);
    }
    const float max = vf_largest(most);
    for (size_t i = 0; i < RUN; i += LANES) {
        vf_store(p + i, vf_exp(vf_sub(vf_mul(vf_load(p + i), scale), vf_set(max))));
        const size_t present = n <= i ? 0 : n - i < LANES ? n - i : LANES;
        sum = vf_add(sum, vf_load_n(p + i, present));
    }
    float shrink[LANES];
    vf_store(shrink, vf_exp(vf_set(step->max[head] - max)));
    step->sum[head] = step->sum[head] * shrink[0] + vf_sum(sum);
    step->max[head] = max;
    return shrink[0];
}

/* acc = acc * shrink + the n values, each times its weight */
INLINE void add_values(const float p[RUN], float shrink, const float *values, size_t n, size_t dim,
                       float *acc)
{
    enum { WIDE = 4 };
    size_t i = 0;
    for (; i + WIDE * LANES <= dim; i += WIDE * LANES) {
        vf sum[WIDE];
        for (size_t j = 0; j < WIDE; j++) {
            sum[j] = vf_mul(vf_load(acc + i + j * LANES), vf_set(shrink));
        }
        for (size_t k = 0; k < n; k++) {
            const vf weight = vf_set(p[k]);
            for (size_t j = 0; j < WIDE; j++) {
                sum[j] = vf_fma(weight, vf_load(values + k * dim + i + j * LANES), sum[j]);
            }
        }
        for (size_t j = 0; j < WIDE; j++) {
            vf_store(acc + i + j * LANES, sum[j]);
        }
    }
    for (; i < dim; i += LANES) {
        const size_t m = dim - i < LANES ? dim - i : LANES;
        vf sum = vf_mul(vf_load_n(acc + i, m), vf_set(shrink));
        for (size_t k = 0; k < n; k++) {
            sum = vf_fma(vf_set(p[k]), vf_load_n(values + k * dim + i, m), sum);
        }
        vf_store_n(acc + i, sum, m);
    }
}

/* Pages lie apart and are too short for the machine to notice a stream: with this, decoding with two heads reads pages
 * from memory at 13 GB/s instead of 7 (bench/kernels_attend). */
INLINE void prefetch(const void *base, size_t bytes)
{
    for (size_t i = 0; base && i < bytes; i += 64) {
        __builtin_prefetch((const char *)base + i);
    }
}

INLINE void attend_runs(const rv_attend_step *step, size_t dim)
{
    _Alignas(64) float key_buffer[RUN * RV_ATTEND_DIM], value_buffer[RUN * RV_ATTEND_DIM], p[HEADS][RUN];
    float shrink[HEADS];
    for (size_t from = 0; from < step->n_keys; from += RUN) {
        const size_t n = step->n_keys - from < RUN ? step->n_keys - from : RUN;
        const float *keys = as_floats(step, step->keys, from, n, key_buffer);
        const float *values = as_floats(step, step->values, from, n, value_buffer);
        for (size_t first = 0; first < step->n_q; first += HEADS) {
            const size_t heads = step->n_q - first < HEADS ? step->n_q - first : HEADS;
            for (size_t h = 0; h < heads; h++) {
                scores(step->q + (first + h) * dim, keys, dim, p[h]);
            }
            for (size_t h = 0; h < heads; h++) {
                shrink[h] = weigh(step, first + h, n, p[h]);
            }
            for (size_t h = 0; h < heads; h++) {
                add_values(p[h], shrink[h], values, n, dim, step->acc + (first + h) * dim);
            }
        }
    }
}

void LEVEL(attend)(const rv_attend_step *step)
{
    assert(step->dim <= RV_ATTEND_DIM);
    const size_t page_bytes = RUN * step->dim * (step->type == RV_F16 ? sizeof(uint16_t) : sizeof(float));
    prefetch(step->next_keys, page_bytes);
    prefetch(step->next_values, page_bytes);
    if (step->dim == 64) {
        attend_runs(step,
                    64); /* as all LFM2 models have it: a constant keeps the addresses out of registers */
    } else {
        attend_runs(step, step->dim);
    }
}
