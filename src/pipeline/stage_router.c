/* router: which model answers. There is no trained router in this version, so the request's own model or the default is taken
 * and nothing is made to look like a decision: fallback is true, and the probabilities are those of a fixed choice. */
#include "pipeline/pipeline_priv.h"

#include <string.h>

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

rv_err rv_stage_router(const rv_pipeline *p, rv_request *r)
{
    bool named = r->model && strcmp(r->model, "auto") != 0;
    if (!p->backend) {
        return rv_fail(RV_E_NOT_FOUND, "there is no model to answer with");
    }
    RV_TRY(rv_backend_resolve(p->backend, named ? r->model : NULL, &r->routed_model));
    for (int t = 0; t < RV_TIERS; t++) {
        r->model_probs[t] = strcmp(r->routed_model, rv_tier_names[t]) == 0;
    }
    r->fallback = !named;
    r->router_confidence = named;
    r->reason = named ? "the request names the model" : "router not trained";
    if (r->fallback) {
        rv_stage_count_fallback();
    }
    choose_sampling(r);
    return RV_OK;
}
