/* Search by similarity. One interface over several kinds of index; `flat` compares with every vector and is exact. An index
 * holds ids and borrowed rows: it opens no file, and what stores the rows (mapped segments) outlives it. */
#ifndef RV_VECTOR_INDEX_H
#define RV_VECTOR_INDEX_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_INDEX_ROWS_MAX ((size_t)1 << 31)
#define RV_INDEX_K_MAX    65536

typedef struct rv_index rv_index;

typedef struct rv_hit {
    int64_t id;
    float score; /* cosine, -1 .. 1; larger is nearer */
} rv_hit;

/** rv_index_new - an empty index of unit vectors [dim]. kind: "flat"; RV_E_NOT_FOUND lists the kinds there are.
 * Threads: searches together; never during a change (reserve, add, remove). */
rv_err rv_index_new(const rv_alloc *mem, const char *kind, size_t dim, rv_index **out) RV_MUST_CHECK;
void rv_index_free(rv_index *index); /* accepts NULL */
size_t rv_index_count(const rv_index *index);

/** rv_index_reserve - make room for n more, so that as many calls of rv_index_add cannot fail. RV_E_NOMEM, RV_E_FULL. */
rv_err rv_index_reserve(rv_index *index, size_t n) RV_MUST_CHECK;
/** rv_index_add - row [dim] is borrowed: valid and unchanged until it is removed. Length 1, or all zero. The id is not in
 * the index yet; room was reserved. */
void rv_index_add(rv_index *index, int64_t id, const float *row);
/** rv_index_remove - drop n ids, given in ascending order; how many were there. One pass over the index however many. */
size_t rv_index_remove(rv_index *index, const int64_t *ids, size_t n);

/** rv_index_filter - may this id be a hit? Called only for rows that are near enough, so it may be slower than a product. */
typedef bool (*rv_index_filter)(const void *self, int64_t id);

/**
 * rv_index_search - the k nearest rows that pass the filter, nearest first; equal scores by id.
 *
 * query   [dim], length 1
 * filter  NULL: all pass
 * hits    out [k], k <= RV_INDEX_K_MAX
 * found   out, 0 .. k; fewer than k only when fewer pass (flat)
 */
void rv_index_search(const rv_index *index, const float *query, size_t k, rv_index_filter filter, const void *self,
                     rv_hit *hits, size_t *found);

/** rv_index_cosine - of the row with that id, as a search would score it; false: there is none. query [dim], length 1. */
bool rv_index_cosine(const rv_index *index, const float *query, int64_t id, float *out);

/** rv_index_check - every id once, every row finite and of length 1 or 0. */
rv_err rv_index_check(const rv_index *index) RV_MUST_CHECK;
#endif
