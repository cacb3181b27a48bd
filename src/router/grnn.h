/* FastGRNN, a recurrent cell of a few thousand parameters, and a linear head on its last state.
 *
 *     p  = W x + U h                 one W and one U, shared by gate and candidate
 *     z  = sigmoid(p + b_z)
 *     c  = tanh(p + b_h)
 *     h' = (s(zeta) (1 - z) + s(nu)) c + z h          s: sigmoid
 *     y  = V h' + b
 *
 * W may be a product of two (rank_w) or sparse, U a product of two (rank_u). There are two forms: rv_grnn_fit is dense, in
 * float32, and learns; rv_grnn is what comes of it, keeps of W only what is not zero, may keep its numbers as int8, and never
 * changes. Source: Kusupati et al. 2018, arXiv:1901.02358; names and shapes as in docs/formats/router.md. */
#ifndef RV_ROUTER_GRNN_H
#define RV_ROUTER_GRNN_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/rng.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RV_GRNN_MAX_INPUT = 256,
    RV_GRNN_MAX_HIDDEN = 256,
    RV_GRNN_MAX_OUTPUTS = 256,
    RV_GRNN_MAX_STEPS = 256
};

typedef struct rv_grnn_shape {
    size_t input, hidden, outputs; /* 1 .. the maxima above */
    size_t rank_w, rank_u;         /* 0: one matrix; else at most hidden */
} rv_grnn_shape;

/* The tensors, in the order of the parameters. */
typedef enum rv_grnn_part {
    RV_GRNN_W,   /* [hidden][input], or [rank_w][input] */
    RV_GRNN_W2,  /* [hidden][rank_w], empty without rank_w: W = W2 W */
    RV_GRNN_U,   /* [hidden][hidden], or [rank_u][hidden] */
    RV_GRNN_U2,  /* [hidden][rank_u], empty without rank_u: U = U2 U */
    RV_GRNN_V,   /* [outputs][hidden] */
    RV_GRNN_B_Z, /* [hidden] */
    RV_GRNN_B_H, /* [hidden] */
    RV_GRNN_B,   /* [outputs] */
    RV_GRNN_ZETA,
    RV_GRNN_NU,
    RV_GRNN_PARTS
} rv_grnn_part;
enum { RV_GRNN_MATRICES = 5 }; /* the first ones */

/** rv_grnn_part_size - rows and columns of a tensor; vectors are one row. */
void rv_grnn_part_size(const rv_grnn_shape *shape, rv_grnn_part part, size_t *rows, size_t *cols);

/* ---- learning ---- */

typedef struct rv_grnn_fit rv_grnn_fit;

/** rv_grnn_fit_new - parameters drawn as the paper does: N(0, 0.1), biases 1, zeta 1, nu -4; b is 0. RV_E_ARG a shape out of range. */
rv_err rv_grnn_fit_new(const rv_alloc *mem, const rv_grnn_shape *shape, uint64_t seed,
                       rv_grnn_fit **out) RV_MUST_CHECK;
void rv_grnn_fit_free(rv_grnn_fit *fit); /* accepts NULL */

/** rv_grnn_fit_part - a tensor's numbers, the fit's own; also to be written to (tests, files). */
float *rv_grnn_fit_part(rv_grnn_fit *fit, rv_grnn_part part);
/** rv_grnn_fit_grad - the same place of the gradient that rv_grnn_fit_backward left. */
const float *rv_grnn_fit_grad(const rv_grnn_fit *fit, rv_grnn_part part);

/** rv_grnn_fit_forward - x [steps][input] from h0 [hidden] (NULL: zero), to out [outputs]; states are kept for the backward
 * pass. rv_grnn_fit_state: the state after step t. */
void rv_grnn_fit_forward(rv_grnn_fit *fit, const float *x, size_t steps, const float *h0, float *out);
const float *rv_grnn_fit_state(const rv_grnn_fit *fit, size_t t);
/** rv_grnn_fit_backward - adds the gradient of the loss to what is there, through all steps of the last forward; d_out
 * [outputs] is dL/dout. */
void rv_grnn_fit_backward(rv_grnn_fit *fit, const float *d_out);

/* What is learned, handed in. */
typedef struct rv_grnn_task {
    void *self;
    size_t n; /* samples */
    /* Fills x [RV_GRNN_MAX_STEPS][input], returns the steps, at least 1; rng is for changes to training samples, NULL when the
     * sample is to be as it is. */
    size_t (*sample)(void *self, size_t i, rv_rng *rng, float *x);
    /* Loss of sample i; d_out gets dL/dout, or is NULL. */
    double (*loss)(void *self, size_t i, const float *out, float *d_out);
    const bool *held_out; /* [n] samples that only tell when to stop; NULL: none */
} rv_grnn_task;

typedef struct rv_grnn_how {
    size_t epochs[3]; /* dense, choosing what stays of W, with that choice fixed */
    size_t batch;
    size_t patience; /* epochs without a better loss on held_out that end a stage; 0: none do */
    double rate, clip,
        decay; /* Adam's step (falls to nothing along half a cosine), length of a gradient, weight decay */
    double sparsity; /* share of W that becomes zero, 0 .. 1 (excluded) */
    bool int8;       /* the last stage rounds matrices to int8 in the forward pass, as they will be kept */
    uint64_t seed;
} rv_grnn_how;

typedef struct rv_grnn_report {
    double loss, held_out_loss; /* of the parameters that were kept */
    size_t epochs;
} rv_grnn_report;

/**
 * rv_grnn_fit_run - the paper's three stages: dense; iterative hard thresholding (after each step only the largest stay, chosen
 * anew every 50 steps); the choice fixed. Each begins with the best parameters of the one before; the best of the last stay.
 *
 * Errors:  RV_E_ARG no samples, or a loss that is not finite (which sample).  RV_E_NOMEM.
 * Threads: one thread at a time. The same seed gives the same parameters on one machine.
 */
rv_err rv_grnn_fit_run(rv_grnn_fit *fit, const rv_grnn_task *task, const rv_grnn_how *how,
                       rv_grnn_report *report) RV_MUST_CHECK;

/* ---- using ---- */

typedef struct rv_grnn rv_grnn;

/** rv_grnn_from_fit - zeros of W are left out when at least half of it is zero and there is no rank_w. int8: matrices as int8 with
 * a scale per row. */
rv_err rv_grnn_from_fit(const rv_alloc *mem, rv_grnn_fit *fit, bool int8, rv_grnn **out) RV_MUST_CHECK;
void rv_grnn_free(rv_grnn *g); /* accepts NULL */

const rv_grnn_shape *rv_grnn_get_shape(const rv_grnn *g);
/** rv_grnn_n_params - numbers that are kept; what is zero in a sparse W is not. */
size_t rv_grnn_n_params(const rv_grnn *g);

/** rv_grnn_step - one step: state [hidden] becomes the next one.  rv_grnn_head - out [outputs].
 * Immutable, any thread; nothing is allocated. */
void rv_grnn_step(const rv_grnn *g, const float *x, float *state);
void rv_grnn_head(const rv_grnn *g, const float *state, float *out);
/** rv_grnn_pull - d_x [input]: how output i moves with each input, one step from state h0. */
void rv_grnn_pull(const rv_grnn *g, const float *x, const float *h0, size_t output, float *d_x);

/* As bytes; the layout is in docs/formats/router.md. */
size_t rv_grnn_bytes(const rv_grnn *g);
void rv_grnn_write(const rv_grnn *g, uint8_t *out);
/** rv_grnn_read - *used bytes of at [n] were read. RV_E_FORMAT says which field, found, expected. */
rv_err rv_grnn_read(const rv_alloc *mem, const uint8_t *at, size_t n, size_t *used,
                    rv_grnn **out) RV_MUST_CHECK;
#endif
