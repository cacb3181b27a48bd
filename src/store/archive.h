/* Cold files: text that is seldom asked for leaves the database for DATA/archive, as one zstd frame a file. A file never changes; it counts once
 * the row that names it is committed, and its bytes are on the disk before that. Format: docs/formats/archive.md. */
#ifndef RV_STORE_ARCHIVE_H
#define RV_STORE_ARCHIVE_H
#include "store/db.h"

#define RV_ARCHIVE_TEXT_MAX (64u << 20) /* bytes of text in a file */

/** rv_archive_setup - its table, and the folder; files that no row names go. */
rv_err rv_archive_setup(rv_db *db) RV_MUST_CHECK;

/** rv_archive_put - write text [n], 1 .. RV_ARCHIVE_TEXT_MAX bytes, as a file, and its row within the caller's transaction; *id names it.
 * Errors: RV_E_ARG the size.  RV_E_IO, RV_E_NO_SPACE, RV_E_NOMEM: the caller rolls back. */
rv_err rv_archive_put(rv_db *db, sqlite3 *conn, const char *text, size_t n, int64_t *id) RV_MUST_CHECK;

/** rv_archive_get - the text of a file, the caller's, with a zero behind it that is not counted. RV_E_NOT_FOUND no row names it.
 * RV_E_CORRUPT the file is damaged; RV_E_IO it cannot be read. Any thread. */
rv_err rv_archive_get(const rv_alloc *mem, rv_db *db, sqlite3 *conn, int64_t id, char **text,
                      size_t *n) RV_MUST_CHECK;

/** rv_archive_drop - no row names it any more, within the caller's transaction; rv_archive_sweep removes files that no row names, once that is
 * committed. Nothing may be put meanwhile. */
rv_err rv_archive_drop(sqlite3 *conn, int64_t id) RV_MUST_CHECK;
rv_err rv_archive_sweep(rv_db *db) RV_MUST_CHECK;

/** rv_archive_unpack - bytes of a file to text, as rv_archive_get does: a frame that tells its size, of at most RV_ARCHIVE_TEXT_MAX, and nothing
 * behind it. RV_E_FORMAT what is wrong. */
rv_err rv_archive_unpack(const rv_alloc *mem, const void *bytes, size_t size, char **text,
                         size_t *n) RV_MUST_CHECK;
#endif
