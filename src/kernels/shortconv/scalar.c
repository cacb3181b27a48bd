#include "kernels/kernels_priv.h"

void rv_shortconv_scalar(const float *u, const float *conv, float *state, size_t h, size_t k, float *out)
{
    for (size_t c = 0; c < h; c++) {
        float now = u[c] * u[2 * h + c];
        float *past = state + c * (k - 1); /* oldest first */
        const float *taps = conv + c * k;
        float sum = now * taps[k - 1];
        for (size_t i = 0; i + 1 < k; i++) {
            sum += past[i] * taps[i];
            past[i] = i + 2 < k ? past[i + 1] : now;
        }
        out[c] = u[h + c] * sum;
    }
}
