/* One-bit codes: every level gives the bits of the definition, and the definition is the sum it says. */
#include "kernels_matrix.h"

static const size_t dims[] = { 16, 32, 48, 112, 128, 272, 384, 1536, 4096 };

/* Codes of n rows with random signs; the rest of the last block is noise that must not be looked at as rows. */
static uint8_t *random_blocks(rv_rng *rng, size_t dim, size_t n_rows)
{
    size_t n_blocks = (n_rows + RV_ONEBIT_ROWS - 1) / RV_ONEBIT_ROWS, bytes = RV_ONEBIT_BLOCK_BYTES(dim);
    uint8_t *blocks = fenced_bytes(n_blocks * bytes);
    for (size_t b = 0; b < n_blocks; b++) {
        for (size_t i = 0; i < 4 * dim; i++) {
            blocks[b * bytes + i] = (uint8_t)rv_rng_next(rng);
        }
        float factors[3 * RV_ONEBIT_ROWS];
        for (size_t i = 0; i < RV_COUNT(factors); i++) {
            factors[i] = (float)rv_rng_unit(rng);
        }
        memcpy(blocks + b * bytes + 4 * dim, factors, sizeof factors);
    }
    return blocks;
}

static float *random_row(rv_rng *rng, size_t dim)
{
    float *x = fenced_floats(dim);
    for (size_t i = 0; i < dim; i++) {
        x[i] = rv_rng_normal(rng);
    }
    return x;
}

static float *random_dither(rv_rng *rng, size_t dim)
{
    float *x = fenced_floats(dim);
    for (size_t i = 0; i < dim; i++) {
        x[i] = (float)rv_rng_below(rng, 1 << 16) / 65536;
    }
    return x;
}

TEST(onebit_tables_are_sums_of_sixteen_steps_and_the_same_at_every_level)
{
    rv_rng rng;
    rv_rng_init(&rng, 41);
    for (size_t d = 0; d < RV_COUNT(dims); d++) {
        size_t dim = dims[d];
        float *x = random_row(&rng, dim), *centre = random_row(&rng, dim), *dither = random_dither(&rng, dim);
        if (d % 3 == 1) {
            memcpy(x, centre, dim * sizeof *x); /* nothing between them: no step */
        }
        uint8_t *want = fenced_bytes(4 * dim);
        float want_step,
            want_length =
                rv_kernels_at(RV_CPU_SCALAR)->onebit_table(x, centre, dither, dim, want, &want_step);
        double length = 0;
        for (size_t i = 0; i < dim; i++) {
            double t = (double)x[i] - (double)centre[i];
            length += t * t;
            /* the pattern with only this sign, less the one with none, is 2 u - 15 */
            const uint8_t *four = want + 16 * (i / 4);
            double back = (double)(four[1 << i % 4] - four[0]) / 2 * (double)want_step;
            CHECK(fabs(back - t) <= (double)want_step * 1.001, "dim %zu place %zu: %g for %g, step %g", dim,
                  i, back, t, (double)want_step);
        }
        CHECK(fabs((double)want_length - length) <= 1e-6 * length + 1e-30, "dim %zu: %g, exact %g", dim,
              (double)want_length, length);
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            if (k) {
                uint8_t *table = fenced_bytes(4 * dim);
                float step, got = k->onebit_table(x, centre, dither, dim, table, &step);
                CHECK(got == want_length && step == want_step && memcmp(table, want, 4 * dim) == 0,
                      "%s dim %zu: length %g %g step %g %g", k->name, dim, (double)got, (double)want_length,
                      (double)step, (double)want_step);
            }
        }
    }
}

TEST(onebit_scans_give_the_same_rows_and_bits_at_every_level)
{
    static const size_t counts[] = { 1, 15, 16, 17, 31, 32, 33, 49, 64, 100 };
    rv_rng rng;
    rv_rng_init(&rng, 42);
    for (size_t c = 0; c < RV_COUNT(dims) * RV_COUNT(counts); c++) {
        size_t dim = dims[c / RV_COUNT(counts)], n_rows = counts[c % RV_COUNT(counts)];
        uint8_t *blocks = random_blocks(&rng, dim, n_rows), *table = fenced_bytes(4 * dim);
        float *x = random_row(&rng, dim), *centre = random_row(&rng, dim), *dither = random_dither(&rng, dim);
        rv_onebit_query query = { .table = table, .dim = dim, .spread = 0.25f };
        query.base = rv_kernels_at(RV_CPU_SCALAR)->onebit_table(x, centre, dither, dim, table, &query.step);
        if (c % 7 == 3) {
            memset(table, 60, 4 * dim); /* the largest sums */
        }
        query.offset = query.step * 7.5f * (float)dim;
        size_t room = (n_rows + RV_ONEBIT_ROWS - 1) / RV_ONEBIT_ROWS * RV_ONEBIT_ROWS;
        uint32_t *want_at = (uint32_t *)(void *)fenced_floats(room);
        float *want = fenced_floats(room);
        const rv_kernels *scalar = rv_kernels_at(RV_CPU_SCALAR);
        CHECK(scalar->onebit_scan(&query, blocks, n_rows, INFINITY, want_at, want) == n_rows, "dim %zu", dim);
        float limit = want[n_rows / 2];
        size_t n = scalar->onebit_scan(&query, blocks, n_rows, limit, want_at, want);
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            if (k) {
                uint32_t *at = (uint32_t *)(void *)fenced_floats(room);
                float *low = fenced_floats(room);
                size_t got = k->onebit_scan(&query, blocks, n_rows, limit, at, low);
                CHECK(got == n && memcmp(at, want_at, n * 4) == 0 && memcmp(low, want, n * 4) == 0,
                      "%s dim %zu rows %zu: %zu, expected %zu", k->name, dim, n_rows, got, n);
            }
        }
    }
}

TEST(onebit_sums_are_the_products_of_signs_and_steps)
{
    rv_rng rng;
    rv_rng_init(&rng, 43);
    enum { DIM = 48, ROWS = 40 };
    uint8_t *blocks = random_blocks(&rng, DIM, ROWS), *table = fenced_bytes(4 * DIM);
    float *x = random_row(&rng, DIM), *zero = fenced_floats(DIM), *dither = random_dither(&rng, DIM), step;
    (void)rv_kernels_best()->onebit_table(x, zero, dither, DIM, table, &step);
    /* base 0, spread 0 and slope as it lies there: low = add - slope * sum of signs * steps */
    rv_onebit_query query = { .table = table, .dim = DIM, .step = 1, .offset = 7.5f * DIM };
    uint32_t at[64];
    float low[64];
    CHECK(rv_kernels_best()->onebit_scan(&query, blocks, ROWS, INFINITY, at, low) == ROWS, "all rows");
    for (size_t r = 0; r < ROWS; r++) {
        const uint8_t *block = blocks + r / 32 * RV_ONEBIT_BLOCK_BYTES(DIM);
        float factors[96];
        memcpy(factors, block + 4 * DIM, sizeof factors);
        double product = 0;
        for (size_t i = 0; i < DIM; i++) {
            int set = block[16 * (i / 4) + r % 16] >> (r % 32 < 16 ? 0 : 4) >> (i % 4) & 1;
            const uint8_t *four = table + 16 * (i / 4);
            double t = (double)(four[1 << i % 4] - four[0]) / 2; /* u - 7.5 */
            product += set ? t : -t;
        }
        double want = (double)factors[r % 32] - (double)factors[32 + r % 32] * product;
        CHECK(at[r] == r && fabs((double)low[r] - want) <= 1e-4 * (1 + fabs(want)),
              "row %zu: %g, expected %g", r, (double)low[r], want);
    }
}
