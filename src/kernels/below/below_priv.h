/* The plain form, for every level that has nothing better: without a branch for each key, because which are below is hard to guess. */
#ifndef RV_KERNELS_BELOW_PRIV_H
#define RV_KERNELS_BELOW_PRIV_H
#include "kernels/kernels_priv.h"

static inline size_t copy_below(const float *keys, const uint32_t *what, size_t n, float limit, float *out,
                                uint32_t *out_what)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        out[kept] = keys[i];
        out_what[kept] = what[i];
        kept += keys[i] <= limit;
    }
    return kept;
}

#endif
