/* Episodes: every request that went through the loop, as learning will need it, and the feedback it got. Today the log is
 * written and read; what learns from it comes with the learner. */
#ifndef RV_LEARN_EPISODE_H
#define RV_LEARN_EPISODE_H
#include "base/arena.h"
#include "memory/memory.h"
#include "store/db.h"

rv_err rv_episode_setup(rv_db *db) RV_MUST_CHECK;

typedef struct rv_episode {
    const char *request_id, *session_id, *user, *question, *answer, *model;
    const int64_t *sources;      /* [n_sources] memory ids that were in the prompt, in order */
    size_t n_sources;
    double confidence, total_ms;
    int64_t created_ms;
    int rating;                  /* 1..5, 0: none yet */
    const char *correction;      /* "" when none */
} rv_episode;

/** rv_episode_append - inside the caller's transaction. */
rv_err rv_episode_append(sqlite3 *conn, const rv_episode *episode) RV_MUST_CHECK;
/** rv_episode_get - RV_E_NOT_FOUND. Strings in arena. */
rv_err rv_episode_get(rv_db *db, const char *request_id, rv_arena *arena, rv_episode *out) RV_MUST_CHECK;

typedef struct rv_feedback {
    const char *request_id;      /* required */
    int rating;                  /* 1..5, or 0: none */
    const char *correction;      /* NULL or text */
} rv_feedback;
typedef struct rv_feedback_done {
    int64_t fact;                /* node made from the correction, 0: none */
    int64_t qa;                  /* node made from a rating >= 4, 0: none */
} rv_feedback_done;
/**
 * rv_feedback_store - durable when it returns. A correction becomes a "fact" node `Correction: Q: <question> A: <correction>`
 * that corrects the sources the wrong answer cited (or, without any, stands alone); a rating >= 4 without a correction becomes a "qa" node
 * `Q: <question> A: <answer>` derived from its sources, unless the answer was a refusal. Recalled text is never written back.
 * Errors: RV_E_NOT_FOUND no such request.  RV_E_ARG neither rating nor correction, or out of range.
 */
rv_err rv_feedback_store(rv_db *db, rv_memory *memory, const rv_feedback *feedback, rv_feedback_done *out) RV_MUST_CHECK;
#endif
