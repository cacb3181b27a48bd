/* The command line. One table (table.c) describes every command and option; help, man page, completions and parsing are
 * made from it. A command is a function that gets what was typed and returns an exit code. */
#ifndef RV_CLI_CLI_H
#define RV_CLI_CLI_H

#include "app/app.h"
#include "base/str.h"
#include <stdatomic.h>
#include <stdio.h>

/* Exit codes */
enum { CMD_DONE = 0, CMD_FAILED = 1, CMD_USAGE = 2, CMD_INTERRUPTED = 130 };

typedef struct cmd_option {
    const char *name;   /* long name without the dashes */
    char letter;        /* 0: none */
    const char *value;  /* what it takes, "N"; NULL: a switch */
    const char *config; /* configuration key that it sets, or NULL */
    const char *help;
} cmd_option;

typedef struct cmd_line cmd_line;

typedef struct cmd {
    const char *name; /* "memory add" */
    const char *args; /* "TEXT", "MODEL [PROMPT]", "" */
    size_t min_args, max_args;
    int (*run)(cmd_line *line);
    const cmd_option *options; /* ended by a row without a name; NULL: none of its own */
    const char *summary;       /* one line, begins with a small letter */
    const char *details;       /* paragraphs and examples, or NULL */
} cmd;

extern const cmd cmd_table[];         /* ended by a row without a name */
extern const cmd_option cmd_common[]; /* options every command takes */

#define CMD_MAX_GIVEN 64
struct cmd_line {
    const cmd *command;
    char **args; /* [n_args] positional */
    size_t n_args;
    struct {
        const cmd_option *option;
        const char *value;
    } given[CMD_MAX_GIVEN];
    size_t n_given;
    bool json;
};

/** cmd_main - the whole program: parse, run, exit code. */
int cmd_main(int argc, char **argv);

/* What was typed */
bool cmd_has(const cmd_line *line, const char *option);
const char *cmd_value(const cmd_line *line, const char *option,
                      const char *otherwise); /* the last one given */
/** cmd_int, cmd_float - number of an option into *out when given; wrong text or range: false, message printed. */
bool cmd_int(const cmd_line *line, const char *option, int64_t low, int64_t high, int64_t *out);
bool cmd_float(const cmd_line *line, const char *option, double low, double high, double *out);

/* Talking: data on stdout, talk on stderr */
/** cmd_fail - print the error's sentence, unless cmd_usage has said what is wrong with the line; the exit code for it. */
int cmd_fail(rv_err e);
/** cmd_stopped - why an answer was cut short: RV_E_IO when standard output failed, else RV_E_CANCELLED, Ctrl-C. */
rv_err cmd_stopped(void);
/** cmd_usage - print a sentence and where to find help; CMD_USAGE. */
int cmd_usage(const cmd_line *line, const char *format, ...) RV_PRINTF(2, 3);
void cmd_help(FILE *out, const cmd *command); /* NULL: the whole program */
/** cmd_safe - text from outside for a terminal: control bytes other than newline and tab are made visible. */
void cmd_safe(FILE *out, const char *text, size_t n);
/** cmd_print - one JSON line on stdout; takes the value. What has no JSON form (text that is not UTF-8 makes the value NULL) is said
 * on stderr, and the program then ends with CMD_FAILED. */
void cmd_print(json_t *value);
bool cmd_print_failed(void);
bool cmd_colour(FILE *out);                   /* a terminal, and NO_COLOR is not set */
void cmd_bytes(char out[16], uint64_t bytes); /* "1.2 GB" */

/** cmd_bar - progress on a terminal's stderr after two seconds, nothing in pipes; one line of it, as wide as the terminal is. */
typedef struct cmd_bar {
    double start_ms, drawn_ms;
    bool shown, bytes; /* bytes: what is counted */
} cmd_bar;
void cmd_bar_init(cmd_bar *bar);
void cmd_bar_draw(cmd_bar *bar, const char *what, uint64_t done, uint64_t total);
void cmd_bar_end(cmd_bar *bar);

/** cmd_config - configuration with this line's options on top. */
rv_err cmd_config(const cmd_line *line, rv_config **out) RV_MUST_CHECK;
/** cmd_open - configuration and the parts of the program a command needs. cmd_close accepts NULLs. */
rv_err cmd_open(const cmd_line *line, rv_app_parts parts, rv_config **config, rv_app **app) RV_MUST_CHECK;
/** cmd_open_with - the parts alone, with a configuration that is there and outlives them. */
rv_err cmd_open_with(const cmd_line *line, rv_config *config, rv_app_parts parts, rv_app **app) RV_MUST_CHECK;
void cmd_close(rv_config *config, rv_app *app);

/** cmd_cancel - set by Ctrl-C once cmd_catch_interrupt was called; a second Ctrl-C ends the program. */
extern atomic_bool cmd_cancel;
void cmd_catch_interrupt(void);

/** cmd_next_line - next line of input without its newline into *line (grows, *room); false at the end. Longer than 16 MiB: RV_E_TOO_LARGE in *e. */
bool cmd_next_line(FILE *in, char **line, size_t *room, size_t *n, rv_err *e);

/** cmd_read_input - all of standard input, without the line ends behind it, for what the line does not have; *out is the caller's. what: "prompt".
 * RV_E_FORMAT there is none, or a zero byte in it. */
rv_err cmd_read_input(const char *what, char **out) RV_MUST_CHECK;

/** cmd_repl - read messages from the terminal until its end or *over; work answers one. Its error ends the conversation.
 * Ctrl-C while one is typed drops what was typed. */
typedef rv_err (*cmd_repl_line)(void *self, rv_str text, bool *over); /* text is terminated */
rv_err cmd_repl(const cmd_line *line, const char *prompt, cmd_repl_line work, void *self) RV_MUST_CHECK;

/* Models named on the command line: a file, or a name that the configuration knows. Caller's string. */
rv_err cmd_model_path(const cmd_line *line, const char *name, char **path) RV_MUST_CHECK;
/** cmd_engine - open that model with --threads, --ctx, --kv, --act; *pool belongs to it. */
rv_err cmd_engine(const cmd_line *line, const char *name, rv_pool **pool, rv_engine **engine) RV_MUST_CHECK;
/** cmd_draft_model - the tier that inference.draft_model names, to guess for that engine, with the same options and pool; NULL where none
 * is named or it cannot guess for this one, which is then logged. Closed with rv_engine_close. */
rv_err cmd_draft_model(const cmd_line *line, const rv_engine *engine, rv_pool *pool,
                       rv_engine **draft) RV_MUST_CHECK;
/** cmd_lora - the adapter that --lora names, for that engine; NULL without the option. rv_lora_close before the engine. */
rv_err cmd_lora(const cmd_line *line, const rv_engine *engine, rv_lora **lora) RV_MUST_CHECK;
/** cmd_sampling - --temperature, --top-k ... into s; false and a message when one is wrong. */
bool cmd_sampling(const cmd_line *line, rv_sampling *s);

/* Commands */
int cmd_run(cmd_line *line);
int cmd_chat(cmd_line *line);
int cmd_query(cmd_line *line);
int cmd_feedback(cmd_line *line);
int cmd_forget(cmd_line *line);
int cmd_serve(cmd_line *line);
int cmd_init(cmd_line *line);
int cmd_config_check(cmd_line *line);
int cmd_config_show(cmd_line *line);
int cmd_router_train(cmd_line *line);
int cmd_router_score(cmd_line *line);
int cmd_router_eval(cmd_line *line);
int cmd_router_explain(cmd_line *line);
int cmd_router_stats(cmd_line *line);
int cmd_router_learn(cmd_line *line);
int cmd_learn_status(cmd_line *line);
int cmd_learn_rollback(cmd_line *line);
int cmd_list(cmd_line *line);
int cmd_ps(cmd_line *line);
int cmd_show(cmd_line *line);
int cmd_embed(cmd_line *line);
int cmd_memory_add(cmd_line *line);
int cmd_memory_keep(cmd_line *line);
int cmd_memory_import(cmd_line *line);
int cmd_memory_export(cmd_line *line);
int cmd_memory_search(cmd_line *line);
int cmd_memory_get(cmd_line *line);
int cmd_memory_list(cmd_line *line);
int cmd_memory_rm(cmd_line *line);
int cmd_memory_link(cmd_line *line);
int cmd_memory_around(cmd_line *line);
int cmd_memory_path(cmd_line *line);
int cmd_memory_reembed(cmd_line *line);
int cmd_memory_recall(cmd_line *line);
int cmd_memory_stats(cmd_line *line);
int cmd_memory_check(cmd_line *line);
int cmd_memory_compact(cmd_line *line);
int cmd_witness_verify(cmd_line *line);
int cmd_witness_show(cmd_line *line);
int cmd_eval_logits(cmd_line *line);
int cmd_eval_dequant(cmd_line *line);
int cmd_eval_tokenize(cmd_line *line);
int cmd_eval_detokenize(cmd_line *line);
int cmd_eval_chat(cmd_line *line);
int cmd_eval_perplexity(cmd_line *line);
int cmd_eval_judge(cmd_line *line);
int cmd_eval_qa(cmd_line *line);
int cmd_eval_retrieval(cmd_line *line);
int cmd_adapter_train(cmd_line *line);
int cmd_adapter_list(cmd_line *line);
int cmd_adapter_load(cmd_line *line);
int cmd_adapter_unload(cmd_line *line);
int cmd_adapter_rollback(cmd_line *line);
int cmd_adapter_export(cmd_line *line);
int cmd_learn_attention(cmd_line *line);
int cmd_learn_run(cmd_line *line);
int cmd_learn_adapter(cmd_line *line); /* learn run for one model and user */
int cmd_bench_llm(cmd_line *line);
int cmd_bench_loop(cmd_line *line);
int cmd_bench_ann(cmd_line *line);
int cmd_doctor(cmd_line *line);
int cmd_completion(cmd_line *line);
int cmd_man(cmd_line *line);
int cmd_version(cmd_line *line);

#endif
