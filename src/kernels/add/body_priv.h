#include "kernels/kernels_priv.h"

void LEVEL(add)(float *x, const float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf_store(x + i, vf_add(vf_load(x + i), vf_load(y + i)));
    }
    if (i < n) {
        vf_store_n(x + i, vf_add(vf_load_n(x + i, n - i), vf_load_n(y + i, n - i)), n - i);
    }
}
