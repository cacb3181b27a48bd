/* Reading values for the table of keys. Every source (file, environment, flag) ends in put_text or put_toml, which are
 * the only places that know what is allowed. Sources are applied weakest first, so that a later one simply overwrites. */
#include "app/config.h"

#include "base/file.h"
#include "base/toml.h"
#include "net/client.h"

#include <arpa/inet.h>
#include <assert.h>
#include <math.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

enum { PATH_MAX_BYTES = 4095, FILE_MAX_BYTES = 4 << 20, SHOWN_BYTES = 80 };

static const char system_file[] = "/etc/ruvllm/ruvllm.toml";

typedef struct config_value {
    char *text; /* NULL: unset */
    char *origin;
    int64_t integer;
    double number;
    bool boolean;
} config_value;

struct rv_config {
    const rv_alloc *mem;
    config_value *values; /* [rv_config_n_keys] */
    char *user_file;
};

/* Where a value came from: names it in messages and in rv_config_origin, and is where relative paths start. */
typedef struct config_source {
    const char *name;   /* "conf/ruvllm.toml:12", "RUVLLM_SERVER_PORT", "--port" */
    const char *folder; /* of the file; "." otherwise */
    bool is_file;
} config_source;

/* ---- what is allowed ---- */

static void describe_allowed(const rv_config_key *key, const config_source *from, char *out, size_t room)
{
    switch (key->type) {
    case RV_CONFIG_INT:
        snprintf(out, room, "a whole number %.0f to %.0f%s", key->low, key->high,
                 key->zero_asks && !from->is_file ? ", or 0 for a free one" : "");
        break;
    case RV_CONFIG_FLOAT: snprintf(out, room, "a number %g to %g", key->low, key->high); break;
    case RV_CONFIG_BOOL: snprintf(out, room, "true or false"); break;
    case RV_CONFIG_PATH: snprintf(out, room, "a path in quotes, 1 to %d bytes", PATH_MAX_BYTES); break;
    case RV_CONFIG_MODEL:
        snprintf(out, room, "a tier, model name or file in quotes, 1 to %d bytes", PATH_MAX_BYTES);
        break;
    case RV_CONFIG_ADDRESS: snprintf(out, room, "an IPv4 or IPv6 address or \"localhost\""); break;
    case RV_CONFIG_URL: snprintf(out, room, "http://host[:port][/path] or https://host[:port][/path]"); break;
    case RV_CONFIG_CHOICE: snprintf(out, room, "one of %s", key->choices); break;
    case RV_CONFIG_LIST: snprintf(out, room, "a list of strings out of %s", key->choices); break;
    case RV_CONFIG_STRING: snprintf(out, room, "a text in quotes, 1 to %d bytes", PATH_MAX_BYTES); break;
    }
}

static rv_err refuse(const rv_config_key *key, const config_source *from, const char *found)
{
    char allowed[200];
    describe_allowed(key, from, allowed, sizeof allowed);
    return rv_fail(RV_E_CONFIG, "%s: %s.%s: found %s, allowed is %s", from->name, key->section, key->name,
                   found, allowed);
}

/* A text from outside for a message: quoted, escaped, cut. */
static const char *shown(const char *at, size_t n, char out[SHOWN_BYTES + 8])
{
    char escaped[SHOWN_BYTES];
    size_t take = n < SHOWN_BYTES / 2 ? n : rv_utf8_whole(at, SHOWN_BYTES / 2);
    rv_escape(at, take, escaped, sizeof escaped);
    snprintf(out, SHOWN_BYTES + 8, "\"%s\"%s", escaped, take < n ? "..." : "");
    return out;
}

static bool is_choice(const char *choices, const char *at, size_t n)
{
    for (const char *c = choices; *c;) {
        size_t len = strcspn(c, "|");
        if (len == n && memcmp(c, at, n) == 0) {
            return true;
        }
        c += len + (c[len] == '|');
    }
    return false;
}

static bool is_address(const char *text)
{
    struct in6_addr bytes;
    return strcmp(text, "localhost") == 0 || inet_pton(AF_INET, text, &bytes) == 1 ||
           inet_pton(AF_INET6, text, &bytes) == 1;
}

static bool is_plain_text(const char *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)at[i] < 0x20 || at[i] == 0x7f) {
            return false;
        }
    }
    return n > 0 && n <= PATH_MAX_BYTES && rv_utf8_valid(at, n);
}

/* ---- paths ---- */

static const char *home_folder(void)
{
    const char *home = getenv("HOME");
    if (home && home[0] == '/') {
        return home;
    }
    const struct passwd *me = getpwuid(getuid());
    return me ? me->pw_dir : NULL;
}

/* path made absolute: "~" is the home folder, everything else starts at folder. */
static rv_err absolute(const rv_alloc *mem, const char *folder, const char *path, char **out)
{
    char here[PATH_MAX_BYTES + 1];
    char *based = NULL;
    if (path[0] == '~' && (path[1] == '/' || path[1] == 0)) {
        const char *home = home_folder();
        if (!home) {
            return rv_fail(RV_E_CONFIG, "%s: there is no home folder; set HOME or give the whole path", path);
        }
        based = path[1] && path[2] ? rv_path_join(mem, home, path + 2) : rv_strdup(mem, home);
    } else if (path[0] == '/') {
        based = rv_strdup(mem, path);
    } else {
        based = strcmp(folder, ".") == 0 ? rv_strdup(mem, path) : rv_path_join(mem, folder, path);
        if (based && based[0] != '/') {
            if (!getcwd(here, sizeof here)) {
                rv_free(mem, based);
                return rv_fail(RV_E_CONFIG, "%s: the current folder is gone; give the whole path", path);
            }
            const char *rest = strncmp(based, "./", 2) == 0 ? based + 2 : based;
            char *whole = rv_path_join(mem, here, rest);
            rv_free(mem, based);
            based = whole;
        }
    }
    if (!based) {
        return rv_fail(RV_E_NOMEM, "reading the configuration");
    }
    *out = based;
    return RV_OK;
}

/* ---- storing ---- */

static rv_err store(rv_config *c, size_t i, config_value value, const char *text, size_t n,
                    const config_source *from)
{
    value.text = rv_strndup(c->mem, text, n);
    value.origin = rv_strdup(c->mem, from->name);
    if (!value.text || !value.origin) {
        rv_free(c->mem, value.text);
        rv_free(c->mem, value.origin);
        return rv_fail(RV_E_NOMEM, "reading the configuration");
    }
    rv_free(c->mem, c->values[i].text);
    rv_free(c->mem, c->values[i].origin);
    c->values[i] = value;
    return RV_OK;
}

static rv_err put_int(rv_config *c, size_t i, int64_t x, const config_source *from)
{
    const rv_config_key *key = &rv_config_keys[i];
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)x);
    bool asks = x == 0 && key->zero_asks && !from->is_file;
    if (!asks && !((double)x >= key->low && (double)x <= key->high)) {
        return refuse(key, from, text);
    }
    return store(c, i, (config_value){ .integer = x, .number = (double)x }, text, strlen(text), from);
}

static rv_err put_float(rv_config *c, size_t i, double x, const config_source *from)
{
    const rv_config_key *key = &rv_config_keys[i];
    char text[40];
    snprintf(text, sizeof text, "%.15g", x);
    if (!(x >= key->low && x <= key->high)) {
        return refuse(key, from, text);
    }
    return store(c, i, (config_value){ .number = x }, text, strlen(text), from);
}

static rv_err put_bool(rv_config *c, size_t i, bool x, const config_source *from)
{
    const char *text = x ? "true" : "false";
    return store(c, i, (config_value){ .boolean = x }, text, strlen(text), from);
}

static rv_err put_string(rv_config *c, size_t i, const char *at, size_t n, const config_source *from)
{
    const rv_config_key *key = &rv_config_keys[i];
    char found[SHOWN_BYTES + 8], copy[PATH_MAX_BYTES + 1];
    if (!is_plain_text(at, n)) {
        return refuse(key, from,
                      n == 0               ? "an empty text"
                      : n > PATH_MAX_BYTES ? "a longer one"
                                           : shown(at, n, found));
    }
    memcpy(copy, at, n);
    copy[n] = 0;
    rv_http_url url;
    if ((key->type == RV_CONFIG_ADDRESS && !is_address(copy)) ||
        (key->type == RV_CONFIG_URL && rv_http_url_read(copy, &url)) ||
        (key->type == RV_CONFIG_CHOICE && !is_choice(key->choices, at, n))) {
        return refuse(key, from, shown(at, n, found));
    }
    bool names_a_file =
        key->type == RV_CONFIG_PATH ||
        (key->type == RV_CONFIG_MODEL && (strchr(copy, '/') || copy[0] == '~') && !strstr(copy, "://"));
    if (!names_a_file) {
        return store(c, i, (config_value){ 0 }, copy, n, from);
    }
    char *path = NULL;
    RV_TRY(absolute(c->mem, from->folder, copy, &path));
    rv_err e = store(c, i, (config_value){ 0 }, path, strlen(path), from);
    rv_free(c->mem, path);
    return e;
}

/* ---- values as text: environment and flags ---- */

static rv_err put_text_list(rv_config *c, size_t i, const char *text, const config_source *from)
{
    char found[SHOWN_BYTES + 8];
    for (const char *at = text;; at++) {
        size_t n = strcspn(at, ",");
        if (!is_choice(rv_config_keys[i].choices, at, n)) {
            return refuse(&rv_config_keys[i], from, shown(at, n, found));
        }
        at += n;
        if (!*at) {
            return store(c, i, (config_value){ 0 }, text, strlen(text), from);
        }
    }
}

static rv_err put_text(rv_config *c, size_t i, const char *text, const config_source *from)
{
    const rv_config_key *key = &rv_config_keys[i];
    rv_str view = rv_str_from(text);
    char found[SHOWN_BYTES + 8];
    int64_t integer;
    double number;
    switch (key->type) {
    case RV_CONFIG_INT:
        return rv_parse_i64(view, &integer) ? put_int(c, i, integer, from)
                                            : refuse(key, from, shown(text, view.n, found));
    case RV_CONFIG_FLOAT:
        return rv_parse_f64(view, &number) ? put_float(c, i, number, from)
                                           : refuse(key, from, shown(text, view.n, found));
    case RV_CONFIG_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
            return refuse(key, from, shown(text, view.n, found));
        }
        return put_bool(c, i, text[0] == 't', from);
    case RV_CONFIG_LIST: return put_text_list(c, i, text, from);
    default: return put_string(c, i, text, view.n, from);
    }
}

/* ---- values of a file ---- */

static rv_err put_toml_list(rv_config *c, size_t i, const rv_toml_value *v, const config_source *from)
{
    const rv_config_key *key = &rv_config_keys[i];
    char found[SHOWN_BYTES + 8];
    rv_text joined;
    rv_text_init(&joined, c->mem, FILE_MAX_BYTES);
    rv_err e = RV_OK;
    for (const rv_toml_value *item = v->child; item && !e; item = item->next) {
        if (item->type != RV_TOML_STRING) {
            e = refuse(key, from, rv_toml_type_name(item->type));
        } else if (!is_choice(key->choices, item->string.at, item->string.n)) {
            e = refuse(key, from, shown(item->string.at, item->string.n, found));
        } else {
            rv_text_addf(&joined, "%s%.*s", joined.n ? "," : "", (int)item->string.n, item->string.at);
        }
    }
    if (!e) {
        e = rv_text_check(&joined);
    }
    if (!e && joined.n == 0) {
        e = refuse(key, from, "an empty list");
    }
    if (!e) {
        e = store(c, i, (config_value){ 0 }, rv_text_get(&joined), joined.n, from);
    }
    rv_text_deinit(&joined);
    return e;
}

static rv_err put_toml(rv_config *c, size_t i, const rv_toml_value *v, const config_source *from)
{
    const rv_config_key *key = &rv_config_keys[i];
    switch (key->type) {
    case RV_CONFIG_INT:
        if (v->type == RV_TOML_INTEGER) {
            return put_int(c, i, v->integer, from);
        }
        break;
    case RV_CONFIG_FLOAT:
        if (v->type == RV_TOML_FLOAT || v->type == RV_TOML_INTEGER) {
            return put_float(c, i, v->type == RV_TOML_FLOAT ? v->number : (double)v->integer, from);
        }
        break;
    case RV_CONFIG_BOOL:
        if (v->type == RV_TOML_BOOL) {
            return put_bool(c, i, v->boolean, from);
        }
        break;
    case RV_CONFIG_LIST:
        if (v->type == RV_TOML_ARRAY) {
            return put_toml_list(c, i, v, from);
        }
        break;
    default:
        if (v->type == RV_TOML_STRING) {
            return put_string(c, i, v->string.at, v->string.n, from);
        }
    }
    char found[SHOWN_BYTES + 48], text[SHOWN_BYTES + 8];
    const char *type = rv_toml_type_name(v->type);
    if (v->type == RV_TOML_STRING) {
        snprintf(found, sizeof found, "the %s %s", type, shown(v->string.at, v->string.n, text));
    } else if (v->type == RV_TOML_INTEGER) {
        snprintf(found, sizeof found, "the %s %lld", type, (long long)v->integer);
    } else {
        snprintf(found, sizeof found, "a value of type %s", type);
    }
    return refuse(key, from, found);
}

/* ---- names ---- */

static bool same(rv_str a, const char *b)
{
    return rv_str_eq(a, b);
}

static size_t find_key(rv_str section, rv_str name)
{
    size_t i = 0;
    while (i < rv_config_n_keys &&
           !(same(section, rv_config_keys[i].section) && same(name, rv_config_keys[i].name))) {
        i++;
    }
    return i;
}

static bool is_section(rv_str name)
{
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        if (same(name, rv_config_keys[i].section)) {
            return true;
        }
    }
    return same(name, "security"); /* a section of the design that has no key yet */
}

/* Letters to change, add, drop or swap with their neighbour until a reads like b, capitals not counted. */
static size_t edits(rv_str a, rv_str b)
{
    enum { LONGEST = 48 };
    size_t rows[3][LONGEST + 1];
    if (a.n > LONGEST || b.n > LONGEST) {
        return LONGEST;
    }
    for (size_t j = 0; j <= b.n; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a.n; i++) {
        size_t *here = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        here[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            char x = a.at[i - 1], y = b.at[j - 1];
            size_t best = above[j - 1] + ((x | 32) != (y | 32));
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = here[j - 1] + 1 < best ? here[j - 1] + 1 : best;
            if (i > 1 && j > 1 && x == b.at[j - 2] && a.at[i - 2] == y && two_above[j - 2] + 1 < best) {
                best = two_above[j - 2] + 1;
            }
            here[j] = best;
        }
    }
    return rows[a.n % 3][b.n];
}

/* The name that was probably meant: a key of the same section at most a third of its letters away, else the same name
 * in another section; NULL: nothing comes near. */
static const rv_config_key *meant(rv_str section, rv_str name)
{
    const rv_config_key *near = NULL;
    size_t nearest = SIZE_MAX;
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        const rv_config_key *key = &rv_config_keys[i];
        rv_str wanted = rv_str_from(key->name);
        size_t away = same(section, key->section) ? edits(name, wanted)
                      : same(name, key->name)     ? wanted.n / 3
                                                  : SIZE_MAX;
        if (away <= (wanted.n + 2) / 3 && away < nearest) {
            near = key;
            nearest = away;
        }
    }
    return near;
}

static const char *meant_section(rv_str name)
{
    const char *near = NULL;
    size_t nearest = 3;
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        size_t away = edits(name, rv_str_from(rv_config_keys[i].section));
        if (away < nearest) {
            near = rv_config_keys[i].section;
            nearest = away;
        }
    }
    return near;
}

static rv_err unknown_key(const char *where, rv_str section, rv_str name)
{
    char a[SHOWN_BYTES + 8], b[SHOWN_BYTES + 8], hint[128] = "";
    const rv_config_key *near = meant(section, name);
    if (rv_str_eq(section, "tiers")) { /* 1.2b without quotes is key 2b of table 1 */
        snprintf(hint, sizeof hint,
                 "; tiers are 350m, 700m, 1.2b and 2.6b, those with a dot in quotes: \"1.2b\" = ...");
    } else if (near) {
        snprintf(hint, sizeof hint, "; did you mean %s.%s?", near->section, near->name);
    }
    return rv_fail(RV_E_CONFIG, "%s: unknown key %s in section %s%s", where, shown(name.at, name.n, a),
                   shown(section.at, section.n, b), hint);
}

static rv_err unknown_section(const char *where, rv_str name)
{
    char text[SHOWN_BYTES + 8], hint[64] = "";
    const char *near = meant_section(name);
    if (near) {
        snprintf(hint, sizeof hint, "; did you mean [%s]?", near);
    }
    return rv_fail(RV_E_CONFIG, "%s: unknown section %s%s", where, shown(name.at, name.n, text), hint);
}

/* ---- files ---- */

static rv_err put_document(rv_config *c, const rv_toml_value *root, const char *file, const char *folder)
{
    char where[PATH_MAX_BYTES + 32];
    config_source from = { where, folder, true };
    for (const rv_toml_value *section = root->child; section; section = section->next) {
        snprintf(where, sizeof where, "%s:%d", file, section->line);
        if (!is_section(section->key)) {
            return unknown_section(where, section->key);
        }
        if (section->type != RV_TOML_TABLE) {
            return rv_fail(RV_E_CONFIG, "%s: %.*s: found a value of type %s, allowed is a section [%.*s]",
                           where, (int)section->key.n, section->key.at, rv_toml_type_name(section->type),
                           (int)section->key.n, section->key.at);
        }
        for (const rv_toml_value *v = section->child; v; v = v->next) {
            snprintf(where, sizeof where, "%s:%d", file, v->line);
            size_t i = find_key(section->key, v->key);
            if (i == rv_config_n_keys) {
                return unknown_key(where, section->key, v->key);
            }
            RV_TRY(put_toml(c, i, v, &from));
        }
    }
    return RV_OK;
}

static rv_err put_file(rv_config *c, const char *file)
{
    char *text = NULL, *folder = NULL;
    rv_toml *doc = NULL;
    size_t n = 0;
    rv_err e = rv_file_read(c->mem, file, FILE_MAX_BYTES, &text, &n);
    if (!e) {
        e = rv_toml_parse(c->mem, file, text, n, &doc);
    }
    if (!e) {
        const char *slash = strrchr(file, '/');
        folder = slash ? rv_strndup(c->mem, file, slash == file ? 1 : (size_t)(slash - file))
                       : rv_strdup(c->mem, ".");
        e = folder ? put_document(c, rv_toml_root(doc), file, folder) : rv_fail(RV_E_NOMEM, "%s", file);
    }
    rv_toml_free(doc);
    rv_free(c->mem, folder);
    rv_free(c->mem, text);
    return e == RV_OK || e == RV_E_NOMEM ? e : rv_err_set_text(RV_E_CONFIG, rv_err_text());
}

static rv_err find_user_file(rv_config *c)
{
    const char *named = getenv("RUVLLM_CONFIG"), *data = getenv("RUVLLM_DATA"),
               *xdg = getenv("XDG_CONFIG_HOME");
    const char *home = home_folder();
    char path[PATH_MAX_BYTES + 1];
    int n = named && *named        ? snprintf(path, sizeof path, "%s", named)
            : data && *data        ? snprintf(path, sizeof path, "%s/ruvllm.toml", data)
            : xdg && xdg[0] == '/' ? snprintf(path, sizeof path, "%s/ruvllm/ruvllm.toml", xdg)
            : home                 ? snprintf(path, sizeof path, "%s/.config/ruvllm/ruvllm.toml", home)
                                   : snprintf(path, sizeof path, "ruvllm.toml");
    if (n < 0 || (size_t)n >= sizeof path) {
        return rv_fail(RV_E_CONFIG, "the path of the configuration is longer than %d bytes", PATH_MAX_BYTES);
    }
    return absolute(c->mem, ".", path, &c->user_file);
}

/* A file that was named must be there; the usual places may be empty. */
static rv_err put_usual_files(rv_config *c)
{
    const char *named = getenv("RUVLLM_CONFIG");
    if (access(system_file, F_OK) == 0) {
        RV_TRY(put_file(c, system_file));
    }
    RV_TRY(find_user_file(c));
    return (named && *named) || access(c->user_file, F_OK) == 0 ? put_file(c, c->user_file) : RV_OK;
}

/* ---- environment ---- */

/* RUVLLM_SERVER_MAX_BODY_BYTES, RUVLLM_TIERS_1_2B */
static void variable_name(const char *section, const char *name, char *out, size_t room)
{
    snprintf(out, room, "RUVLLM_%s%s%s", section, name ? "_" : "", name ? name : "");
    for (char *p = out; *p; p++) {
        if (*p >= 'a' && *p <= 'z') {
            *p -= 32;
        } else if (!((*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9'))) {
            *p = '_';
        }
    }
}

/* A variable that looks like one of ours but is no key is a typing mistake, and silence would hide it. */
static rv_err check_variable(const char *entry)
{
    size_t n = strcspn(entry, "=");
    char name[128];
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        variable_name(rv_config_keys[i].section, rv_config_keys[i].name, name, sizeof name);
        if (strlen(name) == n && memcmp(name, entry, n) == 0) {
            return RV_OK;
        }
    }
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        variable_name(rv_config_keys[i].section, "", name, sizeof name);
        size_t prefix = strlen(name);
        if (n > prefix && strncmp(entry, name, prefix) == 0) {
            char rest[SHOWN_BYTES + 1] = "", where[160];
            for (size_t k = 0; k + prefix < n && k < SHOWN_BYTES; k++) {
                char ch = entry[prefix + k];
                rest[k] = ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch;
            }
            snprintf(where, sizeof where, "%.*s", (int)(n < 128 ? n : 128), entry);
            return unknown_key(where, rv_str_from(rv_config_keys[i].section), rv_str_from(rest));
        }
    }
    return RV_OK; /* RUVLLM_CONFIG, RUVLLM_MODELS, ... */
}

static rv_err put_environment(rv_config *c)
{
    for (char **entry = environ; entry && *entry; entry++) {
        if (strncmp(*entry, "RUVLLM_", 7) == 0) {
            RV_TRY(check_variable(*entry));
        }
    }
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        char name[128];
        variable_name(rv_config_keys[i].section, rv_config_keys[i].name, name, sizeof name);
        const char *value = getenv(name);
        if (value) {
            RV_TRY(put_text(c, i, value, &(config_source){ name, ".", false }));
        }
    }
    const char *data = getenv("RUVLLM_DATA"), *log = getenv("RUVLLM_LOG");
    if (data && *data) {
        RV_TRY(rv_config_set(c, "system.data_dir", data, "RUVLLM_DATA"));
    }
    if (log && *log) {
        RV_TRY(rv_config_set(c, "system.log_level", log, "RUVLLM_LOG"));
    }
    return RV_OK;
}

/* ---- built in ---- */

static rv_err put_built_in(rv_config *c)
{
    const config_source from = { "built-in", ".", false };
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        if (rv_config_keys[i].built_in) {
            RV_TRY(put_text(c, i, rv_config_keys[i].built_in, &from));
        }
    }
    const char *xdg = getenv("XDG_DATA_HOME"), *home = home_folder();
    char path[PATH_MAX_BYTES + 1];
    int n = xdg && xdg[0] == '/' ? snprintf(path, sizeof path, "%s/ruvllm", xdg)
            : home               ? snprintf(path, sizeof path, "%s/.local/share/ruvllm", home)
                                 : snprintf(path, sizeof path, "ruvllm-data");
    if (n < 0 || (size_t)n >= sizeof path) {
        return rv_fail(RV_E_CONFIG, "the home folder's path is longer than %d bytes; give --data",
                       PATH_MAX_BYTES);
    }
    return rv_config_set(c, "system.data_dir", path, "built-in");
}

/* ---- what others call ---- */

rv_err rv_config_load(const rv_alloc *mem, const char *file, rv_config **out)
{
    rv_config *c = rv_new(mem, sizeof *c);
    if (!c) {
        return rv_fail(RV_E_NOMEM, "reading the configuration");
    }
    *c = (rv_config){ .mem = mem, .values = rv_new_array(mem, rv_config_n_keys, sizeof *c->values) };
    rv_err e = c->values ? put_built_in(c) : rv_fail(RV_E_NOMEM, "reading the configuration");
    if (!e && file) {
        e = put_file(c, file);
        if (!e) {
            e = absolute(mem, ".", file, &c->user_file);
        }
    } else if (!e) {
        e = put_usual_files(c);
    }
    if (!e) {
        e = put_environment(c);
    }
    if (e) {
        rv_config_free(c);
        return e;
    }
    *out = c;
    return RV_OK;
}

void rv_config_free(rv_config *c)
{
    if (!c) {
        return;
    }
    for (size_t i = 0; c->values && i < rv_config_n_keys; i++) {
        rv_free(c->mem, c->values[i].text);
        rv_free(c->mem, c->values[i].origin);
    }
    rv_free(c->mem, c->values);
    rv_free(c->mem, c->user_file);
    rv_free(c->mem, c);
}

rv_err rv_config_set(rv_config *c, const char *key, const char *value, const char *origin)
{
    const char *dot = strchr(key, '.');
    rv_str section = rv_str_of(key, dot ? (size_t)(dot - key) : strlen(key)),
           name = rv_str_from(dot ? dot + 1 : "");
    if (!is_section(section)) {
        return unknown_section(origin, section);
    }
    size_t i = find_key(section, name);
    return i < rv_config_n_keys ? put_text(c, i, value, &(config_source){ origin, ".", false })
                                : unknown_key(origin, section, name);
}

static const config_value *value_of(const rv_config *c, const char *key)
{
    const char *dot = strchr(key, '.');
    assert(dot);
    size_t i = find_key(rv_str_of(key, (size_t)(dot - key)), rv_str_from(dot + 1));
    assert(i < rv_config_n_keys);
    return &c->values[i];
}

const char *rv_config_string(const rv_config *c, const char *key)
{
    return value_of(c, key)->text;
}
int64_t rv_config_int(const rv_config *c, const char *key)
{
    return value_of(c, key)->integer;
}
double rv_config_float(const rv_config *c, const char *key)
{
    return value_of(c, key)->number;
}
bool rv_config_bool(const rv_config *c, const char *key)
{
    return value_of(c, key)->boolean;
}
const char *rv_config_origin(const rv_config *c, const char *key)
{
    const config_value *v = value_of(c, key);
    return v->origin ? v->origin : "built-in";
}
const char *rv_config_tier(const rv_config *c, int tier)
{
    char key[32];
    snprintf(key, sizeof key, "tiers.%s", rv_tier_names[tier]);
    return rv_config_string(c, key);
}
const char *rv_config_data_dir(const rv_config *c)
{
    return rv_config_string(c, "system.data_dir");
}
char *rv_config_packed_dir(const rv_config *c, const rv_alloc *mem)
{
    if (strcmp(rv_config_string(c, "inference.packing"), "file") != 0) {
        return NULL;
    }
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = home_folder();
    char base[PATH_MAX_BYTES + 1];
    bool named = strcmp(rv_config_origin(c, "system.data_dir"), "built-in") != 0 || (!home && !xdg);
    int n = named                  ? snprintf(base, sizeof base, "%s/cache", rv_config_data_dir(c))
            : xdg && xdg[0] == '/' ? snprintf(base, sizeof base, "%s/ruvllm", xdg)
                                   : snprintf(base, sizeof base, "%s/.cache/ruvllm", home ? home : ".");
    return n > 0 && (size_t)n < sizeof base ? rv_path_join(mem, base, "packed") : NULL;
}
const char *rv_config_user_file(const rv_config *c)
{
    return c->user_file;
}

/* ---- template ---- */

static void write_key(rv_text *t, const rv_config_key *key)
{
    bool bare = strchr(key->name, '.') == NULL;
    const char *q = bare ? "" : "\"", *value = key->built_in;
    bool quoted = key->type != RV_CONFIG_INT && key->type != RV_CONFIG_FLOAT && key->type != RV_CONFIG_BOOL;
    rv_text_addf(t, "# %s\n", key->help);
    rv_text_addf(t, "# %s%s%s = ", q, key->name, q);
    if (key->type == RV_CONFIG_LIST) {
        for (const char *at = value; *at;) {
            int n = (int)strcspn(at, ",");
            rv_text_addf(t, "%s\"%.*s\"", at == value ? "[" : ", ", n, at);
            at += n + (at[n] == ',');
        }
        rv_text_adds(t, "]\n");
    } else {
        rv_text_addf(t, "%s%s%s\n", quoted ? "\"" : "", value ? value : "...", quoted ? "\"" : "");
    }
}

rv_err rv_config_write_template(const rv_config *c, const char *path)
{
    if (access(path, F_OK) == 0) {
        return rv_fail(RV_E_ARG, "%s: is there already", path);
    }
    const char *slash = strrchr(path, '/'), *section = "";
    if (slash && slash > path) {
        char *folder = rv_strndup(c->mem, path, (size_t)(slash - path));
        rv_err e = folder ? rv_dir_make(folder) : rv_fail(RV_E_NOMEM, "%s", path);
        rv_free(c->mem, folder);
        RV_TRY(e);
    }
    rv_text t;
    rv_text_init(&t, c->mem, FILE_MAX_BYTES);
    rv_text_adds(&t, "# Configuration of ruvllm. Take the # from a line to change what it sets.\n");
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        const rv_config_key *key = &rv_config_keys[i];
        if (!key->active) {
            continue;
        }
        if (strcmp(section, key->section) != 0) {
            section = key->section;
            rv_text_addf(&t, "\n[%s]\n", section);
        }
        write_key(&t, key);
    }
    rv_err e = rv_text_check(&t);
    if (!e) {
        e = rv_file_replace(path, rv_text_get(&t), t.n);
    }
    rv_text_deinit(&t);
    return e;
}
