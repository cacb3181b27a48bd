/* POST /v1/embeddings: OpenAI's shape around our embedder. Whatever model was asked for, the answer says which one it was. */
#include "api/api_priv.h"

#include <string.h>

enum { INPUTS_MAX = 2048 };

static void add_base64(rv_text *out, const uint8_t *at, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t bits =
            (uint32_t)at[i] << 16 | (have > 1 ? (uint32_t)at[i + 1] << 8 : 0) | (have > 2 ? at[i + 2] : 0u);
        rv_text_addc(out, digits[bits >> 18]);
        rv_text_addc(out, digits[bits >> 12 & 63]);
        rv_text_addc(out, have > 1 ? digits[bits >> 6 & 63] : '=');
        rv_text_addc(out, have > 2 ? digits[bits & 63] : '=');
    }
}

static void add_vector(rv_text *out, const float *v, size_t dim, bool base64)
{
    if (!base64) {
        for (size_t i = 0; i < dim; i++) {
            rv_text_addc(out, i ? ',' : '[');
            rv_json_float(out, v[i]);
        }
        rv_text_addc(out, ']');
        return;
    }
    rv_text_addc(out, '"');
    for (size_t i = 0; i < dim; i += 3) { /* three floats are twelve bytes: no padding until the end */
        uint8_t bytes[12];
        size_t n = 0;
        for (size_t k = i; k < dim && k < i + 3; k++) {
            uint32_t bits;
            memcpy(&bits, &v[k], sizeof bits);
            for (int shift = 0; shift < 32; shift += 8) { /* little-endian, as clients read it */
                bytes[n++] = (uint8_t)(bits >> shift);
            }
        }
        add_base64(out, bytes, n);
    }
    rv_text_addc(out, '"');
}

/* The input as a borrowed array of non-empty strings; one string becomes an array of one. */
static rv_err read_input(rv_api_call *call, json_t **out)
{
    json_t *input = json_object_get(call->body, "input");
    if (json_is_string(input)) {
        json_t *one = json_pack("[O]", input);
        if (!one || json_object_set_new(call->body, "input", one) != 0) {
            return rv_fail(RV_E_NOMEM, "reading input");
        }
        input = one;
    }
    if (!json_is_array(input) || json_array_size(input) == 0) {
        return rv_fail(RV_E_ARG, "input: expected a text, or an array of texts");
    }
    if (json_array_size(input) > INPUTS_MAX) {
        return rv_fail(RV_E_ARG, "input: expected at most %d texts, found %zu", INPUTS_MAX,
                       json_array_size(input));
    }
    for (size_t i = 0; i < json_array_size(input); i++) {
        const json_t *text = json_array_get(input, i);
        if (!json_is_string(text)) {
            return rv_fail(RV_E_ARG, "input[%zu]: expected a text; lists of token ids are not supported", i);
        }
        if (json_string_length(text) == 0) {
            return rv_fail(RV_E_ARG, "input[%zu]: expected a text, found an empty one", i);
        }
    }
    *out = input;
    return RV_OK;
}

static rv_err read_options(rv_api_call *call, size_t dim, bool *base64)
{
    static const char *const fields[] = { "input", "model", "encoding_format", "dimensions", "user" };
    const char *format = "float", *name = NULL;
    int64_t wanted = (int64_t)dim;
    RV_TRY(rv_api_only(call->body, fields, RV_COUNT(fields)));
    RV_TRY(rv_json_get_string(call->body, "model", &name, NULL));
    RV_TRY(rv_json_get_string(call->body, "user", &name, NULL));
    RV_TRY(rv_json_get_string(call->body, "encoding_format", &format, NULL));
    RV_TRY(rv_json_get_int(call->body, "dimensions", 1, 1 << 20, &wanted));
    if (wanted != (int64_t)dim) {
        return rv_fail(RV_E_ARG, "dimensions: this embedder has %zu and cannot give %lld", dim,
                       (long long)wanted);
    }
    *base64 = strcmp(format, "base64") == 0;
    if (!*base64 && strcmp(format, "float") != 0) {
        return rv_fail(RV_E_ARG, "encoding_format: expected \"float\" or \"base64\"");
    }
    return RV_OK;
}

void rv_api_embeddings(rv_api_call *call)
{
    const rv_embed *embed = call->pipeline->embed;
    if (!embed) {
        rv_api_refuse(call, 503, NULL, NULL, "this server has no embedder");
        return;
    }
    size_t dim = rv_embed_dim(embed);
    bool base64 = false;
    json_t *input = NULL;
    rv_err e = read_options(call, dim, &base64);
    if (!e) {
        e = read_input(call, &input);
    }
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    size_t tokens = 0;
    float *v = rv_arena_take(call->arena, dim * sizeof *v);
    rv_text out;
    rv_text_init(&out, &rv_heap, RV_API_TEXT_MAX);
    rv_text_adds(&out, "{\"object\":\"list\",\"data\":[");
    e = v ? RV_OK : rv_fail(RV_E_NOMEM, "embedding");
    for (size_t i = 0; i < json_array_size(input) && !e && !atomic_load(rv_http_gone(call->http)); i++) {
        const json_t *text = json_array_get(input, i);
        e = rv_embed_text(embed, json_string_value(text), json_string_length(text), v);
        tokens += rv_embed_tokens(embed, json_string_value(text), json_string_length(text));
        rv_text_addf(&out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", i);
        if (!e) {
            add_vector(&out, v, dim, base64);
        }
        rv_text_addc(&out, '}');
    }
    rv_text_adds(&out, "],\"model\":");
    rv_json_string(&out, rv_embed_name(embed), strlen(rv_embed_name(embed)));
    rv_text_addf(&out, ",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}", tokens, tokens);
    if (e) {
        rv_api_fault(call, e, "the text could not be embedded");
    } else if (atomic_load(rv_http_gone(call->http))) {
        rv_api_gone(call);
    } else {
        rv_api_send_text(call, 200, "application/json", &out);
    }
    rv_text_deinit(&out);
}
