/* The progress line on terminals of several widths: it never reaches the last column, where a terminal would scroll. */
#include "cli/cli.h"
#include "test.h"

#include "base/clock.h"

#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

/* What one draw writes to a terminal of so many columns, after its leading "\r\033[K". */
static void drawn(int columns, const char *what, uint64_t done, char out[1024])
{
    struct winsize size = { .ws_row = 24, .ws_col = (unsigned short)columns };
    int master = posix_openpt(O_RDWR | O_NOCTTY), kept = dup(STDERR_FILENO);
    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0, "no terminal");
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    CHECK(slave >= 0 && ioctl(slave, TIOCSWINSZ, &size) == 0, "no width");
    cmd_bar bar;
    cmd_bar_init(&bar);
    bar.start_ms = rv_clock_ms() - 100e3;
    bar.bytes = true;
    fflush(stderr);
    dup2(slave, STDERR_FILENO);
    cmd_bar_draw(&bar, what, done, 12345678901);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(slave);
    char all[2048];
    size_t n = 0;
    for (ssize_t some;
         (some = read(master, all + n, sizeof all - 1 - n)) > 0;) { /* in pieces, and an error at the end */
        n += (size_t)some;
    }
    CHECK(n >= 4 && memcmp(all, "\r\033[K", 4) == 0, "%zu bytes", n);
    all[n] = 0;
    snprintf(out, 1024, "%.1000s", all + 4);
    close(master);
    close(kept);
}

static int columns_of(const char *text)
{
    wchar_t wide[1024];
    size_t n = mbstowcs(wide, text, 1024);
    return n == (size_t)-1 ? 1 << 20 : wcswidth(wide, n);
}

TEST(the_line_is_never_as_wide_as_the_terminal)
{
    static const char *const what[] = {
        "a.md",
        "/home/someone/Documents/notes/2026/travel/the-long-way-to-the-sea/and-back-again/trip.md",
        "日本語/日本語/日本語/日本語.md",
        "\x1b[31m\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    };
    setlocale(LC_CTYPE, "C.UTF-8");
    for (size_t w = 0; w < RV_COUNT(what); w++) {
        for (int columns = 1; columns <= 200; columns++) {
            char line[1024];
            drawn(columns, what[w], 2345678901, line);
            CHECK(columns_of(line) < columns, "%d columns: \"%s\"", columns, line);
        }
    }
}

TEST(a_path_is_shortened_before_the_bar_and_keeps_its_end)
{
    static const char path[] = "/home/someone/Documents/notes/2026/travel/the-way-to-the-sea/trip.md";
    char line[1024];
    drawn(120, path, 2345678901, line);
    CHECK(strstr(line, "[####                    ]") && strstr(line, "...") && strstr(line, "sea/trip.md"),
          "%s", line);
    drawn(80, path, 2345678901, line);
    CHECK(strstr(line, "[####                    ]") && strstr(line, "min left"), "%s", line);
    drawn(60, path, 2345678901, line);
    CHECK(strstr(line, "[#") && strstr(line, "min left") && !strstr(line, "trip"), "%s", line);
    drawn(40, path, 2345678901, line);
    CHECK(!strchr(line, '[') && strstr(line, " 19 %"), "%s", line);
    drawn(120, "a.md", 0, line);
    CHECK(strstr(line, "  0 %") && strstr(line, "a.md") && !strstr(line, "left"), "%s", line);
}
