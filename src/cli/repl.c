/* A conversation on a terminal: line editing and history by libedit; """ begins and ends a message of several lines. */
#include "cli/cli.h"

#include "base/file.h"

#include <histedit.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *prompt_text(EditLine *el)
{
    char *text = NULL;
    el_get(el, EL_CLIENTDATA, &text);
    return text;
}

/* $RUVLLM_DATA/history, else $XDG_STATE_HOME/ruvllm/history; NULL where there is no home. Caller's. */
static char *history_file(const cmd_line *line)
{
    const char *data = cmd_value(line, "data", getenv("RUVLLM_DATA"));
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char folder[1024];
    if (data && *data) {
        snprintf(folder, sizeof folder, "%s", data);
    } else if (state && *state) {
        snprintf(folder, sizeof folder, "%s/ruvllm", state);
    } else if (home && *home) {
        snprintf(folder, sizeof folder, "%s/.local/state/ruvllm", home);
    } else {
        return NULL;
    }
    return rv_dir_make(folder) ? NULL : rv_path_join(&rv_heap, folder, "history");
}

rv_err cmd_repl(const cmd_line *line, const char *prompt, cmd_repl_line work, void *self)
{
    char prompt_copy[32];
    snprintf(prompt_copy, sizeof prompt_copy, "%s", prompt);
    EditLine *el = el_init("ruvllm", stdin, stdout, stderr);
    History *past = history_init();
    HistEvent event;
    if (!el || !past) {
        return rv_fail(RV_E_NOMEM, "line editing");
    }
    char *file = history_file(line);
    history(past, &event, H_SETSIZE, 1000);
    history(past, &event, H_SETUNIQUE, 1);
    if (file) {
        history(past, &event, H_LOAD, file); /* no file yet is fine */
    }
    el_set(el, EL_CLIENTDATA, prompt_copy);
    el_set(el, EL_PROMPT, prompt_text);
    el_set(el, EL_EDITOR, "emacs");
    el_set(el, EL_HIST, history, past);
    el_set(el, EL_SIGNAL, 1);

    rv_text message;
    rv_text_init(&message, &rv_heap, (size_t)16 << 20);
    bool inside = false, over = false;
    rv_err e = RV_OK;
    while (!over && !e) {
        int n;
        cmd_catch_interrupt();
        const char *typed = el_gets(el, &n);
        if (!typed && atomic_load(&cmd_cancel)) {
            fputs("\n(/bye or Ctrl-D ends)\n", stderr);
            rv_text_clear(&message);
            inside = false;
            continue;
        }
        if (!typed || n <= 0) {
            break;
        }
        rv_str text = rv_str_trim(rv_str_of(typed, (size_t)n));
        bool fence = rv_str_eq(text, "\"\"\"");
        inside = fence ? !inside : inside;
        if (inside) {
            rv_text_add(&message, fence ? "" : typed, fence ? 0 : (size_t)n);
            continue;
        }
        if (!fence) {
            rv_text_add(&message, text.at, text.n);
        }
        if (message.n == 0) {
            continue;
        }
        history(past, &event, H_ENTER, typed);
        e = rv_text_check(&message);
        if (!e) {
            e = work(self, rv_str_of(rv_text_get(&message), message.n), &over);
        }
        rv_text_clear(&message);
        if (file) {
            history(past, &event, H_SAVE, file);
        }
    }
    rv_text_deinit(&message);
    rv_free(&rv_heap, file);
    history_end(past);
    el_end(el);
    return e;
}
