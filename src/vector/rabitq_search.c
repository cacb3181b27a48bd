/* The search. One-bit codes of the rows in the nearest lists give each row a distance and how wrong it may be; rows that may
 * be among the best, and only they, are compared by their int8 codes, or by finer codes that lie in the lists; the best of
 * those by their vectors. Nothing is fixed but the number of lists: how many rows pass on follows from the error bound.
 * Source: Gao and Long 2024, arXiv:2405.12497; differs: the int8 stage, and a query rounded anew for each list. */
#include "vector/rabitq_priv.h"

#include <math.h>
#include <string.h>

enum {
    SCAN_ROWS = 1000,    /* so few are all looked at by their int8 codes */
    SCAN_PASSING = 2000, /* so few that pass a filter, too */
    LOOK_FACTOR = 12,  /* lists looked at for each that is probed, where they are in groups; 6 loses 0.3 % */
    HELD_PER_HIT = 4,  /* the lists probed hold at least so many rows for each that is wanted */
    FILTER_PROBES = 8, /* at most so many times the lists when few rows pass */
    ROUNDED_UP = RABITQ_RUN + RV_ONEBIT_ROWS,
};

/* An estimate is off by more than so many deviations once in 17 times, on either side; the paper's choice. */
static const float ERRORS_WAITED_FOR = 1.9f;

void rabitq_scratch_deinit(rv_index *index, rv_scratch *base)
{
    rabitq_scratch *s = (rabitq_scratch *)base;
    void *all[] = { s->rotated, s->table, s->at, s->low, s->slots, s->lows, s->nears, s->lists };
    for (size_t i = 0; i < RV_COUNT(all); i++) {
        rv_free(index->mem, all[i]);
    }
}

/* What is missing is made; what cannot be made now is missing again at the next search. */
static void *fit(const rabitq *r, void *have, size_t bytes)
{
    return have ? have : rv_new_aligned(r->mem, 64, bytes);
}

static rv_err scratch_fit(const rabitq *r, rabitq_scratch *s)
{
    if (s->lists_room < r->head.n_lists) {
        rv_free(r->mem, s->nears);
        rv_free(r->mem, s->lists);
        s->nears = NULL;
        s->lists = NULL;
        s->lists_room = r->lists_room;
    }
    s->rotated = fit(r, s->rotated, r->dim * sizeof *s->rotated);
    s->table = fit(r, s->table, 4 * r->dim);
    s->at = fit(r, s->at, ROUNDED_UP * sizeof *s->at);
    s->low = fit(r, s->low, ROUNDED_UP * sizeof *s->low);
    s->slots = fit(r, s->slots, ROUNDED_UP * sizeof *s->slots);
    s->lows = fit(r, s->lows, ROUNDED_UP * sizeof *s->lows);
    s->nears = fit(r, s->nears, s->lists_room * sizeof *s->nears);
    s->lists = fit(r, s->lists, s->lists_room * sizeof *s->lists);
    return s->rotated && s->table && s->at && s->low && s->slots && s->lows && s->nears && s->lists
               ? RV_OK
               : rv_fail(RV_E_NOMEM, "no memory to search %zu vectors", r->rows->n_live);
}

typedef struct finder {
    const rabitq *r;
    rabitq_scratch *s;
    rv_row_query query;
    rabitq_fine_query fine;
    float square; /* of the query's length */
    float base;   /* what the list adds to estimates by finer codes */
    const rv_filter *filter;
    size_t waiting;       /* rows in slots and lows */
    size_t asked, passed; /* of a filter that is asked late */
} finder;

static bool passes_early(const finder *f, uint32_t slot)
{
    return !f->filter || !f->filter->bits || rv_filter_passes(f->filter, f->r->rows->ids[slot]);
}

/* ---- second stage: int8 codes of the rows, or finer codes in the lists ---- */

/* What passes a filter that is asked late: about near rows only. */
static size_t pass_late(finder *f, uint32_t *slots, float *distances, size_t n)
{
    if (!f->filter || f->filter->bits) {
        return n;
    }
    const rv_rows *rows = f->r->rows;
    size_t kept = 0;
    n = rows->kernels->below(distances, slots, n, f->s->base.near.limit, distances, slots);
    f->asked += n;
    for (size_t i = 0; i < n; i++) {
        if (rv_filter_passes(f->filter, rows->ids[slots[i]])) {
            slots[kept] = slots[i];
            distances[kept++] = distances[i];
        }
    }
    f->passed += kept;
    return kept;
}

static void compare(finder *f, const uint32_t *rows, size_t n)
{
    const rabitq *r = f->r;
    rv_scratch *s = &f->s->base;
    for (size_t from = 0, some; from < n; from += some) {
        some = n - from < RV_SCRATCH_BLOCK ? n - from : RV_SCRATCH_BLOCK;
        if (r->bits > 1) {
            rabitq_fine_distances(r, &f->fine, f->base, rows + from, some, s->sums, s->distances);
        } else {
            rv_rows_distances(r->rows, &f->query, rows + from, some, s->sums, s->distances);
        }
        for (size_t i = 0; i < some; i++) {
            s->slots[i] = r->bits > 1 ? r->slots[rows[from + i]] : rows[from + i];
        }
        rv_near_offer(&s->near, s->slots, s->distances, pass_late(f, s->slots, s->distances, some));
    }
}

static void compare_waiting(finder *f)
{
    rabitq_scratch *s = f->s;
    const rv_near *near = &s->base.near;
    size_t n = f->waiting, first = 0;
    if (near->limit == INFINITY && n > 2 * near->keep) { /* no limit yet: the most promising make one */
        first = 2 * near->keep;
        rv_smallest_first(f->r->rows->kernels, s->lows, s->slots, n, first);
        compare(f, s->slots, first);
    }
    size_t kept = 0;
    for (size_t i = first; i < n; i++) {
        s->slots[kept] = s->slots[i];
        kept += s->lows[i] < near->limit;
    }
    compare(f, s->slots, kept);
    f->waiting = 0;
}

/* ---- first stage: one-bit codes ---- */

static void scan_list(finder *f, uint32_t list)
{
    const rabitq *r = f->r;
    const rv_kernels *k = r->rows->kernels;
    rabitq_scratch *s = f->s;
    const float own = (float)r->rows->dim, beyond = (float)(r->dim - r->rows->dim);
    rv_onebit_query q = { .table = s->table, .dim = r->dim };
    float distance =
        k->onebit_table(s->rotated, rabitq_centre(r, list), r->dither, r->dim, s->table, &q.step);
    f->base = r->rows->metric == RV_INDEX_IP ? (distance - f->square) / 2 : distance;
    /* in the terms of the second stage's distances, so that one limit serves both */
    q.base = f->base;
    if (r->bits == 1 && r->rows->metric != RV_INDEX_IP) {
        q.base += f->query.base - f->square;
    }
    q.offset =
        q.step * (7.5f * own + 7 * beyond); /* beyond the dimension lies 0, rounded up, with the sign - */
    /* Rounding the query is an error of its own: step^2 / 12 a coordinate, and 1 / (1 - 2 / pi) of it counts. */
    q.spread = ERRORS_WAITED_FOR * sqrtf(distance + q.step * q.step * own * (2.75f / 12));
    for (rabitq_walk walk = rabitq_walk_begin(r, list); walk.n > 0; rabitq_walk_next(r, &walk)) {
        const size_t n_blocks = (walk.n + RV_ONEBIT_ROWS - 1) / RV_ONEBIT_ROWS;
        const uint32_t *slots = r->slots + (size_t)walk.first * RV_ONEBIT_ROWS;
        rv_pages_touch(r->rows->pages, rabitq_block(r, walk.first), n_blocks * RV_ONEBIT_BLOCK_BYTES(r->dim));
        rv_pages_touch(r->rows->pages, slots, walk.n * sizeof *slots);
        size_t n = k->onebit_scan(&q, rabitq_block(r, walk.first), walk.n, s->base.near.limit, s->at, s->low);
        if (f->waiting + n > RABITQ_RUN) {
            compare_waiting(f);
        }
        s->base.told.compared += walk.n;
        for (size_t i = 0; i < n; i++) {
            uint32_t slot = slots[s->at[i]];
            if (slot < r->rows->n && rv_rows_live(r->rows, slot) && passes_early(f, slot)) {
                uint32_t place = walk.first * RV_ONEBIT_ROWS + s->at[i];
                if (r->bits > 1) {
                    rabitq_fetch_fine(r, place);
                } else {
                    rv_rows_fetch_code(r->rows, slot);
                }
                s->slots[f->waiting] = r->bits > 1 ? place : slot;
                s->lows[f->waiting++] = s->low[i];
            }
        }
    }
    compare_waiting(f);
}

/* ---- a search ---- */

static size_t times(size_t all, size_t passing)
{
    size_t n = passing > 0 ? all / passing : FILTER_PROBES;
    return n < 1 ? 1 : n < FILTER_PROBES ? n : FILTER_PROBES;
}

/* The nearest lists; more of them when it turns out that few rows pass the filter, and on while fewer than k were found. */
static void scan_lists(finder *f, const rabitq_look *look, size_t probes, size_t k)
{
    const rabitq *r = f->r;
    rabitq_scratch *s = f->s;
    size_t n = rabitq_look_at(r, look, probes * LOOK_FACTOR, s->nears, s->lists), done = 0, end = 0;
    for (;;) {
        size_t wanted = f->asked > 0 ? probes * times(f->asked, f->passed) : probes;
        wanted = done > 0 && s->base.near.n < k ? n : wanted;
        if (done >= wanted || done == n) {
            break;
        }
        if (done == end) { /* sorted so far; what comes on top doubles that */
            end = done == 0 ? wanted : 2 * done;
            end = end < n ? end : n;
            rv_smallest_first(r->rows->kernels, s->nears + done, s->lists + done, n - done, end - done);
            rv_sort_few(s->nears + done, s->lists + done, end - done);
        }
        scan_list(f, s->lists[done++]);
    }
    if (s->base.near.n >= k || n == r->head.n_lists) {
        return;
    }
    s->base.near.n = 0; /* the groups opened do not hold k rows: all lists, from the beginning */
    s->base.near.limit = INFINITY;
    n = rabitq_look_at(r, look, r->head.n_lists, s->nears, s->lists);
    for (done = 0; done < n; done++) {
        scan_list(f, s->lists[done]);
    }
}

/* Rows that are ranked by their vectors: the fewer bits, the more. Measured: fewer lose recall, more find no more. */
static size_t kept_for(const rabitq *r, size_t k)
{
    static const size_t halves_by_bits[] = { 0, 3, 12, 7, 5, 4, 3, 3, 3 };
    return k * halves_by_bits[r->bits] / 2 + 5;
}

/* Lists to probe, and whether to look at each row that passes instead. */
static bool plan(const rv_index *index, const rv_search *how, size_t passing, size_t *probes)
{
    const size_t live = index->rows.n_live;
    *probes = how->ef ? how->ef : index->config.probes;
    if (how->filter && how->filter->bits) {
        *probes *= times(live, passing);
    }
    const rabitq *r = index->self;
    size_t for_k = HELD_PER_HIT * how->k * r->head.n_lists / live + 1;
    *probes = *probes > for_k ? *probes : for_k;
    return passing > SCAN_PASSING && live > SCAN_ROWS && how->k < live / 4;
}

rv_err rabitq_search(rv_index *index, rv_scratch *base, const float *query, const rv_search *how,
                     rv_hit *hits, size_t *found)
{
    const rabitq *r = index->self;
    const rv_rows *rows = &index->rows;
    rabitq_scratch *s = (rabitq_scratch *)base;
    size_t probes;
    if (!plan(index, how, base->passing, &probes)) {
        return rv_index_scan(index, base, query, how, hits, found);
    }
    size_t keep = how->rerank ? how->rerank : kept_for(r, how->k);
    keep = keep > how->k ? keep : how->k;
    keep = keep < rows->n_live ? keep : rows->n_live;
    RV_TRY(scratch_fit(r, s));
    finder f = { .r = r, .s = s, .filter = how->filter };
    f.query = rv_rows_ask(rows, query, base->rotated, base->code);
    f.fine =
        rabitq_ask_fine(r, f.query.code, rows->metric == RV_INDEX_IP ? -f.query.pull : f.query.pull / -2);
    memcpy(s->rotated, base->rotated, rows->dim * sizeof *s->rotated); /* beyond it zeros stay */
    RV_TRY(rv_near_begin(index, base, how->k, keep, r->bits == 1 && !how->rerank ? &f.query : NULL));
    f.square = rows->kernels->dot_f32(s->rotated, s->rotated, r->dim);
    const rabitq_look look = { s->rotated, &f.query, base->sums };
    scan_lists(&f, &look, probes, how->k);
    rv_index_rank(index, base, query, how->k, hits, found);
    return RV_OK;
}
