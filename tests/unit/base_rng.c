#include "base/rng.h"
#include "test.h"

#include <math.h>
#include <string.h>

TEST(the_sequence_is_that_of_xoshiro256starstar)
{
    /* State 1, 2, 3, 4 worked out by hand from the definition: rotl(s1 * 5, 7) * 9, and the step after it. */
    rv_rng rng = { { 1, 2, 3, 4 } };
    static const uint64_t want[] = { 11520, 0, 1509978240, 1215971899390074240u };
    for (size_t i = 0; i < RV_COUNT(want); i++) {
        uint64_t got = rv_rng_next(&rng);
        CHECK(got == want[i], "number %zu: %llu", i, (unsigned long long)got);
    }
    rv_rng a, b;
    rv_rng_init(&a, 0);
    CHECK(a.s[0] == 0xe220a8397b1dcdafu && a.s[1] == 0x6e789e6aa1b965f4u, "splitmix64 from 0: %llx",
          (unsigned long long)a.s[0]);
    rv_rng_init(&b, 0);
    for (int i = 0; i < 100; i++) {
        CHECK(rv_rng_next(&a) == rv_rng_next(&b), "same seed, same sequence, at %d", i);
    }
}

TEST(numbers_below_n_are_even_and_in_range)
{
    rv_rng rng;
    rv_rng_init(&rng, 1);
    int seen[7] = { 0 };
    for (int i = 0; i < 70000; i++) {
        uint64_t x = rv_rng_below(&rng, 7);
        CHECK(x < 7, "%llu", (unsigned long long)x);
        seen[x]++;
    }
    double chi2 = 0;
    for (int i = 0; i < 7; i++) {
        chi2 += (seen[i] - 10000.0) * (seen[i] - 10000.0) / 10000.0;
    }
    CHECK(chi2 <= 22.5, "chi2 %g; 22.5 is passed once in 1000 seeds", chi2);
    CHECK(rv_rng_below(&rng, 1) == 0, "below one");
    for (int i = 0; i < 1000; i++) {
        CHECK(rv_rng_below(&rng, UINT64_MAX) < UINT64_MAX, "largest");
        double u = rv_rng_unit(&rng);
        CHECK(u >= 0 && u < 1, "%g", u);
    }
}

TEST(normal_numbers_have_the_moments_of_a_normal)
{
    rv_rng rng;
    rv_rng_init(&rng, 2);
    double sum = 0, squares = 0, fourth = 0;
    int n = 200000;
    for (int i = 0; i < n; i++) {
        double x = (double)rv_rng_normal(&rng);
        sum += x, squares += x * x, fourth += x * x * x * x;
    }
    /* Five standard errors of each mean: 1, sqrt(2) and sqrt(96) over sqrt(n). */
    double error = 5 / sqrt(n);
    CHECK(fabs(sum / n) <= error, "mean %g", sum / n);
    CHECK(fabs(squares / n - 1) <= error * sqrt(2), "variance %g", squares / n);
    CHECK(fabs(fourth / n - 3) <= error * sqrt(96), "fourth moment %g", fourth / n);
}

TEST(kernel_bytes_and_uuids_differ)
{
    uint8_t a[40] = { 0 }, b[40] = { 0 };
    CHECK_OK(rv_random_bytes(a, sizeof a));
    CHECK_OK(rv_random_bytes(b, sizeof b));
    CHECK(memcmp(a, b, sizeof a) != 0, "320 random bits twice the same");
    CHECK_OK(rv_random_bytes(NULL, 0));
    char one[37], two[37];
    CHECK_OK(rv_uuid(one));
    CHECK_OK(rv_uuid(two));
    CHECK(strlen(one) == 36 && strcmp(one, two) != 0, "%s %s", one, two);
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        CHECK(dash ? one[i] == '-' : strchr("0123456789abcdef", one[i]) != NULL, "%s at %d", one, i);
    }
    CHECK(one[14] == '4' && strchr("89ab", one[19]), "version 4, RFC variant: %s", one);
}

TEST(hashes_are_xxh64)
{
    /* From the reference program: xxhsum -H1, and its sanity table for the seeded ones. */
    static const struct {
        const char *text;
        uint64_t seed, hash;
    } known[] = {
        { "", 0, 0xef46db3751d8e999u },
        { "a", 0, 0xd24ec4f1a98c6e5bu },
        { "abc", 0, 0x44bc2cf5ad770999u },
        { "xxhash", 20141025, 0xb559b98d844e0635u },
        { "Call me Ishmael. Some years ago--never mind how long precisely-", 0, 0x02a2e85470d6fd96u },
    };
    for (size_t i = 0; i < RV_COUNT(known); i++) {
        uint64_t h = rv_hash64(known[i].text, strlen(known[i].text), known[i].seed);
        CHECK(h == known[i].hash, "\"%s\": %016llx", known[i].text, (unsigned long long)h);
    }
    CHECK(rv_hash64(NULL, 0, 0) == known[0].hash, "NULL and nothing");
}
