#include "kernels/encode/encode_priv.h"

#include <math.h>

float rv_encode_scalar(const float *x, size_t n, int8_t *q, int32_t *squares)
{
    int32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    float inverse, step = encode_step(largest, &inverse);
    *squares = 0;
    if (step == 0) {
        memset(q, 0, n);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        q[i] = (int8_t)lrintf(x[i] * inverse);
        *squares += q[i] * q[i];
    }
    return step;
}
