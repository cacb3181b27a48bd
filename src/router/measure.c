#include "router/measure.h"

#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 10, STEPS = 400 };
#define LAMBDA_MIN 1e-3
#define LAMBDA_MAX 8.0

typedef struct ranked {
    float score;
    uint32_t row, tie;
} ranked;

static int by_score_down(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score) {
        return x->score < y->score ? 1 : -1;
    }
    return (x->tie > y->tie) - (x->tie < y->tie);
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- two tiers ---- */

/* count [n]: how often each row was drawn; order: rows by score. */
static void trace(const rv_measure_pair *p, const ranked *order, const uint32_t *count, double *area,
                  double *cpt50, double *cpt80)
{
    double weak = 0, strong = 0, n = 0, sum = 0, got = 0, done = 0, before;
    for (size_t i = 0; i < p->n; i++) {
        weak += (double)count[i] * p->weak[i];
        strong += (double)count[i] * p->strong[i];
        n += count[i];
    }
    double gap = strong - weak;
    *cpt50 = *cpt80 = 100;
    for (size_t i = 0; i < p->n; i++) {
        uint32_t row = order[i].row;
        before = got;
        got += (double)count[row] * (p->strong[row] - p->weak[row]);
        sum += count[row] * 0.5 * (before + got);
        done += count[row];
        if (got >= 0.5 * gap && *cpt50 == 100) {
            *cpt50 = 100 * done / n;
        }
        if (got >= 0.8 * gap && *cpt80 == 100) {
            *cpt80 = 100 * done / n;
        }
    }
    *area = gap > 0 ? sum / n / gap : 0;
}

double rv_measure_ece(const float *p, const float *outcome, size_t n)
{
    double sum_p[BINS] = { 0 }, sum_y[BINS] = { 0 }, error = 0;
    for (size_t i = 0; i < n; i++) {
        int b = (int)(p[i] * BINS);
        b = b < 0 ? 0 : b >= BINS ? BINS - 1 : b;
        sum_p[b] += p[i];
        sum_y[b] += outcome[i];
    }
    for (int b = 0; b < BINS; b++) {
        error += fabs(sum_p[b] - sum_y[b]);
    }
    return n > 0 ? error / (double)n : 0;
}

double rv_measure_auc(const rv_alloc *mem, const float *score, const float *label, size_t n)
{
    ranked *order = rv_new_array(mem, n + 1, sizeof *order);
    if (!order) {
        return NAN;
    }
    for (size_t i = 0; i < n; i++) {
        order[i] = (ranked){ score[i], (uint32_t)i, 0 };
    }
    qsort(order, n, sizeof *order, by_score_down);
    double above = 0, pairs = 0, ones = 0, zeros = 0;
    for (size_t i = 0; i < n;) {
        double here1 = 0, here0 = 0;
        size_t j = i;
        for (; j < n && order[j].score == order[i].score; j++) {
            here1 += label[order[j].row] >= 0.5f;
            here0 += label[order[j].row] < 0.5f;
        }
        above += here0 * (ones + here1 / 2);
        ones += here1;
        zeros += here0;
        i = j;
    }
    pairs = ones * zeros;
    rv_free(mem, order);
    return pairs > 0 ? above / pairs : 0.5;
}

static rv_err bootstrap(const rv_alloc *mem, const rv_measure_pair *p, const ranked *order, uint32_t *count,
                        size_t draws, rv_interval *out)
{
    double *area = rv_new_array(mem, draws, sizeof *area), c50, c80;
    if (!area) {
        return rv_fail(RV_E_NOMEM, "measuring");
    }
    rv_rng rng;
    rv_rng_init(&rng, 42);
    for (size_t d = 0; d < draws; d++) {
        memset(count, 0, p->n * sizeof *count);
        for (size_t i = 0; i < p->n; i++) {
            count[rv_rng_below(&rng, p->n)]++;
        }
        trace(p, order, count, &area[d], &c50, &c80);
    }
    qsort(area, draws, sizeof *area, by_double);
    out->low = area[draws * 25 / 1000];
    out->high = area[draws - 1 - draws * 25 / 1000];
    rv_free(mem, area);
    return RV_OK;
}

rv_err rv_measure_two(const rv_alloc *mem, const rv_measure_pair *p, const float *p_wrong, size_t draws,
                      rv_measured_pair *out)
{
    ranked *order = rv_new_array(mem, p->n + 1, sizeof *order);
    uint32_t *count = rv_new_array(mem, p->n + 1, sizeof *count);
    float *wrong = rv_new_array(mem, p->n + 1, sizeof *wrong);
    rv_measured_pair got = { 0 };
    rv_err e = order && count && wrong ? RV_OK : rv_fail(RV_E_NOMEM, "measuring");
    if (!e) {
        rv_rng rng;
        rv_rng_init(&rng, 7);
        double right = 0;
        for (size_t i = 0; i < p->n; i++) {
            order[i] = (ranked){ p->score[i], (uint32_t)i, (uint32_t)rv_rng_next(&rng) };
            count[i] = 1;
            wrong[i] = p->weak[i] < 0.5f;
            right += p_wrong && (p_wrong[i] >= 0.5f) == (wrong[i] > 0);
        }
        qsort(order, p->n, sizeof *order, by_score_down);
        trace(p, order, count, &got.apgr.value, &got.cpt50, &got.cpt80);
        if (p_wrong) {
            got.auc = rv_measure_auc(mem, p_wrong, wrong, p->n);
            got.accuracy = p->n > 0 ? right / (double)p->n : 0;
            got.ece = rv_measure_ece(p_wrong, wrong, p->n);
        }
        if (draws > 0 && p->n > 0) {
            e = bootstrap(mem, p, order, count, draws, &got.apgr);
        }
    }
    rv_free(mem, order);
    rv_free(mem, count);
    rv_free(mem, wrong);
    if (!e) {
        *out = got;
    }
    return e;
}

/* ---- many tiers ---- */

static rv_point at_lambda(const rv_measure_many *m, double lambda)
{
    double quality = 0, cost = 0, big = 0;
    for (size_t i = 0; i < m->n; i++) {
        const float *p = m->p + i * m->tiers, *expected = m->expected + i * m->tiers;
        size_t best = 0;
        for (size_t t = 1; t < m->tiers; t++) {
            best = p[t] - lambda * expected[t] > p[best] - lambda * expected[best] ? t : best;
        }
        quality += m->quality[i * m->tiers + best];
        cost += m->cost[i * m->tiers + best];
        big += m->cost[i * m->tiers + m->tiers - 1];
    }
    return (rv_point){ quality / (double)m->n, cost / big, lambda };
}

static double lambda_of(int step)
{
    return step == 0 ? 0 : LAMBDA_MIN * pow(LAMBDA_MAX / LAMBDA_MIN, (double)step / STEPS);
}

rv_point rv_measure_best(const rv_measure_many *m, double share)
{
    rv_point best = { -1, 0, 0 };
    for (int s = 0; s <= STEPS; s++) {
        rv_point p = at_lambda(m, lambda_of(s));
        best = p.cost <= share && p.quality > best.quality ? p : best;
    }
    return best;
}

rv_point rv_measure_cheapest(const rv_measure_many *m, double quality)
{
    rv_point best = { 0, INFINITY, 0 };
    for (int s = 0; s <= STEPS; s++) {
        rv_point p = at_lambda(m, lambda_of(s));
        best = p.quality >= quality && p.cost < best.cost ? p : best;
    }
    return best;
}

static void fixed(const rv_measure_many *m, size_t tier, double *quality, double *cost)
{
    double q = 0, c = 0, big = 0;
    for (size_t i = 0; i < m->n; i++) {
        q += m->quality[i * m->tiers + tier];
        c += m->cost[i * m->tiers + tier];
        big += m->cost[i * m->tiers + m->tiers - 1];
    }
    *quality = q / (double)m->n;
    *cost = c / big;
}

double rv_measure_hull(const rv_measure_many *m, double share)
{
    double best = 0;
    for (size_t a = 0; a < m->tiers; a++) {
        for (size_t b = 0; b < m->tiers; b++) {
            double qa, ca, qb, cb;
            fixed(m, a, &qa, &ca);
            fixed(m, b, &qb, &cb);
            if (ca > share) {
                continue;
            }
            double f = cb > share ? (share - ca) / (cb - ca) : 1;
            best = fmax(best, qa + f * (qb - qa));
        }
    }
    return best;
}

double rv_measure_hull_cheapest(const rv_measure_many *m, double quality)
{
    double best = INFINITY;
    for (size_t a = 0; a < m->tiers; a++) {
        for (size_t b = 0; b < m->tiers; b++) {
            double qa, ca, qb, cb;
            fixed(m, a, &qa, &ca);
            fixed(m, b, &qb, &cb);
            if (qa >= quality) {
                best = fmin(best, ca);
            } else if (qb >= quality) {
                double f = (quality - qa) / (qb - qa);
                best = fmin(best, ca + f * (cb - ca));
            }
        }
    }
    return best;
}
