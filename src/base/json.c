/* jansson, guarded: it recurses, so the depth is counted before it sees the text. */
#include "base/json.h"
#include "base/rng.h"

#include <inttypes.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 64, NESTS_MAX = 1 << 17, QUOTED_MAX = 40 };

void rv_json_setup(void)
{
    size_t seed = 0;
    /* Without random bytes jansson takes time and process, which is weaker but not fixed. */
    if (rv_random_bytes(&seed, sizeof seed) != RV_OK) {
        seed = 0;
    }
    json_object_seed(seed);
}

/* Counts brackets outside strings, and refuses zero bytes, which jansson would take for the end. All else that is
 * malformed is jansson's to refuse: a bracket that it would recurse into is always counted here. An empty object is two bytes
 * of text and more than a hundred times that in memory, so that their number is limited too. */
static rv_err check_nests(const char *text, size_t n)
{
    size_t depth = 0, nests = 0, line = 1, line_at = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == 0) {
            return rv_fail(RV_E_FORMAT, "line %zu column %zu: a zero byte", line, i - line_at + 1);
        }
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"' || c == '\n') { /* a raw newline ends it: the text is malformed there */
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > DEPTH_MAX) {
                return rv_fail(RV_E_FORMAT, "line %zu column %zu: nested deeper than %d", line,
                               i - line_at + 1, DEPTH_MAX);
            }
            if (++nests > NESTS_MAX) {
                return rv_fail(RV_E_FORMAT, "line %zu column %zu: more than %d arrays and objects", line,
                               i - line_at + 1, NESTS_MAX);
            }
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
        if (c == '\n') {
            line++;
            line_at = i + 1;
        }
    }
    return RV_OK;
}

/* The key before the value that ends at byte end, in out; "" when it has none, or no plain one. */
static void key_before(const char *text, size_t end, char out[QUOTED_MAX + 1])
{
    size_t i = end, last;
    out[0] = 0;
    while (i > 0 && strchr("+-.eE0123456789 \t\r\n", text[i - 1])) {
        i--;
    }
    if (i == 0 || text[i - 1] != ':') {
        return;
    }
    for (i--; i > 0 && strchr(" \t\r\n", text[i - 1]); i--) {
    }
    last = i;
    while (i > 1 && text[i - 2] != '"') {
        i--;
    }
    if (i > 1 && last > i && last - i <= QUOTED_MAX) {
        snprintf(out, QUOTED_MAX + 1, "%.*s", (int)(last - i), text + i - 1);
    }
}

rv_err rv_json_parse(const char *text, size_t n, json_t **out)
{
    RV_TRY(check_nests(text, n));
    json_error_t why;
    json_t *value =
        json_loadb(text ? text : "", n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (!value && json_error_code(&why) == json_error_numeric_overflow) {
        char key[QUOTED_MAX + 1];
        key_before(text, why.position > 0 && (size_t)why.position < n ? (size_t)why.position : n, key);
        return rv_fail(RV_E_FORMAT, "line %d column %d: %s%sa number is too large", why.line, why.column, key,
                       *key ? ": " : "");
    }
    if (!value) {
        return rv_fail(json_error_code(&why) == json_error_out_of_memory ? RV_E_NOMEM : RV_E_FORMAT,
                       "line %d column %d: %s", why.line, why.column, why.text);
    }
    *out = value;
    return RV_OK;
}

/* ---- reading fields ---- */

/* What stands there, short enough for a message. */
static void describe(const json_t *v, char out[96])
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: snprintf(out, 96, "an object"); break;
    case JSON_ARRAY: snprintf(out, 96, "an array"); break;
    case JSON_TRUE: snprintf(out, 96, "true"); break;
    case JSON_FALSE: snprintf(out, 96, "false"); break;
    case JSON_NULL: snprintf(out, 96, "null"); break;
    case JSON_INTEGER: snprintf(out, 96, "%" JSON_INTEGER_FORMAT, json_integer_value(v)); break;
    case JSON_REAL: snprintf(out, 96, "%.17g", json_real_value(v)); break;
    case JSON_STRING: {
        size_t n = json_string_length(v);
        size_t shown = n > QUOTED_MAX ? rv_utf8_whole(json_string_value(v), QUOTED_MAX) : n;
        snprintf(out, 96, "the string \"%.*s\"%s", (int)shown, json_string_value(v), shown < n ? "..." : "");
        break;
    }
    }
}

static rv_err wrong(const char *field, const char *expected, const json_t *found)
{
    char what[96];
    describe(found, what);
    return rv_fail(RV_E_ARG, "%s: expected %s, found %s", field, expected, what);
}

/* The field, or NULL when absent or null. */
static json_t *field_of(const json_t *object, const char *field)
{
    json_t *v = json_object_get(object, field);
    return json_is_null(v) ? NULL : v;
}

rv_err rv_json_get_string(const json_t *object, const char *field, const char **out, size_t *n)
{
    const json_t *v = field_of(object, field);
    if (!v) {
        return RV_OK;
    }
    if (!json_is_string(v)) {
        return wrong(field, "a string", v);
    }
    if (!n && strlen(json_string_value(v)) != json_string_length(v)) {
        return rv_fail(RV_E_ARG, "%s: expected a string without \\u0000", field);
    }
    *out = json_string_value(v);
    if (n) {
        *n = json_string_length(v);
    }
    return RV_OK;
}

rv_err rv_json_need_string(const json_t *object, const char *field, const char **out, size_t *n)
{
    if (!field_of(object, field)) {
        return rv_fail(RV_E_ARG, "%s: expected a string, found nothing", field);
    }
    return rv_json_get_string(object, field, out, n);
}

rv_err rv_json_get_int(const json_t *object, const char *field, int64_t low, int64_t high, int64_t *out)
{
    const json_t *v = field_of(object, field);
    if (!v) {
        return RV_OK;
    }
    int64_t x = json_is_integer(v) ? json_integer_value(v) : 0;
    /* 3.0 is an integer in JSON, and some clients print their numbers so. */
    bool whole = json_is_real(v) && fabs(json_real_value(v)) < 0x1p53 &&
                 json_real_value(v) == trunc(json_real_value(v));
    if (whole) {
        x = (int64_t)json_real_value(v);
    }
    if ((!whole && !json_is_integer(v)) || x < low || x > high) {
        char expected[96];
        snprintf(expected, sizeof expected, "an integer from %" PRId64 " to %" PRId64, low, high);
        return wrong(field, expected, v);
    }
    *out = x;
    return RV_OK;
}

rv_err rv_json_get_double(const json_t *object, const char *field, double low, double high, double *out)
{
    const json_t *v = field_of(object, field);
    if (!v) {
        return RV_OK;
    }
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= low && x <= high)) {
        char expected[96];
        snprintf(expected, sizeof expected, "a number from %g to %g", low, high);
        return wrong(field, expected, v);
    }
    *out = x;
    return RV_OK;
}

rv_err rv_json_get_bool(const json_t *object, const char *field, bool *out)
{
    const json_t *v = field_of(object, field);
    if (!v) {
        return RV_OK;
    }
    if (!json_is_boolean(v)) {
        return wrong(field, "true or false", v);
    }
    *out = json_is_true(v);
    return RV_OK;
}

rv_err rv_json_get_object(const json_t *object, const char *field, json_t **out)
{
    json_t *v = field_of(object, field);
    if (v && !json_is_object(v)) {
        return wrong(field, "an object", v);
    }
    if (v) {
        *out = v;
    }
    return RV_OK;
}

rv_err rv_json_get_array(const json_t *object, const char *field, json_t **out)
{
    json_t *v = field_of(object, field);
    if (v && !json_is_array(v)) {
        return wrong(field, "an array", v);
    }
    if (v) {
        *out = v;
    }
    return RV_OK;
}

/* ---- writing ---- */

static int add_piece(const char *at, size_t n, void *text)
{
    rv_text_add(text, at, n);
    return ((rv_text *)text)->failed ? -1 : 0;
}

void rv_json_text(const json_t *value, rv_text *t)
{
    if (json_dump_callback(value, add_piece, t, JSON_COMPACT | JSON_ENCODE_ANY) != 0) {
        t->failed = true;
    }
}

void rv_json_print(const json_t *value, void *stdio_stream)
{
    json_dumpf(value, stdio_stream, JSON_COMPACT | JSON_ENCODE_ANY);
    fputc('\n', stdio_stream);
}

/* Half the way to the neighbours; a decimal nearer than that reads back as x. */
static double half_gap(float x, float toward)
{
    return fabs((double)nextafterf(x, toward) - (double)x) / 2;
}

/* x = whole / 10^decimals, or false when no decimal of that length is near enough. */
static bool decimal_near(double x, double down, double up, int decimals, double *whole)
{
    static const double powers[] = { 1,   1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                     1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15 };
    double power = powers[decimals], scaled = x * power, low = floor(scaled), high = low + 1;
    /* The products are off by 2^-53, the gaps are 2^-25: 0.9999 leaves room for that. */
    bool low_fits = scaled - low < 0.9999 * down * power, high_fits = high - scaled < 0.9999 * up * power;
    *whole = low_fits && (!high_fits || scaled - low <= high - scaled) ? low : high;
    return low_fits || high_fits;
}

void rv_json_float(rv_text *t, float x)
{
    char text[32];
    if (!isfinite(x)) {
        rv_text_adds(t, "null");
        return;
    }
    float size = fabsf(x);
    if (size == 0) {
        rv_text_adds(t, signbit(x) ? "-0.0" : "0.0");
        return;
    }
    /* The range of weights and unit vectors, without printf's general case: fewest decimals that read back. */
    if (size >= 1e-6f && size < 1e6f) {
        double down = half_gap(size, 0), up = half_gap(size, INFINITY), whole;
        int decimals = 1;
        while (decimals < 15 && !decimal_near((double)size, down, up, decimals, &whole)) {
            decimals++;
        }
        if (decimals < 15) {
            uint64_t w = (uint64_t)whole;
            int at = sizeof text;
            for (int i = 0; i <= decimals || w > 0; i++) {
                if (i == decimals) {
                    text[--at] = '.';
                }
                text[--at] = (char)('0' + w % 10);
                w /= 10;
            }
            if (x < 0) {
                text[--at] = '-';
            }
            rv_text_add(t, text + at, sizeof text - (size_t)at);
            return;
        }
    }
    /* Six digits survive the way there and back unless x is denormal; nine always suffice. */
    for (int digits = size < FLT_MIN ? 1 : 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) {
            break;
        }
    }
    rv_text_adds(t, text);
    if (!strpbrk(text, ".e")) {
        rv_text_adds(t, ".0");
    }
}

void rv_json_string(rv_text *t, const char *at, size_t n)
{
    rv_text_addc(t, '"');
    size_t plain = 0; /* start of what needs no escape */
    for (size_t i = 0; i < n;) {
        uint32_t code = 0;
        size_t length = rv_utf8_decode(at + i, n - i, &code);
        if (length > 0 && code >= 0x20 && code != '"' && code != '\\' && code != 0x7f) {
            i += length;
            continue;
        }
        rv_text_add(t, at + plain, i - plain);
        if (length == 0) {
            rv_text_adds(t, "\\ufffd"); /* JSON cannot carry a malformed byte */
        } else if (code == '"' || code == '\\') {
            rv_text_addc(t, '\\');
            rv_text_addc(t, (char)code);
        } else if (code == '\n') {
            rv_text_adds(t, "\\n");
        } else {
            rv_text_addf(t, "\\u%04x", (unsigned)code);
        }
        i += length ? length : 1;
        plain = i;
    }
    rv_text_add(t, at + plain, n - plain);
    rv_text_addc(t, '"');
}
