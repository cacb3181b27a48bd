/* Nothing measured on such a machine yet, so nothing but the definition. */
#include "kernels/onebit/onebit_priv.h"

float rv_onebit_table_neon(const float *x, const float *centre, const float *dither, size_t dim,
                           uint8_t *table, float *step)
{
    return rv_onebit_table_scalar(x, centre, dither, dim, table, step);
}

size_t rv_onebit_scan_neon(const rv_onebit_query *query, const uint8_t *blocks, size_t n_rows, float limit,
                           uint32_t *at, float *low)
{
    return rv_onebit_scan_scalar(query, blocks, n_rows, limit, at, low);
}
