/* Everything at once: callers of several models that take turns in memory and in a pool too small for them, long prompts and
 * short ones, readers that dawdle, leave or cancel, drafts, adapters, measurements, conversations that go to disk and come back. Each answer is the one its request has alone. A short run by default; with
 * RUVLLM_TEST_LOAD=300 in the environment it goes on for 300 seconds (under ThreadSanitizer: the preset tsan). */
#include "backend/backend.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/rng.h"
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MODELS = 3, CALLERS = 8, REQUESTS = 24, LONGEST = 400, CONTEXT = 512, ROUNDS = 12, POOL = 1 << 20 };
static const char *const ids[MODELS] = { "a", "b", "c" };

typedef struct request {
    int32_t prompt[LONGEST];
    size_t n, max_tokens;
    rv_sampling sampling;
    rv_bias bias[4];
    char text[4096]; /* what it says alone */
    size_t n_text;
    char adapted[4096]; /* and with the adapter */
    size_t n_adapted;
} request;

static request requests[REQUESTS]; /* written before the callers start, as is: */
static const char *adapter;

typedef struct answer {
    char text[4096];
    size_t n, pieces, leave_after, cancel_after;
    long pause_us;
    atomic_bool cancel;
} answer;

static bool take_piece(void *self, const rv_piece *p)
{
    answer *a = self;
    memcpy(a->text + a->n, p->text, p->n);
    a->n += p->n;
    a->pieces++;
    if (a->pause_us) {
        nanosleep(&(struct timespec){ .tv_nsec = a->pause_us * 1000L }, NULL);
    }
    if (a->pieces == a->cancel_after) {
        atomic_store(&a->cancel, true);
    }
    return a->pieces != a->leave_after;
}

static rv_err ask(rv_backend *b, const char *model, const request *r, rv_drafts drafts, answer *a,
                  rv_generated *done)
{
    rv_backend_request ask = { .model = model, .prompt_ids = r->prompt, .n_prompt_ids = r->n };
    ask.how = (rv_generate){ .max_tokens = r->max_tokens,
                             .sampling = r->sampling,
                             .n_logprobs = -1,
                             .drafts = drafts,
                             .ignore_end = true,
                             .cancel = &a->cancel,
                             .on_piece = take_piece,
                             .self = a };
    ask.how.sampling.bias = r->bias;
    ask.how.sampling.n_bias = RV_COUNT(r->bias);
    return rv_backend_generate(b, &ask, done);
}

static rv_err ask_adapted(rv_backend *b, const char *model, const request *r, answer *a, rv_generated *done)
{
    rv_engine *engine = NULL;
    rv_lora *lora = NULL;
    RV_TRY(rv_backend_take(b, model, &engine));
    rv_err e = rv_engine_open_lora(engine, &rv_heap, adapter, &lora);
    if (!e) {
        rv_generate how = { .prompt = r->prompt,
                            .n_prompt = r->n,
                            .max_tokens = r->max_tokens,
                            .sampling = r->sampling,
                            .lora = lora,
                            .n_logprobs = -1,
                            .ignore_end = true,
                            .on_piece = take_piece,
                            .self = a };
        e = rv_engine_generate(engine, &how, done);
    }
    rv_lora_close(lora);
    rv_backend_put(b, engine);
    return e;
}

static void make_requests(rv_backend *b)
{
    rv_rng rng;
    rv_rng_init(&rng, 77);
    for (size_t i = 0; i < REQUESTS; i++) {
        request *r = &requests[i];
        size_t shared = i % 3 ? rv_rng_below(&rng, requests[i - 1].n) : 0;
        r->n = shared + 1 + rv_rng_below(&rng, i % 5 ? 30 : LONGEST - 1 - shared);
        memcpy(r->prompt, requests[i ? i - 1 : 0].prompt, shared * sizeof *r->prompt);
        for (size_t k = shared; k < r->n; k++) {
            r->prompt[k] = (int32_t)rv_rng_below(&rng, rv_rng_below(&rng, 2) ? 12 : 1024);
        }
        r->max_tokens = 1 + rv_rng_below(&rng, 40);
        r->sampling = rv_sampling_default();
        r->sampling.seed = i;
        r->sampling.temperature = i % 4 ? 0.7f : 0;
        for (size_t k = 0; k < RV_COUNT(r->bias); k++) {
            r->bias[k] = (rv_bias){ (int32_t)rv_rng_below(&rng, 12), 4 };
        }
        static answer a;
        rv_generated done;
        a = (answer){ .n = 0 };
        CHECK_OK(ask(b, ids[0], r, RV_DRAFTS_OFF, &a, &done));
        memcpy(r->text, a.text, a.n);
        r->n_text = a.n;
        a = (answer){ .n = 0 };
        CHECK_OK(ask_adapted(b, ids[0], r, &a, &done));
        memcpy(r->adapted, a.text, a.n);
        r->n_adapted = a.n;
    }
}

typedef struct caller {
    rv_backend *backend;
    uint64_t seed;
    double until_ms;
    answer a;
    size_t rounds, whole, cut;
    char wrong[300];
} caller;

static void one_answer(caller *c, rv_rng *rng)
{
    const request *r = &requests[rv_rng_below(rng, REQUESTS)];
    const char *model = ids[rv_rng_below(rng, MODELS)];
    uint64_t mood = rv_rng_below(rng, 10);
    c->a = (answer){ .n = 0 };
    c->a.leave_after = mood == 0 ? 1 + rv_rng_below(rng, 10) : 0;
    c->a.cancel_after = mood == 1 ? 1 + rv_rng_below(rng, 10) : 0;
    c->a.pause_us = mood == 2 ? 200 : 0;
    atomic_store(&c->a.cancel, mood == 3);
    rv_generated done = { .finish = RV_FINISH_CANCELLED };
    rv_err e = ask(c->backend, model, r, (rv_drafts)rv_rng_below(rng, 3), &c->a, &done);
    bool cut = e == RV_E_CANCELLED || done.finish == RV_FINISH_CANCELLED;
    if ((e && e != RV_E_CANCELLED) || (cut && mood > 3 && mood != 1) || c->a.n > r->n_text ||
        (!cut && c->a.n != r->n_text) || memcmp(c->a.text, r->text, c->a.n) != 0) {
        snprintf(c->wrong, sizeof c->wrong, "request %zu of model %s: %s, finish %d, %zu bytes, alone %zu",
                 (size_t)(r - requests), model, rv_err_name(e), (int)done.finish, c->a.n, r->n_text);
    }
    c->whole += !cut;
    c->cut += cut;
}

static void one_adapted(caller *c, rv_rng *rng)
{
    const request *r = &requests[rv_rng_below(rng, REQUESTS)];
    rv_generated done;
    c->a = (answer){ .n = 0 };
    rv_err e = ask_adapted(c->backend, ids[rv_rng_below(rng, MODELS)], r, &c->a, &done);
    if (e || c->a.n != r->n_adapted || memcmp(c->a.text, r->adapted, c->a.n) != 0) {
        snprintf(c->wrong, sizeof c->wrong, "request %zu with an adapter: %s, %zu bytes, alone %zu",
                 (size_t)(r - requests), rv_err_name(e), c->a.n, r->n_adapted);
    }
}

static void one_measurement(caller *c, rv_rng *rng)
{
    rv_engine *engine = NULL;
    double nll = 0;
    const request *r = &requests[rv_rng_below(rng, REQUESTS)];
    rv_err e = rv_backend_take(c->backend, ids[rv_rng_below(rng, MODELS)], &engine);
    if (!e) {
        e = rv_engine_nll(engine, NULL, r->prompt, r->n, &nll);
        if (!e) {
            e = rv_engine_check(engine);
        }
        rv_backend_put(c->backend, engine);
    }
    if (e || !(nll >= 0)) {
        snprintf(c->wrong, sizeof c->wrong, "measuring: %s, %g", rv_err_name(e), nll);
    }
}

static void *call(void *arg)
{
    caller *c = arg;
    rv_rng rng;
    rv_rng_init(&rng, c->seed);
    for (; !c->wrong[0] && (c->rounds < ROUNDS || rv_clock_ms() < c->until_ms); c->rounds++) {
        switch (rv_rng_below(&rng, 12)) {
        case 0: one_measurement(c, &rng); break;
        case 1:
        case 2: one_adapted(c, &rng); break;
        default: one_answer(c, &rng);
        }
        rv_backend_model models[MODELS];
        rv_backend_models(c->backend, models, MODELS);
    }
    return NULL;
}

TEST(a_mixed_load_says_what_each_request_says_alone)
{
    char *bytes = NULL, paths[MODELS][4200];
    const char *files[MODELS], *seconds = getenv("RUVLLM_TEST_LOAD");
    size_t n = 0, whole = 0, cut = 0;
    CHECK_OK(rv_file_read(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), 1 << 20, &bytes, &n));
    for (size_t i = 0; i < MODELS; i++) {
        snprintf(paths[i], sizeof paths[i], "%.4000s", temp_path("x"));
        snprintf(strrchr(paths[i], '/'), 16, "/%s.gguf", ids[i]);
        CHECK_OK(rv_file_replace(paths[i], bytes, n));
        files[i] = paths[i];
    }
    rv_free(&rv_heap, bytes);
    rv_backend *b = NULL;
    rv_budget *budget = NULL; /* small: what is idle has to go, and is read back from the shelf */
    rv_shelf *shelf = NULL;
    CHECK_OK(rv_budget_new(&rv_heap, POOL, &budget));
    CHECK_OK(rv_shelf_open(&rv_heap, temp_path("kv"), 1 << 26, &shelf));
    rv_backend_options how = { .threads = 2,
                               .max_context = CONTEXT,
                               .budget = budget,
                               .shelf = shelf,
                               .kv_type = RV_F16,
                               .max_loaded = 2,
                               .files = files,
                               .n_files = MODELS };
    CHECK_OK(rv_backend_open(&rv_heap, &how, &b));
    adapter = source_path("tests/data/golden/a-lora.gguf");
    make_requests(b);
    static caller callers[CALLERS];
    pthread_t threads[CALLERS];
    double until = rv_clock_ms() + (seconds ? atof(seconds) * 1e3 : 0);
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i] = (caller){ .backend = b, .seed = 10 + i, .until_ms = until };
        CHECK(pthread_create(&threads[i], NULL, call, &callers[i]) == 0, "thread");
    }
    for (size_t i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(!callers[i].wrong[0], "caller %zu, round %zu: %s", i, callers[i].rounds, callers[i].wrong);
        whole += callers[i].whole;
        cut += callers[i].cut;
    }
    print_message("# %zu whole answers, %zu cut short\n", whole, cut);
    CHECK(whole > 30 && cut > 5, "%zu whole answers, %zu cut: too tame", whole, cut);
    CHECK(rv_budget_peak(budget) <= POOL, "%zu bytes of %d", rv_budget_peak(budget), POOL);
    CHECK(rv_shelf_get_stats(shelf).files > 0, "nothing was saved: too tame");
    rv_backend_close(b);
    rv_shelf_close(shelf);
    rv_budget_free(budget);
}
