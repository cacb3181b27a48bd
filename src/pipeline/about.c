/* Is a correction about this question? "How many hens does the tea house have?" corrected to 13 is near "How many hens does the farm
 * have?" in words and in meaning, and a model that reads it beside the right passage answers 13. What tells them apart are the words
 * that say of what one speaks. Those are rare among the candidates, while "how many hens" stands in all that compete: so a word
 * counts by how few candidates hold it. Of both questions, the corrected one and the one that is asked, enough has to stand in the other. */
#include "pipeline/pipeline_priv.h"

#include "router/cover.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

/* Shares of both, added up: 2 when they say the same. Chosen on 264 questions in other words and 2,459 pairs of a question and a correction of
 * something else, of the notes of bench/learn_corrections.py with seed 2. Of 800 and 5,960 others (seeds 5 and 6) 13 and 33 are told wrongly. */
#define ENOUGH       0.75
#define NAME_MISSING 0.2 /* more, when a name in the correction is not in the question */

/* A passage that holds more of the question than the correction does, by this share: the correction is about something beside it, unless the
 * question says half of what was corrected. */
#define BEHIND 0.2
#define HALF   0.5

enum { WORDS_MAX = 64 };

/* "From whom are the tickets?", "Who did we get the tickets from?": these are rare among notes and say nothing of what one speaks. */
static bool says_nothing(rv_str word)
{
    static const char *const others[] = { "from", "we", "us", "you", "get" };
    bool found = rv_word_asks(word);
    for (size_t i = 0; i < RV_COUNT(others); i++) {
        found = found || (strlen(others[i]) == word.n && strncasecmp(others[i], word.at, word.n) == 0);
    }
    return found;
}

/* How much a word tells: nothing when all candidates hold it, or none does. */
static double weigh(const rv_request *r, rv_str word)
{
    double with = 0;
    if (says_nothing(word)) {
        return 0;
    }
    for (size_t i = 0; i < r->hits.n; i++) {
        with += rv_word_in(rv_str_of(r->hits.at[i].text, strlen(r->hits.at[i].text)), word);
    }
    return with > 0 ? fmax(0, log(((double)r->hits.n + 1) / (with + 0.5))) : 0;
}

/* Of what the words of a question tell the share whose words stand in the other one; 1: they tell nothing. */
static double share_in(const rv_request *r, rv_str question, rv_str other)
{
    double shared = 0, all = 0;
    rv_str word;
    for (size_t i = 0; i < WORDS_MAX && rv_word_next(&question, &word); i++) {
        double weight = weigh(r, word);
        all += weight;
        shared += rv_word_in(other, word) ? weight : 0;
    }
    return all > 0 ? shared / all : 1;
}

static bool names_something_else(rv_str question, rv_str other)
{
    rv_str word;
    bool missing = false;
    for (size_t i = 0; i < WORDS_MAX && rv_word_next(&question, &word); i++) {
        bool capital = isupper((unsigned char)word.at[0]) || isdigit((unsigned char)word.at[0]);
        missing = missing || (i > 0 && word.n > 1 && capital && !rv_word_in(other, word));
    }
    return missing;
}

/* The largest share of the question in one passage that nobody has corrected. */
static double best_passage(const rv_request *r, rv_str asked)
{
    double best = 0;
    for (size_t i = 0; i < r->hits.n; i++) {
        const rv_memory_node *node = &r->hits.at[i];
        if (!node->corrected_by && !rv_recall_is_correction(node->text)) {
            best = fmax(best, share_in(r, asked, rv_str_of(node->text, strlen(node->text))));
        }
    }
    return best;
}

bool rv_recall_is_about(const rv_request *r, const char *fact)
{
    const char *end = rv_recall_is_correction(fact) ? strstr(fact, " A: ") : NULL;
    if (!end) {
        return true; /* not made from feedback: a passage like others */
    }
    const char *begin = fact + strlen(RV_RECALL_HEAD);
    rv_str corrected = rv_str_of(begin, (size_t)(end > begin ? end - begin : 0));
    rv_str asked = rv_str_of(r->query, r->query_bytes);
    double said = share_in(r, corrected, asked), held = share_in(r, asked, corrected);
    if (said + held < ENOUGH + (names_something_else(corrected, asked) ? NAME_MISSING : 0)) {
        return false;
    }
    return said >= HALF || best_passage(r, asked) <= held + BEHIND;
}
