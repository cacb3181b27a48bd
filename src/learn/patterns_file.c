/* Patterns as bytes: docs/formats/patterns.md. */
#include "learn/patterns_priv.h"

#include "learn/kmeans.h"

#include <math.h>
#include <string.h>

enum {
    HEADER = 48,
    FIXED = 20, /* bytes of a record before its outcomes: id 8, age 4, scale 4, 4 zero */
    OUTCOME = 24
};
static const uint8_t magic[8] = { 'r', 'v', 'p', 'a', 't', 't', '\r', '\n' };

static uint8_t *put(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
    return at + bytes;
}

static uint64_t get(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static uint8_t *put_float(uint8_t *at, double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return put(at, bits, 4);
}

static double get_float(const uint8_t *at)
{
    uint32_t bits = (uint32_t)get(at, 4);
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static size_t record_bytes(size_t dim, size_t models)
{
    return FIXED + models * OUTCOME + dim;
}

size_t rv_patterns_bytes(const rv_patterns *p)
{
    return HEADER + p->n_models * (RV_PATTERN_NAME + OUTCOME) + p->n * record_bytes(p->dim, p->n_models);
}

static uint8_t *put_outcomes(uint8_t *at, const outcome *of, size_t n)
{
    for (size_t m = 0; m < n; m++) {
        const double values[] = { of[m].weight, of[m].squares, of[m].mean,
                                  of[m].m2,     of[m].doubted, of[m].doubted_mean };
        for (size_t i = 0; i < RV_COUNT(values); i++) {
            at = put_float(at, values[i]);
        }
    }
    return at;
}

static const uint8_t *get_outcomes(const uint8_t *at, outcome *of, size_t n)
{
    for (size_t m = 0; m < n; m++, at += OUTCOME) {
        of[m] = (outcome){ get_float(at),      get_float(at + 4),  get_float(at + 8),
                           get_float(at + 12), get_float(at + 16), get_float(at + 20) };
    }
    return at;
}

void rv_patterns_write(const rv_patterns *p, void *out)
{
    uint8_t *at = out;
    memcpy(at, magic, sizeof magic);
    at = put(put(put(at + 8, 1, 4), p->dim, 4), p->n_models, 4);
    at = put(put(at, p->n, 4), p->next_id, 8);
    memset(at, 0, HEADER - 32);
    at += HEADER - 32;
    memcpy(at, p->models, p->n_models * RV_PATTERN_NAME);
    at = put_outcomes(at + p->n_models * RV_PATTERN_NAME, p->all, p->n_models);
    for (size_t i = 0; i < p->n; i++) {
        float most = 0;
        for (size_t d = 0; d < p->dim; d++) {
            most = fmaxf(most, fabsf(centre(p, i)[d]));
        }
        double scale = most > 0 ? (double)most / 127 : 1;
        at = put(put_float(put_float(put(at, p->at[i].id, 8), (double)p->at[i].age), scale), 0, 4);
        at = put_outcomes(at, p->at[i].of, p->n_models);
        for (size_t d = 0; d < p->dim; d++) {
            *at++ = (uint8_t)(int8_t)lrint((double)centre(p, i)[d] / scale);
        }
    }
}

static rv_err read_records(rv_patterns *p, const uint8_t *at, size_t n)
{
    RV_TRY(rv_patterns_reserve(p, n));
    for (size_t i = 0; i < n; i++) {
        p->at[i] = (pattern){ .id = get(at, 8), .age = (float)get_float(at + 8) };
        double scale = get_float(at + 12);
        at = get_outcomes(at + FIXED, p->at[i].of, p->n_models);
        for (size_t d = 0; d < p->dim; d++) {
            centre(p, i)[d] = (float)(scale * (int8_t)*at++);
        }
        if (!isfinite(scale) || !(scale > 0) || scale > 1 || !rv_unit(centre(p, i), p->dim)) {
            return rv_fail(RV_E_FORMAT, "patterns: the centre of pattern %zu is none", i + 1);
        }
        p->n++;
    }
    return rv_patterns_check(p);
}

rv_err rv_patterns_read(const rv_alloc *mem, const void *bytes, size_t n, rv_patterns **out)
{
    const uint8_t *at = bytes;
    const char *names[RV_PATTERN_MODELS];
    if (n < HEADER || memcmp(at, magic, sizeof magic) != 0 || get(at + 8, 4) != 1) {
        return rv_fail(RV_E_FORMAT, "patterns: not a file that we read");
    }
    size_t dim = get(at + 12, 4), models = get(at + 16, 4), many = get(at + 20, 4);
    if (dim < 1 || dim > 4096 || models > RV_PATTERN_MODELS || many > RV_PATTERNS_MAX ||
        n != HEADER + models * (RV_PATTERN_NAME + OUTCOME) + many * record_bytes(dim, models)) {
        return rv_fail(RV_E_FORMAT,
                       "patterns: %zu bytes do not fit %zu patterns of %zu dimensions and %zu models", n,
                       many, dim, models);
    }
    for (size_t m = 0; m < models; m++) {
        names[m] = (const char *)at + HEADER + m * RV_PATTERN_NAME;
        if (!memchr(names[m], 0, RV_PATTERN_NAME)) {
            return rv_fail(RV_E_FORMAT, "patterns: the name of model %zu has no end", m + 1);
        }
    }
    rv_patterns *p = NULL;
    RV_TRY(rv_patterns_new(mem, dim, names, models, &p));
    p->next_id = get(at + 24, 8);
    rv_err e = read_records(p, get_outcomes(at + HEADER + models * RV_PATTERN_NAME, p->all, models), many);
    if (e) {
        rv_patterns_free(p);
        return e;
    }
    *out = p;
    return RV_OK;
}
