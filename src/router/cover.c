#include "router/cover.h"

#include "base/err.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

enum { WORDS_MAX = 64 /* bits */, PASSAGES_MAX = 16, READ_MAX_BYTES = 4096 };

/* ---- words ---- */

static bool is_word(unsigned char c)
{
    return c >= 0x80 || isalnum(c);
}

bool rv_word_next(rv_str *rest, rv_str *out)
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

bool rv_word_same(rv_str a, rv_str b)
{
    enum { STEM = 4, ENDING = 3 };
    size_t n = 0;
    while (n < a.n && n < b.n && tolower((unsigned char)a.at[n]) == tolower((unsigned char)b.at[n])) {
        n++;
    }
    return (n == a.n && n == b.n) || (n >= STEM && a.n - n <= ENDING && b.n - n <= ENDING);
}

bool rv_word_in(rv_str text, rv_str word)
{
    rv_str one;
    text.n = text.n < READ_MAX_BYTES ? text.n : READ_MAX_BYTES;
    while (rv_word_next(&text, &one)) {
        if (rv_word_same(one, word)) {
            return true;
        }
    }
    return false;
}

/* These only make it a question; notes are none and do not hold them, so they would seem to be rare. */
bool rv_word_asks(rv_str word)
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

/* ---- cover ---- */

const char *const rv_cover_names[RV_COVER] = {
    "passages",        "best cover",    "second cover", "third cover",    "lead",        "cover together",
    "best share",      "second share",  "third share",  "share together", "words asked", "length of all",
    "length of first", "words nowhere", "corrections",  "mean share",
};

/* Keeps the three largest. */
static void rank(float best[3], float x)
{
    for (int i = 0; i < 3; i++) {
        if (x > best[i]) {
            float was = best[i];
            best[i] = x;
            x = was;
        }
    }
}

/* Reads text once: how many words it has; there: of words [n], bit by bit, those that it holds. */
static size_t read_passage(rv_str text, const rv_str *words, size_t n, uint64_t *there)
{
    rv_str one;
    size_t length = 0;
    *there = 0;
    text.n = text.n < READ_MAX_BYTES ? text.n : READ_MAX_BYTES;
    for (; rv_word_next(&text, &one); length++) {
        for (size_t w = 0; w < n; w++) {
            if (!(*there >> w & 1) && rv_word_same(one, words[w])) {
                *there |= (uint64_t)1 << w;
            }
        }
    }
    return length;
}

/* Different words of the question that do not only ask. */
static size_t read_question(rv_str question, rv_str *words)
{
    rv_str word;
    size_t n = 0;
    while (n < WORDS_MAX && rv_word_next(&question, &word)) {
        bool known = rv_word_asks(word);
        for (size_t i = 0; i < n; i++) {
            known = known || (words[i].n == word.n && strncasecmp(words[i].at, word.at, word.n) == 0);
        }
        if (!known) {
            words[n++] = word;
        }
    }
    return n;
}

void rv_cover_fill(rv_str question, const rv_str *passages, size_t n, float *out)
{
    static const char mark[] = "Correction:";
    rv_str words[WORDS_MAX];
    float cover[PASSAGES_MAX] = { 0 }, share[PASSAGES_MAX] = { 0 }, all = 0, together = 0, met = 0, mean = 0;
    float covers[3] = { 0 }, shares[3] = { 0 }, corrections = 0;
    uint64_t there[PASSAGES_MAX];
    size_t n_words = read_question(question, words), length = 0, first = 0;
    n = n < PASSAGES_MAX ? n : PASSAGES_MAX;
    for (size_t p = 0; p < n; p++) {
        size_t here = read_passage(passages[p], words, n_words, &there[p]);
        length += here;
        first = p == 0 ? here : first;
    }
    for (size_t w = 0; w < n_words; w++) {
        float with = 0;
        for (size_t p = 0; p < n; p++) {
            with += there[p] >> w & 1;
        }
        float weight = fmaxf(0, logf(((float)n + 1) / (with + 0.5f)));
        all += weight;
        together += with > 0 ? weight : 0;
        met += with > 0;
        for (size_t p = 0; p < n; p++) {
            cover[p] += there[p] >> w & 1 ? weight : 0;
            share[p] += there[p] >> w & 1;
        }
    }
    for (size_t p = 0; p < n; p++) {
        rank(covers, all > 0 ? cover[p] / all : 0);
        rank(shares, n_words > 0 ? share[p] / (float)n_words : 0);
        mean += n_words > 0 ? share[p] / (float)(n_words * n) : 0;
        corrections += memmem(passages[p].at, passages[p].n, mark, sizeof mark - 1) != NULL;
    }
    const float found[RV_COVER] = { (float)n / 8,
                                    covers[0],
                                    covers[1],
                                    covers[2],
                                    covers[0] - covers[1],
                                    all > 0 ? together / all : 0,
                                    shares[0],
                                    shares[1],
                                    shares[2],
                                    n_words > 0 ? met / (float)n_words : 0,
                                    (float)n_words / 8,
                                    logf(1 + (float)length) / 6,
                                    n > 0 ? (float)first / 30 : 0,
                                    n_words > 0 ? 1 - met / (float)n_words : 0,
                                    corrections > 0,
                                    mean };
    for (int i = 0; i < RV_COVER; i++) {
        out[i] = fminf(found[i], 4);
    }
}
