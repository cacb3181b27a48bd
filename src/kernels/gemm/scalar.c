#include "kernels/kernels_priv.h"

#include <math.h>

void rv_gemm_scalar(const rv_gemm *g)
{
    for (size_t i = 0; i < g->m; i++) {
        for (size_t j = 0; j < g->n; j++) {
            float sum = g->out[i * g->out_stride + j];
            for (size_t p = 0; p < g->k; p++) {
                sum = fmaf(g->a[i * g->a_stride + p], g->b[p * g->b_stride + j], sum);
            }
            g->out[i * g->out_stride + j] = sum;
        }
    }
}
