/* Words of a text as their stems, by the rules of its language (libstemmer, Snowball): "paints", "painting" and "painted" are one
 * word in English, "Haus", "Häuser" and "Hauses" in German. Whoever keeps an index of words cuts documents and queries with this, and
 * finds by comparing bytes. */
#ifndef RV_MEMORY_STEM_H
#define RV_MEMORY_STEM_H
#include "base/alloc.h"
#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum rv_language {
    RV_LANGUAGE_UNKNOWN,
    RV_LANGUAGE_ENGLISH,
    RV_LANGUAGE_DANISH,
    RV_LANGUAGE_DUTCH,
    RV_LANGUAGE_FINNISH,
    RV_LANGUAGE_FRENCH,
    RV_LANGUAGE_GERMAN,
    RV_LANGUAGE_HUNGARIAN,
    RV_LANGUAGE_ITALIAN,
    RV_LANGUAGE_NORWEGIAN,
    RV_LANGUAGE_PORTUGUESE,
    RV_LANGUAGE_ROMANIAN,
    RV_LANGUAGE_RUSSIAN,
    RV_LANGUAGE_SPANISH,
    RV_LANGUAGE_SWEDISH,
    RV_LANGUAGE_TURKISH,
    RV_LANGUAGES
} rv_language;
/* Sets of languages: bit 1 << language. */
#define RV_LANGUAGE_SET(language) ((uint32_t)1 << (language))

/**
 * rv_words_language - of a text, by its commonest words: the language most of them belong to, if two or more belong to it and more
 * than to any other; of Cyrillic letters Russian. Looks at the first 4 KiB. RV_LANGUAGE_UNKNOWN when it cannot be told.
 * short_text: one word is enough, as a question may hold no more.  rv_language_name - "german", "unknown".
 * Threads: any thread; so for all that is static here. Source: none, the lists are the articles, pronouns, prepositions and
 * auxiliary verbs of each language.
 */
rv_language rv_words_language(const char *text, size_t n, bool short_text);
const char *rv_language_name(rv_language language);

typedef struct rv_words rv_words; /* the stemmers, made when first used */
rv_err rv_words_new(const rv_alloc *mem, rv_words **out) RV_MUST_CHECK;
void rv_words_free(rv_words *w); /* accepts NULL */

/**
 * rv_words_begin .. rv_words_next - the words of a text, one stem each and language: [a-z0-9] and all letters and digits of other
 * scripts, in lower case, without marks ("über" is "uber"). A word of more than 64 bytes is cut into several. Nothing of it is syntax.
 *
 * text       [n] any bytes, borrowed until the last rv_words_next
 * languages  a set. A document: that of its language, English when it is unknown. A query: the same of its own, or, when it is unknown,
 *            of all languages that the documents are in; a word then has as many stems as differ. 0: folded, not stemmed
 * out        stem: valid until the next call; word: 0, 1, 2 ... the same for the stems of one word
 *
 * Threads: one thread at a time. Errors: none here; a stemmer that could not be made leaves its words folded, see rv_words_failed.
 */
typedef struct rv_word {
    rv_str stem;
    size_t word;
    size_t at, n; /* bytes of the text */
    bool common;  /* one of the commonest words of some language that it was asked for */
} rv_word;
void rv_words_begin(rv_words *w, const char *text, size_t n, uint32_t languages);
bool rv_words_next(rv_words *w, rv_word *out);
/** rv_words_failed - a stemmer could not be made since begin: RV_E_NOMEM. */
rv_err rv_words_failed(const rv_words *w) RV_MUST_CHECK;
#endif
