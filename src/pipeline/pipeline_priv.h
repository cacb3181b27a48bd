/* One function per stage, in the order they run. Each translates between rv_request and its module; what it could not do
 * it returns as an error (pipeline.c decides how bad that is) or leaves in stage_note. */
#ifndef RV_PIPELINE_PIPELINE_PRIV_H
#define RV_PIPELINE_PIPELINE_PRIV_H
#include "pipeline/pipeline.h"

rv_err rv_stage_embed(const rv_pipeline *p, rv_request *r) RV_MUST_CHECK;
rv_err rv_stage_memory(const rv_pipeline *p, rv_request *r) RV_MUST_CHECK;
rv_err rv_stage_router(const rv_pipeline *p, rv_request *r) RV_MUST_CHECK;
/** rv_stage_router_kind - the kind of a memory node's type, as in rv_slot_input. */
int rv_stage_router_kind(const char *type);
/** rv_stage_router_says - of the answer that is there, rv_says_fill. */
void rv_stage_router_says(const rv_request *r, float out[RV_SAYS]);
/** rv_stage_router_may_escalate - the answer of the tier that was chosen will be checked.  rv_stage_router_escalate - it was not
 * good enough: routed_model is now a larger one. */
bool rv_stage_router_may_escalate(const rv_pipeline *p, const rv_request *r);
bool rv_stage_router_escalate(const rv_pipeline *p, rv_request *r);
/** rv_stage_router_try - when it was drawn, the tiers that have not answered are asked too, in the background. */
void rv_stage_router_try(const rv_pipeline *p, const rv_request *r);
rv_err rv_stage_attend(const rv_pipeline *p, rv_request *r, const rv_engine *engine) RV_MUST_CHECK;
rv_err rv_stage_backend(const rv_pipeline *p, rv_request *r) RV_MUST_CHECK;
/** rv_stage_backend_show - the answer that was held back, in one piece. RV_E_CANCELLED. */
rv_err rv_stage_backend_show(rv_request *r) RV_MUST_CHECK;
/** rv_stage_time - milliseconds of all stages so far. */
double rv_stage_time(const rv_request *r);
rv_err rv_stage_learn(const rv_pipeline *p, rv_request *r) RV_MUST_CHECK;

/** rv_recall - answers with the correction that memory found for this very question, as the model RV_RECALL_MODEL: text, sources
 * and the rest are then filled, and no model needs to run. Text stays NULL when there is none. RV_E_NOMEM, RV_E_CANCELLED. */
#define RV_RECALL_MODEL "memory"
rv_err rv_recall(rv_request *r) RV_MUST_CHECK;
/** rv_recall_is_correction - a node's text begins as feedback writes it: `Correction: Q: <question> A: <answer>`. */
#define RV_RECALL_HEAD "Correction: Q: "
bool rv_recall_is_correction(const char *fact);
/** rv_recall_is_about - whether such a correction speaks of what is asked here, judged among the hits of the request; true for any
 * other text. */
bool rv_recall_is_about(const rv_request *r, const rv_memory_node *correction);
/** rv_recall_same_question - the answer in the fact `Correction: Q: <question> A: <answer>` when its question is this one,
 * letter by letter without case and signs; else NULL. */
const char *rv_recall_same_question(const rv_request *r, const char *fact);
/** rv_recall_quotes - an answer that begins so, n bytes, may turn out to be a correction misspelled: there is one among the passages, and it
 * cites one passage and is still short.
 * rv_recall_spelled - the answer, spelled as the correction and citing it when that is what it says in other letters, with a word that
 * stands neither in a passage nor in the question; in the request's arena. NULL: no memory. Neither is so when log-probabilities are asked for: those are of the
 * model's own words. */
enum { RV_RECALL_QUOTE_BYTES = 80 };
bool rv_recall_quotes(const rv_request *r, const char *answer, size_t n);
const char *rv_recall_spelled(const rv_request *r, const char *answer);

/** rv_pipeline_feedback_setup - its table, after that of the episodes. */
rv_err rv_pipeline_feedback_setup(rv_db *db) RV_MUST_CHECK;

/** rv_stage_count_fallback, rv_stage_count_tokens - the pipeline's counters. */
void rv_stage_count_fallback(void);
void rv_stage_count_tokens(size_t prompt, size_t completion);

/** rv_prompt_messages - history, then the user's turn with the passages; a new array. */
rv_err rv_prompt_messages(const rv_request *r, const rv_source *passages, size_t n,
                          json_t **out) RV_MUST_CHECK;
/** rv_prompt_passage - passage number (from 1) as it stands in the prompt, newline included. */
void rv_prompt_passage(rv_text *t, size_t number, const char *text);
/** rv_prompt_answer_tokens - tokens kept free for the answer: what was asked for, at most a quarter of the context. */
size_t rv_prompt_answer_tokens(const rv_request *r, size_t n_ctx);

enum { RV_PIPELINE_MAX_SOURCES = 8 };
#endif
