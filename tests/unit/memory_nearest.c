/* The indexes of the memory: built beside the searches, saved, opened, followed, never trusted. Whatever state they are in, a row that was
 * removed is not found, one that was added is, and k that pass are k that are found. */
#include "memory_helpers.h"
#include "base/file.h"
#include "memory/memory_priv.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS = 1500, K = 10, QUESTIONS = 40 };

static rv_arena *arena(void)
{
    static rv_arena *a;
    if (!a) {
        CHECK_OK(rv_arena_new(&rv_heap, (size_t)256 << 20, &a));
    }
    rv_arena_reset(a);
    return a;
}

/* Letters only: digits are nothing to the toy embedder. */
static void write_word(rv_rng *rng, char out[8])
{
    uint64_t w = rv_rng_below(rng, 400);
    snprintf(out, 8, "w%c%cx", (char)('a' + w / 20), (char)('a' + w % 20));
}

static void write_text(rv_rng *rng, rv_text *out)
{
    char word[8];
    for (int i = 0; i < 12; i++) {
        write_word(rng, word);
        rv_text_addf(out, "%s%s", i ? " " : "", word);
    }
}

/* A chunk for each heading, in one transaction. */
static void import_rows(rv_memory *m, const char *dir, const char *name, uint64_t seed, size_t n,
                        const char *tag)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    rv_text text;
    rv_text_init(&text, &rv_heap, 16 << 20);
    for (size_t i = 0; i < n; i++) {
        rv_text_addf(&text, "# h%c%c%c\n\n", (char)('a' + i % 26), (char)('a' + i / 26 % 26),
                     (char)('a' + i / 676));
        write_text(&rng, &text);
        rv_text_adds(&text, ".\n\n");
    }
    char path[4200];
    snprintf(path, sizeof path, "%s/%s.md", dir, name);
    CHECK_OK(rv_file_replace(path, rv_text_get(&text), text.n));
    rv_text_deinit(&text);
    rv_memory_import done = { 0 };
    CHECK_OK(rv_memory_import_paths(m, rv_memory_of(NULL), (const char *const[]){ path }, 1, &tag,
                                    tag ? 1 : 0, NULL, NULL, &done));
    CHECK(done.chunks_added == n, "%zu chunks of %zu", done.chunks_added, n);
}

static void question(size_t i, rv_text *out)
{
    rv_rng rng;
    rv_rng_init(&rng, 1000 + i);
    rv_text_init(out, &rv_heap, 4096);
    write_text(&rng, out);
}

static rv_memory_hits ask(rv_memory *m, size_t i, double recall, rv_memory_filter filter, size_t k)
{
    rv_text text;
    question(i, &text);
    rv_memory_hits hits;
    CHECK_OK(rv_memory_search(m, rv_memory_whole(),
                              &(rv_memory_query){ .text = rv_text_get(&text),
                                                  .mode = RV_MEMORY_VECTOR,
                                                  .k = k,
                                                  .recall = recall,
                                                  .filter = filter },
                              arena(), &hits));
    rv_text_deinit(&text);
    return hits;
}

/* The part of the exact answers that is found. */
static double recall_of(rv_memory *m, double recall, rv_memory_filter filter)
{
    size_t good = 0, all = 0;
    for (size_t i = 0; i < QUESTIONS; i++) {
        rv_memory_hits exact = ask(m, i, 1, filter, K);
        CHECK(strcmp(exact.plan.path, "flat") == 0, "%s", exact.plan.path);
        double least = exact.n ? exact.at[exact.n - 1].score : 0;
        size_t n = exact.n;
        rv_memory_hits hits = ask(m, i, recall, filter, K);
        CHECK(hits.n == n, "question %zu: %zu hits, exact search %zu", i, hits.n, n);
        for (size_t h = 0; h < hits.n; h++) {
            good += hits.at[h].score >= least - 1e-6;
        }
        all += n;
    }
    return all ? (double)good / (double)all : 1;
}

static store open_tuned(const char *dir, const char *index)
{
    store s = store_open(dir);
    CHECK_OK(rv_memory_tune(s.m, &(rv_memory_tuning){ .index = index, .index_from = 256 }));
    return s;
}

static const char *index_path(const char *dir, const char *kind)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/vectors/%s.idx", dir, kind);
    return path;
}

static bool by_index(rv_memory *m, const char *kind)
{
    rv_memory_hits hits = ask(m, 0, 0.9, (rv_memory_filter){ 0 }, K);
    return strcmp(hits.plan.path, kind) == 0;
}

static void check_kind(const char *kind)
{
    const char *dir = temp_path("data"), *texts = temp_dir();
    store s = open_tuned(dir, kind);
    CHECK(!by_index(s.m, kind), "an empty store has an index");
    import_rows(s.m, texts, "first", 1, ROWS, "old");
    CHECK(recall_of(s.m, 0.99, (rv_memory_filter){ 0 }) >= 0.95, "%s while it may be built", kind);
    CHECK_OK(rv_memory_settle(s.m));
    CHECK(by_index(s.m, kind), "%s was not built", kind);
    CHECK(rv_file_exists(index_path(dir, kind)), "%s was not saved", kind);
    CHECK(recall_of(s.m, 0.99, (rv_memory_filter){ 0 }) >= 0.97, "%s after it was built", kind);

    import_rows(s.m, texts, "second", 2, 60, "new");
    rv_memory_hits found = ask(s.m, 1, 0.99, (rv_memory_filter){ .tag = "new" }, 60);
    CHECK(found.n == 60, "%zu of 60 that are new, right after they were written", found.n);
    CHECK(recall_of(s.m, 0.99, (rv_memory_filter){ .tag = "new" }) >= 0.97, "%s, new ones", kind);
    CHECK_OK(rv_memory_settle(s.m));
    CHECK(recall_of(s.m, 0.99, (rv_memory_filter){ 0 }) >= 0.97, "%s after it followed", kind);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);

    s = open_tuned(dir, kind);
    CHECK_OK(rv_memory_settle(s.m));
    CHECK(by_index(s.m, kind), "%s was not opened", kind);
    CHECK(recall_of(s.m, 0.99, (rv_memory_filter){ 0 }) >= 0.97, "%s after it was opened", kind);
    store_close(&s);
}

TEST(hnsw_is_built_beside_the_searches_saved_and_opened)
{
    check_kind("hnsw");
}

TEST(rabitq_is_built_beside_the_searches_saved_and_opened)
{
    check_kind("rabitq");
}

/* Removes the nearest until few are left; each time the next ones have to be there, index or not. */
static void remove_the_nearest(rv_memory *m, bool settle)
{
    for (size_t round = 0; round < 4; round++) {
        rv_memory_hits next = ask(m, 3, 1, (rv_memory_filter){ 0 }, 2 * K);
        CHECK(next.n == 2 * K, "%zu hits", next.n);
        int64_t ids[2 * K];
        double scores[2 * K];
        for (size_t i = 0; i < 2 * K; i++) {
            ids[i] = next.at[i].id;
            scores[i] = next.at[i].score;
        }
        for (size_t i = 0; i < K; i++) {
            size_t removed = 0;
            CHECK_OK(rv_memory_rm(m, rv_memory_whole(), ids[i], NULL, &removed));
            CHECK(removed == 1, "node %lld", (long long)ids[i]);
        }
        if (settle && round % 2 == 1) {
            CHECK_OK(rv_memory_settle(m));
        }
        rv_memory_hits hits = ask(m, 3, 0.99, (rv_memory_filter){ 0 }, K);
        CHECK(hits.n == K, "round %zu: %zu hits", round, hits.n);
        for (size_t i = 0; i < hits.n; i++) {
            CHECK(fabs(hits.at[i].score - scores[K + i]) <= 1e-6,
                  "round %zu, place %zu: node %lld with %g, not %lld with %g", round, i,
                  (long long)hits.at[i].id, hits.at[i].score, (long long)ids[K + i], scores[K + i]);
        }
    }
}

/* What a breadth finds falls as rows come, so what was measured on a few rows is not believed for many. */
TEST(an_index_that_grew_still_finds_the_part_asked_for)
{
    static const char *const kinds[] = { "hnsw", "rabitq" };
    for (size_t k = 0; k < RV_COUNT(kinds); k++) {
        const char *dir = temp_path(kinds[k]), *texts = temp_dir();
        store s = open_tuned(dir, kinds[k]);
        import_rows(s.m, texts, "first", 1, 300, NULL);
        CHECK_OK(rv_memory_settle(s.m));
        for (uint64_t i = 0; i < 4; i++) { /* each less than what makes it outgrown at once */
            char name[16];
            snprintf(name, sizeof name, "more%c", (char)('a' + i));
            import_rows(s.m, texts, name, 10 + i, 800, NULL);
            CHECK_OK(rv_memory_settle(s.m));
        }
        CHECK(by_index(s.m, kinds[k]), "%s is not used", kinds[k]);
        double found = recall_of(s.m, 0.99, (rv_memory_filter){ 0 });
        CHECK(found >= 0.96, "%s finds %.3f of the nearest, 0.99 were asked for", kinds[k], found);
        store_close(&s);
    }
}

TEST(when_the_ten_nearest_are_removed_the_next_ten_are_found)
{
    static const char *const kinds[] = { "flat", "hnsw", "rabitq", "both" };
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        const char *dir = temp_path("data");
        store s = open_tuned(dir, kinds[i]);
        import_rows(s.m, temp_dir(), "rows", 7, 600, NULL);
        CHECK_OK(rv_memory_settle(s.m));
        remove_the_nearest(s.m, i % 2 == 1);
        CHECK_OK(rv_memory_check(s.m));
        store_close(&s);
        s = open_tuned(dir, kinds[i]); /* an index that was saved before they were removed */
        remove_the_nearest(s.m, true);
        store_close(&s);
    }
}

TEST(as_many_as_pass_a_filter_are_found_up_to_k)
{
    static const char *const kinds[] = { "flat", "hnsw", "rabitq", "both" };
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        store s = open_tuned(temp_path("data"), kinds[i]);
        const char *texts = temp_dir();
        static const size_t sizes[] = { 1, 7, 40, 300, 900 };
        char tag[16];
        for (size_t n = 0; n < RV_COUNT(sizes); n++) {
            snprintf(tag, sizeof tag, "t%zu", sizes[n]);
            import_rows(s.m, texts, tag, 20 + n, sizes[n], tag);
        }
        for (int settled = 0; settled < 2; settled++) {
            for (size_t n = 0; n < RV_COUNT(sizes); n++) {
                snprintf(tag, sizeof tag, "t%zu", sizes[n]);
                rv_memory_filter filter = { .tag = tag };
                size_t wanted = sizes[n] < 200 ? sizes[n] : 200;
                for (size_t q = 0; q < 5; q++) {
                    rv_memory_hits hits = ask(s.m, q, 0.9, filter, 200);
                    CHECK(hits.n == wanted, "%s, %s: %zu of %zu", kinds[i], tag, hits.n, wanted);
                    CHECK(hits.plan.passing == sizes[n], "%zu said to pass", hits.plan.passing);
                }
                CHECK(recall_of(s.m, 0.99, filter) >= 0.97, "%s, %s", kinds[i], tag);
                filter.type = "note";
                CHECK(ask(s.m, 0, 0.9, filter, K).n == 0, "chunks passed for notes");
            }
            CHECK_OK(rv_memory_settle(s.m));
        }
        store_close(&s);
    }
}

TEST(an_index_that_was_saved_long_ago_is_caught_up)
{
    static const char *const kinds[] = { "hnsw", "rabitq" };
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        const char *dir = temp_path("data"), *texts = temp_dir();
        store s = open_tuned(dir, kinds[i]);
        import_rows(s.m, texts, "first", 31, 500, "first");
        CHECK_OK(rv_memory_settle(s.m));
        store_close(&s);
        char *bytes;
        size_t n, removed = 0;
        CHECK_OK(rv_file_read(&rv_heap, index_path(dir, kinds[i]), 64 << 20, &bytes, &n));

        s = open_tuned(dir, kinds[i]);
        import_rows(s.m, texts, "second", 32, 700, "second");
        CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), 0,
                              &(rv_memory_filter){ .tag = "first", .type = "chunk" }, &removed));
        CHECK(removed == 500, "%zu", removed);
        CHECK_OK(rv_memory_settle(s.m));
        store_close(&s);
        CHECK_OK(rv_file_replace(index_path(dir, kinds[i]), bytes, n));
        rv_free(&rv_heap, bytes);

        s = open_tuned(dir, kinds[i]);
        for (int settled = 0; settled < 2; settled++) {
            rv_memory_hits hits = ask(s.m, 5, 0.9, (rv_memory_filter){ 0 }, 1000);
            CHECK(hits.n == 700, "%s: %zu found of 700", kinds[i], hits.n);
            CHECK(recall_of(s.m, 0.99, (rv_memory_filter){ 0 }) >= 0.97, "%s", kinds[i]);
            CHECK_OK(rv_memory_settle(s.m));
        }
        CHECK(by_index(s.m, kinds[i]), "%s did not come back", kinds[i]);
        store_close(&s);
    }
}

/* Every page of it in turn, its length, and a file of another store: found out, made again. */
static int real_stderr;

/* stderr into a file, whose path is returned, until the end tells how often a word was written there. */
static char *capture_begin(void)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s", temp_path("stderr"));
    fflush(stderr);
    real_stderr = dup(STDERR_FILENO);
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(real_stderr >= 0 && to >= 0 && dup2(to, STDERR_FILENO) >= 0, "%s", path);
    close(to);
    return path;
}

static size_t capture_end(const char *path, const char *word)
{
    char *said;
    size_t n_said, n = 0;
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    CHECK_OK(rv_file_read(&rv_heap, path, 1 << 20, &said, &n_said));
    for (const char *at = said; (at = strstr(at, word)); at++) {
        n++;
    }
    rv_free(&rv_heap, said);
    return n;
}

TEST(an_index_file_that_is_damaged_or_of_another_store_is_made_again)
{
    static const char *const kinds[] = { "hnsw", "rabitq" };
    for (size_t i = 0; i < RV_COUNT(kinds); i++) {
        const char *dir = temp_path("data"), *other = temp_path("other");
        store s = open_tuned(other, kinds[i]);
        import_rows(s.m, temp_dir(), "rows", 41, 400, NULL);
        CHECK_OK(rv_memory_settle(s.m));
        store_close(&s);
        char *foreign, *bytes;
        size_t n_foreign, n;
        CHECK_OK(rv_file_read(&rv_heap, index_path(other, kinds[i]), 64 << 20, &foreign, &n_foreign));
        s = open_tuned(dir, kinds[i]);
        import_rows(s.m, temp_dir(), "rows", 42, 400, NULL);
        CHECK_OK(rv_memory_settle(s.m));
        store_close(&s);
        CHECK_OK(rv_file_read(&rv_heap, index_path(dir, kinds[i]), 64 << 20, &bytes, &n));
        const size_t places[] = { 0, 9, 70, 4000, 4096, 5000, n / 2, n - 20, n - 1 };
        for (size_t p = 0; p <= RV_COUNT(places) + 1; p++) {
            if (p < RV_COUNT(places)) {
                bytes[places[p]] ^= 0x10;
                CHECK_OK(rv_file_replace(index_path(dir, kinds[i]), bytes, n));
                bytes[places[p]] ^= 0x10;
            } else {
                CHECK_OK(p == RV_COUNT(places)
                             ? rv_file_replace(index_path(dir, kinds[i]), bytes, n - 64)
                             : rv_file_replace(index_path(dir, kinds[i]), foreign, n_foreign));
            }
            char *said = capture_begin();
            s = open_tuned(dir, kinds[i]);
            double at_once = recall_of(s.m, 0.99, (rv_memory_filter){ 0 });
            rv_err e = rv_memory_settle(s.m);
            size_t named = capture_end(said, "memory.index_damaged");
            CHECK_OK(e);
            CHECK(at_once >= 0.97, "%s, damage %zu: %g at once", kinds[i], p, at_once);
            CHECK(named == 1, "%s, damage %zu was named %zu times", kinds[i], p, named);
            CHECK(by_index(s.m, kinds[i]), "%s, damage %zu", kinds[i], p);
            CHECK(recall_of(s.m, 0.99, (rv_memory_filter){ 0 }) >= 0.97, "%s, damage %zu", kinds[i], p);
            store_close(&s);
            char *again;
            size_t n_again;
            CHECK_OK(rv_file_read(&rv_heap, index_path(dir, kinds[i]), 64 << 20, &again, &n_again));
            CHECK(n_again == n, "%zu bytes, before %zu", n_again, n);
            rv_free(&rv_heap, again);
        }
        rv_free(&rv_heap, bytes);
        rv_free(&rv_heap, foreign);
    }
}

/* Memory whose blocks end with bytes that nobody may write. */
enum { FENCE = 64 };
typedef struct block {
    void *from;
    size_t n;
} block;

static void *fenced(void *self, size_t align, size_t bytes)
{
    (void)self;
    char *from = malloc(sizeof(block) + align + bytes + FENCE);
    CHECK(from, "%zu bytes", bytes);
    char *at = from + sizeof(block) + align - (uintptr_t)(from + sizeof(block)) % align;
    ((block *)(void *)at)[-1] = (block){ from, bytes };
    memset(at + bytes, 0xa5, FENCE);
    return at;
}

static atomic_size_t n_beyond; /* blocks of which the bytes behind their end were written */

static void give_back(void *at)
{
    block b = ((block *)at)[-1];
    for (size_t i = 0; i < FENCE; i++) {
        if (((unsigned char *)at)[b.n + i] != 0xa5) {
            n_beyond++;
            break;
        }
    }
    free(b.from);
}

static void *fenced_resize(void *self, void *old, size_t bytes)
{
    void *at = bytes ? fenced(self, 16, bytes) : NULL;
    if (old) {
        size_t n = ((block *)old)[-1].n;
        if (at) {
            memcpy(at, old, n < bytes ? n : bytes);
        }
        give_back(old);
    }
    return at;
}

TEST(an_index_file_whose_last_row_is_not_the_last_writes_nowhere)
{
    static const rv_alloc mem = { .resize = fenced_resize, .aligned = fenced };
    const char *dir = temp_path("data");
    store s;
    CHECK_OK(store_open_with(&mem, dir, toy, &s));
    CHECK_OK(rv_memory_tune(s.m, &(rv_memory_tuning){ .index = "hnsw", .index_from = 256 }));
    import_rows(s.m, temp_dir(), "rows", 43, 400, NULL);
    CHECK_OK(rv_memory_settle(s.m));
    char *bytes, other[4200];
    size_t n;
    CHECK_OK(rv_file_read(&rv_heap, index_path(dir, "hnsw"), 64 << 20, &bytes, &n));
    uint64_t index_bytes, n_rows, sum; /* docs/formats/index.md */
    int64_t one = 1;
    memcpy(&index_bytes, bytes + 24, 8);
    memcpy(&n_rows, bytes + 32, 8);
    CHECK(4096 + index_bytes + 16 * n_rows + 8 == n, "%llu rows", (unsigned long long)n_rows);
    memcpy(bytes + n - 8 - 16, &one, 8);
    sum = rv_hash64(bytes + 4096 + index_bytes, 16 * n_rows, 0);
    memcpy(bytes + n - 8, &sum, 8);
    snprintf(other, sizeof other, "%s/vectors/other.idx", dir);
    CHECK_OK(rv_file_replace(other, bytes, n));
    fast *f;
    CHECK_ERR(rv_fast_open(s.m, other, "hnsw", &f), RV_E_CORRUPT);
    CHECK(n_beyond == 0, "%zu blocks were written behind their end", (size_t)n_beyond);
    rv_free(&rv_heap, bytes);
    store_close(&s);
    CHECK(n_beyond == 0, "%zu blocks were written behind their end", (size_t)n_beyond);
}

/* Memory whose next block of STALL_BYTES, the buffer of a file that is saved, is given out when the test says so. */
enum { STALL_BYTES = 1 << 20 };
typedef struct stall {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t test; /* never waits itself */
    bool armed, reached, let_go;
} stall;

static void *stalling_resize(void *self, void *old, size_t bytes)
{
    stall *s = self;
    if (bytes == STALL_BYTES && !pthread_equal(pthread_self(), s->test)) {
        pthread_mutex_lock(&s->lock);
        if (s->armed) {
            s->armed = false;
            s->reached = true;
            pthread_cond_broadcast(&s->changed);
            while (!s->let_go) {
                pthread_cond_wait(&s->changed, &s->lock);
            }
        }
        pthread_mutex_unlock(&s->lock);
    }
    return rv_heap.resize(rv_heap.self, old, bytes);
}

static void *stalling_aligned(void *self, size_t align, size_t bytes)
{
    (void)self;
    return rv_heap.aligned(rv_heap.self, align, bytes);
}

static void *settle(void *m)
{
    CHECK_OK(rv_memory_settle(m));
    return NULL;
}

TEST(a_save_under_way_does_not_bring_back_what_a_scrub_removed)
{
    const char *dir = temp_path("data"), *texts = temp_dir();
    stall s = { .lock = PTHREAD_MUTEX_INITIALIZER,
                .changed = PTHREAD_COND_INITIALIZER,
                .test = pthread_self() };
    rv_alloc mem = { &s, stalling_resize, stalling_aligned };
    store t;
    pthread_t settling;
    size_t removed = 0, erased = 0;
    CHECK_OK(store_open_with(&mem, dir, toy, &t));
    CHECK_OK(rv_memory_tune(t.m, &(rv_memory_tuning){ .index = "hnsw", .index_from = 256 }));
    import_rows(t.m, texts, "first", 51, 600, "first");
    CHECK_OK(rv_memory_settle(t.m));
    import_rows(t.m, texts, "second", 52, 60, "second");
    s.armed = true; /* the second are in the index, or will be, and it has not been saved with them */
    CHECK(pthread_create(&settling, NULL, settle, t.m) == 0, "no thread");
    pthread_mutex_lock(&s.lock);
    while (!s.reached) {
        pthread_cond_wait(&s.changed, &s.lock);
    }
    pthread_mutex_unlock(&s.lock);
    CHECK_OK(rv_memory_rm(t.m, rv_memory_whole(), 0, &(rv_memory_filter){ .tag = "second" }, &removed));
    CHECK_OK(rv_memory_scrub(t.m, &erased));
    CHECK(removed >= 60 && erased == 60, "%zu removed, %zu erased", removed, erased);
    pthread_mutex_lock(&s.lock);
    s.let_go = true;
    pthread_cond_broadcast(&s.changed);
    pthread_mutex_unlock(&s.lock);
    pthread_join(settling, NULL);
    CHECK(!rv_file_exists(index_path(dir, "hnsw")),
          "an index with the codes of removed rows was saved after the scrub");
    CHECK(by_index(t.m, "hnsw"), "it was not made again");
    store_close(&t);
}

TEST(a_scrub_removes_an_index_whose_save_was_killed)
{
    const char *dir = temp_path("data");
    char left[4300];
    size_t erased = 0;
    store s = store_open(dir);
    add_note(s.m, "one");
    snprintf(left, sizeof left, "%s.new", index_path(dir, "rabitq"));
    CHECK_OK(rv_file_replace(left, "half", 4));
    CHECK_OK(rv_memory_scrub(s.m, &erased));
    CHECK(!rv_file_exists(left), "%s is still there", left);
    store_close(&s);
}

TEST(what_cannot_be_tuned_is_refused)
{
    store s = store_open(temp_path("data"));
    CHECK(rv_memory_tune(s.m, &(rv_memory_tuning){ .index = "tree" }) == RV_E_ARG, "an index \"tree\"");
    CHECK(rv_memory_tune(s.m, &(rv_memory_tuning){ .recall = 1.5 }) == RV_E_ARG, "recall 1.5");
    CHECK(rv_memory_tune(s.m, &(rv_memory_tuning){ .recall = NAN }) == RV_OK, "recall NaN is not said");
    rv_memory_hits hits;
    CHECK(rv_memory_search(s.m, rv_memory_whole(), &(rv_memory_query){ .text = "x", .k = 1, .recall = 0.2 },
                           arena(), &hits) == RV_E_ARG,
          "a search with recall 0.2");
    CHECK_OK(rv_memory_settle(s.m));
    store_close(&s);
}
