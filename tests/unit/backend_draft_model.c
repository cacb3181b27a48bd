/* Which of the models guesses for which other one. */
#include "backend/backend.h"
#include "base/file.h"
#include "test.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

static rv_err open_tiers(const char *small, const char *large, const char *draft_model, size_t max_loaded,
                         rv_backend **b)
{
    rv_backend_options how = { .threads = 1,
                               .max_context = 256,
                               .kv_type = RV_F16,
                               .max_loaded = max_loaded,
                               .tiers = { small, large },
                               .draft_model = draft_model };
    return rv_backend_open(&rv_heap, &how, b);
}

typedef struct answer {
    char text[4096];
    size_t n;
} answer;

static bool collect(void *self, const rv_piece *piece)
{
    answer *a = self;
    memcpy(a->text + a->n, piece->text, piece->n);
    a->n += piece->n;
    return true;
}

static rv_generated complete(rv_backend *b, const char *id, answer *a)
{
    static const char prompt[] = "The quick brown fox";
    a->n = 0;
    rv_backend_request request = { .model = id, .prompt = prompt, .prompt_bytes = strlen(prompt) };
    request.how = (rv_generate){ .max_tokens = 40,
                                 .sampling = rv_sampling_default(),
                                 .n_logprobs = -1,
                                 .ignore_end = true,
                                 .drafts = RV_DRAFTS_ALL,
                                 .on_piece = collect,
                                 .self = a };
    rv_generated done = { 0 };
    CHECK_OK(rv_backend_generate(b, &request, &done));
    return done;
}

static void await_loaded(rv_backend *b, const char *id)
{
    rv_backend_model models[2];
    for (int i = 0; i < 1000000; i++) {
        size_t n = rv_backend_models(b, models, 2);
        for (size_t m = 0; m < n; m++) {
            if (models[m].loaded && strcmp(models[m].id, id) == 0) {
                return;
            }
        }
        sched_yield();
    }
    CHECK(false, "%s was never loaded", id);
}

TEST(a_smaller_tier_guesses_when_it_is_in_memory_or_was_named)
{
    static const char small[] = "models/demo-xs.gguf", large[] = "models/demo-s.gguf";
    char paths[2][4096];
    snprintf(paths[0], sizeof paths[0], "%s", source_path(small));
    snprintf(paths[1], sizeof paths[1], "%s", source_path(large));
    rv_backend *b = NULL;
    static answer alone, helped;
    CHECK_OK(open_tiers(paths[0], paths[1], "off", 2, &b));
    complete(b, "350m", &helped);
    rv_generated done = complete(b, "700m", &alone);
    CHECK(done.model_drafted == 0, "off: %zu", done.model_drafted);
    rv_backend_close(b);

    CHECK_OK(open_tiers(paths[0], paths[1], "auto", 2, &b));
    done = complete(b, "700m", &helped);
    CHECK(done.model_drafted == 0, "auto loads nothing: %zu", done.model_drafted);
    done = complete(b, "350m", &helped);
    CHECK(done.model_drafted == 0, "the smaller one has nobody: %zu", done.model_drafted);
    done = complete(b, "700m", &helped);
    CHECK(done.model_drafted > 0, "auto: no guesses of the one in memory");
    CHECK(helped.n == alone.n && memcmp(helped.text, alone.text, alone.n) == 0, "%.*s", (int)helped.n,
          helped.text);
    rv_backend_close(b);

    CHECK_OK(open_tiers(paths[0], paths[1], "350m", 2, &b));
    complete(b, "700m", &helped);
    await_loaded(b, "350m");
    done = complete(b, "700m", &helped);
    CHECK(done.model_drafted > 0, "named: no guesses");
    CHECK(helped.n == alone.n && memcmp(helped.text, alone.text, alone.n) == 0, "%.*s", (int)helped.n,
          helped.text);
    rv_backend_close(b);
}

TEST(a_named_tier_that_cannot_guess_is_refused_with_the_reason)
{
    char golden[4096], demo[4096];
    snprintf(golden, sizeof golden, "%s", source_path("tests/data/golden/a-q8_0.gguf"));
    snprintf(demo, sizeof demo, "%s", source_path("models/demo-xs.gguf"));
    rv_backend *b = NULL;
    CHECK_ERR(open_tiers(golden, demo, "350m", 2, &b), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "draft model 350m (1024 tokens)") && strstr(rv_err_text(), "700m"), "%s",
          rv_err_text());
    CHECK_ERR(open_tiers(golden, demo, "1.2b", 2, &b), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "no such tier"), "%s", rv_err_text());
    CHECK_ERR(open_tiers(golden, demo, "700m", 2, &b), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "no tier is larger"), "%s", rv_err_text());
    CHECK_ERR(open_tiers(golden, demo, "350m", 1, &b), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "inference.max_loaded_models"), "%s", rv_err_text());
    static answer a; /* auto goes without */
    CHECK_OK(open_tiers(golden, demo, "auto", 2, &b));
    complete(b, "350m", &a);
    CHECK(complete(b, "700m", &a).model_drafted == 0, "another vocabulary");
    rv_backend_close(b);
}
