#ifndef RV_APP_APP_PRIV_H
#define RV_APP_APP_PRIV_H
#include "app/app.h"

#include <stdatomic.h>

struct rv_app {
    const rv_alloc *mem;
    const rv_config *config;
    rv_pipeline pipeline;
    rv_budget *budget;       /* of adapters and router weights, and of all models unless each has its own */
    rv_shelf *shelf;         /* idle conversations; NULL: none */
    char *models_dir;        /* NULL: none found */
    struct learner *learner; /* its thread, NULL: none */
    pthread_rwlock_t quiet;  /* the pipeline's */
    atomic_int forgetting;   /* how many wait for it to forget, or do: what takes long stops for them */
    atomic_int forgotten;    /* how often that was done since the start; changes only while they are alone */
};

/** app_open_forget - what pipeline.forget needs, and the end of a forgetting that was cut short. When that fails it is logged, and the next start
 * tries again. */
void app_open_forget(rv_app *app);

/** app_settle_edges - the memory's graph has the learned edges of the versions in use, and no others. */
rv_err app_settle_edges(rv_app *app) RV_MUST_CHECK;

/** app_open_router - the box with what is in use. */
rv_err app_open_router(rv_app *app) RV_MUST_CHECK;
#endif
