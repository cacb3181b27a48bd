#include "engine/stream_priv.h"

#include <string.h>

enum { STOPS_MAX = 64, HELD_MAX = 16 << 20 };
static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

rv_err rv_stream_check(const char *const *stops, size_t n_stops)
{
    if (n_stops > STOPS_MAX) {
        return rv_fail(RV_E_ARG, "%zu stop strings, expected at most %d", n_stops, STOPS_MAX);
    }
    for (size_t i = 0; i < n_stops; i++) {
        if (!*stops[i] || !rv_utf8_valid(stops[i], strlen(stops[i]))) {
            return rv_fail(RV_E_ARG, "stop string %zu is %s, expected text", i,
                           *stops[i] ? "not UTF-8" : "empty");
        }
    }
    return RV_OK;
}

void rv_stream_init(rv_stream *s, const rv_alloc *mem, const char *const *stops, size_t n_stops)
{
    *s = (rv_stream){ .stops = stops, .n_stops = n_stops };
    rv_text_init(&s->raw, mem, HELD_MAX);
    rv_text_init(&s->held, mem, HELD_MAX);
}

void rv_stream_deinit(rv_stream *s)
{
    rv_text_deinit(&s->raw);
    rv_text_deinit(&s->held);
}

bool rv_stream_failed(const rv_stream *s)
{
    return s->raw.failed || s->held.failed;
}

static void drop_front(rv_text *t, size_t n)
{
    if (n) {
        memmove(t->at, t->at + n, t->n - n + 1); /* its zero too */
        t->n -= n;
    }
}

/* The first n raw bytes become characters of the held text. */
static void add_characters(rv_stream *s, size_t n)
{
    const char *at = rv_text_get(&s->raw);
    for (size_t i = 0; i < n;) {
        uint32_t code;
        size_t length = rv_utf8_decode(at + i, n - i, &code);
        if (length) {
            rv_text_add(&s->held, at + i, length);
            i += length;
        } else {
            rv_text_adds(&s->held, replacement);
            i++;
        }
    }
    drop_front(&s->raw, n);
}

/* Looks at every place where a stop string could end since held had `from` bytes. Returns where it begins, or
 * held.n. */
static size_t find_stop(rv_stream *s, size_t from)
{
    for (size_t end = from + 1; end <= s->held.n; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < s->n_stops; i++) {
            size_t n = strlen(s->stops[i]);
            if (n <= end && n > longest && memcmp(s->held.at + end - n, s->stops[i], n) == 0) {
                longest = n;
                s->stop = s->stops[i];
            }
        }
        if (longest) {
            return end - longest;
        }
    }
    return s->held.n;
}

/* Length of the longest end of the held text with which a stop string begins. */
static size_t beginning(const rv_stream *s)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->n_stops; i++) {
        size_t n = strlen(s->stops[i]) - 1;
        for (n = n < s->held.n ? n : s->held.n; n > longest; n--) {
            if (memcmp(s->held.at + s->held.n - n, s->stops[i], n) == 0) {
                longest = n;
            }
        }
    }
    return longest;
}

rv_str rv_stream_push(rv_stream *s, const char *bytes, size_t n)
{
    drop_front(&s->held, s->given);
    s->given = 0;
    size_t before = s->held.n;
    rv_text_add(&s->raw, bytes, n);
    add_characters(s, rv_utf8_whole(rv_text_get(&s->raw), s->raw.n));
    s->given = find_stop(s, before);
    if (!s->stop) {
        s->given -= beginning(s);
    }
    return rv_str_of(rv_text_get(&s->held), s->given);
}

rv_str rv_stream_end(rv_stream *s)
{
    drop_front(&s->held, s->given);
    size_t before = s->held.n;
    add_characters(s, s->raw.n);
    s->given = find_stop(s, before); /* U+FFFD may be part of a stop string */
    return rv_str_of(rv_text_get(&s->held), s->given);
}
