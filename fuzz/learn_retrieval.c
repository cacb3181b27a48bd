/* Any bytes are a retrieval adapter that turns a vector into one of length 1 and is written as it was read, or are refused. */
#include "learn/retrieval.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    rv_retrieval *r = NULL;
    if (rv_retrieval_read(&rv_heap, data, n, DIM, &r)) {
        assert(!r && *rv_err_text());
        return 0;
    }
    float x[DIM] = { 1 }, y[DIM];
    double length = 0;
    uint8_t *again = malloc(rv_retrieval_file_bytes(r));
    rv_retrieval_apply(r, x, y);
    for (size_t i = 0; i < DIM; i++) {
        length += (double)y[i] * (double)y[i];
    }
    assert(fabs(length - 1) <= 1e-3);
    assert(again && n == rv_retrieval_file_bytes(r));
    rv_retrieval_write(r, again);
    assert(memcmp(again, data, n) == 0);
    free(again);
    rv_retrieval_free(r);
    return 0;
}
