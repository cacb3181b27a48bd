/* Edges: searching along them, what is around a node, ways, likeness at writing, weights that feedback moves. */
#include "memory_helpers.h"
#include "memory/memory_priv.h"

#include <stdlib.h>

static rv_arena *arena;

static void arena_begin(void)
{
    CHECK_OK(rv_arena_new(&rv_heap, 64 << 20, &arena));
}

static void arena_end(void)
{
    rv_arena_free(arena);
}

static double weight_of(rv_memory *m, int64_t from, int64_t to, const char *type)
{
    rv_memory_edge *edges;
    size_t n;
    CHECK_OK(rv_memory_neighbours(m, rv_memory_whole(), from, arena, &edges, &n));
    for (size_t i = 0; i < n; i++) {
        if (edges[i].from == from && edges[i].to == to && strcmp(edges[i].type, type) == 0) {
            return edges[i].weight;
        }
    }
    return NAN;
}

static size_t place_of(const rv_memory_hits *hits, int64_t id)
{
    size_t i = 0;
    while (i < hits->n && hits->at[i].id != id) {
        i++;
    }
    return i;
}

TEST(an_answer_is_found_beside_its_question_only_along_edges)
{
    store s = store_open(temp_path("data"));
    arena_begin();
    int64_t asked = add_note(s.m, "Which colour did the harbour master paint the lighthouse");
    int64_t answered = add_note(s.m, "Green");
    int64_t beyond = add_note(s.m, "Because nothing else was left");
    for (int i = 0; i < 30; i++) {
        char text[64];
        snprintf(text, sizeof text, "lighthouse harbour entry number %c%c", 'a' + i, 'b' + i % 7);
        add_note(s.m, text);
    }
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), answered, asked, "follows", 1));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), beyond, answered, "follows", 1));
    rv_memory_hits hybrid, graph;
    rv_memory_query q = { .text = "which colour did the harbour master paint the lighthouse", .k = 32 };
    CHECK_OK(rv_memory_search(s.m, rv_memory_whole(), &q, arena, &hybrid));
    q.mode = RV_MEMORY_GRAPH;
    CHECK_OK(rv_memory_search(s.m, rv_memory_whole(), &q, arena, &graph));
    CHECK(graph.at[0].id == asked, "the question itself");
    CHECK(place_of(&graph, answered) < place_of(&hybrid, answered), "%zu, %zu without",
          place_of(&graph, answered), place_of(&hybrid, answered));
    CHECK(place_of(&graph, answered) < place_of(&graph, beyond), "one step lifts more than two");
    /* a filter holds along edges too */
    q.filter = (rv_memory_filter){ .tag = "none" };
    CHECK_OK(rv_memory_search(s.m, rv_memory_whole(), &q, arena, &graph));
    CHECK(graph.n == 0, "%zu", graph.n);
    arena_end();
    store_close(&s);
}

TEST(without_edges_graph_is_hybrid)
{
    store s = store_open(temp_path("data"));
    arena_begin();
    for (int i = 0; i < 40; i++) {
        char text[64];
        snprintf(text, sizeof text, "the %c%c bird sings %c", 'a' + i % 26, 'k' + i / 26, 'c' + i % 20);
        add_note(s.m, text);
    }
    rv_memory_hits a, b;
    CHECK_OK(rv_memory_search(s.m, rv_memory_whole(), &(rv_memory_query){ .text = "a bird sings d", .k = 20 },
                              arena, &a));
    CHECK_OK(rv_memory_search(
        s.m, rv_memory_whole(),
        &(rv_memory_query){ .text = "a bird sings d", .k = 20, .mode = RV_MEMORY_GRAPH }, arena, &b));
    CHECK(a.n == b.n, "%zu %zu", a.n, b.n);
    for (size_t i = 0; i < a.n; i++) {
        CHECK(a.at[i].id == b.at[i].id && a.at[i].score == b.at[i].score, "hit %zu", i);
    }
    arena_end();
    store_close(&s);
}

TEST(what_is_around_a_node_comes_with_its_way)
{
    store s = store_open(temp_path("data"));
    arena_begin();
    int64_t id[6];
    for (int i = 0; i < 6; i++) {
        char text[16];
        snprintf(text, sizeof text, "node %c", 'a' + i);
        id[i] = add_note(s.m, text);
    }
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), id[0], id[1], "cites", 0.5));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), id[2], id[1], "agent_step", 0.25));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), id[2], id[3], "cites", 1));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), id[3], id[4], "cites", 1));
    rv_memory_node start = { .id = id[0], .score = 2 };
    rv_memory_subgraph g;
    rv_memory_bounds two = { 2, 512, 16 };
    CHECK_OK(rv_memory_subgraph_of(s.m, rv_memory_whole(), &(rv_memory_hits){ .at = &start, .n = 1 }, NULL,
                                   two, arena, &g));
    CHECK(g.n == 3 && g.at[0].node.id == id[0] && g.at[1].node.id == id[1] && g.at[2].node.id == id[2], "%zu",
          g.n);
    CHECK(g.at[0].hop == 0 && g.at[0].parent == SIZE_MAX && g.at[0].node.score == 2, "where it begins");
    CHECK(g.at[1].hop == 1 && g.at[1].parent == 0 && !g.at[1].against && g.at[1].path == 1 &&
              strcmp(g.at[1].edge, "cites") == 0,
          "one step");
    CHECK(g.at[2].hop == 2 && g.at[2].parent == 1 && g.at[2].against && g.at[2].path == 0.25 &&
              strcmp(g.at[2].edge, "agent_step") == 0 && g.at[2].node.score == 0,
          "two steps, against the edge");
    for (size_t i = 0; i < g.n; i++) {
        float expected[TOY_DIM];
        CHECK_OK(toy_text(NULL, g.at[i].node.text, strlen(g.at[i].node.text), expected));
        CHECK(memcmp(g.at[i].vector, expected, sizeof expected) == 0, "vector %zu", i);
    }
    CHECK_OK(rv_memory_subgraph_of(s.m, rv_memory_whole(), &(rv_memory_hits){ .at = &start, .n = 1 }, NULL,
                                   (rv_memory_bounds){ 8, 2, 16 }, arena, &g));
    CHECK(g.n == 2, "%zu", g.n);
    CHECK(rv_memory_subgraph_of(s.m, rv_memory_whole(), &(rv_memory_hits){ .at = &start, .n = 1 }, NULL,
                                (rv_memory_bounds){ 9, 2, 16 }, arena, &g) == RV_E_ARG,
          "too many steps");
    start.id = 99;
    CHECK(rv_memory_subgraph_of(s.m, rv_memory_whole(), &(rv_memory_hits){ .at = &start, .n = 1 }, NULL, two,
                                arena, &g) == RV_E_NOT_FOUND,
          "no such node");

    rv_memory_edge *way;
    size_t n;
    CHECK_OK(rv_memory_path(s.m, rv_memory_whole(), id[0], id[4], 6, arena, &way, &n));
    CHECK(n == 4 && way[0].from == id[0] && way[1].from == id[2] && way[1].to == id[1] && way[3].to == id[4],
          "%zu", n);
    CHECK_OK(rv_memory_path(s.m, rv_memory_whole(), id[0], id[4], 3, arena, &way, &n));
    CHECK(n == 0, "a way of three steps does not exist");
    CHECK_OK(rv_memory_path(s.m, rv_memory_whole(), id[0], id[5], 6, arena, &way, &n));
    CHECK(n == 0, "no way at all");
    CHECK(rv_memory_path(s.m, rv_memory_whole(), id[0], 99, 6, arena, &way, &n) == RV_E_NOT_FOUND,
          "no such node");
    arena_end();
    store_close(&s);
}

/* The graph holds floats. A store in which such an edge was written before has it all the same, with its ends. */
TEST(a_weight_that_no_float_holds_is_refused)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    int64_t a = add_note(s.m, "alpha one"), b = add_note(s.m, "beta two"), c = add_note(s.m, "gamma three");
    CHECK_ERR(rv_memory_link(s.m, rv_memory_whole(), a, b, "follows", 1e-60), RV_E_ARG);
    CHECK_ERR(rv_memory_relink(s.m, rv_memory_whole(), &(rv_memory_edge){ a, b, "follows", 1e-60 }, 1),
              RV_E_ARG);
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), b, c, "follows", 1));
    sqlite3 *conn;
    CHECK_OK(rv_db_begin(s.db, &conn));
    CHECK_OK(rv_db_exec(conn, "INSERT INTO edges VALUES(?1, ?2, 'follows', ?3, 1, ?4)", "iifi", a, b, 1e-60,
                        rv_edge_sum(a, b, rv_str_from("follows"), 1e-60, 1)));
    CHECK_OK(rv_db_commit(s.db));
    store_close(&s);
    s = store_open(dir);
    arena_begin();
    rv_memory_edge *way;
    size_t n;
    CHECK_OK(rv_memory_path(s.m, rv_memory_whole(), a, c, 5, arena, &way, &n));
    CHECK(n == 2 && way[0].from == a && way[0].to == b && way[1].from == b && way[1].to == c, "%zu: %lld", n,
          (long long)way[0].from);
    arena_end();
    store_close(&s);
}

static int64_t add_parts(rv_memory *m, int64_t whole, char letter, size_t n)
{
    static char text[2000][32];
    static rv_memory_new new[2000];
    static rv_memory_scope scopes[2000];
    static rv_memory_added out[2000];
    size_t done;
    for (size_t i = 0; i < n; i++) {
        snprintf(text[i], sizeof text[i], "%c %zu", letter, i);
        new[i] = (rv_memory_new){ .type = "note", .text = text[i], .parent = whole };
        scopes[i] = rv_memory_of(NULL);
    }
    CHECK_OK(rv_memory_add_many(m, scopes, new, n, out, &done));
    return out[0].id;
}

/* Between two nodes with n edges each; the least time of several tries. */
static double path_ms(size_t n)
{
    store s = store_open(temp_path("data"));
    CHECK_OK(rv_memory_tune(s.m, &(rv_memory_tuning){ .index = "flat" }));
    int64_t a = add_note(s.m, "hub a"), b = add_note(s.m, "hub b"), x = add_parts(s.m, b, 'b', n);
    (void)add_parts(s.m, a, 'a', n);
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), a, x, "follows", 0.5));
    double least = 1e9;
    for (int i = 0; i < 10; i++) {
        rv_memory_edge *way;
        size_t n_way;
        arena_begin();
        double from = test_cpu_ms();
        CHECK_OK(rv_memory_path(s.m, rv_memory_whole(), a, b, 4, arena, &way, &n_way));
        least = fmin(least, test_cpu_ms() - from);
        CHECK(n_way == 2 && way[0].from == a && way[0].to == x && way[1].from == b && way[1].to == x, "%zu",
              n_way);
        arena_end();
    }
    store_close(&s);
    return least;
}

TEST(a_way_between_nodes_of_many_edges_takes_as_long_as_these_are_many)
{
    double few = path_ms(500), many = path_ms(2000);
    CHECK(many <= 9 * few, "four times the edges: %.2f times as long",
          many / few); /* 16 when all pairs are looked at */
}

TEST(feedback_moves_the_weights_between_anchor_and_what_was_retrieved)
{
    const char *dir = temp_path("data");
    store s = store_open(dir);
    arena_begin();
    int64_t anchor = add_note(s.m, "the question"), used = add_note(s.m, "was used"),
            unused = add_note(s.m, "was not used"), other = add_note(s.m, "had no part");
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), anchor, used, "cites", 0.5));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), unused, anchor, "same_topic", 0.5));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), anchor, other, "cites", 0.5));
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), anchor, used, "corrects", 1));
    const int64_t yes[] = { used, 12345 }, no[] = { unused };
    rv_memory_outcome o = { .anchor = anchor, .used = yes, .n_used = 2, .unused = no, .n_unused = 1 };
    size_t changed = 0;
    CHECK_OK(rv_memory_reweigh(s.m, rv_memory_whole(), &o, &changed));
    CHECK(changed == 2, "%zu", changed);
    for (int again = 0; again < 2; again++) {
        CHECK(fabs(weight_of(s.m, anchor, used, "cites") - 0.525) < 1e-6, "used");
        CHECK(fabs(weight_of(s.m, unused, anchor, "same_topic") - 0.49) < 1e-6, "unused");
        CHECK(weight_of(s.m, anchor, other, "cites") == 0.5, "other");
        CHECK(weight_of(s.m, anchor, used, "corrects") == 1, "a correction says what is");
        CHECK_OK(rv_memory_check(s.m));
        store_close(&s);
        s = store_open(dir);
    }
    o.rating = 1;
    for (int i = 0; i < 40; i++) {
        CHECK_OK(rv_memory_reweigh(s.m, rv_memory_whole(), &o, NULL));
    }
    CHECK(fabs(weight_of(s.m, anchor, used, "cites") - 0.01) < 1e-6, "never below 0.01");
    o.rating = 5;
    for (int i = 0; i < 40; i++) {
        CHECK_OK(rv_memory_reweigh(s.m, rv_memory_whole(), &o, NULL));
    }
    CHECK(weight_of(s.m, anchor, used, "cites") == 1, "never above 1");
    o.rating = 6;
    CHECK(rv_memory_reweigh(s.m, rv_memory_whole(), &o, NULL) == RV_E_ARG, "rating 6");
    arena_end();
    store_close(&s);
}

TEST(what_is_unusually_alike_is_joined_when_it_is_written)
{
    store s = store_open(temp_path("data"));
    arena_begin();
    rv_rng rng;
    rv_rng_init(&rng, 7);
    int64_t first = add_note(s.m, "quartz lantern beside the narrow canal bridge");
    for (int i = 0; i < 100; i++) { /* words at random: these are usual */
        char text[128] = "";
        for (int w = 0; w < 8; w++) {
            char word[16];
            snprintf(word, sizeof word, "%c%c%c ", (int)('a' + rv_rng_below(&rng, 26)),
                     (int)('a' + rv_rng_below(&rng, 26)), (int)('a' + rv_rng_below(&rng, 26)));
            strcat(text, word);
        }
        add_note(s.m, text);
    }
    int64_t alike = add_note(s.m, "a quartz lantern beside the narrow canal bridge"), stranger;
    double weight = weight_of(s.m, alike, first, "same_topic");
    CHECK(weight > 0.9 && weight <= 1, "%g", weight);
    stranger = add_note(s.m, "zzq qqz");
    rv_memory_edge *edges;
    size_t n;
    CHECK_OK(rv_memory_neighbours(s.m, rv_memory_whole(), stranger, arena, &edges, &n));
    CHECK(n == 0, "%zu", n);
    CHECK_OK(rv_memory_check(s.m));
    arena_end();
    store_close(&s);
}

/* A search over edges that are supposed is the search after they were made, or after they went, score by score. */
TEST(a_supposed_edge_does_what_the_edge_does)
{
    store s = store_open(temp_path("data"));
    arena_begin();
    int64_t asked = add_note(s.m, "Which colour did the harbour master paint the lighthouse");
    int64_t answered = add_note(s.m, "Green"), other = add_note(s.m, "Something about boats");
    for (int i = 0; i < 30; i++) {
        char text[64];
        snprintf(text, sizeof text, "lighthouse harbour entry number %c%c", 'a' + i, 'b' + i % 7);
        add_note(s.m, text);
    }
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), asked, other, "cites", 0.9));
    const rv_memory_edge edges[] = { { asked, answered, "creative", 0.8 },
                                     { asked, other, "cites", 0 },
                                     { asked, 1 << 20, "cites", 1 } };
    rv_memory_hits before, supposed, after;
    rv_memory_query q = { .text = "which colour did the harbour master paint the lighthouse",
                          .mode = RV_MEMORY_GRAPH,
                          .k = 40 };
    CHECK_OK(rv_memory_search(s.m, rv_memory_whole(), &q, arena, &before));
    q.supposed = edges;
    q.n_supposed = RV_COUNT(edges);
    CHECK_OK(rv_memory_search(s.m, rv_memory_whole(), &q, arena, &supposed));
    CHECK(place_of(&supposed, answered) < place_of(&before, answered), "it changes nothing");
    CHECK_OK(rv_memory_relink(s.m, rv_memory_whole(), edges, RV_COUNT(edges)));
    q.n_supposed = 0;
    CHECK_OK(rv_memory_search(s.m, rv_memory_whole(), &q, arena, &after));
    CHECK(after.n == supposed.n, "%zu hits, supposed %zu", after.n, supposed.n);
    for (size_t i = 0; i < after.n; i++) {
        CHECK(after.at[i].id == supposed.at[i].id && after.at[i].score == supposed.at[i].score, "hit %zu", i);
    }
    CHECK(fabs(weight_of(s.m, asked, answered, "creative") - 0.8) < 1e-6 &&
              isnan(weight_of(s.m, asked, other, "cites")),
          "edges");
    CHECK_ERR(rv_memory_relink(s.m, rv_memory_whole(), &(rv_memory_edge){ asked, answered, "No", 1 }, 1),
              RV_E_ARG);
    CHECK_ERR(rv_memory_relink(s.m, rv_memory_whole(), &(rv_memory_edge){ asked, answered, "cites", -1 }, 1),
              RV_E_ARG);
    CHECK_OK(rv_memory_check(s.m));
    arena_end();
    store_close(&s);
}

TEST(a_concept_is_found_only_by_a_search_for_concepts)
{
    store s = store_open(temp_path("data"));
    arena_begin();
    int64_t parts[] = { add_note(s.m, "the lighthouse is green"), add_note(s.m, "the lighthouse is tall") };
    rv_memory_new new = {
        .type = "concept", .text = "lighthouse: the lighthouse is green", .contains = parts, .n_contains = 2
    };
    int64_t id, again;
    bool added;
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &new, &id, &added));
    CHECK(added && weight_of(s.m, id, parts[0], "contains") == 1 &&
              weight_of(s.m, id, parts[1], "contains") == 1,
          "its parts");
    CHECK_OK(rv_memory_add(s.m, rv_memory_of(NULL), &new, &again, &added));
    CHECK(again == id && !added, "it is there twice");
    for (int mode = 0; mode < RV_MEMORY_MODES; mode++) {
        for (int scope = 0; scope < 2; scope++) {
            rv_memory_hits hits;
            rv_memory_query q = { .text = "lighthouse", .mode = (rv_memory_mode)mode, .k = 10 };
            rv_memory_scope whose = scope ? rv_memory_of(NULL) : rv_memory_whole();
            CHECK_OK(rv_memory_search(s.m, whose, &q, arena, &hits));
            CHECK(hits.n == 2 && place_of(&hits, id) == 2, "mode %d: %zu hits", mode, hits.n);
            q.filter.type = "concept";
            CHECK_OK(rv_memory_search(s.m, whose, &q, arena, &hits));
            CHECK(hits.n == 1 && hits.at[0].id == id, "mode %d: %zu concepts", mode, hits.n);
        }
    }
    int64_t missing[] = { 1 << 20 };
    new = (rv_memory_new){ .type = "concept", .text = "nothing", .contains = missing, .n_contains = 1 };
    CHECK_ERR(rv_memory_add(s.m, rv_memory_of(NULL), &new, &id, &added), RV_E_NOT_FOUND);
    CHECK_OK(rv_memory_check(s.m));
    arena_end();
    store_close(&s);
}

static int64_t add_of(rv_memory *m, const char *user, const char *text)
{
    int64_t id = 0;
    bool added = false;
    CHECK_OK(
        rv_memory_add(m, rv_memory_of(user), &(rv_memory_new){ .type = "note", .text = text }, &id, &added));
    return id;
}

static rv_memory_hits ask_as(rv_memory *m, const char *user, rv_memory_mode mode)
{
    rv_memory_hits hits;
    rv_memory_query q = { .text = "which colour did the harbour master paint the lighthouse",
                          .k = 40,
                          .mode = mode };
    CHECK_OK(rv_memory_search(m, rv_memory_of(user), &q, arena, &hits));
    return hits;
}

/* To a user another's node is not there: nothing is found across it, and its edges take no place of the user's own. */
TEST(an_edge_to_anothers_node_is_no_edge)
{
    enum { OTHERS = 70 };
    store s = store_open(temp_path("data"));
    arena_begin();
    int64_t asked = add_of(s.m, NULL, "Which colour did the harbour master paint the lighthouse");
    int64_t answered = add_of(s.m, "ana", "Green");
    int64_t across = add_of(s.m, "ana", "Because nothing else was left");
    for (int i = 0; i < 30; i++) {
        char text[64];
        snprintf(text, sizeof text, "lighthouse harbour entry number %c%c", 'a' + i, 'b' + i % 7);
        add_of(s.m, "ana", text);
    }
    int64_t bens[OTHERS];
    for (int i = 0; i < OTHERS; i++) {
        char text[64];
        snprintf(text, sizeof text, "ben counts boat %c%c", 'a' + i % 26, 'a' + i / 26);
        bens[i] = add_of(s.m, "ben", text);
    }
    CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), answered, asked, "follows", 0.5));
    rv_memory_hits before = ask_as(s.m, "ana", RV_MEMORY_GRAPH),
                   hybrid = ask_as(s.m, "ana", RV_MEMORY_HYBRID);
    CHECK(place_of(&before, answered) < place_of(&hybrid, answered), "%zu, %zu without",
          place_of(&before, answered), place_of(&hybrid, answered));
    for (int i = 0; i < OTHERS; i++) {
        CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), bens[i], asked, "follows", 1));
        CHECK_OK(rv_memory_link(s.m, rv_memory_whole(), bens[i], across, "follows", 1));
    }
    rv_memory_hits after = ask_as(s.m, "ana", RV_MEMORY_GRAPH);
    CHECK(after.n == before.n, "%zu, %zu before", after.n, before.n);
    for (size_t i = 0; i < after.n; i++) {
        CHECK(after.at[i].id == before.at[i].id, "place %zu: node %lld, %lld before", i,
              (long long)after.at[i].id, (long long)before.at[i].id);
    }
    rv_memory_node start = { .id = asked, .score = 1 };
    rv_memory_subgraph g;
    CHECK_OK(rv_memory_subgraph_of(s.m, rv_memory_of("ana"), &(rv_memory_hits){ .at = &start, .n = 1 }, NULL,
                                   (rv_memory_bounds){ 1, 512, 16 }, arena, &g));
    CHECK(g.n == 2 && g.at[1].node.id == answered, "%zu around", g.n);
    arena_end();
    store_close(&s);
}
