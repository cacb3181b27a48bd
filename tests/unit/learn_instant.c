/* Feedback turns questions towards what was of use, a version at a time, and only when that holds for feedback held back. */
#include "test.h"

#include "learn/loop.h"
#include "learn/instant.h"
#include "learn/retrieval.h"
#include "store/policy.h"
#include "store/session.h"
#include "store/witness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TOPICS = 30 };

typedef struct fixture {
    const char *dir;
    rv_db *db;
    rv_embed *embed;
    rv_memory *memory;
    rv_instant *instant;
    rv_arena *arena;
    int64_t notes[TOPICS];
    size_t dim, asked;
} fixture;

static rv_err embed_text(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

static void open_store(fixture *f)
{
    CHECK_OK(rv_db_open(&rv_heap, f->dir, &f->db));
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &f->embed));
    f->dim = rv_embed_dim(f->embed);
    rv_memory_embedder embedder = { rv_embed_name(f->embed), f->dim, embed_text, f->embed };
    CHECK_OK(rv_memory_open(&rv_heap, f->db, f->dir, embedder, &f->memory));
    CHECK_OK(rv_witness_setup(f->db));
    CHECK_OK(rv_policy_setup(f->db));
    CHECK_OK(rv_episode_setup(f->db));
    CHECK_OK(rv_loop_setup(f->db));
    CHECK_OK(rv_arena_new(&rv_heap, 64 << 20, &f->arena));
    CHECK_OK(rv_instant_open(&rv_heap, f->db, f->embed, f->memory, &f->instant));
}

static void close_store(fixture *f)
{
    rv_instant_close(f->instant);
    rv_memory_close(f->memory);
    rv_embed_close(f->embed);
    rv_db_close(f->db);
    rv_arena_free(f->arena);
}

static void open_fixture(fixture *f)
{
    *f = (fixture){ .dir = temp_dir() };
    open_store(f);
    for (size_t i = 0; i < TOPICS; i++) {
        char text[100];
        bool added;
        snprintf(text, sizeof text, "%s number %zu: kept in shelf %zu.",
                 i % 3 ? "Invoice" : "Letter from the bank", i, 7 * i);
        CHECK_OK(rv_memory_add(f->memory, rv_memory_of(NULL),
                               &(rv_memory_new){ .type = "note", .text = text, .source = "user" },
                               &f->notes[i], &added));
    }
}

/* Someone asks for the money people's paper, is shown an invoice and two letters, and rates what was cited. */
static void ask_and_rate(fixture *f, int rating, const char *answer)
{
    char id[32], question[100];
    size_t i = f->asked++;
    size_t letter = 3 * (i % (TOPICS / 3));
    int64_t sources[] = { f->notes[(letter + 1) % TOPICS], f->notes[letter],
                          f->notes[(letter + 2) % TOPICS] };
    snprintf(id, sizeof id, "r%zu", i);
    snprintf(question, sizeof question, "Where are the money people's papers, item %zu?", i);
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .question = question,
                     .answer = answer,
                     .model = "350m",
                     .sources = sources,
                     .n_sources = 3,
                     .confidence = 0.5 };
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(f->db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_commit(f->db));
    rv_feedback given = { .request_id = id, .rating = rating };
    rv_feedback_done done;
    CHECK_OK(rv_feedback_store(f->db, f->memory, &given, &done));
    CHECK_OK(rv_instant_feedback(f->instant, &given, &done));
}

/* How much nearer the question is to a letter than to an invoice. */
static double margin(fixture *f)
{
    float q[1024], letter[1024], invoice[1024];
    double sum = 0;
    const char *ask = "Where are the money people's papers, item 500?", *a = "Letter from the bank",
               *b = "Invoice";
    CHECK_OK(rv_embed_text(f->embed, ask, strlen(ask), q));
    CHECK_OK(rv_embed_text(f->embed, a, strlen(a), letter));
    CHECK_OK(rv_embed_text(f->embed, b, strlen(b), invoice));
    rv_instant_turn(f->instant, q);
    for (size_t i = 0; i < f->dim; i++) {
        sum += (double)q[i] * (letter[i] - invoice[i]);
    }
    return sum;
}

TEST(good_ratings_turn_questions_towards_what_was_cited)
{
    fixture f;
    open_fixture(&f);
    double before = margin(&f);
    for (size_t i = 0; i < 60; i++) {
        ask_and_rate(&f, 5, "[2] shelf");
    }
    rv_instant_stats stats;
    rv_instant_get_stats(f.instant, &stats);
    CHECK(stats.version > 0 && stats.published > 0 && stats.signals == 60 && stats.held == 12,
          "version %lld, %zu signals, %zu held", (long long)stats.version, stats.signals, stats.held);
    CHECK(stats.loss_now < 0.98 * stats.loss_before, "loss %g, then %g", stats.loss_before, stats.loss_now);
    double after = margin(&f);
    CHECK(after > before + 0.01, "margin %g, then %g", before, after);
    close_store(&f);

    open_store(&f); /* the version in use is there again, to the bit */
    CHECK(margin(&f) == after, "after a restart %g, before it %g", margin(&f), after);
    sqlite3 *conn;
    int64_t version = -1;
    do {
        CHECK_OK(rv_db_begin(f.db, &conn));
        CHECK_OK(rv_policy_rollback(conn, "retrieval", "a test", &version));
        CHECK_OK(rv_db_commit(f.db));
    } while (version != 0);
    CHECK_OK(rv_instant_reload(f.instant));
    CHECK(fabs(margin(&f) - before) < 1e-6, "rolled back to nothing: %g, at first %g", margin(&f), before);
    close_store(&f);
}

/* After something was forgotten nothing of it is measured on, or held up as something else, and learning begins anew. */
TEST(lessons_of_before_are_dropped_when_it_is_taken_up_again)
{
    fixture f;
    rv_instant_stats stats;
    open_fixture(&f);
    for (size_t i = 0; i < 30; i++) {
        ask_and_rate(&f, 5, "[2] shelf");
    }
    rv_instant_get_stats(f.instant, &stats);
    CHECK(stats.held == 6 && stats.loss_before > 0, "%zu held, loss %g", stats.held, stats.loss_before);
    CHECK_OK(rv_instant_reload(f.instant));
    rv_instant_get_stats(f.instant, &stats);
    CHECK(stats.held == 0 && stats.signals == 0 && stats.loss_before == 0, "%zu held, %zu signals, loss %g",
          stats.held, stats.signals, stats.loss_before);
    size_t published = stats.published;
    for (size_t i = 0; i < 60; i++) {
        ask_and_rate(&f, 5, "[2] shelf");
    }
    rv_instant_get_stats(f.instant, &stats);
    CHECK(stats.held == 12 && stats.signals == 60 && stats.published > published, "%zu held, %zu published",
          stats.held, stats.published);
    close_store(&f);
}

TEST(feedback_that_says_nothing_about_passages_teaches_nothing)
{
    fixture f;
    open_fixture(&f);
    for (size_t i = 0; i < 20; i++) {
        ask_and_rate(&f, 2, "[2] shelf");       /* bad, and what would have been good is not known */
        ask_and_rate(&f, 5, "shelf");           /* nothing cited */
        ask_and_rate(&f, 5, "[1] [2] [3] all"); /* everything was of use */
    }
    rv_instant_stats stats;
    rv_instant_get_stats(f.instant, &stats);
    CHECK(stats.signals == 0 && stats.version == 0, "%zu signals", stats.signals);
    close_store(&f);
}

TEST(a_damaged_version_gives_way_to_the_one_before_or_to_none)
{
    fixture f;
    open_fixture(&f);
    sqlite3 *conn;
    int64_t version;
    CHECK_OK(rv_db_begin(f.db, &conn));
    CHECK_OK(rv_policy_add(
        conn,
        &(rv_policy_new){ .kind = "retrieval", .note = "a test", .bytes = "rubbish", .n = 7, .use = true },
        &version));
    CHECK_OK(rv_db_commit(f.db));
    double before = margin(&f);
    close_store(&f);
    open_store(&f);
    rv_instant_stats stats;
    rv_instant_get_stats(f.instant, &stats);
    CHECK(stats.version == 0 && margin(&f) == before, "version %lld", (long long)stats.version);

    /* the same with a sound one before it */
    rv_retrieval *sound;
    uint8_t *bytes;
    int64_t good;
    CHECK_OK(rv_retrieval_new(&rv_heap, rv_embed_dim(f.embed), 1, &sound));
    size_t n = rv_retrieval_file_bytes(sound);
    CHECK((bytes = rv_new(&rv_heap, n)) != NULL, "memory");
    rv_retrieval_write(sound, bytes);
    CHECK_OK(rv_db_begin(f.db, &conn));
    rv_policy_new new = { .kind = "retrieval", .note = "a test", .bytes = bytes, .n = n, .use = true };
    CHECK_OK(rv_policy_add(conn, &new, &good));
    new = (rv_policy_new){
        .kind = "retrieval", .parent = good, .note = "a test", .bytes = "rubbish", .n = 7, .use = true
    };
    CHECK_OK(rv_policy_add(conn, &new, &version));
    CHECK_OK(rv_db_commit(f.db));
    rv_free(&rv_heap, bytes);
    rv_retrieval_free(sound);
    close_store(&f);
    open_store(&f);
    rv_instant_get_stats(f.instant, &stats);
    CHECK(stats.version == good, "version %lld, not %lld", (long long)stats.version, (long long)good);
    close_store(&f);
}
