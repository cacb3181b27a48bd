/* The weights and the forward pass; the backward pass stands below it, in the same order of steps turned round. */
#include "attend/attend.h"

#include "attend/attend_priv.h"
#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* All logits are SHARPNESS times their terms, so that parameters of about 1 can single out a node. At the start a hit's term is its
 * score of 0..1, and a hop costs more than any score gives. */
static const float SHARPNESS = 8, HOP_COST = 1.125F;

/* Of one layer, in this order. */
typedef struct layer_view {
    float *aq, *bq; /* [RANK][dim], [dim][RANK] */
    float *ak, *bk;
    float *beta;     /* [heads] */
    float *evidence; /* [heads][RV_EVIDENCE_N] */
    float *gamma;    /* [heads] */
    float *gate;     /* [1] */
} layer_view;

static size_t layer_values(size_t dim, size_t heads)
{
    return 4 * RANK * dim + heads * (RV_EVIDENCE_N + 2) + 1;
}

static layer_view layer_at(const rv_attend_weights *w, float *values, size_t layer)
{
    layer_view v;
    float *at = values + layer * layer_values(w->dim, w->heads);
    size_t low_rank = RANK * w->dim;
    v.aq = at, at += low_rank;
    v.bq = at, at += low_rank;
    v.ak = at, at += low_rank;
    v.bk = at, at += low_rank;
    v.beta = at, at += w->heads;
    v.evidence = at, at += w->heads * RV_EVIDENCE_N;
    v.gamma = at, at += w->heads;
    v.gate = at;
    return v;
}

static void start(rv_attend_weights *w)
{
    rv_rng rng;
    rv_rng_init(&rng, w->seed);
    memset(w->values, 0, w->n_values * sizeof *w->values);
    float spread = 1 / sqrtf((float)w->dim);
    for (size_t l = 0; l < LAYERS; l++) {
        layer_view v = layer_at(w, w->values, l);
        for (size_t i = 0; i < RANK * w->dim; i++) {
            v.aq[i] = spread * rv_rng_normal(&rng);
            v.ak[i] = spread * rv_rng_normal(&rng);
        }
        for (size_t h = 0; h < w->heads; h++) {
            v.evidence[h * RV_EVIDENCE_N + RV_EVIDENCE_PATH] = 1;
            v.gamma[h] = HOP_COST;
        }
    }
}

rv_err rv_attend_new(const rv_alloc *mem, size_t dim, bool rope, uint64_t seed, rv_attend_weights **out)
{
    if (dim < 2 || dim > RV_ATTEND_DIM_MAX || dim % 2) {
        return rv_fail(RV_E_ARG, "graph attention: dimension %zu, expected an even one of 2 .. %d", dim,
                       RV_ATTEND_DIM_MAX);
    }
    rv_attend_weights *w = rv_new(mem, sizeof *w);
    if (!w) {
        return rv_fail(RV_E_NOMEM, "graph attention");
    }
    *w = (rv_attend_weights){ .mem = mem, .dim = dim, .heads = HEADS_MAX, .rope = rope, .seed = seed };
    while (dim % (2 * w->heads)) {
        w->heads /= 2;
    }
    w->width = dim / w->heads;
    w->n_values = LAYERS * layer_values(dim, w->heads);
    w->values = rv_new_array(mem, w->n_values, sizeof *w->values);
    if (!w->values) {
        rv_free(mem, w);
        return rv_fail(RV_E_NOMEM, "graph attention");
    }
    start(w);
    *out = w;
    return RV_OK;
}

void rv_attend_free(rv_attend_weights *w)
{
    if (w) {
        rv_free(w->mem, w->values);
        rv_free(w->mem, w);
    }
}

rv_err rv_attend_copy(const rv_attend_weights *w, rv_attend_weights **out)
{
    RV_TRY(rv_attend_new(w->mem, w->dim, w->rope, w->seed, out));
    memcpy((*out)->values, w->values, w->n_values * sizeof *w->values);
    return RV_OK;
}

size_t rv_attend_dim(const rv_attend_weights *w)
{
    return w->dim;
}

float *rv_attend_values(rv_attend_weights *w, size_t *n)
{
    *n = w->n_values;
    return w->values;
}

/* ---- scratch ---- */

/* What one layer computed, kept for the way back. */
typedef struct layer_pass {
    float *c;  /* [dim] the state it began with */
    float *aq; /* [RANK] Aq c */
    float *q;  /* [RV_ATTEND_HOPS][dim] turned as keys of that hop want it: <R(0) q, R(p) k> = <R(-p) q, k> */
    float *u;  /* [RV_ATTEND_HOPS][heads][RANK] Bk_h^T q_h */
    float *z;  /* [n][RANK] Ak x */
    float *dot;    /* [heads][n] <q, k> */
    float *weight; /* [heads][n] softmax of the logits */
    float *o;      /* [dim] */
    float length;  /* of c + g o; 0: the state stayed as it was */
} layer_pass;

typedef struct pass {
    layer_pass layer[LAYERS];
    float *c;                 /* [dim] the state at the end */
    float *dc, *dq, *du, *dz; /* [dim], [HOPS][dim], [HOPS][heads][RANK], [RANK] of the way back */
    float *ds;                /* [heads][n] */
} pass;

static size_t pass_floats(const rv_attend_weights *w, size_t n)
{
    size_t one = 2 * w->dim + RANK + RV_ATTEND_HOPS * (w->dim + w->heads * RANK) + n * (RANK + 2 * w->heads);
    return LAYERS * one + 2 * w->dim + RV_ATTEND_HOPS * (w->dim + w->heads * RANK) + RANK + w->heads * n;
}

size_t rv_attend_scratch_bytes(const rv_attend_weights *w, size_t n)
{
    return pass_floats(w, n) * sizeof(float);
}

static float *cut(float **at, size_t n)
{
    float *part = *at;
    *at += n;
    return part;
}

static pass lay_out(const rv_attend_weights *w, size_t n, void *scratch)
{
    pass p;
    float *at = scratch;
    for (size_t l = 0; l < LAYERS; l++) {
        p.layer[l] = (layer_pass){ .c = cut(&at, w->dim),
                                   .aq = cut(&at, RANK),
                                   .q = cut(&at, RV_ATTEND_HOPS * w->dim),
                                   .u = cut(&at, RV_ATTEND_HOPS * w->heads * RANK),
                                   .z = cut(&at, n * RANK),
                                   .dot = cut(&at, w->heads * n),
                                   .weight = cut(&at, w->heads * n),
                                   .o = cut(&at, w->dim) };
    }
    p.c = cut(&at, w->dim);
    p.dc = cut(&at, w->dim);
    p.dq = cut(&at, RV_ATTEND_HOPS * w->dim);
    p.du = cut(&at, RV_ATTEND_HOPS * w->heads * RANK);
    p.dz = cut(&at, RANK);
    p.ds = cut(&at, w->heads * n);
    return p;
}

/* ---- forward ---- */

/* Turns the first half of each head's channels by hop x 10^(-2i / half); backwards undoes it. */
static void turn(const rv_attend_weights *w, const float *x, unsigned hop, bool backwards, float *out)
{
    memcpy(out, x, w->dim * sizeof *out);
    size_t half = w->width / 2, pairs = half / 2;
    if (!w->rope || hop == 0) {
        return;
    }
    for (size_t h = 0; h < w->heads; h++) {
        float *head = out + h * w->width;
        for (size_t i = 0; i < pairs; i++) {
            double angle = (double)hop * pow(10, -2.0 * (double)i / (double)half);
            float c = (float)cos(angle), s = (float)(backwards ? -sin(angle) : sin(angle));
            float a = head[i], b = head[i + pairs];
            head[i] = a * c - b * s;
            head[i + pairs] = a * s + b * c;
        }
    }
}

/* y += M x, y [rows], M [rows][cols]; and y += M^T x. */
static void add_product(const rv_kernels *k, const float *m, size_t rows, size_t cols, const float *x,
                        float *y)
{
    for (size_t r = 0; r < rows; r++) {
        y[r] += k->dot_f32(m + r * cols, x, cols);
    }
}

static void add_transposed(const float *m, size_t rows, size_t cols, const float *x, float *y)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            y[c] += m[r * cols + c] * x[r];
        }
    }
}

/* m += a b^T, a [rows], b [cols]. */
static void add_outer(float *m, size_t rows, size_t cols, const float *a, const float *b)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            m[r * cols + c] += a[r] * b[c];
        }
    }
}

/* The query of this layer as the keys of each hop see it. */
static void make_queries(const rv_attend_weights *w, const rv_kernels *k, const layer_view *v, layer_pass *p)
{
    float *q = p->q; /* hop 0 is not turned */
    memcpy(q, p->c, w->dim * sizeof *q);
    memset(p->aq, 0, RANK * sizeof *p->aq);
    add_product(k, v->aq, RANK, w->dim, p->c, p->aq);
    add_product(k, v->bq, w->dim, RANK, p->aq, q);
    memset(p->u, 0, RV_ATTEND_HOPS * w->heads * RANK * sizeof *p->u);
    for (unsigned hop = 0; hop < RV_ATTEND_HOPS; hop++) {
        float *turned = q + hop * w->dim;
        if (hop > 0) {
            turn(w, q, hop, true, turned);
        }
        for (size_t h = 0; h < w->heads; h++) {
            add_transposed(v->bk + h * w->width * RANK, w->width, RANK, turned + h * w->width,
                           p->u + (hop * w->heads + h) * RANK);
        }
    }
}

static void attend_nodes(const rv_attend_weights *w, const rv_kernels *k, const layer_view *v,
                         const rv_attend_node *nodes, size_t n, layer_pass *p, float *scores)
{
    memset(p->z, 0, n * RANK * sizeof *p->z);
    for (size_t i = 0; i < n; i++) {
        assert(nodes[i].hop < RV_ATTEND_HOPS);
        const float *x = nodes[i].vector, *q = p->q + nodes[i].hop * w->dim, *z = p->z + i * RANK;
        add_product(k, v->ak, RANK, w->dim, x, p->z + i * RANK);
        for (size_t h = 0; h < w->heads; h++) {
            const float *u = p->u + (nodes[i].hop * w->heads + h) * RANK;
            float dot = k->dot_f32(q + h * w->width, x + h * w->width, w->width);
            for (size_t r = 0; r < RANK; r++) {
                dot += u[r] * z[r];
            }
            p->dot[h * n + i] = dot;
            float s = v->beta[h] * dot - v->gamma[h] * (float)nodes[i].hop;
            for (size_t e = 0; e < RV_EVIDENCE_N; e++) {
                s += v->evidence[h * RV_EVIDENCE_N + e] * nodes[i].evidence[e];
            }
            s *= SHARPNESS;
            p->weight[h * n + i] = s;
            scores[i] += s / (float)(LAYERS * w->heads);
        }
    }
    memset(p->o, 0, w->dim * sizeof *p->o);
    for (size_t h = 0; h < w->heads; h++) {
        float *weight = p->weight + h * n, *o = p->o + h * w->width;
        k->softmax(weight, n);
        for (size_t i = 0; i < n; i++) {
            const float *x = nodes[i].vector + h * w->width;
            for (size_t j = 0; j < w->width; j++) {
                o[j] += weight[i] * x[j];
            }
        }
    }
}

/* out = the unit vector along c + g o; c where that is nothing. */
static float move_state(const float *c, float g, const float *o, size_t dim, float *out)
{
    double square = 0;
    for (size_t i = 0; i < dim; i++) {
        out[i] = c[i] + g * o[i];
        square += (double)out[i] * out[i];
    }
    float length = (float)sqrt(square);
    if (length < 1e-6F) {
        memcpy(out, c, dim * sizeof *out);
        return 0;
    }
    for (size_t i = 0; i < dim; i++) {
        out[i] /= length;
    }
    return length;
}

static void forward(const rv_attend_weights *w, const rv_kernels *k, const float *query,
                    const rv_attend_node *nodes, size_t n, pass *p, float *scores)
{
    memset(scores, 0, n * sizeof *scores);
    memcpy(p->layer[0].c, query, w->dim * sizeof *query);
    for (size_t l = 0; l < LAYERS; l++) {
        layer_view v = layer_at(w, w->values, l);
        make_queries(w, k, &v, &p->layer[l]);
        attend_nodes(w, k, &v, nodes, n, &p->layer[l], scores);
        float *next = l + 1 < LAYERS ? p->layer[l + 1].c : p->c;
        p->layer[l].length = move_state(p->layer[l].c, *v.gate, p->layer[l].o, w->dim, next);
    }
}

void rv_attend_rank(const rv_attend_weights *w, const rv_kernels *k, const float *query,
                    const rv_attend_node *nodes, size_t n, void *scratch, float *scores, float *context)
{
    assert(n <= RV_ATTEND_NODES_MAX);
    if (n == 0) {
        if (context) {
            memcpy(context, query, w->dim * sizeof *context);
        }
        return;
    }
    pass p = lay_out(w, n, scratch);
    forward(w, k, query, nodes, n, &p, scores);
    if (context) {
        memcpy(context, p.c, w->dim * sizeof *context);
    }
}

/* ---- backward ---- */

/* From the derivative by the next state (p->dc) to that by c (p->dc), o (p->dq, first row) and the gate. */
static void move_back(const rv_attend_weights *w, const layer_pass *at, const float *next,
                      const layer_view *v, const layer_view *grad, pass *p)
{
    float *d_o = p->dq;
    memset(d_o, 0, w->dim * sizeof *d_o);
    if (at->length == 0) {
        return;
    }
    double along = 0, gate = 0;
    for (size_t i = 0; i < w->dim; i++) {
        along += (double)p->dc[i] * next[i];
    }
    for (size_t i = 0; i < w->dim; i++) {
        p->dc[i] = (p->dc[i] - (float)along * next[i]) / at->length;
        gate += (double)p->dc[i] * at->o[i];
        d_o[i] = *v->gate * p->dc[i];
    }
    *grad->gate += (float)gate;
}

/* p->ds: the derivative by every logit, from the ranking (d_scores) and through o. */
static void logits_back(const rv_attend_weights *w, const rv_kernels *k, const rv_attend_node *nodes,
                        size_t n, const layer_pass *at, const float *d_scores, pass *p)
{
    const float *d_o = p->dq;
    for (size_t h = 0; h < w->heads; h++) {
        float *ds = p->ds + h * n;
        const float *weight = at->weight + h * n;
        double mean = 0;
        for (size_t i = 0; i < n; i++) {
            ds[i] = k->dot_f32(d_o + h * w->width, nodes[i].vector + h * w->width, w->width);
            mean += (double)weight[i] * ds[i];
        }
        for (size_t i = 0; i < n; i++) {
            ds[i] = weight[i] * (ds[i] - (float)mean) + d_scores[i] / (float)(LAYERS * w->heads);
        }
    }
}

/* From p->ds to beta, evidence, gamma, Ak, and the derivatives by the turned queries (p->dq) and by u (p->du). */
static void nodes_back(const rv_attend_weights *w, const rv_attend_node *nodes, size_t n,
                       const layer_pass *at, const layer_view *v, const layer_view *grad, pass *p)
{
    memset(p->dq, 0, RV_ATTEND_HOPS * w->dim * sizeof *p->dq);
    memset(p->du, 0, RV_ATTEND_HOPS * w->heads * RANK * sizeof *p->du);
    for (size_t i = 0; i < n; i++) {
        unsigned hop = nodes[i].hop;
        const float *x = nodes[i].vector, *z = at->z + i * RANK;
        memset(p->dz, 0, RANK * sizeof *p->dz);
        for (size_t h = 0; h < w->heads; h++) {
            float ds = SHARPNESS * p->ds[h * n + i], d_dot = ds * v->beta[h];
            grad->beta[h] += ds * at->dot[h * n + i];
            grad->gamma[h] -= ds * (float)hop;
            for (size_t e = 0; e < RV_EVIDENCE_N; e++) {
                grad->evidence[h * RV_EVIDENCE_N + e] += ds * nodes[i].evidence[e];
            }
            float *dq = p->dq + hop * w->dim + h * w->width, *du = p->du + (hop * w->heads + h) * RANK;
            const float *u = at->u + (hop * w->heads + h) * RANK;
            for (size_t j = 0; j < w->width; j++) {
                dq[j] += d_dot * x[h * w->width + j];
            }
            for (size_t r = 0; r < RANK; r++) {
                du[r] += d_dot * z[r];
                p->dz[r] += d_dot * u[r];
            }
        }
        add_outer(grad->ak, RANK, w->dim, p->dz, x);
    }
}

/* From p->dq and p->du to Bk, Aq, Bq, and on to the state (p->dc). */
static void queries_back(const rv_attend_weights *w, const layer_pass *at, const layer_view *v,
                         const layer_view *grad, pass *p)
{
    for (unsigned hop = 0; hop < RV_ATTEND_HOPS; hop++) {
        const float *q = at->q + hop * w->dim;
        float *dq = p->dq + hop * w->dim;
        for (size_t h = 0; h < w->heads; h++) {
            const float *du = p->du + (hop * w->heads + h) * RANK, *bk = v->bk + h * w->width * RANK;
            add_outer(grad->bk + h * w->width * RANK, w->width, RANK, q + h * w->width, du);
            for (size_t j = 0; j < w->width; j++) {
                for (size_t r = 0; r < RANK; r++) {
                    dq[h * w->width + j] += bk[j * RANK + r] * du[r];
                }
            }
        }
        if (hop > 0) {
            float *back = p->dq + hop * w->dim, *turned = p->c; /* the last state is not needed any more */
            turn(w, back, hop, false, turned);
            for (size_t i = 0; i < w->dim; i++) {
                p->dq[i] += turned[i];
            }
        }
    }
    add_outer(grad->bq, w->dim, RANK, p->dq, at->aq);
    memset(p->dz, 0, RANK * sizeof *p->dz);
    add_transposed(v->bq, w->dim, RANK, p->dq, p->dz);
    add_outer(grad->aq, RANK, w->dim, p->dz, at->c);
    add_transposed(v->aq, RANK, w->dim, p->dz, p->dc);
    for (size_t i = 0; i < w->dim; i++) {
        p->dc[i] += p->dq[i];
    }
}

static double softmax_loss(const float *scores, const float *target, size_t n, float *d_scores)
{
    double max = scores[0], sum = 0, loss = 0;
    for (size_t i = 1; i < n; i++) {
        max = scores[i] > max ? scores[i] : max;
    }
    for (size_t i = 0; i < n; i++) {
        sum += exp(scores[i] - max);
    }
    for (size_t i = 0; i < n; i++) {
        double log_p = scores[i] - max - log(sum);
        loss -= target[i] > 0 ? target[i] * log_p : 0;
        d_scores[i] = (float)(exp(log_p) - target[i]);
    }
    return loss;
}

double rv_attend_grad(const rv_attend_weights *w, const rv_kernels *k, const float *query,
                      const rv_attend_node *nodes, size_t n, const float *target, void *scratch, float *grad)
{
    assert(n > 0 && n <= RV_ATTEND_NODES_MAX);
    float scores[RV_ATTEND_NODES_MAX], d_scores[RV_ATTEND_NODES_MAX];
    pass p = lay_out(w, n, scratch);
    forward(w, k, query, nodes, n, &p, scores);
    double loss = softmax_loss(scores, target, n, d_scores);
    memset(p.dc, 0, w->dim * sizeof *p.dc);
    for (size_t l = LAYERS; l-- > 0;) {
        layer_view v = layer_at(w, w->values, l), g = layer_at(w, grad, l);
        const float *next = l + 1 < LAYERS ? p.layer[l + 1].c : p.c;
        move_back(w, &p.layer[l], next, &v, &g, &p);
        logits_back(w, k, nodes, n, &p.layer[l], d_scores, &p);
        nodes_back(w, nodes, n, &p.layer[l], &v, &g, &p);
        queries_back(w, &p.layer[l], &v, &g, &p);
    }
    return loss;
}
