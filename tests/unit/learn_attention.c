/* Attention is learned from which passages were of use, used only when it ranks others better, and goes with its version. */
#include "test.h"

#include "base/clock.h"
#include "learn/attention.h"
#include "learn/episode.h"
#include "store/policy.h"
#include "store/witness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { REPORTS = 60 };

typedef struct fixture {
    const char *dir;
    rv_db *db;
    rv_embed *embed;
    rv_memory *memory;
    rv_attention *attention;
    rv_arena *arena;
    int64_t brief[REPORTS],
        whole[REPORTS]; /* two notes about each report; the whole one is what people want */
} fixture;

static rv_err embed_text(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

static void open_store(fixture *f)
{
    CHECK_OK(rv_db_open(&rv_heap, f->dir, &f->db));
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &f->embed));
    rv_memory_embedder embedder = { rv_embed_name(f->embed), rv_embed_dim(f->embed), embed_text, f->embed };
    CHECK_OK(rv_memory_open(&rv_heap, f->db, f->dir, embedder, &f->memory));
    CHECK_OK(rv_witness_setup(f->db));
    CHECK_OK(rv_policy_setup(f->db));
    CHECK_OK(rv_episode_setup(f->db));
    CHECK_OK(rv_arena_new(&rv_heap, 64 << 20, &f->arena));
    CHECK_OK(rv_attention_open(&rv_heap, f->db, f->embed, f->memory, &f->attention));
}

static void close_store(fixture *f)
{
    rv_attention_close(f->attention);
    rv_memory_close(f->memory);
    rv_embed_close(f->embed);
    rv_db_close(f->db);
    rv_arena_free(f->arena);
}

static int64_t note(fixture *f, const char *text)
{
    int64_t id;
    bool added;
    CHECK_OK(rv_memory_add(f->memory, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "note", .text = text, .source = "user" }, &id, &added));
    return id;
}

static void open_fixture(fixture *f)
{
    char text[400];
    *f = (fixture){ .dir = temp_dir() };
    open_store(f);
    for (size_t i = 0; i < REPORTS; i++) {
        snprintf(text, sizeof text, "What report %zu says: see the archive.", 100 + i);
        f->brief[i] = note(f, text);
        snprintf(text, sizeof text,
                 "Report %zu in full. The committee met in the green room and heard both sides of the "
                 "matter; after a pause for "
                 "coffee it agreed on %zu new chairs, one more lamp, and a date for the next meeting, which "
                 "the clerk wrote down.",
                 100 + i, 7 * i);
        f->whole[i] = note(f, text);
    }
}

static void ask_and_rate(fixture *f, size_t i)
{
    char id[32], question[64];
    int64_t sources[] = { f->brief[i], f->whole[i] };
    snprintf(id, sizeof id, "r%zu", i);
    snprintf(question, sizeof question, "What does report %zu say?", 100 + i);
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .question = question,
                     .answer = "[2] chairs",
                     .model = "350m",
                     .sources = sources,
                     .n_sources = 2,
                     .confidence = 0.5,
                     .created_ms = rv_clock_wall_ms() };
    sqlite3 *conn;
    rv_feedback_done done;
    CHECK_OK(rv_db_begin(f->db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_commit(f->db));
    CHECK_OK(rv_feedback_store(f->db, f->memory, &(rv_feedback){ .request_id = id, .rating = 4 }, &done));
}

/* The share of the reports whose whole note stands before its brief one. */
static double whole_first(fixture *f, bool expect_order)
{
    size_t first = 0;
    for (size_t i = 0; i < REPORTS; i++) {
        char question[64];
        float query[1024];
        rv_memory_hits hits;
        bool ordered;
        size_t at[2] = { 99, 99 };
        snprintf(question, sizeof question, "What does report %zu say?", 100 + i);
        CHECK_OK(rv_embed_text(f->embed, question, strlen(question), query));
        rv_memory_query q = {
            .text = question, .vector = query, .mode = RV_MEMORY_GRAPH, .k = 16, .filter = { .type = "note" }
        };
        CHECK_OK(rv_memory_search(f->memory, rv_memory_whole(), &q, f->arena, &hits));
        CHECK_OK(rv_attention_order(f->attention, query, &hits, f->arena, &ordered));
        CHECK(ordered == expect_order, "ordered %d", ordered);
        for (size_t h = 0; h < hits.n; h++) {
            at[0] = hits.at[h].id == f->brief[i] ? h : at[0];
            at[1] = hits.at[h].id == f->whole[i] ? h : at[1];
        }
        first += at[1] < at[0];
        rv_arena_reset(f->arena);
    }
    return (double)first / REPORTS;
}

/* Gives way while it reads, or something is forgotten while it trains. */
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

TEST(what_was_of_use_comes_first_afterwards_and_can_be_undone)
{
    fixture f;
    rv_attention_learned done;
    open_fixture(&f);
    double before = whole_first(&f, false);
    for (size_t i = 0; i < 30; i++) {
        ask_and_rate(&f, i);
    }
    CHECK_OK(rv_attention_learn(f.attention, 0, 1, NULL, &done));
    CHECK(done.version == 0 && done.learned_from + done.held == 30 && strstr(done.why, "too little"), "%s",
          done.why);
    CHECK_OK(rv_attention_learn(f.attention, 5, 1, NULL, &done));
    CHECK(done.learned_from + done.held == 0, "4 was not to be good: %zu", done.learned_from + done.held);
    for (size_t i = 30; i < REPORTS; i++) {
        ask_and_rate(&f, i);
    }
    watched waits = { .gives_way = true }, late = { .forgotten = true };
    rv_gate gate = { go_on, leave, enter, &waits };
    CHECK_ERR(rv_attention_learn(f.attention, 0, 1, &gate, &done), RV_E_CANCELLED);
    gate.self = &late;
    CHECK_ERR(rv_attention_learn(f.attention, 0, 1, &gate, &done), RV_E_CANCELLED);
    CHECK(waits.left == 0 && late.left == 1 && late.entered == 1 && whole_first(&f, false) == before,
          "left %d and %d times", waits.left, late.left);
    CHECK_OK(rv_attention_learn(f.attention, 0, 1, NULL, &done));
    CHECK(done.version == 1 && done.held > 5 && done.after >= done.before + 0.02,
          "%s: %zu and %zu questions, nDCG %g, then %g", done.why, done.learned_from, done.held, done.before,
          done.after);
    double after = whole_first(&f, true);
    CHECK(after > before + 0.3, "%g of the whole notes first, then %g", before, after);
    close_store(&f);

    open_store(&f);
    CHECK(whole_first(&f, true) == after, "another order after a restart");
    sqlite3 *conn;
    int64_t version;
    CHECK_OK(rv_db_begin(f.db, &conn));
    CHECK_OK(rv_policy_rollback(conn, "attention", "a test", &version));
    CHECK_OK(rv_db_commit(f.db));
    close_store(&f);
    open_store(&f);
    CHECK(version == 0 && whole_first(&f, false) == before, "rolled back to version %lld",
          (long long)version);
    CHECK_OK(rv_attention_learn(f.attention, 0, 1, NULL, &done));
    CHECK(done.version == 0 && strstr(done.why, "taken back") && whole_first(&f, false) == before,
          "learned again from the same feedback: %s", done.why);
    CHECK_OK(rv_db_begin(f.db, &conn));
    CHECK_OK(
        rv_db_exec(conn, "UPDATE policy SET created_ms = (SELECT max(created_ms) - 1 FROM feedback)", ""));
    CHECK_OK(rv_db_commit(f.db));
    CHECK_OK(rv_attention_learn(f.attention, 0, 1, NULL, &done));
    CHECK(done.version == 2, "%s", done.why);
    close_store(&f);
}

TEST(a_damaged_version_leaves_the_order_of_retrieval)
{
    fixture f;
    sqlite3 *conn;
    int64_t version;
    open_fixture(&f);
    CHECK_OK(rv_db_begin(f.db, &conn));
    CHECK_OK(rv_policy_add(
        conn,
        &(rv_policy_new){ .kind = "attention", .note = "a test", .bytes = "rubbish", .n = 7, .use = true },
        &version));
    CHECK_OK(rv_db_commit(f.db));
    close_store(&f);
    open_store(&f);
    whole_first(&f, false);
    close_store(&f);
}
