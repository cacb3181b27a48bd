/* A row is its words, which stand in an index from word to rows, its vector as int8, and what each tier got. Looking for a text
 * walks the lists of its words, the rare ones weigh most; vectors are compared one after the other: 8,500 rows of 256 are 0.1 ms. */
#include "router/past.h"

#include "base/rng.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 16 << 10, ROWS_MAX = 1 << 20, UNKNOWN = 255 };

struct rv_past {
    const rv_alloc *mem;
    size_t tiers, dim, n, room;
    /* per row */
    uint8_t *quality; /* [n][tiers] 0..254, or UNKNOWN */
    int8_t *vector;   /* [n][dim] */
    float *scale;     /* [n] 0: no vector */
    char *head;       /* [n][RV_PAST_HEAD] */
    uint8_t *head_n;  /* [n] */
    float *mass;      /* [n] weight of all its words */
    /* pairs of word and row, by word; then by row */
    uint64_t *pair; /* [n_pairs] word << 32 | row */
    size_t n_pairs, pairs_room;
    /* of the different words */
    uint32_t *word, *start; /* [n_words], [n_words + 1] */
    float *weight;          /* [n_words] ln(1 + n / rows with it) */
    size_t n_words;
    const rv_kernels *k;
};

/* ---- texts ---- */

static int by_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static bool is_word_byte(unsigned char c)
{
    return c >= 128 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

typedef struct gram_list {
    uint32_t at[4 * RV_PAST_GRAMS];
    size_t n;
} gram_list;

static void add_gram(gram_list *g, uint64_t hash)
{
    if (g->n < RV_COUNT(g->at)) {
        g->at[g->n++] = (uint32_t)(hash % RV_PAST_BUCKETS);
    }
}

void rv_past_read(const char *text, size_t n, rv_past_text *out)
{
    gram_list grams = { .n = 0 };
    uint32_t words[4 * RV_PAST_WORDS];
    size_t n_words = 0;
    uint64_t before = 0;
    char word[64],
        whole
            [64]; /* whole: all letters between two blanks, as they stand when the marks between them are gone */
    size_t n_whole = 0, parts = 0;
    n = n < TEXT_MAX ? n : TEXT_MAX;
    for (size_t at = 0; at < n;) {
        size_t len = 0;
        bool digits = true;
        for (; at < n && is_word_byte((unsigned char)text[at]); at++) {
            unsigned char c = (unsigned char)text[at];
            digits = digits && c >= '0' && c <= '9';
            char folded = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
            if (len < sizeof word) {
                word[len++] = folded;
            }
            if (n_whole < sizeof whole) {
                whole[n_whole++] = folded;
            }
        }
        bool space = at == n || text[at] == ' ' || (text[at] >= '\t' && text[at] <= '\r');
        parts += len > 0;
        if (space && parts > 1 && n_words < RV_COUNT(words)) {
            words[n_words++] = (uint32_t)rv_hash64(whole, n_whole, 0);
        }
        if (space) {
            n_whole = parts = 0;
        }
        if (len == 0) {
            at++;
            continue;
        }
        uint64_t hash = rv_hash64(word, len, 0);
        if (n_words < RV_COUNT(words)) {
            words[n_words++] = (uint32_t)hash;
        }
        uint64_t kind =
            digits ? 77 + len : hash; /* which number it is says little; how long it is, something */
        add_gram(&grams, rv_hash64(&kind, sizeof kind, 1));
        uint64_t pair[2] = { before, kind };
        add_gram(&grams, rv_hash64(pair, sizeof pair, 2));
        before = kind;
    }
    qsort(words, n_words, sizeof *words, by_u32);
    qsort(grams.at, grams.n, sizeof *grams.at, by_u32);
    out->n_words = out->n_grams = 0;
    for (size_t i = 0; i < n_words && out->n_words < RV_PAST_WORDS; i++) {
        if (i == 0 || words[i] != words[i - 1]) {
            out->word[out->n_words++] = words[i];
        }
    }
    for (size_t i = 0; i < grams.n; i++) {
        if (i > 0 && grams.at[i] == grams.at[i - 1]) {
            out->count[out->n_grams - 1] += 1;
        } else if (out->n_grams < RV_PAST_GRAMS) {
            out->gram[out->n_grams] = (uint16_t)grams.at[i];
            out->count[out->n_grams++] = 1;
        } else {
            break;
        }
    }
}

/* ---- rows ---- */

rv_err rv_past_new(const rv_alloc *mem, size_t tiers, size_t dim, rv_past **out)
{
    rv_past *p = rv_new(mem, sizeof *p);
    if (!p) {
        return rv_fail(RV_E_NOMEM, "past requests");
    }
    *p = (rv_past){ .mem = mem, .tiers = tiers, .dim = dim, .k = rv_kernels_best() };
    *out = p;
    return RV_OK;
}

void rv_past_free(rv_past *p)
{
    if (!p) {
        return;
    }
    void *arrays[] = { p->quality, p->vector, p->scale, p->head,  p->head_n,
                       p->mass,    p->pair,   p->word,  p->start, p->weight };
    for (size_t i = 0; i < RV_COUNT(arrays); i++) {
        rv_free(p->mem, arrays[i]);
    }
    rv_free(p->mem, p);
}

static bool grow(rv_past *p, void *array, size_t count, size_t size)
{
    void **at = array, *more = NULL;
    size_t bytes;
    if (rv_mul_size(count, size, &bytes)) {
        more = rv_resize(p->mem, *at, bytes + 1);
    }
    *at = more ? more : *at;
    return more != NULL;
}

static bool grow_rows(rv_past *p, size_t room)
{
    bool good = grow(p, &p->quality, room, p->tiers) && grow(p, &p->vector, room, p->dim) &&
                grow(p, &p->scale, room, sizeof *p->scale) && grow(p, &p->head, room, RV_PAST_HEAD) &&
                grow(p, &p->head_n, room, 1) && grow(p, &p->mass, room, sizeof *p->mass);
    p->room = good ? room : p->room;
    return good;
}

static float quantise(const float *x, size_t n, int8_t *q)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmaxf(largest, fabsf(x[i]));
    }
    for (size_t i = 0; i < n; i++) {
        q[i] = largest > 0 ? (int8_t)lrintf(x[i] * 127 / largest) : 0;
    }
    return largest / 127;
}

rv_err rv_past_add(rv_past *p, const rv_past_row *row)
{
    if (p->n == ROWS_MAX) {
        return rv_fail(RV_E_TOO_LARGE, "past requests: at most %d", ROWS_MAX);
    }
    size_t pairs = p->n_pairs + row->text->n_words;
    if ((p->n == p->room && !grow_rows(p, p->room ? 2 * p->room : 256)) ||
        (pairs > p->pairs_room && !grow(p, &p->pair, 2 * pairs, sizeof *p->pair))) {
        return rv_fail(RV_E_NOMEM, "past requests");
    }
    p->pairs_room = pairs > p->pairs_room ? 2 * pairs : p->pairs_room;
    for (size_t t = 0; t < p->tiers; t++) {
        float q = row->quality[t];
        p->quality[p->n * p->tiers + t] = q >= 0 && q <= 1 ? (uint8_t)lrintf(q * 254) : UNKNOWN;
    }
    size_t n = row->head_bytes < RV_PAST_HEAD ? row->head_bytes : RV_PAST_HEAD;
    memset(p->head + p->n * RV_PAST_HEAD, 0, RV_PAST_HEAD);
    memcpy(p->head + p->n * RV_PAST_HEAD, row->head, n);
    p->head_n[p->n] = (uint8_t)n;
    if (row->vector) {
        p->scale[p->n] = quantise(row->vector, p->dim, p->vector + p->n * p->dim);
    } else {
        memset(p->vector + p->n * p->dim, 0, p->dim);
        p->scale[p->n] = 0;
    }
    for (size_t i = 0; i < row->text->n_words; i++) {
        p->pair[p->n_pairs++] = (uint64_t)row->text->word[i] << 32 | p->n;
    }
    p->n++;
    return RV_OK;
}

static int by_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

rv_err rv_past_seal(rv_past *p)
{
    if (p->n_pairs > 0) {
        qsort(p->pair, p->n_pairs, sizeof *p->pair, by_u64);
    }
    if (!grow(p, &p->word, p->n_pairs, sizeof *p->word) ||
        !grow(p, &p->start, p->n_pairs + 1, sizeof *p->start) ||
        !grow(p, &p->weight, p->n_pairs, sizeof *p->weight) || !grow(p, &p->mass, p->n, sizeof *p->mass)) {
        return rv_fail(RV_E_NOMEM, "past requests");
    }
    p->n_words = 0;
    for (size_t i = 0; i < p->n_pairs; i++) {
        uint32_t word = (uint32_t)(p->pair[i] >> 32);
        if (i == 0 || word != p->word[p->n_words - 1]) {
            p->word[p->n_words] = word;
            p->start[p->n_words++] = (uint32_t)i;
        }
    }
    p->start[p->n_words] = (uint32_t)p->n_pairs;
    memset(p->mass, 0, p->n * sizeof *p->mass);
    for (size_t w = 0; w < p->n_words; w++) {
        p->weight[w] = logf(1 + (float)p->n / (float)(p->start[w + 1] - p->start[w]));
        for (size_t i = p->start[w]; i < p->start[w + 1]; i++) {
            p->mass[(uint32_t)p->pair[i]] += p->weight[w];
        }
    }
    return RV_OK;
}

size_t rv_past_rows(const rv_past *p)
{
    return p->n;
}
const char *rv_past_head(const rv_past *p, size_t row, size_t *n)
{
    *n = p->head_n[row];
    return p->head + row * RV_PAST_HEAD;
}
float rv_past_quality(const rv_past *p, size_t row, size_t tier)
{
    uint8_t q = p->quality[row * p->tiers + tier];
    return q == UNKNOWN ? -1 : q / 254.0f;
}

/* ---- finding ---- */

size_t rv_past_scratch_bytes(const rv_past *p)
{
    return p->n * sizeof(float) + p->dim + 64;
}

/* Keeps the best RV_PAST_NEAR, best first; equal ones in the order of the rows. */
static void keep(rv_past_near *list, size_t *n, uint32_t row, float likeness)
{
    if (*n == RV_PAST_NEAR && likeness <= list[*n - 1].likeness) {
        return;
    }
    size_t from = 0, end = *n; /* behind those that are as like */
    while (from < end) {
        const size_t middle = from + (end - from) / 2;
        if (list[middle].likeness >= likeness) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    *n += *n < RV_PAST_NEAR;
    memmove(list + from + 1, list + from, (*n - 1 - from) * sizeof *list);
    list[from] = (rv_past_near){ row, likeness };
}

/* Where the word stands, or n_words. */
static size_t find_word(const rv_past *p, uint32_t word, size_t from)
{
    size_t low = from, high = p->n_words;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->word[middle] < word) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < p->n_words && p->word[low] == word ? low : p->n_words;
}

static void find_words(const rv_past *p, const rv_past_text *text, const uint8_t *skip, int skipped,
                       float *shared, rv_past_found *out)
{
    float mass = 0, unknown = logf(1 + (float)p->n);
    memset(shared, 0, p->n * sizeof *shared);
    for (size_t i = 0; i < text->n_words; i++) {
        size_t w = find_word(p, text->word[i], 0);
        if (w == p->n_words) {
            mass += unknown;
            continue;
        }
        mass += p->weight[w];
        for (size_t at = p->start[w]; at < p->start[w + 1]; at++) {
            shared[(uint32_t)p->pair[at]] += p->weight[w];
        }
    }
    for (size_t row = 0; row < p->n; row++) {
        if (shared[row] > 0 && !(skip && skip[row] == skipped)) {
            float all = mass + p->mass[row] - shared[row];
            keep(out->words, &out->n_words, (uint32_t)row, all > 0 ? fminf(1, shared[row] / all) : 0);
        }
    }
    if (out->n_words > 0) {
        const rv_past_near near = out->words[0];
        out->first = (rv_past_first){ true, near.row, near.likeness, fminf(1, shared[near.row] / mass) };
    }
}

void rv_past_find(const rv_past *p, const rv_past_text *text, const float *vector, const uint8_t *skip,
                  int skipped, void *scratch, rv_past_found *out)
{
    out->n_words = out->n_meaning = 0;
    out->first = (rv_past_first){ .any = false };
    find_words(p, text, skip, skipped, scratch, out);
    if (!vector || p->dim == 0) {
        return;
    }
    int8_t *q = (int8_t *)scratch + p->n * sizeof(float);
    float scale = quantise(vector, p->dim, q);
    for (size_t row = 0; row < p->n; row++) {
        if (p->scale[row] > 0 && !(skip && skip[row] == skipped)) {
            float cosine = scale * p->scale[row] * (float)p->k->dot_i8(q, p->vector + row * p->dim, p->dim);
            keep(out->meaning, &out->n_meaning, (uint32_t)row, fminf(1, cosine));
        }
    }
}

/* ---- bytes ---- */

/* header: u32 rows, pairs; u16 tiers, dim; then per row arrays, then the pairs */
enum { HEADER = 12 };

size_t rv_past_row_bytes(size_t tiers, size_t dim, size_t words)
{
    return tiers + dim + 4 + RV_PAST_HEAD + 1 + 8 * words;
}

size_t rv_past_bytes(const rv_past *p)
{
    return HEADER + p->n * rv_past_row_bytes(p->tiers, p->dim, 0) + 8 * p->n_pairs;
}

static uint8_t *put(uint8_t *to, const void *from, size_t n)
{
    if (n > 0) {
        memcpy(to, from, n);
    }
    return to + n;
}

void rv_past_write(const rv_past *p, uint8_t *out)
{
    const uint32_t counts[2] = { (uint32_t)p->n, (uint32_t)p->n_pairs };
    const uint16_t sizes[2] = { (uint16_t)p->tiers, (uint16_t)p->dim };
    out = put(put(out, counts, 8), sizes, 4);
    out = put(put(out, p->quality, p->n * p->tiers), p->vector, p->n * p->dim);
    out = put(put(out, p->scale, 4 * p->n), p->head, p->n * RV_PAST_HEAD);
    put(put(out, p->head_n, p->n), p->pair, 8 * p->n_pairs);
}

static const uint8_t *get(const uint8_t *from, void *to, size_t n)
{
    if (n > 0) {
        memcpy(to, from, n);
    }
    return from + n;
}

static rv_err check_rows(const rv_past *p)
{
    for (size_t i = 0; i < p->n; i++) {
        if (!isfinite(p->scale[i]) || p->scale[i] < 0 || p->head_n[i] > RV_PAST_HEAD) {
            return rv_fail(RV_E_FORMAT, "past requests: row %zu has scale %g and a text of %u bytes", i,
                           p->scale[i], p->head_n[i]);
        }
    }
    for (size_t i = 0; i < p->n_pairs; i++) {
        if ((uint32_t)p->pair[i] >= p->n || (i > 0 && p->pair[i] <= p->pair[i - 1])) {
            return rv_fail(RV_E_FORMAT,
                           "past requests: word %zu is out of order or of a row that is not there", i);
        }
    }
    return RV_OK;
}

rv_err rv_past_parse(const rv_alloc *mem, const uint8_t *at, size_t n, size_t tiers, size_t dim, size_t *used,
                     rv_past **out)
{
    uint32_t counts[2];
    uint16_t sizes[2];
    if (n < HEADER) {
        return rv_fail(RV_E_FORMAT, "past requests: %zu bytes, too few", n);
    }
    const uint8_t *in = get(get(at, counts, 8), sizes, 4);
    /* Both products stay far below 2^64: counts are 32 bits, a row has less than 70,000 bytes. */
    uint64_t rows = counts[0], pairs = counts[1],
             need = HEADER + rows * rv_past_row_bytes(sizes[0], sizes[1], 0) + 8 * pairs;
    if (sizes[0] != tiers || sizes[1] != dim || rows > ROWS_MAX || need > n) {
        return rv_fail(RV_E_FORMAT, "past requests: %u rows of %u tiers and %u dimensions in %zu bytes",
                       counts[0], sizes[0], sizes[1], n);
    }
    rv_past *p = NULL;
    RV_TRY(rv_past_new(mem, sizes[0], sizes[1], &p));
    rv_err e = RV_OK;
    if (!grow_rows(p, rows + 1) || !grow(p, &p->pair, pairs + 1, sizeof *p->pair)) {
        e = rv_fail(RV_E_NOMEM, "past requests");
    } else {
        p->n = rows;
        p->n_pairs = p->pairs_room = pairs;
        in = get(get(in, p->quality, rows * p->tiers), p->vector, rows * p->dim);
        in = get(get(in, p->scale, 4 * rows), p->head, rows * RV_PAST_HEAD);
        get(get(in, p->head_n, rows), p->pair, 8 * pairs);
        e = check_rows(p);
    }
    if (!e) {
        e = rv_past_seal(p);
    }
    if (e) {
        rv_past_free(p);
        return e;
    }
    *used = need;
    *out = p;
    return RV_OK;
}
