/* attend: which passages the model sees, and in what order: that of graph attention when feedback has taught it, else of the fused score;
 * a correction beside what it corrects, cut to max_sources and to the tokens the context has left. */
#include "pipeline/pipeline_priv.h"

#include <math.h>
#include <string.h>

/* A passage that shares no word with the question has to be this near in meaning. On the 157 questions of
 * tests/data/qa/plain.txt about examples/notes (hash embedder) this drops 99.9 % of such passages and no right one; 3.5
 * passages are left for a question on average. The static embedder puts more on that side: of the same documents and 30 of the
 * questions 1.3 such passages a question reach 0.25, 0.3 reach 0.3, none 0.4. */
#define WEAK_COSINE 0.35

enum { MAX_HITS = 64 };

static size_t hit_of(const rv_request *r, int64_t id)
{
    size_t i = 0;
    while (i < r->hits.n && r->hits.at[i].id != id) {
        i++;
    }
    return i;
}

static bool is_weak(const rv_memory_node *node)
{
    return isnan(node->words_score) && !(node->vector_score >= WEAK_COSINE) &&
           strcmp(node->origin_side, "graph") != 0;
}

/* The hit that corrects hit i in the end; i when none does. Corrections of corrections may form a ring. */
static size_t last_correction(const rv_request *r, size_t i)
{
    size_t last = i;
    for (size_t step = 0; step < r->hits.n; step++) {
        size_t by = r->hits.at[last].corrected_by ? hit_of(r, r->hits.at[last].corrected_by) : r->hits.n;
        if (by == r->hits.n || by == i) {
            break;
        }
        last = by;
    }
    return last;
}

/* A corrected passage often says other things as well; then it stays, behind its correction. It goes when the question is the
 * one that was corrected, or when there is nothing else in it. */
static bool is_outdated(const rv_request *r, const rv_memory_node *node, const rv_memory_node *correction)
{
    return strcmp(node->type, "fact") == 0 || strcmp(node->type, "qa") == 0 ||
           !rv_memory_says_more(node->text, strlen(node->text)) ||
           rv_recall_same_question(r, correction->text) != NULL;
}

/* Whether a correction is nearer to the question than the passage it corrects; one that was only brought along is not. It then
 * speaks of something else in that passage. */
static bool is_nearer(const rv_memory_node *correction, const rv_memory_node *passage)
{
    return !isnan(correction->vector_score) &&
           !(passage->vector_score > correction->vector_score); /* also when the passage has none */
}

/* Hits in the order they may be used: by score, a correction before what it corrects, or behind when it speaks of something else in
 * that passage. One that is about another question is no passage of its own: it only takes the place of what it outdates. */
static size_t order_hits(const rv_request *r, size_t order[MAX_HITS])
{
    bool used[MAX_HITS] = { false };
    size_t n = 0;
    for (size_t i = 0; i < r->hits.n && i < MAX_HITS; i++) {
        size_t last = last_correction(r, i);
        if (used[i] || is_weak(&r->hits.at[i]) || last >= MAX_HITS) {
            continue;
        }
        bool keep = last != i && !is_outdated(r, &r->hits.at[i], &r->hits.at[last]);
        bool about = (last != i && !keep) || rv_recall_is_about(r, &r->hits.at[last]);
        size_t pair[2] = { last, i }, n_pair = keep + about;
        if (keep && (!about || !is_nearer(&r->hits.at[last], &r->hits.at[i]))) {
            pair[0] = i, pair[1] = last;
        }
        for (size_t j = 0; j < n_pair; j++) {
            if (!used[pair[j]]) {
                used[pair[j]] = true;
                order[n++] = pair[j];
            }
        }
    }
    return n;
}

static rv_err count_frame(const rv_request *r, const rv_engine *engine, size_t *out)
{
    json_t *messages;
    RV_TRY(rv_prompt_messages(r, NULL, 0, &messages));
    rv_text text;
    rv_ids ids;
    rv_text_init(&text, &rv_heap, SIZE_MAX);
    rv_ids_init(&ids, &rv_heap, SIZE_MAX / sizeof(int32_t));
    rv_err e = rv_chat_render(rv_engine_tok(engine), rv_engine_get_info(engine)->family, messages, NULL,
                              (rv_chat_options){ .add_generation_prompt = true }, &text, &ids);
    *out = ids.n;
    rv_ids_deinit(&ids);
    rv_text_deinit(&text);
    json_decref(messages);
    return e;
}

/* The session's oldest turns go first, until what was said takes at most half of the room. */
static rv_err fit_history(rv_request *r, const rv_engine *engine, size_t room, size_t *frame)
{
    RV_TRY(count_frame(r, engine, frame));
    while (*frame > room / 2 && r->n_history > 0) {
        r->history++;
        r->n_history--;
        RV_TRY(count_frame(r, engine, frame));
    }
    return RV_OK;
}

static rv_err count_passage(const rv_engine *engine, const char *text, size_t *out)
{
    rv_text line;
    rv_ids ids;
    rv_text_init(&line, &rv_heap, SIZE_MAX);
    rv_ids_init(&ids, &rv_heap, SIZE_MAX / sizeof(int32_t));
    rv_prompt_passage(&line, 8, text);
    rv_err e = rv_text_check(&line);
    if (!e) {
        e = rv_tok_encode(rv_engine_tok(engine), line.at, line.n, RV_TOK_PLAIN, &ids);
    }
    *out = ids.n;
    rv_ids_deinit(&ids);
    rv_text_deinit(&line);
    return e;
}

rv_err rv_stage_attend(const rv_pipeline *p, rv_request *r, const rv_engine *engine)
{
    enum { BORDERS = 8 }; /* tokens may be cut differently where the parts meet */
    size_t n_ctx = rv_engine_get_info(engine)->n_ctx, room = n_ctx - rv_prompt_answer_tokens(r, n_ctx), frame;
    RV_TRY(fit_history(r, engine, room, &frame));
    r->context_tokens = room > frame + BORDERS ? room - frame - BORDERS : 0;

    bool ordered = false;
    if (p->attention && r->plain) {
        RV_TRY(rv_attention_order(p->attention, r->plain, &r->hits, r->arena, &ordered));
    }
    size_t order[MAX_HITS], n = order_hits(r, order), max = p->max_sources, tokens = 0, too_long = 0;
    max = max == 0 ? 5 : max > RV_PIPELINE_MAX_SOURCES ? RV_PIPELINE_MAX_SOURCES : max;
    r->sources = rv_arena_take(r->arena, max * sizeof *r->sources);
    if (!r->sources) {
        return rv_fail(RV_E_NOMEM, "choosing passages");
    }
    for (size_t i = 0; i < n && r->n_sources < max; i++) {
        const rv_memory_node *node = &r->hits.at[order[i]];
        size_t cost;
        RV_TRY(count_passage(engine, node->text, &cost));
        if (tokens + cost > r->context_tokens) {
            too_long++;
            continue;
        }
        tokens += cost;
        r->sources[r->n_sources++] =
            (rv_source){ node->id, node->type, node->text, node->source, node->score };
    }
    const char *by = ordered ? "graph attention" : "fused score (graph attention has learned nothing yet)";
    r->stage_note[RV_STAGE_ATTEND] =
        too_long ? rv_arena_printf(r->arena, "order: %s; %zu passages did not fit", by, too_long)
                 : rv_arena_printf(r->arena, "order: %s", by);
    return RV_OK;
}
