#include "vector/pages.h"
#include "base/rng.h"

#include <string.h>
#include <sys/mman.h>

rv_err rv_pages_new(const rv_alloc *mem, const uint8_t *file, size_t bytes, rv_pages **out)
{
    const size_t n = (bytes + RV_PAGE_BYTES - 1) / RV_PAGE_BYTES;
    uint64_t sum;
    memcpy(&sum, file + bytes + n * 8, 8);
    if (sum != rv_hash64(file + bytes, n * 8, 0)) {
        return rv_fail(RV_E_CORRUPT, "index file: the checksum of the checksums does not match");
    }
    rv_pages *p = rv_new(mem, sizeof *p);
    _Atomic(uint8_t) *seen = p ? rv_new_array(mem, n, sizeof *seen) : NULL;
    if (!seen) {
        rv_free(mem, p);
        return rv_fail(RV_E_NOMEM, "no memory to open an index");
    }
    p->mem = mem;
    p->file = file;
    p->sums = file + bytes;
    p->n = n;
    p->bytes = bytes;
    p->seen = seen;
    atomic_store(&p->left, n);
    *out = p;
    return RV_OK;
}

void rv_pages_free(rv_pages *p)
{
    if (p) {
        rv_free(p->mem, (void *)p->seen);
        rv_free(p->mem, p);
    }
}

static void compare_page(rv_pages *p, size_t page)
{
    const size_t at = page * RV_PAGE_BYTES, n = p->bytes - at < RV_PAGE_BYTES ? p->bytes - at : RV_PAGE_BYTES;
    uint64_t sum;
    memcpy(&sum, p->sums + page * 8, 8);
    if (sum != rv_hash64(p->file + at, n, 0)) {
        size_t none = 0;
        atomic_compare_exchange_strong(&p->damaged, &none, page + 1);
    }
    if (!atomic_exchange_explicit(&p->seen[page], 1, memory_order_acq_rel)) {
        atomic_fetch_sub_explicit(&p->left, 1, memory_order_acq_rel);
    }
}

void rv_pages_compare(rv_pages *p, const void *at, size_t n)
{
    const size_t from = (size_t)((const uint8_t *)at - p->file), to = from + n;
    for (size_t page = from / RV_PAGE_BYTES; page * RV_PAGE_BYTES < to; page++) {
        if (!atomic_load_explicit(&p->seen[page], memory_order_acquire)) {
            compare_page(p, page);
        }
    }
}

rv_err rv_pages_state(const rv_pages *p)
{
    const size_t page = p ? atomic_load_explicit(&p->damaged, memory_order_acquire) : 0;
    if (page == 0) {
        return RV_OK;
    }
    const size_t at = (page - 1) * RV_PAGE_BYTES,
                 to = at + RV_PAGE_BYTES < p->bytes ? at + RV_PAGE_BYTES : p->bytes;
    return rv_fail(RV_E_CORRUPT, "index file: bytes %zu to %zu are damaged", at, to);
}

/* A run at a time into this process's page tables first, by one call instead of a fault for every few pages. */
static void look_through(rv_pages *p, size_t from, size_t to)
{
    enum { RUN = 2 << 20 };
    for (size_t at = from / RV_PAGE_BYTES * RV_PAGE_BYTES; at < to; at += RUN) {
        const size_t n = to - at < RUN ? to - at : RUN;
#ifdef MADV_POPULATE_READ
        const size_t system_page = 4096, begin = (size_t)(p->file + at) / system_page * system_page;
        (void)madvise((void *)begin, (size_t)(p->file + at) + n - begin,
                      MADV_POPULATE_READ); /* refused: only slower */
#endif
        rv_pages_compare(p, p->file + at, n);
    }
}

rv_err rv_pages_check(rv_pages *p)
{
    if (p) {
        look_through(p, 0, p->late);
        look_through(p, p->late_end, p->bytes);
        look_through(p, p->late, p->late_end);
    }
    return rv_pages_state(p);
}
