/* Searches, lists and reads run together with changes: each sees a whole state, and what was acknowledged before it began. */
#include "memory_helpers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { WRITERS = 2, READERS = 3, NOTES = 60 };

typedef struct shared {
    rv_memory *m;
    atomic_llong last[WRITERS]; /* highest note that was acknowledged */
    atomic_int writing;
    atomic_int wrong;
} shared;

typedef struct job {
    shared *s;
    int number;
} job;

static void went_wrong(shared *s, const char *what)
{
    fprintf(stderr, "%s: %s\n", what, rv_err_text());
    atomic_fetch_add(&s->wrong, 1);
}

/* Each note is "writer W note N"; every fourth is removed again; every note corrects the one before. */
static void *write_notes(void *arg)
{
    job *j = arg;
    int64_t last = 0;
    for (int i = 1; i <= NOTES; i++) {
        char text[64], user[8];
        int64_t id;
        bool added;
        snprintf(text, sizeof text, "writer %d note %d", j->number, i);
        snprintf(user, sizeof user, "u%d", j->number);
        rv_memory_new new = { .type = "note", .text = text, .corrects = i % 4 == 2 ? last : 0 };
        if (rv_memory_add(j->s->m, rv_memory_of(user), &new, &id, &added) || !added) {
            went_wrong(j->s, "add");
            break;
        }
        if (i % 4 == 0) {
            size_t removed = 0;
            if (rv_memory_rm(j->s->m, rv_memory_whole(), id, NULL, &removed) || removed != 1) {
                went_wrong(j->s, "rm");
            }
        } else {
            last = id;
            atomic_store(&j->s->last[j->number], id);
        }
    }
    atomic_fetch_sub(&j->s->writing, 1);
    return NULL;
}

static void *read_notes(void *arg)
{
    job *j = arg;
    shared *s = j->s;
    rv_arena *arena;
    if (rv_arena_new(&rv_heap, 16 << 20, &arena)) {
        went_wrong(s, "arena");
        return NULL;
    }
    for (int round = 0; atomic_load(&s->writing) > 0; round++) {
        rv_arena_reset(arena);
        rv_memory_hits hits;
        int64_t known = atomic_load(&s->last[round % WRITERS]);
        rv_memory_node node;
        if (known && rv_memory_get(s->m, rv_memory_whole(), known, arena, &node)) {
            went_wrong(s, "an acknowledged note is not there");
        }
        rv_memory_query q = { .text = "writer note", .k = 10, .mode = (rv_memory_mode)(round % 3) };
        if (rv_memory_search(s->m, rv_memory_of("u0"), &q, arena, &hits)) {
            went_wrong(s, "search");
            break;
        }
        for (size_t i = 0; i < hits.n; i++) {
            if (strncmp(hits.at[i].text, "writer 0", 8) != 0 || strcmp(hits.at[i].user, "u0") != 0) {
                went_wrong(s, "a hit of another user");
            }
        }
        if (rv_memory_list(s->m, rv_memory_whole(), NULL, 20, 0, arena, &hits) || (known && hits.n == 0)) {
            went_wrong(s, "list");
        }
        rv_memory_stats stats;
        if (rv_memory_get_stats(s->m, &stats) || stats.nodes > WRITERS * NOTES) {
            went_wrong(s, "stats");
        }
        if (round % 10 == 9 && rv_memory_check(s->m)) {
            went_wrong(s, "check");
        }
    }
    rv_arena_free(arena);
    return NULL;
}

TEST(readers_and_writers_run_together)
{
    store st = store_open(temp_path("data"));
    shared s = { .m = st.m, .writing = WRITERS };
    pthread_t threads[WRITERS + READERS];
    job jobs[WRITERS + READERS];
    for (int i = 0; i < WRITERS + READERS; i++) {
        jobs[i] = (job){ &s, i < WRITERS ? i : i - WRITERS };
        CHECK(pthread_create(&threads[i], NULL, i < WRITERS ? write_notes : read_notes, &jobs[i]) == 0,
              "thread %d", i);
    }
    for (int i = 0; i < WRITERS + READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atomic_load(&s.wrong) == 0, "%d", atomic_load(&s.wrong));
    CHECK_OK(rv_memory_check(st.m));
    rv_memory_stats stats;
    CHECK_OK(rv_memory_get_stats(st.m, &stats));
    CHECK(stats.notes == WRITERS * NOTES * 3 / 4, "%zu", stats.notes);
    store_close(&st);
}

/* ---- many adds at once ---- */

enum { ADDERS = 12, ROUNDS = 40 };

/* In each round: one new text of its own, one that all say, one with a parent that is not there, a correction of its last. */
static void *add_many(void *arg)
{
    job *j = arg;
    int64_t id = 0, last = 0;
    bool added = false;
    for (int i = 0; i < ROUNDS; i++) {
        char own[64], common[64];
        snprintf(own, sizeof own, "adder %d text %d", j->number, i);
        snprintf(common, sizeof common, "all say %d", i);
        rv_memory_new new = { .type = "note", .text = own, .corrects = i % 3 == 2 ? last : 0 };
        if (rv_memory_add(j->s->m, rv_memory_of(NULL), &new, &last, &added) || !added) {
            went_wrong(j->s, "own text");
        }
        if (rv_memory_add(j->s->m, rv_memory_of(NULL),
                          &(rv_memory_new){ .type = "note", .text = common, .parent = last }, &id, &added)) {
            went_wrong(j->s, "common text");
        }
        if (rv_memory_add(j->s->m, rv_memory_of(NULL),
                          &(rv_memory_new){ .type = "note", .text = "orphan", .parent = 1000000 }, &id,
                          &added) != RV_E_NOT_FOUND ||
            !strstr(rv_err_text(), "1000000")) {
            went_wrong(j->s, "a parent that is not there");
        }
        if (i % 5 == 0 &&
            rv_memory_add(j->s->m, rv_memory_of(NULL), /* said again as a correction: goes alone */
                          &(rv_memory_new){ .type = "note", .text = common, .corrects = last }, &id,
                          &added)) {
            went_wrong(j->s, "said again");
        }
        if (i % 7 == 0 && rv_memory_add(j->s->m, rv_memory_of(NULL),
                                        &(rv_memory_new){ .type = "document", .text = own }, &id, &added)) {
            went_wrong(j->s, "without a vector");
        }
    }
    return NULL;
}

TEST(adds_that_come_together_are_each_whole)
{
    const char *dir = temp_path("data");
    store st = store_open(dir);
    shared s = { .m = st.m };
    pthread_t threads[ADDERS];
    job jobs[ADDERS];
    for (int i = 0; i < ADDERS; i++) {
        jobs[i] = (job){ &s, i };
        CHECK(pthread_create(&threads[i], NULL, add_many, &jobs[i]) == 0, "thread %d", i);
    }
    for (int i = 0; i < ADDERS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atomic_load(&s.wrong) == 0, "%d", atomic_load(&s.wrong));
    for (int again = 0; again < 2; again++) {
        rv_memory_stats stats;
        CHECK_OK(rv_memory_check(st.m));
        CHECK_OK(rv_memory_get_stats(st.m, &stats));
        CHECK(stats.notes == ADDERS * ROUNDS + ROUNDS, "%zu notes", stats.notes);
        CHECK(stats.documents == ADDERS * ((ROUNDS + 6) / 7), "%zu documents", stats.documents);
        store_close(&st);
        st = store_open(dir);
    }
    store_close(&st);
}

/* ---- around a node while others go ---- */

enum { LEAVES = 200, LEAVINGS = 150 };

typedef struct hub {
    shared s; /* first: went_wrong */
    int64_t id;
} hub;

/* A node at the end of all that is around the hub comes and goes. */
static void *come_and_go(void *arg)
{
    hub *h = arg;
    for (int i = 0; i < LEAVINGS; i++) {
        char text[64];
        int64_t id;
        bool added;
        size_t removed;
        snprintf(text, sizeof text, "visitor %d", i);
        rv_memory_new new = { .type = "note", .text = text };
        if (rv_memory_add(h->s.m, rv_memory_of(NULL), &new, &id, &added) ||
            rv_memory_link(h->s.m, rv_memory_whole(), h->id, id, "cites", 0.01) ||
            rv_memory_rm(h->s.m, rv_memory_whole(), id, NULL, &removed)) {
            went_wrong(&h->s, "a visitor");
            break;
        }
    }
    atomic_fetch_sub(&h->s.writing, 1);
    return NULL;
}

static void *look_around(void *arg)
{
    hub *h = arg;
    rv_arena *arena;
    if (rv_arena_new(&rv_heap, 16 << 20, &arena)) {
        went_wrong(&h->s, "arena");
        return NULL;
    }
    rv_memory_node start = { .id = h->id, .score = 1 };
    while (atomic_load(&h->s.writing) > 0) {
        rv_memory_subgraph g;
        rv_arena_reset(arena);
        if (rv_memory_subgraph_of(h->s.m, rv_memory_whole(), &(rv_memory_hits){ .at = &start, .n = 1 }, NULL,
                                  (rv_memory_bounds){ 2, 512, 64 }, arena, &g)) {
            went_wrong(&h->s, "around the hub");
            continue;
        }
        for (size_t i = 0; i < g.n; i++) {
            if (!g.at[i].node.text || !*g.at[i].node.text || !g.at[i].vector ||
                (g.at[i].hop > 0 && (g.at[i].parent >= i || g.at[g.at[i].parent].hop + 1 != g.at[i].hop))) {
                went_wrong(&h->s, "a node without text, vector or way");
            }
        }
    }
    rv_arena_free(arena);
    return NULL;
}

TEST(what_is_around_a_node_is_told_while_some_of_it_is_removed)
{
    store st = store_open(temp_path("data"));
    hub h = { .s = { .m = st.m, .writing = 1 }, .id = add_note(st.m, "the hub") };
    int64_t last = h.id;
    for (int i = 0; i < LEAVES; i++) { /* so that reading them takes a while */
        char text[64];
        snprintf(text, sizeof text, "leaf %d", i);
        int64_t id = add_note(st.m, text);
        CHECK_OK(rv_memory_link(st.m, rv_memory_whole(), i < 60 ? h.id : last, id, "follows", 0.5));
        last = i % 60 ? last : id;
    }
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, i ? look_around : come_and_go, &h) == 0, "thread %d", i);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atomic_load(&h.s.wrong) == 0, "%d", atomic_load(&h.s.wrong));
    store_close(&st);
}
