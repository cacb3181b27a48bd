/* The answers of chat completions and completions, whole and in chunks. Text is written straight into the buffer that is
 * sent: an event per token should cost less than the token. */
#include "api/openai_priv.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define CALL_MARK "<|tool_call_start|>"

enum { TOKENS, TOKEN_LOGPROBS, TOP_LOGPROBS, TEXT_OFFSETS, LOGS };

static bool take_piece(void *self, const rv_piece *piece);

void rv_api_openai_init(rv_api_openai *o)
{
    rv_text_init(&o->text, &rv_heap, RV_API_TEXT_MAX);
    rv_text_init(&o->out, &rv_heap, RV_API_TEXT_MAX);
    for (int i = 0; i < LOGS; i++) {
        rv_text_init(&o->logs[i], &rv_heap, RV_API_TEXT_MAX);
    }
    o->how.on_piece = take_piece;
    o->how.self = o;
}

void rv_api_openai_deinit(rv_api_openai *o)
{
    rv_text_deinit(&o->text);
    rv_text_deinit(&o->out);
    for (int i = 0; i < LOGS; i++) {
        rv_text_deinit(&o->logs[i]);
    }
}

static void clear_logs(rv_api_openai *o)
{
    for (int i = 0; i < LOGS; i++) {
        rv_text_clear(&o->logs[i]);
    }
}

void rv_api_openai_begin(rv_api_openai *o, size_t choice)
{
    o->choice = choice;
    o->begun = false;
    o->sent = o->characters = 0;
    rv_text_clear(&o->text);
    clear_logs(o);
}

/* ---- log-probabilities ---- */

static void add_logprob(rv_text *t, float x)
{
    /* What OpenAI's API writes for a token that cannot be. */
    rv_text_addf(t, "%.6g", isfinite(x) ? (double)x : -9999.0);
}

static void add_token(rv_text *t, rv_str bytes, float logprob)
{
    rv_text_adds(t, "\"token\":");
    rv_json_string(t, bytes.at, bytes.n);
    rv_text_adds(t, ",\"logprob\":");
    add_logprob(t, logprob);
    rv_text_adds(t, ",\"bytes\":[");
    for (size_t i = 0; i < bytes.n; i++) {
        rv_text_addf(t, "%s%u", i ? "," : "", (unsigned char)bytes.at[i]);
    }
    rv_text_addc(t, ']');
}

static void log_chat_token(rv_api_openai *o, const rv_tok *tok, const rv_piece *piece)
{
    rv_text *t = &o->logs[0];
    rv_text_adds(t, t->n ? ",{" : "{");
    add_token(t, rv_tok_bytes(tok, piece->token), piece->logprob);
    rv_text_adds(t, ",\"top_logprobs\":[");
    for (size_t i = 0; i < piece->n_top; i++) {
        rv_text_adds(t, i ? ",{" : "{");
        add_token(t, rv_tok_bytes(tok, piece->top[i].id), piece->top[i].logprob);
        rv_text_addc(t, '}');
    }
    rv_text_adds(t, "]}");
}

static void log_token(rv_api_openai *o, const rv_tok *tok, const rv_piece *piece)
{
    const char *comma = o->logs[TOKENS].n ? "," : "";
    rv_str bytes = rv_tok_bytes(tok, piece->token);
    for (int i = 0; i < LOGS; i++) {
        rv_text_adds(&o->logs[i], comma);
    }
    rv_json_string(&o->logs[TOKENS], bytes.at, bytes.n);
    add_logprob(&o->logs[TOKEN_LOGPROBS], piece->logprob);
    rv_text_addf(&o->logs[TEXT_OFFSETS], "%zu", o->characters);
    rv_text_addc(&o->logs[TOP_LOGPROBS], '{');
    for (size_t i = 0; i < piece->n_top; i++) {
        rv_str other = rv_tok_bytes(tok, piece->top[i].id);
        rv_text_adds(&o->logs[TOP_LOGPROBS], i ? "," : "");
        rv_json_string(&o->logs[TOP_LOGPROBS], other.at, other.n);
        rv_text_addc(&o->logs[TOP_LOGPROBS], ':');
        add_logprob(&o->logs[TOP_LOGPROBS], piece->top[i].logprob);
    }
    rv_text_addc(&o->logs[TOP_LOGPROBS], '}');
    for (size_t i = 0; i < bytes.n; i++) {
        o->characters += ((unsigned char)bytes.at[i] & 0xc0) != 0x80;
    }
}

/* The tokenizer of whoever answers. The loop holds its model while pieces come, so taking it here cannot wait for a load. */
static const rv_tok *tokenizer(rv_api_openai *o)
{
    if (!o->engine &&
        rv_backend_take(o->call->pipeline->backend, o->loop.routed_model, &o->engine) != RV_OK) {
        return NULL;
    }
    return rv_engine_tok(o->engine);
}

static void add_logs(rv_api_openai *o, rv_text *t)
{
    if (o->how.n_logprobs < 0) {
        rv_text_adds(t, "null");
    } else if (o->chat) {
        rv_text_addf(t, "{\"content\":[%s],\"refusal\":null}", rv_text_get(&o->logs[0]));
    } else {
        static const char *const names[] = { "tokens", "token_logprobs", "top_logprobs", "text_offset" };
        for (int i = 0; i < LOGS; i++) {
            rv_text_addf(t, "%s\"%s\":[%s]", i ? "," : "{", names[i], rv_text_get(&o->logs[i]));
        }
        rv_text_addc(t, '}');
    }
    clear_logs(o);
}

/* ---- frames ---- */

static void add_string(rv_text *t, const char *text)
{
    rv_json_string(t, text, strlen(text));
}

static void open_object(const rv_api_openai *o, rv_text *t, const char *object)
{
    const char *model = o->model ? o->model : o->loop.routed_model;
    rv_text_addf(t, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", o->id, object,
                 o->created);
    add_string(t, model);
    if (o->fingerprint[0]) {
        rv_text_addf(t, ",\"system_fingerprint\":\"%s\"", o->fingerprint);
    }
}

static void add_usage(const rv_api_openai *o, rv_text *t)
{
    const rv_generated *g = &o->total;
    rv_text_addf(t,
                 ",\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu,"
                 "\"prompt_tokens_details\":{\"cached_tokens\":%zu},"
                 "\"completion_tokens_details\":{\"accepted_prediction_tokens\":%zu,"
                 "\"rejected_prediction_tokens\":%zu,\"draft_model_accepted_tokens\":%zu,"
                 "\"draft_model_rejected_tokens\":%zu}}",
                 g->prompt_tokens, g->completion_tokens, g->prompt_tokens + g->completion_tokens,
                 g->cached_tokens, g->accepted, g->drafted - g->accepted, g->model_accepted,
                 g->model_drafted - g->model_accepted);
}

/* What the loop has to say beside OpenAI's fields. */
static rv_err add_loop(const rv_api_openai *o, rv_text *t)
{
    if (o->model) {
        return RV_OK;
    }
    json_t *answer = rv_request_json(&o->loop);
    if (!answer) {
        return rv_fail(RV_E_NOMEM, "the answer");
    }
    json_object_del(answer, "text");
    json_object_del(answer, "usage");
    rv_text_adds(t, ",\"ruvllm\":");
    rv_json_text(answer, t);
    json_decref(answer);
    return RV_OK;
}

static const char *finish_word(const rv_api_openai *o, bool calls)
{
    return calls ? "tool_calls" : o->done.finish == RV_FINISH_LENGTH ? "length" : "stop";
}

/* ---- chunks ---- */

/* One event. delta: the inside of the delta object (chat) or the text as JSON (completions). finish: NULL in between. */
static bool send_chunk(rv_api_openai *o, const char *delta, const char *finish)
{
    rv_text *t = &o->out;
    rv_text_clear(t);
    open_object(o, t, o->chat ? "chat.completion.chunk" : "text_completion");
    rv_text_addf(t,
                 o->chat ? ",\"choices\":[{\"index\":%zu,\"delta\":{%s},\"logprobs\":"
                         : ",\"choices\":[{\"index\":%zu,\"text\":%s,\"logprobs\":",
                 o->choice, delta);
    add_logs(o, t);
    rv_text_adds(t, ",\"finish_reason\":");
    rv_text_addf(t, finish ? "\"%s\"}]" : "%s}]", finish ? finish : "null");
    rv_text_adds(t, o->include_usage ? ",\"usage\":null" : "");
    if (finish && add_loop(o, t) != RV_OK) {
        return false;
    }
    rv_text_addc(t, '}');
    return rv_api_event(o->call, t);
}

static bool send_text(rv_api_openai *o, const char *at, size_t n)
{
    rv_text delta;
    rv_text_init(&delta, &rv_heap, RV_API_TEXT_MAX);
    if (o->chat) {
        rv_text_adds(&delta, o->begun ? "\"content\":" : "\"role\":\"assistant\",\"content\":");
    }
    rv_json_string(&delta, at, n);
    o->begun = true;
    bool sent = !delta.failed && send_chunk(o, rv_text_get(&delta), NULL);
    rv_text_deinit(&delta);
    return sent;
}

/* How much of the text can be sent: nothing from where a call begins, or may be about to begin. */
static size_t safe_length(const rv_api_openai *o)
{
    const char *at = rv_text_get(&o->text);
    size_t n = o->text.n, mark_n = strlen(CALL_MARK);
    if (!o->tools) {
        return n;
    }
    const char *mark = memmem(at, n, CALL_MARK, mark_n);
    if (mark) {
        return (size_t)(mark - at);
    }
    for (size_t k = mark_n - 1 < n ? mark_n - 1 : n; k > 0; k--) {
        if (memcmp(at + n - k, CALL_MARK, k) == 0) {
            return n - k;
        }
    }
    return n;
}

static bool take_piece(void *self, const rv_piece *piece)
{
    rv_api_openai *o = self;
    if (piece->token >= 0 && o->how.n_logprobs >= 0) {
        const rv_tok *tok = tokenizer(o);
        if (!tok) {
            return false;
        }
        o->chat ? log_chat_token(o, tok, piece) : log_token(o, tok, piece);
    }
    rv_text_add(&o->text, piece->text, piece->n);
    if (!o->stream) {
        return !o->text.failed;
    }
    size_t safe = safe_length(o);
    if (safe <= o->sent) {
        return true;
    }
    size_t from = o->sent;
    o->sent = safe;
    return send_text(o, rv_text_get(&o->text) + from, safe - from);
}

/* ---- the end of a choice ---- */

/* Calls as chunks of a stream: each whole, with its index. */
static bool send_calls(rv_api_openai *o, const json_t *calls)
{
    rv_text delta;
    rv_text_init(&delta, &rv_heap, RV_API_TEXT_MAX);
    rv_text_adds(&delta,
                 o->begun ? "\"tool_calls\":[" : "\"role\":\"assistant\",\"content\":null,\"tool_calls\":[");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *call = json_copy(json_array_get(calls, i));
        json_object_set_new(call, "index", json_integer((json_int_t)i));
        rv_text_adds(&delta, i ? "," : "");
        rv_json_text(call, &delta);
        json_decref(call);
    }
    rv_text_addc(&delta, ']');
    o->begun = true;
    bool sent = !delta.failed && send_chunk(o, rv_text_get(&delta), NULL);
    rv_text_deinit(&delta);
    return sent;
}

static void stream_end(rv_api_openai *o, const rv_text *rest, const json_t *calls)
{
    bool here = true;
    if (rest->n > o->sent ||
        !o->begun) { /* what was held back; a choice without any text has its one chunk too */
        bool silent = calls && rest->n <= o->sent;
        here = silent || send_text(o, rv_text_get(rest) + o->sent, rest->n - o->sent);
    }
    if (here && calls) {
        here = send_calls(o, calls);
    }
    if (here) {
        send_chunk(o, o->chat ? "" : "\"\"", finish_word(o, calls != NULL));
    }
}

static void add_choice(rv_api_openai *o, const rv_text *rest, const json_t *calls)
{
    rv_text *t = &o->out;
    rv_text_addf(t, "%s{\"index\":%zu,", o->choice ? "," : "", o->choice);
    if (o->chat) {
        rv_text_adds(t, "\"message\":{\"role\":\"assistant\",\"content\":");
        if (calls && rest->n == 0) {
            rv_text_adds(t, "null");
        } else {
            rv_json_string(t, rv_text_get(rest), rest->n);
        }
        rv_text_adds(t, ",\"refusal\":null");
        if (calls) {
            rv_text_adds(t, ",\"tool_calls\":");
            rv_json_text(calls, t);
        }
        rv_text_adds(t, "},\"logprobs\":");
    } else {
        rv_text_adds(t, "\"text\":");
        rv_json_string(t, rv_text_get(rest), rest->n);
        rv_text_adds(t, ",\"logprobs\":");
    }
    add_logs(o, t);
    rv_text_addf(t, ",\"finish_reason\":\"%s\"}", finish_word(o, calls != NULL));
}

rv_err rv_api_openai_end(rv_api_openai *o)
{
    json_t *calls = NULL;
    rv_text rest;
    rv_text_init(&rest, &rv_heap, RV_API_TEXT_MAX);
    rv_err e = rv_text_check(&o->text);
    if (!e && o->tools) {
        e = rv_chat_tool_calls(rv_text_get(&o->text), o->text.n, &calls, &rest);
    } else if (!e) {
        rv_text_add(&rest, rv_text_get(&o->text), o->text.n);
        e = rv_text_check(&rest);
    }
    if (!e && o->stream) {
        stream_end(o, &rest, calls);
    } else if (!e) {
        add_choice(o, &rest, calls);
        e = rv_text_check(&o->out);
    }
    json_decref(calls);
    rv_text_deinit(&rest);
    return e;
}

void rv_api_openai_finish(rv_api_openai *o)
{
    rv_text *t = &o->text; /* no longer needed for the choice */
    rv_text_clear(t);
    open_object(o, t, !o->chat ? "text_completion" : o->stream ? "chat.completion.chunk" : "chat.completion");
    rv_text_addf(t, ",\"choices\":[%s]", o->stream ? "" : rv_text_get(&o->out));
    add_usage(o, t);
    if (o->stream) {
        rv_text_addc(t, '}');
        if (o->include_usage) {
            rv_api_event(o->call, t);
        }
        rv_api_end(o->call);
        return;
    }
    rv_err e = add_loop(o, t);
    rv_text_addc(t, '}');
    if (e) {
        rv_api_fault(o->call, e, "the answer does not fit into memory");
    } else {
        rv_api_send_text(o->call, 200, "application/json", t);
    }
}
