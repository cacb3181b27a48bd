#include "kv/kv.h"

#include <assert.h>
#include <string.h>

#define NO_PAGE UINT32_MAX

typedef struct mark {
    size_t n_tokens;
    float *state;
} mark;

struct rv_kv {
    const rv_alloc *mem;
    rv_type type;
    size_t n_layers, head_dim, taps, channels;
    size_t element_bytes, page_bytes, state_bytes, budget_bytes, used_bytes;
    size_t *offset;       /* [n_layers] bytes into a page, or floats into the convolution state */
    uint32_t *n_kv_heads; /* [n_layers] */
    uint8_t *pages;       /* [n_pages][page_bytes] */
    uint32_t *next_free;  /* [n_pages] list of free pages */
    uint32_t n_pages, first_free;
    rv_kv_seq *sequences;
};

struct rv_kv_seq {
    rv_kv *kv;
    rv_kv_seq *next;
    uint32_t *pages; /* [max_pages] */
    size_t n_pages, max_pages, n_tokens, max_tokens;
    float *conv;
    mark marks[RV_KV_MARKS];
    size_t n_marks;
};

static size_t element_bytes(rv_type type)
{
    return type == RV_F32 ? sizeof(float) : sizeof(uint16_t);
}

size_t rv_kv_page_bytes(const rv_kv_shape *shape)
{
    size_t heads = 0;
    for (size_t l = 0; l < shape->n_layers; l++) {
        heads += shape->n_kv_heads[l];
    }
    size_t bytes = heads * 2 * RV_KV_PAGE_TOKENS * shape->head_dim * element_bytes(shape->type);
    return (bytes + 63) / 64 * 64 +
           (bytes == 0) * 64; /* a model without attention still counts its tokens in pages */
}

size_t rv_kv_state_bytes(const rv_kv_shape *shape)
{
    size_t layers = 0;
    for (size_t l = 0; l < shape->n_layers; l++) {
        layers += shape->n_kv_heads[l] == 0;
    }
    return layers * shape->conv_channels * (shape->conv_taps - 1) * sizeof(float);
}

static bool make_tables(rv_kv *kv, const rv_kv_shape *shape)
{
    kv->offset = rv_new_array(kv->mem, kv->n_layers, sizeof *kv->offset);
    kv->n_kv_heads = rv_new_array(kv->mem, kv->n_layers, sizeof *kv->n_kv_heads);
    kv->next_free = rv_new_array(kv->mem, (size_t)kv->n_pages + 1, sizeof *kv->next_free);
    size_t bytes;
    if (!kv->offset || !kv->n_kv_heads || !kv->next_free ||
        !rv_mul_size((size_t)kv->n_pages + 1, kv->page_bytes, &bytes)) {
        return false;
    }
    kv->pages =
        kv->mem->aligned(kv->mem->self, 64, bytes); /* not zeroed, so that it costs memory only when used */
    if (!kv->pages) {
        return false;
    }

    size_t page_at = 0, state_at = 0;
    for (size_t l = 0; l < kv->n_layers; l++) {
        kv->n_kv_heads[l] = shape->n_kv_heads[l];
        if (shape->n_kv_heads[l]) {
            kv->offset[l] = page_at;
            page_at +=
                (size_t)shape->n_kv_heads[l] * 2 * RV_KV_PAGE_TOKENS * kv->head_dim * kv->element_bytes;
        } else {
            kv->offset[l] = state_at;
            state_at += kv->channels * (kv->taps - 1);
        }
    }
    for (uint32_t p = 0; p < kv->n_pages; p++) {
        kv->next_free[p] = p + 1 < kv->n_pages ? p + 1 : NO_PAGE;
    }
    kv->first_free = kv->n_pages ? 0 : NO_PAGE;
    return true;
}

rv_err rv_kv_new(const rv_alloc *mem, const rv_kv_shape *shape, size_t budget_bytes, rv_kv **out)
{
    assert(shape->type == RV_F16 || shape->type == RV_F32);
    assert(shape->n_layers && shape->conv_taps);
    rv_kv *kv = rv_new(mem, sizeof *kv);
    if (!kv) {
        return rv_fail(RV_E_NOMEM, "key/value cache: no memory");
    }
    size_t page_bytes = rv_kv_page_bytes(shape), n_pages = budget_bytes / page_bytes;
    *kv = (rv_kv){ .mem = mem,
                   .type = shape->type,
                   .n_layers = shape->n_layers,
                   .head_dim = shape->head_dim,
                   .taps = shape->conv_taps,
                   .channels = shape->conv_channels,
                   .element_bytes = element_bytes(shape->type),
                   .page_bytes = page_bytes,
                   .state_bytes = rv_kv_state_bytes(shape),
                   .budget_bytes = budget_bytes,
                   .n_pages = (uint32_t)(n_pages < NO_PAGE ? n_pages : NO_PAGE - 1) };
    if (!make_tables(kv, shape)) {
        rv_kv_free(kv);
        return rv_fail(RV_E_NOMEM, "key/value cache: no memory for %zu bytes", budget_bytes);
    }
    *out = kv;
    return RV_OK;
}

void rv_kv_free(rv_kv *kv)
{
    if (!kv) {
        return;
    }
    assert(!kv->sequences);
    const rv_alloc *mem = kv->mem;
    rv_free(mem, kv->pages);
    rv_free(mem, kv->next_free);
    rv_free(mem, kv->n_kv_heads);
    rv_free(mem, kv->offset);
    rv_free(mem, kv);
}

size_t rv_kv_used_bytes(const rv_kv *kv)
{
    return kv->used_bytes;
}
size_t rv_kv_budget_bytes(const rv_kv *kv)
{
    return kv->budget_bytes;
}

static bool claim(rv_kv *kv, size_t bytes)
{
    if (bytes > kv->budget_bytes - kv->used_bytes) {
        return false;
    }
    kv->used_bytes += bytes;
    return true;
}

static float *new_state(rv_kv *kv)
{
    if (!claim(kv, kv->state_bytes)) {
        return NULL;
    }
    float *state = rv_new_aligned(kv->mem, 64, kv->state_bytes + (kv->state_bytes == 0) * 64);
    if (!state) {
        kv->used_bytes -= kv->state_bytes;
    }
    return state;
}

static void free_state(rv_kv *kv, float *state)
{
    rv_free(kv->mem, state);
    kv->used_bytes -= kv->state_bytes;
}

rv_err rv_kv_seq_new(rv_kv *kv, size_t max_tokens, rv_kv_seq **out)
{
    size_t max_pages = max_tokens / RV_KV_PAGE_TOKENS + (max_tokens % RV_KV_PAGE_TOKENS != 0);
    rv_kv_seq *seq = rv_new(kv->mem, sizeof *seq);
    uint32_t *pages = rv_new_array(kv->mem, max_pages + 1, sizeof *pages);
    if (!seq || !pages) {
        rv_free(kv->mem, seq);
        rv_free(kv->mem, pages);
        return rv_fail(RV_E_NOMEM, "sequence of %zu tokens: no memory", max_tokens);
    }
    *seq = (rv_kv_seq){ .kv = kv, .pages = pages, .max_pages = max_pages, .max_tokens = max_tokens };
    bool fits = kv->state_bytes <= kv->budget_bytes - kv->used_bytes;
    seq->conv = new_state(kv);
    if (!seq->conv) {
        rv_free(kv->mem, seq);
        rv_free(kv->mem, pages);
        return fits ? rv_fail(RV_E_NOMEM, "sequence: no memory for its state of %zu bytes", kv->state_bytes)
                    : rv_fail(RV_E_FULL,
                              "sequence: its state of %zu bytes does not fit, %zu of %zu bytes in use",
                              kv->state_bytes, kv->used_bytes, kv->budget_bytes);
    }
    seq->next = kv->sequences;
    kv->sequences = seq;
    *out = seq;
    return RV_OK;
}

static void drop_mark(rv_kv_seq *seq, size_t i)
{
    free_state(seq->kv, seq->marks[i].state);
    seq->n_marks--;
    memmove(seq->marks + i, seq->marks + i + 1, (seq->n_marks - i) * sizeof *seq->marks);
}

static void keep_pages(rv_kv_seq *seq, size_t n)
{
    rv_kv *kv = seq->kv;
    while (seq->n_pages > n) {
        uint32_t page = seq->pages[--seq->n_pages];
        kv->next_free[page] = kv->first_free;
        kv->first_free = page;
        kv->used_bytes -= kv->page_bytes;
    }
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
    free_state(kv, seq->conv);
    rv_kv_seq **link = &kv->sequences;
    while (*link != seq) {
        link = &(*link)->next;
    }
    *link = seq->next;
    rv_free(kv->mem, seq->pages);
    rv_free(kv->mem, seq);
}

size_t rv_kv_seq_tokens(const rv_kv_seq *seq)
{
    return seq->n_tokens;
}
size_t rv_kv_seq_pages(const rv_kv_seq *seq)
{
    return seq->n_pages;
}
rv_type rv_kv_type(const rv_kv_seq *seq)
{
    return seq->kv->type;
}

static size_t pages_for(size_t n_tokens)
{
    return (n_tokens + RV_KV_PAGE_TOKENS - 1) / RV_KV_PAGE_TOKENS;
}

static bool take_page(rv_kv_seq *seq)
{
    rv_kv *kv = seq->kv;
    while (!claim(kv, kv->page_bytes)) {
        if (!seq->n_marks) {
            return false;
        }
        drop_mark(seq, 0);
    }
    if (kv->first_free == NO_PAGE) {
        kv->used_bytes -= kv->page_bytes;
        return false;
    }
    uint32_t page = kv->first_free;
    kv->first_free = kv->next_free[page];
    seq->pages[seq->n_pages++] = page;
    return true;
}

rv_err rv_kv_reserve(rv_kv_seq *seq, size_t n)
{
    if (n > seq->max_tokens - seq->n_tokens) {
        return rv_fail(RV_E_CONTEXT, "%zu more tokens after %zu: a sequence holds at most %zu", n,
                       seq->n_tokens, seq->max_tokens);
    }
    size_t had = seq->n_pages, need = pages_for(seq->n_tokens + n);
    while (seq->n_pages < need) {
        if (!take_page(seq)) {
            keep_pages(seq, had);
            return rv_fail(RV_E_FULL, "key/value cache: no page left, %zu of %zu bytes in use",
                           seq->kv->used_bytes, seq->kv->budget_bytes);
        }
    }
    return RV_OK;
}

void rv_kv_advance(rv_kv_seq *seq, size_t n)
{
    assert(pages_for(seq->n_tokens + n) <= seq->n_pages);
    seq->n_tokens += n;
}

/* First byte of the keys of one head in one page; its values lie n_kv_heads * 16 * head_dim elements further.
 */
static uint8_t *head_at(const rv_kv_seq *seq, size_t layer, size_t head, size_t page)
{
    const rv_kv *kv = seq->kv;
    return kv->pages + seq->pages[page] * kv->page_bytes + kv->offset[layer] +
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

static void store(const rv_kv *kv, const rv_kernels *k, const float *x, uint8_t *at)
{
    if (kv->type == RV_F32) {
        memcpy(at, x, kv->head_dim * sizeof *x);
    } else {
        k->f32_to_f16(x, (uint16_t *)(void *)at, kv->head_dim);
    }
}

void rv_kv_put(rv_kv_seq *seq, const rv_kernels *k, size_t layer, size_t head, size_t position,
               const float *key, const float *value)
{
    const rv_kv *kv = seq->kv;
    uint8_t *at = head_at(seq, layer, head, position / RV_KV_PAGE_TOKENS) +
                  position % RV_KV_PAGE_TOKENS * kv->head_dim * kv->element_bytes;
    store(kv, k, key, at);
    store(kv, k, value, at + values_after_keys(kv, layer));
}

float *rv_kv_conv(rv_kv_seq *seq, size_t layer)
{
    return seq->conv + seq->kv->offset[layer];
}
size_t rv_kv_conv_at(const rv_kv_seq *seq, size_t layer)
{
    return seq->kv->offset[layer];
}

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

size_t rv_kv_rewind(rv_kv_seq *seq, size_t n)
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
    keep_pages(seq, pages_for(seq->n_tokens));
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
    assert(n <= seq->n_tokens && marks_to(seq, n) == seq->n_marks);
    seq->n_tokens = n;
    memcpy(seq->conv, state, seq->kv->state_bytes);
}

rv_err rv_kv_copy(rv_kv_seq *to, const rv_kv_seq *from, size_t n)
{
    const rv_kv *kv = from->kv;
    assert(to->kv == kv && to != from && to->n_tokens == 0);
    n = rv_kv_rewindable(from, n);
    RV_TRY(rv_kv_reserve(to, n));
    for (size_t i = 0; i < pages_for(n); i++) {
        memcpy(kv->pages + to->pages[i] * kv->page_bytes, kv->pages + from->pages[i] * kv->page_bytes,
               kv->page_bytes);
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
    return RV_OK;
}

rv_err rv_kv_check(const rv_kv *kv)
{
    uint8_t *seen = rv_new(kv->mem, (size_t)kv->n_pages + 1);
    if (!seen) {
        return rv_fail(RV_E_NOMEM, "checking the key/value cache: no memory");
    }
    const char *broken = NULL;
    size_t used = 0, n_seen = 0;
    for (uint32_t p = kv->first_free; p != NO_PAGE && !broken; p = kv->next_free[p]) {
        broken = p >= kv->n_pages ? "a free page out of range" : seen[p]++ ? "a page free twice" : NULL;
        n_seen++;
    }
    for (const rv_kv_seq *s = kv->sequences; s && !broken; s = s->next) {
        for (size_t i = 0; i < s->n_pages && !broken; i++) {
            broken = s->pages[i] >= kv->n_pages ? "a page out of range"
                     : seen[s->pages[i]]++      ? "a page with two owners"
                                                : NULL;
            n_seen++;
        }
        for (size_t i = 0; i < s->n_marks && !broken; i++) {
            broken = s->marks[i].n_tokens > s->n_tokens                      ? "a mark past the end"
                     : i && s->marks[i].n_tokens <= s->marks[i - 1].n_tokens ? "marks out of order"
                                                                             : NULL;
        }
        if (!broken && s->n_pages < pages_for(s->n_tokens)) {
            broken = "a sequence with fewer pages than tokens";
        }
        used += s->n_pages * kv->page_bytes + (1 + s->n_marks) * kv->state_bytes;
    }
    if (!broken && n_seen != kv->n_pages) {
        broken = "a lost page";
    }
    if (!broken && (used != kv->used_bytes || used > kv->budget_bytes)) {
        broken = "bytes in use miscounted or past the budget";
    }
    rv_free(kv->mem, seen);
    return broken ? rv_fail(RV_E_CORRUPT, "key/value cache: %s", broken) : RV_OK;
}
