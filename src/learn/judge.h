/* Judging answers that nobody rated. What a judge's word weighs is decided by how often it was right where people had decided, never by
 * what it is: one that is right on fewer than 70 % of the pairs people could tell apart (PandaLM, ties left out), or that was not
 * measured, weighs at most as much as knowing nothing (RV_JUDGE_PRIOR), however much it says. */
#ifndef RV_LEARN_JUDGE_H
#define RV_LEARN_JUDGE_H
#include "engine/engine.h"
#include "learn/adapter_learn.h"
#include "memory/memory.h"
#include "store/db.h"

/** rv_judge_setup - its table, after that of the episodes. */
rv_err rv_judge_setup(rv_db *db) RV_MUST_CHECK;

#define RV_JUDGE_LEAST 0.70 /* of pairs right, below: not trusted */
#define RV_JUDGE_TRUST 0.7  /* weight of a trusted judge's word beside a rating's 1 */
#define RV_JUDGE_PRIOR                                                                                       \
    0.3 /* weight of the word of one that is not, and of all its words on one thing together: 1 (see patterns.h) */

typedef struct rv_judge_case {
    const char *question, *answer;
    const char *const *passages; /* [n] that were in the prompt */
    size_t n;
} rv_judge_case;

typedef struct rv_judge rv_judge;
struct rv_judge {
    char name[64]; /* "model 0123456789abcdef": by the fingerprint of its file; "heuristic"; "longer" */
    /* *quality 0 .. 1, or NaN: no judgement. Errors: those of the model; RV_E_NOMEM. One thread at a time. */
    rv_err (*score)(const rv_judge *j, const rv_judge_case *c, double *quality);
    bool words_only;   /* it does not read: never trusted, however often it was right */
    rv_engine *engine; /* of a model judge */
    void *self;        /* of one that is somewhere else */
    rv_adapter_prompt *prompt;
};

/** rv_judge_model - the model is asked for a score from 1 to 5 as the demo tiers were trained to give one, and the expectation over the five
 * digits is taken: quality = sum p(s) (s - 1) / 4. When the digits hold less than half of the probability it is no judgement. engine outlives it. */
rv_judge rv_judge_model(rv_engine *engine, rv_adapter_prompt *prompt);
/** rv_judge_heuristic - counts different words, those of the question less, and sees a refusal.  rv_judge_longer - the longer one is better: what every judge has to beat. */
rv_judge rv_judge_heuristic(void);
rv_judge rv_judge_longer(void);

/* How often it agrees with people. */
typedef struct rv_judge_pair {
    rv_judge_case a, b;
    int label; /* 1: a is better, 2: b, 0: they could not tell */
} rv_judge_pair;

typedef struct rv_judge_measured {
    size_t pairs, ties; /* that people decided; that they did not */
    size_t unjudged;    /* of pairs: no judgement on one side, or the same on both. Each counts half right */
    double right;       /* share of pairs */
} rv_judge_measured;

/** rv_judge_measure - each answer is scored by itself, so that exchanging a and b changes nothing. go_on (may be NULL) is asked before each pair; false: RV_E_CANCELLED. Errors: the judge's; a pair that does not fit the
 * model's context is unjudged. */
rv_err rv_judge_measure(const rv_judge *j, const rv_judge_pair *pairs, size_t n,
                        bool (*go_on)(void *self, size_t pair), void *self,
                        rv_judge_measured *out) RV_MUST_CHECK;

/** rv_judge_trust_of - the weight of a judge's word when it was right so often.  rv_judge_keep - remember a measure on PandaLM as a version of the policy
 * "judge".  rv_judge_trust - by the newest measure of this judge that was kept; without one it is not trusted. */
double rv_judge_trust_of(const rv_judge *j, const rv_judge_measured *on_pandalm);
rv_err rv_judge_keep(rv_db *db, const rv_judge *j, const rv_judge_measured *on_pandalm) RV_MUST_CHECK;
rv_err rv_judge_trust(rv_db *db, const rv_judge *j, double *trust) RV_MUST_CHECK;

/** rv_judge_fill - the newest episodes that have neither feedback nor this judge's word get it, with its trust, one transaction each, until
 * until_ms (rv_clock_ms). *n: how many. Errors: the judge's, the store's; an episode that does not fit its context is left out. */
rv_err rv_judge_fill(rv_db *db, rv_memory *memory, const rv_judge *j, double trust, double until_ms,
                     size_t most, size_t *n) RV_MUST_CHECK;
#endif
