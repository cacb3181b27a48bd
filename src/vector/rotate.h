/* A random rotation, so that no coordinate matters more than another and a vector survives being cut to few bits: three
 * rounds of random signs and a Hadamard transform. Where the dimension is no power of two, two transforms of the largest power
 * below overlap, which is orthogonal as well. Lengths and products are kept to 1e-5.
 * Source: Ailon and Chazelle 2009, "The fast Johnson-Lindenstrauss transform"; differs: three rounds, no sampling. */
#ifndef RV_VECTOR_ROTATE_H
#define RV_VECTOR_ROTATE_H
#include "base/alloc.h"
#include "base/err.h"
#include "kernels/kernels.h"

typedef struct rv_rotation rv_rotation;

/** rv_rotation_new - the same for the same dim (> 0) and seed, on every machine. RV_E_NOMEM. Immutable, any thread. */
rv_err rv_rotation_new(const rv_alloc *mem, size_t dim, uint64_t seed, rv_rotation **out) RV_MUST_CHECK;
void rv_rotation_free(rv_rotation *rotation); /* accepts NULL */
/** rv_rotation_apply - out [dim] = rotated x [dim]; out may be x. The same bits at every CPU level. */
void rv_rotation_apply(const rv_rotation *rotation, const float *x, float *out);
#endif
