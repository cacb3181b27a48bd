/* Bundles searched as they are, several at once. What was read and verified is kept by its witness: two folders with the same bundle share
 * it, and a bundle that is published anew is read once. Each folder says how often one looks whether it changed. */
#ifndef RV_MEMORY_LAKE_H
#define RV_MEMORY_LAKE_H
#include "memory/memory.h"

#define RV_LAKE_SHARDS 64

typedef enum rv_consistency {
    RV_LAKE_FRESH, /* looks at every search (a search over several: once each); a bundle that is gone is an error */
    RV_LAKE_EVENTUAL, /* looks when the last look is ttl_ms ago; what is gone or damaged then is served from what was read, for ten times
                         ttl_ms, and told (stale) */
    RV_LAKE_FROZEN /* looks once, and again only when refreshed; when it was not kept and is another one by then: RV_E_NOT_FOUND */
} rv_consistency;

typedef struct rv_lake rv_lake;

/** rv_lake_new - cache_bytes: of what is kept without being in use; the least recently used goes. embedder: as for rv_memory_open; bundles of
 * another are refused. rv_lake_free accepts NULL; nothing may be in use. Threads: all calls below: any thread, locks inside. */
rv_err rv_lake_new(const rv_alloc *mem, rv_memory_embedder embedder, size_t cache_bytes,
                   rv_lake **out) RV_MUST_CHECK;
void rv_lake_free(rv_lake *lake);

/** rv_lake_add - a folder; nothing is read yet. RV_E_ARG it is there already, RV_E_FULL RV_LAKE_SHARDS are. */
rv_err rv_lake_add(rv_lake *lake, const char *dir, rv_consistency consistency, int64_t ttl_ms) RV_MUST_CHECK;

typedef struct rv_lake_hit {
    rv_memory_node node; /* in arena; score is the cosine, source as in the bundle */
    const char *bundle;  /* data_ref, in arena */
} rv_lake_hit;
typedef struct rv_lake_hits {
    rv_lake_hit *at; /* [n] best first, in arena */
    size_t n;
    size_t failed;           /* folders that could not be searched */
    size_t stale;            /* folders served from what was read before */
    char first_failure[512]; /* the sentence of the first of them */
} rv_lake_hits;
/**
 * rv_lake_search - the k (1 .. 1,000) nearest in meaning of all bundles, as one list: every bundle is compared exactly, so it is the list
 * that one bundle of all would give. A node of one data_ref and id comes once; what is corrected within its bundle is left out.
 *
 * vector  [dim], made by the same embedder; any length but 0
 * Errors: RV_E_ARG k or vector.  When no folder could be searched, the error of the first.  RV_E_NOMEM also when the arena is full.
 */
rv_err rv_lake_search(rv_lake *lake, const float *vector, size_t k, rv_arena *arena,
                      rv_lake_hits *out) RV_MUST_CHECK;

typedef enum rv_lake_state { RV_LAKE_UP_TO_DATE, RV_LAKE_INVALIDATED, RV_LAKE_MISSING } rv_lake_state;
/** rv_lake_refresh - look now, whatever the consistency: unchanged (also when it was not read yet), changed (the next search reads it), or
 * gone. A damaged head is an error. RV_E_NOT_FOUND no such folder was added. */
rv_err rv_lake_refresh(rv_lake *lake, const char *dir, rv_lake_state *out) RV_MUST_CHECK;

typedef struct rv_lake_stats {
    uint64_t searches, hits, primes, shared_hits, invalidations, checks,
        evictions; /* primes: bundles read; checks: heads looked at */
    double prime_ms;
    size_t cached, cached_bytes;
} rv_lake_stats;
void rv_lake_get_stats(rv_lake *lake, rv_lake_stats *out);
#endif
