#include "backend/backend.h"
#include "test.h"

#include <string.h>

TEST(opening_loading_and_generating_survive_running_out_of_memory_at_every_call)
{
    const char *file = source_path("tests/data/golden/a-q8_0.gguf");
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_backend *b = NULL;
        rv_generated g;
        rv_backend_options how = {
            .threads = 1, .max_context = 64, .kv_type = RV_F16, .max_loaded = 1, .files = &file, .n_files = 1
        };
        rv_err e = rv_backend_open(&m.alloc, &how, &b);
        if (!e) {
            rv_backend_request request = {
                .model = "a-q8_0",
                .prompt = "One two",
                .prompt_bytes = 7,
                .how = { .max_tokens = 2, .sampling = rv_sampling_default(), .n_logprobs = -1 }
            };
            e = rv_backend_generate(b, &request, &g);
        }
        /* A mark that finds no memory only costs the next prompt some time, so RV_OK is right too; then all is there. */
        CHECK(e == RV_OK || (e == RV_E_NOMEM && m.failed), "call %ld: %s %s", m.fail_at, rv_err_name(e),
              rv_err_text());
        CHECK(e != RV_OK || g.completion_tokens == 2 || g.finish == RV_FINISH_STOP, "call %ld: %zu tokens",
              m.fail_at, g.completion_tokens);
        rv_backend_close(b);
    }
}
