/* BM25 over lists in memory. A search adds up what the lists of its words give, some thousand documents at a time, and keeps the best k.
 * For each list the largest share that it gives to any document is known; a list, or several together, that could not lift a document
 * into the best k are not walked any more, only asked about documents that others found (MaxScore, Turtle and Flood 1995).
 *
 * Formula and constants are those of FTS5's bm25(), which answers while this index is made. */
#include "memory/postings.h"
#include "base/rng.h"
#include "memory/memory_priv.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW = 4096,
    STEM_MOST = 255,
    WORDS_MOST = 64,
    TERMS_MOST = 192,
    COUNT_MOST = 255,
    LANGUAGE_SHARE = 50
};
static const float k1 = 1.2f, b = 0.75f;

typedef struct term {
    uint32_t *docs;  /* [n] ascending numbers of documents */
    uint8_t *counts; /* [n] how often, at most COUNT_MOST */
    uint32_t n, room, n_prepared;
    uint32_t name; /* in names: length, bytes */
    float most;    /* largest part of its weight that it gives, at the mean length `most_at` */
} term;

/* A stem of a document that is prepared. */
typedef struct prepared {
    uint32_t term, count;
} prepared;

struct rv_postings {
    const rv_alloc *mem;
    int64_t *ids;      /* [n_docs] ascending */
    uint32_t *lengths; /* [n_docs] in words */
    size_t n_docs, doc_room, n_prepared;
    uint64_t total;               /* of lengths */
    double most_at;               /* mean length that the bounds were taken at */
    uint32_t speak[RV_LANGUAGES]; /* documents of each language */
    uint32_t languages; /* those that are worth a stem of a question: of one document in LANGUAGE_SHARE */
    term *terms;        /* [n_terms] */
    size_t n_terms, term_room;
    char *names;
    size_t names_bytes, names_room;
    uint32_t *slots; /* [n_slots] term + 1, power of two */
    size_t n_slots;
    prepared *prepared; /* [n_prepared_terms], document after document */
    uint32_t *ends;     /* [n_prepared] where each one's stems end */
    size_t n_prepared_terms, prepared_room, ends_room;
};

static rv_err no_room(const char *what)
{
    return rv_fail(RV_E_NOMEM, "memory: no room %s", what);
}

rv_err rv_postings_new(const rv_alloc *mem, rv_postings **out)
{
    rv_postings *p = rv_new(mem, sizeof *p);
    uint32_t *slots = p ? rv_new_array(mem, 1024, sizeof *slots) : NULL;
    if (!slots) {
        rv_free(mem, p);
        return no_room("for an index of words");
    }
    *p = (rv_postings){ .mem = mem, .slots = slots, .n_slots = 1024 };
    *out = p;
    return RV_OK;
}

void rv_postings_free(rv_postings *p)
{
    if (!p) {
        return;
    }
    for (size_t i = 0; i < p->n_terms; i++) {
        rv_free(p->mem, p->terms[i].docs);
        rv_free(p->mem, p->terms[i].counts);
    }
    rv_free(p->mem, p->ids);
    rv_free(p->mem, p->lengths);
    rv_free(p->mem, p->terms);
    rv_free(p->mem, p->names);
    rv_free(p->mem, p->slots);
    rv_free(p->mem, p->prepared);
    rv_free(p->mem, p->ends);
    rv_free(p->mem, p);
}

size_t rv_postings_count(const rv_postings *p)
{
    return p->n_docs;
}

int64_t rv_postings_last(const rv_postings *p)
{
    return p->n_docs ? p->ids[p->n_docs - 1] : 0;
}

/* ---- a document ---- */

void rv_cut_deinit(rv_cut *cut)
{
    rv_free(cut->mem, cut->stems);
    *cut = (rv_cut){ 0 };
}

rv_err rv_postings_cut(const rv_alloc *mem, rv_words *words, const char *text, size_t n, rv_cut *out)
{
    rv_language language = rv_words_language(text, n, false);
    rv_cut cut = { .mem = mem };
    cut.language = language ? language : RV_LANGUAGE_ENGLISH;
    rv_word w;
    rv_words_begin(words, text, n, RV_LANGUAGE_SET(cut.language));
    while (rv_words_next(words, &w)) {
        size_t bytes = w.stem.n < STEM_MOST ? w.stem.n : STEM_MOST;
        void *at = cut.stems;
        rv_err e = rv_memory_grow(mem, &at, &cut.room, cut.n_bytes + bytes + 1, 1);
        cut.stems = at;
        if (e) {
            rv_cut_deinit(&cut);
            return e;
        }
        cut.stems[cut.n_bytes] = (char)bytes;
        memcpy(cut.stems + cut.n_bytes + 1, w.stem.at, bytes);
        cut.n_bytes += bytes + 1;
        cut.length++;
    }
    rv_err e = rv_words_failed(words);
    if (e) {
        rv_cut_deinit(&cut);
        return e;
    }
    *out = cut;
    return RV_OK;
}

/* ---- stems by name ---- */

static bool same_name(const rv_postings *p, uint32_t number, const char *stem, size_t n)
{
    const char *name = p->names + p->terms[number].name;
    return (unsigned char)name[0] == n && memcmp(name + 1, stem, n) == 0;
}

/* Where a stem is or would be. */
static size_t slot_of(const rv_postings *p, const char *stem, size_t n)
{
    size_t at = (size_t)rv_hash64(stem, n, 0) & (p->n_slots - 1);
    while (p->slots[at] && !same_name(p, p->slots[at] - 1, stem, n)) {
        at = (at + 1) & (p->n_slots - 1);
    }
    return at;
}

static rv_err grow_slots(rv_postings *p)
{
    if (p->n_terms * 2 < p->n_slots) {
        return RV_OK;
    }
    uint32_t *old = p->slots;
    size_t n = p->n_slots * 2;
    uint32_t *slots = rv_new_array(p->mem, n, sizeof *slots);
    if (!slots) {
        return no_room("for more words");
    }
    p->slots = slots;
    p->n_slots = n;
    for (uint32_t i = 0; i < p->n_terms; i++) {
        const char *name = p->names + p->terms[i].name;
        slots[slot_of(p, name + 1, (unsigned char)name[0])] = i + 1;
    }
    rv_free(p->mem, old);
    return RV_OK;
}

static rv_err number_of(rv_postings *p, const char *stem, size_t n, uint32_t *out)
{
    size_t slot = slot_of(p, stem, n);
    if (p->slots[slot]) {
        *out = p->slots[slot] - 1;
        return RV_OK;
    }
    if (p->n_terms >= UINT32_MAX - 1 || p->names_bytes + n + 1 > UINT32_MAX) {
        return rv_fail(RV_E_FULL, "memory: too many different words");
    }
    RV_TRY(grow_slots(p));
    void *at = p->terms;
    RV_TRY(rv_memory_grow(p->mem, &at, &p->term_room, p->n_terms + 1, sizeof *p->terms));
    p->terms = at;
    at = p->names;
    RV_TRY(rv_memory_grow(p->mem, &at, &p->names_room, p->names_bytes + n + 1, 1));
    p->names = at;
    p->names[p->names_bytes] = (char)n;
    memcpy(p->names + p->names_bytes + 1, stem, n);
    p->terms[p->n_terms] = (term){ .name = (uint32_t)p->names_bytes };
    p->names_bytes += n + 1;
    p->slots[slot_of(p, stem, n)] = (uint32_t)p->n_terms + 1;
    *out = (uint32_t)p->n_terms++;
    return RV_OK;
}

/* ---- changes ---- */

static int by_term(const void *a, const void *c)
{
    uint32_t x = ((const prepared *)a)->term, y = ((const prepared *)c)->term;
    return x < y ? -1 : x > y;
}

static rv_err room_for_one(rv_postings *p, term *t)
{
    size_t need = (size_t)t->n + t->n_prepared + 1, room = t->room, counts_room = t->room;
    if (need > UINT32_MAX) {
        return rv_fail(RV_E_FULL, "memory: too many texts hold the same word");
    }
    void *at = t->docs;
    RV_TRY(rv_memory_grow(p->mem, &at, &room, need, sizeof *t->docs));
    t->docs = at;
    at = t->counts;
    RV_TRY(rv_memory_grow(p->mem, &at, &counts_room, need, sizeof *t->counts));
    t->counts = at;
    t->room = (uint32_t)(room < UINT32_MAX ? room : UINT32_MAX);
    return RV_OK;
}

/* The stems of a cut as numbers, each once with its count, behind those that are prepared. *n how many. */
static rv_err number_all(rv_postings *p, const rv_cut *cut, size_t *n)
{
    void *at = p->prepared;
    RV_TRY(rv_memory_grow(p->mem, &at, &p->prepared_room, p->n_prepared_terms + cut->length + 1,
                          sizeof *p->prepared));
    p->prepared = at;
    prepared *own = p->prepared + p->n_prepared_terms;
    size_t all = 0;
    for (size_t i = 0; i < cut->n_bytes; i += (unsigned char)cut->stems[i] + 1u) {
        own[all].count = 1;
        RV_TRY(number_of(p, cut->stems + i + 1, (unsigned char)cut->stems[i], &own[all].term));
        all++;
    }
    qsort(own, all, sizeof *own, by_term);
    *n = 0;
    for (size_t i = 0; i < all; i++) {
        if (*n > 0 && own[*n - 1].term == own[i].term) {
            own[*n - 1].count++;
        } else {
            own[(*n)++] = own[i];
        }
    }
    return RV_OK;
}

rv_err rv_postings_prepare(rv_postings *p, int64_t id, const rv_cut *cut)
{
    size_t doc = p->n_docs + p->n_prepared, n = 0;
    if (doc >= UINT32_MAX - 1) {
        return rv_fail(RV_E_FULL, "memory: too many texts for an index of words");
    }
    size_t lengths_room = p->doc_room, ends_room = p->ends_room;
    void *at = p->lengths;
    RV_TRY(rv_memory_grow(p->mem, &at, &lengths_room, doc + 1, sizeof *p->lengths));
    p->lengths = at;
    at = p->ids;
    RV_TRY(rv_memory_grow(p->mem, &at, &p->doc_room, doc + 1, sizeof *p->ids));
    p->ids = at;
    at = p->ends;
    RV_TRY(rv_memory_grow(p->mem, &at, &ends_room, p->n_prepared + 1, sizeof *p->ends));
    p->ends = at;
    p->ends_room = ends_room;
    RV_TRY(number_all(p, cut, &n));
    const prepared *own = p->prepared + p->n_prepared_terms;
    for (size_t i = 0; i < n; i++) {
        RV_TRY(room_for_one(p, &p->terms[own[i].term]));
    }
    for (size_t i = 0; i < n; i++) {
        p->terms[own[i].term].n_prepared++;
    }
    p->ids[doc] = id;
    p->lengths[doc] = cut->length;
    p->n_prepared_terms += n;
    p->ends[p->n_prepared++] = (uint32_t)p->n_prepared_terms;
    p->speak[cut->language]++; /* those that are cancelled make no difference */
    return RV_OK;
}

static float share(float count, float length, float mean)
{
    return count * (k1 + 1) / (count + k1 * (1 - b + b * length / mean));
}

static double mean_of(const rv_postings *p)
{
    return p->n_docs && p->total ? (double)p->total / (double)p->n_docs : 1;
}

/* All bounds anew, at the mean length of now. */
static void take_bounds(rv_postings *p)
{
    p->most_at = mean_of(p);
    for (size_t i = 0; i < p->n_terms; i++) {
        term *t = &p->terms[i];
        t->most = 0;
        for (size_t d = 0; d < t->n; d++) {
            float part = share((float)t->counts[d], (float)p->lengths[t->docs[d]], (float)p->most_at);
            t->most = part > t->most ? part : t->most;
        }
    }
}

void rv_postings_commit(rv_postings *p)
{
    size_t at = 0, before = p->n_docs;
    for (size_t d = 0; d < p->n_prepared; d++) {
        for (; at < p->ends[d]; at++) {
            term *t = &p->terms[p->prepared[at].term];
            uint32_t count = p->prepared[at].count;
            t->docs[t->n] = (uint32_t)p->n_docs;
            t->counts[t->n++] = (uint8_t)(count < COUNT_MOST ? count : COUNT_MOST);
            t->n_prepared = 0;
            float part = share((float)t->counts[t->n - 1], (float)p->lengths[p->n_docs],
                               (float)(p->most_at > 0 ? p->most_at : 1));
            t->most = part > t->most ? part : t->most;
        }
        p->total += p->lengths[p->n_docs++];
    }
    p->n_prepared = p->n_prepared_terms = p->languages = 0;
    for (int l = 0; l < RV_LANGUAGES; l++) {
        p->languages |= p->speak[l] > p->n_docs / LANGUAGE_SHARE ? RV_LANGUAGE_SET(l) : 0;
    }
    if (p->n_docs >= 2 * before && p->n_docs > 0) {
        take_bounds(p); /* a bound of another mean length holds too, but is wider than it needs to be */
    }
}

void rv_postings_cancel(rv_postings *p)
{
    for (size_t i = 0; i < p->n_prepared_terms; i++) {
        p->terms[p->prepared[i].term].n_prepared = 0;
    }
    p->n_prepared = p->n_prepared_terms = 0;
}

/* ---- search ---- */

/* The list of one stem of the question. */
typedef struct cursor {
    const term *t;
    uint32_t at;
    float weight, most; /* idf; most it gives to a document */
} cursor;

typedef struct finder {
    const rv_postings *p;
    const uint64_t *bits;
    size_t n_bits;
    float mean;
    cursor cursors[TERMS_MOST]; /* [n] by what they give at most, the least first */
    float together[TERMS_MOST]; /* what this one and those before give at most */
    size_t n, first;            /* those before first cannot make a hit alone */
    rv_words_hit *heap;         /* [n_heap] the worst on top */
    size_t n_heap, k;
    float sums[WINDOW]; /* of the documents of a window; 0 between two */
    uint64_t touched[WINDOW / 64];
} finder;

static bool better(rv_words_hit x, rv_words_hit y)
{
    return x.score > y.score || (x.score == y.score && x.id < y.id);
}

static void sift_down(rv_words_hit *heap, size_t n, size_t at)
{
    rv_words_hit moving = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && better(heap[child], heap[child + 1]);
        if (!better(moving, heap[child])) {
            break;
        }
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

static void push(finder *f, rv_words_hit hit)
{
    if (f->n_heap == f->k) {
        if (better(hit, f->heap[0])) {
            f->heap[0] = hit;
            sift_down(f->heap, f->n_heap, 0);
        }
        return;
    }
    size_t at = f->n_heap++;
    for (; at > 0 && better(f->heap[(at - 1) / 2], hit); at = (at - 1) / 2) {
        f->heap[at] = f->heap[(at - 1) / 2];
    }
    f->heap[at] = hit;
}

static void add_term(finder *f, const term *t)
{
    size_t i = 0;
    while (i < f->n && f->cursors[i].t != t) {
        i++;
    }
    if (i == TERMS_MOST || t->n == 0) {
        return;
    }
    if (i == f->n) {
        f->cursors[f->n++] = (cursor){ .t = t };
    }
}

/* The stems of the first WORDS_MOST words, without those that are in nearly every text unless there are no others. */
static void read_question(finder *f, rv_words *words, const char *text, size_t n, bool with_empty)
{
    const rv_postings *p = f->p;
    rv_word w;
    rv_words_begin(words, text, n, p->languages);
    while (rv_words_next(words, &w) && w.word < 4 * WORDS_MOST) {
        if (!with_empty && rv_words_empty(text + w.at, w.n)) {
            continue;
        }
        size_t slot = slot_of(p, w.stem.at, w.stem.n < STEM_MOST ? w.stem.n : STEM_MOST);
        if (p->slots[slot]) {
            add_term(f, &p->terms[p->slots[slot] - 1]);
        }
    }
}

static int by_most(const void *x, const void *y)
{
    float a = ((const cursor *)x)->most, c = ((const cursor *)y)->most;
    return a < c ? -1 : a > c;
}

static void order(finder *f)
{
    /* A share grows at most as the mean length does. */
    double wider = (double)f->mean > f->p->most_at && f->p->most_at > 0 ? (double)f->mean / f->p->most_at : 1;
    for (size_t i = 0; i < f->n; i++) {
        cursor *c = &f->cursors[i];
        double n = (double)c->t->n, idf = log(((double)f->p->n_docs - n + 0.5) / (n + 0.5));
        c->weight = (float)(idf > 1e-6 ? idf : 1e-6);
        c->most = c->weight * c->t->most * (float)wider * 1.0001f; /* above all roundings */
    }
    qsort(f->cursors, f->n, sizeof f->cursors[0], by_most);
    float sum = 0;
    for (size_t i = 0; i < f->n; i++) {
        sum += f->cursors[i].most;
        f->together[i] = sum;
    }
}

/* To the first document at or after doc: in doubling steps, then by halves. */
static void seek(cursor *c, uint32_t doc)
{
    const term *t = c->t;
    uint32_t low = c->at, step = 1;
    if (low >= t->n || t->docs[low] >= doc) {
        return;
    }
    while (step < t->n - low && t->docs[low + step] < doc) {
        low += step;
        step = step < UINT32_MAX / 4 ? step * 2 : step;
    }
    uint32_t high = step < t->n - low ? low + step : t->n; /* docs[low] < doc <= docs[high] */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (t->docs[middle] < doc) {
            low = middle;
        } else {
            high = middle;
        }
    }
    c->at = high;
}

static float part_of(const finder *f, const cursor *c, float length)
{
    return c->weight * share((float)c->t->counts[c->at], length, f->mean);
}

/* The first document that a list that can make a hit still has; UINT32_MAX: none. */
static uint32_t next_doc(const finder *f)
{
    uint32_t doc = UINT32_MAX;
    for (size_t i = f->first; i < f->n; i++) {
        const cursor *c = &f->cursors[i];
        if (c->at < c->t->n && c->t->docs[c->at] < doc) {
            doc = c->t->docs[c->at];
        }
    }
    return doc;
}

/* What the lists from first on give to the documents of a window, one list after the other: this way nothing is compared from list to
 * list, and what is written stays in the first cache. */
static void add_up(finder *f, uint32_t base)
{
    for (size_t i = f->first; i < f->n; i++) {
        cursor *c = &f->cursors[i];
        const term *t = c->t;
        uint32_t at = c->at;
        for (; at < t->n && t->docs[at] - base < WINDOW; at++) {
            uint32_t doc = t->docs[at] - base;
            f->sums[doc] +=
                c->weight * share((float)t->counts[at], (float)f->p->lengths[t->docs[at]], f->mean);
            f->touched[doc / 64] |= (uint64_t)1 << doc % 64;
        }
        c->at = at;
    }
}

/* One document with what the lists from first on give to it; the others are asked while it can still become a hit. */
static void finish(finder *f, uint32_t doc, float score, size_t first)
{
    bool full = f->n_heap == f->k;
    float least = full ? f->heap[0].score : 0;
    if (full && score + (first > 0 ? f->together[first - 1] : 0) < least) {
        return;
    }
    int64_t id = f->p->ids[doc];
    if ((uint64_t)id >= f->n_bits || !(f->bits[id / 64] >> id % 64 & 1)) {
        return;
    }
    float length = (float)f->p->lengths[doc];
    for (size_t i = first; i-- > 0;) {
        if (full && score + f->together[i] < least) {
            return;
        }
        cursor *c = &f->cursors[i];
        seek(c, doc);
        if (c->at < c->t->n && c->t->docs[c->at] == doc) {
            score += part_of(f, c, length);
        }
    }
    push(f, (rv_words_hit){ id, score });
    while (f->n_heap == f->k && f->first < f->n && f->together[f->first] < f->heap[0].score) {
        f->first++;
    }
}

static void look_through(finder *f, uint32_t base)
{
    size_t first = f->first; /* it moves on while hits are found; what was added up stays */
    add_up(f, base);
    for (size_t word = 0; word < RV_COUNT(f->touched); word++) {
        for (uint64_t left = f->touched[word]; left; left &= left - 1) {
            uint32_t doc = (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(left);
            float score = f->sums[doc];
            f->sums[doc] = 0;
            finish(f, base + doc, score, first);
        }
        f->touched[word] = 0;
    }
}

rv_err rv_postings_search(const rv_postings *p, rv_words *words, const char *text, size_t n,
                          const uint64_t *bits, size_t n_bits, size_t k, rv_words_hit *hits, size_t *found)
{
    finder f = { .p = p, .bits = bits, .n_bits = n_bits, .mean = (float)mean_of(p), .heap = hits, .k = k };
    read_question(&f, words, text, n, false);
    if (f.n == 0) {
        read_question(&f, words, text, n, true);
    }
    RV_TRY(rv_words_failed(words));
    order(&f);
    for (uint32_t doc; (doc = next_doc(&f)) != UINT32_MAX;) {
        look_through(&f, doc);
    }
    *found = f.n_heap;
    for (size_t left = f.n_heap; left > 1;) { /* the worst goes to the end */
        rv_words_hit worst = hits[0];
        hits[0] = hits[--left];
        sift_down(hits, left, 0);
        hits[left] = worst;
    }
    return RV_OK;
}

/* ---- who holds a name ---- */

enum { HELD_MOST = 8 };

/* The lists of one word, of as many stems as differ between the languages. */
typedef struct held {
    const term *lists[RV_LANGUAGES];
    size_t n, docs; /* docs: of all lists */
} held;

uint32_t rv_postings_languages(const rv_postings *p)
{
    return p->languages;
}

static held held_of(const rv_postings *p, rv_words *words, rv_str at)
{
    held h = { .n = 0 };
    rv_word w;
    rv_words_begin(words, at.at, at.n, p->languages);
    while (h.n < RV_COUNT(h.lists) && rv_words_next(words, &w)) {
        size_t slot = slot_of(p, w.stem.at, w.stem.n < STEM_MOST ? w.stem.n : STEM_MOST);
        if (p->slots[slot]) {
            h.lists[h.n] = &p->terms[p->slots[slot] - 1];
            h.docs += h.lists[h.n++]->n;
        }
    }
    return h;
}

static bool holds(const held *h, uint32_t doc)
{
    bool found = false;
    for (size_t i = 0; i < h->n && !found; i++) {
        cursor c = { .t = h->lists[i] };
        seek(&c, doc);
        found = c.at < c.t->n && c.t->docs[c.at] == doc;
    }
    return found;
}

static bool hold_all(const held *of, size_t n, uint32_t doc)
{
    size_t i = 0;
    while (i < n && holds(&of[i], doc)) {
        i++;
    }
    return i == n;
}

static bool is_among(const int64_t *ids, size_t n, int64_t id)
{
    size_t i = 0;
    while (i < n && ids[i] != id) {
        i++;
    }
    return i < n;
}

rv_err rv_postings_holders(const rv_postings *p, rv_words *words, const rv_str *at, size_t n,
                           const uint64_t *bits, size_t n_bits, size_t walk, int64_t *ids, size_t max,
                           size_t *found)
{
    held all[HELD_MOST];
    size_t rarest = 0;
    assert(n > 0 && n <= HELD_MOST);
    for (size_t i = 0; i < n; i++) {
        all[i] = held_of(p, words, at[i]);
        RV_TRY(rv_words_failed(words));
        rarest = all[i].docs < all[rarest].docs ? i : rarest;
    }
    *found = all[rarest].docs > walk ? max : 0;
    for (size_t l = 0; l < all[rarest].n; l++) {
        const term *t = all[rarest].lists[l];
        for (uint32_t d = 0; d < t->n && *found < max; d++) {
            int64_t id = p->ids[t->docs[d]];
            bool passes = (uint64_t)id < n_bits && (bits[id / 64] >> id % 64 & 1);
            if (passes && hold_all(all, n, t->docs[d]) && !is_among(ids, *found, id)) {
                ids[(*found)++] = id;
            }
        }
    }
    return RV_OK;
}

/* ---- rules ---- */

rv_err rv_postings_check(const rv_postings *p)
{
    uint64_t total = 0;
    for (size_t d = 0; d < p->n_docs; d++) {
        total += p->lengths[d];
        if (d > 0 && p->ids[d] <= p->ids[d - 1]) {
            return rv_fail(RV_E_CORRUPT, "words: text %lld follows %lld", (long long)p->ids[d],
                           (long long)p->ids[d - 1]);
        }
    }
    if (total != p->total) {
        return rv_fail(RV_E_CORRUPT, "words: %llu in all, counted %llu", (unsigned long long)p->total,
                       (unsigned long long)total);
    }
    for (size_t i = 0; i < p->n_terms; i++) {
        const term *t = &p->terms[i];
        for (uint32_t at = 0; at < t->n; at++) {
            float part = share((float)t->counts[at], (float)p->lengths[t->docs[at]],
                               (float)(p->most_at > 0 ? p->most_at : 1));
            if (t->docs[at] >= p->n_docs || (at > 0 && t->docs[at] <= t->docs[at - 1]) ||
                t->counts[at] == 0 || !(part <= t->most * 1.0001f)) {
                return rv_fail(RV_E_CORRUPT, "words: the list of \"%.*s\" is wrong at %u",
                               (int)(unsigned char)p->names[t->name], p->names + t->name + 1, at);
            }
        }
    }
    return RV_OK;
}
