/* Training adapters: what it refuses, that it learns, that it is the same however often it was interrupted. */
#include "base/file.h"
#include "learn/adapter_train.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A small model, its tokenizer, and twelve questions that all have the same answer. */
typedef struct place {
    rv_lfm2_file *file;
    rv_tok *tok;
    rv_adapter_rows rows;
    rv_lfm2_grad *g;
} place;

static place place_new(void)
{
    place p = { 0 };
    rv_chat_family family;
    CHECK_OK(rv_lfm2_file_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), true, &p.file));
    CHECK_OK(rv_tok_open(&rv_heap, p.file->gguf, &p.tok));
    CHECK_OK(rv_chat_family_of(p.file->gguf, &family));
    CHECK_OK(rv_lfm2_grad_new(&rv_heap, p.file, NULL, 96, &p.g));
    rv_adapter_rows_init(&p.rows, &rv_heap, p.tok, family, 48);
    for (size_t i = 0; i < 12; i++) {
        char question[32];
        snprintf(question, sizeof question, "the %zu?", i);
        CHECK_OK(rv_adapter_rows_pair(&p.rows, question, "it is so", i + 1));
    }
    return p;
}

static void place_free(place *p)
{
    rv_adapter_rows_deinit(&p->rows);
    rv_lfm2_grad_free(p->g);
    rv_tok_close(p->tok);
    rv_lfm2_file_close(p->file);
}

static rv_lora *fresh(const place *p)
{
    rv_lora *l = NULL;
    CHECK_OK(rv_lora_new(&rv_heap, p->file, 1 << RV_LFM2_Q | 1 << RV_LFM2_UP | 1 << RV_LFM2_OUT_PROJ, 2, 4, 1,
                         &l));
    return l;
}

static rv_adapter_training quick(void)
{
    rv_adapter_training how = rv_adapter_training_default();
    how.steps = 12;
    how.batch = 3;
    how.rate = 0.02f;
    return how;
}

TEST(training_lowers_the_loss_also_of_questions_it_never_saw)
{
    place p = place_new();
    rv_lora *l = fresh(&p);
    size_t held = 0;
    double none, before, after;
    CHECK_OK(rv_adapter_rows_split(&p.rows, 0.25, 1, &held));
    CHECK(held == 3, "%zu held out", held);
    CHECK_OK(rv_adapter_loss(p.g, NULL, p.rows.at, held, &none));
    CHECK_OK(rv_adapter_loss(p.g, l, p.rows.at, held, &before));
    CHECK(none == before, "a new adapter changes the loss from %g to %g", none, before);
    rv_adapter_training how = quick();
    uint64_t id = l->id;
    CHECK_OK(rv_adapter_train(p.g, l, p.rows.at + held, p.rows.n - held, &how));
    CHECK_OK(rv_adapter_loss(p.g, l, p.rows.at, held, &after));
    CHECK(after <= 0.8 * before, "%g before, %g after", before, after);
    CHECK(l->id != id, "the adapter keeps its id");
    rv_lora_close(l);
    place_free(&p);
}

static bool stop_at(void *self, size_t step, double loss)
{
    const size_t *last = self;
    CHECK(isfinite(loss), "loss");
    return step < *last;
}

static void damage(const char *path)
{
    char *bytes = NULL;
    size_t n = 0;
    CHECK_OK(rv_file_read(&rv_heap, path, 1 << 24, &bytes, &n));
    bytes[n / 2] ^= 1;
    CHECK_OK(rv_file_replace(path, bytes, n));
    rv_free(&rv_heap, bytes);
}

TEST(an_interrupted_training_ends_with_the_same_bits)
{
    place p = place_new();
    rv_lora *whole = fresh(&p);
    rv_adapter_training how = quick();
    CHECK_OK(rv_adapter_train(p.g, whole, p.rows.at, p.rows.n, &how));
    for (int damaged = 0; damaged < 2; damaged++) {
        how = quick();
        how.checkpoint = temp_path("a.ckpt");
        how.checkpoint_every = 4;
        how.on_step = stop_at;
        size_t last = 7;
        how.self = &last;
        rv_lora *parts = fresh(&p);
        CHECK_ERR(rv_adapter_train(p.g, parts, p.rows.at, p.rows.n, &how), RV_E_CANCELLED);
        CHECK(rv_file_exists(how.checkpoint), "no checkpoint");
        rv_lora_close(parts);
        if (damaged) {
            damage(how.checkpoint);
        }
        parts = fresh(&p);
        last = 1000;
        CHECK_OK(rv_adapter_train(p.g, parts, p.rows.at, p.rows.n, &how));
        CHECK(memcmp(parts->weights, whole->weights, whole->n_weights * sizeof *whole->weights) == 0,
              "damaged %d: other weights", damaged);
        CHECK(!rv_file_exists(how.checkpoint), "the checkpoint stays behind");
        rv_lora_close(parts);
    }
    /* A checkpoint of other settings is not taken up. */
    rv_adapter_training other = quick();
    other.checkpoint = temp_path("b.ckpt");
    other.checkpoint_every = 2;
    other.on_step = stop_at;
    size_t last = 5;
    other.self = &last;
    rv_lora *l = fresh(&p);
    CHECK_ERR(rv_adapter_train(p.g, l, p.rows.at, p.rows.n, &other), RV_E_CANCELLED);
    rv_lora_close(l);
    l = fresh(&p);
    last = 1000;
    other.seed = 2;
    CHECK_OK(rv_adapter_train(p.g, l, p.rows.at, p.rows.n, &other));
    rv_lora *seeded = fresh(&p);
    rv_adapter_training alone = quick();
    alone.seed = 2;
    CHECK_OK(rv_adapter_train(p.g, seeded, p.rows.at, p.rows.n, &alone));
    CHECK(memcmp(l->weights, seeded->weights, l->n_weights * sizeof *l->weights) == 0 &&
              memcmp(l->weights, whole->weights, l->n_weights * sizeof *l->weights) != 0,
          "seeds");
    rv_lora_close(seeded);
    rv_lora_close(l);
    rv_lora_close(whole);
    place_free(&p);
}

TEST(rows_that_are_not_rows_are_refused_by_line)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "no rows" },
        { "\n\n", "no rows" },
        { "{\"prompt\":\"a\",\"answer\":\"b\"}\n[1]\n", "line 2: expected an object" },
        { "{\"prompt\":\"a\"}", "line 1: answer" },
        { "{\"prompt\":\"a\",\"answer\":\"\"}", "line 1: answer: it is empty" },
        { "{\"prompt\":\"a\",\"answer\":3}", "line 1: answer" },
        { "\n{\"answer\":\"b\"}", "line 2: expected either prompt or messages" },
        { "{\"prompt\":\"a\",\"messages\":[],\"answer\":\"b\"}", "line 1: expected either" },
        { "{\"prompt\":\"a\",\"answer\":\"b\",\"tier\":1}", "line 1: unknown field `tier`" },
        { "{\"messages\":[{\"role\":\"king\",\"content\":\"x\"}],\"answer\":\"b\"}", "line 1" },
        { "{\"prompt\":\"a\",\"answer\":\"b\"", "line 1" },
        { "{\"prompt\":\"a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a "
          "a a a a a a a a a\","
          "\"answer\":\"b\"}",
          "line 1: a row of" },
    };
    place p = place_new();
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        const char *path = temp_path("rows.jsonl");
        CHECK_OK(rv_file_replace(path, cases[i].text, strlen(cases[i].text)));
        rv_err e = rv_adapter_rows_read(&p.rows, path);
        CHECK(e && strstr(rv_err_text(), cases[i].says), "case %zu: %s: %s", i, rv_err_name(e),
              rv_err_text());
    }
    rv_adapter_training how = quick();
    rv_lora *l = fresh(&p);
    CHECK_ERR(rv_adapter_train(p.g, l, p.rows.at, 0, &how), RV_E_ARG);
    l->weights[3] = NAN;
    CHECK_ERR(rv_adapter_train(p.g, l, p.rows.at, p.rows.n, &how), RV_E_CORRUPT);
    CHECK(strstr(rv_err_text(), "line ") && strstr(rv_err_text(), "not finite"), "%s", rv_err_text());
    size_t held = 0;
    rv_adapter_rows same;
    rv_adapter_rows_init(&same, &rv_heap, p.tok, RV_CHAT_NONE, 48);
    for (size_t i = 0; i < 3; i++) {
        CHECK_OK(rv_adapter_rows_pair(&same, "one question", "answer", i));
    }
    CHECK_ERR(rv_adapter_rows_split(&same, 0.3, 1, &held), RV_E_ARG);
    rv_adapter_rows_deinit(&same);
    rv_lora_close(l);
    place_free(&p);
}

TEST(memory_that_runs_out_is_said)
{
    place p = place_new();
    rv_adapter_training how = quick();
    how.steps = 2;
    how.checkpoint = temp_path("c.ckpt");
    how.checkpoint_every = 1;
    for (test_mem m = { 0 }; test_mem_again(&m);) {
        rv_lora *l = NULL;
        rv_err e = rv_lora_new(&m.alloc, p.file, 1 << RV_LFM2_Q, 2, 4, 1, &l);
        if (!e) {
            e = rv_adapter_train(p.g, l, p.rows.at, p.rows.n, &how);
        }
        CHECK(e == (m.failed ? RV_E_NOMEM : RV_OK), "call %ld: %s: %s", m.fail_at, rv_err_name(e),
              rv_err_text());
        rv_lora_close(l);
    }
    place_free(&p);
}

/* ---- consolidation, on a loss whose Fisher is known: -log p = (x - w)^2 / 2 in some directions only ---- */

TEST(what_a_task_needed_stays_and_the_rest_is_free)
{
    enum { N = 6 };
    float w[N] = { 0 }, free_w[N] = { 0 };
    rv_ewc *e = NULL;
    rv_rng rng;
    rv_rng_init(&rng, 4);
    CHECK_OK(rv_ewc_new(&rv_heap, N, 10, &e));
    CHECK(!rv_ewc_task_end(e, w, 1), "a task without samples");
    for (size_t i = 0; i < N; i++) {
        w[i] = 1 + (float)i;
    }
    for (int s = 0; s < 500; s++) { /* only the first half matters to this task */
        float g[N] = { 0 };
        for (size_t i = 0; i < N / 2; i++) {
            g[i] = rv_rng_normal(&rng);
        }
        rv_ewc_observe(e, g);
    }
    CHECK(rv_ewc_task_end(e, w, 1) && e->tasks == 1 && e->samples == 0, "the task does not end");
    for (size_t i = 0; i < N; i++) {
        free_w[i] = w[i];
    }
    double at_rest = rv_ewc_penalty(e, w);
    for (int s = 0; s < 2000; s++) { /* the next one wants all to be 0 */
        for (size_t i = 0; i < N; i++) {
            w[i] -= 0.01f * w[i];
            free_w[i] -= 0.01f * free_w[i];
        }
        rv_ewc_step(e, 0.01f, w);
    }
    for (size_t i = 0; i < N; i++) {
        double start = 1 + (double)i, kept = (double)w[i] / start;
        CHECK(i < N / 2 ? kept >= 0.9 : kept <= 0.05, "weight %zu: %g of it left", i, kept);
        CHECK(fabs((double)free_w[i]) <= 0.05, "without: %g", (double)free_w[i]);
    }
    CHECK(rv_ewc_penalty(e, w) > at_rest, "no penalty");
    rv_ewc_free(e);
}
