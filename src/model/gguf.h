/* GGUF container, versions 2 and 3, mapped read-only. Opening checks everything the container itself promises (lengths,
 * types, counts, names, offsets, alignment); what the values mean is checked by the reader of the architecture.
 * Format: docs/formats/gguf.md. */
#ifndef RV_MODEL_GGUF_H
#define RV_MODEL_GGUF_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"
#include "kernels/blocks.h"

/* Real files have some fifty keys and a few hundred tensors; the limits bound what a hostile one makes us allocate. */
#define RV_GGUF_MAX_VALUES  65536
#define RV_GGUF_MAX_TENSORS 65536

typedef struct rv_gguf rv_gguf;

typedef enum rv_gguf_type {
    RV_GGUF_U8,
    RV_GGUF_I8,
    RV_GGUF_U16,
    RV_GGUF_I16,
    RV_GGUF_U32,
    RV_GGUF_I32,
    RV_GGUF_F32,
    RV_GGUF_BOOL,
    RV_GGUF_STRING,
    RV_GGUF_ARRAY,
    RV_GGUF_U64,
    RV_GGUF_I64,
    RV_GGUF_F64,
    RV_GGUF_TYPES
} rv_gguf_type;

typedef struct rv_gguf_value {
    rv_str key;
    rv_gguf_type type, element; /* element: of an array, else the type itself */
    uint64_t count;             /* of an array, else 1 */
    const uint8_t *at; /* first byte of the value (strings and arrays: of their content); any alignment */
    size_t bytes;
} rv_gguf_value;

typedef struct rv_gguf_tensor {
    rv_str name;
    rv_type type;
    uint32_t n_dims;
    uint64_t dim[4];   /* dim[0] contiguous; unused ones are 1 */
    const uint8_t *at; /* in the mapped file, at a multiple of 8 */
    size_t bytes;
} rv_gguf_tensor;

/**
 * rv_gguf_open - map a model file and check its container. A file of keys alone, without tensors, is fine.
 *
 * mem  keeps the tables (at most about 12 MiB); the content stays in the mapping
 * out  the caller's, rv_gguf_close
 *
 * Errors:  RV_E_NOT_FOUND, RV_E_IO no such file, or not readable.  RV_E_FORMAT names file, key or tensor, what was
 *          found and what was expected.  RV_E_NOMEM.
 * Threads: the result is immutable, any thread.
 */
rv_err rv_gguf_open(const rv_alloc *mem, const char *path, rv_gguf **out) RV_MUST_CHECK;

/**
 * rv_gguf_open_bytes - the same over bytes of the caller that outlive the result (tests, fuzzers).
 *
 * name   stands where messages would have the path; copied
 * bytes  [n], address a multiple of 8
 */
rv_err rv_gguf_open_bytes(const rv_alloc *mem, const char *name, const void *bytes, size_t n,
                          rv_gguf **out) RV_MUST_CHECK;
void rv_gguf_close(rv_gguf *g); /* accepts NULL; everything borrowed from it dies */

const char *rv_gguf_path(const rv_gguf *g);
size_t rv_gguf_file_bytes(const rv_gguf *g);
uint32_t rv_gguf_version(const rv_gguf *g);
/** rv_gguf_fingerprint - hash over the size, the header and a sample of each tensor: equal files give equal numbers,
 * on every machine. Reads a few pages of each tensor. */
uint64_t rv_gguf_fingerprint(const rv_gguf *g);

/* Keys and tensors in file order; find is by hash. Borrowed until close. */
size_t rv_gguf_value_count(const rv_gguf *g);
const rv_gguf_value *rv_gguf_value_at(const rv_gguf *g, size_t i);    /* i < count */
const rv_gguf_value *rv_gguf_find(const rv_gguf *g, const char *key); /* NULL: absent */
size_t rv_gguf_tensor_count(const rv_gguf *g);
const rv_gguf_tensor *rv_gguf_tensor_at(const rv_gguf *g, size_t i);           /* i < count */
const rv_gguf_tensor *rv_gguf_tensor_find(const rv_gguf *g, const char *name); /* NULL: absent */
/** rv_gguf_tensor_release - tell the kernel that these mapped bytes will not be read soon (after packing). */
void rv_gguf_tensor_release(const rv_gguf *g, const rv_gguf_tensor *t);

/* Typed reads. Present with a wrong type or out of [low, high]: RV_E_FORMAT naming file, key, found, expected. Absent:
 * *found false, *out untouched; with found NULL absence is an error too. Any integer type is accepted for integers, any
 * number for floats. */
rv_err rv_gguf_get_u64(const rv_gguf *g, const char *key, uint64_t low, uint64_t high, uint64_t *out,
                       bool *found) RV_MUST_CHECK;
rv_err rv_gguf_get_f32(const rv_gguf *g, const char *key, float *out, bool *found) RV_MUST_CHECK; /* finite */
rv_err rv_gguf_get_bool(const rv_gguf *g, const char *key, bool *out, bool *found) RV_MUST_CHECK;
rv_err rv_gguf_get_string(const rv_gguf *g, const char *key, rv_str *out,
                          bool *found) RV_MUST_CHECK; /* UTF-8 */
/** rv_gguf_get_array - the value itself when it is an array of strings (element RV_GGUF_STRING) or of any integer
 * type (element RV_GGUF_U64). */
rv_err rv_gguf_get_array(const rv_gguf *g, const char *key, rv_gguf_type element, const rv_gguf_value **out,
                         bool *found) RV_MUST_CHECK;

/** rv_gguf_array_u64 - element i < count of an integer array; negative ones come sign-extended. */
uint64_t rv_gguf_array_u64(const rv_gguf_value *v, uint64_t i);
/** rv_gguf_array_next - walk a string array: *at starts as NULL; false after the last. */
bool rv_gguf_array_next(const rv_gguf_value *v, const uint8_t **at, rv_str *out);
#endif
