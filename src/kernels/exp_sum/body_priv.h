/* float32 sum in one vector: n / LANES + 4 roundings, each of a part of the sum that is all positive. What is not finite shows in
 * the sum and is left to the scalar one. */
#include "kernels/kernels_priv.h"
#include "kernels/simd_exp_priv.h"

#include <float.h>
#include <math.h>

void LEVEL(exp_sum)(const float *x, size_t n, float *max, float *sum)
{
    const size_t whole = n - n % LANES;
    vf most = vf_set(-INFINITY), parts = vf_set(0);
    for (size_t i = 0; i < whole; i += LANES) {
        most = vf_max(vf_load(x + i), most);
    }
    float largest = vf_largest(most), rest[LANES] = { 0 };
    for (size_t i = whole; i < n; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    for (size_t i = 0; i < whole; i += LANES) {
        parts = vf_add(parts, vf_exp(vf_sub(vf_load(x + i), vf_set(largest))));
    }
    if (whole < n) {
        vf_store_n(rest, vf_exp(vf_sub(vf_load_n(x + whole, n - whole), vf_set(largest))), n - whole);
    }
    float all = vf_sum(parts);
    for (size_t i = 0; i < n - whole; i++) {
        all += rest[i];
    }
    if (!(all <= FLT_MAX && largest <= FLT_MAX)) {
        rv_exp_sum_scalar(x, n, max, sum);
        return;
    }
    *max = largest;
    *sum = all;
}
