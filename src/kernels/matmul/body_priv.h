/* Matrix times activations, for one vector level. Include after a simd_*_priv.h and after defining TILE, the largest
 * number of tokens (1, 2, 4 or 8), and WIDE, the number of vectors of rows beside each other, whose sums of a block fit the registers, and
 * PANEL_TOKENS, how many tokens are worth unpacking a strip for beforehand.
 *
 * Quantised: weights come from the packed layout, unpacked once for TILE tokens; a lane is a row, so nothing is summed
 * across lanes and each output has one float32 accumulator that takes the blocks in column order, rounded as
 * matmul/scalar.c says. float32: the rows of a group are expanded CHUNK columns at a time and multiplied; each output has
 * one vector accumulator. Either way an output's arithmetic is the same in any tile, so batches do not change it. */
#include "kernels/matmul/layout_priv.h"

#include <assert.h>

/* ---- int8 activations ---- */

/* Columns 4v .. 4v + 3 of LANES rows of a block, as unsigned bytes; of Q8_0 as vi_dot_bytes wants them. */
INLINE vi load_codes(rv_type type, bool unpacked, const uint8_t *block, size_t v)
{
    if (unpacked) {
        return vi_load(block + v * RV_LINE);
    }
    if (type == RV_Q8_0) {
        return vi_byte_weights(vi_load(block + v * RV_LINE));
    }
    vi codes = vi_load(block + v % 4 * RV_LINE);
    codes = vi_and(v < 4 ? codes : vi_right(codes, 4), vi_set_bytes(0x0f));
    const uint8_t *high = block + 4 * RV_LINE;
    if (type == RV_Q5_0 || type == RV_Q5_1 || type == RV_Q5_K) {
        vi bits = vi_load(high);
        return vi_and_or(v < 4 ? vi_left(bits, 4 - (unsigned)v) : vi_right(bits, (unsigned)v - 4),
                         vi_set_bytes(0x10), codes);
    }
    if (type == RV_Q6_K) {
        vi bits = vi_load(high + v / 4 * RV_LINE);
        return vi_and_or(v % 4 < 2 ? vi_left(bits, 4 - 2 * (unsigned)(v % 4))
                                   : vi_right(bits, 2 * (unsigned)(v % 4) - 4),
                         vi_set_bytes(0x30), codes);
    }
    return codes;
}

typedef struct unit_scales {
    vf d, dmin; /* K types */
} unit_scales;

typedef struct block_scales {
    vf first, last,
        min; /* scale of columns 0..15 and 16..31 (last only in Q6_K), what s is multiplied with: added, or subtracted in K types */
} block_scales;

INLINE unit_scales load_unit_scales(rv_type type, const uint8_t *unit, size_t lane)
{
    unit_scales u = { vf_set(0), vf_set(0) };
    if (type == RV_Q4_K || type == RV_Q5_K || type == RV_Q6_K) {
        u.d = vf_load_f16((const uint16_t *)unit + lane);
    }
    if (type == RV_Q4_K || type == RV_Q5_K) {
        u.dmin = vf_load_f16((const uint16_t *)unit + 16 + lane);
    }
    return u;
}

INLINE block_scales load_block_scales(rv_type type, const uint8_t *unit, unit_scales u, size_t i, size_t lane)
{
    const uint8_t *scales = unit + RV_HEAD_K_SCALES + lane, *mins = unit + RV_HEAD_K_MINS + lane;
    const uint16_t *halves = (const uint16_t *)unit + 16 * i + lane;
    block_scales s = { vf_set(0), vf_set(0), vf_set(0) };
    switch (type) {
    case RV_Q4_1:
    case RV_Q5_1:
        s.first = vf_load_f16(halves);
        s.min = vf_load_f16(halves + 32);
        break;
    case RV_Q4_K:
    case RV_Q5_K:
        s.first = vf_mul(u.d, vf_load_u8(scales + 16 * i));
        s.min = vf_mul(u.dmin, vf_load_u8(mins + 16 * i));
        break;
    case RV_Q6_K:
        s.first = vf_mul(u.d, vf_load_i8((const int8_t *)scales + 32 * i));
        s.last = vf_mul(u.d, vf_load_i8((const int8_t *)scales + 32 * i + 16));
        break;
    default: s.first = vf_load_f16(halves);
    }
    return s;
}

/* Where the integer sum of a token starts: what the offset of the codes adds, taken off beforehand. */
INLINE vi start_dot(rv_type type, const rv_act_block *a, size_t v)
{
    switch (type) {
    case RV_Q4_0: return vi_set(a->o[0]);
    case RV_Q5_0: return vi_set(a->o[1]);
    case RV_Q8_0: return vi_start_biased(&a->o[2]);
    case RV_Q6_K: return vi_set(a->o[v < 4 ? 3 : 4]);
    default: return vi_zero();
    }
}

/* dot[t][i] = columns 4 from .. 4 to of vector i of the block times token t. Line by line for all tokens, so that the chains of dot
 * products hide each other's latency and a line of codes lives in a register only while it is used. */
INLINE void dot_lines(rv_type type, bool unpacked, size_t n, const uint8_t *block, const rv_act_block *a,
                      size_t stride, size_t from, size_t to, vi dot[TILE][WIDE])
{
    for (size_t t = 0; t < n; t++) {
        for (size_t i = 0; i < WIDE; i++) {
            dot[t][i] = start_dot(type, a + t * stride, from);
        }
    }
    const int64_t largest = type == RV_Q6_K                                         ? 63
                            : type == RV_Q5_0 || type == RV_Q5_1 || type == RV_Q5_K ? 31
                                                                                    : 15;
    const int64_t step = 2 * 127 * largest; /* at most what a line adds to a pair sum */
    const size_t lines = 8 * step <= PART_LIMIT ? to - from : 4 * step <= PART_LIMIT ? 4 : 2;
    for (size_t v = from; v < to && type != RV_Q8_0 && lines == 2;
         v += 2) { /* parts so short need no registers of their own */
        vi even[WIDE], odd[WIDE];
        for (size_t i = 0; i < WIDE; i++) {
            even[i] = load_codes(type, unpacked, block + 4 * LANES * i, v);
            odd[i] = load_codes(type, unpacked, block + 4 * LANES * i, v + 1);
        }
        for (size_t t = 0; t < n; t++) {
            const int8_t *bytes = a[t * stride].q + 4 * v;
            for (size_t i = 0; i < WIDE; i++) {
                const vi part = vi_part_add(vi_part_begin(dot[t][i]), even[i], vi_set_4(bytes));
                dot[t][i] = vi_part_end(dot[t][i], vi_part_add(part, odd[i], vi_set_4(bytes + 4)));
            }
        }
    }
    for (size_t first = from; first < to && type != RV_Q8_0 && lines != 2; first += lines) {
        vi part[TILE][WIDE];
        for (size_t t = 0; t < n; t++) {
            for (size_t i = 0; i < WIDE; i++) {
                part[t][i] = vi_part_begin(dot[t][i]);
            }
        }
        for (size_t v = first; v < first + lines; v++) {
            vi codes[WIDE];
            for (size_t i = 0; i < WIDE; i++) {
                codes[i] = load_codes(type, unpacked, block + 4 * LANES * i, v);
            }
            for (size_t t = 0; t < n; t++) {
                const vi bytes = vi_set_4(a[t * stride].q + 4 * v);
                for (size_t i = 0; i < WIDE; i++) {
                    part[t][i] = vi_part_add(part[t][i], codes[i], bytes);
                }
            }
        }
        for (size_t t = 0; t < n; t++) {
            for (size_t i = 0; i < WIDE; i++) {
                dot[t][i] = vi_part_end(dot[t][i], part[t][i]);
            }
        }
    }
#pragma GCC unroll 8
    for (size_t v = from; v < to && type == RV_Q8_0; v++) {
        vi codes[WIDE];
        for (size_t i = 0; i < WIDE; i++) {
            codes[i] = load_codes(type, unpacked, block + 4 * LANES * i, v);
        }
        for (size_t t = 0; t < n; t++) {
            const vi bytes = vi_set_4(a[t * stride].q + 4 * v);
            for (size_t i = 0; i < WIDE; i++) {
                dot[t][i] = vi_dot_bytes(dot[t][i], codes[i], bytes);
            }
        }
    }
}

/* One block of WIDE * LANES rows times n tokens, added to sum. */
INLINE void add_block(rv_type type, bool unpacked, size_t n, const uint8_t *block,
                      const block_scales scales[WIDE], const rv_act_block *a, size_t stride,
                      vf sum[TILE][WIDE])
{
    vi dot[TILE][WIDE];
    vf value[TILE][WIDE];
    dot_lines(type, unpacked, n, block, a, stride, 0, type == RV_Q6_K ? 4 : 8, dot);
    for (size_t t = 0; t < n; t++) {
        for (size_t i = 0; i < WIDE; i++) {
            value[t][i] = vf_mul(vf_from_i(dot[t][i]), scales[i].first);
        }
    }
    if (type == RV_Q6_K) {
        dot_lines(type, unpacked, n, block, a, stride, 4, 8, dot);
        for (size_t t = 0; t < n; t++) {
            for (size_t i = 0; i < WIDE; i++) {
                value[t][i] = vf_fma(vf_from_i(dot[t][i]), scales[i].last, value[t][i]);
            }
        }
    }
    for (size_t t = 0; t < n; t++) {
        const vf d = vf_set(a[t * stride].d), s = vf_set(a[t * stride].s);
        for (size_t i = 0; i < WIDE; i++) {
            sum[t][i] = vf_fma(value[t][i], d, sum[t][i]);
            if (type == RV_Q4_1 || type == RV_Q5_1) {
                sum[t][i] = vf_fma(scales[i].min, s, sum[t][i]);
            }
            if (type == RV_Q4_K || type == RV_Q5_K) {
                sum[t][i] = vf_fnma(scales[i].min, s, sum[t][i]);
            }
        }
    }
}

/* How weights are fetched ahead of the products decides most of what a decode step takes. Shares of what the machine reads in one
 * straight stream, one token, Q4_K, two threads (bench/kernels_matmul):
 *     Intel Xeon   one stream: nothing 0.87, 16 KB ahead into L2 0.95 to 1, 4 KB ahead into L1 1.05;
 *                  four strips beside each other, 2 KB ahead into L1: 1.35 to 1.45, eight of them no more
 *     AMD Zen 3    one stream: nothing 0.9, 768 bytes into L2 1, 2 KB into L1 1.05; four strips 1.2 (one thread 1.3; Q6_K 1.4)
 *     AMD Zen 4    one stream: nothing 0.95, 768 bytes into L2 1, 16 KB 0.45: it follows the stream itself, and far hints disturb it
 *     AMD Zen 5    one stream: 768 bytes into L2 0.94, 8 KB into L1 1.26 (Q8_0: 1.02 and 1.16); four strips 1.16 (Q8_0: 0.88)
 * The Xeon and Zen 3 follow a stream only to the end of a page of 4 KB, so that several of them keep more lines under way. A thread's strips
 * are then cut into STREAMS parts that go on side by side, block by block. It pays as long as the sums of all stay in registers, up
 * to half a TILE of tokens; eight tokens take 16.9 GB/s from one stream and 13.6 from four.
 * Several tokens pause too long between lines for Zen 4 to follow, and want them in L1: eight tokens take 18.6 GB/s
 * with 4 KB ahead into L1, 13.7 with 16 KB into L2, 10 with nothing. The tiles after the first find their strip in the cache. What
 * is fetched may lie past the end of the matrix; that is only a hint. */
enum { STREAMS = 4, AHEAD_STREAMS = 2048, AHEAD_FLOAT = 16384 };

typedef struct hints {
    size_t n_streams; /* of few tokens: 1 or STREAMS */
    size_t one, more; /* bytes ahead in one stream: with one token, with several */
    bool one_to_l1;   /* with several it is L1 everywhere */
} hints;

INLINE hints hints_here(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_is("amd")) {
        const bool zen_5 = __builtin_cpu_supports("avx512vp2intersect"); /* which Zen 4 has not */
        const bool zen_4 = __builtin_cpu_supports("avx512f");            /* which Zen 3 has not */
        return zen_5   ? (hints){ 1, 8192, 8192, true }
               : zen_4 ? (hints){ 1, 768, 4096, false }
                       : (hints){ STREAMS, 2048, 4096, true };
    }
#endif
    return (hints){ STREAMS, 16384, 4096, false };
}

/* Strips that are read side by side: the first, how far apart they lie in bytes and in rows, and how far ahead of what is
 * used lines are fetched, and where. Of the last strip of a matrix some rows may be missing: n_rows is less than RV_STRIP. */
typedef struct strips {
    const uint8_t *first;
    size_t bytes_apart, rows_apart, n_rows, ahead;
    bool to_l1;
} strips;

INLINE void prefetch(const uint8_t *at, size_t bytes, bool to_l1)
{
    for (size_t i = 0; i < bytes; i += RV_LINE) {
        const void *line = (const void *)((uintptr_t)at + i);
        if (to_l1) {
            __builtin_prefetch(line, 0, 3);
        } else {
            __builtin_prefetch(line, 0, 2);
        }
    }
}

/* Rows from lane on of n_rows, for n tokens; out: of the first token and that lane. */
INLINE void store_tile(size_t n, vf sum[TILE][WIDE], size_t n_rows, size_t lane, float *out,
                       size_t out_stride)
{
    for (size_t i = 0; i < WIDE; i++) {
        const size_t row = lane + i * LANES, rows = n_rows > row ? n_rows - row : 0;
        for (size_t t = 0; t < n; t++) {
            float *to = out + t * out_stride + i * LANES;
            if (rows >= LANES) {
                vf_store(to, sum[t][i]);
            } else {
                vf_store_n(to, sum[t][i], rows);
            }
        }
    }
}

/* WIDE * LANES rows of each strip, from lane on, times n tokens; type, n and n_strips are constants where this is called. */
INLINE void strip_tile(rv_type type, size_t n, size_t n_strips, strips w, size_t lane, const rv_act_block *a,
                       size_t n_blocks, float *out, size_t out_stride)
{
    const rv_layout l = rv_layout_of(type);
    const size_t unit_bytes = rv_layout_unit_bytes(l), block_bytes = rv_layout_block_bytes(l);
    const size_t share = unit_bytes / l.unit_blocks; /* of a block in the unit */
    vf sum[STREAMS][TILE][WIDE];
    for (size_t s = 0; s < n_strips; s++) {
        for (size_t t = 0; t < n; t++) {
            for (size_t i = 0; i < WIDE; i++) {
                sum[s][t][i] = vf_set(0);
            }
        }
    }
    for (size_t first = 0; first < n_blocks; first += l.unit_blocks, w.first += unit_bytes) {
        const size_t left = n_blocks - first, count = left < l.unit_blocks ? left : l.unit_blocks;
        unit_scales unit[STREAMS][WIDE];
        for (size_t s = 0; s < n_strips; s++) {
            for (size_t i = 0; i < WIDE; i++) {
                unit[s][i] = load_unit_scales(type, w.first + s * w.bytes_apart, lane + i * LANES);
            }
        }
        for (size_t b = 0; b < count; b++, a++) {
            for (size_t s = 0; s < n_strips; s++) {
                const uint8_t *at = w.first + s * w.bytes_apart;
                if (w.ahead) {
                    prefetch(at + b * share + w.ahead, share, w.to_l1);
                }
                block_scales scales[WIDE];
                for (size_t i = 0; i < WIDE; i++) {
                    scales[i] = load_block_scales(type, at, unit[s][i], b, lane + i * LANES);
                }
                add_block(type, false, n, at + l.head_bytes + b * block_bytes + 4 * lane, scales, a, n_blocks,
                          sum[s]);
            }
        }
    }
    for (size_t s = 0; s < n_strips; s++, out += w.rows_apart) {
        store_tile(n, sum[s], w.n_rows, lane, out, out_stride);
    }
}

/* n tokens, the first of which is `token` */
INLINE void strip_rows(rv_type type, size_t n, size_t n_strips, strips w, const rv_act *x, size_t token,
                       float *out, size_t out_stride)
{
    const size_t n_blocks = x->cols / 32;
    w.ahead = token ? 0 : w.ahead;
    for (size_t lane = 0; lane < w.n_rows; lane += (size_t)WIDE * LANES) {
        strip_tile(type, n, n_strips, w, lane, x->blocks + token * n_blocks, n_blocks,
                   out + token * out_stride + lane, out_stride);
    }
}

/* All tokens; the rest that is less than a TILE in one pass too: a draft of six in 4 + 2 takes longer than eight. */
INLINE void one_strip(rv_type type, strips w, const rv_act *x, float *out, size_t out_stride)
{
    size_t t = 0;
    for (; x->n_tokens - t >= TILE; t += TILE) {
        strip_rows(type, TILE, 1, w, x, t, out, out_stride);
    }
    switch (x->n_tokens - t) {
    case 7: strip_rows(type, 7 % (TILE + 1), 1, w, x, t, out, out_stride); break;
    case 6: strip_rows(type, 6 % (TILE + 1), 1, w, x, t, out, out_stride); break;
    case 5: strip_rows(type, 5 % (TILE + 1), 1, w, x, t, out, out_stride); break;
    case 4: strip_rows(type, 4, 1, w, x, t, out, out_stride); break;
    case 3: strip_rows(type, 3, 1, w, x, t, out, out_stride); break;
    case 2: strip_rows(type, 2, 1, w, x, t, out, out_stride); break;
    case 1: strip_rows(type, 1, 1, w, x, t, out, out_stride); break;
    }
}

/* The same of STREAMS strips, of few tokens. */
INLINE void several_strips(rv_type type, strips w, const rv_act *x, float *out, size_t out_stride)
{
    switch (x->n_tokens) {
    case 4: strip_rows(type, 4 % (TILE / 2 + 1), STREAMS, w, x, 0, out, out_stride); break;
    case 3: strip_rows(type, 3 % (TILE / 2 + 1), STREAMS, w, x, 0, out, out_stride); break;
    case 2: strip_rows(type, 2, STREAMS, w, x, 0, out, out_stride); break;
    case 1: strip_rows(type, 1, STREAMS, w, x, 0, out, out_stride); break;
    }
}

/* Streams that are nearly a multiple of 4 KB apart want the same places of L1 at the same time: all strips of a matrix with 2,048 columns do
 * where its rows are a power of two too (1.2B, Q4_K_M: 1.05 to 1.2 times as fast one strip nearer; AMD Zen 3). */
INLINE bool crowded(size_t bytes_apart)
{
    bool is = false;
    for (size_t s = 1; s < STREAMS; s++) {
        is |= (s * bytes_apart + 512) % 4096 < 1024;
    }
    return is;
}

INLINE void matmul_strips(rv_type type, const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to,
                          float *out, size_t out_stride)
{
    const rv_layout l = rv_layout_of(type);
    const size_t strip_bytes = rv_layout_units(l, w->cols) * rv_layout_unit_bytes(l);
    const uint8_t *packed = w->packed;
    size_t row = row_from;
    const hints here = hints_here();
    while (x->n_tokens <= TILE / 2 && here.n_streams == STREAMS && row_to - row >= STREAMS * RV_STRIP) {
        size_t n = (row_to - row) / RV_STRIP / STREAMS; /* strips of a stream */
        while (n > 1 && crowded(n * strip_bytes)) {
            n--;
        }
        for (size_t i = 0; i < n; i++, row += RV_STRIP) {
            const strips all = { packed + row / RV_STRIP * strip_bytes,
                                 n * strip_bytes,
                                 n * RV_STRIP,
                                 RV_STRIP,
                                 AHEAD_STREAMS,
                                 true };
            several_strips(type, all, x, out + row, out_stride);
        }
        row += n * (STREAMS - 1) * RV_STRIP;
    }
    const size_t ahead = x->n_tokens > 1 ? here.more : here.one;
    const bool to_l1 = x->n_tokens > 1 || here.one_to_l1;
    for (; row < row_to; row += RV_STRIP) {
        const size_t n_rows = row_to - row < RV_STRIP ? row_to - row : RV_STRIP;
        const strips strip = { packed + row / RV_STRIP * strip_bytes, 0, 0, n_rows, ahead, to_l1 };
        one_strip(type, strip, x, out + row, out_stride);
    }
}

/* ---- many tokens: strips unpacked beforehand ---- */

/* Some columns of a strip as they are multiplied, codes of one byte and scales of one float: what a tile of four tokens otherwise takes
 * apart again and again, which with AVX2 is a good part of all its instructions. It pays from PANEL_TOKENS on, for Q8_0, whose codes are
 * bytes already, never. AMD Zen 3, 512 tokens, two threads (bench/kernels_matmul): Q4_K 160 -> 225, Q6_K 135 -> 155 giga-operations a second.
 * A panel and its columns of TILE tokens stay in L1, and those columns of PANEL_RUN tokens in L2 while all strips are gone through. An
 * output waits between two panels as the float32 it is, so its bits are the same. */
enum { PANEL_BLOCKS = 16, PANEL_RUN = 256 };

typedef struct panel {
    _Alignas(64) uint8_t codes[PANEL_BLOCKS][8 * RV_LINE];
    float first[PANEL_BLOCKS][RV_STRIP], last[PANEL_BLOCKS][RV_STRIP], min[PANEL_BLOCKS][RV_STRIP];
} panel;

/* n_blocks from a unit's first on; what lies `next` bytes behind is fetched meanwhile */
INLINE void unpack(rv_type type, const uint8_t *unit, size_t n_blocks, size_t next, panel *p)
{
    const rv_layout l = rv_layout_of(type);
    const size_t share = rv_layout_unit_bytes(l) / l.unit_blocks;
    for (size_t b = 0; b < n_blocks; b++) {
        const size_t in_unit = b % l.unit_blocks;
        if (b && in_unit == 0) {
            unit += rv_layout_unit_bytes(l);
        }
        prefetch(unit + next + in_unit * share, share, false);
        for (size_t lane = 0; lane < RV_STRIP; lane += LANES) {
            const block_scales s =
                load_block_scales(type, unit, load_unit_scales(type, unit, lane), in_unit, lane);
            vf_store(p->first[b] + lane, s.first);
            vf_store(p->last[b] + lane, s.last);
            vf_store(p->min[b] + lane, s.min);
            const uint8_t *block = unit + l.head_bytes + in_unit * rv_layout_block_bytes(l) + 4 * lane;
            for (size_t v = 0; v < 8; v++) {
                vi_store(p->codes[b] + v * RV_LINE + 4 * lane, load_codes(type, false, block, v));
            }
        }
    }
}

/* WIDE * LANES rows of a panel, from lane on, times n tokens; out: of the first token and that lane; more: it holds what the
 * columns before have given. */
INLINE void panel_tile(rv_type type, size_t n, const panel *p, size_t n_blocks, size_t n_rows, size_t lane,
                       const rv_act_block *a, size_t stride, bool more, float *out, size_t out_stride)
{
    vf sum[TILE][WIDE];
    for (size_t i = 0; i < WIDE; i++) {
        const size_t row = lane + i * LANES, rows = n_rows > row ? n_rows - row : 0;
        for (size_t t = 0; t < n; t++) {
            const float *from = out + t * out_stride + i * LANES;
            sum[t][i] = !more || rows == 0 ? vf_set(0)
                        : rows >= LANES    ? vf_load(from)
                                           : vf_load_n(from, rows);
        }
    }
    for (size_t b = 0; b < n_blocks; b++, a++) {
        block_scales scales[WIDE];
        for (size_t i = 0; i < WIDE; i++) {
            const size_t at = lane + i * LANES;
            scales[i] = (block_scales){ vf_load(p->first[b] + at), vf_load(p->last[b] + at),
                                        vf_load(p->min[b] + at) };
        }
        add_block(type, true, n, p->codes[b] + 4 * lane, scales, a, stride, sum);
    }
    store_tile(n, sum, n_rows, lane, out, out_stride);
}

/* Tokens from .. to with one panel, the columns of which begin at block `first`. */
INLINE void panel_tokens(rv_type type, const panel *p, size_t n_blocks, size_t n_rows, const rv_act *x,
                         size_t first, size_t from, size_t to, float *out, size_t out_stride)
{
    const size_t stride = x->cols / 32;
    for (size_t lane = 0; lane < n_rows; lane += (size_t)WIDE * LANES) {
        size_t t = from;
        for (; to - t >= TILE; t += TILE) {
            panel_tile(type, TILE, p, n_blocks, n_rows, lane, x->blocks + t * stride + first, stride,
                       first > 0, out + t * out_stride + lane, out_stride);
        }
        for (; t < to; t++) {
            panel_tile(type, 1, p, n_blocks, n_rows, lane, x->blocks + t * stride + first, stride, first > 0,
                       out + t * out_stride + lane, out_stride);
        }
    }
}

INLINE void matmul_panels(rv_type type, const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to,
                          float *out, size_t out_stride)
{
    const rv_layout l = rv_layout_of(type);
    const size_t n_blocks = x->cols / 32, unit_bytes = rv_layout_unit_bytes(l);
    const size_t strip_bytes = rv_layout_units(l, w->cols) * unit_bytes;
    panel p;
    for (size_t from = 0; from < x->n_tokens; from += PANEL_RUN) {
        const size_t to = x->n_tokens - from < PANEL_RUN ? x->n_tokens : from + PANEL_RUN;
        for (size_t first = 0; first < n_blocks; first += PANEL_BLOCKS) {
            const size_t count = n_blocks - first < PANEL_BLOCKS ? n_blocks - first : PANEL_BLOCKS;
            for (size_t row = row_from; row < row_to; row += RV_STRIP) {
                const size_t n_rows = row_to - row < RV_STRIP ? row_to - row : RV_STRIP;
                const uint8_t *strip = (const uint8_t *)w->packed + row / RV_STRIP * strip_bytes;
                unpack(type, strip + first / l.unit_blocks * unit_bytes, count, strip_bytes, &p);
                panel_tokens(type, &p, count, n_rows, x, first, from, to, out + row, out_stride);
            }
        }
    }
}

typedef void matmul_fn(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,
                       size_t out_stride);

#define MATMUL_STRIPS(name, type)                                                                            \
    static void name(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,        \
                     size_t out_stride)                                                                      \
    {                                                                                                        \
        if (type != RV_Q8_0 && x->n_tokens >= PANEL_TOKENS) {                                                \
            matmul_panels(type, w, x, row_from, row_to, out, out_stride);                                    \
        } else {                                                                                             \
            matmul_strips(type, w, x, row_from, row_to, out, out_stride);                                    \
        }                                                                                                    \
    }
MATMUL_STRIPS(matmul_q4_0, RV_Q4_0)
MATMUL_STRIPS(matmul_q4_1, RV_Q4_1)
MATMUL_STRIPS(matmul_q5_0, RV_Q5_0)
MATMUL_STRIPS(matmul_q5_1, RV_Q5_1)
MATMUL_STRIPS(matmul_q8_0, RV_Q8_0)
MATMUL_STRIPS(matmul_q4_k, RV_Q4_K)
MATMUL_STRIPS(matmul_q5_k, RV_Q5_K)
MATMUL_STRIPS(matmul_q6_k, RV_Q6_K)

static matmul_fn *const by_type[RV_TYPE_LIMIT] = {
    [RV_Q4_0] = matmul_q4_0, [RV_Q4_1] = matmul_q4_1, [RV_Q5_0] = matmul_q5_0, [RV_Q5_1] = matmul_q5_1,
    [RV_Q8_0] = matmul_q8_0, [RV_Q4_K] = matmul_q4_k, [RV_Q5_K] = matmul_q5_k, [RV_Q6_K] = matmul_q6_k,
};

/* ---- float32 activations ---- */

enum {
    CHUNK = 256, /* columns expanded at a time */
    ROWS = 16,   /* rows expanded at a time, and */
    TOKENS = 32, /* tokens that share the expansion; their sums take 32 KB of stack */
    TILE_ROWS = 4,
    TILE_TOKENS = LANES == 16 ? 4 : 2 /* sums of a tile stay in registers */
};

/* sums[t][r] += len columns of row r times token t; rows [n_rows][CHUNK], x [n_tokens][stride], sums [n_tokens][ROWS] */
INLINE void multiply_tile(size_t n_rows, size_t n_tokens, const float *rows, const float *x, size_t stride,
                          size_t len, vf *sums)
{
    vf sum[TILE_TOKENS][TILE_ROWS];
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t r = 0; r < n_rows; r++) {
            sum[t][r] = sums[t * ROWS + r];
        }
    }
    size_t c = 0;
    for (; c + LANES <= len; c += LANES) {
        for (size_t r = 0; r < n_rows; r++) {
            const vf w = vf_load(rows + r * CHUNK + c);
            for (size_t t = 0; t < n_tokens; t++) {
                sum[t][r] = vf_fma(w, vf_load(x + t * stride + c), sum[t][r]);
            }
        }
    }
    for (size_t r = 0; c < len && r < n_rows; r++) {
        const vf w = vf_load_n(rows + r * CHUNK + c, len - c);
        for (size_t t = 0; t < n_tokens; t++) {
            sum[t][r] = vf_fma(w, vf_load_n(x + t * stride + c, len - c), sum[t][r]);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t r = 0; r < n_rows; r++) {
            sums[t * ROWS + r] = sum[t][r];
        }
    }
}

/* n_tokens (1 or TILE_TOKENS) tokens with all rows of a group */
INLINE void multiply_tokens(size_t n_rows, size_t n_tokens, const float *rows, const float *x, size_t stride,
                            size_t len, vf *sums)
{
    size_t r = 0;
    for (; r + TILE_ROWS <= n_rows; r += TILE_ROWS) {
        multiply_tile(TILE_ROWS, n_tokens, rows + r * CHUNK, x, stride, len, sums + r);
    }
    for (; r < n_rows; r++) {
        multiply_tile(1, n_tokens, rows + r * CHUNK, x, stride, len, sums + r);
    }
}

/* Up to ROWS rows times up to TOKENS tokens; raw is the first row, x the first token, out the first output. */
static void float_group(rv_type type, const char *raw, size_t row_bytes, size_t cols, size_t n_rows,
                        const float *x, size_t stride, size_t n_tokens, float *out, size_t out_stride)
{
    const rv_type_info *info = rv_type_get((uint32_t)type);
    const size_t chunk_bytes = CHUNK / info->block_weights * info->block_bytes;
    _Alignas(64) float rows[ROWS * CHUNK];
    vf sum[TOKENS * ROWS];
    for (size_t i = 0; i < n_tokens * ROWS; i++) {
        sum[i] = vf_set(0);
    }
    for (size_t c = 0; c < cols; c += CHUNK, raw += chunk_bytes) {
        const size_t len = cols - c < CHUNK ? cols - c : CHUNK;
        for (size_t r = 0; r < n_rows; r++) {
            const char *row = raw + r * row_bytes;
            for (size_t i = 0; n_tokens < TILE_TOKENS && i < chunk_bytes; i += RV_LINE) {
                __builtin_prefetch((const void *)((uintptr_t)row + i + AHEAD_FLOAT), 0, 2);
            }
            LEVEL(expand_table)[type](row, rows + r * CHUNK, len);
        }
        size_t t = 0;
        for (; t + TILE_TOKENS <= n_tokens; t += TILE_TOKENS) {
            multiply_tokens(n_rows, TILE_TOKENS, rows, x + t * stride + c, stride, len, sum + t * ROWS);
        }
        for (; t < n_tokens; t++) {
            multiply_tokens(n_rows, 1, rows, x + t * stride + c, stride, len, sum + t * ROWS);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t r = 0; r < n_rows; r += LANES) {
            const size_t n = n_rows - r < LANES ? n_rows - r : LANES;
            vf_store_n(out + t * out_stride + r, vf_sum_each(sum + t * ROWS + r), n);
        }
    }
}

static void matmul_float(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,
                         size_t out_stride)
{
    size_t row_bytes = 0;
    bool whole = rv_type_row_bytes(w->type, w->cols, &row_bytes);
    assert(whole && w->raw);
    (void)whole;
    for (size_t row = row_from; row < row_to; row += ROWS) {
        const size_t n_rows = row_to - row < ROWS ? row_to - row : ROWS;
        for (size_t t = 0; t < x->n_tokens; t += TOKENS) {
            const size_t n_tokens = x->n_tokens - t < TOKENS ? x->n_tokens - t : TOKENS;
            float_group(w->type, (const char *)w->raw + row * row_bytes, row_bytes, w->cols, n_rows,
                        x->f32 + t * x->stride, x->stride, n_tokens, out + t * out_stride + row, out_stride);
        }
    }
}

void LEVEL(matmul)(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,
                   size_t out_stride)
{
    assert(w->cols == x->cols && row_to <= w->rows);
    if (!x->blocks || !by_type[w->type]) {
        matmul_float(w, x, row_from, row_to, out, out_stride);
    } else if (w->packed) {
        by_type[w->type](w, x, row_from, row_to, out, out_stride);
    } else {
        rv_matmul_scalar(w, x, row_from, row_to, out, out_stride); /* same bits, raw rows */
    }
}

size_t LEVEL(pack_bytes)(rv_type type, size_t rows, size_t cols)
{
    return rv_pack_bytes_strips(type, rows, cols);
}
