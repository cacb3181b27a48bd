/* The static embedder: word pieces and vectors that can be worked out by hand, refusals that name what is wrong, any bytes. */
#include "embed/embed.h"
#include "embed/embed_priv.h"
#include "embed_static_make.h"
#include "test.h"

#include "base/clock.h"

#include <math.h>

static rv_static *made(void)
{
    static rv_static *s;
    if (!s) {
        made_file f = make_file();
        const char *path = write_file(f.at, f.n);
        CHECK_OK(rv_static_open(&rv_heap, path, &s));
        unlink(path); /* mapped all the same */
    }
    return s;
}

typedef struct ids {
    uint32_t at[64];
    size_t n;
} ids;

static void take(void *self, uint32_t token)
{
    ids *out = self;
    if (out->n < RV_COUNT(out->at)) {
        out->at[out->n++] = token;
    }
}

static void check_pieces(const char *text, size_t n_text, const uint32_t *expected, size_t n)
{
    ids got = { .n = 0 };
    rv_static_tokens(made(), text, n_text, take, &got);
    CHECK(got.n == n, "\"%s\": %zu pieces, expected %zu", text, got.n, n);
    for (size_t i = 0; i < n; i++) {
        CHECK(got.at[i] == expected[i], "\"%s\": piece %zu is %u, expected %u", text, i, got.at[i],
              expected[i]);
    }
}

#define PIECES(text, ...)                                                                                    \
    check_pieces(text, sizeof(text) - 1, (uint32_t[]){ __VA_ARGS__ },                                        \
                 sizeof((uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

TEST(words_are_cut_into_the_longest_pieces)
{
    PIECES("the cats", 1, 2, 3);
    PIECES("unbelievable", 0); /* unbe is longer than un, and nothing goes on after it: as BERT does it */
    PIECES("cat,the", 2, 7, 1);
    PIECES("unable a", 4, 6, 9);
    PIECES("catdog the", 0, 1); /* no piece for dog: the whole word is unknown */
    PIECES("s", 0);             /* ##s begins no word */
    check_pieces("", 0, NULL, 0);
    check_pieces(" \n\t ", 4, NULL, 0);
}

TEST(case_accents_and_control_characters_do_not_count)
{
    PIECES("THE C\xc3\x81T", 1, 2);
    PIECES("ca\xcc\x81t", 2); /* the accent stands by itself */
    PIECES("c\xc2\xad"
           "at\x01s",
           2, 3); /* soft hyphen */
    PIECES("a\xe4\xb8\xad"
           "a",
           9, 10, 9);                   /* Chinese */
    PIECES("cat\xe2\x80\x83the", 2, 1); /* a wide space */
    PIECES("the\xff"
           "cat",
           1, 2); /* not UTF-8 */
}

TEST(a_word_of_101_characters_is_unknown)
{
    char word[101];
    memset(word, 'a', sizeof word);
    ids got = { .n = 0 };
    rv_static_tokens(made(), word, sizeof word, take, &got);
    CHECK(got.n == 1 && got.at[0] == 0, "%zu pieces, first %u", got.n, got.at[0]);
}

TEST(a_vector_is_the_weighted_sum_of_rows_at_length_1)
{
    float v[MADE_DIM];
    rv_static_text(made(), "the cats", 8, v);
    double length = 0, sum[MADE_DIM];
    for (size_t i = 0; i < MADE_DIM; i++) {
        sum[i] = 0.5 * ((10 + (double)i) + (20 + (double)i) + (30 + (double)i));
        length += sum[i] * sum[i];
    }
    for (size_t i = 0; i < MADE_DIM; i++) {
        double err = fabs((double)v[i] - sum[i] / sqrt(length));
        CHECK(err <= 1e-7, "component %zu: %g, off by %g", i, (double)v[i], err);
    }
    rv_static_text(made(), "dog", 3, v);
    for (size_t i = 0; i < MADE_DIM; i++) {
        CHECK(v[i] == 0, "an unknown word has no direction, component %zu is %g", i, (double)v[i]);
    }
}

static void check_refused(const made_file *f, rv_err code, const char *word)
{
    rv_static *s = NULL;
    const char *path = write_file(f->at, f->n);
    CHECK_ERR(rv_static_open(&rv_heap, path, &s), code);
    CHECK(!s && strstr(rv_err_text(), word) && strstr(rv_err_text(), path), "expected \"%s\" in: %s", word,
          rv_err_text());
    unlink(path);
}

TEST(a_wrong_file_is_refused_by_the_name_of_what_is_wrong)
{
    const made_file good = make_file();
    static const struct {
        size_t at, bytes;
        uint64_t value;
        const char *word;
    } wrong[] = {
        { 0, 1, 'X', "not an embedder file" },
        { 8, 4, 2, "version 2" },
        { 12, 4, 64, "header of 64" },
        { 16, 4, 5, "dimension 5" },
        { 16, 4, 0, "dimension 0" },
        { 16, 4, 4097, "dimension 4097" },
        { 20, 4, 13, "vocabulary" },
        { 20, 4, 0, "vocabulary" },
        { 20, 4, UINT32_MAX, "vocabulary" },
        { 24, 8, 3, "vocabulary" },
        { 24, 8, UINT64_MAX, "vocabulary" },
        { 32, 8, 128, "licence" },
        { 40, 8, UINT64_MAX, "licence" },
        { 40, 8, 3, "bytes" },
        { 48, 4, 12, "unknown token" },
        { 56, 1, 'M', "name" },
        { 56, 1, 0, "name" },
        { 128, 4, 1, "vocabulary" },
        { 128 + 4, 4, 0, "token 0" },
        { 128 + 4 * 3, 4, 1, "token 2" },
    };
    for (size_t i = 0; i < RV_COUNT(wrong); i++) {
        made_file f = good;
        put_le(f.at + wrong[i].at, wrong[i].value, wrong[i].bytes);
        seal(&f);
        check_refused(&f, RV_E_FORMAT, wrong[i].word);
    }
    made_file f = good;
    f.at[made_rows_at() - 64 + 6] = 0xc0; /* the scale of token 1 */
    f.at[made_rows_at() - 64 + 7] = 0xff;
    seal(&f);
    check_refused(&f, RV_E_FORMAT, "scale of token 1");
    f = good;
    size_t words = 128 + 4 * (MADE_TOKENS + 1);
    f.at[words + 5] = 'c'; /* the -> cat */
    f.at[words + 6] = 'a';
    f.at[words + 7] = 't';
    seal(&f);
    check_refused(&f, RV_E_FORMAT, "tokens 1 and 2");
}

TEST(every_changed_byte_and_every_length_is_noticed)
{
    const made_file good = make_file();
    for (size_t i = 0; i < good.n; i++) {
        made_file f = good;
        f.at[i] ^= 0x10;
        rv_static *s = NULL;
        rv_err e = rv_static_open(&rv_heap, write_file(f.at, f.n), &s);
        CHECK((e == RV_E_CORRUPT || e == RV_E_FORMAT) && !s, "byte %zu changed: %s", i, rv_err_name(e));
        CHECK_ERR(rv_static_open(&rv_heap, write_file(good.at, i), &s), RV_E_FORMAT);
    }
    unlink(write_file(good.at, 1));
    made_file f = good;
    f.at[made_rows_at()] ^= 1;
    check_refused(&f, RV_E_CORRUPT, "checksum");
}

TEST(an_embedder_file_is_opened_by_its_path_and_named_by_itself)
{
    made_file f = make_file();
    const char *path = write_file(f.at, f.n);
    rv_embed *embed = NULL;
    CHECK_OK(rv_embed_open(&rv_heap, path, &embed));
    CHECK(strcmp(rv_embed_name(embed), "made-4") == 0 && rv_embed_dim(embed) == MADE_DIM, "%s %zu",
          rv_embed_name(embed), rv_embed_dim(embed));
    float a[MADE_DIM], b[MADE_DIM];
    CHECK_OK(rv_embed_text(embed, "a cat", 5, a));
    rv_static_text(made(), "a cat", 5, b);
    CHECK(memcmp(a, b, sizeof a) == 0, "%g %g", (double)a[0], (double)b[0]);
    CHECK(rv_embed_tokens(embed, "unable a", 8) == 3 && rv_embed_tokens(embed, "", 0) == 0, "%zu",
          rv_embed_tokens(embed, "unable a", 8));
    rv_embed_close(embed);
    unlink(path);
    CHECK_ERR(rv_embed_open(&rv_heap, path, &embed), RV_E_NOT_FOUND);
    CHECK_ERR(rv_embed_open(&rv_heap, "none.rvemb", &embed), RV_E_NOT_FOUND);
}

TEST(any_bytes_give_a_vector_of_length_1_or_0)
{
    rv_rng rng;
    rv_rng_init(&rng, 7);
    for (size_t round = 0; round < 2000; round++) {
        char text[200];
        size_t n = (size_t)(rv_rng_next(&rng) % sizeof text);
        for (size_t i = 0; i < n; i++) {
            uint64_t dice = rv_rng_next(&rng);
            text[i] = dice % 3 ? "thecatsunbelievable, "[dice / 3 % 21] : (char)(dice >> 8);
        }
        float v[MADE_DIM];
        rv_static_text(made(), text, n, v);
        double length = 0;
        for (size_t i = 0; i < MADE_DIM; i++) {
            length += (double)v[i] * (double)v[i];
        }
        CHECK(length == 0 || fabs(length - 1) <= 1e-6, "round %zu: length %g", round, length);
    }
}
