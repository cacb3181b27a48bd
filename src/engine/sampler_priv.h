/* From a row of logits to a token, in one fixed order, so that the same logits, settings and random numbers give the
 * same token every time. The order is that of the model card's own tools:
 *
 *   1. repetition penalty: each distinct token of the last repeat_last of prompt and answer, its logit divided
 *      by the penalty when positive, else multiplied
 *   2. frequency and presence penalty: logit - count * frequency - presence, for tokens of the answer
 *   3. bias added
 *      (temperature 0: the largest logit, the lowest id among equals, and done)
 *   4. temperature: weight = exp((logit - largest) / temperature)
 *   5. top_k: the k largest
 *   6. top_p: of these the fewest whose weights reach top_p of their sum, at least one
 *   7. min_p: of these the ones with at least min_p of the largest weight
 *   8. one draw in proportion to the weights
 *
 * Tokens whose logit is not finite are never chosen; nor are weights below 2^-60 of the largest, which 53 random
 * bits could not draw in proportion anyway. */
#ifndef RV_ENGINE_SAMPLER_PRIV_H
#define RV_ENGINE_SAMPLER_PRIV_H
#include "base/rng.h"
#include "engine/engine.h"
#include "model/logits.h"

typedef struct rv_sampler rv_sampler;

/** rv_sampling_check - RV_E_ARG names the first setting out of range. */
rv_err rv_sampling_check(const rv_sampling *how, size_t n_vocab) RV_MUST_CHECK;

/** rv_sampler_new - scratch for rows of n_vocab logits. Threads: one thread at a time. */
rv_err rv_sampler_new(const rv_alloc *mem, const rv_kernels *k, size_t n_vocab,
                      rv_sampler **out) RV_MUST_CHECK;
void rv_sampler_free(rv_sampler *s); /* accepts NULL */

/* What the penalties look at: prompt, then answer. */
typedef struct rv_history {
    const int32_t *ids;
    size_t n, n_prompt;
} rv_history;

/* A row of logits to choose from. */
typedef struct rv_logits_row {
    const float *logits;           /* [n_vocab] */
    const rv_logits_block *blocks; /* rv_logits_look; NULL: nobody has looked yet */
} rv_logits_row;

/** rv_sampler_next - the next token, or -1 when no logit is finite. */
int32_t rv_sampler_next(rv_sampler *s, const rv_sampling *how, rv_rng *rng, rv_history past,
                        rv_logits_row row);

/**
 * rv_sampler_normalise - what must be taken from the logits to make them log-probabilities; those that are not finite
 * count as none. NaN when no logit is finite.
 * rv_sampler_top - the n_top tokens with the largest logits, best first, with log-probabilities. Returns how many.
 */
double rv_sampler_normalise(rv_sampler *s, rv_logits_row row);
size_t rv_sampler_top(const rv_sampler *s, const float *logits, double normaliser, rv_token_prob *top,
                      size_t n_top);
#endif
