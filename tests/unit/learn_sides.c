/* What words and vectors are worth on a store, measured where feedback tells what was of use. */
#include "learn/sides.h"
#include "deep_helpers.h"

#include <math.h>

enum { QUESTIONS = 110, DECOYS = 12 };

/* Questions in other forms of the words of what answers them, so that only parts of words tell, and with one word that stands in many
 * texts beside the point. */
static void fill(place *p, int questions, int rating)
{
    for (int i = 0; i < DECOYS; i++) {
        char text[64];
        snprintf(text, sizeof text, "qix %s", word(10000 + i));
        add(p, NULL, text);
    }
    for (int i = 0; i < questions; i++) {
        const char *a = word(2 * i), *b = word(2 * i + 1);
        char text[64], question[64];
        snprintf(text, sizeof text, "%s %s", a, b);
        snprintf(question, sizeof question, "qix %szq %szq", a, b);
        rate(p, i, "", question, add(p, NULL, text), rating);
    }
}

/* Of the first question: the score of the best hit. */
static double first_score(place *p, double weight)
{
    char question[64];
    rv_arena *arena;
    rv_memory_hits hits;
    snprintf(question, sizeof question, "qix %szq %szq", word(0), word(1));
    CHECK_OK(rv_arena_new(&rv_heap, 8 << 20, &arena));
    rv_memory_query q = { .text = question, .k = 1, .vector_weight = weight };
    CHECK_OK(rv_memory_search(p->s.m, rv_memory_of(NULL), &q, arena, &hits));
    CHECK(hits.n == 1, "%zu hits", hits.n);
    double score = hits.at[0].score;
    rv_arena_free(arena);
    return score;
}

TEST(the_weight_follows_the_ratio_of_both_sides_within_bounds)
{
    double before = 0;
    for (int i = 0; i <= 20; i++) {
        double weight = rv_sides_weight(0.5, i / 20.0);
        CHECK(weight >= before && weight >= 0.1 && weight <= 4, "%d: %g after %g", i, weight, before);
        before = weight;
    }
    CHECK(rv_sides_weight(0, 0) == 4 && rv_sides_weight(1, 0) == 0.1, "ends");
    CHECK(rv_sides_weight(0.5, 0.5) == rv_sides_weight(0.9, 0.9), "only the ratio counts");
}

TEST(vectors_weigh_more_where_they_find_more_until_it_is_taken_back)
{
    const char *dir = temp_path("data");
    place p;
    rv_loop_report r;
    place_open(dir, &p);
    fill(&p, QUESTIONS, 5);
    double unmeasured = first_score(&p, 0), measured = first_score(&p, 4);
    CHECK(unmeasured != measured, "both %g", measured);
    CHECK_OK(rv_deep_weigh_sides(&p.deep, &r));
    CHECK(r.accepted && r.after > r.before && r.changed == 1, "%s: %g, then %g", r.why, r.before, r.after);
    CHECK(fabs(first_score(&p, 0) - measured) < 1e-9, "%g, %g", first_score(&p, 0), measured);
    CHECK_OK(rv_deep_weigh_sides(&p.deep, &r));
    CHECK(!r.accepted && r.before == r.after, "again: %s", r.why);

    place_close(&p); /* it lasts */
    place_open(dir, &p);
    int64_t version;
    CHECK(fabs(first_score(&p, 0) - unmeasured) < 1e-9, "before it was settled");
    CHECK_OK(rv_sides_settle(p.s.db, p.s.m, &version));
    CHECK(version == 1 && fabs(first_score(&p, 0) - measured) < 1e-9, "version %lld", (long long)version);

    sqlite3 *conn;
    CHECK_OK(rv_db_begin(p.s.db, &conn));
    CHECK_OK(rv_policy_rollback(conn, RV_SIDES_POLICY, "test", &version));
    CHECK_OK(rv_db_commit(p.s.db));
    CHECK_OK(rv_sides_settle(p.s.db, p.s.m, &version));
    CHECK(version == 0 && fabs(first_score(&p, 0) - unmeasured) < 1e-9, "after going back");
    CHECK_OK(rv_deep_weigh_sides(&p.deep, &r));
    CHECK(!r.accepted && strstr(r.why, "taken back"), "measured again: %s", r.why);
    place_close(&p);
}

TEST(one_damaged_answer_keeps_no_others_from_being_learned_from)
{
    place p;
    rv_loop_report r;
    sqlite3 *conn;
    place_open(temp_path("data"), &p);
    fill(&p, QUESTIONS, 5);
    CHECK_OK(rv_db_begin(p.s.db, &conn));
    CHECK_OK(
        rv_db_exec(conn,
                   "UPDATE episode SET sources = '[1,' WHERE request_id IN (SELECT request_id FROM episode "
                   "ORDER BY created_ms DESC LIMIT 1)",
                   ""));
    CHECK_OK(rv_db_commit(p.s.db));
    CHECK_OK(rv_deep_weigh_sides(&p.deep, &r));
    CHECK(r.accepted && r.after > r.before, "%s: %g, then %g", r.why, r.before, r.after);
    place_close(&p);
}

static bool after_the_first(void *self)
{
    return (*(int *)self)++ < 1;
}

TEST(who_waits_for_it_ends_the_measuring)
{
    place p;
    rv_loop_report r;
    int asked = 0;
    place_open(temp_path("data"), &p);
    fill(&p, QUESTIONS, 5);
    double unmeasured = first_score(&p, 0);
    p.deep.go_on = after_the_first;
    p.deep.self = &asked;
    CHECK_OK(rv_deep_weigh_sides(&p.deep, &r));
    CHECK(asked == 2 && !r.accepted && strstr(r.why, "time was up"), "asked %d times, %s", asked, r.why);
    CHECK(fabs(first_score(&p, 0) - unmeasured) < 1e-9, "another weight");
    place_close(&p);
}

TEST(few_rated_questions_and_damaged_weights_change_nothing)
{
    static const char *const damaged[] = { "", "{", "{}", "{\"vector_weight\": 1e9}",
                                           "{\"vector_weight\": 0}" };
    place p;
    rv_loop_report r;
    int64_t version;
    place_open(temp_path("data"), &p);
    fill(&p, RV_SIDES_LEAST - 1, 4);
    double unmeasured = first_score(&p, 0);
    CHECK_OK(rv_deep_weigh_sides(&p.deep, &r));
    CHECK(!r.accepted && strstr(r.why, "there are 99"), "%s", r.why);
    p.deep.good = 5;
    CHECK_OK(rv_deep_weigh_sides(&p.deep, &r));
    CHECK(!r.accepted && strstr(r.why, "there are 0"), "4 was not to be good: %s", r.why);
    for (size_t i = 0; i < RV_COUNT(damaged); i++) {
        sqlite3 *conn;
        const char *bytes = *damaged[i] ? damaged[i] : " ";
        rv_policy_new policy = {
            .kind = RV_SIDES_POLICY, .note = "test", .bytes = bytes, .n = strlen(bytes), .use = true
        };
        CHECK_OK(rv_db_begin(p.s.db, &conn));
        CHECK_OK(rv_policy_add(conn, &policy, &version));
        CHECK_OK(rv_db_commit(p.s.db));
        CHECK_OK(rv_sides_settle(p.s.db, p.s.m, &version));
        CHECK(version == 0 && fabs(first_score(&p, 0) - unmeasured) < 1e-9, "%s", bytes);
    }
    place_close(&p);
}
