/* An adapter file that we did not write, against llama.cpp's logits with it (--lora): tools/golden/lora.py. */
#include "model/lfm2.h"
#include "test.h"

#include <math.h>
#include <stdio.h>

static const int32_t ids[] = { 1, 83, 362, 427, 309, 380, 916, 658 };
enum { VOCAB = 1024, TOKENS = 8 };

TEST(logits_with_an_adapter_are_those_of_llama_cpp)
{
    const char *path = shared_path("golden/lfm2/a-f32.gguf");
    if (!path) {
        SKIP("../shared/golden/lfm2 is not here");
    }
    rv_lfm2_file *file = NULL;
    rv_lora *lora = NULL;
    rv_lfm2 *model = NULL;
    rv_budget *budget = NULL;
    rv_kv *kv = NULL;
    rv_kv_seq *seq = NULL;
    CHECK_OK(rv_lfm2_file_open(&rv_heap, path, true, &file));
    CHECK(file->shape.n_vocab == VOCAB, "%u", file->shape.n_vocab);
    CHECK_OK(rv_lora_open(&rv_heap, source_path("tests/data/golden/a-lora.gguf"), file, &lora));
    CHECK_OK(rv_lfm2_open(&rv_heap, file, (rv_lfm2_options){ .act_f32 = true }, &model));
    rv_kv_shape shape = rv_lfm2_kv_shape(file, RV_F32);
    CHECK_OK(rv_budget_new(&rv_heap, rv_kv_page_bytes(&shape) + rv_kv_state_bytes(&shape), &budget));
    CHECK_OK(rv_kv_new(&rv_heap, &shape, budget, &kv));
    CHECK_OK(rv_kv_seq_new(kv, TOKENS, &seq));

    static float ours[TOKENS * VOCAB], theirs[TOKENS * VOCAB];
    FILE *in = fopen(source_path("tests/data/golden/a-f32.lora.llama.f32"), "rb");
    CHECK(in && fread(theirs, sizeof *theirs, RV_COUNT(theirs), in) == RV_COUNT(theirs), "golden file");
    fclose(in);
    rv_lfm2_segment all = { .seq = seq, .ids = ids, .n = TOKENS, .logits = ours, .lora = lora };
    CHECK_OK(rv_lfm2_run(model, &all, 1));
    double worst = 0;
    for (size_t i = 0; i < RV_COUNT(ours); i++) {
        double off = fabs((double)ours[i] - (double)theirs[i]);
        worst = off <= worst ? worst : off;
    }
    CHECK(worst <= 1e-3, "off by %g", worst);
    rv_kv_seq_free(seq);
    rv_kv_free(kv);
    rv_budget_free(budget);
    rv_lfm2_close(model);
    rv_lora_close(lora);
    rv_lfm2_file_close(file);
}
