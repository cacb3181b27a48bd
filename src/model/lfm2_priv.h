/* An open model: what opening it (lfm2_open.c) makes and a step (lfm2.c) uses. */
#ifndef RV_MODEL_LFM2_PRIV_H
#define RV_MODEL_LFM2_PRIV_H
#include "model/lfm2.h"
#include "model/packed.h"

enum { RV_LFM2_TILE_ROWS = 64 }; /* query heads of some tokens that look at a page together */

/* Scratch of one thread. */
typedef struct lane {
    float *row; /* [max cols] one normalised row, when there is one token */
    void *act;  /* int8 side of it */
    float *q;   /* [RV_LFM2_TILE_ROWS][head_dim] queries of some tokens of a page, one key/value head */
    struct softmax {
        float *acc;       /* [RV_LFM2_TILE_ROWS][head_dim] */
        float *max, *sum; /* [RV_LFM2_TILE_ROWS] */
    } whole, part;
} lane;

struct rv_lfm2 {
    const rv_alloc *mem;
    const rv_lfm2_file *file;
    const rv_kernels *k;
    rv_pool *pool;
    const rv_lfm2_shape *shape;
    rv_lfm2_layer_file *layers; /* the file's, with packed weights */
    rv_matrix head;
    size_t embed_row_bytes;
    uint8_t *packed, *scratch; /* packed: ours, or NULL when it is in a file */
    rv_packed packed_file;
    size_t packed_bytes, scratch_bytes, max_chunk, n_threads, alone_bytes;
    size_t max_segments, max_rows, state_floats;
    bool act_f32;

    /* scratch, [max_chunk] rows each */
    struct span *spans;        /* of this step's segments */
    uint16_t *span_of;         /* of a token */
    uint16_t *asked;           /* tokens whose logits are asked for */
    float *x, *norm, *product; /* [hidden] residual stream, its norm, what is added to it */
    float *u, *y;              /* [3 hidden] with 2 hidden before it, [hidden] */
    float *q, *key, *value;    /* [n_heads * head_dim], [most kv heads * head_dim] */
    float *gate, *up;          /* [ff] */
    float *cos, *sin;          /* [head_dim / 2] */
    void *act, *act_next;      /* int8 side: of what a product reads, of what is made from its result */
    float *rows;               /* [max_rows][n_vocab] logits on their way to several places */
    lane *lanes;               /* [n_threads] */
};

/* A segment's place in its step. */
typedef struct span {
    const rv_lfm2_segment *how;
    size_t first, past; /* its tokens are rows first .. first + how->n - 1; tokens before */
    float *mark;        /* NULL: none */
} span;
#endif
