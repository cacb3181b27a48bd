#include "base/json.h"
#include "base/log.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char captured[256 << 10];

/* What run() writes to stderr. */
static const char *stderr_of(void (*run)(void))
{
    const char *path = temp_path("stderr");
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), kept = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    run();
    dup2(kept, STDERR_FILENO);
    close(kept);
    ssize_t n = pread(file, captured, sizeof captured - 1, 0);
    close(file);
    CHECK(n >= 0, "cannot read %s", path);
    captured[n] = 0;
    return captured;
}

static void log_some(void)
{
    rv_log(RV_LOG_INFO, "server.ready", "address", "127.0.0.1:8080", "path", "a b", "empty", "", "eq", "a=b",
           "quote", "say \"hi\"", "none", (const char *)NULL, (char *)NULL);
}

TEST(logfmt_quotes_what_needs_it)
{
    rv_log_setup(RV_LOG_INFO, false);
    const char *line = stderr_of(log_some);
    CHECK(strncmp(line, "time=20", 7) == 0, "%s", line);
    const char *rest = strstr(line, " level=");
    CHECK(
        rest &&
            strcmp(rest,
                   " level=info event=server.ready address=127.0.0.1:8080 path=\"a b\" empty=\"\" eq=\"a=b\" "
                   "quote=\"say \\\"hi\\\"\" none=\"\"\n") == 0,
        "%s", line);
}

static void log_forged(void)
{
    rv_log(RV_LOG_WARN, "http.request", "path", "/x\nlevel=error event=forged\x1b[2J \xff", (char *)NULL);
}

TEST(text_from_outside_cannot_forge_a_line)
{
    rv_log_setup(RV_LOG_INFO, false);
    const char *line = stderr_of(log_forged);
    CHECK(strchr(line, '\n') == line + strlen(line) - 1, "more than one line: %s", line);
    CHECK(!strchr(line, 0x1b), "a raw escape");
    CHECK(strstr(line, "path=\"/x\\nlevel=error event=forged\\u001b[2J \\xff\""), "%s", line);
}

static void log_backslashes(void)
{
    rv_log(RV_LOG_INFO, "e", "path", "/x\\\" status=200 y=\"", "bare", "a\\n", "real", "a\n", (char *)NULL);
}

TEST(a_value_does_not_end_at_a_quote_of_its_own)
{
    rv_log_setup(RV_LOG_INFO, false);
    const char *line = stderr_of(log_backslashes);
    const char *rest = strstr(line, " path=");
    CHECK(rest && strcmp(rest, " path=\"/x\\\\\\\" status=200 y=\\\"\" bare=\"a\\\\n\" real=\"a\\n\"\n") == 0,
          "%s", line);
}

TEST(json_lines_are_json)
{
    rv_log_setup(RV_LOG_INFO, true);
    const char *line = stderr_of(log_forged);
    json_t *o = NULL;
    CHECK_OK(rv_json_parse(line, strlen(line), &o));
    const char *path = NULL, *level = NULL;
    CHECK_OK(rv_json_need_string(o, "path", &path, NULL));
    CHECK_OK(rv_json_need_string(o, "level", &level, NULL));
    CHECK(strcmp(path, "/x\nlevel=error event=forged\x1b[2J \xef\xbf\xbd") == 0, "%s", path);
    CHECK(strcmp(level, "warn") == 0, "%s", level);
    json_decref(o);
    CHECK(strchr(line, '\n') == line + strlen(line) - 1, "more than one line");
}

static void log_levels(void)
{
    rv_log(RV_LOG_ERROR, "e", (char *)NULL);
    rv_log(RV_LOG_WARN, "w", (char *)NULL);
    rv_log(RV_LOG_INFO, "i", (char *)NULL);
    rv_log(RV_LOG_DEBUG, "d", (char *)NULL);
}

TEST(levels_below_the_chosen_one_are_silent)
{
    static const struct {
        const char *name;
        int lines;
    } levels[] = { { "error", 1 }, { "warn", 2 }, { "info", 3 }, { "debug", 4 } };
    for (size_t i = 0; i < RV_COUNT(levels); i++) {
        rv_log_level level = RV_LOG_INFO;
        CHECK(rv_log_parse_level(levels[i].name, &level) && level == (rv_log_level)i, "%s", levels[i].name);
        rv_log_setup(level, false);
        int lines = 0;
        for (const char *c = stderr_of(log_levels); *c; c++) {
            lines += *c == '\n';
        }
        CHECK(lines == levels[i].lines, "%s: %d lines", levels[i].name, lines);
    }
    rv_log_level level = RV_LOG_WARN;
    CHECK(!rv_log_parse_level("loud", &level) && level == RV_LOG_WARN, "an unknown level");
}

static void log_long(void)
{
    static char text[20001];
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        text[i] = '\x01'; /* six bytes when escaped */
    }
    rv_log(RV_LOG_ERROR, "long", "text", text, (char *)NULL);
    rv_log(RV_LOG_ERROR, "longer", "a", text, "b", text, "c", text, "d", text, "e", text, "f", text,
           (char *)NULL);
}

TEST(long_values_are_cut_and_a_line_too_long_says_so)
{
    for (int json = 0; json < 2; json++) {
        rv_log_setup(RV_LOG_INFO, json);
        char *line = (char *)(uintptr_t)stderr_of(log_long), *second = strchr(line, '\n') + 1;
        CHECK(second - line > 16000 && second - line < 30000, "%td bytes", second - line);
        CHECK(strstr(second, "log.lost") && strlen(second) < 200, "%.300s", second);
        json_t *o = NULL;
        if (json) {
            CHECK_OK(rv_json_parse(line, (size_t)(second - line), &o));
            json_decref(o);
            CHECK_OK(rv_json_parse(second, strlen(second), &o));
            json_decref(o);
        }
    }
}

static void *log_many(void *name)
{
    for (int i = 0; i < 200; i++) {
        rv_log(RV_LOG_INFO, "many", "who", (const char *)name, "text",
               "0123456789012345678901234567890123456789", (char *)NULL);
    }
    return NULL;
}

static void log_together(void)
{
    pthread_t threads[4];
    static char *const names[] = { "a", "b", "c", "d" };
    for (size_t i = 0; i < RV_COUNT(threads); i++) {
        pthread_create(&threads[i], NULL, log_many, names[i]);
    }
    for (size_t i = 0; i < RV_COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
}

TEST(lines_of_many_threads_do_not_mix)
{
    rv_log_setup(RV_LOG_INFO, true);
    const char *line = stderr_of(log_together);
    int lines = 0;
    for (const char *end; (end = strchr(line, '\n')); line = end + 1, lines++) {
        json_t *o = NULL;
        CHECK_OK(rv_json_parse(line, (size_t)(end - line), &o));
        json_decref(o);
    }
    CHECK(lines == 800, "%d lines", lines);
}
