/* Up to PART_FEW keys are set apart through a buffer: both kinds keep their order, and nothing depends on a guess. Of more keys mostly few are below: only they are
 * moved, each to the place of the first that is not. Every level does the same in both cases. */
#ifndef RV_KERNELS_PART_PART_PRIV_H
#define RV_KERNELS_PART_PART_PRIV_H
#include "kernels/kernels_priv.h"

#include <string.h>

enum { PART_FEW = 1024 };

static inline size_t part_few(float *keys, uint32_t *what, size_t n, float pivot)
{
    float others[PART_FEW];
    uint32_t their[PART_FEW];
    size_t below = 0, above = 0;
    for (size_t i = 0; i < n; i++) {
        const float key = keys[i];
        const uint32_t thing = what[i];
        keys[below] = others[above] = key;
        what[below] = their[above] = thing;
        below += key < pivot;
        above += !(key < pivot);
    }
    memcpy(keys + below, others, above * sizeof *keys);
    memcpy(what + below, their, above * sizeof *what);
    return below;
}

static inline size_t part_move(float *keys, uint32_t *what, size_t at, size_t below)
{
    const float key = keys[at];
    const uint32_t thing = what[at];
    keys[at] = keys[below], what[at] = what[below];
    keys[below] = key, what[below] = thing;
    return below + 1;
}
#endif
