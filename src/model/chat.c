/* Writing the chat format. The prompt grows as one text; beside it a list of spans says which stretches may hold control
 * texts, and the tokenizer gets both at the end. */
#include "model/chat.h"
#include "model/chat_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_BEGIN "<|im_start|>"
#define TURN_END   "<|im_end|>"
#define THINK_END  "</think>"

static bool holds(rv_str text, const char *word)
{
    return memmem(text.at, text.n, word, strlen(word)) != NULL;
}

rv_err rv_chat_family_of(const rv_gguf *g, rv_chat_family *out)
{
    static const char *const needed[] = { "messages", TURN_BEGIN, TURN_END };
    rv_str template;
    bool found;
    RV_TRY(rv_gguf_get_string(g, "tokenizer.chat_template", &template, &found));
    if (!found) {
        *out = RV_CHAT_NONE;
        return RV_OK;
    }
    for (size_t i = 0; i < RV_COUNT(needed); i++) {
        if (!holds(template, needed[i])) {
            return rv_fail(RV_E_UNSUPPORTED,
                           "%s: tokenizer.chat_template is not of the LFM2 family: it does not mention %s",
                           rv_gguf_path(g), needed[i]);
        }
    }
    *out = holds(template, "<|tool_list_start|>") ? RV_CHAT_LFM2 : RV_CHAT_LFM2_5;
    return RV_OK;
}

/* ---- the prompt and its spans ---- */

typedef struct render {
    const rv_tok *tok;
    rv_chat_family family;
    bool trust_all;
    rv_text *prompt;
    size_t covered; /* bytes of prompt that spans describe */
    rv_tok_span *spans;
    size_t n_spans, room;
    bool no_memory;
    rv_text content; /* of the message at hand */
} render;

/* Everything appended since the last call is of this kind. */
static void mark(render *r, rv_tok_special special)
{
    size_t n = r->prompt->n - r->covered;
    r->covered = r->prompt->n;
    special = r->trust_all ? RV_TOK_SPECIAL : special;
    if (r->n_spans && r->spans[r->n_spans - 1].special == special) {
        r->spans[r->n_spans - 1].n += n;
        return;
    }
    if (r->n_spans == r->room) {
        size_t room = r->room ? 2 * r->room : 32;
        rv_tok_span *more = rv_resize(r->prompt->mem, r->spans, room * sizeof *more);
        if (!more) {
            r->no_memory = true;
            return;
        }
        r->spans = more;
        r->room = room;
    }
    r->spans[r->n_spans++] = (rv_tok_span){ n, special };
}

static void add(render *r, rv_tok_special special, const char *at, size_t n)
{
    rv_text_add(r->prompt, at, n);
    mark(r, special);
}

static void markup(render *r, const char *text)
{
    add(r, RV_TOK_SPECIAL, text, strlen(text));
}

/* Trusted text from which still no turn may be ended or begun: it may repeat what a user or a document said. */
static void add_guarded(render *r, rv_str text)
{
    static const char *const turns[] = { TURN_BEGIN, TURN_END, "<|startoftext|>", "<|endoftext|>" };
    size_t from = 0, at = 0;
    while (at < text.n) {
        size_t length = 0;
        for (size_t i = 0; text.at[at] == '<' && i < RV_COUNT(turns); i++) {
            bool here = rv_str_starts(rv_str_of(text.at + at, text.n - at), turns[i]);
            length = here ? strlen(turns[i]) : length;
        }
        if (length) {
            add(r, RV_TOK_SPECIAL, text.at + from, at - from);
            add(r, RV_TOK_PLAIN, text.at + at, length);
            from = at + length;
        }
        at += length ? length : 1;
    }
    add(r, RV_TOK_SPECIAL, text.at + from, text.n - from);
}

/* ---- values as Python prints them ---- */

typedef enum style { JSON_STYLE, PYTHON_STYLE } style;

/* Escapes as json.dumps(ensure_ascii=False) chooses them; Python reads them alike. */
static void add_quoted(rv_text *t, const char *at, size_t n)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    rv_text_addc(t, '"');
    for (size_t i = 0; i < n; i++) {
        const char *special = at[i] ? strchr(plain, at[i]) : NULL;
        if (special) {
            rv_text_addc(t, '\\');
            rv_text_addc(t, letter[special - plain]);
        } else if ((unsigned char)at[i] < 0x20) {
            rv_text_addf(t, "\\u%04x", (unsigned)at[i]);
        } else {
            rv_text_addc(t, at[i]);
        }
    }
    rv_text_addc(t, '"');
}

/* Fewest digits that read back as x, with an exponent below 1e-4 and from 1e16 on: repr(float). */
static void add_real(rv_text *t, double x)
{
    char text[40];
    int digits = 1;
    do {
        snprintf(text, sizeof text, "%.*e", digits - 1, x);
    } while (strtod(text, NULL) != x && digits++ < 17);
    int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent < -4 || exponent >= 16) {
        rv_text_adds(t, text);
        return;
    }
    int decimals = digits - 1 - exponent;
    rv_text_addf(t, "%.*f", decimals < 1 ? 1 : decimals, x);
}

static rv_err add_value(rv_text *t, const json_t *value, style how, int depth)
{
    static const char *const words[2][3] = { { "true", "false", "null" }, { "True", "False", "None" } };
    if (depth > MAX_CALL_DEPTH) {
        return rv_fail(RV_E_ARG, "nested deeper than %d", MAX_CALL_DEPTH);
    }
    switch (json_typeof(value)) {
    case JSON_STRING: add_quoted(t, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: rv_text_addf(t, "%" JSON_INTEGER_FORMAT, json_integer_value(value)); break;
    case JSON_REAL: add_real(t, json_real_value(value)); break;
    case JSON_TRUE: rv_text_adds(t, words[how][0]); break;
    case JSON_FALSE: rv_text_adds(t, words[how][1]); break;
    case JSON_NULL: rv_text_adds(t, words[how][2]); break;
    case JSON_ARRAY:
        rv_text_addc(t, '[');
        for (size_t i = 0; i < json_array_size(value); i++) {
            rv_text_adds(t, i ? ", " : "");
            RV_TRY(add_value(t, json_array_get(value, i), how, depth + 1));
        }
        rv_text_addc(t, ']');
        break;
    case JSON_OBJECT: {
        rv_text_addc(t, '{');
        json_t *object = (json_t *)(uintptr_t)value; /* jansson iterates only over what could be changed */
        for (void *i = json_object_iter(object), *first = i; i; i = json_object_iter_next(object, i)) {
            rv_text_adds(t, i == first ? "" : ", ");
            add_quoted(t, json_object_iter_key(i), strlen(json_object_iter_key(i)));
            rv_text_adds(t, ": ");
            RV_TRY(add_value(t, json_object_iter_value(i), how, depth + 1));
        }
        rv_text_addc(t, '}');
        break;
    }
    }
    return RV_OK;
}

/* ---- messages ---- */

typedef enum role { SYSTEM, USER, ASSISTANT, TOOL } role;

static rv_err role_of(const json_t *message, size_t i, role *out)
{
    static const struct {
        const char *name;
        role role;
    } roles[] = { { "system", SYSTEM },
                  { "developer", SYSTEM },
                  { "user", USER },
                  { "tool", TOOL },
                  { "assistant", ASSISTANT } };
    const char *name = json_string_value(json_object_get(message, "role"));
    if (!name) {
        return rv_fail(RV_E_ARG, "messages[%zu].role: expected a string", i);
    }
    for (size_t k = 0; k < RV_COUNT(roles); k++) {
        if (strcmp(name, roles[k].name) == 0) {
            if (roles[k].role == SYSTEM && i > 0) {
                return rv_fail(RV_E_ARG, "messages[%zu].role: '%s' is allowed in the first message only", i,
                               name);
            }
            *out = roles[k].role;
            return RV_OK;
        }
    }
    return rv_fail(RV_E_ARG, "messages[%zu].role: expected system, user, assistant or tool, found '%.40s'", i,
                   name);
}

/* The text of a message: a string, or text parts joined with a newline. */
static rv_err read_content(const json_t *message, size_t i, bool optional, rv_text *t)
{
    rv_text_clear(t);
    const json_t *content = json_object_get(message, "content");
    if (json_is_string(content)) {
        rv_text_add(t, json_string_value(content), json_string_length(content));
        return rv_text_check(t);
    }
    if (optional && (!content || json_is_null(content))) {
        return RV_OK;
    }
    if (!json_is_array(content)) {
        return rv_fail(RV_E_ARG, "messages[%zu].content: expected a string or an array of text parts", i);
    }
    for (size_t k = 0; k < json_array_size(content); k++) {
        const json_t *part = json_array_get(content, k), *text = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0) {
            return rv_fail(RV_E_ARG, "messages[%zu].content[%zu].type: expected 'text', found '%.40s'", i, k,
                           type ? type : "");
        }
        if (!json_is_string(text)) {
            return rv_fail(RV_E_ARG, "messages[%zu].content[%zu].text: expected a string", i, k);
        }
        rv_text_adds(t, k ? "\n" : "");
        rv_text_add(t, json_string_value(text), json_string_length(text));
    }
    return rv_text_check(t);
}

static rv_err add_tools(render *r, const json_t *tools)
{
    bool marked = r->family == RV_CHAT_LFM2;
    markup(r, marked ? "List of tools: <|tool_list_start|>[" : "List of tools: [");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        rv_text_adds(r->prompt, i ? ", " : "");
        if (json_is_string(tool)) {
            rv_text_add(r->prompt, json_string_value(tool), json_string_length(tool));
        } else if (!json_is_object(tool)) {
            return rv_fail(RV_E_ARG, "tools[%zu]: expected an object", i);
        } else if (add_value(r->prompt, tool, JSON_STYLE, 0) != RV_OK) {
            return rv_fail(RV_E_ARG, "tools[%zu]: nested deeper than %d", i, MAX_CALL_DEPTH);
        }
    }
    mark(r, RV_TOK_PLAIN);
    markup(r, marked ? "]<|tool_list_end|>" : "]");
    return RV_OK;
}

/* The system turn is there when there is text for it or there are tools. */
static rv_err add_system(render *r, const json_t *message, const json_t *tools)
{
    rv_text_clear(&r->content);
    if (message) {
        RV_TRY(read_content(message, 0, false, &r->content));
    }
    if (!r->content.n && !json_array_size(tools)) {
        return RV_OK;
    }
    markup(r, TURN_BEGIN "system\n");
    add_guarded(r, rv_str_of(rv_text_get(&r->content), r->content.n));
    if (json_array_size(tools)) {
        markup(r, r->content.n ? "\n" : "");
        RV_TRY(add_tools(r, tools));
    }
    markup(r, TURN_END "\n");
    return RV_OK;
}

static bool is_call_name(rv_str name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.at[i], lower = (char)(c | 0x20);
        if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-' && c != '.') {
            return false;
        }
    }
    return name.n > 0 && name.n <= 64;
}

/* One call as the model writes it: name(key=value, ...). */
static rv_err add_call(rv_text *t, const json_t *call, size_t i, size_t k)
{
    const json_t *function = json_object_get(call, "function"), *name = json_object_get(function, "name");
    json_t *given = json_object_get(function, "arguments"), *arguments = NULL;
    if (!is_call_name(rv_str_of(json_string_value(name), json_string_length(name)))) {
        return rv_fail(
            RV_E_ARG,
            "messages[%zu].tool_calls[%zu].function.name: expected 1 to 64 of a-z, A-Z, 0-9, '_', '-', '.'",
            i, k);
    }
    rv_err e = RV_OK;
    if (json_is_string(given)) { /* as the API has it: JSON inside a string */
        e = rv_json_parse(json_string_value(given), json_string_length(given), &arguments);
    } else {
        arguments = json_incref(given);
    }
    if (e == RV_E_NOMEM) {
        return e;
    }
    if (e || !json_is_object(arguments)) {
        e = rv_fail(RV_E_ARG, "messages[%zu].tool_calls[%zu].function.arguments: expected a JSON object", i,
                    k);
    }
    rv_text_add(t, json_string_value(name), json_string_length(name));
    rv_text_addc(t, '(');
    for (void *at = json_object_iter(arguments), *first = at; at && !e;
         at = json_object_iter_next(arguments, at)) {
        rv_text_addf(t, "%s%s=", at == first ? "" : ", ", json_object_iter_key(at));
        if (add_value(t, json_object_iter_value(at), PYTHON_STYLE, 0) != RV_OK) {
            e = rv_fail(RV_E_ARG, "messages[%zu].tool_calls[%zu].function.arguments: nested deeper than %d",
                        i, k, MAX_CALL_DEPTH);
        }
    }
    rv_text_addc(t, ')');
    json_decref(arguments);
    return e;
}

static rv_err add_calls(render *r, const json_t *calls, size_t i)
{
    markup(r, CALL_BEGIN "[");
    for (size_t k = 0; k < json_array_size(calls); k++) {
        rv_text_adds(r->prompt, k ? ", " : "");
        RV_TRY(add_call(r->prompt, json_array_get(calls, k), i, k));
    }
    mark(r, RV_TOK_PLAIN);
    markup(r, "]" CALL_END);
    return RV_OK;
}

static rv_str without_thoughts(rv_str text)
{
    size_t length = strlen(THINK_END);
    bool any = false;
    for (const char *at; (at = memmem(text.at, text.n, THINK_END, length)); any = true) {
        text = rv_str_of(at + length, text.n - (size_t)(at - text.at) - length);
    }
    return any ? rv_str_trim(text) : text;
}

static rv_err add_message(render *r, const json_t *message, size_t i, bool is_last_answer)
{
    static const char *const headers[] = {
        [USER] = TURN_BEGIN "user\n", [ASSISTANT] = TURN_BEGIN "assistant\n", [TOOL] = TURN_BEGIN "tool\n"
    };
    role who = USER;
    RV_TRY(role_of(message, i, &who));
    const json_t *calls = who == ASSISTANT ? json_object_get(message, "tool_calls") : NULL;
    if (calls && !json_is_array(calls) && !json_is_null(calls)) {
        return rv_fail(RV_E_ARG, "messages[%zu].tool_calls: expected an array", i);
    }
    RV_TRY(read_content(message, i, json_array_size(calls) > 0, &r->content));
    rv_str text = rv_str_of(rv_text_get(&r->content), r->content.n);
    bool wrapped = who == TOOL && r->family == RV_CHAT_LFM2;
    markup(r, headers[who]);
    markup(r, wrapped ? "<|tool_response_start|>" : "");
    if (json_array_size(calls)) {
        RV_TRY(add_calls(r, calls, i));
    }
    if (who == ASSISTANT) {
        bool strip = r->family == RV_CHAT_LFM2_5 && !is_last_answer;
        add_guarded(r, strip ? without_thoughts(text) : text);
    } else {
        add(r, RV_TOK_PLAIN, text.at, text.n);
    }
    markup(r, wrapped ? "<|tool_response_end|>" : "");
    markup(r, TURN_END "\n");
    return RV_OK;
}

static size_t last_answer(const json_t *messages)
{
    for (size_t i = json_array_size(messages); i-- > 0;) {
        const char *name = json_string_value(json_object_get(json_array_get(messages, i), "role"));
        if (name && strcmp(name, "assistant") == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static rv_err add_all(render *r, const json_t *messages, const json_t *tools, bool add_generation_prompt)
{
    size_t n = json_array_size(messages), last = last_answer(messages), i = 0;
    if (rv_tok_bos(r->tok) >= 0) {
        rv_str bos = rv_tok_bytes(r->tok, rv_tok_bos(r->tok));
        add(r, RV_TOK_SPECIAL, bos.at, bos.n);
    }
    role first = USER;
    RV_TRY(role_of(json_array_get(messages, 0), 0, &first));
    if (first == SYSTEM) {
        i = 1;
    }
    RV_TRY(add_system(r, first == SYSTEM ? json_array_get(messages, 0) : NULL, tools));
    for (; i < n; i++) {
        RV_TRY(add_message(r, json_array_get(messages, i), i, i == last));
    }
    if (add_generation_prompt) {
        markup(r, TURN_BEGIN "assistant\n");
    }
    return r->no_memory ? rv_fail(RV_E_NOMEM, "rendering %zu messages", n) : RV_OK;
}

rv_err rv_chat_render(const rv_tok *tok, rv_chat_family family, const json_t *messages, const json_t *tools,
                      rv_chat_options how, rv_text *prompt, rv_ids *ids)
{
    if (family == RV_CHAT_NONE) {
        return rv_fail(RV_E_UNSUPPORTED,
                       "this model has no chat template (tokenizer.chat_template): use completions");
    }
    if (json_array_size(messages) == 0) {
        return rv_fail(RV_E_ARG, "messages: expected an array of at least one message");
    }
    if (tools && !json_is_array(tools) && !json_is_null(tools)) {
        return rv_fail(RV_E_ARG, "tools: expected an array");
    }
    size_t start = prompt->n;
    render r = {
        .tok = tok, .family = family, .trust_all = how.trust_all, .prompt = prompt, .covered = start
    };
    rv_text_init(&r.content, prompt->mem, prompt->max);
    rv_err e = add_all(&r, messages, tools, how.add_generation_prompt);
    e = e ? e : rv_text_check(prompt);
    if (!e && ids) {
        e = rv_tok_encode_spans(tok, prompt->at + start, r.spans, r.n_spans, ids);
    }
    rv_text_deinit(&r.content);
    rv_free(prompt->mem, r.spans);
    return e;
}
