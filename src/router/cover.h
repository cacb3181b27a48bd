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

#define RV_SAYS 5
extern const char *const rv_says_names[RV_SAYS];

/**
 * rv_says_fill - how an answer and what it was drawn from cover a question; out [RV_SAYS], 0..1 each. The sentence that an answer rests on is
 * that of the passage it cites last (citing none: of any) which holds most of its words. A right answer's sentence mostly holds what is asked
 * about, and no other sentence holds more of it.
 *
 * passages  [n] in the order in which the answer numbers them, from 1; at most 16 are looked at, and of each 4 KiB
 * Any thread. Allocates nothing.
 */
void rv_says_fill(rv_str question, const rv_str *passages, size_t n, rv_str answer, float *out);

/** rv_cite_at - length of the [number] that text begins with, 0: it begins with none. Beyond a million the number is a million.
 * rv_cite_next - takes the text up to and with the next [number] off *rest; false: there is none. */
size_t rv_cite_at(rv_str text, size_t *number);
bool rv_cite_next(rv_str *rest, size_t *number);

/** rv_answer_hash - of an answer's letters and digits, whatever their case; citations are no part of it. Equal: the same answer. 0: there is none. */
uint64_t rv_answer_hash(rv_str answer);

/** rv_word_next - takes the next word off *rest: letters and digits; from U+3000 on, where none are set apart, each character is one.
 * rv_word_same - equal but for ASCII case, or for an ending ("borrow", "borrowed"; "close", "closing").
 * rv_word_in - text holds it; 4 KiB are looked at.
 * rv_word_asks - "how", "does", "the" ...: it only makes a question of it. */
bool rv_word_next(rv_str *rest, rv_str *word);
bool rv_word_same(rv_str a, rv_str b);
bool rv_word_in(rv_str text, rv_str word);
bool rv_word_asks(rv_str word);
#endif
