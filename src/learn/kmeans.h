/* k-means++ over vectors of unit length (spherical): the first centre is drawn evenly, each next one with probability in proportion to its squared
 * distance; then Lloyd's rounds until no centre moves by 0.001. An empty group begins again at what fits worst.
 * Source: Arthur and Vassilvitskii 2007. */
#ifndef RV_LEARN_KMEANS_H
#define RV_LEARN_KMEANS_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rv_kmeans {
    float *centres;  /* [many][dim] of unit length */
    uint32_t *count; /* [many] vectors of each */
    size_t many;
} rv_kmeans;

/** rv_kmeans_make - vectors [n][dim]; many 1 .. n. rounds: at most. Same seed, same groups. RV_E_NOMEM. */
rv_err rv_kmeans_make(const rv_alloc *mem, const float *vectors, size_t n, size_t dim, size_t many,
                      size_t rounds, uint64_t seed, rv_kmeans *out) RV_MUST_CHECK;
void rv_kmeans_deinit(const rv_alloc *mem, rv_kmeans *groups);

/** rv_unit - v [dim] at length 1; false: it has none, and stays. */
bool rv_unit(float *v, size_t dim);
#endif
