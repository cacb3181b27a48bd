/* What the files of this folder share: one call, its ways to end, and the route handlers. */
#ifndef RV_API_API_PRIV_H
#define RV_API_API_PRIV_H
#include "api/api.h"
#include "base/arena.h"
#include "base/json.h"

#define RV_API_TEXT_MAX ((size_t)256 << 20) /* the largest answer we build */

typedef struct rv_api_call rv_api_call;

typedef enum rv_api_lane { RV_API_QUICK, RV_API_GENERATE, RV_API_LANES } rv_api_lane;

typedef struct rv_api_route {
    const char *method, *path; /* a path that ends in "/{id}" takes anything after the slash */
    rv_api_lane lane;
    bool body; /* a JSON object is required */
    void (*run)(rv_api_call *call);
} rv_api_route;

/* One request from the net thread through the queue to its answer. */
struct rv_api_call {
    rv_api *api;
    const rv_pipeline *pipeline;
    rv_http_request *http; /* NULL once answered */
    const rv_api_route *route;
    const char *id; /* what stands for {id}; NULL where the path has none */
    double started_ms;
    rv_arena *arena;
    json_t *body;    /* an object; NULL where the route takes none */
    const char *key; /* name of the API key it came with; NULL: there are none */
    int64_t retry_s; /* of a 429 or 503: when to come back; 0: in a second */
    bool begun;      /* an event stream was begun: errors become its last event */
    rv_api_call *next;
};

const char *rv_api_version(const rv_api *api);
void rv_api_count_tokens(const rv_generated *generated);
void rv_api_metrics(rv_api_call *call);

/* ---- ways to end a call: exactly one per call; nothing may be sent after ---- */

/** rv_api_send - body as JSON; it is taken. NULL means that there was no memory to build it: 503. */
void rv_api_send(rv_api_call *call, int status, json_t *take);
/** rv_api_send_text - bytes as they are. A text that failed to grow becomes 503. */
void rv_api_send_text(rv_api_call *call, int status, const char *content_type, const rv_text *text);
/** rv_api_refuse - the client's mistake, in OpenAI's shape; param and code may be NULL. */
void rv_api_refuse(rv_api_call *call, int status, const char *param, const char *code, const char *format,
                   ...) RV_PRINTF(5, 6);
/** rv_api_fail - an error whose sentence is about what the client sent: it is shown, and a field name before its first
 * colon becomes param. */
void rv_api_fail(rv_api_call *call, rv_err e);
/** rv_api_fault - an error of ours: the sentence (which may name files) goes to the log, what to the client. */
void rv_api_fault(rv_api_call *call, rv_err e, const char *what);
/** rv_api_generation_failed - e of a generation: a prompt that does not fit is 400 exceed_context_size_error with both
 * numbers, for which param is to blame; too late is 504; what was wrong in the request is shown; the rest is ours. */
void rv_api_generation_failed(rv_api_call *call, rv_err e, const char *param);
/** rv_api_has_model - true; without any model it answers 503 and says what to do. */
bool rv_api_has_model(rv_api_call *call);
/** rv_api_no_model - 404 model_not_found. name may be NULL. */
void rv_api_no_model(rv_api_call *call, const char *name);

/** rv_api_event - one `data:` line of an event stream, which begins with the first. False: the client left. */
bool rv_api_event(rv_api_call *call, const rv_text *json);
/** rv_api_end - `data: [DONE]` and the end. */
void rv_api_end(rv_api_call *call);
/** rv_api_gone - the client left: end without an answer. */
void rv_api_gone(rv_api_call *call);

/* ---- reading ---- */

/** rv_api_only - every key of object is one of names[n]; else RV_E_ARG naming the first that is not. */
rv_err rv_api_only(const json_t *object, const char *const *names, size_t n) RV_MUST_CHECK;
/** rv_api_only_in - the same for an object inside the request; where stands before the name, "messages[2]." */
rv_err rv_api_only_in(const char *where, const json_t *object, const char *const *names,
                      size_t n) RV_MUST_CHECK;
/** rv_api_get_name - rv_json_get_string for a name or a scope: an empty one is an error, never "all". */
rv_err rv_api_get_name(const json_t *object, const char *field, const char **out) RV_MUST_CHECK;
/** rv_api_query_only - every parameter of the query string is one of names[n]; a misspelt filter must not widen a list or a
 * removal. */
rv_err rv_api_query_only(rv_api_call *call, const char *const *names, size_t n) RV_MUST_CHECK;
/** rv_api_query_string, rv_api_query_bool, rv_api_query_int - a parameter of the query string into the arena; absent: *out untouched;
 * empty: an error, never "all". */
rv_err rv_api_query_string(rv_api_call *call, const char *name, const char **out) RV_MUST_CHECK;
rv_err rv_api_query_bool(rv_api_call *call, const char *name, bool *out) RV_MUST_CHECK; /* true false 1 0 */
rv_err rv_api_query_int(rv_api_call *call, const char *name, int64_t low, int64_t high,
                        int64_t *out) RV_MUST_CHECK;

/* ---- handlers ---- */

void rv_api_health(rv_api_call *call);
void rv_api_models(rv_api_call *call);
void rv_api_decisions(rv_api_call *call);
void rv_api_model(rv_api_call *call);
void rv_api_query(rv_api_call *call);
void rv_api_feedback(rv_api_call *call);
void rv_api_chat(rv_api_call *call);
void rv_api_completions(rv_api_call *call);
void rv_api_embeddings(rv_api_call *call);
void rv_api_memory_add(rv_api_call *call);
void rv_api_memory_import(rv_api_call *call);
void rv_api_memory_keep(rv_api_call *call);
void rv_api_memory_list(rv_api_call *call);
void rv_api_memory_search(rv_api_call *call);
void rv_api_memory_get(rv_api_call *call);
void rv_api_memory_around(rv_api_call *call);
void rv_api_memory_path(rv_api_call *call);
void rv_api_memory_rm(rv_api_call *call);
void rv_api_forget(rv_api_call *call);
void rv_api_session_list(rv_api_call *call);
void rv_api_session_get(rv_api_call *call);
void rv_api_session_rm(rv_api_call *call);
#endif
