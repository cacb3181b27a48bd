/* The definition. Floats are added and multiplied in the one order that every level keeps (sixteen sums, then by halves; no
 * fused products), so that estimates, and with them the candidates of a search, are the same bits everywhere. */
#include "kernels/onebit/onebit_priv.h"

float rv_onebit_table_scalar(const float *x, const float *centre, const float *dither, size_t dim,
                             uint8_t *table, float *step)
{
    float sums[16] = { 0 }, largest = 0;
    for (size_t i = 0; i < dim; i++) {
        float t = x[i] - centre[i], size = t < 0 ? -t : t;
        largest = size > largest ? size : largest;
        sums[i % 16] += t * t;
    }
    float to_steps = onebit_step(largest, step);
    for (size_t i = 0; i < dim; i += 4) {
        int u[4];
        for (size_t j = 0; j < 4; j++) {
            float level = (x[i + j] - centre[i + j]) * to_steps + (dither[i + j] + 7.5f);
            u[j] = level < 16 ? (int)level : 15;
        }
        for (int signs = 0; signs < 16; signs++) {
            int sum = 0;
            for (int j = 0; j < 4; j++) {
                sum += signs >> j & 1 ? u[j] : 15 - u[j];
            }
            *table++ = (uint8_t)sum;
        }
    }
    return onebit_sum(sums);
}

size_t rv_onebit_scan_scalar(const rv_onebit_query *query, const uint8_t *blocks, size_t n_rows, float limit,
                             uint32_t *at, float *low)
{
    size_t n = 0;
    for (size_t from = 0; from < n_rows;
         from += RV_ONEBIT_ROWS, blocks += RV_ONEBIT_BLOCK_BYTES(query->dim)) {
        const float *add = (const float *)(const void *)(blocks + 4 * query->dim);
        for (size_t r = 0; r < RV_ONEBIT_ROWS && from + r < n_rows; r++) {
            unsigned sum = 0;
            for (size_t four = 0; four < query->dim / 4; four++) {
                unsigned signs = blocks[16 * four + r % 16] >> (r < 16 ? 0 : 4) & 15;
                sum += query->table[16 * four + signs];
            }
            float product = (float)sum * query->step - query->offset;
            float estimate = add[r] + query->base - add[32 + r] * product;
            float lowest = estimate - add[64 + r] * query->spread;
            if (lowest < limit) {
                at[n] = (uint32_t)(from + r);
                low[n++] = lowest;
            }
        }
    }
    return n;
}
