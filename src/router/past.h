/* Past requests whose outcome is known: which of them a new one repeats, and which are like it. Words are compared by their
 * hashes, case folded and without punctuation, each weighted by how rare it is; where there is an embedder, vectors too. */
#ifndef RV_ROUTER_PAST_H
#define RV_ROUTER_PAST_H
#include "base/alloc.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RV_PAST_TIERS = 16,
    RV_PAST_WORDS = 512,  /* different words of a text that are looked at */
    RV_PAST_GRAMS = 1024, /* words and pairs of the lexical part */
    RV_PAST_BUCKETS = 1 << 15,
    RV_PAST_HEAD = 96, /* bytes of a request that are kept to show it */
    RV_PAST_NEAR = 200 /* with 40 a router depends more on its seed: docs/guide/router.md */
};

typedef struct rv_past_text {
    uint32_t word[RV_PAST_WORDS]; /* different, ascending */
    size_t n_words;
    uint16_t gram[RV_PAST_GRAMS]; /* buckets of words and pairs of words, different, ascending */
    float count[RV_PAST_GRAMS];
    size_t n_grams;
} rv_past_text;

/** rv_past_read - words and grams of a text; only the first 16 KiB count. Any bytes. */
void rv_past_read(const char *text, size_t n, rv_past_text *out);

typedef struct rv_past rv_past;

typedef struct rv_past_row {
    const rv_past_text *text;
    const char *head; /* [head_bytes], at most RV_PAST_HEAD are kept */
    size_t head_bytes;
    const float *vector;  /* [dim] unit, or NULL */
    const float *quality; /* [tiers] 0..1, NaN: not known */
} rv_past_row;

/** rv_past_new .. rv_past_add .. rv_past_seal - rows are added, then never again. */
rv_err rv_past_new(const rv_alloc *mem, size_t tiers, size_t dim, rv_past **out) RV_MUST_CHECK;
rv_err rv_past_add(rv_past *past, const rv_past_row *row) RV_MUST_CHECK;
rv_err rv_past_seal(rv_past *past) RV_MUST_CHECK;
void rv_past_free(rv_past *past); /* accepts NULL */
size_t rv_past_rows(const rv_past *past);
/** rv_past_head - as kept, [*n] bytes, not terminated.  rv_past_quality - 0..1 or -1 when not known. */
const char *rv_past_head(const rv_past *past, size_t row, size_t *n);
float rv_past_quality(const rv_past *past, size_t row, size_t tier);

typedef struct rv_past_near {
    uint32_t row;
    float likeness; /* 0..1 */
} rv_past_near;

/* The row most like a text by its words. */
typedef struct rv_past_first {
    bool any;
    uint32_t row;
    float likeness, covered; /* covered: share of the new text's weight that the old one has too */
} rv_past_first;

typedef struct rv_past_found {
    rv_past_near words[RV_PAST_NEAR], meaning[RV_PAST_NEAR]; /* nearest first */
    size_t n_words, n_meaning;
    rv_past_first first; /* of words */
} rv_past_found;

/**
 * rv_past_find - the rows most like a text, by words (weighted Jaccard) and by meaning (cosine).
 *
 * skip     [rows] groups, or NULL; rows of group skipped are left out
 * scratch  rv_past_scratch_bytes, one per thread
 * Threads: any thread after rv_past_seal.
 */
size_t rv_past_scratch_bytes(const rv_past *past);
void rv_past_find(const rv_past *past, const rv_past_text *text, const float *vector, const uint8_t *skip,
                  int skipped, void *scratch, rv_past_found *out);

/* As bytes; the layout is in docs/formats/router.md. rv_past_row_bytes - of a row with so many different words. */
size_t rv_past_bytes(const rv_past *past);
size_t rv_past_row_bytes(size_t tiers, size_t dim, size_t words);
void rv_past_write(const rv_past *past, uint8_t *out);
rv_err rv_past_parse(const rv_alloc *mem, const uint8_t *at, size_t n, size_t tiers, size_t dim, size_t *used,
                     rv_past **out) RV_MUST_CHECK;
#endif
