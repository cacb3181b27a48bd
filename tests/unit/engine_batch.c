/* Many requests at once on a tiny model with random weights: each has to say what it says alone, bit for bit. */
#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "test.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REQUESTS = 40, CONTEXT = 256, ANSWER = 48, CALLERS = 7 };

static rv_engine *open_engine(rv_pool *pool, uint32_t context, uint32_t sequences, size_t cache_tokens)
{
    rv_engine *e = NULL;
    rv_engine_options how = rv_engine_options_default();
    how.pool = pool;
    how.max_context = context;
    how.max_sequences = sequences;
    how.cache_tokens = cache_tokens;
    CHECK_OK(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), how, &e));
    return e;
}

/* What was asked, and what came. */
typedef struct request {
    int32_t prompt[CONTEXT];
    size_t n, max_tokens;
    rv_sampling sampling;
    int32_t tokens[CONTEXT];
    float logprobs[CONTEXT];
    size_t n_tokens;
    char text[4096];
    size_t n_text;
} request;

/* A request under way: some of them stop, dawdle or are cancelled. */
typedef struct asked {
    request came;
    size_t stop_after; /* refuse the piece after so many; 0: never */
    size_t cancel_after;
    unsigned pause_us;
    atomic_bool cancel;
    rv_generated result;
    rv_err err;
} asked;

static bool take_piece(void *self, const rv_piece *p)
{
    asked *a = self;
    request *r = &a->came;
    memcpy(r->text + r->n_text, p->text, p->n);
    r->n_text += p->n;
    if (p->token >= 0) {
        r->tokens[r->n_tokens] = p->token;
        r->logprobs[r->n_tokens++] = p->logprob;
    }
    if (a->pause_us) {
        nanosleep(&(struct timespec){ .tv_nsec = a->pause_us * 1000L }, NULL);
    }
    if (r->n_tokens == a->cancel_after) {
        atomic_store(&a->cancel, true);
    }
    return r->n_tokens != a->stop_after;
}

static void ask(rv_engine *e, const request *what, asked *a)
{
    memcpy(a->came.prompt, what->prompt, sizeof what->prompt);
    a->came.n_tokens = a->came.n_text = 0;
    rv_generate how = { .prompt = what->prompt,
                        .n_prompt = what->n,
                        .max_tokens = what->max_tokens,
                        .n_logprobs = 0,
                        .sampling = what->sampling,
                        .ignore_end = true,
                        .cancel = &a->cancel,
                        .on_piece = take_piece,
                        .self = a };
    a->err = rv_engine_generate(e, &how, &a->result);
}

/* Prompts that share beginnings with others, continue them, or have nothing in common. */
static request *make_requests(void)
{
    request *all = calloc(REQUESTS, sizeof *all);
    CHECK(all, "memory");
    rv_rng rng;
    rv_rng_init(&rng, 5);
    for (size_t i = 0; i < REQUESTS; i++) {
        request *r = &all[i];
        size_t shared = 0;
        if (i && rv_rng_below(&rng, 4)) {
            const request *other = &all[rv_rng_below(&rng, i)];
            shared = 1 + rv_rng_below(&rng, other->n);
            memcpy(r->prompt, other->prompt, shared * sizeof *r->prompt);
        }
        size_t more = 1 + rv_rng_below(&rng, rv_rng_below(&rng, 3) ? 20 : 120);
        for (r->n = shared; r->n < shared + more && r->n < CONTEXT - 1; r->n++) {
            r->prompt[r->n] = (int32_t)rv_rng_below(&rng, 1024);
        }
        r->max_tokens = rv_rng_below(&rng, 8) ? 1 + rv_rng_below(&rng, ANSWER) : 0;
        r->sampling = rv_sampling_default();
        r->sampling.temperature = rv_rng_below(&rng, 4) ? 1 : 0;
        r->sampling.min_p = 0.02f;
        r->sampling.seed = i;
    }
    rv_engine *e = open_engine(NULL, CONTEXT, 1, 0);
    static asked a;
    for (size_t i = 0; i < REQUESTS; i++) {
        int32_t one = (int32_t)(i % 1024);
        rv_generated none;
        rv_generate forget = { .prompt = &one, .n_prompt = 1, .max_tokens = 1, .n_logprobs = -1 };
        forget.sampling = rv_sampling_default();
        CHECK_OK(rv_engine_generate(e, &forget, &none));
        CHECK_OK(rv_engine_generate(e, &forget, &none)); /* both sequences are in other hands now */
        ask(e, &all[i], &a);
        CHECK_OK(a.err);
        CHECK(a.result.finish == RV_FINISH_LENGTH && a.came.n_tokens > 0, "request %zu", i);
        memcpy(all[i].tokens, a.came.tokens, sizeof a.came.tokens);
        memcpy(all[i].logprobs, a.came.logprobs, sizeof a.came.logprobs);
        memcpy(all[i].text, a.came.text, sizeof a.came.text);
        all[i].n_tokens = a.came.n_tokens;
        all[i].n_text = a.came.n_text;
    }
    rv_engine_close(e);
    return all;
}

typedef struct caller {
    rv_engine *engine;
    const request *requests;
    uint64_t seed;
    asked asked;
    char wrong[200];
    size_t cached, cancelled;
} caller;

static void *call_some(void *arg)
{
    caller *c = arg;
    rv_rng rng;
    rv_rng_init(&rng, c->seed);
    for (size_t i = 0, n = 1 + rv_rng_below(&rng, 4); i < n && !c->wrong[0]; i++) {
        const request *r = &c->requests[rv_rng_below(&rng, REQUESTS)];
        asked *a = &c->asked;
        uint64_t mood = rv_rng_below(&rng, 8);
        a->stop_after = mood == 0 ? 1 + rv_rng_below(&rng, 20) : 0;
        a->cancel_after = mood == 1 ? 1 + rv_rng_below(&rng, 20) : CONTEXT;
        a->pause_us = mood == 2 ? 300 : 0;
        atomic_store(&a->cancel, mood == 3 && rv_rng_below(&rng, 2));
        ask(c->engine, r, a);
        bool cut = a->result.finish == RV_FINISH_CANCELLED;
        const request *came = &a->came;
        if (a->err || (!cut && came->n_tokens != r->n_tokens) || came->n_tokens > r->n_tokens ||
            came->n_text > r->n_text || (!cut && came->n_text != r->n_text) ||
            memcmp(came->tokens, r->tokens, came->n_tokens * sizeof *r->tokens) != 0 ||
            memcmp(came->logprobs, r->logprobs, came->n_tokens * sizeof *r->logprobs) != 0 ||
            memcmp(came->text, r->text, came->n_text) != 0) {
            snprintf(c->wrong, sizeof c->wrong, "request %zu: error %s, finish %d, %zu tokens, alone %zu",
                     (size_t)(r - c->requests), rv_err_name(a->err), (int)a->result.finish, came->n_tokens,
                     r->n_tokens);
        }
        c->cached += a->err ? 0 : a->result.cached_tokens;
        c->cancelled += cut;
    }
    return NULL;
}

TEST(two_hundred_random_schedules_say_what_each_request_says_alone)
{
    request *all = make_requests();
    rv_pool *pool = NULL;
    CHECK_OK(rv_pool_new(&rv_heap, 2, &pool));
    caller *callers = calloc(CALLERS, sizeof *callers);
    CHECK(callers, "memory");
    size_t cached = 0, cancelled = 0;
    for (uint64_t schedule = 0; schedule < 200; schedule++) {
        rv_rng rng;
        rv_rng_init(&rng, 1000 + schedule);
        uint32_t seats = 1 + (uint32_t)rv_rng_below(&rng, 6);
        size_t cache = CONTEXT + rv_rng_below(&rng, 2) * rv_rng_below(&rng, 5 * CONTEXT);
        rv_engine *e = open_engine(rv_rng_below(&rng, 4) ? NULL : pool, CONTEXT, seats, cache);
        pthread_t threads[CALLERS];
        size_t n = 2 + rv_rng_below(&rng, CALLERS - 1);
        for (size_t i = 0; i < n; i++) {
            callers[i] = (caller){ .engine = e, .requests = all, .seed = 100 * schedule + i };
            CHECK(pthread_create(&threads[i], NULL, call_some, &callers[i]) == 0, "thread");
        }
        CHECK_OK(rv_engine_check(e));
        for (size_t i = 0; i < n; i++) {
            pthread_join(threads[i], NULL);
            CHECK(!callers[i].wrong[0], "schedule %d, %u seats, a cache of %zu tokens: %s", (int)schedule,
                  seats, cache, callers[i].wrong);
            cached += callers[i].cached;
            cancelled += callers[i].cancelled;
        }
        CHECK_OK(rv_engine_check(e));
        rv_engine_close(e);
    }
    CHECK(cached > 1000 && cancelled > 50, "%zu tokens from the cache, %zu cancelled: too tame", cached,
          cancelled);
    free(callers);
    free(all);
    rv_pool_free(pool);
}

static request simple(size_t n, size_t max_tokens, int32_t first)
{
    request r = { .n = n, .max_tokens = max_tokens, .sampling = rv_sampling_default() };
    for (size_t i = 0; i < n; i++) {
        r.prompt[i] = (first + (int32_t)i * 7) % 1024;
    }
    return r;
}

TEST(several_conversations_are_kept_beside_a_common_beginning)
{
    rv_engine *e = open_engine(NULL, CONTEXT, 2, 4 * CONTEXT);
    static asked a;
    request talks[3];
    for (size_t i = 0; i < 3; i++) {
        talks[i] = simple(100, 20, 3); /* 40 tokens in common */
        for (size_t t = 40; t < 100; t++) {
            talks[i].prompt[t] = (int32_t)(100 * i + t);
        }
        ask(e, &talks[i], &a);
        CHECK_OK(a.err);
        CHECK(a.result.cached_tokens == (i == 2 ? 40u : 0u), "talk %zu: %zu cached", i,
              a.result.cached_tokens);
        memcpy(talks[i].prompt + 100, a.came.tokens, 20 * sizeof *a.came.tokens);
        talks[i].n = 122;
        talks[i].max_tokens = 5;
    }
    for (size_t i = 0; i < 3; i++) {
        ask(e, &talks[i], &a);
        CHECK_OK(a.err);
        CHECK(a.result.cached_tokens == 119, "talk %zu goes on: %zu cached", i, a.result.cached_tokens);
    }
    CHECK_OK(rv_engine_check(e));
    rv_engine_close(e);
}

typedef struct job {
    rv_engine *engine;
    request what;
    asked asked;
    double from, to;
} job;

static void *run_job(void *arg)
{
    job *j = arg;
    j->from = rv_clock_ms();
    ask(j->engine, &j->what, &j->asked);
    j->to = rv_clock_ms();
    return NULL;
}

TEST(who_finds_no_pages_waits_and_does_not_fail)
{
    rv_engine *e = open_engine(NULL, CONTEXT, 4, CONTEXT);
    static job jobs[5];
    pthread_t threads[RV_COUNT(jobs)];
    for (size_t i = 0; i < RV_COUNT(jobs); i++) {
        jobs[i] = (job){ .engine = e, .what = simple(60 + i, i % 2 ? 0 : 10, (int32_t)i * 50) };
        CHECK(pthread_create(&threads[i], NULL, run_job, &jobs[i]) == 0, "thread");
    }
    for (size_t i = 0; i < RV_COUNT(jobs); i++) {
        pthread_join(threads[i], NULL);
        CHECK(!jobs[i].asked.err && jobs[i].asked.result.finish == RV_FINISH_LENGTH, "request %zu", i);
    }
    CHECK_OK(rv_engine_check(e));
    rv_engine_close(e);
}

/* A reader that does not come back until it is told to. */
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

typedef struct held {
    rv_engine *engine;
    gate gate;
    rv_generated result;
    rv_err err;
} held;

static void *run_held(void *arg)
{
    held *h = arg;
    static const int32_t prompt[] = { 1, 2, 3 };
    rv_generate how = { .prompt = prompt,
                        .n_prompt = 3,
                        .max_tokens = 5,
                        .n_logprobs = -1,
                        .sampling = rv_sampling_default(),
                        .ignore_end = true,
                        .on_piece = hold,
                        .self = &h->gate };
    h->err = rv_engine_generate(h->engine, &how, &h->result);
    return NULL;
}

TEST(a_reader_that_does_not_come_back_holds_nobody_up)
{
    rv_engine *e = open_engine(NULL, CONTEXT, 2, 0);
    held h = { .engine = e };
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run_held, &h) == 0, "thread");
    while (!atomic_load(&h.gate.entered)) {
        sched_yield();
    }
    static asked a;
    request r = simple(50, 30, 9);
    ask(e, &r, &a);
    CHECK(!a.err && a.result.finish == RV_FINISH_LENGTH && a.came.n_tokens == 30, "%zu tokens",
          a.came.n_tokens);
    double sum = 0;
    CHECK_OK(rv_engine_nll(e, NULL, r.prompt, r.n, &sum));
    atomic_store(&h.gate.open, true);
    pthread_join(thread, NULL);
    CHECK(!h.err && h.result.completion_tokens == 5, "%zu tokens", h.result.completion_tokens);
    CHECK_OK(rv_engine_check(e));
    rv_engine_close(e);
}

/* Counts its tokens while a long prompt is taken in beside it. */
typedef struct counter {
    rv_engine *engine;
    atomic_size_t tokens;
    atomic_bool cancel;
    rv_err err;
} counter;

static bool count(void *self, const rv_piece *p)
{
    counter *c = self;
    atomic_fetch_add(&c->tokens, p->token >= 0);
    return true;
}

static void *run_counter(void *arg)
{
    counter *c = arg;
    static const int32_t prompt[] = { 4, 5, 6 };
    rv_generate how = { .prompt = prompt,
                        .n_prompt = 3,
                        .n_logprobs = -1,
                        .sampling = rv_sampling_default(),
                        .ignore_end = true,
                        .cancel = &c->cancel,
                        .on_piece = count,
                        .self = c };
    rv_generated none;
    c->err = rv_engine_generate(c->engine, &how, &none);
    return NULL;
}

static bool note_count(void *self, const rv_piece *p)
{
    (void)p;
    size_t **counts = self;
    *counts[1] = atomic_load((atomic_size_t *)(void *)counts[0]);
    return false;
}

TEST(answers_go_on_while_a_long_prompt_is_taken_in)
{
    enum { LONG = 2048 };
    rv_engine *e = open_engine(NULL, 8192, 2, 0);
    counter c = { .engine = e };
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run_counter, &c) == 0, "thread");
    while (atomic_load(&c.tokens) < 2) {
        sched_yield();
    }
    static int32_t prompt[LONG];
    for (size_t i = 0; i < LONG; i++) {
        prompt[i] = (int32_t)(i * 13 % 1024);
    }
    size_t before = atomic_load(&c.tokens), after = 0;
    size_t *counts[] = { (size_t *)(void *)&c.tokens, &after };
    rv_generate how = { .prompt = prompt,
                        .n_prompt = LONG,
                        .max_tokens = 2,
                        .n_logprobs = -1,
                        .sampling = rv_sampling_default(),
                        .ignore_end = true,
                        .on_piece = note_count,
                        .self = counts };
    rv_generated done;
    CHECK_OK(rv_engine_generate(e, &how, &done));
    atomic_store(&c.cancel, true);
    pthread_join(thread, NULL);
    CHECK_OK(c.err);
    /* 128 tokens a step at most, so at least 16 steps; the answer is late for one now and then */
    CHECK(after >= before + 8, "only %zu tokens of the answer came meanwhile", after - before);
    CHECK_OK(rv_engine_check(e));
    rv_engine_close(e);
}

TEST(engines_that_share_a_pool_work_at_the_same_time)
{
    rv_pool *pool = NULL;
    rv_turn *turn = NULL;
    CHECK_OK(rv_pool_new(&rv_heap, 2, &pool));
    CHECK_OK(rv_turn_new(&rv_heap, &turn));
    rv_engine *engines[2];
    rv_engine_options how = rv_engine_options_default();
    how.pool = pool;
    how.turn = turn;
    how.max_context = CONTEXT;
    static job jobs[6];
    static asked alone[RV_COUNT(jobs)];
    pthread_t threads[RV_COUNT(jobs)];
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), how, &engines[i]));
    }
    for (size_t i = 0; i < RV_COUNT(jobs); i++) {
        jobs[i] = (job){ .engine = engines[i % 2], .what = simple(20 + i, 40, (int32_t)i * 31) };
        ask(engines[1 - i % 2], &jobs[i].what, &alone[i]);
        CHECK_OK(alone[i].err);
    }
    for (size_t i = 0; i < RV_COUNT(jobs); i++) {
        CHECK(pthread_create(&threads[i], NULL, run_job, &jobs[i]) == 0, "thread");
    }
    for (size_t i = 0; i < RV_COUNT(jobs); i++) {
        pthread_join(threads[i], NULL);
        CHECK(!jobs[i].asked.err && jobs[i].asked.came.n_tokens == 40 &&
                  memcmp(jobs[i].asked.came.logprobs, alone[i].came.logprobs, 40 * sizeof(float)) == 0,
              "request %zu", i);
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(rv_engine_check(engines[i]));
        rv_engine_close(engines[i]);
    }
    rv_turn_free(turn);
    rv_pool_free(pool);
}

/* One seat; a tenant with many requests, and one that comes last with a single one. */
typedef struct turns {
    pthread_mutex_t lock;
    uint64_t order[8];
    size_t n;
    rv_engine *engine;
    atomic_size_t started;
} turns;

typedef struct turn_job {
    turns *turns;
    uint64_t tenant;
    bool held; /* its first piece waits until all others are in line */
} turn_job;

static bool note_turn(void *self, const rv_piece *piece)
{
    turn_job *mine = self;
    turns *t = mine->turns;
    if (piece->token >= 0) {
        pthread_mutex_lock(&t->lock);
        t->order[t->n++] = mine->tenant;
        pthread_mutex_unlock(&t->lock);
        while (mine->held && atomic_load(&t->started) < 5) {
            sched_yield();
        }
        if (mine->held) {
            nanosleep(&(struct timespec){ .tv_nsec = 50000000 },
                      NULL); /* the last one is on its way into the line */
        }
    }
    return true;
}

static void *take_turn(void *arg)
{
    turn_job *mine = arg;
    int32_t prompt[2] = { 1, (int32_t)mine->tenant };
    rv_generate how = { .prompt = prompt,
                        .n_prompt = 2,
                        .max_tokens = 1,
                        .n_logprobs = -1,
                        .sampling = rv_sampling_default(),
                        .tenant = mine->tenant,
                        .ignore_end = true,
                        .on_piece = note_turn,
                        .self = mine };
    rv_generated done;
    atomic_fetch_add(&mine->turns->started, 1);
    rv_err e = rv_engine_generate(mine->turns->engine, &how, &done);
    CHECK(!e, "%s", rv_err_name(e));
    return NULL;
}

TEST(a_tenant_with_one_request_does_not_wait_for_all_of_another)
{
    static turns t = { .lock = PTHREAD_MUTEX_INITIALIZER };
    static turn_job jobs[5];
    t.engine = open_engine(NULL, CONTEXT, 1, 0);
    pthread_t threads[5];
    for (size_t i = 0; i < 5; i++) {
        jobs[i] = (turn_job){ &t, i < 4 ? 7 : 9, i == 0 };
        CHECK(pthread_create(&threads[i], NULL, take_turn, &jobs[i]) == 0, "thread");
        for (bool running = i > 0; !running;) { /* the first one has the seat before the others come */
            pthread_mutex_lock(&t.lock);
            running = t.n > 0;
            pthread_mutex_unlock(&t.lock);
            sched_yield();
        }
    }
    for (size_t i = 0; i < 5; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(t.n == 5 && t.order[0] == 7 && t.order[1] == 9, "served: %d %d %d %d %d", (int)t.order[0],
          (int)t.order[1], (int)t.order[2], (int)t.order[3], (int)t.order[4]);
    rv_engine_close(t.engine);
}
