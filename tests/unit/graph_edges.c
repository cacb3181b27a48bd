/* The graph against a plain list of edges. */
#include "base/rng.h"
#include "graph/graph.h"
#include "test.h"

#include <string.h>

enum { NODES = 12, TYPES = 3, MOST = NODES * NODES * TYPES };

/* [from][to][type]: weight, 0: no edge */
typedef float twin[NODES][NODES][TYPES];

static size_t count_twin(twin t)
{
    size_t n = 0;
    for (int i = 0; i < MOST; i++) {
        n += ((float *)t)[i] > 0;
    }
    return n;
}

static void compare(const rv_graph *g, twin t)
{
    CHECK_OK(rv_graph_check(g));
    CHECK(rv_graph_count(g) == count_twin(t), "%zu edges, expected %zu", rv_graph_count(g), count_twin(t));
    for (int node = 0; node < NODES; node++) {
        for (int side = 0; side < 2; side++) {
            size_t listed = 0, expected = 0;
            rv_graph_edge e;
            for (rv_graph_cursor c = { 0 }; rv_graph_next(g, 100 + node, (rv_graph_side)side, &c, &e);
                 listed++) {
                CHECK((side ? e.to : e.from) == 100 + node, "node %d", node);
                CHECK(t[e.from - 100][e.to - 100][e.type] == e.weight, "%lld to %lld: %g", (long long)e.from,
                      (long long)e.to, (double)e.weight);
            }
            for (int other = 0; other < NODES; other++) {
                for (int type = 0; type < TYPES; type++) {
                    expected += (side ? t[other][node][type] : t[node][other][type]) > 0;
                }
            }
            CHECK(listed == expected, "node %d side %d: %zu, expected %zu", node, side, listed, expected);
        }
    }
}

TEST(a_graph_agrees_with_a_list_of_edges_after_any_changes)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        rv_graph *g;
        twin t = { 0 };
        rv_rng rng;
        rv_rng_init(&rng, seed);
        CHECK_OK(rv_graph_new(&rv_heap, &g));
        for (int step = 0; step < 400; step++) {
            int from = (int)rv_rng_below(&rng, NODES), to = (int)rv_rng_below(&rng, NODES);
            unsigned type = (unsigned)rv_rng_below(&rng, TYPES);
            uint64_t what = rv_rng_below(&rng, 20);
            if (what < 12) {
                float weight = (float)(1 + rv_rng_below(&rng, 9));
                CHECK_OK(rv_graph_reserve(g, 1));
                rv_graph_link(g, (rv_graph_edge){ 100 + from, 100 + to, type, weight });
                t[from][to][type] = weight;
            } else if (what < 18) {
                CHECK(rv_graph_unlink(g, 100 + from, 100 + to, type) == (t[from][to][type] > 0), "seed %llu",
                      (unsigned long long)seed);
                t[from][to][type] = 0;
            } else {
                size_t before = count_twin(t);
                for (int other = 0; other < NODES; other++) {
                    memset(t[from][other], 0, sizeof t[from][other]);
                    memset(t[other][from], 0, sizeof t[other][from]);
                }
                CHECK(rv_graph_remove(g, 100 + from) == before - count_twin(t), "seed %llu",
                      (unsigned long long)seed);
            }
            if (step % 20 == 19) {
                compare(g, t);
            }
        }
        rv_graph_free(g);
    }
}

TEST(edge_types_are_numbered_once_and_limited)
{
    rv_graph *g;
    CHECK_OK(rv_graph_new(&rv_heap, &g));
    unsigned a, b, again;
    CHECK_OK(rv_graph_type(g, "cites", &a));
    CHECK_OK(rv_graph_type(g, "corrects", &b));
    CHECK_OK(rv_graph_type(g, "cites", &again));
    CHECK(a == again && a != b && strcmp(rv_graph_type_name(g, b), "corrects") == 0, "%u %u", a, b);
    CHECK_ERR(rv_graph_type(g, "", &a), RV_E_ARG);
    CHECK_ERR(rv_graph_type(g, "a_name_that_is_longer_than_thirty_two", &a), RV_E_ARG);
    char name[8] = "t00";
    for (int i = 2; i < RV_GRAPH_TYPES_MAX; i++) {
        name[1] = (char)('0' + i / 10);
        name[2] = (char)('0' + i % 10);
        CHECK_OK(rv_graph_type(g, name, &a));
    }
    CHECK_ERR(rv_graph_type(g, "one_more", &a), RV_E_FULL);
    rv_graph_free(g);
}

TEST(expansion_goes_level_by_level_within_its_bounds)
{
    rv_graph *g; /* 1 -> 2 -> 3 -> 4, and 5 -> 2 of another type */
    CHECK_OK(rv_graph_new(&rv_heap, &g));
    unsigned next, other;
    CHECK_OK(rv_graph_type(g, "next", &next));
    CHECK_OK(rv_graph_type(g, "other", &other));
    CHECK_OK(rv_graph_reserve(g, 4));
    for (int i = 1; i < 4; i++) {
        rv_graph_link(g, (rv_graph_edge){ i, i + 1, next, 0.5f });
    }
    rv_graph_link(g, (rv_graph_edge){ 5, 2, other, 1 });
    rv_graph_reach out[8];
    size_t n;
    CHECK_OK(
        rv_graph_expand(g, &(int64_t){ 3 }, 1, (rv_graph_bounds){ .max_depth = 2, .max_nodes = 8 }, out, &n));
    CHECK(n == 5 && out[0].node == 3 && out[0].depth == 0 && out[0].weight == 1, "%zu", n);
    for (size_t i = 1; i < n; i++) {
        bool near = out[i].node == 2 || out[i].node == 4;
        CHECK(out[i].depth == (near ? 1 : 2) && out[i].depth >= out[i - 1].depth, "%lld",
              (long long)out[i].node);
        CHECK(out[i].from < i && out[out[i].from].node == (near ? 3 : 2), "%lld from %u",
              (long long)out[i].node, out[i].from);
        CHECK(out[i].weight == (out[i].node == 1 ? 0.25f : 0.5f), "%lld: %g", (long long)out[i].node,
              (double)out[i].weight);
    }
    rv_graph_bounds bounds = { .max_depth = 9, .max_nodes = 8, .types = 1u << next };
    CHECK_OK(rv_graph_expand(g, &(int64_t){ 1 }, 1, bounds, out, &n));
    CHECK(n == 4, "one type only: %zu", n);
    bounds.max_nodes = 3;
    CHECK_OK(rv_graph_expand(g, &(int64_t){ 1 }, 1, bounds, out, &n));
    CHECK(n == 3 && out[2].node == 3, "%zu", n);
    CHECK_OK(rv_graph_expand(g, (int64_t[]){ 77, 77, 1 }, 3, (rv_graph_bounds){ .max_nodes = 8 }, out, &n));
    CHECK(n == 2 && out[0].node == 77 && out[1].from == 1, "seeds once, known or not: %zu", n);
    CHECK_ERR(rv_graph_expand(g, &(int64_t){ 1 }, 1, (rv_graph_bounds){ 0 }, out, &n), RV_E_ARG);
    rv_graph_free(g);
}

TEST(running_out_of_memory_leaves_the_graph_as_it_was)
{
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_graph *g = NULL;
        rv_err e = rv_graph_new(&m.alloc, &g);
        size_t linked = 0;
        for (int64_t i = 0; !e && i < 300; i++) {
            e = rv_graph_reserve(g, 1);
            if (!e) {
                rv_graph_link(g, (rv_graph_edge){ i, 2 * i, 0, 1 });
                linked++;
            }
        }
        rv_graph_reach out[4];
        size_t n = 0;
        if (!e) {
            e = rv_graph_expand(g, &(int64_t){ 1 }, 1, (rv_graph_bounds){ .max_depth = 1, .max_nodes = 4 },
                                out, &n);
        }
        CHECK((e == RV_E_NOMEM) == m.failed, "call %ld: %s", m.fail_at, rv_err_text());
        if (g) {
            CHECK(rv_graph_count(g) == linked, "%zu", rv_graph_count(g));
            CHECK_OK(rv_graph_check(g));
        }
        rv_graph_free(g);
    }
}
