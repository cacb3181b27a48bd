/* TOML 1.0 reader. A document becomes a tree of values with the line each came from, so that a wrong value can be
 * reported by file, line and key. Limits: 4 MiB of text, depth 64, 65,536 values. */
#ifndef RV_BASE_TOML_H
#define RV_BASE_TOML_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"
#include <stdint.h>

typedef enum rv_toml_type {
    RV_TOML_TABLE,
    RV_TOML_ARRAY,
    RV_TOML_STRING,
    RV_TOML_INTEGER,
    RV_TOML_FLOAT,
    RV_TOML_BOOL,
    RV_TOML_DATETIME,
    RV_TOML_DATETIME_LOCAL,
    RV_TOML_DATE_LOCAL,
    RV_TOML_TIME_LOCAL
} rv_toml_type;

typedef struct rv_toml_value rv_toml_value;
struct rv_toml_value {
    rv_toml_type type;
    int line;      /* 1-based */
    rv_str key;    /* name in the parent table; empty for array elements and the root */
    rv_str string; /* STRING: decoded UTF-8 (may hold NUL); dates and times: normalised RFC 3339 text */
    int64_t integer;
    double number;
    bool boolean;
    const rv_toml_value *child, *next; /* TABLE and ARRAY: first child, siblings in file order */
};

typedef struct rv_toml rv_toml;

/**
 * rv_toml_parse - the whole document, or the first thing that is wrong with it.
 *
 * name   for messages ("ruvllm.toml")
 * text   [n] bytes, UTF-8; not needed any more afterwards
 *
 * Errors:  RV_E_FORMAT "name:line: what was found, what is allowed"; limits passed too.  RV_E_TOO_LARGE text over 4 MiB.
 *          RV_E_NOMEM.
 * Threads: any thread; the document is immutable, any thread.
 * Source:  toml.io/en/v1.0.0
 */
rv_err rv_toml_parse(const rv_alloc *mem, const char *name, const char *text, size_t n,
                     rv_toml **out) RV_MUST_CHECK;
void rv_toml_free(rv_toml *doc); /* accepts NULL */
const rv_toml_value *rv_toml_root(const rv_toml *doc);
/** rv_toml_find - child of a table by key, or NULL. */
const rv_toml_value *rv_toml_find(const rv_toml_value *table, const char *key);
const char *rv_toml_type_name(rv_toml_type type);
#endif
