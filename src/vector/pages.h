/* The pages of a mapped index file. None is believed before its bytes were compared with its checksum, which is done once, by
 * whoever comes first: a search that reads there, or the thread that looks through all of them meanwhile. What a damaged page
 * holds may have been read by then, so a search that met one has no answer: rv_pages_state after it tells.
 *
 * Threads: all of them, together. */
#ifndef RV_VECTOR_PAGES_H
#define RV_VECTOR_PAGES_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define RV_PAGE_BYTES ((size_t)65536)

typedef struct rv_pages {
    const rv_alloc *mem;
    const uint8_t *file, *sums; /* XXH64 of each page, then of these */
    size_t n, bytes;            /* pages, and what they hold */
    size_t late, late_end;      /* bytes that few searches read: looked through last */
    _Atomic(size_t) left;       /* pages that nobody has compared yet */
    _Atomic(size_t) damaged;    /* one more than the first that was found so; 0: none */
    _Atomic(uint8_t) *seen;     /* [n] */
} rv_pages;

/** rv_pages_new - of the first bytes of a file, whose sums follow them. RV_E_CORRUPT the sums are damaged.  RV_E_NOMEM.
 *  rv_pages_free - accepts NULL. */
rv_err rv_pages_new(const rv_alloc *mem, const uint8_t *file, size_t bytes, rv_pages **out) RV_MUST_CHECK;
void rv_pages_free(rv_pages *pages);

/** rv_pages_touch - bytes of the file are about to be read. NULL: they are not in a file. */
void rv_pages_compare(rv_pages *pages, const void *at, size_t n);
static inline void rv_pages_touch(rv_pages *pages, const void *at, size_t n)
{
    if (pages && n > 0 && atomic_load_explicit(&pages->left, memory_order_relaxed) > 0) {
        rv_pages_compare(pages, at, n);
    }
}

/** rv_pages_state - RV_E_CORRUPT, with the bytes, when a page that was touched is damaged.
 *  rv_pages_check - the same after all of them were. */
rv_err rv_pages_state(const rv_pages *pages) RV_MUST_CHECK; /* accepts NULL */
rv_err rv_pages_check(rv_pages *pages) RV_MUST_CHECK;       /* accepts NULL */
#endif
