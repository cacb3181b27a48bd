/* bench llm: prefill and decode speed of one model, each run timed alone, medians. */
#include "cli/cli.h"

#include "base/json.h"

#include <stdlib.h>

enum { MAX_RUNS = 1000 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, const rv_engine_info *info, int threads, double *rates, size_t n)
{
    qsort(rates, n, sizeof *rates, by_value);
    double median = n % 2 ? rates[n / 2] : (rates[n / 2 - 1] + rates[n / 2]) / 2;
    json_t *row = json_pack("{s:s, s:f, s:f, s:f, s:i, s:i, s:s%, s:I, s:s}", "test", name,
                            "tokens_per_second", median, "min", rates[0], "max", rates[n - 1], "runs", (int)n,
                            "threads", threads, "model", info->name.at, info->name.n, "weight_bytes",
                            (json_int_t)info->shape.weight_bytes, "level", rv_kernels_best()->name);
    cmd_print(row);
}

int cmd_bench_llm(cmd_line *line)
{
    int64_t n_prompt = 512, n_gen = 128, repeat = 5, depth = 0;
    if (!cmd_int(line, "prompt", 0, 1 << 20, &n_prompt) || !cmd_int(line, "gen", 0, 1 << 20, &n_gen) ||
        !cmd_int(line, "depth", 0, 1 << 20, &depth) || !cmd_int(line, "repeat", 1, MAX_RUNS, &repeat)) {
        return CMD_USAGE;
    }
    rv_pool *pool = NULL;
    rv_engine *engine = NULL;
    static double prefill[MAX_RUNS], decode[MAX_RUNS];
    rv_err e = cmd_engine(line, line->args[0], &pool, &engine);
    double ms[2];
    if (!e) { /* a short run first: caches, page tables, clock speed */
        e = rv_engine_bench(engine, 0, n_prompt ? 32 : 0, n_gen ? 4 : 0, &ms[0], &ms[1]);
    }
    for (int64_t r = 0; !e && r < repeat; r++) {
        e = rv_engine_bench(engine, (size_t)depth, (size_t)n_prompt, (size_t)n_gen, &ms[0], &ms[1]);
        prefill[r] = n_prompt && ms[0] > 0 ? (double)n_prompt * 1000 / ms[0] : 0;
        decode[r] = n_gen && ms[1] > 0 ? (double)n_gen * 1000 / ms[1] : 0;
    }
    if (!e) {
        char name[48], at[24] = "";
        if (depth) {
            snprintf(at, sizeof at, "@d%lld", (long long)depth);
        }
        if (n_prompt) {
            snprintf(name, sizeof name, "pp%lld%s", (long long)n_prompt, at);
            report(name, rv_engine_get_info(engine), rv_pool_threads(pool), prefill, (size_t)repeat);
        }
        if (n_gen) {
            snprintf(name, sizeof name, "tg%lld%s", (long long)n_gen, at);
            report(name, rv_engine_get_info(engine), rv_pool_threads(pool), decode, (size_t)repeat);
        }
    }
    rv_engine_close(engine);
    rv_pool_free(pool);
    return e ? cmd_fail(e) : CMD_DONE;
}
