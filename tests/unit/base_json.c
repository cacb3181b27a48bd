#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "test.h"

#include <dirent.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *parsed(const char *text)
{
    json_t *v = NULL;
    CHECK_OK(rv_json_parse(text, strlen(text), &v));
    return v;
}

TEST(the_json_suite_is_accepted_and_refused_as_named)
{
    const char *folder = shared_path("conformance/json/test_parsing");
    if (!folder) {
        SKIP("../shared/conformance is not here");
    }
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort), yes = 0, no = 0;
    CHECK(n > 0, "cannot list %s", folder);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if (name[0] != '.') {
            char path[4096], *text;
            size_t length;
            json_t *v = NULL;
            snprintf(path, sizeof path, "%s/%s", folder, name);
            CHECK_OK(rv_file_read(&rv_heap, path, 1 << 20, &text, &length));
            rv_err e = rv_json_parse(text, length, &v);
            CHECK((e == RV_OK) == (v != NULL), "%s: out", name);
            /* The suite calls duplicate keys fine; a request body with two of one field is a mistake or an attack. */
            bool duplicate = strstr(name, "duplicated_key") != NULL;
            bool nul = strcmp(name, "y_object_escaped_null_in_key.json") == 0; /* jansson has no such keys */
            CHECK(name[0] != 'y' || e == RV_OK || duplicate || nul, "%s: refused: %s", name, rv_err_text());
            CHECK(!duplicate || name[0] != 'y' || e == RV_E_FORMAT, "%s: accepted", name);
            CHECK(name[0] != 'n' || e == RV_E_FORMAT, "%s: %s", name, rv_err_name(e));
            yes += name[0] == 'y';
            no += name[0] == 'n';
            json_decref(v);
            rv_free(&rv_heap, text);
        }
        free(entries[i]);
    }
    free(entries);
    CHECK(yes > 20 && no > 40, "%d accepted and %d refused: too few to be the suite", yes, no);
}

static void check_depth(char open, char close, size_t depth, bool fine)
{
    char text[400];
    size_t n = 0;
    for (size_t i = 0; i < depth; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, open == '{' ? "{\"a\":" : "[");
    }
    if (open == '{') {
        text[n++] = '1';
    }
    for (size_t i = 0; i < depth; i++) {
        text[n++] = close;
    }
    json_t *v = NULL;
    rv_err e = rv_json_parse(text, n, &v);
    CHECK((e == RV_OK) == fine, "%zu levels of %c: %s %s", depth, open, rv_err_name(e), rv_err_text());
    json_decref(v);
}

/* 2 bytes each in the text, and some hundred in memory: 8 MB of them would be a gigabyte. */
TEST(arrays_and_objects_are_limited_in_number)
{
    static const char *const units[] = { "[],", "{},", "[{}],[]," };
    for (size_t u = 0; u < RV_COUNT(units); u++) {
        for (int more = 0; more < 2; more++) {
            size_t nests = 1;
            rv_text text;
            json_t *v = NULL;
            rv_text_init(&text, &rv_heap, 1 << 20);
            rv_text_adds(&text, "[\"[[[[\",");
            while (nests + (u == 2 ? 3 : 1) <= 131072) {
                rv_text_adds(&text, units[u]);
                nests += u == 2 ? 3 : 1;
            }
            while (nests < 131072 + (size_t)more) {
                rv_text_adds(&text, "[],");
                nests++;
            }
            rv_text_adds(&text, "1]");
            CHECK_OK(rv_text_check(&text));
            rv_err e = rv_json_parse(rv_text_get(&text), text.n, &v);
            CHECK(e == (more ? RV_E_FORMAT : RV_OK), "%s %d: %s", units[u], more, rv_err_name(e));
            CHECK(!more || strstr(rv_err_text(), "more than 131072 arrays and objects"), "%s", rv_err_text());
            json_decref(v);
            rv_text_deinit(&text);
        }
    }
}

TEST(depth_is_limited_before_anything_recurses)
{
    check_depth('[', ']', 64, true);
    check_depth('[', ']', 65, false);
    check_depth('{', '}', 60, true);
    size_t n = 1000000;
    char *deep = rv_new(&rv_heap, n + 1);
    memset(deep, '[', n);
    json_t *v = NULL;
    CHECK_ERR(rv_json_parse(deep, n, &v), RV_E_FORMAT);
    CHECK(strcmp(rv_err_text(), "line 1 column 65: nested deeper than 64") == 0, "%s", rv_err_text());
    memset(deep, '\n', 2);
    deep[2] = '"';
    memset(deep + 3, '[', n - 4);
    deep[n - 1] = '"';
    CHECK_OK(rv_json_parse(deep, n, &v)); /* brackets in a string do not nest */
    json_decref(v);
    rv_free(&rv_heap, deep);
    v = parsed("\"\\\\\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"");
    json_decref(v);
}

TEST(wrong_texts_are_refused_with_line_and_column)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "{\"a\": 1,\n \"a\": 2}", "line 2 column 4: duplicate object key near '\"a\"'" },
        { "{\"n\": [1], \"seed\" : 18446744073709551616}", "line 1 column 40: seed: a number is too large" },
        { "[18446744073709551616]", "line 1 column 21: a number is too large" },
        { "{\"x\": -1e999}", "line 1 column 12: x: a number is too large" },
        { "{\"a\" 1}", "line 1 column 6: ':' expected near '1'" },
        { "", "line 1 column 0: '[' or '{' expected near end of file" },
        { "1 2", "line 1 column 3: end of file expected near '2'" },
        { "{\"a\\u0000b\":1}",
          "line 1 column 11: NUL byte in object key not supported near '\"a\\u0000b\"'" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        json_t *v = NULL;
        CHECK_ERR(rv_json_parse(cases[i].text, strlen(cases[i].text), &v), RV_E_FORMAT);
        CHECK(!v, "out was touched");
        CHECK(!*cases[i].text || strcmp(rv_err_text(), cases[i].says) == 0, "%s: %s", cases[i].text,
              rv_err_text());
    }
    json_t *v = NULL;
    CHECK_ERR(rv_json_parse(NULL, 0, &v), RV_E_FORMAT);
}

static double parsing_ms(int keys)
{
    rv_text t;
    rv_text_init(&t, &rv_heap, SIZE_MAX);
    for (int i = 0; i < keys; i++) {
        rv_text_addf(&t, "%c\"key%d\":%d", i ? ',' : '{', i, i);
    }
    rv_text_addc(&t, '}');
    CHECK_OK(rv_text_check(&t));
    double start = test_cpu_ms();
    json_t *v = parsed(t.at);
    double ms = test_cpu_ms() - start;
    CHECK(json_object_size(v) == (size_t)keys, "%zu", json_object_size(v));
    json_decref(v);
    rv_text_deinit(&t);
    return ms;
}

TEST(sixteen_times_the_keys_take_nowhere_near_256_times_as_long)
{
    rv_json_setup();
    double part = parsing_ms(6250), whole = parsing_ms(100000);
    CHECK(whole <= 80 * (part + 1), "%.1f ms for a part, %.1f ms for 16 of them", part, whole);
}

TEST(fields_are_read_with_type_and_range)
{
    json_t *o = parsed("{\"s\":\"text\",\"i\":7,\"r\":2.5,\"w\":3.0,\"b\":true,\"o\":{},\"a\":[1],\"n\":null,"
                       "\"big\":1e300,\"nul\":\"a\\u0000b\","
                       "\"long\":\"0123456789012345678901234567890123456789\xc3\xa4xyz\"}");
    const char *s = "before";
    size_t n = 99;
    int64_t i = -1;
    double d = -1;
    bool b = false;
    json_t *child = NULL;
    CHECK_OK(rv_json_get_string(o, "s", &s, &n));
    CHECK(strcmp(s, "text") == 0 && n == 4, "%s", s);
    CHECK_OK(rv_json_get_string(o, "s", &s, NULL));
    CHECK_OK(rv_json_get_int(o, "i", 0, 10, &i));
    CHECK(i == 7, "%lld", (long long)i);
    CHECK_OK(rv_json_get_int(o, "w", 0, 10, &i));
    CHECK(i == 3, "3.0 is an integer, got %lld", (long long)i);
    CHECK_OK(rv_json_get_double(o, "r", 0, 3, &d));
    CHECK(d == 2.5, "%g", d);
    CHECK_OK(rv_json_get_double(o, "i", 0, 10, &d));
    CHECK(d == 7, "%g", d);
    CHECK_OK(rv_json_get_bool(o, "b", &b));
    CHECK(b, "true");
    CHECK_OK(rv_json_get_object(o, "o", &child));
    CHECK(json_is_object(child), "object");
    CHECK_OK(rv_json_get_array(o, "a", &child));
    CHECK(json_array_size(child) == 1, "array");

    /* Absent and null leave everything as it was. */
    s = "before", i = 42, d = 42;
    static const char *const absent[] = { "nowhere", "n" };
    for (size_t k = 0; k < RV_COUNT(absent); k++) {
        json_t *none = NULL;
        CHECK_OK(rv_json_get_string(o, absent[k], &s, &n));
        CHECK_OK(rv_json_get_int(o, absent[k], 0, 1, &i));
        CHECK_OK(rv_json_get_double(o, absent[k], 0, 1, &d));
        CHECK_OK(rv_json_get_bool(o, absent[k], &b));
        CHECK_OK(rv_json_get_object(o, absent[k], &none));
        CHECK_OK(rv_json_get_array(o, absent[k], &none));
        CHECK(strcmp(s, "before") == 0 && i == 42 && d == 42 && b && !none, "%s changed something",
              absent[k]);
        CHECK_ERR(rv_json_need_string(o, absent[k], &s, &n), RV_E_ARG);
    }
    CHECK_OK(rv_json_need_string(o, "s", &s, &n));
    CHECK_OK(rv_json_get_string(o, "nul", &s, &n));
    CHECK(n == 3 && memcmp(s, "a\0b", 3) == 0, "%zu bytes", n);
    CHECK_ERR(rv_json_get_string(o, "nul", &s, NULL), RV_E_ARG);

#define WRONG(call, text)                                                                                    \
    do {                                                                                                     \
        CHECK_ERR(call, RV_E_ARG);                                                                           \
        CHECK(strcmp(rv_err_text(), text) == 0, "%s", rv_err_text());                                        \
    } while (0)
    WRONG(rv_json_get_int(o, "i", 8, 10, &i), "i: expected an integer from 8 to 10, found 7");
    WRONG(rv_json_get_int(o, "r", 0, 10, &i), "r: expected an integer from 0 to 10, found 2.5");
    WRONG(rv_json_get_int(o, "big", 0, 10, &i),
          "big: expected an integer from 0 to 10, found 1.0000000000000001e+300");
    WRONG(rv_json_get_int(o, "s", 0, 10, &i),
          "s: expected an integer from 0 to 10, found the string \"text\"");
    WRONG(rv_json_get_double(o, "r", 0, 1, &d), "r: expected a number from 0 to 1, found 2.5");
    WRONG(rv_json_get_double(o, "o", 0, 1, &d), "o: expected a number from 0 to 1, found an object");
    WRONG(rv_json_get_bool(o, "a", &b), "a: expected true or false, found an array");
    WRONG(rv_json_get_string(o, "b", &s, &n), "b: expected a string, found true");
    WRONG(rv_json_get_object(o, "a", &child), "a: expected an object, found an array");
    WRONG(rv_json_get_array(o, "long", &child),
          "long: expected an array, found the string \"0123456789012345678901234567890123456789\"...");
#undef WRONG
    CHECK(i == 42 && d == 42, "a failure changed an output");
    json_decref(o);
}

TEST(written_json_keeps_order_and_stays_within_its_limit)
{
    static const char text[] = "{\"z\":1,\"a\":[true,null,\"\xc3\xa4\"],\"m\":{\"k\":2.5}}";
    json_t *v = parsed(text);
    rv_text t;
    rv_text_init(&t, &rv_heap, 1000);
    rv_json_text(v, &t);
    CHECK(strcmp(rv_text_get(&t), text) == 0, "%s", rv_text_get(&t));
    rv_text_deinit(&t);
    rv_text_init(&t, &rv_heap, 10);
    rv_json_text(v, &t);
    CHECK_ERR(rv_text_check(&t), RV_E_NOMEM);
    rv_text_deinit(&t);

    char *at = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&at, &n);
    rv_json_print(v, f);
    fclose(f);
    CHECK(n == sizeof text && memcmp(at, text, n - 1) == 0 && at[n - 1] == '\n', "%s", at);
    free(at);
    json_decref(v);
}

TEST(strings_are_escaped_so_that_they_read_back)
{
    static const char text[] = "q\" b\\ n\n t\t e\x1b d\x7f \xc3\xa4 \xf0\x9f\x98\x80";
    rv_text t;
    rv_text_init(&t, &rv_heap, 1000);
    rv_json_string(&t, text, sizeof text - 1);
    CHECK(strcmp(t.at, "\"q\\\" b\\\\ n\\n t\\u0009 e\\u001b d\\u007f \xc3\xa4 \xf0\x9f\x98\x80\"") == 0,
          "%s", t.at);
    json_t *v = parsed(t.at);
    CHECK(strcmp(json_string_value(v), text) == 0, "%s", json_string_value(v));
    json_decref(v);
    rv_text_clear(&t);
    rv_json_string(&t, "a\xff\0b\xc3", 5);
    CHECK(strcmp(t.at, "\"a\\ufffd\\u0000b\\ufffd\"") == 0, "%s", t.at);
    rv_text_clear(&t);
    rv_json_string(&t, NULL, 0);
    CHECK(strcmp(t.at, "\"\"") == 0, "%s", t.at);
    rv_text_deinit(&t);
}

/* The text reads back as x, as JSON and as a float, and no text with one digit less does. */
static void check_float(float x)
{
    rv_text t;
    rv_text_init(&t, &rv_heap, 100);
    rv_json_float(&t, x);
    char *end;
    float back = strtof(rv_text_get(&t), &end);
    CHECK(back == x && signbit(back) == signbit(x) && *end == 0, "%.9g was written %s", (double)x, t.at);
    json_t *v = NULL;
    CHECK_OK(rv_json_parse(t.at, t.n, &v));
    CHECK((float)json_real_value(v) == x && json_is_real(v), "%s is not a JSON number for %.9g", t.at,
          (double)x);
    json_decref(v);
    int digits = 0, zeros = 0;
    for (const char *c = t.at; *c && *c != 'e'; c++) {
        if (*c >= '1' && *c <= '9') {
            digits += zeros + 1;
            zeros = 0;
        } else if (*c == '0' && digits > 0) {
            zeros++; /* counted only when another digit comes */
        }
    }
    char shorter[32];
    snprintf(shorter, sizeof shorter, "%.*e", digits > 1 ? digits - 2 : 0, (double)x);
    CHECK(digits <= 1 || strtof(shorter, NULL) != x, "%.9g was written %s, and %s is shorter", (double)x,
          t.at, shorter);
    rv_text_deinit(&t);
}

TEST(floats_are_written_as_short_as_they_read_back)
{
    static const struct {
        float x;
        const char *text;
    } known[] = {
        { 0.1f, "0.1" },
        { 1, "1.0" },
        { -0.5f, "-0.5" },
        { 0.0f, "0.0" },
        { -0.0f, "-0.0" },
        { 123456, "123456.0" },
        { 0.3333333433f, "0.33333334" },
        { 1e30f, "1e+30" },
        { 1e-7f, "1e-07" },
        { NAN, "null" },
        { INFINITY, "null" },
        { 16777216, "16777216.0" },
    };
    for (size_t i = 0; i < RV_COUNT(known); i++) {
        rv_text t;
        rv_text_init(&t, &rv_heap, 100);
        rv_json_float(&t, known[i].x);
        CHECK(strcmp(t.at, known[i].text) == 0, "%.9g: %s, expected %s", (double)known[i].x, t.at,
              known[i].text);
        rv_text_deinit(&t);
    }
    static const float edges[] = { FLT_MAX, FLT_MIN,  FLT_TRUE_MIN, FLT_EPSILON, 1e6f,    999999.94f,
                                   1e-6f,   9.99e-7f, 0.99999994f,  1.0000001f,  0.0625f, 8388608.5f };
    for (size_t i = 0; i < RV_COUNT(edges); i++) {
        check_float(edges[i]);
        check_float(-edges[i]);
    }
    for (int e = -149; e < 128; e++) { /* powers of two: the gap below is half of the one above */
        check_float(ldexpf(1, e));
    }
    rv_rng rng;
    rv_rng_init(&rng, 7);
    for (int i = 0; i < 20000; i++) {
        uint32_t bits = (uint32_t)rv_rng_next(&rng);
        float any, unit = (float)(2 * rv_rng_unit(&rng) - 1);
        memcpy(&any, &bits, sizeof any);
        check_float(unit);
        if (isfinite(any)) {
            check_float(any);
        }
    }
}
