/* The backward pass against finite differences of the forward pass as it is defined, in plain double arithmetic. */
#include "unit/model_gguf_make.h"

#include "model/lfm2_grad.h"

#include <math.h>

enum { ALL_PARTS = (1 << RV_LFM2_PARTS) - 1, LONGEST = 24 };

static double *doubles(size_t n)
{
    double *x = calloc(n + 1, sizeof *x);
    CHECK(x, "no memory");
    return x;
}

/* ---- the definition ---- */

typedef struct definition {
    const rv_lfm2_file *file;
    const rv_lora *lora;
    const double *weights; /* in the order of lora->weights */
} definition;

static void row_of(const rv_matrix *w, size_t r, float *row)
{
    size_t bytes = 0;
    CHECK(rv_type_row_bytes(w->type, w->cols, &bytes), "row");
    rv_kernels_at(RV_CPU_SCALAR)->expand[w->type]((const char *)w->raw + r * bytes, row, w->cols);
}

static void product(const definition *d, size_t number, const double *x, double *y)
{
    const rv_matrix *w = rv_lfm2_product(d->file, number);
    const rv_lora_pair *p = &d->lora->pairs[number];
    float *row = calloc(w->cols, sizeof *row);
    CHECK(row, "no memory");
    for (size_t r = 0; r < w->rows; r++) {
        row_of(w, r, row);
        y[r] = 0;
        for (size_t c = 0; c < w->cols; c++) {
            y[r] += (double)row[c] * x[c];
        }
    }
    for (size_t j = 0; j < p->rank; j++) {
        const double *a = d->weights + (p->a - d->lora->weights) + j * p->cols;
        const double *b = d->weights + (p->b - d->lora->weights) + j * p->rows;
        double u = 0;
        for (size_t c = 0; c < p->cols; c++) {
            u += a[c] * x[c];
        }
        for (size_t r = 0; r < p->rows; r++) {
            y[r] += (double)p->scale * u * b[r];
        }
    }
    free(row);
}

static void norm(const double *x, const float *weight, size_t n, double eps, double *y)
{
    double mean = 0;
    for (size_t i = 0; i < n; i++) {
        mean += x[i] * x[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        y[i] = (double)weight[i] * x[i] / sqrt(mean + eps);
    }
}

static void rotate(double *x, size_t dim, double theta, size_t position)
{
    for (size_t i = 0; i < dim / 2; i++) {
        double angle = (double)position * pow(theta, -2.0 * (double)i / (double)dim), a = x[i],
               b = x[i + dim / 2];
        x[i] = a * cos(angle) - b * sin(angle);
        x[i + dim / 2] = b * cos(angle) + a * sin(angle);
    }
}

static void attention(const definition *d, size_t l, const double *n, size_t n_tokens, double *out)
{
    const rv_lfm2_shape *s = &d->file->shape;
    const rv_lfm2_layer_file *f = &d->file->layers[l];
    size_t dim = s->head_dim, heads = s->n_heads, kv = s->n_kv_heads[l], h = s->hidden;
    double *q = doubles(n_tokens * heads * dim), *key = doubles(n_tokens * kv * dim),
           *value = doubles(n_tokens * kv * dim), *o = doubles(heads * dim);
    for (size_t t = 0; t < n_tokens; t++) {
        product(d, l * RV_LFM2_PARTS + RV_LFM2_Q, n + t * h, q + t * heads * dim);
        product(d, l * RV_LFM2_PARTS + RV_LFM2_K, n + t * h, key + t * kv * dim);
        product(d, l * RV_LFM2_PARTS + RV_LFM2_V, n + t * h, value + t * kv * dim);
        for (size_t i = 0; i < heads + kv; i++) {
            double *x = i < heads ? q + (t * heads + i) * dim : key + (t * kv + i - heads) * dim;
            norm(x, i < heads ? f->q_norm : f->k_norm, dim, (double)s->norm_eps, x);
            rotate(x, dim, (double)s->rope_theta, t);
        }
        for (size_t i = 0; i < heads; i++) {
            double weight[LONGEST], sum = 0;
            size_t head = i / (heads / kv);
            for (size_t j = 0; j <= t; j++) {
                double score = 0;
                for (size_t e = 0; e < dim; e++) {
                    score += q[(t * heads + i) * dim + e] * key[(j * kv + head) * dim + e];
                }
                weight[j] = exp(score / sqrt((double)dim));
                sum += weight[j];
            }
            for (size_t e = 0; e < dim; e++) {
                o[i * dim + e] = 0;
                for (size_t j = 0; j <= t; j++) {
                    o[i * dim + e] += weight[j] / sum * value[(j * kv + head) * dim + e];
                }
            }
        }
        product(d, l * RV_LFM2_PARTS + RV_LFM2_O, o, out + t * h);
    }
    free(q);
    free(key);
    free(value);
    free(o);
}

static void short_conv(const definition *d, size_t l, const double *n, size_t n_tokens, double *out)
{
    const rv_lfm2_shape *s = &d->file->shape;
    const float *conv = d->file->layers[l].conv;
    size_t h = s->hidden, taps = s->conv_taps;
    double *u = doubles(n_tokens * 3 * h), *y = doubles(h);
    for (size_t t = 0; t < n_tokens; t++) {
        product(d, l * RV_LFM2_PARTS + RV_LFM2_IN_PROJ, n + t * h, u + t * 3 * h);
        for (size_t c = 0; c < h; c++) {
            y[c] = 0;
            for (size_t k = 0; k < taps; k++) {
                if (t + k + 1 >= taps) {
                    const double *v = u + (t + k + 1 - taps) * 3 * h;
                    y[c] += (double)conv[c * taps + k] * v[c] * v[2 * h + c];
                }
            }
            y[c] *= u[t * 3 * h + h + c];
        }
        product(d, l * RV_LFM2_PARTS + RV_LFM2_OUT_PROJ, y, out + t * h);
    }
    free(u);
    free(y);
}

/* Sum of -log p of the tokens from text->first on. */
static double nll_of(const definition *d, const rv_grad_text *text)
{
    const rv_lfm2_shape *s = &d->file->shape;
    size_t h = s->hidden, n = text->n, ff = s->ff;
    double *x = doubles(n * h), *y = doubles(n * h), *add = doubles(n * h), *gate = doubles(ff),
           *up = doubles(ff);
    double *logits = doubles(s->n_vocab), nll = 0, eps = (double)s->norm_eps;
    float *row = calloc(h, sizeof *row);
    CHECK(row && n <= LONGEST, "no memory");
    for (size_t t = 0; t < n; t++) {
        row_of(&d->file->embed, (size_t)text->ids[t], row);
        for (size_t i = 0; i < h; i++) {
            x[t * h + i] = (double)row[i];
        }
    }
    for (size_t l = 0; l < s->n_layers; l++) {
        for (size_t t = 0; t < n; t++) {
            norm(x + t * h, d->file->layers[l].attn_norm, h, eps, y + t * h);
        }
        (s->n_kv_heads[l] ? attention : short_conv)(d, l, y, n, add);
        for (size_t t = 0; t < n; t++) {
            double *at = x + t * h;
            for (size_t i = 0; i < h; i++) {
                at[i] += add[t * h + i];
            }
            norm(at, d->file->layers[l].ffn_norm, h, eps, y);
            product(d, l * RV_LFM2_PARTS + RV_LFM2_GATE, y, gate);
            product(d, l * RV_LFM2_PARTS + RV_LFM2_UP, y, up);
            for (size_t i = 0; i < ff; i++) {
                gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
            }
            product(d, l * RV_LFM2_PARTS + RV_LFM2_DOWN, gate, y);
            for (size_t i = 0; i < h; i++) {
                at[i] += y[i];
            }
        }
    }
    for (size_t t = text->first - 1; t + 1 < n; t++) {
        double sum = 0;
        norm(x + t * h, d->file->final_norm, h, eps, y);
        product(d, rv_lfm2_products(d->file) - 1, y, logits);
        for (size_t i = 0; i < s->n_vocab; i++) {
            sum += exp(logits[i]);
        }
        nll += log(sum) - logits[text->ids[t + 1]];
    }
    free(x);
    free(y);
    free(add);
    free(gate);
    free(up);
    free(logits);
    free(row);
    return nll;
}

/* ---- models and texts ---- */

/* Where a block has its scale, and its least value or the scale of those, and what makes weights about as wide as floats are here: the
 * largest weight is a few times 1 / sqrt(columns). */
static const struct {
    uint32_t type;
    size_t scale_at, least_at; /* least_at 0: none */
    float scale, least;        /* times 1 / sqrt(columns) */
} blocks[] = {
    { RV_Q4_0, 0, 0, 1 / 5.0f, 0 },           { RV_Q4_1, 0, 2, 1 / 5.0f, -7.5f / 5 },
    { RV_Q5_0, 0, 0, 1 / 9.0f, 0 },           { RV_Q5_1, 0, 2, 1 / 9.0f, -15.5f / 9 },
    { RV_Q8_0, 0, 0, 1 / 74.0f, 0 },          { RV_Q4_K, 0, 2, 1 / 160.0f, 1 / 20.0f },
    { RV_Q5_K, 0, 2, 1 / 320.0f, 1 / 20.0f }, { RV_Q6_K, 208, 0, 1 / 1330.0f, 0 },
};

/* Random weights: floats, or random quants under a fixed scale. */
static void fill_tensor(uint8_t *at, const make_tensor *t, rv_rng *rng)
{
    const rv_type_info *info = rv_type_get(t->type);
    float width = 1 / sqrtf((float)t->dim[0]);
    for (size_t i = 0; i < t->bytes && info->block_weights == 1; i += info->block_bytes) {
        float x = rv_rng_normal(rng) * width + (t->n_dims == 1 ? 1.0f : 0.0f);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        uint16_t half = t->type == RV_F16 ? rv_f32_to_f16(x) : (uint16_t)(bits >> 16);
        memcpy(at + i, t->type == RV_F32 ? (void *)&x : &half, info->block_bytes);
    }
    size_t kind = 0;
    while (info->block_weights > 1 && blocks[kind].type != t->type) {
        kind++;
    }
    for (size_t i = 0; i < t->bytes && info->block_weights > 1; i += info->block_bytes) {
        for (size_t b = 0; b < info->block_bytes; b++) {
            at[i + b] = (uint8_t)rv_rng_next(rng);
        }
        uint16_t scale = rv_f32_to_f16(width * blocks[kind].scale),
                 least = rv_f32_to_f16(width * blocks[kind].least);
        memcpy(at + i + blocks[kind].scale_at, &scale, sizeof scale);
        if (blocks[kind].least_at) {
            memcpy(at + i + blocks[kind].least_at, &least, sizeof least);
        }
    }
}

static rv_lfm2_file *model_open(make *m, const make_shape *shape)
{
    rv_rng rng;
    rv_rng_init(&rng, 17);
    make_model(m, shape);
    make_file(m);
    for (size_t i = 0; i < m->n_tensors; i++) {
        fill_tensor(make_at(m, m->tensors[i].name), &m->tensors[i], &rng);
    }
    rv_lfm2_file *f = NULL;
    CHECK_OK(rv_lfm2_file_open_bytes(&rv_heap, "made", m->file, m->n, true, &f));
    return f;
}

static rv_lora *lora_of(const rv_lfm2_file *f, size_t rank)
{
    rv_lora *l = NULL;
    rv_rng rng;
    rv_rng_init(&rng, 5);
    CHECK_OK(rv_lora_new(&rv_heap, f, ALL_PARTS, rank, 2, 1, &l));
    for (size_t i = 0; i < l->n_weights; i++) {
        l->weights[i] = 0.1f * rv_rng_normal(&rng);
    }
    rv_lora_changed(l);
    return l;
}

static int32_t ids[2][LONGEST];
static void make_texts(const rv_lfm2_file *f, rv_grad_text texts[2])
{
    rv_rng rng;
    rv_rng_init(&rng, 9);
    for (size_t i = 0; i < 2 * LONGEST; i++) {
        ids[i / LONGEST][i % LONGEST] = (int32_t)rv_rng_below(&rng, f->shape.n_vocab);
    }
    texts[0] = (rv_grad_text){ .ids = ids[0], .n = 11, .first = 6, .weight = 0.25f };
    texts[1] = (rv_grad_text){ .ids = ids[1], .n = 7, .first = 1, .weight = 0.6f };
}

static double loss_of(const definition *d, const rv_grad_text texts[2])
{
    return (double)texts[0].weight * nll_of(d, &texts[0]) + (double)texts[1].weight * nll_of(d, &texts[1]);
}

/* Along a random direction within weights [from, to), and along the steepest one of them. */
static void check_direction(definition *d, const rv_grad_text texts[2], const float *gradient, size_t from,
                            size_t to, const char *name, rv_rng *rng)
{
    double *w = doubles(d->lora->n_weights), *v = doubles(to - from), step = 1e-4, along = 0;
    for (int steepest = 0; steepest < 2; steepest++) {
        double length = 0, sides[2];
        along = 0;
        for (size_t i = from; i < to; i++) {
            v[i - from] = steepest ? (double)gradient[i] : (double)rv_rng_normal(rng);
            length += v[i - from] * v[i - from];
        }
        length = sqrt(length);
        CHECK(length > 1e-7, "%s: no gradient", name);
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < d->lora->n_weights; i++) {
                w[i] = (double)d->lora->weights[i];
            }
            for (size_t i = from; i < to; i++) {
                w[i] += (side ? step : -step) * v[i - from] / length;
            }
            d->weights = w;
            sides[side] = loss_of(d, texts);
        }
        for (size_t i = from; i < to; i++) {
            along += (double)gradient[i] * v[i - from] / length;
        }
        double difference = (sides[1] - sides[0]) / (2 * step), norm_all = 0;
        for (size_t i = from; i < to; i++) {
            norm_all += (double)gradient[i] * (double)gradient[i];
        }
        double scale = steepest ? fabs(difference) : fmax(fabs(difference), 0.1 * sqrt(norm_all));
        CHECK(fabs(along - difference) <= 1e-3 * scale, "%s: gradient %g, difference %g", name, along,
              difference);
    }
    free(w);
    free(v);
}

static void check_model(const make_shape *shape, size_t rank)
{
    make m = { 0 };
    rv_lfm2_file *f = model_open(&m, shape);
    rv_lora *l = lora_of(f, rank);
    rv_lfm2_grad *g = NULL;
    rv_grad_text texts[2];
    rv_rng rng;
    rv_rng_init(&rng, 3);
    make_texts(f, texts);
    float *gradient = fenced_floats(l->n_weights);
    CHECK_OK(rv_lfm2_grad_new(&rv_heap, f, NULL, 18, &g));
    CHECK_OK(rv_lfm2_grad_run(g, l, texts, 2, gradient));

    double *w = doubles(l->n_weights);
    for (size_t i = 0; i < l->n_weights; i++) {
        w[i] = (double)l->weights[i];
    }
    definition d = { f, l, w };
    for (size_t i = 0; i < 2; i++) {
        double expected = nll_of(&d, &texts[i]);
        CHECK(fabs(texts[i].nll - expected) <= 1e-5 * expected, "text %zu: %g, expected %g", i, texts[i].nll,
              expected);
    }
    for (size_t i = 0; i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        char name[64];
        rv_lfm2_product_name(l->n_pairs, i, name);
        if (p->rank) {
            size_t a = (size_t)(p->a - l->weights), b = (size_t)(p->b - l->weights);
            check_direction(&d, texts, gradient, a, a + p->rank * p->cols, name, &rng);
            check_direction(&d, texts, gradient, b, b + p->rank * p->rows, name, &rng);
        }
    }
    free(w);
    rv_lfm2_grad_free(g);
    rv_lora_close(l);
    rv_lfm2_file_close(f);
    make_free(&m);
}

TEST(gradients_are_those_of_finite_differences_float32)
{
    check_model(&(make_shape){ RV_F32, 32, 48, 4, 0, 3, 3, { 0, 2, 0 }, false, false }, 3);
}
TEST(gradients_are_those_of_finite_differences_other_shapes)
{
    check_model(&(make_shape){ RV_F32, 24, 40, 3, 4, 2, 2, { 3, 0 }, true, false }, 2);
    check_model(&(make_shape){ RV_F32, 16, 16, 2, 32, 4, 2, { 0, 1 }, false, false }, 1);
}
TEST(gradients_are_those_of_finite_differences_q8_0)
{
    check_model(&(make_shape){ RV_Q8_0, 32, 64, 4, 0, 3, 3, { 0, 2, 0 }, false, false }, 2);
}
TEST(gradients_are_those_of_finite_differences_q4_0)
{
    check_model(&(make_shape){ RV_Q4_0, 64, 32, 4, 0, 3, 2, { 1, 0 }, false, false }, 2);
}

TEST(gradients_are_those_of_finite_differences_q4_k)
{
    check_model(&(make_shape){ RV_Q4_K, 256, 256, 4, 0, 3, 2, { 2, 0 }, false, false }, 1);
}

TEST(gradients_are_those_of_finite_differences_other_types)
{
    static const uint32_t small[] = { RV_F16, RV_BF16, RV_Q4_1, RV_Q5_0, RV_Q5_1 },
                          large[] = { RV_Q5_K, RV_Q6_K };
    for (size_t i = 0; i < RV_COUNT(small); i++) {
        check_model(&(make_shape){ small[i], 32, 64, 4, 0, 3, 2, { 0, 2 }, false, false }, 2);
    }
    for (size_t i = 0; i < RV_COUNT(large); i++) {
        check_model(&(make_shape){ large[i], 256, 256, 4, 0, 3, 2, { 2, 0 }, false, false }, 1);
    }
}

TEST(gradients_are_the_same_bits_with_any_threads_and_add_up)
{
    make m = { 0 };
    rv_lfm2_file *f =
        model_open(&m, &(make_shape){ RV_Q8_0, 128, 96, 4, 0, 3, 3, { 0, 2, 0 }, false, false });
    rv_lora *l = lora_of(f, 4);
    rv_grad_text texts[2];
    make_texts(f, texts);
    float *first = NULL;
    for (int threads = 1; threads <= 4; threads++) {
        rv_pool *pool = NULL;
        rv_lfm2_grad *g = NULL;
        float *gradient = fenced_floats(l->n_weights);
        CHECK_OK(rv_pool_new(&rv_heap, threads, &pool));
        CHECK_OK(rv_lfm2_grad_new(&rv_heap, f, pool, 40, &g));
        CHECK_OK(rv_lfm2_grad_run(g, l, texts, 2, gradient));
        first = first ? first : gradient;
        CHECK(memcmp(first, gradient, l->n_weights * sizeof *first) == 0, "%d threads", threads);

        float *sum = fenced_floats(l->n_weights);
        double losses[2] = { texts[0].nll, texts[1].nll };
        for (size_t i = 0; i < 2; i++) {
            CHECK_OK(rv_lfm2_grad_run(g, l, &texts[i], 1, sum));
            CHECK(texts[i].nll == losses[i], "a text's loss depends on the other one");
        }
        double off = 0, size = 0;
        for (size_t i = 0; i < l->n_weights; i++) {
            off += pow((double)sum[i] - (double)gradient[i], 2);
            size += pow((double)gradient[i], 2);
        }
        CHECK(sqrt(off) <= 1e-5 * sqrt(size), "one by one: off by %g of %g", sqrt(off), sqrt(size));
        CHECK_OK(rv_lfm2_grad_run(g, NULL, texts, 2, NULL));
        CHECK_ERR(rv_lfm2_grad_run(g, l, (rv_grad_text[]){ texts[0], texts[0], texts[0], texts[0] }, 4, sum),
                  RV_E_CONTEXT);
        rv_lfm2_grad_free(g);
        rv_pool_free(pool);
    }
    rv_lora_close(l);
    rv_lfm2_file_close(f);
    make_free(&m);
}
