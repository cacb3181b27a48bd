#include "vector/vecs.h"

enum { DIM_MAX = 1 << 20 };

static uint32_t dim_at(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

rv_err rv_vecs_read(const void *bytes, size_t n_bytes, rv_vecs *out)
{
    if (n_bytes < 4) {
        return rv_fail(RV_E_FORMAT, "vectors: %zu bytes are too few for one", n_bytes);
    }
    uint32_t dim = dim_at(bytes);
    if (dim < 1 || dim > DIM_MAX) {
        return rv_fail(RV_E_FORMAT, "vectors: the first has %u dimensions, expected 1 .. %d", dim, DIM_MAX);
    }
    size_t stride = 4 + 4 * (size_t)dim;
    if (n_bytes % stride) {
        return rv_fail(RV_E_FORMAT, "vectors: %zu bytes are no whole rows of %u dimensions", n_bytes, dim);
    }
    rv_vecs read = { bytes, n_bytes / stride, dim };
    for (size_t i = 1; i < read.n; i++) {
        uint32_t found = dim_at(read.bytes + i * stride);
        if (found != dim) {
            return rv_fail(RV_E_FORMAT, "vectors: row %zu has %u dimensions, expected %u", i, found, dim);
        }
    }
    *out = read;
    return RV_OK;
}
