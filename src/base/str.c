/* Views, growable texts, UTF-8 and numbers. */
#include "base/str.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- views ---- */

rv_str rv_str_from(const char *zero_terminated)
{
    return (rv_str){ zero_terminated, zero_terminated ? strlen(zero_terminated) : 0 };
}

bool rv_str_eq(rv_str a, const char *b)
{
    size_t n = strlen(b);
    return a.n == n && (n == 0 || memcmp(a.at, b, n) == 0);
}

bool rv_str_starts(rv_str a, const char *prefix)
{
    size_t n = strlen(prefix);
    return a.n >= n && (n == 0 || memcmp(a.at, prefix, n) == 0);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

rv_str rv_str_trim(rv_str a)
{
    while (a.n > 0 && is_space(a.at[0])) {
        a.at++;
        a.n--;
    }
    while (a.n > 0 && is_space(a.at[a.n - 1])) {
        a.n--;
    }
    return a;
}

/* ---- growable texts ---- */

void rv_text_init(rv_text *t, const rv_alloc *mem, size_t max_bytes)
{
    *t = (rv_text){ .mem = mem, .max = max_bytes };
}

void rv_text_deinit(rv_text *t)
{
    rv_free(t->mem, t->at);
    *t = (rv_text){ .mem = t->mem, .max = t->max };
}

/* Room for n more bytes and the zero after them. */
static bool make_room(rv_text *t, size_t n)
{
    size_t need;
    if (t->failed || n > t->max - t->n || !rv_add_size(t->n, n, &need) || !rv_add_size(need, 1, &need)) {
        t->failed = true;
        return false;
    }
    if (need <= t->room) {
        return true;
    }
    size_t room = t->room ? t->room : 64;
    while (room < need) {
        room = room > SIZE_MAX / 2 ? need : room * 2;
    }
    if (t->max < SIZE_MAX && room > t->max + 1) {
        room = t->max + 1;
    }
    char *at = rv_resize(t->mem, t->at, room);
    if (!at) {
        t->failed = true;
        return false;
    }
    t->at = at;
    t->room = room;
    return true;
}

void rv_text_add(rv_text *t, const char *bytes, size_t n)
{
    if (n == 0 || !make_room(t, n)) {
        return;
    }
    memcpy(t->at + t->n, bytes, n);
    t->n += n;
    t->at[t->n] = 0;
}

void rv_text_adds(rv_text *t, const char *zero_terminated)
{
    rv_text_add(t, zero_terminated, strlen(zero_terminated));
}

void rv_text_addc(rv_text *t, char c)
{
    rv_text_add(t, &c, 1);
}

void rv_text_addf(rv_text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        t->failed = true;
    } else if (n > 0 && make_room(t, (size_t)n)) {
        vsnprintf(t->at + t->n, (size_t)n + 1, format, again);
        t->n += (size_t)n;
    }
    va_end(again);
}

void rv_text_clear(rv_text *t)
{
    t->n = 0;
    t->failed = false;
    if (t->at) {
        t->at[0] = 0;
    }
}

rv_err rv_text_check(const rv_text *t)
{
    if (t->failed) {
        return rv_fail(RV_E_NOMEM, "a text grew past its limit of %zu bytes, or memory ran out", t->max);
    }
    return RV_OK;
}

char *rv_text_take(rv_text *t)
{
    char *taken = t->failed ? NULL : t->at ? t->at : rv_new(t->mem, 1);
    if (taken) {
        t->at = NULL;
    }
    rv_text_deinit(t);
    return taken;
}

const char *rv_text_get(const rv_text *t)
{
    return t->at ? t->at : "";
}

/* ---- UTF-8 ---- */

/* How many bytes a character that begins with this one has; 0: no character begins so. */
static size_t utf8_length(unsigned char lead)
{
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xc2) {
        return 0; /* a continuation, or C0 and C1, which only begin over-long forms */
    }
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

/* Whether b may be the second byte after lead: here over-long forms, surrogates and > 0x10ffff end. */
static bool utf8_second(unsigned char lead, unsigned char b)
{
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    return b >= low && b <= high;
}

size_t rv_utf8_decode(const char *at, size_t n, uint32_t *code)
{
    if (n == 0) {
        return 0;
    }
    const unsigned char *b = (const unsigned char *)at;
    size_t length = utf8_length(b[0]);
    if (length <= 1) {
        *code = length ? b[0] : *code;
        return length;
    }
    if (length > n || !utf8_second(b[0], b[1])) {
        return 0;
    }
    uint32_t c = b[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((b[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (b[i] & 0x3f);
    }
    *code = c;
    return length;
}

size_t rv_utf8_encode(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        if (code >= 0xd800 && code < 0xe000) {
            return 0;
        }
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    if (code > 0x10ffff) {
        return 0;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

bool rv_utf8_valid(const char *at, size_t n)
{
    uint32_t code;
    for (size_t i = 0; i < n;) {
        size_t length = rv_utf8_decode(at + i, n - i, &code);
        if (length == 0) {
            return false;
        }
        i += length;
    }
    return true;
}

size_t rv_utf8_whole(const char *at, size_t n)
{
    /* Only the last three bytes can belong to a character that is still to come. */
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char b = (unsigned char)at[n - back];
        if ((b & 0xc0) == 0x80) {
            continue;
        }
        size_t length = utf8_length(b);
        bool unfinished = length > back && (back == 1 || utf8_second(b, (unsigned char)at[n - back + 1]));
        return unfinished ? n - back : n;
    }
    return n;
}

size_t rv_escape(const char *at, size_t n, char *out, size_t room)
{
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        char piece[12];
        uint32_t code = 0;
        size_t length = rv_utf8_decode(at + i, n - i, &code);
        int size;
        if (length == 0) {
            length = 1;
            size = snprintf(piece, sizeof piece, "\\x%02x", (unsigned char)at[i]);
        } else if (code == '\n' || code == '\t' || code == '\r') {
            size = snprintf(piece, sizeof piece, "\\%c", code == '\n' ? 'n' : code == '\t' ? 't' : 'r');
        } else if (code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x202a && code <= 0x202e) ||
                   (code >= 0x2066 && code <= 0x2069) || code == 0x2028 || code == 0x2029) {
            size = snprintf(piece, sizeof piece, "\\u%04x", (unsigned)code);
        } else {
            memcpy(piece, at + i, length);
            size = (int)length;
        }
        if (used + (size_t)size >= room) {
            break;
        }
        memcpy(out + used, piece, (size_t)size);
        used += (size_t)size;
        i += length;
    }
    out[used] = 0;
    return used;
}

/* ---- numbers ---- */

bool rv_parse_u64(rv_str s, uint64_t *out)
{
    if (s.n == 0) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)(unsigned char)s.at[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

bool rv_parse_i64(rv_str s, int64_t *out)
{
    bool minus = s.n > 0 && s.at[0] == '-';
    if (minus || (s.n > 0 && s.at[0] == '+')) {
        s = rv_str_of(s.at + 1, s.n - 1);
    }
    uint64_t size;
    if (!rv_parse_u64(s, &size) || size > (uint64_t)INT64_MAX + minus) {
        return false;
    }
    *out = minus ? (int64_t)(0 - size) : (int64_t)size;
    return true;
}

bool rv_parse_f64(rv_str s, double *out)
{
    char copy[400]; /* longer than any number a person or a program prints */
    if (s.n == 0 || s.n >= sizeof copy) {
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (!strchr("0123456789+-.eE", s.at[i]) || s.at[i] == 0) {
            return false;
        }
    }
    memcpy(copy, s.at, s.n);
    copy[s.n] = 0;
    char *end;
    double value = strtod(copy, &end);
    if (end != copy + s.n || !isfinite(value)) {
        return false;
    }
    *out = value;
    return true;
}
