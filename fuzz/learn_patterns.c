/* Any bytes are patterns that can be searched, asked and written again, or are refused. */
#include "learn/patterns.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    rv_patterns *p = NULL;
    if (rv_patterns_read(&rv_heap, data, n, &p)) {
        return 0;
    }
    float *v = calloc(rv_patterns_dim(p), sizeof *v);
    uint8_t *out = malloc(rv_patterns_bytes(p));
    assert(v && out && rv_patterns_bytes(p) == n && rv_patterns_check(p) == RV_OK);
    v[0] = 1;
    if (rv_patterns_seal(p) == RV_OK) {
        size_t at = rv_patterns_find(p, v, NULL);
        for (size_t m = 0; m < RV_PATTERN_MODELS && *rv_patterns_model_name(p, m); m++) {
            rv_pattern_advice a = rv_patterns_advise(p, at, m);
            assert(a.model <= RV_PATTERN_MODELS && a.model != m);
        }
    }
    rv_patterns_write(p, out);
    free(out);
    free(v);
    rv_patterns_free(p);
    return 0;
}
