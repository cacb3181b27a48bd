/* adapter: train one, and keep versions of them. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"

#include <string.h>

enum { ROW_TOKENS = 1024 };

typedef struct training {
    cmd_line *line;
    const char *data, *out;
    int64_t rank, steps, batch, seed, ctx, threads;
    double rate, held_share;
    rv_lfm2_file *file;
    rv_tok *tok;
    rv_pool *pool;
    rv_lfm2_grad *g;
    rv_lora *lora;
    rv_adapter_rows rows;
    size_t held;
    double before[2], after[2]; /* on the rows trained on (as many as are held out), and on those held out */
    cmd_bar bar;
} training;

static rv_err open_model(training *t)
{
    char *path = NULL;
    rv_chat_family family = RV_CHAT_NONE;
    RV_TRY(cmd_model_path(t->line, cmd_value(t->line, "model", "default"), &path));
    rv_err e = rv_lfm2_file_open(&rv_heap, path, true, &t->file);
    rv_free(&rv_heap, path);
    if (!e) {
        e = rv_tok_open(&rv_heap, t->file->gguf, &t->tok);
    }
    if (!e && rv_chat_family_of(t->file->gguf, &family)) {
        family = RV_CHAT_NONE; /* then rows with messages are refused */
    }
    rv_adapter_rows_init(&t->rows, &rv_heap, t->tok, family, (size_t)t->ctx);
    if (!e) {
        e = rv_adapter_rows_read(&t->rows, t->data);
    }
    if (!e) {
        e = rv_adapter_rows_split(&t->rows, t->held_share, (uint64_t)t->seed, &t->held);
    }
    return e;
}

static rv_err open_training(training *t)
{
    size_t longest = 512;
    for (size_t i = 0; i < t->rows.n; i++) {
        longest = t->rows.at[i].n > longest ? t->rows.at[i].n : longest;
    }
    const uint32_t parts = (1u << RV_LFM2_PARTS) - 1;
    RV_TRY(rv_pool_new(&rv_heap, (int)t->threads, &t->pool));
    RV_TRY(rv_lfm2_grad_new(&rv_heap, t->file, t->pool, longest, &t->g));
    return rv_lora_new(&rv_heap, t->file, parts, (size_t)t->rank, 2 * (float)t->rank, (uint64_t)t->seed,
                       &t->lora);
}

static rv_err measure(training *t, double loss[2])
{
    const rv_adapter_row *rest = t->rows.at + t->held;
    size_t n = t->rows.n - t->held, some = t->held && t->held < n ? t->held : n;
    RV_TRY(rv_adapter_loss(t->g, t->lora, rest, some, &loss[0]));
    return t->held ? rv_adapter_loss(t->g, t->lora, t->rows.at, t->held, &loss[1]) : RV_OK;
}

static bool on_step(void *self, size_t step, double loss)
{
    training *t = self;
    char what[48];
    snprintf(what, sizeof what, "loss %.3f", loss);
    cmd_bar_draw(&t->bar, what, step, (uint64_t)t->steps);
    return !atomic_load(&cmd_cancel);
}

static rv_err train(training *t)
{
    rv_adapter_training how = rv_adapter_training_default();
    rv_text checkpoint;
    how.steps = (size_t)t->steps;
    how.batch = (size_t)t->batch;
    how.rate = (float)t->rate;
    how.seed = (uint64_t)t->seed;
    how.on_step = on_step;
    how.self = t;
    rv_text_init(&checkpoint, &rv_heap, 1 << 16);
    rv_text_addf(&checkpoint, "%s.ckpt", t->out);
    how.checkpoint = rv_text_get(&checkpoint);
    rv_err e = rv_text_check(&checkpoint);
    if (!e) {
        cmd_bar_init(&t->bar);
        cmd_catch_interrupt();
        e = rv_adapter_train(t->g, t->lora, t->rows.at + t->held, t->rows.n - t->held, &how);
        cmd_bar_end(&t->bar);
    }
    if (e == RV_E_CANCELLED) {
        e = rv_fail(e, "%s; the same command goes on from there", rv_err_text());
    }
    rv_text_deinit(&checkpoint);
    return e;
}

static rv_err write_adapter(const training *t)
{
    rv_str model = { 0 };
    char name[128];
    bool found = false;
    if (rv_gguf_get_string(t->file->gguf, "general.name", &model, &found) || !found) {
        model = rv_str_from("model");
    }
    snprintf(name, sizeof name, "adapter of rank %d for %.*s", (int)t->rank,
             (int)(model.n < 64 ? model.n : 64), model.at);
    return rv_lora_write(t->lora, t->out, name);
}

static void report(const training *t, double seconds)
{
    size_t n = t->rows.n - t->held;
    if (t->line->json) {
        json_t *out = json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:f}", "out", t->out, "rows", (json_int_t)n,
                                "held_out", (json_int_t)t->held, "weights", (json_int_t)t->lora->n_weights,
                                "loss_before", t->before[0], "loss_after", t->after[0], "seconds", seconds);
        if (t->held) {
            json_object_set_new(out, "held_before", json_real(t->before[1]));
            json_object_set_new(out, "held_after", json_real(t->after[1]));
        }
        cmd_print(out);
        return;
    }
    printf("%s: %zu weights, %zu rows, %.1f s\n", t->out, t->lora->n_weights, n, seconds);
    printf("loss of a token: %.4f before, %.4f after (rows trained on)\n", t->before[0], t->after[0]);
    if (t->held) {
        printf("                 %.4f before, %.4f after (%zu rows held out): %+.1f %%\n", t->before[1],
               t->after[1], t->held, 100 * (t->after[1] / t->before[1] - 1));
    }
}

int cmd_adapter_train(cmd_line *line)
{
    training t = { .line = line, .rank = 8, .steps = 200, .batch = 8, .seed = 1, .ctx = ROW_TOKENS };
    t.data = cmd_value(line, "data", NULL);
    t.out = cmd_value(line, "out", NULL);
    t.rate = 3e-3;
    t.held_share = 0.1;
    t.threads = rv_cpu_count();
    if (!t.data || !t.out) {
        return cmd_usage(line, "--data and --out are needed");
    }
    if (!cmd_int(line, "rank", 1, RV_LORA_MAX_RANK, &t.rank) ||
        !cmd_int(line, "steps", 1, 1 << 24, &t.steps) || !cmd_int(line, "batch", 1, 4096, &t.batch) ||
        !cmd_int(line, "seed", 0, INT64_MAX, &t.seed) || !cmd_int(line, "row-tokens", 2, 32768, &t.ctx) ||
        !cmd_float(line, "rate", 1e-8, 1, &t.rate) || !cmd_float(line, "held-out", 0, 0.9, &t.held_share) ||
        !cmd_int(line, "threads", 1, 256, &t.threads)) {
        return CMD_USAGE;
    }
    double start = rv_clock_ms();
    rv_err e = open_model(&t);
    if (!e) {
        e = open_training(&t);
    }
    if (!e) {
        e = measure(&t, t.before);
    }
    if (!e) {
        e = train(&t);
    }
    if (!e) {
        e = measure(&t, t.after);
    }
    if (!e) {
        e = write_adapter(&t);
    }
    if (!e) {
        report(&t, (rv_clock_ms() - start) / 1000);
    }
    rv_lora_close(t.lora);
    rv_lfm2_grad_free(t.g);
    rv_pool_free(t.pool);
    rv_adapter_rows_deinit(&t.rows);
    rv_tok_close(t.tok);
    rv_lfm2_file_close(t.file);
    return e ? cmd_fail(e) : CMD_DONE;
}
