/* What a kind of index is made of. index.c does what all kinds share: rows, ids, scratch, files; a kind adds its own structure
 * over slots. */
#ifndef RV_VECTOR_INDEX_PRIV_H
#define RV_VECTOR_INDEX_PRIV_H
#include "vector/index.h"
#include "vector/rows.h"

/* An array in a saved file. Tags below 100 are the rows'; a kind uses those from 100, each once. */
typedef struct rv_section {
    uint32_t tag;
    const void *at;
    size_t n; /* bytes */
} rv_section;

enum { RV_SECTIONS_MAX = 32 };
typedef struct rv_sections {
    rv_section at[RV_SECTIONS_MAX];
    size_t n;
    rv_pages *pages; /* of the file they are read from */
} rv_sections;

/** rv_sections_put - one more to be saved; n may be 0.  rv_sections_map - the bytes of a tag, 64-byte aligned, which rv_pages_touch has
 * to be told of before they are read.  rv_sections_get - the same, compared with their checksums already. RV_E_CORRUPT: it is
 * missing, not exactly n bytes long, or damaged. */
void rv_sections_put(rv_sections *sections, uint32_t tag, const void *at, size_t n);
rv_err rv_sections_map(const rv_sections *sections, uint32_t tag, size_t n, const void **out) RV_MUST_CHECK;
rv_err rv_sections_get(const rv_sections *sections, uint32_t tag, size_t n, const void **out) RV_MUST_CHECK;

/* The rows that are nearest by their codes of all that were offered, in no order: candidates for the best k */
typedef struct rv_near {
    float *distances; /* [room] */
    uint32_t *slots;  /* [room] */
    size_t n, room;
    size_t k, keep, most; /* up to keep of them at the end; narrowed when they are most */
    float limit;          /* what is farther is not wanted; INFINITY at first */
    const rv_rows *rows;
    const rv_row_query *
        query; /* whose distances these are: what their error cannot make one of the best k goes; NULL: keep stay */
} rv_near;

/* Working memory of one search. A kind's own begins with this one. */
typedef struct rv_scratch {
    struct rv_scratch *next;
    float *rotated, *row; /* [dim] each */
    int8_t *code;         /* [stride] of the query */
    uint32_t *slots;      /* [block] and */
    int32_t *sums;        /* [block], */
    float *distances;     /* [block] of one call of rv_rows_distances */
    rv_near near;
    rv_told told;   /* of this search, and */
    size_t passing; /* how many ids its filter's bits let pass; without bits all rows */
} rv_scratch;
enum { RV_SCRATCH_BLOCK = RV_BITS_ROOM };

typedef struct rv_index_ops {
    const char *kind;
    bool coded;           /* rows have codes */
    size_t scratch_bytes; /* of the kind's scratch, zeroed when new */

    /* Check the kind's options and fill in defaults. RV_E_ARG. NULL: it has none. */
    rv_err (*configure)(rv_index_config *config);
    /* self for an empty index, or for the sections of a file whose rows are there already (mapped). On failure close is called. */
    rv_err (*open)(rv_index *index, const rv_sections *file);
    void (*close)(rv_index *index);
    /* Room for n more slots, after the rows' own; also makes ours what was mapped. was_mapped: the rows came out of the file with
     * this call, so dead slots are on nobody's list. */
    rv_err (*reserve)(rv_index *index, size_t n, bool was_mapped);
    /* A row that was placed and filled. */
    void (*add)(rv_index *index, uint32_t slot);
    /* n such rows at once; NULL: add, one by one. On failure none of them is linked from the rest. */
    rv_err (*build)(rv_index *index, rv_pool *pool, const uint32_t *slots, size_t n,
                    rv_index_progress *progress, void *self);
    /* Slots that were just dropped, dead now; the kind recycles them when nothing leads there any more. */
    void (*remove)(rv_index *index, const uint32_t *slots, size_t n);
    bool (*repair)(rv_index *index, size_t n_rows); /* NULL: nothing is ever left */
    rv_err (*search)(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                     rv_hit *hits, size_t *found);
    void (*scratch_deinit)(rv_index *index, rv_scratch *scratch); /* NULL: nothing to free */
    void (*sections)(const rv_index *index, rv_sections *out);    /* NULL: none */
    rv_err (*check)(const rv_index *index);                       /* NULL: nothing to check */
    void (*bytes)(const rv_index *index, rv_index_size *size);    /* added to the rows'; NULL: nothing */
} rv_index_ops;

extern const rv_index_ops rv_flat_ops, rv_hnsw_ops, rv_rabitq_ops, rv_pq_ops;

typedef struct rv_scratch_pool rv_scratch_pool;

/* The rows that a filter lets pass, side by side (gather.c). */
typedef struct rv_gathered {
    uint64_t *bits; /* of the filter */
    size_t n_bits;
    int64_t first;
    uint64_t mark;
    uint8_t *codes; /* [n][stride] */
    rv_row_scale *scales;
    uint32_t *slots;
    size_t n;
    size_t refs; /* searches, and the list of what was gathered */
    uint64_t used;
} rv_gathered;
typedef struct rv_gathers rv_gathers;

/** rv_gathers_new - nothing gathered yet, or NULL.  rv_gathers_forget - the index changes. */
rv_gathers *rv_gathers_new(const rv_alloc *mem);
void rv_gathers_free(const rv_alloc *mem, rv_gathers *all); /* accepts NULL */
void rv_gathers_forget(const rv_alloc *mem, rv_gathers *all);
/** rv_gathered_take - the rows of a filter with bits, n of which are set, until rv_gathered_give. NULL: they are not there; *again: the
 * filter came before, and gathering them would pay. */
rv_gathered *rv_gathered_take(const rv_alloc *mem, rv_gathers *all, const rv_filter *filter, size_t n,
                              bool *again);
void rv_gathered_give(const rv_alloc *mem, rv_gathers *all, rv_gathered *g);
/** rv_gathered_new - room for so many rows, to be filled in, given back too.  rv_gathered_fits - are so many worth it?
 * rv_gathered_keep - for the searches after this one. */
bool rv_gathered_fits(const rv_rows *rows, size_t n);
rv_err rv_gathered_new(const rv_alloc *mem, const rv_rows *rows, const rv_filter *filter, size_t room,
                       rv_gathered **out) RV_MUST_CHECK;
void rv_gathered_keep(const rv_alloc *mem, rv_gathers *all, rv_gathered *g);

struct rv_index {
    const rv_index_ops *ops;
    const rv_alloc *mem;
    rv_index_config config; /* kind points to ops->kind */
    rv_rows rows;
    void *self; /* the kind's */
    rv_scratch_pool *scratch;
    rv_gathers *gathers;
    float *row; /* [dim] scratch of changes */
};

/** rv_index_make - all of an index but the kind's own part, empty. */
rv_err rv_index_make(const rv_alloc *mem, const rv_index_config *config, rv_index **out) RV_MUST_CHECK;

static inline bool rv_filter_passes(const rv_filter *filter, int64_t id)
{
    if (!filter) {
        return true;
    }
    if (filter->bits) {
        uint64_t bit = (uint64_t)id - (uint64_t)filter->first;
        return bit < filter->n_bits && (filter->bits[bit / 64] >> bit % 64 & 1);
    }
    return filter->passes(filter->self, id);
}

/** rv_hit_better - a before b: the larger score, then the smaller id. */
static inline bool rv_hit_better(rv_hit a, rv_hit b)
{
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

/** rv_hits_push - keep the k best of all pushed, as a heap with the worst on top; rv_hits_sort - best first, at the end. */
void rv_hits_push(rv_hit *heap, size_t *n, size_t k, rv_hit hit);
void rv_hits_sort(rv_hit *heap, size_t n);

/** rv_filter_count - how many ids pass a filter with bits. */
size_t rv_filter_count(const rv_rows *rows, const rv_filter *filter);

/** rv_scratch_new - as a search would get it, or NULL. */
rv_scratch *rv_scratch_new(rv_index *index);
void rv_scratch_free(rv_index *index, rv_scratch *scratch); /* accepts NULL */

/** rv_smallest_first - the n smallest of all keys, and what belongs to them, to the front.  rv_sort_few - few keys, smallest first.
 * rv_largest - of n keys, n > 0. */
void rv_smallest_first(const rv_kernels *kernels, float *keys, uint32_t *what, size_t total, size_t n);
void rv_sort_few(float *keys, uint32_t *what, size_t n);
float rv_largest(const float *keys, size_t n);

/** rv_near_begin - none yet; keep is at least k, query borrowed. RV_E_NOMEM.  rv_near_offer - n more, up to RV_SCRATCH_BLOCK. */
rv_err rv_near_begin(rv_index *index, rv_scratch *scratch, size_t k, size_t keep,
                     const rv_row_query *query) RV_MUST_CHECK;
void rv_near_offer(rv_near *near, const uint32_t *slots, const float *distances, size_t n);
/** rv_index_rank - the k best of scratch->near, live slots, by their own vectors. */
void rv_index_rank(rv_index *index, rv_scratch *scratch, const float *query, size_t k, rv_hit *hits,
                   size_t *found);
/** rv_index_scan - search by looking at every row that passes: by codes first where there are some.  rv_index_scan_vectors - by
 * vectors alone. */
void rv_index_scan_vectors(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                           rv_hit *hits, size_t *found);
rv_err rv_index_scan(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                     rv_hit *hits, size_t *found) RV_MUST_CHECK;
#endif
