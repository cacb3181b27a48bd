#include "kernels/kernels_priv.h"

#include <immintrin.h>
#include <math.h>

enum { IN_REGISTERS = 16 };

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

static inline __attribute__((always_inline)) void step(__m512 *v, size_t count, size_t width)
{
    for (size_t i = 0; i < count; i++) {
        if (width < count && !(i & width)) {
            const __m512 a = v[i], b = v[i + width];
            v[i] = _mm512_add_ps(a, b);
            v[i + width] = _mm512_sub_ps(a, b);
        }
    }
}

/* All steps of 16 * count elements without leaving the registers; count is a constant, and so is every width. */
static inline __attribute__((always_inline)) void small(float *x, size_t count, __m512 scale)
{
    __m512 v[IN_REGISTERS];
    for (size_t i = 0; i < count; i++) {
        v[i] = inside(_mm512_loadu_ps(x + 16 * i));
    }
    step(v, count, 1);
    step(v, count, 2);
    step(v, count, 4);
    step(v, count, 8);
    for (size_t i = 0; i < count; i++) {
        _mm512_storeu_ps(x + 16 * i, _mm512_mul_ps(v[i], scale));
    }
}

/* Multiplying by 1 changes no bit: parts of a longer one are scaled in its last step. */
void rv_hadamard_avx512(float *x, size_t n)
{
    const __m512 scale = _mm512_set1_ps(1 / sqrtf((float)n));
    switch (n) {
    case 16: small(x, 1, scale); return;
    case 32: small(x, 2, scale); return;
    case 64: small(x, 4, scale); return;
    case 128: small(x, 8, scale); return;
    case 256: small(x, 16, scale); return;
    default: break;
    }
    if (n < 16) {
        rv_hadamard_scalar(x, n);
        return;
    }
    for (size_t i = 0; i < n; i += 256) {
        small(x + i, 16, _mm512_set1_ps(1));
    }
    for (size_t width = 256; width < n; width *= 2) {
        const __m512 by = 2 * width == n ? scale : _mm512_set1_ps(1);
        for (size_t i = 0; i < n; i += 2 * width) {
            for (size_t j = i; j < i + width; j += 16) {
                const __m512 a = _mm512_loadu_ps(x + j), b = _mm512_loadu_ps(x + j + width);
                _mm512_storeu_ps(x + j, _mm512_mul_ps(_mm512_add_ps(a, b), by));
                _mm512_storeu_ps(x + j + width, _mm512_mul_ps(_mm512_sub_ps(a, b), by));
            }
        }
    }
}
