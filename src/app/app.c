/* Opens what the configuration asks for, in the order of the layers, and closes it the other way round. */
#include "app/app.h"

#include "base/cpu.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "app/app_priv.h"
#include "app/judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const demo_names[RV_TIERS] = { "demo-xs.gguf", "demo-s.gguf", "demo-m.gguf",
                                                  "demo-l.gguf" };

/* ---- model files ---- */

static bool has_demo_model(const char *folder)
{
    for (int t = 0; t < RV_TIERS; t++) {
        char *path = rv_path_join(&rv_heap, folder, demo_names[t]);
        bool there = path && rv_file_exists(path);
        rv_free(&rv_heap, path);
        if (there) {
            return true;
        }
    }
    return false;
}

/* base/tail when demo models are there, into app->models_dir. */
static bool try_models_dir(rv_app *app, const char *base, const char *tail)
{
    char *folder = rv_path_join(app->mem, base, tail);
    if (folder && has_demo_model(folder)) {
        app->models_dir = folder;
        return true;
    }
    rv_free(app->mem, folder);
    return false;
}

static void find_models_dir(rv_app *app)
{
    static const char *const near_program[] = { "models", "../models", "../../models",
                                                "../share/ruvllm/models" };
    const char *named = getenv("RUVLLM_MODELS");
    if (named && *named) {
        app->models_dir = rv_strdup(app->mem, named);
        return;
    }
    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n > 0) {
        program[n] = 0;
        char *slash = strrchr(program, '/');
        if (slash) {
            *slash = 0;
        }
        for (size_t i = 0; slash && i < RV_COUNT(near_program); i++) {
            if (try_models_dir(app, program, near_program[i])) {
                return;
            }
        }
    }
    (void)try_models_dir(app, rv_config_data_dir(app->config),
                         "models"); /* none: every tier has to be configured */
}

/* folder/name or folder/name.gguf if it is a file; NULL otherwise. */
static char *model_in(const rv_alloc *mem, const char *folder, const char *name)
{
    static const char *const endings[] = { "", ".gguf" };
    for (size_t i = 0; folder && i < RV_COUNT(endings); i++) {
        rv_text path;
        rv_text_init(&path, mem, 1 << 16);
        rv_text_addf(&path, "%s/%s%s", folder, name, endings[i]);
        if (!path.failed && rv_file_exists(path.at)) {
            return rv_text_take(&path);
        }
        rv_text_deinit(&path);
    }
    return NULL;
}

/* The file a configured model stands for; a name that is no file stays as it is, it may be a tier. */
static rv_err model_file(rv_app *app, const char *key, char **out)
{
    const char *name = rv_config_string(app->config, key);
    if (strstr(name, "://")) {
        return rv_fail(RV_E_UNSUPPORTED,
                       "%s: %s is %s: this version reads model files only; download it and name the file",
                       rv_config_origin(app->config, key), key, name);
    }
    char *path = NULL;
    if (!strchr(name, '/')) {
        char *own = rv_path_join(app->mem, rv_config_data_dir(app->config), "models");
        path = model_in(app->mem, app->models_dir, name);
        path = path ? path : model_in(app->mem, own, name);
        path = path ? path : model_in(app->mem, ".", name);
        rv_free(app->mem, own);
    }
    path = path ? path : rv_strdup(app->mem, name);
    *out = path;
    return path ? RV_OK : rv_fail(RV_E_NOMEM, "opening the models");
}

static bool tier_in_use(const rv_config *c, int tier)
{
    size_t n = strlen(rv_tier_names[tier]);
    for (const char *at = rv_config_string(c, "inference.models"); *at;) {
        size_t len = strcspn(at, ",");
        if (len == n && memcmp(at, rv_tier_names[tier], n) == 0) {
            return true;
        }
        at += len + (at[len] == ',');
    }
    return false;
}

static rv_err find_tiers(rv_app *app, char *files[RV_TIERS])
{
    for (int t = 0; t < RV_TIERS; t++) {
        char key[32];
        snprintf(key, sizeof key, "tiers.%s", rv_tier_names[t]);
        if (!tier_in_use(app->config, t)) {
            continue;
        }
        if (rv_config_tier(app->config, t)) {
            RV_TRY(model_file(app, key, &files[t]));
        } else {
            files[t] = model_in(app->mem, app->models_dir, demo_names[t]);
        }
    }
    return RV_OK;
}

/* One pool of memory for adapters, router weights and all models. Without a size each model has one of its own, and this one only
 * counts. */
static rv_err open_pool(rv_app *app)
{
    size_t pool = (size_t)rv_config_int(app->config, "inference.pool_mb") << 20;
    return rv_budget_new(app->mem, pool ? pool : SIZE_MAX, &app->budget);
}

/* A folder for what the pool has no room for. It belongs to who has the database open, which one process at a time can. */
static rv_err open_kv(rv_app *app, rv_app_parts parts)
{
    const rv_config *c = app->config;
    uint64_t disk = (uint64_t)rv_config_int(c, "inference.kv_disk_mb") << 20;
    if (!disk || !(parts & RV_APP_MEMORY)) {
        return RV_OK;
    }
    char *dir = rv_path_join(app->mem, rv_config_data_dir(c), "kv");
    rv_err e =
        dir ? rv_shelf_open(app->mem, dir, disk, &app->shelf) : rv_fail(RV_E_NOMEM, "opening the models");
    rv_free(app->mem, dir);
    return e;
}

static rv_err open_backend(rv_app *app)
{
    const rv_config *c = app->config;
    char *files[RV_TIERS] = { NULL }, *chosen = NULL, *packed_dir = rv_config_packed_dir(c, app->mem);
    rv_err e = find_tiers(app, files);
    if (!e && rv_config_string(c, "inference.model")) {
        e = model_file(app, "inference.model", &chosen);
    }
    rv_type kv_type;
    if (!e && !rv_kv_type_named(rv_config_string(c, "inference.kv_type"), &kv_type)) {
        e = rv_fail(RV_E_CONFIG, "inference.kv_type: %s is no type",
                    rv_config_string(c, "inference.kv_type"));
    }
    if (!e) {
        rv_backend_options how = {
            .threads = (int)rv_config_int(c, "inference.threads"),
            .max_context = (uint32_t)rv_config_int(c, "inference.max_context"),
            .kv_type = kv_type,
            .budget = rv_config_int(c, "inference.pool_mb") ? app->budget : NULL,
            .shelf = app->shelf,
            .load_wait_ms = (double)rv_config_int(c, "inference.load_wait_ms"),
            .no_packing = strcmp(rv_config_string(c, "inference.packing"), "off") == 0,
            .packed_dir = packed_dir,
            .no_drafts = strcmp(rv_config_string(c, "inference.drafts"), "off") == 0,
            .draft_model = rv_config_string(c, "inference.draft_model"),
            .max_loaded = (size_t)rv_config_int(c, "inference.max_loaded_models"),
            .tiers = { files[0], files[1], files[2], files[3] },
            .default_model = chosen,
        };
        e = rv_backend_open(app->mem, &how, &app->pipeline.backend);
    }
    for (int t = 0; t < RV_TIERS; t++) {
        rv_free(app->mem, files[t]);
    }
    rv_free(app->mem, chosen);
    rv_free(app->mem, packed_dir);
    return e;
}

/* ---- embedder and memory ---- */

/* "static" is the file that came with the models; "auto" is that too where it is there, else the hash, which needs none. */
static rv_err open_embedder(rv_app *app)
{
    const char *name = rv_config_string(app->config, "embedding.model");
    bool automatic = strcmp(name, "auto") == 0;
    if (!automatic && strcmp(name, "static") != 0) {
        return rv_embed_open(app->mem, name, &app->pipeline.embed);
    }
    char *path = app->models_dir ? rv_path_join(app->mem, app->models_dir, "embedder.rvemb") : NULL;
    rv_err e;
    if (automatic && (!path || !rv_file_exists(path))) {
        e = rv_embed_open(app->mem, "hash", &app->pipeline.embed);
    } else if (!path) {
        e = rv_fail(RV_E_NOT_FOUND,
                    "embedding.model: static is embedder.rvemb in the models folder, and there is none");
    } else {
        e = rv_embed_open(app->mem, path, &app->pipeline.embed);
    }
    rv_free(app->mem, path);
    return e;
}

static rv_err embed_for_memory(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

/* 0: nobody set it, and the memory knows better. */
static size_t when_set(const rv_config *c, const char *key)
{
    return strcmp(rv_config_origin(c, key), "built-in") == 0 ? 0 : (size_t)rv_config_int(c, key);
}

static rv_err open_memory(rv_app *app, bool reembed)
{
    const char *dir = rv_config_data_dir(app->config);
    rv_pipeline *p = &app->pipeline;
    RV_TRY(rv_db_open(app->mem, dir, &p->db));
    rv_memory_embedder embedder = { rv_embed_name(p->embed), rv_embed_dim(p->embed), embed_for_memory,
                                    p->embed };
    RV_TRY(reembed ? rv_memory_forget_vectors(p->db) : RV_OK);
    RV_TRY(rv_memory_open(app->mem, p->db, dir, embedder, &p->memory));
    const rv_config *c = app->config;
    rv_memory_tuning tuning = { .index = rv_config_string(c, "memory.index"),
                                .recall = rv_config_float(c, "memory.recall"),
                                .index_from = (size_t)rv_config_int(c, "memory.index_from"),
                                .m = when_set(c, "memory.hnsw_m"),
                                .ef_build = when_set(c, "memory.hnsw_ef_construction"),
                                .ef = when_set(c, "memory.hnsw_ef_search") };
    RV_TRY(rv_memory_tune(p->memory, &tuning));
    rv_memory_set_habits(
        p->memory, &(rv_memory_habits){ .batch = (size_t)rv_config_int(c, "memory.writeback_batch_size"),
                                        .batch_ms = rv_config_int(c, "memory.writeback_interval_ms"),
                                        .half_life_days = rv_config_float(c, "memory.half_life_days") });
    return rv_adapters_open(app->mem, p->db, app->budget, &p->adapters);
}

/* ---- all of it ---- */

static rv_err setup_log(const rv_config *c)
{
    rv_log_level level;
    if (!rv_log_parse_level(rv_config_string(c, "system.log_level"), &level)) {
        return rv_fail(RV_E_CONFIG, "system.log_level: %s is no level",
                       rv_config_string(c, "system.log_level"));
    }
    rv_log_setup(level, strcmp(rv_config_string(c, "system.log_format"), "json") == 0);
    return RV_OK;
}

rv_err rv_app_open(const rv_alloc *mem, const rv_config *config, rv_app_parts parts, rv_app **out)
{
    rv_remote_judge remote;
    bool there;
    RV_TRY(setup_log(config));
    RV_TRY(rv_remote_judge_open(config, &remote, &there)); /* half of one is said now, not in an hour */
    rv_json_setup();
    rv_app *app = rv_new(mem, sizeof *app);
    if (!app) {
        return rv_fail(RV_E_NOMEM, "starting");
    }
    *app = (rv_app){ .mem = mem, .config = config };
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(
        &attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP); /* else requests keep who forgets waiting */
    pthread_rwlock_init(&app->quiet, &attr);
    pthread_rwlockattr_destroy(&attr);
    app->pipeline.quiet = &app->quiet;
    app->pipeline.max_sources = (size_t)rv_config_int(config, "attention.max_sources");
    app->pipeline.learning = rv_config_bool(config, "learning.enabled");
    app->pipeline.good_rating = (int)ceil(1 + 4 * rv_config_float(config, "learning.quality_threshold"));
    app->pipeline.feedback_per_day = rv_config_int(config, "learning.feedback_per_day");
    find_models_dir(app);

    rv_err e = open_pool(app);
    if (!e) {
        e = open_embedder(app);
    }
    if (!e && (parts & RV_APP_MEMORY)) {
        e = open_memory(app, parts & RV_APP_REEMBED);
    }
    if (!e && (parts & RV_APP_MODELS)) {
        e = open_kv(app, parts);
    }
    if (!e && (parts & RV_APP_MODELS)) {
        e = open_backend(app);
    }
    if (!e) {
        e = rv_pipeline_setup(&app->pipeline);
    }
    if (!e && app->pipeline.memory && app->pipeline.learning) {
        e = rv_instant_open(mem, app->pipeline.db, app->pipeline.embed, app->pipeline.memory,
                            &app->pipeline.instant);
    }
    if (!e && app->pipeline.instant) {
        e = rv_attention_open(mem, app->pipeline.db, app->pipeline.embed, app->pipeline.memory,
                              &app->pipeline.attention);
    }
    if (!e && app->pipeline.instant) {
        e = rv_bank_open(mem, app->pipeline.db, app->pipeline.embed, &app->pipeline.bank);
    }
    if (!e && app->pipeline.memory) {
        e = app_settle_edges(app);
    }
    if (!e) {
        e = app_open_router(app);
    }
    if (e) {
        rv_app_close(app);
        return e;
    }
    if (app->pipeline.memory) {
        app_open_forget(app);
    }
    *out = app;
    return RV_OK;
}

void rv_app_close(rv_app *app)
{
    if (!app) {
        return;
    }
    rv_adapters_close(app->pipeline.adapters);
    rv_router_box_free(app->pipeline.routers);
    rv_backend_close(app->pipeline.backend);
    rv_attention_close(app->pipeline.attention);
    rv_bank_close(app->pipeline.bank);
    rv_instant_close(app->pipeline.instant);
    rv_shelf_close(app->shelf);
    rv_budget_free(app->budget);
    rv_memory_close(app->pipeline.memory);
    rv_db_close(app->pipeline.db);
    rv_embed_close(app->pipeline.embed);
    pthread_rwlock_destroy(&app->quiet);
    rv_free(app->mem, app->models_dir);
    rv_free(app->mem, app);
}

rv_pipeline *rv_app_pipeline(rv_app *app)
{
    return &app->pipeline;
}
const char *rv_app_models_dir(const rv_app *app)
{
    return app->models_dir;
}
