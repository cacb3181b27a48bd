/* What the files of the loops share. */
#ifndef RV_APP_LEARNING_PRIV_H
#define RV_APP_LEARNING_PRIV_H
#include "app/app_priv.h"
#include "app/learning.h"

typedef struct learning {
    rv_app *app;
    bool (*go_on)(void *self);
    void *self;
    bool deep;   /* else the background loop */
    bool yields; /* app_learning_goes_on said no, because somebody forgets */
    bool ended;  /* it said no, because it was told to end */
} learning;

/** app_learning_goes_on - self: a learning. False: it was told to end, or somebody waits to forget; then leave the pipeline, and begin again. */
bool app_learning_goes_on(void *self);
void app_say(rv_loop_report *out, const char *why);

/** app_adapters_stage - of both loops: whoever has corrections since the last base version gets a round. */
rv_err app_adapters_stage(void *self, double until_ms, rv_loop_report *out);

extern const rv_loop_stage app_deep_stages[];
extern const size_t app_n_deep_stages;
#endif
