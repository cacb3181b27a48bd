/* Edges that were learned. A set of them is a version of a policy (store/policy.h), and the graph follows the version in use: publishing commits
 * the version first and then makes the edges, and whoever opens the store, or goes back to another version, brings the graph in line
 * again. So a crash in between leaves no half set. docs/formats/learned-edges.md. */
#ifndef RV_LEARN_OVERLAY_H
#define RV_LEARN_OVERLAY_H
#include "learn/deep.h"
#include "store/policy.h"

typedef enum rv_overlay_kind {
    RV_OVERLAY_CONCEPTS, /* "derived", from a concept to what it is about */
    RV_OVERLAY_DREAMS,   /* "creative" */
    RV_OVERLAYS
} rv_overlay_kind;

/* The policy's name, and the type of its edges. */
extern const char *const rv_overlay_names[RV_OVERLAYS], *const rv_overlay_types[RV_OVERLAYS];

/**
 * rv_overlay_settle - the graph's edges of this kind become those of the version in use, or of its newest sound ancestor; none when there is none.
 * Edges that are there keep the weight that feedback gave them. RV_E_NOMEM, the store's. One thread at a time.
 */
rv_err rv_overlay_settle(rv_db *db, rv_memory *memory, rv_overlay_kind kind, int64_t *version) RV_MUST_CHECK;

/** rv_overlay_publish - a version with these edges [n] (from, to, weight; n may be 0) is in use from now on. note, metrics, data as
 * rv_policy_new. Errors as rv_overlay_settle. */
rv_err rv_overlay_publish(const rv_deep_place *place, rv_overlay_kind kind, const rv_memory_edge *edges,
                          size_t n, const rv_policy_new *about, int64_t *version) RV_MUST_CHECK;

/** rv_overlay_parse - a version's bytes as edges of a type, to be freed with rv_free(&rv_heap). RV_E_FORMAT what is wrong; RV_E_NOMEM. Any thread. */
rv_err rv_overlay_parse(const uint8_t *bytes, size_t n, const char *type, rv_memory_edge **out,
                        size_t *n_out) RV_MUST_CHECK;
/** rv_overlay_read - the edges in the graph now, to be freed with rv_free(&rv_heap). */
rv_err rv_overlay_read(rv_db *db, rv_overlay_kind kind, rv_memory_edge **out, size_t *n) RV_MUST_CHECK;
#endif
