/* What is learned at once from feedback: the weights of edges between what was shown and used, and the retrieval adapter, which turns
 * a question's embedding a little.
 *
 * A good rating says that the passages the answer cited were of use and the others it was shown were not; a correction says that
 * of the fact it became. Four of five such signals teach a copy of the adapter; every fifth is held back. After each few
 * signals the copy is compared with the adapter in use on the signals held back: it takes its place when its loss there is at
 * least 2 % lower, and begins again from it when it is more than 2 % higher. What takes its place is a version of the policy
 * "retrieval" (store/policy.h), so it can be looked at and rolled back. */
#ifndef RV_LEARN_INSTANT_H
#define RV_LEARN_INSTANT_H
#include "embed/embed.h"
#include "learn/episode.h"
#include "memory/memory.h"
#include "store/db.h"

typedef struct rv_instant rv_instant;

/** rv_instant_open - with the version in use, or its newest sound ancestor (rv_policy_open). db, embed and memory outlive it. RV_E_NOMEM,
 * RV_E_IO. */
rv_err rv_instant_open(const rv_alloc *mem, rv_db *db, const rv_embed *embed, rv_memory *memory,
                       rv_instant **out) RV_MUST_CHECK;
void rv_instant_close(rv_instant *i); /* accepts NULL */

/** rv_instant_turn - the embedding [dim] of a question in place, as the adapter in use turns it. Any thread. */
void rv_instant_turn(rv_instant *i, float *vector);

/**
 * rv_instant_feedback - learn from feedback that rv_feedback_store has stored.
 *
 * done   as that gave it
 * Errors: what reading the memory and storing a version fail with; the feedback is stored all the same.
 * Threads: any thread; one at a time inside.
 */
rv_err rv_instant_feedback(rv_instant *i, const rv_feedback *feedback,
                           const rv_feedback_done *done) RV_MUST_CHECK;

/** rv_instant_reload - the version in use has changed in the store, or something was forgotten: what was held back and shown so far goes, and signals count
 * anew. */
rv_err rv_instant_reload(rv_instant *i) RV_MUST_CHECK;

typedef struct rv_instant_stats {
    int64_t version; /* in use, 0: none, questions stay as they are */
    size_t signals, held, published, taken_back;
    double loss_before,
        loss_now; /* on the signals held back, without an adapter and with the one in use; 0: none yet */
} rv_instant_stats;
void rv_instant_get_stats(rv_instant *i, rv_instant_stats *out);
#endif
