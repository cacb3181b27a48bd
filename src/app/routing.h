/* The router of the running system: opened with it, learned from its episodes, swapped and taken back while it runs. */
#ifndef RV_APP_ROUTING_H
#define RV_APP_ROUTING_H
#include "app/app.h"
#include "learn/routing.h"
#include "router/measure.h"
#include "router/router.h"
#include "store/policy.h"

/** rv_app_domains - vectors [RV_SLOT_DOMAINS][dim] of the domains' texts by the app's embedder. */
rv_err rv_app_domains(const rv_app *app, float *out) RV_MUST_CHECK;

/**
 * rv_app_learn_router - one round of learning from the rated episodes; what is accepted is in use when it returns.
 *
 * Errors:  RV_E_ARG not enough to learn from: what is missing.  RV_E_UNSUPPORTED fewer than two tiers.  Those of the store.
 * Threads: any thread, one round at a time.
 */
rv_err rv_app_learn_router(rv_app *app, rv_routing_done *done) RV_MUST_CHECK;

/** rv_app_read_router - the version in use, a copy of its own. RV_E_NOT_FOUND none is. */
rv_err rv_app_read_router(const rv_app *app, rv_router **out) RV_MUST_CHECK;

/** rv_app_reload_router - take up the version that the store says is in use. */
rv_err rv_app_reload_router(rv_app *app) RV_MUST_CHECK;

/** rv_app_rollback_router - back to the version before the one in use; *version 0: none is in use now. RV_E_NOT_FOUND. */
rv_err rv_app_rollback_router(rv_app *app, const char *why, int64_t *version) RV_MUST_CHECK;

/** rv_app_start_learner .. rv_app_stop_learner - a thread that learns whenever learning.min_samples more episodes were rated,
 * looking every learning.training_interval_ms. Stopping waits for a round that runs. */
rv_err rv_app_start_learner(rv_app *app) RV_MUST_CHECK;
void rv_app_stop_learner(rv_app *app);
#endif
