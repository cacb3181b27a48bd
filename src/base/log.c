/* One line per event, put together in memory and written with one call, so that lines of two threads do not mix. */
#include "base/log.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 << 10, VALUE_MAX_BYTES = 4 << 10 };

static const char *const level_names[] = { "error", "warn", "info", "debug" };

static struct {
    rv_log_level level;
    bool json;
} setup = { RV_LOG_INFO, false };

void rv_log_setup(rv_log_level level, bool json)
{
    setup.level = level;
    setup.json = json;
}

bool rv_log_parse_level(const char *text, rv_log_level *out)
{
    for (size_t i = 0; i < RV_COUNT(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *out = (rv_log_level)i;
            return true;
        }
    }
    return false;
}

/* logfmt: bare where that is unambiguous, else quoted; no raw control byte either way. A backslash of the value itself is doubled,
 * or one before a quote would let the value end there. */
static void add_value(rv_text *line, const char *value, size_t n)
{
    char clean[VALUE_MAX_BYTES * 4 + 1]; /* an escape is at most six bytes for two, or four for one */
    bool bare = n > 0 && rv_escape(value, n, clean, sizeof clean) == n && !strpbrk(clean, " =\"\\");
    if (bare) {
        rv_text_adds(line, clean);
        return;
    }
    rv_text_addc(line, '"');
    for (size_t i = 0; i < n;) {
        size_t plain = 0;
        while (i + plain < n && value[i + plain] != '"' && value[i + plain] != '\\') {
            plain++;
        }
        rv_text_add(line, clean, rv_escape(value + i, plain, clean, sizeof clean));
        i += plain;
        if (i < n) {
            rv_text_addc(line, '\\');
            rv_text_addc(line, value[i++]);
        }
    }
    rv_text_addc(line, '"');
}

static void add_pair(rv_text *line, const char *key, const char *value)
{
    value = value ? value : "";
    size_t n = strnlen(value, VALUE_MAX_BYTES);
    if (n == VALUE_MAX_BYTES) {
        n = rv_utf8_whole(value, n);
    }
    if (setup.json) {
        rv_text_addc(line, line->n ? ',' : '{');
        rv_json_string(line, key, strlen(key));
        rv_text_addc(line, ':');
        rv_json_string(line, value, n);
        return;
    }
    if (line->n) {
        rv_text_addc(line, ' ');
    }
    rv_text_adds(line, key);
    rv_text_addc(line, '=');
    add_value(line, value, n);
}

/* A log that cannot be written has nowhere to say so: the one place where a failed write is let go. */
static void write_all(const char *at, size_t n)
{
    while (n > 0) {
        ssize_t put = write(STDERR_FILENO, at, n);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return;
        }
        at += put;
        n -= (size_t)put;
    }
}

void rv_log(rv_log_level level, const char *event, ...)
{
    if (level > setup.level) {
        return;
    }
    char now[32];
    rv_clock_iso(rv_clock_wall_ms(), now);
    rv_text line;
    rv_text_init(&line, &rv_heap, LINE_MAX_BYTES);
    add_pair(&line, "time", now);
    add_pair(&line, "level", level_names[level]);
    add_pair(&line, "event", event);
    va_list args;
    va_start(args, event);
    for (const char *key; (key = va_arg(args, const char *)) != NULL;) {
        add_pair(&line, key, va_arg(args, const char *));
    }
    va_end(args);
    rv_text_adds(&line, setup.json ? "}\n" : "\n");
    if (rv_text_check(&line)) {
        static const char lost[] = "level=error event=log.lost reason=\"line too long, or no memory\"\n";
        static const char lost_json[] = "{\"level\":\"error\",\"event\":\"log.lost\"}\n";
        write_all(setup.json ? lost_json : lost, setup.json ? sizeof lost_json - 1 : sizeof lost - 1);
    } else {
        write_all(line.at, line.n);
    }
    rv_text_deinit(&line);
}
