/* Routes, the queue between the net thread and the workers, and what is counted about both. Bodies are parsed on the
 * workers, not on the net thread: a body may have megabytes, and every stream would stand still meanwhile. */
#include "api/api_priv.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "base/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { QUICK_THREADS = 2, ARENA_MAX = 64 << 20 };

static const rv_api_route routes[] = {
    { "GET", "/health", RV_API_QUICK, false, rv_api_health },
    { "GET", "/v1/health", RV_API_QUICK, false, rv_api_health },
    { "GET", "/metrics", RV_API_QUICK, false, rv_api_metrics },
    { "GET", "/v1/metrics", RV_API_QUICK, false, rv_api_metrics },
    { "GET", "/v1/models", RV_API_QUICK, false, rv_api_models },
    { "GET", "/v1/models/{id}", RV_API_QUICK, false, rv_api_model },
    { "POST", "/v1/query", RV_API_GENERATE, true, rv_api_query },
    { "POST", "/v1/feedback", RV_API_QUICK, true, rv_api_feedback },
    { "POST", "/v1/forget", RV_API_GENERATE, true, rv_api_forget },
    { "POST", "/v1/chat/completions", RV_API_GENERATE, true, rv_api_chat },
    { "POST", "/v1/completions", RV_API_GENERATE, true, rv_api_completions },
    { "POST", "/v1/embeddings", RV_API_QUICK, true, rv_api_embeddings },
    { "POST", "/v1/memories", RV_API_QUICK, true, rv_api_memory_add },
    { "GET", "/v1/memories", RV_API_QUICK, false, rv_api_memory_list },
    { "DELETE", "/v1/memories", RV_API_QUICK, false, rv_api_memory_rm },
    { "GET", "/v1/memories/search", RV_API_QUICK, false, rv_api_memory_search },
    { "POST", "/v1/memories/search", RV_API_QUICK, true, rv_api_memory_search },
    { "GET", "/v1/memories/around", RV_API_QUICK, false, rv_api_memory_around },
    { "GET", "/v1/memories/path", RV_API_QUICK, false, rv_api_memory_path },
    { "POST", "/v1/memories/import", RV_API_GENERATE, true, rv_api_memory_import },
    { "POST", "/v1/memories/{id}", RV_API_QUICK, true, rv_api_memory_keep },
    { "GET", "/v1/memories/{id}", RV_API_QUICK, false, rv_api_memory_get },
    { "DELETE", "/v1/memories/{id}", RV_API_QUICK, false, rv_api_memory_rm },
    { "GET", "/v1/router/decisions", RV_API_QUICK, false, rv_api_decisions },
    { "GET", "/v1/sessions", RV_API_QUICK, false, rv_api_session_list },
    { "GET", "/v1/sessions/{id}", RV_API_QUICK, false, rv_api_session_get },
    { "DELETE", "/v1/sessions/{id}", RV_API_QUICK, false, rv_api_session_rm },
};

typedef struct lane {
    rv_api_call *first, *last;
    size_t n;
    pthread_cond_t filled;
} lane;

struct rv_api {
    const rv_alloc *mem;
    const rv_pipeline *pipeline;
    char *version;
    size_t max_queue;
    const rv_api_keys *keys;
    pthread_mutex_t lock;
    lane lanes[RV_API_LANES]; /* under lock */
    bool stopping;            /* under lock */
    struct worker {
        pthread_t thread;
        rv_api *api;
        rv_api_lane lane;
    } * workers;
    size_t n_workers; /* that were started */
};

const char *rv_api_version(const rv_api *api)
{
    return api->version;
}

/* ---- metrics ---- */

enum { N_ROUTES = RV_COUNT(routes) };
static const int statuses[] = { 200, 201, 204, 400, 401, 403, 404, 405, 413,
                                415, 429, 499, 500, 501, 503, 504, 507, 0 /* any other */ };

/* One row more than there are routes: what matched none. */
static rv_metric requests[(N_ROUTES + 1) * RV_COUNT(statuses)];
static char request_labels[(N_ROUTES + 1) * RV_COUNT(statuses)][64];
static rv_metric metrics[] = {
    { .kind = RV_HISTOGRAM,
      .name = "ruvllm_request_latency_seconds",
      .help = "From the last byte of a request to its answer." },
    { .kind = RV_GAUGE, .name = "ruvllm_requests_waiting", .help = "Requests queued for a worker." },
    { .kind = RV_GAUGE, .name = "ruvllm_requests_running", .help = "Requests at work." },
    { .kind = RV_GAUGE, .name = "ruvllm_memory_usage_bytes", .help = "Resident memory of this process." },
    { .kind = RV_COUNTER,
      .name = "ruvllm_tokens_total",
      .help = "Tokens of all requests.",
      .labels = "kind=\"prompt\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_tokens_total",
      .help = "Tokens of all requests.",
      .labels = "kind=\"cached\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_tokens_total",
      .help = "Tokens of all requests.",
      .labels = "kind=\"completion\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_draft_tokens_total",
      .help = "Guessed tokens that were computed, and those that were right.",
      .labels = "kind=\"drafted\",source=\"text\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_draft_tokens_total",
      .help = "Guessed tokens that were computed, and those that were right.",
      .labels = "kind=\"accepted\",source=\"text\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_draft_tokens_total",
      .help = "Guessed tokens that were computed, and those that were right.",
      .labels = "kind=\"drafted\",source=\"model\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_draft_tokens_total",
      .help = "Guessed tokens that were computed, and those that were right.",
      .labels = "kind=\"accepted\",source=\"model\"" },
};
enum {
    LATENCY,
    WAITING,
    RUNNING,
    RESIDENT,
    TOKENS_PROMPT,
    TOKENS_CACHED,
    TOKENS_COMPLETION,
    TOKENS_DRAFTED,
    TOKENS_ACCEPTED,
    MODEL_DRAFTED,
    MODEL_ACCEPTED
};

static void register_metrics(void)
{
    for (size_t i = 0; i < RV_COUNT(requests); i++) {
        size_t r = i / RV_COUNT(statuses);
        int status = statuses[i % RV_COUNT(statuses)];
        char code[8] = "other";
        if (status) {
            snprintf(code, sizeof code, "%d", status);
        }
        snprintf(request_labels[i], sizeof request_labels[i], "route=\"%s %s\",status=\"%s\"",
                 r < N_ROUTES ? routes[r].method : "any", r < N_ROUTES ? routes[r].path : "unknown", code);
        requests[i] =
            (rv_metric){ .kind = RV_COUNTER,
                         .name = "ruvllm_requests_total",
                         .help = "Requests answered, by route and HTTP status (499: the client left).",
                         .labels = request_labels[i] };
    }
    rv_metrics_register(requests, RV_COUNT(requests));
    rv_metrics_register(metrics, RV_COUNT(metrics));
}

static void count(const rv_api_route *route, int status)
{
    size_t s = 0;
    while (statuses[s] && statuses[s] != status) {
        s++;
    }
    rv_metric_add(&requests[(size_t)(route ? route - routes : N_ROUTES) * RV_COUNT(statuses) + s], 1);
}

void rv_api_count_tokens(const rv_generated *generated)
{
    rv_metric_add(&metrics[TOKENS_PROMPT], (int64_t)generated->prompt_tokens);
    rv_metric_add(&metrics[TOKENS_CACHED], (int64_t)generated->cached_tokens);
    rv_metric_add(&metrics[TOKENS_COMPLETION], (int64_t)generated->completion_tokens);
    rv_metric_add(&metrics[TOKENS_DRAFTED], (int64_t)(generated->drafted - generated->model_drafted));
    rv_metric_add(&metrics[TOKENS_ACCEPTED], (int64_t)(generated->accepted - generated->model_accepted));
    rv_metric_add(&metrics[MODEL_DRAFTED], (int64_t)generated->model_drafted);
    rv_metric_add(&metrics[MODEL_ACCEPTED], (int64_t)generated->model_accepted);
}

void rv_api_metrics(rv_api_call *call)
{
    rv_metric_set(&metrics[RESIDENT], (int64_t)rv_cpu_rss_bytes());
    rv_text text;
    rv_text_init(&text, call->api->mem, RV_API_TEXT_MAX);
    rv_metrics_text(&text);
    rv_api_send_text(call, 200, "text/plain; version=0.0.4; charset=utf-8", &text);
    rv_text_deinit(&text);
}

/* ---- answers ---- */

/* The call is over: count it and say so. Before the answer goes out, because the request is dead after. */
static void account(rv_api_call *call, int status)
{
    double ms = rv_clock_ms() - call->started_ms;
    count(call->route, status);
    rv_metric_time(&metrics[LATENCY], ms);
    char code[16], took[32];
    snprintf(code, sizeof code, "%d", status);
    snprintf(took, sizeof took, "%.1f", ms);
    rv_log(RV_LOG_INFO, "http.request", "method", rv_http_method(call->http), "path",
           rv_http_path(call->http), "status", code, "ms", took, "peer", rv_http_peer(call->http),
           (char *)NULL);
}

static void answer(rv_api_call *call, int status, const char *content_type, const char *extra,
                   const char *body, size_t n)
{
    account(call, status);
    rv_http_answer(call->http, status, content_type, extra, body, n);
    call->http = NULL;
}

void rv_api_send_text(rv_api_call *call, int status, const char *content_type, const rv_text *text)
{
    if (rv_text_check(text) != RV_OK) {
        rv_api_fault(call, RV_E_NOMEM, "the answer does not fit into memory");
        return;
    }
    answer(call, status, content_type, NULL, rv_text_get(text), text->n);
}

void rv_api_send(rv_api_call *call, int status, json_t *take)
{
    if (!take) {
        rv_api_fault(call, RV_E_NOMEM, "the answer does not fit into memory");
        return;
    }
    rv_text text;
    rv_text_init(&text, call->api->mem, RV_API_TEXT_MAX);
    rv_json_text(take, &text);
    json_decref(take);
    rv_api_send_text(call, status, "application/json", &text);
    rv_text_deinit(&text);
}

bool rv_api_event(rv_api_call *call, const rv_text *json)
{
    if (rv_text_check(json) != RV_OK) {
        return false;
    }
    if (!call->begun) {
        call->begun = true;
        if (!rv_http_begin(call->http, 200, "text/event-stream")) {
            return false;
        }
    }
    rv_text line;
    rv_text_init(&line, call->api->mem, RV_API_TEXT_MAX);
    rv_text_adds(&line, "data: ");
    rv_text_add(&line, rv_text_get(json), json->n);
    rv_text_adds(&line, "\n\n");
    bool sent = !line.failed && rv_http_write(call->http, rv_text_get(&line), line.n);
    rv_text_deinit(&line);
    return sent;
}

void rv_api_end(rv_api_call *call)
{
    static const char done[] = "data: [DONE]\n\n";
    bool here = rv_http_write(call->http, done, sizeof done - 1);
    account(call, here ? 200 : 499);
    rv_http_end(call->http);
    call->http = NULL;
}

void rv_api_gone(rv_api_call *call)
{
    account(call, 499);
    if (call->begun) {
        rv_http_end(call->http);
    } else {
        rv_http_answer(call->http, 499, NULL, NULL, "", 0);
    }
    call->http = NULL;
}

static void add_string_or_null(rv_text *t, const char *text)
{
    if (text) {
        rv_json_string(t, text, strlen(text));
    } else {
        rv_text_adds(t, "null");
    }
}

/* more: further fields of the error object, with a comma in front, or "". */
static void send_error(rv_api_call *call, int status, const char *type, const char *param, const char *code,
                       const char *message, const char *more)
{
    char room[4096]; /* an answer about missing memory takes none */
    rv_text text = { .mem = &rv_heap, .at = room, .room = sizeof room, .max = sizeof room - 1 };
    room[0] = 0;
    rv_text_adds(&text, "{\"error\":{\"message\":");
    add_string_or_null(&text, message);
    rv_text_adds(&text, ",\"type\":");
    add_string_or_null(&text, type);
    rv_text_adds(&text, ",\"param\":");
    add_string_or_null(&text, param);
    rv_text_adds(&text, ",\"code\":");
    add_string_or_null(&text, code);
    rv_text_adds(&text, more);
    rv_text_adds(&text, "}}");
    if (call->begun) {
        rv_api_event(call, &text);
        account(call, status);
        rv_http_end(call->http);
        call->http = NULL;
        return;
    }
    char later[64], *header = NULL;
    if (status == 429 || status == 503) {
        snprintf(later, sizeof later, "Retry-After: %lld\r\n",
                 (long long)(call->retry_s > 0 ? call->retry_s : 1));
        header = later;
    } else if (status == 401) {
        header = "WWW-Authenticate: Bearer\r\n";
    }
    answer(call, status, "application/json", header, rv_text_get(&text), text.n);
}

void rv_api_refuse(rv_api_call *call, int status, const char *param, const char *code, const char *format,
                   ...)
{
    char message[1024], shown[1536], field[128];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    size_t kept = n < 0 ? 0 : (size_t)n < sizeof message ? (size_t)n : sizeof message - 1;
    rv_escape(message, rv_utf8_whole(message, kept), shown, sizeof shown);
    if (param) {
        rv_escape(param, strnlen(param, sizeof field), field, sizeof field);
    }
    send_error(call, status, status >= 500 ? "server_error" : "invalid_request_error", param ? field : NULL,
               code, shown, "");
}

/* "constraints.max_tokens: expected ..." begins with the field it is about. */
static const char *field_of(const char *text, char out[128])
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.[]");
    if (n == 0 || n >= 128 || text[n] != ':') {
        return NULL;
    }
    memcpy(out, text, n);
    out[n] = 0;
    return out;
}

void rv_api_fail(rv_api_call *call, rv_err e)
{
    if (rv_err_http(e) >= 500) { /* not about what was sent, and it may name files */
        rv_api_fault(call, e,
                     e == RV_E_NO_SPACE
                         ? "the disk of the server is full: nothing was written, reading goes on"
                         : "the server could not do this");
        return;
    }
    char field[128];
    const char *text = rv_err_text();
    send_error(call, rv_err_http(e), rv_err_type(e), field_of(text, field), NULL, text, "");
}

void rv_api_fault(rv_api_call *call, rv_err e, const char *what)
{
    rv_log(RV_LOG_ERROR, "api.fault", "what", what, "error", rv_err_name(e), "why", rv_err_text(),
           (char *)NULL);
    int status = rv_err_http(e);
    send_error(call, status >= 500 ? status : 500, "server_error", NULL, NULL, what, "");
}

/* "the prompt has 900 tokens, the context holds 512 ...": who writes RV_E_CONTEXT promises both numbers, in this order. */
static void read_two_numbers(const char *text, unsigned long long out[2])
{
    for (int i = 0; i < 2; i++) {
        text += strcspn(text, "0123456789");
        char *end = NULL;
        out[i] = strtoull(text, &end, 10);
        text = end;
    }
}

void rv_api_generation_failed(rv_api_call *call, rv_err e, const char *param)
{
    char more[96];
    unsigned long long numbers[2];
    switch (e) {
    case RV_E_CONTEXT:
        read_two_numbers(rv_err_text(), numbers);
        snprintf(more, sizeof more, ",\"n_prompt_tokens\":%llu,\"n_ctx\":%llu", numbers[0], numbers[1]);
        send_error(call, 400, rv_err_type(e), param, "context_length_exceeded", rv_err_text(), more);
        break;
    case RV_E_ARG:
    case RV_E_TOO_LARGE: rv_api_fail(call, e); break;
    case RV_E_TIMEOUT: send_error(call, 504, rv_err_type(e), NULL, "timeout", rv_err_text(), ""); break;
    case RV_E_CANCELLED:
        send_error(call, 503, rv_err_type(e), NULL, "cancelled", "the server is stopping", "");
        break;
    default: rv_api_fault(call, e, "the model could not answer; the server's log says why"); break;
    }
}

/* ---- reading ---- */

rv_err rv_api_only(const json_t *object, const char *const *names, size_t n)
{
    return rv_api_only_in("", object, names, n);
}

rv_err rv_api_only_in(const char *where, const json_t *object, const char *const *names, size_t n)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) /* the macro's iterator wants it without const */
    {
        size_t i = 0;
        while (i < n && strcmp(key, names[i]) != 0) {
            i++;
        }
        if (i == n) {
            return rv_fail(RV_E_ARG, "%s%.40s: not a field of this request, or one that is not supported",
                           where, key);
        }
    }
    return RV_OK;
}

rv_err rv_api_get_name(const json_t *object, const char *field, const char **out)
{
    const char *text = NULL;
    RV_TRY(rv_json_get_string(object, field, &text, NULL));
    if (text && !*text) {
        return rv_fail(RV_E_ARG, "%s: expected a name, found an empty text", field);
    }
    if (text) {
        *out = text;
    }
    return RV_OK;
}

rv_err rv_api_query_only(rv_api_call *call, const char *const *names, size_t n)
{
    if (rv_http_query_only(call->http, names, n)) {
        return RV_OK;
    }
    char known[256] = "";
    for (size_t i = 0, used = 0; i < n && used < sizeof known; i++) {
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", names[i]);
    }
    return rv_fail(RV_E_ARG, "the query string has a parameter that is not known here; known are: %s", known);
}

rv_err rv_api_query_string(rv_api_call *call, const char *name, const char **out)
{
    rv_text value;
    rv_text_init(&value, call->api->mem, 8192);
    rv_err e = RV_OK;
    if (rv_http_query(call->http, name, &value)) {
        char *kept = value.failed ? NULL : rv_arena_strndup(call->arena, rv_text_get(&value), value.n);
        if (!kept) {
            e = rv_fail(RV_E_NOMEM, "%s: no memory to read it", name);
        } else if (value.n == 0 || !rv_utf8_valid(kept, value.n)) {
            e = rv_fail(RV_E_ARG, "%s: expected a text in UTF-8 that is not empty", name);
        } else {
            *out = kept;
        }
    }
    rv_text_deinit(&value);
    return e;
}

rv_err rv_api_query_int(rv_api_call *call, const char *name, int64_t low, int64_t high, int64_t *out)
{
    const char *text = NULL;
    RV_TRY(rv_api_query_string(call, name, &text));
    int64_t x = 0;
    if (!text) {
        return RV_OK;
    }
    if (!rv_parse_i64(rv_str_from(text), &x) || x < low || x > high) {
        return rv_fail(RV_E_ARG, "%s: expected an integer from %lld to %lld, found \"%.40s\"", name,
                       (long long)low, (long long)high, text);
    }
    *out = x;
    return RV_OK;
}

rv_err rv_api_query_bool(rv_api_call *call, const char *name, bool *out)
{
    static const char *const words[] = { "0", "1", "false", "true" };
    const char *text = NULL;
    RV_TRY(rv_api_query_string(call, name, &text));
    for (size_t i = 0; text && i < RV_COUNT(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return RV_OK;
        }
    }
    return text ? rv_fail(RV_E_ARG, "%s: expected true or false, 1 or 0, found \"%.40s\"", name, text)
                : RV_OK;
}

static bool read_body(rv_api_call *call)
{
    rv_str body = rv_http_body(call->http);
    if (rv_str_trim(body).n == 0) {
        rv_api_refuse(call, 400, NULL, NULL, "the body is empty; send a JSON object");
        return false;
    }
    rv_err e = rv_json_parse(body.at, body.n, &call->body);
    if (e == RV_E_FORMAT) {
        rv_api_refuse(call, 400, NULL, "invalid_json", "the body cannot be read: %s", rv_err_text());
        return false;
    }
    if (e) {
        rv_api_fault(call, e, "the body could not be read");
        return false;
    }
    if (!json_is_object(call->body)) {
        rv_api_refuse(call, 400, NULL, NULL, "the body is not a JSON object");
        return false;
    }
    return true;
}

/* ---- workers ---- */

static void run(rv_api_call *call)
{
    rv_api *api = call->api;
    rv_metric_add(&metrics[RUNNING], 1);
    if (atomic_load(rv_http_gone(call->http))) {
        rv_api_gone(call);
    } else if (rv_arena_new(api->mem, ARENA_MAX, &call->arena) != RV_OK) {
        rv_api_fault(call, RV_E_NOMEM, "no memory for this request");
    } else if (!call->route->body || read_body(call)) {
        call->route->run(call);
    }
    rv_metric_add(&metrics[RUNNING], -1);
    json_decref(call->body);
    rv_arena_free(call->arena);
    rv_free(api->mem, call);
}

static rv_api_call *next_call(rv_api *api, lane *from)
{
    pthread_mutex_lock(&api->lock);
    while (!from->first && !api->stopping) {
        pthread_cond_wait(&from->filled, &api->lock);
    }
    rv_api_call *call = from->first;
    if (call) {
        from->first = call->next;
        from->n--;
        rv_metric_add(&metrics[WAITING], -1);
    }
    pthread_mutex_unlock(&api->lock);
    return call;
}

static void *work(void *self)
{
    struct worker *w = self;
    rv_api_call *call;
    while ((call = next_call(w->api, &w->api->lanes[w->lane])) != NULL) {
        run(call);
    }
    return NULL;
}

/* False: the queue is full. */
static bool enqueue(rv_api *api, rv_api_call *call)
{
    lane *to = &api->lanes[call->route->lane];
    pthread_mutex_lock(&api->lock);
    bool room = to->n < api->max_queue && !api->stopping;
    if (room) {
        *(to->first ? &to->last->next : &to->first) = call;
        to->last = call;
        to->n++;
        rv_metric_add(&metrics[WAITING], 1);
        pthread_cond_signal(&to->filled);
    }
    pthread_mutex_unlock(&api->lock);
    return room;
}

/* ---- routing: net thread ---- */

/* Does path match the route's, and where does its {id} begin? */
static bool path_matches(const rv_api_route *route, const char *path, const char **id)
{
    const char *hole = strstr(route->path, "{id}");
    *id = NULL;
    if (!hole) {
        return strcmp(route->path, path) == 0;
    }
    size_t n = (size_t)(hole - route->path);
    if (strncmp(route->path, path, n) != 0 || path[n] == 0) {
        return false;
    }
    *id = path + n;
    return true;
}

/* Fixed paths stand before the {id} that would swallow them, so the first match is the one. */
static const rv_api_route *find_route(const char *method, const char *path, const char **id, char allow[128])
{
    const char *found = NULL; /* the path that matched: only routes with the same one count after it */
    allow[0] = 0;
    for (size_t i = 0; i < N_ROUTES; i++) {
        const char *here;
        if (!path_matches(&routes[i], path, &here) || (found && strcmp(found, routes[i].path) != 0)) {
            continue;
        }
        found = routes[i].path;
        if (strcmp(method, routes[i].method) == 0 ||
            (strcmp(method, "HEAD") == 0 && strcmp(routes[i].method, "GET") == 0)) {
            *id = here;
            return &routes[i];
        }
        size_t n = strlen(allow);
        snprintf(allow + n, 128 - n, "%s%s%s", n ? ", " : "", routes[i].method,
                 strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "");
    }
    return NULL;
}

/* JSON in UTF-8. No type, and the one of forms, are taken for it: that is what `curl -d` sends. */
static bool is_json(const char *type)
{
    static const char *const names[] = { "application/json", "application/x-www-form-urlencoded" };
    size_t n = type ? strcspn(type, ";") : 0;
    rv_str name = rv_str_trim(rv_str_of(type, n));
    bool known = name.n == 0;
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        known = known || (name.n == strlen(names[i]) && strncasecmp(name.at, names[i], name.n) == 0);
    }
    const char *charset = known && type ? strcasestr(type + n, "charset=") : NULL;
    return known && (!charset || strncasecmp(charset + 8 + (charset[8] == '"'), "utf-8", 5) == 0);
}

/* A page of another site may post here without being asked (a form can), though it cannot read the answer. Browsers say
 * where such a request comes from; programs do not send an Origin at all. */
static bool from_elsewhere(const rv_http_request *http)
{
    const char *origin = rv_http_header(http, "Origin"), *host = rv_http_header(http, "Host");
    if (!origin) {
        return false;
    }
    const char *name = strstr(origin, "://");
    return !name || !host || strcasecmp(name + 3, host) != 0;
}

static bool is_acceptable(rv_api_call *call)
{
    const char *coding = rv_http_header(call->http, "Content-Encoding");
    if (strcmp(call->route->method, "GET") != 0 && from_elsewhere(call->http)) {
        rv_api_refuse(call, 403, NULL, NULL, "pages of other sites may not write here");
    } else if (call->route->body && !is_json(rv_http_header(call->http, "Content-Type"))) {
        rv_api_refuse(call, 415, NULL, NULL, "send the body with Content-Type: application/json");
    } else if (coding && strcasecmp(coding, "identity") != 0) {
        rv_api_refuse(call, 415, NULL, NULL, "send the body without Content-Encoding");
    } else {
        return true;
    }
    return false;
}

/* Health says nothing that is secret, and is asked by who has no key. */
static bool needs_key(const rv_api *api, const rv_http_request *http)
{
    const char *path = rv_http_path(http);
    return api->keys && strcmp(path, "/health") != 0 && strcmp(path, "/v1/health") != 0;
}

bool rv_api_admit(void *self, const rv_http_request *http)
{
    const rv_api *api = self;
    return !needs_key(api, http) || rv_api_keys_find(api->keys, rv_http_header(http, "Authorization"));
}

/* Before a route is looked for: who has no key learns nothing of them. */
static bool has_key(rv_api_call *call)
{
    if (!needs_key(call->api, call->http)) {
        return true;
    }
    call->key = rv_api_keys_find(call->api->keys, rv_http_header(call->http, "Authorization"));
    if (!call->key) {
        rv_api_refuse(call, 401, NULL, "invalid_api_key", "send an API key as Authorization: Bearer KEY");
    }
    return call->key != NULL;
}

static void refuse_route(rv_api_call *call, const char *method, const char *allow)
{
    if (strcmp(method, "OPTIONS") == 0 && (allow[0] || strcmp(rv_http_path(call->http), "*") == 0)) {
        char header[192];
        snprintf(header, sizeof header, "Allow: %s, OPTIONS\r\n",
                 allow[0] ? allow : "GET, HEAD, POST, DELETE");
        answer(call, 204, NULL, header, "", 0);
    } else if (allow[0]) {
        char header[192], body[256];
        snprintf(header, sizeof header, "Allow: %s, OPTIONS\r\n", allow);
        int n = snprintf(body, sizeof body,
                         "{\"error\":{\"message\":\"this path takes "
                         "%s\",\"type\":\"invalid_request_error\",\"param\":null,"
                         "\"code\":\"method_not_allowed\"}}",
                         allow);
        answer(call, 405, "application/json", header, body, (size_t)n);
    } else {
        rv_api_refuse(call, 404, NULL, "unknown_url", "no such path: %.100s", rv_http_path(call->http));
    }
}

void rv_api_handle(void *self, rv_http_request *request)
{
    rv_api *api = self;
    rv_api_call first = {
        .api = api, .pipeline = api->pipeline, .http = request, .started_ms = rv_clock_ms()
    };
    char allow[128];
    const char *method = rv_http_method(request);
    if (!has_key(&first)) {
        return;
    }
    first.route = find_route(method, rv_http_path(request), &first.id, allow);
    if (!first.route) {
        refuse_route(&first, method, allow);
        return;
    }
    if (!is_acceptable(&first)) {
        return;
    }
    rv_api_call *call = rv_new(api->mem, sizeof *call);
    if (!call) {
        rv_api_fault(&first, RV_E_NOMEM, "no memory for this request");
        return;
    }
    *call = first;
    if (!enqueue(api, call)) {
        rv_api_refuse(call, 503, NULL, "overloaded", "%zu requests are waiting already; try again later",
                      api->max_queue);
        rv_free(api->mem, call);
    }
}

/* ---- life ---- */

rv_err rv_api_new(const rv_alloc *mem, rv_pipeline *pipeline, rv_api_options how, rv_api **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_metrics);
    rv_api *api = rv_new(mem, sizeof *api);
    if (!api) {
        return rv_fail(RV_E_NOMEM, "starting the workers");
    }
    *api = (rv_api){ .mem = mem, .pipeline = pipeline, .max_queue = how.max_queue, .keys = how.keys };
    pthread_mutex_init(&api->lock, NULL);
    for (size_t i = 0; i < RV_API_LANES; i++) {
        pthread_cond_init(&api->lanes[i].filled, NULL);
    }
    size_t n = (size_t)how.workers + QUICK_THREADS;
    api->version = rv_strdup(mem, how.version);
    api->workers = rv_new_array(mem, n, sizeof *api->workers);
    if (!api->version || !api->workers) {
        rv_api_free(api);
        return rv_fail(RV_E_NOMEM, "starting the workers");
    }
    for (size_t i = 0; i < n; i++) {
        api->workers[i] =
            (struct worker){ .api = api, .lane = i < QUICK_THREADS ? RV_API_QUICK : RV_API_GENERATE };
        int e = pthread_create(&api->workers[i].thread, NULL, work, &api->workers[i]);
        if (e) {
            rv_api_free(api);
            return rv_fail(RV_E_IO, "worker thread %zu of %zu could not be started: %s", i + 1, n,
                           strerror(e));
        }
        api->n_workers++;
    }
    *out = api;
    return RV_OK;
}

void rv_api_free(rv_api *api)
{
    if (!api) {
        return;
    }
    pthread_mutex_lock(&api->lock);
    api->stopping = true;
    for (size_t i = 0; i < RV_API_LANES; i++) {
        pthread_cond_broadcast(&api->lanes[i].filled);
    }
    pthread_mutex_unlock(&api->lock);
    for (size_t i = 0; i < api->n_workers; i++) {
        pthread_join(api->workers[i].thread, NULL);
    }
    for (size_t i = 0; i < RV_API_LANES; i++) {
        pthread_cond_destroy(&api->lanes[i].filled);
    }
    pthread_mutex_destroy(&api->lock);
    rv_free(api->mem, api->workers);
    rv_free(api->mem, api->version);
    rv_free(api->mem, api);
}
