#include "app/learning.h"

#include "app/app_priv.h"
#include "app/routing.h"
#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { JUDGE_MOST = 200, USERS_MAX = 16, NAME_BYTES = 512, ARENA_BYTES = 1 << 20 };
#define BACKGROUND_SECONDS 10.0
#define DEEP_SECONDS       600.0

typedef struct learning {
    rv_app *app;
    bool (*go_on)(void *self);
    void *self;
} learning;

static void say(rv_loop_report *out, const char *why)
{
    snprintf(out->why, sizeof out->why, "%s", why);
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

/* The largest tier says what it thinks of answers that nobody rated. */
static rv_err judge_stage(void *self, double until_ms, rv_loop_report *out)
{
    const rv_app *app = ((learning *)self)->app;
    const rv_pipeline *p = &app->pipeline;
    const char *ids[RV_TIERS + 1];
    rv_engine *engine = NULL;
    size_t n = models_of(app, ids, NULL), filled = 0;
    double trust = 0;
    if (n == 0) {
        say(out, "nothing to do: there is no model to judge with");
        return RV_OK;
    }
    rv_pipeline_enter(p);
    rv_err e = rv_backend_take(p->backend, ids[n - 1], &engine);
    if (!e) {
        rv_judge judge = rv_judge_model(engine, rv_pipeline_prompt);
        e = rv_judge_trust(p->db, &judge, &trust);
        e = e ? e : rv_judge_fill(p->db, p->memory, &judge, trust, until_ms, JUDGE_MOST, &filled);
        rv_backend_put(p->backend, engine);
    }
    rv_pipeline_leave(p);
    out->changed = (int64_t)filled;
    out->accepted = filled > 0;
    snprintf(out->why, sizeof out->why, "%zu answers that nobody rated were judged by %s, with weight %.1f%s",
             filled, ids[n - 1], trust,
             trust > RV_JUDGE_PRIOR ? "" : ": it was not shown to be right often enough (ruvllm eval judge)");
    return e;
}

static rv_err router_stage(void *self, double until_ms, rv_loop_report *out)
{
    rv_routing_done done;
    (void)until_ms; /* a round is one piece of work */
    rv_err e = rv_app_learn_router(((learning *)self)->app, &done);
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
        say(out, done.why);
    }
    return e;
}

static rv_err attention_stage(void *self, double until_ms, rv_loop_report *out)
{
    const rv_pipeline *p = &((learning *)self)->app->pipeline;
    rv_attention_learned done;
    (void)until_ms;
    if (!p->attention) {
        say(out, "nothing to do: learning is off");
        return RV_OK;
    }
    rv_pipeline_enter(p);
    rv_err e = rv_attention_learn(p->attention, 1, &done);
    rv_pipeline_leave(p);
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

typedef struct pupil {
    char model[NAME_BYTES], user[NAME_BYTES];
    int64_t newest_ms; /* correction */
} pupil;

/* Whose corrections there are of which model, the newest first. */
static rv_err read_pupils(rv_db *db, pupil *out, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    *n = 0;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(conn, &s,
                             "SELECT e.model, e.user, max(f.created_ms) FROM feedback f JOIN episode e ON "
                             "e.request_id = f.request_id"
                             " WHERE f.kind = 'correction' GROUP BY e.model, e.user ORDER BY 3 DESC LIMIT ?1",
                             "i", (int64_t)USERS_MAX);
    while (!e && *n < USERS_MAX && !(e = rv_db_step(s, &row)) && row) {
        pupil *one = &out[(*n)++];
        snprintf(one->model, sizeof one->model, "%s", (const char *)sqlite3_column_text(s, 0));
        snprintf(one->user, sizeof one->user, "%s", (const char *)sqlite3_column_text(s, 1));
        one->newest_ms = sqlite3_column_int64(s, 2);
    }
    sqlite3_finalize(s);
    rv_db_reader_done(db, conn);
    return e;
}

static bool on_step(void *self, size_t step, size_t steps, double loss)
{
    const learning *l = self;
    (void)step, (void)steps, (void)loss;
    return !l->go_on || l->go_on(l->self);
}

/* *newer: there are corrections since the version in use was made. */
static rv_err has_news(const rv_pipeline *p, const rv_engine *engine, const pupil *who, bool *newer)
{
    rv_adapter_version version;
    rv_arena *arena;
    int64_t id = rv_adapters_in_use(p->adapters, rv_engine_get_info(engine)->fingerprint, who->user);
    *newer = true;
    if (!id) {
        return RV_OK;
    }
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &arena));
    rv_err e = rv_adapters_get(p->adapters, id, arena, &version);
    if (!e) {
        *newer = who->newest_ms > version.created_ms;
    }
    rv_arena_free(arena);
    return e == RV_E_NOT_FOUND ? RV_OK : e;
}

static rv_err teach(learning *l, const pupil *who, double until_ms, rv_loop_report *out)
{
    const rv_pipeline *p = &l->app->pipeline;
    rv_engine *engine = NULL;
    rv_adapter_learned done = { 0 };
    bool newer = false;
    const char *id;
    if (rv_backend_resolve(p->backend, who->model, &id)) {
        return RV_OK; /* a model that is no more, or memory answered */
    }
    rv_pipeline_enter(p);
    rv_err e = rv_backend_take(p->backend, id, &engine);
    e = e ? e : has_news(p, engine, who, &newer);
    if (!e && newer) {
        rv_adapter_learning how = { .db = p->db,
                                    .memory = p->memory,
                                    .adapters = p->adapters,
                                    .engine = engine,
                                    .prompt = rv_pipeline_prompt,
                                    .embed = p->embed,
                                    .user = who->user,
                                    .rank = 16,
                                    .max_steps = 1 << 20,
                                    .max_seconds = (until_ms - rv_clock_ms()) / 1000,
                                    .seed = 1,
                                    .on_step = on_step,
                                    .self = l };
        e = rv_adapter_learn(&how, &done);
    }
    if (engine) {
        rv_backend_put(p->backend, engine);
    }
    rv_pipeline_leave(p);
    if (!e && done.why) {
        out->accepted |= done.version > 0;
        out->changed += done.version > 0;
        out->measure = "loss";
        out->before = done.before;
        out->after = done.after;
        say(out, done.why);
    }
    return e;
}

static rv_err adapters_stage(void *self, double until_ms, rv_loop_report *out)
{
    learning *l = self;
    size_t n = 0;
    if (!rv_config_bool(l->app->config, "learning.adapters")) {
        say(out, "off (learning.adapters): memory answers corrected questions");
        return RV_OK;
    }
    pupil *pupils = rv_new_array(&rv_heap, USERS_MAX, sizeof *pupils);
    rv_err e =
        pupils ? read_pupils(l->app->pipeline.db, pupils, &n) : rv_fail(RV_E_NOMEM, "learning adapters");
    say(out, "nothing to do: no corrections since the last time");
    for (size_t i = 0; !e && i < n && rv_clock_ms() + 500 < until_ms; i++) {
        e = teach(l, &pupils[i], until_ms, out);
    }
    rv_free(&rv_heap, pupils);
    return e;
}

static rv_err patterns_stage(void *self, double until_ms, rv_loop_report *out)
{
    const rv_app *app = ((learning *)self)->app;
    const rv_pipeline *p = &app->pipeline;
    const char *ids[RV_TIERS + 1];
    rv_bank_learned done;
    (void)until_ms; /* bounded by the 10,000 answers it looks at */
    size_t n = models_of(app, ids, NULL);
    if (!p->bank) {
        say(out, "nothing to do: learning is off");
        return RV_OK;
    }
    rv_pipeline_enter(p);
    rv_err e = rv_bank_learn(p->bank, ids, n, 1, &done);
    rv_pipeline_leave(p);
    if (!e) {
        *out = (rv_loop_report){ .accepted = done.accepted,
                                 .changed = (int64_t)done.patterns,
                                 .measure = done.held ? "squared error" : NULL,
                                 .before = done.before,
                                 .after = done.after };
        say(out, done.why);
    }
    return e;
}

static const rv_loop_stage background[] = {
    { "judge", 2, judge_stage },       { "router", 4, router_stage },     { "attention", 2, attention_stage },
    { "adapters", 4, adapters_stage }, { "patterns", 2, patterns_stage },
};

/* ---- deep ---- */

/* Cleans the files of what was removed; what is not there any more needs no room. */
static rv_err compact_stage(void *self, double until_ms, rv_loop_report *out)
{
    const rv_pipeline *p = &((learning *)self)->app->pipeline;
    size_t erased = 0;
    (void)until_ms;
    rv_err e = rv_memory_scrub(p->memory, &erased);
    e = e ? e : rv_db_scrub(p->db);
    out->changed = (int64_t)erased;
    snprintf(out->why, sizeof out->why, "%zu vectors of removed memories erased, the database written anew",
             erased);
    return e;
}

static const rv_loop_stage deep_stages[] = {
    { "adapters", 300, adapters_stage }, /* from all corrections, as long as they need */
    { "compact", 60, compact_stage },
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
    learning l = { app, go_on, self };
    rv_loop loop = { .name = deep ? "deep" : "background",
                     .stages = deep ? deep_stages : background,
                     .n = deep ? RV_COUNT(deep_stages) : RV_COUNT(background),
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
