/* Attention by runs of keys against exact softmax in float64; and no head knows which others run beside it. */
#include "kernels/kvq.h"
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

static bool in_blocks(rv_type type)
{
    return type == RV_Q8_0 || type == RV_Q4_1;
}

/* n_keys keys or values of one head as blocks of 64. */
static void *packed(rv_rng *rng, rv_type type, size_t dim, size_t n_keys, bool keys)
{
    rv_kvq_layout l = keys ? rv_kvq_keys(type, dim) : rv_kvq_values(type, dim);
    uint8_t *out = fenced_bytes(n_keys / RV_KVQ_TOKENS * l.bytes);
    for (size_t block = 0; block < n_keys / RV_KVQ_TOKENS; block++) {
        float *x = stored(rng, RV_F32, RV_KVQ_TOKENS * dim, 1.2f);
        const float *runs[4] = { x, x + 16 * dim, x + 32 * dim, x + 48 * dim };
        (keys ? rv_kvq_pack_keys : rv_kvq_pack_values)(type, dim, runs, 0, out + block * l.bytes);
    }
    return out;
}

static problem random_problem(rv_rng *rng, rv_type type, size_t n_q, size_t dim, size_t n_keys)
{
    problem p = { .n_q = n_q, .dim = dim, .n_keys = n_keys, .type = type, .scale = 1 / sqrtf((float)dim) };
    p.q = fenced_floats(n_q * dim);
    for (size_t i = 0; i < n_q * dim; i++) {
        p.q[i] = 3 * rv_rng_normal(rng);
    }
    if (in_blocks(type)) {
        p.keys = packed(rng, type, dim, n_keys, true);
        p.values = packed(rng, type, dim, n_keys, false);
        return p;
    }
    p.keys = stored(rng, type, (n_keys + 15) / 16 * 16 * dim, 1.5f);
    p.values = stored(rng, type, n_keys * dim, 1);
    for (size_t k = n_keys; k % 16; k++) { /* what lies behind the last key must not matter */
        for (size_t i = 0; i < dim; i++) {
            size_t at = (k / 16 * dim + i) * 16 + k % 16;
            if (type == RV_F32) {
                ((float *)p.keys)[at] = NAN;
            } else {
                ((uint16_t *)p.keys)[at] = 0x7e00;
            }
        }
    }
    return p;
}

static double number(rv_type type, const void *base, size_t i)
{
    return type == RV_F32 ? (double)((const float *)base)[i]
                          : (double)rv_f16_to_f32(((const uint16_t *)base)[i]);
}

static double key_at(const problem *p, size_t k, size_t i)
{
    return in_blocks(p->type)
               ? (double)rv_kvq_key(p->type, p->dim,
                                    (const char *)p->keys + k / 64 * rv_kvq_keys(p->type, p->dim).bytes,
                                    k % 64, i)
               : number(p->type, p->keys, (k / 16 * p->dim + i) * 16 + k % 16);
}

static double value_at(const problem *p, size_t k, size_t i)
{
    return in_blocks(p->type)
               ? (double)rv_kvq_value(p->type, p->dim,
                                      (const char *)p->values + k / 64 * rv_kvq_values(p->type, p->dim).bytes,
                                      k % 64, i)
               : number(p->type, p->values, k * p->dim + i);
}

/* One step over keys [from, to) of the problem; from is a page's first, quantised: to is a block's last. */
static rv_attend_step step_over(const problem *p, size_t from, size_t to)
{
    rv_attend_step s = { .dim = p->dim, .scale = p->scale, .type = p->type };
    if (in_blocks(p->type)) {
        s.keys = (const char *)p->keys + from / 64 * rv_kvq_keys(p->type, p->dim).bytes;
        s.values = (const char *)p->values + from / 64 * rv_kvq_values(p->type, p->dim).bytes;
        s.first_key = from % 64;
        s.n_keys = 64;
        return s;
    }
    size_t width = p->type == RV_F16 ? 2 : 4;
    s.keys = (const char *)p->keys + from * p->dim * width;
    s.values = (const char *)p->values + from * p->dim * width;
    s.n_keys = to - from;
    return s;
}

/* All keys from `first` on, in pages of `page`, heads [from, to); result [heads][dim], not yet divided, and sums. */
static void attend_from(const rv_kernels *k, const problem *p, size_t first, size_t page, size_t from,
                        size_t to, float *acc, float *sum)
{
    size_t n = to - from;
    float *max = fenced_floats(n);
    page = in_blocks(p->type) ? 64 : page;
    memset(acc, 0, n * p->dim * sizeof *acc);
    for (size_t i = 0; i < n; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
    }
    for (size_t key = first; key < p->n_keys; key += page - key % page) {
        size_t left = p->n_keys - key;
        rv_attend_step step = step_over(p, key, key + (left < page ? left : page));
        step.q = p->q + from * p->dim;
        step.n_q = n;
        step.max = max;
        step.sum = sum;
        step.acc = acc;
        k->attend(&step);
    }
}

static void attend_pages(const rv_kernels *k, const problem *p, size_t page, size_t from, size_t to,
                         float *acc, float *sum)
{
    attend_from(k, p, 0, page, from, to, acc, sum);
}

static void check_exact(const rv_kernels *k, const problem *p, size_t first)
{
    float *acc = fenced_floats(p->n_q * p->dim), *sum = fenced_floats(p->n_q);
    attend_from(k, p, first, 16, 0, p->n_q, acc, sum);
    double *score = malloc(p->n_keys * sizeof *score);
    CHECK(score, "memory");
    for (size_t h = 0; h < p->n_q; h++) {
        double max = -INFINITY, total = 0, most = 0;
        for (size_t j = first; j < p->n_keys; j++) {
            double dot = 0, mass = 0;
            for (size_t i = 0; i < p->dim; i++) {
                double product = (double)p->q[h * p->dim + i] * key_at(p, j, i);
                dot += product;
                mass += fabs(product);
            }
            score[j] = dot * (double)p->scale;
            max = fmax(max, score[j]);
            most = fmax(most, mass * (double)p->scale);
        }
        for (size_t j = first; j < p->n_keys; j++) {
            total += exp(score[j] - max);
        }
        for (size_t i = 0; i < p->dim; i++) {
            double want = 0, mass = 0;
            for (size_t j = first; j < p->n_keys; j++) {
                double part = exp(score[j] - max) / total * value_at(p, j, i);
                want += part;
                mass += fabs(part);
            }
            /* scores are dim/4 + 4 roundings of their mass off, which is a factor on each weight; sums one per key */
            double roundings = 2 * ((double)p->dim / 4 + 4) * most + (double)p->n_keys / 4 + 24;
            double got = (double)acc[h * p->dim + i] / (double)sum[h];
            CHECK(fabs(got - want) <= roundings * FLT_EPSILON * mass,
                  "%s type %d dim %zu keys %zu head %zu [%zu]: %g, exact %g", k->name, (int)p->type, p->dim,
                  p->n_keys, h, i, got, want);
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
                check_exact(k, &p, 0);
            }
        }
    }
}

TEST(attention_over_quantised_blocks_is_within_rounding_of_exact_softmax)
{
    rv_rng rng;
    rv_rng_init(&rng, 24);
    static const size_t whole[] = { 16, 32, 48, 64, 80, 96, 128, 256 };
    for (size_t i = 0; i < RV_COUNT(whole) * 6; i++) {
        rv_type type = i % 2 ? RV_Q8_0 : RV_Q4_1;
        problem p = random_problem(&rng, type, 1 + i % 9, whole[i / 6], 64 * (1 + i / 2 % 3));
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            if (k) {
                check_exact(k, &p, i % 4 * 16);
            }
        }
    }
}

TEST(parts_merge_to_what_the_whole_would_be)
{
    rv_rng rng;
    rv_rng_init(&rng, 25);
    enum { HEADS = 5, DIM = 64, KEYS = 512 };
    for (int round = 0; round < 20; round++) {
        problem p = random_problem(&rng, round % 2 ? RV_F16 : RV_F32, HEADS, DIM, KEYS);
        float *whole = fenced_floats(HEADS * DIM), *sums = fenced_floats(HEADS);
        const rv_kernels *k = rv_kernels_best();
        attend_pages(k, &p, 16, 0, HEADS, whole, sums);
        float max[HEADS], sum[HEADS] = { 0 }, acc[HEADS * DIM] = { 0 };
        for (size_t h = 0; h < HEADS; h++) {
            max[h] = -INFINITY;
        }
        size_t cuts[8] = { 0 };
        for (size_t c = 1; c < 7; c++) {
            cuts[c] = cuts[c - 1] + rv_rng_below(&rng, KEYS / 16 / 6) * 16; /* some parts are empty */
        }
        cuts[7] = KEYS;
        for (size_t c = 0; c < 7; c++) {
            float part_max[HEADS], part_sum[HEADS] = { 0 }, part_acc[HEADS * DIM] = { 0 };
            for (size_t h = 0; h < HEADS; h++) {
                part_max[h] = -INFINITY;
            }
            rv_attend_step part = step_over(&p, cuts[c], cuts[c + 1]);
            part.q = p.q;
            part.n_q = HEADS;
            part.max = part_max;
            part.sum = part_sum;
            part.acc = part_acc;
            k->attend(&part);
            rv_attend_merge(&part, max, sum, acc);
        }
        for (size_t i = 0; i < HEADS * DIM; i++) {
            float got = acc[i] / sum[i / DIM], want = whole[i] / sums[i / DIM];
            CHECK(fabsf(got - want) <= 1e-5f, "round %d [%zu]: %g in parts, %g whole", round, i, (double)got,
                  (double)want);
        }
    }
}

TEST(packed_keys_and_values_are_within_half_a_step)
{
    rv_rng rng;
    rv_rng_init(&rng, 26);
    static const rv_type types[] = { RV_Q8_0, RV_Q4_1 };
    for (size_t round = 0; round < 12; round++) {
        rv_type type = types[round % 2];
        size_t dim = 16 * (1 + round / 2), first = round % 3 * 16;
        float *x = stored(&rng, RV_F32, 64 * dim, 3);
        for (size_t t = 0; t < 64; t++) {
            x[(t / 16 * dim + 5) * 16 + t % 16] = 2.5f; /* a channel of keys without a range */
        }
        const float *runs[4] = { x, x + 16 * dim, x + 32 * dim, x + 48 * dim };
        uint8_t *keys = fenced_bytes(rv_kvq_keys(type, dim).bytes);
        uint8_t *values = fenced_bytes(rv_kvq_values(type, dim).bytes);
        rv_kvq_pack_keys(type, dim, runs, first, keys);
        rv_kvq_pack_values(type, dim, runs, first, values);
        for (size_t t = first; t < 64; t++) {
            for (size_t i = 0; i < dim; i++) {
                double key_low = INFINITY, key_high = -INFINITY, low = INFINITY, high = -INFINITY,
                       key_most = 0, most = 0;
                for (size_t u = first; u < 64; u++) { /* the group of this key */
                    double v = (double)runs[u / 16][i * 16 + u % 16];
                    key_low = fmin(key_low, v);
                    key_high = fmax(key_high, v);
                }
                for (size_t j = i / 32 * 32; j < dim && j < i / 32 * 32 + 32; j++) {
                    double v = (double)runs[t / 16][t % 16 * dim + j],
                           w = (double)runs[t / 16][j * 16 + t % 16];
                    low = fmin(low, v);
                    high = fmax(high, v);
                    most = fmax(most, fabs(v));
                    key_most = fmax(key_most, fabs(w));
                }
                double key = (double)runs[t / 16][i * 16 + t % 16],
                       value = (double)runs[t / 16][t % 16 * dim + i];
                /* half a step, and the scale's (4 bits: the minimum's too) rounding to half precision */
                double bound = type == RV_Q8_0
                                   ? key_most / 254 + key_most / 2048
                                   : (key_high - key_low) / 30 * 1.01 + fabs(key_low) / 1024 + 1e-4;
                double got = (double)rv_kvq_key(type, dim, keys, t, i);
                CHECK(fabs(got - key) <= bound, "type %d key %zu %zu: %g as %g", (int)type, t, i, key, got);
                bound = type == RV_Q8_0 ? most / 254 + most / 2048
                                        : (high - low) / 30 * 1.01 + fabs(low) / 1024 + 1e-4;
                got = (double)rv_kvq_value(type, dim, values, t, i);
                CHECK(fabs(got - value) <= bound, "type %d value %zu %zu: %g as %g", (int)type, t, i, value,
                      got);
            }
        }
    }
    size_t bits[2];
    for (size_t i = 0; i < 2; i++) {
        bits[i] =
            8 * (rv_kvq_keys(types[i], 64).bytes + rv_kvq_values(types[i], 64).bytes) * 10 / (2 * 64 * 64);
    }
    CHECK(bits[0] <= 86 && bits[1] <= 48, "%zu and %zu tenths of a bit per element", bits[0], bits[1]);
}

TEST(a_head_gives_the_same_bits_alone_and_among_others)
{
    rv_rng rng;
    rv_rng_init(&rng, 22);
    for (size_t i = 0; i < RV_COUNT(dims) * 2; i++) {
        bool small = dims[i / 2] % 16 == 0 && i / 2 % 2;
        rv_type type = i % 2 ? (small ? RV_Q8_0 : RV_F16) : small ? RV_Q4_1 : RV_F32;
        problem p = random_problem(&rng, type, 9, dims[i / 2], in_blocks(type) ? 128 : 75);
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
        for (size_t i = 0; i < p.dim; i++) {
            ((float *)p.keys)[(33 / 16 * p.dim + i) * 16 + 33 % 16] = p.q[i];
            ((float *)p.keys)[(34 / 16 * p.dim + i) * 16 + 34 % 16] = p.q[p.dim + i];
        }
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
