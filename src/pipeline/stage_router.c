/* router: which model answers. The router learned from rated requests decides between the tiers there are; without one, when it
 * is not sure, and when the request names its model, that is said and nothing is made to look like a decision. For some requests the
 * other tiers are asked too, afterwards and in the background (never for private or hurried ones): what is never tried is never known. */
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

static void cover(rv_request *r)
{
    enum { LOOKED_AT = 16 };
    rv_str texts[LOOKED_AT];
    size_t n = r->hits.n < LOOKED_AT ? r->hits.n : LOOKED_AT;
    for (size_t i = 0; i < n; i++) {
        texts[i] = rv_str_of(r->hits.at[i].text, strlen(r->hits.at[i].text));
    }
    rv_cover_fill(rv_str_of(r->query, r->query_bytes), texts, n, r->cover);
}

static size_t shown_passages(const rv_request *r, rv_str out[RV_PIPELINE_MAX_SOURCES])
{
    for (size_t i = 0; i < r->n_sources; i++) {
        out[i] = rv_str_of(r->sources[i].text, strlen(r->sources[i].text));
    }
    return r->n_sources;
}

void rv_stage_router_says(const rv_request *r, float out[RV_SAYS])
{
    rv_str passages[RV_PIPELINE_MAX_SOURCES];
    size_t n = shown_passages(r, passages);
    rv_says_fill(rv_str_of(r->query, r->query_bytes), passages, n, rv_str_of(r->text, strlen(r->text)), out);
}

static void fill_input(const rv_request *r, const rv_router *router, rv_slot_input *in, float *distances,
                       uint8_t *kinds)
{
    *in = (rv_slot_input){ .text = r->query,
                           .n = r->query_bytes,
                           .vector = rv_router_dim(router) > 0 ? r->plain : NULL,
                           .latency_ms = r->max_latency_ms,
                           .device = 2,
                           .privacy = r->private ? 3 : 1,
                           .turn = (uint32_t)r->n_history,
                           .distances = distances,
                           .kinds = kinds,
                           .n_hits = r->hits.n < MAX_DISTANCES ? r->hits.n : MAX_DISTANCES,
                           .cover = r->cover,
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

/* Share of requests like this one to ask all other tiers for: that teaches only what is rated afterwards. Never when the answer is not
 * recorded, or in a hurry. */
static double how_many_explore(const rv_pipeline *p, const rv_request *r)
{
    bool hurried = r->max_latency_ms > 0 && r->max_latency_ms < HURRIED_MS;
    bool may = p->learning && p->db && p->routers && p->tries && !r->private && !hurried;
    return may ? rv_router_explores(p->routers, p->explore) : 0;
}

void rv_stage_router_try(const rv_pipeline *p, const rv_request *r)
{
    rv_backend_model models[RV_TIERS + 1];
    rv_try one = { .max_tokens = r->max_tokens ? r->max_tokens : RV_PIPELINE_DEFAULT_TOKENS,
                   .sampling = r->sampling,
                   .tenant = r->user ? rv_hash64(r->user, strlen(r->user), 0) : 0 };
    size_t all;
    uint64_t most = 0;
    if (r->explores <= 0 || r->generated.completion_tokens == 0) {
        return;
    }
    all = rv_backend_models(p->backend, models, RV_COUNT(models));
    all = all < RV_COUNT(models) ? all : RV_COUNT(models);
    for (size_t m = 0; m < all; m++) {
        most = models[m].tier >= 0 && models[m].file_bytes > most ? models[m].file_bytes : most;
    }
    for (size_t m = 0; m < all; m++) {
        bool asked = models[m].id == r->routed_model;
        for (size_t i = 0; i < r->n_thrown; i++) {
            asked = asked || models[m].id == r->thrown[i].model;
        }
        if (models[m].tier >= 0 && !asked && one.n_models < RV_TIERS &&
            rv_router_tries(draw_of(r, 1), r->explores, (double)models[m].file_bytes, (double)most)) {
            one.models[one.n_models++] = models[m].id;
        }
    }
    memcpy(one.request_id, r->request_id, sizeof one.request_id);
    if (one.n_models == 0 || rv_prompt_messages(r, r->sources, r->n_sources, &one.messages)) {
        return;
    }
    one.asked = json_pack("[s%]", r->query, r->query_bytes);
    for (size_t i = 0; i < r->n_sources; i++) {
        json_array_append_new(one.asked, json_string(r->sources[i].text));
    }
    rv_tries_put(p->tries, &one);
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

/* Whether an answer may be checked and given again: whoever wants log-probabilities or is in a hurry gets the first one. */
static bool may_check(const rv_pipeline *p, const rv_request *r)
{
    bool hurried = r->max_latency_ms > 0 && r->max_latency_ms < HURRIED_MS;
    return p->cascade && r->extra.n_logprobs < 0 && !hurried;
}

static rv_err decide(const rv_pipeline *p, rv_request *r, const rv_router *router)
{
    const char *ids[RV_ROUTER_TIERS] = { NULL };
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
    rv_router_route(router, &in, allowed, may_check(p, r), scratch, &r->routed);
    note_probs(r, router);
    r->router_confidence = r->routed.confidence;
    rv_choice_how how = { .allowed = allowed, .usual = RV_ROUTER_TIERS, .threshold = p->confidence };
    for (size_t t = 0; t < RV_ROUTER_TIERS; t++) {
        how.usual = ids[t] && ids[t] == r->routed_model ? t : how.usual;
    }
    rv_choice choice = rv_router_choose(&r->routed, &how);
    r->tier = choice.tier;
    r->fallback = choice.fallback;
    r->decided = choice.tier < RV_ROUTER_TIERS; /* else the default model is none of the tiers */
    r->routed_model = r->decided ? ids[choice.tier] : r->routed_model;
    r->reason = r->fallback      ? "not sure enough: the default model"
                : r->routed.seen ? "asked before: what was right then"
                                 : "least cost for its chance of being right";
    return RV_OK;
}

/* Where the router does not decide, the outcomes of questions like this one may. */
static void ask_bank(const rv_pipeline *p, rv_request *r)
{
    char model[RV_PATTERN_NAME];
    rv_pattern_advice advice;
    const char *id;
    if (!p->bank || !r->plain || !r->fallback ||
        !rv_bank_advise(p->bank, r->plain, r->routed_model, model, &advice) ||
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
    if (named) {
        r->router_confidence = 1;
        r->reason = "the request names the model";
    } else {
        r->held = p->routers ? rv_router_take(p->routers) : NULL;
        r->reason = "router not trained";
        r->fallback = true;
        r->explores = how_many_explore(p, r);
        r->explored = draw_of(r, 1) < r->explores;
        cover(r);
        if (r->held) {
            RV_TRY(decide(p, r, rv_router_held_get(r->held)));
        }
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
    if (!r->decided || !may_check(p, r)) {
        return false;
    }
    const rv_router *router = rv_router_held_get(r->held);
    return rv_router_checks(router, &r->routed, r->n_thrown, r->tier, allowed_tiers(p, router, ids));
}

bool rv_stage_router_escalate(const rv_pipeline *p, rv_request *r)
{
    const char *ids[RV_ROUTER_TIERS];
    size_t next = 0;
    const rv_router *router = rv_router_held_get(r->held);
    uint32_t allowed = allowed_tiers(p, router, ids);
    float says[RV_SAYS];
    rv_given given = { 0 };
    rv_stage_router_says(r, says);
    r->thrown[r->n_thrown] =
        (rv_thrown){ .model = r->routed_model,
                     .text = r->text,
                     .tier = r->tier,
                     .tokens = r->generated.prompt_tokens + r->generated.completion_tokens,
                     .draft = rv_draft_of(r->confidence, r->text, strlen(r->text), says) };
    for (; given.n <= r->n_thrown; given.n++) {
        given.tier[given.n] = r->thrown[given.n].tier;
        given.draft[given.n] = r->thrown[given.n].draft;
    }
    if (!rv_router_escalates(router, &r->routed, &given, allowed, &next)) {
        return false;
    }
    r->n_thrown++;
    r->routed_model = ids[next];
    r->tier = next;
    r->reason = "the smaller model was not sure of its answer";
    return true;
}
