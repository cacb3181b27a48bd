/* The loops of the running system (learn/loop.h): which stages there are, and what they stand on. */
#ifndef RV_APP_LEARNING_H
#define RV_APP_LEARNING_H
#include "app/app.h"

/**
 * rv_app_learn - one run of a loop, or the rest of one that was cut short; what is accepted is in use when it returns.
 *
 * background  judge, router, attention, adapters, patterns: at most about 10 seconds of work
 * deep        adapters with the time they need; the files are cleaned of what was removed
 *
 * go_on    asked now and then, false: stop with RV_E_CANCELLED. May be NULL
 * Errors:  RV_E_CONFIG learning is off.  The store's. What a stage cannot do is in its report, not an error.
 * Threads: any thread, one run at a time.
 */
rv_err rv_app_learn(rv_app *app, bool deep, bool (*go_on)(void *self), void *self,
                    rv_loop_done *out) RV_MUST_CHECK;

/** rv_app_adapter_learning - what every round of learning an adapter has in common: what it stands on, and how [learning] says that it trains. */
rv_adapter_learning rv_app_adapter_learning(const rv_app *app);

/** rv_app_rollback - back to the version of a kind that was in use before, 0: to none. Router and learned edges follow at once, other kinds when the
 * store is opened the next time. RV_E_NOT_FOUND none is in use. */
rv_err rv_app_rollback(rv_app *app, const char *kind, const char *why, int64_t *version) RV_MUST_CHECK;
#endif
