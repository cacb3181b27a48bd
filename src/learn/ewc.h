/* Elastic weight consolidation, for any flat array of weights: what earlier tasks needed is held by a quadratic spring. For each
 * finished task t a weight is pulled towards the value theta_t it had then, as strongly as its Fisher information F_t says:
 * 1/2 sum over t of lambda_t F_t (theta - theta_t)^2. Only the sums of lambda F and lambda F theta are kept; the penalty is the same.
 * Source: Kirkpatrick et al. 2017; Schwarz et al. 2018 (online). */
#ifndef RV_LEARN_EWC_H
#define RV_LEARN_EWC_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdint.h>

#define RV_EWC_MIN_SAMPLES 100 /* a Fisher of fewer is noise */

typedef struct rv_ewc {
    const rv_alloc *mem;
    size_t n;
    float *fisher;       /* [n] running mean of squared gradients of this task */
    float *pull, *place; /* [n] sum of lambda F, sum of lambda F theta */
    uint64_t samples;    /* of this task */
    uint32_t tasks;
    float lambda;
} rv_ewc;

/** rv_ewc_new - no task yet. lambda: strength, where each task's Fisher is scaled to mean 1. Errors: RV_E_NOMEM.
 * Threads: one thread at a time. */
rv_err rv_ewc_new(const rv_alloc *mem, size_t n, float lambda, rv_ewc **out) RV_MUST_CHECK;
void rv_ewc_free(rv_ewc *e); /* accepts NULL */

/** rv_ewc_observe - the gradient of one sample's -log p (not of a batch: its mean underestimates). */
void rv_ewc_observe(rv_ewc *e, const float *gradient);

/** rv_ewc_task_end - remember weights [n] as what this task needs, and begin the next one. quality 0 .. 1 of what was learned:
 * half the strength at 0. False: fewer than RV_EWC_MIN_SAMPLES were observed; nothing changes. */
bool rv_ewc_task_end(rv_ewc *e, const float *weights, float quality);

/** rv_ewc_step - after a step of size rate on the task's own loss: the proximal point of the penalty, stable for any strength. */
void rv_ewc_step(const rv_ewc *e, float rate, float *weights);

/** rv_ewc_penalty - 1/2 sum of lambda F (theta - theta_t)^2, up to a constant. */
double rv_ewc_penalty(const rv_ewc *e, const float *weights);
#endif
