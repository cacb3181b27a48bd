/* The forward pass beside a plain one in double precision, the gradient beside finite differences of that, and what must hold. */
#include "test.h"

#include "attend/attend.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, RANK = 8, NODES = 14 };

typedef struct scene {
    size_t dim, heads;
    bool rope;
    rv_attend_weights *w;
    float *values;
    size_t n_values;
    float *query, *vectors;
    rv_attend_node nodes[NODES];
    float target[NODES];
} scene;

static void unit_vector(rv_rng *rng, float *x, size_t dim)
{
    double square = 0;
    for (size_t i = 0; i < dim; i++) {
        x[i] = rv_rng_normal(rng);
        square += (double)x[i] * x[i];
    }
    for (size_t i = 0; i < dim; i++) {
        x[i] /= (float)sqrt(square);
    }
}

static scene make_scene(size_t dim, bool rope, bool trained)
{
    scene s = { .dim = dim, .rope = rope, .heads = 8 };
    rv_rng rng;
    rv_rng_init(&rng, 5);
    CHECK_OK(rv_attend_new(&rv_heap, dim, rope, 7, &s.w));
    s.values = rv_attend_values(s.w, &s.n_values);
    for (size_t i = 0; trained && i < s.n_values; i++) {
        s.values[i] += 0.1F * rv_rng_normal(&rng);
    }
    while (dim % (2 * s.heads)) {
        s.heads /= 2;
    }
    s.query = calloc((NODES + 1) * dim, sizeof *s.query);
    CHECK(s.query, "memory");
    s.vectors = s.query + dim;
    unit_vector(&rng, s.query, dim);
    for (size_t i = 0; i < NODES; i++) {
        rv_attend_node *node = &s.nodes[i];
        *node = (rv_attend_node){ .vector = s.vectors + i * dim,
                                  .hop = i < 6 ? 0 : 1 + (unsigned)rv_rng_below(&rng, 2) };
        unit_vector(&rng, s.vectors + i * dim, dim);
        for (size_t e = 0; e < RV_EVIDENCE_N; e++) {
            node->evidence[e] = (float)rv_rng_unit(&rng);
        }
        s.target[i] = i % 5 == 0 ? 1.0F / 3 : 0;
    }
    return s;
}

static void free_scene(scene *s)
{
    free(s->query);
    rv_attend_free(s->w);
}

/* ---- the same in double, written from the header alone ---- */

static void turn(double *x, size_t heads, size_t width, unsigned hop)
{
    size_t half = width / 2, pairs = half / 2;
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < pairs; i++) {
            double angle = hop * pow(10, -2.0 * (double)i / (double)half), *a = &x[h * width + i],
                   *b = a + pairs;
            double y = *a * cos(angle) - *b * sin(angle);
            *b = *a * sin(angle) + *b * cos(angle);
            *a = y;
        }
    }
}

static void low_rank(const double *a, const double *b, const double *x, size_t dim, double *out)
{
    double z[RANK] = { 0 };
    for (size_t r = 0; r < RANK; r++) {
        for (size_t j = 0; j < dim; j++) {
            z[r] += a[r * dim + j] * x[j];
        }
    }
    for (size_t j = 0; j < dim; j++) {
        out[j] = x[j];
        for (size_t r = 0; r < RANK; r++) {
            out[j] += b[j * RANK + r] * z[r];
        }
    }
}

static double reference(const scene *s, const double *v, double scores[NODES])
{
    size_t dim = s->dim, heads = s->heads, width = dim / heads;
    double c[512], q[512], key[NODES][512], o[512], x[512];
    for (size_t j = 0; j < dim; j++) {
        c[j] = s->query[j];
    }
    memset(scores, 0, NODES * sizeof *scores);
    for (size_t l = 0; l < LAYERS; l++) {
        const double *aq = v, *bq = aq + RANK * dim, *ak = bq + RANK * dim, *bk = ak + RANK * dim,
                     *beta = bk + RANK * dim, *ev = beta + heads, *gamma = ev + heads * RV_EVIDENCE_N,
                     *gate = gamma + heads;
        v = gate + 1;
        low_rank(aq, bq, c, dim, q);
        for (size_t i = 0; i < NODES; i++) {
            for (size_t j = 0; j < dim; j++) {
                x[j] = s->nodes[i].vector[j];
            }
            low_rank(ak, bk, x, dim, key[i]);
            if (s->rope) {
                turn(key[i], heads, width, s->nodes[i].hop);
            }
        }
        memset(o, 0, sizeof o);
        for (size_t h = 0; h < heads; h++) {
            double logit[NODES], sum = 0;
            for (size_t i = 0; i < NODES; i++) {
                logit[i] = -gamma[h] * s->nodes[i].hop;
                for (size_t j = 0; j < width; j++) {
                    logit[i] += beta[h] * q[h * width + j] * key[i][h * width + j];
                }
                for (size_t e = 0; e < RV_EVIDENCE_N; e++) {
                    logit[i] += ev[h * RV_EVIDENCE_N + e] * s->nodes[i].evidence[e];
                }
                logit[i] *= 8;
                scores[i] += logit[i] / (double)(LAYERS * heads);
                sum += exp(logit[i]);
            }
            for (size_t i = 0; i < NODES; i++) {
                for (size_t j = 0; j < width; j++) {
                    o[h * width + j] += exp(logit[i]) / sum * s->nodes[i].vector[h * width + j];
                }
            }
        }
        double square = 0;
        for (size_t j = 0; j < dim; j++) {
            c[j] += *gate * o[j];
            square += c[j] * c[j];
        }
        for (size_t j = 0; j < dim; j++) {
            c[j] /= sqrt(square);
        }
    }
    double sum = 0, loss = 0;
    for (size_t i = 0; i < NODES; i++) {
        sum += exp(scores[i]);
    }
    for (size_t i = 0; i < NODES; i++) {
        loss -= s->target[i] * (scores[i] - log(sum));
    }
    return loss;
}

static double *as_double(const scene *s)
{
    double *v = malloc(s->n_values * sizeof *v);
    CHECK(v, "memory");
    for (size_t i = 0; i < s->n_values; i++) {
        v[i] = s->values[i];
    }
    return v;
}

static void rank(const scene *s, const rv_kernels *k, const rv_attend_node *nodes, size_t n, float *scores)
{
    void *scratch = malloc(rv_attend_scratch_bytes(s->w, n));
    CHECK(scratch, "memory");
    rv_attend_rank(s->w, k, s->query, nodes, n, scratch, scores, NULL);
    free(scratch);
}

static const struct {
    size_t dim;
    bool rope;
} shapes[] = { { 64, false }, { 64, true }, { 96, true }, { 6, true }, { 2, false }, { 256, true } };

TEST(scores_are_those_of_the_formula_at_every_level)
{
    for (size_t t = 0; t < RV_COUNT(shapes); t++) {
        scene s = make_scene(shapes[t].dim, shapes[t].rope, true);
        double expected[NODES], *v = as_double(&s);
        reference(&s, v, expected);
        free(v);
        for (int level = 0; level < RV_CPU_LEVELS; level++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)level);
            float scores[NODES];
            if (!k) {
                continue;
            }
            rank(&s, k, s.nodes, NODES, scores);
            for (size_t i = 0; i < NODES; i++) {
                CHECK(fabs(scores[i] - expected[i]) <= 1e-4, "dim %zu, %s, node %zu: %.7g, expected %.7g",
                      s.dim, k->name, i, (double)scores[i], expected[i]);
            }
        }
        free_scene(&s);
    }
}

TEST(gradients_are_those_of_finite_differences)
{
    for (size_t t = 0; t < RV_COUNT(shapes); t++) {
        scene s = make_scene(shapes[t].dim, shapes[t].rope, true);
        double *v = as_double(&s), scores[NODES];
        float *grad = calloc(s.n_values, sizeof *grad);
        void *scratch = malloc(rv_attend_scratch_bytes(s.w, NODES));
        CHECK(grad && scratch, "memory");
        double loss = rv_attend_grad(s.w, rv_kernels_at(RV_CPU_SCALAR), s.query, s.nodes, NODES, s.target,
                                     scratch, grad);
        CHECK(fabs(loss - reference(&s, v, scores)) <= 1e-4, "loss %g", loss);
        size_t every = s.n_values > 3000 ? s.n_values / 1500 : 1;
        double error = 0, size = 0;
        for (size_t i = 0; i < s.n_values; i += every) {
            double at = v[i], up, down;
            v[i] = at + 1e-5;
            up = reference(&s, v, scores);
            v[i] = at - 1e-5;
            down = reference(&s, v, scores);
            v[i] = at;
            double expected = (up - down) / 2e-5;
            CHECK(fabs(grad[i] - expected) <= 1e-3 * fabs(expected) + 2e-6,
                  "dim %zu, value %zu: %.7g, expected %.7g", s.dim, i, (double)grad[i], expected);
            error += (grad[i] - expected) * (grad[i] - expected);
            size += expected * expected;
        }
        CHECK(sqrt(error / size) <= 1e-4, "dim %zu: relative error %g", s.dim, sqrt(error / size));
        free(scratch);
        free(grad);
        free(v);
        free_scene(&s);
    }
}

TEST(untrained_weights_keep_the_order_of_retrieval)
{
    scene s = make_scene(64, true, false);
    float scores[NODES];
    rank(&s, rv_kernels_at(RV_CPU_SCALAR), s.nodes, NODES, scores);
    for (size_t i = 0; i < NODES; i++) {
        for (size_t j = 0; j < NODES; j++) {
            const rv_attend_node *a = &s.nodes[i], *b = &s.nodes[j];
            bool first = a->hop < b->hop ||
                         (a->hop == b->hop && a->evidence[RV_EVIDENCE_PATH] > b->evidence[RV_EVIDENCE_PATH]);
            CHECK(!first || scores[i] > scores[j], "node %zu (%g) against %zu (%g)", i, (double)scores[i], j,
                  (double)scores[j]);
        }
    }
    free_scene(&s);
}

TEST(the_order_of_the_nodes_does_not_matter)
{
    scene s = make_scene(96, true, true);
    rv_attend_node turned[NODES];
    float scores[NODES], other[NODES];
    for (size_t i = 0; i < NODES; i++) {
        turned[i] = s.nodes[NODES - 1 - i];
    }
    rank(&s, rv_kernels_at(RV_CPU_SCALAR), s.nodes, NODES, scores);
    rank(&s, rv_kernels_at(RV_CPU_SCALAR), turned, NODES, other);
    for (size_t i = 0; i < NODES; i++) {
        CHECK(fabsf(scores[i] - other[NODES - 1 - i]) <= 1e-5F, "node %zu: %g and %g", i, (double)scores[i],
              (double)other[NODES - 1 - i]);
    }
    free_scene(&s);
}

TEST(another_query_gives_another_ranking_and_the_state_stays_a_unit_vector)
{
    scene s = make_scene(64, false, true);
    const rv_kernels *k = rv_kernels_at(RV_CPU_SCALAR);
    float scores[NODES], other[NODES], context[64], *query = s.query;
    void *scratch = malloc(rv_attend_scratch_bytes(s.w, NODES));
    CHECK(scratch, "memory");
    rv_attend_rank(s.w, k, query, s.nodes, NODES, scratch, scores, context);
    CHECK(fabsf(k->dot_f32(context, context, 64) - 1) <= 1e-5F, "length of the state");
    rv_attend_rank(s.w, k, s.vectors + 64, s.nodes, NODES, scratch, other, NULL);
    float moved = 0;
    for (size_t i = 0; i < NODES; i++) {
        moved += fabsf((scores[i] - scores[0]) - (other[i] - other[0]));
    }
    CHECK(moved > 0.01F, "the ranking does not look at the query");
    rv_attend_rank(s.w, k, query, NULL, 0, NULL, NULL, context);
    CHECK(memcmp(context, query, sizeof context) == 0, "nothing to look at changes nothing");
    free(scratch);
    free_scene(&s);
}
