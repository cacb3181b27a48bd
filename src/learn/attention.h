/* Graph attention in the loop: learned from which passages were of use, kept as versions of the policy "attention" (store/policy.h), and
 * used only while a version is in use; without one the order of retrieval stays. */
#ifndef RV_LEARN_ATTENTION_H
#define RV_LEARN_ATTENTION_H
#include "embed/embed.h"
#include "learn/gate.h"
#include "memory/memory.h"
#include "store/db.h"

typedef struct rv_attention rv_attention;

/** rv_attention_open - with the version in use, if there is one. db, embed and memory outlive it. A version that cannot be read is
 * reported in the log and left alone. RV_E_NOMEM, RV_E_IO. */
rv_err rv_attention_open(const rv_alloc *mem, rv_db *db, const rv_embed *embed, rv_memory *memory,
                         rv_attention **out) RV_MUST_CHECK;
void rv_attention_close(rv_attention *a); /* accepts NULL */

/**
 * rv_attention_order - brings hits into the order of attention; *ordered false: there is no version, and they stay as they are.
 *
 * query  [dim] unit
 * hits   of a search, at most RV_ATTEND_NODES_MAX; reordered, nothing in them is changed
 * Errors: RV_E_NOMEM, what reading the memory fails with; the order is then as before. Any thread.
 */
rv_err rv_attention_order(rv_attention *a, const float *query, rv_memory_hits *hits, rv_arena *arena,
                          bool *ordered) RV_MUST_CHECK;

/** rv_attention_reload - the version in use has changed in the store. RV_E_NOMEM, RV_E_IO: it is as before. Any thread. */
rv_err rv_attention_reload(rv_attention *a) RV_MUST_CHECK;

typedef struct rv_attention_learned {
    size_t learned_from, held; /* questions with feedback that says which passage was of use */
    double before, after;      /* nDCG@10 on those held back: order of now, and of what was learned */
    int64_t version;           /* in use from now on; 0: the order stays as it is */
    const char *why;
} rv_attention_learned;

/**
 * rv_attention_learn - from all feedback so far: every question with a good rating (as of rv_feedback), or corrected, is asked of the memory again. What
 * was learned from three quarters of them is used when it ranks the last quarter better by at least 0.02 nDCG@10. Nothing is, while nothing was rated
 * since the last version was taken back.
 *
 * Errors: RV_E_NOMEM, the store's. RV_E_CANCELLED: the gate (may be NULL) said so. One thread at a time.
 */
rv_err rv_attention_learn(rv_attention *a, int good, uint64_t seed, const rv_gate *gate,
                          rv_attention_learned *out) RV_MUST_CHECK;
#endif
