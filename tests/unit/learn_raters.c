/* Who rates against what the models knew is not believed, and who means it is. */
#include "learn/raters.h"

#include "base/rng.h"
#include "test.h"

enum { MANY = 4000 };

/* n ratings of a rater; turned: of 100, how many say the opposite. */
static size_t rate(rv_rating *at, size_t from, uint32_t rater, size_t n, unsigned turned, uint64_t seed)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = from; i < from + n; i++) {
        double sure = rv_rng_unit(&rng);
        bool right = rv_rng_unit(&rng) < sure, lies = rv_rng_below(&rng, 100) < turned;
        at[i] = (rv_rating){ rater, (float)sure, right != lies };
    }
    return from + n;
}

TEST(one_who_floods_with_lies_is_not_believed_and_the_others_are)
{
    static rv_rating at[MANY];
    float weight[5];
    size_t n = 0;
    for (uint32_t r = 0; r < 4; r++) {
        n = rate(at, n, r, 100, 0, r);
    }
    n = rate(at, n, 4, 3000, 100, 9);
    CHECK_OK(rv_raters_weigh(&rv_heap, at, n, 5, weight));
    CHECK(weight[4] == 0, "%g", (double)weight[4]);
    for (int r = 0; r < 4; r++) {
        CHECK(weight[r] > 0.7f, "rater %d: %g", r, (double)weight[r]);
    }
}

TEST(chance_weighs_little_and_a_fifth_of_mistakes_weighs_much)
{
    static rv_rating at[MANY];
    float weight[4];
    size_t n = rate(at, 0, 0, 500, 0, 1);
    n = rate(at, n, 1, 500, 0, 2);
    n = rate(at, n, 2, 500, 50, 3);
    n = rate(at, n, 3, 500, 20, 4);
    CHECK_OK(rv_raters_weigh(&rv_heap, at, n, 4, weight));
    CHECK(weight[2] < 0.25f && weight[3] > 0.4f && weight[0] > 0.85f, "%g %g %g", (double)weight[2],
          (double)weight[3], (double)weight[0]);
}

TEST(who_is_alone_new_or_rates_models_that_know_nothing_is_believed)
{
    static rv_rating at[MANY];
    float weight[3];
    size_t n = rate(at, 0, 0, 500, 100, 1);
    CHECK_OK(rv_raters_weigh(&rv_heap, at, n, 1, weight));
    CHECK(weight[0] == 1, "alone: %g", (double)weight[0]);
    n = rate(at, 0, 0, 200, 50, 1);
    n = rate(at, n, 1, 200, 50, 2);
    CHECK_OK(rv_raters_weigh(&rv_heap, at, n, 3, weight));
    CHECK(weight[0] == 1 && weight[1] == 1 && weight[2] == 1, "%g %g %g", (double)weight[0],
          (double)weight[1], (double)weight[2]);
    n = rate(at, 0, 0, 500, 0, 1);
    n = rate(at, n, 1, 500, 0, 2);
    n = rate(at, n, 2, 3, 0, 3);
    CHECK_OK(rv_raters_weigh(&rv_heap, at, n, 3, weight));
    CHECK(weight[2] > 0.8f, "three ratings: %g", (double)weight[2]);
    CHECK_OK(rv_raters_weigh(&rv_heap, at, 0, 3, weight));
    CHECK(weight[0] == 1, "nothing rated: %g", (double)weight[0]);
}

TEST(without_memory_it_says_so)
{
    static rv_rating at[MANY];
    float weight[2];
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        size_t n = rate(at, rate(at, 0, 0, 50, 0, 1), 1, 50, 0, 2);
        rv_err e = rv_raters_weigh(&m.alloc, at, n, 2, weight);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_name(e));
    }
}
