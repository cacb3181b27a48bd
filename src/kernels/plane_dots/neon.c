#include "kernels/kernels_priv.h"

#include <arm_neon.h>

/* What a plane leaves of q is summed in its own register, which is weighed at the end. int32 sums as in the definition. */
void rv_plane_dots_neon(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows, size_t bits,
                        const int8_t *q, size_t n, int32_t *out)
{
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = codes + rows[r] * stride;
        int32_t all = 0;
        for (size_t plane = 0; plane < bits; plane++, row += n / 8) {
            int32x4_t sum = vdupq_n_s32(0);
            for (size_t i = 0; i < n; i += 16) {
                uint8x16_t bytes = vcombine_u8(vdup_n_u8(row[i / 8]), vdup_n_u8(row[i / 8 + 1]));
                int8x16_t left = vandq_s8(vld1q_s8(q + i), vreinterpretq_s8_u8(vtstq_u8(bytes, bit)));
                sum = vpadalq_s16(sum, vpaddlq_s8(left));
            }
            all += vaddvq_s32(sum) * (1 << plane);
        }
        out[r] = all;
    }
}
