#include "kernels/kernels.h"

#include <math.h>

/* w = exp(max of a part - max of both); the empty part, -infinity, weighs nothing. */
static float weight(float max, float most)
{
    return max == most ? 1 : expf(max - most);
}

void rv_attend_merge(const rv_attend_step *part, float *max, float *sum, float *acc)
{
    for (size_t h = 0; h < part->n_q; h++) {
        float most = part->max[h] > max[h] ? part->max[h] : max[h];
        float old = weight(max[h], most), more = weight(part->max[h], most);
        max[h] = most;
        sum[h] = sum[h] * old + part->sum[h] * more;
        for (size_t i = h * part->dim; i < (h + 1) * part->dim; i++) {
            acc[i] = acc[i] * old + part->acc[i] * more;
        }
    }
}
