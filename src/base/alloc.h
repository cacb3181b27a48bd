/* Allocators. Long-lived objects take a const rv_alloc * when made and use only that, so tests can hand in one that
 * fails at the n-th call. rv_heap is malloc. */
#ifndef RV_BASE_ALLOC_H
#define RV_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* resize: old NULL gives a new block; bytes 0 frees and returns NULL.
 * aligned: a block that is released with resize(self, p, 0) and never resized otherwise. */
typedef struct rv_alloc {
    void *self;
    void *(*resize)(void *self, void *old, size_t bytes);
    void *(*aligned)(void *self, size_t align, size_t bytes);
} rv_alloc;

/* Threads: any thread. Other allocators say so themselves; the functions below add nothing to lock. */
extern const rv_alloc rv_heap;

/** rv_new - zeroed block of bytes (> 0), or NULL. */
void *rv_new(const rv_alloc *mem, size_t bytes);

/** rv_new_array - zeroed block for count things of size bytes, or NULL; also when the product overflows. count may be 0. */
void *rv_new_array(const rv_alloc *mem, size_t count, size_t size);

/** rv_new_aligned - zeroed block whose address is a multiple of align (a power of two, 8 or more), or NULL. Freed with
 * rv_free; not for rv_resize. */
void *rv_new_aligned(const rv_alloc *mem, size_t align, size_t bytes);

/** rv_resize - like realloc with bytes > 0; on failure NULL and the old block stays. New bytes are not zeroed. */
void *rv_resize(const rv_alloc *mem, void *old, size_t bytes);

/** rv_free - gives a block back to the allocator it came from; accepts NULL. */
void rv_free(const rv_alloc *mem, void *p);

/** rv_strdup, rv_strndup - a terminated copy, or NULL. rv_strndup copies exactly n bytes, zeros included. */
char *rv_strdup(const rv_alloc *mem, const char *text);
char *rv_strndup(const rv_alloc *mem, const char *text, size_t n);

/** rv_mul_size, rv_add_size - *out = a op b and true; false and *out untouched on overflow. Sizes from outside go through
 * these before use. */
bool rv_mul_size(size_t a, size_t b, size_t *out);
bool rv_add_size(size_t a, size_t b, size_t *out);

#endif
