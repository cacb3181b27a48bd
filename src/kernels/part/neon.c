#include "kernels/simd_neon_priv.h"

#include "kernels/part/body_priv.h"

size_t rv_part_neon(float *keys, uint32_t *what, size_t n, float pivot)
{
    return n <= PART_FEW ? part_few(keys, what, n, pivot) : part_many(keys, what, n, pivot);
}
