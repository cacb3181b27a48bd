/* Fitting the weights to which nodes were of use, and the measure by which a caller accepts or refuses the result. */
#include "attend/attend.h"
#include "attend/attend_priv.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

enum { BATCH = 16, TOP = 10 };

rv_attend_training rv_attend_training_default(void)
{
    return (rv_attend_training){ .epochs = 30, .patience = 5, .rate = 0.003F, .decay = 0.01F, .seed = 1 };
}

static size_t most_nodes(const rv_attend_example *examples, size_t n)
{
    size_t most = 1;
    for (size_t i = 0; i < n; i++) {
        most = examples[i].n > most ? examples[i].n : most;
    }
    return most;
}

/* ---- nDCG ---- */

/* Of one ranking: how many nodes stand before node i is its place. */
static double ndcg(const rv_attend_example *x, const float *scores)
{
    double gain = 0, ideal = 0;
    size_t used = 0;
    for (size_t i = 0; i < x->n; i++) {
        size_t before = 0;
        for (size_t j = 0; x->used[i] && scores && j < x->n; j++) {
            before += scores[j] > scores[i] || (scores[j] == scores[i] && j < i);
        }
        before = scores ? before : i;
        gain += x->used[i] && before < TOP ? 1 / log2((double)before + 2) : 0;
        used += x->used[i];
    }
    for (size_t i = 0; i < used && i < TOP; i++) {
        ideal += 1 / log2((double)i + 2);
    }
    return ideal > 0 ? gain / ideal : 0;
}

static double mean_ndcg(const rv_attend_weights *w, const rv_kernels *k, const rv_attend_example *examples,
                        size_t n, void *scratch)
{
    double sum = 0;
    float scores[RV_ATTEND_NODES_MAX];
    for (size_t i = 0; i < n; i++) {
        if (w) {
            rv_attend_rank(w, k, examples[i].query, examples[i].nodes, examples[i].n, scratch, scores, NULL);
        }
        sum += ndcg(&examples[i], w ? scores : NULL);
    }
    return n ? sum / (double)n : 0;
}

rv_err rv_attend_ndcg(const rv_attend_weights *w, const rv_kernels *k, const rv_attend_example *examples,
                      size_t n, double *out)
{
    void *scratch = NULL;
    if (w && !(scratch = rv_new(&rv_heap, rv_attend_scratch_bytes(w, most_nodes(examples, n))))) {
        return rv_fail(RV_E_NOMEM, "graph attention: measuring");
    }
    *out = mean_ndcg(w, k, examples, n, scratch);
    rv_free(&rv_heap, scratch);
    return RV_OK;
}

/* ---- training ---- */

typedef struct fit {
    rv_attend_weights *w;
    const rv_kernels *k;
    size_t n;                                   /* values */
    float *grad, *mean, *square, *start, *best; /* [n] */
    void *scratch;
    size_t *order; /* [n_learn] */
    size_t step;
} fit;

static void free_fit(const rv_alloc *mem, fit *f)
{
    rv_free(mem, f->grad);
    rv_free(mem, f->scratch);
    rv_free(mem, f->order);
}

static rv_err begin_fit(rv_attend_weights *w, const rv_kernels *k, size_t n_learn, size_t most, fit *f)
{
    *f = (fit){ .w = w, .k = k, .n = w->n_values };
    f->grad = rv_new_array(w->mem, 5 * f->n, sizeof *f->grad);
    f->scratch = rv_new(w->mem, rv_attend_scratch_bytes(w, most));
    f->order = rv_new_array(w->mem, n_learn, sizeof *f->order);
    if (!f->grad || !f->scratch || !f->order) {
        free_fit(w->mem, f);
        return rv_fail(RV_E_NOMEM, "graph attention: training");
    }
    f->mean = f->grad + f->n, f->square = f->mean + f->n, f->start = f->square + f->n,
    f->best = f->start + f->n;
    memcpy(f->start, w->values, f->n * sizeof *f->start);
    memcpy(f->best, w->values, f->n * sizeof *f->best);
    for (size_t i = 0; i < n_learn; i++) {
        f->order[i] = i;
    }
    return RV_OK;
}

/* AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101); the decay goes to the start, not to zero. An entry of the low-rank parts
 * works through a sum of dim terms, so its steps are smaller by the root of dim. */
static void update(fit *f, const rv_attend_training *how)
{
    const float b1 = 0.9F, b2 = 0.99F;
    f->step++;
    float c1 = 1 - powf(b1, (float)f->step), c2 = 1 - powf(b2, (float)f->step),
          root = sqrtf((float)f->w->dim);
    size_t layer = f->n / LAYERS, low_rank = 4 * RANK * f->w->dim;
    for (size_t i = 0; i < f->n; i++) {
        float g = f->grad[i] / BATCH, rate = i % layer < low_rank ? how->rate / root : how->rate;
        f->mean[i] += (1 - b1) * (g - f->mean[i]);
        f->square[i] += (1 - b2) * (g * g - f->square[i]);
        float *x = &f->w->values[i];
        *x -= rate * (f->mean[i] / c1 / (sqrtf(f->square[i] / c2) + 1e-8F) + how->decay * (*x - f->start[i]));
    }
    memset(f->grad, 0, f->n * sizeof *f->grad);
}

static rv_err one_epoch(fit *f, const rv_attend_example *learn, size_t n_learn, const rv_attend_training *how,
                        rv_rng *rng)
{
    float target[RV_ATTEND_NODES_MAX];
    for (size_t i = n_learn; i > 1; i--) {
        size_t j = rv_rng_below(rng, i), other = f->order[i - 1];
        f->order[i - 1] = f->order[j];
        f->order[j] = other;
    }
    for (size_t i = 0; i < n_learn; i++) {
        const rv_attend_example *x = &learn[f->order[i]];
        size_t used = 0;
        for (size_t j = 0; j < x->n; j++) {
            used += x->used[j];
        }
        for (size_t j = 0; j < x->n; j++) {
            target[j] = x->used[j] ? 1 / (float)used : 0;
        }
        if (used > 0 &&
            !isfinite(rv_attend_grad(f->w, f->k, x->query, x->nodes, x->n, target, f->scratch, f->grad))) {
            return rv_fail(RV_E_CORRUPT, "graph attention: the loss of example %zu is not finite",
                           f->order[i]);
        }
        if (i % BATCH == BATCH - 1 || i + 1 == n_learn) {
            update(f, how);
        }
    }
    return RV_OK;
}

rv_err rv_attend_train(rv_attend_weights *w, const rv_kernels *k, const rv_attend_example *learn,
                       size_t n_learn, const rv_attend_example *held, size_t n_held, rv_attend_training how,
                       double *before, double *after)
{
    if (n_learn == 0 || n_held == 0) {
        return rv_fail(RV_E_ARG,
                       "graph attention: %zu examples to learn from and %zu held back, expected some of each",
                       n_learn, n_held);
    }
    size_t most_learn = most_nodes(learn, n_learn), most_held = most_nodes(held, n_held);
    fit f;
    RV_TRY(begin_fit(w, k, n_learn, most_learn > most_held ? most_learn : most_held, &f));
    rv_rng rng;
    rv_rng_init(&rng, how.seed);
    double first = mean_ndcg(w, k, held, n_held, f.scratch), best = first;
    rv_err e = RV_OK;
    for (size_t epoch = 0, since = 0; !e && epoch < how.epochs && since < how.patience; epoch++, since++) {
        e = one_epoch(&f, learn, n_learn, &how, &rng);
        double now = e ? 0 : mean_ndcg(w, k, held, n_held, f.scratch);
        if (now > best) {
            best = now;
            since = 0;
            memcpy(f.best, w->values, f.n * sizeof *f.best);
        }
    }
    memcpy(w->values, e ? f.start : f.best, f.n * sizeof *f.best);
    free_fit(w->mem, &f);
    if (!e) {
        *before = first;
        *after = best;
    }
    return e;
}
