/* What a person sees: help, errors, progress, text made safe for a terminal. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/json.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

static const char *group_of(const char *name, size_t *n)
{
    *n = strcspn(name, " ");
    return name;
}

static bool has_option(const cmd_option *options, const char *name)
{
    while (options && options->name && strcmp(options->name, name) != 0) {
        options++;
    }
    return options && options->name;
}

/* own: options of the command, which win over those of all commands; NULL: these are they. */
static void help_options(FILE *out, const cmd_option *options, const cmd_option *own)
{
    for (const cmd_option *o = options; o && o->name; o++) {
        char left[64];
        bool taken = has_option(own, o->name);
        snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                 o->letter ? "," : " ", o->name, o->value ? " " : "", o->value ? o->value : "");
        fprintf(out, "  %-28s %s\n", left,
                taken ? "is the one above here; RUVLLM_DATA=DIR names the data folder" : o->help);
    }
}

void cmd_help(FILE *out, const cmd *command)
{
    if (command) {
        fprintf(out, "ruvllm %s %s\n\n%c%s.\n", command->name, command->args, command->summary[0] - 'a' + 'A',
                command->summary + 1);
        if (command->details) {
            fprintf(out, "\n%s\n", command->details);
        }
        if (command->options && command->options->name) {
            fprintf(out, "\nOptions:\n");
            help_options(out, command->options, NULL);
        }
        fprintf(out, "\nCommon options:\n");
        help_options(out, cmd_common, command->options);
        return;
    }
    fprintf(out, "ruvllm: local LFM2 models that remember. No cloud, no telemetry.\n\n"
                 "Start:\n"
                 "  ruvllm run MODEL.gguf 'Hello'      generate from a model file\n"
                 "  ruvllm memory import NOTES/        remember documents\n"
                 "  ruvllm chat                        talk about them\n"
                 "  ruvllm serve                       the same over HTTP, with OpenAI's API\n\nCommands:\n");
    const char *last = "";
    size_t last_n = 0;
    for (const cmd *c = cmd_table; c->name; c++) {
        size_t n;
        const char *group = group_of(c->name, &n);
        if (c->name[n] == ' ' && n == last_n && memcmp(group, last, n) == 0) {
            continue; /* one line a group; `ruvllm memory --help` has the rest */
        }
        last = group;
        last_n = n;
        if (c->name[n] == 0) {
            char call[64];
            snprintf(call, sizeof call, "%s %s", c->name, c->args);
            fprintf(out, "  %-24s %s\n", call, c->summary);
            continue;
        }
        char verbs[128] = "";
        for (const cmd *g = c; g->name && strncmp(g->name, group, n) == 0 && g->name[n] == ' '; g++) {
            size_t used = strlen(verbs);
            snprintf(verbs + used, sizeof verbs - used, "%s%s", used ? " | " : "", g->name + n + 1);
        }
        fprintf(out, "  %-24.*s %s\n", (int)n, group, verbs);
    }
    fprintf(out, "\n`ruvllm COMMAND --help` explains one. Everything that lists or reports takes --json.\n");
}

static bool
    usage_said; /* a mistake on the line is said once, by who found it; the command line runs on one thread */

int cmd_fail(rv_err e)
{
    if (e == RV_E_CANCELLED) {
        return CMD_INTERRUPTED;
    }
    if (e == RV_E_CONFIG && usage_said) {
        return CMD_USAGE;
    }
    const char *text = rv_err_text();
    fprintf(stderr, "ruvllm: %s\n", *text ? text : rv_err_name(e));
    return e == RV_E_CONFIG ? CMD_USAGE : CMD_FAILED;
}

rv_err cmd_stopped(void)
{
    return ferror(stdout) ? rv_fail(RV_E_IO, "writing to standard output failed")
                          : rv_fail(RV_E_CANCELLED, "interrupted");
}

int cmd_usage(const cmd_line *line, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    usage_said = true;
    fprintf(stderr, "ruvllm %s: ", line->command->name);
    cmd_safe(stderr, text, strlen(text));
    fprintf(stderr, "\nUsage: ruvllm %s %s   (`ruvllm %s --help`)\n", line->command->name,
            line->command->args, line->command->name);
    return CMD_USAGE;
}

void cmd_safe(FILE *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t code;
        size_t length = rv_utf8_decode(text + i, n - i, &code);
        bool control = length == 0 || (code < 0x20 && code != '\n' && code != '\t') ||
                       (code >= 0x7f && code < 0xa0) || (code >= 0x202a && code <= 0x202e) ||
                       (code >= 0x2066 && code <= 0x2069);
        if (control) {
            fprintf(out, "\\x%02x", (unsigned char)text[i]);
            for (size_t k = 1; k < length; k++) {
                fprintf(out, "\\x%02x", (unsigned char)text[i + k]);
            }
        } else {
            fwrite(text + i, 1, length, out);
        }
        i += length ? length : 1;
    }
}

static bool print_failed;

void cmd_print(json_t *value)
{
    if (!value) {
        fprintf(stderr, "ruvllm: a line was left out: a name in it is not UTF-8, which JSON cannot hold\n");
        print_failed = true;
        return;
    }
    rv_json_print(value, stdout);
    json_decref(value);
}

bool cmd_print_failed(void)
{
    return print_failed;
}

bool cmd_colour(FILE *out)
{
    const char *no = getenv("NO_COLOR");
    return isatty(fileno(out)) && !(no && *no);
}

void cmd_bytes(char out[16], uint64_t bytes)
{
    static const char *const units[] = { "B", "KB", "MB", "GB", "TB" };
    double x = (double)bytes;
    size_t u = 0;
    while (x >= 1000 && u + 1 < RV_COUNT(units)) {
        x /= 1000;
        u++;
    }
    snprintf(out, 16, u == 0 || x >= 100 ? "%.0f %s" : "%.1f %s", x, units[u]);
}

void cmd_bar_init(cmd_bar *bar)
{
    *bar = (cmd_bar){ .start_ms = rv_clock_ms() };
}

static void write_count(const cmd_bar *bar, char out[24], uint64_t count)
{
    if (bar->bytes) {
        cmd_bytes(out, count);
    } else {
        snprintf(out, 24, "%llu", (unsigned long long)count);
    }
}

/* Columns of the terminal on stderr, as it is now. */
static int terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static int columns_of(const char *text, size_t n)
{
    int columns = 0;
    for (size_t i = 0; i < n;) {
        uint32_t code;
        size_t length = rv_utf8_decode(text + i, n - i, &code);
        int one = length ? wcwidth((wchar_t)code) : 1;
        columns += one < 0 ? 1 : one;
        i += length ? length : 1;
    }
    return columns;
}

/* The end of what, where a path says most, in so many columns: "...notes/trip.md". */
static void write_end(char out[256], const char *what, int columns)
{
    enum { LONGEST = 200 };
    static const char dots[] = "...";
    char text[LONGEST + 8];
    size_t n = strlen(what), from = n > LONGEST / 4 ? n - LONGEST / 4 : 0; /* an escaped byte is four */
    while (from > 0 && from < n && (what[from] & 0xc0) == 0x80) {
        from++;
    }
    size_t length = rv_escape(what + from, n - from, text, sizeof text), at = 0;
    int room = from > 0 || columns_of(text, length) > columns ? columns - 3 : columns;
    while (at < length && columns_of(text + at, length - at) > room) {
        do {
            at++;
        } while (at < length && (text[at] & 0xc0) == 0x80);
    }
    snprintf(out, 256, "%s%s", from + at > 0 ? dots : "", text + at);
}

static void write_left(const cmd_bar *bar, char out[32], uint64_t done, uint64_t total)
{
    double rate = (double)done / ((rv_clock_ms() - bar->start_ms) / 1000);
    double left_s = rate > 0 ? (double)(total - done) / rate : -1;
    out[0] = 0;
    if (left_s >= 0) {
        snprintf(out, 32,
                 left_s < 90     ? "  %.0f s left"
                 : left_s < 5400 ? "  %.0f min left"
                                 : "  %.1f h left",
                 left_s < 90     ? left_s
                 : left_s < 5400 ? left_s / 60
                                 : left_s / 3600);
    }
}

/* One line, or the terminal scrolls: what is worked on gives way first, then the bar, then the numbers from the right. */
void cmd_bar_draw(cmd_bar *bar, const char *what, uint64_t done, uint64_t total)
{
    enum { CELLS = 24, FEWEST = 6, WHAT = 40, SHORTEST = 8 };
    double now = rv_clock_ms(), spent = now - bar->start_ms;
    bool due = spent > 2000 && now - bar->drawn_ms > 100;
    if (!isatty(STDERR_FILENO) || !due || total == 0) {
        return;
    }
    bar->drawn_ms = now;
    bar->shown = true;
    double share = (double)done / (double)total;
    char at[24], of[24], each[24], left[32], numbers[128], end[256] = "";
    write_count(bar, at, done);
    write_count(bar, of, total);
    write_count(bar, each, (uint64_t)((double)done / (spent / 1000)));
    write_left(bar, left, done, total);
    int n = snprintf(numbers, sizeof numbers, "%3.0f %%  %s/%s  %s/s%s", share * 100, at, of, each, left);
    int room = terminal_width() - 1, rest = room - n, cells = rest - 3 < CELLS ? rest - 3 : CELLS;
    if (cells >= FEWEST) {
        int filled = (int)(share * cells);
        fprintf(stderr, "\r\033[K[%.*s%*s] ", filled, "########################", cells - filled, "");
        rest -= cells + 3;
    } else {
        fprintf(stderr, "\r\033[K");
    }
    if (rest - 2 >= SHORTEST) {
        write_end(end, what, rest - 2 < WHAT ? rest - 2 : WHAT);
    }
    fprintf(stderr, "%.*s%s%s", room > 0 ? room : 0, numbers, *end ? "  " : "", end);
    fflush(stderr);
}

void cmd_bar_end(cmd_bar *bar)
{
    if (bar->shown) {
        fprintf(stderr, "\r\033[K");
    }
}

atomic_bool cmd_cancel;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    if (atomic_exchange(&cmd_cancel, true)) {
        _exit(CMD_INTERRUPTED);
    }
}

void cmd_catch_interrupt(void)
{
    atomic_store(&cmd_cancel, false);
    struct sigaction action = { .sa_handler = on_interrupt };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}
