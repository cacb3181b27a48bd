#include "kernels/kernels_priv.h"

void rv_add_scalar(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] += y[i];
    }
}
