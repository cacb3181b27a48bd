/* For fuzzing of index files: puts the checksums of a damaged one right again (docs/formats/index.md), as somebody does who writes such a
 * file on purpose; compares answers. */
#ifndef RV_FUZZ_VECTOR_SUMS_H
#define RV_FUZZ_VECTOR_SUMS_H
#include "vector/index.h"
#include "base/rng.h"

#include <string.h>

enum { SUMS_HEADER = 4096, SUMS_AT = 144, SUMS_PAGE = 65536 };

static inline void fix_header(uint8_t *file)
{
    uint64_t sum = rv_hash64(file, SUMS_HEADER - 8, 0);
    memcpy(file + SUMS_HEADER - 8, &sum, 8);
}

/* Of pages as long as the header names a place for their sums. The header first: it lies in one. */
static inline void fix_pages(uint8_t *file, size_t n_file)
{
    uint64_t end, sum;
    memcpy(&end, file + SUMS_AT, 8);
    if (end < SUMS_HEADER || end > n_file || n_file - end != (end + SUMS_PAGE - 1) / SUMS_PAGE * 8 + 8) {
        return;
    }
    uint8_t *sums = file + end;
    size_t n = 0;
    for (size_t at = 0; at < end; at += SUMS_PAGE, n++) {
        sum = rv_hash64(file + at, end - at < SUMS_PAGE ? end - at : SUMS_PAGE, 0);
        memcpy(sums + 8 * n, &sum, 8);
    }
    sum = rv_hash64(sums, 8 * n, 0);
    memcpy(sums + 8 * n, &sum, 8);
}

static inline bool same_hits(const rv_hit *a, const rv_hit *b, size_t n)
{
    size_t same = 0;
    while (same < n && a[same].id == b[same].id && a[same].score == b[same].score) {
        same++;
    }
    return same == n;
}
#endif
