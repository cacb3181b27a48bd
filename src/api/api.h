/* HTTP routes: JSON in and out, OpenAI's shapes, limits, SSE. A bounded queue feeds worker threads that run the pipeline. */
#ifndef RV_API_API_H
#define RV_API_API_H
#include "net/http.h"
#include "pipeline/pipeline.h"

typedef struct rv_api rv_api;

typedef struct rv_api_options {
    int workers;            /* threads that run requests */
    size_t max_queue;       /* waiting requests; past it 503 + Retry-After */
    const char *version;
} rv_api_options;

/** rv_api_new - pipeline is borrowed and outlives it. */
rv_err rv_api_new(const rv_alloc *mem, rv_pipeline *pipeline, rv_api_options how, rv_api **out) RV_MUST_CHECK;
void rv_api_free(rv_api *api); /* accepts NULL; finishes what is queued, after the server stopped */
/** rv_api_handle - for rv_http_options.handle, self = rv_api. Never blocks. */
void rv_api_handle(void *api, rv_http_request *request);
#endif
