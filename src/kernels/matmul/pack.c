/* From the file's layout to strips of 16 interleaved rows; plain C, used by every vector level. */
#include "kernels/matmul/layout_priv.h"
#include "kernels/unpack_priv.h"
#include "base/alloc.h"

#include <assert.h>
#include <string.h>

size_t rv_pack_bytes_strips(rv_type type, size_t rows, size_t cols)
{
    rv_layout l = rv_layout_of(type);
    size_t strips = rows / RV_STRIP + (rows % RV_STRIP != 0), strip_bytes, bytes;
    if (l.unit_blocks == 0 || !rv_mul_size(rv_layout_units(l, cols), rv_layout_unit_bytes(l), &strip_bytes) ||
        !rv_mul_size(strips, strip_bytes, &bytes)) {
        return 0;
    }
    return bytes;
}

/* One row of one 32-column block as 32-bit words: codes for lines 0.., then high bits. Byte k of word v is what a line
 * holds in byte k of the row. */
typedef struct words {
    uint32_t code[8], high[2];
} words;

static uint32_t word(const void *bytes, size_t v)
{
    uint32_t w;
    memcpy(&w, (const char *)bytes + 4 * v, sizeof w);
    return w;
}

static void copy_nibbles(const uint8_t qs[16], words *out)
{
    for (size_t v = 0; v < 4; v++) {
        out->code[v] = word(qs, v);
    }
}

/* qh of the 32-block types: bit 4v + k becomes bit v of byte k. */
static void spread_bits(const uint8_t qh[4], words *out)
{
    uint32_t bits = word(qh, 0);
    out->high[0] = 0;
    for (unsigned v = 0; v < 8; v++) {
        out->high[0] |= ((bits >> 4 * v & 15) * 0x00204081u & 0x01010101u) << v;
    }
}

/* Nibbles of one sub-block (low or high ones of 32 bytes) from column order to line order. */
static void pair_nibbles(const uint8_t qs[32], bool upper, words *out)
{
    for (size_t v = 0; v < 4; v++) {
        uint32_t first = word(qs, v), last = word(qs, 4 + v);
        out->code[v] = upper ? (first >> 4 & 0x0f0f0f0fu) | (last & 0xf0f0f0f0u)
                             : (first & 0x0f0f0f0fu) | (last & 0x0f0f0f0fu) << 4;
    }
}

static void words_of(rv_type type, const void *row, size_t b, words *out)
{
    switch (type) {
    case RV_Q4_0: copy_nibbles(((const rv_block_q4_0 *)row)[b].qs, out); break;
    case RV_Q4_1: copy_nibbles(((const rv_block_q4_1 *)row)[b].qs, out); break;
    case RV_Q5_0:
        copy_nibbles(((const rv_block_q5_0 *)row)[b].qs, out);
        spread_bits(((const rv_block_q5_0 *)row)[b].qh, out);
        break;
    case RV_Q5_1:
        copy_nibbles(((const rv_block_q5_1 *)row)[b].qs, out);
        spread_bits(((const rv_block_q5_1 *)row)[b].qh, out);
        break;
    case RV_Q8_0:
        for (size_t v = 0; v < 8; v++) {
            out->code[v] = word(((const rv_block_q8_0 *)row)[b].qs, v) ^ 0x80808080u;
        }
        break;
    case RV_Q4_K: pair_nibbles(((const rv_block_q4_k *)row)[b / 8].qs + b % 8 / 2 * 32, b % 2, out); break;
    case RV_Q5_K: {
        const rv_block_q5_k *block = &((const rv_block_q5_k *)row)[b / 8];
        pair_nibbles(block->qs + b % 8 / 2 * 32, b % 2, out);
        out->high[0] = 0;
        for (unsigned v = 0; v < 8; v++) {
            out->high[0] |= (word(block->qh, v) >> b % 8 & 0x01010101u) << v;
        }
        break;
    }
    case RV_Q6_K: {
        const rv_block_q6_k *block = &((const rv_block_q6_k *)row)[b / 8];
        size_t half = b % 8 / 4, part = b % 4;
        pair_nibbles(block->ql + 64 * half + 32 * (part % 2), part >= 2, out);
        out->high[0] = out->high[1] = 0;
        for (unsigned v = 0; v < 8; v++) {
            out->high[v / 4] |= (word(block->qh + 32 * half, v) >> 2 * part & 0x03030303u) << 2 * (v % 4);
        }
        break;
    }
    default: assert(!"a packed type");
    }
}

static void put_f16(uint8_t *unit, size_t index, uint16_t value)
{
    memcpy(unit + index * sizeof value, &value, sizeof value);
}

/* The scales of unit u of one row into column `lane` of the unit's header. */
static void put_head(rv_type type, const void *row, size_t u, size_t n_blocks, size_t lane, uint8_t *unit)
{
    uint8_t *scales = unit + RV_HEAD_K_SCALES, *mins = unit + RV_HEAD_K_MINS;
    for (size_t i = 0; i < n_blocks; i++) {
        size_t b = 2 * u + i, at = 16 * i + lane; /* 32-block types only */
        switch (type) {
        case RV_Q4_0: put_f16(unit, at, ((const rv_block_q4_0 *)row)[b].d); break;
        case RV_Q5_0: put_f16(unit, at, ((const rv_block_q5_0 *)row)[b].d); break;
        case RV_Q8_0: put_f16(unit, at, ((const rv_block_q8_0 *)row)[b].d); break;
        case RV_Q4_1:
            put_f16(unit, at, ((const rv_block_q4_1 *)row)[b].d);
            put_f16(unit, 32 + at, ((const rv_block_q4_1 *)row)[b].m);
            break;
        case RV_Q5_1:
            put_f16(unit, at, ((const rv_block_q5_1 *)row)[b].d);
            put_f16(unit, 32 + at, ((const rv_block_q5_1 *)row)[b].m);
            break;
        case RV_Q4_K:
            rv_scale_min_k(((const rv_block_q4_k *)row)[u].scales, i, &scales[at], &mins[at]);
            put_f16(unit, lane, ((const rv_block_q4_k *)row)[u].d);
            put_f16(unit, 16 + lane, ((const rv_block_q4_k *)row)[u].dmin);
            break;
        case RV_Q5_K:
            rv_scale_min_k(((const rv_block_q5_k *)row)[u].scales, i, &scales[at], &mins[at]);
            put_f16(unit, lane, ((const rv_block_q5_k *)row)[u].d);
            put_f16(unit, 16 + lane, ((const rv_block_q5_k *)row)[u].dmin);
            break;
        case RV_Q6_K:
            scales[32 * i + lane] = (uint8_t)((const rv_block_q6_k *)row)[u].scales[2 * i];
            scales[32 * i + 16 + lane] = (uint8_t)((const rv_block_q6_k *)row)[u].scales[2 * i + 1];
            put_f16(unit, lane, ((const rv_block_q6_k *)row)[u].d);
            break;
        default: assert(!"a packed type");
        }
    }
}

static void pack_unit(const rv_matrix *w, rv_layout l, size_t row_bytes, size_t first_row, size_t u,
                      uint8_t *unit)
{
    size_t n_rows = w->rows - first_row < RV_STRIP ? w->rows - first_row : RV_STRIP;
    size_t left = w->cols / 32 - u * l.unit_blocks, n_blocks = left < l.unit_blocks ? left : l.unit_blocks;
    memset(unit, 0, n_rows == RV_STRIP && n_blocks == l.unit_blocks ? l.head_bytes : rv_layout_unit_bytes(l));
    for (size_t lane = 0; lane < n_rows; lane++) {
        const char *row = (const char *)w->raw + (first_row + lane) * row_bytes;
        put_head(w->type, row, u, n_blocks, lane, unit);
        for (size_t i = 0; i < n_blocks; i++) {
            words row_words;
            words_of(w->type, row, u * l.unit_blocks + i, &row_words);
            uint8_t *at = unit + l.head_bytes + i * rv_layout_block_bytes(l) + 4 * lane;
            for (size_t v = 0; v < l.code_bytes / RV_LINE; v++, at += RV_LINE) {
                memcpy(at, &row_words.code[v], 4);
            }
            for (size_t v = 0; v < l.high_bytes / RV_LINE; v++, at += RV_LINE) {
                memcpy(at, &row_words.high[v], 4);
            }
        }
    }
}

void rv_pack_strips(const rv_matrix *w, size_t row_from, size_t row_to, void *packed)
{
    rv_layout l = rv_layout_of(w->type);
    size_t units = rv_layout_units(l, w->cols), unit_bytes = rv_layout_unit_bytes(l), row_bytes = 0;
    bool whole = rv_type_row_bytes(w->type, w->cols, &row_bytes);
    assert(l.unit_blocks && whole && row_from % RV_ROW_STEP == 0 && row_to <= w->rows);
    (void)whole;
    uint8_t *at = (uint8_t *)packed + row_from / RV_STRIP * units * unit_bytes;
    for (size_t row = row_from; row < row_to; row += RV_STRIP) {
        for (size_t u = 0; u < units; u++, at += unit_bytes) {
            pack_unit(w, l, row_bytes, row, u, at);
        }
    }
}
