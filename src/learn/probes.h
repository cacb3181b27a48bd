/* Probes: questions whose useful passages are known from feedback, to measure how well memory finds them. A correction says that the fact it
 * became is of use; a good rating, that the passages are which the answer cited. */
#ifndef RV_LEARN_PROBES_H
#define RV_LEARN_PROBES_H
#include "base/arena.h"
#include "embed/embed.h"
#include "learn/deep.h"
#include "memory/memory.h"
#include "store/db.h"

#define RV_PROBES_LEAST 20 /* fewer measure nothing */

typedef struct rv_probe {
    const char *question, *user;
    const float *vector;   /* [dim] of the question */
    const int64_t *useful; /* [n_useful], 1 at least */
    size_t n_useful;
    int64_t
        until_ms; /* of memories: without what this very feedback added; 0: a correction, which is the point of it */
} rv_probe;

/** rv_probes_read - the newest `most` of them, in arena. good: as of rv_feedback. RV_E_NOMEM, the store's. Any thread. */
rv_err rv_probes_read(rv_db *db, const rv_embed *embed, int good, size_t most, rv_arena *arena,
                      rv_probe **out, size_t *n) RV_MUST_CHECK;

typedef struct rv_probes_score {
    double recall, ndcg; /* at 10, means */
} rv_probes_score;
/** rv_probes_measure - asks the place's memory each of them as a request does. how: mode, edges supposed and weight are taken of it. RV_E_TIMEOUT when
 * its time is up (rv_deep_time_is_up). RV_E_NOMEM, the store's. Any thread. */
rv_err rv_probes_measure(const rv_deep_place *place, const rv_probe *probes, size_t n,
                         const rv_memory_query *how, rv_probes_score *out) RV_MUST_CHECK;
#endif
