/* What does choosing a token cost? engine_sampler [VOCAB]: microseconds from a row of logits to a token for the usual settings, of
 * a row in which few tokens matter and of a flat one; for the log-probability; and to look at the blocks of a row, which the head
 * of the model does. One JSON line each, median of ROUNDS. */
#include "base/clock.h"
#include "engine/sampler_priv.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 7, TIMES = 40 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x)
{
    qsort(x, ROUNDS, sizeof *x, by_value);
    return x[ROUNDS / 2];
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 65536;
    static const struct {
        const char *name;
        float temperature, top_p, min_p;
        int32_t top_k;
    } settings[] = {
        { "greedy", 0, 1, 0, 0 },
        { "default", 0.3f, 1, 0.15f, 0 },
        { "temperature 1", 1, 1, 0, 0 },
        { "top_k 40", 1, 1, 0, 40 },
        { "top_p 0.95", 1, 0.95f, 0, 0 },
        { "top_p 0.5", 1, 0.5f, 0, 0 },
        { "top_k 40 top_p 0.9", 1, 0.9f, 0, 40 },
    };
    rv_sampler *s = NULL;
    rv_logits_block *blocks = rv_new_array(&rv_heap, rv_logits_blocks(n), sizeof *blocks);
    float *row = rv_new_array(&rv_heap, n, sizeof *row);
    if (n < 2 || !row || !blocks || rv_sampler_new(&rv_heap, rv_kernels_best(), n, &s)) {
        fprintf(stderr, "usage: engine_sampler [VOCAB]\n");
        return 2;
    }
    rv_rng rng;
    for (int flat = 0; flat < 2; flat++) {
        rv_rng_init(&rng, 1);
        for (size_t i = 0; i < n; i++) {
            row[i] = (flat ? 0.5f : 3) * rv_rng_normal(&rng);
        }
        rv_logits_look(rv_kernels_best(), row, n, blocks);
        for (size_t i = 0; i < RV_COUNT(settings) + 2; i++) {
            bool chooses = i < RV_COUNT(settings);
            rv_sampling how = rv_sampling_default();
            if (chooses) {
                how.temperature = settings[i].temperature;
                how.top_p = settings[i].top_p;
                how.min_p = settings[i].min_p;
                how.top_k = settings[i].top_k;
            }
            double us[ROUNDS];
            int64_t sum = 0;
            for (int r = 0; r < ROUNDS; r++) {
                double start = rv_clock_ms();
                for (int t = 0; t < TIMES; t++) {
                    if (i == RV_COUNT(settings) + 1) {
                        rv_logits_look(rv_kernels_best(), row, n, blocks);
                    } else {
                        rv_logits_row it = { row, blocks };
                        sum += chooses ? rv_sampler_next(s, &how, &rng, (rv_history){ 0 }, it)
                                       : (int64_t)rv_sampler_normalise(s, it);
                    }
                }
                us[r] = (rv_clock_ms() - start) * 1e3 / TIMES;
            }
            printf("{\"bench\":\"engine_sampler\",\"what\":\"%s\",\"row\":\"%s\",\"vocab\":%zu,\"us\":%.1f,"
                   "\"level\":\"%s\",\"sum\":%lld}\n",
                   chooses                   ? settings[i].name
                   : i == RV_COUNT(settings) ? "log-probability"
                                             : "look",
                   flat ? "flat" : "peaked", n, median(us), rv_kernels_best()->name, (long long)sum);
        }
    }
    rv_sampler_free(s);
    rv_free(&rv_heap, blocks);
    rv_free(&rv_heap, row);
    return 0;
}
