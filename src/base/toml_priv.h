/* Between toml.c, which knows where a word stands, and toml_word.c, which knows what it means. */
#ifndef RV_BASE_TOML_PRIV_H
#define RV_BASE_TOML_PRIV_H
#include "base/toml.h"

typedef enum rv_toml_match {
    RV_TOML_OTHER, /* of another form */
    RV_TOML_WRONG, /* of this form, but no such date, or too large a number */
    RV_TOML_FITS,
} rv_toml_match;

/* Each takes the whole word; what it writes means something only when it fits.
 * rv_toml_datetime - normalised RFC 3339 text into out, which is cleared first, and which of the four types it is.
 * rv_toml_float - with a fraction or exponent, or inf or nan. scratch is written over; memory that ran out shows there. */
rv_toml_match rv_toml_datetime(rv_str s, rv_text *out, rv_toml_type *type);
rv_toml_match rv_toml_integer(rv_str s, int64_t *out);
rv_toml_match rv_toml_float(rv_str s, rv_text *scratch, double *out);

#endif
