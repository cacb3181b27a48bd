/* Patterns: they are found, keep their identity, and say something only when a test allows it. */
#include "base/rng.h"
#include "learn/bank.h"
#include "learn/episode.h"
#include "learn/judge.h"
#include "learn/patterns.h"
#include "learn/welch.h"
#include "store/policy.h"
#include "store/witness.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DIM = 32 };
static const char *const models[] = { "small", "large" };

static rv_patterns *fresh(void)
{
    rv_patterns *p = NULL;
    CHECK_OK(rv_patterns_new(&rv_heap, DIM, models, 2, &p));
    return p;
}

/* Vectors around `groups` directions that are far from each other. */
static void fill(float *v, size_t n, size_t groups, uint64_t seed)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        double length = 0;
        for (size_t d = 0; d < DIM; d++) {
            v[i * DIM + d] = 0.1f * rv_rng_normal(&rng) / sqrtf(DIM) + (d == i % groups ? 1 : 0);
            length += (double)v[i * DIM + d] * v[i * DIM + d];
        }
        for (size_t d = 0; d < DIM; d++) {
            v[i * DIM + d] /= (float)sqrt(length);
        }
    }
}

TEST(groups_are_found_and_stay_the_same_over_twenty_cycles)
{
    static float v[400 * DIM];
    rv_patterns *p = fresh();
    rv_patterns_grown g;
    fill(v, 400, 5, 1);
    CHECK_OK(rv_patterns_learn(p, v, 400, 1, &g));
    size_t first = rv_patterns_count(p);
    CHECK(first >= 5 && g.found == first && g.moved == 0, "%zu patterns", first);
    for (uint64_t cycle = 2; cycle <= 20; cycle++) {
        fill(v, 400, 5, cycle);
        CHECK_OK(rv_patterns_learn(p, v, 400, cycle, &g));
    }
    CHECK(rv_patterns_count(p) <= first + 1, "%zu patterns became %zu", first, rv_patterns_count(p));
    CHECK_OK(rv_patterns_seal(p));
    CHECK_OK(rv_patterns_check(p));
    rv_patterns *q = NULL;
    CHECK_OK(rv_patterns_copy(p, &q));
    CHECK(rv_patterns_count(q) == rv_patterns_count(p), "copy");
    rv_patterns_free(q);
    rv_patterns_free(p);
}

TEST(welch_is_welch)
{
    /* p by Simpson's rule over the density of t, 400,000 steps */
    const struct {
        double ma, va, na, mb, vb, nb, p;
    } known[] = { { 0.8, 0.04, 20, 0.6, 0.09, 25, 0.0053434 },
                  { 0.5, 0.25, 10, 0.5, 0.25, 10, 0.5 },
                  { 1, 1, 5, 3, 2, 8, 0.9935772 } };
    for (size_t i = 0; i < RV_COUNT(known); i++) {
        double p = rv_welch(known[i].ma, known[i].va, known[i].na, known[i].mb, known[i].vb, known[i].nb, 0);
        CHECK(fabs(p - known[i].p) < 1e-6, "%zu: %.7f, expected %.7f", i, p, known[i].p);
    }
    CHECK(rv_welch(1, 0, 1, 0, 0, 9, 0) == 1 && rv_welch(1, 0, 9, 0, 0, 9, 0) == 0, "edges");
}

/* n answers of a model to questions of group 0, of which share were good. */
static void answers(rv_patterns *p, const float *v, size_t model, size_t n, double share, double weight,
                    bool trusted)
{
    for (size_t i = 0; i < n; i++) {
        CHECK(rv_patterns_observe(p, v, model, (double)i < share * (double)n ? 1 : 0, weight, trusted),
              "no pattern");
    }
}

TEST(advice_stands_a_test_or_is_none)
{
    static float v[60 * DIM];
    const struct {
        size_t n;
        double small, large;
        size_t usual, advised;
    } cases[] = {
        { 19, 1, 0, 1, 8 },    /* too few */
        { 400, .9, .9, 1, 0 }, /* the cheaper one is as good */
        { 400, .6, .9, 1, 8 }, /* it is worse */
        { 25, .9, .9, 1, 8 },  /* it may be worse: nobody knows */
        { 60, .5, .9, 0, 1 },  /* the other one is better */
        { 60, .8, .85, 0, 8 }, /* it may be better: nobody knows */
    };
    fill(v, 60, 2, 3);
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        rv_patterns *p = fresh();
        rv_patterns_grown g;
        CHECK_OK(rv_patterns_learn(p, v, 60, 1, &g));
        CHECK_OK(rv_patterns_seal(p));
        answers(p, v, 0, cases[i].n, cases[i].small, 1, true);
        answers(p, v, 1, cases[i].n, cases[i].large, 1, true);
        rv_pattern_advice a = rv_patterns_advise(p, rv_patterns_find(p, v, NULL), cases[i].usual);
        CHECK(a.model == cases[i].advised, "case %zu: %zu (p %g, difference %g)", i, a.model, a.p,
              a.difference);
        rv_patterns_free(p);
    }
}

/* However many words of a judge that is not trusted: one rating outweighs them, and they never lead to advice. */
TEST(doubted_words_weigh_no_more_than_one_rating)
{
    static float v[60 * DIM];
    rv_patterns_grown g;
    rv_patterns *p = fresh();
    fill(v, 60, 2, 3);
    CHECK_OK(rv_patterns_learn(p, v, 60, 1, &g));
    CHECK_OK(rv_patterns_seal(p));
    size_t at = rv_patterns_find(p, v, NULL);
    answers(p, v, 1, 1000, 0, RV_JUDGE_PRIOR, false);
    answers(p, v, 0, 1000, 1, RV_JUDGE_PRIOR, false);
    CHECK(rv_patterns_advise(p, at, 1).model == RV_PATTERN_MODELS &&
              rv_patterns_advise(p, at, 0).model == RV_PATTERN_MODELS,
          "advice");
    double doubted = rv_patterns_expect(p, at, 1);
    answers(p, v, 1, 4, 1, 1, true);
    CHECK(fabs(doubted) < 1e-9, "nothing else is known, and all words say 0: %g", doubted);
    CHECK(rv_patterns_expect(p, at, 1) > 0.5, "four ratings against a thousand words: %g",
          rv_patterns_expect(p, at, 1));
    rv_patterns_free(p);
}

TEST(bytes_come_back_and_damaged_ones_are_refused)
{
    static float v[200 * DIM];
    rv_patterns_grown g;
    rv_patterns *p = fresh(), *q = NULL;
    fill(v, 200, 6, 4);
    CHECK_OK(rv_patterns_learn(p, v, 200, 1, &g));
    CHECK_OK(rv_patterns_seal(p));
    answers(p, v, 1, 30, .5, 1, true);
    size_t n = rv_patterns_bytes(p);
    uint8_t *bytes = rv_new(&rv_heap, n);
    rv_patterns_write(p, bytes);
    CHECK_OK(rv_patterns_read(&rv_heap, bytes, n, &q));
    CHECK_OK(rv_patterns_seal(q));
    CHECK(rv_patterns_count(q) == rv_patterns_count(p) && rv_patterns_model(q, "large") == 1 &&
              rv_patterns_model(q, "x") == RV_PATTERN_MODELS,
          "read");
    for (size_t i = 0; i < 200; i++) {
        float a, b;
        CHECK(rv_patterns_find(p, v + i * DIM, &a) < SIZE_MAX &&
                  rv_patterns_find(q, v + i * DIM, &b) < SIZE_MAX && fabsf(a - b) < 0.01f,
              "%zu: %g %g", i, (double)a, (double)b);
    }
    CHECK(fabs(rv_patterns_expect(p, 0, 1) - rv_patterns_expect(q, 0, 1)) < 1e-5, "outcomes");
    rv_patterns_free(q);
    for (size_t cut = 0; cut < n; cut += 1 + n / 50) {
        CHECK(rv_patterns_read(&rv_heap, bytes, cut, &q) == RV_E_FORMAT, "cut at %zu", cut);
    }
    for (size_t at = 0; at < 48;
         at++) { /* in the header nothing may be changed to something that is read beyond the end */
        bytes[at] ^= 0xff;
        rv_err e = rv_patterns_read(&rv_heap, bytes, n, &q);
        CHECK(e == RV_E_FORMAT || e == RV_E_CORRUPT || !e, "byte %zu", at);
        if (!e) {
            rv_patterns_free(q);
        }
        bytes[at] ^= 0xff;
    }
    rv_free(&rv_heap, bytes);
    rv_patterns_free(p);
}

TEST(lists_find_what_looking_at_all_finds)
{
    enum { N = 6000, D = DIM };
    static float v[N * D];
    rv_patterns *p = fresh();
    rv_patterns_grown g;
    rv_rng rng;
    rv_rng_init(&rng, 9);
    for (size_t i = 0; i < N * D; i++) {
        v[i] = rv_rng_normal(&rng);
    }
    for (size_t i = 0; i < N; i++) {
        double length = 0;
        for (size_t d = 0; d < D; d++) {
            length += (double)v[i * D + d] * v[i * D + d];
        }
        for (size_t d = 0; d < D; d++) {
            v[i * D + d] /= (float)sqrt(length);
        }
    }
    for (size_t i = 0; i < N; i += 3) { /* three times the same vector is a pattern */
        memcpy(v + (i + 1) * D, v + i * D, D * sizeof *v);
        memcpy(v + (i + 2) * D, v + i * D, D * sizeof *v);
    }
    for (size_t i = 0; i < N; i += 30) { /* ten groups a cycle: few enough that each gets a centre */
        CHECK_OK(rv_patterns_learn(p, v + i * D, 30, i, &g));
    }
    CHECK_OK(rv_patterns_seal(p));
    size_t same = 0;
    for (size_t i = 0; i < N; i += 3) {
        same += rv_patterns_find(p, v + i * D, NULL) == rv_patterns_exact(p, v + i * D, NULL);
    }
    CHECK(same >= N / 3 * 95 / 100, "%zu of %d", same, N / 3);
    rv_patterns_free(p);
}

/* ---- the bank, on a store ---- */

static rv_db *opened(const char *dir)
{
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK_OK(rv_witness_setup(db));
    CHECK_OK(rv_policy_setup(db));
    CHECK_OK(rv_episode_setup(db));
    CHECK_OK(rv_judge_setup(db));
    return db;
}

/* Two kinds of questions; the small model is good at bakeries, and bad at trains. */
static void ask(rv_db *db, size_t from, size_t n)
{
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    for (size_t i = from; i < from + n; i++) {
        char id[40], question[96];
        bool bakery = i % 2, small = i / 2 % 2;
        snprintf(id, sizeof id, "r%zu", i);
        snprintf(question, sizeof question,
                 bakery ? "when does the bakery shop in street %zu open for bread"
                        : "which train platform goes north to city %zu",
                 i);
        rv_episode e = { .request_id = id,
                         .session_id = "s",
                         .question = question,
                         .answer = "a",
                         .model = small ? "small" : "large",
                         .created_ms = (int64_t)i + 1 };
        CHECK_OK(rv_episode_append(conn, &e));
        CHECK_OK(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, 'rating', ?2, '', 0, ?3)", "tii", id,
                            (int64_t)(bakery || !small ? 5 : 1), (int64_t)i + 1));
    }
    CHECK_OK(rv_db_commit(db));
}

TEST(a_model_with_a_long_name_is_left_out_and_the_others_are_learned)
{
    static const char *const three[] = {
        "small", "a-model-whose-file-says-all-that-there-is-to-say-of-it-from-its-size-to-its-quants", "large"
    };
    rv_db *db = opened(temp_path("data"));
    rv_embed *embed;
    rv_bank *bank;
    rv_bank_learned done;
    rv_pattern_advice advice;
    char model[RV_PATTERN_NAME];
    float v[4096];
    const char *bakery = "when does the bakery shop in street 7 open for bread";
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &embed));
    CHECK_OK(rv_bank_open(&rv_heap, db, embed, &bank));
    CHECK_OK(rv_embed_text(embed, bakery, strlen(bakery), v));
    ask(db, 0, 1000);
    CHECK_OK(rv_bank_learn(bank, three, 3, 1, NULL, &done));
    CHECK(done.accepted && rv_bank_advise(bank, v, "large", model, &advice) && strcmp(model, "small") == 0,
          "%s", done.why);
    CHECK(!rv_bank_advise(bank, v, three[1], model, &advice), "advice for a model that is not there");
    rv_bank_close(bank);
    rv_embed_close(embed);
    rv_db_close(db);
}

TEST(answers_that_are_rated_later_are_counted_also_when_the_patterns_stay)
{
    rv_db *db = opened(temp_path("data"));
    rv_embed *embed;
    rv_bank *bank;
    rv_bank_learned done;
    rv_pattern_advice advice;
    char model[RV_PATTERN_NAME];
    float v[4096];
    const char *bakery = "when does the bakery shop in street 7 open for bread";
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &embed));
    CHECK_OK(rv_bank_open(&rv_heap, db, embed, &bank));
    CHECK_OK(rv_embed_text(embed, bakery, strlen(bakery), v));
    ask(db, 0, 1000);
    CHECK_OK(rv_bank_learn(bank, models, 2, 1, NULL, &done));
    CHECK(done.accepted && rv_bank_advise(bank, v, "large", model, &advice) && strcmp(model, "small") == 0,
          "%s", done.why);
    /* the same questions; but now it turns out that the small model was wrong */
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_db_exec(conn,
                        "UPDATE feedback SET rating = 1 + created_ms % 3 / 2 WHERE request_id IN (SELECT "
                        "request_id FROM episode "
                        "WHERE model = 'small')",
                        ""));
    CHECK_OK(rv_db_commit(db));
    CHECK_OK(rv_bank_learn(bank, models, 2, 1, NULL, &done));
    CHECK(!rv_bank_advise(bank, v, "large", model, &advice), "still advised: %s", done.why);
    rv_bank_close(bank);
    rv_embed_close(embed);
    rv_db_close(db);
}

/* Many times the same vector, at an angle. */
static void learn_at(rv_patterns *p, double angle, size_t n)
{
    float v[64 * 2];
    rv_patterns_grown grown;
    for (size_t i = 0; i < n; i++) {
        v[2 * i] = (float)cos(angle);
        v[2 * i + 1] = (float)sin(angle);
    }
    CHECK_OK(rv_patterns_learn(p, v, n, 1, &grown));
}

TEST(patterns_that_came_to_be_alike_become_one_and_spent_ones_go)
{
    rv_patterns *p;
    CHECK_OK(rv_patterns_new(&rv_heap, 2, models, 2, &p));
    learn_at(p, 0, 8);
    learn_at(p, 0.7, 8); /* cosine 0.76 */
    learn_at(p, 2, 4);
    CHECK(rv_patterns_count(p) == 3, "%zu patterns", rv_patterns_count(p));
    rv_patterns_pruned none = rv_patterns_prune(p);
    CHECK(none.merged == 0 && none.dropped == 0 && rv_patterns_count(p) == 3, "pruned too early");
    for (int i = 0; i < 120; i++) { /* the second moves towards the first, the third is not seen again */
        learn_at(p, 0.7 - 0.02 * (i < 20 ? i : 20), 40);
    }
    rv_patterns_pruned done = rv_patterns_prune(p);
    CHECK(done.merged == 1 && done.dropped == 1 && rv_patterns_count(p) == 1,
          "%zu merged, %zu dropped, %zu left", done.merged, done.dropped, rv_patterns_count(p));
    CHECK_OK(rv_patterns_check(p));
    rv_patterns_free(p);
}

/* Gives way while it reads, or something is forgotten while it learns. */
typedef struct watched {
    bool gives_way, forgotten;
    int left, entered;
} watched;

static bool go_on(void *self)
{
    return !((watched *)self)->gives_way;
}
static void leave(void *self)
{
    ((watched *)self)->left++;
}
static bool enter(void *self)
{
    ((watched *)self)->entered++;
    return !((watched *)self)->forgotten;
}

TEST(the_bank_learns_what_holds_on_answers_it_did_not_count_and_advises)
{
    const char *dir = temp_path("data");
    rv_db *db = opened(dir);
    rv_embed *embed;
    rv_bank *bank;
    rv_bank_learned done;
    rv_pattern_advice advice;
    char model[RV_PATTERN_NAME];
    float v[4096];
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &embed));
    CHECK_OK(rv_bank_open(&rv_heap, db, embed, &bank));
    ask(db, 0, 20);
    CHECK_OK(rv_bank_learn(bank, models, 2, 1, NULL, &done));
    CHECK(!done.accepted && done.version == 0, "too few: %s", done.why);
    ask(db, 20, 1980);
    watched waits = { .gives_way = true }, late = { .forgotten = true };
    rv_gate gate = { go_on, leave, enter, &waits };
    CHECK_ERR(rv_bank_learn(bank, models, 2, 1, &gate, &done), RV_E_CANCELLED);
    gate.self = &late;
    CHECK_ERR(rv_bank_learn(bank, models, 2, 1, &gate, &done), RV_E_CANCELLED);
    CHECK(waits.left == 0 && late.left == 1 && late.entered == 1, "left %d and %d times", waits.left,
          late.left);
    CHECK_OK(rv_bank_learn(bank, models, 2, 1, NULL, &done));
    CHECK(done.accepted && done.after < 0.5 * done.before && done.patterns >= 2, "%s, %zu patterns", done.why,
          done.patterns);
    const char *bakery = "when does the bakery shop in street 7 open for bread",
               *train = "which train platform goes north to city 9";
    CHECK_OK(rv_embed_text(embed, bakery, strlen(bakery), v));
    CHECK(rv_bank_advise(bank, v, "large", model, &advice) && strcmp(model, "small") == 0 && advice.cheaper,
          "bakery: %s", done.why);
    CHECK_OK(rv_embed_text(embed, train, strlen(train), v));
    CHECK(!rv_bank_advise(bank, v, "large", model, &advice), "train: %s", model);
    CHECK(rv_bank_advise(bank, v, "small", model, &advice) && strcmp(model, "large") == 0 && !advice.cheaper,
          "train");
    CHECK(!rv_bank_advise(bank, v, "unknown", model, &advice), "a model nobody knows");
    int64_t first = done.version;
    CHECK_OK(rv_bank_learn(bank, models, 2, 1, NULL, &done));
    CHECK(!done.accepted && done.episodes == 0, "nothing new, and accepted: %s", done.why);
    rv_patterns_pruned pruned;
    CHECK_OK(rv_bank_prune(bank, &pruned, &done));
    CHECK(pruned.merged + pruned.dropped == 0 ? done.version == 0
                                              : done.after <= done.before || !done.accepted,
          "%zu merged, %zu dropped: %s", pruned.merged, pruned.dropped, done.why);
    rv_bank_close(bank);

    /* taken back: not learned again from the same feedback */
    sqlite3 *conn;
    int64_t version;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_policy_rollback(conn, RV_BANK_POLICY, "test", &version));
    CHECK_OK(rv_db_commit(db));
    CHECK_OK(rv_bank_open(&rv_heap, db, embed, &bank));
    CHECK_OK(rv_bank_learn(bank, models, 2, 1, NULL, &done));
    CHECK(!done.accepted && done.version == 0 && strstr(done.why, "taken back"), "%s", done.why);
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_db_exec(conn, "UPDATE policy SET created_ms = 1500", "")); /* some answers were rated since */
    CHECK_OK(rv_db_commit(db));
    CHECK_OK(rv_bank_learn(bank, models, 2, 1, NULL, &done));
    CHECK(done.held > 0 && done.version > first, "%s", done.why);
    rv_bank_close(bank);

    /* a damaged version: the one before it, here none */
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_db_exec(conn,
                        "UPDATE policy SET bytes = zeroblob(100) WHERE kind = 'patterns' AND version >= ?1",
                        "i", first));
    CHECK_OK(rv_db_commit(db));
    CHECK_OK(rv_bank_open(&rv_heap, db, embed, &bank));
    CHECK(!rv_bank_advise(bank, v, "small", model, &advice), "advice of a damaged version");
    rv_bank_close(bank);
    rv_embed_close(embed);
    rv_db_close(db);
}
