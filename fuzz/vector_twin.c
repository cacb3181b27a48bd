/* Bytes become operations on an index and on a plain array; the two have to agree about what is there, what passes a filter and
 * what is nearest.
 *
 * Input: kind and dimension, metric and way to keep rows, then operations of one byte each with what they need behind them. Input that
 * ends early goes on as zeros. */
#include "vector/index.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IDS = 96, DIM_MAX = 9, K_MAX = 12, FILE_ROOM = 1 << 20, SEEDED = 1100 };

static const struct {
    const char *name;
    size_t bits;
} kinds[] = { { "flat", 0 }, { "hnsw", 0 }, { "rabitq", 0 }, { "rabitq", 3 }, { "pq", 0 } };

typedef struct bytes {
    const uint8_t *at;
    size_t n;
} bytes;

static uint8_t take(bytes *in)
{
    if (in->n == 0) {
        return 0;
    }
    in->n--;
    return *in->at++;
}

typedef struct twin {
    rv_index *index;
    size_t dim;
    rv_index_metric metric;
    float rows[IDS + SEEDED][DIM_MAX];
    bool there[IDS + SEEDED];
    size_t n_there;
} twin;

static _Alignas(64) uint8_t files[2][FILE_ROOM];
static size_t n_file;

static rv_err append(void *self, const void *from, size_t n)
{
    assert(n_file + n <= FILE_ROOM);
    memcpy((uint8_t *)self + n_file, from, n);
    n_file += n;
    return RV_OK;
}

static void take_vec(bytes *in, const twin *t, float *out)
{
    for (size_t d = 0; d < t->dim; d++) {
        out[d] = (float)(int8_t)take(in) / 16;
    }
}

static double score(const twin *t, const float *query, size_t id)
{
    double sum = 0;
    for (size_t d = 0; d < t->dim; d++) {
        double a = (double)query[d], b = (double)t->rows[id][d];
        sum += t->metric == RV_INDEX_L2 ? -(a - b) * (a - b) : a * b;
    }
    return sum;
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

static void search(const twin *t, bytes *in)
{
    float query[DIM_MAX] = { 0 };
    uint64_t bits[(IDS + SEEDED) / 64 + 1];
    take_vec(in, t, query);
    uint8_t pass = take(in);
    memset(bits, 0, sizeof bits);
    for (size_t id = 0; id < IDS + SEEDED; id++) {
        bits[id / 64] |= (uint64_t)(id % 8 <= pass % 8u) << id % 64;
    }
    const rv_filter filter = { .bits = bits, .n_bits = IDS + SEEDED };
    const rv_filter *used = pass & 8 ? &filter : NULL;
    rv_search how = { .k = take(in) % (K_MAX + 1), .filter = used, .way = take(in) % RV_WAYS };
    double scores[IDS + SEEDED];
    size_t n = 0, found = 0;
    for (size_t id = 0; id < IDS + SEEDED; id++) {
        if (t->there[id] && (!used || bits[id / 64] >> id % 64 & 1)) {
            scores[n++] = score(t, query, id);
        }
    }
    qsort(scores, n, sizeof *scores, descending);
    rv_hit hits[K_MAX];
    rv_err e = rv_index_search(t->index, query, &how, hits, &found);
    assert(!e && found == (n < how.k ? n : how.k));
    (void)e;
    for (size_t i = 0; i < found; i++) {
        size_t id = (size_t)hits[i].id;
        assert(hits[i].id >= 0 && id < IDS + SEEDED && t->there[id]);
        assert(!used || (bits[id / 64] >> id % 64 & 1));
        assert(fabs((double)hits[i].score - score(t, query, id)) <= 1e-3);
        assert(i == 0 || hits[i - 1].score >= hits[i].score);
        assert(how.way != RV_WAY_EXACT || fabs((double)hits[i].score - scores[i]) <= 1e-3);
        for (size_t j = 0; j < i; j++) {
            assert(hits[j].id != hits[i].id);
        }
    }
}

static void put(twin *t, size_t id)
{
    t->n_there += !t->there[id];
    t->there[id] = true;
}

/* Many rows at once: lists, product codes and batches of the graph are made. */
static void build(twin *t, uint8_t seed)
{
    int64_t ids[SEEDED];
    const float *rows[SEEDED];
    size_t n = 0;
    uint32_t x = seed + 1u;
    for (size_t id = IDS; id < IDS + SEEDED; id++) {
        if (t->there[id]) {
            continue;
        }
        for (size_t d = 0; d < t->dim; d++) {
            x = x * 1664525 + 1013904223;
            t->rows[id][d] = (float)(int8_t)(x >> 24) / 16;
        }
        ids[n] = (int64_t)id;
        rows[n++] = t->rows[id];
    }
    rv_err e = rv_index_build(t->index, NULL, ids, rows, n, NULL, NULL);
    assert(!e);
    (void)e;
    for (size_t i = 0; i < n; i++) {
        put(t, (size_t)ids[i]);
    }
}

static void reopen(twin *t, int which)
{
    n_file = 0;
    rv_err e = rv_index_save(t->index, append, files[which]);
    assert(!e);
    rv_index_free(t->index);
    e = rv_index_open(&rv_heap, files[which], n_file, NULL, NULL, &t->index);
    assert(!e && rv_index_check(t->index) == RV_OK);
    (void)e;
}

static void step(twin *t, bytes *in, int *file)
{
    uint8_t what = take(in);
    size_t id = what / 8 * 3 % IDS;
    rv_err e = rv_index_reserve(t->index, 1);
    assert(!e);
    (void)e;
    switch (what % 8) {
    case 0:
    case 1:
    case 2:
        if (!t->there[id]) {
            take_vec(in, t, t->rows[id]);
            rv_index_add(t->index, (int64_t)id, t->rows[id]);
            put(t, id);
        }
        break;
    case 3:
        id = take(in) % 16 ? id : IDS + (size_t)take(in) * 4 % SEEDED;
        t->n_there -= rv_index_remove(t->index, &(int64_t){ (int64_t)id }, 1);
        t->there[id] = false;
        break;
    case 4: (void)rv_index_repair(t->index, take(in)); break;
    case 5:
        if (what > 200) {
            build(t, take(in));
        } else if (what > 150) {
            reopen(t, *file ^= 1); /* what was opened last stands in the other one */
        }
        break;
    default: search(t, in);
    }
    assert(rv_index_count(t->index) == t->n_there && rv_index_has(t->index, (int64_t)id) == t->there[id]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static twin t; /* large */
    bytes in = { data, n };
    memset(&t, 0, sizeof t);
    uint8_t kind = take(&in), more = take(&in);
    t.dim = 1 + kind / 8 % DIM_MAX;
    t.metric = more % 2 ? RV_INDEX_L2 : RV_INDEX_IP;
    const rv_index_config config = { .kind = kinds[kind % 8 % RV_COUNT(kinds)].name,
                                     .bits = kinds[kind % 8 % RV_COUNT(kinds)].bits,
                                     .dim = t.dim,
                                     .metric = t.metric,
                                     .keep = RV_KEEP_F32,
                                     .rotation = more & 2 ? RV_ROTATION_HAAR : RV_ROTATION_HADAMARD,
                                     .m = 4,
                                     .ef_build = 12,
                                     .ef = 8,
                                     .lists = 12,
                                     .probes = 3 };
    rv_err e = rv_index_new(&rv_heap, &config, &t.index);
    assert(!e);
    (void)e;
    for (int file = 0, steps = 0; in.n > 0 && steps < 300; steps++) {
        step(&t, &in, &file);
    }
    assert(rv_index_check(t.index) == RV_OK);
    rv_index_free(t.index);
    return 0;
}
