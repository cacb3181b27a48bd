/* POST /v1/query, whole or as a stream, and POST /v1/feedback. */
#include "api/api_priv.h"
#include "store/session.h"

#include <string.h>

enum { QUERY_MAX = 256 << 10, CORRECTION_MAX = 64 << 10 };

/* Who may see the question is said in the router's words. What is confidential is answered and not written down; all
 * models are on this machine, so "local-only" asks for nothing more. */
static rv_err read_privacy(const json_t *constraints, bool *private)
{
    static const char *const levels[] = { "public", "internal", "confidential", "local-only" };
    const char *level = NULL;
    RV_TRY(rv_json_get_string(constraints, "privacy", &level, NULL));
    for (size_t i = 0; level && i < RV_COUNT(levels); i++) {
        if (strcmp(level, levels[i]) == 0) {
            *private = i == 2;
            return RV_OK;
        }
    }
    return level ? rv_fail(RV_E_ARG,
                           "constraints.privacy: expected \"public\", \"internal\", \"confidential\" or "
                           "\"local-only\"")
                 : RV_OK;
}

static rv_err read_constraints(const json_t *o, rv_request *r)
{
    static const char *const fields[] = { "max_latency_ms", "max_tokens", "temperature", "top_p", "privacy" };
    int64_t max_tokens = 0;
    RV_TRY(rv_api_only(o, fields, RV_COUNT(fields)));
    RV_TRY(rv_json_get_double(o, "max_latency_ms", 1, 1e9, &r->max_latency_ms));
    RV_TRY(rv_json_get_int(o, "max_tokens", 1, INT32_MAX, &max_tokens));
    RV_TRY(rv_json_get_double(o, "temperature", 0, 2, &r->temperature));
    RV_TRY(rv_json_get_double(o, "top_p", 0, 1, &r->top_p));
    r->max_tokens = (size_t)max_tokens;
    return read_privacy(o, &r->private);
}

static rv_err read_query(const json_t *o, rv_request *r, bool *stream, bool *durable)
{
    static const char *const fields[] = { "query", "session_id", "user", "constraints", "stream", "memory" };
    const char *memory = NULL;
    json_t *constraints = NULL;
    size_t session_bytes = 0;
    RV_TRY(rv_api_only(o, fields, RV_COUNT(fields)));
    RV_TRY(rv_json_need_string(o, "query", &r->query, &r->query_bytes));
    RV_TRY(rv_json_get_string(o, "session_id", &r->session_id, &session_bytes));
    RV_TRY(rv_json_get_string(o, "memory", &memory, NULL));
    *durable = memory != NULL;
    if (memory && strcmp(memory, "durable") != 0) {
        return rv_fail(RV_E_ARG, "memory: expected \"durable\", found \"%.40s\"", memory);
    }
    RV_TRY(rv_api_get_name(o, "user", &r->user));
    RV_TRY(rv_json_get_bool(o, "stream", stream));
    RV_TRY(rv_json_get_object(o, "constraints", &constraints));
    if (rv_str_trim(rv_str_of(r->query, r->query_bytes)).n == 0) {
        return rv_fail(RV_E_ARG, "query: expected a question, found an empty text");
    }
    if (r->query_bytes > QUERY_MAX) {
        return rv_fail(RV_E_TOO_LARGE,
                       "query: at most %d bytes, found %zu; add long texts to the memory instead", QUERY_MAX,
                       r->query_bytes);
    }
    if (r->session_id) {
        RV_TRY(rv_session_check_id(r->session_id, session_bytes));
    }
    return constraints ? read_constraints(constraints, r) : RV_OK;
}

static bool send_piece(void *self, const rv_piece *piece)
{
    if (piece->n == 0) {
        return true;
    }
    rv_text json;
    rv_text_init(&json, &rv_heap, RV_API_TEXT_MAX);
    rv_text_adds(&json, "{\"type\":\"token\",\"text\":");
    rv_json_string(&json, piece->text, piece->n);
    rv_text_addc(&json, '}');
    bool sent = rv_api_event(self, &json);
    rv_text_deinit(&json);
    return sent;
}

/* The last event is the whole answer, so that a reader of the stream misses nothing the other form has. */
static void end_stream(rv_api_call *call, json_t *answer)
{
    rv_text json;
    rv_text_init(&json, &rv_heap, RV_API_TEXT_MAX);
    json_t *done = json_pack("{s:s}", "type", "done");
    if (done && answer && json_object_update(done, answer) == 0) {
        rv_json_text(done, &json);
        rv_api_event(call, &json);
        rv_api_end(call);
    } else {
        rv_api_fault(call, RV_E_NOMEM, "the answer does not fit into memory");
    }
    json_decref(done);
    json_decref(answer);
    rv_text_deinit(&json);
}

void rv_api_query(rv_api_call *call)
{
    rv_request r;
    bool stream = false, durable = false;
    if (!rv_api_has_model(call)) {
        return;
    }
    rv_err e = rv_request_init(&r, call->arena);
    if (!e) {
        e = read_query(call->body, &r, &stream, &durable);
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    r.key = call->key;
    r.extra.cancel = rv_http_gone(call->http);
    r.extra.self = call;
    r.extra.on_piece = stream ? send_piece : NULL;
    e = rv_pipeline_run(call->pipeline, &r);
    rv_api_count_tokens(&r.generated);
    if (!e && durable && call->pipeline->memory) {
        rv_memory_flush(
            call->pipeline
                ->memory); /* turn, episode and witness are durable anyway; now the counts of use too */
    }
    if (atomic_load(rv_http_gone(call->http))) {
        rv_api_gone(call);
    } else if (e) {
        rv_api_generation_failed(call, e, "query");
    } else if (stream) {
        end_stream(call, rv_request_json(&r));
    } else {
        rv_api_send(call, 200, rv_request_json(&r));
    }
}

/* ---- feedback ---- */

static rv_err read_feedback(const json_t *o, rv_feedback *f)
{
    static const char *const fields[] = { "request_id", "rating", "correction" };
    int64_t rating = 0;
    size_t n = 0;
    RV_TRY(rv_json_need_string(o, "request_id", &f->request_id, NULL));
    RV_TRY(rv_api_only(o, fields, RV_COUNT(fields)));
    RV_TRY(rv_json_get_int(o, "rating", 1, 5, &rating));
    RV_TRY(rv_json_get_string(o, "correction", &f->correction, &n));
    f->rating = (int)rating;
    if (f->correction && rv_str_trim(rv_str_of(f->correction, n)).n == 0) {
        return rv_fail(RV_E_ARG, "correction: expected a text, found an empty one");
    }
    if (n > CORRECTION_MAX) {
        return rv_fail(RV_E_TOO_LARGE, "correction: at most %d bytes, found %zu", CORRECTION_MAX, n);
    }
    if (!rating && !f->correction) {
        return rv_fail(RV_E_ARG, "send a rating from 1 to 5, a correction, or both");
    }
    return RV_OK;
}

void rv_api_feedback(rv_api_call *call)
{
    rv_feedback f = { 0 };
    rv_feedback_done done = { 0 };
    const rv_pipeline *p = call->pipeline;
    if (!p->db || !p->memory) {
        rv_api_refuse(call, 503, NULL, NULL, "this server has no memory open");
        return;
    }
    rv_err e = read_feedback(call->body, &f);
    if (!e) {
        e = rv_pipeline_feedback(p, call->key ? call->key : "", &f, &call->retry_s, &done);
    }
    if (!e && f.correction) {
        rv_pipeline_corrected(p, f.request_id);
    }
    if (e == RV_E_NOT_FOUND) {
        rv_api_refuse(call, 404, "request_id", "request_not_found", "no request has the id \"%.60s\"",
                      f.request_id);
        return;
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    json_t *answer = json_pack("{s:s, s:s}", "status", "stored", "request_id", f.request_id);
    if (done.fact) {
        json_object_set_new(answer, "fact", json_integer(done.fact));
    }
    if (done.qa) {
        json_object_set_new(answer, "qa", json_integer(done.qa));
    }
    rv_api_send(call, 200, answer);
}
