/* The table of arithmetic. One function pointer per operation, one table per CPU level, all levels in one binary.
 *
 * Nothing here allocates, fails or looks at the clock. Lengths may be anything, tails included, and arrays may have any
 * alignment unless a line says otherwise; nothing is read or written outside them. Broken preconditions are asserted:
 * whoever reads a file checks its shapes first.
 *
 * Results of one output element never depend on how many tokens, rows, heads or threads are computed beside it: a level
 * sums in one fixed order. That is what makes logits independent of chunking, threads and neighbours in a batch. Products
 * with int8 activations are the same bits at every level; the others agree within rounding.
 *
 * Threads: tables are immutable, any thread; two calls may run together when their outputs do not overlap. */
#ifndef RV_KERNELS_KERNELS_H
#define RV_KERNELS_KERNELS_H
#include "base/cpu.h"
#include "kernels/blocks.h"

#define RV_ROW_STEP 32 /* threads cut the rows of a matrix at multiples of this */
#define RV_PACK_LAYOUT                                                                                       \
    1 /* number of the layout that pack makes, the same at every level that has one; files hold it */
#define RV_BITS_GROUP 512  /* bits that bits_list looks at together, and */
#define RV_BITS_ROOM  1536 /* what it may write */
#define RV_ATTEND_DIM 256  /* largest head size of attend */

/* A weight matrix y = W x, W [rows][cols] */
typedef struct rv_matrix {
    rv_type type;
    size_t rows, cols;  /* cols a multiple of the type's block */
    const void *raw;    /* rows as in the file; needed by float32 arithmetic and when packed is NULL */
    const void *packed; /* made by pack of this level; NULL: int8 arithmetic reads raw, same bits, slower */
} rv_matrix;

/* 32 activations of one token as int8, and what the products want to know about them: one cache line. */
typedef struct rv_act_block {
    int8_t q[32]; /* x ~ d * q, |q| <= 127 */
    float d;      /* largest |x| / 127 */
    float s;      /* d * sum of q, for types with a minimum */
    /* for types kept with an offset: -8, -16, -128 times the sum of q, then -32 times that of q[0..15] and q[16..31] */
    int32_t o[5];
    int32_t unused;
} rv_act_block;

/* Activations: float32 always, int8 beside it for quantised weights. F32, F16 and BF16 weights use float32 anyway. */
typedef struct rv_act {
    size_t cols, n_tokens;
    const float *f32; /* [n_tokens][stride] */
    size_t stride;
    rv_act_block *blocks; /* [n_tokens][cols / 32]; NULL: use float32 arithmetic */
} rv_act;

/* Query heads that share one key/value head look at some more keys: one step of online softmax. A sequence is a series of
 * steps; afterwards the result of a head is acc / sum. */
typedef struct rv_attend_step {
    const float *q;  /* [n_q][dim], any number of heads and tokens that see all these keys */
    size_t n_q, dim; /* dim 1 .. RV_ATTEND_DIM */
    float scale;     /* of q . k, usually 1 / sqrt(dim) */
    /* RV_F16, RV_F32: keys in runs of 16, [n_keys / 16][dim][16], the last one whole too, with anything in it past n_keys;
     * values [n_keys][dim]. RV_Q8_0, RV_Q4_1: one block of each, kernels/kvq.h. */
    const void *keys, *values;
    rv_type type;
    size_t first_key; /* before it nothing is looked at; a multiple of 16 */
    size_t n_keys;    /* counted from the first; only the last run of a sequence may have fewer than 16 */
    /* the keys and values of the step after this one, as many bytes as these have, to fetch them ahead; NULL: not known */
    const void *next_keys, *next_values;
    float *max, *sum, *acc; /* state [n_q], [n_q], [n_q][dim]; starts as -infinity, 0 and 0 */
} rv_attend_step;

/* rv_attend_merge - put a second part's state behind the first's: what steps over all keys of both would have given, within
 * rounding. */
void rv_attend_merge(const rv_attend_step *part, float *max, float *sum, float *acc);

/* out += a b, float32, all row-major. */
typedef struct rv_gemm {
    size_t m, k, n;
    const float *a, *b; /* [m][a_stride], [k][b_stride] */
    size_t a_stride, b_stride;
    float *out; /* [m][out_stride] */
    size_t out_stride;
} rv_gemm;

typedef void rv_expand_fn(const void *row, float *out, size_t n);

/* One-bit codes of 32 rows beside each other: the signs of a row's [dim] coordinates, and three floats of each row that turn
 * a sum of signs into a distance. Bytes of a block: for each four coordinates 16, the low half of byte r holds their signs in
 * row r (1: not negative, the first coordinate lowest), the high half those of row r + 16; then add [32], slope [32],
 * error [32] as float32. */
#define RV_ONEBIT_ROWS             32
#define RV_ONEBIT_DIM_MAX          4096                              /* uint16 sums: 15 * 4096 */
#define RV_ONEBIT_BLOCK_BYTES(dim) (4 * (dim) + 12 * RV_ONEBIT_ROWS) /* dim a multiple of 16 */

/* What a query is to a list of codes. estimate = base + add - slope * (step * sum - offset), its error at most
 * error * spread as often as the caller's factor says. */
typedef struct rv_onebit_query {
    const uint8_t *table; /* [dim / 4][16]: for four coordinates, the sum that each pattern of signs gives */
    size_t dim;           /* a multiple of 16, up to RV_ONEBIT_DIM_MAX */
    float base, step, offset, spread;
} rv_onebit_query;

typedef struct rv_kernels {
    const char *name; /* "avx512" */
    rv_cpu_level level;

    /* ---- vectors of n elements ---- */

    float (*dot_f32)(const float *a, const float *b, size_t n);
    float (*l2sq_f32)(const float *a, const float *b, size_t n);   /* squared distance */
    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t n); /* exact; n up to 131,071 */
    void (*add)(float *x, const float *y, size_t n);               /* x += y */
    void (*silu_mul)(float *gate, const float *up, size_t n);      /* gate = gate / (1 + e^-gate) * up */
    void (*softmax)(float *x, size_t n); /* -infinity becomes 0; one must be finite */
    /* the largest of the finite ones (-infinity: there is none), and the sum of e^(x - max) over them */
    void (*exp_sum)(const float *x, size_t n, float *max, float *sum);
    void (*f32_to_f16)(const float *x, uint16_t *out, size_t n); /* nearest even, infinity from 65520 */
    void (*f16_to_f32)(const uint16_t *x, float *out, size_t n);

    /* out = x / sqrt(mean(x^2) + eps) * weight; out may be x */
    void (*rmsnorm)(const float *x, const float *weight, size_t n, float eps, float *out);

    /* x [n_heads][dim], element i turns with element i + dim / 2 by the angle whose cos, sin [dim / 2] are given */
    void (*rope)(float *x, const float *cos, const float *sin, size_t n_heads, size_t dim);

    /* Gated short convolution, one token of h channels. u [3][h]: B, C, z. conv [h][k], the last tap is for this token.
     * state [h][k - 1]: B * z of the tokens before, oldest first; moved on by one. out [h], apart from the rest. */
    void (*shortconv)(const float *u, const float *conv, float *state, size_t h, size_t k, float *out);

    /* ---- matrices of float32 ---- */

    void (*gemm)(const rv_gemm *what); /* the same bits at every level */

    /* ---- weights ---- */

    /* [RV_TYPE_LIMIT] one row of n weights, n a multiple of the type's block, as float32; the same bits at every level.
     * NULL for types we do not read. */
    rv_expand_fn *const *expand;

    /* n activations, a multiple of 32, to out [n / 32]; the same bits at every level. A NaN or infinity ends up in d. */
    void (*quantize)(const float *x, size_t n, rv_act_block *out);

    /* Bytes of this level's layout of a matrix. 0: it reads raw rows and pack, which may then be NULL, is not called. */
    size_t (*pack_bytes)(rv_type type, size_t rows, size_t cols);

    /* Rows [row_from, row_to) into packed (start of the whole matrix, best 64-byte aligned in huge pages).
     * row_from a multiple of RV_ROW_STEP, row_to too or the last row. */
    void (*pack)(const rv_matrix *w, size_t row_from, size_t row_to, void *packed);

    /* out[t * out_stride + r] = row r . token t for r in [row_from, row_to), all tokens. Borders as for pack. */
    void (*matmul)(const rv_matrix *w, const rv_act *x, size_t row_from, size_t row_to, float *out,
                   size_t out_stride);

    void (*attend)(const rv_attend_step *step);

    /* ---- one-bit codes; the same bits at every level ---- */

    /* x - centre [dim], cut to 16 steps with dither [dim] in [0, 1) as the rounding, as a table [dim / 4][16] of sums of
     * u where the sign is +, 15 - u where it is -. step: between two u. Returns |x - centre|^2. dim as for scan. */
    float (*onebit_table)(const float *x, const float *centre, const float *dither, size_t dim,
                          uint8_t *table, float *step);

    /* Rows of the blocks with estimate - error * spread < limit: their places at [n], in order, and that difference
     * low [n]; how many. Both outputs have room for n_rows rounded up to a multiple of RV_ONEBIT_ROWS. */
    size_t (*onebit_scan)(const rv_onebit_query *query, const uint8_t *blocks, size_t n_rows, float limit,
                          uint32_t *at, float *low);

    /* ---- vectors that are searched ---- */

    /* How many bits are set. */
    size_t (*bits_count)(const uint64_t *words, size_t n_words);

    /* The places of the bits that are set, from 0 in the first word on, in groups of 8 words: the lowest of each, then the next of
     * each, and so on. out [RV_BITS_ROOM] is filled while there is room for a group more: n_out of it. Returns how many words those
     * are, at least one group of them. n_words up to 2^26. */
    size_t (*bits_list)(const uint64_t *words, size_t n_words, uint32_t *out, size_t *n_out);

    /* x [n], n a power of two: the Walsh-Hadamard transform, scaled to keep lengths; the same bits at every level. */
    void (*hadamard)(float *x, size_t n);

    /* x [n] as q [n] steps of the largest |x| / 127, to the nearest; returns the step, and the sum of the squares of q. All 0 when x is
     * (or 127 / its largest is above 1e37), and when something in it is not finite. n up to 131,071; the same bits at every level. */
    float (*encode)(const float *x, size_t n, int8_t *q, int32_t *squares);

    /* Many rows of codes times one vector: out [n_rows] = sum over i of (codes[row * stride + i] - 128) * q[i], exact for
     * n up to 65,536 and q from -127 on. rows [n_rows] names them; NULL: the first n_rows. */
    void (*code_dots)(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows,
                      const int8_t *q, size_t n, int32_t *out);

    /* The same for codes of 1 .. 8 bits in planes: out [n_rows] = sum over i of x[i] * q[i], where bit p of x[i] is bit i % 8 of
     * byte p * n / 8 + i / 8 of a row. n a multiple of 64, up to 65,536. */
    void (*plane_dots)(const uint8_t *codes, size_t stride, const uint32_t *rows, size_t n_rows, size_t bits,
                       const int8_t *q, size_t n, int32_t *out);

    /* Keys below pivot, and what belongs to them, to the front in their order; how many. Of the others the order may change. The same
     * at every level; what is not a number is not below. */
    size_t (*part)(float *keys, uint32_t *what, size_t n, float pivot);

    /* Keys up to a limit, and what belongs to them, copied in their order; how many. Outputs have room for n; they may be the inputs. */
    size_t (*below)(const float *keys, const uint32_t *what, size_t n, float limit, float *out,
                    uint32_t *out_what);
} rv_kernels;

/** rv_kernels_at - the table of a level, or NULL when this CPU or this build cannot run it. Immutable, any thread. */
const rv_kernels *rv_kernels_at(rv_cpu_level level);

/**
 * rv_kernels_best - the best level of this CPU, or the one the environment's RV_CPU names (scalar, avx2, avx512, neon).
 * A name that is unknown or that this CPU cannot run is logged as a warning and not followed. Immutable, any thread.
 */
const rv_kernels *rv_kernels_best(void);

/** rv_act_bytes - scratch for the int8 side of n_tokens x cols, a multiple of 64; the product must fit a size_t. */
size_t rv_act_bytes(size_t cols, size_t n_tokens);

/**
 * rv_act_layout - describe activations without quantising them yet, so that threads can share that work.
 *
 * x        [n_tokens][stride] float32; borrowed, as scratch is
 * scratch  rv_act_bytes, 64-byte aligned; NULL, or cols no multiple of 32: float32 arithmetic only
 */
void rv_act_layout(const float *x, size_t stride, size_t cols, size_t n_tokens, void *scratch, rv_act *out);

/** rv_act_quantize - fill the int8 side of tokens [token_from, token_to), if there is one.
 *  Threads: any number together, on different tokens; all of them before the first matmul. */
void rv_act_quantize(const rv_kernels *k, rv_act *act, size_t token_from, size_t token_to);

/** rv_act_fill - both at once. */
void rv_act_fill(const rv_kernels *k, const float *x, size_t stride, size_t cols, size_t n_tokens,
                 void *scratch, rv_act *out);
#endif
