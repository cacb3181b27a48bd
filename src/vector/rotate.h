/* A random rotation, so that no coordinate matters more than another and a vector survives being cut to few bits. Lengths and
 * products are kept to 1e-5.
 *
 * hadamard: three rounds of random signs and a Hadamard transform. Where the dimension is no power of two, two transforms of
 * the largest power below overlap, which is orthogonal as well.
 * haar: an orthogonal matrix of which every one is as likely; dim^2 steps a vector instead of 3 dim log dim, and dim^3 to make. It
 * is what the theory speaks of, and there to compare with.
 *
 * Source: Ailon and Chazelle 2009, "The fast Johnson-Lindenstrauss transform"; differs: three rounds, no sampling. Haar: Mezzadri
 * 2007, arXiv:math-ph/0609050, by Gram and Schmidt's method done twice. */
#ifndef RV_VECTOR_ROTATE_H
#define RV_VECTOR_ROTATE_H
#include "base/alloc.h"
#include "base/err.h"
#include "kernels/kernels.h"
#include "vector/index.h"

typedef struct rv_rotation rv_rotation;

/** rv_rotation_new - the same for the same dim (> 0) and seed, on every machine but for the last bits of haar. haar has at most
 * RV_INDEX_HAAR_DIM_MAX dimensions. RV_E_NOMEM. Immutable, any thread. */
rv_err rv_rotation_new(const rv_alloc *mem, size_t dim, uint64_t seed, rv_rotation_kind kind,
                       rv_rotation **out) RV_MUST_CHECK;
/** rv_rotation_of - haar from its matrix [dim][dim], borrowed.  rv_rotation_matrix - that matrix; NULL: hadamard. */
rv_err rv_rotation_of(const rv_alloc *mem, size_t dim, const float *matrix, rv_rotation **out) RV_MUST_CHECK;
const float *rv_rotation_matrix(const rv_rotation *rotation);
void rv_rotation_free(rv_rotation *rotation); /* accepts NULL */
/** rv_rotation_apply - out [dim] = rotated x [dim]; out may be x. The same bits at every CPU level. */
void rv_rotation_apply(const rv_rotation *rotation, const float *x, float *out);
#endif
