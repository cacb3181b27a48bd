/* The retrieval adapter: a small turn of the query's embedding, y = unit(x + s B A x) with rank 2, learned from which passages were
 * of use. Documents keep their vectors, so learning never re-embeds anything.
 *
 * A signal pulls the query to the passages that were used and away from those that were shown and not used (InfoNCE, temperature
 * 0.07). Anchors, vectors of anything else, hold the adapter back: what it does to them is a loss as well, so that it learns the
 * topic it was told about and leaves others alone.
 *
 * Source: Hu et al. 2021, arXiv:2106.09685; van den Oord et al. 2018, arXiv:1807.03748; Kingma and Ba 2015, arXiv:1412.6980. */
#ifndef RV_LEARN_RETRIEVAL_H
#define RV_LEARN_RETRIEVAL_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_RETRIEVAL_SHOWN_MAX 64

typedef struct rv_retrieval rv_retrieval;

/** rv_retrieval_new - changes nothing yet: B is 0, A drawn from seed. RV_E_ARG dim is not 1 .. 4096.  RV_E_NOMEM.
 * Threads: one thread at a time; apply alone: any number. */
rv_err rv_retrieval_new(const rv_alloc *mem, size_t dim, uint64_t seed, rv_retrieval **out) RV_MUST_CHECK;
void rv_retrieval_free(rv_retrieval *r); /* accepts NULL */
/** rv_retrieval_copy - the same weights and state of learning. */
rv_err rv_retrieval_copy(const rv_retrieval *r, rv_retrieval **out) RV_MUST_CHECK;
size_t rv_retrieval_dim(const rv_retrieval *r);

/** rv_retrieval_apply - y [dim] of length 1 from x [dim] of length 1; x all zero stays so. y may be x. */
void rv_retrieval_apply(const rv_retrieval *r, const float *x, float *y);

typedef struct rv_retrieval_signal {
    const float *query;        /* [dim] unit, as the embedder gave it */
    const float *const *shown; /* [n_shown] vectors [dim] of what was found */
    const bool *used;          /* [n_shown] */
    size_t
        n_shown; /* to RV_RETRIEVAL_SHOWN_MAX; at least one used and one not, else there is nothing to learn */
    const float *const *anchors; /* [n_anchors] vectors of anything else */
    size_t n_anchors;
    float weight; /* 0 .. 1 */
} rv_retrieval_signal;

/** rv_retrieval_loss - of one signal, anchors included; 0 when there is nothing to learn. */
double rv_retrieval_loss(const rv_retrieval *r, const rv_retrieval_signal *signal);
/** rv_retrieval_learn - add the gradient of one signal to what is pending; false when there was nothing to learn. */
bool rv_retrieval_learn(rv_retrieval *r, const rv_retrieval_signal *signal);
size_t rv_retrieval_pending(const rv_retrieval *r);
/** rv_retrieval_gradient - what is pending, summed: A [2][dim], then B [dim][2]. Borrowed. */
const float *rv_retrieval_gradient(const rv_retrieval *r);
/** rv_retrieval_step - apply what is pending (the mean), at rate: 1 is the usual one. The whole never moves a unit vector by more than
 * about 0.5, and fades by a ten thousandth. */
void rv_retrieval_step(rv_retrieval *r, float rate);

/** rv_retrieval_values - A [2][dim], then B [dim][2], as one array [n]. Borrowed. */
float *rv_retrieval_values(rv_retrieval *r, size_t *n);

/** rv_retrieval_file_bytes, rv_retrieval_write - the weights as docs/formats/retrieval-adapter.md says, without the state of learning. */
size_t rv_retrieval_file_bytes(const rv_retrieval *r);
void rv_retrieval_write(const rv_retrieval *r, void *out);
/** rv_retrieval_read - RV_E_FORMAT not such a file, another dimension than dim, a value that is not finite or beyond 1e6.  RV_E_NOMEM. */
rv_err rv_retrieval_read(const rv_alloc *mem, const void *bytes, size_t n, size_t dim,
                         rv_retrieval **out) RV_MUST_CHECK;
#endif
