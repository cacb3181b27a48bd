/* From rows to weights. Rows are dealt to five folds by their text, so that a text said twice is in one; each part predicts a
 * fold from the other four, and how the votes are weighed, what a unit of cost is worth and how sure a decision is are fitted
 * on those predictions. Then each part learns from all rows. Nothing here looks at rows that were not given. */
#include "router/router_priv.h"
#include "router/space_priv.h"

#include "kernels/kernels.h"

#include <stdio.h>
#include <string.h>

enum { FOLDS = 5, LEAST_ROWS = 20, LEAST_OUTCOMES = 10, LEXICAL_EPOCHS = 12, LEAST_DRAFTS = 50 };
#define LEXICAL_RATE  0.08f
#define LEXICAL_PRIOR 1.0f /* strength of the pull towards zero: one row's worth for each number */
#define HISTORY_PRIOR 8.0f /* rows of the mean that a centroid's history begins with */
#define LEAST_LAMBDA                                                                                         \
    0.05 /* what always taking the last tier costs in probability, however little is asked for */

typedef struct trainer {
    const rv_alloc *mem;
    const rv_router_set *set;
    const rv_router_how *how;
    rv_router *r;
    const float **vector; /* [n] NULL: none, or all zero */
    float *surface;       /* [n][RV_SURFACE] scaled */
    size_t *gram_at;      /* [n + 1] */
    uint16_t *gram;
    float *gram_weight;
    size_t gram_room;
    uint32_t *rows_with;  /* [RV_PAST_BUCKETS] */
    float *slots;         /* [n][RV_SLOTS] scaled */
    int *cluster;         /* [n] */
    uint8_t *fold;        /* [n] */
    bool *stop_set;       /* [n] rows that tell the cell when to stop */
    uint32_t *order;      /* [n] */
    float *part;          /* [n][tiers][RV_ROUTER_PARTS] log odds by parts that had not seen the row */
    float *cost;          /* [n][tiers] expected */
    rv_past_found *found; /* [n] */
    double together;      /* how much of a tier's chance is left when another one was wrong */
    float *squares;       /* of one lexical model: [router_lexical_size] */
    void *scratch;
    size_t done, total;
} trainer;

static void step_done(trainer *t)
{
    t->done++;
    if (t->how->progress) {
        t->how->progress(t->how->self, t->done, t->total);
    }
}

static bool known(const rv_router_row *row, size_t tier)
{
    return row->quality[tier] >= 0 && !(row->second >> tier & 1);
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
            outcomes[t] += known(&set->rows[i], t);
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

/* ---- what is known of each row ---- */

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
    t->squares = rv_new_array(mem, router_lexical_size(t->set->dim), sizeof(float));
    bool good = t->vector && t->surface && t->gram_at && t->rows_with && t->slots && t->cluster && t->fold &&
                t->stop_set && t->order && t->part && t->cost && t->found && t->squares;
    return good ? RV_OK : rv_fail(RV_E_NOMEM, "router training");
}

static void drop_arrays(trainer *t)
{
    void *arrays[] = { t->vector, t->surface, t->gram_at, t->gram,     t->gram_weight, t->rows_with,
                       t->slots,  t->cluster, t->fold,    t->stop_set, t->order,       t->part,
                       t->cost,   t->found,   t->squares, t->scratch };
    for (size_t i = 0; i < RV_COUNT(arrays); i++) {
        rv_free(t->mem, arrays[i]);
    }
}

static rv_err keep_grams(trainer *t, size_t row, const rv_past_text *text)
{
    size_t at = t->gram_at[row], need = at + text->n_grams;
    if (need > t->gram_room) {
        size_t room = 2 * need;
        uint16_t *gram = rv_resize(t->mem, t->gram, room * sizeof *gram);
        t->gram = gram ? gram : t->gram;
        float *weight = rv_resize(t->mem, t->gram_weight, room * sizeof *weight);
        t->gram_weight = weight ? weight : t->gram_weight;
        if (!gram || !weight) {
            return rv_fail(RV_E_NOMEM, "router training");
        }
        t->gram_room = room;
    }
    for (size_t i = 0; i < text->n_grams; i++) {
        t->gram[at + i] = text->gram[i];
        t->gram_weight[at + i] = text->count[i]; /* weighed once it is known how rare each is */
        t->rows_with[text->gram[i]]++;
    }
    t->gram_at[row + 1] = need;
    return RV_OK;
}

static bool is_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (x[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Mean and spread of columns of [n][cols]. */
static void measure_columns(const float *x, size_t n, size_t cols, float *mean, float *spread)
{
    for (size_t c = 0; c < cols; c++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            sum += x[i * cols + c];
            squares += (double)x[i * cols + c] * x[i * cols + c];
        }
        double m = sum / (double)n, v = squares / (double)n - m * m;
        mean[c] = (float)m;
        spread[c] = (float)sqrt(v > 0 ? v : 0);
    }
}

static void measure_cover(trainer *t)
{
    double n = 0, sum[RV_COVER] = { 0 }, squares[RV_COVER] = { 0 };
    for (size_t i = 0; i < t->set->n; i++) {
        const float *c = t->set->rows[i].cover;
        n += c != NULL;
        for (int k = 0; c && k < RV_COVER; k++) {
            sum[k] += c[k];
            squares[k] += (double)c[k] * c[k];
        }
    }
    for (int k = 0; k < RV_COVER && n > 0; k++) {
        double mean = sum[k] / n;
        t->r->cover_mean[k] = (float)mean;
        t->r->cover_spread[k] = (float)sqrt(fmax(0, squares[k] / n - mean * mean));
    }
}

static rv_err read_rows(trainer *t)
{
    const rv_router_set *set = t->set;
    rv_past_text text;
    RV_TRY(rv_past_new(t->mem, set->tiers, set->dim, &t->r->past));
    for (size_t i = 0; i < set->n; i++) {
        const rv_router_row *row = &set->rows[i];
        t->vector[i] = set->dim > 0 && row->vector && !is_zero(row->vector, set->dim) ? row->vector : NULL;
        rv_surface(row->text, row->n, t->surface + i * RV_SURFACE);
        rv_past_read(row->text, row->n, &text);
        RV_TRY(keep_grams(t, i, &text));
        uint64_t hash = rv_hash64(text.word, text.n_words * sizeof *text.word, 3);
        t->fold[i] = (uint8_t)(hash % FOLDS);
        t->stop_set[i] = hash / FOLDS % 8 == 0;
        RV_TRY(
            rv_past_add(t->r->past, &(rv_past_row){ &text, row->text, row->n, t->vector[i], row->quality }));
    }
    RV_TRY(rv_past_seal(t->r->past));
    measure_columns(t->surface, set->n, RV_SURFACE, t->r->surface_mean, t->r->surface_spread);
    for (int g = 0; g < RV_PAST_BUCKETS; g++) {
        /* What stands in one row only says nothing about others. */
        t->r->rarity[g] = t->rows_with[g] > 1 ? logf(1 + (float)set->n / (float)t->rows_with[g]) : 0;
    }
    for (size_t i = 0; i < set->n; i++) {
        float *surface = t->surface + i * RV_SURFACE, scaled[RV_SURFACE];
        router_scale_surface(t->r, surface, scaled);
        memcpy(surface, scaled, sizeof scaled);
        size_t at = t->gram_at[i];
        rv_past_text one = { .n_grams = t->gram_at[i + 1] - at };
        memcpy(one.gram, t->gram + at, one.n_grams * sizeof *one.gram);
        memcpy(one.count, t->gram_weight + at, one.n_grams * sizeof *one.count);
        router_weigh_grams(t->r, &one, t->gram_weight + at);
    }
    return RV_OK;
}

static void count_history(trainer *t)
{
    router_history *h = &t->r->history;
    for (size_t i = 0; i < t->set->n; i++) {
        for (size_t m = 0; t->cluster[i] >= 0 && m < t->set->tiers; m++) {
            if (known(&t->set->rows[i], m)) {
                h->quality[t->cluster[i]][m] += t->set->rows[i].quality[m];
                h->count[t->cluster[i]][m] += 1;
            }
        }
    }
}

/* A row's history is that of the others: its own outcome would tell what is asked. */
static void history_without(const trainer *t, size_t row, rv_slot_history out[RV_SLOT_MODELS])
{
    int c = t->cluster[row];
    for (size_t m = 0; c >= 0 && m < t->set->tiers && m < RV_SLOT_MODELS; m++) {
        float sum = t->r->history.quality[c][m], count = t->r->history.count[c][m];
        if (known(&t->set->rows[row], m)) {
            sum -= t->set->rows[row].quality[m];
            count -= 1;
        }
        float q = (sum + HISTORY_PRIOR * t->r->base[m]) / (count + HISTORY_PRIOR);
        out[m] = (rv_slot_history){ .quality = q, .success = q, .count = (uint32_t)count };
    }
}

static rv_err fill_slots(trainer *t)
{
    rv_router *r = t->r;
    const rv_router_set *set = t->set;
    if (set->dim > 0) {
        float *mean = r->space + RV_SLOT_DOMAINS * set->dim, *axes = mean + set->dim,
              *centroids = axes + RV_SLOT_PCS * set->dim, *spread = centroids + RV_SLOT_CENTROIDS * set->dim;
        memcpy(r->space, set->domains, RV_SLOT_DOMAINS * set->dim * sizeof *r->space);
        RV_TRY(router_find_space(t->mem, t->vector, set->n, set->dim, t->how->seed, mean, axes, spread,
                                 centroids));
    }
    router_point_axes(r);
    for (size_t i = 0; i < set->n; i++) {
        const rv_router_row *row = &set->rows[i];
        rv_slot_input in = { .text = row->text,
                             .n = row->n,
                             .vector = t->vector[i],
                             .device = 2,
                             .distances = row->distances,
                             .kinds = row->kinds,
                             .n_hits = row->n_hits,
                             .cover = row->cover,
                             .k = row->n_hits };
        rv_slots_fill(&r->axes, &in, t->slots + i * RV_SLOTS, &t->cluster[i]);
    }
    count_history(t);
    for (size_t i = 0; i < set->n; i++) {
        rv_slot_history history[RV_SLOT_MODELS] = { 0 };
        history_without(t, i, history);
        rv_slots_history(history, t->slots + i * RV_SLOTS);
    }
    measure_columns(t->slots, set->n, RV_SLOTS, r->slot_mean, r->slot_spread);
    for (size_t i = 0; i < set->n; i++) {
        float scaled[RV_SLOTS];
        router_scale_slots(r, t->slots + i * RV_SLOTS, scaled);
        memcpy(t->slots + i * RV_SLOTS, scaled, sizeof scaled);
    }
    for (int c = 0; c < RV_SLOT_CENTROIDS; c++) {
        for (size_t m = 0; m < set->tiers; m++) {
            float *q = &r->history.quality[c][m];
            *q = (*q + HISTORY_PRIOR * r->base[m]) / (r->history.count[c][m] + HISTORY_PRIOR);
        }
    }
    return RV_OK;
}

static void find_base(trainer *t)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        double sum = 0, n = 0;
        for (size_t i = 0; i < t->set->n; i++) {
            if (known(&t->set->rows[i], m)) {
                sum += t->set->rows[i].quality[m];
                n += 1;
            }
        }
        t->r->base[m] = (float)(sum / n);
    }
}

/* ---- the cell ---- */

typedef struct cell_task {
    const trainer *t;
    const uint32_t *rows; /* [n] */
} cell_task;

static size_t cell_sample(void *self, size_t i, rv_rng *rng, float *x)
{
    const cell_task *task = self;
    (void)rng;
    memcpy(x, task->t->slots + (size_t)task->rows[i] * RV_SLOTS, RV_SLOTS * sizeof *x);
    return 1;
}

static double cell_loss(void *self, size_t i, const float *out, float *d_out)
{
    const cell_task *task = self;
    const rv_router_row *row = &task->t->set->rows[task->rows[i]];
    double loss = 0;
    for (size_t m = 0; m < task->t->set->tiers; m++) {
        double p = 1 / (1 + exp(-out[m])), q = row->quality[m];
        bool there = known(row, m);
        loss -= there ? row->weight * (q * log(fmax(p, 1e-12)) + (1 - q) * log(fmax(1 - p, 1e-12))) : 0;
        if (d_out) {
            d_out[m] = there ? row->weight * (float)(p - q) : 0;
        }
    }
    return loss;
}

/* From all rows but those of a fold (FOLDS: from all). */
static rv_err train_cell(trainer *t, int without, rv_grnn **out)
{
    uint32_t *rows = t->order;
    size_t n = 0, n_stop = 0;
    bool *stop = rv_new_array(t->mem, t->set->n, sizeof *stop);
    rv_grnn_fit *fit = NULL;
    rv_grnn_report report;
    rv_grnn_shape shape = { RV_SLOTS, t->how->hidden, t->set->tiers, 0, t->how->rank };
    rv_err e =
        stop ? rv_grnn_fit_new(t->mem, &shape, t->how->seed, &fit) : rv_fail(RV_E_NOMEM, "router training");
    if (!e) {
        for (size_t i = 0; i < t->set->n; i++) {
            if (t->fold[i] != without) {
                stop[n] = t->stop_set[i];
                n_stop += stop[n];
                rows[n++] = (uint32_t)i;
            }
        }
        for (size_t m = 0; m < t->set->tiers; m++) {
            rv_grnn_fit_part(fit, RV_GRNN_B)[m] = router_log_odds(t->r->base[m]);
        }
        cell_task self = { t, rows };
        rv_grnn_task task = { &self, n, cell_sample, cell_loss, n_stop > 0 && n_stop < n ? stop : NULL };
        rv_grnn_how how = { .epochs = { 12, 6, 6 },
                            .batch = 32,
                            .patience = 5,
                            .rate = 3e-3,
                            .clip = 1,
                            .decay = 0.05,
                            .sparsity = t->how->sparsity,
                            .int8 = t->how->int8,
                            .seed = t->how->seed };
        e = rv_grnn_fit_run(fit, &task, &how, &report);
    }
    if (!e) {
        e = rv_grnn_from_fit(t->mem, fit, t->how->int8, out);
    }
    rv_grnn_fit_free(fit);
    rv_free(t->mem, stop);
    step_done(t);
    return e;
}

/* ---- the lexical part ---- */

static router_lexical_row lexical_row(const trainer *t, size_t i)
{
    router_lexical_row row = { .vector = t->vector[i],
                               .gram = t->gram + t->gram_at[i],
                               .weight = t->gram_weight + t->gram_at[i],
                               .n = t->gram_at[i + 1] - t->gram_at[i] };
    memcpy(row.surface, t->surface + i * RV_SURFACE, sizeof row.surface);
    return row;
}

static void nudge(float *w, float *squares, float gradient)
{
    *squares += gradient * gradient;
    *w -= LEXICAL_RATE * gradient / sqrtf(*squares + 1e-6f);
}

/* AdaGrad: a number that rarely moves takes larger steps. The pull to zero of a gram is spread over the rows that have it. */
static void learn_row(trainer *t, float *w, const router_lexical_row *row, float d)
{
    const size_t dim = t->set->dim;
    float *s = t->squares, all = LEXICAL_PRIOR / (float)t->set->n;
    for (size_t i = 0; i < RV_SURFACE; i++) {
        nudge(w + i, s + i, d * row->surface[i] + all * w[i]);
    }
    w += RV_SURFACE;
    s += RV_SURFACE;
    for (size_t i = 0; row->vector && i < dim; i++) {
        nudge(w + i, s + i, d * row->vector[i] + all * w[i]);
    }
    w += dim;
    s += dim;
    for (size_t i = 0; i < row->n; i++) {
        uint16_t g = row->gram[i];
        if (row->weight[i] > 0) {
            nudge(w + g, s + g, d * row->weight[i] + LEXICAL_PRIOR / (float)t->rows_with[g] * w[g]);
        }
    }
    nudge(w + RV_PAST_BUCKETS, s + RV_PAST_BUCKETS, d);
}

static void train_lexical(trainer *t, int without, size_t tier, float *w)
{
    rv_rng rng;
    size_t n = 0, size = router_lexical_size(t->set->dim);
    rv_rng_init(&rng, t->how->seed);
    memset(w, 0, size * sizeof *w);
    memset(t->squares, 0, size * sizeof *t->squares);
    w[size - 1] = router_log_odds(t->r->base[tier]);
    for (size_t i = 0; i < t->set->n; i++) {
        if (t->fold[i] != without && known(&t->set->rows[i], tier)) {
            t->order[n++] = (uint32_t)i;
        }
    }
    for (int epoch = 0; epoch < LEXICAL_EPOCHS; epoch++) {
        for (size_t i = n; i > 1; i--) {
            size_t j = rv_rng_below(&rng, i);
            uint32_t other = t->order[j];
            t->order[j] = t->order[i - 1];
            t->order[i - 1] = other;
        }
        for (size_t i = 0; i < n; i++) {
            const rv_router_row *row = &t->set->rows[t->order[i]];
            router_lexical_row lexical = lexical_row(t, t->order[i]);
            float p = 1 / (1 + expf(-router_lexical(t->r, w, &lexical)));
            learn_row(t, w, &lexical, row->weight * (p - row->quality[tier]));
        }
    }
}

/* ---- small fits ---- */

enum { FIT_MAX = ROUTER_COSTS > ROUTER_COVER ? ROUTER_COSTS : ROUTER_COVER };

/* Solves A x = b, A [n][n] positive definite, in place; b becomes x. */
static void solve(double a[FIT_MAX][FIT_MAX], double *b, size_t n)
{
    for (size_t c = 0; c < n; c++) {
        for (size_t r = c + 1; r < n; r++) {
            double f = a[r][c] / a[c][c];
            for (size_t k = c; k < n; k++) {
                a[r][k] -= f * a[c][k];
            }
            b[r] -= f * b[c];
        }
    }
    for (size_t c = n; c-- > 0;) {
        for (size_t k = c + 1; k < n; k++) {
            b[c] -= a[c][k] * b[k];
        }
        b[c] /= a[c][c];
    }
}

typedef struct fit_rows {
    const trainer *t;
    size_t tier, n; /* n numbers a row */
    /* fills x [n] and y; false: the row does not count */
    bool (*row)(const struct fit_rows *f, size_t i, double *x, double *y);
    int without; /* of cover_row: a fold */
} fit_rows;

/* Logistic regression by Newton's steps, drawn to start with the given strength. */
static void fit_logistic(const fit_rows *f, double ridge, float *w)
{
    double start[FIT_MAX], x[FIT_MAX], y;
    for (size_t k = 0; k < f->n; k++) {
        start[k] = w[k];
    }
    for (int round = 0; round < 12; round++) {
        double a[FIT_MAX][FIT_MAX] = { { 0 } }, b[FIT_MAX] = { 0 };
        for (size_t i = 0; i < f->t->set->n; i++) {
            double sum = 0;
            if (!f->row(f, i, x, &y)) {
                continue;
            }
            for (size_t k = 0; k < f->n; k++) {
                sum += w[k] * x[k];
            }
            double p = 1 / (1 + exp(-sum)), v = p * (1 - p);
            for (size_t k = 0; k < f->n; k++) {
                b[k] += (y - p) * x[k];
                for (size_t l = 0; l < f->n; l++) {
                    a[k][l] += v * x[k] * x[l];
                }
            }
        }
        for (size_t k = 0; k < f->n; k++) {
            a[k][k] += ridge;
            b[k] -= ridge * (w[k] - start[k]);
        }
        solve(a, b, f->n);
        for (size_t k = 0; k < f->n; k++) {
            w[k] += (float)b[k];
        }
    }
}

static bool cover_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const rv_router_row *row = &f->t->set->rows[i];
    if (!row->cover || f->t->fold[i] == f->without || !known(row, f->tier)) {
        return false;
    }
    router_spread_cover(f->t->r, row->cover, x);
    *y = row->quality[f->tier];
    return true;
}

/* ---- predictions for rows not seen ---- */

static float *part_of(const trainer *t, size_t row, size_t tier)
{
    return t->part + (row * t->set->tiers + tier) * RV_ROUTER_PARTS;
}

/* routed has tiers; p_right as parts that had not seen row i foretell it. */
static void chances_of(const trainer *t, size_t i, rv_routed *routed)
{
    for (size_t m = 0; m < routed->tiers; m++) {
        memcpy(routed->part[m], part_of(t, i, m), sizeof routed->part[m]);
    }
    router_chances(t->r, routed);
}

/* From all rows but those of a fold (FOLDS: from all). */
static void train_cover(trainer *t, int without, size_t tier)
{
    fit_rows f = { t, tier, ROUTER_COVER, cover_row, without };
    float *w = t->r->cover[tier];
    memset(w, 0, ROUTER_COVER * sizeof *w);
    w[2 * RV_COVER] = router_log_odds(t->r->base[tier]);
    fit_logistic(&f, 5, w);
}

static rv_err predict_fold(trainer *t, int fold)
{
    rv_grnn *cell = NULL;
    float *w = t->r->lexical, out[RV_ROUTER_TIERS];
    RV_TRY(train_cell(t, fold, &cell));
    for (size_t i = 0; i < t->set->n; i++) {
        float h[RV_GRNN_MAX_HIDDEN] = { 0 };
        if (t->fold[i] != fold) {
            continue;
        }
        rv_grnn_step(cell, t->slots + i * RV_SLOTS, h);
        rv_grnn_head(cell, h, out);
        for (size_t m = 0; m < t->set->tiers; m++) {
            part_of(t, i, m)[0] = out[m];
        }
    }
    rv_grnn_free(cell);
    for (size_t m = 0; m < t->set->tiers; m++) {
        train_lexical(t, fold, m, w);
        train_cover(t, fold, m);
        for (size_t i = 0; i < t->set->n; i++) {
            if (t->fold[i] == fold) {
                router_lexical_row row = lexical_row(t, i);
                part_of(t, i, m)[1] = router_lexical(t->r, w, &row);
                part_of(t, i, m)[4] = router_vote_cover(t->r, t->set->rows[i].cover, m);
            }
        }
    }
    rv_past_text text;
    for (size_t i = 0; i < t->set->n; i++) {
        if (t->fold[i] == fold) {
            rv_past_read(t->set->rows[i].text, t->set->rows[i].n, &text);
            rv_past_find(t->r->past, &text, t->vector[i], t->fold, fold, t->scratch, &t->found[i]);
            for (size_t m = 0; m < t->set->tiers; m++) {
                float *part = part_of(t, i, m), base = t->r->base[m];
                part[2] = router_vote_past(t->r->past, t->found[i].words, t->found[i].n_words, m, base);
                part[3] = router_vote_past(t->r->past, t->found[i].meaning, t->found[i].n_meaning, m, base);
            }
        }
    }
    step_done(t);
    return RV_OK;
}

/* ---- votes and prices ---- */

static bool vote_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const float *part = part_of(f->t, i, f->tier);
    for (int p = 0; p < RV_ROUTER_PARTS; p++) {
        x[p] = part[p];
    }
    x[RV_ROUTER_PARTS] = 1;
    *y = f->t->set->rows[i].quality[f->tier];
    return known(&f->t->set->rows[i], f->tier);
}

static void fit_votes(trainer *t)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        fit_rows f = { t, m, ROUTER_VOTES, vote_row, FOLDS };
        for (int p = 0; p < RV_ROUTER_PARTS; p++) {
            t->r->votes[m][p] = 0.4f;
        }
        t->r->votes[m][RV_ROUTER_PARTS] = -0.6f * router_log_odds(t->r->base[m]);
        fit_logistic(&f, 5, t->r->votes[m]);
    }
}

static void find_level(trainer *t)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        double sum = 0;
        for (size_t i = 0; i < t->set->n; i++) {
            const float *part = part_of(t, i, m);
            sum += t->r->votes[m][RV_ROUTER_PARTS];
            for (int p = 0; p < RV_ROUTER_PARTS; p++) {
                sum += t->r->votes[m][p] * part[p];
            }
        }
        t->r->level[m] = (float)(sum / (double)t->set->n);
    }
}

/* Cost grows with what is asked and answered; its logarithm is about linear in the statistics of the text. */
static void fit_costs(trainer *t)
{
    double unit = 0, n_unit = 0;
    size_t last = t->set->tiers - 1;
    for (size_t i = 0; i < t->set->n; i++) {
        double c = t->set->rows[i].cost[last];
        unit += c > 0 ? c : 0;
        n_unit += c > 0;
    }
    unit = n_unit > 0 ? unit / n_unit : 1;
    for (size_t m = 0; m < t->set->tiers; m++) {
        double a[FIT_MAX][FIT_MAX] = { { 0 } }, b[FIT_MAX] = { 0 }, n = 0;
        for (size_t i = 0; i < t->set->n; i++) {
            double c = t->set->rows[i].cost[m], x[FIT_MAX];
            if (!(c > 0)) {
                continue;
            }
            for (int k = 0; k < RV_SURFACE; k++) {
                x[k] = t->surface[i * RV_SURFACE + (size_t)k];
            }
            x[RV_SURFACE] = 1;
            n += 1;
            for (int k = 0; k < ROUTER_COSTS; k++) {
                b[k] += x[k] * log(c / unit);
                for (int l = 0; l < ROUTER_COSTS; l++) {
                    a[k][l] += x[k] * x[l];
                }
            }
        }
        for (int k = 0; k < ROUTER_COSTS; k++) {
            a[k][k] += 1;
        }
        if (n > 0) {
            solve(a, b, ROUTER_COSTS);
        } else { /* nothing is known: each tier twice the one before */
            b[RV_SURFACE] = log(2) * ((double)m - (double)last);
        }
        double log_mean = 0, mean = 0;
        for (int k = 0; k < ROUTER_COSTS; k++) {
            t->r->costs[m][k] = (float)b[k];
        }
        for (size_t i = 0; i < t->set->n; i++) {
            double sum = b[RV_SURFACE], c = t->set->rows[i].cost[m];
            for (int k = 0; k < RV_SURFACE; k++) {
                sum += b[k] * t->surface[i * RV_SURFACE + (size_t)k];
            }
            t->cost[i * t->set->tiers + m] = (float)exp(fmin(sum, 10));
            log_mean += c > 0 ? exp(fmin(sum, 10)) : 0;
            mean += c > 0 ? c / unit : 0;
        }
        /* The mean of an exponential is more than the exponential of the mean. */
        float up = n > 0 && log_mean > 0 ? (float)(mean / log_mean) : 1;
        t->r->costs[m][RV_SURFACE] += logf(up);
        for (size_t i = 0; i < t->set->n; i++) {
            t->cost[i * t->set->tiers + m] *= up;
        }
    }
}

/* How far a remembered outcome is to be believed when words are missing: on rows not seen, such a neighbour is another request;
 * when the same was really said again it is certain. Halfway between. */
static void fit_trust(trainer *t)
{
    double above = 0, below = 0;
    for (size_t i = 0; i < t->set->n; i++) {
        rv_routed routed = { .tiers = t->set->tiers };
        float surely;
        if (!router_is_same(&t->found[i], &surely) || surely > 0) {
            continue;
        }
        chances_of(t, i, &routed);
        for (size_t m = 0; m < routed.tiers; m++) {
            double p = routed.p_right[m], q = rv_past_quality(t->r->past, t->found[i].words[0].row, m);
            if (q >= 0 && known(&t->set->rows[i], m)) {
                above += (q - p) * (t->set->rows[i].quality[m] - p);
                below += (q - p) * (q - p);
            }
        }
    }
    double w = below > 0 ? above / below : 0.5;
    t->r->trust = (float)(0.5 * (1 + fmin(1, fmax(0, w))));
}

/* Draft answers whose confidence and outcome are known: how much the confidence says. */
static bool draft_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const rv_router_row *row = &f->t->set->rows[i];
    if (!known(row, f->tier) || !(row->draft[f->tier] > 0)) {
        return false;
    }
    rv_routed routed = { .tiers = f->t->set->tiers };
    chances_of(f->t, i, &routed);
    x[0] = router_log_odds(routed.p_right[f->tier]);
    x[1] = router_log_odds(row->draft[f->tier]);
    x[2] = 1;
    *y = row->quality[f->tier];
    return true;
}

static void fit_drafts(trainer *t)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        fit_rows f = { t, m, ROUTER_DRAFTS, draft_row, FOLDS };
        double x[ROUTER_DRAFTS], y;
        size_t n = 0;
        for (size_t i = 0; i < t->set->n; i++) {
            n += draft_row(&f, i, x, &y);
        }
        t->r->drafts[m][0] = 1;
        if (n >= LEAST_DRAFTS) {
            fit_logistic(&f, 1, t->r->drafts[m]);
        }
    }
}

/* A draft whose confidence is known, and what became of a larger tier on the same question. */
static bool carry_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const rv_router_row *row = &f->t->set->rows[i];
    size_t tiers = f->t->set->tiers, draft = 0, other;
    rv_routed routed = { .tiers = tiers };
    float now, then;
    while (draft < tiers && !(row->draft[draft] > 0 && f->t->r->drafts[draft][1] != 0)) {
        draft++;
    }
    for (other = draft + 1; other < tiers && !(row->quality[other] >= 0); other++) {
    }
    if (other >= tiers) {
        return false;
    }
    chances_of(f->t, i, &routed);
    router_judge_draft(f->t->r, &routed, draft, row->draft[draft], other, &now, &then);
    x[0] = router_log_odds(routed.p_right[other]);
    x[1] = router_log_odds(now) - router_log_odds(routed.p_right[draft]);
    *y = row->quality[other];
    return true;
}

static void fit_carry(trainer *t)
{
    /* Of three tiers on 3,000 questions a slope of 0.27 of the draft's own: where little is known it begins there. */
    t->r->carry[0] = 1;
    t->r->carry[1] = 0.3f;
    fit_logistic(&(fit_rows){ t, 0, ROUTER_CARRY, carry_row, FOLDS }, 10, t->r->carry);
}

/* What a decision is on a row that was not seen. */
static void decide(const trainer *t, size_t i, rv_routed *out)
{
    *out = (rv_routed){ .tiers = t->set->tiers };
    for (size_t m = 0; m < t->set->tiers; m++) {
        memcpy(out->part[m], part_of(t, i, m), sizeof out->part[m]);
        out->cost[m] = t->cost[i * t->set->tiers + m];
    }
    router_judge(t->r, &t->found[i], 0, out);
}

/* Cost of a tier on a row: what it was, else what is expected. */
static double true_cost(const trainer *t, size_t i, size_t m)
{
    double c = t->set->rows[i].cost[m];
    return c >= 0 ? c : t->cost[i * t->set->tiers + m];
}

static bool all_known(const trainer *t, size_t i)
{
    for (size_t m = 0; m < t->set->tiers; m++) {
        if (!known(&t->set->rows[i], m)) {
            return false;
        }
    }
    return true;
}

/* Drafts of a tier among the decisions: how many there are whose confidence is known, how many of those are thrown away, and what
 * going on would cost those of which it is not known. */
typedef struct drafts_of {
    double known, thrown, unknown_cost;
} drafts_of;

/* What going on after tier costs on row i, when it is known. */
static double cost_of_going_on(const trainer *t, size_t i, const rv_routed *routed, size_t tier,
                               drafts_of *of)
{
    size_t next = 0;
    float draft = t->set->rows[i].draft[tier];
    if (!rv_router_checks(t->r, routed, tier, UINT32_MAX)) {
        return 0;
    }
    bool thrown = rv_router_escalates(t->r, routed, tier, draft > 0 ? draft : 0.5f, UINT32_MAX, &next);
    if (!(draft > 0)) {
        of->unknown_cost += true_cost(t, i, next);
        return 0;
    }
    of->known += 1;
    of->thrown += thrown;
    return thrown ? true_cost(t, i, next) : 0;
}

/* How much of a tier's chance is left when another one was wrong: of rows where both are known, drawn to what was measured. */
static void find_together(trainer *t)
{
    double right = 3, chance = 10;
    for (size_t i = 0; i < t->set->n; i++) {
        const float *q = t->set->rows[i].quality;
        for (size_t m = 0; m < t->set->tiers; m++) {
            for (size_t o = 0; o < t->set->tiers; o++) {
                bool both = o != m && q[m] >= 0 && q[m] < 0.5f && q[o] >= 0;
                right += both ? q[o] : 0;
                chance += both ? t->r->base[o] : 0;
            }
        }
    }
    t->together = fmin(1, right / chance);
}

/* Whether the usual tier (without one: any other) would have answered better than the decision: 1 or 0 where outcomes are known; where only
 * its own is, how likely that is. What it would have cost is no part of this. */
static bool doubt_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const trainer *t = f->t;
    const rv_router_row *row = &t->set->rows[i];
    rv_routed routed;
    decide(t, i, &routed);
    if (!known(row, routed.tier)) {
        return false;
    }
    bool usual = t->how->usual < t->set->tiers;
    double best = -1e9, second = -1e9, none_better = 1, own = row->quality[routed.tier];
    for (size_t m = 0; m < t->set->tiers; m++) {
        double price = t->r->lambda * routed.cost[m], hoped = routed.p_right[m] - price;
        if (hoped > best) {
            second = best;
            best = hoped;
        } else if (hoped > second) {
            second = hoped;
        }
        double better = row->quality[m] >= 0 ? row->quality[m] > own + 0.05
                                             : (own < 0.5) * t->together * routed.p_right[m];
        none_better *= m == routed.tier || (usual && m != t->how->usual) ? 1 : 1 - better;
    }
    x[0] = 1;
    x[1] = routed.p_right[routed.tier];
    x[2] = second > -1e9 ? best - second : 1;
    x[3] = routed.seen;
    *y = none_better;
    return true;
}

static void fit_doubts(trainer *t)
{
    memset(t->r->doubts, 0, sizeof t->r->doubts);
    fit_logistic(&(fit_rows){ t, 0, ROUTER_DOUBTS, doubt_row, FOLDS }, 1, t->r->doubts);
}

/* What decisions at this price cost on all rows, with the usual tier where they are not sure enough, and drafts; quality where it is known
 * of every tier, else as expected. */
static void try_lambda(trainer *t, float lambda, double *quality, double *share)
{
    double q = 0, cost = 0, big = 0, n = (double)t->set->n;
    drafts_of drafts[RV_ROUTER_TIERS] = { { 0 } };
    rv_choice_how how = { .allowed = UINT32_MAX, .usual = t->how->usual, .threshold = t->how->threshold };
    t->r->lambda = lambda;
    fit_doubts(t);
    for (size_t i = 0; i < t->set->n; i++) {
        rv_routed routed;
        decide(t, i, &routed);
        size_t tier = rv_router_choose(&routed, &how).tier;
        q += all_known(t, i) ? t->set->rows[i].quality[tier] : routed.p_right[tier];
        cost += true_cost(t, i, tier) + cost_of_going_on(t, i, &routed, tier, &drafts[tier]);
        big += true_cost(t, i, t->set->tiers - 1);
    }
    for (size_t m = 0; m < t->set->tiers; m++) {
        cost += drafts[m].known > 0 ? drafts[m].unknown_cost * drafts[m].thrown / drafts[m].known : 0;
    }
    *quality = q / n;
    *share = big > 0 ? cost / big : 1;
}

/* How much of what sets the tiers apart is believed: whatever foretells best how much better one was than another, where both are
 * known. */
static void fit_pool(trainer *t)
{
    static const float tries[] = { 0, 0.25f, 0.5f, 0.75f, 1 };
    size_t tiers = t->set->tiers;
    double least = INFINITY;
    float kept = 0;
    for (size_t k = 0; k < RV_COUNT(tries); k++) {
        double missed = 0;
        t->r->pool = tries[k];
        for (size_t i = 0; i < t->set->n; i++) {
            const rv_router_row *row = &t->set->rows[i];
            rv_routed routed = { .tiers = tiers };
            chances_of(t, i, &routed);
            for (size_t a = 0; a < tiers; a++) {
                for (size_t b = 0; b < a && known(row, a); b++) {
                    double d = row->quality[a] - row->quality[b] - (routed.p_right[a] - routed.p_right[b]);
                    missed += known(row, b) ? d * d : 0;
                }
            }
        }
        if (missed < least) {
            least = missed;
            kept = tries[k];
        }
    }
    t->r->pool = kept;
}

/* Cost of the cheapest tier alone: nothing can cost less. */
static double least_share(const trainer *t)
{
    double least = 0, big = 0;
    for (size_t i = 0; i < t->set->n; i++) {
        double cheapest = INFINITY;
        for (size_t m = 0; m < t->set->tiers; m++) {
            cheapest = fmin(cheapest, true_cost(t, i, m));
        }
        least += cheapest;
        big += true_cost(t, i, t->set->tiers - 1);
    }
    return big > 0 ? fmin(1, least / big) : 0;
}

/* The smallest price of cost that keeps what is done within the share asked for: halving, because cost falls as the price rises. Where it
 * does not (dear decisions may be less sure ones), the price that costs least of those tried. */
static void fit_lambda(trainer *t, rv_router_trained *trained)
{
    double least = least_share(t), goal = fmax(t->how->cost_share, least + 0.15 * (1 - least));
    double low = LEAST_LAMBDA, high = 4, best = low, quality, share, least_seen;
    try_lambda(t, (float)low, &quality, &least_seen);
    high = least_seen <= goal ? low : high;
    for (int round = 0; round < 14 && low < high; round++) {
        double middle = sqrt(low * high);
        try_lambda(t, (float)middle, &quality, &share);
        if (share > goal) {
            low = middle;
        } else {
            high = middle;
        }
        if (share <= goal || (least_seen > goal && share < least_seen)) {
            best = middle;
            least_seen = share;
        }
    }
    try_lambda(t, (float)best, &trained->quality, &trained->cost);
    trained->lambda = best;
}

static void report_losses(const trainer *t, rv_router_trained *out)
{
    double n[RV_ROUTER_TIERS] = { 0 };
    for (size_t i = 0; i < t->set->n; i++) {
        rv_routed routed = { .tiers = t->set->tiers };
        chances_of(t, i, &routed);
        for (size_t m = 0; m < routed.tiers; m++) {
            double q = t->set->rows[i].quality[m];
            if (!known(&t->set->rows[i], m)) {
                continue;
            }
            n[m] += 1;
            for (int p = 0; p <= RV_ROUTER_PARTS; p++) {
                double z = p < RV_ROUTER_PARTS ? routed.part[m][p] : router_log_odds(routed.p_right[m]);
                out->loss[m][p] += log1p(exp(-fabs(z))) + fmax(z, 0) - q * z;
            }
        }
    }
    for (size_t m = 0; m < t->set->tiers; m++) {
        for (int p = 0; p <= RV_ROUTER_PARTS; p++) {
            out->loss[m][p] /= n[m];
        }
    }
    out->pool = t->r->pool;
}

/* ---- all of it ---- */

static rv_err train_all(trainer *t, rv_router_trained *trained)
{
    rv_router *r = t->r;
    t->total = 2 * FOLDS + 4;
    find_base(t);
    measure_cover(t);
    RV_TRY(read_rows(t));
    step_done(t);
    RV_TRY(fill_slots(t));
    step_done(t);
    t->scratch = rv_new(t->mem, rv_past_scratch_bytes(r->past));
    if (!t->scratch) {
        return rv_fail(RV_E_NOMEM, "router training");
    }
    for (int fold = 0; fold < FOLDS; fold++) {
        RV_TRY(predict_fold(t, fold));
    }
    fit_votes(t);
    find_level(t);
    fit_costs(t);
    fit_pool(t);
    fit_trust(t);
    fit_drafts(t);
    fit_carry(t);
    find_together(t);
    fit_lambda(t, trained);
    report_losses(t, trained);
    trained->rows = t->set->n;
    RV_TRY(train_cell(t, FOLDS, &r->cell));
    for (size_t m = 0; m < t->set->tiers; m++) {
        train_lexical(t, FOLDS, m, r->lexical + m * router_lexical_size(t->set->dim));
        train_cover(t, FOLDS, m);
    }
    step_done(t);
    return RV_OK;
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
