/* How much do guessed tokens save? engine_drafts MODEL QUESTIONS.jsonl [COUNT [THREADS [DRAFT_MODEL]]]: every question (one line each,
 * {"messages": [...]}) is answered without drafts, with as many as pay, and with all there are, in turns, greedily, each by an
 * engine of its own, so that none learns from another how guesses do. One JSON line
 * per way: steps and milliseconds of all answers together, and how many of the texts are those without drafts (all, or it is
 * a fault). DRAFT_MODEL guesses too: where it pays, and (all) always. `ms` includes sampling; the median of ROUNDS counts. */
#include "base/clock.h"
#include "base/cpu.h"
#include "engine/engine.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAYS = 3, ROUNDS = 3, ANSWER_BYTES = 1 << 16 };
static const char *const names[WAYS] = {
    [RV_DRAFTS_AUTO] = "auto", [RV_DRAFTS_OFF] = "off", [RV_DRAFTS_ALL] = "all"
};
static const rv_drafts order[WAYS] = { RV_DRAFTS_OFF, RV_DRAFTS_AUTO, RV_DRAFTS_ALL };

typedef struct answer {
    char text[ANSWER_BYTES];
    size_t n;
} answer;

typedef struct sum {
    size_t answers, same, tokens, steps, drafted, accepted, model_drafted, model_accepted;
    double ms[ROUNDS];
} sum;

static bool keep(void *self, const rv_piece *p)
{
    answer *a = self;
    size_t room = ANSWER_BYTES - a->n, n = p->n < room ? p->n : room;
    memcpy(a->text + a->n, p->text, n);
    a->n += n;
    return true;
}

static rv_err ask(rv_engine *const *engines, rv_engine *draft_model, const json_t *messages, int round,
                  sum *sums)
{
    static answer answers[WAYS];
    rv_ids ids;
    rv_text text;
    rv_ids_init(&ids, &rv_heap, 1 << 20);
    rv_text_init(&text, &rv_heap, 1 << 24);
    rv_err err = rv_chat_render(rv_engine_tok(engines[0]), rv_engine_get_info(engines[0])->family, messages,
                                NULL, (rv_chat_options){ .add_generation_prompt = true }, &text, &ids);
    for (int i = 0; i < WAYS && !err; i++) {
        rv_drafts way = order[i];
        answer *a = &answers[way];
        a->n = 0;
        rv_generate how = { .prompt = ids.at,
                            .n_prompt = ids.n,
                            .max_tokens = 256,
                            .n_logprobs = -1,
                            .drafts = way,
                            .draft_model = draft_model,
                            .on_piece = keep,
                            .self = a };
        how.sampling = (rv_sampling){ .top_p = 1, .repeat_penalty = 1 };
        rv_generated done;
        err = rv_engine_generate(engines[way], &how, &done);
        if (!err) {
            sum *s = &sums[way];
            const answer *plain = &answers[RV_DRAFTS_OFF];
            s->answers++;
            s->same += a->n == plain->n && memcmp(a->text, plain->text, a->n) == 0;
            s->tokens += done.completion_tokens;
            s->steps += done.steps;
            s->drafted += done.drafted;
            s->accepted += done.accepted;
            s->model_drafted += done.model_drafted;
            s->model_accepted += done.model_accepted;
            s->ms[round] += done.decode_ms;
        }
    }
    rv_text_deinit(&text);
    rv_ids_deinit(&ids);
    return err;
}

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

static rv_err run(rv_engine *const *engines, rv_engine *draft_model, FILE *f, size_t most, sum *sums)
{
    static char line[1 << 20];
    for (int round = 0; round < ROUNDS; round++) {
        rewind(f);
        for (size_t n = 0; n < most && fgets(line, sizeof line, f); n++) {
            json_t *row = json_loads(line, 0, NULL);
            rv_err err = ask(engines, draft_model, json_object_get(row, "messages"), round, sums);
            json_decref(row);
            RV_TRY(err);
        }
    }
    return RV_OK;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 6) {
        fprintf(stderr, "usage: engine_drafts MODEL QUESTIONS.jsonl [COUNT [THREADS [DRAFT_MODEL]]]\n");
        return 2;
    }
    FILE *f = fopen(argv[2], "r");
    if (!f) {
        perror(argv[2]);
        return 1;
    }
    rv_pool *pool = NULL;
    rv_engine *engines[WAYS] = { NULL }, *draft_model = NULL;
    static sum sums[WAYS];
    rv_err err = rv_pool_new(&rv_heap, argc > 4 ? atoi(argv[4]) : rv_cpu_count(), &pool);
    for (int i = 0; i < WAYS && !err; i++) {
        rv_engine_options how = rv_engine_options_default();
        how.pool = pool;
        err = rv_engine_open(&rv_heap, argv[1], how, &engines[i]);
    }
    if (argc > 5 && !err) {
        rv_engine_options how = rv_engine_options_default();
        how.pool = pool;
        err = rv_engine_open(&rv_heap, argv[5], how, &draft_model);
    }
    if (!err) {
        err = run(engines, draft_model, f, argc > 3 ? (size_t)atoi(argv[3]) : SIZE_MAX, sums);
    }
    double plain = err ? 0 : median(sums[RV_DRAFTS_OFF].ms);
    for (int i = 0; i < WAYS && !err; i++) {
        sum *s = &sums[order[i]];
        double ms = median(s->ms),
               fewer = (double)sums[RV_DRAFTS_OFF].steps / (double)(s->steps ? s->steps : 1);
        printf(
            "{\"bench\":\"engine_drafts\",\"model\":\"%.*s\",\"drafts\":\"%s\",\"answers\":%zu,\"same_text\":"
            "%zu,"
            "\"tokens\":%zu,\"steps\":%zu,\"drafted\":%zu,\"accepted\":%zu,\"model_drafted\":%zu,\"model_"
            "accepted\":%zu,\"fewer_steps\":%.2f,\"ms\":%.1f,"
            "\"faster\":%.2f,\"threads\":%d,\"level\":\"%s\",\"figure\":%.2f,\"bar\":1.5,\"met\":%s}\n",
            (int)rv_engine_get_info(engines[i])->name.n, rv_engine_get_info(engines[i])->name.at,
            names[order[i]], s->answers / ROUNDS, s->same / ROUNDS, s->tokens / ROUNDS, s->steps / ROUNDS,
            s->drafted / ROUNDS, s->accepted / ROUNDS, s->model_drafted / ROUNDS, s->model_accepted / ROUNDS,
            fewer, ms, plain / (ms > 0 ? ms : 1), rv_pool_threads(pool), rv_kernels_best()->name, fewer,
            fewer >= 1.5 && s->same == s->answers ? "true" : "false");
    }
    if (err) {
        fprintf(stderr, "engine_drafts: %s\n", rv_err_text());
    }
    for (int i = 0; i < WAYS; i++) {
        rv_engine_close(engines[i]);
    }
    rv_engine_close(draft_model);
    rv_pool_free(pool);
    fclose(f);
    return err ? 1 : 0;
}
