/* What is known of a row of logits by blocks, so that whoever chooses from it need not look at all of it: the head finds
 * this out while the numbers are still in the cache. */
#ifndef RV_MODEL_LOGITS_H
#define RV_MODEL_LOGITS_H
#include "kernels/kernels.h"

#define RV_LOGITS_BLOCK 256 /* a multiple of RV_ROW_STEP */

typedef struct rv_logits_block {
    float max; /* of the finite ones; -infinity: there is none */
    float sum; /* of exp(logit - max) over them */
} rv_logits_block;

/** rv_logits_blocks - in a row of n. */
static inline size_t rv_logits_blocks(size_t n)
{
    return (n + RV_LOGITS_BLOCK - 1) / RV_LOGITS_BLOCK;
}

/** rv_logits_look - at the blocks of x [n], which begins at the border of one, to out [rv_logits_blocks(n)]. Any thread. */
void rv_logits_look(const rv_kernels *k, const float *x, size_t n, rv_logits_block *out);
#endif
