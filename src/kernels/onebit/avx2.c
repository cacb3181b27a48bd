/* As avx512.c, four coordinates of 32 rows in half a register: the two halves hold two fours. */
#include "kernels/onebit/onebit_priv.h"

#include <immintrin.h>

typedef struct eights {
    __m256 at[2]; /* lanes 0 .. 7 and 8 .. 15 of the sixteen */
} eights;

static inline eights difference(const float *x, const float *centre)
{
    return (eights){ { _mm256_sub_ps(_mm256_loadu_ps(x), _mm256_loadu_ps(centre)),
                       _mm256_sub_ps(_mm256_loadu_ps(x + 8), _mm256_loadu_ps(centre + 8)) } };
}

static inline __m256i levels_of(__m256 t, __m256 to_steps, const float *dither)
{
    __m256 u = _mm256_add_ps(_mm256_mul_ps(t, to_steps),
                             _mm256_add_ps(_mm256_loadu_ps(dither), _mm256_set1_ps(7.5f)));
    return _mm256_min_epi32(_mm256_cvttps_epi32(u), _mm256_set1_epi32(15));
}

static inline float largest_of(__m256 x)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

float rv_onebit_table_avx2(const float *x, const float *centre, const float *dither, size_t dim,
                           uint8_t *table, float *step)
{
    __m256 sum[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() }, largest = _mm256_setzero_ps();
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < dim; i += 16) {
        eights t = difference(x + i, centre + i);
        for (int h = 0; h < 2; h++) {
            largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, t.at[h]));
            sum[h] = _mm256_add_ps(sum[h], _mm256_mul_ps(t.at[h], t.at[h]));
        }
    }
    const __m256 to_steps = _mm256_set1_ps(onebit_step(largest_of(largest), step));
    /* Byte p of each half is pattern p; half g takes coordinate 4 * g + j where bit j of p is set. */
    __m256i pick[4];
    const __m256i pattern = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3,
                                             4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m256i first = _mm256_setr_epi64x(0, 0, 0x0404040404040404, 0x0404040404040404);
    for (int j = 0; j < 4; j++) {
        __m256i bit = _mm256_set1_epi8((char)(1 << j));
        __m256i unset = _mm256_cmpeq_epi8(_mm256_and_si256(pattern, bit), _mm256_setzero_si256());
        pick[j] = _mm256_or_si256(_mm256_add_epi8(first, _mm256_set1_epi8((char)j)),
                                  _mm256_and_si256(unset, _mm256_set1_epi8((char)0x80)));
    }
    for (size_t i = 0; i < dim; i += 16) {
        eights t = difference(x + i, centre + i);
        __m256i words = _mm256_packs_epi32(levels_of(t.at[0], to_steps, dither + i),
                                           levels_of(t.at[1], to_steps, dither + i + 8));
        words = _mm256_permute4x64_epi64(words, 0xd8); /* packing goes by halves: back in order */
        __m128i u = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        /* u where set, 15 - u where not: the sum of all 15 - u, and 2 u - 15 more for each that is set */
        __m128i turn = _mm_sub_epi8(_mm_add_epi8(u, u), _mm_set1_epi8(15));
        __m128i fours = _mm_maddubs_epi16(_mm_sub_epi8(_mm_set1_epi8(15), u), _mm_set1_epi8(1));
        fours = _mm_madd_epi16(fours, _mm_set1_epi16(1)); /* int32 x 4: the sum when no sign is set */
        for (int h = 0; h < 2; h++) {
            __m256i sums = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(fours), first);
            __m256i turns = _mm256_broadcastsi128_si256(turn);
            for (int j = 0; j < 4; j++) {
                sums = _mm256_add_epi8(sums, _mm256_shuffle_epi8(turns, pick[j]));
            }
            _mm256_storeu_si256((__m256i *)(table + 4 * i + 32 * h), sums);
            fours = _mm_srli_si128(fours, 8);
            turn = _mm_srli_si128(turn, 8);
        }
    }
    float sums[16];
    _mm256_storeu_ps(sums, sum[0]);
    _mm256_storeu_ps(sums + 8, sum[1]);
    return onebit_sum(sums);
}

static inline __m128i sum_halves(__m256i x)
{
    return _mm_add_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

/* Eight rows: those kept of them, and their differences to low_8 [8]. */
static inline unsigned below(const rv_onebit_query *query, const float *add, __m128i words, float limit,
                             float *low_8)
{
    __m256 sums = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(words));
    __m256 product =
        _mm256_sub_ps(_mm256_mul_ps(sums, _mm256_set1_ps(query->step)), _mm256_set1_ps(query->offset));
    __m256 estimate = _mm256_sub_ps(_mm256_add_ps(_mm256_loadu_ps(add), _mm256_set1_ps(query->base)),
                                    _mm256_mul_ps(_mm256_loadu_ps(add + 32), product));
    __m256 lowest =
        _mm256_sub_ps(estimate, _mm256_mul_ps(_mm256_loadu_ps(add + 64), _mm256_set1_ps(query->spread)));
    _mm256_storeu_ps(low_8, lowest);
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(lowest, _mm256_set1_ps(limit), _CMP_LT_OQ));
}

size_t rv_onebit_scan_avx2(const rv_onebit_query *query, const uint8_t *blocks, size_t n_rows, float limit,
                           uint32_t *at, float *low)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const size_t bytes = 4 * query->dim;
    size_t n = 0;
    for (size_t from = 0; from < n_rows;
         from += RV_ONEBIT_ROWS, blocks += RV_ONEBIT_BLOCK_BYTES(query->dim)) {
        __m256i words[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        __m256i odd[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        for (size_t i = 0; i < bytes;) {
            __m256i sum[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
            for (size_t end = bytes - i < 128 ? bytes : i + 128; i < end; i += 32) {
                __m256i codes = _mm256_loadu_si256((const __m256i *)(blocks + i));
                __m256i table = _mm256_loadu_si256((const __m256i *)(query->table + i));
                __m256i upper = _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble);
                sum[0] = _mm256_add_epi8(sum[0], _mm256_shuffle_epi8(table, _mm256_and_si256(codes, nibble)));
                sum[1] = _mm256_add_epi8(sum[1], _mm256_shuffle_epi8(table, upper));
            }
            for (int h = 0; h < 2; h++) {
                words[h] = _mm256_add_epi16(words[h], sum[h]);
                odd[h] = _mm256_add_epi16(odd[h], _mm256_srli_epi16(sum[h], 8));
            }
        }
        const float *add = (const float *)(const void *)(blocks + bytes);
        float lowest[RV_ONEBIT_ROWS];
        unsigned kept = 0;
        for (int h = 0; h < 2; h++) {
            __m128i o = sum_halves(odd[h]), e = _mm_sub_epi16(sum_halves(words[h]), _mm_slli_epi16(o, 8));
            for (int part = 0; part < 2; part++) {
                __m128i eight = part == 0 ? _mm_unpacklo_epi16(e, o) : _mm_unpackhi_epi16(e, o);
                int place = 16 * h + 8 * part;
                kept |= below(query, add + place, eight, limit, lowest + place) << place;
            }
        }
        if (n_rows - from < RV_ONEBIT_ROWS) {
            kept &= (1u << (n_rows - from)) - 1;
        }
        for (; kept; kept &= kept - 1) {
            int r = __builtin_ctz(kept);
            at[n] = (uint32_t)(from + (size_t)r);
            low[n++] = lowest[r];
        }
    }
    return n;
}
