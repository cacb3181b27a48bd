/* The manual page, made from the command table. */
#include "cli/cli.h"

#include <string.h>

static void mdoc(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '\\') {
            fputs("\\e", stdout);
        } else if ((*c == '.' || *c == '\'') && (c == text || c[-1] == '\n')) {
            printf("\\&%c", *c);
        } else if (*c == ' ' && c > text && c[-1] == '.' && c[1] >= 'A' && c[1] <= 'Z') {
            putchar('\n'); /* mdoc wants each sentence on a line of its own */
        } else if (*c == '-') {
            fputs("\\-", stdout);
        } else {
            putchar(*c);
        }
    }
}

static void man_options(const cmd_option *options)
{
    printf(".Bl -tag -width Ds -compact\n");
    for (const cmd_option *o = options; o && o->name; o++) {
        printf(".It Fl ");
        if (o->letter) {
            printf("%c , Fl ", o->letter);
        }
        printf("\\-%s", o->name);
        if (o->value) {
            printf(" Ar %s", o->value);
        }
        putchar('\n');
        mdoc(o->help);
        putchar('\n');
    }
    printf(".El\n");
}

/* Details hold paragraphs, and examples as lines that begin with two spaces. */
static void man_details(const char *text)
{
    bool literal = false;
    while (*text) {
        size_t n = strcspn(text, "\n");
        bool example = n > 2 && text[0] == ' ' && text[1] == ' ';
        if (example != literal) {
            puts(example ? ".Bd -literal -offset indent" : ".Ed");
            literal = example;
        }
        char one[512];
        snprintf(one, sizeof one, "%.*s", (int)n, text + (example ? 2 : 0));
        one[n > 2 && example ? n - 2 : n < sizeof one ? n : sizeof one - 1] = 0;
        if (n == 0) {
            if (text[1] && !literal && strncmp(text + 1, "  ", 2) != 0) {
                puts(".Pp");
            }
        } else {
            mdoc(one);
            putchar('\n');
        }
        text += n + (text[n] == '\n');
    }
    if (literal) {
        puts(".Ed");
    }
}

int cmd_man(cmd_line *line)
{
    (void)line;
    printf(".Dd $Mdocdate$\n.Dt RUVLLM 1\n.Os\n.Sh NAME\n.Nm ruvllm\n.Nd local LFM2 models that remember\n"
           ".Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar options\n.Op Ar arguments\n.Sh DESCRIPTION\n"
           "Serves local LFM2 models, remembers what it was told, routes each question and keeps what is "
           "needed to learn\n"
           "from feedback.\nData goes to standard output, talk to standard error.\n"
           "These options are common to all commands:\n.Pp\n");
    man_options(cmd_common);
    printf(".Sh COMMANDS\n.Bl -tag -width Ds\n");
    for (const cmd *c = cmd_table; c->name; c++) {
        printf(".It Ic %s", c->name);
        if (*c->args) {
            printf(" Ar %s", c->args);
        }
        printf("\n%c%s.\n", c->summary[0] - 'a' + 'A', c->summary + 1);
        if (c->details) {
            if (strncmp(c->details, "  ", 2) != 0) { /* examples bring their own space */
                puts(".Pp");
            }
            man_details(c->details);
        }
        if (c->options && c->options->name) {
            puts(".Pp");
            man_options(c->options);
        }
    }
    printf(".El\n.Sh ENVIRONMENT\n.Bl -tag -width Ds -compact\n"
           ".It Ev RUVLLM_DATA\nfolder for everything of a run\n"
           ".It Ev RUVLLM_CONFIG\nconfiguration to read instead of the user's\n"
           ".It Ev RUVLLM_SECTION_KEY\nany configuration key, as in RUVLLM_SERVER_PORT\n"
           ".It Ev RUVLLM_LOG\nas RUVLLM_SYSTEM_LOG_LEVEL\n"
           ".It Ev RUVLLM_MODELS\nfolder of the models that came with the program\n"
           ".It Ev RUVLLM_API_KEY\nkey that ps shows to a server with API keys\n"
           ".It Ev RUVLLM_JUDGE_KEY\nkey for the server of learning.judge_url\n"
           ".It Ev RV_CPU\nscalar, avx2, avx512 or neon: use these kernels\n"
           ".It Ev NO_COLOR\nno colours\n.El\n"
           ".Sh EXIT STATUS\n0 done; 1 failed while running; 2 wrong usage or configuration; 130 "
           "interrupted.\n");
    return CMD_DONE;
}
