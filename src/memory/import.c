/* Files become a document node and its chunks. A file is one transaction: what it held before goes and what it holds now comes
 * at the same moment, or neither. */
#include "memory/import_priv.h"
#include "base/clock.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    FILE_BYTES = 16 << 20,
    PDF_BYTES = 128 << 20,
    ROWS_BYTES = 1 << 30,
    NAME_BYTES = 255,
    FILES_MAX = 1000000,
    CHUNKS_MOST = 100000,   /* of a file; 16 MiB of sentences are 30,000. Each takes a vector in memory, */
    CHUNKS_ROOM = 64 << 20, /* and these bytes together, beside what its text takes */
    DIGEST = 32,
    CHUNKING = 1 /* raised when the same file gives other chunks */
};

/* ---- one file ---- */

typedef struct file {
    const char *path;
    const char *bytes; /* [n] */
    size_t n;
    file_kind kind;
    read_text text;
    unsigned char digest[DIGEST];
} file;

/* Of what decides the nodes: the bytes, the tags and the way they are cut. */
static rv_err digest_of(const importing *job, file *f)
{
    unsigned char version = CHUNKING;
    size_t mark = (f->kind == RV_FILE_TEXT || f->kind == RV_FILE_MARKDOWN) && f->n >= 3 &&
                          memcmp(f->bytes, "\xef\xbb\xbf", 3) == 0
                      ? 3
                      : 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, &version, 1) == 1 &&
                EVP_DigestUpdate(ctx, rv_text_get(&job->joined_tags), job->joined_tags.n + 1) == 1 &&
                EVP_DigestUpdate(ctx, f->bytes + mark, f->n - mark) == 1 &&
                EVP_DigestFinal_ex(ctx, f->digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return good ? RV_OK : rv_fail(RV_E_NOMEM, "%s: SHA-256 failed", f->path);
}

/* The document this file was imported as, 0: none; and whether it is as it was. */
static rv_err find_document(const importing *job, const file *f, int64_t *node, bool *same)
{
    sqlite3 *conn;
    RV_TRY(rv_db_reader(job->m->db, &conn));
    sqlite3_stmt *stmt = NULL;
    rv_err e = rv_db_prepare(conn, &stmt, "SELECT node, digest FROM documents WHERE user=?1 AND path=?2",
                             "tt", job->scope.user, f->path);
    bool row = false;
    if (!e) {
        e = rv_db_step(stmt, &row);
    }
    *node = !e && row ? sqlite3_column_int64(stmt, 0) : 0;
    *same = *node && sqlite3_column_bytes(stmt, 1) == DIGEST &&
            memcmp(sqlite3_column_blob(stmt, 1), f->digest, DIGEST) == 0;
    sqlite3_finalize(stmt);
    rv_db_reader_done(job->m->db, conn);
    return e;
}

static int by_id(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* A document and its chunks, ascending. Under writing. */
static rv_err document_nodes(const rv_memory *m, int64_t document, rv_arena *arena, int64_t **out, size_t *n)
{
    size_t count = 1 + rv_memory_parts(m, document, NULL);
    int64_t *ids = rv_arena_take(arena, count * sizeof *ids);
    if (!ids) {
        return rv_fail(RV_E_NOMEM, "no memory to replace a document of %zu chunks", count - 1);
    }
    ids[0] = document;
    (void)rv_memory_parts(m, document, ids + 1);
    qsort(ids, count, sizeof *ids, by_id);
    *out = ids;
    *n = count;
    return RV_OK;
}

/* Edges that others have to a node of the old document are kept when the new one says the same at some place: a correction
 * outlives an edit elsewhere in the file. kept has room for them all. */
static rv_err keep_edges(const rv_memory *m, sqlite3_stmt *stmt, int64_t old, const record *new, size_t n_new,
                         const int64_t *drop, size_t n_drop, link_row *kept, size_t *n_kept)
{
    RV_TRY(rv_db_bind(stmt, "i", old));
    bool row;
    RV_TRY(rv_db_step(stmt, &row));
    record r;
    if (!row) {
        return RV_OK;
    }
    RV_TRY(rv_record_read(stmt, &r));
    const record *same = NULL;
    for (size_t i = 0; !same && i < n_new; i++) {
        same = rv_str_eq(new[i].type, "chunk") &&
                       new[i].text.n == r.text.n &&memcmp(new[i].text.at, r.text.at, r.text.n) == 0
                   ? &new[i]
                   : NULL;
    }
    rv_graph_edge edge;
    for (int side = 0; same && side < 2; side++) {
        for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, old, (rv_graph_side)side, &c, &edge);) {
            int64_t other = side == RV_GRAPH_OUT ? edge.to : edge.from;
            if (!bsearch(&other, drop, n_drop, sizeof *drop, by_id)) {
                kept[(*n_kept)++] = (link_row){ .from = side == RV_GRAPH_OUT ? same->id : other,
                                                .to = side == RV_GRAPH_OUT ? other : same->id,
                                                .type = rv_graph_type_name(m->graph, edge.type),
                                                .weight = (double)edge.weight };
            }
        }
    }
    return RV_OK;
}

static bool has_outer_edge(const rv_memory *m, int64_t id, const int64_t *drop, size_t n_drop, size_t *count)
{
    size_t before = *count;
    rv_graph_edge edge;
    for (int side = 0; side < 2; side++) {
        for (rv_graph_cursor c = { 0 }; rv_graph_next(m->graph, id, (rv_graph_side)side, &c, &edge);) {
            int64_t other = side == RV_GRAPH_OUT ? edge.to : edge.from;
            *count += !bsearch(&other, drop, n_drop, sizeof *drop, by_id);
        }
    }
    return *count > before;
}

static rv_err carry_over(rv_memory *m, change *c, link_row *links, size_t room)
{
    sqlite3 *conn;
    RV_TRY(rv_db_reader(m->db, &conn));
    sqlite3_stmt *stmt = NULL;
    rv_err e = rv_db_prepare(conn, &stmt,
                             "SELECT " RV_RECORD_COLUMNS " FROM nodes WHERE id=?1 AND type='chunk'", "");
    for (size_t i = 0; !e && i < c->n_drop; i++) {
        size_t outer = 0;
        if (has_outer_edge(m, c->drop[i], c->drop, c->n_drop, &outer) && c->n_link + outer <= room) {
            e = keep_edges(m, stmt, c->drop[i], c->add, c->n_add, c->drop, c->n_drop, links, &c->n_link);
        }
    }
    sqlite3_finalize(stmt);
    rv_db_reader_done(m->db, conn);
    return e;
}

/* Of a paged text: {"page": N} of the page that a byte stands on. *page and *seen go along with ascending bytes. */
static const char *page_metadata(const read_text *text, size_t at, size_t *page, size_t *seen,
                                 rv_arena *arena)
{
    for (; *seen < at; ++*seen) {
        *page += text->at[*seen] == '\f';
    }
    return rv_arena_printf(arena, "{\"page\":%zu}", *page);
}

static rv_err fill_records(const importing *job, const file *f, const chunks *parts, int64_t first,
                           rv_arena *arena, record *records)
{
    const char *slash = strrchr(f->path, '/');
    rv_str name = rv_str_from(slash ? slash + 1 : f->path);
    record common = { .source = rv_str_from(f->path),
                      .user = rv_str_from(job->scope.user),
                      .origin = rv_str_of("", 0),
                      .tags = rv_str_of(rv_text_get(&job->joined_tags), job->joined_tags.n),
                      .metadata = rv_str_from("{}"),
                      .confidence = 1,
                      .created_ms = rv_clock_wall_ms() };
    size_t page = 1, seen = 0;
    for (size_t i = 0; i <= parts->n; i++) {
        record *r = &records[i];
        *r = common;
        r->id = first + (int64_t)i;
        r->type = rv_str_from(i ? "chunk" : "document");
        r->text = i ? parts->at[i - 1].text : parts->title.n ? parts->title : name;
        if (i == 0) {
            r->length = (int64_t)f->n;
        } else if (f->text.placed) {
            r->offset = (int64_t)(parts->at[i - 1].offset + f->text.skipped);
            r->length = (int64_t)parts->at[i - 1].n_bytes;
        } else if (f->text.paged) {
            const char *metadata = page_metadata(&f->text, parts->at[i - 1].offset, &page, &seen, arena);
            if (!metadata) {
                return rv_fail(RV_E_NOMEM, "%s: no memory to import %zu chunks", f->path, parts->n);
            }
            r->metadata = rv_str_from(metadata);
        }
    }
    return RV_OK;
}

static rv_err import_chunks(importing *job, const file *f, const chunks *parts, rv_arena *arena,
                            const float *vectors, int64_t old)
{
    rv_memory *m = job->m;
    int64_t *drop = NULL;
    size_t n_drop = 0, outer = 0;
    if (old) {
        RV_TRY(document_nodes(m, old, arena, &drop, &n_drop));
    }
    for (size_t i = 0; i < n_drop; i++) {
        (void)has_outer_edge(m, drop[i], drop, n_drop, &outer);
    }
    size_t n = parts->n, room = 2 * n + outer;
    record *records = rv_arena_take(arena, (n + 1) * sizeof *records);
    link_row *links = rv_arena_take(arena, (room + 1) * sizeof *links);
    if (!records || !links) {
        return rv_fail(RV_E_NOMEM, "%s: no memory to import %zu chunks", f->path, n);
    }
    int64_t first = rv_memory_take_ids(m, n + 1);
    RV_TRY(fill_records(job, f, parts, first, arena, records));
    document_row document = { first, rv_str_from(job->scope.user), f->path, f->digest };
    change c = { .add = records,
                 .n_add = n + 1,
                 .vectors = vectors,
                 .first_searched = 1,
                 .drop = drop,
                 .n_drop = n_drop,
                 .link = links,
                 .documents = &document,
                 .n_documents = 1 };
    for (size_t i = 1; i <= n; i++) {
        links[c.n_link++] =
            (link_row){ .from = first, .to = first + (int64_t)i, .type = "contains", .weight = 1 };
        if (i > 1) {
            links[c.n_link++] = (link_row){
                .from = first + (int64_t)i, .to = first + (int64_t)i - 1, .type = "follows", .weight = 1
            };
        }
    }
    if (outer) {
        RV_TRY(carry_over(m, &c, links, room));
    }
    RV_TRY(rv_memory_apply(m, &c));
    job->done->replaced += old != 0;
    job->done->chunks_added += n;
    job->done->chunks_removed += n_drop ? n_drop - 1 : 0;
    return RV_OK;
}

static rv_err embed_chunks(const rv_memory *m, const chunks *parts, float *vectors)
{
    for (size_t i = 0; i < parts->n; i++) {
        RV_TRY(m->embedder.text(m->embedder.self, parts->at[i].text.at, parts->at[i].text.n,
                                vectors + i * m->embedder.dim));
    }
    return RV_OK;
}

/* Cutting and embedding happen before the lock: what other changes wait for is the writing alone. */
static rv_err import_text(importing *job, file *f, rv_arena *arena, size_t *n_chunks)
{
    int64_t old;
    bool same;
    chunks parts;
    RV_TRY(rv_chunks_of(job->m->mem, f->text.at, f->text.n, f->text.kind, arena, &parts));
    if (parts.n > CHUNKS_MOST) {
        return rv_fail(RV_E_TOO_LARGE, "%s: %zu chunks, at most %d are taken from a file", f->path, parts.n,
                       CHUNKS_MOST);
    }
    size_t floats;
    float *vectors = rv_mul_size(parts.n + 1, job->m->embedder.dim, &floats)
                         ? rv_new_array(job->m->mem, floats, sizeof *vectors)
                         : NULL;
    rv_err e = vectors ? embed_chunks(job->m, &parts, vectors)
                       : rv_fail(RV_E_NOMEM, "%s: no memory for vectors", f->path);
    if (!e) {
        pthread_mutex_lock(&job->m->writing);
        e = find_document(job, f, &old, &same); /* another thread may have imported it meanwhile */
        if (!e && same) {
            job->done->unchanged++;
        } else if (!e) {
            e = import_chunks(job, f, &parts, arena, vectors, old);
        }
        pthread_mutex_unlock(&job->m->writing);
    }
    rv_free(job->m->mem, vectors);
    *n_chunks = e ? 0 : parts.n;
    return e;
}

/* The path becomes a source, which is no other than that of any node. */
static rv_err check_path(const importing *job, const char *path)
{
    const rv_memory_new as_new = { .type = "document", .text = "a", .source = path };
    rv_err e = rv_memory_check_new(&as_new, job->scope, 1);
    return e ? rv_fail(e, "%s: expected a path in UTF-8 without control characters; rename it", path) : RV_OK;
}

static rv_err import_document(importing *job, file *f, size_t *n_chunks)
{
    int64_t old;
    bool same;
    RV_TRY(check_path(job, f->path));
    RV_TRY(digest_of(job, f));
    RV_TRY(find_document(job, f, &old, &same));
    if (same) {
        job->done->unchanged++;
        return RV_OK;
    }
    rv_arena *arena = NULL;
    rv_err e = rv_import_read(job->m->mem, f->path, f->kind, f->bytes, f->n, &f->text);
    e = e ? e : rv_arena_new(job->m->mem, 64 * f->text.n + CHUNKS_ROOM, &arena);
    e = e ? e : import_text(job, f, arena, n_chunks);
    rv_arena_free(arena);
    rv_text_deinit(&f->text.made);
    return e;
}

static rv_err import_bytes(importing *job, const char *path, file_kind kind, const char *bytes, size_t n,
                           size_t *n_chunks)
{
    file f = { .path = path, .bytes = bytes, .n = n, .kind = kind };
    RV_TRY(kind == RV_FILE_ROWS ? rv_import_rows(job, path, bytes, n) : import_document(job, &f, n_chunks));
    job->done->files++;
    return RV_OK;
}

/* Is what went wrong this file's own affair, so that the others can still be read? */
static bool about_the_file(rv_err e)
{
    return e == RV_E_FORMAT || e == RV_E_TOO_LARGE || e == RV_E_UNSUPPORTED || e == RV_E_TIMEOUT ||
           e == RV_E_ARG;
}

/* *own: an error that does not keep the others out. */
static rv_err import_file(importing *job, const char *path, bool *own)
{
    char *bytes;
    size_t n, n_chunks = 0;
    file_kind kind = rv_file_kind_of(path);
    size_t most = kind == RV_FILE_ROWS ? ROWS_BYTES : kind == RV_FILE_PDF ? PDF_BYTES : FILE_BYTES;
    rv_err e = rv_file_read(job->m->mem, path, most, &bytes, &n);
    *own = e != RV_E_NOMEM; /* it may not be opened, is gone, lies on a bad block */
    if (e) {
        return e;
    }
    e = import_bytes(job, path, kind, bytes, n, &n_chunks);
    *own = about_the_file(e);
    rv_free(job->m->mem, bytes);
    return e;
}

static json_t *path_json(const char *path)
{
    json_t *text = json_string(path);
    if (!text && !rv_utf8_valid(path, strlen(path))) {
        (void)rv_fail(RV_E_FORMAT, "%s", path); /* escapes what is no text */
        text = json_string(rv_err_text());
    }
    return text;
}

/* What rv_err_text says of a file or a folder is kept for the end. */
static rv_err leave_out(importing *job, const char *path, rv_err e)
{
    if (e == RV_E_NOMEM) {
        return e;
    }
    if (!job->first) {
        job->first = e;
        snprintf(job->why, sizeof job->why, "%s", rv_err_text());
    }
    job->failed++;
    job->done->failed++;
    if (!job->done->failed_files) {
        return RV_OK;
    }
    json_t *why = json_string(rv_err_text()), *o = json_object();
    json_object_set_new(o, "path", path_json(path));
    json_object_set_new(o, "why", why);
    return json_array_append_new(job->done->failed_files, o) == 0
               ? RV_OK
               : rv_fail(RV_E_NOMEM, "no memory for a list of files");
}

/* ---- folders ---- */

typedef struct list {
    const rv_alloc *mem;
    char **at;
    size_t n, room;
} list;

static void free_list(list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        rv_free(l->mem, l->at[i]);
    }
    rv_free(l->mem, l->at);
    *l = (list){ .mem = l->mem };
}

/* Takes over path; NULL is out of memory. */
static rv_err put_path(list *l, char *path)
{
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        char **at = room <= FILES_MAX ? rv_resize(l->mem, l->at, room * sizeof *at) : NULL;
        if (!at) {
            rv_free(l->mem, path);
            return rv_fail(RV_E_NOMEM, "no memory for a list of %zu files", room);
        }
        l->at = at;
        l->room = room;
    }
    if (!path) {
        return rv_fail(RV_E_NOMEM, "no memory for a list of files");
    }
    l->at[l->n++] = path;
    return RV_OK;
}

/* One entry of a folder. Hidden ones, links and what we do not read are left out. */
static rv_err put_entry(const char *folder, const char *name, list *files, list *folders)
{
    struct stat st;
    char *path = rv_path_join(files->mem, folder, name);
    if (!path) {
        return rv_fail(RV_E_NOMEM, "no memory for a list of files");
    }
    int why = lstat(path, &st) == 0 ? 0 : errno;
    if (!why && S_ISDIR(st.st_mode)) {
        return put_path(folders, path);
    }
    if (!why && S_ISREG(st.st_mode) && rv_file_kind_of(path) != RV_FILE_KINDS) {
        return put_path(files, path);
    }
    rv_free(files->mem, path);
    return why == 0 || why == ENOENT
               ? RV_OK
               : rv_fail(RV_E_IO, "%s: cannot look at what is in the folder: %s", folder, strerror(why));
}

/* What we read of one folder into files, folders into folders. */
static rv_err read_folder(const char *folder, list *files, list *folders)
{
    DIR *dir = opendir(folder);
    if (!dir) {
        return rv_fail(RV_E_IO, "%s: cannot read the folder: %s", folder, strerror(errno));
    }
    rv_err e = RV_OK;
    errno = 0;
    for (const struct dirent *entry_at; !e && (entry_at = readdir(dir)); errno = 0) {
        if (entry_at->d_name[0] != '.') {
            e = put_entry(folder, entry_at->d_name, files, folders);
        }
    }
    if (!e && errno) {
        e = rv_fail(RV_E_IO, "%s: cannot read the folder: %s", folder, strerror(errno));
    }
    closedir(dir);
    return e;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All that we read below a folder; a folder that cannot be read is left out. */
static rv_err walk(importing *job, const char *root, list *files)
{
    list folders = { .mem = files->mem };
    rv_err e = put_path(&folders, rv_strdup(files->mem, root));
    for (size_t i = 0; !e && i < folders.n; i++) { /* grows while it is walked */
        e = read_folder(folders.at[i], files, &folders);
        e = e ? leave_out(job, folders.at[i], e) : e;
    }
    free_list(&folders);
    return e;
}

/* In order, each once. */
static void sort_paths(list *l)
{
    size_t n = 0;
    if (l->n > 0) {
        qsort(l->at, l->n, sizeof *l->at, by_path);
    }
    for (size_t i = 0; i < l->n; i++) {
        if (n > 0 && strcmp(l->at[n - 1], l->at[i]) == 0) {
            rv_free(l->mem, l->at[i]);
        } else {
            l->at[n++] = l->at[i];
        }
    }
    l->n = n;
}

/* A file that we read, or all of them below a folder, which is one of roots then. */
static rv_err list_files(importing *job, const char *path, list *files, list *roots)
{
    struct stat st;
    rv_err e;
    char *whole = realpath(path, NULL); /* so that a file is known again from another folder */
    if (!whole || stat(whole, &st) < 0) {
        e = rv_fail(errno == ENOMEM                       ? RV_E_NOMEM
                    : errno == ENOENT || errno == ENOTDIR ? RV_E_NOT_FOUND
                                                          : RV_E_IO,
                    "%s: %s", path, strerror(errno));
        e = leave_out(job, path, e);
    } else if (S_ISDIR(st.st_mode)) {
        e = put_path(roots, rv_strdup(files->mem, whole));
        e = e ? e : walk(job, whole, files);
    } else if (rv_file_kind_of(whole) != RV_FILE_KINDS) {
        e = put_path(files, rv_strdup(files->mem, whole));
    } else {
        e = leave_out(
            job, path,
            rv_fail(RV_E_ARG, "%s: expected a .txt, .md, .html, .pdf or .jsonl file, or a folder", path));
    }
    free(whole);
    return e;
}

static uint64_t bytes_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0; /* reading it will tell */
}

rv_err rv_import_tell(const importing *job, const char *path, size_t bytes)
{
    uint64_t done = job->read + bytes;
    bool on =
        !job->progress || job->progress(job->self, path, done < job->total ? done : job->total, job->total);
    return on ? RV_OK : rv_fail(RV_E_CANCELLED, "stopped");
}

/* A file that cannot be read does not keep the others out. */
static rv_err import_files(importing *job, const list *files)
{
    rv_err e = RV_OK;
    for (size_t i = 0; i < files->n; i++) {
        job->total += bytes_of(files->at[i]);
    }
    for (size_t i = 0; !e && i < files->n; i++) {
        bool own = false;
        job->done->left = files->n - i;
        e = import_file(job, files->at[i], &own);
        e = e && own ? leave_out(job, files->at[i], e) : e;
        if (e) {
            break;
        }
        job->read += bytes_of(files->at[i]);
        e = rv_import_tell(job, files->at[i], 0);
        e = --job->done->left ? e : RV_OK; /* there is nothing left to be stopped */
    }
    return e != RV_E_CANCELLED
               ? e
               : rv_fail(e, "stopped: %zu of %zu files are still to be read; the same command goes on there",
                         job->done->left, files->n);
}

/* ---- documents whose files are no longer there ---- */

static bool is_gone(const char *path)
{
    struct stat st;
    return lstat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

static rv_err put_gone(const importing *job, int64_t id, const char *path)
{
    job->done->gone++;
    if (!job->done->gone_files) {
        return RV_OK;
    }
    json_t *o = json_object();
    json_object_set_new(o, "id", json_integer(id));
    json_object_set_new(o, "path", path_json(path));
    return json_array_append_new(job->done->gone_files, o) == 0
               ? RV_OK
               : rv_fail(RV_E_NOMEM, "no memory for a list of files");
}

/* Of one folder: paths from "FOLDER/" to below "FOLDER0", the letter after the slash. */
static rv_err find_gone(const importing *job, sqlite3 *conn, const char *root)
{
    rv_text from, to;
    sqlite3_stmt *stmt = NULL;
    rv_text_init(&from, job->m->mem, SIZE_MAX);
    rv_text_init(&to, job->m->mem, SIZE_MAX);
    const char *below = strcmp(root, "/") == 0 ? "" : root;
    rv_text_addf(&from, "%s/", below);
    rv_text_addf(&to, "%s%c", below, '/' + 1);
    rv_err e = rv_text_check(&from);
    e = e ? e : rv_text_check(&to);
    e = e ? e
          : rv_db_prepare(
                conn, &stmt,
                "SELECT node, path FROM documents WHERE user=?1 AND path>?2 AND path<?3 ORDER BY path", "ttt",
                job->scope.user, rv_text_get(&from), rv_text_get(&to));
    for (bool row = true; !e && row;) {
        e = rv_db_step(stmt, &row);
        const char *path = !e && row ? (const char *)sqlite3_column_text(stmt, 1) : NULL;
        if (path && is_gone(path)) {
            e = put_gone(job, sqlite3_column_int64(stmt, 0), path);
        }
    }
    sqlite3_finalize(stmt);
    rv_text_deinit(&from);
    rv_text_deinit(&to);
    return e;
}

/* Does one of the folders before this one hold it? */
static bool lies_in_another(const list *roots, size_t i)
{
    bool inside = false;
    for (size_t k = 0; k < i; k++) {
        size_t n = strlen(roots->at[k]);
        inside |= strncmp(roots->at[i], roots->at[k], n) == 0 &&
                  (roots->at[i][n] == '/' || roots->at[k][n - 1] == '/');
    }
    return inside;
}

/* roots: sorted. */
static rv_err find_all_gone(const importing *job, const list *roots)
{
    sqlite3 *conn;
    if (roots->n == 0) {
        return RV_OK;
    }
    RV_TRY(rv_db_reader(job->m->db, &conn));
    rv_err e = RV_OK;
    for (size_t i = 0; !e && i < roots->n; i++) {
        e = lies_in_another(roots, i) ? RV_OK : find_gone(job, conn, roots->at[i]);
    }
    rv_db_reader_done(job->m->db, conn);
    return e;
}

static rv_err begin(importing *job, const char *const *tags, size_t n_tags)
{
    RV_TRY(rv_memory_check_scope(job->scope, tags, n_tags));
    job->tags = tags;
    job->n_tags = n_tags;
    rv_text_init(&job->joined_tags, job->m->mem, RV_MEMORY_TAGS_MAX * (RV_MEMORY_TAG_BYTES + 1));
    return rv_memory_join_tags(job->m->mem, tags, n_tags, &job->joined_tags);
}

rv_err rv_memory_import_paths(rv_memory *m, rv_memory_scope scope, const char *const *paths, size_t n_paths,
                              const char *const *tags, size_t n_tags, rv_memory_progress progress, void *self,
                              rv_memory_import *done)
{
    importing job = { .m = m, .scope = scope, .done = done, .progress = progress, .self = self };
    RV_TRY(begin(&job, tags, n_tags));
    list files = { .mem = m->mem }, roots = { .mem = m->mem };
    rv_err e = RV_OK;
    for (size_t i = 0; !e && i < n_paths; i++) {
        e = list_files(&job, paths[i], &files, &roots);
    }
    sort_paths(&files);
    sort_paths(&roots);
    size_t n_files = files.n + job.failed;
    e = e ? e : import_files(&job, &files);
    e = e ? e : find_all_gone(&job, &roots);
    free_list(&files);
    free_list(&roots);
    rv_text_deinit(&job.joined_tags);
    return e            ? e
           : !job.first ? RV_OK
           : n_files == 1
               ? rv_err_set_text(job.first, job.why)
               : rv_fail(job.first, "%zu of %zu were left out, the first: %s", job.failed, n_files, job.why);
}

/* A name from outside is no way into our folders: one relative path, without a step up. */
static rv_err check_name(const char *name)
{
    size_t n = strlen(name);
    bool good = n > 0 && n <= NAME_BYTES && rv_utf8_valid(name, n) && name[0] != '/' && !strchr(name, '\\');
    for (size_t i = 0; good && i < n; i++) {
        good = (unsigned char)name[i] >= ' ' && name[i] != 127;
    }
    for (const char *at = name; good && *at;) {
        size_t part = strcspn(at, "/");
        good = part > 0 && at[0] != '.';
        at += part + (at[part] == '/');
    }
    if (!good || name[n - 1] == '/') {
        return rv_fail(RV_E_ARG,
                       "name: expected a relative path like notes/trip.md, of at most %d bytes, no part of "
                       "which begins with a period",
                       NAME_BYTES);
    }
    return rv_file_kind_of(name) != RV_FILE_KINDS
               ? RV_OK
               : rv_fail(RV_E_ARG, "name: expected one that ends in .txt, .md, .html, .pdf or .jsonl");
}

rv_err rv_memory_import_bytes(rv_memory *m, rv_memory_scope scope, const char *name, const char *bytes,
                              size_t n, const char *const *tags, size_t n_tags, rv_memory_import *done)
{
    importing job = { .m = m, .scope = scope, .done = done };
    RV_TRY(check_name(name));
    rv_err e = begin(&job, tags, n_tags);
    size_t n_chunks = 0;
    e = e ? e : import_bytes(&job, name, rv_file_kind_of(name), bytes, n, &n_chunks);
    rv_text_deinit(&job.joined_tags);
    return e;
}
