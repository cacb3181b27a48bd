/* Bundles searched as they are: several give what one of all would give, and each is looked at as often as it was asked for. */
#include "memory_helpers.h"
#include "memory/lake.h"

#include <stdlib.h>
#include <unistd.h>

static rv_arena *arena(void)
{
    static rv_arena *a;
    if (!a) {
        CHECK_OK(rv_arena_new(&rv_heap, (size_t)64 << 20, &a));
    }
    rv_arena_reset(a);
    return a;
}

/* A bundle called name of the notes first, first + step ... below last, each with its words. */
static void make_bundle(const char *dir, const char *name, int first, int last, int step)
{
    static const char *const words[] = { "amber", "birch", "cedar", "dune",  "ember",
                                         "fjord", "grove", "heath", "islet", "jetty" };
    store s = store_open(temp_path("data"));
    for (int i = first; i < last; i += step) {
        char text[128];
        snprintf(text, sizeof text, "%s %s %s number %d", words[i % 10], words[i / 10 % 10],
                 words[i / 7 % 10], i);
        add_note(s.m, text);
    }
    rv_memory_exported out;
    CHECK_OK(rv_memory_export(s.m, rv_memory_whole(), dir, &(rv_memory_export_options){ .name = name }, NULL,
                              NULL, &out));
    store_close(&s);
}

static rv_lake_hits search(rv_lake *lake, const char *text, size_t k)
{
    float vector[TOY_DIM];
    rv_lake_hits hits;
    CHECK_OK(toy_text(NULL, text, strlen(text), vector));
    CHECK_OK(rv_lake_search(lake, vector, k, arena(), &hits));
    return hits;
}

static rv_lake *lake_of(const char *const *dirs, size_t n, rv_consistency consistency, int64_t ttl_ms)
{
    rv_lake *lake;
    CHECK_OK(rv_lake_new(&rv_heap, toy, (size_t)64 << 20, &lake));
    for (size_t i = 0; i < n; i++) {
        CHECK_OK(rv_lake_add(lake, dirs[i], consistency, ttl_ms));
    }
    return lake;
}

TEST(several_bundles_give_what_one_of_all_would)
{
    const char *one = temp_path("one"), *parts[4];
    make_bundle(one, "all", 0, 200, 1);
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%d", i);
        parts[i] = temp_path(name);
        make_bundle(parts[i], name, i * 50, i * 50 + 50,
                    1); /* what is near lies in one of them: the worst case */
    }
    rv_lake *all = lake_of(&one, 1, RV_LAKE_FRESH, 0), *many = lake_of(parts, 4, RV_LAKE_FRESH, 0);
    static const char *const questions[] = { "amber birch cedar", "number", "jetty jetty islet dune",
                                             "heath" };
    for (size_t q = 0; q < RV_COUNT(questions); q++) {
        rv_lake_hits x = search(all, questions[q], 10);
        double scores[10];
        CHECK(x.n == 10, "%zu", x.n);
        for (size_t i = 0; i < 10; i++) {
            scores[i] = x.at[i].node.score;
        }
        rv_lake_hits y = search(many, questions[q], 10);
        for (size_t i = 0; i < 10; i++) {
            CHECK(y.n == 10 && fabs(scores[i] - y.at[i].node.score) < 1e-6, "%s %zu: %g %g", questions[q], i,
                  scores[i], y.at[i].node.score);
        }
    }
    rv_lake_free(all);
    rv_lake_free(many);
}

TEST(each_is_looked_at_as_often_as_was_asked_for)
{
    const char *dir = temp_path("bundle");
    make_bundle(dir, "b", 0, 20, 1);
    rv_lake *fresh = lake_of(&dir, 1, RV_LAKE_FRESH, 0),
            *eventual = lake_of(&dir, 1, RV_LAKE_EVENTUAL, 100000),
            *frozen = lake_of(&dir, 1, RV_LAKE_FROZEN, 0), *short_ttl = lake_of(&dir, 1, RV_LAKE_EVENTUAL, 1);
    rv_lake *const lakes[] = { fresh, eventual, frozen, short_ttl };
    for (size_t i = 0; i < RV_COUNT(lakes); i++) {
        CHECK(search(lakes[i], "number", 100).n == 20 && search(lakes[i], "number", 100).n == 20, "%zu", i);
    }
    make_bundle(dir, "b", 0, 30, 1);
    usleep(5000);
    CHECK(search(fresh, "number", 100).n == 30, "fresh");
    CHECK(search(eventual, "number", 100).n == 20, "eventual, within its time");
    CHECK(search(short_ttl, "number", 100).n == 30, "eventual, after its time");
    CHECK(search(frozen, "number", 100).n == 20, "frozen");
    rv_lake_state found;
    CHECK_OK(rv_lake_refresh(frozen, dir, &found));
    CHECK(found == RV_LAKE_INVALIDATED && search(frozen, "number", 100).n == 30, "refreshed");
    CHECK_OK(rv_lake_refresh(frozen, dir, &found));
    CHECK(found == RV_LAKE_UP_TO_DATE, "%d", found);
    CHECK_ERR(rv_lake_refresh(frozen, "/another", &found), RV_E_NOT_FOUND);
    rv_lake_stats s;
    rv_lake_get_stats(fresh, &s);
    CHECK(s.checks == 3 && s.primes == 2 && s.invalidations == 1 && s.hits == 1, "%llu checks",
          (unsigned long long)s.checks);
    rv_lake_get_stats(frozen, &s);
    CHECK(s.checks == 3 && s.primes == 2, "%llu checks", (unsigned long long)s.checks);

    char gone[4200];
    snprintf(gone, sizeof gone, "%s.away", dir);
    CHECK(rename(dir, gone) == 0, "rename");
    float vector[TOY_DIM];
    rv_lake_hits hits;
    CHECK_OK(toy_text(NULL, "number", 6, vector));
    CHECK_ERR(rv_lake_search(fresh, vector, 3, arena(), &hits), RV_E_NOT_FOUND);
    CHECK(search(eventual, "number", 100).n == 20 && search(frozen, "number", 100).n == 30,
          "they do not look");
    CHECK_OK(rv_lake_refresh(frozen, dir, &found));
    CHECK(found == RV_LAKE_MISSING, "%d", found);
    for (size_t i = 0; i < RV_COUNT(lakes); i++) {
        rv_lake_free(lakes[i]);
    }
}

TEST(equal_bundles_are_read_once_and_failures_are_told)
{
    const char *dirs[4] = { temp_path("a"), temp_path("b"), temp_path("missing"), NULL };
    char command[9000];
    make_bundle(dirs[0], "x", 0, 20, 1);
    snprintf(command, sizeof command, "cp -r %s %s", dirs[0], dirs[1]);
    CHECK(system(command) == 0, "%s", command);
    rv_lake *lake = lake_of(dirs, 3, RV_LAKE_FRESH, 0);
    CHECK_ERR(rv_lake_add(lake, dirs[0], RV_LAKE_FRESH, 0), RV_E_ARG);
    rv_lake_hits hits = search(lake, "number", 100);
    CHECK(hits.n == 20 && hits.failed == 1 && strstr(hits.first_failure, "missing"), "%zu, %s", hits.n,
          hits.first_failure);
    rv_lake_stats s;
    rv_lake_get_stats(lake, &s);
    CHECK(s.primes == 1 && s.shared_hits == 1 && s.cached == 1, "%llu primes", (unsigned long long)s.primes);
    rv_lake_free(lake);
    CHECK_OK(rv_lake_new(&rv_heap, (rv_memory_embedder){ .name = "other", .dim = TOY_DIM, .text = toy_text },
                         0, &lake));
    CHECK_OK(rv_lake_add(lake, dirs[0], RV_LAKE_FRESH, 0));
    float vector[TOY_DIM] = { 1 };
    CHECK_ERR(rv_lake_search(lake, vector, 3, arena(), &hits), RV_E_CONFIG);
    CHECK_ERR(rv_lake_search(lake, (float[TOY_DIM]){ NAN }, 3, arena(), &hits), RV_E_ARG);
    rv_lake_free(lake);
}

TEST(what_is_not_in_use_goes_when_there_is_no_room)
{
    const char *dirs[2] = { temp_path("a"), temp_path("b") };
    make_bundle(dirs[0], "a", 0, 20, 1);
    make_bundle(dirs[1], "b", 20, 40, 1);
    rv_lake *lake;
    CHECK_OK(rv_lake_new(&rv_heap, toy, 1, &lake));
    CHECK_OK(rv_lake_add(lake, dirs[0], RV_LAKE_FROZEN, 0));
    CHECK_OK(rv_lake_add(lake, dirs[1], RV_LAKE_FROZEN, 0));
    for (int i = 0; i < 3; i++) {
        CHECK(search(lake, "number", 100).n == 40, "%d", i);
    }
    rv_lake_stats s;
    rv_lake_get_stats(lake, &s);
    CHECK(s.cached == 0 && s.evictions == 6 && s.primes == 6, "%zu cached", s.cached);
    rv_lake_free(lake);
}

TEST(frozen_stays_what_it_was_or_says_that_it_cannot)
{
    const char *dir = temp_path("bundle");
    rv_lake *lake;
    rv_lake_state found;
    rv_lake_hits hits;
    float vector[TOY_DIM];
    make_bundle(dir, "b", 0, 20, 1);
    CHECK_OK(rv_lake_new(&rv_heap, toy, 1, &lake)); /* nothing stays in memory */
    CHECK_OK(rv_lake_add(lake, dir, RV_LAKE_FROZEN, 0));
    CHECK(search(lake, "number", 100).n == 20 && search(lake, "number", 100).n == 20, "read again, the same");
    make_bundle(dir, "b", 0, 30, 1);
    CHECK_OK(toy_text(NULL, "number", 6, vector));
    CHECK_ERR(rv_lake_search(lake, vector, 100, arena(), &hits), RV_E_NOT_FOUND);
    CHECK(strstr(rv_err_text(), dir), "%s", rv_err_text());
    CHECK_OK(rv_lake_refresh(lake, dir, &found));
    CHECK(found == RV_LAKE_INVALIDATED && search(lake, "number", 100).n == 30, "refreshed");
    rv_lake_free(lake);
}

TEST(what_is_corrected_in_its_bundle_is_left_out)
{
    const char *dir = temp_path("bundle");
    store s = store_open(temp_path("data"));
    int64_t old = add_note(s.m, "the library opens at nine"), id;
    bool added;
    CHECK_OK(
        rv_memory_add(s.m, rv_memory_of(NULL),
                      &(rv_memory_new){ .type = "fact", .text = "the library opens at ten", .corrects = old },
                      &id, &added));
    rv_memory_exported out;
    CHECK_OK(rv_memory_export(s.m, rv_memory_whole(), dir, &(rv_memory_export_options){ .name = "n" }, NULL,
                              NULL, &out));
    store_close(&s);
    rv_lake *lake = lake_of(&dir, 1, RV_LAKE_FRESH, 0);
    rv_lake_hits hits = search(lake, "when does the library open at nine", 10);
    CHECK(hits.n == 1 && hits.at[0].node.id == id && strcmp(hits.at[0].bundle, "n") == 0, "%zu hits", hits.n);
    rv_lake_free(lake);
}

/* Half of a new bundle: its head is there, its vectors are not what it says. */
TEST(what_is_damaged_is_served_from_what_was_read_for_a_time)
{
    enum { TTL_MS = 200 };
    const char *dir = temp_path("one");
    make_bundle(dir, "one", 0, 20, 1);
    rv_lake *lake = lake_of(&dir, 1, RV_LAKE_EVENTUAL, TTL_MS),
            *fresh = lake_of(&dir, 1, RV_LAKE_FRESH, TTL_MS);
    CHECK(search(lake, "amber", 30).n == 20 && search(fresh, "amber", 30).n == 20, "as it was");
    make_bundle(dir, "one", 0, 25, 1);
    char command[4400];
    snprintf(command, sizeof command,
             "for f in '%s'/vectors-*; do printf x | dd of=\"$f\" conv=notrunc 2>/dev/null; done", dir);
    CHECK(system(command) == 0, "%s", command);
    usleep(2 * TTL_MS * 1000);
    float vector[TOY_DIM];
    rv_lake_hits hits;
    CHECK_OK(toy_text(NULL, "amber", 5, vector));
    CHECK_ERR(rv_lake_search(fresh, vector, 30, arena(), &hits), RV_E_CORRUPT);
    for (int i = 0; i < 2; i++) {
        hits = search(lake, "amber", 30);
        CHECK(hits.n == 20 && hits.stale == 1 && hits.failed == 0, "%d: %zu hits, %zu stale", i, hits.n,
              hits.stale);
    }
    usleep(10 * TTL_MS * 1000);
    CHECK_ERR(rv_lake_search(lake, vector, 30, arena(), &hits), RV_E_CORRUPT);
    make_bundle(dir, "one", 0, 30, 1);
    usleep(2 * TTL_MS * 1000);
    hits = search(lake, "amber", 40);
    CHECK(hits.n == 30 && hits.stale == 0, "%zu hits, %zu stale", hits.n, hits.stale);
    rv_lake_free(lake);
    rv_lake_free(fresh);
}
