/* What do many requests at once cost? engine_batch MODEL [THREADS [IN [OUT [FEWEST]]]]: for 1, 2, 4 and 8 callers (FEWEST and more) that ask at the
 * same moment for OUT tokens after IN random ones (of their own), tokens per second of all answers together, the time to
 * the first token (median) and the longest silence of any answer after its first token. One JSON line each, median of 3. */
#include "base/clock.h"
#include "base/cpu.h"
#include "base/rng.h"
#include "engine/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 8, ROUNDS = 3 };

typedef struct caller {
    rv_engine *engine;
    int32_t *prompt;
    size_t n_in, n_out;
    double first_ms, last_ms, silence_ms; /* rv_clock_ms; longest time between two tokens */
    rv_err err;
} caller;

static bool on_piece(void *self, const rv_piece *p)
{
    caller *c = self;
    double now = rv_clock_ms();
    if (p->token >= 0) {
        double silence = now - c->last_ms;
        c->silence_ms = c->first_ms > 0 && silence > c->silence_ms ? silence : c->silence_ms;
        c->first_ms = c->first_ms > 0 ? c->first_ms : now;
        c->last_ms = now;
    }
    return true;
}

static void *call(void *arg)
{
    caller *c = arg;
    rv_generate how = { .prompt = c->prompt,
                        .n_prompt = c->n_in,
                        .max_tokens = c->n_out,
                        .n_logprobs = -1,
                        .sampling = rv_sampling_default(),
                        .ignore_end = true,
                        .on_piece = on_piece,
                        .self = c };
    rv_generated done;
    c->err = rv_engine_generate(c->engine, &how, &done);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Returns false when a call failed. */
static bool round_of(rv_engine *e, size_t n, size_t n_in, size_t n_out, rv_rng *rng, int32_t *ids,
                     double *out)
{
    caller callers[MOST];
    pthread_t threads[MOST];
    double first[MOST], start, end = 0, silence = 0;
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        callers[i] = (caller){ .engine = e, .prompt = ids + i * n_in, .n_in = n_in, .n_out = n_out };
        for (size_t t = 0; t < n_in; t++) {
            callers[i].prompt[t] = (int32_t)rv_rng_below(rng, rv_engine_get_info(e)->shape.n_vocab);
        }
    }
    start = rv_clock_ms();
    for (size_t i = 0; i < n; i++) {
        if (pthread_create(&threads[i], NULL, call, &callers[i]) != 0) {
            perror("pthread_create");
            exit(1);
        }
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        good &= !callers[i].err;
        first[i] = callers[i].first_ms - start;
        end = callers[i].last_ms > end ? callers[i].last_ms : end;
        silence = callers[i].silence_ms > silence ? callers[i].silence_ms : silence;
    }
    qsort(first, n, sizeof *first, by_value);
    out[0] = (double)(n * n_out) / (end - start) * 1e3;
    out[1] = (first[(n - 1) / 2] + first[n / 2]) / 2;
    out[2] = silence;
    return good;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 6) {
        fprintf(stderr, "usage: engine_batch MODEL [THREADS [IN [OUT [FEWEST]]]]\n");
        return 2;
    }
    int threads = argc > 2 ? atoi(argv[2]) : rv_cpu_count();
    size_t n_in = argc > 3 ? (size_t)atoi(argv[3]) : 256, n_out = argc > 4 ? (size_t)atoi(argv[4]) : 64;
    rv_pool *pool = NULL;
    rv_engine *e = NULL;
    rv_engine_options how = rv_engine_options_default();
    rv_err err = rv_pool_new(&rv_heap, threads, &pool);
    if (!err) {
        how.pool = pool;
        how.max_context = (uint32_t)(n_in + n_out);
        how.cache_tokens = MOST * (n_in + n_out + 16);
        err = rv_engine_open(&rv_heap, argv[1], how, &e);
    }
    int32_t *ids = calloc(MOST * (n_in + 1), sizeof *ids);
    rv_rng rng;
    rv_rng_init(&rng, 1);
    double warm[3], m[3][ROUNDS], one[3];
    bool good = !err && ids && round_of(e, 1, n_in, 4, &rng, ids, warm);
    size_t fewest = argc > 5 ? (size_t)atoi(argv[5]) : 1;
    for (size_t n = fewest ? fewest : 1; n <= MOST && good; n *= 2) {
        for (int r = 0; r < ROUNDS && good; r++) {
            good = round_of(e, n, n_in, n_out, &rng, ids, one);
            for (int i = 0; i < 3; i++) {
                m[i][r] = one[i];
            }
        }
        for (int i = 0; i < 3; i++) {
            qsort(m[i], ROUNDS, sizeof(double), by_value);
        }
        printf("{\"bench\":\"engine_batch\",\"callers\":%zu,\"in\":%zu,\"out\":%zu,\"threads\":%d,"
               "\"tokens_per_second\":%.1f,\"first_token_ms\":%.1f,\"longest_silence_ms\":%.1f,\"level\":\"%"
               "s\"}\n",
               n, n_in, n_out, threads, m[0][ROUNDS / 2], m[1][ROUNDS / 2], m[2][ROUNDS / 2],
               rv_kernels_best()->name);
    }
    if (!good) {
        fprintf(stderr, "engine_batch: %s\n", rv_err_text());
    }
    free(ids);
    rv_engine_close(e);
    rv_pool_free(pool);
    return good ? 0 : 1;
}
