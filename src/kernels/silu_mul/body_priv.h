/* Error at most 3 ulp of the result for gate above -87; below, silu is 0 to within 1e-36. */
#include "kernels/kernels_priv.h"
#include "kernels/simd_exp_priv.h"

INLINE vf silu_times(vf gate, vf up)
{
    vf one_plus = vf_add(vf_set(1), vf_exp(vf_sub(vf_set(0), gate)));
    return vf_mul(vf_div(gate, one_plus), up);
}

void LEVEL(silu_mul)(float *gate, const float *up, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf_store(gate + i, silu_times(vf_load(gate + i), vf_load(up + i)));
    }
    if (i < n) {
        vf_store_n(gate + i, silu_times(vf_load_n(gate + i, n - i), vf_load_n(up + i, n - i)), n - i);
    }
}
