#include "base/rng.h"
#include "engine/stream_priv.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

/* Pushes text in pieces of the given sizes (cyclic) and returns all that came out; *stop what ended it. */
static const char *through(const char *text, size_t n, const char *const *stops, size_t n_stops,
                           const size_t *sizes, size_t n_sizes, const char **stop)
{
    static char out[1 << 14];
    size_t used = 0, at = 0;
    rv_stream s;
    rv_stream_init(&s, &rv_heap, stops, n_stops);
    for (size_t i = 0; at < n && !s.stop; i++) {
        size_t len = sizes[i % n_sizes];
        len = len < n - at ? len : n - at;
        rv_str piece = rv_stream_push(&s, text + at, len);
        CHECK(rv_utf8_valid(piece.at, piece.n), "half a character came out");
        memcpy(out + used, piece.at, piece.n);
        used += piece.n;
        at += len;
    }
    if (!s.stop) {
        rv_str piece = rv_stream_end(&s);
        memcpy(out + used, piece.at, piece.n);
        used += piece.n;
    }
    CHECK(!rv_stream_failed(&s), "out of memory");
    *stop = s.stop;
    rv_stream_deinit(&s);
    out[used] = 0;
    return out;
}

static const struct {
    const char *text, *expected, *stop;
    const char *stops[4];
} cases[] = {
    { "plain text", "plain text", NULL, { 0 } },
    { "", "", NULL, { "x" } },
    { "one END two", "one ", "END", { "END" } },
    { "one EN", "one EN", NULL, { "END" } },
    { "one ENEND", "one EN", "END", { "END" } },
    { "aaaab", "aa", "aab", { "aab" } },
    { "abcd", "a", "bc", { "bcd", "bc" } },        /* bc is complete first */
    { "xabcd", "x", "abc", { "bc", "abc", "c" } }, /* of those complete at once the longest */
    { "\n\nUser: hi", "", "\n\nUser:", { "\n\nUser:" } },
    { "gr\xc3\xbc\xc3\x9f"
      "e \xe2\x82\xac \xf0\x9f\x98\x80!",
      "gr\xc3\xbc\xc3\x9f"
      "e \xe2\x82\xac \xf0\x9f\x98\x80!",
      NULL,
      { 0 } },
    { "5 \xe2\x82\xac und", "5 ", "\xe2\x82\xac", { "\xe2\x82\xac" } },
    { "5 \xe2\x82\xad", "5 \xe2\x82\xad", NULL, { "\xe2\x82\xac" } },
    { "bad \xff\xc3( \xe2\x82", "bad \xef\xbf\xbd\xef\xbf\xbd( \xef\xbf\xbd\xef\xbf\xbd", NULL, { 0 } },
    { "\x80\x80\xf0\x9f\x98", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", NULL, { "q" } },
    { "cut \xc3", "cut ", "\xef\xbf\xbd", { "\xef\xbf\xbd" } },
};

TEST(text_does_not_depend_on_how_it_was_cut)
{
    static const size_t cuts[][3] = { { 1, 1, 1 }, { 2, 2, 2 }, { 3, 3, 3 },
                                      { 1, 2, 3 }, { 5, 1, 1 }, { 100, 100, 100 } };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        size_t n_stops = 0;
        while (n_stops < 4 && cases[i].stops[n_stops]) {
            n_stops++;
        }
        for (size_t c = 0; c < RV_COUNT(cuts); c++) {
            const char *stop;
            const char *out =
                through(cases[i].text, strlen(cases[i].text), cases[i].stops, n_stops, cuts[c], 3, &stop);
            CHECK(strcmp(out, cases[i].expected) == 0, "case %zu cut %zu: \"%s\", expected \"%s\"", i, c, out,
                  cases[i].expected);
            CHECK((!stop && !cases[i].stop) || (stop && cases[i].stop && strcmp(stop, cases[i].stop) == 0),
                  "case %zu cut %zu: stop %s", i, c, stop ? stop : "none");
        }
    }
}

TEST(random_bytes_come_out_the_same_for_any_cut)
{
    static const char *const stops[] = { "abab", "b\xc3\xa4", "aac" };
    static const char letters[] = { 'a', 'b', 'c', '\xc3', '\xa4', '\xe2', '\x82', '\xf0' };
    rv_rng rng;
    rv_rng_init(&rng, 9);
    for (int round = 0; round < 3000; round++) {
        char text[40], whole[4096];
        size_t n = rv_rng_below(&rng, sizeof text), sizes[7];
        for (size_t i = 0; i < n; i++) {
            text[i] = letters[rv_rng_below(&rng, sizeof letters)];
        }
        const char *stop, *again;
        snprintf(whole, sizeof whole, "%s", through(text, n, stops, 3, &(size_t){ 100 }, 1, &stop));
        for (size_t i = 0; i < RV_COUNT(sizes); i++) {
            sizes[i] = 1 + rv_rng_below(&rng, 4);
        }
        const char *out = through(text, n, stops, 3, sizes, RV_COUNT(sizes), &again);
        CHECK(strcmp(out, whole) == 0 && stop == again, "round %d: \"%s\" and \"%s\"", round, out, whole);
        for (size_t i = 0; i < RV_COUNT(stops); i++) {
            CHECK(!strstr(out, stops[i]), "round %d: a stop string came out", round);
        }
    }
}

TEST(only_what_may_become_a_stop_string_is_held_back)
{
    static const char *const stops[] = { "STOP" };
    rv_stream s;
    rv_stream_init(&s, &rv_heap, stops, 1);
    CHECK(rv_stream_push(&s, "abcS", 4).n == 3, "S may begin STOP");
    CHECK(rv_stream_push(&s, "T", 1).n == 0, "ST may");
    rv_str out = rv_stream_push(&s, "A", 1);
    CHECK(out.n == 3 && memcmp(out.at, "STA", 3) == 0, "STA may not");
    CHECK(rv_stream_push(&s, "\xc3", 1).n == 0, "half a character");
    CHECK(rv_stream_push(&s, "\xbcx", 2).n == 3, "now it is whole");
    rv_stream_deinit(&s);
}

TEST(bad_stop_strings_are_refused)
{
    static const char *const empty[] = { "a", "" }, *const broken[] = { "\xff" };
    CHECK_ERR(rv_stream_check(empty, 2), RV_E_ARG);
    CHECK_ERR(rv_stream_check(broken, 1), RV_E_ARG);
    CHECK_ERR(rv_stream_check(empty, 100), RV_E_ARG);
    CHECK_OK(rv_stream_check(empty, 1));
    CHECK_OK(rv_stream_check(NULL, 0));
}

TEST(long_stop_strings_are_found_and_longer_ones_refused)
{
    static char stop[RV_STOP_BYTES_MAX + 2], text[3 * RV_STOP_BYTES_MAX];
    memset(stop, 'a', RV_STOP_BYTES_MAX);
    stop[RV_STOP_BYTES_MAX - 1] = 'b';
    const char *const stops[] = { stop, "aab\xc3\xa4" };
    CHECK_OK(rv_stream_check(stops, 2));
    memset(text, 'a', sizeof text);
    text[0] = '<';
    memcpy(text + sizeof text - 5, "b\xc3\xa4--", 5);
    size_t sizes[] = { 1, 7, 1000 };
    const char *found = NULL, *out = through(text, sizeof text, stops, 2, sizes, 3, &found);
    CHECK(found == stop && strlen(out) == sizeof text - 4 - RV_STOP_BYTES_MAX, "%zu bytes came out",
          strlen(out));
    stop[RV_STOP_BYTES_MAX] = 'c';
    CHECK_ERR(rv_stream_check(stops, 2), RV_E_ARG);
    CHECK(strstr(rv_err_text(), "4096"), "%s", rv_err_text());
}
