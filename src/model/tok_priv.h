/* The first step of encoding, in a file of its own. */
#ifndef RV_MODEL_TOK_PRIV_H
#define RV_MODEL_TOK_PRIV_H
#include <stddef.h>

/** rv_tok_split - length in bytes of the first piece of text [n], n > 0; merges never cross the end of a piece. Looks
 * only forward, so cutting the pieces off one by one splits the whole text. */
size_t rv_tok_split(const char *text, size_t n);

#endif
