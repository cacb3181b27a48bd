/* Whose feedback is taken, and how much of it: only on a request of the same key, and in a day no more than is allowed, whatever restarts. */
#include "base/clock.h"
#include "pipeline/pipeline_priv.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rv_err embed_text(const void *self, const char *text, size_t n, float *out)
{
    return rv_embed_text(self, text, n, out);
}

static void open_at(rv_pipeline *p, const char *dir)
{
    *p = (rv_pipeline){ .learning = true, .feedback_per_day = 3 };
    CHECK_OK(rv_db_open(&rv_heap, dir, &p->db));
    CHECK_OK(rv_embed_open(&rv_heap, "hash", &p->embed));
    rv_memory_embedder embedder = { rv_embed_name(p->embed), rv_embed_dim(p->embed), embed_text, p->embed };
    CHECK_OK(rv_memory_open(&rv_heap, p->db, dir, embedder, &p->memory));
    CHECK_OK(rv_router_box_new(&rv_heap, &p->routers));
    CHECK_OK(rv_pipeline_setup(p));
}

static void closed(rv_pipeline *p)
{
    rv_instant_close(p->instant);
    rv_router_box_free(p->routers);
    rv_memory_close(p->memory);
    rv_embed_close(p->embed);
    rv_db_close(p->db);
}

/* Request number, made with this key; NULL: route says nothing of one. */
static void asked(rv_pipeline *p, int number, const char *key)
{
    char id[37], route[64] = "";
    sqlite3 *conn;
    snprintf(id, sizeof id, "00000000-0000-4000-8000-%012d", number);
    if (key) {
        snprintf(route, sizeof route, "{\"key\": \"%s\"}", key);
    }
    rv_episode e = {
        .request_id = id, .session_id = "s", .question = "q", .answer = "a", .model = "m", .route = route
    };
    CHECK_OK(rv_db_begin(p->db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_commit(p->db));
}

static rv_err rate(rv_pipeline *p, int number, const char *who, int64_t *again_s)
{
    char id[37];
    rv_feedback_done done;
    snprintf(id, sizeof id, "00000000-0000-4000-8000-%012d", number);
    return rv_pipeline_feedback(p, who, &(rv_feedback){ .request_id = id, .rating = 2 }, again_s, &done);
}

TEST(feedback_is_taken_from_who_made_the_request_alone)
{
    rv_pipeline p;
    int64_t again = 0;
    open_at(&p, temp_dir());
    asked(&p, 1, "anna");
    asked(&p, 2, NULL);
    CHECK_ERR(rate(&p, 1, "bert", &again), RV_E_NOT_FOUND);
    CHECK_ERR(rate(&p, 1, "", &again), RV_E_NOT_FOUND);
    CHECK_ERR(rate(&p, 2, "anna", &again), RV_E_NOT_FOUND);
    CHECK_ERR(rate(&p, 3, "anna", &again), RV_E_NOT_FOUND);
    CHECK_OK(rate(&p, 1, "anna", &again));
    CHECK_OK(rate(&p, 2, "", &again));
    CHECK_OK(rate(&p, 1, NULL, &again)); /* whoever has the folder */
    closed(&p);
}

/* Where how it was routed was cut off, nobody knows the key any more. */
TEST(a_request_with_a_damaged_route_can_be_rated)
{
    rv_pipeline p;
    int64_t again = 0;
    sqlite3 *conn;
    open_at(&p, temp_dir());
    asked(&p, 1, "anna");
    CHECK_OK(rv_db_begin(p.db, &conn));
    CHECK_OK(rv_db_exec(conn, "UPDATE episode SET route = '{\"key\": \"an'", ""));
    CHECK_OK(rv_db_commit(p.db));
    CHECK_ERR(rate(&p, 1, "anna", &again), RV_E_NOT_FOUND);
    CHECK_OK(rate(&p, 1, "", &again));
    closed(&p);
}

/* More than a record may hold is like memory that runs out: not a part of it is kept. */
TEST(a_route_that_does_not_fit_is_no_record)
{
    enum { HUGE_BYTES = 65 << 20 };
    rv_pipeline p;
    rv_request r;
    rv_arena *arena;
    sqlite3 *conn;
    int64_t rows = 0;
    char *key = malloc(HUGE_BYTES);
    CHECK(key, "memory");
    memset(key, 'k', HUGE_BYTES - 1);
    key[HUGE_BYTES - 1] = 0;
    open_at(&p, temp_dir());
    CHECK_OK(rv_arena_new(&rv_heap, (size_t)256 << 20, &arena));
    CHECK_OK(rv_request_init(&r, arena));
    r.query = "q";
    r.query_bytes = 1;
    r.session_id = "s";
    r.text = "a";
    r.routed_model = "m";
    r.reason = "none";
    r.key = key;
    CHECK_ERR(rv_stage_learn(&p, &r), RV_E_NOMEM);
    CHECK_OK(rv_db_reader(p.db, &conn));
    CHECK_OK(
        rv_db_int(conn, &rows, "SELECT (SELECT count(*) FROM episode) + (SELECT count(*) FROM turns)", ""));
    rv_db_reader_done(p.db, conn);
    CHECK(rows == 0, "%lld rows", (long long)rows);
    r.key = "anna";
    CHECK_OK(rv_stage_learn(&p, &r));
    rv_arena_free(arena);
    free(key);
    closed(&p);
}

TEST(the_day_of_a_key_is_counted_on_disk_and_for_each_key_alone)
{
    rv_pipeline p;
    const char *dir = temp_dir();
    int64_t again = 0, day = rv_clock_wall_ms() / 86400000;
    open_at(&p, dir);
    for (int i = 0; i < 6; i++) {
        asked(&p, i, i < 5 ? "anna" : "bert");
    }
    CHECK_ERR(rate(&p, 5, "anna", &again), RV_E_NOT_FOUND); /* not counted */
    CHECK_OK(rate(&p, 0, "anna", &again));
    CHECK_OK(rate(&p, 1, "anna", &again));
    closed(&p);
    open_at(&p, dir);
    CHECK_OK(rate(&p, 1, "anna", &again)); /* said again counts again */
    rv_err e = rate(&p, 2, "anna", &again);
    if (rv_clock_wall_ms() / 86400000 != day) {
        SKIP("midnight came in between");
    }
    CHECK(e == RV_E_LIMIT && rv_err_http(e) == 429, "%s: %s", rv_err_name(e), rv_err_text());
    CHECK(again > 0 && again <= 86400, "again in %lld s", (long long)again);
    rv_arena *arena;
    rv_episode kept;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK_OK(rv_episode_get(p.db, "00000000-0000-4000-8000-000000000002", arena, &kept));
    CHECK(kept.rating == 0, "refused, and stored: %d", kept.rating);
    rv_arena_free(arena);
    CHECK_OK(rate(&p, 5, "bert", &again));
    CHECK_OK(rate(&p, 2, NULL, &again));
    p.feedback_per_day = 0;
    CHECK_OK(rate(&p, 3, "anna", &again));
    closed(&p);
}

TEST(a_day_that_is_over_counts_no_more)
{
    rv_pipeline p;
    int64_t again = 0;
    sqlite3 *conn;
    open_at(&p, temp_dir());
    asked(&p, 1, "anna");
    CHECK_OK(rv_db_begin(p.db, &conn));
    CHECK_OK(rv_db_exec(conn, "INSERT INTO feedback_count VALUES ('anna', ?1, 3)", "i",
                        rv_clock_wall_ms() / 86400000 - 1));
    CHECK_OK(rv_db_commit(p.db));
    CHECK_OK(rate(&p, 1, "anna", &again));
    int64_t rows = 0;
    CHECK_OK(rv_db_reader(p.db, &conn));
    CHECK_OK(rv_db_int(conn, &rows, "SELECT count(*) FROM feedback_count", ""));
    rv_db_reader_done(p.db, conn);
    CHECK(rows == 1, "%lld days are kept", (long long)rows);
    closed(&p);
}

TEST(rating_one_request_again_and_again_is_one_rating)
{
    rv_pipeline p;
    int64_t again = 0;
    open_at(&p, temp_dir());
    p.feedback_per_day = 0;
    asked(&p, 1, NULL);
    for (int i = 0; i < 50; i++) {
        CHECK_OK(rate(&p, 1, "", &again));
    }
    double explores = rv_router_explores(p.routers, 1e-9); /* share rated is one of RV_ROUTER_WINDOW */
    CHECK(explores <= 1.0 / RV_ROUTER_WINDOW, "%g", explores);
    closed(&p);
}

static double weight_of(rv_pipeline *p, int64_t from, int64_t to)
{
    rv_arena *arena;
    rv_memory_edge *edges;
    size_t n;
    double weight = 0;
    CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
    CHECK_OK(rv_memory_neighbours(p->memory, rv_memory_whole(), from, arena, &edges, &n));
    for (size_t i = 0; i < n; i++) {
        weight = edges[i].from == to || edges[i].to == to ? edges[i].weight : weight;
    }
    rv_arena_free(arena);
    return weight;
}

TEST(what_is_good_enough_to_be_kept_is_what_the_pipeline_says)
{
    rv_pipeline p;
    int64_t again = 0, notes[2];
    sqlite3 *conn;
    bool added;
    rv_instant_stats stats;
    open_at(&p, temp_dir());
    p.good_rating = 5;
    CHECK_OK(rv_loop_setup(p.db));
    CHECK_OK(rv_instant_open(&rv_heap, p.db, p.embed, p.memory, &p.instant));
    static const char *const texts[] = { "The bakery opens at seven.", "The pool is closed." };
    for (int i = 0; i < 2; i++) {
        CHECK_OK(rv_memory_add(p.memory, rv_memory_of(NULL),
                               &(rv_memory_new){ .type = "note", .text = texts[i] }, &notes[i], &added));
    }
    for (int rating = 4; rating <= 5; rating++) {
        char id[37];
        snprintf(id, sizeof id, "00000000-0000-4000-8000-%012d", rating);
        rv_episode e = { .request_id = id,
                         .session_id = "s",
                         .question = "When does it open?",
                         .answer = "at seven [1]",
                         .model = "m",
                         .sources = notes,
                         .n_sources = 2 };
        rv_feedback_done done;
        CHECK_OK(rv_db_begin(p.db, &conn));
        CHECK_OK(rv_episode_append(conn, &e));
        CHECK_OK(rv_db_commit(p.db));
        CHECK_OK(rv_pipeline_feedback(&p, "", &(rv_feedback){ .request_id = id, .rating = rating }, &again,
                                      &done));
        rv_instant_get_stats(p.instant, &stats);
        CHECK((done.qa != 0) == (rating == 5) && stats.signals == (rating == 5), "%d: node %lld, %zu signals",
              rating, (long long)done.qa, stats.signals);
    }
    closed(&p);
}

/* A rating moves edges and turns questions once. Saying it again, or another one in its place, is kept and moves nothing more; a correction is
 * news. */
TEST(a_request_teaches_once_however_often_it_is_rated)
{
    static const char id[] = "00000000-0000-4000-8000-000000000001";
    rv_pipeline p;
    int64_t again = 0, notes[2];
    sqlite3 *conn;
    bool added;
    open_at(&p, temp_dir());
    p.feedback_per_day = 0;
    CHECK_OK(rv_loop_setup(p.db));
    CHECK_OK(rv_instant_open(&rv_heap, p.db, p.embed, p.memory, &p.instant));
    CHECK_OK(rv_memory_add(p.memory, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "note", .text = "The bakery opens at seven." },
                           &notes[0], &added));
    CHECK_OK(rv_memory_add(p.memory, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "note", .text = "The pool is closed." }, &notes[1],
                           &added));
    CHECK_OK(rv_memory_link(p.memory, rv_memory_whole(), notes[0], notes[1], "same_topic", 0.5));
    rv_episode e = { .request_id = id,
                     .session_id = "s",
                     .question = "When does it open?",
                     .answer = "Not in the passages. [2]",
                     .model = "m",
                     .sources = notes,
                     .n_sources = 2 };
    CHECK_OK(rv_db_begin(p.db, &conn));
    CHECK_OK(rv_episode_append(conn, &e));
    CHECK_OK(rv_db_commit(p.db));
    rv_feedback_done done;
    rv_instant_stats stats;
    double once = 0;
    for (int i = 0; i < 20; i++) {
        CHECK_OK(rv_pipeline_feedback(&p, "", &(rv_feedback){ .request_id = id, .rating = i % 2 ? 4 : 5 },
                                      &again, &done));
        CHECK(done.first == (i == 0) && done.news == (i == 0), "%d: first %d, news %d", i, done.first,
              done.news);
        once = i ? once : weight_of(&p, notes[0], notes[1]);
    }
    rv_instant_get_stats(p.instant, &stats);
    CHECK(stats.signals == 1, "%zu signals", stats.signals);
    CHECK(once > 0.5 && weight_of(&p, notes[0], notes[1]) == once, "%g, then %g", once,
          weight_of(&p, notes[0], notes[1]));
    CHECK_OK(rv_pipeline_feedback(&p, "", &(rv_feedback){ .request_id = id, .correction = "At seven." },
                                  &again, &done));
    CHECK(!done.first && done.news, "a correction is news");
    rv_instant_get_stats(p.instant, &stats);
    CHECK(stats.signals == 2, "%zu signals", stats.signals);
    closed(&p);
}
