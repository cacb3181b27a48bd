/* What dispatch.c puts into the tables: every operation at every level, under the name rv_<operation>_<level>. */
#ifndef RV_KERNELS_KERNELS_PRIV_H
#define RV_KERNELS_KERNELS_PRIV_H
#include "kernels/kernels.h"

#define RV_DECLARE_LEVEL(L)                                                                                  \
    float rv_dot_f32_##L(const float *a, const float *b, size_t n);                                          \
    float rv_l2sq_f32_##L(const float *a, const float *b, size_t n);                                         \
    int32_t rv_dot_i8_##L(const int8_t *a, const int8_t *b, size_t n);                                       \
    void rv_rmsnorm_##L(const float *x, const float *weight, size_t n, float eps, float *out);               \
    void rv_add_##L(float *x, const float *y, size_t n);                                                     \
    void rv_silu_mul_##L(float *gate, const float *up, size_t n);                                            \
    void rv_rope_##L(float *x, const float *cos, const float *sin, size_t n_heads, size_t dim);              \
    void rv_softmax_##L(float *x, size_t n);                                                                 \
    void rv_exp_sum_##L(const float *x, size_t n, float *max, float *sum);                                   \
    void rv_shortconv_##L(const float *u, const float *conv, float *state, size_t h, size_t k, float *out);  \
    void rv_f32_to_f16_##L(const float *x, uint16_t *out, size_t n);                                         \
    void rv_f16_to_f32_##L(const uint16_t *x, float *out, size_t n);                                         \
    extern rv_expand_fn *const rv_expand_table_##L[RV_TYPE_LIMIT];                                           \
    void rv_quantize_##L(const float *x, size_t n, rv_act_block *out);                                       \
    size_t rv_pack_bytes_##L(rv_type type, size_t rows, size_t cols);                                        \
    void rv_matmul_##L(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,      \
                       size_t out_stride);                                                                   \
    void rv_gemm_##L(const rv_gemm *what);                                                                   \
    void rv_attend_##L(const rv_attend_step *step);                                                          \
    float rv_onebit_table_##L(const float *x, const float *centre, const float *dither, size_t dim,          \
                              uint8_t *table, float *step);                                                  \
    size_t rv_onebit_scan_##L(const rv_onebit_query *query, const uint8_t *blocks, size_t n_rows,            \
                              float limit, uint32_t *at, float *low);                                        \
    size_t rv_bits_count_##L(const uint64_t *words, size_t n_words);                                         \
    size_t rv_bits_list_##L(const uint64_t *words, size_t n_words, uint32_t *out, size_t *n_out);            \
    void rv_hadamard_##L(float *x, size_t n);                                                                \
    float rv_encode_##L(const float *x, size_t n, int8_t *q, int32_t *squares);                              \
    size_t rv_below_##L(const float *keys, const uint32_t *what, size_t n, float limit, float *out,          \
                        uint32_t *out_what);                                                                 \
    size_t rv_part_##L(float *keys, uint32_t *what, size_t n, float pivot);                                  \
    void rv_code_dots_##L(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows,          \
                          const int8_t *q, size_t n, int32_t *out);                                          \
    void rv_plane_dots_##L(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows,         \
                           size_t bits, const int8_t *q, size_t n, int32_t *out);

RV_DECLARE_LEVEL(scalar)
RV_DECLARE_LEVEL(avx2)
RV_DECLARE_LEVEL(avx512)
RV_DECLARE_LEVEL(neon)

#endif
