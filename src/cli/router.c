/* router train, score, eval, explain: learning from rows whose outcome is known, and what came of it. */
#include "cli/cli.h"

#include "app/routing.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWS = 400, NAME_ROOM = 64, MAX_ROWS = 1 << 20 };
#define STEP_WITHOUT_COST                                                                                    \
    10.0 /* each tier costs this much more than the one before when nothing says what it costs */

typedef struct data_row {
    char *text, *task;
    size_t n;
    float *vector;
    bool test;
} data_row;

typedef struct data {
    char names[RV_ROUTER_TIERS][NAME_ROOM];
    size_t tiers;
    bool chosen; /* tiers were named on the command line */
    data_row *at;
    rv_router_row *rows; /* beside at, and into it */
    size_t n, room;
    const rv_embed *embed;
    bool known_costs;
} data;

/* ---- reading ---- */

static void drop_data(data *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->at[i].text);
        free(d->at[i].task);
        free(d->at[i].vector);
    }
    free(d->at);
    free(d->rows);
}

static rv_err choose_tiers(data *d, const char *list)
{
    for (const char *at = list; at && *at;) {
        size_t n = strcspn(at, ",");
        if (n == 0 || n >= NAME_ROOM || d->tiers == RV_ROUTER_TIERS) {
            return rv_fail(RV_E_ARG, "--tiers: up to %d names of at most %d bytes, with commas",
                           RV_ROUTER_TIERS, NAME_ROOM - 1);
        }
        snprintf(d->names[d->tiers++], NAME_ROOM, "%.*s", (int)n, at);
        at += n + (at[n] == ',');
        d->chosen = true;
    }
    return RV_OK;
}

/* Billions of parameters that a model's name tells: "gemma-2-27b-it" 27, "mixtral-8x7b" 56; 0 when it tells none. */
static double size_in_name(const char *name)
{
    double found = 0;
    for (const char *at = name; *at; at++) {
        char *end;
        if (*at < '0' || *at > '9' || (at > name && ((at[-1] >= '0' && at[-1] <= '9') || at[-1] == '.'))) {
            continue;
        }
        double size = strtod(at, &end), times = 1;
        if (*end == 'x' && end[1] >= '0' && end[1] <= '9') {
            times = size;
            size = strtod(end + 1, &end);
        }
        bool ends = (*end == 'b' || *end == 'B') &&
                    !((end[1] >= 'a' && end[1] <= 'z') || (end[1] >= '0' && end[1] <= '9'));
        found = ends ? times * size : found;
    }
    return found;
}

static float cost_of(const json_t *row, const char *name, size_t prompt_bytes)
{
    const json_t *usd = json_object_get(json_object_get(row, "usd"), name);
    if (json_is_number(usd)) {
        return (float)json_number_value(usd);
    }
    const json_t *chars = json_object_get(json_object_get(row, "outchars"), name);
    double size = size_in_name(name);
    return json_is_number(chars) && size > 0
               ? (float)(size * ((double)prompt_bytes + json_number_value(chars)) / 4)
               : NAN;
}

static rv_err take_names(data *d, const json_t *ok)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)ok, name, value)
    {
        bool there = false;
        for (size_t t = 0; t < d->tiers; t++) {
            there = there || strcmp(d->names[t], name) == 0;
        }
        if (!there && d->tiers < RV_ROUTER_TIERS && strlen(name) < NAME_ROOM) {
            snprintf(d->names[d->tiers++], NAME_ROOM, "%s", name);
        }
    }
    return d->tiers > 0 ? RV_OK : rv_fail(RV_E_ARG, "ok: expected an object of tier names and 0 or 1");
}

static bool make_room(data *d)
{
    if (d->n < d->room) {
        return true;
    }
    size_t room = d->room ? 2 * d->room : 1024;
    data_row *at = realloc(d->at, room * sizeof *at);
    d->at = at ? at : d->at;
    rv_router_row *rows = realloc(d->rows, room * sizeof *rows);
    d->rows = rows ? rows : d->rows;
    d->room = at && rows ? room : d->room;
    return at && rows;
}

static rv_err read_outcomes(data *d, const json_t *json, const json_t *ok, rv_router_row *row, size_t *known)
{
    *known = 0;
    for (size_t t = 0; t < RV_ROUTER_TIERS; t++) {
        const json_t *q = t < d->tiers ? json_object_get(ok, d->names[t]) : NULL;
        row->quality[t] = row->cost[t] = row->draft[t] = NAN;
        if (q && (!json_is_number(q) || json_number_value(q) < 0 || json_number_value(q) > 1)) {
            return rv_fail(RV_E_ARG, "ok.%s: expected a number from 0 to 1", d->names[t]);
        }
        if (q) {
            row->quality[t] = (float)json_number_value(q);
            row->cost[t] = cost_of(json, d->names[t], row->n);
            (*known)++;
        }
    }
    return RV_OK;
}

static rv_err add_row(data *d, const json_t *json)
{
    const char *prompt = NULL, *split = "train", *task = "";
    json_t *ok = NULL;
    size_t n = 0, n_task = 0, known;
    RV_TRY(rv_json_need_string(json, "prompt", &prompt, &n));
    RV_TRY(rv_json_get_string(json, "split", &split, NULL));
    RV_TRY(rv_json_get_string(json, "task", &task, &n_task));
    RV_TRY(rv_json_get_object(json, "ok", &ok));
    if (strcmp(split, "train") != 0 && strcmp(split, "test") != 0) {
        return rv_fail(RV_E_ARG, "split: expected train or test, found %.32s", split);
    }
    if (!ok) {
        return rv_fail(RV_E_ARG, "ok: expected an object of tier names and 0 or 1");
    }
    if (d->tiers == 0) {
        RV_TRY(take_names(d, ok));
    }
    if (d->n == MAX_ROWS || !make_room(d)) {
        return rv_fail(RV_E_NOMEM, "reading rows");
    }
    rv_router_row row = { .n = n, .weight = 1 };
    data_row own = { .n = n, .test = strcmp(split, "test") == 0 };
    RV_TRY(read_outcomes(d, json, ok, &row, &known));
    if (known == 0) {
        return RV_OK; /* of other models */
    }
    own.text = rv_strndup(&rv_heap, prompt, n);
    own.task = rv_strndup(&rv_heap, task ? task : "", n_task);
    own.vector = d->embed ? calloc(rv_embed_dim(d->embed), sizeof *own.vector) : NULL;
    d->at[d->n] = own;
    row.text = own.text;
    row.vector = own.vector;
    d->rows[d->n++] = row;
    if (!own.text || !own.task || (d->embed && !own.vector)) {
        return rv_fail(RV_E_NOMEM, "reading rows");
    }
    return d->embed ? rv_embed_text(d->embed, own.text, n, own.vector) : RV_OK;
}

static rv_err read_data(data *d, const char *path)
{
    FILE *in = fopen(path, "rb");
    if (!in) {
        return rv_fail(RV_E_NOT_FOUND, "%s: cannot be read: %s", path, strerror(errno));
    }
    char *text = NULL;
    size_t room = 0, n = 0, number = 0;
    rv_err e = RV_OK;
    while (!e && cmd_next_line(in, &text, &room, &n, &e)) {
        json_t *row = NULL;
        number++;
        if (n == 0) {
            continue;
        }
        e = rv_json_parse(text, n, &row);
        e = e ? e : add_row(d, row);
        json_decref(row);
        if (e) {
            e = rv_fail(e, "%s:%zu: %s", path, number, rv_err_text());
        }
    }
    free(text);
    fclose(in);
    if (!e && d->n == 0) {
        e = rv_fail(RV_E_ARG, "%s: no rows", path);
    }
    for (size_t i = 0; i < d->n; i++) {
        d->rows[i].text = d->at[i].text;
        d->rows[i].vector = d->at[i].vector;
        for (size_t t = 0; t < d->tiers; t++) {
            d->known_costs = d->known_costs || d->rows[i].cost[t] >= 0;
        }
    }
    for (size_t i = 0; i < d->n && !d->known_costs; i++) {
        for (size_t t = 0; t < d->tiers; t++) {
            d->rows[i].cost[t] = (float)pow(STEP_WITHOUT_COST, (double)t + 1 - (double)d->tiers);
        }
    }
    return e;
}

/* ---- reports ---- */

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

static bool complete(const data *d, size_t i)
{
    for (size_t t = 0; t < d->tiers; t++) {
        if (!(d->rows[i].quality[t] >= 0)) {
            return false;
        }
    }
    return true;
}

static rv_slot_input input_of(const rv_router *r, const char *text, size_t n, const float *vector)
{
    return (
        rv_slot_input){ .text = text, .n = n, .vector = rv_router_dim(r) > 0 ? vector : NULL, .device = 2 };
}

static rv_err predict(const data *d, const rv_router *r, predictions *out)
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
        rv_slot_input in = input_of(r, d->at[i].text, d->at[i].n, d->at[i].vector);
        rv_router_route(r, &in, 0, scratch, &routed);
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
        const data_row *row = &d->at[out->row[i]];
        rv_slot_input in = input_of(r, row->text, row->n, row->vector);
        rv_router_fast(r, &in, slots, log_odds);
    }
    out->fast_micros = out->n > 0 ? (rv_clock_ms() - began) * 1000 / (double)out->n : 0;
    free(scratch);
    return RV_OK;
}

/* Mean outcome of a task on train, for the rows of that task: what a table of tasks would say. */
static void task_prior(const data *d, const predictions *p, float *out)
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

static rv_err report(const cmd_line *line, const data *d, const rv_router *r,
                     const rv_router_trained *trained)
{
    predictions p;
    rv_err e = predict(d, r, &p);
    float *priors = calloc(p.n * p.tiers + 1, sizeof *priors),
          *lengths = calloc(p.n * p.tiers + 1, sizeof *lengths);
    json_t *all = json_object(), *rows = json_object();
    if (!e && (!priors || !lengths)) {
        e = rv_fail(RV_E_NOMEM, "measuring");
    }
    if (!e && p.n == 0) {
        e = rv_fail(RV_E_ARG, "no test row with an outcome of every tier");
    }
    if (!e) {
        task_prior(d, &p, priors);
        for (size_t i = 0; i < p.n; i++) { /* long questions to the strong one */
            float length = (float)d->at[p.row[i]].n;
            lengths[i * p.tiers + p.tiers - 1] = length;
        }
    }
    contender contenders[] = { { "router", p.p, 0, 1, true },
                               { "cell", p.part, 0, RV_ROUTER_PARTS, true },
                               { "lexical", p.part ? p.part + 1 : NULL, 0, RV_ROUTER_PARTS, true },
                               { "words", p.part ? p.part + 2 : NULL, 0, RV_ROUTER_PARTS, true },
                               { "meaning", p.part ? p.part + 3 : NULL, 0, RV_ROUTER_PARTS, true },
                               { "task-prior", priors, 0, 1, true },
                               { "length-only", lengths, 0, 1, false } };
    for (size_t c = 0; c < RV_COUNT(contenders) && !e; c++) {
        json_t *one = json_object();
        e = report_pair(&p, &contenders[c], c == 0 ? DRAWS : 0, one);
        if (!e && p.tiers > 2 && contenders[c].chances) {
            e = report_ladder(&p, &contenders[c], one);
        }
        json_object_set_new(rows, contenders[c].name, one);
    }
    if (!e) {
        json_t *tiers = json_object();
        for (size_t t = 0; t < p.tiers; t++) {
            float *got = calloc(2 * p.n + 1, sizeof *got);
            for (size_t i = 0; got && i < p.n; i++) {
                got[i] = p.p[i * p.tiers + t];
                got[p.n + i] = p.quality[i * p.tiers + t];
            }
            if (got) {
                double mean = 0;
                for (size_t i = 0; i < p.n; i++) {
                    mean += got[p.n + i] / (double)p.n;
                }
                json_object_set_new(tiers, d->names[t],
                                    json_pack("{s:f, s:f, s:f}", "right", mean, "ece",
                                              rv_measure_ece(got, got + p.n, p.n), "auc",
                                              rv_measure_auc(&rv_heap, got, got + p.n, p.n)));
            }
            free(got);
        }
        json_object_set_new(all, "test_rows", json_integer((json_int_t)p.n));
        json_object_set_new(all, "tiers", tiers);
        json_object_set_new(all, "cell_parameters", json_integer((json_int_t)rv_router_cell_params(r)));
        json_object_set_new(all, "micros_per_decision", json_real(p.micros));
        json_object_set_new(all, "micros_slots_and_cell", json_real(p.fast_micros));
        json_object_set_new(all, "bounds", report_bounds(&p));
        json_object_set_new(all, "decisions", report_decisions(&p));
        json_object_set_new(all, "test", json_incref(rows));
        if (trained) {
            json_object_set_new(all, "train",
                                json_pack("{s:I, s:f, s:f, s:f, s:f}", "rows", (json_int_t)trained->rows,
                                          "pool", trained->pool, "lambda", trained->lambda, "quality",
                                          trained->quality, "cost", trained->cost));
        }
        if (line->json) {
            cmd_print(json_incref(all));
        } else {
            const char *name;
            json_t *one;
            printf("%zu test rows; slots and cell %.1f us, whole decision %.0f us; cell %zu parameters\n",
                   p.n, p.fast_micros, p.micros, rv_router_cell_params(r));
            json_object_foreach(rows, name, one)
            {
                print_report(name, one);
            }
            print_report("bounds", json_object_get(all, "bounds"));
            print_report("decisions", json_object_get(all, "decisions"));
            json_object_foreach(json_object_get(all, "tiers"), name, one)
            {
                print_report(name, one);
            }
            if (trained) {
                printf("  on train, rows not seen, log loss by part and of all together:\n");
                for (size_t t = 0; t < d->tiers; t++) {
                    printf("  %-24s", d->names[t]);
                    for (int k = 0; k <= RV_ROUTER_PARTS; k++) {
                        printf(" %s %.4f", k < RV_ROUTER_PARTS ? rv_router_part_names[k] : "all",
                               trained->loss[t][k]);
                    }
                    putchar('\n');
                }
                printf("  on train: quality %.3f cost %.3f with lambda %.3f, pool %.2f\n", trained->quality,
                       trained->cost, trained->lambda, trained->pool);
            }
        }
    }
    json_decref(rows);
    json_decref(all);
    free(priors);
    free(lengths);
    drop_predictions(&p);
    return e;
}

/* ---- train ---- */

static void draw(void *self, size_t done, size_t total)
{
    cmd_bar_draw(self, "learning", done, total);
}

static rv_err train(const cmd_line *line, const rv_app *app, data *d, const rv_router_how *how,
                    rv_router_trained *trained, rv_router **out)
{
    size_t dim = d->embed ? rv_embed_dim(d->embed) : 0, n = 0;
    const char *names[RV_ROUTER_TIERS];
    float *domains = calloc(RV_SLOT_DOMAINS * dim + 1, sizeof *domains);
    rv_router_row *rows = calloc(d->n, sizeof *rows);
    rv_err e = domains && rows ? RV_OK : rv_fail(RV_E_NOMEM, "learning");
    for (size_t i = 0; i < d->n && !e; i++) {
        if (!d->at[i].test) {
            rows[n++] = d->rows[i];
        }
    }
    for (size_t t = 0; t < d->tiers; t++) {
        names[t] = d->names[t];
    }
    if (!e && dim > 0) {
        e = rv_app_domains(app, domains);
    }
    if (!e) {
        rv_router_set set = {
            rows, n, d->tiers, names, dim, d->embed ? rv_embed_name(d->embed) : "", domains
        };
        e = rv_router_train(&rv_heap, &set, how, trained, out);
    }
    (void)line;
    free(domains);
    free(rows);
    return e;
}

static rv_err save(const rv_router *r, const char *path)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    RV_TRY(rv_router_pack(&rv_heap, r, &bytes, &n));
    rv_err e = rv_file_replace(path, bytes, n);
    rv_free(&rv_heap, bytes);
    return e;
}

int cmd_router_train(cmd_line *line)
{
    const char *path = cmd_value(line, "data", NULL), *to = cmd_value(line, "out", NULL);
    int64_t seed = 1;
    rv_router_how how = rv_router_how_default();
    if (!path || (!to && strcmp(line->command->name, "router train") == 0)) {
        return cmd_usage(line, "--data FILE and --out FILE are needed");
    }
    if (!cmd_int(line, "seed", 0, INT32_MAX, &seed) ||
        !cmd_float(line, "cost-share", 0.01, 1, &how.cost_share)) {
        return CMD_USAGE;
    }
    how.seed = (uint64_t)seed;
    rv_config *config = NULL;
    rv_app *app = NULL;
    data d = { 0 };
    rv_router *r = NULL;
    rv_router_trained trained;
    cmd_bar bar;
    cmd_bar_init(&bar);
    how.progress = draw;
    how.self = &bar;
    rv_err e = choose_tiers(&d, cmd_value(line, "tiers", NULL));
    e = e ? e : cmd_open(line, 0, &config, &app);
    if (!e) {
        d.embed = rv_app_pipeline(app)->embed;
        e = read_data(&d, path);
    }
    e = e ? e : train(line, app, &d, &how, &trained, &r);
    cmd_bar_end(&bar);
    e = e ? e : save(r, to);
    e = e ? e : report(line, &d, r, &trained);
    rv_router_free(r);
    drop_data(&d);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}

/* ---- weights of the command line ---- */

static rv_err open_weights(const cmd_line *line, const rv_app *app, rv_router **out)
{
    const char *path = cmd_value(line, "weights", NULL);
    const rv_embed *embed = rv_app_pipeline((rv_app *)app)->embed;
    RV_TRY(path ? rv_router_open(&rv_heap, path, out) : rv_app_read_router(app, out));
    path = path ? path : "the router in use";
    const char *learned = rv_router_embedder(*out);
    if (rv_router_dim(*out) > 0 &&
        (strcmp(learned, rv_embed_name(embed)) != 0 || rv_router_dim(*out) != rv_embed_dim(embed))) {
        rv_err e =
            rv_fail(RV_E_CONFIG, "%s was learned with the embedder %s, configured is %s (embedding.model)",
                    path, learned, rv_embed_name(embed));
        rv_router_free(*out);
        *out = NULL;
        return e;
    }
    return RV_OK;
}

int cmd_router_eval(cmd_line *line)
{
    const char *path = cmd_value(line, "data", NULL);
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_router *r = NULL;
    data d = { 0 };
    if (!path) {
        return cmd_usage(line, "--data FILE is needed");
    }
    rv_err e = cmd_open(line, cmd_has(line, "weights") ? 0 : RV_APP_MEMORY, &config, &app);
    e = e ? e : open_weights(line, app, &r);
    if (!e) {
        d.embed = rv_app_pipeline(app)->embed;
        d.tiers = rv_router_tiers(r);
        for (size_t t = 0; t < d.tiers; t++) {
            snprintf(d.names[t], NAME_ROOM, "%s", rv_router_tier_name(r, t));
        }
        e = read_data(&d, path);
    }
    e = e ? e : report(line, &d, r, NULL);
    rv_router_free(r);
    drop_data(&d);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}

/* ---- score ---- */

typedef struct scorer {
    const rv_router *r;
    const rv_embed *embed;
    void *scratch;
    float *vector;
} scorer;

static rv_err open_scorer(const rv_router *r, const rv_embed *embed, scorer *s)
{
    *s = (scorer){ r, embed, malloc(rv_router_scratch_bytes(r)), calloc(rv_embed_dim(embed), sizeof(float)) };
    return s->scratch && s->vector ? RV_OK : rv_fail(RV_E_NOMEM, "scoring");
}

static void close_scorer(scorer *s)
{
    free(s->scratch);
    free(s->vector);
}

static rv_err score_text(scorer *s, const char *text, size_t n, rv_routed *out)
{
    RV_TRY(rv_embed_text(s->embed, text, n, s->vector));
    rv_slot_input in = input_of(s->r, text, n, s->vector);
    rv_router_route(s->r, &in, 0, s->scratch, out);
    return RV_OK;
}

static json_t *numbers_json(const float *at, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_real((double)at[i]));
    }
    return list;
}

static json_t *routed_json(const rv_router *r, const rv_routed *routed)
{
    json_t *tiers = json_array();
    for (size_t t = 0; t < routed->tiers; t++) {
        json_array_append_new(tiers, json_string(rv_router_tier_name(r, t)));
    }
    return json_pack("{s:o, s:I, s:f, s:o, s:o, s:b}", "p_right",
                     numbers_json(routed->p_right, routed->tiers), "tier", (json_int_t)routed->tier,
                     "confidence", (double)routed->confidence, "cost",
                     numbers_json(routed->cost, routed->tiers), "tiers", tiers, "seen", (int)routed->seen);
}

static rv_err score_line(scorer *s, const char *text, size_t n, json_t **out)
{
    json_t *row = NULL;
    const char *prompt = NULL;
    size_t n_prompt = 0;
    rv_routed routed;
    RV_TRY(rv_json_parse(text, n, &row));
    rv_err e = rv_json_need_string(row, "prompt", &prompt, &n_prompt);
    e = e ? e : score_text(s, prompt, n_prompt, &routed);
    if (!e) {
        *out = routed_json(s->r, &routed);
    }
    json_decref(row);
    return e;
}

int cmd_router_score(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_router *r = NULL;
    scorer s = { 0 };
    char *text = NULL;
    size_t room = 0, n = 0, number = 0;
    rv_err e = cmd_open(line, cmd_has(line, "weights") ? 0 : RV_APP_MEMORY, &config, &app);
    e = e ? e : open_weights(line, app, &r);
    e = e ? e : open_scorer(r, rv_app_pipeline(app)->embed, &s);
    while (!e && cmd_next_line(stdin, &text, &room, &n, &e)) {
        json_t *out = NULL;
        number++;
        if (n == 0) {
            continue;
        }
        e = score_line(&s, text, n, &out);
        if (e) {
            e = rv_fail(e, "line %zu: %s", number, rv_err_text());
        } else {
            cmd_print(out);
        }
    }
    free(text);
    close_scorer(&s);
    rv_router_free(r);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}

/* ---- explain ---- */

enum { REASONS = 8, SHOWN_PAST = 5 };

static json_t *past_json(const rv_router *r, const char *text, size_t n)
{
    const rv_past *past = rv_router_past(r);
    rv_past_text *read = malloc(sizeof *read);
    rv_past_found *found = malloc(sizeof *found);
    void *scratch = malloc(rv_past_scratch_bytes(past));
    json_t *list = json_array();
    if (read && found && scratch) {
        rv_past_read(text, n, read);
        rv_past_find(past, read, NULL, NULL, 0, scratch, found);
        for (size_t i = 0; i < found->n_words && i < SHOWN_PAST; i++) {
            size_t n_head;
            const char *head = rv_past_head(past, found->words[i].row, &n_head);
            n_head = rv_utf8_whole(head, n_head);
            json_t *right = json_array();
            for (size_t t = 0; t < rv_router_tiers(r); t++) {
                float q = rv_past_quality(past, found->words[i].row, t);
                json_array_append_new(right, q >= 0 ? json_real((double)q) : json_null());
            }
            json_array_append_new(list, json_pack("{s:s%, s:f, s:o}", "text", head, n_head, "likeness",
                                                  (double)found->words[i].likeness, "right", right));
        }
    }
    free(read);
    free(found);
    free(scratch);
    return list;
}

static json_t *explain(const rv_router *r, const rv_routed *routed, const char *text, size_t n)
{
    rv_router_reason why[REASONS];
    json_t *out = routed_json(r, routed), *reasons = json_array(), *parts = json_object(),
           *slots = json_array();
    rv_router_why(r, routed, routed->tier, why, REASONS);
    for (int i = 0; i < REASONS && why[i].effect != 0; i++) {
        char name[64];
        rv_slot_name(why[i].slot, name, sizeof name);
        json_array_append_new(reasons, json_pack("{s:I, s:s, s:f, s:f}", "slot", (json_int_t)why[i].slot,
                                                 "name", name, "value", (double)routed->slots[why[i].slot],
                                                 "effect", (double)why[i].effect));
    }
    for (int k = 0; k < RV_ROUTER_PARTS; k++) {
        float odds[RV_ROUTER_TIERS];
        for (size_t t = 0; t < routed->tiers; t++) {
            odds[t] = 1 / (1 + expf(-routed->part[t][k]));
        }
        json_object_set_new(parts, rv_router_part_names[k], numbers_json(odds, routed->tiers));
    }
    for (int i = 0; i < RV_SLOTS; i++) {
        json_array_append_new(slots, json_real((double)routed->slots[i]));
    }
    json_object_set_new(out, "parts", parts);
    json_object_set_new(out, "reasons", reasons);
    json_object_set_new(out, "past", past_json(r, text, n));
    json_object_set_new(out, "slots", slots);
    return out;
}

static void print_explained(const json_t *all)
{
    size_t i;
    json_t *one;
    json_int_t tier = json_integer_value(json_object_get(all, "tier"));
    printf("%s  (%s, confidence %.2f)\n",
           json_string_value(json_array_get(json_object_get(all, "tiers"), (size_t)tier)),
           json_is_true(json_object_get(all, "seen")) ? "remembered" : "predicted",
           json_number_value(json_object_get(all, "confidence")));
    json_array_foreach(json_object_get(all, "tiers"), i, one)
    {
        printf("  %-24s right %.2f  cost %.3f\n", json_string_value(one),
               json_number_value(json_array_get(json_object_get(all, "p_right"), i)),
               json_number_value(json_array_get(json_object_get(all, "cost"), i)));
    }
    printf("features that moved the cell's view of it:\n");
    json_array_foreach(json_object_get(all, "reasons"), i, one)
    {
        printf("  %+.3f  %-32s %.3f\n", json_number_value(json_object_get(one, "effect")),
               json_string_value(json_object_get(one, "name")),
               json_number_value(json_object_get(one, "value")));
    }
    printf("nearest past requests:\n");
    json_array_foreach(json_object_get(all, "past"), i, one)
    {
        const char *text = json_string_value(json_object_get(one, "text"));
        size_t n = strcspn(text, "\r\n");
        printf("  %.2f  ", json_number_value(json_object_get(one, "likeness")));
        cmd_safe(stdout, text, n);
        putchar('\n');
    }
}

int cmd_router_explain(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_router *r = NULL;
    scorer s = { 0 };
    rv_routed routed;
    size_t n = strlen(line->args[0]);
    rv_err e = cmd_open(line, cmd_has(line, "weights") ? 0 : RV_APP_MEMORY, &config, &app);
    e = e ? e : open_weights(line, app, &r);
    e = e ? e : open_scorer(r, rv_app_pipeline(app)->embed, &s);
    e = e ? e : score_text(&s, line->args[0], n, &routed);
    if (!e) {
        json_t *all = explain(r, &routed, line->args[0], n);
        if (line->json) {
            cmd_print(all);
        } else {
            print_explained(all);
            json_decref(all);
        }
    }
    close_scorer(&s);
    rv_router_free(r);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}
