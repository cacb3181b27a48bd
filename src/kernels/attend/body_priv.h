/* Attention over runs of RUN keys. A run's keys and values are turned to float32 once for all heads, whatever they are kept
 * as. Keys lie channel by channel, so the scores of a run are sums of vectors and nothing is summed across lanes; the
 * running maximum moves once per run. A head's arithmetic depends on its own keys only, not on n_q. Online softmax: see
 * attend/scalar.c. Heads go through the products a few together, because a key or value loaded then serves them all.
 * Error against exact softmax: scores to dim / 4 + 4 roundings of |q||k|, weights to 3 ulp, sums to one rounding
 * per key. Shapes it is for: dim 64, 16 keys (a page) or 64 (a block), 2 .. 64 heads. */
#include "kernels/kernels_priv.h"
#include "kernels/kvq.h"
#include "kernels/simd_exp_priv.h"

#include <assert.h>
#include <math.h>

enum {
    RUN = RV_KVQ_RUN,
    HEADS = 8,
    VECS = RUN / LANES,           /* of a run's scores */
    CHAINS = 4,                   /* of a score: one alone would wait for each sum */
    SCORED = LANES == 16 ? 4 : 1, /* heads together; their sums have to fit the registers */
    ADDED = LANES == 16 ? 4 : 2,
    FEW = LANES == 16 ? 4 : 1,
    GROUP_MAX = (RV_ATTEND_DIM + 31) / 32,
};

/* ---- from what is kept to float32 ---- */

INLINE void halves(const uint16_t *in, size_t n, float *out)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf_store(out + i, vf_load_f16(in + i));
    }
    if (i < n) {
        vf_store_n(out + i, vf_load_f16_n(in + i, n - i), n - i);
    }
}

INLINE void spread(const uint8_t *in, size_t bytes, uint8_t *out)
{
    for (size_t i = 0; i < bytes; i++) {
        out[i] = in[i] & 15;
        out[bytes + i] = in[i] >> 4;
    }
}

INLINE void keys_of_8(size_t dim, const rv_kvq_layout *l, const uint8_t *run, float *out)
{
    for (size_t g = 0; g < l->groups; g++) {
        const size_t end = dim < g * 32 + 32 ? dim : g * 32 + 32;
        for (size_t j = 0; j < RUN; j += LANES) {
            const uint8_t *at = run + l->scales_at + (g * RUN + j) * sizeof(uint16_t);
            const vf scale = vf_load_f16((const uint16_t *)(const void *)at);
            for (size_t i = g * 32; i < end; i++) {
                const vf q = vf_load_i8((const int8_t *)run + i * RUN + j);
                vf_store(out + i * RUN + j, vf_mul(scale, q));
            }
        }
    }
}

INLINE void keys_of_4(size_t dim, const uint8_t *block, const uint8_t *run, float *out)
{
    uint8_t q[RV_ATTEND_DIM * RUN];
    float min[RV_ATTEND_DIM], scale[RV_ATTEND_DIM];
    spread(run, dim * RUN / 2, q);
    halves((const uint16_t *)(const void *)block, dim, min);
    halves((const uint16_t *)(const void *)block + dim, dim, scale);
    for (size_t i = 0; i < dim; i++) {
        for (size_t j = 0; j < RUN; j += LANES) {
            vf_store(out + i * RUN + j,
                     vf_fma(vf_set(scale[i]), vf_load_u8(q + i * RUN + j), vf_set(min[i])));
        }
    }
}

/* [dim][RUN] */
INLINE const float *keys_of(const rv_attend_step *step, size_t dim, size_t from, float *buffer)
{
    if (step->type == RV_F32) {
        return (const float *)step->keys + from * dim;
    }
    if (step->type == RV_F16) {
        halves((const uint16_t *)step->keys + from * dim, RUN * dim, buffer);
        return buffer;
    }
    const rv_kvq_layout l = rv_kvq_keys(step->type, dim);
    const uint8_t *block = step->keys, *run = block + l.runs_at + from / RUN * l.run_bytes;
    if (step->type == RV_Q8_0) {
        keys_of_8(dim, &l, run, buffer);
    } else {
        keys_of_4(dim, block, run, buffer);
    }
    return buffer;
}

INLINE void values_of_8(size_t dim, const rv_kvq_layout *l, const uint8_t *run, float *out)
{
    float scale[RUN * GROUP_MAX];
    halves((const uint16_t *)(const void *)(run + l->scales_at), RUN * l->groups, scale);
    for (size_t t = 0; t < RUN; t++) {
        for (size_t i = 0; i < dim; i += LANES) {
            const vf s = vf_set(scale[t * l->groups + i / 32]);
            vf_store(out + t * dim + i, vf_mul(s, vf_load_i8((const int8_t *)run + t * dim + i)));
        }
    }
}

INLINE void values_of_4(size_t dim, const rv_kvq_layout *l, const uint8_t *run, float *out)
{
    uint8_t q[RV_ATTEND_DIM * RUN];
    float min[RUN * GROUP_MAX], scale[RUN * GROUP_MAX];
    const uint16_t *scales = (const uint16_t *)(const void *)(run + l->scales_at);
    spread(run, dim * RUN / 2, q);
    halves(scales, RUN * l->groups, min);
    halves(scales + RUN * l->groups, RUN * l->groups, scale);
    for (size_t t = 0; t < RUN; t++) {
        for (size_t i = 0; i < dim; i += LANES) {
            const size_t g = t * l->groups + i / 32;
            vf_store(out + t * dim + i,
                     vf_fma(vf_set(scale[g]), vf_load_u8(q + t * dim + i), vf_set(min[g])));
        }
    }
}

/* [n][dim] */
INLINE const float *values_of(const rv_attend_step *step, size_t dim, size_t from, size_t n, float *buffer)
{
    if (step->type == RV_F32) {
        return (const float *)step->values + from * dim;
    }
    if (step->type == RV_F16) {
        halves((const uint16_t *)step->values + from * dim, n * dim, buffer);
        return buffer;
    }
    const rv_kvq_layout l = rv_kvq_values(step->type, dim);
    const uint8_t *run = (const uint8_t *)step->values + from / RUN * l.run_bytes;
    if (step->type == RV_Q8_0) {
        values_of_8(dim, &l, run, buffer);
    } else {
        values_of_4(dim, &l, run, buffer);
    }
    return buffer;
}

/* ---- the three stages of a run ---- */

/* Numbers i .. i + LANES - 1 of what is in half precision or float32. */
INLINE vf number(rv_type type, const void *in, size_t i)
{
    return type == RV_F16 ? vf_load_f16((const uint16_t *)in + i) : vf_load((const float *)in + i);
}

INLINE vf number_n(rv_type type, const void *in, size_t i, size_t n)
{
    return type == RV_F16 ? vf_load_f16_n((const uint16_t *)in + i, n) : vf_load_n((const float *)in + i, n);
}

/* Pages lie apart and are too short for the machine to notice a stream, so the next one is fetched while this one is used: line by
 * line where few heads look at it (FEW), because a processor has room for a dozen lines under way and waits when it is asked for a
 * page at once. bench/kernels_attend, pages of half precision from memory, without hints, at once, and line by line: two heads on an
 * AMD of Zen 4 at twice the rate at once; on an Intel Xeon (Ice Lake) 7.5 and 9.4 GB/s, and with four heads 6.0 and 9.5. */
INLINE void prefetch(const void *base, size_t at, size_t bytes)
{
    for (size_t i = 0; base && i < bytes; i += 64) {
        __builtin_prefetch((const char *)base + at + i);
    }
}

/* p[h][i] = q[h] . key i. Four sums per score, of every fourth channel, then (0 + 1) + (2 + 3). next: keys in half precision to
 * fetch meanwhile, or NULL; the same below. */
INLINE void scores_of(size_t heads, const float *q, rv_type type, const void *keys, const void *next,
                      size_t dim, float (*p)[RUN])
{
    vf sum[SCORED][CHAINS][VECS];
    for (size_t h = 0; h < heads; h++) {
        for (size_t c = 0; c < CHAINS; c++) {
            for (size_t j = 0; j < VECS; j++) {
                sum[h][c][j] = vf_set(0);
            }
        }
    }
    size_t i = 0;
    for (; i + CHAINS <= dim; i += CHAINS) {
        prefetch(next, i * RUN * sizeof(uint16_t), CHAINS * RUN * sizeof(uint16_t));
        for (size_t c = 0; c < CHAINS; c++) {
            for (size_t j = 0; j < VECS; j++) {
                const vf key = number(type, keys, (i + c) * RUN + j * LANES);
                for (size_t h = 0; h < heads; h++) {
                    sum[h][c][j] = vf_fma(vf_set(q[h * dim + i + c]), key, sum[h][c][j]);
                }
            }
        }
    }
    for (; i < dim; i++) {
        for (size_t h = 0; h < heads; h++) {
            for (size_t j = 0; j < VECS; j++) {
                const vf key = number(type, keys, i * RUN + j * LANES);
                sum[h][0][j] = vf_fma(vf_set(q[h * dim + i]), key, sum[h][0][j]);
            }
        }
    }
    for (size_t h = 0; h < heads; h++) {
        for (size_t j = 0; j < VECS; j++) {
            vf_store(p[h] + j * LANES,
                     vf_add(vf_add(sum[h][0][j], sum[h][1][j]), vf_add(sum[h][2][j], sum[h][3][j])));
        }
    }
}

/* p: scores in, weights out; returns what the sums so far have to be multiplied with */
INLINE float weigh(const rv_attend_step *step, size_t head, size_t n, float p[RUN])
{
    for (size_t k = n; k < RUN; k++) {
        p[k] = p[n - 1]; /* never a new maximum, and weighs nothing */
    }
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

/* acc[h] = acc[h] * shrink[h] + the n values, each times its weight */
INLINE void add_values(size_t heads, float (*p)[RUN], const float *shrink, rv_type type, const void *values,
                       const void *next, size_t n, size_t dim, float *acc)
{
    enum { WIDE = 4 };
    size_t i = 0;
    for (; i + WIDE * LANES <= dim; i += WIDE * LANES) {
        vf sum[ADDED][WIDE];
        for (size_t h = 0; h < heads; h++) {
            for (size_t j = 0; j < WIDE; j++) {
                sum[h][j] = vf_mul(vf_load(acc + h * dim + i + j * LANES), vf_set(shrink[h]));
            }
        }
        for (size_t k = 0; k < n; k++) {
            prefetch(next, (k * dim + i) * sizeof(uint16_t), WIDE * LANES * sizeof(uint16_t));
            for (size_t j = 0; j < WIDE; j++) {
                const vf value = number(type, values, k * dim + i + j * LANES);
                for (size_t h = 0; h < heads; h++) {
                    sum[h][j] = vf_fma(vf_set(p[h][k]), value, sum[h][j]);
                }
            }
        }
        for (size_t h = 0; h < heads; h++) {
            for (size_t j = 0; j < WIDE; j++) {
                vf_store(acc + h * dim + i + j * LANES, sum[h][j]);
            }
        }
    }
    for (; i < dim; i += LANES) {
        const size_t m = dim - i < LANES ? dim - i : LANES;
        for (size_t h = 0; h < heads; h++) {
            vf sum = vf_mul(vf_load_n(acc + h * dim + i, m), vf_set(shrink[h]));
            for (size_t k = 0; k < n; k++) {
                sum = vf_fma(vf_set(p[h][k]), number_n(type, values, k * dim + i, m), sum);
            }
            vf_store_n(acc + h * dim + i, sum, m);
        }
    }
}

/* ---- all of it ---- */

INLINE void score_all(size_t heads, const float *q, rv_type type, const void *keys, const void *next,
                      size_t dim, float (*p)[RUN])
{
    size_t h = 0;
    for (; h + SCORED <= heads; h += SCORED) {
        scores_of(SCORED, q + h * dim, type, keys, h ? NULL : next, dim, p + h);
    }
    for (; SCORED > 2 && h + 2 <= heads; h += 2) {
        scores_of(2, q + h * dim, type, keys, h ? NULL : next, dim, p + h);
    }
    for (; h < heads; h++) {
        scores_of(1, q + h * dim, type, keys, h ? NULL : next, dim, p + h);
    }
}

INLINE void add_all(size_t heads, float (*p)[RUN], const float *shrink, rv_type type, const void *values,
                    const void *next, size_t n, size_t dim, float *acc)
{
    size_t h = 0;
    for (; h + ADDED <= heads; h += ADDED) {
        add_values(ADDED, p + h, shrink + h, type, values, h ? NULL : next, n, dim, acc + h * dim);
    }
    for (; ADDED > 2 && h + 2 <= heads; h += 2) {
        add_values(2, p + h, shrink + h, type, values, h ? NULL : next, n, dim, acc + h * dim);
    }
    for (; h < heads; h++) {
        add_values(1, p + h, shrink + h, type, values, h ? NULL : next, n, dim, acc + h * dim);
    }
}

/* As many heads as go through the products together: nothing is loaded twice, so nothing is kept as float32 between. The same bits
 * as below, in half the time for two heads (bench/kernels_attend, Zen 4: 124 ns per 16 keys and head from memory instead of 245). */
INLINE void attend_few(const rv_attend_step *step, size_t dim)
{
    _Alignas(64) float p[HEADS][RUN]; /* FEW are used, but compilers that do not see it warn */
    float shrink[HEADS];
    for (size_t from = step->first_key; from < step->n_keys; from += RUN) {
        const size_t n = step->n_keys - from < RUN ? step->n_keys - from : RUN;
        score_all(step->n_q, step->q, RV_F16, (const uint16_t *)step->keys + from * dim,
                  from ? NULL : step->next_keys, dim, p);
        for (size_t h = 0; h < step->n_q; h++) {
            shrink[h] = weigh(step, h, n, p[h]);
        }
        add_all(step->n_q, p, shrink, RV_F16, (const uint16_t *)step->values + from * dim,
                from ? NULL : step->next_values, n, dim, step->acc);
    }
}

INLINE void attend_runs(const rv_attend_step *step, size_t dim)
{
    _Alignas(64) float key_buffer[RUN * RV_ATTEND_DIM], value_buffer[RUN * RV_ATTEND_DIM], p[HEADS][RUN];
    float shrink[HEADS];
    for (size_t from = step->first_key; from < step->n_keys; from += RUN) {
        const size_t n = step->n_keys - from < RUN ? step->n_keys - from : RUN;
        const float *keys = keys_of(step, dim, from, key_buffer);
        const float *values = values_of(step, dim, from, n, value_buffer);
        for (size_t first = 0; first < step->n_q; first += HEADS) {
            const size_t heads = step->n_q - first < HEADS ? step->n_q - first : HEADS;
            score_all(heads, step->q + first * dim, RV_F32, keys, NULL, dim, p);
            for (size_t h = 0; h < heads; h++) {
                shrink[h] = weigh(step, first + h, n, p[h]);
            }
            add_all(heads, p, shrink, RV_F32, values, NULL, n, dim, step->acc + first * dim);
        }
    }
}

void LEVEL(attend)(const rv_attend_step *step)
{
    assert(step->dim <= RV_ATTEND_DIM && step->first_key % RUN == 0);
    if (step->type == RV_F16 && step->n_q <= FEW) {
        if (step->dim == 64) {
            attend_few(step,
                       64); /* as all LFM2 models have it: a constant keeps the addresses out of registers */
        } else {
            attend_few(step, step->dim);
        }
        return;
    }
    if (step->type == RV_F16 || step->type == RV_F32) {
        const size_t bytes =
            step->n_keys * step->dim * (step->type == RV_F16 ? sizeof(uint16_t) : sizeof(float));
        prefetch(step->next_keys, 0, bytes);
        prefetch(step->next_values, 0, bytes);
    } else {
        prefetch(step->next_keys, 0, rv_kvq_keys(step->type, step->dim).bytes);
        prefetch(step->next_values, 0, rv_kvq_values(step->type, step->dim).bytes);
    }
    if (step->dim == 64) {
        attend_runs(step, 64);
    } else {
        attend_runs(step, step->dim);
    }
}
