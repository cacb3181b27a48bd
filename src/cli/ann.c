/* bench ann: how fast an index finds how much of what an exact search finds. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SETTINGS_MAX = 64, PASSES_MOST = 15, PASSES_LEAST = 3 };

/* A set of vectors, finite, of length 1 where the metric says so: a copy, aligned, or where they lie in the mapped file */
typedef struct set {
    const float *at;
    size_t n, dim, step; /* row i begins at at + i * step */
    float *copy;         /* NULL: in the file */
    rv_map map;
} set;

/* What an exact search finds. */
typedef struct truth {
    uint32_t *wanted; /* [queries] how many of the k there are */
    double *
        last; /* [queries] score of the last of them: what scores as much counts as found, so that equal vectors
                         are not a matter of ids */
} truth;

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

static const float *row_of(const set *s, size_t i)
{
    return s->at + i * s->step;
}

static void set_deinit(set *s)
{
    rv_free(&rv_heap, s->copy);
    rv_file_unmap(&s->map);
    *s = (set){ 0 };
}

/* Length of a vector, squared. */
static double square_of(const float *row, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) {
        sum += (double)row[d] * (double)row[d];
    }
    return sum;
}

/* unit: made so while copied. in_file: not copied. */
static rv_err read_set(const char *path, bool unit, bool in_file, set *out)
{
    rv_vecs vecs;
    RV_TRY(rv_file_map(path, &out->map));
    rv_err e = rv_vecs_read(out->map.at, out->map.n, &vecs);
    if (e) {
        return rv_fail(e, "%s: %s", path, rv_err_text());
    }
    out->n = vecs.n;
    out->dim = out->step = vecs.dim;
    if (in_file) {
        out->step = vecs.dim + 1;
        out->at = vecs.n > 0 ? rv_vecs_row(&vecs, 0) : NULL;
    } else {
        out->copy = rv_new_aligned(&rv_heap, 64, vecs.n * vecs.dim * sizeof *out->copy);
        out->at = out->copy;
        e = out->at ? RV_OK : rv_fail(RV_E_NOMEM, "%s: no memory for %zu vectors", path, vecs.n);
    }
    for (size_t i = 0; !e && i < vecs.n; i++) {
        const float *row = rv_vecs_row(&vecs, i);
        double square = square_of(row, vecs.dim);
        if (!isfinite(square)) {
            e = rv_fail(RV_E_FORMAT, "%s: vector %zu is not finite", path, i);
        } else if (in_file && unit && square != 0 && !(fabs(square - 1) < 1e-3)) {
            e = rv_fail(RV_E_FORMAT, "%s: vector %zu has length %g; left in the file they all have 1", path,
                        i, sqrt(square));
        }
        float scale = unit && square > 0 ? (float)(1 / sqrt(square)) : 1;
        for (size_t d = 0; out->copy && d < vecs.dim; d++) {
            out->copy[i * vecs.dim + d] = row[d] * scale;
        }
    }
    if (!in_file) {
        rv_file_unmap(&out->map);
    }
    return e;
}

static double score_of(rv_index_metric metric, const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) {
        double difference = (double)a[d] - (double)b[d];
        sum += metric == RV_INDEX_L2 ? -difference * difference : (double)a[d] * (double)b[d];
    }
    return sum;
}

/* The first k ids of every row, -1 where there are fewer. */
static rv_err read_truth(const char *path, rv_index_metric metric, const set *base, const set *queries,
                         size_t k, truth *out)
{
    rv_map map;
    rv_vecs vecs;
    RV_TRY(rv_file_map(path, &map));
    rv_err e = rv_vecs_read(map.at, map.n, &vecs);
    if (e) {
        e = rv_fail(e, "%s: %s", path, rv_err_text());
    } else if (vecs.n < queries->n || vecs.dim < k) {
        e = rv_fail(RV_E_FORMAT, "%s: %zu rows of %zu ids, expected %zu of at least %zu", path, vecs.n,
                    vecs.dim, queries->n, k);
    }
    out->wanted = e ? NULL : rv_new_array(&rv_heap, queries->n, sizeof *out->wanted);
    out->last = e ? NULL : rv_new_array(&rv_heap, queries->n, sizeof *out->last);
    if (!e && (!out->wanted || !out->last)) {
        e = rv_fail(RV_E_NOMEM, "%s: no memory", path);
    }
    for (size_t q = 0; !e && q < queries->n; q++) {
        const int32_t *ids = rv_vecs_row(&vecs, q);
        size_t n = 0;
        for (; !e && n < k && ids[n] >= 0; n++) {
            if ((size_t)ids[n] >= base->n) {
                e = rv_fail(RV_E_FORMAT, "%s: row %zu names vector %d of %zu", path, q, ids[n], base->n);
            }
        }
        out->wanted[q] = (uint32_t)n;
        if (!e && n > 0) {
            out->last[q] = score_of(metric, row_of(queries, q), row_of(base, (size_t)ids[n - 1]), base->dim);
        }
    }
    rv_file_unmap(&map);
    return e;
}

/* Bits of the vectors whose number in a file of 32-bit ones is below a limit. */
static rv_err read_filter(const char *path, size_t n, uint32_t below, uint64_t **bits, size_t *n_passing)
{
    rv_map map;
    RV_TRY(rv_file_map(path, &map));
    rv_err e = map.n == n * 4 ? RV_OK
                              : rv_fail(RV_E_FORMAT, "%s: %zu bytes, expected 4 for each of %zu vectors",
                                        path, map.n, n);
    *bits = e ? NULL : rv_new_array(&rv_heap, n / 64 + 1, sizeof **bits);
    if (!e && !*bits) {
        e = rv_fail(RV_E_NOMEM, "no memory for a filter");
    }
    for (size_t i = 0; !e && i < n; i++) {
        uint32_t value;
        memcpy(&value, map.at + 4 * i, sizeof value);
        (*bits)[i / 64] |= (uint64_t)(value < below) << i % 64;
        *n_passing += value < below;
    }
    rv_file_unmap(&map);
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
        rows[i] = row_of(base, i);
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

static rv_err save(const rv_index *index, const char *path)
{
    FILE *f = fopen(path, "wbx");
    if (!f) {
        return rv_fail(RV_E_IO, "%s: cannot be made", path);
    }
    rv_err e = rv_index_save(index, write_file, f);
    e = fclose(f) == 0 || e ? e : rv_fail(RV_E_IO, "%s: the disk takes no more", path);
    if (e) {
        unlink(path);
    }
    return e;
}

/* Where vectors that were left in their file are. */
static rv_err find_rows(void *self, const int64_t *ids, size_t n, const float **rows)
{
    const set *base = self;
    for (size_t i = 0; i < n; i++) {
        rows[i] = ids[i] >= 0 && (uint64_t)ids[i] < base->n ? row_of(base, (size_t)ids[i]) : NULL;
    }
    return RV_OK;
}

typedef struct times {
    double build_s, build_cpu_s, save_ms;
    double open_ms; /* from the file, in the page cache, to the first answer */
    double first_us,
        warm_us;     /* then a query at a time, all of them twice: mean of the first and of the second */
    double check_ms; /* after the opening, on a thread of its own beside the queries: the whole file */
} times;

static double mean_us(rv_index *index, const set *queries, rv_err *e)
{
    rv_hit hits[10];
    size_t found;
    double from = rv_clock_ms();
    for (size_t q = 0; q < queries->n && !*e; q++) {
        *e = rv_index_search(index, row_of(queries, q), &(rv_search){ .k = 10 }, hits, &found);
    }
    return 1000 * (rv_clock_ms() - from) / (double)queries->n;
}

/* What the memory's keeper does with an index that was opened. */
typedef struct checking {
    const rv_index *index;
    rv_err e;
    char why[256];
    double ms;
} checking;

static void *check_pages(void *arg)
{
    checking *c = arg;
    double from = rv_clock_ms();
    c->e = rv_index_check_pages(c->index);
    c->ms = rv_clock_ms() - from;
    snprintf(c->why, sizeof c->why, "%s", c->e ? rv_err_text() : "");
    return NULL;
}

static rv_err open_index(const char *path, set *base, const set *queries, rv_map *map, rv_index **out,
                         times *t)
{
    rv_hit hit;
    size_t found;
    double from = rv_clock_ms();
    RV_TRY(rv_file_map(path, map));
    rv_err e = rv_index_open(&rv_heap, map->at, map->n, find_rows, base, out);
    checking beside = { .index = e ? NULL : *out };
    pthread_t thread;
    bool runs = !e && pthread_create(&thread, NULL, check_pages, &beside) == 0;
    e = e ? e : rv_index_search(*out, queries->at, &(rv_search){ .k = 1 }, &hit, &found);
    t->open_ms = rv_clock_ms() - from;
    t->first_us = e ? 0 : mean_us(*out, queries, &e);
    if (runs) {
        pthread_join(thread, NULL);
    }
    if (!e && beside.e) {
        e = rv_fail(beside.e, "%s", beside.why);
    }
    t->check_ms = beside.ms;
    t->warm_us = e ? 0 : mean_us(*out, queries, &e);
    return e ? rv_fail(e, "%s: %s; remove it to build it anew", path, rv_err_text()) : RV_OK;
}

/* Saved to a file of its own, and opened from it once. */
static rv_err time_open(const rv_index *index, set *base, const set *queries, times *t)
{
    const char *dir = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/ruvllm-ann-%d.idx", dir && *dir ? dir : "/tmp", (int)getpid());
    double from = rv_clock_ms();
    RV_TRY(save(index, path));
    t->save_ms = rv_clock_ms() - from;
    rv_map map = { 0 };
    rv_index *again = NULL;
    rv_err e = open_index(path, base, queries, &map, &again, t);
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
        j->e[thread] =
            rv_index_search(j->index, row_of(j->queries, q), &j->how, j->hits + q * j->how.k, &j->found[q]);
        j->latency_us[q] = (double)(rv_clock_ns() - begin) / 1000;
    }
    j->cpu_s[thread] = cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - from;
}

static double recall_of(const job *j, const truth *known)
{
    size_t k = j->how.k, hit = 0, all = 0;
    for (size_t q = 0; q < j->queries->n; q++) {
        size_t near = 0;
        double last = known->last[q] - 1e-6 * fabs(known->last[q]);
        for (size_t i = 0; i < j->found[q]; i++) {
            near += (double)j->hits[q * k + i].score >= last;
        }
        hit += near < known->wanted[q] ? near : known->wanted[q];
        all += known->wanted[q];
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
    int64_t k, threads, rerank, below;
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
    static const char *const metrics[] = { "cos", "l2", "ip" }, *const keeps[] = { "file", "f32", "bf16" };
    const char *metric = cmd_value(line, "metric", "l2"), *keep = cmd_value(line, "keep", "f32");
    int64_t m = 0, efc = 0, n_lists = 0, bits = 0, seed = 0;
    *o = (options){ .k = 10, .threads = 1, .config = { .kind = cmd_value(line, "index", "hnsw") } };
    if (!cmd_int(line, "k", 1, RV_INDEX_K_MAX, &o->k) || !cmd_int(line, "threads", 1, 256, &o->threads) ||
        !cmd_int(line, "rerank", 0, 1 << 20, &o->rerank) || !cmd_int(line, "M", 2, 128, &m) ||
        !cmd_int(line, "efc", 1, 1 << 20, &efc) || !cmd_int(line, "lists", 1, 1 << 24, &n_lists) ||
        !cmd_int(line, "bits", 1, 8, &bits) || !cmd_int(line, "below", 0, UINT32_MAX, &o->below) ||
        !cmd_int(line, "seed", 0, INT64_MAX, &seed)) {
        return false;
    }
    const char *rotation = cmd_value(line, "rotation", "hadamard");
    bool haar = strcmp(rotation, "haar") == 0;
    if (!haar && strcmp(rotation, "hadamard") != 0) {
        cmd_usage(line, "--rotation is hadamard or haar; found `%s`", rotation);
        return false;
    }
    size_t at = 0, kept = 0;
    while (at < RV_COUNT(metrics) && strcmp(metric, metrics[at]) != 0) {
        at++;
    }
    while (kept < RV_COUNT(keeps) && strcmp(keep, keeps[kept]) != 0) {
        kept++;
    }
    if (at == RV_COUNT(metrics) || kept == RV_COUNT(keeps)) {
        cmd_usage(line, "--metric is l2, cos or ip, --keep is f32, bf16 or file; found `%s` and `%s`", metric,
                  keep);
        return false;
    }
    o->config.metric = (rv_index_metric)at;
    o->config.rotation = haar ? RV_ROTATION_HAAR : RV_ROTATION_HADAMARD;
    o->config.keep = (rv_keep)kept;
    o->config.m = (size_t)m;
    o->config.ef_build = (size_t)efc;
    o->config.lists = (size_t)n_lists;
    o->config.bits = (size_t)bits;
    o->config.seed = (uint64_t)seed;
    return parse_list(line, o);
}

/* All that is open while the command runs */
typedef struct bench {
    set base, queries;
    truth truth;
    uint64_t *bits; /* of the filter */
    rv_filter filter;
    size_t n_passing;
    rv_map file; /* of an index that was opened */
    rv_index *index;
    times times;
    job job;
} bench;

static void bench_deinit(bench *b)
{
    rv_index_free(b->index);
    rv_file_unmap(&b->file);
    set_deinit(&b->base);
    set_deinit(&b->queries);
    rv_free(&rv_heap, b->truth.wanted);
    rv_free(&rv_heap, b->truth.last);
    rv_free(&rv_heap, b->bits);
    rv_free(&rv_heap, b->job.hits);
    rv_free(&rv_heap, b->job.found);
    rv_free(&rv_heap, b->job.latency_us);
}

static void report(const options *o, const bench *b, const char *setting_text, size_t ef, double recall,
                   const timing *t)
{
    rv_index_size size = rv_index_bytes(b->index);
    double n = (double)rv_index_count(b->index);
    json_t *line = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
        "s:I, "
        "s:s}",
        "index", o->config.kind, "setting", setting_text, "ef", (json_int_t)ef, "k", (json_int_t)o->k,
        "threads", (json_int_t)o->threads, "recall@10", recall, "qps", o->threads == 1 ? t->cpu_qps : t->qps,
        "wall_qps", t->qps, "p50_us", t->p50_us, "p99_us", t->p99_us, "build_s", b->times.build_s,
        "build_cpu_s", b->times.build_cpu_s, "bytes_per_vector", ((double)size.hot + (double)size.cold) / n,
        "hot_bytes_per_vector", (double)size.hot / n, "open_ms", b->times.open_ms, "opened_first_us",
        b->times.first_us, "opened_warm_us", b->times.warm_us, "opened_check_ms", b->times.check_ms,
        "save_ms", b->times.save_ms, "n", (json_int_t)n, "level", rv_kernels_best()->name);
    if (b->bits) {
        (void)json_object_set_new(line, "passing", json_integer((json_int_t)b->n_passing));
    }
    cmd_print(line);
}

static void setting_of(const rv_index_config *c, const options *o, size_t ef, char *text, size_t room)
{
    if (strcmp(c->kind, "hnsw") == 0) {
        snprintf(text, room, "M=%zu efc=%zu ef=%zu rerank=%zu", c->m, c->ef_build, ef,
                 o->rerank ? (size_t)o->rerank : 2 * (size_t)o->k + 10);
    } else if (strcmp(c->kind, "flat") == 0) {
        snprintf(text, room, "exact");
    } else {
        snprintf(text, room, "lists=%zu bits=%zu probes=%zu rerank=%zu", c->lists, c->bits, ef,
                 (size_t)o->rerank);
    }
}

static rv_err read_all(const cmd_line *line, const options *o, bench *b)
{
    const bool unit = o->config.metric == RV_INDEX_COS, in_file = o->config.keep == RV_KEEP_BORROWED;
    const size_t k = (size_t)o->k;
    RV_TRY(read_set(cmd_value(line, "base", ""), unit, in_file, &b->base));
    RV_TRY(read_set(cmd_value(line, "queries", ""), unit, false, &b->queries));
    if (b->base.dim != b->queries.dim || b->queries.n == 0) {
        return rv_fail(RV_E_ARG, "vectors have %zu dimensions, %zu queries %zu", b->base.dim, b->queries.n,
                       b->queries.dim);
    }
    RV_TRY(read_truth(cmd_value(line, "truth", ""), o->config.metric, &b->base, &b->queries, k, &b->truth));
    if (cmd_has(line, "attr")) {
        RV_TRY(
            read_filter(cmd_value(line, "attr", ""), b->base.n, (uint32_t)o->below, &b->bits, &b->n_passing));
        b->filter = (rv_filter){ .bits = b->bits, .n_bits = b->base.n };
    }
    b->job.queries = &b->queries;
    b->job.hits = rv_new_array(&rv_heap, b->queries.n * k, sizeof *b->job.hits);
    b->job.found = rv_new_array(&rv_heap, b->queries.n, sizeof *b->job.found);
    b->job.latency_us = rv_new_array(&rv_heap, b->queries.n, sizeof *b->job.latency_us);
    return b->job.hits && b->job.found && b->job.latency_us
               ? RV_OK
               : rv_fail(RV_E_NOMEM, "no memory for %zu queries", b->queries.n);
}

/* Opened where it was saved, or built. */
static rv_err make_index(const cmd_line *line, const options *o, rv_pool *pool, bench *b)
{
    const char *saved = cmd_value(line, "saved", NULL);
    if (saved && rv_file_exists(saved)) {
        RV_TRY(open_index(saved, &b->base, &b->queries, &b->file, &b->index, &b->times));
        if (rv_index_check(b->index)) {
            return rv_fail(RV_E_CORRUPT, "%s: %s; remove it to build it anew", saved, rv_err_text());
        }
        const rv_index_config *c = rv_index_get_config(b->index);
        if (strcmp(c->kind, o->config.kind) != 0 || c->dim != b->base.dim || c->keep != o->config.keep ||
            c->metric != o->config.metric || rv_index_count(b->index) != b->base.n) {
            return rv_fail(RV_E_ARG, "%s: holds %zu vectors of %zu dimensions (%s), not these", saved,
                           rv_index_count(b->index), c->dim, c->kind);
        }
        return cmd_has(line, "mapped") ? RV_OK : rv_index_reserve(b->index, 0);
    }
    rv_index_config config = o->config;
    config.dim = b->base.dim;
    double from = rv_clock_ms(), cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    RV_TRY(build(&config, pool, &b->base, &b->index));
    b->times.build_s = (rv_clock_ms() - from) / 1000;
    b->times.build_cpu_s = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (b->base.copy) { /* the index has its own */
        set_deinit(&b->base);
    }
    return saved ? save(b->index, saved) : time_open(b->index, &b->base, &b->queries, &b->times);
}

static rv_err run(const cmd_line *line, const options *o, rv_pool *pool, bench *b)
{
    RV_TRY(read_all(line, o, b));
    RV_TRY(make_index(line, o, pool, b));
    b->job.index = b->index;
    for (size_t i = 0; i < o->n_efs && !atomic_load(&cmd_cancel); i++) {
        timing t;
        char text[128];
        b->job.how = (rv_search){ .k = (size_t)o->k,
                                  .ef = o->efs[i],
                                  .rerank = (size_t)o->rerank,
                                  .filter = b->bits ? &b->filter : NULL };
        RV_TRY(measure(&b->job, pool, &t));
        setting_of(rv_index_get_config(b->index), o, o->efs[i], text, sizeof text);
        report(o, b, text, o->efs[i], recall_of(&b->job, &b->truth), &t);
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
    if (cmd_has(line, "attr") != cmd_has(line, "below")) {
        return cmd_usage(line, "--attr and --below go together");
    }
    cmd_catch_interrupt();
    rv_pool *pool = NULL;
    bench *b = rv_new(&rv_heap, sizeof *b);
    rv_err e = b ? rv_pool_new(&rv_heap, (int)o.threads, &pool) : rv_fail(RV_E_NOMEM, "no memory");
    if (!e) {
        e = run(line, &o, pool, b);
    }
    rv_pool_free(pool);
    if (b) {
        bench_deinit(b);
        rv_free(&rv_heap, b);
    }
    return e ? cmd_fail(e) : CMD_DONE;
}
