#include "kernels/kernels_priv.h"

#include <math.h>

/* Steps of width 1, 2, 4 ..., then the scale: every element is made by the same additions at every level, so the bits agree.
 * Error below log2(n) + 1 roundings of the largest sum. */
void rv_hadamard_scalar(float *x, size_t n)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t i = 0; i < n; i += 2 * width) {
            for (size_t j = i; j < i + width; j++) {
                float a = x[j], b = x[j + width];
                x[j] = a + b;
                x[j + width] = a - b;
            }
        }
    }
    float scale = 1 / sqrtf((float)n);
    for (size_t i = 0; i < n; i++) {
        x[i] *= scale;
    }
}
