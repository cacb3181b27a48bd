/* The vector side of the memory: one exact index that always has every row, and beside it fast ones (hnsw, rabitq) that follow. A
 * fast index has some ids, `has`. What lives and is not in it is compared exactly beside it; what is in it and does not live is kept out
 * of every search by bits. So it may lag behind as far as it likes: a search never misses a row that was added, nor finds one that
 * was removed, and what was saved at any time can be opened again.
 *
 * Fast indexes are changed by one thread alone, the keeper: under `state`, alone, a few rows at a time. It may therefore read, measure
 * and save them without a lock, together with searches. */
#ifndef RV_MEMORY_NEAREST_PRIV_H
#define RV_MEMORY_NEAREST_PRIV_H
#include "base/file.h"
#include "memory/memory.h"
#include "vector/index.h"

#include <pthread.h>

/* Ids as bits: id % 64 of word id / 64; words from n on are zero. */
typedef struct idset {
    uint64_t *at; /* [n] */
    size_t n, room;
} idset;

/** rv_idset_reserve - room for ids up to this one. RV_E_NOMEM. */
rv_err rv_idset_reserve(const rv_alloc *mem, idset *set, int64_t id) RV_MUST_CHECK;
void rv_idset_deinit(const rv_alloc *mem, idset *set);
static inline bool rv_idset_has(const idset *set, int64_t id)
{
    return (uint64_t)id / 64 < set->n && (set->at[id / 64] >> id % 64 & 1);
}
static inline void rv_idset_add(idset *set, int64_t id)
{
    set->at[id / 64] |= (uint64_t)1 << id % 64;
}
static inline void rv_idset_remove(idset *set, int64_t id)
{
    if ((uint64_t)id / 64 < set->n) {
        set->at[id / 64] &= ~((uint64_t)1 << id % 64);
    }
}
static inline uint64_t rv_idset_word(const idset *set, size_t word)
{
    return word < set->n ? set->at[word] : 0;
}

/* What a search of some breadth finds on this very store, and how long it takes, at k = 10 and k = 100. */
enum { RV_GAUGED_KS = 2, RV_GAUGES_MAX = 16 };
typedef struct gauge {
    uint32_t breadth;
    float recall[RV_GAUGED_KS], us[RV_GAUGED_KS];
} gauge;

typedef struct fast {
    const rv_alloc *mem;
    rv_index *index;
    rv_map map; /* what it was opened from; empty: nothing of it is mapped */
    idset has;
    size_t
        scrubs; /* of the memory before its rows were read; when there were more, it may hold codes of what is to be gone: not saved, made again */
    size_t
        moves; /* of the memory before its rows were read; when fewer than were scrubbed, it may know rows where zeros are: not asked */
    size_t n_missing, n_stale; /* live and not in it; in it and not live */
    size_t n_built;            /* rows when it was built, or last measured */
    size_t n_unsaved;          /* changes since it was saved */
    gauge gauges[RV_GAUGES_MAX];
    size_t n_gauges;
    float scan_ns, flat_ns; /* of a row whose code is looked at, or that is compared exactly */
} fast;

enum { RV_FASTS = 2 }; /* hnsw and rabitq */
extern const char *const rv_fast_kinds[RV_FASTS];

/** rv_fast_free - accepts NULL.  rv_fast_gauge - measure, with words of the texts of nodes; ids, rows [n]. */
void rv_fast_free(fast *f);
rv_err rv_fast_gauge(const rv_memory *m, fast *f, const int64_t *ids, const float *const *rows,
                     size_t n) RV_MUST_CHECK;

/** rv_fast_save - path is written beside and renamed over: the old file or the new; nothing when the files were scrubbed meanwhile.  rv_fast_open - what was saved; a page of it
 * is checked when it is first read; *out NULL without an error: there is none. Errors: RV_E_FORMAT, RV_E_CORRUPT: it is damaged, or of another store; it is
 * to be removed. Takes state, shared; without a lock that the keeper changes. */
rv_err rv_fast_save(rv_memory *m, fast *f, const char *path) RV_MUST_CHECK;
rv_err rv_fast_open(rv_memory *m, const char *path, const char *kind, fast **out) RV_MUST_CHECK;
/** rv_fast_forget - removes what was saved in a folder of vector files, also what a kill left half saved. */
rv_err rv_fast_forget(const char *folder) RV_MUST_CHECK;
/** rv_fast_thaw - a copy of what is mapped, which can be changed. */
rv_err rv_fast_thaw(rv_memory *m, const fast *f, rv_index **out) RV_MUST_CHECK;

/* ---- search ---- */

/* How one search goes about it. */
typedef struct nearest_plan {
    fast *fast; /* NULL: all that pass are compared exactly */
    bool scan;
    size_t breadth;
    size_t
        recent_most; /* of what is not in the index yet, so many at least are compared, the newest; 0: all */
    rv_memory_plan said;
} nearest_plan;

/** rv_nearest_plan - the cheapest way that finds the part asked for. passing: bits of what may be found, n of them; bits NULL: all.
 * Under state; so for all below.  rv_nearest_search - never fewer than k when k pass. found: 0 .. k. */
nearest_plan rv_nearest_plan(const rv_memory *m, const rv_filter *filter, size_t n_passing, size_t k,
                             double recall);
rv_err rv_nearest_search(rv_memory *m, const nearest_plan *plan, const float *query, const rv_filter *filter,
                         size_t k, rv_hit *hits, size_t *found) RV_MUST_CHECK;
/** rv_nearest_added, rv_nearest_removed - a row came or went: the fast indexes lag by one more. Under state, alone. */
void rv_nearest_added(rv_memory *m);
void rv_nearest_removed(rv_memory *m, int64_t id);

/* ---- the keeper ---- */

/** rv_keeper_wake - something changed. Starts the keeper as soon as the memory is large enough for it.
 *  rv_keeper_stop - it ends, and what is worth it is saved. */
void rv_keeper_wake(rv_memory *m);
void rv_keeper_stop(rv_memory *m);
bool rv_keeper_stopped(rv_memory *m); /* on the keeper: the memory closes */
#endif
