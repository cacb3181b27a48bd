/* Every kind of index against exact search, after building, adding, removing and opening again. */
#include "base/pool.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "test.h"
#include "vector/index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { K = 10, QUERIES = 60 };

/* floor: of recall at 10, with the breadth configured below; measured values are above it by 0.02 or more */
static const struct kind {
    const char *name;
    double floor;
    size_t bits;
} kinds[] = {
    { "flat", 1.0, 0 }, { "hnsw", 0.95, 0 }, { "rabitq", 0.95, 0 }, { "rabitq", 0.95, 4 }, { "pq", 0.95, 0 }
};

static rv_index_config config_of(const struct kind *kind, size_t dim, rv_index_metric metric)
{
    return (rv_index_config){ .kind = kind->name,
                              .dim = dim,
                              .metric = metric,
                              .keep = RV_KEEP_F32,
                              .m = 16,
                              .ef_build = 80,
                              .ef = 48,
                              .bits = kind->bits,
                              .seed = 3 };
}

/* ---- rows ---- */

typedef struct world {
    size_t dim, n;
    rv_index_metric metric;
    float *rows;    /* [n][dim] row of id i */
    uint8_t *there; /* [n] is in the index */
    float *queries; /* [QUERIES][dim] */
} world;

/* Around 40 centres, as embeddings are. */
static void fill(const world *w, rv_rng *rng, const float *centres, float *x)
{
    const float *centre = centres + rv_rng_below(rng, 40) * w->dim;
    double length = 0;
    for (size_t d = 0; d < w->dim; d++) {
        x[d] = centre[d] + 0.7f * rv_rng_normal(rng);
        length += (double)x[d] * (double)x[d];
    }
    for (size_t d = 0; w->metric == RV_INDEX_COS && d < w->dim; d++) {
        x[d] = length > 0 ? (float)((double)x[d] / sqrt(length)) : 0;
    }
}

static world new_world(size_t dim, size_t n, rv_index_metric metric, uint64_t seed)
{
    world w = { .dim = dim, .n = n, .metric = metric };
    w.rows = fenced_floats(n * dim);
    w.queries = fenced_floats(QUERIES * dim);
    w.there = fenced_bytes(n);
    float *centres = fenced_floats(40 * dim);
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < 40 * dim; i++) {
        centres[i] = rv_rng_normal(&rng);
    }
    for (size_t i = 0; i < n; i++) {
        fill(&w, &rng, centres, w.rows + i * dim);
    }
    for (size_t i = 0; i < QUERIES; i++) {
        fill(&w, &rng, centres, w.queries + i * dim);
    }
    return w;
}

static double score(const world *w, const float *query, size_t id)
{
    double sum = 0;
    for (size_t d = 0; d < w->dim; d++) {
        double a = (double)query[d], b = (double)w->rows[id * w->dim + d];
        sum += w->metric == RV_INDEX_L2 ? -(a - b) * (a - b) : a * b;
    }
    return sum;
}

static int by_score(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* ---- filters ---- */

static size_t n_there(const world *w, const rv_filter *filter)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        bool passes = !filter || (filter->bits ? filter->bits[i / 64] >> i % 64 & 1
                                               : filter->passes(filter->self, (int64_t)i));
        n += w->there[i] && passes;
    }
    return n;
}

/* The part of the K best, by score so that equal ones count, that is found; the count has to be right. */
static double recall(const world *w, rv_index *index, const rv_filter *filter, const char *when)
{
    double *scores = malloc(w->n * sizeof *scores);
    size_t hit = 0, all = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        const float *query = w->queries + q * w->dim;
        rv_hit hits[K];
        size_t found = 0, n = 0;
        CHECK_OK(rv_index_search(index, query, &(rv_search){ .k = K, .filter = filter }, hits, &found));
        for (size_t i = 0; i < w->n; i++) {
            bool passes = !filter || (filter->bits ? filter->bits[i / 64] >> i % 64 & 1
                                                   : filter->passes(filter->self, (int64_t)i));
            if (w->there[i] && passes) {
                scores[n++] = score(w, query, i);
            }
        }
        qsort(scores, n, sizeof *scores, by_score);
        CHECK(found == (n < K ? n : K), "%s, dim %zu, query %zu: %zu of %zu", when, w->dim, q, found, n);
        for (size_t i = 0; i < found; i++) {
            size_t id = (size_t)hits[i].id;
            double exact = score(w, query, id), bound = 1e-4 * (1 + fabs(exact));
            CHECK(id < w->n && w->there[id], "%s, query %zu: id %zu is not there", when, q, id);
            CHECK(!filter || (filter->bits ? filter->bits[id / 64] >> id % 64 & 1
                                           : filter->passes(filter->self, hits[i].id)),
                  "%s: id %zu does not pass", when, id);
            CHECK(fabs((double)hits[i].score - exact) <= bound, "%s: id %zu scores %g, exactly %g", when, id,
                  (double)hits[i].score, exact);
            CHECK(i == 0 || hits[i].score <= hits[i - 1].score, "%s: place %zu", when, i);
            for (size_t j = 0; j < i; j++) {
                CHECK(hits[j].id != hits[i].id, "%s: id %zu twice", when, id);
            }
            hit += exact >= scores[found - 1] - bound;
        }
        all += found;
    }
    free(scores);
    return all ? (double)hit / (double)all : 1;
}

static void expect(const world *w, rv_index *index, const struct kind *kind, const char *when)
{
    CHECK_OK(rv_index_check(index));
    CHECK(rv_index_count(index) == n_there(w, NULL), "%s %s: %zu rows", kind->name, when,
          rv_index_count(index));
    double got = recall(w, index, NULL, when);
    CHECK(got >= kind->floor, "%s %s, dim %zu metric %d: recall %g, floor %g", kind->name, when, w->dim,
          (int)w->metric, got, kind->floor);
}

/* ---- changes ---- */

static void add(world *w, rv_index *index, size_t id)
{
    CHECK_OK(rv_index_reserve(index, 1));
    rv_index_add(index, (int64_t)id, w->rows + id * w->dim);
    w->there[id] = 1;
}

static void remove_id(world *w, rv_index *index, size_t id)
{
    CHECK_OK(rv_index_reserve(index, 0));
    CHECK(rv_index_remove(index, &(int64_t){ (int64_t)id }, 1) == 1, "id %zu", id);
    w->there[id] = 0;
}

static void build(world *w, rv_index *index, size_t n, int threads)
{
    rv_pool *pool;
    CHECK_OK(rv_pool_new(&rv_heap, threads, &pool));
    int64_t *ids = malloc(n * sizeof *ids);
    const float **rows = malloc(n * sizeof *rows);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int64_t)i;
        rows[i] = w->rows + i * w->dim;
        w->there[i] = 1;
    }
    CHECK_OK(rv_index_build(index, pool, ids, rows, n, NULL, NULL));
    free(ids);
    free(rows);
    rv_pool_free(pool);
}

typedef struct saved {
    uint8_t *bytes;
    size_t n, room;
} saved;

static rv_err keep_bytes(void *self, const void *bytes, size_t n)
{
    saved *s = self;
    if (n > s->room - s->n) {
        s->room = 2 * (s->n + n) + 65536;
        uint8_t *more = rv_new_aligned(&rv_heap, 64, s->room);
        memcpy(more, s->bytes ? s->bytes : more, s->n);
        rv_free(&rv_heap, s->bytes);
        s->bytes = more;
    }
    memcpy(s->bytes + s->n, bytes, n);
    s->n += n;
    return RV_OK;
}

/* Frees index and s; what was opened last needs s->bytes as long as it lives. */
static rv_index *reopen(rv_index *index, saved *s)
{
    saved next = { 0 };
    CHECK_OK(rv_index_save(index, keep_bytes, &next));
    rv_index_free(index);
    rv_free(&rv_heap, s->bytes);
    *s = next;
    CHECK_OK(rv_index_open(&rv_heap, s->bytes, s->n, NULL, NULL, &index));
    return index;
}

static void live_through_turned(const struct kind *kind, size_t dim, rv_index_metric metric, size_t n,
                                rv_rotation_kind rotation)
{
    world w = new_world(dim, n, metric, dim + 10 * metric);
    rv_index_config config = config_of(kind, dim, metric);
    config.rotation = rotation;
    rv_index *index;
    saved s = { 0 };
    rv_rng rng;
    rv_rng_init(&rng, 1);
    CHECK_OK(rv_index_new(&rv_heap, &config, &index));
    build(&w, index, n - 300, 2);
    expect(&w, index, kind, "after build");
    for (size_t id = n - 300; id < n; id++) {
        add(&w, index, id);
    }
    expect(&w, index, kind, "after adding");
    for (size_t i = 0; i < n / 5; i++) {
        size_t id = rv_rng_below(&rng, n);
        if (w.there[id]) {
            remove_id(&w, index, id);
        }
    }
    expect(&w, index, kind, "after removing");
    while (rv_index_repair(index, 1000)) {
    }
    expect(&w, index, kind, "compacted");
    index = reopen(index, &s);
    expect(&w, index, kind, "opened");
    for (size_t id = 0; id < n; id++) {
        if (!w.there[id] && id % 2) {
            add(&w, index, id);
        }
    }
    while (rv_index_repair(index, 1000)) {
    }
    expect(&w, index, kind, "opened and changed");
    index = reopen(index, &s);
    expect(&w, index, kind, "opened twice");
    rv_index_free(index);
    rv_free(&rv_heap, s.bytes);
}

static void live_through(const struct kind *kind, size_t dim, rv_index_metric metric, size_t n)
{
    live_through_turned(kind, dim, metric, n, RV_ROTATION_HADAMARD);
}

TEST(recall_stays_above_the_floor_at_every_dimension)
{
    static const struct {
        size_t dim, n;
    } sizes[] = { { 1, 2000 },   { 3, 2000 },   { 100, 2000 }, { 127, 2000 },
                  { 128, 2000 }, { 384, 1800 }, { 1536, 1700 } };
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        for (size_t s = 0; s < RV_COUNT(sizes); s++) {
            live_through(&kinds[k], sizes[s].dim, sizes[s].dim < 100 ? RV_INDEX_L2 : RV_INDEX_COS,
                         sizes[s].n);
        }
    }
}

TEST(recall_stays_above_the_floor_for_every_metric)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        for (int metric = 0; metric < RV_INDEX_METRICS; metric++) {
            live_through(&kinds[k], 48, (rv_index_metric)metric, 2000);
        }
    }
}

TEST(recall_stays_above_the_floor_whatever_turns_the_vectors)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        live_through_turned(&kinds[k], 100, RV_INDEX_COS, 2000, RV_ROTATION_HAAR);
    }
    rv_index *index;
    const rv_index_config config = { .kind = "hnsw",
                                     .dim = RV_INDEX_HAAR_DIM_MAX + 1,
                                     .rotation = RV_ROTATION_HAAR };
    CHECK(rv_index_new(&rv_heap, &config, &index) == RV_E_ARG, "a matrix is not that large");
}

TEST(after_removing_the_nearest_come_the_next_ones)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(64, 3000, RV_INDEX_COS, 5);
        rv_index_config config = {
            .kind = kinds[k].name, .dim = w.dim, .metric = w.metric, .keep = RV_KEEP_F32
        };
        rv_index *index;
        CHECK_OK(rv_index_new(&rv_heap, &config, &index));
        build(&w, index, w.n, 2);
        size_t missed = 0;
        for (size_t q = 0; q < QUERIES; q++) {
            const float *query = w.queries + q * w.dim;
            rv_hit hits[K];
            size_t found;
            for (int again = 0; again < 2; again++) {
                CHECK_OK(rv_index_search(index, query, &(rv_search){ .k = K }, hits, &found));
                CHECK(found == K, "%s query %zu: %zu", kinds[k].name, q, found);
                for (size_t i = 0; i < K; i++) {
                    CHECK(w.there[hits[i].id], "%s: %lld was removed", kinds[k].name, (long long)hits[i].id);
                }
                for (size_t i = 0; !again && i < K; i++) {
                    remove_id(&w, index, (size_t)hits[i].id);
                }
            }
            size_t better = 0; /* rows that are there and nearer than the last hit */
            for (size_t i = 0; i < w.n; i++) {
                better += w.there[i] && score(&w, query, i) > (double)hits[K - 1].score + 1e-5;
            }
            missed += better > K - 1 ? better - (K - 1) : 0;
        }
        double part = (double)missed / (QUERIES * K);
        CHECK(part <= (kinds[k].floor < 1 ? 0.01 : 0), "%s: %zu of %d missed", kinds[k].name, missed,
              QUERIES * K);
        expect(&w, index, &kinds[k], "without the nearest");
        rv_index_free(index);
    }
}

static bool every_seventh(const void *self, int64_t id)
{
    (void)self;
    return id % 7 == 0;
}

TEST(a_filter_finds_k_when_k_pass_however_few_there_are)
{
    static const unsigned percent[] = { 0, 1, 5, 10, 30, 50, 90, 100 };
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(32, 4000, RV_INDEX_COS, 6);
        rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
        rv_index *index;
        CHECK_OK(rv_index_new(&rv_heap, &config, &index));
        build(&w, index, w.n, 2);
        uint64_t *bits = malloc((w.n + 63) / 64 * 8);
        rv_rng rng;
        rv_rng_init(&rng, 2);
        for (size_t p = 0; p < RV_COUNT(percent) + 3; p++) {
            memset(bits, 0, (w.n + 63) / 64 * 8);
            for (size_t i = 0; i < w.n; i++) {
                bool passes = p < RV_COUNT(percent) ? rv_rng_below(&rng, 100) < percent[p]
                              : p == RV_COUNT(percent)
                                  ? i == 1234
                                  : /* one row; a block far from most queries; none that is there */
                                  p == RV_COUNT(percent) + 1 ? score(&w, w.queries, i) < -0.2
                                                             : false;
                bits[i / 64] |= (uint64_t)passes << i % 64;
            }
            rv_filter filter = { .bits = bits, .n_bits = w.n };
            double got = recall(&w, index, &filter, "with bits");
            CHECK(got >= kinds[k].floor, "%s filter %zu: recall %g", kinds[k].name, p, got);
        }
        rv_filter asked = { .passes = every_seventh };
        double got = recall(&w, index, &asked, "with a function");
        CHECK(got >= kinds[k].floor, "%s with a function: recall %g", kinds[k].name, got);
        free(bits);
        rv_index_free(index);
    }
}

/* All rows that pass by their vectors: exact on every kind, whatever lies between. */
TEST(a_search_goes_the_way_it_is_told_and_says_which)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(48, 3000, RV_INDEX_COS, 21);
        rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
        rv_index *index;
        CHECK_OK(rv_index_new(&rv_heap, &config, &index));
        build(&w, index, w.n, 2);
        bool flat = strcmp(kinds[k].name, "flat") == 0;
        uint64_t bits[3000 / 64 + 1] = { 0 };
        size_t n_bits = 0;
        for (size_t i = 0; i < w.n; i += 100, n_bits++) {
            bits[i / 64] |= (uint64_t)1 << i % 64;
        }
        const rv_filter filter = { .bits = bits, .n_bits = w.n };
        for (size_t q = 0; q < QUERIES; q++) {
            const float *query = w.queries + q * w.dim;
            rv_hit want[K], hits[K];
            size_t found;
            rv_told told;
            rv_search how = { .k = K, .way = RV_WAY_EXACT, .told = &told };
            CHECK_OK(rv_index_search(index, query, &how, want, &found));
            CHECK(found == K && told.way == RV_WAY_EXACT && told.ranked == w.n && told.compared == 0,
                  "%s: %zu ranked, %zu compared", kinds[k].name, told.ranked, told.compared);
            size_t better = 0;
            for (size_t i = 0; i < w.n; i++) {
                better += score(&w, query, i) > (double)want[K - 1].score + 1e-5;
            }
            CHECK(better <= K - 1, "%s query %zu: %zu rows are nearer", kinds[k].name, q, better);
            how.way = RV_WAY_SCAN;
            CHECK_OK(rv_index_search(index, query, &how, hits, &found));
            CHECK(found == K && told.way == (flat ? RV_WAY_EXACT : RV_WAY_SCAN) &&
                      told.compared == (flat ? 0 : w.n) &&
                      (flat || (told.ranked >= K && told.ranked <= 2 * K + 10)),
                  "%s: %zu ranked, %zu compared", kinds[k].name, told.ranked, told.compared);
            CHECK(memcmp(hits, want, sizeof hits) == 0, "%s query %zu: codes hid one of the nearest",
                  kinds[k].name, q);
            how.rerank = 77;
            CHECK_OK(rv_index_search(index, query, &how, hits, &found));
            CHECK(flat || told.ranked == 77, "%s: %zu ranked", kinds[k].name, told.ranked);
            how.rerank = 0;
            how.filter = &filter;
            for (how.way = RV_WAY_INDEX; how.way < RV_WAYS; how.way++) {
                CHECK_OK(rv_index_search(index, query, &how, hits, &found));
                CHECK(found == K && told.ranked + told.compared >= K && told.ranked <= n_bits &&
                          told.compared <= n_bits,
                      "%s way %d: %zu ranked, %zu compared of %zu", kinds[k].name, how.way, told.ranked,
                      told.compared, n_bits);
            }
        }
        rv_hit hit;
        size_t found;
        CHECK(rv_index_search(index, w.queries, &(rv_search){ .k = 1, .way = RV_WAYS }, &hit, &found) ==
                  RV_E_ARG,
              "%s takes no way that there is not", kinds[k].name);
        rv_index_free(index);
    }
}

/* Slots follow from the order in which ids came: upwards, downwards, with some gone, and some in slots used again. */
TEST(few_ids_that_pass_are_all_found_in_whatever_order_they_came)
{
    enum { ROWS = 1200, FIRST = -300, BITS = ROWS - 37 };
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(20, ROWS, RV_INDEX_L2, 31);
        rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
        rv_index *index;
        CHECK_OK(rv_index_new(&rv_heap, &config, &index));
        for (size_t i = 0; i < ROWS; i++) {
            size_t row = i < ROWS / 2 ? i : ROWS + ROWS / 2 - 1 - i;
            CHECK_OK(rv_index_reserve(index, 1));
            rv_index_add(index, FIRST + (int64_t)row, w.rows + row * w.dim);
        }
        uint64_t bits[(BITS + 63) / 64];
        for (size_t round = 0; round < 3; round++) { /* all there; some gone; some of them back */
            for (size_t row = 0; row < ROWS && round > 0; row += 7) {
                int64_t id = FIRST + (int64_t)row;
                CHECK_OK(rv_index_reserve(index, 1));
                if (round == 1) {
                    CHECK(rv_index_remove(index, &id, 1) == 1, "id %lld", (long long)id);
                } else if (row % 2) {
                    rv_index_add(index, id, w.rows + row * w.dim);
                }
            }
            memset(bits, 0, sizeof bits);
            bits[RV_COUNT(bits) - 1] = ~(uint64_t)0 << BITS % 64; /* beyond the last: they do not count */
            size_t n_passing = 0;
            for (size_t row = round; row < BITS; row += 13) {
                bits[row / 64] |= (uint64_t)1 << row % 64;
                n_passing += rv_index_has(index, FIRST + (int64_t)row);
            }
            const rv_filter filter = { .bits = bits, .first = FIRST, .n_bits = BITS };
            for (rv_way way = RV_WAY_INDEX; way < RV_WAYS; way++) {
                rv_hit hits[ROWS];
                size_t found;
                CHECK_OK(rv_index_search(index, w.queries,
                                         &(rv_search){ .k = ROWS, .filter = &filter, .way = way }, hits,
                                         &found));
                CHECK(found == n_passing, "%s round %zu way %d: %zu of %zu", kinds[k].name, round, way, found,
                      n_passing);
                for (size_t i = 0; i < found; i++) {
                    size_t row = (size_t)(hits[i].id - FIRST);
                    CHECK(row < BITS && row % 13 == round && rv_index_has(index, hits[i].id) &&
                              (i == 0 || hits[i].score <= hits[i - 1].score),
                          "%s round %zu way %d: id %lld at %zu", kinds[k].name, round, way,
                          (long long)hits[i].id, i);
                }
            }
        }
        CHECK_OK(rv_index_check(index));
        rv_index_free(index);
    }
}

/* The rows of a filter that comes again are read from a copy: whatever changed between, the answers are those of looking at the rows. */
TEST(a_filter_that_comes_again_knows_what_was_changed)
{
    enum { ROWS = 2000, FILTERS = 6, WORDS = ROWS / 64 + 1 };
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(24, ROWS, RV_INDEX_L2, 41);
        rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
        rv_index *index;
        rv_rng rng;
        rv_rng_init(&rng, 5);
        CHECK_OK(rv_index_new(&rv_heap, &config, &index));
        build(&w, index, ROWS - 200, 1);
        uint64_t bits[FILTERS][WORDS] = { { 0 } };
        for (size_t f = 0; f < FILTERS; f++) { /* two alike but for their last rows; others of other sizes */
            for (size_t row = f < 2 ? 0 : f; row < ROWS; row += f < 2 ? 5 : 3 + f) {
                bits[f][row / 64] |= (uint64_t)1 << row % 64;
            }
        }
        bits[1][(ROWS - 205) / 64] ^= (uint64_t)3 << (ROWS - 205) % 64;
        for (size_t step = 0; step < 400; step++) {
            size_t f = step % 50 < 25 ? step / 5 % FILTERS : rv_rng_below(&rng, 3);
            int64_t id = (int64_t)rv_rng_below(&rng, ROWS);
            if (step % 7 == 6) {
                CHECK_OK(rv_index_reserve(index, 1));
                if (rv_index_has(index, id)) {
                    CHECK(rv_index_remove(index, &id, 1) == 1, "id %lld", (long long)id);
                } else {
                    rv_index_add(index, id, w.rows + (size_t)id * w.dim);
                }
            }
            const rv_filter filter = { .bits = bits[f], .n_bits = ROWS };
            const float *query = w.queries + step % QUERIES * w.dim;
            rv_hit want[K], hits[K];
            size_t n_want, found;
            rv_search how = { .k = K, .filter = &filter, .way = RV_WAY_EXACT };
            CHECK_OK(rv_index_search(index, query, &how, want, &n_want));
            how.way = RV_WAY_SCAN;
            CHECK_OK(rv_index_search(index, query, &how, hits, &found));
            CHECK(found == n_want && memcmp(hits, want, found * sizeof *hits) == 0,
                  "%s step %zu filter %zu: %zu found of %zu, or others", kinds[k].name, step, f, found,
                  n_want);
        }
        rv_index_free(index);
    }
}

typedef struct asking {
    rv_index *index;
    const world *w;
    uint64_t (*bits)[4000 / 64 + 1];
    int wrong;
} asking;

static void ask_filters(void *arg, int thread, int n_threads)
{
    asking *a = arg;
    (void)n_threads;
    for (size_t step = 0; step < 600; step++) {
        const rv_filter filter = { .bits = a->bits[(step / 3 + (size_t)thread * (step / 100)) % 7],
                                   .n_bits = a->w->n };
        const float *query = a->w->queries + step % QUERIES * a->w->dim;
        rv_hit want[K], hits[K];
        size_t n_want = 0, found = 0;
        rv_search how = { .k = K, .filter = &filter, .way = RV_WAY_EXACT };
        rv_err e = rv_index_search(a->index, query, &how, want, &n_want);
        how.way = RV_WAY_SCAN;
        e = e ? e : rv_index_search(a->index, query, &how, hits, &found);
        if (e || found != n_want || memcmp(hits, want, found * sizeof *hits) != 0) {
            __atomic_add_fetch(&a->wrong, 1, __ATOMIC_RELAXED);
        }
    }
}

TEST(threads_that_ask_with_filters_get_their_own_answers)
{
    static uint64_t bits[7][4000 / 64 + 1];
    world w = new_world(20, 4000, RV_INDEX_L2, 43);
    rv_index_config config = config_of(&kinds[2], w.dim, w.metric);
    rv_index *index;
    rv_pool *pool;
    CHECK_OK(rv_index_new(&rv_heap, &config, &index));
    build(&w, index, w.n, 2);
    for (size_t f = 0; f < 7; f++) {
        for (size_t row = f; row < w.n; row += 11 + f) {
            bits[f][row / 64] |= (uint64_t)1 << row % 64;
        }
    }
    asking a = { .index = index, .w = &w, .bits = bits };
    CHECK_OK(rv_pool_new(&rv_heap, 4, &pool));
    rv_pool_run(pool, ask_filters, &a);
    CHECK(a.wrong == 0, "%d answers", a.wrong);
    rv_pool_free(pool);
    rv_index_free(index);
}

/* Blocks full of what self says, so that nothing of them may be saved. */
static void *dirty_aligned(void *self, size_t align, size_t bytes)
{
    void *block = rv_heap.aligned(rv_heap.self, align, bytes);
    return block ? memset(block, *(const int *)self, bytes) : NULL;
}

TEST(the_index_does_not_depend_on_the_number_of_threads_or_on_what_memory_held)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(40, 2000, RV_INDEX_L2, 8);
        rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
        saved s[2] = { { 0 }, { 0 } };
        for (int i = 0; i < 2; i++) {
            rv_index *index;
            int fill = i ? 0x55 : 0xaa;
            const rv_alloc dirty = { &fill, rv_heap.resize, dirty_aligned };
            CHECK_OK(rv_index_new(&dirty, &config, &index));
            build(&w, index, w.n, 1 + 2 * i);
            CHECK_OK(rv_index_save(index, keep_bytes, &s[i]));
            rv_index_free(index);
        }
        CHECK(s[0].n == s[1].n && memcmp(s[0].bytes, s[1].bytes, s[0].n) == 0, "%s", kinds[k].name);
        rv_free(&rv_heap, s[0].bytes);
        rv_free(&rv_heap, s[1].bytes);
    }
}

TEST(scalar_and_vector_code_give_the_same_ids)
{
    static const size_t dims[] = { 1, 3, 100, 127, 128, 384, 1536 };
    const char *before = getenv("RV_CPU");
    char *kept = before ? strdup(before) : NULL;
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        for (size_t d = 0; d < RV_COUNT(dims); d++) {
            world w = new_world(dims[d], dims[d] < 1000 ? 1600 : 1100,
                                dims[d] < 100 ? RV_INDEX_L2 : RV_INDEX_COS, 9);
            rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
            static rv_hit want[QUERIES][K];
            for (int level = 0; level < RV_CPU_LEVELS; level++) {
                if (!rv_kernels_at((rv_cpu_level)level)) {
                    continue;
                }
                setenv("RV_CPU", rv_cpu_level_name((rv_cpu_level)level), 1);
                rv_index *index;
                CHECK_OK(rv_index_new(&rv_heap, &config, &index));
                build(&w, index, w.n, 1);
                for (size_t q = 0; q < QUERIES; q++) {
                    rv_hit hits[K];
                    size_t found;
                    CHECK_OK(rv_index_search(index, w.queries + q * w.dim, &(rv_search){ .k = K, .ef = 20 },
                                             hits, &found));
                    for (size_t i = 0; i < K; i++) {
                        want[q][i] = level == RV_CPU_SCALAR ? hits[i] : want[q][i];
                        CHECK(found == K && fabs((double)hits[i].score - (double)want[q][i].score) <= 1e-5 &&
                                  (hits[i].id == want[q][i].id || dims[d] == 3),
                              "%s %s dim %zu query %zu place %zu: id %lld, scalar %lld", kinds[k].name,
                              rv_cpu_level_name((rv_cpu_level)level), dims[d], q, i, (long long)hits[i].id,
                              (long long)want[q][i].id);
                    }
                }
                rv_index_free(index);
            }
        }
    }
    if (kept) {
        setenv("RV_CPU", kept, 1);
    } else {
        unsetenv("RV_CPU");
    }
    free(kept);
}

TEST(a_thousand_equal_rows_are_no_trouble)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(16, 3000, RV_INDEX_L2, 4);
        for (size_t i = 500; i < 1500; i++) {
            memcpy(w.rows + i * w.dim, w.rows + 500 * w.dim, w.dim * sizeof *w.rows);
        }
        memset(w.rows + 1600 * w.dim, 0,
               3 * w.dim * sizeof *w.rows); /* and some that are nothing but zeros */
        rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
        rv_index *index;
        CHECK_OK(rv_index_new(&rv_heap, &config, &index));
        build(&w, index, w.n, 2);
        expect(&w, index, &kinds[k], "with equal rows");
        for (size_t id = 500; id < 1400; id++) {
            remove_id(&w, index, id);
        }
        expect(&w, index, &kinds[k], "without most of the equal rows");
        rv_index_free(index);
    }
}

TEST(slots_are_used_again)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(8, 1000, RV_INDEX_L2, 12);
        rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
        rv_index *index;
        CHECK_OK(rv_index_new(&rv_heap, &config, &index));
        build(&w, index, w.n, 1);
        rv_rng rng;
        rv_rng_init(&rng, 5);
        for (size_t i = 0; i < 6000; i++) {
            size_t id = rv_rng_below(&rng, w.n);
            if (w.there[id]) {
                remove_id(&w, index, id);
            } else {
                add(&w, index, id);
            }
        }
        rv_index_size size = rv_index_bytes(index);
        CHECK(size.cold <= 2 * w.n * (w.dim * 4 + 64),
              /* and codes */ "%s: %zu bytes of vectors after many changes", kinds[k].name, size.cold);
        expect(&w, index, &kinds[k], "after 6,000 changes");
        rv_index_free(index);
    }
}

TEST(random_operations_agree_with_a_plain_array)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            rv_rng rng;
            rv_rng_init(&rng, seed);
            world w =
                new_world(1 + rv_rng_below(&rng, 40), 2600, (rv_index_metric)rv_rng_below(&rng, 2), seed);
            rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
            rv_index *index;
            saved s = { 0 };
            CHECK_OK(rv_index_new(&rv_heap, &config, &index));
            for (size_t step = 0; step < 3500; step++) {
                size_t id = rv_rng_below(&rng, w.n);
                uint64_t what = rv_rng_below(&rng, 1000);
                if (what < 2) {
                    index = reopen(index, &s);
                } else if (what < 4) {
                    CHECK_OK(rv_index_check(index));
                } else if (what < 6) {
                    (void)rv_index_repair(index, rv_rng_below(&rng, 500));
                } else if (what < 400 && w.there[id]) {
                    remove_id(&w, index, id);
                } else if (what < 990 && !w.there[id]) {
                    add(&w, index, id);
                } else if (what >= 990) {
                    rv_hit hits[K];
                    size_t found, want = n_there(&w, NULL);
                    CHECK_OK(rv_index_search(index, w.queries, &(rv_search){ .k = K }, hits, &found));
                    CHECK(found == (want < K ? want : K), "%s seed %llu step %zu: %zu of %zu", kinds[k].name,
                          (unsigned long long)seed, step, found, want);
                    for (size_t i = 0; i < found; i++) {
                        CHECK(w.there[hits[i].id], "%s seed %llu step %zu: id %lld", kinds[k].name,
                              (unsigned long long)seed, step, (long long)hits[i].id);
                    }
                }
                CHECK(rv_index_has(index, (int64_t)id) == (w.there[id] != 0), "%s seed %llu step %zu",
                      kinds[k].name, (unsigned long long)seed, step);
            }
            expect(&w, index, &kinds[k], "after random operations");
            rv_index_free(index);
            rv_free(&rv_heap, s.bytes);
        }
    }
}

static bool stop_soon(void *self, size_t done)
{
    return done < *(size_t *)self;
}

TEST(a_build_that_is_cancelled_leaves_nothing)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(24, 3000, RV_INDEX_COS, 15);
        rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
        rv_index *index;
        CHECK_OK(rv_index_new(&rv_heap, &config, &index));
        build(&w, index, 2000, 2);
        int64_t ids[1000];
        const float *rows[1000];
        for (size_t i = 0; i < 1000; i++) {
            ids[i] = (int64_t)i + 2000;
            rows[i] = w.rows + (i + 2000) * w.dim;
        }
        size_t most = 300;
        rv_err e = rv_index_build(index, NULL, ids, rows, 1000, stop_soon, &most);
        if (e) { /* a kind that is quick may be done before it is asked */
            CHECK(e == RV_E_CANCELLED, "%s: %s", kinds[k].name, rv_err_name(e));
            expect(&w, index, &kinds[k], "after a cancelled build");
        }
        rv_index_free(index);
    }
}

TEST(running_out_of_memory_leaves_every_kind_as_it_was)
{
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        world w = new_world(6, 150, RV_INDEX_L2, 16);
        for (test_mem m = { 0 }; test_mem_again(&m);) {
            rv_index_config config = config_of(&kinds[k], w.dim, w.metric);
            rv_index *index = NULL;
            memset(w.there, 0, w.n);
            rv_err e = rv_index_new(&m.alloc, &config, &index);
            for (size_t i = 0; !e && i < w.n; i++) {
                e = rv_index_reserve(index, 1);
                if (!e) {
                    rv_index_add(index, (int64_t)i, w.rows + i * w.dim);
                    w.there[i] = 1;
                }
            }
            rv_hit hits[K];
            size_t found;
            e = e ? e : rv_index_search(index, w.queries, &(rv_search){ .k = K }, hits, &found);
            const uint64_t most[3] = { ~(uint64_t)1, ~(uint64_t)0, ~(uint64_t)0 };
            const rv_filter filter = { .bits = most, .n_bits = 150 };
            for (size_t again = 0; again < 3; again++) { /* its rows are copied */
                e = e ? e
                      : rv_index_search(index, w.queries,
                                        &(rv_search){ .k = K, .filter = &filter, .way = RV_WAY_SCAN }, hits,
                                        &found);
            }
            CHECK((e == RV_E_NOMEM) == m.failed, "%s call %ld: %s", kinds[k].name, m.fail_at, rv_err_name(e));
            if (index) {
                long fail_at = m.fail_at;
                m.fail_at = 0; /* what was added is all there */
                expect(&w, index, &kinds[k], "after memory ran out");
                m.fail_at = fail_at;
            }
            rv_index_free(index);
        }
    }
}
