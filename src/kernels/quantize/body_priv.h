/* The same bits as quantize/scalar.c. */
#include "kernels/kernels_priv.h"

void LEVEL(quantize)(const float *x, size_t n, rv_act_block *out)
{
    for (size_t b = 0; b < n / 32; b++, x += 32, out++) {
        vi bits = vi_zero();
        for (size_t i = 0; i < 32; i += LANES) {
            bits = vi_max(bits, vi_and(vi_load(x + i), vi_set(0x7fffffff)));
        }
        const int32_t max_bits = vi_largest(bits);
        float max;
        memcpy(&max, &max_bits, sizeof max);
        const vf inverse = vf_set(max <= 1e-30f ? 0 : 127.0f / max);
        for (size_t i = 0; i < 32; i += LANES) {
            vf_store_i8(out->q + i, vf_mul(vf_load(x + i), inverse));
        }
        const int32_t first = sum_16_bytes(out->q), last = sum_16_bytes(out->q + 16), all = first + last;
        out->d = max <= 1e-30f ? 0 : max / 127.0f;
        out->s = out->d * (float)all;
        out->o[0] = -8 * all;
        out->o[1] = -16 * all;
        out->o[2] = -128 * all;
        out->o[3] = -32 * first;
        out->o[4] = -32 * last;
        out->unused = 0;
    }
}
