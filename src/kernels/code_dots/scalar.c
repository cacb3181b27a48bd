#include "kernels/kernels_priv.h"

/* int32 sums: |(code - 128) * q| <= 128 * 128, safe to n = 131,071. */
void rv_code_dots_scalar(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows,
                         const int8_t *q, size_t n, int32_t *out)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = codes + (rows ? rows[r] : r) * stride;
        int32_t sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (row[i] - 128) * q[i];
        }
        out[r] = sum;
    }
}
