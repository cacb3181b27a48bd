/* One array of centres, one of what is known of each. Searching beyond a few thousand goes by lists around pivots, made by the same
 * k-means; a search looks at the PROBES nearest lists. */
#include "learn/patterns_priv.h"

#include "learn/kmeans.h"
#include "learn/welch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROUNDS = 100, /* of Lloyd's */
    LEAST_MEMBERS = 3,
    FLAT_MOST = 4096, /* patterns that are all looked at */
    PROBES = 16,
    PIVOT_ROUNDS = 4,
};
static const float AGING = 0.98f;

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

rv_err rv_patterns_reserve(rv_patterns *p, size_t more)
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
    rv_err e = rv_patterns_reserve(q, p->n);
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

/* ---- learning ---- */

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
        rv_unit(centre(p, near), p->dim); /* both are of one side of space: never zero */
        old->age += (float)members;
        out->moved++;
        return RV_OK;
    }
    RV_TRY(rv_patterns_reserve(p, 1));
    memcpy(centre(p, p->n), found, p->dim * sizeof(float));
    p->at[p->n++] = (pattern){ .id = p->next_id++, .age = (float)members };
    out->found++;
    return RV_OK;
}

rv_err rv_patterns_learn(rv_patterns *p, const float *vectors, size_t n, uint64_t seed,
                         rv_patterns_grown *out)
{
    rv_kmeans c;
    *out = (rv_patterns_grown){ 0 };
    unseal(p);
    if (n == 0) {
        return RV_OK;
    }
    size_t many = (size_t)ceil(sqrt((double)n / 2)), known = p->n;
    many = many < RV_PATTERN_CLUSTERS ? many : RV_PATTERN_CLUSTERS;
    RV_TRY(rv_kmeans_make(p->mem, vectors, n, p->dim, many, ROUNDS, seed, &c));
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
    rv_kmeans_deinit(p->mem, &c);
    while (!e && p->n > RV_PATTERNS_MAX) {
        drop_weakest(p);
    }
    return e;
}

/* ---- pruning ---- */

static void merge(rv_patterns *p, size_t into, size_t from)
{
    pattern *a = &p->at[into], *b = &p->at[from];
    for (size_t d = 0; d < p->dim; d++) {
        centre(p, into)[d] = a->age * centre(p, into)[d] + b->age * centre(p, from)[d];
    }
    rv_unit(centre(p, into), p->dim);
    a->age += b->age;
    b->age = 0;
}

/* Of patterns order[from .. to): the older one of two stays. NULL: all, as they are. */
static size_t merge_alike(rv_patterns *p, const uint32_t *order, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        size_t a = order ? order[i] : i;
        for (size_t j = i + 1; j < to && p->at[a].age > 0; j++) {
            size_t b = order ? order[j] : j;
            if (p->at[b].age > 0 && p->k->dot_f32(centre(p, a), centre(p, b), p->dim) >= RV_PATTERN_SAME) {
                merge(p, a < b ? a : b, a < b ? b : a);
                n++;
            }
        }
    }
    return n;
}

static bool has_outcome(const rv_patterns *p, size_t i)
{
    bool any = false;
    for (size_t m = 0; m < p->n_models; m++) {
        any = any || p->at[i].of[m].weight > 0 || p->at[i].of[m].doubted > 0;
    }
    return any;
}

rv_patterns_pruned rv_patterns_prune(rv_patterns *p)
{
    rv_patterns_pruned out = { 0 };
    size_t kept = 0;
    for (size_t l = 0; l < p->n_lists; l++) {
        out.merged += merge_alike(p, p->order, p->first[l], p->first[l + 1]);
    }
    out.merged += p->n_lists ? 0 : merge_alike(p, NULL, 0, p->n);
    unseal(p);
    for (size_t i = 0; i < p->n; i++) {
        bool merged = !(p->at[i].age > 0), spent = p->at[i].age < 0.5f && !has_outcome(p, i);
        if (merged || spent) {
            out.dropped += !merged;
            continue;
        }
        memmove(centre(p, kept), centre(p, i), p->dim * sizeof(float));
        p->at[kept++] = p->at[i];
    }
    p->n = kept;
    return out;
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

/* Every pattern to its nearest pivot. */
static void make_lists(rv_patterns *p, uint32_t *list)
{
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
    rv_kmeans pivots = { 0 };
    p->first = rv_new_array(p->mem, lists + 1, sizeof *p->first);
    p->order = rv_new_array(p->mem, p->n, sizeof *p->order);
    p->packed = rv_new_array(p->mem, p->n * p->dim, sizeof *p->packed);
    p->n_lists = lists;
    rv_err e =
        some && list && p->first && p->order && p->packed ? RV_OK : rv_fail(RV_E_NOMEM, "patterns: lists");
    for (size_t i = 0; !e && i < n; i++) {
        memcpy(some + i * p->dim, centre(p, i * p->n / n), p->dim * sizeof *some);
    }
    e = e ? e : rv_kmeans_make(p->mem, some, n, p->dim, lists, PIVOT_ROUNDS, 1, &pivots);
    if (!e) {
        p->pivots = pivots.centres;
        pivots.centres = NULL;
        make_lists(p, list);
    }
    rv_kmeans_deinit(p->mem, &pivots);
    rv_free(p->mem, some);
    rv_free(p->mem, list);
    if (e) {
        unseal(p);
    }
    return e;
}

/* ---- check ---- */

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
