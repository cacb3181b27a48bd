#include "kernels/simd_avx512_priv.h"

#include "kernels/part/body_priv.h"

/* As part_few: each kind is pressed together, a vector at a time. Those below are written with a mask: behind them lies what
 * was not read yet. Behind the others there is room for a vector. */
static size_t part_few_pressed(float *keys, uint32_t *what, size_t n, float pivot)
{
    float others[PART_FEW + LANES];
    uint32_t their[PART_FEW + LANES];
    size_t below = 0, above = 0;
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 there = n - i < LANES ? first_lanes(n - i) : 0xffff;
        const __m512 key = _mm512_maskz_loadu_ps(there, keys + i);
        const __m512i thing = _mm512_maskz_loadu_epi32(there, what + i);
        const __mmask16 low = _mm512_mask_cmp_ps_mask(there, key, _mm512_set1_ps(pivot), _CMP_LT_OQ),
                        high = there & ~low;
        const size_t n_low = (size_t)__builtin_popcount(low);
        _mm512_mask_storeu_ps(keys + below, first_lanes(n_low), _mm512_maskz_compress_ps(low, key));
        _mm512_mask_storeu_epi32(what + below, first_lanes(n_low), _mm512_maskz_compress_epi32(low, thing));
        _mm512_storeu_ps(others + above, _mm512_maskz_compress_ps(high, key));
        _mm512_storeu_epi32(their + above, _mm512_maskz_compress_epi32(high, thing));
        below += n_low;
        above += (size_t)__builtin_popcount(high);
    }
    memcpy(keys + below, others, above * sizeof *keys);
    memcpy(what + below, their, above * sizeof *what);
    return below;
}

size_t rv_part_avx512(float *keys, uint32_t *what, size_t n, float pivot)
{
    return n <= PART_FEW ? part_few_pressed(keys, what, n, pivot) : part_many(keys, what, n, pivot);
}
