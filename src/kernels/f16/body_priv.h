#include "kernels/kernels_priv.h"

void LEVEL(f32_to_f16)(const float *x, uint16_t *out, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf_store_f16(out + i, vf_load(x + i));
    }
    if (i < n) {
        uint16_t last[LANES];
        vf_store_f16(last, vf_load_n(x + i, n - i));
        memcpy(out + i, last, (n - i) * sizeof *out);
    }
}

void LEVEL(f16_to_f32)(const uint16_t *x, float *out, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf_store(out + i, vf_load_f16(x + i));
    }
    if (i < n) {
        vf_store_n(out + i, vf_load_f16_n(x + i, n - i), n - i);
    }
}
