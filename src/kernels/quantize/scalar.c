#include "kernels/kernels_priv.h"

#include <math.h>
#include <string.h>

/* Rounds to nearest even; every level gives the same bits. Blocks below 1e-30 become zero, so that 127 / max stays
 * finite. The maximum is taken on the bits, which order like the magnitudes, so that a NaN or an infinity in the block
 * stays visible in d and reaches the result. */
void rv_quantize_scalar(const float *x, size_t n, rv_act_block *out)
{
    for (size_t b = 0; b < n / 32; b++, x += 32) {
        uint32_t max_bits = 0;
        for (size_t i = 0; i < 32; i++) {
            uint32_t bits;
            memcpy(&bits, &x[i], sizeof bits);
            bits &= 0x7fffffff;
            max_bits = bits > max_bits ? bits : max_bits;
        }
        float max;
        memcpy(&max, &max_bits, sizeof max);
        float inverse = max <= 1e-30f ? 0 : 127.0f / max;
        int32_t sum[2] = { 0, 0 };
        for (size_t i = 0; i < 32; i++) {
            out[b].q[i] = (int8_t)lrintf(x[i] * inverse);
            sum[i / 16] += out[b].q[i];
        }
        int32_t all = sum[0] + sum[1];
        out[b].d = max <= 1e-30f ? 0 : max / 127.0f;
        out[b].s = out[b].d * (float)all;
        out[b].o[0] = -8 * all;
        out[b].o[1] = -16 * all;
        out[b].o[2] = -128 * all;
        out[b].o[3] = -32 * sum[0];
        out[b].o[4] = -32 * sum[1];
        out[b].unused = 0;
    }
}
