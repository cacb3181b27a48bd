/* malloc behind rv_alloc, and the checked arithmetic that sizes from outside go through. */
#include "base/alloc.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void *heap_resize(void *self, void *old, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, bytes);
}

static void *heap_aligned(void *self, size_t align, size_t bytes)
{
    (void)self;
    size_t rounded; /* aligned_alloc wants a multiple of the alignment */
    if (!rv_add_size(bytes, align - 1, &rounded)) {
        return NULL;
    }
    return aligned_alloc(align, rounded / align * align);
}

const rv_alloc rv_heap = { .resize = heap_resize, .aligned = heap_aligned };

void *rv_new(const rv_alloc *mem, size_t bytes)
{
    assert(bytes > 0);
    void *p = mem->resize(mem->self, NULL, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void *rv_new_array(const rv_alloc *mem, size_t count, size_t size)
{
    size_t bytes;
    if (!rv_mul_size(count, size, &bytes)) {
        return NULL;
    }
    return rv_new(mem, bytes ? bytes : 1);
}

void *rv_new_aligned(const rv_alloc *mem, size_t align, size_t bytes)
{
    assert(bytes > 0 && align >= sizeof(void *) && (align & (align - 1)) == 0);
    void *p = mem->aligned(mem->self, align, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void *rv_resize(const rv_alloc *mem, void *old, size_t bytes)
{
    assert(bytes > 0);
    return mem->resize(mem->self, old, bytes);
}

void rv_free(const rv_alloc *mem, void *p)
{
    if (p) {
        mem->resize(mem->self, p, 0);
    }
}

char *rv_strdup(const rv_alloc *mem, const char *text)
{
    return rv_strndup(mem, text, strlen(text));
}

char *rv_strndup(const rv_alloc *mem, const char *text, size_t n)
{
    size_t bytes;
    char *copy = rv_add_size(n, 1, &bytes) ? rv_new(mem, bytes) : NULL;
    if (copy && n > 0) {
        memcpy(copy, text, n);
    }
    return copy;
}

bool rv_mul_size(size_t a, size_t b, size_t *out)
{
    if (a != 0 && b > SIZE_MAX / a) {
        return false;
    }
    *out = a * b;
    return true;
}

bool rv_add_size(size_t a, size_t b, size_t *out)
{
    if (b > SIZE_MAX - a) {
        return false;
    }
    *out = a + b;
    return true;
}
