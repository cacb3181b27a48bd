/* What does one memory cost? bench_memory_basic [NODES] [FOLDER] [INDEX] fills a new store in FOLDER (a temporary one) with NODES (10000)
 * texts of 60 words, then adds, searches and removes single ones. One JSON line per case, milliseconds. An add is two syncs
 * of the disk (vector, transaction), so the time of one sync of that disk is printed too. Vectors are made by a stand-in of
 * 384 dimensions: the embedder is not what is measured. */
#include "base/clock.h"
#include "base/cpu.h"
#include "base/rng.h"
#include "memory/memory.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIM = 384, WORDS = 60, VOCABULARY = 20000, SAMPLES = 1000, QUESTION_FIRST = 50, PART = 1000 };

/* The mean of a random vector for each word: texts that share words are near, as with the embedder that comes with the models. */
static rv_err stand_in(const void *self, const char *text, size_t n, float *out)
{
    (void)self;
    double length = 0;
    memset(out, 0, DIM * sizeof *out);
    for (size_t at = 0; at < n;) {
        const char *space = memchr(text + at, ' ', n - at);
        size_t end = space ? (size_t)(space - text) : n;
        rv_rng rng;
        rv_rng_init(&rng, rv_hash64(text + at, end - at, 0));
        for (size_t i = 0; i < DIM; i++) {
            out[i] += (float)(rv_rng_unit(&rng) - 0.5);
        }
        at = end + 1;
    }
    for (size_t i = 0; i < DIM; i++) {
        length += (double)out[i] * (double)out[i];
    }
    for (size_t i = 0; length > 0 && i < DIM; i++) {
        out[i] = (float)((double)out[i] / sqrt(length));
    }
    return RV_OK;
}

/* n words, the r-th of the vocabulary with a frequency of about 1 / r, as in a language, from the first-th on: questions are
 * asked without the most frequent ones, because those are left out of a query. */
static void write_words(rv_rng *rng, int n, int first, char *out)
{
    for (int i = 0; i < n; i++) {
        double rank = first * pow((double)VOCABULARY / first, rv_rng_unit(rng));
        out += sprintf(out, "%sw%dx", i ? " " : "", (int)rank);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void report(const char *what, size_t nodes, double *ms, size_t n)
{
    qsort(ms, n, sizeof *ms, by_value);
    printf("{\"bench\":\"memory_basic\",\"case\":\"%s\",\"nodes\":%zu,\"cpus\":%d,\"median_ms\":%.3f,\"p99_"
           "ms\":%.3f,\"max_ms\":%.3f}\n",
           what, nodes, rv_cpu_count(), ms[n / 2], ms[n * 99 / 100], ms[n - 1]);
    fflush(stdout);
}

static void must(rv_err e)
{
    if (e) {
        fprintf(stderr, "%s\n", rv_err_text());
        exit(1);
    }
}

static void bench_sync(const char *dir)
{
    char path[4200];
    double ms[SAMPLES];
    snprintf(path, sizeof path, "%s/sync", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (size_t i = 0; i < SAMPLES; i++) {
        char page[4096] = { 0 };
        double from = rv_clock_ms();
        if (pwrite(fd, page, sizeof page, (off_t)(i * sizeof page)) < 0 || fdatasync(fd) < 0) {
            exit(1);
        }
        ms[i] = rv_clock_ms() - from;
    }
    close(fd);
    unlink(path);
    report("one sync of this disk", 0, ms, SAMPLES);
}

/* Many files of few chunks would be one transaction each; one large file is one: the quickest way in. */
static void fill_some(rv_memory *m, const char *dir, size_t first, size_t nodes, rv_rng *rng)
{
    char path[4200], words[WORDS * 9];
    snprintf(path, sizeof path, "%s/texts%zu.md", dir, first);
    FILE *f = fopen(path, "w");
    for (size_t i = first; f && i < first + nodes; i++) {
        write_words(rng, WORDS, 1, words);
        fprintf(f, "# h%zu\n\n%s\n\n", i, words);
    }
    if (!f || fclose(f)) {
        exit(1);
    }
    rv_memory_import done = { 0 };
    const char *tag = first % (10 * PART) == 0 ? "tenth" : "rest";
    must(rv_memory_import_paths(m, rv_memory_of(NULL), (const char *const[]){ path }, 1, &tag, 1, NULL, NULL,
                                &done));
    unlink(path);
}

static void fill(rv_memory *m, const char *dir, size_t nodes, rv_rng *rng)
{
    double from = rv_clock_ms(), ms;
    for (size_t at = 0; at < nodes; at += PART) {
        fill_some(m, dir, at, nodes - at < PART ? nodes - at : PART, rng);
    }
    ms = (rv_clock_ms() - from) / (double)nodes;
    report("import, of each chunk", nodes, &ms, 1);
    from = rv_clock_ms();
    must(rv_memory_settle(m));
    ms = rv_clock_ms() - from;
    report("until the indexes have caught up", nodes, &ms, 1);
}

/* How often the nearest 10 are among what a search by vectors finds, and which way it goes. */
static void show_plan(rv_memory *m, size_t nodes)
{
    rv_memory_recall_report r;
    must(rv_memory_recall(m, 100, 100, &r));
    printf("{\"bench\":\"memory_basic\",\"case\":\"recall of the nearest "
           "100\",\"nodes\":%zu,\"recall\":%.4f,\"path\":\"%s\",\"search_"
           "ms\":%.3f,\"exact_ms\":%.3f}\n",
           nodes, r.recall, r.index, r.search_ms, r.exact_ms);
    rv_arena *arena;
    rv_memory_hits hits;
    must(rv_arena_new(&rv_heap, 16 << 20, &arena));
    must(rv_memory_search(m, rv_memory_whole(), &(rv_memory_query){ .text = "w70x w900x w6000x", .k = 10 },
                          arena, &hits));
    json_t *plan = rv_memory_plan_json(&hits.plan);
    printf("{\"bench\":\"memory_basic\",\"case\":\"plan\",\"nodes\":%zu,\"why\":\"%s\"}\n", nodes,
           plan ? json_string_value(json_object_get(plan, "why")) : "");
    json_decref(plan);
    rv_arena_free(arena);
}

static void bench_search(rv_memory *m, size_t nodes, rv_memory_mode mode, const char *what, const char *user,
                         const char *tag, rv_rng *rng)
{
    double ms[SAMPLES];
    rv_arena *arena;
    must(rv_arena_new(&rv_heap, 16 << 20, &arena));
    for (size_t i = 0; i < SAMPLES; i++) {
        char words[12 * 9];
        rv_memory_hits hits;
        write_words(rng, 6, QUESTION_FIRST, words);
        rv_arena_reset(arena);
        double from = rv_clock_ms();
        must(rv_memory_search(
            m, user ? rv_memory_of(user) : rv_memory_whole(),
            &(rv_memory_query){ .text = words, .k = 10, .mode = mode, .filter = { .tag = tag } }, arena,
            &hits));
        ms[i] = rv_clock_ms() - from;
    }
    report(what, nodes, ms, SAMPLES);
    rv_arena_free(arena);
}

static void bench_changes(rv_memory *m, size_t nodes, rv_rng *rng)
{
    double add[SAMPLES], rm[SAMPLES];
    int64_t ids[SAMPLES];
    for (size_t i = 0; i < SAMPLES; i++) {
        char words[WORDS * 9];
        bool added;
        write_words(rng, WORDS, 1, words);
        double from = rv_clock_ms();
        must(rv_memory_add(m, rv_memory_of("ann"), &(rv_memory_new){ .type = "note", .text = words }, &ids[i],
                           &added));
        add[i] = rv_clock_ms() - from;
    }
    report("add", nodes, add, SAMPLES);
    bench_search(m, nodes, RV_MEMORY_HYBRID, "search, hybrid, one user", "bob", NULL, rng);
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t removed;
        double from = rv_clock_ms();
        must(rv_memory_rm(m, rv_memory_whole(), ids[i], NULL, &removed));
        rm[i] = rv_clock_ms() - from;
    }
    report("rm", nodes, rm, SAMPLES);
}

int main(int argc, char **argv)
{
    size_t nodes = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    char made[] = "/tmp/ruvllm-bench.XXXXXX";
    const char *dir = argc > 2 ? argv[2] : mkdtemp(made);
    rv_memory_embedder embedder = { .name = "stand-in", .dim = DIM, .text = stand_in };
    rv_db *db;
    rv_memory *m;
    rv_rng rng;
    rv_rng_init(&rng, 1);
    if (!dir) {
        return 1;
    }
    must(rv_db_open(&rv_heap, dir, &db));
    must(rv_memory_open(&rv_heap, db, dir, embedder, &m));
    rv_memory_tuning tuning = { .index = argc > 3 ? argv[3] : "auto" };
    must(rv_memory_tune(m, &tuning));
    bench_sync(dir);
    fill(m, dir, nodes, &rng);
    show_plan(m, nodes);
    bench_search(m, nodes, RV_MEMORY_VECTOR, "search, vector", NULL, NULL, &rng);
    bench_search(m, nodes, RV_MEMORY_WORDS, "search, words", NULL, NULL, &rng);
    bench_search(m, nodes, RV_MEMORY_HYBRID, "search, hybrid", NULL, NULL, &rng);
    bench_search(m, nodes, RV_MEMORY_GRAPH, "search, graph", NULL, NULL, &rng);
    bench_search(m, nodes, RV_MEMORY_GRAPH, "search, graph, a tenth passes", NULL, "tenth", &rng);
    bench_changes(m, nodes, &rng);
    rv_memory_close(m);
    rv_db_close(db);
    double from = rv_clock_ms(), ms;
    must(rv_db_open(&rv_heap, dir, &db));
    must(rv_memory_open(&rv_heap, db, dir, embedder, &m));
    ms = rv_clock_ms() - from;
    report("open, everything checked", nodes, &ms, 1);
    must(rv_memory_tune(m, &tuning));
    from = rv_clock_ms();
    must(rv_memory_settle(m));
    ms = rv_clock_ms() - from;
    report("then, until the indexes are there", nodes, &ms, 1);
    bench_search(m, nodes, RV_MEMORY_GRAPH, "search, graph, after opening", NULL, NULL, &rng);
    rv_memory_close(m);
    rv_db_close(db);
    if (argc <= 2) {
        char command[64];
        snprintf(command, sizeof command, "rm -r %s", dir);
        return system(command) != 0;
    }
    return 0;
}
