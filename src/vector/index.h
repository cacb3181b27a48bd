/* Search by similarity. One interface over several kinds of index:
 *
 *   flat     compares with every vector and is exact
 *   hnsw     walks a graph of neighbours: the fastest at high recall, slow to build
 *   rabitq   lists of one-bit codes: quick to build and to change, best where the graph is lost
 *   pq       every row by a short product code: small, and slower than the lists
 *
 * An index holds ids, int8 codes (but flat) and either borrowed rows or its own copies. It opens no file: it is saved
 * through a write callback and opened from bytes that somebody mapped (docs/formats/index.md).
 *
 * Threads: any number of readers (search, score, has, count, save, check, bytes) together; a change (reserve, add, build, remove, repair)
 * alone. */
#ifndef RV_VECTOR_INDEX_H
#define RV_VECTOR_INDEX_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/pool.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_INDEX_ROWS_MAX     ((size_t)1 << 31)
#define RV_INDEX_DIM_MAX      16384
#define RV_INDEX_K_MAX        65536
#define RV_INDEX_HAAR_DIM_MAX 2048

typedef struct rv_index rv_index;

/* What is near, and the score of a hit; a larger score is always nearer. */
typedef enum rv_index_metric {
    RV_INDEX_COS, /* cosine, -1 .. 1. Rows and queries have length 1; a row may also be all zero */
    RV_INDEX_L2,  /* minus the squared distance */
    RV_INDEX_IP,  /* inner product */
    RV_INDEX_METRICS
} rv_index_metric;

/* Where the vectors themselves are, which rank the last candidates */
typedef enum rv_keep {
    RV_KEEP_BORROWED, /* with the caller: valid and unchanged until removed */
    RV_KEEP_F32,      /* copied, and saved with the index */
    RV_KEEP_BF16,     /* the same in half the bytes, with 8 bits of precision */
    RV_KEEPS
} rv_keep;

/* How vectors are turned before they are cut to codes (vector/rotate.h) */
typedef enum rv_rotation_kind {
    RV_ROTATION_HADAMARD,
    RV_ROTATION_HAAR, /* slow; up to RV_INDEX_HAAR_DIM_MAX dimensions */
    RV_ROTATION_KINDS
} rv_rotation_kind;

/* 0 in any field but dim means its default. */
typedef struct rv_index_config {
    const char *kind; /* "flat", "hnsw", "rabitq", "pq" */
    size_t dim;       /* 1 .. RV_INDEX_DIM_MAX */
    rv_index_metric metric;
    rv_keep keep;
    uint64_t seed; /* of the rotation and the levels: same seed and rows, same index */
    rv_rotation_kind rotation;

    size_t m, m0;    /* hnsw: links a row makes, 32, 2 .. 128; links it may have, 2 m, m .. 256 */
    size_t ef_build; /* hnsw: breadth while building, 200 */
    size_t ef;       /* hnsw: breadth of a search that names none, 64 */

    size_t lists;  /* rabitq: lists, by the number of rows */
    size_t probes; /* rabitq: lists that a search looks into when it names none */
    /* Of a code and dimension. rabitq: 1 .. 8, 1; from 2 on the lists hold all that a search compares, and 4 find as much as 1 and int8
     * codes do. pq: 1, 2 or 4, 2 */
    size_t bits;
} rv_index_config;

typedef struct rv_hit {
    int64_t id;
    float score;
} rv_hit;

/* Which ids may be hits: by bits, where that is set, or by a function. bits tell how many pass, so that an index can look
 * through those few instead of walking past the others. */
typedef struct rv_filter {
    const uint64_t *bits; /* bit i % 64 of word i / 64: first + i may be a hit; ids beyond may not */
    int64_t first;
    size_t n_bits;
    bool (*passes)(const void *self,
                   int64_t id); /* called only for rows that are near enough, on the searching thread */
    const void *self;
} rv_filter;

/* Which rows a search looks at. */
typedef enum rv_way {
    RV_WAY_INDEX, /* those the index leads to; where few rows pass the filter it scans instead */
    RV_WAY_SCAN,  /* all that pass, by their codes; the best few then by their vectors */
    RV_WAY_EXACT, /* all that pass, by their vectors */
    RV_WAYS
} rv_way;

/* What a search did. */
typedef struct rv_told {
    rv_way way;
    size_t compared, ranked; /* rows by their codes, rows by their vectors */
} rv_told;

typedef struct rv_search {
    size_t k;      /* 0 .. RV_INDEX_K_MAX */
    size_t ef;     /* hnsw: breadth, raised to k; rabitq: lists to probe; 0: as configured */
    size_t rerank; /* candidates compared by their own vectors, raised to k; 0: those that the error of
                              * their codes may make one of the k, 2 k + 10 at most */
    const rv_filter *filter; /* NULL: all pass */
    rv_way way;
    rv_told *told; /* out, on success; NULL: nobody asks */
} rv_search;

/** rv_index_new - an empty index. config is copied.
 * Errors: RV_E_NOT_FOUND no such kind; the text lists those there are.  RV_E_ARG an option out of range.  RV_E_NOMEM. */
rv_err rv_index_new(const rv_alloc *mem, const rv_index_config *config, rv_index **out) RV_MUST_CHECK;
void rv_index_free(rv_index *index); /* accepts NULL */
size_t rv_index_count(const rv_index *index);
/** rv_index_get_config - as given or as saved, defaults filled in. */
const rv_index_config *rv_index_get_config(const rv_index *index);
/** rv_index_has - is a row of this id there? */
bool rv_index_has(const rv_index *index, int64_t id);

/** rv_index_reserve - before every change: makes room for n more (n may be 0), so that as many calls of rv_index_add, and
 * rv_index_remove, cannot fail. RV_E_NOMEM, RV_E_FULL, RV_E_CORRUPT of a mapped one; the index is as before. */
rv_err rv_index_reserve(rv_index *index, size_t n) RV_MUST_CHECK;
/** rv_index_add - one row [dim], finite. The id is not in the index yet; room was reserved. */
void rv_index_add(rv_index *index, int64_t id, const float *row);
/**
 * rv_index_build - add many rows at once, with all threads of pool (NULL: this one). The index does not depend on how many.
 *
 * rows     [n] where each row [dim] is; ids not in the index yet, each once
 * progress told now and then how many of these are in; NULL: nobody. false stops with RV_E_CANCELLED
 * Errors:  RV_E_NOMEM, RV_E_FULL, RV_E_CANCELLED; none of the rows is in the index then.
 */
typedef bool rv_index_progress(void *self, size_t done);
rv_err rv_index_build(rv_index *index, rv_pool *pool, const int64_t *ids, const float *const *rows, size_t n,
                      rv_index_progress *progress, void *self) RV_MUST_CHECK;
/** rv_index_remove - drop n ids, given in ascending order; how many were there. A search after it does not see them. */
size_t rv_index_remove(rv_index *index, const int64_t *ids, size_t n);
/** rv_index_repair - work left over by removals, in small steps: look at about n_rows rows. false: nothing is left. Every
 * add and remove does a little of it; an idle caller may do the rest. */
bool rv_index_repair(rv_index *index, size_t n_rows);

/**
 * rv_index_search - the how->k nearest rows that pass the filter, nearest first; equal scores by id.
 *
 * query   [dim]
 * hits    out [k]
 * found   out, 0 .. k; fewer than k only when fewer rows pass
 *
 * Errors: RV_E_ARG k or way.  RV_E_NOMEM for working memory, which the index keeps for the next search.  RV_E_CORRUPT: it met a
 *         damaged page of the file, the next search will too.
 */
rv_err rv_index_search(rv_index *index, const float *query, const rv_search *how, rv_hit *hits,
                       size_t *found) RV_MUST_CHECK;

/** rv_index_score - of the row with that id, as a search would score it; false: there is none. query [dim]. */
bool rv_index_score(const rv_index *index, const float *query, int64_t id, float *out);

/** rv_index_save - hands the file to write, front to back, in any pieces. The error of write ends it and is returned. */
typedef rv_err rv_index_write(void *self, const void *bytes, size_t n);
rv_err rv_index_save(const rv_index *index, rv_index_write *write, void *self) RV_MUST_CHECK;

/**
 * rv_index_open - an index out of saved bytes, which stay valid and unchanged until it is freed. It reads the header, ids and what is
 * small; rows are read when they are searched, and copied at the first change. A page of 64 KB is compared with its checksum
 * before a search believes it: damage makes searches and changes fail with RV_E_CORRUPT and the bytes, never an answer
 * different.
 *
 * bytes   64-byte aligned
 * find    RV_KEEP_BORROWED: where n rows are, into rows; NULL for one that is gone, which is then removed. Called with all ids, in
 *         the index's own order, some thousands at a time. NULL for the other ways to keep rows
 * Errors: RV_E_FORMAT no index, or a newer version.  RV_E_CORRUPT header or lengths are damaged.  RV_E_NOMEM.
 *         What find returns.
 */
typedef rv_err rv_index_find(void *self, const int64_t *ids, size_t n, const float **rows);
rv_err rv_index_open(const rv_alloc *mem, const void *bytes, size_t n_bytes, rv_index_find *find, void *self,
                     rv_index **out) RV_MUST_CHECK;

/** rv_index_check - every page of a mapped file has its checksum; every id once; links, lists and codes obey their rules.
 * RV_E_CORRUPT with the first that does not. */
rv_err rv_index_check(const rv_index *index) RV_MUST_CHECK;
/** rv_index_check_pages - the first of these alone, what is searched most first. Another thread may do it right after the opening:
 * searches then need not, and find the pages in memory. */
rv_err rv_index_check_pages(const rv_index *index) RV_MUST_CHECK;

/** rv_index_bytes - memory (or mapped file) per part: hot is read by every search or change; cold are the vectors themselves unless
 * borrowed, and the int8 codes of a rabitq index that has finer ones. */
typedef struct rv_index_size {
    size_t hot, cold;
} rv_index_size;
rv_index_size rv_index_bytes(const rv_index *index);
#endif
