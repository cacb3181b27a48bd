/* The embedders there are, for embed.c and tests. */
#ifndef RV_EMBED_EMBED_PRIV_H
#define RV_EMBED_EMBED_PRIV_H
#include "base/alloc.h"
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

#define RV_EMBED_HASH_DIM 384

/** rv_embed_hash_text - out [RV_EMBED_HASH_DIM]. Any bytes. Allocates nothing. Any thread. */
void rv_embed_hash_text(const char *text, size_t n, float *out);

typedef struct rv_static rv_static;

/**
 * rv_static_open - map and check an embedder file (docs/formats/embedder.md), all of it.
 *
 * Errors:  RV_E_NOT_FOUND, RV_E_IO the file.  RV_E_FORMAT version, dimension, vocabulary, scale or size: which, found,
 *          expected.  RV_E_CORRUPT the checksum.  RV_E_NOMEM.
 * Threads: immutable, any thread; so for all calls below.
 */
rv_err rv_static_open(const rv_alloc *mem, const char *path, rv_static **out) RV_MUST_CHECK;
void rv_static_close(rv_static *s); /* accepts NULL */
const char *rv_static_name(const rv_static *s);
size_t rv_static_dim(const rv_static *s);

/** rv_static_tokens - take gets the number of each word piece in the order of the text. Any bytes. Allocates nothing. */
typedef void (*rv_static_take)(void *self, uint32_t token);
void rv_static_tokens(const rv_static *s, const char *text, size_t n, rv_static_take take, void *self);

/** rv_static_text - out [dim], length 1; all zero when no piece of the text has a weight. Any bytes. Allocates nothing. */
void rv_static_text(const rv_static *s, const char *text, size_t n, float *out);
#endif
