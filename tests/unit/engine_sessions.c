/* Conversations that outlive their engine: what is said after a restart is what would have been said without one.
 * RV_DAMAGE_ROLE makes the program the two halves of one, for ../shared/hostile/mangle.py (tests/e2e/faults/mangle_sessions.sh):
 * "save TYPE TURNS DIR" talks and leaves the conversation in DIR, "go_on TYPE DIR" takes the next turn and prints every token. */
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONTEXT = 1024, ANSWER = 24 };

/* An engine with a folder for its conversations. */
typedef struct house {
    rv_budget *budget;
    rv_shelf *shelf;
    rv_engine *engine;
} house;

static house open_house(const char *dir, rv_type kv, uint32_t sequences, size_t budget, uint64_t disk)
{
    house h = { 0 };
    rv_engine_options how = rv_engine_options_default();
    if (budget) {
        CHECK_OK(rv_budget_new(&rv_heap, budget, &h.budget));
    }
    if (dir) {
        CHECK_OK(rv_shelf_open(&rv_heap, dir, disk, &h.shelf));
    }
    how.max_context = CONTEXT;
    how.max_sequences = sequences;
    how.kv_type = kv;
    how.budget = h.budget;
    how.shelf = h.shelf;
    CHECK_OK(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), how, &h.engine));
    return h;
}

static void close_house(house *h)
{
    CHECK_OK(rv_engine_check(h->engine));
    rv_engine_close(h->engine);
    rv_shelf_close(h->shelf);
    rv_budget_free(h->budget);
}

typedef struct talk {
    int32_t ids[CONTEXT];
    size_t n;
    int32_t said[ANSWER];
    float logprobs[ANSWER];
    size_t n_said, cached;
    bool private;
} talk;

static bool take_piece(void *self, const rv_piece *p)
{
    talk *t = self;
    if (p->token >= 0) {
        t->said[t->n_said] = p->token;
        t->logprobs[t->n_said++] = p->logprob;
    }
    return true;
}

/* Adds n tokens of a topic and an answer to the conversation. */
static rv_err turn(rv_engine *e, talk *t, uint64_t topic, size_t n)
{
    rv_rng rng;
    rv_rng_init(&rng, topic * 1000 + t->n);
    for (size_t i = 0; i < n; i++) {
        t->ids[t->n++] = (int32_t)(20 + rv_rng_below(&rng, 900));
    }
    t->n_said = 0;
    rv_sampling sampling = rv_sampling_default();
    sampling.seed = topic;
    rv_generate how = { .prompt = t->ids,
                        .n_prompt = t->n,
                        .max_tokens = ANSWER,
                        .n_logprobs = 0,
                        .sampling = sampling,
                        .ignore_end = true,
                        .private = t->private,
                        .on_piece = take_piece,
                        .self = t };
    rv_generated done;
    rv_err err = rv_engine_generate(e, &how, &done);
    if (!err) {
        memcpy(t->ids + t->n, t->said, t->n_said * sizeof *t->ids);
        t->n += t->n_said;
        t->cached = done.cached_tokens;
    }
    return err;
}

static void check_same(const talk *a, const talk *b, const char *what)
{
    CHECK(a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0 &&
              memcmp(a->logprobs, b->logprobs, a->n_said * sizeof *a->logprobs) == 0,
          "%s: another answer", what);
}

TEST(after_a_restart_a_conversation_goes_on_with_the_same_bits)
{
    static const rv_type types[] = { RV_F16, RV_Q8_0, RV_Q4_1 };
    static talk never, stopped, fresh;
    for (size_t type = 0; type < RV_COUNT(types); type++) {
        const char *dir = temp_path("kv");
        never = stopped = (talk){ 0 };
        house one = open_house(NULL, types[type], 2, 0, 0);
        for (size_t i = 0; i < 4; i++) {
            CHECK_OK(turn(one.engine, &never, 7, 150));
            house h = open_house(dir, types[type], 2, 0, 1 << 28);
            CHECK_OK(turn(h.engine, &stopped, 7, 150));
            check_same(&never, &stopped, "stopped after each turn");
            CHECK(stopped.cached == never.cached, "%zu tokens taken over, %zu without a stop", stopped.cached,
                  never.cached);
            close_house(&h);
        }
        CHECK(stopped.cached > 400, "%zu tokens taken over", stopped.cached);
        fresh = stopped; /* the last turn again, from nothing */
        fresh.n -= 150 + ANSWER;
        house cold = open_house(NULL, types[type], 2, 0, 0);
        CHECK_OK(turn(cold.engine, &fresh, 7, 150));
        check_same(&never, &fresh, "from nothing");
        CHECK(fresh.cached == 0, "from nothing");
        close_house(&cold);
        close_house(&one);
    }
}

static size_t files_in(const char *dir, char *name)
{
    DIR *folder = opendir(dir);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(folder));) {
        if (e->d_name[0] != '.') {
            snprintf(name, 256, "%s", e->d_name);
            n++;
        }
    }
    closedir(folder);
    return n;
}

static void play_role(const char *role)
{
    static talk t;
    char type[8], dir[4000];
    int turns = 0;
    rv_type kv;
    bool saves = sscanf(role, "save %7s %d %3999s", type, &turns, dir) == 3;
    if ((!saves && sscanf(role, "go_on %7s %3999s", type, dir) != 2) || !rv_kv_type_named(type, &kv)) {
        _exit(2);
    }
    rv_log_setup(RV_LOG_ERROR, false);
    house h = open_house(saves ? dir : NULL, kv, 2, 0, 1 << 28);
    for (int i = 0; i < (saves ? turns : 2); i++) { /* to go on with, what was said before is said again */
        CHECK_OK(turn(h.engine, &t, 3, i ? 60 : 500));
    }
    close_house(&h);
    if (!saves) {
        h = open_house(dir, kv, 2, 0, 1 << 28);
        CHECK_OK(turn(h.engine, &t, 3, 40));
        fprintf(stderr, "%zu tokens read back\n", t.cached);
        for (size_t i = 0; i < t.n_said; i++) {
            printf("%d %a\n", t.said[i], (double)t.logprobs[i]);
        }
        close_house(&h);
    }
    exit(0);
}

__attribute__((constructor)) static void take_role(void)
{
    const char *role = getenv("RV_DAMAGE_ROLE");
    if (role) {
        play_role(role);
    }
}

TEST(a_damaged_file_costs_time_and_no_token)
{
    const char *dir = temp_path("kv");
    static talk before, want, got;
    char name[256], path[4096];
    before = (talk){ 0 };
    house h = open_house(dir, RV_Q8_0, 2, 0, 1 << 28);
    CHECK_OK(turn(h.engine, &before, 3, 500));
    want = before;
    CHECK_OK(turn(h.engine, &want, 3, 40));
    close_house(&h);
    rv_log_setup(RV_LOG_ERROR, false);
    rv_rng rng;
    rv_rng_init(&rng, 1);
    size_t taken = 0;
    for (size_t round = 0; round < 60; round++) {
        CHECK(files_in(dir, name) == 1, "one file");
        snprintf(path, sizeof path, "%s/%s", dir, name);
        int fd = open(path, O_RDWR);
        off_t size = lseek(fd, 0, SEEK_END), at = (off_t)rv_rng_below(&rng, (uint64_t)size);
        uint8_t byte;
        if (round % 4 == 0) {
            CHECK(ftruncate(fd, at) == 0, "cut");
        } else if (round % 4 < 3) {
            CHECK(pread(fd, &byte, 1, at) == 1, "read");
            byte ^= (uint8_t)(1u << rv_rng_below(&rng, 8));
            CHECK(pwrite(fd, &byte, 1, at) == 1, "write");
        }
        close(fd);
        got = before;
        h = open_house(dir, RV_Q8_0, 2, 0, 1 << 28);
        CHECK_OK(turn(h.engine, &got, 3, 40));
        check_same(&want, &got, "after damage");
        CHECK((got.cached > 0) == (round % 4 == 3) || at < 256 + 4 * 600, "round %zu: %zu tokens taken over",
              round, got.cached);
        taken += got.cached > 0;
        close_house(&h); /* makes it again */
    }
    CHECK(taken >= 15, "%zu", taken);
}

TEST(a_thousand_conversations_stay_within_the_pool_and_all_go_on)
{
    enum { TALKS = 1000, POOL = 6 << 20 };
    const char *dir = temp_path("kv");
    talk *all = calloc(TALKS, sizeof *all), *again = calloc(1, sizeof *again);
    CHECK(all && again, "memory");
    house h = open_house(dir, RV_F16, 2, POOL, (uint64_t)1 << 30);
    for (size_t i = 0; i < TALKS; i++) {
        CHECK_OK(turn(h.engine, &all[i], i, 100));
    }
    CHECK(rv_budget_peak(h.budget) <= POOL, "%zu bytes", rv_budget_peak(h.budget));
    size_t restored = 0;
    for (size_t i = 0; i < TALKS; i += 97) { /* oldest first: long given up */
        house cold = open_house(NULL, RV_F16, 2, 0, 0);
        *again = all[i];
        CHECK_OK(turn(cold.engine, again, i, 20));
        CHECK_OK(turn(h.engine, &all[i], i, 20));
        check_same(again, &all[i], "read back");
        restored += all[i].cached >= 100;
        close_house(&cold);
    }
    CHECK(restored == (TALKS + 96) / 97, "%zu read back", restored);
    CHECK(rv_shelf_get_stats(h.shelf).files > TALKS / 2, "%zu files", rv_shelf_get_stats(h.shelf).files);
    close_house(&h);
    free(all);
    free(again);
}

typedef struct job {
    rv_engine *engine;
    uint64_t topic;
    talk talk;
    rv_err err;
} job;

static void *run_job(void *arg)
{
    job *j = arg;
    for (size_t i = 0; i < 5 && !j->err; i++) {
        j->err = turn(j->engine, &j->talk, j->topic, 60);
    }
    return NULL;
}

TEST(many_conversations_at_once_with_little_room_say_what_each_says_alone)
{
    enum { JOBS = 12 };
    const char *dir = temp_path("kv");
    static job jobs[JOBS];
    static talk alone;
    pthread_t threads[JOBS];
    house h = open_house(dir, RV_Q8_0, 3, 0, 1 << 28);
    for (size_t i = 0; i < JOBS; i++) {
        jobs[i] = (job){ .engine = h.engine, .topic = i };
        CHECK(pthread_create(&threads[i], NULL, run_job, &jobs[i]) == 0, "thread");
    }
    for (size_t i = 0; i < JOBS; i++) {
        pthread_join(threads[i], NULL);
    }
    house quiet = open_house(NULL, RV_Q8_0, 1, 0, 0);
    for (size_t i = 0; i < JOBS; i++) {
        CHECK_OK(jobs[i].err);
        alone = (talk){ 0 };
        for (size_t t = 0; t < 5; t++) {
            CHECK_OK(turn(quiet.engine, &alone, i, 60));
        }
        check_same(&alone, &jobs[i].talk, "among others");
    }
    close_house(&quiet);
    close_house(&h);
}

TEST(a_private_conversation_is_never_written)
{
    const char *dir = temp_path("kv");
    static talk t;
    t = (talk){ 0 };
    char name[256];
    house h = open_house(dir, RV_F16, 2, 0, 1 << 28);
    t.private = true;
    CHECK_OK(turn(h.engine, &t, 5, 200));
    t.private = false; /* what goes on from it is no less so */
    CHECK_OK(turn(h.engine, &t, 5, 100));
    CHECK(t.cached > 200, "%zu", t.cached);
    close_house(&h);
    CHECK(files_in(dir, name) == 0, "%s", name);
}

TEST(a_pool_too_small_for_one_conversation_is_refused_with_both_figures)
{
    rv_budget *budget = NULL;
    rv_engine *e = NULL;
    CHECK_OK(rv_budget_new(&rv_heap, 30000, &budget));
    rv_engine_options how = rv_engine_options_default();
    how.max_context = CONTEXT;
    how.budget = budget;
    CHECK_ERR(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), how, &e), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "30000") && strstr(rv_err_text(), "1024 tokens"), "%s", rv_err_text());
    rv_budget_free(budget);
}

/* Two models in a pool that holds one conversation: what the one keeps for later makes room for what the other needs now. */
TEST(what_is_idle_in_one_model_makes_room_for_another)
{
    rv_budget *budget = NULL;
    rv_shelf *shelf = NULL;
    rv_engine *engines[2];
    rv_engine_options how = rv_engine_options_default();
    how.max_context = CONTEXT;
    how.max_sequences = 1;
    static talk talks[2];
    memset(talks, 0, sizeof talks);
    CHECK_OK(rv_shelf_open(&rv_heap, temp_path("kv"), 1 << 28, &shelf));
    CHECK_OK(rv_budget_new(&rv_heap, 320000, &budget));
    how.shelf = shelf;
    how.budget = budget;
    for (size_t round = 0; round < 4; round++) {
        for (size_t i = 0; i < 2; i++) {
            if (round == 0) { /* the second one comes when the first has filled the pool */
                CHECK_OK(
                    rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), how, &engines[i]));
                how.max_sequences = 16;
            }
            talks[i].n = 0;
            CHECK_OK(turn(engines[i], &talks[i], round, 990));
            CHECK_OK(rv_engine_check(engines[i]));
        }
    }
    for (size_t i = 0; i < 2; i++) {
        rv_engine_close(engines[i]);
    }
    rv_shelf_close(shelf);
    rv_budget_free(budget);
}

static void *cancel_later(void *flag)
{
    for (int i = 0; i < 600 && !atomic_load((atomic_bool *)flag); i++) {
        usleep(100000);
    }
    atomic_store((atomic_bool *)flag, true);
    return NULL;
}

/* The states of a second model have taken what a whole context of the first one needs. */
TEST(who_can_never_have_room_is_told_so)
{
    enum { PAGE = 4160, STATE = 1536, POOL = 64 * PAGE + 5 * STATE };
    rv_budget *budget = NULL;
    rv_engine *engines[2];
    rv_engine_options how = rv_engine_options_default();
    CHECK_OK(rv_budget_new(&rv_heap, POOL, &budget));
    how.max_context = CONTEXT;
    how.max_sequences = 2;
    how.budget = budget;
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), how, &engines[i]));
    }
    static const int32_t prompt[] = { 1, 2, 3 };
    atomic_bool cancel = false;
    rv_generate all = { .prompt = prompt,
                        .n_prompt = 3,
                        .n_logprobs = -1,
                        .sampling = rv_sampling_default(),
                        .ignore_end = true,
                        .cancel = &cancel };
    rv_generated done;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, cancel_later, &cancel) == 0, "thread");
    CHECK_ERR(rv_engine_generate(engines[0], &all, &done), RV_E_FULL);
    CHECK(strstr(rv_err_text(), "1023 tokens"), "%s", rv_err_text());
    atomic_store(&cancel, true);
    pthread_join(thread, NULL);
    all.max_tokens = 20;
    all.cancel = NULL;
    CHECK_OK(rv_engine_generate(engines[0], &all, &done));
    CHECK(done.completion_tokens == 20, "%zu tokens", done.completion_tokens);
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(rv_engine_check(engines[i]));
        rv_engine_close(engines[i]);
    }
    rv_budget_free(budget);
}

TEST(a_forgotten_conversation_is_neither_gone_on_with_nor_written)
{
    const char *dir = temp_path("kv");
    static talk t;
    t = (talk){ 0 };
    char name[256];
    size_t files = 0;
    house h = open_house(dir, RV_F16, 2, 0, 1 << 28);
    CHECK_OK(turn(h.engine, &t, 5, 200));
    rv_engine_forget(h.engine);
    CHECK_OK(rv_shelf_clear(h.shelf, &files));
    CHECK_OK(turn(h.engine, &t, 5, 100));
    CHECK(t.cached == 0, "%zu tokens were taken over", t.cached);
    rv_engine_forget(h.engine);
    close_house(&h);
    CHECK(files_in(dir, name) == 0, "%s", name);

    h = open_house(dir, RV_F16, 2, 0, 1 << 28); /* one that is on the disk goes from there */
    CHECK_OK(turn(h.engine, &t, 5, 100));
    close_house(&h);
    CHECK(files_in(dir, name) == 1, "%zu files", files_in(dir, name));
    h = open_house(dir, RV_F16, 2, 0, 1 << 28);
    CHECK_OK(rv_shelf_clear(h.shelf, &files));
    CHECK(files == 1 && rv_shelf_get_stats(h.shelf).files == 0 && rv_shelf_get_stats(h.shelf).bytes == 0,
          "%zu files", files);
    close_house(&h);
    CHECK(files_in(dir, name) == 0, "%s", name);
}

/* Two conversations fill the pool, none of them written yet. The first goes on and needs more room than there is: the other one is
 * written down for it, which takes a moment. */
TEST(a_conversation_that_waits_for_room_keeps_what_it_has)
{
    enum { PAGE = 4160, STATE = 1536 };
    const char *dir = temp_path("kv");
    static talk talks[2];
    memset(talks, 0, sizeof talks);
    house h = open_house(dir, RV_F16, 2, 66 * PAGE + 4 * STATE, 1 << 28);
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(turn(h.engine, &talks[i], i, 400));
    }
    CHECK_OK(turn(h.engine, &talks[0], 0, 200));
    CHECK(talks[0].cached == 423, "%zu tokens taken over", talks[0].cached);
    CHECK_OK(turn(h.engine, &talks[1], 1, 20));
    CHECK(talks[1].cached == 423, "%zu tokens read back", talks[1].cached);
    close_house(&h);
}

/* One seat, so two sequences. A third conversation has the beginning of the first one: the longer rest of that is not lost for it. */
TEST(a_conversation_whose_beginning_another_one_takes_is_written_first)
{
    const char *dir = temp_path("kv");
    static talk talks[3];
    memset(talks, 0, sizeof talks);
    house h = open_house(dir, RV_F16, 1, 0, 1 << 28);
    CHECK_OK(turn(h.engine, &talks[0], 0, 700));
    CHECK_OK(turn(h.engine, &talks[1], 1, 100));
    memcpy(talks[2].ids, talks[0].ids, 300 * sizeof *talks[2].ids);
    talks[2].n = 300;
    CHECK_OK(turn(h.engine, &talks[2], 2, 20));
    CHECK(talks[2].cached == 256, "%zu tokens taken over", talks[2].cached);
    CHECK_OK(turn(h.engine, &talks[0], 0, 20));
    CHECK(talks[0].cached == 723, "%zu tokens taken over", talks[0].cached);
    close_house(&h);
}

/* What is read back needs room for its marks too, which is not promised to it: an idle one that is saved goes for them. */
TEST(a_conversation_is_read_back_with_its_marks_though_the_pool_is_full)
{
    enum { PAGE = 4160, STATE = 1536, POOL = 64 * PAGE + 5 * STATE + 2000 };
    const char *dir = temp_path("kv");
    static talk talks[3];
    memset(talks, 0, sizeof talks);
    house h = open_house(dir, RV_F16, 2, POOL, 1 << 28);
    CHECK_OK(turn(h.engine, &talks[0], 0, 700));
    close_house(&h);
    h = open_house(dir, RV_F16, 2, POOL, 1 << 28);
    CHECK_OK(turn(h.engine, &talks[1], 1, 600));
    CHECK_OK(turn(h.engine, &talks[2], 2, 100));
    for (double start = rv_clock_ms(); rv_shelf_get_stats(h.shelf).files < 3;) {
        CHECK(rv_clock_ms() - start < 60e3, "they are idle, and not written");
        usleep(20000);
    }
    CHECK_OK(turn(h.engine, &talks[0], 0, 140));
    CHECK(talks[0].cached == 723, "%zu tokens read back", talks[0].cached);
    CHECK(rv_budget_peak(h.budget) <= POOL, "%zu bytes", rv_budget_peak(h.budget));
    close_house(&h);
}
