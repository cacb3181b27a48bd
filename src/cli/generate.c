/* run: one model, no memory. A prompt on the line or on standard input is answered once; a terminal gets a conversation. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool print_piece(void *self, const rv_piece *piece)
{
    FILE *out = self;
    if (isatty(fileno(out))) {
        cmd_safe(out, piece->text, piece->n);
    } else {
        fwrite(piece->text, 1, piece->n, out);
    }
    fflush(out);
    return !ferror(out);
}

static bool keep_piece(void *self, const rv_piece *piece)
{
    rv_text_add(self, piece->text, piece->n);
    return true;
}

typedef struct tee {
    rv_text text;
    bool print;
} tee;

static bool tee_piece(void *self, const rv_piece *piece)
{
    tee *t = self;
    keep_piece(&t->text, piece);
    return t->print ? print_piece(stdout, piece) : true;
}

typedef struct run_job {
    cmd_line *line;
    rv_engine *engine;
    bool raw;
    rv_generate how;
    const char *stops[CMD_MAX_GIVEN];
} run_job;

/* messages: array (chat) or string (raw). The answer's text goes to *answer (caller's) and, with print, to stdout. */
static rv_err answer(run_job *job, const json_t *messages, bool print, rv_generated *done, char **text)
{
    rv_ids ids;
    rv_text prompt;
    tee out = { .print = print };
    rv_ids_init(&ids, &rv_heap, 1 << 24);
    rv_text_init(&prompt, &rv_heap, (size_t)1 << 26);
    rv_text_init(&out.text, &rv_heap, (size_t)1 << 26);
    const rv_tok *tok = rv_engine_tok(job->engine);
    rv_err e = RV_OK;
    if (job->raw) {
        if (rv_tok_adds_bos(tok)) {
            e = rv_ids_add(&ids, rv_tok_bos(tok));
        }
        if (!e) {
            e = rv_tok_encode(tok, json_string_value(messages), json_string_length(messages), RV_TOK_SPECIAL,
                              &ids);
        }
    } else {
        rv_chat_options how = { .add_generation_prompt = true };
        e = rv_chat_render(tok, rv_engine_get_info(job->engine)->family, messages, NULL, how, &prompt, &ids);
    }
    if (!e) {
        job->how.prompt = ids.at;
        job->how.n_prompt = ids.n;
        job->how.on_piece = tee_piece;
        job->how.self = &out;
        e = rv_engine_generate(job->engine, &job->how, done);
    }
    if (!e) {
        e = rv_text_check(&out.text);
    }
    if (!e && !(*text = rv_text_take(&out.text))) {
        e = rv_fail(RV_E_NOMEM, "answer");
    }
    rv_text_deinit(&out.text);
    rv_text_deinit(&prompt);
    rv_ids_deinit(&ids);
    return e;
}

static json_t *first_messages(const cmd_line *line)
{
    json_t *messages = json_array();
    const char *system = cmd_value(line, "system", NULL);
    if (system) {
        json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "system", "content", system));
    }
    return messages;
}

static json_t *message(const char *role, const char *text)
{
    json_t *content = json_string(text);
    return content ? json_pack("{s:s, s:o}", "role", role, "content", content) : NULL;
}

static void print_report(const cmd_line *line, const rv_generated *done, const char *text)
{
    static const char *const finish[] = { "stop", "length", "cancelled" };
    double rate = done->decode_ms > 0 ? (double)done->completion_tokens * 1000 / done->decode_ms : 0;
    if (line->json) {
        json_t *row = json_pack(
            "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "text", text, "finish",
            finish[done->finish], "prompt_tokens", (json_int_t)done->prompt_tokens, "completion_tokens",
            (json_int_t)done->completion_tokens, "drafted", (json_int_t)done->drafted, "accepted",
            (json_int_t)done->accepted, "model_drafted", (json_int_t)done->model_drafted, "model_accepted",
            (json_int_t)done->model_accepted, "prefill_ms", done->prefill_ms, "decode_ms", done->decode_ms);
        cmd_print(row);
    } else {
        putchar('\n');
        if (isatty(STDERR_FILENO) && isatty(STDOUT_FILENO)) {
            fprintf(stderr, "%s(%zu + %zu tokens, %.0f ms to the first, %.0f tokens/s)%s\n",
                    cmd_colour(stderr) ? "\033[2m" : "", done->prompt_tokens, done->completion_tokens,
                    done->prefill_ms, rate, cmd_colour(stderr) ? "\033[0m" : "");
        }
    }
}

static rv_err run_once(run_job *job, const char *prompt)
{
    rv_generated done;
    char *text = NULL;
    json_t *input = job->raw ? json_string(prompt) : first_messages(job->line);
    json_t *turn = job->raw ? NULL : message("user", prompt);
    rv_err e = RV_OK;
    if (!input || (!job->raw && (!turn || json_array_append_new(input, turn) != 0))) {
        e = rv_fail(RV_E_FORMAT, "the prompt is not valid UTF-8");
    }
    if (!e) {
        e = answer(job, input, !job->line->json, &done, &text);
    }
    if (!e) {
        print_report(job->line, &done, text);
        e = done.finish == RV_FINISH_CANCELLED ? cmd_stopped() : RV_OK;
    }
    rv_free(&rv_heap, text);
    json_decref(input);
    return e;
}

typedef struct conversation {
    run_job *job;
    json_t *messages;
} conversation;

static const char words[] =
    "/new forgets the conversation, /bye or Ctrl-D ends; \"\"\" around several lines.";

static rv_err converse_line(void *self, rv_str text, bool *over)
{
    conversation *c = self;
    if (rv_str_eq(text, "/bye")) {
        *over = true;
        return RV_OK;
    }
    if (rv_str_eq(text, "/new")) {
        json_decref(c->messages);
        c->messages = first_messages(c->job->line);
        return RV_OK;
    }
    if (rv_str_eq(text, "/help") || rv_str_eq(text, "/?")) {
        fprintf(stderr, "%s\n", words);
        return RV_OK;
    }
    json_t *turn = message("user", text.at);
    if (!turn || json_array_append_new(c->messages, turn) != 0) {
        fprintf(stderr, "That is not valid UTF-8.\n");
        return RV_OK;
    }
    rv_generated done;
    char *reply = NULL;
    rv_err e = answer(c->job, c->messages, true, &done, &reply);
    if (e == RV_E_CONTEXT) {
        fprintf(stderr, "ruvllm: %s\nThe conversation is full: /new starts another.\n", rv_err_text());
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
        return RV_OK;
    }
    if (!e) {
        print_report(c->job->line, &done, reply);
        json_array_append_new(c->messages, message("assistant", reply));
    }
    rv_free(&rv_heap, reply);
    return e;
}

static rv_err converse(run_job *job)
{
    conversation c = { job, first_messages(job->line) };
    rv_str name = rv_engine_get_info(job->engine)->name;
    fprintf(stderr, "Talking to ");
    cmd_safe(stderr, name.at, name.n);
    fprintf(stderr, ". %s\n", words);
    rv_err e = cmd_repl(job->line, ">>> ", converse_line, &c);
    json_decref(c.messages);
    return e;
}

int cmd_run(cmd_line *line)
{
    run_job job = { .line = line, .raw = cmd_has(line, "raw") };
    int64_t max_tokens = 0;
    job.how = (rv_generate){
        .sampling = rv_sampling_default(), .n_logprobs = -1, .cancel = &cmd_cancel, .stops = job.stops
    };
    job.how.sampling.seed = rv_clock_ns();
    if (!cmd_sampling(line, &job.how.sampling) || !cmd_int(line, "max-tokens", 1, 1 << 24, &max_tokens)) {
        return CMD_USAGE;
    }
    job.how.max_tokens = (size_t)max_tokens;
    for (size_t i = 0; i < line->n_given; i++) {
        if (strcmp(line->given[i].option->name, "stop") == 0) {
            job.stops[job.how.n_stops++] = line->given[i].value;
        }
    }
    rv_pool *pool = NULL;
    rv_lora *lora = NULL;
    rv_err e = cmd_engine(line, line->args[0], &pool, &job.engine);
    if (!e) {
        e = cmd_draft_model(line, job.engine, pool, &job.how.draft_model);
    }
    if (!e) {
        e = cmd_lora(line, job.engine, &lora);
        job.how.lora = lora;
    }
    if (!e && !job.raw && rv_engine_get_info(job.engine)->family == RV_CHAT_NONE) {
        e = rv_fail(RV_E_UNSUPPORTED, "%s: the file has no chat template; use --raw", line->args[0]);
    }
    if (!e && line->n_args == 2) {
        cmd_catch_interrupt();
        e = run_once(&job, line->args[1]);
    } else if (!e && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !job.raw) {
        e = converse(&job);
    } else if (!e) {
        char *text = NULL;
        e = cmd_read_input("prompt", &text);
        cmd_catch_interrupt();
        if (!e) {
            e = run_once(&job, text);
        }
        rv_free(&rv_heap, text);
    }
    rv_lora_close(lora);
    rv_engine_close(job.how.draft_model);
    rv_engine_close(job.engine);
    rv_pool_free(pool);
    return e ? cmd_fail(e) : CMD_DONE;
}
