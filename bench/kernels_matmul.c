/* How near are the products of weights and activations to what the machine allows? Two cases per type: one token (decode:
 * bounded by reading the weights) and 512 tokens (prefill: bounded by the int8 dot product). Both limits are measured here,
 * in the same run and on the same memory: reading is the fastest of one straight stream, one with hints far ahead, and eight side by
 * side with hints, and the peak is what all threads do at once. A few tokens read as much memory as one.
 *
 *     bench_kernels_matmul [THREADS [TYPE [TOKENS [COLUMNS]]]]      RV_CPU chooses the level */
#include "kernels/kernels.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/pool.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    COLS = 1024, /* unless another number is asked for */
    PREFILL_TOKENS = 512,
    PREFILL_ROWS = 4608,
    DECODE_BYTES = 640 << 20, /* so that a cache of 32 MiB, which keeps some of it, makes little difference */
    FEW_TOKENS = 16,
    RUNS = 15
};

typedef struct bench {
    const rv_kernels *k;
    rv_pool *pool;
    int threads;
    size_t cols;
    rv_matrix w;
    rv_act act;
    float *out;
    const void *read_from;               /* what the bandwidth job reads, and */
    size_t read_bytes, n_streams, ahead; /* how; ahead 0: without hints */
    uint64_t sink[256];
    double thread_gops[256];
} bench;

/* ---- the limits ---- */

#if defined(__x86_64__)
#include <immintrin.h>

enum { STREAMS = 8, STEP = 512 };

__attribute__((target("avx2"))) static uint64_t read_all(const char *p, size_t n, size_t n_streams,
                                                         size_t ahead)
{
    __m256i sum[8];
    for (int i = 0; i < 8; i++) {
        sum[i] = _mm256_setzero_si256();
    }
    const size_t part = n / n_streams / STEP * STEP;
    for (size_t at = 0; at + STEP <= part; at += STEP) {
        for (size_t s = 0; s < n_streams; s++) {
            const char *from = p + s * part + at;
            for (int i = 0; i < 8; i++, from += 64) {
                if (ahead) {
                    _mm_prefetch((const void *)((uintptr_t)from + ahead), _MM_HINT_T0);
                }
                sum[i] = _mm256_add_epi64(sum[i], _mm256_loadu_si256((const __m256i *)from));
                sum[i] = _mm256_add_epi64(sum[i], _mm256_loadu_si256((const __m256i *)(from + 32)));
            }
        }
    }
    uint64_t all = 0, four[4];
    for (int i = 0; i < 8; i++) {
        _mm256_storeu_si256((__m256i *)four, sum[i]);
        all += four[0] + four[1] + four[2] + four[3];
    }
    return all;
}

/* What multiplies bytes, on registers alone, in ten independent chains. With AVX-512 VNNI the dot-product instruction: 128 operations (64
 * products, 64 sums) each. With AVX2 products of bytes that are added in pairs, and a sum of those in 16 bits: 64 operations in two
 * instructions. What it then takes to bring the sums to 32 bits, once for several of these, is not counted. */
#define TEN(one) one(0) one(1) one(2) one(3) one(4) one(5) one(6) one(7) one(8) one(9)
#define CHAINS   "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9"

__attribute__((target("avx512f,avx512vnni"))) static void dot_vnni(long rounds)
{
#define ONE(n) "vpdpbusd %%zmm10, %%zmm10, %%zmm" #n "\n\t"
    __asm__ volatile("1:\n\t" TEN(ONE) "decq %0\n\tjnz 1b" : "+r"(rounds) : : CHAINS, "xmm10", "cc");
#undef ONE
}

__attribute__((target("avx2"))) static void dot_avx2(long rounds)
{
#define ONE(n) "vpmaddubsw %%ymm10, %%ymm10, %%ymm11\n\tvpaddw %%ymm11, %%ymm" #n ", %%ymm" #n "\n\t"
    __asm__ volatile("1:\n\t" TEN(ONE) "decq %0\n\tjnz 1b" : "+r"(rounds) : : CHAINS, "xmm10", "xmm11", "cc");
#undef ONE
}

static double dot_gops(void)
{
    const long rounds = 3000000;
    const bool vnni = rv_cpu_has(RV_CPU_AVX512);
    const double from = rv_clock_ms();
    if (vnni) {
        dot_vnni(rounds);
    } else if (rv_cpu_has(RV_CPU_AVX2)) {
        dot_avx2(rounds);
    } else {
        return 0; /* not known */
    }
    return 10.0 * (vnni ? 128 : 64) * (double)rounds / (rv_clock_ms() - from) / 1e6;
}

#else

enum { STREAMS = 1 };

static uint64_t read_all(const char *p, size_t n, size_t n_streams, size_t ahead)
{
    (void)n_streams, (void)ahead;
    uint64_t sum = 0, x;
    for (size_t at = 0; at + sizeof x <= n; at += sizeof x) {
        memcpy(&x, p + at, sizeof x);
        sum += x;
    }
    return sum;
}

static double dot_gops(void)
{
    return 0; /* not known */
}

#endif

static void read_job(void *arg, int thread, int n_threads)
{
    bench *b = arg;
    size_t from, to;
    rv_pool_split(b->read_bytes, 4096, thread, n_threads, &from, &to);
    b->sink[thread] += read_all((const char *)b->read_from + from, to - from, b->n_streams, b->ahead);
}

static void peak_job(void *arg, int thread, int n_threads)
{
    bench *b = arg;
    (void)n_threads;
    b->thread_gops[thread] = dot_gops();
}

static double peak_gops(bench *b)
{
    double best = 0;
    for (int i = 0; i < 3; i++) {
        double all = 0;
        rv_pool_run(b->pool, peak_job, b);
        for (int t = 0; t < b->threads; t++) {
            all += b->thread_gops[t];
        }
        best = all > best ? all : best;
    }
    return best;
}

/* ---- the products ---- */

static void product_job(void *arg, int thread, int n_threads)
{
    bench *b = arg;
    size_t from, to;
    rv_pool_split(b->w.rows, RV_ROW_STEP, thread, n_threads, &from, &to);
    b->k->matmul(&b->w, &b->act, from, to, b->out, b->w.rows);
}

static void pack_job(void *arg, int thread, int n_threads)
{
    bench *b = arg;
    size_t from, to;
    rv_pool_split(b->w.rows, RV_ROW_STEP, thread, n_threads, &from, &to);
    b->k->pack(&b->w, from, to, (void *)b->w.packed);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct timing {
    double best_ms, median_ms;
} timing;

static timing time_job(bench *b, rv_pool_job job, int runs)
{
    double ms[RUNS];
    for (int i = 0; i < runs; i++) {
        double from = rv_clock_ms();
        rv_pool_run(b->pool, job, b);
        ms[i] = rv_clock_ms() - from;
    }
    qsort(ms, (size_t)runs, sizeof *ms, by_value);
    return (timing){ ms[0], ms[runs / 2] };
}

static const struct {
    size_t n_streams, ahead;
} ways[] = { { 1, 8192 }, { STREAMS, 1024 } };

static double read_ms(bench *b, size_t n_streams, size_t ahead, int runs)
{
    b->n_streams = n_streams;
    b->ahead = ahead;
    return time_job(b, read_job, runs).best_ms;
}

static void *need(void *p)
{
    if (!p) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    return p;
}

/* Packed weights lie in huge pages, as in the program: the stream crosses a page every 2 MB instead of every 4 KB. */
static void *huge_pages(size_t bytes)
{
    const size_t page = 2 << 20;
    void *p = need(aligned_alloc(page, (bytes + page - 1) / page * page));
    (void)madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 0, bytes);
    return p;
}

/* Random codes, scales of a size as in models: byte 1 of each half-precision number is set to an exponent near 2^-7. */
static void fill_weights(rv_type type, uint8_t *raw, size_t bytes)
{
    const rv_type_info *info = rv_type_get((uint32_t)type);
    rv_rng rng;
    rv_rng_init(&rng, type + 1u);
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t x = rv_rng_next(&rng);
        memcpy(raw + i, &x, sizeof x);
    }
    for (size_t i = 0; i < bytes; i += info->block_bytes) {
        switch (type) {
        case RV_F32: raw[i + 3] = 0x3c; break;
        case RV_F16: raw[i + 1] = 0x20; break;
        case RV_BF16: raw[i + 1] = 0x3c; break;
        case RV_Q6_K: raw[i + 209] = 0x04; break;
        case RV_Q4_1:
        case RV_Q5_1:
        case RV_Q4_K:
        case RV_Q5_K: raw[i + 3] = 0x14; /* fall through */
        default: raw[i + 1] = 0x14;
        }
    }
}

static void bench_case(bench *b, rv_type type, size_t rows, size_t n_tokens, int runs)
{
    const rv_type_info *info = rv_type_get((uint32_t)type);
    size_t row_bytes = 0;
    (void)rv_type_row_bytes(type, b->cols, &row_bytes);
    void *raw = huge_pages(rows * row_bytes), *packed = NULL;
    fill_weights(type, raw, rows * row_bytes);
    b->w = (rv_matrix){ .type = type, .rows = rows, .cols = b->cols, .raw = raw };
    size_t pack_bytes = b->k->pack_bytes(type, rows, b->cols);
    timing pack = { 0, 0 };
    if (pack_bytes) {
        b->w.packed = packed = huge_pages(pack_bytes);
        pack = time_job(b, pack_job, 1);
    }
    b->read_from = packed ? packed : raw;
    b->read_bytes = packed ? pack_bytes : rows * row_bytes;

    float *x = need(rv_new_array(&rv_heap, n_tokens * b->cols, sizeof *x));
    rv_rng rng;
    rv_rng_init(&rng, 7);
    for (size_t i = 0; i < n_tokens * b->cols; i++) {
        x[i] = (float)rv_rng_unit(&rng) - 0.5f;
    }
    void *scratch = need(rv_new_aligned(&rv_heap, 64, rv_act_bytes(b->cols, n_tokens)));
    rv_act_fill(b->k, x, b->cols, b->cols, n_tokens, scratch, &b->act);
    b->out = need(rv_new_array(&rv_heap, n_tokens * rows, sizeof *b->out));

    (void)time_job(b, product_job, 1);
    timing product = time_job(b, product_job, runs);
    const double straight_ms = read_ms(b, 1, 0, n_tokens <= FEW_TOKENS ? runs : 1);
    double least_ms = straight_ms;
    for (size_t i = 0; i < RV_COUNT(ways) && n_tokens <= FEW_TOKENS; i++) {
        double ms = read_ms(b, ways[i].n_streams, ways[i].ahead, runs);
        least_ms = ms < least_ms ? ms : least_ms;
    }
    double gb = (double)b->read_bytes / 1e6,
           gop = 2.0 * (double)rows * (double)b->cols * (double)n_tokens / 1e6;
    double limit_gops = peak_gops(b);
    printf("{\"bench\":\"kernels_matmul\",\"version\":\"%s\",\"level\":\"%s\",\"threads\":%d,\"type\":\"%s\","
           "\"rows\":%zu,\"cols\":%zu,\"tokens\":%zu,\"best_ms\":%.3f,\"median_ms\":%.3f,",
           RV_VERSION, b->k->name, b->threads, info->name, rows, b->cols, n_tokens, product.best_ms,
           product.median_ms);
    if (n_tokens <= FEW_TOKENS) {
        printf("\"gb_per_s\":%.2f,\"read_gb_per_s\":%.2f,\"straight_gb_per_s\":%.2f,\"share_of_read\":%.3f,"
               "\"pack_gb_per_s\":%.2f}\n",
               gb / product.best_ms, gb / least_ms, gb / straight_ms, least_ms / product.best_ms,
               pack.best_ms > 0 ? gb / pack.best_ms : 0);
    } else {
        printf("\"gop_per_s\":%.1f,\"int8_peak_gop_per_s\":%.1f,\"share_of_peak\":%.3f}\n",
               gop / product.best_ms, limit_gops, limit_gops > 0 ? gop / product.best_ms / limit_gops : 0);
    }
    fflush(stdout);
    free(raw);
    free(packed);
    rv_free(&rv_heap, x);
    rv_free(&rv_heap, scratch);
    rv_free(&rv_heap, b->out);
}

int main(int argc, char **argv)
{
    bench b = { .k = rv_kernels_best(),
                .threads = argc > 1 ? atoi(argv[1]) : 1,
                .cols = argc > 4 ? (size_t)atoi(argv[4]) : COLS };
    size_t only_tokens = argc > 3 ? (size_t)atoi(argv[3]) : 0;
    if (rv_pool_new(&rv_heap, b.threads, &b.pool)) {
        fprintf(stderr, "bench: %s\n", rv_err_text());
        return 1;
    }
    for (uint32_t type = 0; type < RV_TYPE_LIMIT; type++) {
        const rv_type_info *info = rv_type_get(type);
        if (!info || (argc > 2 && strcmp(argv[2], "all") != 0 && strcmp(argv[2], info->name) != 0)) {
            continue;
        }
        size_t row_bytes = 0;
        if (!rv_type_row_bytes(type, b.cols, &row_bytes)) {
            continue; /* no rows of so many columns */
        }
        if (only_tokens <= FEW_TOKENS) {
            bench_case(&b, (rv_type)type, DECODE_BYTES / row_bytes / RV_ROW_STEP * RV_ROW_STEP,
                       only_tokens ? only_tokens : 1, RUNS);
        }
        if (only_tokens == 0 || only_tokens > FEW_TOKENS) {
            bench_case(&b, (rv_type)type, PREFILL_ROWS, only_tokens ? only_tokens : PREFILL_TOKENS, 5);
        }
    }
    rv_pool_free(b.pool);
    return 0;
}
