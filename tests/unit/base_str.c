#include "base/str.h"
#include "test.h"

#include <math.h>
#include <string.h>

TEST(views_compare_and_trim)
{
    rv_str s = rv_str_from("  \t hello \r\n");
    CHECK(rv_str_eq(rv_str_trim(s), "hello"), "trim");
    CHECK(rv_str_eq(rv_str_trim(rv_str_from(" \n")), ""), "only white space");
    CHECK(rv_str_from(NULL).n == 0 && rv_str_eq(rv_str_from(NULL), ""), "NULL is empty");
    CHECK(!rv_str_eq(rv_str_from("hello"), "hell") && !rv_str_eq(rv_str_from("hell"), "hello"),
          "lengths differ");
    CHECK(rv_str_starts(rv_str_from("hello"), "he") && rv_str_starts(rv_str_from("he"), ""), "starts");
    CHECK(!rv_str_starts(rv_str_from("h"), "he") && !rv_str_starts(rv_str_from("xe"), "he"),
          "does not start");
}

TEST(a_text_grows_up_to_its_maximum_and_remembers_failure)
{
    rv_text t;
    rv_text_init(&t, &rv_heap, 100);
    CHECK(strcmp(rv_text_get(&t), "") == 0 && t.at == NULL, "empty");
    rv_text_adds(&t, "");
    rv_text_addf(&t, "%s", "");
    for (int i = 0; i < 100; i++) {
        rv_text_addc(&t, (char)('a' + i % 26));
    }
    CHECK_OK(rv_text_check(&t));
    CHECK(t.n == 100 && t.at[100] == 0 && t.room <= 101, "n %zu room %zu", t.n, t.room);
    rv_text_addc(&t, '!');
    CHECK_ERR(rv_text_check(&t), RV_E_NOMEM);
    CHECK(t.n == 100 && t.at[99] == 'v', "what was there stays: %s", t.at);
    CHECK(rv_text_take(&t) == NULL, "a failed text is not handed out");

    rv_text_init(&t, &rv_heap, 10);
    rv_text_adds(&t, "12345678901");
    rv_text_adds(&t, "1");
    CHECK_ERR(rv_text_check(&t), RV_E_NOMEM);
    rv_text_clear(&t);
    CHECK_OK(rv_text_check(&t));
    rv_text_addf(&t, "%d|%s", 12, "ab");
    CHECK(strcmp(rv_text_get(&t), "12|ab") == 0, "%s", rv_text_get(&t));
    rv_text_addf(&t, "%s", "123456");
    CHECK(t.failed && strcmp(t.at, "12|ab") == 0, "too long by one: %s", t.at);
    rv_text_deinit(&t);
    rv_text_deinit(&t); /* twice is fine */
}

TEST(taking_moves_the_text)
{
    rv_text t;
    rv_text_init(&t, &rv_heap, SIZE_MAX);
    char *empty = rv_text_take(&t);
    CHECK(empty && empty[0] == 0, "an empty text is an empty string");
    rv_free(&rv_heap, empty);
    rv_text_adds(&t, "abc");
    char *abc = rv_text_take(&t);
    CHECK(strcmp(abc, "abc") == 0 && t.n == 0 && t.at == NULL, "%s", abc);
    rv_free(&rv_heap, abc);
}

/* The definition: a code point's only encoding, made by hand. */
static size_t encode(uint32_t c, char out[4])
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    for (size_t i = n; i-- > 1; c >>= 6) {
        out[i] = (char)(0x80 | (c & 0x3f));
    }
    out[0] = (char)(lead[n] | c);
    return n;
}

TEST(every_character_survives_utf8_and_nothing_else_is_read)
{
    char ours[4], theirs[4];
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c < 0xe000) {
            size_t n = encode(c, theirs);
            uint32_t code = 7;
            CHECK(rv_utf8_encode(c, ours) == 0 && rv_utf8_decode(theirs, n, &code) == 0 && code == 7,
                  "surrogate %x", c);
            continue;
        }
        size_t n = rv_utf8_encode(c, ours);
        uint32_t code = 0;
        CHECK(n == encode(c, theirs) && memcmp(ours, theirs, n) == 0, "encode %x", c);
        CHECK(rv_utf8_decode(ours, n, &code) == n && code == c, "decode %x: %x", c, code);
        for (size_t cut = 0; cut < n; cut++) {
            CHECK(rv_utf8_decode(ours, cut, &code) == 0, "%x cut to %zu", c, cut);
            CHECK(rv_utf8_whole(ours, cut) == 0, "%x cut to %zu is not whole", c, cut);
        }
        CHECK(rv_utf8_whole(ours, n) == n, "%x is whole", c);
    }
    CHECK(rv_utf8_encode(0x110000, ours) == 0, "past the last character");
    /* All pairs and triples with a wrong byte: valid exactly when the bytes are some character's encoding. */
    size_t valid = 0;
    for (uint32_t b = 0; b < 1 << 16; b++) {
        char two[2] = { (char)(b >> 8), (char)b };
        uint32_t code;
        valid += rv_utf8_decode(two, 2, &code) == 2;
    }
    CHECK(valid == 0x800 - 0x80, "%zu two-byte characters", valid);
    valid = 0;
    for (uint32_t b = 0; b < 1 << 24; b++) {
        char three[3] = { (char)(b >> 16), (char)(b >> 8), (char)b };
        uint32_t code;
        valid += (b >> 16) >= 0xe0 && (b >> 16) < 0xf0 && rv_utf8_decode(three, 3, &code) == 3;
    }
    CHECK(valid == 0x10000 - 0x800 - 0x800, "%zu three-byte characters", valid);
}

TEST(malformed_utf8_is_seen)
{
    static const char *const bad[] = { "\x80",
                                       "\xc0\x80",
                                       "\xc1\xbf",
                                       "\xe0\x9f\xbf",
                                       "\xf0\x8f\xbf\xbf",
                                       "\xf4\x90\x80\x80",
                                       "\xf5\x80\x80\x80",
                                       "\xff",
                                       "a\xc3",
                                       "\xc3(" };
    for (size_t i = 0; i < RV_COUNT(bad); i++) {
        CHECK(!rv_utf8_valid(bad[i], strlen(bad[i])), "case %zu", i);
    }
    CHECK(rv_utf8_valid("a\xc3\xa4\xf0\x9f\x98\x80", 7) && rv_utf8_valid("", 0) && rv_utf8_valid("a\0b", 3),
          "valid");
    /* A malformed end is not waited for: no byte to come would make it whole. */
    CHECK(rv_utf8_whole("ab\xff", 3) == 3 && rv_utf8_whole("ab\xe0\x80", 4) == 4,
          "malformed is not unfinished");
    CHECK(rv_utf8_whole("\x80\x80\x80\x80", 4) == 4, "only continuations");
    CHECK(rv_utf8_whole("a\xf0\x9f\x98", 4) == 1 && rv_utf8_whole("a\xe2\x82", 3) == 1, "unfinished");
}

TEST(escaping_cuts_between_pieces)
{
    char out[64];
    CHECK(rv_escape("a\nb\t\r\x1b\x7f\xc2\x9b", 9, out, sizeof out) == strlen(out), "length");
    CHECK(strcmp(out, "a\\nb\\t\\r\\u001b\\u007f\\u009b") == 0, "%s", out);
    rv_escape("\xe2\x80\xae \xe2\x81\xa6 \xe2\x80\xa8", 11, out, sizeof out);
    CHECK(strcmp(out, "\\u202e \\u2066 \\u2028") == 0, "%s", out);
    for (size_t room = 1; room < 16; room++) {
        memset(out, 'x', sizeof out);
        size_t n = rv_escape("ab\x1b\xc3\xa4", 5, out, room);
        CHECK(n < room && out[n] == 0 && out[room] == 'x', "room %zu", room);
        CHECK(n == (room <= 2 ? room - 1 : room <= 8 ? 2 : room <= 10 ? 8 : 10), "room %zu n %zu", room, n);
    }
}

TEST(numbers_are_whole_or_refused)
{
    uint64_t u = 7;
    int64_t i = 7;
    double d = 7;
    CHECK(rv_parse_u64(rv_str_from("18446744073709551615"), &u) && u == UINT64_MAX, "max");
    static const char *const not_u[] = {
        "", "18446744073709551616", "99999999999999999999999", "-1", "+1", "1 ", " 1", "0x1", "1a"
    };
    for (size_t k = 0; k < RV_COUNT(not_u); k++) {
        CHECK(!rv_parse_u64(rv_str_from(not_u[k]), &u) && u == UINT64_MAX, "\"%s\"", not_u[k]);
    }
    CHECK(rv_parse_i64(rv_str_from("-9223372036854775808"), &i) && i == INT64_MIN, "min");
    CHECK(rv_parse_i64(rv_str_from("+9223372036854775807"), &i) && i == INT64_MAX, "max");
    static const char *const not_i[] = { "",    "-",  "+", "9223372036854775808", "-9223372036854775809",
                                         "--1", "1.0" };
    for (size_t k = 0; k < RV_COUNT(not_i); k++) {
        CHECK(!rv_parse_i64(rv_str_from(not_i[k]), &i) && i == INT64_MAX, "\"%s\"", not_i[k]);
    }
    CHECK(rv_parse_f64(rv_str_from("-1.5e3"), &d) && d == -1500, "%g", d);
    CHECK(rv_parse_f64(rv_str_of("0.25xyz", 4), &d) && d == 0.25, "only the view is read: %g", d);
    static const char *const not_d[] = { "", "nan", "inf", "1e999", "0x10", " 1", "1 ", "1.2.3", "e5", "-" };
    for (size_t k = 0; k < RV_COUNT(not_d); k++) {
        CHECK(!rv_parse_f64(rv_str_from(not_d[k]), &d) && d == 0.25, "\"%s\"", not_d[k]);
    }
    char longest[500];
    memset(longest, '1', sizeof longest);
    CHECK(!rv_parse_f64(rv_str_of(longest, sizeof longest), &d) && !rv_parse_f64(rv_str_of("1\0", 2), &d),
          "too long, NUL");
}
