/* The weights as bytes: docs/formats/graph-attention.md. */
#include "attend/attend.h"
#include "attend/attend_priv.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

enum { HEADER = 40, VERSION = 1, CHECKSUM = 8 };
static const char magic[8] = { 'r', 'v', 'a', 't', 't', 'n', '\r', '\n' };

static void put32(uint8_t *at, uint32_t x)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(x >> (8 * i));
    }
}

static uint32_t get32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put64(uint8_t *at, uint64_t x)
{
    put32(at, (uint32_t)x);
    put32(at + 4, (uint32_t)(x >> 32));
}

static uint64_t get64(const uint8_t *at)
{
    return get32(at) | (uint64_t)get32(at + 4) << 32;
}

size_t rv_attend_file_bytes(const rv_attend_weights *w)
{
    return HEADER + 4 * w->n_values + CHECKSUM;
}

void rv_attend_write(const rv_attend_weights *w, void *out)
{
    uint8_t *at = out;
    memcpy(at, magic, sizeof magic);
    const uint32_t fields[] = { VERSION, (uint32_t)w->dim, LAYERS, RANK, RV_EVIDENCE_N, w->rope };
    for (size_t i = 0; i < RV_COUNT(fields); i++) {
        put32(at + 8 + 4 * i, fields[i]);
    }
    put64(at + 32, w->seed);
    for (size_t i = 0; i < w->n_values; i++) {
        uint32_t bits;
        memcpy(&bits, &w->values[i], 4);
        put32(at + HEADER + 4 * i, bits);
    }
    size_t body = HEADER + 4 * w->n_values;
    put64(at + body, rv_hash64(out, body, 0));
}

rv_err rv_attend_read(const rv_alloc *mem, const void *bytes, size_t n, rv_attend_weights **out)
{
    const uint8_t *at = bytes;
    if (n < HEADER + CHECKSUM || memcmp(at, magic, sizeof magic) != 0) {
        return rv_fail(RV_E_FORMAT, "graph attention: not a file of weights");
    }
    const uint32_t expected[] = { VERSION, get32(at + 12), LAYERS, RANK, RV_EVIDENCE_N };
    static const char *const names[] = { "version", "dimension", "layers", "rank", "evidence" };
    for (size_t i = 0; i < RV_COUNT(expected); i++) {
        if (get32(at + 8 + 4 * i) != expected[i]) {
            return rv_fail(RV_E_FORMAT, "graph attention: %s %u, we read %u", names[i], get32(at + 8 + 4 * i),
                           expected[i]);
        }
    }
    if (get32(at + 28) > 1) {
        return rv_fail(RV_E_FORMAT, "graph attention: rotation %u, expected 0 or 1", get32(at + 28));
    }
    if (get64(at + n - CHECKSUM) != rv_hash64(bytes, n - CHECKSUM, 0)) {
        return rv_fail(RV_E_CORRUPT, "graph attention: the checksum does not fit");
    }
    rv_attend_weights *w = NULL;
    rv_err e = rv_attend_new(mem, get32(at + 12), get32(at + 28), get64(at + 32), &w);
    if (e == RV_E_ARG) {
        return rv_fail(RV_E_FORMAT, "graph attention: dimension %u", get32(at + 12));
    }
    RV_TRY(e);
    if (n != rv_attend_file_bytes(w)) {
        e = rv_fail(RV_E_FORMAT, "graph attention: %zu bytes, expected %zu", n, rv_attend_file_bytes(w));
    }
    for (size_t i = 0; !e && i < w->n_values; i++) {
        uint32_t bits = get32(at + HEADER + 4 * i);
        memcpy(&w->values[i], &bits, 4);
        if (!isfinite(w->values[i])) {
            e = rv_fail(RV_E_CORRUPT, "graph attention: value %zu is not finite", i);
        }
    }
    if (e) {
        rv_attend_free(w);
        return e;
    }
    *out = w;
    return RV_OK;
}
