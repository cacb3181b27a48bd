/* Append-only files of float32 vectors, mapped for reading. A row is written and synced before the transaction that names
 * it commits; what no transaction names is ignored and may be written over after the next start. Format:
 * docs/formats/segment.md. */
#ifndef RV_STORE_SEGMENT_H
#define RV_STORE_SEGMENT_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_SEGMENT_DIM_MAX      8192
#define RV_SEGMENT_EMBEDDER_MAX 63 /* bytes of the name */

typedef struct rv_segments rv_segments;

typedef struct rv_segment_config {
    const char *dir;      /* made when missing */
    uint64_t store;       /* random number of the database that names the rows */
    const char *embedder; /* what makes the vectors; 1 .. RV_SEGMENT_EMBEDDER_MAX bytes */
    size_t dim;           /* 1 .. RV_SEGMENT_DIM_MAX */
    size_t max_bytes;     /* of a file, before the next one is begun; 0: 64 MiB */
} rv_segment_config;

typedef struct rv_segment_row {
    uint32_t segment, row; /* file number from 1; row from 0 */
} rv_segment_row;

/**
 * rv_segments_open - the segment files of a folder. A file whose header is damaged is an error only when a row of it is
 * asked for: it may be the trace of a power loss that nobody names.
 *
 * Errors:  RV_E_CORRUPT a file belongs to another store.  RV_E_IO, RV_E_NOMEM.
 * Threads: one thread at a time; rows that were got are read by any thread, also during an append.
 */
rv_err rv_segments_open(const rv_alloc *mem, const rv_segment_config *config,
                        rv_segments **out) RV_MUST_CHECK;
void rv_segments_close(rv_segments *segments); /* accepts NULL; rows that were got end here */

/**
 * rv_segments_get - a stored row [dim], 64-byte aligned, valid until close; its checksum is computed at each call. Rows
 * that are named have to be got (once) before the first append, because append continues after the highest.
 *
 * id       the number that the row was stored with
 * Errors:  RV_E_NOT_FOUND the file is gone.  RV_E_CORRUPT the row or its file is damaged, with file and offset.
 */
rv_err rv_segments_get(rv_segments *segments, rv_segment_row row, int64_t id,
                       const float **out) RV_MUST_CHECK;

/** rv_segments_row_sum - the checksum that is stored with a row that was got [dim]; it ties vector, id and place together. */
uint64_t rv_segments_row_sum(const float *row, size_t dim);

/**
 * rv_segments_append - n vectors, on their way to the disk; there when rv_segments_sync has returned.
 *
 * vectors  [n][dim]
 * rows     out [n]
 * Errors:  RV_E_NO_SPACE the disk is full.  RV_E_IO; when a sync failed all later appends fail too, see rv_segments_failed.
 *          Rows of a failed append stay unnamed.
 */
rv_err rv_segments_append(rv_segments *segments, const int64_t *ids, const float *vectors, size_t n,
                          rv_segment_row *rows) RV_MUST_CHECK;
/** rv_segments_sync - what was appended is on the disk when it returns. RV_E_IO. */
rv_err rv_segments_sync(rv_segments *segments) RV_MUST_CHECK;
/** rv_segments_failed - a sync failed: what the disk holds is unknown until the next start. */
bool rv_segments_failed(const rv_segments *segments);

/**
 * rv_segments_scrub - every row that is not named becomes zeros, on the disk when it returns.
 *
 * named   [n] ascending by segment, then row: those that stay
 * erased  out, rows that were not zero before
 * Errors: RV_E_IO, after a failed sync like rv_segments_append; a file whose header is damaged is left alone.
 */
rv_err rv_segments_scrub(rv_segments *segments, const rv_segment_row *named, size_t n,
                         size_t *erased) RV_MUST_CHECK;

/**
 * Files that have become sparse are written anew by whoever names their rows: leave, append each row that is named in a file that
 * is left, name it there instead, and shed.
 *
 * rv_segments_leave   - nothing is appended any more to files of which nobody names a quarter of the rows; how many rows are named there.
 * rv_segments_is_left - is it one of those?
 * rv_segments_shed    - syncs, removes all files but the last of which no row is named, and cuts off what the last one has behind its
 *                       rows. What was got of them stays readable until close. RV_E_IO; it may be called again.
 * named   [n] ascending by segment, then row; nothing was appended that is not named
 * removed out, files
 */
size_t rv_segments_leave(rv_segments *segments, const rv_segment_row *named, size_t n);
bool rv_segments_is_left(const rv_segments *segments, uint32_t number);
rv_err rv_segments_shed(rv_segments *segments, const rv_segment_row *named, size_t n,
                        size_t *removed) RV_MUST_CHECK;

/** rv_segments_wipe - remove all segment files of a folder that nobody has open; a folder that is not there is fine. RV_E_IO. */
rv_err rv_segments_wipe(const rv_alloc *mem, const char *dir) RV_MUST_CHECK;

/** rv_segments_size - rows written (dead ones too) and bytes of all files. */
void rv_segments_size(const rv_segments *segments, uint64_t *rows, uint64_t *bytes);
#endif
