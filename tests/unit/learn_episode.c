#include "embed/embed.h"
#include "learn/episode.h"
#include "store/session.h"
#include "store/witness.h"
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct fixture {
    const char *dir;
    rv_db *db;
    rv_embed *embed;
    rv_memory *memory;
    rv_arena *arena;
    int64_t library, cafe; /* two notes */
} fixture;

static rv_err embed_text(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

static int64_t note(fixture *f, const char *text)
{
    rv_memory_new node = { .type = "note", .text = text, .source = "user" };
    int64_t id = 0;
    bool added;
    CHECK_OK(rv_memory_add(f->memory, rv_memory_of(NULL), &node, &id, &added));
    return id;
}

static void open_store(fixture *f)
{
    CHECK_OK(rv_db_open(&rv_heap, f->dir, &f->db));
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &f->embed));
    rv_memory_embedder embedder = { rv_embed_name(f->embed), rv_embed_dim(f->embed), embed_text, f->embed };
    CHECK_OK(rv_memory_open(&rv_heap, f->db, f->dir, embedder, &f->memory));
    CHECK_OK(rv_witness_setup(f->db));
    CHECK_OK(rv_episode_setup(f->db));
    CHECK_OK(rv_arena_new(&rv_heap, 4 << 20, &f->arena));
}

static void shut_store(fixture *f)
{
    rv_memory_close(f->memory);
    rv_embed_close(f->embed);
    rv_db_close(f->db);
    rv_arena_free(f->arena);
}

static void close_store(fixture *f)
{
    CHECK_OK(rv_memory_check(f->memory));
    shut_store(f);
}

static void open_fixture(fixture *f)
{
    *f = (fixture){ .dir = temp_dir() };
    open_store(f);
    f->library = note(f, "The library closes at 18:00.");
    f->cafe = note(f, "The cafe closes at 17:00.");
}

static void put_episode(fixture *f, const char *id, const char *user, const char *answer,
                        const int64_t *sources, size_t n)
{
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .user = user,
                     .question = "When does the\nlibrary close?",
                     .answer = answer,
                     .model = "350m",
                     .sources = sources,
                     .n_sources = n,
                     .confidence = 0.5,
                     .total_ms = 12.5,
                     .created_ms = 1234 };
    sqlite3 *conn = NULL;
    CHECK_OK(rv_db_begin(f->db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_commit(f->db));
}

static rv_feedback_done give(fixture *f, const char *id, int rating, const char *correction)
{
    rv_feedback_done done = { 0 };
    CHECK_OK(rv_feedback_store(f->db, f->memory,
                               &(rv_feedback){ .request_id = id, .rating = rating, .correction = correction },
                               &done));
    return done;
}

static rv_memory_node get(fixture *f, int64_t id)
{
    rv_memory_node node = { 0 };
    CHECK_OK(rv_memory_get(f->memory, rv_memory_whole(), id, f->arena, &node));
    return node;
}

static bool is_there(fixture *f, int64_t id)
{
    rv_memory_node node;
    return rv_memory_get(f->memory, rv_memory_whole(), id, f->arena, &node) == RV_OK;
}

static bool has_edge(fixture *f, int64_t from, int64_t to, const char *type)
{
    rv_memory_edge *edges = NULL;
    size_t n = 0;
    bool found = false;
    CHECK_OK(rv_memory_neighbours(f->memory, rv_memory_whole(), from, f->arena, &edges, &n));
    for (size_t i = 0; i < n; i++) {
        found = found || (edges[i].from == from && edges[i].to == to && strcmp(edges[i].type, type) == 0);
    }
    return found;
}

TEST(an_episode_reads_back_as_it_was_written)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.cafe, f.library };
    put_episode(&f, "r1", "ann", "[2] 18:00", sources, 2);
    rv_episode e;
    CHECK_OK(rv_episode_get(f.db, "r1", f.arena, &e));
    CHECK(strcmp(e.request_id, "r1") == 0 && strcmp(e.session_id, "s") == 0 && strcmp(e.user, "ann") == 0,
          "ids");
    CHECK(strcmp(e.question, "When does the\nlibrary close?") == 0 && strcmp(e.answer, "[2] 18:00") == 0,
          "texts");
    CHECK(strcmp(e.model, "350m") == 0 && e.confidence == 0.5 && e.total_ms == 12.5 && e.created_ms == 1234,
          "numbers");
    CHECK(e.n_sources == 2 && e.sources[0] == f.cafe && e.sources[1] == f.library, "sources");
    CHECK(e.rating == 0 && strcmp(e.correction, "") == 0, "no feedback yet");
    CHECK_ERR(rv_episode_get(f.db, "r2", f.arena, &e), RV_E_NOT_FOUND);
    close_store(&f);
}

TEST(a_correction_becomes_a_fact_that_corrects_what_was_cited)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.cafe, f.library };
    put_episode(&f, "r1", "", "[2] 18:00", sources, 2);
    rv_feedback_done done = give(&f, "r1", 2, "It closes\nat 20:00.");
    rv_memory_node fact = get(&f, done.fact);
    CHECK(strcmp(fact.type, "fact") == 0 && strcmp(fact.source, "feedback") == 0 &&
              strcmp(fact.origin, "r1") == 0,
          "%s %s %s", fact.type, fact.source, fact.origin);
    CHECK(strcmp(fact.text, "Correction: Q: When does the library close? A: It closes at 20:00.") == 0, "%s",
          fact.text);
    CHECK(done.qa == 0, "qa %lld", (long long)done.qa);
    CHECK(has_edge(&f, done.fact, f.library, "corrects") && !has_edge(&f, done.fact, f.cafe, "corrects"),
          "edges");
    CHECK(get(&f, f.library).corrected_by == done.fact && get(&f, f.cafe).corrected_by == 0, "corrected_by");
    rv_episode e;
    CHECK_OK(rv_episode_get(f.db, "r1", f.arena, &e));
    CHECK(e.rating == 2 && strcmp(e.correction, "It closes\nat 20:00.") == 0, "%d %s", e.rating,
          e.correction);
    close_store(&f);
}

TEST(a_correction_of_an_answer_that_cites_two_corrects_both_and_of_none_stands_alone)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.cafe, f.library };
    put_episode(&f, "two", "", "[1] [2] [1] [3] [x] 18:00", sources, 2);
    put_episode(&f, "none", "", "Not in the passages.", sources, 2);
    rv_feedback_done done = give(&f, "two", 0, "19:00");
    CHECK(has_edge(&f, done.fact, f.library, "corrects") && has_edge(&f, done.fact, f.cafe, "corrects"),
          "edges");
    rv_memory_edge *edges = NULL;
    size_t n = 0;
    CHECK_OK(rv_memory_neighbours(f.memory, rv_memory_whole(), give(&f, "none", 0, "20:00").fact, f.arena,
                                  &edges, &n));
    CHECK(n == 0, "%zu edges", n);
    close_store(&f);
}

TEST(a_good_rating_writes_the_answer_back_without_its_citations)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.cafe, f.library };
    put_episode(&f, "r1", "", "[2] 18:00", sources, 2);
    CHECK(give(&f, "r1", 3, NULL).qa == 0, "3 is not good enough");
    int64_t qa = give(&f, "r1", 4, NULL).qa;
    rv_memory_node node = get(&f, qa);
    CHECK(strcmp(node.type, "qa") == 0, "%s", node.type);
    CHECK(strcmp(node.text, "Q: When does the library close? A: 18:00") == 0, "%s", node.text);
    CHECK(has_edge(&f, qa, f.library, "derived") && !has_edge(&f, qa, f.cafe, "derived"), "edges");
    CHECK(give(&f, "r1", 5, NULL).qa == qa, "the same answer is the same node");
    close_store(&f);
}

TEST(a_citation_is_a_number_in_brackets_and_nothing_else)
{
    static const struct {
        const char *answer;
        size_t number;
        bool cites;
    } rows[] = {
        { "so [2].", 2, true }, { "so [2].", 1, false },    { "[1][12]", 12, true }, { "[1][12]", 2, false },
        { "[[3]]", 3, true },   { "[03]", 3, true },        { "[3", 3, false },      { "[ 3]", 3, false },
        { "", 1, false },       { "[12345]", 12345, true },
    };
    for (size_t i = 0; i < RV_COUNT(rows); i++) {
        CHECK(rv_episode_cites(rows[i].answer, rows[i].number) == rows[i].cites, "\"%s\" and %zu",
              rows[i].answer, rows[i].number);
    }
}

TEST(an_answer_is_examined_before_it_is_written_back)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.cafe, f.library };
    put_episode(&f, "first", "", "It closes at 18:00", sources, 2);
    put_episode(&f, "again", "", "It closes at 18:00!", sources, 2);
    put_episode(&f, "odd", "",
                "18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18 18",
                sources, 2);
    int64_t first = give(&f, "first", 5, NULL).qa;
    CHECK(first > 0 && give(&f, "again", 5, NULL).qa == first, "the same in other words is one node");
    CHECK(get(&f, first).confidence == 1, "%g", get(&f, first).confidence);
    double odd = get(&f, give(&f, "odd", 5, NULL).qa).confidence;
    CHECK(odd > 0 && odd < 0.5, "what repeats itself is kept with confidence %g", odd);
    close_store(&f);
}

TEST(refusals_and_recalled_text_are_never_written_back)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.library };
    static const char *const refusals[] = { "Not in the passages.", " Not in the passages ", "", "[1]",
                                            "[1] [1] " };
    for (size_t i = 0; i < RV_COUNT(refusals); i++) {
        char id[32];
        snprintf(id, sizeof id, "refusal-%zu", i);
        put_episode(&f, id, "", refusals[i], sources, 1);
        CHECK(give(&f, id, 5, NULL).qa == 0, "\"%s\" was written back", refusals[i]);
    }
    put_episode(&f, "first", "", "[1] 18:00", sources, 1);
    int64_t recalled[] = { give(&f, "first", 5, NULL).qa, f.library };
    put_episode(&f, "echo", "", "[1] 18:00 it is", recalled, 2);
    CHECK(give(&f, "echo", 5, NULL).qa == 0, "an answer out of an answer was written back");
    put_episode(&f, "both", "", "[1] [2] 18:00 in the evening", recalled, 2);
    CHECK(give(&f, "both", 5, NULL).qa != 0, "an answer out of a note too is new");
    close_store(&f);
}

TEST(the_second_feedback_of_a_kind_replaces_the_first)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.library };
    put_episode(&f, "r1", "", "[1] 18:00", sources, 1);
    int64_t first = give(&f, "r1", 0, "19:00").fact, second = give(&f, "r1", 0, "20:00").fact;
    CHECK(first != second && !is_there(&f, first) && is_there(&f, second), "%lld %lld", (long long)first,
          (long long)second);
    CHECK(get(&f, f.library).corrected_by == second, "corrected by %lld",
          (long long)get(&f, f.library).corrected_by);
    CHECK(give(&f, "r1", 0, "20:00").fact == second && is_there(&f, second), "the same again");
    int64_t third = give(&f, "r1", 0, "19:00").fact; /* back to the first one */
    CHECK(!is_there(&f, second) && strstr(get(&f, third).text, "19:00"), "back");

    put_episode(&f, "r2", "", "[1] 18:00", sources, 1);
    int64_t qa = give(&f, "r2", 5, NULL).qa;
    CHECK(give(&f, "r2", 1, NULL).qa == 0 && !is_there(&f, qa), "a bad rating takes the written answer back");
    qa = give(&f, "r2", 5, NULL).qa;
    CHECK(is_there(&f, qa), "and a good one brings it again");
    rv_feedback_done done = give(&f, "r2", 0, "21:00");
    CHECK(done.fact != 0 && !is_there(&f, qa), "a correction takes it back too");
    CHECK(give(&f, "r2", 5, NULL).qa == 0, "what was corrected is not written back");
    rv_episode e;
    CHECK_OK(rv_episode_get(f.db, "r2", f.arena, &e));
    CHECK(e.rating == 5 && strcmp(e.correction, "21:00") == 0, "%d %s", e.rating, e.correction);
    close_store(&f);
}

TEST(a_node_that_other_feedback_stands_on_stays)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.library };
    put_episode(&f, "r1", "", "[1] 18:00", sources, 1);
    put_episode(&f, "r2", "", "[1] 18:00", sources, 1);
    int64_t fact = give(&f, "r1", 0, "19:00").fact;
    CHECK(give(&f, "r2", 0, "19:00").fact == fact, "equal corrections are one node");
    give(&f, "r1", 0, "20:00");
    CHECK(is_there(&f, fact), "r2 still says 19:00");
    give(&f, "r2", 0, "20:00");
    CHECK(!is_there(&f, fact), "nobody says 19:00 any more");
    close_store(&f);
}

TEST(sources_that_were_removed_meanwhile_are_no_obstacle)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.library, f.cafe };
    put_episode(&f, "r1", "", "[1] [2] 18:00", sources, 2);
    size_t removed;
    CHECK_OK(rv_memory_rm(f.memory, rv_memory_whole(), f.library, NULL, &removed));
    rv_feedback_done done = give(&f, "r1", 0, "19:00");
    CHECK(has_edge(&f, done.fact, f.cafe, "corrects"), "the one that is left");
    close_store(&f);
}

TEST(nodes_belong_to_the_user_of_the_request)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.library };
    put_episode(&f, "r1", "ann", "[1] 18:00", sources, 1);
    put_episode(&f, "r2", "bob", "[1] 18:00", sources, 1);
    int64_t ann = give(&f, "r1", 0, "19:00").fact, bob = give(&f, "r2", 0, "19:00").fact;
    CHECK(ann != bob && strcmp(get(&f, ann).user, "ann") == 0 && strcmp(get(&f, bob).user, "bob") == 0,
          "users");
    close_store(&f);
}

TEST(wrong_feedback_is_refused_and_changes_nothing)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.library };
    put_episode(&f, "r1", "", "[1] 18:00", sources, 1);
    rv_memory_stats before, after;
    CHECK_OK(rv_memory_get_stats(f.memory, &before));
    static const struct {
        const char *id;
        int rating;
        const char *correction;
        rv_err expected;
    } wrong[] = {
        { "r1", 0, NULL, RV_E_ARG },       { "r1", 6, NULL, RV_E_ARG },      { "r1", -1, NULL, RV_E_ARG },
        { "r1", 3, "", RV_E_ARG },         { "r1", 3, " \n", RV_E_ARG },     { "r1", 0, "\xff", RV_E_ARG },
        { "r9", 5, NULL, RV_E_NOT_FOUND }, { "r9", 0, "x", RV_E_NOT_FOUND }, { "", 5, NULL, RV_E_NOT_FOUND },
    };
    for (size_t i = 0; i < RV_COUNT(wrong); i++) {
        rv_feedback_done done;
        rv_feedback feedback = { .request_id = wrong[i].id,
                                 .rating = wrong[i].rating,
                                 .correction = wrong[i].correction };
        CHECK_ERR(rv_feedback_store(f.db, f.memory, &feedback, &done), wrong[i].expected);
    }
    CHECK_OK(rv_memory_get_stats(f.memory, &after));
    CHECK(before.nodes == after.nodes && before.edges == after.edges, "%zu nodes, then %zu", before.nodes,
          after.nodes);
    close_store(&f);
}

TEST(feedback_leaves_a_record_in_the_witness_chain)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.library };
    put_episode(&f, "r1", "", "[1] 18:00", sources, 1);
    int64_t fact = give(&f, "r1", 1, "19:00").fact;
    rv_witness_record *records = NULL;
    size_t n = 0;
    uint64_t count = 0;
    CHECK_OK(rv_witness_get(f.db, "r1", f.arena, &records, &n));
    CHECK(n == 1 && strcmp(records[0].kind, "feedback") == 0, "%zu records", n);
    json_t *body = NULL;
    CHECK_OK(rv_json_parse(records[0].body, strlen(records[0].body), &body));
    CHECK(json_integer_value(json_object_get(body, "rating")) == 1 &&
              json_integer_value(json_object_get(body, "fact")) == fact,
          "%s", records[0].body);
    json_decref(body);
    CHECK_OK(rv_witness_verify(f.db, &count));
    CHECK(count == 1, "%llu records", (unsigned long long)count);
    close_store(&f);
}

TEST(feedback_that_a_failing_store_did_not_take_is_not_acknowledged)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.library };
    put_episode(&f, "r1", "", "[1] 18:00", sources, 1);
    rv_db_stop(f.db);
    rv_feedback_done done;
    CHECK(rv_feedback_store(f.db, f.memory, &(rv_feedback){ .request_id = "r1", .rating = 5 }, &done) !=
              RV_OK,
          "acknowledged");
    CHECK(rv_feedback_store(f.db, f.memory,
                            &(rv_feedback){ .request_id = "r1", .rating = 0, .correction = "19:00" },
                            &done) != RV_OK,
          "acknowledged");
    shut_store(&f);
    open_store(&f);
    rv_episode e;
    CHECK_OK(rv_episode_get(f.db, "r1", f.arena, &e));
    CHECK(e.rating == 0 && !*e.correction, "half of it is there");
    CHECK(give(&f, "r1", 0, "19:00").fact != 0, "and can be given again");
    close_store(&f);
}

/* A child stores feedback and is killed the moment the call returns: what it was told is stored has to be there. */
TEST(feedback_that_returned_survives_kill_9)
{
    fixture f;
    open_fixture(&f);
    int64_t sources[] = { f.library };
    for (int i = 0; i < 5; i++) {
        char id[16];
        snprintf(id, sizeof id, "k%d", i);
        put_episode(&f, id, "", "[1] 18:00", sources, 1);
    }
    close_store(&f);
    for (int i = 0; i < 5; i++) {
        pid_t child = fork();
        CHECK(child >= 0, "fork");
        if (child == 0) {
            char id[16], text[16];
            snprintf(id, sizeof id, "k%d", i);
            snprintf(text, sizeof text, "1%d:30", i);
            open_store(&f);
            rv_feedback_done done;
            if (rv_feedback_store(f.db, f.memory,
                                  &(rv_feedback){ .request_id = id, .rating = 1, .correction = text },
                                  &done) == RV_OK) {
                kill(getpid(), SIGKILL);
            }
            _exit(1);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status),
              "the child could not store feedback: %x", (unsigned)status);
    }
    open_store(&f);
    rv_memory_stats stats;
    CHECK_OK(rv_memory_get_stats(f.memory, &stats));
    CHECK(stats.facts == 5, "%zu facts of 5", stats.facts);
    for (int i = 0; i < 5; i++) {
        char id[16], text[16];
        rv_episode e;
        snprintf(id, sizeof id, "k%d", i);
        snprintf(text, sizeof text, "1%d:30", i);
        CHECK_OK(rv_episode_get(f.db, id, f.arena, &e));
        CHECK(e.rating == 1 && strcmp(e.correction, text) == 0, "%s: %d %s", id, e.rating, e.correction);
    }
    close_store(&f);
}
