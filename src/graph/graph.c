/* Edges and nodes are entries of two arrays and refer to each other by index; freed entries form a list. An edge stands in two
 * lists, that of its first node (out) and that of its second (in). Ids find their node through an open hash table.
 * Invariants, all in rv_graph_check():
 *   (1) an edge that lives is in exactly one out list and one in list, those of its ends;
 *   (2) a node that lives has an edge, and is found under its id;
 *   (3) no two edges have the same ends and type. */
#include "graph/graph.h"
#include "base/rng.h"

#include <string.h>

#define NONE UINT32_MAX
enum { FIRST_ROOM = 64 };

typedef struct node {
    int64_t id;
    uint32_t head[2]; /* by rv_graph_side; a free node keeps the next free one in head[0] */
    uint32_t n_edges; /* 0: free */
} node;

typedef struct edge {
    uint32_t end[2];  /* nodes: from, to */
    uint32_t next[2]; /* in the list of that end; a free edge keeps the next free one in next[0] */
    uint32_t prev[2];
    float weight;
    uint32_t type; /* NONE: free */
} edge;

struct rv_graph {
    const rv_alloc *mem;
    char types[RV_GRAPH_TYPES_MAX][RV_GRAPH_TYPE_BYTES + 1];
    unsigned n_types;
    edge *edges; /* [n_edges] */
    node *nodes; /* [n_nodes] */
    size_t n_edges, edge_room, n_nodes, node_room, live_edges, live_nodes;
    uint32_t free_edge, free_node;
    uint32_t *slots; /* [n_slots] node or NONE; n_slots is a power of two, at least 2 * node_room */
    size_t n_slots;
};

rv_err rv_graph_new(const rv_alloc *mem, rv_graph **out)
{
    rv_graph *g = rv_new(mem, sizeof *g);
    if (!g) {
        return rv_fail(RV_E_NOMEM, "no memory for a graph");
    }
    g->mem = mem;
    g->free_edge = g->free_node = NONE;
    *out = g;
    return RV_OK;
}

void rv_graph_free(rv_graph *g)
{
    if (g) {
        rv_free(g->mem, g->edges);
        rv_free(g->mem, g->nodes);
        rv_free(g->mem, g->slots);
        rv_free(g->mem, g);
    }
}

rv_err rv_graph_type(rv_graph *g, const char *name, unsigned *type)
{
    for (unsigned t = 0; t < g->n_types; t++) {
        if (strcmp(g->types[t], name) == 0) {
            *type = t;
            return RV_OK;
        }
    }
    size_t n = strlen(name);
    if (n == 0 || n > RV_GRAPH_TYPE_BYTES) {
        return rv_fail(RV_E_ARG, "edge type of %zu bytes, expected 1 .. %d", n, RV_GRAPH_TYPE_BYTES);
    }
    if (g->n_types == RV_GRAPH_TYPES_MAX) {
        return rv_fail(RV_E_FULL, "edge type \"%s\": there are %d types already, and no room for more", name,
                       RV_GRAPH_TYPES_MAX);
    }
    memcpy(g->types[g->n_types], name, n + 1);
    *type = g->n_types++;
    return RV_OK;
}

const char *rv_graph_type_name(const rv_graph *g, unsigned type)
{
    return g->types[type];
}

size_t rv_graph_count(const rv_graph *g)
{
    return g->live_edges;
}

/* ---- ids ---- */

static size_t slot_of(const rv_graph *g, int64_t id)
{
    uint64_t h = (uint64_t)id * 0x9e3779b97f4a7c15u;
    return (size_t)(h ^ h >> 32) & (g->n_slots - 1);
}

/* The slot that holds the id, or the empty one where it would go. n_slots > 0. */
static size_t find_slot(const rv_graph *g, int64_t id)
{
    size_t slot = slot_of(g, id);
    while (g->slots[slot] != NONE && g->nodes[g->slots[slot]].id != id) {
        slot = (slot + 1) & (g->n_slots - 1);
    }
    return slot;
}

static uint32_t find_node(const rv_graph *g, int64_t id)
{
    return g->n_slots ? g->slots[find_slot(g, id)] : NONE;
}

/* Empties a slot; what stands behind it moves up when the gap would hide it. */
static void empty_slot(rv_graph *g, size_t slot)
{
    size_t mask = g->n_slots - 1;
    for (size_t next = (slot + 1) & mask; g->slots[next] != NONE; next = (next + 1) & mask) {
        size_t home = slot_of(g, g->nodes[g->slots[next]].id);
        if (((next - home) & mask) >= ((next - slot) & mask)) {
            g->slots[slot] = g->slots[next];
            slot = next;
        }
    }
    g->slots[slot] = NONE;
}

static rv_err grow_slots(rv_graph *g, size_t nodes)
{
    size_t n = g->n_slots ? g->n_slots : 2 * FIRST_ROOM;
    while (n < 2 * nodes) {
        n *= 2;
    }
    if (n == g->n_slots) {
        return RV_OK;
    }
    uint32_t *slots = rv_new_array(g->mem, n, sizeof *slots);
    if (!slots) {
        return rv_fail(RV_E_NOMEM, "no memory for a graph of %zu nodes", nodes);
    }
    memset(slots, 0xff, n * sizeof *slots); /* NONE */
    rv_free(g->mem, g->slots);
    g->slots = slots;
    g->n_slots = n;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].n_edges > 0) {
            g->slots[find_slot(g, g->nodes[i].id)] = i;
        }
    }
    return RV_OK;
}

/* ---- edges ---- */

static rv_err grow(const rv_alloc *mem, void **at, size_t *room, size_t need, size_t size)
{
    if (need <= *room) {
        return RV_OK;
    }
    size_t more = *room ? 2 * *room : FIRST_ROOM;
    more = more > need ? more : need;
    void *bigger = rv_resize(mem, *at, more * size);
    if (!bigger) {
        return rv_fail(RV_E_NOMEM, "no memory for a graph of %zu entries", more);
    }
    *at = bigger;
    *room = more;
    return RV_OK;
}

rv_err rv_graph_reserve(rv_graph *g, size_t n)
{
    if (n > RV_GRAPH_EDGES_MAX - g->live_edges) {
        return rv_fail(RV_E_FULL, "a graph holds at most %zu edges", RV_GRAPH_EDGES_MAX);
    }
    void *edges = g->edges, *nodes = g->nodes;
    rv_err e = grow(g->mem, &edges, &g->edge_room, g->live_edges + n, sizeof *g->edges);
    g->edges = edges;
    if (!e) {
        e = grow(g->mem, &nodes, &g->node_room, g->live_nodes + 2 * n, sizeof *g->nodes);
        g->nodes = nodes;
    }
    return e ? e : grow_slots(g, g->live_nodes + 2 * n);
}

static uint32_t take_node(rv_graph *g, int64_t id)
{
    size_t slot = find_slot(g, id);
    if (g->slots[slot] != NONE) {
        return g->slots[slot];
    }
    uint32_t i = g->free_node;
    if (i != NONE) {
        g->free_node = g->nodes[i].head[0];
    } else {
        i = (uint32_t)g->n_nodes++;
    }
    g->nodes[i] = (node){ .id = id, .head = { NONE, NONE } };
    g->slots[slot] = i;
    g->live_nodes++;
    return i;
}

static uint32_t find_edge(const rv_graph *g, int64_t from, int64_t to, unsigned type)
{
    uint32_t a = find_node(g, from), b = find_node(g, to);
    if (a == NONE || b == NONE) {
        return NONE;
    }
    int side = g->nodes[a].n_edges <= g->nodes[b].n_edges ? RV_GRAPH_OUT : RV_GRAPH_IN; /* the shorter way */
    uint32_t i = g->nodes[side == RV_GRAPH_OUT ? a : b].head[side];
    while (i != NONE && (g->edges[i].end[0] != a || g->edges[i].end[1] != b || g->edges[i].type != type)) {
        i = g->edges[i].next[side];
    }
    return i;
}

void rv_graph_link(rv_graph *g, rv_graph_edge new)
{
    uint32_t i = find_edge(g, new.from, new.to, new.type);
    if (i != NONE) {
        g->edges[i].weight = new.weight;
        return;
    }
    i = g->free_edge;
    if (i != NONE) {
        g->free_edge = g->edges[i].next[0];
    } else {
        i = (uint32_t)g->n_edges++;
    }
    edge *e = &g->edges[i];
    *e = (edge){ .weight = new.weight, .type = new.type };
    for (int side = 0; side < 2; side++) {
        uint32_t n = take_node(g, side == RV_GRAPH_OUT ? new.from : new.to);
        e->end[side] = n;
        e->prev[side] = NONE;
        e->next[side] = g->nodes[n].head[side];
        if (e->next[side] != NONE) {
            g->edges[e->next[side]].prev[side] = i;
        }
        g->nodes[n].head[side] = i;
        g->nodes[n].n_edges++;
    }
    g->live_edges++;
}

static void drop_edge(rv_graph *g, uint32_t i)
{
    edge *e = &g->edges[i];
    for (int side = 0; side < 2; side++) {
        node *n = &g->nodes[e->end[side]];
        if (e->prev[side] == NONE) {
            n->head[side] = e->next[side];
        } else {
            g->edges[e->prev[side]].next[side] = e->next[side];
        }
        if (e->next[side] != NONE) {
            g->edges[e->next[side]].prev[side] = e->prev[side];
        }
        if (--n->n_edges == 0) {
            empty_slot(g, find_slot(g, n->id));
            n->head[0] = g->free_node;
            g->free_node = e->end[side];
            g->live_nodes--;
        }
    }
    e->type = NONE;
    e->next[0] = g->free_edge;
    g->free_edge = i;
    g->live_edges--;
}

bool rv_graph_unlink(rv_graph *g, int64_t from, int64_t to, unsigned type)
{
    uint32_t i = find_edge(g, from, to, type);
    if (i == NONE) {
        return false;
    }
    drop_edge(g, i);
    return true;
}

size_t rv_graph_remove(rv_graph *g, int64_t id)
{
    size_t dropped = 0;
    for (uint32_t n; (n = find_node(g, id)) != NONE; dropped++) {
        uint32_t out = g->nodes[n].head[RV_GRAPH_OUT];
        drop_edge(g, out != NONE ? out : g->nodes[n].head[RV_GRAPH_IN]);
    }
    return dropped;
}

/* ---- reading ---- */

bool rv_graph_next(const rv_graph *g, int64_t id, rv_graph_side side, rv_graph_cursor *cursor,
                   rv_graph_edge *out)
{
    if (!cursor->begun) {
        uint32_t n = find_node(g, id);
        *cursor = (rv_graph_cursor){ true, n == NONE ? NONE : g->nodes[n].head[side] };
    }
    if (cursor->at == NONE) {
        return false;
    }
    const edge *e = &g->edges[cursor->at];
    *out = (rv_graph_edge){ g->nodes[e->end[0]].id, g->nodes[e->end[1]].id, e->type, e->weight };
    cursor->at = e->next[side];
    return true;
}

/* What an expansion has seen: a set of ids, open addressing, places in out. */
typedef struct seen {
    uint32_t *slots;
    size_t mask;
    rv_graph_reach *out;
    size_t n, max;
} seen;

/* False when there is no room for one more. */
static bool see(seen *s, rv_graph_reach reach)
{
    size_t slot = (size_t)rv_hash64(&reach.node, sizeof reach.node, 0) & s->mask;
    for (; s->slots[slot]; slot = (slot + 1) & s->mask) {
        if (s->out[s->slots[slot] - 1].node == reach.node) {
            return true;
        }
    }
    if (s->n == s->max) {
        return false;
    }
    s->out[s->n++] = reach;
    s->slots[slot] = (uint32_t)s->n;
    return true;
}

rv_err rv_graph_expand(const rv_graph *g, const int64_t *seeds, size_t n_seeds, rv_graph_bounds bounds,
                       rv_graph_reach *out, size_t *found)
{
    if (bounds.max_nodes == 0 || bounds.max_nodes > RV_GRAPH_REACH_MAX) {
        return rv_fail(RV_E_ARG, "expanding to %zu nodes, expected 1 .. %d", bounds.max_nodes,
                       RV_GRAPH_REACH_MAX);
    }
    size_t n_slots = 2;
    while (n_slots < 2 * bounds.max_nodes) {
        n_slots *= 2;
    }
    seen s = { .mask = n_slots - 1, .out = out, .max = bounds.max_nodes };
    s.slots = rv_new_array(g->mem, n_slots, sizeof *s.slots);
    if (!s.slots) {
        return rv_fail(RV_E_NOMEM, "no memory to expand to %zu nodes", bounds.max_nodes);
    }
    bool room = true;
    for (size_t i = 0; room && i < n_seeds; i++) {
        room = see(&s, (rv_graph_reach){ seeds[i], 0, 1.0f, (uint32_t)s.n });
    }
    for (size_t at = 0; room && at < s.n && out[at].depth < bounds.max_depth; at++) {
        rv_graph_edge e;
        for (int side = 0; side < 2; side++) {
            for (rv_graph_cursor c = { 0 };
                 room && rv_graph_next(g, out[at].node, (rv_graph_side)side, &c, &e);) {
                if (!bounds.types || (bounds.types >> e.type & 1)) {
                    int64_t other = side == RV_GRAPH_OUT ? e.to : e.from;
                    room = (bounds.may && !bounds.may(bounds.self, other)) ||
                           see(&s, (rv_graph_reach){ other, out[at].depth + 1, out[at].weight * e.weight,
                                                     (uint32_t)at });
                }
            }
        }
    }
    rv_free(g->mem, s.slots);
    *found = s.n;
    return RV_OK;
}

rv_err rv_graph_check(const rv_graph *g)
{
    size_t edges = 0, nodes = 0, listed[2] = { 0, 0 };
    for (uint32_t i = 0; i < g->n_edges; i++) {
        const edge *e = &g->edges[i];
        if (e->type == NONE) {
            continue;
        }
        edges++;
        int64_t from = g->nodes[e->end[0]].id, to = g->nodes[e->end[1]].id;
        if (find_edge(g, from, to, e->type) != i) {
            return rv_fail(RV_E_CORRUPT, "graph: edge %lld to %lld is there twice, or lost", (long long)from,
                           (long long)to);
        }
    }
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = &g->nodes[i];
        if (n->n_edges == 0) {
            continue;
        }
        nodes++;
        size_t before = listed[0] + listed[1];
        for (int side = 0; side < 2; side++) {
            for (uint32_t at = n->head[side]; at != NONE && listed[side] <= edges;
                 at = g->edges[at].next[side]) {
                listed[side]++;
                if (g->edges[at].end[side] != i) {
                    return rv_fail(RV_E_CORRUPT, "graph: node %lld lists an edge of another",
                                   (long long)n->id);
                }
            }
        }
        if (find_node(g, n->id) != i || listed[0] + listed[1] - before != n->n_edges) {
            return rv_fail(RV_E_CORRUPT, "graph: node %lld is lost, or its edges are", (long long)n->id);
        }
    }
    if (edges != g->live_edges || nodes != g->live_nodes || listed[0] != edges || listed[1] != edges) {
        return rv_fail(RV_E_CORRUPT, "graph: counts do not agree");
    }
    return RV_OK;
}
