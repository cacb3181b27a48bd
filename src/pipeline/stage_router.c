/* router: which model answers. The router learned from rated requests decides between the tiers there are; without one, when it
 * is not sure, and when the request names its model, that is said and nothing is made to look like a decision. Now and then a tier
 * is drawn instead (never for private or hurried requests), because what is never tried is never known; how likely each draw was is
 * kept with the episode. */
#include "pipeline/pipeline_priv.h"

#include "base/rng.h"

#include <math.h>
#include <string.h>

enum { HURRIED_MS = 200, MAX_DISTANCES = 64 };

static void choose_sampling(rv_request *r)
{
    r->sampling = r->extra.sampling;
    if (!r->sampling_set) {
        r->sampling = (rv_sampling){
            .temperature = 0, .top_p = 1, .repeat_penalty = 1, .seed = r->extra.sampling.seed
        };
    }
    if (r->temperature >= 0) {
        r->sampling.temperature = (float)r->temperature;
    }
    if (r->top_p >= 0) {
        r->sampling.top_p = (float)r->top_p;
    }
}

static bool wants_loop(const rv_request *r)
{
    return !r->model || strcmp(r->model, "auto") == 0;
}

/* ---- what the router sees ---- */

int rv_stage_router_kind(const char *type)
{
    static const struct {
        const char *type;
        int kind;
    } kinds[] = { { "note", 1 }, { "qa", 2 }, { "fact", 4 } };
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        if (strcmp(type, kinds[i].type) == 0) {
            return kinds[i].kind;
        }
    }
    return 0; /* documents and their chunks */
}

static void fill_input(const rv_request *r, const rv_router *router, rv_slot_input *in, float *distances,
                       uint8_t *kinds)
{
    *in = (rv_slot_input){ .text = r->query,
                           .n = r->query_bytes,
                           .vector = rv_router_dim(router) > 0 ? r->vector : NULL,
                           .latency_ms = r->max_latency_ms,
                           .device = 2,
                           .privacy = r->private ? 3 : 1,
                           .turn = (uint32_t)r->n_history,
                           .distances = distances,
                           .kinds = kinds,
                           .n_hits = r->hits.n < MAX_DISTANCES ? r->hits.n : MAX_DISTANCES,
                           .k = r->hits.n };
    for (size_t i = 0; i < in->n_hits; i++) {
        distances[i] = (float)(1 - r->hits.at[i].vector_score); /* NaN: found by words alone */
        kinds[i] = (uint8_t)rv_stage_router_kind(r->hits.at[i].type);
    }
}

/* The tiers of the router that there are models for, as bits; ids their models, numbers their places among rv_tier_names. */
static uint32_t allowed_tiers(const rv_pipeline *p, const rv_router *router, const char *ids[RV_ROUTER_TIERS])
{
    rv_backend_model models[64];
    size_t n = rv_backend_models(p->backend, models, RV_COUNT(models));
    uint32_t allowed = 0;
    n = n < RV_COUNT(models) ? n : RV_COUNT(models);
    for (size_t t = 0; t < rv_router_tiers(router); t++) {
        ids[t] = NULL;
        for (size_t m = 0; m < n; m++) {
            if (strcmp(models[m].id, rv_router_tier_name(router, t)) == 0) {
                ids[t] = models[m].id;
                allowed |= 1u << t;
            }
        }
    }
    return allowed;
}

/* ---- deciding ---- */

/* A number in [0, 1) that only this request has. */
static double draw_of(const rv_request *r, uint64_t seed)
{
    return (double)(rv_hash64(r->request_id, 36, seed) >> 11) * 0x1p-53;
}

static void explore(const rv_pipeline *p, rv_request *r, uint32_t allowed)
{
    size_t n = 0, pick = 0, arms[RV_ROUTER_TIERS];
    for (size_t t = 0; t < r->routed.tiers; t++) {
        if (allowed >> t & 1) {
            arms[n++] = t;
        }
    }
    r->propensity = 1;
    if (n < 2 || !p->learning || !p->db || r->private || p->explore <= 0 ||
        (r->max_latency_ms > 0 && r->max_latency_ms < HURRIED_MS)) {
        return;
    }
    if (draw_of(r, 1) < p->explore) {
        pick = arms[(size_t)(draw_of(r, 2) * (double)n)];
        r->explored = pick != r->tier;
        r->tier = pick;
    }
    r->propensity = r->explored ? p->explore / (double)n : 1 - p->explore + p->explore / (double)n;
}

/* Before there is a router every tier has to be tried too, or there would never be one. */
static void explore_untrained(const rv_pipeline *p, rv_request *r)
{
    rv_backend_model models[RV_TIERS + 1];
    const char *arms[RV_TIERS];
    size_t n = 0, all = rv_backend_models(p->backend, models, RV_COUNT(models));
    for (size_t m = 0; m < all && m < RV_COUNT(models); m++) {
        if (models[m].tier >= 0 && n < RV_TIERS) {
            arms[n++] = models[m].id;
        }
    }
    bool hurried = r->max_latency_ms > 0 && r->max_latency_ms < HURRIED_MS;
    if (n < 2 || !p->learning || !p->db || r->private || hurried || draw_of(r, 1) >= p->explore) {
        return;
    }
    r->routed_model = arms[(size_t)(draw_of(r, 2) * (double)n)];
    r->explored = true;
    r->propensity = p->explore / (double)n;
    r->reason = "router not trained: tried, to learn from it";
}

static void note_probs(rv_request *r, const rv_router *router)
{
    for (int t = 0; t < RV_TIERS; t++) {
        r->model_probs[t] = 0;
        for (size_t k = 0; k < r->routed.tiers; k++) {
            if (strcmp(rv_router_tier_name(router, k), rv_tier_names[t]) == 0) {
                r->model_probs[t] = r->routed.p_right[k];
            }
        }
    }
}

static rv_err decide(const rv_pipeline *p, rv_request *r, const rv_router *router)
{
    const char *ids[RV_ROUTER_TIERS];
    float distances[MAX_DISTANCES];
    uint8_t kinds[MAX_DISTANCES];
    rv_slot_input in;
    uint32_t allowed = allowed_tiers(p, router, ids);
    void *scratch = rv_arena_take(r->arena, rv_router_scratch_bytes(router));
    if (!scratch) {
        return rv_fail(RV_E_NOMEM, "routing");
    }
    if (allowed == 0) {
        r->reason = "none of the router's tiers has a model";
        return RV_OK;
    }
    fill_input(r, router, &in, distances, kinds);
    rv_router_route(router, &in, allowed, scratch, &r->routed);
    note_probs(r, router);
    r->router_confidence = r->routed.confidence;
    r->tier = r->routed.tier;
    r->decided = true;
    if (r->routed.confidence < p->confidence && !r->routed.seen) {
        /* not sure: the default, if it is one of the tiers, so that what comes of it is learned from */
        for (size_t t = 0; t < r->routed.tiers; t++) {
            r->tier = ids[t] == r->routed_model ? t : r->tier;
        }
        r->fallback = true;
        r->decided = ids[r->tier] == r->routed_model;
        r->reason = "not sure enough: the default model";
    } else {
        r->reason =
            r->routed.seen ? "asked before: what was right then" : "least cost for its chance of being right";
    }
    if (r->decided) {
        explore(p, r, allowed);
        r->reason = r->explored ? "tried, to learn from it" : r->reason;
        r->fallback = r->fallback && !r->explored;
        r->routed_model = ids[r->tier];
    }
    return RV_OK;
}

/* Where the router does not decide, the outcomes of questions like this one may. */
static void ask_bank(const rv_pipeline *p, rv_request *r)
{
    char model[RV_PATTERN_NAME];
    rv_pattern_advice advice;
    const char *id;
    if (!p->bank || !r->vector || r->explored || !r->fallback ||
        !rv_bank_advise(p->bank, r->vector, r->routed_model, model, &advice) ||
        rv_backend_resolve(p->backend, model, &id)) {
        return;
    }
    r->routed_model = id;
    r->decided = r->fallback = false;
    r->router_confidence = 1 - advice.p;
    r->reason = advice.cheaper ? "a cheaper model was as good for questions like this"
                               : "another model was better for questions like this";
}

rv_err rv_stage_router(const rv_pipeline *p, rv_request *r)
{
    if (!p->backend) {
        return rv_fail(RV_E_NOT_FOUND, "there is no model to answer with");
    }
    bool named = !wants_loop(r);
    RV_TRY(rv_backend_resolve(p->backend, named ? r->model : NULL, &r->routed_model));
    choose_sampling(r);
    r->propensity = 1;
    if (named) {
        r->router_confidence = 1;
        r->reason = "the request names the model";
    } else {
        r->held = p->routers ? rv_router_take(p->routers) : NULL;
        r->reason = "router not trained";
        if (r->held) {
            RV_TRY(decide(p, r, rv_router_held_get(r->held)));
        } else {
            explore_untrained(p, r);
        }
        r->fallback = r->fallback || !r->decided;
        ask_bank(p, r);
    }
    for (int t = 0; t < RV_TIERS && !r->decided; t++) {
        r->model_probs[t] = strcmp(r->routed_model, rv_tier_names[t]) == 0;
    }
    if (r->fallback) {
        rv_stage_count_fallback();
    }
    return RV_OK;
}

/* ---- the answer is not good enough ---- */

bool rv_stage_router_may_escalate(const rv_pipeline *p, const rv_request *r)
{
    const char *ids[RV_ROUTER_TIERS];
    bool hurried = r->max_latency_ms > 0 && r->max_latency_ms < HURRIED_MS;
    if (!p->cascade || !r->decided || r->explored || r->extra.n_logprobs >= 0 || hurried) {
        return false;
    }
    const rv_router *router = rv_router_held_get(r->held);
    return rv_router_checks(router, &r->routed, r->tier, allowed_tiers(p, router, ids));
}

bool rv_stage_router_escalate(const rv_pipeline *p, rv_request *r)
{
    const char *ids[RV_ROUTER_TIERS];
    size_t next = 0;
    const rv_router *router = rv_router_held_get(r->held);
    uint32_t allowed = allowed_tiers(p, router, ids);
    if (!rv_router_escalates(router, &r->routed, r->tier, (float)r->confidence, allowed, &next)) {
        return false;
    }
    r->escalated_from = r->routed_model;
    r->draft_confidence = r->confidence;
    r->draft_tier = r->tier;
    r->routed_model = ids[next];
    r->tier = next;
    r->reason = "the smaller model was not sure of its answer";
    return true;
}
