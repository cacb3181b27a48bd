/* The reasoning bank in the running system: the patterns in use (learn/patterns.h), as versions of the policy "patterns". */
#ifndef RV_LEARN_BANK_H
#define RV_LEARN_BANK_H
#include "embed/embed.h"
#include "learn/gate.h"
#include "learn/patterns.h"
#include "store/db.h"

#define RV_BANK_POLICY "patterns"

typedef struct rv_bank rv_bank;

/** rv_bank_open - with the version in use, or its newest sound ancestor. db and embed outlive it. RV_E_NOMEM, RV_E_IO. */
rv_err rv_bank_open(const rv_alloc *mem, rv_db *db, const rv_embed *embed, rv_bank **out) RV_MUST_CHECK;
void rv_bank_close(rv_bank *b); /* accepts NULL */
/** rv_bank_reload - the version in use has changed in the store. As it was when that fails. Any thread. */
rv_err rv_bank_reload(rv_bank *b) RV_MUST_CHECK;

/** rv_bank_advise - another model than the usual one for a question: true, and its name, when the outcomes of questions like it show that a
 * cheaper one is as good, or another better (rv_patterns_advise). vector [dim] as the embedder gives it. Any thread. */
bool rv_bank_advise(rv_bank *b, const float *vector, const char *usual, char model[RV_PATTERN_NAME],
                    rv_pattern_advice *advice);

typedef struct rv_bank_learned {
    size_t episodes, outcomes,
        held; /* new questions; answers with a known or judged quality; of those, kept to measure */
    size_t patterns;
    rv_patterns_grown grown;
    double before,
        after; /* mean squared error of the quality that is expected of held-out answers, under what was in use and under this */
    int64_t version; /* stored, 0: none */
    bool accepted;
    char why[160];
} rv_bank_learned;

/**
 * rv_bank_learn - one cycle: questions since the last one are clustered; the newest 10,000 answers that were rated, corrected or judged are
 * counted. Used when the error on every fifth question, which is not counted for the measure, is at most 0.98 of before; when not, the patterns in use
 * stay and have the answers as they are counted now, which no version keeps: after a start they are those of when theirs was made, until the next cycle.
 * Nothing is learned while nothing was rated since the last version was taken back.
 *
 * models   [n] cheapest first; one whose name takes more than RV_PATTERN_NAME is left out, as are those that come after RV_PATTERN_MODELS
 * gate     may be NULL
 * Errors:  those of the store; RV_E_NOMEM. RV_E_CANCELLED: the gate said so. One thread at a time.
 */
rv_err rv_bank_learn(rv_bank *b, const char *const *models, size_t n_models, uint64_t seed,
                     const rv_gate *gate, rv_bank_learned *out) RV_MUST_CHECK;

/** rv_bank_prune - alike patterns become one, spent ones go (rv_patterns_prune); used when the error on the held-out answers is not more than before.
 * Without 20 of those nothing changes. out as for rv_bank_learn: patterns those that are left, grown not set. */
rv_err rv_bank_prune(rv_bank *b, rv_patterns_pruned *pruned, rv_bank_learned *out) RV_MUST_CHECK;
#endif
