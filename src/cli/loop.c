/* query, chat, feedback, serve, init, witness: the whole loop in this process. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REQUEST_BYTES = 64 << 20 };

typedef struct loop_job {
    cmd_line *line;
    rv_pipeline *pipeline;
    const char *session; /* chat: of the conversation, in own storage */
    char session_storage[37];
    rv_arena *last_arena; /* NULL: nothing was asked yet */
    rv_request last;      /* lives in it */
    bool details;
} loop_job;

static bool print_piece(void *self, const rv_piece *piece)
{
    (void)self;
    cmd_safe(stdout, piece->text, piece->n);
    fflush(stdout);
    return !ferror(stdout);
}

/* What the answer stands on; where nothing is remembered at all, how to change that. */
static void print_sources(FILE *out, const rv_request *r, rv_memory *memory)
{
    rv_memory_stats stats;
    if (r->n_sources == 0 && !rv_memory_get_stats(memory, &stats) && stats.nodes == 0) {
        fprintf(out, "  nothing is remembered yet: ruvllm memory import FOLDER, ruvllm memory add TEXT\n");
    }
    for (size_t i = 0; i < r->n_sources; i++) {
        const rv_source *s = &r->sources[i];
        fprintf(out, "  [%zu] %-5s ", i + 1, s->type);
        cmd_safe(out, s->origin, strlen(s->origin));
        fprintf(out, "  ");
        size_t n = strlen(s->text);
        size_t shown = rv_utf8_whole(s->text, n > 100 ? 100 : n);
        for (size_t k = 0; k < shown; k++) {
            size_t run = strcspn(s->text + k, "\r\n");
            run = run < shown - k ? run : shown - k;
            cmd_safe(out, s->text + k, run);
            k += run;
            if (k < shown) {
                putc(' ', out);
            }
        }
        fprintf(out, "%s\n", shown < n ? " ..." : "");
    }
}

static void print_times(FILE *out, const rv_request *r)
{
    fprintf(out, "  model %s (%s)  confidence %.2f\n ", r->routed_model ? r->routed_model : "-",
            r->reason ? r->reason : "-", r->confidence);
    for (int s = 0; s < RV_STAGES; s++) {
        fprintf(out, " %s %.1f ms", rv_stage_names[s], r->stage_ms[s]);
    }
    fprintf(out, "  total %.1f ms\n", r->total_ms);
    for (int s = 0; s < RV_STAGES; s++) {
        if (r->stage_note[s]) {
            fprintf(out, "  %s: %s\n", rv_stage_names[s], r->stage_note[s]);
        }
    }
}

/* Talk: the answer alone is data. */
static void print_details(const rv_request *r, rv_memory *memory)
{
    bool colour = cmd_colour(stderr);
    fprintf(stderr, "%s", colour ? "\033[2m" : "");
    print_sources(stderr, r, memory);
    print_times(stderr, r);
    fprintf(stderr, "  request %s%s\n", r->request_id, colour ? "\033[0m" : "");
}

/* Nothing is cut silently. */
static void print_cut(const rv_request *r)
{
    size_t wanted = r->max_tokens ? r->max_tokens : RV_PIPELINE_DEFAULT_TOKENS,
           n = r->generated.completion_tokens;
    if (strcmp(rv_request_finish(r), "length") == 0) {
        fprintf(stderr, "(cut after %zu tokens; %s)\n", n,
                n < wanted ? "the context is full" : "-n gives more");
    }
}

static rv_err fill_request(const loop_job *job, rv_request *r, const char *query, size_t n)
{
    const cmd_line *line = job->line;
    int64_t max_tokens = 0;
    if (!cmd_int(line, "max-tokens", 1, 1 << 20, &max_tokens)) {
        return rv_fail(RV_E_CONFIG, "nothing was asked");
    }
    r->query = query;
    r->query_bytes = n;
    r->session_id = job->session;
    r->user = cmd_value(line, "user", NULL);
    r->max_tokens = (size_t)max_tokens;
    r->private = cmd_has(line, "private");
    r->extra.cancel = &cmd_cancel;
    const char *model = cmd_value(line, "model", NULL);
    if (!model) {
        return RV_OK;
    }
    return rv_backend_resolve(job->pipeline->backend, rv_file_exists(model) ? "default" : model, &r->model);
}

/* All of it; a model that is a file becomes the default of this run, as for `run` a file wins over a name. */
static rv_err open_loop(const cmd_line *line, rv_config **config, rv_app **app)
{
    rv_config *c = NULL;
    const char *model = cmd_value(line, "model", NULL);
    RV_TRY(cmd_config(line, &c));
    char *path = model && rv_file_exists(model) ? realpath(model, NULL) : NULL;
    rv_err e = path ? rv_config_set(c, "inference.model", path, "--model") : RV_OK;
    free(path);
    e = e ? e : cmd_open_with(line, c, RV_APP_ALL, app);
    if (e) {
        rv_config_free(c);
        return e;
    }
    *config = c;
    return RV_OK;
}

static void drop_last(loop_job *job)
{
    rv_arena_free(job->last_arena);
    job->last_arena = NULL;
}

static rv_err ask(loop_job *job, const char *query, size_t n, bool details)
{
    rv_arena *arena = NULL;
    rv_request r;
    RV_TRY(rv_arena_new(&rv_heap, REQUEST_BYTES, &arena));
    rv_err e = rv_request_init(&r, arena);
    if (!e) {
        e = fill_request(job, &r, query, n);
    }
    if (!e) {
        r.extra.on_piece = job->line->json ? NULL : print_piece;
        e = rv_pipeline_run(job->pipeline, &r);
    }
    if (e) {
        rv_arena_free(arena);
        if (e == RV_E_CANCELLED) {
            fputs(job->line->json ? "" : "\n", stdout);
            e = cmd_stopped();
        }
        return e;
    }
    drop_last(job);
    job->last_arena = arena;
    job->last = r;
    if (job->line->json) {
        cmd_print(rv_request_json(&r));
        return RV_OK;
    }
    putchar('\n');
    fflush(stdout);
    print_cut(&r);
    if (details) {
        print_details(&r, job->pipeline->memory);
    }
    return RV_OK;
}

int cmd_query(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_err e = open_loop(line, &config, &app);
    if (!e) {
        loop_job job = { .line = line,
                         .pipeline = rv_app_pipeline(app),
                         .session = cmd_value(line, "session", NULL) };
        cmd_catch_interrupt();
        e = ask(&job, line->args[0], strlen(line->args[0]), true);
        drop_last(&job);
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    return code;
}

static rv_err give_feedback(const rv_pipeline *p, const cmd_line *line, const rv_feedback *feedback)
{
    rv_feedback_done done = { 0 };
    int64_t again_s;
    RV_TRY(rv_pipeline_feedback(p, NULL, feedback, &again_s, &done));
    if (line->json) {
        json_t *row = json_pack("{s:s, s:b, s:I, s:I}", "request_id", feedback->request_id, "stored", 1,
                                "fact", (json_int_t)done.fact, "qa", (json_int_t)done.qa);
        cmd_print(row);
    } else {
        printf("Stored.");
        if (done.fact) {
            printf(" The correction is fact %lld.", (long long)done.fact);
        }
        if (done.qa) {
            printf(" The answer is remembered as %lld.", (long long)done.qa);
        }
        putchar('\n');
    }
    return RV_OK;
}

int cmd_feedback(cmd_line *line)
{
    int64_t rating = 0;
    if (!cmd_int(line, "rating", 1, 5, &rating)) {
        return CMD_USAGE;
    }
    rv_feedback feedback = { .request_id = line->args[0],
                             .rating = (int)rating,
                             .correction = cmd_value(line, "correction", NULL) };
    if (!rating && !feedback.correction) {
        return cmd_usage(line, "--rating or --correction is needed");
    }
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_err e = cmd_open(line, RV_APP_MEMORY, &config, &app);
    if (!e) {
        e = give_feedback(rv_app_pipeline(app), line, &feedback);
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    return code;
}

static rv_err remember(const loop_job *job, rv_str text)
{
    rv_memory_new node = {
        .type = "note", .text = text.at, .text_bytes = text.n, .source = "user", .examined = true
    };
    rv_memory_added a;
    size_t done;
    rv_memory_scope scope = rv_memory_of(cmd_value(job->line, "user", NULL));
    RV_TRY(rv_memory_add_many(job->pipeline->memory, &scope, &node, 1, &a, &done));
    if (job->line->json) {
        cmd_print(json_pack("{s:I, s:b}", "id", (json_int_t)a.id, "added", (int)a.added));
        return RV_OK;
    }
    printf("%s as %lld", a.added ? "Remembered" : "Was remembered already", (long long)a.id);
    printf(a.corrects ? ", which corrects %lld.\n" : ".\n", (long long)a.corrects);
    return RV_OK;
}

static const char chat_words[] =
    "/good, /bad, /correct TEXT, /remember TEXT, /ask TEXT, /sources, /new, /bye";

/* A line that begins with a slash. */
static rv_err chat_command(loop_job *job, rv_str text, bool *over)
{
    rv_feedback feedback = { .request_id = job->last.request_id };
    if (rv_str_eq(text, "/bye")) {
        *over = true;
        return RV_OK;
    }
    if (rv_str_eq(text, "/sources")) {
        job->details = !job->details;
        fprintf(stderr, "Sources and times are %s.\n",
                job->details ? "shown with every answer" : "hidden again");
        if (job->details && job->last_arena) {
            print_details(&job->last, job->pipeline->memory);
        }
        return RV_OK;
    }
    if (rv_str_eq(text, "/new")) {
        job->session = job->session_storage;
        return rv_uuid(job->session_storage);
    }
    if (rv_str_starts(text, "/remember ")) {
        return remember(job, rv_str_trim(rv_str_of(text.at + 10, text.n - 10)));
    }
    if (rv_str_starts(text, "/ask ")) {
        text = rv_str_trim(rv_str_of(text.at + 5, text.n - 5));
        return ask(job, text.at, text.n, job->details);
    }
    if (rv_str_eq(text, "/good")) {
        feedback.rating = 5;
    } else if (rv_str_eq(text, "/bad")) {
        feedback.rating = 1;
    } else if (rv_str_starts(text, "/correct ")) {
        feedback.correction = text.at + 9;
    } else {
        fprintf(stderr, "%s\n", chat_words);
        return RV_OK;
    }
    if (!job->last_arena) {
        fprintf(stderr, "There is no answer to rate yet.\n");
        return RV_OK;
    }
    return give_feedback(job->pipeline, job->line, &feedback);
}

static rv_err converse_line(void *self, rv_str text, bool *over)
{
    loop_job *job = self;
    rv_err e = text.at[0] == '/'                  ? chat_command(job, text, over)
               : rv_memory_tells(text.at, text.n) ? remember(job, text)
                                                  : ask(job, text.at, text.n, job->details);
    if (e && e != RV_E_CANCELLED) { /* the conversation goes on: the next question may be fine */
        cmd_fail(e);
    }
    return RV_OK;
}

/* Questions from a pipe: one line, one answer, and the commands that a terminal has. */
static rv_err answer_lines(loop_job *job)
{
    char *text = NULL;
    size_t room = 0, n = 0;
    bool over = false;
    rv_err e = RV_OK;
    cmd_catch_interrupt();
    while (!e && !over && cmd_next_line(stdin, &text, &room, &n, &e)) {
        rv_str line = rv_str_trim(rv_str_of(text, n));
        text[line.at - text + (ptrdiff_t)line.n] = 0;
        if (line.n > 0) {
            e = line.at[0] == '/' ? chat_command(job, line, &over) : ask(job, line.at, line.n, job->details);
        }
    }
    free(text);
    return e;
}

int cmd_chat(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_err e = open_loop(line, &config, &app);
    if (!e) {
        loop_job job = { .line = line, .pipeline = rv_app_pipeline(app) };
        job.session = cmd_value(line, "session", job.session_storage);
        e = rv_uuid(job.session_storage);
        bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
        if (!e && terminal) {
            fprintf(
                stderr,
                "Memory, routing and feedback are on. Statements are remembered, questions answered.\n%s\n",
                chat_words);
        }
        if (!e) {
            e = terminal ? cmd_repl(line, "you> ", converse_line, &job) : answer_lines(&job);
        }
        drop_last(&job);
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    return code;
}

int cmd_serve(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_err e = cmd_open(line, RV_APP_ALL, &config, &app);
    if (!e) {
        e = rv_app_serve(app);
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    return code;
}

int cmd_init(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_err e = cmd_open(line, RV_APP_MEMORY, &config, &app);
    bool written = false;
    const char *file = e ? NULL : rv_config_user_file(config);
    if (!e && !rv_file_exists(file)) {
        e = rv_config_write_template(config, file);
        written = true;
    }
    if (!e && line->json) {
        json_t *row = json_pack("{s:s, s:s, s:b}", "data", rv_config_data_dir(config), "config", file,
                                "written", written);
        cmd_print(row);
    } else if (!e) {
        printf("data           %s\nconfiguration  %s%s\n", rv_config_data_dir(config), file,
               written ? "" : " (was there already)");
        fprintf(stderr, "Next: `ruvllm memory import NOTES/`, then `ruvllm chat`.\n");
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    return code;
}

int cmd_witness_verify(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    uint64_t count = 0;
    rv_err e = cmd_open(line, RV_APP_MEMORY, &config, &app);
    if (!e) {
        e = rv_witness_verify(rv_app_pipeline(app)->db, &count);
    }
    if (!e) {
        printf(line->json ? "{\"ok\":true,\"records\":%llu}\n" : "%llu records, the chain is whole\n",
               (unsigned long long)count);
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    return code;
}

static rv_err show_witness(const cmd_line *line, rv_db *db, rv_arena *arena)
{
    rv_witness_record *records;
    size_t n;
    RV_TRY(rv_witness_get(db, line->args[0], arena, &records, &n));
    if (n == 0) {
        return rv_fail(RV_E_NOT_FOUND, "%s: nothing was recorded about this request", line->args[0]);
    }
    for (size_t i = 0; i < n; i++) {
        char created[32];
        rv_clock_iso(records[i].created_ms, created);
        json_t *body = json_null(); /* forgotten */
        RV_TRY(*records[i].body ? rv_json_parse(records[i].body, strlen(records[i].body), &body) : RV_OK);
        json_t *row = json_pack("{s:I, s:s, s:s, s:s, s:o}", "seq", (json_int_t)records[i].seq, "created",
                                created, "kind", records[i].kind, "hash", records[i].hash, "body", body);
        cmd_print(row);
    }
    return RV_OK;
}

int cmd_witness_show(cmd_line *line)
{
    rv_config *config = NULL;
    rv_app *app = NULL;
    rv_arena *arena = NULL;
    rv_err e = rv_arena_new(&rv_heap, REQUEST_BYTES, &arena);
    if (!e) {
        e = cmd_open(line, RV_APP_MEMORY, &config, &app);
    }
    if (!e) {
        e = show_witness(line, rv_app_pipeline(app)->db, arena);
    }
    int code = e ? cmd_fail(e) : CMD_DONE;
    cmd_close(config, app);
    rv_arena_free(arena);
    return code;
}
