#include "store/archive.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/rng.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

enum { PATH_MAX_BYTES = 4096 };

static const char *const steps[] = {
    "CREATE TABLE archive(id INTEGER PRIMARY KEY AUTOINCREMENT, bytes INTEGER NOT NULL, digest INTEGER NOT "
    "NULL, "
    "created_ms INTEGER NOT NULL) STRICT",
};

static void folder_of(const rv_db *db, char path[PATH_MAX_BYTES])
{
    snprintf(path, PATH_MAX_BYTES, "%s/archive", rv_db_dir(db));
}

static void path_of(const rv_db *db, int64_t id, char path[PATH_MAX_BYTES])
{
    snprintf(path, PATH_MAX_BYTES, "%s/archive/%lld.zst", rv_db_dir(db), (long long)id);
}

rv_err rv_archive_setup(rv_db *db)
{
    RV_TRY(rv_db_migrate(db, "archive", steps, RV_COUNT(steps)));
    return rv_archive_sweep(db);
}

/* ---- writing ---- */

static rv_err pack(const char *text, size_t n, char **out, size_t *size)
{
    size_t room = ZSTD_compressBound(n);
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    char *bytes = rv_new(&rv_heap, room);
    rv_err e = ctx && bytes ? RV_OK : rv_fail(RV_E_NOMEM, "archive: no memory to compress %zu bytes", n);
    if (!e) {
        ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 1); /* for who reads it with other tools */
        *size = ZSTD_compress2(ctx, bytes, room, text, n);
        if (ZSTD_isError(*size)) {
            e = rv_fail(RV_E_NOMEM, "archive: compressing: %s", ZSTD_getErrorName(*size));
        }
    }
    ZSTD_freeCCtx(ctx);
    if (e) {
        rv_free(&rv_heap, bytes);
        return e;
    }
    *out = bytes;
    return RV_OK;
}

rv_err rv_archive_put(rv_db *db, sqlite3 *conn, const char *text, size_t n, int64_t *id)
{
    char path[PATH_MAX_BYTES], *bytes;
    size_t size;
    if (n == 0 || n > RV_ARCHIVE_TEXT_MAX) {
        return rv_fail(RV_E_ARG, "archive: %zu bytes of text, allowed are 1 to %u", n, RV_ARCHIVE_TEXT_MAX);
    }
    folder_of(db, path);
    RV_TRY(rv_dir_make(path));
    RV_TRY(pack(text, n, &bytes, &size));
    rv_err e = rv_db_exec(conn, "INSERT INTO archive(bytes, digest, created_ms) VALUES(?1, ?2, ?3)", "iii",
                          (int64_t)size, (int64_t)rv_hash64(bytes, size, 0), rv_clock_wall_ms());
    if (!e) {
        *id = sqlite3_last_insert_rowid(conn);
        path_of(db, *id, path);
        e = rv_file_replace(
            path, bytes,
            size); /* one that nothing names may be there, of a transaction that was rolled back */
    }
    rv_free(&rv_heap, bytes);
    return e;
}

/* ---- reading ---- */

rv_err rv_archive_unpack(const rv_alloc *mem, const void *bytes, size_t size, char **text, size_t *n)
{
    unsigned long long told = ZSTD_getFrameContentSize(bytes, size);
    if (told == ZSTD_CONTENTSIZE_ERROR || told == ZSTD_CONTENTSIZE_UNKNOWN || told > RV_ARCHIVE_TEXT_MAX) {
        return rv_fail(RV_E_FORMAT, "archive: not a zstd frame that tells its size, of at most %u bytes",
                       RV_ARCHIVE_TEXT_MAX);
    }
    size_t frame = ZSTD_findFrameCompressedSize(bytes, size);
    if (ZSTD_isError(frame) || frame != size) {
        return rv_fail(RV_E_FORMAT, "archive: %zu bytes are not one zstd frame", size);
    }
    char *out = rv_new(mem, (size_t)told + 1);
    if (!out) {
        return rv_fail(RV_E_NOMEM, "archive: no memory for %llu bytes of text", told);
    }
    size_t got = ZSTD_decompress(out, (size_t)told, bytes, size);
    if (ZSTD_isError(got) || got != told) {
        rv_free(mem, out);
        return rv_fail(RV_E_FORMAT, "archive: the frame does not unpack: %s",
                       ZSTD_isError(got) ? ZSTD_getErrorName(got) : "it is shorter than it tells");
    }
    out[got] = 0;
    *text = out;
    *n = got;
    return RV_OK;
}

static rv_err read_row(sqlite3 *conn, int64_t id, int64_t *size, int64_t *digest)
{
    sqlite3_stmt *s;
    bool row = false;
    RV_TRY(rv_db_prepare(conn, &s, "SELECT bytes, digest FROM archive WHERE id=?1", "i", id));
    rv_err e = rv_db_step(s, &row);
    if (!e && !row) {
        e = rv_fail(RV_E_NOT_FOUND, "archive: no file has the number %lld", (long long)id);
    }
    if (!e) {
        *size = sqlite3_column_int64(s, 0);
        *digest = sqlite3_column_int64(s, 1);
    }
    sqlite3_finalize(s);
    return e;
}

rv_err rv_archive_get(const rv_alloc *mem, rv_db *db, sqlite3 *conn, int64_t id, char **text, size_t *n)
{
    char path[PATH_MAX_BYTES], *bytes;
    int64_t size, digest;
    size_t got;
    RV_TRY(read_row(conn, id, &size, &digest));
    path_of(db, id, path);
    RV_TRY(rv_file_read(mem, path, ZSTD_compressBound(RV_ARCHIVE_TEXT_MAX), &bytes, &got));
    rv_err e = (int64_t)got == size && (int64_t)rv_hash64(bytes, got, 0) == digest
                   ? rv_archive_unpack(mem, bytes, got, text, n)
                   : rv_fail(RV_E_CORRUPT,
                             "%s: %zu bytes, expected %lld with another checksum; restore it from a backup",
                             path, got, (long long)size);
    rv_free(mem, bytes);
    return e;
}

/* ---- removing ---- */

rv_err rv_archive_drop(sqlite3 *conn, int64_t id)
{
    return rv_db_exec(conn, "DELETE FROM archive WHERE id=?1", "i", id);
}

rv_err rv_archive_sweep(rv_db *db)
{
    char folder[PATH_MAX_BYTES], path[PATH_MAX_BYTES + 300];
    sqlite3 *conn;
    folder_of(db, folder);
    DIR *files = opendir(folder);
    if (!files) {
        return errno == ENOENT ? RV_OK
                               : rv_fail(RV_E_IO, "%s: cannot read the folder: %s", folder, strerror(errno));
    }
    size_t removed = 0;
    rv_err e = rv_db_reader(db, &conn);
    if (e) {
        closedir(files);
        return e;
    }
    for (const struct dirent *entry; !e && (entry = readdir(files));) {
        char *end = NULL;
        int64_t known = 0;
        long long id = strtoll(entry->d_name, &end, 10);
        if (end == entry->d_name || id <= 0 || strncmp(end, ".zst", 4) != 0) {
            continue; /* not ours; what begins so is, also when it was cut short beside its name */
        }
        e = strcmp(end, ".zst") == 0
                ? rv_db_int(conn, &known, "SELECT count(*) FROM archive WHERE id=?1", "i", (int64_t)id)
                : RV_OK;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (!e && !known && unlink(path) < 0) {
            e = rv_fail(RV_E_IO, "%s: cannot be removed: %s", path, strerror(errno));
        }
        removed += !e && !known;
    }
    closedir(files);
    rv_db_reader_done(db, conn);
    return e || removed == 0 ? e : rv_dir_sync(folder);
}
