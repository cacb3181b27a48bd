/* A uniform sample of everything that ever came by, in a fixed number of slots. Source: Vitter 1985, algorithm R. */
#ifndef RV_LEARN_RESERVOIR_H
#define RV_LEARN_RESERVOIR_H
#include "base/rng.h"
#include <stdbool.h>
#include <stddef.h>

/* The caller keeps the items; this says which. Threads: one thread at a time. */
typedef struct rv_reservoir {
    rv_rng rng;
    uint64_t seen;
    size_t room;
} rv_reservoir;

/** rv_reservoir_init - nothing seen, room slots (0: nothing is ever kept). */
static inline void rv_reservoir_init(rv_reservoir *r, size_t room, uint64_t seed)
{
    *r = (rv_reservoir){ .room = room };
    rv_rng_init(&r->rng, seed);
}

/** rv_reservoir_offer - the next item comes by: true when it goes to *slot, in the place of what was there. */
static inline bool rv_reservoir_offer(rv_reservoir *r, size_t *slot)
{
    uint64_t at = r->seen < r->room ? r->seen : rv_rng_below(&r->rng, r->seen + 1);
    r->seen++;
    if (at >= r->room) {
        return false;
    }
    *slot = (size_t)at;
    return true;
}
#endif
