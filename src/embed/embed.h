/* Text to unit vector. One interface, several embedders; `hash` is deterministic, needs no file and is the default until
 * a better one is configured. A store remembers name and dimension of the embedder that filled it. */
#ifndef RV_EMBED_EMBED_H
#define RV_EMBED_EMBED_H
#include "base/alloc.h"
#include "base/err.h"
#include <stddef.h>

typedef struct rv_embed rv_embed;

/** rv_embed_open - by name: "hash" (384 dimensions: signed hashing of words and character n-grams). RV_E_NOT_FOUND
 * lists the names there are. Threads: immutable, any thread. */
rv_err rv_embed_open(const rv_alloc *mem, const char *name, rv_embed **out) RV_MUST_CHECK;
void rv_embed_close(rv_embed *embed); /* accepts NULL */
const char *rv_embed_name(const rv_embed *embed);
size_t rv_embed_dim(const rv_embed *embed);
/** rv_embed_text - out [dim], length 1 (all zero for text without a single letter, digit or symbol). Never fails on any bytes. */
rv_err rv_embed_text(const rv_embed *embed, const char *text, size_t n, float *out) RV_MUST_CHECK;
#endif
