/* Versions of adapters: what is in use for whom, where it came from, and the way back. An adapter is for one model (by its file's
 * fingerprint) and for one user, or for everybody (user ""); a request of a user gets both, added up. A micro adapter (rank 2, made at once
 * after a correction) stands on a base one and is added to it, until the next round consolidates both into a new base. Files lie in DATA/adapters,
 * rows in the database; both are there before a version is used, and neither is changed afterwards. */
#ifndef RV_LEARN_ADAPTER_H
#define RV_LEARN_ADAPTER_H
#include "base/arena.h"
#include "engine/engine.h"
#include "store/db.h"

typedef struct rv_adapters rv_adapters;

typedef struct rv_adapter_version {
    int64_t id;       /* given by rv_adapters_publish */
    int64_t parent;   /* in use before it, 0: none */
    uint64_t model;   /* rv_engine_info.fingerprint */
    const char *user; /* "": everybody */
    int64_t
        base; /* of a micro adapter: the version it is added to; 0: it stands alone, or is no micro adapter */
    const char *origin;   /* "load", "learn", "micro" */
    int64_t rows;         /* it was made from, 0: not known */
    double before, after; /* loss on what was held out, under the parent and under it; 0: not measured */
    int64_t created_ms;   /* when what it was made from was read: it knows nothing of later; in: 0, now */
    bool in_use;
    /* The questions it is for, as vectors [n_keys][dim] of unit length of an embedder; in only. None: it is for all. */
    const float *keys;
    size_t n_keys, dim;
    const char *embedder;
} rv_adapter_version;

/* A version that has keys changes only answers to questions like them: this cosine at least. What it learned by heart then takes nothing
 * away from other questions. */
#define RV_ADAPTER_LIKE 0.65f
typedef struct rv_adapter_question {
    const char *embedder;
    const float *vector; /* [dim] of unit length */
    size_t dim;
} rv_adapter_question;

/** rv_adapters_open - tables and folder. db outlives it, and so does the budget that opened adapters claim from: an adapter that nobody
 * holds goes when others need its room. NULL: they are not counted. Errors: those of rv_db_migrate; RV_E_IO, RV_E_NOMEM. */
rv_err rv_adapters_open(const rv_alloc *mem, rv_db *db, rv_budget *budget, rv_adapters **out) RV_MUST_CHECK;
void rv_adapters_close(rv_adapters *a); /* accepts NULL; nothing may be taken */

/**
 * rv_adapters_take .. rv_adapters_put - the adapter for a request: an immutable one, alive until put, whatever is published meanwhile.
 *
 * engine  that will answer; its file decides which adapters fit
 * user      NULL: nobody in particular
 * question  NULL, or of another embedder than its keys: a version with keys is not used
 * out     NULL: none. A file that is damaged is reported once and its parent taken instead
 *
 * Errors:  RV_E_FULL the budget has no room for it now; it may have later.  RV_E_NOMEM.
 * Threads: any thread, locks inside.
 */
rv_err rv_adapters_take(rv_adapters *a, const rv_engine *engine, const char *user,
                        const rv_adapter_question *question, const rv_lora **out) RV_MUST_CHECK;
void rv_adapters_put(rv_adapters *a, const rv_lora *lora); /* accepts NULL */

/** rv_adapters_publish - write the file, then the row and its witness record, then use it. id, parent, in_use of what are not
 * read. Errors: RV_E_IO, RV_E_NOMEM: nothing is in use that was not before. Any thread. */
rv_err rv_adapters_publish(rv_adapters *a, const rv_adapter_version *what, const rv_lora *lora,
                           int64_t *id) RV_MUST_CHECK;
/** rv_adapters_use - go to a version (rv_adapters_list) of that model and user, 0: to none. RV_E_NOT_FOUND. Any thread. */
rv_err rv_adapters_use(rv_adapters *a, uint64_t model, const char *user, int64_t id) RV_MUST_CHECK;
/** rv_adapters_get - one version; RV_E_NOT_FOUND.  rv_adapters_list - all, newest first, strings in arena.  rv_adapters_path - its file, in
 * arena. Any thread. */
rv_err rv_adapters_get(rv_adapters *a, int64_t id, rv_arena *arena, rv_adapter_version *out) RV_MUST_CHECK;
rv_err rv_adapters_list(rv_adapters *a, rv_arena *arena, rv_adapter_version **out, size_t *n) RV_MUST_CHECK;
rv_err rv_adapters_path(const rv_adapters *a, int64_t id, rv_arena *arena, const char **out) RV_MUST_CHECK;
/**
 * rv_adapters_open_files - the files of a version as engine's model takes them: own, and what it stands on (NULL: nothing). The caller's.
 * RV_E_NOT_FOUND; those of rv_engine_open_lora. Any thread.
 */
rv_err rv_adapters_open_files(rv_adapters *a, const rv_engine *engine, int64_t id, rv_lora **own,
                              rv_lora **base) RV_MUST_CHECK;
/** rv_adapters_in_use - id of what a user (not added up with everybody's) has; 0: none. Any thread. */
int64_t rv_adapters_in_use(rv_adapters *a, uint64_t model, const char *user);

/** rv_adapters_learned_ms - created_ms of the newest version that was learned for a user, in use or taken back; 0: there is none. Any thread. */
rv_err rv_adapters_learned_ms(rv_adapters *a, uint64_t model, const char *user, int64_t *out) RV_MUST_CHECK;

/**
 * rv_adapters_forget - versions of a user, of all models, go with their files; where one was in use its newest ancestor that stays is used, or none.
 *
 * since_ms  those that were learned at or after it; 0: all, loaded ones too, and that the user ever had any
 * removed   out: versions
 * Errors: RV_E_IO, RV_E_NOMEM; it may be called again, and then removes files that an earlier call left. Any thread.
 */
rv_err rv_adapters_forget(rv_adapters *a, const char *user, int64_t since_ms, size_t *removed) RV_MUST_CHECK;
/** rv_adapters_prune - of each model and user the newest `keep` versions stay, and what is in use, what stands under one of these, and what was
 * loaded. Errors as rv_adapters_forget. */
rv_err rv_adapters_prune(rv_adapters *a, size_t keep, size_t *removed) RV_MUST_CHECK;
#endif
