/* Lists around centres, and one-bit codes of what is left of each row beside its centre.
 *
 * All of it lives in the rotated space of the rows' int8 codes and is made from them: the vectors themselves are read at the very
 * end of a search only. A list is a chain of blocks of 32 rows, the newest first, only that one partly filled. Blocks lie in
 * one array; a list that was built at once, or compacted, has its blocks side by side and is scanned as one piece. A row that is
 * removed gives its place to the last row of its list, so nothing dead stays in a list and no search steps over it. */
#ifndef RV_VECTOR_RABITQ_PRIV_H
#define RV_VECTOR_RABITQ_PRIV_H
#include "vector/index_priv.h"

#define RABITQ_NONE UINT32_MAX

enum {
    RABITQ_RUN = 2048, /* rows scanned at a time */
    RABITQ_BITS_MAX = 8
};

/* Saved as it is. */
typedef struct rabitq_head {
    uint32_t n_lists, n_groups; /* no groups: few enough lists to look at all */
    uint32_t n_blocks, n_free;
    uint32_t free; /* a free block, when there are any */
    uint32_t unused;
} rabitq_head;

typedef struct rabitq {
    const rv_rows *rows;
    const rv_alloc *mem;
    size_t dim;    /* of the codes: rows->dim rounded up to 16 */
    size_t bits;   /* of the second look: 1: the rows' int8 codes */
    float *dither; /* [dim] how queries are rounded */

    rabitq_head head;

    size_t lists_room;
    float *centres;            /* [lists_room][dim] */
    float *widths;             /* [lists_room] mean squared length of its residuals, when it was last made */
    uint32_t *newest, *counts; /* [lists_room] its newest block, or RABITQ_NONE; its rows */
    uint8_t *centre_codes;     /* [lists_room][rows->stride] and */
    rv_row_scale *centre_scales; /* [lists_room] as rows have them: the first look at the lists */

    uint32_t *group_of;    /* [lists_room] */
    uint32_t *group_next;  /* [lists_room] another list of the group, or RABITQ_NONE */
    uint32_t *group_first; /* [head.n_groups] */
    float *group_centres;  /* [head.n_groups][dim] means of centres */

    bool mapped; /* the arrays of blocks lie in a file */
    size_t blocks_room;
    size_t scattered; /* blocks that came or went since lists were last in one piece */
    uint8_t *blocks;  /* [blocks_room][RV_ONEBIT_BLOCK_BYTES(dim)] */
    uint8_t *fine;    /* [blocks_room][32][rabitq_fine_bytes] finer codes of the rows in it */
    uint32_t *slots;  /* [blocks_room][32] of the rows in it */
    uint32_t
        *before; /* [blocks_room] the older block of its list, or RABITQ_NONE; of a free one the next free */
    uint32_t *owner; /* [blocks_room] its list, or RABITQ_NONE: free */

    uint32_t *places; /* [places_room] 32 * block + row of each slot; made before the first change */
    size_t places_room;
} rabitq;

static inline const float *rabitq_centre(const rabitq *r, size_t list)
{
    return r->centres + list * r->dim;
}
static inline uint8_t *rabitq_block(const rabitq *r, size_t block)
{
    return r->blocks + block * RV_ONEBIT_BLOCK_BYTES(r->dim);
}

/* ---- rabitq_fine.c ---- */

/* Ends a row's finer code: estimate = base + add - slope * <y, query> */
typedef struct rabitq_fine {
    float add, slope;
} rabitq_fine;
typedef struct rabitq_fine_query {
    const int8_t *code; /* [rows->stride] of the rotated query, zeros beyond dim */
    float scale, offset;
} rabitq_fine_query;

/** rabitq_fine_bytes - of one row: planes of stride / 8 bytes, lowest bit first, then its rabitq_fine. 0 with 1 bit. */
size_t rabitq_fine_bytes(const rabitq *r);
/** rabitq_make_fine - from a residual and its centre [dim]; squares: of the row's own length. */
void rabitq_make_fine(const rabitq *r, const float *residual, const float *centre, float squares,
                      uint8_t *out);
/** rabitq_ask_fine - a query as its code has it.  rabitq_fine_distances - to the rows at n places of a list; base: what the list
 * adds; sums [n] is scratch. */
static inline void rabitq_fetch_fine(const rabitq *r, size_t place)
{
    const size_t bytes = rabitq_fine_bytes(r);
    const uint8_t *at = r->fine + place * bytes;
    for (size_t i = 0; i < bytes + 63; i += 64) {
        __builtin_prefetch(at + i);
    }
}
rabitq_fine_query rabitq_ask_fine(const rabitq *r, const int8_t *code, float scale);
void rabitq_fine_distances(const rabitq *r, const rabitq_fine_query *query, float base,
                           const uint32_t *places, size_t n, int32_t *sums, float *out);

/* ---- rabitq_lists.c ---- */

/** rabitq_reserve_* - room for n more lists, n more blocks; places for slots below n. RV_E_NOMEM, RV_E_FULL: as before. */
rv_err rabitq_reserve_lists(rabitq *r, size_t n) RV_MUST_CHECK;
rv_err rabitq_reserve_blocks(rabitq *r, size_t n) RV_MUST_CHECK;
rv_err rabitq_reserve_places(rabitq *r, size_t n_slots) RV_MUST_CHECK;

/** rabitq_add_list - an empty one around centre [dim]; its number. Room was reserved. */
uint32_t rabitq_add_list(rabitq *r, const float *centre);
/** rabitq_append - the row of a slot to a list; row [dim] is what rabitq_decode gives. Room was reserved. */
void rabitq_append(rabitq *r, uint32_t list, uint32_t slot, const float *row);
/** rabitq_place_list, rabitq_fill_list - n rows to an empty list at once: first its blocks, then, in any thread, the rows of
 * these slots [n] to them; row [dim] is scratch. */
void rabitq_place_list(rabitq *r, uint32_t list, size_t n);
void rabitq_fill_list(rabitq *r, uint32_t list, const uint32_t *slots, float *row);
/** rabitq_measure - the width of a list.  rabitq_take - the row of a slot out of its list.  rabitq_empty - all rows of a list out of it. */
void rabitq_measure(rabitq *r, uint32_t list);
void rabitq_take(rabitq *r, uint32_t slot);
void rabitq_empty(rabitq *r, uint32_t list);

/** rabitq_compact - the blocks of every list side by side, none free; without memory nothing changes. */
void rabitq_compact(rabitq *r);

/* A list in pieces of neighbouring blocks: rows 0 .. n - 1 of the blocks from `first` on. n 0: there are no more. */
typedef struct rabitq_walk {
    uint32_t first;
    size_t n, left;
} rabitq_walk;
rabitq_walk rabitq_walk_begin(const rabitq *r, uint32_t list);
void rabitq_walk_next(const rabitq *r, rabitq_walk *walk);

/** rabitq_decode - the rotated vector [dim] that the code of a slot stands for. */
void rabitq_decode(const rabitq *r, uint32_t slot, float *out);

/* What a block holds of a row, see RV_ONEBIT: from its residual [dim] and, for inner products, its own squared length. */
typedef struct rabitq_factors {
    float add, slope, error;
} rabitq_factors;
rabitq_factors rabitq_factors_of(const float *residual, size_t dim, rv_index_metric metric, float squares);

/** rabitq_check - lists hold every live row once, blocks are in one list or free. RV_E_CORRUPT, RV_E_NOMEM. */
rv_err rabitq_check(const rabitq *r) RV_MUST_CHECK;
void rabitq_free_lists(rabitq *r);

/* ---- rabitq_train.c ---- */

/** rabitq_n_lists - for so many rows. */
size_t rabitq_n_lists(size_t n_rows);
/** rabitq_build - the live rows of these slots to n new lists of r, which has none. RV_E_NOMEM: the caller frees what is there. */
rv_err rabitq_build(rabitq *r, rv_pool *pool, const uint32_t *slots, size_t n_slots, size_t n) RV_MUST_CHECK;
/** rabitq_nearest - the list whose centre is nearest to each of these slots: out [n]. RV_E_NOMEM.  rabitq_nearest_one - to a
 * decoded row [dim]. */
rv_err rabitq_nearest(const rabitq *r, rv_pool *pool, const uint32_t *slots, size_t n,
                      uint32_t *out) RV_MUST_CHECK;
uint32_t rabitq_nearest_one(const rabitq *r, const float *row);
/** rabitq_split - a list that grew too long into two, unless its rows do not fall apart or memory is short. */
void rabitq_split(rabitq *r, uint32_t list);

/* ---- rabitq_coarse.c ---- */

/** rabitq_encode_centre - what the first look sees of a list: its centre, and its width. */
void rabitq_encode_centre(rabitq *r, uint32_t list);
/** rabitq_group - put the lists into groups when they are many. Without memory they stay as they are.  rabitq_regroup - the
 * same from group_of, as saved. RV_E_CORRUPT, RV_E_NOMEM. */
void rabitq_group(rabitq *r);
bool rabitq_groups_due(
    const rabitq *r); /* lists that were split have become too many for the groups there are */
rv_err rabitq_regroup(rabitq *r) RV_MUST_CHECK;

/* A query as lists see it. */
typedef struct rabitq_look {
    const float *rotated; /* [dim] */
    const rv_row_query *query;
    int32_t *sums; /* [RV_SCRATCH_BLOCK] scratch */
} rabitq_look;
/** rabitq_look_at - lists worth a look and how near their centres are, in no order: out [n_lists] each; how many. At least
 * `want` or all. */
size_t rabitq_look_at(const rabitq *r, const rabitq_look *look, size_t want, float *nears, uint32_t *lists);

/* ---- rabitq_search.c ---- */

typedef struct rabitq_scratch {
    rv_scratch base;
    float *rotated; /* [dim], zeros beyond that of the rows */
    uint8_t *table; /* [dim / 4][16] */
    uint32_t *at;   /* [run + 32] what a scan found, and */
    float *low;     /* [run + 32] */
    uint32_t *
        slots; /* [run + 32] the same, as slots or as places of finer codes, while it waits for the middle stage, and */
    float *lows;     /* [run + 32] */
    float *nears;    /* [lists_room] */
    uint32_t *lists; /* [lists_room] */
    size_t lists_room;
} rabitq_scratch;

rv_err rabitq_search(rv_index *index, rv_scratch *scratch, const float *query, const rv_search *how,
                     rv_hit *hits, size_t *found);
void rabitq_scratch_deinit(rv_index *index, rv_scratch *scratch);
#endif
