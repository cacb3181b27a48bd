#include "base/clock.h"
#include "test.h"

#include <string.h>
#include <time.h>

TEST(the_monotonic_clock_moves_forward)
{
    uint64_t last = rv_clock_ns();
    double ms = rv_clock_ms();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = rv_clock_ns();
        CHECK(now >= last, "went back by %llu ns", (unsigned long long)(last - now));
        last = now;
    }
    nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    double slept = rv_clock_ms() - ms;
    CHECK(slept >= 20, "%g ms for 20", slept);
}

TEST(wall_time_is_utc)
{
    int64_t ours = rv_clock_wall_ms() / 1000, theirs = (int64_t)time(NULL);
    CHECK(ours - theirs >= -2 && ours - theirs <= 2, "%lld %lld", (long long)ours, (long long)theirs);
}

TEST(iso_text_has_milliseconds_and_stays_in_four_digit_years)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        { 0, "1970-01-01T00:00:00.000Z" },         { 1769903999123, "2026-01-31T23:59:59.123Z" },
        { -1, "1969-12-31T23:59:59.999Z" },        { 951782400000, "2000-02-29T00:00:00.000Z" },
        { INT64_MAX, "9999-12-31T23:59:59.999Z" }, { INT64_MIN, "0000-01-01T00:00:00.000Z" },
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        char text[32];
        memset(text, 'x', sizeof text);
        rv_clock_iso(cases[i].ms, text);
        CHECK(strcmp(text, cases[i].text) == 0, "%lld: %s", (long long)cases[i].ms, text);
    }
}
