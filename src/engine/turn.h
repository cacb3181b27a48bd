/* Whose turn it is: engines that share a compute pool share one rv_turn, because a pool has one job at a
 * time. A turn lasts for one step. Callers are served in the order they came, and can stop waiting when they are cancelled. */
#ifndef RV_ENGINE_TURN_H
#define RV_ENGINE_TURN_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdatomic.h>

typedef struct rv_turn rv_turn;

rv_err rv_turn_new(const rv_alloc *mem, rv_turn **out) RV_MUST_CHECK;
void rv_turn_free(rv_turn *turn); /* accepts NULL; nobody has it or waits for it */

/** rv_turn_begin - wait until it is ours; false: cancel (may be NULL) became true first. Threads: any thread,
 * locks inside. rv_turn_end - by who has it. */
bool rv_turn_begin(rv_turn *turn, const atomic_bool *cancel);
void rv_turn_end(rv_turn *turn);
#endif
