/* Configuration to running system: the only place where modules meet their options. */
#ifndef RV_APP_APP_H
#define RV_APP_APP_H
#include "app/config.h"
#include "learn/adapter_train.h"
#include "learn/evidence.h"
#include "memory/lake.h"
#include "model/lora_peft.h"
#include "pipeline/pipeline.h"
#include "store/policy.h"
#include "store/session.h"
#include "store/witness.h"
#include "vector/index.h"
#include "vector/vecs.h"

typedef struct rv_app rv_app;

/* What a command needs; opening more than that costs time and locks. Reembed, beside memory: all its vectors are made anew from
 * the texts, by the embedder that is configured now. */
typedef enum rv_app_parts {
    RV_APP_MODELS = 1,
    RV_APP_MEMORY = 2,
    RV_APP_ALL = 3,
    RV_APP_REEMBED = 4
} rv_app_parts;

/**
 * rv_app_open - open the parts, from configuration. No model is read yet.
 *
 * config  borrowed, outlives the app
 * out     closed with rv_app_close
 *
 * Models are those of [tiers]; a tier that is not set takes the demo model of its size (demo-xs, -s, -m, -l.gguf) from
 * rv_app_models_dir when it is there. [inference] models says which tiers are in use, model which one answers by default.
 * A model given by name is looked for in that folder, in DATA/models and in the current folder.
 *
 * Errors:  RV_E_CONFIG, RV_E_NOT_FOUND a model or embedder that is not there.  RV_E_UNSUPPORTED a model given as URL.
 *          RV_E_BUSY another process has the data folder.  RV_E_IO, RV_E_CORRUPT of the store.  RV_E_NOMEM.
 * Threads: one thread, before others start.
 */
rv_err rv_app_open(const rv_alloc *mem, const rv_config *config, rv_app_parts parts,
                   rv_app **out) RV_MUST_CHECK;
void rv_app_close(rv_app *app); /* accepts NULL */

/** rv_app_check - the files and names of a configuration lead somewhere: models, embedder, API keys. Nothing is loaded or written. Errors as
 * rv_app_open, and those of the key file. */
rv_err rv_app_check(const rv_config *config) RV_MUST_CHECK;

/** rv_app_pipeline - backend NULL without RV_APP_MODELS, db and memory NULL without RV_APP_MEMORY; embed always there. */
rv_pipeline *rv_app_pipeline(rv_app *app);

/**
 * rv_app_serve - listen, print where (and a curl example, on stderr), run until SIGTERM or SIGINT, then let running answers
 * finish; a second signal cancels them. What cannot be cancelled is waited for, unless a third signal ends the program. Needs
 * RV_APP_ALL.
 *
 * Errors:  RV_E_CONFIG an address beyond this machine with neither keys nor server.insecure, or TLS asked for, which this version
 *          does not have: it does not start without what was asked to protect it; and those of the key file.  RV_E_BUSY port in use.
 */
rv_err rv_app_serve(rv_app *app) RV_MUST_CHECK;

/** rv_app_models_dir - folder with the models that came with the program: RUVLLM_MODELS, else models/ beside the program or
 * up to two folders above it, else share/ruvllm/models of its prefix, else DATA/models. NULL: none has any. */
const char *rv_app_models_dir(const rv_app *app);
#endif
