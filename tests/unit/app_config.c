#include "app/config.h"
#include "base/file.h"
#include "base/json.h"
#include "test.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* No variable and no file of the machine the test runs on. */
static const char *clean_home(void)
{
    static const char *const ours[] = { "XDG_CONFIG_HOME", "XDG_DATA_HOME" };
    for (char **v = environ; *v;) {
        char name[200];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*v, "="), *v);
        if (strncmp(name, "RUVLLM_", 7) == 0) {
            unsetenv(name);
            v = environ;
        } else {
            v++;
        }
    }
    for (size_t i = 0; i < RV_COUNT(ours); i++) {
        unsetenv(ours[i]);
    }
    const char *home = temp_dir();
    setenv("HOME", home, 1);
    return home;
}

static const char *join(const char *folder, const char *name)
{
    static char path[4][8192];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%.4000s/%.4000s", folder, name);
    return out;
}

static void write_file(const char *path, const char *text)
{
    CHECK_OK(rv_file_replace(path, text, strlen(text)));
}

static rv_config *load_ok(const char *file)
{
    rv_config *c = NULL;
    CHECK_OK(rv_config_load(&rv_heap, file, &c));
    return c;
}

static void check_refused(const char *text, const char *part)
{
    const char *path = temp_path("ruvllm.toml");
    write_file(path, text);
    rv_config *c = NULL;
    CHECK_ERR(rv_config_load(&rv_heap, path, &c), RV_E_CONFIG);
    CHECK(strstr(rv_err_text(), part), "%s: expected \"%s\" in: %s", text, part, rv_err_text());
}

TEST(every_built_in_value_is_one_its_own_key_allows)
{
    clean_home();
    rv_config *c = load_ok(NULL);
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        const rv_config_key *key = &rv_config_keys[i];
        char name[128];
        snprintf(name, sizeof name, "%s.%s", key->section, key->name);
        if (key->built_in) {
            CHECK(rv_config_string(c, name) != NULL, "%s has no value", name);
            CHECK(strcmp(rv_config_origin(c, name), "built-in") == 0, "%s: %s", name,
                  rv_config_origin(c, name));
        }
        CHECK(key->help && *key->help, "%s has no help", name);
        for (size_t j = 0; j < i; j++) {
            CHECK(strcmp(key->section, rv_config_keys[j].section) != 0 ||
                      strcmp(key->name, rv_config_keys[j].name) != 0,
                  "%s is there twice", name);
        }
    }
    CHECK(rv_config_int(c, "server.port") == 8080, "port %lld", (long long)rv_config_int(c, "server.port"));
    CHECK(rv_config_bool(c, "learning.enabled"), "learning is off");
    CHECK(rv_config_float(c, "router.sparsity") == 0.9, "%g", rv_config_float(c, "router.sparsity"));
    rv_config_free(c);
}

TEST(flag_beats_environment_beats_user_file_beats_built_in)
{
    const char *home = clean_home();
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/.config/ruvllm", home);
    CHECK_OK(rv_dir_make(folder));
    write_file(join(folder, "ruvllm.toml"), "[server]\nport = 1111\nmax_queue = 7\n");

    rv_config *c = load_ok(NULL);
    CHECK(rv_config_int(c, "server.port") == 1111, "%s", rv_config_string(c, "server.port"));
    CHECK(strcmp(rv_config_origin(c, "server.port"), join(folder, "ruvllm.toml:2")) == 0, "%s",
          rv_config_origin(c, "server.port"));
    CHECK(strcmp(rv_config_user_file(c), join(folder, "ruvllm.toml")) == 0, "%s", rv_config_user_file(c));
    rv_config_free(c);

    setenv("RUVLLM_SERVER_PORT", "2222", 1);
    c = load_ok(NULL);
    CHECK(rv_config_int(c, "server.port") == 2222, "%s", rv_config_string(c, "server.port"));
    CHECK(rv_config_int(c, "server.max_queue") == 7, "%s", rv_config_string(c, "server.max_queue"));
    CHECK(strcmp(rv_config_origin(c, "server.port"), "RUVLLM_SERVER_PORT") == 0, "%s",
          rv_config_origin(c, "server.port"));

    CHECK_OK(rv_config_set(c, "server.port", "3333", "--port"));
    CHECK(rv_config_int(c, "server.port") == 3333, "%s", rv_config_string(c, "server.port"));
    CHECK(strcmp(rv_config_origin(c, "server.port"), "--port") == 0, "%s",
          rv_config_origin(c, "server.port"));
    CHECK_ERR(rv_config_set(c, "server.port", "99999", "--port"), RV_E_CONFIG);
    CHECK(rv_config_int(c, "server.port") == 3333, "a refused value was kept");
    rv_config_free(c);
}

TEST(ruvllm_data_moves_data_and_user_file_under_one_folder)
{
    clean_home();
    const char *data = temp_dir();
    setenv("RUVLLM_DATA", data, 1);
    write_file(join(data, "ruvllm.toml"), "[inference]\nthreads = 3\n");
    rv_config *c = load_ok(NULL);
    CHECK(strcmp(rv_config_data_dir(c), data) == 0, "%s", rv_config_data_dir(c));
    CHECK(strcmp(rv_config_origin(c, "system.data_dir"), "RUVLLM_DATA") == 0, "%s",
          rv_config_origin(c, "system.data_dir"));
    CHECK(rv_config_int(c, "inference.threads") == 3, "%s", rv_config_string(c, "inference.threads"));
    rv_config_free(c);
}

TEST(without_anything_data_is_in_the_xdg_folder)
{
    const char *home = clean_home();
    rv_config *c = load_ok(NULL);
    CHECK(strcmp(rv_config_data_dir(c), join(home, ".local/share/ruvllm")) == 0, "%s", rv_config_data_dir(c));
    rv_config_free(c);
    setenv("XDG_DATA_HOME", "/somewhere", 1);
    c = load_ok(NULL);
    CHECK(strcmp(rv_config_data_dir(c), "/somewhere/ruvllm") == 0, "%s", rv_config_data_dir(c));
    rv_config_free(c);
}

TEST(paths_start_at_their_file_at_home_or_at_the_current_folder)
{
    const char *home = clean_home(), *folder = temp_dir(), *file = join(folder, "c.toml");
    write_file(file,
               "[system]\ndata_dir = \"here\"\n[tiers]\n350m = \"./m/a.gguf\"\n\"1.2b\" = \"~/b.gguf\"\n"
               "700m = \"plain-name\"\n[inference]\nmodel = \"700m\"\n");
    rv_config *c = load_ok(file);
    CHECK(strcmp(rv_config_data_dir(c), join(folder, "here")) == 0, "%s", rv_config_data_dir(c));
    CHECK(strcmp(rv_config_tier(c, 0), join(folder, "./m/a.gguf")) == 0, "%s", rv_config_tier(c, 0));
    CHECK(strcmp(rv_config_tier(c, 1), "plain-name") == 0, "%s", rv_config_tier(c, 1));
    CHECK(strcmp(rv_config_tier(c, 2), join(home, "b.gguf")) == 0, "%s", rv_config_tier(c, 2));
    CHECK(rv_config_tier(c, 3) == NULL, "%s", rv_config_tier(c, 3));
    char here[4096];
    CHECK(getcwd(here, sizeof here) != NULL, "getcwd");
    CHECK_OK(rv_config_set(c, "system.data_dir", "there", "--data"));
    CHECK(strcmp(rv_config_data_dir(c), join(here, "there")) == 0, "%s", rv_config_data_dir(c));
    rv_config_free(c);
}

TEST(mistakes_in_a_file_name_line_key_found_and_allowed)
{
    clean_home();
    check_refused("[server]\nport = 70000\n",
                  ":2: server.port: found 70000, allowed is a whole number 1 to 65535");
    check_refused("[server]\nport = 0\n", ":2: server.port: found 0");
    check_refused("[server]\nport = \"80\"\n", "found the string \"80\"");
    check_refused("[server]\nlisten = \"host name\"\n", "an IPv4 or IPv6 address");
    check_refused("[server]\nprot = 80\n",
                  "unknown key \"prot\" in section \"server\"; did you mean server.port?");
    check_refused("[sever]\n", "unknown section \"sever\"; did you mean [server]?");
    check_refused("port = 1\n", "unknown section \"port\"");
    check_refused("server = 3\n", "allowed is a section [server]");
    check_refused("[memory]\nport = 80\n", "did you mean server.port?");
    check_refused("[system]\ndevice_class = \"phone\"\n", "one of edge|server|gpu");
    check_refused("[inference]\nmodels = [\"350m\", \"3b\"]\n", "\"3b\"");
    check_refused("[inference]\nmodels = []\n", "an empty list");
    check_refused("[learning]\nquality_threshold = nan\n", "a number 0 to 1");
    check_refused("[learning]\njudge_url = \"ftp://localhost/v1\"\n", "allowed is http://host");
    check_refused("[system]\ndata_dir = \"\"\n", "an empty text");
    check_refused("[system\n", ":1:");
}

TEST(a_variable_that_is_nearly_a_key_is_an_error)
{
    clean_home();
    rv_config *c = NULL;
    setenv("RUVLLM_SERVER_PROT", "80", 1);
    CHECK_ERR(rv_config_load(&rv_heap, NULL, &c), RV_E_CONFIG);
    CHECK(strstr(rv_err_text(), "RUVLLM_SERVER_PROT") && strstr(rv_err_text(), "server.port"), "%s",
          rv_err_text());
    clean_home();
    setenv("RUVLLM_SERVER_PORT", "eighty", 1);
    CHECK_ERR(rv_config_load(&rv_heap, NULL, &c), RV_E_CONFIG);
    CHECK(strstr(rv_err_text(), "RUVLLM_SERVER_PORT: server.port: found \"eighty\""), "%s", rv_err_text());
    clean_home();
    setenv("RUVLLM_TIERS_1_2B", "x", 1);
    setenv("RUVLLM_MODELS", "/models", 1); /* ours, but no key */
    setenv("RUVLLM_SERVER_PORT", "0", 1);  /* a free one */
    setenv("RUVLLM_INFERENCE_MODELS", "350m,2.6b", 1);
    c = load_ok(NULL);
    CHECK(strcmp(rv_config_tier(c, 2), "x") == 0, "%s", rv_config_tier(c, 2));
    CHECK(strcmp(rv_config_string(c, "inference.models"), "350m,2.6b") == 0, "%s",
          rv_config_string(c, "inference.models"));
    rv_config_free(c);
    clean_home();
}

TEST(a_named_file_must_be_there_and_be_a_file)
{
    clean_home();
    rv_config *c = NULL;
    CHECK_ERR(rv_config_load(&rv_heap, "/nowhere/x.toml", &c), RV_E_CONFIG);
    CHECK_ERR(rv_config_load(&rv_heap, temp_dir(), &c), RV_E_CONFIG);
    setenv("RUVLLM_CONFIG", "/nowhere/y.toml", 1);
    CHECK_ERR(rv_config_load(&rv_heap, NULL, &c), RV_E_CONFIG);
    CHECK(strstr(rv_err_text(), "/nowhere/y.toml"), "%s", rv_err_text());
    clean_home();
}

TEST(the_template_loads_with_every_line_switched_on)
{
    clean_home();
    rv_config *c = load_ok(NULL);
    const char *path = temp_path("new/folder/ruvllm.toml");
    CHECK_OK(rv_config_write_template(c, path));
    CHECK_ERR(rv_config_write_template(c, path), RV_E_ARG);
    struct stat st;
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "mode %o", (unsigned)st.st_mode);
    rv_config_free(load_ok(path));

    char *text = NULL;
    size_t n = 0, switched = 0;
    CHECK_OK(rv_file_read(&rv_heap, path, 1 << 20, &text, &n));
    for (char *line = text; line && *line; line = strchr(line, '\n'), line += line ? 1 : 0) {
        size_t len = strcspn(line, "\n"), word = 2 + strcspn(line + 2, " ");
        if (line[0] == '#' && strncmp(line + word, " = ", 3) == 0 && !memmem(line, len, "...", 3)) {
            line[0] = ' ';
            switched++;
        }
    }
    const char *on = temp_path("on.toml");
    write_file(on, text);
    rv_free(&rv_heap, text);
    rv_config *again = load_ok(on);
    size_t active = 0;
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s.%s", rv_config_keys[i].section, rv_config_keys[i].name);
        active += rv_config_keys[i].active && rv_config_keys[i].built_in;
        if (rv_config_keys[i].active && rv_config_keys[i].built_in) {
            CHECK(strcmp(rv_config_string(c, name), rv_config_string(again, name)) == 0, "%s", name);
        }
    }
    CHECK(switched == active, "%zu lines for %zu keys", switched, active);
    rv_config_free(again);
    rv_config_free(c);
}

TEST(the_profiles_load_and_set_what_they_are_for)
{
    clean_home();
    static const struct profile {
        const char *file, *device, *models;
        int64_t requests, m;
        double threshold;
    } profiles[] = {
        { "config/edge.toml", "edge", "350m", 2, 16, 0.6 },
        { "config/server-cpu.toml", "server", "700m,1.2b,2.6b", 20, 32, 0.7 },
        { "config/server-gpu.toml", "gpu", "1.2b,2.6b", 100, 48, 0.75 },
    };
    for (size_t i = 0; i < RV_COUNT(profiles); i++) {
        const struct profile *p = &profiles[i];
        rv_config *c = load_ok(source_path(p->file));
        CHECK(strcmp(rv_config_string(c, "system.device_class"), p->device) == 0, "%s", p->file);
        CHECK(strcmp(rv_config_string(c, "inference.models"), p->models) == 0, "%s", p->file);
        CHECK(rv_config_int(c, "system.max_concurrent_requests") == p->requests, "%s", p->file);
        CHECK(rv_config_int(c, "memory.hnsw_m") == p->m, "%s", p->file);
        CHECK(rv_config_float(c, "router.confidence_threshold") == p->threshold, "%s", p->file);
        rv_config_free(c);
    }
}

TEST(the_guide_has_a_row_for_every_key)
{
    char *guide = NULL;
    size_t n = 0;
    CHECK_OK(rv_file_read(&rv_heap, source_path("docs/guide/configuration.md"), 1 << 20, &guide, &n));
    const char *at = guide, *section = "";
    for (size_t i = 0; i < rv_config_n_keys; i++) {
        const rv_config_key *key = &rv_config_keys[i];
        char wanted[512];
        if (strcmp(section, key->section) != 0) {
            section = key->section;
            snprintf(wanted, sizeof wanted, "### [%s]\n", section);
            at = strstr(at, wanted);
            CHECK(at, "no section [%s] after the one before", section);
        }
        snprintf(wanted, sizeof wanted, "\n| `%s` | ", key->name);
        at = strstr(at, wanted);
        CHECK(at, "no row for %s.%s", section, key->name);
        snprintf(wanted, sizeof wanted, "| %s%s%s | %s%s |", key->built_in ? "`" : "",
                 key->built_in ? key->built_in : "", key->built_in ? "`" : "", key->help,
                 key->active ? "" : " *(not used yet)*");
        size_t row = strcspn(at + 1, "\n");
        CHECK(memmem(at, row + 1, wanted, strlen(wanted)), "%s.%s: expected \"%s\", found \"%.*s\"", section,
              key->name, wanted, (int)row, at + 1);
    }
    rv_free(&rv_heap, guide);
}

/* What make_hostile_toml.py's own checker asks of a program, asked of the function. */
static void check_hostile(const char *folder, const json_t *row, size_t *bad)
{
    const char *file = json_string_value(json_object_get(row, "file"));
    const char *expect = json_string_value(json_object_get(row, "expect"));
    int line = (int)json_integer_value(json_object_get(row, "line"));
    const json_t *must = json_object_get(row, "must");
    rv_config *c = NULL;
    rv_err e = rv_config_load(&rv_heap, join(folder, file), &c);
    rv_config_free(c);
    char text[1100], at[32], or_at[32];
    snprintf(text, sizeof text, "%s", e ? rv_err_text() : "");
    for (char *p = text; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    bool named = json_array_size(must) == 0;
    for (size_t i = 0; i < json_array_size(must); i++) {
        named = named || strcasestr(text, json_string_value(json_array_get(must, i)));
    }
    snprintf(at, sizeof at, ":%d:", line);
    snprintf(or_at, sizeof or_at, "line %d", line);
    bool fine = strcmp(expect, "either") == 0 ||
                (strcmp(expect, "load") == 0
                     ? e == RV_OK
                     : e == RV_E_CONFIG && named && (line == 0 || strstr(text, at) || strstr(text, or_at)));
    if (!fine) {
        print_message("# %s: expected %s, line %d: %s %s\n", file, expect, line, rv_err_name(e), text);
        *bad += 1;
    }
}

TEST(the_hostile_corpus_is_refused_or_loaded_as_its_manifest_says)
{
    const char *script = shared_path("hostile/make_hostile_toml.py");
    if (!script) {
        SKIP("../shared/hostile is not here");
    }
    clean_home();
    const char *folder = temp_dir();
    char command[9000];
    snprintf(command, sizeof command, "python3 '%s' gen '%s' >/dev/null", script, folder);
    if (system(command) != 0) {
        SKIP("python3 cannot make the corpus");
    }
    FILE *manifest = fopen(join(folder, "manifest.jsonl"), "r");
    CHECK(manifest, "no manifest");
    char line[4096];
    size_t files = 0, bad = 0;
    while (fgets(line, sizeof line, manifest)) {
        json_t *row = NULL;
        CHECK_OK(rv_json_parse(line, strcspn(line, "\n"), &row));
        check_hostile(folder, row, &bad);
        json_decref(row);
        files++;
    }
    fclose(manifest);
    CHECK(files > 100 && bad == 0, "%zu of %zu files were judged wrong", bad, files);
}
