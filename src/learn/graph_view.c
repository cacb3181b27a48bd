#include "learn/graph_view.h"

#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 512 }; /* nodes that memory gives vectors of in one call */

static rv_err no_room(void)
{
    return rv_fail(RV_E_NOMEM, "looking at the memory");
}

static bool counts(const rv_memory_node *node)
{
    return node->corrected_by == 0 && strcmp(node->type, "document") != 0 &&
           strcmp(node->type, "concept") != 0;
}

/* Vectors of nodes [n], which lose those that have none. */
static rv_err add_vectors(rv_memory *memory, const rv_memory_node *nodes, size_t n, rv_arena *arena,
                          rv_graph_view *v)
{
    rv_memory_subgraph graph;
    rv_memory_hits hits = { .at = (rv_memory_node *)nodes, .n = n };
    rv_memory_bounds bounds = { .max_hops = 0, .max_nodes = AT_ONCE, .max_edges = 1 };
    rv_err e = rv_memory_subgraph_of(memory, rv_memory_whole(), &hits, &(rv_memory_filter){ 0 }, bounds,
                                     arena, &graph);
    if (e) {
        return e == RV_E_NOT_FOUND ? RV_OK : e;
    }
    for (size_t i = 0; i < graph.n; i++) {
        const rv_memory_node *node = &graph.at[i].node;
        if (graph.at[i].vector && counts(node)) {
            v->nodes[v->n++] = (rv_view_node){ .id = node->id,
                                               .type = node->type,
                                               .user = node->user,
                                               .text = node->text,
                                               .vector = graph.at[i].vector,
                                               .confidence = node->confidence,
                                               .used = node->used };
        }
    }
    return RV_OK;
}

static int by_user(const void *a, const void *b)
{
    const rv_view_node *x = a, *y = b;
    int order = strcmp(x->user, y->user);
    return order ? order : x->id > y->id ? -1 : x->id < y->id;
}

typedef struct place {
    int64_t id;
    size_t at;
} place;

static int by_id(const void *a, const void *b)
{
    const place *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static const place *find(const place *places, size_t n, int64_t id)
{
    place key = { .id = id };
    return bsearch(&key, places, n, sizeof key, by_id);
}

typedef struct pair {
    size_t from;
    rv_view_edge edge;
} pair;

/* Edges of both directions, behind each other; the weights of several between the same two stay several. */
static rv_err read_pairs(sqlite3 *conn, const place *places, size_t n, pair **out, size_t *n_out)
{
    sqlite3_stmt *s = NULL;
    bool row = true;
    size_t room = 0;
    RV_TRY(rv_db_prepare(conn, &s, "SELECT from_id, to_id, weight FROM edges", ""));
    rv_err e = RV_OK;
    while (!e && !(e = rv_db_step(s, &row)) && row) {
        const place *from = find(places, n, sqlite3_column_int64(s, 0)),
                    *to = find(places, n, sqlite3_column_int64(s, 1));
        if (!from || !to) {
            continue;
        }
        if (*n_out + 2 > room) {
            room = room ? 2 * room : 1024;
            pair *more = rv_resize(&rv_heap, *out, room * sizeof *more);
            if (!more) {
                e = no_room();
                break;
            }
            *out = more;
        }
        double weight = sqlite3_column_double(s, 2);
        (*out)[(*n_out)++] = (pair){ from->at, { to->at, weight } };
        (*out)[(*n_out)++] = (pair){ to->at, { from->at, weight } };
    }
    sqlite3_finalize(s);
    return e;
}

/* By counting, so that each node's edges stand together. */
static rv_err sort_pairs(const pair *pairs, size_t n, rv_arena *arena, rv_graph_view *v)
{
    v->edges = rv_arena_take(arena, (n + 1) * sizeof *v->edges);
    if (!v->edges) {
        return no_room();
    }
    for (size_t i = 0; i < n; i++) {
        v->nodes[pairs[i].from].n_edges++;
    }
    for (size_t i = 0; i < v->n; i++) {
        v->nodes[i].first_edge = v->n_edges;
        v->n_edges += v->nodes[i].n_edges;
        v->nodes[i].n_edges = 0;
    }
    for (size_t i = 0; i < n; i++) {
        rv_view_node *node = &v->nodes[pairs[i].from];
        v->edges[node->first_edge + node->n_edges++] = pairs[i].edge;
    }
    return RV_OK;
}

static rv_err read_edges(rv_db *db, rv_arena *arena, rv_graph_view *v)
{
    sqlite3 *conn;
    pair *pairs = NULL;
    size_t n = 0;
    place *places = rv_arena_take(arena, (v->n + 1) * sizeof *places);
    if (!places) {
        return no_room();
    }
    for (size_t i = 0; i < v->n; i++) {
        places[i] = (place){ v->nodes[i].id, i };
    }
    qsort(places, v->n, sizeof *places, by_id);
    RV_TRY(rv_db_reader(db, &conn));
    rv_err e = read_pairs(conn, places, v->n, &pairs, &n);
    rv_db_reader_done(db, conn);
    e = e ? e : sort_pairs(pairs, n, arena, v);
    rv_free(&rv_heap, pairs);
    return e;
}

rv_err rv_graph_view_read(rv_db *db, rv_memory *memory, size_t most, rv_arena *arena, rv_graph_view *out)
{
    rv_graph_view v = { .dim = rv_memory_get_embedder(memory).dim };
    rv_memory_hits list = { 0 };
    v.nodes = rv_arena_take(arena, (most + AT_ONCE) * sizeof *v.nodes);
    if (!v.nodes) {
        return no_room();
    }
    for (int64_t below = 0; v.n < most;) {
        RV_TRY(rv_memory_list(memory, rv_memory_whole(), &(rv_memory_filter){ 0 }, AT_ONCE, below, arena,
                              &list));
        if (list.n == 0) {
            break;
        }
        RV_TRY(add_vectors(memory, list.at, list.n, arena, &v));
        below = list.at[list.n - 1].id;
    }
    v.n = v.n < most ? v.n : most;
    qsort(v.nodes, v.n, sizeof *v.nodes, by_user);
    RV_TRY(read_edges(db, arena, &v));
    *out = v;
    return RV_OK;
}

bool rv_graph_view_joined(const rv_graph_view *v, size_t a, size_t b)
{
    const rv_view_node *node = &v->nodes[a];
    for (size_t i = 0; i < node->n_edges; i++) {
        if (v->edges[node->first_edge + i].to == b) {
            return true;
        }
    }
    return false;
}
