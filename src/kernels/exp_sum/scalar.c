#include "kernels/kernels_priv.h"

#include <float.h>
#include <math.h>

void rv_exp_sum_scalar(const float *x, size_t n, float *max, float *sum)
{
    float most = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        most = x[i] > most && x[i] <= FLT_MAX ? x[i] : most;
    }
    double all = 0;
    for (size_t i = 0; i < n; i++) {
        all += fabsf(x[i]) <= FLT_MAX ? (double)expf(x[i] - most) : 0;
    }
    *max = most;
    *sum = (float)all;
}
