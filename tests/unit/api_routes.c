/* Routes, methods, bodies and the shape of errors, on a server that has an embedder and nothing else. */
#include "http_client.h"
#include "memory_helpers.h"

#include "api/api.h"
#include "base/json.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
    rv_pipeline pipeline;
    rv_api *api;
    rv_http_server *server;
    pthread_t thread;
    int port;
} site;

static void *serve(void *self)
{
    (void)self;
    if (rv_http_run(site.server, WAIT_MS) != RV_OK) {
        abort();
    }
    return NULL;
}

static void open_site(void)
{
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &site.pipeline.embed));
    rv_api_options options = { .workers = 1, .max_queue = 10, .version = "9.9.9" };
    CHECK_OK(rv_api_new(&rv_heap, &site.pipeline, options, &site.api));
    rv_http_options how = { .listen = "127.0.0.1",
                            .max_connections = 10,
                            .max_body_bytes = 1 << 20,
                            .max_header_bytes = 65536,
                            .request_timeout_ms = WAIT_MS,
                            .handle = rv_api_handle,
                            .self = site.api };
    CHECK_OK(rv_http_listen(&rv_heap, &how, &site.server));
    site.port = rv_http_port(site.server);
    CHECK(pthread_create(&site.thread, NULL, serve, NULL) == 0, "thread");
}

static void close_site(void)
{
    rv_http_stop(site.server);
    pthread_join(site.thread, NULL);
    rv_api_free(site.api);
    rv_http_free(site.server);
    rv_embed_close(site.pipeline.embed);
}

/* Status of one request; head and body of the answer stay in hear()'s buffer. */
static int ask(const char *method, const char *path, const char *headers, const char *body,
               const char **answer)
{
    static char request[1 << 16];
    snprintf(request, sizeof request,
             "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s",
             method, path, headers, strlen(body), body);
    int fd = dial(site.port);
    say(fd, request);
    *answer = hear(fd, NULL);
    close(fd);
    return atoi(*answer + strlen("HTTP/1.1 "));
}

/* The "error" object of an answer, which must have exactly OpenAI's four fields. Caller's. */
static json_t *error_of(const char *answer)
{
    const char *body = strstr(answer, "\r\n\r\n");
    json_t *all = NULL;
    CHECK(body && rv_json_parse(body + 4, strlen(body + 4), &all) == RV_OK, "not JSON: %s", answer);
    json_t *error = json_incref(json_object_get(all, "error"));
    json_decref(all);
    CHECK(json_object_size(error) == 4 && json_is_string(json_object_get(error, "message")) &&
              json_is_string(json_object_get(error, "type")) && json_object_get(error, "param") &&
              json_object_get(error, "code"),
          "not an error: %s", answer);
    return error;
}

TEST(routes_methods_and_bodies_are_refused_with_their_status)
{
    static const struct {
        const char *method, *path, *headers, *body;
        int status;
        const char *has; /* in the answer */
    } cases[] = {
        { "GET", "/", "", "", 404, "unknown_url" },
        { "GET", "/v1", "", "", 404, NULL },
        { "GET", "/v1/models/", "", "", 404, NULL },
        { "GET", "/v1/models/none", "", "", 404, "model_not_found" },
        { "GET", "/health/", "", "", 404, NULL },
        { "BREW", "/health", "", "", 405, "Allow: GET, HEAD, OPTIONS\r\n" },
        { "get", "/health", "", "", 405, NULL },
        { "GET", "/v1/query", "", "", 405, "Allow: POST, OPTIONS\r\n" },
        { "PUT", "/v1/memories", "", "", 405, "Allow: POST, GET, HEAD, DELETE, OPTIONS\r\n" },
        { "PUT", "/v1/memories/7", "", "", 405, "Allow: POST, GET, HEAD, DELETE, OPTIONS\r\n" },
        { "POST", "/v1/memories/import", "", "{\"name\":\"a.md\",\"text\":\"a\"}", 503, "no memory" },
        { "POST", "/v1/memories/7", "", "{\"pinned\":true}", 503, "no memory" },
        { "PUT", "/v1/memories/search", "", "", 405, "Allow: GET, HEAD, POST, OPTIONS\r\n" },
        { "POST", "/v1/embeddings", "Content-Type: text/plain\r\n", "{}", 415, NULL },
        { "POST", "/v1/embeddings", "Content-Type: application/json; charset=utf-16\r\n", "{}", 415, NULL },
        { "POST", "/v1/embeddings", "Content-Type: application/jsonx\r\n", "{}", 415, NULL },
        { "POST", "/v1/embeddings", "Content-Encoding: gzip\r\n", "{}", 415, NULL },
        { "POST", "/v1/embeddings", "Origin: https://evil.example\r\n", "{}", 403, NULL },
        { "POST", "/v1/embeddings", "Origin: null\r\n", "{}", 403, NULL },
        { "POST", "/v1/embeddings", "", "", 400, "the body is empty" },
        { "POST", "/v1/embeddings", "", "{", 400, "invalid_json" },
        { "POST", "/v1/embeddings", "", "[]", 400, "not a JSON object" },
        { "POST", "/v1/embeddings", "", "{\"input\":\"a\"} x", 400, "invalid_json" },
        { "POST", "/v1/embeddings", "", "{}", 400, "\"param\":\"input\"" },
        { "POST", "/v1/embeddings", "", "{\"input\":[]}", 400, "\"param\":\"input\"" },
        { "POST", "/v1/embeddings", "", "{\"input\":[\"a\",7]}", 400, "\"param\":\"input[1]\"" },
        { "POST", "/v1/embeddings", "", "{\"input\":\"\"}", 400, "\"param\":\"input[0]\"" },
        { "POST", "/v1/embeddings", "", "{\"input\":\"a\",\"model\":true}", 400, "\"param\":\"model\"" },
        { "POST", "/v1/embeddings", "", "{\"input\":\"a\",\"dimensions\":12}", 400,
          "\"param\":\"dimensions\"" },
        { "POST", "/v1/embeddings", "", "{\"input\":\"a\",\"encoding_format\":\"hex\"}", 400,
          "\"param\":\"encoding_format\"" },
        { "POST", "/v1/embeddings", "", "{\"input\":\"a\",\"inptu\":1}", 400, "\"param\":\"inptu\"" },
        { "POST", "/v1/query", "", "{\"query\":\"a\"}", 503, "Retry-After: 1\r\n" },
        { "POST", "/v1/chat/completions", "", "{}", 503, "no model" },
        { "POST", "/v1/feedback", "", "{\"request_id\":\"x\",\"rating\":1}", 503, "no memory" },
        { "GET", "/v1/memories", "", "", 503, "no memory" },
        { "GET", "/v1/sessions", "", "", 503, "no database" },
    };
    open_site();
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        const char *answer;
        int status = ask(cases[i].method, cases[i].path, cases[i].headers, cases[i].body, &answer);
        CHECK(status == cases[i].status, "case %zu %s %s %s: %s", i, cases[i].method, cases[i].path,
              cases[i].body, answer);
        CHECK(!cases[i].has || strstr(answer, cases[i].has), "case %zu %s: no %s in %s", i, cases[i].path,
              cases[i].has, answer);
        json_decref(error_of(answer));
    }
    close_site();
}

TEST(options_and_head_say_what_there_is_without_a_body)
{
    const char *answer;
    open_site();
    CHECK(ask("OPTIONS", "/v1/chat/completions", "", "", &answer) == 204, "%s", answer);
    expect(answer, "Allow: POST, OPTIONS\r\n");
    CHECK(!strstr(answer, "Access-Control"), "%s", answer);
    CHECK(ask("OPTIONS", "*", "", "", &answer) == 204, "%s", answer);
    CHECK(ask("HEAD", "/v1/models", "", "", &answer) == 200, "%s", answer);
    CHECK(strcmp(strstr(answer, "\r\n\r\n"), "\r\n\r\n") == 0, "%s", answer);
    CHECK(ask("OPTIONS", "/nowhere", "", "", &answer) == 404, "%s", answer);
    close_site();
}

TEST(json_is_read_whatever_type_curl_gives_it)
{
    static const char *const types[] = { "", "Content-Type: application/json\r\n",
                                         "Content-Type: Application/JSON; Charset=\"UTF-8\"\r\n",
                                         "Content-Type: application/x-www-form-urlencoded\r\n",
                                         "Origin: http://localhost\r\n" };
    open_site();
    for (size_t i = 0; i < RV_COUNT(types); i++) {
        const char *answer;
        CHECK(ask("POST", "/v1/embeddings", types[i], "{\"input\":\"a\"}", &answer) == 200, "%s: %s",
              types[i], answer);
    }
    close_site();
}

TEST(health_without_a_store_is_503_and_names_what_is_missing)
{
    const char *answer;
    open_site();
    CHECK(ask("GET", "/v1/health", "", "", &answer) == 503, "%s", answer);
    expect(answer, "\"version\":\"9.9.9\"");
    expect(answer, "\"database\":{\"status\":\"absent\"");
    expect(answer, "\"models\":{\"status\":\"absent\"");
    close_site();
}

static atomic_bool held;

static rv_err held_text(const void *self, const char *text, size_t n, float *out)
{
    while (atomic_load(&held)) {
        nap(1);
    }
    return toy_text(self, text, n, out);
}

/* Reading files takes as long as it takes: two of them at once, and health is asked still. */
TEST(health_does_not_wait_for_imports)
{
    static const char import[] =
        "POST /v1/memories/import HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: "
        "29\r\n\r\n{\"name\":\"%d.md\",\"text\":\"word\"}";
    const char *answer;
    char request[256];
    int fds[2];
    store s;
    rv_memory_embedder slow = toy;
    slow.text = held_text;
    CHECK_OK(store_open_with(&rv_heap, temp_path("data"), slow, &s));
    site.pipeline.db = s.db;
    site.pipeline.memory = s.m;
    open_site();
    atomic_store(&held, true);
    for (int i = 0; i < 2; i++) {
        snprintf(request, sizeof request, import, i);
        fds[i] = dial(site.port);
        say(fds[i], request);
    }
    nap(50); /* both were taken up, if anybody took them */
    CHECK(ask("GET", "/health", "", "", &answer) == 200, "%s", answer);
    atomic_store(&held, false);
    for (int i = 0; i < 2; i++) {
        expect(hear(fds[i], NULL), "\"chunks_added\":1");
        close(fds[i]);
    }
    close_site();
    site.pipeline = (rv_pipeline){ 0 };
    store_close(&s);
}

static rv_err forget_user(void *self, const char *user, const int64_t *ids, size_t n, rv_forgotten *out)
{
    (void)self;
    (void)ids;
    *out = (rv_forgotten){ 0 };
    return user && n == 0 ? RV_OK : rv_fail(RV_E_ARG, "user: expected one, and no ids");
}

TEST(a_field_that_is_null_is_not_there)
{
    const char *answer;
    store s = store_open(temp_path("data"));
    site.pipeline.db = s.db;
    site.pipeline.memory = s.m;
    site.pipeline.forget = forget_user;
    open_site();
    CHECK(ask("POST", "/v1/memories", "", "{\"text\":\"a note\",\"pinned\":true}", &answer) == 201, "%s",
          answer);
    CHECK(ask("POST", "/v1/memories/1", "", "{\"pinned\":null,\"ttl_s\":100}", &answer) == 200, "%s", answer);
    expect(answer, "\"pinned\":true");
    CHECK(ask("POST", "/v1/memories/1", "", "{\"pinned\":null}", &answer) == 400, "%s", answer);
    CHECK(ask("POST", "/v1/forget", "", "{\"user\":\"anna\",\"ids\":null}", &answer) == 200, "%s", answer);
    CHECK(ask("POST", "/v1/forget", "", "{\"user\":\"anna\",\"ids\":[]}", &answer) == 400, "%s", answer);
    close_site();
    site.pipeline = (rv_pipeline){ 0 };
    store_close(&s);
}

TEST(metrics_count_requests_by_route_and_status)
{
    const char *answer;
    open_site();
    ask("GET", "/v1/models", "", "", &answer);
    CHECK(ask("GET", "/metrics", "", "", &answer) == 200, "%s", answer);
    expect(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n");
    expect(answer, "# TYPE ruvllm_requests_total counter\n");
    expect(answer, "ruvllm_requests_total{route=\"GET /v1/models\",status=\"200\"} ");
    CHECK(!strstr(answer, "ruvllm_requests_total{route=\"GET /v1/models\",status=\"200\"} 0"), "not counted");
    expect(answer, "ruvllm_request_latency_seconds_bucket{le=\"");
    close_site();
}

/* Vectors as numbers and as base64 are the same bits. */
TEST(embeddings_come_as_floats_and_as_base64)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *answer;
    json_t *plain = NULL, *coded = NULL;
    open_site();
    CHECK(ask("POST", "/v1/embeddings", "", "{\"input\":[\"one\",\"two words\"]}", &answer) == 200, "%s",
          answer);
    answer = strstr(answer, "\r\n\r\n") + 4;
    CHECK_OK(rv_json_parse(answer, strlen(answer), &plain));
    CHECK(ask("POST", "/v1/embeddings", "",
              "{\"input\":[\"one\",\"two words\"],\"encoding_format\":\"base64\"}", &answer) == 200,
          "%s", answer);
    answer = strstr(answer, "\r\n\r\n") + 4;
    CHECK_OK(rv_json_parse(answer, strlen(answer), &coded));
    for (size_t i = 0; i < 2; i++) {
        json_t *vector = json_object_get(json_array_get(json_object_get(plain, "data"), i), "embedding");
        const char *text = json_string_value(
            json_object_get(json_array_get(json_object_get(coded, "data"), i), "embedding"));
        size_t dim = rv_embed_dim(site.pipeline.embed), n = 0;
        CHECK(json_array_size(vector) == dim && text && strlen(text) == (dim * 4 + 2) / 3 * 4, "%s", text);
        uint8_t bytes[4 * 4096 + 3];
        for (const char *c = text; *c && *c != '='; c += 4) {
            uint32_t bits = 0;
            for (int k = 0; k < 4; k++) {
                bits = bits << 6 | (c[k] == '=' ? 0 : (uint32_t)(strchr(digits, c[k]) - digits));
            }
            bytes[n++] = (uint8_t)(bits >> 16);
            bytes[n++] = (uint8_t)(bits >> 8);
            bytes[n++] = (uint8_t)bits;
        }
        for (size_t k = 0; k < dim; k++) {
            uint32_t bits = (uint32_t)bytes[4 * k] | (uint32_t)bytes[4 * k + 1] << 8 |
                            (uint32_t)bytes[4 * k + 2] << 16 | (uint32_t)bytes[4 * k + 3] << 24;
            float x;
            memcpy(&x, &bits, sizeof x);
            CHECK(x == (float)json_real_value(json_array_get(vector, k)), "vector %zu, place %zu: %g", i, k,
                  (double)x);
        }
    }
    json_decref(plain);
    json_decref(coded);
    close_site();
}
