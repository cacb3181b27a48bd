/* What a cache and its sequences are made of. */
#ifndef RV_KV_KV_PRIV_H
#define RV_KV_KV_PRIV_H
#include "kv/kv.h"

enum { BLOCK_PAGES = RV_KVQ_TOKENS / RV_KV_PAGE_TOKENS, UNIT_HEADER = 64 };

/* A page or a block: this, and UNIT_HEADER bytes from its start the numbers. */
typedef struct unit {
    struct unit *next, *prev; /* all of a cache */
    uint32_t refs;            /* sequences that hold it */
    uint32_t seen;            /* while checking */
    bool is_block;
} unit;

typedef struct mark {
    size_t n_tokens;
    float *state;
} mark;

struct rv_kv {
    const rv_alloc *mem;
    rv_budget *budget;
    rv_type type, page_type; /* of blocks if quantised, else the same; of pages */
    bool quantised;
    size_t n_layers, head_dim, taps, channels, window;
    size_t element_bytes, page_bytes, block_bytes, state_bytes, used_bytes;
    rv_kvq_layout block_keys, block_values;
    size_t *offset;       /* [n_layers] bytes into a page, or floats into the convolution state */
    size_t *heads_before; /* [n_layers] key/value heads of the layers before */
    uint32_t *n_kv_heads; /* [n_layers] */
    unit *units;
    rv_kv_seq *sequences;
};

struct rv_kv_seq {
    rv_kv *kv;
    rv_kv_seq *next;
    unit **pages;             /* [max_pages] NULL: a block stands for it */
    unit **blocks;            /* [max_blocks] */
    size_t n_pages, n_blocks; /* in use, reserved ones included */
    size_t n_filled;          /* blocks that hold numbers */
    size_t n_dropped;         /* of these: whose pages are gone, but for the first of all */
    size_t max_pages, n_tokens, max_tokens;
    size_t promise; /* bytes claimed and not used yet */
    bool promised;  /* pages that become blocks go back to the promise */
    bool rebuilding;
    float *conv;
    mark marks[RV_KV_MARKS];
    size_t n_marks;
};

static inline size_t rv_kv_pages_for(size_t n_tokens)
{
    return (n_tokens + RV_KV_PAGE_TOKENS - 1) / RV_KV_PAGE_TOKENS;
}

static inline uint8_t *rv_kv_numbers(unit *u)
{
    return (uint8_t *)u + UNIT_HEADER;
}

/** rv_kv_unit_new - a page or block for a sequence, from its promise or else from the budget. Errors: RV_E_FULL, RV_E_NOMEM.
 * rv_kv_no_room - RV_E_FULL, with both figures. */
rv_err rv_kv_unit_new(rv_kv_seq *seq, bool is_block, unit **out) RV_MUST_CHECK;
rv_err rv_kv_no_room(const rv_kv *kv);
#endif
