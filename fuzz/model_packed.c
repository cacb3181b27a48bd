/* Any bytes as a file of packed weights: refused with a sentence, or whole: then another bit anywhere is noticed. */
#include "base/alloc.h"
#include "model/packed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint64_t fingerprint = 0, bytes = n & 0xffff;
    if (n >= 32) { /* what it says of itself, so that more than the first check is reached */
        memcpy(&fingerprint, data + 16, sizeof fingerprint);
        memcpy(&bytes, data + 24, sizeof bytes);
    }
    if (rv_packed_check(data, n, fingerprint, (size_t)bytes, NULL)) {
        assert(*rv_err_text());
        return 0;
    }
    uint8_t *copy = malloc(n);
    if (copy) {
        memcpy(copy, data, n);
        copy[n - 1] ^= 1;
        rv_err e = rv_packed_check(copy, n, fingerprint, (size_t)bytes, NULL);
        assert(e);
        free(copy);
    }
    return 0;
}
