#include "backend/backend.h"
#include "base/file.h"
#include "test.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The golden model is 280 KB with random weights: enough to load, generate and be the same every time. */
static const char *model_copy(const char *folder, const char *name)
{
    static char path[8][4096];
    static int turn;
    char *out = path[turn++ % 8], *bytes = NULL;
    size_t n = 0;
    snprintf(out, sizeof path[0], "%.2000s/%.200s", folder, name);
    CHECK_OK(rv_file_read(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), 1 << 20, &bytes, &n));
    CHECK_OK(rv_file_replace(out, bytes, n));
    rv_free(&rv_heap, bytes);
    return out;
}

static rv_backend *open_files(const char *const *files, size_t n, size_t max_loaded)
{
    rv_backend *b = NULL;
    rv_backend_options how = { .threads = 1,
                               .max_context = 256,
                               .kv_type = RV_F16,
                               .max_loaded = max_loaded,
                               .files = files,
                               .n_files = n };
    CHECK_OK(rv_backend_open(&rv_heap, &how, &b));
    return b;
}

static void check_loaded(rv_backend *b, const char *expected)
{
    rv_backend_model models[8];
    size_t n = rv_backend_models(b, models, RV_COUNT(models));
    char found[200] = "";
    for (size_t i = 0; i < n; i++) {
        if (models[i].loaded) {
            strcat(strcat(found, *found ? " " : ""), models[i].id);
        }
    }
    CHECK(strcmp(found, expected) == 0, "loaded: \"%s\", expected \"%s\"", found, expected);
}

static void use(rv_backend *b, const char *id)
{
    rv_engine *engine = NULL;
    CHECK_OK(rv_backend_take(b, id, &engine));
    rv_backend_put(b, engine);
}

TEST(a_model_is_found_by_tier_name_file_name_and_path)
{
    const char *dir = temp_dir(), *small = model_copy(dir, "small.gguf"),
               *large = model_copy(dir, "large.gguf");
    const char *other = model_copy(dir, "other.gguf");
    rv_backend_options how = {
        .threads = 1, .max_loaded = 1, .tiers = { small, NULL, NULL, large }, .files = &other, .n_files = 1
    };
    rv_backend *b = NULL;
    CHECK_OK(rv_backend_open(&rv_heap, &how, &b));
    static const char *const asked[][2] = {
        { NULL, "2.6b" },    { "", "2.6b" },       { "default", "2.6b" },
        { "350m", "350m" },  { "small", "350m" },  { "small.gguf", "350m" },
        { "large", "2.6b" }, { "other", "other" }, { "other.gguf", "other" },
    };
    const char *id = NULL;
    for (size_t i = 0; i < RV_COUNT(asked); i++) {
        CHECK_OK(rv_backend_resolve(b, asked[i][0], &id));
        CHECK(strcmp(id, asked[i][1]) == 0, "%s became %s", asked[i][0], id);
    }
    CHECK_OK(rv_backend_resolve(b, other, &id));
    CHECK(strcmp(id, "other") == 0, "%s", id);
    CHECK_ERR(rv_backend_resolve(b, "700m", &id), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), "\"700m\"; there are: 350m, 2.6b, other"), "%s", rv_err_text());
    rv_backend_model models[2];
    CHECK(rv_backend_models(b, models, 2) == 3, "all three are counted, whatever room there is");
    CHECK(models[0].tier == 0 && models[1].tier == 3 && models[1].is_default && !models[0].is_default,
          "order");
    CHECK(models[0].file_bytes > 100000 && models[0].created > 0 && models[0].n_ctx == 0, "file facts");
    rv_backend_close(b);
}

TEST(a_default_may_be_a_tier_a_name_or_one_more_file)
{
    const char *dir = temp_dir(), *small = model_copy(dir, "small.gguf"),
               *other = model_copy(dir, "other.gguf"), *id = NULL;
    static const char *const expected[] = { "350m", "350m", "other" };
    const char *wishes[] = { "350m", small, other };
    for (size_t i = 0; i < RV_COUNT(wishes); i++) {
        rv_backend_options how = {
            .threads = 1, .max_loaded = 1, .tiers = { small }, .default_model = wishes[i]
        };
        rv_backend *b = NULL;
        CHECK_OK(rv_backend_open(&rv_heap, &how, &b));
        CHECK_OK(rv_backend_resolve(b, NULL, &id));
        CHECK(strcmp(id, expected[i]) == 0, "%s became %s", wishes[i], id);
        rv_backend_close(b);
    }
    rv_backend_options wrong = { .threads = 1, .max_loaded = 1, .tiers = { small }, .default_model = "900m" };
    rv_backend *b = NULL;
    CHECK_ERR(rv_backend_open(&rv_heap, &wrong, &b), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), "900m"), "%s", rv_err_text());
}

TEST(files_that_are_not_there_or_go_by_one_name_are_refused_by_name)
{
    rv_backend *b = NULL;
    rv_backend_options missing = { .threads = 1, .max_loaded = 1, .tiers = { [2] = "/nowhere/m.gguf" } };
    CHECK_ERR(rv_backend_open(&rv_heap, &missing, &b), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), "tier 1.2b") && strstr(rv_err_text(), "/nowhere/m.gguf"), "%s",
          rv_err_text());
    rv_backend_options folder = { .threads = 1, .max_loaded = 1, .tiers = { temp_dir() } };
    CHECK_ERR(rv_backend_open(&rv_heap, &folder, &b), RV_E_IO);
    const char *twins[] = { model_copy(temp_dir(), "m.gguf"), model_copy(temp_dir(), "m.gguf") };
    rv_backend_options same = { .threads = 1, .max_loaded = 1, .files = twins, .n_files = 2 };
    CHECK_ERR(rv_backend_open(&rv_heap, &same, &b), RV_E_ARG);
    const char *twice[] = { twins[0], twins[0] };
    rv_backend_options once = { .threads = 1, .max_loaded = 1, .files = twice, .n_files = 2 };
    CHECK_OK(rv_backend_open(&rv_heap, &once, &b));
    CHECK(rv_backend_models(b, NULL, 0) == 1, "one file is one model");
    rv_backend_close(b);
}

TEST(without_models_it_opens_and_says_what_to_do_when_asked_for_one)
{
    rv_backend *b = open_files(NULL, 0, 1);
    const char *id = NULL;
    CHECK_ERR(rv_backend_resolve(b, NULL, &id), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), "[tiers]"), "%s", rv_err_text());
    rv_backend_close(b);
}

TEST(the_least_recently_used_model_that_nobody_holds_goes)
{
    const char *dir = temp_dir();
    const char *files[] = { model_copy(dir, "a.gguf"), model_copy(dir, "b.gguf"), model_copy(dir, "c.gguf") };
    rv_backend *b = open_files(files, 3, 2);
    check_loaded(b, "");
    use(b, "a");
    use(b, "b");
    use(b, "a");
    check_loaded(b, "a b");
    use(b, "c"); /* b was used before a */
    check_loaded(b, "a c");
    rv_engine *held = NULL;
    CHECK_OK(rv_backend_take(b, "a", &held));
    use(b, "c");
    use(b, "b"); /* a is older than c, but held */
    check_loaded(b, "a b");
    rv_backend_put(b, held);
    use(b, "c");
    check_loaded(b, "b c");
    rv_backend_close(b);
}

TEST(a_model_that_does_not_load_harms_no_other)
{
    const char *dir = temp_dir(), *bad = temp_path("bad.gguf");
    CHECK_OK(rv_file_replace(bad, "GGUF and no more", 16));
    const char *files[] = { model_copy(dir, "good.gguf"), bad };
    rv_backend *b = open_files(files, 2, 2);
    rv_engine *engine = NULL;
    use(b, "good");
    CHECK(rv_backend_take(b, "bad", &engine) != RV_OK, "half a header was taken for a model");
    CHECK(strstr(rv_err_text(), "bad.gguf"), "%s", rv_err_text());
    check_loaded(b, "good");
    use(b, "good");
    CHECK(rv_backend_take(b, "bad", &engine) != RV_OK, "the second time it is no better");
    rv_backend_close(b);
}

/* One seat, held by another model: who asks waits for so long, and loading goes on when there is room. */
TEST(who_waits_too_long_for_a_model_is_told_to_come_back)
{
    const char *dir = temp_dir();
    const char *files[] = { model_copy(dir, "a.gguf"), model_copy(dir, "b.gguf") };
    rv_backend *b = NULL;
    rv_backend_options how = { .threads = 1,
                               .max_context = 256,
                               .kv_type = RV_F16,
                               .max_loaded = 1,
                               .load_wait_ms = 30,
                               .files = files,
                               .n_files = 2 };
    CHECK_OK(rv_backend_open(&rv_heap, &how, &b));
    rv_engine *held = NULL, *other = NULL;
    for (int i = 0; i < 1000 && rv_backend_take(b, "a", &held); i++) {
    }
    CHECK(held, "a was never loaded");
    CHECK_ERR(rv_backend_take(b, "b", &other), RV_E_FULL);
    CHECK(strstr(rv_err_text(), "model b is being loaded"), "%s", rv_err_text());
    rv_backend_model models[2];
    rv_backend_models(b, models, 2);
    CHECK(models[0].loaded && models[0].held == 1 && models[0].resident_bytes > 0 && !models[0].loading, "a");
    CHECK(!models[1].loaded && models[1].loading, "b is wanted");
    rv_backend_put(b, held);
    for (int i = 0; i < 1000 && rv_backend_take(b, "b", &other); i++) {
    }
    CHECK(other, "b was never loaded");
    rv_backend_put(b, other);
    check_loaded(b, "b");
    rv_backend_close(b);
}

TEST(the_default_is_loaded_before_anybody_asks)
{
    const char *file = model_copy(temp_dir(), "m.gguf");
    rv_backend *b = NULL;
    rv_backend_options how = {
        .threads = 1, .max_context = 256, .kv_type = RV_F16, .max_loaded = 1, .tiers = { file }
    };
    CHECK_OK(rv_backend_open(&rv_heap, &how, &b));
    rv_backend_warm(b);
    rv_backend_model m = { 0 };
    for (int i = 0; i < 100000 && !m.loaded; i++) {
        rv_backend_models(b, &m, 1);
        CHECK(m.loaded || m.loading, "neither loaded nor loading");
        sched_yield();
    }
    use(b, "350m");
    rv_backend_close(b);
}

TEST(who_is_cancelled_does_not_wait_for_a_model)
{
    const char *dir = temp_dir();
    const char *files[] = { model_copy(dir, "a.gguf"), model_copy(dir, "b.gguf") };
    rv_backend *b = open_files(files, 2, 1);
    rv_engine *held = NULL;
    CHECK_OK(rv_backend_take(b, "a", &held));
    atomic_bool cancel;
    atomic_init(&cancel, true);
    int32_t id = 5;
    rv_backend_request request = { .model = "b", .prompt_ids = &id, .n_prompt_ids = 1 };
    request.how = (rv_generate){
        .max_tokens = 2, .n_logprobs = -1, .sampling = rv_sampling_default(), .cancel = &cancel
    };
    rv_generated done;
    CHECK_ERR(rv_backend_generate(b, &request, &done), RV_E_CANCELLED);
    rv_backend_put(b, held);
    rv_backend_close(b);
}

/* ---- generating ---- */

typedef struct answer {
    char text[512];
    size_t n;
} answer;

static bool collect(void *self, const rv_piece *piece)
{
    answer *a = self;
    for (size_t i = 0; i < piece->n && a->n + 1 < sizeof a->text; i++) {
        a->text[a->n++] = piece->text[i];
    }
    a->text[a->n] = 0;
    return true;
}

static rv_generate greedy(answer *a, size_t max_tokens)
{
    rv_sampling s = rv_sampling_default();
    s.temperature = 0;
    return (rv_generate){ .max_tokens = max_tokens,
                          .sampling = s,
                          .n_logprobs = -1,
                          .ignore_end = true,
                          .on_piece = collect,
                          .self = a };
}

static rv_err complete(rv_backend *b, const char *id, const char *prompt, answer *a, rv_generated *g)
{
    *a = (answer){ .n = 0 };
    rv_backend_request request = {
        .model = id, .prompt = prompt, .prompt_bytes = strlen(prompt), .how = greedy(a, 12)
    };
    return rv_backend_generate(b, &request, g);
}

TEST(text_ids_and_counts_agree)
{
    const char *file = model_copy(temp_dir(), "m.gguf");
    rv_backend *b = open_files(&file, 1, 1);
    static const char prompt[] = "The quick brown fox";
    answer from_text, from_ids;
    rv_generated g = { 0 }, h = { 0 };
    CHECK_OK(complete(b, "m", prompt, &from_text, &g));
    CHECK(g.completion_tokens == 12 && g.finish == RV_FINISH_LENGTH, "%zu tokens", g.completion_tokens);

    size_t counted = 0;
    CHECK_OK(rv_backend_count_tokens(b, "m", prompt, strlen(prompt), &counted));
    rv_engine *engine = NULL;
    CHECK_OK(rv_backend_take(b, "m", &engine));
    const rv_tok *tok = rv_engine_tok(engine);
    size_t bos = rv_tok_adds_bos(tok);
    CHECK(g.prompt_tokens == counted + bos, "%zu in the prompt, %zu counted, %zu BOS", g.prompt_tokens,
          counted, bos);

    rv_ids ids;
    rv_ids_init(&ids, &rv_heap, 100);
    if (bos) {
        CHECK_OK(rv_ids_add(&ids, rv_tok_bos(tok)));
    }
    CHECK_OK(rv_tok_encode(tok, prompt, strlen(prompt), RV_TOK_PLAIN, &ids));
    from_ids = (answer){ .n = 0 };
    rv_backend_request request = {
        .model = "m", .prompt_ids = ids.at, .n_prompt_ids = ids.n, .how = greedy(&from_ids, 12)
    };
    CHECK_OK(rv_backend_generate(b, &request, &h));
    CHECK(strcmp(from_text.text, from_ids.text) == 0, "\"%s\" and \"%s\"", from_text.text, from_ids.text);

    if (bos) { /* a prompt that brings its own BOS gets no second one */
        rv_str start = rv_tok_bytes(tok, rv_tok_bos(tok));
        char with_bos[200];
        snprintf(with_bos, sizeof with_bos, "%.*s%s", (int)start.n, start.at, prompt);
        CHECK_OK(complete(b, "m", with_bos, &from_ids, &h));
        CHECK(h.prompt_tokens == g.prompt_tokens, "%zu and %zu tokens", h.prompt_tokens, g.prompt_tokens);
    }
    rv_ids_deinit(&ids);
    rv_backend_put(b, engine);
    rv_backend_close(b);
}

TEST(a_prompt_that_does_not_fit_is_refused_with_both_numbers)
{
    const char *file = model_copy(temp_dir(), "m.gguf");
    rv_backend *b = open_files(&file, 1, 1);
    char prompt[4000];
    for (size_t i = 0; i + 1 < sizeof prompt; i++) {
        prompt[i] = i % 4 ? (char)('a' + i % 23) : ' ';
    }
    prompt[sizeof prompt - 1] = 0;
    answer a;
    rv_generated g;
    size_t counted = 0;
    char number[32];
    CHECK_ERR(complete(b, "m", prompt, &a, &g), RV_E_CONTEXT);
    char text[1100];
    snprintf(text, sizeof text, "%s", rv_err_text());
    CHECK_OK(rv_backend_count_tokens(b, "m", prompt, strlen(prompt), &counted));
    rv_engine *engine = NULL;
    CHECK_OK(rv_backend_take(b, "m", &engine));
    snprintf(number, sizeof number, "%zu", counted + rv_tok_adds_bos(rv_engine_tok(engine)));
    rv_backend_put(b, engine);
    CHECK(strstr(text, number) && strstr(text, "256"), "%s, without %s or 256", text, number);
    rv_backend_close(b);
}

/* Contents of messages cannot become control tokens. */
TEST(markup_in_a_message_stays_text)
{
    const char *file = shared_path("trial/demo-tiers/trial-s2.gguf");
    if (!file) {
        SKIP("../shared/trial/demo-tiers/trial-s2.gguf is not here");
    }
    rv_backend *b = open_files(&file, 1, 1);
    rv_generated plain = { 0 }, markup = { 0 };
    for (int i = 0; i < 2; i++) {
        answer a = { .n = 0 };
        json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", i ? "<|im_end|>" : "x");
        rv_backend_request request = { .model = "trial-s2", .messages = messages, .how = greedy(&a, 1) };
        CHECK_OK(rv_backend_generate(b, &request, i ? &markup : &plain));
        json_decref(messages);
    }
    CHECK(markup.prompt_tokens > plain.prompt_tokens + 2, "%zu and %zu tokens", markup.prompt_tokens,
          plain.prompt_tokens);
    rv_backend_close(b);
}

/* ---- several threads ---- */

typedef struct worker {
    rv_backend *b;
    const char *const *expected;
    int number;
    size_t wrong;
    rv_err error;
    pthread_t thread;
} worker;

static const char *const prompts[] = { "One", "Two and", "Three or so" };
static const char *const names[] = { "a", "b", "c" };

static void *work(void *arg)
{
    worker *w = arg;
    for (int i = 0; i < 6 && !w->error; i++) {
        answer a;
        rv_generated g;
        size_t which = (size_t)(w->number + i) % 3;
        w->error = complete(w->b, names[which], prompts[which], &a, &g);
        w->wrong += !w->error && strcmp(a.text, w->expected[which]) != 0;
    }
    return NULL;
}

TEST(threads_that_share_too_few_places_all_get_the_same_answers_as_alone)
{
    const char *dir = temp_dir();
    const char *files[] = { model_copy(dir, "a.gguf"), model_copy(dir, "b.gguf"), model_copy(dir, "c.gguf") };
    char alone[3][512];
    const char *expected[3];
    rv_backend *b = open_files(files, 3, 3);
    for (size_t i = 0; i < 3; i++) {
        answer a;
        rv_generated g;
        CHECK_OK(complete(b, names[i], prompts[i], &a, &g));
        memcpy(alone[i], a.text, sizeof alone[i]);
        expected[i] = alone[i];
    }
    rv_backend_close(b);

    b = open_files(files, 3, 1); /* three models, one place, four threads */
    worker w[4];
    for (int i = 0; i < 4; i++) {
        w[i] = (worker){ .b = b, .expected = expected, .number = i };
        CHECK(pthread_create(&w[i].thread, NULL, work, &w[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(w[i].thread, NULL);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(w[i].error == RV_OK && w[i].wrong == 0, "thread %d: %s, %zu wrong", i, rv_err_name(w[i].error),
              w[i].wrong);
    }
    rv_backend_close(b);
}

static void *take_b(void *arg)
{
    worker *w = arg;
    rv_engine *engine = NULL;
    w->error = rv_backend_take(w->b, "b", &engine);
    if (!w->error) {
        rv_backend_put(w->b, engine);
    }
    return NULL;
}

TEST(who_wants_another_model_waits_until_the_held_one_is_put_back)
{
    const char *dir = temp_dir();
    const char *files[] = { model_copy(dir, "a.gguf"), model_copy(dir, "b.gguf") };
    rv_backend *b = open_files(files, 2, 1);
    rv_engine *held = NULL;
    CHECK_OK(rv_backend_take(b, "a", &held));
    worker w = { .b = b };
    CHECK(pthread_create(&w.thread, NULL, take_b, &w) == 0, "thread");
    usleep(50000);
    check_loaded(b, "a"); /* whatever the other thread did meanwhile */
    rv_backend_put(b, held);
    pthread_join(w.thread, NULL);
    CHECK(w.error == RV_OK, "%s", rv_err_name(w.error));
    check_loaded(b, "b");
    rv_backend_close(b);
}

static void *take_large(void *b)
{
    use(b, "large");
    return NULL;
}

/* Conversations of a model that goes for another one are written while it closes. */
TEST(what_a_model_that_is_being_dropped_still_writes_is_forgotten_too)
{
    enum { TALKS = 8, TOKENS = 200 };
    const char *dir = temp_dir();
    const char *files[] = { model_copy(dir, "small.gguf"), model_copy(dir, "large.gguf") };
    rv_backend *b = NULL;
    rv_shelf *shelf = NULL;
    CHECK_OK(rv_shelf_open(&rv_heap, temp_path("kv"), 1 << 26, &shelf));
    rv_backend_options how = { .threads = 1,
                               .max_context = 256,
                               .kv_type = RV_F16,
                               .shelf = shelf,
                               .max_loaded = 1,
                               .files = files,
                               .n_files = 2 };
    CHECK_OK(rv_backend_open(&rv_heap, &how, &b));
    for (int32_t i = 0; i < TALKS; i++) {
        int32_t ids[TOKENS];
        for (int32_t t = 0; t < TOKENS; t++) {
            ids[t] = (t * 7 + i) % 1024;
        }
        rv_backend_request ask = { .model = "small", .prompt_ids = ids, .n_prompt_ids = TOKENS };
        ask.how = (rv_generate){ .max_tokens = 1, .sampling = rv_sampling_default(), .n_logprobs = -1 };
        rv_generated done;
        CHECK_OK(rv_backend_generate(b, &ask, &done));
    }
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, take_large, b) == 0, "thread");
    rv_backend_model models[2];
    do {
        sched_yield();
        rv_backend_models(b, models, 2);
    } while (models[0].loaded);
    size_t cleared = 0;
    rv_backend_forget(b);
    CHECK_OK(rv_shelf_clear(shelf, &cleared));
    pthread_join(thread, NULL);
    CHECK(rv_shelf_get_stats(shelf).files == 0, "%zu conversations are left, %zu were cleared",
          rv_shelf_get_stats(shelf).files, cleared);
    rv_backend_close(b);
    rv_shelf_close(shelf);
}
