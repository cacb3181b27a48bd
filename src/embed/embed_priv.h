/* The embedders there are, for embed.c. */
#ifndef RV_EMBED_EMBED_PRIV_H
#define RV_EMBED_EMBED_PRIV_H
#include <stddef.h>

#define RV_EMBED_HASH_DIM 384

/** rv_embed_hash_text - out [RV_EMBED_HASH_DIM]. Any bytes. Allocates nothing. Any thread. */
void rv_embed_hash_text(const char *text, size_t n, float *out);
#endif
