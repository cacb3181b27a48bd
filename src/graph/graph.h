/* Typed, weighted, directed edges between numbered nodes, in memory only; memory/ makes them durable. A node is there while it
 * has an edge. */
#ifndef RV_GRAPH_GRAPH_H
#define RV_GRAPH_GRAPH_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_GRAPH_EDGES_MAX  ((size_t)1 << 30)
#define RV_GRAPH_TYPES_MAX  64 /* of edges */
#define RV_GRAPH_TYPE_BYTES 32 /* of a type's name */
#define RV_GRAPH_REACH_MAX  65536

typedef struct rv_graph rv_graph;

typedef struct rv_graph_edge {
    int64_t from, to;
    unsigned type; /* rv_graph_type */
    float weight;
} rv_graph_edge;

/** rv_graph_new - an empty graph. Threads: any number that read together; never during a change (type, reserve, link,
 * unlink, remove). */
rv_err rv_graph_new(const rv_alloc *mem, rv_graph **out) RV_MUST_CHECK;
void rv_graph_free(rv_graph *graph); /* accepts NULL */

/** rv_graph_type - the number of a type of edge, given at first use. RV_E_ARG the name is empty or too long.
 * RV_E_FULL more than RV_GRAPH_TYPES_MAX. */
rv_err rv_graph_type(rv_graph *graph, const char *name, unsigned *type) RV_MUST_CHECK;
const char *rv_graph_type_name(const rv_graph *graph, unsigned type); /* lives as long as the graph */

/** rv_graph_reserve - make room for n more edges, so that as many calls of rv_graph_link cannot fail. RV_E_NOMEM, RV_E_FULL. */
rv_err rv_graph_reserve(rv_graph *graph, size_t n) RV_MUST_CHECK;
/** rv_graph_link - room was reserved. An edge of the same from, to and type is there already: it gets this weight. */
void rv_graph_link(rv_graph *graph, rv_graph_edge edge);
/** rv_graph_unlink - false when it is not there.  rv_graph_remove - a node with its edges; how many. */
bool rv_graph_unlink(rv_graph *graph, int64_t from, int64_t to, unsigned type);
size_t rv_graph_remove(rv_graph *graph, int64_t node);

size_t rv_graph_count(const rv_graph *graph); /* edges */

/* for (rv_graph_cursor c = { 0 }; rv_graph_next(graph, node, RV_GRAPH_OUT, &c, &edge);) goes over the edges of a node, the
 * newest first. */
typedef enum rv_graph_side { RV_GRAPH_OUT, RV_GRAPH_IN } rv_graph_side;
typedef struct rv_graph_cursor {
    bool begun;
    uint32_t at;
} rv_graph_cursor;
bool rv_graph_next(const rv_graph *graph, int64_t node, rv_graph_side side, rv_graph_cursor *cursor,
                   rv_graph_edge *out);

typedef struct rv_graph_reach {
    int64_t node;
    unsigned depth; /* steps from the nearest seed, 0 for a seed */
    float weight;   /* product of the weights on the way it was first reached */
    uint32_t from;  /* place in out of the node it was first reached from; a seed: its own */
} rv_graph_reach;

typedef struct rv_graph_bounds {
    unsigned max_depth;
    size_t max_nodes;                            /* seeds included, at most RV_GRAPH_REACH_MAX */
    uint64_t types;                              /* bit t: edges of type t are followed; 0: all */
    bool (*may)(const void *self, int64_t node); /* nodes it denies are not reached; NULL: all are */
    const void *self;
} rv_graph_bounds;

/**
 * rv_graph_expand - the nodes around some seeds, nearest first, along edges in both directions.
 *
 * out     [max_nodes]; a seed comes first, whether it has edges or not
 * found   out; max_nodes when there was more
 * Errors: RV_E_ARG max_nodes out of range.  RV_E_NOMEM for the set of what was seen.
 */
rv_err rv_graph_expand(const rv_graph *graph, const int64_t *seeds, size_t n_seeds, rv_graph_bounds bounds,
                       rv_graph_reach *out, size_t *found) RV_MUST_CHECK;

/** rv_graph_check - the lists of both ends agree, nothing is lost. */
rv_err rv_graph_check(const rv_graph *graph) RV_MUST_CHECK;
#endif
