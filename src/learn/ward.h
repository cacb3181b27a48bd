/* Ward's linkage over unit vectors: the two groups are joined whose union costs the least spread, until all are one. */
#ifndef RV_LEARN_WARD_H
#define RV_LEARN_WARD_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

/* Groups [2n - 1]: the first n are the vectors themselves, each later one joins two before it; the last one is all. */
typedef struct rv_ward_group {
    size_t left, right; /* of a joined one */
    size_t size;
    float cohesion; /* mean cosine of its vectors to their middle, 1 for one alone */
    float alike;    /* cosine of the middles of its two parts, 1 for one alone */
} rv_ward_group;

/**
 * rv_ward - vectors [n][dim] of unit length, each at vectors[i]; groups out [2n - 1], in the order in which they were joined.
 *
 * go_on    asked before each join; false ends it with RV_E_CANCELLED. May be NULL
 * Errors:  RV_E_NOMEM.  RV_E_ARG n is 0.
 * Source:  Ward 1963; Murtagh 1983: n^2 comparisons, by chains of nearest neighbours.
 */
rv_err rv_ward(const rv_alloc *mem, const float *const *vectors, size_t n, size_t dim,
               bool (*go_on)(void *self), void *self, rv_ward_group *groups) RV_MUST_CHECK;
#endif
