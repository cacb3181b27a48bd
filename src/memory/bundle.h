/* A bundle: a collection of the memory as files in a folder, with a witness over what they are and every byte in them. A store is
 * exported to one and restored from one without loss, and others search in it as it is. Format: docs/formats/bundle.md. */
#ifndef RV_MEMORY_BUNDLE_H
#define RV_MEMORY_BUNDLE_H
#include "base/arena.h"
#include "base/file.h"
#include "memory/memory.h"

#define RV_BUNDLE_FILE       "table.rulake.json"
#define RV_BUNDLE_JSON_BYTES 65536
#define RV_BUNDLE_TEXT_BYTES 4096 /* of a text field */
#define RV_BUNDLE_HEX        64

typedef enum rv_bundle_part {
    RV_BUNDLE_NODES,
    RV_BUNDLE_VECTORS,
    RV_BUNDLE_EDGES,
    RV_BUNDLE_PARTS
} rv_bundle_part;

/* What the witness is over, beside the bytes. */
typedef struct rv_bundle_head {
    const char *data_ref; /* what the collection is called */
    const char *space;    /* the embedder: only vectors of one space can be compared */
    const char *pii_policy, *lineage_id, *memory_class; /* of the publisher; "": none; not in the witness */
    size_t dim;
    uint64_t generation; /* higher each time it is published into the same folder */
    uint64_t n_nodes, n_vectors, n_edges;
    int64_t next_id; /* the store's next node */
    int64_t created_ms;
} rv_bundle_head;

typedef struct rv_bundle {
    rv_bundle_head head;
    char witness[RV_BUNDLE_HEX + 1], content_hash[RV_BUNDLE_HEX + 1];
    rv_map parts[RV_BUNDLE_PARTS];
    rv_arena *arena; /* of the texts above */
} rv_bundle;

/**
 * rv_bundle_open - reads, maps and verifies a folder: the witness is that of the fields, and every byte is the one it was published
 * with.
 *
 * Errors:  RV_E_NOT_FOUND no bundle there.  RV_E_FORMAT RV_E_UNSUPPORTED a field (its name, what was found, what is allowed), or a
 *          newer format.  RV_E_CORRUPT witness or bytes do not fit.  RV_E_IO a file is missing, or a link.  RV_E_NOMEM.
 * Threads: an open bundle is immutable, any thread.
 */
rv_err rv_bundle_open(const rv_alloc *mem, const char *dir, rv_bundle *out) RV_MUST_CHECK;
/** rv_bundle_witness - only what the folder says now: reads no more than the head. The same errors. */
rv_err rv_bundle_witness(const rv_alloc *mem, const char *dir, char out[RV_BUNDLE_HEX + 1]) RV_MUST_CHECK;
void rv_bundle_close(rv_bundle *b); /* accepts one that is zero */

/** rv_bundle_vector - row i of the vectors, dim floats; i < n_vectors. 4-byte aligned. */
const float *rv_bundle_vector(const rv_bundle *b, size_t i);

/**
 * rv_bundle_read_node, rv_bundle_read_edge - the line at *at, which moves on; texts live in arena. *more false: no more.
 * Errors:  RV_E_FORMAT line and field.
 */
typedef struct rv_bundle_node {
    rv_memory_node node; /* score, corrected_by are 0 */
    const char *path;    /* of an imported file, else NULL */
    unsigned char digest[32];
    bool pinned;
    int64_t expires_ms, used, used_ms;
    int64_t vector; /* row, -1: none */
} rv_bundle_node;
typedef struct rv_bundle_edge {
    int64_t from, to, created_ms;
    const char *type;
    double weight;
} rv_bundle_edge;
rv_err rv_bundle_read_node(const rv_bundle *b, size_t *at, rv_arena *arena, rv_bundle_node *out,
                           bool *more) RV_MUST_CHECK;
rv_err rv_bundle_read_edge(const rv_bundle *b, size_t *at, rv_arena *arena, rv_bundle_edge *out,
                           bool *more) RV_MUST_CHECK;

/* ---- writing: all parts, then the head, which is what makes them a bundle ---- */

typedef struct rv_bundle_writer rv_bundle_writer;
rv_err rv_bundle_create(const rv_alloc *mem, const char *dir, rv_bundle_writer **out) RV_MUST_CHECK;
rv_err rv_bundle_write(rv_bundle_writer *w, rv_bundle_part part, const void *bytes, size_t n) RV_MUST_CHECK;
/** rv_bundle_publish - everything synced, then the head put in place of the one before, in one step: a reader sees the old bundle or
 * the new one. generation is set here. The files of the old one go. */
rv_err rv_bundle_publish(rv_bundle_writer *w, rv_bundle_head *head,
                         char witness[RV_BUNDLE_HEX + 1]) RV_MUST_CHECK;
void rv_bundle_writer_free(rv_bundle_writer *w); /* accepts NULL; what was not published goes */
#endif
