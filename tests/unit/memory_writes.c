/* What is written is looked at first, ends when it should, and what recalls learn reaches the disk together. */
#include "base/clock.h"
#include "memory/memory_priv.h"
#include "base/rng.h"
#include "memory_helpers.h"

#include <dirent.h>
#include <limits.h>
#include <stdatomic.h>
#include <time.h>
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

static rv_memory_added examine(rv_memory *m, const char *text, const char *user)
{
    rv_memory_added a = { 0 };
    size_t done;
    rv_memory_new node = { .type = "note", .text = text, .source = "user", .examined = true };
    rv_memory_scope scope = rv_memory_of(user);
    CHECK_OK(rv_memory_add_many(m, &scope, &node, 1, &a, &done));
    return a;
}

TEST(what_is_there_in_other_words_is_not_added_again)
{
    store s = store_open(temp_path("data"));
    int64_t first = examine(s.m, "The workshop in Ghent closes at six on Saturdays.", NULL).id;
    static const char *const same[] = { "the workshop in ghent CLOSES at six, on saturdays",
                                        "The workshop in Ghent closes at six on Saturdays!!",
                                        "The workshpo in Ghent closes at six on Saturdays." };
    for (size_t i = 0; i < RV_COUNT(same); i++) {
        rv_memory_added a = examine(s.m, same[i], NULL);
        CHECK(a.id == first && !a.added && a.near, "%zu: %lld", i, (long long)a.id);
    }
    static const char *const other[] = { "The workshop in Bruges closes at six on Saturdays.",
                                         "The workshop in Ghent closes at six on Saturdays and sells bread.",
                                         "On Saturdays the workshop of Ghent has six closets." };
    for (size_t i = 0; i < RV_COUNT(other); i++) {
        CHECK(examine(s.m, other[i], NULL).added, "%zu", i);
    }
    CHECK(examine(s.m, "The workshop in Ghent closes at six on Saturdays!", "ann").added,
          "another user's is another");
    size_t removed;
    CHECK_OK(rv_memory_rm(s.m, rv_memory_whole(), first, NULL, &removed));
    CHECK(examine(s.m, "the workshop in Ghent closes at six on saturdays", NULL).added,
          "what it was like is gone");
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(a_contradiction_keeps_both_and_corrects)
{
    store s = store_open(temp_path("data"));
    int64_t nine = examine(s.m, "The public library opens at 9", NULL).id;
    rv_memory_added ten = examine(s.m, "The public library opens at 10", NULL);
    CHECK(ten.added && ten.corrects == nine, "corrects %lld", (long long)ten.corrects);
    rv_memory_node node;
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), nine, arena(), &node));
    CHECK(node.corrected_by == ten.id, "%lld", (long long)node.corrected_by);
    int64_t six = examine(s.m, "The workshop closes at 6", NULL).id;
    CHECK(examine(s.m, "the workshop closes at 7!", NULL).corrects == six, "three words are enough");
    int64_t open = examine(s.m, "The museum garden is open in winter", NULL).id;
    CHECK(examine(s.m, "The museum garden is not open in winter", NULL).corrects == open, "not");
    (void)examine(s.m, "Meeting room 1 has twenty chairs", NULL);
    CHECK(examine(s.m, "Meeting room 2 has twenty chairs", NULL).corrects == 0,
          "rooms have numbers for names");
    store_close(&s);
}

/* The first of two contradictions, said again in other words, is right again: only one of them is corrected. */
TEST(what_is_said_again_in_other_words_takes_its_correction_back)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    int64_t nine = examine(s.m, "The public library opens at 9", NULL).id,
            ten = examine(s.m, "The public library opens at 10", NULL).id;
    rv_memory_added again = examine(s.m, "the public library OPENS at 9!", NULL);
    CHECK(again.id == nine && again.near && !again.added, "%lld", (long long)again.id);
    for (int opened = 0; opened < 2; opened++) {
        rv_memory_node node;
        rv_memory_hits hits;
        rv_memory_query q = { .text = "when does the public library open", .k = 5 };
        CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), nine, arena(), &node));
        CHECK(node.corrected_by == 0, "%lld", (long long)node.corrected_by);
        CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), ten, arena(), &node));
        CHECK(node.corrected_by == nine, "%lld", (long long)node.corrected_by);
        CHECK_OK(rv_memory_search(s.m, rv_memory_of(NULL), &q, arena(), &hits));
        CHECK(hits.n == 1 && hits.at[0].id == nine, "%zu hits", hits.n);
        CHECK_OK(rv_memory_check(s.m));
        store_close(&s);
        s = store_open(dir);
    }
    CHECK(examine(s.m, "the public library opens at 10!", NULL).id == ten, "near");
    rv_memory_node node;
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), nine, arena(), &node));
    CHECK(node.corrected_by == ten, "%lld", (long long)node.corrected_by);
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), ten, arena(), &node));
    CHECK(node.corrected_by == 0, "%lld", (long long)node.corrected_by);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

/* Letter by letter as well. */
TEST(what_is_said_again_in_the_same_words_takes_its_correction_back)
{
    static const char *const says[] = { "The public library opens at 9", "The public library opens at 10" };
    store s = store_open(temp_path("data"));
    int64_t id[2];
    rv_memory_node node;
    for (int i = 0; i < 2; i++) {
        id[i] = examine(s.m, says[i], NULL).id;
    }
    for (int i = 0; i < 4; i++) {
        rv_memory_added again = examine(s.m, says[i % 2], NULL);
        CHECK(again.id == id[i % 2] && !again.added && !again.near, "%d: %lld", i, (long long)again.id);
        CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), id[i % 2], arena(), &node));
        CHECK(node.corrected_by == 0, "%d: by %lld", i, (long long)node.corrected_by);
        CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), id[1 - i % 2], arena(), &node));
        CHECK(node.corrected_by == id[i % 2], "%d: by %lld", i, (long long)node.corrected_by);
        CHECK_OK(rv_memory_check(s.m));
    }
    /* as it is, it is only there */
    int64_t nine;
    bool added;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &(rv_memory_new){ .type = "note", .text = says[0] },
                           &nine, &added));
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), nine, arena(), &node));
    CHECK(node.corrected_by == id[1], "by %lld", (long long)node.corrected_by);
    /* both at once, behind a third */
    rv_memory_new new[] = { { .type = "note", .text = "The public library opens at 11", .examined = true },
                            { .type = "note", .text = says[0], .examined = true } };
    rv_memory_scope scopes[] = { rv_memory_of(NULL), rv_memory_of(NULL) };
    rv_memory_added out[2];
    size_t done;
    CHECK_OK(rv_memory_add_many(s.m, scopes, new, 2, out, &done));
    CHECK(out[0].added && out[1].id == id[0], "%lld", (long long)out[1].id);
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), id[0], arena(), &node));
    CHECK(node.corrected_by == 0, "by %lld", (long long)node.corrected_by);
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), out[0].id, arena(), &node));
    CHECK(node.corrected_by == id[0], "by %lld", (long long)node.corrected_by);
    store_close(&s);
}

/* A vector that says nothing of what a text shares with another. */
static rv_err whole_text(const void *self, const char *text, size_t n, float *out)
{
    (void)self;
    rv_rng rng;
    rv_rng_init(&rng, rv_hash64(text, n, 0));
    double length = 0;
    for (size_t i = 0; i < TOY_DIM; i++) {
        out[i] = (float)rv_rng_unit(&rng) - 0.5f;
        length += (double)out[i] * (double)out[i];
    }
    for (size_t i = 0; i < TOY_DIM; i++) {
        out[i] = (float)((double)out[i] / sqrt(length));
    }
    return RV_OK;
}

TEST(of_short_texts_a_contradiction_is_seen_however_far_the_vectors_are)
{
    static const rv_memory_embedder far = { .name = "far", .dim = TOY_DIM, .text = whole_text };
    store s;
    CHECK_OK(store_open_with(&rv_heap, temp_path("data"), far, &s));
    int64_t old = examine(s.m, "The code of the gate is 1234.", NULL).id;
    CHECK(examine(s.m, "The code of the gate is 5678.", "ann").corrects == 0, "of another user");
    CHECK(examine(s.m, "The code of the gate is 5678.", NULL).corrects == old, "the code");
    old = examine(s.m, "My son is 7.", NULL).id;
    CHECK(examine(s.m, "My daughter is 8.", NULL).corrects == 0, "another child");
    CHECK(examine(s.m, "My son is 8.", NULL).corrects == old, "the son");
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(what_comes_together_is_compared_too)
{
    static const char *const texts[] = { "The workshop in Ghent closes at six on Saturdays.",
                                         "the workshop in ghent CLOSES at six, on saturdays",
                                         "The workshop in Ghent does not close at six on Saturdays.",
                                         "Green tea wants water that has cooled down" };
    const char *dir = temp_path("data");
    store s = store_open(dir);
    rv_memory_new new[RV_COUNT(texts)];
    rv_memory_added out[RV_COUNT(texts)];
    rv_memory_scope scopes[RV_COUNT(texts)];
    size_t done = 0;
    for (size_t i = 0; i < RV_COUNT(texts); i++) {
        scopes[i] = rv_memory_of(NULL);
        new[i] = (rv_memory_new){ .type = "note", .text = texts[i], .examined = true };
    }
    CHECK_OK(rv_memory_add_many(s.m, scopes, new, RV_COUNT(texts), out, &done));
    CHECK(done == RV_COUNT(texts), "%zu", done);
    CHECK(out[0].added && out[3].added, "%d, %d", out[0].added, out[3].added);
    CHECK(!out[1].added && out[1].near && out[1].id == out[0].id, "%lld", (long long)out[1].id);
    CHECK(out[2].added && out[2].corrects == out[0].id, "%lld", (long long)out[2].corrects);
    store_close(&s);
    s = store_open(dir); /* the keys come from the disk now */
    CHECK(examine(s.m, "The workshpo in Ghent closes at six on Saturdays.", NULL).near, "after opening");
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(keys_that_are_lost_or_damaged_are_made_again)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    int64_t first = examine(s.m, "The workshop in Ghent closes at six on Saturdays.", NULL).id;
    int64_t second = examine(s.m, "The tower in Bruges has three hundred steps.", NULL).id;
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(s.db, &conn));
    CHECK_OK(rv_db_exec(conn, "DELETE FROM near_marks WHERE node=?1", "i", first));
    CHECK_OK(rv_db_exec(conn, "UPDATE near_marks SET keys=zeroblob(56) WHERE node=?1", "i", second));
    CHECK_OK(rv_db_commit(s.db));
    store_close(&s);
    s = store_open(dir);
    CHECK(examine(s.m, "the workshop in ghent closes at six on saturdays", NULL).id == first, "first");
    CHECK(examine(s.m, "the tower in bruges has three hundred steps", NULL).id == second, "second");
    store_close(&s);
}

/* Places of the longest chain of keys; how many hold all. */
static size_t longest_chain(const rv_memory *m, size_t *n)
{
    size_t longest = 0;
    for (size_t i = 0; i < m->n_near_slots; i++) {
        size_t length = 0;
        for (uint32_t at = m->near_slots[i]; at; at = m->near_keys[at - 1].older) {
            length++;
        }
        longest = length > longest ? length : longest;
    }
    *n = m->n_near_keys;
    return longest;
}

/* examined: the add looks for others, and passes the keys of those that are gone; else they only pile up. */
static void add_and_remove(rv_memory *m, int times, bool examined)
{
    rv_memory_scope scope = rv_memory_of("ann");
    for (int i = 0; i < times; i++) {
        rv_memory_added a;
        size_t removed, done;
        rv_memory_new new = { .type = "note",
                              .text = "The printer in the long corridor is ready again.",
                              .examined = examined };
        CHECK_OK(rv_memory_add_many(m, &scope, &new, 1, &a, &done));
        CHECK(a.added, "round %d", i);
        CHECK_OK(rv_memory_rm(m, scope, a.id, NULL, &removed));
    }
}

TEST(keys_of_what_was_removed_do_not_pile_up)
{
    enum { TIMES = 700, MOST = 300 * RV_SENSE_KEYS };
    size_t n;
    store s = store_open(temp_path("data"));
    int64_t first = examine(s.m, "The workshop in Ghent closes at six on Saturdays.", NULL).id;
    add_and_remove(s.m, TIMES, true);
    CHECK(longest_chain(s.m, &n) <= 4, "%zu", longest_chain(s.m, &n));
    CHECK(n <= MOST, "%zu keys", n);
    add_and_remove(s.m, TIMES, false);
    add_and_remove(s.m, 1, true);
    CHECK(longest_chain(s.m, &n) <= 4, "%zu", longest_chain(s.m, &n));
    CHECK(n <= MOST, "%zu keys", n);
    CHECK(examine(s.m, "the workshpo in Ghent closes at six on saturdays", NULL).id == first,
          "what is there is still found");
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(odd_texts_are_marked_and_empty_ones_refused)
{
    store s = store_open(temp_path("data"));
    rv_memory_added a;
    size_t done;
    rv_memory_scope scope = rv_memory_of(NULL);
    static const char *const empty[] = { " ... --- !!! ", "\xf0\x9f\x8e\x89\xf0\x9f\x8e\x89\xf0\x9f\x8e\x89",
                                         "\xe2\x9d\xa4\xef\xb8\x8f \xe2\x86\x92 \xe3\x80\x82" };
    for (size_t i = 0; i < RV_COUNT(empty); i++) { /* signs, emoji, a heart, an arrow and a full stop */
        rv_memory_new node = { .type = "note", .text = empty[i], .examined = true };
        CHECK_ERR(rv_memory_add_many(s.m, &scope, &node, 1, &a, &done), RV_E_ARG);
        CHECK(strstr(rv_err_text(), "no letters or digits"), "%s", rv_err_text());
    }
    a = examine(s.m, "la la la la la la la la la la la la la la la la", NULL);
    CHECK(a.added && strcmp(a.odd, "repeats itself") == 0, "%s", a.odd);
    rv_memory_node got;
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), a.id, arena(), &got));
    CHECK(got.confidence > 0.29 && got.confidence < 0.31, "%g", got.confidence);
    static const char *const plain[] = { "Un texte tout \xc3\xa0 fait normal, avec quelques mots.",
                                         "\xe8\x8c\xb6\xe6\x98\xaf\xe7\xbb\xbf\xe7\x9a\x84",
                                         "\xe0\xa4\xae\xe0\xa5\x87\xe0\xa4\xb0\xe0\xa5\x80",
                                         "Party \xf0\x9f\x8e\x89\xf0\x9f\x8e\x89\xf0\x9f\x8e\x89" };
    for (size_t i = 0; i < RV_COUNT(plain); i++) {
        a = examine(s.m, plain[i], NULL);
        CHECK(a.added && !*a.odd, "%s: %s", plain[i], a.odd);
    }
    store_close(&s);
}

TEST(nodes_end_unless_they_are_pinned)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    int64_t ids[3];
    bool added;
    for (int i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "ends %d", i);
        CHECK_OK(rv_memory_add(
            s.m, rv_memory_of(NULL),
            &(rv_memory_new){
                .type = "note", .text = text, .ttl_ms = i == 2 ? 1000000 : 1, .pinned = i == 1 },
            &ids[i], &added));
    }
    usleep(5000);
    size_t removed = 9;
    CHECK_OK(rv_memory_expire(s.m, &removed));
    CHECK(removed == 1, "%zu", removed);
    rv_memory_node node;
    CHECK_ERR(rv_memory_get(s.m, rv_memory_whole(), ids[0], arena(), &node), RV_E_NOT_FOUND);
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), ids[1], arena(), &node));
    CHECK(node.pinned && node.expires_ms > 0, "%lld", (long long)node.expires_ms);
    bool no = false;
    CHECK_OK(rv_memory_keep(s.m, rv_memory_whole(), ids[1], &no, NULL));
    CHECK_ERR(rv_memory_keep(s.m, rv_memory_whole(), 99, &no, NULL), RV_E_NOT_FOUND);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
    s = store_open(dir); /* opening removes what has ended meanwhile */
    CHECK_ERR(rv_memory_get(s.m, rv_memory_whole(), ids[1], arena(), &node), RV_E_NOT_FOUND);
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), ids[2], arena(), &node));
    /* said again without an end, it stays */
    int64_t again;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &(rv_memory_new){ .type = "note", .text = "ends 2" },
                           &again, &added));
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), ids[2], arena(), &node));
    CHECK(again == ids[2] && node.expires_ms == 0, "%lld", (long long)node.expires_ms);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

TEST(what_recalls_learn_is_written_together)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    int64_t a = add_note(s.m, "anchor of the recall"), b = add_note(s.m, "one that was used"),
            c = add_note(s.m, "one that was not");
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), a, b, "cites", 0.5));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), c, a, "cites", 0.5));
    for (int i = 0; i < 250; i++) {
        rv_memory_reweigh_later(
            s.m, rv_memory_whole(),
            &(rv_memory_outcome){ .anchor = a, .used = &b, .n_used = 1, .unused = &c, .n_unused = 1 });
    }
    rv_memory_reweigh_later(
        s.m, rv_memory_whole(),
        &(rv_memory_outcome){ .used = (const int64_t[]){ 12345 }, .n_used = 1 }); /* gone: passed over */
    rv_memory_flush(s.m);
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
    s = store_open(dir);
    rv_memory_node node;
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), b, arena(), &node));
    CHECK(node.used == 250 && node.used_ms > 0, "%u", node.used);
    rv_memory_edge *edges;
    size_t n;
    CHECK_OK(rv_memory_neighbours(s.m, rv_memory_whole(), a, arena(), &edges, &n));
    for (size_t i = 0; i < n; i++) { /* 0.5 * 1.05^250 is cut at 1; 0.5 * 0.98^250 at 0.01 */
        double expected = edges[i].to == b ? 1 : 0.01;
        CHECK(fabs(edges[i].weight - expected) < 1e-6, "%g", edges[i].weight);
    }
    CHECK_OK(rv_memory_check(s.m));
    store_close(&s);
}

/* Memory that gives out as many large blocks as it is told. */
enum { LARGE = 1000000 };
static atomic_int large_left = INT_MAX;

static void *scarce_resize(void *self, void *old, size_t bytes)
{
    return bytes > LARGE && large_left-- <= 0 ? NULL : rv_heap.resize(self, old, bytes);
}

static void *scarce_aligned(void *self, size_t align, size_t bytes)
{
    return bytes > LARGE && large_left-- <= 0 ? NULL : rv_heap.aligned(self, align, bytes);
}

/* However far the memory reaches: no outcome is queued for a thread that is not there. */
TEST(without_memory_to_write_back_nothing_is_queued_and_nobody_waits)
{
    static const rv_alloc mem = { .resize = scarce_resize, .aligned = scarce_aligned };
    store s;
    CHECK_OK(store_open_with(&mem, temp_path("data"), toy, &s));
    int64_t a = add_note(s.m, "alpha one"), b = add_note(s.m, "beta two");
    rv_memory_node node;
    alarm(60); /* a flush that never returns */
    for (int blocks = 0; blocks < 3; blocks++) {
        large_left = blocks;
        rv_memory_reweigh_later(s.m, rv_memory_whole(),
                                &(rv_memory_outcome){ .anchor = a, .used = &b, .n_used = 1 });
        rv_memory_flush(s.m);
        large_left = INT_MAX;
        CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), b, arena(), &node));
        CHECK(node.used == (blocks == 2), "used %u times with %d blocks", node.used, blocks);
    }
    alarm(0);
    store_close(&s);
}

TEST(what_is_queued_is_written_when_the_store_closes)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    int64_t id = add_note(s.m, "used once");
    rv_memory_reweigh_later(s.m, rv_memory_whole(), &(rv_memory_outcome){ .used = &id, .n_used = 1 });
    store_close(&s);
    s = store_open(dir);
    rv_memory_node node;
    CHECK_OK(rv_memory_get(s.m, rv_memory_whole(), id, arena(), &node));
    CHECK(node.used == 1, "%u", node.used);
    store_close(&s);
}

static double score_of(rv_memory *m, const char *question, int64_t id)
{
    rv_memory_hits hits;
    CHECK_OK(rv_memory_search(m, rv_memory_whole(),
                              &(rv_memory_query){ .text = question, .k = 10, .mode = RV_MEMORY_HYBRID },
                              arena(), &hits));
    for (size_t i = 0; i < hits.n; i++) {
        if (hits.at[i].id == id) {
            return hits.at[i].score;
        }
    }
    return 0;
}

TEST(what_is_not_used_fades_when_asked_to)
{
    store s = store_open(temp_path("data"));
    int64_t old, pinned, sure, now_ms = (int64_t)time(NULL) * 1000, week = (int64_t)7 * 86400000;
    bool added;
    CHECK_OK(rv_memory_add(
        s.m, rv_memory_of(NULL),
        &(rv_memory_new){ .type = "note", .text = "the ferry to the island", .created_ms = now_ms - week },
        &old, &added));
    CHECK_OK(rv_memory_add(
        s.m, rv_memory_of(NULL),
        &(rv_memory_new){
            .type = "note", .text = "a ferry to the island", .created_ms = now_ms - week, .pinned = true },
        &pinned, &added));
    CHECK_OK(rv_memory_add(
        s.m, rv_memory_of(NULL),
        &(rv_memory_new){ .type = "note", .text = "ferry to an island", .confidence = 0.5 }, &sure, &added));
    double before = score_of(s.m, "ferry island", old), other = score_of(s.m, "ferry island", pinned);
    rv_memory_set_habits(s.m, &(rv_memory_habits){ .batch = 100, .batch_ms = 1000, .half_life_days = 7 });
    double after = score_of(s.m, "ferry island", old);
    CHECK(fabs(after / before - 0.75) < 0.001, "%g of %g", after, before);
    CHECK(fabs(score_of(s.m, "ferry island", pinned) - other) < 1e-9, "a pinned one fades");
    rv_memory_reweigh_later(s.m, rv_memory_whole(), &(rv_memory_outcome){ .used = &old, .n_used = 1 });
    rv_memory_flush(s.m);
    CHECK(fabs(score_of(s.m, "ferry island", old) - before) < 0.001 * before, "used again, it is as new");
    store_close(&s);
}

static size_t threads(void)
{
    size_t n = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks, "no /proc");
    for (const struct dirent *at; (at = readdir(tasks));) {
        n += at->d_name[0] != '.';
    }
    closedir(tasks);
    return n;
}

TEST(however_a_node_gets_its_end_somebody_waits_for_it)
{
    int64_t end = rv_clock_wall_ms() + 3600000;
    store s = store_open(temp_path("data"));
    int64_t id = add_note(s.m, "the ferry leaves at noon");
    size_t before = threads();
    CHECK_OK(rv_memory_keep(s.m, rv_memory_whole(), id, &(bool){ true }, NULL));
    CHECK(threads() == before, "a pin has no end");
    CHECK_OK(rv_memory_keep(s.m, rv_memory_whole(), id, NULL, &end));
    CHECK(threads() == before + 1, "nobody waits for the end of a kept node");
    store_close(&s);
}
