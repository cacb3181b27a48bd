/* A tile of ROWS x (VECTORS * LANES) sums stays in registers while k goes by. Every element is one chain of fused
 * multiply-adds in the order of k, whatever tile it falls into: the same bits at every level and for every m and n. */
#include "kernels/kernels_priv.h"

/* rows, vectors: constants of the caller, so that the arrays become registers. last: lanes of the last vector, 0: all. */
INLINE void gemm_tile(const rv_gemm *g, size_t i, size_t j, size_t rows, size_t vectors, size_t last)
{
    vf sum[ROWS][VECTORS];
    float *out = g->out + i * g->out_stride + j;
    for (size_t r = 0; r < rows; r++) {
        for (size_t v = 0; v < vectors; v++) {
            const float *at = out + r * g->out_stride + v * LANES;
            sum[r][v] = last ? vf_load_n(at, last) : vf_load(at);
        }
    }
    const float *a = g->a + i * g->a_stride, *b = g->b + j;
    for (size_t p = 0; p < g->k; p++, b += g->b_stride) {
        vf right[VECTORS];
        for (size_t v = 0; v < vectors; v++) {
            right[v] = last ? vf_load_n(b + v * LANES, last) : vf_load(b + v * LANES);
        }
        for (size_t r = 0; r < rows; r++) {
            const vf left = vf_set(a[r * g->a_stride + p]);
            for (size_t v = 0; v < vectors; v++) {
                sum[r][v] = vf_fma(left, right[v], sum[r][v]);
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t v = 0; v < vectors; v++) {
            float *at = out + r * g->out_stride + v * LANES;
            if (last) {
                vf_store_n(at, sum[r][v], last);
            } else {
                vf_store(at, sum[r][v]);
            }
        }
    }
}

INLINE void gemm_columns(const rv_gemm *g, size_t j, size_t vectors, size_t last)
{
    size_t i = 0;
    for (; i + ROWS <= g->m; i += ROWS) {
        gemm_tile(g, i, j, ROWS, vectors, last);
    }
    for (; i < g->m; i++) {
        gemm_tile(g, i, j, 1, vectors, last);
    }
}

void LEVEL(gemm)(const rv_gemm *g)
{
    size_t j = 0;
    for (; j + (size_t)VECTORS * LANES <= g->n; j += (size_t)VECTORS * LANES) {
        gemm_columns(g, j, VECTORS, 0);
    }
    for (; j + LANES <= g->n; j += LANES) {
        gemm_columns(g, j, 1, 0);
    }
    if (j < g->n) {
        gemm_columns(g, j, 1, g->n - j);
    }
}
