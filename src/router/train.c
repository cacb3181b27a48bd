/* From rows to weights. Rows are dealt to five folds by their text, so that a text said twice is in one; each part predicts a
 * fold from the other four, and how the votes are weighed, what a unit of cost is worth and how sure a decision is are fitted
 * on those predictions. Then each part learns from all rows. Nothing here looks at rows that were not given. */
#include "router/train_priv.h"

#include <stdio.h>

enum { LEAST_ROWS = 20, LEAST_OUTCOMES = 10 };

void router_step_done(trainer *t)
{
    t->done++;
    if (t->how->progress) {
        t->how->progress(t->how->self, t->done, t->total);
    }
}

/* ---- checks ---- */

static rv_err check_set(const rv_router_set *set)
{
    size_t outcomes[RV_ROUTER_TIERS] = { 0 };
    if (set->tiers < 1 || set->tiers > RV_ROUTER_TIERS) {
        return rv_fail(RV_E_ARG, "router training: %zu tiers, allowed 1 to %d", set->tiers, RV_ROUTER_TIERS);
    }
    if (set->n < LEAST_ROWS) {
        return rv_fail(RV_E_ARG, "router training: %zu rows, at least %d are needed", set->n, LEAST_ROWS);
    }
    for (size_t i = 0; i < set->n; i++) {
        for (size_t t = 0; t < set->tiers; t++) {
            float q = set->rows[i].quality[t], c = set->rows[i].cost[t];
            if (q < 0 || q > 1 || c < 0 || isinf(c)) {
                return rv_fail(RV_E_ARG,
                               "router training: row %zu has quality %g (0 to 1) and cost %g for %s", i, q, c,
                               set->names[t]);
            }
            outcomes[t] += router_known(&set->rows[i], t);
        }
    }
    for (size_t t = 0; t < set->tiers; t++) {
        if (outcomes[t] < LEAST_OUTCOMES) {
            return rv_fail(RV_E_ARG, "router training: %zu outcomes of %s, at least %d are needed",
                           outcomes[t], set->names[t], LEAST_OUTCOMES);
        }
    }
    return RV_OK;
}

static rv_err take_arrays(trainer *t)
{
    size_t n = t->set->n, tiers = t->set->tiers;
    const rv_alloc *mem = t->mem;
    t->vector = rv_new_array(mem, n, sizeof *t->vector);
    t->surface = rv_new_array(mem, n, RV_SURFACE * sizeof(float));
    t->gram_at = rv_new_array(mem, n + 1, sizeof *t->gram_at);
    t->rows_with = rv_new_array(mem, RV_PAST_BUCKETS, sizeof *t->rows_with);
    t->slots = rv_new_array(mem, n, RV_SLOTS * sizeof(float));
    t->cluster = rv_new_array(mem, n, sizeof *t->cluster);
    t->fold = rv_new_array(mem, n, 1);
    t->stop_set = rv_new_array(mem, n, sizeof *t->stop_set);
    t->order = rv_new_array(mem, n, sizeof *t->order);
    t->part = rv_new_array(mem, n * tiers, RV_ROUTER_PARTS * sizeof(float));
    t->cost = rv_new_array(mem, n * tiers, sizeof(float));
    t->found = rv_new_array(mem, n, sizeof *t->found);
    t->doubt = rv_new_array(mem, n, (ROUTER_DOUBTS + 1) * sizeof(double));
    t->squares = rv_new_array(mem, router_lexical_size(t->set->dim), sizeof(float));
    bool good = t->vector && t->surface && t->gram_at && t->rows_with && t->slots && t->cluster && t->fold &&
                t->stop_set && t->order && t->part && t->cost && t->found && t->doubt && t->squares;
    return good ? RV_OK : rv_fail(RV_E_NOMEM, "router training");
}

static void drop_arrays(trainer *t)
{
    void *arrays[] = { t->vector, t->surface, t->gram_at, t->gram,     t->gram_weight, t->rows_with,
                       t->slots,  t->cluster, t->fold,    t->stop_set, t->order,       t->part,
                       t->cost,   t->found,   t->doubt,   t->squares,  t->scratch };
    for (size_t i = 0; i < RV_COUNT(arrays); i++) {
        rv_free(t->mem, arrays[i]);
    }
}

/* ---- all of it ---- */

static rv_err train_all(trainer *t, rv_router_trained *trained)
{
    t->total = 2 * FOLDS + 4;
    RV_TRY(router_read_rows(t));
    t->scratch = rv_new(t->mem, rv_past_scratch_bytes(t->r->past));
    if (!t->scratch) {
        return rv_fail(RV_E_NOMEM, "router training");
    }
    for (int fold = 0; fold < FOLDS; fold++) {
        RV_TRY(router_predict_fold(t, fold));
    }
    RV_TRY(router_fit_decisions(t, trained));
    trained->rows = t->set->n;
    return router_train_parts(t);
}

rv_err rv_router_train(const rv_alloc *mem, const rv_router_set *set, const rv_router_how *how,
                       rv_router_trained *trained, rv_router **out)
{
    RV_TRY(check_set(set));
    trainer t = { .mem = mem, .set = set, .how = how };
    rv_router_trained got = { 0 };
    RV_TRY(router_new(mem, set->tiers, set->dim, &t.r));
    for (size_t m = 0; m < set->tiers; m++) {
        snprintf(t.r->names[m], sizeof t.r->names[m], "%s", set->names[m]);
    }
    snprintf(t.r->embedder, sizeof t.r->embedder, "%s", set->dim > 0 && set->embedder ? set->embedder : "");
    rv_err e = take_arrays(&t);
    if (!e) {
        e = train_all(&t, &got);
    }
    drop_arrays(&t);
    if (e) {
        rv_router_free(t.r);
        return e;
    }
    *trained = got;
    *out = t.r;
    return RV_OK;
}
