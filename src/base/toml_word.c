/* The forms of TOML's numbers, dates and times. Each function takes the whole word and says yes or no. */
#include "base/toml_priv.h"

#include <math.h>
#include <stdlib.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* How many bytes of s belong to digits and underscores. */
static size_t digit_span(rv_str s)
{
    size_t n = 0;
    while (n < s.n && (is_digit(s.at[n]) || s.at[n] == '_')) {
        n++;
    }
    return n;
}

/* ---- dates and times ---- */

/* n digits of *s, moving on; false when they are not there or the number is outside low..high. */
static bool take_number(rv_str *s, size_t n, int low, int high, int *out)
{
    int value = 0;
    if (s->n < n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(s->at[i])) {
            return false;
        }
        value = value * 10 + (s->at[i] - '0');
    }
    *s = rv_str_of(s->at + n, s->n - n);
    *out = value;
    return value >= low && value <= high;
}

static bool take_char(rv_str *s, char c)
{
    if (s->n == 0 || s->at[0] != c) {
        return false;
    }
    *s = rv_str_of(s->at + 1, s->n - 1);
    return true;
}

static bool take_date(rv_str *s, rv_text *out)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int year, month, day;
    if (!take_number(s, 4, 0, 9999, &year) || !take_char(s, '-') || !take_number(s, 2, 1, 12, &month) ||
        !take_char(s, '-') || !take_number(s, 2, 1, 31, &day)) {
        return false;
    }
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > days[month - 1] + (month == 2 && leap)) {
        return false;
    }
    rv_text_addf(out, "%04d-%02d-%02d", year, month, day);
    return true;
}

static bool take_time(rv_str *s, rv_text *out)
{
    int hour, minute, second;
    if (!take_number(s, 2, 0, 23, &hour) || !take_char(s, ':') || !take_number(s, 2, 0, 59, &minute) ||
        !take_char(s, ':') || !take_number(s, 2, 0, 60, &second)) { /* 60: a leap second */
        return false;
    }
    rv_text_addf(out, "%02d:%02d:%02d", hour, minute, second);
    if (!take_char(s, '.')) {
        return true;
    }
    size_t digits = 0;
    rv_text_addc(out, '.');
    for (; s->n > 0 && is_digit(s->at[0]); digits++, *s = rv_str_of(s->at + 1, s->n - 1)) {
        if (digits < 9) { /* more precise than a nanosecond is cut */
            rv_text_addc(out, s->at[0]);
        }
    }
    for (size_t i = digits; digits > 0 && i < 3; i++) {
        rv_text_addc(out, '0');
    }
    return digits > 0;
}

/* Z or +hh:mm */
static bool take_offset(rv_str *s, rv_text *out)
{
    if (take_char(s, 'Z') || take_char(s, 'z')) {
        rv_text_addc(out, 'Z');
        return true;
    }
    int hour, minute;
    char sign = s->n > 0 ? s->at[0] : 0;
    if ((sign != '+' && sign != '-') || !take_char(s, sign) || !take_number(s, 2, 0, 23, &hour) ||
        !take_char(s, ':') || !take_number(s, 2, 0, 59, &minute)) {
        return false;
    }
    rv_text_addf(out, "%c%02d:%02d", sign, hour, minute);
    return true;
}

rv_toml_match rv_toml_datetime(rv_str s, rv_text *out, rv_toml_type *type)
{
    size_t lead = digit_span(s);
    bool time = lead == 2 && lead < s.n && s.at[2] == ':', date = lead == 4 && lead < s.n && s.at[4] == '-';
    rv_text_clear(out);
    if (time) {
        *type = RV_TOML_TIME_LOCAL;
        return take_time(&s, out) && s.n == 0 ? RV_TOML_FITS : RV_TOML_WRONG;
    }
    if (!date) {
        return RV_TOML_OTHER;
    }
    if (!take_date(&s, out)) {
        return RV_TOML_WRONG;
    }
    *type = RV_TOML_DATE_LOCAL;
    if (s.n == 0) {
        return RV_TOML_FITS;
    }
    rv_text_addc(out, 'T');
    if ((!take_char(&s, 'T') && !take_char(&s, 't') && !take_char(&s, ' ')) || !take_time(&s, out)) {
        return RV_TOML_WRONG;
    }
    *type = s.n == 0 ? RV_TOML_DATETIME_LOCAL : RV_TOML_DATETIME;
    return s.n == 0 || (take_offset(&s, out) && s.n == 0) ? RV_TOML_FITS : RV_TOML_WRONG;
}

/* ---- numbers ---- */

/* Digits of the base with single underscores between them. */
static bool well_spaced(rv_str s, bool (*digit)(char))
{
    bool last_digit = false;
    for (size_t i = 0; i < s.n; i++) {
        bool is = digit(s.at[i]);
        if (!is && (s.at[i] != '_' || !last_digit)) {
            return false;
        }
        last_digit = is;
    }
    return last_digit;
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}
static bool is_binary(char c)
{
    return c == '0' || c == '1';
}

/* Decimal digits as they may begin a number: no zero before others. */
static bool is_decimal(rv_str s)
{
    return well_spaced(s, is_digit) && (s.n == 1 || s.at[0] != '0');
}

static rv_toml_match parse_based(rv_str digits, int base, bool (*digit)(char), uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    if (!well_spaced(digits, digit)) {
        return RV_TOML_OTHER;
    }
    for (size_t i = 0; i < digits.n; i++) {
        char c = digits.at[i];
        if (c == '_') {
            continue;
        }
        uint64_t d = (uint64_t)(is_digit(c) ? c - '0' : (c | 32) - 'a' + 10);
        if (value > (max - d) / (uint64_t)base) {
            return RV_TOML_WRONG;
        }
        value = value * (uint64_t)base + d;
    }
    *out = value;
    return RV_TOML_FITS;
}

rv_toml_match rv_toml_integer(rv_str s, int64_t *out)
{
    static const struct {
        const char *prefix;
        int base;
        bool (*digit)(char);
    } bases[] = { { "0x", 16, is_hex }, { "0o", 8, is_octal }, { "0b", 2, is_binary } };
    uint64_t value;
    for (size_t i = 0; i < RV_COUNT(bases); i++) {
        if (rv_str_starts(s, bases[i].prefix)) {
            rv_toml_match got =
                parse_based(rv_str_of(s.at + 2, s.n - 2), bases[i].base, bases[i].digit, INT64_MAX, &value);
            *out = got == RV_TOML_FITS ? (int64_t)value : *out;
            return got;
        }
    }
    bool minus = s.n > 0 && s.at[0] == '-';
    if (minus || (s.n > 0 && s.at[0] == '+')) {
        s = rv_str_of(s.at + 1, s.n - 1);
    }
    if (s.n == 0 || !is_decimal(s)) {
        return RV_TOML_OTHER;
    }
    rv_toml_match got = parse_based(s, 10, is_digit, (uint64_t)INT64_MAX + minus, &value);
    if (got == RV_TOML_FITS) {
        *out = minus ? (int64_t)(0 - value) : (int64_t)value;
    }
    return got;
}

/* The parts of a float are where they should be; what strtod makes of it is then what TOML means. */
static bool is_float(rv_str s)
{
    if (s.n > 0 && (s.at[0] == '+' || s.at[0] == '-')) {
        s = rv_str_of(s.at + 1, s.n - 1);
    }
    size_t whole = digit_span(s);
    if (whole == 0 || !is_decimal(rv_str_of(s.at, whole))) {
        return false;
    }
    s = rv_str_of(s.at + whole, s.n - whole);
    bool more = s.n > 0;
    if (take_char(&s, '.')) {
        size_t part = digit_span(s);
        if (part == 0 || !well_spaced(rv_str_of(s.at, part), is_digit)) {
            return false;
        }
        s = rv_str_of(s.at + part, s.n - part);
    }
    if (take_char(&s, 'e') || take_char(&s, 'E')) {
        if (!take_char(&s, '+')) {
            (void)take_char(&s, '-');
        }
        size_t part = digit_span(s);
        if (part == 0 || !well_spaced(rv_str_of(s.at, part), is_digit)) {
            return false;
        }
        s = rv_str_of(s.at + part, s.n - part);
    }
    return more && s.n == 0;
}

static double float_value(rv_str s, rv_text *scratch)
{
    rv_text_clear(scratch);
    for (size_t i = 0; i < s.n; i++) {
        if (s.at[i] != '_') {
            rv_text_addc(scratch, s.at[i]);
        }
    }
    return strtod(rv_text_get(scratch), NULL);
}

/* inf and nan, with or without a sign. */
static bool parse_special(rv_str s, double *out)
{
    bool minus = s.n > 0 && s.at[0] == '-';
    if (minus || (s.n > 0 && s.at[0] == '+')) {
        s = rv_str_of(s.at + 1, s.n - 1);
    }
    bool inf = rv_str_eq(s, "inf");
    if (!inf && !rv_str_eq(s, "nan")) {
        return false;
    }
    *out = !inf ? (double)NAN : minus ? -(double)INFINITY : (double)INFINITY;
    return true;
}

rv_toml_match rv_toml_float(rv_str s, rv_text *scratch, double *out)
{
    if (parse_special(s, out)) {
        return RV_TOML_FITS;
    }
    if (!is_float(s)) {
        return RV_TOML_OTHER;
    }
    double value = float_value(s, scratch);
    if (!isfinite(value)) {
        return RV_TOML_WRONG;
    }
    *out = value;
    return RV_TOML_FITS;
}
