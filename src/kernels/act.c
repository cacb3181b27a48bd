/* The int8 side of activations in one block of scratch: q, then d, s, o, each for all tokens, each at a multiple of 64
 * bytes so that a row of q never shares a cache line with another thread's. */
#include "kernels/kernels.h"

#include <assert.h>

static size_t padded_cols(size_t cols)
{
    return (cols + 63) / 64 * 64;
}

static size_t round_64(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

size_t rv_act_bytes(size_t cols, size_t n_tokens)
{
    size_t blocks = padded_cols(cols) / 32 * n_tokens;
    return 32 * blocks + 2 * round_64(blocks * sizeof(float)) + round_64(blocks * 4 * sizeof(int32_t));
}

void rv_act_layout(const float *x, size_t stride, size_t cols, size_t n_tokens, void *scratch, rv_act *out)
{
    *out = (rv_act){ .cols = cols, .n_tokens = n_tokens, .f32 = x, .stride = stride };
    if (!scratch || cols % 32) {
        return;
    }
    assert((uintptr_t)scratch % 64 == 0);
    size_t blocks = padded_cols(cols) / 32 * n_tokens;
    char *at = scratch;
    out->q = (int8_t *)at;
    at += 32 * blocks;
    out->d = (float *)at;
    at += round_64(blocks * sizeof(float));
    out->s = (float *)at;
    at += round_64(blocks * sizeof(float));
    out->o = (int32_t *)at;
}

void rv_act_quantize(const rv_kernels *k, rv_act *act, size_t token_from, size_t token_to)
{
    if (!act->q) {
        return;
    }
    size_t cols = padded_cols(act->cols), blocks = cols / 32;
    for (size_t t = token_from; t < token_to; t++) {
        int8_t *q = act->q + t * cols;
        float *d = act->d + t * blocks, *s = act->s + t * blocks;
        int32_t *o = act->o + t * blocks * 4;
        k->quantize(act->f32 + t * act->stride, act->cols, q, d, s, o);
        for (size_t i = act->cols; i < cols; i++) {
            q[i] = 0;
        }
        for (size_t b = act->cols / 32; b < blocks; b++) {
            d[b] = s[b] = 0;
            o[4 * b] = o[4 * b + 1] = o[4 * b + 2] = o[4 * b + 3] = 0;
        }
    }
}

void rv_act_fill(const rv_kernels *k, const float *x, size_t stride, size_t cols, size_t n_tokens,
                 void *scratch, rv_act *out)
{
    rv_act_layout(x, stride, cols, n_tokens, scratch, out);
    rv_act_quantize(k, out, 0, n_tokens);
}
