/* From rated episodes to a router in use: it is used when it is better on episodes it has not seen, refused when there is nothing
 * to learn, and survives ratings that were turned round. */
#include "learn/episode.h"
#include "base/rng.h"
#include "learn/judge.h"
#include "learn/routing.h"
#include "store/policy.h"
#include "store/witness.h"
#include "test.h"

#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { EPISODES = 400 };

static const char *const tiers[] = { "350m", "700m" };
static const float costs[] = { 1, 4 };

static rv_db *opened(void)
{
    rv_db *db;
    CHECK_OK(rv_db_open(&rv_heap, temp_dir(), &db));
    CHECK_OK(rv_witness_setup(db));
    CHECK_OK(rv_policy_setup(db));
    CHECK_OK(rv_episode_setup(db));
    CHECK_OK(rv_judge_setup(db));
    return db;
}

typedef struct world {
    int flipped;     /* of 100 ratings */
    bool chance;     /* outcomes have nothing to do with the question */
    const char *key; /* that asks and rates; NULL: none */
    bool capitals;   /* nothing else is asked */
    int version;     /* of the router that decided; 0: none did */
    bool says;       /* answers carry what they say of themselves: right ones rest on what is asked */
    bool judged;     /* a judge says what answers are worth, nobody rates */
    double trust;    /* that the judge has */
    int64_t made;    /* episodes so far */
} world;

/* Capitals are answered by both tiers, sums by the large one alone; half of the answers shown were the small one's, and the other tier was
 * asked too. */
static void live(rv_db *db, world *w, int n, uint64_t seed)
{
    rv_rng rng;
    sqlite3 *conn;
    rv_rng_init(&rng, seed);
    CHECK_OK(rv_db_begin(db, &conn));
    for (int i = 0; i < n; i++) {
        bool sum = rv_rng_below(&rng, 2) && !w->capitals, small = rv_rng_below(&rng, 2);
        bool right = w->chance ? rv_rng_below(&rng, 2) : !(sum && small);
        bool other = w->chance ? rv_rng_below(&rng, 2) : !(sum && !small);
        char id[37], question[128], route[400], of_shown[64] = "", of_other[64] = "", by[64] = "";
        if (w->version) {
            snprintf(by, sizeof by, ", \"version\": %d, \"tokens\": 10", w->version);
        }
        if (w->says) {
            snprintf(of_shown, sizeof of_shown, ", \"says\": [1, %d, %d, 0, 1]", right, !right);
            snprintf(of_other, sizeof of_other, ", \"says\": [1, %d, %d, 0, 1]", other, !other);
        }
        snprintf(route, sizeof route,
                 "{\"explored\": true, \"key\": \"%s\", \"tries\": [{\"model\": \"%s\", \"confidence\": 0.8, "
                 "\"text\": \"%s\"%s}]%s%s}",
                 w->key ? w->key : "", tiers[small ? 1 : 0],
                 other     ? "[2] X"
                 : w->says ? "[1] z"
                           : "other",
                 of_other, of_shown, by);
        snprintf(id, sizeof id, "%08x-0000-4000-8000-%012lld",
                 (unsigned)rv_hash64(&w->made, sizeof w->made, 1), (long long)w->made);
        int a = (int)rv_rng_below(&rng, 100000), b = (int)rv_rng_below(&rng, 100000);
        snprintf(question, sizeof question,
                 sum ? "Calculate the sum of %d and %d" : "What is the capital of country%d near sea%d", a,
                 b);
        rv_episode e = { .request_id = id,
                         .session_id = "s",
                         .question = question,
                         .answer = right     ? "x [1]"
                                   : w->says ? "y [2]"
                                             : "wrong",
                         .model = tiers[small ? 0 : 1],
                         .confidence = (right ? 0.7 : 0.5) + 0.3 * rv_rng_unit(&rng),
                         .created_ms = w->made++,
                         .route = route };
        CHECK_OK(rv_episode_append(conn, &e));
        bool good = (int)rv_rng_below(&rng, 100) < w->flipped ? !right : right;
        if (w->judged) {
            CHECK_OK(rv_db_exec(conn, "INSERT INTO judged VALUES (?1, 'a judge', ?2, ?3, 0)", "tff", id,
                                good ? 0.9 : 0.1, w->trust));
            continue;
        }
        CHECK_OK(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, 'rating', ?2, '', 0, 0)", "ti", id,
                            (int64_t)(good ? 5 : 1)));
    }
    CHECK_OK(rv_db_commit(db));
}

static rv_routing_job job_of(rv_db *db)
{
    return (rv_routing_job){ .db = db,
                             .tiers = tiers,
                             .costs = costs,
                             .n_tiers = 2,
                             .usual = 1,
                             .capacity = 100000,
                             .cost_share = 0.7 };
}

static size_t tier_of(const rv_router *r, const char *text)
{
    rv_routed out;
    void *scratch = malloc(rv_router_scratch_bytes(r));
    rv_router_route(r, &(rv_slot_input){ .text = text, .n = strlen(text), .device = 2 }, 0, false, scratch,
                    &out);
    free(scratch);
    return out.tier;
}

static int right_of_100(const rv_router *r)
{
    int right = 0;
    for (int i = 0; i < 50; i++) {
        char text[128];
        snprintf(text, sizeof text, "Calculate the sum of %d and %d", 200000 + i, 300000 + i);
        right += tier_of(r, text) == 1;
        snprintf(text, sizeof text, "What is the capital of country%d near sea%d", 200000 + i, 300000 + i);
        right += tier_of(r, text) == 0;
    }
    return right;
}

TEST(rated_episodes_become_a_router_that_is_better_on_others)
{
    rv_db *db = opened();
    world w = { 0 };
    live(db, &w, EPISODES, 1);
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.accepted && fresh && done.version == 1, "%s", done.why);
    CHECK(done.episodes == EPISODES && done.held_out > 40 && done.after > done.before + 0.005, "%s",
          done.why);
    CHECK(right_of_100(fresh) >= 95, "%d of 100 new questions", right_of_100(fresh));

    /* Once more, against the one in use: whatever becomes of it, it is kept with its parent and figures. */
    job.now = fresh;
    job.now_version = done.version;
    rv_router *again;
    CHECK_OK(rv_routing_learn(&job, &done, &again));
    CHECK(done.version == 2 && done.accepted == (again != NULL), "version %lld: %s", (long long)done.version,
          done.why);
    rv_arena *arena;
    rv_policy_info *list, now;
    size_t n;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK_OK(rv_policy_current(db, RV_ROUTING_POLICY, arena, &now));
    CHECK(now.version == (again ? 2 : 1) && strstr(now.metrics, "held_out"), "version %lld: %s",
          (long long)now.version, now.metrics);
    CHECK_OK(rv_policy_list(db, RV_ROUTING_POLICY, 10, arena, &list, &n));
    CHECK(n == 2 && list[0].version == 2 && list[0].parent == 1, "%zu versions", n);
    rv_router_free(again);
    rv_arena_free(arena);
    rv_router_free(fresh);
    rv_db_close(db);
}

static int64_t number_of(rv_db *db, const char *sql)
{
    int64_t out = -1;
    sqlite3 *conn;
    CHECK_OK(rv_db_reader(db, &conn));
    CHECK_OK(rv_db_int(conn, &out, sql, ""));
    rv_db_reader_done(db, conn);
    return out;
}

TEST(what_was_taken_back_is_not_learned_again_until_something_new_is_rated)
{
    rv_db *db = opened();
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh = NULL, *again = NULL;
    sqlite3 *conn;
    int64_t now = -1;
    live(db, &(world){ 0 }, EPISODES, 1);
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(fresh && done.version == 1, "%s", done.why);
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_policy_rollback(conn, RV_ROUTING_POLICY, "test", &now));
    CHECK_OK(rv_db_commit(db));
    CHECK_ERR(rv_routing_learn(&job, &done, &again), RV_E_ARG);
    CHECK(now == 0 && strstr(rv_err_text(), "taken back"), "%s", rv_err_text());
    CHECK(number_of(db, "SELECT count(*) FROM policy") == 1 && !again, "it was learned again");
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(
        rv_db_exec(conn,
                   "UPDATE feedback SET created_ms = (SELECT created_ms FROM policy) + 1 WHERE request_id = "
                   "(SELECT min(request_id) FROM feedback)",
                   ""));
    CHECK_OK(rv_db_commit(db));
    CHECK_OK(rv_routing_learn(&job, &done, &again));
    CHECK(again && done.version == 2, "%s", done.why);
    rv_router_free(fresh);
    rv_router_free(again);
    rv_db_close(db);
}

typedef struct watched {
    int rows, most; /* asked; rows after which it is to give way */
    int left, entered;
    bool forgotten;
} watched;

static bool go_on(void *self)
{
    watched *w = self;
    return w->rows++ < w->most;
}

static void leave(void *self)
{
    watched *w = self;
    CHECK(w->left == w->entered, "left twice");
    w->left++;
}

static bool enter(void *self)
{
    watched *w = self;
    w->entered++;
    return !w->forgotten;
}

TEST(nobody_waits_while_it_trains_and_what_was_forgotten_meanwhile_is_not_published)
{
    rv_db *db = opened();
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh = NULL;
    live(db, &(world){ 0 }, EPISODES, 1);
    watched gives_way = { .most = 50 }, too_late = { .most = INT32_MAX, .forgotten = true },
            alone = { .most = INT32_MAX };
    rv_gate gate = { go_on, leave, enter, &gives_way };
    job.gate = &gate;
    CHECK_ERR(rv_routing_learn(&job, &done, &fresh), RV_E_CANCELLED);
    CHECK(gives_way.rows == 51 && gives_way.left == 0, "%d rows, left %d times", gives_way.rows,
          gives_way.left);
    gate.self = &too_late;
    CHECK_ERR(rv_routing_learn(&job, &done, &fresh), RV_E_CANCELLED);
    CHECK(too_late.rows == EPISODES && too_late.left == 1 && too_late.entered == 1, "%d rows, left %d times",
          too_late.rows, too_late.left);
    CHECK(!fresh && number_of(db, "SELECT count(*) FROM policy") == 0, "it was published");
    gate.self = &alone;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(fresh && done.version == 1 && alone.left == 1 && alone.entered == 1, "%s", done.why);
    rv_router_free(fresh);
    rv_db_close(db);
}

TEST(what_was_learned_is_not_pushed_out_by_what_is_asked_today)
{
    rv_db *db = opened();
    world w = { 0 };
    live(db, &w, 1000, 1);
    w.capitals = true;
    live(db, &w, 2000, 2);
    rv_routing_job job = job_of(db);
    job.capacity = 1000; /* a third of all, and all of them of today */
    rv_routing_done done;
    rv_router *fresh;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.episodes == 1000, "%zu episodes", done.episodes);
    CHECK(done.accepted && right_of_100(fresh) >= 95, "%d of 100: %s",
          done.accepted ? right_of_100(fresh) : 0, done.why);
    rv_router_free(fresh);
    rv_db_close(db);
}

TEST(a_version_has_so_many_questions_as_it_has_room_for)
{
    rv_db *db = opened();
    world w = { 0 };
    live(db, &w, 1000, 1);
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    size_t all = fresh ? rv_past_rows(rv_router_past(fresh)) : 0;
    CHECK(all > 400, "%zu rows: %s", all, done.why);
    rv_router_free(fresh);
    /* half of what they take, besides what every version takes */
    job.most_bytes = RV_ROUTING_FIXED_BYTES + all * rv_past_row_bytes(2, 0, 9) / 2;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.version == 2 && done.questions == 1000, "%s, %zu questions", done.why, done.questions);
    rv_router_free(fresh);
    uint8_t *bytes;
    size_t n;
    CHECK_OK(rv_policy_read(db, &rv_heap, RV_ROUTING_POLICY, 2, &bytes, &n));
    CHECK_OK(rv_router_unpack(&rv_heap, bytes, n, &fresh));
    size_t some = rv_past_rows(rv_router_past(fresh));
    CHECK(some > all / 3 && some < 2 * all / 3, "%zu of %zu rows", some, all);
    CHECK(n <= job.most_bytes && right_of_100(fresh) >= 95, "%zu bytes, %d of 100", n, right_of_100(fresh));
    rv_router_free(fresh);
    rv_free(&rv_heap, bytes);
    rv_db_close(db);
}

TEST(a_judge_that_is_trusted_teaches_and_another_one_does_not)
{
    rv_db *db = opened();
    world w = { .judged = true, .trust = RV_JUDGE_PRIOR };
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh;
    live(db, &w, EPISODES, 1);
    CHECK_ERR(rv_routing_learn(&job, &done, &fresh), RV_E_ARG);
    w.trust = RV_JUDGE_TRUST;
    live(db, &w, EPISODES, 2);
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.episodes == EPISODES, "%zu episodes", done.episodes);
    CHECK(done.accepted && right_of_100(fresh) >= 90, "%d of 100: %s",
          done.accepted ? right_of_100(fresh) : 0, done.why);
    rv_router_free(fresh);
    rv_db_close(db);
}

/* Which answers are right is chance, and only their own sentences tell. */
TEST(what_answers_say_of_themselves_is_learned_and_tells_which_to_ask_again)
{
    rv_db *db = opened();
    world w = { .chance = true, .says = true };
    live(db, &w, EPISODES, 7);
    rv_routing_job job = job_of(db);
    job.cascade = true;
    job.cost_share = 1;
    rv_routing_done done;
    rv_router *fresh;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.accepted && fresh, "%s", done.why);
    rv_routed out;
    void *scratch = malloc(rv_router_scratch_bytes(fresh));
    const char *text = "What is the capital of country200000 near sea300000";
    rv_router_route(fresh, &(rv_slot_input){ .text = text, .n = strlen(text), .device = 2 }, 0, true, scratch,
                    &out);
    free(scratch);
    const float rests[RV_SAYS] = { 1, 1, 0, 0, 1 }, other[RV_SAYS] = { 1, 0, 1, 0, 1 };
    size_t next = 0;
    CHECK(out.tier == 0, "the large one is asked first");
    CHECK(rv_router_escalates(fresh, &out, &(rv_given){ 1, { 0 }, { rv_draft_of(0.8, "x [1]", 5, other) } },
                              3, &next) &&
              next == 1,
          "an answer from another sentence stays");
    CHECK(!rv_router_escalates(fresh, &out, &(rv_given){ 1, { 0 }, { rv_draft_of(0.8, "x [1]", 5, rests) } },
                               3, &next),
          "one from the right sentence goes on");
    CHECK(!rv_router_escalates(fresh, &out, &(rv_given){ 1, { 0 }, { rv_draft_of(0.8, "x [1]", 5, NULL) } },
                               3, &next),
          "nothing is known of it");
    rv_router_free(fresh);
    rv_db_close(db);
}

/* The small tier is right on half of the sums later, which changes no decision that is worth much, but what is foretold. */
TEST(a_router_that_foretells_better_is_used_and_one_that_foretells_the_same_is_not)
{
    rv_db *db = opened();
    world w = { .flipped = 30 };
    live(db, &w, EPISODES, 8);
    rv_routing_job job = job_of(db);
    rv_routing_done first, done;
    rv_router *now, *fresh;
    CHECK_OK(rv_routing_learn(&job, &first, &now));
    CHECK(first.accepted && first.loss_after < first.loss_before - 0.003, "%s", first.why);
    job.now = now;
    job.now_version = first.version;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh)); /* from the same episodes */
    CHECK(!done.accepted && !fresh, "%s", done.why);
    w.flipped = 0;
    live(db, &w, 4 * EPISODES, 9);
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.accepted && fresh && done.loss_after < done.loss_before - 0.003, "%s", done.why);
    rv_router_free(fresh);
    rv_router_free(now);
    rv_db_close(db);
}

/* Half of the answers were the small tier's, of a quarter of the cost: .625 was spent of what the large one alone costs, .7 was to be. */
TEST(what_was_spent_moves_what_the_next_router_aims_at)
{
    rv_db *db = opened();
    world w = { 0 };
    live(db, &w, EPISODES, 11);
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *now, *fresh, *candidate = NULL;
    CHECK_OK(rv_routing_learn(&job, &done, &now));
    CHECK(done.accepted && fabs(rv_router_share(now) - 0.7) < 1e-6, "made for %g: %s", rv_router_share(now),
          done.why);
    job.now = now;
    job.now_version = done.version;
    w.version = (int)done.version;
    live(db, &w, EPISODES, 12);
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    uint8_t *bytes = NULL;
    size_t n = 0;
    CHECK_OK(rv_policy_read(db, &rv_heap, RV_ROUTING_POLICY, done.version, &bytes, &n));
    CHECK_OK(rv_router_unpack(&rv_heap, bytes, n, &candidate));
    CHECK(fabs(rv_router_share(candidate) - 0.7 * 0.7 / 0.625) < 0.05, "made for %g",
          rv_router_share(candidate));
    rv_free(&rv_heap, bytes);
    rv_router_free(candidate);
    rv_router_free(fresh);
    rv_router_free(now);
    rv_db_close(db);
}

TEST(where_there_is_nothing_to_learn_nothing_is_used)
{
    rv_db *db = opened();
    world w = { .chance = true };
    live(db, &w, EPISODES, 2);
    rv_routing_job job = job_of(db);
    job.usual = 0; /* the cheap one already answers everything, and no other is better */
    rv_routing_done done;
    rv_router *fresh;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(!done.accepted && !fresh, "%s", done.why);
    rv_db_close(db);
}

TEST(a_fifth_of_the_ratings_turned_round_moves_no_decision)
{
    rv_db *db = opened();
    world w = { .flipped = 20 };
    live(db, &w, EPISODES, 3);
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.accepted && right_of_100(fresh) >= 95, "%d of 100; %s", fresh ? right_of_100(fresh) : 0,
          done.why);
    rv_router_free(fresh);
    rv_db_close(db);
}

/* The same questions decided with and without those who lie. */
TEST(one_key_that_floods_with_lies_moves_no_decision)
{
    rv_db *db = opened();
    static const char *const honest[] = { "a", "b", "c", "d" };
    world w = { 0 };
    for (int k = 0; k < 4; k++) {
        w.key = honest[k];
        live(db, &w, EPISODES / 4, 10 + (uint64_t)k);
    }
    w = (world){ .flipped = 100, .key = "hostile", .made = w.made };
    live(db, &w, 3 * EPISODES, 20);
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.accepted && right_of_100(fresh) >= 95, "%d of 100; %s", fresh ? right_of_100(fresh) : 0,
          done.why);
    rv_router_free(fresh);
    rv_db_close(db);
}

TEST(of_more_keys_than_are_told_apart_none_passes_for_a_judge)
{
    rv_db *db = opened();
    world w = { 0 };
    char key[16];
    for (int k = 0; k < 255; k++) {
        snprintf(key, sizeof key, "%d", k);
        w.key = key;
        live(db, &w, k < 4 ? EPISODES / 4 : 1, 10 + (uint64_t)k);
    }
    w.judged = true;
    w.trust = RV_JUDGE_TRUST;
    live(db, &w, 1, 5);
    w = (world){ .flipped = 100, .key = "hostile", .made = w.made };
    live(db, &w, 3 * EPISODES, 20);
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.accepted && right_of_100(fresh) >= 95, "%d of 100; %s", fresh ? right_of_100(fresh) : 0,
          done.why);
    rv_router_free(fresh);
    rv_db_close(db);
}

TEST(a_fifth_of_the_keys_that_lie_moves_no_decision)
{
    rv_db *db = opened();
    static const char *const keys[] = { "a", "b", "liar", "d", "e" };
    world w = { 0 };
    for (int k = 0; k < 5; k++) {
        w.key = keys[k];
        w.flipped = k == 2 ? 100 : 0;
        live(db, &w, EPISODES / 4, 30 + (uint64_t)k);
    }
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh;
    CHECK_OK(rv_routing_learn(&job, &done, &fresh));
    CHECK(done.accepted && right_of_100(fresh) >= 95, "%d of 100; %s", fresh ? right_of_100(fresh) : 0,
          done.why);
    rv_router_free(fresh);
    rv_db_close(db);
}

TEST(too_little_to_learn_from_is_said)
{
    rv_db *db = opened();
    world w = { 0 };
    rv_routing_job job = job_of(db);
    rv_routing_done done;
    rv_router *fresh;
    CHECK_ERR(rv_routing_learn(&job, &done, &fresh), RV_E_ARG);
    live(db, &w, 12, 4);
    CHECK_ERR(rv_routing_learn(&job, &done, &fresh), RV_E_ARG);
    int64_t rated;
    CHECK_OK(rv_routing_rated(db, &rated));
    CHECK(rated == 12, "%lld", (long long)rated);
    job.capacity = SIZE_MAX;
    CHECK_ERR(rv_routing_learn(&job, &done, &fresh), RV_E_ARG);
    json_t *list;
    CHECK_OK(rv_routing_decisions(db, 5, &list));
    CHECK(json_array_size(list) == 5 &&
              json_array_size(
                  json_object_get(json_object_get(json_array_get(list, 0), "routing"), "tries")) == 1,
          "%zu decisions", json_array_size(list));
    json_decref(list);
    rv_db_close(db);
}
