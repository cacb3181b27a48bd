#include "app/learning_priv.h"

#include "app/judge.h"
#include "app/routing.h"
#include "base/clock.h"
#include "base/log.h"
#include "learn/overlay.h"
#include "learn/sides.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { JUDGE_MOST = 200 };
#define BACKGROUND_SECONDS 10.0
#define DEEP_SECONDS       600.0

void app_say(rv_loop_report *out, const char *why)
{
    snprintf(out->why, sizeof out->why, "%s", why);
}

bool app_learning_goes_on(void *self)
{
    learning *l = self;
    l->yields = atomic_load(&l->app->forgetting) > 0;
    l->ended = l->ended || (l->go_on && !l->go_on(l->self));
    return !l->yields && !l->ended;
}

static void leave(void *self)
{
    rv_pipeline_leave(&((learning *)self)->app->pipeline);
}

static bool enter(void *self)
{
    learning *l = self;
    rv_pipeline_enter(&l->app->pipeline);
    l->yields = l->yields || atomic_load(&l->app->forgotten) != l->forgotten;
    return !l->yields;
}

rv_err app_learn_round(learning *l, double until_ms,
                       rv_err (*round)(learning *l, const rv_gate *gate, void *out), void *out)
{
    const rv_gate gate = { app_learning_goes_on, leave, enter, l };
    const rv_pipeline *p = &l->app->pipeline;
    rv_err e;
    do {
        l->yields = false;
        rv_pipeline_enter(p); /* behind who waits to forget */
        l->forgotten = atomic_load(&l->app->forgotten);
        e = round(l, &gate, out);
        rv_pipeline_leave(p);
    } while (e == RV_E_CANCELLED && l->yields && !l->ended && rv_clock_ms() < until_ms);
    return e;
}

/* Somebody forgot, and then the time was up: no failure, and no reason to run the stage again. */
static bool gave_way(const learning *l, rv_err e, rv_loop_report *out)
{
    bool so = e == RV_E_CANCELLED && l->yields && !l->ended;
    if (so) {
        app_say(out, "what was forgotten took all the time: the next run learns");
    }
    return so;
}

/* Of the tiers there are, cheapest first. */
static size_t models_of(const rv_app *app, const char *ids[RV_TIERS + 1], const char **usual)
{
    rv_backend_model models[RV_TIERS + 1];
    size_t n = 0, all = rv_backend_models(app->pipeline.backend, models, RV_COUNT(models));
    for (size_t m = 0; m < all && m < RV_COUNT(models); m++) {
        ids[n++] = models[m].id;
        if (models[m].is_default && usual) {
            *usual = models[m].id;
        }
    }
    return n;
}

/* ---- background ---- */

static rv_err fill_in(const rv_pipeline *p, const rv_judge *judge, const char *name, double until_ms,
                      rv_loop_report *out)
{
    size_t filled = 0;
    double trust = 0;
    RV_TRY(rv_judge_trust(p->db, judge, &trust));
    rv_err e = rv_judge_fill(p->db, p->memory, judge, trust, until_ms, JUDGE_MOST, &filled);
    out->changed = (int64_t)filled;
    out->accepted =
        filled > 0 && trust > RV_JUDGE_PRIOR; /* else its word is kept for when more is known of it */
    snprintf(out->why, sizeof out->why,
             "%zu answers that nobody rated were judged by %.60s, whose word weighs %.1f of a rating%s",
             filled, name, trust,
             trust > RV_JUDGE_PRIOR
                 ? ""
                 : ", no more than knowing nothing, until `ruvllm eval judge` shows that it is "
                   "right often enough");
    return e;
}

/* One that is somewhere else. Who waits to forget, or ends the program, does not wait for its answer: the next run goes on. */
static rv_err judge_there(learning *l, rv_remote_judge *remote, double until_ms, rv_loop_report *out)
{
    const rv_pipeline *p = &l->app->pipeline;
    remote->go_on = app_learning_goes_on;
    remote->self = l;
    rv_judge judge = rv_remote_judge_as(remote);
    rv_pipeline_enter(p);
    rv_err e = fill_in(p, &judge, remote->model, until_ms, out);
    rv_pipeline_leave(p);
    return e == RV_E_CANCELLED && !l->ended ? RV_OK : e;
}

static rv_err judge_here(learning *l, double until_ms, rv_loop_report *out)
{
    const rv_pipeline *p = &l->app->pipeline;
    const char *ids[RV_TIERS + 1];
    rv_engine *engine = NULL;
    size_t n = models_of(l->app, ids, NULL);
    if (n == 0) {
        app_say(out, "nothing to do: there is no model to judge with");
        return RV_OK;
    }
    rv_pipeline_enter(p);
    rv_err e = rv_backend_take(p->backend, ids[n - 1], &engine);
    if (!e) {
        rv_judge judge = rv_judge_model(engine, rv_pipeline_prompt);
        e = fill_in(p, &judge, ids[n - 1], until_ms, out);
        rv_backend_put(p->backend, engine);
    }
    rv_pipeline_leave(p);
    return e;
}

/* The largest tier, or the judge that was named, says what it thinks of answers that nobody rated. */
static rv_err judge_stage(void *self, double until_ms, rv_loop_report *out)
{
    learning *l = self;
    rv_remote_judge remote;
    bool there = false;
    RV_TRY(rv_remote_judge_open(l->app->config, &remote, &there));
    return there ? judge_there(l, &remote, until_ms, out) : judge_here(l, until_ms, out);
}

static rv_err router_stage(void *self, double until_ms, rv_loop_report *out)
{
    learning *l = self;
    rv_routing_done done;
    rv_err e = app_learn_router(l, until_ms, &done);
    if (gave_way(l, e, out)) {
        return RV_OK;
    }
    if (e == RV_E_ARG || e == RV_E_UNSUPPORTED) { /* not enough to learn from, or nothing to choose between */
        snprintf(out->why, sizeof out->why, "nothing to do: %.150s", rv_err_text());
        return RV_OK;
    }
    if (!e) {
        *out = (rv_loop_report){ .accepted = done.accepted,
                                 .changed = done.version,
                                 .measure = "utility",
                                 .before = done.before,
                                 .after = done.after };
        app_say(out, done.why);
    }
    return e;
}

static rv_err attention_round(learning *l, const rv_gate *gate, void *out)
{
    const rv_pipeline *p = &l->app->pipeline;
    return rv_attention_learn(p->attention, p->good_rating, 1, gate, out);
}

static rv_err attention_stage(void *self, double until_ms, rv_loop_report *out)
{
    learning *l = self;
    rv_attention_learned done;
    if (!l->app->pipeline.attention) {
        app_say(out, "nothing to do: learning is off");
        return RV_OK;
    }
    rv_err e = app_learn_round(l, until_ms, attention_round, &done);
    if (gave_way(l, e, out)) {
        return RV_OK;
    }
    if (!e) {
        *out = (rv_loop_report){ .accepted = done.version > 0,
                                 .changed = done.version,
                                 .measure = done.after > 0 ? "nDCG@10" : NULL,
                                 .before = done.before,
                                 .after = done.after };
        snprintf(out->why, sizeof out->why, "%s%s", done.version ? "used: " : "", done.why);
    }
    return e;
}

static rv_err patterns_round(learning *l, const rv_gate *gate, void *out)
{
    const char *ids[RV_TIERS + 1];
    size_t n = models_of(l->app, ids, NULL);
    return rv_bank_learn(l->app->pipeline.bank, ids, n, 1, gate, out);
}

static rv_err patterns_stage(void *self, double until_ms, rv_loop_report *out)
{
    learning *l = self;
    rv_bank_learned done;
    if (!l->app->pipeline.bank) {
        app_say(out, "nothing to do: learning is off");
        return RV_OK;
    }
    rv_err e = app_learn_round(l, until_ms, patterns_round, &done);
    if (gave_way(l, e, out)) {
        return RV_OK;
    }
    if (!e) {
        *out = (rv_loop_report){ .accepted = done.accepted,
                                 .changed = (int64_t)done.patterns,
                                 .measure = done.version ? "squared error" : NULL,
                                 .before = done.before,
                                 .after = done.after };
        app_say(out, done.why);
    }
    return e;
}

static const rv_loop_stage background[] = {
    { "judge", 2, judge_stage },         { "router", 4, router_stage },
    { "attention", 2, attention_stage }, { "adapters", 4, app_adapters_stage },
    { "patterns", 2, patterns_stage },
};

/* ---- running ---- */

static bool loop_goes_on(void *self)
{
    const learning *l = self;
    return !l->go_on || l->go_on(l->self);
}

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

rv_err rv_app_learn(rv_app *app, bool deep, bool (*go_on)(void *self), void *self, rv_loop_done *out)
{
    learning l = { .app = app, .go_on = go_on, .self = self, .deep = deep };
    rv_loop loop = { .name = deep ? "deep" : "background",
                     .stages = deep ? app_deep_stages : background,
                     .n = deep ? app_n_deep_stages : RV_COUNT(background),
                     .seconds = deep ? DEEP_SECONDS : BACKGROUND_SECONDS,
                     .self = &l,
                     .go_on = loop_goes_on };
    if (!app->pipeline.learning || !app->pipeline.memory || !app->pipeline.backend) {
        return rv_fail(RV_E_CONFIG, "learning.enabled is false: nothing is learned");
    }
    pthread_mutex_lock(&one_at_a_time);
    rv_err e = rv_loop_run(app->pipeline.db, &loop, out);
    pthread_mutex_unlock(&one_at_a_time);
    if (!e) {
        rv_log(RV_LOG_INFO, "learn.loop", "loop", loop.name, "state", out->unfinished ? "unfinished" : "done",
               (char *)NULL);
    }
    return e;
}

/* ---- versions ---- */

rv_err app_settle_edges(rv_app *app)
{
    for (rv_overlay_kind kind = 0; kind < RV_OVERLAYS; kind++) {
        int64_t version;
        RV_TRY(rv_overlay_settle(app->pipeline.db, app->pipeline.memory, kind, &version));
    }
    int64_t version;
    return rv_sides_settle(app->pipeline.db, app->pipeline.memory, &version);
}

rv_err rv_app_rollback(rv_app *app, const char *kind, const char *why, int64_t *version)
{
    rv_db *db = app->pipeline.db;
    sqlite3 *conn;
    if (strcmp(kind, RV_ROUTING_POLICY) == 0) {
        return rv_app_rollback_router(app, why, version);
    }
    RV_TRY(rv_db_begin(db, &conn));
    rv_err e = rv_policy_rollback(conn, kind, why, version);
    if (e) {
        rv_db_rollback(db);
        return e;
    }
    RV_TRY(rv_db_commit(db));
    return app_settle_edges(app);
}
