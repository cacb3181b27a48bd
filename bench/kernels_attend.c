/* What does attention over pages of 16 keys cost? Two cases per shape: pages from memory (decode at length: bounded by
 * reading keys and values) and pages that stay in the cache (prefill: bounded by float32 multiply-adds). One thread.
 *
 *     bench_kernels_attend      RV_CPU chooses the level */
#include "kernels/kernels.h"
#include "kernels/kvq.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 16, RUNS = 9, MAX_HEADS = 64, MAX_DIM = 128 };
enum {
    APART = 7919
}; /* pages from one to the next, prime, so that all are used: as in the cache they do not make a stream */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void attend_all(const rv_kernels *k, const float *q, size_t n_q, size_t dim, rv_type type,
                       const char *pages, size_t n_pages, size_t n_steps)
{
    static float max[MAX_HEADS], sum[MAX_HEADS], acc[MAX_HEADS * MAX_DIM];
    for (size_t i = 0; i < n_q; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
    }
    memset(acc, 0, sizeof acc);
    const bool block = rv_kvq_has(type, dim);
    const size_t bytes = block ? rv_kvq_keys(type, dim).bytes : PAGE * dim * (type == RV_F16 ? 2 : 4);
    const size_t both = bytes + (block ? rv_kvq_values(type, dim).bytes : bytes);
    for (size_t i = 0; i < n_steps; i++) {
        const char *page = pages + i * APART % n_pages * both;
        const char *next = pages + (i + 1) * APART % n_pages * both;
        k->attend(&(rv_attend_step){ .q = q,
                                     .n_q = n_q,
                                     .dim = dim,
                                     .scale = 0.125f,
                                     .keys = page,
                                     .values = page + bytes,
                                     .next_keys = next,
                                     .next_values = next + bytes,
                                     .type = type,
                                     .n_keys = block ? RV_KVQ_TOKENS : PAGE,
                                     .max = max,
                                     .sum = sum,
                                     .acc = acc });
    }
}

static void bench_case(const rv_kernels *k, size_t n_q, size_t dim, rv_type type, size_t pool_bytes,
                       const char *where)
{
    const bool block = rv_kvq_has(type, dim);
    const size_t page_bytes = block ? rv_kvq_keys(type, dim).bytes + rv_kvq_values(type, dim).bytes
                                    : 2 * PAGE * dim * (type == RV_F16 ? 2 : 4);
    const size_t n_pages = pool_bytes / page_bytes, keys = block ? RV_KVQ_TOKENS : PAGE;
    const size_t n_steps = n_pages < 4096 / n_q ? 4096 / n_q : n_pages;
    char *pages = rv_new_aligned(&rv_heap, 64, n_pages * page_bytes);
    float *q = rv_new_array(&rv_heap, n_q * dim, sizeof *q);
    if (!pages || !q) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    rv_rng rng;
    rv_rng_init(&rng, 3);
    for (size_t i = 0; i < n_q * dim; i++) {
        q[i] = (float)rv_rng_unit(&rng) - 0.5f;
    }
    for (size_t i = 0; i < n_pages * page_bytes / (type == RV_F32 ? 4 : 2); i++) {
        float x = (float)((i * 2654435761u >> 16) & 1023) / 1024 - 0.5f;
        if (type == RV_F32) {
            ((float *)(void *)pages)[i] = x;
        } else { /* as codes and scales of a block these are numbers too */
            ((uint16_t *)(void *)pages)[i] = rv_f32_to_f16(x);
        }
    }
    double ms[RUNS];
    attend_all(k, q, n_q, dim, type, pages, n_pages, n_steps);
    for (int i = 0; i < RUNS; i++) {
        double from = rv_clock_ms();
        attend_all(k, q, n_q, dim, type, pages, n_pages, n_steps);
        ms[i] = rv_clock_ms() - from;
    }
    qsort(ms, RUNS, sizeof *ms, by_value);
    double gb = (double)(n_steps * page_bytes) / 1e6,
           gflop = 4.0 * (double)(n_steps * n_q * keys * dim) / 1e6;
    printf(
        "{\"bench\":\"kernels_attend\",\"version\":\"%s\",\"level\":\"%s\",\"type\":\"%s\",\"dim\":%zu,"
        "\"heads\":%zu,"
        "\"pages_in\":\"%s\",\"best_ms\":%.3f,\"median_ms\":%.3f,\"ns_per_16_keys_and_head\":%.1f,\"gb_per_"
        "s\":%.2f,"
        "\"gflop_per_s\":%.1f}\n",
        RV_VERSION, k->name, rv_type_get(type)->name, dim, n_q, where, ms[0], ms[RUNS / 2],
        ms[0] * 1e6 * PAGE / (double)(n_steps * n_q * keys), gb / ms[0], gflop / ms[0]);
    rv_free(&rv_heap, pages);
    rv_free(&rv_heap, q);
}

int main(void)
{
    const rv_kernels *k = rv_kernels_best();
    static const size_t heads[] = { 2, 4, 16, 64 };
    for (size_t i = 0; i < RV_COUNT(heads); i++) {
        bench_case(k, heads[i], 64, RV_F16, (size_t)64 << 20, "memory");
        bench_case(k, heads[i], 64, RV_F16, (size_t)64 << 10, "cache");
    }
    for (size_t i = 0; i < RV_COUNT(heads); i++) {
        bench_case(k, heads[i], 64, RV_Q8_0, (size_t)64 << 20, "memory");
        bench_case(k, heads[i], 64, RV_Q4_1, (size_t)64 << 20, "memory");
    }
    bench_case(k, 4, 64, RV_F32, (size_t)64 << 20, "memory");
    bench_case(k, 4, 128, RV_F16, (size_t)64 << 20, "memory");
    return 0;
}
