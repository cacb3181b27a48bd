/* The table of types, half precision, and the choice of a level. */
#include "test.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

TEST(types_are_those_of_the_file_format)
{
    static const struct {
        uint32_t id;
        const char *name;
        size_t weights, bytes;
    } want[] = { { 0, "F32", 1, 4 },       { 1, "F16", 1, 2 },      { 30, "BF16", 1, 2 },
                 { 2, "Q4_0", 32, 18 },    { 3, "Q4_1", 32, 20 },   { 6, "Q5_0", 32, 22 },
                 { 7, "Q5_1", 32, 24 },    { 8, "Q8_0", 32, 34 },   { 12, "Q4_K", 256, 144 },
                 { 13, "Q5_K", 256, 176 }, { 14, "Q6_K", 256, 210 } };
    size_t known = 0;
    for (uint32_t id = 0; id < 100; id++) {
        known += rv_type_get(id) != NULL;
    }
    CHECK(known == RV_COUNT(want), "%zu types", known);
    CHECK(!rv_type_get(UINT32_MAX), "no such type");
    for (size_t i = 0; i < RV_COUNT(want); i++) {
        const rv_type_info *info = rv_type_get(want[i].id);
        CHECK(info && strcmp(info->name, want[i].name) == 0, "type %u", want[i].id);
        CHECK(info->block_weights == want[i].weights && info->block_bytes == want[i].bytes, "%s", info->name);
    }
}

TEST(row_bytes_refuses_broken_blocks_and_overflow)
{
    size_t bytes = 77;
    CHECK(rv_type_row_bytes(RV_Q4_K, 1024, &bytes) && bytes == 576, "%zu", bytes);
    CHECK(rv_type_row_bytes(RV_F32, 3, &bytes) && bytes == 12, "%zu", bytes);
    bytes = 77;
    CHECK(!rv_type_row_bytes(RV_Q4_K, 1000, &bytes), "1000 is no multiple of 256");
    CHECK(!rv_type_row_bytes(RV_Q8_0, 33, &bytes), "33 is no multiple of 32");
    CHECK(!rv_type_row_bytes(RV_F32, SIZE_MAX / 2, &bytes), "overflows");
    CHECK(!rv_type_row_bytes((rv_type)4, 32, &bytes) && bytes == 77, "no such type");
}

TEST(halves_decode_as_ieee_says)
{
    for (uint32_t h = 0; h < 65536; h++) {
        int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
        double want = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
        float got = rv_f16_to_f32((uint16_t)h);
        if (exponent == 31) {
            CHECK(fraction ? isnan(got) : isinf(got), "%04x", h);
            continue;
        }
        CHECK((double)got == (h & 0x8000 ? -want : want) && !signbit(got) == !(h >> 15), "%04x: %g", h,
              (double)got);
    }
}

TEST(floats_round_to_the_nearest_half_and_to_even_between_two)
{
    for (uint32_t h = 0; h < 0x7c00; h++) { /* every finite positive half and its upper neighbour */
        double low = (double)rv_f16_to_f32((uint16_t)h);
        double high = h == 0x7bff ? 65536 : (double)rv_f16_to_f32((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2); /* exact: 12 bits */
        uint16_t even = (uint16_t)(h + (h & 1)), above = (uint16_t)(h + 1);
        CHECK(rv_f32_to_f16((float)low) == h, "%04x itself", h);
        CHECK(rv_f32_to_f16(middle) == even, "%04x: the middle goes to even", h);
        CHECK(rv_f32_to_f16(nextafterf(middle, 0)) == h, "%04x: just below the middle", h);
        CHECK(rv_f32_to_f16(nextafterf(middle, INFINITY)) == above, "%04x: just above the middle", h);
        CHECK(rv_f32_to_f16(-middle) == (even | 0x8000), "%04x: negative", h);
    }
    CHECK(rv_f32_to_f16(INFINITY) == 0x7c00 && rv_f32_to_f16(1e30f) == 0x7c00, "infinity");
    CHECK((rv_f32_to_f16(NAN) & 0x7fff) > 0x7c00, "NaN stays NaN");
}

TEST(rv_cpu_names_the_level_or_the_best_is_taken)
{
    unsetenv("RV_CPU");
    const rv_kernels *best = rv_kernels_best();
    CHECK(best, "there is always one");
    for (int l = 0; l < RV_CPU_LEVELS; l++) {
        const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
        const char *name = rv_cpu_level_name((rv_cpu_level)l);
        setenv("RV_CPU", name, 1);
        CHECK(rv_kernels_best() == (k ? k : best), "RV_CPU=%s chose %s", name, rv_kernels_best()->name);
        CHECK(!k || (strcmp(k->name, name) == 0 && k->level == (rv_cpu_level)l), "%s is called %s", name,
              k->name);
        CHECK(!k || rv_cpu_has((rv_cpu_level)l) || l == RV_CPU_SCALAR, "%s without the CPU", name);
    }
    setenv("RV_CPU", "abacus", 1);
    CHECK(rv_kernels_best() == best, "an unknown name leaves the best");
    unsetenv("RV_CPU");
    CHECK(rv_kernels_at(RV_CPU_SCALAR), "scalar is always there");
}

TEST(every_level_fills_its_table)
{
    for (int l = 0; l < RV_CPU_LEVELS; l++) {
        const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
        if (!k) {
            continue;
        }
        CHECK(k->dot_f32 && k->l2sq_f32 && k->dot_i8 && k->rmsnorm && k->add && k->silu_mul && k->rope &&
                  k->softmax && k->shortconv && k->f32_to_f16 && k->f16_to_f32 && k->expand && k->quantize &&
                  k->pack_bytes && k->matmul && k->attend && k->gemm,
              "%s", k->name);
        for (uint32_t type = 0; type < RV_TYPE_LIMIT; type++) {
            CHECK((k->expand[type] != NULL) == (rv_type_get(type) != NULL), "%s type %u", k->name, type);
            CHECK(k->pack || k->pack_bytes((rv_type)type, 64, 256) == 0, "%s packs without pack", k->name);
        }
    }
}

TEST(packed_sizes_do_not_overflow)
{
    for (int l = 0; l < RV_CPU_LEVELS; l++) {
        const rv_kernels *k = rv_kernels_at((rv_cpu_level)l);
        if (k && k->pack) {
            CHECK(k->pack_bytes(RV_Q4_K, SIZE_MAX, 256) == 0, "%s", k->name);
            CHECK(k->pack_bytes(RV_Q4_K, 16, 256) > 0, "%s", k->name);
            CHECK(k->pack_bytes(RV_F32, 16, 256) == 0, "%s", k->name);
        }
    }
}

TEST(activations_without_scratch_or_with_odd_columns_stay_float32)
{
    const rv_kernels *k = rv_kernels_at(RV_CPU_SCALAR);
    float *x = fenced_floats(2 * 33);
    rv_act act;
    rv_act_fill(k, x, 33, 32, 2, NULL, &act);
    CHECK(!act.blocks && act.f32 == x && act.cols == 32 && act.n_tokens == 2 && act.stride == 33,
          "no scratch");
    void *scratch = rv_new_aligned(&rv_heap, 64, 4096);
    CHECK(scratch, "memory");
    rv_act_fill(k, x, 33, 33, 2, scratch, &act);
    CHECK(!act.blocks, "33 columns");
    rv_act_fill(k, x, 33, 32, 2, scratch, &act);
    CHECK(act.blocks == scratch && rv_act_bytes(32, 2) == 2 * sizeof(rv_act_block), "32 columns");
    rv_free(&rv_heap, scratch);
}
