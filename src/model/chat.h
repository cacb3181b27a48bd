/* Chat format of the LFM2 family without a template engine: the family is recognised from tokenizer.chat_template; anything
 * else is a clear error. Content from users is never read as control tokens: the prompt is a list of trusted and untrusted
 * spans, and only trusted ones are tokenised with special parsing on. */
#ifndef RV_MODEL_CHAT_H
#define RV_MODEL_CHAT_H
#include "base/json.h"
#include "model/tok.h"

typedef enum rv_chat_family { RV_CHAT_NONE, RV_CHAT_LFM2, RV_CHAT_LFM2_5 } rv_chat_family;

/**
 * rv_chat_family_of - from the template text. A file without a template: RV_CHAT_NONE and RV_OK (completions work, chat
 * does not).
 *
 * Errors:  RV_E_UNSUPPORTED a template of another family; the text says what is missing.  RV_E_FORMAT not a string.
 */
rv_err rv_chat_family_of(const rv_gguf *g, rv_chat_family *out) RV_MUST_CHECK;

typedef struct rv_chat_options {
    bool add_generation_prompt; /* end with the header of the assistant's turn */
    bool trust_all; /* control texts count everywhere: what a template engine and one encode would give */
} rv_chat_options;

/**
 * rv_chat_render - messages and tools as the prompt the model was trained on.
 *
 * messages  OpenAI's array: role (system or developer, first only; user; assistant; tool), content as a string or an
 *           array of text parts (joined with a newline), tool_calls on assistant messages
 * tools     array of tool objects, or of strings that are taken as they are; or NULL
 * prompt    out, appended: the text
 * ids       out, appended: the tokens, BOS first; NULL when only the text is wanted
 *
 * Trusted is the markup, and the system's and the assistant's text, but no turn can be ended or begun from inside a text.
 * Untrusted are the texts of user and tool, the tools and the arguments of calls.
 * RV_CHAT_LFM2_5 leaves out the thinking part ("...</think>") of all assistant messages but the last, and the white space
 * around what remains.
 *
 * Errors:  RV_E_ARG naming messages[i].field or tools[i].  RV_E_UNSUPPORTED family RV_CHAT_NONE.  RV_E_TOO_LARGE more
 *          tokens than ids->max.  RV_E_NOMEM memory, or the maximum of prompt.
 * Threads: any thread.
 */
rv_err rv_chat_render(const rv_tok *tok, rv_chat_family family, const json_t *messages, const json_t *tools,
                      rv_chat_options how, rv_text *prompt, rv_ids *ids) RV_MUST_CHECK;

/**
 * rv_chat_tool_calls - find <|tool_call_start|>[f(a='x')]<|tool_call_end|> in generated text: Python calls with named
 * arguments, or JSON objects with name and arguments. A missing end marker is the end of the text.
 *
 * calls  out, OpenAI's tool_calls array, the caller's; NULL when there are none
 * rest   out, appended: the text outside the markers, and whatever between them could not be read, markers included
 *
 * Errors:  RV_E_NOMEM, RV_E_IO (no random bytes for the calls' ids).
 * Threads: any thread.
 */
rv_err rv_chat_tool_calls(const char *text, size_t n, json_t **calls, rv_text *rest) RV_MUST_CHECK;
#endif
