/* The vector operations of every level against float64, with bounds counted in roundings; integer ones exactly. */
#include "kernels_matrix.h"

static const size_t sizes[] = { 0,  1,  2,  7,  8,  9,   15,  16,  17,  31,   32,  33,
                                48, 63, 64, 65, 96, 127, 128, 384, 385, 1024, 4099 };

/* Levels this CPU can run, one after the other. */
static const rv_kernels *next_level(int *level)
{
    while (*level < RV_CPU_LEVELS) {
        const rv_kernels *k = rv_kernels_at((rv_cpu_level)(*level)++);
        if (k) {
            return k;
        }
    }
    return NULL;
}

#define EACH_LEVEL(k)                                                                                        \
    for (int each_level = 0; each_level < RV_CPU_LEVELS;)                                                    \
        for (const rv_kernels *k = next_level(&each_level); k; k = NULL)

static float *random_floats(rv_rng *rng, size_t n)
{
    float *x = fenced_floats(n);
    for (size_t i = 0; i < n; i++) {
        x[i] = rv_rng_normal(rng) * (rv_rng_below(rng, 20) == 0 ? 1000.0f : 1.0f);
    }
    return x;
}

static float *copy_floats(const float *x, size_t n)
{
    float *y = fenced_floats(n);
    memcpy(y, x, n * sizeof *y);
    return y;
}

TEST(dot_f32_and_l2sq_f32_are_within_rounding_of_float64)
{
    rv_rng rng;
    rv_rng_init(&rng, 11);
    for (size_t s = 0; s < RV_COUNT(sizes); s++) {
        size_t n = sizes[s];
        float *a = random_floats(&rng, n), *b = random_floats(&rng, n);
        double dot = 0, dot_mass = 0, distance = 0;
        for (size_t i = 0; i < n; i++) {
            double product = (double)a[i] * (double)b[i], diff = (double)a[i] - (double)b[i];
            dot += product;
            dot_mass += fabs(product);
            distance += diff * diff;
        }
        double roundings = ((double)n / 32 + 12) * FLT_EPSILON;
        EACH_LEVEL(k)
        {
            double error = fabs((double)k->dot_f32(a, b, n) - dot);
            CHECK(error <= roundings * dot_mass, "%s dot n=%zu error %g of %g", k->name, n, error, dot_mass);
            error = fabs((double)k->l2sq_f32(a, b, n) - distance);
            CHECK(error <= roundings * distance, "%s l2sq n=%zu error %g of %g", k->name, n, error, distance);
        }
    }
}

TEST(dot_i8_is_exact_for_all_values)
{
    rv_rng rng;
    rv_rng_init(&rng, 12);
    for (size_t s = 0; s < RV_COUNT(sizes) * 3; s++) {
        size_t n = sizes[s / 3];
        int8_t *a = (int8_t *)fenced_bytes(n), *b = (int8_t *)fenced_bytes(n);
        int32_t want = 0;
        for (size_t i = 0; i < n; i++) {
            a[i] = s % 3 == 0 ? (int8_t)rv_rng_next(&rng) : -128;
            b[i] = s % 3 == 2 ? -128 : s % 3 == 1 ? 127 : (int8_t)rv_rng_next(&rng);
            want += a[i] * b[i];
        }
        EACH_LEVEL(k)
        {
            int32_t got = k->dot_i8(a, b, n);
            CHECK(got == want, "%s n=%zu: %d, exact %d", k->name, n, got, want);
        }
    }
}

TEST(rmsnorm_is_within_rounding_of_float64_also_in_place)
{
    rv_rng rng;
    rv_rng_init(&rng, 13);
    for (size_t s = 0; s < RV_COUNT(sizes); s++) {
        size_t n = sizes[s];
        float *x = random_floats(&rng, n), *weight = random_floats(&rng, n);
        double squares = 0;
        for (size_t i = 0; i < n; i++) {
            squares += (double)x[i] * (double)x[i];
        }
        EACH_LEVEL(k)
        {
            float *out = copy_floats(x, n);
            k->rmsnorm(out, weight, n, 1e-5f, out);
            for (size_t i = 0; i < n; i++) {
                double want = (double)x[i] * (double)weight[i] / sqrt(squares / (double)n + (double)1e-5f);
                double bound = ((double)n / 32 + 16) * FLT_EPSILON * fabs(want);
                CHECK(fabs((double)out[i] - want) <= bound, "%s n=%zu [%zu] %g, exact %g", k->name, n, i,
                      (double)out[i], want);
            }
        }
    }
}

TEST(add_is_the_same_bits_at_every_level)
{
    rv_rng rng;
    rv_rng_init(&rng, 14);
    for (size_t s = 0; s < RV_COUNT(sizes); s++) {
        size_t n = sizes[s];
        float *x = random_floats(&rng, n), *y = random_floats(&rng, n);
        EACH_LEVEL(k)
        {
            float *sum = copy_floats(x, n);
            k->add(sum, y, n);
            for (size_t i = 0; i < n; i++) {
                CHECK(sum[i] == x[i] + y[i], "%s n=%zu [%zu]", k->name, n, i);
            }
        }
    }
}

TEST(silu_mul_is_within_3_ulp_of_float64)
{
    rv_rng rng;
    rv_rng_init(&rng, 15);
    static const float special[] = { 0,      -0.0f, 1e-40f, -1e-40f, 87,  88,       89,
                                     100,    -86,   -87,    -88,     -89, -100,     1e30f,
                                     -1e30f, 0.5f,  -0.5f,  1e-4f,   -20, -0.3466f, 1e38f };
    for (size_t s = 0; s < RV_COUNT(sizes); s++) {
        size_t n = sizes[s];
        float *gate = fenced_floats(n), *up = fenced_floats(n);
        for (size_t i = 0; i < n; i++) {
            gate[i] = i < RV_COUNT(special) ? special[i] : rv_rng_normal(&rng) * 8;
            up[i] = rv_rng_normal(&rng);
        }
        EACH_LEVEL(k)
        {
            float *out = copy_floats(gate, n);
            k->silu_mul(out, up, n);
            for (size_t i = 0; i < n; i++) {
                double z = (double)gate[i], want = z / (1 + exp(-z)) * (double)up[i];
                double bound =
                    6 * FLT_EPSILON * fabs(want) + 1e-35 * fabs((double)up[i]); /* where exp overflows */
                if (fabs(z) > 1e29) {
                    bound += 1e-7 * fabs(z); /* -1e30 / 2e38 */
                }
                CHECK(fabs((double)out[i] - want) <= bound, "%s silu(%g) * %g = %g, exact %g", k->name, z,
                      (double)up[i], (double)out[i], want);
            }
        }
    }
}

TEST(softmax_is_within_rounding_of_float64_and_gives_zero_for_minus_infinity)
{
    rv_rng rng;
    rv_rng_init(&rng, 16);
    for (size_t s = 1; s < RV_COUNT(sizes) + 1; s++) {
        size_t n = s < RV_COUNT(sizes) ? sizes[s] : 65536;
        float *x = fenced_floats(n);
        double max = -INFINITY, sum = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = rv_rng_normal(&rng) * 12;
            if (i > 0 && rv_rng_below(&rng, 10) == 0) {
                x[i] = -INFINITY;
            }
            max = fmax(max, (double)x[i]);
        }
        for (size_t i = 0; i < n; i++) {
            sum += exp((double)x[i] - max);
        }
        EACH_LEVEL(k)
        {
            float *p = copy_floats(x, n);
            k->softmax(p, n);
            for (size_t i = 0; i < n; i++) {
                double want = exp((double)x[i] - max) / sum;
                double argument = 1 + fabs((double)x[i] - max); /* x - max is rounded before exp */
                double bound = (argument + 8 + (double)n / 8) * FLT_EPSILON * want + 2e-38;
                if (isinf(x[i])) {
                    bound = 0;
                }
                CHECK(fabs((double)p[i] - want) <= bound, "%s n=%zu x=%g: %g, exact %g", k->name, n,
                      (double)x[i], (double)p[i], want);
            }
        }
    }
}

TEST(a_sum_of_exponentials_is_within_rounding_of_float64_and_leaves_out_what_is_not_finite)
{
    static const float odd[] = { NAN, INFINITY, -INFINITY };
    rv_rng rng;
    rv_rng_init(&rng, 17);
    for (size_t s = 0; s < 4 * RV_COUNT(sizes); s++) {
        size_t n = sizes[s / 4],
               wild = s % 4; /* none, NaN, infinity, minus infinity among them; then nothing else */
        float *x = fenced_floats(n), largest = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            x[i] = rv_rng_normal(&rng) * 12;
            if (wild && (rv_rng_below(&rng, 5) == 0 || s > 3 * RV_COUNT(sizes))) {
                x[i] = odd[wild - 1];
            }
            largest = isfinite(x[i]) && x[i] > largest ? x[i] : largest;
        }
        double want = 0, bound = 1e-37;
        for (size_t i = 0; i < n; i++) {
            double away = (double)x[i] - (double)largest, part = isfinite(x[i]) ? exp(away) : 0;
            want += part;
            bound += part > 0 ? part * (1 - away + 8 + (double)n / 4) * FLT_EPSILON : 0;
        }
        EACH_LEVEL(k)
        {
            float max = NAN, sum = NAN;
            k->exp_sum(x, n, &max, &sum);
            CHECK(max == largest && fabs((double)sum - want) <= bound, "%s n=%zu: %g and %g, exact %g and %g",
                  k->name, n, (double)max, (double)sum, (double)largest, want);
        }
    }
}

TEST(exponentials_are_within_3_ulp_of_float64)
{
    EACH_LEVEL(k)
    {
        for (int i = 0; i < 20000; i++) {
            float x[16] = { 0, -(float)i / 256 }; /* multiples of 1/256 are exact, and 0 minus them too */
            for (size_t j = 2; j < 16; j++) {
                x[j] = -INFINITY; /* a whole vector at every level */
            }
            const double want = exp((double)x[1]);
            k->softmax(x, 16);
            const double got = (double)x[1] / (double)x[0];
            CHECK(fabs(got - want) <= 3 * FLT_EPSILON * want + 2e-38, "%s e^-%d/256 = %.9g, exact %.9g",
                  k->name, i, got, want);
        }
    }
}

TEST(rope_turns_pairs_half_a_head_apart)
{
    rv_rng rng;
    rv_rng_init(&rng, 17);
    static const size_t dims[] = { 2, 8, 16, 30, 32, 34, 64, 80, 128, 256 };
    for (size_t s = 0; s < RV_COUNT(dims); s++) {
        size_t dim = dims[s], half = dim / 2, heads = 3;
        float *x = random_floats(&rng, heads * dim), *c = fenced_floats(half), *sn = fenced_floats(half);
        for (size_t i = 0; i < half; i++) {
            double angle = 1000 * rv_rng_unit(&rng);
            c[i] = (float)cos(angle);
            sn[i] = (float)sin(angle);
        }
        EACH_LEVEL(k)
        {
            float *y = copy_floats(x, heads * dim);
            k->rope(y, c, sn, heads, dim);
            for (size_t j = 0; j < heads * half; j++) {
                size_t low = j / half * dim + j % half, high = low + half;
                double a = (double)x[low], b = (double)x[high], co = (double)c[j % half],
                       si = (double)sn[j % half];
                double bound = 2 * FLT_EPSILON * (fabs(a) + fabs(b));
                CHECK(fabs((double)y[low] - (a * co - b * si)) <= bound, "%s dim %zu low %zu", k->name, dim,
                      j);
                CHECK(fabs((double)y[high] - (b * co + a * si)) <= bound, "%s dim %zu high %zu", k->name, dim,
                      j);
            }
        }
    }
}

TEST(shortconv_equals_its_formula_step_by_step)
{
    rv_rng rng;
    rv_rng_init(&rng, 18);
    static const size_t widths[] = { 1, 5, 16, 17, 64, 100, 1024 };
    for (size_t s = 0; s < RV_COUNT(widths) * 4; s++) {
        const size_t h = widths[s / 4], k_taps = 2 + s % 4, steps = 6;
        float *conv = random_floats(&rng, h * k_taps), *u = random_floats(&rng, steps * 3 * h);
        EACH_LEVEL(k)
        {
            float *past = fenced_floats(h * (k_taps - 1)), *out = fenced_floats(h);
            for (size_t t = 0; t < steps; t++) {
                k->shortconv(u + t * 3 * h, conv, past, h, k_taps, out);
                for (size_t c = 0; c < h; c++) {
                    double sum = 0, mass = 0;
                    for (size_t i = 0; i < k_taps && i <= t; i++) { /* i steps back */
                        const float *then = u + (t - i) * 3 * h;
                        double tap = (double)conv[c * k_taps + k_taps - 1 - i];
                        double product = tap * (double)then[c] * (double)then[2 * h + c];
                        sum += product;
                        mass += fabs(product);
                    }
                    double gate = (double)u[t * 3 * h + h + c],
                           bound = (double)(k_taps + 3) * FLT_EPSILON * mass * fabs(gate);
                    CHECK(fabs((double)out[c] - gate * sum) <= bound, "%s h=%zu k=%zu step %zu channel %zu",
                          k->name, h, k_taps, t, c);
                }
            }
            for (size_t c = 0; c < h; c++) {
                const float *last = u + (steps - 1) * 3 * h;
                CHECK(past[c * (k_taps - 1) + k_taps - 2] == last[c] * last[2 * h + c], "%s newest state",
                      k->name);
            }
        }
    }
}

TEST(halves_convert_as_the_definition_for_every_value)
{
    EACH_LEVEL(k)
    {
        uint16_t *halves = (uint16_t *)fenced_bytes(65536 * sizeof *halves), back;
        float *floats = fenced_floats(65536);
        for (size_t i = 0; i < 65536; i++) {
            halves[i] = (uint16_t)i;
        }
        k->f16_to_f32(halves, floats, 65536);
        for (size_t i = 0; i < 65536; i++) {
            float want = rv_f16_to_f32((uint16_t)i);
            CHECK(memcmp(&floats[i], &want, sizeof want) == 0, "%s: %04zx gives %a, not %a", k->name, i,
                  (double)floats[i], (double)want);
            k->f32_to_f16(&floats[i], &back, 1);
            bool same = back == i || (isnan(want) && (back & 0x7fff) > 0x7c00);
            CHECK(same, "%s: %04zx comes back as %04x", k->name, i, (unsigned)back);
        }
    }
}

TEST(floats_round_to_halves_as_the_definition)
{
    rv_rng rng;
    rv_rng_init(&rng, 19);
    const size_t n = 20011;
    float *x = fenced_floats(n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)rv_rng_next(&rng);
        if (i % 2) { /* near the range of halves, and often exactly between two of them */
            bits = (bits & 0x80000000u) | (100 + bits % 48) << 23 | (bits & 0x7ff000u);
        }
        memcpy(&x[i], &bits, sizeof bits);
    }
    EACH_LEVEL(k)
    {
        uint16_t *got = (uint16_t *)fenced_bytes(n * sizeof *got);
        k->f32_to_f16(x, got, n);
        for (size_t i = 0; i < n; i++) {
            uint16_t want = rv_f32_to_f16(x[i]);
            bool both_nan = (got[i] & 0x7fff) > 0x7c00 && (want & 0x7fff) > 0x7c00;
            CHECK(got[i] == want || both_nan, "%s: %a gives %04x, not %04x", k->name, (double)x[i],
                  (unsigned)got[i], (unsigned)want);
        }
    }
}

TEST(quantised_blocks_are_the_same_bits_at_every_level)
{
    rv_rng rng;
    rv_rng_init(&rng, 20);
    static const float scales[] = { 0, 1e-44f, 1e-31f, 1e-30f, 2e-30f, 1e-6f, 1, 1e6f, 3e38f };
    for (size_t round = 0; round < 200; round++) {
        const size_t n = 32 * (1 + round % 7);
        float *x = fenced_floats(n);
        for (size_t i = 0; i < n; i++) {
            float scale = scales[(round + i / 32) % RV_COUNT(scales)];
            x[i] = (float)(2 * rv_rng_unit(&rng) - 1) * scale;
            if (rv_rng_below(&rng, 4) == 0) {
                x[i] = scale * ((float)((int)rv_rng_below(&rng, 255) - 127) / 254); /* ties */
            }
        }
        rv_act_block *want = (rv_act_block *)fenced_bytes(n * 2);
        rv_kernels_at(RV_CPU_SCALAR)->quantize(x, n, want);
        EACH_LEVEL(k)
        {
            rv_act_block *got = (rv_act_block *)fenced_bytes(n * 2);
            k->quantize(x, n, got);
            for (size_t b = 0; b < n / 32; b++) {
                CHECK(memcmp(&got[b], &want[b], sizeof *got) == 0, "%s round %zu: d %a not %a, s %a not %a",
                      k->name, round, (double)got[b].d, (double)want[b].d, (double)got[b].s,
                      (double)want[b].s);
            }
        }
        for (size_t i = 0; i < n; i++) {
            const rv_act_block *block = &want[i / 32];
            double error = fabs((double)x[i] - (double)block->d * block->q[i % 32]);
            CHECK(error <= 0.5001 * (double)block->d + 1e-30, "value %g is %g off", (double)x[i], error);
        }
    }
}

TEST(codes_of_a_vector_are_the_same_bits_at_every_level_and_the_nearest_steps)
{
    rv_rng rng;
    rv_rng_init(&rng, 21);
    static const float scales[] = { 0, 1e-44f, 1e-35f, 2e-35f, 1e-6f, 1, 1e6f, 3e38f, INFINITY, NAN };
    for (size_t round = 0; round < RV_COUNT(sizes) * RV_COUNT(scales); round++) {
        const size_t n = sizes[round / RV_COUNT(scales)];
        const float scale = scales[round % RV_COUNT(scales)];
        const bool finite = isfinite(scale);
        float *x = fenced_floats(n), largest = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = (float)(2 * rv_rng_unit(&rng) - 1) * (finite ? scale : 1);
            if (rv_rng_below(&rng, 4) == 0) {
                x[i] = scale * ((float)((int)rv_rng_below(&rng, 255) - 127) / 254); /* ties */
            }
            if (!finite && i == n / 2) {
                x[i] = scale;
            }
            largest = fmaxf(largest, fabsf(x[i]));
        }
        int8_t *want = (int8_t *)fenced_bytes(n), *got = (int8_t *)fenced_bytes(n);
        int32_t squares = -1, sum = 0;
        const float step = rv_kernels_at(RV_CPU_SCALAR)->encode(x, n, want, &squares);
        for (size_t i = 0; i < n; i++) {
            sum += want[i] * want[i];
            CHECK(!(step > 0) || fabs((double)x[i] - (double)step * want[i]) <= 0.5001 * (double)step,
                  "%g as %d of %g", (double)x[i], want[i], (double)step);
        }
        CHECK(sum == squares, "%d, not %d", squares, sum);
        CHECK((step > 0) == (n > 0 && finite && largest > 1.27e-35f), "step %g of %g", (double)step,
              (double)largest);
        CHECK(step > 0 || sum == 0, "nothing is left of it, but %d", sum);
        EACH_LEVEL(k)
        {
            sum = -1;
            const float its = k->encode(x, n, got, &sum);
            CHECK(its == step && sum == squares && memcmp(got, want, n) == 0, "%s n=%zu: step %a not %a",
                  k->name, n, (double)its, (double)step);
        }
    }
}

TEST(a_block_that_is_not_finite_shows_it)
{
    EACH_LEVEL(k)
    {
        for (size_t at = 0; at < 32; at++) {
            float *x = fenced_floats(32);
            rv_act_block block;
            x[at] = NAN;
            x[(at + 5) % 32] = 4;
            k->quantize(x, 32, &block);
            CHECK(isnan(block.d), "%s: NaN at %zu became d = %g", k->name, at, (double)block.d);
            x[at] = INFINITY;
            k->quantize(x, 32, &block);
            CHECK(isinf(block.d), "%s: infinity at %zu became d = %g", k->name, at, (double)block.d);
        }
    }
}

TEST(gemm_is_the_same_bits_at_every_level_and_within_rounding_of_float64)
{
    static const size_t shapes[][3] = { { 0, 3, 5 },   { 1, 1, 1 },    { 1, 8, 100 },  { 5, 0, 7 },
                                        { 6, 32, 64 }, { 13, 17, 33 }, { 7, 40, 131 }, { 64, 5, 16 } };
    rv_rng rng;
    rv_rng_init(&rng, 23);
    for (size_t s = 0; s < RV_COUNT(shapes); s++) {
        const size_t m = shapes[s][0], kk = shapes[s][1], n = shapes[s][2], as = kk + 3, bs = n + 1,
                     os = n + 2;
        float *a = random_floats(&rng, m ? (m - 1) * as + kk : 0);
        float *b = random_floats(&rng, kk ? (kk - 1) * bs + n : 0);
        float *start = random_floats(&rng, m ? (m - 1) * os + n : 0), *first = NULL;
        EACH_LEVEL(k)
        {
            float *out = copy_floats(start, m ? (m - 1) * os + n : 0);
            k->gemm(&(rv_gemm){ m, kk, n, a, b, as, bs, out, os });
            for (size_t i = 0; i < m; i++) {
                for (size_t j = 0; j < n; j++) {
                    double exact = (double)start[i * os + j], mass = fabs(exact);
                    for (size_t p = 0; p < kk; p++) {
                        double product = (double)a[i * as + p] * (double)b[p * bs + j];
                        exact += product;
                        mass += fabs(product);
                    }
                    double error = fabs((double)out[i * os + j] - exact);
                    CHECK(error <= (double)(kk + 1) * FLT_EPSILON * mass,
                          "%s %zu x %zu x %zu at %zu, %zu: %g", k->name, m, kk, n, i, j, error);
                }
            }
            first = first ? first : out;
            CHECK(m == 0 || memcmp(first, out, ((m - 1) * os + n) * sizeof *out) == 0, "%s %zu x %zu x %zu",
                  k->name, m, kk, n);
        }
    }
}

TEST(hadamard_is_the_same_at_every_level_keeps_lengths_and_undoes_itself)
{
    rv_rng rng;
    rv_rng_init(&rng, 31);
    for (size_t n = 1; n <= 4096; n *= 2) {
        float *x = random_floats(&rng, n), *want = copy_floats(x, n);
        rv_kernels_at(RV_CPU_SCALAR)->hadamard(want, n);
        double before = 0, after = 0;
        for (size_t i = 0; i < n; i++) {
            before += (double)x[i] * (double)x[i];
            after += (double)want[i] * (double)want[i];
        }
        CHECK(fabs(after - before) <= 1e-5 * before, "n=%zu: %g became %g", n, before, after);
        EACH_LEVEL(k)
        {
            float *got = copy_floats(x, n);
            k->hadamard(got, n);
            CHECK(memcmp(got, want, n * sizeof *got) == 0, "%s n=%zu", k->name, n);
            k->hadamard(got, n);
            for (size_t i = 0; i < n; i++) {
                CHECK(fabs((double)got[i] - (double)x[i]) <= 1e-5 * sqrt(before), "%s n=%zu: element %zu",
                      k->name, n, i);
            }
        }
    }
}

TEST(plane_dots_is_exact_for_every_number_of_bits)
{
    static const size_t dims[] = { 64, 128, 192, 384, 1536 };
    rv_rng rng;
    rv_rng_init(&rng, 33);
    for (size_t s = 0; s < RV_COUNT(dims) * 8; s++) {
        size_t n = dims[s / 8], bits = s % 8 + 1, most = 9, stride = bits * n / 8 + (s % 3) * 8;
        uint8_t *codes = fenced_bytes((most - 1) * stride + bits * n / 8);
        int8_t *q = (int8_t *)fenced_bytes(n);
        for (size_t i = 0; i < (most - 1) * stride + bits * n / 8; i++) {
            codes[i] = s % 4 == 1 ? 255 : (uint8_t)rv_rng_next(&rng);
        }
        for (size_t i = 0; i < n; i++) {
            q[i] = s % 4 == 1 ? -128 : s % 5 == 2 ? 127 : (int8_t)rv_rng_next(&rng);
        }
        for (size_t n_rows = 0; n_rows <= most; n_rows++) {
            uint32_t rows[9];
            int32_t want[9], got[10];
            for (size_t r = 0; r < n_rows; r++) {
                rows[r] = (uint32_t)rv_rng_below(&rng, most);
                want[r] = 0;
                for (size_t i = 0; i < n; i++) {
                    int x = 0;
                    for (size_t p = 0; p < bits; p++) {
                        x |= (codes[rows[r] * stride + p * n / 8 + i / 8] >> i % 8 & 1) << p;
                    }
                    want[r] += x * q[i];
                }
            }
            EACH_LEVEL(k)
            {
                got[n_rows] = 12345;
                k->plane_dots(codes, stride, rows, n_rows, bits, q, n, got);
                CHECK(memcmp(got, want, n_rows * sizeof *got) == 0 && got[n_rows] == 12345,
                      "%s n=%zu bits=%zu rows=%zu", k->name, n, bits, n_rows);
            }
        }
    }
}

/* How full the words are: hardly, as those who pass a filter are, half, or all bits. */
static uint64_t *some_words(rv_rng *rng, size_t n, int how_full)
{
    uint64_t *words = (uint64_t *)(void *)fenced_bytes(n * sizeof *words);
    for (size_t i = 0; i < n; i++) {
        uint64_t bit = (uint64_t)1 << rv_rng_below(rng, 64);
        words[i] = how_full == 0   ? (rv_rng_below(rng, 2) ? bit : 0)
                   : how_full == 1 ? rv_rng_next(rng)
                   : how_full == 2 ? ~(uint64_t)0
                                   : 0;
    }
    return words;
}

TEST(bits_are_counted_and_each_is_listed_once_in_one_order_at_every_level)
{
    static const size_t lengths[] = { 0, 1, 7, 8, 9, 16, 23, 24, 25, 1563 };
    rv_rng rng;
    rv_rng_init(&rng, 34);
    for (size_t s = 0; s < RV_COUNT(lengths) * 4; s++) {
        const size_t n_words = lengths[s / 4];
        const uint64_t *words = some_words(&rng, n_words, (int)(s % 4));
        size_t n_set = 0;
        for (size_t i = 0; i < 64 * n_words; i++) {
            n_set += words[i / 64] >> i % 64 & 1;
        }
        EACH_LEVEL(k)
        {
            CHECK(k->bits_count(words, n_words) == n_set, "%s: %zu words, %zu bits", k->name, n_words, n_set);
            uint32_t want[RV_BITS_ROOM], *got = (uint32_t *)(void *)fenced_bytes(sizeof want);
            uint8_t *seen = fenced_bytes(64 * n_words + 1);
            memset(seen, 0, 64 * n_words + 1);
            size_t at = 0, listed = 0;
            while (at < n_words) {
                size_t n, n_want, used = k->bits_list(words + at, n_words - at, got, &n);
                size_t used_want =
                    rv_kernels_at(RV_CPU_SCALAR)->bits_list(words + at, n_words - at, want, &n_want);
                CHECK(used > 0 && used == used_want && n == n_want && memcmp(got, want, n * sizeof *got) == 0,
                      "%s: from word %zu of %zu: %zu words, %zu bits, expected %zu, %zu", k->name, at,
                      n_words, used, n, used_want, n_want);
                for (size_t i = 0; i < n; i++) {
                    size_t place = 64 * at + got[i];
                    CHECK(got[i] < 64 * used && words[place / 64] >> place % 64 & 1 && !seen[place],
                          "%s: bit %zu of %zu words", k->name, place, n_words);
                    seen[place] = 1;
                }
                listed += n;
                at += used;
            }
            CHECK(listed == n_set, "%s: %zu of %zu bits", k->name, listed, n_set);
        }
    }
}

TEST(keys_below_a_pivot_come_to_the_front_in_their_order_the_same_at_every_level)
{
    static const size_t numbers[] = { 0,  1,   2,    7,    15,   16,   17,   31,  33,
                                      64, 100, 1000, 1023, 1024, 1025, 1040, 3001 };
    rv_rng rng;
    rv_rng_init(&rng, 27);
    for (size_t s = 0; s < RV_COUNT(numbers) * 6; s++) {
        const size_t n = numbers[s / 6];
        float *keys = fenced_floats(n), *want = fenced_floats(n);
        const float pivot = (float[]){ 0, -2, 2, 0.5f, INFINITY, NAN }[s % 6];
        uint32_t *wanted = (uint32_t *)fenced_bytes(n * sizeof *wanted);
        size_t below = 0;
        for (size_t i = 0; i < n; i++) {
            keys[i] = (float)rv_rng_below(&rng, 17) / 8 - 1; /* many are equal */
            keys[i] = rv_rng_below(&rng, 20) == 0
                          ? (float[]){ NAN, INFINITY, -INFINITY }[rv_rng_below(&rng, 3)]
                          : keys[i];
        }
        for (size_t i = 0; i < n; i++) {
            if (keys[i] < pivot) {
                want[below] = keys[i], wanted[below++] = (uint32_t)i;
            }
        }
        uint32_t *first = NULL;
        EACH_LEVEL(k)
        {
            float *got = copy_floats(keys, n);
            uint32_t *what = (uint32_t *)fenced_bytes(n * sizeof *what);
            uint8_t *seen = fenced_bytes(n);
            for (size_t i = 0; i < n; i++) {
                what[i] = (uint32_t)i;
                seen[i] = 0;
            }
            const size_t found = k->part(got, what, n, pivot);
            CHECK(found == below, "%s, %zu keys: %zu below, not %zu", k->name, n, found, below);
            CHECK(memcmp(got, want, below * sizeof *got) == 0 &&
                      memcmp(what, wanted, below * sizeof *what) == 0,
                  "%s, %zu keys: those below are others, or in another order", k->name, n);
            for (size_t i = 0; i < n; i++) {
                CHECK(what[i] < n && !seen[what[i]]++ && memcmp(&got[i], &keys[what[i]], sizeof *got) == 0,
                      "%s, %zu keys: [%zu] does not belong to %u", k->name, n, i, what[i]);
            }
            CHECK(!first || memcmp(first, what, n * sizeof *what) == 0, "%s, %zu keys: another order",
                  k->name, n);
            first = what;
        }
    }
}

TEST(keys_up_to_a_limit_are_copied_in_their_order_the_same_at_every_level)
{
    rv_rng rng;
    rv_rng_init(&rng, 57);
    for (size_t s = 0; s < RV_COUNT(sizes) * 4; s++) {
        const size_t n = sizes[s / 4];
        float *keys = fenced_floats(n);
        uint32_t *what = (uint32_t *)fenced_bytes(n * sizeof *what);
        for (size_t i = 0; i < n; i++) {
            keys[i] = rv_rng_below(&rng, 9) == 0 ? NAN : (float)rv_rng_below(&rng, 100);
            what[i] = (uint32_t)i;
        }
        const float limit = (float[]){ -1, 30, 100, INFINITY }[s % 4];
        EACH_LEVEL(k)
        {
            float *out = fenced_floats(n);
            uint32_t *its = (uint32_t *)fenced_bytes(n * sizeof *its);
            const size_t kept = k->below(keys, what, n, limit, out, its);
            size_t wanted = 0;
            for (size_t i = 0; i < n; i++) {
                if (keys[i] <= limit) {
                    CHECK(wanted < kept && its[wanted] == i && out[wanted] == keys[i], "%s n=%zu: key %zu",
                          k->name, n, i);
                    wanted++;
                }
            }
            const size_t again = k->below(out, its, kept, limit / 2, out, its); /* in place */
            size_t at = 0;
            for (size_t i = 0; i < n; i++) {
                if (keys[i] <= limit && keys[i] <= limit / 2) {
                    CHECK(at < again && its[at] == i && out[at] == keys[i], "%s n=%zu: key %zu in place",
                          k->name, n, i);
                    at++;
                }
            }
            CHECK(at == again, "%s n=%zu: %zu in place, not %zu", k->name, n, again, at);
            CHECK(wanted == kept, "%s n=%zu limit %g: %zu, not %zu", k->name, n, (double)limit, kept, wanted);
        }
    }
}

TEST(code_dots_is_exact_for_rows_side_by_side_and_picked)
{
    static const size_t strides[] = { 0, 3, 64 };
    rv_rng rng;
    rv_rng_init(&rng, 32);
    for (size_t s = 0; s < RV_COUNT(sizes) * RV_COUNT(strides); s++) {
        size_t n = sizes[s % RV_COUNT(sizes)], stride = n + strides[s / RV_COUNT(sizes)], most = 11;
        uint8_t *codes = fenced_bytes((most - 1) * stride + n);
        int8_t *q = (int8_t *)fenced_bytes(n);
        for (size_t i = 0; i < (most - 1) * stride + n; i++) {
            codes[i] = s % 4 == 1 ? 255 : s % 4 == 2 ? 0 : (uint8_t)rv_rng_next(&rng);
        }
        for (size_t i = 0; i < n; i++) {
            q[i] = s % 4 == 1 ? -127 : s % 4 == 2 ? 127 : (int8_t)(rv_rng_below(&rng, 255) - 127);
        }
        for (size_t n_rows = 0; n_rows <= most; n_rows++) {
            uint32_t rows[11];
            for (size_t r = 0; r < n_rows; r++) {
                rows[r] = (uint32_t)rv_rng_below(&rng, most);
            }
            int32_t want[2][11], got[12];
            rv_kernels_at(RV_CPU_SCALAR)->code_dots(codes, stride, NULL, n_rows, q, n, want[0]);
            rv_kernels_at(RV_CPU_SCALAR)->code_dots(codes, stride, rows, n_rows, q, n, want[1]);
            EACH_LEVEL(k)
            {
                for (int picked = 0; picked < 2; picked++) {
                    got[n_rows] = 12345;
                    k->code_dots(codes, stride, picked ? rows : NULL, n_rows, q, n, got);
                    CHECK(memcmp(got, want[picked], n_rows * sizeof *got) == 0 && got[n_rows] == 12345,
                          "%s n=%zu rows=%zu stride=%zu picked=%d", k->name, n, n_rows, stride, picked);
                }
            }
        }
    }
}
