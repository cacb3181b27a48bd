/* A judge that is somewhere else: any server with OpenAI's chat API (learning.judge_url, judge_model; its key from RUVLLM_JUDGE_KEY). Asked by the
 * background loop and by `eval judge` alone, never for a request. Questions, passages and answers go there. */
#ifndef RV_APP_JUDGE_H
#define RV_APP_JUDGE_H
#include "app/config.h"
#include "learn/judge.h"
#include "net/client.h"

typedef struct rv_remote_judge {
    rv_http_url url;
    const char *model, *key;   /* key NULL: none */
    bool (*go_on)(void *self); /* false: the call in progress stops. May be NULL */
    void *self;
} rv_remote_judge;

/** rv_remote_judge_open - what config says. *there false: it names none. RV_E_CONFIG: one of url and model without the other, or a key that no header
 * can hold. The strings are config's and the environment's. */
rv_err rv_remote_judge_open(const rv_config *config, rv_remote_judge *out, bool *there) RV_MUST_CHECK;

/** rv_remote_judge_as - as a judge; remote outlives it. It asks for one digit, and for the probabilities of the first tokens: with those the quality is the
 * expectation over the digits, as of rv_judge_model, else that of the digit. Anything else is no judgement.
 * Errors of its score: those of rv_http_post; RV_E_IO when the server refuses to answer at all. */
rv_judge rv_remote_judge_as(rv_remote_judge *remote);

/** rv_remote_judge_read - the quality that an answer [n] of the chat API gives, NaN: none. */
rv_err rv_remote_judge_read(const char *text, size_t n, double *quality) RV_MUST_CHECK;
#endif
