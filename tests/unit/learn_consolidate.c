/* Consolidation of adapters: what is cut is what is said, and nothing else could have been cut less. */
#include "learn/consolidate.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static rv_lfm2_file *opened(void)
{
    rv_lfm2_file *file;
    CHECK_OK(rv_lfm2_file_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), true, &file));
    return file;
}

static rv_lora *noise(const rv_lfm2_file *file, size_t rank, uint64_t seed, float size)
{
    rv_lora *l = NULL;
    rv_rng rng;
    rv_rng_init(&rng, seed);
    CHECK_OK(
        rv_lora_new(&rv_heap, file, 1 << RV_LFM2_Q | 1 << RV_LFM2_DOWN, rank, 3 * (float)rank, seed, &l));
    for (size_t i = 0; i < l->n_weights; i++) {
        l->weights[i] = size * rv_rng_normal(&rng);
    }
    return l;
}

/* Squared Frobenius norm of the product, and of the distance of two. */
static double square_of(const rv_lora_pair *p, const rv_lora_pair *q)
{
    double sum = 0;
    for (size_t r = 0; r < p->rows; r++) {
        for (size_t c = 0; c < p->cols; c++) {
            double d = 0;
            for (size_t k = 0; k < p->rank; k++) {
                d += (double)p->scale * (double)p->b[k * p->rows + r] * (double)p->a[k * p->cols + c];
            }
            for (size_t k = 0; q && k < q->rank; k++) {
                d -= (double)q->scale * (double)q->b[k * q->rows + r] * (double)q->a[k * q->cols + c];
            }
            sum += d * d;
        }
    }
    return sum;
}

static double total(const rv_lora *a, const rv_lora *b)
{
    double sum = 0;
    for (size_t i = 0; i < a->n_pairs; i++) {
        sum += a->pairs[i].rank ? square_of(&a->pairs[i], b ? &b->pairs[i] : NULL) : 0;
    }
    return sum;
}

TEST(what_is_cut_is_the_energy_that_is_said)
{
    rv_lfm2_file *file = opened();
    rv_lora *base = noise(file, 6, 1, 0.2F), *micro = noise(file, 2, 2, 0.1F), *both, *cut;
    double discarded = -1;
    CHECK_OK(rv_lora_stack(&rv_heap, base, micro, &both));
    CHECK_OK(rv_lora_consolidate(&rv_heap, both, file, 6, 1, &cut, &discarded));
    double all = total(both, NULL), lost = total(both, cut), base_alone = total(both, base);
    CHECK(discarded > 1e-4 && discarded < 0.5, "%g discarded", discarded);
    CHECK(fabs(lost / all - discarded) <= 1e-5, "%g lost, %g said", lost / all, discarded);
    CHECK(lost < base_alone, "leaving the micro adapter out altogether loses less: %g, %g", base_alone, lost);
    for (size_t i = 0; i < cut->n_pairs; i++) {
        CHECK(cut->pairs[i].rank == 0 || cut->pairs[i].rank == 6, "pair %zu of rank %zu", i,
              cut->pairs[i].rank);
    }
    rv_lora_close(cut);
    rv_lora_close(both);
    rv_lora_close(micro);
    rv_lora_close(base);
    rv_lfm2_file_close(file);
}

TEST(where_there_is_room_nothing_is_lost)
{
    rv_lfm2_file *file = opened();
    rv_lora *base = noise(file, 2, 3, 0.2F), *wide;
    double discarded = -1;
    CHECK_OK(rv_lora_consolidate(&rv_heap, base, file, 8, 1, &wide, &discarded));
    CHECK(discarded == 0 && total(base, wide) <= 1e-9 * total(base, NULL), "%g, %g", discarded,
          total(base, wide));
    /* what is low rank already comes through a cut whole, zeros and equal factors too */
    rv_lora *twice, *same;
    CHECK_OK(rv_lora_stack(&rv_heap, base, base, &twice));
    memset(twice->pairs[RV_LFM2_DOWN].b, 0,
           twice->pairs[RV_LFM2_DOWN].rank * twice->pairs[RV_LFM2_DOWN].rows * sizeof(float));
    CHECK_OK(rv_lora_consolidate(&rv_heap, twice, file, 2, 1, &same, &discarded));
    CHECK(discarded <= 1e-12 && total(twice, same) <= 1e-9 * total(twice, NULL), "%g, %g", discarded,
          total(twice, same));
    CHECK_ERR(rv_lora_consolidate(&rv_heap, base, file, 0, 1, &same, &discarded), RV_E_ARG);
    rv_lora_close(same);
    rv_lora_close(twice);
    rv_lora_close(wide);
    rv_lora_close(base);
    rv_lfm2_file_close(file);
}

TEST(memory_that_runs_out_is_said)
{
    rv_lfm2_file *file = opened();
    rv_lora *base = noise(file, 3, 3, 0.2F);
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_lora *out = NULL;
        double discarded;
        rv_err e = rv_lora_consolidate(&m.alloc, base, file, 2, 1, &out, &discarded);
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK), "call %ld: %s", m.fail_at, rv_err_text());
        rv_lora_close(out);
    }
    rv_lora_close(base);
    rv_lfm2_file_close(file);
}
