/* float32 sums in four vectors (four chains hide the latency of an FMA), added at the end.
 * Error at most (n / (4 * LANES) + 8) float32 roundings of sum |a * b|. */
#include "kernels/kernels_priv.h"

float LEVEL(dot_f32)(const float *a, const float *b, size_t n)
{
    vf sum[4] = { vf_set(0), vf_set(0), vf_set(0), vf_set(0) };
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        for (size_t j = 0; j < 4; j++) {
            sum[j] = vf_fma(vf_load(a + i + j * LANES), vf_load(b + i + j * LANES), sum[j]);
        }
    }
    for (; i + LANES <= n; i += LANES) {
        sum[0] = vf_fma(vf_load(a + i), vf_load(b + i), sum[0]);
    }
    if (i < n) {
        sum[1] = vf_fma(vf_load_n(a + i, n - i), vf_load_n(b + i, n - i), sum[1]);
    }
    return vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

float LEVEL(l2sq_f32)(const float *a, const float *b, size_t n)
{
    vf sum[4] = { vf_set(0), vf_set(0), vf_set(0), vf_set(0) };
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        for (size_t j = 0; j < 4; j++) {
            vf diff = vf_sub(vf_load(a + i + j * LANES), vf_load(b + i + j * LANES));
            sum[j] = vf_fma(diff, diff, sum[j]);
        }
    }
    for (; i + LANES <= n; i += LANES) {
        vf diff = vf_sub(vf_load(a + i), vf_load(b + i));
        sum[0] = vf_fma(diff, diff, sum[0]);
    }
    if (i < n) {
        vf diff = vf_sub(vf_load_n(a + i, n - i), vf_load_n(b + i, n - i));
        sum[1] = vf_fma(diff, diff, sum[1]);
    }
    return vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

/* int32 sums: |a * b| <= 128 * 128, safe to n = 131,071. */
int32_t LEVEL(dot_i8)(const int8_t *a, const int8_t *b, size_t n)
{
    vi sum[2] = { vi_zero(), vi_zero() };
    size_t i = 0;
    for (; i + 8 * LANES <= n; i += 8 * LANES) {
        sum[0] = vi_dot_i8(sum[0], a + i, b + i);
        sum[1] = vi_dot_i8(sum[1], a + i + 4 * LANES, b + i + 4 * LANES);
    }
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        sum[0] = vi_dot_i8(sum[0], a + i, b + i);
    }
    int32_t rest = vi_sum(vi_add(sum[0], sum[1]));
    for (; i < n; i++) {
        rest += a[i] * b[i];
    }
    return rest;
}
