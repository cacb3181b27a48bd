/* A guess at what an answer says next. It comes from one of two sources. One is what stands in the prompt and the answer
 * already: answers quote. The longest end of the text that occurred before is looked up, and what came after it then is the
 * guess; of equals the next one behind the place the answer quoted last, so that behind "[2] " it goes on in passage 2. The
 * other is a smaller model with the same vocabulary (draft_model_priv.h).
 *
 * How often guesses are right is counted over all answers of an engine, by their kind (the length that was found again; how
 * sure the model was) and by the token a guessed one follows: within a name they are right, behind a citation they are not. A
 * wrong one costs time, never a word, because a token counts only when it is the one that is sampled anyway. */
#ifndef RV_ENGINE_DRAFT_PRIV_H
#define RV_ENGINE_DRAFT_PRIV_H
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_DRAFTS_MAX 7 /* of one answer: with the token before them one tile of the widest kernels */
#define RV_DRAFT_KINDS                                                                                       \
    8 /* of guesses: by the length that was found again; from the fifth on by the model's certainty */
#define RV_DRAFT_MODEL 4    /* the first of those */
#define RV_DRAFT_SLOTS 1024 /* for tokens; some share one */

typedef struct rv_draft_count {
    uint8_t right, tried;
} rv_draft_count;

/* How guesses did so far. Locks inside. */
typedef struct rv_habits {
    pthread_mutex_t lock;
    rv_draft_count all[RV_DRAFT_KINDS];
    rv_draft_count after[RV_DRAFT_KINDS][RV_DRAFT_SLOTS];
} rv_habits;

void rv_habits_init(rv_habits *h);
void rv_habits_deinit(rv_habits *h);

/* Of one answer. */
typedef struct rv_draft {
    size_t from;                  /* where the answer is quoting; SIZE_MAX: it did not yet */
    uint8_t kinds[RV_DRAFTS_MAX]; /* of the last guess, token by token */
    size_t learned;               /* of these */
} rv_draft;

void rv_draft_init(rv_draft *d);

/** rv_draft_guess - up to `most` tokens that may follow ids [n], to out; returns how many. */
size_t rv_draft_guess(rv_draft *d, const int32_t *ids, size_t n, int32_t *out, size_t most);

/** rv_draft_by_model - the last guess is a model's instead: of n tokens, which it chose with probability p [n].
 * rv_draft_is_by_model - whether it is. rv_draft_hope - part of such tokens that were right, those before them being right. Any
 * thread. */
void rv_draft_by_model(rv_draft *d, const float *p, size_t n);
bool rv_draft_is_by_model(const rv_draft *d);
double rv_draft_hope(rv_habits *h);

/** rv_draft_chances - that the first 1, 2 .. n tokens of the last guess are all right, to out [n]; `before` is the token it
 * follows. Any thread. */
void rv_draft_chances(const rv_draft *d, rv_habits *h, int32_t before, const int32_t *guess, size_t n,
                      double *out);

/** rv_draft_learn - whether a token of the last guess, those before it being right, was what was sampled; `before` is the
 * one it follows. Any thread. */
void rv_draft_learn(rv_draft *d, rv_habits *h, int32_t before, bool right);
#endif
