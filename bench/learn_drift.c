/* What is left of one topic after thousands of updates on another? An adapter learns topic A, then is trained on topic B: plainly, held by springs
 * (learn/ewc.h), with replay of A, and with both. Each JSON line: questions of A and of B that are answered to the letter, greedy.
 *
 *     bench_learn_drift MODEL.gguf A.jsonl B.jsonl [UPDATES [LAMBDA [THREADS [WAYS]]]]        rows as for `ruvllm adapter train`
 *
 * WAYS: which of the four, as digits; 0123 */
#include "bench.h"
#include "learn/adapter_train.h"
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench {
    rv_engine *engine;
    rv_lfm2_file *file;
    rv_lfm2_grad *g;
    rv_adapter_rows a, b;
} bench;

typedef struct answer {
    int32_t tokens[256];
    size_t n;
} answer;

static bool take(void *self, const rv_piece *piece)
{
    answer *a = self;
    if (piece->token >= 0 && a->n < RV_COUNT(a->tokens)) {
        a->tokens[a->n++] = piece->token;
    }
    return true;
}

static double right(const bench *b, const rv_lora *lora, const rv_adapter_rows *rows)
{
    size_t good = 0;
    for (size_t i = 0; i < rows->n; i++) {
        const rv_adapter_row *row = &rows->at[i];
        answer got = { .n = 0 };
        rv_generated done;
        size_t n = row->n - row->first - 1; /* without the end token */
        rv_generate how = { .prompt = row->ids,
                            .n_prompt = row->first,
                            .max_tokens = n + 1,
                            .n_logprobs = -1,
                            .sampling = rv_sampling_default(),
                            .lora = lora,
                            .on_piece = take,
                            .self = &got };
        how.sampling.temperature = 0;
        how.sampling.repeat_penalty = 1;
        must(rv_engine_generate(b->engine, &how, &done));
        good += got.n == n && memcmp(got.tokens, row->ids + row->first, n * sizeof *row->ids) == 0;
    }
    return (double)good / (double)rows->n;
}

static void report(const bench *b, const char *what, size_t updates, float lambda, const rv_lora *lora)
{
    printf("{\"after\":\"%s\",\"updates\":%zu,\"lambda\":%g,\"a_right\":%.4f,\"b_right\":%.4f,\"a\":%zu,"
           "\"b\":%zu}\n",
           what, updates, (double)lambda, right(b, lora, &b->a), right(b, lora, &b->b), b->a.n, b->b.n);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "topic B", "topic B, springs", "topic B, replay",
                                         "topic B, springs and replay" };
    if (argc < 4) {
        fprintf(stderr, "bench_learn_drift MODEL.gguf A.jsonl B.jsonl [UPDATES [LAMBDA [THREADS [WAYS]]]]\n");
        return 2;
    }
    size_t updates = argc > 4 ? strtoul(argv[4], NULL, 10) : 10000;
    float lambda = argc > 5 ? strtof(argv[5], NULL) : 0.1f;
    bench b = { 0 };
    rv_pool *pool = NULL;
    rv_lora *first = NULL;
    must(rv_pool_new(&rv_heap, argc > 6 ? atoi(argv[6]) : 2, &pool));
    rv_engine_options options = rv_engine_options_default();
    must(rv_engine_open(&rv_heap, argv[1], options, &b.engine));
    must(rv_lfm2_file_open(&rv_heap, argv[1], false, &b.file));
    must(rv_lfm2_grad_new(&rv_heap, b.file, pool, 512, &b.g));
    rv_chat_family family = rv_engine_get_info(b.engine)->family;
    rv_adapter_rows_init(&b.a, &rv_heap, rv_engine_tok(b.engine), family, 256);
    rv_adapter_rows_init(&b.b, &rv_heap, rv_engine_tok(b.engine), family, 256);
    must(rv_adapter_rows_read(&b.a, argv[2]));
    must(rv_adapter_rows_read(&b.b, argv[3]));

    must(rv_lora_new(&rv_heap, b.file, (1u << RV_LFM2_PARTS) - 1, 16, 32, 1, &first));
    report(&b, "nothing", 0, 0, first);
    rv_adapter_training how = rv_adapter_training_default();
    how.steps = 800;
    how.rate = 6e-3f;
    must(rv_adapter_train(b.g, first, b.a.at, b.a.n, &how));
    report(&b, "topic A", how.steps, 0, first);

    rv_ewc *guard = NULL;
    must(rv_ewc_new(&rv_heap, first->n_weights, lambda, &guard));
    while (guard->samples < 2 * RV_EWC_MIN_SAMPLES) {
        must(rv_adapter_observe(b.g, first, b.a.at, b.a.n, guard));
    }
    if (!rv_ewc_task_end(guard, first->weights, 1)) {
        return 1;
    }
    size_t n = b.a.n + b.b.n;
    rv_adapter_row *rows = memory(rv_new_array(&rv_heap, n, sizeof *rows));
    float *mix = memory(rv_new_array(&rv_heap, n, sizeof *mix));
    memcpy(rows, b.b.at, b.b.n * sizeof *rows);
    memcpy(rows + b.b.n, b.a.at, b.a.n * sizeof *rows);
    for (size_t i = 0; i < n; i++) {
        mix[i] = i < b.b.n ? 1 / (float)b.b.n : 1 / (float)b.a.n;
    }
    for (const char *way = argc > 7 ? argv[7] : "0123"; *way >= '0' && *way <= '3'; way++) {
        bool held = (*way - '0') & 1, replayed = (*way - '0') & 2;
        rv_lora *next = NULL;
        must(rv_lora_copy(&rv_heap, first, &next));
        how.steps = updates;
        how.rate = 3e-3f;
        how.batch = replayed ? 2 : 1;
        how.guard = held ? guard : NULL;
        how.mix = replayed ? mix : NULL;
        must(rv_adapter_train(b.g, next, rows, replayed ? n : b.b.n, &how));
        report(&b, names[*way - '0'], updates, held ? lambda : 0, next);
        rv_lora_close(next);
    }
    rv_free(&rv_heap, mix);
    rv_free(&rv_heap, rows);
    rv_ewc_free(guard);
    rv_lora_close(first);
    rv_adapter_rows_deinit(&b.a);
    rv_adapter_rows_deinit(&b.b);
    rv_lfm2_grad_free(b.g);
    rv_lfm2_file_close(b.file);
    rv_engine_close(b.engine);
    rv_pool_free(pool);
    return 0;
}
