/* TOML 1.0. The text is first checked as a whole (UTF-8, no control characters), so the reader itself can take a zero for
 * the end. Nested arrays and inline tables are read with a stack of open containers, never by recursion. What a table
 * allows depends on how it was made, which is its `origin`. Keys are found through one hash table for all tables. */
#include "base/toml.h"
#include "base/arena.h"
#include "base/rng.h"
#include "base/toml_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    TEXT_MAX_BYTES = 4 << 20,
    DEPTH_MAX = 64,
    VALUES_MAX = 65536,
    ARENA_MAX_BYTES = 64 << 20, /* of which the limits above let about 20 be used */
    SHOWN_BYTES = 40,           /* of a key or value in a message */
};

typedef enum origin {
    BY_PATH,   /* a table on the way of a [header]: may still get a header or dotted keys of its own */
    BY_HEADER, /* [header], or the root */
    BY_DOTS,   /* a.b = 1 made a: dotted keys and [a.c] may add to it, [a] may not */
    BY_VALUE,  /* an inline table or array: complete as written */
    BY_ROWS,   /* the array that [[header]] appends to */
} origin;

typedef struct node node;
struct node {
    rv_toml_value v; /* first: a node is handed out as its value */
    node *parent, *last;
    uint64_t hash; /* of parent and key */
    origin how;
    int depth;
};

struct rv_toml {
    const rv_alloc *mem;
    rv_arena *arena;
    node *root;
};

typedef struct parser {
    const rv_alloc *mem;
    rv_arena *arena;
    const char *name, *text;
    size_t n, i;
    int line;
    rv_text decoded; /* the string at hand */
    node **slots;    /* hash table, open addressing; n_slots is a power of two */
    size_t n_slots, n_keys, n_values;
    uint64_t seed;
} parser;

typedef struct key_path {
    rv_str part[DEPTH_MAX];
    int n;
} key_path;

static const char *const type_names[] = {
    "table", "array",     "string",          "integer",    "float",
    "bool",  "date-time", "local date-time", "local date", "local time",
};

const char *rv_toml_type_name(rv_toml_type type)
{
    return type_names[type];
}

/* ---- messages ---- */

RV_PRINTF(2, 3) static rv_err fail(const parser *p, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return rv_fail(RV_E_FORMAT, "%s:%d: %s", p->name, p->line, what);
}

static rv_err no_memory(const parser *p)
{
    return rv_fail(RV_E_NOMEM, "%s: no memory to read it", p->name);
}

/* A piece of the document, short enough for a message. */
typedef struct shown {
    char text[SHOWN_BYTES + 8];
} shown;

static shown show(rv_str s)
{
    shown out;
    bool cut = s.n > SHOWN_BYTES;
    size_t n = cut ? rv_utf8_whole(s.at, SHOWN_BYTES) : s.n;
    snprintf(out.text, sizeof out.text, "%.*s%s", (int)n, n ? s.at : "", cut ? "..." : "");
    return out;
}

/* What stands at the reader's place. */
static shown show_here(const parser *p)
{
    shown out = { "the end of the file" };
    if (p->i >= p->n) {
        return out;
    }
    if (p->text[p->i] == '\n' || p->text[p->i] == '\r') {
        return (shown){ "the end of the line" };
    }
    uint32_t code;
    size_t length = rv_utf8_decode(p->text + p->i, p->n - p->i, &code);
    snprintf(out.text, sizeof out.text, "\"%.*s\"", (int)length, p->text + p->i);
    return out;
}

/* ---- characters ---- */

static char peek(const parser *p)
{
    return p->i < p->n ? p->text[p->i] : 0;
}

static bool at_newline(const parser *p)
{
    return peek(p) == '\n' || peek(p) == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_bare(char c)
{
    return is_digit(c) || is_letter(c) || c == '_' || c == '-';
}

static bool follows(const parser *p, const char *what)
{
    return rv_str_starts(rv_str_of(p->text + p->i, p->n - p->i), what);
}

static void skip_blanks(parser *p)
{
    while (peek(p) == ' ' || peek(p) == '\t') {
        p->i++;
    }
}

static void skip_newline(parser *p)
{
    p->i += peek(p) == '\r' ? 2 : 1; /* every \r was checked to stand before \n */
    p->line++;
}

static void skip_comment(parser *p)
{
    if (peek(p) == '#') {
        while (p->i < p->n && !at_newline(p)) {
            p->i++;
        }
    }
}

/* Blanks, newlines and comments: between lines and inside arrays. */
static void skip_lines(parser *p)
{
    for (;;) {
        skip_blanks(p);
        skip_comment(p);
        if (!at_newline(p)) {
            return;
        }
        skip_newline(p);
    }
}

/* The whole text is UTF-8 and has no control characters but tabs and line ends. */
static rv_err check_text(parser *p)
{
    while (p->i < p->n) {
        uint32_t code;
        unsigned char byte = (unsigned char)p->text[p->i];
        size_t length = rv_utf8_decode(p->text + p->i, p->n - p->i, &code);
        if (length == 0) {
            return fail(p, "byte 0x%02x is not UTF-8; expected text in UTF-8", byte);
        }
        bool line_end = code == '\n' || (code == '\r' && p->i + 1 < p->n && p->text[p->i + 1] == '\n');
        if ((code < 0x20 && code != '\t' && !line_end) || code == 0x7f) {
            return fail(p, "control character 0x%02x; expected text (in a string it is written \\u%04x)",
                        byte, byte);
        }
        p->line += code == '\n';
        p->i += length;
    }
    p->i = 0;
    p->line = 1;
    if (follows(p, "\xef\xbb\xbf")) { /* a byte order mark */
        p->i = 3;
    }
    return RV_OK;
}

/* ---- the tree ---- */

static uint64_t hash_key(const parser *p, const node *table, rv_str key)
{
    return rv_hash64(key.at, key.n, p->seed ^ (uint64_t)(uintptr_t)table);
}

/* Where the key of this table is, or would go. */
static node **find_slot(parser *p, const node *table, rv_str key, uint64_t hash)
{
    size_t i = hash & (p->n_slots - 1);
    for (; p->slots[i]; i = (i + 1) & (p->n_slots - 1)) {
        node *v = p->slots[i];
        if (v->hash == hash && v->parent == table && v->v.key.n == key.n &&
            (key.n == 0 || memcmp(v->v.key.at, key.at, key.n) == 0)) {
            break;
        }
    }
    return &p->slots[i];
}

static bool grow_slots(parser *p)
{
    size_t n_old = p->n_slots;
    node **old = p->slots, **slots = rv_new_array(p->mem, n_old ? 2 * n_old : 64, sizeof(node *));
    if (!slots) {
        return false;
    }
    p->slots = slots;
    p->n_slots = n_old ? 2 * n_old : 64;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i]) {
            *find_slot(p, old[i]->parent, old[i]->v.key, old[i]->hash) = old[i];
        }
    }
    rv_free(p->mem, old);
    return true;
}

static node *find(parser *p, const node *table, rv_str key)
{
    return p->n_slots ? *find_slot(p, table, key, hash_key(p, table, key)) : NULL;
}

/* A new child at the end of parent, a table (where key is not taken yet) or an array (where it is empty). */
static rv_err add(parser *p, node *parent, rv_str key, rv_toml_type type, origin how, node **out)
{
    if (parent && parent->depth == DEPTH_MAX) {
        return fail(p, "tables and arrays nested deeper than %d", DEPTH_MAX);
    }
    if (++p->n_values > VALUES_MAX) {
        return fail(p, "too many values, at most %d are read", VALUES_MAX);
    }
    bool in_table = parent && parent->v.type == RV_TOML_TABLE;
    if (in_table && p->n_keys * 2 >= p->n_slots && !grow_slots(p)) {
        return no_memory(p);
    }
    node *v = rv_arena_take(p->arena, sizeof *v);
    const char *key_copy = rv_arena_strndup(p->arena, key.at, key.n); /* the document outlives its text */
    if (!v || !key_copy) {
        return no_memory(p);
    }
    key.at = key_copy;
    *v = (node){ .v = { .type = type, .line = p->line, .key = key }, .parent = parent, .how = how };
    *out = v;
    if (!parent) {
        return RV_OK;
    }
    v->depth = parent->depth + 1;
    if (parent->last) {
        parent->last->v.next = &v->v;
    } else {
        parent->v.child = &v->v;
    }
    parent->last = v;
    if (in_table) {
        v->hash = hash_key(p, parent, key);
        *find_slot(p, parent, key, v->hash) = v;
        p->n_keys++;
    }
    return RV_OK;
}

static rv_err taken(const parser *p, const node *v, const char *wanted)
{
    return fail(p, "\"%s\" is already a%s %s since line %d; it cannot %s", show(v->v.key).text,
                strchr("ai", type_names[v->v.type][0]) ? "n" : "", type_names[v->v.type], v->v.line, wanted);
}

/* ---- strings ---- */

static rv_err keep_decoded(parser *p, rv_str *out)
{
    const rv_text *t = &p->decoded;
    char *copy = t->failed ? NULL : rv_arena_strndup(p->arena, rv_text_get(t), t->n);
    if (!copy) {
        return no_memory(p);
    }
    *out = rv_str_of(copy, t->n);
    return RV_OK;
}

static rv_err read_escape(parser *p, bool many_lines)
{
    static const char names[] = "btnfr\"\\", codes[] = "\b\t\n\f\r\"\\";
    char c = peek(p);
    const char *simple = c ? strchr(names, c) : NULL;
    if (simple) {
        rv_text_addc(&p->decoded, codes[simple - names]);
        p->i++;
        return RV_OK;
    }
    if (c == 'u' || c == 'U') {
        size_t digits = c == 'u' ? 4 : 8;
        uint32_t code = 0;
        p->i++;
        for (size_t k = 0; k < digits; k++, p->i++) {
            char h = peek(p);
            if (!is_digit(h) && !(h >= 'a' && h <= 'f') && !(h >= 'A' && h <= 'F')) {
                return fail(p, "found %s in \\%c, expected %zu hexadecimal digits", show_here(p).text, c,
                            digits);
            }
            code = code << 4 | (uint32_t)(is_digit(h) ? h - '0' : (h | 32) - 'a' + 10);
        }
        char bytes[4];
        size_t length = rv_utf8_encode(code, bytes);
        if (length == 0) {
            return fail(p, "\\%c%0*x is not a character, expected up to 10ffff and no surrogate", c,
                        (int)digits, code);
        }
        rv_text_add(&p->decoded, bytes, length);
        return RV_OK;
    }
    if (many_lines) { /* a backslash at the end of a line takes away all white space up to the next text */
        skip_blanks(p);
        if (at_newline(p)) {
            while (at_newline(p)) {
                skip_newline(p);
                skip_blanks(p);
            }
            return RV_OK;
        }
    }
    return fail(p, "found %s after a backslash, expected one of b t n f r \" \\ u U", show_here(p).text);
}

/* A string of any of the four kinds; *many_lines says whether it was a multi-line one. */
static rv_err read_string(parser *p, rv_str *out, bool *many_lines)
{
    char quote = peek(p);
    const char *three = quote == '"' ? "\"\"\"" : "'''";
    int first_line = p->line;
    *many_lines = follows(p, three);
    p->i += *many_lines ? 3 : 1;
    if (*many_lines && at_newline(p)) {
        skip_newline(p);
    }
    rv_text_clear(&p->decoded);
    for (;;) {
        char c = peek(p);
        if (p->i >= p->n || (!*many_lines && at_newline(p))) {
            return fail(p, "found %s, expected %s to end the string begun on line %d", show_here(p).text,
                        *many_lines    ? three
                        : quote == '"' ? "\""
                                       : "'",
                        first_line);
        }
        if (c == quote && !*many_lines) {
            p->i++;
            break;
        }
        if (c == quote) { /* of five quotes the last three end it and two belong to it */
            size_t run = 0;
            while (run < 5 && p->i + run < p->n && p->text[p->i + run] == quote) {
                run++;
            }
            rv_text_add(&p->decoded, p->text + p->i, run < 3 ? run : run - 3);
            p->i += run;
            if (run >= 3) {
                break;
            }
        } else if (c == '\\' && quote == '"') {
            p->i++;
            RV_TRY(read_escape(p, *many_lines));
        } else if (at_newline(p)) {
            rv_text_addc(&p->decoded, '\n');
            skip_newline(p);
        } else {
            rv_text_addc(&p->decoded, c);
            p->i++;
        }
    }
    return keep_decoded(p, out);
}

/* ---- keys ---- */

static rv_err read_key_part(parser *p, rv_str *out)
{
    if (peek(p) == '"' || peek(p) == '\'') {
        bool many_lines;
        RV_TRY(read_string(p, out, &many_lines));
        return many_lines ? fail(p, "found a multi-line string, expected a key on one line") : RV_OK;
    }
    size_t from = p->i;
    while (is_bare(peek(p))) {
        p->i++;
    }
    if (p->i == from) {
        return fail(p, "found %s, expected a key (letters, digits, _ and -, or a quoted string)",
                    show_here(p).text);
    }
    *out = rv_str_of(p->text + from, p->i - from);
    return RV_OK;
}

/* a.b."c d", with the blanks after it. */
static rv_err read_key(parser *p, key_path *key)
{
    for (key->n = 0;; p->i++) {
        if (key->n == DEPTH_MAX) {
            return fail(p, "tables nested deeper than %d by a dotted key", DEPTH_MAX);
        }
        skip_blanks(p);
        RV_TRY(read_key_part(p, &key->part[key->n]));
        key->n++;
        skip_blanks(p);
        if (peek(p) != '.') {
            return RV_OK;
        }
    }
}

/* The table in which the last part of a dotted key = value lies; made where it is missing. */
static rv_err walk_dots(parser *p, node *table, const key_path *key, node **out)
{
    for (int i = 0; i < key->n - 1; i++) {
        node *v = find(p, table, key->part[i]);
        if (!v) {
            RV_TRY(add(p, table, key->part[i], RV_TOML_TABLE, BY_DOTS, &v));
        } else if (v->v.type != RV_TOML_TABLE || (v->how != BY_DOTS && v->how != BY_PATH)) {
            return taken(p, v, "be added to by a dotted key");
        }
        v->how = BY_DOTS;
        table = v;
    }
    *out = table;
    return RV_OK;
}

/* ---- values ---- */

/* The bytes of a number, date, time or word. A date may be parted from its time by one space. */
static rv_str take_word(parser *p)
{
    size_t from = p->i;
    for (;; p->i++) {
        char c = peek(p);
        bool inside = is_bare(c) || c == '+' || c == '.' || c == ':';
        bool gap = c == ' ' && p->i - from == 10 && p->text[from + 4] == '-' && p->text[from + 7] == '-' &&
                   p->i + 1 < p->n && is_digit(p->text[p->i + 1]);
        if (!inside && !gap) {
            return rv_str_of(p->text + from, p->i - from);
        }
    }
}

static rv_err read_word(parser *p, node *v)
{
    shown here = show_here(p);
    rv_str s = take_word(p);
    rv_toml_value *value = &v->v;
    if (s.n == 0) {
        return fail(p, "found %s, expected a value", here.text);
    }
    if (rv_str_eq(s, "true") || rv_str_eq(s, "false")) {
        value->type = RV_TOML_BOOL;
        value->boolean = s.at[0] == 't';
        return RV_OK;
    }
    rv_toml_match dated = rv_toml_datetime(s, &p->decoded, &value->type);
    if (dated == RV_TOML_WRONG) {
        return fail(p, "\"%s\" is no date or time, expected a form like 1979-05-27T07:32:00Z", show(s).text);
    }
    if (dated == RV_TOML_FITS) {
        return keep_decoded(p, &value->string);
    }
    rv_toml_match whole = rv_toml_integer(s, &value->integer);
    if (whole == RV_TOML_WRONG) {
        return fail(p, "\"%s\" is too large, expected an integer of 64 bits", show(s).text);
    }
    if (whole == RV_TOML_FITS) {
        value->type = RV_TOML_INTEGER;
        return RV_OK;
    }
    rv_toml_match real = rv_toml_float(s, &p->decoded, &value->number);
    if (p->decoded.failed) {
        return no_memory(p);
    }
    if (real == RV_TOML_WRONG) {
        return fail(p, "\"%s\" is too large for a float of 64 bits", show(s).text);
    }
    if (real == RV_TOML_OTHER) {
        return fail(p, "\"%s\" is no value; expected a number, true, false, a date, or a string in quotes",
                    show(s).text);
    }
    value->type = RV_TOML_FLOAT;
    return RV_OK;
}

/* A value that begins here into parent; of an array or inline table only the bracket. */
static rv_err begin_value(parser *p, node *parent, rv_str key, node **out)
{
    node *v;
    char c = peek(p);
    RV_TRY(add(p, parent, key, c == '[' ? RV_TOML_ARRAY : RV_TOML_TABLE, BY_VALUE, &v));
    *out = v;
    if (c == '[' || c == '{') {
        p->i++;
        return RV_OK;
    }
    if (c == '"' || c == '\'') {
        bool many_lines;
        v->v.type = RV_TOML_STRING;
        return read_string(p, &v->v.string, &many_lines);
    }
    return read_word(p, v);
}

/* key = , with the table it goes to. The key must be free. */
static rv_err read_assignment(parser *p, node *table, node **parent, rv_str *key)
{
    key_path path;
    RV_TRY(read_key(p, &path));
    if (peek(p) != '=') {
        return fail(p, "found %s after the key \"%s\", expected =", show_here(p).text,
                    show(path.part[path.n - 1]).text);
    }
    RV_TRY(walk_dots(p, table, &path, parent));
    *key = path.part[path.n - 1];
    const node *v = find(p, *parent, *key);
    if (v) {
        return fail(p, "\"%s\" is set twice, first on line %d", show(*key).text, v->v.line);
    }
    p->i++;
    skip_blanks(p);
    return RV_OK;
}

/* Inside an open array or inline table: up to the next value in it (*more, with its parent and key), or past its end. */
static rv_err next_inside(parser *p, node *open, bool *more, node **parent, rv_str *key)
{
    bool is_array = open->v.type == RV_TOML_ARRAY, first = !open->v.child;
    char close = is_array ? ']' : '}';
    void (*skip)(parser *) = is_array ? skip_lines : skip_blanks;
    skip(p);
    bool comma = !first && peek(p) == ',';
    if (comma) {
        p->i++;
        skip(p);
    }
    *more = peek(p) != close || (comma && !is_array);
    if (!*more) {
        p->i++;
        return RV_OK;
    }
    if (!first && !comma) {
        return fail(p, "found %s, expected , or %c in the %s begun on line %d", show_here(p).text, close,
                    is_array ? "array" : "inline table", open->v.line);
    }
    if (p->i >= p->n) {
        return fail(p, "found the end of the file, expected %c to end the %s begun on line %d", close,
                    is_array ? "array" : "inline table", open->v.line);
    }
    *parent = open;
    *key = rv_str_of(NULL, 0);
    return is_array ? RV_OK : read_assignment(p, open, parent, key);
}

/* A whole value with all that is inside it. */
static rv_err read_value(parser *p, node *parent, rv_str key)
{
    node *open[DEPTH_MAX + 1];
    size_t n_open = 0;
    for (bool more = true; more;) {
        node *v;
        RV_TRY(begin_value(p, parent, key, &v));
        if (v->v.type == RV_TOML_ARRAY || v->v.type == RV_TOML_TABLE) {
            open[n_open++] = v; /* has room: add() keeps depth within DEPTH_MAX */
        }
        more = false;
        while (n_open > 0 && !more) {
            RV_TRY(next_inside(p, open[n_open - 1], &more, &parent, &key));
            n_open -= !more;
        }
    }
    return RV_OK;
}

/* ---- lines ---- */

/* [a.b] or [[a.b]], after the brackets: the table that the next lines fill. */
static rv_err open_table(parser *p, node *root, const key_path *key, bool row, node **out)
{
    node *table = root, *v;
    for (int i = 0; i < key->n - 1; i++) {
        v = find(p, table, key->part[i]);
        if (!v) {
            RV_TRY(add(p, table, key->part[i], RV_TOML_TABLE, BY_PATH, &v));
        } else if (v->how == BY_ROWS) {
            v = v->last;
        } else if (v->v.type != RV_TOML_TABLE || v->how == BY_VALUE) {
            return taken(p, v, "hold a table");
        }
        table = v;
    }
    rv_str last = key->part[key->n - 1];
    v = find(p, table, last);
    if (row) {
        if (!v) {
            RV_TRY(add(p, table, last, RV_TOML_ARRAY, BY_ROWS, &v));
        } else if (v->how != BY_ROWS) {
            return taken(p, v, "be an array of tables");
        }
        return add(p, v, rv_str_of(NULL, 0), RV_TOML_TABLE, BY_HEADER, out);
    }
    if (!v) {
        return add(p, table, last, RV_TOML_TABLE, BY_HEADER, out);
    }
    if (v->v.type != RV_TOML_TABLE || v->how != BY_PATH) {
        return taken(p, v, "be defined again as a table");
    }
    v->how = BY_HEADER;
    v->v.line = p->line;
    *out = v;
    return RV_OK;
}

static rv_err read_header(parser *p, node *root, node **table)
{
    bool row = follows(p, "[[");
    key_path key;
    p->i += row ? 2 : 1;
    RV_TRY(read_key(p, &key));
    if (!follows(p, row ? "]]" : "]")) {
        return fail(p, "found %s, expected %s to end the table's name", show_here(p).text, row ? "]]" : "]");
    }
    p->i += row ? 2 : 1;
    return open_table(p, root, &key, row, table);
}

static rv_err read_lines(parser *p, node *root)
{
    node *table = root;
    for (;;) {
        skip_lines(p);
        if (p->i >= p->n) {
            return RV_OK;
        }
        if (peek(p) == '[') {
            RV_TRY(read_header(p, root, &table));
        } else {
            node *parent;
            rv_str key;
            RV_TRY(read_assignment(p, table, &parent, &key));
            RV_TRY(read_value(p, parent, key));
        }
        skip_blanks(p);
        skip_comment(p);
        if (p->i < p->n && !at_newline(p)) {
            return fail(p, "found %s, expected the end of the line", show_here(p).text);
        }
    }
}

rv_err rv_toml_parse(const rv_alloc *mem, const char *name, const char *text, size_t n, rv_toml **out)
{
    if (n > TEXT_MAX_BYTES) {
        return rv_fail(RV_E_TOO_LARGE, "%s: too long, %zu bytes; expected at most %d", name, n,
                       TEXT_MAX_BYTES);
    }
    parser p = { .mem = mem, .name = name, .text = n ? text : "", .n = n, .line = 1 };
    rv_text_init(&p.decoded, mem, n + 64);
    rv_toml *doc = rv_new(mem, sizeof *doc);
    rv_err e = RV_E_NOMEM;
    if (!doc) {
        e = no_memory(&p);
        goto done;
    }
    doc->mem = mem;
    e = rv_random_bytes(&p.seed, sizeof p.seed); /* so that no document can be made of keys that collide */
    if (e) {
        goto done;
    }
    e = rv_arena_new(mem, ARENA_MAX_BYTES, &doc->arena);
    if (e) {
        goto done;
    }
    p.arena = doc->arena;
    e = check_text(&p);
    if (e) {
        goto done;
    }
    e = add(&p, NULL, rv_str_of(NULL, 0), RV_TOML_TABLE, BY_HEADER, &doc->root);
    if (e) {
        goto done;
    }
    e = read_lines(&p, doc->root);

done:
    rv_text_deinit(&p.decoded);
    rv_free(mem, p.slots);
    if (e) {
        rv_toml_free(doc);
    } else {
        *out = doc;
    }
    return e;
}

void rv_toml_free(rv_toml *doc)
{
    if (doc) {
        rv_arena_free(doc->arena);
        rv_free(doc->mem, doc);
    }
}

const rv_toml_value *rv_toml_root(const rv_toml *doc)
{
    return &doc->root->v;
}

const rv_toml_value *rv_toml_find(const rv_toml_value *table, const char *key)
{
    const rv_toml_value *v = table->child;
    while (v && !rv_str_eq(v->key, key)) {
        v = v->next;
    }
    return v;
}
