#include "kernels/part/part_priv.h"

size_t rv_part_scalar(float *keys, uint32_t *what, size_t n, float pivot)
{
    size_t below = 0;
    if (n <= PART_FEW) {
        return part_few(keys, what, n, pivot);
    }
    for (size_t i = 0; i < n; i++) {
        below = keys[i] < pivot ? part_move(keys, what, i, below) : below;
    }
    return below;
}
