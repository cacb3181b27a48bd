/* Finer codes: 2 to 8 bits of each coordinate of a residual, for the second look at a row. A search then finds in the lists
 * all it needs up to the vectors themselves, side by side, and leaves the rows' int8 codes alone, which may stay on disk.
 *
 * The code of a coordinate is y + 2^(bits - 1) - 1/2 with y one of +-1/2, +-3/2 .. in steps of the row's own. With c the
 * centre, r the residual and q the query, <q, r> is estimated by <q - c, y> * |r|^2 / <y, r>: no bias, and an error that halves
 * with every bit. <c, y> is known when the code is made, so the query need not be taken to each list's centre.
 * Source: Gao and others 2024, arXiv:2409.09913; differs: two steps are tried instead of all. */
#include "vector/rabitq_priv.h"

#include <math.h>
#include <string.h>

/* A step of the best even quantiser of a normal number with variance 1, by bits: Max 1960, "Quantizing for minimum distortion". */
static const float normal_step[] = { 0, 0, 0.9957f, 0.5860f, 0.3352f, 0.1881f, 0.1041f, 0.0569f, 0.0308f };

size_t rabitq_fine_bytes(const rabitq *r)
{
    return r->bits > 1 ? r->bits * r->rows->stride / 8 + sizeof(rabitq_fine) : 0;
}

/* In float up to the last step: a damaged file may hold what is no number. */
static int level_of(float x, float to_steps, int half)
{
    float level = floorf(x * to_steps);
    return level >= (float)half ? half - 1 : level >= (float)-half ? (int)level : -half;
}

/* How well a step does: the cosine between r and y; <y, r> too. */
static double cosine_of(const float *residual, size_t dim, float to_steps, int half, double *product)
{
    double square = 0;
    *product = 0;
    for (size_t i = 0; i < dim; i++) {
        double y = level_of(residual[i], to_steps, half) + 0.5;
        square += y * y;
        *product += y * (double)residual[i];
    }
    return *product / sqrt(square);
}

/* Codes of residuals that are nothing, or so small that their step is none, say nothing: slope 0. */
void rabitq_make_fine(const rabitq *r, const float *residual, const float *centre, float squares,
                      uint8_t *out)
{
    const size_t dim = r->rows->dim, plane_bytes = r->rows->stride / 8;
    const int half = 1 << (r->bits - 1);
    double square = 0, product, other, shared = 0;
    float largest = 0;
    for (size_t i = 0; i < dim; i++) {
        square += (double)residual[i] * (double)residual[i];
        largest = fabsf(residual[i]) > largest ? fabsf(residual[i]) : largest;
    }
    memset(out, 0, rabitq_fine_bytes(r));
    float deviation = (float)sqrt(square / (double)dim), to_steps = 1 / (normal_step[r->bits] * deviation),
          to_fit = (float)half / largest; /* the largest is in the last step */
    rabitq_fine fine = { (float)square, 0 };
    if (largest > 0 && to_steps < 1e30f && to_fit < 1e30f) {
        if (cosine_of(residual, dim, to_fit, half, &other) >
            cosine_of(residual, dim, to_steps, half, &product)) {
            to_steps = to_fit;
            product = other;
        }
        for (size_t i = 0; i < dim; i++) {
            int level = level_of(residual[i], to_steps, half);
            shared += (level + 0.5) * (double)centre[i];
            for (size_t plane = 0; plane < r->bits; plane++) {
                out[plane * plane_bytes + i / 8] |= (uint8_t)(((level + half) >> plane & 1) << i % 8);
            }
        }
        fine.slope = (float)(2 * square / product);
        fine.add = (float)(square + 2 * square / product * shared);
    }
    if (r->rows->metric == RV_INDEX_IP) {
        fine = (rabitq_fine){ (fine.add - squares) / 2, fine.slope / 2 };
    }
    memcpy(out + r->bits * plane_bytes, &fine, sizeof fine);
}

rabitq_fine_query rabitq_ask_fine(const rabitq *r, const int8_t *code, float scale)
{
    int32_t sum = 0;
    for (size_t i = 0; i < r->rows->stride; i++) {
        sum += code[i];
    }
    return (rabitq_fine_query){ code, scale, ((float)(1 << (r->bits - 1)) - 0.5f) * (float)sum };
}

void rabitq_fine_distances(const rabitq *r, const rabitq_fine_query *query, float base,
                           const uint32_t *places, size_t n, int32_t *sums, float *out)
{
    const size_t bytes = rabitq_fine_bytes(r), at = r->bits * r->rows->stride / 8;
    for (size_t i = 0; r->rows->pages && i < n; i++) {
        rv_pages_touch(r->rows->pages, r->fine + places[i] * bytes, bytes);
    }
    r->rows->kernels->plane_dots(r->fine, bytes, places, n, r->bits, query->code, r->rows->stride, sums);
    for (size_t i = 0; i < n; i++) {
        rabitq_fine fine;
        memcpy(&fine, r->fine + places[i] * bytes + at, sizeof fine);
        out[i] = base + fine.add - fine.slope * (query->scale * ((float)sums[i] - query->offset));
    }
}
