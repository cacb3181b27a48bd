#include "kernels/kernels_priv.h"

/* x [n_heads][dim]; element i turns with element i + dim / 2. */
void rv_rope_scalar(float *x, const float *cos, const float *sin, size_t n_heads, size_t dim)
{
    size_t half = dim / 2;
    for (size_t h = 0; h < n_heads; h++) {
        float *low = x + h * dim, *high = low + half;
        for (size_t i = 0; i < half; i++) {
            float a = low[i], b = high[i];
            low[i] = a * cos[i] - b * sin[i];
            high[i] = b * cos[i] + a * sin[i];
        }
    }
}
