/* What several commands share: configuration, opening the program's parts, models named on the command line. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --data is the data folder, but for a command that has an option of that name. */
static const char *data_folder(const cmd_line *line)
{
    const cmd_option *own = line->command->options;
    while (own && own->name && strcmp(own->name, "data") != 0) {
        own++;
    }
    return own && own->name ? NULL : cmd_value(line, "data", NULL);
}

rv_err cmd_config(const cmd_line *line, rv_config **out)
{
    rv_config *c = NULL;
    const char *data = data_folder(line);
    if (data) { /* the folder may hold a configuration of its own, which is then read */
        setenv("RUVLLM_DATA", data, 1);
    }
    RV_TRY(rv_config_load(&rv_heap, cmd_value(line, "config", NULL), &c));
    rv_err e = RV_OK;
    for (size_t i = 0; i < line->n_given && !e; i++) {
        const cmd_option *o = line->given[i].option;
        const char *value = line->given[i].value;
        if (data && strcmp(o->name, "data") == 0) {
            e = rv_config_set(c, "system.data_dir", value, "--data");
        } else if (strcmp(o->name, "set") == 0) {
            const char *equals = strchr(value, '=');
            char key[128];
            if (!equals || (size_t)(equals - value) >= sizeof key) {
                e = rv_fail(RV_E_CONFIG, "--set takes section.key=value, found `%s`", value);
            } else {
                snprintf(key, sizeof key, "%.*s", (int)(equals - value), value);
                e = rv_config_set(c, key, equals + 1, "--set");
            }
        } else if (o->config) {
            char origin[64];
            snprintf(origin, sizeof origin, "--%s", o->name);
            e = rv_config_set(c, o->config, value ? value : "true", origin);
        }
    }
    if (e) {
        rv_config_free(c);
        return e;
    }
    *out = c;
    return RV_OK;
}

/* What a command does it says in words; a log of it is for a server, or for who asks for one. */
rv_err cmd_open_with(const cmd_line *line, rv_config *config, rv_app_parts parts, rv_app **app)
{
    bool asked = strcmp(rv_config_origin(config, "system.log_level"), "built-in") != 0;
    if (!asked && line->command->run != cmd_serve) {
        RV_TRY(rv_config_set(config, "system.log_level", "warn", "a command"));
    }
    return rv_app_open(&rv_heap, config, parts, app);
}

rv_err cmd_open(const cmd_line *line, rv_app_parts parts, rv_config **config, rv_app **app)
{
    rv_config *c = NULL;
    RV_TRY(cmd_config(line, &c));
    rv_err e = cmd_open_with(line, c, parts, app);
    if (e) {
        rv_config_free(c);
        return e;
    }
    *config = c;
    return RV_OK;
}

void cmd_close(rv_config *config, rv_app *app)
{
    rv_app_close(app);
    rv_config_free(config);
}

bool cmd_next_line(FILE *in, char **line, size_t *room, size_t *n, rv_err *e)
{
    enum { MAX_LINE = 16 << 20 };
    ssize_t got = getline(line, room, in);
    if (got < 0) {
        *e = atomic_load(&cmd_cancel) ? rv_fail(RV_E_CANCELLED, "interrupted")
             : ferror(in)             ? rv_fail(RV_E_IO, "reading the lines failed: %s", strerror(errno))
                                      : RV_OK;
        return false;
    }
    if (got > MAX_LINE) {
        *e = rv_fail(RV_E_TOO_LARGE, "a line of %zd bytes, at most %d are read", got, MAX_LINE);
        return false;
    }
    while (got > 0 && ((*line)[got - 1] == '\n' || (*line)[got - 1] == '\r')) {
        (*line)[--got] = 0;
    }
    *n = (size_t)got;
    *e = RV_OK;
    return true;
}

rv_err cmd_read_input(const char *what, char **out)
{
    char *text = NULL;
    size_t n = 0;
    RV_TRY(rv_file_read(&rv_heap, "-", (size_t)16 << 20, &text, &n));
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) {
        text[--n] = 0;
    }
    if (n == 0 || memchr(text, 0, n)) {
        rv_free(&rv_heap, text);
        return n == 0 ? rv_fail(RV_E_FORMAT, "standard input is empty: give a %s", what)
                      : rv_fail(RV_E_FORMAT, "the %s holds a zero byte", what);
    }
    *out = text;
    return RV_OK;
}

/* The file behind a name that the configuration knows. Nothing is read, so who would guess for whom is not asked. */
static rv_err named_model_path(const cmd_line *line, const char *name, char **path)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    const char *id = NULL;
    RV_TRY(cmd_config(line, &config));
    rv_err e = rv_config_set(config, "inference.draft_model", "off", "looking for a file");
    if (!e) {
        e = cmd_open_with(line, config, RV_APP_MODELS, &app);
    }
    if (!e) {
        e = rv_backend_resolve(rv_app_pipeline(app)->backend, name, &id);
    }
    if (!e) {
        rv_backend_model models[256];
        size_t found = rv_backend_models(rv_app_pipeline(app)->backend, models, RV_COUNT(models));
        e = rv_fail(RV_E_NOT_FOUND, "%s: not among the models", name);
        for (size_t i = 0; i < found && i < RV_COUNT(models); i++) {
            if (strcmp(models[i].id, id) == 0) {
                *path = rv_strdup(&rv_heap, models[i].path);
                e = *path ? RV_OK : rv_fail(RV_E_NOMEM, "%s", name);
                break;
            }
        }
    }
    cmd_close(config, app);
    return e;
}

/* A path wins over a name; a name is asked of the configuration's tiers and models. */
rv_err cmd_model_path(const cmd_line *line, const char *name, char **path)
{
    if (rv_file_exists(name)) {
        *path = rv_strdup(&rv_heap, name);
        return *path ? RV_OK : rv_fail(RV_E_NOMEM, "%s", name);
    }
    size_t n = strlen(name);
    if (strchr(name, '/') || (n > 5 && strcmp(name + n - 5, ".gguf") == 0)) {
        return rv_fail(RV_E_NOT_FOUND,
                       "%s: there is no such model file; `ruvllm list` shows the models that can be used",
                       name);
    }
    return named_model_path(line, name, path);
}

/* how->packed_dir is allocated. */
static rv_err engine_options(const cmd_line *line, int64_t *threads, rv_engine_options *how)
{
    *how = rv_engine_options_default();
    const char *act = cmd_value(line, "act", "q8");
    if (strcmp(act, "q8") != 0 && strcmp(act, "f32") != 0) {
        return rv_fail(RV_E_CONFIG, "--act %s: q8 (as always) or f32", act);
    }
    how->max_sequences = 1;
    rv_config *c = NULL;
    RV_TRY(cmd_config(line, &c));
    *threads = rv_config_int(c, "inference.threads");
    how->max_context = (uint32_t)rv_config_int(c, "inference.max_context");
    bool known = rv_kv_type_named(rv_config_string(c, "inference.kv_type"), &how->kv_type);
    assert(known); /* the configuration was checked */
    (void)known;
    how->no_packing = strcmp(rv_config_string(c, "inference.packing"), "off") == 0;
    how->packed_dir = rv_config_packed_dir(c, &rv_heap);
    how->no_drafts = strcmp(rv_config_string(c, "inference.drafts"), "off") == 0;
    rv_config_free(c);

    how->act_f32 = strcmp(act, "f32") == 0;
    return RV_OK;
}

rv_err cmd_engine(const cmd_line *line, const char *name, rv_pool **pool, rv_engine **engine)
{
    char *path = NULL;
    rv_engine_options how;
    int64_t threads = 0;
    RV_TRY(engine_options(line, &threads, &how));
    rv_err e = cmd_model_path(line, name, &path);
    if (!e) {
        e = rv_pool_new(&rv_heap, (int)threads, pool);
    }
    if (!e) {
        how.pool = *pool;
        e = rv_engine_open(&rv_heap, path, how, engine);
        if (e) {
            rv_pool_free(*pool);
            *pool = NULL;
        }
    }
    rv_free(&rv_heap, (void *)(uintptr_t)how.packed_dir);
    rv_free(&rv_heap, path);
    return e;
}

/* The tier that inference.draft_model names, "" for none. `auto` is none too: it means one that is in memory anyway. */
static rv_err draft_tier(const cmd_line *line, char name[16])
{
    rv_config *c = NULL;
    RV_TRY(cmd_config(line, &c));
    const char *tier = rv_config_string(c, "inference.draft_model");
    bool none = strcmp(tier, "auto") == 0 || strcmp(tier, "off") == 0 ||
                strcmp(rv_config_string(c, "inference.drafts"), "off") == 0;
    snprintf(name, 16, "%s", none ? "" : tier);
    rv_config_free(c);
    return RV_OK;
}

rv_err cmd_draft_model(const cmd_line *line, const rv_engine *engine, rv_pool *pool, rv_engine **draft)
{
    char tier[16], *path = NULL;
    rv_engine_options how;
    int64_t threads = 0;
    *draft = NULL;
    RV_TRY(draft_tier(line, tier));
    if (!*tier) {
        return RV_OK;
    }
    RV_TRY(engine_options(line, &threads, &how));
    rv_err e = named_model_path(line, tier, &path);
    if (!e) {
        how.pool = pool;
        e = rv_engine_open(&rv_heap, path, how, draft);
    }
    if (!e) {
        const rv_engine_info *small = rv_engine_get_info(*draft), *large = rv_engine_get_info(engine);
        const char *why = small->vocabulary != large->vocabulary           ? "its vocabulary is another one"
                          : small->resident_bytes >= large->resident_bytes ? "it is not smaller"
                                                                           : NULL;
        if (why) { /* only speed is lost */
            rv_log(RV_LOG_WARN, "draft_model.unused", "tier", tier, "why", why, (char *)NULL);
            rv_engine_close(*draft);
            *draft = NULL;
        }
    }
    rv_free(&rv_heap, (void *)(uintptr_t)how.packed_dir);
    rv_free(&rv_heap, path);
    return e;
}

rv_err cmd_lora(const cmd_line *line, const rv_engine *engine, rv_lora **lora)
{
    const char *path = cmd_value(line, "lora", NULL);
    *lora = NULL;
    return path ? rv_engine_open_lora(engine, &rv_heap, path, lora) : RV_OK;
}

bool cmd_sampling(const cmd_line *line, rv_sampling *s)
{
    double temperature = (double)s->temperature, top_p = (double)s->top_p, min_p = (double)s->min_p;
    double repeat = (double)s->repeat_penalty;
    int64_t top_k = s->top_k, seed = (int64_t)s->seed;
    if (!cmd_float(line, "temperature", 0, 10, &temperature) || !cmd_float(line, "top-p", 0, 1, &top_p) ||
        !cmd_float(line, "min-p", 0, 1, &min_p) || !cmd_float(line, "repeat-penalty", 0.1, 10, &repeat) ||
        !cmd_int(line, "top-k", 0, INT32_MAX, &top_k) ||
        !cmd_int(line, "seed", INT64_MIN, INT64_MAX, &seed)) {
        return false;
    }
    s->temperature = (float)temperature;
    s->top_p = (float)top_p;
    s->min_p = (float)min_p;
    s->repeat_penalty = (float)repeat;
    s->top_k = (int32_t)top_k;
    s->seed = (uint64_t)seed;
    return true;
}
