/* Damaged files: noticed and said, made again, or without any effect; never another answer. RV_DAMAGE_ROLE="dump DIR" makes the program print
 * all that a store holds, for ../shared/hostile/mangle.py (tests/e2e/faults/mangle.sh). */
#include "memory_helpers.h"
#include "base/file.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- all that a store holds, as text ---- */

static void dump_nodes(const rv_memory_hits *hits, rv_text *out)
{
    for (size_t i = 0; i < hits->n; i++) {
        const rv_memory_node *n = &hits->at[i];
        rv_text_addf(out, "%lld %s %s %s %s %s %.17g %lld %lld %llu %llu %s %.9g %.9g %.9g\n",
                     (long long)n->id, n->type, n->text, n->source, n->user, n->origin, n->confidence,
                     (long long)n->created_ms, (long long)n->corrected_by, (unsigned long long)n->offset,
                     (unsigned long long)n->length, n->metadata, n->score, n->vector_score, n->words_score);
        for (size_t t = 0; t < n->n_tags; t++) {
            rv_text_addf(out, "  tag %s\n", n->tags[t]);
        }
    }
}

static rv_err dump(rv_memory *m, rv_arena *arena, rv_text *out)
{
    static const char *const questions[] = { "When does the library open?", "kiln in the cellar", "wren",
                                             "small" };
    RV_TRY(rv_memory_check(m));
    rv_memory_hits hits = { 0 };
    RV_TRY(rv_memory_list(m, rv_memory_whole(), NULL, 1000, 0, arena, &hits));
    dump_nodes(&hits, out);
    for (size_t i = 0; i < hits.n; i++) {
        rv_memory_edge *edges;
        size_t n;
        RV_TRY(rv_memory_neighbours(m, rv_memory_whole(), hits.at[i].id, arena, &edges, &n));
        for (size_t k = 0; k < n; k++) {
            rv_text_addf(out, "%lld -> %lld %s %.9g\n", (long long)edges[k].from, (long long)edges[k].to,
                         edges[k].type, edges[k].weight);
        }
    }
    for (size_t q = 0; q < RV_COUNT(questions); q++) {
        for (int mode = 0; mode < 3; mode++) {
            RV_TRY(rv_memory_search(
                m, rv_memory_whole(),
                &(rv_memory_query){ .text = questions[q], .k = 5, .mode = (rv_memory_mode)mode }, arena,
                &hits));
            dump_nodes(&hits, out);
        }
    }
    return rv_text_check(out);
}

static rv_err dump_dir(const char *dir, rv_text *out)
{
    store s;
    rv_arena *arena = NULL;
    RV_TRY(store_open_with(&rv_heap, dir, toy, &s));
    rv_err e = rv_arena_new(&rv_heap, 64 << 20, &arena);
    if (!e) {
        e = dump(s.m, arena, out);
    }
    rv_arena_free(arena);
    store_close(&s);
    return e;
}

static void fill(const char *dir)
{
    store s = store_open(dir);
    char notes[4200];
    snprintf(notes, sizeof notes, "%s", source_path("examples/notes"));
    const char *tags[] = { "one", "two" };
    rv_memory_import done = { 0 };
    if (rv_file_exists(notes)) {
        CHECK_OK(rv_memory_import_paths(s.m, rv_memory_of("ann"), (const char *const[]){ notes }, 1, tags, 2,
                                        NULL, NULL, &done));
    }
    json_t *metadata = json_pack("{s:s}", "k", "v");
    int64_t id = add_note(s.m, "The wren is small."), fact;
    bool added;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of("ann"),
                           &(rv_memory_new){ .type = "fact",
                                             .text = "The wren is tiny.",
                                             .tags = tags,
                                             .n_tags = 1,
                                             .corrects = id,
                                             .metadata = metadata,
                                             .origin = "r" },
                           &fact, &added));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), fact, id, "same_topic", 0.25));
    json_decref(metadata);
    store_close(&s);
}

__attribute__((constructor)) static void take_role(void)
{
    const char *role = getenv("RV_DAMAGE_ROLE");
    char dir[4000];
    if (role && sscanf(role, "fill %3999s", dir) == 1) {
        fill(dir);
        _exit(0);
    }
    if (role && sscanf(role, "dump %3999s", dir) == 1) {
        rv_text out;
        rv_text_init(&out, &rv_heap, 64 << 20);
        rv_err e = dump_dir(dir, &out);
        printf("%s", e ? rv_err_text() : rv_text_get(&out));
        fflush(stdout);
        _exit(e ? 1 : 0);
    }
}

/* ---- damage in every simple way ---- */

typedef struct bytes {
    char *at;
    size_t n;
} bytes;

static void put(const char *path, const char *at, size_t n)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(at, 1, n, f) == n && fclose(f) == 0, "%s", path);
}

static void clean_up(const char *dir)
{
    static const char *const beside[] = { "ruvllm.db-wal", "ruvllm.db-shm" };
    for (size_t i = 0; i < RV_COUNT(beside); i++) {
        char path[4300];
        snprintf(path, sizeof path, "%s/%s", dir, beside[i]);
        remove(path);
    }
}

/* One damage of copy, which has the bytes of good; returns its new length. */
static size_t damage(bytes good, char *copy, rv_rng *rng, const char **what)
{
    size_t page = rv_rng_below(rng, 2) ? 512 : 4096, pages = (good.n + page - 1) / page;
    size_t a = rv_rng_below(rng, pages) * page, b = rv_rng_below(rng, pages) * page,
           at = rv_rng_below(rng, good.n);
    size_t n = good.n - (a > b ? a : b) < page ? good.n - (a > b ? a : b) : page;
    switch (rv_rng_below(rng, 8)) {
    case 0:
        *what = "zeroed";
        memset(copy + a, 0, n);
        return good.n;
    case 1:
        *what = "filled";
        memset(copy + a, 0xff, n);
        return good.n;
    case 2:
        *what = "copied";
        memmove(copy + a, good.at + b, n);
        return good.n;
    case 3:
        *what = "swapped";
        memmove(copy + a, good.at + b, n);
        memmove(copy + b, good.at + a, n);
        return good.n;
    case 4: *what = "cut"; return at;
    default:
        *what = "bit flipped";
        copy[at] = (char)(copy[at] ^ 1 << rv_rng_below(rng, 8));
        return good.n;
    }
}

/* derived: all that the file holds is made again from the database, so no damage of it is an error. */
static void damage_again_and_again(const char *file, bool derived)
{
    const char *dir = temp_path("data");
    fill(dir);
    rv_text good_dump, dumped;
    rv_text_init(&good_dump, &rv_heap, 64 << 20);
    rv_text_init(&dumped, &rv_heap, 64 << 20);
    CHECK_OK(dump_dir(dir, &good_dump));
    char path[4300];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    bytes good;
    CHECK_OK(rv_file_read(&rv_heap, path, 256 << 20, &good.at, &good.n));
    char *copy = rv_new(&rv_heap, good.n);
    rv_rng rng;
    rv_rng_init(&rng, 11);
    int rounds = getenv("RV_DAMAGES") ? atoi(getenv("RV_DAMAGES")) : 250, noticed = 0;
    for (int i = 0; i < rounds; i++) {
        const char *what;
        memcpy(copy, good.at, good.n);
        size_t n = damage(good, copy, &rng, &what);
        clean_up(dir);
        put(path, copy, n);
        rv_text_clear(&dumped);
        rv_err e = dump_dir(dir, &dumped);
        noticed += e != RV_OK;
        CHECK(e || strcmp(rv_text_get(&dumped), rv_text_get(&good_dump)) == 0,
              "%s, round %d (%s): another answer, and no error", file, i, what);
        CHECK(!e || (e != RV_E_NOMEM && rv_err_text()[0]), "round %d: %s", i, rv_err_text());
    }
    CHECK(derived ? noticed == 0 : noticed > rounds / 4, "%d of %d were errors", noticed, rounds);
    print_message("# %s: %d damages, %d of them errors, the others without effect\n", file, rounds, noticed);
    rv_free(&rv_heap, copy);
    rv_free(&rv_heap, good.at);
    rv_text_deinit(&good_dump);
    rv_text_deinit(&dumped);
}

/* ---- one node ---- */

/* As a byte that changed on the disk: the row says something else, its checksum and the index of words do not. */
static void damage_node(rv_db *db, int64_t id)
{
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(db, &conn));
    CHECK_OK(rv_db_exec(conn, "UPDATE nodes SET text = 'q' || substr(text, 2) WHERE id = ?1", "i", id));
    CHECK_OK(rv_db_commit(db));
}

static size_t found(rv_memory *m, const char *text, rv_arena *arena)
{
    rv_memory_hits hits;
    rv_memory_query q = { .text = text, .k = 10, .mode = RV_MEMORY_WORDS };
    CHECK_OK(rv_memory_search(m, rv_memory_whole(), &q, arena, &hits));
    return hits.n;
}

static rv_memory_exported publish(rv_memory *m, const char *dir)
{
    rv_memory_exported out = { 0 };
    CHECK_OK(rv_memory_export(m, rv_memory_whole(), dir, &(rv_memory_export_options){ .name = "b" }, NULL,
                              NULL, &out));
    return out;
}

/* at_start: it was damaged before the store was opened, else meanwhile. */
static void check_one_damaged(bool at_start)
{
    const char *dir = temp_path("data");
    rv_arena *arena;
    rv_memory_hits hits;
    rv_memory_node node;
    rv_memory_restored back = { 0 };
    size_t removed = 9;
    CHECK_OK(rv_arena_new(&rv_heap, 8 << 20, &arena));
    fill(dir);
    store s = store_open(dir);
    int64_t wren = add_note(s.m, "The heron and the wren."), pond = add_note(s.m, "The heron sleeps."),
            reed = add_note(s.m, "A heron builds in the reed.");
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), wren, pond, "follows", 1));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), pond, reed, "follows", 1));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), reed, wren, "follows", 1));
    CHECK_OK(rv_memory_keep(s.m, rv_memory_whole(), pond, &(bool){ true }, NULL));
    rv_memory_exported all = publish(s.m, temp_path("all")), rest;
    CHECK(all.damaged == 0, "%zu", all.damaged);
    if (at_start) {
        damage_node(s.db, pond);
        store_close(&s);
        s = store_open(dir);
        CHECK_OK(rv_memory_list(s.m, rv_memory_whole(), NULL, 1000, 0, arena, &hits));
        CHECK(hits.n == all.nodes - 1, "%zu are listed", hits.n);
        CHECK(found(s.m, "heron", arena) == 2, "%zu herons", found(s.m, "heron", arena));
        int64_t again = add_note(s.m, "qhe heron sleeps."); /* what the damaged one says now */
        CHECK(again > reed, "%lld", (long long)again);
        CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), again, NULL, &removed));
        CHECK_OK(rv_memory_rm(s.m, rv_memory_of("ann"), pond, NULL, &removed));
        CHECK(removed == 0, "nobody's in particular");
        rv_memory_compacted done;
        CHECK_OK(rv_memory_compact(s.m, NULL, NULL, &done));
    } else {
        damage_node(s.db, pond);
    }
    CHECK_ERR(rv_memory_check(s.m), RV_E_CORRUPT);
    CHECK(strstr(rv_err_text(), "does not fit its checksum"), "%s", rv_err_text());
    CHECK_ERR(rv_memory_get(s.m, rv_memory_whole(), pond, arena, &node), RV_E_CORRUPT);
    const char *bundle = temp_path("rest");
    rest = publish(s.m, bundle);
    CHECK(rest.damaged == 1 && rest.nodes == all.nodes - 1 && rest.edges == all.edges - 2,
          "%zu damaged, %zu nodes, %zu edges", rest.damaged, rest.nodes, rest.edges);
    store t = store_open(temp_path("other"));
    CHECK_OK(rv_memory_restore(t.m, bundle, NULL, NULL, &back));
    CHECK_OK(rv_memory_check(t.m));
    store_close(&t);

    CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), pond, NULL, &removed));
    CHECK(removed == 1, "%zu", removed);
    for (int opened = 0; opened < 2; opened++) {
        CHECK_OK(rv_memory_check(s.m));
        CHECK(found(s.m, "heron sleeps", arena) == 2, "%zu herons", found(s.m, "heron sleeps", arena));
        CHECK(publish(s.m, temp_path("end")).nodes == all.nodes - 1, "not all");
        store_close(&s);
        s = store_open(dir);
    }
    CHECK_ERR(rv_memory_get(s.m, rv_memory_whole(), pond, arena, &node), RV_E_NOT_FOUND);
    store_close(&s);
    rv_arena_free(arena);
}

TEST(a_damaged_node_can_be_removed_and_the_others_are_as_before)
{
    check_one_damaged(true);
    check_one_damaged(false);
}

TEST(a_damaged_database_never_gives_another_answer)
{
    damage_again_and_again("ruvllm.db", false);
}

TEST(a_damaged_vector_file_is_made_again_and_gives_the_same_answers)
{
    damage_again_and_again("vectors/00000001.seg", true);
}
