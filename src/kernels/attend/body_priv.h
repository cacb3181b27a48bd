/* Attention over runs of RUN keys. A run's keys and values are turned to float32 once for all heads; scores are dot
 * products of float32 vectors summed across lanes in one fixed order; the running maximum moves once per run. A head's
 * arithmetic depends on its own keys only, not on n_q. Online softmax: see attend/scalar.c.
 * Error against exact softmax: scores to dim / LANES + 4 roundings of |q||k|, weights to 3 ulp, sums to one rounding
 * per key. Shapes it is for: dim 64, 16 keys (a page), 2 .. 64 heads. */
#include "kernels/kernels_priv.h"
#include "kernels/simd_exp_priv.h"

#include <assert.h>
#include <math.h>

enum { RUN = 16, MAX_DIM = 256 };

/* n vectors of dim as float32 in rows: in place when they are that already */
INLINE const float *as_floats(const rv_attend_step *step, const void *base, size_t from, size_t n,
                              float *buffer)
{
    if (step->type == RV_F32) {
        return (const float *)base + from * step->dim;
    }
    LEVEL(f16_to_f32)((const uint16_t *)base + from * step->dim, buffer, n * step->dim);
    return buffer;
}

/* score[i] = q . key i for the n keys of a run; the rest are those of key n - 1 again */
INLINE void scores(const float *q, const float *keys, size_t n, size_t dim, float score[RUN])
{
    for (size_t first = 0; first < RUN; first += LANES) {
        const float *key[LANES];
        vf sum[LANES];
        for (size_t k = 0; k < LANES; k++) {
            key[k] = keys + (first + k < n ? first + k : n - 1) * dim;
            sum[k] = vf_set(0);
        }
        size_t i = 0;
        for (; i + LANES <= dim; i += LANES) {
            const vf part = vf_load(q + i);
            for (size_t k = 0; k < LANES; k++) {
                sum[k] = vf_fma(part, vf_load(key[k] + i), sum[k]);
            }
        }
        for (size_t k = 0; i < dim && k < LANES; k++) {
            sum[k] = vf_fma(vf_load_n(q + i, dim - i), vf_load_n(key[k] + i, dim - i), sum[k]);
        }
        vf_store(score + first, vf_sum_each(sum));
    }
}

INLINE void add_values(const float p[RUN], float shrink, const float *values, size_t n, size_t dim,
                       float *acc)
{
    for (size_t i = 0; i < dim; i += LANES) {
        const size_t m = dim - i < LANES ? dim - i : LANES;
        vf sum = vf_mul(vf_load_n(acc + i, m), vf_set(shrink));
        for (size_t k = 0; k < n; k++) {
            sum = vf_fma(vf_set(p[k]), vf_load_n(values + k * dim + i, m), sum);
        }
        vf_store_n(acc + i, sum, m);
    }
}

static void attend_head(const rv_attend_step *step, size_t head, const float *keys, const float *values,
                        size_t n)
{
    float p[RUN], shrink[LANES];
    scores(step->q + head * step->dim, keys, n, step->dim, p);
    vf most = vf_set(step->max[head]), sum = vf_set(0);
    for (size_t i = 0; i < RUN; i += LANES) {
        most = vf_max(vf_mul(vf_load(p + i), vf_set(step->scale)), most);
    }
    const float max = vf_largest(most);
    for (size_t i = 0; i < RUN; i += LANES) {
        vf weight = vf_exp(vf_sub(vf_mul(vf_load(p + i), vf_set(step->scale)), vf_set(max)));
        vf_store(p + i, weight);
        const size_t m = n <= i ? 0 : n - i < LANES ? n - i : LANES;
        sum = vf_add(sum, vf_load_n(p + i, m)); /* keys that are not there weigh nothing */
    }
    vf_store(shrink, vf_exp(vf_set(step->max[head] - max)));
    step->sum[head] = step->sum[head] * shrink[0] + vf_sum(sum);
    step->max[head] = max;
    add_values(p, shrink[0], values, n, step->dim, step->acc + head * step->dim);
}

void LEVEL(attend)(const rv_attend_step *step)
{
    float key_buffer[RUN * MAX_DIM], value_buffer[RUN * MAX_DIM];
    assert(step->dim <= MAX_DIM);
    for (size_t from = 0; from < step->n_keys; from += RUN) {
        const size_t n = step->n_keys - from < RUN ? step->n_keys - from : RUN;
        const float *keys = as_floats(step, step->keys, from, n, key_buffer);
        const float *values = as_floats(step, step->values, from, n, value_buffer);
        for (size_t head = 0; head < step->n_q; head++) {
            attend_head(step, head, keys, values, n);
        }
    }
}
