/* The server around the parser: one net thread owns every connection; an answer may be written by any thread.
 *
 * A request belongs to its connection (net thread) and to whoever was handed it, until that one ends the answer. Writers
 * only append to request->out under the lock and put the request on server->answers; the net thread moves the bytes to
 * the socket. When the client leaves, the connection goes at once, gone is set, and the request lives on without a
 * connection until its writer ends it. So nobody but the net thread frees anything, and no writer ever sees a socket. */
#include "net/http.h"
#include "base/log.h"
#include "net/http_parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BACKLOG = 512,
    INPUT_MAX = 64 << 10,   /* read ahead of the request at work */
    BEHIND_MAX = 1 << 20,   /* a stream's reader that is further behind is dropped */
    PAUSE_BYTES = 64 << 10, /* unread answers, above which a connection's next request has to wait */
    LINGER_MS = 3000, /* after the last byte: wait for the client to close, dropping what it still sends */
    ACCEPT_PAUSE_MS = 100, /* after accept failed (no file descriptors) */
};

typedef struct conn conn;

struct rv_http_server {
    const rv_alloc *mem;
    rv_http_options how;
    char *listen;
    int port, fd, wake_fd, stop_fd;
    bool loopback;
    struct event_base *base;
    struct evconnlistener *listener;
    struct event *wake, *stop, *drain, *resume;
    conn *conns;
    size_t n_conns;
    int drain_ms;
    atomic_bool draining;
    pthread_t thread; /* the net thread, while running */
    atomic_bool running;
    pthread_mutex_t lock;
    rv_http_request *answers; /* under lock: newest first, each at most once */
};

typedef enum conn_phase {
    CONN_OPEN,
    CONN_CLOSING,  /* flushing the last answer */
    CONN_LINGERING /* our side is shut; whatever comes is dropped */
} conn_phase;

struct conn {
    rv_http_server *server;
    conn *prev, *next;
    struct bufferevent *bev;
    struct event *timer;
    conn_phase phase;
    bool ended;                /* the client sends no more */
    rv_http_request *reading;  /* being parsed, or NULL */
    rv_http_request *handling; /* handed out, or NULL */
    char peer[INET6_ADDRSTRLEN + 8];
};

struct rv_http_request {
    rv_http_server *server;
    conn *conn; /* net thread only; NULL when the client left */
    rv_http_parser parser;
    char peer[INET6_ADDRSTRLEN + 8];
    atomic_bool gone;
    atomic_size_t unsent; /* bytes the socket has not taken yet, as the net thread last saw */
    bool bodyless;        /* HEAD */
    bool admitted;        /* its body is read */
    bool chunked;         /* the answer is */

    rv_text out; /* this and below under server->lock */
    bool listed, ended, overrun;
    rv_http_request *next;
};

/* ---- requests ---- */

static void request_free(rv_http_request *r)
{
    rv_text_deinit(&r->out);
    rv_http_parser_deinit(&r->parser);
    rv_free(r->server->mem, r);
}

static rv_http_request *request_new(conn *c)
{
    rv_http_server *s = c->server;
    rv_http_request *r = rv_new(s->mem, sizeof *r);
    if (!r) {
        return NULL;
    }
    r->server = s;
    r->conn = c;
    memcpy(r->peer, c->peer, sizeof r->peer);
    rv_text_init(&r->out, s->mem, SIZE_MAX / 2);
    rv_http_parser_init(&r->parser, s->mem,
                        (rv_http_limits){ RV_HTTP_LINE_MAX, s->how.max_header_bytes, s->how.max_body_bytes });
    return r;
}

const char *rv_http_method(const rv_http_request *r)
{
    return rv_http_parser_string(&r->parser, r->parser.method);
}
const char *rv_http_path(const rv_http_request *r)
{
    return rv_http_parser_string(&r->parser, r->parser.path);
}
const char *rv_http_header(const rv_http_request *r, const char *name)
{
    return rv_http_parser_field(&r->parser, name);
}
rv_str rv_http_body(const rv_http_request *r)
{
    return rv_str_of(rv_text_get(&r->parser.body), r->parser.body.n);
}
const char *rv_http_peer(const rv_http_request *r)
{
    return r->peer;
}
const atomic_bool *rv_http_gone(const rv_http_request *r)
{
    return &r->gone;
}

bool rv_http_query(const rv_http_request *r, const char *name, rv_text *out)
{
    return r->parser.query &&
           rv_http_query_get(rv_http_parser_string(&r->parser, r->parser.query), name, out);
}

bool rv_http_query_only(const rv_http_request *r, const char *const *names, size_t n)
{
    return !r->parser.query ||
           rv_http_query_known(rv_http_parser_string(&r->parser, r->parser.query), names, n);
}

/* ---- answers: any thread ---- */

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = { { 200, "OK" },
                  { 201, "Created" },
                  { 204, "No Content" },
                  { 400, "Bad Request" },
                  { 401, "Unauthorized" },
                  { 403, "Forbidden" },
                  { 404, "Not Found" },
                  { 405, "Method Not Allowed" },
                  { 408, "Request Timeout" },
                  { 409, "Conflict" },
                  { 411, "Length Required" },
                  { 413, "Content Too Large" },
                  { 414, "URI Too Long" },
                  { 415, "Unsupported Media Type" },
                  { 417, "Expectation Failed" },
                  { 421, "Misdirected Request" },
                  { 422, "Unprocessable Content" },
                  { 429, "Too Many Requests" },
                  { 431, "Request Header Fields Too Large" },
                  { 500, "Internal Server Error" },
                  { 501, "Not Implemented" },
                  { 503, "Service Unavailable" },
                  { 504, "Gateway Timeout" },
                  { 505, "HTTP Version Not Supported" } };
    for (size_t i = 0; i < RV_COUNT(texts); i++) {
        if (texts[i].status == status) {
            return texts[i].text;
        }
    }
    return "Status";
}

/* Hand what was appended to the net thread. With the lock held; returns whether the net thread has to be woken. */
static bool list_answer(rv_http_request *r)
{
    rv_http_server *s = r->server;
    bool was_empty = s->answers == NULL;
    if (!r->listed) {
        r->listed = true;
        r->next = s->answers;
        s->answers = r;
    }
    /* The net thread looks at the list itself whenever it has called a handler. */
    bool here = atomic_load(&s->running) && pthread_equal(pthread_self(), s->thread);
    return was_empty && !here;
}

static void wake(rv_http_server *s)
{
    uint64_t one = 1;
    if (write(s->wake_fd, &one, sizeof one) < 0) {
        return; /* EAGAIN: the counter is full of wake-ups already */
    }
}

static void add_date(rv_text *out)
{
    static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t now = time(NULL);
    struct tm t;
    gmtime_r(&now, &t); /* not strftime: that one asks the locale */
    rv_text_addf(out, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[t.tm_wday], t.tm_mday,
                 months[t.tm_mon], 1900 + t.tm_year, t.tm_hour, t.tm_min, t.tm_sec);
}

static void add_head(rv_http_request *r, int status, const char *content_type)
{
    if (atomic_load(&r->server->draining)) {
        r->parser.keep_alive = false;
    }
    rv_text_addf(&r->out, "HTTP/1.1 %d %s\r\n", status, status_text(status));
    add_date(&r->out);
    if (content_type) {
        rv_text_addf(&r->out, "Content-Type: %s\r\n", content_type);
    }
    rv_text_adds(&r->out, "X-Content-Type-Options: nosniff\r\n");
    if (!r->parser.keep_alive) {
        rv_text_adds(&r->out, "Connection: close\r\n");
    }
}

void rv_http_answer(rv_http_request *r, int status, const char *content_type, const char *extra_headers,
                    const char *body, size_t n)
{
    rv_http_server *s = r->server;
    pthread_mutex_lock(&s->lock);
    add_head(r, status, content_type);
    if (status != 204) { /* RFC 9110 section 8.6: 204 has no length */
        rv_text_addf(&r->out, "Content-Length: %zu\r\n", n);
    }
    rv_text_adds(&r->out, extra_headers ? extra_headers : "");
    rv_text_adds(&r->out, "\r\n");
    if (!r->bodyless && status != 204) {
        rv_text_add(&r->out, body, n);
    }
    r->ended = true;
    bool asleep = list_answer(r);
    pthread_mutex_unlock(&s->lock);
    if (asleep) {
        wake(s);
    }
}

bool rv_http_begin(rv_http_request *r, int status, const char *content_type)
{
    rv_http_server *s = r->server;
    pthread_mutex_lock(&s->lock);
    r->chunked = !r->parser.http10; /* an HTTP/1.0 client reads until the connection closes */
    add_head(r, status, content_type);
    rv_text_adds(&r->out, "Cache-Control: no-cache\r\n");
    rv_text_adds(&r->out, r->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
    bool asleep = list_answer(r);
    pthread_mutex_unlock(&s->lock);
    if (asleep) {
        wake(s);
    }
    return !atomic_load(&r->gone);
}

bool rv_http_write(rv_http_request *r, const char *bytes, size_t n)
{
    rv_http_server *s = r->server;
    if (atomic_load(&r->gone)) {
        return false;
    }
    if (n == 0 || r->bodyless) {
        return true;
    }
    pthread_mutex_lock(&s->lock);
    bool behind = r->out.n + atomic_load(&r->unsent) > BEHIND_MAX;
    if (behind) {
        r->overrun = true;
        atomic_store(&r->gone, true);
    } else {
        if (r->chunked) {
            rv_text_addf(&r->out, "%zx\r\n", n);
        }
        rv_text_add(&r->out, bytes, n);
        rv_text_adds(&r->out, r->chunked ? "\r\n" : "");
    }
    bool asleep = list_answer(r);
    pthread_mutex_unlock(&s->lock);
    if (asleep) {
        wake(s);
    }
    return !behind;
}

void rv_http_end(rv_http_request *r)
{
    rv_http_server *s = r->server;
    pthread_mutex_lock(&s->lock);
    if (r->chunked && !r->bodyless) {
        rv_text_adds(&r->out, "0\r\n\r\n");
    }
    r->ended = true;
    bool asleep = list_answer(r);
    pthread_mutex_unlock(&s->lock);
    if (asleep) {
        wake(s);
    }
}

/* ---- connections: net thread ---- */

static void conn_read(conn *c);

static void conn_set_timer(conn *c, int ms)
{
    struct timeval wait = { ms / 1000, ms % 1000 * 1000 };
    evtimer_add(c->timer, &wait);
}

static void conn_free(conn *c)
{
    rv_http_server *s = c->server;
    if (c->handling) {
        c->handling->conn = NULL;
        atomic_store(&c->handling->gone, true);
    }
    if (c->reading) {
        request_free(c->reading);
    }
    if (c->bev) {
        bufferevent_free(c->bev);
    }
    if (c->timer) {
        event_free(c->timer);
    }
    *(c->prev ? &c->prev->next : &s->conns) = c->next;
    if (c->next) {
        c->next->prev = c->prev;
    }
    s->n_conns--;
    rv_free(s->mem, c);
    if (s->draining && s->n_conns == 0) {
        event_base_loopbreak(s->base);
    }
}

static bool conn_unsent(const conn *c)
{
    return evbuffer_get_length(bufferevent_get_output(c->bev)) > 0;
}

/* The last answer is out: close our side and let the client close its own. Closing with unread bytes in the buffer would
 * reset the connection and could take the answer with it. */
static void conn_linger(conn *c)
{
    c->phase = CONN_LINGERING;
    if (c->ended) { /* it already has */
        conn_free(c);
        return;
    }
    shutdown(bufferevent_getfd(c->bev), SHUT_WR);
    struct evbuffer *in = bufferevent_get_input(c->bev);
    evbuffer_drain(in, evbuffer_get_length(in));
    conn_set_timer(c, LINGER_MS);
}

static void conn_close(conn *c)
{
    c->phase = CONN_CLOSING;
    if (!conn_unsent(c)) {
        conn_linger(c);
    }
}

/* Bytes of one answer to its connection. */
static void conn_answer(conn *c, rv_http_request *r, const rv_text *out, bool ended, bool overrun)
{
    struct evbuffer *to = bufferevent_get_output(c->bev);
    if (out->failed || overrun || evbuffer_add(to, rv_text_get(out), out->n) != 0) {
        rv_log(RV_LOG_WARN, "http.dropped", "peer", c->peer, "why",
               overrun ? "reads too slowly" : "no memory for the answer", (char *)NULL);
        conn_free(c);
        return;
    }
    atomic_store(&r->unsent, evbuffer_get_length(to));
    if (!ended) {
        return;
    }
    c->handling = NULL;
    r->conn = NULL;
    if (!r->parser.keep_alive || c->ended || c->server->draining) {
        conn_close(c);
        return;
    }
    conn_set_timer(c, c->server->how.request_timeout_ms);
    conn_read(c);
}

static void take_answers(rv_http_server *s)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        rv_http_request *r = s->answers;
        if (!r) {
            pthread_mutex_unlock(&s->lock);
            return;
        }
        s->answers = r->next;
        r->listed = false;
        rv_text out = r->out;
        rv_text_init(&r->out, s->mem, SIZE_MAX / 2);
        bool ended = r->ended, overrun = r->overrun;
        /* Counted as unsent while it changes hands, so that the writer never sees less than there is. */
        atomic_fetch_add(&r->unsent, out.n);
        pthread_mutex_unlock(&s->lock);

        if (r->conn) {
            conn_answer(r->conn, r, &out, ended, overrun);
        }
        rv_text_deinit(&out);
        if (ended) {
            request_free(r);
        }
    }
}

/* ---- reading ---- */

static void refuse(conn *c, int status, const char *why)
{
    rv_http_request *r = c->reading;
    c->reading = NULL;
    c->handling = r;
    evtimer_del(c->timer);
    r->parser.keep_alive = false;
    rv_log(RV_LOG_DEBUG, "http.refused", "peer", c->peer, "why", why, (char *)NULL);
    /* The same shape as every other error of this server; why is one of the parser's own sentences. */
    char body[256];
    int n = snprintf(body, sizeof body,
                     "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":null}}", why,
                     status >= 500 ? "server_error" : "invalid_request_error");
    rv_http_answer(r, status, "application/json", NULL, body, (size_t)n);
}

/* A page on the internet can have its name point at 127.0.0.1 and then reach us from the user's browser as "same origin".
 * So behind a loopback address only names that are ours by definition are answered. */
static bool host_is_ours(const rv_http_server *s, const char *host)
{
    if (!s->loopback) {
        return true;
    }
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    char name[64];
    if (n >= sizeof name || n > strlen(host)) {
        return false;
    }
    memcpy(name, host, n);
    name[n] = 0;
    struct in_addr v4;
    return strcasecmp(name, "localhost") == 0 || strcasecmp(name, s->listen) == 0 ||
           strcmp(name, "[::1]") == 0 ||
           (inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

static bool is_ours(const rv_http_request *r)
{
    return !r->parser.host || host_is_ours(r->server, rv_http_parser_string(&r->parser, r->parser.host));
}

/* The headers are in: is the body wanted? */
static bool admit(rv_http_request *r)
{
    const rv_http_options *how = &r->server->how;
    r->admitted = is_ours(r) && (!how->admit || how->admit(how->self, r));
    return r->admitted;
}

static void hand_out(conn *c)
{
    rv_http_request *r = c->reading;
    r->bodyless = strcmp(rv_http_method(r), "HEAD") == 0;
    if (!is_ours(r)) {
        refuse(c, 421, "this server answers to localhost only; set [server] listen to use another name");
        return;
    }
    c->reading = NULL;
    c->handling = r;
    evtimer_del(c->timer);
    c->server->how.handle(c->server->how.self, r);
}

/* One piece of input to the parser. False when there is nothing to go on with. */
static bool conn_step(conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    struct evbuffer_iovec piece;
    if (evbuffer_peek(in, -1, NULL, &piece, 1) < 1 || piece.iov_len == 0) {
        return false;
    }
    if (!c->reading) {
        c->reading = request_new(c);
        if (!c->reading) {
            conn_free(c);
            return false;
        }
        conn_set_timer(c, c->server->how.request_timeout_ms);
    }
    rv_http_parser *p = &c->reading->parser;
    size_t used = 0;
    rv_http_state state = rv_http_parse(p, piece.iov_base, piece.iov_len, &used);
    evbuffer_drain(in, used);
    if (state == RV_HTTP_REFUSED) {
        refuse(c, p->status, p->why);
    } else if (state == RV_HTTP_COMPLETE) {
        hand_out(c);
    } else if (p->phase > RV_HTTP_AT_FIELDS && !c->reading->admitted && !admit(c->reading)) {
        p->keep_alive = false; /* the rest of the body is dropped */
        hand_out(c);
    } else if (p->wants_continue && (p->phase == RV_HTTP_AT_BODY || p->phase == RV_HTTP_AT_CHUNK_SIZE)) {
        p->wants_continue = false;
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        bufferevent_write(c->bev, go_on, sizeof go_on - 1);
    }
    return c->reading != NULL || state == RV_HTTP_COMPLETE;
}

static void conn_read(conn *c)
{
    while (c->phase == CONN_OPEN && !c->handling &&
           evbuffer_get_length(bufferevent_get_output(c->bev)) <= PAUSE_BYTES && conn_step(c)) {
    }
}

static void on_readable(struct bufferevent *bev, void *self)
{
    conn *c = self;
    rv_http_server *s = c->server;
    if (c->phase != CONN_OPEN) {
        struct evbuffer *in = bufferevent_get_input(bev);
        evbuffer_drain(in, evbuffer_get_length(in));
        return;
    }
    conn_read(c);
    take_answers(s);
}

static void on_written(struct bufferevent *bev, void *self)
{
    (void)bev;
    conn *c = self;
    rv_http_server *s = c->server;
    if (c->phase == CONN_CLOSING) {
        conn_linger(c);
    } else {
        conn_read(c); /* it may have paused until the output was gone */
        take_answers(s);
    }
}

static void on_output(struct evbuffer *out, const struct evbuffer_cb_info *info, void *self)
{
    (void)info;
    conn *c = self;
    if (c->handling) {
        atomic_store(&c->handling->unsent, evbuffer_get_length(out));
    }
}

/* End of input, a reset, or a reader that takes nothing. A client that ends its side while its answer is being made is
 * taken to have left (TCP cannot tell it from one that will still read), so gone is set; what is answered nevertheless is
 * still sent. */
static void on_event(struct bufferevent *bev, short what, void *self)
{
    conn *c = self;
    if (!(what & BEV_EVENT_EOF) || c->phase == CONN_LINGERING || (!c->handling && !conn_unsent(c))) {
        conn_free(c);
        return;
    }
    bufferevent_disable(bev, EV_READ);
    c->ended = true;
    if (c->handling) {
        atomic_store(&c->handling->gone, true);
    } else {
        conn_close(c);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *self)
{
    (void)fd, (void)what;
    conn *c = self;
    rv_http_server *s = c->server;
    if (c->phase == CONN_OPEN && c->reading) {
        refuse(c, 408, "the request did not arrive in time");
        take_answers(s);
    } else if (c->phase == CONN_OPEN && conn_unsent(c)) {
        conn_set_timer(
            c, s->how.request_timeout_ms); /* still reading its answer; if it is not, on_event says so */
    } else {
        conn_free(c);
    }
}

/* ---- accepting ---- */

static void name_peer(const struct sockaddr *address, char out[INET6_ADDRSTRLEN + 8])
{
    char host[INET6_ADDRSTRLEN] = "?";
    int port = 0;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        port = ntohs(v4->sin_port);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        port = ntohs(v6->sin6_port);
    }
    snprintf(out, INET6_ADDRSTRLEN + 8, "%s:%d", host, port);
}

static conn *conn_new(rv_http_server *s, evutil_socket_t fd, const struct sockaddr *address)
{
    conn *c = rv_new(s->mem, sizeof *c);
    if (!c) {
        close(fd);
        return NULL;
    }
    c->server = s;
    c->next = s->conns;
    if (c->next) {
        c->next->prev = c;
    }
    s->conns = c;
    s->n_conns++;
    name_peer(address, c->peer);
    c->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
    c->timer = event_new(s->base, -1, 0, on_timer, c);
    if (!c->bev || !c->timer || !evbuffer_add_cb(bufferevent_get_output(c->bev), on_output, c)) {
        if (!c->bev) {
            close(fd);
        }
        conn_free(c);
        return NULL;
    }
    return c;
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int n,
                      void *self)
{
    (void)listener, (void)n;
    rv_http_server *s = self;
    if (s->n_conns >= s->how.max_connections) {
        static const char full[] =
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
            "Connection: close\r\n\r\n"
            "{\"error\":{\"message\":\"too many "
            "connections\",\"type\":\"server_error\",\"param\":null,\"code\":"
            "\"overloaded\"}}";
        (void)!send(fd, full, sizeof full - 1,
                    MSG_DONTWAIT | MSG_NOSIGNAL); /* a courtesy: it may not arrive */
        close(fd);
        return;
    }
    conn *c = conn_new(s, fd, address);
    if (!c) {
        return;
    }
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* tokens are small and wanted now */
    bufferevent_setcb(c->bev, on_readable, on_written, on_event, c);
    bufferevent_setwatermark(c->bev, EV_READ, 0, INPUT_MAX);
    struct timeval stalled = { s->how.request_timeout_ms / 1000, s->how.request_timeout_ms % 1000 * 1000 };
    bufferevent_set_timeouts(c->bev, NULL, &stalled); /* a reader that takes nothing for so long is dropped */
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    conn_set_timer(c, s->how.request_timeout_ms);
}

static void on_accept_failed(struct evconnlistener *listener, void *self)
{
    rv_http_server *s = self;
    char why[128];
    rv_log(RV_LOG_WARN, "http.accept_failed", "why", strerror_r(errno, why, sizeof why), (char *)NULL);
    evconnlistener_disable(listener); /* it would fail again at once, for ever */
    struct timeval pause = { 0, ACCEPT_PAUSE_MS * 1000 };
    evtimer_add(s->resume, &pause);
}

static void on_resume(evutil_socket_t fd, short what, void *self)
{
    (void)fd, (void)what;
    rv_http_server *s = self;
    if (s->listener) {
        evconnlistener_enable(s->listener);
    }
}

/* ---- running and stopping ---- */

static void on_wake(evutil_socket_t fd, short what, void *self)
{
    (void)what;
    uint64_t n;
    while (read(fd, &n, sizeof n) > 0) {
    }
    take_answers(self);
}

static void on_stop(evutil_socket_t fd, short what, void *self)
{
    (void)what;
    rv_http_server *s = self;
    uint64_t times = 0;
    (void)!read(fd, &times, sizeof times); /* it is readable: we were called for that */
    if (s->draining || times > 1 || s->n_conns == 0) {
        atomic_store(&s->draining, true);
        event_base_loopbreak(s->base);
        return;
    }
    atomic_store(&s->draining, true);
    evconnlistener_free(s->listener);
    s->listener = NULL;
    struct timeval wait = { s->drain_ms / 1000, s->drain_ms % 1000 * 1000 };
    evtimer_add(s->drain, &wait);
    for (conn *c = s->conns, *next; c; c = next) {
        next = c->next;
        if (!c->handling && c->phase == CONN_OPEN) { /* idle, or half a request: not a running answer */
            if (conn_unsent(c)) {
                conn_close(c);
            } else {
                conn_free(c);
            }
        }
    }
}

static void on_drained(evutil_socket_t fd, short what, void *self)
{
    (void)fd, (void)what;
    event_base_loopbreak(((rv_http_server *)self)->base);
}

void rv_http_stop(rv_http_server *server)
{
    int kept = errno; /* called from signal handlers */
    uint64_t one = 1;
    (void)!write(server->stop_fd, &one, sizeof one); /* fails only when it was stopped 2^64 - 1 times */
    errno = kept;
}

rv_err rv_http_run(rv_http_server *s, int drain_ms)
{
    s->drain_ms = drain_ms;
    s->thread = pthread_self();
    atomic_store(&s->running, true);
    int ended = event_base_dispatch(s->base);
    take_answers(s);
    while (s->conns) {
        conn_free(s->conns);
    }
    atomic_store(&s->running, false);
    return ended < 0 ? rv_fail(RV_E_IO, "the event loop failed: %s", strerror(errno)) : RV_OK;
}

/* Numeric addresses, names of this machine, "localhost"; the first address a name has. */
static rv_err bind_to(rv_http_server *s)
{
    char port[16];
    snprintf(port, sizeof port, "%d", s->how.port);
    struct addrinfo want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV },
                    *found = NULL;
    int e = getaddrinfo(s->listen, port, &want, &found);
    if (e != 0) {
        return rv_fail(RV_E_ARG, "%s: not an address to listen on (%s)", s->listen, gai_strerror(e));
    }
    int yes = 1;
    s->fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool bound = s->fd >= 0 && setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                 bind(s->fd, found->ai_addr, found->ai_addrlen) == 0 && listen(s->fd, BACKLOG) == 0;
    int why = errno;
    freeaddrinfo(found);
    if (!bound && why == EADDRINUSE) {
        return rv_fail(RV_E_BUSY,
                       "port %d on %s is in use by another program; stop it or choose another port (--port)",
                       s->how.port, s->listen);
    }
    if (!bound) {
        return rv_fail(why == EADDRNOTAVAIL ? RV_E_ARG : RV_E_IO, "cannot listen on %s port %d: %s",
                       s->listen, s->how.port, strerror(why));
    }
    struct sockaddr_storage address;
    socklen_t n = sizeof address;
    if (getsockname(s->fd, (struct sockaddr *)&address, &n) != 0) {
        return rv_fail(RV_E_IO, "cannot read the port of %s: %s", s->listen, strerror(errno));
    }
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&address;
        s->port = ntohs(v6->sin6_port);
        s->loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&address;
        s->port = ntohs(v4->sin_port);
        s->loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    return RV_OK;
}

static rv_err make_events(rv_http_server *s)
{
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->wake_fd < 0 || s->stop_fd < 0) {
        return rv_fail(RV_E_IO, "eventfd: %s", strerror(errno));
    }
    s->base = event_base_new();
    if (!s->base) {
        return rv_fail(RV_E_NOMEM, "starting the event loop");
    }
    s->wake = event_new(s->base, s->wake_fd, EV_READ | EV_PERSIST, on_wake, s);
    s->stop = event_new(s->base, s->stop_fd, EV_READ | EV_PERSIST, on_stop, s);
    s->drain = evtimer_new(s->base, on_drained, s);
    s->resume = evtimer_new(s->base, on_resume, s);
    s->listener =
        evconnlistener_new(s->base, on_accept, s, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, s->fd);
    if (s->listener) {
        s->fd = -1; /* the listener's now */
        evconnlistener_set_error_cb(s->listener, on_accept_failed);
    }
    if (!s->wake || !s->stop || !s->drain || !s->resume || !s->listener || event_add(s->wake, NULL) != 0 ||
        event_add(s->stop, NULL) != 0) {
        return rv_fail(RV_E_NOMEM, "starting the event loop");
    }
    return RV_OK;
}

rv_err rv_http_listen(const rv_alloc *mem, const rv_http_options *how, rv_http_server **out)
{
    rv_http_server *s = rv_new(mem, sizeof *s);
    if (!s) {
        return rv_fail(RV_E_NOMEM, "starting the server");
    }
    s->mem = mem;
    s->how = *how;
    s->fd = s->wake_fd = s->stop_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    s->listen = rv_strdup(mem, how->listen);
    rv_err e = s->listen ? bind_to(s) : rv_fail(RV_E_NOMEM, "starting the server");
    if (!e) {
        e = make_events(s);
    }
    if (e) {
        rv_http_free(s);
        return e;
    }
    signal(SIGPIPE, SIG_IGN); /* a client that left is an error of write, not the end of the program */
    *out = s;
    return RV_OK;
}

int rv_http_port(const rv_http_server *server)
{
    return server->port;
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

void rv_http_free(rv_http_server *s)
{
    if (!s) {
        return;
    }
    take_answers(s); /* those that were ended after the loop was */
    struct event *events[] = { s->wake, s->stop, s->drain, s->resume };
    for (size_t i = 0; i < RV_COUNT(events); i++) {
        if (events[i]) {
            event_free(events[i]);
        }
    }
    if (s->listener) {
        evconnlistener_free(s->listener);
    }
    if (s->base) {
        event_base_free(s->base);
    }
    close_fd(s->fd);
    close_fd(s->wake_fd);
    close_fd(s->stop_fd);
    rv_free(s->mem, s->listen);
    pthread_mutex_destroy(&s->lock);
    rv_free(s->mem, s);
}
