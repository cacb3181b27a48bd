#include "engine/stream_priv.h"

#include <string.h>

enum { HELD_MAX = 16 << 20 };
static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

rv_err rv_stream_check(const char *const *stops, size_t n_stops)
{
    if (n_stops > RV_STOPS_MAX) {
        return rv_fail(RV_E_ARG, "%zu stop strings, expected at most %d", n_stops, RV_STOPS_MAX);
    }
    for (size_t i = 0; i < n_stops; i++) {
        size_t n = strnlen(stops[i], RV_STOP_BYTES_MAX + 1);
        if (n > RV_STOP_BYTES_MAX) {
            return rv_fail(RV_E_ARG, "stop string %zu is longer than %d bytes", i, RV_STOP_BYTES_MAX);
        }
        if (!n || !rv_utf8_valid(stops[i], n)) {
            return rv_fail(RV_E_ARG, "stop string %zu is %s, expected text", i, n ? "not UTF-8" : "empty");
        }
    }
    return RV_OK;
}

/* back[i]: length of the longest proper beginning of the string that is also an end of its first i + 1 bytes. */
static void fill_back(rv_stop *stop)
{
    for (size_t i = 1, same = 0; i < stop->n; i++) {
        while (same && stop->text[i] != stop->text[same]) {
            same = stop->back[same - 1];
        }
        same += stop->text[i] == stop->text[same];
        stop->back[i] = (uint16_t)same;
    }
}

void rv_stream_init(rv_stream *s, const rv_alloc *mem, const char *const *stops, size_t n_stops)
{
    *s = (rv_stream){ .mem = mem, .n_stops = n_stops };
    rv_text_init(&s->raw, mem, HELD_MAX);
    rv_text_init(&s->held, mem, HELD_MAX);
    size_t all = 0;
    for (size_t i = 0; i < n_stops; i++) {
        s->stops[i] = (rv_stop){ .text = stops[i], .n = strlen(stops[i]) };
        all += s->stops[i].n;
    }
    s->tables = all ? rv_new_array(mem, all, sizeof *s->tables) : NULL;
    if (all && !s->tables) {
        s->raw.failed = true;
        s->n_stops = 0;
    }
    for (size_t i = 0, at = 0; i < s->n_stops; at += s->stops[i++].n) {
        s->stops[i].back = s->tables + at;
        fill_back(&s->stops[i]);
    }
}

void rv_stream_deinit(rv_stream *s)
{
    rv_text_deinit(&s->raw);
    rv_text_deinit(&s->held);
    rv_free(s->mem, s->tables);
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

/* Takes in the held bytes from `from` on. Returns where a stop string begins that is complete with one of them, or
 * held.n. */
static size_t find_stop(rv_stream *s, size_t from)
{
    for (size_t at = from; at < s->held.n; at++) {
        size_t longest = 0;
        for (size_t i = 0; i < s->n_stops; i++) {
            rv_stop *stop = &s->stops[i];
            while (stop->matched && stop->text[stop->matched] != s->held.at[at]) {
                stop->matched = stop->back[stop->matched - 1];
            }
            stop->matched += stop->text[stop->matched] == s->held.at[at];
            if (stop->matched == stop->n && stop->n > longest) {
                longest = stop->n;
                s->stop = stop->text;
            }
        }
        if (longest) {
            return at + 1 - longest;
        }
    }
    return s->held.n;
}

/* Length of the longest end of the held text with which a stop string begins. */
static size_t beginning(const rv_stream *s)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->n_stops; i++) {
        longest = s->stops[i].matched > longest ? s->stops[i].matched : longest;
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
