#include "kernels/kernels_priv.h"

/* The definition. int32 sums: at most 255 * 128 each, safe to n = 65,792. */
void rv_plane_dots_scalar(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows,
                          size_t bits, const int8_t *q, size_t n, int32_t *out)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = codes + rows[r] * stride;
        int32_t sum = 0;
        for (size_t plane = 0; plane < bits; plane++, row += n / 8) {
            int32_t of_plane = 0;
            for (size_t i = 0; i < n; i++) {
                of_plane += row[i / 8] >> i % 8 & 1 ? q[i] : 0;
            }
            sum += of_plane * (1 << plane);
        }
        out[r] = sum;
    }
}
