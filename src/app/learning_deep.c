/* The deep loop: what takes minutes, on demand. */
#include "app/learning_priv.h"
#include "base/clock.h"
#include "learn/archive.h"
#include "learn/deep.h"
#include "learn/sides.h"

#include <stdio.h>

enum { ADAPTERS_KEPT = 8, ANSWERS_KEPT = 10000 /* as many as patterns look at */ };

/* Concepts are made of texts, so nothing may be forgotten meanwhile; who waits to forget ends the stage, and it begins again. */
static rv_err graph_stage(learning *l, double until_ms,
                          rv_err (*stage)(const rv_deep_place *, rv_loop_report *), rv_loop_report *out)
{
    const rv_pipeline *p = &l->app->pipeline;
    rv_deep_place place = { .db = p->db,
                            .memory = p->memory,
                            .embed = p->embed,
                            .good = p->good_rating,
                            .until_ms = until_ms,
                            .go_on = app_learning_goes_on,
                            .self = l };
    rv_err e;
    do {
        l->yields = false;
        rv_pipeline_enter(p);
        e = stage(&place, out);
        rv_pipeline_leave(p);
    } while (!e && l->yields && rv_clock_ms() < until_ms);
    return e || !l->ended ? e : rv_fail(RV_E_CANCELLED, "interrupted; the next run begins this stage again");
}

static rv_err concepts_stage(void *self, double until_ms, rv_loop_report *out)
{
    return graph_stage(self, until_ms, rv_deep_concepts, out);
}

static rv_err dreams_stage(void *self, double until_ms, rv_loop_report *out)
{
    return graph_stage(self, until_ms, rv_deep_dreams, out);
}

static rv_err edges_stage(void *self, double until_ms, rv_loop_report *out)
{
    return graph_stage(self, until_ms, rv_deep_prune_edges, out);
}

static rv_err sides_stage(void *self, double until_ms, rv_loop_report *out)
{
    return graph_stage(self, until_ms, rv_deep_weigh_sides, out);
}

static rv_err patterns_stage(void *self, double until_ms, rv_loop_report *out)
{
    const rv_pipeline *p = &((learning *)self)->app->pipeline;
    rv_patterns_pruned pruned;
    rv_bank_learned done;
    (void)until_ms; /* bounded by the 10,000 answers it looks at */
    if (!p->bank) {
        app_say(out, "nothing to do: learning is off");
        return RV_OK;
    }
    rv_pipeline_enter(p);
    rv_err e = rv_bank_prune(p->bank, &pruned, &done);
    rv_pipeline_leave(p);
    if (e || pruned.merged + pruned.dropped == 0) {
        app_say(out, "nothing to do: no two patterns are alike, and none is spent");
        return e;
    }
    *out = (rv_loop_report){ .accepted = done.accepted,
                             .changed = done.accepted ? (int64_t)(pruned.merged + pruned.dropped) : 0,
                             .measure = done.held ? "squared error" : NULL,
                             .before = done.before,
                             .after = done.after };
    snprintf(out->why, sizeof out->why, "%zu alike joined, %zu spent dropped, %zu left; %.120s",
             pruned.merged, pruned.dropped, done.patterns, done.why);
    return RV_OK;
}

static rv_err versions_stage(void *self, double until_ms, rv_loop_report *out)
{
    const rv_pipeline *p = &((learning *)self)->app->pipeline;
    size_t removed = 0;
    (void)until_ms;
    rv_err e = rv_adapters_prune(p->adapters, ADAPTERS_KEPT, &removed);
    out->changed = (int64_t)removed;
    out->accepted = removed > 0;
    if (removed) {
        snprintf(out->why, sizeof out->why,
                 "%zu old versions removed; of each model and user the newest %d stay, and what is in use",
                 removed, ADAPTERS_KEPT);
    } else {
        snprintf(out->why, sizeof out->why,
                 "nothing to do: nobody has more than %d versions that are not in use", ADAPTERS_KEPT);
    }
    return e;
}

/* Nobody may forget while a file is made: it would hold what is to go. */
static bool begin_file(void *self)
{
    learning *l = self;
    if (!app_learning_goes_on(l)) {
        return false;
    }
    rv_pipeline_enter(&l->app->pipeline);
    return true;
}

static void end_file(void *self)
{
    rv_pipeline_leave(&((learning *)self)->app->pipeline);
}

static rv_err archive_stage(void *self, double until_ms, rv_loop_report *out)
{
    learning *l = self;
    const rv_config *config = l->app->config;
    int64_t days = rv_config_int(config, "learning.archive_days"),
            keep = rv_config_int(config, "learning.replay_capacity");
    rv_archived done;
    rv_archiving how = { .db = l->app->pipeline.db,
                         .before_ms = rv_clock_wall_ms() - days * 86400000,
                         .keep = (size_t)(keep > ANSWERS_KEPT ? keep : ANSWERS_KEPT),
                         .until_ms = until_ms,
                         .begin = begin_file,
                         .end = end_file,
                         .self = l };
    RV_TRY(rv_learn_archive(&how, &done));
    out->changed = (int64_t)(done.records + done.answers);
    out->accepted = done.files > 0;
    snprintf(out->why, sizeof out->why, "%zu records and %zu answers older than %lld days moved to %zu files",
             done.records, done.answers, (long long)days, done.files);
    return l->ended ? rv_fail(RV_E_CANCELLED, "interrupted; the next run goes on with what is left") : RV_OK;
}

typedef struct compacting {
    learning *l;
    double until_ms;
} compacting;

static bool compact_on(void *self, size_t done, size_t total)
{
    const compacting *c = self;
    (void)done;
    (void)total;
    return rv_clock_ms() < c->until_ms && app_learning_goes_on(c->l);
}

/* Cleans the files of what was removed, and gives back its room. */
static rv_err compact_stage(void *self, double until_ms, rv_loop_report *out)
{
    compacting c = { self, until_ms };
    rv_memory_compacted done;
    rv_err e = rv_memory_compact(c.l->app->pipeline.memory, compact_on, &c, &done);
    out->changed = (int64_t)(done.erased + done.moved);
    snprintf(
        out->why, sizeof out->why,
        "the database written anew; %zu vectors of removed memories erased, %zu copied, %zu files removed",
        done.erased, done.moved, done.files);
    return e == RV_E_CANCELLED && !c.l->ended ? RV_OK : e;
}

const rv_loop_stage app_deep_stages[] = {
    { "adapters", 300, app_adapters_stage },
    { "concepts", 60, concepts_stage },
    { "dreams", 60, dreams_stage },
    { "edges", 30, edges_stage },
    { "sides", 30, sides_stage },
    { "patterns", 30, patterns_stage },
    { "versions", 10, versions_stage },
    { "archive", 30, archive_stage },
    { "compact", 60, compact_stage },
};
const size_t app_n_deep_stages = RV_COUNT(app_deep_stages);
