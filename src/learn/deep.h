/* Stages of the deep loop that work on the memory graph. Each looks at the newest 4,096 nodes, tries its change on the rated questions
 * (learn/probes.h) before it is made, and makes it only when memory finds their passages better, or, where things are only taken away, no worse. */
#ifndef RV_LEARN_DEEP_H
#define RV_LEARN_DEEP_H
#include "base/clock.h"
#include "embed/embed.h"
#include "learn/loop.h"
#include "memory/memory.h"

#define RV_DEEP_NODES  4096
#define RV_DEEP_MARGIN 0.005 /* that nDCG@10 has to rise by before an edge is used */

typedef struct rv_deep_place {
    rv_db *db;
    rv_memory *memory;
    const rv_embed *embed;
    int good;                  /* rating, as of rv_feedback: whose passages have to be found */
    double until_ms;           /* rv_clock_ms: what was not published by then is dropped */
    bool (*go_on)(void *self); /* asked now and then; false: as if the time was up. May be NULL */
    void *self;
    void (*passing)(const char *point); /* for tests that end the program there. May be NULL */
} rv_deep_place;

static inline void rv_deep_passing(const rv_deep_place *place, const char *point)
{
    if (place->passing) {
        place->passing(point);
    }
}
static inline bool rv_deep_time_is_up(const rv_deep_place *place)
{
    return rv_clock_ms() >= place->until_ms || (place->go_on && !place->go_on(place->self));
}

/**
 * rv_deep_concepts - groups of four and more memories of one user that are about the same thing (Ward's linkage over their vectors, cut where
 * the mean cosine to the middle is 0.6 and that of the two parts 0.5) get a node of type "concept": their common words and the sentence in the middle, with "contains" edges to
 * them. Only a search for concepts finds it. Its "derived" edges, along which one of the group lifts the others, are a version of
 * RV_OVERLAY_CONCEPTS, made when they pass the measure. Concepts of groups that are no more go.
 *
 * Errors: RV_E_NOMEM, the store's. One thread at a time; so for all below.
 * Source: Ward 1963; Murtagh 1983 (nearest-neighbour chain).
 */
rv_err rv_deep_concepts(const rv_deep_place *place, rv_loop_report *out) RV_MUST_CHECK;

/** rv_deep_dreams - walks of twelve steps at random over the graph; what a walk brings together that is alike and not joined gets a weak edge of type
 * "creative" (RV_OVERLAY_DREAMS), when the walk is novel and coherent, and all of them together pass the measure. At most 200 a run. */
rv_err rv_deep_dreams(const rv_deep_place *place, rv_loop_report *out) RV_MUST_CHECK;

/** rv_deep_prune_edges - creative edges that nothing used for 30 days, and edges of likeness, citing and dreams whose weight feedback took to the
 * least there is, go, when recall@10 and nDCG@10 do not fall. */
rv_err rv_deep_prune_edges(const rv_deep_place *place, rv_loop_report *out) RV_MUST_CHECK;
#endif
