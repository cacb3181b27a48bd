/* How far each rater is believed. Answers that their model was surer of are right more often; so the ratings of who means them say
 * something of how sure the model was, and those of who turns them round, or rates at random, do not. */
#ifndef RV_LEARN_RATERS_H
#define RV_LEARN_RATERS_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rv_rating {
    uint32_t rater;      /* 0 .. raters - 1 */
    float sure, quality; /* of its tokens the model that answered; 0..1 */
} rv_rating;

/**
 * rv_raters_weigh - weight [raters], 0 (not believed) .. 1.
 *
 * For each rater: how often, of an answer it called right and one it called wrong, the first is the one the model was surer of (the area
 * under the ROC curve), beside the median rater's. Few ratings are believed as they are. Where the median says less than 0.6 (models that do not know
 * what they know, or most raters against it) nobody is told from others, and all weigh 1; so does who is alone.
 *
 * ratings  [n] are put into another order
 * Errors:  RV_E_NOMEM.  Any thread.
 */
rv_err rv_raters_weigh(const rv_alloc *mem, rv_rating *ratings, size_t n, size_t raters,
                       float *weight) RV_MUST_CHECK;
#endif
