/* learn: what happened becomes durable. Turn, episode and witness record are one transaction: either all of it was, or
 * nothing. */
#include "pipeline/pipeline_priv.h"

#include "base/clock.h"
#include "store/witness.h"

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

static rv_err write_episode(sqlite3 *conn, const rv_request *r, const char *question, int64_t now)
{
    int64_t ids[RV_PIPELINE_MAX_SOURCES];
    for (size_t i = 0; i < r->n_sources; i++) {
        ids[i] = r->sources[i].id;
    }
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
                           .created_ms = now };
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
    return rv_db_commit(p->db);
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
