/* Any bytes are rows of vectors that can all be read, or are refused. */
#include "vector/vecs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *file = malloc(n ? n : 1); /* of exactly this size */
    rv_vecs vecs = { 0 };
    assert(file);
    memcpy(file, data, n);
    if (rv_vecs_read(file, n, &vecs) == RV_OK) {
        assert(vecs.n > 0 && vecs.n * (4 + 4 * vecs.dim) == n);
        uint32_t sum = 0;
        for (size_t i = 0; i < vecs.n; i++) {
            const uint8_t *row = rv_vecs_row(&vecs, i);
            for (size_t b = 0; b < 4 * vecs.dim; b++) {
                sum += row[b];
            }
        }
        (void)sum;
    }
    free(file);
    return 0;
}
