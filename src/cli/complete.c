/* Completions for bash, zsh and fish, made from the command table. Each asks the same: which command was said, behind common options
 * that may stand before it; whether the word before is an option that takes a value; and what there is for that place. What a value
 * may be the table says in words for people, so the few lists that are closed stand here. */
#include "cli/cli.h"

#include <string.h>

#define TIER_WORDS "350m 700m 1.2b 2.6b"

typedef struct choices {
    const char *command; /* NULL: of any */
    const char *name;    /* of the option, or of the argument in capitals */
    const char *words;
} choices;

static const choices closed[] = {
    { "eval retrieval", "mode", "attend graph hybrid vector words" },
    { NULL, "mode", "graph hybrid vector words" },
    { NULL, "log-level", "error warn info debug" },
    { NULL, "rating", "1 2 3 4 5" },
    { NULL, "kv", "f32 f16 q8 q4" },
    { NULL, "packing", "file memory off" },
    { NULL, "drafts", "auto off" },
    { NULL, "draft-model", TIER_WORDS " auto off" },
    { NULL, "act", "f32 q8" },
    { NULL, "index", "flat hnsw rabitq pq" },
    { NULL, "metric", "l2 cos ip" },
    { NULL, "rotation", "hadamard haar" },
    { NULL, "embedder", "auto static hash" },
    { "bench ann", "keep", "f32 bf16 file" },
    { "memory link", "type", "cites follows same_topic agent_step derived contains corrects" },
    { "memory add", "type", "note fact" },
    { NULL, "type", "document chunk note fact qa concept" },
    { NULL, "model", TIER_WORDS },
    { NULL, "MODEL", TIER_WORDS },
    { NULL, "SHELL", "bash zsh fish" },
    { NULL, "KIND", "router retrieval attention patterns concepts dreams sides" },
};

static const char *words_for(const cmd *c, const char *name)
{
    for (size_t i = 0; i < RV_COUNT(closed); i++) {
        const choices *k = &closed[i];
        if (strcmp(k->name, name) == 0 && (!k->command || (c && strcmp(k->command, c->name) == 0))) {
            return k->words;
        }
    }
    return "";
}

/* A name in capitals that stands for files. */
static bool is_files(const char *value)
{
    static const char *const files[] = { "FILE", "DIR", "FOLDER", "PATH", "MODEL" };
    for (size_t i = 0; i < RV_COUNT(files); i++) {
        if (strstr(value, files[i])) {
            return true;
        }
    }
    return false;
}

static bool takes_files(const cmd_option *o)
{
    return is_files(o->value) || strcmp(o->name, "model") == 0 || strcmp(o->name, "embedder") == 0;
}

/* The first argument's name without brackets and dots. */
static void argument_of(const cmd *c, char out[32])
{
    const char *at = c->args + strspn(c->args, "[");
    snprintf(out, 32, "%.*s", (int)strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), at);
}

/* next group of two-word commands from c on; NULL: no more */
static const cmd *next_group(const cmd *c)
{
    for (; c->name; c++) {
        size_t n = strcspn(c->name, " ");
        if (c->name[n] && (c == cmd_table || strncmp((c - 1)->name, c->name, n + 1) != 0)) {
            return c;
        }
    }
    return NULL;
}

static void put_verbs(const cmd *group)
{
    size_t n = strcspn(group->name, " ");
    for (const cmd *c = group; c->name && strncmp(c->name, group->name, n + 1) == 0; c++) {
        printf("%s ", c->name + n + 1);
    }
}

/* text in single quotes, as all three shells read them */
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

/* ---- bash and zsh, whose `case` is the same ---- */

/* --data before the command has a value, the others have none. */
static void put_common_values(void)
{
    const char *between = "";
    for (const cmd_option *o = cmd_common; o->name; o++) {
        if (o->value) {
            printf("%s--%s", between, o->name);
            between = "|";
        }
    }
}

static void put_option_words(const cmd_option *options)
{
    for (const cmd_option *o = options; o && o->name; o++) {
        printf("--%s ", o->name);
    }
}

/* What may follow the options that take a value: lists and files, and nothing behind all others. */
static void put_values(const cmd *c, const cmd_option *options)
{
    const char *between = "";
    for (int free = 0; free < 2; free++) {
        for (const cmd_option *o = options; o && o->name; o++) {
            bool plain = o->value && !takes_files(o) && !*words_for(c, o->name);
            if (!o->value || plain != (free == 1)) {
                continue;
            }
            printf(free ? "%s--%s" : "        %s--%s", free && !*between ? "        " : between, o->name);
            if (o->letter) {
                printf("|-%c", o->letter);
            }
            if (!free) {
                printf(") options= words=\"%s\" files=%s ;;\n", words_for(c, o->name),
                       takes_files(o) ? "1" : "");
            }
            between = free ? "|" : "";
        }
    }
    puts(*between ? ") options= words= files= ;;" : "");
}

/* Sets options, words and files from $call and $previous. */
static void put_cases(void)
{
    puts("    case \"$call\" in");
    for (const cmd *c = cmd_table; c->name; c++) {
        char argument[32];
        argument_of(c, argument);
        printf("    \"%s\")\n        options=\"", c->name);
        put_option_words(c->options);
        put_option_words(cmd_common);
        printf("\" words=\"%s\" files=%s\n        case \"$previous\" in\n",
               *argument ? words_for(c, argument) : "", is_files(c->args) ? "1" : "");
        put_values(c, c->options);
        puts("        esac ;;");
    }
    for (const cmd *g = cmd_table; (g = next_group(g)); g++) {
        printf("    %.*s) words=\"", (int)strcspn(g->name, " "), g->name);
        put_verbs(g);
        puts("\" ;;");
    }
    printf("    '')\n        options=\"");
    put_option_words(cmd_common);
    printf("\" words=\"");
    for (const cmd *c = cmd_table; c->name; c++) {
        size_t n = strcspn(c->name, " ");
        if (!c->name[n] || next_group(c) == c) {
            printf("%.*s ", (int)n, c->name);
        }
    }
    puts("help\" ;;\n    esac\n    [ -z \"$options\" ] || case \"$previous\" in");
    put_values(NULL, cmd_common);
    puts("    esac");
}

/* Sets call to the command in the words before the cursor: two of them where the first is a group. */
static void put_call(const char *words)
{
    printf("        word=%s\n        case \"$word\" in\n        ", words);
    put_common_values();
    puts(") skip=1 ;;\n        =) skip=1 ;;\n        -*) ;;\n"
         "        help) [ -z \"$call\" ] || break ;;\n        *) call=\"$call${call:+ }$word\"\n"
         "            case \"$call\" in");
    printf("            ");
    for (const cmd *g = cmd_table; (g = next_group(g)); g++) {
        printf("%s%.*s", g == next_group(cmd_table) ? "" : "|", (int)strcspn(g->name, " "), g->name);
    }
    puts(") ;;\n            *) break ;;\n            esac ;;\n        esac");
}

static void bash_completion(void)
{
    puts(
        "_ruvllm() {\n"
        "    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} call= word skip= "
        "options= words= files= i\n"
        "    [ \"$cur\" != = ] || cur=\n"
        "    [ \"$previous\" != = ] || previous=${COMP_WORDS[COMP_CWORD-2]} # bash takes --name=value apart\n"
        "    [ \"${COMP_WORDS[COMP_CWORD]}\" != = ] || previous=${COMP_WORDS[COMP_CWORD-1]}\n"
        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "        if [ -n \"$skip\" ] && [ \"${COMP_WORDS[i]}\" != = ]; then skip=; continue; fi");
    put_call("${COMP_WORDS[i]}");
    puts("    done");
    put_cases();
    puts("    COMPREPLY=()\n"
         "    if [ \"${cur#-}\" != \"$cur\" ] && [ -n \"$options\" ]; then\n"
         "        COMPREPLY=($(compgen -W \"$options\" -- \"$cur\"))\n        return\n    fi\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
         "    if [ -n \"$files\" ]; then\n"
         "        compopt -o filenames 2>/dev/null\n"
         "        while IFS= read -r word; do COMPREPLY+=(\"$word\"); done < <(compgen -f -- \"$cur\")\n"
         "    fi\n}\ncomplete -F _ruvllm ruvllm");
}

static void zsh_completion(void)
{
    puts("#compdef ruvllm\n_ruvllm() {\n"
         "    local previous=$words[CURRENT-1] call= word skip= options= files= i\n"
         "    local -a said=($words) commands\n    local words=\n"
         "    for ((i = 2; i < CURRENT; i++)); do\n"
         "        if [ -n \"$skip\" ]; then skip=; continue; fi");
    put_call("$said[i]");
    puts("    done");
    put_cases();
    puts("    if [[ -z $call && $PREFIX != -* && $previous != --* ]]; then\n        commands=(");
    for (const cmd *c = cmd_table; c->name; c++) {
        if (!strchr(c->name, ' ')) {
            printf("        '%s:'", c->name);
            put_quoted(c->summary);
            putchar('\n');
        }
    }
    for (const cmd *g = cmd_table; (g = next_group(g)); g++) {
        printf("        '%.*s:'\"", (int)strcspn(g->name, " "), g->name);
        put_verbs(g);
        puts("\"");
    }
    puts("        )\n        _describe command commands\n        return\n    fi\n"
         "    if [[ $PREFIX == -* && -n $options ]]; then\n        compadd -- ${=options}\n        return\n  "
         "  fi\n"
         "    [ -z \"$words\" ] || compadd -- ${=words}\n"
         "    [ -z \"$files\" ] || _files\n}\n_ruvllm \"$@\"");
}

/* ---- fish ---- */

/* The condition of a command; none: while no command was said. */
static void fish_line(const char *command)
{
    printf("complete -c ruvllm -n '__ruvllm_said \"%s\"'", command);
}

static void fish_options(const cmd *c, const cmd_option *options)
{
    for (const cmd_option *o = options; o && o->name; o++) {
        if (c) {
            fish_line(c->name);
        } else {
            printf("complete -c ruvllm");
        }
        printf(" -l %s", o->name);
        if (o->letter) {
            printf(" -s %c", o->letter);
        }
        if (o->value) {
            printf(takes_files(o) ? " -rF" : " -x");
            if (*words_for(c, o->name)) {
                printf(" -a '%s'", words_for(c, o->name));
            }
        }
        printf(" -d ");
        put_quoted(o->help);
        putchar('\n');
    }
}

static void fish_completion(void)
{
    printf("function __ruvllm_said # the command behind common options is this one\n"
           "    set -l call\n    set -l skip\n"
           "    for word in (commandline -opc)[2..-1]\n"
           "        if test -n \"$skip\"\n            set skip\n            continue\n        end\n"
           "        switch $word\n            case");
    for (const cmd_option *o = cmd_common; o->name; o++) {
        if (o->value) {
            printf(" --%s", o->name);
        }
    }
    printf("\n                set skip 1\n            case '-*' help\n            case '*'\n"
           "                set -a call $word\n                contains -- \"$call[1]\"");
    for (const cmd *g = cmd_table; (g = next_group(g)); g++) {
        printf(" %.*s", (int)strcspn(g->name, " "), g->name);
    }
    puts("; and test (count $call) -lt 2; or break\n        end\n    end\n"
         "    test \"$call\" = \"$argv[1]\"\nend\ncomplete -c ruvllm -f");
    fish_options(NULL, cmd_common);
    for (const cmd *c = cmd_table; c->name; c++) {
        size_t n = strcspn(c->name, " ");
        char group[32] = "", argument[32];
        snprintf(group, sizeof group, "%.*s", c->name[n] ? (int)n : 0, c->name);
        if (next_group(c) == c) {
            fish_line("");
            printf(" -a %s\n", group);
        }
        fish_line(group);
        printf(" -a %s -d ", c->name + (c->name[n] ? n + 1 : 0));
        put_quoted(c->summary);
        putchar('\n');
        argument_of(c, argument);
        if (is_files(c->args) || (*argument && *words_for(c, argument))) {
            fish_line(c->name);
            printf("%s -a '%s'\n", is_files(c->args) ? " -F" : "", *argument ? words_for(c, argument) : "");
        }
        fish_options(c, c->options);
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
