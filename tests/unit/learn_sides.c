/* What words and vectors are worth on a store, measured where feedback tells what was of use. */
#include "learn/sides.h"
#include "base/rng.h"
#include "learn/episode.h"
#include "learn/judge.h"
#include "memory_helpers.h"
#include "store/witness.h"

#include <math.h>

enum { QUESTIONS = 110, DECOYS = 12 };

typedef struct place {
    store s;
    rv_embed *embed;
    rv_deep_place deep;
    rv_arena *arena;
} place;

static rv_err by_embed(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

static void place_open(const char *dir, place *p)
{
    *p = (place){ 0 };
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &p->embed));
    rv_memory_embedder e = {
        .name = "hash", .dim = rv_embed_dim(p->embed), .text = by_embed, .self = p->embed
    };
    CHECK_OK(store_open_with(&rv_heap, dir, e, &p->s));
    CHECK_OK(rv_witness_setup(p->s.db));
    CHECK_OK(rv_policy_setup(p->s.db));
    CHECK_OK(rv_episode_setup(p->s.db));
    CHECK_OK(rv_judge_setup(p->s.db));
    CHECK_OK(rv_arena_new(&rv_heap, 8 << 20, &p->arena));
    p->deep = (rv_deep_place){
        .db = p->s.db, .memory = p->s.m, .embed = p->embed, .until_ms = rv_clock_ms() + 3600e3
    };
}

static void place_close(place *p)
{
    rv_arena_free(p->arena);
    store_close(&p->s);
    rv_embed_close(p->embed);
}

/* Eight letters that only this number has. */
static void word(int number, char out[9])
{
    uint64_t h = rv_hash64(&number, sizeof number, 9);
    for (int i = 0; i < 8; i++, h /= 26) {
        out[i] = (char)('a' + h % 26);
    }
    out[8] = 0;
}

static int64_t add(place *p, const char *text)
{
    int64_t id;
    bool added;
    rv_memory_new new = { .type = "note", .text = text, .created_ms = 1000 };
    CHECK_OK(rv_memory_add(p->s.m, rv_memory_of(NULL), &new, &id, &added));
    return id;
}

static void rate(place *p, int number, const char *question, int64_t useful)
{
    char id[40], body[32];
    sqlite3 *conn;
    snprintf(id, sizeof id, "00000000-0000-4000-8000-%012d", number);
    snprintf(body, sizeof body, "{\"n\":%d}", number);
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .user = "",
                     .question = question,
                     .answer = "it is so [1]",
                     .model = "m",
                     .sources = &useful,
                     .n_sources = 1,
                     .created_ms = 2000 + number };
    CHECK_OK(rv_db_begin(p->s.db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_witness_append(conn, "request", id, body, strlen(body)));
    CHECK_OK(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, 'rating', 5, '', 0, 3000)", "t", id));
    CHECK_OK(rv_db_commit(p->s.db));
}

/* Questions in other forms of the words of what answers them, so that only parts of words tell, and with one word that stands in many
 * texts beside the point. */
static void fill(place *p, int questions)
{
    for (int i = 0; i < DECOYS; i++) {
        char text[64], filler[9];
        word(10000 + i, filler);
        snprintf(text, sizeof text, "qix %s", filler);
        add(p, text);
    }
    for (int i = 0; i < questions; i++) {
        char a[9], b[9], text[64], question[64];
        word(2 * i, a);
        word(2 * i + 1, b);
        snprintf(text, sizeof text, "%s %s", a, b);
        snprintf(question, sizeof question, "qix %szq %szq", a, b);
        rate(p, i, question, add(p, text));
    }
}

/* Of the first question: the score of the best hit. */
static double first_score(place *p, double weight)
{
    char a[9], b[9], question[64];
    rv_memory_hits hits;
    word(0, a);
    word(1, b);
    snprintf(question, sizeof question, "qix %szq %szq", a, b);
    rv_arena_reset(p->arena);
    rv_memory_query q = { .text = question, .k = 1, .vector_weight = weight };
    CHECK_OK(rv_memory_search(p->s.m, rv_memory_of(NULL), &q, p->arena, &hits));
    CHECK(hits.n == 1, "%zu hits", hits.n);
    return hits.at[0].score;
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
    fill(&p, QUESTIONS);
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
    fill(&p, RV_SIDES_LEAST - 1);
    double unmeasured = first_score(&p, 0);
    CHECK_OK(rv_deep_weigh_sides(&p.deep, &r));
    CHECK(!r.accepted && strstr(r.why, "there are 99"), "%s", r.why);
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
