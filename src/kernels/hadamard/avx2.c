#include "kernels/kernels_priv.h"

#include <immintrin.h>
#include <math.h>

/* Steps inside one vector: the partners change places, and the second of each pair changes its sign before the sum. */
static inline __m256 inside(__m256 v)
{
    const __m256 odd = _mm256_set_ps(-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0);
    const __m256 upper2 = _mm256_set_ps(-0.0f, -0.0f, 0, 0, -0.0f, -0.0f, 0, 0);
    const __m256 upper4 = _mm256_set_ps(-0.0f, -0.0f, -0.0f, -0.0f, 0, 0, 0, 0);
    v = _mm256_add_ps(_mm256_permute_ps(v, 0xb1), _mm256_xor_ps(v, odd));
    v = _mm256_add_ps(_mm256_permute_ps(v, 0x4e), _mm256_xor_ps(v, upper2));
    return _mm256_add_ps(_mm256_permute2f128_ps(v, v, 1), _mm256_xor_ps(v, upper4));
}

void rv_hadamard_avx2(float *x, size_t n)
{
    if (n < 8) {
        rv_hadamard_scalar(x, n);
        return;
    }
    for (size_t i = 0; i < n; i += 8) {
        _mm256_storeu_ps(x + i, inside(_mm256_loadu_ps(x + i)));
    }
    for (size_t width = 8; width < n; width *= 2) {
        for (size_t i = 0; i < n; i += 2 * width) {
            for (size_t j = i; j < i + width; j += 8) {
                __m256 a = _mm256_loadu_ps(x + j), b = _mm256_loadu_ps(x + j + width);
                _mm256_storeu_ps(x + j, _mm256_add_ps(a, b));
                _mm256_storeu_ps(x + j + width, _mm256_sub_ps(a, b));
            }
        }
    }
    __m256 scale = _mm256_set1_ps(1 / sqrtf((float)n));
    for (size_t i = 0; i < n; i += 8) {
        _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), scale));
    }
}
