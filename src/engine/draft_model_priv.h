/* A smaller model that guesses what an answer of another one says next. It has a sequence of its own in its own engine, with the
 * same tokens, and goes on from there token by token with the answer's settings and random numbers, so that its guess is what the
 * larger model says whenever both think alike. Where the answer took another turn it is taken back.
 *
 * It claims room and a seat like any other request there, but never waits for one, and is ended when it is not wanted: what it
 * computed stays in that engine's cache as the beginning of the next one. All that can go wrong here means no guess. */
#ifndef RV_ENGINE_DRAFT_MODEL_PRIV_H
#define RV_ENGINE_DRAFT_MODEL_PRIV_H
#include "engine/batch_priv.h"
#include "engine/sampler_priv.h"

/* Of one answer; one thread at a time. */
typedef struct rv_draft_model {
    rv_batch *batch;             /* of the smaller model; NULL: there is none, had no room, or failed */
    rv_sampler *const *samplers; /* for its seats */
    rv_call call;                /* as it is to begin: most_tokens, tenant and so on; prompt is set here */
} rv_draft_model;

/** rv_draft_model_next - one more token, to *token, and the probability the smaller model gives it: behind the tokens of `past`, which
 * are those of the last call or more, and n_guessed tokens that came from here since. *rng goes on as that of the answer
 * would. False: no guess. */
bool rv_draft_model_next(rv_draft_model *m, rv_history past, size_t n_guessed, const rv_sampling *how,
                         rv_rng *rng, int32_t *token, float *p);

/** rv_draft_model_end - gives the seat back; it may be asked again. Also of one that was never asked. */
void rv_draft_model_end(rv_draft_model *m);
#endif
