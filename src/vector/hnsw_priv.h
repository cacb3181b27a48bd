/* A graph of neighbours in layers. Layer 0 holds every row with up to m0 links, each layer above about 1/m of the one below
 * with up to m. How many layers a slot reaches follows from its number alone, so a slot that is used again fits the place
 * it had.
 *
 * Links are slot numbers, a list is filled from the front and ends at its first number that is no slot. They may be out of a
 * damaged file: whoever follows one compares it with the number of slots first. */
#ifndef RV_VECTOR_HNSW_PRIV_H
#define RV_VECTOR_HNSW_PRIV_H
#include "vector/index_priv.h"

enum { HNSW_LINKS_MAX = 256, HNSW_LEVELS_MAX = 16 };

typedef struct hnsw_near {
    float distance;
    uint32_t slot; /* in a pool the highest bit is set once its links were followed */
} hnsw_near;
#define HNSW_DONE 0x80000000u

/* Working memory of one walk, of searches and of building */
typedef struct hnsw_scratch {
    rv_scratch base;
    hnsw_near *pool; /* [pool_room] */
    size_t pool_room, n_pool;
    uint8_t *seen; /* [seen_room] the mark of the walk that last came by */
    size_t seen_room;
    uint8_t mark;
} hnsw_scratch;

/* Working memory of one thread that builds */
typedef struct hnsw_maker {
    hnsw_scratch *walk;
    int8_t *codes;      /* [m0][stride] of the rows that were kept */
    rv_row_query *kept; /* [m0] */
    hnsw_near *near;    /* [m0 + 1] a list with its distances */
    hnsw_near *left;    /* [HNSW_WINDOW] candidates that may still be kept, and */
    uint32_t *slots;    /* [HNSW_LINKS_MAX] the numbers of such */
    uint32_t *chosen;   /* [HNSW_LEVELS_MAX + 1][m] the neighbours of one row that is added alone */
} hnsw_maker;
enum { HNSW_WINDOW = 80 };

typedef struct hnsw {
    size_t m, m0;
    bool mapped;     /* links and upper lie in a file */
    uint32_t *links; /* [room][m0] layer 0 */
    uint32_t *upper; /* [upper_room][m] layers 1 and up of one slot after the other */
    uint32_t
        *upper_at;  /* [room + 1] where a slot's begin: their number is the next one's begin less its own */
    size_t n_slots; /* that upper_at knows */
    size_t room, upper_room;
    uint32_t entry;    /* where every walk begins, on the highest layer there is; RV_ROWS_NONE: no row */
    hnsw_maker *maker; /* of add and remove */
    uint32_t *dead;    /* [room] slots that links may still lead to: */
    size_t n_dead;     /* these, of which */
    size_t n_swept;    /* so many were dead before the sweep that is going on began */
    size_t cursor;     /* of the sweep */
} hnsw;

/** hnsw_levels - how many layers above 0 a slot reaches. */
static inline size_t hnsw_levels(const hnsw *h, uint32_t slot)
{
    return h->upper_at[slot + 1] - h->upper_at[slot];
}

/** hnsw_list - the links of a slot on a layer it reaches; *most: how many fit. */
static inline uint32_t *hnsw_list(const hnsw *h, uint32_t slot, size_t level, size_t *most)
{
    *most = level ? h->m : h->m0;
    return level ? h->upper + (h->upper_at[slot] + level - 1) * h->m : h->links + slot * h->m0;
}

/** hnsw_ready - scratch fits pools of ef and all rows there is room for. RV_E_NOMEM. */
rv_err hnsw_ready(rv_index *index, hnsw_scratch *s, size_t ef) RV_MUST_CHECK;

/** hnsw_descend - from the entry down to the nearest found on a layer, one step at a time. */
hnsw_near hnsw_descend(const rv_index *index, hnsw_scratch *s, const rv_row_query *query, size_t level);
/** hnsw_walk - fill s->pool with the ef nearest that a walk on one layer finds, nearest first, slots without HNSW_DONE. */
void hnsw_walk(const rv_index *index, hnsw_scratch *s, const rv_row_query *query, hnsw_near from,
               size_t level, size_t ef);
/** hnsw_pool_put - into the sorted pool of at most ef; where, or ef when it is not near enough. */
size_t hnsw_pool_put(hnsw_scratch *s, size_t ef, hnsw_near near);

/** hnsw_maker_new - RV_E_NOMEM as NULL.  hnsw_maker_ready - for all rows there is room for. */
hnsw_maker *hnsw_maker_new(rv_index *index);
void hnsw_maker_free(rv_index *index, hnsw_maker *maker); /* accepts NULL */

/** hnsw_find_entry - unless the entry lives, another one: the first of those on the highest layer. */
void hnsw_find_entry(rv_index *index);

/** hnsw_link - put a placed and filled slot into the graph.  hnsw_build - many.  hnsw_unlink - take dead slots out.
 *  hnsw_sweep - look at n rows for links to dead slots; false: none is left. */
void hnsw_link(rv_index *index, uint32_t slot);
rv_err hnsw_build(rv_index *index, rv_pool *pool, const uint32_t *slots, size_t n,
                  rv_index_progress *progress, void *self) RV_MUST_CHECK;
void hnsw_unlink(rv_index *index, const uint32_t *slots, size_t n);
bool hnsw_sweep(rv_index *index, size_t n);
#endif
