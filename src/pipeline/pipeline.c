/* One request, top to bottom. Read rv_pipeline_run first; everything else in the program is called from there. */
#include "pipeline/pipeline_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/rng.h"
#include "store/policy.h"
#include "store/session.h"
#include "store/witness.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

const char *const rv_stage_names[RV_STAGES] = { "embed", "memory", "router", "attend", "backend", "learn" };

#define STAGE_TIME(stage)                                                                                    \
    {                                                                                                        \
        .kind = RV_HISTOGRAM, .name = "ruvllm_stage_latency_seconds",                                        \
        .help = "Time of each stage of a request.", .labels = "stage=\"" stage "\""                          \
    }
#define STAGE_FAILURES(stage)                                                                                \
    {                                                                                                        \
        .kind = RV_COUNTER, .name = "ruvllm_stage_failures_total", .help = "Stages that failed.",            \
        .labels = "stage=\"" stage "\""                                                                      \
    }
static rv_metric stage_time[RV_STAGES] = { STAGE_TIME("embed"),  STAGE_TIME("memory"),  STAGE_TIME("router"),
                                           STAGE_TIME("attend"), STAGE_TIME("backend"), STAGE_TIME("learn") };
static rv_metric stage_failures[RV_STAGES] = { STAGE_FAILURES("embed"),   STAGE_FAILURES("memory"),
                                               STAGE_FAILURES("router"),  STAGE_FAILURES("attend"),
                                               STAGE_FAILURES("backend"), STAGE_FAILURES("learn") };
static rv_metric counters[] = {
    { .kind = RV_COUNTER,
      .name = "ruvllm_router_fallback_total",
      .help = "Requests the router did not decide." },
    { .kind = RV_COUNTER, .name = "ruvllm_prompt_tokens_total", .help = "Tokens of prompts in the loop." },
    { .kind = RV_COUNTER, .name = "ruvllm_tokens_generated_total", .help = "Tokens generated in the loop." },
    { .kind = RV_COUNTER,
      .name = "ruvllm_router_escalations_total",
      .help = "Answers that a larger tier gave again." },
};
enum { FALLBACKS, PROMPT_TOKENS, GENERATED_TOKENS, ESCALATIONS };

static void register_metrics(void)
{
    rv_metrics_register(stage_time, RV_STAGES);
    rv_metrics_register(stage_failures, RV_STAGES);
    rv_metrics_register(counters, RV_COUNT(counters));
}

void rv_stage_count_fallback(void)
{
    rv_metric_add(&counters[FALLBACKS], 1);
}

void rv_stage_count_tokens(size_t prompt, size_t completion)
{
    rv_metric_add(&counters[PROMPT_TOKENS], (int64_t)prompt);
    rv_metric_add(&counters[GENERATED_TOKENS], (int64_t)completion);
}

rv_err rv_pipeline_setup(rv_pipeline *p)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_metrics);
    if (p->max_sources == 0) {
        p->max_sources = 5;
    }
    if (!p->db) {
        return RV_OK;
    }
    RV_TRY(rv_session_setup(p->db));
    RV_TRY(rv_witness_setup(p->db));
    RV_TRY(rv_policy_setup(p->db));
    RV_TRY(rv_episode_setup(p->db));
    RV_TRY(rv_pipeline_feedback_setup(p->db));
    RV_TRY(rv_judge_setup(p->db));
    RV_TRY(rv_loop_setup(p->db));
    return rv_forget_setup(p->db);
}

rv_err rv_request_init(rv_request *r, rv_arena *arena)
{
    *r = (rv_request){ .arena = arena, .temperature = -1, .top_p = -1 };
    r->extra.n_logprobs = -1;
    r->extra.sampling = rv_sampling_default();
    return rv_uuid(r->request_id);
}

static rv_err check_request(rv_request *r)
{
    size_t n = r->query ? (r->query_bytes ? r->query_bytes : strlen(r->query)) : 0;
    if (rv_str_trim(rv_str_of(r->query, n)).n == 0 || !rv_utf8_valid(r->query, n) || memchr(r->query, 0, n)) {
        return rv_fail(RV_E_ARG, "query: expected a text in UTF-8 that is not empty and has no zero bytes");
    }
    r->query_bytes = n;
    if (r->session_id) {
        return rv_session_check_id(r->session_id, strlen(r->session_id));
    }
    char *id = rv_arena_take(r->arena, 37);
    if (!id) {
        return rv_fail(RV_E_NOMEM, "a request");
    }
    r->session_id = id;
    return rv_uuid(id);
}

/* Ends a stage that began at *since: its time, and if it failed the reason where the caller will see it. */
static rv_err end_stage(rv_request *r, rv_stage stage, double *since, rv_err e)
{
    double now = rv_clock_ms();
    r->stage_ms[stage] += now - *since;
    *since = now;
    if (e) {
        rv_metric_add(&stage_failures[stage],
                      rv_err_http(e) >= 500); /* a client that asks wrongly or leaves is no failure */
        char *note = rv_arena_strdup(r->arena, rv_err_text());
        r->stage_note[stage] = note ? note : "failed, and memory ran out";
    }
    return e;
}

/* For stages the request can do without. */
static void end_soft_stage(rv_request *r, rv_stage stage, double *since, rv_err e)
{
    if (end_stage(r, stage, since, e)) {
        rv_log(RV_LOG_WARN, "stage.failed", "stage", rv_stage_names[stage], "request", r->request_id, "error",
               r->stage_note[stage], (char *)NULL);
    }
}

/* attend and backend. The model is held from here on: the budget for passages comes from its context. Reading its file is the
 * backend's time. */
static rv_err answer_once(const rv_pipeline *p, rv_request *r, double *since)
{
    rv_engine *engine = NULL;
    rv_err e = rv_backend_take(p->backend, r->routed_model, &engine);
    r->stage_ms[RV_STAGE_BACKEND] += rv_clock_ms() - *since;
    *since = rv_clock_ms();
    if (e) {
        return end_stage(r, RV_STAGE_BACKEND, since, e);
    }
    r->n_sources = 0;
    end_soft_stage(r, RV_STAGE_ATTEND, since, rv_stage_attend(p, r, engine));
    e = end_stage(r, RV_STAGE_BACKEND, since, rv_stage_backend(p, r));
    rv_backend_put(p->backend, engine);
    return e;
}

/* A larger model takes longer than this one did. */
static bool has_time(const rv_request *r)
{
    return r->max_latency_ms <= 0 || 2 * rv_stage_time(r) < r->max_latency_ms;
}

/* Instead of the larger model's answer, which did not come. */
static rv_err show_draft(rv_request *r, const rv_request *draft)
{
    const char *why = r->stage_note[RV_STAGE_BACKEND];
    rv_log(RV_LOG_WARN, "stage.failed", "stage", rv_stage_names[RV_STAGE_BACKEND], "request", r->request_id,
           "model", r->routed_model, "error", why, "using", draft->routed_model, (char *)NULL);
    double ms[RV_STAGES];
    memcpy(ms, r->stage_ms, sizeof ms);
    *r = *draft;
    memcpy(r->stage_ms, ms, sizeof ms);
    r->stage_note[RV_STAGE_BACKEND] = why;
    r->reason = "the larger model did not answer";
    return rv_stage_backend_show(r);
}

/* A small tier's answer may be only a draft: when it was not sure, a larger one answers, and nobody sees the draft. */
static rv_err answer(const rv_pipeline *p, rv_request *r, double *since)
{
    rv_request draft;
    for (;;) {
        r->held_back = rv_stage_router_may_escalate(p, r);
        rv_err e = answer_once(p, r, since);
        if (e && e != RV_E_CANCELLED && r->n_thrown > 0 && r->shown == 0) {
            return show_draft(r, &draft);
        }
        RV_TRY(e);
        if (!r->held_back) {
            return RV_OK;
        }
        draft = *r;
        if (!has_time(r) || !rv_stage_router_escalate(p, r)) {
            return rv_stage_backend_show(r);
        }
        rv_metric_add(&counters[ESCALATIONS], 1);
    }
}

static rv_err run_stages(const rv_pipeline *p, rv_request *r)
{
    double start = rv_clock_ms(), since = start;
    end_soft_stage(r, RV_STAGE_EMBED, &since, rv_stage_embed(p, r));
    end_soft_stage(r, RV_STAGE_MEMORY, &since, rv_stage_memory(p, r));
    RV_TRY(end_stage(r, RV_STAGE_ROUTER, &since, rv_stage_router(p, r)));

    rv_err e = rv_recall(r);
    RV_TRY(e || r->text ? end_stage(r, RV_STAGE_BACKEND, &since, e) : answer(p, r, &since));
    r->total_ms = rv_clock_ms() - start; /* for the record; with the record's own time below */
    end_soft_stage(r, RV_STAGE_LEARN, &since, rv_stage_learn(p, r));
    rv_stage_router_try(p, r);
    r->total_ms = rv_clock_ms() - start;
    return RV_OK;
}

void rv_pipeline_enter(const rv_pipeline *p)
{
    if (p->quiet) {
        pthread_rwlock_rdlock(p->quiet);
    }
}

void rv_pipeline_leave(const rv_pipeline *p)
{
    if (p->quiet) {
        pthread_rwlock_unlock(p->quiet);
    }
}

rv_err rv_pipeline_run(const rv_pipeline *p, rv_request *r)
{
    RV_TRY(check_request(r));
    rv_pipeline_enter(p);
    rv_err e = run_stages(p, r);
    rv_pipeline_leave(p);
    for (int i = 0; i < RV_STAGES; i++) {
        if (r->stage_ms[i] >
            0) { /* all of its runs: a request with drafts attends and generates several times */
            rv_metric_time(&stage_time[i], r->stage_ms[i]);
        }
    }
    if (r->held) {
        rv_router_put(p->routers, r->held);
        r->held = NULL;
    }
    return e;
}

static rv_err prepare_stages(const rv_pipeline *p, rv_request *r)
{
    rv_engine *engine = NULL;
    double since = rv_clock_ms();
    end_soft_stage(r, RV_STAGE_EMBED, &since, rv_stage_embed(p, r));
    end_soft_stage(r, RV_STAGE_MEMORY, &since, rv_stage_memory(p, r));
    RV_TRY(end_stage(r, RV_STAGE_ROUTER, &since, rv_stage_router(p, r)));
    RV_TRY(rv_backend_take(p->backend, r->routed_model, &engine));
    since = rv_clock_ms();
    rv_err e = end_stage(r, RV_STAGE_ATTEND, &since, rv_stage_attend(p, r, engine));
    rv_backend_put(p->backend, engine);
    for (int i = 0; i < RV_STAGES; i++) {
        r->total_ms += r->stage_ms[i];
    }
    return e;
}

rv_err rv_pipeline_prepare(const rv_pipeline *p, rv_request *r)
{
    RV_TRY(check_request(r));
    rv_pipeline_enter(p);
    rv_err e = prepare_stages(p, r);
    rv_router_put(p->routers, r->held);
    r->held = NULL;
    rv_pipeline_leave(p);
    return e;
}

/* ---- the answer as JSON ---- */

static json_t *sources_json(const rv_request *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_sources; i++) {
        const rv_source *s = &r->sources[i];
        json_t *one = json_pack("{s:I, s:s, s:s, s:f, s:s}", "id", (json_int_t)s->id, "type", s->type, "text",
                                s->text, "score", s->score, "origin", s->origin);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* The answers that were not shown, because they were not sure; NULL: there was none, and no field. */
static json_t *drafts_json(const rv_request *r)
{
    json_t *list = r->n_thrown > 0 ? json_array() : NULL;
    for (size_t i = 0; i < r->n_thrown; i++) {
        const rv_thrown *t = &r->thrown[i];
        json_array_append_new(list, json_pack("{s:s, s:f, s:I}", "model", t->model, "confidence",
                                              (double)t->draft.confidence, "tokens", (json_int_t)t->tokens));
    }
    return list;
}

static json_t *probs_json(const rv_request *r)
{
    return json_pack("[f, f, f, f]", r->model_probs[0], r->model_probs[1], r->model_probs[2],
                     r->model_probs[3]);
}

static json_t *notes_json(const rv_request *r)
{
    json_t *notes = json_object();
    for (int i = 0; i < RV_STAGES; i++) {
        if (r->stage_note[i] &&
            json_object_set_new(notes, rv_stage_names[i], json_string(r->stage_note[i]))) {
            json_decref(notes);
            return NULL;
        }
    }
    return notes;
}

const char *rv_request_finish(const rv_request *r)
{
    return r->late ? "time" : r->generated.finish == RV_FINISH_LENGTH ? "length" : "stop";
}

json_t *rv_request_json(const rv_request *r)
{
    const double *ms = r->stage_ms;
    /* "o" takes the reference, and a NULL among them makes the whole NULL; "o*" leaves its field out. */
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:f, s:o, s:{s:s, s:I, s:f, s:f, s:f, s:o, s:b, s:s, s:o*}, s:{s:I, s:I, s:I},"
        " s:{s:f, s:f, s:f, s:f, s:f, s:f}, s:o}",
        "request_id", r->request_id, "session_id", r->session_id, "text", r->text, "finish_reason",
        rv_request_finish(r), "confidence", r->confidence, "sources", sources_json(r), "routing_info",
        "model", r->routed_model, "context_size", (json_int_t)r->context_tokens, "temperature",
        (double)r->sampling.temperature, "top_p", (double)r->sampling.top_p, "confidence",
        r->router_confidence, "model_probs", probs_json(r), "fallback", (int)r->fallback, "reason", r->reason,
        "drafts", drafts_json(r), "usage", "prompt_tokens", (json_int_t)r->generated.prompt_tokens,
        "completion_tokens", (json_int_t)r->generated.completion_tokens, "cached_tokens",
        (json_int_t)r->generated.cached_tokens, "latency", "embedding_ms", ms[RV_STAGE_EMBED], "retrieval_ms",
        ms[RV_STAGE_MEMORY], "routing_ms", ms[RV_STAGE_ROUTER], "attention_ms", ms[RV_STAGE_ATTEND],
        "generation_ms", ms[RV_STAGE_BACKEND], "total_ms", r->total_ms, "stages", notes_json(r));
}
