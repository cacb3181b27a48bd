/* The parts that learn from rows (the cell, the lexical part, what memory found) and what all five say of rows they had not seen. */
#include "router/train_priv.h"

enum { LEXICAL_EPOCHS = 12 };
#define LEXICAL_RATE  0.08f
#define LEXICAL_PRIOR 2.0f /* strength of the pull towards zero: two rows' worth for each number */

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
        bool there = router_known(row, m);
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
    router_step_done(t);
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
        if (t->fold[i] != without && router_known(&t->set->rows[i], tier)) {
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

/* ---- what memory found ---- */

static bool cover_row(const fit_rows *f, size_t i, double *x, double *y)
{
    const rv_router_row *row = &f->t->set->rows[i];
    if (!row->cover || f->t->fold[i] == f->without || !router_known(row, f->tier)) {
        return false;
    }
    router_spread_cover(f->t->r, row->cover, x);
    *y = row->quality[f->tier];
    return true;
}

/* From all rows but those of a fold (FOLDS: from all). */
static void train_cover(trainer *t, int without, size_t tier)
{
    fit_rows f = { t, tier, ROUTER_COVER, cover_row, without };
    float *w = t->r->cover[tier];
    memset(w, 0, ROUTER_COVER * sizeof *w);
    w[2 * RV_COVER] = router_log_odds(t->r->base[tier]);
    router_fit_logistic(&f, 5, w);
}

/* ---- rows not seen ---- */

rv_err router_predict_fold(trainer *t, int fold)
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
            router_part_of(t, i, m)[0] = out[m];
        }
    }
    rv_grnn_free(cell);
    for (size_t m = 0; m < t->set->tiers; m++) {
        train_lexical(t, fold, m, w);
        train_cover(t, fold, m);
        for (size_t i = 0; i < t->set->n; i++) {
            if (t->fold[i] == fold) {
                router_lexical_row row = lexical_row(t, i);
                router_part_of(t, i, m)[1] = router_lexical(t->r, w, &row);
                router_part_of(t, i, m)[4] = router_vote_cover(t->r, t->set->rows[i].cover, m);
            }
        }
    }
    rv_past_text text;
    rv_past_found near;
    for (size_t i = 0; i < t->set->n; i++) {
        if (t->fold[i] == fold) {
            rv_past_read(t->set->rows[i].text, t->set->rows[i].n, &text);
            rv_past_find(t->r->past, &text, t->vector[i], t->fold, fold, t->scratch, &near);
            t->found[i] = near.first;
            for (size_t m = 0; m < t->set->tiers; m++) {
                float *part = router_part_of(t, i, m), base = t->r->base[m];
                part[2] = router_vote_past(t->r->past, near.words, near.n_words, m, base);
                part[3] = router_vote_past(t->r->past, near.meaning, near.n_meaning, m, base);
            }
        }
    }
    router_step_done(t);
    return RV_OK;
}

rv_err router_train_parts(trainer *t)
{
    RV_TRY(train_cell(t, FOLDS, &t->r->cell));
    for (size_t m = 0; m < t->set->tiers; m++) {
        train_lexical(t, FOLDS, m, t->r->lexical + m * router_lexical_size(t->set->dim));
        train_cover(t, FOLDS, m);
    }
    router_step_done(t);
    return RV_OK;
}
