/* How rows get into the graph and out of it.
 *
 * Many rows go in by batches. First every row of a batch looks for its neighbours in the graph as it was before the batch, and
 * among the rows of the batch before it; that writes only lists nobody can reach yet. Then the links back are made, each
 * list by one thread, in the order of the batch. So no lists are locked, and the graph does not depend on the number of threads.
 *
 * A row that goes out is replaced at once in the lists of those it led to, which nearly always led back. What else leads to
 * it is found by a sweep through all lists, a little with every change; the slot is free when a whole sweep has passed. */
#include "vector/hnsw_priv.h"

#include <stdatomic.h>
#include <string.h>

enum {
    BATCH_MOST =
        256, /* rows that look at the graph before them, and not past 1/16 of it: no recall is lost by that */
    BATCH_PART = 16,
    SWEEP_ROWS = 64, /* with every change */
    TRIES = 8,       /* substitutes looked at for a link that was lost */
    FEW_LINKS = 4    /* a row that is left with less is put in anew */
};

hnsw_maker *hnsw_maker_new(rv_index *index)
{
    const rv_alloc *mem = index->mem;
    size_t m0 = index->config.m0;
    hnsw_maker *m = rv_new(mem, sizeof *m);
    if (!m) {
        return NULL;
    }
    m->walk = (hnsw_scratch *)rv_scratch_new(index);
    m->codes = rv_new_aligned(mem, RV_ROWS_ALIGN, m0 * index->rows.stride);
    m->kept = rv_new_array(mem, m0, sizeof *m->kept);
    m->near = rv_new_array(mem, m0 + 1, sizeof *m->near);
    m->left = rv_new_array(mem, HNSW_WINDOW, sizeof *m->left);
    m->slots = rv_new_array(mem, HNSW_LINKS_MAX, sizeof *m->slots);
    m->chosen = rv_new_array(mem, (HNSW_LEVELS_MAX + 1) * index->config.m, sizeof *m->chosen);
    if (!m->chosen || !m->walk || !m->codes || !m->kept || !m->near || !m->left || !m->slots) {
        hnsw_maker_free(index, m);
        return NULL;
    }
    return m;
}

void hnsw_maker_free(rv_index *index, hnsw_maker *m)
{
    if (m) {
        rv_scratch_free(index, (rv_scratch *)m->walk);
        rv_free(index->mem, m->codes);
        rv_free(index->mem, m->kept);
        rv_free(index->mem, m->near);
        rv_free(index->mem, m->left);
        rv_free(index->mem, m->slots);
        rv_free(index->mem, m->chosen);
        rv_free(index->mem, m);
    }
}

/* ---- choosing neighbours ---- */

/* Those of left [n] that are nearer to what they are candidates for than to one that was kept. */
static size_t not_behind(const rv_index *index, hnsw_maker *m, const rv_row_query *kept, size_t n)
{
    rv_scratch *b = &m->walk->base;
    for (size_t i = 0; i < n; i++) {
        m->slots[i] = m->left[i].slot;
    }
    rv_rows_distances(&index->rows, kept, m->slots, n, b->sums, b->distances);
    size_t stay = 0;
    for (size_t i = 0; i < n; i++) {
        if (b->distances[i] >= m->left[i].distance) {
            m->left[stay++] = m->left[i];
        }
    }
    return stay;
}

/* Algorithm 4: of the candidates, nearest first, keep each that no kept one is nearer to. The rest of the list stays empty. In
 * windows, because most lists are full long before the last candidate. Rows that are equal are never behind each other; so
 * that many of them do not close themselves off, a quarter of the links may go to such. */
static void choose(const rv_index *index, hnsw_maker *m, const hnsw_near *candidates, size_t n, size_t most,
                   uint32_t *list, size_t room)
{
    size_t n_kept = 0, n_equal = 0, most_equal = most / 4 + 1;
    const bool product = index->rows.metric == RV_INDEX_IP;
    for (size_t from = 0; from < n && n_kept < most; from += HNSW_WINDOW) {
        size_t n_left = n - from < HNSW_WINDOW ? n - from : HNSW_WINDOW;
        memcpy(m->left, candidates + from, n_left * sizeof *candidates);
        for (size_t k = 0; k < n_kept && n_left > 0; k++) {
            n_left = not_behind(index, m, &m->kept[k], n_left);
        }
        while (n_left > 0 && n_kept < most) {
            uint32_t slot = m->left[0].slot;
            bool equal = !product && m->left[0].distance <= 0;
            n_left--;
            memmove(m->left, m->left + 1, n_left * sizeof *m->left);
            if (equal && ++n_equal > most_equal) {
                continue;
            }
            list[n_kept] = slot;
            m->kept[n_kept] = rv_rows_ask_slot(&index->rows, slot, m->codes + n_kept * index->rows.stride);
            n_left = not_behind(index, m, &m->kept[n_kept++], n_left);
        }
    }
    for (size_t i = n_kept; i < room; i++) {
        list[i] = RV_ROWS_NONE;
    }
}

static size_t count_links(const rv_index *index, const uint32_t *list, size_t most)
{
    size_t n = 0;
    while (n < most && list[n] < index->rows.n) {
        n++;
    }
    return n;
}

static bool has_link(const uint32_t *list, size_t n, uint32_t slot)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i] == slot) {
            return true;
        }
    }
    return false;
}

/* Distances of one slot to n others, sorted into m->near. */
static size_t sort_near(const rv_index *index, hnsw_maker *m, uint32_t from, const uint32_t *slots, size_t n)
{
    rv_scratch *b = &m->walk->base;
    rv_row_query query = rv_rows_ask_slot(&index->rows, from, b->code);
    rv_rows_distances(&index->rows, &query, slots, n, b->sums, b->distances);
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && m->near[at - 1].distance > b->distances[i]; at--) {
            m->near[at] = m->near[at - 1];
        }
        m->near[at] = (hnsw_near){ b->distances[i], slots[i] };
    }
    return n;
}

/* A link from slot to another; a full list is chosen anew. */
static void connect(const rv_index *index, hnsw_maker *m, uint32_t slot, size_t level, uint32_t to)
{
    size_t most, n;
    uint32_t *list = hnsw_list(index->self, slot, level, &most);
    n = count_links(index, list, most);
    if (has_link(list, n, to)) {
        return;
    }
    if (n < most) {
        list[n] = to;
        return;
    }
    uint32_t all[HNSW_LINKS_MAX + 1];
    size_t n_all = 0;
    for (size_t i = 0; i < n; i++) {
        if (rv_rows_live(&index->rows, list[i])) {
            rv_rows_fetch_code(&index->rows, list[i]);
            all[n_all++] = list[i];
        }
    }
    all[n_all++] = to;
    sort_near(index, m, slot, all, n_all);
    choose(index, m, m->near, n_all, most, list, most);
}

/* ---- in ---- */

typedef struct making {
    rv_index *index;
    hnsw_maker *const *makers; /* [threads] */
    const uint32_t *slots;     /* [n] the batch */
    size_t n;
    uint32_t
        *chosen; /* [n][HNSW_LEVELS_MAX + 1][m] their neighbours; the lists grow while links back are made */
    size_t top;  /* layers of the graph before the batch */
    bool empty;  /* no graph yet */
    atomic_size_t next;
} making;

static uint32_t *chosen_of(const making *mk, size_t at, size_t level)
{
    return mk->chosen + (at * (HNSW_LEVELS_MAX + 1) + level) * mk->index->config.m;
}

/* Rows of the batch before this one, which the graph does not know yet. */
static void look_beside(const making *mk, hnsw_maker *m, const rv_row_query *query, size_t before,
                        size_t level)
{
    const rv_index *index = mk->index;
    hnsw_scratch *s = m->walk;
    size_t n = 0;
    for (size_t i = 0; i < before; i++) {
        if (hnsw_levels(index->self, mk->slots[i]) >= level) {
            s->base.slots[n++] = mk->slots[i];
        }
    }
    rv_rows_distances(&index->rows, query, s->base.slots, n, s->base.sums, s->base.distances);
    for (size_t i = 0; i < n; i++) {
        hnsw_pool_put(s, index->config.ef_build, (hnsw_near){ s->base.distances[i], s->base.slots[i] });
    }
}

static void find_neighbours(const making *mk, hnsw_maker *m, size_t at)
{
    rv_index *index = mk->index;
    hnsw *h = index->self;
    hnsw_scratch *s = m->walk;
    uint32_t slot = mk->slots[at];
    rv_row_query query = rv_rows_ask_slot(&index->rows, slot, s->base.code);
    size_t levels = hnsw_levels(h, slot), begin = levels < mk->top ? levels : mk->top;
    hnsw_near from = { 0, slot };
    if (!mk->empty) {
        from = hnsw_descend(index, s, &query, begin);
    }
    for (size_t level = levels + 1; level-- > 0;) {
        s->n_pool = 0;
        if (!mk->empty && level <= begin) {
            hnsw_walk(index, s, &query, from, level, index->config.ef_build);
            from = s->pool[0];
        }
        look_beside(mk, m, &query, at, level);
        size_t n = 0;
        for (size_t i = 0; i < s->n_pool; i++) { /* itself, when it is put in anew */
            if (s->pool[i].slot != slot) {
                s->pool[n++] = s->pool[i];
            }
        }
        size_t most;
        uint32_t *list = hnsw_list(h, slot, level, &most);
        choose(index, m, s->pool, n, h->m, list, most);
        memcpy(chosen_of(mk, at, level), list, h->m * sizeof *list);
    }
}

static void find_all(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    making *mk = arg;
    for (size_t at; (at = atomic_fetch_add(&mk->next, 1)) < mk->n;) {
        find_neighbours(mk, mk->makers[thread], at);
    }
}

/* The links back that fall to this thread. */
static void link_back(void *arg, int thread, int n_threads)
{
    making *mk = arg;
    const hnsw *h = mk->index->self;
    for (size_t at = 0; at < mk->n; at++) {
        uint32_t slot = mk->slots[at];
        for (size_t level = 0; level <= hnsw_levels(h, slot); level++) {
            const uint32_t *list = chosen_of(mk, at, level);
            for (size_t i = 0; i < h->m && list[i] < mk->index->rows.n; i++) {
                if (list[i] % (uint32_t)n_threads == (uint32_t)thread) {
                    connect(mk->index, mk->makers[thread], list[i], level, slot);
                }
            }
        }
    }
}

static void link_batch(rv_index *index, rv_pool *pool, hnsw_maker *const *makers, uint32_t *chosen,
                       const uint32_t *slots, size_t n)
{
    hnsw *h = index->self;
    making mk = { .index = index,
                  .makers = makers,
                  .slots = slots,
                  .n = n,
                  .chosen = chosen,
                  .empty = h->entry == RV_ROWS_NONE };
    mk.top = mk.empty ? 0 : hnsw_levels(h, h->entry);
    rv_pool_run(pool, find_all, &mk);
    rv_pool_run(pool, link_back, &mk);
    for (size_t i = 0; i < n; i++) {
        if (h->entry == RV_ROWS_NONE || hnsw_levels(h, slots[i]) > hnsw_levels(h, h->entry)) {
            h->entry = slots[i];
        }
    }
}

void hnsw_link(rv_index *index, uint32_t slot)
{
    hnsw *h = index->self;
    link_batch(index, NULL, &h->maker, h->maker->chosen, &slot, 1);
    hnsw_sweep(index, SWEEP_ROWS);
}

rv_err hnsw_build(rv_index *index, rv_pool *pool, const uint32_t *slots, size_t n,
                  rv_index_progress *progress, void *self)
{
    size_t threads = (size_t)rv_pool_threads(pool), before = index->rows.n_live - n;
    hnsw_maker **makers = rv_new_array(index->mem, threads, sizeof *makers);
    uint32_t *chosen =
        rv_new_array(index->mem, BATCH_MOST * (HNSW_LEVELS_MAX + 1), index->config.m * sizeof *chosen);
    rv_err e = makers && chosen ? RV_OK : rv_fail(RV_E_NOMEM, "no memory to build an index");
    for (size_t i = 0; !e && i < threads; i++) {
        makers[i] = hnsw_maker_new(index);
        e = makers[i] ? hnsw_ready(index, makers[i]->walk, index->config.ef_build)
                      : rv_fail(RV_E_NOMEM, "no memory to build an index");
    }
    for (size_t at = 0; !e && at < n;) {
        size_t batch = (before + at) / BATCH_PART;
        batch = batch < 1 ? 1 : batch > BATCH_MOST ? BATCH_MOST : batch;
        batch = batch < n - at ? batch : n - at;
        link_batch(index, pool, makers, chosen, slots + at, batch);
        at += batch;
        if (progress && !progress(self, at)) {
            e = rv_fail(RV_E_CANCELLED, "building the index was cancelled");
        }
    }
    for (size_t i = 0; makers && i < threads; i++) {
        hnsw_maker_free(index, makers[i]);
    }
    rv_free(index->mem, makers);
    rv_free(index->mem, chosen);
    return e;
}

/* ---- out ---- */

/* slot has lost a link to one of around: the nearest of them that nothing in its list is nearer to takes the place, or
 * just the nearest. */
static void replace_link(const rv_index *index, hnsw_maker *m, uint32_t slot, size_t level, uint32_t gone,
                         const uint32_t *around, size_t n_around)
{
    size_t most, n, place = 0;
    uint32_t *list = hnsw_list(index->self, slot, level, &most);
    n = count_links(index, list, most);
    while (place < n && list[place] != gone) {
        place++;
    }
    if (place == n) {
        return;
    }
    memmove(list + place, list + place + 1, (n - place - 1) * sizeof *list);
    list[--n] = RV_ROWS_NONE;

    uint32_t others[HNSW_LINKS_MAX];
    size_t n_others = 0;
    for (size_t i = 0; i < n_around; i++) {
        if (around[i] != slot && !has_link(list, n, around[i])) {
            others[n_others++] = around[i];
        }
    }
    sort_near(index, m, slot, others, n_others);
    rv_scratch *b = &m->walk->base;
    for (size_t i = 0; i < n_others && i < TRIES; i++) {
        rv_row_query query = rv_rows_ask_slot(&index->rows, m->near[i].slot, b->code);
        rv_rows_distances(&index->rows, &query, list, n, b->sums, b->distances);
        size_t nearer = 0;
        while (nearer < n && b->distances[nearer] >= m->near[i].distance) {
            nearer++;
        }
        if (nearer == n) {
            list[n] = m->near[i].slot;
            return;
        }
    }
    if (n_others > 0) {
        list[n] = m->near[0].slot;
    }
}

static void unlink_slot(rv_index *index, uint32_t slot)
{
    hnsw *h = index->self;
    for (size_t level = 0; level <= hnsw_levels(h, slot); level++) {
        size_t most, n, n_around = 0;
        uint32_t around[HNSW_LINKS_MAX], *list = hnsw_list(h, slot, level, &most);
        n = count_links(index, list, most);
        for (size_t i = 0; i < n; i++) {
            if (rv_rows_live(&index->rows, list[i]) && hnsw_levels(h, list[i]) >= level) {
                around[n_around++] = list[i];
            }
        }
        memset(list, 0xff, most * sizeof *list);
        for (size_t i = 0; i < n_around; i++) {
            replace_link(index, h->maker, around[i], level, slot, around, n_around);
        }
    }
}

static void choose_entry(rv_index *index, uint32_t but)
{
    hnsw *h = index->self;
    h->entry = RV_ROWS_NONE;
    for (uint32_t slot = 0; slot < index->rows.n; slot++) {
        if (slot != but && rv_rows_live(&index->rows, slot) &&
            (h->entry == RV_ROWS_NONE || hnsw_levels(h, slot) > hnsw_levels(h, h->entry))) {
            h->entry = slot;
        }
    }
}

void hnsw_find_entry(rv_index *index)
{
    const hnsw *h = index->self;
    if (h->entry != RV_ROWS_NONE && !rv_rows_live(&index->rows, h->entry)) {
        choose_entry(index, RV_ROWS_NONE);
    }
}

void hnsw_unlink(rv_index *index, const uint32_t *slots, size_t n)
{
    hnsw *h = index->self;
    for (size_t i = 0; i < n; i++) {
        unlink_slot(index, slots[i]);
        h->dead[h->n_dead++] = slots[i];
    }
    hnsw_find_entry(index);
    hnsw_sweep(index, n * SWEEP_ROWS);
}

/* Take links to dead slots out of all lists of a slot; how many links are left on layer 0. */
static size_t clean(rv_index *index, uint32_t slot)
{
    hnsw *h = index->self;
    size_t left = 0;
    for (size_t level = hnsw_levels(h, slot) + 1; level-- > 0;) {
        size_t most, n;
        uint32_t *list = hnsw_list(h, slot, level, &most);
        n = count_links(index, list, most);
        left = 0;
        for (size_t i = 0; i < n; i++) {
            if (rv_rows_live(&index->rows, list[i]) && hnsw_levels(h, list[i]) >= level) {
                list[left++] = list[i];
            }
        }
        memset(list + left, 0xff, (n - left) * sizeof *list);
    }
    return left;
}

/* A walk for its neighbours that begins elsewhere. */
static void put_anew(rv_index *index, uint32_t slot)
{
    hnsw *h = index->self;
    if (h->entry == slot) {
        choose_entry(index, slot);
    }
    link_batch(index, NULL, &h->maker, h->maker->chosen, &slot, 1);
}

bool hnsw_sweep(rv_index *index, size_t n)
{
    hnsw *h = index->self;
    for (; n > 0 && h->n_dead > 0; n--) {
        if (h->cursor == 0) {
            h->n_swept = h->n_dead;
        }
        if (h->cursor < index->rows.n) {
            uint32_t slot = (uint32_t)h->cursor++;
            if (rv_rows_live(&index->rows, slot) && clean(index, slot) < FEW_LINKS) {
                put_anew(index, slot);
            }
            continue;
        }
        for (size_t i = 0; i < h->n_swept; i++) {
            rv_rows_recycle(&index->rows, h->dead[i]);
        }
        h->n_dead -= h->n_swept;
        memmove(h->dead, h->dead + h->n_swept, h->n_dead * sizeof *h->dead);
        h->cursor = 0;
    }
    return h->n_dead > 0;
}
