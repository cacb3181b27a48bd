/* Training an adapter on rows: AdamW on the mean -log p of the answers' tokens, clipped, with warm-up and a cosine to a tenth. The
 * same rows, settings and seed give the same weights, also when it was interrupted and went on from its checkpoint. */
#ifndef RV_LEARN_ADAPTER_TRAIN_H
#define RV_LEARN_ADAPTER_TRAIN_H
#include "learn/adapter_rows.h"
#include "learn/ewc.h"

typedef struct rv_adapter_training {
    size_t steps, batch; /* rows of a step */
    float rate;          /* highest; with AdamW */
    float decay;         /* of the weights, times rate */
    float clip;          /* longest gradient */
    uint64_t seed;
    const rv_ewc *guard; /* of lora->weights, what must not be forgotten; NULL: nothing */
    const bool *frozen;  /* [lora->n_weights] weights that stay; NULL: none */
    const float
        *mix; /* [n rows] how often a row is drawn, relative to the others; NULL: each once in every round */
    const char *
        checkpoint; /* where the state goes now and then; taken up when it is there and fits; removed at the end. NULL: none */
    size_t checkpoint_every;
    bool (*on_step)(void *self, size_t step,
                    double loss); /* false: stop, with the checkpoint written. May be NULL */
    void *self;
} rv_adapter_training;

/** rv_adapter_training_default - 200 steps of 8 rows, rate 3e-3, decay 0, clip 1, seed 1. */
rv_adapter_training rv_adapter_training_default(void);

/**
 * rv_adapter_train - change lora's weights. Afterwards rv_lora_changed was called.
 *
 * rows  [n], each of at most rv_lfm2_grad_max_tokens
 *
 * Errors:  RV_E_ARG n is 0, or a setting out of range.  RV_E_CORRUPT a row (named by its line) whose loss or gradient is not
 *          finite.  RV_E_CANCELLED on_step said so.  RV_E_NOMEM; RV_E_IO of the checkpoint. After any of them the weights are
 *          those of the last step.
 * Threads: one thread at a time with g.
 */
rv_err rv_adapter_train(rv_lfm2_grad *g, rv_lora *lora, const rv_adapter_row *rows, size_t n,
                        const rv_adapter_training *how) RV_MUST_CHECK;

/** rv_adapter_loss - mean -log p of the answers' tokens; lora NULL: of the model alone. Errors as above. */
rv_err rv_adapter_loss(rv_lfm2_grad *g, const rv_lora *lora, const rv_adapter_row *rows, size_t n,
                       double *out) RV_MUST_CHECK;

/** rv_adapter_observe - every row's gradient into a guard of lora->weights. */
rv_err rv_adapter_observe(rv_lfm2_grad *g, const rv_lora *lora, const rv_adapter_row *rows, size_t n,
                          rv_ewc *guard) RV_MUST_CHECK;
#endif
