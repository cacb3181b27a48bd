/* What does a durable write cost, and how many fit into a second? bench_memory_write [SECONDS] [FOLDER] adds texts of 60 words
 * to a store in FOLDER (a temporary one) that holds 2,000 of them: from 1, 4 and 16 callers, SECONDS (3) each, each add with
 * vector, words and one edge to its parent. One JSON line per case: adds per second, adds per transaction, milliseconds of one
 * add. Every add is one sync of the disk, shared by those that come together, so the time of one sync of that disk is printed
 * too. Vectors are made by a stand-in of 384 dimensions: the embedder is not what is measured. */
#include "base/clock.h"
#include "base/cpu.h"
#include "base/metrics.h"
#include "base/rng.h"
#include "memory/memory.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    DIM = 384,
    WORDS = 60,
    VOCABULARY = 20000,
    BEFORE = 2000,
    CALLERS_MAX = 16,
    SAMPLES_MAX = 200000,
    SYNCS = 300
};

static rv_err stand_in(const void *self, const char *text, size_t n, float *out)
{
    (void)self;
    rv_rng rng;
    rv_rng_init(&rng, rv_hash64(text, n, 0));
    double length = 0;
    for (size_t i = 0; i < DIM; i++) {
        out[i] = (float)(rv_rng_unit(&rng) - 0.5);
        length += (double)out[i] * (double)out[i];
    }
    for (size_t i = 0; i < DIM; i++) {
        out[i] = (float)((double)out[i] / sqrt(length));
    }
    return RV_OK;
}

static void must(rv_err e)
{
    if (e) {
        fprintf(stderr, "%s\n", rv_err_text());
        exit(1);
    }
}

/* The r-th word of the vocabulary with a frequency of about 1 / r, as in a language. */
static void write_words(rv_rng *rng, char *out)
{
    for (int i = 0; i < WORDS; i++) {
        out += sprintf(out, "%sw%dx", i ? " " : "", (int)pow(VOCABULARY, rv_rng_unit(rng)));
    }
}

static int64_t add(rv_memory *m, rv_rng *rng, int64_t parent)
{
    char words[WORDS * 9];
    int64_t id;
    bool added;
    write_words(rng, words);
    must(rv_memory_add(m, rv_memory_of("ann"),
                       &(rv_memory_new){ .type = "note", .text = words, .parent = parent }, &id, &added));
    return id;
}

typedef struct caller {
    rv_memory *m;
    int64_t parent;
    uint64_t seed;
    double until;
    double *ms; /* [SAMPLES_MAX] of all callers */
    atomic_size_t *n;
} caller;

static void *call(void *arg)
{
    caller *c = arg;
    rv_rng rng;
    rv_rng_init(&rng, c->seed);
    for (double from = rv_clock_ms(); from < c->until;) {
        (void)add(c->m, &rng, c->parent);
        double now = rv_clock_ms();
        size_t at = atomic_fetch_add(c->n, 1);
        if (at < SAMPLES_MAX) {
            c->ms[at] = now - from;
        }
        from = now;
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The value of a metric without labels in the text that a server would show. */
static double metric(const char *name)
{
    rv_text text;
    rv_text_init(&text, &rv_heap, 1 << 20);
    rv_metrics_text(&text);
    char line[128];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(rv_text_get(&text), line);
    double value = at ? strtod(at + strlen(line), NULL) : NAN;
    rv_text_deinit(&text);
    return value;
}

static void bench_callers(rv_memory *m, int64_t parent, size_t callers, double seconds)
{
    static double ms[SAMPLES_MAX];
    static uint64_t seed = 1;
    atomic_size_t n = 0;
    pthread_t threads[CALLERS_MAX];
    caller jobs[CALLERS_MAX];
    double commits = metric("ruvllm_memory_commits_total"), from = rv_clock_ms();
    for (size_t i = 0; i < callers; i++) {
        jobs[i] = (caller){ m, parent, seed++, from + 1000 * seconds, ms, &n };
        if (pthread_create(&threads[i], NULL, call, &jobs[i]) != 0) {
            exit(1);
        }
    }
    for (size_t i = 0; i < callers; i++) {
        pthread_join(threads[i], NULL);
    }
    double passed = (rv_clock_ms() - from) / 1000;
    commits = metric("ruvllm_memory_commits_total") - commits;
    size_t done = n < SAMPLES_MAX ? n : SAMPLES_MAX;
    qsort(ms, done, sizeof *ms, by_value);
    printf("{\"bench\":\"memory_write\",\"callers\":%zu,\"cpus\":%d,\"adds_per_s\":%.0f,\"adds_per_commit\":%"
           ".2f,"
           "\"median_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
           callers, rv_cpu_count(), (double)n / passed, (double)n / commits, ms[done / 2], ms[done * 9 / 10],
           ms[done * 99 / 100], ms[done - 1]);
    fflush(stdout);
}

static void bench_sync(const char *dir)
{
    char path[4200], page[4096] = { 1 };
    double ms[SYNCS];
    snprintf(path, sizeof path, "%s/sync", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (size_t i = 0; i < 2 * SYNCS; i++) { /* the second round is inside the file, as ours are */
        double from = rv_clock_ms();
        if (pwrite(fd, page, sizeof page, (off_t)(i % SYNCS * sizeof page)) < 0 || fdatasync(fd) < 0) {
            exit(1);
        }
        ms[i % SYNCS] = rv_clock_ms() - from;
    }
    close(fd);
    unlink(path);
    qsort(ms, SYNCS, sizeof *ms, by_value);
    printf(
        "{\"bench\":\"memory_write\",\"case\":\"one sync of this disk\",\"median_ms\":%.3f,\"p90_ms\":%.3f,"
        "\"p99_ms\":%.3f}\n",
        ms[SYNCS / 2], ms[SYNCS * 9 / 10], ms[SYNCS * 99 / 100]);
}

int main(int argc, char **argv)
{
    static const size_t callers[] = { 1, 4, 16 };
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
    char made[] = "/var/tmp/ruvllm-bench.XXXXXX";
    const char *dir = argc > 2 ? argv[2] : mkdtemp(made);
    rv_memory_embedder embedder = { .name = "stand-in", .dim = DIM, .text = stand_in };
    rv_db *db;
    rv_memory *m;
    rv_rng rng;
    rv_rng_init(&rng, 99);
    if (!dir) {
        return 1;
    }
    must(rv_db_open(&rv_heap, dir, &db));
    must(rv_memory_open(&rv_heap, db, dir, embedder, &m));
    bench_sync(dir);
    int64_t parent = add(m, &rng, 0);
    for (size_t i = 0; i < BEFORE; i++) {
        (void)add(m, &rng, parent);
    }
    for (size_t i = 0; i < RV_COUNT(callers); i++) {
        bench_callers(m, parent, callers[i], seconds);
    }
    rv_memory_close(m);
    rv_db_close(db);
    if (argc <= 2) {
        char command[64];
        snprintf(command, sizeof command, "rm -r %s", dir);
        return system(command) != 0;
    }
    return 0;
}
