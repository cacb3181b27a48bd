/* Packed weights kept in a file: what is found there is what was put there, or it is made again. */
#include "base/file.h"
#include "base/rng.h"
#include "model/lfm2.h"
#include "model/packed.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BYTES = (5 << 19) + 77, FINGERPRINT = 4711 }; /* two blocks and a half */

static void make(const char *path, rv_pool *pool)
{
    rv_packed p = { 0 };
    bool again = rv_file_exists(path);
    CHECK_OK(rv_packed_begin(path, BYTES, &p));
    CHECK((uintptr_t)p.weights % 4096 == 0 && p.bytes == BYTES, "where");
    for (size_t i = 0; i < BYTES; i++) {
        p.weights[i] = (uint8_t)(i * 7 + i / 256);
    }
    CHECK(again == rv_file_exists(path), "there before it is whole");
    CHECK_OK(rv_packed_commit(&p, path, FINGERPRINT, pool));
    CHECK(p.weights[BYTES - 1] == (uint8_t)((BYTES - 1) * 7 + (BYTES - 1) / 256), "changed");
    rv_packed_close(&p);
}

TEST(what_was_made_is_found_with_any_number_of_threads)
{
    char *path = strdup(temp_path("w.rvpack"));
    rv_pool *pool = NULL;
    rv_packed p = { 0 };
    CHECK_OK(rv_pool_new(&rv_heap, 3, &pool));
    CHECK_ERR(rv_packed_open(path, FINGERPRINT, BYTES, NULL, &p), RV_E_NOT_FOUND);
    for (int i = 0; i < 2; i++) {
        make(path, i ? pool : NULL);
        CHECK_OK(rv_packed_open(path, FINGERPRINT, BYTES, i ? NULL : pool, &p));
        for (size_t b = 0; b < BYTES; b++) {
            CHECK(p.weights[b] == (uint8_t)(b * 7 + b / 256), "byte %zu", b);
        }
        rv_packed_close(&p);
    }
    CHECK_ERR(rv_packed_open(path, FINGERPRINT + 1, BYTES, NULL, &p), RV_E_FORMAT);
    CHECK_ERR(rv_packed_open(path, FINGERPRINT, BYTES - 1, NULL, &p), RV_E_FORMAT);
    rv_pool_free(pool);
    free(path);
}

TEST(what_was_begun_and_not_finished_leaves_nothing)
{
    char *path = strdup(temp_path("w.rvpack"));
    rv_packed p = { 0 };
    CHECK_OK(rv_packed_begin(path, BYTES, &p));
    char *begun = strdup(p.temporary);
    CHECK(rv_file_exists(begun), "%s", begun);
    rv_packed_close(&p);
    CHECK(!rv_file_exists(begun) && !rv_file_exists(path), "%s is left", begun);
    CHECK_ERR(rv_packed_begin("/nowhere/w.rvpack", BYTES, &p), RV_E_IO);
    free(begun);
    free(path);
}

TEST(every_damaged_byte_and_every_cut_is_noticed)
{
    char *path = strdup(temp_path("w.rvpack")), *bytes = NULL;
    size_t n = 0;
    make(path, NULL);
    CHECK_OK(rv_file_read(&rv_heap, path, SIZE_MAX / 2, &bytes, &n));
    uint8_t *file = (uint8_t *)bytes;
    CHECK_OK(rv_packed_check(file, n, FINGERPRINT, BYTES, NULL));
    rv_rng rng;
    rv_rng_init(&rng, 3);
    size_t head = n - BYTES, used = 48 + 3 * 8; /* header and checksums; zeros up to the weights */
    for (size_t i = 0; i < used + 300; i++) {
        size_t at = i < used ? i : head + rv_rng_below(&rng, BYTES);
        uint8_t bit = (uint8_t)(1u << rv_rng_below(&rng, 8));
        file[at] ^= bit;
        CHECK(rv_packed_check(file, n, FINGERPRINT, BYTES, NULL), "byte %zu, bit %u", at, bit);
        file[at] ^= bit;
    }
    for (size_t i = 0; i < 200; i++) {
        size_t cut = i < 100 ? i : rv_rng_below(&rng, n);
        CHECK(rv_packed_check(file, cut, FINGERPRINT, BYTES, NULL), "cut to %zu", cut);
    }
    CHECK_OK(rv_packed_check(file, n, FINGERPRINT, BYTES, NULL));
    free(bytes);
    free(path);
}

/* Logits of a few tokens; packed: in a file. */
static void run(const rv_lfm2_file *file, const char *packed, float *logits)
{
    static const int32_t ids[] = { 1, 17, 300, 5 };
    rv_lfm2 *m = NULL;
    rv_budget *budget = NULL;
    rv_kv *kv = NULL;
    rv_kv_seq *seq = NULL;
    rv_lfm2_options how = { .packed_file = packed };
    rv_kv_shape shape = rv_lfm2_kv_shape(file, RV_F16);
    CHECK_OK(rv_lfm2_open(&rv_heap, file, how, &m));
    CHECK_OK(rv_budget_new(&rv_heap, 1 << 24, &budget));
    CHECK_OK(rv_kv_new(&rv_heap, &shape, budget, &kv));
    CHECK_OK(rv_kv_seq_new(kv, 16, &seq));
    rv_lfm2_segment g = { .seq = seq, .ids = ids, .n = 4, .logits_from = 3, .logits = logits };
    CHECK_OK(rv_lfm2_run(m, &g, 1));
    rv_kv_seq_free(seq);
    rv_kv_free(kv);
    rv_budget_free(budget);
    rv_lfm2_close(m);
}

TEST(a_model_says_the_same_from_memory_from_the_file_and_after_damage)
{
    rv_lfm2_file *file = NULL;
    CHECK_OK(rv_lfm2_file_open(&rv_heap, source_path("tests/data/golden/a-q8_0.gguf"), false, &file));
    size_t v = file->shape.n_vocab;
    float *want = calloc(v, sizeof *want), *got = calloc(v, sizeof *got);
    CHECK(want && got, "memory");
    char *path = strdup(temp_path("m.rvpack"));
    run(file, NULL, want);
    bool packs = rv_kernels_best()->pack != NULL;
    for (int i = 0; i < 5; i++) { /* made, found, damaged and made again, found, another's and made again */
        if (i == 2 && packs) {
            FILE *f = fopen(path, "r+b");
            CHECK(f && fseek(f, -1000, SEEK_END) == 0 && fputc('x', f) == 'x' && fputc('y', f) == 'y',
                  "damaging");
            fclose(f);
        }
        if (i == 4 && packs) {
            unlink(path);
            make(path, NULL);
        }
        memset(got, 0, v * sizeof *got);
        run(file, path, got);
        CHECK(memcmp(got, want, v * sizeof *got) == 0, "round %d", i);
        CHECK(rv_file_exists(path) == packs, "round %d: the file", i);
    }
    run(file, "/nowhere/m.rvpack", got);
    CHECK(memcmp(got, want, v * sizeof *got) == 0, "where no file can be made");
    rv_lfm2_options none = { .no_packing = true };
    rv_lfm2 *m = NULL;
    CHECK_OK(rv_lfm2_open(&rv_heap, file, none, &m));
    CHECK(rv_lfm2_resident_bytes(m) >= file->shape.weight_bytes, "resident");
    rv_lfm2_close(m);
    free(path);
    free(got);
    free(want);
    rv_lfm2_file_close(file);
}
