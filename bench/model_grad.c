/* How long does one pass forward and back take, and how much memory does it need beside the weights? One JSON line:
 *
 *     bench_model_grad MODEL.gguf [TOKENS [THREADS]]
 *
 * gflops: forward, the inside of the layers once more, and back: two operations for each weight and token, three times. peak_bytes is the resident
 * memory of the whole program at its highest, the touched pages of the mapped file among it. */
#include "bench.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "model/lfm2_grad.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "bench_model_grad MODEL.gguf [TOKENS [THREADS]]\n");
        return 2;
    }
    size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 512;
    int threads = argc > 3 ? atoi(argv[3]) : rv_cpu_count();
    rv_lfm2_file *file = NULL;
    rv_pool *pool = NULL;
    rv_lfm2_grad *g = NULL;
    rv_lora *lora = NULL;
    must(rv_lfm2_file_open(&rv_heap, argv[1], false, &file));
    must(rv_pool_new(&rv_heap, threads, &pool));
    must(rv_lfm2_grad_new(&rv_heap, file, pool, n, &g));
    must(rv_lora_new(&rv_heap, file, (1u << RV_LFM2_PARTS) - 1, 8, 16, 1, &lora));
    int32_t *ids = rv_new_array(&rv_heap, n, sizeof *ids);
    float *gradient = rv_new_array(&rv_heap, lora->n_weights, sizeof *gradient);
    rv_rng rng;
    rv_rng_init(&rng, 1);
    for (size_t i = 0; ids && i < n; i++) {
        ids[i] = (int32_t)rv_rng_below(&rng, file->shape.n_vocab);
    }
    rv_grad_text text = { .ids = ids, .n = n, .first = n / 2, .weight = 1 };
    double start = rv_clock_ms();
    must(rv_lfm2_grad_run(g, lora, &text, 1, gradient));
    double seconds = (rv_clock_ms() - start) / 1000;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"model\":\"%s\",\"parameters\":%llu,\"tokens\":%zu,\"threads\":%d,\"seconds\":%.3f,\"tokens_"
           "per_second\":%.1f,"
           "\"gflops\":%.1f,\"scratch_bytes\":%zu,\"file_bytes\":%zu,\"peak_bytes\":%llu}\n",
           argv[1], (unsigned long long)file->shape.n_params, n, threads, seconds, (double)n / seconds,
           6e-9 * (double)file->shape.n_params * (double)n / seconds, rv_lfm2_grad_bytes(g),
           rv_gguf_file_bytes(file->gguf), (unsigned long long)used.ru_maxrss * 1024);
    rv_free(&rv_heap, gradient);
    rv_free(&rv_heap, ids);
    rv_lora_close(lora);
    rv_lfm2_grad_free(g);
    rv_pool_free(pool);
    rv_lfm2_file_close(file);
    return 0;
}
