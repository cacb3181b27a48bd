/* One array of centres, one of what is known of each. Searching beyond a few thousand goes by lists around pivots, made by the same
 * k-means; a search looks at the PROBES nearest lists. */
#include "learn/patterns.h"

#include "base/rng.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROUNDS = 100, /* of Lloyd's */
    LEAST_MEMBERS = 3,
    FLAT_MOST = 4096, /* patterns that are all looked at */
    PROBES = 16,
    PIVOT_ROUNDS = 4,
    HEADER = 48,
    FIXED = 20, /* bytes of a record before its outcomes: id 8, age 4, scale 4, 4 zero */
    OUTCOME = 24
};
static const uint8_t magic[8] = { 'r', 'v', 'p', 'a', 't', 't', '\r', '\n' };
static const float MOVED = 1e-3f, AGING = 0.98f;

/* Of one model on one pattern. */
typedef struct outcome {
    double weight, squares, mean, m2; /* sum of w, of w * w; weighted mean, and squared deviations from it */
    double doubted, doubted_mean; /* words of judges that are not trusted: their weight, and what they say */
} outcome;

typedef struct pattern {
    uint64_t id;
    float age; /* vectors that made it, older ones counting less */
    outcome of[RV_PATTERN_MODELS];
} pattern;

struct rv_patterns {
    const rv_alloc *mem;
    const rv_kernels *k;
    size_t dim, n, room, n_models;
    uint64_t next_id;
    char models[RV_PATTERN_MODELS][RV_PATTERN_NAME];
    float *centres; /* [room][dim] */
    pattern *at;    /* [room] ascending ids */
    outcome all[RV_PATTERN_MODELS];
    /* sealed, when there are many: */
    float *pivots;           /* [n_lists][dim] */
    uint32_t *first, *order; /* [n_lists + 1]; [n] patterns by list */
    float *packed;           /* [n][dim] the centres in that order: a list is read front to back */
    size_t n_lists;
};

/* ---- making ---- */

rv_err rv_patterns_name_models(rv_patterns *p, const char *const *models, size_t n_models)
{
    if (n_models > RV_PATTERN_MODELS) {
        return rv_fail(RV_E_ARG, "patterns: %zu models, allowed 0 .. %d", n_models, RV_PATTERN_MODELS);
    }
    for (size_t m = 0; m < n_models; m++) {
        size_t n = strlen(models[m]);
        if (n < 1 || n >= RV_PATTERN_NAME) {
            return rv_fail(RV_E_ARG, "patterns: the name of model %zu has %zu bytes, allowed 1 .. %d", m + 1,
                           n, RV_PATTERN_NAME - 1);
        }
    }
    memset(p->models, 0, sizeof p->models);
    for (size_t m = 0; m < n_models; m++) {
        memcpy(p->models[m], models[m], strlen(models[m]));
    }
    p->n_models = n_models;
    rv_patterns_forget_outcomes(p);
    return RV_OK;
}

rv_err rv_patterns_new(const rv_alloc *mem, size_t dim, const char *const *models, size_t n_models,
                       rv_patterns **out)
{
    if (dim < 1 || dim > 4096) {
        return rv_fail(RV_E_ARG, "patterns: %zu dimensions, allowed 1 .. 4096", dim);
    }
    rv_patterns *p = rv_new(mem, sizeof *p);
    if (!p) {
        return rv_fail(RV_E_NOMEM, "patterns");
    }
    *p = (rv_patterns){ .mem = mem, .k = rv_kernels_best(), .dim = dim, .next_id = 1 };
    rv_err e = rv_patterns_name_models(p, models, n_models);
    if (e) {
        rv_patterns_free(p);
        return e;
    }
    *out = p;
    return RV_OK;
}

static void unseal(rv_patterns *p)
{
    rv_free(p->mem, p->pivots);
    rv_free(p->mem, p->first);
    rv_free(p->mem, p->order);
    rv_free(p->mem, p->packed);
    p->pivots = p->packed = NULL;
    p->first = p->order = NULL;
    p->n_lists = 0;
}

void rv_patterns_free(rv_patterns *p)
{
    if (p) {
        unseal(p);
        rv_free(p->mem, p->centres);
        rv_free(p->mem, p->at);
        rv_free(p->mem, p);
    }
}

static rv_err reserve(rv_patterns *p, size_t more)
{
    size_t room = p->n + more, bytes, rows;
    if (room <= p->room) {
        return RV_OK;
    }
    room = room < 2 * p->room ? 2 * p->room : room;
    float *centres =
        rv_mul_size(room, p->dim * sizeof(float), &bytes) ? rv_resize(p->mem, p->centres, bytes) : NULL;
    p->centres = centres ? centres : p->centres;
    pattern *at = rv_mul_size(room, sizeof *at, &rows) ? rv_resize(p->mem, p->at, rows) : NULL;
    p->at = at ? at : p->at;
    if (!centres || !at) {
        return rv_fail(RV_E_NOMEM, "patterns: no room for %zu", room);
    }
    p->room = room;
    return RV_OK;
}

rv_err rv_patterns_copy(const rv_patterns *p, rv_patterns **out)
{
    rv_patterns *q = rv_new(p->mem, sizeof *q);
    if (!q) {
        return rv_fail(RV_E_NOMEM, "patterns");
    }
    *q = *p;
    q->centres = NULL;
    q->at = NULL;
    q->pivots = q->packed = NULL;
    q->first = q->order = NULL;
    q->n = q->room = q->n_lists = 0;
    rv_err e = reserve(q, p->n);
    if (e) {
        rv_patterns_free(q);
        return e;
    }
    if (p->n) {
        memcpy(q->centres, p->centres, p->n * p->dim * sizeof *q->centres);
        memcpy(q->at, p->at, p->n * sizeof *q->at);
    }
    q->n = p->n;
    *out = q;
    return RV_OK;
}

size_t rv_patterns_count(const rv_patterns *p)
{
    return p->n;
}

size_t rv_patterns_dim(const rv_patterns *p)
{
    return p->dim;
}

size_t rv_patterns_model(const rv_patterns *p, const char *name)
{
    size_t m = 0;
    while (m < p->n_models && strcmp(p->models[m], name) != 0) {
        m++;
    }
    return m < p->n_models ? m : RV_PATTERN_MODELS;
}

const char *rv_patterns_model_name(const rv_patterns *p, size_t model)
{
    return p->models[model];
}

/* ---- k-means ---- */

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
        return rv_fail(RV_E_NOMEM, "patterns: clustering %zu vectors", n);
    }
    return RV_OK;
}

static const float *row(const clusters *c, size_t i)
{
    return c->vectors + i * c->dim;
}

static bool unit(float *v, size_t dim, const rv_kernels *k)
{
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
        if (c->count[m] == 0 || !unit(sum, c->dim, c->k)) {
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

/* ---- learning ---- */

static float *centre(const rv_patterns *p, size_t i)
{
    return p->centres + i * p->dim;
}

static void drop_weakest(rv_patterns *p)
{
    size_t least = 0, after;
    for (size_t i = 1; i < p->n; i++) {
        least = p->at[i].age < p->at[least].age ? i : least;
    }
    after = p->n - least - 1;
    memmove(centre(p, least), centre(p, least + 1), after * p->dim * sizeof(float));
    memmove(&p->at[least], &p->at[least + 1], after * sizeof *p->at);
    p->n--;
}

/* A centre with its members goes to the known pattern that it is nearest to, or becomes one. known: how many there were before this cycle. */
static rv_err take_in(rv_patterns *p, const float *found, uint32_t members, size_t known,
                      rv_patterns_grown *out)
{
    size_t near = SIZE_MAX;
    float best = RV_PATTERN_SAME;
    for (size_t i = 0; i < known; i++) {
        float f = p->k->dot_f32(centre(p, i), found, p->dim);
        if (f >= best) {
            best = f;
            near = i;
        }
    }
    if (near < known) {
        pattern *old = &p->at[near];
        for (size_t d = 0; d < p->dim; d++) {
            centre(p, near)[d] = old->age * centre(p, near)[d] + (float)members * found[d];
        }
        unit(centre(p, near), p->dim, p->k); /* both are of one side of space: never zero */
        old->age += (float)members;
        out->moved++;
        return RV_OK;
    }
    RV_TRY(reserve(p, 1));
    memcpy(centre(p, p->n), found, p->dim * sizeof(float));
    p->at[p->n++] = (pattern){ .id = p->next_id++, .age = (float)members };
    out->found++;
    return RV_OK;
}

rv_err rv_patterns_learn(rv_patterns *p, const float *vectors, size_t n, uint64_t seed,
                         rv_patterns_grown *out)
{
    clusters c;
    rv_rng rng;
    *out = (rv_patterns_grown){ 0 };
    unseal(p);
    if (n == 0) {
        return RV_OK;
    }
    size_t many = (size_t)ceil(sqrt((double)n / 2)), known = p->n;
    many = many < RV_PATTERN_CLUSTERS ? many : RV_PATTERN_CLUSTERS;
    rv_rng_init(&rng, seed);
    RV_TRY(clusters_new(p->mem, p->k, vectors, n, p->dim, many, &c));
    cluster(&c, &rng, ROUNDS);
    for (size_t i = 0; i < known; i++) {
        p->at[i].age *= AGING;
    }
    rv_err e = RV_OK;
    for (size_t m = 0; !e && m < many; m++) {
        if (c.count[m] < LEAST_MEMBERS) {
            out->left += c.count[m];
            continue;
        }
        e = take_in(p, c.centres + m * p->dim, c.count[m], known, out);
    }
    clusters_free(p->mem, &c);
    while (!e && p->n > RV_PATTERNS_MAX) {
        drop_weakest(p);
    }
    return e;
}

/* ---- outcomes ---- */

void rv_patterns_forget_outcomes(rv_patterns *p)
{
    memset(p->all, 0, sizeof p->all);
    for (size_t i = 0; i < p->n; i++) {
        memset(p->at[i].of, 0, sizeof p->at[i].of);
    }
}

/* West 1979. */
static void add(outcome *o, double quality, double weight, bool trusted)
{
    if (!trusted) { /* the mean of all that is said, with the weight of one rating at most */
        double w = o->doubted + weight;
        o->doubted_mean += (quality - o->doubted_mean) * weight / w;
        o->doubted = w;
        return;
    }
    double from = quality - o->mean;
    o->weight += weight;
    o->squares += weight * weight;
    o->mean += from * weight / o->weight;
    o->m2 += weight * from * (quality - o->mean);
}

bool rv_patterns_observe(rv_patterns *p, const float *vector, size_t model, double quality, double weight,
                         bool trusted)
{
    size_t i = rv_patterns_find(p, vector, NULL);
    if (model >= p->n_models || !(weight > 0)) {
        return false;
    }
    add(&p->all[model], quality, weight, trusted);
    if (i == SIZE_MAX) {
        return false;
    }
    add(&p->at[i].of[model], quality, weight, trusted);
    return true;
}

static double doubted_weight(const outcome *o)
{
    return fmin(o->doubted, RV_PATTERN_DOUBT);
}

double rv_patterns_expect(const rv_patterns *p, size_t i, size_t model)
{
    const outcome *all = &p->all[model], *o = i < p->n ? &p->at[i].of[model] : all;
    double w = all->weight + doubted_weight(all);
    double mean = w > 0 ? (all->weight * all->mean + doubted_weight(all) * all->doubted_mean) / w : 0.5;
    w = o->weight + doubted_weight(o);
    return (o->weight * o->mean + doubted_weight(o) * o->doubted_mean + 2 * mean) / (w + 2);
}

/* ---- the test ---- */

/* Continued fraction of the incomplete beta function, by Lentz's method; x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), f;
    d = 1 / (fabs(d) < tiny ? tiny : d);
    f = d;
    for (int m = 1; m < 300; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
               odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        for (int half = 0; half < 2; half++) {
            double t = half ? odd : even;
            d = 1 + t * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + t / c;
            c = fabs(c) < tiny ? tiny : c;
            f *= c * d;
        }
        if (fabs(c * d - 1) < 1e-14) {
            break;
        }
    }
    return f;
}

static double incomplete_beta(double a, double b, double x)
{
    if (x <= 0 || x >= 1) {
        return x >= 1;
    }
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                     : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double rv_welch(double mean_a, double var_a, double n_a, double mean_b, double var_b, double n_b,
                double margin)
{
    if (n_a < 2 || n_b < 2) {
        return 1;
    }
    double va = var_a / n_a, vb = var_b / n_b, diff = mean_a - mean_b - margin;
    if (!(va + vb > 0)) {
        return diff > 0 ? 0 : 1;
    }
    double t = diff / sqrt(va + vb), df = (va + vb) * (va + vb) / (va * va / (n_a - 1) + vb * vb / (n_b - 1));
    double tail = incomplete_beta(df / 2, 0.5, df / (df + t * t)) / 2;
    return t > 0 ? tail : 1 - tail;
}

/* As many plain answers as the weighted ones are worth (Kish). */
static double count_of(const outcome *o)
{
    return o->squares > 0 ? o->weight * o->weight / o->squares : 0;
}

static double p_exceeds(const outcome *a, const outcome *b, double margin)
{
    double na = count_of(a), nb = count_of(b);
    /* one more answer of either kind keeps a side without any spread from looking certain */
    double va = (a->m2 / a->weight * na + 0.25) / na, vb = (b->m2 / b->weight * nb + 0.25) / nb;
    return rv_welch(a->mean, va, na, b->mean, vb, nb, margin);
}

rv_pattern_advice rv_patterns_advise(const rv_patterns *p, size_t i, size_t usual)
{
    rv_pattern_advice none = { .model = RV_PATTERN_MODELS, .p = 1 }, best = none;
    if (i >= p->n || usual >= p->n_models || count_of(&p->at[i].of[usual]) < RV_PATTERN_LEAST) {
        return none;
    }
    const outcome *now = &p->at[i].of[usual];
    for (size_t m = 0; m < p->n_models; m++) {
        const outcome *o = &p->at[i].of[m];
        if (m == usual || count_of(o) < RV_PATTERN_LEAST) {
            continue;
        }
        rv_pattern_advice a = { .model = m,
                                .cheaper = m < usual,
                                .difference = o->mean - now->mean,
                                .support = fmin(count_of(o), count_of(now)) };
        a.p = p_exceeds(o, now, a.cheaper ? -RV_PATTERN_LOSS : RV_PATTERN_MARGIN);
        if (a.p >= 0.05) {
            continue;
        }
        if (a.cheaper) {
            return a;
        }
        best = best.model == RV_PATTERN_MODELS || a.difference > best.difference ? a : best;
    }
    return best;
}

/* ---- finding ---- */

static size_t better(const rv_patterns *p, const float *vector, size_t i, size_t best, float *most)
{
    float f = p->k->dot_f32(centre(p, i), vector, p->dim);
    if (f > *most) {
        *most = f;
        return i;
    }
    return best;
}

size_t rv_patterns_exact(const rv_patterns *p, const float *vector, float *cosine)
{
    size_t best = SIZE_MAX;
    float most = RV_PATTERN_LIKE;
    for (size_t i = 0; i < p->n; i++) {
        best = better(p, vector, i, best, &most);
    }
    if (cosine) {
        *cosine = most;
    }
    return best;
}

/* The nearest lists, nearest first. */
static size_t nearest_lists(const rv_patterns *p, const float *vector, uint32_t out[PROBES])
{
    float fits[PROBES];
    size_t n = 0;
    for (size_t l = 0; l < p->n_lists; l++) {
        float f = p->k->dot_f32(p->pivots + l * p->dim, vector, p->dim);
        if (n == PROBES && f <= fits[n - 1]) {
            continue;
        }
        size_t at = n < PROBES ? n++ : n - 1;
        for (; at > 0 && fits[at - 1] < f; at--) {
            fits[at] = fits[at - 1];
            out[at] = out[at - 1];
        }
        fits[at] = f;
        out[at] = (uint32_t)l;
    }
    return n;
}

size_t rv_patterns_find(const rv_patterns *p, const float *vector, float *cosine)
{
    uint32_t lists[PROBES];
    if (p->n_lists == 0) {
        return rv_patterns_exact(p, vector, cosine);
    }
    size_t best = SIZE_MAX, n = nearest_lists(p, vector, lists);
    float most = RV_PATTERN_LIKE;
    for (size_t l = 0; l < n; l++) {
        for (uint32_t i = p->first[lists[l]]; i < p->first[lists[l] + 1]; i++) {
            float f = p->k->dot_f32(p->packed + i * p->dim, vector, p->dim);
            best = f > most ? p->order[i] : best;
            most = f > most ? f : most;
        }
    }
    if (cosine) {
        *cosine = most;
    }
    return best;
}

/* Pivots from a sample, then every pattern to its nearest. */
static rv_err make_lists(rv_patterns *p, clusters *sample, uint32_t *list)
{
    rv_rng rng;
    rv_rng_init(&rng, 1);
    cluster(sample, &rng, PIVOT_ROUNDS);
    memcpy(p->pivots, sample->centres, p->n_lists * p->dim * sizeof *p->pivots);
    memset(p->first, 0, (p->n_lists + 1) * sizeof *p->first);
    for (size_t i = 0; i < p->n; i++) {
        float most = -INFINITY;
        for (size_t l = 0; l < p->n_lists; l++) {
            float f = p->k->dot_f32(p->pivots + l * p->dim, centre(p, i), p->dim);
            list[i] = f > most ? (uint32_t)l : list[i];
            most = f > most ? f : most;
        }
        p->first[list[i] + 1]++;
    }
    for (size_t l = 0; l < p->n_lists; l++) {
        p->first[l + 1] += p->first[l];
    }
    for (size_t i = p->n; i-- > 0;) { /* counting sort, from the ends of the lists */
        p->order[--p->first[list[i] + 1]] = (uint32_t)i;
    }
    /* now first[l + 1] is where list l begins */
    memmove(p->first, p->first + 1, p->n_lists * sizeof *p->first);
    p->first[p->n_lists] = (uint32_t)p->n;
    for (size_t i = 0; i < p->n; i++) {
        memcpy(p->packed + i * p->dim, centre(p, p->order[i]), p->dim * sizeof *p->packed);
    }
    return RV_OK;
}

rv_err rv_patterns_seal(rv_patterns *p)
{
    unseal(p);
    if (p->n <= FLAT_MOST) {
        return RV_OK;
    }
    size_t lists = (size_t)sqrt((double)p->n), n = 16 * lists < p->n ? 16 * lists : p->n;
    float *some = rv_new_array(p->mem, n * p->dim, sizeof *some);
    uint32_t *list = rv_new_array(p->mem, p->n, sizeof *list);
    clusters sample = { 0 };
    p->pivots = rv_new_array(p->mem, lists * p->dim, sizeof *p->pivots);
    p->first = rv_new_array(p->mem, lists + 1, sizeof *p->first);
    p->order = rv_new_array(p->mem, p->n, sizeof *p->order);
    p->packed = rv_new_array(p->mem, p->n * p->dim, sizeof *p->packed);
    p->n_lists = lists;
    rv_err e = some && list && p->pivots && p->first && p->order && p->packed
                   ? RV_OK
                   : rv_fail(RV_E_NOMEM, "patterns: lists");
    for (size_t i = 0; !e && i < n; i++) {
        memcpy(some + i * p->dim, centre(p, i * p->n / n), p->dim * sizeof *some);
    }
    e = e ? e : clusters_new(p->mem, p->k, some, n, p->dim, lists, &sample);
    if (!e) {
        e = make_lists(p, &sample, list);
        clusters_free(p->mem, &sample);
    }
    rv_free(p->mem, some);
    rv_free(p->mem, list);
    if (e) {
        unseal(p);
    }
    return e;
}

/* ---- as bytes ---- */

static uint8_t *put(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
    return at + bytes;
}

static uint64_t get(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static uint8_t *put_float(uint8_t *at, double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return put(at, bits, 4);
}

static double get_float(const uint8_t *at)
{
    uint32_t bits = (uint32_t)get(at, 4);
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static size_t record_bytes(size_t dim, size_t models)
{
    return FIXED + models * OUTCOME + dim;
}

size_t rv_patterns_bytes(const rv_patterns *p)
{
    return HEADER + p->n_models * (RV_PATTERN_NAME + OUTCOME) + p->n * record_bytes(p->dim, p->n_models);
}

static uint8_t *put_outcomes(uint8_t *at, const outcome *of, size_t n)
{
    for (size_t m = 0; m < n; m++) {
        const double values[] = { of[m].weight, of[m].squares, of[m].mean,
                                  of[m].m2,     of[m].doubted, of[m].doubted_mean };
        for (size_t i = 0; i < RV_COUNT(values); i++) {
            at = put_float(at, values[i]);
        }
    }
    return at;
}

static const uint8_t *get_outcomes(const uint8_t *at, outcome *of, size_t n)
{
    for (size_t m = 0; m < n; m++, at += OUTCOME) {
        of[m] = (outcome){ get_float(at),      get_float(at + 4),  get_float(at + 8),
                           get_float(at + 12), get_float(at + 16), get_float(at + 20) };
    }
    return at;
}

void rv_patterns_write(const rv_patterns *p, void *out)
{
    uint8_t *at = out;
    memcpy(at, magic, sizeof magic);
    at = put(put(put(at + 8, 1, 4), p->dim, 4), p->n_models, 4);
    at = put(put(at, p->n, 4), p->next_id, 8);
    memset(at, 0, HEADER - 32);
    at += HEADER - 32;
    memcpy(at, p->models, p->n_models * RV_PATTERN_NAME);
    at = put_outcomes(at + p->n_models * RV_PATTERN_NAME, p->all, p->n_models);
    for (size_t i = 0; i < p->n; i++) {
        float most = 0;
        for (size_t d = 0; d < p->dim; d++) {
            most = fmaxf(most, fabsf(centre(p, i)[d]));
        }
        double scale = most > 0 ? (double)most / 127 : 1;
        at = put(put_float(put_float(put(at, p->at[i].id, 8), (double)p->at[i].age), scale), 0, 4);
        at = put_outcomes(at, p->at[i].of, p->n_models);
        for (size_t d = 0; d < p->dim; d++) {
            *at++ = (uint8_t)(int8_t)lrint((double)centre(p, i)[d] / scale);
        }
    }
}

static rv_err read_records(rv_patterns *p, const uint8_t *at, size_t n)
{
    RV_TRY(reserve(p, n));
    for (size_t i = 0; i < n; i++) {
        p->at[i] = (pattern){ .id = get(at, 8), .age = (float)get_float(at + 8) };
        double scale = get_float(at + 12);
        at = get_outcomes(at + FIXED, p->at[i].of, p->n_models);
        for (size_t d = 0; d < p->dim; d++) {
            centre(p, i)[d] = (float)(scale * (int8_t)*at++);
        }
        if (!isfinite(scale) || !(scale > 0) || scale > 1 || !unit(centre(p, i), p->dim, p->k)) {
            return rv_fail(RV_E_FORMAT, "patterns: the centre of pattern %zu is none", i + 1);
        }
        p->n++;
    }
    return rv_patterns_check(p);
}

rv_err rv_patterns_read(const rv_alloc *mem, const void *bytes, size_t n, rv_patterns **out)
{
    const uint8_t *at = bytes;
    const char *names[RV_PATTERN_MODELS];
    if (n < HEADER || memcmp(at, magic, sizeof magic) != 0 || get(at + 8, 4) != 1) {
        return rv_fail(RV_E_FORMAT, "patterns: not a file that we read");
    }
    size_t dim = get(at + 12, 4), models = get(at + 16, 4), many = get(at + 20, 4);
    if (dim < 1 || dim > 4096 || models > RV_PATTERN_MODELS || many > RV_PATTERNS_MAX ||
        n != HEADER + models * (RV_PATTERN_NAME + OUTCOME) + many * record_bytes(dim, models)) {
        return rv_fail(RV_E_FORMAT,
                       "patterns: %zu bytes do not fit %zu patterns of %zu dimensions and %zu models", n,
                       many, dim, models);
    }
    for (size_t m = 0; m < models; m++) {
        names[m] = (const char *)at + HEADER + m * RV_PATTERN_NAME;
        if (!memchr(names[m], 0, RV_PATTERN_NAME)) {
            return rv_fail(RV_E_FORMAT, "patterns: the name of model %zu has no end", m + 1);
        }
    }
    rv_patterns *p = NULL;
    RV_TRY(rv_patterns_new(mem, dim, names, models, &p));
    p->next_id = get(at + 24, 8);
    rv_err e = read_records(p, get_outcomes(at + HEADER + models * RV_PATTERN_NAME, p->all, models), many);
    if (e) {
        rv_patterns_free(p);
        return e;
    }
    *out = p;
    return RV_OK;
}

static bool sound(const outcome *o)
{
    const double values[] = { o->weight, o->squares, o->mean, o->m2, o->doubted, o->doubted_mean };
    for (size_t i = 0; i < RV_COUNT(values); i++) {
        if (!(values[i] > -1e-3 && values[i] < 1e12)) {
            return false;
        }
    }
    return true;
}

rv_err rv_patterns_check(const rv_patterns *p)
{
    for (size_t i = 0; i < p->n; i++) {
        double length = (double)p->k->dot_f32(centre(p, i), centre(p, i), p->dim);
        bool good = fabs(length - 1) < 1e-3 && p->at[i].age > 0 && p->at[i].age < 1e12f &&
                    p->at[i].id < p->next_id && (i == 0 || p->at[i].id > p->at[i - 1].id);
        for (size_t m = 0; m < p->n_models; m++) {
            good = good && sound(&p->at[i].of[m]) && sound(&p->all[m]);
        }
        if (!good) {
            return rv_fail(RV_E_CORRUPT, "patterns: pattern %zu is damaged", i + 1);
        }
    }
    return RV_OK;
}
