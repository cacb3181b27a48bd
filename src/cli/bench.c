/* bench llm: prefill and decode speed of one model, each run timed alone, medians. bench loop: a request without its generation. */
#include "cli/cli.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

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

/* ---- bench loop ---- */

enum { LOOP_STAGES = 5, REQUEST_BYTES = 16 << 20, TEXTS = 1000, ASKED_WORDS = 8 };

/* Words 3 to 10 of a text that is stored: what somebody might ask who remembers it dimly. */
static rv_str words_of(const char *text)
{
    rv_str rest = rv_str_of(text, strlen(text)), word, out = { text, 0 };
    for (int i = 0; i < 2 + ASKED_WORDS && rv_word_next(&rest, &word); i++) {
        out.at = i <= 2 ? word.at : out.at;
        out.n = (size_t)(word.at + word.n - out.at);
    }
    return out;
}

static rv_err time_request(const rv_pipeline *p, rv_str question, double *ms, size_t stride)
{
    static const rv_stage stages[] = { RV_STAGE_EMBED, RV_STAGE_MEMORY, RV_STAGE_ROUTER, RV_STAGE_ATTEND };
    rv_arena *arena;
    rv_request r;
    RV_TRY(rv_arena_new(&rv_heap, REQUEST_BYTES, &arena));
    rv_err e = rv_request_init(&r, arena);
    r.query = question.at;
    r.query_bytes = question.n;
    e = e ? e : rv_pipeline_prepare(p, &r);
    for (size_t s = 0; !e && s < RV_COUNT(stages); s++) {
        ms[s * stride] = r.stage_ms[stages[s]];
    }
    ms[RV_COUNT(stages) * stride] = e ? 0 : r.total_ms;
    rv_arena_free(arena);
    return e;
}

int cmd_bench_loop(cmd_line *line)
{
    static const char *const names[LOOP_STAGES] = { "embed", "memory", "router", "attend", "all" };
    int64_t requests = 1000;
    if (!cmd_int(line, "requests", 1, 1000000, &requests)) {
        return CMD_USAGE;
    }
    size_t n = (size_t)requests;
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_arena *arena = NULL;
    rv_memory_hits texts = { 0 };
    rv_memory_stats stats = { 0 };
    double *ms = calloc(n, LOOP_STAGES * sizeof *ms);
    rv_err e = ms ? cmd_open(line, RV_APP_ALL, &config, &app) : rv_fail(RV_E_NOMEM, "bench loop");
    const rv_pipeline *p = e ? NULL : rv_app_pipeline(app);
    e = e ? e
          : rv_memory_settle(p->memory); /* with its indexes, as a server has them after its first seconds */
    e = e ? e : rv_memory_get_stats(p->memory, &stats);
    e = e ? e : rv_arena_new(&rv_heap, 1u << 30, &arena);
    e = e ? e
          : rv_memory_list(p->memory, rv_memory_whole(), &(rv_memory_filter){ 0 }, TEXTS, 0, arena, &texts);
    if (!e && texts.n == 0) {
        e = rv_fail(RV_E_ARG, "bench loop: the memory is empty; add texts first (ruvllm memory import)");
    }
    for (size_t i = 0; !e && i < n + n / 10 + 1; i++) { /* a tenth before, to be warm */
        e = time_request(p, words_of(texts.at[i * 7919 % texts.n].text), ms + i % n, n);
    }
    for (int s = 0; !e && s < LOOP_STAGES; s++) {
        double *of = ms + (size_t)s * n;
        qsort(of, n, sizeof *of, by_value);
        cmd_print(json_pack("{s:s, s:s, s:f, s:f, s:I, s:I, s:s}", "test", "loop", "stage", names[s],
                            "p50_ms", of[n / 2], "p99_ms", of[n * 99 / 100], "requests", (json_int_t)n,
                            "nodes", (json_int_t)stats.nodes, "left_out", "generation"));
    }
    rv_arena_free(arena);
    free(ms);
    cmd_close(config, app);
    return e ? cmd_fail(e) : CMD_DONE;
}
