/* Sequences on disk. A conversation that is idle, or has to make room, is written to a file and read back when its next
 * request comes; so it survives a restart and costs no memory meanwhile. One file is one sequence: token ids, convolution
 * state, marks, blocks and pages, as they are (docs/formats/session.md). Files are made beside their place, synced and
 * renamed. They only save time: one that is damaged, cut short, or of another model or program is said once, removed,
 * and its tokens are computed again.
 *
 * What is there is known in memory, token ids included, so finding the longest common beginning reads no file.
 *
 * Threads: any thread, locks inside. */
#ifndef RV_KV_SHELF_H
#define RV_KV_SHELF_H
#include "kv/kv.h"

typedef struct rv_shelf rv_shelf;

/* Whose numbers they are: equal keys, equal tokens, equal bits. */
typedef struct rv_shelf_key {
    uint64_t model;   /* fingerprint of its file */
    uint64_t maker;   /* rv_kv_shape_hash and whatever else decides the bits */
    uint64_t adapter; /* 0: none */
    uint64_t tenant;  /* whose conversation it is: nobody else finds it */
} rv_shelf_key;

/**
 * rv_shelf_open - the files of a folder, which is made when it is not there. Traces of a crash are removed.
 *
 * max_bytes  of all files together; the ones that were not used for longest are removed to keep to it
 *
 * Errors:  RV_E_IO, RV_E_NOMEM.  Files that are no good are logged and removed, not an error.
 */
rv_err rv_shelf_open(const rv_alloc *mem, const char *dir, uint64_t max_bytes, rv_shelf **out) RV_MUST_CHECK;
void rv_shelf_close(rv_shelf *shelf); /* accepts NULL */

/* A file that was found. */
typedef struct rv_shelf_find {
    uint64_t id;
    size_t reusable; /* of the tokens asked for: what rv_kv_rewind would leave */
    rv_kv_outline outline;
} rv_shelf_find;

/** rv_shelf_look - the file that saves most of the n tokens; false when none saves any. It counts as used. */
bool rv_shelf_look(rv_shelf *shelf, const rv_shelf_key *key, const int32_t *ids, size_t n,
                   rv_shelf_find *out);

/**
 * rv_shelf_read - fill the parts of a sequence that was rebuilt for the outline found, and check all of it.
 *
 * ids  [outline.n_tokens] out: the tokens of the sequence
 *
 * Errors:  RV_E_CORRUPT the file was no good, or gone, and has been removed.  RV_E_IO too many open files, RV_E_NOMEM: it stays. The
 *          log says why; what is in the parts then means nothing.
 */
rv_err rv_shelf_read(rv_shelf *shelf, const rv_shelf_key *key, const rv_shelf_find *found,
                     const rv_kv_seq *seq, int32_t *ids) RV_MUST_CHECK;

/**
 * rv_shelf_write - put a sequence on the shelf, in place of those that are its beginning.
 *
 * outline  of the sequence, which does not change meanwhile
 * ids      [outline.n_tokens]
 *
 * Errors:  RV_E_IO, RV_E_NOMEM: others may have made room for it.  RV_E_TOO_LARGE it alone is more than max_bytes.
 */
rv_err rv_shelf_write(rv_shelf *shelf, const rv_shelf_key *key, const rv_kv_outline *outline,
                      const int32_t *ids, const rv_kv_seq *seq) RV_MUST_CHECK;

/** rv_shelf_clear - all files go; *files: how many there were. RV_E_IO one that cannot be removed. */
rv_err rv_shelf_clear(rv_shelf *shelf, size_t *files) RV_MUST_CHECK;

typedef struct rv_shelf_stats {
    size_t files;
    uint64_t bytes;
} rv_shelf_stats;
rv_shelf_stats rv_shelf_get_stats(rv_shelf *shelf);
#endif
