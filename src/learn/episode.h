/* Episodes: every request that went through the loop, and the feedback it got. It is what all learning reads, again and again, so feedback
 * that comes late counts too. */
#ifndef RV_LEARN_EPISODE_H
#define RV_LEARN_EPISODE_H
#include "base/arena.h"
#include "memory/memory.h"
#include "store/db.h"

/** rv_episode_setup - tables and metrics. Once per database, before anything else here. */
rv_err rv_episode_setup(rv_db *db) RV_MUST_CHECK;

typedef struct rv_episode {
    const char *request_id, *session_id, *user, *question, *answer, *model; /* user NULL is stored as "" */
    const int64_t *sources; /* [n_sources] memory ids that were in the prompt, in order: [1] is sources[0] */
    size_t n_sources;
    double confidence, total_ms;
    int64_t created_ms;
    const char *route;      /* JSON object: how the router decided; NULL: it did not; in only */
    int rating;             /* 1..5, 0: none yet; out only */
    const char *correction; /* "" when none; out only */
} rv_episode;

/** rv_episode_append - inside the caller's transaction conn. */
rv_err rv_episode_append(sqlite3 *conn, const rv_episode *episode) RV_MUST_CHECK;
/** rv_episode_get - RV_E_NOT_FOUND. Strings in arena. Any thread. */
rv_err rv_episode_get(rv_db *db, const char *request_id, rv_arena *arena, rv_episode *out) RV_MUST_CHECK;

/** rv_episode_add_tries - what other tiers said to the same prompt: a JSON array, kept as "tries" of how the episode was routed. An
 * episode that is gone, or was never kept, is passed over. */
rv_err rv_episode_add_tries(rv_db *db, const char *request_id, const char *tries) RV_MUST_CHECK;

/** rv_episode_is_refusal - the answer that says the passages do not hold it ("Not in the passages."). */
bool rv_episode_is_refusal(const char *answer);

/** rv_episode_cites - whether an answer cites passage number ("[2]"). */
bool rv_episode_cites(const char *answer, size_t number);

/** rv_episode_same_answer - a and b say the same: letters and digits, whatever their case, what they cite and how they are set. */
bool rv_episode_same_answer(const char *a, const char *b);

#define RV_GOOD_RATING 4 /* and more: a good answer, unless another rating is asked for */
static inline int rv_good_rating(int asked)
{
    return asked > 0 ? asked : RV_GOOD_RATING;
}

typedef struct rv_feedback {
    const char *request_id; /* required */
    int rating;             /* 1..5, or 0: none */
    const char *correction; /* NULL or text, at most 64 KiB of valid UTF-8 */
    int good; /* from this rating on an answer is kept and its sources were of use; 0: RV_GOOD_RATING */
} rv_feedback;
typedef struct rv_feedback_done {
    int64_t fact; /* node that now stands for the correction, 0: none */
    int64_t qa;   /* node that now stands for the good rating, 0: none */
    bool first;   /* the request had no feedback before */
    bool news;    /* its first rating, or its first correction: only that teaches at once */
} rv_feedback_done;

/**
 * rv_feedback_store - durable when it returns: nodes, feedback and its witness record.
 *
 * A correction becomes a "fact" node `Correction: Q: <question> A: <correction>` that corrects the sources the wrong answer
 * cited (it stands alone when it cited none). A good rating without a correction becomes a "qa" node `Q: <question> A:
 * <answer without citations>` derived from the sources it cited, unless the answer was a refusal, was cut out of earlier
 * answers and corrections alone (recalled text is never written back), or a correction of this request was given. Nodes
 * belong to the request's user.
 *
 * A request has one rating and one correction: a second one replaces the first, and the node made from the first goes,
 * unless other feedback stands on it. A correction also takes back the qa node of an earlier good rating.
 *
 * Errors:  RV_E_NOT_FOUND no such request (never made, private, or made while learning was off).  RV_E_ARG neither rating
 *          nor correction, or out of range.
 * Threads: any thread; feedback is stored one at a time.
 */
rv_err rv_feedback_store(rv_db *db, rv_memory *memory, const rv_feedback *feedback,
                         rv_feedback_done *out) RV_MUST_CHECK;

/**
 * rv_feedback_is_news - whether something was rated or corrected since the version of a kind (store/policy.h) was made that was taken back: from
 * the same feedback the same would be learned again. True: there is no such version.
 *
 * Errors: the store's. Any thread.
 */
rv_err rv_feedback_is_news(rv_db *db, const char *kind, bool *out) RV_MUST_CHECK;
#define RV_NO_NEWS                                                                                           \
    "it was taken back, and nothing was rated or corrected since: the next feedback makes it learn again"
#endif
