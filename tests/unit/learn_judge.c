/* Judges: measured on pairs that people decided; what is not right often enough never weighs more than knowing nothing; unrated answers get
 * their word, rated ones never. */
#include "learn/episode.h"
#include "learn/judge.h"
#include "memory_helpers.h"
#include "store/policy.h"
#include "store/witness.h"

static rv_err test_prompt(const char *question, const char *const *passages, size_t n, json_t **out)
{
    (void)passages, (void)n;
    *out = json_pack("[{s:s, s:s}]", "role", "user", "content", question);
    return *out ? RV_OK : rv_fail(RV_E_NOMEM, "test");
}

/* A judge that says what the answer says. */
static rv_err says(const rv_judge *j, const rv_judge_case *c, double *quality)
{
    (void)j;
    *quality = c->answer[0] == '?' ? (double)NAN : (c->answer[0] - '0') / 9.0;
    return RV_OK;
}
static const rv_judge honest = { .name = "honest", .score = says };

/* n pairs of which it is right on the first `right`. */
static rv_judge_measured measured(size_t right, size_t n)
{
    static rv_judge_pair pairs[1000];
    rv_judge_measured m;
    for (size_t i = 0; i < n; i++) {
        pairs[i] = (rv_judge_pair){ { .question = "q", .answer = "9" },
                                    { .question = "q", .answer = "1" },
                                    i < right ? 1 : 2 };
    }
    CHECK_OK(rv_judge_measure(&honest, pairs, n, NULL, NULL, &m));
    return m;
}

TEST(a_judge_is_right_as_often_as_it_agrees_with_people)
{
    rv_judge_pair pairs[] = {
        { { .question = "q", .answer = "5" }, { .question = "q", .answer = "2" }, 1 },
        { { .question = "q", .answer = "5" }, { .question = "q", .answer = "2" }, 2 },
        { { .question = "q", .answer = "3" }, { .question = "q", .answer = "3" }, 1 },
        { { .question = "q", .answer = "?" }, { .question = "q", .answer = "3" }, 2 },
        { { .question = "q", .answer = "1" }, { .question = "q", .answer = "2" }, 0 },
    };
    rv_judge_measured m;
    CHECK_OK(rv_judge_measure(&honest, pairs, RV_COUNT(pairs), NULL, NULL, &m));
    CHECK(m.pairs == 4 && m.ties == 1 && m.unjudged == 2 && m.right == 0.5, "%zu %zu %zu %g", m.pairs, m.ties,
          m.unjudged, m.right);
}

TEST(below_seventy_per_cent_it_weighs_no_more_than_knowing_nothing)
{
    for (size_t right = 0; right <= 1000; right += 10) {
        rv_judge_measured m = measured(right, 1000);
        double trust = rv_judge_trust_of(&honest, &m);
        CHECK(right < 700 ? trust <= RV_JUDGE_PRIOR : trust == RV_JUDGE_TRUST, "%zu of 1000 right: %g", right,
              trust);
    }
    rv_judge words = rv_judge_heuristic();
    rv_judge_measured all = measured(1000, 1000);
    CHECK(rv_judge_trust_of(&words, &all) == RV_JUDGE_PRIOR, "one that counts words is trusted");
    rv_judge_measured few = measured(50, 50);
    CHECK(rv_judge_trust_of(&honest, &few) == RV_JUDGE_PRIOR, "all of only 50 right: %g",
          rv_judge_trust_of(&honest, &few));
}

static void open_place(store *s)
{
    *s = store_open(temp_path("data"));
    CHECK_OK(rv_witness_setup(s->db));
    CHECK_OK(rv_policy_setup(s->db));
    CHECK_OK(rv_episode_setup(s->db));
    CHECK_OK(rv_judge_setup(s->db));
}

TEST(what_was_measured_and_kept_decides)
{
    store s;
    double trust;
    open_place(&s);
    CHECK_OK(rv_judge_trust(s.db, &honest, &trust));
    CHECK(trust == RV_JUDGE_PRIOR, "not measured: %g", trust);
    rv_judge_measured good = measured(800, 1000), bad = measured(690, 1000);
    CHECK_OK(rv_judge_keep(s.db, &honest, &good));
    CHECK_OK(rv_judge_trust(s.db, &honest, &trust));
    CHECK(trust == RV_JUDGE_TRUST, "80 %%: %g", trust);
    rv_judge other = { .name = "other" };
    CHECK_OK(rv_judge_trust(s.db, &other, &trust));
    CHECK(trust == RV_JUDGE_PRIOR, "another judge: %g", trust);
    CHECK_OK(rv_judge_keep(s.db, &honest, &bad));
    CHECK_OK(rv_judge_trust(s.db, &honest, &trust));
    CHECK(trust == RV_JUDGE_PRIOR, "69 %% since: %g", trust);
    store_close(&s);
}

static void episode(store *s, const char *id, const char *answer, int64_t ms)
{
    sqlite3 *conn;
    rv_episode e = {
        .request_id = id, .session_id = "s", .question = "q", .answer = answer, .model = "m", .created_ms = ms
    };
    CHECK_OK(rv_db_begin(s->db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_commit(s->db));
}

TEST(only_unrated_answers_are_judged_once_newest_first)
{
    store s;
    size_t n;
    rv_feedback_done done;
    open_place(&s);
    episode(&s, "a", "1", 1);
    episode(&s, "b", "9", 2);
    episode(&s, "c", "?", 3);
    episode(&s, "d", "5", 4);
    CHECK_OK(rv_feedback_store(s.db, s.m, &(rv_feedback){ .request_id = "d", .rating = 1 }, &done));
    CHECK_OK(rv_judge_fill(s.db, s.m, &honest, 0.3, INFINITY, 1, &n));
    CHECK(n == 1, "%zu", n);
    CHECK_OK(rv_judge_fill(s.db, s.m, &honest, 0.3, INFINITY, 100, &n));
    CHECK(n == 2, "%zu", n);
    CHECK_OK(rv_judge_fill(s.db, s.m, &honest, 0.3, INFINITY, 100, &n));
    CHECK(n == 0, "%zu again", n);
    CHECK_OK(rv_judge_fill(s.db, s.m, &honest, 0.3, 0, 100, &n));
    CHECK(n == 0, "%zu after the deadline", n);
    sqlite3 *conn;
    int64_t rows = 0, weighed = 0;
    CHECK_OK(rv_db_reader(s.db, &conn));
    CHECK_OK(rv_db_int(conn, &rows, "SELECT count(*) FROM judged", ""));
    CHECK_OK(rv_db_int(conn, &weighed,
                       "SELECT sum(round(quality * 9) * 10 + (trust = 0.3)) FROM judged WHERE trust > 0",
                       ""));
    rv_db_reader_done(s.db, conn);
    CHECK(rows == 3 && weighed == 102, "%lld rows, %lld", (long long)rows, (long long)weighed);
    store_close(&s);
}

TEST(an_answer_that_is_damaged_keeps_no_others_from_being_judged)
{
    store s;
    sqlite3 *conn;
    size_t n = 0;
    CHECK_OK(store_open_with(&rv_heap, temp_dir(), toy, &s));
    CHECK_OK(rv_witness_setup(s.db));
    CHECK_OK(rv_policy_setup(s.db));
    CHECK_OK(rv_episode_setup(s.db));
    CHECK_OK(rv_judge_setup(s.db));
    CHECK_OK(rv_db_begin(s.db, &conn));
    for (int i = 0; i < 3; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%d", i);
        rv_episode e = { .request_id = id,
                         .session_id = "s",
                         .question = "q",
                         .answer = "7",
                         .model = "m",
                         .created_ms = i + 1 };
        CHECK_OK(rv_episode_append(conn, &e));
    }
    CHECK_OK(rv_db_exec(conn, "UPDATE episode SET sources = '[1,' WHERE request_id = 'r2'", ""));
    CHECK_OK(rv_db_commit(s.db));
    CHECK_OK(rv_judge_fill(s.db, s.m, &honest, 0.3, INFINITY, 100, &n));
    CHECK(n == 3, "%zu", n);
    CHECK_OK(rv_judge_fill(s.db, s.m, &honest, 0.3, INFINITY, 100, &n));
    CHECK(n == 0, "%zu again", n);
    store_close(&s);
}

TEST(a_model_gives_the_expectation_over_its_digits_or_none)
{
    rv_engine *engine;
    CHECK_OK(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"),
                            rv_engine_options_default(), &engine));
    rv_judge j = rv_judge_model(engine, test_prompt);
    double first = 2, second = 3;
    CHECK_OK(j.score(&j, &(rv_judge_case){ .question = "q", .answer = "a" }, &first));
    CHECK_OK(j.score(&j, &(rv_judge_case){ .question = "q", .answer = "a" }, &second));
    CHECK((isnan(first) && isnan(second)) || (first == second && first >= 0 && first <= 1), "%g %g", first,
          second);
    CHECK(strncmp(j.name, "model ", 6) == 0 && strlen(j.name) == 22, "%s", j.name);
    rv_engine_close(engine);
}

TEST(words_that_say_something_count_and_refusals_do_not)
{
    rv_judge h = rv_judge_heuristic();
    double long_one, repeated, echo, refusal;
    const char *q = "Where is the bakery?";
    CHECK_OK(h.score(&h, &(rv_judge_case){ .question = q, .answer = "In Elm Street, beside the old mill." },
                     &long_one));
    CHECK_OK(h.score(&h,
                     &(rv_judge_case){ .question = q, .answer = "mill mill mill mill mill mill mill mill" },
                     &repeated));
    CHECK_OK(h.score(
        &h, &(rv_judge_case){ .question = q, .answer = "Where is the bakery, where is the bakery" }, &echo));
    CHECK_OK(h.score(&h, &(rv_judge_case){ .question = q, .answer = "Not in the passages." }, &refusal));
    CHECK(long_one > repeated && long_one > echo && long_one > refusal, "%g %g %g %g", long_one, repeated,
          echo, refusal);
}
