/* fvecs and ivecs, the files that sets of vectors are handed round in: per row a 32-bit dimension and as many float32 or int32,
 * little-endian. Source: corpus-texmex.irisa.fr. */
#ifndef RV_VECTOR_VECS_H
#define RV_VECTOR_VECS_H
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

typedef struct rv_vecs {
    const uint8_t *bytes; /* borrowed, 4-byte aligned */
    size_t n, dim;
} rv_vecs;

/** rv_vecs_read - rows of a whole file; all have the same dimension, 1 .. 1,048,576.
 *  Errors: RV_E_FORMAT, with the row that does not fit. */
rv_err rv_vecs_read(const void *bytes, size_t n_bytes, rv_vecs *out) RV_MUST_CHECK;
/** rv_vecs_row - 4-byte values [dim] of row i < n. */
static inline const void *rv_vecs_row(const rv_vecs *vecs, size_t i)
{
    return vecs->bytes + i * (4 + 4 * vecs->dim) + 4;
}
#endif
