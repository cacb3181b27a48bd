/* A shuffle looks up 64 sums of four coordinates at once: 32 rows, two times four of their coordinates a register. Sums stay
 * in bytes for four steps (4 * 60 < 256), then in uint16: whole words, and their upper bytes once more apart, so that the
 * lower bytes are what remains. */
#include "kernels/onebit/onebit_priv.h"

#include <immintrin.h>

static inline __m512i levels_of(__m512 t, __m512 to_steps, const float *dither)
{
    __m512 u = _mm512_add_ps(_mm512_mul_ps(t, to_steps),
                             _mm512_add_ps(_mm512_loadu_ps(dither), _mm512_set1_ps(7.5f)));
    return _mm512_min_epi32(_mm512_cvttps_epi32(u), _mm512_set1_epi32(15));
}

float rv_onebit_table_avx512(const float *x, const float *centre, const float *dither, size_t dim,
                             uint8_t *table, float *step)
{
    __m512 sum = _mm512_setzero_ps(), largest = _mm512_setzero_ps();
    for (size_t i = 0; i < dim; i += 16) {
        __m512 t = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(centre + i));
        largest = _mm512_max_ps(largest, _mm512_abs_ps(t));
        sum = _mm512_add_ps(sum, _mm512_mul_ps(t, t));
    }
    const __m512 to_steps = _mm512_set1_ps(onebit_step(_mm512_reduce_max_ps(largest), step));
    /* Byte p of each quarter is pattern p; quarter g takes coordinate 4 * g + j where bit j of p is set. */
    __m512i pick[4];
    const __m512i pattern =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    const __m512i first = _mm512_setr_epi64(0, 0, 0x0404040404040404, 0x0404040404040404, 0x0808080808080808,
                                            0x0808080808080808, 0x0c0c0c0c0c0c0c0c, 0x0c0c0c0c0c0c0c0c);
    for (int j = 0; j < 4; j++) {
        __mmask64 set = _mm512_test_epi8_mask(pattern, _mm512_set1_epi8((char)(1 << j)));
        pick[j] = _mm512_mask_add_epi8(_mm512_set1_epi8((char)0x80), set, first, _mm512_set1_epi8((char)j));
    }
    for (size_t i = 0; i < dim; i += 16) {
        __m512 t = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(centre + i));
        __m128i u = _mm512_cvtepi32_epi8(levels_of(t, to_steps, dither + i));
        /* u where set, 15 - u where not: the sum of all 15 - u, and 2 u - 15 more for each that is set */
        __m128i turn = _mm_sub_epi8(_mm_add_epi8(u, u), _mm_set1_epi8(15));
        __m128i fours = _mm_maddubs_epi16(_mm_sub_epi8(_mm_set1_epi8(15), u), _mm_set1_epi8(1));
        fours = _mm_madd_epi16(fours, _mm_set1_epi16(1)); /* int32 x 4: the sum when no sign is set */
        __m512i sums = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(fours), first);
        __m512i turns = _mm512_broadcast_i32x4(turn);
        for (int j = 0; j < 4; j++) {
            sums = _mm512_add_epi8(sums, _mm512_shuffle_epi8(turns, pick[j]));
        }
        _mm512_storeu_si512(table + 4 * i, sums);
    }
    float sums[16];
    _mm512_storeu_ps(sums, sum);
    return onebit_sum(sums);
}

static inline __m128i sum_quarters(__m512i x)
{
    __m256i half = _mm256_add_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* words: sums of even rows and 256 times those of odd ones; odd: the latter. Sixteen rows in order. */
static inline __m512 sums_of(__m512i words, __m512i odd)
{
    __m128i o = sum_quarters(odd), e = _mm_sub_epi16(sum_quarters(words), _mm_slli_epi16(o, 8));
    __m256i both = _mm256_set_m128i(_mm_unpackhi_epi16(e, o), _mm_unpacklo_epi16(e, o));
    return _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(both));
}

static inline size_t keep(const rv_onebit_query *query, const float *add, __m512 sums, __mmask16 rows,
                          float limit, size_t from, uint32_t *at, float *low)
{
    __m512 product =
        _mm512_sub_ps(_mm512_mul_ps(sums, _mm512_set1_ps(query->step)), _mm512_set1_ps(query->offset));
    __m512 estimate = _mm512_sub_ps(_mm512_add_ps(_mm512_loadu_ps(add), _mm512_set1_ps(query->base)),
                                    _mm512_mul_ps(_mm512_loadu_ps(add + 32), product));
    __m512 lowest =
        _mm512_sub_ps(estimate, _mm512_mul_ps(_mm512_loadu_ps(add + 64), _mm512_set1_ps(query->spread)));
    __mmask16 kept = _mm512_mask_cmp_ps_mask(rows, lowest, _mm512_set1_ps(limit), _CMP_LT_OQ);
    if (!kept) {
        return 0;
    }
    __m512i places =
        _mm512_add_epi32(_mm512_set1_epi32((int)from),
                         _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    /* Whole registers: the outputs have room for them, and storing under a mask is slow. */
    _mm512_storeu_si512(at, _mm512_maskz_compress_epi32(kept, places));
    _mm512_storeu_ps(low, _mm512_maskz_compress_ps(kept, lowest));
    return (size_t)__builtin_popcount(kept);
}

size_t rv_onebit_scan_avx512(const rv_onebit_query *query, const uint8_t *blocks, size_t n_rows, float limit,
                             uint32_t *at, float *low)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    const size_t bytes = 4 * query->dim;
    size_t n = 0;
    for (size_t from = 0; from < n_rows;
         from += RV_ONEBIT_ROWS, blocks += RV_ONEBIT_BLOCK_BYTES(query->dim)) {
        __m512i words[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() };
        __m512i odd[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() };
        for (size_t i = 0; i < bytes;) {
            __m512i sum[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() };
            for (size_t end = bytes - i < 256 ? bytes : i + 256; i < end; i += 64) {
                __m512i codes = _mm512_loadu_si512(blocks + i), table = _mm512_loadu_si512(query->table + i);
                __m512i upper = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
                sum[0] = _mm512_add_epi8(sum[0], _mm512_shuffle_epi8(table, _mm512_and_si512(codes, nibble)));
                sum[1] = _mm512_add_epi8(sum[1], _mm512_shuffle_epi8(table, upper));
            }
            for (int h = 0; h < 2; h++) {
                words[h] = _mm512_add_epi16(words[h], sum[h]);
                odd[h] = _mm512_add_epi16(odd[h], _mm512_srli_epi16(sum[h], 8));
            }
        }
        size_t rest = n_rows - from;
        __mmask16 rows[2] = { rest >= 16 ? 0xffff : (__mmask16)((1u << rest) - 1),
                              rest >= 32  ? 0xffff
                              : rest > 16 ? (__mmask16)((1u << (rest - 16)) - 1)
                                          : 0 };
        const float *add = (const float *)(const void *)(blocks + bytes);
        for (size_t h = 0; h < 2; h++) {
            n += keep(query, add + 16 * h, sums_of(words[h], odd[h]), rows[h], limit, from + 16 * h, at + n,
                      low + n);
        }
    }
    return n;
}
