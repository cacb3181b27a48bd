/* Rounds of learning adapters, in the background and in the deep loop. The deep one has minutes, holds what earlier rounds learned, and goes on
 * where a crash ended it. A round works within the pipeline; when somebody waits to forget it stops after its step, leaves, and begins again. */
#include "app/learning_priv.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"

#include <stdio.h>
#include <string.h>

enum { PUPILS = 16 /* looked at together */, NAME_BYTES = 512, ARENA_BYTES = 1 << 20, ROUND_LEAST_MS = 500 };

typedef struct pupil {
    char model[NAME_BYTES], user[NAME_BYTES];
    int64_t newest_ms; /* correction */
} pupil;

/* Whose corrections there are of which model, the newest first, after so many. */
static rv_err read_pupils(rv_db *db, size_t after, pupil *out, size_t *n)
{
    sqlite3 *conn;
    sqlite3_stmt *s = NULL;
    bool row = true;
    *n = 0;
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = rv_db_prepare(
        conn, &s,
        "SELECT e.model, e.user, max(f.created_ms) FROM feedback f JOIN episode e ON "
        "e.request_id = f.request_id"
        " WHERE f.kind = 'correction' GROUP BY e.model, e.user ORDER BY 3 DESC, 1, 2 LIMIT ?1 OFFSET ?2",
        "ii", (int64_t)PUPILS, (int64_t)after);
    while (!e && *n < PUPILS && !(e = rv_db_step(s, &row)) && row) {
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
    (void)step, (void)steps, (void)loss;
    return app_learning_goes_on(self);
}

/* *news: corrections since a version was learned, in use or taken back, or since the one in use was loaded; or a micro adapter that is to be
 * consolidated. */
static rv_err has_news(const rv_pipeline *p, const rv_engine *engine, const pupil *who, bool *news)
{
    rv_adapter_version version;
    rv_arena *arena;
    uint64_t model = rv_engine_get_info(engine)->fingerprint;
    int64_t id = rv_adapters_in_use(p->adapters, model, who->user), learned_ms = 0;
    RV_TRY(rv_adapters_learned_ms(p->adapters, model, who->user, &learned_ms));
    *news = who->newest_ms > learned_ms;
    if (!id) {
        return RV_OK;
    }
    RV_TRY(rv_arena_new(&rv_heap, ARENA_BYTES, &arena));
    rv_err e = rv_adapters_get(p->adapters, id, arena, &version);
    if (!e) {
        *news = (*news && who->newest_ms > version.created_ms) || strcmp(version.origin, "micro") == 0;
    }
    rv_arena_free(arena);
    return e == RV_E_NOT_FOUND ? RV_OK : e;
}

/* Of a round that is cut short; no name of a user stands in the name of a file. */
static void checkpoint_path(const rv_pipeline *p, const pupil *who, char out[4096])
{
    uint64_t h = rv_hash64(who->user, strlen(who->user), rv_hash64(who->model, strlen(who->model), 0));
    snprintf(out, 4096, "%s/adapters/%016llx.ckpt", rv_db_dir(p->db), (unsigned long long)h);
}

rv_adapter_learning rv_app_adapter_learning(const rv_app *app)
{
    const rv_pipeline *p = &app->pipeline;
    const rv_config *c = app->config;
    return (rv_adapter_learning){ .db = p->db,
                                  .memory = p->memory,
                                  .adapters = p->adapters,
                                  .prompt = rv_pipeline_prompt,
                                  .embed = p->embed,
                                  .batch = (size_t)rv_config_int(c, "learning.batch_size"),
                                  .rate = (float)rv_config_float(c, "learning.learning_rate"),
                                  .springs = (float)rv_config_float(c, "learning.ewc_lambda"),
                                  .max_steps = 1 << 20,
                                  .seed = 1 };
}

static rv_err round_of(learning *l, rv_engine *engine, const pupil *who, double until_ms,
                       rv_adapter_learned *done)
{
    const rv_pipeline *p = &l->app->pipeline;
    bool news = false;
    char checkpoint[4096];
    RV_TRY(has_news(p, engine, who, &news));
    if (!news) {
        return RV_OK;
    }
    checkpoint_path(p, who, checkpoint);
    rv_adapter_learning how = rv_app_adapter_learning(l->app);
    how.engine = engine;
    how.user = who->user;
    how.rank = 16;
    how.springs = l->deep ? how.springs : 0;
    how.checkpoint = l->deep ? checkpoint : NULL;
    how.max_seconds = (until_ms - rv_clock_ms()) / 1000;
    how.on_step = on_step;
    how.self = l;
    return rv_adapter_learn(&how, done);
}

static rv_err teach(learning *l, const pupil *who, double until_ms, rv_adapter_learned *done)
{
    const rv_pipeline *p = &l->app->pipeline;
    const char *id;
    rv_err e = RV_OK;
    if (rv_backend_resolve(p->backend, who->model, &id)) {
        return RV_OK; /* a model that is no more, or memory answered */
    }
    do {
        rv_engine *engine = NULL;
        l->yields = false;
        rv_pipeline_enter(p);
        e = rv_backend_take(p->backend, id, &engine);
        if (!e) {
            e = round_of(l, engine, who, until_ms, done);
            rv_backend_put(p->backend, engine);
        }
        rv_pipeline_leave(p);
    } while (e == RV_E_CANCELLED && l->yields && rv_clock_ms() + ROUND_LEAST_MS < until_ms);
    return e == RV_E_CANCELLED && l->yields ? RV_OK : e; /* what was forgotten took all the time */
}

typedef struct tally {
    size_t rounds, published, failed, consolidated, held;
    double discarded; /* the most */
    rv_err error;     /* of the last that failed */
    char why[200];
} tally;

static void count(tally *t, const rv_adapter_learned *done)
{
    t->rounds++;
    t->published += done->version > 0;
    t->consolidated += done->consolidated;
    t->held += done->held;
    t->discarded = done->discarded > t->discarded ? done->discarded : t->discarded;
}

static void report(const tally *t, const rv_adapter_learned *last, rv_loop_report *out)
{
    *out = (rv_loop_report){ .accepted = t->published > 0,
                             .changed = (int64_t)t->published,
                             .measure = last->after > 0 ? "loss" : NULL,
                             .before = last->before,
                             .after = last->after };
    int n = snprintf(out->why, sizeof out->why, "%zu of %zu published; the last: %s", t->published, t->rounds,
                     last->why);
    if (t->consolidated && n > 0 && (size_t)n < sizeof out->why) {
        n += snprintf(out->why + n, sizeof out->why - (size_t)n,
                      "; %zu micro adapters consolidated, %.2g of the energy cut", t->consolidated,
                      t->discarded);
    }
    if (t->held && n > 0 && (size_t)n < sizeof out->why) {
        n += snprintf(out->why + n, sizeof out->why - (size_t)n, "; %zu earlier rows held", t->held);
    }
    if (t->failed && n > 0 && (size_t)n < sizeof out->why) {
        snprintf(out->why + n, sizeof out->why - (size_t)n, "; %zu failed, the log says why", t->failed);
    }
}

/* One round that fails is said, and the next one has its turn. */
static rv_err teach_all(learning *l, const pupil *pupils, size_t n, double until_ms, tally *t,
                        rv_adapter_learned *last)
{
    for (size_t i = 0; i < n && rv_clock_ms() + ROUND_LEAST_MS < until_ms; i++) {
        rv_adapter_learned done = { 0 };
        rv_err e = teach(l, &pupils[i], until_ms, &done);
        if (e == RV_E_CANCELLED) {
            return e;
        }
        if (e) {
            t->failed++;
            t->error = e;
            snprintf(t->why, sizeof t->why, "%s", rv_err_text());
            rv_log(RV_LOG_WARN, "adapter.learn", "model", pupils[i].model, "user", pupils[i].user, "error",
                   t->why, (char *)NULL);
        } else if (done.why) {
            *last = done;
            count(t, &done);
        }
    }
    return RV_OK;
}

rv_err app_adapters_stage(void *self, double until_ms, rv_loop_report *out)
{
    learning *l = self;
    tally t = { 0 };
    rv_adapter_learned last = { 0 };
    if (!rv_config_bool(l->app->config, "learning.adapters")) {
        app_say(out, "off (learning.adapters): memory answers corrected questions");
        return RV_OK;
    }
    pupil *pupils = rv_new_array(&rv_heap, PUPILS, sizeof *pupils);
    rv_err e = pupils ? RV_OK : rv_fail(RV_E_NOMEM, "learning adapters");
    for (size_t at = 0, n = PUPILS; !e && n == PUPILS && rv_clock_ms() + ROUND_LEAST_MS < until_ms; at += n) {
        e = read_pupils(l->app->pipeline.db, at, pupils, &n);
        e = e ? e : teach_all(l, pupils, n, until_ms, &t, &last);
    }
    rv_free(&rv_heap, pupils);
    if (!e && t.failed && !t.rounds) {
        return rv_fail(t.error, "%zu rounds failed, the last: %s", t.failed, t.why);
    }
    if (t.rounds) {
        report(&t, &last, out);
    } else {
        app_say(out, "nothing to do: no corrections since the last time");
    }
    return e;
}
