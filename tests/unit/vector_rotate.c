#include "base/rng.h"
#include "test.h"
#include "vector/rotate.h"

#include <math.h>
#include <string.h>

static const size_t dims[] = { 1, 2, 3, 5, 31, 64, 100, 127, 128, 384, 768, 1000, 1536 };

static double product(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static void keeps_lengths_and_products(rv_rotation_kind kind)
{
    rv_rng rng;
    rv_rng_init(&rng, 5);
    for (size_t s = 0; s < RV_COUNT(dims); s++) {
        size_t dim = dims[s];
        if (kind == RV_ROTATION_HAAR && dim > 400) {
            continue; /* dim^3 steps to make */
        }
        float *x = fenced_floats(dim), *y = fenced_floats(dim), *rx = fenced_floats(dim),
              *ry = fenced_floats(dim);
        rv_rotation *r;
        CHECK_OK(rv_rotation_new(&rv_heap, dim, 42, kind, &r));
        for (int round = 0; round < 20; round++) {
            for (size_t i = 0; i < dim; i++) {
                x[i] = rv_rng_normal(&rng) * (i == 0 ? 50 : 1);
                y[i] = rv_rng_normal(&rng);
            }
            rv_rotation_apply(r, x, rx);
            rv_rotation_apply(r, y, ry);
            double lengths = sqrt(product(x, x, dim) * product(y, y, dim));
            double err = fabs(product(rx, rx, dim) / product(x, x, dim) - 1);
            CHECK(err <= 1e-5, "dim %zu: length off by %g", dim, err);
            err = fabs(product(rx, ry, dim) - product(x, y, dim)) / lengths;
            CHECK(err <= 1e-5, "dim %zu: product off by %g", dim, err);
        }
        rv_rotation_free(r);
    }
}

TEST(a_rotation_keeps_lengths_and_products_at_any_dimension)
{
    keeps_lengths_and_products(RV_ROTATION_HADAMARD);
    keeps_lengths_and_products(RV_ROTATION_HAAR);
}

TEST(a_rotation_of_a_matrix_is_the_one_it_was_taken_from)
{
    enum { DIM = 37 };
    float x[DIM], a[DIM], b[DIM];
    rv_rotation *r, *again;
    CHECK_OK(rv_rotation_new(&rv_heap, DIM, 3, RV_ROTATION_HAAR, &r));
    CHECK_OK(rv_rotation_of(&rv_heap, DIM, rv_rotation_matrix(r), &again));
    for (size_t i = 0; i < DIM; i++) {
        x[i] = (float)i - 9;
    }
    rv_rotation_apply(r, x, a);
    rv_rotation_apply(again, x, b);
    CHECK(memcmp(a, b, sizeof a) == 0 && memcmp(a, x, sizeof a) != 0, "the same turn");
    rv_rotation_free(again);
    rv_rotation_free(r);
    CHECK_OK(rv_rotation_new(&rv_heap, DIM, 3, RV_ROTATION_HADAMARD, &r));
    CHECK(!rv_rotation_matrix(r), "signs need no matrix");
    rv_rotation_free(r);
}

TEST(a_rotation_spreads_one_large_coordinate)
{
    for (size_t s = 0; s < RV_COUNT(dims); s++) {
        size_t dim = dims[s];
        if (dim < 31) {
            continue;
        }
        float *x = fenced_floats(dim);
        rv_rotation *r;
        CHECK_OK(rv_rotation_new(&rv_heap, dim, 7, RV_ROTATION_HADAMARD, &r));
        for (size_t at = 0; at < dim; at += dim / 7) {
            memset(x, 0, dim * sizeof *x);
            x[at] = 1;
            rv_rotation_apply(r, x, x);
            for (size_t i = 0; i < dim; i++) {
                CHECK(fabs((double)x[i]) * sqrt((double)dim) <= 8, "dim %zu: coordinate %zu still holds %g",
                      dim, i, (double)x[i]);
            }
        }
        rv_rotation_free(r);
    }
}

TEST(a_seed_gives_one_rotation_and_another_seed_another)
{
    float x[100], a[100], b[100], c[100];
    for (size_t i = 0; i < 100; i++) {
        x[i] = (float)i;
    }
    rv_rotation *first, *same, *other;
    CHECK_OK(rv_rotation_new(&rv_heap, 100, 1, RV_ROTATION_HADAMARD, &first));
    CHECK_OK(rv_rotation_new(&rv_heap, 100, 1, RV_ROTATION_HADAMARD, &same));
    CHECK_OK(rv_rotation_new(&rv_heap, 100, 2, RV_ROTATION_HADAMARD, &other));
    rv_rotation_apply(first, x, a);
    rv_rotation_apply(same, x, b);
    rv_rotation_apply(other, x, c);
    CHECK(memcmp(a, b, sizeof a) == 0, "the same seed");
    CHECK(memcmp(a, c, sizeof a) != 0, "another seed");
    rv_rotation_free(first);
    rv_rotation_free(same);
    rv_rotation_free(other);
}
