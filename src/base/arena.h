/* Arena: what a request builds is never freed one by one; it goes when the arena goes. Created with its maximum.
 * Threads: one thread at a time. */
#ifndef RV_BASE_ARENA_H
#define RV_BASE_ARENA_H

#include "base/alloc.h"
#include "base/err.h"

typedef struct rv_arena rv_arena;

/** rv_arena_new - an empty arena that hands out at most max_bytes (rounding to 16 counted). Blocks of 4 KiB and more come
 * from mem when they are needed. Errors: RV_E_NOMEM. */
rv_err rv_arena_new(const rv_alloc *mem, size_t max_bytes, rv_arena **out) RV_MUST_CHECK;
void rv_arena_free(rv_arena *arena); /* accepts NULL */

/** rv_arena_take - zeroed bytes, aligned to 16, valid until the arena is freed or reset; NULL when the maximum or the memory
 * is used up (the arena stays usable). */
void *rv_arena_take(rv_arena *arena, size_t bytes);

/** rv_arena_strndup, rv_arena_strdup, rv_arena_printf - a terminated text in the arena, or NULL like rv_arena_take. */
char *rv_arena_strndup(rv_arena *arena, const char *text, size_t n);
char *rv_arena_strdup(rv_arena *arena, const char *text);
char *rv_arena_printf(rv_arena *arena, const char *format, ...) RV_PRINTF(2, 3);

/** rv_arena_used - bytes handed out since it was made or reset. */
size_t rv_arena_used(const rv_arena *arena);

/** rv_arena_reset - drop everything handed out, keep the first block. */
void rv_arena_reset(rv_arena *arena);

#endif
