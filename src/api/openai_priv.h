/* One call to /v1/chat/completions or /v1/completions: what was asked (openai.c) and the shape of the answer
 * (openai_shape.c). */
#ifndef RV_API_OPENAI_PRIV_H
#define RV_API_OPENAI_PRIV_H
#include "api/api_priv.h"

typedef struct rv_api_openai {
    rv_api_call *call;
    const json_t *body; /* all strings below are borrowed from it, or from the call's arena */
    bool chat;

    /* what was asked */
    const char *model; /* id; NULL: the whole loop */
    const json_t *messages, *tools, *prompts;
    const int32_t *prompt_ids;
    size_t n_prompt_ids, n_prompts;
    rv_generate how;
    size_t n;
    bool stream, include_usage;
    const char *query, *user, *session; /* of the loop */
    size_t query_bytes;

    /* the answer */
    char id[64], fingerprint[24];
    int64_t created;
    rv_engine *engine; /* held; for the loop only when log-probabilities need its tokens */
    rv_request loop;
    rv_generated total;

    /* the choice at work */
    size_t choice;
    rv_generated done;
    bool begun;   /* streamed: its role was sent */
    rv_text text; /* all of it so far */
    size_t sent;  /* bytes of it that were streamed */
    size_t characters;
    rv_text logs
        [4]; /* chat: entries of logprobs.content; else tokens, token_logprobs, top_logprobs, text_offset */

    rv_text out; /* not streamed: the choices so far; streamed: the event at work */
} rv_api_openai;

/** rv_api_openai_init, rv_api_openai_deinit - the texts, and how.on_piece. */
void rv_api_openai_init(rv_api_openai *o);
void rv_api_openai_deinit(rv_api_openai *o);
/** rv_api_openai_begin .. rv_api_openai_end - one choice; its pieces come through how.on_piece in between. */
void rv_api_openai_begin(rv_api_openai *o, size_t choice);
rv_err rv_api_openai_end(rv_api_openai *o) RV_MUST_CHECK;
/** rv_api_openai_finish - what comes after the choices; answers the call. */
void rv_api_openai_finish(rv_api_openai *o);
#endif
