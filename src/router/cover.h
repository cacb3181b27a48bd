/* How what memory found covers a question: which of its words stand in the passages, together or apart. A question whose words stand in
 * one passage is easy; when they are spread over two it needs two steps, and when one stands nowhere it may have no answer. No model
 * has to run to see that. */
#ifndef RV_ROUTER_COVER_H
#define RV_ROUTER_COVER_H
#include "base/str.h"

#define RV_COVER 16
extern const char *const rv_cover_names[RV_COVER];

/**
 * rv_cover_fill - out [RV_COVER], about 0..1 each.
 *
 * passages  [n] best first; at most 16 are looked at, and of each 4 KiB
 * A word weighs by how few passages hold it: what all hold does not tell them apart. Words that only make it a question weigh nothing.
 * Any thread. Allocates nothing; tens of microseconds for eight passages of 200 bytes.
 */
void rv_cover_fill(rv_str question, const rv_str *passages, size_t n, float *out);

/** rv_word_next - takes the next word off *rest: letters and digits; from U+3000 on, where none are set apart, each character is one.
 * rv_word_same - equal but for ASCII case, or for an ending ("borrow", "borrowed"; "close", "closing").
 * rv_word_in - text holds it; 4 KiB are looked at.
 * rv_word_asks - "how", "does", "the" ...: it only makes a question of it. */
bool rv_word_next(rv_str *rest, rv_str *word);
bool rv_word_same(rv_str a, rv_str b);
bool rv_word_in(rv_str text, rv_str word);
bool rv_word_asks(rv_str word);
#endif
