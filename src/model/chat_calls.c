/* Reading tool calls out of generated text. One small parser takes Python literals, of which JSON is nearly a part: the
 * words true, false, null and the escape \/ are the difference, and both are taken. What it cannot read stays text. */
#include "model/chat.h"
#include "model/chat_priv.h"

#include "base/rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* After a failure at stays where it was found; ok is looked at once, at the end. */
typedef struct scan {
    const char *at, *end;
    bool ok;
} scan;

static void skip_white(scan *s)
{
    while (s->at < s->end && strchr(" \t\r\n", *s->at) && *s->at) {
        s->at++;
    }
}

/* The next character that is not white space, 0 at the end. */
static char peek(scan *s)
{
    skip_white(s);
    return s->at < s->end ? *s->at : 0;
}

static bool accept(scan *s, char c)
{
    bool is = peek(s) == c && c;
    s->at += is;
    return is;
}

static void expect(scan *s, char c)
{
    s->ok = accept(s, c) && s->ok;
}

/* A name, with dots when it is one of a function; empty when there is none. */
static rv_str take_name(scan *s, const char *also)
{
    skip_white(s);
    const char *from = s->at;
    for (; s->at < s->end; s->at++) {
        char c = *s->at, lower = (char)(c | 0x20);
        bool digit = c >= '0' && c <= '9' && s->at > from;
        if (!(lower >= 'a' && lower <= 'z') && !digit && c != '_' &&
            !(c && strchr(also, c) && s->at > from)) {
            break;
        }
    }
    return rv_str_of(from, (size_t)(s->at - from));
}

/* ---- strings ---- */

static bool take_hex(scan *s, int digits, uint32_t *out)
{
    uint32_t x = 0;
    if (s->end - s->at < digits) {
        return false;
    }
    for (int i = 0; i < digits; i++) {
        char c = *s->at++, lower = (char)(c | 0x20);
        if (c >= '0' && c <= '9') {
            x = x * 16 + (uint32_t)(c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            x = x * 16 + (uint32_t)(lower - 'a') + 10;
        } else {
            return false;
        }
    }
    *out = x;
    return true;
}

/* \xHH, \uHHHH (two of them for a surrogate pair, as JSON has it), \UHHHHHHHH. */
static void take_code(scan *s, int digits, rv_text *t)
{
    uint32_t code = 0, low = 0;
    char utf8[4];
    bool ok = take_hex(s, digits, &code);
    if (ok && code >= 0xd800 && code < 0xdc00 && s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u') {
        s->at += 2;
        ok = take_hex(s, 4, &low) && low >= 0xdc00 && low < 0xe000;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    size_t n = ok ? rv_utf8_encode(code, utf8) : 0;
    rv_text_add(t, utf8, n);
    s->ok = n > 0 && s->ok;
}

static void take_escape(scan *s, rv_text *t)
{
    static const char letter[] = "\"'\\/abfnrtv0", meaning[] = "\"'\\/\a\b\f\n\r\t\v";
    char c = s->at < s->end ? *s->at++ : 0;
    const char *found = c ? strchr(letter, c) : NULL;
    if (found) {
        rv_text_addc(t, meaning[found - letter]); /* \0 means the terminator of that list */
    } else if (c == 'x' || c == 'u' || c == 'U') {
        take_code(s, c == 'x' ? 2 : c == 'u' ? 4 : 8, t);
    } else if (c !=
               '\n') { /* before a newline it joins lines; before anything else it is an ordinary character */
        rv_text_addc(t, '\\');
        rv_text_addc(t, c);
    }
    s->ok = c && s->ok;
}

static bool at_quote(const scan *s, char quote, size_t n)
{
    size_t k = 0;
    while (k < n && s->at + k < s->end && s->at[k] == quote) {
        k++;
    }
    return k == n;
}

/* A string in either quote, single or triple. */
static json_t *take_string(scan *s)
{
    char quote = *s->at;
    size_t length = at_quote(s, quote, 3) ? 3 : 1;
    rv_text t;
    rv_text_init(&t, &rv_heap, (size_t)(s->end - s->at) + 1);
    s->at += length;
    while (s->ok && !at_quote(s, quote, length)) {
        if (s->at == s->end) {
            s->ok = false;
        } else if (*s->at == '\\') {
            s->at++;
            take_escape(s, &t);
        } else {
            rv_text_addc(&t, *s->at++);
        }
    }
    s->at += s->ok ? length : 0;
    json_t *value = s->ok && rv_text_check(&t) == RV_OK ? json_stringn(rv_text_get(&t), t.n) : NULL;
    rv_text_deinit(&t);
    return value;
}

/* ---- values ---- */

static json_t *take_number(scan *s)
{
    const char *from = s->at;
    while (s->at < s->end && *s->at && strchr("+-.0123456789eE", *s->at)) {
        s->at++;
    }
    rv_str text = rv_str_of(from, (size_t)(s->at - from));
    int64_t whole;
    double real;
    if (rv_parse_i64(text, &whole)) {
        return json_integer(whole);
    }
    return rv_parse_f64(text, &real) && isfinite(real) ? json_real(real) : NULL;
}

static json_t *take_word(scan *s)
{
    rv_str word = take_name(s, "");
    if (rv_str_eq(word, "True") || rv_str_eq(word, "true")) {
        return json_true();
    }
    if (rv_str_eq(word, "False") || rv_str_eq(word, "false")) {
        return json_false();
    }
    return rv_str_eq(word, "None") || rv_str_eq(word, "null") ? json_null() : NULL;
}

static json_t *take_value(scan *s, int depth);

static json_t *take_list(scan *s, int depth)
{
    json_t *list = json_array();
    s->at++;
    while (s->ok && !accept(s, ']')) {
        s->ok = json_array_append_new(list, take_value(s, depth + 1)) == 0 && s->ok;
        if (peek(s) != ']') {
            expect(s, ',');
        }
    }
    return list;
}

static json_t *take_dictionary(scan *s, int depth)
{
    json_t *dictionary = json_object();
    s->at++;
    while (s->ok && !accept(s, '}')) {
        json_t *key = peek(s) == '"' || peek(s) == '\'' ? take_string(s) : NULL;
        s->ok = key && s->ok;
        expect(s, ':');
        json_t *value = s->ok ? take_value(s, depth + 1) : NULL;
        s->ok =
            json_object_setn_new(dictionary, json_string_value(key), json_string_length(key), value) == 0 &&
            s->ok;
        json_decref(key);
        if (peek(s) != '}') {
            expect(s, ',');
        }
    }
    return dictionary;
}

/* The caller's, or NULL with ok false. Goes down into lists and dictionaries at most MAX_CALL_DEPTH times. */
static json_t *take_value(scan *s, int depth)
{
    char c = peek(s);
    json_t *value = NULL;
    if (c == '"' || c == '\'') {
        value = take_string(s);
    } else if ((c == '[' || c == '{') && depth < MAX_CALL_DEPTH) {
        value = c == '[' ? take_list(s, depth) : take_dictionary(s, depth);
    } else if (c && strchr("+-.0123456789", c)) {
        value = take_number(s);
    } else {
        value = take_word(s);
    }
    if (!value || !s->ok) {
        s->ok = false;
        json_decref(value);
        return NULL;
    }
    return value;
}

/* ---- calls ---- */

/* {"name": ..., "arguments": {...}} to its parts; some fine-tunes say parameters, some write the arguments as a string. */
static json_t *take_json_call(scan *s, json_t **name)
{
    json_t *call = take_value(s, 0), *arguments = json_object_get(call, "arguments");
    arguments = arguments ? arguments : json_object_get(call, "parameters");
    json_t *parsed = NULL;
    if (json_is_string(arguments)) {
        rv_err e = rv_json_parse(json_string_value(arguments), json_string_length(arguments), &parsed);
        s->ok = e == RV_OK && s->ok;
    } else {
        parsed = arguments ? json_incref(arguments) : json_object();
    }
    *name = json_incref(json_object_get(call, "name"));
    json_decref(call);
    return parsed;
}

/* name(key=value, ...) */
static json_t *take_python_call(scan *s, json_t **name)
{
    rv_str function = take_name(s, ".-");
    json_t *arguments = json_object();
    *name = function.n ? json_stringn(function.at, function.n) : NULL;
    expect(s, '(');
    while (s->ok && !accept(s, ')')) {
        rv_str key = take_name(s, "");
        expect(s, '=');
        json_t *value = s->ok && key.n ? take_value(s, 0) : NULL;
        s->ok = json_object_setn_new(arguments, key.at, key.n, value) == 0 && s->ok;
        if (peek(s) != ')') {
            expect(s, ',');
        }
    }
    return arguments;
}

/* One call as OpenAI's API writes it, appended to calls. */
static rv_err take_call(scan *s, json_t *calls)
{
    json_t *name = NULL;
    json_t *arguments = peek(s) == '{' ? take_json_call(s, &name) : take_python_call(s, &name);
    rv_err e = RV_OK;
    if (!json_is_string(name) || json_string_length(name) == 0 || !json_is_object(arguments)) {
        s->ok = false;
    }
    if (s->ok) {
        uint64_t random = 0;
        char id[32];
        rv_text text;
        rv_text_init(&text, &rv_heap, SIZE_MAX / 2);
        rv_json_text(arguments, &text);
        e = rv_text_check(&text);
        e = e ? e : rv_random_bytes(&random, sizeof random);
        snprintf(id, sizeof id, "call_%016" PRIx64, random);
        json_t *call = e ? NULL
                         : json_pack("{s:s, s:s, s:{s:O, s:s%}}", "id", id, "type", "function", "function",
                                     "name", name, "arguments", rv_text_get(&text), text.n);
        if (!e && json_array_append_new(calls, call) != 0) {
            e = rv_fail(RV_E_NOMEM, "a tool call");
        }
        rv_text_deinit(&text);
    }
    json_decref(name);
    json_decref(arguments);
    return e;
}

/* What stands between two markers: a list of calls, or calls without its brackets. True when all of it was read. */
static rv_err take_block(const char *at, size_t n, json_t *calls, bool *read)
{
    scan s = { at, at + n, true };
    size_t before = json_array_size(calls);
    bool bracket = accept(&s, '[');
    rv_err e = RV_OK;
    while (s.ok && !e && peek(&s) && peek(&s) != ']') {
        e = take_call(&s, calls);
        if (peek(&s) && peek(&s) != ']') {
            expect(&s, ',');
        }
    }
    s.ok = s.ok && (!bracket || accept(&s, ']')) && !peek(&s) && s.at == s.end;
    while (!s.ok && json_array_size(calls) > before) {
        json_array_remove(calls, json_array_size(calls) - 1);
    }
    *read = s.ok;
    return e;
}

rv_err rv_chat_tool_calls(const char *text, size_t n, json_t **calls, rv_text *rest)
{
    json_t *list = json_array();
    rv_err e = list ? RV_OK : rv_fail(RV_E_NOMEM, "tool calls");
    for (const char *at = text, *end = text + n; !e && at < end;) {
        const char *begin = memmem(at, (size_t)(end - at), CALL_BEGIN, strlen(CALL_BEGIN));
        rv_text_add(rest, at, (size_t)((begin ? begin : end) - at));
        if (!begin) {
            break;
        }
        const char *inside = begin + strlen(CALL_BEGIN);
        const char *close = memmem(inside, (size_t)(end - inside), CALL_END, strlen(CALL_END));
        at = close ? close + strlen(CALL_END) : end;
        bool read = false;
        e = take_block(inside, (size_t)((close ? close : end) - inside), list, &read);
        if (!read) {
            rv_text_add(rest, begin, (size_t)(at - begin));
        }
    }
    e = e ? e : rv_text_check(rest);
    bool any = !e && json_array_size(list) > 0;
    if (!e) {
        *calls = any ? list : NULL;
    }
    if (!any) {
        json_decref(list);
    }
    return e;
}
