#include "kernels/kernels_priv.h"

#include <arm_neon.h>
#include <math.h>

void rv_hadamard_neon(float *x, size_t n)
{
    if (n < 4) {
        rv_hadamard_scalar(x, n);
        return;
    }
    for (size_t i = 0; i < n; i += 4) { /* steps 1 and 2 of four elements */
        float a = x[i] + x[i + 1], b = x[i] - x[i + 1], c = x[i + 2] + x[i + 3], d = x[i + 2] - x[i + 3];
        x[i] = a + c;
        x[i + 1] = b + d;
        x[i + 2] = a - c;
        x[i + 3] = b - d;
    }
    for (size_t width = 4; width < n; width *= 2) {
        for (size_t i = 0; i < n; i += 2 * width) {
            for (size_t j = i; j < i + width; j += 4) {
                float32x4_t a = vld1q_f32(x + j), b = vld1q_f32(x + j + width);
                vst1q_f32(x + j, vaddq_f32(a, b));
                vst1q_f32(x + j + width, vsubq_f32(a, b));
            }
        }
    }
    float32x4_t scale = vdupq_n_f32(1 / sqrtf((float)n));
    for (size_t i = 0; i < n; i += 4) {
        vst1q_f32(x + i, vmulq_f32(vld1q_f32(x + i), scale));
    }
}
