/* float32 sum in one vector: n / LANES + 4 roundings, each of a part of the sum that is all positive. */
#include "kernels/kernels_priv.h"
#include "kernels/simd_exp_priv.h"

#include <math.h>

void LEVEL(softmax)(float *x, size_t n)
{
    const size_t whole = n - n % LANES;
    vf most = vf_set(-INFINITY), sum = vf_set(0);
    for (size_t i = 0; i < whole; i += LANES) {
        most = vf_max(vf_load(x + i), most);
    }
    float max = vf_largest(most);
    for (size_t i = whole; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    for (size_t i = 0; i < whole; i += LANES) {
        vf p = vf_exp(vf_sub(vf_load(x + i), vf_set(max)));
        sum = vf_add(sum, p);
        vf_store(x + i, p);
    }
    float rest = 0;
    if (whole < n) {
        vf p = vf_exp(vf_sub(vf_load_n(x + whole, n - whole), vf_set(max)));
        vf_store_n(x + whole, p, n - whole);
    }
    for (size_t i = whole; i < n; i++) {
        rest += x[i];
    }
    const vf scale = vf_set(1.0f / (vf_sum(sum) + rest));
    for (size_t i = 0; i < n; i += LANES) {
        const size_t m = n - i < LANES ? n - i : LANES;
        vf_store_n(x + i, vf_mul(vf_load_n(x + i, m), scale), m);
    }
}
