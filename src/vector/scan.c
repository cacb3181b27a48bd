/* The best k of everything: heaps of hits, ranking by the vectors themselves, and the scan that looks at every row. */
#include "vector/index_priv.h"

#include <math.h>
#include <string.h>

size_t rv_filter_count(const rv_rows *rows, const rv_filter *filter)
{
    size_t whole = filter->n_bits / 64;
    uint64_t last =
        filter->n_bits % 64 ? filter->bits[whole] & (((uint64_t)1 << filter->n_bits % 64) - 1) : 0;
    return rows->kernels->bits_count(filter->bits, whole) + rows->kernels->bits_count(&last, 1);
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

/* ---- the smallest of many keys ---- */

/* The n smallest keys, and what belongs to them, to the front. A pivot is the key of a small sample that has the place n has
 * among all, or a little behind it: most of what is not wanted goes in the first step. */
void rv_smallest_first(const rv_kernels *kernels, float *keys, uint32_t *what, size_t total, size_t n)
{
    enum { SAMPLE = 24 };
    while (total > n && n > 0) {
        float sample[SAMPLE]; /* the smallest of it, sorted, as far as the pivot */
        size_t n_sample = total / 16 + 3 < SAMPLE ? total / 16 + 3 : SAMPLE, step = total / n_sample;
        size_t place = n * n_sample / total + 1;
        place = place < n_sample ? place : n_sample - 1;
        size_t kept = 0;
        for (size_t i = 0; i < n_sample; i++) {
            float key = keys[i * step];
            if (kept > place && !(key < sample[place])) {
                continue;
            }
            size_t at = kept > place ? place : kept++;
            for (; at > 0 && sample[at - 1] > key; at--) {
                sample[at] = sample[at - 1];
            }
            sample[at] = key;
        }
        float pivot = sample[place];
        size_t below = kernels->part(keys, what, total, pivot);
        if (below >= n && below < total) {
            total = below;
            continue;
        }
        /* all that is below, and some of those equal to the pivot or above */
        size_t equal =
            below + kernels->part(keys + below, what + below, total - below, nextafterf(pivot, INFINITY));
        if (equal >= n) {
            return;
        }
        if (equal == 0) { /* no order among what is not a number */
            return;
        }
        keys += equal, what += equal, total -= equal, n -= equal;
    }
}

float rv_largest(const float *keys, size_t n)
{
    float largest = keys[0];
    for (size_t i = 1; i < n; i++) {
        largest = keys[i] > largest ? keys[i] : largest;
    }
    return largest;
}

void rv_sort_few(float *keys, uint32_t *what, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        float key = keys[i];
        uint32_t thing = what[i];
        size_t at = i;
        for (; at > 0 && keys[at - 1] > key; at--) {
            keys[at] = keys[at - 1];
            what[at] = what[at - 1];
        }
        keys[at] = key;
        what[at] = thing;
    }
}

/* ---- the nearest by codes ---- */

rv_err rv_near_begin(rv_index *index, rv_scratch *scratch, size_t k, size_t keep, const rv_row_query *query)
{
    rv_near *near = &scratch->near;
    const size_t most = keep + keep / 2 + 1, room = most + RV_SCRATCH_BLOCK;
    if (room > near->room) {
        float *distances = rv_resize(index->mem, near->distances, room * sizeof *distances);
        near->distances = distances ? distances : near->distances;
        uint32_t *slots = distances ? rv_resize(index->mem, near->slots, room * sizeof *slots) : NULL;
        near->slots = slots ? slots : near->slots;
        if (!slots) {
            return rv_fail(RV_E_NOMEM, "no memory to search %zu vectors", index->rows.n_live);
        }
        near->room = room;
    }
    near->rows = &index->rows;
    near->query = query;
    near->n = 0;
    near->k = k;
    near->keep = keep;
    near->most = most;
    near->limit = INFINITY;
    return RV_OK;
}

/* What is farther than the k-th by more than three deviations of a distance by codes is not one of the best k. */
static void drop_hopeless(rv_near *near)
{
    rv_smallest_first(near->rows->kernels, near->distances, near->slots, near->n, near->k);
    const float kth = rv_largest(near->distances, near->k);
    near->limit = kth + 3 * rv_rows_deviation(near->rows, near->query, near->slots[0], kth);
    size_t n = near->k;
    for (size_t i = n; i < near->n; i++) {
        near->slots[n] = near->slots[i];
        near->distances[n] = near->distances[i];
        n += near->distances[i] <= near->limit;
    }
    near->n = n;
}

static void narrow(rv_near *near)
{
    if (near->query && near->n > near->k) {
        drop_hopeless(near);
    }
    if (near->n > near->keep) {
        rv_smallest_first(near->rows->kernels, near->distances, near->slots, near->n, near->keep);
        near->n = near->keep;
        near->limit = rv_largest(near->distances, near->keep);
    }
}

void rv_near_offer(rv_near *near, const uint32_t *slots, const float *distances, size_t n)
{
    near->n += near->rows->kernels->below(distances, slots, n, near->limit, near->distances + near->n,
                                          near->slots + near->n);
    if (near->n >= near->most) {
        narrow(near);
    }
}

/* ---- by the vectors themselves ---- */

enum { AHEAD = 4 };

void rv_index_rank(rv_index *index, rv_scratch *scratch, const float *query, size_t k, rv_hit *hits,
                   size_t *found)
{
    const rv_rows *rows = &index->rows;
    const uint32_t *slots = scratch->near.slots;
    narrow(&scratch->near);
    const size_t n = scratch->near.n;
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
    size_t at, end;        /* the next slot, or word of bits */
    uint64_t ahead;        /* id less slot of the row before: where ids came in order, of the next one too */
} passing;

static passing passing_begin(const rv_rows *rows, const rv_filter *filter, const rv_scratch *scratch)
{
    const rv_filter *bits = filter && filter->bits ? filter : NULL;
    bool few = bits && scratch->passing < rows->n / 4;
    return (
        passing){ .rows = rows, .bits = bits, .few = few, .end = few ? (bits->n_bits + 63) / 64 : rows->n };
}

/* Of some more ids that pass. */
static size_t passing_ids(passing *p, uint32_t *slots)
{
    enum { WORDS_MOST = 1 << 26 };
    const rv_rows *rows = p->rows;
    size_t left = p->end - p->at, n_listed, n = 0;
    const uint64_t first = (uint64_t)p->bits->first + 64 * p->at, beyond = p->bits->n_bits - 64 * p->at;
    const bool all_live = rows->n_live == rows->n;
    p->at += rows->kernels->bits_list(p->bits->bits + p->at, left < WORDS_MOST ? left : WORDS_MOST, slots,
                                      &n_listed);
    for (size_t i = 0; i < n_listed; i++) {
        uint64_t id = first + slots[i], guess = id - p->ahead;
        if (slots[i] >= beyond) {
            continue;
        }
        uint32_t slot = (uint32_t)guess;
        if (guess >= rows->n || rows->ids[guess] != (int64_t)id || !(all_live || rv_rows_live(rows, slot))) {
            slot = rv_rows_find(rows, (int64_t)id);
            p->ahead = id - slot; /* wrong when there is none: then the next guess is */
        }
        slots[n] = slot;
        n += slot != RV_ROWS_NONE;
    }
    return n;
}

/* The next slots, at most RV_SCRATCH_BLOCK of them; none: there are no more. */
static size_t passing_next(passing *p, uint32_t *slots)
{
    const rv_rows *rows = p->rows;
    size_t n = 0;
    while (p->few && n == 0 && p->at < p->end) {
        n = passing_ids(p, slots);
    }
    for (; !p->few && p->at < p->end && n < RV_SCRATCH_BLOCK; p->at++) {
        uint32_t slot = (uint32_t)p->at;
        slots[n] = slot;
        n += rv_rows_live(rows, slot) && (!p->bits || rv_filter_passes(p->bits, rows->ids[slot]));
    }
    return n;
}

void rv_index_scan_vectors(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                           rv_hit *hits, size_t *found)
{
    const rv_rows *rows = &index->rows;
    const rv_filter *asked = how->filter && !how->filter->bits ? how->filter : NULL;
    size_t n = 0;
    scratch->told.way = RV_WAY_EXACT;
    passing rest = passing_begin(rows, how->filter, scratch);
    for (size_t some; (some = passing_next(&rest, scratch->slots)) > 0;) {
        for (size_t i = 0; i < some; i++) {
            uint32_t slot = scratch->slots[i];
            rv_hit hit = { rows->ids[slot], rv_rows_score(rows, query, slot, scratch->row) };
            if ((n < how->k || rv_hit_better(hit, hits[0])) && rv_filter_passes(asked, hit.id)) {
                rv_hits_push(hits, &n, how->k, hit);
            }
        }
        scratch->told.ranked += some;
    }
    rv_hits_sort(hits, n);
    *found = n;
}

/* ---- by codes, in blocks: the best few of all, then ranked ---- */

enum { OFFERED = 64 }; /* rows at a time: those after it have to be as near as the best of them */

typedef struct scan {
    const rv_rows *rows;
    rv_scratch *scratch;
    rv_row_query query;
    const rv_filter *asked; /* NULL, or a function, which is asked about near rows only */
} scan;

static size_t ask_near(const scan *s, uint32_t *slots, float *distances, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (distances[i] <= s->scratch->near.limit && rv_filter_passes(s->asked, s->rows->ids[slots[i]])) {
            slots[kept] = slots[i];
            distances[kept++] = distances[i];
        }
    }
    return kept;
}

/* Those whose distances were just computed. */
static void offer_block(const scan *s, uint32_t *slots, size_t n)
{
    rv_scratch *scratch = s->scratch;
    for (size_t from = 0; from < n; from += OFFERED) {
        float *distances = scratch->distances + from;
        size_t some = n - from < OFFERED ? n - from : OFFERED;
        some = s->asked ? ask_near(s, slots + from, distances, some) : some;
        rv_near_offer(&scratch->near, slots + from, distances, some);
    }
    scratch->told.compared += n;
}

static void scan_passing(const scan *s, const rv_filter *filter)
{
    rv_scratch *scratch = s->scratch;
    passing rest = passing_begin(s->rows, filter, scratch);
    for (size_t n; (n = passing_next(&rest, scratch->slots)) > 0;) {
        rv_rows_distances(s->rows, &s->query, scratch->slots, n, scratch->sums, scratch->distances);
        offer_block(s, scratch->slots, n);
    }
}

static void scan_gathered(const scan *s, const rv_gathered *g)
{
    for (size_t from = 0, n; from < g->n; from += n) {
        n = g->n - from < RV_SCRATCH_BLOCK ? g->n - from : RV_SCRATCH_BLOCK;
        rv_rows_distances_of(s->rows, &s->query, g->codes + from * s->rows->stride, g->scales + from, n,
                             s->scratch->sums, s->scratch->distances);
        offer_block(s, g->slots + from, n);
    }
}

static rv_err gather(rv_index *index, const rv_scratch *scratch, const rv_filter *filter, rv_gathered **out)
{
    const rv_rows *rows = &index->rows;
    rv_gathered *g;
    RV_TRY(rv_gathered_new(index->mem, rows, filter, scratch->passing, &g));
    passing rest = passing_begin(rows, filter, scratch);
    for (size_t n; (n = passing_next(&rest, scratch->slots)) > 0; g->n += n) {
        memcpy(g->slots + g->n, scratch->slots, n * sizeof *g->slots);
        rv_rows_copy(rows, scratch->slots, n, g->codes + g->n * rows->stride, g->scales + g->n);
    }
    rv_err e = rv_pages_state(rows->pages);
    if (e) {
        rv_gathered_give(index->mem, index->gathers, g);
        return e;
    }
    rv_gathered_keep(index->mem, index->gathers, g);
    *out = g;
    return RV_OK;
}

/* What was gathered for this filter, now or before. *out NULL: nothing, its rows are looked up. */
static rv_err gathered_for(rv_index *index, const rv_scratch *scratch, const rv_filter *filter,
                           rv_gathered **out)
{
    bool again;
    *out = NULL;
    if (!filter || !filter->bits || !rv_gathered_fits(&index->rows, scratch->passing)) {
        return RV_OK;
    }
    *out = rv_gathered_take(index->mem, index->gathers, filter, scratch->passing, &again);
    return again && !*out ? gather(index, scratch, filter, out) : RV_OK;
}

static rv_err scan_codes(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                         rv_hit *hits, size_t *found)
{
    const rv_rows *rows = &index->rows;
    size_t keep = how->rerank ? how->rerank : 2 * how->k + 10;
    keep = keep > how->k ? keep : how->k;
    keep = keep < rows->n_live ? keep : rows->n_live;
    scratch->told.way = RV_WAY_SCAN;
    const rv_filter *asked = how->filter && !how->filter->bits ? how->filter : NULL;
    const scan s = { rows, scratch, rv_rows_ask(rows, query, scratch->rotated, scratch->code), asked };
    RV_TRY(rv_near_begin(index, scratch, how->k, keep, how->rerank ? NULL : &s.query));
    rv_gathered *gathered;
    RV_TRY(gathered_for(index, scratch, how->filter, &gathered));
    if (gathered) {
        scan_gathered(&s, gathered);
        rv_gathered_give(index->mem, index->gathers, gathered);
    } else {
        scan_passing(&s, how->filter);
    }
    rv_index_rank(index, scratch, query, how->k, hits, found);
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
