/* How much meaning counts beside words in a search: measured on this store, where feedback tells which passages were of use. Of the probes
 * (learn/probes.h), words alone find some share within the first ten and vectors alone another; the weight of the cosine follows the
 * ratio of the two. It is a version of the policy "sides", whose bytes are {"vector_weight": 1.25}. */
#ifndef RV_LEARN_SIDES_H
#define RV_LEARN_SIDES_H
#include "learn/deep.h"
#include "store/policy.h"

#define RV_SIDES_POLICY "sides"
#define RV_SIDES_LEAST  100 /* probes; fewer tell the ratio too badly (docs/guide/memory.md) */

/** rv_sides_weight - of the cosine, where BM25 counts 1: 0.1 .. 4, from the recall of each side alone (0 .. 1). */
double rv_sides_weight(double words, double vectors);

/** rv_sides_settle - the memory weighs as the version in use says, or as it does unmeasured when there is none. Errors: the store's. One
 * thread at a time; so for all below. */
rv_err rv_sides_settle(rv_db *db, rv_memory *memory, int64_t *version) RV_MUST_CHECK;

/** rv_deep_weigh_sides - measures both sides, and uses the weight that follows when the probes' passages are then found no worse: neither
 * recall@10 nor nDCG@10 falls, and one of them rises. */
rv_err rv_deep_weigh_sides(const rv_deep_place *place, rv_loop_report *out) RV_MUST_CHECK;
#endif
