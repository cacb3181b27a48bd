/* memory: what is known about the question (by meaning, by words, and the corrections of what was found), and what was said
 * before in this session. */
#include "pipeline/pipeline_priv.h"

enum { CANDIDATES = 16, TURNS = 4 };

static rv_err recall(const rv_pipeline *p, rv_request *r)
{
    rv_memory_query q = {
        .text = r->query,
        .text_bytes = r->query_bytes,
        .vector = r->vector,
        .mode = r->vector ? RV_MEMORY_GRAPH : RV_MEMORY_WORDS,
        .k = CANDIDATES,
        .with_corrected = true, /* attend puts the correction first */
    };
    return rv_memory_search(p->memory, rv_memory_of(r->user), &q, r->arena, &r->hits);
}

rv_err rv_stage_memory(const rv_pipeline *p, rv_request *r)
{
    if (p->db && !r->messages) {
        rv_turn *turns = NULL;
        RV_TRY(rv_session_recent(p->db, r->session_id, r->user ? r->user : "", TURNS, r->arena, &turns,
                                 &r->n_history));
        r->history = turns;
    }
    if (!p->memory) {
        r->stage_note[RV_STAGE_MEMORY] = "no memory";
        return RV_OK;
    }
    return recall(p, r);
}
