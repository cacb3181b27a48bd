/* HTTP routes: JSON in and out, OpenAI's shapes, limits, SSE. A bounded queue feeds worker threads that run the pipeline. */
#ifndef RV_API_API_H
#define RV_API_API_H
#include "api/keys.h"
#include "net/http.h"
#include "pipeline/pipeline.h"

typedef struct rv_api rv_api;

typedef struct rv_api_options {
    int workers; /* threads that generate and import, 1 .. 64; two more do what is quick, so that health waits for no model and no file */
    size_t max_queue;    /* requests waiting for a worker; past it 503 and Retry-After */
    const char *version; /* shown by health; copied */
    const rv_api_keys *
        keys; /* one of them has to come with every request but for health; borrowed. NULL: none is asked for */
} rv_api_options;

/**
 * rv_api_new - starts the worker threads. pipeline is borrowed and outlives it; its backend, db, memory and embed may each
 * be NULL, then the routes that need it answer 503.
 *
 * Errors:  RV_E_NOMEM.  RV_E_IO a thread could not be started.
 * Threads: once at a time; metrics are registered at the first call.
 */
rv_err rv_api_new(const rv_alloc *mem, rv_pipeline *pipeline, rv_api_options how, rv_api **out) RV_MUST_CHECK;

/** rv_api_free - accepts NULL; finishes what is queued (those whose client has left at once), after the server stopped. */
void rv_api_free(rv_api *api);

/** rv_api_admit - for rv_http_options.admit, self = rv_api: who has no key sends no body. Threads: the net thread. */
bool rv_api_admit(void *api, const rv_http_request *request);

/** rv_api_handle - for rv_http_options.handle, self = rv_api. Never blocks: routes the request, checks what needs no
 * parsing, and queues it. Threads: the net thread. */
void rv_api_handle(void *api, rv_http_request *request);
#endif
