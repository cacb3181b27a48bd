/* Is a correction about this question? "How many hens does the tea house have?" corrected to 13 is near "How many hens does the farm
 * have?" in words and in meaning, and a model that reads it beside the right passage answers 13. What tells them apart are the words
 * that say of what one speaks. Those are rare among the candidates, while "how many hens" stands in all that compete: so a word of
 * the corrected question counts by how few candidates hold it, and the question has to share enough of that. */
#include "pipeline/pipeline_priv.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

/* Measured on 296 questions in other words and 8,797 pairs of a question and a correction of something else, of the notes of
 * bench/learn_corrections.py: with 0.25 and 0.4 99.7 % of the first are let in and 0.6 % of the second. */
#define ENOUGH        0.25 /* when every name in the correction is also in the question */
#define ENOUGH_ALWAYS 0.4

enum { WORDS_MAX = 64, READ_MAX_BYTES = 4096 };

static bool is_word(unsigned char c)
{
    return c >= 0x80 || isalnum(c);
}

/* Words are letters and digits; from U+3000 on, where none are set apart, every character is one. */
static bool next_word(rv_str *rest, rv_str *out)
{
    size_t from = 0;
    while (from < rest->n && !is_word((unsigned char)rest->at[from])) {
        from++;
    }
    size_t to = from;
    bool alone = to < rest->n && (unsigned char)rest->at[to] >= 0xe3;
    do {
        to += to < rest->n;
    } while (to < rest->n &&
             (alone ? ((unsigned char)rest->at[to] & 0xc0) == 0x80
                    : is_word((unsigned char)rest->at[to]) && (unsigned char)rest->at[to] < 0xe3));
    *out = rv_str_of(rest->at + from, to - from);
    *rest = rv_str_of(rest->at + to, rest->n - to);
    return out->n > 0;
}

/* Equal but for case, or for an ending: "borrow" and "borrowed", "close" and "closing". */
static bool same_word(rv_str a, rv_str b)
{
    enum { STEM = 4, ENDING = 3 };
    size_t n = 0;
    while (n < a.n && n < b.n && tolower((unsigned char)a.at[n]) == tolower((unsigned char)b.at[n])) {
        n++;
    }
    return (n == a.n && n == b.n) || (n >= STEM && a.n - n <= ENDING && b.n - n <= ENDING);
}

static bool holds(rv_str text, rv_str word)
{
    rv_str one;
    text.n = text.n < READ_MAX_BYTES ? text.n : READ_MAX_BYTES;
    while (next_word(&text, &one)) {
        if (same_word(one, word)) {
            return true;
        }
    }
    return false;
}

/* These only make it a question; notes are none and do not hold them, so they would seem to be rare. */
static bool is_asking(rv_str word)
{
    static const char *const asking[] = { "who",  "whom", "whose", "what", "when",  "where", "which", "why",
                                          "how",  "do",   "does",  "did",  "is",    "are",   "was",   "were",
                                          "has",  "have", "had",   "can",  "could", "be",    "may",   "long",
                                          "many", "much", "there", "the",  "a",     "an",    "of",    "in",
                                          "on",   "at",   "for",   "to",   "by",    "i",     "me",    "my" };
    for (size_t i = 0; i < RV_COUNT(asking); i++) {
        if (strlen(asking[i]) == word.n && strncasecmp(asking[i], word.at, word.n) == 0) {
            return true;
        }
    }
    return false;
}

/* How much a word tells: nothing when all candidates hold it. */
static double weigh(const rv_request *r, rv_str word)
{
    double with = 0;
    if (is_asking(word)) {
        return 0;
    }
    for (size_t i = 0; i < r->hits.n; i++) {
        with += holds(rv_str_of(r->hits.at[i].text, strlen(r->hits.at[i].text)), word);
    }
    return fmax(0, log(((double)r->hits.n + 1) / (with + 0.5)));
}

bool rv_recall_is_about(const rv_request *r, const char *fact)
{
    const char *end = rv_recall_is_correction(fact) ? strstr(fact, " A: ") : NULL;
    if (!end) {
        return true; /* not made from feedback: a passage like others */
    }
    const char *begin = fact + strlen(RV_RECALL_HEAD);
    rv_str question = rv_str_of(begin, (size_t)(end > begin ? end - begin : 0)), word;
    rv_str asked = rv_str_of(r->query, r->query_bytes);
    double shared = 0, all = 0;
    bool names_missing = false;
    for (size_t i = 0; i < WORDS_MAX && next_word(&question, &word); i++) {
        double weight = weigh(r, word);
        bool there = holds(asked, word),
             capital = isupper((unsigned char)word.at[0]) || isdigit((unsigned char)word.at[0]);
        all += weight;
        shared += there ? weight : 0;
        names_missing = names_missing || (!there && i > 0 && word.n > 1 && capital);
    }
    return shared >= all * (names_missing ? ENOUGH_ALWAYS : ENOUGH);
}
