/* learn: what happened becomes durable. Turn, episode and witness record are one transaction: either all of it was, or
 * nothing. */
#include "pipeline/pipeline_priv.h"

#include "base/clock.h"
#include "store/witness.h"

#include <math.h>

enum { RECORD_MAX_BYTES = 64 << 20, EPISODE_MAX_BYTES = 64 << 20 };

static rv_err write_turn(sqlite3 *conn, const rv_request *r, const char *question, int64_t now)
{
    rv_turn turn = { .request_id = r->request_id,
                     .question = question,
                     .answer = r->text,
                     .user = r->user ? r->user : "",
                     .created_ms = now };
    return rv_session_append(conn, r->session_id, &turn);
}

static json_t *floats_json(const float *at, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_real((double)at[i]));
    }
    return list;
}

/* [[distance or null, kind], ...]: what the router saw of what memory found, and what it will learn from. */
static json_t *hits_json(const rv_request *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->hits.n && i < RV_SLOT_HITS; i++) {
        double distance = 1 - r->hits.at[i].vector_score;
        json_array_append_new(list,
                              json_pack("[o, i]", isfinite(distance) ? json_real(distance) : json_null(),
                                        rv_stage_router_kind(r->hits.at[i].type)));
    }
    return list;
}

static json_t *thrown_json(const rv_request *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_thrown; i++) {
        const rv_thrown *t = &r->thrown[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:f, s:s, s:I, s:o}", "model", t->model, "confidence",
                                        (double)t->draft.confidence, "text", t->text, "tokens",
                                        (json_int_t)t->tokens, "says", floats_json(t->draft.says, RV_SAYS)));
    }
    return list;
}

static void add_decision(const rv_request *r, json_t *body)
{
    const rv_router *router = rv_router_held_get(r->held);
    json_t *tiers = json_array();
    for (size_t t = 0; t < r->routed.tiers; t++) {
        json_array_append_new(tiers, json_string(rv_router_tier_name(router, t)));
    }
    json_object_set_new(body, "version", json_integer((json_int_t)rv_router_held_version(r->held)));
    json_object_set_new(body, "seen", json_boolean(r->routed.seen));
    json_object_set_new(body, "confidence", json_real(r->router_confidence));
    json_object_set_new(body, "tiers", tiers);
    json_object_set_new(body, "p_right", floats_json(r->routed.p_right, r->routed.tiers));
    json_object_set_new(body, "cost", floats_json(r->routed.cost, r->routed.tiers));
    if (r->n_thrown > 0) {
        json_object_set_new(body, "drafts", thrown_json(r));
    }
}

/* How the model was chosen, for learning and for who asks why. */
static rv_err route_text(const rv_request *r, const char **out)
{
    float says[RV_SAYS];
    rv_stage_router_says(r, says);
    json_t *body = json_pack("{s:b, s:b, s:s, s:o, s:o, s:o, s:I}", "explored", (int)r->explored, "fallback",
                             (int)r->fallback, "reason", r->reason, "hits", hits_json(r), "cover",
                             floats_json(r->cover, RV_COVER), "says", floats_json(says, RV_SAYS), "tokens",
                             (json_int_t)(r->generated.prompt_tokens + r->generated.completion_tokens));
    const char *copy = NULL;
    rv_text text;
    rv_text_init(&text, &rv_heap, RECORD_MAX_BYTES);
    if (body && r->key) {
        json_object_set_new(body, "key", json_string(r->key));
    }
    if (body && r->held && r->decided) {
        add_decision(r, body);
    }
    if (body) {
        rv_json_text(body, &text);
        copy = rv_text_check(&text) ? NULL : rv_arena_strndup(r->arena, rv_text_get(&text), text.n);
    }
    rv_text_deinit(&text);
    json_decref(body);
    if (!copy) {
        return rv_fail(RV_E_NOMEM, "recording how the model was chosen");
    }
    *out = copy;
    return RV_OK;
}

static rv_err write_episode(sqlite3 *conn, const rv_request *r, const char *question, int64_t now)
{
    int64_t ids[RV_PIPELINE_MAX_SOURCES];
    for (size_t i = 0; i < r->n_sources; i++) {
        ids[i] = r->sources[i].id;
    }
    const char *route = NULL;
    RV_TRY(route_text(r, &route));
    rv_episode episode = { .request_id = r->request_id,
                           .session_id = r->session_id,
                           .user = r->user,
                           .question = question,
                           .answer = r->text,
                           .model = r->routed_model,
                           .sources = ids,
                           .n_sources = r->n_sources,
                           .confidence = r->confidence,
                           .total_ms = r->total_ms,
                           .created_ms = now,
                           .route = route };
    return rv_episode_append(conn, &episode);
}

static rv_err write_witness(sqlite3 *conn, const rv_request *r, const char *question)
{
    json_t *ids = json_array();
    for (size_t i = 0; i < r->n_sources; i++) {
        json_array_append_new(ids, json_integer((json_int_t)r->sources[i].id));
    }
    json_t *body =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:b, s:s, s:f, s:I, s:I}", "session", r->session_id, "user",
                  r->user ? r->user : "", "question", question, "answer", r->text, "sources", ids, "model",
                  r->routed_model, "fallback", (int)r->fallback, "reason", r->reason, "confidence",
                  r->confidence, "prompt_tokens", (json_int_t)r->generated.prompt_tokens, "completion_tokens",
                  (json_int_t)r->generated.completion_tokens);
    rv_text text;
    rv_text_init(&text, &rv_heap, RECORD_MAX_BYTES);
    rv_err e = body ? RV_OK : rv_fail(RV_E_NOMEM, "writing the witness record");
    if (!e) {
        rv_json_text(body, &text);
        e = rv_text_check(&text);
    }
    if (!e) {
        e = rv_witness_append(conn, "request", r->request_id, rv_text_get(&text), text.n);
    }
    rv_text_deinit(&text);
    json_decref(body);
    return e;
}

/* A hint and no record: queued, and written with others. */
static void count_use(const rv_pipeline *p, const rv_request *r)
{
    int64_t ids[RV_PIPELINE_MAX_SOURCES];
    for (size_t i = 0; i < r->n_sources; i++) {
        ids[i] = r->sources[i].id;
    }
    if (p->memory && r->n_sources > 0) {
        rv_memory_reweigh_later(p->memory, rv_memory_of(r->user),
                                &(rv_memory_outcome){ .used = ids, .n_used = r->n_sources });
    }
}

rv_err rv_stage_learn(const rv_pipeline *p, rv_request *r)
{
    if (r->private || !p->db) {
        r->stage_note[RV_STAGE_LEARN] =
            r->private ? "private: nothing was recorded" : "no store: nothing was recorded";
        return RV_OK;
    }
    const char *question = rv_arena_strndup(r->arena, r->query, r->query_bytes);
    if (!question) {
        return rv_fail(RV_E_NOMEM, "recording the request");
    }
    int64_t now = rv_clock_wall_ms();
    sqlite3 *conn;
    RV_TRY(rv_db_begin(p->db, &conn));
    if (p->learning && p->routers) {
        rv_router_count_answer(p->routers);
    }
    rv_err e = write_turn(conn, r, question, now);
    if (!e && p->learning) {
        e = write_episode(conn, r, question, now);
    }
    if (!e) {
        e = write_witness(conn, r, question);
    }
    if (e) {
        rv_db_rollback(p->db);
        return e;
    }
    if (!p->learning) {
        r->stage_note[RV_STAGE_LEARN] = "learning is off: no episode, so no feedback";
    }
    RV_TRY(rv_db_commit(p->db));
    count_use(p, r);
    return RV_OK;
}

void rv_pipeline_corrected(const rv_pipeline *p, const char *request_id)
{
    rv_arena *arena;
    rv_episode e;
    if (!p->adapter_loop || rv_arena_new(&rv_heap, EPISODE_MAX_BYTES, &arena)) {
        return;
    }
    if (!rv_episode_get(p->db, request_id, arena, &e)) {
        rv_adapter_loop_notify(p->adapter_loop, e.model, e.user);
    }
    rv_arena_free(arena);
}
