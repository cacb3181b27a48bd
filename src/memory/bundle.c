/* The head names the files by their contents (nodes-0123456789abcdef.jsonl), so that a new bundle stands beside the old one until its head is
 * renamed over the old head. Hashes are SHAKE-256 of 32 bytes. */
#include "memory/bundle_priv.h"
#include "base/json.h"
#include "memory/memory_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HASH = RV_BUNDLE_HASH, DIM_MAX = 8192 };
#define ROWS_MAX  ((int64_t)100000000)
#define BYTES_MAX ((int64_t)16 << 30)
#define ID_MAX    ((int64_t)1 << 33)

const struct rv_bundle_part_name rv_bundle_parts[RV_BUNDLE_PARTS] = { { "nodes", "jsonl" },
                                                                      { "vectors", "fvecs" },
                                                                      { "edges", "jsonl" } };

/* ---- hashes ---- */

EVP_MD_CTX *rv_shake_begin(void)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx && EVP_DigestInit_ex(ctx, EVP_shake256(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

static void shake_u64(EVP_MD_CTX *ctx, uint64_t x)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(x >> 8 * i);
    }
    EVP_DigestUpdate(ctx, bytes, sizeof bytes);
}

static void shake_text(EVP_MD_CTX *ctx, const char *text)
{
    shake_u64(ctx, strlen(text));
    EVP_DigestUpdate(ctx, text, strlen(text));
}

rv_err rv_shake_end(EVP_MD_CTX *ctx, unsigned char out[HASH])
{
    bool good = ctx && EVP_DigestFinalXOF(ctx, out, HASH) == 1;
    EVP_MD_CTX_free(ctx);
    return good ? RV_OK : rv_fail(RV_E_NOMEM, "SHAKE-256 failed");
}

void rv_hex(const unsigned char *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

/* Over all parts: the length and the hash of each. */
rv_err rv_bundle_content_hash(const uint64_t bytes[RV_BUNDLE_PARTS],
                              unsigned char hashes[RV_BUNDLE_PARTS][HASH], char out[RV_BUNDLE_HEX + 1])
{
    unsigned char all[HASH];
    EVP_MD_CTX *ctx = rv_shake_begin();
    for (int p = 0; ctx && p < RV_BUNDLE_PARTS; p++) {
        shake_u64(ctx, bytes[p]);
        EVP_DigestUpdate(ctx, hashes[p], HASH);
    }
    RV_TRY(rv_shake_end(ctx, all));
    rv_hex(all, HASH, out);
    return RV_OK;
}

/* The first fields are those of a bundle of format 2, in its order and with its separators; what format 3 added follows. */
rv_err rv_bundle_witness_of(const rv_bundle_head *h, const char *content_hash, char out[RV_BUNDLE_HEX + 1])
{
    unsigned char all[HASH], tag = 0;
    EVP_MD_CTX *ctx = rv_shake_begin();
    if (ctx) {
        static const char prefix[] = "rulake-bundle-witness-v2|";
        EVP_DigestUpdate(ctx, prefix, sizeof prefix - 1);
        shake_text(ctx, h->data_ref);
        EVP_DigestUpdate(ctx, "|", 1);
        shake_u64(ctx, h->dim);
        shake_u64(ctx, 0); /* rotation_seed */
        shake_u64(ctx, RV_BUNDLE_RERANK);
        EVP_DigestUpdate(ctx, "|", 1);
        shake_u64(ctx, 9); /* a generation that is a number: the byte 0, then it */
        EVP_DigestUpdate(ctx, &tag, 1);
        shake_u64(ctx, h->generation);
        EVP_DigestUpdate(ctx, "|", 1);
        shake_text(ctx, content_hash);
        shake_text(ctx, "none"); /* rotation_kind */
        shake_u64(ctx, 32);      /* bits */
        shake_text(ctx, "cosine");
        shake_u64(ctx, h->n_nodes);
        shake_u64(ctx, h->n_vectors);
        shake_u64(ctx, h->n_edges);
        shake_u64(ctx, (uint64_t)h->next_id);
        shake_u64(ctx, (uint64_t)h->created_ms);
        shake_text(ctx, h->space);
    }
    RV_TRY(rv_shake_end(ctx, all));
    rv_hex(all, HASH, out);
    return RV_OK;
}

/* ---- the head ---- */

typedef struct part_file {
    char name[RV_BUNDLE_NAME];
    uint64_t bytes;
} part_file;

static bool is_hex(const char *text, size_t n)
{
    return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

bool rv_bundle_good_name(rv_bundle_part part, const char *name)
{
    size_t n = strlen(rv_bundle_parts[part].name);
    return strlen(name) == n + 1 + RV_BUNDLE_SHORT + 1 + strlen(rv_bundle_parts[part].end) &&
           strncmp(name, rv_bundle_parts[part].name, n) == 0 && name[n] == '-' &&
           strspn(name + n + 1, "0123456789abcdef") == RV_BUNDLE_SHORT &&
           name[n + 1 + RV_BUNDLE_SHORT] == '.' &&
           strcmp(name + n + 1 + RV_BUNDLE_SHORT + 1, rv_bundle_parts[part].end) == 0;
}

static rv_err get_text(const json_t *o, const char *field, bool needed, rv_arena *arena, const char **out)
{
    const char *text = "";
    RV_TRY(needed ? rv_json_need_string(o, field, &text, NULL) : rv_json_get_string(o, field, &text, NULL));
    if (strlen(text) > RV_BUNDLE_TEXT_BYTES || (needed && !*text)) {
        return rv_fail(RV_E_FORMAT, "%s: %zu bytes, expected %d .. %d", field, strlen(text), needed,
                       RV_BUNDLE_TEXT_BYTES);
    }
    *out = rv_arena_strdup(arena, text);
    return *out ? RV_OK : rv_fail(RV_E_NOMEM, "no memory for a bundle");
}

static rv_err get_hash(const json_t *o, const char *field, char out[RV_BUNDLE_HEX + 1])
{
    const char *text;
    RV_TRY(rv_json_need_string(o, field, &text, NULL));
    if (!is_hex(text, RV_BUNDLE_HEX)) {
        return rv_fail(RV_E_FORMAT, "%s: expected 64 hexadecimal digits", field);
    }
    memcpy(out, text, RV_BUNDLE_HEX + 1);
    return RV_OK;
}

static rv_err get_number(const json_t *o, const char *field, int64_t low, int64_t high, uint64_t *out)
{
    int64_t x = -1;
    if (!json_object_get(o, field)) {
        return rv_fail(RV_E_FORMAT, "%s: it is missing", field);
    }
    RV_TRY(rv_json_get_int(o, field, low, high, &x));
    *out = (uint64_t)x;
    return RV_OK;
}

static rv_err get_fixed(const json_t *o, const char *field, const char *only)
{
    const char *text;
    RV_TRY(rv_json_need_string(o, field, &text, NULL));
    return strcmp(text, only) == 0
               ? RV_OK
               : rv_fail(RV_E_UNSUPPORTED, "%s: expected \"%s\", found \"%.40s\"", field, only, text);
}

static rv_err get_files(const json_t *o, part_file files[RV_BUNDLE_PARTS])
{
    json_t *list = NULL;
    RV_TRY(rv_json_get_object(o, "files", &list));
    for (int p = 0; p < RV_BUNDLE_PARTS; p++) {
        json_t *file = NULL;
        const char *name;
        if (list) {
            RV_TRY(rv_json_get_object(list, rv_bundle_parts[p].name, &file));
        }
        if (!file) {
            return rv_fail(RV_E_FORMAT, "files: %s is missing", rv_bundle_parts[p].name);
        }
        RV_TRY(rv_json_need_string(file, "name", &name, NULL));
        if (!rv_bundle_good_name((rv_bundle_part)p, name)) {
            return rv_fail(RV_E_FORMAT, "files: expected %s-, %d hexadecimal digits and .%s, found \"%.80s\"",
                           rv_bundle_parts[p].name, RV_BUNDLE_SHORT, rv_bundle_parts[p].end, name);
        }
        memcpy(files[p].name, name, strlen(name) + 1);
        RV_TRY(get_number(file, "bytes", 0, BYTES_MAX, &files[p].bytes));
    }
    return RV_OK;
}

static rv_err read_fields(const json_t *o, rv_bundle *b, part_file files[RV_BUNDLE_PARTS])
{
    rv_bundle_head *h = &b->head;
    uint64_t version, dim, seed, rerank, bits, next_id, created;
    RV_TRY(get_number(o, "format_version", 1, INT64_MAX, &version));
    if (version != RV_BUNDLE_VERSION) {
        return rv_fail(RV_E_UNSUPPORTED, "format_version: %llu, we read %d%s", (unsigned long long)version,
                       RV_BUNDLE_VERSION,
                       version < RV_BUNDLE_VERSION ? "; older ones hold no bytes that could be verified"
                                                   : "");
    }
    RV_TRY(get_text(o, "data_ref", true, b->arena, &h->data_ref));
    RV_TRY(get_text(o, "space", true, b->arena, &h->space));
    RV_TRY(get_text(o, "pii_policy", false, b->arena, &h->pii_policy));
    RV_TRY(get_text(o, "lineage_id", false, b->arena, &h->lineage_id));
    RV_TRY(get_text(o, "memory_class", false, b->arena, &h->memory_class));
    RV_TRY(get_number(o, "dim", 1, DIM_MAX, &dim));
    RV_TRY(get_number(o, "rotation_seed", 0, 0, &seed));
    RV_TRY(get_number(o, "rerank_factor", RV_BUNDLE_RERANK, RV_BUNDLE_RERANK, &rerank));
    RV_TRY(get_fixed(o, "rotation_kind", "none"));
    RV_TRY(get_number(o, "bits", 32, 32, &bits));
    RV_TRY(get_fixed(o, "metric", "cosine"));
    RV_TRY(get_number(o, "generation", 0, INT64_MAX - 1, &h->generation));
    RV_TRY(get_number(o, "n", 0, ROWS_MAX, &h->n_nodes));
    RV_TRY(get_number(o, "vectors", 0, (int64_t)h->n_nodes, &h->n_vectors));
    RV_TRY(get_number(o, "edges", 0, 64 * ROWS_MAX, &h->n_edges));
    RV_TRY(get_number(o, "next_id", 1, ID_MAX, &next_id));
    RV_TRY(get_number(o, "created_ms", 0, INT64_MAX / 2, &created));
    RV_TRY(get_hash(o, "content_hash", b->content_hash));
    RV_TRY(get_hash(o, "rvf_witness", b->witness));
    h->dim = (size_t)dim;
    h->next_id = (int64_t)next_id;
    h->created_ms = (int64_t)created;
    RV_TRY(get_files(o, files));
    uint64_t expected =
        h->n_vectors * (4 + 4 * dim); /* 1e8 rows of at most 32,772 bytes: far from wrapping */
    if (files[RV_BUNDLE_VECTORS].bytes != expected) {
        return rv_fail(RV_E_FORMAT, "files: %llu vectors of %zu numbers are %llu bytes, found %llu",
                       (unsigned long long)h->n_vectors, h->dim, (unsigned long long)expected,
                       (unsigned long long)files[RV_BUNDLE_VECTORS].bytes);
    }
    return RV_OK;
}

static int open_beside(int folder, const char *name)
{
    return openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
}

static rv_err open_folder(const char *dir, int *out)
{
    *out = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *out >= 0 ? RV_OK
                     : rv_fail(errno == ENOENT ? RV_E_NOT_FOUND : RV_E_IO, "%s: %s", dir, strerror(errno));
}

static rv_err read_head_bytes(const char *dir, int folder, char text[RV_BUNDLE_JSON_BYTES + 1], size_t *n)
{
    int fd = open_beside(folder, RV_BUNDLE_FILE);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rv_err e = rv_fail(fd < 0 && errno == ENOENT ? RV_E_NOT_FOUND : RV_E_IO,
                           "%s: there is no bundle here, %s: %s", dir, RV_BUNDLE_FILE,
                           fd < 0 ? strerror(errno) : "not a plain file");
        if (fd >= 0) {
            close(fd);
        }
        return e;
    }
    size_t at = 0;
    for (ssize_t k;
         at <= RV_BUNDLE_JSON_BYTES && (k = read(fd, text + at, RV_BUNDLE_JSON_BYTES + 1 - at)) != 0;) {
        if (k < 0 && errno != EINTR) {
            close(fd);
            return rv_fail(RV_E_IO, "%s/%s: %s", dir, RV_BUNDLE_FILE, strerror(errno));
        }
        at += k > 0 ? (size_t)k : 0;
    }
    close(fd);
    *n = at;
    return at <= RV_BUNDLE_JSON_BYTES
               ? RV_OK
               : rv_fail(RV_E_FORMAT, "%s/%s: more than %d bytes", dir, RV_BUNDLE_FILE, RV_BUNDLE_JSON_BYTES);
}

/* Head into b, whose arena is made here, and the witness checked. */
static rv_err read_head(const rv_alloc *mem, const char *dir, int folder, rv_bundle *b,
                        part_file files[RV_BUNDLE_PARTS])
{
    char text[RV_BUNDLE_JSON_BYTES + 1], witness[RV_BUNDLE_HEX + 1];
    size_t n = 0;
    json_t *o = NULL;
    RV_TRY(rv_arena_new(mem, 8 * RV_BUNDLE_TEXT_BYTES + 1024, &b->arena));
    RV_TRY(read_head_bytes(dir, folder, text, &n));
    rv_err e = rv_json_parse(text, n, &o);
    if (!e && !json_is_object(o)) {
        e = rv_fail(RV_E_FORMAT, "expected an object");
    }
    e = e ? e : read_fields(o, b, files);
    json_decref(o);
    if (e) {
        return rv_fail(e == RV_E_ARG ? RV_E_FORMAT : e, "%s/%s: %s", dir, RV_BUNDLE_FILE, rv_err_text());
    }
    RV_TRY(rv_bundle_witness_of(&b->head, b->content_hash, witness));
    return strcmp(witness, b->witness) == 0 ? RV_OK
                                            : rv_fail(RV_E_CORRUPT,
                                                      "%s/%s: rvf_witness is not that of its fields: it was "
                                                      "changed; take it from its publisher again",
                                                      dir, RV_BUNDLE_FILE);
}

static rv_err map_part(const char *dir, int folder, const part_file *file, rv_map *out)
{
    int fd = open_beside(folder, file->name);
    struct stat st;
    rv_err e = RV_OK;
    if (fd < 0 || fstat(fd, &st) != 0) {
        e = rv_fail(fd < 0 && errno == ENOENT ? RV_E_NOT_FOUND : RV_E_IO, "%s/%s: %s", dir, file->name,
                    strerror(errno));
    } else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->bytes) {
        e = rv_fail(RV_E_CORRUPT, "%s/%s: expected a plain file of %llu bytes, found %lld", dir, file->name,
                    (unsigned long long)file->bytes, (long long)st.st_size);
    } else if (st.st_size > 0) {
        void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        e = at == MAP_FAILED ? rv_fail(RV_E_IO, "%s/%s: %s", dir, file->name, strerror(errno)) : RV_OK;
        *out = e ? *out : (rv_map){ at, (size_t)st.st_size };
    }
    if (fd >= 0) {
        close(fd);
    }
    return e;
}

static rv_err check_bytes(const char *dir, const rv_bundle *b)
{
    uint64_t bytes[RV_BUNDLE_PARTS];
    unsigned char hashes[RV_BUNDLE_PARTS][HASH];
    char all[RV_BUNDLE_HEX + 1];
    for (int p = 0; p < RV_BUNDLE_PARTS; p++) {
        EVP_MD_CTX *ctx = rv_shake_begin();
        if (ctx && b->parts[p].n > 0) {
            EVP_DigestUpdate(ctx, b->parts[p].at, b->parts[p].n);
        }
        RV_TRY(rv_shake_end(ctx, hashes[p]));
        bytes[p] = b->parts[p].n;
    }
    RV_TRY(rv_bundle_content_hash(bytes, hashes, all));
    return strcmp(all, b->content_hash) == 0 ? RV_OK
                                             : rv_fail(RV_E_CORRUPT,
                                                       "%s: the files are not the ones that were published "
                                                       "(content_hash); take them from their publisher again",
                                                       dir);
}

static rv_err check_vectors(const char *dir, const rv_bundle *b)
{
    for (size_t i = 0; i < b->head.n_vectors; i++) {
        uint32_t dim;
        memcpy(&dim, b->parts[RV_BUNDLE_VECTORS].at + i * (4 + 4 * b->head.dim), 4);
        const float *row = rv_bundle_vector(b, i);
        bool finite = dim == b->head.dim;
        for (size_t d = 0; finite && d < b->head.dim; d++) {
            finite = isfinite(row[d]);
        }
        if (!finite) {
            return rv_fail(RV_E_FORMAT, "%s: vector %zu: expected %zu finite numbers", dir, i, b->head.dim);
        }
    }
    return RV_OK;
}

static rv_err open_parts(const rv_alloc *mem, const char *dir, int folder, rv_bundle *b)
{
    part_file files[RV_BUNDLE_PARTS];
    RV_TRY(read_head(mem, dir, folder, b, files));
    for (int p = 0; p < RV_BUNDLE_PARTS; p++) {
        RV_TRY(map_part(dir, folder, &files[p], &b->parts[p]));
    }
    RV_TRY(check_bytes(dir, b));
    return check_vectors(dir, b);
}

rv_err rv_bundle_open(const rv_alloc *mem, const char *dir, rv_bundle *out)
{
    rv_bundle b = { 0 };
    int folder;
    RV_TRY(open_folder(dir, &folder));
    rv_err e = open_parts(mem, dir, folder, &b);
    if (e == RV_E_NOT_FOUND && b.witness[0]) { /* published anew meanwhile: its files are others now */
        rv_bundle_close(&b);
        e = open_parts(mem, dir, folder, &b);
    }
    close(folder);
    if (e) {
        rv_bundle_close(&b);
        return e;
    }
    *out = b;
    return RV_OK;
}

rv_err rv_bundle_witness(const rv_alloc *mem, const char *dir, char out[RV_BUNDLE_HEX + 1])
{
    rv_bundle b = { 0 };
    part_file files[RV_BUNDLE_PARTS];
    int folder;
    RV_TRY(open_folder(dir, &folder));
    rv_err e = read_head(mem, dir, folder, &b, files);
    close(folder);
    if (!e) {
        memcpy(out, b.witness, sizeof b.witness);
    }
    rv_bundle_close(&b);
    return e;
}

rv_err rv_bundle_generation(const rv_alloc *mem, const char *dir, uint64_t *out)
{
    rv_bundle b = { 0 };
    part_file files[RV_BUNDLE_PARTS];
    int folder;
    RV_TRY(open_folder(dir, &folder));
    rv_err e = read_head(mem, dir, folder, &b, files);
    close(folder);
    if (!e || e == RV_E_NOT_FOUND) {
        *out = e ? 0 : b.head.generation;
        e = RV_OK;
    }
    rv_bundle_close(&b);
    return e;
}

void rv_bundle_close(rv_bundle *b)
{
    for (int p = 0; p < RV_BUNDLE_PARTS; p++) {
        rv_file_unmap(&b->parts[p]);
    }
    rv_arena_free(b->arena);
    *b = (rv_bundle){ 0 };
}

const float *rv_bundle_vector(const rv_bundle *b, size_t i)
{
    return (const float *)(const void *)(b->parts[RV_BUNDLE_VECTORS].at + i * (4 + 4 * b->head.dim) + 4);
}

/* ---- lines ---- */

/* The next line as an object; *more false at the end. Blank lines are not written, and not read. */
static rv_err next_line(const rv_bundle *b, rv_bundle_part part, size_t *at, json_t **out, bool *more)
{
    const rv_map *map = &b->parts[part];
    *more = *at < map->n;
    if (!*more) {
        return RV_OK;
    }
    const char *from = (const char *)map->at + *at, *end = memchr(from, '\n', map->n - *at);
    size_t n = end ? (size_t)(end - from) : map->n - *at;
    json_t *o = NULL;
    RV_TRY(rv_json_parse(from, n, &o));
    if (!json_is_object(o)) {
        json_decref(o);
        return rv_fail(RV_E_FORMAT, "expected an object");
    }
    *at += n + (end != NULL);
    *out = o;
    return RV_OK;
}

static rv_err copy_text(const json_t *o, const char *field, size_t most, const char *otherwise,
                        rv_arena *arena, const char **out)
{
    const char *text = otherwise;
    RV_TRY(rv_json_get_string(o, field, &text, NULL));
    if (!text || strlen(text) > most) {
        return rv_fail(RV_E_FORMAT, "%s: %s", field, text ? "too long" : "it is missing");
    }
    *out = rv_arena_strdup(arena, text);
    return *out ? RV_OK : rv_fail(RV_E_NOMEM, "no memory for a bundle");
}

static rv_err read_tags(const json_t *o, rv_arena *arena, rv_memory_node *out)
{
    json_t *list = NULL;
    RV_TRY(rv_json_get_array(o, "tags", &list));
    size_t n = json_array_size(list);
    const char **tags = rv_arena_take(arena, (n + 1) * sizeof *tags);
    for (size_t i = 0; tags && i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text || strlen(text) != json_string_length(json_array_get(list, i))) {
            return rv_fail(RV_E_FORMAT, "tags: expected texts");
        }
        tags[i] = rv_arena_strdup(arena, text);
        tags = tags[i] ? tags : NULL;
    }
    out->tags = tags;
    out->n_tags = n;
    return tags ? RV_OK : rv_fail(RV_E_NOMEM, "no memory for a bundle");
}

static rv_err read_metadata(const json_t *o, rv_arena *arena, const char **out)
{
    json_t *metadata = NULL;
    RV_TRY(rv_json_get_object(o, "metadata", &metadata));
    *out = "{}";
    if (!metadata) {
        return RV_OK;
    }
    rv_text text;
    rv_text_init(&text, &rv_heap, 1 << 20);
    rv_json_text(metadata, &text);
    rv_err e = rv_text_check(&text);
    *out = e ? NULL : rv_arena_strndup(arena, rv_text_get(&text), text.n);
    rv_text_deinit(&text);
    return *out ? RV_OK : rv_fail(RV_E_NOMEM, "no memory for a bundle");
}

static rv_err read_digest(const json_t *o, unsigned char out[HASH])
{
    const char *text;
    RV_TRY(rv_json_need_string(o, "digest", &text, NULL));
    if (!is_hex(text, 2 * (size_t)HASH)) {
        return rv_fail(RV_E_FORMAT, "digest: expected 64 hexadecimal digits");
    }
    for (size_t i = 0; i < HASH; i++) {
        char byte[3] = { text[2 * i], text[2 * i + 1], 0 };
        out[i] = (unsigned char)strtoul(byte, NULL, 16);
    }
    return RV_OK;
}

static rv_err need_int(const json_t *o, const char *field, int64_t low, int64_t high, int64_t *out)
{
    return json_object_get(o, field) ? rv_json_get_int(o, field, low, high, out)
                                     : rv_fail(RV_E_FORMAT, "%s: it is missing", field);
}

/* As the store has them: letters, which no terminal takes for anything else. */
static rv_err read_type(const json_t *o, rv_arena *arena, const char **out)
{
    RV_TRY(copy_text(o, "type", 32, NULL, arena, out));
    return rv_memory_good_type(*out)
               ? RV_OK
               : rv_fail(RV_E_FORMAT, "type: expected 1 .. 32 of the letters a-z and _");
}

static rv_err read_node(const rv_bundle *b, const json_t *o, rv_arena *arena, rv_bundle_node *out)
{
    rv_bundle_node n = { .vector = -1, .node = { .confidence = 1, .origin_side = "" } };
    int64_t offset = 0, length = 0;
    RV_TRY(need_int(o, "id", 1, ID_MAX, &n.node.id));
    RV_TRY(need_int(o, "created_ms", 0, INT64_MAX / 2, &n.node.created_ms));
    RV_TRY(read_type(o, arena, &n.node.type));
    RV_TRY(copy_text(o, "text", 1 << 20, NULL, arena, &n.node.text));
    RV_TRY(copy_text(o, "source", RV_BUNDLE_TEXT_BYTES, "", arena, &n.node.source));
    RV_TRY(copy_text(o, "user", 256, "", arena, &n.node.user));
    RV_TRY(copy_text(o, "origin", 128, "", arena, &n.node.origin));
    RV_TRY(rv_json_get_double(o, "confidence", 0, 1, &n.node.confidence));
    RV_TRY(rv_json_get_int(o, "offset", 0, INT64_MAX, &offset));
    RV_TRY(rv_json_get_int(o, "length", 0, INT64_MAX, &length));
    RV_TRY(rv_json_get_bool(o, "pinned", &n.pinned));
    RV_TRY(rv_json_get_int(o, "expires_ms", 0, INT64_MAX / 2, &n.expires_ms));
    RV_TRY(rv_json_get_int(o, "used", 0, UINT32_MAX, &n.used));
    RV_TRY(rv_json_get_int(o, "used_ms", 0, INT64_MAX / 2, &n.used_ms));
    RV_TRY(rv_json_get_int(o, "vector", 0, (int64_t)b->head.n_vectors - 1, &n.vector));
    RV_TRY(read_tags(o, arena, &n.node));
    RV_TRY(read_metadata(o, arena, &n.node.metadata));
    n.node.offset = (uint64_t)offset;
    n.node.length = (uint64_t)length;
    if (json_object_get(o, "path")) {
        RV_TRY(copy_text(o, "path", RV_BUNDLE_TEXT_BYTES, NULL, arena, &n.path));
        RV_TRY(read_digest(o, n.digest));
    }
    *out = n;
    return RV_OK;
}

static rv_err in_line(const rv_bundle *b, rv_bundle_part part, size_t at, rv_err e)
{
    return rv_fail(e == RV_E_ARG ? RV_E_FORMAT : e, "%s of bundle %.100s: line at byte %zu: %s",
                   rv_bundle_parts[part].name, b->head.data_ref, at, rv_err_text());
}

rv_err rv_bundle_read_node(const rv_bundle *b, size_t *at, rv_arena *arena, rv_bundle_node *out, bool *more)
{
    json_t *o = NULL;
    size_t from = *at;
    rv_err e = next_line(b, RV_BUNDLE_NODES, at, &o, more);
    if (!e && *more) {
        e = read_node(b, o, arena, out);
    }
    json_decref(o);
    return e ? in_line(b, RV_BUNDLE_NODES, from, e) : RV_OK;
}

static rv_err read_edge(const json_t *o, rv_arena *arena, rv_bundle_edge *out)
{
    rv_bundle_edge edge = { .weight = 1 };
    RV_TRY(need_int(o, "from", 1, ID_MAX, &edge.from));
    RV_TRY(need_int(o, "to", 1, ID_MAX, &edge.to));
    RV_TRY(need_int(o, "created_ms", 0, INT64_MAX / 2, &edge.created_ms));
    RV_TRY(read_type(o, arena, &edge.type));
    RV_TRY(rv_json_get_double(o, "weight", 0, 1e6, &edge.weight));
    *out = edge;
    return RV_OK;
}

rv_err rv_bundle_read_edge(const rv_bundle *b, size_t *at, rv_arena *arena, rv_bundle_edge *out, bool *more)
{
    json_t *o = NULL;
    size_t from = *at;
    rv_err e = next_line(b, RV_BUNDLE_EDGES, at, &o, more);
    if (!e && *more) {
        e = read_edge(o, arena, out);
    }
    json_decref(o);
    return e ? in_line(b, RV_BUNDLE_EDGES, from, e) : RV_OK;
}
