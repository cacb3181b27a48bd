/* adapter: train one, and keep versions of them. */
#include "cli/cli.h"

#include "app/learning.h"
#include "base/clock.h"
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

/* ---- versions ---- */

/* The program's parts, and the model and user that the options name. */
typedef struct place {
    cmd_line *line;
    rv_config *config;
    rv_app *app;
    rv_pipeline *pipeline;
    rv_engine *engine;
    rv_arena *arena;
    const char *user;
    uint64_t model;
} place;

static rv_err place_start(place *p, cmd_line *line, rv_app_parts parts)
{
    *p = (place){ .line = line, .user = cmd_value(line, "user", "") };
    RV_TRY(cmd_open(line, parts, &p->config, &p->app));
    p->pipeline = rv_app_pipeline(p->app);
    return rv_arena_new(&rv_heap, 64 << 20, &p->arena);
}

static rv_err take_model(place *p, const char *name)
{
    const char *id = NULL;
    RV_TRY(rv_backend_resolve(p->pipeline->backend, name, &id));
    RV_TRY(rv_backend_take(p->pipeline->backend, id, &p->engine));
    p->model = rv_engine_get_info(p->engine)->fingerprint;
    return RV_OK;
}

static rv_err place_open(place *p, cmd_line *line, bool with_model)
{
    RV_TRY(place_start(p, line, with_model ? RV_APP_ALL : RV_APP_MEMORY));
    return with_model ? take_model(p, cmd_value(line, "model", NULL)) : RV_OK;
}

static int place_close(place *p, rv_err e)
{
    int code = e ? cmd_fail(e) : CMD_DONE;
    if (p->engine) {
        rv_backend_put(p->pipeline->backend, p->engine);
    }
    rv_arena_free(p->arena);
    cmd_close(p->config, p->app);
    return code;
}

static void print_version(const place *p, const rv_adapter_version *v)
{
    if (p->line->json) {
        char model[17];
        snprintf(model, sizeof model, "%016llx", (unsigned long long)v->model);
        cmd_print(json_pack("{s:I, s:I, s:s, s:s, s:s, s:I, s:f, s:f, s:I, s:b}", "id", (json_int_t)v->id,
                            "parent", (json_int_t)v->parent, "model", model, "user", v->user, "origin",
                            v->origin, "rows", (json_int_t)v->rows, "held_before", v->before, "held_after",
                            v->after, "created_ms", (json_int_t)v->created_ms, "in_use", (int)v->in_use));
        return;
    }
    const char *user = *v->user ? v->user : "everybody";
    printf("%s %4lld  before it %lld  model %016llx  user ", v->in_use ? "*" : " ", (long long)v->id,
           (long long)v->parent, (unsigned long long)v->model);
    cmd_safe(stdout, user, strlen(user));
    printf("  %s", v->origin);
    if (v->before > 0) {
        printf("  %lld rows, held out %.3f to %.3f", (long long)v->rows, v->before, v->after);
    }
    printf("\n");
}

int cmd_adapter_list(cmd_line *line)
{
    place p;
    rv_adapter_version *list = NULL;
    size_t n = 0;
    rv_err e = place_open(&p, line, false);
    if (!e) {
        e = rv_adapters_list(p.pipeline->adapters, p.arena, &list, &n);
    }
    for (size_t i = 0; i < n && !e; i++) {
        print_version(&p, &list[i]);
    }
    if (!e && n == 0 && !line->json) {
        fprintf(stderr, "There are no adapters.\n");
    }
    return place_close(&p, e);
}

static rv_err print_in_use(const place *p)
{
    int64_t id = rv_adapters_in_use(p->pipeline->adapters, p->model, p->user);
    rv_adapter_version v;
    if (id == 0) {
        if (p->line->json) {
            cmd_print(json_pack("{s:i}", "id", 0));
        } else {
            printf("no adapter is in use\n");
        }
        return RV_OK;
    }
    RV_TRY(rv_adapters_get(p->pipeline->adapters, id, p->arena, &v));
    print_version(p, &v);
    return RV_OK;
}

int cmd_adapter_load(cmd_line *line)
{
    place p;
    rv_lora *lora = NULL;
    int64_t id;
    rv_err e = place_open(&p, line, true);
    if (!e) {
        e = rv_engine_open_lora(p.engine, &rv_heap, line->args[0], &lora);
    }
    if (!e) {
        rv_adapter_version v = { .model = p.model, .user = p.user, .origin = "load" };
        e = rv_adapters_publish(p.pipeline->adapters, &v, lora, &id);
    }
    if (!e) {
        e = print_in_use(&p);
    }
    rv_lora_close(lora);
    return place_close(&p, e);
}

int cmd_adapter_unload(cmd_line *line)
{
    place p;
    rv_err e = place_open(&p, line, true);
    if (!e) {
        e = rv_adapters_use(p.pipeline->adapters, p.model, p.user, 0);
    }
    if (!e) {
        e = print_in_use(&p);
    }
    return place_close(&p, e);
}

static rv_err roll_back(const place *p)
{
    rv_adapter_version v;
    int64_t id = rv_adapters_in_use(p->pipeline->adapters, p->model, p->user);
    if (id == 0) {
        return rv_fail(RV_E_NOT_FOUND, "no adapter is in use, so there is nothing to go back from");
    }
    RV_TRY(rv_adapters_get(p->pipeline->adapters, id, p->arena, &v));
    return rv_adapters_use(p->pipeline->adapters, p->model, p->user, v.parent);
}

int cmd_adapter_rollback(cmd_line *line)
{
    place p;
    rv_err e = place_open(&p, line, true);
    if (!e) {
        e = roll_back(&p);
    }
    if (!e) {
        e = print_in_use(&p);
    }
    return place_close(&p, e);
}

/* The model that a version was made for, by its file's fingerprint. */
static rv_err model_of_version(const place *p, const rv_adapter_version *v, const char **id)
{
    rv_backend_model models[64];
    size_t n = rv_backend_models(p->pipeline->backend, models, RV_COUNT(models));
    for (size_t i = 0; i < n && i < RV_COUNT(models); i++) {
        rv_gguf *file = NULL;
        if (rv_gguf_open(&rv_heap, models[i].path, &file)) {
            continue; /* a model that cannot be read is said where it is asked for */
        }
        bool same = rv_gguf_fingerprint(file) == v->model;
        rv_gguf_close(file);
        if (same) {
            *id = models[i].id;
            return RV_OK;
        }
    }
    return rv_fail(RV_E_NOT_FOUND,
                   "adapter %lld is for the model %016llx, which is not here: name its file with --model",
                   (long long)v->id, (unsigned long long)v->model);
}

/* A version is of the model its row names, a file of the one that is asked for. */
static rv_err find_adapter(place *p, const char **path, const char **model)
{
    int64_t id;
    rv_adapter_version v;
    if (!rv_parse_i64(rv_str_from(*path), &id)) {
        return RV_OK;
    }
    RV_TRY(rv_adapters_get(p->pipeline->adapters, id, p->arena, &v));
    RV_TRY(model_of_version(p, &v, model));
    return rv_adapters_path(p->pipeline->adapters, id, p->arena, path);
}

int cmd_adapter_export(cmd_line *line)
{
    place p;
    const char *path = line->args[0], *out = cmd_value(line, "out", NULL),
               *model = cmd_value(line, "model", NULL);
    rv_lora *lora = NULL;
    if (!out) {
        return cmd_usage(line, "--out is needed");
    }
    rv_err e = place_start(&p, line, RV_APP_ALL);
    e = e ? e : find_adapter(&p, &path, &model);
    e = e ? e : take_model(&p, model);
    if (!e) {
        e = rv_engine_open_lora(p.engine, &rv_heap, path, &lora);
    }
    if (!e) {
        rv_str name = rv_engine_get_info(p.engine)->name;
        const char *base = rv_arena_strndup(p.arena, name.at, name.n);
        e = rv_lora_write_peft(lora, out, base ? base : "");
    }
    rv_lora_close(lora);
    return place_close(&p, e);
}

/* ---- learn run --model, --user ---- */

typedef struct learn_job {
    cmd_bar bar;
} learn_job;

static bool learn_step(void *self, size_t step, size_t steps, double loss)
{
    learn_job *job = self;
    char what[48];
    snprintf(what, sizeof what, "loss %.3f", loss);
    cmd_bar_draw(&job->bar, what, step, steps);
    return !atomic_load(&cmd_cancel);
}

static void print_learned(const cmd_line *line, const rv_adapter_learned *d)
{
    if (line->json) {
        cmd_print(json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:s}", "corrections",
                            (json_int_t)d->corrections, "anchors", (json_int_t)d->anchors, "spared",
                            (json_int_t)d->spared, "steps", (json_int_t)d->steps, "held_before", d->before,
                            "held_after", d->after, "anchors_before", d->anchors_before, "anchors_after",
                            d->anchors_after, "version", (json_int_t)d->version, "outcome", d->why));
        return;
    }
    printf("%zu corrections, %zu answers that stood to questions like them (%zu to others, which are left "
           "alone), %zu steps\n",
           d->corrections, d->anchors, d->spared, d->steps);
    if (d->steps) {
        printf(
            "loss of a token on other wordings: %.3f before, %.3f after; on answers that stood: %.3f, %.3f\n",
            d->before, d->after, d->anchors_before, d->anchors_after);
    }
    printf("%s", d->why);
    if (d->version) {
        printf(" as adapter %lld", (long long)d->version);
    }
    printf("\n");
}

int cmd_learn_adapter(cmd_line *line)
{
    place p;
    learn_job job;
    int64_t rank = 16, seconds = 10, threads = 0, seed = 1;
    rv_pool *pool = NULL;
    rv_adapter_learned done;
    if (!cmd_int(line, "rank", 1, RV_LORA_MAX_RANK / 2, &rank) ||
        !cmd_int(line, "seconds", 1, 86400, &seconds) || !cmd_int(line, "threads", 1, 256, &threads) ||
        !cmd_int(line, "seed", 0, INT64_MAX, &seed)) {
        return CMD_USAGE;
    }
    rv_err e = place_open(&p, line, true);
    if (!e) {
        e = rv_pool_new(&rv_heap, (int)threads, &pool);
    }
    if (!e) {
        rv_adapter_learning how = rv_app_adapter_learning(p.app);
        how.engine = p.engine;
        how.pool = pool;
        how.user = p.user;
        how.rank = (size_t)rank;
        how.springs = 0;
        how.max_seconds = (double)seconds;
        how.seed = (uint64_t)seed;
        how.on_step = learn_step;
        how.self = &job;
        cmd_bar_init(&job.bar);
        cmd_catch_interrupt();
        e = rv_adapter_learn(&how, &done);
        cmd_bar_end(&job.bar);
    }
    if (!e) {
        print_learned(line, &done);
    }
    rv_pool_free(pool);
    return place_close(&p, e);
}
