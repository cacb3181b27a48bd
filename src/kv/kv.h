/* Paged key/value cache and convolution state of sequences. One pool of equal pages for one model; a page
 * holds RV_KV_PAGE_TOKENS tokens of all attention layers, so a sequence is one list of page numbers and grows
 * without moving. Inside a page, for each attention layer in order: keys [n_kv_heads][16][head_dim], then
 * values alike; one head's keys are contiguous, which is what attention reads. Keys are stored as given, that
 * is after the rotation at their position.
 *
 * The gated short convolutions of LFM2 keep the last taps - 1 inputs of every channel instead. That state
 * cannot be taken back by dropping tokens, so a sequence can remember it at chosen lengths (marks) and rewind
 * only to those.
 *
 * Everything counts against one budget of bytes: pages, convolution states, marks. Invariants, all in
 * rv_kv_check(): (1) a page is free or belongs to exactly one sequence; (2) a sequence has the pages for its
 * tokens; (3) marks stand in rising order, none past the end of the sequence; (4) bytes in use are the sum of
 * their parts and never more than the budget. */
#ifndef RV_KV_KV_H
#define RV_KV_KV_H
#include "base/alloc.h"
#include "base/err.h"
#include "kernels/kernels.h"

#define RV_KV_PAGE_TOKENS 16
#define RV_KV_MARKS       32 /* per sequence */

typedef struct rv_kv rv_kv;
typedef struct rv_kv_seq rv_kv_seq;

typedef struct rv_kv_shape {
    rv_type type;               /* of keys and values: RV_F16 or RV_F32 */
    size_t n_layers;            /* of the model */
    const uint32_t *n_kv_heads; /* [n_layers] 0: a convolution layer. Copied */
    size_t head_dim;
    size_t conv_channels, conv_taps;
} rv_kv_shape;

/** rv_kv_page_bytes - of one page; rv_kv_state_bytes - of the convolution state of one sequence, or of one
 * mark. */
size_t rv_kv_page_bytes(const rv_kv_shape *shape);
size_t rv_kv_state_bytes(const rv_kv_shape *shape);

/**
 * rv_kv_new - an empty pool that never holds more than budget_bytes. Address space for all pages is taken at
 * once; memory becomes resident as pages are written. Errors:  RV_E_NOMEM. Threads: one thread at a time, for
 * the pool and all of its sequences together.
 */
rv_err rv_kv_new(const rv_alloc *mem, const rv_kv_shape *shape, size_t budget_bytes,
                 rv_kv **out) RV_MUST_CHECK;
void rv_kv_free(rv_kv *kv); /* accepts NULL; no sequence may be left */
size_t rv_kv_used_bytes(const rv_kv *kv);
size_t rv_kv_budget_bytes(const rv_kv *kv);

/** rv_kv_seq_new - an empty sequence of at most max_tokens. RV_E_FULL: the budget has no room for its state.
 */
rv_err rv_kv_seq_new(rv_kv *kv, size_t max_tokens, rv_kv_seq **out) RV_MUST_CHECK;
void rv_kv_seq_free(rv_kv_seq *seq); /* accepts NULL */
size_t rv_kv_seq_tokens(const rv_kv_seq *seq);
size_t rv_kv_seq_pages(const rv_kv_seq *seq); /* its tokens' and reserved ones */
rv_type rv_kv_type(const rv_kv_seq *seq);

/** rv_kv_reserve - pages for n more tokens. RV_E_CONTEXT: past max_tokens. RV_E_FULL: no page left even after
 * every mark of this sequence was given up; the pages it had before stay. */
rv_err rv_kv_reserve(rv_kv_seq *seq, size_t n) RV_MUST_CHECK;
/** rv_kv_advance - n reserved tokens have been written, in every layer. */
void rv_kv_advance(rv_kv_seq *seq, size_t n);

/** rv_kv_put - key and value [head_dim] of one head at a reserved position. Threads may put different heads
 * or positions. */
void rv_kv_put(rv_kv_seq *seq, const rv_kernels *k, size_t layer, size_t head, size_t position,
               const float *key, const float *value);
/** rv_kv_keys, rv_kv_values - [16][head_dim] of one head in the page-th page of the sequence; valid until the
 * sequence changes. */
const void *rv_kv_keys(const rv_kv_seq *seq, size_t layer, size_t head, size_t page);
const void *rv_kv_values(const rv_kv_seq *seq, size_t layer, size_t head, size_t page);
/** rv_kv_conv - state [channels][taps - 1] of a convolution layer, oldest first; the caller keeps it in step.
 */
float *rv_kv_conv(rv_kv_seq *seq, size_t layer);

/**
 * rv_kv_mark - remember the state at length n_tokens, which is reserved: the caller writes it to the returned
 * array, in which a layer stands at rv_kv_conv_at, before the sequence is advanced. NULL: there is no mark,
 * because the budget has no room or n_tokens is not past the last mark; only speed is lost. When all marks
 * are taken, the one closest behind its neighbour makes room.
 */
float *rv_kv_mark(rv_kv_seq *seq, size_t n_tokens);
/** rv_kv_conv_at - index of a convolution layer's first float in a mark. */
size_t rv_kv_conv_at(const rv_kv_seq *seq, size_t layer);
/** rv_kv_rewind - drop tokens so that at most n are left: stay where we are when that is enough, else back to
 * the newest mark at or before n, else to the empty sequence. Returns the tokens left. */
size_t rv_kv_rewind(rv_kv_seq *seq, size_t n);
/** rv_kv_rewindable - what rv_kv_rewind would return. */
size_t rv_kv_rewindable(const rv_kv_seq *seq, size_t n);

/** rv_kv_take_back - drop the tokens behind the first n, whose convolution state [rv_kv_state_bytes] is given. No mark
 * stands behind them; the pages stay reserved. */
void rv_kv_take_back(rv_kv_seq *seq, size_t n, const float *state);

/**
 * rv_kv_copy - make an empty sequence hold what another one of the same cache would after rv_kv_rewind(from, n):
 * its pages are copied, its marks as far as the budget goes. RV_E_FULL: no room; `to` is still empty.
 */
rv_err rv_kv_copy(rv_kv_seq *to, const rv_kv_seq *from, size_t n) RV_MUST_CHECK;

/** rv_kv_check - the invariants above; RV_E_CORRUPT names the first broken one. */
rv_err rv_kv_check(const rv_kv *kv) RV_MUST_CHECK;
#endif
