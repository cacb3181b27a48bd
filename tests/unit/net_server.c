/* The server on real sockets: answers from other threads, streams, clients that leave, limits, and stopping. */
#include "http_client.h"
#include "net/http.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct site {
    rv_http_server *server;
    pthread_t thread;
    int port, drain_ms;
    rv_err ended;
    atomic_int running, saw_gone, refused_writes;
    atomic_bool release; /* what /wait waits for */
} site;

typedef struct job {
    site *at;
    rv_http_request *request;
} job;

/* Three pieces, or pieces until nobody reads them. */
static void *stream(void *self)
{
    job *j = self;
    bool endless = strcmp(rv_http_path(j->request), "/endless") == 0;
    static char piece[4096];
    memset(piece, 'x', sizeof piece);
    rv_http_begin(j->request, 200, "text/plain");
    for (int i = 0; endless || i < 3; i++) {
        if (!rv_http_write(j->request, endless ? piece : "abc", endless ? sizeof piece : 3)) {
            atomic_fetch_add(&j->at->refused_writes, 1);
            break;
        }
    }
    rv_http_end(j->request);
    atomic_fetch_sub(&j->at->running, 1);
    free(j);
    return NULL;
}

static void *wait_for_release(void *self)
{
    job *j = self;
    const atomic_bool *gone = rv_http_gone(j->request);
    while (!atomic_load(&j->at->release) && !atomic_load(gone)) {
        nap(1);
    }
    atomic_fetch_add(&j->at->saw_gone, atomic_load(gone) ? 1 : 0);
    rv_http_answer(j->request, 200, "text/plain", NULL, "late", 4);
    atomic_fetch_sub(&j->at->running, 1);
    free(j);
    return NULL;
}

static void start(site *s, rv_http_request *r, void *(*run)(void *))
{
    job *j = malloc(sizeof *j);
    *j = (job){ s, r };
    atomic_fetch_add(&s->running, 1);
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, j) != 0) {
        abort();
    }
    pthread_detach(thread);
}

static void handle(void *self, rv_http_request *r)
{
    site *s = self;
    const char *path = rv_http_path(r);
    if (strcmp(path, "/stream") == 0 || strcmp(path, "/endless") == 0) {
        start(s, r, stream);
    } else if (strcmp(path, "/wait") == 0) {
        start(s, r, wait_for_release);
    } else {
        rv_str body = rv_http_body(r);
        rv_http_answer(r, 200, "text/plain", "X-Here: 1\r\n", body.n ? body.at : path,
                       body.n ? body.n : strlen(path));
    }
}

static bool admit(void *self, const rv_http_request *r)
{
    (void)self;
    return !rv_http_header(r, "X-Stranger");
}

static void *serve(void *self)
{
    site *s = self;
    s->ended = rv_http_run(s->server, s->drain_ms);
    return NULL;
}

static void open_site(site *s, size_t max_connections, int timeout_ms)
{
    *s = (site){ .drain_ms = WAIT_MS };
    rv_http_options how = { .listen = "127.0.0.1",
                            .max_connections = max_connections,
                            .max_body_bytes = 1 << 20,
                            .max_header_bytes = 65536,
                            .request_timeout_ms = timeout_ms,
                            .admit = admit,
                            .handle = handle,
                            .self = s };
    CHECK_OK(rv_http_listen(&rv_heap, &how, &s->server));
    s->port = rv_http_port(s->server);
    CHECK(pthread_create(&s->thread, NULL, serve, s) == 0, "thread");
}

/* The net thread has ended; the threads that answer do too, and only then may the site go. */
static void forget_site(site *s)
{
    pthread_join(s->thread, NULL);
    for (int ms = 0; atomic_load(&s->running) > 0 && ms < WAIT_MS; ms++) {
        nap(1);
    }
    CHECK(s->ended == RV_OK && atomic_load(&s->running) == 0, "%s", rv_err_name(s->ended));
    rv_http_free(s->server);
}

static void close_site(site *s)
{
    atomic_store(&s->release, true);
    rv_http_stop(s->server);
    forget_site(s);
}

TEST(requests_on_one_connection_are_answered_in_order)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    int fd = dial(s.port);
    say(fd, GET("/1") GET("/stream")
                GET("/3") "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nfour"
                          "HEAD /5 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" GET("/6"));
    const char *all = hear(fd, NULL);
    CHECK(occurrences(all, "HTTP/1.1 200 OK\r\n") == 5, "%s", all);
    const char *one = strstr(all, "\r\n\r\n/1HTTP"),
               *two = strstr(all, "3\r\nabc\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\nHTTP"),
               *three = strstr(all, "\r\n\r\n/3HTTP"), *four = strstr(all, "\r\n\r\nfourHTTP");
    CHECK(one && two > one && three > two && four > three, "%s", all);
    size_t n = strlen(all);
    CHECK(strcmp(all + n - 4, "\r\n\r\n") == 0 && strstr(four, "Content-Length: 2\r\n"), "HEAD: %s", four);
    expect(four, "Connection: close\r\n");
    close(fd);
    close_site(&s);
}

TEST(http_1_0_is_answered_without_chunks_and_closed)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    int fd = dial(s.port);
    say(fd, "GET /stream HTTP/1.0\r\n\r\n");
    expect(hear(fd, NULL), "\r\n\r\nabcabcabc");
    close(fd);
    close_site(&s);
}

TEST(a_body_that_is_waited_for_is_asked_for)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    int fd = dial(s.port);
    say(fd, "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    expect(hear(fd, "\r\n\r\n"), "HTTP/1.1 100 Continue");
    say(fd, "ok");
    expect(hear(fd, "ok"), "HTTP/1.1 200 OK");
    close(fd);
    close_site(&s);
}

TEST(a_body_that_is_not_admitted_is_not_waited_for)
{
    static const char *const lengths[] = { "Content-Length: 1000000", "Transfer-Encoding: chunked",
                                           "Content-Length: 9\r\nExpect: 100-continue" };
    static const char *const begun[] = { "first", "5\r\nfirst", "" };
    site s;
    open_site(&s, 10, WAIT_MS);
    for (size_t i = 0; i < RV_COUNT(lengths); i++) {
        char request[300];
        int fd = dial(s.port);
        snprintf(request, sizeof request,
                 "POST /x HTTP/1.1\r\nHost: localhost\r\nX-Stranger: 1\r\n%s\r\n\r\n%s", lengths[i],
                 begun[i]);
        say(fd, request);
        const char *all = hear(fd, NULL);
        CHECK(strncmp(all, "HTTP/1.1 200 ", 13) == 0 && occurrences(all, "HTTP/1.1") == 1, "%zu: %s", i, all);
        expect(all, "Connection: close\r\n");
        close(fd);
        snprintf(request, sizeof request, "POST /x HTTP/1.1\r\nHost: evil.example\r\n%s\r\n\r\n%s",
                 lengths[i], begun[i]);
        fd = dial(s.port);
        say(fd, request);
        all = hear(fd, NULL);
        CHECK(strncmp(all, "HTTP/1.1 421 ", 13) == 0, "%zu: %s", i, all);
        close(fd);
    }
    close_site(&s);
}

TEST(a_client_that_leaves_is_noticed_while_its_answer_is_made)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    int fd = dial(s.port);
    say(fd, GET("/wait"));
    while (atomic_load(&s.running) == 0) {
        nap(1);
    }
    close(fd);
    for (int ms = 0; atomic_load(&s.running) > 0 && ms < WAIT_MS; ms++) {
        nap(1);
    }
    CHECK(atomic_load(&s.saw_gone) == 1, "not noticed");
    close_site(&s);
}

TEST(a_client_that_only_ends_its_side_still_gets_an_answer)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    int fd = dial(s.port);
    say(fd, GET("/half"));
    shutdown(fd, SHUT_WR);
    expect(hear(fd, NULL), "/half");
    close(fd);
    close_site(&s);
}

TEST(a_reader_that_is_a_mebibyte_behind_is_dropped)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    int fd = dial(s.port);
    say(fd, GET("/endless"));
    for (int ms = 0; atomic_load(&s.refused_writes) == 0 && ms < WAIT_MS; ms++) {
        nap(1);
    }
    CHECK(atomic_load(&s.refused_writes) == 1, "the stream went on");
    close(fd);
    close_site(&s);
}

TEST(names_that_are_not_of_this_machine_are_refused_on_loopback)
{
    static const struct {
        const char *host;
        bool ours;
    } hosts[] = { { "localhost", true },       { "LOCALHOST:1", true },
                  { "127.0.0.1:8080", true },  { "127.9.9.9", true },
                  { "[::1]:80", true },        { "evil.example", false },
                  { "localhost.evil", false }, { "127.0.0.1.x", false },
                  { "[::2]", false },          { "[::1", false } };
    site s;
    open_site(&s, 10, WAIT_MS);
    for (size_t i = 0; i < RV_COUNT(hosts); i++) {
        char request[200];
        snprintf(request, sizeof request, "GET /x HTTP/1.1\r\nConnection: close\r\nHost: %s\r\n\r\n",
                 hosts[i].host);
        int fd = dial(s.port);
        say(fd, request);
        const char *all = hear(fd, NULL);
        CHECK(strncmp(all, hosts[i].ours ? "HTTP/1.1 200" : "HTTP/1.1 421", 12) == 0, "%s: %s", hosts[i].host,
              all);
        close(fd);
    }
    close_site(&s);
}

TEST(an_answer_to_head_has_no_body_also_where_the_name_is_refused)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    int fd = dial(s.port);
    say(fd, "HEAD /x HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    const char *all = hear(fd, NULL), *end = strstr(all, "\r\n\r\n");
    CHECK(strncmp(all, "HTTP/1.1 421", 12) == 0 && end && end[4] == 0, "%s", all);
    close(fd);
    close_site(&s);
}

TEST(slow_requests_and_silent_connections_are_cut_off)
{
    site s;
    open_site(&s, 10, 200);
    int slow = dial(s.port), silent = dial(s.port), kept = dial(s.port);
    say(slow, "GET / HTTP/1.1\r\n");
    say(kept, GET("/x"));
    expect(hear(slow, NULL), "HTTP/1.1 408 ");
    CHECK(hear(silent, NULL)[0] == 0, "a silent connection got an answer");
    expect(hear(kept, NULL), "/x"); /* and was closed after it was idle */
    close(slow);
    close(silent);
    close(kept);
    close_site(&s);
}

TEST(a_connection_too_many_is_told_so_at_once)
{
    site s;
    open_site(&s, 2, WAIT_MS);
    int a = dial(s.port), b = dial(s.port);
    say(a, GET("/a"));
    expect(hear(a, "/a"), "200");
    say(b, GET("/b"));
    expect(hear(b, "/b"), "200");
    int c = dial(s.port);
    const char *all = hear(c, NULL);
    expect(all, "HTTP/1.1 503 ");
    expect(all, "Retry-After: 1\r\n");
    close(a);
    close(b);
    close(c);
    close_site(&s);
}

TEST(stopping_lets_running_answers_finish)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    int fd = dial(s.port), idle = dial(s.port);
    say(fd, GET("/wait"));
    while (atomic_load(&s.running) == 0) {
        nap(1);
    }
    rv_http_stop(s.server);
    CHECK(hear(idle, NULL)[0] == 0, "the idle connection got an answer");
    atomic_store(&s.release, true);
    const char *all = hear(fd, NULL);
    expect(all, "late");
    expect(all, "Connection: close\r\n");
    close(fd);
    close(idle);
    forget_site(&s);
}

TEST(stopping_twice_ends_at_once_and_cancels_what_runs)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    int fd = dial(s.port);
    say(fd, GET("/wait"));
    while (atomic_load(&s.running) == 0) {
        nap(1);
    }
    rv_http_stop(s.server);
    nap(20);
    rv_http_stop(s.server);
    forget_site(&s);
    CHECK(atomic_load(&s.saw_gone) == 1, "it was not cancelled");
    close(fd);
}

TEST(a_port_in_use_and_a_wrong_address_are_named)
{
    site s;
    open_site(&s, 10, WAIT_MS);
    rv_http_server *other = NULL;
    rv_http_options how = { .listen = "127.0.0.1", .port = s.port, .max_connections = 1, .handle = handle };
    CHECK_ERR(rv_http_listen(&rv_heap, &how, &other), RV_E_BUSY);
    char port[16];
    snprintf(port, sizeof port, "%d", s.port);
    expect(rv_err_text(), port);
    how.listen = "no.such.host.invalid";
    CHECK_ERR(rv_http_listen(&rv_heap, &how, &other), RV_E_ARG);
    expect(rv_err_text(), "no.such.host.invalid");
    close_site(&s);
}

TEST(a_hundred_clients_at_once_all_get_their_own_answer)
{
    enum { CLIENTS = 120 };
    site s;
    open_site(&s, CLIENTS, WAIT_MS);
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = dial(s.port);
        say(fds[i], i % 2 ? GET("/stream") : GET("/plain"));
    }
    for (int i = 0; i < CLIENTS; i++) {
        expect(hear(fds[i], i % 2 ? "0\r\n\r\n" : "/plain"), "HTTP/1.1 200 OK");
        close(fds[i]);
    }
    close_site(&s);
}
