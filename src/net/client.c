/* libevent's evhttp with a base of its own for each request, on the calling thread. A timer beside it asks whether to go on, and ends everything
 * when the time is up: what evhttp calls a timeout begins anew with every byte. */
#include "net/client.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/time.h>

enum { MAX_HEADER_BYTES = 16 << 10, TICK_MS = 50 };

/* ---- addresses ---- */

static bool is_plain(const char *text)
{
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~') {
            return false;
        }
    }
    return true;
}

static bool put_host(const char *host, rv_http_url *out)
{
    size_t n = strlen(host);
    struct in6_addr six;
    struct in_addr four;
    bool brackets = n > 2 && host[0] == '[' && host[n - 1] == ']';
    if (n == 0 || n >= sizeof out->host) {
        return false;
    }
    snprintf(out->host, sizeof out->host, "%.*s", (int)(brackets ? n - 2 : n), host + brackets);
    bool is_six = inet_pton(AF_INET6, out->host, &six) == 1;
    out->literal = is_six || inet_pton(AF_INET, out->host, &four) == 1;
    return is_six == brackets;
}

static bool read_parts(const struct evhttp_uri *uri, rv_http_url *out)
{
    const char *scheme = evhttp_uri_get_scheme(uri), *host = evhttp_uri_get_host(uri),
               *path = evhttp_uri_get_path(uri);
    int port = evhttp_uri_get_port(uri);
    size_t n = path ? strlen(path) : 0;
    bool tls = scheme && strcasecmp(scheme, "https") == 0;
    bool known = tls || (scheme && strcasecmp(scheme, "http") == 0);
    bool more = evhttp_uri_get_userinfo(uri) || evhttp_uri_get_query(uri) || evhttp_uri_get_fragment(uri);
    while (n > 0 && path[n - 1] == '/') {
        n--;
    }
    *out = (rv_http_url){ .tls = tls, .port = port == -1 ? (tls ? 443 : 80) : port };
    if (!known || more || !host || !put_host(host, out) || out->port < 1 || out->port > 65535 ||
        n >= sizeof out->path) {
        return false;
    }
    snprintf(out->path, sizeof out->path, "%.*s", (int)n, path ? path : "");
    return true;
}

rv_err rv_http_url_read(const char *text, rv_http_url *out)
{
    rv_http_url found;
    struct evhttp_uri *uri = is_plain(text) ? evhttp_uri_parse(text) : NULL;
    bool good = uri && read_parts(uri, &found);
    if (uri) {
        evhttp_uri_free(uri);
    }
    if (!good) {
        return rv_fail(RV_E_ARG, "%s: expected http://host[:port][/path] or https://...", text);
    }
    *out = found;
    return RV_OK;
}

/* ---- one call ---- */

typedef struct call {
    const rv_http_call *how;
    struct event_base *base;
    SSL_CTX *tls;
    struct evhttp_connection *conn;
    double until_ms;
    rv_text *answer;
    int status;
    rv_err e; /* with its text on this thread */
    bool ended;
    enum evhttp_request_error broke;
    bool broken; /* broke says how */
} call;

static void end(call *c, rv_err e)
{
    c->ended = true;
    c->e = e;
    event_base_loopbreak(c->base);
}

static void on_tick(evutil_socket_t fd, short what, void *self)
{
    call *c = self;
    (void)fd, (void)what;
    if (c->how->go_on && !c->how->go_on(c->how->self)) {
        end(c, rv_fail(RV_E_CANCELLED, "a request to %s was stopped", c->how->url->host));
    } else if (rv_clock_ms() >= c->until_ms) {
        end(c, rv_fail(RV_E_TIMEOUT, "%s did not answer within %.1f seconds", c->how->url->host,
                       c->how->timeout_ms / 1000));
    }
}

static void on_error(enum evhttp_request_error error, void *self)
{
    call *c = self;
    c->broke = error;
    c->broken = true;
}

static rv_err why_not(const call *c)
{
    const char *host = c->how->url->host;
    unsigned long tls = 0;
    struct bufferevent *bev = evhttp_connection_get_bufferevent(c->conn);
    if (c->how->url->tls && bev) {
        tls = bufferevent_get_openssl_error(bev);
    }
    if (c->broken && c->broke == EVREQ_HTTP_DATA_TOO_LONG) {
        return rv_fail(RV_E_TOO_LARGE, "%s answered with more than %zu bytes", host, c->how->max_bytes);
    }
    if (c->broken && c->broke == EVREQ_HTTP_INVALID_HEADER) {
        return rv_fail(RV_E_IO, "%s did not answer with HTTP", host);
    }
    if (tls) {
        const char *reason = ERR_reason_error_string(tls);
        return rv_fail(RV_E_IO, "%s: no trusted connection: %s", host, reason ? reason : "TLS failed");
    }
    return rv_fail(RV_E_IO, "%s, port %d: no connection, or it was closed before the answer was whole", host,
                   c->how->url->port);
}

static void on_answer(struct evhttp_request *request, void *self)
{
    call *c = self;
    if (c->ended) {
        return;
    }
    int status = request ? evhttp_request_get_response_code(request) : 0;
    if (c->broken || status < 100 || status > 599) { /* 0: there was no connection */
        end(c, why_not(c));
        return;
    }
    struct evbuffer *body = evhttp_request_get_input_buffer(request);
    for (size_t n; (n = evbuffer_get_contiguous_space(body)) > 0; evbuffer_drain(body, n)) {
        rv_text_add(c->answer, (const char *)evbuffer_pullup(body, (ev_ssize_t)n), n);
    }
    c->status = status;
    end(c, rv_text_check(c->answer));
}

/* The server has to prove the name, or address, that was asked for. */
static bool expect_name(SSL *ssl, const rv_http_url *url)
{
    if (url->literal) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), url->host) == 1;
    }
    return SSL_set1_host(ssl, url->host) == 1 && SSL_set_tlsext_host_name(ssl, url->host) == 1;
}

static rv_err open_tls(call *c, struct bufferevent **out)
{
    c->tls = SSL_CTX_new(TLS_client_method());
    SSL *ssl = NULL;
    if (c->tls && SSL_CTX_set_min_proto_version(c->tls, TLS1_2_VERSION) == 1 &&
        SSL_CTX_set_default_verify_paths(c->tls) == 1) {
        SSL_CTX_set_verify(c->tls, SSL_VERIFY_PEER, NULL);
        ssl = SSL_new(c->tls);
    }
    if (!ssl || !expect_name(ssl, c->how->url)) {
        SSL_free(ssl);
        return rv_fail(RV_E_IO, "%s: TLS cannot be set up", c->how->url->host);
    }
    *out =
        bufferevent_openssl_socket_new(c->base, -1, ssl, BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE);
    if (!*out) {
        SSL_free(ssl);
        return rv_fail(RV_E_NOMEM, "asking %s", c->how->url->host);
    }
    return RV_OK;
}

static bool add_headers(const call *c, struct evhttp_request *request)
{
    const rv_http_url *url = c->how->url;
    char host[300], port[16] = "", bearer[1100];
    bool six = url->literal && strchr(url->host, ':');
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    if (url->port != (url->tls ? 443 : 80)) {
        snprintf(port, sizeof port, ":%d", url->port);
    }
    snprintf(host, sizeof host, "%s%s%s%s", six ? "[" : "", url->host, six ? "]" : "", port);
    bool added = evhttp_add_header(headers, "Host", host) == 0 &&
                 evhttp_add_header(headers, "Content-Type", "application/json") == 0 &&
                 evhttp_add_header(headers, "Connection", "close") == 0;
    if (added && c->how->bearer) {
        int n = snprintf(bearer, sizeof bearer, "Bearer %s", c->how->bearer);
        added = n < (int)sizeof bearer && evhttp_add_header(headers, "Authorization", bearer) == 0;
    }
    return added;
}

static rv_err send_request(call *c)
{
    char path[1024];
    struct evhttp_request *request = evhttp_request_new(on_answer, c);
    snprintf(path, sizeof path, "%s%s", c->how->url->path, c->how->path);
    if (!request) {
        return rv_fail(RV_E_NOMEM, "asking %s", c->how->url->host);
    }
    evhttp_request_set_error_cb(request, on_error);
    if (!add_headers(c, request) ||
        evbuffer_add(evhttp_request_get_output_buffer(request), c->how->body, c->how->n) != 0) {
        evhttp_request_free(request);
        return rv_fail(RV_E_NOMEM, "asking %s", c->how->url->host);
    }
    if (evhttp_make_request(c->conn, request, EVHTTP_REQ_POST, path) != 0) { /* frees it */
        return rv_fail(RV_E_IO, "%s, port %d: no connection", c->how->url->host, c->how->url->port);
    }
    return RV_OK;
}

static rv_err run(call *c)
{
    struct bufferevent *bev = NULL;
    RV_TRY(c->how->url->tls ? open_tls(c, &bev) : RV_OK);
    c->conn = evhttp_connection_base_bufferevent_new(c->base, NULL, bev, c->how->url->host,
                                                     (unsigned short)c->how->url->port);
    struct event *tick = event_new(c->base, -1, EV_PERSIST, on_tick, c);
    rv_err e = RV_OK;
    if (!c->conn || !tick || event_add(tick, &(struct timeval){ 0, 1000 * TICK_MS }) != 0) {
        if (!c->conn && bev) {
            bufferevent_free(bev);
        }
        e = rv_fail(RV_E_NOMEM, "asking %s", c->how->url->host);
    }
    if (!e) {
        evhttp_connection_set_max_headers_size(c->conn, MAX_HEADER_BYTES);
        evhttp_connection_set_max_body_size(c->conn, (ev_ssize_t)c->how->max_bytes);
        e = send_request(c);
    }
    if (!e && !c->ended) { /* a connection that fails at once has ended already */
        event_base_dispatch(c->base);
    }
    if (!e) {
        e = c->ended ? c->e : rv_fail(RV_E_IO, "%s: the request ended without an answer", c->how->url->host);
    }
    if (tick) {
        event_free(tick);
    }
    return e;
}

rv_err rv_http_post(const rv_http_call *how, int *status, rv_text *answer)
{
    call c = { .how = how, .until_ms = rv_clock_ms() + how->timeout_ms, .answer = answer };
    signal(SIGPIPE, SIG_IGN); /* a server that left is an error of write, not the end of the program */
    c.base = event_base_new();
    rv_err e = c.base ? run(&c) : rv_fail(RV_E_NOMEM, "asking %s", how->url->host);
    char why[512];
    snprintf(why, sizeof why, "%s", rv_err_text());
    if (c.conn) {
        c.ended = true;
        evhttp_connection_free(c.conn);
    }
    if (c.base) {
        event_base_free(c.base);
    }
    SSL_CTX_free(c.tls);
    if (!e) {
        *status = c.status;
    }
    return e ? rv_err_set_text(e, why) : RV_OK;
}
