/* Any bytes are weights that rank with finite parameters, or are refused. The first byte chooses whether the checksum is made right
 * again after the fuzzer changed the file. */
#include "attend/attend.h"
#include "base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1) {
        return 0;
    }
    uint8_t *file = malloc(n);
    assert(file);
    memcpy(file, data + 1, n - 1);
    size_t bytes = n - 1;
    if ((data[0] & 1) && bytes >= 8) {
        uint64_t sum = rv_hash64(file, bytes - 8, 0);
        for (int i = 0; i < 8; i++) {
            file[bytes - 8 + (size_t)i] = (uint8_t)(sum >> (8 * i));
        }
    }
    rv_attend_weights *w = NULL;
    if (rv_attend_read(&rv_heap, file, bytes, &w) == RV_OK) {
        size_t dim = rv_attend_dim(w);
        float *query = calloc(dim, sizeof *query), score;
        void *scratch = malloc(rv_attend_scratch_bytes(w, 1));
        assert(query && scratch && rv_attend_file_bytes(w) == bytes);
        query[0] = 1;
        rv_attend_node node = { .vector = query, .hop = 1 };
        rv_attend_rank(w, rv_kernels_at(RV_CPU_SCALAR), query, &node, 1, scratch, &score, NULL);
        free(query);
        free(scratch);
        rv_attend_free(w);
    }
    free(file);
    return 0;
}
