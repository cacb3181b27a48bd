#include "kernels/kernels_priv.h"

void rv_f32_to_f16_scalar(const float *x, uint16_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = rv_f32_to_f16(x[i]);
    }
}

void rv_f16_to_f32_scalar(const uint16_t *x, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = rv_f16_to_f32(x[i]);
    }
}
