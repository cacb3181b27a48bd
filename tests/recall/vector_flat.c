/* Exact search is exact: against a comparison in double, after adding, removing and filtering. */
#include "base/rng.h"
#include "test.h"
#include "vector/index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static const rv_index_config flat = { .kind = "flat", .dim = DIM };

static void search(rv_index *index, const float *query, size_t k, bool filtered, rv_hit *hits, size_t *found)
{
    rv_filter filter = { .passes = every_third };
    CHECK_OK(rv_index_search(index, query, &(rv_search){ .k = k, .filter = filtered ? &filter : NULL }, hits,
                             found));
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

static void compare(rv_index *index, const float *rows, const bool *removed, bool filtered)
{
    static exact truth[ROWS];
    const double bound = (DIM + 1) * 6e-8; /* DIM roundings of products whose absolute sum is at most 1 */
    float *queries = unit_rows(QUERIES, 99);
    for (size_t q = 0; q < QUERIES; q++) {
        rv_hit hits[K];
        size_t found, n = all_exact(rows, removed, filtered, queries + q * DIM, truth);
        search(index, queries + q * DIM, K, filtered, hits, &found);
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
    CHECK_OK(rv_index_new(&rv_heap, &flat, &index));
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
    CHECK_OK(rv_index_new(&rv_heap, &flat, &index));
    CHECK(!rv_index_score(index, rows, 2, &cosine), "an empty index has none");
    CHECK_OK(rv_index_reserve(index, ROWS));
    for (size_t i = 0; i < ROWS; i++) {
        rv_index_add(index, 2 * (int64_t)i + 2, rows + i * DIM); /* even ids */
    }
    static rv_hit hits[ROWS];
    size_t found = 0;
    search(index, rows, ROWS, false, hits, &found);
    CHECK(found == ROWS, "%zu", found);
    for (size_t i = 0; i < found; i++) {
        CHECK(rv_index_score(index, rows, hits[i].id, &cosine) && cosine == hits[i].score, "id %lld: %g, %g",
              (long long)hits[i].id, (double)cosine, (double)hits[i].score);
        cosine = 7;
        CHECK(!rv_index_score(index, rows, hits[i].id - 1, &cosine) && cosine == 7, "id %lld is not there",
              (long long)hits[i].id - 1);
    }
    rv_index_free(index);
}

TEST(equal_scores_come_in_the_order_of_their_ids)
{
    float *row = unit_rows(1, 1);
    rv_index *index;
    CHECK_OK(rv_index_new(&rv_heap, &flat, &index));
    CHECK_OK(rv_index_reserve(index, 50));
    for (int64_t id = 49; id >= 0; id--) {
        rv_index_add(index, id, row);
    }
    rv_hit hits[10];
    size_t found;
    search(index, row, 10, false, hits, &found);
    for (size_t i = 0; i < 10; i++) {
        CHECK(found == 10 && hits[i].id == (int64_t)i, "place %zu: %lld", i, (long long)hits[i].id);
    }
    search(index, row, 0, false, hits, &found);
    CHECK(found == 0, "%zu", found);
    rv_index_free(index);
}

typedef struct saved {
    uint8_t *bytes;
    size_t n, room;
} saved;

static rv_err keep_bytes(void *self, const void *bytes, size_t n)
{
    saved *s = self;
    if (n > s->room - s->n) {
        return rv_fail(RV_E_FULL, "%zu bytes and %zu", s->n, n);
    }
    memcpy(s->bytes + s->n, bytes, n);
    s->n += n;
    return RV_OK;
}

static rv_err find_rows(void *self, const int64_t *ids, size_t n, const float **out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = ids[i] == 3 ? NULL : (const float *)self + ids[i] * DIM; /* 3 is gone */
    }
    return RV_OK;
}

TEST(an_index_that_was_saved_opens_as_it_was_and_can_be_changed)
{
    enum { BYTES = 4 << 20 };
    float *rows = unit_rows(ROWS, 12);
    static bool removed[ROWS];
    _Alignas(64) static uint8_t bytes[BYTES];
    for (int keep = 0; keep < RV_KEEPS; keep++) {
        rv_index *index, *again;
        rv_index_config config = { .kind = "flat", .dim = DIM, .keep = (rv_keep)keep };
        CHECK_OK(rv_index_new(&rv_heap, &config, &index));
        CHECK_OK(rv_index_reserve(index, ROWS));
        for (size_t i = 0; i < ROWS; i++) {
            removed[i] = i % 5 == 1 || i == 3;
            rv_index_add(index, (int64_t)i, rows + i * DIM);
        }
        for (int64_t i = 1; i < ROWS; i += 5) {
            CHECK(rv_index_remove(index, &i, 1) == 1, "%lld", (long long)i);
        }
        saved s = { bytes, 0, BYTES };
        CHECK_OK(rv_index_save(index, keep_bytes, &s));
        CHECK_OK(rv_index_open(&rv_heap, bytes, s.n, find_rows, rows, &again));
        if (keep != RV_KEEP_BORROWED) {
            CHECK_OK(rv_index_reserve(again, 0));
            CHECK(rv_index_remove(again, &(int64_t){ 3 }, 1) == 1, "it was kept");
        }
        CHECK_OK(rv_index_check(again));
        CHECK(rv_index_count(again) == rv_index_count(index) - 1, "%zu", rv_index_count(again));
        if (keep != RV_KEEP_BF16) {
            compare(again, rows, removed, false);
        }
        CHECK_OK(rv_index_reserve(again, 2));
        rv_index_add(again, 3, rows + 3 * DIM);
        rv_index_add(again, 6, rows + 6 * DIM);
        removed[3] = removed[6] = false;
        CHECK_OK(rv_index_check(again));
        if (keep != RV_KEEP_BF16) {
            compare(again, rows, removed, true);
        }
        rv_index_free(again);
        rv_index_free(index);
        for (size_t cut = 0; cut < s.n; cut += s.n / 50) { /* a file cut short is refused */
            again = NULL;
            rv_err e = rv_index_open(&rv_heap, bytes, cut, find_rows, rows, &again);
            CHECK(e == (cut < 4096 ? RV_E_FORMAT : RV_E_CORRUPT) && !again, "cut at %zu", cut);
        }
    }
}

TEST(damage_is_found_by_the_checksums)
{
    enum { BYTES = 4 << 20 };
    float *rows = unit_rows(ROWS, 12);
    _Alignas(64) static uint8_t bytes[BYTES];
    rv_index *index;
    CHECK_OK(rv_index_new(&rv_heap, &(rv_index_config){ .kind = "flat", .dim = DIM, .keep = RV_KEEP_F32 },
                          &index));
    CHECK_OK(rv_index_reserve(index, ROWS));
    for (size_t i = 0; i < ROWS; i++) {
        rv_index_add(index, (int64_t)i, rows + i * DIM);
    }
    saved s = { bytes, 0, BYTES };
    CHECK_OK(rv_index_save(index, keep_bytes, &s));
    rv_index_free(index);
    for (size_t at = 0; at < s.n; at += s.n / 97) {
        bytes[at] ^= 4;
        index = NULL;
        rv_err e = rv_index_open(&rv_heap, bytes, s.n, NULL, NULL, &index);
        e = e ? e : rv_index_check(index);
        CHECK(e == RV_E_CORRUPT || (e == RV_E_FORMAT && at < 16), "byte %zu: %s", at, rv_err_name(e));
        rv_index_free(index);
        bytes[at] ^= 4;
    }
}

/* The page of a damaged byte is met by a search or not: the answer is the right one, or there is none. A change needs all pages. */
TEST(a_damaged_page_never_changes_an_answer)
{
    enum { BYTES = 4 << 20 };
    static const struct {
        const char *kind;
        size_t bits;
    } kinds[] = { { "flat", 0 }, { "hnsw", 0 }, { "rabitq", 1 }, { "rabitq", 4 }, { "pq", 2 } };
    float *rows = unit_rows(ROWS, 12);
    _Alignas(64) static uint8_t bytes[BYTES];
    for (size_t kind = 0; kind < RV_COUNT(kinds); kind++) {
        rv_index *index;
        CHECK_OK(rv_index_new(&rv_heap,
                              &(rv_index_config){ .kind = kinds[kind].kind,
                                                  .bits = kinds[kind].bits,
                                                  .dim = DIM,
                                                  .m = 4,
                                                  .ef = 8,
                                                  .probes = 1,
                                                  .keep = RV_KEEP_F32 },
                              &index));
        CHECK_OK(rv_index_reserve(index, ROWS));
        for (size_t i = 0; i < ROWS; i++) {
            rv_index_add(index, (int64_t)i, rows + i * DIM);
        }
        saved s = { bytes, 0, BYTES };
        CHECK_OK(rv_index_save(index, keep_bytes, &s));
        size_t answered = 0, refused = 0;
        for (size_t at = 4096 + 5; at < s.n; at += s.n / 61) {
            rv_index *opened;
            bytes[at] ^= 0x80;
            if (rv_index_open(&rv_heap, bytes, s.n, NULL, NULL, &opened)) {
                bytes[at] ^= 0x80;
                refused++;
                continue;
            }
            for (size_t q = 0; q < QUERIES; q++) {
                rv_hit right[K], hits[K];
                size_t n_right, n = 0;
                const rv_search how = { .k = K, .way = q == 0 ? RV_WAY_SCAN : RV_WAY_INDEX };
                CHECK_OK(rv_index_search(index, rows + q * DIM, &how, right, &n_right));
                rv_err e = rv_index_search(opened, rows + q * DIM, &how, hits, &n);
                CHECK(e == RV_OK || e == RV_E_CORRUPT, "%s", rv_err_name(e));
                for (size_t i = 0; !e && i < n; i++) {
                    CHECK(n == n_right && hits[i].id == right[i].id && hits[i].score == right[i].score,
                          "%s with byte %zu changed: hit %zu is %lld, expected %lld", kinds[kind].kind, at, i,
                          (long long)hits[i].id, (long long)right[i].id);
                }
                answered += !e;
                refused += e != RV_OK;
            }
            CHECK(rv_index_reserve(opened, 1) == RV_E_CORRUPT, "byte %zu", at);
            CHECK(strstr(rv_err_text(), "are damaged") != NULL, "%s", rv_err_text());
            saved nowhere = { bytes, 0, 0 };
            CHECK(rv_index_save(opened, keep_bytes, &nowhere) == RV_E_CORRUPT, "byte %zu", at);
            rv_index_free(opened);
            bytes[at] ^= 0x80;
        }
        CHECK(refused > 0, "%s", kinds[kind].kind);
        CHECK(answered > 0 || strcmp(kinds[kind].kind, "hnsw") != 0, "%s", kinds[kind].kind);
        rv_index_free(index);
    }
}

TEST(every_metric_scores_what_it_says)
{
    static const float rows[3][2] = { { 3, 4 }, { 1, 0 }, { -1, 2 } }, query[2] = { 1, 1 };
    static const struct {
        rv_index_metric metric;
        int64_t order[3];
        float score[3];
    } cases[] = { { RV_INDEX_L2, { 1, 2, 0 }, { -1, -5, -13 } }, { RV_INDEX_IP, { 0, 1, 2 }, { 7, 1, 1 } } };
    for (size_t c = 0; c < RV_COUNT(cases); c++) {
        rv_index *index;
        CHECK_OK(rv_index_new(
            &rv_heap, &(rv_index_config){ .kind = "flat", .dim = 2, .metric = cases[c].metric }, &index));
        CHECK_OK(rv_index_reserve(index, 3));
        for (int64_t i = 0; i < 3; i++) {
            rv_index_add(index, i, rows[i]);
        }
        rv_hit hits[3];
        size_t found;
        search(index, query, 3, false, hits, &found);
        for (size_t i = 0; i < 3; i++) {
            CHECK(found == 3 && hits[i].id == cases[c].order[i] && hits[i].score == cases[c].score[i],
                  "case %zu place %zu: id %lld score %g", c, i, (long long)hits[i].id, (double)hits[i].score);
        }
        rv_index_free(index);
    }
}

TEST(kinds_that_are_not_there_are_refused)
{
    rv_index *index = NULL;
    CHECK_ERR(rv_index_new(&rv_heap, &(rv_index_config){ .kind = "magic", .dim = DIM }, &index),
              RV_E_NOT_FOUND);
    CHECK(!index, "untouched");
}

TEST(running_out_of_memory_leaves_the_index_as_it_was)
{
    float *rows = unit_rows(40, 5);
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_index *index = NULL;
        size_t added = 0;
        rv_err e = rv_index_new(&m.alloc, &flat, &index);
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
