#include "kernels/kernels_priv.h"
#include "kernels/kvq.h"

#include <assert.h>
#include <math.h>

enum { RUN = 16 }; /* keys that share one look at the maximum */

static float element(rv_type type, const void *base, size_t i)
{
    return type == RV_F16 ? rv_f16_to_f32(((const uint16_t *)base)[i]) : ((const float *)base)[i];
}

static float key_at(const rv_attend_step *s, size_t key, size_t i)
{
    return s->type == RV_F16 || s->type == RV_F32
               ? element(s->type, s->keys, (key / RUN * s->dim + i) * RUN + key % RUN)
               : rv_kvq_key(s->type, s->dim, s->keys, key, i);
}

static float value_at(const rv_attend_step *s, size_t key, size_t i)
{
    return s->type == RV_F16 || s->type == RV_F32 ? element(s->type, s->values, key * s->dim + i)
                                                  : rv_kvq_value(s->type, s->dim, s->values, key, i);
}

/* Online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867): max and sum so far, and acc = the weighted values
 * so far, all relative to exp(max). */
static void attend_run(const rv_attend_step *step, size_t head, size_t from, size_t n)
{
    const float *q = step->q + head * step->dim;
    float *acc = step->acc + head * step->dim;
    float score[RUN], max = step->max[head];
    for (size_t k = 0; k < n; k++) {
        double dot = 0;
        for (size_t i = 0; i < step->dim; i++) {
            dot += (double)q[i] * (double)key_at(step, from + k, i);
        }
        score[k] = (float)(dot * (double)step->scale);
        max = score[k] > max ? score[k] : max;
    }
    float shrink = expf(step->max[head] - max);
    step->max[head] = max;
    step->sum[head] *= shrink;
    for (size_t i = 0; i < step->dim; i++) {
        acc[i] *= shrink;
    }
    for (size_t k = 0; k < n; k++) {
        float p = expf(score[k] - max);
        step->sum[head] += p;
        for (size_t i = 0; i < step->dim; i++) {
            acc[i] += p * value_at(step, from + k, i);
        }
    }
}

void rv_attend_scalar(const rv_attend_step *step)
{
    assert(step->dim <= RV_ATTEND_DIM && step->first_key % RUN == 0);
    for (size_t from = step->first_key; from < step->n_keys; from += RUN) {
        size_t n = step->n_keys - from < RUN ? step->n_keys - from : RUN;
        for (size_t head = 0; head < step->n_q; head++) {
            attend_run(step, head, from, n);
        }
    }
}
