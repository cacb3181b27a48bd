#include "memory/sense.h"
#include "memory/memory.h"
#include "base/rng.h"

#include <string.h>

enum {
    LOOK_BYTES = 65536,
    TOKEN_BYTES = 100,
    REPEAT_LEAST = 12,
    VALUE_WORDS = 3,
    TYPO_BYTES = 5,
    HASHES = 18
};

/* ---- quality ---- */

static bool is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_vowel(unsigned char c)
{
    return strchr("aeiouyAEIOUY", c) != NULL;
}

typedef struct tally {
    size_t chars, letters, bytes,
        longest; /* chars without spaces; letters: and digits, and all that is not ASCII */
    size_t tokens, latin,
        odd; /* words of ASCII letters; without a vowel or with four consonants in a row at their beginning */
    size_t words, distinct;
} tally;

static void count_token(tally *t, const char *at, size_t n)
{
    size_t letters = 0, vowels = 0, digits = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)at[i];
        bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
        letters += letter;
        digits += c >= '0' && c <= '9';
        vowels += letter && is_vowel(c);
        t->letters += letter || (c >= '0' && c <= '9') || c >= 0x80;
    }
    t->chars += n;
    t->longest = n > t->longest ? n : t->longest;
    t->tokens++;
    if (letters >= 4 && letters + digits == n) {
        t->latin++;
        t->odd += vowels == 0 || digits * 3 > letters || vowels * 6 < letters;
    }
}

double rv_sense_quality(const char *text, size_t n, const char **why)
{
    tally t = { 0 };
    uint64_t seen[1024] = { 0 };
    n = n > LOOK_BYTES ? LOOK_BYTES : n;
    for (size_t at = 0; at < n;) {
        size_t from = at;
        while (at < n && !is_space((unsigned char)text[at])) {
            at++;
        }
        if (at > from) {
            count_token(&t, text + from, at - from);
            uint64_t hash = rv_hash64(text + from, at - from, 1);
            uint64_t *slot = &seen[hash % 1024];
            t.words++;
            t.distinct +=
                *slot !=
                hash; /* a slot that two words share counts them anew: fewer repetitions are seen, never more */
            *slot = hash;
        }
        at += at < n && is_space((unsigned char)text[at]);
    }
    const char *found = t.letters == 0                                        ? "no letters or digits"
                        : t.longest > TOKEN_BYTES && t.longest * 2 > t.chars  ? "one long token"
                        : t.letters * 2 < t.chars                             ? "mostly signs"
                        : t.latin >= 4 && t.odd * 2 > t.latin                 ? "made of no words"
                        : t.words >= REPEAT_LEAST && t.distinct * 4 < t.words ? "repeats itself"
                                                                              : NULL;
    *why = found ? found : "";
    return !found ? 1 : t.letters == 0 ? 0 : 0.3;
}

/* ---- what a text says ---- */

static bool one_of(const char *at, size_t n, const char *const *list, size_t n_list)
{
    for (size_t i = 0; i < n_list; i++) {
        if (strlen(list[i]) == n && memcmp(list[i], at, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Folded, as stems come; "t" is what "isn't" and "don't" end in. */
static bool is_negation(rv_str stem)
{
    static const char *const list[] = { "not",   "no",  "never",  "t",     "cannot", "nicht", "kein",
                                        "nie",   "pas", "jamais", "non",   "mai",    "niet",  "geen",
                                        "nooit", "int", "inte",   "ing",   "ikk",    "ikke",  "ei",
                                        "nem",   "nao", "nunc",   "nunca", "не",     "нет",   "degil" };
    return one_of(stem.at, stem.n, list, RV_COUNT(list));
}

/* What stands before the t of a negation. */
static bool is_half(rv_str stem)
{
    static const char *const list[] = { "isn", "aren",   "wasn",   "weren",   "don",  "doesn", "didn",
                                        "won", "wouldn", "couldn", "shouldn", "hasn", "haven", "hadn" };
    return one_of(stem.at, stem.n, list, RV_COUNT(list));
}

/* A value comes next. Room 7 and page 7 are names; "in 2019" says when. */
static bool leads_to_value(const char *at, size_t n)
{
    static const char *const list[] = { "is",   "are", "was",    "were", "at",     "until", "till", "has",
                                        "have", "had", "costs",  "cost", "equals", "ist",   "sind", "um",
                                        "bis",  "hat", "kostet", "est",  "a",      "es",    "ha" };
    char lower[16];
    for (size_t i = 0; i < n && n <= sizeof lower; i++) {
        lower[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] + 32 : at[i]);
    }
    return n <= sizeof lower && one_of(lower, n, list, RV_COUNT(list));
}

void rv_sense_of(rv_words *w, const char *text, size_t n, rv_sense *out)
{
    rv_language language = rv_words_language(text, n, false);
    rv_word word;
    size_t used = 0;
    bool value_next = false;
    out->n = 0;
    rv_words_begin(w, text, n, RV_LANGUAGE_SET(language ? language : RV_LANGUAGE_ENGLISH));
    while (rv_words_next(w, &word)) {
        bool negation = is_negation(word.stem);
        if (!negation && (word.common || is_half(word.stem))) {
            value_next = leads_to_value(text + word.at, word.n);
            continue;
        }
        if (out->n == RV_SENSE_WORDS || used + word.stem.n > sizeof out->letters) {
            out->n = 0;
            return;
        }
        struct sense_word *s = &out->words[out->n++];
        bool number = false;
        for (size_t i = 0; i < word.stem.n; i++) {
            number |= word.stem.at[i] >= '0' && word.stem.at[i] <= '9';
        }
        *s = (struct sense_word){ .hash = negation ? 1 : rv_hash64(word.stem.at, word.stem.n, 2),
                                  .at = (uint16_t)used,
                                  .n = (uint16_t)word.stem.n,
                                  .number = number,
                                  .negation = negation,
                                  .after_verb = value_next };
        value_next = leads_to_value(text + word.at, word.n);
        memcpy(out->letters + used, word.stem.at, word.stem.n);
        used += word.stem.n;
    }
}

size_t rv_sense_keys(const rv_sense *s, uint64_t scope, int64_t out[RV_SENSE_KEYS])
{
    uint64_t least[HASHES];
    if (s->n < RV_SENSE_LEAST) {
        return 0;
    }
    for (size_t h = 0; h < HASHES; h++) {
        least[h] = UINT64_MAX;
        for (size_t i = 0; i < s->n; i++) {
            if (s->words[i].number || s->words[i].negation) {
                continue;
            }
            uint64_t x =
                (s->words[i].hash ^ (h + 1) * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u; /* splitmix64 */
            x = (x ^ x >> 27) * 0x94d049bb133111ebu;
            x ^= x >> 31;
            least[h] = x < least[h] ? x : least[h];
        }
        if (least[h] == UINT64_MAX) {
            return 0; /* nothing but numbers */
        }
    }
    for (size_t k = 0; k < RV_SENSE_KEYS; k++) {
        out[k] = (int64_t)rv_hash64(&least[k * (HASHES / RV_SENSE_KEYS)],
                                    HASHES / RV_SENSE_KEYS * sizeof *least, scope + k);
    }
    return RV_SENSE_KEYS;
}

/* ---- two texts ---- */

/* Equal, but for one letter that is another, missing, too many, or swapped with its neighbour. */
static bool is_typo(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t from = 0, longer = n_a > n_b ? n_a : n_b, shorter = n_a < n_b ? n_a : n_b;
    if (longer < TYPO_BYTES || longer - shorter > 1) {
        return false;
    }
    while (from < shorter && a[from] == b[from]) {
        from++;
    }
    if (n_a != n_b) {
        const char *l = n_a > n_b ? a : b, *s = n_a > n_b ? b : a;
        return memcmp(l + from + 1, s + from, shorter - from) == 0;
    }
    bool swapped = from + 1 < n_a && a[from] == b[from + 1] && a[from + 1] == b[from] &&
                   memcmp(a + from + 2, b + from + 2, n_a - from - 2) == 0;
    return swapped || from == n_a || memcmp(a + from + 1, b + from + 1, n_a - from - 1) == 0;
}

static bool same_word(const rv_sense *a, size_t i, const rv_sense *b, size_t k)
{
    const struct sense_word *x = &a->words[i], *y = &b->words[k];
    return x->hash == y->hash || (!x->number && !y->number && !x->negation && !y->negation &&
                                  is_typo(a->letters + x->at, x->n, b->letters + y->at, y->n));
}

/* Does newer leave out only words that carry neither number nor negation, and say no other? */
static bool says_no_more(const rv_sense *newer, const rv_sense *older)
{
    size_t i = 0;
    for (size_t k = 0; k < older->n; k++) {
        if (i < newer->n && same_word(newer, i, older, k)) {
            i++;
        } else if (older->words[k].number || older->words[k].negation) {
            return false;
        }
    }
    return i == newer->n && newer->n * 5 >= older->n * 4;
}

/* One of them has a single negation that the other lacks. */
static bool negated(const rv_sense *longer, const rv_sense *shorter)
{
    size_t extra = 0;
    if (longer->n != shorter->n + 1) {
        return false;
    }
    for (size_t k = 0; k < longer->n; k++) {
        if (k - extra < shorter->n && longer->words[k].hash == shorter->words[k - extra].hash) {
            continue;
        }
        if (extra || !longer->words[k].negation) {
            return false;
        }
        extra = 1;
    }
    return extra == 1;
}

static bool other_value(const rv_sense *newer, const rv_sense *older)
{
    size_t different = 0;
    if (newer->n != older->n) {
        return false;
    }
    for (size_t i = 0; i < newer->n; i++) {
        if (newer->words[i].hash != older->words[i].hash) {
            different++;
            if (!newer->words[i].number || !older->words[i].number || !newer->words[i].after_verb ||
                i + VALUE_WORDS < newer->n) {
                return false;
            }
        }
    }
    return different == 1;
}

rv_sense_relation rv_sense_compare(const rv_sense *newer, const rv_sense *older)
{
    if (newer->n < RV_SENSE_LEAST || older->n < RV_SENSE_LEAST - 1) {
        return RV_SENSE_OTHER;
    }
    return says_no_more(newer, older)                                                    ? RV_SENSE_SAME
           : negated(newer, older) || negated(older, newer) || other_value(newer, older) ? RV_SENSE_OPPOSITE
                                                                                         : RV_SENSE_OTHER;
}

/* ---- told or asked ---- */

/* The next word in small letters, at most room - 1 bytes of it; 0 at the end. */
static size_t next_word(const char *text, size_t n, size_t *at, char *word, size_t room)
{
    size_t k = 0;
    while (*at < n && is_space((unsigned char)text[*at])) {
        (*at)++;
    }
    for (; *at < n && !is_space((unsigned char)text[*at]); (*at)++) {
        char c = text[*at];
        if (k + 1 < room && strchr(",.;:!", c) == NULL) {
            word[k++] = (char)(c >= 'A' && c <= 'Z' ? c | 32 : c);
        }
    }
    word[k] = 0;
    return k;
}

static bool stands_in(const char *word, const char *const *list)
{
    for (; *list && strcmp(*list, word) != 0; list++) {
    }
    return *list != NULL;
}

bool rv_memory_tells(const char *text, size_t n)
{
    static const char *const asks[] = {
        "who",       "whom",      "whose",  "what",   "when", "where", "why",     "which",    "how",
        "is",        "are",       "was",    "were",   "do",   "does",  "did",     "can",      "could",
        "will",      "would",     "shall",  "should", "may",  "might", "must",    "has",      "have",
        "had",       "tell",      "show",   "list",   "give", "find",  "explain", "describe", "summarise",
        "summarize", "compare",   "write",  "say",    "make", "help",  "please",  "let",      "name",
        "count",     "translate", "answer", "use",    "read", "look",  "think",   "forget",   "hello",
        "hi",        "hey",       "thanks", "thank",  "good", "great", "ok",      "okay",     "yes",
        "no",        "sorry",     "bye",    "and",    "or",   "but",   "so",      "then",     NULL
    };
    static const char *const wants[] = { "want",  "wanted", "need",  "wonder", "wish",
                                         "mean",  "ask",    "asked", "think",  "guess",
                                         "would", "cannot", "can't", "don't",  NULL };
    char first[24], second[24];
    size_t at = 0, words = 2;
    while (n > 0 && is_space((unsigned char)text[n - 1])) {
        n--;
    }
    if (n == 0 || text[n - 1] != '.' || memchr(text, '?', n) ||
        !next_word(text, n, &at, first, sizeof first) || !next_word(text, n, &at, second, sizeof second)) {
        return false;
    }
    for (char more[4]; next_word(text, n, &at, more, sizeof more) > 0;) {
        words++;
    }
    bool self = strcmp(first, "i") == 0 || strcmp(first, "we") == 0;
    return words > RV_SENSE_LEAST && !stands_in(first, asks) && !(self && stands_in(second, wants));
}
