/* One interface to generate text. Native: our engine, one per model file, loaded at first use, at most max_loaded at a
 * time (least recently used goes). Others (remote servers) come behind the same calls. */
#ifndef RV_BACKEND_BACKEND_H
#define RV_BACKEND_BACKEND_H
#include "engine/engine.h"

typedef struct rv_backend rv_backend;

#define RV_TIERS 4
extern const char *const rv_tier_names[RV_TIERS]; /* "350m" "700m" "1.2b" "2.6b" */

typedef struct rv_backend_options {
    int threads;               /* of the shared compute pool */
    uint32_t max_context;
    rv_type kv_type;
    size_t max_loaded;         /* models in memory, at least 1 */
    const char *tiers[RV_TIERS]; /* file per tier, NULL: none. Copied */
    const char *const *files;  /* [n_files] further model files, served under their name (file name without .gguf). Copied */
    size_t n_files;
    const char *default_model; /* tier, name or path; NULL: the largest tier there is. Copied */
} rv_backend_options;

/** rv_backend_open - no model is read yet; files that do not exist are RV_E_NOT_FOUND naming tier and path. */
rv_err rv_backend_open(const rv_alloc *mem, const rv_backend_options *how, rv_backend **out) RV_MUST_CHECK;
void rv_backend_close(rv_backend *b); /* accepts NULL */

typedef struct rv_backend_model {
    const char *id;     /* tier or file name */
    const char *path;
    int tier;           /* 0..3, or -1 */
    bool loaded;
    uint64_t file_bytes;
    uint32_t n_ctx;     /* 0 until loaded */
    int64_t created;    /* file time, seconds */
} rv_backend_model;
/** rv_backend_models - snapshot into out[max]; returns how many there are. Any thread. */
size_t rv_backend_models(rv_backend *b, rv_backend_model *out, size_t max);
/** rv_backend_resolve - the id a name stands for (tier, file name, default for NULL or ""); RV_E_NOT_FOUND lists what there is. */
rv_err rv_backend_resolve(rv_backend *b, const char *name, const char **id) RV_MUST_CHECK;

/** rv_backend_take .. rv_backend_put - hold a loaded engine (loads it, evicting the least recently used one nobody holds). Any thread. */
rv_err rv_backend_take(rv_backend *b, const char *id, rv_engine **out) RV_MUST_CHECK;
void rv_backend_put(rv_backend *b, rv_engine *engine);

typedef struct rv_backend_request {
    const char *model;          /* id as resolved */
    const json_t *messages;     /* chat; or NULL with prompt */
    const json_t *tools;
    const char *prompt;         /* raw completion text (BOS added when the model wants it) */
    size_t prompt_bytes;
    const int32_t *prompt_ids;  /* or ids */
    size_t n_prompt_ids;
    rv_generate how;            /* prompt and n_prompt are filled in here; the rest is the caller's */
} rv_backend_request;

/** rv_backend_generate - render, tokenise, generate. Text comes through how.on_piece. Any thread. */
rv_err rv_backend_generate(rv_backend *b, const rv_backend_request *request, rv_generated *out) RV_MUST_CHECK;
/** rv_backend_count_tokens - tokens of text for a model. */
rv_err rv_backend_count_tokens(rv_backend *b, const char *id, const char *text, size_t n, size_t *out) RV_MUST_CHECK;
#endif
