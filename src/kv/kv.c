#include "kv/kv_priv.h"

#include <assert.h>
#include <string.h>

/* ---- sizes ---- */

bool rv_kv_type_named(const char *name, rv_type *out)
{
    static const struct {
        const char *name;
        rv_type type;
    } types[] = { { "f32", RV_F32 }, { "f16", RV_F16 }, { "q8", RV_Q8_0 }, { "q4", RV_Q4_1 } };
    for (size_t i = 0; i < RV_COUNT(types); i++) {
        if (strcmp(name, types[i].name) == 0) {
            *out = types[i].type;
            return true;
        }
    }
    return false;
}

static bool is_quantised(rv_type type)
{
    return type == RV_Q8_0 || type == RV_Q4_1;
}

static size_t element_bytes(rv_type type)
{
    return type == RV_F32 ? sizeof(float) : sizeof(uint16_t);
}

static size_t kv_heads(const rv_kv_shape *shape)
{
    size_t heads = 0;
    for (size_t l = 0; l < shape->n_layers; l++) {
        heads += shape->n_kv_heads[l];
    }
    return heads;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t rv_kv_page_bytes(const rv_kv_shape *shape)
{
    size_t bytes = kv_heads(shape) * 2 * RV_KV_PAGE_TOKENS * shape->head_dim * element_bytes(shape->type);
    return UNIT_HEADER + (bytes + 63) / 64 * 64;
}

size_t rv_kv_block_bytes(const rv_kv_shape *shape)
{
    if (!is_quantised(shape->type)) {
        return 0;
    }
    return UNIT_HEADER + kv_heads(shape) * (rv_kvq_keys(shape->type, shape->head_dim).bytes +
                                            rv_kvq_values(shape->type, shape->head_dim).bytes);
}

size_t rv_kv_state_bytes(const rv_kv_shape *shape)
{
    size_t layers = 0;
    for (size_t l = 0; l < shape->n_layers; l++) {
        layers += shape->n_kv_heads[l] == 0;
    }
    return layers * shape->conv_channels * (shape->conv_taps - 1) * sizeof(float);
}

static size_t window_of(const rv_kv_shape *shape)
{
    return shape->window ? shape->window : RV_KV_WINDOW;
}

/* Pages at one time, of a sequence that grows to n tokens: the first one; the window being written; while it is left
 * also those of the step and of what may be taken back. */
static size_t most_pages(bool quantised, size_t window, size_t n)
{
    size_t most =
        1 + rv_kv_pages_for(window) + rv_kv_pages_for(RV_KV_STEP_TOKENS) + rv_kv_pages_for(RV_KV_TAKE_BACK);
    return quantised && most < rv_kv_pages_for(n) ? most : rv_kv_pages_for(n);
}

static size_t blocks_before(bool quantised, size_t window, size_t position)
{
    return quantised ? position / window * (window / RV_KVQ_TOKENS) : 0;
}

size_t rv_kv_tokens_bytes(const rv_kv_shape *shape, size_t n)
{
    bool quantised = is_quantised(shape->type);
    size_t pages, blocks, all;
    if (!rv_mul_size(most_pages(quantised, window_of(shape), n), rv_kv_page_bytes(shape), &pages) ||
        !rv_mul_size(blocks_before(quantised, window_of(shape), n ? n - 1 : 0), rv_kv_block_bytes(shape),
                     &blocks) ||
        !rv_add_size(pages, blocks, &all)) {
        return SIZE_MAX;
    }
    return all;
}

/* ---- cache ---- */

static bool make_tables(rv_kv *kv, const rv_kv_shape *shape)
{
    kv->offset = rv_new_array(kv->mem, kv->n_layers, sizeof *kv->offset);
    kv->heads_before = rv_new_array(kv->mem, kv->n_layers, sizeof *kv->heads_before);
    kv->n_kv_heads = rv_new_array(kv->mem, kv->n_layers, sizeof *kv->n_kv_heads);
    if (!kv->offset || !kv->heads_before || !kv->n_kv_heads) {
        return false;
    }
    size_t heads = 0, state_at = 0;
    for (size_t l = 0; l < kv->n_layers; l++) {
        kv->n_kv_heads[l] = shape->n_kv_heads[l];
        kv->heads_before[l] = heads;
        if (shape->n_kv_heads[l]) {
            kv->offset[l] = heads * 2 * RV_KV_PAGE_TOKENS * kv->head_dim * kv->element_bytes;
            heads += shape->n_kv_heads[l];
        } else {
            kv->offset[l] = state_at;
            state_at += kv->channels * (kv->taps - 1);
        }
    }
    return true;
}

rv_err rv_kv_new(const rv_alloc *mem, const rv_kv_shape *shape, rv_budget *budget, rv_kv **out)
{
    bool quantised = is_quantised(shape->type);
    assert(shape->type == RV_F16 || shape->type == RV_F32 || rv_kvq_has(shape->type, shape->head_dim));
    assert(shape->n_layers && shape->conv_taps && shape->head_dim <= RV_ATTEND_DIM);
    assert(window_of(shape) % RV_KVQ_TOKENS == 0);
    rv_kv *kv = rv_new(mem, sizeof *kv);
    if (!kv) {
        return rv_fail(RV_E_NOMEM, "key/value cache: no memory");
    }
    *kv = (rv_kv){ .mem = mem,
                   .budget = budget,
                   .type = shape->type,
                   .page_type = quantised ? RV_F16 : shape->type,
                   .quantised = quantised,
                   .n_layers = shape->n_layers,
                   .head_dim = shape->head_dim,
                   .taps = shape->conv_taps,
                   .channels = shape->conv_channels,
                   .window = window_of(shape),
                   .element_bytes = element_bytes(shape->type),
                   .page_bytes = rv_kv_page_bytes(shape),
                   .block_bytes = rv_kv_block_bytes(shape),
                   .state_bytes = rv_kv_state_bytes(shape) };
    if (quantised) {
        kv->block_keys = rv_kvq_keys(kv->type, kv->head_dim);
        kv->block_values = rv_kvq_values(kv->type, kv->head_dim);
    }
    if (!make_tables(kv, shape)) {
        rv_kv_free(kv);
        return rv_fail(RV_E_NOMEM, "key/value cache: no memory");
    }
    *out = kv;
    return RV_OK;
}

void rv_kv_free(rv_kv *kv)
{
    if (!kv) {
        return;
    }
    assert(!kv->sequences && !kv->units && kv->used_bytes == 0);
    const rv_alloc *mem = kv->mem;
    rv_free(mem, kv->n_kv_heads);
    rv_free(mem, kv->heads_before);
    rv_free(mem, kv->offset);
    rv_free(mem, kv);
}

size_t rv_kv_used_bytes(const rv_kv *kv)
{
    return kv->used_bytes;
}

static bool claim(rv_kv *kv, size_t bytes)
{
    if (!rv_budget_claim(kv->budget, RV_BUDGET_KV, bytes)) {
        return false;
    }
    kv->used_bytes += bytes;
    return true;
}

static void release(rv_kv *kv, size_t bytes)
{
    kv->used_bytes -= bytes;
    rv_budget_release(kv->budget, RV_BUDGET_KV, bytes);
}

/* ---- states and marks ---- */

static float *new_state(rv_kv *kv)
{
    if (!claim(kv, kv->state_bytes)) {
        return NULL;
    }
    float *state = rv_new_aligned(kv->mem, 64, kv->state_bytes + (kv->state_bytes == 0) * 64);
    if (!state) {
        release(kv, kv->state_bytes);
    }
    return state;
}

static void free_state(rv_kv *kv, float *state)
{
    rv_free(kv->mem, state);
    release(kv, kv->state_bytes);
}

static void drop_mark(rv_kv_seq *seq, size_t i)
{
    free_state(seq->kv, seq->marks[i].state);
    seq->n_marks--;
    memmove(seq->marks + i, seq->marks + i + 1, (seq->n_marks - i) * sizeof *seq->marks);
}

/* ---- pages and blocks ---- */

/* From the promise, else from the budget, at the price of marks. */
static bool claim_for(rv_kv_seq *seq, size_t bytes)
{
    if (seq->promise >= bytes) {
        seq->promise -= bytes;
        return true;
    }
    while (!claim(seq->kv, bytes)) {
        if (!seq->n_marks) {
            return false;
        }
        drop_mark(seq, 0);
    }
    return true;
}

rv_err rv_kv_no_room(const rv_kv *kv)
{
    return rv_fail(RV_E_FULL, "key/value cache: no room, %zu of %zu bytes left for everybody",
                   rv_budget_room(kv->budget), rv_budget_bytes(kv->budget));
}

rv_err rv_kv_unit_new(rv_kv_seq *seq, bool is_block, unit **out)
{
    rv_kv *kv = seq->kv;
    size_t bytes = is_block ? kv->block_bytes : kv->page_bytes;
    if (!claim_for(seq, bytes)) {
        return rv_kv_no_room(kv);
    }
    unit *u = rv_new_aligned(kv->mem, 64, bytes);
    if (!u) {
        release(kv, bytes);
        return rv_fail(RV_E_NOMEM, "key/value cache: no memory for a page");
    }
    *u = (unit){ .next = kv->units, .refs = 1, .is_block = is_block };
    if (kv->units) {
        kv->units->prev = u;
    }
    kv->units = u;
    *out = u;
    return RV_OK;
}

static unit *share(unit *u)
{
    u->refs++;
    return u;
}

/* keep: its bytes go back to the sequence's promise */
static void put_unit(rv_kv_seq *seq, unit *u, bool keep)
{
    rv_kv *kv = seq->kv;
    if (!u || --u->refs) {
        return;
    }
    size_t bytes = u->is_block ? kv->block_bytes : kv->page_bytes;
    if (u->prev) {
        u->prev->next = u->next;
    } else {
        kv->units = u->next;
    }
    if (u->next) {
        u->next->prev = u->prev;
    }
    rv_free(kv->mem, u);
    if (keep) {
        seq->promise += bytes;
    } else {
        release(kv, bytes);
    }
}

static void keep_pages(rv_kv_seq *seq, size_t n)
{
    while (seq->n_pages > n) {
        put_unit(seq, seq->pages[--seq->n_pages], seq->promised);
        seq->pages[seq->n_pages] = NULL;
    }
}

static void keep_blocks(rv_kv_seq *seq, size_t n)
{
    while (seq->n_blocks > n) {
        put_unit(seq, seq->blocks[--seq->n_blocks], seq->promised);
    }
    seq->n_filled = seq->n_filled < n ? seq->n_filled : n;
    seq->n_dropped = seq->n_dropped < n ? seq->n_dropped : n;
}

/* ---- sequences ---- */

rv_err rv_kv_seq_new(rv_kv *kv, size_t max_tokens, rv_kv_seq **out)
{
    size_t max_pages = rv_kv_pages_for(max_tokens);
    rv_kv_seq *seq = rv_new(kv->mem, sizeof *seq);
    unit **pages = rv_new_array(kv->mem, max_pages + 1, sizeof *pages);
    unit **blocks = rv_new_array(kv->mem, max_pages / BLOCK_PAGES + 1, sizeof *blocks);
    bool fits = kv->state_bytes <= rv_budget_room(kv->budget);
    float *conv = seq && pages && blocks ? new_state(kv) : NULL;
    if (!conv) {
        bool memory = !seq || !pages || !blocks || fits;
        rv_free(kv->mem, seq);
        rv_free(kv->mem, pages);
        rv_free(kv->mem, blocks);
        return memory
                   ? rv_fail(RV_E_NOMEM, "sequence of %zu tokens: no memory", max_tokens)
                   : rv_fail(RV_E_FULL, "sequence: its state of %zu bytes does not fit, %zu of %zu are left",
                             kv->state_bytes, rv_budget_room(kv->budget), rv_budget_bytes(kv->budget));
    }
    *seq = (rv_kv_seq){ .kv = kv,
                        .next = kv->sequences,
                        .pages = pages,
                        .blocks = blocks,
                        .max_pages = max_pages,
                        .max_tokens = max_tokens,
                        .conv = conv };
    kv->sequences = seq;
    *out = seq;
    return RV_OK;
}

static void end_promise(rv_kv_seq *seq)
{
    release(seq->kv, seq->promise);
    seq->promise = 0;
    seq->promised = false;
}

void rv_kv_seq_free(rv_kv_seq *seq)
{
    if (!seq) {
        return;
    }
    rv_kv *kv = seq->kv;
    while (seq->n_marks) {
        drop_mark(seq, seq->n_marks - 1);
    }
    keep_pages(seq, 0);
    keep_blocks(seq, 0);
    end_promise(seq);
    free_state(kv, seq->conv);
    rv_kv_seq **link = &kv->sequences;
    while (*link != seq) {
        link = &(*link)->next;
    }
    *link = seq->next;
    rv_free(kv->mem, seq->pages);
    rv_free(kv->mem, seq->blocks);
    rv_free(kv->mem, seq);
}

static size_t count_pages(const rv_kv_seq *seq)
{
    size_t n = 0;
    for (size_t i = 0; i < seq->n_pages; i++) {
        n += seq->pages[i] != NULL;
    }
    return n;
}

size_t rv_kv_seq_tokens(const rv_kv_seq *seq)
{
    return seq->n_tokens;
}
size_t rv_kv_seq_bytes(const rv_kv_seq *seq)
{
    const rv_kv *kv = seq->kv;
    return count_pages(seq) * kv->page_bytes + seq->n_blocks * kv->block_bytes +
           seq->n_marks * kv->state_bytes + seq->promise;
}
rv_type rv_kv_type(const rv_kv_seq *seq)
{
    return seq->kv->page_type;
}
rv_type rv_kv_store_type(const rv_kv_seq *seq)
{
    return seq->kv->type;
}

size_t rv_kv_blocks_before(const rv_kv_seq *seq, size_t position)
{
    return blocks_before(seq->kv->quantised, seq->kv->window, position);
}
size_t rv_kv_blocks_filled(const rv_kv_seq *seq)
{
    return seq->n_filled;
}

/* The page the next token goes to was begun, and is another sequence's too. */
static bool begun_is_shared(const rv_kv_seq *seq)
{
    size_t page = seq->n_tokens / RV_KV_PAGE_TOKENS;
    return seq->n_tokens % RV_KV_PAGE_TOKENS && seq->pages[page]->refs > 1;
}

size_t rv_kv_promised(const rv_kv_seq *seq, size_t n)
{
    const rv_kv *kv = seq->kv;
    if (n <= seq->n_tokens) {
        return 0;
    }
    size_t pages = most_pages(kv->quantised, kv->window, n) + begun_is_shared(seq), has = count_pages(seq);
    size_t blocks = rv_kv_blocks_before(seq, n - 1);
    size_t need = (pages > has ? pages - has : 0) * kv->page_bytes +
                  (blocks > seq->n_blocks ? blocks - seq->n_blocks : 0) * kv->block_bytes;
    return need > seq->promise ? need - seq->promise : 0;
}

rv_err rv_kv_promise(rv_kv_seq *seq, size_t n)
{
    rv_kv *kv = seq->kv;
    size_t need = rv_kv_promised(seq, n);
    while (!claim(kv, need)) {
        if (!seq->n_marks) {
            return rv_kv_no_room(kv);
        }
        drop_mark(seq, 0);
    }
    seq->promise += need;
    seq->promised = true;
    return RV_OK;
}

static rv_err own_begun(rv_kv_seq *seq)
{
    if (!begun_is_shared(seq)) {
        return RV_OK;
    }
    unit *own = NULL, **at = &seq->pages[seq->n_tokens / RV_KV_PAGE_TOKENS];
    RV_TRY(rv_kv_unit_new(seq, false, &own));
    memcpy(rv_kv_numbers(own), rv_kv_numbers(*at), seq->kv->page_bytes - UNIT_HEADER);
    put_unit(seq, *at, false);
    *at = own;
    return RV_OK;
}

static rv_err grow(rv_kv_seq *seq, size_t pages, size_t blocks)
{
    while (seq->n_pages < pages) {
        RV_TRY(rv_kv_unit_new(seq, false, &seq->pages[seq->n_pages]));
        seq->n_pages++;
    }
    while (seq->n_blocks < blocks) {
        RV_TRY(rv_kv_unit_new(seq, true, &seq->blocks[seq->n_blocks]));
        seq->n_blocks++;
    }
    return own_begun(seq);
}

rv_err rv_kv_reserve(rv_kv_seq *seq, size_t n)
{
    if (n > seq->max_tokens - seq->n_tokens) {
        return rv_fail(RV_E_CONTEXT, "%zu more tokens after %zu: a sequence holds at most %zu", n,
                       seq->n_tokens, seq->max_tokens);
    }
    size_t had_pages = seq->n_pages, had_blocks = seq->n_blocks;
    rv_err e =
        n ? grow(seq, rv_kv_pages_for(seq->n_tokens + n), rv_kv_blocks_before(seq, seq->n_tokens + n - 1))
          : RV_OK;
    if (e) {
        keep_pages(seq, had_pages);
        keep_blocks(seq, had_blocks);
    }
    return e;
}

/* Marks inside windows that are blocks now cannot be gone back to: what is written behind them needs their pages. */
static void drop_marks_inside(rv_kv_seq *seq)
{
    for (size_t i = seq->n_marks; i-- > 0;) {
        size_t at = seq->marks[i].n_tokens;
        if (at % seq->kv->window && at < seq->n_dropped * RV_KVQ_TOKENS) {
            drop_mark(seq, i);
        }
    }
}

/* The pages that the first n blocks stand for. */
static void drop_pages(rv_kv_seq *seq, size_t n)
{
    if (n > seq->n_dropped) {
        for (size_t i = larger(1, seq->n_dropped * BLOCK_PAGES); i < n * BLOCK_PAGES; i++) {
            put_unit(seq, seq->pages[i], seq->promised);
            seq->pages[i] = NULL;
        }
        seq->n_dropped = n;
        drop_marks_inside(seq);
    }
}

void rv_kv_advance(rv_kv_seq *seq, size_t n)
{
    if (n == 0) {
        return;
    }
    seq->n_tokens += n;
    size_t blocks = rv_kv_blocks_before(seq, seq->n_tokens - 1);
    assert(rv_kv_pages_for(seq->n_tokens) <= seq->n_pages && blocks <= seq->n_blocks);
    seq->n_filled = blocks > seq->n_filled ? blocks : seq->n_filled;
    size_t sure = seq->n_tokens > RV_KV_TAKE_BACK ? seq->n_tokens - RV_KV_TAKE_BACK : 0;
    drop_pages(seq, rv_kv_blocks_before(seq, sure));
}

/* ---- numbers ---- */

/* First byte of the keys of one head in one page; its layer's values lie n_kv_heads * 16 * head_dim elements further. */
static uint8_t *head_at(const rv_kv_seq *seq, size_t layer, size_t head, size_t page)
{
    const rv_kv *kv = seq->kv;
    return rv_kv_numbers(seq->pages[page]) + kv->offset[layer] +
           head * RV_KV_PAGE_TOKENS * kv->head_dim * kv->element_bytes;
}

static size_t values_after_keys(const rv_kv *kv, size_t layer)
{
    return kv->n_kv_heads[layer] * RV_KV_PAGE_TOKENS * kv->head_dim * kv->element_bytes;
}

const void *rv_kv_keys(const rv_kv_seq *seq, size_t layer, size_t head, size_t page)
{
    return head_at(seq, layer, head, page);
}

const void *rv_kv_values(const rv_kv_seq *seq, size_t layer, size_t head, size_t page)
{
    return head_at(seq, layer, head, page) + values_after_keys(seq->kv, layer);
}

static uint8_t *block_at(const rv_kv_seq *seq, size_t layer, size_t head, size_t block)
{
    const rv_kv *kv = seq->kv;
    return rv_kv_numbers(seq->blocks[block]) +
           (kv->heads_before[layer] + head) * (kv->block_keys.bytes + kv->block_values.bytes);
}

const void *rv_kv_block_keys(const rv_kv_seq *seq, size_t layer, size_t head, size_t block)
{
    return block_at(seq, layer, head, block);
}

const void *rv_kv_block_values(const rv_kv_seq *seq, size_t layer, size_t head, size_t block)
{
    return block_at(seq, layer, head, block) + seq->kv->block_keys.bytes;
}

void rv_kv_put(rv_kv_seq *seq, const rv_kernels *k, size_t layer, size_t head, size_t position,
               const float *key, const float *value)
{
    const rv_kv *kv = seq->kv;
    uint8_t *keys = head_at(seq, layer, head, position / RV_KV_PAGE_TOKENS);
    uint8_t *values = keys + values_after_keys(kv, layer);
    size_t token = position % RV_KV_PAGE_TOKENS, dim = kv->head_dim;
    if (kv->page_type == RV_F32) {
        float *channels = (float *)(void *)keys + token;
        for (size_t i = 0; i < dim; i++) {
            channels[i * RV_KV_PAGE_TOKENS] = key[i];
        }
        memcpy(values + token * dim * sizeof *value, value, dim * sizeof *value);
        return;
    }
    uint16_t half[RV_ATTEND_DIM], *channels = (uint16_t *)(void *)keys + token;
    k->f32_to_f16(key, half, dim);
    for (size_t i = 0; i < dim; i++) {
        channels[i * RV_KV_PAGE_TOKENS] = half[i];
    }
    k->f32_to_f16(value, (uint16_t *)(void *)values + token * dim, dim);
}

void rv_kv_fill(rv_kv_seq *seq, const rv_kernels *k, size_t layer, size_t head, size_t block)
{
    const rv_kv *kv = seq->kv;
    size_t n = RV_KV_PAGE_TOKENS * kv->head_dim, first = block == 0 ? RV_KV_PAGE_TOKENS : 0;
    float runs[BLOCK_PAGES][RV_KV_PAGE_TOKENS * RV_ATTEND_DIM];
    const float *in[BLOCK_PAGES] = { runs[0], runs[1], runs[2], runs[3] };
    uint8_t *keys = block_at(seq, layer, head, block);
    for (size_t i = first / RV_KV_PAGE_TOKENS; i < BLOCK_PAGES; i++) {
        k->f16_to_f32(rv_kv_keys(seq, layer, head, block * BLOCK_PAGES + i), runs[i], n);
    }
    rv_kvq_pack_keys(kv->type, kv->head_dim, in, first, keys);
    for (size_t i = first / RV_KV_PAGE_TOKENS; i < BLOCK_PAGES; i++) {
        k->f16_to_f32(rv_kv_values(seq, layer, head, block * BLOCK_PAGES + i), runs[i], n);
    }
    rv_kvq_pack_values(kv->type, kv->head_dim, in, first, keys + kv->block_keys.bytes);
}

float *rv_kv_conv(rv_kv_seq *seq, size_t layer)
{
    return seq->conv + seq->kv->offset[layer];
}
const float *rv_kv_state(const rv_kv_seq *seq)
{
    return seq->conv;
}
size_t rv_kv_conv_at(const rv_kv_seq *seq, size_t layer)
{
    return seq->kv->offset[layer];
}

/* ---- going back ---- */

/* The mark whose loss costs least: the one closest behind the mark before it (the first one: behind the
 * start). */
static size_t cheapest_mark(const rv_kv_seq *seq)
{
    size_t best = 0, best_gap = seq->marks[0].n_tokens;
    for (size_t i = 1; i < seq->n_marks; i++) {
        size_t gap = seq->marks[i].n_tokens - seq->marks[i - 1].n_tokens;
        if (gap < best_gap) {
            best = i;
            best_gap = gap;
        }
    }
    return best;
}

float *rv_kv_mark(rv_kv_seq *seq, size_t n_tokens)
{
    if (seq->n_marks && n_tokens <= seq->marks[seq->n_marks - 1].n_tokens) {
        return NULL;
    }
    if (seq->n_marks == RV_KV_MARKS) {
        drop_mark(seq, cheapest_mark(seq));
    }
    float *state = new_state(seq->kv);
    if (state) {
        seq->marks[seq->n_marks++] = (mark){ n_tokens, state };
    }
    return state;
}

/* Blocks that stay when n tokens do. */
static size_t blocks_left(const rv_kv_seq *seq, size_t n)
{
    size_t most = rv_kv_blocks_before(seq, n);
    return seq->n_filled < most ? seq->n_filled : most;
}

static void go_back(rv_kv_seq *seq, size_t n)
{
    if (n < seq->n_tokens) {
        while (seq->n_marks && seq->marks[seq->n_marks - 1].n_tokens > n) {
            drop_mark(seq, seq->n_marks - 1);
        }
        if (seq->n_marks) {
            seq->n_tokens = seq->marks[seq->n_marks - 1].n_tokens;
            memcpy(seq->conv, seq->marks[seq->n_marks - 1].state, seq->kv->state_bytes);
        } else {
            seq->n_tokens = 0;
            memset(seq->conv, 0, seq->kv->state_bytes);
        }
    }
    while (seq->n_marks && seq->marks[seq->n_marks - 1].n_tokens > seq->n_tokens) {
        drop_mark(seq, seq->n_marks - 1); /* of a step that was not run */
    }
    if (seq->rebuilding) {
        memset(seq->conv, 0, seq->kv->state_bytes);
        seq->rebuilding = false;
    }
    keep_pages(seq, rv_kv_pages_for(seq->n_tokens));
    keep_blocks(seq, blocks_left(seq, seq->n_tokens));
    drop_pages(seq, seq->n_filled);
}

size_t rv_kv_rewind(rv_kv_seq *seq, size_t n)
{
    go_back(seq, n);
    end_promise(seq);
    return seq->n_tokens;
}

size_t rv_kv_rewind_promised(rv_kv_seq *seq, size_t n, size_t most)
{
    go_back(seq, n);
    size_t promise = seq->promise;
    seq->promise = 0;
    size_t need = rv_kv_promised(seq, most);
    seq->promise = promise < need ? promise : need;
    release(seq->kv, promise - seq->promise);
    return seq->n_tokens;
}

/* How many of the marks stand at or before n. */
static size_t marks_to(const rv_kv_seq *seq, size_t n)
{
    size_t i = seq->n_marks;
    while (i && seq->marks[i - 1].n_tokens > n) {
        i--;
    }
    return i;
}

size_t rv_kv_rewindable(const rv_kv_seq *seq, size_t n)
{
    size_t marks = marks_to(seq, n);
    return n >= seq->n_tokens ? seq->n_tokens : marks ? seq->marks[marks - 1].n_tokens : 0;
}

void rv_kv_take_back(rv_kv_seq *seq, size_t n, const float *state)
{
    assert(n <= seq->n_tokens && seq->n_tokens - n <= RV_KV_TAKE_BACK && marks_to(seq, n) == seq->n_marks);
    seq->n_tokens = n;
    seq->n_filled = blocks_left(seq, n); /* what was filled for tokens that go is filled again */
    memcpy(seq->conv, state, seq->kv->state_bytes);
}

/* Pages that will be neither written nor become a block. */
static bool may_share(const rv_kv *kv, size_t page, size_t n_tokens)
{
    return (page + 1) * RV_KV_PAGE_TOKENS <= n_tokens && (!kv->quantised || page == 0);
}

static rv_err copy_units(rv_kv_seq *to, const rv_kv_seq *from, size_t n)
{
    const rv_kv *kv = from->kv;
    for (size_t blocks = blocks_left(from, n); to->n_blocks < blocks; to->n_blocks++) {
        to->blocks[to->n_blocks] = share(from->blocks[to->n_blocks]);
    }
    to->n_filled = to->n_dropped = to->n_blocks;
    for (size_t i = 0; i < rv_kv_pages_for(n); i++) {
        if (i && i < to->n_blocks * BLOCK_PAGES) {
            to->pages[i] = NULL;
        } else if (may_share(kv, i, n)) {
            to->pages[i] = share(from->pages[i]);
        } else {
            RV_TRY(rv_kv_unit_new(to, false, &to->pages[i]));
            memcpy(rv_kv_numbers(to->pages[i]), rv_kv_numbers(from->pages[i]), kv->page_bytes - UNIT_HEADER);
        }
        to->n_pages++;
    }
    return RV_OK;
}

rv_err rv_kv_copy(rv_kv_seq *to, const rv_kv_seq *from, size_t n)
{
    const rv_kv *kv = from->kv;
    assert(to->kv == kv && to != from && to->n_tokens == 0 && to->n_pages == 0);
    n = rv_kv_rewindable(from, n);
    if (n > to->max_tokens) {
        return rv_fail(RV_E_CONTEXT, "%zu tokens: a sequence holds at most %zu", n, to->max_tokens);
    }
    rv_err e = copy_units(to, from, n);
    if (e) {
        rv_kv_rewind(to, 0);
        return e;
    }
    size_t n_marks = marks_to(from, n);
    for (size_t i = 0; i < n_marks; i++) {
        float *state = rv_kv_mark(to, from->marks[i].n_tokens);
        if (state) {
            memcpy(state, from->marks[i].state, kv->state_bytes);
        }
    }
    if (n == from->n_tokens) {
        memcpy(to->conv, from->conv, kv->state_bytes);
    } else if (n) {
        memcpy(to->conv, from->marks[n_marks - 1].state, kv->state_bytes);
    }
    to->n_tokens = n;
    drop_marks_inside(to);
    return RV_OK;
}
