/* Paged key/value cache and convolution state of sequences. A page holds RV_KV_PAGE_TOKENS tokens of all attention
 * layers, so a sequence is one list of pages and grows without moving. Inside a page, for each attention layer in
 * order: keys [n_kv_heads][head_dim][16], then values [n_kv_heads][16][head_dim], which is how attention reads them.
 * Keys are stored as given, that is after the rotation at their position.
 *
 * Two tiers. With a quantised type, pages stay in half precision only in the window a sequence is writing and in the
 * first page, whose tokens draw much attention whatever is asked. When the window is left, its pages become blocks of
 * RV_KVQ_TOKENS tokens (kernels/kvq.h); they go when its last token cannot be taken back any more. Windows are the multiples of `window` tokens: which keys a token reads in which
 * precision follows from its position alone, so results do not depend on how a prompt was cut or what was rewound.
 *
 * Sequences share: a full page that will stay one, and a block, are never written again, so a copy only counts them.
 * The gated short convolutions of LFM2 keep the last taps - 1 inputs of every channel instead. That state cannot be
 * taken back by dropping tokens, so a sequence can remember it at chosen lengths (marks) and rewind only to those.
 *
 * Everything counts against a budget of bytes (kv/budget.h): pages, blocks, convolution states, marks, promises.
 * Invariants, all in rv_kv_check(): (1) a page or block has as many references as sequences hold it, and at least one;
 * (2) a sequence has pages or blocks for its tokens; (3) marks stand in rising order, none past the end of the
 * sequence; (4) bytes in use are the sum of their parts; (5) what will be written or turned into a block is not
 * shared. */
#ifndef RV_KV_KV_H
#define RV_KV_KV_H
#include "base/alloc.h"
#include "base/err.h"
#include "kernels/kernels.h"
#include "kernels/kvq.h"
#include "kv/budget.h"

#define RV_KV_PAGE_TOKENS RV_KVQ_RUN
#define RV_KV_MARKS       32  /* per sequence */
#define RV_KV_WINDOW      256 /* tokens */
#define RV_KV_STEP_TOKENS 128 /* a promise holds for steps of at most so many */
#define RV_KV_TAKE_BACK   64  /* tokens that can be taken back, a multiple of a page */

typedef struct rv_kv rv_kv;
typedef struct rv_kv_seq rv_kv_seq;

typedef struct rv_kv_shape {
    rv_type type;    /* RV_F16 or RV_F32: of all pages. RV_Q8_0 or RV_Q4_1: of blocks, pages are RV_F16 */
    size_t n_layers; /* of the model */
    const uint32_t *n_kv_heads; /* [n_layers] 0: a convolution layer. Copied */
    size_t head_dim;            /* up to RV_ATTEND_DIM; quantised: rv_kvq_has */
    size_t conv_channels, conv_taps;
    size_t window; /* quantised: a multiple of RV_KVQ_TOKENS; 0: RV_KV_WINDOW */
} rv_kv_shape;

/** rv_kv_type_named - "f32", "f16", "q8" (RV_Q8_0) or "q4" (RV_Q4_1); false and *out untouched for anything else. */
bool rv_kv_type_named(const char *name, rv_type *out);

/** rv_kv_page_bytes - of one page; rv_kv_block_bytes - of one block, 0 without; rv_kv_state_bytes - of the convolution
 * state of one sequence, or of one mark; rv_kv_tokens_bytes - of pages and blocks, at most, while a sequence grows to n
 * tokens in steps of up to RV_KV_STEP_TOKENS; SIZE_MAX when that is more. */
size_t rv_kv_page_bytes(const rv_kv_shape *shape);
size_t rv_kv_block_bytes(const rv_kv_shape *shape);
size_t rv_kv_state_bytes(const rv_kv_shape *shape);
size_t rv_kv_tokens_bytes(const rv_kv_shape *shape, size_t n);

/**
 * rv_kv_new - an empty cache whose sequences claim from a budget, which outlives it. Errors:  RV_E_NOMEM.
 * Threads: one thread at a time, for the cache and all of its sequences together.
 */
rv_err rv_kv_new(const rv_alloc *mem, const rv_kv_shape *shape, rv_budget *budget, rv_kv **out) RV_MUST_CHECK;
void rv_kv_free(rv_kv *kv);               /* accepts NULL; no sequence may be left */
size_t rv_kv_used_bytes(const rv_kv *kv); /* of the budget, by this cache */

/** rv_kv_seq_new - an empty sequence of at most max_tokens. RV_E_FULL: the budget has no room for its state.
 */
rv_err rv_kv_seq_new(rv_kv *kv, size_t max_tokens, rv_kv_seq **out) RV_MUST_CHECK;
void rv_kv_seq_free(rv_kv_seq *seq); /* accepts NULL */
size_t rv_kv_seq_tokens(const rv_kv_seq *seq);
/** rv_kv_seq_bytes - of pages, blocks and marks it holds, shared ones too, and of its promise. */
size_t rv_kv_seq_bytes(const rv_kv_seq *seq);
/** rv_kv_type - of pages; rv_kv_store_type - of blocks. */
rv_type rv_kv_type(const rv_kv_seq *seq);
rv_type rv_kv_store_type(const rv_kv_seq *seq);

/** rv_kv_promise - claim at once what the sequence may need to grow to n tokens; steps up to there cannot fail for want of
 * room. RV_E_FULL: no room even after every mark of this sequence was given up. rv_kv_promised - bytes that it would
 * claim. The promise ends with rv_kv_rewind, also when nothing is dropped. */
rv_err rv_kv_promise(rv_kv_seq *seq, size_t n) RV_MUST_CHECK;
size_t rv_kv_promised(const rv_kv_seq *seq, size_t n);

/** rv_kv_reserve - pages for n more tokens, and the blocks they will read. RV_E_CONTEXT: past max_tokens. RV_E_FULL: no
 * room even after every mark of this sequence was given up; what it had before stays. RV_E_NOMEM. */
rv_err rv_kv_reserve(rv_kv_seq *seq, size_t n) RV_MUST_CHECK;
/** rv_kv_advance - n reserved tokens have been written, and due blocks filled, in every layer. */
void rv_kv_advance(rv_kv_seq *seq, size_t n);

/** rv_kv_put - key and value [head_dim] of one head at a reserved position. Threads may put different heads
 * or positions. */
void rv_kv_put(rv_kv_seq *seq, const rv_kernels *k, size_t layer, size_t head, size_t position,
               const float *key, const float *value);
/** rv_kv_keys, rv_kv_values - [head_dim][16] and [16][head_dim] of one head in the page-th page of the sequence, which is
 * one the reader of rv_kv_blocks_before; valid until the sequence changes. */
const void *rv_kv_keys(const rv_kv_seq *seq, size_t layer, size_t head, size_t page);
const void *rv_kv_values(const rv_kv_seq *seq, size_t layer, size_t head, size_t page);

/** rv_kv_blocks_before - how many blocks the token at a position reads: they stand for pages 1 .. 4 n - 1, and page 0
 * remains (so the first block is read from its 17th token on). 0 without quantised type. */
size_t rv_kv_blocks_before(const rv_kv_seq *seq, size_t position);
/** rv_kv_blocks_filled - those that hold numbers; the reserved ones behind are filled, layer by layer and head by head, from
 * their pages by rv_kv_fill. Threads may fill different layers, heads or blocks. */
size_t rv_kv_blocks_filled(const rv_kv_seq *seq);
void rv_kv_fill(rv_kv_seq *seq, const rv_kernels *k, size_t layer, size_t head, size_t block);
const void *rv_kv_block_keys(const rv_kv_seq *seq, size_t layer, size_t head, size_t block);
const void *rv_kv_block_values(const rv_kv_seq *seq, size_t layer, size_t head, size_t block);

/** rv_kv_conv - state [channels][taps - 1] of a convolution layer, oldest first; the caller keeps it in step.
 */
float *rv_kv_conv(rv_kv_seq *seq, size_t layer);

/**
 * rv_kv_mark - remember the state at length n_tokens, which is reserved: the caller writes it to the returned
 * array, in which a layer stands at rv_kv_conv_at, before the sequence is advanced. NULL: there is no mark,
 * because the budget has no room or n_tokens is not past the last mark; only speed is lost. When all marks
 * are taken, the one closest behind its neighbour makes room. A mark inside a window goes when the window becomes blocks.
 */
float *rv_kv_mark(rv_kv_seq *seq, size_t n_tokens);
/** rv_kv_state - of all convolution layers [rv_kv_state_bytes], as rv_kv_take_back wants it for the tokens there are now. */
const float *rv_kv_state(const rv_kv_seq *seq);
/** rv_kv_conv_at - index of a convolution layer's first float in a mark. */
size_t rv_kv_conv_at(const rv_kv_seq *seq, size_t layer);
/** rv_kv_rewind - drop tokens so that at most n are left: stay where we are when that is enough, else back to
 * the newest mark at or before n, else to the empty sequence. Returns the tokens left. */
size_t rv_kv_rewind(rv_kv_seq *seq, size_t n);
/** rv_kv_rewind_promised - the same for a sequence that goes on to `most` tokens: the promise for that stays. */
size_t rv_kv_rewind_promised(rv_kv_seq *seq, size_t n, size_t most);
/** rv_kv_rewindable - what rv_kv_rewind would return. */
size_t rv_kv_rewindable(const rv_kv_seq *seq, size_t n);

/** rv_kv_take_back - drop the tokens behind the first n, whose convolution state [rv_kv_state_bytes] is given. No mark
 * stands behind them, none of them was copied (rv_kv_copy), there are at most RV_KV_TAKE_BACK of them; the pages stay
 * reserved. */
void rv_kv_take_back(rv_kv_seq *seq, size_t n, const float *state);

/**
 * rv_kv_copy - make an empty sequence hold what another one of the same cache would after rv_kv_rewind(from, n):
 * it shares what is not written any more, and has marks as far as the budget goes. RV_E_FULL, RV_E_NOMEM: no room; `to`
 * is still empty.
 */
rv_err rv_kv_copy(rv_kv_seq *to, const rv_kv_seq *from, size_t n) RV_MUST_CHECK;

/* What a sequence consists of, for writing it down and reading it back. */
typedef struct rv_kv_outline {
    size_t n_tokens, n_blocks, n_marks;
    size_t marks[RV_KV_MARKS]; /* lengths */
} rv_kv_outline;
/** rv_kv_outline_get - of a sequence that was rewound, if only to its own length, since it last grew. */
void rv_kv_outline_get(const rv_kv_seq *seq, rv_kv_outline *out);
/** rv_kv_shape_hash - of everything that decides what the parts of a sequence mean. */
uint64_t rv_kv_shape_hash(const rv_kv *kv);
/** rv_kv_part - the i-th of the byte ranges that, with the outline, are the sequence; false past the last. */
bool rv_kv_part(const rv_kv_seq *seq, size_t i, void **at, size_t *n);
/**
 * rv_kv_rebuild - give an empty sequence the parts of an outline, for the caller to fill; it counts as empty until
 * rv_kv_rebuilt. rv_kv_rewind(seq, 0) gives them back.
 *
 * Errors:  RV_E_FORMAT an outline that no sequence of this cache has.  RV_E_FULL, RV_E_NOMEM: no room.
 */
rv_err rv_kv_rebuild(rv_kv_seq *seq, const rv_kv_outline *outline) RV_MUST_CHECK;
void rv_kv_rebuilt(rv_kv_seq *seq, const rv_kv_outline *outline);

/** rv_kv_check - the invariants above; RV_E_CORRUPT names the first broken one. */
rv_err rv_kv_check(const rv_kv *kv) RV_MUST_CHECK;
#endif
