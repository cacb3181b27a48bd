/* A checkpoint is the weights, both moments of AdamW and the step, under a key of everything else that decides what comes next.
 * Which rows a step takes follows from seed and step alone, so nothing of the random numbers has to be kept. */
#include "learn/adapter_train.h"
#include "base/file.h"
#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_BATCH = 4096, WARM_UP = 10, TEXTS = 256 };
static const double beta_1 = 0.9, beta_2 = 0.999, tiny = 1e-8;
static const char magic[8] = "RVTRAIN1";

typedef struct head {
    char magic[8];
    uint64_t key, step, n_weights;
} head;

/* One training. */
typedef struct run {
    rv_lfm2_grad *g;
    rv_lora *lora;
    const rv_adapter_row *rows;
    size_t n;
    const rv_adapter_training *how;
    const rv_alloc *mem;
    float *gradient, *first, *second; /* [n_weights] */
    size_t *order;                    /* [n] of this round */
    size_t round;
    double *odds; /* [n] running sums of mix */
    size_t step;  /* done */
    uint64_t key;
} run;

rv_adapter_training rv_adapter_training_default(void)
{
    return (rv_adapter_training){
        .steps = 200, .batch = 8, .rate = 3e-3f, .clip = 1, .seed = 1, .checkpoint_every = 20
    };
}

/* ---- losses ---- */

/* Some rows through the model, as many at a time as fit. weight: of each target. */
static rv_err pass(rv_lfm2_grad *g, const rv_lora *lora, const rv_adapter_row *const *rows, size_t n,
                   float weight, float *gradient, double *nll)
{
    *nll = 0;
    for (size_t at = 0; at < n;) {
        rv_grad_text texts[TEXTS];
        size_t count = 0, tokens = 0;
        for (; count < TEXTS && at + count < n && tokens + rows[at + count]->n <= rv_lfm2_grad_max_tokens(g);
             count++) {
            const rv_adapter_row *row = rows[at + count];
            texts[count] =
                (rv_grad_text){ .ids = row->ids, .n = row->n, .first = row->first, .weight = weight };
            tokens += row->n;
        }
        if (count == 0) {
            return rv_fail(RV_E_TOO_LARGE, "line %zu: a row of %zu tokens, at most %zu fit", rows[at]->line,
                           rows[at]->n, rv_lfm2_grad_max_tokens(g));
        }
        RV_TRY(rv_lfm2_grad_run(g, lora, texts, count, gradient));
        for (size_t i = 0; i < count; i++) {
            if (!isfinite(texts[i].nll)) {
                return rv_fail(RV_E_CORRUPT, "line %zu: the loss is not finite", rows[at + i]->line);
            }
            *nll += texts[i].nll;
        }
        at += count;
    }
    return RV_OK;
}

static size_t targets_of(const rv_adapter_row *row)
{
    return row->n - row->first;
}

rv_err rv_adapter_loss(rv_lfm2_grad *g, const rv_lora *lora, const rv_adapter_row *rows, size_t n,
                       double *out)
{
    double sum = 0;
    size_t targets = 0;
    if (n == 0) {
        return rv_fail(RV_E_ARG, "no rows to measure");
    }
    for (size_t i = 0; i < n;) {
        const rv_adapter_row *some[TEXTS];
        size_t count = 0;
        for (; count < TEXTS && i < n; count++, i++) {
            some[count] = &rows[i];
            targets += targets_of(&rows[i]);
        }
        double nll;
        RV_TRY(pass(g, lora, some, count, 0, NULL, &nll));
        sum += nll;
    }
    *out = sum / (double)targets;
    return RV_OK;
}

rv_err rv_adapter_observe(rv_lfm2_grad *g, const rv_lora *lora, const rv_adapter_row *rows, size_t n,
                          rv_ewc *guard)
{
    float *gradient = rv_new_array(guard->mem, lora->n_weights, sizeof *gradient);
    rv_err e = gradient ? RV_OK : rv_fail(RV_E_NOMEM, "no memory for a gradient");
    for (size_t i = 0; i < n && !e; i++) {
        const rv_adapter_row *row = &rows[i];
        double nll;
        memset(gradient, 0, lora->n_weights * sizeof *gradient);
        e = pass(g, lora, &row, 1, 1 / (float)targets_of(row), gradient, &nll);
        if (!e) {
            rv_ewc_observe(guard, gradient);
        }
    }
    rv_free(guard->mem, gradient);
    return e;
}

/* ---- which rows ---- */

static void shuffle(run *r, size_t round)
{
    rv_rng rng;
    rv_rng_init(&rng, r->how->seed + 1 + round);
    for (size_t i = 0; i < r->n; i++) {
        r->order[i] = i;
    }
    for (size_t i = r->n; i > 1; i--) {
        size_t j = (size_t)rv_rng_below(&rng, i), t = r->order[i - 1];
        r->order[i - 1] = r->order[j];
        r->order[j] = t;
    }
    r->round = round;
}

static size_t drawn(const run *r, double at)
{
    size_t low = 0, high = r->n - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->odds[middle] > at * r->odds[r->n - 1]) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* The rows of step r->step, counted from 0. */
static void pick(run *r, const rv_adapter_row **batch)
{
    rv_rng rng;
    rv_rng_init(&rng, rv_hash64(&r->step, sizeof r->step, r->how->seed));
    for (size_t i = 0; i < r->how->batch; i++) {
        size_t number = r->step * r->how->batch + i;
        if (r->odds) {
            batch[i] = &r->rows[drawn(r, rv_rng_unit(&rng))];
            continue;
        }
        if (number / r->n != r->round) {
            shuffle(r, number / r->n);
        }
        batch[i] = &r->rows[r->order[number % r->n]];
    }
}

/* ---- checkpoints ---- */

static uint64_t key_of(const run *r)
{
    const rv_adapter_training *h = r->how;
    double settings[] = { (double)h->steps, (double)h->batch, (double)h->rate,
                          (double)h->decay, (double)h->clip,  (double)h->seed };
    uint64_t key = rv_hash64(settings, sizeof settings, r->lora->id);
    for (size_t i = 0; i < r->n; i++) {
        key = rv_hash64(r->rows[i].ids, r->rows[i].n * sizeof(int32_t), key + r->rows[i].first);
    }
    if (h->guard) { /* what is held is part of the training */
        key = rv_hash64(h->guard->pull, h->guard->n * sizeof *h->guard->pull, key);
        key = rv_hash64(h->guard->place, h->guard->n * sizeof *h->guard->place, key);
    }
    key = h->frozen ? rv_hash64(h->frozen, r->lora->n_weights, key) : key;
    return h->mix ? rv_hash64(h->mix, r->n * sizeof *h->mix, key) : key;
}

static rv_err save(const run *r)
{
    rv_text t;
    size_t bytes = r->lora->n_weights * sizeof(float);
    head h = { .key = r->key, .step = r->step, .n_weights = r->lora->n_weights };
    memcpy(h.magic, magic, sizeof magic);
    rv_text_init(&t, r->mem, sizeof h + 3 * bytes + sizeof(uint64_t));
    rv_text_add(&t, (const char *)&h, sizeof h);
    rv_text_add(&t, (const char *)r->lora->weights, bytes);
    rv_text_add(&t, (const char *)r->first, bytes);
    rv_text_add(&t, (const char *)r->second, bytes);
    uint64_t sum = rv_hash64(rv_text_get(&t), t.n, 0);
    rv_text_add(&t, (const char *)&sum, sizeof sum);
    rv_err e = rv_text_check(&t);
    if (!e) {
        e = rv_file_replace(r->how->checkpoint, t.at, t.n);
    }
    rv_text_deinit(&t);
    return e;
}

/* bytes: n floats, of any alignment. */
static bool all_finite(const char *bytes, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n && finite; i++) {
        float x;
        memcpy(&x, bytes + i * sizeof x, sizeof x);
        finite = isfinite(x);
    }
    return finite;
}

/* Takes up a checkpoint of the same training; anything else is said once and left out. */
static void resume(run *r)
{
    char *bytes = NULL;
    size_t n = 0, each = r->lora->n_weights * sizeof(float),
           expected = sizeof(head) + 3 * each + sizeof(uint64_t);
    const char *why = NULL;
    head h;
    uint64_t sum;
    if (!rv_file_exists(r->how->checkpoint)) {
        return;
    }
    if (rv_file_read(r->mem, r->how->checkpoint, expected, &bytes, &n) || n != expected) {
        why = "not a checkpoint of this training";
    } else {
        memcpy(&h, bytes, sizeof h);
        memcpy(&sum, bytes + n - sizeof sum, sizeof sum);
        if (memcmp(h.magic, magic, sizeof magic) != 0 || rv_hash64(bytes, n - sizeof sum, 0) != sum) {
            why = "damaged";
        } else if (h.key != r->key || h.n_weights != r->lora->n_weights || h.step > r->how->steps) {
            why = "of other rows or settings";
        } else if (!all_finite(bytes + sizeof h, 3 * r->lora->n_weights)) {
            why = "numbers that are not finite";
        }
    }
    if (why) {
        rv_log(RV_LOG_WARN, "adapter.checkpoint", "path", r->how->checkpoint, "found", why, "doing",
               "training from the beginning", (char *)NULL);
    } else {
        memcpy(r->lora->weights, bytes + sizeof h, each);
        memcpy(r->first, bytes + sizeof h + each, each);
        memcpy(r->second, bytes + sizeof h + 2 * each, each);
        r->step = (size_t)h.step;
    }
    rv_free(r->mem, bytes);
}

/* ---- steps ---- */

static double rate_at(const rv_adapter_training *h, size_t step)
{
    double warm = step < WARM_UP ? (double)(step + 1) / WARM_UP : 1;
    double left = 0.5 * (1 + cos(3.14159265358979 * (double)step / (double)h->steps));
    return (double)h->rate * warm * (0.1 + 0.9 * left);
}

static double length_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sqrt(sum);
}

static rv_err step(run *r, const rv_adapter_row **batch, double *loss)
{
    const rv_adapter_training *h = r->how;
    size_t n = r->lora->n_weights, targets = 0;
    pick(r, batch);
    for (size_t i = 0; i < h->batch; i++) {
        targets += targets_of(batch[i]);
    }
    memset(r->gradient, 0, n * sizeof *r->gradient);
    RV_TRY(pass(r->g, r->lora, batch, h->batch, 1 / (float)targets, r->gradient, loss));
    *loss /= (double)targets;
    for (size_t i = 0; h->frozen && i < n; i++) {
        r->gradient[i] = h->frozen[i] ? 0 : r->gradient[i];
    }
    double length = length_of(r->gradient, n);
    if (!isfinite(length)) {
        return rv_fail(RV_E_CORRUPT, "line %zu: the gradient is not finite", batch[0]->line);
    }
    double shrink = h->clip > 0 && length > (double)h->clip ? (double)h->clip / length : 1;
    double rate = rate_at(h, r->step), count = (double)(r->step + 1);
    double fix_1 = 1 - pow(beta_1, count), fix_2 = 1 - pow(beta_2, count);
    float *w = r->lora->weights;
    for (size_t i = 0; i < n; i++) {
        double g = shrink * (double)r->gradient[i];
        r->first[i] = (float)(beta_1 * (double)r->first[i] + (1 - beta_1) * g);
        r->second[i] = (float)(beta_2 * (double)r->second[i] + (1 - beta_2) * g * g);
        double move = (double)r->first[i] / fix_1 / (sqrt((double)r->second[i] / fix_2) + tiny);
        w[i] -= (float)(rate * (move + (double)h->decay * (double)w[i]));
    }
    if (h->guard) {
        rv_ewc_step(h->guard, (float)rate, w);
    }
    r->step++;
    return RV_OK;
}

static rv_err train(run *r, const rv_adapter_row **batch)
{
    const rv_adapter_training *h = r->how;
    while (r->step < h->steps) {
        double loss;
        RV_TRY(step(r, batch, &loss));
        bool go_on = !h->on_step || h->on_step(h->self, r->step, loss);
        if (h->checkpoint && (!go_on || r->step % h->checkpoint_every == 0)) {
            RV_TRY(save(r));
        }
        if (!go_on) {
            return rv_fail(RV_E_CANCELLED, "stopped after step %zu of %zu", r->step, h->steps);
        }
    }
    if (h->checkpoint) {
        unlink(h->checkpoint); /* there may be none; one that stays would only be of no use */
    }
    return RV_OK;
}

static rv_err check(const rv_adapter_training *h, size_t n)
{
    if (n == 0) {
        return rv_fail(RV_E_ARG, "there are no rows to train on");
    }
    if (h->steps < 1 || h->batch < 1 || h->batch > MAX_BATCH || !(h->rate > 0) || !(h->rate <= 1) ||
        !(h->decay >= 0) || !(h->clip >= 0) || (h->checkpoint && h->checkpoint_every < 1)) {
        return rv_fail(RV_E_ARG, "a training of %zu steps of %zu rows, rate %g, decay %g, clip %g", h->steps,
                       h->batch, (double)h->rate, (double)h->decay, (double)h->clip);
    }
    return RV_OK;
}

rv_err rv_adapter_train(rv_lfm2_grad *g, rv_lora *lora, const rv_adapter_row *rows, size_t n,
                        const rv_adapter_training *how)
{
    RV_TRY(check(how, n));
    run r = { .g = g, .lora = lora, .rows = rows, .n = n, .how = how, .mem = lora->mem, .round = SIZE_MAX };
    float *state = rv_new_array(r.mem, 3 * lora->n_weights, sizeof *state);
    const rv_adapter_row **batch = rv_new_array(r.mem, how->batch, sizeof *batch);
    r.order = rv_new_array(r.mem, n, sizeof *r.order);
    r.odds = how->mix ? rv_new_array(r.mem, n, sizeof *r.odds) : NULL;
    rv_err e = state && batch && r.order && (r.odds || !how->mix)
                   ? RV_OK
                   : rv_fail(RV_E_NOMEM, "no memory to train %zu weights", lora->n_weights);
    if (!e) {
        r.gradient = state;
        r.first = state + lora->n_weights;
        r.second = state + 2 * lora->n_weights;
        for (size_t i = 0; r.odds && i < n; i++) {
            r.odds[i] = (i ? r.odds[i - 1] : 0) + (double)how->mix[i];
        }
        r.key = key_of(&r);
        if (how->checkpoint) {
            resume(&r);
        }
        e = train(&r, batch);
        rv_lora_changed(lora);
    }
    rv_free(r.mem, r.odds);
    rv_free(r.mem, r.order);
    rv_free(r.mem, batch);
    rv_free(r.mem, state);
    return e;
}
