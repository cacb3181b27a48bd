/* embed: the question as a vector, and as feedback taught to turn it. */
#include "pipeline/pipeline_priv.h"

#include <string.h>

rv_err rv_stage_embed(const rv_pipeline *p, rv_request *r)
{
    if (!p->embed) {
        r->stage_note[RV_STAGE_EMBED] = "no embedder";
        return RV_OK;
    }
    size_t dim = rv_embed_dim(p->embed);
    float *plain = rv_arena_take(r->arena, dim * sizeof *plain), *turned = plain;
    if (plain && p->instant) {
        turned = rv_arena_take(r->arena, dim * sizeof *turned);
    }
    if (!plain || !turned) {
        return rv_fail(RV_E_NOMEM, "embedding the question");
    }
    RV_TRY(rv_embed_text(p->embed, r->query, r->query_bytes, plain));
    if (p->instant) {
        memcpy(turned, plain, dim * sizeof *turned);
        rv_instant_turn(p->instant, turned);
    }
    r->plain = plain;
    r->vector = turned;
    return RV_OK;
}
