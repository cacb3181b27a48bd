/* What an LFM2 file holds, checked: hyper-parameters in range, every tensor present with its shape and a type we read,
 * finite scales and norms. The forward pass works on this and checks nothing again. */
#ifndef RV_MODEL_LFM2_FILE_H
#define RV_MODEL_LFM2_FILE_H
#include "kernels/kernels.h"
#include "model/gguf.h"

#define RV_LFM2_MAX_LAYERS 256

typedef struct rv_lfm2_shape {
    uint32_t n_layers, hidden, ff, n_heads, head_dim, conv_taps, n_vocab, n_ctx_train;
    uint32_t n_kv_heads[RV_LFM2_MAX_LAYERS]; /* 0: gated short convolution; else a divisor of n_heads */
    float rope_theta, norm_eps;              /* finite, above 0 */
    uint64_t n_params;
    size_t weight_bytes; /* all tensors */
} rv_lfm2_shape;

typedef struct rv_lfm2_layer_file {
    const float *attn_norm, *ffn_norm; /* [hidden] */
    rv_matrix ffn_gate, ffn_up, ffn_down;
    rv_matrix in_proj, out_proj;  /* conv layers: [3 hidden][hidden], [hidden][hidden] */
    const float *conv;            /* [hidden][conv_taps] */
    rv_matrix q, k, v, o;         /* attention layers */
    const float *q_norm, *k_norm; /* [head_dim] */
} rv_lfm2_layer_file;

typedef struct rv_lfm2_file {
    const rv_alloc *mem;
    rv_gguf *gguf;
    rv_lfm2_shape shape;
    rv_lfm2_layer_file *layers; /* [n_layers] */
    rv_matrix embed, head;      /* [n_vocab][hidden]; head.raw == embed.raw when tied */
    const float *final_norm;    /* [hidden] */
} rv_lfm2_file;

/* The matrices of a layer. A product of the model has a number: layer * RV_LFM2_PARTS + part, or rv_lfm2_products - 1 for
 * the head. */
typedef enum rv_lfm2_part {
    RV_LFM2_IN_PROJ,
    RV_LFM2_OUT_PROJ,
    RV_LFM2_Q,
    RV_LFM2_K,
    RV_LFM2_V,
    RV_LFM2_O,
    RV_LFM2_GATE,
    RV_LFM2_UP,
    RV_LFM2_DOWN,
    RV_LFM2_PARTS
} rv_lfm2_part;

/** rv_lfm2_products - how many numbers there are.  rv_lfm2_matrix_of - a layer's matrix, rows 0 when it has none; borrows.
 *  rv_lfm2_product - the matrix with a number.  rv_lfm2_product_name - the tensor's name, in a model of so many products. */
size_t rv_lfm2_products(const rv_lfm2_file *file);
const rv_matrix *rv_lfm2_matrix_of(const rv_lfm2_layer_file *layer, rv_lfm2_part part);
const rv_matrix *rv_lfm2_product(const rv_lfm2_file *file, size_t product);
void rv_lfm2_product_name(size_t n_products, size_t product, char out[64]);
/** rv_lfm2_product_find - the number of a tensor that is a matrix of this model; false when it is none, and for a head that
 * is the embedding. */
bool rv_lfm2_product_find(const rv_lfm2_file *file, rv_str tensor, size_t *product);

/**
 * rv_lfm2_file_open - map, read, check. Matrices and vectors point into the mapping.
 *
 * deep  look at every scale and float of every tensor (refuses NaN and infinity), which reads the whole file; without
 *       it only the norms and convolutions, some hundred KB
 * out   the caller's, rv_lfm2_file_close
 *
 * Errors:  RV_E_FORMAT naming file, key or tensor, found, expected.  RV_E_UNSUPPORTED another architecture, or a variant
 *          of this one that we do not compute.  Those of rv_gguf_open.
 * Threads: the result is immutable, any thread.
 */
rv_err rv_lfm2_file_open(const rv_alloc *mem, const char *path, bool deep, rv_lfm2_file **out) RV_MUST_CHECK;
/** rv_lfm2_file_open_bytes - the same over bytes as rv_gguf_open_bytes takes them. */
rv_err rv_lfm2_file_open_bytes(const rv_alloc *mem, const char *name, const void *bytes, size_t n, bool deep,
                               rv_lfm2_file **out) RV_MUST_CHECK;
void rv_lfm2_file_close(rv_lfm2_file *f); /* accepts NULL */
#endif
