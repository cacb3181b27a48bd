/* Attention by runs of keys against exact softmax in float64; and no head knows which others run beside it. */
#include "kernels_matrix.h"

#include <stdlib.h>

static const size_t dims[] = { 8, 16, 20, 32, 64, 80, 96, 128, 256 };

typedef struct problem {
    size_t n_q, dim, n_keys;
    rv_type type;
    float *q;
    void *keys, *values;
    float scale;
} problem;

static void *stored(rv_rng *rng, rv_type type, size_t n, float spread)
{
    if (type == RV_F32) {
        float *x = fenced_floats(n);
        for (size_t i = 0; i < n; i++) {
            x[i] = spread * rv_rng_normal(rng);
        }
        return x;
    }
    uint16_t *x = (uint16_t *)fenced_bytes(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = rv_f32_to_f16(spread * rv_rng_normal(rng));
    }
    return x;
}

static problem random_problem(rv_rng *rng, rv_type type, size_t n_q, size_t dim, size_t n_keys)
{
    problem p = { .n_q = n_q, .dim = dim, .n_keys = n_keys, .type = type, .scale = 1 / sqrtf((float)dim) };
    p.q = fenced_floats(n_q * dim);
    for (size_t i = 0; i < n_q * dim; i++) {
        p.q[i] = 3 * rv_rng_normal(rng);
    }
    p.keys = stored(rng, type, n_keys * dim, 1.5f);
    p.values = stored(rng, type, n_keys * dim, 1);
    return p;
}

/* All keys in pages of `page`, heads [from, to); result [heads][dim], not yet divided, and sums. */
static void attend_pages(const rv_kernels *k, const problem *p, size_t page, size_t from, size_t to,
                         float *acc, float *sum)
{
    size_t n = to - from, width = p->type == RV_F16 ? 2 : 4;
    float *max = fenced_floats(n);
    memset(acc, 0, n * p->dim * sizeof *acc);
    for (size_t i = 0; i < n; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
    }
    for (size_t key = 0; key < p->n_keys; key += page) {
        size_t left = p->n_keys - key;
        rv_attend_step step = { .q = p->q + from * p->dim,
                                .n_q = n,
                                .dim = p->dim,
                                .scale = p->scale,
                                .keys = (const char *)p->keys + key * p->dim * width,
                                .values = (const char *)p->values + key * p->dim * width,
                                .type = p->type,
                                .n_keys = left < page ? left : page,
                                .max = max,
                                .sum = sum,
                                .acc = acc };
        k->attend(&step);
    }
}

static double element(const problem *p, const void *base, size_t i)
{
    return p->type == RV_F32 ? (double)((const float *)base)[i]
                             : (double)rv_f16_to_f32(((const uint16_t *)base)[i]);
}

static void check_exact(const rv_kernels *k, const problem *p)
{
    float *acc = fenced_floats(p->n_q * p->dim), *sum = fenced_floats(p->n_q);
    attend_pages(k, p, 16, 0, p->n_q, acc, sum);
    double *score = malloc(p->n_keys * sizeof *score);
    CHECK(score, "memory");
    for (size_t h = 0; h < p->n_q; h++) {
        double max = -INFINITY, total = 0, most = 0;
        for (size_t j = 0; j < p->n_keys; j++) {
            double dot = 0, mass = 0;
            for (size_t i = 0; i < p->dim; i++) {
                double product = (double)p->q[h * p->dim + i] * element(p, p->keys, j * p->dim + i);
                dot += product;
                mass += fabs(product);
            }
            score[j] = dot * (double)p->scale;
            max = fmax(max, score[j]);
            most = fmax(most, mass * (double)p->scale);
        }
        for (size_t j = 0; j < p->n_keys; j++) {
            total += exp(score[j] - max);
        }
        for (size_t i = 0; i < p->dim; i++) {
            double want = 0, mass = 0;
            for (size_t j = 0; j < p->n_keys; j++) {
                double part = exp(score[j] - max) / total * element(p, p->values, j * p->dim + i);
                want += part;
                mass += fabs(part);
            }
            /* scores are dim/8 + 8 roundings of their mass off, which is a factor on each weight; sums one per key */
            double roundings = 2 * ((double)p->dim / 8 + 8) * most + (double)p->n_keys / 4 + 24;
            double got = (double)acc[h * p->dim + i] / (double)sum[h];
            CHECK(fabs(got - want) <= roundings * FLT_EPSILON * mass,
                  "%s %s dim %zu keys %zu head %zu [%zu]: %g, exact %g", k->name,
                  p->type == RV_F16 ? "F16" : "F32", p->dim, p->n_keys, h, i, got, want);
        }
    }
    free(score);
}

TEST(attention_is_within_rounding_of_exact_softmax)
{
    rv_rng rng;
    rv_rng_init(&rng, 21);
    static const size_t lengths[] = { 1, 2, 15, 16, 17, 31, 40, 300 };
    for (size_t i = 0; i < RV_COUNT(dims) * RV_COUNT(lengths) * 2; i++) {
        rv_type type = i % 2 ? RV_F16 : RV_F32;
        problem p = random_problem(&rng, type, 1 + i % 5, dims[i / 2 % RV_COUNT(dims)],
                                   lengths[i / 2 / RV_COUNT(dims)]);
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            if (k) {
                check_exact(k, &p);
            }
        }
    }
}

TEST(a_head_gives_the_same_bits_alone_and_among_others)
{
    rv_rng rng;
    rv_rng_init(&rng, 22);
    for (size_t i = 0; i < RV_COUNT(dims) * 2; i++) {
        problem p = random_problem(&rng, i % 2 ? RV_F16 : RV_F32, 9, dims[i / 2], 75);
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            if (!k) {
                continue;
            }
            float *all = fenced_floats(p.n_q * p.dim), *all_sums = fenced_floats(p.n_q);
            attend_pages(k, &p, 16, 0, p.n_q, all, all_sums);
            for (size_t h = 0; h < p.n_q; h++) {
                float *one = fenced_floats(p.dim), sum;
                attend_pages(k, &p, 16, h, h + 1, one, &sum);
                CHECK(sum == all_sums[h] && memcmp(one, all + h * p.dim, p.dim * sizeof *one) == 0,
                      "%s dim %zu head %zu", k->name, p.dim, h);
            }
            float *runs = fenced_floats(p.n_q * p.dim);
            attend_pages(k, &p, 48, 0, p.n_q, runs, all_sums); /* three pages in one call */
            CHECK(memcmp(runs, all, p.n_q * p.dim * sizeof *all) == 0, "%s dim %zu: longer runs differ",
                  k->name, p.dim);
        }
    }
}

TEST(attention_survives_scores_of_any_size)
{
    rv_rng rng;
    rv_rng_init(&rng, 23);
    for (int l = 0; l < RV_CPU_LEVELS; l++) {
        const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
        if (!k) {
            continue;
        }
        problem p = random_problem(&rng, RV_F32, 2, 64, 40);
        for (size_t i = 0; i < p.n_q * p.dim; i++) {
            p.q[i] *= 1e4f; /* all weight on one key, which is not in the first page */
        }
        memcpy((float *)p.keys + 33 * p.dim, p.q, p.dim * sizeof(float));
        memcpy((float *)p.keys + 34 * p.dim, p.q + p.dim, p.dim * sizeof(float));
        float *acc = fenced_floats(p.n_q * p.dim), *sum = fenced_floats(p.n_q);
        attend_pages(k, &p, 16, 0, p.n_q, acc, sum);
        for (size_t h = 0; h < 2; h++) {
            CHECK(sum[h] == 1, "%s: sum %g", k->name, (double)sum[h]);
            for (size_t i = 0; i < p.dim; i++) {
                CHECK(acc[h * p.dim + i] == ((const float *)p.values)[(33 + h) * p.dim + i],
                      "%s head %zu [%zu]", k->name, h, i);
            }
        }
    }
}
