/* Figures that say what a router is worth, on rows whose outcome is known. All from arrays, so that a prediction can come from
 * anywhere. Definitions as in RouteLLM (arXiv:2406.18665): quality is the mean of the answers' quality. */
#ifndef RV_ROUTER_MEASURE_H
#define RV_ROUTER_MEASURE_H
#include "base/alloc.h"
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

typedef struct rv_interval {
    double value, low, high; /* 95 % of the bootstrap's draws */
} rv_interval;

/* Two tiers: rows in the order of score, the strong tier for the first part of them. */
typedef struct rv_measure_pair {
    const float *score;         /* [n] larger: rather the strong one */
    const float *weak, *strong; /* [n] quality */
    size_t n;
} rv_measure_pair;
typedef struct rv_measured_pair {
    rv_interval
        apgr; /* area under the share of the gap that is closed, over the share that goes to the strong tier */
    double cpt50, cpt80;  /* least share in % that closes 50, 80 % of the gap */
    double auc, accuracy; /* of "weak is wrong" by p_wrong; accuracy at 0.5 */
    double ece;           /* calibration error of p_wrong in 10 bins */
} rv_measured_pair;
/** rv_measure_two - p_wrong [n]: probability that the weak tier is wrong, or NULL (auc, accuracy and ece are then 0). draws:
 * of the bootstrap, 0: none. RV_E_NOMEM. */
rv_err rv_measure_two(const rv_alloc *mem, const rv_measure_pair *p, const float *p_wrong, size_t draws,
                      rv_measured_pair *out) RV_MUST_CHECK;

/** rv_measure_ece - mean distance of prediction and outcome over 10 bins of equal width, weighted by rows. */
double rv_measure_ece(const float *p, const float *outcome, size_t n);
double rv_measure_auc(const rv_alloc *mem, const float *score, const float *label,
                      size_t n); /* NaN without memory */

/* Many tiers: the one with the most p - lambda * cost, for every lambda. */
typedef struct rv_measure_many {
    const float *p;              /* [n][tiers] */
    const float *expected;       /* [n][tiers] cost as foreseen */
    const float *quality, *cost; /* [n][tiers] as it was */
    size_t n, tiers;
} rv_measure_many;
typedef struct rv_point {
    double quality, cost, lambda; /* cost as a share of always the last tier */
} rv_point;
/** rv_measure_best - the largest quality with cost at most share.  rv_measure_cheapest - the least cost with quality at least
 * that; cost is infinite when there is none.  pick [n], when not NULL: draws of rows. */
rv_point rv_measure_best(const rv_measure_many *m, double share);
rv_point rv_measure_cheapest(const rv_measure_many *m, double quality);
/** rv_measure_hull - the best quality that a random mixture of two fixed tiers has at that cost.  rv_measure_hull_cheapest -
 * the least cost of such a mixture. */
double rv_measure_hull(const rv_measure_many *m, double share);
double rv_measure_hull_cheapest(const rv_measure_many *m, double quality);
#endif
