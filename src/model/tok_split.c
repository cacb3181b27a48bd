/* Pieces of text that are tokenised on their own, by the rule that files name "lfm2":
 *
 *     (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N}{1,3} | ' '?[^\s\p{L}\p{N}]+[\r\n]*
 *     | \s*[\r\n]+ | \s+(?!\S) | \s+
 *
 * first alternative that matches wins. Each is a run of one class of characters, so it is written as runs. */
#include "model/tok_priv.h"

#include "base/str.h"

#include <utf8proc.h>

typedef enum class { OTHER, LETTER, NUMBER, SPACE, NEWLINE, END } class;

static class class_of(uint32_t code)
{
    if (code < 0x80) {
        uint32_t lower = code | 0x20;
        return lower >= 'a' && lower <= 'z'               ? LETTER
               : code >= '0' && code <= '9'               ? NUMBER
               : code == '\n' || code == '\r'             ? NEWLINE
               : code == ' ' || (code >= 9 && code <= 12) ? SPACE
                                                          : OTHER;
    }
    if (code == 0x85 || code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) ||
        code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000) {
        return SPACE;
    }
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return NUMBER;
    default: return OTHER;
    }
}

/* Class of the character at text[at], and where the next one begins. A malformed byte is a character of its own. */
static class look(const char *text, size_t n, size_t at, size_t *next)
{
    if (at >= n) {
        *next = n;
        return END;
    }
    uint32_t code;
    size_t length = rv_utf8_decode(text + at, n - at, &code);
    *next = at + (length ? length : 1);
    return length ? class_of(code) : OTHER;
}

/* End of the run of wanted characters that starts at `at`, at most `most` of them. */
static size_t run(const char *text, size_t n, size_t at, class wanted, size_t most)
{
    size_t next;
    while (most-- > 0 && look(text, n, at, &next) == wanted) {
        at = next;
    }
    return at;
}

static size_t contraction(const char *text, size_t n)
{
    static const char *const one = "stmd";
    static const char two[][2] = { { 'r', 'e' }, { 'v', 'e' }, { 'l', 'l' } };
    if (n < 2 || text[0] != '\'') {
        return 0;
    }
    for (const char *c = one; *c; c++) {
        if ((text[1] | 0x20) == *c) {
            return 2;
        }
    }
    for (size_t i = 0; i < RV_COUNT(two) && n > 2; i++) {
        if ((text[1] | 0x20) == two[i][0] && (text[2] | 0x20) == two[i][1]) {
            return 3;
        }
    }
    return 0;
}

/* Up to and with the last line end of the run; without one, the run but for a last character that something follows. */
static size_t white(const char *text, size_t n)
{
    size_t at = 0, last = 0, lines = 0, next;
    for (class c; (c = look(text, n, at, &next)) == SPACE || c == NEWLINE; at = next) {
        last = at;
        lines = c == NEWLINE ? next : lines;
    }
    if (lines) {
        return lines;
    }
    return at == n || last == 0 ? at : last;
}

size_t rv_tok_split(const char *text, size_t n)
{
    size_t end = contraction(text, n);
    if (end) {
        return end;
    }
    size_t second, third;
    class first = look(text, n, 0, &second);
    if (first == LETTER) {
        return run(text, n, second, LETTER, n);
    }
    if (first == NUMBER) {
        return run(text, n, second, NUMBER, 2);
    }
    if (first != NEWLINE && look(text, n, second, &third) == LETTER) {
        return run(text, n, third, LETTER, n);
    }
    end = run(text, n, text[0] == ' ', OTHER, n);
    if (end > (size_t)(text[0] == ' ')) {
        return run(text, n, end, NEWLINE, n);
    }
    return white(text, n);
}
