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

/* A correction that nothing found is nearer to in meaning, and that is this near, asks the same in words of its own ("How many people live in Fyshia?",
 * "inhabitants"). Of the 54 of 609 questions in other words of which the words did not tell it (seeds 5 and 6) this tells 14, and 5 of 2,825 others. */
#define NEAR 0.5

enum { WORDS_MAX = 64, HITS_MAX = 64, READ_MAX_BYTES = 4096 };

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

/* The words of a question among the hits. */
typedef struct words {
    rv_str at[WORDS_MAX];
    size_t n;
    double weight[WORDS_MAX], all; /* how much a word tells: nothing when all hits hold it, or none does */
    uint64_t held[HITS_MAX];       /* bit by bit, those that a hit holds */
} words;

/* Bit by bit, those that a text holds; it is read once. */
static uint64_t held_by(const words *w, rv_str text)
{
    uint64_t held = 0;
    rv_str one;
    text.n = text.n < READ_MAX_BYTES ? text.n : READ_MAX_BYTES;
    while (rv_word_next(&text, &one)) {
        for (size_t i = 0; i < w->n; i++) {
            held |= (uint64_t)rv_word_same(one, w->at[i]) << i;
        }
    }
    return held;
}

static void read_words(const rv_request *r, rv_str question, words *w)
{
    const size_t n = r->hits.n < HITS_MAX ? r->hits.n : HITS_MAX;
    for (w->n = 0; w->n < WORDS_MAX && rv_word_next(&question, &w->at[w->n]);) {
        w->n++;
    }
    for (size_t h = 0; h < n; h++) {
        w->held[h] = held_by(w, rv_str_of(r->hits.at[h].text, strlen(r->hits.at[h].text)));
    }
    w->all = 0;
    for (size_t i = 0; i < w->n; i++) {
        double with = 0;
        for (size_t h = 0; h < n; h++) {
            with += w->held[h] >> i & 1;
        }
        bool tells = with > 0 && !says_nothing(w->at[i]);
        w->weight[i] = tells ? fmax(0, log(((double)n + 1) / (with + 0.5))) : 0;
        w->all += w->weight[i];
    }
}

/* Of what the words tell the share that is held; 1: they tell nothing. */
static double share(const words *w, uint64_t held)
{
    double shared = 0;
    for (size_t i = 0; i < w->n; i++) {
        shared += held >> i & 1 ? w->weight[i] : 0;
    }
    return w->all > 0 ? shared / w->all : 1;
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
static double best_passage(const rv_request *r, const words *asked)
{
    double best = 0;
    for (size_t h = 0; h < r->hits.n && h < HITS_MAX; h++) {
        const rv_memory_node *node = &r->hits.at[h];
        if (!node->corrected_by && !rv_recall_is_correction(node->text)) {
            best = fmax(best, share(asked, asked->held[h]));
        }
    }
    return best;
}

static bool is_nearest(const rv_request *r, const rv_memory_node *correction)
{
    bool nearest = correction->vector_score >= NEAR;
    for (size_t h = 0; h < r->hits.n; h++) {
        const rv_memory_node *other = &r->hits.at[h];
        nearest = nearest && (other == correction || !(other->vector_score >= correction->vector_score));
    }
    return nearest;
}

bool rv_recall_is_about(const rv_request *r, const rv_memory_node *correction)
{
    const char *fact = correction->text, *end = rv_recall_is_correction(fact) ? strstr(fact, " A: ") : NULL;
    if (!end) {
        return true; /* not made from feedback: a passage like others */
    }
    const char *begin = fact + strlen(RV_RECALL_HEAD);
    const rv_str corrected = rv_str_of(begin, (size_t)(end > begin ? end - begin : 0));
    const rv_str asked = rv_str_of(r->query, r->query_bytes);
    const bool other_name = names_something_else(corrected, asked);
    words its, ours;
    if (!other_name && is_nearest(r, correction)) {
        return true;
    }
    read_words(r, corrected, &its);
    read_words(r, asked, &ours);
    const double said = share(&its, held_by(&its, asked)), held = share(&ours, held_by(&ours, corrected));
    if (said + held < ENOUGH + (other_name ? NAME_MISSING : 0)) {
        return false;
    }
    return said >= HALF || best_passage(r, &ours) <= held + BEHIND;
}
