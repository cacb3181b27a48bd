/* Text to unit vector. One interface, several embedders; `hash` is deterministic and needs no file, the others are tables of token
 * vectors in files. A store remembers name and dimension of the embedder that filled it. */
#ifndef RV_EMBED_EMBED_H
#define RV_EMBED_EMBED_H
#include "base/alloc.h"
#include "base/err.h"
#include <stddef.h>

typedef struct rv_embed rv_embed;

/**
 * rv_embed_open - by name or file.
 *
 * name  "hash" (384 dimensions: signed hashing of words and character n-grams), or an embedder file
 *       (docs/formats/embedder.md): a path with a slash or one that ends in .rvemb
 *
 * Errors:  RV_E_NOT_FOUND no such name (lists what there is) or file.  RV_E_FORMAT, RV_E_CORRUPT the file: what is wrong.
 *          RV_E_IO, RV_E_NOMEM.
 * Threads: immutable, any thread; so for all calls below.
 */
rv_err rv_embed_open(const rv_alloc *mem, const char *name, rv_embed **out) RV_MUST_CHECK;
void rv_embed_close(rv_embed *embed); /* accepts NULL */
/** rv_embed_name - "hash", or the name inside the file: the same name means the same vectors. */
const char *rv_embed_name(const rv_embed *embed);
size_t rv_embed_dim(const rv_embed *embed);
/** rv_embed_tokens - word pieces that the embedder cuts a text into; 0: it has none (hash). */
size_t rv_embed_tokens(const rv_embed *embed, const char *text, size_t n);
/** rv_embed_text - out [dim], length 1 (all zero for a text that has nothing the embedder knows). Never fails on any bytes. */
rv_err rv_embed_text(const rv_embed *embed, const char *text, size_t n, float *out) RV_MUST_CHECK;
#endif
