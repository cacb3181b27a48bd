/* The same bits as encode/scalar.c. */
#include "kernels/encode/encode_priv.h"

float LEVEL(encode)(const float *x, size_t n, int8_t *q, int32_t *squares)
{
    const size_t whole = n / LANES * LANES, rest = n - whole;
    float last[LANES] = { 0 };
    int8_t last_q[LANES];
    memcpy(last, x + whole, rest * sizeof *x);
    vi bits = vi_and(vi_load(last), vi_set(0x7fffffff));
    for (size_t i = 0; i < whole; i += LANES) {
        bits = vi_max(bits, vi_and(vi_load(x + i), vi_set(0x7fffffff)));
    }
    float inverse, step = encode_step(vi_largest(bits), &inverse);
    *squares = 0;
    if (step == 0) {
        memset(q, 0, n);
        return 0;
    }
    for (size_t i = 0; i < whole; i += LANES) {
        vf_store_i8(q + i, vf_mul(vf_load(x + i), vf_set(inverse)));
    }
    vf_store_i8(last_q, vf_mul(vf_load(last), vf_set(inverse)));
    memcpy(q + whole, last_q, rest);
    *squares = LEVEL(dot_i8)(q, q, n);
    return step;
}
