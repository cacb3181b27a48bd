/* Low-rank adapters. An adapter adds s * B (A x) to some of the products y = W x of a model, W staying as it is. Files are
 * GGUF as llama.cpp writes and reads them; docs/formats/adapter.md. */
#ifndef RV_MODEL_LORA_H
#define RV_MODEL_LORA_H
#include "base/rng.h"
#include "model/lfm2_file.h"

#define RV_LORA_MAX_RANK 256

/* One product's share. */
typedef struct rv_lora_pair {
    size_t rank, rows, cols; /* rank 0: none for this product */
    float scale;             /* alpha / rank */
    float *a;                /* [rank][cols] */
    float *b;                /* [rank][rows]: B transposed */
} rv_lora_pair;

typedef struct rv_lora {
    const rv_alloc *mem;
    rv_lora_pair *pairs; /* [n_pairs] one for each rv_lfm2_product of the model */
    size_t n_pairs;
    float *weights; /* [n_weights] of all pairs, in order, each a and then b */
    size_t n_weights;
    float alpha;
    uint64_t id; /* of the content, never 0; equal adapters have equal ids */
} rv_lora;

/**
 * rv_lora_open - read an adapter and check each of its tensors against the model.
 *
 * file  the model it is for; not kept
 * out   the caller's, rv_lora_close
 *
 * Errors:  RV_E_FORMAT naming file, key or tensor, found and expected: a shape that is not the model's, a tensor without its
 *          other half, a rank above RV_LORA_MAX_RANK, a weight that is not finite.  RV_E_UNSUPPORTED another kind of adapter,
 *          or one of the embedding.  Those of rv_gguf_open.
 * Threads: the result is immutable for whoever reads it, any thread.
 */
rv_err rv_lora_open(const rv_alloc *mem, const char *path, const rv_lfm2_file *file,
                    rv_lora **out) RV_MUST_CHECK;
/** rv_lora_open_bytes - the same over bytes as rv_gguf_open_bytes takes them. */
rv_err rv_lora_open_bytes(const rv_alloc *mem, const char *name, const void *bytes, size_t n,
                          const rv_lfm2_file *file, rv_lora **out) RV_MUST_CHECK;
void rv_lora_close(rv_lora *lora); /* accepts NULL */

/**
 * rv_lora_new - an adapter that changes nothing yet: A normal with variance 1 / cols, B zero.
 *
 * parts  bit 1 << p set: every layer's product p (rv_lfm2_part) gets a pair
 * rank   1 .. RV_LORA_MAX_RANK
 * alpha  above 0
 *
 * Errors: RV_E_ARG rank, alpha, or parts the model has none of.  RV_E_NOMEM.
 */
rv_err rv_lora_new(const rv_alloc *mem, const rv_lfm2_file *file, uint32_t parts, size_t rank, float alpha,
                   uint64_t seed, rv_lora **out) RV_MUST_CHECK;
/** rv_lora_copy - the same shape and weights. */
rv_err rv_lora_copy(const rv_alloc *mem, const rv_lora *from, rv_lora **out) RV_MUST_CHECK;
/** rv_lora_stack - one adapter that adds what both add; their ranks together at most RV_LORA_MAX_RANK (RV_E_ARG). Of one model. */
rv_err rv_lora_stack(const rv_alloc *mem, const rv_lora *a, const rv_lora *b, rv_lora **out) RV_MUST_CHECK;
/** rv_lora_changed - recomputes the id after its owner wrote to the weights. */
void rv_lora_changed(rv_lora *lora);

/** rv_lora_write - as a file (float32, rv_file_replace); name goes to general.name. RV_E_IO, RV_E_NOMEM. */
rv_err rv_lora_write(const rv_lora *lora, const char *path, const char *name) RV_MUST_CHECK;

/** rv_lora_add - out[r] += scale * (B (A x))[r] for r in [row_from, row_to); x [cols]. Each element is summed in one order,
 * whatever the range. Any thread. */
void rv_lora_add(const rv_kernels *k, const rv_lora_pair *pair, const float *x, size_t row_from,
                 size_t row_to, float *out);
#endif
