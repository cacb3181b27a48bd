/* How many searches a second at which recall? One line per number of lists probed, one thread, by processor time, best of some
 * passes over the queries; first the build.
 *
 *     bench_vector_rabitq FOLDER [THREADS [PROBES...]]      FOLDER holds base.fvecs, query.fvecs and gt.ivecs */
#include "base/clock.h"
#include "base/file.h"
#include "vector/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { K = 10, PASSES = 5 };

typedef struct vectors {
    rv_map map;
    size_t dim, n;
} vectors;

static vectors open_vectors(const char *folder, const char *name)
{
    char path[4096];
    vectors v;
    uint32_t dim;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (rv_file_map(path, &v.map) || v.map.n < 4) {
        fprintf(stderr, "%s: %s\n", path, rv_err_text());
        exit(1);
    }
    memcpy(&dim, v.map.at, 4);
    v.dim = dim;
    v.n = v.map.n / (4 + 4 * v.dim);
    return v;
}

static const void *row_at(const vectors *v, size_t i)
{
    return v->map.at + i * (4 + 4 * v->dim) + 4;
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(rv_err e)
{
    if (e) {
        fprintf(stderr, "%s\n", rv_err_text());
        exit(1);
    }
}

int main(int n_args, char **args)
{
    if (n_args < 2) {
        fprintf(stderr, "usage: bench_vector_rabitq FOLDER [THREADS [PROBES...]]\n");
        return 2;
    }
    const vectors base = open_vectors(args[1], "base.fvecs"), queries = open_vectors(args[1], "query.fvecs"),
                  truth = open_vectors(args[1], "gt.ivecs");
    int threads = n_args > 2 ? atoi(args[2]) : 1;
    const rv_index_config config = {
        .kind = "rabitq", .dim = base.dim, .metric = RV_INDEX_L2, .keep = RV_KEEP_F32
    };
    rv_index *index;
    rv_pool *pool;
    die(rv_pool_new(&rv_heap, threads, &pool));
    die(rv_index_new(&rv_heap, &config, &index));
    int64_t *ids = malloc(base.n * sizeof *ids);
    const float **rows = malloc(base.n * sizeof *rows);
    for (size_t i = 0; i < base.n; i++) {
        ids[i] = (int64_t)i;
        rows[i] = row_at(&base, i);
    }
    double from = rv_clock_ms();
    struct timespec t0, t1;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
    die(rv_index_build(index, pool, ids, rows, base.n, NULL, NULL));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
    printf("{\"bench\":\"vector_rabitq\",\"rows\":%zu,\"dim\":%zu,\"build_threads\":%d,\"build_s\":%.2f,"
           "\"build_cpu_s\":%.2f}\n",
           base.n, base.dim, threads, (rv_clock_ms() - from) / 1000,
           (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec));
    rv_pool_free(pool);
    for (int a = 3; a < n_args; a++) {
        rv_search how = { .k = K, .ef = (size_t)atol(args[a]) };
        double best = 1e30;
        size_t right = 0;

        for (int pass = 0; pass < PASSES; pass++) {
            right = 0;
            double begin = cpu_s();
            for (size_t q = 0; q < queries.n; q++) {
                rv_hit hits[K];
                size_t found;
                die(rv_index_search(index, row_at(&queries, q), &how, hits, &found));
                const int32_t *want = row_at(&truth, q);
                for (size_t i = 0; i < found; i++) {
                    for (size_t j = 0; j < K; j++) {
                        right += hits[i].id == want[j];
                    }
                }
            }
            double took = cpu_s() - begin;
            best = took < best ? took : best;
        }
        printf("{\"bench\":\"vector_rabitq\",\"probes\":%s,\"recall_at_10\":%.4f,\"qps\":%.0f}\n", args[a],
               (double)right / (double)(queries.n * K), (double)queries.n / best);
    }
    rv_index_free(index);
    free(ids);
    free(rows);
    return 0;
}
