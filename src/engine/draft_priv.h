/* A guess at what an answer says next, from what stands in the prompt and the answer already: answers quote. The longest
 * end of the text that occurred before is looked up, and what came after it then is the guess. How often such guesses
 * are right is counted as the answer grows, apart for short and for long ends; a wrong one costs time, never a word,
 * because a token counts only when it is the one that is sampled anyway. */
#ifndef RV_ENGINE_DRAFT_PRIV_H
#define RV_ENGINE_DRAFT_PRIV_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_DRAFT_CLASSES 4

typedef struct rv_draft {
    double
        chance[RV_DRAFT_CLASSES]; /* that a token of a guess is right, by the length that was found again */
    int kind;                     /* of the last guess */
} rv_draft;

void rv_draft_init(rv_draft *d);

/** rv_draft_guess - up to `most` tokens that may follow ids [n], to out; returns how many. */
size_t rv_draft_guess(rv_draft *d, const int32_t *ids, size_t n, int32_t *out, size_t most);
/** rv_draft_chance - that a token of this guess is right if those before it are. */
double rv_draft_chance(const rv_draft *d);
/** rv_draft_learn - whether a token of the last guess, those before it being right, was what was sampled. */
void rv_draft_learn(rv_draft *d, bool right);
#endif
