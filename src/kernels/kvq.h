/* Keys and values kept small: the arrangement of one block, RV_KVQ_TOKENS tokens of one key/value head, and what its
 * bits mean. Only the number formats are those of files (scale and int8; minimum, scale and 4 bits); the order is that
 * of rv_attend_step, by runs of 16 tokens.
 *
 *     RV_Q8_0   x = s q, s for 32 elements of one token
 *       keys    run [4]: int8 [dim][16], half s [groups][16]
 *       values  run [4]: int8 [16][dim], half s [16][groups]          groups = dim / 32 rounded up
 *     RV_Q4_1   x = m + s q, q 0 .. 15
 *       keys    half m [dim], half s [dim] for all tokens of the block;  run [4]: 4 bits [dim][16]
 *       values  run [4]: 4 bits [16][dim], half m [16][groups], half s [16][groups]
 *
 * The 4-bit numbers of a run are two to a byte, the first half of them in the low bits, the others in the high ones.
 * Keys have one scale per channel, because a few channels of keys are large at every token (KIVI, arXiv:2402.02750);
 * values have not. */
#ifndef RV_KERNELS_KVQ_H
#define RV_KERNELS_KVQ_H
#include "kernels/blocks.h"

#define RV_KVQ_TOKENS 64 /* of a block */
#define RV_KVQ_RUN    16

/* Offsets into the keys, or the values, of one head in one block. */
typedef struct rv_kvq_layout {
    size_t run_bytes, runs_at; /* run r begins at runs_at + r * run_bytes */
    size_t scales_at;          /* into a run: s, or m before s; Q4 keys: into the block */
    size_t groups;
    size_t bytes; /* of all, a multiple of 64 */
} rv_kvq_layout;

/** rv_kvq_has - whether heads of this size can be kept as type, RV_Q8_0 or RV_Q4_1: dim is a multiple of 16. */
bool rv_kvq_has(rv_type type, size_t dim);
rv_kvq_layout rv_kvq_keys(rv_type type, size_t dim);
rv_kvq_layout rv_kvq_values(rv_type type, size_t dim);

/** rv_kvq_key, rv_kvq_value - one element as it is read: the definition of the above. */
float rv_kvq_key(rv_type type, size_t dim, const void *keys, size_t token, size_t i);
float rv_kvq_value(rv_type type, size_t dim, const void *values, size_t token, size_t i);

/**
 * rv_kvq_pack - 64 tokens of one head, the same bits at every level. Half to even; scales and minima are rounded to
 * half precision before they are divided by, so the error of an element is at most half a step.
 *
 * x      [64 / 16] runs as attend reads them: keys float32 [dim][16], values float32 [16][dim]
 * first  tokens before it (a multiple of 16) are not looked at and come out as anything
 */
void rv_kvq_pack_keys(rv_type type, size_t dim, const float *const *x, size_t first, void *out);
void rv_kvq_pack_values(rv_type type, size_t dim, const float *const *x, size_t first, void *out);
#endif
