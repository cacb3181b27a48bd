/* Every operation with memory running out at its first, second, third ... request, ours and SQLite's: the error is clean, and
 * memory and disk are as before or as after, never between. */
#include "memory_helpers.h"
#include "memory/lake.h"

#include <stdlib.h>

static const char *text_file(void)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/file.md", temp_dir());
    FILE *f = fopen(path, "w");
    fputs("# Birds\n\nThe wren is small. It sings.\n\n## Owls\n\nThe owl is awake at night.\n", f);
    fclose(f);
    return path;
}

/* A store with a few nodes, a correction among them. */
static const char *prepared(int64_t *wrong)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    *wrong = add_note(s.m, "The hut has two windows.");
    int64_t id;
    bool added;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "fact", .text = "It has three.", .corrects = *wrong },
                           &id, &added));
    add_note(s.m, "A path leads to the hut.");
    store_close(&s);
    return dir;
}

/* What is counted before and after each operation: it changes by what the operation promised, or not at all. */
static size_t nodes_of(rv_memory *m)
{
    rv_memory_stats stats;
    CHECK_OK(rv_memory_get_stats(m, &stats));
    return stats.nodes;
}

/* Opens, adds, links, searches, imports, removes and compacts. Returns the first error; after each step the number of nodes is right. */
static rv_err whole_story(const rv_alloc *mem, const char *dir, const char *file, void (*calm)(bool on))
{
    store s;
    rv_arena *arena = NULL;
    const char *tags[] = { "b", "a" };
    RV_TRY(store_open_with(mem, dir, toy, &s));
    calm(true);
    size_t before = nodes_of(s.m), removed = 0;
    calm(false);
    int64_t id = 0;
    bool added = false;
    rv_memory_new new = { .type = "note",
                          .text = "A stork on the roof.",
                          .tags = tags,
                          .n_tags = 2,
                          .corrects = 1,
                          .pinned = true,
                          .examined = true };
    rv_err e = rv_memory_add(s.m, rv_memory_of("ann"), &new, &id, &added);
    calm(true);
    CHECK(nodes_of(s.m) == before + (e ? 0 : 1), "add: %s", rv_err_text());
    calm(false);
    const char *more[] = { "c" };
    json_t *metadata = json_pack("{s:i}", "k", 1);
    if (!e) { /* again, with another tag */
        int64_t same = 0;
        e = rv_memory_add(
            s.m, rv_memory_of("ann"),
            &(rv_memory_new){
                .type = "note", .text = new.text, .tags = more, .n_tags = 1, .metadata = metadata },
            &same, &added);
        CHECK(e || (same == id && !added), "%lld", (long long)same);
        calm(true);
        CHECK_OK(rv_arena_new(&rv_heap, 1 << 20, &arena));
        rv_memory_hits tagged = { 0 };
        CHECK_OK(
            rv_memory_list(s.m, rv_memory_whole(), &(rv_memory_filter){ .tag = "c" }, 5, 0, arena, &tagged));
        CHECK(tagged.n == (e ? 0 : 1), "%zu have the tag: %s", tagged.n, rv_err_text());
        rv_arena_free(arena);
        arena = NULL;
        calm(false);
    }
    json_decref(metadata);
    if (!e) {
        e = rv_memory_link(s.m, rv_memory_whole(), id, 3, "same_topic", 0.5);
    }
    if (!e) {
        e = rv_arena_new(mem, 1 << 20, &arena);
    }
    rv_memory_hits hits = { 0 };
    if (!e) {
        e = rv_memory_search(s.m, rv_memory_of("ann"),
                             &(rv_memory_query){ .text = "roof hut windows", .k = 5 }, arena, &hits);
        CHECK(e ? !hits.at : hits.n >= 2, "%zu hits", hits.n);
    }
    rv_memory_import done = { 0 };
    if (!e) {
        e = rv_memory_import_paths(s.m, rv_memory_of("ann"), &file, 1, tags, 2, NULL, NULL, &done);
        calm(true);
        CHECK(nodes_of(s.m) == before + (e ? 1 : 4), "import: %s", rv_err_text());
        calm(false);
    }
    rv_err e_rm = rv_memory_rm(s.m, rv_memory_of("ann"), 0, NULL, &removed);
    calm(true);
    rv_err e_check = rv_memory_check(s.m); /* needs memory itself */
    CHECK(e_check == RV_OK || e_check == RV_E_NOMEM, "check: %s", rv_err_text());
    if (e_rm) { /* so that the next round begins like this one */
        CHECK_OK(rv_memory_rm(s.m, rv_memory_of("ann"), 0, NULL, &removed));
    }
    CHECK(nodes_of(s.m) == before, "%zu nodes, %zu before", nodes_of(s.m), before);
    calm(false);
    rv_memory_compacted compacted;
    rv_err e_compact = rv_memory_compact(s.m, NULL, NULL, &compacted);
    calm(true);
    rv_err e_still = rv_memory_check(s.m);
    CHECK(e_still == RV_OK || e_still == RV_E_NOMEM, "check after compacting: %s", rv_err_text());
    calm(false);
    rv_arena_free(arena);
    store_close(&s);
    return e ? e : e_rm ? e_rm : e_check ? e_check : e_compact ? e_compact : e_still;
}

/* The counting allocator fails once, so what follows an error has memory again. */
static void nothing(bool on)
{
    (void)on;
}

TEST(our_memory_may_run_out_at_any_request)
{
    int64_t wrong;
    const char *dir = prepared(&wrong), *file = text_file();
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_err e = whole_story(&m.alloc, dir, file, nothing);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s: %s", m.fail_at, rv_err_name(e), rv_err_text());
    }
}

/* Exports a store, searches in what it wrote, and restores it into another. */
static rv_err bundle_story(const rv_alloc *mem, const char *dir, const char *bundle)
{
    store s = { 0 }, t = { 0 };
    rv_memory_exported out;
    rv_memory_restored back = { 0 };
    rv_lake *lake = NULL;
    rv_lake_hits hits;
    rv_arena *arena = NULL;
    float vector[TOY_DIM];
    rv_err e = store_open_with(mem, dir, toy, &s);
    e = e ? e
          : rv_memory_export(s.m, rv_memory_whole(), bundle, &(rv_memory_export_options){ .name = "b" }, NULL,
                             NULL, &out);
    store_close(&s);
    e = e ? e : toy_text(NULL, "the hut", 7, vector);
    e = e ? e : rv_arena_new(mem, 1 << 20, &arena);
    e = e ? e : rv_lake_new(mem, toy, 1 << 20, &lake);
    e = e ? e : rv_lake_add(lake, bundle, RV_LAKE_FRESH, 0);
    e = e ? e : rv_lake_search(lake, vector, 5, arena, &hits);
    CHECK(e || hits.n == 2, "%zu hits", hits.n);
    rv_lake_free(lake);
    rv_arena_free(arena);
    e = e ? e : store_open_with(mem, temp_path("other"), toy, &t);
    if (!e) {
        e = rv_memory_restore(t.m, bundle, NULL, NULL, &back);
        rv_err e_check = rv_memory_check(t.m);
        CHECK(e_check == RV_OK || e_check == RV_E_NOMEM, "check: %s", rv_err_text());
        e = e ? e : e_check;
    }
    store_close(&t);
    return e;
}

TEST(bundles_may_run_out_of_memory_at_any_request)
{
    int64_t wrong;
    const char *dir = prepared(&wrong), *bundle = temp_path("bundle");
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_err e = bundle_story(&m.alloc, dir, bundle);
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s: %s", m.fail_at, rv_err_name(e), rv_err_text());
    }
}

/* ---- SQLite's own memory: fails at one call, or from that call on ---- */

static long sqlite_calls, sqlite_fail_at;
static bool sqlite_for_ever, sqlite_calm, sqlite_failed;
static sqlite3_mem_methods real;

static bool refuse(void)
{
    if (sqlite_calm || sqlite_fail_at == 0) {
        return false;
    }
    sqlite_calls++;
    bool now = sqlite_calls == sqlite_fail_at || (sqlite_for_ever && sqlite_calls > sqlite_fail_at);
    sqlite_failed |= now;
    return now;
}

static void *failing_malloc(int n)
{
    return refuse() ? NULL : real.xMalloc(n);
}
static void *failing_realloc(void *p, int n)
{
    return refuse() ? NULL : real.xRealloc(p, n);
}
static void set_calm(bool on)
{
    sqlite_calm = on;
}

TEST(the_memory_of_the_database_may_run_out_at_any_request)
{
    sqlite3_shutdown();
    CHECK(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real) == SQLITE_OK, "get");
    sqlite3_mem_methods failing = real;
    failing.xMalloc = failing_malloc;
    failing.xRealloc = failing_realloc;
    CHECK(sqlite3_config(SQLITE_CONFIG_MALLOC, &failing) == SQLITE_OK, "set");

    int64_t wrong;
    const char *dir = prepared(&wrong), *file = text_file();
    for (int mode = 0; mode < 2; mode++) {
        sqlite_for_ever = mode == 1;
        bool again = true;
        for (long at = 1; again; at += 1 + at / 12) { /* all of the first, then fewer: there are thousands */
            sqlite_calls = 0;
            sqlite_failed = false;
            sqlite_fail_at = at;
            rv_err e = whole_story(&rv_heap, dir, file, set_calm);
            sqlite_fail_at = 0;
            again = sqlite_failed;
            CHECK(e == RV_OK || (e == RV_E_NOMEM && sqlite_failed), "call %ld: %s: %s", at, rv_err_name(e),
                  rv_err_text());
            store s = store_open(dir);
            CHECK_OK(rv_memory_check(s.m));
            size_t removed = 0; /* what a failure while opening or removing left */
            CHECK_OK(rv_memory_rm(s.m, rv_memory_of("ann"), 0, NULL, &removed));
            CHECK(nodes_of(s.m) == 3, "call %ld: %zu nodes", at, nodes_of(s.m));
            store_close(&s);
        }
    }
}
