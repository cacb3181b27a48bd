#include "kernels/kernels_priv.h"

#include <immintrin.h>
#include <math.h>

static inline __m512 flip(__m512 v, __mmask16 lanes)
{
    __m512i bits = _mm512_castps_si512(v);
    return _mm512_castsi512_ps(_mm512_mask_xor_epi32(bits, lanes, bits, _mm512_set1_epi32((int)0x80000000u)));
}

/* Steps inside one vector: the partners change places, and the second of each pair changes its sign before the sum. */
static inline __m512 inside(__m512 v)
{
    v = _mm512_add_ps(_mm512_permute_ps(v, 0xb1), flip(v, 0xaaaa));
    v = _mm512_add_ps(_mm512_permute_ps(v, 0x4e), flip(v, 0xcccc));
    v = _mm512_add_ps(_mm512_shuffle_f32x4(v, v, 0xb1), flip(v, 0xf0f0));
    return _mm512_add_ps(_mm512_shuffle_f32x4(v, v, 0x4e), flip(v, 0xff00));
}

void rv_hadamard_avx512(float *x, size_t n)
{
    if (n < 16) {
        rv_hadamard_scalar(x, n);
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        _mm512_storeu_ps(x + i, inside(_mm512_loadu_ps(x + i)));
    }
    for (size_t width = 16; width < n; width *= 2) {
        for (size_t i = 0; i < n; i += 2 * width) {
            for (size_t j = i; j < i + width; j += 16) {
                __m512 a = _mm512_loadu_ps(x + j), b = _mm512_loadu_ps(x + j + width);
                _mm512_storeu_ps(x + j, _mm512_add_ps(a, b));
                _mm512_storeu_ps(x + j + width, _mm512_sub_ps(a, b));
            }
        }
    }
    __m512 scale = _mm512_set1_ps(1 / sqrtf((float)n));
    for (size_t i = 0; i < n; i += 16) {
        _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_loadu_ps(x + i), scale));
    }
}
