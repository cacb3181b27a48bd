#include "router/cover.h"

#include "base/err.h"
#include "base/rng.h"

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

/* Different words, those that only ask left out or not. */
static size_t read_words(rv_str text, bool asking_too, rv_str *words)
{
    rv_str word;
    size_t n = 0;
    while (n < WORDS_MAX && rv_word_next(&text, &word)) {
        bool known = !asking_too && rv_word_asks(word);
        for (size_t i = 0; i < n; i++) {
            known = known || (words[i].n == word.n && strncasecmp(words[i].at, word.at, word.n) == 0);
        }
        if (!known) {
            words[n++] = word;
        }
    }
    return n;
}

/* A word weighs by how few of the n passages hold it. */
static float weight_of(const uint64_t *there, size_t n, size_t word)
{
    float with = 0;
    for (size_t p = 0; p < n; p++) {
        with += there[p] >> word & 1;
    }
    return fmaxf(0, logf(((float)n + 1) / (with + 0.5f)));
}

void rv_cover_fill(rv_str question, const rv_str *passages, size_t n, float *out)
{
    static const char mark[] = "Correction:";
    rv_str words[WORDS_MAX];
    float cover[PASSAGES_MAX] = { 0 }, share[PASSAGES_MAX] = { 0 }, all = 0, together = 0, met = 0, mean = 0;
    float covers[3] = { 0 }, shares[3] = { 0 }, corrections = 0;
    uint64_t there[PASSAGES_MAX];
    size_t n_words = read_words(question, false, words), length = 0, first = 0;
    n = n < PASSAGES_MAX ? n : PASSAGES_MAX;
    for (size_t p = 0; p < n; p++) {
        size_t here = read_passage(passages[p], words, n_words, &there[p]);
        length += here;
        first = p == 0 ? here : first;
    }
    for (size_t w = 0; w < n_words; w++) {
        float weight = weight_of(there, n, w);
        bool with = false;
        for (size_t p = 0; p < n; p++) {
            with = with || there[p] >> w & 1;
        }
        all += weight;
        together += with ? weight : 0;
        met += with;
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

/* ---- what an answer rests on ---- */

const char *const rv_says_names[RV_SAYS] = { "answer there", "cover of sentence", "better sentence",
                                             "better passage", "cover together" };

size_t rv_cite_at(rv_str text, size_t *number)
{
    enum { MOST = 1000000 };
    size_t n = 1, value = 0;
    if (text.n == 0 || text.at[0] != '[') {
        return 0;
    }
    for (; n < text.n && isdigit((unsigned char)text.at[n]); n++) {
        value = value < MOST ? 10 * value + (size_t)(text.at[n] - '0') : MOST;
    }
    if (n == 1 || n >= text.n || text.at[n] != ']') {
        return 0;
    }
    *number = value < MOST ? value : MOST;
    return n + 1;
}

bool rv_cite_next(rv_str *rest, size_t *number)
{
    for (size_t i = 0; i < rest->n; i++) {
        const rv_str from = rv_str_of(rest->at + i, rest->n - i);
        const size_t n = rv_cite_at(from, number);
        if (n > 0) {
            *rest = rv_str_of(from.at + n, from.n - n);
            return true;
        }
    }
    return false;
}

uint64_t rv_answer_hash(rv_str answer)
{
    unsigned char letters[256];
    uint64_t hash = 0;
    size_t n = 0, number;
    for (size_t i = 0; i < answer.n;) {
        unsigned char c = (unsigned char)answer.at[i];
        size_t skip = rv_cite_at(rv_str_of(answer.at + i, answer.n - i), &number);
        i += skip > 0 ? skip : 1;
        if (skip == 0 && (c >= 0x80 || isalnum(c))) {
            letters[n++] = (unsigned char)tolower(c);
        }
        if (n == sizeof letters || (n > 0 && i >= answer.n)) {
            hash = rv_hash64(letters, n, hash + 1);
            n = 0;
        }
    }
    return hash;
}

/* The next sentence; a question mark ends none, for a remembered answer stands behind its question. */
static bool next_sentence(rv_str *rest, rv_str *out)
{
    size_t to = 0;
    while (to < rest->n) {
        char c = rest->at[to++];
        if (c == '\n' ||
            ((c == '.' || c == '!') && (to == rest->n || isspace((unsigned char)rest->at[to])))) {
            break;
        }
    }
    *out = rv_str_of(rest->at, to);
    *rest = rv_str_of(rest->at + to, rest->n - to);
    return to > 0;
}

/* Weights [n] of the words that are there, as a share of all. */
static float share_of(uint64_t there, const float *weights, size_t n)
{
    float sum = 0, all = 0;
    for (size_t w = 0; w < n; w++) {
        all += weights[w];
        sum += there >> w & 1 ? weights[w] : 0;
    }
    return all > 0 ? sum / all : 0;
}

void rv_says_fill(rv_str question, const rv_str *passages, size_t n, rv_str answer, float *out)
{
    rv_str asked[WORDS_MAX], said[WORDS_MAX], value = answer, sentence;
    float weights[WORDS_MAX], even[WORDS_MAX];
    float found = 0, rests = 0, rests_said = 0, best_sentence = 0, best_passage = 0, cited_passage = 0;
    uint64_t there[PASSAGES_MAX], all = 0, here;
    size_t cited = 0, number;
    while (rv_cite_next(&value, &number)) { /* the value stands behind the last one */
        cited = number;
    }
    n = n < PASSAGES_MAX ? n : PASSAGES_MAX;
    size_t n_asked = read_words(question, false, asked), n_said = read_words(value, false, said);
    n_said = n_said > 0 ? n_said : read_words(value, true, said);
    for (size_t p = 0; p < n; p++) {
        (void)read_passage(passages[p], asked, n_asked, &there[p]);
        all |= there[p];
    }
    for (size_t w = 0; w < WORDS_MAX; w++) {
        weights[w] = w < n_asked ? weight_of(there, n, w) : 0;
        even[w] = 1;
    }
    for (size_t p = 0; p < n; p++) {
        bool is_cited = cited == p + 1;
        float share = share_of(there[p], weights, n_asked);
        rv_str rest =
            rv_str_of(passages[p].at, passages[p].n < READ_MAX_BYTES ? passages[p].n : READ_MAX_BYTES);
        best_passage = fmaxf(best_passage, share);
        cited_passage = is_cited ? share : cited_passage;
        while (next_sentence(&rest, &sentence)) {
            (void)read_passage(sentence, asked, n_asked, &here);
            float of_asked = share_of(here, weights, n_asked);
            (void)read_passage(sentence, said, n_said, &here);
            float of_said = share_of(here, even, n_said);
            best_sentence = fmaxf(best_sentence, of_asked);
            found = fmaxf(found, of_said);
            if ((is_cited || cited == 0) && of_said > 0 &&
                (of_said > rests_said || (of_said == rests_said && of_asked > rests))) {
                rests_said = of_said;
                rests = of_asked;
            }
        }
    }
    const float told[RV_SAYS] = { found, rests, best_sentence - rests, best_passage - cited_passage,
                                  share_of(all, weights, n_asked) };
    memcpy(out, told, sizeof told);
}
