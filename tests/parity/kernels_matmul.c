/* Every level multiplies every type: exactly alike with int8 activations, within float32 rounding of float64 with float32
 * ones, and without any influence of batch, position in it, or split of the rows. */
#include "kernels_matrix.h"

typedef struct shape {
    size_t rows, cols, n_tokens;
} shape;

static const shape shapes[] = { { 1, 256, 1 },   { 15, 512, 2 },  { 16, 256, 3 },   { 17, 768, 4 },
                                { 33, 1024, 5 }, { 64, 256, 8 },  { 70, 512, 9 },   { 31, 256, 15 },
                                { 48, 1280, 7 }, { 96, 512, 23 }, { 5, 2560, 11 },  { 40, 32, 6 },
                                { 7, 96, 13 },   { 130, 160, 1 }, { 3, 1, 2 },      { 9, 7, 5 },
                                { 20, 300, 10 }, { 4, 33, 4 },    { 70, 512, 1 },   { 139, 256, 2 },
                                { 64, 1280, 3 }, { 200, 256, 4 }, { 37, 1280, 67 }, { 50, 768, 259 },
                                { 33, 96, 64 } }; /* so many that panels are made, in one run and in two */

static bool fits(rv_type type, size_t cols)
{
    return cols % rv_type_get((uint32_t)type)->block_weights == 0;
}

TEST(int8_products_are_the_same_bits_at_every_level)
{
    rv_rng rng;
    rv_rng_init(&rng, 1);
    const rv_kernels *definition = rv_kernels_at(RV_CPU_SCALAR);
    for (size_t i = 0; i < RV_COUNT(all_types) * RV_COUNT(shapes) * 2; i++) {
        rv_type type = all_types[i % RV_COUNT(all_types)];
        shape s = shapes[i / RV_COUNT(all_types) % RV_COUNT(shapes)];
        bool tame = i / RV_COUNT(all_types) / RV_COUNT(shapes) > 0;
        if (!is_quantised(type) || !fits(type, s.cols)) {
            continue;
        }
        const char *name = rv_type_get((uint32_t)type)->name;
        rv_matrix w = random_matrix(&rng, type, s.rows, s.cols, tame);
        rv_act act = random_act(&rng, definition, s.cols, s.n_tokens, true);
        float *want = fenced_floats(s.n_tokens * s.rows);
        definition->matmul(&w, &act, 0, s.rows, want, s.rows);
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            if (!k) {
                continue;
            }
            rv_act own = act_for(k, &act);
            CHECK(memcmp(own.blocks, act.blocks, rv_act_bytes(s.cols, s.n_tokens)) == 0,
                  "%s quantises otherwise", k->name);
            rv_matrix packed = packed_matrix(k, w);
            float *got = fenced_floats(s.n_tokens * s.rows);
            k->matmul(&packed, &own, 0, s.rows, got, s.rows);
            for (size_t j = 0; j < s.n_tokens * s.rows; j++) {
                CHECK(memcmp(&got[j], &want[j], sizeof *got) == 0,
                      "%s %s %zux%zu token %zu of %zu row %zu: %a not %a", k->name, name, s.rows, s.cols,
                      j / s.rows, s.n_tokens, j % s.rows, (double)got[j], (double)want[j]);
            }
            k->matmul(&w, &own, 0, s.rows, got, s.rows);
            CHECK(memcmp(got, want, s.n_tokens * s.rows * sizeof *got) == 0, "%s %s: raw rows differ",
                  k->name, name);
        }
    }
}

TEST(int8_definition_agrees_with_float64)
{
    rv_rng rng;
    rv_rng_init(&rng, 2);
    const rv_kernels *k = rv_kernels_at(RV_CPU_SCALAR);
    for (size_t i = 0; i < RV_COUNT(all_types); i++) {
        rv_type type = all_types[i];
        if (!is_quantised(type)) {
            continue;
        }
        const size_t rows = 24, cols = 1024, n_tokens = 3;
        rv_matrix w = random_matrix(&rng, type, rows, cols, true);
        rv_act act = random_act(&rng, k, cols, n_tokens, true);
        float *out = fenced_floats(n_tokens * rows), *row = fenced_floats(cols);
        size_t row_bytes = 0;
        CHECK(rv_type_row_bytes(type, cols, &row_bytes), "row");
        k->matmul(&w, &act, 0, rows, out, rows);
        for (size_t r = 0; r < rows; r++) {
            k->expand[type]((const char *)w.raw + r * row_bytes, row, cols);
            for (size_t t = 0; t < n_tokens; t++) {
                const rv_act_block *blocks = act.blocks + t * cols / 32;
                double exact = 0, rounded = 0, mass = 0, slack = 0;
                for (size_t c = 0; c < cols; c++) {
                    double x = (double)act.f32[t * act.stride + c], weight = (double)row[c];
                    double d = (double)blocks[c / 32].d, q = d * blocks[c / 32].q[c % 32];
                    CHECK(fabs(q - x) <= 0.5001 * d, "activation off by more than half a step");
                    exact += weight * x;
                    rounded += weight * q;
                    slack += fabs(weight) * 0.5001 * d;
                    mass += fabs(weight * q) +
                            16 * fabs(weight) * d; /* offsets and minima add parts that cancel */
                }
                double bound = (4.0 * (double)(cols / 32) + 4) * FLT_EPSILON * mass * 4;
                double got = (double)out[t * rows + r];
                CHECK(fabs(got - rounded) <= bound, "%s row %zu: %g, on the same int8 %g, bound %g",
                      rv_type_get((uint32_t)type)->name, r, got, rounded, bound);
                CHECK(fabs(got - exact) <= slack + bound, "%s row %zu: %g, exact %g",
                      rv_type_get((uint32_t)type)->name, r, got, exact);
            }
        }
    }
}

TEST(float32_products_are_within_rounding_of_float64)
{
    rv_rng rng;
    rv_rng_init(&rng, 3);
    for (size_t i = 0; i < RV_COUNT(all_types) * RV_COUNT(shapes); i++) {
        rv_type type = all_types[i % RV_COUNT(all_types)];
        shape s = shapes[i / RV_COUNT(all_types)];
        if (!fits(type, s.cols)) {
            continue;
        }
        rv_matrix w = random_matrix(&rng, type, s.rows, s.cols, false);
        size_t row_bytes = 0;
        CHECK(rv_type_row_bytes(type, s.cols, &row_bytes), "row");
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            if (!k) {
                continue;
            }
            rv_act act = random_act(&rng, k, s.cols, s.n_tokens, false);
            float *out = fenced_floats(s.n_tokens * s.rows), *row = fenced_floats(s.cols);
            k->matmul(&w, &act, 0, s.rows, out, s.rows);
            for (size_t j = 0; j < s.n_tokens * s.rows; j++) {
                size_t t = j / s.rows, r = j % s.rows;
                k->expand[type]((const char *)w.raw + r * row_bytes, row, s.cols);
                double exact = 0, mass = 0;
                for (size_t c = 0; c < s.cols; c++) {
                    double product = (double)row[c] * (double)act.f32[t * act.stride + c];
                    exact += product;
                    mass += fabs(product);
                }
                double bound = ((double)s.cols / 8 + 8) * FLT_EPSILON * mass;
                CHECK(fabs((double)out[j] - exact) <= bound,
                      "%s %s %zux%zu token %zu row %zu: %g, exact %g, bound %g", k->name,
                      rv_type_get((uint32_t)type)->name, s.rows, s.cols, t, r, (double)out[j], exact, bound);
            }
        }
    }
}

TEST(rows_expand_to_the_same_bits_at_every_level)
{
    rv_rng rng;
    rv_rng_init(&rng, 4);
    static const size_t lengths[] = { 1, 7, 15, 16, 17, 31, 32, 33, 64, 96, 255, 256, 512, 1280 };
    const rv_kernels *definition = rv_kernels_at(RV_CPU_SCALAR);
    for (size_t i = 0; i < RV_COUNT(all_types) * RV_COUNT(lengths); i++) {
        rv_type type = all_types[i % RV_COUNT(all_types)];
        size_t cols = lengths[i / RV_COUNT(all_types)];
        if (!fits(type, cols)) {
            continue;
        }
        rv_matrix w = random_matrix(&rng, type, 1, cols, false);
        float *want = fenced_floats(cols);
        definition->expand[type](w.raw, want, cols);
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            if (k) {
                float *got = fenced_floats(cols);
                k->expand[type](w.raw, got, cols);
                CHECK(memcmp(got, want, cols * sizeof *got) == 0, "%s %s length %zu", k->name,
                      rv_type_get((uint32_t)type)->name, cols);
            }
        }
    }
}

/* out of one token alone, whole rows at once, against the same token inside batches and split rows */
static void check_alone(const rv_kernels *k, const rv_matrix *w, const rv_act *all, const float *want)
{
    for (size_t t = 0; t < all->n_tokens; t++) {
        rv_act one = *all;
        one.n_tokens = 1;
        one.f32 = all->f32 + t * all->stride;
        one.blocks = all->blocks ? all->blocks + t * (all->cols / 32) : NULL;
        float *alone = fenced_floats(w->rows);
        for (size_t from = 0; from < w->rows; from += RV_ROW_STEP) {
            size_t to = from + RV_ROW_STEP < w->rows ? from + RV_ROW_STEP : w->rows;
            k->matmul(w, &one, from, to, alone, w->rows);
        }
        CHECK(memcmp(alone, want + t * w->rows, w->rows * sizeof *alone) == 0,
              "%s %s: token %zu of %zu differs alone", k->name, rv_type_get((uint32_t)w->type)->name, t,
              all->n_tokens);
    }
}

TEST(products_do_not_depend_on_batch_position_or_row_split)
{
    rv_rng rng;
    rv_rng_init(&rng, 5);
    for (size_t i = 0; i < RV_COUNT(all_types) * 2; i++) {
        rv_type type = all_types[i / 2];
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            for (size_t n_tokens = 1; k && n_tokens <= 19; n_tokens += 3) {
                rv_matrix w = packed_matrix(k, random_matrix(&rng, type, 101, 512, true));
                rv_act act = random_act(&rng, k, 512, n_tokens, i % 2 == 0);
                float *out = fenced_floats(n_tokens * w.rows);
                k->matmul(&w, &act, 0, w.rows, out, w.rows);
                check_alone(k, &w, &act, out);
            }
        }
    }
}

TEST(products_touch_only_their_own_outputs)
{
    rv_rng rng;
    rv_rng_init(&rng, 6);
    for (int l = 0; l < RV_CPU_LEVELS; l++) {
        const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
        for (size_t i = 0; k && i < RV_COUNT(all_types) * 2; i++) {
            rv_matrix w = packed_matrix(k, random_matrix(&rng, all_types[i / 2], 75, 256, true));
            rv_act act = random_act(&rng, k, 256, 6, i % 2 == 0);
            const size_t stride = 80;
            float *out = fenced_floats(6 * stride);
            for (size_t j = 0; j < 6 * stride; j++) {
                out[j] = -123;
            }
            k->matmul(&w, &act, 32, 64, out, stride);
            for (size_t j = 0; j < 6 * stride; j++) {
                bool inside = j % stride >= 32 && j % stride < 64;
                CHECK(inside == (out[j] <= -123.001f || out[j] >= -122.999f), "%s %s: output %zu", k->name,
                      rv_type_get((uint32_t)all_types[i / 2])->name, j);
            }
        }
    }
}

TEST(the_largest_codes_and_activations_do_not_overflow)
{
    static const uint8_t fills[] = { 0xff, 0x00, 0x80, 0x7f, 0x0f, 0xf0 };
    const size_t rows = 16, cols = 256;
    for (size_t i = 0; i < RV_COUNT(all_types) * RV_COUNT(fills) * 3; i++) {
        const rv_type type = all_types[i % RV_COUNT(all_types)];
        const uint8_t fill = fills[i / RV_COUNT(all_types) % RV_COUNT(fills)];
        const size_t signs = i / RV_COUNT(all_types) / RV_COUNT(fills);
        if (!is_quantised(type)) {
            continue;
        }
        size_t row_bytes = 0;
        CHECK(rv_type_row_bytes(type, cols, &row_bytes), "row");
        uint8_t *raw = fenced_bytes(rows * row_bytes);
        memset(raw, fill, rows * row_bytes);
        const rv_type_info *info = rv_type_get((uint32_t)type);
        for (size_t at = 0; at < rows * row_bytes;
             at += info->block_bytes) { /* a finite scale: 0.25, minimum 0.25 */
            const uint16_t quarter = 0x3400;
            size_t scale = type == RV_Q6_K ? 208 : 0;
            memcpy(raw + at + scale, &quarter, sizeof quarter);
            if (type == RV_Q4_1 || type == RV_Q5_1 || type == RV_Q4_K || type == RV_Q5_K) {
                memcpy(raw + at + 2, &quarter, sizeof quarter);
            }
        }
        float *x = fenced_floats(cols), *row = fenced_floats(cols);
        for (size_t c = 0; c < cols; c++) {
            x[c] = signs == 0 || (signs == 1 && c % 2) ? 1 : -1;
        }
        for (int l = 0; l < RV_CPU_LEVELS; l++) {
            const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
            if (!k) {
                continue;
            }
            rv_matrix w =
                packed_matrix(k, (rv_matrix){ .type = type, .rows = rows, .cols = cols, .raw = raw });
            rv_act act;
            rv_act_fill(k, x, cols, cols, 1, fenced_bytes(rv_act_bytes(cols, 1)), &act);
            float *out = fenced_floats(rows);
            k->matmul(&w, &act, 0, rows, out, rows);
            k->expand[type](raw, row, cols);
            double exact = 0, mass = 0;
            for (size_t c = 0; c < cols; c++) {
                exact += (double)row[c] * (double)x[c];
                mass += fabs((double)row[c]) + 64;
            }
            for (size_t r = 0; r < rows; r++) {
                CHECK(fabs((double)out[r] - exact) <= 100 * FLT_EPSILON * mass,
                      "%s %s filled with %02x: %g, exact %g", k->name, info->name, fill, (double)out[r],
                      exact);
            }
        }
    }
}
