/* Words of all texts in memory: for each stem the texts that hold it and how often, so that the best k by BM25 are found without looking
 * at most of them. What is on the disk is FTS5's index (words.c); this one is made from the texts at every start and follows each
 * change. It knows documents by number and by id; which of them still live, the caller says with bits.
 *
 * Threads: any number of searches together; a change (prepare, commit, cancel) alone. */
#ifndef RV_MEMORY_POSTINGS_H
#define RV_MEMORY_POSTINGS_H
#include "memory/stem.h"
#include <stdint.h>

typedef struct rv_postings rv_postings;

rv_err rv_postings_new(const rv_alloc *mem, rv_postings **out) RV_MUST_CHECK;
void rv_postings_free(rv_postings *p);          /* accepts NULL */
size_t rv_postings_count(const rv_postings *p); /* documents, removed ones too */
int64_t rv_postings_last(const rv_postings *p); /* the highest id, 0: none */

/* A text as its stems, each with its count. */
typedef struct rv_cut {
    const rv_alloc *mem;
    char *stems; /* one after the other: length, bytes */
    size_t n_bytes, room;
    uint32_t length; /* words */
    rv_language language;
} rv_cut;
/** rv_postings_cut - of a document. Needs no lock. *out is to be freed with rv_cut_deinit. RV_E_NOMEM. */
rv_err rv_postings_cut(const rv_alloc *mem, rv_words *words, const char *text, size_t n,
                       rv_cut *out) RV_MUST_CHECK;
void rv_cut_deinit(rv_cut *cut);

/**
 * rv_postings_prepare - one more document, not found yet; its id is higher than all before.  rv_postings_commit - all that were
 * prepared are found from now on; cannot fail.  rv_postings_cancel - they are forgotten.
 * Errors: RV_E_NOMEM, RV_E_FULL; this document is not prepared, those before still are.
 */
rv_err rv_postings_prepare(rv_postings *p, int64_t id, const rv_cut *cut) RV_MUST_CHECK;
void rv_postings_commit(rv_postings *p);
void rv_postings_cancel(rv_postings *p);

typedef struct rv_words_hit {
    int64_t id;
    float score; /* BM25 with k1 1.2 and b 0.75; larger is better, > 0 */
} rv_words_hit;

/**
 * rv_postings_search - the k best documents that hold any of the words and pass, best first; equal ones by id.
 *
 * bits    bit id % 64 of word id / 64: this one passes; ids beyond n_bits do not
 * hits    out [k], k > 0; *found 0 .. k, fewer only when fewer match
 * Errors: RV_E_NOMEM.
 */
rv_err rv_postings_search(const rv_postings *p, rv_words *words, const char *text, size_t n,
                          const uint64_t *bits, size_t n_bits, size_t k, rv_words_hit *hits,
                          size_t *found) RV_MUST_CHECK;

/** rv_postings_languages - by whose rules words of a question have to be cut. */
uint32_t rv_postings_languages(const rv_postings *p);
/**
 * rv_postings_holders - documents that hold all of the given words and pass, in any order.
 *
 * at      [n] one word each, n 1 .. 8
 * bits    as for rv_postings_search
 * walk    how many documents are looked at, at most
 * ids     out [max]; *found 0 .. max. max: there are more, or each of the words is in more than walk and ids says nothing
 * Errors: RV_E_NOMEM.
 */
rv_err rv_postings_holders(const rv_postings *p, rv_words *words, const rv_str *at, size_t n,
                           const uint64_t *bits, size_t n_bits, size_t walk, int64_t *ids, size_t max,
                           size_t *found) RV_MUST_CHECK;

/** rv_postings_check - lists ascend, counts and bounds fit. RV_E_CORRUPT. */
rv_err rv_postings_check(const rv_postings *p) RV_MUST_CHECK;
#endif
