#include "kernels/kernels_priv.h"

#include <math.h>

void rv_rmsnorm_scalar(const float *x, const float *weight, size_t n, float eps, float *out)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    float scale = n ? (float)(1.0 / sqrt(sum / (double)n + (double)eps)) : 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = x[i] * scale * weight[i];
    }
}
