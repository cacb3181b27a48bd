/* The table of arithmetic. One function pointer per operation, one table per CPU level, all levels in one binary.
 * rv_kernels_best() is chosen once: the best the CPU has, or what RV_CPU=scalar|avx2|avx512|neon names.
 *
 * Results of one output element never depend on how many tokens, rows or threads are computed beside it: a level sums
 * in one fixed order. That is what makes logits independent of chunking, threads and neighbours in a batch. */
#ifndef RV_KERNELS_KERNELS_H
#define RV_KERNELS_KERNELS_H
#include "base/cpu.h"
#include "kernels/blocks.h"

/* A weight matrix y = W x: [rows][cols], rows as in the file. */
typedef struct rv_matrix {
    rv_type type;
    size_t rows, cols;
    const void *raw;    /* file layout; always valid unless it was given up after packing */
    const void *packed; /* this level's own layout, or NULL: kernels read raw */
} rv_matrix;

/* 32 activations of one token as int8, and what the kernels want to know about them: one cache line. */
typedef struct rv_act_block {
    int8_t q[32]; /* x ~ d * q, |q| <= 127 */
    float d;      /* largest |x| / 127 */
    float s;      /* d * sum of q, for types with a minimum */
    int32_t o
        [5]; /* for types kept with an offset: -8, -16 and -128 times the sum of q, -32 times that of its halves */
    int32_t unused;
} rv_act_block;

/* Activations of n_tokens columns: float32 always; int8 beside it when cols is a multiple of 32 and scratch was given. */
typedef struct rv_act {
    size_t cols, n_tokens;
    const float *f32; /* [n_tokens][stride] */
    size_t stride;
    rv_act_block *blocks; /* [n_tokens][cols / 32], NULL: use float32 arithmetic */
} rv_act;

/* One step of attention with online softmax, for the query heads that share one key/value head, over consecutive keys. */
typedef struct rv_attend_step {
    const float *q; /* [n_q][dim] */
    size_t n_q, dim;
    float scale;
    const void *keys, *values; /* [n_keys][dim] each, of type */
    rv_type type;              /* RV_F16 or RV_F32 */
    size_t n_keys;
    const void *next_keys,
        *next_values;       /* pages of the step after this one, to fetch them ahead; NULL: not known */
    float *max, *sum, *acc; /* running state: [n_q] starts at -inf, [n_q] at 0, [n_q][dim] at 0 */
} rv_attend_step;

typedef void rv_expand_fn(const void *row, float *out, size_t n);

typedef struct rv_kernels {
    const char *name; /* "avx512" */
    rv_cpu_level level;

    /* vectors */
    float (*dot_f32)(const float *a, const float *b, size_t n);
    float (*l2sq_f32)(const float *a, const float *b, size_t n); /* squared distance */
    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t n);
    void (*rmsnorm)(const float *x, const float *weight, size_t n, float eps, float *out); /* out may be x */
    void (*add)(float *x, const float *y, size_t n);                                       /* x += y */
    void (*silu_mul)(float *gate, const float *up, size_t n); /* gate = silu(gate) * up */
    void (*rope)(float *x, const float *cos, const float *sin, size_t n_heads,
                 size_t dim); /* halves; cos, sin [dim/2] */
    void (*softmax)(float *x, size_t n);
    /* gated short convolution of one token: u = [B C z][h]; state [h][k-1] oldest first, updated; out [h] */
    void (*shortconv)(const float *u, const float *conv, float *state, size_t h, size_t k, float *out);
    void (*f32_to_f16)(const float *x, uint16_t *out, size_t n);
    void (*f16_to_f32)(const uint16_t *x, float *out, size_t n);

    /* weights */
    rv_expand_fn *const *expand; /* [RV_TYPE_LIMIT] one row as float32; NULL for types we do not read */
    void (*quantize)(const float *x, size_t n, rv_act_block *out); /* n a multiple of 32; out [n / 32] */
    /* bytes of this level's layout for a matrix; 0: it reads raw rows, and pack is not called */
    size_t (*pack_bytes)(rv_type type, size_t rows, size_t cols);
    void (*pack)(const rv_matrix *w, size_t row_from, size_t row_to,
                 void *packed); /* rows at multiples of RV_ROW_STEP */
    /* out[t * out_stride + r] for r in [row_from, row_to), t in [0, x->n_tokens). Borders at multiples of RV_ROW_STEP. */
    void (*matmul)(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,
                   size_t out_stride);

    void (*attend)(const rv_attend_step *step);
} rv_kernels;

#define RV_ROW_STEP 32 /* threads cut rows of a matrix at multiples of this */

/** rv_kernels_at - the table of a level this CPU can run, else NULL. Immutable, any thread. */
const rv_kernels *rv_kernels_at(rv_cpu_level level);
/** rv_kernels_best - best level of this CPU, or the one RV_CPU names when the CPU can run it. Immutable, any thread. */
const rv_kernels *rv_kernels_best(void);

/** rv_act_bytes - scratch for the int8 side of n_tokens x cols; multiple of 64.
 *  rv_act_fill - describe x [n_tokens][stride]; with scratch (64-byte aligned) also quantise it; scratch NULL: float32 only. */
size_t rv_act_bytes(size_t cols, size_t n_tokens);
void rv_act_fill(const rv_kernels *k, const float *x, size_t stride, size_t cols, size_t n_tokens,
                 void *scratch, rv_act *out);
/** rv_act_fill_rows - quantise only tokens [from, to) of an rv_act laid out by rv_act_fill with NULL work: for threads. */
void rv_act_layout(const float *x, size_t stride, size_t cols, size_t n_tokens, void *scratch, rv_act *out);
void rv_act_quantize(const rv_kernels *k, rv_act *act, size_t token_from, size_t token_to);
#endif
