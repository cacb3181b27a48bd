/* HTTP/1.1 server on libevent: bytes to requests and back, no meaning. Strict where the world is sloppy: one framing per
 * request, bounded line, headers, body and time. Handlers run on the net thread and must not block: they answer at once or keep
 * the rv_http_request and answer later from any thread. */
#ifndef RV_NET_HTTP_H
#define RV_NET_HTTP_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"
#include <stdatomic.h>
#include <stdint.h>

typedef struct rv_http_server rv_http_server;
typedef struct rv_http_request rv_http_request;

typedef struct rv_http_options {
    const char *listen; /* address, "127.0.0.1" */
    int port;           /* 0: any free one, see rv_http_port */
    size_t max_connections, max_body_bytes, max_header_bytes;
    int request_timeout_ms; /* to receive a whole request; a silent connection is closed after it too */
    void (*handle)(void *self, rv_http_request *request);
    void *self;
} rv_http_options;

/** rv_http_listen - bind. Errors: RV_E_BUSY "port 8080 on 127.0.0.1 is in use ...".  RV_E_ARG the address. */
rv_err rv_http_listen(const rv_alloc *mem, const rv_http_options *how, rv_http_server **out) RV_MUST_CHECK;
int rv_http_port(const rv_http_server *server);
/** rv_http_run - serve on the calling thread until rv_http_stop; then no new connections, running answers finish within
 * drain_ms. */
rv_err rv_http_run(rv_http_server *server, int drain_ms) RV_MUST_CHECK;
void rv_http_stop(rv_http_server *server); /* any thread, and from a signal handler; a second call ends at once */
void rv_http_free(rv_http_server *server); /* accepts NULL; after rv_http_run returned and no request is held */

/* Request: borrowed until answered. */
const char *rv_http_method(const rv_http_request *r);
const char *rv_http_path(const rv_http_request *r);                         /* decoded, without query */
bool rv_http_query(const rv_http_request *r, const char *name, rv_text *out); /* decoded value */
const char *rv_http_header(const rv_http_request *r, const char *name);      /* NULL when absent */
rv_str rv_http_body(const rv_http_request *r);
const char *rv_http_peer(const rv_http_request *r);
/** rv_http_gone - the client left: a cancel flag that lives until the request is answered. */
const atomic_bool *rv_http_gone(const rv_http_request *r);

/* Answer: exactly one of answer, or begin..end. Any thread. The request is dead after answer or end. */
void rv_http_answer(rv_http_request *r, int status, const char *content_type, const char *extra_headers, const char *body, size_t n);
/** rv_http_begin - chunked answer (SSE). rv_http_write returns false when the client left or is more than 1 MiB behind. */
bool rv_http_begin(rv_http_request *r, int status, const char *content_type);
bool rv_http_write(rv_http_request *r, const char *bytes, size_t n);
void rv_http_end(rv_http_request *r);
#endif
