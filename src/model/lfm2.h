/* From token ids to logits: the forward pass of an LFM2 file. A step takes some sequences further, each by a
 * segment of consecutive tokens, through all layers in one job of the compute pool. Every output element is
 * summed in an order that does not depend on the segment, on the other tokens of the step or on the number of
 * threads, so logits are the same bits however a prompt is cut and whoever shares the step. */
#ifndef RV_MODEL_LFM2_H
#define RV_MODEL_LFM2_H
#include "base/pool.h"
#include "kv/kv.h"
#include "model/logits.h"
#include "model/lora.h"

#define RV_LFM2_CHUNK_MAX   128       /* one read of the weights serves this many tokens */
#define RV_LFM2_ALONE_BYTES (8 << 20) /* about half a millisecond of one thread */

typedef struct rv_lfm2 rv_lfm2;

typedef struct rv_lfm2_options {
    const rv_kernels *kernels; /* NULL: rv_kernels_best() */
    rv_pool *pool;             /* NULL: the calling thread alone */
    bool act_f32;              /* activations stay float32; weights are read from the file as they are */
    size_t max_segments;       /* of a step; 0: one */
    size_t max_rows;           /* of logits when several segments ask for some; 0: max_segments */
    size_t max_chunk;          /* 0: chosen by the model's size, at most RV_LFM2_CHUNK_MAX */
    /* A step whose tokens times weight bytes are fewer runs on the calling thread alone, because meeting the others
     * would cost more than they help. 0: RV_LFM2_ALONE_BYTES */
    size_t alone_bytes;
    const char *packed_file; /* packed weights are mapped from here, or made here; NULL: made in memory */
    bool
        no_packing; /* weights are read from the model file as they are: half the memory, many times slower */
} rv_lfm2_options;

/**
 * rv_lfm2_open - bring the weights into the layout of the kernels, on the pool, and make scratch for one
 * step. What was packed is given back to the file's mapping. A packed file that is damaged or another model's is logged
 * and made again; one that cannot be made is logged, and the weights are in memory.
 *
 * file    outlives the model
 * Errors: RV_E_NOMEM.
 */
rv_err rv_lfm2_open(const rv_alloc *mem, const rv_lfm2_file *file, rv_lfm2_options how,
                    rv_lfm2 **out) RV_MUST_CHECK;
void rv_lfm2_close(rv_lfm2 *m); /* accepts NULL */
/** rv_lfm2_max_chunk - tokens one step may hold, of all segments; rv_lfm2_resident_bytes - weights in our layout (the file's
 * where they are read in place) and scratch. */
size_t rv_lfm2_max_chunk(const rv_lfm2 *m);
size_t rv_lfm2_resident_bytes(const rv_lfm2 *m);
/** rv_lfm2_kv_shape - what a cache for this file holds; borrows from the file. */
rv_kv_shape rv_lfm2_kv_shape(const rv_lfm2_file *file, rv_type type);

typedef struct rv_lfm2_segment {
    rv_kv_seq *seq;          /* no other segment's; all of one cache */
    const int32_t *ids;      /* [n], each 0 .. n_vocab - 1 */
    size_t n;                /* at least 1 */
    size_t logits_from;      /* logits of tokens logits_from .. n - 1; n: none */
    float *logits;           /* out [n - logits_from][n_vocab] */
    rv_logits_block *blocks; /* out [n - logits_from][rv_logits_blocks(n_vocab)]; NULL: not wanted */
    const rv_lora *lora;     /* opened for this file; the sequence has run with no other so far. NULL: none */
    /* out [n - logits_from - 1][rv_kv_state_bytes]: convolution state after each token that has logits, but the last;
     * NULL: not wanted */
    float *states;
    size_t mark_after; /* keep a mark (rv_kv_mark) of the sequence after this many tokens; 0: none */
} rv_lfm2_segment;

/**
 * rv_lfm2_run - append the tokens of every segment to its sequence.
 *
 * segments  [n], 1 .. max_segments, with 1 .. rv_lfm2_max_chunk tokens together; when several of them ask for
 *           logits, for at most max_rows rows together
 *
 * Errors:  RV_E_CONTEXT or RV_E_FULL from rv_kv_reserve.  RV_E_ARG an id that is not in the vocabulary. All
 *          sequences then hold the tokens they held. Threads: one thread at a time for model, cache and pool
 *          together.
 */
rv_err rv_lfm2_run(rv_lfm2 *m, const rv_lfm2_segment *segments, size_t n) RV_MUST_CHECK;
#endif
