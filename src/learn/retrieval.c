#include "learn/retrieval.h"

#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { RANK = 2, DIM_MAX = 4096 };
static const float TEMPERATURE = 0.07F, HOLD = 30, RATE = 0.005F, FADE = 1e-4F, NORM_MAX = 0.5F;

struct rv_retrieval {
    const rv_alloc *mem;
    size_t dim, n;         /* n: of values */
    float *values;         /* A, B */
    float *grad;           /* pending, summed */
    float *mean, *square;  /* of Adam */
    size_t pending, steps; /* signals since the last step; steps made */
};

rv_err rv_retrieval_new(const rv_alloc *mem, size_t dim, uint64_t seed, rv_retrieval **out)
{
    if (dim < 1 || dim > DIM_MAX) {
        return rv_fail(RV_E_ARG, "retrieval adapter: dimension %zu, expected 1 .. %d", dim, DIM_MAX);
    }
    rv_retrieval *r = rv_new(mem, sizeof *r);
    float *values = rv_new_array(mem, 4 * 2 * RANK * dim, sizeof *values);
    if (!r || !values) {
        rv_free(mem, r);
        rv_free(mem, values);
        return rv_fail(RV_E_NOMEM, "retrieval adapter");
    }
    *r = (rv_retrieval){ .mem = mem, .dim = dim, .n = 2 * RANK * dim, .values = values };
    r->grad = values + r->n, r->mean = r->grad + r->n, r->square = r->mean + r->n;
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < RANK * dim; i++) {
        values[i] = rv_rng_normal(&rng);
    }
    *out = r;
    return RV_OK;
}

void rv_retrieval_free(rv_retrieval *r)
{
    if (r) {
        rv_free(r->mem, r->values);
        rv_free(r->mem, r);
    }
}

rv_err rv_retrieval_copy(const rv_retrieval *r, rv_retrieval **out)
{
    RV_TRY(rv_retrieval_new(r->mem, r->dim, 0, out));
    memcpy((*out)->values, r->values, 4 * r->n * sizeof *r->values);
    (*out)->pending = r->pending;
    (*out)->steps = r->steps;
    return RV_OK;
}

size_t rv_retrieval_dim(const rv_retrieval *r)
{
    return r->dim;
}

size_t rv_retrieval_pending(const rv_retrieval *r)
{
    return r->pending;
}

float *rv_retrieval_values(rv_retrieval *r, size_t *n)
{
    *n = r->n;
    return r->values;
}

const float *rv_retrieval_gradient(const rv_retrieval *r)
{
    return r->grad;
}

/* ---- forward ---- */

static const float SCALE = 0.70710678F; /* 1 / sqrt(RANK) */

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * b[i];
    }
    return sum;
}

/* u = A x, moved = s B u. */
static void move(const rv_retrieval *r, const float *x, float u[RANK], float *moved)
{
    const float *b = r->values + RANK * r->dim;
    for (size_t k = 0; k < RANK; k++) {
        u[k] = (float)dot(r->values + k * r->dim, x, r->dim);
    }
    for (size_t i = 0; i < r->dim; i++) {
        moved[i] = SCALE * (b[i * RANK] * u[0] + b[i * RANK + 1] * u[1]);
    }
}

/* y = x + moved at length 1; the length it had, 0: it stayed as it was. */
static double unit_sum(const float *x, const float *moved, size_t n, float *y)
{
    float whole[DIM_MAX];
    double square = 0;
    for (size_t i = 0; i < n; i++) {
        whole[i] = x[i] + moved[i];
        square += (double)whole[i] * whole[i];
    }
    double length = sqrt(square);
    for (size_t i = 0; i < n; i++) {
        y[i] = length > 1e-6 ? (float)(whole[i] / length) : x[i];
    }
    return length > 1e-6 ? length : 0;
}

void rv_retrieval_apply(const rv_retrieval *r, const float *x, float *y)
{
    float u[RANK], moved[DIM_MAX];
    move(r, x, u, moved);
    unit_sum(x, moved, r->dim, y);
}

/* ---- learning ---- */

static size_t count_used(const rv_retrieval_signal *s)
{
    size_t used = 0;
    for (size_t i = 0; i < s->n_shown; i++) {
        used += s->used[i];
    }
    return used;
}

static bool teaches(const rv_retrieval_signal *s)
{
    size_t used = s->n_shown <= RV_RETRIEVAL_SHOWN_MAX ? count_used(s) : 0;
    return used > 0 && used < s->n_shown && s->weight > 0;
}

/* -mean over the used of log softmax(y . shown / TEMPERATURE); p gets the softmax. */
static double contrast(const rv_retrieval_signal *s, const float *y, size_t dim,
                       double p[RV_RETRIEVAL_SHOWN_MAX])
{
    double max = -INFINITY, sum = 0, loss = 0, used = (double)count_used(s);
    for (size_t i = 0; i < s->n_shown; i++) {
        p[i] = dot(y, s->shown[i], dim) / TEMPERATURE;
        max = p[i] > max ? p[i] : max;
    }
    for (size_t i = 0; i < s->n_shown; i++) {
        sum += exp(p[i] - max);
    }
    for (size_t i = 0; i < s->n_shown; i++) {
        double log_p = p[i] - max - log(sum);
        loss -= s->used[i] ? log_p / used : 0;
        p[i] = exp(log_p);
    }
    return loss;
}

double rv_retrieval_loss(const rv_retrieval *r, const rv_retrieval_signal *s)
{
    if (!teaches(s)) {
        return 0;
    }
    float u[RANK], moved[DIM_MAX], y[DIM_MAX];
    double p[RV_RETRIEVAL_SHOWN_MAX], held = 0;
    move(r, s->query, u, moved);
    unit_sum(s->query, moved, r->dim, y);
    for (size_t i = 0; i < s->n_anchors; i++) {
        move(r, s->anchors[i], u, moved);
        held += 0.5 * HOLD * dot(moved, moved, r->dim) / (double)s->n_anchors;
    }
    return s->weight * (contrast(s, y, r->dim, p) + held);
}

/* grad += the derivative by A and B of a loss whose derivative by (x + s B A x) is g. */
static void add_gradient(rv_retrieval *r, const float *x, const float u[RANK], const float *g)
{
    const float *b = r->values + RANK * r->dim;
    float back[RANK] = { 0 }, *grad_b = r->grad + RANK * r->dim;
    for (size_t i = 0; i < r->dim; i++) {
        for (size_t k = 0; k < RANK; k++) {
            grad_b[i * RANK + k] += SCALE * g[i] * u[k];
            back[k] += SCALE * b[i * RANK + k] * g[i];
        }
    }
    for (size_t k = 0; k < RANK; k++) {
        for (size_t i = 0; i < r->dim; i++) {
            r->grad[k * r->dim + i] += back[k] * x[i];
        }
    }
}

bool rv_retrieval_learn(rv_retrieval *r, const rv_retrieval_signal *s)
{
    if (!teaches(s)) {
        return false;
    }
    float u[RANK], moved[DIM_MAX], y[DIM_MAX], g[DIM_MAX];
    double p[RV_RETRIEVAL_SHOWN_MAX], used = (double)count_used(s);
    move(r, s->query, u, moved);
    double length = unit_sum(s->query, moved, r->dim, y);
    contrast(s, y, r->dim, p);
    memset(g, 0, r->dim * sizeof *g);
    for (size_t j = 0; j < s->n_shown; j++) {
        float share = (float)(s->weight * (p[j] - (s->used[j] ? 1 / used : 0)) / TEMPERATURE);
        for (size_t i = 0; i < r->dim; i++) {
            g[i] += share * s->shown[j][i];
        }
    }
    double along = dot(g, y, r->dim);
    for (size_t i = 0; length > 0 && i < r->dim; i++) {
        g[i] = (float)((g[i] - along * y[i]) / length);
    }
    if (length > 0) {
        add_gradient(r, s->query, u, g);
    }
    for (size_t j = 0; j < s->n_anchors; j++) {
        move(r, s->anchors[j], u, moved);
        for (size_t i = 0; i < r->dim; i++) {
            g[i] = s->weight * HOLD / (float)s->n_anchors * moved[i];
        }
        add_gradient(r, s->anchors[j], u, g);
    }
    r->pending++;
    return true;
}

/* The root of the sum of squares of s B A: tr((s B)^T (s B) A A^T), all of it RANK x RANK. */
static double norm(const rv_retrieval *r)
{
    const float *a = r->values, *b = a + RANK * r->dim;
    double sum = 0;
    for (size_t k = 0; k < RANK; k++) {
        for (size_t l = 0; l < RANK; l++) {
            double bb = 0;
            for (size_t i = 0; i < r->dim; i++) {
                bb += (double)b[i * RANK + k] * b[i * RANK + l];
            }
            sum += SCALE * SCALE * bb * dot(a + k * r->dim, a + l * r->dim, r->dim);
        }
    }
    return sqrt(sum);
}

void rv_retrieval_step(rv_retrieval *r, float rate)
{
    const float b1 = 0.9F, b2 = 0.99F;
    if (r->pending == 0) {
        return;
    }
    r->steps++;
    float c1 = 1 - powf(b1, (float)r->steps), c2 = 1 - powf(b2, (float)r->steps);
    for (size_t i = 0; i < r->n; i++) {
        float g = r->grad[i] / (float)r->pending;
        r->mean[i] += (1 - b1) * (g - r->mean[i]);
        r->square[i] += (1 - b2) * (g * g - r->square[i]);
        r->values[i] -= rate * RATE * (r->mean[i] / c1) / (sqrtf(r->square[i] / c2) + 1e-8F);
    }
    double now = norm(r);
    float keep = (1 - FADE) * (now > NORM_MAX ? (float)(NORM_MAX / now) : 1);
    for (size_t i = RANK * r->dim; i < r->n; i++) {
        r->values[i] *= keep;
    }
    memset(r->grad, 0, r->n * sizeof *r->grad);
    r->pending = 0;
}

/* ---- file ---- */

enum { HEADER = 20 };
static const float VALUE_MAX =
    1e6F; /* far above what learning makes; products of such two, summed, are still finite */
static const char magic[8] = { 'r', 'v', 'r', 'e', 't', 'r', '\r', '\n' };

static void put32(uint8_t *at, uint32_t x)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(x >> (8 * i));
    }
}

static uint32_t get32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

size_t rv_retrieval_file_bytes(const rv_retrieval *r)
{
    return HEADER + 4 * r->n;
}

void rv_retrieval_write(const rv_retrieval *r, void *out)
{
    uint8_t *at = out;
    memcpy(at, magic, sizeof magic);
    put32(at + 8, 1);
    put32(at + 12, (uint32_t)r->dim);
    put32(at + 16, RANK);
    for (size_t i = 0; i < r->n; i++) {
        uint32_t bits;
        memcpy(&bits, &r->values[i], 4);
        put32(at + HEADER + 4 * i, bits);
    }
}

rv_err rv_retrieval_read(const rv_alloc *mem, const void *bytes, size_t n, size_t dim, rv_retrieval **out)
{
    const uint8_t *at = bytes;
    if (n < HEADER || memcmp(at, magic, sizeof magic) != 0 || get32(at + 8) != 1 || get32(at + 16) != RANK) {
        return rv_fail(RV_E_FORMAT, "retrieval adapter: not a file that we read");
    }
    if (get32(at + 12) != dim) {
        return rv_fail(RV_E_FORMAT, "retrieval adapter: made for %u dimensions, the embedder has %zu",
                       get32(at + 12), dim);
    }
    rv_retrieval *r = NULL;
    RV_TRY(rv_retrieval_new(mem, dim, 0, &r));
    rv_err e = n == rv_retrieval_file_bytes(r)
                   ? RV_OK
                   : rv_fail(RV_E_FORMAT, "retrieval adapter: %zu bytes, expected %zu", n,
                             rv_retrieval_file_bytes(r));
    for (size_t i = 0; !e && i < r->n; i++) {
        uint32_t bits = get32(at + HEADER + 4 * i);
        memcpy(&r->values[i], &bits, 4);
        e = fabsf(r->values[i]) <= VALUE_MAX
                ? RV_OK
                : rv_fail(RV_E_FORMAT, "retrieval adapter: value %zu is %g, allowed is up to %g", i,
                          (double)r->values[i], (double)VALUE_MAX);
    }
    if (e) {
        rv_retrieval_free(r);
        return e;
    }
    *out = r;
    return RV_OK;
}
