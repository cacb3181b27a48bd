/* Is a text worth keeping, is it there already in other words, does it say the opposite of what is there? Decided on the words alone, by
 * rules that can be told in one sentence each; measured in bench/memory_sense.c. */
#ifndef RV_MEMORY_SENSE_H
#define RV_MEMORY_SENSE_H
#include "memory/stem.h"

enum { RV_SENSE_WORDS = 256, RV_SENSE_LEAST = 2, RV_SENSE_KEYS = 6, RV_SENSE_SHORT = 8 };

/**
 * rv_sense_quality - 0 .. 1; below 1 why says in a few words what is odd: no letters or digits (0), one long token, mostly signs, made of
 * no words, repeats itself (each .3). Looks at the first 64 KiB.
 */
double rv_sense_quality(const char *text, size_t n, const char **why);

/* What a text says: its words in order without the common ones of its language, as stems; negations stay, and all are one word. A value is one
 * word: a number in digits or letters, a time, a date, a row of groups of digits. */
typedef struct rv_sense {
    size_t n; /* 0: too long to be compared, or nothing is left */
    struct sense_word {
        uint64_t hash;
        uint64_t
            lead; /* of a value: the word before it, as in "is 7", "costs 7", "at 7"; 0: it is no value that stands there */
        uint16_t at, n; /* in letters */
        bool number, negation;
    } words[RV_SENSE_WORDS];
    char letters[4096];
    bool asks;                   /* a question says nothing */
    uint64_t persons;            /* who is spoken of: "my" and "your", "he" and "she" */
    uint64_t common, but_common; /* all words that were left out; the same without articles and "do" */
} rv_sense;
void rv_sense_of(rv_words *w, const char *text, size_t n, rv_sense *out);

/** rv_sense_keys - MinHash: texts that share most of their words share one of these with probability 1 - (1 - j^3)^6, j the part of all
 * their words that both have, numbers and negations left out, so that contradictions meet: .8 gives .99, .1 gives .006. scope: only equal
 * ones meet. How many, 0 when there are fewer than RV_SENSE_LEAST words. */
size_t rv_sense_keys(const rv_sense *s, uint64_t scope, int64_t out[RV_SENSE_KEYS]);

typedef enum rv_sense_relation {
    RV_SENSE_OTHER,
    RV_SENSE_SAME, /* says nothing that the older one does not say: its words are those of the older one in the same order, up to a
                          fifth of which it may leave out (no number and no negation), each with at most one typing error */
    RV_SENSE_OPPOSITE, /* the same words, but one negation more or less, or another value behind the same word at the end; no question */
} rv_sense_relation;
/** rv_sense_compare - of two words ("My son is 7.", "I like tea.") all that was left out has to be the same too. */
rv_sense_relation rv_sense_compare(const rv_sense *newer, const rv_sense *older);
#endif
