/* What all kinds of index share: the table of kinds, checking of arguments, rows by id, scratch. */
#include "vector/index_priv.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

static const rv_index_ops *const kinds[] = { &rv_flat_ops, &rv_hnsw_ops, &rv_rabitq_ops, &rv_pq_ops };

/* ---- scratch: as many as there ever were searches together ---- */

struct rv_scratch_pool {
    pthread_mutex_t lock;
    rv_scratch *idle;
};

void rv_scratch_free(rv_index *index, rv_scratch *s)
{
    if (!s) {
        return;
    }
    if (index->ops->scratch_deinit) {
        index->ops->scratch_deinit(index, s);
    }
    rv_free(index->mem, s->rotated);
    rv_free(index->mem, s->near.distances);
    rv_free(index->mem, s->near.slots);
    rv_free(index->mem, s);
}

/* rotated, row, code, distances, sums and slots in one block */
rv_scratch *rv_scratch_new(rv_index *index)
{
    size_t dim = (index->config.dim + 15) / 16 * 16, block = RV_SCRATCH_BLOCK;
    rv_scratch *s = rv_new(index->mem, index->ops->scratch_bytes);
    float *at = rv_new_aligned(index->mem, RV_ROWS_ALIGN, 8 * dim + 12 * block + index->rows.stride);
    if (!s || !at) {
        rv_free(index->mem, s);
        rv_free(index->mem, at);
        return NULL;
    }
    s->rotated = at;
    s->row = at + dim;
    s->distances = at + 2 * dim;
    s->sums = (int32_t *)(void *)(s->distances + block);
    s->slots = (uint32_t *)(void *)(s->sums + block);
    s->code = (int8_t *)(s->slots + block);
    return s;
}

static rv_scratch *take_scratch(rv_index *index)
{
    pthread_mutex_lock(&index->scratch->lock);
    rv_scratch *s = index->scratch->idle;
    if (s) {
        index->scratch->idle = s->next;
    }
    pthread_mutex_unlock(&index->scratch->lock);
    return s ? s : rv_scratch_new(index);
}

static void give_scratch(rv_index *index, rv_scratch *s)
{
    pthread_mutex_lock(&index->scratch->lock);
    s->next = index->scratch->idle;
    index->scratch->idle = s;
    pthread_mutex_unlock(&index->scratch->lock);
}

/* ---- new and free ---- */

static const rv_index_ops *find_kind(const char *kind)
{
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        if (kind && strcmp(kinds[i]->kind, kind) == 0) {
            return kinds[i];
        }
    }
    return NULL;
}

static rv_err no_kind(const char *kind)
{
    char names[128] = "";
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        strncat(names, i ? ", " : "", sizeof names - strlen(names) - 1);
        strncat(names, kinds[i]->kind, sizeof names - strlen(names) - 1);
    }
    return rv_fail(RV_E_NOT_FOUND, "there is no index \"%s\"; there are: %s", kind ? kind : "", names);
}

static rv_err configure(const rv_index_ops *ops, rv_index_config *config)
{
    if (config->dim < 1 || config->dim > RV_INDEX_DIM_MAX) {
        return rv_fail(RV_E_ARG, "index: %zu dimensions, expected 1 .. %d", config->dim, RV_INDEX_DIM_MAX);
    }
    if ((unsigned)config->metric >= RV_INDEX_METRICS || (unsigned)config->keep >= RV_KEEPS) {
        return rv_fail(RV_E_ARG, "index: metric %d, rows kept as %d", (int)config->metric, (int)config->keep);
    }
    if ((unsigned)config->rotation >= RV_ROTATION_KINDS ||
        (config->rotation == RV_ROTATION_HAAR && config->dim > RV_INDEX_HAAR_DIM_MAX)) {
        return rv_fail(RV_E_ARG, "index: rotation %d of %zu dimensions; haar has at most %d",
                       (int)config->rotation, config->dim, RV_INDEX_HAAR_DIM_MAX);
    }
    config->kind = ops->kind;
    return ops->configure ? ops->configure(config) : RV_OK;
}

/* All but the kind's own part. */
rv_err rv_index_make(const rv_alloc *mem, const rv_index_config *config, rv_index **out)
{
    const rv_index_ops *ops = find_kind(config->kind);
    if (!ops) {
        return no_kind(config->kind);
    }
    rv_index_config full = *config;
    RV_TRY(configure(ops, &full));
    rv_index *index = rv_new(mem, sizeof *index);
    rv_scratch_pool *scratch = index ? rv_new(mem, sizeof *scratch) : NULL;
    float *row = scratch ? rv_new_array(mem, full.dim, sizeof *row) : NULL;
    rv_gathers *gathers = row ? rv_gathers_new(mem) : NULL;
    if (!gathers) {
        rv_free(mem, index);
        rv_free(mem, scratch);
        rv_free(mem, row);
        return rv_fail(RV_E_NOMEM, "no memory for an index");
    }
    pthread_mutex_init(&scratch->lock, NULL);
    *index = (rv_index){
        .ops = ops, .mem = mem, .config = full, .scratch = scratch, .gathers = gathers, .row = row
    };
    rv_rows_init(&index->rows, mem, &full, ops->coded);
    *out = index;
    return RV_OK;
}

rv_err rv_index_new(const rv_alloc *mem, const rv_index_config *config, rv_index **out)
{
    rv_index *index;
    RV_TRY(rv_index_make(mem, config, &index));
    rv_err e = rv_rows_rotate(&index->rows, config->rotation, config->seed, NULL);
    e = e ? e : index->ops->open(index, NULL);
    if (e) {
        rv_index_free(index);
        return e;
    }
    *out = index;
    return RV_OK;
}

void rv_index_free(rv_index *index)
{
    if (!index) {
        return;
    }
    for (rv_scratch *s = index->scratch->idle, *next; s; s = next) {
        next = s->next;
        rv_scratch_free(index, s);
    }
    if (index->ops->close) {
        index->ops->close(index);
    }
    rv_gathers_free(index->mem, index->gathers);
    pthread_mutex_destroy(&index->scratch->lock);
    rv_pages_free(index->rows.pages);
    rv_rows_deinit(&index->rows);
    rv_free(index->mem, index->scratch);
    rv_free(index->mem, index->row);
    rv_free(index->mem, index);
}

/* ---- rows by id ---- */

size_t rv_index_count(const rv_index *index)
{
    return index->rows.n_live;
}

const rv_index_config *rv_index_get_config(const rv_index *index)
{
    return &index->config;
}

bool rv_index_has(const rv_index *index, int64_t id)
{
    return rv_rows_find(&index->rows, id) != RV_ROWS_NONE;
}

rv_err rv_index_reserve(rv_index *index, size_t n)
{
    bool was_mapped = index->rows.mapped;
    RV_TRY(
        rv_pages_check(index->rows.pages)); /* a search can do without an answer, a change cannot be undone */
    RV_TRY(rv_rows_reserve(&index->rows, n));
    RV_TRY(index->ops->reserve(index, n, was_mapped));
    rv_pages_free(index->rows.pages);
    index->rows.pages = NULL;
    return RV_OK;
}

void rv_index_add(rv_index *index, int64_t id, const float *row)
{
    uint32_t slot = rv_rows_place(&index->rows, id);
    rv_gathers_forget(index->mem, index->gathers);
    rv_rows_fill(&index->rows, slot, row, index->row);
    index->ops->add(index, slot);
}

/* ---- many rows ---- */

typedef struct filling {
    rv_index *index;
    const uint32_t *slots;
    const float *const *rows;
    float *scratch; /* [threads][dim] */
    size_t n;
} filling;

static void fill_part(void *arg, int thread, int n_threads)
{
    filling *f = arg;
    size_t from, to;
    rv_pool_split(f->n, 1, thread, n_threads, &from, &to);
    for (size_t i = from; i < to; i++) {
        rv_rows_fill(&f->index->rows, f->slots[i], f->rows[i],
                     f->scratch + (size_t)thread * f->index->config.dim);
    }
}

static rv_err add_each(rv_index *index, const uint32_t *slots, size_t n, rv_index_progress *progress,
                       void *self)
{
    for (size_t i = 0; i < n; i++) {
        index->ops->add(index, slots[i]);
        if (progress && (i + 1) % 1024 == 0) {
            progress(self, i + 1); /* too late to stop */
        }
    }
    return RV_OK;
}

rv_err rv_index_build(rv_index *index, rv_pool *pool, const int64_t *ids, const float *const *rows, size_t n,
                      rv_index_progress *progress, void *self)
{
    RV_TRY(rv_index_reserve(index, n));
    rv_gathers_forget(index->mem, index->gathers);
    uint32_t *slots = rv_new_array(index->mem, n, sizeof *slots);
    float *scratch =
        rv_new_array(index->mem, index->config.dim, (size_t)rv_pool_threads(pool) * sizeof *scratch);
    if (!slots || !scratch) {
        rv_free(index->mem, slots);
        rv_free(index->mem, scratch);
        return rv_fail(RV_E_NOMEM, "no memory to add %zu vectors", n);
    }
    for (size_t i = 0; i < n; i++) {
        slots[i] = rv_rows_place(&index->rows, ids[i]);
    }
    filling f = { index, slots, rows, scratch, n };
    rv_pool_run(pool, fill_part, &f);
    rv_err e = index->ops->build ? index->ops->build(index, pool, slots, n, progress, self)
                                 : add_each(index, slots, n, progress, self);
    if (e) {
        for (size_t i = 0; i < n; i++) {
            rv_rows_drop(&index->rows, slots[i]);
        }
        index->ops->remove(index, slots, n);
    }
    rv_free(index->mem, slots);
    rv_free(index->mem, scratch);
    return e;
}

size_t rv_index_remove(rv_index *index, const int64_t *ids, size_t n)
{
    enum { TOGETHER = 256 };
    uint32_t slots[TOGETHER];
    size_t before = index->rows.n_live;
    rv_gathers_forget(index->mem, index->gathers);
    for (size_t i = 0; i < n;) {
        size_t n_slots = 0;
        for (; i < n && n_slots < TOGETHER; i++) {
            uint32_t slot = rv_rows_find(&index->rows, ids[i]);
            if (slot != RV_ROWS_NONE) {
                rv_rows_drop(&index->rows, slot);
                slots[n_slots++] = slot;
            }
        }
        index->ops->remove(index, slots, n_slots);
    }
    return before - index->rows.n_live;
}

bool rv_index_repair(rv_index *index, size_t n_rows)
{
    return index->ops->repair && index->ops->repair(index, n_rows);
}

/* ---- questions ---- */

rv_err rv_index_search(rv_index *index, const float *query, const rv_search *how, rv_hit *hits, size_t *found)
{
    if (how->k > RV_INDEX_K_MAX) {
        return rv_fail(RV_E_ARG, "search: the %zu nearest, at most %d", how->k, RV_INDEX_K_MAX);
    }
    if ((unsigned)how->way >= RV_WAYS) {
        return rv_fail(RV_E_ARG, "search: way %d, expected 0 .. %d", (int)how->way, RV_WAYS - 1);
    }
    if (how->k == 0 || index->rows.n_live == 0) {
        if (how->told) {
            *how->told = (rv_told){ .way = how->way };
        }
        *found = 0;
        return RV_OK;
    }
    rv_scratch *scratch = take_scratch(index);
    if (!scratch) {
        return rv_fail(RV_E_NOMEM, "no memory to search %zu vectors", index->rows.n_live);
    }
    scratch->told = (rv_told){ .way = RV_WAY_INDEX };
    scratch->passing =
        how->filter && how->filter->bits ? rv_filter_count(&index->rows, how->filter) : index->rows.n_live;
    rv_err e = RV_OK;
    size_t n = 0;
    switch (how->way) {
    case RV_WAY_EXACT: rv_index_scan_vectors(index, scratch, query, how, hits, &n); break;
    case RV_WAY_SCAN: e = rv_index_scan(index, scratch, query, how, hits, &n); break;
    default: e = index->ops->search(index, scratch, query, how, hits, &n);
    }
    e = e ? e : rv_pages_state(index->rows.pages);
    if (!e) {
        *found = n;
    }
    if (how->told && !e) {
        *how->told = scratch->told;
    }
    give_scratch(index, scratch);
    return e;
}

bool rv_index_score(const rv_index *index, const float *query, int64_t id, float *out)
{
    uint32_t slot = rv_rows_find(&index->rows, id);
    if (slot == RV_ROWS_NONE) {
        return false;
    }
    float row[RV_INDEX_DIM_MAX];
    *out = rv_rows_score(&index->rows, query, slot, row);
    return rv_pages_state(index->rows.pages) == RV_OK;
}

rv_index_size rv_index_bytes(const rv_index *index)
{
    const rv_rows *r = &index->rows;
    size_t each_kept = r->keep == RV_KEEP_F32 ? 4 * r->dim : r->keep == RV_KEEP_BF16 ? 2 * r->dim : 0;
    size_t hot = r->n * (r->stride + (r->stride ? sizeof *r->scales : 0) + sizeof *r->ids) + (r->n + 7) / 8 +
                 r->map_size * sizeof *r->map + (each_kept ? 0 : r->n * sizeof *r->lent);
    rv_index_size size = { hot, r->n * each_kept };
    if (index->ops->bytes) {
        index->ops->bytes(index, &size);
    }
    return size;
}

/* Vectors are finite, and where the metric says so of length 1 or 0. */
static rv_err check_lengths(const rv_index *index)
{
    float *scratch = rv_new_array(index->mem, index->config.dim, sizeof *scratch);
    rv_err e = scratch ? RV_OK : rv_fail(RV_E_NOMEM, "no memory to check an index");
    for (uint32_t slot = 0; !e && slot < index->rows.n; slot++) {
        if (!rv_rows_live(&index->rows, slot)) {
            continue;
        }
        const float *row = rv_rows_get(&index->rows, slot, scratch);
        double length = 0;
        for (size_t d = 0; d < index->config.dim; d++) {
            length += (double)row[d] * (double)row[d];
        }
        bool unit = index->config.metric == RV_INDEX_COS;
        if (!isfinite(length) || (unit && length != 0 && !(fabs(length - 1) <= 1e-2))) {
            e = rv_fail(RV_E_CORRUPT, "index: the vector of %lld has length %g%s",
                        (long long)index->rows.ids[slot], sqrt(length), unit ? ", expected 1 or 0" : "");
        }
    }
    rv_free(index->mem, scratch);
    return e;
}

rv_err rv_index_check_pages(const rv_index *index)
{
    return rv_pages_check(index->rows.pages);
}

rv_err rv_index_check(const rv_index *index)
{
    RV_TRY(rv_index_check_pages(index));
    RV_TRY(rv_rows_check(&index->rows));
    RV_TRY(check_lengths(index));
    return index->ops->check ? index->ops->check(index) : RV_OK;
}
