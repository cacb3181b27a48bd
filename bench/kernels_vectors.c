/* How fast are the vector operations on data in the cache? Per operation and element, beside what one pass of reading and
 * writing float32 in the first cache would cost. One thread.
 *
 *     bench_kernels_vectors      RV_CPU chooses the level */
#include "kernels/kernels.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

enum { N = 4096, REPEAT = 200, RUNS = 9 };

static _Alignas(64) float x[N], y[N], z[3 * N], state[2 * N];
static _Alignas(64) int8_t bytes[2][N];
static _Alignas(64) uint16_t halves[N];
static _Alignas(64) rv_act_block blocks[N / 32];
static const float turn[2][32]; /* all zero: the values do not matter to the time, and do not grow */
static float sink;

static void run_dot(const rv_kernels *k)
{
    sink += k->dot_f32(x, y, N);
}
static void run_l2sq(const rv_kernels *k)
{
    sink += k->l2sq_f32(x, y, N);
}
static void run_dot_i8(const rv_kernels *k)
{
    sink += (float)k->dot_i8(bytes[0], bytes[1], N);
}
static void run_rmsnorm(const rv_kernels *k)
{
    k->rmsnorm(x, y, N, 1e-5f, z);
}
static void run_add(const rv_kernels *k)
{
    k->add(z, y, N);
}
static void run_silu(const rv_kernels *k)
{
    for (size_t i = 0; i < N; i++) {
        z[i] = y[i]; /* else repeated products run into sub-normals */
    }
    k->silu_mul(z, x, N);
}
static void run_rope(const rv_kernels *k)
{
    k->rope(z, turn[0], turn[1], N / 64, 64);
}
static void run_softmax(const rv_kernels *k)
{
    k->softmax(z, N);
}
static void run_shortconv(const rv_kernels *k)
{
    k->shortconv(z, x, state, N / 4, 3, y);
}
static void run_to_f16(const rv_kernels *k)
{
    k->f32_to_f16(x, halves, N);
}
static void run_from_f16(const rv_kernels *k)
{
    k->f16_to_f32(halves, z, N);
}
static void run_quantize(const rv_kernels *k)
{
    k->quantize(x, N, blocks);
}

static const struct {
    const char *name;
    void (*run)(const rv_kernels *k);
    size_t elements;
} operations[] = {
    { "dot_f32", run_dot, N },
    { "l2sq_f32", run_l2sq, N },
    { "dot_i8", run_dot_i8, N },
    { "rmsnorm", run_rmsnorm, N },
    { "add", run_add, N },
    { "silu_mul", run_silu, N },
    { "rope", run_rope, N },
    { "softmax", run_softmax, N },
    { "shortconv", run_shortconv, N / 4 },
    { "f32_to_f16", run_to_f16, N },
    { "f16_to_f32", run_from_f16, N },
    { "quantize", run_quantize, N },
};

static int by_value(const void *a, const void *b)
{
    double p = *(const double *)a, q = *(const double *)b;
    return (p > q) - (p < q);
}

int main(void)
{
    const rv_kernels *k = rv_kernels_best();
    rv_rng rng;
    rv_rng_init(&rng, 1);
    for (size_t i = 0; i < RV_COUNT(operations); i++) {
        double ms[RUNS];
        for (int r = 0; r < RUNS; r++) {
            for (size_t j = 0; j < N; j++) {
                x[j] = rv_rng_normal(&rng);
                y[j] = rv_rng_normal(&rng);
                z[j] = z[N + j] = z[2 * N + j] = rv_rng_normal(&rng);
                bytes[0][j] = bytes[1][j] = (int8_t)rv_rng_next(&rng);
            }
            double from = rv_clock_ms();
            for (int j = 0; j < REPEAT; j++) {
                operations[i].run(k);
            }
            ms[r] = rv_clock_ms() - from;
        }
        qsort(ms, RUNS, sizeof *ms, by_value);
        const double per = 1e6 / (double)(REPEAT * operations[i].elements);
        printf("{\"bench\":\"kernels_vectors\",\"version\":\"%s\",\"level\":\"%s\",\"operation\":\"%s\","
               "\"elements\":%zu,"
               "\"best_ns_per_element\":%.4f,\"median_ns_per_element\":%.4f}\n",
               RV_VERSION, k->name, operations[i].name, operations[i].elements, ms[0] * per,
               ms[RUNS / 2] * per);
    }
    return sink == 1.5f; /* kept alive, as good as never */
}
