#include "engine/sampler_priv.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 300, DRAWS = 40000 };

static rv_sampling plain(void)
{
    return (rv_sampling){ .temperature = 1, .top_p = 1, .repeat_penalty = 1 };
}

static rv_sampler *new_sampler(size_t n)
{
    rv_sampler *s = NULL;
    CHECK_OK(rv_sampler_new(&rv_heap, rv_kernels_best(), n, &s));
    return s;
}

static void random_logits(float *x, size_t n, uint64_t seed, float spread)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        x[i] = spread * rv_rng_normal(&rng);
    }
}

/* Draws many times and compares the counts with p: each within six standard deviations (one false alarm in
 * about 1e6 draws of this test), and nothing where p is 0. */
static void check_draws(const rv_sampling *how, const float *logits, const double *p, size_t n)
{
    rv_sampler *s = new_sampler(n);
    rv_rng rng;
    rv_rng_init(&rng, 5);
    int count[VOCAB] = { 0 };
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = rv_sampler_next(s, how, &rng, (rv_history){ 0 }, (rv_logits_row){ logits, NULL });
        CHECK(id >= 0 && (size_t)id < n, "token %d", id);
        count[id]++;
    }
    for (size_t i = 0; i < n; i++) {
        double expected = p[i] * DRAWS, sigma = sqrt(DRAWS * p[i] * (1 - p[i]));
        CHECK(fabs(count[i] - expected) <= 6 * sigma + 0.001, "token %zu: %d draws, expected %g", i, count[i],
              expected);
    }
    rv_sampler_free(s);
}

/* The definition of the chain from temperature on, by full sorting. */
static void expected(const rv_sampling *how, const float *logits, double *p, size_t n)
{
    size_t order[VOCAB];
    double best = -INFINITY, total = 0, reached = 0;
    for (size_t i = 0; i < n; i++) {
        order[i] = i;
        best = fmax(best, (double)logits[i]);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            if (logits[order[j]] > logits[order[i]] ||
                (logits[order[j]] == logits[order[i]] && order[j] < order[i])) {
                size_t swap = order[i];
                order[i] = order[j];
                order[j] = swap;
            }
        }
        p[order[i]] = exp(((double)logits[order[i]] - best) / (double)how->temperature);
    }
    size_t k = how->top_k && (size_t)how->top_k < n ? (size_t)how->top_k : n;
    for (size_t i = 0; i < n; i++) {
        total += i < k ? p[order[i]] : 0;
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        bool keep = i < k && (i == 0 || reached < (double)how->top_p * total);
        reached += p[order[i]];
        p[order[i]] = keep && p[order[i]] >= (double)how->min_p ? p[order[i]] : 0;
        sum += p[order[i]];
    }
    for (size_t i = 0; i < n; i++) {
        p[i] /= sum;
    }
}

TEST(draws_follow_the_filtered_distribution)
{
    static const struct {
        float temperature, top_p, min_p;
        int32_t top_k;
    } cases[] = {
        { 1, 1, 0, 0 },        { 0.5f, 1, 0, 0 },  { 3, 1, 0, 0 },        { 1, 1, 0, 1 },
        { 1, 1, 0, 5 },        { 1, 1, 0, 1000 },  { 1, 0.5f, 0, 0 },     { 1, 0.95f, 0, 0 },
        { 1, 0, 0, 0 },        { 1, 1, 0.15f, 0 }, { 0.3f, 1, 0.15f, 0 }, { 1, 0.8f, 0.1f, 20 },
        { 2, 0.9f, 0.05f, 7 }, { 1, 1, 1, 0 },
    };
    float logits[VOCAB];
    double p[VOCAB];
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        rv_sampling how = plain();
        how.temperature = cases[i].temperature;
        how.top_p = cases[i].top_p;
        how.min_p = cases[i].min_p;
        how.top_k = cases[i].top_k;
        random_logits(logits, VOCAB, 10 + i, 2);
        expected(&how, logits, p, VOCAB);
        check_draws(&how, logits, p, VOCAB);
    }
}

TEST(equal_logits_are_cut_by_id)
{
    float logits[8] = { 0 };
    rv_sampling how = plain();
    how.top_k = 3;
    double p[8] = { 1.0 / 3, 1.0 / 3, 1.0 / 3 };
    check_draws(&how, logits, p, 8);
    how.top_k = 0;
    how.top_p = 0.3f; /* two of eight are less */
    check_draws(&how, logits, p, 8);
    how.temperature = 0;
    p[0] = 1;
    p[1] = p[2] = 0;
    check_draws(&how, logits, p, 8);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Of a vocabulary of real size, flat and peaked: whatever is drawn is among the first of the sorted ones, and the last of those is
 * drawn too when there are few. */
TEST(cuts_of_a_large_vocabulary_are_those_of_sorting)
{
    enum { MANY = 65536, TRIES = 300 };
    static float logits[MANY], sorted[MANY];
    rv_sampler *s = new_sampler(MANY);
    for (uint64_t seed = 0; seed < 6; seed++) {
        random_logits(logits, MANY, 70 + seed, seed % 2 ? 3 : 0.01f);
        memcpy(sorted, logits, sizeof sorted);
        qsort(sorted, MANY, sizeof *sorted, by_value);
        double total = 0, reached = 0;
        for (size_t i = 0; i < MANY; i++) {
            total += exp((double)(sorted[i] - sorted[0]));
        }
        rv_sampling how = plain();
        how.top_k = seed < 2 ? 3 : 0;
        how.top_p = seed < 2 ? 1 : seed < 4 ? 0.9f : 2.5f / MANY;
        size_t n = 0;
        for (; seed < 2 ? n < 3 : reached < (double)how.top_p * total; n++) {
            reached += exp((double)(sorted[n] - sorted[0]));
        }
        rv_rng rng;
        rv_rng_init(&rng, seed);
        float lowest = sorted[0];
        for (int i = 0; i < TRIES; i++) {
            float x =
                logits[rv_sampler_next(s, &how, &rng, (rv_history){ 0 }, (rv_logits_row){ logits, NULL })];
            /* a sum of float32 weights stops a little sooner or later among many that are nearly equal */
            CHECK(x >= sorted[n + n / 1000 - 1], "seed %d: %g, the last of %zu is %g", (int)seed, (double)x,
                  n, (double)sorted[n - 1]);
            lowest = x < lowest ? x : lowest;
        }
        CHECK(n > 9 || lowest == sorted[n - 1], "seed %d: %g of %zu was never drawn", (int)seed,
              (double)sorted[n - 1], n);
        CHECK(n <= 9 || lowest < sorted[n / 2], "seed %d: only the first half of %zu", (int)seed, n);
    }
    rv_sampler_free(s);
}

TEST(what_is_not_finite_is_never_chosen)
{
    float logits[6] = { NAN, INFINITY, 1, -INFINITY, 2, NAN };
    rv_sampling how = plain();
    double p[6] = { 0 };
    p[2] = 1 / (1 + exp(1));
    p[4] = 1 - p[2];
    check_draws(&how, logits, p, 6);
    how.top_k = 4;
    how.top_p = 0.999f;
    check_draws(&how, logits, p, 6);
    how = plain();
    how.temperature = 0;
    p[2] = 0;
    p[4] = 1;
    check_draws(&how, logits, p, 6);

    rv_sampler *s = new_sampler(3);
    rv_rng rng;
    rv_rng_init(&rng, 1);
    float none[3] = { NAN, -INFINITY, INFINITY };
    CHECK(rv_sampler_next(s, &how, &rng, (rv_history){ 0 }, (rv_logits_row){ none, NULL }) == -1,
          "nothing can be chosen");
    how.temperature = 1;
    CHECK(rv_sampler_next(s, &how, &rng, (rv_history){ 0 }, (rv_logits_row){ none, NULL }) == -1,
          "nothing can be chosen");
    rv_sampler_free(s);
}

TEST(extreme_logits_and_temperatures_stay_sane)
{
    float logits[4] = { 3e38f, -3e38f, 2.9e38f, 0 };
    double p[4] = { 1 };
    rv_sampling how = plain();
    check_draws(&how, logits, p, 4);
    how.temperature = 1e-30f;
    check_draws(&how, logits, p, 4);
    how.temperature = 100;
    check_draws(&how, logits, p, 4);
}

/* The logit of every token after penalties, read back through a sampler that takes the largest. */
static int32_t greedy(const rv_sampling *how, rv_history past, const float *logits, size_t n)
{
    rv_sampling cold = *how;
    cold.temperature = 0;
    rv_sampler *s = new_sampler(n);
    rv_rng rng;
    rv_rng_init(&rng, 1);
    int32_t first = rv_sampler_next(s, &cold, &rng, past, (rv_logits_row){ logits, NULL });
    int32_t again = rv_sampler_next(s, &cold, &rng, past, (rv_logits_row){ logits, NULL });
    CHECK(first == again, "%d, then %d: counts were left behind", first, again);
    rv_sampler_free(s);
    return first;
}

TEST(repetition_penalty_divides_positive_and_multiplies_negative_logits_once)
{
    int32_t ids[] = { 0, 0, 0, 1 };
    rv_history past = { ids, 4, 2 };
    rv_sampling how = plain();
    how.repeat_penalty = 2;
    how.repeat_last = 4;
    float logits[3] = { 4.2f, 0, 2 };
    CHECK(greedy(&how, past, logits, 3) == 0, "4.2 / 2 beats 2: once, not three times");
    logits[0] = 3.8f;
    CHECK(greedy(&how, past, logits, 3) == 2, "3.8 / 2 loses to 2");
    how.repeat_last = 1; /* only token 1 */
    CHECK(greedy(&how, past, logits, 3) == 0, "token 0 lies outside the window");
    float negative[3] = { -9, -1, -1.5f };
    CHECK(greedy(&how, past, negative, 3) == 2, "-1 * 2 loses to -1.5");
    how.repeat_last = 1000;
    CHECK(greedy(&how, past, logits, 3) == 2, "a window longer than the history");
}

TEST(frequency_and_presence_count_only_the_answer)
{
    int32_t ids[] = { 2, 2, 2, 0, 0, 1 };
    rv_history past = { ids, 6, 3 };
    rv_sampling how = plain();
    float logits[3] = { 10, 9.4f, 8.1f };
    how.frequency_penalty = 1;
    CHECK(greedy(&how, past, logits, 3) == 1, "10 - 2, 9.4 - 1, 8.1");
    how.presence_penalty = 0.5f;
    CHECK(greedy(&how, past, logits, 3) == 2, "7.5, 7.9, 8.1");
    how.frequency_penalty = -1;
    CHECK(greedy(&how, past, logits, 3) == 0, "negative penalties reward");
}

TEST(bias_comes_last)
{
    int32_t ids[] = { 0 };
    rv_history past = { ids, 1, 0 };
    rv_sampling how = plain();
    how.repeat_penalty = 100;
    how.repeat_last = 1;
    rv_bias bias[] = { { 0, 100 }, { 1, -100 } };
    how.bias = bias;
    how.n_bias = 2;
    float logits[3] = { 1, 50, 2 };
    CHECK(greedy(&how, past, logits, 3) == 0, "forced in spite of the penalty");
    how.n_bias = 0;
    CHECK(greedy(&how, past, logits, 3) == 1, "without bias");
}

TEST(the_same_seed_gives_the_same_tokens)
{
    float logits[VOCAB];
    rv_sampling how = rv_sampling_default();
    how.temperature = 1.5f;
    rv_sampler *s = new_sampler(VOCAB);
    int32_t first[64];
    int differs = 0;
    for (int round = 0; round < 3; round++) {
        rv_rng rng;
        rv_rng_init(&rng, round == 2 ? 43 : 42);
        int32_t ids[65] = { 7 };
        for (size_t i = 0; i < 64; i++) {
            random_logits(logits, VOCAB, i, 2);
            ids[i + 1] = rv_sampler_next(s, &how, &rng, (rv_history){ ids, i + 1, 1 },
                                         (rv_logits_row){ logits, NULL });
            if (round == 0) {
                first[i] = ids[i + 1];
            }
            CHECK(round != 1 || ids[i + 1] == first[i], "token %zu", i);
            differs += round == 2 && ids[i + 1] != first[i];
        }
    }
    CHECK(differs > 10, "another seed gives other tokens: %d of 64 differ", differs);
    rv_sampler_free(s);
}

TEST(log_probabilities_add_up_and_the_top_is_sorted)
{
    float logits[VOCAB];
    random_logits(logits, VOCAB, 3, 4);
    logits[17] = NAN;
    rv_sampler *s = new_sampler(VOCAB);
    double best = -INFINITY, sum = 0;
    for (size_t i = 0; i < VOCAB; i++) {
        best = i != 17 ? fmax(best, (double)logits[i]) : best;
    }
    for (size_t i = 0; i < VOCAB; i++) {
        sum += i != 17 ? exp((double)logits[i] - best) : 0;
    }
    double exact = best + log(sum);
    double got = rv_sampler_normalise(s, (rv_logits_row){ logits, NULL });
    CHECK(fabs(got - exact) <= 1e-5, "%.9g, expected %.9g", got, exact); /* a float32 sum of 300 */
    rv_token_prob top[5];
    size_t n = rv_sampler_top(s, logits, exact, top, 5);
    CHECK(n == 5 && fabs((double)top[0].logprob - (best - exact)) <= 1e-5, "%zu found", n);
    for (size_t i = 0; i < 5; i++) {
        CHECK(fabs((double)top[i].logprob - ((double)logits[top[i].id] - exact)) <= 1e-5, "entry %zu", i);
        size_t larger = 0;
        for (size_t j = 0; j < VOCAB; j++) {
            larger += logits[j] > logits[top[i].id];
        }
        CHECK(larger == i, "entry %zu has %zu tokens before it", i, larger);
    }
    CHECK(rv_sampler_top(s, logits, exact, top, 0) == 0, "none asked for");
    rv_sampler_free(s);
}

TEST(settings_out_of_range_are_named)
{
    rv_bias bias[] = { { 5, NAN } };
    const struct {
        const char *word;
        rv_sampling how;
    } cases[] = {
        { "temperature", { .temperature = -1, .top_p = 1, .repeat_penalty = 1 } },
        { "temperature", { .temperature = NAN, .top_p = 1, .repeat_penalty = 1 } },
        { "top_p", { .top_p = 1.5f, .repeat_penalty = 1 } },
        { "min_p", { .top_p = 1, .min_p = -0.1f, .repeat_penalty = 1 } },
        { "top_k", { .top_p = 1, .top_k = -1, .repeat_penalty = 1 } },
        { "repeat_penalty", { .top_p = 1 } },
        { "repeat_last", { .top_p = 1, .repeat_penalty = 1, .repeat_last = -1 } },
        { "presence_penalty", { .top_p = 1, .repeat_penalty = 1, .presence_penalty = INFINITY } },
        { "frequency_penalty", { .top_p = 1, .repeat_penalty = 1, .frequency_penalty = NAN } },
        { "bias", { .top_p = 1, .repeat_penalty = 1, .bias = bias, .n_bias = 1 } },
        { "token 5", { .top_p = 1, .repeat_penalty = 1, .bias = bias, .n_bias = 1 } },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        CHECK_ERR(rv_sampling_check(&cases[i].how, strstr(cases[i].word, "token") ? 5 : 6), RV_E_ARG);
        CHECK(strstr(rv_err_text(), cases[i].word), "%s: %s", cases[i].word, rv_err_text());
    }
    rv_sampling usual = rv_sampling_default();
    CHECK_OK(rv_sampling_check(&usual, 6));
}
