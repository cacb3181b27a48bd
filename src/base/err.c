/* The sentence of the last failure, one per thread. */
#include "base/err.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1024 };

static _Thread_local char kept[TEXT_MAX];

typedef struct err_row {
    const char *name, *type, *text;
    int status;
} err_row;

static const err_row rows[] = { { "OK", "", "", 200 },
#define ROW(name, status, type, text) { #name, type, text, status },
                                RV_ERR_MAP(ROW)
#undef ROW
};

static const err_row *row_of(rv_err code)
{
    size_t i = (size_t)code;
    return &rows[i < RV_COUNT(rows) ? i : RV_E_IO];
}

rv_err rv_fail(rv_err code, const char *format, ...)
{
    /* Not straight into kept: an argument may well be rv_err_text(). */
    char raw[TEXT_MAX];
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    if (wanted < 0) {
        return rv_err_set_text(code, row_of(code)->text);
    }
    size_t n = strlen(raw);
    if ((size_t)wanted > n) {
        n = rv_utf8_whole(raw, n);
    }
    rv_escape(raw, n, kept, sizeof kept);
    return code;
}

const char *rv_err_text(void)
{
    return kept;
}

rv_err rv_err_set_text(rv_err code, const char *text)
{
    char raw[TEXT_MAX];
    size_t n = text ? strnlen(text, sizeof raw) : 0;
    memcpy(raw, text ? text : "", n);
    rv_escape(raw, n == sizeof raw ? rv_utf8_whole(raw, n) : n, kept, sizeof kept);
    return code;
}

const char *rv_err_name(rv_err code)
{
    return row_of(code)->name;
}
int rv_err_http(rv_err code)
{
    return row_of(code)->status;
}
const char *rv_err_type(rv_err code)
{
    return row_of(code)->type;
}
