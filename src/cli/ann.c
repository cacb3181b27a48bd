/* bench ann: how fast an index finds how much of what an exact search finds. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SETTINGS_MAX = 64, PASSES_MOST = 15, PASSES_LEAST = 3 };

/* A set of vectors in memory: aligned, finite, of length 1 where the metric says so */
typedef struct set {
    float *at; /* [n][dim] */
    size_t n, dim;
} set;

typedef struct setting {
    size_t ef, rerank;
} setting;

typedef struct job {
    rv_index *index;
    const set *queries;
    rv_search how;
    rv_hit *hits;       /* [queries][k] */
    size_t *found;      /* [queries] */
    double *latency_us; /* [queries] */
    double cpu_s[256];
    rv_err e[256];
} job;

static double cpu_seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- reading ---- */

static rv_err read_set(const char *path, bool unit, set *out)
{
    rv_map map;
    rv_vecs vecs;
    RV_TRY(rv_file_map(path, &map));
    rv_err e = rv_vecs_read(map.at, map.n, &vecs);
    if (e) {
        rv_file_unmap(&map);
        return rv_fail(e, "%s: %s", path, rv_err_text());
    }
    out->n = vecs.n;
    out->dim = vecs.dim;
    out->at = rv_new_aligned(&rv_heap, 64, vecs.n * vecs.dim * sizeof *out->at);
    e = out->at ? RV_OK : rv_fail(RV_E_NOMEM, "%s: no memory for %zu vectors", path, vecs.n);
    for (size_t i = 0; !e && i < vecs.n; i++) {
        float *row = out->at + i * vecs.dim;
        memcpy(row, rv_vecs_row(&vecs, i), vecs.dim * sizeof *row);
        double length = 0;
        for (size_t d = 0; d < vecs.dim; d++) {
            length += (double)row[d] * (double)row[d];
        }
        if (!isfinite(length)) {
            e = rv_fail(RV_E_FORMAT, "%s: vector %zu is not finite", path, i);
        }
        float scale = unit && length > 0 ? (float)(1 / sqrt(length)) : 1;
        for (size_t d = 0; unit && d < vecs.dim; d++) {
            row[d] *= scale;
        }
    }
    rv_file_unmap(&map);
    return e;
}

/* The first k ids of every row, -1 where there are fewer. */
static rv_err read_truth(const char *path, size_t n, size_t k, int32_t **out)
{
    rv_map map;
    rv_vecs vecs;
    RV_TRY(rv_file_map(path, &map));
    rv_err e = rv_vecs_read(map.at, map.n, &vecs);
    if (e) {
        e = rv_fail(e, "%s: %s", path, rv_err_text());
    } else if (vecs.n < n || vecs.dim < k) {
        e = rv_fail(RV_E_FORMAT, "%s: %zu rows of %zu ids, expected %zu of at least %zu", path, vecs.n,
                    vecs.dim, n, k);
    }
    int32_t *ids = e ? NULL : rv_new_array(&rv_heap, n * k, sizeof *ids);
    if (!e && !ids) {
        e = rv_fail(RV_E_NOMEM, "%s: no memory", path);
    }
    for (size_t i = 0; !e && i < n; i++) {
        memcpy(ids + i * k, rv_vecs_row(&vecs, i), k * sizeof *ids);
    }
    rv_file_unmap(&map);
    *out = e ? NULL : ids;
    return e;
}

/* ---- building, saving and opening ---- */

typedef struct drawing {
    cmd_bar bar;
    size_t n;
} drawing;

static bool draw(void *self, size_t done)
{
    drawing *p = self;
    cmd_bar_draw(&p->bar, "building", done, p->n);
    return !atomic_load(&cmd_cancel);
}

static rv_err build(const rv_index_config *config, rv_pool *pool, const set *base, rv_index **out)
{
    drawing progress = { .n = base->n };
    int64_t *ids = rv_new_array(&rv_heap, base->n, sizeof *ids);
    const float **rows = rv_new_array(&rv_heap, base->n, sizeof *rows);
    rv_err e = ids && rows ? rv_index_new(&rv_heap, config, out)
                           : rv_fail(RV_E_NOMEM, "no memory for %zu ids", base->n);
    for (size_t i = 0; !e && i < base->n; i++) {
        ids[i] = (int64_t)i;
        rows[i] = base->at + i * base->dim;
    }
    cmd_bar_init(&progress.bar);
    if (!e) {
        e = rv_index_build(*out, pool, ids, rows, base->n, draw, &progress);
    }
    cmd_bar_end(&progress.bar);
    rv_free(&rv_heap, ids);
    rv_free(&rv_heap, rows);
    return e;
}

static rv_err write_file(void *self, const void *bytes, size_t n)
{
    return fwrite(bytes, 1, n, self) == n ? RV_OK
                                          : rv_fail(RV_E_IO, "saving the index: the disk takes no more");
}

/* From file to first answer, in the page cache. */
static rv_err time_open(const rv_index *index, const set *queries, double *open_ms, double *save_ms)
{
    const char *dir = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/ruvllm-ann-%d.idx", dir && *dir ? dir : "/tmp", (int)getpid());
    double from = rv_clock_ms();
    FILE *f = fopen(path, "wbx");
    if (!f) {
        return rv_fail(RV_E_IO, "%s: cannot be made", path);
    }
    rv_err e = rv_index_save(index, write_file, f);
    e = fclose(f) == 0 || e ? e : rv_fail(RV_E_IO, "%s: the disk takes no more", path);
    *save_ms = rv_clock_ms() - from;
    rv_map map = { 0 };
    rv_index *again = NULL;
    rv_hit hit;
    size_t found;
    from = rv_clock_ms();
    e = e ? e : rv_file_map(path, &map);
    e = e ? e : rv_index_open(&rv_heap, map.at, map.n, NULL, NULL, &again);
    e = e ? e : rv_index_search(again, queries->at, &(rv_search){ .k = 1 }, &hit, &found);
    *open_ms = rv_clock_ms() - from;
    rv_index_free(again);
    rv_file_unmap(&map);
    unlink(path);
    return e;
}

/* ---- asking ---- */

static void ask(void *arg, int thread, int n_threads)
{
    job *j = arg;
    double from = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    for (size_t q = (size_t)thread; q < j->queries->n && !j->e[thread]; q += (size_t)n_threads) {
        uint64_t begin = rv_clock_ns();
        j->e[thread] = rv_index_search(j->index, j->queries->at + q * j->queries->dim, &j->how,
                                       j->hits + q * j->how.k, &j->found[q]);
        j->latency_us[q] = (double)(rv_clock_ns() - begin) / 1000;
    }
    j->cpu_s[thread] = cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - from;
}

static double recall_of(const job *j, const int32_t *truth)
{
    size_t k = j->how.k, hit = 0, all = 0;
    for (size_t q = 0; q < j->queries->n; q++) {
        for (size_t t = 0; t < k && truth[q * k + t] >= 0; t++, all++) {
            for (size_t i = 0; i < j->found[q]; i++) {
                hit += j->hits[q * k + i].id == truth[q * k + t];
            }
        }
    }
    return all ? (double)hit / (double)all : 1;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct timing {
    double qps, cpu_qps, p50_us, p99_us; /* of the best pass */
} timing;

/* Passes over all queries: one thread asks one query at a time. */
static rv_err measure(job *j, rv_pool *pool, timing *best)
{
    int threads = rv_pool_threads(pool);
    *best = (timing){ 0 };
    double spent = 0;
    for (int pass = 0; pass < PASSES_MOST && (pass < PASSES_LEAST || spent < 0.5) && spent < 1.5; pass++) {
        double from = rv_clock_ms(), cpu = 0;
        rv_pool_run(pool, ask, j);
        double seconds = (rv_clock_ms() - from) / 1000;
        for (int t = 0; t < threads; t++) {
            if (j->e[t]) {
                return j->e[t];
            }
            cpu += j->cpu_s[t];
        }
        spent += seconds;
        double n = (double)j->queries->n, cpu_qps = threads * n / cpu;
        best->cpu_qps = cpu_qps > best->cpu_qps ? cpu_qps : best->cpu_qps;
        if (n / seconds > best->qps) {
            best->qps = n / seconds;
            qsort(j->latency_us, j->queries->n, sizeof *j->latency_us, by_value);
            best->p50_us = j->latency_us[j->queries->n / 2];
            best->p99_us = j->latency_us[j->queries->n * 99 / 100];
        }
    }
    return RV_OK;
}

/* ---- the command ---- */

typedef struct options {
    rv_index_config config;
    int64_t k, threads, rerank;
    size_t efs[SETTINGS_MAX], n_efs;
} options;

static bool parse_list(const cmd_line *line, options *o)
{
    static const size_t usual[] = { 16, 32, 64, 128, 256, 512 }, lists[] = { 1, 2, 4, 8, 16, 32, 64, 128 };
    const char *text = cmd_value(line, "ef", NULL);
    bool flat = strcmp(o->config.kind, "flat") == 0, graph = strcmp(o->config.kind, "hnsw") == 0;
    if (!text) {
        o->n_efs = flat ? 1 : graph ? RV_COUNT(usual) : RV_COUNT(lists);
        memcpy(o->efs, graph || flat ? usual : lists, o->n_efs * sizeof *o->efs);
        return true;
    }
    for (const char *at = text; o->n_efs < SETTINGS_MAX; at++) {
        char *end;
        unsigned long ef = strtoul(at, &end, 10);
        if (end == at || (*end && *end != ',') || *at == '-' || ef < 1 || ef > 1u << 20) {
            break;
        }
        o->efs[o->n_efs++] = ef;
        at = end;
        if (!*end) {
            return true;
        }
    }
    cmd_usage(line, "--ef is a list of at most %d numbers, as in 32,64,128; found `%s`", SETTINGS_MAX, text);
    return false;
}

static bool parse_options(const cmd_line *line, options *o)
{
    static const char *const metrics[] = { "cos", "l2", "ip" }, *const keeps[] = { "", "f32", "bf16" };
    const char *metric = cmd_value(line, "metric", "l2"), *keep = cmd_value(line, "keep", "f32");
    int64_t m = 0, efc = 0, n_lists = 0, bits = 0, seed = 0;
    *o = (options){ .k = 10, .threads = 1, .config = { .kind = cmd_value(line, "index", "hnsw") } };
    if (!cmd_int(line, "k", 1, RV_INDEX_K_MAX, &o->k) || !cmd_int(line, "threads", 1, 256, &o->threads) ||
        !cmd_int(line, "rerank", 0, 1 << 20, &o->rerank) || !cmd_int(line, "M", 2, 128, &m) ||
        !cmd_int(line, "efc", 1, 1 << 20, &efc) || !cmd_int(line, "lists", 1, 1 << 24, &n_lists) ||
        !cmd_int(line, "bits", 1, 8, &bits) || !cmd_int(line, "seed", 0, INT64_MAX, &seed)) {
        return false;
    }
    size_t at = 0, kept = 1;
    while (at < RV_COUNT(metrics) && strcmp(metric, metrics[at]) != 0) {
        at++;
    }
    while (kept < RV_COUNT(keeps) && strcmp(keep, keeps[kept]) != 0) {
        kept++;
    }
    if (at == RV_COUNT(metrics) || kept == RV_COUNT(keeps)) {
        cmd_usage(line, "--metric is l2, cos or ip, --keep is f32 or bf16; found `%s` and `%s`", metric,
                  keep);
        return false;
    }
    o->config.metric = (rv_index_metric)at;
    o->config.keep = (rv_keep)kept;
    o->config.m = (size_t)m;
    o->config.ef_build = (size_t)efc;
    o->config.lists = (size_t)n_lists;
    o->config.bits = (size_t)bits;
    o->config.seed = (uint64_t)seed;
    return parse_list(line, o);
}

static void report(const options *o, const rv_index *index, const char *setting_text, size_t ef,
                   double recall, const timing *t, double build_s, double build_cpu_s, double open_ms,
                   double save_ms)
{
    rv_index_size size = rv_index_bytes(index);
    double n = (double)rv_index_count(index);
    cmd_print(json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:s}", "index",
        o->config.kind, "setting", setting_text, "ef", (json_int_t)ef, "k", (json_int_t)o->k, "threads",
        (json_int_t)o->threads, "recall@10", recall, "qps", o->threads == 1 ? t->cpu_qps : t->qps, "wall_qps",
        t->qps, "p50_us", t->p50_us, "p99_us", t->p99_us, "build_s", build_s, "build_cpu_s", build_cpu_s,
        "bytes_per_vector", ((double)size.hot + (double)size.cold) / n, "hot_bytes_per_vector",
        (double)size.hot / n, "open_ms", open_ms, "save_ms", save_ms, "n", (json_int_t)n, "level",
        rv_kernels_best()->name));
}

static rv_err run(const cmd_line *line, const options *o, rv_pool *pool, set *base, set *queries,
                  int32_t **truth, rv_index **index, job *j)
{
    bool unit = o->config.metric == RV_INDEX_COS;
    RV_TRY(read_set(cmd_value(line, "base", ""), unit, base));
    RV_TRY(read_set(cmd_value(line, "queries", ""), unit, queries));
    if (base->dim != queries->dim) {
        return rv_fail(RV_E_ARG, "vectors have %zu dimensions, queries %zu", base->dim, queries->dim);
    }
    size_t k = (size_t)o->k;
    RV_TRY(read_truth(cmd_value(line, "truth", ""), queries->n, k, truth));
    j->queries = queries;
    j->hits = rv_new_array(&rv_heap, queries->n * k, sizeof *j->hits);
    j->found = rv_new_array(&rv_heap, queries->n, sizeof *j->found);
    j->latency_us = rv_new_array(&rv_heap, queries->n, sizeof *j->latency_us);
    if (!j->hits || !j->found || !j->latency_us) {
        return rv_fail(RV_E_NOMEM, "no memory for %zu queries", queries->n);
    }
    rv_index_config config = o->config;
    config.dim = base->dim;
    double from = rv_clock_ms(), cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    double open_ms = 0, save_ms = 0;
    RV_TRY(build(&config, pool, base, index));
    double build_s = (rv_clock_ms() - from) / 1000, build_cpu_s = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    rv_free(&rv_heap, base->at);
    base->at = NULL;
    RV_TRY(time_open(*index, queries, &open_ms, &save_ms));
    j->index = *index;
    for (size_t i = 0; i < o->n_efs && !atomic_load(&cmd_cancel); i++) {
        timing t;
        j->how = (rv_search){ .k = k, .ef = o->efs[i], .rerank = (size_t)o->rerank };
        RV_TRY(measure(j, pool, &t));
        const rv_index_config *c = rv_index_get_config(*index);
        char text[128];
        if (strcmp(c->kind, "hnsw") == 0) {
            snprintf(text, sizeof text, "M=%zu efc=%zu ef=%zu rerank=%zu", c->m, c->ef_build, o->efs[i],
                     o->rerank ? (size_t)o->rerank : 2 * k + 10);
        } else if (strcmp(c->kind, "flat") == 0) {
            snprintf(text, sizeof text, "exact");
        } else {
            snprintf(text, sizeof text, "lists=%zu bits=%zu probes=%zu rerank=%zu", c->lists, c->bits,
                     o->efs[i], (size_t)o->rerank);
        }
        report(o, *index, text, o->efs[i], recall_of(j, *truth), &t, build_s, build_cpu_s, open_ms, save_ms);
        fflush(stdout);
    }
    return atomic_load(&cmd_cancel) ? rv_fail(RV_E_CANCELLED, "cancelled") : RV_OK;
}

int cmd_bench_ann(cmd_line *line)
{
    options o;
    static const char *const needed[] = { "base", "queries", "truth" };
    for (size_t i = 0; i < RV_COUNT(needed); i++) {
        if (!cmd_has(line, needed[i])) {
            return cmd_usage(line, "--%s is needed", needed[i]);
        }
    }
    if (!parse_options(line, &o)) {
        return CMD_USAGE;
    }
    cmd_catch_interrupt();
    set base = { 0 }, queries = { 0 };
    int32_t *truth = NULL;
    rv_index *index = NULL;
    rv_pool *pool = NULL;
    job *j = rv_new(&rv_heap, sizeof *j);
    rv_err e = j ? rv_pool_new(&rv_heap, (int)o.threads, &pool) : rv_fail(RV_E_NOMEM, "no memory");
    if (!e) {
        e = run(line, &o, pool, &base, &queries, &truth, &index, j);
    }
    rv_index_free(index);
    rv_pool_free(pool);
    rv_free(&rv_heap, base.at);
    rv_free(&rv_heap, queries.at);
    rv_free(&rv_heap, truth);
    if (j) {
        rv_free(&rv_heap, j->hits);
        rv_free(&rv_heap, j->found);
        rv_free(&rv_heap, j->latency_us);
        rv_free(&rv_heap, j);
    }
    return e ? cmd_fail(e) : CMD_DONE;
}
