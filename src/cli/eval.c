/* Measuring commands. JSON lines in and out, floats as raw little-endian rows; tests and comparisons stand on these forms. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_IDS = 1 << 24, PERPLEXITY_WINDOW = 4096 };

static rv_err write_floats(const char *path, const float *rows, size_t n)
{
    FILE *out = fopen(path, "wb");
    if (!out) {
        return rv_fail(RV_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    size_t wrote = fwrite(rows, sizeof *rows, n, out);
    bool closed = fclose(out) == 0;
    return wrote == n && closed ? RV_OK : rv_fail(RV_E_IO, "%s: writing %zu floats failed", path, n);
}

static rv_err parse_ids(const char *list, rv_ids *ids)
{
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ",");
        int64_t id;
        if (!rv_parse_i64(rv_str_of(at, n), &id) || id < 0 || id > INT32_MAX) {
            return rv_fail(RV_E_ARG, "--ids: `%.*s` is no token id", (int)(n < 40 ? n : 40), at);
        }
        RV_TRY(rv_ids_add(ids, (int32_t)id));
        at += n + (at[n] == ',');
    }
    return RV_OK;
}

int cmd_eval_logits(cmd_line *line)
{
    const char *list = cmd_value(line, "ids", NULL), *out = cmd_value(line, "out", NULL);
    int64_t from = 0, chunk = 0;
    if (!list || !out) {
        return cmd_usage(line, "--ids and --out are needed");
    }
    if (!cmd_int(line, "from", 0, MAX_IDS, &from) || !cmd_int(line, "chunk", 0, MAX_IDS, &chunk)) {
        return CMD_USAGE;
    }
    rv_ids ids;
    rv_ids_init(&ids, &rv_heap, MAX_IDS);
    rv_pool *pool = NULL;
    rv_engine *engine = NULL;
    rv_lora *lora = NULL;
    float *rows = NULL;
    rv_err e = parse_ids(list, &ids);
    if (!e && (ids.n == 0 || (size_t)from >= ids.n)) {
        e = rv_fail(RV_E_ARG, "--from %lld: there are %zu ids", (long long)from, ids.n);
    }
    if (!e) {
        e = cmd_engine(line, line->args[0], &pool, &engine);
    }
    if (!e) {
        e = cmd_lora(line, engine, &lora);
    }
    size_t count = 0;
    if (!e) {
        size_t vocab = rv_engine_get_info(engine)->shape.n_vocab;
        if (!rv_mul_size(ids.n - (size_t)from, vocab, &count) ||
            !(rows = rv_new_array(&rv_heap, count, sizeof *rows))) {
            e = rv_fail(RV_E_NOMEM, "logits of %zu positions", ids.n - (size_t)from);
        }
    }
    if (!e) {
        e = rv_engine_logits(engine, lora, ids.at, ids.n, (size_t)from, (size_t)chunk, rows);
    }
    if (!e) {
        e = write_floats(out, rows, count);
    }
    rv_free(&rv_heap, rows);
    rv_lora_close(lora);
    rv_engine_close(engine);
    rv_pool_free(pool);
    rv_ids_deinit(&ids);
    return e ? cmd_fail(e) : CMD_DONE;
}

static rv_err expand_rows(const rv_gguf_tensor *t, int64_t rows, const char *out)
{
    size_t cols = (size_t)t->dim[0], have = (size_t)(t->dim[1] * t->dim[2] * t->dim[3]), row_bytes, count;
    size_t n = rows > 0 && (size_t)rows < have ? (size_t)rows : have;
    if (!t->at || !rv_type_row_bytes(t->type, cols, &row_bytes) || !rv_mul_size(n, cols, &count)) {
        return rv_fail(RV_E_FORMAT, "%.*s: has no data that can be read", (int)t->name.n, t->name.at);
    }
    float *x = rv_new_array(&rv_heap, count, sizeof *x);
    if (!x) {
        return rv_fail(RV_E_NOMEM, "%zu rows of %zu", n, cols);
    }
    rv_expand_fn *expand = rv_kernels_best()->expand[t->type];
    for (size_t r = 0; r < n; r++) {
        expand(t->at + r * row_bytes, x + r * cols, cols);
    }
    rv_err e = write_floats(out, x, count);
    rv_free(&rv_heap, x);
    return e;
}

int cmd_eval_dequant(cmd_line *line)
{
    const char *out = cmd_value(line, "out", NULL);
    int64_t rows = 0;
    if (!out) {
        return cmd_usage(line, "--out is needed");
    }
    if (!cmd_int(line, "rows", 1, MAX_IDS, &rows)) {
        return CMD_USAGE;
    }
    rv_gguf *g = NULL;
    char *path = NULL;
    rv_err e = cmd_model_path(line, line->args[0], &path);
    if (!e) {
        e = rv_gguf_open(&rv_heap, path, &g);
    }
    if (!e) {
        const rv_gguf_tensor *t = rv_gguf_tensor_find(g, line->args[1]);
        e = t ? expand_rows(t, rows, out)
              : rv_fail(RV_E_NOT_FOUND, "%s: there is no tensor %s", path, line->args[1]);
    }
    rv_gguf_close(g);
    rv_free(&rv_heap, path);
    return e ? cmd_fail(e) : CMD_DONE;
}

/* Commands that turn lines into lines with a tokenizer. */
typedef struct tok_job {
    cmd_line *line;
    rv_tok *tok;
    rv_chat_family family;
    rv_err (*one)(struct tok_job *job, const json_t *in, json_t *out);
} tok_job;

static rv_err one_line(tok_job *job, const char *text, size_t n)
{
    json_t *in = NULL, *out = json_object();
    rv_err e = rv_json_parse(text, n, &in);
    if (!e && !json_is_object(in)) {
        e = rv_fail(RV_E_FORMAT, "expected an object");
    }
    if (!e) {
        e = job->one(job, in, out);
    }
    if (!e) {
        rv_json_print(out, stdout);
    }
    json_decref(in);
    json_decref(out);
    return e;
}

static int run_tok_job(cmd_line *line, bool chat, rv_err (*one)(tok_job *, const json_t *, json_t *))
{
    tok_job job = { .line = line, .one = one };
    rv_gguf *g = NULL;
    char *path = NULL, *text = NULL;
    size_t room = 0, n = 0, number = 0;
    rv_err e = cmd_model_path(line, line->args[0], &path);
    if (!e) {
        e = rv_gguf_open(&rv_heap, path, &g);
    }
    if (!e) {
        e = rv_tok_open(&rv_heap, g, &job.tok);
    }
    if (!e && chat) {
        e = rv_chat_family_of(g, &job.family);
    }
    while (!e && cmd_next_line(stdin, &text, &room, &n, &e)) {
        number++;
        if (n == 0) {
            continue;
        }
        e = one_line(&job, text, n);
        if (e) {
            e = rv_fail(e, "line %zu: %s", number, rv_err_text());
        }
    }
    free(text);
    rv_tok_close(job.tok);
    rv_gguf_close(g);
    rv_free(&rv_heap, path);
    return e ? cmd_fail(e) : CMD_DONE;
}

static json_t *ids_json(const rv_ids *ids)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ids->n; i++) {
        json_array_append_new(list, json_integer(ids->at[i]));
    }
    return list;
}

static rv_err tokenize_one(tok_job *job, const json_t *in, json_t *out)
{
    const char *text;
    size_t n;
    RV_TRY(rv_json_need_string(in, "text", &text, &n));
    rv_ids ids;
    rv_ids_init(&ids, &rv_heap, MAX_IDS);
    rv_err e = RV_OK;
    if (cmd_has(job->line, "bos") && rv_tok_bos(job->tok) >= 0) {
        e = rv_ids_add(&ids, rv_tok_bos(job->tok));
    }
    if (!e) {
        e = rv_tok_encode(job->tok, text, n, cmd_has(job->line, "no-special") ? RV_TOK_PLAIN : RV_TOK_SPECIAL,
                          &ids);
    }
    if (!e) {
        json_object_set_new(out, "ids", ids_json(&ids));
    }
    rv_ids_deinit(&ids);
    return e;
}

int cmd_eval_tokenize(cmd_line *line)
{
    return run_tok_job(line, false, tokenize_one);
}

static rv_err detokenize_one(tok_job *job, const json_t *in, json_t *out)
{
    json_t *list = NULL, *item;
    size_t i;
    RV_TRY(rv_json_get_array(in, "ids", &list));
    if (!list) {
        return rv_fail(RV_E_ARG, "ids: expected an array, found nothing");
    }
    rv_text text;
    rv_text_init(&text, &rv_heap, (size_t)1 << 30);
    json_array_foreach(list, i, item)
    {
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || (size_t)id >= rv_tok_count(job->tok)) {
            rv_text_deinit(&text);
            return rv_fail(RV_E_ARG, "ids[%zu]: expected a token id below %zu", i, rv_tok_count(job->tok));
        }
        int32_t one = (int32_t)id;
        rv_tok_decode(job->tok, &one, 1, true, &text);
    }
    rv_err e = rv_text_check(&text);
    if (!e) {
        /* Bytes that are no UTF-8 have no JSON form; they are shown as the replacement character. */
        rv_text safe;
        rv_text_init(&safe, &rv_heap, (size_t)1 << 30);
        for (size_t at = 0; at < text.n;) {
            uint32_t code;
            size_t length = rv_utf8_decode(text.at + at, text.n - at, &code);
            if (length) {
                rv_text_add(&safe, text.at + at, length);
            } else {
                rv_text_adds(&safe, "\xef\xbf\xbd");
            }
            at += length ? length : 1;
        }
        json_object_set_new(out, "text", json_stringn(rv_text_get(&safe), safe.n));
        rv_text_deinit(&safe);
    }
    rv_text_deinit(&text);
    return e;
}

int cmd_eval_detokenize(cmd_line *line)
{
    return run_tok_job(line, false, detokenize_one);
}

static rv_err chat_one(tok_job *job, const json_t *in, json_t *out)
{
    json_t *messages = NULL, *tools = NULL;
    bool header = true;
    RV_TRY(rv_json_get_array(in, "messages", &messages));
    RV_TRY(rv_json_get_array(in, "tools", &tools));
    RV_TRY(rv_json_get_bool(in, "add_generation_prompt", &header));
    if (!messages) {
        return rv_fail(RV_E_ARG, "messages: expected an array, found nothing");
    }
    rv_text prompt;
    rv_ids ids;
    rv_text_init(&prompt, &rv_heap, (size_t)1 << 28);
    rv_ids_init(&ids, &rv_heap, MAX_IDS);
    rv_chat_options how = { .add_generation_prompt = header, .trust_all = true };
    rv_err e = rv_chat_render(job->tok, job->family, messages, tools, how, &prompt, &ids);
    if (!e) {
        e = rv_text_check(&prompt);
    }
    if (!e) {
        json_object_set_new(out, "prompt", json_stringn(rv_text_get(&prompt), prompt.n));
        json_object_set_new(out, "ids", ids_json(&ids));
    }
    rv_text_deinit(&prompt);
    rv_ids_deinit(&ids);
    return e;
}

int cmd_eval_chat(cmd_line *line)
{
    return run_tok_job(line, true, chat_one);
}

int cmd_eval_perplexity(cmd_line *line)
{
    rv_pool *pool = NULL;
    rv_engine *engine = NULL;
    rv_lora *lora = NULL;
    char *text = NULL;
    size_t n = 0, scored = 0;
    double nll = 0;
    rv_ids ids;
    rv_ids_init(&ids, &rv_heap, MAX_IDS);
    rv_err e = rv_file_read(&rv_heap, line->args[1], (size_t)1 << 28, &text, &n);
    if (!e) {
        e = cmd_engine(line, line->args[0], &pool, &engine);
    }
    if (!e) {
        e = cmd_lora(line, engine, &lora);
    }
    const rv_tok *tok = e ? NULL : rv_engine_tok(engine);
    if (!e) {
        e = rv_tok_encode(tok, text, n, RV_TOK_PLAIN, &ids);
    }
    /* Windows of the context without overlap, each begun with the begin token; only tokens of the text are scored. */
    cmd_bar bar;
    cmd_bar_init(&bar);
    int32_t *window = NULL;
    size_t n_ctx = e ? 0 : rv_engine_get_info(engine)->n_ctx, bos = tok && rv_tok_bos(tok) >= 0;
    n_ctx = n_ctx > PERPLEXITY_WINDOW ? PERPLEXITY_WINDOW : n_ctx;
    if (!e && ids.n + bos < 2) {
        e = rv_fail(RV_E_ARG, "%s: too short to measure", line->args[1]);
    }
    if (!e && !(window = rv_new_array(&rv_heap, n_ctx, sizeof *window))) {
        e = rv_fail(RV_E_NOMEM, "perplexity");
    }
    for (size_t at = 0; !e && at < ids.n;) {
        size_t take = ids.n - at < n_ctx - bos ? ids.n - at : n_ctx - bos;
        window[0] = bos ? rv_tok_bos(tok) : 0;
        memcpy(window + bos, ids.at + at, take * sizeof *window);
        double part = 0;
        if (take + bos > 1) {
            e = rv_engine_nll(engine, lora, window, take + bos, &part);
            nll += part;
            scored += take + bos - 1;
        }
        at += take;
        cmd_bar_draw(&bar, line->args[1], at, ids.n);
    }
    cmd_bar_end(&bar);
    if (!e && !isfinite(nll)) {
        e = rv_fail(RV_E_CORRUPT, "%s: the model gave no finite logit; `ruvllm show` checks the file",
                    line->args[0]);
    }
    if (!e) {
        json_t *out = json_pack("{s:I, s:f, s:f, s:i}", "tokens", (json_int_t)scored, "nll", nll,
                                "perplexity", exp(nll / (double)scored), "window", (int)n_ctx);
        cmd_print(out);
    }
    rv_free(&rv_heap, window);
    rv_free(&rv_heap, text);
    rv_ids_deinit(&ids);
    rv_lora_close(lora);
    rv_engine_close(engine);
    rv_pool_free(pool);
    return e ? cmd_fail(e) : CMD_DONE;
}

/* Exact match per cell */
enum { MAX_CELLS = 256 };
typedef struct qa_cell {
    char name[64];
    size_t asked, right;
} qa_cell;

typedef struct qa_job {
    rv_engine *engine;
    rv_lora *lora;
    size_t max_tokens, n_cells;
    qa_cell cells[MAX_CELLS];
    FILE *out;
} qa_job;

static bool collect(void *self, const rv_piece *piece)
{
    rv_text_add(self, piece->text, piece->n);
    return true;
}

static rv_err qa_prompt(const qa_job *job, const json_t *in, rv_ids *ids)
{
    json_t *messages = NULL;
    const char *prompt = NULL;
    size_t n = 0;
    RV_TRY(rv_json_get_array(in, "messages", &messages));
    RV_TRY(rv_json_get_string(in, "prompt", &prompt, &n));
    const rv_tok *tok = rv_engine_tok(job->engine);
    if (messages) {
        rv_text text;
        rv_text_init(&text, &rv_heap, (size_t)1 << 24);
        rv_chat_options how = { .add_generation_prompt = true };
        rv_err e =
            rv_chat_render(tok, rv_engine_get_info(job->engine)->family, messages, NULL, how, &text, ids);
        rv_text_deinit(&text);
        return e;
    }
    if (!prompt) {
        return rv_fail(RV_E_ARG, "neither prompt nor messages");
    }
    bool has_bos = strncmp(prompt, "<|startoftext|>", 15) == 0;
    if (rv_tok_adds_bos(tok) && !has_bos) {
        RV_TRY(rv_ids_add(ids, rv_tok_bos(tok)));
    }
    return rv_tok_encode(tok, prompt, n, RV_TOK_SPECIAL, ids);
}

static qa_cell *cell_of(qa_job *job, const char *name)
{
    for (size_t i = 0; i < job->n_cells; i++) {
        if (strcmp(job->cells[i].name, name) == 0) {
            return &job->cells[i];
        }
    }
    if (job->n_cells == MAX_CELLS) {
        return NULL;
    }
    qa_cell *cell = &job->cells[job->n_cells++];
    *cell = (qa_cell){ 0 };
    snprintf(cell->name, sizeof cell->name, "%s", name);
    return cell;
}

static rv_err qa_one(qa_job *job, const json_t *in)
{
    const char *answer, *name = "all";
    size_t n_answer;
    rv_ids ids;
    rv_text text;
    rv_ids_init(&ids, &rv_heap, MAX_IDS);
    rv_text_init(&text, &rv_heap, (size_t)1 << 20);
    rv_generated done;
    rv_err e = rv_json_need_string(in, "answer", &answer, &n_answer);
    if (!e) {
        e = rv_json_get_string(in, "cell", &name, NULL);
    }
    if (!e && strlen(name) >= sizeof job->cells[0].name) {
        e = rv_fail(RV_E_TOO_LARGE, "cell: a name of %zu bytes, at most %zu are allowed", strlen(name),
                    sizeof job->cells[0].name - 1);
    }
    qa_cell *cell = e ? NULL : cell_of(job, name);
    if (!e && !cell) {
        e = rv_fail(RV_E_TOO_LARGE, "more than %d cells", MAX_CELLS);
    }
    if (!e) {
        e = qa_prompt(job, in, &ids);
    }
    if (!e) {
        rv_generate how = { .prompt = ids.at,
                            .n_prompt = ids.n,
                            .max_tokens = job->max_tokens,
                            .n_logprobs = -1,
                            .lora = job->lora,
                            .cancel = &cmd_cancel,
                            .on_piece = collect,
                            .self = &text };
        how.sampling = rv_sampling_default();
        how.sampling.temperature = 0;
        how.sampling.repeat_penalty = 1;
        e = rv_engine_generate(job->engine, &how, &done);
    }
    if (!e && done.finish == RV_FINISH_CANCELLED) {
        e = rv_fail(RV_E_CANCELLED, "interrupted");
    }
    if (!e) {
        rv_str got = rv_str_trim(rv_str_of(rv_text_get(&text), text.n)),
               want = rv_str_trim(rv_str_of(answer, n_answer));
        bool right = got.n == want.n && memcmp(got.at, want.at, got.n) == 0;
        cell->asked++;
        cell->right += right;
        if (job->out) {
            json_t *line = json_pack("{s:s, s:s%, s:s%, s:b}", "cell", name, "answer", answer, n_answer,
                                     "found", got.at, got.n, "right", right);
            rv_json_print(line, job->out);
            json_decref(line);
        }
    }
    rv_ids_deinit(&ids);
    rv_text_deinit(&text);
    return e;
}

static void qa_report(const cmd_line *line, const qa_job *job)
{
    double sum = 0;
    size_t asked = 0, right = 0;
    for (size_t i = 0; i < job->n_cells; i++) {
        const qa_cell *c = &job->cells[i];
        double share = 100 * (double)c->right / (double)c->asked;
        sum += share;
        asked += c->asked;
        right += c->right;
        if (line->json) {
            json_t *row = json_pack("{s:s, s:I, s:I, s:f}", "cell", c->name, "asked", (json_int_t)c->asked,
                                    "right", (json_int_t)c->right, "percent", share);
            cmd_print(row);
        } else {
            printf("%-32s %6zu of %6zu  %5.1f %%\n", c->name, c->right, c->asked, share);
        }
    }
    double mean = job->n_cells ? sum / (double)job->n_cells : 0;
    if (line->json) {
        json_t *row = json_pack("{s:s, s:I, s:I, s:f}", "cell", "mean of cells", "asked", (json_int_t)asked,
                                "right", (json_int_t)right, "percent", mean);
        cmd_print(row);
    } else {
        printf("%-32s %6zu of %6zu  %5.1f %%\n", "mean of cells", right, asked, mean);
    }
}

int cmd_eval_qa(cmd_line *line)
{
    int64_t max_tokens = 64;
    if (!cmd_int(line, "max-tokens", 1, 4096, &max_tokens)) {
        return CMD_USAGE;
    }
    qa_job *job = rv_new(&rv_heap, sizeof *job);
    rv_pool *pool = NULL;
    FILE *in = stdin;
    char *text = NULL;
    size_t room = 0, n = 0, number = 0;
    rv_err e = job ? RV_OK : rv_fail(RV_E_NOMEM, "eval qa");
    if (!e) {
        job->max_tokens = (size_t)max_tokens;
        e = cmd_engine(line, line->args[0], &pool, &job->engine);
    }
    if (!e) {
        e = cmd_lora(line, job->engine, &job->lora);
    }
    if (!e && line->n_args > 1 && !(in = fopen(line->args[1], "rb"))) {
        e = rv_fail(RV_E_NOT_FOUND, "%s: cannot be read: %s", line->args[1], strerror(errno));
    }
    const char *out = cmd_value(line, "out", NULL);
    if (!e && out && !(job->out = fopen(out, "wb"))) {
        e = rv_fail(RV_E_IO, "%s: cannot be written: %s", out, strerror(errno));
    }
    cmd_catch_interrupt();
    while (!e && cmd_next_line(in, &text, &room, &n, &e)) {
        json_t *row = NULL;
        number++;
        if (n == 0) {
            continue;
        }
        e = rv_json_parse(text, n, &row);
        if (!e) {
            e = qa_one(job, row);
        }
        json_decref(row);
        if (e && e != RV_E_CANCELLED) {
            e = rv_fail(e, "line %zu: %s", number, rv_err_text());
        }
    }
    if (!e) {
        qa_report(line, job);
    }
    free(text);
    if (in && in != stdin) {
        fclose(in);
    }
    if (job && job->out && fclose(job->out) != 0 && !e) {
        e = rv_fail(RV_E_IO, "%s: writing failed", out);
    }
    if (job) {
        rv_lora_close(job->lora);
        rv_engine_close(job->engine);
    }
    rv_pool_free(pool);
    rv_free(&rv_heap, job);
    return e ? cmd_fail(e) : CMD_DONE;
}
