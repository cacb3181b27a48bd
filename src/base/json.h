/* JSON: jansson behind limits. Bodies from outside are parsed with a maximum depth and size, duplicate keys refused;
 * values are read with one call that says which field was wrong. Written through jansson too, but vectors of floats by our
 * own writer, which prints the shortest text that reads back equal. */
#ifndef RV_BASE_JSON_H
#define RV_BASE_JSON_H
#include "base/err.h"
#include "base/str.h"
#include <jansson.h>

/** rv_json_setup - once, before threads start: seeds the hash, so that keys from outside cannot be made to collide. */
void rv_json_setup(void);

/**
 * rv_json_parse - one JSON text, nothing after it; any value, not only objects.
 *
 * text   [n] bytes; NULL when n is 0
 * out    the caller's (json_decref)
 *
 * Refused beside what RFC 8259 refuses: more than 64 levels (found before anything recurses), more than 131,072 arrays
 * and objects, two keys of one name, a key with \u0000. A string value may hold \u0000.
 * Errors:  RV_E_FORMAT with line and column.  RV_E_NOMEM.
 * Threads: any thread; the value is for one thread at a time.
 */
rv_err rv_json_parse(const char *text, size_t n, json_t **out) RV_MUST_CHECK;

/* rv_json_get_*: field of an object into *out. Absent or null: *out untouched, RV_OK. Wrong type or out of [low, high]:
 * RV_E_ARG, text "<field>: expected ..., found ...". rv_json_need_string: absent is an error too. Strings are borrowed and
 * terminated; with n NULL one that holds \u0000 is an error, because the caller would see only its beginning.
 * A number without a fraction (3.0) is an integer. */
rv_err rv_json_get_string(const json_t *object, const char *field, const char **out, size_t *n) RV_MUST_CHECK;
rv_err rv_json_need_string(const json_t *object, const char *field, const char **out,
                           size_t *n) RV_MUST_CHECK;
rv_err rv_json_get_int(const json_t *object, const char *field, int64_t low, int64_t high,
                       int64_t *out) RV_MUST_CHECK;
rv_err rv_json_get_double(const json_t *object, const char *field, double low, double high,
                          double *out) RV_MUST_CHECK;
rv_err rv_json_get_bool(const json_t *object, const char *field, bool *out) RV_MUST_CHECK;
rv_err rv_json_get_object(const json_t *object, const char *field, json_t **out) RV_MUST_CHECK; /* borrowed */
rv_err rv_json_get_array(const json_t *object, const char *field, json_t **out) RV_MUST_CHECK;  /* borrowed */

/** rv_json_text - compact text added to t, key order kept; failure shows in rv_text_check.  rv_json_print - the same to a
 * stream (FILE *), newline added. */
void rv_json_text(const json_t *value, rv_text *t);
void rv_json_print(const json_t *value, void *stdio_stream);

/** rv_json_float - shortest decimal that reads back as the same float, with a fraction or exponent always, so that it stays a
 * real number; non-finite as null. */
void rv_json_float(rv_text *t, float x);

/** rv_json_string - quoted and escaped; malformed UTF-8 becomes U+FFFD. */
void rv_json_string(rv_text *t, const char *at, size_t n);
#endif
