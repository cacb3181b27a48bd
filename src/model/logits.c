#include "model/logits.h"

void rv_logits_look(const rv_kernels *k, const float *x, size_t n, rv_logits_block *out)
{
    for (size_t i = 0; i < n; i += RV_LOGITS_BLOCK, out++) {
        k->exp_sum(x + i, n - i < RV_LOGITS_BLOCK ? n - i : RV_LOGITS_BLOCK, &out->max, &out->sum);
    }
}
