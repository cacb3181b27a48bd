/* Files as the rest needs them: whole reads with a limit, mapping, atomic replace, private folders. Every message begins with
 * the path. Errors: RV_E_NOT_FOUND no such name; RV_E_IO what the system says; RV_E_ARG a path that is too long.
 * Threads: any thread. */
#ifndef RV_BASE_FILE_H
#define RV_BASE_FILE_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"
#include <stdint.h>

typedef struct rv_map {
    const uint8_t *at; /* NULL when the file is empty */
    size_t n;
} rv_map;

/** rv_file_map - the regular file mapped read-only; RV_E_IO for a folder or pipe. Immutable, any thread. Whoever cuts the
 * file short while it is mapped kills the reader with SIGBUS: files that we map are replaced, never rewritten. */
rv_err rv_file_map(const char *path, rv_map *out) RV_MUST_CHECK;
void rv_file_unmap(rv_map *map); /* accepts an empty one, and leaves an empty one */

/** rv_file_read - whole file, terminated with a zero that is not counted. "-" is standard input.
 * Errors: RV_E_TOO_LARGE more than max bytes.  RV_E_NOMEM.  RV_E_IO also for a folder or pipe (it is not waited for). */
rv_err rv_file_read(const rv_alloc *mem, const char *path, size_t max, char **out, size_t *n) RV_MUST_CHECK;

/** rv_file_replace - write beside, sync, rename over, sync the folder: old content or new, never a mixture. Mode 0600.
 * After an error the old file is there, unless the message says that only the folder could not be synced. */
rv_err rv_file_replace(const char *path, const void *bytes, size_t n) RV_MUST_CHECK;

/** rv_fd_write - all of it. path: for the message. */
rv_err rv_fd_write(const char *path, int fd, const void *bytes, size_t n) RV_MUST_CHECK;

/** rv_dir_make - the folder and its missing parents, 0700 each, durable. Exists already: fine. */
rv_err rv_dir_make(const char *path) RV_MUST_CHECK;

/** rv_dir_sync - make names created or renamed in the folder durable. */
rv_err rv_dir_sync(const char *path) RV_MUST_CHECK;

/** rv_file_exists - something of that name is there; what, opening it will tell. */
bool rv_file_exists(const char *path);

/** rv_path_join - "a/b" into an allocated string; b absolute, or a empty, gives b. NULL without memory. */
char *rv_path_join(const rv_alloc *mem, const char *a, const char *b);
#endif
