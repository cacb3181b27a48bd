/* The cell while it learns: dense float32 parameters in one array, so that Adam is one loop, and the exact gradient through
 * all steps. Sums run over float32; tests/unit/router_grnn.c compares with differences in double. */
#include "router/grnn_priv.h"

#include "kernels/kernels.h"

#include <string.h>

enum { SUPPORT_EVERY = 50 }; /* steps between two choices of what stays of W */

struct rv_grnn_fit {
    rv_grnn_shape shape;
    const rv_alloc *mem;
    const rv_kernels *k;
    size_t at[RV_GRNN_PARTS + 1]; /* where each tensor begins; last: how many parameters */
    float *p, *g, *m, *v;         /* [n] parameters, gradient, Adam's means */
    float *best, *master;         /* [n] best so far; the unrounded ones while int8 is being learned */
    uint8_t *support;             /* [hidden * input] what stays of W */
    float *x;                     /* [RV_GRNN_MAX_STEPS][input] a sample */
    const float *seen;            /* x of the last forward */
    size_t steps;
    float *h, *z, *c; /* [steps + 1][hidden], h[0] is the state before */
};

rv_err rv_grnn_fit_new(const rv_alloc *mem, const rv_grnn_shape *shape, uint64_t seed, rv_grnn_fit **out)
{
    RV_TRY(grnn_shape_check(shape));
    rv_grnn_fit *f = rv_new(mem, sizeof *f);
    if (!f) {
        return rv_fail(RV_E_NOMEM, "router training");
    }
    *f = (rv_grnn_fit){ .shape = *shape, .mem = mem, .k = rv_kernels_best() };
    for (int p = 0; p <= RV_GRNN_PARTS; p++) {
        f->at[p] = grnn_part_at(shape, (rv_grnn_part)p);
    }
    size_t n = f->at[RV_GRNN_PARTS], states = (RV_GRNN_MAX_STEPS + 1) * shape->hidden;
    float **arrays[] = { &f->p, &f->g, &f->m, &f->v, &f->best, &f->master };
    bool good = true;
    for (size_t i = 0; i < RV_COUNT(arrays); i++) {
        *arrays[i] = rv_new_array(mem, n, sizeof(float));
        good = good && *arrays[i];
    }
    f->support = rv_new_array(mem, f->at[RV_GRNN_W2], 1);
    f->x = rv_new_array(mem, RV_GRNN_MAX_STEPS * shape->input, sizeof(float));
    f->h = rv_new_array(mem, states, sizeof(float));
    f->z = rv_new_array(mem, states, sizeof(float));
    f->c = rv_new_array(mem, states, sizeof(float));
    if (!good || !f->support || !f->x || !f->h || !f->z || !f->c) {
        rv_grnn_fit_free(f);
        return rv_fail(RV_E_NOMEM, "router training");
    }
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < f->at[RV_GRNN_B_Z]; i++) {
        f->p[i] = 0.1f * rv_rng_normal(&rng);
    }
    for (size_t i = f->at[RV_GRNN_B_Z]; i < f->at[RV_GRNN_B]; i++) {
        f->p[i] = 1;
    }
    f->p[f->at[RV_GRNN_ZETA]] = 1;
    f->p[f->at[RV_GRNN_NU]] = -4;
    *out = f;
    return RV_OK;
}

void rv_grnn_fit_free(rv_grnn_fit *f)
{
    if (!f) {
        return;
    }
    void *arrays[] = { f->p, f->g, f->m, f->v, f->best, f->master, f->support, f->x, f->h, f->z, f->c };
    for (size_t i = 0; i < RV_COUNT(arrays); i++) {
        rv_free(f->mem, arrays[i]);
    }
    rv_free(f->mem, f);
}

const rv_grnn_shape *grnn_fit_shape(const rv_grnn_fit *f)
{
    return &f->shape;
}
float *rv_grnn_fit_part(rv_grnn_fit *f, rv_grnn_part part)
{
    return f->p + f->at[part];
}
const float *rv_grnn_fit_grad(const rv_grnn_fit *f, rv_grnn_part part)
{
    return f->g + f->at[part];
}
const float *rv_grnn_fit_state(const rv_grnn_fit *f, size_t t)
{
    return f->h + (t + 1) * f->shape.hidden;
}

/* ---- forward ---- */

/* out += M x, M [rows][cols] the tensor */
static void multiply(const rv_grnn_fit *f, rv_grnn_part part, const float *x, float *out)
{
    size_t rows, cols;
    rv_grnn_part_size(&f->shape, part, &rows, &cols);
    const float *m = f->p + f->at[part];
    for (size_t r = 0; r < rows; r++) {
        out[r] += f->k->dot_f32(m + r * cols, x, cols);
    }
}

/* inner = M x for the first of two factors */
static void multiply_inner(const rv_grnn_fit *f, rv_grnn_part part, const float *x,
                           float inner[RV_GRNN_MAX_HIDDEN])
{
    memset(inner, 0, RV_GRNN_MAX_HIDDEN * sizeof *inner);
    multiply(f, part, x, inner);
}

static void pre_activation(const rv_grnn_fit *f, const float *x, const float *h, float *p)
{
    float inner[RV_GRNN_MAX_HIDDEN];
    memset(p, 0, f->shape.hidden * sizeof *p);
    if (f->shape.rank_w) {
        multiply_inner(f, RV_GRNN_W, x, inner);
        multiply(f, RV_GRNN_W2, inner, p);
    } else {
        multiply(f, RV_GRNN_W, x, p);
    }
    if (f->shape.rank_u) {
        multiply_inner(f, RV_GRNN_U, h, inner);
        multiply(f, RV_GRNN_U2, inner, p);
    } else {
        multiply(f, RV_GRNN_U, h, p);
    }
}

void rv_grnn_fit_forward(rv_grnn_fit *f, const float *x, size_t steps, const float *h0, float *out)
{
    size_t n = f->shape.hidden;
    const float *b_z = rv_grnn_fit_part(f, RV_GRNN_B_Z), *b_h = rv_grnn_fit_part(f, RV_GRNN_B_H);
    float zeta = grnn_sigmoid(*rv_grnn_fit_part(f, RV_GRNN_ZETA));
    float nu = grnn_sigmoid(*rv_grnn_fit_part(f, RV_GRNN_NU)), p[RV_GRNN_MAX_HIDDEN];
    f->seen = x;
    f->steps = steps;
    if (h0) {
        memcpy(f->h, h0, n * sizeof *h0);
    } else {
        memset(f->h, 0, n * sizeof *f->h);
    }
    for (size_t t = 0; t < steps; t++) {
        float *h = f->h + t * n, *z = f->z + t * n, *c = f->c + t * n, *next = h + n;
        pre_activation(f, x + t * f->shape.input, h, p);
        for (size_t i = 0; i < n; i++) {
            z[i] = grnn_sigmoid(p[i] + b_z[i]);
            c[i] = tanhf(p[i] + b_h[i]);
            next[i] = (zeta * (1 - z[i]) + nu) * c[i] + z[i] * h[i];
        }
    }
    memcpy(out, rv_grnn_fit_part(f, RV_GRNN_B), f->shape.outputs * sizeof *out);
    multiply(f, RV_GRNN_V, f->h + steps * n, out);
}

/* ---- backward ---- */

/* Through y = M x: gradient of M += d x', and d_x += M' d. */
static void back(rv_grnn_fit *f, rv_grnn_part part, const float *d, const float *x, float *d_x)
{
    size_t rows, cols;
    rv_grnn_part_size(&f->shape, part, &rows, &cols);
    for (size_t r = 0; r < rows; r++) {
        float *g = f->g + f->at[part] + r * cols;
        const float *m = f->p + f->at[part] + r * cols;
        float dr = d[r];
        for (size_t i = 0; i < cols; i++) {
            g[i] += dr * x[i];
        }
        for (size_t i = 0; d_x && i < cols; i++) {
            d_x[i] += dr * m[i];
        }
    }
}

/* The same through one matrix or two. */
static void back_side(rv_grnn_fit *f, rv_grnn_part part, size_t rank, const float *d, const float *x,
                      float *d_x)
{
    if (rank == 0) {
        back(f, part, d, x, d_x);
        return;
    }
    float inner[RV_GRNN_MAX_HIDDEN], d_inner[RV_GRNN_MAX_HIDDEN] = { 0 };
    multiply_inner(f, part, x, inner);
    back(f, (rv_grnn_part)(part + 1), d, inner, d_inner);
    back(f, part, d_inner, x, d_x);
}

void rv_grnn_fit_backward(rv_grnn_fit *f, const float *d_out)
{
    size_t n = f->shape.hidden;
    float zeta = grnn_sigmoid(*rv_grnn_fit_part(f, RV_GRNN_ZETA));
    float nu = grnn_sigmoid(*rv_grnn_fit_part(f, RV_GRNN_NU));
    float d_h[RV_GRNN_MAX_HIDDEN] = { 0 }, d_p[RV_GRNN_MAX_HIDDEN];
    float *g_bz = f->g + f->at[RV_GRNN_B_Z], *g_bh = f->g + f->at[RV_GRNN_B_H],
          *g_b = f->g + f->at[RV_GRNN_B];
    double d_zeta = 0, d_nu = 0;
    for (size_t i = 0; i < f->shape.outputs; i++) {
        g_b[i] += d_out[i];
    }
    back(f, RV_GRNN_V, d_out, f->h + f->steps * n, d_h);
    for (size_t t = f->steps; t-- > 0;) {
        const float *h = f->h + t * n, *z = f->z + t * n, *c = f->c + t * n;
        for (size_t i = 0; i < n; i++) {
            float d_c = d_h[i] * (zeta * (1 - z[i]) + nu) * (1 - c[i] * c[i]);
            float d_z = d_h[i] * (h[i] - zeta * c[i]) * z[i] * (1 - z[i]);
            d_zeta += d_h[i] * (1 - z[i]) * c[i];
            d_nu += d_h[i] * c[i];
            g_bh[i] += d_c;
            g_bz[i] += d_z;
            d_p[i] = d_c + d_z;
            d_h[i] *= z[i];
        }
        back_side(f, RV_GRNN_W, f->shape.rank_w, d_p, f->seen + t * f->shape.input, NULL);
        back_side(f, RV_GRNN_U, f->shape.rank_u, d_p, h, d_h);
    }
    f->g[f->at[RV_GRNN_ZETA]] += (float)(d_zeta * zeta * (1 - zeta));
    f->g[f->at[RV_GRNN_NU]] += (float)(d_nu * nu * (1 - nu));
}

/* ---- learning ---- */

typedef struct run {
    rv_grnn_fit *f;
    const rv_grnn_task *task;
    const rv_grnn_how *how;
    rv_rng rng;
    uint32_t *order; /* [n_train] */
    size_t n_train, step, total_steps;
    int stage;
    double loss; /* mean of the last epoch, or of held_out */
} run;

static void round_matrices(rv_grnn_fit *f)
{
    int8_t q[RV_GRNN_MAX_INPUT];
    for (int p = 0; p < RV_GRNN_MATRICES; p++) {
        size_t rows, cols;
        rv_grnn_part_size(&f->shape, (rv_grnn_part)p, &rows, &cols);
        for (size_t r = 0; r < rows; r++) {
            float *row = f->p + f->at[p] + r * cols, scale = grnn_round_row(row, cols, q);
            for (size_t c = 0; c < cols; c++) {
                row[c] = q[c] * scale;
            }
        }
    }
}

/* Between the two the parameters are as they will be kept. */
static void begin_rounded(run *r)
{
    rv_grnn_fit *f = r->f;
    if (r->how->int8 && r->stage == 2) {
        memcpy(f->master, f->p, f->at[RV_GRNN_PARTS] * sizeof *f->p);
        round_matrices(f);
    }
}

static void end_rounded(run *r)
{
    rv_grnn_fit *f = r->f;
    if (r->how->int8 && r->stage == 2) {
        memcpy(f->p, f->master, f->at[RV_GRNN_PARTS] * sizeof *f->p);
    }
}

/* Marks the largest of W; what falls out becomes zero. */
static void choose_support(rv_grnn_fit *f, double sparsity)
{
    size_t n = f->at[RV_GRNN_W2], keep = (size_t)ceil((1 - sparsity) * (double)n);
    float low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        high = fmaxf(high, fabsf(f->p[i]));
    }
    /* The border between kept and not, by halving: 40 rounds are finer than float32. */
    for (int round = 0; round < 40; round++) {
        float middle = 0.5f * (low + high);
        size_t above = 0;
        for (size_t i = 0; i < n; i++) {
            above += fabsf(f->p[i]) > middle;
        }
        if (above > keep) {
            low = middle;
        } else {
            high = middle;
        }
    }
    for (size_t i = 0; i < n; i++) {
        f->support[i] = fabsf(f->p[i]) > high;
    }
}

static void keep_support(rv_grnn_fit *f)
{
    for (size_t i = 0; i < f->at[RV_GRNN_W2]; i++) {
        if (!f->support[i]) {
            f->p[i] = 0;
        }
    }
}

static void adam(run *r, size_t batch)
{
    rv_grnn_fit *f = r->f;
    size_t n = f->at[RV_GRNN_PARTS];
    double norm = 0;
    for (size_t i = 0; i < n; i++) {
        f->g[i] /= (float)batch;
        norm += (double)f->g[i] * f->g[i];
    }
    norm = sqrt(norm);
    float scale = norm > r->how->clip ? (float)(r->how->clip / norm) : 1;
    double t = (double)++r->step, part = t / (double)r->total_steps;
    float rate = (float)(r->how->rate * 0.5 * (1 + cos(M_PI * (part < 1 ? part : 1))));
    float fix_m = (float)(1 / (1 - pow(0.9, t))), fix_v = (float)(1 / (1 - pow(0.999, t)));
    float decay = rate * (float)r->how->decay;
    for (size_t i = 0; i < n; i++) {
        float g = f->g[i] * scale;
        f->m[i] = 0.9f * f->m[i] + 0.1f * g;
        f->v[i] = 0.999f * f->v[i] + 0.001f * g * g;
        f->p[i] -= rate * f->m[i] * fix_m / (sqrtf(f->v[i] * fix_v) + 1e-8f) +
                   (i < f->at[RV_GRNN_B_Z] ? decay * f->p[i] : 0);
    }
    if (r->how->sparsity > 0 && r->stage > 0) {
        if (r->stage == 1 && r->step % SUPPORT_EVERY == 0) {
            choose_support(f, r->how->sparsity);
        }
        keep_support(f);
    }
    memset(f->g, 0, n * sizeof *f->g);
}

static rv_err learn_sample(run *r, size_t i, rv_rng *rng, float *d_out, double *loss)
{
    float out[RV_GRNN_MAX_OUTPUTS];
    size_t steps = r->task->sample(r->task->self, i, rng, r->f->x);
    rv_grnn_fit_forward(r->f, r->f->x, steps, NULL, out);
    *loss = r->task->loss(r->task->self, i, out, d_out);
    return isfinite(*loss)
               ? RV_OK
               : rv_fail(RV_E_ARG, "router training: the loss of sample %zu is not a finite number", i);
}

static rv_err train_epoch(run *r)
{
    float d_out[RV_GRNN_MAX_OUTPUTS];
    double sum = 0, loss;
    for (size_t i = r->n_train; i > 1; i--) {
        size_t j = rv_rng_below(&r->rng, i);
        uint32_t other = r->order[j];
        r->order[j] = r->order[i - 1];
        r->order[i - 1] = other;
    }
    for (size_t from = 0; from < r->n_train; from += r->how->batch) {
        size_t left = r->n_train - from, batch = left < r->how->batch ? left : r->how->batch;
        begin_rounded(r);
        for (size_t b = 0; b < batch; b++) {
            RV_TRY(learn_sample(r, r->order[from + b], &r->rng, d_out, &loss));
            rv_grnn_fit_backward(r->f, d_out);
            sum += loss;
        }
        end_rounded(r);
        adam(r, batch);
    }
    r->loss = sum / (double)r->n_train;
    return RV_OK;
}

static rv_err held_out_loss(run *r, double *out)
{
    double sum = 0, loss;
    size_t n = 0;
    begin_rounded(r);
    for (size_t i = 0; i < r->task->n; i++) {
        if (r->task->held_out[i]) {
            RV_TRY(learn_sample(r, i, NULL, NULL, &loss));
            sum += loss;
            n++;
        }
    }
    end_rounded(r);
    *out = sum / (double)n;
    return RV_OK;
}

/* Without held_out the last parameters of a stage are its best. */
static rv_err run_stage(run *r, rv_grnn_report *report)
{
    rv_grnn_fit *f = r->f;
    size_t bytes = f->at[RV_GRNN_PARTS] * sizeof *f->p, worse = 0;
    bool watch = r->n_train < r->task->n;
    double best = INFINITY;
    if (r->stage > 0 && r->how->sparsity > 0) {
        if (r->stage == 1) {
            choose_support(f, r->how->sparsity);
        }
        keep_support(f);
    }
    for (size_t epoch = 0; epoch < r->how->epochs[r->stage]; epoch++) {
        double held = 0;
        RV_TRY(train_epoch(r));
        report->epochs++;
        if (watch) {
            RV_TRY(held_out_loss(r, &held));
        }
        if (!watch || held < best) {
            best = held;
            worse = 0;
            memcpy(f->best, f->p, bytes);
            report->loss = r->loss;
            report->held_out_loss = held;
        } else if (++worse == r->how->patience) {
            break;
        }
    }
    if (r->how->epochs[r->stage] > 0) {
        memcpy(f->p, f->best, bytes);
    }
    return RV_OK;
}

rv_err rv_grnn_fit_run(rv_grnn_fit *f, const rv_grnn_task *task, const rv_grnn_how *how,
                       rv_grnn_report *report)
{
    run r = { .f = f, .task = task, .how = how };
    rv_grnn_report got = { 0 };
    r.order = rv_new_array(f->mem, task->n + 1, sizeof *r.order);
    if (!r.order) {
        return rv_fail(RV_E_NOMEM, "router training");
    }
    for (size_t i = 0; i < task->n; i++) {
        if (!task->held_out || !task->held_out[i]) {
            r.order[r.n_train++] = (uint32_t)i;
        }
    }
    rv_rng_init(&r.rng, how->seed);
    size_t epochs = how->epochs[0] + how->epochs[1] + how->epochs[2];
    r.total_steps = epochs * ((r.n_train + how->batch - 1) / how->batch);
    rv_err e = r.n_train == 0 ? rv_fail(RV_E_ARG, "router training: no samples to learn from") : RV_OK;
    for (r.stage = 0; r.stage < 3 && !e; r.stage++) {
        e = run_stage(&r, &got);
    }
    rv_free(f->mem, r.order);
    if (!e) {
        *report = got;
    }
    return e;
}
