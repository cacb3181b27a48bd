/* Configuration to running system: the only place where modules meet their options. */
#ifndef RV_APP_APP_H
#define RV_APP_APP_H
#include "app/config.h"
#include "pipeline/pipeline.h"
#include "store/session.h"
#include "store/witness.h"
#include "store/session.h"
#include "store/witness.h"

typedef struct rv_app rv_app;

/* What a command needs; opening more than that costs time and locks. */
typedef enum rv_app_parts { RV_APP_MODELS = 1, RV_APP_MEMORY = 2, RV_APP_ALL = 3 } rv_app_parts;

rv_err rv_app_open(const rv_alloc *mem, const rv_config *config, rv_app_parts parts, rv_app **out) RV_MUST_CHECK;
void rv_app_close(rv_app *app); /* accepts NULL */
rv_pipeline *rv_app_pipeline(rv_app *app);   /* backend NULL without RV_APP_MODELS, db/memory NULL without RV_APP_MEMORY */

/** rv_app_serve - listen, print where (four lines and a curl example, on stderr), run until SIGTERM or SIGINT, drain. */
rv_err rv_app_serve(rv_app *app) RV_MUST_CHECK;

/** rv_app_models_dir - folder with the models that came with the program: RUVLLM_MODELS, beside the program, or the data folder. */
const char *rv_app_models_dir(const rv_app *app);
#endif
