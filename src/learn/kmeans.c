#include "learn/kmeans.h"

#include "base/rng.h"
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

static const float MOVED = 1e-3f;

/* Vectors of unit length and what has become of them. */
typedef struct clusters {
    const rv_kernels *k;
    const float *vectors; /* [n][dim] */
    size_t n, dim, many;
    float *centres, *sums; /* [many][dim] */
    float *fit;            /* [n] cosine to the own centre */
    uint32_t *of;          /* [n] */
    uint32_t *count;       /* [many] */
} clusters;

static void clusters_free(const rv_alloc *mem, clusters *c)
{
    rv_free(mem, c->centres);
    rv_free(mem, c->sums);
    rv_free(mem, c->fit);
    rv_free(mem, c->of);
    rv_free(mem, c->count);
}

static rv_err clusters_new(const rv_alloc *mem, const rv_kernels *k, const float *vectors, size_t n,
                           size_t dim, size_t many, clusters *c)
{
    *c = (clusters){ .k = k, .vectors = vectors, .n = n, .dim = dim, .many = many };
    c->centres = rv_new_array(mem, many * dim, sizeof *c->centres);
    c->sums = rv_new_array(mem, many * dim, sizeof *c->sums);
    c->fit = rv_new_array(mem, n, sizeof *c->fit);
    c->of = rv_new_array(mem, n, sizeof *c->of);
    c->count = rv_new_array(mem, many, sizeof *c->count);
    if (!c->centres || !c->sums || !c->fit || !c->of || !c->count) {
        clusters_free(mem, c);
        return rv_fail(RV_E_NOMEM, "no memory to group %zu vectors", n);
    }
    return RV_OK;
}

static const float *row(const clusters *c, size_t i)
{
    return c->vectors + i * c->dim;
}

bool rv_unit(float *v, size_t dim)
{
    const rv_kernels *k = rv_kernels_best();
    double length = sqrt((double)k->dot_f32(v, v, dim));
    for (size_t i = 0; length > 0 && i < dim; i++) {
        v[i] = (float)(v[i] / length);
    }
    return length > 0;
}

/* Squared distance to the nearest centre so far is 2 - 2 fit. */
static size_t draw(const clusters *c, rv_rng *rng)
{
    double sum = 0, at;
    for (size_t i = 0; i < c->n; i++) {
        sum += fmax(0, 1 - (double)c->fit[i]);
    }
    if (!(sum > 0)) {
        return (size_t)rv_rng_below(rng, c->n);
    }
    at = rv_rng_unit(rng) * sum;
    for (size_t i = 0; i < c->n; i++) {
        at -= fmax(0, 1 - (double)c->fit[i]);
        if (at < 0) {
            return i;
        }
    }
    return c->n - 1;
}

/* The first centre is drawn evenly, each next one with probability in proportion to the squared distance. */
static void plant(clusters *c, rv_rng *rng)
{
    for (size_t i = 0; i < c->n; i++) {
        c->fit[i] = -1;
    }
    for (size_t m = 0; m < c->many; m++) {
        size_t pick = m ? draw(c, rng) : (size_t)rv_rng_below(rng, c->n);
        memcpy(c->centres + m * c->dim, row(c, pick), c->dim * sizeof(float));
        for (size_t i = 0; i < c->n; i++) {
            float f = c->k->dot_f32(row(c, i), row(c, pick), c->dim);
            c->fit[i] = f > c->fit[i] ? f : c->fit[i];
        }
    }
}

static void assign(clusters *c)
{
    memset(c->count, 0, c->many * sizeof *c->count);
    for (size_t i = 0; i < c->n; i++) {
        c->fit[i] = -INFINITY;
        for (size_t m = 0; m < c->many; m++) {
            float f = c->k->dot_f32(row(c, i), c->centres + m * c->dim, c->dim);
            if (f > c->fit[i]) {
                c->fit[i] = f;
                c->of[i] = (uint32_t)m;
            }
        }
        c->count[c->of[i]]++;
    }
}

static size_t worst(clusters *c)
{
    size_t at = 0;
    for (size_t i = 1; i < c->n; i++) {
        at = c->fit[i] < c->fit[at] ? i : at;
    }
    c->fit[at] = INFINITY; /* not twice */
    return at;
}

/* The farthest that any centre went. */
static double move(clusters *c)
{
    double most = 0;
    memset(c->sums, 0, c->many * c->dim * sizeof *c->sums);
    for (size_t i = 0; i < c->n; i++) {
        float *sum = c->sums + c->of[i] * c->dim;
        for (size_t d = 0; d < c->dim; d++) {
            sum[d] += row(c, i)[d];
        }
    }
    for (size_t m = 0; m < c->many; m++) {
        float *sum = c->sums + m * c->dim, *centre = c->centres + m * c->dim;
        if (c->count[m] == 0 || !rv_unit(sum, c->dim)) {
            memcpy(sum, row(c, worst(c)), c->dim * sizeof(float));
        }
        most = fmax(most, sqrt((double)c->k->l2sq_f32(sum, centre, c->dim)));
        memcpy(centre, sum, c->dim * sizeof(float));
    }
    return most;
}

static void cluster(clusters *c, rv_rng *rng, size_t rounds)
{
    plant(c, rng);
    assign(c);
    for (size_t r = 0; r < rounds && move(c) >= (double)MOVED; r++) {
        assign(c);
    }
    assign(c);
}

rv_err rv_kmeans_make(const rv_alloc *mem, const float *vectors, size_t n, size_t dim, size_t many,
                      size_t rounds, uint64_t seed, rv_kmeans *out)
{
    clusters c;
    rv_rng rng;
    rv_rng_init(&rng, seed);
    RV_TRY(clusters_new(mem, rv_kernels_best(), vectors, n, dim, many, &c));
    cluster(&c, &rng, rounds);
    *out = (rv_kmeans){ .centres = c.centres, .count = c.count, .many = many };
    c.centres = NULL;
    c.count = NULL;
    clusters_free(mem, &c);
    return RV_OK;
}

void rv_kmeans_deinit(const rv_alloc *mem, rv_kmeans *groups)
{
    rv_free(mem, groups->centres);
    rv_free(mem, groups->count);
    *groups = (rv_kmeans){ 0 };
}
