#ifndef RV_ROUTER_SPACE_PRIV_H
#define RV_ROUTER_SPACE_PRIV_H
#include "base/alloc.h"
#include "router/features.h"

/** router_find_space - of vectors [n] (NULL among them: left out): mean [dim], axes [RV_SLOT_PCS][dim] with spread
 * [RV_SLOT_PCS], centroids [RV_SLOT_CENTROIDS][dim]. RV_E_NOMEM. */
rv_err router_find_space(const rv_alloc *mem, const float *const *vectors, size_t n, size_t dim,
                         uint64_t seed, float *mean, float *axes, float *spread,
                         float *centroids) RV_MUST_CHECK;
#endif
