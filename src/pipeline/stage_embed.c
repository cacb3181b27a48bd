/* embed: the question as a vector, turned as feedback taught it. */
#include "pipeline/pipeline_priv.h"

rv_err rv_stage_embed(const rv_pipeline *p, rv_request *r)
{
    if (!p->embed) {
        r->stage_note[RV_STAGE_EMBED] = "no embedder";
        return RV_OK;
    }
    float *vector = rv_arena_take(r->arena, rv_embed_dim(p->embed) * sizeof *vector);
    if (!vector) {
        return rv_fail(RV_E_NOMEM, "embedding the question");
    }
    RV_TRY(rv_embed_text(p->embed, r->query, r->query_bytes, vector));
    if (p->instant) {
        rv_instant_turn(p->instant, vector);
    }
    r->vector = vector;
    return RV_OK;
}
