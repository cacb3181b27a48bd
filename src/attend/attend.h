/* Graph attention: a query looks at the subgraph that memory returned and says which node matters how much.
 *
 * Layers of multi-head cross attention from one query state c to the nodes. Head h of layer l gives node i the logit
 *
 *     s = 8 (beta <R(0) q_h, R(hop_i) k_h,i> + w . evidence_i - gamma hop_i)
 *
 * with q = c + Bq Aq c and k_i = x_i + Bk Ak x_i (identity and a low-rank part, so nothing is kept per node and nothing has to
 * be made anew when weights change), and moves the state to the unit vector along c + g sum_i softmax(s)_i x_i. What ranks a node
 * is the mean of s over heads and layers.
 *
 * At the start beta, g, Bq and Bk are 0, w asks for `path` alone and gamma puts every hop behind all hits: the ranking is the order
 * of retrieval, exactly. Training is accepted by its caller only when it ranks better on questions it has not seen.
 *
 * R turns the first half of each head's channels by angles that grow with the hop (GraphRoPE, base 10), and is on when asked for.
 *
 * Source: Velickovic et al. 2018, arXiv:1710.10903; Su et al. 2021, arXiv:2104.09864; differs: identity start, low-rank parts,
 * evidence as a linear term of the logit. */
#ifndef RV_ATTEND_ATTEND_H
#define RV_ATTEND_ATTEND_H
#include "base/alloc.h"
#include "base/err.h"
#include "kernels/kernels.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_ATTEND_NODES_MAX 512
#define RV_ATTEND_DIM_MAX   4096
#define RV_ATTEND_HOPS      3 /* 0 .. 2 */

/* What is known of a node besides its vector, each about 0 .. 1. The first eight are one-hot: how it was reached. */
typedef enum rv_evidence {
    RV_EVIDENCE_CITES,
    RV_EVIDENCE_FOLLOWS,
    RV_EVIDENCE_SAME_TOPIC,
    RV_EVIDENCE_AGENT_STEP,
    RV_EVIDENCE_DERIVED,
    RV_EVIDENCE_CONTAINS,
    RV_EVIDENCE_OTHER,
    RV_EVIDENCE_RETRIEVED, /* a hit of the search: by an edge from the query */
    RV_EVIDENCE_WEIGHT,    /* of the edge it was reached by; of a hit its score */
    RV_EVIDENCE_PATH,      /* the hit's score times the weights on the way; of a hit its score */
    RV_EVIDENCE_CONFIDENCE,
    RV_EVIDENCE_NODE_RECENCY, /* exp(-age / 30 days) */
    RV_EVIDENCE_QUALITY,      /* it is feedback: a correction, or an answer that was rated well */
    RV_EVIDENCE_HOP,          /* hop / 2 */
    RV_EVIDENCE_AGAINST,      /* the edge was walked against its direction */
    RV_EVIDENCE_WORDS,        /* BM25 / the best BM25 */
    RV_EVIDENCE_COSINE,
    RV_EVIDENCE_SUPPORT, /* the best score among its neighbours that are hits, times the edge's weight */
    RV_EVIDENCE_LENGTH,  /* log2(1 + bytes of text) / 16 */
    RV_EVIDENCE_N
} rv_evidence;

typedef struct rv_attend_node {
    const float *vector; /* [dim] unit, or all zero */
    unsigned hop;        /* 0: a hit; to RV_ATTEND_HOPS - 1 */
    float evidence[RV_EVIDENCE_N];
} rv_attend_node;

typedef struct rv_attend_weights rv_attend_weights;

/** rv_attend_new - weights that rank as the search did. dim: 2 .. RV_ATTEND_DIM_MAX, even. seed: of the low-rank parts' Aq and Ak.
 * Errors:  RV_E_ARG dim.  RV_E_NOMEM.  Threads: immutable unless trained, any thread. */
rv_err rv_attend_new(const rv_alloc *mem, size_t dim, bool rope, uint64_t seed,
                     rv_attend_weights **out) RV_MUST_CHECK;
void rv_attend_free(rv_attend_weights *w); /* accepts NULL */
rv_err rv_attend_copy(const rv_attend_weights *w, rv_attend_weights **out) RV_MUST_CHECK;
size_t rv_attend_dim(const rv_attend_weights *w);
/** rv_attend_values - all parameters as one array [n], in the order of the file. */
float *rv_attend_values(rv_attend_weights *w, size_t *n);

/** rv_attend_scratch_bytes - for n nodes; aligned to 16. For rank and for grad. */
size_t rv_attend_scratch_bytes(const rv_attend_weights *w, size_t n);

/**
 * rv_attend_rank - how much each node matters.
 *
 * query    [dim] unit
 * nodes    [n], n <= RV_ATTEND_NODES_MAX
 * scratch  rv_attend_scratch_bytes(w, n)
 * scores   out [n], larger is better: sort by it, ties by the order given
 * context  out [dim] the query's state after the last layer, or NULL; the query itself when n is 0
 */
void rv_attend_rank(const rv_attend_weights *w, const rv_kernels *k, const float *query,
                    const rv_attend_node *nodes, size_t n, void *scratch, float *scores, float *context);

/**
 * rv_attend_grad - the loss -sum_i target_i log softmax(scores)_i, and its derivative by every parameter, added to grad.
 *
 * target  [n] not negative, sum 1
 * grad    in and out [rv_attend_values]
 */
double rv_attend_grad(const rv_attend_weights *w, const rv_kernels *k, const float *query,
                      const rv_attend_node *nodes, size_t n, const float *target, void *scratch, float *grad);

typedef struct rv_attend_example {
    const float *query;          /* [dim] */
    const rv_attend_node *nodes; /* [n] */
    size_t n;
    const bool *used; /* [n] at least one */
} rv_attend_example;

typedef struct rv_attend_training {
    size_t epochs, patience; /* patience: so many epochs without a better nDCG on `held` end it */
    float rate, decay;       /* of AdamW; decay pulls towards the start */
    uint64_t seed;           /* of the order of examples */
} rv_attend_training;

/** rv_attend_training_default - 30 epochs, patience 5, rate 0.003, decay 0.01. */
rv_attend_training rv_attend_training_default(void);

/**
 * rv_attend_train - fit w to `learn` and keep the epoch that ranks `held` best; w as it was when none is better than the start.
 *
 * before, after  out, mean nDCG@10 on `held` of the weights as given and as kept
 *
 * Errors:  RV_E_ARG no example.  RV_E_NOMEM.  RV_E_CORRUPT a loss that is not finite; w as it was.
 * Threads: one thread at a time; nobody ranks with w meanwhile.
 */
rv_err rv_attend_train(rv_attend_weights *w, const rv_kernels *k, const rv_attend_example *learn,
                       size_t n_learn, const rv_attend_example *held, size_t n_held, rv_attend_training how,
                       double *before, double *after) RV_MUST_CHECK;

/** rv_attend_ndcg - mean nDCG@10 of the ranking over examples; of the order given when w is NULL. RV_E_NOMEM. */
rv_err rv_attend_ndcg(const rv_attend_weights *w, const rv_kernels *k, const rv_attend_example *examples,
                      size_t n, double *out) RV_MUST_CHECK;

/** rv_attend_file_bytes, rv_attend_write - the weights as docs/formats/graph-attention.md says. */
size_t rv_attend_file_bytes(const rv_attend_weights *w);
void rv_attend_write(const rv_attend_weights *w, void *out);
/** rv_attend_read - RV_E_FORMAT not such a file, or a field out of range; RV_E_CORRUPT checksum or a value that is not finite. */
rv_err rv_attend_read(const rv_alloc *mem, const void *bytes, size_t n,
                      rv_attend_weights **out) RV_MUST_CHECK;
#endif
