/* Generation on a tiny model with random weights: what it says is noise, but it must be the same noise every
 * time. */
#include "engine/engine.h"
#include "base/file.h"
#include "base/rng.h"
#include "test.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 400 };
static const int32_t words[] = { 1,   83,  362, 427, 309, 380, 916, 658, 444, 117, 407,
                                 116, 459, 350, 800, 302, 538, 316, 100, 802, 400, 103,
                                 97,  821, 392, 472, 106, 295, 114, 58,  811, 775 };

static rv_engine *open_engine(rv_pool *pool, uint32_t max_context)
{
    rv_engine *e = NULL;
    rv_engine_options how = rv_engine_options_default();
    how.pool = pool;
    how.max_context = max_context;
    CHECK_OK(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), how, &e));
    return e;
}

/* All that a request gave. */
typedef struct answer {
    char text[8192];
    size_t n, pieces;
    int32_t tokens[ROOM];
    float logprobs[ROOM];
    size_t n_tokens, stop_after; /* refuse the piece after this many; 0: never */
    rv_token_prob top[ROOM][3];
    rv_generated result;
} answer;

static bool take_piece(void *self, const rv_piece *p)
{
    answer *a = self;
    a->pieces++;
    memcpy(a->text + a->n, p->text, p->n);
    a->n += p->n;
    a->text[a->n] = 0;
    if (p->token >= 0) {
        memcpy(a->top[a->n_tokens], p->top, (p->n_top < 3 ? p->n_top : 3) * sizeof *p->top);
        a->tokens[a->n_tokens] = p->token;
        a->logprobs[a->n_tokens++] = p->logprob;
    }
    return a->pieces != a->stop_after;
}

static rv_generate request(const int32_t *prompt, size_t n, size_t max_tokens, uint64_t seed)
{
    rv_generate how = { .prompt = prompt,
                        .n_prompt = n,
                        .max_tokens = max_tokens,
                        .n_logprobs = -1,
                        .sampling = rv_sampling_default(),
                        .ignore_end = true,
                        .on_piece = take_piece };
    how.sampling.temperature = 1;
    how.sampling.min_p = 0.02f;
    how.sampling.seed = seed;
    return how;
}

static answer ask(rv_engine *e, rv_generate how)
{
    answer a = { 0 };
    how.self = &a;
    CHECK_OK(rv_engine_generate(e, &how, &a.result));
    CHECK(rv_utf8_valid(a.text, a.n), "the answer is not UTF-8");
    return a;
}

static void check_same(const answer *a, const answer *b, const char *when)
{
    CHECK(a->n_tokens == b->n_tokens && memcmp(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens) == 0,
          "%s: tokens", when);
    CHECK(memcmp(a->logprobs, b->logprobs, a->n_tokens * sizeof *a->logprobs) == 0, "%s: log-probabilities",
          when);
    CHECK(strcmp(a->text, b->text) == 0, "%s: \"%s\" and \"%s\"", when, a->text, b->text);
}

TEST(the_same_request_gives_the_same_answer_whatever_ran_before)
{
    static const struct {
        size_t n, max;
        uint64_t seed;
    } cases[] = {
        { 32, 40, 1 }, { 32, 40, 1 },  { 10, 30, 2 }, { 32, 5, 3 },
        { 1, 64, 4 },  { 20, 300, 5 }, { 31, 1, 6 },  { 32, 40, 1 },
    };
    rv_pool *pool = NULL;
    CHECK_OK(rv_pool_new(&rv_heap, 2, &pool));
    rv_engine *used = open_engine(pool, 0);
    size_t cached = 0;
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        rv_generate how = request(words, cases[i].n, cases[i].max, cases[i].seed);
        rv_engine *fresh = open_engine(NULL, 0);
        answer cold = ask(fresh, how), warm = ask(used, how);
        check_same(&cold, &warm, "after other requests, on two threads");
        CHECK(cold.result.cached_tokens == 0 && warm.result.cached_tokens < cases[i].n, "%zu cached",
              warm.result.cached_tokens);
        cached += warm.result.cached_tokens;
        rv_engine_close(fresh);
    }
    CHECK(cached > 60, "only %zu tokens came from the cache", cached);
    rv_engine_close(used);
    rv_pool_free(pool);
}

TEST(a_conversation_goes_on_from_the_cache)
{
    rv_engine *e = open_engine(NULL, 0);
    answer first = ask(e, request(words, 32, 50, 1));
    int32_t longer[32 + 50 + 4];
    memcpy(longer, words, sizeof words);
    memcpy(longer + 32, first.tokens, 50 * sizeof *longer);
    memcpy(longer + 82, words, 4 * sizeof *longer);
    answer second = ask(e, request(longer, 86, 20, 2));
    CHECK(second.result.cached_tokens == 81,
          "%zu of 86 cached: all but the last token of the answer and what follows",
          second.result.cached_tokens);
    answer again = ask(e, request(longer, 86, 20, 2));
    CHECK(again.result.cached_tokens == 85, "%zu of 86 cached: all but the last", again.result.cached_tokens);
    check_same(&second, &again, "asked again");
    rv_engine *fresh = open_engine(NULL, 0);
    answer cold = ask(fresh, request(longer, 86, 20, 2));
    check_same(&second, &cold, "cold");
    rv_engine_close(fresh);

    longer[60] ^=
        1; /* parts from the conversation in the middle: marked there, so the third time resumes there */
    ask(e, request(longer, 86, 5, 2));
    longer[60] ^= 2;
    answer third = ask(e, request(longer, 86, 5, 2));
    CHECK(third.result.cached_tokens == 60, "%zu cached, expected the 60 common tokens",
          third.result.cached_tokens);
    rv_engine_close(e);
}

TEST(another_seed_gives_another_answer_and_greedy_needs_none)
{
    rv_engine *e = open_engine(NULL, 0);
    answer a = ask(e, request(words, 32, 40, 1)), b = ask(e, request(words, 32, 40, 2));
    CHECK(strcmp(a.text, b.text) != 0, "seeds 1 and 2 both say \"%s\"", a.text);
    rv_generate how = request(words, 32, 40, 1);
    how.sampling.temperature = 0;
    answer c = ask(e, how);
    how.sampling.seed = 2;
    answer d = ask(e, how);
    check_same(&c, &d, "greedy");
    rv_engine_close(e);
}

TEST(text_ends_before_a_stop_string)
{
    rv_engine *e = open_engine(NULL, 0);
    answer whole = ask(e, request(words, 32, 200, 7));
    CHECK(whole.result.finish == RV_FINISH_LENGTH && whole.n > 100, "%zu bytes", whole.n);
    for (size_t from = 3; from + 8 < whole.n; from += 11) {
        for (size_t len = 1; len <= 7; len += 3) {
            char stop[16] = { 0 };
            memcpy(stop, whole.text + from, len);
            if (!rv_utf8_valid(stop, len)) {
                continue;
            }
            const char *stops[] = { "\x01 not there", stop };
            rv_generate how = request(words, 32, 200, 7);
            how.stops = stops;
            how.n_stops = 2;
            answer cut = ask(e, how);
            size_t at = (size_t)(strstr(whole.text, stop) - whole.text);
            CHECK(cut.result.finish == RV_FINISH_STOP && cut.result.stop == stop, "\"%s\" did not stop it",
                  stop);
            CHECK(cut.n == at && memcmp(cut.text, whole.text, at) == 0, "\"%s\": \"%s\"", stop, cut.text);
            CHECK(cut.result.completion_tokens <= whole.result.completion_tokens, "more tokens than without");
        }
    }
    rv_engine_close(e);
}

TEST(an_end_token_ends_and_control_tokens_are_silent)
{
    rv_engine *e = open_engine(NULL, 0);
    const rv_tok *tok = rv_engine_tok(e);
    rv_bias end = { rv_tok_find(tok, "<|im_end|>"), 1e6f },
            control = { rv_tok_find(tok, "<|im_start|>"), 1e6f };
    CHECK(end.id > 0 && control.id > 0 && rv_tok_is_end(tok, end.id), "the vocabulary of the test");
    rv_generate how = request(words, 32, 5, 1);
    how.sampling.bias = &end;
    how.sampling.n_bias = 1;
    answer a = ask(e, how);
    CHECK(a.n_tokens == 5 && a.n == 0 && a.result.finish == RV_FINISH_LENGTH, "ignored: %zu tokens \"%s\"",
          a.n_tokens, a.text);
    how.ignore_end = false;
    a = ask(e, how);
    CHECK(a.pieces == 0 && a.result.finish == RV_FINISH_STOP && !a.result.stop &&
              a.result.completion_tokens == 1,
          "%zu pieces, finish %d, %zu tokens", a.pieces, a.result.finish, a.result.completion_tokens);
    how.sampling.bias = &control;
    a = ask(e, how);
    CHECK(a.n_tokens == 5 && a.n == 0, "control tokens say \"%s\"", a.text);
    how.keep_control = true;
    a = ask(e, how);
    CHECK(strncmp(a.text, "<|im_start|><|im_start|>", 24) == 0, "kept: \"%s\"", a.text);
    rv_engine_close(e);
}

TEST(lengths_are_kept)
{
    rv_engine *e = open_engine(NULL, 48);
    CHECK(rv_engine_get_info(e)->n_ctx == 48, "%u", rv_engine_get_info(e)->n_ctx);
    answer a = ask(e, request(words, 32, 0, 1));
    CHECK(a.result.completion_tokens == 16 && a.n_tokens == 16 && a.result.finish == RV_FINISH_LENGTH,
          "%zu tokens", a.result.completion_tokens);
    a = ask(e, request(words, 32, 100, 1));
    CHECK(a.n_tokens == 16 && a.result.prompt_tokens == 32, "%zu tokens", a.n_tokens);
    a = ask(e, request(words, 32, 3, 1));
    CHECK(a.n_tokens == 3, "%zu tokens", a.n_tokens);
    int32_t full[48] = { 0 };
    rv_generated none;
    rv_generate how = request(full, 48, 1, 1);
    CHECK_ERR(rv_engine_generate(e, &how, &none), RV_E_CONTEXT);
    CHECK(strstr(rv_err_text(), "48"), "%s", rv_err_text());
    a = ask(e, request(full, 47, 0, 1));
    CHECK(a.n_tokens == 1, "%zu tokens in the last place", a.n_tokens);
    rv_engine_close(e);
}

TEST(log_probabilities_are_those_of_the_model)
{
    rv_engine *e = open_engine(NULL, 0);
    rv_generate how = request(words, 32, 20, 3);
    how.n_logprobs = 3;
    answer a = ask(e, how);
    int32_t ids[52];
    memcpy(ids, words, sizeof words);
    memcpy(ids + 32, a.tokens, 20 * sizeof *ids);
    size_t v = rv_engine_get_info(e)->shape.n_vocab;
    float *logits = malloc(52 * v * sizeof *logits), *again = malloc(52 * v * sizeof *again);
    CHECK(logits && again, "memory");
    CHECK_OK(rv_engine_logits(e, NULL, ids, 52, 0, 0, logits));
    CHECK_OK(rv_engine_logits(e, NULL, ids, 52, 40, 5, again));
    CHECK(memcmp(again, logits + 40 * v, 12 * v * sizeof *logits) == 0, "in other pieces, from the middle");
    double nll = 0, mean = 0, least = 0;
    for (size_t t = 0; t < 51; t++) {
        const float *row = logits + t * v;
        double best = -INFINITY, sum = 0;
        size_t argmax = 0;
        for (size_t i = 0; i < v; i++) {
            argmax = row[i] > row[argmax] ? i : argmax;
        }
        best = (double)row[argmax];
        for (size_t i = 0; i < v; i++) {
            sum += exp((double)row[i] - best);
        }
        double exact = (double)row[ids[t + 1]] - best - log(sum);
        nll -= exact;
        if (t >= 31) {
            size_t i = t - 31;
            CHECK(fabs((double)a.logprobs[i] - exact) <= 1e-5, "token %zu: %g, expected %g", i,
                  (double)a.logprobs[i], exact);
            CHECK(a.top[i][0].id == (int32_t)argmax && a.top[i][0].logprob >= a.top[i][1].logprob,
                  "token %zu: best", i);
            mean += exact / 20;
            least = exact < least ? exact : least;
        }
    }
    CHECK(fabs(a.result.mean_logprob - mean) <= 1e-5 && fabs(a.result.min_logprob - least) <= 1e-5,
          "%g %g, expected %g %g", a.result.mean_logprob, a.result.min_logprob, mean, least);
    double got = 0;
    CHECK_OK(rv_engine_nll(e, NULL, ids, 52, &got));
    CHECK(fabs(got - nll) <= 1e-3, "%g, expected %g", got, nll);
    free(logits);
    free(again);
    rv_engine_close(e);
}

TEST(a_model_that_gives_no_finite_logit_is_named)
{
    const char *path = temp_path("broken.gguf");
    char *bytes = NULL;
    size_t n = 0;
    CHECK_OK(rv_file_read(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), 1 << 20, &bytes, &n));
    memset(bytes + n - 8192, 0xff, 8192); /* scales that are no numbers, of the last weights */
    CHECK_OK(rv_file_replace(path, bytes, n));
    rv_free(&rv_heap, bytes);
    rv_engine *e = NULL;
    CHECK_OK(rv_engine_open(&rv_heap, path, rv_engine_options_default(), &e));
    rv_generate how = request(words, 8, 1, 1);
    rv_generated none;
    double sum;
    CHECK_ERR(rv_engine_generate(e, &how, &none), RV_E_CORRUPT);
    CHECK(strstr(rv_err_text(), "broken.gguf"), "%s", rv_err_text());
    CHECK_ERR(rv_engine_nll(e, NULL, words, 8, &sum), RV_E_CORRUPT);
    CHECK(strstr(rv_err_text(), "broken.gguf"), "%s", rv_err_text());
    rv_engine_close(e);
}

TEST(bad_requests_are_refused)
{
    rv_engine *e = open_engine(NULL, 0);
    int32_t bad[] = { 1, 1024 }, negative[] = { -1 };
    rv_generated none;
    rv_generate how = request(words, 0, 1, 1);
    CHECK_ERR(rv_engine_generate(e, &how, &none), RV_E_ARG);
    how = request(bad, 2, 1, 1);
    CHECK_ERR(rv_engine_generate(e, &how, &none), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "1024"), "%s", rv_err_text());
    how = request(negative, 1, 1, 1);
    CHECK_ERR(rv_engine_generate(e, &how, &none), RV_E_ARG);
    how = request(words, 1, 1, 1);
    how.sampling.temperature = NAN;
    CHECK_ERR(rv_engine_generate(e, &how, &none), RV_E_ARG);
    how = request(words, 1, 1, 1);
    how.n_logprobs = RV_MAX_LOGPROBS + 1;
    CHECK_ERR(rv_engine_generate(e, &how, &none), RV_E_ARG);
    how = request(words, 1, 1, 1);
    how.stops = (const char *const[]){ "" };
    how.n_stops = 1;
    CHECK_ERR(rv_engine_generate(e, &how, &none), RV_E_ARG);
    float row[1];
    double sum;
    CHECK_ERR(rv_engine_logits(e, NULL, bad, 2, 0, 0, row), RV_E_ARG);
    CHECK_ERR(rv_engine_logits(e, NULL, words, 2, 2, 0, row), RV_E_ARG);
    CHECK_ERR(rv_engine_nll(e, NULL, words, 0, &sum), RV_E_CONTEXT);
    CHECK_ERR(rv_engine_bench(e, 0, 1 << 20, 1, &sum, &sum), RV_E_CONTEXT);
    rv_engine_options wrong = { .kv_type = RV_Q4_K };
    rv_engine *other = NULL;
    CHECK_ERR(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), wrong, &other),
              RV_E_ARG);
    wrong = (rv_engine_options){ .kv_type = RV_F16, .max_sequences = 65 };
    CHECK_ERR(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), wrong, &other),
              RV_E_ARG);
    wrong = (rv_engine_options){ .kv_type = RV_F16, .max_context = 256, .cache_tokens = 255 };
    CHECK_ERR(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), wrong, &other),
              RV_E_ARG);
    CHECK(strstr(rv_err_text(), "255") && strstr(rv_err_text(), "256"), "%s", rv_err_text());
    CHECK_ERR(rv_engine_open(&rv_heap, "/nonexistent.gguf", rv_engine_options_default(), &other),
              RV_E_NOT_FOUND);
    rv_engine_close(e);
    rv_engine_close(NULL);
}

TEST(cancelling_stops_before_the_next_token)
{
    rv_engine *e = open_engine(NULL, 0);
    answer a = { .stop_after = 3 };
    rv_generate how = request(words, 32, 100, 1);
    how.self = &a;
    CHECK_OK(rv_engine_generate(e, &how, &a.result));
    CHECK(a.result.finish == RV_FINISH_CANCELLED && a.n_tokens == 3 && a.result.completion_tokens == 3,
          "%zu tokens", a.n_tokens);
    atomic_bool cancel = true;
    how.cancel = &cancel;
    a = (answer){ 0 };
    CHECK_OK(rv_engine_generate(e, &how, &a.result));
    CHECK(a.result.finish == RV_FINISH_CANCELLED && a.n_tokens == 0, "%zu tokens", a.n_tokens);
    how.cancel = NULL;
    how.on_piece = NULL;
    CHECK_OK(rv_engine_generate(e, &how, &a.result));
    CHECK(a.result.finish == RV_FINISH_LENGTH && a.result.completion_tokens == 100, "without a reader");
    rv_engine_close(e);
}

/* A reader that keeps the engine until it is told to go on. */
typedef struct gate {
    atomic_bool entered, open;
} gate;

static bool hold(void *self, const rv_piece *p)
{
    (void)p;
    gate *g = self;
    atomic_store(&g->entered, true);
    while (!atomic_load(&g->open)) {
        sched_yield();
    }
    return true;
}

typedef struct job {
    rv_engine *engine;
    rv_generate how;
    answer answer;
    rv_err err;
} job;

static void *run_job(void *arg)
{
    job *j = arg;
    j->err = rv_engine_generate(j->engine, &j->how, &j->answer.result);
    return NULL;
}

TEST(a_waiting_request_can_be_cancelled)
{
    rv_engine *e = NULL;
    rv_engine_options one_seat = rv_engine_options_default();
    one_seat.max_sequences = 1;
    CHECK_OK(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), one_seat, &e));
    gate g = { 0 };
    atomic_bool cancel = false;
    static job first, second;
    first = (job){ .engine = e, .how = request(words, 32, 2, 1) };
    first.how.on_piece = hold;
    first.how.self = &g;
    second = (job){ .engine = e, .how = request(words, 32, 2, 1) };
    second.how.cancel = &cancel;
    second.how.self = &second.answer;
    pthread_t a, b;
    CHECK(pthread_create(&a, NULL, run_job, &first) == 0, "thread");
    while (!atomic_load(&g.entered)) {
        sched_yield();
    }
    CHECK(pthread_create(&b, NULL, run_job, &second) == 0, "thread");
    atomic_store(&cancel, true);
    pthread_join(b, NULL); /* while the first still holds the engine */
    CHECK(!second.err && second.answer.result.finish == RV_FINISH_CANCELLED && second.answer.n_tokens == 0,
          "cancelled");
    atomic_store(&g.open, true);
    pthread_join(a, NULL);
    CHECK(!first.err && first.answer.result.finish == RV_FINISH_LENGTH, "the first was not disturbed");
    rv_engine_close(e);
}

TEST(requests_of_many_threads_do_not_disturb_each_other)
{
    rv_pool *pool = NULL;
    CHECK_OK(rv_pool_new(&rv_heap, 2, &pool));
    rv_engine *e = open_engine(pool, 0);
    static job jobs[6];
    static answer alone[RV_COUNT(jobs)];
    pthread_t threads[RV_COUNT(jobs)];
    for (size_t i = 0; i < RV_COUNT(jobs); i++) {
        jobs[i] = (job){ .engine = e, .how = request(words, 5 * i + 1, 20, i) };
        alone[i] = ask(e, jobs[i].how);
        jobs[i].how.self = &jobs[i].answer;
    }
    for (size_t i = 0; i < RV_COUNT(jobs); i++) {
        CHECK(pthread_create(&threads[i], NULL, run_job, &jobs[i]) == 0, "thread");
    }
    for (size_t i = 0; i < RV_COUNT(jobs); i++) {
        pthread_join(threads[i], NULL);
        CHECK(jobs[i].err == RV_OK, "request %zu", i);
        check_same(&jobs[i].answer, &alone[i], "among others");
    }
    CHECK_OK(rv_engine_check(e));
    rv_engine_close(e);
    rv_pool_free(pool);
}

TEST(the_bench_measures_something)
{
    rv_engine *e = open_engine(NULL, 0);
    double prefill = 0, decode = 0;
    CHECK_OK(rv_engine_bench(e, 30, 200, 20, &prefill, &decode));
    CHECK(prefill > 0 && decode > 0, "%g ms, %g ms", prefill, decode);
    answer a = ask(e, request(words, 32, 5, 1));
    CHECK(a.result.cached_tokens == 0 && a.n_tokens == 5, "random tokens were taken for a prompt");
    const rv_engine_info *info = rv_engine_get_info(e);
    CHECK(info->shape.hidden == 64 && info->n_ctx <= 8192 && info->fingerprint && info->resident_bytes &&
              info->name.n,
          "what is known about the model");
    rv_engine_close(e);
}

/* An adapter changes what is said, and leaves nothing behind for requests without one, whose prompts begin alike. */
TEST(an_adapter_is_for_its_request_alone)
{
    rv_lfm2_file *file = NULL;
    rv_lora *made = NULL, *lora = NULL;
    rv_rng rng;
    rv_rng_init(&rng, 5);
    CHECK_OK(rv_lfm2_file_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), false, &file));
    CHECK_OK(rv_lora_new(&rv_heap, file, (1 << RV_LFM2_PARTS) - 1, 4, 8, 1, &made));
    for (size_t i = 0; i < made->n_weights; i++) {
        made->weights[i] = 0.2f * rv_rng_normal(&rng);
    }
    const char *path = temp_path("lora.gguf");
    CHECK_OK(rv_lora_write(made, path, "noise"));
    rv_lora_close(made);
    rv_lfm2_file_close(file);

    rv_engine *e = open_engine(NULL, 0);
    CHECK_OK(rv_engine_open_lora(e, &rv_heap, path, &lora));
    rv_generate plain = request(words, 32, 20, 3), adapted = plain;
    adapted.lora = lora;
    answer first = ask(e, plain), other = ask(e, adapted), second = ask(e, plain), again = ask(e, adapted);
    CHECK(memcmp(first.tokens, other.tokens, 20 * sizeof *first.tokens) != 0, "the adapter changes nothing");
    CHECK(other.result.cached_tokens == 0, "%zu tokens taken over from another adapter",
          other.result.cached_tokens);
    CHECK(second.result.cached_tokens > 0 && again.result.cached_tokens > 0, "nothing taken over");
    check_same(&first, &second, "without adapter");
    check_same(&other, &again, "with adapter");
    CHECK_OK(rv_engine_check(e));
    rv_lora_close(lora);
    rv_engine_close(e);
}
