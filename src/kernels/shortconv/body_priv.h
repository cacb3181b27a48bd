/* Kernel length 3, the one in use, as a loop the compiler vectorises; other lengths go to the definition. Same bits. */
#include "kernels/kernels_priv.h"

void LEVEL(shortconv)(const float *u, const float *conv, float *state, size_t h, size_t k, float *out)
{
    if (k != 3) {
        rv_shortconv_scalar(u, conv, state, h, k, out);
        return;
    }
    const float *restrict b = u, *restrict gate = u + h, *restrict z = u + 2 * h, *restrict tap = conv;
    float *restrict past = state, *restrict y = out;
    for (size_t c = 0; c < h; c++) {
        float now = b[c] * z[c];
        float sum = now * tap[3 * c + 2] + past[2 * c] * tap[3 * c] + past[2 * c + 1] * tap[3 * c + 1];
        past[2 * c] = past[2 * c + 1];
        past[2 * c + 1] = now;
        y[c] = gate[c] * sum;
    }
}
