/* Which way a search by vectors takes, and that way. Every way but the exact one was measured on this very store when its index was
 * built (rv_fast_gauge), so the choice is arithmetic: the cheapest that finds the part asked for. */
#include "memory/memory_priv.h"

#include <math.h>
#include <string.h>

const char *const rv_fast_kinds[RV_FASTS] = { "hnsw", "rabitq" };

/* What finding a row by its id costs beside comparing it, in ns: two places in memory that nobody fetched ahead. */
static const double lookup_ns = 40;
/* Of the part that is allowed to be missed, how much the measurement must stay below: it was made on a sample. */
static const double caution = 0.75;
static const size_t gauged_k[RV_GAUGED_KS] = { 10, 100 };

/* ---- plan ---- */

/* Of exact comparison of n of the rows. */
static double flat_cost(const rv_memory *m, size_t n)
{
    return n < m->n_live / 4 ? (double)n * ((double)m->flat_ns + lookup_ns)
                             : (double)m->n_live * (double)m->flat_ns;
}

static double scan_cost(const rv_memory *m, const fast *f, size_t n)
{
    return n < m->n_live / 4 ? (double)n * ((double)f->scan_ns + lookup_ns)
                             : (double)m->n_live * 2 + (double)n * (double)f->scan_ns;
}

/* The ids that live, pass, and are in f or not. */
static size_t count_missing(const rv_memory *m, const fast *f, const rv_filter *filter)
{
    size_t n = 0;
    for (size_t i = 0; f->n_missing > 0 && i < m->live.n; i++) {
        n += (size_t)__builtin_popcountll((filter ? filter->bits[i] : m->live.at[i]) &
                                          ~rv_idset_word(&f->has, i));
    }
    return n;
}

/* Between the two k that were measured, by the logarithm of k. */
static double between(const float of[RV_GAUGED_KS], size_t k)
{
    double from = (double)gauged_k[0], to = (double)gauged_k[1], at = (double)k;
    double part = at <= from ? 0 : at >= to ? 1 : log(at / from) / log(to / from);
    return (double)of[0] + part * ((double)of[1] - (double)of[0]);
}

/* The narrowest breadth that was seen to find enough; false: none. */
static bool breadth_for(const fast *f, size_t k, double recall, size_t *breadth, double *expected, double *us)
{
    double wider = k > gauged_k[1] ? (double)k / (double)gauged_k[1] : 1;
    for (size_t i = 0; i < f->n_gauges; i++) {
        const gauge *g = &f->gauges[i];
        double found = between(g->recall, k);
        if (found >= 1 - (1 - recall) * caution) {
            *breadth = (size_t)((double)g->breadth * wider);
            *expected = found;
            *us = between(g->us, k) * wider;
            return true;
        }
    }
    return false;
}

/* What f offers, when it is cheaper than what the plan has, or the kind that was named. */
static void consider(const rv_memory *m, fast *f, const char *kind, const rv_filter *filter,
                     nearest_plan *plan)
{
    rv_memory_plan *said = &plan->said;
    size_t recent = count_missing(m, f, filter), breadth = 0;
    double tail = (double)recent * ((double)m->flat_ns + lookup_ns), expected = 0, us = 0;
    double scan = scan_cost(m, f, said->passing) + tail;
    said->scan_ms = isnan(said->scan_ms) || scan * 1e-6 < said->scan_ms ? scan * 1e-6 : said->scan_ms;
    if (scan < said->ms * 1e6) {
        plan->fast = f;
        plan->scan = true;
        said->path = "scan";
        said->ms = scan * 1e-6;
        said->recent = recent;
        said->expected = 1;
    }
    if (!breadth_for(f, said->k, said->asked, &breadth, &expected, &us) || said->passing == 0) {
        return;
    }
    double walk = us * 1e3 * (double)m->n_live / (double)said->passing +
                  tail; /* of what is met, only this part counts */
    bool named = !filter && strcmp(m->tuning.index, kind) == 0;
    if (named || walk < said->ms * 1e6) {
        plan->fast = f;
        plan->scan = false;
        breadth = strcmp(kind, "hnsw") == 0 && breadth < m->tuning.ef ? m->tuning.ef : breadth;
        plan->breadth = said->breadth = breadth;
        said->path = kind;
        said->ms = walk * 1e-6;
        said->recent = recent;
        said->expected = expected;
    }
}

nearest_plan rv_nearest_plan(const rv_memory *m, const rv_filter *filter, size_t n_passing, size_t k,
                             double recall)
{
    nearest_plan plan = { .fast = NULL };
    plan.said = (rv_memory_plan){ .path = "flat",
                                  .rows = m->n_live,
                                  .passing = filter ? n_passing : m->n_live,
                                  .k = k,
                                  .asked = recall > 0 ? recall : m->tuning.recall,
                                  .expected = 1,
                                  .scan_ms = NAN };
    plan.said.flat_ms = plan.said.ms = flat_cost(m, plan.said.passing) * 1e-6;
    for (size_t i = 0; plan.said.asked < 1 && i < RV_FASTS; i++) {
        if (m->fasts[i] && m->fasts[i]->moves >= m->moves_scrubbed) {
            consider(m, m->fasts[i], rv_fast_kinds[i], filter, &plan);
        }
    }
    return plan;
}

static void explain(const rv_memory_plan *p, rv_text *out)
{
    if (strcmp(p->path, "none") == 0) {
        rv_text_adds(out, "vectors were not asked");
        return;
    }
    rv_text_addf(out, "%s", p->path);
    if (p->breadth && strcmp(p->path, "scan") != 0) {
        rv_text_addf(out, " of breadth %zu", p->breadth);
    }
    rv_text_addf(out, ": %zu of %zu nodes pass", p->passing, p->rows);
    if (p->asked >= 1) {
        rv_text_addf(out, ", and exactly the nearest %zu were asked for: all that pass are compared", p->k);
    } else if (isnan(p->scan_ms)) {
        rv_text_addf(out, ", and there is no index (yet): all that pass are compared");
    } else {
        rv_text_addf(out, "; recall %.3f of the nearest %zu asked, %.3f expected", p->asked, p->k,
                     p->expected);
    }
    rv_text_addf(out, "; %.3g ms expected", p->ms);
    if (!isnan(p->scan_ms)) {
        rv_text_addf(out, ", a scan of codes %.3g, comparing all %.3g", p->scan_ms, p->flat_ms);
    }
    if (p->recent) {
        rv_text_addf(out, "; %zu are newer than the index and were compared beside it", p->recent);
    }
}

json_t *rv_memory_plan_json(const rv_memory_plan *p)
{
    rv_text why;
    rv_text_init(&why, &rv_heap, 1024);
    explain(p, &why);
    json_t *o =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s}", "path", p->path, "rows",
                  (json_int_t)p->rows, "passing", (json_int_t)p->passing, "recent", (json_int_t)p->recent,
                  "k", (json_int_t)p->k, "breadth", (json_int_t)p->breadth, "recall_asked", p->asked,
                  "recall_expected", p->expected, "expected_ms", p->ms, "why", rv_text_get(&why));
    if (o && !isnan(p->scan_ms)) {
        json_object_set_new(o, "scan_ms", json_real(p->scan_ms));
        json_object_set_new(o, "flat_ms", json_real(p->flat_ms));
    }
    rv_text_deinit(&why);
    return o;
}

/* ---- search ---- */

/* Two lists, best first, into the first; both [k]. */
static void merge(rv_hit *into, size_t *n, const rv_hit *other, size_t n_other, size_t k)
{
    size_t from = *n, total = from + n_other < k ? from + n_other : k, skip = from + n_other - total;
    /* From the back, as in a sort by merging: the worst `skip` of both are left out first. */
    for (size_t left = total; left > 0;) {
        bool own = n_other == 0 || (from > 0 && (into[from - 1].score < other[n_other - 1].score ||
                                                 (into[from - 1].score == other[n_other - 1].score &&
                                                  into[from - 1].id > other[n_other - 1].id)));
        rv_hit worst = own ? into[--from] : other[--n_other];
        if (skip > 0) {
            skip--;
        } else {
            into[--left] = worst;
        }
    }
    *n = total;
}

/* What f does not have yet, exactly; of that about the newest `most`. */
static rv_err add_recent(rv_memory *m, const fast *f, const float *query, const rv_filter *filter,
                         size_t most, size_t k, rv_hit *hits, size_t *found)
{
    uint64_t *bits = rv_new_array(m->mem, m->live.n, sizeof *bits);
    rv_hit *more = rv_new_array(m->mem, k, sizeof *more);
    rv_err e = bits && more ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to search");
    if (!e) {
        size_t taken = 0;
        for (size_t i = m->live.n; i-- > 0 && taken < most;) { /* those before stay 0 */
            bits[i] = (filter ? filter->bits[i] : m->live.at[i]) & ~rv_idset_word(&f->has, i);
            taken += (size_t)__builtin_popcountll(bits[i]);
        }
        rv_filter recent = { .bits = bits, .n_bits = m->live.n * 64 };
        size_t n = 0;
        e = rv_index_search(m->index, query, &(rv_search){ .k = k, .filter = &recent }, more, &n);
        if (!e) {
            merge(hits, found, more, n, k);
        }
    }
    rv_free(m->mem, bits);
    rv_free(m->mem, more);
    return e;
}

rv_err rv_nearest_search(rv_memory *m, const nearest_plan *plan, const float *query, const rv_filter *filter,
                         size_t k, rv_hit *hits, size_t *found)
{
    fast *f = plan->fast;
    if (!f) {
        return rv_index_search(m->index, query, &(rv_search){ .k = k, .filter = filter }, hits, found);
    }
    rv_filter live = { .bits = m->live.at, .n_bits = m->live.n * 64 };
    rv_search how = { .k = k,
                      .ef = plan->breadth,
                      .way = plan->scan ? RV_WAY_SCAN : RV_WAY_INDEX,
                      .filter = filter           ? filter
                                : f->n_stale > 0 ? &live
                                                 : NULL };
    rv_err e = rv_index_search(f->index, query, &how, hits, found);
    if (e == RV_E_CORRUPT) { /* the keeper comes to that page as well, says so and makes the index anew */
        return rv_index_search(m->index, query, &(rv_search){ .k = k, .filter = filter }, hits, found);
    }
    RV_TRY(e);
    if (plan->said.recent > 0) {
        size_t most = plan->recent_most ? plan->recent_most : SIZE_MAX;
        RV_TRY(add_recent(m, f, query, filter, most, k, hits, found));
    }
    size_t all = plan->said.passing < k ? plan->said.passing : k;
    if (*found < all) { /* an index whose links or lists do not reach all rows: the exact one does */
        return rv_index_search(m->index, query, &(rv_search){ .k = k, .filter = filter }, hits, found);
    }
    return RV_OK;
}

void rv_nearest_added(rv_memory *m)
{
    for (size_t i = 0; i < RV_FASTS; i++) {
        if (m->fasts[i]) {
            m->fasts[i]->n_missing++;
        }
    }
}

void rv_nearest_removed(rv_memory *m, int64_t id)
{
    for (size_t i = 0; i < RV_FASTS; i++) {
        fast *f = m->fasts[i];
        if (f && rv_idset_has(&f->has, id)) {
            f->n_stale++;
        } else if (f) {
            f->n_missing--;
        }
    }
}
