/* FTS5 has a query language; users do not write it. Each word is quoted, so that AND, *, NEAR, quotes and colons are
 * nothing but text, and any of the words may match: bm25 ranks who has more and rarer ones. */
#include "memory/memory_priv.h"

#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 64, WORD_BYTES = 64 };

/* Words that are in nearly every text: they rank nothing and cost a scan each. Sorted by strcmp. */
static const char *const empty_words[] = {
    "a",    "an",   "and",  "are",   "as",    "at",   "be",  "by",    "can",   "did",  "do",   "does", "for",
    "from", "had",  "has",  "have",  "how",   "i",    "if",  "in",    "is",    "it",   "its",  "me",   "my",
    "of",   "on",   "or",   "our",   "s",     "that", "the", "their", "there", "this", "to",   "was",  "we",
    "were", "what", "when", "where", "which", "who",  "why", "will",  "with",  "you",  "your",
};

typedef struct word {
    char at[WORD_BYTES + 1];
    size_t n;
} word;

static int by_word(const void *key, const void *other)
{
    return strcmp(key, *(const char *const *)other);
}

static bool joins_word(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80;
}

/* The next word at or after *at, ASCII in lower case; one that is too long is cut into several, never inside a character. */
static bool next_word(const char *text, size_t n, size_t *at, word *out)
{
    while (*at < n && !joins_word((unsigned char)text[*at])) {
        (*at)++;
    }
    size_t from = *at;
    while (*at < n && *at - from < WORD_BYTES && joins_word((unsigned char)text[*at])) {
        (*at)++;
    }
    out->n = *at - from;
    if (out->n == WORD_BYTES) {
        size_t whole = rv_utf8_whole(text + from, out->n);
        out->n = whole ? whole : out->n;
        *at = from + out->n;
    }
    for (size_t i = 0; i < out->n; i++) {
        char c = text[from + i];
        out->at[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    out->at[out->n] = 0;
    return out->n > 0;
}

bool rv_words_empty(const char *at, size_t n)
{
    word w;
    size_t from = 0;
    return next_word(at, n, &from, &w) && from == n &&
           bsearch(w.at, empty_words, RV_COUNT(empty_words), sizeof empty_words[0], by_word);
}

/* The first WORDS_MAX different words; the empty ones only when asked for. */
static size_t pick_words(const char *text, size_t n, bool with_empty, word out[WORDS_MAX])
{
    size_t found = 0, at = 0;
    word w;
    while (found < WORDS_MAX && next_word(text, n, &at, &w)) {
        bool skip =
            !with_empty && bsearch(w.at, empty_words, RV_COUNT(empty_words), sizeof empty_words[0], by_word);
        for (size_t i = 0; !skip && i < found; i++) {
            skip = strcmp(out[i].at, w.at) == 0;
        }
        if (!skip) {
            out[found++] = w;
        }
    }
    return found;
}

void rv_words_query(const char *text, size_t n, rv_text *out)
{
    word words[WORDS_MAX];
    size_t found = pick_words(text, n, false, words);
    if (found == 0) {
        found = pick_words(text, n, true, words);
    }
    for (size_t i = 0; i < found; i++) {
        rv_text_addf(out, "%s\"%s\"", i ? " OR " : "", words[i].at); /* a word holds no quote */
    }
}
