/* Files as the rest needs them: whole reads with a limit, mapping, atomic replace, private folders. */
#ifndef RV_BASE_FILE_H
#define RV_BASE_FILE_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"
#include <stdint.h>

typedef struct rv_map {
    const uint8_t *at;
    size_t n;
} rv_map;

/** rv_file_map - the regular file mapped read-only. RV_E_NOT_FOUND, RV_E_IO (a folder, a pipe, unreadable). */
rv_err rv_file_map(const char *path, rv_map *out) RV_MUST_CHECK;
void rv_file_unmap(rv_map *map); /* accepts an empty one */
/** rv_file_read - whole file, terminated with a zero that is not counted; larger than max: RV_E_TOO_LARGE. "-" is stdin. */
rv_err rv_file_read(const rv_alloc *mem, const char *path, size_t max, char **out, size_t *n) RV_MUST_CHECK;
/** rv_file_replace - write beside, sync, rename over, sync the folder: old content or new, never a mixture. Mode 0600. */
rv_err rv_file_replace(const char *path, const void *bytes, size_t n) RV_MUST_CHECK;
/** rv_dir_make - the folder and its missing parents, 0700 each. Exists already: fine. */
rv_err rv_dir_make(const char *path) RV_MUST_CHECK;
/** rv_dir_sync - make names created or renamed in the folder durable. */
rv_err rv_dir_sync(const char *path) RV_MUST_CHECK;
bool rv_file_exists(const char *path);
/** rv_path_join - "a/b" into an allocated string; b absolute gives b. NULL without memory. */
char *rv_path_join(const rv_alloc *mem, const char *a, const char *b);
#endif
