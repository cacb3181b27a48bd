/* The backward pass of an LFM2 file: how the loss on some texts changes with the factors of an adapter, the model's own weights
 * staying as they are. Activations are float32 and weights are read from the file as they lie, so the gradient is exact for the
 * weights that the file stands for. Only the residual stream at the beginning of each layer is kept; the inside of a layer is
 * computed again on the way back. */
#ifndef RV_MODEL_LFM2_GRAD_H
#define RV_MODEL_LFM2_GRAD_H
#include "base/pool.h"
#include "model/lora.h"

typedef struct rv_lfm2_grad rv_lfm2_grad;

/**
 * rv_lfm2_grad_new - scratch for runs of at most max_tokens.
 *
 * file, pool  outlive it; pool NULL: the calling thread alone
 * bytes       of scratch: about 4 * max_tokens * (hidden * (layers + 16) + 6 * ff), see rv_lfm2_grad_bytes
 *
 * Errors: RV_E_ARG max_tokens below 2.  RV_E_NOMEM.
 */
rv_err rv_lfm2_grad_new(const rv_alloc *mem, const rv_lfm2_file *file, rv_pool *pool, size_t max_tokens,
                        rv_lfm2_grad **out) RV_MUST_CHECK;
void rv_lfm2_grad_free(rv_lfm2_grad *g); /* accepts NULL */
size_t rv_lfm2_grad_bytes(const rv_lfm2_grad *g);
size_t rv_lfm2_grad_max_tokens(const rv_lfm2_grad *g);

typedef struct rv_grad_text {
    const int32_t *ids; /* [n] each 0 .. n_vocab - 1; a sequence from its beginning */
    size_t n;           /* at least 2 */
    size_t first;       /* 1 .. n - 1: the tokens from here on are to be foretold */
    float weight;       /* of each such token's -log p in the loss */
    double nll;         /* out: sum of their -log p, without weight */
} rv_grad_text;

/**
 * rv_lfm2_grad_run - the loss of each text, and gradient += d(sum of weight * nll) / d(lora->weights).
 *
 * lora      NULL: none, and then gradient is NULL too
 * texts     [n_texts], of at most max_tokens together
 * gradient  [lora->n_weights]; NULL: only the losses are wanted
 *
 * The same texts give the same bits with any number of threads.
 * Errors:  RV_E_ARG an id that is not in the vocabulary.  RV_E_CONTEXT more than max_tokens.
 * Threads: one thread at a time, with the pool.
 */
rv_err rv_lfm2_grad_run(rv_lfm2_grad *g, const rv_lora *lora, rv_grad_text *texts, size_t n_texts,
                        float *gradient) RV_MUST_CHECK;
#endif
