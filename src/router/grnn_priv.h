/* What the two forms of the cell share. */
#ifndef RV_ROUTER_GRNN_PRIV_H
#define RV_ROUTER_GRNN_PRIV_H
#include "router/grnn.h"
#include <math.h>

static inline float grnn_sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/** grnn_shape_check - RV_E_ARG which number is out of range. */
rv_err grnn_shape_check(const rv_grnn_shape *shape) RV_MUST_CHECK;
/** grnn_part_at - where a tensor begins among the parameters; of RV_GRNN_PARTS: how many parameters there are. */
size_t grnn_part_at(const rv_grnn_shape *shape, rv_grnn_part part);
const rv_grnn_shape *grnn_fit_shape(const rv_grnn_fit *fit);
/** grnn_round_row - a row as int8: values q * scale, scale = largest / 127. */
float grnn_round_row(const float *row, size_t n, int8_t *q);
#endif
