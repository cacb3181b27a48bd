/* float32 sum of squares in four vectors; error of the mean at most (n / (4 * LANES) + 8) roundings. */
#include "kernels/kernels_priv.h"

#include <math.h>

void LEVEL(rmsnorm)(const float *x, const float *weight, size_t n, float eps, float *out)
{
    float mean = n ? LEVEL(dot_f32)(x, x, n) / (float)n : 0;
    vf scale = vf_set(1.0f / sqrtf(mean + eps));
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf_store(out + i, vf_mul(vf_mul(vf_load(x + i), scale), vf_load(weight + i)));
    }
    if (i < n) {
        vf_store_n(out + i, vf_mul(vf_mul(vf_load_n(x + i, n - i), scale), vf_load_n(weight + i, n - i)),
                   n - i);
    }
}
