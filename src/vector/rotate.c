#include "vector/rotate.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 3 };

struct rv_rotation {
    const rv_alloc *mem;
    const rv_kernels *kernels;
    size_t dim, power;   /* the largest power of two that is not above dim */
    float *signs;        /* [ROUNDS][dim] 1 or -1; NULL: haar */
    float *own;          /* [dim][dim] unless borrowed; NULL: hadamard */
    const float *matrix; /* [dim][dim] orthogonal; NULL: hadamard */
};

static rv_err fail_nomem(size_t dim)
{
    return rv_fail(RV_E_NOMEM, "no memory for a rotation of %zu dimensions", dim);
}

static void make_signs(rv_rotation *r, uint64_t seed)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < ROUNDS * r->dim; i++) {
        r->signs[i] = rv_rng_next(&rng) >> 63 ? 1.0f : -1.0f;
    }
}

static double product(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* Rows of normal numbers, each without what it shares with those before it: twice, because rounding leaves some after once. */
static void make_matrix(size_t dim, uint64_t seed, double *rows, float *out)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < dim; i++) {
        double *row = rows + i * dim;
        for (size_t d = 0; d < dim; d++) {
            row[d] = (double)rv_rng_normal(&rng);
        }
        for (size_t step = 0; step < 2 * i; step++) {
            const double *before = rows + step % i * dim;
            double shared = product(row, before, dim);
            for (size_t d = 0; d < dim; d++) {
                row[d] -= shared * before[d];
            }
        }
        double length = sqrt(product(row, row, dim));
        for (size_t d = 0; d < dim; d++) {
            row[d] /= length;
            out[i * dim + d] = (float)row[d];
        }
    }
}

rv_err rv_rotation_new(const rv_alloc *mem, size_t dim, uint64_t seed, rv_rotation_kind kind,
                       rv_rotation **out)
{
    const bool haar = kind == RV_ROTATION_HAAR;
    rv_rotation *r = rv_new(mem, sizeof *r);
    float *table = rv_new_array(mem, dim, (haar ? dim : ROUNDS) * sizeof *table);
    double *rows = haar ? rv_new_array(mem, dim, dim * sizeof *rows) : NULL;
    if (!r || !table || (haar && !rows)) {
        rv_free(mem, r);
        rv_free(mem, table);
        rv_free(mem, rows);
        return fail_nomem(dim);
    }
    *r = (rv_rotation){ .mem = mem, .kernels = rv_kernels_best(), .dim = dim, .power = 1 };
    while (r->power <= dim / 2) {
        r->power *= 2;
    }
    if (haar) {
        r->own = table;
        r->matrix = table;
        make_matrix(dim, seed, rows, table);
        rv_free(mem, rows);
    } else {
        r->signs = table;
        make_signs(r, seed);
    }
    *out = r;
    return RV_OK;
}

rv_err rv_rotation_of(const rv_alloc *mem, size_t dim, const float *matrix, rv_rotation **out)
{
    rv_rotation *r = rv_new(mem, sizeof *r);
    if (!r) {
        return fail_nomem(dim);
    }
    *r = (rv_rotation){ .mem = mem, .kernels = rv_kernels_best(), .dim = dim, .matrix = matrix };
    *out = r;
    return RV_OK;
}

const float *rv_rotation_matrix(const rv_rotation *r)
{
    return r->matrix;
}

void rv_rotation_free(rv_rotation *r)
{
    if (r) {
        rv_free(r->mem, r->signs);
        rv_free(r->mem, r->own);
        rv_free(r->mem, r);
    }
}

static void apply_matrix(const rv_rotation *r, const float *x, float *out)
{
    float from[RV_INDEX_HAAR_DIM_MAX];
    memcpy(from, x, r->dim * sizeof *x);
    memset(out, 0, r->dim * sizeof *out);
    r->kernels->gemm(&(rv_gemm){ .m = 1,
                                 .k = r->dim,
                                 .n = r->dim,
                                 .a = from,
                                 .b = r->matrix,
                                 .a_stride = r->dim,
                                 .b_stride = r->dim,
                                 .out = out,
                                 .out_stride = r->dim });
}

void rv_rotation_apply(const rv_rotation *r, const float *x, float *out)
{
    if (r->matrix) {
        apply_matrix(r, x, out);
        return;
    }
    if (out != x) {
        memcpy(out, x, r->dim * sizeof *out);
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        const float *signs = r->signs + round * r->dim;
        for (size_t i = 0; i < r->dim; i++) {
            out[i] *= signs[i];
        }
        r->kernels->hadamard(out, r->power);
        if (r->power != r->dim) {
            r->kernels->hadamard(out + r->dim - r->power, r->power);
        }
    }
}
