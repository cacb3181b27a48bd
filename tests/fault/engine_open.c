#include "engine/engine.h"
#include "test.h"

TEST(every_failed_allocation_of_opening_and_generating_is_clean)
{
    static const int32_t prompt[] = { 1, 83, 362, 427, 309 };
    long rounds = 0, opened = 0;
    for (test_mem m = { 0 }; test_mem_again(&m); rounds++) {
        rv_engine *e = NULL;
        rv_engine_options how = rv_engine_options_default();
        how.max_context = 64;
        rv_err err = rv_engine_open(&m.alloc, source_path("tests/data/golden/a-q8_0.gguf"), how, &e);
        CHECK((err == RV_OK) == (e != NULL), "call %ld: %s", m.fail_at, rv_err_name(err));
        if (!err) {
            opened++;
            rv_generate ask = { .prompt = prompt,
                                .n_prompt = 5,
                                .max_tokens = 20,
                                .n_logprobs = -1,
                                .sampling = rv_sampling_default(),
                                .ignore_end = true };
            rv_generated done;
            err = rv_engine_generate(e, &ask, &done);
            CHECK(err || done.completion_tokens == 20, "call %ld: %zu tokens", m.fail_at,
                  done.completion_tokens);
            rv_err again = rv_engine_generate(e, &ask, &done); /* nothing fails twice */
            CHECK(!err || again == RV_OK, "call %ld: the engine is broken after it", m.fail_at);
        }
        CHECK(err == RV_OK || (err == RV_E_NOMEM && m.failed), "call %ld: %s: %s", m.fail_at,
              rv_err_name(err), rv_err_text());
        rv_engine_close(e);
    }
    CHECK(rounds > 20 && opened > 1, "%ld rounds, %ld of them opened", rounds, opened);
}
