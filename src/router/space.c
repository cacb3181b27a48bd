/* Directions of the embedding space: mean, eight principal axes by orthogonal iteration, 64 centroids by k-means on unit vectors
 * (k-means++ start). At most SAMPLE vectors are looked at, evenly spread over the rows. */
#include "router/space_priv.h"

#include "base/rng.h"
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

enum { SAMPLE = 4000, AXIS_ROUNDS = 12, CLUSTER_ROUNDS = 8 };

typedef struct cloud {
    const rv_kernels *k;
    const float **at; /* [n] */
    size_t n, dim;
    float *near;   /* [n] cosine to the nearest centroid */
    uint16_t *of;  /* [n] which one */
    float *scores; /* [n] */
} cloud;

static void unit(const rv_kernels *k, float *x, size_t n)
{
    float length = sqrtf(k->dot_f32(x, x, n));
    for (size_t i = 0; i < n && length > 0; i++) {
        x[i] /= length;
    }
}

static void find_mean(const cloud *c, float *mean)
{
    memset(mean, 0, c->dim * sizeof *mean);
    for (size_t i = 0; i < c->n; i++) {
        c->k->add(mean, c->at[i], c->dim);
    }
    for (size_t d = 0; d < c->dim && c->n > 0; d++) {
        mean[d] /= (float)c->n;
    }
}

/* axis = sum of (x - mean) * ((x - mean) . axis), then orthogonal to those before; returns its length */
static float turn_axis(const cloud *c, const float *mean, float *axis, const float *before, size_t n_before,
                       float *fresh)
{
    float shift = c->k->dot_f32(mean, axis, c->dim), total = 0;
    memset(fresh, 0, c->dim * sizeof *fresh);
    for (size_t i = 0; i < c->n; i++) {
        float s = c->k->dot_f32(c->at[i], axis, c->dim) - shift;
        total += s;
        for (size_t d = 0; d < c->dim; d++) {
            fresh[d] += s * c->at[i][d];
        }
    }
    for (size_t d = 0; d < c->dim; d++) {
        fresh[d] -= total * mean[d];
    }
    for (size_t b = 0; b < n_before; b++) {
        const float *other = before + b * c->dim;
        float along = c->k->dot_f32(other, fresh, c->dim);
        for (size_t d = 0; d < c->dim; d++) {
            fresh[d] -= along * other[d];
        }
    }
    float length = sqrtf(c->k->dot_f32(fresh, fresh, c->dim));
    for (size_t d = 0; d < c->dim && length > 0; d++) {
        axis[d] = fresh[d] / length;
    }
    return length;
}

static void find_axes(const cloud *c, const float *mean, float *axes, float *spread, float *fresh,
                      rv_rng *rng)
{
    for (size_t p = 0; p < RV_SLOT_PCS; p++) {
        float *axis = axes + p * c->dim, length = 0;
        for (size_t d = 0; d < c->dim; d++) {
            axis[d] = rv_rng_normal(rng);
        }
        unit(c->k, axis, c->dim);
        for (int round = 0; round < AXIS_ROUNDS; round++) {
            length = turn_axis(c, mean, axis, axes, p, fresh);
        }
        spread[p] = c->n > 0 ? sqrtf(length / (float)c->n) : 0;
    }
}

static void start_centroids(const cloud *c, float *centroids, rv_rng *rng)
{
    for (size_t i = 0; i < c->n; i++) {
        c->near[i] = -1;
    }
    for (size_t m = 0; m < RV_SLOT_CENTROIDS; m++) {
        double sum = 0, at;
        for (size_t i = 0; i < c->n; i++) {
            sum += fmax(0, 1 - c->near[i]);
        }
        at = rv_rng_unit(rng) * sum;
        size_t pick = 0;
        for (; pick + 1 < c->n && (at -= fmax(0, 1 - c->near[pick])) > 0; pick++) {
        }
        memcpy(centroids + m * c->dim, c->at[pick], c->dim * sizeof *centroids);
        for (size_t i = 0; i < c->n; i++) {
            c->near[i] = fmaxf(c->near[i], c->k->dot_f32(c->at[i], centroids + m * c->dim, c->dim));
        }
    }
}

static void move_centroids(const cloud *c, float *centroids)
{
    for (size_t i = 0; i < c->n; i++) {
        c->near[i] = -2;
        for (size_t m = 0; m < RV_SLOT_CENTROIDS; m++) {
            float cosine = c->k->dot_f32(c->at[i], centroids + m * c->dim, c->dim);
            if (cosine > c->near[i]) {
                c->near[i] = cosine;
                c->of[i] = (uint16_t)m;
            }
        }
    }
    for (size_t m = 0; m < RV_SLOT_CENTROIDS; m++) {
        float *centroid = centroids + m * c->dim;
        bool any = false;
        for (size_t i = 0; i < c->n; i++) {
            if (c->of[i] != m) {
                continue;
            }
            if (!any) {
                memset(centroid, 0, c->dim * sizeof *centroid);
                any = true;
            }
            c->k->add(centroid, c->at[i], c->dim);
        }
        unit(c->k, centroid, c->dim); /* one that nobody is near to stays where it was */
    }
}

rv_err router_find_space(const rv_alloc *mem, const float *const *vectors, size_t n, size_t dim,
                         uint64_t seed, float *mean, float *axes, float *spread, float *centroids)
{
    size_t step = n > SAMPLE ? n / SAMPLE : 1;
    cloud c = { .k = rv_kernels_best(), .dim = dim };
    c.at = rv_new_array(mem, n / step + 1, sizeof *c.at);
    c.near = rv_new_array(mem, n / step + 1, sizeof *c.near);
    c.of = rv_new_array(mem, n / step + 1, sizeof *c.of);
    float *fresh = rv_new_array(mem, dim + 1, sizeof *fresh);
    rv_err e = c.at && c.near && c.of && fresh ? RV_OK : rv_fail(RV_E_NOMEM, "router training");
    if (!e) {
        rv_rng rng;
        rv_rng_init(&rng, seed);
        for (size_t i = 0; i < n; i += step) {
            if (vectors[i]) {
                c.at[c.n++] = vectors[i];
            }
        }
        find_mean(&c, mean);
        find_axes(&c, mean, axes, spread, fresh, &rng);
        if (c.n > 0) {
            start_centroids(&c, centroids, &rng);
            for (int round = 0; round < CLUSTER_ROUNDS; round++) {
                move_centroids(&c, centroids);
            }
        }
    }
    rv_free(mem, c.at);
    rv_free(mem, c.near);
    rv_free(mem, c.of);
    rv_free(mem, fresh);
    return e;
}
