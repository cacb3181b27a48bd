#include "kernels/kvq.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { RUN = RV_KVQ_RUN, RUNS = RV_KVQ_TOKENS / RV_KVQ_RUN, GROUP = 32 };

bool rv_kvq_has(rv_type type, size_t dim)
{
    return (type == RV_Q8_0 || type == RV_Q4_1) && dim && dim % 16 == 0;
}

static size_t round_64(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

rv_kvq_layout rv_kvq_keys(rv_type type, size_t dim)
{
    rv_kvq_layout l = { .groups = (dim + GROUP - 1) / GROUP };
    if (type == RV_Q8_0) {
        l.scales_at = dim * RUN;
        l.run_bytes = l.scales_at + l.groups * RUN * sizeof(uint16_t);
    } else {
        l.runs_at = 2 * dim * sizeof(uint16_t);
        l.run_bytes = dim * RUN / 2;
    }
    l.bytes = round_64(l.runs_at + RUNS * l.run_bytes);
    return l;
}

rv_kvq_layout rv_kvq_values(rv_type type, size_t dim)
{
    rv_kvq_layout l = { .groups = (dim + GROUP - 1) / GROUP };
    l.scales_at = type == RV_Q8_0 ? dim * RUN : dim * RUN / 2;
    l.run_bytes = l.scales_at + (type == RV_Q8_0 ? 1 : 2) * l.groups * RUN * sizeof(uint16_t);
    l.bytes = round_64(RUNS * l.run_bytes);
    return l;
}

static float half_at(const uint8_t *at, size_t i)
{
    uint16_t h;
    memcpy(&h, at + i * sizeof h, sizeof h);
    return rv_f16_to_f32(h);
}

static void put_half(uint8_t *at, size_t i, uint16_t h)
{
    memcpy(at + i * sizeof h, &h, sizeof h);
}

/* The i-th 4-bit number of a run. */
static unsigned nibble(const uint8_t *run, size_t dim, size_t i)
{
    size_t half = dim * RUN / 2;
    return i < half ? run[i] & 15u : run[i - half] >> 4;
}

static void put_nibble(uint8_t *run, size_t dim, size_t i, unsigned q)
{
    size_t half = dim * RUN / 2;
    uint8_t *both = &run[i < half ? i : i - half];
    *both = (uint8_t)(i < half ? (*both & 0xf0u) | q : (*both & 0x0fu) | q << 4);
}

float rv_kvq_key(rv_type type, size_t dim, const void *keys, size_t token, size_t i)
{
    const rv_kvq_layout l = rv_kvq_keys(type, dim);
    const uint8_t *block = keys, *run = block + l.runs_at + token / RUN * l.run_bytes;
    size_t at = i * RUN + token % RUN;
    if (type == RV_Q8_0) {
        return half_at(run + l.scales_at, i / GROUP * RUN + token % RUN) * (float)(int8_t)run[at];
    }
    return fmaf(half_at(block, dim + i), (float)nibble(run, dim, at), half_at(block, i));
}

float rv_kvq_value(rv_type type, size_t dim, const void *values, size_t token, size_t i)
{
    const rv_kvq_layout l = rv_kvq_values(type, dim);
    const uint8_t *run = (const uint8_t *)values + token / RUN * l.run_bytes, *scales = run + l.scales_at;
    size_t at = token % RUN * dim + i, group = token % RUN * l.groups + i / GROUP;
    if (type == RV_Q8_0) {
        return half_at(scales, group) * (float)(int8_t)run[at];
    }
    return fmaf(half_at(scales, RUN * l.groups + group), (float)nibble(run, dim, at), half_at(scales, group));
}

/* To nearest even, for |x| below 2^22: what is added leaves no room for a fraction. */
static float nearest(float x)
{
    const float whole = 12582912;
    return (x + whole) - whole;
}

/* Numbers n apart by stride: how they become integers. */
typedef struct numbers {
    const float *at;
    size_t n, stride;
} numbers;

static uint16_t scale_of_8(numbers x)
{
    float most = 0;
    for (size_t i = 0; i < x.n; i++) {
        float size = fabsf(x.at[i * x.stride]);
        most = size > most ? size : most;
    }
    return most < 1e-8f ? 0 : rv_f32_to_f16(most / 127);
}

static float inverse(uint16_t half)
{
    float s = rv_f16_to_f32(half);
    return s > 0 ? 1 / s : 0;
}

static int8_t to_8(float x, float inverse_scale)
{
    float q = nearest(fminf(fmaxf(x * inverse_scale, -127), 127));
    return (int8_t)q;
}

static void range_of_4(numbers x, float *min, float *max)
{
    for (size_t i = 0; i < x.n; i++) {
        float v = x.at[i * x.stride];
        *min = v < *min ? v : *min;
        *max = v > *max ? v : *max;
    }
}

static uint16_t scale_of_4(float min, float max)
{
    return max - min < 1e-8f ? 0 : rv_f32_to_f16((max - min) / 15);
}

static unsigned to_4(float x, float min, float inverse_scale)
{
    return (unsigned)nearest(fminf(fmaxf((x - min) * inverse_scale, 0), 15));
}

static size_t group_size(size_t dim, size_t group)
{
    return dim - group * GROUP < GROUP ? dim - group * GROUP : GROUP;
}

static void pack_keys_8(size_t dim, const float *x, const rv_kvq_layout *l, uint8_t *run)
{
    for (size_t g = 0; g < l->groups; g++) {
        for (size_t t = 0; t < RUN; t++) {
            numbers of = { x + g * GROUP * RUN + t, group_size(dim, g), RUN };
            uint16_t s = scale_of_8(of);
            put_half(run + l->scales_at, g * RUN + t, s);
            for (size_t i = 0; i < of.n; i++) {
                size_t at = (g * GROUP + i) * RUN + t;
                run[at] = (uint8_t)to_8(x[at], inverse(s));
            }
        }
    }
}

static void pack_keys_4(size_t dim, const float *const *x, size_t first, const rv_kvq_layout *l,
                        uint8_t *block)
{
    for (size_t i = 0; i < dim; i++) {
        float min = INFINITY, max = -INFINITY;
        for (size_t r = first / RUN; r < RUNS; r++) {
            range_of_4((numbers){ x[r] + i * RUN, RUN, 1 }, &min, &max);
        }
        uint16_t m = rv_f32_to_f16(min), s = scale_of_4(rv_f16_to_f32(m), max);
        put_half(block, i, m);
        put_half(block, dim + i, s);
        for (size_t r = first / RUN; r < RUNS; r++) {
            uint8_t *run = block + l->runs_at + r * l->run_bytes;
            for (size_t t = 0; t < RUN; t++) {
                put_nibble(run, dim, i * RUN + t, to_4(x[r][i * RUN + t], rv_f16_to_f32(m), inverse(s)));
            }
        }
    }
}

void rv_kvq_pack_keys(rv_type type, size_t dim, const float *const *x, size_t first, void *out)
{
    assert(rv_kvq_has(type, dim) && first % RUN == 0 && first < RV_KVQ_TOKENS);
    const rv_kvq_layout l = rv_kvq_keys(type, dim);
    if (type == RV_Q4_1) {
        pack_keys_4(dim, x, first, &l, out);
        return;
    }
    for (size_t r = first / RUN; r < RUNS; r++) {
        pack_keys_8(dim, x[r], &l, (uint8_t *)out + l.runs_at + r * l.run_bytes);
    }
}

static void pack_values_run(rv_type type, size_t dim, const float *x, const rv_kvq_layout *l, uint8_t *run)
{
    uint8_t *scales = run + l->scales_at;
    for (size_t t = 0; t < RUN; t++) {
        for (size_t g = 0; g < l->groups; g++) {
            size_t at = t * dim + g * GROUP, group = t * l->groups + g;
            numbers of = { x + at, group_size(dim, g), 1 };
            if (type == RV_Q8_0) {
                uint16_t s = scale_of_8(of);
                put_half(scales, group, s);
                for (size_t i = 0; i < of.n; i++) {
                    run[at + i] = (uint8_t)to_8(x[at + i], inverse(s));
                }
                continue;
            }
            float min = INFINITY, max = -INFINITY;
            range_of_4(of, &min, &max);
            uint16_t m = rv_f32_to_f16(min), s = scale_of_4(rv_f16_to_f32(m), max);
            put_half(scales, group, m);
            put_half(scales, RUN * l->groups + group, s);
            for (size_t i = 0; i < of.n; i++) {
                put_nibble(run, dim, at + i, to_4(x[at + i], rv_f16_to_f32(m), inverse(s)));
            }
        }
    }
}

void rv_kvq_pack_values(rv_type type, size_t dim, const float *const *x, size_t first, void *out)
{
    assert(rv_kvq_has(type, dim) && first % RUN == 0 && first < RV_KVQ_TOKENS);
    const rv_kvq_layout l = rv_kvq_values(type, dim);
    for (size_t r = first / RUN; r < RUNS; r++) {
        pack_values_run(type, dim, x[r], &l, (uint8_t *)out + r * l.run_bytes);
    }
}
