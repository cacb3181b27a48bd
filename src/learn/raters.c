#include "learn/raters.h"

#include <math.h>
#include <stdlib.h>

enum { LEAST = 20 }; /* ratings of one rater that count half, and from which on it has a say in the median */
#define LEAST_AREA 0.6

static int by_rater_and_sure(const void *a, const void *b)
{
    const rv_rating *x = a, *y = b;
    if (x->rater != y->rater) {
        return x->rater < y->rater ? -1 : 1;
    }
    return (x->sure > y->sure) - (x->sure < y->sure);
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* at [n] by how sure. A quality of 0.75 is three quarters of a right one. One half where all are called the same. */
static double area(const rv_rating *at, size_t n)
{
    double won = 0, right = 0, wrong = 0;
    for (size_t i = 0, end; i < n; i = end) {
        double here_right = 0, here_wrong = 0;
        for (end = i; end < n && at[end].sure == at[i].sure; end++) {
            here_right += at[end].quality;
            here_wrong += 1 - at[end].quality;
        }
        won += here_right * (wrong + 0.5 * here_wrong);
        right += here_right;
        wrong += here_wrong;
    }
    return right * wrong > 0 ? won / (right * wrong) : 0.5;
}

rv_err rv_raters_weigh(const rv_alloc *mem, rv_rating *ratings, size_t n, size_t raters, float *weight)
{
    double *areas = rv_new_array(mem, 2 * raters + 1, sizeof *areas), *known = areas + raters;
    size_t *counts = rv_new_array(mem, raters + 1, sizeof *counts), n_known = 0;
    if (!areas || !counts) {
        rv_free(mem, areas);
        rv_free(mem, counts);
        return rv_fail(RV_E_NOMEM, "weighing raters");
    }
    if (n > 0) {
        qsort(ratings, n, sizeof *ratings, by_rater_and_sure);
    }
    for (size_t i = 0, end; i < n; i = end) {
        uint32_t rater = ratings[i].rater;
        for (end = i; end < n && ratings[end].rater == rater; end++) {
        }
        counts[rater] = end - i;
        areas[rater] = area(ratings + i, end - i);
        if (end - i >= LEAST) {
            known[n_known++] = areas[rater];
        }
    }
    qsort(known, n_known, sizeof *known, by_double);
    double median = n_known > 0 ? known[n_known / 2] : 0; /* of two the higher */
    for (size_t r = 0; r < raters; r++) {
        double c = (double)counts[r], trust = (areas[r] - 0.5) / (median - 0.5);
        bool told = n_known > 1 && median >= LEAST_AREA && c > 0;
        weight[r] = told ? (float)fmin(1, fmax(0, (LEAST + c * trust) / (LEAST + c))) : 1;
    }
    rv_free(mem, areas);
    rv_free(mem, counts);
    return RV_OK;
}
