#include "vector/rotate.h"
#include "base/rng.h"

#include <string.h>

enum { ROUNDS = 3 };

struct rv_rotation {
    const rv_alloc *mem;
    const rv_kernels *kernels;
    size_t dim, power; /* the largest power of two that is not above dim */
    float *signs;      /* [ROUNDS][dim] 1 or -1 */
};

rv_err rv_rotation_new(const rv_alloc *mem, size_t dim, uint64_t seed, rv_rotation **out)
{
    rv_rotation *r = rv_new(mem, sizeof *r);
    float *signs = rv_new_array(mem, dim, ROUNDS * sizeof *signs);
    if (!r || !signs) {
        rv_free(mem, r);
        rv_free(mem, signs);
        return rv_fail(RV_E_NOMEM, "no memory for a rotation of %zu dimensions", dim);
    }
    *r = (rv_rotation){ .mem = mem, .kernels = rv_kernels_best(), .dim = dim, .power = 1, .signs = signs };
    while (r->power <= dim / 2) {
        r->power *= 2;
    }
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < ROUNDS * dim; i++) {
        signs[i] = rv_rng_next(&rng) >> 63 ? 1.0f : -1.0f;
    }
    *out = r;
    return RV_OK;
}

void rv_rotation_free(rv_rotation *r)
{
    if (r) {
        rv_free(r->mem, r->signs);
        rv_free(r->mem, r);
    }
}

void rv_rotation_apply(const rv_rotation *r, const float *x, float *out)
{
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
