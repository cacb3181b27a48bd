/* Memory that runs out at every place: an index of lists or product codes is as before, says so, and holds nothing. */
#include "base/rng.h"
#include "test.h"
#include "vector/index.h"

#include <stdlib.h>

enum { DIM = 20, ROWS = 1300, K = 5 };

static float rows[ROWS][DIM];

static void fill(void)
{
    rv_rng rng;
    rv_rng_init(&rng, 3);
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t d = 0; d < DIM; d++) {
            rows[i][d] = rv_rng_normal(&rng);
        }
    }
}

static void build_and_search(const char *kind)
{
    fill();
    static int64_t ids[ROWS];
    static const float *at[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        ids[i] = (int64_t)i;
        at[i] = rows[i];
    }
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        const rv_index_config config = { .kind = kind, .dim = DIM, .metric = RV_INDEX_L2, .lists = 6 };
        rv_index *index = NULL;
        rv_hit hits[K];
        size_t found = 0, expected = 0;
        rv_err e = rv_index_new(&m.alloc, &config, &index);
        if (!e) {
            e = rv_index_build(index, NULL, ids, at, ROWS - 100, NULL, NULL);
            expected = e ? 0 : ROWS - 100;
            CHECK(rv_index_count(index) == expected, "call %ld: %zu rows", m.fail_at, rv_index_count(index));
        }
        for (size_t i = ROWS - 100; i < ROWS && !e; i++) {
            e = rv_index_reserve(index, 1);
            if (!e) {
                rv_index_add(index, (int64_t)i, rows[i]);
                expected++;
            }
        }
        e = e ? e : rv_index_search(index, rows[7], &(rv_search){ .k = K }, hits, &found);
        CHECK(e == RV_OK || e == RV_E_NOMEM, "call %ld: %s", m.fail_at, rv_err_name(e));
        CHECK(e == RV_OK || m.failed, "call %ld: %s without a reason", m.fail_at, rv_err_text());
        if (!e) {
            CHECK(found == K && hits[0].id == 7, "call %ld: %zu found, first %lld", m.fail_at, found,
                  (long long)hits[0].id);
        }
        if (index) {
            CHECK(rv_index_count(index) == expected, "call %ld: %zu of %zu rows", m.fail_at,
                  rv_index_count(index), expected);
            rv_err sound = rv_index_check(index);
            CHECK(sound == RV_OK || (sound == RV_E_NOMEM && m.failed), "call %ld: %s", m.fail_at,
                  rv_err_text());
        }
        rv_index_free(index);
    }
}

TEST(lists_survive_memory_that_runs_out)
{
    build_and_search("rabitq");
}

TEST(product_codes_survive_memory_that_runs_out)
{
    build_and_search("pq");
}
