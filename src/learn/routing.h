/* The router learns from what was asked, answered and rated: episodes become rows, rows a candidate, and a candidate is used when
 * it beats the router in use on episodes it has not seen. */
#ifndef RV_LEARN_ROUTING_H
#define RV_LEARN_ROUTING_H
#include "base/arena.h"
#include "base/json.h"
#include "embed/embed.h"
#include "learn/gate.h"
#include "router/router.h"
#include "store/db.h"

#define RV_ROUTING_POLICY "router" /* its kind in store/policy */

#define RV_ROUTING_FIXED_BYTES                                                                               \
    (6u << 20) /* of a version, beside its questions: at most, for sixteen tiers and 4,096 dimensions */

typedef struct rv_routing_job {
    rv_db *db;
    const rv_embed *embed;    /* NULL: without vectors */
    const float *domains;     /* [RV_SLOT_DOMAINS][dim], see rv_router_set */
    const char *const *tiers; /* [n_tiers] model ids, smallest first */
    const float *costs;       /* [n_tiers] of a token */
    size_t n_tiers, usual;    /* usual: the tier that answers without a router */
    double threshold;         /* of confidence, as in rv_choice_how */
    bool cascade;             /* a larger tier may answer again */
    size_t
        capacity; /* episodes that are looked at: the newest half, and a sample of all before; 120,000 at most */
    size_t
        most_bytes; /* of a version: when its questions would take more it has a uniform sample of them. 0: what store/policy.h takes */
    double cost_share;    /* as in rv_router_how */
    const rv_router *now; /* in use, NULL: none */
    int64_t now_version;
    const rv_gate *gate; /* NULL: nothing is forgotten meanwhile */
} rv_routing_job;

typedef struct rv_routing_done {
    size_t episodes, questions,
        held_out; /* rated ones, different texts among them, those kept for the test that every tier answered */
    double before, after,
        error; /* utility per held-out question (quality less price of cost); standard error of the
                                             difference */
    double loss_before,
        loss_after; /* log loss of what was foretold of held-out outcomes; before the first router: of each tier's usual share */
    bool accepted;
    int64_t version; /* stored, 0: none */
    char why[260];
} rv_routing_done;

/**
 * rv_routing_learn - one round: read, learn, test, store.
 *
 * A rating r is the quality (r - 1) / 4 of the tier that answered, a correction is 0; what a judge that is trusted (judge.h) says of an answer that nobody rated is
 * its quality, with the weight of such a judge. Answers that were not shown (drafts, and what other
 * tiers were asked for beside) are rated with the one that was: they said the same, or what the correction says, or something else.
 * Something else was wrong when what was shown was right; when that was wrong too, a larger tier's was right 65 times in a hundred and a smaller one's 33. One question in five (always the
 * same: the router in use must not have seen them either) is held out; of those the ones that every tier answered are the test. A candidate is used when its utility there,
 * drafts and larger tiers counted, is higher by 0.005 and by half a standard error, on 20 or more of them; or when it foretells 100 or more held-out outcomes better (the first one: than each tier's share of right answers) than the
 * router in use, by 0.003 of log loss and by a standard error, and its utility is not lower by two standard errors.
 *
 * fresh    out: what to use from now on, or NULL when the candidate was refused; the caller's
 * Errors:  RV_E_ARG not enough to learn from, and what is missing; the last version was taken back and nothing was rated since.  Those of the
 *          store.  RV_E_NOMEM.  RV_E_CANCELLED the gate said so.
 * Threads: one at a time.
 */
rv_err rv_routing_learn(const rv_routing_job *job, rv_routing_done *done, rv_router **fresh) RV_MUST_CHECK;

/** rv_routing_rated_share - of the newest n episodes; of n, also when there are fewer. Any thread. */
rv_err rv_routing_rated_share(rv_db *db, size_t n, double *out) RV_MUST_CHECK;

/** rv_routing_rated - episodes that have feedback. Any thread. */
rv_err rv_routing_rated(rv_db *db, int64_t *out) RV_MUST_CHECK;

/** rv_routing_decisions - the newest n decisions: request, question, model, rating and how it was routed, as JSON. Any thread. */
rv_err rv_routing_decisions(rv_db *db, size_t n, json_t **out) RV_MUST_CHECK;
#endif
