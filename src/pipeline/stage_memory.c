/* memory: what is known about the question (vectors, words, then along the graph to corrections), and what was said before in
 * this session. */
#include "pipeline/pipeline_priv.h"

#include <string.h>

enum { CANDIDATES = 16, TURNS = 4 };

static bool is_hit(const rv_memory_hits *hits, int64_t id)
{
    for (size_t i = 0; i < hits->n; i++) {
        if (hits->at[i].id == id) {
            return true;
        }
    }
    return false;
}

/* A hit whose correction was worded too differently to be found brings it along, so that nobody answers from a passage known
 * to be wrong. Another user's correction stays his. */
static rv_err add_corrections(const rv_pipeline *p, rv_request *r)
{
    rv_memory_hits hits = r->hits;
    size_t found = hits.n;
    rv_memory_node *all = rv_arena_take(r->arena, 2 * (found + 1) * sizeof *all);
    if (!all) {
        return rv_fail(RV_E_NOMEM, "looking for corrections");
    }
    memcpy(all, hits.at, found * sizeof *all);
    hits.at = all;
    for (size_t i = 0; i < hits.n && hits.n < 2 * found; i++) { /* a correction may be corrected in turn */
        int64_t id = all[i].corrected_by;
        if (id == 0 || is_hit(&hits, id)) {
            continue;
        }
        rv_memory_node node;
        rv_err e = rv_memory_get(p->memory, id, r->arena, &node);
        if (e == RV_E_NOT_FOUND) {
            continue;
        }
        if (e) {
            return e;
        }
        if (!*node.user || (r->user && strcmp(node.user, r->user) == 0)) {
            node.score = all[i].score;
            node.origin_side = "graph";
            all[hits.n++] = node;
        }
    }
    r->hits = hits;
    return RV_OK;
}

static rv_err recall(const rv_pipeline *p, rv_request *r)
{
    rv_memory_query q = {
        .text = r->query,
        .text_bytes = r->query_bytes,
        .vector = r->vector,
        .mode = r->vector ? RV_MEMORY_HYBRID : RV_MEMORY_WORDS,
        .k = CANDIDATES,
        .filter = { .user = r->user ? r->user : "" }, /* "": what is everybody's, alone */
        .with_corrected = true,                       /* attend puts the correction first */
    };
    RV_TRY(rv_memory_search(p->memory, &q, r->arena, &r->hits));
    return add_corrections(p, r);
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
