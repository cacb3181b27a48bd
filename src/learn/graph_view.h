/* What the deep loop looks at: a copy of the newest part of the memory, with its vectors and the edges among it. What changes in the memory
 * meanwhile is seen by the next run. */
#ifndef RV_LEARN_GRAPH_VIEW_H
#define RV_LEARN_GRAPH_VIEW_H
#include "base/arena.h"
#include "memory/memory.h"
#include "store/db.h"

typedef struct rv_view_node {
    int64_t id;
    const char *type, *user, *text;
    const float *vector; /* [dim] unit */
    double confidence;
    uint32_t used;
    size_t first_edge, n_edges; /* in edges */
} rv_view_node;

/* Each edge stands twice, once at either end. */
typedef struct rv_view_edge {
    size_t to; /* place of the other end */
    double weight;
} rv_view_edge;

typedef struct rv_graph_view {
    size_t dim;
    rv_view_node *
        nodes; /* [n] of one user after the other ("": everybody's), newest first; without documents, concepts and what was
                          * corrected */
    size_t n;
    rv_view_edge *edges; /* [n_edges] */
    size_t n_edges;
} rv_graph_view;

/** rv_graph_view_read - at most `most` nodes, in arena. RV_E_NOMEM, the store's. Any thread. */
rv_err rv_graph_view_read(rv_db *db, rv_memory *memory, size_t most, rv_arena *arena,
                          rv_graph_view *out) RV_MUST_CHECK;
/** rv_graph_view_joined - is there an edge between two places? */
bool rv_graph_view_joined(const rv_graph_view *view, size_t a, size_t b);
#endif
