/* Weights in the layout of the kernels, in a file of their own, so that a second start maps them ready-made. The file is
 * a cache: whatever is doubtful about it, it is made again. Its format is in docs/formats/packed.md. */
#ifndef RV_MODEL_PACKED_H
#define RV_MODEL_PACKED_H
#include "base/err.h"
#include "base/pool.h"
#include <stddef.h>
#include <stdint.h>

typedef struct rv_packed {
    uint8_t *map; /* the file; NULL: none */
    size_t map_bytes;
    uint8_t *weights; /* in it, 4096-byte aligned */
    size_t bytes;
    char *temporary; /* its name while it is made */
} rv_packed;

/**
 * rv_packed_check - whether bytes [n] are such a file, for the model with this fingerprint and this many bytes of packed
 * weights; every byte is looked at, on the pool (NULL: here).
 *
 * Errors: RV_E_FORMAT something else, another version or another model's.  RV_E_CORRUPT damaged or cut short.
 * Threads: one at a time for the pool.
 */
rv_err rv_packed_check(const uint8_t *file, size_t n, uint64_t fingerprint, size_t bytes,
                       rv_pool *pool) RV_MUST_CHECK;

/** rv_packed_open - map and check. RV_E_NOT_FOUND: there is none. Otherwise as above; RV_E_IO. out stays empty then. */
rv_err rv_packed_open(const char *path, uint64_t fingerprint, size_t bytes, rv_pool *pool,
                      rv_packed *out) RV_MUST_CHECK;

/**
 * rv_packed_begin - a new file beside path, with its room on the disk taken, to write out->weights [bytes] in.
 * rv_packed_commit - checksums, then the name: from then on it is found, and the weights are read-only. Without it
 * rv_packed_close removes what was begun.
 *
 * Errors: RV_E_IO (also: no room).  RV_E_NOMEM.
 */
rv_err rv_packed_begin(const char *path, size_t bytes, rv_packed *out) RV_MUST_CHECK;
rv_err rv_packed_commit(rv_packed *p, const char *path, uint64_t fingerprint, rv_pool *pool) RV_MUST_CHECK;
void rv_packed_close(rv_packed *p); /* accepts an empty one, and leaves an empty one */
#endif
