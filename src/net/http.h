/* HTTP/1.1 server on libevent: bytes to requests and back, no meaning. Strict where the world is sloppy (http_parse.h): one
 * framing per request; line, headers, body and time have their limits, and where the framing is in doubt the connection is
 * closed after the answer. Handlers run on the net thread and must not block: they answer at once, or keep the
 * rv_http_request and answer later from any thread. */
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
    const char
        *listen; /* address or name of this machine: "127.0.0.1", "::1", "0.0.0.0", "localhost". Copied */
    int port;    /* 0: any free one, see rv_http_port */
    size_t max_connections; /* one too many is told 503 and closed */
    size_t max_body_bytes, max_header_bytes;
    int request_timeout_ms; /* to receive a whole request; a silent connection is closed after it too, and one that does not
                               take a byte of its answer for so long */
    /* Once the headers are in, before the body is read; false: it is handed out as it is, and the connection ends with its answer.
     * NULL: all bodies are read. Net thread */
    bool (*admit)(void *self, const rv_http_request *request);
    void (*handle)(void *self, rv_http_request *request); /* net thread */
    void *self;
} rv_http_options;

/**
 * rv_http_listen - bind; connections queue up until rv_http_run. From here on the process ignores SIGPIPE.
 *
 * On a loopback address only requests whose Host is localhost, 127.x.y.z, [::1] or how->listen are handed out; others are
 * answered 421, so that no web page can reach the server under a name of its own (DNS rebinding).
 *
 * Errors:  RV_E_BUSY the port is in use (port, address, what to do).  RV_E_ARG listen is no address of this machine.
 *          RV_E_IO any other refusal of the system.  RV_E_NOMEM.
 */
rv_err rv_http_listen(const rv_alloc *mem, const rv_http_options *how, rv_http_server **out) RV_MUST_CHECK;
int rv_http_port(const rv_http_server *server);

/**
 * rv_http_run - serve on the calling thread until rv_http_stop. Then there are no new connections, idle ones are closed, and
 * running answers have drain_ms to finish; what is still running after that has its rv_http_gone set.
 */
rv_err rv_http_run(rv_http_server *server, int drain_ms) RV_MUST_CHECK;

/** rv_http_stop - any thread, also before rv_http_run, and from a signal handler. A second call ends the draining at once. */
void rv_http_stop(rv_http_server *server);
/** rv_http_free - accepts NULL; after rv_http_run has returned and every request was answered or ended. */
void rv_http_free(rv_http_server *server);

/* ---- the request: whoever was handed it may read it until it answers or ends ---- */

const char *rv_http_method(const rv_http_request *r);
const char *
rv_http_path(const rv_http_request *r); /* decoded, valid UTF-8 without control bytes, without the query */
/** rv_http_query - append the decoded value of a parameter of the query string (of several the first) to out; false: absent. */
bool rv_http_query(const rv_http_request *r, const char *name, rv_text *out);
/** rv_http_query_only - is every parameter of the query string one of names[n]? */
bool rv_http_query_only(const rv_http_request *r, const char *const *names, size_t n);
const char *rv_http_header(const rv_http_request *r,
                           const char *name); /* any case; of several the first; NULL when absent */
rv_str rv_http_body(const rv_http_request *r);
const char *rv_http_peer(const rv_http_request *r); /* "127.0.0.1:54321" */
/** rv_http_gone - set when the client has left or ended its side, when it is too far behind, and when the server was stopped.
 * A cancel flag that lives until the request is answered or ended. */
const atomic_bool *rv_http_gone(const rv_http_request *r);

/* ---- the answer: either rv_http_answer, or rv_http_begin .. rv_http_end, exactly once, from any one thread. The request is
 * dead after; that holds as well when the client is gone. Bodies are left out for HEAD. ---- */

/** rv_http_answer - content_type may be NULL; extra_headers is NULL or whole lines, "Allow: GET\r\n". Never from outside. */
void rv_http_answer(rv_http_request *r, int status, const char *content_type, const char *extra_headers,
                    const char *body, size_t n);
/** rv_http_begin - an answer of unknown length. False: the client is gone already; rv_http_end is still due. */
bool rv_http_begin(rv_http_request *r, int status, const char *content_type);
/** rv_http_write - queue bytes; never waits. False when the client is gone, or is more than 1 MiB behind and is dropped. */
bool rv_http_write(rv_http_request *r, const char *bytes, size_t n);
void rv_http_end(rv_http_request *r);
#endif
