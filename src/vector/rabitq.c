/* RaBitQ as a kind of index: options, rows that come and go, its part of a file. */
#include "base/rng.h"
#include "vector/rabitq_priv.h"

#include <math.h>
#include <string.h>

enum {
    TAG_HEAD = 100,
    TAG_CENTRES,
    TAG_NEWEST,
    TAG_COUNTS,
    TAG_GROUPS,
    TAG_BLOCKS,
    TAG_SLOTS,
    TAG_BEFORE,
    TAG_OWNER,
    TAG_WIDTHS,
    TAG_FINE,

    SPLIT_ROWS = 400, /* a list of so many is split in two */
    PROBES = 32,
    SCATTERED_MIN = 64, /* blocks out of order that are not worth moving the others */
};

static rv_err configure(rv_index_config *config)
{
    if (config->dim > RV_ONEBIT_DIM_MAX) {
        return rv_fail(RV_E_ARG, "rabitq takes vectors of up to %d dimensions, these have %zu",
                       RV_ONEBIT_DIM_MAX, config->dim);
    }
    config->bits = config->bits ? config->bits : 1;
    if (config->bits > RABITQ_BITS_MAX) {
        return rv_fail(RV_E_ARG, "rabitq codes have 1 to %d bits, not %zu", RABITQ_BITS_MAX, config->bits);
    }
    config->probes = config->probes ? config->probes : PROBES;
    return RV_OK;
}

/* ---- files ---- */

static void sections(const rv_index *index, rv_sections *out)
{
    const rabitq *r = index->self;
    const rabitq_head *h = &r->head;
    const size_t lists = h->n_lists, blocks = h->n_blocks;
    rv_sections_put(out, TAG_HEAD, h, sizeof *h);
    rv_sections_put(out, TAG_CENTRES, r->centres, lists * r->dim * sizeof *r->centres);
    rv_sections_put(out, TAG_WIDTHS, r->widths, lists * sizeof *r->widths);
    rv_sections_put(out, TAG_NEWEST, r->newest, lists * sizeof *r->newest);
    rv_sections_put(out, TAG_COUNTS, r->counts, lists * sizeof *r->counts);
    rv_sections_put(out, TAG_GROUPS, r->group_of, lists * sizeof *r->group_of);
    rv_sections_put(out, TAG_BLOCKS, r->blocks, blocks * RV_ONEBIT_BLOCK_BYTES(r->dim));
    if (r->bits > 1) {
        rv_sections_put(out, TAG_FINE, r->fine, blocks * RV_ONEBIT_ROWS * rabitq_fine_bytes(r));
    }
    rv_sections_put(out, TAG_SLOTS, r->slots, blocks * RV_ONEBIT_ROWS * sizeof *r->slots);
    rv_sections_put(out, TAG_BEFORE, r->before, blocks * sizeof *r->before);
    rv_sections_put(out, TAG_OWNER, r->owner, blocks * sizeof *r->owner);
}

/* The lists are copied and checked here, so that a search can trust them; blocks stay where they are, and a search trusts nothing
 * in them. */
static rv_err read_lists(rabitq *r, const rv_sections *file, size_t n_lists)
{
    const void *centres, *widths, *newest, *counts, *groups;
    RV_TRY(rv_sections_get(file, TAG_CENTRES, n_lists * r->dim * sizeof *r->centres, &centres));
    RV_TRY(rv_sections_get(file, TAG_WIDTHS, n_lists * sizeof *r->widths, &widths));
    RV_TRY(rv_sections_get(file, TAG_NEWEST, n_lists * sizeof *r->newest, &newest));
    RV_TRY(rv_sections_get(file, TAG_COUNTS, n_lists * sizeof *r->counts, &counts));
    RV_TRY(rv_sections_get(file, TAG_GROUPS, n_lists * sizeof *r->group_of, &groups));
    RV_TRY(rabitq_reserve_lists(r, n_lists));
    memcpy(r->centres, centres, n_lists * r->dim * sizeof *r->centres);
    memcpy(r->widths, widths, n_lists * sizeof *r->widths);
    memcpy(r->newest, newest, n_lists * sizeof *r->newest);
    memcpy(r->counts, counts, n_lists * sizeof *r->counts);
    memcpy(r->group_of, groups, n_lists * sizeof *r->group_of);
    size_t n_rows = 0;
    for (uint32_t list = 0; list < n_lists; list++) {
        n_rows += r->counts[list];
        bool empty = r->newest[list] == RABITQ_NONE;
        if (empty != (r->counts[list] == 0) || (!empty && r->newest[list] >= r->head.n_blocks)) {
            return rv_fail(RV_E_CORRUPT, "index file: list %u has %u rows and newest block %u", list,
                           r->counts[list], r->newest[list]);
        }
        bool finite = isfinite(r->widths[list]);
        for (size_t i = 0; i < r->dim; i++) {
            finite = finite && isfinite(r->centres[list * r->dim + i]);
        }
        if (!finite) {
            return rv_fail(RV_E_CORRUPT, "index file: the centre of list %u is not finite", list);
        }
    }
    if (n_rows != r->rows->n_live) {
        return rv_fail(RV_E_CORRUPT, "index file: lists hold %zu rows of %zu", n_rows, r->rows->n_live);
    }
    r->head.n_lists = (uint32_t)n_lists;
    for (uint32_t list = 0; list < n_lists; list++) {
        rabitq_encode_centre(r, list);
    }
    return rabitq_regroup(r);
}

static rv_err read_file(rabitq *r, const rv_sections *file)
{
    const void *at;
    RV_TRY(rv_sections_get(file, TAG_HEAD, sizeof r->head, &at));
    rabitq_head h;
    memcpy(&h, at, sizeof h);
    if (h.n_lists == 0 || h.n_groups > h.n_lists || h.n_free > h.n_blocks) {
        return rv_fail(RV_E_CORRUPT, "index file: %u lists, %u groups, %u blocks, %u free", h.n_lists,
                       h.n_groups, h.n_blocks, h.n_free);
    }
    const size_t blocks = h.n_blocks;
    const void *bytes, *slots, *before, *owner, *fine = NULL;
    RV_TRY(rv_sections_map(file, TAG_BLOCKS, blocks * RV_ONEBIT_BLOCK_BYTES(r->dim), &bytes));
    if (r->bits > 1) {
        RV_TRY(rv_sections_map(file, TAG_FINE, blocks * RV_ONEBIT_ROWS * rabitq_fine_bytes(r), &fine));
    }
    RV_TRY(rv_sections_map(file, TAG_SLOTS, blocks * RV_ONEBIT_ROWS * sizeof *r->slots, &slots));
    RV_TRY(rv_sections_get(file, TAG_BEFORE, blocks * sizeof *r->before, &before));
    RV_TRY(rv_sections_get(file, TAG_OWNER, blocks * sizeof *r->owner, &owner));
    r->head = h;
    r->head.n_lists = 0; /* until they are read */
    r->mapped = true;    /* nothing writes there: a change makes them ours first */
    r->blocks = (uint8_t *)(uintptr_t)bytes;
    r->fine = (uint8_t *)(uintptr_t)fine;
    r->slots = (uint32_t *)(uintptr_t)slots;
    r->before = (uint32_t *)(uintptr_t)before;
    r->owner = (uint32_t *)(uintptr_t)owner;
    r->blocks_room = blocks;
    return read_lists(r, file, h.n_lists);
}

static rv_err open_index(rv_index *index, const rv_sections *file)
{
    rabitq *r = rv_new(index->mem, sizeof *r);
    if (!r) {
        return rv_fail(RV_E_NOMEM, "no memory for an index");
    }
    index->self = r;
    *r = (rabitq){ .rows = &index->rows,
                   .mem = index->mem,
                   .dim = (index->rows.dim + 15) / 16 * 16,
                   .bits = index->config.bits };
    r->dither = rv_new_array(r->mem, r->dim, sizeof *r->dither);
    if (!r->dither) {
        return rv_fail(RV_E_NOMEM, "no memory for an index");
    }
    rv_rng rng;
    rv_rng_init(&rng, index->config.seed + 1); /* the seed itself makes the rotation */
    for (size_t i = 0; i < r->dim; i++) {
        r->dither[i] = i < index->rows.dim ? (float)rv_rng_below(&rng, 1 << 16) / (1 << 16) : 0.5f;
    }
    if (file) {
        return read_file(r, file);
    }
    RV_TRY(rabitq_reserve_lists(r, 1)); /* one list, around nothing, until rows tell more */
    memset(r->centres, 0, r->dim * sizeof *r->centres);
    (void)rabitq_add_list(r, r->centres);
    return RV_OK;
}

static void close_index(rv_index *index)
{
    rabitq *r = index->self;
    if (r) {
        rabitq_free_lists(r);
        rv_free(r->mem, r->dither);
        rv_free(r->mem, r);
    }
}

static rv_err check(const rv_index *index)
{
    return rabitq_check(index->self);
}

/* With finer codes in the lists a search does not come by the rows' own. */
static void bytes(const rv_index *index, rv_index_size *size)
{
    const rabitq *r = index->self;
    size_t each_list = r->dim * sizeof *r->centres + r->rows->stride + sizeof *r->centre_scales + 16;
    size_t each_row = rabitq_fine_bytes(r) + sizeof *r->slots;
    size_t each_block = RV_ONEBIT_BLOCK_BYTES(r->dim) + RV_ONEBIT_ROWS * each_row + 8;
    size_t codes = r->bits > 1 ? r->rows->n * r->rows->stride : 0;
    size->hot +=
        r->lists_room * each_list + r->blocks_room * each_block + r->places_room * sizeof *r->places - codes;
    size->cold += codes;
}

/* ---- rows come and go ---- */

static rv_err reserve(rv_index *index, size_t n, bool was_mapped)
{
    rabitq *r = index->self;
    if (r->mapped) {
        RV_TRY(rabitq_check(r)); /* a search can live with damage, a change cannot */
    }
    RV_TRY(rabitq_reserve_blocks(r, (n < r->head.n_lists ? n : r->head.n_lists) + n / RV_ONEBIT_ROWS + 1));
    RV_TRY(rabitq_reserve_places(r, index->rows.room));
    for (uint32_t slot = 0; was_mapped && slot < index->rows.n; slot++) {
        if (!rv_rows_live(&index->rows, slot)) {
            rv_rows_recycle(&index->rows, slot);
        }
    }
    return RV_OK;
}

static void add(rv_index *index, uint32_t slot)
{
    rabitq *r = index->self;
    float row[RV_ONEBIT_DIM_MAX];
    rabitq_decode(r, slot, row);
    uint32_t list = rabitq_nearest_one(r, row);
    rabitq_append(r, list, slot, row);
    if (r->counts[list] % SPLIT_ROWS == 0) {
        rabitq_split(r, list);
    }
}

static void remove_rows(rv_index *index, const uint32_t *slots, size_t n)
{
    rabitq *r = index->self;
    for (size_t i = 0; i < n; i++) {
        if (r->places[slots[i]] != RABITQ_NONE) { /* a build that failed did not come so far */
            rabitq_take(r, slots[i]);
        }
        rv_rows_recycle(&index->rows, slots[i]);
    }
}

/* Few rows go to the lists there are. */
static rv_err build_into(rabitq *r, rv_pool *pool, const uint32_t *slots, size_t n)
{
    uint32_t *lists = rv_new_array(r->mem, n, sizeof *lists);
    if (!lists) {
        return rv_fail(RV_E_NOMEM, "no memory for %zu vectors", n);
    }
    rv_err e = rabitq_nearest(r, pool, slots, n, lists);
    float row[RV_ONEBIT_DIM_MAX];
    for (size_t i = 0; i < n && !e; i++) {
        rabitq_decode(r, slots[i], row);
        rabitq_append(r, lists[i], slots[i], row);
    }
    for (uint32_t list = 0; list < r->head.n_lists && !e; list++) {
        if (r->counts[list] >= SPLIT_ROWS) {
            rabitq_split(r, list); /* a new one comes at the end and has its turn */
        }
    }
    rv_free(r->mem, lists);
    return e;
}

static rv_err build(rv_index *index, rv_pool *pool, const uint32_t *slots, size_t n,
                    rv_index_progress *progress, void *self)
{
    rabitq *r = index->self;
    const rv_rows *rows = &index->rows;
    if (progress && !progress(self, 0)) {
        return rv_fail(RV_E_CANCELLED, "building was stopped");
    }
    if (n < rows->n_live / 2) {
        return build_into(r, pool, slots, n);
    }
    uint32_t *live = rv_new_array(r->mem, rows->n_live, sizeof *live);
    if (!live) {
        return rv_fail(RV_E_NOMEM, "no memory for %zu vectors", n);
    }
    size_t n_live = 0;
    for (uint32_t slot = 0; slot < rows->n; slot++) {
        if (rv_rows_live(rows, slot)) {
            live[n_live++] = slot;
        }
    }
    size_t lists = index->config.lists ? index->config.lists : rabitq_n_lists(n_live);
    rabitq next = { .rows = rows, .mem = r->mem, .dim = r->dim, .bits = r->bits, .dither = r->dither };
    rv_err e = rabitq_build(&next, pool, live, n_live, lists < n_live ? lists : n_live);
    rv_free(r->mem, live);
    rabitq_free_lists(e ? &next : r);
    if (!e) {
        *r = next;
        if (progress) {
            progress(self, n);
        }
    }
    return e;
}

static bool repair(rv_index *index, size_t n_rows)
{
    rabitq *r = index->self;
    (void)n_rows; /* lists are moved all at once, when a quarter of their blocks lie elsewhere */
    if (!r->mapped && r->scattered > SCATTERED_MIN && r->scattered > r->head.n_blocks / 4) {
        rabitq_compact(r);
    }
    if (rabitq_groups_due(r)) {
        rabitq_group(r);
    }
    return false;
}

const rv_index_ops rv_rabitq_ops = { .kind = "rabitq",
                                     .coded = true,
                                     .scratch_bytes = sizeof(rabitq_scratch),
                                     .configure = configure,
                                     .open = open_index,
                                     .close = close_index,
                                     .reserve = reserve,
                                     .add = add,
                                     .build = build,
                                     .remove = remove_rows,
                                     .repair = repair,
                                     .search = rabitq_search,
                                     .scratch_deinit = rabitq_scratch_deinit,
                                     .sections = sections,
                                     .check = check,
                                     .bytes = bytes };
