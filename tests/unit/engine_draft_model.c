/* A smaller model that guesses changes no token and no bit of its log-probability: greedily and drawn, alone and in company,
 * with stop strings, with callers that leave, when it has no room, and while it answers others itself. */
#include "base/rng.h"
#include "engine/engine.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 192, PROMPTS = 300, CALLERS = 4, MOST = 1024 };

/* target, draft model: one model twice, which is of one mind; two demo tiers, which often are not */
static const char *const pairs[][2] = {
    { "tests/data/golden/a-q8_0.gguf", "tests/data/golden/a-q8_0.gguf" },
    { "models/demo-s.gguf", "models/demo-xs.gguf" },
};

static rv_engine *open_engine(const char *path, uint32_t context, uint32_t seats)
{
    rv_engine *e = NULL;
    rv_engine_options how = rv_engine_options_default();
    how.max_context = context;
    how.max_sequences = seats;
    how.cache_tokens = (seats + 1) * (size_t)context;
    CHECK_OK(rv_engine_open(&rv_heap, source_path(path), how, &e));
    return e;
}

typedef struct came {
    int32_t tokens[MOST];
    float logprobs[MOST];
    size_t n, stop_after;
    char text[1 << 14];
    size_t n_text;
} came;

static bool take(void *self, const rv_piece *p)
{
    came *c = self;
    memcpy(c->text + c->n_text, p->text, p->n);
    c->n_text += p->n;
    if (p->token >= 0) {
        c->tokens[c->n] = p->token;
        c->logprobs[c->n++] = p->logprob;
    }
    return c->n != c->stop_after;
}

typedef struct question {
    int32_t prompt[CONTEXT];
    size_t n, max_tokens, stop_after;
    rv_sampling sampling;
    const char *stops[2];
    size_t n_stops;
} question;

static rv_err ask(rv_engine *e, rv_engine *draft_model, const question *q, rv_drafts drafts, came *c,
                  rv_generated *done)
{
    c->n = c->n_text = 0;
    c->stop_after = q->stop_after;
    rv_generate how = { .prompt = q->prompt,
                        .n_prompt = q->n,
                        .max_tokens = q->max_tokens,
                        .n_logprobs = 0,
                        .sampling = q->sampling,
                        .stops = q->stops,
                        .n_stops = q->n_stops,
                        .drafts = drafts,
                        .draft_model = draft_model,
                        .ignore_end = true,
                        .on_piece = take,
                        .self = c };
    return rv_engine_generate(e, &how, done);
}

static question make_question(uint64_t seed, size_t n_vocab)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    question q = { .n = 2 + rv_rng_below(&rng, 60), .max_tokens = 1 + rv_rng_below(&rng, 80) };
    for (size_t i = 0; i < q.n; i++) {
        q.prompt[i] = (int32_t)rv_rng_below(&rng, n_vocab);
    }
    q.sampling = rv_sampling_default();
    q.sampling.seed = seed;
    q.sampling.temperature = seed % 3 ? 0.3f * (float)(1 + rv_rng_below(&rng, 4)) : 0;
    q.sampling.repeat_penalty = rv_rng_below(&rng, 2) ? 1 : 1.1f;
    q.sampling.presence_penalty = rv_rng_below(&rng, 4) ? 0 : 0.3f;
    q.sampling.top_p = rv_rng_below(&rng, 3) ? 1 : 0.9f;
    q.sampling.top_k = rv_rng_below(&rng, 4) ? 0 : 20;
    q.stop_after = rv_rng_below(&rng, 5) ? 0 : 1 + rv_rng_below(&rng, 30);
    q.stops[0] = "e";
    q.stops[1] = "in";
    q.n_stops = rv_rng_below(&rng, 4) ? 0 : 2;
    return q;
}

static bool same(const came *a, const came *b)
{
    return a->n == b->n && a->n_text == b->n_text &&
           memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens) == 0 &&
           memcmp(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs) == 0 &&
           memcmp(a->text, b->text, a->n_text) == 0;
}

TEST(six_hundred_prompts_are_answered_alike_with_a_draft_model_and_without)
{
    static came plain, drafted;
    size_t guessed = 0, accepted = 0, tokens = 0, steps = 0, stopped = 0, left = 0;
    for (size_t m = 0; m < RV_COUNT(pairs); m++) {
        rv_engine *e = open_engine(pairs[m][0], CONTEXT, 2), *d = open_engine(pairs[m][1], CONTEXT, 2);
        for (uint64_t seed = 0; seed < PROMPTS; seed++) {
            question q = make_question(1000 * m + seed, rv_engine_get_info(e)->shape.n_vocab);
            rv_generated a, b;
            CHECK_OK(ask(e, NULL, &q, RV_DRAFTS_OFF, &plain, &a));
            CHECK_OK(ask(e, d, &q, seed % 4 ? RV_DRAFTS_ALL : RV_DRAFTS_AUTO, &drafted, &b));
            CHECK(same(&plain, &drafted) && a.finish == b.finish && a.stop == b.stop,
                  "%s, seed %d: %zu tokens, without %zu", pairs[m][0], (int)seed, drafted.n, plain.n);
            CHECK(b.model_accepted <= b.accepted && b.model_drafted <= b.drafted &&
                      b.model_accepted <= b.model_drafted,
                  "seed %d: %zu of %zu, %zu of %zu", (int)seed, b.accepted, b.drafted, b.model_accepted,
                  b.model_drafted);
            CHECK(m || b.model_drafted - b.model_accepted <= 7,
                  "seed %d: of one mind, and %zu of %zu are wrong", (int)seed,
                  b.model_drafted - b.model_accepted, b.model_drafted);
            guessed += b.model_drafted;
            accepted += b.model_accepted;
            tokens += b.completion_tokens;
            steps += b.steps;
            stopped += b.stop != NULL;
            left += b.finish == RV_FINISH_CANCELLED;
        }
        CHECK_OK(rv_engine_check(e));
        CHECK_OK(rv_engine_check(d));
        rv_engine_close(e);
        rv_engine_close(d);
    }
    CHECK(accepted > tokens / 10 && guessed - accepted > tokens / 10 && steps < tokens && stopped && left,
          "%zu of %zu guesses right, %zu tokens in %zu steps, %zu stopped, %zu left: too tame", accepted,
          guessed, tokens, steps, stopped, left);
}

/* Long answers go all ways in turns, so that the model is asked and left again. */
TEST(who_is_asked_only_where_it_pays_is_asked_and_changes_nothing)
{
    static came plain, drafted;
    rv_engine *e = open_engine("models/demo-s.gguf", MOST, 1),
              *d = open_engine("models/demo-xs.gguf", MOST, 1);
    size_t guessed = 0;
    for (uint64_t seed = 0; seed < 4; seed++) {
        question q = make_question(77 + seed, rv_engine_get_info(e)->shape.n_vocab);
        q.max_tokens = MOST - q.n;
        q.n_stops = q.stop_after = 0;
        rv_generated a, b;
        CHECK_OK(ask(e, NULL, &q, RV_DRAFTS_OFF, &plain, &a));
        CHECK_OK(ask(e, d, &q, RV_DRAFTS_AUTO, &drafted, &b));
        CHECK(same(&plain, &drafted), "seed %d: %zu tokens, without %zu", (int)seed, drafted.n, plain.n);
        guessed += b.model_drafted;
        CHECK(a.model_drafted == 0, "%zu without a model", a.model_drafted);
    }
    CHECK(guessed > 0, "nobody was asked in 4,000 tokens");
    CHECK_OK(rv_engine_check(e));
    CHECK_OK(rv_engine_check(d));
    rv_engine_close(e);
    rv_engine_close(d);
}

typedef struct caller {
    rv_engine *engine, *draft_model;
    uint64_t seed;
    came plain[8], came;
    size_t guessed;
    bool wrong;
} caller;

static void *call(void *arg)
{
    caller *c = arg;
    for (uint64_t i = 0; i < RV_COUNT(c->plain); i++) {
        question q = make_question(c->seed + i, 1024);
        rv_generated done;
        rv_err e =
            ask(c->engine, c->draft_model, &q, i % 3 ? RV_DRAFTS_ALL : RV_DRAFTS_AUTO, &c->came, &done);
        c->wrong |= e || !same(&c->plain[i], &c->came);
        c->guessed += e ? 0 : done.model_drafted;
    }
    return NULL;
}

/* Two more callers ask the draft model itself; it has fewer seats than there are callers, and shares pool and turn. */
TEST(answers_in_company_and_answers_of_the_draft_model_itself_stay_what_they_are)
{
    rv_pool *pool = NULL;
    rv_turn *turn = NULL;
    CHECK_OK(rv_pool_new(&rv_heap, 2, &pool));
    CHECK_OK(rv_turn_new(&rv_heap, &turn));
    rv_engine *engines[2];
    for (size_t i = 0; i < 2; i++) {
        rv_engine_options how = rv_engine_options_default();
        how.pool = pool;
        how.turn = turn;
        how.max_context = CONTEXT;
        how.max_sequences = i ? 3 : CALLERS;
        CHECK_OK(rv_engine_open(&rv_heap, source_path(pairs[0][i]), how, &engines[i]));
    }
    caller *callers = calloc(CALLERS + 2, sizeof *callers);
    CHECK(callers, "memory");
    pthread_t threads[CALLERS + 2];
    size_t guessed = 0;
    for (size_t i = 0; i < CALLERS + 2; i++) {
        callers[i].engine = engines[i >= CALLERS];
        callers[i].draft_model = i < CALLERS ? engines[1] : NULL;
        callers[i].seed = 5000 + 100 * i;
        for (uint64_t k = 0; k < RV_COUNT(callers[i].plain); k++) {
            rv_generated done;
            question q = make_question(callers[i].seed + k, 1024);
            CHECK_OK(ask(callers[i].engine, NULL, &q, RV_DRAFTS_OFF, &callers[i].plain[k], &done));
        }
    }
    for (size_t i = 0; i < CALLERS + 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, call, &callers[i]) == 0, "thread");
    }
    for (size_t i = 0; i < CALLERS + 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK(!callers[i].wrong, "caller %zu", i);
        guessed += callers[i].guessed;
    }
    CHECK(guessed > 100, "%zu guesses: too tame", guessed);
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(rv_engine_check(engines[i]));
        rv_engine_close(engines[i]);
    }
    rv_turn_free(turn);
    rv_pool_free(pool);
    free(callers);
}

TEST(one_with_a_shorter_context_guesses_as_long_as_it_can)
{
    static came plain, drafted;
    rv_engine *e = open_engine(pairs[0][0], CONTEXT, 1), *d = open_engine(pairs[0][1], 48, 1);
    question q = make_question(5, 1024);
    q.n = 20;
    q.max_tokens = CONTEXT - q.n;
    q.n_stops = q.stop_after = 0;
    rv_generated a, b;
    CHECK_OK(ask(e, NULL, &q, RV_DRAFTS_OFF, &plain, &a));
    CHECK_OK(ask(e, d, &q, RV_DRAFTS_ALL, &drafted, &b));
    CHECK(same(&plain, &drafted), "%zu tokens, without %zu", drafted.n, plain.n);
    CHECK(b.model_drafted > 0 && b.model_drafted < 7 * 28, "%zu guessed", b.model_drafted);
    q.n = 100;
    CHECK_OK(ask(e, NULL, &q, RV_DRAFTS_OFF, &plain, &a));
    CHECK_OK(ask(e, d, &q, RV_DRAFTS_ALL, &drafted, &b));
    CHECK(same(&plain, &drafted) && b.model_drafted == 0, "%zu guessed behind 100 tokens", b.model_drafted);
    CHECK_OK(rv_engine_check(d));
    rv_engine_close(e);
    rv_engine_close(d);
}

typedef struct beside {
    rv_engine *e, *d;
    rv_generated done;
    came came;
} beside;

/* While somebody has the only seat of the draft model, an answer of the other one comes from its own reader. */
static bool ask_beside(void *self, const rv_piece *p)
{
    beside *b = self;
    if (p->token >= 0 && !b->came.n) {
        question q = make_question(9, 1024);
        q.n_stops = q.stop_after = 0;
        CHECK_OK(ask(b->e, b->d, &q, RV_DRAFTS_ALL, &b->came, &b->done));
    }
    return true;
}

TEST(one_without_a_free_seat_is_not_waited_for)
{
    static came plain;
    static beside b;
    b.e = open_engine(pairs[0][0], CONTEXT, 1);
    b.d = open_engine(pairs[0][1], CONTEXT, 1);
    question q = make_question(9, 1024);
    q.n_stops = q.stop_after = 0;
    rv_generated done;
    CHECK_OK(ask(b.e, NULL, &q, RV_DRAFTS_OFF, &plain, &done));
    rv_generate how = { .prompt = q.prompt,
                        .n_prompt = 4,
                        .max_tokens = 3,
                        .n_logprobs = -1,
                        .sampling = rv_sampling_default(),
                        .ignore_end = true,
                        .on_piece = ask_beside,
                        .self = &b };
    CHECK_OK(rv_engine_generate(b.d, &how, &done));
    CHECK(same(&plain, &b.came) && b.done.model_drafted == 0, "%zu tokens, %zu guessed", b.came.n,
          b.done.model_drafted);
    CHECK_OK(rv_engine_check(b.d));
    CHECK_OK(rv_engine_check(b.e));
    rv_engine_close(b.e);
    rv_engine_close(b.d);
}

TEST(a_draft_model_with_another_vocabulary_is_refused)
{
    static came c;
    rv_engine *e = open_engine("models/demo-xs.gguf", CONTEXT, 1), *d = open_engine(pairs[0][1], CONTEXT, 1);
    question q = make_question(1, 1024);
    rv_generated done;
    CHECK_ERR(ask(e, d, &q, RV_DRAFTS_AUTO, &c, &done), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "a-q8_0.gguf cannot guess for") && strstr(rv_err_text(), "vocabulary"), "%s",
          rv_err_text());
    rv_engine_close(e);
    rv_engine_close(d);
}
