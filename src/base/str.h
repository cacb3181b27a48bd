/* Strings: rv_str is a borrowed view (not terminated), rv_text a growable buffer with a maximum, always terminated. */
#ifndef RV_BASE_STR_H
#define RV_BASE_STR_H

#include "base/alloc.h"
#include "base/err.h"
#include <stdint.h>

typedef struct rv_str {
    const char *at;
    size_t n;
} rv_str;

static inline rv_str rv_str_of(const char *at, size_t n)
{
    return (rv_str){ at, n };
}
rv_str rv_str_from(const char *zero_terminated); /* NULL gives the empty view */
bool rv_str_eq(rv_str a, const char *b);
bool rv_str_starts(rv_str a, const char *prefix);
rv_str rv_str_trim(rv_str a); /* ASCII white space off both ends */

/* A text that failed to grow keeps what it has and remembers: check once, at the end, with rv_text_check.
 * Threads: one thread at a time. */
typedef struct rv_text {
    const rv_alloc *mem;
    char *at; /* NULL while empty, else terminated */
    size_t n, room, max;
    bool failed;
} rv_text;

/** rv_text_init - an empty text of at most max_bytes (the zero at the end not counted); nothing is allocated yet. */
void rv_text_init(rv_text *t, const rv_alloc *mem, size_t max_bytes);
void rv_text_deinit(rv_text *t); /* empty again, and usable */

/** rv_text_add... - at the end, whole or not at all. The bytes must not be the text's own. */
void rv_text_add(rv_text *t, const char *bytes, size_t n);
void rv_text_adds(rv_text *t, const char *zero_terminated);
void rv_text_addc(rv_text *t, char c);
void rv_text_addf(rv_text *t, const char *format, ...) RV_PRINTF(2, 3);

/** rv_text_clear - empty, keeps its memory, and forgets a failure. */
void rv_text_clear(rv_text *t);

/** rv_text_check - RV_E_NOMEM: memory or the maximum ran out since it was made or cleared. */
rv_err rv_text_check(const rv_text *t) RV_MUST_CHECK;

/** rv_text_take - moves to the caller (rv_free with t->mem); "" when empty, NULL on failure. t is empty afterwards. */
char *rv_text_take(rv_text *t);
const char *rv_text_get(const rv_text *t); /* terminated, "" when empty; valid until t changes */

/* UTF-8 */
/** rv_utf8_decode - one code point from at[0..n); returns its length 1..4, or 0 when malformed or n == 0. */
size_t rv_utf8_decode(const char *at, size_t n, uint32_t *code);
size_t rv_utf8_encode(uint32_t code, char out[4]); /* 1..4; 0 for surrogates and > 0x10ffff */
bool rv_utf8_valid(const char *at, size_t n);
/** rv_utf8_whole - length of the longest prefix that does not end inside a character (streaming). */
size_t rv_utf8_whole(const char *at, size_t n);

/**
 * rv_escape - the bytes as printable UTF-8 into out, terminated; returns its length, < room. Control characters, those
 * that turn the direction of writing, and malformed bytes become \n, \u001b, \xff; what has no room is cut, whole pieces only.
 */
size_t rv_escape(const char *at, size_t n, char *out, size_t room);

/** rv_parse_u64, rv_parse_i64, rv_parse_f64 - the whole view is one number; false otherwise, *out untouched. */
bool rv_parse_u64(rv_str s, uint64_t *out);
bool rv_parse_i64(rv_str s, int64_t *out);
bool rv_parse_f64(rv_str s, double *out);

#endif
