#include "kernels/blocks.h"
#include "base/alloc.h"

#include <string.h>

static const rv_type_info types[RV_TYPE_LIMIT] = {
    [RV_F32] = { "F32", 1, 4 },
    [RV_F16] = { "F16", 1, 2 },
    [RV_BF16] = { "BF16", 1, 2 },
    [RV_Q4_0] = { "Q4_0", 32, sizeof(rv_block_q4_0) },
    [RV_Q4_1] = { "Q4_1", 32, sizeof(rv_block_q4_1) },
    [RV_Q5_0] = { "Q5_0", 32, sizeof(rv_block_q5_0) },
    [RV_Q5_1] = { "Q5_1", 32, sizeof(rv_block_q5_1) },
    [RV_Q8_0] = { "Q8_0", 32, sizeof(rv_block_q8_0) },
    [RV_Q4_K] = { "Q4_K", 256, sizeof(rv_block_q4_k) },
    [RV_Q5_K] = { "Q5_K", 256, sizeof(rv_block_q5_k) },
    [RV_Q6_K] = { "Q6_K", 256, sizeof(rv_block_q6_k) },
};

_Static_assert(sizeof(rv_block_q4_0) == 18 && sizeof(rv_block_q4_1) == 20, "as in the file");
_Static_assert(sizeof(rv_block_q5_0) == 22 && sizeof(rv_block_q5_1) == 24, "as in the file");
_Static_assert(sizeof(rv_block_q8_0) == 34 && sizeof(rv_block_q4_k) == 144, "as in the file");
_Static_assert(sizeof(rv_block_q5_k) == 176 && sizeof(rv_block_q6_k) == 210, "as in the file");

const rv_type_info *rv_type_get(uint32_t id)
{
    return id < RV_TYPE_LIMIT && types[id].name ? &types[id] : NULL;
}

bool rv_type_row_bytes(rv_type type, size_t cols, size_t *bytes)
{
    const rv_type_info *info = rv_type_get((uint32_t)type);
    return info && cols % info->block_weights == 0 &&
           rv_mul_size(cols / info->block_weights, info->block_bytes, bytes);
}

float rv_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
    if (exponent == 0) { /* zero and sub-normals: fraction * 2^-24, exact in float32 */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    uint32_t bits = exponent == 31 ? 0x7f800000u : (exponent + 112) << 23;
    bits |= sign | fraction << 13;
    if (exponent == 31 && fraction) {
        bits |= 0x400000u; /* a signalling NaN becomes quiet, as the machine's instruction does it */
    }
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

uint16_t rv_f32_to_f16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    }
    if (magnitude >= 0x477ff000u) { /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00);
    }
    if (magnitude < 0x38800000u) { /* below 2^-14: adding 0.5 lets the machine round to multiples of 2^-24 */
        float tiny;
        memcpy(&tiny, &magnitude, sizeof tiny);
        tiny += 0.5f;
        memcpy(&magnitude, &tiny, sizeof magnitude);
        return (uint16_t)(sign | (magnitude - 0x3f000000u));
    }
    uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | ((magnitude - (112u << 23) + 0xfff + odd) >> 13));
}
