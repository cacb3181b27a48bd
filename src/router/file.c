/* router_weights.bin: docs/formats/router.md. All arrays of numbers stand in one table, so that writing and reading are the same
 * walk; sizes follow from tiers and dimension, which are checked before anything is multiplied by them. */
#include "router/router_priv.h"

#include "base/file.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

enum { HEADER = 24, EMBEDDER = 64, DIGEST = 32, VERSION = 5, DIM_MAX = 4096, FILE_MAX = 1 << 30 };
static const char magic[8] = { 'f', 'r', 'g', 'n', '0', '0', '0', '1' };

typedef struct numbers {
    const char *name;
    float *at;
    size_t n;
} numbers;
enum { ARRAYS = 25 };

static void list_arrays(rv_router *r, numbers out[ARRAYS])
{
    const numbers all[ARRAYS] = {
        { "slot means", r->slot_mean, RV_SLOTS },
        { "slot spreads", r->slot_spread, RV_SLOTS },
        { "votes", r->votes[0], RV_ROUTER_TIERS * ROUTER_VOTES },
        { "costs", r->costs[0], RV_ROUTER_TIERS * ROUTER_COSTS },
        { "base", r->base, RV_ROUTER_TIERS },
        { "level", r->level, RV_ROUTER_TIERS },
        { "doubts", r->doubts, ROUTER_DOUBTS },
        { "lambda", &r->lambda, 1 },
        { "share", &r->share, 1 },
        { "trust", &r->trust, 1 },
        { "pool", &r->pool, 1 },
        { "drafts", r->drafts[0], RV_ROUTER_TIERS * ROUTER_DRAFTS },
        { "means of cover", r->cover_mean, RV_COVER },
        { "spreads of cover", r->cover_spread, RV_COVER },
        { "cover", r->cover[0], RV_ROUTER_TIERS * ROUTER_COVER },
        { "carry", r->carry[0], RV_ROUTER_TIERS * ROUTER_CARRY },
        { "surprises", r->surprises[0], RV_ROUTER_TIERS * ROUTER_SURPRISES },
        { "agrees", r->agrees, ROUTER_AGREES },
        { "again", r->again[0], RV_ROUTER_TIERS * ROUTER_AGAIN },
        { "statistics' means", r->surface_mean, RV_SURFACE },
        { "statistics' spreads", r->surface_spread, RV_SURFACE },
        { "history", r->history.quality[0], 2 * RV_SLOT_CENTROIDS * RV_ROUTER_TIERS },
        { "space", r->space, router_space_size(r->dim) },
        { "rarity", r->rarity, RV_PAST_BUCKETS },
        { "lexical", r->lexical, r->tiers * router_lexical_size(r->dim) },
    };
    memcpy(out, all, sizeof all);
}
_Static_assert(sizeof(router_history) == 2 * RV_SLOT_CENTROIDS * RV_ROUTER_TIERS * sizeof(float),
               "two arrays, no gap");

static rv_err digest(const uint8_t *at, size_t n, uint8_t out[DIGEST])
{
    unsigned len = 0;
    return EVP_Digest(at, n, out, &len, EVP_sha256(), NULL) == 1 ? RV_OK : rv_fail(RV_E_NOMEM, "SHA-256");
}

static uint8_t *put(uint8_t *to, const void *from, size_t n)
{
    if (n > 0) {
        memcpy(to, from, n);
    }
    return to + n;
}

rv_err rv_router_pack(const rv_alloc *mem, const rv_router *r, uint8_t **out, size_t *n)
{
    numbers arrays[ARRAYS];
    rv_router copy = *r; /* the table wants to write; nothing here does */
    list_arrays(&copy, arrays);
    size_t bytes = HEADER + r->tiers * RV_ROUTER_NAME + EMBEDDER + rv_grnn_bytes(r->cell) +
                   rv_past_bytes(r->past) + DIGEST;
    for (int a = 0; a < ARRAYS; a++) {
        bytes += 4 * arrays[a].n;
    }
    uint8_t *file = rv_new(mem, bytes);
    if (!file) {
        return rv_fail(RV_E_NOMEM, "writing router weights");
    }
    const uint32_t fields[4] = { VERSION, (uint32_t)r->tiers, (uint32_t)r->dim, RV_SLOTS };
    uint8_t *to = put(put(file, magic, sizeof magic), fields, sizeof fields);
    to = put(put(to, r->names, r->tiers * RV_ROUTER_NAME), r->embedder, EMBEDDER);
    for (int a = 0; a < ARRAYS; a++) {
        to = put(to, arrays[a].at, 4 * arrays[a].n);
    }
    rv_grnn_write(r->cell, to);
    to += rv_grnn_bytes(r->cell);
    rv_past_write(r->past, to);
    to += rv_past_bytes(r->past);
    rv_err e = digest(file, bytes - DIGEST, to);
    if (e) {
        rv_free(mem, file);
        return e;
    }
    *out = file;
    *n = bytes;
    return RV_OK;
}

typedef struct reader {
    const uint8_t *at;
    size_t n;
} reader;

static rv_err get(reader *in, void *to, size_t n, const char *what)
{
    if (n > in->n) {
        return rv_fail(RV_E_FORMAT, "router weights: %s: %zu bytes are left, %zu expected", what, in->n, n);
    }
    if (n > 0) {
        memcpy(to, in->at, n);
    }
    in->at += n;
    in->n -= n;
    return RV_OK;
}

static rv_err get_arrays(reader *in, rv_router *r)
{
    numbers arrays[ARRAYS];
    list_arrays(r, arrays);
    for (int a = 0; a < ARRAYS; a++) {
        RV_TRY(get(in, arrays[a].at, 4 * arrays[a].n, arrays[a].name));
        for (size_t i = 0; i < arrays[a].n; i++) {
            if (!isfinite(arrays[a].at[i])) {
                return rv_fail(RV_E_FORMAT, "router weights: %s[%zu] is not a finite number", arrays[a].name,
                               i);
            }
        }
    }
    return RV_OK;
}

static rv_err get_parts(reader *in, rv_router *r)
{
    size_t used;
    RV_TRY(rv_grnn_read(r->mem, in->at, in->n, &used, &r->cell));
    const rv_grnn_shape *shape = rv_grnn_get_shape(r->cell);
    if (shape->input != RV_SLOTS || shape->outputs != r->tiers) {
        return rv_fail(RV_E_FORMAT,
                       "router weights: a cell of %zu inputs and %zu outputs, expected %d and %zu",
                       shape->input, shape->outputs, RV_SLOTS, r->tiers);
    }
    in->at += used;
    in->n -= used;
    RV_TRY(rv_past_parse(r->mem, in->at, in->n, r->tiers, r->dim, &used, &r->past));
    in->n -= used;
    return in->n == 0 ? RV_OK : rv_fail(RV_E_FORMAT, "router weights: %zu bytes behind the end", in->n);
}

rv_err rv_router_unpack(const rv_alloc *mem, const uint8_t *at, size_t n, rv_router **out)
{
    uint32_t fields[4];
    uint8_t sum[DIGEST];
    if (n < HEADER + DIGEST || memcmp(at, magic, sizeof magic) != 0) {
        return rv_fail(RV_E_FORMAT, "router weights: %zu bytes that do not begin with frgn0001", n);
    }
    memcpy(fields, at + sizeof magic, sizeof fields);
    if (fields[0] != VERSION) {
        return rv_fail(RV_E_UNSUPPORTED, "router weights: version %u, we read %d", fields[0], VERSION);
    }
    if (fields[1] < 1 || fields[1] > RV_ROUTER_TIERS || fields[2] > DIM_MAX || fields[3] != RV_SLOTS) {
        return rv_fail(RV_E_FORMAT,
                       "router weights: %u tiers (1 to %d), %u dimensions (to %d), %u slots (%d)", fields[1],
                       RV_ROUTER_TIERS, fields[2], DIM_MAX, fields[3], RV_SLOTS);
    }
    RV_TRY(digest(at, n - DIGEST, sum));
    if (memcmp(sum, at + n - DIGEST, DIGEST) != 0) {
        return rv_fail(RV_E_CORRUPT, "router weights: the checksum does not fit");
    }
    reader in = { at + HEADER, n - HEADER - DIGEST };
    rv_router *r = NULL;
    RV_TRY(router_new(mem, fields[1], fields[2], &r));
    rv_err e = get(&in, r->names, r->tiers * RV_ROUTER_NAME, "names");
    e = e ? e : get(&in, r->embedder, EMBEDDER, "embedder");
    for (size_t t = 0; t < r->tiers; t++) {
        r->names[t][RV_ROUTER_NAME - 1] = 0;
    }
    r->embedder[EMBEDDER - 1] = 0;
    e = e ? e : get_arrays(&in, r);
    e = e ? e : get_parts(&in, r);
    if (e) {
        rv_router_free(r);
        return e;
    }
    router_point_axes(r);
    *out = r;
    return RV_OK;
}

rv_err rv_router_open(const rv_alloc *mem, const char *path, rv_router **out)
{
    char *bytes = NULL;
    size_t n = 0;
    RV_TRY(rv_file_read(mem, path, FILE_MAX, &bytes, &n));
    rv_err e = rv_router_unpack(mem, (const uint8_t *)bytes, n, out);
    rv_free(mem, bytes);
    if (e) {
        char why[512];
        snprintf(why, sizeof why, "%s", rv_err_text());
        return rv_fail(e, "%s: %s", path, why);
    }
    return RV_OK;
}
