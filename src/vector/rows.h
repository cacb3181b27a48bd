/* The rows every kind of index stands on: slots numbered from 0, as arrays side by side. Hot, read by every search: int8 codes
 * of the rotated vector with a scale and a norm. Cold: ids, which slots live, and the vectors themselves, borrowed or kept.
 * The arrays are ours or lie in a mapped file, from which rv_rows_reserve copies them before the first change.
 *
 * A code stands for scale * (code - 128). The scale is the largest coordinate / 127: nothing is clipped, and the rotation
 * keeps that coordinate near 3 deviations. norm is the squared length of what the code stands for and not of the vector:
 * with it the error of a squared distance shrinks with the distance itself.
 *
 * A slot is free, live, or dead: removed, but something may still lead to it, so it is not given out again until
 * rv_rows_recycle. */
#ifndef RV_VECTOR_ROWS_H
#define RV_VECTOR_ROWS_H
#include "kernels/kernels.h"
#include "vector/index.h"
#include "vector/pages.h"
#include "vector/rotate.h"

#define RV_ROWS_NONE  UINT32_MAX
#define RV_ROWS_ALIGN 64

typedef struct rv_row_scale {
    float scale, norm;
} rv_row_scale;

typedef struct rv_rows {
    const rv_alloc *mem;
    const rv_kernels *kernels;
    rv_rotation *rotation; /* NULL: rows without codes */
    size_t dim, stride;    /* bytes of a code: dim rounded up to RV_ROWS_ALIGN, what is beyond dim is 128 */
    rv_index_metric metric;
    rv_keep keep;
    bool mapped;     /* the arrays lie in a file; reserve makes them ours */
    rv_pages *pages; /* of that file; NULL when nothing of the index is mapped */

    size_t n, room; /* slots used so far (live or not), and for how many there is memory */
    size_t n_live, n_free;
    uint8_t *codes;       /* [room][stride] */
    rv_row_scale *scales; /* [room] */
    int64_t *ids;         /* [room] */
    uint64_t *live;       /* [room / 64] bits */
    void *kept;           /* [room][dim] float or bfloat16; NULL when borrowed */
    const float **lent;   /* [room] borrowed rows; NULL when kept */
    uint32_t *free;       /* [room] slots to give out */
    uint32_t *map;        /* [map_size] slot + 1 at a place that follows from the id, 0: empty */
    size_t map_size;      /* power of two, at least 2 room */
} rv_rows;

/** rv_rows_init - coded: with int8 codes, once rv_rows_rotate has said how they turn: by a matrix (haar, borrowed) or as made
 * from the seed. RV_E_NOMEM.  deinit accepts what init left, and zeros. */
void rv_rows_init(rv_rows *rows, const rv_alloc *mem, const rv_index_config *config, bool coded);
rv_err rv_rows_rotate(rv_rows *rows, rv_rotation_kind kind, uint64_t seed, const float *matrix) RV_MUST_CHECK;
void rv_rows_deinit(rv_rows *rows);

/** rv_rows_reserve - makes the arrays ours and room for n more. RV_E_NOMEM, RV_E_FULL: as before. */
rv_err rv_rows_reserve(rv_rows *rows, size_t n) RV_MUST_CHECK;
/** rv_rows_place - a slot for a new id, live from now on. Room was reserved.  rv_rows_fill - its vector: codes and copy.
 *  Threads: fills of different slots together. */
uint32_t rv_rows_place(rv_rows *rows, int64_t id);
void rv_rows_fill(rv_rows *rows, uint32_t slot, const float *row, float *scratch); /* scratch [dim] */
/** rv_rows_drop - a live slot becomes dead.  rv_rows_recycle - a dead slot becomes free. */
void rv_rows_drop(rv_rows *rows, uint32_t slot);
void rv_rows_recycle(rv_rows *rows, uint32_t slot);

/** rv_rows_find - the live slot of an id, or RV_ROWS_NONE. */
uint32_t rv_rows_find(const rv_rows *rows, int64_t id);
static inline bool rv_rows_live(const rv_rows *rows, uint32_t slot)
{
    return rows->live[slot / 64] >> slot % 64 & 1;
}
/** rv_rows_get - the vector itself [dim]; scratch [dim] is used for kept bfloat16. Live slots only.
 *  rv_rows_fetch - ask for its memory ahead of that. */
const float *rv_rows_get(const rv_rows *rows, uint32_t slot, float *scratch);
void rv_rows_fetch(const rv_rows *rows, uint32_t slot);
/** rv_rows_score - exactly, larger is nearer; never NaN. */
float rv_rows_score(const rv_rows *rows, const float *query, uint32_t slot, float *scratch);

/* ---- by codes: base + weight * norm + pull * scale * dot; smaller is nearer ---- */

typedef struct rv_row_query {
    const int8_t *code; /* [stride], zero beyond dim */
    float pull;         /* -2 * scale of the query, or -scale for an inner product */
    float weight;       /* of a row's norm: 1, or 0 for an inner product */
    float base;         /* the query's own norm, or 0: squared distances, or minus inner products */
    rv_row_scale own;   /* of its code */
} rv_row_query;

/** rv_rows_ask - a query, its code [stride] and rotated [dim] written.  rv_rows_ask_slot - the row of a slot as a query. */
rv_row_query rv_rows_ask(const rv_rows *rows, const float *query, float *rotated, int8_t *code);
rv_row_query rv_rows_ask_slot(const rv_rows *rows, uint32_t slot, int8_t *code);
/** rv_rows_distances - to n slots; sums [n] is scratch. */
void rv_rows_distances(const rv_rows *rows, const rv_row_query *query, const uint32_t *slots, size_t n,
                       int32_t *sums, float *out);
/** rv_rows_copy - codes [n][stride], 64-byte aligned, and scales of n slots.  rv_rows_distances_of - the same distances to such a copy. */
void rv_rows_copy(const rv_rows *rows, const uint32_t *slots, size_t n, uint8_t *codes, rv_row_scale *scales);
void rv_rows_distances_of(const rv_rows *rows, const rv_row_query *query, const uint8_t *codes,
                          const rv_row_scale *scales, size_t n, int32_t *sums, float *out);
/** rv_rows_deviation - how wrong a distance by codes is: of one to a slot, in the mean. */
float rv_rows_deviation(const rv_rows *rows, const rv_row_query *query, uint32_t slot, float distance);
static inline void rv_rows_fetch_code(const rv_rows *rows, uint32_t slot)
{
    const uint8_t *code = rows->codes + slot * rows->stride;
    for (size_t i = 0; i < rows->stride; i += 64) {
        __builtin_prefetch(code + i);
    }
    __builtin_prefetch(&rows->scales[slot]);
}

/** rv_rows_check - ids, map, free list and codes obey the above. RV_E_CORRUPT. */
rv_err rv_rows_check(const rv_rows *rows) RV_MUST_CHECK;

/** rv_big_grow - a new block of bytes whose first used come from old, which is freed unless it is mapped. 64-byte
 * aligned; in huge pages where it is large. NULL: old is as before. What is beyond used is undefined. */
void *rv_big_grow(const rv_alloc *mem, void *old, bool mapped, size_t used, size_t bytes);
#endif
