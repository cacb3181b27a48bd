/* Many keys. What is not below costs a comparison of LANES keys at once. What makes room for it was looked at before: it lies between those below and here. */
#include "kernels/part/part_priv.h"

INLINE size_t part_many(float *keys, uint32_t *what, size_t n, float pivot)
{
    const vf limit = vf_set(pivot);
    size_t below = 0;
    for (size_t first = 0; first < n; first += LANES) {
        const size_t left = n - first;
        uint32_t bits = left >= LANES ? vf_below(vf_load(keys + first), limit)
                                      : vf_below(vf_load_n(keys + first, left), limit) & ((1u << left) - 1);
        for (; bits; bits &= bits - 1) {
            below = part_move(keys, what, first + (size_t)__builtin_ctz(bits), below);
        }
    }
    return below;
}
