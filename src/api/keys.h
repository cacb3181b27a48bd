/* API keys: a file of lines `NAME KEY`, `#` begins a comment. The name says whose a request is, the key proves it. Only the SHA-256 of a key is
 * kept, and compared in constant time. */
#ifndef RV_API_KEYS_H
#define RV_API_KEYS_H
#include "base/alloc.h"
#include "base/err.h"

typedef struct rv_api_keys rv_api_keys;

/**
 * rv_api_keys_read - at least one key.
 *
 * Names: 1 to 64 letters, digits, `-`, `_` or `.`, each once. Keys: 16 to 256 printable ASCII characters without blanks, each once.
 * Errors:  RV_E_CONFIG which line, found, expected; others may read the file; it has no key, or more than 1024.  RV_E_IO.  RV_E_NOMEM.
 */
rv_err rv_api_keys_read(const rv_alloc *mem, const char *path, rv_api_keys **out) RV_MUST_CHECK;
void rv_api_keys_free(rv_api_keys *keys); /* accepts NULL */

/** rv_api_keys_find - whose key the value of an Authorization header is ("Bearer KEY"; NULL: there is no header); NULL: nobody's. Immutable, any
 * thread. */
const char *rv_api_keys_find(const rv_api_keys *keys, const char *authorization);
#endif
