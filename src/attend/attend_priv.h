/* The weights: one array of values, so that a step of training, a file and a copy are one loop each. */
#ifndef RV_ATTEND_ATTEND_PRIV_H
#define RV_ATTEND_ATTEND_PRIV_H
#include "attend/attend.h"

enum { LAYERS = 3, RANK = 8, HEADS_MAX = 8 };

struct rv_attend_weights {
    const rv_alloc *mem;
    size_t dim, heads, width; /* dim = heads * width, width even */
    bool rope;
    uint64_t seed;
    size_t n_values;
    float *values; /* [n_values] */
};
#endif
