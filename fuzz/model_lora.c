/* Any bytes as an adapter for a small model: refused with a sentence, or whole and finite. */
#include "model/lora.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const rv_lfm2_file *model(void)
{
    static rv_lfm2_file *file;
    if (!file && rv_lfm2_file_open(&rv_heap, RV_SOURCE "/tests/data/golden/a-q8_0.gguf", false, &file)) {
        abort();
    }
    return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *bytes = rv_new_aligned(&rv_heap, 64, n + 1); /* as a mapping would lie */
    if (!bytes) {
        return 0;
    }
    memcpy(bytes, data, n);
    rv_lora *l = NULL;
    rv_err e = rv_lora_open_bytes(&rv_heap, "fuzz", bytes, n, model(), &l);
    assert((e == RV_OK) == (l != NULL) && (l || *rv_err_text()));
    for (size_t i = 0; l && i < l->n_weights; i++) {
        assert(isfinite(l->weights[i]));
    }
    for (size_t i = 0; l && i < l->n_pairs; i++) {
        const rv_lora_pair *p = &l->pairs[i];
        float *x = rv_new_array(&rv_heap, p->cols + p->rows, sizeof *x);
        if (p->rank && x) {
            rv_lora_add(rv_kernels_best(), p, x, 0, p->rows, x + p->cols);
        }
        rv_free(&rv_heap, x);
    }
    rv_lora_close(l);
    rv_free(&rv_heap, bytes);
    return 0;
}
