#include "vector/rows.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

/* ---- memory ---- */

void *rv_big_grow(const rv_alloc *mem, void *old, bool mapped, size_t used, size_t bytes)
{
    bool huge = bytes >= 2 * HUGE_PAGE;
    void *block = mem->aligned(mem->self, huge ? HUGE_PAGE : RV_ROWS_ALIGN, bytes ? bytes : RV_ROWS_ALIGN);
    if (!block) {
        return NULL;
    }
    if (huge) {
        (void)madvise(block, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* refused: only slower */
    }
    if (used) {
        memcpy(block, old, used);
    }
    if (!mapped) {
        rv_free(mem, old);
    }
    return block;
}

static size_t kept_bytes(const rv_rows *r)
{
    return r->keep == RV_KEEP_F32 ? 4 * r->dim : r->keep == RV_KEEP_BF16 ? 2 * r->dim : 0;
}

void rv_rows_init(rv_rows *r, const rv_alloc *mem, const rv_index_config *config, bool coded)
{
    *r = (rv_rows){ .mem = mem,
                    .kernels = rv_kernels_best(),
                    .dim = config->dim,
                    .stride = coded ? (config->dim + RV_ROWS_ALIGN - 1) / RV_ROWS_ALIGN * RV_ROWS_ALIGN : 0,
                    .metric = config->metric,
                    .keep = config->keep };
}

rv_err rv_rows_rotate(rv_rows *r, rv_rotation_kind kind, uint64_t seed, const float *matrix)
{
    if (!r->stride) {
        return RV_OK;
    }
    return matrix ? rv_rotation_of(r->mem, r->dim, matrix, &r->rotation)
                  : rv_rotation_new(r->mem, r->dim, seed, kind, &r->rotation);
}

void rv_rows_deinit(rv_rows *r)
{
    if (!r->mapped) {
        rv_free(r->mem, r->codes);
        rv_free(r->mem, r->scales);
        rv_free(r->mem, r->ids);
        rv_free(r->mem, r->live);
        rv_free(r->mem, r->kept);
        rv_free(r->mem, r->map);
    }
    rv_free(r->mem, (void *)r->lent);
    rv_free(r->mem, r->free);
    rv_rotation_free(r->rotation);
    *r = (rv_rows){ 0 };
}

/* ---- ids ---- */

static size_t place_of(const rv_rows *r, int64_t id)
{
    uint64_t mixed = (uint64_t)id * 0x9e3779b97f4a7c15u;
    return (size_t)(mixed ^ mixed >> 32) & (r->map_size - 1);
}

/* A run of entries ends at an empty place; all of them live, but a damaged file may say anything. */
static size_t map_find(const rv_rows *r, int64_t id)
{
    size_t at = place_of(r, id);
    for (size_t step = 0; step < r->map_size; step++, at = (at + 1) & (r->map_size - 1)) {
        rv_pages_touch(r->pages, &r->map[at], sizeof *r->map);
        if (!r->map[at]) {
            break;
        }
        uint32_t slot = r->map[at] - 1;
        if (slot < r->n && r->ids[slot] == id && rv_rows_live(r, slot)) {
            return at;
        }
    }
    return SIZE_MAX;
}

uint32_t rv_rows_find(const rv_rows *r, int64_t id)
{
    size_t at = r->map_size ? map_find(r, id) : SIZE_MAX;
    return at == SIZE_MAX ? RV_ROWS_NONE : r->map[at] - 1;
}

static void map_put(rv_rows *r, uint32_t slot)
{
    size_t at = place_of(r, r->ids[slot]);
    while (r->map[at]) {
        at = (at + 1) & (r->map_size - 1);
    }
    r->map[at] = slot + 1;
}

/* Entries behind the hole move into it unless that would put them before their own place. */
static void map_take(rv_rows *r, uint32_t slot)
{
    size_t mask = r->map_size - 1, hole = place_of(r, r->ids[slot]);
    while (r->map[hole] && r->map[hole] != slot + 1) {
        hole = (hole + 1) & mask;
    }
    if (!r->map[hole]) {
        return; /* one id twice, out of a damaged file */
    }
    for (size_t at = (hole + 1) & mask; r->map[at]; at = (at + 1) & mask) {
        size_t home = place_of(r, r->ids[r->map[at] - 1]);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            r->map[hole] = r->map[at];
            hole = at;
        }
    }
    r->map[hole] = 0;
}

/* ---- room ---- */

/* All arrays anew, so that a failure leaves every old one in place. */
static rv_err grow_all(rv_rows *r, size_t room)
{
    rv_rows next = *r;
    room = (room + 63) / 64 * 64;
    size_t map_size = 64;
    while (map_size < 2 * room) {
        map_size *= 2;
    }
    struct {
        void **array;
        size_t used, bytes;
    } arrays[] = {
        { (void **)&next.codes, r->n * r->stride, room * r->stride },
        { (void **)&next.scales, r->stride ? r->n * sizeof *r->scales : 0,
          r->stride ? room * sizeof *r->scales : 0 },
        { (void **)&next.ids, r->n * sizeof *r->ids, room * sizeof *r->ids },
        { (void **)&next.live, (r->n + 63) / 64 * 8, room / 8 },
        { &next.kept, r->n * kept_bytes(r), room * kept_bytes(r) },
        { (void **)&next.lent, kept_bytes(r) ? 0 : r->n * sizeof *r->lent,
          kept_bytes(r) ? 0 : room * sizeof *r->lent },
        { (void **)&next.free, r->n_free * sizeof *r->free, room * sizeof *r->free },
        { (void **)&next.map, 0, map_size * sizeof *r->map },
    };
    size_t done = 0;
    for (; done < RV_COUNT(arrays); done++) {
        void *fresh = arrays[done].bytes ? rv_big_grow(r->mem, *arrays[done].array, true, arrays[done].used,
                                                       arrays[done].bytes)
                                         : NULL;
        if (arrays[done].bytes && !fresh) {
            break;
        }
        *arrays[done].array = fresh;
    }
    if (done < RV_COUNT(arrays)) {
        while (done > 0) {
            rv_free(r->mem, *arrays[--done].array);
        }
        return rv_fail(RV_E_NOMEM, "no memory for an index of %zu vectors", room);
    }
    next.room = room;
    next.map_size = map_size;
    next.mapped = false;
    memset((uint8_t *)next.live + arrays[3].used, 0, arrays[3].bytes - arrays[3].used);
    memset(next.map, 0, arrays[7].bytes);
    rv_rotation *rotation = r->rotation;
    r->rotation = NULL;
    rv_rows_deinit(r);
    *r = next;
    r->rotation = rotation;
    for (uint32_t slot = 0; slot < r->n; slot++) {
        if (rv_rows_live(r, slot)) {
            map_put(r, slot);
        }
    }
    return RV_OK;
}

rv_err rv_rows_reserve(rv_rows *r, size_t n)
{
    if (n > RV_INDEX_ROWS_MAX - r->n) {
        return rv_fail(RV_E_FULL, "an index holds at most %zu vectors", RV_INDEX_ROWS_MAX);
    }
    size_t wanted = r->n + n; /* free slots are a gift: reserved room never depends on them */
    if (wanted <= r->room && !r->mapped) {
        return RV_OK;
    }
    size_t half = r->room + r->room / 2;
    size_t room = r->mapped && wanted <= r->n ? wanted : wanted > half ? wanted : half;
    return grow_all(r, room < RV_INDEX_ROWS_MAX ? room : RV_INDEX_ROWS_MAX);
}

/* ---- changes ---- */

uint32_t rv_rows_place(rv_rows *r, int64_t id)
{
    assert(!r->mapped && (r->n_free > 0 || r->n < r->room) && rv_rows_find(r, id) == RV_ROWS_NONE);
    uint32_t slot = r->n_free > 0 ? r->free[--r->n_free] : (uint32_t)r->n++;
    r->ids[slot] = id;
    r->live[slot / 64] |= (uint64_t)1 << slot % 64;
    r->n_live++;
    map_put(r, slot);
    return slot;
}

void rv_rows_drop(rv_rows *r, uint32_t slot)
{
    assert(!r->mapped && rv_rows_live(r, slot));
    map_take(r, slot);
    r->live[slot / 64] &= ~((uint64_t)1 << slot % 64);
    r->n_live--;
}

void rv_rows_recycle(rv_rows *r, uint32_t slot)
{
    assert(!rv_rows_live(r, slot));
    r->free[r->n_free++] = slot;
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); /* nearest even; rows are finite */
}

/* Of any vector, as steps from -127 to 127, 0 past its dimensions. */
static rv_row_scale encode(const rv_rows *r, const float *x, float *rotated, int8_t *code)
{
    int32_t squares;
    rv_rotation_apply(r->rotation, x, rotated);
    const float step = r->kernels->encode(rotated, r->dim, code, &squares);
    memset(code + r->dim, 0, r->stride - r->dim);
    return (rv_row_scale){ step, step * step * (float)squares };
}

/* A code of a row holds its steps plus 128. */
static void turn_sign(uint8_t *code, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        code[i] ^= 128;
    }
}

void rv_rows_fill(rv_rows *r, uint32_t slot, const float *row, float *scratch)
{
    if (r->keep == RV_KEEP_F32) {
        memcpy((float *)r->kept + slot * r->dim, row, r->dim * sizeof *row);
    } else if (r->keep == RV_KEEP_BF16) {
        uint16_t *out = (uint16_t *)r->kept + slot * r->dim;
        for (size_t i = 0; i < r->dim; i++) {
            out[i] = to_bf16(row[i]);
        }
    } else {
        r->lent[slot] = row;
    }
    if (r->stride) {
        uint8_t *code = r->codes + slot * r->stride;
        r->scales[slot] = encode(r, row, scratch, (int8_t *)code);
        turn_sign(code, r->stride);
    }
}

/* ---- the vectors themselves ---- */

const float *rv_rows_get(const rv_rows *r, uint32_t slot, float *scratch)
{
    if (r->keep == RV_KEEP_F32) {
        return (const float *)r->kept + slot * r->dim;
    }
    if (r->keep == RV_KEEP_BF16) {
        r->kernels->expand[RV_BF16]((const uint16_t *)r->kept + slot * r->dim, scratch, r->dim);
        return scratch;
    }
    return r->lent[slot];
}

void rv_rows_fetch(const rv_rows *r, uint32_t slot)
{
    size_t bytes = kept_bytes(r) ? kept_bytes(r) : 4 * r->dim;
    const char *at = kept_bytes(r) ? (const char *)r->kept + slot * bytes : (const char *)r->lent[slot];
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(at + i);
    }
}

float rv_rows_score(const rv_rows *r, const float *query, uint32_t slot, float *scratch)
{
    if (r->kept) {
        const size_t n = kept_bytes(r);
        rv_pages_touch(r->pages, (const char *)r->kept + slot * n, n);
    }
    const float *row = rv_rows_get(r, slot, scratch);
    float score = r->metric == RV_INDEX_L2 ? -r->kernels->l2sq_f32(query, row, r->dim)
                                           : r->kernels->dot_f32(query, row, r->dim);
    return score == score ? score : -INFINITY; /* a damaged file may hold what is no number */
}

/* ---- codes ---- */

static rv_row_query ask(const rv_rows *r, rv_row_scale scale, const int8_t *code)
{
    bool product = r->metric == RV_INDEX_IP;
    return product ? (rv_row_query){ code, -scale.scale, 0, 0, scale }
                   : (rv_row_query){ code, -2 * scale.scale, 1, scale.norm, scale };
}

rv_row_query rv_rows_ask(const rv_rows *r, const float *query, float *rotated, int8_t *code)
{
    return ask(r, encode(r, query, rotated, code), code);
}

rv_row_query rv_rows_ask_slot(const rv_rows *r, uint32_t slot, int8_t *code)
{
    memcpy(code, r->codes + slot * r->stride, r->stride);
    turn_sign((uint8_t *)code, r->stride);
    for (size_t i = 0; i < r->stride; i++) {
        code[i] = code[i] < -127 ? -127 : code[i]; /* only of a damaged row */
    }
    return ask(r, r->scales[slot], code);
}

static void touch_codes(const rv_rows *r, const uint32_t *slots, size_t n)
{
    if (!r->pages) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        rv_pages_touch(r->pages, r->codes + slots[i] * r->stride, r->stride);
        rv_pages_touch(r->pages, &r->scales[slots[i]], sizeof *r->scales);
    }
}

static inline float distance(const rv_row_query *query, rv_row_scale row, int32_t sum)
{
    return query->base + query->weight * row.norm + query->pull * row.scale * (float)sum;
}

void rv_rows_distances(const rv_rows *r, const rv_row_query *query, const uint32_t *slots, size_t n,
                       int32_t *sums, float *out)
{
    touch_codes(r, slots, n);
    r->kernels->code_dots(r->codes, r->stride, slots, n, query->code, r->stride, sums);
    for (size_t i = 0; i < n; i++) {
        out[i] = distance(query, r->scales[slots[i]], sums[i]);
    }
}

void rv_rows_copy(const rv_rows *r, const uint32_t *slots, size_t n, uint8_t *codes, rv_row_scale *scales)
{
    touch_codes(r, slots, n);
    for (size_t i = 0; i < n; i++) {
        memcpy(codes + i * r->stride, r->codes + slots[i] * r->stride, r->stride);
        scales[i] = r->scales[slots[i]];
    }
}

void rv_rows_distances_of(const rv_rows *r, const rv_row_query *query, const uint8_t *codes,
                          const rv_row_scale *scales, size_t n, int32_t *sums, float *out)
{
    r->kernels->code_dots(codes, r->stride, NULL, n, query->code, r->stride, sums);
    for (size_t i = 0; i < n; i++) {
        out[i] = distance(query, scales[i], sums[i]);
    }
}

/* A coordinate of a code is wrong by up to half its step, scale / sqrt(12) in the mean; so is the query's. With v between the
 * codes and e between their errors |v + e|^2 = |v|^2 + 2 <v, e> + |e|^2; what is left of a product likewise. */
float rv_rows_deviation(const rv_rows *r, const rv_row_query *query, uint32_t slot, float distance)
{
    const rv_row_scale row = r->scales[slot], own = query->own;
    const float one = own.scale * own.scale / 12, other = row.scale * row.scale / 12, both = one + other;
    if (r->metric == RV_INDEX_IP) {
        return sqrtf(own.norm * other + row.norm * one);
    }
    return 2 * sqrtf(fabsf(distance) * both) + (float)r->dim * both;
}

/* ---- rules ---- */

rv_err rv_rows_check(const rv_rows *r)
{
    size_t live = 0;
    for (uint32_t slot = 0; slot < r->n; slot++) {
        if (!rv_rows_live(r, slot)) {
            continue;
        }
        live++;
        if (rv_rows_find(r, r->ids[slot]) != slot) {
            return rv_fail(RV_E_CORRUPT,
                           "index: slot %u holds id %lld, which is found elsewhere or not at all", slot,
                           (long long)r->ids[slot]);
        }
        if (r->stride &&
            !(r->scales[slot].scale >= 0 && r->scales[slot].norm >= 0 && isfinite(r->scales[slot].norm))) {
            return rv_fail(RV_E_CORRUPT, "index: the code of id %lld has scale %g and norm %g",
                           (long long)r->ids[slot], (double)r->scales[slot].scale,
                           (double)r->scales[slot].norm);
        }
    }
    if (live != r->n_live) {
        return rv_fail(RV_E_CORRUPT, "index: %zu live slots, expected %zu", live, r->n_live);
    }
    for (size_t i = 0; i < r->n_free; i++) {
        if (r->free[i] >= r->n || rv_rows_live(r, r->free[i])) {
            return rv_fail(RV_E_CORRUPT, "index: slot %u is free and in use", r->free[i]);
        }
    }
    return RV_OK;
}
