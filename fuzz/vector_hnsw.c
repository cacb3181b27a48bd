/* A saved hnsw index with bytes changed. With checksums that fit: opening, searching and changing it may find less or refuse, but stays
 * inside its memory, and what passes its check keeps its rules through changes. Without: every answer is the right one, or
 * there is none.
 *
 * Input: one byte of operations, then patches of four bytes: offset (24 bits) and a byte to exclusive-or. */
#include "vector/index.h"
#include "vector_sums.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 5, ROWS = 300, FILE_ROOM = 1 << 20, FIX = 1, CHANGE = 2 };

static float rows[ROWS][DIM];
static _Alignas(64) uint8_t saved[FILE_ROOM], damaged[FILE_ROOM];
static size_t n_saved;
static rv_index *whole; /* out of the undamaged file */

static rv_err append(void *self, const void *bytes, size_t n)
{
    (void)self;
    assert(n_saved + n <= sizeof saved);
    memcpy(saved + n_saved, bytes, n);
    n_saved += n;
    return RV_OK;
}

static void make_saved(void)
{
    const rv_index_config config = { .kind = "hnsw",
                                     .dim = DIM,
                                     .metric = RV_INDEX_L2,
                                     .keep = RV_KEEP_F32,
                                     .m = 4,
                                     .ef_build = 16,
                                     .ef = 4 };
    rv_index *index;
    rv_rng rng;
    rv_rng_init(&rng, 1);
    bool ok = !rv_index_new(&rv_heap, &config, &index) && !rv_index_reserve(index, ROWS);
    assert(ok);
    for (int64_t i = 0; i < ROWS; i++) {
        for (size_t d = 0; d < DIM; d++) {
            rows[i][d] = rv_rng_normal(&rng);
        }
        rv_index_add(index, i, rows[i]);
    }
    for (int64_t i = 7; i < ROWS; i += 50) { /* holes */
        rv_index_remove(index, &i, 1);
    }
    ok = ok && !rv_index_save(index, append, NULL);
    assert(ok);
    rv_index_free(index);
    ok = ok && !rv_index_open(&rv_heap, saved, n_saved, NULL, NULL, &whole);
    assert(ok);
}

/* The same as without damage. */
static void compare(size_t row, size_t k, const rv_hit *hits, size_t found)
{
    rv_hit right[64];
    size_t n = 0;
    rv_err e = rv_index_search(whole, rows[row], &(rv_search){ .k = k }, right, &n);
    assert(!e && n == found && same_hits(right, hits, n));
    (void)e;
    (void)hits;
    (void)found;
}

static void search(rv_index *index, size_t row, size_t k, bool fixed)
{
    rv_hit hits[64];
    size_t found = 0;
    if (rv_index_search(index, rows[row], &(rv_search){ .k = k }, hits, &found) == RV_OK) {
        assert(found <= k);
        for (size_t i = 1; i < found; i++) {
            assert(!(hits[i].score > hits[i - 1].score));
        }
        if (!fixed) {
            compare(row, k, hits, found);
        }
    }
}

static void change(rv_index *index)
{
    if (rv_index_reserve(index, 40)) {
        return;
    }
    int64_t ids[30];
    for (int64_t i = 0; i < 30; i++) {
        ids[i] = i * 9;
    }
    (void)rv_index_remove(index, ids, 30);
    for (int64_t id = ROWS; id < ROWS + 40; id++) {
        if (!rv_index_has(index, id)) {
            rv_index_add(index, id, rows[id - ROWS]);
        }
    }
    while (rv_index_repair(index, 100)) {
    }
    search(index, 3, 40, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n_saved == 0) {
        make_saved();
    }
    if (n < 1 || n > 4096) {
        return 0;
    }
    memcpy(damaged, saved, n_saved);
    for (size_t i = 1; i + 4 <= n; i += 4) {
        size_t at = (size_t)data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16;
        damaged[at % n_saved] ^= data[i + 3];
    }
    bool fixed = data[0] & FIX;
    if (fixed) {
        fix_header(damaged);
        fix_pages(damaged, n_saved);
    }
    rv_index *index;
    if (rv_index_open(&rv_heap, damaged, n_saved, NULL, NULL, &index)) {
        return 0;
    }
    if (rv_index_get_config(index)->dim == DIM) { /* the rows that are asked for have so many */
        search(index, data[0] % ROWS, 2, fixed);
        search(index, (size_t)data[0] + 20, 20, fixed);
        bool good = rv_index_check(index) == RV_OK;
        if (data[0] & CHANGE) {
            change(index);
            rv_err e = rv_index_check(index);
            assert(!good || e == RV_OK);
            (void)e;
            (void)good;
        }
    }
    rv_index_free(index);
    return 0;
}
