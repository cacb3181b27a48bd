/* How well near-duplicates, contradictions and odd texts are told: edits of real sentences whose right answer is known because we made them.
 *     bench_memory_sense DOCS.jsonl [N [show]]      lines {"text"}; N sentences, default 2,000
 * One JSON line for each edit: how many are called the same, the opposite, odd; and how often a key is shared, without which nobody looks.
 * Then short facts, made from frames; and all texts of the file as if they were added one after the other (all of them, not N): how many are
 * called the same as, or the opposite of, an earlier one. Whoever wrote them said different things, so these are false alarms but for
 * repetitions; show prints them. */
#include "base/json.h"
#include "base/rng.h"
#include "memory/sense.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT = 2048, SENTENCES = 20000, WORDS = 256 };

static char (*sentences)[TEXT];
static size_t n_sentences;
static uint64_t state = 1;

static size_t pick(size_t n)
{
    state = rv_hash64(&state, sizeof state, 7);
    return n ? (size_t)(state % n) : 0;
}

/* The words of a text as places in it. */
static size_t split(const char *text, size_t at[WORDS], size_t n[WORDS])
{
    size_t count = 0;
    for (size_t i = 0; text[i] && count < WORDS;) {
        i += strspn(text + i, " ");
        size_t k = strcspn(text + i, " ");
        if (k) {
            at[count] = i;
            n[count++] = k;
        }
        i += k;
    }
    return count;
}

static bool all_letters(const char *at, size_t n)
{
    bool good = n >= 5;
    for (size_t i = 0; good && i < n; i++) {
        good = (at[i] | 32) >= 'a' && (at[i] | 32) <= 'z';
    }
    return good;
}

static bool put(char *out, const char *text, size_t at, size_t n, const char *with)
{
    return (size_t)snprintf(out, TEXT, "%.*s%s%s", (int)at, text, with, text + at + n) < TEXT;
}

/* Each edit writes what became of text; false: it has no place in this one. */
static bool unchanged(const char *text, char *out)
{
    return snprintf(out, TEXT, "%s", text) > 0;
}

static bool upper(const char *text, char *out)
{
    size_t i = 0;
    for (; text[i]; i++) {
        out[i] = (char)(text[i] >= 'a' && text[i] <= 'z' ? text[i] - 32 : text[i]);
    }
    out[i] = 0;
    return true;
}

static bool no_signs(const char *text, char *out)
{
    size_t n = 0;
    for (size_t i = 0; text[i]; i++) {
        if (!strchr(".,;:!?\"()", text[i])) {
            out[n++] = text[i];
        }
    }
    out[n] = 0;
    return true;
}

static bool prefix(const char *text, char *out)
{
    return (size_t)snprintf(out, TEXT, "and so it is that %s", text) < TEXT;
}

static bool typo(const char *text, char *out)
{
    size_t at[WORDS], n[WORDS], count = split(text, at, n);
    for (size_t tries = 0; tries < 20; tries++) {
        size_t w = pick(count);
        if (count && all_letters(text + at[w], n[w])) {
            size_t i = at[w] + 1 + pick(n[w] - 2);
            snprintf(out, TEXT, "%s", text);
            char c = out[i];
            out[i] = out[i + 1];
            out[i + 1] = c;
            return true;
        }
    }
    return false;
}

static bool one_dropped(const char *text, char *out)
{
    size_t at[WORDS], n[WORDS], count = split(text, at, n);
    for (size_t tries = 0; tries < 20; tries++) {
        size_t w = pick(count);
        if (count > 9 && all_letters(text + at[w], n[w])) {
            return put(out, text, at[w], n[w], "");
        }
    }
    return false;
}

static bool other_number(const char *text, char *out)
{
    size_t i = strcspn(text, "0123456789");
    if (!text[i]) {
        return false;
    }
    snprintf(out, TEXT, "%s", text);
    out[i] = (char)('0' + (out[i] - '0' + 1 + (int)pick(8)) % 10);
    return true;
}

static bool negated(const char *text, char *out)
{
    static const char *const verbs[] = { " is ", " was ", " are ", " were ", " can ", " will " };
    for (size_t v = 0; v < RV_COUNT(verbs); v++) {
        const char *at = strstr(text, verbs[v]);
        char with[16];
        snprintf(with, sizeof with, "%snot ", verbs[v]);
        if (at) {
            return put(out, text, (size_t)(at - text), strlen(verbs[v]), with);
        }
    }
    return false;
}

static bool other_word(const char *text, char *out)
{
    size_t at[WORDS], n[WORDS], count = split(text, at, n);
    for (size_t tries = 0; tries < 40; tries++) {
        size_t w = pick(count), at2[WORDS], n2[WORDS];
        const char *from = sentences[pick(n_sentences)];
        size_t count2 = split(from, at2, n2), w2 = pick(count2);
        char word[64];
        if (count && count2 && all_letters(text + at[w], n[w]) && all_letters(from + at2[w2], n2[w2]) &&
            n2[w2] < sizeof word && (n[w] != n2[w2] || memcmp(text + at[w], from + at2[w2], n[w]) != 0)) {
            snprintf(word, sizeof word, "%.*s", (int)n2[w2], from + at2[w2]);
            return put(out, text, at[w], n[w], word);
        }
    }
    return false;
}

static bool longer(const char *text, char *out)
{
    return (size_t)snprintf(out, TEXT, "%s %s", text, sentences[pick(n_sentences)]) < TEXT;
}

static bool another(const char *text, char *out)
{
    const char *from = sentences[pick(n_sentences)];
    return strcmp(from, text) != 0 && snprintf(out, TEXT, "%s", from) > 0;
}

/* Junk, made from the letters of the text. */
static bool shuffled(const char *text, char *out)
{
    size_t n = strlen(text);
    snprintf(out, TEXT, "%s", text);
    for (size_t i = n; i > 1; i--) {
        size_t k = pick(i);
        char c = out[i - 1];
        out[i - 1] = out[k];
        out[k] = c;
    }
    return true;
}

static bool repeated(const char *text, char *out)
{
    size_t at[WORDS], n[WORDS], count = split(text, at, n), length = 0;
    if (count < 3) {
        return false;
    }
    for (int i = 0; i < 10; i++) {
        length += (size_t)snprintf(out + length, TEXT - length, "%.*s ",
                                   (int)(at[2] + n[2] > 60 ? 60 : at[2] + n[2]), text);
    }
    return true;
}

static bool encoded(const char *text, char *out)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (size_t i = 0; text[i] && text[i + 1] && text[i + 2] && n + 5 < TEXT; i += 3) {
        uint32_t bits = (uint32_t)(unsigned char)text[i] << 16 | (uint32_t)(unsigned char)text[i + 1] << 8 |
                        (unsigned char)text[i + 2];
        for (int k = 3; k >= 0; k--) {
            out[n++] = letters[bits >> 6 * k & 63];
        }
    }
    out[n] = 0;
    return n > 120;
}

static bool signs(const char *text, char *out)
{
    for (size_t i = 0; i <= strlen(text); i++) {
        out[i] = text[i] == ' ' || !text[i] ? text[i] : i % 5 == 0 ? 'a' : "#$%&*+-/<=>@^_|~"[pick(16)];
    }
    return true;
}

static void measure(rv_words *w, const char *name, bool (*edit)(const char *, char *))
{
    static rv_sense newer, older;
    static char text[TEXT];
    size_t n = 0, same = 0, opposite = 0, odd = 0, shared = 0;
    for (size_t i = 0; i < n_sentences; i++) {
        int64_t x[RV_SENSE_KEYS], y[RV_SENSE_KEYS];
        const char *why;
        if (!edit(sentences[i], text)) {
            continue;
        }
        n++;
        odd += rv_sense_quality(text, strlen(text), &why) < 1;
        rv_sense_of(w, text, strlen(text), &newer);
        rv_sense_of(w, sentences[i], strlen(sentences[i]), &older);
        size_t n_x = rv_sense_keys(&newer, 0, x), n_y = rv_sense_keys(&older, 0, y);
        bool key = false;
        for (size_t k = 0; k < n_x && k < n_y; k++) {
            key |= x[k] == y[k];
        }
        rv_sense_relation how = rv_sense_compare(&newer, &older);
        shared += key;
        same += key && how == RV_SENSE_SAME;
        opposite += key && how == RV_SENSE_OPPOSITE;
    }
    printf(
        "{\"edit\":\"%s\",\"texts\":%zu,\"key_shared\":%.4f,\"same\":%.4f,\"opposite\":%.4f,\"odd\":%.4f}\n",
        name, n, (double)shared / (double)(n ? n : 1), (double)same / (double)(n ? n : 1),
        (double)opposite / (double)(n ? n : 1), (double)odd / (double)(n ? n : 1));
}

static rv_sense_relation relation(rv_words *w, const char *newer, const char *older)
{
    static rv_sense a, b;
    int64_t x[RV_SENSE_KEYS], y[RV_SENSE_KEYS];
    rv_sense_of(w, newer, strlen(newer), &a);
    rv_sense_of(w, older, strlen(older), &b);
    size_t n_x = rv_sense_keys(&a, 0, x), n_y = rv_sense_keys(&b, 0, y);
    bool key = false;
    for (size_t k = 0; k < n_x && k < n_y; k++) {
        key |= x[k] == y[k];
    }
    return key ? rv_sense_compare(&a, &b) : RV_SENSE_OTHER;
}

/* A subject and a value in their frame; NULL in place of a value: there is none, and the frame's other form denies it. */
static const struct {
    const char *said, *denied;
    const char *subjects[6];
    const char *values[4];
} frames[] = {
    { "My %s is %s.",
      NULL,
      { "son", "daughter", "nephew", "dog", "niece", "cat" },
      { "7", "8", "11", "nine" } },
    { "The %s is at %s.",
      NULL,
      { "meeting", "party", "lesson", "concert", "dinner", "exam" },
      { "10", "11:30", "9 pm", "six" } },
    { "The %s leaves at %s.",
      NULL,
      { "bus", "train", "ferry", "shuttle", "tram", "coach" },
      { "8:15", "9:45", "17:05", "23:40" } },
    { "My %s is %s.",
      NULL,
      { "salary", "rent", "pension", "deposit", "fee", "tax" },
      { "50000", "61,500", "900", "1.250" } },
    { "The %s of the gate is %s.",
      NULL,
      { "code", "width", "price", "number", "height", "age" },
      { "1234", "5678", "90", "12" } },
    { "The %s phone number is %s.",
      NULL,
      { "office", "school", "clinic", "garage", "bakery", "library" },
      { "555 1234", "555 9876", "0171/4455", "+32 9 225 11" } },
    { "The %s costs %s euros.",
      NULL,
      { "ticket", "soup", "coffee", "book", "lamp", "chair" },
      { "4", "5", "12.50", "seven" } },
    { "The %s is on %s.",
      NULL,
      { "course", "fair", "festival", "season", "school", "sale" },
      { "3 May", "4 June", "12 May", "1 July 2026" } },
    { "The %s closes at %s.",
      NULL,
      { "workshop", "library", "pool", "cafe", "shop", "museum" },
      { "six", "seven", "18:30", "5" } },
    { "I like %s%s.",
      "I do not like %s%s.",
      { "tea", "rain", "fish", "jazz", "snow", "cheese" },
      { "", "", "", "" } },
    { "The %s is open%s.",
      "The %s is not open%s.",
      { "cafe", "pool", "shop", "gate", "office", "park" },
      { "", "", "", "" } },
};

static void short_facts(rv_words *w)
{
    size_t n = 0, opposite = 0, n_other = 0, other_opposite = 0, other_same = 0;
    for (size_t f = 0; f < RV_COUNT(frames); f++) {
        for (size_t i = 0; i < 6; i++) {
            char older[256], newer[256], beside[256];
            const char *subject = frames[f].subjects[i], *next = frames[f].subjects[(i + 1) % 6];
            const char *x = frames[f].values[i % 4], *y = frames[f].values[(i + 1) % 4];
            const char *changed = frames[f].denied ? frames[f].denied : frames[f].said;
            snprintf(older, sizeof older, frames[f].said, subject, x);
            snprintf(newer, sizeof newer, changed, subject, y);
            snprintf(beside, sizeof beside, changed, next, y);
            n++;
            opposite += relation(w, newer, older) == RV_SENSE_OPPOSITE;
            n_other++;
            other_opposite += relation(w, beside, older) == RV_SENSE_OPPOSITE;
            other_same += relation(w, beside, older) == RV_SENSE_SAME;
        }
    }
    printf("{\"short_facts\":%zu,\"another value or denied, opposite\":%.4f,\"of another subject, "
           "opposite\":%.4f,\"same\":%.4f}\n",
           n, (double)opposite / (double)n, (double)other_opposite / (double)n_other,
           (double)other_same / (double)n_other);
}

typedef struct shared_key {
    int64_t key;
    size_t text;
} shared_key;

static int by_key(const void *a, const void *b)
{
    const shared_key *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : x->text < y->text ? -1 : x->text > y->text;
}

/* Of all texts that share a key, the newest 32 before each, as near.c looks at them. */
static void pairs(rv_words *w, char (*texts)[TEXT], size_t n, bool show)
{
    static rv_sense newer;
    shared_key *keys = calloc(n * RV_SENSE_KEYS + 1, sizeof *keys);
    char *called = calloc(n + 1, 1);
    size_t n_keys = 0, looked = 0, counts[3] = { 0 };
    for (size_t i = 0; i < n && keys && called; i++) {
        int64_t x[RV_SENSE_KEYS];
        rv_sense_of(w, texts[i], strlen(texts[i]), &newer);
        for (size_t k = 0, n_x = rv_sense_keys(&newer, 0, x); k < n_x; k++) {
            keys[n_keys++] = (shared_key){ x[k], i };
        }
    }
    qsort(keys, n_keys, sizeof *keys, by_key);
    for (size_t i = 0; i < n_keys; i++) {
        for (size_t back = 1; back <= 32 && back <= i && keys[i - back].key == keys[i].key; back++) {
            const char *a = texts[keys[i].text], *b = texts[keys[i - back].text];
            rv_sense_relation how = strcmp(a, b) == 0 ? RV_SENSE_OTHER : relation(w, a, b);
            looked++;
            if (how != RV_SENSE_OTHER && !(called[keys[i].text] & 1 << how)) {
                called[keys[i].text] |= (char)(1 << how);
                counts[how]++;
                if (show) {
                    fprintf(stderr, "%s\t%s\t%s\n", how == RV_SENSE_SAME ? "same" : "opposite", b, a);
                }
            }
        }
    }
    printf(
        "{\"texts\":%zu,\"pairs_looked_at\":%zu,\"texts_called_same\":%zu,\"texts_called_opposite\":%zu}\n",
        n, looked, counts[RV_SENSE_SAME], counts[RV_SENSE_OPPOSITE]);
    free(keys);
    free(called);
}

int main(int argc, char **argv)
{
    size_t most = argc > 2 ? (size_t)atoi(argv[2]) : 2000, room = 0, n_all = 0;
    bool show = argc > 3 && strcmp(argv[3], "show") == 0;
    FILE *in = argc > 1 ? fopen(argv[1], "r") : NULL;
    char *line = NULL, (*all)[TEXT] = calloc(SENTENCES, sizeof *all);
    sentences = calloc(SENTENCES, sizeof *sentences);
    if (!in || !sentences || !all || most > SENTENCES) {
        fprintf(stderr, "usage: bench_memory_sense DOCS.jsonl [N [show]]\n");
        return 2;
    }
    while (n_all < SENTENCES && getline(&line, &room, in) > 0) {
        json_t *o = NULL;
        const char *text = NULL;
        if (rv_json_parse(line, strlen(line), &o) == RV_OK &&
            rv_json_get_string(o, "text", &text, NULL) == RV_OK && text && strlen(text) < TEXT / 2) {
            snprintf(all[n_all++], TEXT, "%s", text);
            if (n_sentences < most && strlen(text) > 20) {
                snprintf(sentences[n_sentences++], TEXT, "%s", text);
            }
        }
        json_decref(o);
    }
    rv_words *w;
    if (rv_words_new(&rv_heap, &w)) {
        return 1;
    }
    static const struct {
        const char *name;
        bool (*edit)(const char *, char *);
    } edits[] = { { "unchanged", unchanged },
                  { "upper case", upper },
                  { "no punctuation", no_signs },
                  { "common words before", prefix },
                  { "one typo", typo },
                  { "one word left out", one_dropped },
                  { "another number", other_number },
                  { "negated", negated },
                  { "another word", other_word },
                  { "another sentence added", longer },
                  { "another sentence", another },
                  { "letters shuffled", shuffled },
                  { "first words ten times", repeated },
                  { "base64", encoded },
                  { "signs", signs } };
    for (size_t i = 0; i < RV_COUNT(edits); i++) {
        measure(w, edits[i].name, edits[i].edit);
    }
    short_facts(w);
    pairs(w, all, n_all, show);
    rv_words_free(w);
    free(line);
    free(all);
    free(sentences);
    fclose(in);
    return 0;
}
