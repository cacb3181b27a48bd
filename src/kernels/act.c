#include "kernels/kernels.h"

#include <assert.h>

_Static_assert(sizeof(rv_act_block) == 64, "one cache line");

size_t rv_act_bytes(size_t cols, size_t n_tokens)
{
    return cols / 32 * n_tokens * sizeof(rv_act_block);
}

void rv_act_layout(const float *x, size_t stride, size_t cols, size_t n_tokens, void *scratch, rv_act *out)
{
    assert((uintptr_t)scratch % 64 == 0);
    rv_act_block *blocks = cols % 32 == 0 ? scratch : NULL;
    *out = (rv_act){ .cols = cols, .n_tokens = n_tokens, .f32 = x, .stride = stride, .blocks = blocks };
}

void rv_act_quantize(const rv_kernels *k, rv_act *act, size_t token_from, size_t token_to)
{
    for (size_t t = token_from; act->blocks && t < token_to; t++) {
        k->quantize(act->f32 + t * act->stride, act->cols, act->blocks + t * (act->cols / 32));
    }
}

void rv_act_fill(const rv_kernels *k, const float *x, size_t stride, size_t cols, size_t n_tokens,
                 void *scratch, rv_act *out)
{
    rv_act_layout(x, stride, cols, n_tokens, scratch, out);
    rv_act_quantize(k, out, 0, n_tokens);
}
