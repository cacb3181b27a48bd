/* Number formats of GGUF tensors. A block is consecutive weights of one row. Layouts are those of the file, little-endian,
 * without padding; scales are IEEE half, sub-normals included. */
#ifndef RV_KERNELS_BLOCKS_H
#define RV_KERNELS_BLOCKS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum rv_type {
    RV_F32 = 0,
    RV_F16 = 1,
    RV_Q4_0 = 2,
    RV_Q4_1 = 3,
    RV_Q5_0 = 6,
    RV_Q5_1 = 7,
    RV_Q8_0 = 8,
    RV_Q4_K = 12,
    RV_Q5_K = 13,
    RV_Q6_K = 14,
    RV_BF16 = 30,
    RV_TYPE_LIMIT = 31
} rv_type;

typedef struct rv_type_info {
    const char *name;     /* "Q4_K"; NULL: not a type we read */
    size_t block_weights; /* 1, 32 or 256 */
    size_t block_bytes;
} rv_type_info;

/** rv_type_get - the row of the table for a file's type number, or NULL when we do not read it. Immutable, any thread. */
const rv_type_info *rv_type_get(uint32_t id);

/** rv_type_row_bytes - bytes of one row of cols weights. False, and *bytes untouched, when we do not read the type, cols is
 * no multiple of its block, or the size overflows. */
bool rv_type_row_bytes(rv_type type, size_t cols, size_t *bytes);

/* What the bits mean is in unpack_priv.h. */
typedef struct {
    uint16_t d;
    uint8_t qs[16];
} rv_block_q4_0;
typedef struct {
    uint16_t d, m;
    uint8_t qs[16];
} rv_block_q4_1;
typedef struct {
    uint16_t d;
    uint8_t qh[4], qs[16];
} rv_block_q5_0;
typedef struct {
    uint16_t d, m;
    uint8_t qh[4], qs[16];
} rv_block_q5_1;
typedef struct {
    uint16_t d;
    int8_t qs[32];
} rv_block_q8_0;
typedef struct {
    uint16_t d, dmin;
    uint8_t scales[12], qs[128];
} rv_block_q4_k;
typedef struct {
    uint16_t d, dmin;
    uint8_t scales[12], qh[32], qs[128];
} rv_block_q5_k;
typedef struct {
    uint8_t ql[128], qh[64];
    int8_t scales[16];
    uint16_t d;
} rv_block_q6_k;

/** rv_f16_to_f32 - exact.  rv_f32_to_f16 - nearest even, infinity from 65520, NaN stays NaN.  rv_bf16_to_f32 - exact. */
float rv_f16_to_f32(uint16_t h);
uint16_t rv_f32_to_f16(float x);
static inline float rv_bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = { .u = (uint32_t)h << 16 };
    return v.f;
}
#endif
