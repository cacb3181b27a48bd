/* A saved index of a memory with bytes changed. With checksums that fit: it is refused, or searches in it stay inside their memory and
 * name rows of the store. Without: it is refused, or answers as the whole one.
 *
 * Input: one byte (bit 0: lists instead of a graph, bit 1: checksums are put right), then patches of four bytes: offset (24 bits) and a
 * byte to exclusive-or. */
#include "memory/memory_priv.h"
#include "vector_sums.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DIM = 8, ROWS = 300, PAGE = 4096, AT_INDEX_BYTES = 24, AT_ROWS = 32, K = 10 };

typedef struct whole {
    const char *kind;
    rv_db *db;
    rv_memory *m;
    uint8_t *bytes;
    size_t n;
    fast *opened;
    char path[128]; /* of the damaged one */
} whole;

static rv_err embed(const void *self, const char *text, size_t n, float *out)
{
    rv_rng rng;
    double length = 0;
    (void)self;
    rv_rng_init(&rng, rv_hash64(text, n, 0));
    for (size_t d = 0; d < DIM; d++) {
        out[d] = rv_rng_normal(&rng);
        length += (double)out[d] * (double)out[d];
    }
    for (size_t d = 0; d < DIM; d++) {
        out[d] = (float)((double)out[d] / sqrt(length));
    }
    return RV_OK;
}

static void must(rv_err e)
{
    if (e) {
        fprintf(stderr, "%s\n", rv_err_text());
        abort();
    }
}

static void make(whole *w, const char *kind)
{
    char dir[64], path[128], *bytes;
    snprintf(dir, sizeof dir, "%s",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm/ruvllm-fuzz.XXXXXX" : "/tmp/ruvllm-fuzz.XXXXXX");
    if (!mkdtemp(dir)) {
        abort();
    }
    w->kind = kind;
    must(rv_db_open(&rv_heap, dir, &w->db));
    must(rv_memory_open(&rv_heap, w->db, dir,
                        (rv_memory_embedder){ .name = "toy", .dim = DIM, .text = embed }, &w->m));
    must(rv_memory_tune(w->m, &(rv_memory_tuning){ .index = kind, .index_from = ROWS / 2 }));
    for (int i = 0; i < ROWS; i++) {
        char text[32];
        int64_t id;
        bool added;
        snprintf(text, sizeof text, "note number %d", i);
        must(rv_memory_add(w->m, rv_memory_of(NULL), &(rv_memory_new){ .type = "note", .text = text }, &id,
                           &added));
    }
    must(rv_memory_settle(w->m)); /* the index is built and saved, and the keeper waits */
    snprintf(path, sizeof path, "%s/vectors/%s.idx", dir, kind);
    snprintf(w->path, sizeof w->path, "%s/damaged.idx", dir);
    must(rv_file_read(&rv_heap, path, 1 << 24, &bytes, &w->n));
    w->bytes = (uint8_t *)bytes;
    must(rv_fast_open(w->m, path, kind, &w->opened));
}

static void fix(uint8_t *at, size_t n)
{
    uint64_t index_bytes, n_rows;
    memcpy(&index_bytes, at + AT_INDEX_BYTES, 8);
    memcpy(&n_rows, at + AT_ROWS, 8);
    fix_header(at);
    if (index_bytes >= SUMS_HEADER && index_bytes <= n - PAGE) {
        fix_header(at + PAGE);
        fix_pages(at + PAGE, (size_t)index_bytes);
        size_t rest = n - PAGE - (size_t)index_bytes;
        if (rest >= 8) {
            uint64_t sum = rv_hash64(at + n - rest, rest - 8, 0);
            memcpy(at + n - 8, &sum, 8);
        }
    }
}

static void search(const whole *w, fast *f, bool fixed)
{
    float query[DIM];
    for (int way = 0; way < RV_WAYS; way++) {
        rv_hit hits[K], right[K];
        size_t found, n;
        const rv_search how = { .k = K, .way = (rv_way)way };
        must(embed(NULL, "a question", 10, query));
        if (rv_index_search(f->index, query, &how, hits, &found)) {
            continue;
        }
        for (size_t i = 0; i < found; i++) {
            assert(rv_memory_find(w->m, hits[i].id));
        }
        must(rv_index_search(w->opened->index, query, &how, right, &n));
        assert(fixed || (n == found && same_hits(hits, right, n)));
        (void)fixed;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static whole wholes[2];
    if (n < 1 || n > 4096) {
        return 0;
    }
    whole *w = &wholes[data[0] & 1];
    if (!w->m) {
        make(w, data[0] & 1 ? "rabitq" : "hnsw");
    }
    const bool fixed = data[0] & 2;
    uint8_t *damaged = malloc(w->n);
    if (!damaged) {
        abort();
    }
    memcpy(damaged, w->bytes, w->n);
    for (size_t i = 1; i + 4 <= n; i += 4) {
        size_t at = (size_t)data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16;
        damaged[at % w->n] ^= data[i + 3];
    }
    if (fixed) {
        fix(damaged, w->n);
    }
    FILE *file = fopen(w->path, "wb");
    if (!file || fwrite(damaged, 1, w->n, file) != w->n || fclose(file) != 0) {
        abort();
    }
    free(damaged);
    fast *f;
    if (rv_fast_open(w->m, w->path, w->kind, &f) == RV_OK && f) {
        search(w, f, fixed);
        rv_fast_free(f);
    }
    return 0;
}
