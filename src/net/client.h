/* One request to a server somewhere else, for work in the background: the calling thread waits until the answer is whole or the time is up.
 * Everything that comes back is hostile: status, headers and body have their limits, no redirect is followed, and over https the server has to
 * prove its name with a certificate that the system trusts. */
#ifndef RV_NET_CLIENT_H
#define RV_NET_CLIENT_H
#include "base/err.h"
#include "base/str.h"

typedef struct rv_http_url {
    bool tls;
    bool literal;   /* host is an IPv6 or IPv4 address, not a name */
    char host[256]; /* without the brackets of an IPv6 address */
    int port;
    char path[512]; /* "" or "/..." without a slash at its end */
} rv_http_url;

/** rv_http_url_read - "https://host[:port][/path]". RV_E_ARG: another scheme, no host, a user, query or fragment in it, a port out of range,
 * too long, or bytes that no address has. */
rv_err rv_http_url_read(const char *text, rv_http_url *out) RV_MUST_CHECK;

typedef struct rv_http_call {
    const rv_http_url *url;
    const char *path;          /* after the one of url: "/chat/completions" */
    const char *bearer;        /* key of the Authorization header; NULL: none */
    const char *body;          /* [n] JSON */
    size_t n, max_bytes;       /* of the answer's body */
    double timeout_ms;         /* of all but the look-up of the name, which is the system's */
    bool (*go_on)(void *self); /* asked twenty times a second; false: stop. May be NULL */
    void *self;
} rv_http_call;

/**
 * rv_http_post - POST it, and read the answer, of any status.
 *
 * answer  at most max_bytes of body are added
 *
 * Errors:  RV_E_IO no connection, no trust, or no HTTP came back.  RV_E_TOO_LARGE.  RV_E_TIMEOUT.  RV_E_CANCELLED.  RV_E_NOMEM.
 * Threads: any. The process ignores SIGPIPE from here on.
 */
rv_err rv_http_post(const rv_http_call *call, int *status, rv_text *answer) RV_MUST_CHECK;
#endif
