/* Manual page and shell completions, made from the command table. */
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
           ".It Ev RUVLLM_SECTION_KEY\nany configuration key, as in RUVLLM_SERVER_PORT\n"
           ".It Ev RUVLLM_MODELS\nfolder of the models that came with the program\n"
           ".It Ev RUVLLM_API_KEY\nkey that ps shows to a server with API keys\n"
           ".It Ev RV_CPU\nscalar, avx2, avx512 or neon: use these kernels\n"
           ".It Ev NO_COLOR\nno colours\n.El\n"
           ".Sh EXIT STATUS\n0 done; 1 failed while running; 2 wrong usage or configuration; 130 "
           "interrupted.\n");
    return CMD_DONE;
}

static void each_option(const cmd_option *options, const char *format)
{
    for (const cmd_option *o = options; o && o->name; o++) {
        printf(format, o->name);
    }
}

static void bash_completion(void)
{
    puts("_ruvllm() {\n    local cur=${COMP_WORDS[COMP_CWORD]} call=\"${COMP_WORDS[1]}\" words=\n"
         "    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in");
    for (const cmd *c = cmd_table; c->name; c++) {
        if (strchr(c->name, ' ')) {
            printf("    \"%s\") call=\"%s\" ;;\n", c->name, c->name);
        }
    }
    puts("    esac\n    if [ \"$COMP_CWORD\" = 1 ]; then\n        words=\"");
    for (const cmd *c = cmd_table; c->name; c++) {
        size_t n = strcspn(c->name, " ");
        printf("%.*s ", (int)n, c->name);
    }
    puts("\"\n    else\n        case \"$call\" in");
    for (const cmd *c = cmd_table; c->name; c++) {
        printf("        \"%s\") words=\"", c->name);
        each_option(c->options, "--%s ");
        each_option(cmd_common, "--%s ");
        puts("\" ;;");
    }
    for (const cmd *c = cmd_table; c->name; c++) {
        size_t n = strcspn(c->name, " ");
        bool first = c->name[n] == ' ' && (c == cmd_table || strncmp((c - 1)->name, c->name, n + 1) != 0);
        if (first) {
            printf("        %.*s) words=\"", (int)n, c->name);
            for (const cmd *g = c; g->name && strncmp(g->name, c->name, n + 1) == 0; g++) {
                printf("%s ", g->name + n + 1);
            }
            puts("\" ;;");
        }
    }
    puts("        esac\n    fi\n    if [ \"${cur#-}\" = \"$cur\" ] && [ \"$COMP_CWORD\" -gt 1 ]; then\n"
         "        COMPREPLY=($(compgen -W \"${words//--[a-z-]*/}\" -- \"$cur\") $(compgen -f -- \"$cur\"))\n "
         "   else\n"
         "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    fi\n}\ncomplete -o filenames -F "
         "_ruvllm ruvllm");
}

/* text in single quotes, as zsh and fish both read them */
static void put_quoted(const char *text)
{
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'') {
            fputs("'\\''", stdout);
        } else {
            putchar(*text);
        }
    }
    putchar('\'');
}

static void zsh_completion(void)
{
    puts("#compdef ruvllm\n_ruvllm() {\n    local -a commands options\n    commands=(");
    for (const cmd *c = cmd_table; c->name; c++) {
        printf("        '%s:'", c->name);
        put_quoted(c->summary);
        putchar('\n');
    }
    puts(
        "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n"
        "    case \"$words[2] $words[3]\" in");
    for (int two = 1; two >= 0; two--) {
        for (const cmd *c = cmd_table; c->name; c++) {
            if ((strchr(c->name, ' ') != NULL) == (two == 1)) {
                printf("    '%s'%s) options=(", c->name, two ? "" : "\\ *");
                each_option(c->options, "--%s ");
                each_option(cmd_common, "--%s ");
                puts(") ;;");
            }
        }
    }
    puts("    esac\n    compadd -a options\n    _files\n}\n_ruvllm \"$@\"");
}

static void fish_completion(void)
{
    for (const cmd *c = cmd_table; c->name; c++) {
        size_t n = strcspn(c->name, " ");
        if (c->name[n] == 0) {
            printf("complete -c ruvllm -n __fish_use_subcommand -a %s -d ", c->name);
        } else {
            printf("complete -c ruvllm -n __fish_use_subcommand -a %.*s\n", (int)n, c->name);
            printf("complete -c ruvllm -n '__fish_seen_subcommand_from %.*s' -a %s -d ", (int)n, c->name,
                   c->name + n + 1);
        }
        put_quoted(c->summary);
        putchar('\n');
        for (const cmd_option *o = c->options; o && o->name; o++) {
            printf("complete -c ruvllm -n '__fish_seen_subcommand_from %s' -l %s%s\n",
                   c->name + (c->name[n] ? n + 1 : 0), o->name, o->value ? " -r" : "");
        }
    }
}

int cmd_completion(cmd_line *line)
{
    static const struct {
        const char *shell;
        void (*print)(void);
    } shells[] = { { "bash", bash_completion }, { "zsh", zsh_completion }, { "fish", fish_completion } };
    for (size_t i = 0; i < RV_COUNT(shells); i++) {
        if (strcmp(line->args[0], shells[i].shell) == 0) {
            shells[i].print();
            return CMD_DONE;
        }
    }
    return cmd_usage(line, "bash, zsh or fish, found `%s`", line->args[0]);
}
