/* Compacting: room goes back to the disk, and nothing that is remembered changes. */
#include "memory_helpers.h"
#include "base/file.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

enum { NOTES = 900 };

static int64_t notes[NOTES];

/* Letters only: the embedder of the tests sees nothing else. */
static void note_text(char out[64], int i)
{
    snprintf(out, 64, "the yard has %c%c%c and %c%c", 'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676,
             'k' + i % 13, 'a' + i % 19);
}

static const char *note(int i)
{
    static char text[64];
    note_text(text, i);
    return text;
}

/* Every fourth stays. */
static const char *sparse_store(void)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    for (int i = 0; i < NOTES; i++) {
        notes[i] = add_note(s.m, note(i));
    }
    for (int i = 0; i < NOTES; i++) {
        size_t removed = 0;
        if (i % 4) {
            CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), notes[i], NULL, &removed));
        }
    }
    store_close(&s);
    return dir;
}

static size_t files_in(const char *dir)
{
    char path[4200];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/vectors", dir);
    DIR *d = opendir(path);
    CHECK(d, "%s", path);
    for (const struct dirent *e; (e = readdir(d));) {
        n += strstr(e->d_name, ".seg") != NULL;
    }
    closedir(d);
    return n;
}

/* The ten nearest to some texts, by vectors: ids and scores. */
static void nearest(rv_memory *m, int64_t ids[10][10], double scores[10][10])
{
    rv_arena *arena;
    CHECK_OK(rv_arena_new(&rv_heap, 4 << 20, &arena));
    for (int q = 0; q < 10; q++) {
        rv_memory_hits hits;
        rv_arena_reset(arena);
        CHECK_OK(rv_memory_search(
            m, rv_memory_whole(),
            &(rv_memory_query){ .text = note(q * 7), .k = 10, .mode = RV_MEMORY_VECTOR, .recall = 1 }, arena,
            &hits));
        CHECK(hits.n == 10, "%zu hits", hits.n);
        for (size_t i = 0; i < 10; i++) {
            ids[q][i] = hits.at[i].id;
            scores[q][i] = hits.at[i].score;
        }
    }
    rv_arena_free(arena);
}

TEST(what_is_left_is_found_as_before_in_less_room)
{
    int64_t before[10][10], after[10][10];
    double scores[10][10], scores_after[10][10];
    const char *dir = sparse_store();
    store s = store_open(dir);
    rv_memory_stats had, has;
    rv_memory_compacted done;
    CHECK_OK(rv_memory_get_stats(s.m, &had));
    nearest(s.m, before, scores);
    CHECK_OK(rv_memory_compact(s.m, NULL, NULL, &done));
    CHECK(done.erased > 0 && done.moved == NOTES / 4 && done.files == 1,
          "%zu erased, %zu moved, %zu files removed", done.erased, done.moved, done.files);
    CHECK_OK(rv_memory_get_stats(s.m, &has));
    CHECK(has.vectors == NOTES / 4 && has.vectors_dead == 0, "%zu vectors, %zu dead", has.vectors,
          has.vectors_dead);
    CHECK(has.vector_bytes < had.vector_bytes / 2 && has.db_bytes < had.db_bytes,
          "%llu and %llu bytes, %llu and %llu before", (unsigned long long)has.vector_bytes,
          (unsigned long long)has.db_bytes, (unsigned long long)had.vector_bytes,
          (unsigned long long)had.db_bytes);
    for (int again = 0; again < 2; again++) {
        CHECK_OK(rv_memory_check(s.m));
        nearest(s.m, after, scores_after);
        CHECK(memcmp(before, after, sizeof before) == 0 && memcmp(scores, scores_after, sizeof scores) == 0,
              "other answers");
        int64_t id = add_note(s.m, again ? "a gate" : "a fence");
        CHECK(id > notes[NOTES - 1], "id %lld again", (long long)id);
        store_close(&s);
        CHECK(files_in(dir) == 1, "%zu files", files_in(dir));
        s = store_open(dir);
    }
    store_close(&s);
}

TEST(compacting_again_has_nothing_to_move)
{
    store s = store_open(sparse_store());
    rv_memory_compacted done;
    CHECK_OK(rv_memory_compact(s.m, NULL, NULL, &done));
    CHECK_OK(rv_memory_compact(s.m, NULL, NULL, &done));
    CHECK(done.erased == 0 && done.moved == 0 && done.files == 0, "%zu, %zu, %zu", done.erased, done.moved,
          done.files);
    store_close(&s);
}

TEST(an_emptied_store_keeps_no_vectors)
{
    const char *dir = sparse_store();
    store s = store_open(dir);
    size_t removed = 0;
    CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), 0, &(rv_memory_filter){ .type = "note" }, &removed));
    store_close(&s);
    s = store_open(dir);
    rv_memory_compacted done;
    CHECK_OK(rv_memory_compact(s.m, NULL, NULL, &done));
    CHECK(done.erased == NOTES, "%zu erased", done.erased);
    rv_memory_stats has;
    CHECK_OK(rv_memory_get_stats(s.m, &has));
    CHECK(has.vector_bytes < (128 << 10), "%llu bytes for no vector", (unsigned long long)has.vector_bytes);
    add_note(s.m, "one");
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
    s = store_open(dir);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

static bool once(void *self, size_t done, size_t total)
{
    size_t *at = self;
    *at = done;
    (void)total;
    return false;
}

TEST(what_was_interrupted_goes_on)
{
    const char *dir = temp_path("data");
    enum { MANY = 1200 };
    store s = store_open(dir);
    size_t removed = 0;
    for (int i = 0; i < MANY; i++) {
        int64_t id = add_note(s.m, note(i));
        if (i % 3 == 0) {
            CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), id, NULL, &removed));
        }
    }
    rv_memory_compacted done;
    size_t at = 0, sum = 0;
    CHECK_ERR(rv_memory_compact(s.m, once, &at, &done), RV_E_CANCELLED);
    CHECK(done.moved == at && at > 0 && at < MANY * 2 / 3 && done.files == 0, "%zu moved", at);
    sum += done.moved;
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
    s = store_open(dir);
    CHECK_OK(rv_memory_compact(s.m, NULL, NULL, &done));
    CHECK(sum + done.moved == MANY * 2 / 3 && done.files == 1, "%zu and %zu moved", sum, done.moved);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
    CHECK(files_in(dir) == 1, "%zu files", files_in(dir));
}

/* ---- beside searches and changes ---- */

typedef struct shared {
    rv_memory *m;
    atomic_bool over;
    atomic_int wrong, searches;
} shared;

static void *search_on(void *arg)
{
    shared *s = arg;
    rv_arena *arena = NULL;
    if (rv_arena_new(&rv_heap, 4 << 20, &arena)) {
        atomic_fetch_add(&s->wrong, 1);
        return NULL;
    }
    for (int i = 0; !atomic_load(&s->over); i++) {
        char text[64];
        rv_memory_hits hits = { 0 };
        note_text(text, i % (NOTES / 4) * 4);
        rv_arena_reset(arena);
        rv_err e = rv_memory_search(
            s->m, rv_memory_whole(),
            &(rv_memory_query){ .text = text, .k = 3, .mode = RV_MEMORY_VECTOR, .recall = 1 }, arena, &hits);
        if (e || hits.n == 0 || hits.at[0].score < 0.999) { /* its own vector, or one that is the same */
            atomic_fetch_add(&s->wrong, 1);
        }
        atomic_fetch_add(&s->searches, 1);
    }
    rv_arena_free(arena);
    return NULL;
}

static void *add_on(void *arg)
{
    shared *s = arg;
    for (int i = 0; !atomic_load(&s->over); i++) {
        char text[64];
        int64_t id = 0;
        size_t removed = 0;
        bool added = false;
        snprintf(text, sizeof text, "a new thing %d", i);
        rv_memory_new new = { .type = "note", .text = text, .source = "user" };
        if (rv_memory_add(s->m, rv_memory_of(NULL), &new, &id, &added) || !added ||
            (i % 2 && (rv_memory_rm(s->m, rv_memory_whole(), id, NULL, &removed) || removed != 1))) {
            atomic_fetch_add(&s->wrong, 1);
        }
    }
    return NULL;
}

TEST(searches_and_changes_go_on_meanwhile)
{
    const char *dir = sparse_store();
    store st = store_open(dir);
    CHECK_OK(rv_memory_tune(st.m, &(rv_memory_tuning){ .index = "both", .index_from = 64 }));
    shared s = { .m = st.m };
    pthread_t searcher, adder;
    CHECK(pthread_create(&searcher, NULL, search_on, &s) == 0 &&
              pthread_create(&adder, NULL, add_on, &s) == 0,
          "threads");
    for (int i = 0; i < 12 || atomic_load(&s.searches) < 100; i++) {
        rv_memory_compacted done;
        CHECK_OK(rv_memory_compact(st.m, NULL, NULL, &done));
    }
    atomic_store(&s.over, true);
    pthread_join(searcher, NULL);
    pthread_join(adder, NULL);
    CHECK(atomic_load(&s.wrong) == 0, "%d went wrong", atomic_load(&s.wrong));
    CHECK_OK(rv_memory_check(st.m));
    store_close(&st);
    st = store_open(dir);
    CHECK_OK(rv_memory_check(st.m));
    store_close(&st);
}

/* Words by number: texts that have little in common. */
static void apart_text(char out[64], int i)
{
    uint64_t h = rv_hash64(&i, sizeof i, 0);
    for (int k = 0; k < 60; k++, h = h * 6364136223846793005u + 1442695040888963407u) {
        out[k] = k % 6 == 5 ? ' ' : (char)('a' + (h >> 40) % 26);
    }
    out[60] = 0;
}

/* Rows that were copied are zeros in their old file when that is cleaned before it could be removed; an index that was made before knows them
 * there until it is made again. */
TEST(a_search_by_an_index_finds_what_an_interrupted_run_has_moved)
{
    enum { MANY = 6000, TOGETHER = 100 };
    static char texts[MANY][64];
    static int64_t ids[MANY];
    store s = store_open(temp_path("data"));
    CHECK_OK(rv_memory_tune(s.m, &(rv_memory_tuning){ .index = "rabitq", .index_from = 64, .recall = 0.9 }));
    for (int i = 0; i < MANY; i += TOGETHER) {
        rv_memory_scope scopes[TOGETHER];
        rv_memory_new new[TOGETHER];
        rv_memory_added out[TOGETHER];
        size_t done;
        for (int k = 0; k < TOGETHER; k++) {
            apart_text(texts[i + k], i + k);
            scopes[k] = rv_memory_of(NULL);
            new[k] = (rv_memory_new){ .type = k % 2 ? "note" : "draft", .text = texts[i + k] };
        }
        CHECK_OK(rv_memory_add_many(s.m, scopes, new, TOGETHER, out, &done));
        for (int k = 0; k < TOGETHER; k++) {
            ids[i + k] = out[k].id;
        }
    }
    size_t removed, at = 0, erased;
    rv_memory_compacted done;
    CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), 0, &(rv_memory_filter){ .type = "draft" }, &removed));
    CHECK_OK(rv_memory_settle(s.m));
    CHECK_ERR(rv_memory_compact(s.m, once, &at, &done), RV_E_CANCELLED);
    CHECK(done.moved > 100 && done.moved < MANY / 4, "%zu", done.moved);
    CHECK_OK(rv_memory_scrub(s.m, &erased));
    CHECK(erased >= done.moved, "%zu erased", erased);
    rv_arena *arena;
    CHECK_OK(rv_arena_new(&rv_heap, 16 << 20, &arena));
    for (int i = 1; i < 100; i += 2) {
        rv_memory_hits hits;
        rv_arena_reset(arena);
        CHECK_OK(rv_memory_search(
            s.m, rv_memory_whole(),
            &(rv_memory_query){ .text = texts[i], .k = 1, .mode = RV_MEMORY_VECTOR, .recall = 0.9 }, arena,
            &hits));
        CHECK(hits.n == 1 && hits.at[0].score > 0.99, "%d: by %s, score %g", i, hits.plan.path,
              hits.n ? hits.at[0].score : -1.0);
        CHECK(hits.at[0].id == ids[i], "%d: %lld", i, (long long)hits.at[0].id);
    }
    rv_arena_free(arena);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}
