/* Versions of adapters: in use for whom, back again, after a restart, with a damaged file; and the loop that makes them. */
#include "base/clock.h"
#include "base/file.h"
#include "base/metrics.h"
#include "learn/loop.h"
#include "learn/adapter_loop.h"
#include "model/lora_peft.h"
#include "store/witness.h"
#include "test.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_IDS = 9 };
static const int32_t ids[N_IDS] = { 1, 83, 362, 427, 309, 380, 916, 658, 7 };

typedef struct place {
    const char *dir;
    rv_db *db;
    rv_adapters *adapters;
    rv_engine *engine;
    rv_lfm2_file *file;
    rv_arena *arena;
    rv_budget *budget; /* NULL: none */
    uint64_t model;
} place;

static void open_store(place *p)
{
    CHECK_OK(rv_db_open(&rv_heap, p->dir, &p->db));
    CHECK_OK(rv_witness_setup(p->db));
    CHECK_OK(rv_episode_setup(p->db));
    CHECK_OK(rv_loop_setup(p->db));
    CHECK_OK(rv_adapters_open(&rv_heap, p->db, p->budget, &p->adapters));
}

static void close_store(place *p)
{
    uint64_t count;
    CHECK_OK(rv_witness_verify(p->db, &count));
    rv_adapters_close(p->adapters);
    rv_db_close(p->db);
}

static place place_new(void)
{
    place p = { .dir = temp_dir() };
    const char *model = source_path("tests/data/golden/a-q8_0.gguf");
    CHECK_OK(rv_lfm2_file_open(&rv_heap, model, false, &p.file));
    CHECK_OK(rv_engine_open(&rv_heap, model, rv_engine_options_default(), &p.engine));
    CHECK_OK(rv_arena_new(&rv_heap, 4 << 20, &p.arena));
    p.model = rv_engine_get_info(p.engine)->fingerprint;
    open_store(&p);
    return p;
}

static void place_free(place *p)
{
    close_store(p);
    rv_arena_free(p->arena);
    rv_engine_close(p->engine);
    rv_lfm2_file_close(p->file);
}

static rv_lora *noise(const place *p, uint64_t seed)
{
    rv_lora *l = NULL;
    rv_rng rng;
    rv_rng_init(&rng, seed);
    CHECK_OK(rv_lora_new(&rv_heap, p->file, 1 << RV_LFM2_Q | 1 << RV_LFM2_DOWN, 2, 4, seed, &l));
    for (size_t i = 0; i < l->n_weights; i++) {
        l->weights[i] = 0.2f * rv_rng_normal(&rng);
    }
    rv_lora_changed(l);
    return l;
}

/* Logits of a prompt as a request of this user would get them. */
static float *logits(const place *p, const char *user)
{
    size_t vocab = rv_engine_get_info(p->engine)->shape.n_vocab;
    float *out = fenced_floats(N_IDS * vocab);
    const rv_lora *lora;
    CHECK_OK(rv_adapters_take(p->adapters, p->engine, user, NULL, &lora));
    CHECK_OK(rv_engine_logits(p->engine, lora, ids, N_IDS, 0, 0, out));
    rv_adapters_put(p->adapters, lora);
    return out;
}

static bool same(const place *p, const float *a, const float *b)
{
    return memcmp(a, b, N_IDS * rv_engine_get_info(p->engine)->shape.n_vocab * sizeof *a) == 0;
}

static int64_t publish(place *p, const char *user, uint64_t seed)
{
    rv_lora *l = noise(p, seed);
    int64_t id = 0;
    rv_adapter_version v = { .model = p->model, .user = user, .origin = "load" };
    CHECK_OK(rv_adapters_publish(p->adapters, &v, l, &id));
    rv_lora_close(l);
    return id;
}

TEST(a_version_is_for_its_user_and_going_back_gives_the_same_bits)
{
    place p = place_new();
    float *none = logits(&p, "anna");
    int64_t first = publish(&p, "anna", 1);
    float *with_first = logits(&p, "anna");
    CHECK(!same(&p, none, with_first), "no effect");
    CHECK(same(&p, none, logits(&p, "ben")) && same(&p, none, logits(&p, NULL)), "it reaches others");
    int64_t second = publish(&p, "anna", 2);
    float *with_second = logits(&p, "anna");
    CHECK(!same(&p, with_first, with_second), "the second has no effect");

    rv_adapter_version v;
    CHECK_OK(rv_adapters_get(p.adapters, second, p.arena, &v));
    CHECK(v.parent == first && v.in_use && strcmp(v.user, "anna") == 0, "parent %lld", (long long)v.parent);
    CHECK_OK(rv_adapters_use(p.adapters, p.model, "anna", v.parent));
    CHECK(same(&p, with_first, logits(&p, "anna")), "going back is not the version before");
    close_store(&p);
    open_store(&p);
    CHECK(same(&p, with_first, logits(&p, "anna")), "after a restart");
    CHECK_OK(rv_adapters_use(p.adapters, p.model, "anna", 0));
    CHECK(same(&p, none, logits(&p, "anna")), "to none");
    CHECK_ERR(rv_adapters_use(p.adapters, p.model, "ben", first), RV_E_NOT_FOUND);
    CHECK_ERR(rv_adapters_use(p.adapters, p.model, "anna", 77), RV_E_NOT_FOUND);

    rv_adapter_version *list;
    size_t n;
    CHECK_OK(rv_adapters_list(p.adapters, p.arena, &list, &n));
    CHECK(n == 2 && list[0].id == second && list[1].id == first && !list[0].in_use, "%zu versions", n);
    place_free(&p);
}

TEST(everybodys_and_ones_own_add_up)
{
    place p = place_new();
    publish(&p, "", 3);
    float *shared = logits(&p, NULL);
    publish(&p, "anna", 4);
    float *both = logits(&p, "anna");
    CHECK(!same(&p, shared, both) && same(&p, shared, logits(&p, "ben")), "who has what");
    rv_lora *a = noise(&p, 3), *b = noise(&p, 4), *sum = NULL;
    CHECK_OK(rv_lora_stack(&rv_heap, b, a, &sum)); /* the other way round: the same up to rounding */
    size_t vocab = rv_engine_get_info(p.engine)->shape.n_vocab;
    float *expected = fenced_floats(N_IDS * vocab);
    CHECK_OK(rv_engine_logits(p.engine, sum, ids, N_IDS, 0, 0, expected));
    double worst = 0;
    for (size_t i = 0; i < N_IDS * vocab; i++) {
        worst = fmax(worst, fabs((double)both[i] - (double)expected[i]));
    }
    CHECK(worst <= 0.3, "off by %g", worst); /* int8 activations may round the other way */
    rv_lora_close(a);
    rv_lora_close(b);
    rv_lora_close(sum);
    place_free(&p);
}

TEST(a_damaged_file_gives_way_to_the_version_before_it)
{
    place p = place_new();
    publish(&p, "", 1);
    float *first = logits(&p, NULL);
    int64_t second = publish(&p, "", 2);
    const char *path;
    CHECK_OK(rv_adapters_path(p.adapters, second, p.arena, &path));
    CHECK_OK(rv_file_replace(path, "GGUF nonsense", 13));
    close_store(&p);
    open_store(&p);
    CHECK(same(&p, first, logits(&p, NULL)), "not the version before");
    rv_text metrics;
    rv_text_init(&metrics, &rv_heap, 1 << 20);
    rv_metrics_text(&metrics);
    CHECK(strstr(rv_text_get(&metrics), "ruvllm_adapters_damaged_total 1"), "not counted once");
    rv_text_deinit(&metrics);
    place_free(&p);
}

TEST(opened_adapters_count_in_the_budget_and_idle_ones_make_room)
{
    place p = place_new();
    float *with_annas, *with_bens;
    publish(&p, "anna", 1);
    publish(&p, "ben", 2);
    with_annas = logits(&p, "anna");
    with_bens = logits(&p, "ben");
    close_store(&p);
    CHECK_OK(rv_budget_new(&rv_heap, SIZE_MAX, &p.budget));
    open_store(&p);
    CHECK(same(&p, with_annas, logits(&p, "anna")), "counted ones differ");
    size_t one = rv_budget_used(p.budget, RV_BUDGET_ADAPTERS), most = rv_budget_peak(p.budget);
    CHECK(one > 1000 && most >= one, "%zu bytes, %zu at most", one, most);
    close_store(&p);
    CHECK(rv_budget_used(p.budget, RV_BUDGET_ADAPTERS) == 0, "something was left");
    rv_budget_free(p.budget);

    CHECK_OK(rv_budget_new(&rv_heap, most + one / 2, &p.budget)); /* one at a time */
    open_store(&p);
    for (int i = 0; i < 3; i++) {
        CHECK(same(&p, with_annas, logits(&p, "anna")) && same(&p, with_bens, logits(&p, "ben")), "round %d",
              i);
        CHECK(rv_budget_used(p.budget, RV_BUDGET_ADAPTERS) == one, "%zu bytes",
              rv_budget_used(p.budget, RV_BUDGET_ADAPTERS));
    }
    const rv_lora *held, *other;
    CHECK_OK(rv_adapters_take(p.adapters, p.engine, "anna", NULL, &held));
    CHECK_ERR(rv_adapters_take(p.adapters, p.engine, "ben", NULL, &other), RV_E_FULL);
    CHECK(strstr(rv_err_text(), "inference.pool_mb"), "%s", rv_err_text());
    rv_adapters_put(p.adapters, held);
    CHECK(same(&p, with_bens, logits(&p, "ben")), "not after it was given back");
    CHECK(rv_budget_peak(p.budget) <= most + one / 2, "the budget was passed");
    close_store(&p);
    rv_budget_free(p.budget);
    p.budget = NULL;
    open_store(&p);
    place_free(&p);
}

/* Nobody answers with what another had forgotten: its number does not come again, not after a restart either, and its weights leave the memory. */
TEST(forgotten_weights_never_come_back)
{
    for (int reopened = 0; reopened < 2; reopened++) {
        place p = place_new();
        rv_budget *budget;
        size_t removed;
        CHECK_OK(rv_budget_new(&rv_heap, SIZE_MAX, &budget));
        close_store(&p);
        p.budget = budget;
        open_store(&p);
        int64_t annas = publish(&p, "anna", 1);
        float *with_annas = logits(&p, "anna");
        CHECK(rv_budget_used(budget, RV_BUDGET_ADAPTERS) > 0, "nothing is open");
        CHECK_OK(rv_adapters_forget(p.adapters, "anna", 0, &removed));
        CHECK(removed == 1 && rv_budget_used(budget, RV_BUDGET_ADAPTERS) == 0, "%zu bytes are still there",
              rv_budget_used(budget, RV_BUDGET_ADAPTERS));
        float *none = logits(&p, "anna");
        if (reopened) {
            close_store(&p);
            open_store(&p);
        }
        int64_t bens = publish(&p, "ben", 2);
        float *with_bens = logits(&p, "ben");
        CHECK(bens > annas, "version %lld again", (long long)bens);
        CHECK(!same(&p, with_annas, with_bens) && !same(&p, none, with_bens), "ben has forgotten weights");
        close_store(&p);
        open_store(&p);
        CHECK(same(&p, with_bens, logits(&p, "ben")), "other weights after a restart");

        const rv_lora *held;
        CHECK_OK(rv_adapters_take(p.adapters, p.engine, "ben", NULL, &held));
        CHECK_OK(rv_adapters_forget(p.adapters, "ben", 0, &removed));
        CHECK(rv_budget_used(budget, RV_BUDGET_ADAPTERS) > 0, "one that is held went");
        rv_adapters_put(p.adapters, held);
        CHECK(rv_budget_used(budget, RV_BUDGET_ADAPTERS) == 0, "it stays after it was given back");
        place_free(&p);
        rv_budget_free(budget);
    }
}

typedef struct pruner {
    rv_adapters *adapters;
    atomic_bool stop;
    size_t failed;
} pruner;

static void *prune_on(void *self)
{
    pruner *p = self;
    size_t removed;
    while (!atomic_load(&p->stop)) {
        p->failed += rv_adapters_prune(p->adapters, 8, &removed) != RV_OK;
    }
    return NULL;
}

/* A version has its file before its row: pruning meanwhile must not take that for one that nobody names. */
TEST(pruning_leaves_what_is_being_published)
{
    place p = place_new();
    pruner beside = { .adapters = p.adapters };
    pthread_t thread;
    rv_lora *l = noise(&p, 3);
    CHECK(pthread_create(&thread, NULL, prune_on, &beside) == 0, "thread");
    for (int i = 0; i < 40; i++) {
        int64_t id;
        const char *path;
        rv_adapter_version v = { .model = p.model, .user = "anna", .origin = "micro" };
        CHECK_OK(rv_adapters_publish(p.adapters, &v, l, &id));
        CHECK_OK(rv_adapters_path(p.adapters, id, p.arena, &path));
        CHECK(rv_file_exists(path), "version %lld has no file", (long long)id);
    }
    atomic_store(&beside.stop, true);
    pthread_join(thread, NULL);
    CHECK(beside.failed == 0, "%zu times pruning failed", beside.failed);
    rv_lora_close(l);
    place_free(&p);
}

TEST(a_taken_adapter_stays_while_others_are_published)
{
    place p = place_new();
    publish(&p, "", 1);
    const rv_lora *held, *next;
    CHECK_OK(rv_adapters_take(p.adapters, p.engine, NULL, NULL, &held));
    uint64_t id = held->id;
    publish(&p, "", 2);
    CHECK_OK(rv_adapters_take(p.adapters, p.engine, NULL, NULL, &next));
    CHECK(next != held && held->id == id && next->id != id, "the same adapter");
    rv_adapters_put(p.adapters, next);
    rv_adapters_put(p.adapters, held);
    rv_adapters_put(p.adapters, NULL);
    place_free(&p);
}

/* ---- the loop ---- */

static rv_err prompt(const char *question, const char *const *passages, size_t n, json_t **out)
{
    (void)passages;
    CHECK(n == 0, "%zu passages without a memory", n);
    *out = json_pack("[{s:s, s:s}]", "role", "user", "content", question);
    return *out ? RV_OK : rv_fail(RV_E_NOMEM, "prompt");
}

static void put_episode(place *p, size_t number, const char *question, const char *answer,
                        const char *correction)
{
    char id[16];
    snprintf(id, sizeof id, "r%zu", number);
    sqlite3 *conn;
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .user = "anna",
                     .question = question,
                     .answer = answer,
                     .model = "m",
                     .created_ms = (int64_t)number + 1 };
    CHECK_OK(rv_db_begin(p->db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    if (correction) {
        CHECK_OK(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, 'correction', 0, ?2, 0, ?3)", "tti", id,
                            correction, (int64_t)number));
    }
    CHECK_OK(rv_db_commit(p->db));
}

static rv_adapter_learned learn(place *p, size_t steps)
{
    rv_adapter_learned done;
    rv_adapter_learning how = { .db = p->db,
                                .adapters = p->adapters,
                                .engine = p->engine,
                                .prompt = prompt,
                                .user = "anna",
                                .rank = 4,
                                .max_steps = steps,
                                .max_seconds = 3600,
                                .seed = 1 };
    CHECK_OK(rv_adapter_learn(&how, &done));
    return done;
}

TEST(corrections_become_a_version_only_when_it_is_better)
{
    static const char *const questions[] = { "when does the library open on mondays",
                                             "where is the key of the shed" };
    place p = place_new();
    rv_adapter_learned done = learn(&p, 5);
    CHECK(done.version == 0 && done.corrections == 0 && strstr(done.why, "nothing to learn"), "%s", done.why);
    for (size_t i = 0; i < 2; i++) {
        put_episode(&p, i, questions[i], "no idea",
                    i ? "under the mat beside the door" : "at nine in the morning, on all days");
    }
    done = learn(&p, 1); /* the first step of a warm-up moves next to nothing */
    CHECK(done.version == 0 && done.corrections == 2 && strstr(done.why, "refused"), "%s %g %g", done.why,
          done.before, done.after);
    CHECK(rv_adapters_in_use(p.adapters, p.model, "anna") == 0, "in use");
    done = learn(&p, 30);
    CHECK(done.version > 0 && done.after <= RV_ADAPTER_MARGIN * done.before, "%s: %g, %g", done.why,
          done.before, done.after);
    CHECK(rv_adapters_in_use(p.adapters, p.model, "anna") == done.version, "not in use");
    CHECK(rv_adapters_in_use(p.adapters, p.model, "") == 0, "in use for everybody");

    /* What stood must stand: answers that training would push away refuse the candidate. */
    for (size_t i = 0; i < 9; i++) {
        char question[64];
        snprintf(question, sizeof question, "%s %zu", questions[0], i);
        put_episode(&p, 10 + i, question, "at noon, at noon, at noon", NULL);
    }
    put_episode(&p, 30, questions[0], "no idea", "at four in the night and never else");
    rv_adapter_learned again = learn(&p, 30);
    CHECK(again.anchors == 9 && again.corrections == 3, "%zu anchors, %zu corrections", again.anchors,
          again.corrections);
    CHECK((again.version > 0) == (again.after <= RV_ADAPTER_MARGIN * again.before &&
                                  again.anchors_after <= RV_ADAPTER_ANCHOR_LIMIT * again.anchors_before),
          "%s", again.why);
    place_free(&p);
}

/* Somebody corrects an answer while it trains. */
typedef struct late_word {
    place *p;
    int64_t said_ms; /* 0: not yet */
} late_word;

static bool correct_meanwhile(void *self, size_t step, size_t steps, double loss)
{
    late_word *w = self;
    (void)steps, (void)loss;
    if (step == 5 && !w->said_ms) {
        w->said_ms = rv_clock_wall_ms();
        put_episode(w->p, (size_t)w->said_ms, "where is the key of the shed", "no idea", "under the mat");
        usleep(3000);
    }
    return true;
}

TEST(what_is_corrected_while_a_round_trains_is_news_for_the_next_one)
{
    place p = place_new();
    late_word late = { .p = &p };
    rv_adapter_learned done;
    rv_adapter_version v;
    int64_t learned_ms = 0;
    put_episode(&p, 0, "when does the library open on mondays", "no idea", "at nine in the morning");
    rv_adapter_learning how = { .db = p.db,
                                .adapters = p.adapters,
                                .engine = p.engine,
                                .prompt = prompt,
                                .user = "anna",
                                .rank = 4,
                                .max_steps = 20,
                                .max_seconds = 3600,
                                .seed = 1,
                                .on_step = correct_meanwhile,
                                .self = &late };
    CHECK_OK(rv_adapter_learn(&how, &done));
    CHECK(done.version > 0 && done.corrections == 1 && late.said_ms, "%s, of %zu corrections", done.why,
          done.corrections);
    CHECK_OK(rv_adapters_get(p.adapters, done.version, p.arena, &v));
    CHECK_OK(rv_adapters_learned_ms(p.adapters, p.model, "anna", &learned_ms));
    CHECK(v.created_ms < late.said_ms && learned_ms < late.said_ms, "said at %lld, known up to %lld",
          (long long)late.said_ms, (long long)learned_ms);
    place_free(&p);
}

/* Somebody goes to another version while it trains. */
typedef struct other_way {
    place *p;
    int64_t to;
} other_way;

static bool go_elsewhere(void *self, size_t step, size_t steps, double loss)
{
    const other_way *o = self;
    (void)steps, (void)loss;
    if (step == 5) {
        CHECK_OK(rv_adapters_use(o->p->adapters, o->p->model, "anna", o->to));
    }
    return true;
}

TEST(a_round_does_not_undo_what_was_done_while_it_trained)
{
    place p = place_new();
    rv_adapter_learned done;
    int64_t loaded = publish(&p, "anna", 3);
    put_episode(&p, 0, "when does the library open on mondays", "no idea", "at nine in the morning");
    int64_t first = learn(&p, 20).version;
    CHECK(first > loaded, "nothing learned");
    put_episode(&p, 1, "where is the key of the shed", "no idea", "under the mat beside the door");
    for (int back = 0; back < 2; back++) {
        other_way way = { &p, back ? loaded : 0 };
        CHECK_OK(rv_adapters_use(p.adapters, p.model, "anna", first));
        rv_adapter_learning how = { .db = p.db,
                                    .adapters = p.adapters,
                                    .engine = p.engine,
                                    .prompt = prompt,
                                    .user = "anna",
                                    .rank = 4,
                                    .max_steps = 20,
                                    .max_seconds = 3600,
                                    .seed = 1,
                                    .on_step = go_elsewhere,
                                    .self = &way };
        CHECK_OK(rv_adapter_learn(&how, &done));
        CHECK(done.version == 0 && strstr(done.why, "meanwhile"), "%s", done.why);
        CHECK(rv_adapters_in_use(p.adapters, p.model, "anna") == way.to, "it is undone");
    }
    place_free(&p);
}

/* A round that trains two factors on top of what is in use. */
static rv_adapter_learned learn_more(place *p, bool micro, bool protect, size_t steps)
{
    rv_adapter_learned done;
    rv_adapter_learning how = { .db = p->db,
                                .adapters = p->adapters,
                                .engine = p->engine,
                                .prompt = prompt,
                                .user = "anna",
                                .rank = micro ? 2 : 4,
                                .micro = micro,
                                .springs = protect ? 0.1F : 0,
                                .max_steps = steps,
                                .max_seconds = 3600,
                                .seed = 1 };
    CHECK_OK(rv_adapter_learn(&how, &done));
    return done;
}

TEST(a_micro_adapter_stands_on_its_base_until_both_are_consolidated)
{
    place p = place_new();
    rv_adapter_version v;
    size_t removed = 0;
    put_episode(&p, 0, "when does the library open on mondays", "no idea", "at nine in the morning");
    int64_t base = learn_more(&p, false, false, 20).version;
    CHECK(base > 0, "no base");
    float *with_base = logits(&p, "anna");
    put_episode(&p, 1, "where is the key of the shed", "no idea", "under the mat beside the door");
    int64_t first = learn_more(&p, true, false, 30).version;
    put_episode(&p, 2, "who has the boat this week", "no idea", "the neighbour with the red barn");
    int64_t second = learn_more(&p, true, false, 30).version;
    CHECK(first > 0 && second > first, "micro versions %lld, %lld", (long long)first, (long long)second);
    for (int i = 0; i < 2; i++) {
        rv_lora *own, *under;
        int64_t id = i ? second : first;
        CHECK_OK(rv_adapters_get(p.adapters, id, p.arena, &v));
        CHECK(v.base == base && strcmp(v.origin, "micro") == 0, "%s on %lld", v.origin, (long long)v.base);
        CHECK_OK(rv_adapters_open_files(p.adapters, p.engine, id, &own, &under));
        CHECK(own->pairs[RV_LFM2_DOWN].rank == 2 && under->pairs[RV_LFM2_DOWN].rank == 4, "ranks");
        rv_lora_close(own);
        rv_lora_close(under);
    }
    float *with_micro = logits(&p, "anna");
    CHECK(!same(&p, with_base, with_micro), "the micro adapter has no effect");
    close_store(&p);
    open_store(&p);
    CHECK(same(&p, with_micro, logits(&p, "anna")), "after a restart");

    rv_adapter_learned done = learn_more(&p, false, true, 30);
    CHECK(done.consolidated && done.discarded > 0 && done.discarded < 0.5 && done.held > 0,
          "consolidated %d, %g", done.consolidated, done.discarded);
    CHECK(done.version > second, "%s", done.why);
    CHECK_OK(rv_adapters_get(p.adapters, done.version, p.arena, &v));
    CHECK(v.base == 0 && v.parent == second && strcmp(v.origin, "learn") == 0, "%s on %lld", v.origin,
          (long long)v.base);
    CHECK_OK(rv_adapters_use(p.adapters, p.model, "anna", v.parent));
    CHECK(same(&p, with_micro, logits(&p, "anna")), "going back is not the version before");

    /* pruned to one, what is in use and what it stands on stay */
    CHECK_OK(rv_adapters_prune(p.adapters, 1, &removed));
    CHECK(removed == 1, "%zu removed", removed); /* the first micro adapter */
    CHECK(same(&p, with_micro, logits(&p, "anna")), "after pruning");
    CHECK_ERR(rv_adapters_get(p.adapters, first, p.arena, &v), RV_E_NOT_FOUND);
    const char *path;
    CHECK_OK(rv_adapters_path(p.adapters, first, p.arena, &path));
    CHECK(!rv_file_exists(path), "its file is there");
    CHECK_OK(rv_adapters_get(p.adapters, second, p.arena, &v));
    CHECK(v.parent == base, "from %lld", (long long)v.parent);

    /* a damaged base takes what stands on it along */
    CHECK_OK(rv_adapters_path(p.adapters, base, p.arena, &path));
    CHECK_OK(rv_file_replace(path, "GGUF nonsense", 13));
    close_store(&p);
    open_store(&p);
    const rv_lora *lora;
    CHECK_OK(rv_adapters_take(p.adapters, p.engine, "anna", NULL, &lora));
    CHECK(!lora, "a micro adapter without its base");
    rv_adapters_put(p.adapters, lora);
    CHECK_OK(rv_adapters_forget(p.adapters, "anna", 0, &removed));
    CHECK(removed == 3 && rv_adapters_in_use(p.adapters, p.model, "anna") == 0, "%zu removed", removed);
    place_free(&p);
}

/* The weights of what a round made, which fails without a version. */
static float *round_with(place *p, const rv_adapter_learning *settings, size_t *n)
{
    rv_adapter_learned done;
    rv_lora *own, *base;
    rv_adapter_learning how = *settings;
    how.db = p->db;
    how.adapters = p->adapters;
    how.engine = p->engine;
    how.prompt = prompt;
    how.user = "anna";
    how.rank = 4;
    how.max_steps = 20;
    how.max_seconds = 3600;
    how.seed = 1;
    CHECK_OK(rv_adapter_learn(&how, &done));
    CHECK(done.version > 0, "%s", done.why);
    CHECK_OK(rv_adapters_open_files(p->adapters, p->engine, done.version, &own, &base));
    float *weights = rv_new_array(&rv_heap, own->n_weights, sizeof *weights);
    CHECK(weights && !base, "weights");
    memcpy(weights, own->weights, own->n_weights * sizeof *weights);
    *n = own->n_weights;
    rv_lora_close(own);
    return weights;
}

static double apart(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return sqrt(sum);
}

TEST(batch_rate_and_springs_of_a_round_are_those_asked_for)
{
    place p = place_new();
    size_t n = 0, removed;
    put_episode(&p, 0, "when does the library open on mondays", "no idea", "at nine in the morning");
    float *usual = round_with(&p, &(rv_adapter_learning){ .batch = 0 }, &n);
    static const rv_adapter_learning others[] = { { .batch = 3 }, { .rate = 2e-2F } };
    for (size_t i = 0; i < RV_COUNT(others); i++) {
        CHECK_OK(rv_adapters_forget(p.adapters, "anna", 0, &removed));
        float *other = round_with(&p, &others[i], &n);
        CHECK(apart(usual, other, n) > 0, "setting %zu changes nothing", i);
        rv_free(&rv_heap, other);
    }
    rv_adapter_learning same = { .batch = RV_ADAPTER_BATCH, .rate = RV_ADAPTER_RATE };
    CHECK_OK(rv_adapters_forget(p.adapters, "anna", 0, &removed));
    float *again = round_with(&p, &same, &n);
    CHECK(apart(usual, again, n) == 0, "the usual, said");

    /* a second round, with what the first learned held loosely and then firmly */
    double moved[2];
    int64_t first = rv_adapters_in_use(p.adapters, p.model, "anna");
    put_episode(&p, 1, "where is the key of the shed", "no idea", "under the mat beside the door");
    for (int i = 0; i < 2; i++) {
        CHECK_OK(rv_adapters_use(p.adapters, p.model, "anna", first));
        float *next = round_with(&p, &(rv_adapter_learning){ .springs = i ? 1000 : 0.1F }, &n);
        moved[i] = apart(again, next, n);
        rv_free(&rv_heap, next);
    }
    CHECK(moved[1] < moved[0], "moved by %g when held loosely, by %g firmly", moved[0], moved[1]);
    rv_free(&rv_heap, usual);
    rv_free(&rv_heap, again);
    place_free(&p);
}

/* Says no when it is asked for the second time. */
typedef struct impatient {
    size_t asked, step; /* step: of the last time */
} impatient;

static bool once(void *self, size_t step, size_t steps, double loss)
{
    impatient *i = self;
    (void)steps, (void)loss;
    i->step = step;
    return ++i->asked < 2;
}

TEST(a_round_stops_while_it_looks_at_what_it_is_to_hold)
{
    place p = place_new();
    rv_adapter_learned done;
    impatient who = { 0 };
    put_episode(&p, 0, "when does the library open on mondays", "no idea", "at nine in the morning");
    CHECK(learn(&p, 20).version > 0, "no base");
    put_episode(&p, 1, "where is the key of the shed", "no idea", "under the mat beside the door");
    rv_adapter_learning how = { .db = p.db,
                                .adapters = p.adapters,
                                .engine = p.engine,
                                .prompt = prompt,
                                .user = "anna",
                                .rank = 4,
                                .springs = 0.1F,
                                .max_steps = 20,
                                .max_seconds = 3600,
                                .seed = 1,
                                .on_step = once,
                                .self = &who };
    CHECK_ERR(rv_adapter_learn(&how, &done), RV_E_CANCELLED);
    CHECK(who.asked == 2 && who.step == 0, "asked %zu times, then after step %zu", who.asked, who.step);
    place_free(&p);
}

TEST(an_exported_adapter_is_a_safetensors_file)
{
    place p = place_new();
    rv_lora *l = noise(&p, 1);
    const char *folder = temp_path("peft");
    char path[4096], *bytes = NULL;
    size_t n = 0;
    CHECK_OK(rv_lora_write_peft(l, folder, "base"));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    CHECK_OK(rv_file_read(&rv_heap, path, 1 << 24, &bytes, &n));
    uint64_t head;
    memcpy(&head, bytes, sizeof head);
    json_t *tensors = NULL, *config = NULL;
    CHECK(head % 8 == 0 && head + 8 < n, "header of %llu bytes", (unsigned long long)head);
    CHECK_OK(rv_json_parse(bytes + 8, head, &tensors));
    const json_t *b =
        json_object_get(tensors, "base_model.model.model.layers.0.feed_forward.w2.lora_B.weight");
    CHECK(b, "no lora_B");
    size_t from = (size_t)json_integer_value(json_array_get(json_object_get(b, "data_offsets"), 0));
    const rv_lora_pair *pair = &l->pairs[RV_LFM2_DOWN];
    float x;
    memcpy(&x, bytes + 8 + head + from + (3 * pair->rank + 1) * sizeof x, sizeof x);
    CHECK(x == pair->scale * pair->b[1 * pair->rows + 3], "B[3][1] is %g", (double)x);
    CHECK((size_t)json_array_size(json_object_get(b, "shape")) == 2, "shape");
    rv_free(&rv_heap, bytes);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    CHECK_OK(rv_file_read(&rv_heap, path, 1 << 24, &bytes, &n));
    CHECK_OK(rv_json_parse(bytes, n, &config));
    CHECK(json_integer_value(json_object_get(config, "r")) == 2 &&
              json_integer_value(json_object_get(config, "lora_alpha")) == 2,
          "rank and alpha");
    CHECK(json_array_size(json_object_get(config, "target_modules")) == 2, "targets");
    rv_free(&rv_heap, bytes);
    json_decref(tensors);
    json_decref(config);
    rv_lora_close(l);
    place_free(&p);
}

static rv_err take_engine(void *self, const char *model, rv_engine **out)
{
    place *p = self;
    if (strcmp(model, "m") != 0) {
        return rv_fail(RV_E_NOT_FOUND, "no model %s", model);
    }
    *out = p->engine;
    return RV_OK;
}

static void put_engine(void *self, rv_engine *engine)
{
    const place *p = self;
    CHECK(engine == p->engine, "another engine");
}

TEST(the_loop_learns_after_a_correction_and_stops_when_told)
{
    place p = place_new();
    put_episode(&p, 0, "when does the library open on mondays", "no idea", "at nine");
    rv_adapter_loop *loop = NULL;
    rv_adapter_loop_options how = { .learning = { .db = p.db,
                                                  .adapters = p.adapters,
                                                  .prompt = prompt,
                                                  .rank = 2,
                                                  .newest = 4,
                                                  .max_steps = 30,
                                                  .max_seconds = 3600,
                                                  .seed = 1 },
                                    .take = take_engine,
                                    .put = put_engine,
                                    .self = &p };
    CHECK_OK(rv_adapter_loop_new(&rv_heap, &how, &loop));
    rv_adapter_loop_notify(loop, "unknown", "anna"); /* reported, and nothing else */
    rv_adapter_loop_notify(loop, "m", "anna");
    rv_adapter_loop_wait(loop);
    CHECK(rv_adapters_in_use(p.adapters, p.model, "anna") > 0, "nothing was learned");
    for (int i = 0; i < 200; i++) {
        char user[16];
        snprintf(user, sizeof user, "u%d", i);
        rv_adapter_loop_notify(loop, "m", user);
    }
    rv_adapter_loop_notify(loop, "m", "anna");
    rv_adapter_loop_free(loop);
    CHECK(rv_adapters_in_use(p.adapters, p.model, "u0") == 0, "learned from nothing");
    place_free(&p);
}

typedef struct yielding {
    place *p;
    int takes, puts, asked;
} yielding;

static rv_err take_and_count(void *self, const char *model, rv_engine **out)
{
    yielding *y = self;
    y->takes++;
    return take_engine(y->p, model, out);
}

static void put_and_count(void *self, rv_engine *engine)
{
    yielding *y = self;
    y->puts++;
    put_engine(y->p, engine);
}

/* Somebody waits to forget, twice. */
static bool go_on(void *self)
{
    yielding *y = self;
    y->asked++;
    return y->asked != 3 && y->asked != 9;
}

TEST(the_loop_gives_its_engine_back_when_somebody_waits_and_begins_again)
{
    place p = place_new();
    yielding y = { .p = &p };
    rv_adapter_loop *loop = NULL;
    put_episode(&p, 0, "when does the library open on mondays", "no idea", "at nine");
    rv_adapter_loop_options how = { .learning = { .db = p.db,
                                                  .adapters = p.adapters,
                                                  .prompt = prompt,
                                                  .rank = 2,
                                                  .micro = true,
                                                  .newest = 4,
                                                  .max_steps = 30,
                                                  .max_seconds = 3600,
                                                  .seed = 1 },
                                    .take = take_and_count,
                                    .put = put_and_count,
                                    .go_on = go_on,
                                    .self = &y };
    CHECK_OK(rv_adapter_loop_new(&rv_heap, &how, &loop));
    rv_adapter_loop_notify(loop, "m", "anna");
    rv_adapter_loop_wait(loop);
    rv_adapter_loop_free(loop);
    CHECK(y.takes == 3 && y.puts == 3, "taken %d times, put %d", y.takes, y.puts);
    CHECK(rv_adapters_in_use(p.adapters, p.model, "anna") > 0, "nothing was learned");
    rv_loop_row *rows;
    size_t n;
    CHECK_OK(rv_loop_list(p.db, p.arena, &rows, &n));
    CHECK(n == 1 && strcmp(rows[0].loop, "instant") == 0 && strcmp(rows[0].stage, "adapters") == 0 &&
              rows[0].accepted && rows[0].after < rows[0].before,
          "%zu rows", n);
    place_free(&p);
}

/* What was learned from some questions changes no others. */
TEST(a_version_with_keys_is_used_for_questions_like_them_alone)
{
    place p = place_new();
    static const float keys[] = { 1, 0, 0, 0, 1, 0 }, like[] = { 0.8f, 0, 0.6f }, other[] = { 0.6f, 0, 0.8f };
    const struct {
        rv_adapter_question q;
        bool used;
    } cases[] = { { { "toy", like, 3 }, true },
                  { { "toy", other, 3 }, false },
                  { { "hash", like, 3 }, false },
                  { { "toy", like, 2 }, false } };
    rv_lora *l = noise(&p, 5);
    int64_t id;
    const rv_lora *got;
    rv_adapter_version v = { .model = p.model,
                             .user = "anna",
                             .origin = "learn",
                             .keys = keys,
                             .n_keys = 2,
                             .dim = 3,
                             .embedder = "toy" };
    CHECK_OK(rv_adapters_publish(p.adapters, &v, l, &id));
    for (int again = 0; again < 2; again++) { /* and after a restart */
        for (size_t i = 0; i < RV_COUNT(cases); i++) {
            CHECK_OK(rv_adapters_take(p.adapters, p.engine, "anna", &cases[i].q, &got));
            CHECK((got != NULL) == cases[i].used, "case %zu", i);
            rv_adapters_put(p.adapters, got);
        }
        CHECK_OK(rv_adapters_take(p.adapters, p.engine, "anna", NULL, &got));
        CHECK(!got, "a question nobody knows");
        close_store(&p);
        open_store(&p);
    }
    size_t removed;
    CHECK_OK(rv_adapters_forget(p.adapters, "anna", 0, &removed));
    CHECK(removed == 1, "%zu removed", removed);
    CHECK_OK(rv_adapters_take(p.adapters, p.engine, "anna", &cases[0].q, &got));
    CHECK(!got, "a forgotten one is used");
    rv_lora_close(l);
    place_free(&p);
}

TEST(of_versions_that_are_not_in_use_any_more_nothing_stays_in_memory)
{
    place p = place_new();
    static const float keys[] = { 1, 0, 0, 0, 1, 0 };
    const rv_adapter_question like = { "toy", keys, 3 };
    rv_lora *l = noise(&p, 5);
    const rv_lora *got;
    test_mem m;
    long live = 0;
    int64_t id;
    rv_adapter_version v = { .model = p.model,
                             .user = "anna",
                             .origin = "micro",
                             .keys = keys,
                             .n_keys = 2,
                             .dim = 3,
                             .embedder = "toy" };
    rv_adapters_close(p.adapters);
    test_mem_init(&m);
    CHECK_OK(rv_adapters_open(&m.alloc, p.db, NULL, &p.adapters));
    for (int i = 0; i < 8; i++) {
        CHECK_OK(rv_adapters_publish(p.adapters, &v, l, &id));
        CHECK_OK(rv_adapters_take(p.adapters, p.engine, "anna", &like, &got));
        CHECK(got, "no adapter");
        rv_adapters_put(p.adapters, got);
        live = i == 0 ? m.live : live;
        CHECK(m.live == live, "%ld blocks after %d versions, %ld after one", m.live, i + 1, live);
    }
    rv_lora_close(l);
    place_free(&p);
}

TEST(a_version_whose_questions_are_damaged_is_used_for_none_and_keeps_nobody_from_an_answer)
{
    place p = place_new();
    static const float keys[] = { 1, 0, 0 };
    static const char *const damages[] = { "UPDATE adapter_key SET keys = x'0011'",
                                           "UPDATE adapter_key SET dim = -1",
                                           "UPDATE adapter_key SET keys = ''" };
    const rv_adapter_question like = { "toy", keys, 3 };
    rv_lora *l = noise(&p, 5);
    rv_adapter_version v = { .model = p.model,
                             .user = "anna",
                             .origin = "learn",
                             .keys = keys,
                             .n_keys = 1,
                             .dim = 3,
                             .embedder = "toy" };
    for (size_t i = 0; i < RV_COUNT(damages); i++) {
        sqlite3 *conn;
        int64_t id;
        const rv_lora *got;
        CHECK_OK(rv_adapters_publish(p.adapters, &v, l, &id));
        CHECK_OK(rv_db_begin(p.db, &conn));
        CHECK_OK(rv_db_exec(conn, damages[i], ""));
        CHECK_OK(rv_db_commit(p.db));
        for (int again = 0; again < 2; again++) {
            CHECK_OK(rv_adapters_take(p.adapters, p.engine, "anna", &like, &got));
            CHECK(!got, "%s: it is used", damages[i]);
        }
    }
    rv_lora_close(l);
    place_free(&p);
}
