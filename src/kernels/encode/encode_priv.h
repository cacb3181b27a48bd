#ifndef RV_KERNELS_ENCODE_PRIV_H
#define RV_KERNELS_ENCODE_PRIV_H
#include "kernels/kernels_priv.h"

#include <string.h>

/* The step for the largest |x| of a vector, given as its bits, and what x is multiplied with. Both are 0 when a step could not be
 * told from 0, and when something was not finite: the bits of such numbers are larger than all others. */
static inline float encode_step(int32_t largest_bits, float *inverse)
{
    float largest;
    memcpy(&largest, &largest_bits, sizeof largest);
    *inverse = 127 / largest;
    if (!(*inverse > 0 && *inverse <= 1e37f)) {
        *inverse = 0;
        return 0;
    }
    return largest / 127;
}

#endif
