/* Who takes over which beginning, and what it costs those it came from. */
#include "engine/batch_priv.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "test.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

enum { CONTEXT = 1024, VOCAB = 1024, SEATS = 3 };

/* A batch without an engine around it. */
typedef struct bench {
    rv_lfm2_file *file;
    rv_lfm2 *model;
    rv_budget *budget;
    rv_kv *kv;
    rv_turn *turn;
    rv_batch *batch;
} bench;

static bench open_bench(rv_type type, size_t pages)
{
    bench b = { 0 };
    CHECK_OK(rv_lfm2_file_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), false, &b.file));
    rv_lfm2_options how = { .max_segments = SEATS, .max_rows = SEATS + RV_DRAFTS_STEP };
    CHECK_OK(rv_lfm2_open(&rv_heap, b.file, how, &b.model));
    rv_kv_shape shape = rv_lfm2_kv_shape(b.file, type);
    size_t states = (2 * SEATS + 1) * rv_kv_state_bytes(&shape); /* two sequences for each seat, and a mark */
    CHECK_OK(rv_budget_new(&rv_heap, states + pages * rv_kv_page_bytes(&shape), &b.budget));
    CHECK_OK(rv_kv_new(&rv_heap, &shape, b.budget, &b.kv));
    CHECK_OK(rv_turn_new(&rv_heap, &b.turn));
    rv_batch_options options = { .turn = b.turn,
                                 .n_ctx = CONTEXT,
                                 .max_sequences = SEATS,
                                 .n_vocab = VOCAB,
                                 .state_bytes = rv_kv_state_bytes(&shape),
                                 .budget = b.budget };
    CHECK_OK(rv_batch_new(&rv_heap, b.model, b.kv, options, &b.batch));
    return b;
}

static void close_bench(bench *b)
{
    CHECK_OK(rv_batch_check(b->batch));
    rv_batch_free(b->batch);
    rv_kv_free(b->kv);
    rv_budget_free(b->budget);
    rv_turn_free(b->turn);
    rv_lfm2_close(b->model);
    rv_lfm2_file_close(b->file);
}

static void random_ids(int32_t *ids, size_t n, uint64_t seed)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)rv_rng_below(&rng, VOCAB);
    }
}

/* Feeds the token at ids[until - 1] with guesses behind it, all of which go in. */
static void feed_guesses(bench *b, rv_call *c, size_t until)
{
    c->n_drafts = RV_DRAFTS_MAX;
    c->all_drafts = true;
    CHECK_OK(rv_batch_feed(b->batch, c, until));
    CHECK(c->fed == until + RV_DRAFTS_MAX, "%zu tokens fed", c->fed);
    c->n_drafts = 0;
}

/* The answer that guesses has passed the border of a window with them, and another request begins with the very same tokens. */
TEST(guesses_that_are_taken_back_are_nobody_elses_beginning)
{
    enum { BORDER = RV_KV_WINDOW, GUESSED = BORDER - 2, END = BORDER + 10 };
    bench b = open_bench(RV_Q8_0, 200);
    int32_t ids[END];
    random_ids(ids, END, 3);
    rv_call one = { .prompt = ids, .n_prompt = 200, .most_tokens = END };
    CHECK_OK(rv_batch_feed(b.batch, &one, 200));
    memcpy(one.ids, ids, sizeof ids);
    CHECK_OK(rv_batch_feed(b.batch, &one, GUESSED - 1));
    feed_guesses(&b, &one, GUESSED);
    rv_call other = { .prompt = ids, .n_prompt = BORDER + 6, .most_tokens = END };
    CHECK_OK(rv_batch_feed(b.batch, &other, BORDER + 6));
    CHECK(other.cached > 0, "nothing in common");
    rv_batch_take_back(b.batch, &one, GUESSED);
    random_ids(one.ids + GUESSED, END - GUESSED, 4);
    for (size_t n = GUESSED + 1; n <= END; n++) {
        CHECK_OK(rv_batch_feed(b.batch, &one, n));
    }
    memcpy(other.ids, ids, sizeof ids);
    CHECK_OK(rv_batch_feed(b.batch, &other, END));
    static float row[VOCAB];
    memcpy(row, rv_batch_logits(b.batch, &other, END), sizeof row);
    rv_batch_end(b.batch, &one);
    rv_batch_end(b.batch, &other);
    close_bench(&b);

    b = open_bench(RV_Q8_0, 200);
    rv_call alone = { .prompt = ids, .n_prompt = END, .most_tokens = END };
    CHECK_OK(rv_batch_feed(b.batch, &alone, END));
    CHECK(memcmp(row, rv_batch_logits(b.batch, &alone, END), sizeof row) == 0, "other numbers than alone");
    rv_batch_end(b.batch, &alone);
    close_bench(&b);
}

TEST(who_was_promised_room_has_it_when_another_request_begins_with_its_guesses)
{
    enum { PROMPT = 26, MOST = 64 };
    bench b = open_bench(RV_F16, 200);
    int32_t ids[MOST];
    random_ids(ids, MOST, 5);
    rv_call one = { .prompt = ids, .n_prompt = PROMPT, .most_tokens = MOST };
    CHECK_OK(rv_batch_feed(b.batch, &one, PROMPT));
    memcpy(one.ids, ids, sizeof ids);
    feed_guesses(&b, &one, PROMPT + 1);
    rv_call other = { .prompt = ids, .n_prompt = PROMPT + 9, .most_tokens = MOST };
    CHECK_OK(rv_batch_feed(b.batch, &other, PROMPT + 9));
    size_t left = rv_budget_room(b.budget);
    CHECK(rv_budget_claim(b.budget, RV_BUDGET_ROUTER, left), "the rest is somebody else's");
    rv_batch_take_back(b.batch, &one, PROMPT + 1);
    for (size_t n = PROMPT + 2; n <= MOST; n++) {
        CHECK_OK(rv_batch_feed(b.batch, &one, n));
    }
    rv_budget_release(b.budget, RV_BUDGET_ROUTER, left);
    rv_batch_end(b.batch, &one);
    rv_batch_end(b.batch, &other);
    close_bench(&b);
}

TEST(what_is_forgotten_while_it_runs_is_taken_over_by_nobody)
{
    bench b = open_bench(RV_F16, 200);
    int32_t ids[120];
    random_ids(ids, 120, 6);
    rv_call one = { .prompt = ids, .n_prompt = 100, .most_tokens = 120 };
    CHECK_OK(rv_batch_feed(b.batch, &one, 100));
    rv_batch_forget(b.batch);
    rv_call other = { .prompt = ids, .n_prompt = 110, .most_tokens = 120 };
    CHECK_OK(rv_batch_feed(b.batch, &other, 110));
    CHECK(other.cached == 0, "%zu tokens were taken over", other.cached);
    rv_batch_end(b.batch, &one);
    rv_batch_end(b.batch, &other);
    rv_call later = { .prompt = ids, .n_prompt = 115, .most_tokens = 120 };
    CHECK_OK(rv_batch_feed(b.batch, &later, 115));
    CHECK(later.cached == 110, "%zu tokens were taken over", later.cached);
    rv_batch_end(b.batch, &later);
    close_bench(&b);
}

typedef struct job {
    bench *bench;
    rv_call call;
    rv_err err;
} job;

static void *run_job(void *arg)
{
    job *j = arg;
    j->err = rv_batch_feed(j->bench->batch, &j->call, j->call.n_prompt);
    rv_batch_end(j->bench->batch, &j->call);
    return NULL;
}

static void start(job *j, pthread_t *thread)
{
    CHECK(pthread_create(thread, NULL, run_job, j) == 0, "thread");
    nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL); /* it is in line */
}

/* Both come before the next step; the first has been let in, and has no token yet, when there is no room for the second. */
TEST(who_waits_for_one_that_has_just_been_let_in_keeps_its_beginning)
{
    enum { SHORT = 160, LONG = 320 };
    bench b = open_bench(RV_F16, SHORT / RV_KV_PAGE_TOKENS + LONG / RV_KV_PAGE_TOKENS + 5);
    int32_t ids[LONG], others[LONG];
    random_ids(ids, LONG, 7);
    random_ids(others, LONG, 8);
    rv_call before = { .prompt = ids, .n_prompt = SHORT, .most_tokens = SHORT };
    CHECK_OK(rv_batch_feed(b.batch, &before, SHORT));
    rv_batch_end(b.batch, &before);
    job first = { &b, { .prompt = others, .n_prompt = LONG, .most_tokens = LONG }, RV_OK };
    job second = { &b, { .prompt = ids, .n_prompt = LONG, .most_tokens = LONG }, RV_OK };
    pthread_t threads[2];
    CHECK(rv_turn_begin(b.turn, NULL), "the turn");
    start(&first, &threads[0]);
    start(&second, &threads[1]);
    rv_turn_end(b.turn);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    CHECK(!first.err && !second.err, "%s, %s", rv_err_name(first.err), rv_err_name(second.err));
    CHECK(second.call.cached == SHORT, "%zu tokens were taken over", second.call.cached);
    close_bench(&b);
}

/* A request that knows what it will have said, and guesses it, or something else. */
typedef struct story {
    bool runs;
    rv_call call;
    int32_t ids[CONTEXT];
    size_t n, end;
} story;

/* Its prompt is new, or as much as another one holds just now, guesses included, and something behind it. */
static void begin_story(bench *b, story *all, story *s, rv_rng *rng)
{
    const story *other = &all[rv_rng_below(rng, SEATS)];
    size_t shared = 0;
    *s = (story){ .runs = true };
    random_ids(s->ids, CONTEXT, rv_rng_next(rng));
    if (other != s && other->runs && rv_rng_below(rng, 4)) {
        shared = other->call.fed - rv_rng_below(rng, 8 < other->call.fed ? 8 : other->call.fed);
        shared = shared < CONTEXT / 2 ? shared : CONTEXT / 2;
        memcpy(s->ids, other->call.ids, shared * sizeof *s->ids);
    }
    s->n = shared + 1 + rv_rng_below(rng, 300);
    s->end = s->n + 1 + rv_rng_below(rng, 60);
    s->call = (rv_call){ .prompt = s->ids, .n_prompt = s->n, .most_tokens = s->end };
    CHECK_OK(rv_batch_feed(b->batch, &s->call, s->n));
}

/* One token on, with guesses behind it of which the first few are right. */
static void go_on(bench *b, story *s, rv_rng *rng)
{
    rv_call *c = &s->call;
    if (s->n < c->fed) { /* what is behind the tokens that were right */
        rv_batch_take_back(b->batch, c, s->n);
    }
    size_t left = s->end - s->n - 1, most = left < RV_DRAFTS_MAX ? left : RV_DRAFTS_MAX;
    size_t right = rv_rng_below(rng, most + 1);
    random_ids(c->ids + s->n, 1 + most, rv_rng_next(rng));
    memcpy(c->ids + s->n, s->ids + s->n, (1 + right) * sizeof *c->ids);
    c->n_drafts = most;
    c->all_drafts = true;
    CHECK_OK(rv_batch_feed(b->batch, c, s->n + 1));
    size_t said = s->n + 1 + right;
    s->n = said < c->fed ? said : c->fed;
}

static void end_story(bench *b, bench *alone, story *s)
{
    static float row[VOCAB];
    rv_call cold = { .prompt = s->ids,
                     .n_prompt = s->n,
                     .most_tokens = s->n,
                     .measuring = true,
                     .logits_from = s->n - 1,
                     .logits = row };
    CHECK_OK(rv_batch_feed(alone->batch, &cold, s->n));
    rv_batch_end(alone->batch, &cold);
    CHECK(memcmp(row, rv_batch_logits(b->batch, &s->call, s->n), sizeof row) == 0,
          "%zu tokens, %zu taken over: other numbers than alone", s->n, s->call.cached);
    rv_batch_end(b->batch, &s->call);
    s->runs = false;
}

TEST(random_stories_that_begin_with_each_others_guesses_end_as_they_would_alone)
{
    static const rv_type types[] = { RV_F16, RV_Q8_0 };
    static story all[SEATS];
    for (size_t type = 0; type < RV_COUNT(types); type++) {
        bench b = open_bench(types[type], 400), alone = open_bench(types[type], 100);
        rv_rng rng;
        rv_rng_init(&rng, 20 + type);
        memset(all, 0, sizeof all);
        size_t cached = 0, ended = 0;
        for (size_t round = 0; round < 3000; round++) {
            story *s = &all[rv_rng_below(&rng, SEATS)];
            if (!s->runs) {
                begin_story(&b, all, s, &rng);
                cached += s->call.cached;
                continue;
            }
            size_t left = rv_budget_room(b.budget); /* nobody needs more than was promised */
            CHECK(rv_budget_claim(b.budget, RV_BUDGET_ROUTER, left), "the rest is somebody else's");
            if (s->n < s->end) {
                go_on(&b, s, &rng);
            } else {
                end_story(&b, &alone, s);
                ended++;
            }
            rv_budget_release(b.budget, RV_BUDGET_ROUTER, left);
            if (round % 16 == 0) {
                CHECK_OK(rv_batch_check(b.batch));
            }
        }
        CHECK(cached > 5000 && ended > 50, "%zu tokens taken over, %zu ended: too tame", cached, ended);
        for (size_t i = 0; i < SEATS; i++) {
            if (all[i].runs) {
                end_story(&b, &alone, &all[i]);
            }
        }
        close_bench(&b);
        close_bench(&alone);
    }
}
