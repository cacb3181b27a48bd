/* A small embedder file, written from docs/formats/embedder.md, for the tests to bend. */
#ifndef RV_TEST_EMBED_STATIC_MAKE_H
#define RV_TEST_EMBED_STATIC_MAKE_H
#include "base/rng.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MADE_DIM = 4, MADE_TOKENS = 12, MADE_MAX = 2048 };
static const char *const made_tokens[MADE_TOKENS] = { "[UNK]", "the",      "cat",          "##s",
                                                      "un",    "##believ", "##able",       ",",
                                                      "be",    "a",        "\xe4\xb8\xad", "unbe" };

typedef struct made_file {
    uint8_t at[MADE_MAX];
    size_t n;
} made_file;

static inline void put_le(uint8_t *at, uint64_t x, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(x >> 8 * i);
    }
}

static inline void seal(made_file *f)
{
    put_le(f->at + f->n - 8, rv_hash64(f->at, f->n - 8, 0), 8);
}

static inline size_t made_rows_at(void)
{
    size_t words = 0;
    for (size_t t = 0; t < MADE_TOKENS; t++) {
        words += strlen(made_tokens[t]);
    }
    size_t scales = (128 + 4 * (MADE_TOKENS + 1) + words + 63) / 64 * 64;
    return (scales + 4 * MADE_TOKENS + 63) / 64 * 64;
}

/* Token t has 10 * t + i in component i, and the scale 0.5; the unknown token has the scale 0. */
static inline made_file make_file(void)
{
    made_file f = { .at = { 'R', 'V', 'E', 'M', 'B', '\r', '\n', 0x1a } };
    size_t words = 0, words_at = 128 + 4 * (MADE_TOKENS + 1);
    for (size_t t = 0; t < MADE_TOKENS; t++) {
        size_t n = strlen(made_tokens[t]);
        memcpy(f.at + words_at + words, made_tokens[t], n);
        words += n;
        put_le(f.at + 128 + 4 * (t + 1), words, 4);
    }
    size_t scales_at = (words_at + words + 63) / 64 * 64, rows_at = made_rows_at();
    for (size_t t = 0; t < MADE_TOKENS; t++) {
        put_le(f.at + scales_at + 4 * t, t ? 0x3f000000 : 0, 4); /* 0.5f */
        for (size_t i = 0; i < MADE_DIM; i++) {
            f.at[rows_at + t * MADE_DIM + i] = (uint8_t)(10 * t + i);
        }
    }
    static const char licence[] = "made for a test";
    size_t licence_at = rows_at + MADE_TOKENS * MADE_DIM;
    memcpy(f.at + licence_at, licence, sizeof licence - 1);
    put_le(f.at + 8, 1, 4);
    put_le(f.at + 12, 128, 4);
    put_le(f.at + 16, MADE_DIM, 4);
    put_le(f.at + 20, MADE_TOKENS, 4);
    put_le(f.at + 24, words, 8);
    put_le(f.at + 32, licence_at, 8);
    put_le(f.at + 40, sizeof licence - 1, 8);
    memcpy(f.at + 56, "made-4", 6);
    f.n = licence_at + sizeof licence - 1 + 8;
    assert(f.n <= MADE_MAX);
    seal(&f);
    return f;
}

/* Into a file of this process; its path. */
static inline const char *write_file(const uint8_t *at, size_t n)
{
    static char path[64];
    if (!path[0]) {
        snprintf(path, sizeof path, "/tmp/ruvllm-embed-%ld.rvemb", (long)getpid());
    }
    FILE *out = fopen(path, "wb");
    size_t wrote = out ? fwrite(at, 1, n, out) : 0;
    if (!out || fclose(out) != 0 || wrote != n) {
        abort();
    }
    return path;
}
#endif
