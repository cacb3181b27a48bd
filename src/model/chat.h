/* Chat format of the LFM2 family without a template engine: the family is recognised from tokenizer.chat_template; anything
 * else is a clear error. Content from users is never read as control tokens: the prompt is a list of trusted and untrusted
 * spans, and only trusted ones are tokenised with special parsing on. */
#ifndef RV_MODEL_CHAT_H
#define RV_MODEL_CHAT_H
#include "base/json.h"
#include "model/tok.h"

typedef enum rv_chat_family { RV_CHAT_NONE, RV_CHAT_LFM2, RV_CHAT_LFM2_5 } rv_chat_family;

/** rv_chat_family_of - from the template text; RV_E_UNSUPPORTED with what is missing when it is not of this family.
 * A file without a template: RV_CHAT_NONE and RV_OK (completions work, chat does not). */
rv_err rv_chat_family_of(const rv_gguf *g, rv_chat_family *out) RV_MUST_CHECK;

/**
 * rv_chat_render - messages (OpenAI's array: role, content as string or text parts, tool_calls on assistant messages,
 * role tool) and tools (array or NULL) as prompt text, ending with the assistant header when add_generation_prompt.
 * ids gets the tokens: markup trusted, content of user and tool messages plain. ids may be NULL (text only).
 * trust_all parses control texts in contents too (what a template engine followed by one encode would give).
 * Errors: RV_E_ARG naming messages[i].field.  RV_E_UNSUPPORTED family NONE.
 */
typedef struct rv_chat_options {
    bool add_generation_prompt, trust_all;
} rv_chat_options;
rv_err rv_chat_render(const rv_tok *tok, rv_chat_family family, const json_t *messages, const json_t *tools,
                      rv_chat_options how, rv_text *prompt, rv_ids *ids) RV_MUST_CHECK;

/** rv_chat_tool_calls - find <|tool_call_start|>[f(a='x')]<|tool_call_end|> (Python calls or JSON) in generated text.
 * *calls: OpenAI's tool_calls array (caller's; NULL when there are none), rest: the text outside the markers. */
rv_err rv_chat_tool_calls(const char *text, size_t n, json_t **calls, rv_text *rest) RV_MUST_CHECK;
#endif
