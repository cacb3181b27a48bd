/* From argv to a command line: finds the command (one or two words), its options and arguments. Long options as --name value
 * or --name=value, letters as -n value or -nvalue, -- ends the options. A near miss gets a suggestion. */
#include "cli/cli.h"

#include "base/json.h"
#include "base/log.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

static const cmd_option *option_in(const cmd_option *table, const char *name, size_t n, char letter)
{
    for (const cmd_option *o = table; o && o->name; o++) {
        bool same = letter ? o->letter == letter : strlen(o->name) == n && memcmp(o->name, name, n) == 0;
        if (same) {
            return o;
        }
    }
    return NULL;
}

static const cmd_option *find_option(const cmd *command, const char *name, size_t n, char letter)
{
    const cmd_option *o = option_in(command->options, name, n, letter);
    return o ? o : option_in(cmd_common, name, n, letter);
}

/* Number of single-character changes between two short words; both at most 31 characters, else far apart. */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), row[32];
    if (n > 31 || m > 31) {
        return 99;
    }
    for (size_t j = 0; j <= m; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[m];
}

/* group: NULL, or a group in which typed was to be a verb. */
static const char *near_command(const char *group, const char *typed)
{
    const char *best = NULL;
    size_t least = 3, n = group ? strlen(group) : 0;
    for (const cmd *c = cmd_table; c->name; c++) {
        bool inside = !group || (strncmp(c->name, group, n) == 0 && c->name[n] == ' ');
        size_t d = inside ? distance(typed, c->name + (group ? n + 1 : 0)) : least;
        if (d < least) {
            least = d;
            best = c->name;
        }
    }
    return best;
}

static void suggest_command(const char *typed)
{
    const char *best = near_command(NULL, typed);
    if (best) {
        fprintf(stderr, "Did you mean `ruvllm %s`?\n", best);
    } else {
        fprintf(stderr, "`ruvllm --help` lists the commands.\n");
    }
}

static void suggest_option(const cmd *command, const char *typed)
{
    const char *best = NULL;
    size_t least = 3;
    const cmd_option *tables[] = { command->options, cmd_common };
    for (size_t t = 0; t < RV_COUNT(tables); t++) {
        for (const cmd_option *o = tables[t]; o && o->name; o++) {
            size_t d = distance(typed, o->name);
            if (d < least) {
                least = d;
                best = o->name;
            }
        }
    }
    if (best) {
        fprintf(stderr, "Did you mean --%s? ", best);
    }
    fprintf(stderr, "`ruvllm %s --help` lists the options.\n", command->name);
}

/* The command whose name is the first one or two words; *words says how many. */
static const cmd *find_command(int argc, char **argv, int *words)
{
    for (const cmd *c = cmd_table; c->name; c++) {
        const char *space = strchr(c->name, ' ');
        if (!space && strcmp(c->name, argv[1]) == 0) {
            *words = 1;
            return c;
        }
        size_t n = space ? (size_t)(space - c->name) : 0;
        if (space && argc > 2 && strlen(argv[1]) == n && memcmp(c->name, argv[1], n) == 0 &&
            strcmp(space + 1, argv[2]) == 0) {
            *words = 2;
            return c;
        }
    }
    return NULL;
}

static bool is_group(const char *word)
{
    size_t n = strlen(word);
    for (const cmd *c = cmd_table; c->name; c++) {
        if (strncmp(c->name, word, n) == 0 && c->name[n] == ' ') {
            return true;
        }
    }
    return false;
}

static int help_group(FILE *out, const char *word)
{
    fprintf(out, "Commands of `ruvllm %s`:\n\n", word);
    size_t n = strlen(word);
    for (const cmd *c = cmd_table; c->name; c++) {
        if (strncmp(c->name, word, n) == 0 && c->name[n] == ' ') {
            char call[96];
            snprintf(call, sizeof call, "%s %s", c->name, c->args);
            fprintf(out, "  %-34s %s\n", call, c->summary);
        }
    }
    return out == stdout ? CMD_DONE : CMD_USAGE;
}

/* An empty value is a variable of a script that was not set: "these" must not become "all", nor one user's everybody's. */
static bool give(cmd_line *line, const cmd_option *option, const char *value)
{
    if (value && !*value && strcmp(option->name, "system") != 0) {
        fprintf(stderr, "ruvllm %s: --%s needs %s, found an empty text\n", line->command->name, option->name,
                option->value);
        return false;
    }
    if (line->n_given == CMD_MAX_GIVEN) {
        fprintf(stderr, "ruvllm: more than %d options\n", CMD_MAX_GIVEN);
        return false;
    }
    line->given[line->n_given].option = option;
    line->given[line->n_given++].value = value;
    return true;
}

/* One argument that begins with a dash. Returns how many words it used, 0 when it is wrong (message printed). */
static int read_option(cmd_line *line, int left, char **at)
{
    const char *word = at[0];
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    size_t n = is_long ? strcspn(name, "=") : 1;
    const cmd_option *o = find_option(line->command, name, n, is_long ? 0 : name[0]);
    if (!o) {
        fprintf(stderr, "ruvllm %s: unknown option ", line->command->name);
        cmd_safe(stderr, word, is_long ? n + 2 : 2);
        fprintf(stderr, ". ");
        char typed[32];
        snprintf(typed, sizeof typed, "%.*s", (int)(n < 31 ? n : 31), name);
        suggest_option(line->command, typed);
        return 0;
    }
    const char *rest = name + n;
    const char *attached = is_long ? (*rest == '=' ? rest + 1 : NULL) : (*rest ? rest : NULL);
    if (!o->value) {
        if (attached) {
            fprintf(stderr, "ruvllm %s: --%s takes no value\n", line->command->name, o->name);
            return 0;
        }
        return give(line, o, NULL) ? 1 : 0;
    }
    if (attached) {
        return give(line, o, attached) ? 1 : 0;
    }
    if (left < 2) {
        fprintf(stderr, "ruvllm %s: --%s needs %s\n", line->command->name, o->name, o->value);
        return 0;
    }
    return give(line, o, at[1]) ? 2 : 0;
}

static bool read_line(cmd_line *line, int argc, char **argv)
{
    bool options_over = false;
    for (int i = 0; i < argc;) {
        const char *word = argv[i];
        if (!options_over && strcmp(word, "--") == 0) {
            options_over = true;
            i++;
        } else if (!options_over && word[0] == '-' && word[1] != 0) {
            int used = read_option(line, argc - i, argv + i);
            if (used == 0) {
                return false;
            }
            i += used;
        } else {
            line->args[line->n_args++] = argv[i++];
        }
    }
    return true;
}

/* Line editing takes what is typed for characters of the locale. All else here knows UTF-8 by itself, and numbers stay
 * those of C. */
static void use_utf8(void)
{
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
        setlocale(LC_CTYPE, "C.UTF-8"); /* where there is none, only ASCII can be typed */
    }
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* Words before the command that are common options: `ruvllm --json list`. */
static int leading_options(int argc, char **argv)
{
    int i = 1;
    while (i < argc && strncmp(argv[i], "--", 2) == 0 && !is_help(argv[i])) {
        const char *name = argv[i] + 2;
        size_t n = strcspn(name, "=");
        const cmd_option *o = option_in(cmd_common, name, n, 0);
        if (!o) {
            break;
        }
        i += o->value && name[n] == 0 ? 2 : 1;
    }
    return i <= argc ? i - 1 : argc - 1;
}

/* The command that argv[1..] begins with; NULL when it was answered here, with the exit code in *code. */
static const cmd *choose(int argc, char **argv, int *words, int *code)
{
    bool asks_help = is_help(argv[1]) || strcmp(argv[1], "help") == 0;
    *code = CMD_DONE;
    if (asks_help && argc == 2) {
        cmd_help(stdout, NULL);
        return NULL;
    }
    if (asks_help) {
        argv++; /* `ruvllm help memory add` is `ruvllm memory add --help` */
        argc--;
    }
    const cmd *command = find_command(argc, argv, words);
    if (command && asks_help) {
        cmd_help(stdout, command);
        return NULL;
    }
    if (!command && is_group(argv[1])) {
        bool wants_help = asks_help || (argc > 2 && is_help(argv[2]));
        if (!wants_help && argc > 2) {
            fprintf(stderr, "ruvllm: there is no command %s ", argv[1]);
            cmd_safe(stderr, argv[2], strlen(argv[2]));
            const char *best = near_command(argv[1], argv[2]);
            fprintf(stderr, best ? ". Did you mean `ruvllm %s`?\n\n" : ".\n", best);
        }
        *code = help_group(wants_help ? stdout : stderr, argv[1]);
    } else if (!command) {
        fprintf(stderr, "ruvllm: there is no command ");
        cmd_safe(stderr, argv[1], strlen(argv[1]));
        fprintf(stderr, ". ");
        suggest_command(argv[1]);
        *code = CMD_USAGE;
    }
    return command;
}

/* What is missing or too much, by name: args is "MODEL [FILE]". */
static int wrong_count(const cmd_line *line)
{
    const cmd *c = line->command;
    if (line->n_args > c->max_args) {
        return cmd_usage(line, "too many arguments: nothing takes `%s`", line->args[c->max_args]);
    }
    const char *at = c->args;
    for (size_t i = 0; i < line->n_args; i++) {
        size_t n = strcspn(at, " ");
        at += at[n] ? n + 1 : 0; /* the last one may be repeated */
    }
    return cmd_usage(line, "%.*s is missing", (int)strcspn(at, " ."), at);
}

static int run(cmd_line *line)
{
    const cmd *command = line->command;
    rv_log_level level = RV_LOG_WARN;
    const char *wanted = cmd_value(line, "log-level", NULL);
    line->json = cmd_has(line, "json");
    if (cmd_has(line, "help")) {
        cmd_help(stdout, command);
        return CMD_DONE;
    }
    if (line->n_args < command->min_args || line->n_args > command->max_args) {
        return wrong_count(line);
    }
    if (wanted && !rv_log_parse_level(wanted, &level)) {
        return cmd_usage(line, "--log-level is one of error, warn, info, debug");
    }
    rv_log_setup(level, false);
    int code = command->run(line);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CMD_DONE) {
        return cmd_fail(cmd_stopped());
    }
    return code == CMD_DONE && cmd_print_failed() ? CMD_FAILED : code;
}

int cmd_main(int argc, char **argv)
{
    rv_json_setup();
    use_utf8();
    int leading = leading_options(argc, argv), words = 0, code;
    char **options = argv + 1; /* [leading] */
    argv += leading;
    argc -= leading;
    if (argc < 2) {
        cmd_help(stderr, NULL);
        return CMD_USAGE;
    }
    static char version[] = "version";
    if (strcmp(argv[1], "--version") == 0) {
        argv[1] = version;
    }
    const cmd *command = choose(argc, argv, &words, &code);
    if (!command) {
        return code;
    }
    cmd_line line = { .command = command };
    line.args = calloc((size_t)argc + (size_t)leading, sizeof *line.args);
    if (!line.args) {
        return cmd_fail(rv_fail(RV_E_NOMEM, "starting"));
    }
    bool read = read_line(&line, leading, options) && read_line(&line, argc - 1 - words, argv + 1 + words);
    code = read ? run(&line) : CMD_USAGE;
    free(line.args);
    return code;
}

bool cmd_has(const cmd_line *line, const char *option)
{
    for (size_t i = 0; i < line->n_given; i++) {
        if (strcmp(line->given[i].option->name, option) == 0) {
            return true;
        }
    }
    return false;
}

const char *cmd_value(const cmd_line *line, const char *option, const char *otherwise)
{
    for (size_t i = line->n_given; i-- > 0;) {
        if (strcmp(line->given[i].option->name, option) == 0) {
            return line->given[i].value;
        }
    }
    return otherwise;
}

bool cmd_int(const cmd_line *line, const char *option, int64_t low, int64_t high, int64_t *out)
{
    const char *text = cmd_value(line, option, NULL);
    int64_t value = 0;
    if (!text) {
        return true;
    }
    if (!rv_parse_i64(rv_str_from(text), &value) || value < low || value > high) {
        cmd_usage(line, "--%s is a whole number from %lld to %lld, found `%s`", option, (long long)low,
                  (long long)high, text);
        return false;
    }
    *out = value;
    return true;
}

bool cmd_float(const cmd_line *line, const char *option, double low, double high, double *out)
{
    const char *text = cmd_value(line, option, NULL);
    double value = 0;
    if (!text) {
        return true;
    }
    if (!rv_parse_f64(rv_str_from(text), &value) || !(value >= low && value <= high)) {
        cmd_usage(line, "--%s is a number from %g to %g, found `%s`", option, low, high, text);
        return false;
    }
    *out = value;
    return true;
}
