/* What a router would have done on rows it has not seen, beside what does not look at the question: `router eval`, and the end of `router train`. */
#include "cli/router_priv.h"

#include "base/clock.h"
#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWS = 400 };

typedef struct predictions {
    size_t n, tiers;
    size_t *row;                          /* [n] of the data */
    float *p, *expected, *quality, *cost; /* [n][tiers] */
    float *part;                          /* [n][tiers][RV_ROUTER_PARTS] as probabilities */
    size_t *tier;                         /* [n] decided */
    float *confidence;                    /* [n] */
    double micros;                        /* per decision, and of that the slots and the cell */
    double fast_micros;
} predictions;

static void drop_predictions(predictions *p)
{
    free(p->row);
    free(p->p);
    free(p->expected);
    free(p->quality);
    free(p->cost);
    free(p->part);
    free(p->tier);
    free(p->confidence);
}

static bool complete(const router_data *d, size_t i)
{
    for (size_t t = 0; t < d->tiers; t++) {
        if (!(d->rows[i].quality[t] >= 0)) {
            return false;
        }
    }
    return true;
}

rv_slot_input router_input_of(const rv_router *r, const char *text, size_t n, const float *vector)
{
    return (
        rv_slot_input){ .text = text, .n = n, .vector = rv_router_dim(r) > 0 ? vector : NULL, .device = 2 };
}

static rv_err predict(const router_data *d, const rv_router *r, predictions *out)
{
    size_t n = d->n, tiers = d->tiers;
    *out = (predictions){ .tiers = tiers,
                          .row = calloc(n, sizeof(size_t)),
                          .p = calloc(n * tiers, sizeof(float)),
                          .expected = calloc(n * tiers, sizeof(float)),
                          .quality = calloc(n * tiers, sizeof(float)),
                          .cost = calloc(n * tiers, sizeof(float)),
                          .part = calloc(n * tiers, RV_ROUTER_PARTS * sizeof(float)),
                          .tier = calloc(n, sizeof(size_t)),
                          .confidence = calloc(n, sizeof(float)) };
    void *scratch = malloc(rv_router_scratch_bytes(r));
    if (!out->row || !out->p || !out->expected || !out->quality || !out->cost || !out->part || !out->tier ||
        !out->confidence || !scratch) {
        free(scratch);
        return rv_fail(RV_E_NOMEM, "predicting");
    }
    double began = rv_clock_ms();
    for (size_t i = 0; i < n; i++) {
        if (!d->at[i].test || !complete(d, i)) {
            continue;
        }
        rv_routed routed;
        rv_slot_input in = router_input_of(r, d->at[i].text, d->at[i].n, d->at[i].vector);
        rv_router_route(r, &in, 0, false, scratch, &routed);
        for (size_t t = 0; t < tiers; t++) {
            size_t at = out->n * tiers + t;
            out->p[at] = routed.p_right[t];
            out->expected[at] = routed.cost[t];
            out->quality[at] = d->rows[i].quality[t];
            out->cost[at] = d->rows[i].cost[t] >= 0 ? d->rows[i].cost[t] : routed.cost[t];
            for (int k = 0; k < RV_ROUTER_PARTS; k++) {
                out->part[at * RV_ROUTER_PARTS + (size_t)k] = 1 / (1 + expf(-routed.part[t][k]));
            }
        }
        out->tier[out->n] = routed.tier;
        out->confidence[out->n] = routed.confidence;
        out->row[out->n++] = i;
    }
    out->micros = out->n > 0 ? (rv_clock_ms() - began) * 1000 / (double)out->n : 0;
    began = rv_clock_ms();
    for (size_t i = 0; i < out->n; i++) {
        float slots[RV_SLOTS], log_odds[RV_ROUTER_TIERS];
        const router_datum *row = &d->at[out->row[i]];
        rv_slot_input in = router_input_of(r, row->text, row->n, row->vector);
        rv_router_fast(r, &in, slots, log_odds);
    }
    out->fast_micros = out->n > 0 ? (rv_clock_ms() - began) * 1000 / (double)out->n : 0;
    free(scratch);
    return RV_OK;
}

/* Mean outcome of a task on train, for the rows of that task: what a table of tasks would say. */
static void task_prior(const router_data *d, const predictions *p, float *out)
{
    for (size_t i = 0; i < p->n; i++) {
        const char *task = d->at[p->row[i]].task;
        if (i > 0 && strcmp(task, d->at[p->row[i - 1]].task) == 0) {
            memcpy(out + i * p->tiers, out + (i - 1) * p->tiers, p->tiers * sizeof *out);
            continue;
        }
        for (size_t t = 0; t < p->tiers; t++) {
            double sum = 0, n = 0;
            for (size_t k = 0; k < d->n; k++) {
                if (!d->at[k].test && d->rows[k].quality[t] >= 0 && strcmp(d->at[k].task, task) == 0) {
                    sum += d->rows[k].quality[t];
                    n += 1;
                }
            }
            out[i * p->tiers + t] = n > 0 ? (float)(sum / n) : 0.5f;
        }
    }
}

/* One way to order or choose: probabilities [n][tiers]. */
typedef struct contender {
    const char *name;
    const float *p;
    size_t stride, step; /* p[(i * tiers + t) * step] */
    bool chances;        /* they are probabilities, not just an order */
} contender;

static float chance(const contender *c, const predictions *p, size_t i, size_t t)
{
    return c->p[(i * p->tiers + t) * c->step];
}

static rv_err report_pair(const predictions *p, const contender *c, size_t draws, json_t *out)
{
    size_t n = p->n, last = p->tiers - 1;
    float *score = calloc(4 * n + 1, sizeof *score);
    if (!score) {
        return rv_fail(RV_E_NOMEM, "measuring");
    }
    float *weak = score + n, *strong = weak + n, *wrong = strong + n;
    for (size_t i = 0; i < n; i++) {
        score[i] = chance(c, p, i, last) - chance(c, p, i, 0);
        weak[i] = p->quality[i * p->tiers];
        strong[i] = p->quality[i * p->tiers + last];
        wrong[i] = 1 - chance(c, p, i, 0);
    }
    rv_measured_pair m;
    rv_err e = rv_measure_two(&rv_heap, &(rv_measure_pair){ score, weak, strong, n }, wrong, draws, &m);
    free(score);
    if (e) {
        return e;
    }
    json_object_set_new(out, "apgr", json_real(m.apgr.value));
    json_object_set_new(out, "apgr_low", json_real(m.apgr.low));
    json_object_set_new(out, "apgr_high", json_real(m.apgr.high));
    json_object_set_new(out, "cpt50", json_real(m.cpt50));
    json_object_set_new(out, "cpt80", json_real(m.cpt80));
    if (c->chances) {
        json_object_set_new(out, "auc_weak_wrong", json_real(m.auc));
        json_object_set_new(out, "accuracy", json_real(m.accuracy));
        json_object_set_new(out, "ece", json_real(m.ece));
    }
    return RV_OK;
}

static double big_quality(const predictions *p)
{
    double sum = 0;
    for (size_t i = 0; i < p->n; i++) {
        sum += p->quality[i * p->tiers + p->tiers - 1];
    }
    return sum / (double)p->n;
}

static rv_err report_ladder(const predictions *p, const contender *c, json_t *out)
{
    float *all = calloc(p->n * p->tiers + 1, sizeof *all);
    if (!all) {
        return rv_fail(RV_E_NOMEM, "measuring");
    }
    for (size_t i = 0; i < p->n; i++) {
        for (size_t t = 0; t < p->tiers; t++) {
            all[i * p->tiers + t] = chance(c, p, i, t);
        }
    }
    rv_measure_many m = { all, p->expected, p->quality, p->cost, p->n, p->tiers };
    double big = big_quality(p);
    rv_point half = rv_measure_best(&m, 0.5);
    json_object_set_new(out, "quality_at_half_cost", json_real(half.quality));
    json_object_set_new(out, "share_of_big", json_real(half.quality / big));
    json_object_set_new(out, "above_hull", json_real(half.quality - rv_measure_hull(&m, 0.5)));
    static const double regrets[] = { 0.025, 0.05, 0.1 };
    static const char *const keys[] = { "cost_at_regret_0.025", "cost_at_regret_0.05", "cost_at_regret_0.1" };
    for (int k = 0; k < 3; k++) {
        double cost = rv_measure_cheapest(&m, big - regrets[k]).cost;
        json_object_set_new(out, keys[k], isfinite(cost) ? json_real(cost) : json_null());
    }
    free(all);
    return RV_OK;
}

/* Hull, always-big and oracle, which need no scores. */
static json_t *report_bounds(const predictions *p)
{
    rv_measure_many m = { NULL, NULL, p->quality, p->cost, p->n, p->tiers };
    double big = big_quality(p), oracle = 0, oracle_cost = 0, big_cost = 0;
    for (size_t i = 0; i < p->n; i++) {
        const float *q = p->quality + i * p->tiers, *c = p->cost + i * p->tiers;
        size_t best = 0;
        for (size_t t = 1; t < p->tiers; t++) {
            bool better = (q[t] >= 0.5f) != (q[best] >= 0.5f) ? q[t] >= 0.5f : c[t] < c[best];
            best = better ? t : best;
        }
        oracle += q[best];
        oracle_cost += c[best];
        big_cost += c[p->tiers - 1];
    }
    json_t *out =
        json_pack("{s:f, s:f, s:f, s:f}", "big", big, "oracle", oracle / (double)p->n, "oracle_cost",
                  oracle_cost / big_cost, "hull_at_half_cost", rv_measure_hull(&m, 0.5));
    json_object_set_new(out, "hull_cost_at_regret_0.05", json_real(rv_measure_hull_cheapest(&m, big - 0.05)));
    return out;
}

/* What the decisions did, with the price of cost that was fixed on train. */
static json_t *report_decisions(const predictions *p)
{
    double q = 0, cost = 0, big = 0, right = 0;
    float *best = calloc(p->n + 1, sizeof *best);
    for (size_t i = 0; i < p->n; i++) {
        size_t t = p->tier[i], cheapest = 0;
        const float *quality = p->quality + i * p->tiers, *c = p->cost + i * p->tiers;
        for (size_t k = 1; k < p->tiers; k++) {
            bool better =
                (quality[k] >= 0.5f) != (quality[cheapest] >= 0.5f) ? quality[k] >= 0.5f : c[k] < c[cheapest];
            cheapest = better ? k : cheapest;
        }
        q += quality[t];
        cost += c[t];
        big += c[p->tiers - 1];
        right += t == cheapest;
        if (best) {
            best[i] = quality[t] >= quality[cheapest] - 0.05f;
        }
    }
    double n = (double)p->n, regret = big_quality(p) - q / n;
    json_t *out = json_pack("{s:f, s:f, s:f, s:f}", "quality", q / n, "cost", cost / big, "regret_to_big",
                            regret, "cheapest_right_tier", right / n);
    (void)best;
    free(best);
    return out;
}

static void print_report(const char *name, const json_t *values)
{
    const char *key;
    json_t *value;
    printf("  %-16s", name);
    json_object_foreach((json_t *)values, key, value)
    {
        if (json_is_number(value)) {
            printf(" %s %.3f", key, json_number_value(value));
        }
    }
    putchar('\n');
}

/* Per tier: how often it is right, and how well that was foretold. */
static rv_err report_tiers(const router_data *d, const predictions *p, json_t *out)
{
    float *got = calloc(2 * p->n, sizeof *got); /* foretold, then found */
    if (!got) {
        return rv_fail(RV_E_NOMEM, "measuring");
    }
    for (size_t t = 0; t < p->tiers; t++) {
        double mean = 0;
        for (size_t i = 0; i < p->n; i++) {
            got[i] = p->p[i * p->tiers + t];
            got[p->n + i] = p->quality[i * p->tiers + t];
            mean += got[p->n + i] / (double)p->n;
        }
        json_object_set_new(out, d->names[t],
                            json_pack("{s:f, s:f, s:f}", "right", mean, "ece",
                                      rv_measure_ece(got, got + p->n, p->n), "auc",
                                      rv_measure_auc(&rv_heap, got, got + p->n, p->n)));
    }
    free(got);
    return RV_OK;
}

/* The router, its parts alone, and two controls: a name and its figures each. */
static rv_err report_contenders(const router_data *d, const predictions *p, json_t *out)
{
    float *priors = calloc(p->n * p->tiers, sizeof *priors),
          *lengths = calloc(p->n * p->tiers, sizeof *lengths);
    rv_err e = priors && lengths ? RV_OK : rv_fail(RV_E_NOMEM, "measuring");
    if (!e) {
        task_prior(d, p, priors);
    }
    for (size_t i = 0; i < p->n && !e; i++) { /* long questions to the strong one */
        lengths[i * p->tiers + p->tiers - 1] = (float)d->at[p->row[i]].n;
    }
    contender all[] = { { "router", p->p, 0, 1, true },
                        { "cell", p->part, 0, RV_ROUTER_PARTS, true },
                        { "lexical", p->part + 1, 0, RV_ROUTER_PARTS, true },
                        { "words", p->part + 2, 0, RV_ROUTER_PARTS, true },
                        { "meaning", p->part + 3, 0, RV_ROUTER_PARTS, true },
                        { "task-prior", priors, 0, 1, true },
                        { "length-only", lengths, 0, 1, false } };
    for (size_t c = 0; c < RV_COUNT(all) && !e; c++) {
        json_t *one = json_object();
        e = report_pair(p, &all[c], c == 0 ? DRAWS : 0, one);
        if (!e && p->tiers > 2 && all[c].chances) {
            e = report_ladder(p, &all[c], one);
        }
        json_object_set_new(out, all[c].name, one);
    }
    free(priors);
    free(lengths);
    return e;
}

static void print_trained(const router_data *d, const rv_router_trained *trained)
{
    printf("  on train, rows not seen, log loss by part and of all together:\n");
    for (size_t t = 0; t < d->tiers; t++) {
        printf("  %-24s", d->names[t]);
        for (int k = 0; k <= RV_ROUTER_PARTS; k++) {
            printf(" %s %.4f", k < RV_ROUTER_PARTS ? rv_router_part_names[k] : "all", trained->loss[t][k]);
        }
        putchar('\n');
    }
    printf("  on train: quality %.3f cost %.3f with lambda %.3f, pool %.2f\n", trained->quality,
           trained->cost, trained->lambda, trained->pool);
}

static void print_all(const router_data *d, const json_t *all)
{
    const char *name;
    json_t *one;
    printf("%d test rows; slots and cell %.1f us, whole decision %.0f us; cell %d parameters\n",
           (int)json_integer_value(json_object_get(all, "test_rows")),
           json_real_value(json_object_get(all, "micros_slots_and_cell")),
           json_real_value(json_object_get(all, "micros_per_decision")),
           (int)json_integer_value(json_object_get(all, "cell_parameters")));
    json_object_foreach(json_object_get(all, "test"), name, one)
    {
        print_report(name, one);
    }
    print_report("bounds", json_object_get(all, "bounds"));
    print_report("decisions", json_object_get(all, "decisions"));
    for (size_t t = 0; t < d->tiers; t++) {
        print_report(d->names[t], json_object_get(json_object_get(all, "tiers"), d->names[t]));
    }
}

rv_err router_report(const cmd_line *line, const router_data *d, const rv_router *r,
                     const rv_router_trained *trained)
{
    predictions p;
    json_t *rows = json_object(), *tiers = json_object();
    rv_err e = predict(d, r, &p);
    if (!e && p.n == 0) {
        e = rv_fail(RV_E_ARG, "no test row with an outcome of every tier");
    }
    e = e ? e : report_contenders(d, &p, rows);
    e = e ? e : report_tiers(d, &p, tiers);
    if (!e) {
        json_t *all = json_pack("{s:I, s:O, s:I, s:f, s:f, s:o, s:o, s:O}", "test_rows", (json_int_t)p.n,
                                "tiers", tiers, "cell_parameters", (json_int_t)rv_router_cell_params(r),
                                "micros_per_decision", p.micros, "micros_slots_and_cell", p.fast_micros,
                                "bounds", report_bounds(&p), "decisions", report_decisions(&p), "test", rows);
        if (trained) {
            json_object_set_new(all, "train",
                                json_pack("{s:I, s:f, s:f, s:f, s:f}", "rows", (json_int_t)trained->rows,
                                          "pool", trained->pool, "lambda", trained->lambda, "quality",
                                          trained->quality, "cost", trained->cost));
        }
        if (line->json) {
            cmd_print(json_incref(all));
        } else {
            print_all(d, all);
        }
        if (trained && !line->json) {
            print_trained(d, trained);
        }
        json_decref(all);
    }
    json_decref(rows);
    json_decref(tiers);
    drop_predictions(&p);
    return e;
}
