/* The best k of everything: heaps of hits, ranking by the vectors themselves, and the scan that looks at every row. */
#include "vector/index_priv.h"

/* By adding halves: without a flag that not every CPU has, the compiler's own is a call for each word. */
static inline size_t count_bits(uint64_t x)
{
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    return ((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56;
}

size_t rv_filter_count(const rv_filter *filter)
{
    size_t n = 0, whole = filter->n_bits / 64;
    for (size_t i = 0; i < whole; i++) {
        n += count_bits(filter->bits[i]);
    }
    uint64_t last =
        filter->n_bits % 64 ? filter->bits[whole] & (((uint64_t)1 << filter->n_bits % 64) - 1) : 0;
    return n + count_bits(last);
}

/* ---- the k best of what is pushed: a heap with the worst on top ---- */

static void sift_down(rv_hit *heap, size_t n, size_t at)
{
    rv_hit moving = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < n && rv_hit_better(heap[child], heap[child + 1])) {
            child++;
        }
        if (child >= n || !rv_hit_better(moving, heap[child])) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

void rv_hits_push(rv_hit *heap, size_t *n, size_t k, rv_hit hit)
{
    if (*n == k) {
        if (k > 0 && rv_hit_better(hit, heap[0])) {
            heap[0] = hit;
            sift_down(heap, k, 0);
        }
        return;
    }
    size_t at = (*n)++;
    for (; at > 0 && rv_hit_better(heap[(at - 1) / 2], hit); at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
    }
    heap[at] = hit;
}

void rv_hits_sort(rv_hit *heap, size_t n)
{
    while (n > 1) { /* the worst goes to the end */
        rv_hit worst = heap[0];
        heap[0] = heap[--n];
        sift_down(heap, n, 0);
        heap[n] = worst;
    }
}

/* ---- by the vectors themselves ---- */

enum { AHEAD = 4 };

void rv_index_rank(rv_index *index, rv_scratch *scratch, const float *query, const uint32_t *slots, size_t n,
                   size_t k, rv_hit *hits, size_t *found)
{
    const rv_rows *rows = &index->rows;
    *found = 0;
    scratch->told.ranked += n;
    for (size_t i = 0; i < n && i < AHEAD; i++) {
        rv_rows_fetch(rows, slots[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            rv_rows_fetch(rows, slots[i + AHEAD]);
        }
        rv_hit hit = { rows->ids[slots[i]], rv_rows_score(rows, query, slots[i], scratch->row) };
        rv_hits_push(hits, found, k, hit);
    }
    rv_hits_sort(hits, *found);
}

/* ---- all rows that pass ---- */

typedef struct passing {
    const rv_rows *rows;
    const rv_filter *bits; /* NULL: all live rows pass, or a function is asked later */
    bool few;              /* so few that each id is looked up */
    size_t at;             /* the next slot, or word of bits and what is */
    uint64_t left;         /* left of the one before */
} passing;

static passing passing_begin(const rv_rows *rows, const rv_filter *filter, const rv_scratch *scratch)
{
    const rv_filter *bits = filter && filter->bits ? filter : NULL;
    return (passing){ .rows = rows, .bits = bits, .few = bits && scratch->passing < rows->n / 4 };
}

/* The next slot, RV_ROWS_NONE after the last. */
static uint32_t passing_next(passing *p)
{
    const rv_rows *rows = p->rows;
    while (!p->few && p->at < rows->n) {
        uint32_t slot = (uint32_t)p->at++;
        if (rv_rows_live(rows, slot) && (!p->bits || rv_filter_passes(p->bits, rows->ids[slot]))) {
            return slot;
        }
    }
    for (size_t words = p->few ? (p->bits->n_bits + 63) / 64 : 0; p->left || p->at < words;) {
        if (!p->left) {
            p->left = p->bits->bits[p->at++];
            continue;
        }
        size_t bit = (p->at - 1) * 64 + (size_t)__builtin_ctzll(p->left);
        p->left &= p->left - 1;
        uint32_t slot =
            bit < p->bits->n_bits ? rv_rows_find(rows, p->bits->first + (int64_t)bit) : RV_ROWS_NONE;
        if (slot != RV_ROWS_NONE) {
            return slot;
        }
    }
    return RV_ROWS_NONE;
}

void rv_index_scan_vectors(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                           rv_hit *hits, size_t *found)
{
    const rv_rows *rows = &index->rows;
    const rv_filter *asked = how->filter && !how->filter->bits ? how->filter : NULL;
    size_t n = 0;
    scratch->told.way = RV_WAY_EXACT;
    passing rest = passing_begin(rows, how->filter, scratch);
    for (uint32_t slot; (slot = passing_next(&rest)) != RV_ROWS_NONE;) {
        rv_hit hit = { rows->ids[slot], rv_rows_score(rows, query, slot, scratch->row) };
        scratch->told.ranked++;
        if ((n < how->k || rv_hit_better(hit, hits[0])) && rv_filter_passes(asked, hit.id)) {
            rv_hits_push(hits, &n, how->k, hit);
        }
    }
    rv_hits_sort(hits, n);
    *found = n;
}

/* ---- by codes, in blocks: the best few of all, then ranked ---- */

typedef struct scan {
    rv_index *index;
    rv_scratch *scratch;
    rv_row_query query;
    const rv_filter *asked; /* a filter that is asked late, for near rows only */
    size_t n, keep, n_block;
} scan;

static void scan_block(scan *s)
{
    rv_scratch *scratch = s->scratch;
    const rv_rows *rows = &s->index->rows;
    rv_rows_distances(rows, &s->query, scratch->slots, s->n_block, scratch->sums, scratch->distances);
    for (size_t i = 0; i < s->n_block; i++) {
        rv_hit hit = { scratch->slots[i], -scratch->distances[i] };
        if ((s->n < s->keep || rv_hit_better(hit, scratch->heap[0])) &&
            rv_filter_passes(s->asked, rows->ids[hit.id])) {
            rv_hits_push(scratch->heap, &s->n, s->keep, hit);
        }
    }
    scratch->told.compared += s->n_block;
    s->n_block = 0;
}

static void scan_slot(scan *s, uint32_t slot)
{
    rv_rows_fetch_code(&s->index->rows, slot);
    s->scratch->slots[s->n_block++] = slot;
    if (s->n_block == RV_SCRATCH_BLOCK / 8) {
        scan_block(s);
    }
}

static rv_err scan_codes(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                         rv_hit *hits, size_t *found)
{
    const rv_rows *rows = &index->rows;
    size_t keep = how->rerank ? how->rerank : 2 * how->k + 10;
    keep = keep > how->k ? keep : how->k;
    keep = keep < rows->n_live ? keep : rows->n_live;
    scratch->told.way = RV_WAY_SCAN;
    const rv_filter *filter = how->filter;
    if (!rv_scratch_heap(index, scratch, keep)) {
        return rv_fail(RV_E_NOMEM, "no memory to search %zu vectors", rows->n_live);
    }
    scan s = { index,
               scratch,
               rv_rows_ask(rows, query, scratch->rotated, scratch->code),
               filter && filter->bits ? NULL : filter,
               0,
               keep,
               0 };
    passing rest = passing_begin(rows, filter, scratch);
    for (uint32_t slot; (slot = passing_next(&rest)) != RV_ROWS_NONE;) {
        scan_slot(&s, slot);
    }
    scan_block(&s);
    for (size_t i = 0; i < s.n; i++) {
        scratch->ranked[i] = (uint32_t)scratch->heap[i].id;
    }
    rv_index_rank(index, scratch, query, scratch->ranked, s.n, how->k, hits, found);
    return RV_OK;
}

rv_err rv_index_scan(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                     rv_hit *hits, size_t *found)
{
    if (index->rows.stride) {
        return scan_codes(index, scratch, query, how, hits, found);
    }
    rv_index_scan_vectors(index, scratch, query, how, hits, found);
    return RV_OK;
}
