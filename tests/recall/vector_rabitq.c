/* RaBitQ, and product quantisation, find what exact search finds: after building, adding, removing, compacting and opening again, in few and many
 * dimensions, under every metric and filter. What is removed never comes back, and k rows are found where k rows are. */
#include "base/rng.h"
#include "test.h"
#include "vector/rabitq_priv.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 2600, BUILT = 2000, QUERIES = 24, K = 10 };

/* Forty clusters of different width; queries come from the same. */
static float *clustered(size_t n, size_t dim, uint64_t seed, rv_index_metric metric)
{
    enum { CLUSTERS = 40 };
    float *centres = malloc(CLUSTERS * dim * sizeof *centres), *rows = fenced_floats(n * dim);
    rv_rng rng;
    rv_rng_init(&rng, 5);
    for (size_t i = 0; i < CLUSTERS * dim; i++) {
        centres[i] = rv_rng_normal(&rng);
    }
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        size_t c = rv_rng_below(&rng, CLUSTERS);
        double length = 0;
        for (size_t d = 0; d < dim; d++) {
            float x = centres[c * dim + d] + rv_rng_normal(&rng) * (0.3f + 0.02f * (float)c);
            rows[i * dim + d] = x;
            length += (double)x * (double)x;
        }
        for (size_t d = 0; d < dim && metric == RV_INDEX_COS; d++) {
            rows[i * dim + d] = (float)((double)rows[i * dim + d] / sqrt(length));
        }
    }
    free(centres);
    return rows;
}

/* ---- a plain array that does the same ---- */

typedef struct twin {
    rv_index *index;
    rv_index_metric metric;
    size_t dim;
    const float *rows; /* [ROWS][dim] ids are places here */
    bool live[ROWS];
    size_t n_live;
    const rv_filter *filter;
} twin;

static double exact_score(const twin *t, const float *query, size_t row)
{
    double sum = 0;
    for (size_t d = 0; d < t->dim; d++) {
        double x = (double)t->rows[row * t->dim + d], q = (double)query[d];
        sum += t->metric == RV_INDEX_L2 ? -(x - q) * (x - q) : x * q;
    }
    return sum;
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

static void add(twin *t, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        CHECK_OK(rv_index_reserve(t->index, 1));
        rv_index_add(t->index, (int64_t)i, t->rows + i * t->dim);
        t->live[i] = true;
        t->n_live++;
    }
}

static void drop(twin *t, const int64_t *ids, size_t n)
{
    CHECK_OK(rv_index_reserve(t->index, 0));
    CHECK(rv_index_remove(t->index, ids, n) == n, "all were there");
    for (size_t i = 0; i < n; i++) {
        t->live[ids[i]] = false;
        t->n_live--;
    }
}

/* Share of hits among the k best by score; everything else about them is checked. probes 0: as configured. */
static double recall(const twin *t, const float *queries, size_t k, size_t probes)
{
    double *scores = malloc(ROWS * sizeof *scores);
    rv_hit *hits = malloc((k + 1) * sizeof *hits);
    size_t right = 0, possible = 0;
    CHECK(rv_index_count(t->index) == t->n_live, "%zu of %zu", rv_index_count(t->index), t->n_live);
    for (size_t q = 0; q < QUERIES; q++) {
        const float *query = queries + q * t->dim;
        size_t n = 0, found;
        for (size_t i = 0; i < ROWS; i++) {
            if (t->live[i] && rv_filter_passes(t->filter, (int64_t)i)) {
                scores[n++] = exact_score(t, query, i);
            }
        }
        qsort(scores, n, sizeof *scores, descending);
        CHECK_OK(rv_index_search(t->index, query, &(rv_search){ .k = k, .ef = probes, .filter = t->filter },
                                 hits, &found));
        CHECK(found == (n < k ? n : k), "query %zu: %zu of %zu", q, found, n < k ? n : k);
        for (size_t i = 0; i < found; i++) {
            int64_t id = hits[i].id;
            CHECK(id >= 0 && id < ROWS && t->live[id] && rv_filter_passes(t->filter, id),
                  "query %zu: id %lld", q, (long long)id);
            double score = exact_score(t, query, (size_t)id), slack = 1e-4 * (1 + fabs(score));
            CHECK(fabs((double)hits[i].score - score) <= slack, "query %zu: score %g for %g", q,
                  (double)hits[i].score, score);
            CHECK(i == 0 || rv_hit_better(hits[i - 1], hits[i]), "query %zu: place %zu", q, i);
            right += score >= scores[found - 1] - slack;
        }
        possible += found;
    }
    free(scores);
    free(hits);
    return possible ? (double)right / (double)possible : 1;
}

static void expect(const twin *t, const float *queries, double floor, const char *when)
{
    CHECK_OK(rv_index_check(t->index));
    double got = recall(t, queries, K, 0);
    CHECK(got >= floor, "dim %zu metric %d %s: recall %.4f, floor %.3f", t->dim, t->metric, when, got, floor);
}

static void build(twin *t, size_t n, int threads)
{
    int64_t *ids = malloc(n * sizeof *ids);
    const float **rows = malloc(n * sizeof *rows);
    rv_pool *pool;
    CHECK_OK(rv_pool_new(&rv_heap, threads, &pool));
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int64_t)i;
        rows[i] = t->rows + i * t->dim;
        t->live[i] = true;
    }
    t->n_live = n;
    CHECK_OK(rv_index_build(t->index, pool, ids, rows, n, NULL, NULL));
    rv_pool_free(pool);
    free(rows);
    free(ids);
}

static void begin_with_bits(twin *t, const char *kind, size_t bits, size_t dim, rv_index_metric metric,
                            size_t lists)
{
    *t = (twin){ .dim = dim, .metric = metric, .rows = clustered(ROWS, dim, 11, metric) };
    const rv_index_config config = {
        .kind = kind, .dim = dim, .metric = metric, .lists = lists, .probes = 20, .bits = bits
    };
    CHECK_OK(rv_index_new(&rv_heap, &config, &t->index));
}

static void begin(twin *t, const char *kind, size_t dim, rv_index_metric metric, size_t lists)
{
    begin_with_bits(t, kind, 0, dim, metric, lists);
}

/* ---- files in memory ---- */

typedef struct file {
    uint8_t *bytes; /* 64-byte aligned */
    size_t n, room;
} file;

static rv_err append(void *self, const void *bytes, size_t n)
{
    file *f = self;
    if (f->n + n > f->room) {
        f->room = 2 * (f->n + n) + 4096;
        uint8_t *more = aligned_alloc(64, (f->room + 63) / 64 * 64);
        memcpy(more, f->bytes ? f->bytes : more, f->n);
        free(f->bytes);
        f->bytes = more;
    }
    memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
    return RV_OK;
}

static rv_err find(void *self, const int64_t *ids, size_t n, const float **rows)
{
    const twin *t = self;
    for (size_t i = 0; i < n; i++) {
        rows[i] = ids[i] >= 0 && ids[i] < ROWS ? t->rows + (size_t)ids[i] * t->dim : NULL;
    }
    return RV_OK;
}

static file reopen(twin *t)
{
    file f = { 0 };
    CHECK_OK(rv_index_save(t->index, append, &f));
    rv_index_free(t->index);
    CHECK_OK(rv_index_open(&rv_heap, f.bytes, f.n, find, t, &t->index));
    return f;
}

/* ---- floors ---- */

static void life_with_bits(const char *kind, size_t bits, size_t dim, rv_index_metric metric, double floor)
{
    twin *t = malloc(sizeof *t);
    begin_with_bits(t, kind, bits, dim, metric, 60);
    float *queries = clustered(QUERIES, dim, 12, metric);
    build(t, BUILT, 2);
    expect(t, queries, floor, "built");
    add(t, BUILT, ROWS);
    expect(t, queries, floor, "rows added");
    file saved = reopen(t);
    expect(t, queries, floor, "opened");
    int64_t ids[ROWS];
    size_t n = 0;
    for (size_t i = 0; i < ROWS; i++) {
        if (i % 3 == 0) {
            ids[n++] = (int64_t)i;
        }
    }
    drop(t, ids, n);
    expect(t, queries, floor, "a third removed");
    while (rv_index_repair(t->index, 1000)) {
    }
    expect(t, queries, floor, "repaired");
    for (size_t i = 0; i < ROWS; i += 6) {
        add(t, i, i + 1);
    }
    expect(t, queries, floor, "some added again");
    file again = reopen(t);
    expect(t, queries, floor, "opened again");
    rv_index_free(t->index);
    free(saved.bytes);
    free(again.bytes);
    free(t);
}

static void life(const char *kind, size_t dim, rv_index_metric metric, double floor)
{
    life_with_bits(kind, 0, dim, metric, floor);
}

TEST(recall_stays_above_its_floor_in_1_dimension)
{
    life("rabitq", 1, RV_INDEX_L2, 0.95);
}
TEST(recall_stays_above_its_floor_in_3_dimensions)
{
    life("rabitq", 3, RV_INDEX_L2, 0.98);
}
TEST(recall_stays_above_its_floor_in_100_dimensions)
{
    life("rabitq", 100, RV_INDEX_L2, 0.98);
}
TEST(recall_stays_above_its_floor_in_127_dimensions)
{
    life("rabitq", 127, RV_INDEX_COS, 0.97);
}
TEST(recall_stays_above_its_floor_in_128_dimensions)
{
    life("rabitq", 128, RV_INDEX_L2, 0.98);
    life("rabitq", 128, RV_INDEX_IP, 0.95);
}
TEST(recall_stays_above_its_floor_in_384_dimensions)
{
    life("rabitq", 384, RV_INDEX_COS, 0.97);
}
TEST(recall_stays_above_its_floor_in_1536_dimensions)
{
    life("rabitq", 1536, RV_INDEX_COS, 0.97);
}

TEST(recall_stays_above_its_floor_with_finer_codes)
{
    for (size_t bits = 2; bits <= RABITQ_BITS_MAX; bits++) {
        life_with_bits("rabitq", bits, 32 + 47 * (bits - 2), (rv_index_metric)(bits % 3),
                       bits % 3 == 2 ? 0.95 : 0.97);
    }
    life_with_bits("rabitq", 2, 3, RV_INDEX_L2, 0.97);
    life_with_bits("rabitq", 4, 1, RV_INDEX_L2, 0.95);
}

/* What rabitq_make_fine promises: no bias, an error that halves with every bit. */
TEST(finer_codes_estimate_without_bias_and_better_with_every_bit)
{
    enum { DIM = 256, N = 400 };
    double before = 1;
    for (size_t bits = 2; bits <= RABITQ_BITS_MAX; bits++) {
        twin *t = malloc(sizeof *t);
        begin_with_bits(t, "rabitq", bits, DIM, RV_INDEX_L2, 1);
        build(t, N, 1);
        const rabitq *r = t->index->self;
        float rotated[DIM], row[DIM], estimates[1], centre_sum = 0;
        int8_t code[DIM];
        int32_t sums[1];
        double sum = 0, squares = 0;
        for (size_t i = 0; i < N; i++) {
            const float *query = t->rows + (N + i) * DIM;
            const rv_row_query asked = rv_rows_ask(&t->index->rows, query, rotated, code);
            const rabitq_fine_query fine = rabitq_ask_fine(r, code, asked.pull / -2);
            uint32_t slot = rv_rows_find(&t->index->rows, (int64_t)i);
            float base = r->rows->kernels->l2sq_f32(rotated, rabitq_centre(r, 0), DIM);
            rabitq_fine_distances(r, &fine, base, &r->places[slot], 1, sums, estimates);
            rabitq_decode(r, slot, row);
            double exact = (double)r->rows->kernels->l2sq_f32(rotated, row, DIM);
            sum += (double)estimates[0] / exact - 1;
            squares += ((double)estimates[0] / exact - 1) * ((double)estimates[0] / exact - 1);
            centre_sum += base;
        }
        double bias = fabs(sum / N), deviation = sqrt(squares / N);
        CHECK(bias <= 4 * deviation / sqrt(N) + 1e-4, "%zu bits: off by %g of %g", bits, bias, deviation);
        CHECK(deviation <= 0.12 / (double)(1 << bits) + 0.004, "%zu bits: deviation %g", bits, deviation);
        CHECK(deviation < before, "%zu bits: deviation %g, with one less %g", bits, deviation, before);
        CHECK(centre_sum > 0, "queries are not the centre");
        before = deviation + 0.002; /* from 7 bits on the query's own rounding is all that is left */
        rv_index_free(t->index);
        free(t);
    }
}

TEST(product_quantisation_stays_above_its_floor_in_any_dimension)
{
    static const size_t dims[] = { 1, 3, 100, 127, 128, 384, 1536 };
    for (size_t d = 0; d < RV_COUNT(dims); d++) {
        life("pq", dims[d], dims[d] == 384 ? RV_INDEX_COS : dims[d] == 127 ? RV_INDEX_IP : RV_INDEX_L2, 0.97);
    }
}

TEST(all_lists_probed_leave_only_the_errors_of_the_codes)
{
    twin *t = malloc(sizeof *t);
    begin(t, "rabitq", 96, RV_INDEX_L2, 50);
    float *queries = clustered(QUERIES, 96, 13, RV_INDEX_L2);
    build(t, ROWS, 1);
    double got = recall(t, queries, K, 50);
    CHECK(got >= 0.99, "recall %.4f", got);
    rv_index_free(t->index);
    free(t);
}

TEST(rows_added_one_by_one_to_nothing_make_their_own_lists)
{
    twin *t = malloc(sizeof *t);
    begin(t, "rabitq", 48, RV_INDEX_L2, 0);
    float *queries = clustered(QUERIES, 48, 14, RV_INDEX_L2);
    add(t, 0, ROWS);
    const rabitq *r = t->index->self;
    CHECK(r->head.n_lists > 3, "%u lists", r->head.n_lists);
    expect(t, queries, 0.98, "added one by one");
    rv_index_free(t->index);
    free(t);
}

TEST(the_ten_nearest_removed_the_next_ten_are_found)
{
    twin *t = malloc(sizeof *t);
    begin(t, "rabitq", 64, RV_INDEX_L2, 40);
    float *queries = clustered(QUERIES, 64, 15, RV_INDEX_L2);
    build(t, ROWS, 1);
    for (size_t q = 0; q < QUERIES; q++) {
        rv_hit hits[K];
        size_t found;
        CHECK_OK(rv_index_search(t->index, queries + q * 64, &(rv_search){ .k = K }, hits, &found));
        for (size_t i = 0; i < found; i++) {
            drop(t, &hits[i].id, 1);
        }
        rv_hit next[K];
        CHECK_OK(rv_index_search(t->index, queries + q * 64, &(rv_search){ .k = K }, next, &found));
        CHECK(found == K, "query %zu: %zu", q, found);
        for (size_t i = 0; i < K; i++) {
            CHECK(t->live[next[i].id], "query %zu: %lld was removed", q, (long long)next[i].id);
        }
    }
    expect(t, queries, 0.98, "nearest removed");
    rv_index_free(t->index);
    free(t);
}

TEST(equal_rows_and_zeros_are_all_found)
{
    enum { DIM = 32 };
    twin *t = malloc(sizeof *t);
    begin(t, "rabitq", DIM, RV_INDEX_L2, 0);
    float *rows = fenced_floats(ROWS * DIM); /* a third zero, a third all the same, the rest clustered */
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t d = 0; d < DIM; d++) {
            rows[i * DIM + d] = i % 3 == 0 ? 0 : i % 3 == 1 ? 1.5f : t->rows[i * DIM + d];
        }
    }
    t->rows = rows;
    add(t, 0, ROWS);
    expect(t, clustered(QUERIES, DIM, 16, RV_INDEX_L2), 0.98, "many equal");
    expect(t, fenced_floats(QUERIES * DIM), 0.98, "queries of zeros");
    rv_index_free(t->index);
    free(t);
}

/* ---- filters ---- */

static bool one_in(const void *self, int64_t id)
{
    return id % *(const int64_t *)self == 0;
}

TEST(filters_find_k_rows_where_k_rows_pass)
{
    static const int64_t parts[] = { 1, 2, 7, 50, 400, ROWS + 1 }; /* the last: id 0 only */
    twin *t = malloc(sizeof *t);
    begin(t, "rabitq", 64, RV_INDEX_L2, 60);
    float *queries = clustered(QUERIES, 64, 17, RV_INDEX_L2);
    build(t, ROWS, 1);
    for (size_t p = 0; p < RV_COUNT(parts); p++) {
        static uint64_t bits[ROWS / 64 + 1];
        memset(bits, 0, sizeof bits);
        for (int64_t id = 0; id < ROWS; id += parts[p]) {
            bits[id / 64] |= (uint64_t)1 << id % 64;
        }
        const rv_filter by_bits = { .bits = bits, .n_bits = ROWS },
                        by_asking = { .passes = one_in, .self = &parts[p] };
        t->filter = &by_bits;
        double got = recall(t, queries, K, 0);
        CHECK(got >= 0.97, "one in %lld by bits: recall %.4f", (long long)parts[p], got);
        t->filter = &by_asking;
        got = recall(t, queries, K, 0);
        CHECK(got >= 0.95, "one in %lld by asking: recall %.4f", (long long)parts[p], got);
        got = recall(t, queries, 300, 3);
        CHECK(got >= 0.8, "one in %lld, 300 of 3 lists: recall %.4f", (long long)parts[p], got);
    }
    const rv_filter nobody = { .bits = (uint64_t[]){ 0 }, .n_bits = 0 };
    t->filter = &nobody;
    CHECK(recall(t, queries, K, 0) == 1, "nothing passes");
    rv_index_free(t->index);
    free(t);
}

/* ---- operations in any order ---- */

TEST(random_operations_agree_with_a_plain_array)
{
    enum { DIM = 33, STEPS = 400 };
    twin *t = malloc(sizeof *t);
    begin(t, "rabitq", DIM, RV_INDEX_L2, 0);
    float *queries = clustered(QUERIES, DIM, 18, RV_INDEX_L2);
    file bytes = { 0 };
    rv_rng rng;
    rv_rng_init(&rng, 19);
    build(t, 900, 1);
    for (int step = 0; step < STEPS; step++) {
        uint64_t what = rv_rng_below(&rng, 40);
        if (what < 26) { /* more come than go */
            size_t n = rv_rng_below(&rng, 12);
            for (size_t i = 0; i < n; i++) {
                size_t row = rv_rng_below(&rng, ROWS);
                if (!t->live[row]) {
                    add(t, row, row + 1);
                }
            }
        } else if (what < 36) {
            int64_t ids[64];
            size_t n = 0;
            for (int64_t id = (int64_t)rv_rng_below(&rng, ROWS / 2); id < ROWS && n < 40; id += 29) {
                if (t->live[id]) {
                    ids[n++] = id;
                }
            }
            drop(t, ids, n);
        } else if (what < 37) {
            while (rv_index_repair(t->index, 100)) {
            }
        } else if (what < 38) {
            file next = reopen(t);
            free(bytes.bytes);
            bytes = next;
        } else {
            expect(t, queries, 0.97, "in between");
        }
    }
    expect(t, queries, 0.97, "at the end");
    rv_index_free(t->index);
    free(bytes.bytes);
    free(t);
}

/* ---- levels and threads ---- */

TEST(every_level_finds_the_same_rows)
{
    enum { DIM = 200 };
    twin *t = malloc(sizeof *t);
    begin(t, "rabitq", DIM, RV_INDEX_COS, 50);
    float *queries = clustered(QUERIES, DIM, 20, RV_INDEX_COS);
    build(t, ROWS, 2);
    file f = reopen(t);
    rv_hit want[QUERIES][K];
    for (int l = 0; l < RV_CPU_LEVELS; l++) {
        if (!rv_kernels_at((rv_cpu_level)l)) {
            continue;
        }
        rv_index *index;
        setenv("RV_CPU", rv_cpu_level_name((rv_cpu_level)l), 1);
        CHECK_OK(rv_index_open(&rv_heap, f.bytes, f.n, find, t, &index));
        unsetenv("RV_CPU");
        for (size_t q = 0; q < QUERIES; q++) {
            rv_hit hits[K];
            size_t found;
            CHECK_OK(
                rv_index_search(index, queries + q * DIM, &(rv_search){ .k = K, .ef = 5 }, hits, &found));
            CHECK(found == K, "%zu", found);
            for (size_t i = 0; i < K; i++) {
                CHECK(l == RV_CPU_SCALAR || hits[i].id == want[q][i].id,
                      "%s query %zu place %zu: %lld for %lld", rv_cpu_level_name((rv_cpu_level)l), q, i,
                      (long long)hits[i].id, (long long)want[q][i].id);
            }
            if (l == RV_CPU_SCALAR) {
                memcpy(want[q], hits, sizeof hits);
            }
        }
        rv_index_free(index);
    }
    rv_index_free(t->index);
    free(f.bytes);
    free(t);
}

TEST(the_number_of_threads_does_not_change_a_build)
{
    file files[2] = { { 0 } };
    for (int i = 0; i < 2; i++) {
        twin *t = malloc(sizeof *t);
        begin(t, "rabitq", 72, RV_INDEX_L2, 0);
        build(t, ROWS, i == 0 ? 1 : 3);
        CHECK_OK(rv_index_save(t->index, append, &files[i]));
        rv_index_free(t->index);
        free(t);
    }
    CHECK(files[0].n == files[1].n && memcmp(files[0].bytes, files[1].bytes, files[0].n) == 0,
          "%zu and %zu bytes", files[0].n, files[1].n);
    free(files[0].bytes);
    free(files[1].bytes);
}

/* ---- many lists ---- */

TEST(lists_in_groups_find_what_all_lists_find)
{
    enum { DIM = 16, MANY = 9000 };
    static const rv_index_config config = {
        .kind = "rabitq", .dim = DIM, .metric = RV_INDEX_L2, .lists = 4500, .probes = 64
    };
    float *rows = clustered(MANY, DIM, 21, RV_INDEX_L2), *queries = clustered(QUERIES, DIM, 22, RV_INDEX_L2);
    int64_t *ids = malloc(MANY * sizeof *ids);
    const float **at = malloc(MANY * sizeof *at);
    for (size_t i = 0; i < MANY; i++) {
        ids[i] = (int64_t)i;
        at[i] = rows + i * DIM;
    }
    rv_index *index, *flat;
    CHECK_OK(rv_index_new(&rv_heap, &config, &index));
    CHECK_OK(rv_index_new(&rv_heap, &(rv_index_config){ .kind = "flat", .dim = DIM, .metric = RV_INDEX_L2 },
                          &flat));
    CHECK_OK(rv_index_build(index, NULL, ids, at, MANY, NULL, NULL));
    CHECK_OK(rv_index_build(flat, NULL, ids, at, MANY, NULL, NULL));
    CHECK(((rabitq *)index->self)->head.n_groups > 50, "%u groups", ((rabitq *)index->self)->head.n_groups);
    CHECK_OK(rv_index_check(index));
    ((rabitq *)index->self)->head.n_groups = 0; /* as if its lists had become many by splitting */
    (void)rv_index_repair(index, 1);
    CHECK(((rabitq *)index->self)->head.n_groups > 50, "%u groups", ((rabitq *)index->self)->head.n_groups);
    for (size_t i = 0; i < MANY; i += 30) { /* find their lists again through the groups */
        CHECK_OK(rv_index_reserve(index, 1));
        CHECK(rv_index_remove(index, &ids[i], 1) == 1, "id %zu", i);
        rv_index_add(index, ids[i], at[i]);
    }
    CHECK_OK(rv_index_check(index));
    size_t right = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        rv_hit hits[2][200];
        size_t found, all;
        CHECK_OK(rv_index_search(index, queries + q * DIM, &(rv_search){ .k = K }, hits[0], &found));
        CHECK_OK(rv_index_search(flat, queries + q * DIM, &(rv_search){ .k = K }, hits[1], &all));
        for (size_t i = 0; i < found; i++) {
            for (size_t j = 0; j < all; j++) {
                right += hits[0][i].id == hits[1][j].id;
            }
        }
        /* far more than the lists of the groups opened hold */
        CHECK_OK(
            rv_index_search(index, queries + q * DIM, &(rv_search){ .k = 200, .ef = 1 }, hits[0], &found));
        CHECK(found == 200, "query %zu: %zu", q, found);
    }
    CHECK((double)right / (QUERIES * K) >= 0.95, "recall %.3f", (double)right / (QUERIES * K));
    rv_index_free(index);
    rv_index_free(flat);
    free(ids);
    free(at);
}

/* ---- the estimate ---- */

/* Residuals and queries in random directions with a given cosine between them: the estimate has no bias, and leaves its bound
 * as often as a normal error leaves 1.9 deviations. */
TEST(estimates_have_no_bias_and_keep_their_bound)
{
    enum { DIM = 128, PAIRS = 20000 };
    static const double cosines[] = { 0, 0.3, 0.6, 0.9 };
    const rv_kernels *k = rv_kernels_best();
    rv_rng rng;
    rv_rng_init(&rng, 23);
    float centre[DIM] = { 0 }, dither[DIM];
    static _Alignas(64) uint8_t block[RV_ONEBIT_BLOCK_BYTES(DIM)], table[4 * DIM];
    for (size_t c = 0; c < RV_COUNT(cosines); c++) {
        double sum = 0, squares = 0;
        size_t beyond = 0;
        for (size_t pair = 0; pair < PAIRS; pair++) {
            float r[DIM], q[DIM];
            double rr = 0, qq = 0, rq = 0;
            for (size_t i = 0; i < DIM; i++) {
                r[i] = rv_rng_normal(&rng);
                q[i] = rv_rng_normal(&rng);
                dither[i] = (float)rv_rng_below(&rng, 1 << 16) / (1 << 16);
                rr += (double)r[i] * (double)r[i];
                rq += (double)r[i] * (double)q[i];
            }
            for (size_t i = 0; i < DIM; i++) { /* what is across, then as much along as the cosine says */
                q[i] = (float)((double)q[i] - rq / rr * (double)r[i]);
                qq += (double)q[i] * (double)q[i];
            }
            for (size_t i = 0; i < DIM; i++) {
                r[i] = (float)((double)r[i] / sqrt(rr));
                q[i] = (float)(sqrt(1 - cosines[c] * cosines[c]) * (double)q[i] / sqrt(qq) +
                               cosines[c] * (double)r[i]);
            }
            rabitq_factors f = rabitq_factors_of(r, DIM, RV_INDEX_L2, 1);
            memset(block, 0, sizeof block);
            for (size_t i = 0; i < DIM; i++) {
                block[16 * (i / 4)] |= (uint8_t)((r[i] >= 0) << i % 4);
            }
            const float zero = 0;
            memcpy(block + 4 * DIM, &f.add, 4);
            memcpy(block + 4 * DIM + 128, &f.slope, 4);
            memcpy(block + 4 * DIM + 256, &zero, 4);
            rv_onebit_query query = { .table = table, .dim = DIM };
            query.base = k->onebit_table(q, centre, dither, DIM, table, &query.step);
            query.offset = 7.5f * DIM * query.step;
            uint32_t at[RV_ONEBIT_ROWS];
            float estimate[RV_ONEBIT_ROWS];
            CHECK(k->onebit_scan(&query, block, 1, FLT_MAX, at, estimate) == 1, "one row");
            double product = (2 - (double)estimate[0]) / 2,
                   error = product - cosines[c]; /* both have length 1 */
            sum += error;
            squares += error * error;
            beyond += fabs(2 * error) > 1.9 * (double)f.error;
        }
        double mean = sum / PAIRS, deviation = sqrt(squares / PAIRS - mean * mean);
        CHECK(fabs(mean) <= 0.002 && fabs(mean) <= 4 * deviation / sqrt(PAIRS),
              "cosine %g: bias %g of deviation %g", cosines[c], mean, deviation);
        CHECK((double)beyond / PAIRS <= 0.07, "cosine %g: %.4f beyond the bound", cosines[c],
              (double)beyond / PAIRS);
    }
}
