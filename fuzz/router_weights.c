/* Any bytes are weights that decide, or are refused. The checksum is made right first, so that the fuzzer gets past it; the first
 * byte chooses whether that happens, and whether the cell or the past requests are read alone. */
#include "router/grnn.h"
#include "router/router.h"

#include <assert.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { DIGEST = 32, WHOLE = 0, CELL = 1, PAST = 2 };

static void use_cell(const uint8_t *data, size_t n)
{
    rv_grnn *cell;
    size_t used;
    if (rv_grnn_read(&rv_heap, data, n, &used, &cell)) {
        return;
    }
    static float x[RV_GRNN_MAX_INPUT], out[RV_GRNN_MAX_OUTPUTS];
    float h[RV_GRNN_MAX_HIDDEN] = { 0 };
    assert(used == rv_grnn_bytes(cell) && used <= n);
    rv_grnn_step(cell, x, h);
    rv_grnn_head(cell, h, out);
    rv_grnn_free(cell);
}

static void use_past(const uint8_t *data, size_t n)
{
    rv_past *past;
    size_t used;
    if (rv_past_parse(&rv_heap, data, n, 2, 8, &used, &past)) {
        return;
    }
    static const float vector[8] = { 1 };
    static rv_past_text text;
    static rv_past_found found;
    rv_past_read("a few words", 11, &text);
    void *scratch = malloc(rv_past_scratch_bytes(past));
    assert(scratch && used <= n);
    rv_past_find(past, &text, vector, NULL, 0, scratch, &found);
    for (size_t i = 0; i < found.n_words; i++) {
        assert(found.words[i].row < rv_past_rows(past) && found.words[i].likeness <= 1);
    }
    free(scratch);
    rv_past_free(past);
}

static void use_whole(uint8_t *file, size_t n)
{
    unsigned len;
    rv_router *r;
    if (n > DIGEST) {
        EVP_Digest(file, n - DIGEST, file + n - DIGEST, &len, EVP_sha256(), NULL);
    }
    if (rv_router_unpack(&rv_heap, file, n, &r)) {
        return;
    }
    rv_routed out;
    void *scratch = malloc(rv_router_scratch_bytes(r));
    assert(scratch);
    rv_router_route(r, &(rv_slot_input){ .text = "a few words", .n = 11 }, 0, true, scratch, &out);
    assert(out.tier < out.tiers);
    free(scratch);
    rv_router_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1) {
        return 0;
    }
    uint8_t *copy = malloc(n);
    assert(copy);
    memcpy(copy, data + 1, n - 1);
    switch (data[0] % 3) {
    case WHOLE: use_whole(copy, n - 1); break;
    case CELL: use_cell(copy, n - 1); break;
    case PAST: use_past(copy, n - 1); break;
    }
    free(copy);
    return 0;
}
