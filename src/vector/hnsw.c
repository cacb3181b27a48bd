/* Search by walking a graph of neighbours. Distances are those of int8 codes; a few best are ranked by the vectors themselves.
 * Source: Malkov and Yashunin 2018, arXiv:1603.09320, algorithms 2 and 5; differs: one sorted pool instead of two heaps, and
 * removed rows are taken out of the graph. */
#include "vector/hnsw_priv.h"

#include <math.h>
#include <string.h>

enum {
    TAG_LINKS = 100,
    TAG_UPPER,
    TAG_ENTRY,
    DEFAULT_M = 32,
    DEFAULT_EF_BUILD = 200,
    DEFAULT_EF = 64,
    EF_MAX = 1 << 20
};

static rv_err configure(rv_index_config *c)
{
    c->m = c->m ? c->m : DEFAULT_M;
    c->m0 = c->m0 ? c->m0 : 2 * c->m;
    c->ef_build = c->ef_build ? c->ef_build : DEFAULT_EF_BUILD;
    c->ef = c->ef ? c->ef : DEFAULT_EF;
    if (c->m < 2 || c->m > HNSW_LINKS_MAX / 2 || c->m0 < c->m || c->m0 > HNSW_LINKS_MAX) {
        return rv_fail(RV_E_ARG, "hnsw: M %zu and M0 %zu, expected 2 .. %d and M .. %d", c->m, c->m0,
                       HNSW_LINKS_MAX / 2, HNSW_LINKS_MAX);
    }
    if (c->ef_build > EF_MAX || c->ef > EF_MAX) {
        return rv_fail(RV_E_ARG, "hnsw: ef %zu and %zu, at most %d", c->ef_build, c->ef, EF_MAX);
    }
    return RV_OK;
}

/* ---- slots ---- */

/* splitmix64 of the slot: the number of layers falls by 1/m a layer. */
static size_t levels_of(uint64_t seed, uint32_t slot, size_t m)
{
    uint64_t x = seed + ((uint64_t)slot + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    size_t level = 0;
    for (uint64_t below = UINT64_MAX / m; x < below && level < HNSW_LEVELS_MAX; below /= m) {
        level++;
    }
    return level;
}

/* upper_at for slots up to n, for which there is room. */
static void know_slots(rv_index *index, size_t n)
{
    hnsw *h = index->self;
    for (; h->n_slots < n; h->n_slots++) {
        uint32_t slot = (uint32_t)h->n_slots;
        h->upper_at[slot + 1] = h->upper_at[slot] + (uint32_t)levels_of(index->config.seed, slot, h->m);
    }
}

static rv_err fail_room(size_t n)
{
    return rv_fail(RV_E_NOMEM, "no memory for a graph of %zu vectors", n);
}

/* Makes upper_at and dead large enough. */
static rv_err reserve_slots(rv_index *index, size_t room)
{
    hnsw *h = index->self;
    if (h->upper_at && room <= h->room) {
        return RV_OK;
    }
    uint32_t *upper_at = rv_resize(index->mem, h->upper_at, (room + 1) * sizeof *upper_at);
    h->upper_at = upper_at ? upper_at : h->upper_at;
    uint32_t *dead = upper_at ? rv_resize(index->mem, h->dead, (room + 1) * sizeof *dead) : NULL;
    h->dead = dead ? dead : h->dead;
    if (!dead) {
        return fail_room(room);
    }
    if (h->n_slots == 0) {
        h->upper_at[0] = 0;
    }
    return RV_OK;
}

static rv_err reserve_links(rv_index *index, size_t room)
{
    hnsw *h = index->self;
    size_t n = h->n_slots, used = h->upper_at[n], upper_room = used;
    for (size_t slot = n; slot < room; slot++) {
        upper_room += levels_of(index->config.seed, (uint32_t)slot, h->m);
    }
    uint32_t *upper = rv_big_grow(index->mem, h->upper, true, used * h->m * 4, upper_room * h->m * 4);
    uint32_t *links = upper ? rv_big_grow(index->mem, h->links, true, n * h->m0 * 4, room * h->m0 * 4) : NULL;
    if (!links) {
        rv_free(index->mem, upper);
        return fail_room(room);
    }
    memset(upper + used * h->m, 0xff, (upper_room - used) * h->m * 4); /* no links */
    memset(links + n * h->m0, 0xff, (room - n) * h->m0 * 4);
    if (!h->mapped) {
        rv_free(index->mem, h->upper);
        rv_free(index->mem, h->links);
    }
    h->upper = upper;
    h->links = links;
    h->upper_room = upper_room;
    h->mapped = false;
    return RV_OK;
}

static rv_err reserve(rv_index *index, size_t n, bool was_mapped)
{
    (void)n;          /* the rows have made their room already, */
    (void)was_mapped; /* and may have done so in a call that failed here */
    hnsw *h = index->self;
    size_t room = index->rows.room;
    bool first = h->mapped;
    h->maker = h->maker ? h->maker : hnsw_maker_new(index);
    if (!h->maker) {
        return fail_room(room);
    }
    RV_TRY(hnsw_ready(index, h->maker->walk, index->config.ef_build));
    if (room > h->room || h->mapped) {
        RV_TRY(reserve_slots(index, room));
        RV_TRY(reserve_links(index, room));
        know_slots(index, room);
        h->room = room;
    }
    for (uint32_t slot = 0; first && slot < index->rows.n; slot++) {
        if (!rv_rows_live(&index->rows, slot)) {
            h->dead[h->n_dead++] = slot;
        }
    }
    if (first) {
        hnsw_find_entry(index); /* the file's may be damaged */
    }
    return RV_OK;
}

static void close_hnsw(rv_index *index)
{
    hnsw *h = index->self;
    if (!h) {
        return;
    }
    if (!h->mapped) {
        rv_free(index->mem, h->links);
        rv_free(index->mem, h->upper);
    }
    rv_free(index->mem, h->upper_at);
    rv_free(index->mem, h->dead);
    hnsw_maker_free(index, h->maker);
    rv_free(index->mem, h);
}

static rv_err open_hnsw(rv_index *index, const rv_sections *file)
{
    hnsw *h = rv_new(index->mem, sizeof *h);
    if (!h) {
        return rv_fail(RV_E_NOMEM, "no memory for an index");
    }
    *h = (hnsw){ .m = index->config.m, .m0 = index->config.m0, .entry = RV_ROWS_NONE };
    index->self = h;
    if (!file) {
        return RV_OK;
    }
    size_t n = index->rows.n;
    RV_TRY(reserve_slots(index, n));
    know_slots(index, n);
    h->room = n;
    h->upper_room = h->upper_at[n];
    const void *links, *upper, *entry;
    RV_TRY(rv_sections_map(file, TAG_LINKS, n * h->m0 * 4, &links));
    RV_TRY(rv_sections_map(file, TAG_UPPER, h->upper_room * h->m * 4, &upper));
    RV_TRY(rv_sections_get(file, TAG_ENTRY, 4, &entry));
    h->mapped = true;
    h->links = (uint32_t *)(uintptr_t)links; /* not written while mapped */
    h->upper = (uint32_t *)(uintptr_t)upper;
    memcpy(&h->entry, entry, 4);
    if (h->entry >= n && (h->entry != RV_ROWS_NONE || index->rows.n_live > 0)) {
        return rv_fail(RV_E_CORRUPT, "index file: walks begin at slot %u of %zu", h->entry, n);
    }
    return RV_OK;
}

static void sections(const rv_index *index, rv_sections *out)
{
    const hnsw *h = index->self;
    size_t n = index->rows.n;
    rv_sections_put(out, TAG_LINKS, h->links, n * h->m0 * 4);
    rv_sections_put(out, TAG_UPPER, h->upper, n ? h->upper_at[n] * h->m * 4 : 0);
    rv_sections_put(out, TAG_ENTRY, &h->entry, 4);
}

static void bytes(const rv_index *index, rv_index_size *size)
{
    const hnsw *h = index->self;
    size_t n = index->rows.n;
    size->hot += n ? n * h->m0 * 4 + h->upper_at[n] * h->m * 4 + n * 8 : 0;
}

/* ---- walks ---- */

rv_err hnsw_ready(rv_index *index, hnsw_scratch *s, size_t ef)
{
    if (ef > s->pool_room) {
        hnsw_near *pool = rv_resize(index->mem, s->pool, ef * sizeof *pool);
        if (!pool) {
            return rv_fail(RV_E_NOMEM, "no memory for a search of breadth %zu", ef);
        }
        s->pool = pool;
        s->pool_room = ef;
    }
    if (index->rows.room > s->seen_room) {
        uint8_t *seen = rv_big_grow(index->mem, s->seen, false, s->seen_room, index->rows.room);
        if (!seen) {
            return rv_fail(RV_E_NOMEM, "no memory for a search among %zu vectors", index->rows.room);
        }
        memset(seen + s->seen_room, 0, index->rows.room - s->seen_room);
        s->seen = seen;
        s->seen_room = index->rows.room;
    }
    return RV_OK;
}

static void scratch_deinit(rv_index *index, rv_scratch *scratch)
{
    hnsw_scratch *s = (hnsw_scratch *)scratch;
    rv_free(index->mem, s->pool);
    rv_free(index->mem, s->seen);
}

hnsw_near hnsw_descend(const rv_index *index, hnsw_scratch *s, const rv_row_query *query, size_t level)
{
    const hnsw *h = index->self;
    const rv_rows *rows = &index->rows;
    rv_scratch *b = &s->base;
    hnsw_near best = { 0, h->entry };
    rv_rows_distances(rows, query, &best.slot, 1, b->sums, &best.distance);
    for (size_t at = hnsw_levels(h, h->entry); at > level; at--) {
        for (bool nearer = true; nearer;) {
            nearer = false;
            if (hnsw_levels(h, best.slot) < at) {
                break; /* only out of a damaged file */
            }
            size_t most, n = 0;
            const uint32_t *list = hnsw_list(h, best.slot, at, &most);
            rv_pages_touch(rows->pages, list, most * sizeof *list);
            while (n < most && list[n] < rows->n) {
                rv_rows_fetch_code(rows, list[n++]);
            }
            rv_rows_distances(rows, query, list, n, b->sums, b->distances);
            for (size_t i = 0; i < n; i++) {
                if (b->distances[i] < best.distance && rv_rows_live(rows, list[i])) {
                    best = (hnsw_near){ b->distances[i], list[i] };
                    nearer = true;
                }
            }
        }
    }
    return best;
}

size_t hnsw_pool_put(hnsw_scratch *s, size_t ef, hnsw_near near)
{
    size_t n = s->n_pool;
    if (n == ef && !(near.distance < s->pool[n - 1].distance)) {
        return ef;
    }
    size_t low = 0;
    for (size_t left = n; left > 0;) { /* without a branch: where it belongs is hard to guess */
        const size_t half = (left + 1) / 2;
        low += s->pool[low + half - 1].distance <= near.distance ? half : 0;
        left -= half;
    }
    s->n_pool = n < ef ? n + 1 : n;
    memmove(s->pool + low + 1, s->pool + low, (s->n_pool - 1 - low) * sizeof near);
    s->pool[low] = near;
    return low;
}

static void fetch_links(const hnsw *h, uint32_t slot)
{
    const uint32_t *list = h->links + slot * h->m0;
    for (size_t i = 0; i < h->m0; i += 16) {
        __builtin_prefetch(list + i);
    }
}

void hnsw_walk(const rv_index *index, hnsw_scratch *s, const rv_row_query *query, hnsw_near from,
               size_t level, size_t ef)
{
    const hnsw *h = index->self;
    const rv_rows *rows = &index->rows;
    rv_scratch *b = &s->base;
    if (++s->mark == 0) {
        memset(s->seen, 0, s->seen_room);
        s->mark = 1;
    }
    const uint8_t mark = s->mark;
    const bool all_live = rows->n_live == rows->n;
    const size_t n_rows = rows->n;
    uint8_t *const seen = s->seen;
    uint32_t *const slots = b->slots;
    s->pool[0] = from;
    s->n_pool = 1;
    seen[from.slot] = mark;
    for (size_t at = 0; at < s->n_pool;) {
        uint32_t slot = s->pool[at].slot;
        s->pool[at].slot |= HNSW_DONE;
        size_t most = 0, n = 0;
        const uint32_t *list =
            level && hnsw_levels(h, slot) < level ? NULL : hnsw_list(h, slot, level, &most);
        rv_pages_touch(rows->pages, list, most * sizeof *list);
        /* Without a branch for each: which were seen is hard to guess. All are asked for before the first is needed. */
        for (size_t i = 0; i < most && list[i] < n_rows; i++) {
            const uint32_t next = list[i];
            slots[n] = next;
            n += seen[next] != mark;
            seen[next] = mark;
        }
        for (size_t i = 0; i < n; i++) {
            rv_rows_fetch_code(rows, slots[i]);
        }
        rv_rows_distances(rows, query, slots, n, b->sums, b->distances);
        b->told.compared += n;
        const float limit = s->n_pool == ef ? s->pool[ef - 1].distance : INFINITY;
        n = rows->kernels->below(b->distances, slots, n, limit, b->distances, slots);
        size_t lowest = s->n_pool;
        for (size_t i = 0; i < n; i++) {
            if ((!all_live && !rv_rows_live(rows, slots[i])) || (level && hnsw_levels(h, slots[i]) < level)) {
                continue; /* removed; or a link that only a damaged file has */
            }
            size_t place = hnsw_pool_put(s, ef, (hnsw_near){ b->distances[i], slots[i] });
            if (place < lowest) { /* perhaps the next one whose links are followed */
                lowest = place;
                fetch_links(h, slots[i]);
            }
        }
        at = lowest <= at ? lowest : at + 1;
        while (at < s->n_pool && s->pool[at].slot & HNSW_DONE) {
            at++;
        }
        for (size_t next = at + 1; next < s->n_pool; next++) { /* and the one after it */
            if (!(s->pool[next].slot & HNSW_DONE)) {
                fetch_links(h, s->pool[next].slot);
                break;
            }
        }
    }
    for (size_t i = 0; i < s->n_pool; i++) {
        s->pool[i].slot &= ~HNSW_DONE;
    }
}

/* ---- search ---- */

/* What of the pool may be a hit, as many as are kept. */
static size_t admit(const rv_index *index, hnsw_scratch *s, const rv_filter *filter)
{
    rv_near *near = &s->base.near;
    for (size_t i = 0; i < s->n_pool && near->n < near->keep; i++) {
        uint32_t slot = s->pool[i].slot;
        if (rv_rows_live(&index->rows, slot) && rv_filter_passes(filter, index->rows.ids[slot])) {
            near->slots[near->n] = slot;
            near->distances[near->n++] = s->pool[i].distance;
        }
    }
    return near->n;
}

/* A row that is scanned costs one product of codes, one that is walked to about 30 for its neighbours. */
enum { WALK_COST = 30 };

static rv_err search(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                     rv_hit *hits, size_t *found)
{
    hnsw_scratch *s = (hnsw_scratch *)scratch;
    const rv_rows *rows = &index->rows;
    size_t rerank = how->rerank ? how->rerank : 2 * how->k + 10;
    rerank = rerank > how->k ? rerank : how->k;
    size_t ef = how->ef ? how->ef : index->config.ef;
    ef = ef > how->k ? ef : how->k;
    size_t passing = scratch->passing;
    if (passing == 0) {
        *found = 0;
        return RV_OK;
    }
    rv_row_query q = rv_rows_ask(rows, query, scratch->rotated, scratch->code);
    double breadth = (double)ef * (passing < rows->n_live ? (double)rows->n_live / (double)passing : 1);
    while (breadth * WALK_COST < (double)passing) {
        size_t pool = (size_t)breadth;
        RV_TRY(hnsw_ready(index, s, pool));
        RV_TRY(rv_near_begin(index, scratch, how->k, rerank, how->rerank ? NULL : &q));
        hnsw_walk(index, s, &q, hnsw_descend(index, s, &q, 0), 0, pool);
        size_t n = admit(index, s, how->filter);
        if (n >= how->k && (!how->filter || n == rerank || n >= how->k + how->k / 2)) {
            rv_index_rank(index, scratch, query, how->k, hits, found);
            return RV_OK;
        }
        breadth *= 4; /* the rows that pass are rarer here */
    }
    return rv_index_scan(index, scratch, query, how, hits, found);
}

/* ---- rules ---- */

static rv_err check_list(const rv_index *index, uint32_t slot, size_t level, uint8_t *is_dead)
{
    const hnsw *h = index->self;
    size_t most, n = 0;
    const uint32_t *list = hnsw_list(h, slot, level, &most);
    for (size_t i = 0; i < most; i++) {
        uint32_t to = list[i];
        if (to == RV_ROWS_NONE) {
            continue;
        }
        if (n != i || to >= index->rows.n || to == slot || hnsw_levels(h, to) < level) {
            return rv_fail(RV_E_CORRUPT, "hnsw: slot %u has link %u on layer %zu", slot, to, level);
        }
        n++;
        if (!rv_rows_live(&index->rows, to) && !is_dead[to]) {
            return rv_fail(RV_E_CORRUPT, "hnsw: slot %u leads to slot %u, which is free", slot, to);
        }
        for (size_t j = 0; j < i; j++) {
            if (list[j] == to) {
                return rv_fail(RV_E_CORRUPT, "hnsw: slot %u has link %u twice", slot, to);
            }
        }
    }
    return RV_OK;
}

static rv_err check(const rv_index *index)
{
    const hnsw *h = index->self;
    const rv_rows *rows = &index->rows;
    uint8_t *is_dead = rv_new(index->mem, rows->n + 1);
    rv_err e = is_dead ? RV_OK : rv_fail(RV_E_NOMEM, "no memory to check an index");
    for (size_t i = 0; !e && i < h->n_dead; i++) {
        e = h->dead[i] < rows->n && !rv_rows_live(rows, h->dead[i]) && !is_dead[h->dead[i]]
                ? RV_OK
                : rv_fail(RV_E_CORRUPT, "hnsw: slot %u is not dead, or twice", h->dead[i]);
        if (!e) {
            is_dead[h->dead[i]] = 1;
        }
    }
    if (!e && h->mapped) {
        memset(is_dead, 1, rows->n + 1); /* nobody has made the list yet */
    }
    if (!e && rows->n_live > 0 && (h->entry >= rows->n || !rv_rows_live(rows, h->entry))) {
        e = rv_fail(RV_E_CORRUPT, "hnsw: walks begin at slot %u, which does not live", h->entry);
    }
    for (uint32_t slot = 0; !e && slot < rows->n; slot++) {
        for (size_t level = 0; !e && rv_rows_live(rows, slot) && level <= hnsw_levels(h, slot); level++) {
            e = check_list(index, slot, level, is_dead);
        }
    }
    rv_free(index->mem, is_dead);
    return e;
}

const rv_index_ops rv_hnsw_ops = {
    .kind = "hnsw",
    .coded = true,
    .scratch_bytes = sizeof(hnsw_scratch),
    .configure = configure,
    .open = open_hnsw,
    .close = close_hnsw,
    .reserve = reserve,
    .add = hnsw_link,
    .build = hnsw_build,
    .remove = hnsw_unlink,
    .repair = hnsw_sweep,
    .search = search,
    .scratch_deinit = scratch_deinit,
    .sections = sections,
    .check = check,
    .bytes = bytes,
};
