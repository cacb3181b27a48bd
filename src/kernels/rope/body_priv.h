#include "kernels/kernels_priv.h"

void LEVEL(rope)(float *x, const float *cos, const float *sin, size_t n_heads, size_t dim)
{
    const size_t half = dim / 2;
    for (size_t h = 0; h < n_heads; h++) {
        float *low = x + h * dim, *high = low + half;
        size_t i = 0;
        for (; i + LANES <= half; i += LANES) {
            vf a = vf_load(low + i), b = vf_load(high + i), c = vf_load(cos + i), s = vf_load(sin + i);
            vf_store(low + i, vf_fnma(b, s, vf_mul(a, c)));
            vf_store(high + i, vf_fma(a, s, vf_mul(b, c)));
        }
        if (i < half) {
            const size_t n = half - i;
            vf a = vf_load_n(low + i, n), b = vf_load_n(high + i, n);
            vf c = vf_load_n(cos + i, n), s = vf_load_n(sin + i, n);
            vf_store_n(low + i, vf_fnma(b, s, vf_mul(a, c)), n);
            vf_store_n(high + i, vf_fma(a, s, vf_mul(b, c)), n);
        }
    }
}
