/* What was corrected is known: the very same question is answered with its correction, and no model runs. A model that writes a
 * name it was told can still misspell it, and costs time; the correction is the user's own words. */
#include "pipeline/pipeline_priv.h"

#include <ctype.h>
#include <string.h>

/* Next letter or digit (ASCII as small letters, others as they are), 0 at the end. */
static int next_letter(const char **at, const char *end)
{
    while (*at < end) {
        unsigned char c = (unsigned char)*(*at)++;
        if (c >= 0x80 || isalnum(c)) {
            return tolower(c);
        }
    }
    return 0;
}

bool rv_recall_is_correction(const char *fact)
{
    return strncmp(fact, RV_RECALL_HEAD, strlen(RV_RECALL_HEAD)) == 0;
}

const char *rv_recall_same_question(const rv_request *r, const char *fact)
{
    static const char answer[] = " A: ";
    if (!rv_recall_is_correction(fact)) {
        return NULL;
    }
    const char *a = fact + strlen(RV_RECALL_HEAD), *a_end = fact + strlen(fact), *b = r->query,
               *b_end = b + r->query_bytes;
    for (int x; (x = next_letter(&b, b_end)) != 0;) {
        if (next_letter(&a, a_end) != x) {
            return NULL;
        }
    }
    while (*a && *a != ' ' && (unsigned char)*a < 0x80 && !isalnum((unsigned char)*a)) {
        a++; /* the question's last sign */
    }
    return strncmp(a, answer, sizeof answer - 1) == 0 ? a + sizeof answer - 1 : NULL;
}

/* Alone: in a conversation the same words may ask for something else. A model that the request names is asked, and so is one
 * when the request wants what only a model gives. */
static bool may_recall(const rv_request *r)
{
    bool named = r->model && strcmp(r->model, "auto") != 0;
    bool alone = r->n_history == 0 && (!r->messages || json_array_size(r->messages) == 1);
    return !named && alone && r->extra.n_logprobs < 0 && r->extra.n_stops == 0;
}

rv_err rv_recall(rv_request *r)
{
    const rv_memory_node *best = NULL;
    for (size_t i = 0; may_recall(r) && i < r->hits.n; i++) {
        const rv_memory_node *node = &r->hits.at[i];
        bool fits =
            strcmp(node->type, "fact") == 0 && !node->corrected_by && rv_recall_same_question(r, node->text);
        best = fits && (!best || node->id > best->id) ? node : best;
    }
    if (!best) {
        return RV_OK;
    }
    r->sources = rv_arena_take(r->arena, sizeof *r->sources);
    r->text = rv_arena_printf(r->arena, "[1] %s", rv_recall_same_question(r, best->text));
    if (!r->sources || !r->text) {
        r->text = NULL;
        return rv_fail(RV_E_NOMEM, "answering from memory");
    }
    r->sources[0] = (rv_source){ best->id, best->type, best->text, best->source, best->score };
    r->n_sources = 1;
    r->routed_model = RV_RECALL_MODEL;
    r->fallback = false;
    r->router_confidence = r->confidence = best->confidence;
    memset(r->model_probs, 0, sizeof r->model_probs);
    r->reason = "this question was corrected: its correction is the answer, no model ran";
    r->generated = (rv_generated){ .finish = RV_FINISH_STOP };
    r->stage_note[RV_STAGE_ATTEND] = r->stage_note[RV_STAGE_BACKEND] = "not needed: answered from memory";
    rv_piece piece = { .text = r->text, .n = strlen(r->text), .token = -1 };
    if (r->extra.on_piece && !r->extra.on_piece(r->extra.self, &piece)) {
        return rv_fail(RV_E_CANCELLED, "the answer was cancelled");
    }
    return RV_OK;
}
