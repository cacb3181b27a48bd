/* What the other tiers would have said: for a share of the requests they are asked too, after the answer, in a thread of its own. Nobody
 * sees or waits for those answers; once the answer is rated, they tell the router what it could have chosen (learn/routing.h). */
#ifndef RV_PIPELINE_TRIES_H
#define RV_PIPELINE_TRIES_H
#include "backend/backend.h"
#include "base/json.h"
#include "store/db.h"

typedef struct rv_tries rv_tries;

/** rv_tries_new - starts the thread; db and backend outlive it. RV_E_NOMEM. */
rv_err rv_tries_new(const rv_alloc *mem, rv_db *db, rv_backend *backend, rv_tries **out) RV_MUST_CHECK;
/** rv_tries_free - cancels what runs, drops what waits. Accepts NULL. */
void rv_tries_free(rv_tries *t);

typedef struct rv_try {
    char request_id[37];
    json_t *messages; /* the prompt as it was put to the model that answered; taken, NULL is passed over */
    json_t *asked;    /* the question, then its passages; taken */
    const char *models[RV_TIERS]; /* [n_models] ids as resolved */
    size_t n_models, max_tokens;
    rv_sampling sampling;
    uint64_t tenant;
} rv_try;
/** rv_tries_put - takes the try; when too many wait it is dropped. Returns at once. Any thread. */
void rv_tries_put(rv_tries *t, rv_try *one);
/** rv_tries_drop - cancels what runs and drops what waits; returns when nothing runs. Nothing may be put meanwhile. Any thread. */
void rv_tries_drop(rv_tries *t);
#endif
