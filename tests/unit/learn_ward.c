/* Ward's linkage against its definition: at every join the two groups whose union costs least, looked for among all pairs. */
#include "base/rng.h"
#include "learn/ward.h"
#include "test.h"

#include <math.h>
#include <string.h>

enum { N = 40, DIM = 5 };

static void draw(float v[N][DIM], uint64_t seed)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < N; i++) {
        double length = 0;
        for (size_t d = 0; d < DIM; d++) {
            v[i][d] = rv_rng_normal(&rng) + (d == i % 3 ? 3 : 0);
            length += (double)v[i][d] * (double)v[i][d];
        }
        for (size_t d = 0; d < DIM; d++) {
            v[i][d] = (float)(v[i][d] / sqrt(length));
        }
    }
}

typedef struct group {
    double middle[DIM];
    size_t size;
} group;

static double cost(const group *a, const group *b)
{
    double far = 0, na = (double)a->size, nb = (double)b->size;
    for (size_t d = 0; d < DIM; d++) {
        far += (a->middle[d] - b->middle[d]) * (a->middle[d] - b->middle[d]);
    }
    return na * nb / (na + nb) * far;
}

static group joined(const group *a, const group *b)
{
    group out = { .size = a->size + b->size };
    for (size_t d = 0; d < DIM; d++) {
        out.middle[d] = ((double)a->size * a->middle[d] + (double)b->size * b->middle[d]) / (double)out.size;
    }
    return out;
}

/* The costs of all joins, which do not depend on the order in which a chain finds them. */
static void plain(float v[N][DIM], double costs[N - 1])
{
    group at[N];
    size_t n = N;
    for (size_t i = 0; i < N; i++) {
        at[i] = (group){ .size = 1 };
        for (size_t d = 0; d < DIM; d++) {
            at[i].middle[d] = (double)v[i][d];
        }
    }
    for (size_t join = 0; join + 1 < N; join++) {
        size_t a = 0, b = 1;
        for (size_t i = 0; i < n; i++) {
            for (size_t j = i + 1; j < n; j++) {
                if (cost(&at[i], &at[j]) < cost(&at[a], &at[b])) {
                    a = i, b = j;
                }
            }
        }
        costs[join] = cost(&at[a], &at[b]);
        at[a] = joined(&at[a], &at[b]);
        at[b] = at[--n];
    }
}

static void sort(double *x, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        for (size_t j = i; j > 0 && x[j - 1] > x[j]; j--) {
            double t = x[j];
            x[j] = x[j - 1];
            x[j - 1] = t;
        }
    }
}

TEST(chains_join_what_looking_at_all_pairs_joins)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        float v[N][DIM];
        const float *at[N];
        rv_ward_group groups[2 * N - 1];
        group made[2 * N - 1];
        double costs[N - 1], expected[N - 1];
        draw(v, seed);
        for (size_t i = 0; i < N; i++) {
            at[i] = v[i];
            made[i] = (group){ .size = 1 };
            for (size_t d = 0; d < DIM; d++) {
                made[i].middle[d] = (double)v[i][d];
            }
        }
        CHECK_OK(rv_ward(&rv_heap, at, N, DIM, NULL, NULL, groups));
        for (size_t g = N; g < 2 * N - 1; g++) {
            CHECK(groups[g].left < g && groups[g].right < g, "group %zu of %zu and %zu", g, groups[g].left,
                  groups[g].right);
            const group *a = &made[groups[g].left], *b = &made[groups[g].right];
            costs[g - N] = cost(a, b);
            made[g] = joined(a, b);
            double length = 0;
            for (size_t d = 0; d < DIM; d++) {
                length += made[g].middle[d] * made[g].middle[d];
            }
            CHECK(groups[g].size == made[g].size && fabs((double)groups[g].cohesion - sqrt(length)) <= 1e-4,
                  "group %zu: cohesion %g", g, (double)groups[g].cohesion);
        }
        CHECK(groups[2 * N - 2].size == N, "the last group");
        plain(v, expected);
        sort(costs, N - 1);
        for (size_t i = 0; i + 1 < N; i++) {
            CHECK(fabs(costs[i] - expected[i]) <= 1e-4, "seed %llu, join %zu: %g, expected %g",
                  (unsigned long long)seed, i, costs[i], expected[i]);
        }
    }
}

static bool never(void *self)
{
    (void)self;
    return false;
}

TEST(it_is_stopped_and_says_what_it_lacks)
{
    float v[N][DIM];
    const float *at[N];
    rv_ward_group groups[2 * N - 1];
    draw(v, 1);
    for (size_t i = 0; i < N; i++) {
        at[i] = v[i];
    }
    CHECK_ERR(rv_ward(&rv_heap, at, N, DIM, never, NULL, groups), RV_E_CANCELLED);
    CHECK_ERR(rv_ward(&rv_heap, at, 0, DIM, NULL, NULL, groups), RV_E_ARG);
    CHECK_OK(rv_ward(&rv_heap, at, 1, DIM, NULL, NULL, groups));
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_err e = rv_ward(&m.alloc, at, N, DIM, NULL, NULL, groups);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK), "call %ld: %s", m.fail_at, rv_err_text());
    }
}
