#include "kernels/below/below_priv.h"

size_t rv_below_scalar(const float *keys, const uint32_t *what, size_t n, float limit, float *out,
                       uint32_t *out_what)
{
    return copy_below(keys, what, n, limit, out, out_what);
}
