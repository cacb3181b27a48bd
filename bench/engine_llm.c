/* How fast does the engine take a prompt in and give tokens out? As `ruvllm bench llm`, without the rest of the program:
 *     bench_engine_llm MODEL [-p tokens] [-n tokens] [-t threads] [-r repeats]
 * JSON lines; median, least and most of the repeats, and what they mean in weight bytes read. */
#include "base/clock.h"
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_line(const char *test, size_t tokens, double *ms, size_t n, const rv_engine_info *info, int threads)
{
    qsort(ms, n, sizeof *ms, by_size);
    double per_s = 1e3 * (double)tokens / ms[n / 2];
    printf("{\"test\":\"%s%zu\",\"threads\":%d,\"kernels\":\"%s\",\"tokens_per_second\":%.2f,\"min\":%.2f,\"max\":%.2f",
           test, tokens, threads, rv_kernels_best()->name, per_s, 1e3 * (double)tokens / ms[n - 1],
           1e3 * (double)tokens / ms[0]);
    if (strcmp(test, "tg") == 0) {
        printf(",\"weight_gb_per_second\":%.1f", per_s * (double)info->shape.weight_bytes / 1e9);
    }
    printf("}\n");
}

static int fail(void)
{
    fprintf(stderr, "bench_engine_llm: %s\n", rv_err_text());
    return 1;
}

int main(int argc, char **argv)
{
    enum { P, N, T, R, OPTIONS, REPEATS_MAX = 100 };
    static const char letters[] = "pntr";
    size_t option[OPTIONS] = { [P] = 512, [N] = 128, [T] = 1, [R] = 3 };
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *at = argv[i][0] == '-' && argv[i][1] ? strchr(letters, argv[i][1]) : NULL;
        if (at) {
            option[at - letters] = strtoul(argv[i + 1], NULL, 10);
        }
    }
    if (argc < 2 || option[R] < 1 || option[R] > REPEATS_MAX) {
        fprintf(stderr, "usage: bench_engine_llm MODEL [-p tokens] [-n tokens] [-t threads] [-r repeats]\n");
        return 2;
    }
    rv_pool *pool = NULL;
    rv_engine *engine = NULL;
    if (rv_pool_new(&rv_heap, (int)option[T], &pool)) {
        return fail();
    }
    double start = rv_clock_ms(), prefill[REPEATS_MAX], decode[REPEATS_MAX];
    rv_engine_options how = rv_engine_options_default();
    how.pool = pool;
    if (rv_engine_open(&rv_heap, argv[1], how, &engine)) {
        return fail();
    }
    double opened = rv_clock_ms() - start;
    for (size_t i = 0; i < option[R]; i++) {
        if (rv_engine_bench(engine, option[P], option[N], &prefill[i], &decode[i])) {
            return fail();
        }
    }
    const rv_engine_info *info = rv_engine_get_info(engine);
    printf("{\"test\":\"open\",\"ms\":%.1f,\"resident_mb\":%.1f}\n", opened, (double)info->resident_bytes / 1e6);
    if (option[P]) {
        print_line("pp", option[P], prefill, option[R], info, (int)option[T]);
    }
    if (option[N]) {
        print_line("tg", option[N], decode, option[R], info, (int)option[T]);
    }
    rv_engine_close(engine);
    rv_pool_free(pool);
    return 0;
}
