/* From what memory found to what graph attention looks at: a subgraph becomes nodes with their evidence. */
#ifndef RV_LEARN_EVIDENCE_H
#define RV_LEARN_EVIDENCE_H
#include "attend/attend.h"
#include "memory/memory.h"

/**
 * rv_evidence_nodes - nodes [graph->n] in arena, in the order of the subgraph.
 *
 * hits    those the subgraph was made of: how words and meaning found them
 * query   [dim] unit
 * now_ms  UTC, for how old things are
 * Errors: RV_E_NOMEM. What rv_memory_neighbours fails with.
 */
rv_err rv_evidence_nodes(rv_memory *m, const rv_memory_subgraph *graph, const rv_memory_hits *hits,
                         const float *query, size_t dim, int64_t now_ms, rv_arena *arena,
                         rv_attend_node **out) RV_MUST_CHECK;
#endif
