/* Edges at work: how strong they are, which ones a new node gets by likeness, what is around a node, the way from one to another, and
 * how feedback moves their weights. */
#include "memory/memory_priv.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOPS_MAX = 8,
    NODES_MAX = 512,
    EDGES_MAX = 64,
    SLOTS = 2 * NODES_MAX,
    WAY_MAX = 16,
    PAIRS_LEAST = 64,  /* before that a store does not know what is usual */
    LOOK_RECENT = 256, /* of what is not in the index yet: what belongs together mostly comes together */
    LOOK_MOST = 4096   /* nodes; looking at more than these one by one would cost an add more than its sync */
};
static const double look_recall =
    0.8; /* of all that is near: what is unusually near is nearly always found, and missing one costs nothing */

/* Of follows .2 was measured (docs/guide/memory.md), at .1 and .3 it is worth little less; cites, derived and agent_step are
 * taken to be as good. Likeness is in the score already: with .1 and .2 the same questions found less. What contains joins is
 * joined by follows too, and a correction takes the place of what it corrects anyway. */
double rv_memory_edge_strength(const rv_memory *m, unsigned type)
{
    return type == m->contains || type == m->corrects ? 0 : type == m->same_topic ? 0.05 : 0.2;
}

/* ---- likeness ---- */

void rv_memory_count_pair(rv_memory *m, const float *vector)
{
    if (m->n_entries == 0) {
        return;
    }
    uint64_t r = rv_hash64(&m->n_pairs, sizeof m->n_pairs, m->n_entries);
    float cosine;
    if (!rv_index_score(m->index, vector, m->entries[r % m->n_entries].id, &cosine)) {
        return; /* a node without a vector */
    }
    m->n_pairs++;
    double before = (double)cosine - m->pair_mean;
    m->pair_mean += before / (double)m->n_pairs;
    m->pair_m2 += before * ((double)cosine - m->pair_mean);
}

/* Four deviations above the mean of random pairs: of a million pairs that have nothing in common some thirty would pass. */
static double unusual(const rv_memory *m)
{
    double least = m->pair_mean + 4 * sqrt(m->pair_m2 / (double)m->n_pairs);
    return least < 0.5 ? 0.5 : least;
}

size_t rv_memory_near(rv_memory *m, const float *vector, near out[RV_MEMORY_NEAR])
{
    rv_hit hits[RV_MEMORY_NEAR];
    size_t found = 0, n = 0;
    pthread_rwlock_rdlock(&m->state);
    nearest_plan plan = rv_nearest_plan(m, NULL, 0, RV_MEMORY_NEAR, look_recall);
    plan.recent_most = LOOK_RECENT;
    bool look = m->n_pairs >= PAIRS_LEAST && (plan.fast || m->n_live <= LOOK_MOST);
    if (look && rv_nearest_search(m, &plan, vector, NULL, RV_MEMORY_NEAR, hits, &found) != RV_OK) {
        found = 0; /* without these edges the node is whole too */
    }
    double least = look ? unusual(m) : 1;
    uint32_t concept = UINT32_MAX;
    (void)rv_names_find(&m->names, "concept", &concept); /* no such name: no such node */
    for (size_t i = 0; i < found && (double)hits[i].score >= least; i++) {
        const entry *e = rv_memory_find(m, hits[i].id);
        if (e && e->type != concept) {
            out[n++] = (near){ hits[i].id, hits[i].score };
        }
    }
    pthread_rwlock_unlock(&m->state);
    return n;
}

/* ---- what is around ---- */

typedef struct walk {
    rv_memory *m;
    matcher filter;
    rv_memory_bounds bounds;
    rv_memory_subnode *at; /* [max_nodes] */
    size_t n;
    uint16_t slots[SLOTS]; /* index + 1 by id */
} walk;

static uint16_t *slot_of(walk *w, int64_t id)
{
    size_t slot = (size_t)rv_hash64(&id, sizeof id, 0) % SLOTS;
    while (w->slots[slot] && w->at[w->slots[slot] - 1].node.id != id) {
        slot = (slot + 1) % SLOTS;
    }
    return &w->slots[slot];
}

static void step_to(walk *w, rv_memory_subnode node)
{
    uint16_t *slot = slot_of(w, node.node.id);
    if (*slot == 0 && w->n < w->bounds.max_nodes && rv_matcher_has(&w->filter, node.node.id)) {
        w->at[w->n++] = node;
        *slot = (uint16_t)w->n;
    }
}

/* The heaviest edges of a node in both directions to what passes, heaviest first; equal ones as the graph lists them. */
static size_t heaviest(const matcher *f, int64_t id, size_t most, rv_graph_edge *out)
{
    size_t n = 0;
    rv_graph_edge e;
    for (int side = 0; side < 2; side++) {
        for (rv_graph_cursor c = { 0 }; rv_graph_next(f->m->graph, id, (rv_graph_side)side, &c, &e);) {
            if ((n == most && e.weight <= out[n - 1].weight) ||
                !rv_matcher_has(f, side == RV_GRAPH_OUT ? e.to : e.from)) {
                continue;
            }
            size_t place = n < most ? n++ : n - 1;
            for (; place > 0 && out[place - 1].weight < e.weight; place--) {
                out[place] = out[place - 1];
            }
            out[place] = e;
        }
    }
    return n;
}

/* Under state. */
static void walk_all(walk *w)
{
    rv_graph_edge edges[EDGES_MAX];
    for (size_t i = 0; i < w->n && w->at[i].hop < w->bounds.max_hops; i++) {
        int64_t id = w->at[i].node.id;
        size_t n = heaviest(&w->filter, id, w->bounds.max_edges, edges);
        for (size_t k = 0; k < n; k++) {
            bool against = edges[k].from != id;
            step_to(w, (rv_memory_subnode){ .node.id = against ? edges[k].from : edges[k].to,
                                            .hop = w->at[i].hop + 1,
                                            .parent = i,
                                            .edge = rv_graph_type_name(w->m->graph, edges[k].type),
                                            .weight = (double)edges[k].weight,
                                            .against = against,
                                            .path = w->at[i].path * (double)edges[k].weight });
        }
    }
}

static rv_err no_room(void)
{
    return rv_fail(RV_E_NOMEM, "memory: no room for the result");
}

/* Records and vectors of what was reached. The disk is a little ahead of memory: a node whose removal is on its way there goes here too, and
 * with it what was reached through it. Under state. */
static rv_err read_nodes(walk *w, sqlite3 *conn, rv_arena *arena)
{
    node_reader reader;
    RV_TRY(rv_node_reader_begin(&reader, &w->filter, conn));
    rv_err e = RV_OK;
    size_t bytes = w->m->embedder.dim * sizeof(float), kept = 0, place[NODES_MAX];
    for (size_t i = 0; !e && i < w->n; i++) {
        rv_memory_subnode node = w->at[i];
        int64_t id = node.node.id;
        bool found = false;
        place[i] = SIZE_MAX;
        if (node.hop == 0 || place[node.parent] != SIZE_MAX) {
            e = rv_node_read(&reader, id, arena, &node.node, &found);
        }
        if (e || !found) {
            continue;
        }
        const float *row = rv_memory_find(w->m, id)->row;
        float *copy = row ? rv_arena_take(arena, bytes) : NULL;
        node.edge = rv_arena_strdup(arena, node.edge);
        if (!node.edge || (row && !copy)) {
            e = no_room();
            continue;
        }
        if (copy) {
            memcpy(copy, row, bytes);
        }
        node.vector = copy;
        node.node.score = node.hop == 0 ? node.path : 0;
        node.parent = node.hop == 0 ? SIZE_MAX : place[node.parent];
        place[i] = kept;
        w->at[kept++] = node;
    }
    w->n = kept;
    return e;
}

rv_err rv_memory_subgraph_of(rv_memory *m, rv_memory_scope scope, const rv_memory_hits *hits,
                             const rv_memory_filter *filter, rv_memory_bounds bounds, rv_arena *arena,
                             rv_memory_subgraph *out)
{
    if (bounds.max_hops > HOPS_MAX || bounds.max_nodes < 1 || bounds.max_nodes > NODES_MAX ||
        bounds.max_edges < 1 || bounds.max_edges > EDGES_MAX) {
        return rv_fail(RV_E_ARG,
                       "around a node: %u steps, %zu nodes, %zu edges each; expected at most %d, %d and %d",
                       bounds.max_hops, bounds.max_nodes, bounds.max_edges, HOPS_MAX, NODES_MAX, EDGES_MAX);
    }
    walk *w = rv_arena_take(arena, sizeof *w);
    rv_memory_subnode *nodes = rv_arena_take(arena, bounds.max_nodes * sizeof *nodes);
    if (!w || !nodes) {
        return no_room();
    }
    *w = (walk){ .m = m, .bounds = bounds, .at = nodes };
    sqlite3 *conn;
    RV_TRY(rv_db_reader(m->db, &conn));
    pthread_rwlock_rdlock(&m->state);
    w->filter = rv_matcher_of(m, scope, filter);
    for (size_t i = 0; i < hits->n; i++) {
        step_to(w,
                (rv_memory_subnode){
                    .node.id = hits->at[i].id, .parent = SIZE_MAX, .edge = "", .path = hits->at[i].score });
    }
    walk_all(w);
    rv_err e = read_nodes(w, conn, arena);
    if (!e && w->n == 0 && hits->n > 0) {
        e = rv_fail(RV_E_NOT_FOUND, "node %lld is not in the memory", (long long)hits->at[0].id);
    }
    pthread_rwlock_unlock(&m->state);
    rv_db_reader_done(m->db, conn);
    if (!e) {
        *out = (rv_memory_subgraph){ w->at, w->n };
    }
    return e;
}

/* ---- a way ---- */

/* The edge between two neighbours, as it is directed; the heaviest. */
static rv_graph_edge edge_between(const rv_memory *m, int64_t a, int64_t b)
{
    rv_graph_edge best = { 0 }, e;
    bool found = false;
    for (int side = 0; side < 2; side++) {
        for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, a, (rv_graph_side)side, &c, &e);) {
            if ((side == RV_GRAPH_OUT ? e.to : e.from) == b && (!found || e.weight > best.weight)) {
                best = e;
                found = true;
            }
        }
    }
    return best;
}

static bool may_go(const void *seen, int64_t id)
{
    return rv_matcher_has(seen, id);
}

/* Breadth first from the end, so that each node knows the next one on the way there. */
static rv_err find_way(const matcher *seen, int64_t from, int64_t to, unsigned max_hops,
                       rv_graph_reach *reach, int64_t way[WAY_MAX + 1], size_t *n_way)
{
    size_t found = 0, at = 0;
    rv_graph_bounds bounds = {
        .max_depth = max_hops, .max_nodes = RV_GRAPH_REACH_MAX, .may = may_go, .self = seen
    };
    RV_TRY(rv_graph_expand(seen->m->graph, &to, 1, bounds, reach, &found));
    while (at < found && reach[at].node != from) {
        at++;
    }
    *n_way = 0;
    if (at == found) {
        return RV_OK;
    }
    for (; reach[at].depth > 0; at = reach[at].from) {
        way[(*n_way)++] = reach[at].node;
    }
    way[(*n_way)++] = to;
    return RV_OK;
}

rv_err rv_memory_path(rv_memory *m, rv_memory_scope scope, int64_t from, int64_t to, unsigned max_hops,
                      rv_arena *arena, rv_memory_edge **out, size_t *n)
{
    if (max_hops < 1 || max_hops > WAY_MAX) {
        return rv_fail(RV_E_ARG, "a way of at most %u steps, expected 1 .. %d", max_hops, WAY_MAX);
    }
    int64_t way[WAY_MAX + 1];
    size_t n_way = 0;
    rv_graph_reach *reach = rv_new_array(m->mem, RV_GRAPH_REACH_MAX, sizeof *reach);
    if (!reach) {
        return no_room();
    }
    pthread_rwlock_rdlock(&m->state);
    matcher seen = rv_matcher_of(m, scope, NULL);
    rv_err e = rv_matcher_need(&seen, from);
    e = e ? e : rv_matcher_need(&seen, to);
    if (!e) {
        e = find_way(&seen, from, to, max_hops, reach, way, &n_way);
    }
    size_t n_edges = n_way ? n_way - 1 : 0;
    rv_memory_edge *edges = rv_arena_take(arena, (n_edges + 1) * sizeof *edges);
    e = e || edges ? e : no_room();
    for (size_t i = 0; !e && i < n_edges; i++) {
        rv_graph_edge edge = edge_between(m, way[i], way[i + 1]);
        const char *type = rv_arena_strdup(arena, rv_graph_type_name(m->graph, edge.type));
        edges[i] = (rv_memory_edge){ edge.from, edge.to, type, (double)edge.weight };
        e = type ? RV_OK : no_room();
    }
    pthread_rwlock_unlock(&m->state);
    rv_free(m->mem, reach);
    if (!e) {
        *out = edges;
        *n = n_edges;
    }
    return e;
}

/* ---- feedback ---- */

static double moved(double weight, bool used, double rating)
{
    double w = used ? fmin(1, weight * 1.05) : fmax(0.01, weight * 0.98);
    return rating > 0 ? fmin(1, fmax(0.01, w + (rating - 3) / 10)) : w;
}

/* Moves the edges between anchor and node; what is among rows already moves on from there. */
static void move_between(const matcher *seen, const rv_memory_outcome *o, int64_t node, bool used,
                         link_row *rows, size_t *n, size_t room)
{
    const rv_memory *m = seen->m;
    if (!rv_matcher_has(seen, o->anchor) || !rv_matcher_has(seen, node)) {
        return;
    }
    rv_graph_edge e;
    for (int side = 0; side < 2; side++) {
        for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, o->anchor, (rv_graph_side)side, &c, &e);) {
            if ((side == RV_GRAPH_OUT ? e.to : e.from) != node || e.type == m->contains ||
                e.type == m->corrects) {
                continue;
            }
            const char *type = rv_graph_type_name(m->graph, e.type);
            size_t at = 0;
            while (at < *n &&
                   !(rows[at].from == e.from && rows[at].to == e.to && strcmp(rows[at].type, type) == 0)) {
                at++;
            }
            double before = at < *n ? rows[at].weight : (double)e.weight,
                   weight = (double)(float)moved(before, used, o->rating);
            if (weight != before && at < room) {
                rows[at] = (link_row){ .from = e.from, .to = e.to, .type = type, .weight = weight };
                *n = at == *n ? *n + 1 : *n;
            }
        }
    }
}

void rv_memory_moved(const matcher *f, const rv_memory_outcome *o, link_row *rows, size_t *n, size_t room)
{
    for (size_t i = 0; i < o->n_used; i++) {
        move_between(f, o, o->used[i], true, rows, n, room);
    }
    for (size_t i = 0; i < o->n_unused; i++) {
        move_between(f, o, o->unused[i], false, rows, n, room);
    }
}

rv_err rv_memory_reweigh(rv_memory *m, rv_memory_scope scope, const rv_memory_outcome *o, size_t *changed)
{
    if (!(o->rating == 0 || (o->rating >= 1 && o->rating <= 5))) {
        return rv_fail(RV_E_ARG, "rating: %g, expected 1 .. 5", o->rating);
    }
    pthread_mutex_lock(&m->writing);
    size_t n = 0, room = 0;
    rv_graph_edge edge;
    for (int side = 0; side < 2; side++) { /* no more can move than the anchor has */
        for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, o->anchor, (rv_graph_side)side, &c, &edge);) {
            room++;
        }
    }
    link_row *rows = rv_new_array(m->mem, room + 1, sizeof *rows);
    rv_err e = rows ? RV_OK : rv_fail(RV_E_NOMEM, "memory: no room to write");
    if (!e) {
        matcher seen = rv_matcher_of(m, scope, NULL);
        rv_memory_moved(&seen, o, rows, &n, room);
        e = n > 0 ? rv_memory_apply(m, &(change){ .link = rows, .n_link = n }) : RV_OK;
    }
    pthread_mutex_unlock(&m->writing);
    rv_free(m->mem, rows);
    if (!e && changed) {
        *changed = n;
    }
    return e;
}
