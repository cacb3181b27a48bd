/* One interface to generate text. Native: our engine, one per model file, loaded at first use in the background, at most
 * max_loaded at a time (the least recently used one that nobody holds or waits for goes). Others (remote servers) come behind the same calls.
 *
 * A model is known by its id: the tier it fills ("350m"), else its file's name without .gguf. Asking by file name or path
 * finds a tier's model too. Ids, paths and everything else borrowed from a backend live until rv_backend_close. */
#ifndef RV_BACKEND_BACKEND_H
#define RV_BACKEND_BACKEND_H
#include "engine/engine.h"

typedef struct rv_backend rv_backend;

#define RV_TIERS 4
extern const char *const rv_tier_names[RV_TIERS]; /* "350m" "700m" "1.2b" "2.6b" */

typedef struct rv_backend_options {
    int threads;                /* of the shared compute pool, as in rv_pool_new */
    uint32_t max_context;       /* as in rv_engine_options */
    rv_type kv_type;            /* as in rv_kv_shape */
    rv_budget *budget;          /* as in rv_engine_options, shared by all models */
    rv_shelf *shelf;            /* likewise */
    bool no_drafts, no_packing; /* as in rv_engine_options */
    /* "auto": the smallest tier that happens to be in memory guesses for larger ones of the same vocabulary, where that saves
     * time. A tier: that one, which is loaded for it. "off" or NULL: none does. */
    const char *draft_model;
    const char *packed_dir; /* likewise. Copied */
    size_t max_loaded;      /* models in memory, at least 1 */
    double load_wait_ms;    /* the longest anybody waits for a model to be loaded; 0: as long as it takes */
    const char *tiers[RV_TIERS]; /* file per tier, NULL: none. Copied */
    const char *const *files;    /* [n_files] further model files, served under their name. Copied */
    size_t n_files;
    const char
        *default_model; /* tier, name or path; NULL: the largest tier there is, else the first file. Copied */
} rv_backend_options;

/**
 * rv_backend_open - look at the files; no model is read yet. Without any model it opens too: asking for one is the error.
 *
 * Errors:  RV_E_NOT_FOUND a file that is not there (tier and path), or default_model naming none of the models.
 *          RV_E_IO not a regular file.  RV_E_ARG two files that would go by one name; a draft model that can guess for no
 *          larger tier (the text says why).
 * Threads: one thread.
 */
rv_err rv_backend_open(const rv_alloc *mem, const rv_backend_options *how, rv_backend **out) RV_MUST_CHECK;
/** rv_backend_close - accepts NULL; no engine may be held. */
void rv_backend_close(rv_backend *b);

typedef struct rv_backend_model {
    const char *id; /* tier or file name */
    const char *path;
    int tier; /* 0..3, or -1 */
    bool loaded, loading, is_default;
    uint64_t file_bytes;
    uint32_t n_ctx;  /* 0 until it was loaded once */
    int64_t created; /* file time, seconds */
    size_t held;     /* requests that use it now */
    size_t resident_bytes;
    double idle_ms; /* since it was last used */
} rv_backend_model;
/** rv_backend_models - snapshot into out[max], tiers first; returns how many there are. Any thread. */
size_t rv_backend_models(rv_backend *b, rv_backend_model *out, size_t max);
/** rv_backend_resolve - the id a name stands for (tier, file name with or without .gguf, path; NULL, "" or "default": the
 * default); RV_E_NOT_FOUND lists what there is. Any thread. */
rv_err rv_backend_resolve(rv_backend *b, const char *name, const char **id) RV_MUST_CHECK;

/**
 * rv_backend_take .. rv_backend_put - hold a loaded engine, so that it is not unloaded in between.
 *
 * Waits for it to be loaded when needed: one load at a time, in the order they were asked for; when max_loaded models are
 * in memory and all are held, until a put. So a thread that holds one engine must not take another model's. Generate
 * through rv_backend_generate: engines share one compute pool.
 * Errors:  RV_E_NOT_FOUND no such id.  RV_E_FULL it took longer than load_wait_ms; loading goes on.  Else those of
 *          rv_engine_open.
 * Threads: any thread, locks inside.
 */
rv_err rv_backend_take(rv_backend *b, const char *id, rv_engine **out) RV_MUST_CHECK;
void rv_backend_put(rv_backend *b, rv_engine *engine);

/** rv_backend_warm - begin to load the default model, if there is one. Any thread. */
void rv_backend_warm(rv_backend *b);

/** rv_backend_forget - rv_engine_forget of all models that are loaded; one that is being dropped has written what it writes to the
 * shelf. Any thread. */
void rv_backend_forget(rv_backend *b);

typedef struct rv_backend_request {
    const char *model;      /* id as resolved */
    const json_t *messages; /* chat; or NULL with prompt */
    const json_t *tools;
    const char
        *prompt; /* raw completion text: control texts count, BOS is put before it when the model wants it */
    size_t prompt_bytes;
    const int32_t *prompt_ids; /* or ids, as they are */
    size_t n_prompt_ids;
    rv_generate how; /* prompt and n_prompt are filled in here; the rest is the caller's */
} rv_backend_request;

/**
 * rv_backend_generate - render, tokenise, generate. Text comes through how.on_piece.
 *
 * Contents of messages are never read as control tokens. out->wait_ms includes the time other generations had the pool.
 * Errors:  those of rv_backend_take (RV_E_CANCELLED: while waiting for it), rv_chat_render and rv_engine_generate (RV_E_CONTEXT: the prompt does not fit).
 * Threads: any thread; generations of one model run together, several models take turns, a step each.
 */
rv_err rv_backend_generate(rv_backend *b, const rv_backend_request *request, rv_generated *out) RV_MUST_CHECK;
/** rv_backend_count_tokens - tokens of text for a model, control texts read as text. Loads the model. Any thread. */
rv_err rv_backend_count_tokens(rv_backend *b, const char *id, const char *text, size_t n,
                               size_t *out) RV_MUST_CHECK;
#endif
