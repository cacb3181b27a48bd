#include "app/routing.h"

#include "app/learning_priv.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 1 << 20 };

static rv_metric metrics[] = {
    { .kind = RV_GAUGE, .name = "ruvllm_router_version", .help = "Version of the router in use, 0: none." },
    { .kind = RV_COUNTER,
      .name = "ruvllm_router_rounds_total",
      .help = "Rounds of learning to route.",
      .labels = "result=\"accepted\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_router_rounds_total",
      .help = "Rounds of learning to route.",
      .labels = "result=\"refused\"" },
    { .kind = RV_COUNTER,
      .name = "ruvllm_router_damaged_total",
      .help = "Stored versions that could not be used." },
};
enum { VERSION, ACCEPTED, REFUSED, DAMAGED };

static void register_metrics(void)
{
    rv_metrics_register(metrics, RV_COUNT(metrics));
}

rv_err rv_app_domains(const rv_app *app, float *out)
{
    const rv_embed *embed = app->pipeline.embed;
    for (size_t d = 0; d < RV_SLOT_DOMAINS; d++) {
        const char *text = rv_domain_texts[d];
        RV_TRY(rv_embed_text(embed, text, strlen(text), out + d * rv_embed_dim(embed)));
    }
    return RV_OK;
}

/* ---- opening ---- */

static bool fits(const rv_app *app, const rv_router *router)
{
    const rv_embed *embed = app->pipeline.embed;
    return rv_router_dim(router) == 0 || (strcmp(rv_router_embedder(router), rv_embed_name(embed)) == 0 &&
                                          rv_router_dim(router) == rv_embed_dim(embed));
}

static rv_err use(rv_app *app, rv_router *router, int64_t version)
{
    if (router && !fits(app, router)) {
        rv_log(RV_LOG_WARN, "router.embedder", "learned_with", rv_router_embedder(router), "configured",
               rv_embed_name(app->pipeline.embed), "using", "no router", (char *)NULL);
        rv_router_free(router);
        router = NULL;
        version = 0;
    }
    rv_metric_set(&metrics[VERSION], version);
    return rv_router_publish(app->pipeline.routers, router, version);
}

static const rv_alloc *weights_mem(const rv_app *app)
{
    return rv_budget_mem(app->budget, RV_BUDGET_ROUTER);
}

static rv_err no_room(const rv_app *app)
{
    return rv_fail(
        RV_E_NOMEM,
        "router weights: the memory pool of %zu bytes has room for %zu more, which is too little; raise "
        "inference.pool_mb",
        rv_budget_bytes(app->budget), rv_budget_room(app->budget));
}

/* The version in use, or the nearest of its parents that can be read. */
static rv_err use_stored(rv_app *app)
{
    rv_arena *arena = NULL;
    rv_policy_info *list, now;
    size_t n = 0;
    RV_TRY(rv_arena_new(app->mem, ARENA_BYTES, &arena));
    rv_err e = rv_policy_current(app->pipeline.db, RV_ROUTING_POLICY, arena, &now);
    int64_t version = e ? 0 : now.version;
    if (e == RV_E_NOT_FOUND) {
        e = RV_OK;
    }
    e = e ? e : rv_policy_list(app->pipeline.db, RV_ROUTING_POLICY, 1000, arena, &list, &n);
    while (!e && version > 0) {
        uint8_t *bytes = NULL;
        size_t size = 0;
        rv_router *router = NULL;
        rv_err bad = rv_policy_read(app->pipeline.db, app->mem, RV_ROUTING_POLICY, version, &bytes, &size);
        bad = bad ? bad : rv_router_unpack(weights_mem(app), bytes, size, &router);
        rv_free(app->mem, bytes);
        if (!bad) {
            e = use(app, router, version);
            break;
        }
        if (bad == RV_E_NOMEM) {
            e = no_room(app);
            break;
        }
        rv_metric_add(&metrics[DAMAGED], 1);
        rv_log(RV_LOG_WARN, "router.damaged", "error", rv_err_text(), "using", "its parent", (char *)NULL);
        int64_t parent = 0;
        for (size_t i = 0; i < n; i++) {
            parent = list[i].version == version ? list[i].parent : parent;
        }
        version = parent < version ? parent : 0;
    }
    rv_arena_free(arena);
    return e;
}

rv_err app_open_router(rv_app *app)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const rv_config *c = app->config;
    const char *path = rv_config_string(c, "router.weights_path");
    pthread_once(&once, register_metrics);
    app->pipeline.confidence = rv_config_float(c, "router.confidence_threshold");
    app->pipeline.explore = rv_config_float(c, "router.explore");
    app->pipeline.cascade = rv_config_bool(c, "router.cascade");
    RV_TRY(rv_router_box_new(app->mem, &app->pipeline.routers));
    if (app->pipeline.db) {
        double share;
        int64_t ratings;
        RV_TRY(rv_routing_rated_share(app->pipeline.db, RV_ROUTER_WINDOW, &share));
        RV_TRY(rv_routing_rated(app->pipeline.db, &ratings));
        rv_router_set_rated(app->pipeline.routers, ratings, share);
    }
    if (path) {
        rv_router *router = NULL;
        rv_err e = rv_router_open(weights_mem(app), path, &router);
        RV_TRY(e == RV_E_NOMEM ? no_room(app) : e);
        return use(app, router, 0);
    }
    return app->pipeline.db ? use_stored(app) : RV_OK;
}

rv_err rv_app_read_router(const rv_app *app, rv_router **out)
{
    const char *path = rv_config_string(app->config, "router.weights_path");
    if (path) {
        return rv_router_open(app->mem, path, out);
    }
    rv_router_held *held = rv_router_take(app->pipeline.routers);
    int64_t version = held ? rv_router_held_version(held) : 0;
    rv_router_put(app->pipeline.routers, held);
    if (version == 0) {
        return rv_fail(
            RV_E_NOT_FOUND,
            "no router is in use yet: it learns from rated requests (ruvllm router learn), or name "
            "weights with --weights");
    }
    uint8_t *bytes = NULL;
    size_t n = 0;
    RV_TRY(rv_policy_read(app->pipeline.db, app->mem, RV_ROUTING_POLICY, version, &bytes, &n));
    rv_err e = rv_router_unpack(app->mem, bytes, n, out);
    rv_free(app->mem, bytes);
    return e;
}

/* ---- learning ---- */

/* The tiers there are, smallest first; a token costs what has to be read for it. */
static size_t find_tiers(rv_app *app, const char *ids[RV_TIERS], float costs[RV_TIERS], size_t *usual)
{
    rv_backend_model models[RV_TIERS + 1];
    size_t n = 0, all = rv_backend_models(app->pipeline.backend, models, RV_COUNT(models));
    for (int tier = 0; tier < RV_TIERS; tier++) {
        for (size_t m = 0; m < all && m < RV_COUNT(models); m++) {
            if (models[m].tier == tier) {
                *usual = models[m].is_default ? n : *usual;
                ids[n] = models[m].id;
                costs[n++] = (float)models[m].file_bytes;
            }
        }
    }
    return n;
}

static rv_err learn(rv_app *app, const rv_gate *gate, rv_routing_done *done)
{
    rv_pipeline *p = &app->pipeline;
    const char *ids[RV_TIERS];
    float costs[RV_TIERS];
    rv_routing_job job = { .db = p->db, .embed = p->embed, .tiers = ids, .costs = costs, .gate = gate };
    job.n_tiers = find_tiers(app, ids, costs, &job.usual);
    job.capacity = (size_t)rv_config_int(app->config, "learning.replay_capacity");
    job.threshold = p->confidence;
    job.cascade = p->cascade;
    job.cost_share = rv_config_float(app->config, "router.cost_share");
    if (job.n_tiers < 2) {
        return rv_fail(RV_E_UNSUPPORTED, "learning to route needs two tiers at least, there are %zu",
                       job.n_tiers);
    }
    float *domains = rv_new_array(app->mem, RV_SLOT_DOMAINS * rv_embed_dim(p->embed), sizeof *domains);
    if (!domains) {
        return rv_fail(RV_E_NOMEM, "learning to route");
    }
    job.domains = domains;
    rv_router *fresh = NULL;
    rv_router_held *held = rv_router_take(p->routers);
    job.now = held ? rv_router_held_get(held) : NULL;
    job.now_version = held ? rv_router_held_version(held) : 0;
    rv_err e = rv_app_domains(app, domains);
    e = e ? e : rv_routing_learn(&job, done, &fresh);
    rv_router_put(p->routers, held);
    rv_free(app->mem, domains);
    if (!e) {
        rv_metric_add(&metrics[fresh ? ACCEPTED : REFUSED], 1);
        rv_log(RV_LOG_INFO, "router.learned", "result", done->why, (char *)NULL);
    }
    bool learned = !e && fresh;
    rv_router_free(fresh);
    return learned ? use_stored(app) : e; /* as it would be read at the next start, in the memory pool */
}

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static rv_err router_round(learning *l, const rv_gate *gate, void *out)
{
    return learn(l->app, gate, out);
}

rv_err app_learn_router(learning *l, double until_ms, rv_routing_done *done)
{
    pthread_mutex_lock(&one_at_a_time);
    rv_err e = app_learn_round(l, until_ms, router_round, done);
    pthread_mutex_unlock(&one_at_a_time);
    return e;
}

rv_err rv_app_learn_router(rv_app *app, rv_routing_done *done)
{
    learning l = { .app = app };
    return app_learn_router(&l, INFINITY, done);
}

rv_err rv_app_reload_router(rv_app *app)
{
    if (rv_config_string(app->config, "router.weights_path")) {
        return RV_OK; /* a file, not learned here */
    }
    RV_TRY(use(app, NULL, 0));
    return use_stored(app);
}

rv_err rv_app_rollback_router(rv_app *app, const char *why, int64_t *version)
{
    sqlite3 *conn;
    RV_TRY(rv_db_begin(app->pipeline.db, &conn));
    rv_err e = rv_policy_rollback(conn, RV_ROUTING_POLICY, why, version);
    if (e) {
        rv_db_rollback(app->pipeline.db);
        return e;
    }
    RV_TRY(rv_db_commit(app->pipeline.db));
    return rv_app_reload_router(app);
}

/* ---- the learner's thread ---- */

typedef struct learner {
    rv_app *app;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop; /* under lock */
} learner;

/* False: time to stop. */
static bool wait_a_while(learner *l, int64_t ms)
{
    double until = rv_clock_ms() + (double)ms;
    pthread_mutex_lock(&l->lock);
    for (double left; !l->stop && (left = until - rv_clock_ms()) > 0;) {
        rv_cond_wait_ms(&l->wake, &l->lock, left);
    }
    bool go_on = !l->stop;
    pthread_mutex_unlock(&l->lock);
    return go_on;
}

static bool not_stopped(void *self)
{
    learner *l = self;
    pthread_mutex_lock(&l->lock);
    bool go_on = !l->stop;
    pthread_mutex_unlock(&l->lock);
    return go_on;
}

static void learn_in_background(learner *l)
{
    rv_loop_done done;
    rv_err e = rv_app_learn(l->app, false, not_stopped, l, &done);
    if (e && e != RV_E_CANCELLED) {
        rv_log(RV_LOG_WARN, "learn.loop", "error", rv_err_text(), (char *)NULL);
    }
}

static void *run_learner(void *self)
{
    learner *l = self;
    const rv_config *c = l->app->config;
    int64_t interval = rv_config_int(c, "learning.training_interval_ms"),
            least = rv_config_int(c, "learning.min_samples");
    int64_t learned = 0, rated = 0, background = rv_config_int(c, "sona.background_interval_ms");
    double looped_ms = rv_clock_ms();
    while (wait_a_while(l, interval < background ? interval : background)) {
        rv_routing_done done;
        if (rv_clock_ms() - looped_ms >= (double)background) {
            learn_in_background(l);
            looped_ms = rv_clock_ms();
        }
        if (rv_routing_rated(l->app->pipeline.db, &rated) ||
            rated - learned < (least > learned / 5 ? least : learned / 5)) {
            continue;
        }
        learned = rated;
        rv_err e = rv_app_learn_router(l->app, &done);
        if (e) {
            rv_log(e == RV_E_ARG || e == RV_E_UNSUPPORTED ? RV_LOG_INFO : RV_LOG_WARN, "router.not_learned",
                   "error", rv_err_text(), (char *)NULL);
        }
    }
    return NULL;
}

rv_err rv_app_start_learner(rv_app *app)
{
    if (!app->pipeline.learning || !app->pipeline.db) {
        return RV_OK;
    }
    learner *l = rv_new(app->mem, sizeof *l);
    if (!l) {
        return rv_fail(RV_E_NOMEM, "starting the learner");
    }
    *l = (learner){ .app = app };
    pthread_mutex_init(&l->lock, NULL);
    rv_cond_init(&l->wake);
    if (pthread_create(&l->thread, NULL, run_learner, l)) {
        pthread_cond_destroy(&l->wake);
        pthread_mutex_destroy(&l->lock);
        rv_free(app->mem, l);
        return rv_fail(RV_E_NOMEM, "starting the learner");
    }
    app->learner = l;
    return RV_OK;
}

void rv_app_stop_learner(rv_app *app)
{
    learner *l = app->learner;
    if (!l) {
        return;
    }
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    rv_free(app->mem, l);
    app->learner = NULL;
}
