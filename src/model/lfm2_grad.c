/* Every stage is one job of the pool over tokens, columns, heads or rows, so that each output element belongs to one thread and is
 * summed in one order. A product y = W x + s B (A x) is walked back as
 *     dB += (s A x) dy',  dA += (s B' dy) x',  dx += W' dy + A' (s B' dy)
 * with W' dy by expanding some rows of W at a time. */
#include "model/lfm2_grad.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    TILE_ROWS = 32, /* of a weight matrix, expanded at a time */
    HEAD_ROWS = 32, /* targets whose logits are held at a time */
};

/* One text's place among the tokens of a run. */
typedef struct span {
    size_t first, n,
        target; /* rows first .. first + n - 1; target: the row whose next token is the first to be foretold */
    float weight;
} span;

struct rv_lfm2_grad {
    const rv_alloc *mem;
    const rv_lfm2_file *file;
    const rv_lfm2_shape *shape;
    const rv_kernels *k;
    rv_pool *pool;
    size_t max_tokens, n_threads, bytes;
    uint8_t *scratch;

    /* this run */
    const rv_lora *lora;
    float *gradient;
    rv_grad_text *texts;
    size_t n, n_texts; /* tokens */

    /* scratch: rows of tokens, widths in floats */
    span *spans;
    size_t *span_of;
    float *x; /* [layers + 1][tokens][hidden] at the beginning of each layer, and at the end */
    float *norm, *mid, *norm_mid; /* [hidden] of a layer: stream between its halves, and both halves' norms */
    float *in, *inner;            /* [wide] results of the first products; what the second one reads */
    float *q, *key;               /* attention: normalised and turned */
    float *gate, *up, *act;       /* [ff] */
    float *dx, *dnorm;            /* [hidden] */
    float *din, *dinner, *dq, *dkey; /* as above */
    float *dgate, *dup, *dact;       /* [ff] */
    float *cos, *sin;                /* [head_dim / 2] */
    float *hidden, *dhidden,
        *logits;        /* [HEAD_ROWS] rows before the head, their gradient, logits and theirs */
    size_t *target_row; /* [HEAD_ROWS] the tokens they belong to */
    double *target_nll; /* [HEAD_ROWS] */
    size_t n_targets;
    float *low_t, *dlow, *dlow_t; /* [rank][tokens], [tokens][rank]: s A x and s B' dy */
    float *lanes;                 /* [n_threads][lane] */
    size_t lane, wide;
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void *carve(uint8_t *base, size_t *at, size_t count, size_t size)
{
    void *p = base ? base + *at : NULL;
    *at += (count * size + 63) / 64 * 64;
    return p;
}

static size_t kv_width(const rv_lfm2_shape *s, size_t layer)
{
    return (size_t)s->n_kv_heads[layer] * s->head_dim;
}

/* Deals base out to the buffers, or with NULL only counts. */
static size_t lay_out(rv_lfm2_grad *g, uint8_t *base)
{
    const rv_lfm2_shape *s = g->shape;
    size_t t = g->max_tokens, h = s->hidden, heads = (size_t)s->n_heads * s->head_dim, kv = 0, at = 0;
    for (size_t l = 0; l < s->n_layers; l++) {
        kv = larger(kv, kv_width(s, l));
    }
    g->wide = larger(3 * h, heads + 2 * kv); /* B, C and z, or query, key and value */
    g->lane = larger(TILE_ROWS * larger(h, larger(heads, s->ff)), 2 * t);
    struct {
        float **to;
        size_t count;
    } parts[] = {
        { &g->x, (s->n_layers + 1) * t * h },
        { &g->norm, t * h },
        { &g->mid, t * h },
        { &g->norm_mid, t * h },
        { &g->in, t * g->wide },
        { &g->inner, t * larger(h, heads) },
        { &g->q, t * heads },
        { &g->key, t * kv },
        { &g->gate, t * s->ff },
        { &g->up, t * s->ff },
        { &g->act, t * s->ff },
        { &g->dx, t * h },
        { &g->dnorm, t * h },
        { &g->din, t * g->wide },
        { &g->dinner, t * larger(h, heads) },
        { &g->dq, t * heads },
        { &g->dkey, t * kv },
        { &g->dgate, t * s->ff },
        { &g->dup, t * s->ff },
        { &g->dact, t * s->ff },
        { &g->cos, t * (s->head_dim / 2) },
        { &g->sin, t * (s->head_dim / 2) },
        { &g->hidden, HEAD_ROWS * h },
        { &g->dhidden, HEAD_ROWS * h },
        { &g->logits, (size_t)HEAD_ROWS * s->n_vocab },
        { &g->low_t, larger(t, HEAD_ROWS) * RV_LORA_MAX_RANK },
        { &g->dlow, larger(t, HEAD_ROWS) * RV_LORA_MAX_RANK },
        { &g->dlow_t, larger(t, HEAD_ROWS) * RV_LORA_MAX_RANK },
        { &g->lanes, g->n_threads * g->lane },
    };
    for (size_t i = 0; i < RV_COUNT(parts); i++) {
        *parts[i].to = carve(base, &at, parts[i].count, sizeof(float));
    }
    g->spans = carve(base, &at, t, sizeof *g->spans);
    g->span_of = carve(base, &at, t, sizeof *g->span_of);
    g->target_row = carve(base, &at, HEAD_ROWS, sizeof *g->target_row);
    g->target_nll = carve(base, &at, HEAD_ROWS, sizeof *g->target_nll);
    return at;
}

rv_err rv_lfm2_grad_new(const rv_alloc *mem, const rv_lfm2_file *file, rv_pool *pool, size_t max_tokens,
                        rv_lfm2_grad **out)
{
    if (max_tokens < 2 || max_tokens > 1 << 20) {
        return rv_fail(RV_E_ARG, "a backward pass over %zu tokens, expected 2 to %d", max_tokens, 1 << 20);
    }
    rv_lfm2_grad *g = rv_new(mem, sizeof *g);
    if (!g) {
        return rv_fail(RV_E_NOMEM, "a backward pass");
    }
    *g = (rv_lfm2_grad){ .mem = mem,
                         .file = file,
                         .shape = &file->shape,
                         .k = rv_kernels_best(),
                         .pool = pool,
                         .max_tokens = max_tokens,
                         .n_threads = (size_t)rv_pool_threads(pool) };
    g->bytes = lay_out(g, NULL);
    g->scratch = rv_new_aligned(mem, 64, g->bytes);
    if (!g->scratch) {
        rv_free(mem, g);
        return rv_fail(RV_E_NOMEM, "no memory for %zu bytes of a backward pass over %zu tokens", g->bytes,
                       max_tokens);
    }
    lay_out(g, g->scratch);
    *out = g;
    return RV_OK;
}

void rv_lfm2_grad_free(rv_lfm2_grad *g)
{
    if (g) {
        rv_free(g->mem, g->scratch);
        rv_free(g->mem, g);
    }
}

size_t rv_lfm2_grad_bytes(const rv_lfm2_grad *g)
{
    return g->bytes;
}

size_t rv_lfm2_grad_max_tokens(const rv_lfm2_grad *g)
{
    return g->max_tokens;
}

/* ---- products ---- */

typedef struct product {
    const rv_lfm2_grad *g;
    const rv_matrix *w;
    const rv_lora_pair *pair; /* NULL: no adapter here */
    float *da, *db;           /* where its gradient goes */
    size_t n;                 /* rows of tokens */
    const float *x;           /* [n][cols] */
    float *y;                 /* [n][rows], stride y_stride */
    size_t y_stride;
    float *dx; /* [n][cols], added to */
} product;

static product product_of(const rv_lfm2_grad *g, size_t number, size_t n)
{
    product p = { .g = g, .w = rv_lfm2_product(g->file, number), .n = n };
    p.y_stride = p.w->rows;
    if (g->lora && g->lora->pairs[number].rank) {
        p.pair = &g->lora->pairs[number];
        p.da = g->gradient ? g->gradient + (p.pair->a - g->lora->weights) : NULL;
        p.db = g->gradient ? g->gradient + (p.pair->b - g->lora->weights) : NULL;
    }
    return p;
}

static void forward_rows(void *arg, int thread, int n_threads)
{
    const product *p = arg;
    size_t from, to;
    rv_act x;
    rv_act_layout(p->x, p->w->cols, p->w->cols, p->n, NULL, &x);
    rv_pool_split(p->w->rows, RV_ROW_STEP, thread, n_threads, &from, &to);
    if (from < to) {
        p->g->k->matmul(p->w, &x, from, to, p->y, p->y_stride);
        for (size_t t = 0; p->pair && t < p->n; t++) {
            rv_lora_add(p->g->k, p->pair, p->x + t * p->w->cols, from, to, p->y + t * p->y_stride);
        }
    }
}

static void forward(const rv_lfm2_grad *g, size_t layer, rv_lfm2_part part, const float *x, float *y,
                    size_t y_stride)
{
    product p = product_of(g, layer * RV_LFM2_PARTS + part, g->n);
    p.x = x;
    p.y = y;
    p.y_stride = y_stride;
    rv_pool_run(g->pool, forward_rows, &p);
}

/* s A x and s B' dy of some tokens. */
static void lower(const product *p, size_t from, size_t to)
{
    const rv_lfm2_grad *g = p->g;
    const rv_lora_pair *l = p->pair;
    for (size_t t = from; t < to; t++) {
        for (size_t j = 0; j < l->rank; j++) {
            float u = l->scale * g->k->dot_f32(l->a + j * l->cols, p->x + t * l->cols, l->cols);
            float du = l->scale * g->k->dot_f32(l->b + j * l->rows, p->y + t * p->y_stride, l->rows);
            g->low_t[j * p->n + t] = u;
            g->dlow[t * l->rank + j] = g->dlow_t[j * p->n + t] = du;
        }
    }
}

static void factor_gradients(const product *p, int thread, int n_threads)
{
    const rv_lfm2_grad *g = p->g;
    const rv_lora_pair *l = p->pair;
    size_t from, to;
    rv_pool_split(l->rows, 16, thread, n_threads, &from, &to);
    if (from < to && p->db) {
        g->k->gemm(&(rv_gemm){ l->rank, p->n, to - from, g->low_t, p->y + from, p->n, p->y_stride,
                               p->db + from, l->rows });
    }
    rv_pool_split(l->cols, 16, thread, n_threads, &from, &to);
    if (from < to && p->da) {
        g->k->gemm(&(rv_gemm){ l->rank, p->n, to - from, g->dlow_t, p->x + from, p->n, l->cols, p->da + from,
                               l->cols });
    }
}

/* dx += W' dy for columns [from, to). */
static void through_weights(const product *p, float *tile, size_t from, size_t to)
{
    const rv_lfm2_grad *g = p->g;
    const rv_type_info *type = rv_type_get((uint32_t)p->w->type);
    size_t row_bytes = 0, width = to - from, skip = from / type->block_weights * type->block_bytes;
    bool whole = rv_type_row_bytes(p->w->type, p->w->cols, &row_bytes);
    assert(whole);
    (void)whole;
    for (size_t row = 0; row < p->w->rows; row += TILE_ROWS) {
        size_t n = p->w->rows - row < TILE_ROWS ? p->w->rows - row : TILE_ROWS;
        for (size_t r = 0; r < n; r++) {
            g->k->expand[p->w->type]((const char *)p->w->raw + (row + r) * row_bytes + skip, tile + r * width,
                                     width);
        }
        g->k->gemm(
            &(rv_gemm){ p->n, n, width, p->y + row, tile, p->y_stride, width, p->dx + from, p->w->cols });
    }
}

static void backward_part(void *arg, int thread, int n_threads)
{
    const product *p = arg;
    const rv_lfm2_grad *g = p->g;
    size_t from, to;
    if (p->pair) {
        rv_pool_split(p->n, 1, thread, n_threads, &from, &to);
        lower(p, from, to);
        if (n_threads > 1) {
            rv_pool_barrier(g->pool, thread);
        }
        factor_gradients(p, thread, n_threads);
    }
    rv_pool_split(p->w->cols, rv_type_get((uint32_t)p->w->type)->block_weights > 32 ? 256 : 32, thread,
                  n_threads, &from, &to);
    if (from < to) {
        through_weights(p, g->lanes + (size_t)thread * g->lane, from, to);
        if (p->pair) {
            g->k->gemm(&(rv_gemm){ p->n, p->pair->rank, to - from, g->dlow, p->pair->a + from, p->pair->rank,
                                   p->pair->cols, p->dx + from, p->pair->cols });
        }
    }
}

/* From dy to dx (added) and the factors' gradients; x as it went in. */
static void backward(const rv_lfm2_grad *g, size_t layer, rv_lfm2_part part, const float *x, float *dy,
                     size_t dy_stride, float *dx)
{
    product p = product_of(g, layer * RV_LFM2_PARTS + part, g->n);
    p.x = x;
    p.y = dy;
    p.y_stride = dy_stride;
    p.dx = dx;
    rv_pool_run(g->pool, backward_part, &p);
}

/* ---- what is between products, a job each ---- */

typedef struct job {
    rv_lfm2_grad *g;
    size_t layer;
    const float *from;
    const float *weight;
    float *to, *add;
} job;

static void each_token(rv_lfm2_grad *g, void (*work)(const job *, size_t t), const job *j, int thread,
                       int n_threads)
{
    size_t from, to;
    rv_pool_split(g->n, 1, thread, n_threads, &from, &to);
    for (size_t t = from; t < to; t++) {
        work(j, t);
    }
}

/* The gradient of x / sqrt(mean(x^2) + eps) * w, added to dx. */
static void norm_back(const float *x, const float *w, const float *dy, size_t n, float eps, float *dx)
{
    double square = 0, along = 0;
    for (size_t i = 0; i < n; i++) {
        square += (double)x[i] * (double)x[i];
        along += (double)w[i] * (double)dy[i] * (double)x[i];
    }
    double r = 1 / sqrt(square / (double)n + (double)eps), pull = r * r * r * along / (double)n;
    for (size_t i = 0; i < n; i++) {
        dx[i] += (float)(r * (double)w[i] * (double)dy[i] - pull * (double)x[i]);
    }
}

static void norm_token(const job *j, size_t t)
{
    size_t h = j->g->shape->hidden;
    j->g->k->rmsnorm(j->from + t * h, j->weight, h, j->g->shape->norm_eps, j->to + t * h);
}

static void norm_back_token(const job *j, size_t t)
{
    size_t h = j->g->shape->hidden;
    norm_back(j->from + t * h, j->weight, j->g->dnorm + t * h, h, j->g->shape->norm_eps, j->to + t * h);
}

static void add_token(const job *j, size_t t)
{
    size_t h = j->g->shape->hidden;
    j->g->k->add(j->to + t * h, j->from + t * h, h);
}

static void gate_token(const job *j, size_t t)
{
    rv_lfm2_grad *g = j->g;
    size_t ff = g->shape->ff;
    memcpy(g->act + t * ff, g->gate + t * ff, ff * sizeof(float));
    g->k->silu_mul(g->act + t * ff, g->up + t * ff, ff);
}

static void gate_back_token(const job *j, size_t t)
{
    rv_lfm2_grad *g = j->g;
    size_t ff = g->shape->ff;
    for (size_t i = t * ff; i < (t + 1) * ff; i++) {
        float open = 1 / (1 + expf(-g->gate[i])), silu = g->gate[i] * open;
        g->dup[i] = g->dact[i] * silu;
        g->dgate[i] = g->dact[i] * g->up[i] * open * (1 + g->gate[i] * (1 - open));
    }
}

/* y = C * sum over taps of w * (B z) */
static void conv_token(const job *j, size_t t)
{
    rv_lfm2_grad *g = j->g;
    size_t h = g->shape->hidden, taps = g->shape->conv_taps;
    const span *s = &g->spans[g->span_of[t]];
    const float *w = g->file->layers[j->layer].conv, *u = g->in + t * 3 * h;
    size_t seen = t - s->first + 1 < taps ? t - s->first + 1 : taps;
    for (size_t c = 0; c < h; c++) {
        float sum = 0;
        for (size_t back = 0; back < seen; back++) {
            const float *v = u - back * 3 * h;
            sum += w[c * taps + taps - 1 - back] * v[c] * v[2 * h + c];
        }
        g->inner[t * h + c] = u[h + c] * sum;
    }
}

static void conv_back_token(const job *j, size_t t)
{
    rv_lfm2_grad *g = j->g;
    size_t h = g->shape->hidden, taps = g->shape->conv_taps;
    const span *s = &g->spans[g->span_of[t]];
    const float *w = g->file->layers[j->layer].conv, *u = g->in + t * 3 * h;
    float *du = g->din + t * 3 * h;
    size_t seen = t - s->first + 1 < taps ? t - s->first + 1 : taps;
    size_t ahead = s->first + s->n - t < taps ? s->first + s->n - t : taps;
    for (size_t c = 0; c < h; c++) {
        float sum = 0, dproduct = 0;
        for (size_t back = 0; back < seen; back++) {
            const float *v = u - back * 3 * h;
            sum += w[c * taps + taps - 1 - back] * v[c] * v[2 * h + c];
        }
        for (size_t on = 0; on < ahead; on++) { /* this token's product is in the sums of those after it */
            dproduct += w[c * taps + taps - 1 - on] * g->dinner[(t + on) * h + c] * u[on * 3 * h + h + c];
        }
        du[c] = dproduct * u[2 * h + c];
        du[h + c] = g->dinner[t * h + c] * sum;
        du[2 * h + c] = dproduct * u[c];
    }
}

/* ---- attention. in holds [q key value] of a token side by side. ---- */

static void turn_token(const job *j, size_t t)
{
    rv_lfm2_grad *g = j->g;
    const rv_lfm2_shape *s = g->shape;
    const rv_lfm2_layer_file *l = &g->file->layers[j->layer];
    size_t d = s->head_dim, heads = s->n_heads, n_kv = s->n_kv_heads[j->layer];
    const float *cos = g->cos + t * (d / 2), *sin = g->sin + t * (d / 2), *in = g->in + t * g->wide;
    float *q = g->q + t * heads * d, *key = g->key + t * n_kv * d;
    for (size_t i = 0; i < heads; i++) {
        g->k->rmsnorm(in + i * d, l->q_norm, d, s->norm_eps, q + i * d);
    }
    for (size_t i = 0; i < n_kv; i++) {
        g->k->rmsnorm(in + (heads + i) * d, l->k_norm, d, s->norm_eps, key + i * d);
    }
    g->k->rope(q, cos, sin, heads, d);
    g->k->rope(key, cos, sin, n_kv, d);
}

static void turn_back(float *x, const float *cos, const float *sin, size_t d)
{
    for (size_t i = 0; i < d / 2; i++) {
        float a = x[i], b = x[i + d / 2];
        x[i] = a * cos[i] + b * sin[i];
        x[i + d / 2] = b * cos[i] - a * sin[i];
    }
}

static void turn_back_token(const job *j, size_t t)
{
    rv_lfm2_grad *g = j->g;
    const rv_lfm2_shape *s = g->shape;
    const rv_lfm2_layer_file *l = &g->file->layers[j->layer];
    size_t d = s->head_dim, heads = s->n_heads, n_kv = s->n_kv_heads[j->layer];
    const float *cos = g->cos + t * (d / 2), *sin = g->sin + t * (d / 2), *in = g->in + t * g->wide;
    float *din = g->din + t * g->wide;
    memset(din, 0, (heads + n_kv) * d * sizeof *din);
    for (size_t i = 0; i < heads + n_kv; i++) {
        float *dy = i < heads ? g->dq + (t * heads + i) * d : g->dkey + (t * n_kv + i - heads) * d;
        turn_back(dy, cos, sin, d);
        norm_back(in + i * d, i < heads ? l->q_norm : l->k_norm, dy, d, s->norm_eps, din + i * d);
    }
}

/* A text and one of its key/value heads, with the query heads that look at it. */
typedef struct view {
    const span *s;
    size_t d, group, heads, n_kv, head, value_at;
    float scale;
} view;

static view view_of(const rv_lfm2_grad *g, size_t layer, size_t unit)
{
    size_t n_kv = g->shape->n_kv_heads[layer], heads = g->shape->n_heads, d = g->shape->head_dim;
    return (view){ .s = &g->spans[unit / n_kv],
                   .d = d,
                   .group = heads / n_kv,
                   .heads = heads,
                   .n_kv = n_kv,
                   .head = unit % n_kv,
                   .value_at = (heads + n_kv + unit % n_kv) * d,
                   .scale = 1 / sqrtf((float)d) };
}

/* Weights of the n first tokens for a query. */
static void look(const rv_lfm2_grad *g, const view *v, const float *q, size_t n, float *p)
{
    const float *key = g->key + (v->s->first * v->n_kv + v->head) * v->d;
    for (size_t i = 0; i < n; i++) {
        p[i] = v->scale * g->k->dot_f32(q, key + i * v->n_kv * v->d, v->d);
    }
    g->k->softmax(p, n);
}

static void attend_units(void *arg, int thread, int n_threads)
{
    const job *j = arg;
    rv_lfm2_grad *g = j->g;
    float *p = g->lanes + (size_t)thread * g->lane;
    for (size_t unit = (size_t)thread; unit < g->n_texts * g->shape->n_kv_heads[j->layer];
         unit += (size_t)n_threads) {
        view v = view_of(g, j->layer, unit);
        for (size_t t = 0; t < v.s->n; t++) {
            for (size_t i = 0; i < v.group; i++) {
                size_t at = ((v.s->first + t) * v.heads + v.head * v.group + i) * v.d;
                look(g, &v, g->q + at, t + 1, p);
                memset(g->inner + at, 0, v.d * sizeof(float));
                g->k->gemm(&(rv_gemm){ 1, t + 1, v.d, p, g->in + v.s->first * g->wide + v.value_at, t + 1,
                                       g->wide, g->inner + at, v.d });
            }
        }
    }
}

static void attend_back_query(const rv_lfm2_grad *g, const view *v, size_t t, size_t i, float *p, float *dp)
{
    size_t n = t + 1, row = v->s->first * v->n_kv + v->head;
    size_t at = ((v->s->first + t) * v->heads + v->head * v->group + i) * v->d;
    const float *value = g->in + v->s->first * g->wide + v->value_at, *dout = g->dinner + at;
    float *dvalue = g->din + v->s->first * g->wide + v->value_at;
    look(g, v, g->q + at, n, p);
    double mean = 0;
    for (size_t k = 0; k < n; k++) {
        dp[k] = g->k->dot_f32(dout, value + k * g->wide, v->d);
        mean += (double)p[k] * (double)dp[k];
    }
    g->k->gemm(&(rv_gemm){ n, 1, v->d, p, dout, 1, v->d, dvalue, g->wide });
    for (size_t k = 0; k < n; k++) {
        dp[k] = v->scale * p[k] * (dp[k] - (float)mean);
    }
    g->k->gemm(&(rv_gemm){ 1, n, v->d, dp, g->key + row * v->d, n, v->n_kv * v->d, g->dq + at, v->d });
    g->k->gemm(&(rv_gemm){ n, 1, v->d, dp, g->q + at, 1, v->d, g->dkey + row * v->d, v->n_kv * v->d });
}

static void attend_back_units(void *arg, int thread, int n_threads)
{
    const job *j = arg;
    rv_lfm2_grad *g = j->g;
    float *p = g->lanes + (size_t)thread * g->lane, *dp = p + g->max_tokens;
    for (size_t unit = (size_t)thread; unit < g->n_texts * g->shape->n_kv_heads[j->layer];
         unit += (size_t)n_threads) {
        view v = view_of(g, j->layer, unit);
        for (size_t t = 0; t < v.s->n; t++) {
            size_t row = v.s->first + t;
            memset(g->dkey + (row * v.n_kv + v.head) * v.d, 0, v.d * sizeof(float));
            memset(g->din + row * g->wide + v.value_at, 0, v.d * sizeof(float));
            memset(g->dq + (row * v.heads + v.head * v.group) * v.d, 0, v.group * v.d * sizeof(float));
        }
        for (size_t t = 0; t < v.s->n; t++) {
            for (size_t i = 0; i < v.group; i++) {
                attend_back_query(g, &v, t, i, p, dp);
            }
        }
    }
}

/* ---- stages as jobs of the pool ---- */

#define TOKEN_JOB(stage)                                                                                     \
    static void stage##_job(void *arg, int thread, int n_threads)                                            \
    {                                                                                                        \
        const job *j = arg;                                                                                  \
        each_token(j->g, stage##_token, j, thread, n_threads);                                               \
    }
TOKEN_JOB(norm)
TOKEN_JOB(norm_back)
TOKEN_JOB(add)
TOKEN_JOB(gate)
TOKEN_JOB(gate_back)
TOKEN_JOB(conv)
TOKEN_JOB(conv_back)
TOKEN_JOB(turn)
TOKEN_JOB(turn_back)

static void stage(rv_lfm2_grad *g, rv_pool_job work, size_t layer, const float *from, const float *weight,
                  float *to)
{
    rv_pool_run(g->pool, work, &(job){ .g = g, .layer = layer, .from = from, .weight = weight, .to = to });
}

static float *stream(const rv_lfm2_grad *g, size_t layer)
{
    return g->x + layer * g->max_tokens * g->shape->hidden;
}

static void clear(float *x, size_t n)
{
    memset(x, 0, n * sizeof *x);
}

/* Everything of a layer that its way back reads, from the stream at its beginning. */
static void layer_inside(rv_lfm2_grad *g, size_t l)
{
    const rv_lfm2_layer_file *f = &g->file->layers[l];
    size_t h = g->shape->hidden, heads = (size_t)g->shape->n_heads * g->shape->head_dim,
           kv = kv_width(g->shape, l);
    stage(g, norm_job, l, stream(g, l), f->attn_norm, g->norm);
    if (kv) {
        forward(g, l, RV_LFM2_Q, g->norm, g->in, g->wide);
        forward(g, l, RV_LFM2_K, g->norm, g->in + heads, g->wide);
        forward(g, l, RV_LFM2_V, g->norm, g->in + heads + kv, g->wide);
        stage(g, turn_job, l, NULL, NULL, NULL);
        stage(g, attend_units, l, NULL, NULL, NULL);
        forward(g, l, RV_LFM2_O, g->inner, g->mid, h);
    } else {
        forward(g, l, RV_LFM2_IN_PROJ, g->norm, g->in, 3 * h);
        stage(g, conv_job, l, NULL, NULL, NULL);
        forward(g, l, RV_LFM2_OUT_PROJ, g->inner, g->mid, h);
    }
    stage(g, add_job, l, stream(g, l), NULL, g->mid);
    stage(g, norm_job, l, g->mid, f->ffn_norm, g->norm_mid);
    forward(g, l, RV_LFM2_GATE, g->norm_mid, g->gate, g->shape->ff);
    forward(g, l, RV_LFM2_UP, g->norm_mid, g->up, g->shape->ff);
    stage(g, gate_job, l, NULL, NULL, NULL);
}

static void layer_forward(rv_lfm2_grad *g, size_t l)
{
    layer_inside(g, l);
    forward(g, l, RV_LFM2_DOWN, g->act, stream(g, l + 1), g->shape->hidden);
    stage(g, add_job, l, g->mid, NULL, stream(g, l + 1));
}

/* dx: the gradient at the layer's end on the way in, at its beginning on the way out. */
static void layer_back(rv_lfm2_grad *g, size_t l)
{
    const rv_lfm2_layer_file *f = &g->file->layers[l];
    size_t h = g->shape->hidden, ff = g->shape->ff, kv = kv_width(g->shape, l);
    size_t heads = (size_t)g->shape->n_heads * g->shape->head_dim;
    layer_inside(g, l);

    clear(g->dact, g->n * ff);
    backward(g, l, RV_LFM2_DOWN, g->act, g->dx, h, g->dact);
    stage(g, gate_back_job, l, NULL, NULL, NULL);
    clear(g->dnorm, g->n * h);
    backward(g, l, RV_LFM2_GATE, g->norm_mid, g->dgate, ff, g->dnorm);
    backward(g, l, RV_LFM2_UP, g->norm_mid, g->dup, ff, g->dnorm);
    stage(g, norm_back_job, l, g->mid, f->ffn_norm, g->dx);

    clear(g->dinner, g->n * larger(h, heads));
    backward(g, l, kv ? RV_LFM2_O : RV_LFM2_OUT_PROJ, g->inner, g->dx, h, g->dinner);
    clear(g->dnorm, g->n * h);
    if (kv) {
        stage(g, attend_back_units, l, NULL, NULL, NULL);
        stage(g, turn_back_job, l, NULL, NULL, NULL);
        backward(g, l, RV_LFM2_Q, g->norm, g->din, g->wide, g->dnorm);
        backward(g, l, RV_LFM2_K, g->norm, g->din + heads, g->wide, g->dnorm);
        backward(g, l, RV_LFM2_V, g->norm, g->din + heads + kv, g->wide, g->dnorm);
    } else {
        stage(g, conv_back_job, l, NULL, NULL, NULL);
        backward(g, l, RV_LFM2_IN_PROJ, g->norm, g->din, 3 * h, g->dnorm);
    }
    stage(g, norm_back_job, l, stream(g, l), f->attn_norm, g->dx);
}

/* ---- the head ---- */

/* From logits to the gradient of weight * -log p, in place. */
static void head_losses(void *arg, int thread, int n_threads)
{
    rv_lfm2_grad *g = ((const job *)arg)->g;
    size_t v = g->shape->n_vocab;
    for (size_t r = (size_t)thread; r < g->n_targets; r += (size_t)n_threads) {
        float *x = g->logits + r * v, most = x[0];
        const span *s = &g->spans[g->span_of[g->target_row[r]]];
        int32_t id = g->texts[s - g->spans].ids[g->target_row[r] - s->first + 1];
        for (size_t i = 1; i < v; i++) {
            most = x[i] > most ? x[i] : most;
        }
        double sum = 0, at = (double)x[id] - (double)most;
        for (size_t i = 0; i < v; i++) {
            x[i] = expf(x[i] - most);
            sum += (double)x[i];
        }
        g->target_nll[r] = log(sum) - at;
        float share = (float)((double)s->weight / sum);
        for (size_t i = 0; i < v; i++) {
            x[i] *= share;
        }
        x[id] -= s->weight;
    }
}

/* Losses of the targets gathered in target_row, and what they add to dx. */
static void head_block(rv_lfm2_grad *g)
{
    size_t h = g->shape->hidden;
    const float *end = stream(g, g->shape->n_layers), *weight = g->file->final_norm;
    for (size_t r = 0; r < g->n_targets; r++) {
        g->k->rmsnorm(end + g->target_row[r] * h, weight, h, g->shape->norm_eps, g->hidden + r * h);
    }
    product p = product_of(g, rv_lfm2_products(g->file) - 1, g->n_targets);
    p.x = g->hidden;
    p.y = g->logits;
    p.dx = g->dhidden;
    rv_pool_run(g->pool, forward_rows, &p);
    rv_pool_run(g->pool, head_losses, &(job){ .g = g });
    for (size_t r = 0; r < g->n_targets; r++) {
        g->texts[g->span_of[g->target_row[r]]].nll += g->target_nll[r];
    }
    if (!g->gradient) {
        return;
    }
    clear(g->dhidden, g->n_targets * h);
    rv_pool_run(g->pool, backward_part, &p);
    for (size_t r = 0; r < g->n_targets; r++) {
        size_t at = g->target_row[r] * h;
        norm_back(end + at, weight, g->dhidden + r * h, h, g->shape->norm_eps, g->dx + at);
    }
}

static void head(rv_lfm2_grad *g)
{
    clear(g->dx, g->n * g->shape->hidden);
    g->n_targets = 0;
    for (size_t t = 0; t < g->n; t++) {
        const span *s = &g->spans[g->span_of[t]];
        if (t >= s->target && t + 1 < s->first + s->n) {
            g->target_row[g->n_targets++] = t;
        }
        if (g->n_targets == HEAD_ROWS || (t + 1 == g->n && g->n_targets)) {
            head_block(g);
            g->n_targets = 0;
        }
    }
}

/* ---- a run ---- */

static rv_err place_texts(rv_lfm2_grad *g)
{
    g->n = 0;
    for (size_t i = 0; i < g->n_texts; i++) {
        rv_grad_text *text = &g->texts[i];
        assert(text->n >= 2 && text->first >= 1 && text->first < text->n);
        if (text->n > g->max_tokens - g->n) {
            return rv_fail(RV_E_CONTEXT, "texts of more than %zu tokens in one backward pass", g->max_tokens);
        }
        for (size_t t = 0; t < text->n; t++) {
            if (text->ids[t] < 0 || (uint32_t)text->ids[t] >= g->shape->n_vocab) {
                return rv_fail(RV_E_ARG, "token %d, expected 0 to %u", text->ids[t], g->shape->n_vocab - 1);
            }
            g->span_of[g->n + t] = i;
        }
        g->spans[i] = (span){ g->n, text->n, g->n + text->first - 1, text->weight };
        text->nll = 0;
        g->n += text->n;
    }
    return RV_OK;
}

static void begin_token(const job *j, size_t t)
{
    rv_lfm2_grad *g = j->g;
    const span *s = &g->spans[g->span_of[t]];
    const rv_matrix *w = &g->file->embed;
    size_t row_bytes = 0, half = g->shape->head_dim / 2, h = g->shape->hidden;
    bool whole = rv_type_row_bytes(w->type, w->cols, &row_bytes);
    assert(whole);
    (void)whole;
    size_t id = (size_t)g->texts[s - g->spans].ids[t - s->first];
    g->k->expand[w->type]((const char *)w->raw + id * row_bytes, g->x + t * h, h);
    for (size_t i = 0; i < half; i++) {
        double rate = pow((double)g->shape->rope_theta, -2.0 * (double)i / (double)g->shape->head_dim);
        double angle = (double)(t - s->first) * rate;
        g->cos[t * half + i] = (float)cos(angle);
        g->sin[t * half + i] = (float)sin(angle);
    }
}
TOKEN_JOB(begin)

rv_err rv_lfm2_grad_run(rv_lfm2_grad *g, const rv_lora *lora, rv_grad_text *texts, size_t n_texts,
                        float *gradient)
{
    assert(lora || !gradient);
    g->lora = lora;
    g->gradient = gradient;
    g->texts = texts;
    g->n_texts = n_texts;
    RV_TRY(place_texts(g));
    stage(g, begin_job, 0, NULL, NULL, NULL);
    for (size_t l = 0; l < g->shape->n_layers; l++) {
        layer_forward(g, l);
    }
    head(g);
    for (size_t l = g->shape->n_layers; gradient && l-- > 0;) {
        layer_back(g, l);
    }
    return RV_OK;
}
