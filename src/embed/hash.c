/* Text to 384 numbers without a model: every word, pair of words and run of 3 or 4 characters inside a word is hashed to two
 * of the 384 places and adds or takes away its weight there, so that texts which share words, or parts of words, point
 * the same way. Function words count little. The square root at the end keeps a frequent word from drowning the rest.
 *
 * Weights were chosen on 300 random questions of each set of bench/embed_recall.c (mean recall@10 .65 to .665, by the
 * luck of the hash). Without the square root the mean is .03 lower, without the character runs .06, without stems .02,
 * with 5-character runs .02 (more features, more collisions); a list of common words that count less changed nothing.
 * All arithmetic is IEEE float in a fixed order: the same text gives the same bits on every machine. */
#include "embed/embed_priv.h"
#include "base/rng.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    WORD_CHARS = 40, /* longer runs of letters (Chinese, base64) are cut into words of this length */
    WORD_BYTES = 4 * WORD_CHARS + 2, /* with the marks of its start and end */
    GRAM_MIN = 3,
    GRAM_MAX = 4,  /* characters */
    FOLD_MAX = 32, /* code points one code point folds to; Unicode has at most 18 */
    SEED_WORD = 1,
    SEED_GRAM = 2
};

static const float weight_function = 0.05f, weight_single = 0.7f, weight_long = 1.1f;
static const float weight_pair = 0.15f, weight_grams = 2.0f;

/* sorted by strcmp */
static const char *const function_words[] = {
    "a",          "about",    "above",   "after",     "again",     "against",    "all",      "also",
    "although",   "am",       "among",   "an",        "and",       "another",    "any",      "anybody",
    "anyone",     "anything", "are",     "aren",      "around",    "as",         "at",       "be",
    "because",    "been",     "before",  "being",     "below",     "between",    "both",     "but",
    "by",         "can",      "cannot",  "could",     "couldn",    "did",        "didn",     "do",
    "does",       "doesn",    "doing",   "don",       "done",      "down",       "during",   "each",
    "either",     "else",     "enough",  "etc",       "even",      "ever",       "every",    "everyone",
    "everything", "few",      "for",     "from",      "further",   "get",        "gets",     "getting",
    "give",       "given",    "go",      "goes",      "going",     "got",        "had",      "hadn",
    "has",        "hasn",     "have",    "haven",     "having",    "he",         "hence",    "her",
    "here",       "hers",     "herself", "him",       "himself",   "his",        "how",      "however",
    "i",          "if",       "in",      "into",      "is",        "isn",        "it",       "its",
    "itself",     "just",     "least",   "less",      "let",       "like",       "ll",       "made",
    "make",       "makes",    "many",    "may",       "me",        "might",      "mine",     "more",
    "most",       "much",     "must",    "my",        "myself",    "near",       "neither",  "never",
    "no",         "nobody",   "none",    "nor",       "not",       "nothing",    "now",      "of",
    "off",        "often",    "on",      "once",      "one",       "only",       "onto",     "or",
    "other",      "others",   "our",     "ours",      "ourselves", "out",        "over",     "own",
    "per",        "perhaps",  "quite",   "rather",    "re",        "really",     "s",        "same",
    "say",        "says",     "shall",   "she",       "should",    "shouldn",    "since",    "so",
    "some",       "somebody", "someone", "something", "sometimes", "still",      "such",     "t",
    "take",       "tell",     "than",    "that",      "the",       "their",      "theirs",   "them",
    "themselves", "then",     "there",   "therefore", "these",     "they",       "thing",    "things",
    "this",       "those",    "though",  "through",   "thus",      "to",         "together", "too",
    "toward",     "towards",  "under",   "until",     "up",        "upon",       "us",       "use",
    "used",       "using",    "ve",      "very",      "via",       "was",        "wasn",     "way",
    "we",         "well",     "were",    "weren",     "what",      "whatever",   "when",     "where",
    "whether",    "which",    "while",   "who",       "whoever",   "whom",       "whose",    "why",
    "will",       "with",     "within",  "without",   "won",       "would",      "wouldn",   "yes",
    "yet",        "you",      "your",    "yours",     "yourself",  "yourselves",
};

/* What has been read so far. */
typedef struct hasher {
    float *out;                /* [RV_EMBED_HASH_DIM] */
    char word[WORD_BYTES + 1]; /* '<', then the letters of the word at hand */
    size_t n_bytes, n_chars;   /* of the letters */
    bool symbol;               /* the word is one symbol */
    uint64_t previous;         /* hash of the last word that was no function word; 0: none */
    float previous_weight;
} hasher;

static int compare_word(const void *key, const void *entry)
{
    return strcmp(key, *(const char *const *)entry);
}

static bool is_function_word(const char *word)
{
    return bsearch(word, function_words, RV_COUNT(function_words), sizeof function_words[0], compare_word) !=
           NULL;
}

static bool ends_in(const char *word, size_t n, const char *end, size_t n_end)
{
    return memcmp(word + n - n_end, end, n_end) == 0;
}

/* "running" and "runs" to "run": English endings, roughly. word has n bytes; the stem's length is returned, and a y may
 * be written into it. */
static size_t stem(char *word, size_t n)
{
    size_t cut = 0;
    if (n > 4 && ends_in(word, n, "ies", 3)) {
        word[n - 3] = 'y';
        return n - 2;
    }
    if (n > 5 && ends_in(word, n, "ing", 3)) {
        cut = 3;
    } else if (n > 4 && ends_in(word, n, "ed", 2)) {
        cut = 2;
    }
    if (cut) {
        n -= cut;
        bool doubled =
            word[n - 1] == word[n - 2] && word[n - 1] != 'l' && word[n - 1] != 's' && word[n - 1] != 'z';
        return n > 3 && doubled ? n - 1 : n;
    }
    if (n > 3 && word[n - 1] == 's' && word[n - 2] != 's' && word[n - 2] != 'u' && word[n - 2] != 'i') {
        n--;
    }
    return n > 4 && word[n - 1] == 'e' ? n - 1 : n;
}

static void add_feature(float *out, uint64_t hash, float weight)
{
    for (int i = 0; i < 2; i++) {
        size_t place = (size_t)(((hash & 0x7fffffff) * RV_EMBED_HASH_DIM) >> 31);
        out[place] += hash >> 63 ? weight : -weight;
        hash *= 0x9e3779b97f4a7c15u; /* one more round for the second place */
        hash ^= hash >> 29;
        hash *= 0xbf58476d1ce4e5b9u;
        hash ^= hash >> 32;
    }
}

/* Runs of characters of "<word>". Together they weigh the square root of their number. */
static void add_grams(hasher *h, float weight)
{
    size_t at[WORD_CHARS + 3], n = 0, n_grams = 0;
    for (size_t i = 0; i < h->n_bytes + 2; i++) {
        if (((unsigned char)h->word[i] & 0xc0) != 0x80) {
            at[n++] = i;
        }
    }
    at[n] = h->n_bytes + 2;
    for (size_t size = GRAM_MIN; size <= GRAM_MAX; size++) {
        n_grams += n >= size ? n - size + 1 : 0;
    }
    weight *= weight_grams / sqrtf((float)n_grams); /* n_grams > 0: "<x>" is one */
    for (size_t size = GRAM_MIN; size <= GRAM_MAX; size++) {
        for (size_t i = 0; i + size <= n; i++) {
            add_feature(h->out, rv_hash64(h->word + at[i], at[i + size] - at[i], SEED_GRAM), weight);
        }
    }
}

static void end_word(hasher *h)
{
    if (h->n_chars == 0) {
        return;
    }
    char *letters = h->word + 1;
    letters[h->n_bytes] = 0;
    bool function = (h->symbol && h->n_bytes == 1) || is_function_word(letters);
    float weight = function          ? weight_function
                   : h->n_chars == 1 ? weight_single
                   : h->n_chars >= 8 ? weight_long
                                     : 1.0f;
    letters[h->n_bytes] = '>';
    if (!function) {
        add_grams(h, weight);
    }
    uint64_t hash = rv_hash64(letters, stem(letters, h->n_bytes), SEED_WORD);
    add_feature(h->out, hash, weight);
    if (!function) {
        if (h->previous) {
            /* in this order, and no word by itself */
            add_feature(h->out, h->previous * 0x9e3779b97f4a7c15u ^ hash,
                        weight_pair * sqrtf(weight * h->previous_weight));
        }
        h->previous = hash;
        h->previous_weight = weight;
    }
    h->n_bytes = h->n_chars = 0;
    h->symbol = false;
}

static void add_char(hasher *h, utf8proc_int32_t code)
{
    if (h->n_chars == WORD_CHARS) {
        end_word(h);
    }
    h->n_bytes += (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)h->word + 1 + h->n_bytes);
    h->n_chars++;
}

/* A code point that is not ASCII: folded (case, width, accents), a letter or digit joins the word, a symbol is one by
 * itself, anything else ends the word. */
static void add_wide(hasher *h, utf8proc_int32_t code)
{
    utf8proc_category_t kind = utf8proc_category(code);
    if (kind >= UTF8PROC_CATEGORY_MN && kind <= UTF8PROC_CATEGORY_ME) {
        return; /* an accent of the letter before it */
    }
    bool letter = kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_NO;
    if (!letter) {
        end_word(h);
        if (kind >= UTF8PROC_CATEGORY_SM && kind <= UTF8PROC_CATEGORY_SO) {
            add_char(h, code);
            h->symbol = true;
            end_word(h);
        }
        return;
    }
    utf8proc_int32_t folded[FOLD_MAX];
    int boundary = 0;
    utf8proc_option_t how = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_STRIPMARK;
    utf8proc_ssize_t n = utf8proc_decompose_char(code, folded, FOLD_MAX, how, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < FOLD_MAX; i++) {
        if (folded[i] > ' ') {
            add_char(h, folded[i]);
        }
    }
}

static void add_ascii(hasher *h, unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
        add_char(h, c);
    } else if (c >= 'A' && c <= 'Z') {
        add_char(h, c + ('a' - 'A'));
    } else {
        end_word(h);
        if (c > 0 && strchr("$+<=>^`|~", c)) {
            add_char(h, c);
            h->symbol = true;
            end_word(h);
        }
    }
}

void rv_embed_hash_text(const char *text, size_t n, float *out)
{
    memset(out, 0, RV_EMBED_HASH_DIM * sizeof *out);
    hasher h = { .out = out, .word = "<" };
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x80) {
            add_ascii(&h, c);
            i++;
            continue;
        }
        utf8proc_int32_t code;
        size_t left = n - i > 4 ? 4 : n - i;
        utf8proc_ssize_t bytes =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)left, &code);
        if (bytes < 1) {
            end_word(&h); /* not UTF-8: a border between words */
            i++;
            continue;
        }
        add_wide(&h, code);
        i += (size_t)bytes;
    }
    end_word(&h);

    float length = 0; /* squared: after the square root it is the sum of absolute values */
    for (size_t i = 0; i < RV_EMBED_HASH_DIM; i++) {
        length += fabsf(out[i]);
    }
    float scale = length > 0 ? 1.0f / sqrtf(length) : 0.0f;
    for (size_t i = 0; i < RV_EMBED_HASH_DIM; i++) {
        out[i] = copysignf(sqrtf(fabsf(out[i])), out[i]) * scale;
    }
}
