#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t rv_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double rv_clock_ms(void)
{
    return (double)rv_clock_ns() / 1e6;
}

int64_t rv_clock_wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void rv_clock_iso(int64_t wall_ms, char out[32])
{
    /* Outside the years 0 to 9999 the text would not be ISO 8601 any more. */
    static const int64_t first = -62167219200000, last = 253402300799999;
    int64_t ms = wall_ms < first ? first : wall_ms > last ? last : wall_ms;
    int64_t part = (ms % 1000 + 1000) % 1000;
    time_t seconds = (time_t)((ms - part) / 1000);
    struct tm d;
    gmtime_r(&seconds, &d);
    char text[96] =
        ""; /* the compiler cannot know that no field has more digits than the calendar gives it */
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", d.tm_year + 1900, d.tm_mon + 1,
             d.tm_mday, d.tm_hour, d.tm_min, d.tm_sec, (int)part);
    memcpy(out, text, 31);
    out[31] = 0;
}
