#include "base/file.h"
#include "base/json.h"
#include "base/toml.h"
#include "test.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rv_err parse(const char *text, rv_toml **out)
{
    return rv_toml_parse(&rv_heap, "t.toml", text, strlen(text), out);
}

/* ---- the conformance suite: every value with its type, as typed JSON ---- */

static const char *const suite_types[] = {
    "", "", "string", "integer", "float", "bool", "datetime", "datetime-local", "date-local", "time-local",
};

/* jansson has no keys with a NUL in them: on both sides U+E000 stands for it. */
static const char *without_nul(rv_str s, char room[4096])
{
    size_t n = 0;
    for (size_t i = 0; i < s.n && n < 4000; i++) {
        n += (size_t)snprintf(room + n, 4, "%s", s.at[i] ? (char[]){ s.at[i], 0 } : "\xee\x80\x80");
    }
    room[n] = 0;
    return room;
}

static void check_scalar(const char *file, const rv_toml_value *v, const json_t *want)
{
    const char *type = json_string_value(json_object_get(want, "type"));
    const json_t *field = json_object_get(want, "value");
    rv_str text = rv_str_of(json_string_value(field), json_string_length(field));
    CHECK(type && strcmp(type, suite_types[v->type]) == 0, "%s:%d: we say %s, expected %s", file, v->line,
          rv_toml_type_name(v->type), type);
    char room[4096];
    bool same;
    if (v->type == RV_TOML_INTEGER) {
        same = v->integer == strtoll(text.at, NULL, 10);
    } else if (v->type == RV_TOML_FLOAT) {
        double x = strtod(text.at, NULL);
        same = isnan(x) ? isnan(v->number) : x == v->number && signbit(x) == signbit(v->number);
    } else if (v->type == RV_TOML_BOOL) {
        same = v->boolean == rv_str_eq(text, "true");
    } else {
        same = strcmp(without_nul(v->string, room), text.at) == 0;
    }
    CHECK(same, "%s:%d: %.*s: expected %s, read \"%.*s\" %lld %.17g", file, v->line, (int)v->key.n, v->key.at,
          text.at, (int)v->string.n, v->string.n ? v->string.at : "", (long long)v->integer, v->number);
}

/* Our own test data, so recursion is fine here. */
static void check_value(const char *file, const rv_toml_value *v, const json_t *want)
{
    size_t n = 0;
    char room[4096];
    if (v->type == RV_TOML_TABLE) {
        CHECK(json_is_object(want), "%s:%d: a table is not expected", file, v->line);
        for (const rv_toml_value *c = v->child; c; c = c->next, n++) {
            const json_t *w = json_object_get(want, without_nul(c->key, room));
            CHECK(w, "%s:%d: key %.*s is not expected", file, c->line, (int)c->key.n, c->key.at);
            check_value(file, c, w);
        }
        CHECK(n == json_object_size(want), "%s:%d: %zu keys, expected %zu", file, v->line, n,
              json_object_size(want));
    } else if (v->type == RV_TOML_ARRAY) {
        CHECK(json_is_array(want), "%s:%d: an array is not expected", file, v->line);
        for (const rv_toml_value *c = v->child; c; c = c->next, n++) {
            CHECK(n < json_array_size(want), "%s:%d: too many elements", file, v->line);
            check_value(file, c, json_array_get(want, n));
        }
        CHECK(n == json_array_size(want), "%s:%d: %zu elements, expected %zu", file, v->line, n,
              json_array_size(want));
    } else {
        check_scalar(file, v, want);
    }
}

static void check_valid(const char *path)
{
    char *text, *expected, other[4096];
    size_t n, n_expected;
    rv_toml *doc;
    CHECK_OK(rv_file_read(&rv_heap, path, 1 << 20, &text, &n));
    rv_err e = rv_toml_parse(&rv_heap, path, text, n, &doc);
    CHECK(e == RV_OK, "%s", rv_err_text());
    memset(text, 'x', n); /* the document must not look at it any more */
    rv_free(&rv_heap, text);
    snprintf(other, sizeof other, "%.*s.json", (int)strlen(path) - 5, path);
    CHECK_OK(rv_file_read(&rv_heap, other, 1 << 20, &expected, &n_expected));
    for (char *nul = expected; (nul = strstr(nul, "\\u0000")); nul += 6) {
        if (nul[-1] != '\\') {
            memcpy(nul, "\\ue000", 6);
        }
    }
    json_error_t why;
    json_t *want = json_loadb(expected, n_expected, JSON_ALLOW_NUL, &why);
    CHECK(want, "%s: %s", other, why.text);
    check_value(path, rv_toml_root(doc), want);
    json_decref(want);
    rv_free(&rv_heap, expected);
    rv_toml_free(doc);
}

static void check_invalid(const char *path)
{
    char *text;
    size_t n;
    int lines = 1;
    rv_toml *doc;
    CHECK_OK(rv_file_read(&rv_heap, path, 1 << 20, &text, &n));
    for (size_t i = 0; i < n; i++) {
        lines += text[i] == '\n';
    }
    rv_err e = rv_toml_parse(&rv_heap, "file", text, n, &doc);
    CHECK(e == RV_E_FORMAT, "%s was accepted", path);
    int line = 0;
    CHECK(sscanf(rv_err_text(), "file:%d: ", &line) == 1 && line >= 1 && line <= lines, "%s: no line in: %s",
          path, rv_err_text());
    rv_free(&rv_heap, text);
}

/* Every .toml below the folder, one level of folders deep. */
static int each_file(const char *folder, void (*check)(const char *))
{
    int files = 0;
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort);
    CHECK(n >= 0, "cannot list %s", folder);
    for (int i = 0; i < n; i++) {
        char path[4096];
        size_t length = strlen(entries[i]->d_name);
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && entries[i]->d_type == DT_DIR) {
            files += each_file(path, check);
        } else if (length > 5 && strcmp(entries[i]->d_name + length - 5, ".toml") == 0) {
            check(path);
            files++;
        }
        free(entries[i]);
    }
    free(entries);
    return files;
}

TEST(every_valid_file_of_the_suite_reads_as_its_json_says)
{
    const char *folder = shared_path("conformance/toml/valid");
    if (!folder) {
        SKIP("../shared/conformance is not here");
    }
    int files = each_file(folder, check_valid);
    CHECK(files > 200, "only %d files", files);
}

TEST(every_invalid_file_of_the_suite_is_refused_and_the_line_named)
{
    const char *folder = shared_path("conformance/toml/invalid");
    if (!folder) {
        SKIP("../shared/conformance is not here");
    }
    int files = each_file(folder, check_invalid);
    CHECK(files > 400, "only %d files", files);
}

/* ---- what the rest of the program leans on ---- */

TEST(values_are_found_with_type_and_line)
{
    rv_toml *doc;
    CHECK_OK(parse("# first\n[server]\nport = 0x1F90\nname = \"a\\u0000b\"\n[[t]]\nx = 1\n[[t]]\nx = 2.5\n",
                   &doc));
    const rv_toml_value *server = rv_toml_find(rv_toml_root(doc), "server");
    CHECK(server && server->type == RV_TOML_TABLE && server->line == 2, "server");
    const rv_toml_value *port = rv_toml_find(server, "port");
    CHECK(port && port->type == RV_TOML_INTEGER && port->integer == 8080 && port->line == 3, "port");
    const rv_toml_value *name = rv_toml_find(server, "name");
    CHECK(name && name->string.n == 3 && memcmp(name->string.at, "a\0b", 3) == 0,
          "a NUL inside a string is kept");
    CHECK(!rv_toml_find(server, "Port") && !rv_toml_find(server, "por"),
          "keys are compared whole and with case");
    const rv_toml_value *rows = rv_toml_find(rv_toml_root(doc), "t");
    CHECK(rows && rows->type == RV_TOML_ARRAY && rows->child->line == 5 && rows->child->next->line == 7,
          "rows");
    CHECK(rv_toml_find(rows->child->next, "x")->number == 2.5, "x of the second row");
    CHECK(rows->child->next->next == NULL, "two rows");
    rv_toml_free(doc);
    rv_toml_free(NULL);
}

TEST(messages_say_line_found_and_allowed)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "\nport 8080", "t.toml:2: found \"8\" after the key \"port\", expected =" },
        { "x =\n", "t.toml:1: found the end of the line, expected a value" },
        { "x = yes",
          "t.toml:1: \"yes\" is no value; expected a number, true, false, a date, or a string in quotes" },
        { "x = [1,\n2\ny = 3", "t.toml:3: found \"y\", expected , or ] in the array begun on line 1" },
        { "x = [", "t.toml:1: found the end of the file, expected ] to end the array begun on line 1" },
        { "x = {a = 1 b = 2}", "t.toml:1: found \"b\", expected , or } in the inline table begun on line 1" },
        { "x = \"abc\ny = 1",
          "t.toml:1: found the end of the line, expected \" to end the string begun on line 1" },
        { "a = 1\nb = 1\na = 2", "t.toml:3: \"a\" is set twice, first on line 1" },
        { "[a]\n[a]",
          "t.toml:2: \"a\" is already a table since line 1; it cannot be defined again as a table" },
        { "a = 1\n[[a]]",
          "t.toml:2: \"a\" is already an integer since line 1; it cannot be an array of tables" },
        { "x = 9223372036854775808",
          "t.toml:1: \"9223372036854775808\" is too large, expected an integer of 64 bits" },
        { "x = 1e999", "t.toml:1: \"1e999\" is too large for a float of 64 bits" },
        { "x = 2026-13-45",
          "t.toml:1: \"2026-13-45\" is no date or time, expected a form like 1979-05-27T07:32:00Z" },
        { "x = 1\xff", "t.toml:1: byte 0xff is not UTF-8; expected text in UTF-8" },
        { "x = \"\x1b\"",
          "t.toml:1: control character 0x1b; expected text (in a string it is written \\u001b)" },
        { "\"\\u001b]0;owned\" 1", "t.toml:1: found \"1\" after the key \"\\u001b]0;owned\", expected =" },
        { "[a\n]", "t.toml:1: found the end of the line, expected ] to end the table's name" },
        { "x = \"\\q\"", "t.toml:1: found \"q\" after a backslash, expected one of b t n f r \" \\ u U" },
        { "x = \"\\ud800\"", "t.toml:1: \\ud800 is not a character, expected up to 10ffff and no surrogate" },
        { "x = 1 2", "t.toml:1: found \"2\", expected the end of the line" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        rv_toml *doc = NULL;
        CHECK_ERR(parse(cases[i].text, &doc), RV_E_FORMAT);
        CHECK(!doc, "out was touched by: %s", cases[i].text);
        CHECK(strcmp(rv_err_text(), cases[i].message) == 0, "%s\n  said     %s\n  expected %s", cases[i].text,
              rv_err_text(), cases[i].message);
    }
}

/* what, n times, between before and after */
static char *repeated(const char *before, const char *what, size_t n, const char *after, size_t *length)
{
    rv_text t;
    rv_text_init(&t, &rv_heap, SIZE_MAX);
    rv_text_adds(&t, before);
    for (size_t i = 0; i < n; i++) {
        rv_text_adds(&t, what);
    }
    rv_text_adds(&t, after);
    *length = t.n;
    return rv_text_take(&t);
}

static void check_refused(const char *before, const char *what, size_t times, rv_err code, const char *word)
{
    size_t n;
    char *text = repeated(before, what, times, "", &n);
    rv_toml *doc;
    CHECK_ERR(rv_toml_parse(&rv_heap, "t.toml", text, n, &doc), code);
    CHECK(strstr(rv_err_text(), word), "no \"%s\" in: %s", word, rv_err_text());
    CHECK(strlen(rv_err_text()) < 300, "a message of %zu bytes", strlen(rv_err_text()));
    rv_free(&rv_heap, text);
}

TEST(limits_are_kept_without_recursion)
{
    check_refused("x = ", "[", 100000, RV_E_FORMAT, "nested deeper than 64");
    check_refused("x = ", "{a=", 50000, RV_E_FORMAT, "nested deeper than 64");
    check_refused("x = ", "[{a=", 50000, RV_E_FORMAT, "nested deeper than 64");
    check_refused("x", ".a", 50000, RV_E_FORMAT, "nested deeper than 64");
    check_refused("[x", ".a", 50000, RV_E_FORMAT, "nested deeper than 64");
    check_refused("x = [", "1,", 100000, RV_E_FORMAT, "too many values");
    check_refused("# ", "c", 4 << 20, RV_E_TOO_LARGE, "too long");
    check_refused("", "k", 1 << 19, RV_E_FORMAT, "...\", expected =");

    size_t n;
    rv_toml *doc;
    char *deep = repeated("x = ", "[", 63, "1", &n); /* root, 63 arrays and the value: 64 below the root */
    for (int open = 63; open > 0; open--) {
        char *more;
        CHECK(asprintf(&more, "%s]", deep) > 0, "memory");
        rv_free(&rv_heap, deep);
        deep = more;
    }
    CHECK_OK(parse(deep, &doc));
    rv_toml_free(doc);
    rv_free(&rv_heap, deep);
}

TEST(many_keys_take_linear_time)
{
    rv_text t;
    rv_text_init(&t, &rv_heap, SIZE_MAX);
    for (int i = 0; i < 60000; i++) {
        rv_text_addf(&t, "k%d = %d\n", i, i);
    }
    rv_toml *doc;
    CHECK_OK(
        rv_toml_parse(&rv_heap, "t.toml", t.at, t.n, &doc)); /* quadratic would be 2 * 10^9 comparisons */
    int count = 0;
    for (const rv_toml_value *v = rv_toml_root(doc)->child; v; v = v->next) {
        CHECK(v->integer == count, "order of the file: %lld at %d", (long long)v->integer, count);
        count++;
    }
    CHECK(count == 60000, "%d", count);
    rv_toml_free(doc);
    rv_text_deinit(&t);
}

TEST(every_prefix_of_a_document_is_read_or_refused)
{
    static const char text[] =
        "\xef\xbb\xbf# c\r\na.\"b\\n\".'c' = [1_0, 0xf, -0.5e+3, {k = \"\\U0001F600\", 'l' = 1979-05-27 "
        "07:32:00.5+01:30}, ]\r\n[t.u]\nm = \"\"\"\n a\"\" \\\n  b\"\"\"\"\"\n[[v]]\nw = '''x'''\n";
    for (size_t n = 0; n < sizeof text; n++) {
        uint8_t *fenced = fenced_bytes(n);
        memcpy(fenced, text, n);
        rv_toml *doc = NULL;
        rv_err e = rv_toml_parse(&rv_heap, "t.toml", (const char *)fenced, n, &doc);
        CHECK((e == RV_OK) == (doc != NULL), "at %zu", n);
        CHECK(e == (n == sizeof text - 1 ? RV_OK : e ? RV_E_FORMAT : RV_OK), "at %zu: %s", n, rv_err_text());
        rv_toml_free(doc);
    }
}
