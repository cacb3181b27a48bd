/* A saved index of lists (with finer codes or without), of product codes or of vectors alone with bytes changed. With checksums that fit:
 * opening, searching and changing it may find less or refuse, but stays inside its memory, and what passes its check keeps its
 * rules through changes. Without: every answer is the right one, or there is none.
 *
 * Input: one byte of operations (its two highest bits say which index, the next one not to fix checksums), then patches of five bytes: offset (24 bits), a byte, and how it goes in. */
#include "vector/rabitq_priv.h"
#include "vector_sums.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 17, ROWS = 1200, FILE_ROOM = 1 << 20, WHICH = 6, UNFIXED = 1 << 5 };

static float rows[ROWS][DIM];
static const struct {
    const char *name;
    size_t bits;
} kinds[] = { { "rabitq", 1 }, { "rabitq", 3 }, { "pq", 0 }, { "flat", 0 } };
static _Alignas(64) uint8_t saved[RV_COUNT(kinds)][FILE_ROOM], damaged[FILE_ROOM];
static size_t n_saved[RV_COUNT(kinds)];
static rv_index *whole[RV_COUNT(kinds)]; /* out of the undamaged files */

static rv_err append(void *self, const void *bytes, size_t n)
{
    int which = *(int *)self;
    assert(n_saved[which] + n <= FILE_ROOM);
    memcpy(saved[which] + n_saved[which], bytes, n);
    n_saved[which] += n;
    return RV_OK;
}

static void make_saved(int which)
{
    const rv_index_config config = { .kind = kinds[which].name,
                                     .dim = DIM,
                                     .metric = RV_INDEX_L2,
                                     .keep = RV_KEEP_F32,
                                     .lists = 9,
                                     .probes = 3,
                                     .bits = kinds[which].bits };
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
    ok = ok && !rv_index_save(index, append, &which);
    assert(ok);
    rv_index_free(index);
    ok = ok && !rv_index_open(&rv_heap, saved[which], n_saved[which], NULL, NULL, &whole[which]);
    assert(ok);
}

/* right: an index that has to give the same answer; NULL: there is none */
static void search(rv_index *index, rv_index *right, size_t row, size_t k)
{
    rv_hit hits[64];
    size_t found = 0;
    if (rv_index_search(index, rows[row], &(rv_search){ .k = k }, hits, &found) == RV_OK) {
        assert(found <= k);
        for (size_t i = 1; i < found; i++) {
            assert(!(hits[i].score > hits[i - 1].score));
        }
        if (right) {
            rv_hit same[64];
            size_t n = 0;
            rv_err e = rv_index_search(right, rows[row], &(rv_search){ .k = k }, same, &n);
            assert(!e && n == found && same_hits(same, hits, n));
            (void)e;
        }
    }
}

static void change(rv_index *index, unsigned what)
{
    if (rv_index_reserve(index, 2)) {
        return; /* it says that it is damaged */
    }
    int64_t ids[] = { what, what + 300, ROWS + 1 };
    (void)rv_index_remove(index, ids, 3);
    for (int64_t id = ROWS + 5; id < ROWS + 7; id++) {
        if (!rv_index_has(index, id)) {
            rv_index_add(index, id, rows[what]);
        }
    }
    while (rv_index_repair(index, 100)) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    const int which = data[0] >> WHICH;
    const bool fixed = !(data[0] & UNFIXED);
    if (n_saved[which] == 0) {
        make_saved(which);
    }
    memcpy(damaged, saved[which], n_saved[which]);
    for (size_t at = 1; at + 5 <= n; at += 5) {
        size_t offset = (data[at] | (size_t)data[at + 1] << 8 | (size_t)data[at + 2] << 16) % n_saved[which];
        damaged[offset] = data[at + 4] % 2 ? data[at + 3] : damaged[offset] ^ data[at + 3];
    }
    if (fixed) {
        fix_header(damaged);
        fix_pages(damaged, n_saved[which]);
    }
    rv_index *index;
    if (rv_index_open(&rv_heap, damaged, n_saved[which], NULL, NULL, &index)) {
        return 0;
    }
    if (strcmp(rv_index_get_config(index)->kind, kinds[which].name) == 0 &&
        rv_index_get_config(index)->dim == DIM) {
        rv_index *right = fixed ? NULL : whole[which];
        search(index, right, data[0], 7);
        search(index, right, data[0] + 200u, 64);
        bool sound = !index->ops->check || index->ops->check(index) == RV_OK;
        if (data[0] % 2 && sound) {
            change(index, data[0]);
            search(index, NULL, data[0], 7);
        }
    }
    rv_index_free(index);
    return 0;
}
