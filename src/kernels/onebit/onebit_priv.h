/* What the levels of one-bit codes share. */
#ifndef RV_KERNELS_ONEBIT_PRIV_H
#define RV_KERNELS_ONEBIT_PRIV_H
#include "kernels/kernels_priv.h"

/* -largest .. largest in 15 steps; what to multiply with to count in steps. */
static inline float onebit_step(float largest, float *step)
{
    float to_steps = largest > 0 ? 7.5f / largest : 0;
    *step = to_steps > 0 && to_steps < 1e30f ? largest / 7.5f : 0;
    return *step > 0 ? to_steps : 0;
}

static inline float onebit_sum(float sums[16])
{
    for (size_t half = 8; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            sums[i] += sums[i + half];
        }
    }
    return sums[0];
}
#endif
