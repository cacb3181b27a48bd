/* The lists: blocks handed out and taken back, and the codes in them. */
#include "vector/rabitq_priv.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void rabitq_decode(const rabitq *r, uint32_t slot, float *out)
{
    const uint8_t *code = r->rows->codes + slot * r->rows->stride;
    const float scale = r->rows->scales[slot].scale;
    for (size_t i = 0; i < r->rows->dim; i++) {
        out[i] = scale * (float)((int)code[i] - 128);
    }
    for (size_t i = r->rows->dim; i < r->dim; i++) {
        out[i] = 0;
    }
}

/* With o = residual / n and its signs x / sqrt(dim): <o, q> is estimated by <x, q> / <x, o>, an estimate without bias whose error
 * is sqrt((1 - <x,o>^2) / <x,o>^2 / (dim - 1)) times the length of q. Source: Gao and Long 2024, arXiv:2405.12497, theorem 3.2.
 * Few coordinates know no such law: their error is boundless, so that they all go on to the next stage. */
enum { LAW_FROM_DIM = 32 };

rabitq_factors rabitq_factors_of(const float *residual, size_t dim, rv_index_metric metric, float squares)
{
    double square = 0, sum = 0;
    for (size_t i = 0; i < dim; i++) {
        square += (double)residual[i] * (double)residual[i];
        sum += fabs((double)residual[i]);
    }
    rabitq_factors f = { (float)square, 0, 0 };
    if (sum > 0) {
        double lengthened = square / sum; /* n / <x, o> / sqrt(dim) */
        double rest = lengthened * lengthened * (double)dim - square;
        f.slope = (float)(2 * lengthened);
        f.error = dim < LAW_FROM_DIM ? 1e30f : (float)(2 * sqrt((rest > 0 ? rest : 0) / (double)(dim - 1)));
    }
    if (metric == RV_INDEX_IP) {
        f = (rabitq_factors){ (f.add - squares) / 2, f.slope / 2, f.error / 2 };
    }
    return f;
}

/* The four signs from coordinate 4 * four of a row in its block. */
static void put_signs(uint8_t *block, size_t four, size_t row, unsigned signs)
{
    uint8_t *at = block + 16 * four + row % 16;
    *at = (uint8_t)(row < 16 ? (*at & 0xf0u) | signs : (*at & 0x0fu) | signs << 4);
}

static unsigned get_signs(const uint8_t *block, size_t four, size_t row)
{
    return block[16 * four + row % 16] >> (row < 16 ? 0 : 4) & 15u;
}

/* ---- room ---- */

typedef struct grown {
    void **array;
    size_t used, bytes;
} grown;

/* All of them or none. */
static rv_err grow(rabitq *r, const grown *arrays, size_t n, bool mapped)
{
    void *next[10];
    assert(n <= RV_COUNT(next));
    for (size_t i = 0; i < n; i++) {
        next[i] = rv_big_grow(r->mem, *arrays[i].array, true, arrays[i].used, arrays[i].bytes);
        if (!next[i]) {
            while (i > 0) {
                rv_free(r->mem, next[--i]);
            }
            return rv_fail(RV_E_NOMEM, "no memory for the lists of an index");
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (!mapped) {
            rv_free(r->mem, *arrays[i].array);
        }
        *arrays[i].array = next[i];
    }
    return RV_OK;
}

static size_t more(size_t have, size_t need)
{
    size_t half_more = have + have / 2;
    return need <= have ? have : need > half_more ? need : half_more;
}

rv_err rabitq_reserve_lists(rabitq *r, size_t n)
{
    size_t room = more(r->lists_room, r->head.n_lists + n), stride = r->rows->stride, used = r->head.n_lists;
    if (room == r->lists_room) {
        return RV_OK;
    }
    const grown arrays[] = {
        { (void **)&r->centres, used * r->dim * sizeof(float), room * r->dim * sizeof(float) },
        { (void **)&r->widths, used * sizeof *r->widths, room * sizeof *r->widths },
        { (void **)&r->newest, used * sizeof *r->newest, room * sizeof *r->newest },
        { (void **)&r->counts, used * sizeof *r->counts, room * sizeof *r->counts },
        { (void **)&r->centre_codes, used * stride, room * stride },
        { (void **)&r->centre_scales, used * sizeof *r->centre_scales, room * sizeof *r->centre_scales },
        { (void **)&r->group_of, used * sizeof *r->group_of, room * sizeof *r->group_of },
        { (void **)&r->group_next, used * sizeof *r->group_next, room * sizeof *r->group_next },
    };
    RV_TRY(grow(r, arrays, RV_COUNT(arrays), false));
    r->lists_room = room;
    return RV_OK;
}

rv_err rabitq_reserve_blocks(rabitq *r, size_t n)
{
    size_t room = more(r->blocks_room, r->head.n_blocks - r->head.n_free + n), used = r->head.n_blocks;
    if (room == r->blocks_room && !r->mapped) {
        return RV_OK;
    }
    if (room > RV_INDEX_ROWS_MAX / RV_ONEBIT_ROWS * 2) {
        return rv_fail(RV_E_FULL, "the lists of an index hold at most %zu vectors", RV_INDEX_ROWS_MAX);
    }
    const size_t block = RV_ONEBIT_BLOCK_BYTES(r->dim), slots = RV_ONEBIT_ROWS * sizeof *r->slots;
    const size_t fine = RV_ONEBIT_ROWS * rabitq_fine_bytes(r);
    const grown arrays[] = {
        { (void **)&r->blocks, used * block, room * block },
        { (void **)&r->fine, used * fine, room * fine },
        { (void **)&r->slots, used * slots, room * slots },
        { (void **)&r->before, used * sizeof *r->before, room * sizeof *r->before },
        { (void **)&r->owner, used * sizeof *r->owner, room * sizeof *r->owner },
    };
    RV_TRY(grow(r, arrays, RV_COUNT(arrays), r->mapped));
    r->blocks_room = room;
    r->mapped = false;
    return RV_OK;
}

/* Where each row is, which only changes ask. */
rv_err rabitq_reserve_places(rabitq *r, size_t n_slots)
{
    size_t room = more(r->places_room, n_slots);
    if (room == r->places_room) {
        return RV_OK;
    }
    bool first = r->places_room == 0;
    const grown arrays[] = { { (void **)&r->places, r->places_room * sizeof *r->places,
                               room * sizeof *r->places } };
    RV_TRY(grow(r, arrays, 1, false));
    memset(r->places + r->places_room, 0xff, (room - r->places_room) * sizeof *r->places);
    r->places_room = room;
    if (first) {
        for (uint32_t list = 0; list < r->head.n_lists; list++) {
            for (rabitq_walk walk = rabitq_walk_begin(r, list); walk.n > 0; rabitq_walk_next(r, &walk)) {
                for (size_t i = 0; i < walk.n; i++) {
                    size_t place = (size_t)walk.first * RV_ONEBIT_ROWS + i;
                    r->places[r->slots[place]] = (uint32_t)place;
                }
            }
        }
    }
    return RV_OK;
}

/* ---- walking a list ---- */

/* The blocks from `newest` on that lie one below the other. Steps are bounded, because a damaged file may close a circle. */
static rabitq_walk run_of(const rabitq *r, uint32_t newest, size_t rows_left)
{
    if (rows_left == 0 || newest >= r->head.n_blocks) {
        return (rabitq_walk){ 0 };
    }
    size_t in_newest = (rows_left - 1) % RV_ONEBIT_ROWS + 1;
    rabitq_walk walk = { .first = newest, .n = in_newest, .left = rows_left - in_newest };
    while (walk.left > 0 && walk.first > 0 && r->before[walk.first] == walk.first - 1 &&
           walk.n < RABITQ_RUN) {
        walk.first--;
        walk.n += RV_ONEBIT_ROWS;
        walk.left -= RV_ONEBIT_ROWS;
    }
    return walk;
}

rabitq_walk rabitq_walk_begin(const rabitq *r, uint32_t list)
{
    return run_of(r, r->newest[list], r->counts[list]);
}

void rabitq_walk_next(const rabitq *r, rabitq_walk *walk)
{
    *walk = run_of(r, r->before[walk->first], walk->left);
}

/* ---- changing lists ---- */

uint32_t rabitq_add_list(rabitq *r, const float *centre)
{
    assert(r->head.n_lists < r->lists_room);
    uint32_t list = (uint32_t)r->head.n_lists++;
    memcpy(r->centres + list * r->dim, centre, r->dim * sizeof *centre);
    r->newest[list] = RABITQ_NONE;
    r->counts[list] = 0;
    r->widths[list] = 0;
    r->group_of[list] = r->group_next[list] = RABITQ_NONE;
    rabitq_encode_centre(r, list);
    return list;
}

static uint32_t take_block(rabitq *r, uint32_t list)
{
    uint32_t block = r->head.free;
    if (r->head.n_free > 0) {
        r->head.free = r->before[block];
        r->head.n_free--;
    } else {
        assert(r->head.n_blocks < r->blocks_room);
        block = (uint32_t)r->head.n_blocks++;
    }
    const size_t fine = RV_ONEBIT_ROWS * rabitq_fine_bytes(r);
    memset(rabitq_block(r, block), 0, RV_ONEBIT_BLOCK_BYTES(r->dim)); /* places of no row are saved too */
    memset(r->fine + block * fine, 0, fine);
    memset(r->slots + (size_t)block * RV_ONEBIT_ROWS, 0xff, RV_ONEBIT_ROWS * sizeof *r->slots);
    r->scattered += r->newest[list] != RABITQ_NONE && r->newest[list] + 1 != block;
    r->before[block] = r->newest[list];
    r->owner[block] = list;
    r->newest[list] = block;
    return block;
}

static void free_newest(rabitq *r, uint32_t list)
{
    uint32_t block = r->newest[list];
    r->newest[list] = r->before[block];
    r->before[block] = r->head.n_free > 0 ? r->head.free : RABITQ_NONE;
    r->owner[block] = RABITQ_NONE;
    r->head.free = block;
    r->head.n_free++;
    r->scattered++;
}

/* The row of a slot, decoded, to a place in a block of a list. */
static void put_row(rabitq *r, uint32_t list, size_t place, uint32_t slot, const float *row)
{
    const float *centre = rabitq_centre(r, list);
    float residual[RV_ONEBIT_DIM_MAX];
    for (size_t i = 0; i < r->dim; i++) {
        residual[i] = row[i] - centre[i];
    }
    size_t at = place % RV_ONEBIT_ROWS;
    uint8_t *bytes = rabitq_block(r, place / RV_ONEBIT_ROWS);
    for (size_t i = 0; i < r->dim; i += 4) {
        unsigned signs = 0;
        for (size_t j = 0; j < 4 && i + j < r->rows->dim; j++) { /* none beyond: the query counts on it */
            signs |= (unsigned)(residual[i + j] >= 0) << j;
        }
        put_signs(bytes, i / 4, at, signs);
    }
    rabitq_factors f = rabitq_factors_of(residual, r->rows->dim, r->rows->metric, r->rows->scales[slot].norm);
    float *factors = (float *)(void *)(bytes + 4 * r->dim);
    factors[at] = f.add;
    factors[32 + at] = f.slope;
    factors[64 + at] = f.error;
    if (r->bits > 1) {
        rabitq_make_fine(r, residual, centre, r->rows->scales[slot].norm,
                         r->fine + place * rabitq_fine_bytes(r));
    }
    r->slots[place] = slot;
    r->places[slot] = (uint32_t)place;
}

void rabitq_append(rabitq *r, uint32_t list, uint32_t slot, const float *row)
{
    size_t at = r->counts[list] % RV_ONEBIT_ROWS;
    uint32_t block = at == 0 ? take_block(r, list) : r->newest[list];
    r->counts[list]++;
    put_row(r, list, (size_t)block * RV_ONEBIT_ROWS + at, slot, row);
}

void rabitq_place_list(rabitq *r, uint32_t list, size_t n)
{
    assert(r->counts[list] == 0);
    for (size_t i = 0; i < n; i += RV_ONEBIT_ROWS) {
        (void)take_block(r, list);
    }
    r->counts[list] = (uint32_t)n;
}

void rabitq_fill_list(rabitq *r, uint32_t list, const uint32_t *slots, float *row)
{
    size_t n = r->counts[list], block = r->newest[list];
    for (size_t from = n > 0 ? (n - 1) / RV_ONEBIT_ROWS * RV_ONEBIT_ROWS : 0; n > 0; from -= RV_ONEBIT_ROWS) {
        for (size_t i = from; i < n && i < from + RV_ONEBIT_ROWS; i++) {
            rabitq_decode(r, slots[i], row);
            put_row(r, list, block * RV_ONEBIT_ROWS + i - from, slots[i], row);
        }
        if (from == 0) {
            break;
        }
        block = r->before[block];
    }
}

void rabitq_measure(rabitq *r, uint32_t list)
{
    double sum = 0;
    for (rabitq_walk walk = rabitq_walk_begin(r, list); walk.n > 0; rabitq_walk_next(r, &walk)) {
        for (size_t i = 0; i < walk.n; i++) {
            const uint8_t *block = rabitq_block(r, walk.first + i / RV_ONEBIT_ROWS);
            float add;
            memcpy(&add, block + 4 * r->dim + sizeof add * (i % RV_ONEBIT_ROWS), sizeof add);
            sum += (double)add;
        }
    }
    r->widths[list] = r->counts[list] > 0 ? (float)(sum / r->counts[list]) : 0;
    rabitq_encode_centre(r, list);
}

void rabitq_take(rabitq *r, uint32_t slot)
{
    uint32_t place = r->places[slot], list = r->owner[place / RV_ONEBIT_ROWS];
    uint32_t last_at = (r->counts[list] - 1) % RV_ONEBIT_ROWS, last_block = r->newest[list];
    uint32_t last = last_block * RV_ONEBIT_ROWS + last_at;
    if (last != place) {
        const uint8_t *from = rabitq_block(r, last_block);
        uint8_t *to = rabitq_block(r, place / RV_ONEBIT_ROWS);
        size_t at = place % RV_ONEBIT_ROWS;
        for (size_t four = 0; four < r->dim / 4; four++) {
            put_signs(to, four, at, get_signs(from, four, last_at));
        }
        for (size_t f = 0; f < 3; f++) {
            memcpy(to + 4 * r->dim + 4 * (32 * f + at), from + 4 * r->dim + 4 * (32 * f + last_at), 4);
        }
        memcpy(r->fine + place * rabitq_fine_bytes(r), r->fine + last * rabitq_fine_bytes(r),
               rabitq_fine_bytes(r));
        r->slots[place] = r->slots[last];
        r->places[r->slots[place]] = place;
    }
    r->slots[last] = RABITQ_NONE;
    r->places[slot] = RABITQ_NONE;
    r->counts[list]--;
    if (last_at == 0) {
        free_newest(r, list);
    }
}

void rabitq_empty(rabitq *r, uint32_t list)
{
    while (r->newest[list] != RABITQ_NONE) {
        free_newest(r, list);
    }
    r->counts[list] = 0;
}

/* ---- one after the other again ---- */

void rabitq_compact(rabitq *r)
{
    const size_t bytes = RV_ONEBIT_BLOCK_BYTES(r->dim), room = r->head.n_blocks - r->head.n_free;
    const size_t fine = RV_ONEBIT_ROWS * rabitq_fine_bytes(r);
    rabitq next = *r;
    next.blocks = NULL, next.fine = NULL, next.slots = NULL, next.before = NULL, next.owner = NULL;
    next.head.n_blocks = next.head.n_free = next.blocks_room = 0;
    next.mapped = false;
    if (r->mapped || rabitq_reserve_blocks(&next, room)) {
        return; /* lists in pieces are slower, not wrong */
    }
    for (uint32_t list = 0; list < r->head.n_lists; list++) {
        size_t n = (r->counts[list] + RV_ONEBIT_ROWS - 1) / RV_ONEBIT_ROWS;
        uint32_t from = r->newest[list];
        for (size_t i = n; i-- > 0; from = r->before[from]) {
            size_t to = next.head.n_blocks + i;
            memcpy(rabitq_block(&next, to), rabitq_block(r, from), bytes);
            memcpy(next.fine + to * fine, r->fine + from * fine, fine);
            memcpy(next.slots + to * RV_ONEBIT_ROWS, r->slots + (size_t)from * RV_ONEBIT_ROWS,
                   RV_ONEBIT_ROWS * sizeof *r->slots);
            next.before[to] = i > 0 ? (uint32_t)to - 1 : RABITQ_NONE;
            next.owner[to] = list;
        }
        r->newest[list] = n ? (uint32_t)(next.head.n_blocks + n - 1) : RABITQ_NONE;
        next.head.n_blocks += n;
    }
    rv_free(r->mem, r->blocks);
    rv_free(r->mem, r->fine);
    rv_free(r->mem, r->slots);
    rv_free(r->mem, r->before);
    rv_free(r->mem, r->owner);
    r->blocks = next.blocks, r->fine = next.fine, r->slots = next.slots, r->before = next.before,
    r->owner = next.owner;
    r->head.n_blocks = next.head.n_blocks, r->head.n_free = 0, r->blocks_room = next.blocks_room;
    r->scattered = 0;
    for (size_t place = 0; place < r->head.n_blocks * RV_ONEBIT_ROWS; place++) {
        if (r->slots[place] != RABITQ_NONE) {
            r->places[r->slots[place]] = (uint32_t)place;
        }
    }
}

/* ---- rules ---- */

/* One list; marks the slots it holds in seen. */
static rv_err check_list(const rabitq *r, uint32_t list, uint64_t *seen)
{
    uint32_t block = r->newest[list];
    size_t left = r->counts[list];
    if ((left == 0) != (block == RABITQ_NONE)) {
        return rv_fail(RV_E_CORRUPT, "index: list %u has %zu rows and newest block %u", list, left, block);
    }
    for (; left > 0; block = r->before[block]) {
        if (block >= r->head.n_blocks || r->owner[block] != list) {
            return rv_fail(RV_E_CORRUPT, "index: list %u goes on in block %u, which is not its own", list,
                           block);
        }
        size_t n = (left - 1) % RV_ONEBIT_ROWS + 1;
        for (size_t i = 0; i < n; i++) {
            uint32_t slot = r->slots[(size_t)block * RV_ONEBIT_ROWS + i];
            if (slot >= r->rows->n || !rv_rows_live(r->rows, slot) || (seen[slot / 64] >> slot % 64 & 1)) {
                return rv_fail(RV_E_CORRUPT,
                               "index: list %u holds slot %u, which is not there or in a list twice", list,
                               slot);
            }
            seen[slot / 64] |= (uint64_t)1 << slot % 64;
        }
        left -= n;
    }
    return block == RABITQ_NONE ? RV_OK
                                : rv_fail(RV_E_CORRUPT, "index: list %u does not end at its end", list);
}

rv_err rabitq_check(const rabitq *r)
{
    uint64_t *seen = rv_new_array(r->mem, r->rows->n / 64 + 1, sizeof *seen);
    if (!seen) {
        return rv_fail(RV_E_NOMEM, "no memory to check an index");
    }
    rv_err e = RV_OK;
    size_t n = 0, used = 0;
    for (uint32_t list = 0; list < r->head.n_lists && !e; list++) {
        e = check_list(r, list, seen);
        n += r->counts[list];
        used += (r->counts[list] + RV_ONEBIT_ROWS - 1) / RV_ONEBIT_ROWS;
    }
    rv_free(r->mem, seen);
    if (!e && n != r->rows->n_live) {
        e = rv_fail(RV_E_CORRUPT, "index: lists hold %zu rows of %zu", n, r->rows->n_live);
    }
    uint32_t block = r->head.free;
    for (size_t i = 0; i < r->head.n_free && !e; i++, block = r->before[block]) {
        if (block >= r->head.n_blocks || r->owner[block] != RABITQ_NONE) {
            e = rv_fail(RV_E_CORRUPT, "index: block %u is free and in use", block);
            break;
        }
    }
    if (!e && used + r->head.n_free != r->head.n_blocks) {
        e = rv_fail(RV_E_CORRUPT, "index: %zu blocks in lists and %u free, of %u", used, r->head.n_free,
                    r->head.n_blocks);
    }
    for (size_t slot = 0; slot < r->places_room && !e; slot++) {
        uint32_t place = r->places[slot];
        if (place != RABITQ_NONE && (place / RV_ONEBIT_ROWS >= r->head.n_blocks || r->slots[place] != slot)) {
            e = rv_fail(RV_E_CORRUPT, "index: slot %zu is not at its place %u", slot, place);
        }
    }
    return e;
}

void rabitq_free_lists(rabitq *r)
{
    void *ours[] = { r->centres,      r->widths,        r->newest,   r->counts,
                     r->centre_codes, r->centre_scales, r->group_of, r->group_next,
                     r->group_first,  r->group_centres, r->places };
    void *blocks[] = { r->blocks, r->fine, r->slots, r->before, r->owner };
    for (size_t i = 0; i < RV_COUNT(ours); i++) {
        rv_free(r->mem, ours[i]);
    }
    for (size_t i = 0; i < RV_COUNT(blocks) && !r->mapped; i++) {
        rv_free(r->mem, blocks[i]);
    }
}
