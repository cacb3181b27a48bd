/* Is a correction about this question? "How many hens does the tea house have?" corrected to 13 is near "How many hens does the farm
 * have?" in words and in meaning, and a model that reads it beside the right passage answers 13. What tells them apart are the words
 * that say of what one speaks. Those are rare among the candidates, while "how many hens" stands in all that compete: so a word of
 * the corrected question counts by how few candidates hold it, and the question has to share enough of that. */
#include "pipeline/pipeline_priv.h"

#include "router/cover.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* Measured on 296 questions in other words and 8,797 pairs of a question and a correction of something else, of the notes of
 * bench/learn_corrections.py: with 0.25 and 0.4 99.7 % of the first are let in and 0.6 % of the second. */
#define ENOUGH        0.25 /* when every name in the correction is also in the question */
#define ENOUGH_ALWAYS 0.4

enum { WORDS_MAX = 64 };

/* How much a word tells: nothing when all candidates hold it. */
static double weigh(const rv_request *r, rv_str word)
{
    double with = 0;
    if (rv_word_asks(word)) {
        return 0;
    }
    for (size_t i = 0; i < r->hits.n; i++) {
        with += rv_word_in(rv_str_of(r->hits.at[i].text, strlen(r->hits.at[i].text)), word);
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
    for (size_t i = 0; i < WORDS_MAX && rv_word_next(&question, &word); i++) {
        double weight = weigh(r, word);
        bool there = rv_word_in(asked, word),
             capital = isupper((unsigned char)word.at[0]) || isdigit((unsigned char)word.at[0]);
        all += weight;
        shared += there ? weight : 0;
        names_missing = names_missing || (!there && i > 0 && word.n > 1 && capital);
    }
    return shared >= all * (names_missing ? ENOUGH_ALWAYS : ENOUGH);
}
