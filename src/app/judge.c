#include "app/judge.h"

#include "base/json.h"
#include "base/rng.h"
#include "pipeline/pipeline.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROMPT_MAX_BYTES = 1 << 20,
    REQUEST_MAX_BYTES = 2 << 20,
    ANSWER_MAX_BYTES = 256 << 10,
    TIMEOUT_MS = 10000,
    SCORES = 5,
    TOKENS = 4,
    LIKELY = 10
};

static const char ask[] = "You score answers. Reply with one digit from 1 (wrong, or of no use) to 5 (right "
                          "and complete), and nothing else.";

static bool is_key(const char *key)
{
    for (; *key; key++) {
        if (*key <= ' ' || *key > '~') {
            return false;
        }
    }
    return true;
}

rv_err rv_remote_judge_open(const rv_config *config, rv_remote_judge *out, bool *there)
{
    const char *url = rv_config_string(config, "learning.judge_url"),
               *model = rv_config_string(config, "learning.judge_model"), *key = getenv("RUVLLM_JUDGE_KEY");
    rv_remote_judge found = { .model = model, .key = key && *key ? key : NULL };
    if (!url != !model) {
        return rv_fail(RV_E_CONFIG, "learning.judge_url and learning.judge_model go together: %s is not set",
                       url ? "learning.judge_model" : "learning.judge_url");
    }
    if (url) {
        RV_TRY(rv_http_url_read(url, &found.url));
    }
    if (url && found.key && (!is_key(found.key) || strlen(found.key) > 1000)) {
        return rv_fail(RV_E_CONFIG,
                       "RUVLLM_JUDGE_KEY: a key is at most 1000 letters, digits and signs, without blanks");
    }
    *out = found;
    *there = url != NULL;
    return RV_OK;
}

/* ---- asking ---- */

static rv_err write_request(const rv_remote_judge *remote, const rv_judge_case *c, rv_text *out)
{
    rv_text asked;
    json_t *messages = NULL;
    rv_text_init(&asked, &rv_heap, PROMPT_MAX_BYTES);
    rv_text_addf(&asked, "%s\nAnswer: %s\nScore the answer from 1 to 5.", c->question, c->answer);
    rv_err e = rv_text_check(&asked)
                   ? rv_fail(RV_E_TOO_LARGE, "a question and answer of more than %d bytes", PROMPT_MAX_BYTES)
                   : rv_pipeline_prompt(rv_text_get(&asked), c->passages, c->n, &messages);
    rv_text_deinit(&asked);
    RV_TRY(e);
    json_t *body = json_pack("{s:s, s:o, s:i, s:i, s:b, s:i}", "model", remote->model, "messages", messages,
                             "temperature", 0, "max_tokens", TOKENS, "logprobs", 1, "top_logprobs", LIKELY);
    if (!body ||
        json_array_insert_new(messages, 0, json_pack("{s:s, s:s}", "role", "system", "content", ask))) {
        json_decref(body);
        return rv_fail(RV_E_NOMEM, "asking a judge");
    }
    rv_json_text(body, out);
    json_decref(body);
    return rv_text_check(out) ? rv_fail(RV_E_TOO_LARGE, "a prompt of more than %d bytes", REQUEST_MAX_BYTES)
                              : RV_OK;
}

static rv_err read_answer(const rv_remote_judge *remote, int status, const rv_text *answer, double *quality)
{
    bool refused = status == 400 || status == 413 || status == 422; /* this one, as too long, say */
    if (status == 200) {
        return rv_remote_judge_read(rv_text_get(answer), answer->n, quality);
    }
    return refused ? RV_OK
                   : rv_fail(RV_E_IO, "the judge at %s answered with status %d", remote->url.host, status);
}

static rv_err score(const rv_judge *j, const rv_judge_case *c, double *quality)
{
    const rv_remote_judge *remote = j->self;
    rv_text body, answer;
    int status = 0;
    *quality = (double)NAN;
    rv_text_init(&body, &rv_heap, REQUEST_MAX_BYTES);
    rv_text_init(&answer, &rv_heap, ANSWER_MAX_BYTES);
    rv_err e = write_request(remote, c, &body);
    if (!e) {
        rv_http_call call = { .url = &remote->url,
                              .path = "/chat/completions",
                              .bearer = remote->key,
                              .body = rv_text_get(&body),
                              .n = body.n,
                              .max_bytes = ANSWER_MAX_BYTES,
                              .timeout_ms = TIMEOUT_MS,
                              .go_on = remote->go_on,
                              .self = remote->self };
        e = rv_http_post(&call, &status, &answer);
    }
    e = e ? e : read_answer(remote, status, &answer, quality);
    rv_text_deinit(&body);
    rv_text_deinit(&answer);
    return e;
}

rv_judge rv_remote_judge_as(rv_remote_judge *remote)
{
    rv_judge j = { .score = score, .self = remote };
    char where[1100];
    int n = snprintf(where, sizeof where, "%s:%d%s", remote->url.host, remote->url.port, remote->url.path);
    snprintf(j.name, sizeof j.name, "remote %016" PRIx64,
             rv_hash64(remote->model, strlen(remote->model), rv_hash64(where, (size_t)n, 0)));
    return j;
}

/* ---- reading ---- */

/* 1 .. 5, or 0: the text is not one such digit. */
static int digit_of(const json_t *text)
{
    rv_str s = rv_str_trim(rv_str_of(json_string_value(text), json_string_length(text)));
    return json_is_string(text) && s.n == 1 && s.at[0] >= '1' && s.at[0] <= '5' ? s.at[0] - '0' : 0;
}

/* The expectation over the digits among the likely first tokens; NaN: they hold less than half of the probability. */
static double expectation(const json_t *likely)
{
    double held = 0, sum = 0;
    for (size_t i = 0; i < json_array_size(likely); i++) {
        const json_t *one = json_array_get(likely, i), *log_p = json_object_get(one, "logprob");
        int digit = digit_of(json_object_get(one, "token"));
        double p = json_is_number(log_p) ? exp(fmin(0, json_number_value(log_p))) : 0;
        held += digit ? p : 0;
        sum += digit ? p * (digit - 1) / (SCORES - 1) : 0;
    }
    return held >= 0.5 && held <= 1.01 ? sum / held : (double)NAN;
}

rv_err rv_remote_judge_read(const char *text, size_t n, double *quality)
{
    json_t *answer = NULL;
    *quality = (double)NAN;
    rv_err e = rv_json_parse(text, n, &answer);
    if (e) {
        return e == RV_E_NOMEM ? e : RV_OK; /* not JSON: no judgement */
    }
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const json_t *first = json_array_get(json_object_get(json_object_get(choice, "logprobs"), "content"), 0);
    const json_t *likely = json_object_get(first, "top_logprobs");
    int digit = digit_of(json_object_get(json_object_get(choice, "message"), "content"));
    if (json_array_size(likely) > 0) {
        *quality = expectation(likely);
    } else if (digit) {
        *quality = (double)(digit - 1) / (SCORES - 1);
    }
    json_decref(answer);
    return RV_OK;
}
