/* The prompt every model gets. The demo models were trained on exactly this form, and larger ones read it as well. */
#include "pipeline/pipeline_priv.h"

#include <string.h>

enum { PROMPT_MAX_BYTES = 64 << 20 };

void rv_prompt_passage(rv_text *t, size_t number, const char *text)
{
    rv_text_addf(t, "[%zu] ", number);
    size_t start = t->n;
    rv_text_adds(t, text);
    for (size_t i = start; i < t->n; i++) { /* one passage, one line */
        if (t->at[i] >= '\t' && t->at[i] <= '\r') {
            t->at[i] = ' ';
        }
    }
    rv_text_addc(t, '\n');
}

size_t rv_prompt_answer_tokens(const rv_request *r, size_t n_ctx)
{
    size_t wanted = r->max_tokens ? r->max_tokens : RV_PIPELINE_DEFAULT_TOKENS;
    return wanted < n_ctx / 4 ? wanted : n_ctx / 4;
}

static bool add_message(json_t *list, const char *role, const char *text, size_t n)
{
    json_t *content = json_stringn(text, n);
    return content &&
           json_array_append_new(list, json_pack("{s:s, s:o}", "role", role, "content", content)) == 0;
}

static bool add_turn(json_t *list, const rv_turn *turn)
{
    rv_text question;
    rv_text_init(&question, &rv_heap, PROMPT_MAX_BYTES);
    rv_text_addf(&question, "Question: %s", turn->question);
    bool ok = !question.failed && add_message(list, "user", question.at, question.n) &&
              add_message(list, "assistant", turn->answer, strlen(turn->answer));
    rv_text_deinit(&question);
    return ok;
}

static bool add_given_messages(json_t *list, const json_t *messages)
{
    size_t n = json_array_size(messages);
    for (size_t i = 0; i + 1 < n; i++) { /* the last one is the question */
        if (json_array_append(list, json_array_get(messages, i))) {
            return false;
        }
    }
    return true;
}

rv_err rv_prompt_messages(const rv_request *r, const rv_source *passages, size_t n, json_t **out)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    if (ok && r->messages) {
        ok = add_given_messages(list, r->messages);
    }
    for (size_t i = 0; ok && !r->messages && i < r->n_history; i++) {
        ok = add_turn(list, &r->history[i]);
    }
    rv_text turn;
    rv_text_init(&turn, &rv_heap, PROMPT_MAX_BYTES);
    for (size_t i = 0; i < n; i++) {
        rv_prompt_passage(&turn, i + 1, passages[i].text);
    }
    rv_text_adds(&turn, "Question: ");
    rv_text_add(&turn, r->query, r->query_bytes);
    ok = ok && !turn.failed && add_message(list, "user", turn.at, turn.n);
    rv_text_deinit(&turn);
    if (!ok) {
        json_decref(list);
        return rv_fail(RV_E_NOMEM, "putting the prompt together");
    }
    *out = list;
    return RV_OK;
}

rv_err rv_pipeline_prompt(const char *question, const char *const *passages, size_t n, json_t **out)
{
    rv_request r = { .query = question, .query_bytes = strlen(question) };
    rv_source sources[RV_PIPELINE_MAX_SOURCES] = { { 0 } };
    n = n < RV_PIPELINE_MAX_SOURCES ? n : RV_PIPELINE_MAX_SOURCES;
    for (size_t i = 0; i < n; i++) {
        sources[i].text = passages[i];
    }
    return rv_prompt_messages(&r, sources, n, out);
}
