/* GGUF container, versions 2 and 3, mapped read-only. Opening checks everything the container itself promises (lengths,
 * types, counts, names, offsets, alignment); what the values mean is checked by the reader of the architecture.
 * Format: docs/formats/gguf.md. */
#ifndef RV_MODEL_GGUF_H
#define RV_MODEL_GGUF_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"
#include "kernels/blocks.h"

typedef struct rv_gguf rv_gguf;

typedef enum rv_gguf_type {
    RV_GGUF_U8, RV_GGUF_I8, RV_GGUF_U16, RV_GGUF_I16, RV_GGUF_U32, RV_GGUF_I32, RV_GGUF_F32, RV_GGUF_BOOL,
    RV_GGUF_STRING, RV_GGUF_ARRAY, RV_GGUF_U64, RV_GGUF_I64, RV_GGUF_F64, RV_GGUF_TYPES
} rv_gguf_type;

typedef struct rv_gguf_value {
    rv_str key;
    rv_gguf_type type, element; /* element: of an array */
    uint64_t count;             /* of an array, else 1 */
    const uint8_t *at;          /* first byte of the value (strings and arrays: of their content) */
    size_t bytes;
} rv_gguf_value;

typedef struct rv_gguf_tensor {
    rv_str name;
    rv_type type;
    uint32_t n_dims;
    uint64_t dim[4];   /* dim[0] contiguous; unused ones are 1 */
    const uint8_t *at; /* in the mapped file; NULL in a metadata-only file */
    size_t bytes;
} rv_gguf_tensor;

rv_err rv_gguf_open(const rv_alloc *mem, const char *path, rv_gguf **out) RV_MUST_CHECK;
/** rv_gguf_open_bytes - the same over bytes of the caller that outlive it (tests, fuzzers). name is for messages. */
rv_err rv_gguf_open_bytes(const rv_alloc *mem, const char *name, const void *bytes, size_t n, rv_gguf **out) RV_MUST_CHECK;
void rv_gguf_close(rv_gguf *g); /* accepts NULL; everything borrowed from it dies */

const char *rv_gguf_path(const rv_gguf *g);
size_t rv_gguf_file_bytes(const rv_gguf *g);
/** rv_gguf_fingerprint - hash over the header and a sample of each tensor: equal files give equal numbers. */
uint64_t rv_gguf_fingerprint(const rv_gguf *g);
uint32_t rv_gguf_version(const rv_gguf *g);
size_t rv_gguf_value_count(const rv_gguf *g);
const rv_gguf_value *rv_gguf_value_at(const rv_gguf *g, size_t i);
const rv_gguf_value *rv_gguf_find(const rv_gguf *g, const char *key);
size_t rv_gguf_tensor_count(const rv_gguf *g);
const rv_gguf_tensor *rv_gguf_tensor_at(const rv_gguf *g, size_t i);
const rv_gguf_tensor *rv_gguf_tensor_find(const rv_gguf *g, const char *name);
/** rv_gguf_tensor_release - tell the kernel that these mapped bytes will not be read soon (after packing). */
void rv_gguf_tensor_release(const rv_gguf *g, const rv_gguf_tensor *t);

/* Typed reads. Present with a wrong type or out of [low, high]: RV_E_FORMAT naming file, key, found, expected. Absent:
 * *found false, *out untouched; with found NULL absence is an error too. Any integer type is accepted for integers. */
rv_err rv_gguf_get_u64(const rv_gguf *g, const char *key, uint64_t low, uint64_t high, uint64_t *out, bool *found) RV_MUST_CHECK;
rv_err rv_gguf_get_f32(const rv_gguf *g, const char *key, float *out, bool *found) RV_MUST_CHECK; /* finite */
rv_err rv_gguf_get_bool(const rv_gguf *g, const char *key, bool *out, bool *found) RV_MUST_CHECK;
rv_err rv_gguf_get_string(const rv_gguf *g, const char *key, rv_str *out, bool *found) RV_MUST_CHECK;
/** rv_gguf_array_u64 - element i of an integer array value. rv_gguf_array_next - walk a string array: *at starts at NULL. */
uint64_t rv_gguf_array_u64(const rv_gguf_value *v, uint64_t i);
bool rv_gguf_array_next(const rv_gguf_value *v, const uint8_t **at, rv_str *out);
#endif
