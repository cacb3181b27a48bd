/* A judge that is somewhere else: what is sent to it, what its answers are worth, and what a server that lies, hangs or floods can do: nothing. */
#include "app/app.h"
#include "app/judge.h"
#include "app/learning.h"
#include "base/file.h"
#include "test.h"

#include <arpa/inet.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A server that takes one connection after the other, reads a request and says what it was told to. */
typedef enum what_then { CLOSES, WAITS, DRIPS, FLOODS } what_then;
typedef struct judge_server {
    int fd, port;
    const char *says; /* bytes */
    what_then then;
    pthread_t thread;
    char heard[1 << 16]; /* the last request */
    int calls;
} judge_server;

/* Until the headers and as much as they say have come, or the client leaves. */
static void read_request(judge_server *s, int fd)
{
    size_t n = 0, all = SIZE_MAX;
    while (n < sizeof s->heard - 1 && n < all) {
        ssize_t got = read(fd, s->heard + n, sizeof s->heard - 1 - n);
        if (got <= 0) {
            break;
        }
        n += (size_t)got;
        s->heard[n] = 0;
        const char *end = strstr(s->heard, "\r\n\r\n"), *length = strstr(s->heard, "Content-Length: ");
        if (end && length) {
            all = (size_t)(end + 4 - s->heard) + strtoul(length + 16, NULL, 10);
        }
    }
}

static bool has_left(int fd, int ms)
{
    char byte;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, ms) == 1 && read(fd, &byte, 1) <= 0;
}

static void answer(judge_server *s, int fd)
{
    char flood[1024];
    memset(flood, 'x', sizeof flood);
    bool sent = send(fd, s->says, strlen(s->says), MSG_NOSIGNAL) >= 0;
    while (sent && s->then == FLOODS) {
        sent = send(fd, flood, sizeof flood, MSG_NOSIGNAL) > 0;
    }
    while (sent && (s->then == WAITS || s->then == DRIPS) && !has_left(fd, 20)) {
        sent = s->then == WAITS || send(fd, "x", 1, MSG_NOSIGNAL) > 0;
    }
}

static void *serve(void *self)
{
    judge_server *s = self;
    for (int fd; (fd = accept(s->fd, NULL, NULL)) >= 0;) {
        s->calls++;
        read_request(s, fd);
        answer(s, fd);
        close(fd);
    }
    return NULL;
}

static judge_server *server_new(const char *says, what_then then)
{
    static judge_server server;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof at;
    server = (judge_server){ .fd = socket(AF_INET, SOCK_STREAM, 0), .says = says, .then = then };
    CHECK(bind(server.fd, (struct sockaddr *)&at, n) == 0 && listen(server.fd, 8) == 0 &&
              getsockname(server.fd, (struct sockaddr *)&at, &n) == 0,
          "listening");
    server.port = ntohs(at.sin_port);
    CHECK(pthread_create(&server.thread, NULL, serve, &server) == 0, "thread");
    return &server;
}

static void server_end(judge_server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static rv_remote_judge remote_at(int port)
{
    char url[64];
    rv_remote_judge remote = { .model = "large", .key = "secret-key" };
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/", port);
    CHECK_OK(rv_http_url_read(url, &remote.url));
    return remote;
}

static rv_err score(const judge_server *s, double *quality)
{
    static const char *const passages[] = { "The mill stands in Elm Street." };
    rv_remote_judge remote = remote_at(s->port);
    rv_judge judge = rv_remote_judge_as(&remote);
    rv_judge_case c = {
        .question = "Where is the \"mill\"?", .answer = "In Elm Street. [1]", .passages = passages, .n = 1
    };
    return judge.score(&judge, &c, quality);
}

#define HEAD    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define CLOSED  HEAD "Connection: close\r\n\r\n"
#define MESSAGE "\"message\":{\"role\":\"assistant\",\"content\":"

TEST(addresses_are_those_of_http_servers_alone)
{
    static const struct {
        const char *text, *host, *path;
        int port;
        bool tls;
    } good[] = {
        { "https://api.example.org/v1", "api.example.org", "/v1", 443, true },
        { "http://localhost:8080", "localhost", "", 8080, false },
        { "HTTP://127.0.0.1/a/b/", "127.0.0.1", "/a/b", 80, false },
        { "https://[::1]:9/", "::1", "", 9, true },
    };
    static const char *const bad[] = { "",
                                       "judge",
                                       "/v1",
                                       "file:///etc/passwd",
                                       "ftp://a/",
                                       "http://",
                                       "http:///v1",
                                       "http://a:0/",
                                       "http://a:65536/",
                                       "http://a:b/",
                                       "http://user:word@a/",
                                       "http://a/?x=1",
                                       "http://a/#x",
                                       "http://a b/",
                                       "http://a/\r\nX: y",
                                       "http://[::1/",
                                       "http://[name]/",
                                       "http://a/\xc3\xa4" };
    rv_http_url url;
    char text[1024];
    for (size_t i = 0; i < RV_COUNT(good); i++) {
        CHECK_OK(rv_http_url_read(good[i].text, &url));
        CHECK(strcmp(url.host, good[i].host) == 0 && strcmp(url.path, good[i].path) == 0 &&
                  url.port == good[i].port && url.tls == good[i].tls,
              "%s: %s, %d, %s", good[i].text, url.host, url.port, url.path);
    }
    for (size_t i = 0; i < RV_COUNT(bad); i++) {
        CHECK(rv_http_url_read(bad[i], &url) == RV_E_ARG, "\"%s\" is taken", bad[i]);
    }
    snprintf(text, sizeof text, "http://%0900d/", 1);
    CHECK_ERR(rv_http_url_read(text, &url), RV_E_ARG);
    snprintf(text, sizeof text, "http://a/%0900d", 1);
    CHECK_ERR(rv_http_url_read(text, &url), RV_E_ARG);
}

TEST(a_judgement_is_one_digit_or_the_expectation_over_likely_ones)
{
    static const struct {
        const char *text;
        double quality; /* < 0: none */
    } cases[] = {
        { "{\"choices\":[{" MESSAGE "\"3\"}}]}", 0.5 },
        { "{\"choices\":[{" MESSAGE "\" 5\\n\"}}]}", 1 },
        { "{\"choices\":[{" MESSAGE "\"1\"},\"logprobs\":null}]}", 0 },
        { "{\"choices\":[{" MESSAGE "\"4\"},\"logprobs\":{\"content\":[{\"top_logprobs\":["
          "{\"token\":\"4\",\"logprob\":-0.693147181},{\"token\":\" 5\",\"logprob\":-0.693147181}]}]}}]}",
          0.875 },
        { "{\"choices\":[{" MESSAGE "\"4\"},\"logprobs\":{\"content\":[{\"top_logprobs\":["
          "{\"token\":\"The\",\"logprob\":-0.5},{\"token\":\"4\",\"logprob\":-1}]}]}}]}",
          -1 },
        { "{\"choices\":[{" MESSAGE "\"4\"},\"logprobs\":{\"content\":[{\"top_logprobs\":["
          "{\"token\":\"4\",\"logprob\":9},{\"token\":\"4\",\"logprob\":9}]}]}}]}",
          -1 },
        { "{\"choices\":[{" MESSAGE "\"4\"},\"logprobs\":{\"content\":[{\"top_logprobs\":["
          "{\"token\":4,\"logprob\":\"x\"},7,null]}]}}]}",
          -1 },
        { "{\"choices\":[{" MESSAGE "\"0\"}}]}", -1 },
        { "{\"choices\":[{" MESSAGE "\"6\"}}]}", -1 },
        { "{\"choices\":[{" MESSAGE "\"45\"}}]}", -1 },
        { "{\"choices\":[{" MESSAGE "\"I give it a 4.\"}}]}", -1 },
        { "{\"choices\":[{" MESSAGE "4}}]}", -1 },
        { "{\"choices\":[{" MESSAGE "null}}]}", -1 },
        { "{\"choices\":[]}", -1 },
        { "{\"choices\":7}", -1 },
        { "[[[[[[", -1 },
        { "4", -1 },
        { "\xff\xfe", -1 },
        { "", -1 },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        double quality = 7;
        CHECK_OK(rv_remote_judge_read(cases[i].text, strlen(cases[i].text), &quality));
        CHECK(cases[i].quality < 0 ? isnan(quality) : fabs(quality - cases[i].quality) <= 1e-6, "%s: %g",
              cases[i].text, quality);
    }
}

TEST(what_is_asked_is_the_answer_with_its_passages_and_the_key_in_its_header)
{
    double quality;
    judge_server *s = server_new(CLOSED "{\"choices\":[{" MESSAGE "\"4\"}}]}", CLOSES);
    CHECK_OK(score(s, &quality));
    server_end(s);
    CHECK(fabs(quality - 0.75) < 1e-9, "%g", quality);
    static const char *const wanted[] = { "POST /v1/chat/completions HTTP/1.1\r\n",
                                          "Host: 127.0.0.1:",
                                          "Authorization: Bearer secret-key\r\n",
                                          "Content-Type: application/json\r\n",
                                          "\"model\":\"large\"",
                                          "The mill stands in Elm Street.",
                                          "Where is the \\\"mill\\\"?\\nAnswer: In Elm Street. [1]",
                                          "\"top_logprobs\":" };
    for (size_t i = 0; i < RV_COUNT(wanted); i++) {
        CHECK(strstr(s->heard, wanted[i]), "no \"%s\" in: %s", wanted[i], s->heard);
    }
}

TEST(a_server_that_lies_floods_or_leaves_gives_no_judgement)
{
    static const struct {
        const char *name, *says;
        what_then then;
        rv_err e;
    } cases[] = {
        { "chunks", HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", CLOSES, RV_OK },
        { "no JSON", CLOSED "<html>4</html>", CLOSES, RV_OK },
        { "nothing", CLOSED, CLOSES, RV_OK },
        { "too long for it", "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n", CLOSES, RV_OK },
        { "no key", "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", CLOSES, RV_E_IO },
        { "busy", "HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\n4", CLOSES, RV_E_IO },
        { "elsewhere", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
          CLOSES, RV_E_IO },
        { "no HTTP", "SSH-2.0-something\r\n\r\n", CLOSES, RV_E_IO },
        { "it leaves", "", CLOSES, RV_E_IO },
        { "half of the head", "HTTP/1.1 200 OK\r\nContent-Le", CLOSES, RV_E_IO },
        { "half of the body", HEAD "Content-Length: 100\r\n\r\n{\"choices\"", CLOSES, RV_E_IO },
        { "a length that is none", HEAD "Content-Length: -5\r\n\r\n{}", CLOSES, RV_E_IO },
        { "a length beyond all", HEAD "Content-Length: 99999999999\r\n\r\n{}", WAITS, RV_E_TOO_LARGE },
        { "a body without end", CLOSED, FLOODS, RV_E_TOO_LARGE },
        { "a chunk beyond all", HEAD "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", FLOODS,
          RV_E_TOO_LARGE },
        { "headers without end", "HTTP/1.1 200 OK\r\nX: ", FLOODS, RV_E_IO },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        double quality = 7;
        judge_server *s = server_new(cases[i].says, cases[i].then);
        rv_err e = score(s, &quality);
        server_end(s);
        CHECK(e == cases[i].e && isnan(quality), "%s: %s, %s, %g", cases[i].name, rv_err_name(e),
              e ? rv_err_text() : "", quality);
    }
    judge_server gone = { .port = 1 };
    double quality;
    CHECK_ERR(score(&gone, &quality), RV_E_IO);
    char *long_text = rv_new(&rv_heap, 2 << 20);
    CHECK(long_text, "memory");
    memset(long_text, '"', (2 << 20) - 1); /* escaped it is twice that */
    rv_remote_judge remote = remote_at(1);
    rv_judge judge = rv_remote_judge_as(&remote);
    const char *const passages[] = { long_text };
    CHECK_ERR(judge.score(&judge, &(rv_judge_case){ .question = long_text, .answer = "a" }, &quality),
              RV_E_TOO_LARGE);
    CHECK_ERR(judge.score(&judge,
                          &(rv_judge_case){ .question = "q", .answer = "a", .passages = passages, .n = 1 },
                          &quality),
              RV_E_TOO_LARGE);
    rv_free(&rv_heap, long_text);
}

static bool three_times(void *self)
{
    return ++*(int *)self < 3;
}

TEST(nobody_waits_longer_than_he_wants_to)
{
    static const what_then how[] = { WAITS, DRIPS };
    for (size_t i = 0; i < RV_COUNT(how); i++) {
        judge_server *s = server_new(how[i] == DRIPS ? CLOSED : "", how[i]);
        rv_remote_judge remote = remote_at(s->port);
        rv_text answer_text;
        int status = 0, asked = 0;
        rv_text_init(&answer_text, &rv_heap, 1 << 16);
        rv_http_call call = {
            .url = &remote.url, .path = "/x", .body = "{}", .n = 2, .max_bytes = 1 << 16, .timeout_ms = 200
        };
        rv_err e = rv_http_post(&call, &status, &answer_text);
        call.timeout_ms = 3600e3;
        call.go_on = three_times;
        call.self = &asked;
        rv_err stopped = rv_http_post(&call, &status, &answer_text);
        server_end(s);
        CHECK(e == RV_E_TIMEOUT && stopped == RV_E_CANCELLED && asked == 3, "%s, %s after %d", rv_err_name(e),
              rv_err_name(stopped), asked);
        rv_text_deinit(&answer_text);
    }
}

/* ---- in the background loop ---- */

static rv_config *config_for(int port)
{
    char path[2400], url[64], *bytes = NULL;
    const char *home = temp_dir();
    size_t n = 0;
    rv_config *config = NULL;
    setenv("HOME", home, 1);
    snprintf(path, sizeof path, "%s/data", home);
    setenv("RUVLLM_DATA", path, 1);
    snprintf(path, sizeof path, "%s/models", home);
    setenv("RUVLLM_MODELS", path, 1);
    CHECK_OK(rv_dir_make(path));
    snprintf(path, sizeof path, "%s/models/demo-s.gguf", home);
    CHECK_OK(rv_file_read(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), 1 << 20, &bytes, &n));
    CHECK_OK(rv_file_replace(path, bytes, n));
    rv_free(&rv_heap, bytes);
    CHECK_OK(rv_config_load(&rv_heap, NULL, &config));
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port);
    CHECK_OK(rv_config_set(config, "learning.judge_url", url, "--set"));
    return config;
}

static void add_episode(rv_db *db, const char *id)
{
    rv_episode e = { .request_id = id, .session_id = "s", .question = "q", .answer = "a", .model = "m" };
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_commit(db));
}

static double number_of(rv_db *db, const char *sql)
{
    sqlite3 *conn;
    int64_t out = -1;
    CHECK_OK(rv_db_reader(db, &conn));
    CHECK_OK(rv_db_int(conn, &out, sql, ""));
    rv_db_reader_done(db, conn);
    return (double)out / 100;
}

TEST(answers_nobody_rated_are_judged_there_with_the_weight_that_was_measured)
{
    static const char weight[] = "SELECT cast(round(100 * trust) AS INTEGER) FROM judged WHERE request_id = ",
                      name[] =
                          "SELECT count(*) * 100 FROM judged WHERE judge LIKE 'remote %' AND quality = 0.75";
    char sql[160];
    rv_app *app = NULL;
    rv_loop_done done;
    judge_server *s = server_new(CLOSED "{\"choices\":[{" MESSAGE "\"4\"}}]}", CLOSES);
    rv_config *config = config_for(s->port);
    CHECK_ERR(rv_app_open(&rv_heap, config, RV_APP_ALL, &app), RV_E_CONFIG); /* which model? */
    CHECK_OK(rv_config_set(config, "learning.judge_model", "large", "--set"));
    CHECK_OK(rv_app_open(&rv_heap, config, RV_APP_ALL, &app));
    rv_db *db = rv_app_pipeline(app)->db;
    add_episode(db, "first");
    CHECK_OK(rv_app_learn(app, false, NULL, NULL, &done));
    snprintf(sql, sizeof sql, "%s'first'", weight);
    CHECK(number_of(db, sql) == RV_JUDGE_PRIOR && number_of(db, name) == 1, "not measured: weight %g",
          number_of(db, sql));

    rv_remote_judge remote;
    bool there;
    CHECK_OK(rv_remote_judge_open(config, &remote, &there));
    rv_judge judge = rv_remote_judge_as(&remote);
    static const double right[] = { 0.69, 0.71 };
    for (int i = 0; i < 2; i++) {
        CHECK_OK(rv_judge_keep(db, &judge, &(rv_judge_measured){ .pairs = 894, .right = right[i] }));
        add_episode(db, i ? "third" : "second");
        CHECK_OK(rv_app_learn(app, false, NULL, NULL, &done));
        snprintf(sql, sizeof sql, "%s'%s'", weight, i ? "third" : "second");
        CHECK(number_of(db, sql) == (i ? RV_JUDGE_TRUST : RV_JUDGE_PRIOR), "right on %g: weight %g", right[i],
              number_of(db, sql));
    }
    int calls = s->calls;
    server_end(s);
    CHECK(calls == 3 && number_of(db, name) == 3, "%d calls", calls);

    /* there is nobody: the stage says so, and the others ran */
    add_episode(db, "fourth");
    CHECK_OK(rv_app_learn(app, false, NULL, NULL, &done));
    CHECK(done.failed == 1 && done.ran == 5 && number_of(db, name) == 3, "%zu of %zu failed", done.failed,
          done.ran);
    rv_app_close(app);
    rv_config_free(config);
}
