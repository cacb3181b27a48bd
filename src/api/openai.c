/* POST /v1/chat/completions and /v1/completions: OpenAI's requests onto one model, or, with "model":"auto", onto the whole
 * loop. What a field asks for is done or refused, never quietly left out. Choices are made one after another. */
#include "api/openai_priv.h"
#include "base/clock.h"
#include "base/rng.h"
#include "store/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    CHOICES_MAX = 8,
    STOPS_MAX = 16,
    STOP_BYTES_MAX = 1024,
    BIASES_MAX = 1024,
    TOOLS_MAX = 128,
    PROMPT_IDS_MAX = 1 << 20,
    COMPLETION_TOKENS = 16, /* what OpenAI's API does where max_tokens is not given */
};

/* ---- fields ---- */

/* The last line of each: fields that name or label a request and cannot change its answer. */
static const char *const chat_fields[] = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "seed",
    "stop",
    "logprobs",
    "top_logprobs",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "tools",
    "tool_choice",
    "response_format",
    "parallel_tool_calls",
    "session_id",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
};
static const char *const completion_fields[] = {
    "model",
    "prompt",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "seed",
    "stop",
    "logprobs",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "user",
    "metadata",
};

static rv_err get_float(const json_t *o, const char *field, double low, double high, float *out)
{
    double x = (double)*out;
    RV_TRY(rv_json_get_double(o, field, low, high, &x));
    *out = (float)x;
    return RV_OK;
}

static rv_err get_i32(const json_t *o, const char *field, int32_t low, int32_t high, int32_t *out)
{
    int64_t x = *out;
    RV_TRY(rv_json_get_int(o, field, low, high, &x));
    *out = (int32_t)x;
    return RV_OK;
}

static rv_err read_biases(rv_api_openai *o, rv_sampling *s)
{
    json_t *biases = NULL, *value;
    RV_TRY(rv_json_get_object(o->body, "logit_bias", &biases));
    size_t n = json_object_size(biases), i = 0;
    if (n > BIASES_MAX) {
        return rv_fail(RV_E_ARG, "logit_bias: expected at most %d tokens, found %zu", BIASES_MAX, n);
    }
    rv_bias *list = rv_arena_take(o->call->arena, (n + 1) * sizeof *list);
    if (!list) {
        return rv_fail(RV_E_NOMEM, "reading logit_bias");
    }
    const char *key;
    json_object_foreach(biases, key, value)
    {
        int64_t id;
        double bias = json_number_value(value);
        if (!rv_parse_i64(rv_str_from(key), &id) || id < 0 || id > INT32_MAX) {
            return rv_fail(RV_E_ARG, "logit_bias: expected token ids as names, found \"%.40s\"", key);
        }
        if (!json_is_number(value) || !(bias >= -100 && bias <= 100)) {
            return rv_fail(RV_E_ARG, "logit_bias: expected numbers from -100 to 100 as values");
        }
        list[i++] = (rv_bias){ (int32_t)id, (float)bias };
    }
    s->bias = list;
    s->n_bias = n;
    return RV_OK;
}

/* Where nothing is said: the model card's settings for a model alone; greedy for the loop, whose answers should be the
 * same every time. */
static rv_err read_sampling(rv_api_openai *o)
{
    const json_t *b = o->body;
    rv_sampling *s = &o->how.sampling;
    *s = rv_sampling_default();
    if (!o->model) {
        *s = (rv_sampling){ .top_p = 1, .repeat_penalty = 1 };
    }
    RV_TRY(get_float(b, "temperature", 0, 2, &s->temperature));
    RV_TRY(get_float(b, "top_p", 0, 1, &s->top_p));
    RV_TRY(get_float(b, "min_p", 0, 1, &s->min_p));
    RV_TRY(get_i32(b, "top_k", 0, INT32_MAX, &s->top_k));
    RV_TRY(get_float(b, "repeat_penalty", 0.01, 10, &s->repeat_penalty));
    RV_TRY(get_i32(b, "repeat_last_n", 0, 1 << 16, &s->repeat_last));
    RV_TRY(get_float(b, "presence_penalty", -2, 2, &s->presence_penalty));
    RV_TRY(get_float(b, "frequency_penalty", -2, 2, &s->frequency_penalty));
    int64_t seed = 0;
    RV_TRY(rv_random_bytes(&seed, sizeof seed));
    RV_TRY(rv_json_get_int(b, "seed", INT64_MIN, INT64_MAX, &seed));
    s->seed = (uint64_t)seed;
    return read_biases(o, s);
}

static rv_err read_stops(rv_api_openai *o)
{
    const json_t *stop = json_object_get(o->body, "stop");
    if (!stop || json_is_null(stop)) {
        return RV_OK;
    }
    size_t n = json_is_array(stop) ? json_array_size(stop) : 1;
    if (n > STOPS_MAX) {
        return rv_fail(RV_E_ARG, "stop: expected at most %d texts, found %zu", STOPS_MAX, n);
    }
    const char **list = rv_arena_take(o->call->arena, (n + 1) * sizeof *list);
    if (!list) {
        return rv_fail(RV_E_NOMEM, "reading stop");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(stop) ? json_array_get(stop, i) : stop;
        size_t bytes = json_string_length(one);
        if (!json_is_string(one) || bytes == 0 || bytes > STOP_BYTES_MAX) {
            return rv_fail(RV_E_ARG, "stop: expected a text of 1 to %d bytes, or an array of such",
                           STOP_BYTES_MAX);
        }
        list[i] = json_string_value(one);
    }
    o->how.stops = list;
    o->how.n_stops = n;
    return RV_OK;
}

static rv_err read_limits(rv_api_openai *o)
{
    int64_t max_tokens = o->chat ? 0 : COMPLETION_TOKENS, n = 1;
    const char *user = NULL;
    size_t user_bytes = 0;
    RV_TRY(rv_json_get_string(o->body, "user", &user, &user_bytes));
    o->how.tenant = user ? rv_hash64(user, user_bytes, 0) : 0;
    RV_TRY(rv_json_get_int(o->body, "max_tokens", 1, INT32_MAX, &max_tokens));
    RV_TRY(rv_json_get_int(o->body, "max_completion_tokens", 1, INT32_MAX, &max_tokens));
    RV_TRY(rv_json_get_int(o->body, "n", 1, CHOICES_MAX, &n));
    o->how.max_tokens = (size_t)max_tokens;
    o->n = (size_t)n;
    return RV_OK;
}

static rv_err read_logprobs(rv_api_openai *o)
{
    int64_t top = 0;
    bool wanted = false;
    o->how.n_logprobs = -1;
    if (!o->chat) {
        top = -1;
        RV_TRY(rv_json_get_int(o->body, "logprobs", 0, RV_MAX_LOGPROBS, &top));
        o->how.n_logprobs = (int)top;
        return RV_OK;
    }
    RV_TRY(rv_json_get_bool(o->body, "logprobs", &wanted));
    RV_TRY(rv_json_get_int(o->body, "top_logprobs", 0, RV_MAX_LOGPROBS, &top));
    if (top > 0 && !wanted) {
        return rv_fail(RV_E_ARG, "top_logprobs: needs \"logprobs\": true beside it");
    }
    o->how.n_logprobs = wanted ? (int)top : -1;
    return RV_OK;
}

static rv_err read_stream(rv_api_openai *o)
{
    static const char *const fields[] = { "include_usage", "include_obfuscation" };
    json_t *options = NULL;
    RV_TRY(rv_json_get_bool(o->body, "stream", &o->stream));
    RV_TRY(rv_json_get_object(o->body, "stream_options", &options));
    if (!options) {
        return RV_OK;
    }
    RV_TRY(rv_api_only(options, fields, RV_COUNT(fields)));
    RV_TRY(rv_json_get_bool(options, "include_usage", &o->include_usage));
    return o->stream ? RV_OK : rv_fail(RV_E_ARG, "stream_options: needs \"stream\": true beside it");
}

static rv_err check_tool(const json_t *tool, size_t i)
{
    static const char *const tool_fields[] = { "type", "function" };
    static const char *const fields[] = { "name", "description", "parameters", "strict" };
    const json_t *function = json_object_get(tool, "function");
    const char *type = json_string_value(json_object_get(tool, "type"));
    if (!type || strcmp(type, "function") != 0 || !json_is_string(json_object_get(function, "name"))) {
        return rv_fail(RV_E_ARG, "tools[%zu]: expected {\"type\":\"function\",\"function\":{\"name\":...}}",
                       i);
    }
    char where[48];
    snprintf(where, sizeof where, "tools[%zu].", i);
    RV_TRY(rv_api_only_in(where, tool, tool_fields, RV_COUNT(tool_fields)));
    snprintf(where, sizeof where, "tools[%zu].function.", i);
    return rv_api_only_in(where, function, fields, RV_COUNT(fields));
}

/* Only what needs no grammar to be kept. */
static rv_err read_tools(rv_api_openai *o)
{
    json_t *tools = NULL;
    bool parallel = true;
    RV_TRY(rv_json_get_array(o->body, "tools", &tools));
    RV_TRY(rv_json_get_bool(o->body, "parallel_tool_calls", &parallel));
    const json_t *choice = json_object_get(o->body, "tool_choice");
    bool none = json_is_string(choice) && strcmp(json_string_value(choice), "none") == 0;
    bool automatic = !choice || json_is_null(choice) ||
                     (json_is_string(choice) && strcmp(json_string_value(choice), "auto") == 0);
    if (!none && !automatic) {
        return rv_fail(RV_E_ARG, "tool_choice: expected \"auto\" or \"none\"; a call cannot be forced");
    }
    if (json_array_size(tools) > TOOLS_MAX) {
        return rv_fail(RV_E_ARG, "tools: expected at most %d, found %zu", TOOLS_MAX, json_array_size(tools));
    }
    for (size_t i = 0; i < json_array_size(tools); i++) {
        RV_TRY(check_tool(json_array_get(tools, i), i));
    }
    if (json_array_size(tools) == 0 || none) {
        return RV_OK;
    }
    if (!parallel) {
        return rv_fail(RV_E_ARG, "parallel_tool_calls: false cannot be kept; leave it out");
    }
    o->tools = tools;
    o->how.keep_control = true; /* the markers of a call are control tokens */
    return RV_OK;
}

static rv_err read_format(rv_api_openai *o)
{
    json_t *format = NULL;
    const char *type = NULL;
    RV_TRY(rv_json_get_object(o->body, "response_format", &format));
    if (!format) {
        return RV_OK;
    }
    RV_TRY(rv_json_need_string(format, "type", &type, NULL));
    return strcmp(type, "text") == 0
               ? RV_OK
               : rv_fail(RV_E_ARG, "response_format: only {\"type\":\"text\"} is supported, found \"%.40s\"",
                         type);
}

/* The model's id; NULL stays for "auto". Unknown names are answered here, because they have their own status and code. */
static rv_err read_model(rv_api_openai *o)
{
    const char *name = NULL;
    RV_TRY(rv_json_get_string(o->body, "model", &name, NULL));
    if (o->chat && (!name || strcmp(name, "auto") == 0)) {
        return RV_OK;
    }
    if (name && strcmp(name, "auto") == 0) {
        return rv_fail(RV_E_ARG,
                       "model: \"auto\" needs messages; it is for /v1/chat/completions and /v1/query");
    }
    return rv_backend_resolve(o->call->pipeline->backend, name, &o->model);
}

/* ---- messages ---- */

/* The text of a message's content: as it is, or its parts joined as the prompt will join them. NULL: no text. */
static const char *content_text(rv_arena *arena, const json_t *content, size_t *n)
{
    if (json_is_string(content)) {
        *n = json_string_length(content);
        return json_string_value(content);
    }
    size_t parts = json_array_size(content), bytes = 0;
    for (size_t i = 0; i < parts; i++) {
        const json_t *text = json_object_get(json_array_get(content, i), "text");
        if (!json_is_string(text)) {
            return NULL;
        }
        bytes += json_string_length(text) + 1; /* and a newline, or the zero behind the last */
    }
    char *all = rv_arena_take(arena, bytes + 1), *end = all;
    for (size_t i = 0; all && i < parts; i++) {
        const json_t *text = json_object_get(json_array_get(content, i), "text");
        if (i > 0) {
            *end++ = '\n';
        }
        memcpy(end, json_string_value(text), json_string_length(text));
        end += json_string_length(text);
    }
    *n = (size_t)(end - all);
    return all;
}

/* A message as clients send it, often one of ours with what their library makes of it. The last line changes no answer; of audio
 * and function_call only null is taken. */
static rv_err check_message(const json_t *message, size_t i)
{
    static const char *const fields[] = { "role",        "content",          "tool_calls", "tool_call_id",
                                          "audio",       "function_call",    "name",       "refusal",
                                          "annotations", "reasoning_content" };
    static const char *const absent[] = { "audio", "function_call" };
    char where[48];
    snprintf(where, sizeof where, "messages[%zu].", i);
    RV_TRY(rv_api_only_in(where, message, fields, RV_COUNT(fields)));
    for (size_t k = 0; k < RV_COUNT(absent); k++) {
        const json_t *value = json_object_get(message, absent[k]);
        if (value && !json_is_null(value)) {
            return rv_fail(RV_E_ARG, "%s%s: is not supported; leave it out", where, absent[k]);
        }
    }
    return RV_OK;
}

static rv_err read_messages(rv_api_openai *o)
{
    json_t *messages = NULL;
    RV_TRY(rv_json_get_array(o->body, "messages", &messages));
    if (json_array_size(messages) == 0) {
        return rv_fail(RV_E_ARG, "messages: expected at least one message");
    }
    for (size_t i = 0; i < json_array_size(messages); i++) { /* roles and contents: rv_chat_render */
        if (!json_is_object(json_array_get(messages, i))) {
            return rv_fail(RV_E_ARG, "messages[%zu]: expected an object", i);
        }
        RV_TRY(check_message(json_array_get(messages, i), i));
    }
    o->messages = messages;
    return RV_OK;
}

/* What only the loop needs, and what it cannot do. */
static rv_err read_loop(rv_api_openai *o)
{
    size_t last = json_array_size(o->messages) - 1, session_bytes = 0;
    const json_t *message = json_array_get(o->messages, last);
    const char *role = json_string_value(json_object_get(message, "role"));
    RV_TRY(rv_api_get_name(o->body, "user", &o->user));
    RV_TRY(rv_json_get_string(o->body, "session_id", &o->session, &session_bytes));
    if (o->session) {
        RV_TRY(rv_session_check_id(o->session, session_bytes));
    }
    if (o->tools) {
        return rv_fail(RV_E_ARG, "tools: \"model\":\"auto\" takes none; name a model of GET /v1/models");
    }
    if (o->n > 1) {
        return rv_fail(RV_E_ARG, "n: \"model\":\"auto\" gives one answer; name a model of GET /v1/models");
    }
    if (!role || strcmp(role, "user") != 0) {
        return rv_fail(RV_E_ARG, "messages[%zu].role: the last message has to be the user's", last);
    }
    o->query = content_text(o->call->arena, json_object_get(message, "content"), &o->query_bytes);
    if (!o->query || rv_str_trim(rv_str_of(o->query, o->query_bytes)).n == 0) {
        return rv_fail(RV_E_ARG, "messages[%zu].content: expected a text that is not empty", last);
    }
    return RV_OK;
}

static rv_err read_ids(rv_api_openai *o, const json_t *list)
{
    size_t n = json_array_size(list);
    if (n > PROMPT_IDS_MAX) {
        return rv_fail(RV_E_ARG, "prompt: expected at most %d token ids, found %zu", PROMPT_IDS_MAX, n);
    }
    int32_t *ids = rv_arena_take(o->call->arena, n * sizeof *ids);
    if (!ids) {
        return rv_fail(RV_E_NOMEM, "reading prompt");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t x = json_integer_value(id);
        if (!json_is_integer(id) || x < 0 || x > INT32_MAX) {
            return rv_fail(RV_E_ARG, "prompt[%zu]: expected a token id", i);
        }
        ids[i] = (int32_t)x;
    }
    o->prompt_ids = ids;
    o->n_prompt_ids = n;
    return RV_OK;
}

/* A text, an array of texts (choices of each in turn), or an array of token ids. */
static rv_err read_prompt(rv_api_openai *o)
{
    json_t *prompt = json_object_get(o->body, "prompt");
    size_t n = json_array_size(prompt);
    if (!json_is_string(prompt) && n == 0) {
        return rv_fail(RV_E_ARG, "prompt: expected a text, an array of texts, or an array of token ids");
    }
    if (json_is_number(json_array_get(prompt, 0))) {
        o->n_prompts = 1;
        return read_ids(o, prompt);
    }
    o->prompts = prompt;
    o->n_prompts = json_is_string(prompt) ? 1 : n;
    if (o->n_prompts * o->n > CHOICES_MAX) {
        return rv_fail(RV_E_ARG, "prompt: at most %d answers per request, asked for %zu", CHOICES_MAX,
                       o->n_prompts * o->n);
    }
    for (size_t i = 0; i < n; i++) {
        if (!json_is_string(json_array_get(prompt, i))) {
            return rv_fail(RV_E_ARG, "prompt[%zu]: expected a text", i);
        }
    }
    return RV_OK;
}

static rv_err read_all(rv_api_openai *o)
{
    RV_TRY(o->chat ? rv_api_only(o->body, chat_fields, RV_COUNT(chat_fields))
                   : rv_api_only(o->body, completion_fields, RV_COUNT(completion_fields)));
    RV_TRY(o->chat ? read_messages(o) : RV_OK);
    RV_TRY(read_limits(o));
    RV_TRY(o->chat ? RV_OK : read_prompt(o));
    RV_TRY(read_sampling(o));
    RV_TRY(read_stops(o));
    RV_TRY(read_logprobs(o));
    RV_TRY(read_stream(o));
    RV_TRY(o->chat ? read_format(o) : RV_OK);
    RV_TRY(o->chat ? read_tools(o) : RV_OK);
    return o->chat && !o->model ? read_loop(o) : RV_OK;
}

/* ---- running ---- */

static rv_err run_loop(rv_api_openai *o)
{
    rv_request *r = &o->loop;
    RV_TRY(rv_request_init(r, o->call->arena));
    r->query = o->query;
    r->query_bytes = o->query_bytes;
    r->messages = o->messages;
    r->user = o->user;
    r->key = o->call->key;
    r->session_id = o->session;
    r->max_tokens = o->how.max_tokens;
    r->extra = o->how;
    r->sampling_set = true;
    snprintf(o->id, sizeof o->id, "chatcmpl-%s", r->request_id);
    rv_err e = rv_pipeline_run(o->call->pipeline, r);
    o->done = r->generated;
    return e;
}

static rv_err run_model(rv_api_openai *o, size_t choice)
{
    rv_backend_request request = { .model = o->model, .how = o->how };
    request.how.sampling.seed += choice;
    if (o->chat) {
        request.messages = o->messages;
        request.tools = o->tools;
    } else if (o->prompt_ids) {
        request.prompt_ids = o->prompt_ids;
        request.n_prompt_ids = o->n_prompt_ids;
    } else {
        const json_t *prompt =
            json_is_string(o->prompts) ? o->prompts : json_array_get(o->prompts, choice / o->n);
        request.prompt = json_string_value(prompt);
        request.prompt_bytes = json_string_length(prompt);
    }
    return rv_backend_generate(o->call->pipeline->backend, &request, &o->done);
}

static void add_usage(rv_api_openai *o, size_t choice)
{
    if (choice % o->n == 0) { /* the prompt of several choices counts once */
        o->total.prompt_tokens += o->done.prompt_tokens;
        o->total.cached_tokens += o->done.cached_tokens;
    }
    o->total.completion_tokens += o->done.completion_tokens;
    o->total.drafted += o->done.drafted;
    o->total.accepted += o->done.accepted;
    o->total.model_drafted += o->done.model_drafted;
    o->total.model_accepted += o->done.model_accepted;
    rv_api_count_tokens(&o->done);
}

/* True when all choices were made; otherwise the call has been answered. */
static bool run_choices(rv_api_openai *o)
{
    size_t choices = o->chat ? o->n : o->n * o->n_prompts;
    for (size_t i = 0; i < choices; i++) {
        o->done = (rv_generated){ 0 };
        rv_api_openai_begin(o, i);
        rv_err e = o->model ? run_model(o, i) : run_loop(o);
        if (atomic_load(rv_http_gone(o->call->http))) {
            rv_api_count_tokens(&o->done);
            rv_api_gone(o->call);
            return false;
        }
        if (e) {
            rv_api_generation_failed(o->call, e, o->chat ? "messages" : "prompt");
            return false;
        }
        add_usage(o, i);
        e = rv_api_openai_end(o);
        if (e) {
            rv_api_fault(o->call, e, "the answer could not be put together");
            return false;
        }
    }
    return true;
}

/* Loading stands apart from generating, because its errors are ours and name files. */
static bool take_model(rv_api_openai *o)
{
    rv_err e = rv_backend_take(o->call->pipeline->backend, o->model, &o->engine);
    if (e) {
        rv_api_fault(o->call, e, "the model could not be loaded; the server's log says why");
        return false;
    }
    const rv_engine_info *info = rv_engine_get_info(o->engine);
    snprintf(o->fingerprint, sizeof o->fingerprint, "fp_%016" PRIx64, info->fingerprint);
    if (o->chat && info->family == RV_CHAT_NONE) {
        rv_api_refuse(o->call, 400, "model", NULL, "this model has no chat template; use /v1/completions");
        return false;
    }
    return true;
}

static bool refused(rv_api_openai *o)
{
    rv_err e = read_model(o);
    if (e == RV_E_NOT_FOUND) {
        rv_api_no_model(o->call, json_string_value(json_object_get(o->body, "model")));
        return true;
    }
    if (!e) {
        e = read_all(o);
    }
    if (e) {
        rv_api_fail(o->call, e);
    }
    return e != RV_OK;
}

static void serve(rv_api_call *call, bool chat)
{
    rv_api_openai o = { .call = call, .body = call->body, .chat = chat, .n = 1 };
    char uuid[37];
    if (!rv_api_has_model(call)) {
        return;
    }
    if (rv_uuid(uuid) != RV_OK) {
        rv_api_fault(call, RV_E_IO, "no random bytes");
        return;
    }
    snprintf(o.id, sizeof o.id, "%s-%s", chat ? "chatcmpl" : "cmpl", uuid);
    o.created = rv_clock_wall_ms() / 1000;
    o.how.cancel = rv_http_gone(call->http);
    rv_api_openai_init(&o);
    if (!refused(&o) && (!o.model || take_model(&o)) && run_choices(&o)) {
        rv_api_openai_finish(&o);
    }
    if (o.engine) {
        rv_backend_put(call->pipeline->backend, o.engine);
    }
    rv_api_openai_deinit(&o);
}

void rv_api_chat(rv_api_call *call)
{
    serve(call, true);
}
void rv_api_completions(rv_api_call *call)
{
    serve(call, false);
}
