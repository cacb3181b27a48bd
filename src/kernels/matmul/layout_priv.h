/* The packed layout of the quantised types, shared by all vector levels: lane = row.
 *
 * A strip is 16 rows; its columns come in units (64 columns for the 32-block types, 256 for the K types) and the units
 * of a strip, and the strips of a matrix, follow each other without gaps, so that a product reads one straight stream.
 * Rows beyond the last and blocks beyond the last are zeros with scale zero.
 *
 *   unit   = header, then its 32-column blocks
 *   header = scales of the unit, 16 rows beside each other (see RV_HEAD_*), filled up to 64 bytes
 *   block  = codes, then high bits. One 64-byte line holds 4 bytes of each of the 16 rows.
 *     4 lines of nibbles: byte k of a row in line v: column 4v + k in the low nibble, 16 + 4v + k in the high one;
 *     or 8 lines of bytes (Q8_0): column 4v + k, biased by 128.
 *     5-bit types: 1 line more: bit v of byte k is the fifth bit of column 4v + k.
 *     6-bit type: 2 lines more: bits 2v, 2v + 1 of byte k are the upper bits of column 4v + k (second line: 16 + 4v + k). */
#ifndef RV_KERNELS_MATMUL_LAYOUT_PRIV_H
#define RV_KERNELS_MATMUL_LAYOUT_PRIV_H
#include "kernels/kernels_priv.h"

enum {
    RV_STRIP = 16,
    RV_LINE = 64,
    /* K types: f16 d[16], f16 dmin[16] (unused in Q6_K), then u8 scale[8][16], u8 min[8][16], or i8 scale[16][16] */
    RV_HEAD_K = 64 + 256,
    RV_HEAD_K_SCALES = 64,
    RV_HEAD_K_MINS = 64 + 128,
    /* 32-block types: f16 d[2][16], then in Q4_1 and Q5_1 f16 m[2][16] */
    RV_HEAD_32 = 64,
    RV_HEAD_32_MIN = 128
};

typedef struct rv_layout {
    size_t unit_blocks, head_bytes, code_bytes, high_bytes; /* unit_blocks 0: the type is not packed */
} rv_layout;

static inline rv_layout rv_layout_of(rv_type type)
{
    switch (type) {
    case RV_Q4_0: return (rv_layout){ 2, RV_HEAD_32, 4 * RV_LINE, 0 };
    case RV_Q4_1: return (rv_layout){ 2, RV_HEAD_32_MIN, 4 * RV_LINE, 0 };
    case RV_Q5_0: return (rv_layout){ 2, RV_HEAD_32, 4 * RV_LINE, RV_LINE };
    case RV_Q5_1: return (rv_layout){ 2, RV_HEAD_32_MIN, 4 * RV_LINE, RV_LINE };
    case RV_Q8_0: return (rv_layout){ 2, RV_HEAD_32, 8 * RV_LINE, 0 };
    case RV_Q4_K: return (rv_layout){ 8, RV_HEAD_K, 4 * RV_LINE, 0 };
    case RV_Q5_K: return (rv_layout){ 8, RV_HEAD_K, 4 * RV_LINE, RV_LINE };
    case RV_Q6_K: return (rv_layout){ 8, RV_HEAD_K, 4 * RV_LINE, 2 * RV_LINE };
    default: return (rv_layout){ 0, 0, 0, 0 };
    }
}

static inline size_t rv_layout_block_bytes(rv_layout l)
{
    return l.code_bytes + l.high_bytes;
}
static inline size_t rv_layout_unit_bytes(rv_layout l)
{
    return l.head_bytes + l.unit_blocks * rv_layout_block_bytes(l);
}
static inline size_t rv_layout_units(rv_layout l, size_t cols)
{
    return (cols / 32 + l.unit_blocks - 1) / l.unit_blocks;
}

size_t rv_pack_bytes_strips(rv_type type, size_t rows, size_t cols);
void rv_pack_strips(const rv_matrix *w, size_t row_from, size_t row_to, void *packed);
#endif
