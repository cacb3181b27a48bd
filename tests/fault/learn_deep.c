/* The deep loop's own stages, on a small world: what they find, what they publish, and that a kill -9 at any of their points leaves no half version
 * and loses nothing: the next run ends where one that was never cut short ends. */
#include "base/file.h"
#include "deep_helpers.h"
#include "learn/adapter_learn.h"
#include "learn/overlay.h"
#include "learn/probes.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TOPICS = 24, MEMBERS = 4 };

/* A question by the words that only the first member of a topic has; what answers it is the second, which is like the first and shares no word
 * with the question. */
static void ask(place *p, int topic, int64_t useful)
{
    char question[64];
    snprintf(question, sizeof question, "%s %s", word(topic * 100 + 50), word(topic * 100 + 51));
    rate(p, topic, "anna", question, useful, 5);
}

static void fill(const char *dir, int questions)
{
    place p;
    place_open(dir, &p);
    for (int t = 0; t < TOPICS; t++) {
        int64_t ids[MEMBERS];
        for (int m = 0; m < MEMBERS; m++) {
            char text[256];
            int n =
                snprintf(text, sizeof text, "%s %s", word(t * 100 + 50 + 2 * m), word(t * 100 + 51 + 2 * m));
            for (int k = 0; k < 8; k++) {
                n += snprintf(text + n, sizeof text - (size_t)n, " %s", word(t * 100 + k));
            }
            ids[m] = add(&p, "anna", text);
        }
        if (t < questions) {
            ask(&p, t, ids[1]);
        }
        CHECK_OK(rv_memory_link(p.s.m, rv_memory_whole(), ids[2], ids[3], "follows", 1));
    }
    add(&p, "bert", "one thing alone");
    place_close(&p);
}

static int64_t number_of(const place *p, const char *sql)
{
    int64_t out = -1;
    sqlite3 *conn;
    CHECK_OK(rv_db_reader(p->s.db, &conn));
    CHECK_OK(rv_db_int(conn, &out, sql, ""));
    rv_db_reader_done(p->s.db, conn);
    return out;
}

static const char CONCEPTS[] = "SELECT count(*) FROM nodes WHERE type = 'concept'",
                  CONTAINS[] = "SELECT count(*) FROM edges WHERE type = 'contains'",
                  DERIVED[] = "SELECT count(*) FROM edges WHERE type = 'derived'",
                  CREATIVE[] = "SELECT count(*) FROM edges WHERE type = 'creative'",
                  VERSIONS[] = "SELECT count(*) FROM policy WHERE kind = 'concepts'";

TEST(groups_become_concepts_and_their_edges_are_used_when_they_help)
{
    const char *dir = temp_path("data");
    place p;
    rv_loop_report r = { 0 };
    fill(dir, TOPICS);
    place_open(dir, &p);
    CHECK_OK(rv_deep_concepts(&p.deep, &r));
    CHECK(r.accepted && r.after >= r.before + RV_DEEP_MARGIN, "%s: %g, %g", r.why, r.before, r.after);
    CHECK(number_of(&p, CONCEPTS) == TOPICS && number_of(&p, CONTAINS) == TOPICS * MEMBERS &&
              number_of(&p, DERIVED) == TOPICS * MEMBERS,
          "%s", r.why);
    CHECK(number_of(&p, "SELECT count(*) FROM nodes WHERE type = 'concept' AND user <> 'anna'") == 0,
          "whose");
    double after = r.after;

    /* again: nothing new; and the graph is what was measured */
    CHECK_OK(rv_deep_concepts(&p.deep, &r));
    CHECK(!r.accepted && r.changed == 0 && r.before == after, "%s: %g, then %g", r.why, after, r.before);
    CHECK(number_of(&p, VERSIONS) == 1 && number_of(&p, CONCEPTS) == TOPICS, "%s", r.why);

    /* found, by its common words, by whoever looks for concepts */
    rv_arena *arena;
    rv_memory_hits hits;
    CHECK_OK(rv_arena_new(&rv_heap, 8 << 20, &arena));
    rv_memory_query q = { .text = word(307), .k = 3, .filter = { .type = "concept" } };
    CHECK_OK(rv_memory_search(p.s.m, rv_memory_of("anna"), &q, arena, &hits));
    CHECK(hits.n > 0 && strstr(hits.at[0].text, word(300)), "%s", hits.n ? hits.at[0].text : "nothing");

    /* a group that is no more takes its concept along, once no edge of it is used */
    size_t removed;
    sqlite3 *conn;
    int64_t version;
    CHECK_OK(rv_db_begin(p.s.db, &conn));
    CHECK_OK(rv_policy_rollback(conn, "concepts", "test", &version));
    CHECK_OK(rv_db_commit(p.s.db));
    CHECK_OK(rv_overlay_settle(p.s.db, p.s.m, RV_OVERLAY_CONCEPTS, &version));
    CHECK(version == 0 && number_of(&p, DERIVED) == 0, "%lld edges after going back",
          (long long)number_of(&p, DERIVED));
    CHECK_OK(rv_memory_search(p.s.m, rv_memory_of("anna"), &(rv_memory_query){ .text = word(300), .k = 2 },
                              arena, &hits));
    CHECK_OK(rv_memory_rm(p.s.m, rv_memory_whole(), hits.at[0].id, NULL, &removed));
    CHECK_OK(rv_deep_concepts(&p.deep, &r));
    CHECK(number_of(&p, CONCEPTS) == TOPICS - 1, "%s", r.why);
    CHECK_OK(rv_memory_check(p.s.m));
    rv_arena_free(arena);
    place_close(&p);
}

TEST(without_rated_questions_nothing_reaches_answers)
{
    const char *dir = temp_path("data");
    place p;
    rv_loop_report r = { 0 };
    fill(dir, RV_PROBES_LEAST - 1);
    place_open(dir, &p);
    CHECK_OK(rv_deep_concepts(&p.deep, &r));
    CHECK(!r.accepted && !r.measure && strstr(r.why, "kept out of answers"), "%s", r.why);
    CHECK(number_of(&p, CONCEPTS) == TOPICS && number_of(&p, DERIVED) == 0, "%s", r.why);
    CHECK_OK(rv_deep_dreams(&p.deep, &r));
    CHECK(!r.accepted && number_of(&p, CREATIVE) == 0, "%s", r.why);
    CHECK_OK(rv_deep_prune_edges(&p.deep, &r));
    CHECK(!r.accepted && strstr(r.why, "nothing to do"), "%s", r.why);
    place_close(&p);
}

static bool never(void *self)
{
    (void)self;
    return false;
}

TEST(time_that_is_up_publishes_nothing)
{
    const char *dir = temp_path("data");
    place p;
    rv_loop_report r = { 0 };
    fill(dir, TOPICS);
    place_open(dir, &p);
    p.deep.until_ms = rv_clock_ms() - 1;
    CHECK_OK(rv_deep_concepts(&p.deep, &r));
    CHECK(!r.accepted && strstr(r.why, "time was up") && number_of(&p, DERIVED) == 0, "%s", r.why);
    CHECK_OK(rv_deep_dreams(&p.deep, &r));
    CHECK(!r.accepted && strstr(r.why, "time was up") && number_of(&p, CREATIVE) == 0, "%s", r.why);
    p.deep.until_ms = rv_clock_ms() + 3600e3;
    p.deep.go_on = never;
    CHECK_OK(rv_deep_concepts(&p.deep, &r));
    CHECK(!r.accepted && strstr(r.why, "time was up") && number_of(&p, DERIVED) == 0, "%s", r.why);
    place_close(&p);
}

/* Edges as dreams make them: one is spent, one is old, one is used. */
TEST(spent_edges_go_when_nothing_is_found_worse)
{
    const char *dir = temp_path("data");
    place p;
    rv_loop_report r = { 0 };
    int64_t version;
    fill(dir, TOPICS);
    place_open(dir, &p);
    const rv_memory_edge edges[] = { { 1, 9, "creative", 0.0100001 },
                                     { 2, 10, "creative", 0.05 },
                                     { 3, 11, "creative", 0.05 } };
    CHECK_OK(rv_overlay_publish(&p.deep, RV_OVERLAY_DREAMS, edges, 3, &(rv_policy_new){ .note = "test" },
                                &version));
    CHECK(version == 1 && number_of(&p, CREATIVE) == 3, "version %lld", (long long)version);
    place_close(&p); /* the second is 31 days old: the checksum of an edge covers its time */
    rv_db *db;
    sqlite3 *conn;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK_OK(rv_db_begin(db, &conn));
    int64_t then = rv_clock_wall_ms() - 31LL * 86400000;
    double weight = (double)0.05F;
    uint64_t bits;
    memcpy(&bits, &weight, sizeof bits);
    uint64_t sum = rv_db_sum_text(rv_db_sum_int(rv_db_sum_int(0, 2), 10), "creative", 8);
    sum = rv_db_sum_int(rv_db_sum_int(sum, (int64_t)bits), then);
    CHECK_OK(rv_db_exec(conn,
                        "UPDATE edges SET created_ms = ?1, sum = ?2 WHERE from_id = 2 AND type = 'creative'",
                        "ii", then, (int64_t)sum));
    CHECK_OK(rv_db_commit(db));
    rv_db_close(db);
    place_open(dir, &p);
    p.deep.go_on = never;
    CHECK_OK(rv_deep_prune_edges(&p.deep, &r));
    CHECK(!r.accepted && strstr(r.why, "time was up") && number_of(&p, CREATIVE) == 3, "%s", r.why);
    p.deep.go_on = NULL;
    CHECK_OK(rv_deep_prune_edges(&p.deep, &r));
    CHECK(r.accepted && r.changed == 2 && number_of(&p, CREATIVE) == 1, "%s, %lld left", r.why,
          (long long)number_of(&p, CREATIVE));
    CHECK_OK(rv_overlay_settle(p.s.db, p.s.m, RV_OVERLAY_DREAMS, &version));
    CHECK(version == 2 && number_of(&p, CREATIVE) == 1, "they come back");
    place_close(&p);
}

TEST(damaged_edges_give_way_to_the_version_before)
{
    const char *dir = temp_path("data");
    place p;
    int64_t version;
    sqlite3 *conn;
    fill(dir, 0);
    place_open(dir, &p);
    const rv_memory_edge edges[] = { { 1, 9, "creative", 0.05 }, { 2, 10, "creative", 0.05 } };
    for (size_t n = 1; n <= 2; n++) {
        CHECK_OK(rv_overlay_publish(&p.deep, RV_OVERLAY_DREAMS, edges, n, &(rv_policy_new){ .note = "test" },
                                    &version));
    }
    CHECK(number_of(&p, CREATIVE) == 2, "edges");
    CHECK_OK(rv_db_begin(p.s.db, &conn));
    CHECK_OK(
        rv_db_exec(conn, "UPDATE policy SET bytes = zeroblob(56) WHERE kind = 'dreams' AND version = 2", ""));
    CHECK_OK(rv_db_commit(p.s.db));
    CHECK_OK(rv_overlay_settle(p.s.db, p.s.m, RV_OVERLAY_DREAMS, &version));
    CHECK(version == 1 && number_of(&p, CREATIVE) == 1, "version %lld", (long long)version);
    place_close(&p);
}

/* ---- kill -9 ---- */

static const char *dies_at;
static int dies_after;

static void die(const char *point)
{
    if (strcmp(point, dies_at) == 0 && dies_after-- == 0) {
        raise(SIGKILL);
    }
}

static rv_err stage_concepts(void *self, double until_ms, rv_loop_report *out)
{
    (void)until_ms;
    return rv_deep_concepts(self, out);
}
static rv_err stage_dreams(void *self, double until_ms, rv_loop_report *out)
{
    (void)until_ms;
    return rv_deep_dreams(self, out);
}
static rv_err stage_edges(void *self, double until_ms, rv_loop_report *out)
{
    (void)until_ms;
    return rv_deep_prune_edges(self, out);
}
static const rv_loop_stage stages[] = { { "concepts", 600, stage_concepts },
                                        { "dreams", 600, stage_dreams },
                                        { "edges", 600, stage_edges } };

static rv_err run(place *p, rv_loop_done *done)
{
    rv_loop loop = {
        .name = "deep", .stages = stages, .n = RV_COUNT(stages), .seconds = 3600, .self = &p->deep
    };
    return rv_loop_run(p->s.db, &loop, done);
}

TEST(killed_at_any_point_of_the_real_stages_the_next_run_ends_the_same)
{
    static const struct {
        const char *point;
        int after; /* times it is passed before */
    } points[] = {
        { "concept", 0 }, { "concept", 7 }, { "concept", TOPICS - 1 }, { "version", 0 }, { "stale", 0 }
    };
    for (size_t i = 0; i < RV_COUNT(points); i++) {
        const char *dir = temp_path("data");
        fill(dir, TOPICS);
        pid_t child = fork();
        if (child == 0) {
            place p;
            rv_loop_done done;
            place_open(dir, &p);
            dies_at = points[i].point;
            dies_after = points[i].after;
            p.deep.passing = die;
            _exit(run(&p, &done) ? 8 : 7);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "%s %d: status %x", points[i].point,
              points[i].after, (unsigned)status);
        place p;
        rv_loop_done done;
        uint64_t count;
        int64_t version;
        place_open(dir, &p);
        CHECK_OK(rv_overlay_settle(p.s.db, p.s.m, RV_OVERLAY_CONCEPTS,
                                   &version)); /* as the program does when it opens */
        int64_t edges = number_of(&p, DERIVED);
        CHECK(edges == (version ? TOPICS * MEMBERS : 0), "%s: version %lld, %lld edges", points[i].point,
              (long long)version, (long long)edges);
        CHECK_OK(rv_memory_check(p.s.m));
        CHECK_OK(run(&p, &done));
        CHECK(done.resumed && done.ran == RV_COUNT(stages) && done.failed == 0,
              "%s: resumed %d, %zu ran, %zu failed", points[i].point, done.resumed, done.ran, done.failed);
        CHECK(number_of(&p, CONCEPTS) == TOPICS && number_of(&p, CONTAINS) == TOPICS * MEMBERS &&
                  number_of(&p, DERIVED) == TOPICS * MEMBERS && number_of(&p, VERSIONS) == 1,
              "%s: %lld concepts, %lld versions", points[i].point, (long long)number_of(&p, CONCEPTS),
              (long long)number_of(&p, VERSIONS));
        CHECK_OK(rv_memory_check(p.s.m));
        CHECK_OK(rv_witness_verify(p.s.db, &count));
        place_close(&p);
    }
}

/* ---- an adapter's round ---- */

static rv_err prompt(const char *question, const char *const *passages, size_t n, json_t **out)
{
    (void)passages, (void)n;
    *out = json_pack("[{s:s, s:s}]", "role", "user", "content", question);
    return *out ? RV_OK : rv_fail(RV_E_NOMEM, "prompt");
}

static bool die_at_step(void *self, size_t step, size_t steps, double loss)
{
    const size_t *last = self;
    (void)steps, (void)loss;
    if (step == *last) {
        raise(SIGKILL);
    }
    return true;
}

static rv_adapter_learned adapter_round(const char *dir, const char *checkpoint, size_t dies, float **weights)
{
    static const char *const asked[] = { "when does the library open", "where is the key of the shed" },
                             *const said[] = { "at nine in the morning", "under the mat beside the door" };
    rv_db *db;
    sqlite3 *conn;
    rv_adapters *adapters;
    rv_engine *engine;
    rv_adapter_learned done;
    CHECK_OK(rv_db_open(&rv_heap, dir, &db));
    CHECK_OK(rv_witness_setup(db));
    CHECK_OK(rv_episode_setup(db));
    CHECK_OK(rv_adapters_open(&rv_heap, db, NULL, &adapters));
    CHECK_OK(rv_engine_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"),
                            rv_engine_options_default(), &engine));
    CHECK_OK(rv_db_begin(db, &conn));
    for (int i = 0; i < 2; i++) {
        const char *id = i ? "one" : "two";
        rv_episode e = { .request_id = id,
                         .session_id = "s",
                         .question = asked[i],
                         .answer = "no",
                         .model = "m",
                         .created_ms = 5 + i };
        int64_t known = 0;
        CHECK_OK(rv_db_int(conn, &known, "SELECT count(*) FROM episode WHERE request_id = ?1", "t", id));
        if (!known) {
            CHECK_OK(rv_episode_append(conn, &e));
            CHECK_OK(rv_db_exec(conn, "INSERT INTO feedback VALUES (?1, 'correction', 0, ?2, 0, ?3)", "tti",
                                id, said[i], (int64_t)(5 + i)));
        }
    }
    CHECK_OK(rv_db_commit(db));
    rv_adapter_learning how = { .db = db,
                                .adapters = adapters,
                                .engine = engine,
                                .prompt = prompt,
                                .user = "",
                                .rank = 4,
                                .springs = 0.1F,
                                .checkpoint = checkpoint,
                                .max_steps = 45,
                                .max_seconds = 3600,
                                .seed = 1,
                                .on_step = die_at_step,
                                .self = &dies };
    CHECK_OK(rv_adapter_learn(&how, &done));
    rv_lora *own, *base;
    CHECK_OK(rv_adapters_open_files(adapters, engine, done.version, &own, &base));
    *weights = rv_new_array(&rv_heap, own->n_weights, sizeof **weights);
    CHECK(*weights && !base, "weights");
    memcpy(*weights, own->weights, own->n_weights * sizeof **weights);
    done.steps = own->n_weights;
    rv_lora_close(own);
    rv_engine_close(engine);
    rv_adapters_close(adapters);
    rv_db_close(db);
    return done;
}

TEST(a_round_that_was_killed_goes_on_and_makes_the_same_adapter)
{
    char checkpoint[4200];
    float *whole, *parts;
    const char *dir = temp_path("whole");
    snprintf(checkpoint, sizeof checkpoint, "%s/a.ckpt", dir);
    rv_adapter_learned done = adapter_round(dir, checkpoint, SIZE_MAX, &whole);
    CHECK(done.version == 1 && !rv_file_exists(checkpoint), "%s", done.why);
    dir = temp_path("parts");
    snprintf(checkpoint, sizeof checkpoint, "%s/a.ckpt", dir);
    static const size_t steps[] = { 7, 33 }; /* before and after the first checkpoint */
    for (size_t i = 0; i < RV_COUNT(steps); i++) {
        pid_t child = fork();
        if (child == 0) {
            adapter_round(dir, checkpoint, steps[i], &parts);
            _exit(7);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "status %x", (unsigned)status);
        CHECK(rv_file_exists(checkpoint) == (i > 0), "checkpoint after step %zu", steps[i]);
    }
    rv_adapter_learned again = adapter_round(dir, checkpoint, SIZE_MAX, &parts);
    CHECK(again.version == 1 && again.steps == done.steps && !rv_file_exists(checkpoint), "%s", again.why);
    CHECK(memcmp(whole, parts, done.steps * sizeof *whole) == 0, "other weights");
    rv_free(&rv_heap, whole);
    rv_free(&rv_heap, parts);
}
