#include "kernels/kernels_priv.h"

#include <immintrin.h>
#include <string.h>

/* Sixty-four bits of a plane are a mask: VNNI multiplies what it leaves of q by the plane's weight. Two chains, for even and odd
 * planes. int32 sums as in the definition. */
static inline __m512i step(__m512i sum, const uint8_t *plane, __m512i q, __m512i weight)
{
    uint64_t mask;
    memcpy(&mask, plane, sizeof mask);
    return _mm512_dpbusd_epi32(sum, weight, _mm512_maskz_mov_epi8((__mmask64)mask, q));
}

void rv_plane_dots_avx512(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows,
                          size_t bits, const int8_t *q, size_t n, int32_t *out)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = codes + rows[r] * stride;
        __m512i even = _mm512_setzero_si512(), odd = even;
        for (size_t i = 0; i < n; i += 64) {
            __m512i x = _mm512_loadu_si512(q + i);
            size_t plane = 0;
            for (; plane + 2 <= bits; plane += 2) {
                even = step(even, row + plane * n / 8 + i / 8, x, _mm512_set1_epi8((char)(1 << plane)));
                odd = step(odd, row + (plane + 1) * n / 8 + i / 8, x, _mm512_set1_epi8((char)(2 << plane)));
            }
            if (plane < bits) {
                even = step(even, row + plane * n / 8 + i / 8, x, _mm512_set1_epi8((char)(1 << plane)));
            }
        }
        out[r] = _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd));
    }
}
