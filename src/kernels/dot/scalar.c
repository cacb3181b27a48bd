#include "kernels/kernels_priv.h"

/* float64 sum; error below one float32 rounding of the result plus n * 2^-53 * sum |a * b|. */
float rv_dot_f32_scalar(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return (float)sum;
}

float rv_l2sq_f32_scalar(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double diff = (double)a[i] - (double)b[i];
        sum += diff * diff;
    }
    return (float)sum;
}

/* int32 sum: |a * b| <= 128 * 128, safe to n = 131,071. */
int32_t rv_dot_i8_scalar(const int8_t *a, const int8_t *b, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}
