/* What the files of the loops share. */
#ifndef RV_APP_LEARNING_PRIV_H
#define RV_APP_LEARNING_PRIV_H
#include "app/app_priv.h"
#include "app/learning.h"
#include "learn/routing.h"

typedef struct learning {
    rv_app *app;
    bool (*go_on)(void *self);
    void *self;
    bool deep;     /* else the background loop */
    bool yields;   /* app_learning_goes_on said no, because somebody forgets; or somebody has meanwhile */
    bool ended;    /* it said no, because it was told to end */
    int forgotten; /* the app's, when the round began */
} learning;

/** app_learning_goes_on - self: a learning. False: it was told to end, or somebody waits to forget; then leave the pipeline, and begin again. */
bool app_learning_goes_on(void *self);
/**
 * app_learn_round - a round that trains for long: within the pipeline while it reads and while it publishes (learn/gate.h). It begins again when
 * somebody forgets meanwhile, unless the time is up: RV_E_CANCELLED, and so when it was told to end. Other errors: the round's.
 */
rv_err app_learn_round(learning *l, double until_ms,
                       rv_err (*round)(learning *l, const rv_gate *gate, void *out), void *out) RV_MUST_CHECK;
/** app_learn_router - rv_app_learn_router, up to a time. */
rv_err app_learn_router(learning *l, double until_ms, rv_routing_done *done) RV_MUST_CHECK;
void app_say(rv_loop_report *out, const char *why);

/** app_adapters_stage - of both loops: whoever has corrections since the last base version gets a round. */
rv_err app_adapters_stage(void *self, double until_ms, rv_loop_report *out);

extern const rv_loop_stage app_deep_stages[];
extern const size_t app_n_deep_stages;
#endif
