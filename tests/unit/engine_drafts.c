/* Drafts on and off say the same, token by token and bit by bit of their log-probabilities, greedily and drawn, alone and
 * beside others; and what is kept for the next request is what was said. */
#include "base/rng.h"
#include "engine/draft_priv.h"
#include "engine/engine.h"
#include "test.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 192, PROMPTS = 500, CALLERS = 4 };

static rv_engine *open_engine(const char *path, uint32_t context)
{
    rv_engine *e = NULL;
    rv_engine_options how = rv_engine_options_default();
    how.max_context = context;
    how.max_sequences = CALLERS;
    how.cache_tokens = (CALLERS + 1) * (size_t)context;
    CHECK_OK(rv_engine_open(&rv_heap, source_path(path), how, &e));
    return e;
}

typedef struct came {
    int32_t tokens[CONTEXT];
    float logprobs[CONTEXT];
    size_t n, stop_after;
    char text[8192];
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
    bool ignore_end;
} question;

static rv_err ask(rv_engine *e, const question *q, rv_drafts drafts, came *c, rv_generated *done)
{
    c->n = c->n_text = 0;
    c->stop_after = q->stop_after;
    rv_generate how = { .prompt = q->prompt,
                        .n_prompt = q->n,
                        .max_tokens = q->max_tokens,
                        .n_logprobs = 0,
                        .sampling = q->sampling,
                        .drafts = drafts,
                        .ignore_end = q->ignore_end,
                        .on_piece = take,
                        .self = c };
    return rv_engine_generate(e, &how, done);
}

/* Prompts that repeat themselves, with a bias that makes the answer repeat itself too, so that guesses are often right,
 * and often right only for a while. */
static question make_question(uint64_t seed, size_t n_vocab, rv_bias *bias)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    question q = { .n = 2 + rv_rng_below(&rng, 60), .max_tokens = 1 + rv_rng_below(&rng, 100) };
    size_t period = 1 + rv_rng_below(&rng, 12), words = 2 + rv_rng_below(&rng, 6);
    int32_t word[8];
    for (size_t i = 0; i < words; i++) {
        word[i] = (int32_t)rv_rng_below(&rng, n_vocab);
        bias[i] = (rv_bias){ word[i], (float)(2 + rv_rng_below(&rng, 6)) };
    }
    for (size_t i = 0; i < q.n; i++) {
        bool again = i >= period && rv_rng_below(&rng, 10);
        q.prompt[i] = again ? q.prompt[i - period] : word[rv_rng_below(&rng, words)];
    }
    q.sampling = rv_sampling_default();
    q.sampling.seed = seed;
    q.sampling.temperature = seed % 3 ? 0.2f * (float)(1 + rv_rng_below(&rng, 6)) : 0;
    q.sampling.repeat_penalty = rv_rng_below(&rng, 2) ? 1 : 1.1f;
    q.sampling.presence_penalty = rv_rng_below(&rng, 4) ? 0 : 0.3f;
    q.sampling.bias = bias;
    q.sampling.n_bias = words;
    q.stop_after = rv_rng_below(&rng, 5) ? 0 : 1 + rv_rng_below(&rng, 30);
    q.ignore_end = true;
    return q;
}

static bool same(const came *a, const came *b)
{
    return a->n == b->n && a->n_text == b->n_text &&
           memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens) == 0 &&
           memcmp(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs) == 0 &&
           memcmp(a->text, b->text, a->n_text) == 0;
}

TEST(five_hundred_prompts_are_answered_alike_with_and_without)
{
    static const char *const models[] = { "tests/data/golden/a-q8_0.gguf", "models/demo-xs.gguf" };
    static came plain, drafted;
    for (size_t m = 0; m < RV_COUNT(models); m++) {
        rv_engine *e = open_engine(models[m], CONTEXT);
        size_t n_drafted = 0, accepted = 0, tokens = 0, steps = 0;
        for (uint64_t seed = 0; seed < PROMPTS / 2; seed++) {
            rv_bias bias[8];
            question q = make_question(1000 * m + seed, rv_engine_get_info(e)->shape.n_vocab, bias);
            rv_generated a, b;
            CHECK_OK(ask(e, &q, RV_DRAFTS_OFF, &plain, &a));
            CHECK(a.drafted == 0 && a.accepted == 0, "seed %d: %zu drafted", (int)seed, a.drafted);
            CHECK_OK(ask(e, &q, seed % 4 ? RV_DRAFTS_ALL : RV_DRAFTS_AUTO, &drafted, &b));
            CHECK(same(&plain, &drafted) && a.finish == b.finish, "%s, seed %d: %zu tokens, without %zu",
                  models[m], (int)seed, drafted.n, plain.n);
            CHECK(b.accepted <= b.drafted && b.completion_tokens <= 1 + b.steps + b.accepted,
                  "seed %d: %zu tokens, %zu steps, %zu accepted", (int)seed, b.completion_tokens, b.steps,
                  b.accepted);
            n_drafted += b.drafted;
            accepted += b.accepted;
            tokens += b.completion_tokens;
            steps += b.steps;
        }
        CHECK(accepted > tokens / 10 && n_drafted - accepted > tokens / 10 && steps < tokens,
              "%zu of %zu drafts accepted, %zu tokens in %zu steps: too tame", accepted, n_drafted, tokens,
              steps);
        CHECK_OK(rv_engine_check(e));
        rv_engine_close(e);
    }
}

typedef struct caller {
    rv_engine *engine;
    uint64_t seed;
    came plain[12], came;
    size_t accepted;
    bool wrong;
} caller;

static void *call(void *arg)
{
    caller *c = arg;
    for (uint64_t i = 0; i < RV_COUNT(c->plain); i++) {
        rv_bias bias[8];
        question q = make_question(c->seed + i, 1024, bias);
        rv_generated done;
        rv_err e = ask(c->engine, &q, i % 3 ? RV_DRAFTS_ALL : RV_DRAFTS_AUTO, &c->came, &done);
        c->wrong |= e || !same(&c->plain[i], &c->came);
        c->accepted += e ? 0 : done.accepted;
    }
    return NULL;
}

TEST(drafts_of_several_answers_share_a_step)
{
    caller *callers = calloc(CALLERS, sizeof *callers);
    CHECK(callers, "memory");
    rv_engine *e = open_engine("tests/data/golden/a-q8_0.gguf", CONTEXT);
    pthread_t threads[CALLERS];
    size_t accepted = 0;
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i].engine = e;
        callers[i].seed = 5000 + 100 * i;
        for (uint64_t k = 0; k < RV_COUNT(callers[i].plain); k++) {
            rv_bias bias[8];
            rv_generated done;
            question q = make_question(callers[i].seed + k, 1024, bias);
            CHECK_OK(ask(e, &q, RV_DRAFTS_OFF, &callers[i].plain[k], &done));
        }
    }
    for (size_t i = 0; i < CALLERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, call, &callers[i]) == 0, "thread");
    }
    for (size_t i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(!callers[i].wrong, "caller %zu", i);
        accepted += callers[i].accepted;
    }
    CHECK(accepted > 100, "%zu accepted: too tame", accepted);
    CHECK_OK(rv_engine_check(e));
    rv_engine_close(e);
    free(callers);
}

/* The model repeats one token for ever, so every draft is right until the limit; then the conversation goes on. */
TEST(what_is_kept_after_drafts_is_what_was_said)
{
    rv_engine *e = open_engine("tests/data/golden/a-q8_0.gguf", CONTEXT);
    static came c;
    rv_bias bias = { 7, 1e5f };
    question q = { .prompt = { 5, 6, 7, 7, 7 }, .n = 5, .max_tokens = 40, .ignore_end = true };
    q.sampling = (rv_sampling){ .top_p = 1, .repeat_penalty = 1, .bias = &bias, .n_bias = 1 };
    q.stop_after = 21;
    rv_generated done;
    CHECK_OK(ask(e, &q, RV_DRAFTS_ALL, &c, &done));
    CHECK(done.finish == RV_FINISH_CANCELLED && c.n == 21, "%zu tokens", c.n);
    CHECK(done.accepted >= 15 && done.steps <= 4, "%zu accepted, %zu steps", done.accepted, done.steps);
    memcpy(q.prompt + 5, c.tokens, 21 * sizeof *c.tokens);
    q.prompt[26] = 9;
    q.n = 27;
    q.stop_after = 0;
    CHECK_OK(ask(e, &q, RV_DRAFTS_ALL, &c, &done));
    CHECK(done.cached_tokens == 25, "%zu cached: the last token said was not fed", done.cached_tokens);
    CHECK(c.n == 40 && done.completion_tokens == 40, "%zu tokens", c.n);
    CHECK_OK(rv_engine_check(e));
    rv_engine_close(e);
}

/* Both demo models, asked about passages: the drafts save steps, and no word differs. */
TEST(grounded_answers_take_fewer_steps_and_read_the_same)
{
    static const char *const models[] = { "models/demo-xs.gguf", "models/demo-s.gguf" };
    static char line[1 << 16];
    static came plain, drafted;
    for (size_t m = 0; m < RV_COUNT(models); m++) {
        rv_engine *e = open_engine(models[m], 1024);
        FILE *f = fopen(source_path("tests/data/qa/test.jsonl"), "r");
        CHECK(f, "the questions");
        size_t steps[2] = { 0, 0 };
        for (int i = 0; i < 40 && fgets(line, sizeof line, f); i++) {
            json_t *row = json_loads(line, 0, NULL);
            CHECK(row, "line %d", i);
            rv_ids ids;
            rv_text text;
            rv_ids_init(&ids, &rv_heap, 1 << 16);
            rv_text_init(&text, &rv_heap, 1 << 20);
            CHECK_OK(rv_chat_render(rv_engine_tok(e), rv_engine_get_info(e)->family,
                                    json_object_get(row, "messages"), NULL,
                                    (rv_chat_options){ .add_generation_prompt = true }, &text, &ids));
            rv_generate how = { .prompt = ids.at, .n_prompt = ids.n, .max_tokens = 64, .on_piece = take };
            how.sampling = (rv_sampling){ .top_p = 1, .repeat_penalty = 1 };
            rv_generated done;
            memset(&plain, 0, sizeof plain);
            memset(&drafted, 0, sizeof drafted);
            how.drafts = RV_DRAFTS_OFF;
            how.self = &plain;
            CHECK_OK(rv_engine_generate(e, &how, &done));
            steps[0] += done.steps;
            how.drafts = RV_DRAFTS_ALL;
            how.self = &drafted;
            CHECK_OK(rv_engine_generate(e, &how, &done));
            steps[1] += done.steps;
            CHECK(same(&plain, &drafted), "%s, question %d: \"%s\", without \"%s\"", models[m], i,
                  drafted.text, plain.text);
            rv_text_deinit(&text);
            rv_ids_deinit(&ids);
            json_decref(row);
        }
        CHECK(2 * steps[0] >= 3 * steps[1], "%s: %zu steps, without drafts %zu", models[m], steps[1],
              steps[0]);
        fclose(f);
        rv_engine_close(e);
    }
}

TEST(a_guess_is_what_followed_the_longest_end_last_time)
{
    static const struct {
        int32_t ids[12];
        size_t n;
        int32_t guess[4];
        size_t n_guess;
    } cases[] = {
        { { 1, 2, 3 }, 3, { 0 }, 0 },
        { { 4 }, 1, { 0 }, 0 },
        { { 1, 2, 3, 9, 2 }, 5, { 3, 9, 2, 3 }, 4 },                 /* goes on into itself */
        { { 1, 2, 3, 5, 2, 4, 8, 1, 2 }, 9, { 3, 5, 2, 4 }, 4 },     /* two tokens before one */
        { { 1, 2, 3, 8, 1, 2, 4, 8, 1, 2 }, 10, { 4, 8, 1, 2 }, 4 }, /* 8 1 2 before 1 2 */
        { { 1, 2, 3, 7, 1, 2, 4, 6, 1, 2 }, 10, { 4, 6, 1, 2 }, 4 }, /* of equals the last */
        { { 5, 5, 5 }, 3, { 5, 5, 5, 5 }, 4 },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        rv_draft d;
        int32_t out[4] = { 0 };
        rv_draft_init(&d);
        size_t n = rv_draft_guess(&d, cases[i].ids, cases[i].n, out, 4);
        CHECK(n == cases[i].n_guess && memcmp(out, cases[i].guess, n * sizeof *out) == 0,
              "case %zu: %zu tokens: %d %d %d %d", i, n, out[0], out[1], out[2], out[3]);
    }
}

/* The answer quoted a place once: of equal ends the next one behind it counts, else the last one. */
TEST(a_guess_goes_on_where_the_answer_quotes)
{
    /* passages 1 and 2 end alike; the answer cites one and goes on with a token that stands in both */
    int32_t ids[] = { 90, 1, 91, 40, 41, 42, 90, 2, 91, 40, 43, 44, 90, 1, 91, 40 }, out[3];
    rv_draft d;
    rv_draft_init(&d);
    CHECK(rv_draft_guess(&d, ids, 14, out, 1) == 1 && out[0] == 91, "%d behind 90 1", out[0]);
    CHECK(rv_draft_guess(&d, ids, 16, out, 3) == 3 && out[0] == 41 && out[1] == 42, "passage 1: %d %d",
          out[0], out[1]);
    int32_t two[] = { 90, 1, 91, 40, 41, 42, 90, 2, 91, 40, 43, 44, 92, 40, 45, 90, 1, 91, 70, 40 };
    rv_draft_init(&d);
    CHECK(rv_draft_guess(&d, two, 20, out, 1) == 1 && out[0] == 45, "nothing quoted: %d", out[0]);
    rv_draft_init(&d);
    CHECK(rv_draft_guess(&d, two, 18, out, 1) == 1 && out[0] == 40, "behind 90 1 91: %d", out[0]);
    CHECK(rv_draft_guess(&d, two, 20, out, 2) == 2 && out[0] == 41, "in passage 1: %d", out[0]);
}

TEST(guesses_that_are_wrong_are_trusted_less)
{
    static rv_habits h;
    rv_draft d;
    int32_t ids[] = { 1, 2, 3, 1, 2 }, out[2];
    double before[2], p[2], other;
    rv_habits_init(&h);
    rv_draft_init(&d);
    CHECK(rv_draft_guess(&d, ids, 5, out, 2) == 2, "no guess");
    rv_draft_chances(&d, &h, 2, out, 2, before);
    CHECK(before[0] == 0.5 && before[1] == 0.25, "%g %g", before[0], before[1]);
    for (int i = 0; i < 300; i++) {
        rv_draft_learn(&d, &h, 2, false);
    }
    rv_draft_chances(&d, &h, 2, out, 2, p);
    CHECK(p[0] < 0.02 && p[0] >= 0 && p[1] <= p[0], "%g %g", p[0], p[1]);
    for (int i = 0; i < 300; i++) { /* behind another token they are right */
        rv_draft_learn(&d, &h, 3, true);
    }
    rv_draft_chances(&d, &h, 3, out, 1, &other);
    rv_draft_chances(&d, &h, 2, out, 2, p);
    CHECK(other > 0.95 && other <= 1 && p[0] < 0.1, "behind 3 %g, behind 2 %g", other, p[0]);
    for (int i = 0; i < 300; i++) {
        rv_draft_learn(&d, &h, 2, true);
    }
    rv_draft_chances(&d, &h, 2, out, 2, p);
    CHECK(p[0] > 0.95 && p[0] <= 1, "%g", p[0]);
    rv_habits_deinit(&h);
}
