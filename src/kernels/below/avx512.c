#include "kernels/simd_avx512_priv.h"

#include "kernels/below/below_priv.h"

/* Pressed together in registers and stored whole: a masked store is slow, and there is room. */
size_t rv_below_avx512(const float *keys, const uint32_t *what, size_t n, float limit, float *out,
                       uint32_t *out_what)
{
    const __m512 most = _mm512_set1_ps(limit);
    size_t i = 0, kept = 0;
    for (; i + LANES <= n; i += LANES) {
        const __m512 key = _mm512_loadu_ps(keys + i);
        const __mmask16 low = _mm512_cmp_ps_mask(key, most, _CMP_LE_OQ);
        if (low) {
            _mm512_storeu_ps(out + kept, _mm512_maskz_compress_ps(low, key));
            _mm512_storeu_epi32(out_what + kept,
                                _mm512_maskz_compress_epi32(low, _mm512_loadu_epi32(what + i)));
            kept += (size_t)__builtin_popcount(low);
        }
    }
    return kept + copy_below(keys + i, what + i, n - i, limit, out + kept, out_what + kept);
}
