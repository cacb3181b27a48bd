/* For tests of memory/: an embedder of its own (memory stands below embed) and a store that opens and closes in one call. */
#ifndef RV_TESTS_MEMORY_HELPERS_H
#define RV_TESTS_MEMORY_HELPERS_H
#include "base/rng.h"
#include "memory/memory.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TOY_DIM = 64 };

/* Words hashed to places: texts that share words are near. */
static inline rv_err toy_text(const void *self, const char *text, size_t n, float *out)
{
    (void)self;
    memset(out, 0, TOY_DIM * sizeof *out);
    for (size_t i = 0; i < n;) {
        size_t from = i;
        while (i < n && ((text[i] | 32) >= 'a' && (text[i] | 32) <= 'z')) {
            i++;
        }
        if (i == from) {
            i++;
            continue;
        }
        char word[32] = { 0 };
        for (size_t k = 0; k < i - from && k < sizeof word; k++) {
            word[k] = (char)(text[from + k] | 32);
        }
        uint64_t h = rv_hash64(word, sizeof word, 0);
        out[h % TOY_DIM] += h >> 63 ? 1.0f : -1.0f;
    }
    double length = 0;
    for (size_t i = 0; i < TOY_DIM; i++) {
        length += (double)out[i] * out[i];
    }
    for (size_t i = 0; length > 0 && i < TOY_DIM; i++) {
        out[i] = (float)(out[i] / sqrt(length));
    }
    return RV_OK;
}

static const rv_memory_embedder toy = { .name = "toy", .dim = TOY_DIM, .text = toy_text };

typedef struct store {
    rv_db *db;
    rv_memory *m;
} store;

static inline rv_err store_open_with(const rv_alloc *mem, const char *dir, rv_memory_embedder embedder,
                                     store *s)
{
    *s = (store){ 0 };
    RV_TRY(rv_db_open(mem, dir, &s->db));
    rv_err e = rv_memory_open(mem, s->db, dir, embedder, &s->m);
    if (e) {
        rv_db_close(s->db);
        *s = (store){ 0 };
    }
    return e;
}

static inline store store_open(const char *dir)
{
    store s;
    CHECK_OK(store_open_with(&rv_heap, dir, toy, &s));
    return s;
}

static inline void store_close(store *s)
{
    rv_memory_close(s->m);
    rv_db_close(s->db);
    *s = (store){ 0 };
}

static inline int64_t add_note(rv_memory *m, const char *text)
{
    int64_t id = 0;
    bool added = false;
    CHECK_OK(rv_memory_add(m, rv_memory_of(NULL),
                           &(rv_memory_new){ .type = "note", .text = text, .source = "user" }, &id, &added));
    return id;
}
#endif
