/* What is there and how it does: /health and /v1/models. */
#include "api/api_priv.h"
#include "base/clock.h"
#include "learn/routing.h"

#include <string.h>

enum { MODELS_MAX = 256 };

static json_t *component(const char *status, double from_ms, json_t *details)
{
    return json_pack("{s:s, s:f, s:o*}", "status", status, "latency_ms", rv_clock_ms() - from_ms, "details",
                     details);
}

static bool database_works(rv_db *db)
{
    sqlite3 *reader = NULL;
    if (rv_db_reader(db, &reader) != RV_OK) {
        return false;
    }
    bool works = sqlite3_exec(reader, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL) == SQLITE_OK;
    rv_db_reader_done(db, reader);
    return works;
}

static json_t *memory_health(rv_memory *memory, bool *ok)
{
    double from = rv_clock_ms();
    rv_memory_stats s;
    if (!memory || rv_memory_get_stats(memory, &s) != RV_OK) {
        *ok = false;
        return component(memory ? "error" : "absent", from, json_object());
    }
    return component("ok", from,
                     json_pack("{s:I, s:I, s:I, s:I, s:s, s:I}", "nodes", (json_int_t)s.nodes, "edges",
                               (json_int_t)s.edges, "documents", (json_int_t)s.documents, "vectors",
                               (json_int_t)s.vectors, "embedder", s.embedder, "dim", (json_int_t)s.dim));
}

static json_t *models_health(rv_backend *backend)
{
    double from = rv_clock_ms();
    rv_backend_model models[MODELS_MAX];
    size_t n = backend ? rv_backend_models(backend, models, MODELS_MAX) : 0, loaded = 0;
    for (size_t i = 0; i < n && i < MODELS_MAX; i++) {
        loaded += models[i].loaded;
    }
    return component(n ? "ok" : "absent", from,
                     json_pack("{s:I, s:I}", "models", (json_int_t)n, "loaded", (json_int_t)loaded));
}

/* A server without a model still remembers and searches: that is 200 with "degraded". Without its store it is of no use. */
void rv_api_health(rv_api_call *call)
{
    const rv_pipeline *p = call->pipeline;
    double from = rv_clock_ms();
    bool ok = p->db && database_works(p->db);
    json_t *database = component(ok ? "ok" : p->db ? "error" : "absent", from, json_object());
    json_t *memory = memory_health(p->memory, &ok);
    json_t *models = models_health(p->backend);
    bool has_model = json_is_string(json_object_get(models, "status")) &&
                     strcmp(json_string_value(json_object_get(models, "status")), "ok") == 0;
    rv_api_send(call, ok ? 200 : 503,
                json_pack("{s:s, s:s, s:{s:o, s:o, s:o}}", "status",
                          !ok         ? "error"
                          : has_model ? "ok"
                                      : "degraded",
                          "version", rv_api_version(call->api), "components", "database", database, "memory",
                          memory, "models", models));
}

/* ---- models ---- */

bool rv_api_has_model(rv_api_call *call)
{
    rv_backend *backend = call->pipeline->backend;
    rv_backend_model one;
    const char *id;
    if (backend && rv_backend_models(backend, &one, 1) > 0) {
        return true;
    }
    bool told = backend && rv_backend_resolve(backend, NULL, &id) != RV_OK;
    rv_api_refuse(call, 503, NULL, "no_model", "%s", told ? rv_err_text() : "this server has no model");
    return false;
}

/* The name is repeated when it could be one, so that what a message shows was not written by a stranger. */
void rv_api_no_model(rv_api_call *call, const char *name)
{
    size_t n = name ? strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-") : 0;
    bool show = n > 0 && n <= 60 && name[n] == 0;
    rv_api_refuse(call, 404, "model", "model_not_found",
                  "no model is named %s%s%s; GET /v1/models lists them", show ? "\"" : "", show ? name : "so",
                  show ? "\"" : "");
}

/* OpenAI's four fields, and ours in an object of our own. */
static json_t *model_json(const char *id, int64_t created, json_t *ours)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", id, "object", "model", "created", (json_int_t)created,
                     "owned_by", "ruvllm", "ruvllm", ours);
}

static json_t *generator_json(const rv_backend_model *m)
{
    json_t *ours = json_pack("{s:s, s:b, s:I}", "kind", "generate", "loaded", (int)m->loaded, "file_bytes",
                             (json_int_t)m->file_bytes);
    if (m->loading) {
        json_object_set_new(ours, "loading", json_true());
    }
    if (m->loaded) {
        json_object_set_new(ours, "resident_bytes", json_integer((json_int_t)m->resident_bytes));
        json_object_set_new(ours, "requests", json_integer((json_int_t)m->held));
        json_object_set_new(ours, "idle_seconds", json_real(m->idle_ms / 1e3));
    }
    if (m->n_ctx) {
        json_object_set_new(ours, "n_ctx", json_integer(m->n_ctx));
    }
    if (m->tier >= 0) {
        json_object_set_new(ours, "tier", json_string(rv_tier_names[m->tier]));
    }
    return model_json(m->id, m->created, ours);
}

/* Everything that "model" may name: the loop, the generators, the embedder. */
static json_t *all_models(const rv_pipeline *p)
{
    json_t *list = json_array();
    rv_backend_model models[MODELS_MAX];
    size_t n = p->backend ? rv_backend_models(p->backend, models, MODELS_MAX) : 0;
    if (n > 0) {
        json_array_append_new(list, model_json("auto", 0, json_pack("{s:s}", "kind", "loop")));
    }
    for (size_t i = 0; i < n && i < MODELS_MAX; i++) {
        json_array_append_new(list, generator_json(&models[i]));
    }
    if (p->embed) {
        json_array_append_new(list, model_json(rv_embed_name(p->embed), 0,
                                               json_pack("{s:s, s:I}", "kind", "embed", "dim",
                                                         (json_int_t)rv_embed_dim(p->embed))));
    }
    return list;
}

void rv_api_models(rv_api_call *call)
{
    rv_api_send(call, 200, json_pack("{s:s, s:o}", "object", "list", "data", all_models(call->pipeline)));
}

void rv_api_model(rv_api_call *call)
{
    json_t *list = all_models(call->pipeline), *m;
    size_t i;
    json_array_foreach(list, i, m)
    {
        if (strcmp(json_string_value(json_object_get(m, "id")), call->id) == 0) {
            rv_api_send(call, 200, json_incref(m));
            json_decref(list);
            return;
        }
    }
    json_decref(list);
    rv_api_no_model(call, call->id);
}

void rv_api_decisions(rv_api_call *call)
{
    enum { USUAL = 50, MOST = 1000 };
    static const char *const names[] = { "limit" };
    int64_t limit = USUAL;
    json_t *list = NULL;
    if (!call->pipeline->db) {
        rv_api_refuse(call, 503, NULL, NULL, "this server has no memory open");
        return;
    }
    rv_err e = rv_api_query_only(call, names, RV_COUNT(names));
    e = e ? e : rv_api_query_int(call, "limit", 1, MOST, &limit);
    e = e ? e : rv_routing_decisions(call->pipeline->db, (size_t)limit, &list);
    if (e) {
        rv_api_fail(call, e);
        return;
    }
    rv_api_send(call, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
}
