/* What does it cost to go on with a conversation after a restart? The time to the first token of TOKENS tokens and 16 new
 * ones: computed, and read back from disk by an engine that was just opened; medians of RUNS. Then SESSIONS conversations
 * of EACH tokens in a pool of POOL megabytes: failures, the most the pool held, how many were read back whole. Each line ends
 * with the figure that counts and its bar: read back over computed; bytes that became resident meanwhile, and the pool.
 *
 *     bench_engine_sessions MODEL [TOKENS [SESSIONS [EACH [POOL]]]]      4096 tokens, no sessions, 1000 each, 512 MB
 *
 * Files go to a folder in TMPDIR, which is removed. Two threads. */
#include "base/clock.h"
#include "base/file.h"
#include "base/rng.h"
#include "engine/engine.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUNS = 3, MORE = 16, ANSWER = 4 };

static void must(rv_err e)
{
    if (e) {
        fprintf(stderr, "bench: %s\n", rv_err_text());
        exit(1);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct first {
    double start, ms;
    int32_t tokens[ANSWER];
    size_t n;
} first;

static bool note(void *self, const rv_piece *p)
{
    first *f = self;
    if (p->token >= 0 && f->n < ANSWER) {
        f->ms = f->n ? f->ms : rv_clock_ms() - f->start;
        f->tokens[f->n++] = p->token;
    }
    return true;
}

static first ask(rv_engine *e, const int32_t *ids, size_t n, size_t *cached)
{
    first f = { .start = rv_clock_ms() };
    rv_sampling greedy = rv_sampling_default();
    greedy.temperature = 0;
    rv_generated done;
    must(rv_engine_generate(e,
                            &(rv_generate){ .prompt = ids,
                                            .n_prompt = n,
                                            .max_tokens = ANSWER,
                                            .n_logprobs = -1,
                                            .sampling = greedy,
                                            .ignore_end = true,
                                            .on_piece = note,
                                            .self = &f },
                            &done));
    *cached = done.cached_tokens;
    return f;
}

static void fill(int32_t *ids, size_t n, uint64_t seed, size_t vocab)
{
    rv_rng rng;
    rv_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(14 + rv_rng_below(&rng, vocab - 14));
    }
}

static void empty(const char *dir)
{
    DIR *folder = opendir(dir);
    for (struct dirent *e; folder && (e = readdir(folder));) {
        unlinkat(dirfd(folder), e->d_name, 0);
    }
    if (folder) {
        closedir(folder);
    }
}

static void resume(const char *path, const char *dir, rv_engine_options how, size_t tokens)
{
    double cold[RUNS], warm[RUNS];
    int32_t *ids = calloc(tokens + MORE, sizeof *ids);
    bool same = true;
    uint64_t bytes = 0;
    for (size_t run = 0; ids && run < RUNS; run++) {
        rv_engine *e = NULL;
        size_t cached;
        empty(dir);
        must(rv_shelf_open(&rv_heap, dir, (uint64_t)8 << 30, &how.shelf));
        must(rv_engine_open(&rv_heap, path, how, &e));
        fill(ids, tokens + MORE, run, rv_engine_get_info(e)->shape.n_vocab);
        ask(e, ids + tokens, MORE, &cached); /* page tables, caches */
        first a = ask(e, ids, tokens + MORE, &cached);
        rv_engine_close(e);
        bytes = rv_shelf_get_stats(how.shelf).bytes;
        rv_shelf_close(how.shelf);

        must(rv_shelf_open(&rv_heap, dir, (uint64_t)8 << 30, &how.shelf));
        must(rv_engine_open(&rv_heap, path, how, &e));
        ask(e, ids + tokens, MORE, &cached);
        first b = ask(e, ids, tokens + MORE, &cached);
        rv_engine_close(e);
        rv_shelf_close(how.shelf);
        cold[run] = a.ms;
        warm[run] = b.ms;
        same &= memcmp(a.tokens, b.tokens, sizeof a.tokens) == 0 && cached >= tokens;
    }
    free(ids);
    qsort(cold, RUNS, sizeof *cold, by_value);
    qsort(warm, RUNS, sizeof *warm, by_value);
    printf(
        "{\"bench\":\"engine_sessions\",\"test\":\"resume\",\"version\":\"%s\",\"level\":\"%s\",\"tokens\":%"
        "zu,"
        "\"computed_ms\":%.1f,\"read_back_ms\":%.1f,\"ratio\":%.4f,\"file_bytes\":%llu,\"same_answer\":%s,"
        "\"figure\":%.4f,\"bar\":0.1,\"met\":%s}\n",
        RV_VERSION, rv_kernels_best()->name, tokens + MORE, cold[RUNS / 2], warm[RUNS / 2],
        warm[RUNS / 2] / cold[RUNS / 2], (unsigned long long)bytes, same ? "true" : "false",
        warm[RUNS / 2] / cold[RUNS / 2], same && 10 * warm[RUNS / 2] <= cold[RUNS / 2] ? "true" : "false");
}

static size_t resident_bytes(void)
{
    size_t pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%zu %zu", &pages, &resident) != 2) {
        resident = 0;
    }
    if (f) {
        fclose(f);
    }
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void crowd(const char *path, const char *dir, rv_engine_options how, size_t sessions, size_t each,
                  size_t pool)
{
    rv_engine *e = NULL;
    int32_t *ids = calloc(each + MORE, sizeof *ids);
    empty(dir);
    must(rv_budget_new(&rv_heap, pool, &how.budget));
    must(rv_shelf_open(&rv_heap, dir, (uint64_t)24 << 30, &how.shelf));
    must(rv_engine_open(&rv_heap, path, how, &e));
    size_t vocab = rv_engine_get_info(e)->shape.n_vocab, cached, whole = 0, before = resident_bytes(),
           most = before;
    for (size_t i = 0; ids && i < sessions; i++) {
        fill(ids, each, i, vocab);
        ask(e, ids, each, &cached);
        size_t now = resident_bytes();
        most = now > most ? now : most;
    }
    double start = rv_clock_ms();
    size_t asked = 0;
    for (size_t i = 0; ids && i < sessions; i += sessions / 50 + 1, asked++) {
        fill(ids, each, i, vocab);
        fill(ids + each, MORE, i + 1, vocab);
        ask(e, ids, each + MORE, &cached);
        whole += cached + 1 >= each;
    }
    printf("{\"bench\":\"engine_sessions\",\"test\":\"crowd\",\"sessions\":%zu,\"tokens_each\":%zu,\"pool_"
           "bytes\":%zu,"
           "\"pool_peak_bytes\":%zu,\"resident_before\":%zu,\"resident_peak\":%zu,\"failures\":0,\"asked_"
           "again\":%zu,"
           "\"read_back_whole\":%zu,\"ms_each\":%.1f,\"files\":%zu,\"figure\":%zu,\"bar\":%zu,\"met\":%s}\n",
           sessions, each, pool, rv_budget_peak(how.budget), before, most, asked, whole,
           (rv_clock_ms() - start) / (double)(asked ? asked : 1), rv_shelf_get_stats(how.shelf).files,
           most - before, pool, most - before <= pool ? "true" : "false");
    rv_engine_close(e);
    rv_shelf_close(how.shelf);
    rv_budget_free(how.budget);
    free(ids);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_engine_sessions MODEL [TOKENS [SESSIONS [EACH [POOL]]]]\n");
        return 2;
    }
    size_t n[4] = { 4096, 0, 1000, 512 };
    for (int i = 2; i < argc && i < 6; i++) {
        n[i - 2] = strtoull(argv[i], NULL, 10);
    }
    char dir[4096];
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/ruvllm-bench.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    rv_engine_options how = rv_engine_options_default();
    must(rv_pool_new(&rv_heap, 2, &how.pool));
    how.max_context = (uint32_t)(n[0] + 256);
    if (n[0]) {
        resume(argv[1], dir, how, n[0]);
    }
    if (n[1]) {
        how.max_context = (uint32_t)(n[2] + 256);
        crowd(argv[1], dir, how, n[1], n[2], n[3] << 20);
    }
    rv_pool_free(how.pool);
    empty(dir);
    rmdir(dir);
    return 0;
}
