#include "kernels/kernels_priv.h"

#include <math.h>

/* n is a multiple of 32. Rounds to nearest even. Blocks below 1e-30 become zero, so that 127 / max stays finite.
 * Every level gives the same bits; a block with an infinity or a NaN gives an unspecified result. */
void rv_quantize_scalar(const float *x, size_t n, int8_t *q, float *d, float *s, int32_t *o)
{
    for (size_t b = 0; b < n / 32; b++, x += 32, q += 32, o += 4) {
        float max = 0;
        for (size_t i = 0; i < 32; i++) {
            float magnitude = fabsf(x[i]);
            max = magnitude > max ? magnitude : max;
        }
        float inverse = max > 1e-30f ? 127.0f / max : 0;
        int32_t sum[2] = { 0, 0 };
        for (size_t i = 0; i < 32; i++) {
            q[i] = (int8_t)lrintf(x[i] * inverse);
            sum[i / 16] += q[i];
        }
        d[b] = max > 1e-30f ? max / 127.0f : 0;
        s[b] = d[b] * (float)(sum[0] + sum[1]);
        o[0] = -8 * (sum[0] + sum[1]);
        o[1] = -128 * (sum[0] + sum[1]);
        o[2] = -32 * sum[0];
        o[3] = -32 * sum[1];
    }
}
