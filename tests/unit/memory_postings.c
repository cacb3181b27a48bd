/* The best by BM25 without looking at most texts: the same as when all are looked at. */
#include "base/rng.h"
#include "memory/postings.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXTS = 9000, VOCABULARY = 800, WORDS = 40, K = 25 };

typedef struct corpus {
    rv_words *words;
    rv_postings *p;
    char *texts[TEXTS];
    uint64_t bits[TEXTS * 2 / 64 + 1]; /* ids are even numbers from 2 */
} corpus;

/* The r-th word about as often as 1 / r, as in a language. Letters no stemmer takes off. */
static void write_text(rv_rng *rng, size_t n, rv_text *out)
{
    for (size_t i = 0; i < n; i++) {
        unsigned w = (unsigned)pow(VOCABULARY, rv_rng_unit(rng));
        rv_text_addf(out, "%sq%c%cq", i ? " " : "", (char)('a' + w / 26 % 26), (char)('a' + w % 26));
    }
}

static void add(corpus *c, size_t i)
{
    rv_cut cut;
    CHECK_OK(rv_postings_cut(&rv_heap, c->words, c->texts[i], strlen(c->texts[i]), &cut));
    CHECK_OK(rv_postings_prepare(c->p, (int64_t)(2 * i + 2), &cut));
    rv_cut_deinit(&cut);
    c->bits[(2 * i + 2) / 64] |= (uint64_t)1 << (2 * i + 2) % 64;
}

static void fill(corpus *c, uint64_t seed)
{
    *c = (corpus){ 0 };
    rv_rng rng;
    rv_rng_init(&rng, seed);
    CHECK_OK(rv_words_new(&rv_heap, &c->words));
    CHECK_OK(rv_postings_new(&rv_heap, &c->p));
    for (size_t i = 0; i < TEXTS; i++) {
        rv_text text;
        rv_text_init(&text, &rv_heap, 1 << 16);
        write_text(&rng, 1 + (size_t)rv_rng_below(&rng, WORDS) * (i < TEXTS / 2 ? 1 : 3),
                   &text); /* the mean grows */
        c->texts[i] = rv_strdup(&rv_heap, rv_text_get(&text));
        rv_text_deinit(&text);
        add(c, i);
        if (i % 7 == 3) {
            rv_postings_commit(c->p);
        }
    }
    rv_postings_commit(c->p);
    CHECK_OK(rv_postings_check(c->p));
}

static void drop(corpus *c)
{
    for (size_t i = 0; i < TEXTS; i++) {
        rv_free(&rv_heap, c->texts[i]);
    }
    rv_postings_free(c->p);
    rv_words_free(c->words);
}

static size_t count_of(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, word)); at += 4) {
        n++;
    }
    return n;
}

/* scores [TEXTS] of all that pass. */
static void bm25(const corpus *c, const char *question, double mean, double *scores)
{
    static double counts[TEXTS];
    char word[5] = "";
    memset(scores, 0, TEXTS * sizeof *scores);
    for (size_t at = 0; at + 4 <= strlen(question); at += 5) {
        memcpy(word, question + at, 4);
        double holders = 0;
        for (size_t d = 0; d < TEXTS; d++) {
            counts[d] = (double)count_of(c->texts[d], word);
            holders += counts[d] > 0;
        }
        double idf = log((TEXTS - holders + 0.5) / (holders + 0.5));
        for (size_t d = 0; strstr(question, word) == question + at && d < TEXTS; d++) {
            bool passes = c->bits[(2 * d + 2) / 64] >> (2 * d + 2) % 64 & 1;
            double length = (double)(strlen(c->texts[d]) + 1) / 5, n = counts[d];
            scores[d] += passes && n > 0
                             ? (idf > 1e-6 ? idf : 1e-6) * n * 2.2 / (n + 1.2 * (0.25 + 0.75 * length / mean))
                             : 0;
        }
    }
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

static void compare(corpus *c, const char *question, double mean)
{
    static double scores[TEXTS];
    size_t matching = 0, found = 0;
    bm25(c, question, mean, scores);
    for (size_t d = 0; d < TEXTS; d++) {
        matching += scores[d] > 0;
    }
    static double sorted[TEXTS];
    memcpy(sorted, scores, sizeof sorted);
    qsort(sorted, TEXTS, sizeof *sorted, descending);
    rv_words_hit hits[K];
    CHECK_OK(rv_postings_search(c->p, c->words, question, strlen(question), c->bits, 2 * TEXTS + 3, K, hits,
                                &found));
    CHECK(found == (matching < K ? matching : K), "\"%s\": %zu found of %zu", question, found, matching);
    for (size_t i = 0; i < found; i++) {
        double own = scores[hits[i].id / 2 - 1];
        CHECK(fabs((double)hits[i].score - own) <= 1e-4 * own + 1e-5 &&
                  fabs(own - sorted[i]) <= 1e-4 * own + 1e-5,
              "\"%s\", place %zu: text %lld with %g, by hand %g, best %g", question, i, (long long)hits[i].id,
              (double)hits[i].score, own, sorted[i]);
    }
}

TEST(the_best_are_the_same_as_when_all_texts_are_looked_at)
{
    static corpus c;
    for (uint64_t seed = 1; seed < 4; seed++) {
        fill(&c, seed);
        double total = 0;
        for (size_t i = 0; i < TEXTS; i++) {
            total += (double)(strlen(c.texts[i]) + 1) / 5;
        }
        rv_rng rng;
        rv_rng_init(&rng, 99 + seed);
        for (size_t q = 0; q < 60; q++) {
            rv_text question;
            rv_text_init(&question, &rv_heap, 4096);
            write_text(&rng, 1 + q % 9, &question);
            compare(&c, rv_text_get(&question), total / TEXTS);
            rv_text_deinit(&question);
            for (int i = 0; i < 20; i++) { /* texts that are removed, or kept out, or come back */
                size_t id = 2 * (size_t)rv_rng_below(&rng, TEXTS) + 2;
                c.bits[id / 64] ^= (uint64_t)1 << id % 64;
            }
        }
        drop(&c);
    }
}

TEST(what_was_cancelled_is_not_found)
{
    static corpus c;
    fill(&c, 9);
    rv_cut cut;
    rv_words_hit hit;
    size_t found = 1;
    const char *text = "zebra qaaq";
    CHECK_OK(rv_postings_cut(&rv_heap, c.words, text, strlen(text), &cut));
    CHECK_OK(rv_postings_prepare(c.p, 2 * TEXTS + 2, &cut));
    rv_postings_cancel(c.p);
    c.bits[(2 * TEXTS + 2) / 64] |= (uint64_t)1 << (2 * TEXTS + 2) % 64;
    CHECK_OK(rv_postings_search(c.p, c.words, "zebra", 5, c.bits, 2 * TEXTS + 3, 1, &hit, &found));
    CHECK(found == 0, "a cancelled text was found");
    CHECK_OK(rv_postings_prepare(c.p, 2 * TEXTS + 2, &cut));
    CHECK_OK(rv_postings_search(c.p, c.words, "zebra", 5, c.bits, 2 * TEXTS + 3, 1, &hit, &found));
    CHECK(found == 0, "a prepared text was found");
    rv_postings_commit(c.p);
    CHECK_OK(rv_postings_search(c.p, c.words, "Zebras", 6, c.bits, 2 * TEXTS + 3, 1, &hit, &found));
    CHECK(found == 1 && hit.id == 2 * TEXTS + 2, "a text was not found by another form of its word");
    CHECK_OK(rv_postings_check(c.p));
    rv_cut_deinit(&cut);
    drop(&c);
}
