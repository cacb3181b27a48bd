/* Exact search is exact: against a comparison in double, after adding, removing and filtering. */
#include "base/rng.h"
#include "test.h"
#include "vector/index.h"

#include <math.h>
#include <stdlib.h>

enum { DIM = 96, ROWS = 1500, K = 20, QUERIES = 40 };

static float *unit_rows(size_t n, uint64_t seed)
{
    float *rows = fenced_floats(n * DIM);
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        double length = 0;
        for (size_t d = 0; d < DIM; d++) {
            rows[i * DIM + d] = rv_rng_normal(&rng);
            length += (double)rows[i * DIM + d] * (double)rows[i * DIM + d];
        }
        for (size_t d = 0; d < DIM; d++) {
            rows[i * DIM + d] = (float)((double)rows[i * DIM + d] / sqrt(length));
        }
    }
    return rows;
}

static bool every_third(const void *self, int64_t id)
{
    (void)self;
    return id % 3 == 0;
}

typedef struct exact {
    int64_t id;
    double score;
} exact;

static int by_score(const void *a, const void *b)
{
    const exact *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score;
}

/* The rows that live: id 0 .. ROWS - 1, not removed, and passing. */
static size_t all_exact(const float *rows, const bool *removed, bool filtered, const float *query, exact *out)
{
    size_t n = 0;
    for (size_t i = 0; i < ROWS; i++) {
        double sum = 0;
        for (size_t d = 0; d < DIM; d++) {
            sum += (double)rows[i * DIM + d] * (double)query[d];
        }
        if (!removed[i] && (!filtered || i % 3 == 0)) {
            out[n++] = (exact){ (int64_t)i, sum };
        }
    }
    qsort(out, n, sizeof *out, by_score);
    return n;
}

static void compare(const rv_index *index, const float *rows, const bool *removed, bool filtered)
{
    static exact truth[ROWS];
    const double bound = (DIM + 1) * 6e-8; /* DIM roundings of products whose absolute sum is at most 1 */
    float *queries = unit_rows(QUERIES, 99);
    for (size_t q = 0; q < QUERIES; q++) {
        rv_hit hits[K];
        size_t found, n = all_exact(rows, removed, filtered, queries + q * DIM, truth);
        rv_index_search(index, queries + q * DIM, K, filtered ? every_third : NULL, NULL, hits, &found);
        CHECK(found == (n < K ? n : K), "query %zu: %zu of %zu", q, found, n);
        for (size_t i = 0; i < found; i++) {
            double err = fabs((double)hits[i].score - truth[i].score);
            CHECK(err <= bound, "query %zu place %zu: id %lld, expected %lld, err %g", q, i,
                  (long long)hits[i].id, (long long)truth[i].id, err);
            CHECK(!removed[hits[i].id] && (!filtered || hits[i].id % 3 == 0), "query %zu: id %lld", q,
                  (long long)hits[i].id);
            CHECK(i == 0 || hits[i].score <= hits[i - 1].score, "query %zu place %zu", q, i);
        }
    }
}

TEST(flat_search_is_exact_after_adding_and_removing)
{
    float *rows = unit_rows(ROWS, 7);
    static bool removed[ROWS];
    rv_index *index;
    CHECK_OK(rv_index_new(&rv_heap, "flat", DIM, &index));
    for (size_t i = 0; i < ROWS; i++) {
        size_t id = i ^ 1; /* not quite in order */
        CHECK_OK(rv_index_reserve(index, 1));
        rv_index_add(index, (int64_t)id, rows + id * DIM);
    }
    CHECK_OK(rv_index_check(index));
    compare(index, rows, removed, false);
    compare(index, rows, removed, true);
    int64_t drop[ROWS];
    size_t n = 0;
    for (size_t i = 0; i < ROWS; i++) {
        removed[i] = i % 7 == 0 || i > ROWS - 5;
        if (removed[i]) {
            drop[n++] = (int64_t)i;
        }
    }
    drop[n++] = ROWS + 10; /* never there */
    CHECK(rv_index_remove(index, drop, n) == n - 1 && rv_index_count(index) == ROWS - n + 1, "%zu left",
          rv_index_count(index));
    CHECK_OK(rv_index_check(index));
    compare(index, rows, removed, false);
    for (size_t i = 0; i < ROWS; i++) { /* nearly all gone: fewer than k are left */
        drop[i] = (int64_t)i;
        removed[i] = i != 300 && i != 302;
    }
    drop[300] = 299; /* twice is no harm */
    drop[302] = 301;
    rv_index_remove(index, drop, ROWS);
    compare(index, rows, removed, false);
    compare(index, rows, removed, true);
    rv_index_free(index);
}

TEST(the_cosine_of_one_id_is_what_a_search_gives_it)
{
    float *rows = unit_rows(ROWS, 9), cosine = 7;
    rv_index *index;
    CHECK_OK(rv_index_new(&rv_heap, "flat", DIM, &index));
    CHECK(!rv_index_cosine(index, rows, 2, &cosine), "an empty index has none");
    CHECK_OK(rv_index_reserve(index, ROWS));
    for (size_t i = 0; i < ROWS; i++) {
        rv_index_add(index, 2 * (int64_t)i + 2, rows + i * DIM); /* even ids */
    }
    static rv_hit hits[ROWS];
    size_t found = 0;
    rv_index_search(index, rows, ROWS, NULL, NULL, hits, &found);
    CHECK(found == ROWS, "%zu", found);
    for (size_t i = 0; i < found; i++) {
        CHECK(rv_index_cosine(index, rows, hits[i].id, &cosine) && cosine == hits[i].score, "id %lld: %g, %g",
              (long long)hits[i].id, (double)cosine, (double)hits[i].score);
        cosine = 7;
        CHECK(!rv_index_cosine(index, rows, hits[i].id - 1, &cosine) && cosine == 7, "id %lld is not there",
              (long long)hits[i].id - 1);
    }
    rv_index_free(index);
}

TEST(equal_scores_come_in_the_order_of_their_ids)
{
    float *row = unit_rows(1, 1);
    rv_index *index;
    CHECK_OK(rv_index_new(&rv_heap, "flat", DIM, &index));
    CHECK_OK(rv_index_reserve(index, 50));
    for (int64_t id = 49; id >= 0; id--) {
        rv_index_add(index, id, row);
    }
    rv_hit hits[10];
    size_t found;
    rv_index_search(index, row, 10, NULL, NULL, hits, &found);
    for (size_t i = 0; i < 10; i++) {
        CHECK(found == 10 && hits[i].id == (int64_t)i, "place %zu: %lld", i, (long long)hits[i].id);
    }
    rv_index_search(index, row, 0, NULL, NULL, hits, &found);
    CHECK(found == 0, "%zu", found);
    rv_index_free(index);
}

TEST(kinds_that_are_not_there_are_refused)
{
    rv_index *index = NULL;
    CHECK_ERR(rv_index_new(&rv_heap, "magic", DIM, &index), RV_E_NOT_FOUND);
    CHECK(!index, "untouched");
}

TEST(running_out_of_memory_leaves_the_index_as_it_was)
{
    float *rows = unit_rows(40, 5);
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_index *index = NULL;
        size_t added = 0;
        rv_err e = rv_index_new(&m.alloc, "flat", DIM, &index);
        for (; !e && added < 40; added++) {
            e = rv_index_reserve(index, 1);
            if (e) {
                break;
            }
            rv_index_add(index, (int64_t)added, rows + added * DIM);
        }
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld", m.fail_at);
        CHECK(!index || rv_index_count(index) == added, "%zu", added);
        rv_index_free(index);
    }
}
