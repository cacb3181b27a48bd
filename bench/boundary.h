/* Did the subject change? Vectors come one after the other; a new task begins where the mean of the newest hundred is far from the mean of what came before,
 * measured by how that varies (Hotelling's T squared, in 32 random projections). A window is far off when z = (T2 - 32) / sqrt(64) > 6, where T2 is about chi
 * squared of 32 degrees when nothing changed. One such window may be a burst, two in a row are a boundary: the mean they are held against is that of before
 * both. T2 does not care which 32 directions span the space, so the rows of the projection are signs, not orthonormal.
 *
 * Only benchmarks use it: docs/guide/adapters.md says why. */
#ifndef RV_BENCH_BOUNDARY_H
#define RV_BENCH_BOUNDARY_H
#include "base/rng.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { BOUNDARY_WINDOW = 100, BOUNDARY_LEAST = 500 /* vectors of a task before another one can begin */ };

enum { P = 32, MOST = 1000 /* vectors that the mean remembers: as questions drift slowly, so does it */ };
static const double FAR = 6, SHRINK = 0.1;

typedef struct moments {
    double n, mean[P], cov[P][P];
} moments;

typedef struct boundary {
    size_t dim;
    float *rows; /* [P][dim] */
    moments before, doubtful;
    bool doubts;
    double window[BOUNDARY_WINDOW][P];
    size_t n; /* of the window */
} boundary;

/* For vectors [dim]; NULL without memory. */
static boundary *boundary_new(size_t dim, uint64_t seed)
{
    rv_rng rng;
    boundary *b = calloc(1, sizeof *b);
    float *rows = malloc(P * dim * sizeof *rows);
    if (!b || !rows) {
        free(b);
        free(rows);
        return NULL;
    }
    *b = (boundary){ .dim = dim, .rows = rows };
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < P * dim; i++) {
        rows[i] = rv_rng_below(&rng, 2) ? 1 : -1;
    }
    return b;
}

static void boundary_free(boundary *b)
{
    free(b->rows);
    free(b);
}

static moments of_window(const boundary *b)
{
    moments m = { .n = BOUNDARY_WINDOW };
    for (size_t i = 0; i < BOUNDARY_WINDOW; i++) {
        for (size_t j = 0; j < P; j++) {
            m.mean[j] += b->window[i][j] / m.n;
        }
    }
    for (size_t i = 0; i < BOUNDARY_WINDOW; i++) {
        for (size_t j = 0; j < P; j++) {
            for (size_t k = 0; k <= j; k++) {
                m.cov[j][k] += (b->window[i][j] - m.mean[j]) * (b->window[i][k] - m.mean[k]) / m.n;
            }
        }
    }
    return m;
}

/* The moments of both together; of to no more than MOST vectors count. */
static void add(moments *to, const moments *m)
{
    double n = to->n < MOST - m->n ? to->n : MOST - m->n, all = n + m->n, share = m->n / all;
    for (size_t j = 0; j < P; j++) {
        for (size_t k = 0; k <= j; k++) {
            double between = (m->mean[j] - to->mean[j]) * (m->mean[k] - to->mean[k]);
            to->cov[j][k] += share * (m->cov[j][k] - to->cov[j][k]) + share * (1 - share) * between;
        }
    }
    for (size_t j = 0; j < P; j++) {
        to->mean[j] += share * (m->mean[j] - to->mean[j]);
    }
    to->n = all;
}

/* d' S^-1 d by Cholesky, S shrunk towards a multiple of the identity. 0 when nothing varies. */
static double distance(const moments *before, const double *d)
{
    double l[P][P], x[P], sum = 0, trace = 0;
    for (size_t j = 0; j < P; j++) {
        trace += before->cov[j][j] / P;
    }
    if (!(trace > 0)) {
        return 0;
    }
    for (size_t j = 0; j < P; j++) {
        for (size_t k = 0; k <= j; k++) {
            double v = (1 - SHRINK) * before->cov[j][k] + (j == k ? SHRINK * trace : 0);
            for (size_t i = 0; i < k; i++) {
                v -= l[j][i] * l[k][i];
            }
            l[j][k] = j == k ? sqrt(v) : v / l[k][k];
        }
        x[j] = d[j];
        for (size_t i = 0; i < j; i++) {
            x[j] -= l[j][i] * x[i];
        }
        x[j] /= l[j][j];
        sum += x[j] * x[j];
    }
    return sum;
}

static bool is_far(const moments *before, const moments *m)
{
    double d[P];
    for (size_t j = 0; j < P; j++) {
        d[j] = m->mean[j] - before->mean[j];
    }
    double t2 = m->n * before->n / (m->n + before->n) * distance(before, d);
    return (t2 - P) / sqrt(2 * P) > FAR;
}

static bool end_window(boundary *b)
{
    moments m = of_window(b);
    bool far = b->before.n >= BOUNDARY_LEAST && is_far(&b->before, &m), begun = far && b->doubts;
    b->n = 0;
    if (begun) {
        b->before = b->doubtful;
        add(&b->before, &m);
    } else if (far) {
        b->doubtful = m;
    } else {
        if (b->doubts) {
            add(&b->before, &b->doubtful);
        }
        add(&b->before, &m);
    }
    b->doubts = far && !begun;
    return begun;
}

/* The next vector. True: a new task began 200 to 300 vectors ago, and what was before it is not remembered. */
static bool boundary_see(boundary *b, const float *vector)
{
    double *row = b->window[b->n++];
    for (size_t j = 0; j < P; j++) {
        const float *signs = b->rows + j * b->dim;
        float sum = 0;
        for (size_t i = 0; i < b->dim; i++) {
            sum += signs[i] * vector[i];
        }
        row[j] = (double)sum;
    }
    return b->n == BOUNDARY_WINDOW && end_window(b);
}
#endif
