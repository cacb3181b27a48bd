/* Everything after the magic is a hostile stranger's word until checked. One cursor walks the header; each length is
 * compared with the bytes that remain before it is used, and nothing is allocated from a count that the remaining
 * bytes could not hold. Strings and arrays stay in the mapping: the tables hold only where they are. */
#include "model/gguf.h"
#include "model/gguf_priv.h"

#include "base/file.h"
#include "base/rng.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "file bytes are read as they lie");

#define MAX_KEY_BYTES       65535
#define MAX_NAME_BYTES      63
#define MIN_VALUE_BYTES     (8 + 1 + 4 + 1)         /* key of one byte, type, value of one byte */
#define MIN_TENSOR_BYTES    (8 + 1 + 4 + 8 + 4 + 8) /* name of one byte, one dimension */
#define DEFAULT_ALIGNMENT   32
#define MAX_ALIGNMENT       65536
#define FINGERPRINT_SAMPLES 8
#define FINGERPRINT_BYTES   64

/* Entries are rows of a table whose first member is their rv_str name; slots hold row + 1, 0 is free. */
typedef struct name_index {
    const char *rows;
    size_t stride, mask;
    uint64_t seed;
    uint32_t *slots;
} name_index;

struct rv_gguf {
    const rv_alloc *mem;
    char *path;
    rv_map map;
    bool is_mapped; /* else the bytes are the caller's */
    uint32_t version;
    size_t data_at, alignment; /* data_at: where the data section starts; the header ends before it */
    rv_gguf_value *values;
    rv_gguf_tensor *tensors;
    size_t n_values, n_tensors;
    name_index value_index, tensor_index;
};

static const struct {
    const char *name;
    uint8_t bytes; /* 0: variable */
} types[RV_GGUF_TYPES] = {
    [RV_GGUF_U8] = { "u8", 1 },       [RV_GGUF_I8] = { "i8", 1 },     [RV_GGUF_U16] = { "u16", 2 },
    [RV_GGUF_I16] = { "i16", 2 },     [RV_GGUF_U32] = { "u32", 4 },   [RV_GGUF_I32] = { "i32", 4 },
    [RV_GGUF_F32] = { "f32", 4 },     [RV_GGUF_BOOL] = { "bool", 1 }, [RV_GGUF_STRING] = { "string", 0 },
    [RV_GGUF_ARRAY] = { "array", 0 }, [RV_GGUF_U64] = { "u64", 8 },   [RV_GGUF_I64] = { "i64", 8 },
    [RV_GGUF_F64] = { "f64", 8 },
};

static bool is_integer(rv_gguf_type type)
{
    return type <= RV_GGUF_I32 || type == RV_GGUF_U64 || type == RV_GGUF_I64;
}

/* ---- names ---- */

static rv_str row_name(const name_index *index, size_t row)
{
    rv_str name;
    memcpy(&name, index->rows + row * index->stride, sizeof name);
    return name;
}

static rv_err index_init(const rv_alloc *mem, name_index *index, const void *rows, size_t stride, size_t n)
{
    size_t room = 16;
    while (room < 2 * n) {
        room *= 2;
    }
    index->rows = rows;
    index->stride = stride;
    index->mask = room - 1;
    /* Names come from a stranger: without a seed of its own a file could bring thousands that collide. */
    RV_TRY(rv_random_bytes(&index->seed, sizeof index->seed));
    index->slots = rv_new_array(mem, room, sizeof *index->slots);
    return index->slots ? RV_OK : rv_fail(RV_E_NOMEM, "an index of %zu names", n);
}

/* The slot that holds name, or the free one where it belongs. */
static uint32_t *index_slot(const name_index *index, rv_str name)
{
    size_t at = rv_hash64(name.at, name.n, index->seed) & index->mask;
    while (index->slots[at]) {
        rv_str have = row_name(index, index->slots[at] - 1);
        if (have.n == name.n && memcmp(have.at, name.at, name.n) == 0) {
            break;
        }
        at = (at + 1) & index->mask;
    }
    return &index->slots[at];
}

/* ---- the cursor ---- */

typedef struct cursor {
    const rv_gguf *g;
    const uint8_t *at;
    size_t left;
    const char *kind; /* what is being read: "key", "tensor" */
    size_t number;
    rv_str name; /* empty until known */
} cursor;

static rv_err RV_PRINTF(2, 3) complain(const cursor *c, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (!c->kind) {
        return rv_fail(RV_E_FORMAT, "%s: %s", c->g->path, what);
    }
    if (!c->name.n) {
        return rv_fail(RV_E_FORMAT, "%s: %s %zu: %s", c->g->path, c->kind, c->number, what);
    }
    return rv_fail(RV_E_FORMAT, "%s: %s %zu, %.*s: %s", c->g->path, c->kind, c->number, RV_SHOWN(c->name),
                   what);
}

static rv_err take(cursor *c, uint64_t n, const char *what, const uint8_t **at)
{
    if (n > c->left) {
        return complain(c, "the file is truncated in the %s: %llu bytes needed, %zu remain", what,
                        (unsigned long long)n, c->left);
    }
    *at = c->at;
    c->at += n;
    c->left -= n;
    return RV_OK;
}

static rv_err take_u32(cursor *c, const char *what, uint32_t *out)
{
    const uint8_t *at = NULL;
    RV_TRY(take(c, sizeof *out, what, &at));
    memcpy(out, at, sizeof *out);
    return RV_OK;
}

static rv_err take_u64(cursor *c, const char *what, uint64_t *out)
{
    const uint8_t *at = NULL;
    RV_TRY(take(c, sizeof *out, what, &at));
    memcpy(out, at, sizeof *out);
    return RV_OK;
}

static rv_err take_string(cursor *c, const char *what, rv_str *out)
{
    uint64_t n;
    const uint8_t *at = NULL;
    RV_TRY(take_u64(c, what, &n));
    RV_TRY(take(c, n, what, &at));
    *out = rv_str_of((const char *)at, (size_t)n);
    return RV_OK;
}

/* Keys and tensor names: not empty, of bounded length, printable UTF-8. */
static rv_err take_name(cursor *c, size_t max, rv_str *out)
{
    uint64_t n;
    const uint8_t *at = NULL;
    c->name = rv_str_of(NULL, 0);
    RV_TRY(take_u64(c, "name's length", &n));
    if (n == 0) {
        return complain(c, "its name is empty");
    }
    if (n > max) {
        return complain(c, "its name has %llu bytes, which is too long: at most %zu are allowed",
                        (unsigned long long)n, max);
    }
    RV_TRY(take(c, n, "name", &at));
    for (size_t i = 0; i < n; i++) {
        if (at[i] < 0x20 || at[i] == 0x7f) {
            return complain(c, "its name holds the control byte 0x%02x at %zu", at[i], i);
        }
    }
    if (!rv_utf8_valid((const char *)at, (size_t)n)) {
        return complain(c, "its name is not valid UTF-8");
    }
    *out = c->name = rv_str_of((const char *)at, (size_t)n);
    return RV_OK;
}

/* ---- keys ---- */

static rv_err take_array(cursor *c, rv_gguf_value *v)
{
    uint32_t element;
    RV_TRY(take_u32(c, "array's element type", &element));
    RV_TRY(take_u64(c, "array's count", &v->count));
    if (element == RV_GGUF_ARRAY) {
        return complain(c, "an array of arrays: nested arrays are not supported");
    }
    if (element >= RV_GGUF_TYPES) {
        return complain(c, "an array of elements of type %u, which does not exist", element);
    }
    v->element = (rv_gguf_type)element;
    size_t least = element == RV_GGUF_STRING ? 8 : types[element].bytes;
    if (v->count > c->left / least) {
        return complain(c, "an array of %llu %s elements is too large: %zu bytes remain in the file",
                        (unsigned long long)v->count, types[element].name, c->left);
    }
    v->at = c->at;
    if (element != RV_GGUF_STRING) {
        return take(c, v->count * least, "array", &v->at);
    }
    for (uint64_t i = 0; i < v->count; i++) {
        rv_str s;
        RV_TRY(take_string(c, "array of strings", &s));
    }
    return RV_OK;
}

static rv_err take_value(cursor *c, rv_gguf_value *v)
{
    uint32_t type;
    RV_TRY(take_name(c, MAX_KEY_BYTES, &v->key));
    RV_TRY(take_u32(c, "value's type", &type));
    if (type >= RV_GGUF_TYPES) {
        return complain(c, "a value of type %u, which does not exist", type);
    }
    v->type = v->element = (rv_gguf_type)type;
    v->count = 1;
    if (type == RV_GGUF_ARRAY) {
        RV_TRY(take_array(c, v));
    } else if (type == RV_GGUF_STRING) {
        rv_str s;
        RV_TRY(take_string(c, "string", &s));
        v->at = (const uint8_t *)s.at;
    } else {
        RV_TRY(take(c, types[type].bytes, "value", &v->at));
    }
    v->bytes = (size_t)(c->at - v->at);
    return RV_OK;
}

static rv_err read_values(rv_gguf *g, cursor *c, uint64_t n)
{
    if (n > RV_GGUF_MAX_VALUES || n > c->left / MIN_VALUE_BYTES) {
        return complain(c, "a count of %llu keys is too large: %zu bytes remain, and the limit is %d",
                        (unsigned long long)n, c->left, RV_GGUF_MAX_VALUES);
    }
    g->values = rv_new_array(g->mem, n ? (size_t)n : 1, sizeof *g->values);
    if (!g->values) {
        return rv_fail(RV_E_NOMEM, "%s: %llu keys", g->path, (unsigned long long)n);
    }
    RV_TRY(index_init(g->mem, &g->value_index, g->values, sizeof *g->values, (size_t)n));
    c->kind = "key";
    for (size_t i = 0; i < n; i++) {
        c->number = i;
        RV_TRY(take_value(c, &g->values[i]));
        uint32_t *slot = index_slot(&g->value_index, g->values[i].key);
        if (*slot) {
            return complain(c, "duplicate: key %u has the same name", *slot - 1);
        }
        *slot = (uint32_t)i + 1;
        g->n_values++;
    }
    c->kind = NULL;
    return RV_OK;
}

/* ---- tensors ---- */

/* Bytes of the tensor from its shape and type; every product is checked. */
static rv_err measure_tensor(const cursor *c, rv_gguf_tensor *t)
{
    const rv_type_info *info = rv_type_get(t->type);
    uint64_t elements = 1, bytes;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (t->dim[d] == 0) {
            return complain(c, "dimension %u is 0", d);
        }
        if (__builtin_mul_overflow(elements, t->dim[d], &elements) || elements > INT64_MAX) {
            return complain(c, "its shape has too many elements for 63 bits (dimension %u is %llu)", d,
                            (unsigned long long)t->dim[d]);
        }
    }
    if (t->dim[0] % info->block_weights) {
        return complain(c, "a row of %llu weights is no multiple of the %zu in a block of type %s",
                        (unsigned long long)t->dim[0], info->block_weights, info->name);
    }
    if (__builtin_mul_overflow(elements / info->block_weights, info->block_bytes, &bytes) ||
        bytes > INT64_MAX) {
        return complain(c, "its shape of %llu elements is too large in bytes", (unsigned long long)elements);
    }
    t->bytes = (size_t)bytes;
    return RV_OK;
}

static rv_err take_tensor(cursor *c, rv_gguf_tensor *t, uint64_t *offset)
{
    uint32_t type;
    RV_TRY(take_name(c, MAX_NAME_BYTES, &t->name));
    RV_TRY(take_u32(c, "count of dimensions", &t->n_dims));
    if (t->n_dims < 1 || t->n_dims > 4) {
        return complain(c, "%u dimensions: 1 to 4 are allowed", t->n_dims);
    }
    for (uint32_t d = 0; d < 4; d++) {
        t->dim[d] = 1;
        if (d < t->n_dims) {
            RV_TRY(take_u64(c, "dimensions", &t->dim[d]));
        }
    }
    RV_TRY(take_u32(c, "tensor type", &type));
    RV_TRY(take_u64(c, "offset", offset));
    if (!rv_type_get(type)) {
        return complain(c, "tensor type %u is not one of the weight types that we read", type);
    }
    t->type = (rv_type)type;
    return measure_tensor(c, t);
}

static int by_address(const void *a, const void *b)
{
    const rv_gguf_tensor *x = *(const rv_gguf_tensor *const *)a, *y = *(const rv_gguf_tensor *const *)b;
    return (x->at > y->at) - (x->at < y->at);
}

static rv_err check_overlap(const rv_gguf *g)
{
    const rv_gguf_tensor **sorted = rv_new_array(g->mem, g->n_tensors ? g->n_tensors : 1, sizeof *sorted);
    if (!sorted) {
        return rv_fail(RV_E_NOMEM, "%s: %zu tensors", g->path, g->n_tensors);
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        sorted[i] = &g->tensors[i];
    }
    qsort(sorted, g->n_tensors, sizeof *sorted, by_address);
    rv_err e = RV_OK;
    for (size_t i = 1; i < g->n_tensors && !e; i++) {
        const rv_gguf_tensor *a = sorted[i - 1], *b = sorted[i];
        if (a->at + a->bytes > b->at) {
            e = rv_fail(RV_E_FORMAT, "%s: tensors %.*s (%zu bytes) and %.*s overlap: wrong offset or type",
                        g->path, RV_SHOWN(a->name), a->bytes, RV_SHOWN(b->name));
        }
    }
    rv_free(g->mem, sorted);
    return e;
}

/* Offsets are known before the data section's start is: kept in at until then, as a number. */
static rv_err place_tensors(rv_gguf *g, cursor *c, const uint64_t *offsets)
{
    size_t end = g->map.n - c->left;
    size_t pad = (g->alignment - end % g->alignment) % g->alignment;
    g->data_at = end + pad;
    size_t room = g->data_at <= g->map.n ? g->map.n - g->data_at : 0;
    c->kind = "tensor";
    for (size_t i = 0; i < g->n_tensors; i++) {
        rv_gguf_tensor *t = &g->tensors[i];
        c->number = i;
        c->name = t->name;
        if (offsets[i] % g->alignment) {
            return complain(c, "offset %llu is not a multiple of the alignment %zu",
                            (unsigned long long)offsets[i], g->alignment);
        }
        if (offsets[i] > room || t->bytes > room - offsets[i]) {
            return complain(
                c, "offset %llu with %zu bytes goes beyond the end of file: the data section has %zu",
                (unsigned long long)offsets[i], t->bytes, room);
        }
        t->at = g->map.at + g->data_at + offsets[i];
    }
    return check_overlap(g);
}

static rv_err read_tensors(rv_gguf *g, cursor *c, uint64_t n)
{
    if (n > RV_GGUF_MAX_TENSORS || n > c->left / MIN_TENSOR_BYTES) {
        return complain(c, "a count of %llu tensors is too large: %zu bytes remain, and the limit is %d",
                        (unsigned long long)n, c->left, RV_GGUF_MAX_TENSORS);
    }
    size_t room = n ? (size_t)n : 1;
    uint64_t *offsets = rv_new_array(g->mem, room, sizeof *offsets);
    g->tensors = rv_new_array(g->mem, room, sizeof *g->tensors);
    rv_err e = offsets && g->tensors
                   ? index_init(g->mem, &g->tensor_index, g->tensors, sizeof *g->tensors, (size_t)n)
                   : rv_fail(RV_E_NOMEM, "%s: %llu tensors", g->path, (unsigned long long)n);
    c->kind = "tensor";
    for (size_t i = 0; i < n && !e; i++) {
        c->number = i;
        e = take_tensor(c, &g->tensors[i], &offsets[i]);
        if (e) {
            break;
        }
        uint32_t *slot = index_slot(&g->tensor_index, g->tensors[i].name);
        if (*slot) {
            e = complain(c, "duplicate: tensor %u has the same name", *slot - 1);
            break;
        }
        *slot = (uint32_t)i + 1;
        g->n_tensors++;
    }
    e = e ? e : place_tensors(g, c, offsets);
    rv_free(g->mem, offsets);
    return e;
}

/* ---- the file ---- */

/* Files that people mistake for a model, by how they begin. */
static const struct {
    const char *start, *is;
} strangers[] = {
    { "FUGG", "a byte-swapped GGUF" },
    { "lmgg", "an old GGML file" },
    { "tjgg", "an old GGJT file" },
    { "PK\x03\x04", "a ZIP archive, perhaps a PyTorch checkpoint" },
    { "version https://git-lfs", "a Git LFS pointer: the model itself was not fetched" },
    { "<!DOCTYPE", "a web page: the download went wrong" },
    { "<html", "a web page: the download went wrong" },
};

static rv_err check_magic(const rv_gguf *g)
{
    rv_str file = rv_str_of((const char *)g->map.at, g->map.n);
    if (file.n == 0) {
        return rv_fail(RV_E_FORMAT, "%s: the file is empty, not a GGUF file", g->path);
    }
    if (rv_str_starts(file, "GGUF")) {
        return RV_OK;
    }
    for (size_t i = 0; i < RV_COUNT(strangers); i++) {
        if (rv_str_starts(file, strangers[i].start)) {
            return rv_fail(RV_E_FORMAT, "%s: not a GGUF file but %s", g->path, strangers[i].is);
        }
    }
    return rv_fail(RV_E_FORMAT, "%s: not a GGUF file: its first bytes, the magic, are not 'GGUF'", g->path);
}

static rv_err read_alignment(rv_gguf *g)
{
    uint64_t alignment = DEFAULT_ALIGNMENT;
    bool found;
    RV_TRY(rv_gguf_get_u64(g, "general.alignment", 8, MAX_ALIGNMENT, &alignment, &found));
    if (alignment & (alignment - 1)) {
        return rv_fail(RV_E_FORMAT, "%s: general.alignment is %llu, expected a power of two", g->path,
                       (unsigned long long)alignment);
    }
    g->alignment = (size_t)alignment;
    return RV_OK;
}

static rv_err read_file(rv_gguf *g)
{
    RV_TRY(check_magic(g));
    cursor c = { .g = g, .at = g->map.at + 4, .left = g->map.n - 4 };
    uint64_t n_tensors, n_values;
    RV_TRY(take_u32(&c, "header's version", &g->version));
    if (g->version == 0x02000000 || g->version == 0x03000000) {
        return complain(&c, "big-endian: the version reads 0x%08x; only little-endian files are read",
                        g->version);
    }
    if (g->version != 2 && g->version != 3) {
        return complain(&c, "GGUF version %u; versions 2 and 3 are read", g->version);
    }
    RV_TRY(take_u64(&c, "header's tensor count", &n_tensors));
    RV_TRY(take_u64(&c, "header's key count", &n_values));
    if (n_tensors >
        RV_GGUF_MAX_TENSORS) { /* before the keys, so that a broken header is what gets reported */
        return complain(&c, "a count of %llu tensors is too large: the limit is %d",
                        (unsigned long long)n_tensors, RV_GGUF_MAX_TENSORS);
    }
    RV_TRY(read_values(g, &c, n_values));
    RV_TRY(read_alignment(g));
    return read_tensors(g, &c, n_tensors);
}

static rv_err open_map(const rv_alloc *mem, const char *path, rv_map map, bool is_mapped, rv_gguf **out)
{
    rv_gguf *g = rv_new(mem, sizeof *g);
    if (!g) {
        if (is_mapped) {
            rv_file_unmap(&map);
        }
        return rv_fail(RV_E_NOMEM, "%s: opening", path);
    }
    *g = (rv_gguf){ .mem = mem, .map = map, .is_mapped = is_mapped };
    g->path = rv_strdup(mem, path);
    rv_err e = g->path ? read_file(g) : rv_fail(RV_E_NOMEM, "%s: opening", path);
    if (e) {
        rv_gguf_close(g);
        return e;
    }
    *out = g;
    return RV_OK;
}

rv_err rv_gguf_open(const rv_alloc *mem, const char *path, rv_gguf **out)
{
    rv_map map = { NULL, 0 };
    RV_TRY(rv_file_map(path, &map));
    return open_map(mem, path, map, true, out);
}

rv_err rv_gguf_open_bytes(const rv_alloc *mem, const char *name, const void *bytes, size_t n, rv_gguf **out)
{
    assert((uintptr_t)bytes % 8 == 0);
    return open_map(mem, name, (rv_map){ bytes, n }, false, out);
}

void rv_gguf_close(rv_gguf *g)
{
    if (!g) {
        return;
    }
    if (g->is_mapped) {
        rv_file_unmap(&g->map);
    }
    rv_free(g->mem, g->value_index.slots);
    rv_free(g->mem, g->tensor_index.slots);
    rv_free(g->mem, g->values);
    rv_free(g->mem, g->tensors);
    rv_free(g->mem, g->path);
    rv_free(g->mem, g);
}

const char *rv_gguf_path(const rv_gguf *g)
{
    return g->path;
}

size_t rv_gguf_file_bytes(const rv_gguf *g)
{
    return g->map.n;
}

uint32_t rv_gguf_version(const rv_gguf *g)
{
    return g->version;
}

uint64_t rv_gguf_fingerprint(const rv_gguf *g)
{
    size_t header = g->data_at < g->map.n ? g->data_at : g->map.n;
    uint64_t hash = rv_hash64(g->map.at, header, g->map.n);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const rv_gguf_tensor *t = &g->tensors[i];
        size_t step = t->bytes / FINGERPRINT_SAMPLES;
        if (step <= FINGERPRINT_BYTES) {
            hash = rv_hash64(t->at, t->bytes, hash);
            continue;
        }
        for (size_t s = 0; s < FINGERPRINT_SAMPLES; s++) {
            hash = rv_hash64(t->at + s * step, FINGERPRINT_BYTES, hash);
        }
        hash = rv_hash64(t->at + t->bytes - FINGERPRINT_BYTES, FINGERPRINT_BYTES, hash);
    }
    return hash;
}

size_t rv_gguf_value_count(const rv_gguf *g)
{
    return g->n_values;
}

const rv_gguf_value *rv_gguf_value_at(const rv_gguf *g, size_t i)
{
    assert(i < g->n_values);
    return &g->values[i];
}

const rv_gguf_value *rv_gguf_find(const rv_gguf *g, const char *key)
{
    uint32_t row = *index_slot(&g->value_index, rv_str_from(key));
    return row ? &g->values[row - 1] : NULL;
}

size_t rv_gguf_tensor_count(const rv_gguf *g)
{
    return g->n_tensors;
}

const rv_gguf_tensor *rv_gguf_tensor_at(const rv_gguf *g, size_t i)
{
    assert(i < g->n_tensors);
    return &g->tensors[i];
}

const rv_gguf_tensor *rv_gguf_tensor_find(const rv_gguf *g, const char *name)
{
    uint32_t row = *index_slot(&g->tensor_index, rv_str_from(name));
    return row ? &g->tensors[row - 1] : NULL;
}

void rv_gguf_tensor_release(const rv_gguf *g, const rv_gguf_tensor *t)
{
    if (!g->is_mapped) {
        return;
    }
    /* Whole pages inside the tensor only: its neighbours may still be wanted. A hint, so failure changes nothing. */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)t->at + page - 1) & ~(page - 1),
              to = ((uintptr_t)t->at + t->bytes) & ~(page - 1);
    if (from < to) {
        (void)madvise((void *)from, to - from, MADV_DONTNEED);
    }
}

/* ---- typed reads ---- */

static rv_err find_or_miss(const rv_gguf *g, const char *key, bool *found, const rv_gguf_value **out)
{
    *out = rv_gguf_find(g, key);
    if (found) {
        *found = *out != NULL;
    } else if (!*out) {
        return rv_fail(RV_E_FORMAT, "%s: key %s is missing", g->path, key);
    }
    return RV_OK;
}

static rv_err wrong_type(const rv_gguf *g, const rv_gguf_value *v, const char *expected)
{
    bool array = v->type == RV_GGUF_ARRAY;
    return rv_fail(RV_E_FORMAT, "%s: %.*s has type %s%s, expected %s", g->path, RV_SHOWN(v->key),
                   array ? "array of " : "", types[array ? v->element : v->type].name, expected);
}

/* Any integer, sign-extended to 64 bits. */
static uint64_t load_integer(rv_gguf_type type, const uint8_t *at)
{
    uint64_t raw = 0;
    memcpy(&raw, at, types[type].bytes);
    switch (type) {
    case RV_GGUF_I8: return (uint64_t)(int8_t)raw;
    case RV_GGUF_I16: return (uint64_t)(int16_t)raw;
    case RV_GGUF_I32: return (uint64_t)(int32_t)raw;
    default: return raw;
    }
}

static bool is_negative(rv_gguf_type type, uint64_t x)
{
    bool is_signed = type == RV_GGUF_I8 || type == RV_GGUF_I16 || type == RV_GGUF_I32 || type == RV_GGUF_I64;
    return is_signed && (int64_t)x < 0;
}

rv_err rv_gguf_get_u64(const rv_gguf *g, const char *key, uint64_t low, uint64_t high, uint64_t *out,
                       bool *found)
{
    const rv_gguf_value *v;
    RV_TRY(find_or_miss(g, key, found, &v));
    if (!v) {
        return RV_OK;
    }
    if (!is_integer(v->type)) {
        return wrong_type(g, v, "an integer type");
    }
    uint64_t x = load_integer(v->type, v->at);
    if (is_negative(v->type, x)) {
        return rv_fail(RV_E_FORMAT, "%s: %s is %lld, expected %llu to %llu", g->path, key, (long long)x,
                       (unsigned long long)low, (unsigned long long)high);
    }
    if (x < low || x > high) {
        return rv_fail(RV_E_FORMAT, "%s: %s is %llu, expected %llu to %llu", g->path, key,
                       (unsigned long long)x, (unsigned long long)low, (unsigned long long)high);
    }
    *out = x;
    return RV_OK;
}

rv_err rv_gguf_get_f32(const rv_gguf *g, const char *key, float *out, bool *found)
{
    const rv_gguf_value *v;
    RV_TRY(find_or_miss(g, key, found, &v));
    if (!v) {
        return RV_OK;
    }
    double x;
    if (v->type == RV_GGUF_F32) {
        float f;
        memcpy(&f, v->at, sizeof f);
        x = (double)f;
    } else if (v->type == RV_GGUF_F64) {
        memcpy(&x, v->at, sizeof x);
    } else if (is_integer(v->type)) {
        uint64_t i = load_integer(v->type, v->at);
        x = is_negative(v->type, i) ? (double)(int64_t)i : (double)i;
    } else {
        return wrong_type(g, v, "a number type");
    }
    if (!(fabs(x) <= (double)FLT_MAX)) {
        return rv_fail(RV_E_FORMAT, "%s: %s is %g, expected a finite number", g->path, key, x);
    }
    *out = (float)x;
    return RV_OK;
}

rv_err rv_gguf_get_bool(const rv_gguf *g, const char *key, bool *out, bool *found)
{
    const rv_gguf_value *v;
    RV_TRY(find_or_miss(g, key, found, &v));
    if (!v) {
        return RV_OK;
    }
    if (v->type != RV_GGUF_BOOL) {
        return wrong_type(g, v, "bool");
    }
    if (v->at[0] > 1) {
        return rv_fail(RV_E_FORMAT, "%s: %s is %u, expected 0 or 1", g->path, key, v->at[0]);
    }
    *out = v->at[0] != 0;
    return RV_OK;
}

rv_err rv_gguf_get_string(const rv_gguf *g, const char *key, rv_str *out, bool *found)
{
    const rv_gguf_value *v;
    RV_TRY(find_or_miss(g, key, found, &v));
    if (!v) {
        return RV_OK;
    }
    if (v->type != RV_GGUF_STRING) {
        return wrong_type(g, v, "string");
    }
    if (!rv_utf8_valid((const char *)v->at, v->bytes)) {
        return rv_fail(RV_E_FORMAT, "%s: %s is not valid UTF-8", g->path, key);
    }
    *out = rv_str_of((const char *)v->at, v->bytes);
    return RV_OK;
}

rv_err rv_gguf_get_array(const rv_gguf *g, const char *key, rv_gguf_type element, const rv_gguf_value **out,
                         bool *found)
{
    const rv_gguf_value *v;
    RV_TRY(find_or_miss(g, key, found, &v));
    if (!v) {
        return RV_OK;
    }
    bool strings = element == RV_GGUF_STRING;
    bool fits = strings ? v->element == RV_GGUF_STRING : is_integer(v->element);
    if (v->type != RV_GGUF_ARRAY || !fits) {
        return wrong_type(g, v, strings ? "an array of strings" : "an array of an integer type");
    }
    *out = v;
    return RV_OK;
}

uint64_t rv_gguf_array_u64(const rv_gguf_value *v, uint64_t i)
{
    assert(i < v->count && is_integer(v->element));
    return load_integer(v->element, v->at + i * types[v->element].bytes);
}

bool rv_gguf_array_next(const rv_gguf_value *v, const uint8_t **at, rv_str *out)
{
    assert(v->element == RV_GGUF_STRING);
    const uint8_t *next = *at ? *at : v->at;
    if (v->type != RV_GGUF_ARRAY || next == v->at + v->bytes) {
        return false;
    }
    uint64_t n;
    memcpy(&n, next, sizeof n); /* lengths were checked when the file was opened */
    *out = rv_str_of((const char *)next + sizeof n, (size_t)n);
    *at = next + sizeof n + n;
    return true;
}
