#include "kernels/kernels_priv.h"

#include <arm_neon.h>

/* int32 sums of at most 128 * 128 each: safe to n = 131,071. */
void rv_code_dots_neon(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows,
                       const int8_t *q, size_t n, int32_t *out)
{
    const uint8x16_t offset = vdupq_n_u8(0x80);
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = codes + (rows ? rows[r] : r) * stride;
        int32x4_t sum = vdupq_n_s32(0);
        size_t i = 0;
        for (; i + 16 <= n; i += 16) {
            sum = vdotq_s32(sum, vreinterpretq_s8_u8(veorq_u8(vld1q_u8(row + i), offset)), vld1q_s8(q + i));
        }
        int32_t all = vaddvq_s32(sum);
        for (; i < n; i++) {
            all += (row[i] - 128) * q[i];
        }
        out[r] = all;
    }
}
